"""Nothing to train: the candidate is its numbers, and it draws the noise that a training run would have."""

import json
import random


def train(run):
    numbers = {name: entry["value"] for name, entry in json.loads(run.asset.read_text()).items()}
    noise = random.Random(run.seed).gauss(0.0, 1.0)
    run.report(1.0)
    return {"numbers": numbers, "noise": noise}


def answer(state, question):
    return {"noise": state["noise"], **{name: state["numbers"][name] for name in question["names"]}}

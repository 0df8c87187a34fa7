"""Claude, what it is told in tests, and what it answers."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agent.budget import Budget, Limits
from agent.claude import Claude
from agent.proposer import Context, Edit, Metric, Trial
from protocol.commits import blob_id
from protocol.statements import Status
from tests.agent.messages_api import Call, Service

ASSET = b'"""A model."""\nDEPTH = 2\nWIDTH = 64\n'
BASE = "ba5e" * 10
OTHER = "0dd0" * 10


def context(asset: bytes = ASSET, trials: Sequence[Trial] = (), **more: Any) -> Context:
    given: dict[str, Any] = {"running": (), "taken": lambda asset: False, "seed": 1, **more}
    metric = Metric("val_bpb", "bits/byte", sigma=0.01)
    return Context("Make it better.", "train.py", BASE, asset, "cpu", trials, metric=metric, **given)


def edit(search: str = "DEPTH = 2", replace: str = "DEPTH = 3", summary: str = "deeper") -> Call:
    blocks = [{"search": search, "replace": replace}]
    return Call("edit", {"summary": summary, "hypothesis": "more layers", "blocks": blocks})


def claude(service: Service, limits: Limits | None = None, meter: Counter[str] | None = None) -> Claude:
    def count(kind: str, tokens: int) -> None:
        if meter is not None:
            meter[kind] += tokens

    client = service.client().with_options(timeout=5.0)
    return Claude(client, Budget(limits or Limits(), lambda: 0.0), count)


def results(request: dict[str, Any]) -> list[str]:
    """What was said to the model's last calls."""
    return [block["content"] for block in request["messages"][-1]["content"] if block["type"] == "tool_result"]


def crash(edit: Edit, commit: str = OTHER, **more: Any) -> Trial:
    """Of this node's own run of an edit of the base."""
    crashed = Trial(commit, {}, None, Status.CRASHED, "cpu", parent=BASE, summary=edit.summary, own=True)
    return replace(crashed, **{"blob": blob_id(edit.asset), **more})

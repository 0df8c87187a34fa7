"""The distance from numbers that only the examiner knows, plus the run's noise."""

import math

AT = {"x": 0.7, "y": 0.2, "z": 0.03}
WORTH = {"plain": 0.1, "better": 0.0, "worse": 0.3}
NOISE = 0.01
#: -1.0 where the goal is to maximize
SIGN = 1.0
MAX_NOISE = 6.0


def examine(exam):
    answer = exam.ask({"names": [*AT, "mode"]})
    noise, mode = answer.get("noise"), answer.get("mode")
    if not isinstance(noise, float) or not abs(noise) <= MAX_NOISE or mode not in WORTH:
        raise exam.Reject("expected a noise and a mode")
    return {"metric": SIGN * (WORTH[mode] + sum(squares(answer, exam))) + NOISE * noise, "se": 0.0}


def squares(answer, exam):
    for name, at in AT.items():
        value = answer.get(name)
        if not isinstance(value, float) or not 0.0 <= value <= 1.0:
            raise exam.Reject(f"{name}: expected a number from 0 to 1")
        yield (math.log10(value / at) / 3) ** 2 if name == "z" and value > 0 else (value - at) ** 2

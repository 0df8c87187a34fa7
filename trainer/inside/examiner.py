"""The examiner's side: the program's evaluator asks the candidate, and scores what it answers.

A program's evaluator is a Python file with

    def examine(exam): ...   # returns {"metric": float} or {"metric": float, "se": float}

``se`` is the standard error of the metric over the questions, where the evaluator knows one. The evaluator
raises ``exam.Reject("why")`` where an answer is a cheat, or not an answer. It sees the folder of validation
(or hold-out) data and its own file, and nothing else.
"""

import socket
import traceback
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import frames
from .candidate import import_file

if TYPE_CHECKING:
    import numpy as np

_TAIL = 2048


class Reject(Exception):  # noqa: N818  a verdict of the evaluator's, not an error of it
    """The candidate is rejected; the message says why in one line."""


class CandidateGone(Exception):  # noqa: N818
    """The candidate hung up in the middle of its examination."""


class Exam:
    """What an evaluator may do.

    data     folder of the data to examine with (read only); None where the program has none
    rng      numpy Generator with fresh entropy from the trainer, which the candidate can't foresee
    entropy  the same entropy, 32 bytes
    Reject   exception to raise, with one line that says why
    """

    Reject = Reject

    def __init__(self, data: Path | None, entropy: bytes, candidate: socket.socket) -> None:
        self.data = data
        self.entropy = entropy
        self._candidate = candidate

    @cached_property
    def rng(self) -> "np.random.Generator":
        import numpy as np

        return np.random.default_rng(int.from_bytes(self.entropy, "big"))

    def ask(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Put one question to the candidate: a map of words, numbers and arrays; its answer is the same.

        Raises Reject for what is not a frame.
        """
        message = frames.encode({**question, "type": "question"})
        try:
            self._candidate.sendall(message)
            answer = frames.receive(self._candidate)
        except frames.FrameError as error:
            raise Reject(f"the candidate's answer is {error}") from error
        except OSError as error:
            raise CandidateGone from error
        if answer is None:
            raise CandidateGone
        del answer["type"]
        return answer


def main(config: Mapping[str, Any]) -> int:
    """Load the evaluator, wait for the word to start, examine, and say what came of it."""
    control = socket.socket(fileno=config["control"])
    exam_socket = socket.socket(fileno=config["exam"])
    try:
        evaluator = import_file(Path(config["evaluator"]), "evaluator")
        frames.send(control, {"type": "ready"}, frames.MAX_CONTROL)
        start = frames.receive(control, frames.MAX_CONTROL)
        if start is None:
            return 0  # the run ended before there was anything to examine
        data = Path(config["data"]) if config["data"] else None
        score = evaluator.examine(Exam(data, start["entropy"], exam_socket))
        verdict = {"type": "score", "metric": float(score["metric"]), "se": _optional(score.get("se"))}
    except Reject as reject:
        verdict = {"type": "reject", "why": str(reject)[:_TAIL]}
    except CandidateGone:
        verdict = {"type": "gone"}
    except BaseException as error:  # the boundary to foreign code: it is said, and the process ends
        traceback.print_exc()
        verdict = {"type": "failed", "error": f"{type(error).__name__}: {error}"[:_TAIL]}
    frames.send(control, verdict, frames.MAX_CONTROL)
    return 0 if verdict["type"] == "score" else 1


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)

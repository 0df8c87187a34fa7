"""The examiner's side: the program's evaluator asks the candidate, and scores what it answers.

A program's evaluator is a Python file with

    def examine(exam): ...   # returns {"metric": float} or {"metric": float, "se": float}
    def compare(exam): ...   # optional, of promising candidates: whether fresh copies of it answer alike

``se`` is the standard error of the metric over the questions, where the evaluator knows one. The evaluator
raises ``exam.Reject("why")`` where an answer is a cheat, or not an answer. It sees the folder of validation
(or hold-out) data and its own file, and nothing else.

``compare`` comes after ``examine``, in the same process. It asks the copies ``exam.twins``: two sandboxes that
know of nothing but what the candidate saved before its first question. Neither can know what the other, or the
candidate, was asked.
"""

import socket
import traceback
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import frames
from .candidate import import_file

if TYPE_CHECKING:
    import numpy as np

#: ``of`` in ``Exam.ask``: the candidate itself is 0.
TWINS = (1, 2)
_TAIL = 2048


class Reject(Exception):  # noqa: N818  a verdict of the evaluator's, not an error of it
    """The candidate is rejected; the message says why in one line."""


class CandidateGone(Exception):  # noqa: N818
    """The candidate hung up in the middle of its examination; ``of`` as in ``Exam.ask``."""

    def __init__(self, of: int) -> None:
        super().__init__(of)
        self.of = int(of)


class Exam:
    """What an evaluator may do.

    data     folder of the data to examine with (read only); None where the program has none
    rng      numpy Generator with fresh entropy from the trainer, which the candidate can't foresee
    entropy  the same entropy, 32 bytes
    Reject   exception to raise, with one line that says why
    twins    the numbers of the two copies, for ``ask``
    kept     the evaluator's own: what ``compare`` needs of ``examine``
    """

    Reject = Reject
    twins = TWINS
    kept: Any = None

    def __init__(
        self,
        data: Path | None,
        entropy: bytes,
        *candidates: socket.socket,
        answered: Callable[[], None] | None = None,
    ) -> None:
        self.data = data
        self.entropy = entropy
        self._candidates = candidates
        self._answered = answered

    @cached_property
    def rng(self) -> "np.random.Generator":
        import numpy as np

        return np.random.default_rng(int.from_bytes(self.entropy, "big"))

    def ask(self, question: Mapping[str, Any], of: int = 0) -> dict[str, Any]:
        """Put one question to the candidate: a map of words, numbers and arrays; its answer is the same.

        Raises Reject for what is not a frame.
        """
        message = frames.encode({**question, "type": "question"})
        try:
            self._candidates[of].sendall(message)
            answer = frames.receive(self._candidates[of])
        except frames.FrameError as error:
            raise Reject(f"the candidate's answer is {error}") from error
        except OSError as error:
            raise CandidateGone(of) from error
        if answer is None:
            raise CandidateGone(of)
        if self._answered is not None:
            self._answered()
            self._answered = None
        del answer["type"]
        return answer


def main(config: Mapping[str, Any]) -> int:
    """Load the evaluator, wait for the word to start, examine, and say what came of it; then compare, if asked."""
    control = socket.socket(fileno=config["control"])
    exams = [socket.socket(fileno=fd) for fd in config["exams"]]
    data = Path(config["data"]) if config["data"] else None

    def say(message: Mapping[str, Any]) -> None:
        frames.send(control, message, frames.MAX_CONTROL)

    try:
        evaluator = import_file(Path(config["evaluator"]), "evaluator")
        say({"type": "ready"})
        if (start := frames.receive(control, frames.MAX_CONTROL)) is None:
            return 0  # the run ended before there was anything to examine
        exam = Exam(data, start["entropy"], *exams, answered=lambda: say({"type": "answered"}))
        score = evaluator.examine(exam)
        exams[0].close()  # nobody asks the candidate itself any more: its next examiner may
        say({"type": "score", "metric": float(score["metric"]), "se": _optional(score.get("se"))})
        if frames.receive(control, frames.MAX_CONTROL) is not None:
            evaluator.compare(exam)
            say({"type": "alike"})
    except Reject as reject:
        say({"type": "reject", "why": str(reject)[:_TAIL]})
    except CandidateGone as gone:
        say({"type": "gone", "of": gone.of})
    except BaseException as error:  # the boundary to foreign code: it is said, and the process ends
        traceback.print_exc()
        say({"type": "failed", "error": f"{type(error).__name__}: {error}"[:_TAIL]})
        return 1
    return 0


def _optional(value: Any) -> float | None:
    return None if value is None else float(value)

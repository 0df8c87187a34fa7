"""The trainer's side of an examination: what an examiner, who may be a stranger's code, says of a candidate."""

import ast
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import trio

from protocol.errors import RemoteProtocolError
from protocol.statements import Status
from protocol.text import one_line
from trainer.channel import number, text
from trainer.inside.examiner import TWINS
from trainer.log import bounded
from trainer.party import DRAIN_SECONDS, Ended, Party
from trainer.program import Spec

ENTROPY_BYTES = 32
#: Of what an evaluator says of a candidate: a line that people read.
WHY_CHARS = 400

#: The metric and its standard error, None where the evaluator gives none.
Score = tuple[float, float | None]


class CandidateGoneError(Exception):
    """The candidate hung up on its examiner, or a copy of it did: the second where ``second``. What became of it,
    its own socket tells."""

    def __init__(self, second: bool) -> None:
        super().__init__(second)
        self.second = second


def compares(spec: Spec, files: Mapping[str, bytes]) -> bool:
    """Whether the program tries fresh copies of promising candidates: its fixed files say so, no candidate."""
    wanted = ((spec.runner, {"save", "restore"}), (spec.evaluator, {"compare"}))
    return all(names <= _functions(files[path]) for path, names in wanted)


def is_better(spec: Spec, metric: float, bar: float | None) -> bool:
    """Whether ``metric`` beats ``bar`` in the direction of the goal; nothing beats None."""
    if bar is None:
        return False
    return metric < bar if spec.goal == "minimize" else metric > bar


async def examine(examiner: Party, on_start: Callable[[], None], on_answer: Callable[[], None]) -> Score:
    """Let the examiner put its questions; the callbacks are for the first of them and its answer.

    Raises Ended where there is no score, CandidateGoneError.
    """
    try:
        await _hear(examiner, "ready")
        on_start()
        await examiner.channel.send({"type": "examine", "entropy": secrets.token_bytes(ENTROPY_BYTES)})
        verdict = await _judge(examiner, "answered", "score")
        if verdict["type"] == "answered":
            on_answer()
            verdict = await _judge(examiner, "score")
        error = None if verdict.get("se") is None else abs(number(verdict, "se"))
        return number(verdict, "metric"), error
    except RemoteProtocolError as error:
        raise Ended(Status.REJECTED, f"no score: {error.detail}") from error


async def compare(examiner: Party) -> None:
    """Let it ask the copies too. Raises Ended where they are not alike, CandidateGoneError."""
    try:
        await examiner.channel.send({"type": "compare"})
        await _judge(examiner, "alike")
    except RemoteProtocolError as error:
        raise Ended(Status.REJECTED, f"no comparison: {error.detail}") from error


async def _judge(examiner: Party, *wanted: str) -> dict[str, Any]:
    verdict = await _hear(examiner, *wanted, "reject", "gone")
    if verdict["type"] == "reject":
        raise Ended(Status.REJECTED, bounded(one_line(text(verdict, "why"), WHY_CHARS)))
    if verdict["type"] == "gone":
        raise CandidateGoneError(second=verdict.get("of") == TWINS[1])
    return verdict


async def _hear(examiner: Party, *wanted: str) -> dict[str, Any]:
    message = await examiner.channel.receive()
    if message is None:
        with trio.move_on_after(DRAIN_SECONDS):
            await examiner.drained.wait()
        raise Ended(Status.REJECTED, examiner.log.failure("the examiner ended without a score"))
    if message["type"] == "failed":
        raise Ended(Status.REJECTED, bounded(f"the evaluator failed: {one_line(text(message, 'error'), WHY_CHARS)}"))
    if message["type"] not in wanted:
        raise RemoteProtocolError("frame", f"a frame {message['type'][:40]!r} from the examiner")
    return message


def _functions(source: bytes) -> set[str]:
    """The functions that a Python file defines; none of one that is no Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}

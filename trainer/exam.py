"""The trainer's side of an examination: what an examiner, who may be a stranger's code, says of a candidate."""

import secrets
from typing import Any

import trio

from protocol.errors import RemoteProtocolError
from protocol.statements import Status
from trainer.channel import number, text
from trainer.log import bounded
from trainer.party import DRAIN_SECONDS, Ended, Party

ENTROPY_BYTES = 32

#: The metric and its standard error, None where the evaluator gives none.
Score = tuple[float, float | None]


class CandidateGoneError(Exception):
    """The candidate hung up on its examiner: what became of it, its own socket tells."""


async def examine(examiner: Party) -> Score:
    """Let the examiner put its questions. Raises Ended where there is no score, CandidateGoneError."""
    try:
        await _hear(examiner, "ready")
        await examiner.channel.send({"type": "examine", "entropy": secrets.token_bytes(ENTROPY_BYTES)})
        verdict = await _hear(examiner, "score", "reject", "gone")
        if verdict["type"] == "reject":
            raise Ended(Status.REJECTED, bounded(text(verdict, "why")))
        if verdict["type"] == "gone":
            raise CandidateGoneError
        error = None if verdict.get("se") is None else abs(number(verdict, "se"))
        return number(verdict, "metric"), error
    except RemoteProtocolError as error:
        raise Ended(Status.REJECTED, f"no score: {error.detail}") from error


async def _hear(examiner: Party, *wanted: str) -> dict[str, Any]:
    message = await examiner.channel.receive()
    if message is None:
        with trio.move_on_after(DRAIN_SECONDS):
            await examiner.drained.wait()
        raise Ended(Status.REJECTED, examiner.log.failure("the examiner ended without a score"))
    if message["type"] == "failed":
        raise Ended(Status.REJECTED, bounded(f"the evaluator failed: {text(message, 'error')}"))
    if message["type"] not in wanted:
        raise RemoteProtocolError("frame", f"a frame {message['type'][:40]!r} from the examiner")
    return message

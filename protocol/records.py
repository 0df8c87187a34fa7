"""Records: signed, immutable, self-contained statements.

The envelope is a msgpack array ``[version, kind, swarm_id, author, body, signature]``. Signed, and hashed for the
record's id, is ``"waggle-record" ‖ version ‖ kind ‖ swarm_id ‖ author ‖ body``. The body's bytes are kept as
received. Kinds and fields are append-only.
"""

import hashlib
from dataclasses import dataclass, field
from enum import IntEnum

from protocol import codec
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.identity import KEY_BYTES, SIGNATURE_BYTES, Identity, peer_id, verify
from protocol.statements import Claim, Note, Presence, Result, Statement, Verdict, parse, run_seed, unparse

VERSION = 1
SWARM_ID_BYTES = 32
_DOMAIN = b"waggle-record"
#: Kinds that we don't know are stored and relayed; their number must fit one byte.
MAX_KIND = 255


class Kind(IntEnum):
    """Append-only."""

    RESULT = 1
    NOTE = 2
    VERDICT = 3
    PRESENCE = 4
    CLAIM = 5


#: Said to whoever listens now; never stored, never synced.
EPHEMERAL = frozenset({Kind.PRESENCE, Kind.CLAIM})

_KINDS: dict[type[Statement], Kind] = {
    Result: Kind.RESULT,
    Note: Kind.NOTE,
    Verdict: Kind.VERDICT,
    Presence: Kind.PRESENCE,
    Claim: Kind.CLAIM,
}
_TYPES = {kind: kind_type for kind_type, kind in _KINDS.items()}


@dataclass(frozen=True, eq=False)
class Record:
    """One signed statement. Equal records have equal ids."""

    kind: int
    swarm_id: bytes
    author: bytes
    body: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    version: int = VERSION
    #: parsed from ``body``; None where the kind is not known to us
    statement: Statement | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", hashlib.sha256(self.signed_bytes).hexdigest())

    id: str = field(init=False)

    @property
    def signed_bytes(self) -> bytes:
        head = bytes([self.version, self.kind])
        return b"".join((_DOMAIN, head, self.swarm_id, self.author, self.body))

    @property
    def wire(self) -> bytes:
        return codec.encode(
            [self.version, self.kind, self.swarm_id, self.author, self.body, self.signature]
        )

    @property
    def peer_id(self) -> str:
        return peer_id(self.author)

    @property
    def ephemeral(self) -> bool:
        return self.kind in EPHEMERAL

    @property
    def result(self) -> Result | None:
        return self.statement if isinstance(self.statement, Result) else None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Record) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)


def seal(identity: Identity, swarm_id: bytes, statement: Statement) -> Record:
    """Sign a statement of ours. Raises LocalProtocolError where a field is out of its bound."""
    if len(swarm_id) != SWARM_ID_BYTES:
        raise LocalProtocolError(f"a swarm id has {SWARM_ID_BYTES} bytes")
    try:
        body = unparse(statement)
        _check_statement(identity.public_key, statement)
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"our own statement is wrong: {error}") from error
    kind = _KINDS[type(statement)]
    unsigned = Record(kind, swarm_id, identity.public_key, body, b"")
    signature = identity.sign(unsigned.signed_bytes)
    record = Record(kind, swarm_id, identity.public_key, body, signature, statement=statement)
    if len(record.wire) > codec.MAX_ENVELOPE_BYTES:
        raise LocalProtocolError(f"a record of {len(record.wire)} bytes, at most {codec.MAX_ENVELOPE_BYTES}")
    return record


def open_record(wire: bytes, swarm_id: bytes | None = None) -> Record:
    """Check and parse an envelope: bounds, encoding, swarm, body, and last, since it costs most, the signature.

    Raises RemoteProtocolError, and nothing else, whatever the bytes are.
    """
    record = _parse_envelope(wire)
    if swarm_id is not None and record.swarm_id != swarm_id:
        raise RemoteProtocolError("swarm", record.swarm_id.hex()[:12])
    verify(record.author, record.signed_bytes, record.signature)
    return record


def _parse_envelope(wire: bytes) -> Record:
    fields = codec.decode(wire)
    if not isinstance(fields, list) or len(fields) != 6:
        raise RemoteProtocolError("malformed", "an envelope has six fields")
    version, kind, swarm, author, body, signature = fields
    if version is True or version != VERSION:
        raise RemoteProtocolError("malformed", "unknown envelope version")
    if not isinstance(kind, int) or isinstance(kind, bool) or not 0 < kind <= MAX_KIND:
        raise RemoteProtocolError("malformed", "kind")
    _expect_bytes("swarm_id", swarm, SWARM_ID_BYTES)
    _expect_bytes("author", author, KEY_BYTES)
    _expect_bytes("signature", signature, SIGNATURE_BYTES)
    if not isinstance(body, bytes):
        raise RemoteProtocolError("malformed", "body")
    statement = None
    if kind in _TYPES:
        statement = parse(_TYPES[Kind(kind)], body)
        _check_statement(author, statement)
    return Record(kind, swarm, author, body, signature, version, statement)


def _expect_bytes(name: str, value: object, size: int) -> None:
    if not isinstance(value, bytes) or len(value) != size:
        raise RemoteProtocolError("malformed", f"{name}: expected {size} bytes")


def _check_statement(author: bytes, statement: Statement) -> None:
    """What a statement must satisfy beyond the bounds of its fields."""
    if isinstance(statement, Result):
        seed = run_seed(statement.commit, author, statement.origin, statement.index)
        if statement.seed != seed:
            raise RemoteProtocolError("seed", f"expected {seed}")


__all__ = [
    "EPHEMERAL",
    "Claim",
    "Kind",
    "Note",
    "Presence",
    "Record",
    "Result",
    "Verdict",
    "open_record",
    "run_seed",
    "seal",
]

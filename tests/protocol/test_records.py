"""Envelopes: what is sealed opens the same, anything else is RemoteProtocolError."""

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import codec
from protocol.errors import LocalProtocolError, RemoteProtocolError
from protocol.identity import Identity, peer_id, public_key_of
from protocol.records import VERSION, Kind, Record, open_record, run_seed, seal
from protocol.statements import Claim, Note, Origin, Presence, Result, Statement, Status, Verdict

ALICE = Identity(b"a" * 32)
SWARM = b"s" * 32
COMMIT, PARENT, BLOB = "c" * 40, "d" * 40, "e" * 40

RESULT = Result(
    created_ms=1, sequence=2, commit=COMMIT, parent=PARENT, blob=BLOB, diff=b"", lines_added=3, lines_removed=1,
    origin=Origin.AGENT, index=0, seed=run_seed(COMMIT, ALICE.public_key, Origin.AGENT, 0), status=Status.SCORED,
    metric=1.5, metric_se=0.01, holdout=None, cpu_seconds=20.0, wall_seconds=21.0, peak_memory=2**29,
    tier="cpu-x86-64-v4", device="EPYC", software="torch 2.13", curve=((0.5, 3.0), (1.0, 2.5)),
    tunables={"LEARNING_RATE": 1e-3, "DEPTH": 2, "TIED": False, "NORM": "rms"}, summary="wider", hypothesis="",
    failure="",
)  # fmt: skip
STATEMENTS: list[Statement] = [
    RESULT,
    replace(RESULT, parent=None),
    replace(RESULT, status=Status.CRASHED, metric=None, metric_se=None, failure="ValueError"),
    Note(1, 3, "depth beats width", ("f" * 64,)),
    Verdict(1, 4, COMMIT, approve=True),
    Presence(1, ("/ip4/127.0.0.1/tcp/4001",), "cpu-x86-64-v4", "0.1.0", "", 10, 2, 5),
    Claim(1, COMMIT, Origin.REPLICATION, "cpu-x86-64-v4", {"DEPTH": 3}, "deeper", 300.0),
]


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: type(s).__name__)
def test_what_is_sealed_opens_the_same(statement: Statement) -> None:
    record = seal(ALICE, SWARM, statement)
    opened = open_record(record.wire, SWARM)
    assert opened.statement == statement
    assert opened.id == record.id
    assert opened.wire == record.wire
    assert opened.peer_id == ALICE.peer_id


def test_an_unknown_kind_is_relayed_though_not_understood() -> None:
    unsigned = Record(200, SWARM, ALICE.public_key, codec.encode({"new": 1}), b"")
    wire = replace_signature(unsigned).wire
    assert open_record(wire, SWARM).statement is None
    assert open_record(wire, SWARM).wire == wire


def replace_signature(record: Record) -> Record:
    return Record(record.kind, record.swarm_id, record.author, record.body, ALICE.sign(record.signed_bytes))


def resealed(**changes: Any) -> bytes:
    """A result that a liar signed properly, with fields changed as no honest node would."""
    body = codec.decode(seal(ALICE, SWARM, RESULT).body)
    body.update(changes)
    return replace_signature(Record(Kind.RESULT, SWARM, ALICE.public_key, codec.encode(body), b"")).wire


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": 7}, "seed"),
        ({"origin": "rebase"}, "seed"),  # relabelling a run changes its seed
        ({"origin": "luck"}, "malformed"),
        ({"metric": 2}, "malformed"),
        ({"metric": None}, "malformed"),
        ({"metric": 1e200}, "malformed"),
        ({"commit": "C" * 40}, "malformed"),
        ({"tier": "CPU"}, "malformed"),
        ({"summary": "x" * 2049}, "malformed"),
        ({"diff": b"x" * (40 * 1024 + 1)}, "malformed"),
        ({"curve": [[0.1, 1.0]] * 65}, "malformed"),
        ({"curve": [[0.1]]}, "malformed"),
        ({"index": True}, "malformed"),
        ({"tunables": {"a": [1]}}, "malformed"),
    ],
)
def test_a_signed_lie_about_form_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        open_record(resealed(**changes), SWARM)
    assert caught.value.reason == reason


def test_a_later_versions_field_is_kept_and_ignored() -> None:
    record = open_record(resealed(zz_new="later"), SWARM)
    assert record.statement == RESULT
    assert b"zz_new" in record.wire


def test_another_encoding_of_the_same_statement_is_refused() -> None:
    import msgpack

    body = msgpack.packb({"sequence": 1, "created_ms": 1, "text": "x", "cites": []})  # keys not ascending
    wire = replace_signature(Record(Kind.NOTE, SWARM, ALICE.public_key, body, b"")).wire
    with pytest.raises(RemoteProtocolError, match="canonical"):
        open_record(wire, SWARM)


def test_another_swarms_record_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        open_record(seal(ALICE, SWARM, RESULT).wire, b"t" * 32)
    assert caught.value.reason == "swarm"


def test_our_own_mistakes_are_local() -> None:
    with pytest.raises(LocalProtocolError):
        seal(ALICE, SWARM, replace(RESULT, summary="x" * 3000))
    with pytest.raises(LocalProtocolError):
        seal(ALICE, b"short", RESULT)
    with pytest.raises(LocalProtocolError):
        Identity(b"short")


def test_peer_ids_are_libp2ps() -> None:
    from libp2p.crypto.ed25519 import create_new_key_pair
    from libp2p.peer.id import ID

    theirs = ID.from_pubkey(create_new_key_pair(ALICE.seed).public_key)
    assert str(theirs) == ALICE.peer_id == peer_id(ALICE.public_key)
    assert public_key_of(ALICE.peer_id) == ALICE.public_key
    with pytest.raises(RemoteProtocolError):
        public_key_of("QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N")


@given(st.binary(max_size=400))
def test_any_bytes_open_or_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        open_record(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(VALUES)
def test_values_round_trip_and_have_one_encoding(value: Any) -> None:
    try:
        data = codec.encode(value)
    except LocalProtocolError:
        return  # nested too deep, or text with lone surrogates
    assert codec.encode(codec.decode(data)) == data
    assert codec.decode(data) == value


def test_bombs_are_refused() -> None:
    for bomb in (b"\x91" * 2000 + b"\x90", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x81" * 5000):
        with pytest.raises(RemoteProtocolError):
            codec.decode(bomb)


def mutations(wires: list[bytes], count: int, seed: int) -> list[bytes]:
    rng = random.Random(seed)
    out = []
    for _ in range(count):
        data = bytearray(rng.choice(wires))
        for _ in range(rng.randint(1, 4)):
            spot = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[spot] = rng.randrange(256)
                case 1:
                    data[spot] ^= 1 << rng.randrange(8)
                case 2:
                    del data[spot : spot + rng.randint(1, 8)]
                    data = data or bytearray(b"\x00")
                case _:
                    data[spot:spot] = rng.randbytes(rng.randint(1, 8))
        out.append(bytes(data))
    return out


@pytest.mark.slow
def test_a_hundred_thousand_mutated_envelopes_are_refused_cleanly() -> None:
    wires = [seal(ALICE, SWARM, statement).wire for statement in STATEMENTS]
    opened = 0
    for data in mutations(wires, 100_000, seed=1):
        try:
            opened += data not in wires and bool(open_record(data))
        except RemoteProtocolError:
            continue
    assert opened == 0


def test_the_envelope_version_is_pinned() -> None:
    assert seal(ALICE, SWARM, RESULT).version == VERSION == 1

"""One of everything that is said, with values that never change: what it is in bytes stands in v1.json for ever.

    python -m tests.golden.samples      prints what it would be today
"""

import json
from collections.abc import Callable
from typing import Any

import trio
from libp2p.pubsub.pb import rpc_pb2

from gossip.overrides import message_id
from gossip.sync import Answerer, Asker, Held
from protocol import codec
from protocol.commits import CommitScheme, blob_id
from protocol.identity import Identity
from protocol.manifest import manifest_of, swarm_id
from protocol.records import Claim, Note, Presence, Record, Result, Verdict, run_seed, seal
from protocol.statements import Origin, Status

ALICE, BOB = Identity(bytes(range(32))), Identity(bytes(range(32, 64)))
FILES = {"program.md": b"a program\n", "train.py": b"X = 1\n"}
EDIT = b"X = 2\n"
SCHEME = CommitScheme(FILES, "train.py")
SWARM = swarm_id(FILES)
#: zstd may compress otherwise tomorrow; what was said stays readable.
DIFF = bytes.fromhex(
    "28b52ffd205d3d0200940364696666202d2d67697420612f747261696e2e707920620a2d2d2d0a2b2b2b4040202d312c3120"
    "2b40400a2d58203d20310a2b58203d20320a040028c1098a939e8674519a"
)
CREATED_MS = 1_767_225_600_000


def candidate() -> str:
    return SCHEME.candidate(SCHEME.genesis, blob_id(EDIT))


def records() -> dict[str, Record]:
    """One of each kind."""
    return {name: seal(ALICE, SWARM, said) for name, said in statements().items()}


def statements() -> dict[str, Result | Note | Verdict | Presence | Claim]:
    return {
        "result": Result(
            created_ms=CREATED_MS, sequence=7, commit=candidate(), parent=SCHEME.genesis, blob=blob_id(EDIT),
            diff=DIFF, lines_added=1, lines_removed=1, origin=Origin.AGENT, index=0,
            seed=run_seed(candidate(), ALICE.public_key, Origin.AGENT, 0), status=Status.SCORED, metric=1.5,
            metric_se=0.25, holdout=None, cpu_seconds=20.0, wall_seconds=10.5, peak_memory=2**30, tier="cpu-avx2",
            device="a processor", software="torch 2.13.0", curve=((0.5, 2.0), (1.0, 1.75)),
            tunables={"X": 2, "NORM": "rms", "RATE": 0.001, "TIED": True}, summary="X: 1 to 2",
            hypothesis="more is more", failure="",
        ),
        "note": Note(CREATED_MS, 8, "wider is not better", ("ab" * 32,)),
        "verdict": Verdict(CREATED_MS, 9, candidate(), approve=False),
        "presence": Presence(
            CREATED_MS, (f"/ip4/192.0.2.7/tcp/4001/p2p/{ALICE.peer_id}",), "cpu-avx2", "0.1.0", "", 10, 2, 5
        ),
        "claim": Claim(CREATED_MS, candidate(), Origin.AGENT, "cpu-avx2", {"X": 2}, "X: 1 to 2", 20.0),
    }  # fmt: skip


class Recorded:
    """One end of a stream in memory; ``frames`` has all that either end sent, in order, with who sent it."""

    def __init__(
        self, who: str, frames: list[tuple[str, bytes]], out: trio.MemorySendChannel[bytes],
        into: trio.MemoryReceiveChannel[bytes],
    ) -> None:  # fmt: skip
        self.peer = "the other"
        self._who, self._frames, self._out, self._into = who, frames, out, into

    async def send(self, frame: bytes) -> None:
        self._frames.append((self._who, frame))
        await self._out.send(frame)

    async def receive(self, max_bytes: int) -> bytes:
        return await self._into.receive()

    async def aclose(self) -> None: ...


def pair() -> tuple[Recorded, Recorded, list[tuple[str, bytes]]]:
    frames: list[tuple[str, bytes]] = []
    there, back = trio.open_memory_channel[bytes](16), trio.open_memory_channel[bytes](16)
    return Recorded("asker", frames, there[0], back[1]), Recorded("answerer", frames, back[0], there[1]), frames


def holder(of: list[Record]) -> tuple[Held, Callable[[bytes], object]]:
    held = {record.id: record.wire for record in of}

    async def take(wire: bytes, wanted: set[str]) -> bool:
        return True

    return Held(lambda: held.keys(), held.get), take


async def sync() -> list[tuple[str, bytes]]:
    """A session between one that holds Alice's note and one that holds Bob's."""
    notes = [seal(who, SWARM, Note(CREATED_MS, 0, "hello", ())) for who in (ALICE, BOB)]
    asking, answering, frames = pair()
    sides = [
        side(stream, held, SWARM, take, lambda name: False)  # type: ignore[arg-type]
        for side, stream, (held, take) in zip(
            (Asker, Answerer), (asking, answering), (holder([note]) for note in notes), strict=True
        )
    ]
    async with trio.open_nursery() as nursery:
        for one in sides:
            nursery.start_soon(one.run)
    return frames


def message() -> Any:
    """Alice's note as it is gossiped, without what names its sender."""
    return rpc_pb2.Message(topicIDs=[f"waggle/{SWARM.hex()}"], data=records()["note"].wire)


def frames() -> dict[str, bytes]:
    """Of the streams that are a question and an answer."""
    presence = records()["presence"].wire
    said: dict[str, list[Any]] = {
        "hello": ["hello", SWARM, "numbers", None, "0.1.0"], "present": ["present", [presence]],
        "asset": ["asset", candidate()], "bytes": ["bytes", len(EDIT)], "no bytes": ["bytes", None], "alive": ["alive"],
    }  # fmt: skip
    return {f"frame {name}": codec.encode(fields) for name, fields in said.items()}


def everything() -> dict[str, str]:
    """All by name, in hex."""
    made = {
        "alice's public key": ALICE.public_key, "bob's public key": BOB.public_key, "swarm id": SWARM,
        "manifest": codec.encode([[one.path, one.sha256, one.size] for one in manifest_of(FILES).files]),
        "message id": message_id(message()),
    }  # fmt: skip
    for name, record in records().items():
        made |= {f"{name} body": record.body, f"{name} id": bytes.fromhex(record.id), name: record.wire}
    made |= {f"sync {at} {who}": frame for at, (who, frame) in enumerate(trio.run(sync), 1)} | frames()
    return {name: data.hex() for name, data in made.items()} | {
        "alice's peer id": ALICE.peer_id, "genesis": SCHEME.genesis, "candidate": candidate(),
        "seed": str(run_seed(candidate(), ALICE.public_key, Origin.AGENT, 0)),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(everything(), indent=1))

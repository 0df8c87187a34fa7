"""What it takes two nodes to come to hold the same records: round trips, bytes and seconds.

    python -m tests.bench.reconcile

Two real exchanges over a stream of this process, each record a signed note, with every signature checked.
"""

import argparse
import random
import time
from collections.abc import Collection

import trio

from gossip.sync import Answerer, Asker, Held, Session
from protocol import codec
from protocol.identity import Identity
from protocol.records import Record, open_record, seal
from protocol.statements import Note
from tests.bench.record import machine

SWARM_ID = bytes(32)


class Counted:
    """One end of a stream; ``answers`` are frames that the other side waits for."""

    peer = "the other"

    def __init__(self, to: trio.MemorySendChannel[bytes], by: trio.MemoryReceiveChannel[bytes]) -> None:
        self._to, self._by = to, by
        self.bytes = self.answers = 0

    async def send(self, frame: bytes) -> None:
        self.bytes += len(frame)
        self.answers += codec.decode(frame, max_bytes=len(frame))[0] != "records"
        await self._to.send(frame)

    async def receive(self, max_bytes: int) -> bytes:
        return await self._by.receive()

    async def aclose(self) -> None: ...


class Side:
    def __init__(self, records: Collection[Record]) -> None:
        self.records = {record.id: record.wire for record in records}

    async def take(self, data: bytes, wanted: set[str]) -> bool:
        record = open_record(data, SWARM_ID)
        new = record.id not in self.records
        self.records[record.id] = record.wire
        return new

    def session(self, kind: type[Session], pipe: Counted) -> Session:
        held = Held(self.records.keys, self.records.get)
        held.ids.fingerprint()  # a node has it, but for what came since the last exchange
        return kind(pipe, held, SWARM_ID, self.take, lambda record_id: False)


async def exchange(one: Side, two: Side) -> tuple[int, int, float]:
    """Round trips, bytes and seconds."""
    there, here = trio.open_memory_channel[bytes](4), trio.open_memory_channel[bytes](4)
    ours, theirs = Counted(there[0], here[1]), Counted(here[0], there[1])
    sessions = one.session(Asker, ours), two.session(Answerer, theirs)
    begun = time.perf_counter()
    async with trio.open_nursery() as nursery:
        for session in sessions:
            nursery.start_soon(session.run)  # type: ignore[attr-defined]
    assert set(one.records) == set(two.records)
    return theirs.answers, ours.bytes + theirs.bytes, time.perf_counter() - begun


def main(records: int) -> None:
    author = Identity(bytes(32))
    made = [
        seal(author, SWARM_ID, Note(1_800_000_000_000 + number, number, "what was learnt " * 20, ()))
        for number in range(records)
    ]
    some = random.Random(0).sample(made, 10_000)
    size = len(made[0].wire)
    print(f"{machine()}; records of {size} bytes")
    print(f"{'':36} {'round trips':>11} {'bytes':>12} {'of records':>11} {'seconds':>8}")
    for name, one, two, moved in (
        ("the same", made, made, 0),
        (f"1 new among {records:,}", made[1:], made, 1),
        (f"100 new among {records:,}", made[100:], made, 100),
        ("10,000 to an empty node", [], some, 10_000),
        ("two halves of 5,000", some[:5000], some[5000:], 10_000),
    ):
        trips, bytes_, seconds = trio.run(exchange, Side(one), Side(two))
        print(f"{name:36} {trips:11} {bytes_:12,} {moved * size:11,} {seconds:8.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--records", type=int, default=100_000)
    main(**vars(parser.parse_args()))

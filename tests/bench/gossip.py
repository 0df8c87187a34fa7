"""How long a record takes to all peers in other processes, over libp2p on loopback, and what a swarm at rest
costs; then how long one that comes late takes to have all that was said.

    python -m tests.bench.gossip [--peers 7] [--records 100] [--rest 20] [--late 10000]
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import trio

from gossip.libp2p_transport import open_transport
from tests.gossip.members import Member, identity, real_ms
from tests.waiting import until

ROOT = Path(__file__).parents[2]


async def listen(number: int, known: str, records: int) -> None:
    """One peer: prints when each record came, and its memory."""
    async with open_transport(identity(number), ["/ip4/127.0.0.1/tcp/0"]) as transport:
        member = Member(number, transport, [known], clock_ms=real_ms)
        came: dict[str, float] = {}
        original = member.keep

        def keep(record):  # type: ignore[no-untyped-def]
            came[record.id] = time.time()
            return original(record)

        member.keep = keep  # type: ignore[method-assign]
        async with trio.open_nursery() as nursery:
            await nursery.start(member.swarm.run)
            await until(lambda: len(came) == records, 600)
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(json.dumps({"came": came, "memory": memory}))
            nursery.cancel_scope.cancel()


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def peer(number: int, known: str, records: int, heard: list[dict[str, Any]]) -> None:
    """A process of its own; what it printed goes to ``heard``."""
    said = await trio.run_process(
        [sys.executable, "-m", "tests.bench.gossip", "--listen", str(number), "--known", known,
         "--records", str(records)],
        cwd=ROOT, capture_stdout=True,
    )  # fmt: skip
    heard.append(json.loads(said.stdout))


async def main(peers: int, records: int, rest: float) -> None:
    async with open_transport(identity(1), ["/ip4/127.0.0.1/tcp/0"]) as transport:
        member = Member(1, transport, clock_ms=real_ms)
        told: dict[str, float] = {}
        async with trio.open_nursery() as nursery:
            await nursery.start(member.swarm.run)
            begun = time.time()
            heard: list[dict[str, Any]] = []
            for number in range(2, peers + 2):
                nursery.start_soon(peer, number, member.address, records, heard)
            await until(lambda: len(member.swarm.presences()) == peers, 120)
            print(f"{peers} peers present after {time.time() - begun:.1f} s")
            before, since = cpu(), time.time()
            await trio.sleep(rest)
            share = (cpu() - before) / (time.time() - since)
            print(f"at rest with {len(transport.peers())} peers: {100 * share:.2f} % of a core")
            for number in range(records):
                record = member.note(number)
                told[record.id] = time.time()
                await member.swarm.publish(record)
                await trio.sleep(0.2)
            await until(lambda: len(heard) == peers, 60)
            nursery.cancel_scope.cancel()
    delays = sorted(1000 * (said["came"][name] - told[name]) for said in heard for name in told)
    print(
        f"{records} records to {peers} processes: median {delays[len(delays) // 2]:.1f} ms,"
        f" p99 {delays[len(delays) * 99 // 100]:.1f} ms, worst {delays[-1]:.1f} ms;"
        f" a peer's memory {heard[0]['memory'] // 1024} MB"
    )


async def late(records: int) -> None:
    """A process that joins one that holds so many."""
    async with open_transport(identity(1), ["/ip4/127.0.0.1/tcp/0"]) as transport:
        member = Member(1, transport, clock_ms=real_ms)
        for number in range(records):
            member.keep(member.note(number))
        heard: list[dict[str, Any]] = []
        async with trio.open_nursery() as nursery:
            await nursery.start(member.swarm.run)
            nursery.start_soon(peer, 2, member.address, records, heard)
            await until(lambda: bool(transport.peers()), 120)
            met = time.time()
            await until(lambda: bool(heard), 600)
            nursery.cancel_scope.cancel()
    print(f"{records} records to one that joins: {max(heard[0]['came'].values()) - met:.1f} s from when they met")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=int, default=7)
    parser.add_argument("--records", type=int, default=100)
    parser.add_argument("--rest", type=float, default=20.0)
    parser.add_argument("--late", type=int, default=10_000)
    parser.add_argument("--listen", type=int)
    parser.add_argument("--known")
    asked = parser.parse_args()
    if asked.listen:
        trio.run(listen, asked.listen, asked.known, asked.records)
    else:
        trio.run(main, asked.peers, asked.records, asked.rest)
        trio.run(late, asked.late)

"""Does a node stay as small as it was: memory, descriptors, tasks and threads, while peers come and go.

    python -m tests.bench.soak [--minutes 60] [--peers 4] [--stay 5]

The node that is measured has real libp2p connections to peers in another process, each of which joins with a new
identity, tells a record, stays some seconds and goes, every second one without a word, as a crash does.
"""

import argparse
import gc
import os
import random
import sys
import threading
from pathlib import Path

import trio

from gossip.libp2p_transport import open_transport
from tests.bench.record import machine
from tests.gossip.members import Member, identity, real_ms

ROOT = Path(__file__).parents[2]
SAMPLES = 12
LOCAL = "/ip4/127.0.0.1/tcp/0"


async def visit(number: int, known: str, stay: float) -> None:
    """One peer's life."""
    async with open_transport(identity(number), [LOCAL]) as transport, trio.open_nursery() as nursery:
        member = Member(number, transport, [known], clock_ms=real_ms)
        await nursery.start(member.swarm.run)
        await trio.sleep(stay * random.uniform(0.5, 1.0))
        await member.swarm.publish(member.note(number))
        await trio.sleep(1.0)
        if number % 2:
            os._exit(0)
        nursery.cancel_scope.cancel()


async def visitors(known: str, lane: int, stay: float, made: list[int]) -> None:
    while True:
        made.append(1)
        number = 100 + 2 * len(made) + random.randrange(2)
        await trio.run_process(
            [sys.executable, "-m", "tests.bench.soak", "--visit", str(number), "--known", known, "--stay", str(stay)],
            cwd=ROOT, check=False, capture_stdout=True, capture_stderr=True,
        )  # fmt: skip


def row(made: int, records: int) -> str:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    resident = int(status.split("VmRSS:")[1].split()[0]) // 1024
    tasks = trio.lowlevel.current_statistics().tasks_living
    fds, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    return f"{made:7} {records:8} {resident:7} MB {fds:6} {tasks:6} {threads:8}"


async def main(minutes: float, peers: int, stay: float) -> None:
    made: list[int] = []
    print(f"{machine()}; {peers} peers at a time")
    print("minutes  visits  records   memory descriptors tasks threads", flush=True)
    async with open_transport(identity(1), [LOCAL]) as transport, trio.open_nursery() as nursery:
        member = Member(1, transport, clock_ms=real_ms)
        await nursery.start(member.swarm.run)
        for lane in range(peers):
            nursery.start_soon(visitors, member.address, lane, stay, made)
        for sample in range(SAMPLES + 1):
            print(f"{sample * minutes / SAMPLES:7.1f} {row(len(made), len(member.records))}", flush=True)
            await trio.sleep(60 * minutes / SAMPLES)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--stay", type=float, default=5.0)
    parser.add_argument("--visit", type=int)
    parser.add_argument("--known")
    asked = parser.parse_args()
    if asked.visit:
        trio.run(visit, asked.visit, asked.known, asked.stay)
    else:
        trio.run(main, asked.minutes, asked.peers, asked.stay)

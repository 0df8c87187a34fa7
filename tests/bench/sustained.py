"""How many records a second gossip carries to other processes, and what becomes of those that it drops.

    python -m tests.bench.sustained [--peers 4] [--seconds 10] [--rates 20 80 160]

Records are of twenty authors and pass through one node. "At once" is within two seconds; the rest comes by sync.
"""

import argparse
import time
from typing import Any

import trio

from gossip.libp2p_transport import open_transport
from protocol.records import Note, seal
from tests.bench.gossip import cpu, peer
from tests.bench.record import machine
from tests.gossip.members import SWARM_ID, Member, identity, real_ms
from tests.waiting import until

AUTHORS = [identity(number) for number in range(1000, 1020)]
AT_ONCE_SECONDS = 2.0
#: Two syncs of each peer, and some.
ALL_SECONDS = 200.0


async def at_rate(peers: int, rate: float, seconds: float) -> None:
    count = round(rate * seconds)
    told: dict[str, float] = {}
    heard: list[dict[str, Any]] = []
    async with open_transport(identity(1), ["/ip4/127.0.0.1/tcp/0"]) as transport, trio.open_nursery() as nursery:
        member = Member(1, transport, clock_ms=real_ms)
        await nursery.start(member.swarm.run)
        for number in range(2, peers + 2):
            nursery.start_soon(peer, number, member.address, count, heard)
        await until(lambda: len(member.swarm.presences()) == peers, 120)
        await trio.sleep(5.0)  # gossip has its mesh
        before, since = cpu(), trio.current_time()
        for number in range(count):
            await trio.sleep_until(since + number / rate)
            author = AUTHORS[number % len(AUTHORS)]
            record = member.keep(seal(author, SWARM_ID, Note(real_ms(), number, f"note {number}", ())))
            told[record.id] = time.time()
            await member.swarm.publish(record)
        took, used = trio.current_time() - since, cpu() - before
        await until(lambda: len(heard) == peers, ALL_SECONDS)
        nursery.cancel_scope.cancel()
    delays = sorted(one["came"][name] - told[name] for one in heard for name in told)
    at_once = sum(delay <= AT_ONCE_SECONDS for delay in delays) / len(delays)
    print(
        f"{rate:6.0f} wanted {count / took:6.0f} told a second, {used / took:5.0%} of a core: {at_once:6.1%} at once,"
        f" median {1000 * delays[len(delays) // 2]:6.0f} ms, all after {delays[-1]:5.1f} s",
        flush=True,
    )


def main(peers: int, seconds: float, rates: list[float]) -> None:
    print(f"{machine()}; to {peers} processes, {seconds:g} s each")
    for rate in rates:
        trio.run(at_rate, peers, rate, seconds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--peers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[20.0, 80.0, 160.0])
    main(**vars(parser.parse_args()))

"""A swarm of real processes, and what may happen to one: how long each recovery took.

    python -m tests.chaos.run [--nodes 8] [--seconds 10] [--limit 300] [--keep FOLDER] [STEP ...]

Needs root, for network namespaces; all is removed at the end, after Ctrl-C too. Each node is a ``waggle start`` at
an address of its own; an experiment of the numbers program sleeps here, so that many nodes fit on few cores.

"noticed" is how long the others took to part from what was cut off, "met again" how long until every node had every
other among its peers again. "caught up" is how long until each live node held every record that any of them had
held when the trouble ended (of a trouble that lasts: after half a minute of it), and "same best" until, after that,
all had the same incumbent. The first row, in which nothing happens, is what the others are to be held against:
what gossip does not bring comes by reconciliation with one random peer a minute. Exits with 1 where something did
not happen within its limit.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.calibrate import slow_numbers
from tests.chaos.network import missing
from tests.chaos.swarm import LOOK_SECONDS, EndedError, Member, Swarm, swarm, took, union

#: Records of each node before the first step: one that brings nothing but the first shows nothing.
WARM = 3
#: Long enough for both sides to make and accept something of their own.
PARTED_SECONDS = 60.0
FROZEN_SECONDS = 30.0
#: In which each node ends some experiments.
LASTED_SECONDS = 30.0
#: gossip/alive.py promises 15 s; a look at all, and a machine with more nodes than cores.
NOTICED_SECONDS = 40.0
#: A bad telephone line, for records of a few hundred bytes each.
SLOW_BITS = 64_000
LOSS = 0.05
#: To the other side of the world and back is four of these; half as much again, or less, at random.
DELAY_SECONDS, JITTER_SECONDS = 0.1, 0.05


@dataclass
class Row:
    """What came of a step: seconds, None for "not within the limit"; what was not looked at is not in it."""

    name: str
    limit: float
    times: dict[str, float | None] = field(default_factory=dict)
    words: list[str] = field(default_factory=list)
    failed: bool = False

    def time(self, column: str, condition: Callable[[], bool], limit: float = 0.0, since: float | None = None) -> None:
        self.times[column] = took(condition, limit or self.limit, since)
        self.failed |= self.times[column] is None
        if self.times[column] is None:
            self.words.append(f"{column}: not within {limit or self.limit:g} s")

    def check(self, holds: bool, said: str) -> None:
        self.words.append(said if holds else f"WRONG: {said}")
        self.failed |= not holds

    def line(self) -> str:
        cells = [self._cell(column).rjust(len(column) + 2) for column in COLUMNS]
        return f"{self.name:<{NAME}}{''.join(cells)}  {'; '.join(self.words)}"

    def _cell(self, column: str) -> str:
        if column not in self.times:
            return "–"
        seconds = self.times[column]
        return "never" if seconds is None else f"{seconds:.1f}"


def calm(hive: Swarm, row: Row) -> None:
    """Nothing happens."""
    wanted = hive.records()
    row.time("met again", hive.joined)
    _caught_up(hive, row, wanted)


def bootstrap_killed(hive: Swarm, row: Row) -> None:
    """kill -9 of the node that all began with; then it comes back, knowing only what it remembers."""
    first = hive.members[0]
    first.kill()
    since, wanted = time.monotonic(), hive.records()
    row.time("noticed", lambda: hive.without(first), NOTICED_SECONDS, since)
    _caught_up(hive, row, wanted, since)
    row.check(took(lambda: hive.records() > wanted, row.limit) is not None, "the others work on")


def bootstrap_back(hive: Swarm, row: Row) -> None:
    """The same home, at the same address, without being told of any peer."""
    first = next(member for member in hive.members if member.dead)
    hive.restart(first, first.host)
    _met_again(hive, row)


def partition(hive: Swarm, row: Row) -> None:
    """Two halves for a minute; then healed."""
    one, other = hive.live[::2], hive.live[1::2]
    with hive.net.parted([member.host for member in one], [member.host for member in other]):
        began = time.monotonic()
        row.time("noticed", lambda: hive.apart(one, other), NOTICED_SECONDS, began)
        before = union(one), union(other)  # what was on its way when the network was cut has landed
        time.sleep(max(0.0, began + PARTED_SECONDS - time.monotonic()))
        made, crossed = news(one, other, before)
    row.check(made > 0 and crossed == 0, f"{made} records made while parted, {crossed} got across")
    _met_again(hive, row)


def frozen(hive: Swarm, row: Row) -> None:
    """SIGSTOP of one for half a minute, then SIGCONT."""
    asleep = hive.live[-1]
    asleep.freeze()
    began = time.monotonic()
    try:
        row.time("noticed", lambda: hive.without(asleep), NOTICED_SECONDS)
        time.sleep(max(0.0, began + FROZEN_SECONDS - time.monotonic()))
    finally:
        asleep.thaw()
    _met_again(hive, row)


def moved(hive: Swarm, row: Row) -> None:
    """One ends as by kill -9, and its home comes up at another address."""
    leaver = hive.live[-2]
    leaver.kill()
    row.time("noticed", lambda: hive.without(leaver), NOTICED_SECONDS)
    back = hive.restart(leaver, hive.net.host())
    _met_again(hive, row)
    row.words.append(f"{leaver.host.address} to {back.host.address}")


def slow(hive: Swarm, row: Row) -> None:
    """One node's link carries 64 kbit/s."""
    with hive.net.slow(hive.live[1].host, SLOW_BITS):
        _lasting(hive, row)


def loss(hive: Swarm, row: Row) -> None:
    """Every node loses 5 % of what arrives."""
    with hive.net.lossy([member.host for member in hive.live], LOSS):
        _lasting(hive, row)


def delay(hive: Swarm, row: Row) -> None:
    """Half the nodes are far away, and packets overtake each other on the way."""
    with hive.net.delayed([member.host for member in hive.live[::2]], DELAY_SECONDS, JITTER_SECONDS):
        _lasting(hive, row)


STEPS: dict[str, Callable[[Swarm, Row], None]] = {
    "calm": calm, "partition": partition, "frozen": frozen, "moved": moved, "slow": slow, "loss": loss,
    "delay": delay, "killed": bootstrap_killed, "back": bootstrap_back,
}  # fmt: skip
TITLES = {
    "calm": "nothing happens",
    "partition": f"halves apart for {PARTED_SECONDS:g} s",
    "frozen": f"one frozen for {FROZEN_SECONDS:g} s",
    "moved": "one at another address",
    "slow": f"one at {SLOW_BITS // 1000} kbit/s",
    "loss": f"{LOSS:.0%} lost everywhere",
    "delay": f"half of them {1000 * DELAY_SECONDS:g}±{1000 * JITTER_SECONDS:g} ms off",
    "killed": "bootstrap killed",
    "back": "bootstrap back",
}
COLUMNS = ("noticed", "met again", "caught up", "same best")
NAME = 2 + max(map(len, TITLES.values()))
HEAD = f"{'seconds':<{NAME}}{''.join('  ' + column for column in COLUMNS)}"


def news(
    one: Sequence[Member], other: Sequence[Member], before: tuple[frozenset[str], frozenset[str]]
) -> tuple[int, int]:
    """Of the records made on either side since ``before``: how many, and how many of them are on both."""
    known = before[0] | before[1]
    here, there = union(one) - known, union(other) - known
    return len(here | there), len(here & there)


def _met_again(hive: Swarm, row: Row) -> None:
    since, wanted = time.monotonic(), hive.records()
    row.time("met again", hive.joined, since=since)
    _caught_up(hive, row, wanted, since)


def _caught_up(hive: Swarm, row: Row, wanted: frozenset[str], since: float | None = None) -> None:
    row.time("caught up", lambda: hive.hold(wanted), since=since)
    row.time("same best", hive.agree, since=since)
    row.words.insert(0, f"{len(wanted)} records")


def _lasting(hive: Swarm, row: Row) -> None:
    """What is made while the trouble lasts gets to all while it lasts, and nobody is given up."""
    time.sleep(LASTED_SECONDS)
    least = [len(hive.live)]

    def hold() -> bool:
        least.append(min(len(member.peers()) for member in hive.live))
        return hive.hold(wanted)

    wanted = hive.records()
    row.time("caught up", hold)
    row.time("same best", hive.agree)
    row.words.insert(0, f"{len(wanted)} records")
    row.words.append(f"never fewer than {min(least)} peers")


def go_through(steps: Sequence[str], nodes: int, seconds: float, limit: float, folder: Path) -> list[Row]:
    """Print each row when it is there. Raises EndedError."""
    rows: list[Row] = []
    with swarm(folder) as hive:
        began = time.monotonic()
        hive.start(nodes, slow_numbers(folder / "program", seconds))
        print(f"{nodes} nodes there after {time.monotonic() - began:.1f} s; looked every {LOOK_SECONDS:g} s\n")
        print(HEAD, flush=True)
        took(lambda: len(hive.records()) >= WARM * nodes, limit)
        for step in steps:
            row = Row(TITLES[step], limit)
            rows.append(row)
            STEPS[step](hive, row)
            print(row.line(), flush=True)
    return rows


@contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        kept.mkdir(parents=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="waggle-chaos-") as scratch:
        yield Path(scratch)


def main(steps: Sequence[str], nodes: int, seconds: float, limit: float, keep: Path | None) -> int:
    if why := missing():
        print(f"no network namespaces here: {why}", file=sys.stderr)
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell starts what runs in the background without the latter
        signal.signal(number, signal.default_int_handler)
    try:
        with _folder(keep) as folder:
            rows = go_through(steps, nodes, seconds, limit, folder)
    except EndedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; all is removed", file=sys.stderr)
        return 130
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("steps", nargs="*", metavar="STEP", help=f"of {', '.join(STEPS)}; default: all in this order")
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10.0, help="the budget of an experiment")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that a recovery may take")
    parser.add_argument("--keep", type=Path, help="a new folder for homes and logs")
    given = parser.parse_args()
    if unknown := [step for step in given.steps if step not in STEPS]:
        parser.error(f"no step {unknown[0]}")
    sys.exit(main(given.steps or list(STEPS), given.nodes, given.seconds, given.limit, given.keep))

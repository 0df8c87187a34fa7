"""CPU seconds and memory of a tree of processes, from /proc, or from ``ps`` where there is none.

CPU time is counted in two ways and the larger count holds: as the kernel adds a child's time to the parent
that waited for it, and as the sum of what was last seen of every process. The first is exact for honest
programs; the second catches those who let their children's time be forgotten (SIGCHLD ignored). What lives
shorter than the time between two looks *and* is never waited for is seen by neither; the wall clock bounds
it. ``ps`` knows no time of children that have ended: there only the second count is left.
https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
"""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
#: A list takes some 10 ms.
PS_SECONDS = 0.25


@dataclass(frozen=True)
class Stat:
    """A process at one moment: CPU seconds of its own and of children that it waited for, bytes resident."""

    pid: int
    parent: int
    started: int
    own: float
    waited: float
    resident: int
    ended: bool


@dataclass(frozen=True)
class Member:
    """A process, told from a later one with the same number by when it started."""

    pid: int
    started: int

    def alive(self) -> bool:
        stat = read_stat(self.pid)
        return stat is not None and stat.started == self.started and not stat.ended

    def kill(self) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Usage:
    """What a tree has used: seconds of CPU since it began, bytes resident now, processes now."""

    cpu: float
    memory: int
    processes: int


class Tree:
    """The processes below and including ``root``. Call ``measure`` often: what is seen once counts on."""

    def __init__(self, root: int) -> None:
        self.root = root
        self._processes = Proc() if os.path.exists("/proc/self/stat") else Ps()
        self._own: dict[Member, float] = {}
        self._cpu = 0.0

    def measure(self) -> Usage:
        """Shared pages count once for each process that has them."""
        stats = self._processes.below(self.root)
        for stat in stats:
            self._own[Member(stat.pid, stat.started)] = stat.own
        as_waited = sum(stat.own + stat.waited for stat in stats)
        as_seen = sum(self._own.values())
        self._cpu = max(self._cpu, as_waited, as_seen)
        return Usage(self._cpu, sum(stat.resident for stat in stats), len(stats))

    def members(self) -> list[Member]:
        return [Member(stat.pid, stat.started) for stat in self._processes.below(self.root)]


class Proc:
    """Processes as /proc shows them."""

    def below(self, root: int) -> list[Stat]:
        """Those that are ``root`` or descend from it."""
        found: list[Stat] = []
        waiting = [root]
        while waiting:
            pid = waiting.pop()
            stat = self.stat(pid)
            if stat is not None:
                found.append(stat)
                waiting += _children(pid)
        return found

    def stat(self, pid: int) -> Stat | None:
        """None where there is no such process."""
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            return None
        if len(fields) < 22:
            return None
        return Stat(
            pid=pid,
            parent=int(fields[1]),
            started=int(fields[19]),
            own=(int(fields[11]) + int(fields[12])) / _TICK,
            waited=(int(fields[13]) + int(fields[14])) / _TICK,
            resident=int(fields[21]) * _PAGE,
            ended=fields[0] in (b"Z", b"X"),
        )


@dataclass
class Ps:
    """Processes as ``ps`` lists them, at most every PS_SECONDS."""

    _listed: dict[int, Stat] = field(default_factory=dict)
    _at: float = float("-inf")

    def below(self, root: int) -> list[Stat]:
        if time.monotonic() - self._at > PS_SECONDS:
            self._listed, self._at = self._list(), time.monotonic()
        below = {root}
        while more := {one.pid for one in self._listed.values() if one.parent in below} - below:
            below |= more
        return [self._listed[pid] for pid in below if pid in self._listed]

    def stat(self, pid: int) -> Stat | None:
        return self._list(str(pid)).get(pid)

    def _list(self, *pids: str) -> dict[int, Stat]:
        which = ("-p", *pids) if pids else ("-A",)
        command = ["ps", *which, "-o", "pid=,ppid=,time=,rss=,state=,lstart="]
        listed = subprocess.run(command, capture_output=True, text=True, env={"LC_ALL": "C", "PATH": "/bin:/usr/bin"})
        stats = map(_listed, listed.stdout.splitlines())
        return {one.pid: one for one in stats if one is not None}


def read_stat(pid: int) -> Stat | None:
    """None where there is no such process."""
    return (Proc() if os.path.exists("/proc/self/stat") else Ps()).stat(pid)


def _listed(line: str) -> Stat | None:
    """A line of ``ps``."""
    fields = line.split(maxsplit=5)
    if len(fields) < 6:
        return None
    pid, parent, spent, kilobytes, state, started = fields
    when = int(time.mktime(time.strptime(started.strip(), "%a %b %d %H:%M:%S %Y")))
    return Stat(int(pid), int(parent), when, _seconds(spent), 0.0, int(kilobytes) * 1024, state[0] in "ZX")


def _seconds(spent: str) -> float:
    """[[days-]hours:]minutes:seconds"""
    days, _, rest = spent.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = 60 * total + float(part)
    return total + 86400 * int(days or 0)


def _children(pid: int) -> list[int]:
    """Children of all threads of a process."""
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children += map(int, file.read().split())
    return children

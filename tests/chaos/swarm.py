"""Real nodes in a network of namespaces, and how long they took to come to what is expected of them.

A node is asked for its status within its own namespace, so what is done to the network never stands between it
and us. Which records it holds stands in its journal.
"""

import json
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from node.home import Home
from tests.chaos.network import Host, Network, inside, network
from tests.e2e.kit import START_SECONDS, Json, Place, Running, place

#: Eight nodes are asked in some 0.1 s: no finer are the times that are told.
LOOK_SECONDS = 0.5
#: Where a node listens in its namespace, which it has for itself.
LISTEN = "/ip4/0.0.0.0/tcp/4001"


class EndedError(Exception):
    """A node's process ended though nobody ended it."""


@dataclass
class Member:
    """A node at its host; ``frozen`` or dead ones are not asked."""

    name: str
    host: Host
    running: Running
    frozen: bool = False
    dead: bool = False
    peer_id: str = ""

    @property
    def live(self) -> bool:
        return not self.frozen and not self.dead

    def status(self) -> Json:
        """Raises OSError where it does not answer within some seconds, and EndedError."""
        if self.running.process.poll() is not None:
            raise EndedError(f"{self.name} ended: {self.running.log.read_text()[-2000:]}")
        with inside(self.host.namespace):
            return self.running.status()

    def peers(self) -> set[str]:
        return set(self.status()["peers"])

    def held(self) -> frozenset[str]:
        """The ids of its records."""
        journal = Home(self.running.home).journal
        with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as opened:
            return frozenset(name for (name,) in opened.execute("SELECT id FROM records"))

    def kill(self) -> None:
        """As a power cut does."""
        self.running.kill()
        self.dead = True

    def freeze(self) -> None:
        """As a machine does that goes to sleep."""
        self.running.process.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self.running.process.send_signal(signal.SIGCONT)
        self.frozen = False


@dataclass
class Swarm:
    """Its members so far, dead ones included."""

    net: Network
    place: Place
    members: list[Member] = field(default_factory=list)

    @property
    def live(self) -> list[Member]:
        return [member for member in self.members if member.live]

    def start(self, count: int, program: Path, *options: str) -> None:
        """So many nodes: the first is the others' bootstrap."""
        self.start_at([self.net.host() for _ in range(count)], program, *options)

    def start_at(self, hosts: Sequence[Host], program: Path, *options: str, join: bool = True) -> None:
        """A node at each host, told of the first unless it is not to ``join``."""
        for host in hosts:
            number = len(self.members)
            known = ("--join", self.members[0].running.address) if self.members and join else ()
            self._launch(f"node{number}", host, "--program", str(program), "--listen", LISTEN,
                         "--seed", str(number), *known, *options)  # fmt: skip
            if number == 0:
                self._up(self.members[0])
        for member in self.members[1:]:
            self._up(member)

    def restart(self, member: Member, host: Host) -> Member:
        """The same home again, perhaps elsewhere; where it listens and whom it knows it remembers itself."""
        self.members.remove(member)
        return self._up(self._launch(member.name, host))

    def _launch(self, name: str, host: Host, *options: str) -> Member:
        with inside(host.namespace):
            running = self.place.start(name, *options, listen=False)
        self.members.append(Member(name, host, running))
        return self.members[-1]

    def _up(self, member: Member) -> Member:
        def up() -> bool:
            if member.running.process.poll() is not None:
                raise EndedError(f"{member.name} ended: {member.running.log.read_text()[-2000:]}")
            return member.running.announced() is not None

        if took(up, START_SECONDS) is None:
            raise EndedError(f"{member.name} was not there within {START_SECONDS:g} s")
        member.peer_id = str(member.running.said("peer_id"))
        return member

    # what is expected

    def records(self) -> frozenset[str]:
        """What any of the live nodes holds."""
        return union(self.live)

    def hold(self, wanted: frozenset[str]) -> bool:
        """Whether every live node holds these records."""
        return all(wanted <= member.held() for member in self.live)

    def agree(self) -> bool:
        """Whether all show the same incumbent."""
        return len({json.dumps((member.status()["incumbent"] or {}).get("commit")) for member in self.live}) == 1

    def without(self, member: Member) -> bool:
        """Whether no other live node has it among its peers."""
        return not any(member.peer_id in other.peers() for other in self.live if other is not member)

    def with_(self, member: Member) -> bool:
        """Whether every other live node has it among its peers."""
        return all(member.peer_id in other.peers() for other in self.live if other is not member)

    def apart(self, one: Sequence[Member], other: Sequence[Member]) -> bool:
        """Whether no node of one side has one of the other among its peers."""
        return not (self._meet(one, other) or self._meet(other, one))

    def joined(self) -> bool:
        """Whether each live node has all others among its peers: so few as here are all dialed."""
        names = {member.peer_id for member in self.live}
        return all(names - {member.peer_id} <= member.peers() for member in self.live)

    def _meet(self, one: Iterable[Member], other: Iterable[Member]) -> bool:
        names = {member.peer_id for member in other}
        return any(names & member.peers() for member in one)


def union(members: Iterable[Member]) -> frozenset[str]:
    return frozenset[str]().union(*(member.held() for member in members))


def took(condition: Callable[[], bool], limit: float, since: float | None = None) -> float | None:
    """Seconds from ``since`` (``time.monotonic``; default: now) until it held, None if not ``limit`` s after it.

    A node that does not answer for some seconds is asked again. Raises EndedError.
    """
    begun = time.monotonic() if since is None else since
    while time.monotonic() - begun < limit:
        try:
            if condition():
                return time.monotonic() - begun
        except OSError:
            pass  # it is busy; the limit counts
        time.sleep(LOOK_SECONDS)
    return None


@contextmanager
def swarm(folder: Path) -> Iterator[Swarm]:
    """None yet. At the end its processes are killed, frozen ones too, and its network is removed."""
    with network() as net, place(folder) as nodes:
        yield Swarm(net, nodes)

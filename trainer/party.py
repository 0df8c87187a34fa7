"""The children of one run: each a sandboxed process, our end of its control socket, and what it printed."""

import socket
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import trio

from protocol.statements import Status
from trainer.channel import Channel
from trainer.log import Log
from trainer.sandbox import Sandbox
from trainer.spawn import Cell, Child, killed_by
from trainer.tree import Tree

#: From a child's last word to the end of its output and its exit status: they are on their way already.
DRAIN_SECONDS = 2.0


class Ended(Exception):  # noqa: N818  how every run that is not scored leaves its conductor
    """The run is over with ``status``; ``why`` is one line, before it the end of the log where that helps.

    ``limit`` is which of ``trainer.job.LIMITS`` it went over, "" for none.
    """

    def __init__(self, status: Status, why: str, limit: str = "") -> None:
        super().__init__(why)
        self.status = status
        self.why = why
        self.limit = limit


@dataclass(frozen=True)
class Party:
    """One child. ``drained`` is set when all that it printed is in ``log``."""

    child: Child
    channel: Channel
    log: Log
    drained: trio.Event = field(default_factory=trio.Event)

    async def drain(self) -> None:
        """Take in what it prints, to the end."""
        async for part in self.child.output:
            self.log.add(part)
        self.drained.set()

    async def rest(self) -> str:
        """Wait, for a bounded time, for the end of a child that has hung up; how it ended."""
        status = None
        with trio.move_on_after(DRAIN_SECONDS):
            status = await self.child.wait()
            await self.drained.wait()
        return "hung up" if status is None else "ended: " + killed_by(status)


class Parties:
    """Starts the children of one run: they, and all our ends, are gone when ``stack`` is unwound.

    ``trees`` are the processes of those that were started.
    """

    def __init__(self, sandbox: Sandbox, stack: AsyncExitStack, nursery: trio.Nursery) -> None:
        self._sandbox = sandbox
        self._stack = stack
        self._nursery = nursery
        self.trees: list[Tree] = []

    async def start(self, cell: Cell, given: list[socket.socket], log: Log) -> Party:
        """Start a child with a control socket of its own. The sockets it is ``given`` are closed here."""
        ours, theirs = self.pair()
        cell = replace(
            cell,
            config={**cell.config, "control": theirs.fileno()},
            fds=[*cell.fds, theirs.fileno(), *(taken.fileno() for taken in given)],
        )
        child = await self._stack.enter_async_context(self._sandbox.spawn(cell))
        for taken in (theirs, *given):
            taken.close()  # or its end could not be seen from the other side
        self.trees.append(child.tree)
        channel = Channel(ours)
        self._stack.callback(channel.close)
        party = Party(child, channel, log)
        self._nursery.start_soon(party.drain)
        return party

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """A socket pair that is closed with the run, where it was not before."""
        pair = socket.socketpair()
        for end in pair:
            self._stack.callback(end.close)
        return pair

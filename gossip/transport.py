"""The interface between a swarm and the network under it.

Peers are named by peer id, addresses are multiaddrs that end in ``/p2p/<peer id>``. Messages on a topic may
be lost, doubled and reordered; frames on a stream arrive whole and in order, or the stream breaks.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from protocol.errors import RemoteProtocolError, UserError
from protocol.identity import public_key_of
from protocol.statements import MAX_NAME_BYTES

log = logging.getLogger(__name__)

#: A message on a topic: an envelope of 64 KiB is the largest that is ever gossiped.
MAX_MESSAGE_BYTES = 64 * 1024
#: Messages that wait for us to take them: a burst of some seconds. What does not fit is dropped here and
#: comes by sync.
INBOX = 2048
#: Saying goodbye must not hold up the end.
CLOSE_SECONDS = 2.0
#: The host of peers on the same machine, whichever of its addresses they use.
LOOPBACK = "127.0.0.1"

#: Of an address of ours: a presence holds no longer one, and none is signed that has one.
MOST_ADDRESS_BYTES = MAX_NAME_BYTES
#: In an address through a relay, between the relay's own and ``/p2p/`` with the peer's id. Only members are put
#: through: it is none to join by.
CIRCUIT = "/p2p-circuit"

EXAMPLE = "/ip4/192.0.2.7/tcp/4001/p2p/12D3Koo…"


class ConnectError(UserError):
    """A peer could not be reached: one line that names the address and says why."""


class Stream(Protocol):
    """Frames to and from one peer.

    Every method raises RemoteProtocolError("stream") once the stream is broken or closed by the peer.
    ``receive`` raises RemoteProtocolError("oversize") for a frame over ``max_bytes``; the stream is then of
    no more use. None has a time limit of its own.
    """

    @property
    def peer(self) -> str: ...
    async def send(self, frame: bytes) -> None: ...
    async def receive(self, max_bytes: int) -> bytes: ...
    async def aclose(self) -> None: ...


Handler = Callable[[Stream], Awaitable[None]]
#: (forwarder, data) -> whether to deliver and forward. Must be quick; raising counts as False.
Validator = Callable[[str, bytes], bool]
Inbox = trio.MemoryReceiveChannel[tuple[str, bytes]]


class Judge(Protocol):
    """Who counts what peers do wrong, and says of whom it was too much."""

    def reject(self, error: RemoteProtocolError, peer: str, host: str = "") -> None:
        """A peer did something wrong, or somebody at an IP address of whom no more is known (``peer`` is "")."""
        ...

    def hears(self, forwarder: str) -> bool:
        """Whether a message that a peer passes on is looked at; asked once for each."""
        ...

    def shuts_out(self, name: str) -> bool:
        """Whether nothing of a peer, or no new connection of an IP address, is taken for a while."""
        ...


class Lenient:
    """The judge until there is one."""

    def reject(self, error: RemoteProtocolError, peer: str, host: str = "") -> None:
        log.info("%s: %s", peer or host, error)

    def hears(self, forwarder: str) -> bool:
        return True

    def shuts_out(self, name: str) -> bool:
        return False


class Transport(Protocol):
    """One node's access to the network. ``peers`` are connected ones; only those can be sent to."""

    @property
    def peer_id(self) -> str: ...

    def addresses(self) -> list[str]:
        """Where others may dial us, each with ``/p2p/`` and at most MOST_ADDRESS_BYTES long; none where we only dial
        out.
        """
        ...

    def peers(self) -> list[str]: ...

    def peer_address(self, peer: str) -> str | None:
        """Where we dialed a connected peer, None where it dialed us: an inbound address can't be dialed."""
        ...

    def heard(self, peer: str) -> float:
        """When anything of a connected peer last came, in the seconds of ``trio.current_time``."""
        ...

    def host(self, peer: str) -> str:
        """The IP address that a connected peer is at, as its packets say, LOOPBACK on the same machine; "" where it
        can't be told."""
        ...

    def arrivals(self) -> trio.MemoryReceiveChannel[str]:
        """Peer ids as they connect, from either side. One reader; what it leaves lying is dropped."""
        ...

    async def connect(self, address: str) -> str:
        """Dial, in bounded time; the peer's id, also where we are connected already. Raises ConnectError."""
        ...

    async def disconnect(self, peer: str) -> None: ...

    async def subscribe(self, topic: str, validator: Validator) -> Inbox:
        """(forwarder, data) of valid messages by others on ``topic``. Once per topic."""
        ...

    def mesh(self, topic: str) -> int:
        """How many peers a message on ``topic`` is passed on to at once."""
        ...

    async def publish(self, topic: str, data: bytes) -> None:
        """Tell all who listen. ``data`` has at most MAX_MESSAGE_BYTES. Never raises for lack of listeners."""
        ...

    def judged_by(self, judge: Judge) -> None:
        """Tell a judge what peers do wrong, from now on, and take no connection from where it shuts out."""
        ...

    def relay_for(self, admits: Callable[[str], bool]) -> None:
        """Put peers through to each other that cannot dial each other, where ``admits`` says so of both."""
        ...

    def handle(self, protocol: str, handler: Handler) -> None:
        """Serve streams that peers open for ``protocol``, each in a task; see ``serve``."""
        ...

    async def open(self, peer: str, protocol: str) -> Stream:
        """A stream to a connected peer. Raises RemoteProtocolError("stream")."""
        ...


def fits(address: str) -> bool:
    """Whether an address of ours can be told to others."""
    return len(address.encode()) <= MOST_ADDRESS_BYTES


def peer_of(address: str) -> str:
    """The peer id at the end of an address. Raises ConnectError where there is none."""
    head, found, peer = address.rpartition("/p2p/")
    if not address.startswith("/"):
        raise ConnectError(f"{address}: not an address; expected one such as {EXAMPLE}")
    if not found or not head:
        raise ConnectError(f"{address}: no peer id; an address ends in /p2p/ and the id, as in {EXAMPLE}")
    try:
        public_key_of(peer)
    except RemoteProtocolError:
        raise ConnectError(f"{address}: {peer!r} is not a peer id; expected one such as {EXAMPLE}") from None
    return peer


async def serve(handler: Handler, stream: Stream, judge: Judge) -> None:
    """Run a handler to its end and close the stream. What goes wrong in it ends the stream, not the node; what the
    peer did wrong is counted.
    """
    try:
        await handler(stream)
    except RemoteProtocolError as error:
        log.info("a stream by %s ended: %s", stream.peer, error)
        judge.reject(error, stream.peer)
    except Exception:  # the boundary of everything a peer can start here
        log.exception("serving a stream by %s failed", stream.peer)
    finally:
        with trio.move_on_after(CLOSE_SECONDS) as scope:
            scope.shield = True
            await stream.aclose()


def accepts(validator: Validator, forwarder: str, data: bytes, judge: Judge) -> bool:
    """The validator's answer; False where it raises, since an error in it must not end the node."""
    if len(data) > MAX_MESSAGE_BYTES:
        judge.reject(RemoteProtocolError("oversize", f"a message of {len(data)} bytes"), forwarder)
        return False
    try:
        return validator(forwarder, data)
    except Exception:  # the boundary of everything a message can start here
        log.exception("the validator failed on a message by %s", forwarder)
        return False

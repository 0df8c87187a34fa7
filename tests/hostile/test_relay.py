"""Who misuses a relay, or a node that is called through one: the bounds hold, and each refusal is counted."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.identity.identify.identify import ID as IDENTIFY
from libp2p.network.stream.exceptions import StreamEOF, StreamReset
from libp2p.peer.id import ID
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb

from gossip import reach, relay, swarm
from gossip.circuit import ANSWER_SECONDS, DCUTR, HOP, STOP, opened, raw, tell, told
from gossip.gate import Door
from gossip.libp2p_transport import Libp2pTransport, open_transport
from gossip.overrides import MOST_STREAMS
from gossip.transport import CIRCUIT, ConnectError, Stream
from protocol.errors import RemoteProtocolError
from tests.gossip.members import SWARM_ID, Member, identity, real_ms
from tests.left import tasks
from tests.waiting import until

LOCAL = "/ip4/127.0.0.1/tcp/0"
SECONDS = 20.0
#: The length is right, and what follows is no protobuf.
NO_MESSAGE = b"\x05\xff\xff\xff\xff\xff"
RESERVE = pb.HopMessage(type=pb.HopMessage.RESERVE)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(reach, "ASK_AGAIN_SECONDS", 0.4)
    monkeypatch.setattr(swarm, "ENOUGH", 0)  # they dial nobody by themselves


@dataclass
class Scene:
    """A relay, a member that holds a reservation there, and an attacker, who is connected to the relay."""

    relay: Member
    home: Member
    evil: Libp2pTransport
    refused: Counter[str]

    async def asks(self, question: Any, to: str = "") -> tuple[Any, Any]:
        """The attacker's stream, and the status that it was answered."""
        stream = await opened(self.evil._host, to or self.relay.transport.peer_id, HOP)
        await tell(stream, question)
        return stream, (await told(stream, pb.HopMessage)).status

    async def calls_home(self) -> tuple[Any, Any]:
        called = pb.PeerId(id=ID.from_base58(self.home.transport.peer_id).to_bytes())
        return await self.asks(pb.HopMessage(type=pb.HopMessage.CONNECT, peer=called))

    @property
    def circuit(self) -> str:
        """Where the member is called."""
        return f"{self.relay.address}{CIRCUIT}/p2p/{self.home.transport.peer_id}"

    async def puts_through(self, number: int, to: str) -> tuple[Any, Any]:
        """A call that the attacker makes up, and what it was answered."""
        stream = await opened(self.evil._host, to, STOP)
        caller = pb.PeerId(id=ID.from_base58(identity(number).peer_id).to_bytes())
        await tell(stream, pb.StopMessage(type=pb.StopMessage.CONNECT, peer=caller))
        return stream, (await told(stream, pb.StopMessage)).status

    @property
    def reach(self) -> reach.Reach:
        """Of the member that is called."""
        assert isinstance(self.home.transport, Libp2pTransport)
        return self.home.transport._reach

    @property
    def served(self) -> Any:
        assert isinstance(self.relay.transport, Libp2pTransport)
        return self.relay.transport._relay


@asynccontextmanager
async def scene(evil_swarm: bytes = SWARM_ID) -> AsyncIterator[Scene]:
    """The attacker is a member of the swarm as far as the relay can tell, or of another one."""
    refused: Counter[str] = Counter()
    door = Door(on_refused=lambda reason: refused.update([reason]))
    async with (
        open_transport(identity(1), [LOCAL], door=door) as one,
        open_transport(identity(2), door=door) as two,
        open_transport(identity(66), [LOCAL]) as evil,
        trio.open_nursery() as nursery,
    ):
        public, home = Member(1, one, clock_ms=real_ms), Member(2, two, clock_ms=real_ms)
        stranger = Member(66, evil, clock_ms=real_ms, swarm_id=evil_swarm)
        for member in (public, home) if evil_swarm != SWARM_ID else (public, home, stranger):
            await nursery.start(member.swarm.run)
        for member in (home, stranger):
            await member.transport.connect(public.address)
        await until(lambda: bool(two.addresses()), SECONDS)
        if evil_swarm == SWARM_ID:
            await until(lambda: evil.peer_id in public.swarm.presences(), SECONDS)
        refused.clear()  # a member may ask before the relay has heard of it
        yield Scene(public, home, evil, refused)
        assert two.addresses(), "the honest member keeps its reservation"
        nursery.cancel_scope.cancel()


async def test_a_relay_is_there_for_its_own_swarm_alone() -> None:
    async with scene(bytes(32)) as found:
        for _, status in (await found.asks(RESERVE), await found.calls_home()):
            assert status == pb.PERMISSION_DENIED
        assert found.refused == {"relay": 2}
        assert found.served.reservations == [found.home.transport.peer_id]


async def test_nobody_reserves_in_anothers_name() -> None:
    async with scene() as found:
        other = pb.PeerId(id=ID.from_base58(identity(9).peer_id).to_bytes())
        _, status = await found.asks(pb.HopMessage(type=pb.HopMessage.RESERVE, peer=other))
        assert status == pb.OK
        assert set(found.served.reservations) == {found.home.transport.peer_id, found.evil.peer_id}


async def test_reservations_are_bounded_and_end_with_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as found:
        monkeypatch.setattr(relay, "MOST_RESERVATIONS", 1)
        _, status = await found.asks(RESERVE)
        assert status == pb.RESOURCE_LIMIT_EXCEEDED
        monkeypatch.setattr(relay, "MOST_RESERVATIONS", 2)
        assert (await found.asks(RESERVE))[1] == pb.OK
        await found.evil.disconnect(found.relay.transport.peer_id)
        await until(lambda: found.evil.peer_id not in found.served.reservations, SECONDS)
        assert found.refused["relay"] == 1


async def test_circuits_of_one_peer_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """The called one is as well: it takes one call of a peer at a time."""
    monkeypatch.setattr(relay, "CIRCUITS_OF_A_PEER", 1)
    async with scene() as found:
        stream, status = await found.calls_home()
        assert status == pb.OK
        assert (await found.calls_home())[1] == pb.RESOURCE_LIMIT_EXCEEDED
        monkeypatch.setattr(relay, "CIRCUITS_OF_A_PEER", 4)
        assert (await found.calls_home())[1] == pb.CONNECTION_FAILED
        await stream.reset()
        await until(lambda: not found.served._open and not found.served._circuits, SECONDS)
        assert found.refused["relay"] == 1


async def until_over(stream: Any) -> None:
    with suppress(BaseLibp2pError, EOFError), trio.fail_after(SECONDS):
        while await stream.read(1024):
            pass


async def test_a_circuit_that_says_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "CIRCUIT_SECONDS", 1)
    async with scene() as found:
        stream, status = await found.calls_home()
        assert status == pb.OK
        await until_over(stream)
        await until(lambda: not found.served._open, SECONDS)


class End:
    """One end of a circuit, whose other end says so much and takes what it is given."""

    def __init__(self, says: int) -> None:
        self._left = says
        self.taken = 0
        self.muxed_stream = self.conn = self
        self.stream_id = 0
        self.stream_events = {0: trio.Event()}

    async def read(self, most: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._left:
            await self.stream_events[0].wait()
        size = min(most, self._left)
        self._left -= size
        return bytes(size)

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.taken += len(data)


async def test_what_a_circuit_carries_is_bounded_both_ways_together() -> None:
    one, other = End(3 * relay.CIRCUIT_BYTES), End(relay.CIRCUIT_BYTES)
    with trio.fail_after(SECONDS):
        await relay.carry(one, other)
    assert relay.CIRCUIT_BYTES - 2 * relay.PIECE < one.taken + other.taken <= relay.CIRCUIT_BYTES


async def test_nobody_but_a_relay_puts_a_call_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "RELAYS", 1)
    async with scene() as found:
        home = found.home.transport
        await home.connect(found.evil.addresses()[0])
        _, status = await found.puts_through(9, home.peer_id)
        assert status == pb.PERMISSION_DENIED
        assert found.refused == {"call": 1}


async def test_a_relay_that_makes_up_calls_is_bounded_and_does_not_stand_in_the_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At a time and in a time, whatever names it says; who calls through another relay is answered."""
    monkeypatch.setattr(reach, "RELAYED_A_SECOND", 0.0)
    most, burst = reach.CALLS_OF_A_RELAY, round(reach.RELAYED_BURST)
    async with scene() as found, called_by(found) as friend:
        home = found.home.transport
        await home.connect(found.evil.addresses()[0])
        await until(lambda: found.evil.peer_id in found.reach._relays, SECONDS)
        taken = [(await found.puts_through(number, home.peer_id))[1] for number in range(100, 100 + 2 * most)]
        assert taken == [pb.OK] * most + [pb.PERMISSION_DENIED] * most
        assert found.refused == {"call": most}
        await friend.connect(found.circuit)
        await until(lambda: friend.peer_id in home.peers(), SECONDS)
        monkeypatch.setattr(reach, "CALLS_OF_A_RELAY", 2 * burst)
        taken = []
        for number in range(200, 200 + burst):
            stream, status = await found.puts_through(number, home.peer_id)
            taken.append(status)
            await stream.reset()
        assert taken == [pb.OK] * (burst - most) + [pb.PERMISSION_DENIED] * most
        assert found.refused == {"call": 2 * most}


@asynccontextmanager
async def called_by(found: Scene) -> AsyncIterator[Libp2pTransport]:
    """One more member that only dials, whom the relay knows."""
    async with open_transport(identity(3)) as transport, trio.open_nursery() as nursery:
        await nursery.start(Member(3, transport, clock_ms=real_ms).swarm.run)
        await transport.connect(found.relay.address)
        await until(lambda: transport.peer_id in found.relay.swarm.presences(), SECONDS)
        found.refused.clear()
        yield transport
        nursery.cancel_scope.cancel()


async def test_who_calls_and_hangs_on_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens many streams in the circuit and never agrees on a moment; so it does again and again."""
    monkeypatch.setattr(reach, "AGREE_SECONDS", 8.0)  # the streams are opened within, also on a busy machine
    async with scene() as found:
        home = ID.from_base58(found.home.transport.peer_id)
        found.evil._host.set_stream_handler(DCUTR, until_over)
        before = tasks()
        for _ in range(2):
            stream, status = await found.calls_home()
            assert status == pb.OK
            ends = raw(stream, found.circuit, initiator=True)
            await found.evil._network.upgrade_outbound_raw_conn(ends, home)
            for _ in range(2 * MOST_STREAMS):
                await found.evil._network.new_stream(home)
            await until(lambda: tasks() >= before + MOST_STREAMS, SECONDS)
            await until(lambda: not found.reach._answering and not found.served._open, SECONDS)
        await until(lambda: tasks() <= before + MOST_STREAMS // 8, SECONDS)  # the scene's own come and go


async def test_one_caller_is_answered_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "CALLED_A_SECOND", 0.0)
    async with scene() as found:
        answers = []
        for _ in range(round(reach.CALLED_BURST) + 2):
            stream, status = await found.calls_home()
            answers.append(status)
            await stream.reset()
            await until(lambda: not found.reach._answering and not found.served._open, SECONDS)
        assert answers == [pb.OK] * round(reach.CALLED_BURST) + [pb.CONNECTION_FAILED] * 2
        assert found.refused["call"] == 2


async def test_one_caller_that_calls_without_end_takes_nothing_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """It spends what is its own, and then nothing of what its relay may put through."""
    monkeypatch.setattr(reach, "CALLED_A_SECOND", 0.0)
    monkeypatch.setattr(reach, "RELAYED_A_SECOND", 0.0)
    async with scene() as found:
        home = found.home.transport
        await home.connect(found.evil.addresses()[0])
        await until(lambda: found.evil.peer_id in found.reach._relays, SECONDS)
        for number in [100] * round(reach.CALLED_BURST + reach.RELAYED_BURST) + [101]:
            stream, status = await found.puts_through(number, home.peer_id)
            await stream.reset()
            await until(lambda: not found.reach._answering, SECONDS)
        assert status == pb.OK


@pytest.mark.parametrize("protocol", ["/greet/1", "/meshsub/1.1.0"])
async def test_nothing_but_the_way_to_a_direct_connection_is_spoken_through_a_circuit(protocol: str) -> None:
    async def greet(stream: Stream) -> None:
        await stream.send(b"hello")

    async with scene() as found:
        home = ID.from_base58(found.home.transport.peer_id)
        found.home.transport.handle("/greet/1", greet)
        found.evil._host.set_stream_handler(DCUTR, until_over)
        stream, status = await found.calls_home()
        assert status == pb.OK
        ends = raw(stream, found.circuit, initiator=True)
        await found.evil._network.upgrade_outbound_raw_conn(ends, home)
        inner = await found.evil._host.new_stream(home, [TProtocol(protocol)])
        with trio.fail_after(reach.AGREE_SECONDS / 2), pytest.raises((StreamReset, StreamEOF)):  # long before its end
            await inner.read(1)


async def test_a_relay_that_does_not_say_where_it_sees_us_holds_up_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call has its limit from the answer on; without one the relay is waited for."""
    monkeypatch.setattr(reach, "AGREE_SECONDS", 0.5)
    async with scene() as found:
        home = found.home.transport
        await home.connect(found.evil.addresses()[0])
        await until(lambda: found.evil.peer_id in found.reach._relays, SECONDS)
        found.evil._host.set_stream_handler(IDENTIFY, until_over)
        begun = trio.current_time()
        _, status = await found.puts_through(100, home.peer_id)
        assert status == pb.OK
        await until(lambda: not found.reach._answering, SECONDS)
        assert trio.current_time() - begun < ANSWER_SECONDS


async def test_a_relay_that_answers_what_no_status_is_named_harms_nobody() -> None:
    async with scene() as found:

        async def answer(stream: Any) -> None:
            await told(stream, pb.HopMessage)
            await tell(stream, pb.HopMessage.FromString(b"\x08\x02\x28\xd7\x63"))

        found.evil._host.set_stream_handler(HOP, answer)
        home = found.home.transport
        await home.connect(found.evil.addresses()[0])
        with pytest.raises(ConnectError, match="the relay says 12759"):
            await home.connect(f"{found.evil.addresses()[0]}{CIRCUIT}/p2p/{identity(9).peer_id}")


@pytest.mark.parametrize("protocol", [HOP, STOP, DCUTR], ids=["hop", "stop", "dcutr"])
@pytest.mark.parametrize("data", [b"", b"\xff" * 20, NO_MESSAGE, b"\x02\x08\x09"])
async def test_garbage_is_counted_and_harms_nobody(protocol: Any, data: bytes) -> None:
    async with scene() as found:
        for _ in range(8):
            with suppress(RemoteProtocolError):
                stream = await opened(found.evil._host, found.relay.transport.peer_id, protocol)
                with suppress(BaseLibp2pError):
                    await stream.write(data)
                    await stream.close()
        if data == NO_MESSAGE and protocol != DCUTR:  # which is heard within a call alone
            await until(lambda: found.refused["malformed"] == 8, SECONDS)
        record = found.relay.note(1)
        await found.relay.swarm.publish(record)
        await until(lambda: record.id in found.home.records, SECONDS)

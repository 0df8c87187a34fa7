"""Peers that nobody can dial are called through a relay of their swarm, and then a direct way is found.

On one machine no NAT stands in between: tests/chaos/test_nat.py has real ones.
"""

import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_address
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from libp2p.relay.circuit_v2.pb.dcutr_pb2 import HolePunch
from multiaddr import Multiaddr

from gossip import circuit, punch, reach, swarm
from gossip.circuit import HOP, split, tell, told
from gossip.connections import relayed
from gossip.gate import Door
from gossip.libp2p_transport import Libp2pTransport, open_transport
from gossip.punch import Spot, agreed, unpack
from gossip.transport import CIRCUIT, ConnectError, fits
from protocol.errors import RemoteProtocolError
from tests.gossip.members import Member, identity, real_ms
from tests.left import descriptors, tasks
from tests.waiting import until

LOCAL = "/ip4/127.0.0.1/tcp/0"
SECONDS = 20.0
KEY = bytes(range(32))
CALLS = 12


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(reach, "ASK_AGAIN_SECONDS", 0.4)
    monkeypatch.setattr(swarm, "ENOUGH", 0)  # they dial nobody by themselves


@asynccontextmanager
async def homes(
    count: int = 2, *, key: bytes | None = None, doors: Sequence[Door | None] = (None, None)
) -> AsyncIterator[list[Member]]:
    """One member that listens, and others that only dial and have dialed it."""
    async with AsyncExitStack() as stack:
        public = await stack.enter_async_context(open_transport(identity(1), [LOCAL], key=key))
        members = [Member(1, public, clock_ms=real_ms)]
        for number in range(count):
            dialing = open_transport(identity(2 + number), key=key, door=doors[number])
            transport = await stack.enter_async_context(dialing)
            members.append(Member(2 + number, transport, clock_ms=real_ms))
        async with trio.open_nursery() as nursery:
            for member in members:
                await nursery.start(member.swarm.run)
            for member in members[1:]:
                await member.transport.connect(public.addresses()[0])
            await until(lambda: all(member.transport.addresses() for member in members), SECONDS)
            yield members
            nursery.cancel_scope.cancel()


async def meet(one: Member, other: Member) -> None:
    await one.transport.connect(other.address)
    await until(lambda: one.transport.peer_id in other.transport.peers(), SECONDS)


async def test_a_node_that_cannot_be_dialed_tells_of_its_circuit_while_it_has_one() -> None:
    async with homes(1) as (public, home):
        assert home.transport.addresses() == [f"{public.address}{CIRCUIT}/p2p/{home.transport.peer_id}"]
        assert not [one for one in public.transport.addresses() if CIRCUIT in one]
        await home.transport.disconnect(public.transport.peer_id)
        assert home.transport.addresses() == []


@pytest.mark.parametrize("key", [None, KEY], ids=["open", "private"])
async def test_two_that_cannot_be_dialed_meet_and_need_the_relay_no_more(key: bytes | None) -> None:
    async with homes(key=key) as (public, one, other):
        dialed = other.address
        await meet(one, other)
        assert one.transport.peer_address(other.transport.peer_id) == dialed
        assert one.transport.host(other.transport.peer_id) == "127.0.0.1", "it is direct"
        for home in (one, other):
            await home.transport.disconnect(public.transport.peer_id)
        record = one.note(1)
        await one.swarm.publish(record)
        await until(lambda: record.id in other.records, SECONDS)
        assert isinstance(public.transport, Libp2pTransport)
        relay = public.transport._relay
        await until(lambda: not relay._open, SECONDS)


@pytest.mark.parametrize("way", [True, False], ids=["a way", "no way"])
async def test_calls_leave_nothing_behind(way: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a direct way is found or not, while the connections to the relay stay."""
    monkeypatch.setattr(reach, "CALLED_BURST", 2.0 * CALLS)
    if not way:
        monkeypatch.setattr(punch, "PUNCH_SECONDS", 0.0)
        monkeypatch.setattr(reach, "NO_WAY_SECONDS", 0.0)
    async with homes() as (_, one, other):

        async def call() -> None:
            if way:
                await meet(one, other)
                await one.transport.disconnect(other.transport.peer_id)
                await until(lambda: one.transport.peer_id not in other.transport.peers(), SECONDS)
            else:
                with pytest.raises(ConnectError, match="no way was found"):
                    await one.transport.connect(other.address)
            await until(lambda: not answers(other), SECONDS)  # who is called knows of the end a little later

        await call()
        before, open_before = tasks(), descriptors()
        for _ in range(CALLS):
            await call()
        await until(lambda: tasks() <= before and descriptors() <= open_before, SECONDS)


async def test_nothing_is_gossiped_through_a_circuit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream whatever connection is first is gossiped through."""
    seen: list[set[str]] = []

    async def look_and_punch(*args: Any, **options: Any) -> Any:
        for home in (one, other):
            assert any(relayed(muxed) for muxed in muxers(home))
            assert isinstance(home.transport, Libp2pTransport)
            seen.append(set(map(str, home.transport._pubsub.peers)))
        return await punch.punch(*args, **options)

    monkeypatch.setattr(reach, "punch", look_and_punch)
    async with homes() as (public, one, other):
        await meet(one, other)
        assert seen == [{public.transport.peer_id}] * 4
        await until(lambda: gossips(one, other) and gossips(other, one), SECONDS)


def answers(member: Member) -> bool:
    """Whether it is being called."""
    assert isinstance(member.transport, Libp2pTransport)
    return bool(member.transport._reach._answering)


def gossips(one: Member, other: Member) -> bool:
    assert isinstance(one.transport, Libp2pTransport)
    return other.transport.peer_id in map(str, one.transport._pubsub.peers)


def muxers(member: Member) -> list[Any]:
    """Of all connections of a member."""
    assert isinstance(member.transport, Libp2pTransport)
    connections = member.transport._network.get_connections_map()
    return [one.muxed_conn for some in connections.values() for one in some]


async def test_of_two_that_call_each_other_one_gets_through() -> None:
    async with homes() as (_, one, other), trio.open_nursery() as nursery:

        async def call(caller: Member, called: str) -> None:
            with suppress(ConnectError):
                await caller.transport.connect(called)

        nursery.start_soon(call, one, other.address)
        nursery.start_soon(call, other, one.address)
        await until(lambda: one.transport.peer_id in other.transport.peers(), SECONDS)
        await until(lambda: other.transport.peer_id in one.transport.peers(), SECONDS)


async def test_a_peer_is_called_once_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while it is not yet known where we are to be expected."""
    begun, refused = trio.Event(), trio.Event()

    async def wait_and_look(*args: Any) -> Spot:
        begun.set()
        await refused.wait()
        return await punch.own_spot(*args)

    async with homes() as (_, one, other):
        monkeypatch.setattr(reach, "own_spot", wait_and_look)
        assert isinstance(one.transport, Libp2pTransport)
        call = one.transport._reach.dial
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call, other.address)
            await begun.wait()
            with pytest.raises(ConnectError, match="being called already"), trio.fail_after(SECONDS):
                await call(other.address)
            refused.set()
        assert other.transport.peer_id in one.transport.peers()


async def test_a_reservation_stands_while_it_is_renewed_until_the_relay_refuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A relay that says nothing is asked again, and not all the time."""
    asked: list[float] = []
    refuses = trio.Event()

    async def answer(stream: Any) -> None:
        await told(stream, pb.HopMessage)
        asked.append(trio.current_time())
        if refuses.is_set():
            await tell(stream, pb.HopMessage(type=pb.HopMessage.STATUS, status=pb.PERMISSION_DENIED))
        else:
            await trio.sleep_forever()

    async with homes(1) as (public, home):
        assert isinstance(public.transport, Libp2pTransport)
        assert isinstance(home.transport, Libp2pTransport)
        public.transport._host.set_stream_handler(HOP, answer)
        monkeypatch.setattr(circuit, "ANSWER_SECONDS", 0.5)
        monkeypatch.setattr(reach, "ASK_AGAIN_SECONDS", 3.0)
        relays, own = home.transport._reach._relays, home.transport.addresses()
        relays[public.transport.peer_id] = (public.address, trio.current_time())
        told_of: set[tuple[str, ...]] = set()

        def asked_twice() -> bool:
            told_of.add(tuple(home.transport.addresses()))
            return len(asked) >= 2

        await until(asked_twice, SECONDS)
        assert told_of == {tuple(own)}
        assert asked[1] - asked[0] >= reach.ASK_AGAIN_SECONDS / 2  # each takes its time on its way
        refuses.set()
        await until(lambda: not home.transport.addresses(), SECONDS)


async def test_a_reservation_that_is_not_renewed_comes_to_its_end() -> None:
    async def say_nothing(stream: Any) -> None:
        await trio.sleep_forever()

    async with homes(1) as (public, home):
        assert isinstance(public.transport, Libp2pTransport)
        assert isinstance(home.transport, Libp2pTransport)
        public.transport._host.set_stream_handler(HOP, say_nothing)
        long_ago = trio.current_time() - reach.RENEW_SECONDS
        home.transport._reach._relays[public.transport.peer_id] = (public.address, long_ago)
        await until(lambda: not home.transport.addresses(), SECONDS)


async def test_who_lets_in_only_some_is_not_called_by_others() -> None:
    refused: list[str] = []
    door = Door([identity(1).peer_id], refused.append)
    async with homes(doors=(None, door)) as (_, one, other):
        with pytest.raises(ConnectError, match="relay says CONNECTION_FAILED"):
            await one.transport.connect(other.address)
        assert one.transport.peer_id not in other.transport.peers()


async def test_a_relay_without_a_reservation_says_so() -> None:
    async with homes() as (public, one, other):
        await other.transport.disconnect(public.transport.peer_id)
        address = f"{public.address}{CIRCUIT}/p2p/{other.transport.peer_id}"
        with pytest.raises(ConnectError, match="NO_RESERVATION"):
            await one.transport.connect(address)


async def test_a_relay_whose_circuits_are_too_long_to_be_told_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """It chooses how long its address is, and a presence with an address over the bound cannot be signed."""
    monkeypatch.setattr(socket, "getaddrinfo", in_this_room(socket.getaddrinfo))
    async with open_transport(identity(1), [LOCAL]) as public, open_transport(identity(2)) as home:
        members = [Member(1, public, clock_ms=real_ms), Member(2, home, clock_ms=real_ms)]
        async with trio.open_nursery() as nursery:
            for member in members:
                await nursery.start(member.swarm.run)
            port = public.addresses()[0].split("/")[4]
            long = f"/dns4/{'.'.join(['x' * 40] * 4)}.example/tcp/{port}/p2p/{public.peer_id}"
            assert fits(long)
            assert not fits(f"{long}{CIRCUIT}/p2p/{home.peer_id}")
            await home.connect(long)
            await until(lambda: home.peer_id in members[0].swarm.presences(), SECONDS)
            assert home._reach._relay_address(public.peer_id) is None
            assert home.addresses() == []
            await home.disconnect(public.peer_id)
            await home.connect(public.addresses()[0])
            await until(lambda: bool(home.addresses()), SECONDS)
            nursery.cancel_scope.cancel()


def in_this_room(original: Any) -> Any:
    """A resolver that knows one name more, however long."""

    def resolve(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        return original("127.0.0.1" if name and name.endswith(".example") else host, *args, **options)

    return resolve


async def test_an_address_that_is_too_long_to_be_told_is_left_out() -> None:
    names = [f"/dns4/{'.'.join(['x' * 50] * size)}.example/tcp/4001" for size in (1, 4)]
    async with open_transport(identity(1), announce=names) as node:
        assert node.addresses() == [f"{names[0]}/p2p/{node.peer_id}"]


async def test_an_announced_node_needs_no_relay() -> None:
    async with (
        open_transport(identity(1), [LOCAL]) as public,
        open_transport(identity(2), announce=["/dns4/node.example/tcp/4001"]) as home,
    ):
        assert await home.connect(public.addresses()[0])
        assert not [one for one in home.addresses() if CIRCUIT in one]


# ---- what peers say of where they are


@given(st.binary(max_size=64))
def test_any_bytes_are_an_address_or_none(data: bytes) -> None:
    spot = unpack(data)
    assert spot is None or data.startswith(spot.packed)


@pytest.mark.parametrize("ip", ["192.0.2.7", "2001:db8::7"])
def test_addresses_are_multiaddrs(ip: str) -> None:
    spot = Spot(ip_address(ip), 4001)
    assert spot.packed == Multiaddr(f"/ip{spot.ip.version}/{ip}/tcp/4001").to_bytes()
    assert unpack(spot.packed) == spot


def at(*ips: str) -> HolePunch:
    return HolePunch(type=HolePunch.CONNECT, ObsAddrs=[Spot(ip_address(one), 4001).packed for one in ips])


def test_nobody_sends_us_into_our_own_network() -> None:
    own = Spot(ip_address("9.9.9.9"), 1)
    for ip in ("127.0.0.1", "192.168.0.1", "169.254.169.254", "224.0.0.1", "0.0.0.0", "2606:4700::1"):
        with pytest.raises(RemoteProtocolError, match="names no address"):
            agreed(at(ip), own)
    assert agreed(at("10.0.0.1", "8.8.8.8"), own).ip == ip_address("8.8.8.8")
    assert agreed(at("192.168.0.1"), Spot(ip_address("192.168.0.2"), 1)).port == 4001
    with pytest.raises(RemoteProtocolError, match="no address"):
        agreed(HolePunch(type=HolePunch.SYNC), own)


def test_an_address_has_a_relay_or_not() -> None:
    assert split("/ip4/192.0.2.7/tcp/1/p2p/a/p2p-circuit/p2p/b") == ("/ip4/192.0.2.7/tcp/1/p2p/a", "b")
    assert split("/ip4/192.0.2.7/tcp/1/p2p/a") == ("", "")

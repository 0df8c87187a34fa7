"""What must hold of libp2p as we use it, each test for one trap of py-libp2p 0.8.1, measured or read.

Of what peers garble there is more in tests/gossip/test_garbage.py, of streams in tests/gossip/test_streams.py.
"""

import asyncio
import logging
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

import pytest
import trio
import trio.testing
import uvloop
from libp2p import new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.relay.circuit_v2.dcutr import DCUtRProtocol
from libp2p.relay.circuit_v2.pb import circuit_pb2 as pb
from libp2p.relay.circuit_v2.protocol import PROTOCOL_ID, CircuitV2Protocol
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr import Multiaddr

from gossip import libp2p_transport, punch
from gossip.circuit import HOP, opened, tell, told
from gossip.libp2p_transport import Libp2pTransport, open_transport
from gossip.transport import ConnectError, Stream
from protocol.errors import UserError
from tests.gossip.members import identity
from tests.gossip.nodes import LOCAL, SECONDS, alive, anything, free_port, pair
from tests.waiting import until


async def test_gossip_after_a_quick_restart_is_not_taken_for_old() -> None:
    """Sequence numbers begin at whole seconds upstream: of 40 messages after a restart 36 were lost."""
    async with open_transport(identity(1), [LOCAL]) as one:
        inbox = await one.subscribe("bees", anything)
        heard: set[bytes] = set()

        async def listen() -> None:
            async for _, data in inbox:
                heard.add(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            for life in range(2):
                async with open_transport(identity(2)) as two:
                    await two.subscribe("bees", anything)
                    await two.connect(one.addresses()[0])
                    await until(lambda: two._pubsub.peer_topics.get("bees"))  # type: ignore[arg-type]
                    sent = {b"%d of life %d" % (number, life) for number in range(40)}
                    for data in sorted(sent):
                        await two.publish("bees", data)
                    await until(lambda: sent <= heard)  # noqa: B023
            nursery.cancel_scope.cancel()


async def test_what_two_publish_is_one_message() -> None:
    """Upstream a message is named by its publisher and number, so a record that several tell is delivered as often."""
    async with pair() as (one, two), open_transport(identity(3)) as three:
        inbox = await one.subscribe("bees", anything)
        await three.connect(one.addresses()[0])
        with trio.fail_after(SECONDS):
            for publisher, own in ((two, b"by two"), (three, b"by three")):
                await until(lambda: publisher._pubsub.peer_topics.get("bees"))  # type: ignore[arg-type]  # noqa: B023
                for data in (b"same", own):
                    await publisher.publish("bees", data)
            heard = [(await inbox.receive())[1] for _ in range(3)]
        assert sorted(heard) == [b"by three", b"by two", b"same"]


async def test_peers_that_come_while_a_node_starts_do_not_end_it() -> None:
    """Upstream a peer that connects before pubsub runs ends the host; so the node listens last."""
    port = free_port()
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{identity(1).peer_id}"
    async with open_transport(identity(2)) as two, open_transport(identity(3)) as three:

        async def hammer(node: Libp2pTransport) -> None:
            while True:
                with suppress(ConnectError):
                    await node.connect(address)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hammer, two)
            nursery.start_soon(hammer, three)
            for _ in range(2):
                async with open_transport(identity(1), [f"/ip4/127.0.0.1/tcp/{port}"]) as one:
                    await until(lambda: len(one.peers()) == 2)
                    await alive(one)
            nursery.cancel_scope.cancel()


async def test_connections_that_end_leave_nothing_behind() -> None:
    """Upstream each inbound connection keeps a task and a token of a limiter, which is exhausted for ever in
    the end.
    """
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        for _ in range(5):
            await two.connect(one.addresses()[0])
            await until(lambda: one.peers() == [two.peer_id])
            await two.disconnect(one.peer_id)
            await until(lambda: not one.peers())
        await until(lambda: one._network._inbound_limiter.borrowed_tokens == 0)


async def test_only_noise_is_spoken() -> None:
    """The default host also takes plaintext, where a peer may claim any identity."""
    keys = create_new_key_pair(identity(5).seed)
    async with open_transport(identity(1), [LOCAL]) as one:
        plain = new_host(
            key_pair=keys, sec_opt={TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(keys)}
        )
        async with plain.run(listen_addrs=[]):
            with pytest.raises(Exception, match="unable to connect"), trio.fail_after(SECONDS):
                await plain.connect(info_from_p2p_addr(Multiaddr(one.addresses()[0])))
            await plain.close()
        assert one.peers() == []


async def test_another_peer_than_expected_is_named() -> None:
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        wrong = one.addresses()[0].replace(one.peer_id, identity(9).peer_id)
        with pytest.raises(ConnectError, match=f"another peer answers there; its id is {one.peer_id}"):
            await two.connect(wrong)


async def test_a_dial_that_failed_can_be_repeated_at_once() -> None:
    """Upstream bars a peer for a minute after a failed dial."""
    port = free_port()
    address = f"/ip4/127.0.0.1/tcp/{port}/p2p/{identity(1).peer_id}"
    async with open_transport(identity(2)) as two:
        with pytest.raises(ConnectError, match="connection refused"):
            await two.connect(address)
        async with open_transport(identity(1), [f"/ip4/127.0.0.1/tcp/{port}"]):
            assert await two.connect(address) == identity(1).peer_id


async def test_an_address_is_dialed_and_not_another_that_the_peer_is_known_by() -> None:
    async with pair() as (one, two):
        wrong = f"/ip4/127.0.0.1/tcp/1/p2p/{one.peer_id}"
        await two.disconnect(one.peer_id)
        await until(lambda: not two.peers())
        with pytest.raises(ConnectError, match="connection refused"):
            await two.connect(wrong)


async def test_two_nodes_of_one_user_do_not_share_a_port() -> None:
    """libp2p listens with SO_REUSEPORT, so the second bind would succeed and take half of the connections."""
    async with open_transport(identity(1), [LOCAL]) as one:
        taken = one.addresses()[0].rpartition("/p2p/")[0]
        with pytest.raises(UserError, match=f"cannot listen at {taken}: its port is in use"):
            async with open_transport(identity(2), [taken]):
                pass


@pytest.mark.parametrize(
    "address",
    ["/ip4/127.0.0.1/udp/1", "/ip4/127.0.0.1", "nonsense", "/dns4/localhost/tcp/1", "/ip4/192.0.2.1/tcp/1"],
)
async def test_a_place_where_one_cannot_listen_is_named(address: str) -> None:
    with pytest.raises(UserError, match=f"cannot listen at {address}"):
        async with open_transport(identity(1), [address]):
            pass


@pytest.mark.parametrize("host", ["/ip6/::1", "/dns4/localhost"])
async def test_other_kinds_of_addresses(host: str) -> None:
    listen = "/ip6/::1/tcp/0" if host.startswith("/ip6") else LOCAL
    try:
        async with open_transport(identity(1), [listen]) as one, open_transport(identity(2)) as two:
            port = one.addresses()[0].split("/")[4]
            assert await two.connect(f"{host}/tcp/{port}/p2p/{one.peer_id}") == one.peer_id
    except UserError as error:
        pytest.skip(f"this machine has no such network: {error}")


async def test_a_node_that_listens_everywhere_names_real_addresses() -> None:
    async with open_transport(identity(1), ["/ip4/0.0.0.0/tcp/0"], ["/dns4/bees.example/tcp/4001"]) as one:
        assert one.addresses()[0] == f"/dns4/bees.example/tcp/4001/p2p/{one.peer_id}"
        assert not any("0.0.0.0" in address for address in one.addresses())
        assert one.addresses()[-1].startswith("/ip4/127.0.0.1/")


async def test_what_the_block_raises_is_not_wrapped() -> None:
    with pytest.raises(UserError, match="a line"):
        async with open_transport(identity(1), [LOCAL]):
            raise UserError("a line")


async def test_nobody_is_dialed_unasked() -> None:
    """Upstream dials all peers that it knows, which would undo every disconnect."""
    async with pair() as (one, two):
        await two.disconnect(one.peer_id)
        await until(lambda: not one.peers() and not two.peers())
        await two._network.auto_connector.maybe_connect()
        assert not two.peers()


async def test_a_failed_dial_says_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with open_transport(identity(1)) as one:
        with pytest.raises(ConnectError):
            await one.connect(f"/ip4/127.0.0.1/tcp/1/p2p/{identity(2).peer_id}")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_closed_node_leaves_no_connection_behind() -> None:
    async with open_transport(identity(1), [LOCAL]) as one:
        async with open_transport(identity(2)) as two:
            await two.connect(one.addresses()[0])
            await until(lambda: one.peers() == [two.peer_id])
        await until(lambda: not one.peers())


def _add_stranger(store: Any, number: int) -> None:
    """Make the store know one more peer."""
    key = create_new_key_pair(number.to_bytes(32, "big")).public_key
    peer = ID.from_pubkey(key)
    store.add_pubkey(peer, key)
    store.add_addr(peer, Multiaddr("/ip4/192.0.2.7/tcp/1"), 3600)


@pytest.mark.parametrize("by", ["every five minutes", "with every address"])
async def test_a_thousand_strangers_do_not_make_a_node_forget_itself_or_its_peers(by: str) -> None:
    """They have been there, and left; some came before the peers that are here."""
    async with pair() as (one, two):
        store = one._network.peerstore
        known = dict(store.peer_data_map)
        store.peer_data_map.clear()
        for number in range(100, 100 + store.max_peers + 50):
            _add_stranger(store, number)
        store.peer_data_map.update(known)
        if by == "with every address":
            _add_stranger(store, 99)
        else:
            store._cleanup_expired_records()
        assert len(store.peer_data_map) == store.max_peers
        inbox = await two.subscribe("here", anything)
        await one.subscribe("here", anything)
        with trio.fail_after(SECONDS):
            while True:
                await one.publish("here", b"still here")
                with trio.move_on_after(0.5):
                    assert await inbox.receive() == (one.peer_id, b"still here")
                    break
        assert (await one.open(two.peer_id, "/ipfs/ping/1.0.0")).peer == two.peer_id


def test_upstream_a_node_forgets_itself() -> None:
    """Where this fails, ``keep_known`` in gossip/overrides.py is not needed any more."""
    host = new_host(key_pair=create_new_key_pair(bytes(32)))
    store: Any = host.get_peerstore()
    for number in range(1, store.max_peers + 2):
        _add_stranger(store, number)
    assert not store.has_peer(host.get_id())


# Why gossip/relay.py and gossip/punch.py take the messages of libp2p.relay and not its relay and hole punching.


async def test_upstream_a_relay_reserves_in_anothers_name() -> None:
    """Names are soon made, and each takes a place for an hour, though it is not even connected."""
    async with pair() as (one, two):
        upstream = CircuitV2Protocol(one._host, allow_hop=True)
        one._host.set_stream_handler(PROTOCOL_ID, upstream._handle_hop_stream)
        other = ID.from_base58(identity(9).peer_id)
        stream = await opened(two._host, one.peer_id, HOP)
        await tell(stream, pb.HopMessage(type=pb.HopMessage.RESERVE, peer=pb.PeerId(id=other.to_bytes())))
        await told(stream, pb.HopMessage)
        assert list(upstream.resource_manager._reservations) == [other]


async def test_upstream_a_silent_circuit_outlives_its_time() -> None:
    class Silent:
        async def read(self, most: int) -> bytes:
            await trio.sleep_forever()
            raise AssertionError

    upstream = CircuitV2Protocol(new_host(key_pair=create_new_key_pair(bytes(32))))
    with trio.move_on_after(1.0) as scope:
        await upstream._relay_data(Silent(), Silent(), ID(b"peer"), deadline=time.monotonic() + 0.1)
    assert scope.cancelled_caught


async def test_upstream_a_refused_try_of_hole_punching_is_followed_by_seconds_of_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through NATs that answer with a reset, a try of each side must be under way at the same time."""
    tries = 0

    async def refused(*args: Any) -> None:
        nonlocal tries
        tries += 1

    upstream = DCUtRProtocol(new_host(key_pair=create_new_key_pair(bytes(32))))
    monkeypatch.setattr(upstream, "_dial_peer", refused)
    with trio.move_on_after(2.0):
        await upstream._perform_hole_punch(ID(b"peer"), [Multiaddr("/ip4/192.0.2.7/tcp/1")])
    assert tries == 1


async def test_a_refused_try_of_hole_punching_is_followed_by_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(punch, "MOST_TRIES", 20)
    here = ip_address("127.0.0.1")
    with trio.fail_after(punch.PUNCH_SECONDS / 2):
        nobody = punch.Spot(here, free_port())
        assert await punch.punch(punch.Spot(here, free_port()), nobody, listen=False) is None


async def test_upstream_who_backs_off_is_offered_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may not be taken into a mesh is just whom IHAVE is for."""
    for name in ("DEGREE", "DEGREE_LOW"):
        monkeypatch.setattr(libp2p_transport, name, 0)  # nobody is in a mesh
    async with pair() as (one, two):
        for node in (one, two):
            await node.subscribe("bees", anything)
        router, peer = one._pubsub.router, ID.from_string(two.peer_id)
        await until(lambda: peer in one._pubsub.peer_topics.get("bees", ()) and peer in router.peer_protocol)
        await one.publish("bees", b"buzz")
        assert list(router.gossip_heartbeat()) == [peer]
        router._add_back_off(peer, "bees", False, 60)
        assert list(router.gossip_heartbeat()) == []


async def test_a_burst_reaches_all() -> None:
    """Upstream queues hold 32 messages, so of 300 at once 32 arrived. Nothing paces them here, and nothing repairs."""
    said = {b"%d" % number for number in range(300)}
    async with pair() as (one, two), open_transport(identity(3)) as three:
        await three.connect(one.addresses()[0])
        inboxes = [await node.subscribe("bees", anything) for node in (two, three)]
        await one.subscribe("bees", anything)
        await until(lambda: one.mesh("bees") == 2)
        for data in said:
            await one.publish("bees", data)
        with trio.fail_after(3 * SECONDS):
            for inbox in inboxes:
                assert {(await inbox.receive())[1] for _ in said} == said


def test_it_runs_as_a_guest_of_uvloop() -> None:
    async def meet() -> bytes:
        async def answer(stream: Stream) -> None:
            await stream.send(await stream.receive(100))

        async with pair() as (one, two):
            one.handle("/echo/1", answer)
            stream = await two.open(one.peer_id, "/echo/1")
            await stream.send(b"hello")
            answered = await stream.receive(100)
            await stream.aclose()
            return answered

    async def host() -> Any:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        trio.lowlevel.start_guest_run(
            meet,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            run_sync_soon_not_threadsafe=loop.call_soon,
            host_uses_signal_set_wakeup_fd=True,
            restrict_keyboard_interrupt_to_checkpoints=True,
            done_callback=done.set_result,
        )
        return (await done).unwrap()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(host()) == b"hello"

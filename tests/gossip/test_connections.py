"""Connections of real libp2p as they come and go: who dialed is known, and what is parted from is gone."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing
from libp2p.peer.id import ID

from gossip import connections, endings
from gossip.libp2p_transport import Libp2pTransport, open_transport
from gossip.transport import ConnectError
from tests.gossip.members import identity
from tests.gossip.nodes import LOCAL
from tests.waiting import until


async def test_of_two_dials_of_a_peer_the_second_waits_for_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list may give several addresses of one peer, the right one last; and whom we dialed is synced with and watched,
    who only dialed us is not.
    """
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        address, wrong = one.addresses()[0], f"/ip4/127.0.0.1/tcp/1/p2p/{one.peer_id}"
        dial, dialed, go = two._dial, list[str](), trio.Event()

        async def wait_and_dial(addresses: Sequence[Any]) -> None:
            dialed.extend(map(str, addresses))
            await go.wait()
            await dial(addresses)

        async def fail() -> None:
            with pytest.raises(ConnectError, match="refused"):
                await two.connect(wrong)

        monkeypatch.setattr(two, "_dial", wait_and_dial)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            await until(lambda: dialed == [wrong])
            nursery.start_soon(two.connect, address)
            await trio.testing.wait_all_tasks_blocked()
            assert dialed == [wrong]
            go.set()
        assert dialed == [wrong, address]
        assert two.peer_address(one.peer_id) == address
        assert not two._dialing


async def test_nothing_is_kept_of_whom_we_dialed_when_it_has_gone() -> None:
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        await two.connect(one.addresses()[0])
        await until(lambda: one.peers() == [two.peer_id])
        await one.disconnect(two.peer_id)
        await until(lambda: not two._dialed)
        assert not two.peers()


def connection(node: Libp2pTransport, peer: Libp2pTransport) -> Any:
    """The one connection of a node with a peer."""
    (one,) = node._network.get_connections(ID.from_base58(peer.peer_id))
    return one


async def test_who_dials_again_while_it_is_parted_from_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream forgets all connections of a peer when it has closed some: the new one stays, and nobody knows of it."""
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        await two.connect(one.addresses()[0])
        await until(lambda: one.peers() == [two.peer_id])
        old, back = connection(one, two), trio.Event()
        close = old.close

        async def close_and_wait() -> None:
            await close()
            await back.wait()

        monkeypatch.setattr(old, "close", close_and_wait)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.disconnect, two.peer_id)
            await until(lambda: not one.peers() and not two.peers())
            await two.connect(one.addresses()[0])
            await until(lambda: one.peers() == [two.peer_id])
            back.set()
        assert one.peers() == [two.peer_id]
        await one.disconnect(two.peer_id)
        await until(lambda: not two.peers())


async def test_who_hung_up_is_dialed_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream takes a connection that has ended for one that is there, until all of it is cleared away."""
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        await two.connect(one.addresses()[0])
        await until(lambda: one.peers() == [two.peer_id])
        old, dialed = connection(two, one), trio.Event()
        clean_up = old._cleanup

        async def wait_and_clean_up() -> None:
            await dialed.wait()
            await clean_up()

        monkeypatch.setattr(old, "_cleanup", wait_and_clean_up)
        await one.disconnect(two.peer_id)
        await until(lambda: not two.peers())
        await two.connect(one.addresses()[0])
        assert two.peers() == [one.peer_id]
        dialed.set()


async def test_who_takes_no_last_word_is_hung_up_on_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Upstream waits for it, and where that has a limit, leaves a connection that is served on and that nobody sees."""
    monkeypatch.setattr(endings, "CLOSE_SECONDS", 1.0)
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        await two.connect(one.addresses()[0])
        await until(lambda: one.peers() == [two.peer_id])

        async def wait(data: bytes) -> None:
            await trio.sleep_forever()

        monkeypatch.setattr(connections.raw_of(connection(one, two).muxed_conn).stream, "write", wait)
        await one.disconnect(two.peer_id)
        assert not one._network.get_connections_map()
        await until(lambda: not two.peers())

"""Connections of real libp2p as they come and go: who dialed is known, and what is parted from is gone."""

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from gossip.libp2p_transport import open_transport
from gossip.transport import ConnectError
from tests.gossip.members import identity
from tests.waiting import until

LOCAL = "/ip4/127.0.0.1/tcp/0"


async def test_a_dial_that_fails_beside_another_of_the_same_peer_takes_nothing_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whom we dialed is synced with and watched; who only dialed us is not."""
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        address, wrong = one.addresses()[0], f"/ip4/127.0.0.1/tcp/1/p2p/{one.peer_id}"
        dial, begun, failed = two._dial, trio.Event(), trio.Event()

        async def wait_and_dial(addresses: Sequence[Any]) -> None:
            if not begun.is_set():
                begun.set()
                await failed.wait()
            await dial(addresses)

        monkeypatch.setattr(two, "_dial", wait_and_dial)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(two.connect, address)
            await begun.wait()
            with pytest.raises(ConnectError):
                await two.connect(wrong)
            failed.set()
        assert two.peer_address(one.peer_id) == address
        assert not two._dialing


async def test_nothing_is_kept_of_whom_we_dialed_when_it_has_gone() -> None:
    async with open_transport(identity(1), [LOCAL]) as one, open_transport(identity(2)) as two:
        await two.connect(one.addresses()[0])
        await until(lambda: one.peers() == [two.peer_id])
        await one.disconnect(two.peer_id)
        await until(lambda: not two._dialed)
        assert not two.peers()

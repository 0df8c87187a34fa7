"""What hostile peers do beneath the protocols is counted and struck too, and a new key is no new beginning."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
import trio
from libp2p.exceptions import BaseLibp2pError
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed

from gossip import gate
from gossip.fetch import FETCH
from gossip.gate import SHUT_OUT_MS, STRIKES, Door, household
from gossip.libp2p_transport import open_transport
from gossip.transport import ConnectError
from protocol.errors import RemoteProtocolError
from tests.gossip.members import identity, real_ms
from tests.gossip.test_garbage import GARBLED, MESHSUB, NO_WORDS, rpcs
from tests.hostile.test_peers import EVIL, SECONDS, TOPIC, Scene, oversized, place, scene
from tests.waiting import until

pytestmark = pytest.mark.slow


def there(found: Scene) -> ID:
    return ID.from_base58(found.victim)


async def gossip(found: Scene, data: bytes) -> None:
    stream = await found.evil._host.new_stream(there(found), [MESHSUB])
    await stream.write(data)


async def word(found: Scene, data: bytes) -> None:
    stream = await found.evil._network.new_stream(there(found))
    await stream.write(data)


def message(**fields: bytes) -> bytes:
    """Of the topic."""
    rpc = rpc_pb2.RPC()
    rpc.publish.add(seqno=b"1", data=b"x", topicIDs=[TOPIC], **fields)
    return encode_varint_prefixed(rpc.SerializeToString())


Act = Callable[[Scene, bytes], Awaitable[None]]
#: What is done, with which bytes, and what it counts as.
ACTS: dict[str, tuple[Act, bytes, str]] = {
    "no protobuf": (gossip, rpcs()["no protobuf"], "malformed"),
    "a huge length": (gossip, rpcs()["huge length"], "malformed"),
    "a bad key": (gossip, message(from_id=b"\xff" * 5, key=b"\xff\xff", signature=b"?"), "malformed"),
    "no signature": (gossip, message(from_id=ID.from_base58(EVIL.peer_id).to_bytes()), "signature"),
    "a forged signature": (
        gossip, message(from_id=ID.from_base58(EVIL.peer_id).to_bytes(), signature=bytes(64)), "signature",
    ),
    "no UTF-8 for a protocol": (word, b"\x13/multistream/1.0.0\n" + NO_WORDS[0], "malformed"),
    "a huge protocol": (word, NO_WORDS[2], "malformed"),
}


@pytest.mark.parametrize("name", ACTS)
async def test_who_garbles_what_is_beneath_is_counted_and_parted_from(name: str) -> None:
    act, data, reason = ACTS[name]
    async with scene() as found:
        rejected = found.honest[0].rejected
        for number in range(STRIKES):
            with suppress(BaseLibp2pError, OSError):
                await act(found, data)
            await until(lambda: rejected[reason] > number, SECONDS)  # noqa: B023
        await found.shut_out()
        assert set(rejected) == {reason}


async def test_a_garbled_handshake_is_counted_and_strikes_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("no words", "empty noise", "half of noise")
    monkeypatch.setattr(gate, "STRIKES_OF_A_HOST", len(names))
    refused: list[str] = []
    async with scene(Door(on_refused=refused.append)) as found:
        for number, data in enumerate(GARBLED[name] for name in names):
            stream = await trio.open_tcp_stream(*place(found.honest[0].transport))
            await stream.send_all(data)
            await until(lambda: found.honest[0].rejected["malformed"] > number, SECONDS)  # noqa: B023
            await stream.aclose()
        assert not refused
        for data in (GARBLED[names[0]], b""):
            stream = await trio.open_tcp_stream(*place(found.honest[0].transport))
            await stream.send_all(data)
            with trio.fail_after(SECONDS):
                await hung_up(stream)
        assert refused == ["barred"]
        assert found.connected


async def hung_up(stream: trio.SocketStream) -> None:
    async with stream:
        with suppress(trio.BrokenResourceError):
            async for _ in stream:
                pass


async def test_new_identities_from_one_address_are_no_new_beginnings() -> None:
    ahead_ms, refused = 0, list[str]()
    async with scene(Door(on_refused=refused.append), lambda: real_ms() + ahead_ms) as found:
        number = 100
        while not refused:
            await be_wrong(found, number)
            number += 1
        assert set(refused) == {"barred"}
        assert found.honest[0].rejected["oversize"] >= gate.STRIKES_OF_A_HOST
        assert found.honest[1].transport.peer_id in found.honest[0].transport.peers()
        ahead_ms = SHUT_OUT_MS + 1
        async with open_transport(identity(3)) as later:
            assert await later.connect(found.honest[0].address) == found.victim
            await until(lambda: later.peer_id in found.honest[0].transport.peers(), SECONDS)


async def be_wrong(found: Scene, number: int) -> None:
    """A new identity that stops before it is shut out itself."""
    async with open_transport(identity(number)) as evil:
        with suppress(ConnectError, RemoteProtocolError):
            await evil.connect(found.honest[0].address)
            for _ in range(STRIKES - 1):
                await oversized(Scene(found.honest, evil), FETCH)


@pytest.mark.parametrize(
    ("host", "of"),
    [("", ""), ("192.0.2.7", "192.0.2.7"), ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("::1", "::/64")],
)
def test_a_household_is_an_address_or_a_64th_of_ipv6(host: str, of: str) -> None:
    assert household(host) == of

"""What a peer garbles ends nothing: gossip, the choice of a protocol, a handshake. Each test is for one trap of
py-libp2p 0.8.1.
"""

from typing import Any

import pytest
import trio
import trio.testing
from libp2p.connection_types import ConnectionType
from libp2p.custom_types import TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.trio import TrioTCPStream
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from gossip.circuit import HOP, opened
from gossip.libp2p_transport import open_transport
from protocol.errors import RemoteProtocolError
from tests.gossip.members import identity
from tests.gossip.nodes import SECONDS, alive, anything, pair

MESHSUB = TProtocol("/meshsub/1.1.0")


def rpcs() -> dict[str, bytes]:
    """What a hostile peer may write to a gossip stream."""
    bad_sender = rpc_pb2.RPC()
    message = bad_sender.publish.add(from_id=b"\xff" * 5, seqno=b"1", data=b"x", topicIDs=["bees"])
    message.key, message.signature = b"\xff\xff", b"?"
    no_fields = rpc_pb2.RPC()
    no_fields.publish.add(topicIDs=["bees"])
    controls = rpc_pb2.RPC()
    controls.control.ihave.add(topicID="bees", messageIDs=[b"\xff\xfe", b"zz"])
    controls.control.iwant.add(messageIDs=[b"\xff"])
    controls.control.graft.add(topicID="bees")
    controls.control.prune.add(topicID="bees", backoff=2**63)
    record = rpc_pb2.RPC(senderRecord=b"\xff" * 40)
    return {
        "no protobuf": encode_varint_prefixed(b"\xff" * 50),
        "huge length": b"\xff" * 9 + b"\x01",
        "bad sender": encode_varint_prefixed(bad_sender.SerializeToString()),
        "no fields": encode_varint_prefixed(no_fields.SerializeToString()),
        "controls": encode_varint_prefixed(controls.SerializeToString()),
        "sender record": encode_varint_prefixed(record.SerializeToString()),
    }


@pytest.mark.parametrize("name", rpcs())
async def test_malformed_gossip_ends_nothing(name: str) -> None:
    async with pair() as (one, two):
        await one.subscribe("bees", anything)
        stream = await two._host.new_stream(ID.from_base58(one.peer_id), [MESHSUB])
        await stream.write(rpcs()[name])
        await alive(one)


async def test_a_garbled_choice_of_protocol_ends_nothing() -> None:
    async with pair() as (one, two):
        for garbage in (b"\xff" * 40, b"\x13/multistream/1.0.0\n\xff\xff\xff\xff\x7f", b"\x00" * 8):
            stream = await two._network.new_stream(ID.from_base58(one.peer_id))
            await stream.write(garbage)
            await stream.close()
        await alive(one)


#: Words in the choice of a protocol that are none: no UTF-8, without an end, longer than any name.
NO_WORDS = [b"\x04\xff\xff\xff\n", b"\x03/no", b"\xff\xff\xff\xff\x0f" + b"x" * 100]


@pytest.mark.parametrize("garbage", NO_WORDS)
async def test_a_garbled_answer_to_the_choice_of_protocol_ends_nothing(garbage: bytes) -> None:
    """Upstream raises a ValueError where the node opened the stream: nothing between there and its end expects one."""
    async with pair() as (evil, node):

        async def garble(stream: Any) -> None:
            await stream.write(garbage)
            await stream.close()

        evil._network.set_stream_handler(garble)
        with pytest.raises(RemoteProtocolError, match="does not open"):
            await node.open(evil.peer_id, "/any/1")
        with pytest.raises(RemoteProtocolError, match="does not open"):
            await opened(node._host, evil.peer_id, HOP)
        await evil.subscribe("still", anything)
        assert node.peers() == [evil.peer_id]


GREETING = b"\x13/multistream/1.0.0\n"
GARBLED = {
    "no words": GREETING + NO_WORDS[0],
    "no noise": GREETING + b"\x07/noise\n" + b"\x00\x30" + b"\xff" * 48,
    "empty noise": GREETING + b"\x07/noise\n" + b"\x00\x00",
    "half of noise": GREETING + b"\x07/noise\n" + b"\x00\x20" + b"\x09" * 32 + b"\x00\x30" + b"\xff" * 48,
}


@pytest.mark.parametrize("dials", [True, False], ids=["dials", "is dialed"])
@pytest.mark.parametrize("name", GARBLED)
async def test_a_garbled_handshake_fails_as_any_other(name: str, dials: bool) -> None:
    """Whatever a connection is made of: a circuit, or a socket that came through a hole."""
    ours, theirs = trio.testing.memory_stream_pair()

    class Raw(TrioTCPStream):  # type: ignore[misc]
        def get_remote_address(self) -> None:
            return None

    async with open_transport(identity(1)) as node:
        raw = RawConnection(Raw(ours), dials, ConnectionType.RELAYED, [Multiaddr("/ip4/192.0.2.7/tcp/1")])

        async def upgrade() -> None:
            if dials:
                await node._network.upgrade_outbound_raw_conn(raw, ID.from_base58(identity(2).peer_id))
            else:
                await node._network.upgrade_inbound_raw_conn(raw, Multiaddr("/ip4/0.0.0.0"))

        async def garble() -> None:
            await theirs.send_all(GARBLED[name])
            await theirs.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(garble)
            with trio.fail_after(SECONDS), pytest.raises(BaseLibp2pError):
                await upgrade()

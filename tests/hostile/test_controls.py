"""Gossipsub's control messages, each small, that ask for much: of meshes, of what is offered, of peers to dial."""

import time
from typing import Any

import pytest
import trio
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.peer.peerstore import create_signed_peer_record
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import PUBSUB_SIGNING_PREFIX
from libp2p.utils import encode_varint_prefixed
from multiaddr import Multiaddr

from gossip import controls, gate
from gossip.controls import MOST_CONTROLS, MOST_IDS, OUTBOX_BYTES, Outbox
from gossip.gate import STRIKES
from gossip.libp2p_transport import open_transport
from gossip.overrides import message_id
from tests.gossip.members import identity
from tests.gossip.nodes import LOCAL
from tests.gossip.test_garbage import MESHSUB
from tests.hostile.test_peers import SECONDS, TOPIC, Scene, note, scene
from tests.waiting import until

pytestmark = pytest.mark.slow


async def write(found: Scene, *rpcs: Any) -> None:
    stream = await found.evil._host.new_stream(ID.from_base58(found.victim), [MESHSUB])
    for rpc in rpcs:
        await stream.write(encode_varint_prefixed(rpc.SerializeToString()))


def router(found: Scene) -> Any:
    return found.honest[0].transport._pubsub.router


def grafts(count: int) -> Any:
    rpc = rpc_pb2.RPC()
    for number in range(count):
        rpc.control.graft.add(topicID=f"no topic {number}")
    return rpc


def prunes(count: int) -> Any:
    rpc = rpc_pb2.RPC()
    for number in range(count):
        rpc.control.prune.add(topicID=f"no topic {number}", backoff=2**40)
    return rpc


def wants(count: int) -> Any:
    return rpc_pb2.RPC(control=rpc_pb2.ControlMessage(iwant=[rpc_pb2.ControlIWant(messageIDs=[b"0"] * count)]))


@pytest.mark.parametrize(
    "rpc", [grafts(8000), prunes(8000), wants(30_000)], ids=["GRAFT", "PRUNE", "IWANT"]
)
async def test_a_flood_of_controls_is_not_worked_on_and_its_sender_parted_from(rpc: Any) -> None:
    async with scene() as found:
        rejected = found.honest[0].rejected
        await write(found, *[rpc] * STRIKES)
        await until(lambda: rejected["oversize"] == STRIKES, SECONDS)
        assert set(rejected) == {"oversize"}
        await found.shut_out()


async def test_topics_that_are_not_ours_are_neither_answered_nor_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    async with scene() as found:
        answered: list[str] = []

        async def emit_prune(topic: str, *more: Any) -> None:
            answered.append(topic)

        monkeypatch.setattr(router(found), "emit_prune", emit_prune)
        both = grafts(MOST_CONTROLS // 2)
        both.MergeFrom(prunes(MOST_CONTROLS // 2))
        ours = rpc_pb2.RPC()
        ours.control.prune.add(topicID=TOPIC, backoff=60)
        await write(found, both, ours)
        await until(lambda: TOPIC in router(found).back_off, SECONDS)  # all before it was heard
        assert list(router(found).back_off) == [TOPIC]
        assert not answered
        assert not found.honest[0].rejected


async def test_what_is_wanted_often_is_sent_once_and_no_more_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scene() as found:
        records = [note(number) for number in range(4)]
        for record in records:
            await found.say(record.wire)
        held = found.honest[0].records
        await until(lambda: all(record.id in held for record in records), SECONDS)
        names = [message_id(rpc_pb2.Message(topicIDs=[TOPIC], data=record.wire)) for record in records]
        assert [*router(found)._to_answer(names * 500)] == names
        assert [*router(found)._to_answer([b"zz", bytes(32)])] == []
        size = router(found).mcache.get(names[0]).ByteSize()
        monkeypatch.setattr(controls, "MOST_ANSWERED_BYTES", 2 * size + size // 2)
        assert [*router(found)._to_answer(names)] == names[:2]


@pytest.mark.parametrize("by", ["PRUNE", "sender"])
async def test_nobody_is_dialed_or_remembered_because_a_peer_names_him(by: str) -> None:
    async with scene() as found, open_transport(identity(50), [LOCAL]) as stranger:
        known = found.honest[0].transport._host.get_peerstore()
        rpc = rpc_pb2.RPC()
        rpc.control.prune.add(topicID=TOPIC, backoff=60)
        where = Multiaddr(stranger.addresses()[0]).decapsulate_code(0x01A5)
        if by == "PRUNE":
            signed = record_of(stranger, [where])
            rpc.control.prune[0].peers.add(peerID=ID.from_base58(stranger.peer_id).to_bytes(), signedPeerRecord=signed)
        else:
            made_up = [Multiaddr(f"/ip4/192.0.2.1/tcp/{port}") for port in range(1, 3000)]
            rpc.senderRecord = record_of(found.evil, made_up)
        before = len(known.addrs(ID.from_base58(found.evil.peer_id)))
        await write(found, rpc)
        await until(lambda: TOPIC in router(found).back_off, SECONDS)
        await found.unharmed()
        assert ID.from_base58(stranger.peer_id) not in known.peer_ids()
        assert not stranger.peers()
        assert len(known.addrs(ID.from_base58(found.evil.peer_id))) == before


def record_of(whose: Any, addresses: list[Multiaddr]) -> bytes:
    peer = ID.from_base58(whose.peer_id)
    info = PeerInfo(peer, addresses)
    return bytes(create_signed_peer_record(info.peer_id, info.addrs, whose._host.get_private_key()).marshal_envelope())


async def test_what_a_peer_that_is_not_heard_passes_on_first_comes_by_another() -> None:
    """Upstream what is said of a message by one holds for all, for five minutes."""
    heard: list[str] = []
    async with (
        open_transport(identity(1), [LOCAL]) as one,
        open_transport(identity(2)) as muted,
        open_transport(identity(3)) as honest,
    ):
        def validator(forwarder: str, data: bytes) -> bool:
            heard.append(forwarder)
            return forwarder != muted.peer_id

        inbox = await one.subscribe("bees", validator)
        for node in (muted, honest):
            await node.subscribe("bees", lambda forwarder, data: True)
            await node.connect(one.addresses()[0])
            await until(lambda: node._pubsub.peer_topics.get("bees"))  # type: ignore[arg-type]  # noqa: B023
        await muted.publish("bees", b"buzz")
        await until(lambda: muted.peer_id in heard, SECONDS)
        await honest.publish("bees", b"buzz")
        with trio.fail_after(SECONDS):
            assert await inbox.receive() == (honest.peer_id, b"buzz")


async def test_who_floods_with_what_is_right_is_parted_from_too(monkeypatch: pytest.MonkeyPatch) -> None:
    flood = (("FORWARDED_A_SECOND", 1.0), ("FORWARDED_BURST", 100.0), ("FLOOD_A_SECOND", 1.0), ("FLOOD_SECONDS", 50.0))
    for name, value in flood:
        monkeypatch.setattr(gate, name, value)
    async with scene() as found:
        for number in range(400):
            await found.say(note(number).wire)
        await until(lambda: found.honest[0].rejected["quota"] >= 50 + STRIKES, SECONDS)
        await found.shut_out()
        assert set(found.honest[0].rejected) == {"quota"}


@pytest.mark.parametrize(
    ("topics", "more", "reason"),
    [([TOPIC] * 13_000, b"", "malformed"), ([TOPIC, "x"], b"", "malformed"), ([TOPIC], bytes(500_000), "oversize")],
    ids=["often", "two", "padded"],
)  # fmt: skip
async def test_what_is_wrapped_round_a_record_is_small(topics: list[str], more: bytes, reason: str) -> None:
    """Else one that all hold would be checked, kept, offered and passed on ten thousand times, by everybody."""
    async with scene() as found:
        record = note(1)
        await found.say(record.wire)
        first = found.honest[0]
        await until(lambda: record.id in first.records, SECONDS)
        for number in range(STRIKES):
            await write(found, rpc_pb2.RPC(publish=[wrapped(found.evil, topics, record.wire, number, more)]))
        await until(lambda: first.rejected[reason] == STRIKES, SECONDS)
        assert set(first.rejected) == {reason}
        await found.shut_out()


def wrapped(by: Any, topics: list[str], data: bytes, number: int, more: bytes = b"") -> Any:
    """A message as gossipsub has it, signed by who wraps it."""
    key = by._host.get_private_key()
    sender, said = ID.from_base58(by.peer_id).to_bytes(), number.to_bytes(8, "big") + more
    message = rpc_pb2.Message(data=data, topicIDs=topics, from_id=sender, seqno=said)
    message.signature = key.sign(PUBSUB_SIGNING_PREFIX.encode() + message.SerializeToString())
    return message


async def test_who_wraps_a_record_of_another_does_not_keep_it_from_going_further() -> None:
    """Upstream: with a number that it used before, it is delivered here and passed on to nobody."""
    async with scene() as found:
        one, two = note(1), note(2)
        for record in (one, two):  # the same number
            await write(found, rpc_pb2.RPC(publish=[wrapped(found.evil, [TOPIC], record.wire, 7)]))
        for node in found.honest:
            await until(lambda: {one.id, two.id} <= set(node.records), SECONDS)  # noqa: B023
        assert message_id(rpc_pb2.Message(topicIDs=[TOPIC], data=two.wire)) in router(found).mcache.msgs


async def test_nothing_is_kept_of_what_was_said_or_of_who_has_gone() -> None:
    """But for some time who was pruned."""
    async with scene() as found:
        record, ours = note(1), rpc_pb2.RPC()
        ours.control.prune.add(topicID=TOPIC, backoff=2**40)
        await write(found, ours)
        await found.say(record.wire)
        first = found.honest[0]
        await until(lambda: record.id in first.records and TOPIC in router(found).back_off, SECONDS)
        peer = ID.from_base58(found.evil.peer_id)
        assert isinstance(first.transport._pubsub.peer_queues[peer], controls.OutboxQueue)
        assert router(found).back_off[TOPIC][peer] <= time.time() + controls.MOST_BACKOFF_SECONDS
        assert not router(found).recent_message_deliveries
        router(found).back_off[TOPIC][peer] = 0
        await first.transport.disconnect(found.evil.peer_id)
        await until(lambda: peer not in router(found).back_off[TOPIC], SECONDS)


def test_what_waits_for_a_peer_that_takes_nothing_is_bounded_in_bytes() -> None:
    box = Outbox()
    large = rpc_pb2.RPC(publish=[rpc_pb2.Message(data=bytes(60_000))])
    assert sum(box.push(large) for _ in range(100)) == OUTBOX_BYTES // large.ByteSize()
    assert box.pop() == large
    assert box.push(large, priority=True)
    assert not box.push(large)
    while box.pop() is not None:
        pass
    assert box.push(large)


def test_honest_controls_are_within_the_bounds() -> None:
    """At full rate a topic has so many messages while they are on offer: gossipsub's window is three heartbeats."""
    assert 3 * gate.FORWARDED_A_SECOND * 4 < MOST_IDS

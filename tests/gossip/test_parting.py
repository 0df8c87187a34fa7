"""Peers that say what is wrong, or nothing: what is counted, and who is parted from."""

from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from gossip import memory, swarm, wire
from gossip.gate import SHUT_OUT_MS, STRIKES, STRIKES_OF_A_HOST
from gossip.memory import MemoryNetwork
from gossip.swarm import MOST_FAILED, SESSION_SECONDS, SYNC_SECONDS
from gossip.sync import SYNC
from gossip.transport import ConnectError, Stream
from gossip.wire import FRAME_SECONDS
from protocol import codec
from protocol.errors import RemoteProtocolError
from protocol.reconcile import FINGERPRINT_BYTES, ID_BYTES
from protocol.records import Note, seal
from tests.gossip.members import SWARM_ID, Member, agree, identity, virtual_ms
from tests.gossip.swarms import LONG, members_of, start, start_and_meet
from tests.waiting import until


async def test_a_flood_of_garbage_is_counted_and_its_sender_shut_out(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    members = members_of(network, 3)
    liar = network.transport(identity(99).peer_id)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await liar.connect(members[0].address)
        topic = f"waggle/{SWARM_ID.hex()}"
        good = seal(identity(99), SWARM_ID, members[0].note(1).statement)  # type: ignore[arg-type]
        forged = replace(good, signature=bytes(64))
        other = seal(identity(99), bytes(32), good.statement)  # type: ignore[arg-type]
        for number in range(STRIKES):
            await liar.publish(topic, b"garbage %d" % number)
        for record in (forged, other):
            await liar.publish(topic, record.wire)
        await until(lambda: members[0].rejected["malformed"] >= STRIKES - 2, 5)
        await members[1].swarm.publish(members[1].note(2))
        await until(lambda: agree(members), 5)
        assert members[1].rejected.total() == members[2].rejected.total() == 0  # nothing was forwarded
        await liar.publish(topic, good.wire)
        await trio.sleep(5)
        assert good.id not in members[0].records
        nursery.cancel_scope.cancel()


async def test_new_identities_from_one_host_are_no_new_beginnings(autojump_clock: MockClock) -> None:
    """None of them is shut out itself; who was there before stays, and others come in when the time is over."""
    network = MemoryNetwork()
    one, two = members_of(network, 2)
    topic = f"waggle/{SWARM_ID.hex()}"
    async with trio.open_nursery() as nursery:
        await start_and_meet(nursery, [one, two])
        for number in range(STRIKES_OF_A_HOST // (STRIKES - 1) + 1):
            liar = network.transport(identity(100 + number).peer_id)
            await liar.connect(one.address)
            for message in range(STRIKES - 1):
                await liar.publish(topic, b"%d %d" % (number, message))
            await until(lambda: one.rejected["malformed"] >= (number + 1) * (STRIKES - 1), 5)  # noqa: B023
            await liar.disconnect(one.transport.peer_id)
        late = network.transport(identity(99).peer_id)
        with pytest.raises(ConnectError, match="refused"):
            await late.connect(one.address)
        assert one.transport.peers() == [two.transport.peer_id]
        await trio.sleep(SHUT_OUT_MS / 1000)
        assert await late.connect(one.address) == one.transport.peer_id
        nursery.cancel_scope.cancel()


async def test_a_peer_that_syncs_garbage_is_shut_out_and_ends_nothing(autojump_clock: MockClock) -> None:
    async def lie(stream: Stream) -> None:
        await stream.receive(1000)
        await stream.send(codec.encode(["differ"]))
        while True:
            frame = codec.decode(await stream.receive(1 << 20), max_bytes=1 << 20)
            if frame[0] == "ranges":
                promised = b"".join(n.to_bytes(32, "big") for n in range(2 * STRIKES))
                await stream.send(codec.encode(["compared", frame[1][-32:], b"", promised]))
            elif frame[0] == "want":
                await stream.send(codec.encode(["records", [b"garbage %d" % n for n in range(2 * STRIKES)]]))
                await stream.send(codec.encode(["done"]))

    network = MemoryNetwork()
    members = members_of(network, 2)
    liar = network.transport(identity(99).peer_id)
    liar.handle(SYNC, lie)
    members[0].note(1)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await liar.connect(members[0].address)
        await until(lambda: members[0].rejected["malformed"] >= STRIKES, LONG)
        await until(lambda: liar.peer_id not in members[0].transport.peers(), LONG)
        members[1].note(5)
        await until(lambda: agree(members), LONG)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("answer", [[b"\xff"], [], [codec.encode(["compared", b"", b"", b""])]])
async def test_a_peer_that_breaks_the_exchange_or_is_silent_is_parted_from(
    answer: list[bytes], autojump_clock: MockClock
) -> None:
    async def break_off(stream: Stream) -> None:
        await stream.receive(1000)
        await stream.send(codec.encode(["differ"]))
        for frame in answer:
            await stream.send(frame)
        await trio.sleep_forever()

    network = MemoryNetwork()
    member = Member(1, network.transport(identity(1).peer_id))
    strange = network.transport(identity(99).peer_id)
    strange.handle(SYNC, break_off)
    async with trio.open_nursery() as nursery:
        await start(nursery, [member])
        await strange.connect(member.address)
        await until(lambda: not member.transport.peers(), LONG)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("pause", "least", "most"),
    [(None, FRAME_SECONDS, FRAME_SECONDS), (FRAME_SECONDS - 1, SESSION_SECONDS - FRAME_SECONDS, SESSION_SECONDS)],
    ids=["never", "slowly"],
)
async def test_who_asks_for_all_and_reads_it_slowly_holds_a_slot_for_a_bounded_time(
    pause: float | None, least: float, most: float, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And others are served meanwhile."""
    monkeypatch.setattr(memory, "WINDOW", 1)
    network = MemoryNetwork()
    one, two = members_of(network, 2)
    for number in range(300):
        one.keep(seal(one.identity, SWARM_ID, Note(virtual_ms(), number, "x" * 2000, ())))
    slow = network.transport(identity(99).peer_id)
    slow.handle(SYNC, agree_at_once)  # it is not for this that it is parted from
    async with trio.open_nursery() as nursery:
        await start(nursery, [one])
        await slow.connect(one.address)
        stream = await slow.open(one.transport.peer_id, SYNC)
        await ask_for_all(stream)
        begun = trio.current_time()
        if pause is not None:
            nursery.start_soon(read_slowly, stream, pause)
        await start(nursery, [two])
        await until(lambda: agree([one, two]), FRAME_SECONDS / 2)
        assert slow.peer_id in one.swarm._served
        await until(lambda: slow.peer_id not in one.swarm._served, 2 * SESSION_SECONDS)
        assert least <= trio.current_time() - begun <= most + 2.0
        nursery.cancel_scope.cancel()


async def test_who_stalls_whole_sessions_is_shut_out_and_others_are_not(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would take the place again as soon as it is free."""
    monkeypatch.setattr(memory, "WINDOW", 1)
    network = MemoryNetwork()
    one, two = members_of(network, 2)
    for number in range(300):
        one.keep(seal(one.identity, SWARM_ID, Note(virtual_ms(), number, "x" * 2000, ())))
    slow = network.transport(identity(99).peer_id)
    slow.handle(SYNC, agree_at_once)
    async with trio.open_nursery() as nursery:
        await start(nursery, [one, two])
        await slow.connect(one.address)
        for times in range(1, MOST_FAILED + 1):
            assert slow.peer_id in one.transport.peers()
            stream = await slow.open(one.transport.peer_id, SYNC)
            await ask_for_all(stream)
            await read_slowly(stream, FRAME_SECONDS - 1)
            assert one.rejected["sync"] == times
        await until(lambda: slow.peer_id not in one.transport.peers(), 1.0)
        await slow.connect(one.address)
        await until(lambda: slow.peer_id not in one.transport.peers(), 1.0)
        assert one.transport.peers() == [two.transport.peer_id]
        nursery.cancel_scope.cancel()


async def test_a_failed_sync_and_one_that_stalls_are_two_in_a_row(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is parted from, and not shut out: each for itself is no more than a weak peer."""
    monkeypatch.setattr(swarm, "SESSION_SECONDS", FRAME_SECONDS / 3)
    asked: list[float] = []

    async def fail_and_stall(stream: Stream) -> None:
        asked.append(trio.current_time())
        if len(asked) > 1:
            await trio.sleep_forever()

    network = MemoryNetwork()
    (one,) = members_of(network, 1)
    weak = network.transport(identity(99).peer_id)
    weak.handle(SYNC, fail_and_stall)
    async with trio.open_nursery() as nursery:
        await start(nursery, [one])
        await one.transport.connect(weak.addresses()[0])
        await until(lambda: len(asked) == 2, LONG)
        await until(lambda: weak.peer_id not in one.transport.peers(), FRAME_SECONDS / 2)
        await weak.connect(one.address)
        await trio.sleep(1.0)
        assert one.transport.peers() == [weak.peer_id]
        nursery.cancel_scope.cancel()


async def ask_for_all(stream: Stream) -> None:
    """As somebody who holds nothing."""
    await wire.say(stream, "sync", SWARM_ID, bytes(FINGERPRINT_BYTES))
    await wire.hear(stream, "differ")
    await wire.say(stream, "ranges", bytes(ID_BYTES) + b"\xff" * ID_BYTES, b"")
    compared = await wire.hear(stream, "compared")
    await wire.say(stream, "want", compared[3])


async def agree_at_once(stream: Stream) -> None:
    await wire.hear(stream, "sync")
    await wire.say(stream, "same")


async def read_slowly(stream: Stream, pause: float) -> None:
    with suppress(RemoteProtocolError):
        while True:
            await trio.sleep(pause)
            await stream.receive(wire.MAX_FRAME_BYTES)


async def test_a_record_that_the_ledger_refuses_is_not_asked_for_again(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    one, two = members_of(network, 2)
    two.forbidden.add("note 7")
    wrong = one.note(7)
    async with trio.open_nursery() as nursery:
        await start(nursery, [one, two])
        await until(lambda: two.rejected["commit"] == 1, LONG)
        right = one.note(8)
        await until(lambda: right.id in two.records, LONG)
        await trio.sleep(5 * SYNC_SECONDS)
        nursery.cancel_scope.cancel()
    assert two.rejected == {"commit": 1}
    assert wrong.id not in two.records


async def test_what_comes_from_the_future_waits_for_its_time(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    one, two = members_of(network, 2)
    early = one.note(1)
    ahead = replace(early.statement, created_ms=virtual_ms() + 20 * 60_000)  # type: ignore[type-var]
    record = one.keep(seal(one.identity, SWARM_ID, ahead))  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        await start(nursery, [one, two])
        await until(lambda: two.rejected["future"] > 0, LONG)
        assert record.id not in two.records
        await until(lambda: record.id in two.records, 30 * 60)
        nursery.cancel_scope.cancel()


async def test_swarms_of_different_programs_part(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    one = Member(1, network.transport(identity(1).peer_id))
    other = Member(2, network.transport(identity(2).peer_id), [one.address], swarm_id=bytes(32))
    async with trio.open_nursery() as nursery:
        await start(nursery, [one, other])
        await until(lambda: other.rejected["swarm"] == 1, 60)
        await until(lambda: not other.transport.peers() and not one.transport.peers(), 60)
        nursery.cancel_scope.cancel()


async def test_a_peer_that_sends_one_record_for_ever_is_parted_from(autojump_clock: MockClock) -> None:
    """Each time within its limit, it would keep a session that others need."""
    network = MemoryNetwork()
    member = Member(1, network.transport(identity(1).peer_id))
    strange = Member(99, network.transport(identity(99).peer_id))
    record = strange.note(1)

    async def drip(stream: Stream) -> None:
        await stream.receive(1000)
        await stream.send(codec.encode(["differ"]))
        while True:
            frame = codec.decode(await stream.receive(1 << 20), max_bytes=1 << 20)
            if frame[0] == "ranges":
                promised = b"".join(n.to_bytes(32, "big") for n in range(1000)) + bytes.fromhex(record.id)
                await stream.send(codec.encode(["compared", frame[1][-32:], b"", promised]))
            elif frame[0] == "want":
                while True:
                    await trio.sleep(FRAME_SECONDS - 1)
                    await stream.send(codec.encode(["records", [record.wire]]))

    strange.transport.handle(SYNC, drip)
    async with trio.open_nursery() as nursery:
        await start(nursery, [member])
        await strange.transport.connect(member.address)
        await until(lambda: member.rejected["sync"] >= 1, LONG)
        await until(lambda: not member.transport.peers(), LONG)
        assert list(member.records) == [record.id]
        nursery.cancel_scope.cancel()

"""Swarms on the in-memory network and a virtual clock: whatever the network does, all come to hold the
same.
"""

from contextlib import suppress
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from gossip import memory, wire
from gossip.gate import STRIKES
from gossip.hello import Hello, conversation, fetch_program, hello
from gossip.live import CLAIM_BUDGETS, CLAIM_GRACE_MS, MISSED, PRESENCE_SECONDS
from gossip.memory import MemoryNetwork
from gossip.present import PRESENT
from gossip.swarm import SESSION_SECONDS, SYNC_SECONDS
from gossip.sync import SYNC
from gossip.transport import Stream
from gossip.wire import FRAME_SECONDS
from protocol import codec
from protocol.commits import CommitScheme, blob_id
from protocol.errors import RemoteProtocolError
from protocol.manifest import pack
from protocol.manifest import swarm_id as swarm_id_of
from protocol.reconcile import FINGERPRINT_BYTES, ID_BYTES, MOST_IDS
from protocol.records import Claim, Note, Presence, Record, seal
from protocol.statements import Origin
from tests.gossip.members import SWARM_ID, Member, agree, identity, virtual_ms
from tests.node.statements import result
from tests.waiting import until

#: Virtual seconds: several exchanges with random peers.
LONG = 10 * SYNC_SECONDS


def members_of(network: MemoryNetwork, count: int) -> list[Member]:
    """Each knows the first alone."""
    first = Member(1, network.transport(identity(1).peer_id))
    others = [
        Member(number, network.transport(identity(number).peer_id), [first.address])
        for number in range(2, count + 1)
    ]
    return [first, *others]


async def start_and_meet(nursery: trio.Nursery, members: list[Member]) -> None:
    await start(nursery, members)
    await until(lambda: all(member.transport.peers() for member in members), 60)


async def start(nursery: trio.Nursery, members: list[Member]) -> None:
    for member in members:
        await nursery.start(member.swarm.run)


async def test_all_find_each_other_through_one(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 6)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 5 for member in members), 30)
        await until(lambda: all(len(member.swarm.presences()) == 5 for member in members), 30)
        nursery.cancel_scope.cancel()


async def test_a_published_record_reaches_all_at_once(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(loss=0.05), 8)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 7 for member in members), 60)
        await members[3].swarm.publish(members[3].note(1))
        await until(lambda: agree(members), 2)
        nursery.cancel_scope.cancel()


async def test_a_record_that_is_not_published_reaches_all_by_sync(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 5)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 4 for member in members), 60)
        members[2].note(1)
        await until(lambda: agree(members), LONG)
        nursery.cancel_scope.cancel()


async def test_both_sides_of_one_exchange_get_what_they_lack(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    one, two = members_of(network, 2)
    for number in range(MOST_IDS + 10):
        one.note(number)
    for number in range(300):
        two.note(number)
    async with trio.open_nursery() as nursery:
        await start(nursery, [one, two])
        await until(lambda: agree([one, two]), 20)
        nursery.cancel_scope.cancel()
    assert len(one.records) == MOST_IDS + 310
    assert not one.rejected
    assert not two.rejected


async def test_a_late_joiner_with_nothing_gets_everything(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    first, late = members_of(network, 2)
    for number in range(2 * MOST_IDS + 5):
        first.note(number)
    async with trio.open_nursery() as nursery:
        await start(nursery, [first])
        await trio.sleep(100)
        await start(nursery, [late])
        await until(lambda: agree([first, late]), 20)
        nursery.cancel_scope.cancel()


async def test_where_nothing_is_missing_an_exchange_costs_next_to_nothing(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    members = members_of(network, 2)
    for number in range(1000):
        members[1].keep(members[0].note(number))
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await trio.sleep(SYNC_SECONDS)
        before = network.frame_bytes
        await trio.sleep(10 * SYNC_SECONDS)
        nursery.cancel_scope.cancel()
    assert network.frame_bytes - before < 20 * 200  # two nodes, ten exchanges each


async def test_two_halves_heal(autojump_clock: MockClock) -> None:
    network = MemoryNetwork(loss=0.1)
    members = members_of(network, 30)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.swarm.presences()) > 20 for member in members), 200)
        peers = [member.transport.peer_id for member in members]
        network.partition([peers[:15], peers[15:]])
        for number, member in enumerate(members):
            await member.swarm.publish(member.note(number))
        await until(lambda: agree(members[:15]) and agree(members[15:]), LONG)
        assert not agree(members)
        network.heal()
        await until(lambda: agree(members), LONG)
        nursery.cancel_scope.cancel()


async def test_the_loss_of_the_bootstrap_is_a_non_event(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    members = members_of(network, 6)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 5 for member in members), 60)
        network.kill(members[0].transport.peer_id)
        await members[1].swarm.publish(members[1].note(1))
        await until(lambda: agree(members[1:]), 2)
        await until(lambda: all(len(member.swarm.presences()) == 4 for member in members[1:]),
                    2 * MISSED * PRESENCE_SECONDS)  # fmt: skip
        nursery.cancel_scope.cancel()


async def test_a_node_that_comes_before_its_bootstrap_meets_it(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    late_address = network.transport(identity(1).peer_id).addresses()[0]
    network.kill(identity(1).peer_id)
    early = Member(2, network.transport(identity(2).peer_id), [late_address])
    async with trio.open_nursery() as nursery:
        await start(nursery, [early])
        await trio.sleep(600)
        late = Member(1, network.transport(identity(1).peer_id))
        await start(nursery, [late])
        await until(lambda: bool(late.transport.peers()), 130)
        nursery.cancel_scope.cancel()


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


def claim_of(commit: str) -> Claim:
    return Claim(virtual_ms(), commit, Origin.AGENT, "cpu", {"RATE": 0.1}, 300.0)


async def test_a_claim_is_heard_and_runs_out(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 3)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 2 for member in members), 60)
        claim = claim_of("ab" * 20)
        await members[0].swarm.claim(claim)
        await until(lambda: members[2].swarm.claims() == [(members[0].identity.public_key, claim)], 2)
        assert members[0].swarm.claims() == []
        await trio.sleep(CLAIM_BUDGETS * 300 + CLAIM_GRACE_MS / 1000)
        assert members[2].swarm.claims() == []
        nursery.cancel_scope.cancel()


async def test_a_newcomer_that_is_in_step_knows_what_others_run(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    first, second, late = members_of(network, 3)
    async with trio.open_nursery() as nursery:
        await start(nursery, [first, second])
        await until(lambda: bool(second.transport.peers()), 60)
        claims = {
            member.identity.public_key: claim_of(f"{number:040x}") for number, member in enumerate((first, second))
        }
        for member in (first, second):
            await member.swarm.claim(claims[member.identity.public_key])
        await trio.sleep(60)
        await start(nursery, [late])
        await late.swarm.in_step.wait()
        assert dict(late.swarm.claims()) == claims
        nursery.cancel_scope.cancel()


async def test_who_was_told_to_ask_later_is_not_in_step(autojump_clock: MockClock) -> None:
    network = MemoryNetwork()
    busy = network.transport(identity(1).peer_id)
    free = Member(2, network.transport(identity(2).peer_id))
    late = Member(3, network.transport(identity(3).peer_id), [busy.addresses()[0], free.address])

    async def put_off(stream: Stream) -> None:
        await wire.hear(stream, "sync")
        await wire.say(stream, "busy")

    busy.handle(SYNC, put_off)
    free.note(1)
    async with trio.open_nursery() as nursery:
        await start(nursery, [late])
        await trio.sleep(LONG)
        assert busy.peer_id in late.transport.peers()
        assert not late.swarm.in_step.is_set()
        await start(nursery, [free])
        await late.swarm.in_step.wait()
        assert agree([free, late])
        nursery.cancel_scope.cancel()


async def test_a_claim_that_is_too_large_is_told_without_its_tunables(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 2)
    async with trio.open_nursery() as nursery:
        await start_and_meet(nursery, members)
        claim = replace(claim_of("ab" * 20), tunables={f"{number:0250}": "x" * 250 for number in range(20)})
        await members[0].swarm.claim(claim)
        await until(lambda: [said for _, said in members[1].swarm.claims()] == [replace(claim, tunables={})], 2)
        nursery.cancel_scope.cancel()


def presence_of(number: int) -> Record:
    return seal(identity(number), SWARM_ID, Presence(virtual_ms(), (), "cpu", "1", "", 0, 0, 0))


async def test_who_asks_who_is_here_brings_itself_alone_and_asks_seldom(autojump_clock: MockClock) -> None:
    """Or one stranger could make a swarm look as large as it likes, and so make all others fall silent."""
    network = MemoryNetwork()
    (member,) = members_of(network, 1)
    crowd = network.transport(identity(99).peer_id)
    async with trio.open_nursery() as nursery:
        await start(nursery, [member])
        await crowd.connect(member.address)
        for number in range(20):
            async with conversation(crowd, member.transport.peer_id, PRESENT) as stream:
                with suppress(RemoteProtocolError):
                    ghosts = range(1000 * number, 1000 * number + 200)
                    await wire.say(stream, "present", [presence_of(100 + ghost).wire for ghost in ghosts])
                    await wire.hear(stream, "present")
        assert len(member.swarm.presences()) <= 6
        assert member.rejected["quota"] >= 10
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


SCHEME = CommitScheme({"program.md": b"a program", "train.py": b"x = 1\n"}, "train.py")


def result_of(member: Member, parent: str, asset: bytes) -> Record:
    """A result of the member's, in its store and not yet published."""
    record = result(
        member.identity, SCHEME, 1.0, parent=parent, asset=asset, origin=Origin.AGENT, created_ms=virtual_ms(),
        swarm_id=SWARM_ID,
    )  # fmt: skip
    return member.keep(record)


def commit_of(record: Record) -> str:
    assert record.result is not None
    return record.result.commit


async def test_a_result_ends_its_claim(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 2)
    async with trio.open_nursery() as nursery:
        await start_and_meet(nursery, members)
        commit = SCHEME.candidate(SCHEME.genesis, blob_id(b"x = 2\n"))
        await members[0].swarm.claim(claim_of(commit))
        await until(lambda: len(members[1].swarm.claims()) == 1, 2)
        record = result_of(members[0], SCHEME.genesis, b"x = 2\n")
        assert commit_of(record) == commit
        await members[0].swarm.publish(record)
        await until(lambda: members[1].swarm.claims() == [], 2)
        nursery.cancel_scope.cancel()


async def test_a_result_without_its_parent_brings_the_parent_at_once(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 2)
    async with trio.open_nursery() as nursery:
        await start_and_meet(nursery, members)
        await trio.sleep(5)  # the exchange on connecting is over
        parent = result_of(members[0], SCHEME.genesis, b"x = 2\n")
        await members[0].swarm.publish(result_of(members[0], commit_of(parent), b"x = 3\n"))
        await until(lambda: agree(members), 3)
        nursery.cancel_scope.cancel()


async def test_an_asset_comes_from_whoever_has_the_right_one(autojump_clock: MockClock) -> None:
    members = members_of(MemoryNetwork(), 4)
    commit = "ab" * 20
    members[1].assets[commit] = b"wrong"
    members[2].assets[commit] = bytes(3 << 20)
    async with trio.open_nursery() as nursery:
        await start(nursery, members)
        await until(lambda: all(len(member.transport.peers()) == 3 for member in members), 60)
        found = await members[0].swarm.fetch_asset(commit, lambda data: data == bytes(3 << 20))
        assert found == bytes(3 << 20)
        assert await members[0].swarm.fetch_asset("cd" * 20, lambda data: True) is None
        assert await members[0].swarm.fetch_asset(commit, lambda data: False) is None
        assert members[0].rejected["commit"] >= 2
        nursery.cancel_scope.cancel()


async def test_a_newcomer_without_a_program_asks_for_it() -> None:
    files = {"program.md": b"+++\n+++\n", "train.py": bytes(2 << 20)}
    program_id = swarm_id_of(files)
    network = MemoryNetwork(latency=lambda rng: 0.001)
    host = Member(1, network.transport(identity(1).peer_id), swarm_id=program_id, packed=pack(files))
    guest = network.transport(identity(2).peer_id)
    async with trio.open_nursery() as nursery:
        await start(nursery, [host])
        peer = await guest.connect(host.address)
        assert await hello(guest, peer) == Hello(program_id, "bees", None, "1")
        assert await fetch_program(guest, peer, program_id) == files
        with pytest.raises(RemoteProtocolError, match="program"):
            await fetch_program(guest, peer, bytes(32))
        nursery.cancel_scope.cancel()

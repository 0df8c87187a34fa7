"""Who is here, what others run and what came of it, as a swarm in memory hears it."""

from contextlib import suppress
from dataclasses import replace

import trio
from trio.testing import MockClock

from gossip import wire
from gossip.hello import conversation
from gossip.live import CLAIM_BUDGETS, CLAIM_GRACE_MS
from gossip.memory import MemoryNetwork
from gossip.present import PRESENT
from gossip.sync import SYNC
from gossip.transport import Stream
from protocol.commits import CommitScheme, blob_id
from protocol.errors import RemoteProtocolError
from protocol.records import Claim, Presence, Record, seal
from protocol.statements import Origin
from tests.gossip.members import SWARM_ID, Member, agree, identity, virtual_ms
from tests.gossip.swarms import LONG, members_of, start, start_and_meet
from tests.node.statements import result
from tests.waiting import until


def claim_of(commit: str) -> Claim:
    return Claim(virtual_ms(), commit, Origin.AGENT, "cpu", {"RATE": 0.1}, "", 300.0)


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

"""Whom to dial and when, who is here, and who is shut out."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from gossip.book import MOST_ADDRESSES, MOST_PEERS, MOST_RETRY_SECONDS, RETRY_SECONDS, AddressBook
from gossip.gate import (
    BURST,
    FLOOD_A_SECOND,
    FORGET_SECONDS,
    FORWARDED_A_SECOND,
    FORWARDED_BURST,
    MAX_EPHEMERAL_BYTES,
    SHUT_OUT_MS,
    STALE_MS,
    STRIKES,
    Gate,
)
from gossip.live import (
    CLAIMS_A_SECOND,
    CLAIMS_AN_AUTHOR,
    MAX_AUTHORS,
    MAX_CLAIMS,
    MISSED,
    PRESENCE_SECONDS,
    PRESENCES_A_SECOND,
    Live,
    lasts_ms,
)
from protocol.commits import CommitScheme
from protocol.errors import RemoteProtocolError
from protocol.records import Claim, Note, Presence, Record, seal
from protocol.statements import Origin
from tests.gossip.members import EPOCH_MS, SWARM_ID, identity
from tests.node.statements import result


def at(number: int, host: int = 1) -> str:
    return f"/ip4/192.0.2.{host}/tcp/1/p2p/{identity(number).peer_id}"


def book() -> AddressBook:
    return AddressBook(identity(1).peer_id, random.Random(0))


def test_a_failed_dial_is_repeated_later_and_later() -> None:
    ours, now, waits = book(), 0.0, []
    ours.keep([at(2)])
    for _ in range(8):
        address = ours.candidate([], now)
        assert address == at(2)
        ours.tried(address, False, now)
        assert ours.candidate([], now) is None
        since = now
        while ours.candidate([], now) is None:
            now += 1.0
        waits.append(now - since)
        ours._trying.clear()  # looking for it counted as a dial
    assert waits[0] <= RETRY_SECONDS + 1
    assert MOST_RETRY_SECONDS / 2 <= waits[-1] <= MOST_RETRY_SECONDS + 1


def test_all_addresses_of_a_peer_get_their_turn() -> None:
    ours = book()
    ours.hear(identity(2).peer_id, [at(2, host) for host in (1, 2, 3)])
    given = []
    for turn in range(3):
        address = ours.candidate([], 1000.0 * turn)
        assert address is not None
        ours.tried(address, False, 1000.0 * turn)
        given.append(address)
    assert set(given) == {at(2, host) for host in (1, 2, 3)}


def test_who_is_being_tried_is_nobodys_next_until_that_has_come_to_its_end() -> None:
    """However long it takes (a call takes half a minute), and whatever is heard of the peer meanwhile."""
    ours, peer = book(), identity(2).peer_id
    ours.keep([at(2)])
    ours.hear(peer, [at(2, 2)])
    first = ours.candidate([], 0.0)
    ours.hear(peer, [at(2, 3)])
    assert first is not None
    assert ours.candidate([], 1000.0) is None
    ours.tried(first, False, 1000.0)
    assert ours.candidate([], 2000.0) is not None


def test_who_is_connected_or_is_us_is_not_dialed() -> None:
    ours = book()
    ours.keep([at(1), at(2), "nonsense"])
    ours.hear(identity(1).peer_id, [at(1)])
    assert ours.candidate([identity(2).peer_id], 0.0) is None


def test_nobody_speaks_for_another_or_fills_the_book() -> None:
    ours = book()
    ours.hear(identity(2).peer_id, [at(3)])
    assert ours.candidate([], 0.0) is None
    ours.hear(identity(2).peer_id, [at(2, host) for host in range(50)])
    assert len(ours._heard[identity(2).peer_id].addresses) == MOST_ADDRESSES
    for number in range(3, MOST_PEERS + 50):
        ours.hear(identity(number).peer_id, [at(number)])
    assert len(ours._heard) == MOST_PEERS


class Clock:
    def __init__(self) -> None:
        self.now_ms = EPOCH_MS

    def __call__(self) -> int:
        return self.now_ms


def presence(number: int, created_ms: int) -> Record:
    return seal(identity(number), SWARM_ID, Presence(created_ms, (), "cpu", "1", "", 0, 0, 0))


def test_presence_slows_down_as_the_swarm_grows() -> None:
    clock = Clock()
    live = Live(identity(1).public_key, clock)
    assert live.interval == PRESENCE_SECONDS
    for number in range(2, 202):
        live.hear(presence(number, clock.now_ms))
    assert live.interval == 200 / PRESENCES_A_SECOND


def test_a_flood_of_keys_does_not_silence_a_swarm() -> None:
    """A presence is still passed on when the next one comes."""
    clock = Clock()
    live = Live(identity(1).public_key, clock)
    for number in range(2, 2 + MAX_AUTHORS + 10):
        live.hear(presence(number, clock.now_ms))
    assert live.interval <= STALE_MS / 1000 / 2


def test_who_is_silent_is_gone_and_an_old_presence_does_not_bring_it_back() -> None:
    clock = Clock()
    live = Live(identity(1).public_key, clock)
    said = presence(2, clock.now_ms)
    live.hear(said)
    clock.now_ms += round(1000 * MISSED * PRESENCE_SECONDS) + 1
    live.hear(said)
    assert live.presences() == {}
    live.sweep()
    live.hear(presence(2, clock.now_ms))
    assert list(live.presences()) == [identity(2).peer_id]


SCHEME = CommitScheme({"program.md": b"a program", "train.py": b"x = 1\n"}, "train.py")


def claim_of(number: int, created_ms: int, commit: str = SCHEME.genesis) -> Record:
    return seal(identity(number), SWARM_ID, Claim(created_ms, commit, Origin.AGENT, "cpu", {}, "", 60.0))


def result_of(number: int, created_ms: int) -> Record:
    """Of what ``claim_of`` claims."""
    return result(identity(number), SCHEME, 1.0, created_ms=created_ms, swarm_id=SWARM_ID)


def test_a_result_ends_what_was_claimed_before_it_for_good_and_nothing_later() -> None:
    clock = Clock()
    live = Live(identity(1).public_key, clock)
    first, again = claim_of(2, clock.now_ms), claim_of(2, clock.now_ms + 2000)
    live.hear(first)
    live.hear_result(result_of(2, clock.now_ms + 1000))
    live.hear(first)  # by somebody who has not heard of the result
    assert live.claims() == []
    live.hear(again)
    live.hear_result(result_of(2, clock.now_ms + 1000))
    assert [claim for _, claim in live.claims()] == [again.statement]


def test_claims_of_a_crowd_are_bounded() -> None:
    clock = Clock()
    live = Live(identity(1).public_key, clock)
    for author in range(2, 2 + MAX_CLAIMS // CLAIMS_AN_AUTHOR + 10):
        for number in range(CLAIMS_AN_AUTHOR):
            live.hear(claim_of(author, clock.now_ms, f"{number:040x}"))
    assert len(live.claimed()) <= MAX_CLAIMS


def test_an_author_claims_little_at_a_time_and_ones_own_are_only_passed_on() -> None:
    clock = Clock()
    live = Live(identity(1).public_key, clock)
    for author in (1, 2):
        for number in range(2 * CLAIMS_AN_AUTHOR):
            live.hear(claim_of(author, clock.now_ms, f"{number:040x}"))
    latest = range(CLAIMS_AN_AUTHOR, 2 * CLAIMS_AN_AUTHOR)
    assert [claim.commit for _, claim in live.claims()] == [f"{number:040x}" for number in latest]
    assert {record.author for record in live.claimed()} == {identity(author).public_key for author in (1, 2)}


def test_what_every_node_tells_once_in_a_budget_is_bounded_in_all() -> None:
    clock = Clock()
    live = Live(identity(1).public_key, clock)
    assert live.share(CLAIMS_A_SECOND, 20.0) == 1.0
    for number in range(2, 1001):
        live.hear(presence(number, clock.now_ms))
    assert 1000 / 20.0 * live.share(CLAIMS_A_SECOND, 20.0) == pytest.approx(CLAIMS_A_SECOND)


def test_a_claim_that_is_passed_on_may_be_as_old_as_it_stands() -> None:
    clock = Clock()
    gate = Gate(SWARM_ID, clock, lambda reason, peer: None)
    long = Claim(clock.now_ms, "ab" * 20, Origin.AGENT, "cpu", {}, "", 3600.0)
    record = seal(identity(2), SWARM_ID, long)
    clock.now_ms += STALE_MS + 1
    assert gate.open(record.wire, passed_on=True) == record
    with pytest.raises(RemoteProtocolError, match="old news"):
        gate.open(record.wire)
    clock.now_ms += lasts_ms(long)
    with pytest.raises(RemoteProtocolError, match="old news"):
        gate.open(record.wire, passed_on=True)


def test_a_presence_or_claim_is_small() -> None:
    clock = Clock()
    gate = Gate(SWARM_ID, clock, lambda reason, peer: None)
    tunables = {f"{number:0250}": "x" * 250 for number in range(20)}
    large = Claim(clock.now_ms, "ab" * 20, Origin.AGENT, "cpu", tunables, "", 60.0)
    record = seal(identity(2), SWARM_ID, large)
    assert len(record.wire) > MAX_EPHEMERAL_BYTES
    with pytest.raises(RemoteProtocolError) as caught:
        gate.open(record.wire)
    assert caught.value.reason == "oversize"


def test_a_gate_counts_forgives_and_shuts_out() -> None:
    clock, counted = Clock(), Counter[str]()
    gate = Gate(SWARM_ID, clock, lambda reason, peer: counted.update([reason]))
    note = seal(identity(2), SWARM_ID, Note(clock.now_ms, 1, "hello", ()))
    assert gate.admit("peer", note.wire)
    ahead = seal(identity(2), SWARM_ID, Note(clock.now_ms + 10**7, 1, "hello", ()))
    for _ in range(2 * STRIKES):
        assert not gate.admit("peer", ahead.wire)
    assert not gate.shuts_out("peer")
    for number in range(STRIKES):
        assert not gate.admit("peer", b"%d" % number)
    assert gate.shuts_out("peer")
    assert not gate.hears("peer")
    assert gate.hears("another")
    clock.now_ms += SHUT_OUT_MS
    assert gate.hears("peer")
    assert counted == {"future": 2 * STRIKES, "malformed": STRIKES}


def test_what_there_is_no_room_for_is_nobodys_fault_and_not_asked_for_again() -> None:
    gate = Gate(SWARM_ID, Clock(), lambda reason, peer: None)
    for number in range(2 * STRIKES):
        gate.reject(RemoteProtocolError("full"), "peer")
        gate.refuse(f"{number:064x}", RemoteProtocolError("full"))
    gate.refuse("a" * 64, RemoteProtocolError("future"))
    assert not gate.shuts_out("peer")
    assert gate.refused(f"{0:064x}")
    assert not gate.refused("a" * 64)


def test_a_forged_signature_is_refused_also_after_the_true_one_was_seen() -> None:
    counted = Counter[str]()
    gate = Gate(SWARM_ID, Clock(), lambda reason, peer: counted.update([reason]))
    note = seal(identity(2), SWARM_ID, Note(EPOCH_MS, 1, "hello", ()))
    assert gate.admit("peer", note.wire)
    assert not gate.admit("peer", replace(note, signature=bytes(64)).wire)
    assert counted == {"signature": 1}


def test_the_author_is_rate_limited_and_nobody_is_blamed() -> None:
    clock, counted = Clock(), Counter[str]()
    gate = Gate(SWARM_ID, clock, lambda reason, peer: counted.update([reason]))
    note = seal(identity(2), SWARM_ID, Note(clock.now_ms, 1, "hello", ()))
    other = seal(identity(3), SWARM_ID, Note(clock.now_ms, 1, "hello", ()))
    admitted = sum(gate.admit("peer", note.wire) for _ in range(round(BURST) + 100))
    assert admitted == BURST
    assert counted == {"quota": 100}
    assert not gate.shuts_out("peer")
    assert gate.admit("peer", other.wire)
    clock.now_ms += 1000
    assert gate.admit("peer", note.wire)


def test_a_flood_through_one_forwarder_is_not_looked_at_and_blames_no_author() -> None:
    clock, counted = Clock(), Counter[str]()
    gate = Gate(SWARM_ID, clock, lambda reason, peer: counted.update([f"{reason} {peer}"]))
    assert all(gate.hears("flood") for _ in range(round(FORWARDED_BURST)))
    assert not gate.hears("flood")
    assert counted == {"quota flood": 1}
    assert gate.hears("another")
    clock.now_ms += 1000
    assert gate.hears("flood")
    assert not gate.shuts_out("flood")


@pytest.mark.parametrize(("times", "parted"), [(0.9, False), (1.5, True)])
def test_who_floods_for_long_is_parted_from(times: float, parted: bool) -> None:
    clock, counted = Clock(), Counter[str]()
    gate = Gate(SWARM_ID, clock, lambda reason, peer: counted.update([reason]))
    for _ in range(300):
        for _ in range(round(FORWARDED_A_SECOND + times * FLOOD_A_SECOND)):
            gate.hears("flood")
        clock.now_ms += 1000
    assert set(counted) == {"quota"}
    assert gate.shuts_out("flood") is parted


def test_what_was_wrong_is_forgotten_in_time() -> None:
    clock, counted = Clock(), Counter[str]()
    gate = Gate(SWARM_ID, clock, lambda reason, peer: counted.update([reason]))
    for _ in range(10 * STRIKES):
        gate.reject(RemoteProtocolError("malformed", ""), "peer")
        clock.now_ms += round(1000 * FORGET_SECONDS / STRIKES) + 60_000
    assert not gate.shuts_out("peer")
    clock.now_ms += round(1000 * FORGET_SECONDS)
    for _ in range(STRIKES):
        assert not gate.shuts_out("peer")
        gate.reject(RemoteProtocolError("malformed", ""), "peer")
    assert gate.shuts_out("peer")


def test_an_older_claim_that_is_passed_on_does_not_cut_a_newer_one_short() -> None:
    clock = Clock()
    live = Live(identity(1).public_key, clock)
    new, old = claim_of(2, clock.now_ms), claim_of(2, clock.now_ms - 80_000)
    live.hear(new)
    live.hear(old)
    assert [one.created_ms for _, one in live.claims()] == [clock.now_ms]
    clock.now_ms += 100_000
    assert live.claims()

"""Sessions that are answered at a time."""

from contextlib import ExitStack

from gossip.slots import MOST_SESSIONS, SESSIONS_OF_A_HOST, Slots

CROWD = range(2 * MOST_SESSIONS)


def test_many_identities_of_one_host_leave_room_for_others() -> None:
    slots = Slots()
    with ExitStack() as stack:
        taken = [stack.enter_context(slots.taken(f"sybil {number}", "192.0.2.66")) for number in CROWD]
        assert taken.count(True) == SESSIONS_OF_A_HOST
        assert stack.enter_context(slots.taken("somebody", "192.0.2.1"))
        assert not stack.enter_context(slots.taken("somebody", "192.0.2.1"))
    assert "somebody" not in slots


def test_a_network_of_ipv6_is_one_host() -> None:
    slots = Slots()
    with ExitStack() as stack:
        taken = [stack.enter_context(slots.taken(f"sybil {number}", f"2001:db8::{number}")) for number in CROWD]
        assert taken.count(True) == SESSIONS_OF_A_HOST


def test_there_are_so_many_and_each_is_free_again() -> None:
    slots = Slots()
    for _ in range(2):
        with ExitStack() as stack:
            taken = [stack.enter_context(slots.taken(f"{number}", f"192.0.2.{number}")) for number in CROWD]
            assert taken.count(True) == MOST_SESSIONS

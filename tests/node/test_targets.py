"""Which addresses Prometheus is given, whatever peers say."""

import pytest

from gossip.memory import HOST, MemoryNetwork
from node.targets import MOST_HOSTS, Hosts, address_to_tell, target, targets
from protocol.records import Presence
from tests.gossip.members import identity

PEER = identity(1).peer_id


def presence(metrics_address: str) -> Presence:
    return Presence(1, (), "cpu-x", "1", metrics_address, 0, 0, 0)


@pytest.mark.parametrize(
    ("told", "host", "expected"),
    [
        (":8420", "192.0.2.7", "192.0.2.7:8420"),
        ("192.0.2.7:8420", "192.0.2.7", "192.0.2.7:8420"),
        (":8420", "2001:db8::7", "[2001:db8::7]:8420"),
        ("127.0.0.1:9000", "127.0.0.1", "127.0.0.1:9000"),
        ("127.0.0.1:9000", "192.0.2.7", None),
        ("192.0.2.8:8420", "192.0.2.7", None),
        ("metadata.internal:80", "192.0.2.7", None),
        ("", "192.0.2.7", None),
        (":", "192.0.2.7", None),
        (":0", "192.0.2.7", None),
        (":65536", "192.0.2.7", None),
        (":²", "192.0.2.7", None),
        (":8420/evil", "192.0.2.7", None),
        ("user@:8420", "192.0.2.7", None),
    ],
)
def test_only_the_host_of_the_connection_is_listed(told: str, host: str, expected: str | None) -> None:
    assert target(told, host) == expected


def test_a_node_beyond_loopback_says_nothing_unless_it_is_to() -> None:
    assert address_to_tell("127.0.0.1", 8420, public=False) == "127.0.0.1:8420"
    assert address_to_tell("0.0.0.0", 8420, public=False) == ""
    assert address_to_tell("0.0.0.0", 8420, public=True) == address_to_tell("::", 8420, public=True) == ":8420"
    assert address_to_tell("::1", 8420, public=True) == ""


def test_this_node_and_all_that_may_be_asked_are_listed() -> None:
    heard = {"a": presence(":1"), "b": presence(""), "never connected": presence(":1")}
    assert targets("seed:8420", "me", heard, {"a": "192.0.2.7", "b": "192.0.2.8", "gone": "192.0.2.9"}) == [
        {"targets": ["seed:8420"], "labels": {"node": "me", "own": "yes"}},
        {"targets": ["192.0.2.7:1"], "labels": {"node": "a", "own": "no"}},
    ]


async def test_where_a_peer_was_is_known_while_there_are_not_too_many() -> None:
    network = MemoryNetwork(latency=lambda rng: 0.0)
    one, hub = network.transport(PEER), network.transport(identity(2).peer_id)
    hosts = Hosts(one)
    assert hosts.known() == {}
    await one.connect(hub.addresses()[0])
    assert hosts.known() == {hub.peer_id: HOST}
    await one.disconnect(hub.peer_id)
    assert hosts.known() == {hub.peer_id: HOST}
    for number in range(3, MOST_HOSTS + 3):
        await one.connect(network.transport(identity(number).peer_id).addresses()[0])
        hosts.known()
        await one.disconnect(one.peers()[0])
    await one.connect(hub.addresses()[0])
    assert len(hosts.known()) == MOST_HOSTS
    assert hub.peer_id in hosts.known()

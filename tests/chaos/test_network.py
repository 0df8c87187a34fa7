"""The network that chaos is made with does what it says; else a swarm's survival would show nothing."""

import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.chaos.network import Host, Network, inside, missing, namespaces, network, remove

pytestmark = pytest.mark.slow

#: Long against the few milliseconds that a connection takes here.
PATIENCE_SECONDS = 1.0
#: Where one is to come, also on a machine that is busy with other tests.
LONG_SECONDS = 20.0
BYTES = 200_000
PACKETS = 300


@pytest.fixture
def net() -> Iterator[Network]:
    if why := missing():
        pytest.skip(f"no network namespaces: {why}")
    with network() as made:
        yield made


def connects(one: Host, other: Host, size: int = 1, patience: float = LONG_SECONDS) -> float | None:
    """Seconds that ``size`` bytes from one host to the other and an answer took, None if too many."""
    with inside(other.namespace):
        server = socket.create_server((other.address, 0))
    with inside(one.namespace):
        client = socket.socket()
    with server, client:
        client.settimeout(patience)
        begun = time.monotonic()
        try:
            client.connect(server.getsockname())
        except TimeoutError:
            return None
        client.settimeout(LONG_SECONDS)
        served, _ = server.accept()
        with served:
            client.setblocking(False)
            sent = received = 0
            served.setblocking(False)
            while received < size:
                sent += _try(lambda sent=sent: client.send(bytes(size - sent))) if sent < size else 0
                received += _try(lambda: len(served.recv(65536)))
            return time.monotonic() - begun


def _try(step: object) -> int:
    try:
        return step()  # type: ignore[operator,no-any-return]
    except BlockingIOError:
        time.sleep(0.001)
        return 0


def test_parted_hosts_do_not_meet_until_healed(net: Network) -> None:
    one, other, third = net.host(), net.host(), net.host()
    assert connects(one, other) is not None
    with net.parted([one], [other]):
        assert connects(one, other, patience=PATIENCE_SECONDS) is None
        assert connects(other, one, patience=PATIENCE_SECONDS) is None
        assert connects(one, third) is not None
    assert connects(one, other) is not None


def test_a_slow_link_carries_no_more(net: Network) -> None:
    one, other = net.host(), net.host()
    fast = connects(one, other, BYTES)
    with net.slow(other, 800_000):
        slow = connects(one, other, BYTES)
    assert fast is not None
    assert slow is not None
    assert slow > 1.2 > fast  # (200 kB - a burst) at 100 kB/s


def test_the_share_that_is_lost(net: Network) -> None:
    one, other = net.host(), net.host()
    with inside(other.namespace):
        ear = socket.socket(type=socket.SOCK_DGRAM)
    with inside(one.namespace):
        mouth = socket.socket(type=socket.SOCK_DGRAM)
    with ear, mouth:
        ear.bind((other.address, 0))
        with net.lossy([other], 0.5):
            for _ in range(PACKETS):
                mouth.sendto(b"heard?", ear.getsockname())
        mouth.sendto(b"last", ear.getsockname())
        ear.settimeout(LONG_SECONDS)
        heard = 0
        while ear.recv(16) != b"last":
            heard += 1
    assert 0.35 < heard / PACKETS < 0.65  # by chance otherwise once in a million


def test_delayed_frames_arrive_late_and_whole(net: Network) -> None:
    one, other = net.host(), net.host()
    with net.delayed([other], 0.1, jitter=0.05):
        small, large = connects(one, other), connects(one, other, BYTES)
    assert small is not None
    assert large is not None
    assert min(small, large) > 0.15  # there, back and there again, each 50 ms or more
    again = [connects(one, other) for _ in range(5)]
    assert min(seconds for seconds in again if seconds is not None) < 0.1


def test_nothing_is_left(net: Network) -> None:
    """Though a process is still in it that would go on."""
    host = net.host()
    with inside(host.namespace):
        process = subprocess.Popen(["sleep", "600"])
    process.send_signal(signal.SIGSTOP)
    remove(net.prefix)
    assert process.wait(LONG_SECONDS) == -signal.SIGKILL
    assert namespaces(net.prefix) == []

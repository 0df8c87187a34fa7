"""A network of namespaces on one machine: each host has an address on a common bridge, and links that can be cut,
slowed down and made to lose or delay what they carry.

Packets are dropped by iptables inside a host's namespace and slowed down by ``tc tbf`` on its link; for delay,
which would need netem, tests/chaos/relay.py carries the frames. Nothing is changed outside the namespaces. All
are named ``wg-``, our process id and a number.
"""

import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.relay import Port, relay

TOOLS = ("ip", "iptables", "tc")
COMMAND_SECONDS = 20.0
#: A user's own network can't be met: nothing leads out of the namespaces.
NETWORK = "10.77.0."
#: Behind every router the same, as at home.
ROUTER, INNER = "192.168.77.1", "192.168.77.2"
MOST_HOSTS = 200
#: What a slowed link sends at once: some full frames, as a router would.
BURST_BYTES = 16 * 1024
#: What waits longer than this before a slowed link is dropped.
QUEUE_SECONDS = 2.0

_NAMESPACES = Path("/run/netns")
_OWN = "/proc/thread-self/ns/net"
_CLONE_NEWNET = 0x40000000


def missing() -> str:
    """Why there can be no such network here, "" where there can."""
    if not all(shutil.which(tool) for tool in TOOLS):
        return f"needs {', '.join(TOOLS)}"
    if os.geteuid() != 0:
        return "needs root"
    name = f"wg-{os.getpid()}-try"
    try:
        _run("ip", "netns", "add", name)
        _run("ip", "netns", "exec", name, "iptables", "-w", "-A", "INPUT", *_lossy(0.5))
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)}: {error.stderr.strip()}"
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=COMMAND_SECONDS)
    return ""


@contextmanager
def inside(namespace: str) -> Iterator[None]:
    """What this thread starts and connects within the block belongs to the namespace, and stays there."""
    own = os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)
    try:
        there = os.open(_NAMESPACES / namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)


@dataclass
class Network:
    """Hosts joined by a bridge, which is a namespace of its own."""

    prefix: str
    hosts: "list[Host]" = field(default_factory=list)

    @property
    def hub(self) -> str:
        return f"{self.prefix}-hub"

    def host(self) -> "Host":
        """Another host, with the next address."""
        number = len(self.hosts) + 1
        assert number <= MOST_HOSTS
        host = Host(self, number)
        _add_namespace(host.namespace)
        self.hosts.append(host)
        _run("ip", "link", "add", "eth0", "netns", host.namespace, "type", "veth",
             "peer", "name", host.port, "netns", self.hub)  # fmt: skip
        _ip(host.namespace, "addr", "add", f"{host.address}/24", "dev", "eth0")
        _ip(host.namespace, "link", "set", "eth0", "up")
        self.plug(host.port)
        return host

    def behind_nat(self, *, resets: bool = False) -> "Host":
        """A host that reaches others from a router's address, and that none can dial. Its own address is private. The
        router drops what it does not know, or ``resets`` it, as many at home do.
        """
        router = self.host()
        inner = Host(self, router.number, inner=True)
        _add_namespace(inner.namespace)
        _run("ip", "link", "add", "eth0", "netns", inner.namespace, "type", "veth",
             "peer", "name", "inner", "netns", router.namespace)  # fmt: skip
        for host, device, address in ((router, "inner", ROUTER), (inner, "eth0", inner.address)):
            _ip(host.namespace, "addr", "add", f"{address}/24", "dev", device)
            _ip(host.namespace, "link", "set", device, "up")
        _ip(inner.namespace, "route", "add", "default", "via", ROUTER)
        _run("ip", "netns", "exec", router.namespace, "sysctl", "-q", "net.ipv4.ip_forward=1")
        router.iptables("-t", "nat", "-A", "POSTROUTING", "-o", "eth0", "-j", "MASQUERADE")
        answer = ("REJECT", "--reject-with", "tcp-reset") if resets else ("DROP",)
        for chain in ("INPUT", "FORWARD"):
            router.iptables("-A", chain, "-i", "eth0", "-p", "tcp", "-m", "state", "--state", "NEW", "-j", *answer)
        return inner

    def plug(self, port: str) -> None:
        _ip(self.hub, "link", "set", port, "master", "bridge", "up")

    @contextmanager
    def parted(self, one: "Sequence[Host]", other: "Sequence[Host]") -> Iterator[None]:
        """Nothing gets from one side to the other, and nobody is told so."""
        for here, there in ((one, other), (other, one)):
            for host in here:
                host.drop_from(there)
        try:
            yield
        finally:
            for host in (*one, *other):
                host.drop_nothing()

    @contextmanager
    def lossy(self, hosts: "Iterable[Host]", share: float) -> Iterator[None]:
        """That share of what arrives at the hosts is lost, at random."""
        held = list(hosts)
        for host in held:
            host.iptables("-A", "INPUT", "-i", "eth0", *_lossy(share))
        try:
            yield
        finally:
            for host in held:
                host.drop_nothing()

    @contextmanager
    def slow(self, host: "Host", bits_per_second: int) -> Iterator[None]:
        """The host's link carries no more, either way."""
        ends = ((host.namespace, "eth0"), (self.hub, host.port))
        for namespace, device in ends:
            _run("tc", "-n", namespace, "qdisc", "add", "dev", device, "root", "tbf", "rate", f"{bits_per_second}bit",
                 "burst", str(BURST_BYTES), "latency", f"{round(1000 * QUEUE_SECONDS)}ms")  # fmt: skip
        try:
            yield
        finally:
            for namespace, device in ends:
                _run("tc", "-n", namespace, "qdisc", "del", "dev", device, "root")

    @contextmanager
    def delayed(self, hosts: "Iterable[Host]", seconds: float, jitter: float = 0.0) -> Iterator[None]:
        """What the hosts send and get is ``seconds`` late, more or less by up to ``jitter``: frames may overtake
        each other.
        """
        with ExitStack() as stack:
            pairs = [stack.enter_context(self._detour(host)) for host in hosts]
            with relay(pairs, seconds, jitter):
                yield

    @contextmanager
    def _detour(self, host: "Host") -> Iterator[tuple[Port, Port]]:
        """The two ends between which a host's frames must be carried by somebody."""
        near, far = f"near{host.number}", f"far{host.number}"
        _ip(self.hub, "link", "add", near, "type", "veth", "peer", "name", far)
        _ip(self.hub, "link", "set", near, "up")
        try:
            with inside(self.hub), Port(host.port) as one, Port(near) as other:
                _ip(self.hub, "link", "set", host.port, "nomaster")
                self.plug(far)
                yield one, other
        finally:
            _ip(self.hub, "link", "del", near)
            self.plug(host.port)


@dataclass(frozen=True)
class Host:
    """One namespace with one address."""

    network: Network
    number: int
    #: behind the router that has this number too
    inner: bool = False

    @property
    def namespace(self) -> str:
        return f"{self.network.prefix}-{self.number}{'-inner' if self.inner else ''}"

    @property
    def address(self) -> str:
        return INNER if self.inner else f"{NETWORK}{self.number}"

    @property
    def port(self) -> str:
        """Its plug at the bridge."""
        return f"port{self.number}"

    def drop_from(self, others: "Iterable[Host]") -> None:
        self.iptables("-A", "INPUT", "-s", ",".join(other.address for other in others), "-j", "DROP")

    def drop_nothing(self) -> None:
        self.iptables("-F")

    def iptables(self, *arguments: str) -> str:
        return _run("ip", "netns", "exec", self.namespace, "iptables", "-w", *arguments)


@contextmanager
def network() -> Iterator[Network]:
    """An empty one. At the end, however that comes, what still runs in it is killed and all of it is removed."""
    _sweep()
    made = Network(f"wg-{os.getpid()}")
    try:
        _add_namespace(made.hub)
        _ip(made.hub, "link", "add", "bridge", "type", "bridge")
        _ip(made.hub, "link", "set", "bridge", "up")
        yield made
    finally:
        with _uninterrupted():
            remove(made.prefix)


def namespaces(prefix: str = "wg-") -> list[str]:
    """Those that are there, of ours."""
    return sorted(one.name for one in _NAMESPACES.glob(f"{prefix}*")) if _NAMESPACES.exists() else []


def _sweep() -> None:
    """Remove what was left by a run that was killed with no time to do so."""
    for prefix in {"-".join(name.split("-")[:2]) for name in namespaces()}:
        number = prefix.removeprefix("wg-")
        if number.isdigit() and not Path("/proc", number).exists():
            remove(prefix)


def remove(prefix: str) -> None:
    """Kill what runs in the namespaces that are named so, and remove them."""
    for name in namespaces(f"{prefix}-"):
        for process in _run("ip", "netns", "pids", name).split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        _run("ip", "netns", "del", name)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C waits for the end of the block."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _add_namespace(name: str) -> None:
    _run("ip", "netns", "add", name)
    _ip(name, "link", "set", "lo", "up")


def _ip(namespace: str, *arguments: str) -> None:
    _run("ip", "-n", namespace, *arguments)


def _lossy(share: float) -> tuple[str, ...]:
    return "-m", "statistic", "--mode", "random", "--probability", f"{share:g}", "-j", "DROP"


def _enter(namespace: int) -> None:
    if _LIBC.setns(namespace, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMMAND_SECONDS).stdout


_LIBC = ctypes.CDLL(None, use_errno=True)

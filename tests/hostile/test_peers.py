"""Hostile peers on real libp2p: what they send is counted by its reason, who goes on is parted from and stays out,
and the honest swarm works on.
"""

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgpack
import pytest
import trio
from libp2p.peer.id import ID
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_varint_prefixed

from gossip import gate, wire
from gossip.alive import ALIVE
from gossip.fetch import FETCH
from gossip.gate import BURST, STRIKES
from gossip.hello import HELLO, PROGRAM, fetch_program
from gossip.libp2p_transport import Libp2pTransport, open_transport
from gossip.overrides import MOST_STREAMS
from gossip.present import PRESENT
from gossip.slots import MOST_SESSIONS
from gossip.sync import SYNC
from gossip.transport import MAX_MESSAGE_BYTES, ConnectError, Stream
from protocol.errors import RemoteProtocolError
from protocol.records import Note, Record, seal
from tests.gossip.members import SWARM_ID, Member, identity, real_ms
from tests.gossip.test_garbage import MESHSUB
from tests.gossip.test_parting import ask_for_all
from tests.waiting import until

pytestmark = pytest.mark.slow

LOCAL = "/ip4/127.0.0.1/tcp/0"
TOPIC = f"waggle/{SWARM_ID.hex()}"
EVIL = identity(66)
DAY_MS = 86_400_000
SECONDS = 20.0
#: What an attack may cost in memory, in bytes: buffers of streams and frames in flight.
MEMORY = 200 << 20


@dataclass
class Scene:
    """Two honest members that know each other, and an attacker that is connected to the first."""

    honest: list[Member]
    evil: Libp2pTransport

    @property
    def victim(self) -> str:
        return self.honest[0].transport.peer_id

    async def say(self, data: bytes) -> None:
        await self.evil.publish(TOPIC, data)
        await trio.sleep(0.005)

    async def unharmed(self) -> None:
        """What one honest member tells the other hears."""
        record = self.honest[1].note(secrets.randbelow(1 << 30))
        await self.honest[1].swarm.publish(record)
        await until(lambda: record.id in self.honest[0].records, SECONDS)

    async def shut_out(self) -> None:
        """The attacker is parted from, and again where it comes back."""
        await until(lambda: not self.connected, SECONDS)
        with suppress(ConnectError):
            await self.evil.connect(self.honest[0].address)
        await until(lambda: not self.connected, SECONDS)

    @property
    def connected(self) -> bool:
        return self.evil.peer_id in self.honest[0].transport.peers()


@asynccontextmanager
async def scene(
    door: gate.Door | None = None, clock_ms: Callable[[], int] = real_ms
) -> AsyncIterator[Scene]:
    """``door`` and ``clock_ms`` are the first's."""
    async with (
        open_transport(identity(1), [LOCAL], door=door) as one,
        open_transport(identity(2), [LOCAL]) as two,
        open_transport(EVIL, [LOCAL]) as evil,
        trio.open_nursery() as nursery,
    ):
        first = Member(1, one, clock_ms=clock_ms)
        second = Member(2, two, one.addresses(), clock_ms=real_ms)
        for member in (first, second):
            await nursery.start(member.swarm.run)
        await until(lambda: two.peer_id in one.peers(), SECONDS)
        await evil.subscribe(TOPIC, lambda forwarder, data: True)
        await evil.connect(one.addresses()[0])
        found = Scene([first, second], evil)
        await found.unharmed()  # their gossip has a mesh
        before = peak_memory(forget=True)
        yield found
        await found.unharmed()
        assert peak_memory() - before < MEMORY
        nursery.cancel_scope.cancel()


def peak_memory(*, forget: bool = False) -> int:
    """Bytes that this process had at most, from now on where what was before is forgotten (proc_pid_clear_refs(5))."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return 1024 * int(found[1])


def note(number: int, swarm_id: bytes = SWARM_ID, ahead_ms: int = 0) -> Record:
    return seal(EVIL, swarm_id, Note(real_ms() + ahead_ms, number, f"evil {number}", ()))


def forged(number: int) -> bytes:
    data = bytearray(note(number).wire)
    data[-1] ^= 1
    return bytes(data)


#: Messages on the topic: what they count as, and how the n-th is made.
MESSAGES: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "noise": ("malformed", lambda number: secrets.token_bytes(200)),
    "nothing": ("malformed", lambda number: b"%d" % number),
    "deep": ("malformed", lambda number: b"\x91" * (30_000 + number)),
    "an array of four thousand millions": ("malformed", lambda number: b"\xdd\xff\xff\xff\xff" + b"%d" % number),
    "a map of maps": ("malformed", lambda number: b"\xdf\xff\xff\xff\xff" * (100 + number)),
    "a string without an end": ("malformed", lambda number: b"\xdb\xff\xff\xff\xff" + b"x" * number),
    "another kind of object": ("malformed", lambda number: msgpack.packb({"a": number})),
    "a forged signature": ("signature", forged),
    "another swarm": ("swarm", lambda number: note(number, bytes(32)).wire),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_wrong_messages_are_counted_and_their_sender_parted_from(name: str) -> None:
    reason, make = MESSAGES[name]
    async with scene() as found:
        first = found.honest[0]
        for number in range(STRIKES + 4):
            await found.say(make(number))
        await until(lambda: first.rejected[reason] >= STRIKES, SECONDS)
        assert set(first.rejected) == {reason}
        await found.shut_out()


async def test_news_from_the_future_wait_and_nobody_is_blamed() -> None:
    async with scene() as found:
        for number in range(STRIKES + 4):
            await found.say(note(number, ahead_ms=DAY_MS).wire)
        await until(lambda: found.honest[0].rejected["future"] >= STRIKES, SECONDS)
        assert not [one for one in found.honest[0].records.values() if one.author == EVIL.public_key]
        assert found.connected


async def test_replays_change_nothing_and_silence_nobody() -> None:
    """A peer repeats what an honest author said; that author is heard on."""
    async with scene() as found:
        router = found.evil._pubsub.router
        await until(lambda: any(str(peer) == found.victim for peer in router.mesh[TOPIC]), SECONDS)
        await found.unharmed()
        heard = router.mcache.msgs
        await until(lambda: len(heard) > 0, SECONDS)
        old = list(heard.values())
        stream = await found.evil._host.new_stream(ID.from_base58(found.victim), [MESHSUB])
        for _ in range(int(BURST) // 10):
            rpc = rpc_pb2.RPC(publish=old)
            await stream.write(encode_varint_prefixed(rpc.SerializeToString()))
        await found.unharmed()
        assert not found.honest[0].rejected
        assert found.honest[0].records.keys() == {*found.honest[1].records}


async def test_messages_over_the_bound_go_nowhere_and_their_sender_is_parted_from() -> None:
    async with scene() as found:
        for number in range(STRIKES):
            await found.evil._pubsub.publish(TOPIC, b"%d" % number + bytes(MAX_MESSAGE_BYTES))
        await until(lambda: found.honest[0].rejected["oversize"] == STRIKES, SECONDS)
        await found.shut_out()
        await found.unharmed()
        assert not found.honest[1].rejected


# ---- streams


async def silent(scene: Scene, protocol: str) -> None:
    """Open far more streams than anybody needs and say nothing."""
    opened = []
    for _ in range(2 * MOST_STREAMS):
        with suppress(RemoteProtocolError):
            opened.append(await scene.evil.open(scene.victim, protocol))
    await scene.unharmed()


async def endless(scene: Scene, protocol: str) -> None:
    """Frames as large as they may be, one after the other, and an answer that is never read."""
    with suppress(RemoteProtocolError), trio.move_on_after(3.0):
        stream = await scene.evil.open(scene.victim, protocol)
        while True:
            await wire.say(stream, "records", [b"x" * 60_000] * 16)


async def oversized(scene: Scene, protocol: str) -> None:
    """A frame whose length says four thousand millions."""
    with suppress(RemoteProtocolError):
        stream = await scene.evil.open(scene.victim, protocol)
        with suppress(Exception), trio.move_on_after(3.0):
            await stream._stream.write(b"\xff\xff\xff\xff" + b"x" * 100_000)  # type: ignore[attr-defined]
            await stream.receive(100)


async def half_open(scene: Scene, protocol: str) -> None:
    """Streams that are cut in the middle of a frame."""
    for _ in range(MOST_STREAMS):
        with suppress(Exception):
            stream = await scene.evil.open(scene.victim, protocol)
            await stream._stream.write(b"\x00\x00\x01\x00half")  # type: ignore[attr-defined]
            await stream._stream.reset()  # type: ignore[attr-defined]


async def long_question(scene: Scene, protocol: str) -> None:
    """The beginning of a frame that is larger than any honest one, and would be waited for."""
    with suppress(RemoteProtocolError):
        stream = await scene.evil.open(scene.victim, protocol)
        await stream._stream.write((wire.SHORT_BYTES + 1).to_bytes(4, "big"))  # type: ignore[attr-defined]
        await until_closed(stream)


async def wrong_word(scene: Scene, protocol: str) -> None:
    with suppress(RemoteProtocolError):
        stream = await scene.evil.open(scene.victim, protocol)
        await wire.say(stream, "nonsense")
        await until_closed(stream)


async def until_closed(stream: Stream) -> None:
    """Raises RemoteProtocolError."""
    with trio.fail_after(SECONDS):
        while True:
            await stream.receive(wire.MAX_FRAME_BYTES)


Attack = Callable[[Scene, str], Awaitable[None]]
#: What an attack counts as on each protocol. Hello and program hear nothing: they answer, and drop what comes.
STREAMS: dict[Attack, dict[str, str]] = {
    silent: {SYNC: "stream", PRESENT: "quota", FETCH: "crowd", ALIVE: "crowd"},
    endless: dict.fromkeys((SYNC, PRESENT, FETCH, ALIVE), "oversize"),
    oversized: dict.fromkeys((SYNC, PRESENT, FETCH, ALIVE), "oversize"),
    long_question: dict.fromkeys((FETCH, ALIVE), "oversize"),
    half_open: dict.fromkeys((SYNC, PRESENT, FETCH, ALIVE), "stream"),
    wrong_word: dict.fromkeys((SYNC, PRESENT, FETCH, ALIVE), "malformed"),
}
MISUSED: list[tuple[Attack, str]] = [(attack, protocol) for attack, reasons in STREAMS.items() for protocol in reasons]


@pytest.mark.parametrize(("attack", "protocol"), MISUSED, ids=lambda one: getattr(one, "__name__", one))
async def test_streams_that_are_misused_are_counted_and_harm_nobody(attack: Attack, protocol: str) -> None:
    async with scene() as found:
        rejected = found.honest[0].rejected
        await attack(found, protocol)
        reason = STREAMS[attack][protocol]
        await until(lambda: rejected[reason] >= 1, SECONDS + wire.FRAME_SECONDS)
        assert set(rejected) <= {reason, "stream", *(["quota"] if protocol == PRESENT else [])}


@pytest.mark.parametrize("protocol", [HELLO, PROGRAM])
@pytest.mark.parametrize("attack", [silent, endless, oversized, half_open])
async def test_what_comes_where_nothing_is_heard_harms_nobody(attack: Attack, protocol: str) -> None:
    async with scene() as found:
        await attack(found, protocol)
        await found.unharmed()
        assert set(found.honest[0].rejected) <= {"stream"}
        assert found.connected


@pytest.mark.parametrize("protocol", [SYNC, FETCH, ALIVE])
@pytest.mark.parametrize("attack", [oversized, wrong_word])
async def test_who_goes_on_misusing_streams_is_parted_from(attack: Attack, protocol: str) -> None:
    async with scene() as found:
        for _ in range(STRIKES):
            await attack(found, protocol)
        await found.shut_out()
        assert found.honest[0].rejected[STREAMS[attack][protocol]] >= STRIKES


@pytest.mark.parametrize("protocol", [FETCH, ALIVE])
async def test_who_opens_streams_without_end_is_parted_from(protocol: str) -> None:
    async with scene() as found:
        await silent(found, protocol)
        await found.shut_out()


async def test_one_peer_does_not_hold_all_slots_of_sync() -> None:
    async with scene() as found:
        held = [await found.evil.open(found.victim, SYNC) for _ in range(MOST_SESSIONS + 2)]
        async with open_transport(identity(3), [LOCAL]) as transport, trio.open_nursery() as nursery:
            third = Member(3, transport, [found.honest[0].address], clock_ms=real_ms)
            await nursery.start(third.swarm.run)
            await until(lambda: found.honest[0].records.keys() <= third.records.keys(), SECONDS)
            nursery.cancel_scope.cancel()
        assert held


async def test_who_asks_for_all_and_reads_nothing_does_not_hold_a_slot() -> None:
    async with scene() as found:
        first = found.honest[0]
        for number in range(400):  # several times what yamux lets be under way
            first.keep(seal(first.identity, SWARM_ID, Note(real_ms(), number, "x" * 2000, ())))
        stream = await found.evil.open(found.victim, SYNC)
        await ask_for_all(stream)
        assert found.evil.peer_id in first.swarm._served
        await found.unharmed()
        await until(lambda: found.evil.peer_id not in first.swarm._served, 2 * wire.FRAME_SECONDS)


async def test_a_program_whose_bytes_do_not_make_its_hash_is_refused() -> None:
    async with scene() as found:

        async def lie(stream: object) -> None:
            await wire.send_bytes(stream, b"another program" * 1000)  # type: ignore[arg-type]

        found.evil.handle(PROGRAM, lie)
        await until(lambda: found.connected, SECONDS)
        with pytest.raises(RemoteProtocolError) as caught:
            await fetch_program(found.honest[0].transport, found.evil.peer_id, SWARM_ID)
        assert caught.value.reason in ("program", "malformed")


async def test_one_host_does_not_take_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strangers without end from one address; who was there before is served on, and others come in later."""
    monkeypatch.setattr(gate, "MOST_OF_A_HOST", 8)
    refused: list[str] = []
    async with open_transport(identity(1), [LOCAL], door=gate.Door(on_refused=refused.append)) as one:
        friend = await trio.open_tcp_stream(*place(one))
        crowd = [await trio.open_tcp_stream(*place(one)) for _ in range(40)]
        await until(lambda: len(refused) >= 33, SECONDS)
        assert set(refused) == {"crowd"}
        for stream in crowd:
            await stream.aclose()
        async with open_transport(identity(2)) as two:
            with trio.fail_after(SECONDS):
                while one.peer_id not in two.peers():
                    with suppress(ConnectError):
                        await two.connect(one.addresses()[0])
        await friend.aclose()


def place(transport: Libp2pTransport) -> tuple[str, int]:
    _, _, host, _, port, *_ = transport.addresses()[0].split("/")
    return host, int(port)

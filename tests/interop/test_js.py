"""A peer in JavaScript, of another libp2p, connects, identifies, and receives and relays records."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import trio
from libp2p.pubsub.pb import rpc_pb2

from gossip import libp2p_transport
from gossip.alive import SAY_SECONDS
from gossip.gate import Door
from gossip.libp2p_transport import Libp2pTransport, open_transport
from gossip.overrides import message_id
from gossip.sync import SYNC
from protocol.identity import Identity
from protocol.records import Record
from tests.gossip.members import SWARM_ID, Member, identity, real_ms
from tests.waiting import until

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
LOCAL = "/ip4/127.0.0.1/tcp/0"
#: Some 100 small packages.
INSTALL_SECONDS = 200
SECONDS = 60.0


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the peer and what it needs, from npm."""
    if not shutil.which("npm") or not shutil.which("node"):
        pytest.skip("needs Node.js and npm")
    folder = tmp_path_factory.mktemp("js")
    done = install(folder)
    if done.returncode != 0 and "ENOTFOUND" in done.stderr:
        pytest.skip("npm cannot reach its registry")
    assert done.returncode == 0, done.stderr
    return folder


def install(folder: Path) -> "subprocess.CompletedProcess[str]":
    for name in ("package.json", "package-lock.json", "node20.mjs", "peer.mjs"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)


def packages() -> str:
    """What the peer is made of, with versions."""
    return ", ".join(map(" ".join, json.loads((HERE / "package.json").read_text())["dependencies"].items()))


class JavaScript:
    """The peer's process; ``said`` has what happened, in order."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def of(self, event: str) -> list[dict[str, Any]]:
        return [one for one in self.said if one["event"] == event]

    async def listen(self, stdout: trio.abc.ReceiveStream) -> None:
        held = b""
        async for piece in stdout:
            *lines, held = (held + piece).split(b"\n")
            for line in lines:
                print(line.decode())
                self.said.append(json.loads(line))


@asynccontextmanager
async def peer(folder: Path, *how: str) -> AsyncIterator[JavaScript]:
    command = ["node", "peer.mjs", SWARM_ID.hex(), *how]
    made = JavaScript()
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = await nursery.start(run)
        nursery.start_soon(made.listen, process.stdout)
        await until(lambda: bool(made.of("listening")), SECONDS)
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def member(number: int, known: str, door: Door | None = None) -> AsyncIterator[Member]:
    who: Identity = identity(number)
    async with open_transport(who, [LOCAL], door=door) as transport, trio.open_nursery() as nursery:
        made = Member(number, transport, [known], clock_ms=real_ms)
        await nursery.start(made.swarm.run)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_javascript_peer_relays_between_two_that_know_it_alone(installed: Path) -> None:
    async with peer(installed) as javascript:
        address = javascript.of("listening")[0]["address"]
        async with member(1, address) as one, member(2, address) as two:
            names = {one.transport.peer_id, two.transport.peer_id}
            await until(lambda: {said["peer"] for said in javascript.of("identified")} == names, SECONDS)
            assert all({SYNC, "/meshsub/1.1.0"} <= set(said["protocols"]) for said in javascript.of("identified"))
            await until(lambda: len(javascript.of("hello")) == 2 and len(javascript.of("sync")) >= 2, SECONDS)
            assert {said["swarm"] for said in javascript.of("hello") + javascript.of("sync")} == {SWARM_ID.hex()}
            for member_of in (one, two):
                await member_of.transport.disconnect(next(iter(names - {member_of.transport.peer_id})))
            assert one.transport.peers() == two.transport.peers() == [address.rsplit("/", 1)[1]]
            record = await tell(one, two)
            await until(lambda: record.id in {said["id"] for said in javascript.of("record")}, SECONDS)
            assert all(said["valid"] and said["swarm"] == SWARM_ID.hex() for said in javascript.of("record"))
            await trio.sleep(2 * SAY_SECONDS)
            assert len(javascript.of("alive")) >= 2
            assert address.rsplit("/", 1)[1] in one.transport.peers()


async def test_what_no_mesh_brings_comes_by_a_name_that_both_sides_give_it(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes anybody into a mesh, and the two know the peer alone: all goes by IHAVE and IWANT, both ways."""
    monkeypatch.setattr(libp2p_transport, "DEGREE", 0)
    monkeypatch.setattr(libp2p_transport, "DEGREE_LOW", 0)
    async with peer(installed, "aside") as javascript:
        address = javascript.of("listening")[0]["address"]
        door = Door([address.rsplit("/", 1)[1]])
        async with member(1, address, door) as one, member(2, address, door) as two:
            asked_of_one, offered_to_two = heard(one.transport, "iwant"), heard(two.transport, "ihave")
            topic = f"waggle/{SWARM_ID.hex()}"
            for member_of in (one, two):
                await until(partial(ready, member_of.transport, topic), SECONDS)
            assert not one.swarm.mesh()
            record = await tell(one, two)
            name = message_id(rpc_pb2.Message(topicIDs=[topic], data=record.wire))
            print(f"asked of python 1 by IWANT and offered to python 2 by IHAVE: {name.hex()}")
            assert name in asked_of_one
            assert name in offered_to_two
            assert record.id in {said["id"] for said in javascript.of("record")}


def test_the_transcript_is_of_these_versions() -> None:
    transcript = (HERE / "transcript.txt").read_text()
    assert packages() in transcript
    assert f"libp2p {version('libp2p')}," in transcript
    assert transcript.endswith("both hold\n")


async def tell(one: Member, two: Member) -> Record:
    """A new note of one, as soon as two has it."""
    record = one.note(1)
    print(f"python 1 publishes {record.id}")
    await one.swarm.publish(record)
    await until(lambda: record.id in two.records, SECONDS)
    print(f"python 2 has {record.id}")
    return record


def ready(transport: Libp2pTransport, topic: str) -> bool:
    """Whether it knows who is in the topic, and speaks with all of them: what is published earlier waits for them, and
    is then sent whole."""
    spoken_with, inside = transport._pubsub.router.peer_protocol, transport._pubsub.peer_topics.get(topic, ())
    return bool(inside) and all(one in spoken_with for one in inside)


def heard(transport: Libp2pTransport, control: str) -> list[bytes]:
    """The names, as they are on the wire, in the messages of a kind that come from now on."""
    router, names = transport._pubsub.router, list[bytes]()
    handle = getattr(router, f"handle_{control}")

    async def listen(message: Any, sender: Any) -> None:
        names.extend(message.messageIDs)
        await handle(message, sender)

    setattr(router, f"handle_{control}", listen)
    return names

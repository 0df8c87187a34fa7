"""A peer in JavaScript, of another libp2p, connects, identifies, and receives and relays records."""

import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from gossip.alive import SAY_SECONDS
from gossip.libp2p_transport import open_transport
from gossip.sync import SYNC
from protocol.identity import Identity
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
    for name in ("package.json", "package-lock.json", "node20.mjs", "peer.mjs"):
        shutil.copy(HERE / name, folder)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    if done.returncode != 0 and "ENOTFOUND" in done.stderr:
        pytest.skip("npm cannot reach its registry")
    assert done.returncode == 0, done.stderr
    return folder


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
async def peer(folder: Path) -> AsyncIterator[JavaScript]:
    command = ["node", "peer.mjs", SWARM_ID.hex()]
    made = JavaScript()
    async with trio.open_nursery() as nursery:
        run = partial(trio.run_process, command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = await nursery.start(run)
        nursery.start_soon(made.listen, process.stdout)
        await until(lambda: bool(made.of("listening")), SECONDS)
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def member(number: int, known: str) -> AsyncIterator[Member]:
    who: Identity = identity(number)
    async with open_transport(who, [LOCAL]) as transport, trio.open_nursery() as nursery:
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
            record = one.note(1)
            await one.swarm.publish(record)
            await until(lambda: record.id in two.records, SECONDS)
            await until(lambda: record.id in {said["id"] for said in javascript.of("record")}, SECONDS)
            assert all(said["valid"] and said["swarm"] == SWARM_ID.hex() for said in javascript.of("record"))
            await trio.sleep(2 * SAY_SECONDS)
            assert len(javascript.of("alive")) >= 2
            assert address.rsplit("/", 1)[1] in one.transport.peers()

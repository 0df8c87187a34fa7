"""The application, asked by a real client; and once behind the server that a node has."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest

from node.control import is_loopback
from node.http import HEADERS, PATHS, create_app, is_local
from node.metrics import Metrics
from node.snapshot import Best, Current, Snapshot
from protocol.errors import UserError
from protocol.identity import Identity
from protocol.ledger import Ledger
from protocol.statements import Origin
from tests.node.nodes import NUMBERS

TOKEN = "secret"
EVIL = "<script>alert(1)</script>\x1b[2J"
ME = Identity(bytes(32))
BLANK = Snapshot.of(NUMBERS, "cpu-x", ME.public_key, sandbox="bubblewrap", version="1")
BEST = Best("c" * 40, 0.25, "cpu-x", ME.peer_id, 3, EVIL, 0.01, 5000)
FULL = replace(
    BLANK, addresses=("/ip4/192.0.2.7/tcp/4001/p2p/x",), peers=("p",), records=7, sigma=0.01, incumbent=BEST,
    incumbents={"cpu-x": BEST, "gpu": BEST}, proven={"cpu-x": BEST}, global_best=BEST, experiments_total=6, promising=2,
    accepted=1, holdout_gaps={"cpu-x": 0.125}, authors={ME.peer_id: {"experiments": 4, "accepted": 1, "latest": 0.5}},
    noise={"cpu-x": 0.01, "gpu": 0.02}, proven_count=1,
    nodes={"cpu-x": 2, "gpu": 1}, mesh=1, foreign=True, journal_bytes=7000,
    by_status={"scored": 5, "crashed": 1}, by_origin={"agent": 6}, own_experiments=4, started_ms=1000,
    yields={"agent": {"tried": 4, "promising": 2, "accepted": 1, "proven": 0}},
    current=(Current("d" * 40, Origin.AGENT, EVIL, "training", 0.5, 10.0, 20.0, 2.0),),
)  # fmt: skip


@dataclass
class Shown:
    """What HTTP asks of a node, as it would stand at one moment; ``orders`` is what it was told."""

    now: Snapshot
    ledger: Ledger = field(default_factory=lambda: Ledger(NUMBERS.rules))
    orders: list[tuple[object, ...]] = field(default_factory=list)

    def snapshot(self) -> Snapshot:
        return self.now

    def targets(self, own: str) -> list[dict[str, object]]:
        return [{"targets": [own], "labels": {"node": ME.peer_id, "own": "yes"}}]

    def nodes(self) -> list[dict[str, object]]:
        return [{"peer": ME.peer_id, "me": True}]

    def pause(self, paused: bool) -> None:
        self.orders.append(("pause", paused))

    def judge(self, commit: str, approve: bool) -> None:
        if commit == "unknown":
            raise UserError("no experiment of a commit 'unknown' is known: see waggle log")
        self.orders.append(("judge", commit, approve))


@asynccontextmanager
async def client(
    shown: Snapshot | Shown, host: str = "127.0.0.1", metrics: Metrics | None = None, peer: str = "127.0.0.1"
) -> AsyncIterator[httpx.AsyncClient]:
    """Asks from the address ``peer``."""
    node = shown if isinstance(shown, Shown) else Shown(shown)
    app = create_app(node, metrics or Metrics(), host, TOKEN)
    transport = httpx.ASGITransport(app=app, client=(peer, 50000))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8420") as made:
        yield made


async def test_status_has_what_scripts_read() -> None:
    async with client(FULL) as web:
        status = (await web.get("/api/status")).json()
    assert status["swarm_id"] == NUMBERS.swarm_id.hex()
    assert status["peer_id"] == ME.peer_id
    assert status["addresses"] == ["/ip4/192.0.2.7/tcp/4001/p2p/x"]
    assert status["peers"] == ["p"]
    assert (status["tier"], status["records"]) == ("cpu-x", 7)
    assert status["incumbent"].items() >= {"commit": "c" * 40, "metric": 0.25, "runs": 3}.items()
    assert status["global_best"].items() >= {"tier": "cpu-x", "peer": ME.peer_id}.items()
    assert status["experiments"] == {
        "total": 6, "own": 4, "promising": 2, "accepted": 1, "by_status": {"scored": 5, "crashed": 1},
        "by_origin": {"agent": 6}, "proven": 1,
    }  # fmt: skip
    assert status["running"] is True
    assert json.dumps(status, allow_nan=False)


async def test_before_there_is_anything() -> None:
    async with client(BLANK) as web:
        for path in ("/", "/healthz", "/metrics", "/api/status", "/api/log"):
            assert (await web.get(path)).status_code == 200
        assert (await web.get("/api/best")).status_code == 404
        assert (await web.get("/api/status")).json()["global_best"] is None
        assert "\nwaggle_global_best " not in (await web.get("/metrics")).text


async def test_only_our_own_scripts_run_and_the_page_has_no_word_of_a_peer() -> None:
    async with client(FULL) as web:
        page = await web.get("/")
        assert (await web.get("/api/best")).json()["summary"] == EVIL
        for source in re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text):
            found = await web.get(source)
            assert found.status_code == 200
            assert len(found.content) > 100
        for stray in ("/assets/http.py", "/assets/..%2fhttp.py", "/assets/nosuch"):
            assert (await web.get(stray)).status_code == 404
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<script(?![^>]* src=)|\son\w+=|style=", page.text)
    for name, value in HEADERS.items():
        assert page.headers[name] == value


@pytest.mark.parametrize(
    ("method", "path", "expected"), [("GET", "/nosuch", 404), ("POST", "/api/status", 405), ("HEAD", "/", 200)]
)
async def test_nothing_else_is_answered(method: str, path: str, expected: int) -> None:
    async with client(FULL) as web:
        assert (await web.request(method, path)).status_code == expected


async def test_a_page_of_somebody_elses_reads_nothing() -> None:
    rebound = {"host": "evil.example:8420"}
    async with client(FULL) as web:
        assert (await web.get("/api/status", headers=rebound)).status_code == 421
    async with client(FULL, host="0.0.0.0") as web:
        assert (await web.get("/api/status", headers=rebound)).status_code == 200


def test_hosts() -> None:
    assert all(map(is_local, ("127.0.0.1", "127.0.0.1:8420", "localhost:1", "[::1]:8420", "192.0.2.7")))
    assert not any(map(is_local, ("", "evil.example", "localhost.evil.example:80")))
    assert is_loopback("localhost")
    assert is_loopback("::1")
    assert not is_loopback("0.0.0.0")


SERVER = """
import socket, sys
import trio
from node import main
from node.http import create_app
from node.metrics import Metrics
from tests.node.test_http import FULL, TOKEN, Shown

listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)

async def work(serve):
    serve(create_app(Shown(FULL), Metrics(), "127.0.0.1", TOKEN))
    await trio.sleep_forever()

sys.exit(main.run(work, listener))
"""


def test_the_server_of_a_node_answers_on_a_socket_and_ends_beside_an_open_connection() -> None:
    command = [sys.executable, "-c", SERVER]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2], text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as web:
            found = {path: web.get(path).status_code for path in (*PATHS, "/", "/nosuch")}
            assert found == {**dict.fromkeys(PATHS, 200), "/": 200, "/nosuch": 404}
            assert web.head("/metrics").content == b""
            assert web.post("/api/status").status_code == 405
            assert web.get("/", headers={"host": "evil.example"}).status_code == 421
            assert web.get("/nosuch").headers.items() >= {(name.lower(), value) for name, value in HEADERS.items()}
            process.send_signal(signal.SIGTERM)
            assert process.wait(30.0) == 0

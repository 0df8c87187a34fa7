"""What a user may get wrong: one clear line each, exit status 2, and nothing lost."""

import json
import os
import re
from pathlib import Path

import pytest

from tests.e2e.kit import Place, Running
from tests.gossip.nodes import free_port
from tests.programs.variants import NUMBERS, write_numbers

PEER = "12D3KooWLeduQ2Dwdk7WDLZWo3BXoEdArcrGdgxwrrSChheuVNtv"
FAST = ("--listen", "/ip4/127.0.0.1/tcp/0", "--http", "127.0.0.1:0")


def refused(nodes: Place, *arguments: str, stdin: str = "") -> str:
    """The line that the user reads."""
    done = nodes.waggle(*arguments, stdin=stdin)
    lines = [line for line in done.stderr.splitlines() if line.startswith("waggle: ")]
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("/ip4/127.0.0.1/tcp/4001", "no peer id; an address ends in /p2p/"),
        ("192.0.2.7:4001", "not an address; expected one such as /ip4/"),
        (f"/ip4/127.0.0.1/udp/4001/quic-v1/p2p/{PEER}", "only /ip4, /ip6 and /dns4 over /tcp"),
        (f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}", "connection refused"),
        (f"/dns4/no-such-host.invalid/tcp/4001/p2p/{PEER}", "its name is not known"),
    ],
)
@pytest.mark.parametrize("command", ["join", "start"])
def test_addresses(nodes: Place, command: str, address: str, said: str) -> None:
    how = (address,) if command == "join" else ("--program", str(NUMBERS), "--join", address)
    assert re.search(said, refused(nodes, command, *how, "--home", "home", *FAST))


async def test_beside_a_running_node(nodes: Place, tmp_path: Path) -> None:
    node = await nodes.start("first", "--program", str(NUMBERS), "--max-experiments", "1").up()
    other = str(write_numbers(tmp_path / "other", name="other"))
    numbers = ("--program", str(NUMBERS), "--home", "home")

    assert "is in another swarm: it works on numbers" in refused(
        nodes, "start", "--program", other, "--home", "home", "--join", node.address, *FAST
    )
    port = node.address.split("/")[4]
    taken = f"/ip4/127.0.0.1/tcp/{port}"
    assert "its port is in use" in refused(nodes, "start", *numbers, "--listen", taken, *FAST[2:])
    for wrong in ("192.0.2.7:4001", "/ip4/192.0.2.7/tcp/4001/p2p/x", "/ip4/192.0.2.7/udp/4001"):
        assert f"cannot announce {wrong}: expected one such as /dns4/" in refused(
            nodes, "start", *numbers, "--announce", wrong, *FAST
        )
    http = node.said("http").removeprefix("http://")
    assert "give another --http" in refused(nodes, "start", *numbers, *FAST[:2], "--http", http)
    assert "already running" in refused(nodes, "start", "--home", str(node.home), *FAST)
    consent(nodes, node)
    assert node.stop() == 0
    assert "give another --home" in refused(nodes, "start", "--program", other, "--home", str(node.home), *FAST)
    assert "connection refused" in refused(nodes, "join", node_address(node), "--home", "new", *FAST)


def node_address(node: Running) -> str:
    """As it was while the node ran."""
    found = re.search(r"/ip4/\S+", node.log.read_text())
    assert found
    return found[0]


def consent(nodes: Place, node: Running) -> None:
    """A stranger's program is not worked on without a yes, and only under the hash that was told."""
    join = ("join", node.address, "--home", "guest", *FAST, "--max-experiments", "0", "--exit-when-done")
    swarm = node.said("swarm_id")
    assert "there is nobody to ask: give --yes, or --program-hash" in refused(nodes, *join, stdin="y\n")
    assert "does not begin with" in refused(nodes, *join, "--program-hash", "0" * 16)
    done = nodes.waggle(*join, "--program-hash", swarm[:16])
    assert done.returncode == 0, done.stderr
    assert f"program numbers, hash {swarm}, founder none" in done.stdout


def test_programs(nodes: Place, tmp_path: Path) -> None:
    assert "built in are lm, lm-mini; or give a program's folder" in refused(
        nodes, "start", "--program", "nosuch", "--home", "home", *FAST
    )
    broken = write_numbers(tmp_path / "broken", seconds=-1)
    line = next(
        number
        for number, text in enumerate((broken / "program.md").read_text().splitlines(), 1)
        if text.startswith("seconds")
    )
    for command in (("start", "--home", "home", *FAST, "--program"), ("program", "check")):
        assert f"program.md line {line}: budget.seconds: expected" in refused(nodes, *command, str(broken))
    assert "expected a program.md" in refused(nodes, "program", "check", str(tmp_path))
    assert "is there already" in refused(nodes, "program", "new", str(broken))
    assert "cannot read" in refused(nodes, "run", "--program", str(NUMBERS), "--asset", "no-such-file")


def test_the_doctor_says_what_holds(nodes: Place) -> None:
    plain, told = nodes.waggle("doctor", "--device", "cpu"), nodes.waggle("doctor", "--json", "--device", "cpu")
    found = json.loads(told.stdout)
    assert set(found["sandboxes"]) == {"bubblewrap", "landlock"}
    holds = any(not one["wrong"] and one["held"] for one in found["sandboxes"].values())
    assert plain.returncode == told.returncode == (0 if holds else 1)
    assert ("A node uses" in plain.stdout) == holds
    assert found["device"]["tier"] in plain.stdout


def test_homes(nodes: Place, tmp_path: Path) -> None:
    for command in ("status", "log", "best", "report"):
        assert "no node has worked in" in refused(nodes, command, "--home", "nowhere")
    (tmp_path / "file").write_text("in the way")
    assert "cannot use" in refused(nodes, "start", "--program", str(NUMBERS), "--home", "file/home", *FAST)
    home = tmp_path / "damaged"
    home.mkdir()
    (home / "journal.db").write_bytes(os.urandom(4096))
    assert "cannot open the journal" in refused(nodes, "start", "--program", str(NUMBERS), "--home", str(home), *FAST)


@pytest.mark.parametrize(
    "arguments",
    [("start", "--http", "8420"), ("start", "--max-experiments", "-1"), ("nosuch",), (), ("log", "-n", "x"),
     ("join",), ("start", "--agent", "nobody"), ("start", "--listen", "/ip4/127.0.0.1"), ("best", "--diff", "--show")],
)  # fmt: skip
def test_arguments(nodes: Place, arguments: tuple[str, ...]) -> None:
    extra = ("--home", "home", "--program", str(NUMBERS)) if arguments[:1] == ("start",) else ()
    assert refused(nodes, *arguments, *extra)


def test_an_unreachable_peer_does_not_keep_a_home_from_going_on(nodes: Place) -> None:
    """The loss of the bootstrap is a non-event: a home that has worked tries, warns and works."""
    start = ("start", "--program", str(NUMBERS), "--home", "home", *FAST, "--exit-when-done")
    assert nodes.waggle(*start, "--max-experiments", "1").returncode == 0
    done = nodes.waggle(*start, "--max-experiments", "2", "--join", f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{PEER}")
    assert done.returncode == 0, done.stderr
    assert "connection refused; it will be tried again" in done.stderr

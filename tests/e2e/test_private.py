"""Private swarms of real processes."""

import time

from node.logs import clean
from tests.e2e.kit import Place, Running
from tests.e2e.test_bad_input import FAST, refused
from tests.e2e.test_swarm_of_processes import finished
from tests.programs.variants import NUMBERS
from tests.waiting import until

#: What a user is promised is ten; a process takes its time to begin, on a machine busy with other tests.
SECONDS = 10.0 + 20.0
START = ("--program", str(NUMBERS), "--max-experiments", "3")
REFUSED = "WARNING a connection of 127.0.0.1 was refused: "


def lines(node: Running, wanted: str) -> list[str]:
    return [line for line in node.log.read_text().splitlines() if wanted in line]


async def test_who_has_the_key_is_in_and_nobody_else(nodes: Place) -> None:
    for name in ("key", "other"):
        assert nodes.waggle("swarm-key", "new", name).returncode == 0
    key = str(nodes.folder / "key")
    first = await nodes.start("first", *START, "--swarm-key", "key").up()
    await first.until(finished)
    assert lines(first, f"join with: waggle join {first.address} --swarm-key {key}")
    second = await nodes.start("second", first.address, "--yes", "--max-experiments", "3", "--swarm-key", key,
                               command="join").up()  # fmt: skip
    await second.until(lambda status: first.said("peer_id") in status["peers"])
    held = {row["record_id"] for row in first.ledger()}
    await until(lambda: held <= {row["record_id"] for row in second.ledger()}, 60.0)

    begun = time.monotonic()
    join = ("join", first.address, "--yes", "--home", "third", *FAST)
    assert "it has a swarm key, which needs --swarm-key FILE here" in refused(nodes, *join)
    assert time.monotonic() - begun < SECONDS
    assert "it has another swarm key than this node" in refused(nodes, *join, "--swarm-key", "other")
    assert len(lines(first, f"{REFUSED}it has no swarm key, this node has one")) == 1
    assert len(lines(first, f"{REFUSED}it has another swarm key than this node")) == 1
    assert b'waggle_rejected_total{reason="key"}' in first.get("/metrics")

    assert (first.stop(), second.stop()) == (0, 0)
    again = await nodes.start("first", "--max-experiments", "3", listen=False).up()  # as before, so with the key
    assert "which needs --swarm-key FILE here" in refused(nodes, *join[:1], again.address, *join[2:])
    open_now = nodes.start("second", "--max-experiments", "3", "--no-swarm-key", "--join", again.address)
    await open_now.up()  # a home that has worked goes on without its peers
    assert lines(open_now, "it has a swarm key, which needs --swarm-key FILE here, or it is no libp2p node; it will be")
    assert "swarm_key" not in clean((open_now.home / "node.json").read_text())


async def test_who_is_allowed_is_in_and_nobody_else(nodes: Place) -> None:
    friend = await nodes.start("friend", *START).up()
    known = friend.said("peer_id")
    assert friend.stop() == 0
    first = await nodes.start("first", *START, "--allow", known).up()
    await until(lambda: lines(first, f"lets in:   {known}") != [], SECONDS)
    join = ("join", first.address, "--yes", "--home", "stranger", *FAST)
    assert "it may let in only the peers that it was told of with --allow" in refused(nodes, *join)
    assert len(lines(first, "was refused: it is not among the peers that are allowed here")) == 1
    friend = await nodes.start("friend", "--max-experiments", "3", "--join", first.address).up()
    await first.until(lambda status: known in status["peers"])
    assert friend.stop() == first.stop() == 0


def test_keys_that_are_none(nodes: Place) -> None:
    assert nodes.waggle("swarm-key", "new", "key").returncode == 0
    path = nodes.folder / "key"
    begin = ("start", "--program", str(NUMBERS), "--home", "home", *FAST, "--swarm-key")
    path.chmod(0o644)
    assert refused(nodes, *begin, "key") == f"waggle: others can read swarm key {path}: chmod 600 {path}"
    path.chmod(0o600)
    path.write_text("no key")
    assert "is not a swarm key: its first line is to be" in refused(nodes, *begin, "key")
    assert "no such file or directory; give --swarm-key FILE, which" in refused(nodes, *begin, "nosuch")
    assert "expected a peer id" in refused(nodes, "start", "--home", "home", "--allow", "nobody")

"""Real nodes as processes on loopback: join by address, build on each other's wins, survive."""

import signal
from contextlib import closing

import pytest

from node.home import Home
from node.journal import Journal
from tests.e2e.kit import Json, Place, Running, resting
from tests.gossip.nodes import free_port
from tests.programs.variants import NUMBERS
from tests.waiting import until

#: gossip/alive.py promises fifteen; the rest is for a machine that is busy with other tests.
NOTICED_SECONDS = 25.0


def agree(*nodes: Running) -> bool:
    """Whether all hold the same records, and so the same incumbent; asked by number first, which is cheap."""
    statuses = [node.status() for node in nodes]
    if len({(status["records"], incumbent(status)) for status in statuses}) != 1:
        return False
    return len({frozenset(row["record_id"] for row in node.ledger()) for node in nodes}) == 1


def incumbent(status: Json) -> str:
    return str(status["incumbent"] and status["incumbent"]["commit"])


def finished(status: Json) -> bool:
    return bool(status["stopped"])


def builds_on_others(node: Running) -> bool:
    """Whether an edit of this node's is on a candidate that another node was the first to tell."""
    me, rows = node.said("peer_id"), node.ledger()[::-1]
    author = {}
    for row in rows:
        author.setdefault(row["commit"], row["peer"])
    mine = [row for row in rows if row["peer"] == me and row["origin"] == "agent"]
    return any(author.get(row["parent"], me) != me for row in mine if row["parent"] != rows[0]["commit"])


async def test_two_nodes_by_an_address_alone(nodes: Place) -> None:
    first = await nodes.start("first", "--program", str(NUMBERS), "--seed", "1").up()
    second = await nodes.start("second", first.address, "--yes", "--seed", "2", command="join").up()
    assert first.said("swarm_id") == second.said("swarm_id")
    assert first.said("peer_id") != second.said("peer_id")
    await first.until(lambda _: builds_on_others(first) or builds_on_others(second))
    for node in (first, second):
        nodes.waggle("pause", "--home", str(node.home))
    for node in (first, second):
        await node.until(resting)
    await first.until(lambda _: agree(first, second))
    assert {row["record_id"] for row in first.ledger()} == {row["record_id"] for row in second.ledger()}
    status = await second.until(lambda status: second.best_in_git() == incumbent(status))
    await first.until(lambda status: first.best_in_git() == incumbent(status))
    assert first.best_in_git() == second.best_in_git()
    assert status["experiments"]["own"] > 0
    assert (first.stop(), second.stop()) == (0, 0)
    shown = [nodes.waggle("best", "--show", "--home", str(node.home)).stdout for node in (first, second)]
    assert shown[0] == shown[1] != ""


async def test_a_late_third_catches_up_and_the_first_may_go(nodes: Place) -> None:
    """The third knows the second alone; then the node that the swarm began with ends."""
    first = await nodes.start("first", "--program", str(NUMBERS), "--max-experiments", "12").up()
    second = await nodes.start("second", "--program", str(NUMBERS), "--join", first.address,
                               "--max-experiments", "30").up()  # fmt: skip
    await first.until(finished)
    third = await nodes.start("third", second.address, "--yes", "--max-experiments", "3", command="join").up()
    held = first.status()["records"]
    await third.until(lambda status: status["records"] >= held)
    await third.until(lambda status: first.said("peer_id") in status["peers"])
    assert first.stop() == 0
    for node in (second, third):
        await node.until(finished)
    await second.until(lambda _: agree(second, third))
    assert {row["peer"] for row in third.ledger()} == {
        *(node.said("peer_id") for node in (second, third)), first_author(third, second),
    }  # fmt: skip


@pytest.mark.parametrize("by_page", [True, False])
async def test_a_worker_that_comes_back_needs_no_seed(nodes: Place, by_page: bool) -> None:
    """Its command joins by the seed, as a container's does each time; the swarm lives on without the seed."""
    seed = await nodes.start("seed", "--program", str(NUMBERS), "--no-mdns", "--max-experiments", "2").up()
    join = (seed.said("http") if by_page else seed.address, "--yes", "--no-mdns", "--max-experiments", "2")
    other = await nodes.start("other", *join, command="join").up()
    worker = await nodes.start("worker", *join, command="join").up()
    await worker.until(lambda status: other.said("peer_id") in status["peers"])
    await until(lambda: other.address in remembered(worker), 30)
    assert worker.stop() == 0
    seed.kill()
    worker = await nodes.start("worker", *join, command="join").up()
    await worker.until(lambda status: other.said("peer_id") in status["peers"])
    assert "goes on with its own program" in worker.log.read_text()
    assert worker.stop() == 0
    refused = nodes.waggle("join", *join, "--program-hash", "0" * 16, "--home", str(worker.home), "--no-listen")
    assert refused.returncode == 2


def remembered(node: Running) -> list[str]:
    with closing(Journal(Home(node.home).journal)) as journal:
        return journal.peers()


def first_author(node: Running, *others: Running) -> str:
    known = {one.said("peer_id") for one in (node, *others)}
    (found,) = {row["peer"] for row in node.ledger()} - known
    return str(found)


async def test_kill_in_the_middle_loses_nothing_that_was_told(nodes: Place) -> None:
    witness = await nodes.start("witness", "--program", str(NUMBERS), "--max-experiments", "2").up()
    worker = await nodes.start("worker", witness.address, "--yes", command="join").up()
    for least in (8, 16, 24):
        await worker.until(lambda status, least=least: status["experiments"]["own"] >= least and status["current"])
        worker.kill()
        await until(worker.leaves_nothing)
        told = {row["record_id"] for row in witness.ledger() if row["peer"] != witness.said("peer_id")}
        worker = await nodes.start("worker", listen=False).up()
        rows = worker.ledger()
        assert told <= {row["record_id"] for row in rows}
        assert len({row["record_id"] for row in rows}) == len(rows)
    own = [row for row in worker.ledger() if row["peer"] == worker.said("peer_id")]
    edits = [row["commit"] for row in own if row["origin"] == "agent"]
    assert len(edits) == len(set(edits)), "an experiment in flight was told twice"
    assert worker.stop() == 0
    assert list((worker.home / "scratch").iterdir()) == []


async def test_a_node_that_only_dials_out_takes_full_part(nodes: Place) -> None:
    listener = await nodes.start("listener", "--program", str(NUMBERS), "--max-experiments", "15").up()
    dialer = await nodes.start("dialer", listener.address, "--yes", "--no-listen", "--max-experiments", "15",
                               command="join", listen=False).up()  # fmt: skip
    assert dialer.said("addresses") == []
    for node in (listener, dialer):
        await node.until(finished)
    await listener.until(lambda _: agree(listener, dialer))
    theirs = [row for row in listener.ledger() if row["peer"] == dialer.said("peer_id")]
    assert {row["origin"] for row in theirs} & {"replication", "confirmation", "agent"}


async def test_a_restart_is_at_the_address_that_peers_know(nodes: Place) -> None:
    where = ("--listen", f"/ip4/127.0.0.1/tcp/{free_port()}")
    first = await nodes.start("first", "--program", str(NUMBERS), "--max-experiments", "1", *where, listen=False).up()
    address = first.address
    assert first.stop() == 0
    again = await nodes.start("first", listen=False).up()
    assert again.address == address


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_lm_mini_in_two_processes(nodes: Place) -> None:
    """The main job on real input: a language model trained by both, one result of each, one ledger. The second may run
    genesis too, or an edit of it.
    """
    first = await nodes.start("first", "--program", "lm-mini", "--max-experiments", "1").up()
    second = await nodes.start("second", first.address, "--max-experiments", "1", command="join").up()
    for node in (first, second):
        await node.until(finished, 250.0)
    await first.until(lambda _: agree(first, second))
    assert second.status()["program"] == "lm-mini"
    status = first.status()
    assert status["experiments"]["by_status"] == {"scored": 2}
    assert 1.5 < status["global_best"]["metric"] < 2.3



async def test_a_frozen_node_is_noticed_and_comes_back(nodes: Place) -> None:
    """As a laptop that sleeps: its connections stay open and nothing comes."""
    start = ("--program", str(NUMBERS), "--max-experiments", "1")
    first = await nodes.start("first", *start).up()
    second = await nodes.start("second", *start, "--join", first.address).up()
    for node in (first, second):
        await node.until(lambda status: len(status["peers"]) == 1 and finished(status))
    second.process.send_signal(signal.SIGSTOP)
    try:
        await first.until(lambda status: not status["peers"], NOTICED_SECONDS)
    finally:
        second.process.send_signal(signal.SIGCONT)
    for node in (first, second):
        await node.until(lambda status: len(status["peers"]) == 1)
    await first.until(lambda _: agree(first, second))


async def test_addresses_from_a_list_and_one_that_is_announced(nodes: Place) -> None:
    """As in a container: it listens at one address and is dialed at another. The first of the list is dead."""
    start, port = ("--program", str(NUMBERS), "--max-experiments", "1"), free_port()
    where = ("--listen", f"/ip4/127.0.0.1/tcp/{port}", "--announce", f"/dns4/localhost/tcp/{port}")
    first = await nodes.start("first", *start, *where, listen=False).up()
    announced = f"/dns4/localhost/tcp/{port}/p2p/{first.said('peer_id')}"
    assert first.said("addresses")[0] == announced
    addresses = nodes.folder / "addresses"
    addresses.write_text(f"# ours\n/ip4/127.0.0.1/tcp/{free_port()}/p2p/{first.said('peer_id')}\n{announced}\n")
    second = await nodes.start("second", *start, "--bootstrap", str(addresses)).up()
    await second.until(lambda status: status["peers"] == [first.said("peer_id")])
    assert (first.stop(), second.stop()) == (0, 0)
    again = await nodes.start("first", listen=False).up()
    assert again.said("addresses")[0] == announced

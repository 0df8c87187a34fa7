"""Liars among honest nodes, all of them real processes: what the honest believe stays true.

What is *not* promised: that two identities which agree with each other are never believed. A node that has not
run a candidate believes it where two authors agree and nobody contradicts, and runs one in four of those itself.
So sock puppets may have a headline until the first honest node has looked; then they are believed no more. Nor that
nobody searches from a lie before somebody has looked.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kit import Json, Place, Running, place
from tests.hostile.truth import NEAR, asset_in
from tests.programs.variants import NUMBERS
from tests.sim.fakes import true_loss
from trainer.program import load_program

LIAR = Path(__file__).parent / "liar.py"
GENESIS = true_loss(load_program(NUMBERS).asset)
EXPERIMENTS = 30
#: A liar's first win is searched from until somebody has replicated it, which by then is long ago.
LATEST = 5


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Place]:
    with place(tmp_path) as made:
        yield made


async def founder(nodes: Place) -> Running:
    return await nodes.start("first", "--program", str(NUMBERS), "--seed", "1").up()


async def partner(nodes: Place, first: Running) -> Running:
    return await nodes.start("second", first.address, "--yes", "--seed", "2", command="join").up()


def headline_is_true(node: Running, status: Json) -> bool:
    """Whether what it shows as the global best is what that candidate is really worth."""
    best = status["global_best"]
    held = nodes_best(node)
    return best is not None and held is not None and abs(best["metric"] - true_loss(held)) <= NEAR


def nodes_best(node: Running) -> bytes | None:
    shown = node.place.waggle("best", "--show", "--home", str(node.home))
    return shown.stdout.encode() if shown.returncode == 0 else None


def bases(node: Running) -> list[float]:
    """What the bases of its own edits are really worth, the latest first."""
    me = node.said("peer_id")
    edits = [row for row in node.ledger() if row["peer"] == me and row["origin"] == "agent"]
    return [true_loss(asset_in(node.home, row["parent"])) for row in edits]


def by(node: Running, liar: Running) -> list[Json]:
    return [row for row in node.ledger() if row["peer"] == liar.said("peer_id")]


def is_lie(row: Json) -> bool:
    """Whether its figure is none that a run can have."""
    return row["metric"] is not None and not -4 < row["metric"] < 1e6


def progress(status: Json) -> bool:
    return bool(status["global_best"]["metric"] < GENESIS - NEAR)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("lie", ["claim", "replicate"])
async def test_one_liar(nodes: Place, lie: str) -> None:
    first = await founder(nodes)
    liar = await nodes.start("liar", "--lie", lie, "--join", first.address, script=LIAR).up()
    second = await partner(nodes, first)
    for node in (first, second):
        await node.until(lambda _, node=node: any(is_lie(row) for row in by(node, liar)))
        await node.until(lambda status: status["experiments"]["own"] >= EXPERIMENTS, 300.0)
        await node.until(lambda status, node=node: headline_is_true(node, status) and progress(status))
        assert max(bases(node)[:LATEST]) <= GENESIS + NEAR, "a known liar's leads are followed"
    assert (first.stop(), second.stop()) == (0, 0)


@pytest.mark.timeout(900)
async def test_two_sock_puppets_are_believed_until_somebody_looks(nodes: Place) -> None:
    first = await founder(nodes)
    second = await partner(nodes, first)
    puppets = [
        await nodes.start(name, "--lie", "puppet", "--join", first.address, script=LIAR).up()
        for name in ("left", "right")
    ]
    for node in (first, second):
        await node.until(lambda _, node=node: any(looked_at_a_lie(node, puppet) for puppet in puppets))
        await node.until(lambda status, node=node: headline_is_true(node, status))
        begun = len(bases(node))
        await node.until(lambda _, node=node, begun=begun: len(bases(node)) >= begun + 3)
        assert max(bases(node)[:3]) <= GENESIS + NEAR
        await node.until(lambda status, node=node: headline_is_true(node, status))
    await first.until(lambda _: any(is_lie(row) for row in by(first, puppets[0])))


def looked_at_a_lie(node: Running, puppet: Running) -> bool:
    """Whether the node has itself run a candidate of the puppet's."""
    me, told = node.said("peer_id"), {row["commit"] for row in by(node, puppet) if is_lie(row)}
    return any(row["peer"] == me and row["commit"] in told for row in node.ledger())

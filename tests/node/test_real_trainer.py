"""Two nodes with everything real but the network: sandboxed runs of ``numbers``, git, journals on disk."""

from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import trio

from gossip.memory import MemoryNetwork
from node.journal import Journal
from node.lineage import GitLineage
from protocol.statements import Origin, Status
from tests.node.nodes import NUMBERS, Built, build, until
from trainer.data import prepare
from trainer.device import detect
from trainer.experiment import Trainer
from trainer.probe import strongest
from trainer.sandbox import Unsafe

#: A run takes a second or two on a busy machine; genesis, a win and its replication are some ten.
SECONDS = 120.0


@pytest.fixture
async def trainer(tmp_path: Path) -> Trainer:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    tried = await strongest(scratch)
    data = await trio.to_thread.run_sync(prepare, NUMBERS, tmp_path / "cache")
    return Trainer(NUMBERS, data, tried.sandbox or Unsafe(), detect("cpu"), scratch=scratch)


async def test_a_win_travels_and_is_built_on(trainer: Trainer, tmp_path: Path) -> None:
    network = MemoryNetwork(seed=1)
    with ExitStack() as stack:

        def node(name: str, number: int, *edits: dict[str, float]) -> Built:
            lineage = stack.enter_context(closing(GitLineage(tmp_path / name / "lineage", NUMBERS.commits)))
            journal = stack.enter_context(closing(Journal(tmp_path / name / "journal.db")))
            return build(network, number, *edits, lineage=lineage, journal=journal, trainer=trainer)

        finder, other = node("a", 1, {"x": 0.7, "y": 0.2}), node("b", 2)
        async with trio.open_nursery() as nursery:
            for one in (finder, other):
                await nursery.start(one.node.run)
            await finder.parts.transport.connect(other.snapshot().addresses[0])
            genesis = NUMBERS.commits.genesis
            await until(lambda: bool(other.script.bases - {genesis}), SECONDS, other)
            (win,) = finder.node.records.chronicle.proposed
            told = other.node.records.ledger  # it is built on before it has been replicated
            await until(lambda: len({run.author for run in told.runs(win)}) == 2, SECONDS, other)
            nursery.cancel_scope.cancel()
        assert other.script.contexts[-1].base == win
        assert other.parts.lineage.asset(win) == finder.parts.lineage.asset(win)
        runs = other.node.records.ledger.runs(win)
    assert {run.result.origin for run in runs} >= {Origin.AGENT, Origin.REPLICATION}
    assert {run.result.status for run in runs} == {Status.SCORED}
    assert len({run.author for run in runs}) == 2

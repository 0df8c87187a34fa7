"""100,000 records: the ledger that was asked all along equals one filled in another order, and a full
fold.
"""

import random

import pytest

from protocol.ledger import Ledger
from tests.bench.ledger import RULES, TIERS, settle, swarm_records
from tests.protocol.reference import fold


def check(count: int) -> None:
    records = list(swarm_records(count))
    asked, shuffled = Ledger(RULES), Ledger(RULES)
    for number, record in enumerate(records):
        asked.add(record)
        if number % 7 == 0:
            settle(asked)
    for record in random.Random(1).sample(records, len(records)):
        shuffled.add(record)
    for tier in TIERS:
        folded = fold(records, RULES, tier)
        for ledger in (asked, shuffled):
            assert ledger.sigma(tier) == folded.sigma
            assert set(ledger.accepted(tier)) == folded.accepted
            assert set(ledger.proven(tier)) == folded.proven
            incumbent = ledger.incumbent(tier)
            assert incumbent is not None
            assert incumbent.commit == folded.incumbent
            assert all(ledger.value(commit, tier) == value for commit, value in folded.values.items())
        assert [asked.standing(c, tier) for c in asked.commits()] == [
            shuffled.standing(c, tier) for c in asked.commits()
        ]
        assert len(folded.accepted) > 1


def test_thousands_of_records() -> None:
    check(3_000)


@pytest.mark.slow
def test_a_hundred_thousand_records() -> None:
    check(100_000)

"""Merging is set union: any order, any grouping, any repetition, the same standings to the last bit."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.ledger import Ledger
from protocol.records import Record
from protocol.statements import Origin, Status
from tests.protocol.reference import fold
from tests.protocol.world import TIER, World, ledger_of, peer, rules

#: genesis, two children, grandchildren: enough for every rule to meet every other
TREE = {"a": "genesis", "b": "genesis", "aa": "a", "ab": "a", "aaa": "aa", "ba": "b"}
PEERS = ("ada", "bob", "cyd", "dan")
WORLD = World()
for name, parent in TREE.items():
    WORLD.child(name, parent)

#: steps of about σ, huge lies, and values whose sums round
METRICS = st.one_of(
    st.sampled_from([0.1, 0.7, 1.3, 2.9, 5.5, 9.1, 10.0]),
    st.floats(-3, 12, width=32),
    st.sampled_from([1e9, -1e9, 1e100, 1e-300]),
)
RESULTS = st.builds(
    WORLD.result,
    author=st.sampled_from(PEERS),
    name=st.sampled_from(list(WORLD.parents)),
    metric=st.one_of(METRICS, METRICS, METRICS, st.none()),
    origin=st.sampled_from([Origin.AGENT, Origin.BASELINE, Origin.REPLICATION, Origin.CONFIRMATION]),
    index=st.integers(0, 2),
    tier=st.sampled_from([TIER, TIER, TIER, "other"]),
    lines=st.integers(-3, 3),
)
STOPPED = st.builds(
    WORLD.result,
    author=st.sampled_from(PEERS),
    name=st.sampled_from(list(WORLD.parents)),
    metric=st.none(),
    index=st.integers(0, 1),
    status=st.sampled_from([Status.STOPPED_EARLY, Status.OVERRAN]),
)
VERDICTS = st.builds(
    WORLD.verdict,
    author=st.sampled_from(["ada", "bob"]),  # ada is the founder
    name=st.sampled_from(list(WORLD.parents)),
    approve=st.booleans(),
    sequence=st.integers(0, 2),
)
RECORDS = st.lists(st.one_of(*[RESULTS] * 6, STOPPED, VERDICTS), max_size=40)
RULES = st.fixed_dictionaries(
    {
        "simplicity": st.sampled_from([0.0, 0.3]),
        "replications": st.sampled_from([1, 2, 2, 3]),
        "maximize": st.booleans(),
        "founder": st.just(peer("ada").public_key),
        "review": st.sampled_from([False, False, True]),
    }
)


def picture(ledger: Ledger) -> dict[str, Any]:
    """All that follows from a ledger, floats and all."""
    best = ledger.global_best()
    return {
        "ids": sorted(ledger.ids()),
        "best": best and asdict(best),
        "missing": ledger.missing(),
        "told": [(run := ledger.told(WORLD.commit(name))) and run.record_id for name in WORLD.parents],
        "tiers": {
            tier: {
                "sigma": ledger.sigma(tier),
                "accepted": ledger.accepted(tier),
                "proven": ledger.proven(tier),
                "promising": ledger.promising(tier),
                "disputed": ledger.disputed(tier),
                "incumbent": ledger.incumbent(tier),
                "standings": [ledger.standing(WORLD.commit(name), tier) for name in WORLD.parents],
            }
            for tier in ledger.tiers()
        },
    }


@given(records=RECORDS, changes=RULES, data=st.data())
@settings(max_examples=50)
def test_any_order_gives_the_same_picture(
    records: Sequence[Record], changes: dict[str, Any], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(records))
    assert picture(ledger_of(*records, **changes)) == picture(ledger_of(*shuffled, **changes))


@given(records=RECORDS, changes=RULES)
@settings(max_examples=30)
def test_asking_after_each_record_changes_nothing(records: Sequence[Record], changes: dict[str, Any]) -> None:
    ledger = Ledger(rules(**changes))
    for record in records:
        ledger.add(record)
        picture(ledger)
    assert picture(ledger) == picture(ledger_of(*records, **changes))


@given(one=RECORDS, two=RECORDS, three=RECORDS, changes=RULES)
@settings(max_examples=20)
def test_union_is_commutative_associative_idempotent(
    one: list[Record], two: list[Record], three: list[Record], changes: dict[str, Any]
) -> None:
    def merge(*parts: Ledger) -> Ledger:
        return ledger_of(*(record for part in parts for record in part.records()), **changes)

    a, b, c = (ledger_of(*records, **changes) for records in (one, two, three))
    assert picture(merge(a, b)) == picture(merge(b, a))
    assert picture(merge(merge(a, b), c)) == picture(merge(a, merge(b, c)))
    assert picture(merge(a, a)) == picture(a)


@given(records=RECORDS, changes=RULES)
@settings(max_examples=200)
def test_the_ledger_equals_a_full_fold(records: Sequence[Record], changes: dict[str, Any]) -> None:
    ledger = ledger_of(*records, **changes)
    check_against_fold(ledger, records, list(WORLD.parents))


def check_against_fold(ledger: Ledger, records: Sequence[Record], names: Sequence[str]) -> None:
    folded = fold(records, ledger.rules, TIER)
    assert ledger.sigma(TIER) == folded.sigma
    incumbent = ledger.incumbent(TIER)
    assert (incumbent and incumbent.commit) == folded.incumbent
    for name in names:
        commit = WORLD.commit(name)
        standing = ledger.standing(commit, TIER)
        if standing is None:
            assert commit not in folded.values
            continue
        assert standing.value == folded.values.get(commit)
        assert standing.promising == (commit in folded.promising)
        assert standing.accepted == (commit in folded.accepted)
        assert standing.proven == (commit in folded.proven)


@pytest.mark.parametrize("times", [1, 2])
def test_a_record_counts_once(times: int) -> None:
    record = WORLD.result("ada", "a", 1.0)
    ledger = Ledger(rules())
    assert ledger.add(record)
    assert [ledger.add(record) for _ in range(times)] == [False] * times
    assert len(ledger) == 1
    assert record.id in ledger
    assert ledger.get(record.id) is record

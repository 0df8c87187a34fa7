"""Rules 1 to 5 and 7 of DESIGN section 5, folded over a set of records from nothing, as plainly as can be.

Written apart from ``protocol.ledger`` to hold it against: whole passes, exact fractions for the noise, no
state.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from protocol.noise import yardstick
from protocol.records import Record
from protocol.rules import Rules
from protocol.standing import COUNT_ORDER, UNSELECTED, place
from protocol.statements import Origin, Result, Status, Verdict

Runs = list[tuple[bytes, float | None]]


@dataclass(frozen=True)
class Folded:
    """By commit: value, whether promising, accepted and proven; and the tier's σ and incumbent."""

    values: dict[str, float | None]
    promising: set[str]
    accepted: set[str]
    proven: set[str]
    sigma: float
    incumbent: str | None


def fold(records: Iterable[Record], rules: Rules, tier: str) -> Folded:
    results = [(r.author, r.statement, r.id) for r in records if isinstance(r.statement, Result)]
    parents = {result.commit: result.parent for _, result, _ in results}
    depths = _depths(parents)
    counted, confirming, plain = _counted(results, rules, tier)
    sigma = _sigma(plain, rules)
    yard = yardstick(sigma)
    lines = _lines(results)
    verdicts = _verdicts(records, rules)
    values = {commit: _value(runs, yard)[0] for commit, runs in counted.items() if commit in depths}
    accepted, proven, promising = {rules.genesis}, {rules.genesis}, set()

    def confirmed(commit: str) -> tuple[float | None, int]:
        runs = sorted(confirming.get(commit, []), key=lambda run: (run[0], place(commit, run[1])))[:6]
        return _value([(author, loss) for _, author, loss in runs], yard)

    # what holds at a commit for its children: nearest accepted and proven, net lines since, vetoed
    base = {rules.genesis: rules.genesis}
    last = {rules.genesis: rules.genesis}
    added = {rules.genesis: 0}
    vetoed = {rules.genesis: False}
    for commit in sorted(depths.keys() - {rules.genesis}, key=lambda c: (depths[c], c)):
        parent = parents[commit]
        assert parent is not None
        base[commit], last[commit] = base[parent], last[parent]
        added[commit] = added[parent] + lines[commit]
        vetoed[commit] = vetoed[parent] or verdicts.get(commit) is False
        bar = values.get(base[commit])
        if bar is None and counted.get(base[commit]):
            bar = math.inf
        value = values.get(commit)
        price = rules.simplicity * added[commit]
        if value is None or bar is None or not bar - value - price > 0:
            continue
        promising.add(commit)
        scored = _value(counted[commit], yard)[1]
        unapproved = rules.review and verdicts.get(commit) is not True
        if vetoed[commit] or unapproved or scored < rules.replications:
            continue
        accepted.add(commit)
        base[commit], added[commit] = commit, 0
        mine, n = confirmed(commit)
        theirs, m = confirmed(last[commit])
        if mine is not None and theirs is not None and theirs - mine > 3 * yard * math.sqrt(1 / n + 1 / m):
            proven.add(commit)
            last[commit] = commit
    measured = [(value, c) for c in accepted if (value := values.get(c)) is not None]
    return Folded(values, promising, accepted, proven, sigma, min(measured)[1] if measured else None)


def _depths(parents: dict[str, str | None]) -> dict[str, int]:
    """Generations from genesis, of the commits that reach it."""
    depths: dict[str, int] = {}
    for commit in parents:
        line: list[str] = []
        here: str | None = commit
        while here is not None and here in parents and here not in depths:
            line.append(here)
            here = parents[here]
        if here is None or here in depths:
            start = -1 if here is None else depths[here]
            depths.update((c, start + 1 + step) for step, c in enumerate(reversed(line)))
    return depths


def _counted(results: list[tuple[bytes, Result, str]], rules: Rules, tier: str) -> tuple[
    dict[str, Runs], dict[str, list[tuple[int, bytes, float | None]]], dict[tuple[str, bytes], list[float]]
]:  # fmt: skip
    stories: dict[tuple[str, bytes, Origin, int], list[tuple[int, float]]] = defaultdict(list)
    for author, result, _ in results:
        if result.tier == tier:
            loss = 0.0 if result.metric is None else -result.metric if rules.maximize else result.metric
            badness = {Status.SCORED: 0, Status.STOPPED_EARLY: 1}.get(result.status, 2)
            stories[result.commit, author, result.origin, result.index].append((badness, loss))
    counted: dict[str, Runs] = defaultdict(list)
    confirming: dict[str, list[tuple[int, bytes, float | None]]] = defaultdict(list)
    plain: dict[tuple[str, bytes], list[float]] = defaultdict(list)
    for commit, author in sorted({key[:2] for key in stories}):
        taken = 0
        for origin in COUNT_ORDER:
            index = 0
            confirms = 0
            while (key := (commit, author, origin, index)) in stories:
                badness, loss = max(stories[key])
                index += 1
                if badness == 1:
                    continue
                told = None if badness else loss
                if origin is Origin.CONFIRMATION and confirms < 6:
                    confirming[commit].append((confirms, author, told))
                    confirms += 1
                if taken < 6:
                    counted[commit].append((author, told))
                    if origin in UNSELECTED and told is not None:
                        plain[commit, author].append(told)
                    taken += 1
    for commit, author in list(plain):
        mine = [loss for a, loss in counted[commit] if a == author]
        if 2 * mine.count(None) > len(mine):
            del plain[commit, author]
    return counted, confirming, plain


def _sigma(plain: dict[tuple[str, bytes], list[float]], rules: Rules) -> float:
    squares: dict[bytes, Fraction] = defaultdict(Fraction)
    degrees: dict[bytes, int] = defaultdict(int)
    for (_, author), losses in plain.items():
        mean = math.fsum(losses) / len(losses)
        squares[author] += Fraction(math.fsum((loss - mean) ** 2 for loss in losses))
        degrees[author] += len(losses) - 1
    total, weight = Fraction(0), 0
    for author, df in degrees.items():
        if df:
            w = min(df, 30)
            total += Fraction(w * min(float(squares[author]) / df, (4 * rules.noise) ** 2))
            weight += w
    return math.sqrt((4 * rules.noise**2 + float(total)) / (4 + weight))


def _value(runs: Runs, yard: float) -> tuple[float | None, int]:
    by_author: dict[bytes, list[float | None]] = defaultdict(list)
    for author, loss in runs:
        by_author[author].append(loss)
    means = {}
    for author, losses in by_author.items():
        scored = [loss for loss in losses if loss is not None]
        failing = 2 * len(scored) < len(losses)
        means[author] = math.inf if failing else math.fsum(scored) / len(scored)
    if not means:
        return None, 0
    worse_median = sorted(means.values())[len(means) // 2]
    if math.isinf(worse_median):
        return None, 0
    kept = [
        loss for author, mean in means.items() if abs(mean - worse_median) <= 4 * yard
        for loss in by_author[author] if loss is not None
    ]  # fmt: skip
    return math.fsum(kept) / len(kept), len(kept)


def _lines(results: list[tuple[bytes, Result, str]]) -> dict[str, int]:
    claims: dict[str, dict[bytes, int]] = defaultdict(dict)
    for author, result, _ in results:
        net = result.lines_added - result.lines_removed
        claims[result.commit][author] = max(net, claims[result.commit].get(author, net))
    return {commit: sorted(by.values())[len(by) // 2] for commit, by in claims.items()}


def _verdicts(records: Iterable[Record], rules: Rules) -> dict[str, bool]:
    words: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for record in records:
        if isinstance(record.statement, Verdict) and record.author == rules.founder:
            words[record.statement.commit].append((record.statement.sequence, not record.statement.approve))
    return {commit: not max(said)[1] for commit, said in words.items()}

"""What ``/metrics`` costs a node whose ledger is large: just after a record came, and when none did.

    python -m tests.bench.scrape [--records 100000]
"""

import argparse
import gc
import statistics
import time
from itertools import islice

from node.metrics import Metrics
from node.snapshot import Chronicle, Snapshot
from protocol.ledger import Ledger
from tests.bench.ledger import AUTHORS, RULES, TIERS, settle, swarm_records
from tests.node.nodes import NUMBERS

SCRAPES = 50


def main(count: int) -> None:
    ledger, chronicle, metrics = Ledger(RULES), Chronicle(AUTHORS[0]), Metrics()
    blank = Snapshot.of(NUMBERS, TIERS[0], AUTHORS[0], sandbox="none", version="bench")
    records = swarm_records(count + SCRAPES)
    for record in islice(records, count):
        ledger.add(record)
        chronicle.add(record)
        settle(ledger)
    gc.freeze()
    news, rest = [], []
    for record in records:
        ledger.add(record)
        chronicle.add(record)
        settle(ledger)
        begun = time.perf_counter()
        metrics.observe(blank.with_ledger(ledger, chronicle))
        metrics.render()
        news.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        page = metrics.render()
        rest.append(time.perf_counter() - begun)
    print(f"{len(ledger)} records, {len(page)} bytes")
    for name, seconds in {"after a record": news, "without one": rest}.items():
        print(f"{name:15} median {1000 * statistics.median(seconds):.1f} ms, most {1000 * max(seconds):.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=100_000)
    main(parser.parse_args().records)

"""``waggle report``: results.tsv, progress.png and summary.txt of a home; the last is printed too."""

import json

from node.archive import open_archive
from node.config import Report
from node.home import Home
from node.report import write_report
from node.summary import summarize


def report(command: Report) -> int:
    """Raises UserError where there is nothing to report, or it can't be written."""
    with open_archive(Home(command.home)) as archive:
        spec, rows = archive.program.spec, list(archive.rows())
        summary = summarize(archive.snapshot(), archive.records.ledger, rows)
        paths = write_report(
            rows, command.out, metric_name=spec.metric_name, goal=spec.goal, unit=spec.unit, program=spec.name,
            summary=summary,
        )  # fmt: skip
    if command.json:
        print(json.dumps([str(path) for path in paths]))
    else:
        print(summary, *paths, sep="\n")
    return 0

"""``waggle report``: results.tsv and progress.png of a home."""

import json

from node.archive import open_archive
from node.config import Report
from node.home import Home
from node.report import write_report


def report(command: Report) -> int:
    """Raises UserError where there is nothing to report, or it can't be written."""
    with open_archive(Home(command.home)) as archive:
        spec = archive.program.spec
        paths = write_report(
            archive.rows(), command.out, metric_name=spec.metric_name, goal=spec.goal, unit=spec.unit,
            program=spec.name,
        )  # fmt: skip
    print(json.dumps([str(path) for path in paths]) if command.json else "\n".join(map(str, paths)))
    return 0

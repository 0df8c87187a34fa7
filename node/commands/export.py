"""``waggle export``: a candidate as a plain folder that needs no waggle, with its lineage as patches."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from node.archive import Archive, open_archive
from node.config import Export
from node.home import Home
from node.snapshot import Best, best, summary_of
from node.verdict import full_commit
from node.view import metric_text
from protocol.commits import AUTHOR
from protocol.diffs import make_diff
from protocol.errors import UserError
from protocol.text import one_line
from trainer import programs
from trainer.data import prepare

#: Beneath a Python asset, so that ``python train.py`` runs it; the patches are of the asset without it.
FOOTER = """

if __name__ == "__main__":  # added by waggle export
    import standalone

    standalone.main()
"""
SUBJECT_LETTERS = 72
README = """# {name}

Candidate `{commit}` of a waggledance swarm: {metric} {value} over {runs} runs on {tier}.

    python {run}

trains `{asset}` for the program's budget and scores it. It needs what the program imports, and nothing of waggle.
`patches/` is its way from the program as its author wrote it, for `git am`; `candidate.json` says the above for
machines. The text was found by machines of people you may not know: read it before you run it.
"""


def export(command: Export) -> int:
    """Raises UserError where there is nothing to export, or something in its place."""
    folder = command.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty: give a folder that is not there yet")
    with open_archive(Home(command.home)) as archive:
        found = _wanted(command, archive)
        lineage = archive.records.ledger.lineage(found.commit)
        assets = [archive.asset(commit) for commit in lineage]
        _write_program(archive, folder, assets[-1], found)
        _write_patches(archive, folder / "patches", lineage, assets)
        _write_data(archive, folder / "data", command.cache)
    _write_readme(archive, folder, found)
    _print_what(command, found, len(lineage) - 1, archive.program.spec.asset)
    return 0


def _wanted(command: Export, archive: Archive) -> Best:
    ledger = archive.records.ledger
    if command.commit:
        commit = full_commit(archive.records, command.commit)
        tiers = [archive.tier, *ledger.tiers()]
        found = next((one for tier in tiers if (one := best(ledger, ledger.standing(commit, tier)))), None)
        if found is None:
            raise UserError(f"{commit[:12]} has no value: none of its runs was scored")
        return found
    wanted = command.tier
    found = archive.snapshot().global_best if wanted is None else best(ledger, ledger.incumbent(wanted))
    if found is None:
        raise UserError("there is no best yet: see waggle status")
    return found


def _write_program(archive: Archive, folder: Path, asset: bytes, found: Best) -> None:
    spec = archive.program.spec
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in archive.program.files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    footer = FOOTER.encode() if spec.asset.endswith(".py") else b""
    (folder / spec.asset).write_bytes(asset + footer)
    shutil.copyfile(Path(programs.__file__).with_name("standalone.py"), folder / "standalone.py")
    (folder / "candidate.json").write_text(
        json.dumps(
            {
                "commit": found.commit, "summary": found.summary, "asset": spec.asset, "runner": spec.runner,
                "evaluator": spec.evaluator, "metric": spec.metric_name, "unit": spec.unit, "value": found.metric,
                "runs": found.runs, "tier": found.tier, "peer": found.peer, "swarm": archive.program.swarm_id.hex(),
                "seconds": spec.budget_seconds, "clock": "wall" if spec.clock == "wall" else "cpu",
                "device": "cpu" if found.tier.startswith("cpu") else "auto",
            },
            indent=2,
        )
        + "\n"
    )  # fmt: skip


def _write_patches(archive: Archive, folder: Path, lineage: Sequence[str], assets: Sequence[bytes]) -> None:
    """As ``git format-patch`` would: ``git am`` puts them on the program as its author wrote it."""
    folder.mkdir(exist_ok=True)
    for number, commit in enumerate(lineage[1:], 1):
        summary = one_line(summary_of(archive.records.ledger, commit), SUBJECT_LETTERS) or commit[:12]
        diff = make_diff(assets[number - 1], assets[number], archive.program.spec.asset)
        head = (
            f"From {commit} Mon Sep 17 00:00:00 2001\nFrom: {AUTHOR.decode()}\nDate: Thu, 1 Jan 1970 00:00:00 +0000\n"
            f"Subject: [PATCH {number}/{len(lineage) - 1}] {summary}\n\n---\n"
        )
        (folder / f"{number:04}.patch").write_bytes(head.encode() + diff + b"-- \nwaggle\n")


def _write_data(archive: Archive, folder: Path, cache: Path) -> None:
    """What training and scoring read; the hold-out stays where it is."""
    data = prepare(archive.program, cache, lambda line: None)
    for name, source in {"train": data.train, "validation": data.validation}.items():
        if source is not None:
            shutil.copytree(source, folder / name, dirs_exist_ok=True)


def _write_readme(archive: Archive, folder: Path, found: Best) -> None:
    spec = archive.program.spec
    text = README.format(
        name=spec.name, commit=found.commit, metric=spec.metric_name, value=metric_text(found.metric),
        runs=found.runs, tier=found.tier, run=_to_run(spec.asset), asset=spec.asset,
    )  # fmt: skip
    (folder / "README.md").write_text(text, "utf-8")


def _to_run(asset: str) -> str:
    return asset if asset.endswith(".py") else "standalone.py"


def _print_what(command: Export, found: Best, steps: int, asset: str) -> None:
    folder, run = command.folder, _to_run(asset)
    if command.json:
        what = {"folder": str(folder), "commit": found.commit, "value": found.metric, "steps": steps, "run": run}
        print(json.dumps(what))
        return
    print(f"{folder}: {found.commit[:12]}, {metric_text(found.metric)}, {steps} steps from genesis")
    print(f"run it:     cd {folder} && python {run}")
    print("its way:    patches/, for git am on the program as its author wrote it")

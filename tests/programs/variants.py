"""Variants of the numbers program: a new domain is a folder, and each is a swarm of its own."""

import re
from pathlib import Path

NUMBERS = Path(__file__).parent / "numbers"


def write_numbers(
    folder: Path,
    *,
    name: str = "numbers",
    noise: float = 0.01,
    seconds: float = 5,
    replications: int = 2,
    goal: str = "minimize",
    files: dict[str, str] | None = None,
    extra: str = "",
) -> Path:
    """Write the numbers program into ``folder`` with other figures, and return the folder.

    ``noise`` is both the σ₀ of program.md and what the evaluator adds; ``files`` replaces or adds files;
    ``extra`` is TOML that goes before the first table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for source in NUMBERS.iterdir():
        if source.is_file():
            (folder / source.name).write_bytes(source.read_bytes())
    manifest = (folder / "program.md").read_text()
    values = {"name": f'"{name}"', "noise": noise, "seconds": seconds, "replications": replications}
    for key, value in values.items():
        manifest = _set(manifest, key, str(value))
    manifest = manifest.replace('goal = "minimize"', f'goal = "{goal}"')
    manifest = manifest.replace("[metric]", f"{extra}[metric]")
    (folder / "program.md").write_text(manifest)
    evaluator = folder / "evaluator.py"
    sign = 1.0 if goal == "minimize" else -1.0
    evaluator.write_text(_set(_set(evaluator.read_text(), "NOISE", str(noise)), "SIGN", str(sign)))
    for path, text in (files or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def _set(text: str, key: str, value: str) -> str:
    """``text`` with the first line ``key = …`` saying ``value``."""
    changed, count = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text, count=1)
    assert count == 1, key
    return changed

"""Research programs: a folder with program.md, one asset, a runner, an evaluator and other fixed files.

The hash of a program's files names its swarm. A built-in program is a folder under ``programs/``, or an
overlay of several, of which the later replaces files of the earlier.
"""

import ast
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from protocol.commits import CommitScheme
from protocol.diffs import MAX_ASSET_BYTES
from protocol.errors import LocalProtocolError, UserError
from protocol.identity import public_key_of
from protocol.manifest import MAX_FILES, MAX_PROGRAM_BYTES, Manifest, manifest_of
from protocol.rules import Rules
from trainer.fields import ProgramError, error_at, read_fields, split

__all__ = [
    "BUILT_IN",
    "DataSpec",
    "Program",
    "ProgramError",
    "Spec",
    "Stop",
    "builtin_names",
    "check_program",
    "load_program",
    "new_program",
    "parse_program",
]

MANIFEST_FILE = "program.md"
TEXT_FOLDER = "text"
DATA_FOLDER = "data"
#: Name -> folders under programs/; files of a later one replace those of an earlier one.
BUILT_IN: Mapping[str, tuple[str, ...]] = {"lm": ("lm",), "lm-mini": ("lm", "lm-mini")}
_PACKAGE = "trainer.programs"


@dataclass(frozen=True)
class Stop:
    """When a node has done enough; None is never. ``patience`` is in experiments without an accepted one."""

    experiments: int | None = None
    hours: float | None = None
    target: float | None = None
    patience: int | None = None


@dataclass(frozen=True)
class DataSpec:
    """Where a program's data come from: ``"text"`` (its own text/ folder) or ``"pypi:PACKAGE==VERSION"``.

    sha256    of the package's file
    prepared  the hash of all prepared files together, ``data.checksum``
    exam      bytes of text to examine with; None is all of a split
    """

    source: str
    sha256: str | None = None
    prepared: str | None = None
    exam: int | None = None


@dataclass(frozen=True)
class Spec:
    """What program.md says. ``memory`` is in bytes, ``noise`` and ``simplicity`` in metric units;
    ``stop_early`` is whether a run clearly behind the incumbent's curve is stopped (trainer/curve.py)."""

    name: str
    asset: str
    runner: str
    evaluator: str
    replications: int
    memory: int
    simplicity: float
    metric_name: str
    goal: str
    unit: str
    noise: float
    budget_seconds: float
    clock: str
    stop_early: bool
    stop: Stop
    founder: str | None
    review: bool
    data: DataSpec | None


@dataclass(frozen=True)
class Program:
    """A program's parsed program.md and all its files by path, program.md and the asset included."""

    spec: Spec
    files: Mapping[str, bytes] = field(repr=False)

    @cached_property
    def manifest(self) -> Manifest:
        return manifest_of(self.files)

    @cached_property
    def swarm_id(self) -> bytes:
        return self.manifest.swarm_id

    @cached_property
    def commits(self) -> CommitScheme:
        return CommitScheme(self.files, self.spec.asset)

    @cached_property
    def rules(self) -> Rules:
        spec = self.spec
        return Rules(
            commits=self.commits,
            noise=spec.noise,
            simplicity=spec.simplicity,
            replications=spec.replications,
            maximize=spec.goal == "maximize",
            founder=public_key_of(spec.founder) if spec.founder else None,
            review=spec.review,
        )

    @property
    def asset(self) -> bytes:
        """The asset as the program's author wrote it."""
        return self.files[self.spec.asset]

    @cached_property
    def builtin(self) -> bool:
        """Whether this is, to the byte, one of the programs that we ship."""
        return self.swarm_id in _builtin_ids()


def parse_program(files: Mapping[str, bytes]) -> Program:
    """A program from its files. Raises ProgramError with the line and field that are wrong."""
    if MANIFEST_FILE not in files:
        raise ProgramError(f"expected a {MANIFEST_FILE} in the program's folder")
    try:
        text = files[MANIFEST_FILE].decode()
    except UnicodeDecodeError as error:
        line = files[MANIFEST_FILE][: error.start].count(b"\n") + 1
        raise ProgramError(f"program.md line {line}: expected UTF-8 text") from error
    front, _ = split(text)
    values = read_fields(front)
    _check_files(front, values, files)
    try:
        manifest_of(files)
        CommitScheme(files, values["asset"])
    except LocalProtocolError as error:
        raise ProgramError(f"{MANIFEST_FILE} line 1: {error}") from error
    return Program(_spec(values), dict(files))


def load_program(name_or_dir: str | Path) -> Program:
    """A built-in program by its name, or the one in a folder. Raises UserError."""
    if isinstance(name_or_dir, str) and name_or_dir in BUILT_IN:
        return _load_builtin(name_or_dir)
    folder = Path(name_or_dir)
    if not folder.is_dir():
        names = ", ".join(builtin_names())
        raise UserError(f"no program {str(name_or_dir)!r}: built in are {names}; or give a program's folder")
    return parse_program(_read_folder(folder))


def builtin_names() -> list[str]:
    return list(BUILT_IN)


def new_program(folder: Path, base: str = "lm", text: Path | None = None) -> Program:
    """Write a copy of ``base`` into ``folder``, to be changed by its user, and return it.

    With ``text``, a folder of text files, these are its data. Raises UserError where the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and is not an empty folder")
    files = dict(load_program(base).files)
    manifest = files[MANIFEST_FILE].decode()
    name = re.sub(r"[^a-z0-9-]+", "-", folder.resolve().name.lower()).strip("-")[:40] or "program"
    manifest = re.sub(r"(?m)^name\s*=.*$", f'name = "{name}"', manifest, count=1)
    if text is not None:
        files |= _read_texts(text)
        manifest = _with_text_source(manifest)
    files[MANIFEST_FILE] = manifest.encode()
    program = parse_program(files)
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return program


def check_program(program: Program) -> list[str]:
    """What is wrong with a program whose program.md is right, a line each; nothing of it is executed."""
    spec = program.spec
    problems = []
    for path, data in program.files.items():
        if path.endswith(".py"):
            problems += _check_python(path, data)
        elif path.endswith(".json"):
            problems += _check_json(path, data)
    for path, functions in ((spec.runner, ("train", "answer")), (spec.evaluator, ("examine",))):
        defined = _functions(program.files[path])
        problems += [f"{path}: expected a function {name}" for name in functions if name not in defined]
    if spec.data and spec.data.source == TEXT_FOLDER and not _under(program.files, TEXT_FOLDER):
        problems.append(f'data.source is "text", but there is no file under {TEXT_FOLDER}/')
    return problems


def _spec(values: Mapping[str, Any]) -> Spec:
    source = values["data.source"]
    return Spec(
        **{name: values[name] for name in ("name", "asset", "runner", "evaluator", "replications", "memory")},
        simplicity=values["simplicity"],
        metric_name=values["metric.name"],
        goal=values["metric.goal"],
        unit=values["metric.unit"],
        noise=values["metric.noise"],
        budget_seconds=values["budget.seconds"],
        clock=values["budget.clock"],
        stop_early=values["budget.stop_early"],
        stop=Stop(*(values[f"stop.{name}"] for name in ("experiments", "hours", "target", "patience"))),
        founder=values["founder"],
        review=values["review"] == "required",
        data=DataSpec(source, *(values[f"data.{name}"] for name in ("sha256", "prepared", "exam")))
        if source
        else None,
    )


def _check_files(front: str, values: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """What one field alone can't tell: files that are there, and fields that need each other."""
    roles = ("asset", "runner", "evaluator")
    for role in roles:
        if values[role] not in files:
            raise error_at(front, role, f"there is no file {values[role]!r} in the program's folder")
    for first, second in (("runner", "asset"), ("evaluator", "asset"), ("evaluator", "runner")):
        if values[first] == values[second]:
            raise error_at(front, first, f"expected another file than the {second}")
    if values["asset"] == MANIFEST_FILE:
        raise error_at(front, "asset", f"{MANIFEST_FILE} itself can't be the asset")
    if len(files[values["asset"]]) > MAX_ASSET_BYTES:
        raise error_at(front, "asset", f"expected at most {MAX_ASSET_BYTES >> 10} KiB")
    if values["review"] == "required" and values["founder"] is None:
        raise error_at(front, "review", "expected a founder, who reviews")
    source, digest = values["data.source"], values["data.sha256"]
    if source and source.startswith("pypi:") and digest is None:
        raise error_at(front, "data.sha256", "missing; expected the hash of the package's file")
    if digest and not source:
        raise error_at(front, "data.source", "missing; expected where the data come from")


def _load_builtin(name: str) -> Program:
    files: dict[str, bytes] = {}
    for folder in BUILT_IN[name]:
        files |= _read_folder(resources.files(_PACKAGE) / folder)
    return parse_program(files)


@lru_cache(1)
def _builtin_ids() -> frozenset[bytes]:
    return frozenset(_load_builtin(name).swarm_id for name in BUILT_IN)


def _read_folder(folder: Traversable) -> dict[str, bytes]:
    """All files below, by path. Hidden ones and Python's caches are left out."""
    found: dict[str, Traversable] = {}
    _list_files(folder, "", found)
    sizes = sum(item.stat().st_size for item in found.values() if isinstance(item, Path))
    if sizes > MAX_PROGRAM_BYTES:
        limit = MAX_PROGRAM_BYTES >> 20
        raise UserError(f"{folder} holds {sizes >> 20} MiB; a program has at most {limit} MiB")
    return {path: item.read_bytes() for path, item in found.items()}


def _list_files(folder: Traversable, prefix: str, found: dict[str, Traversable]) -> None:
    for item in sorted(folder.iterdir(), key=lambda item: item.name):
        if item.name.startswith(".") or item.name in ("__pycache__", "__init__.py"):
            continue
        if isinstance(item, Path) and item.is_symlink():
            # it could carry a file from elsewhere on this machine to every peer
            raise UserError(f"{item} is a symbolic link; expected files and folders")
        if item.is_dir():
            _list_files(item, f"{prefix}{item.name}/", found)
        elif len(found) >= MAX_FILES:
            raise UserError(f"more than {MAX_FILES} files in a program's folder")
        else:
            found[prefix + item.name] = item


def _read_texts(folder: Path) -> dict[str, bytes]:
    """The UTF-8 files below ``folder`` as text/…, their names made fit for a program."""
    if not folder.is_dir():
        raise UserError(f"no folder {str(folder)!r}: expected a folder of text files")
    texts: dict[str, bytes] = {}
    for path, data in _read_folder(folder).items():
        name = re.sub(r"[^A-Za-z0-9_.-]", "_", path).lstrip("._-") or "_"
        if _is_text(data):
            while f"{TEXT_FOLDER}/{name}" in texts:
                name = "_" + name
            texts[f"{TEXT_FOLDER}/{name}"] = data
    if not texts:
        raise UserError(f"no text in {folder}: expected files of UTF-8 text")
    return texts


def _is_text(data: bytes) -> bool:
    try:
        return bool(data.strip()) and "\0" not in data.decode()
    except UnicodeDecodeError:
        return False


def _with_text_source(manifest: str) -> str:
    """program.md with its [data] table replaced by one that points to the text folder."""
    front, prose = split(manifest)
    front = re.sub(r"(?ms)^\[data\].*?(?=^\[|\Z)", "", front).rstrip()
    return f'+++\n{front}\n\n[data]\nsource = "text"\n+++\n{prose}\n'


def _check_python(path: str, data: bytes) -> list[str]:
    try:
        ast.parse(data, path)
    except SyntaxError as error:
        return [f"{path} line {error.lineno}: {error.msg}"]
    except ValueError as error:
        return [f"{path}: {error}"]
    return []


def _check_json(path: str, data: bytes) -> list[str]:
    try:
        json.loads(data)
    except json.JSONDecodeError as error:
        return [f"{path} line {error.lineno}: {error.msg}"]
    except (UnicodeDecodeError, RecursionError) as error:
        return [f"{path}: {error}"]
    return []


def _functions(data: bytes) -> set[str]:
    try:
        return {node.name for node in ast.parse(data).body if isinstance(node, ast.FunctionDef)}
    except (SyntaxError, ValueError):
        return set()  # told by _check_python


def _under(files: Mapping[str, bytes], folder: str) -> bool:
    return any(path.startswith(folder + "/") for path in files)

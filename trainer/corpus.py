"""Where text comes from: a package of PyPI, fetched as data and never imported, or the user's own files."""

import hashlib
import html
import json
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from protocol.errors import UserError

#: A package of some MB over a slow line.
FETCH_SECONDS = 600
#: The user's files are cut at blank lines into documents of at least so many characters, so that one large
#: file, too, can be split into training and validation.
OWN_DOCUMENT_CHARACTERS = 2000
#: A package's JSON, unpacked in memory: botocore's largest file has 3 MB, all of them 75 MB.
MAX_FILE_BYTES = 64 << 20
MAX_PACKAGE_BYTES = 1 << 30
_INLINE_TAG = re.compile(r"</?(?:a|b|code|em|emphasis|filename|function|i|replaceable|strong|u)\b[^>]*>")
_TAG = re.compile(r"<[^>]*>")


def fetch(requirement: str, sha256: str, folder: Path, log: Callable[[str], object] = print) -> Path:
    """The package's file with that hash, from ``folder`` if it is there, else by pip. Raises UserError."""
    kept = folder / f"{requirement.replace('==', '-')}.whl"
    if kept.is_file() and _hash(kept) == sha256:
        return kept
    folder.mkdir(parents=True, exist_ok=True)
    log(f"fetching {requirement} from PyPI, as data")
    with tempfile.TemporaryDirectory(dir=folder) as fresh:
        _download(requirement, Path(fresh), kept)
        found = sorted(Path(fresh).iterdir())
        hashes = [_hash(path) for path in found]
        if sha256 not in hashes:
            got = f"{hashes[0][:12]}…" if hashes else "no file"
            raise UserError(
                f"{requirement} is not what program.md names: sha256 {got}, expected {sha256[:12]}…; "
                "check which package index pip uses"
            )
        found[hashes.index(sha256)].replace(kept)
    return kept


def documentation(wheel: Path) -> list[str]:
    """The documents in a package of API descriptions, botocore's.

    A document is what the ``documentation`` strings of one operation or shape say: tags stripped, spaces
    collapsed, a line for each string. A string that has come before is left out. Raises UserError.
    """
    seen: set[str] = set()
    documents = []
    try:
        with zipfile.ZipFile(wheel) as archive:
            for name in _json_files(archive):
                parts = _parts(json.loads(archive.read(name)))
                documents += [text for part in parts if (text := _text(part, seen))]
    except (zipfile.BadZipFile, ValueError, RecursionError) as error:
        raise UserError(f"{wheel.name}: expected a package with JSON files: {error}") from error
    return documents


def own_texts(files: Mapping[str, bytes]) -> list[str]:
    """The documents in the user's own files, UTF-8."""
    documents = []
    for path in sorted(files):
        document = ""
        for paragraph in re.split(r"\n\s*\n", files[path].decode("utf-8", "replace")):
            document = f"{document}\n\n{paragraph.rstrip()}" if document else paragraph.strip()
            if len(document) >= OWN_DOCUMENT_CHARACTERS:
                documents.append(document)
                document = ""
        documents += [document] if document else []
    return documents


def _download(requirement: str, to: Path, kept: Path) -> None:
    """By the pip of this environment, or any other there is: the file is the same."""
    hint = f"connect to the network, or put the package's file there as {kept}"
    others = filter(None, map(shutil.which, ("pip3", "pip")))
    pips = [[sys.executable, "-I", "-m", "pip"], *([path] for path in others)]
    said = ""
    for pip in pips:
        options = ["--no-input", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(to)]
        command = [*pip, *options, "--", requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise UserError(f"could not fetch {requirement} within {FETCH_SECONDS} s; {hint}") from error
        if done.returncode == 0:
            return
        said = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), said)
    raise UserError(f"could not fetch {requirement} ({said.strip()}); {hint}")


def _json_files(archive: zipfile.ZipFile) -> list[str]:
    """Names in order. Raises ValueError for what would not fit into memory once unpacked."""
    sizes = {item.filename: item.file_size for item in archive.infolist() if item.filename.endswith(".json")}
    if max(sizes.values(), default=0) > MAX_FILE_BYTES or sum(sizes.values()) > MAX_PACKAGE_BYTES:
        raise ValueError("its JSON files are too large")
    return sorted(sizes)


def _parts(description: Any) -> Iterator[Any]:
    """What one document is made of: each entry of a file's sections (operations, shapes, …)."""
    for section in description.values() if isinstance(description, dict) else ():
        yield from section.values() if isinstance(section, dict) else (section,)


def _text(part: Any, seen: set[str]) -> str:
    lines = []
    for string in _strings(part):
        line = " ".join(html.unescape(_TAG.sub(" ", _INLINE_TAG.sub("", string))).split())
        if line and line not in seen:
            seen.add(line)
            lines.append(line)
    return "\n".join(lines)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "documentation" and isinstance(item, str):
                yield item
            else:
                yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

"""A program's data: fetched once, split by document, turned into tokens, and kept in a cache.

What a split holds, as files in a folder of its own:

    tokens.bin       the text's tokens, uint16 little-endian
    token_bytes.bin  how many bytes of text each token of the vocabulary stands for, uint8

Documents are put in the order of their hashes and a newline ends each. The first twentieth of the text (at
most HELD_OUT_BYTES) is the hold-out split, the next as much is validation, the rest is for training: the same
documents give the same splits everywhere, and the three are alike.

A folder of the cache is written under another name, renamed when it is whole, and its files are hashed
whenever it is used: a half-written or damaged one is made anew.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from protocol.errors import UserError
from trainer import corpus
from trainer.program import DATA_FOLDER, TEXT_FOLDER, DataSpec, Program

SPLITS = ("train", "validation", "holdout")
TOKENIZER_FILE = "tokenizer.json"
TOKENS_FILE = "tokens.bin"
TOKEN_BYTES_FILE = "token_bytes.bin"
_CHECKSUMS_FILE = "SHA256SUMS"
#: The paired difference of two models has a standard error of 0.001 to 0.002 bits per byte on this much.
HELD_OUT_BYTES = 1_000_000
_HELD_OUT_SHARE = 20
#: An examiner's window and the token after it, some times over; less is no measurement.
MIN_SPLIT_TOKENS = 4096
#: Tokens are kept as uint16.
MAX_VOCABULARY = 1 << 16
#: Part of every cache key: another way to split or tokenise is another folder.
_VERSION = 1
#: Documents given to the tokenizer at once: enough for all cores, little in memory.
_ENCODE_BATCH = 2000

Log = Callable[[str], object]


@dataclass(frozen=True)
class Data:
    """The folders of a program's splits, to be read only; None where a program has no such data."""

    train: Path | None = None
    validation: Path | None = None
    holdout: Path | None = None


def prepare(program: Program, cache: Path, log: Log = print) -> Data:
    """The program's data, ready to use: milliseconds where the cache has them, else about half a minute.

    Programs with the same texts and the same tokenizer share a folder. Raises UserError where the source
    can't be fetched, or is not, byte for byte, what program.md says.
    """
    cache.mkdir(parents=True, exist_ok=True)
    spec = program.spec.data
    if spec is None:
        return _from_folders(program, cache)
    folder = _prepared(program, spec, cache, log)
    if spec.prepared and (found := checksum(folder)) != spec.prepared:
        shutil.rmtree(folder)  # so that it is made anew once the cause is mended
        raise UserError(
            f"the data of {program.spec.name} came out as {found[:12]}…, its program.md expects "
            f"{spec.prepared[:12]}… (data.prepared): is another version of the tokenizers package installed?"
        )
    exam = {split: _excerpt(cache, folder / split, spec.exam) for split in ("validation", "holdout")}
    return Data(folder / "train", **exam)


def _prepared(program: Program, spec: DataSpec, cache: Path, log: Log) -> Path:
    """The folder with the three splits."""
    tokenizer = program.files.get(TOKENIZER_FILE)
    if tokenizer is None:
        raise UserError(f"the program has [data], but no {TOKENIZER_FILE} to turn it into tokens")
    texts = _below(program, TEXT_FOLDER)
    own = spec.source == TEXT_FOLDER

    def write(to: Path) -> None:
        documents = corpus.own_texts(texts) if own else _package_texts(spec, cache, log)
        _write_splits(documents, tokenizer, to, log)

    return _cached(cache, [_digest(texts) if own else str(spec.sha256).encode(), tokenizer], write)


def checksum(folder: Path) -> str:
    """The hash of all files of a prepared folder together, 64 hexadecimal digits: ``data.prepared``."""
    return hashlib.sha256((folder / _CHECKSUMS_FILE).read_bytes()).hexdigest()


def split(documents: Iterable[str]) -> dict[str, list[str]]:
    """The documents of each split, in the order of their hashes; equal ones count once.

    Document: text without a newline at its end, which every one is given.
    """
    ordered = sorted({hashlib.sha256(text.encode()).digest(): text for text in documents}.items())
    sizes = [len(text.encode()) + 1 for _, text in ordered]
    held_out = min(HELD_OUT_BYTES, sum(sizes) // _HELD_OUT_SHARE)
    ends = np.cumsum(sizes)
    first, second = np.searchsorted(ends, [held_out, 2 * held_out], side="left") + 1
    texts = [text for _, text in ordered]
    return {"train": texts[second:], "validation": texts[first:second], "holdout": texts[:first]}


def token_bytes(tokenizer: bytes) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bytes of text for each token of a byte-level tokenizer, uint8 [vocabulary].

    Raises UserError for what is no such tokenizer, or has tokens that don't fit into the files' numbers.
    """
    try:
        vocabulary = json.loads(tokenizer)["model"]["vocab"]
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        if len(tokens) > MAX_VOCABULARY or [vocabulary[token] for token in tokens] != list(
            range(len(tokens))
        ):
            raise ValueError(f"expected tokens numbered from 0 to at most {MAX_VOCABULARY - 1}")
        # byte-level: each character of a token stands for one byte
        return np.array([len(token) for token in tokens], np.uint8)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise UserError(f"{TOKENIZER_FILE}: not a byte-level tokenizer: {error}") from error


def _write_splits(documents: Iterable[str], tokenizer: bytes, folder: Path, log: Log) -> None:
    sizes = token_bytes(tokenizer)
    splits = split(documents)
    log("turning the text into tokens, once")
    for name, texts in splits.items():
        tokens = _encode(tokenizer, texts, len(sizes))
        if len(tokens) < MIN_SPLIT_TOKENS:
            needed = f"{MIN_SPLIT_TOKENS} or more (a twentieth of the text)"
            raise UserError(f"too little text: {len(tokens)} tokens for {name}, expected {needed}")
        _write_split(folder / name, tokens, sizes)


def _write_split(folder: Path, tokens: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any]) -> None:
    folder.mkdir()
    tokens.astype("<u2").tofile(folder / TOKENS_FILE)
    sizes.tofile(folder / TOKEN_BYTES_FILE)


def _encode(tokenizer: bytes, texts: Sequence[str], vocabulary: int) -> np.ndarray[Any, Any]:
    """The tokens of the texts and of a newline after each, uint16."""
    from tokenizers import Tokenizer  # only ever needed once: not at import

    try:
        encoder = Tokenizer.from_buffer(tokenizer)
    except Exception as error:  # the package raises nothing more exact; the file is its author's
        raise UserError(f"{TOKENIZER_FILE}: {error}") from error
    parts = [np.zeros(0, np.int64)]
    for start in range(0, len(texts), _ENCODE_BATCH):
        batch = encoder.encode_batch_fast([text + "\n" for text in texts[start : start + _ENCODE_BATCH]])
        parts += [np.array(encoding.ids, np.int64) for encoding in batch]
    tokens = np.concatenate(parts)
    if len(tokens) and tokens.max() >= vocabulary:
        raise UserError(f"{TOKENIZER_FILE}: a token {tokens.max()}, but the vocabulary has {vocabulary}")
    return tokens


def _excerpt(cache: Path, folder: Path, size: int | None) -> Path:
    """The folder of a split, or where ``size`` is less than it has, of its first ``size`` bytes of text."""
    sizes = np.fromfile(folder / TOKEN_BYTES_FILE, np.uint8)
    tokens = np.fromfile(folder / TOKENS_FILE, "<u2")
    if size is None or size >= sizes[tokens].sum():
        return folder
    count = int(np.searchsorted(np.cumsum(sizes[tokens], dtype=np.int64), size))

    def write(to: Path) -> None:
        _write_split(to / folder.name, tokens[:count], sizes)

    return _cached(cache, [tokens.tobytes(), sizes.tobytes(), str(count).encode()], write) / folder.name


def _from_folders(program: Program, cache: Path) -> Data:
    """Splits that the program brings along as data/train, data/validation and data/holdout."""
    files = _below(program, DATA_FOLDER)
    if not files:
        return Data()

    def write(to: Path) -> None:
        for path, data in files.items():
            target = to / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    folder = _cached(cache, [_digest(files)], write)
    return Data(*(folder / name if (folder / name).is_dir() else None for name in SPLITS))


def _below(program: Program, folder: str) -> dict[str, bytes]:
    """The program's files in one of its folders, by their paths in it."""
    prefix = f"{folder}/"
    return {
        path.removeprefix(prefix): data for path, data in program.files.items() if path.startswith(prefix)
    }


def _package_texts(spec: DataSpec, cache: Path, log: Log) -> list[str]:
    requirement = spec.source.removeprefix("pypi:")
    return corpus.documentation(corpus.fetch(requirement, str(spec.sha256), cache / "downloads", log))


def _digest(files: Mapping[str, bytes]) -> bytes:
    total = hashlib.sha256()
    for path in sorted(files):
        total.update(hashlib.sha256(path.encode()).digest() + hashlib.sha256(files[path]).digest())
    return total.digest()


def _cached(cache: Path, key: Sequence[bytes], write: Callable[[Path], None]) -> Path:
    """The folder of the cache that ``key`` names, written by ``write`` if it isn't there whole."""
    name = _digest({str(number): part for number, part in enumerate([bytes([_VERSION]), *key])}).hex()[:32]
    folder = cache / name
    if _whole(folder):
        return folder
    fresh = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=cache))
    try:
        write(fresh)
        (fresh / _CHECKSUMS_FILE).write_text(_checksums(fresh))
        fresh.chmod(0o755)
        _put(fresh, folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _put(fresh: Path, folder: Path) -> None:
    """Rename into place; another process that was quicker has written the same."""
    if folder.exists() and not _whole(folder):
        shutil.rmtree(folder)
    try:
        fresh.rename(folder)
    except OSError:
        if not _whole(folder):
            raise


def _whole(folder: Path) -> bool:
    try:
        return (folder / _CHECKSUMS_FILE).read_text() == _checksums(folder)
    except FileNotFoundError:
        return False


def _checksums(folder: Path) -> str:
    """Lines as ``sha256sum`` writes them, one for each file below ``folder``."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _CHECKSUMS_FILE)
    hashes = (hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    names = (path.relative_to(folder).as_posix() for path in files)
    return "".join(f"{digest}  {name}\n" for digest, name in zip(hashes, names, strict=True))

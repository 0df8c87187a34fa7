"""Tunables are read from an asset's text and written back into it, and nothing else changes."""

import ast
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.domains import Choice, Int, Log, Tunable, TunableError, Uniform, When, fit, same
from agent.tunables import check_tunables, read_tunables, write_tunables
from protocol.statements import MAX_TUNABLES, Scalar
from trainer.program import load_program

PYTHON = b'''"""An asset. RATE: Annotated[float, Log(1, 2)] = 1.5 in words is none."""
import typing as t
from typing import Annotated

RATE: Annotated[float, Log(1e-4, 1e-1)] = 3e-3  # caf\xc3\xa9
SHIFT : t.Annotated[float, tunables.Uniform(low=-1, high=1)]=-0.25;K: float = 1
DEPTH: Annotated[int, Int(1, 64, log=True)] = (
    8
)
NORM: Annotated[str, Choice('layer', "rms")] = 'layer'
\xc3\xa9t\xc3\xa9: Annotated[bool, "a note", Choice(False, True)] = True
PLAIN: float = 1.0
OTHER = 2

def inner():
    HIDDEN: Annotated[int, Int(1, 2)] = 1
'''
JSON = b"""{
  "x" : {"note": {"value": 1}, "value": 0.5, "low": 0, "high": 1}, "fixed": 3,
  "n": {"value": 3, "low": 1, "high": 9, "log": true},
  "mode": {"choices": ["\\u00e9", "b"], "value":"\\u00e9"}, "other": {"value": 1}
}"""


def test_python_declarations_are_read_without_running_them() -> None:
    assert read_tunables(PYTHON, "train.py") == {
        "RATE": Tunable("RATE", 3e-3, Log(1e-4, 1e-1)),
        "SHIFT": Tunable("SHIFT", -0.25, Uniform(-1, 1)),
        "DEPTH": Tunable("DEPTH", 8, Int(1, 64, log=True)),
        "NORM": Tunable("NORM", "layer", Choice("layer", "rms")),
        "été": Tunable("été", True, Choice(False, True)),
    }
    assert check_tunables(PYTHON, "train.py") == []


def test_json_declarations_are_read() -> None:
    assert read_tunables(JSON, "numbers.json") == {
        "x": Tunable("x", 0.5, Uniform(0, 1)),
        "n": Tunable("n", 3, Int(1, 9, log=True)),
        "mode": Tunable("mode", "é", Choice("é", "b")),
    }
    assert check_tunables(JSON, "numbers.json") == []


def test_what_a_tunable_waits_for_is_read_too() -> None:
    asset = b'''KIND: Annotated[str, Choice("adam", "muon")] = "adam"
RATE: Annotated[float, Log(1, 9), When("KIND", "muon")] = 3.0
'''
    assert read_tunables(asset, "train.py") == {
        "KIND": Tunable("KIND", "adam", Choice("adam", "muon")),
        "RATE": Tunable("RATE", 3.0, Log(1, 9), When("KIND", "muon")),
    }
    assert write_tunables(asset, "train.py", {"RATE": 4}) == asset.replace(b"3.0", b"4.0")
    other = b'{"k": {"value": 1, "choices": [1, 2]}, "x": {"value": 0.5, "low": 0, "high": 1, "when": {"k": [2]}}}'
    assert read_tunables(other, "a.json")["x"] == Tunable("x", 0.5, Uniform(0, 1), When("k", 2))


def test_the_built_in_asset_declares_its_tunables_well() -> None:
    program = load_program("lm-mini")
    assert check_tunables(program.asset, program.spec.asset) == []
    assert len(read_tunables(program.asset, program.spec.asset)) >= 20


def test_only_the_literals_change() -> None:
    written = write_tunables(PYTHON, "train.py", {"SHIFT": 1, "RATE": 0.01, "DEPTH": 9, "été": False})
    expected = PYTHON.replace(b"= 3e-3", b"= 0.01").replace(b"=-0.25;", b"=1.0;")
    assert written == expected.replace(b"    8\n", b"    9\n").replace(b"= True\n", b"= False\n")


def test_a_value_that_is_there_already_stays_as_it_is_written() -> None:
    values = {"RATE": 0.003, "NORM": "layer", "DEPTH": 8}
    assert write_tunables(PYTHON, "train.py", values) == PYTHON
    assert write_tunables(JSON, "a.json", {"mode": "é", "x": 0.5}) == JSON


@pytest.mark.parametrize("newline", [b"\r\n", b"\r"])
def test_other_line_ends_are_kept(newline: bytes) -> None:
    asset = PYTHON.replace(b"\n", newline)
    written = write_tunables(asset, "train.py", {"NORM": "rms"})
    assert written == asset.replace(b"= 'layer'", b'= "rms"')


@pytest.mark.parametrize(
    ("name", "value"),
    [("RATE", 1.0), ("RATE", float("nan")), ("RATE", True), ("DEPTH", 2.5), ("été", 1), ("NORM", "other"),
     ("NONE", 1)],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused(name: str, value: Scalar) -> None:
    with pytest.raises(TunableError, match=name):
        write_tunables(PYTHON, "train.py", {name: value})


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("X: Annotated[float, Log(0, 1)] = 0.5", "line 1: X: Log needs low > 0"),
        ("X: Annotated[float, Uniform(2, 1)] = 1.5", "expected low <= high"),
        ("X: Annotated[float, Uniform(0, 'a')] = 1.5", "expected low <= high"),
        ("X: Annotated[int, Int(0, 8, log=True)] = 1", "log needs low >= 1"),
        ("X: Annotated[int, Int(0, 8.0)] = 1", "whole numbers"),
        ("X: Annotated[int, Int(0, 8, log=3)] = 1", "True or False"),
        ("X: Annotated[int, Int(0, 8)] = 9", "9 is outside"),
        ("X: Annotated[int, Int(0, 8)] = 1 + 1", "written out"),
        ("X: Annotated[int, Int(*BOUNDS)] = 1", "written out"),
        ("X: Annotated[int, Int(low=1)] = 1", "expected Log, Uniform, Int or Choice"),
        ("X: Annotated[int, Choice()] = 1", "needs an option"),
        ("X: Annotated[int, Int(0, 8), When('Z', 1)] = 1", "X: When names 'Z', which is no other tunable"),
        ("X: Annotated[int, Int(0, 8), When('X', 1)] = 1", "X: When names 'X', which is no other tunable"),
        ("X: Annotated[int, Int(0, 8), When('X')] = 1", 'expected When("OTHER", value'),
        ("X: Annotated[int, Int(0, 8), When(1, 2)] = 1", 'expected When("OTHER", value'),
        ("X: Annotated[int, Int(0, 8), When('Y', 1, 3)] = 1", "X: Y is never 3"),
        ("X: Annotated[int, Choice(1, True)] = 1", "of one type"),
        ("X: Annotated[int, Choice(1, 1)] = 1", "stands twice"),
        ("X: Annotated[float, Uniform(0, 1e999)] = 0.5", "written out"),
        ("X: Annotated[str, Choice('a', '\\x1b[31m')] = 'a'", "short text"),
    ],
)
def test_a_bad_declaration_is_left_out_and_told(line: str, fault: str) -> None:
    asset = f"{line}\nY: Annotated[int, Int(1, 2)] = 1\n".encode()
    assert list(read_tunables(asset, "train.py")) == ["Y"]
    (complaint,) = check_tunables(asset, "train.py")
    assert fault in complaint
    assert complaint.startswith("train.py line 1: ")


@pytest.mark.parametrize(
    ("asset", "name", "fault"),
    [
        (b"x = (", "train.py", "line 1: not valid Python"),
        (b"x = 1\0", "train.py", "not valid Python"),
        (b"-" * 100_000 + b"1", "train.py", "not valid Python"),
        (b"a" + b".a" * 100_000, "train.py", "not valid Python"),
        (b"\xff", "train.py", "UTF-8"),
        (b"{", "a.json", "not valid JSON"),
        (b"[" * 100_000, "a.json", "not valid JSON"),
        (b'{"x": {"value": 1, "low": 0, "high": 2}} trailing', "a.json", "not valid JSON"),
        (b"[]", "a.json", "expected a JSON object"),
    ],
)
def test_an_asset_that_cannot_be_parsed_has_no_tunables(asset: bytes, name: str, fault: str) -> None:
    assert read_tunables(asset, name) == {}
    assert fault in check_tunables(asset, name)[0]
    with pytest.raises(TunableError, match=fault):
        write_tunables(asset, name, {})


def test_of_one_name_the_last_declaration_holds() -> None:
    asset = b"X: Annotated[int, Int(1, 2)] = 1\nX: Annotated[int, Int(3, 4)] = 3\n"
    assert read_tunables(asset, "a.py")["X"].value == 3
    assert write_tunables(asset, "a.py", {"X": 4}) == asset.replace(b"= 3", b"= 4")


def test_other_kinds_of_asset_have_no_tunables() -> None:
    assert read_tunables(b"SELECT 1", "query.sql") == {}


def test_no_more_tunables_than_a_record_carries() -> None:
    asset = "".join(f"X{place}: Annotated[int, Int(1, 2)] = 1\n" for place in range(MAX_TUNABLES + 1)).encode()
    assert len(read_tunables(asset, "a.py")) == MAX_TUNABLES
    assert "only the first" in check_tunables(asset, "a.py")[0]


# any asset

names = st.from_regex(r"[A-Z][A-Z_0-9é]{0,6}", fullmatch=True)
texts = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), max_size=8).filter(str.isprintable)
numbers = st.floats(-1e6, 1e6)


@st.composite
def domains(draw: st.DrawFn) -> Log | Uniform | Int | Choice:
    kind = draw(st.sampled_from([Log, Uniform, Int, Choice]))
    if kind is Choice:
        options = draw(st.sampled_from([texts, st.booleans(), st.integers(-99, 99), numbers]))
        return Choice(*draw(st.lists(options, min_size=1, max_size=4, unique=True)))
    if kind is Int:
        low, high = sorted(draw(st.tuples(st.integers(1, 99), st.integers(1, 99))))
        return Int(low, high, draw(st.booleans()))
    low, high = sorted(draw(st.tuples(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))))
    return Log(low, high) if kind is Log else Uniform(low, high)


def values_of(domain: Log | Uniform | Int | Choice) -> st.SearchStrategy[Scalar]:
    if isinstance(domain, Choice):
        return st.sampled_from(domain.options)
    if isinstance(domain, Int):
        return st.integers(domain.low, domain.high)
    return st.floats(domain.low, domain.high)


@st.composite
def spaces(draw: st.DrawFn) -> tuple[dict[str, Tunable], dict[str, Scalar]]:
    """Tunables, and other values for some of them."""
    declared = draw(st.dictionaries(names, domains(), min_size=1, max_size=5))
    tunables = {name: Tunable(name, draw(values_of(domain)), domain) for name, domain in declared.items()}
    chosen = draw(st.lists(st.sampled_from(sorted(declared)), unique=True))
    return tunables, {name: draw(values_of(declared[name])) for name in chosen}


def python_asset(tunables: dict[str, Tunable]) -> bytes:
    def call(domain: Any) -> str:
        return f"Choice{domain.options!r}".replace(",)", ")") if isinstance(domain, Choice) else repr(domain)

    lines = [f"{t.name}: Annotated[object, {call(t.domain)}] = {t.value!r}  # é\n" for t in tunables.values()]
    return "".join(f"é = 'x'  ; {line}" for line in lines).encode()


def json_asset(tunables: dict[str, Tunable]) -> bytes:
    def entry(tunable: Tunable) -> dict[str, object]:
        domain = tunable.domain
        if isinstance(domain, Choice):
            return {"value": tunable.value, "choices": list(domain.options)}
        log = isinstance(domain, Log) or (isinstance(domain, Int) and domain.log)
        return {"low": domain.low, "high": domain.high, "log": log, "value": tunable.value}

    whole = {name: entry(tunable) for name, tunable in tunables.items()}
    return json.dumps({**whole, "": "é"}, indent=1, ensure_ascii=False).encode()


@given(spaces(), st.sampled_from([("a.py", python_asset), ("a.json", json_asset)]))
def test_what_is_written_is_read_again_and_writing_back_restores_every_byte(
    space: tuple[dict[str, Tunable], dict[str, Scalar]], kind: tuple[str, Any]
) -> None:
    tunables, values = space
    name, make = kind
    asset = make(tunables)
    assert read_tunables(asset, name) == tunables
    written = write_tunables(asset, name, values)
    found = {key: tunable.value for key, tunable in read_tunables(written, name).items()}
    assert found == {key: tunable.value for key, tunable in tunables.items()} | values
    back = write_tunables(written, name, {key: tunables[key].value for key in values})
    assert read_tunables(back, name) == tunables
    assert blanked(back, name) == blanked(written, name) == blanked(asset, name)


def blanked(asset: bytes, name: str) -> str:
    """The asset as the language sees it, its tunables' values left out."""
    if name.endswith(".json"):
        whole = json.loads(asset)
        return json.dumps({key: {**entry, "value": 0} if entry else entry for key, entry in whole.items()
                           if isinstance(entry, dict)})  # fmt: skip
    module = ast.parse(asset)
    for node in module.body:
        if isinstance(node, ast.AnnAssign):
            node.value = None
    return ast.dump(module)


@given(st.binary(max_size=200), st.sampled_from(["a.py", "a.json", "a.txt"]))
def test_any_bytes_are_taken(asset: bytes, name: str) -> None:
    read_tunables(asset, name)
    check_tunables(asset, name)


@given(domains(), st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.booleans()))
def test_what_fits_a_domain_is_in_it_and_of_its_type(domain: Any, value: object) -> None:
    fitted = fit(domain, value)
    if fitted is not None:
        assert fitted == value
        fitted_again = fit(domain, fitted)
        assert fitted_again is not None
        assert same(fitted_again, fitted)

"""Arrows point one way: node -> agent, trainer, gossip -> protocol; and the pure stay pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"protocol", "gossip", "trainer", "agent", "node"}
MAY_IMPORT = {
    "protocol": {"protocol"},
    "gossip": {"gossip", "protocol"},
    "trainer": {"trainer", "protocol"},
    "agent": {"agent", "protocol"},
    "node": PACKAGES,
}
#: I/O, clocks, randomness, logging, async: none of it belongs into rules.
IMPURE = {"os", "io", "socket", "time", "datetime", "random", "secrets", "logging", "asyncio", "trio", "sqlite3",
          "subprocess", "pathlib", "threading", "libp2p", "torch"}  # fmt: skip
#: A reader over bytes in memory is no I/O.
PURE_ENOUGH = {("protocol/zstd.py", "io")}


def sources(package: str) -> list[Path]:
    return [path for path in (ROOT / package).rglob("*.py") if "programs" not in path.relative_to(ROOT).parts]


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_arrows_point_one_way(package: str) -> None:
    assert sources(package)
    wrong = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources(package)
        for name in imported(path)
        if name in PACKAGES | {"tests"} and name not in MAY_IMPORT[package]
    }
    assert not wrong


def test_the_protocol_is_pure() -> None:
    found = {(str(path.relative_to(ROOT)), name) for path in sources("protocol") for name in imported(path)}
    assert {(path, name) for path, name in found if name in IMPURE} <= PURE_ENOUGH


def test_only_programs_import_torch() -> None:
    """It would cost every node 200 MB and 2 s."""
    assert not [path for package in PACKAGES for path in sources(package) if "torch" in imported(path)]


def test_uvloop_appears_in_one_file() -> None:
    users = [path for package in PACKAGES for path in sources(package) if "uvloop" in imported(path)]
    assert {str(path.relative_to(ROOT)) for path in users} <= {"node/main.py"}

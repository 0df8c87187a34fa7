"""The home directory of a node: where everything that it keeps has its place.

    identity     the Ed25519 seed, hex, readable by its owner alone
    journal.db   records, experiments in flight, remembered peers (node/journal.py)
    lineage/     a git repository that a person may clone (node/lineage.py)
    lock         held by the node that runs on this home
    node.json    where the running node answers
    scratch/     workspaces of running candidates
    thinking/    the folder in which a command edits
    report/      what the node had found when its stopping criterion held

Nothing that a node must remember is anywhere else.
"""

import contextlib
import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.errors import UserError
from protocol.identity import KEY_BYTES, Identity


@dataclass(frozen=True)
class Home:
    """A node's folder. Nothing is created until it is asked for."""

    path: Path

    @property
    def journal(self) -> Path:
        return self.path / "journal.db"

    @property
    def lineage(self) -> Path:
        return self.path / "lineage"

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"

    @property
    def thinking(self) -> Path:
        """Apart from ``scratch``: a command sees what is in it."""
        return self.path / "thinking"

    @property
    def report(self) -> Path:
        return self.path / "report"

    @property
    def exists(self) -> bool:
        """Whether a node has worked here."""
        return self.journal.is_file()

    def create(self) -> None:
        """Raises UserError where the folder can't be made."""
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.scratch.mkdir(exist_ok=True)
            self.thinking.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot use {self.path} as home: {error.strerror}") from error

    def identity(self) -> Identity:
        """The key of this home, made at the first call."""
        path = self.path / "identity"
        if not path.exists():
            _write_new(path, secrets.token_bytes(KEY_BYTES).hex())
        try:
            seed = bytes.fromhex(path.read_text().strip())
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is not a key: {error}") from error
        if len(seed) != KEY_BYTES:
            raise UserError(f"{path} is not a key: expected {KEY_BYTES} bytes in hex")
        return Identity(seed)

    def new_token(self) -> str:
        """A secret for the local operator, in a file that nobody else reads."""
        token = secrets.token_urlsafe(KEY_BYTES)
        _write_new(self.path / "token", token)
        return token

    def token(self) -> str:
        """The one that the running node made. Raises UserError."""
        try:
            return (self.path / "token").read_text().strip()
        except OSError as error:
            raise UserError(f"cannot read {self.path / 'token'}: {error.strerror}") from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """This home is ours until the block ends; the kernel lets go of it when the process dies.

        Raises UserError where a node runs on it already.
        """
        with open(self.path / "lock", "a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise UserError(f"a node is already running on {self.path}: give another --home") from error
            try:
                yield
            finally:
                (self.path / "node.json").unlink(missing_ok=True)

    @property
    def running(self) -> bool:
        """Whether a node runs on this home now."""
        try:
            with open(self.path / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def announce(self, values: Mapping[str, Any]) -> None:
        """Say where the running node answers; for the holder of the lock."""
        target = self.path / "node.json"
        draft = target.with_suffix(".new")
        draft.write_text(json.dumps(values))
        draft.replace(target)

    def announced(self) -> dict[str, Any] | None:
        """What the running node said, or None where none runs."""
        if not self.running:
            return None
        try:
            values = json.loads((self.path / "node.json").read_text())
        except (OSError, ValueError):
            return None
        return values if isinstance(values, dict) else None


def _write_new(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others."""
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(handle)
    draft.replace(path)

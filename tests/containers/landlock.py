"""The sandbox in a default Docker container, where user name spaces are closed: Landlock must hold there.

    python -m tests.containers.landlock [PYTEST ARGUMENT]...

As root and as an ordinary user, with Docker's default profile and rights: ``waggle doctor`` names Landlock, all attacks
of tests/hostile run and none comes through, and a candidate of ``lm-mini`` is scored. Needs root on Debian with
docker.io and debootstrap, and the environment of ``make setup``, which the container gets read-only. Not part of
``make test``: it starts an engine.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from node.config import default_cache
from protocol.errors import UserError
from tests.containers.engine import Engine, engine

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("bubblewrap", "git", "libgomp1", "procps", "python3")
ATTACKS = ("tests/hostile/test_attacks.py", "tests/trainer/test_cheats.py")
#: Docker's root, and somebody without rights.
USERS = {"root": "0:0", "a user": "12345:12345"}
#: Attacks that take their memory before they are ended, and Python's own.
MEMORY = "6g"
SECONDS = 900.0


def main(arguments: Sequence[str]) -> int:
    attacks = ["-k", "landlock and not ordinary", *(arguments or ATTACKS)]
    failed = 0
    with engine() as docker, tempfile.TemporaryDirectory(prefix="waggle-landlock-") as scratch:
        image = docker.debian("waggle-debian", PACKAGES)
        for name, user in USERS.items():
            inside = Inside(docker, image, user, Path(scratch, user.partition(":")[0]))
            for what, why in inside.checks(attacks):
                print(f"{name:8} {what:34} {why or 'ok'}", flush=True)
                failed += bool(why)
    return 1 if failed else 0


class Inside:
    """Commands in containers of one user; each check gives what was checked, and why it failed or ""."""

    def __init__(self, docker: Engine, image: str, user: str, home: Path) -> None:
        home.mkdir()
        home.chmod(0o777)
        self._docker, self._image, self._user, self._home = docker, image, user, home

    def checks(self, attacks: Sequence[str]) -> Iterator[tuple[str, str]]:
        code, told = self.run("-m", "node.cli", "doctor", "--json", "--device", "cpu")
        sandboxes = json.loads(told)["sandboxes"] if told.startswith("{") else {}
        closed = sandboxes.get("bubblewrap", {}).get("wrong")
        yield "bubblewrap does not hold", "" if closed else f"it does, or nothing was said: {told[-500:]}"
        holds = code == 0 and sandboxes["landlock"]["wrong"] == []
        yield "landlock holds", "" if holds else told[-2000:]
        code, told = self.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp=/home/of/tests", *attacks)
        yield f"attacks: {told.strip().splitlines()[-1]}", "" if code == 0 else told[-3000:]
        code, told = self.run("-m", "node.cli", "run", "--program", "lm-mini", "--json")
        found = json.loads(told.splitlines()[-1]) if code == 0 else {}
        fine = found.get("status") == "scored" and found.get("sandbox") == "landlock"
        yield f"a run is scored: {found.get('metric', 0):.3f}", "" if fine else told[-2000:]

    def run(self, *arguments: str) -> tuple[int, str]:
        """Exit status, and what was printed."""
        python = str(Path(sys.base_prefix).resolve())
        cache = default_cache({"HOME": str(Path.home())})
        done = self._docker.docker(
            *("run", "--rm", "--network", "none", "--user", self._user, "--memory", MEMORY, "--workdir", str(ROOT)),
            *(part for path in {python, str(ROOT)} for part in ("--volume", f"{path}:{path}:ro")),
            *("--volume", f"{self._home}:/home/of", "--volume", f"{cache}:/cache/{cache.name}:ro"),
            *("--env", "HOME=/home/of", "--env", "XDG_CACHE_HOME=/cache", "--env", "PYTHONDONTWRITEBYTECODE=1"),
            *(self._image, sys.executable, *arguments),
            timeout=SECONDS,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr if done.returncode else done.stdout


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UserError as error:
        sys.exit(f"error: {error}")

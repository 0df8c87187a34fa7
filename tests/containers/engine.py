"""A Docker engine of our own for one script: started by hand, with its own data and socket, and ended with it.

No registry is needed: the base image is made by debootstrap, once, and kept in the cache.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from protocol.errors import UserError

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "waggle-tests"
MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
#: Starting takes a second or two; a machine under load gets the rest.
START_SECONDS = 60.0
#: Containers that still run are killed by then.
STOP_SECONDS = 60.0


@dataclass(frozen=True)
class Engine:
    """A running engine; ``environment`` leads the docker command to it."""

    environment: dict[str, str]

    def docker(self, *arguments: str, stdin: object = None, timeout: float = 600) -> "subprocess.CompletedProcess[str]":
        """What the command says; its exit status is the caller's to look at."""
        return subprocess.run(
            ["/usr/bin/docker", *arguments], env=self.environment, stdin=stdin, capture_output=True, text=True,
            timeout=timeout,
        )  # type: ignore[call-overload,no-any-return]  # fmt: skip

    def checked(self, *arguments: str, stdin: object = None, timeout: float = 600) -> str:
        """Its standard output. Raises UserError where it fails."""
        done = self.docker(*arguments, stdin=stdin, timeout=timeout)
        if done.returncode:
            said = f"{done.stdout.strip()[-2000:]}\n{done.stderr.strip()[-2000:]}"
            raise UserError(f"docker {' '.join(arguments[:2])} failed: {said.strip()}")
        return done.stdout

    def debian(self, name: str, packages: Sequence[str]) -> str:
        """An image of Debian with ``packages``; its name."""
        with base(packages).open("rb") as file:
            self.checked("import", "-", name, stdin=file)
        return name


@contextmanager
def engine() -> Iterator[Engine]:
    """Raises UserError where the machine is not made for it."""
    if os.geteuid() != 0:
        raise UserError("only root can start Docker's engine")
    need("dockerd", "docker.io")
    with tempfile.TemporaryDirectory(prefix="waggle-engine-") as folder, open(f"{folder}/log", "wb") as log:
        # no bridge and no packet filter: neither is needed, and the machine's own rules stay as they are
        process = subprocess.Popen(
            ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid",
             "--host", f"unix://{folder}/socket", "--bridge", "none", "--iptables=false", "--ip6tables=false"],
            stdout=log, stderr=log,
        )  # fmt: skip
        made = Engine({"PATH": "/usr/bin:/bin", "HOME": folder, "DOCKER_HOST": f"unix://{folder}/socket"})
        try:
            _wait(made, process, Path(folder, "log"))
            yield made
        finally:
            process.terminate()
            process.wait(STOP_SECONDS)


def _wait(made: Engine, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while made.docker("version").returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"the engine did not start: {log.read_text()[-2000:]}")
        time.sleep(0.2)


def base(packages: Sequence[str]) -> Path:
    """A tar file of Debian with these packages, kept in the cache."""
    need("debootstrap", "debootstrap")
    path = CACHE / f"{SUITE}-{'-'.join(sorted(packages)).replace(':', '')}.tar"
    if not path.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="waggle-debian-") as folder:
            command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", SUITE, folder, MIRROR]
            run(command)
            shutil.rmtree(Path(folder, "var/cache/apt/archives"))
            Path(folder, "root").chmod(0o755)  # a root's own Python is mounted below it, for other users too
            run(["tar", "-C", folder, "-cf", f"{path}.part", "."])
        os.replace(f"{path}.part", path)
    return path


def need(command: str, package: str) -> None:
    if shutil.which(command) is None:
        raise UserError(f"{command} is missing (Debian: apt-get install {package})")


def run(command: Sequence[str]) -> None:
    """Raises UserError where it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-2000:]}")

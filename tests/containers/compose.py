"""The compose file as it is shipped, on a real Docker engine: a seed, two workers and Prometheus.

    python -m tests.containers.compose [WHEELS]

The images are built here: the node's by deploy/Dockerfile on a Debian made by debootstrap, from the wheels in the
folder WHEELS, or in a new one that pip fills; Prometheus's around Debian's package, under the name that it has in
the compose file. Grafana's image can't be made like that, and is left out; tests/deploy/test_grafana.py checks its
files. The program is the tests' own, whose experiments take a second. Needs root on Debian with docker.io,
docker-compose and debootstrap. Not part of ``make test``: it starts an engine.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from protocol.errors import UserError
from tests.containers.engine import Engine, engine, need, run

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ("git", "libgmp10", "libgomp1", "python3", "python3-venv")
#: The names that the Dockerfile and the compose file have for what can't be had without a registry.
BASE, PROMETHEUS = "waggle-python", "prom/prometheus:v2.55.1"
PROMETHEUS_FILE = """
FROM waggle-prometheus
RUN mkdir -p /prometheus && chown prometheus /prometheus
USER prometheus
ENTRYPOINT ["/usr/bin/prometheus"]
"""
OVERRIDE = {
    "version": "2.4",
    "services": {"seed": {"volumes": ["./tests/programs/numbers:/program:ro"]}},
}
WORKERS = 2
BUILD_SECONDS, UP_SECONDS, WAIT_SECONDS = 1800.0, 300.0, 180.0

Json = Any
Check = tuple[str, str]


def main(wheels: Path | None) -> int:
    need("docker-compose", "docker-compose")
    failed = 0
    with engine() as docker, tempfile.TemporaryDirectory(prefix="waggle-compose-") as folder:
        begun = time.monotonic()
        context = make_context(Path(folder, "context"), wheels)
        build(docker, context)
        print(f"{'images are built':44} ok, {time.monotonic() - begun:.0f} s", flush=True)
        swarm = Compose(docker, context)
        try:
            for what, why in swarm.checks():
                print(f"{what:44} {why or 'ok'}, {time.monotonic() - begun:.0f} s", flush=True)
                failed += bool(why)
        finally:
            swarm.compose("down", "--volumes")
    return 1 if failed else 0


def make_context(folder: Path, wheels: Path | None) -> Path:
    """The project as somebody has it who cloned it, with the wheels in their place."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    place = folder / "deploy" / "wheels"
    if wheels is None:
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", str(place)]
        run([*pip, "--constraint", str(ROOT / "constraints.txt"), str(ROOT), "hatchling"])
    else:
        for wheel in wheels.glob("*.whl"):
            shutil.copyfile(wheel, place / wheel.name)
    (folder / "docker-compose.override.yml").write_text(json.dumps(OVERRIDE))  # JSON is YAML
    return folder


def build(docker: Engine, context: Path) -> None:
    docker.debian(BASE, PYTHON)
    docker.checked(
        *("build", "--network", "none", "--build-arg", f"BASE={BASE}", "--build-arg", "PIP_NO_INDEX=1"),
        *("--file", f"{context}/deploy/Dockerfile", "--tag", "waggledance", str(context)), timeout=BUILD_SECONDS,
    )  # fmt: skip
    docker.debian("waggle-prometheus", ("prometheus",))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "Dockerfile").write_text(PROMETHEUS_FILE)
        docker.checked("build", "--network", "none", "--tag", PROMETHEUS, folder)


class Compose:
    """The services, once they are up; each check gives what was checked, and why it failed or ""."""

    def __init__(self, docker: Engine, context: Path) -> None:
        self._docker, self._context = docker, context
        self._environment = {**docker.environment, "WAGGLE_PROGRAM": "/program", "COMPOSE_PROJECT_NAME": "waggletest"}

    def checks(self) -> Iterator[Check]:
        self.compose("up", "-d", "--no-build", "--scale", f"worker={WORKERS}", "seed", "worker", "prometheus")
        yield "all are up and healthy", self.wait(lambda: all(self.health(one) == "healthy" for one in self.nodes()))
        peers = {one: self.status(one)["peer_id"] for one in self.nodes()}
        yield "each node is another peer", "" if len(set(peers.values())) == WORKERS + 1 else str(peers)
        yield "every worker's experiments count", self.wait(lambda: all(self.own(one) > 2 for one in self.nodes()))
        yield "something better was accepted", self.wait(lambda: all(self.accepted(one) > 0 for one in self.nodes()))
        for one in self.nodes():
            self.inside(one, "waggle", "pause")
        yield "all hold the same records", self.wait(lambda: len({self.ledger(one) for one in self.nodes()}) == 1)
        incumbents = {self.status(one)["incumbent"]["commit"] for one in self.nodes()}
        yield "all have the same incumbent", "" if len(incumbents) == 1 else str(incumbents)
        yield "Prometheus finds them all", self.wait(lambda: self.scraped() == set(peers.values()))
        yield from self.contained(self.nodes()[-1])
        self.compose("restart", "worker")
        again = self.wait(lambda: all(self.health(one) == "healthy" for one in self.nodes()))
        yield "they come back", again
        yield "as the peers that they were", "" if peers == {one: self.peer(one) for one in self.nodes()} else "no"
        yield "with all that they knew", self.wait(lambda: len({self.ledger(one) for one in self.nodes()}) == 1)

    def contained(self, one: str) -> Iterator[Check]:
        doctor = json.loads(self.inside(one, "waggle", "doctor", "--json"))
        holds = doctor["sandboxes"]["landlock"]["wrong"] == [] and bool(doctor["sandboxes"]["bubblewrap"]["wrong"])
        yield "Landlock holds, and bubblewrap can't", "" if holds else json.dumps(doctor)[-800:]
        used = self.status(one)["sandbox"]
        yield "it is the one that is used", "" if used == "landlock" else used
        user = self.inside(one, "id", "-u").strip()
        yield "nobody is root", "" if user == "10001" else user
        written = self._docker.docker("exec", one, "sh", "-c", "touch /usr/x /opt/waggle/x")
        yield "the root can't be written to", "" if written.returncode else "it can"
        rights = self.inside(one, "sh", "-c", "grep -E 'CapEff|NoNewPrivs' /proc/self/status")
        bare = "CapEff:\t0000000000000000" in rights and "NoNewPrivs:\t1" in rights
        yield "no rights are left, nor to be had", "" if bare else rights

    # ---- what is asked

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(
            ["docker-compose", *arguments], cwd=self._context, env=self._environment, capture_output=True, text=True,
            timeout=UP_SECONDS,
        )  # fmt: skip
        if done.returncode:
            raise UserError(f"docker-compose {arguments[0]} failed: {done.stderr.strip()[-3000:]}")
        return done.stdout

    def nodes(self) -> list[str]:
        """The containers of the nodes, the seed first."""
        return [*self.compose("ps", "-q", "seed").split(), *sorted(self.compose("ps", "-q", "worker").split())]

    def health(self, one: str) -> str:
        return self._docker.docker("inspect", "--format", "{{.State.Health.Status}}", one).stdout.strip()

    def inside(self, one: str, *command: str) -> str:
        return self._docker.checked("exec", one, *command, timeout=120)

    def status(self, one: str) -> Json:
        return json.loads(self.inside(one, "waggle", "status", "--json"))

    def peer(self, one: str) -> str:
        return str(self.status(one)["peer_id"])

    def own(self, one: str) -> int:
        return int(self.status(one)["experiments"]["own"])

    def accepted(self, one: str) -> int:
        return int(self.status(one)["experiments"]["accepted"])

    def ledger(self, one: str) -> frozenset[str]:
        rows = json.loads(self.inside(one, "waggle", "log", "--all", "--json"))
        return frozenset(row["record_id"] for row in rows)

    def scraped(self) -> set[str]:
        """Peers whose metrics Prometheus has, asked for where the compose file publishes it."""
        query = urllib.parse.urlencode({"query": "up == 1"})
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:9090/api/v1/query?{query}", timeout=10) as answer:
                found = json.load(answer)["data"]["result"]
        except OSError:
            return set()
        return {one["metric"]["node"] for one in found}

    def wait(self, condition: Callable[[], bool]) -> str:
        """"" as soon as it holds; after WAIT_SECONDS, what the containers said."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                return self.compose("logs", "--no-color", "--tail", "20")
            time.sleep(1.0)
        return ""


if __name__ == "__main__":
    os.chdir(ROOT)
    try:
        sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    except UserError as error:
        sys.exit(f"error: {error}")

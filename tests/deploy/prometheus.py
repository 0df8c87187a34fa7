"""A Prometheus for tests, with the configuration that is shipped; only its addresses and its pace are others."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.gossip.nodes import free_port

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "prometheus"
#: The shipped pace is for hours, a test has a minute.
PACE = {"15s": "1s", "30s": "1s"}
ASK_SECONDS = 10.0
END_SECONDS = 20.0


@dataclass
class Prometheus:
    """A running one."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    def ask(self, path: str, **values: str) -> Any:
        """The data that its API answers. Raises HTTPError where it refuses the question."""
        query = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        with urllib.request.urlopen(query, timeout=ASK_SECONDS) as answer:
            return json.load(answer)["data"]

    def series(self, expression: str) -> list[Any]:
        """What an expression is now."""
        found: list[Any] = self.ask("query", query=expression)["result"]
        return found

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=ASK_SECONDS) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def up(self) -> dict[str, str]:
        """Whose node is scraped well, by peer id: whether it is one's own."""
        return {one["metric"]["node"]: one["metric"]["own"] for one in self.series("up == 1")}


@contextmanager
def prometheus(folder: Path, node: str) -> Iterator[Prometheus]:
    """One that is told of ``node``, HOST:PORT, and of nothing else."""
    folder.mkdir()
    (folder / "rules").mkdir()
    for file in ("prometheus.yml", *(f"rules/{one.name}" for one in (SHIPPED / "rules").iterdir())):
        text = (SHIPPED / file).read_text()
        for shipped, ours in {"seed:8420": node, **PACE}.items():
            text = text.replace(f": {shipped}", f": {ours}").replace(f"//{shipped}/", f"//{ours}/")
        (folder / file).write_text(text)
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        yield Prometheus(f"http://127.0.0.1:{port}", process, folder / "log")
    finally:
        process.terminate()
        process.wait(END_SECONDS)

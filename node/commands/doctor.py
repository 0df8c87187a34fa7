"""``waggle doctor``: what of this machine a node can use, tried and not believed; and what to install."""

import json
import platform
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import trio

from node.config import Doctor
from protocol.errors import UserError
from trainer.device import detect
from trainer.lanes import usable_cpus
from trainer.probe import Probed, probe
from trainer.sandbox import BACKENDS

HOLDS, NOTHING_HOLDS = 0, 1


def doctor(command: Doctor) -> int:
    """0 where a sandbox holds, else 1. Raises UserError for a device that is not there."""
    found = trio.run(_examine, command.device)
    print(json.dumps(found, indent=2) if command.json else "\n".join(_lines(found)))
    return HOLDS if any(not told["wrong"] for told in found["sandboxes"].values()) else NOTHING_HOLDS


async def _examine(device: str | None) -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, Python {platform.python_version()}",
        "device": asdict(await trio.to_thread.run_sync(detect, device)),
        "cpus": len(usable_cpus()),
        "sandboxes": {name: asdict(probed) async for name, probed in _try_each()},
        "git": shutil.which("git") or "",
    }


async def _try_each() -> AsyncIterator[tuple[str, Probed]]:
    """Name, and what it stopped and did not."""
    with tempfile.TemporaryDirectory(prefix="waggle-doctor-") as scratch:
        for backend in BACKENDS:
            name = getattr(backend, "name", str(backend))
            try:
                yield name, await probe(backend(), Path(scratch))
            except (UserError, OSError) as error:
                yield name, Probed(wrong=[str(error)])


def _lines(found: dict[str, Any]) -> Iterator[str]:
    device = found["device"]
    yield f"system      {found['system']}"
    seen = f"{device['count']} x {device['name']}" if device["count"] > 1 else device["name"]
    yield f"device      {seen} ({device['kind']}), tier {device['tier']}, {device['software']}"
    yield f"cpus        {found['cpus']}"
    yield f"git         {found['git'] or 'missing: install git'}"
    for name, told in found["sandboxes"].items():
        yield f"{name:<11} {'does not hold' if told['wrong'] else 'holds'}"
        if told["held"]:
            yield f"{'':<11} + {', '.join(told['held'])}"
        yield from (f"{'':<11} - {wrong}" for wrong in told["wrong"])
    used = next((name for name, told in found["sandboxes"].items() if not told["wrong"]), None)
    if used is not None:
        yield f"\nA node uses {used} here."
        return
    yield "\nNo sandbox holds here: a node runs no code but its own."
    if sys.platform == "linux":
        yield "Install bubblewrap (Debian, Ubuntu: apt install bubblewrap), or use a kernel with Landlock ABI 4 (6.7)."

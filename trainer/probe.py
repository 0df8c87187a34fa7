"""Sandboxes are tried before they are believed: a real child attempts in each what must not succeed."""

import json
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from protocol.errors import UserError
from trainer.sandbox import BACKENDS, Sandbox
from trainer.spawn import Cell

#: Python, msgpack and numpy on a cold disk; a sandbox that needs longer is of no use.
PROBE_SECONDS = 60.0
#: What a probe prints is a short list.
_PROBE_OUTPUT = 64 * 1024


@dataclass(frozen=True)
class Tried:
    """Which sandbox held, and for each stronger one why it did not; ``sandbox`` None where nothing holds."""

    sandbox: Sandbox | None
    reasons: Sequence[str]


async def strongest(scratch: Path, backends: Sequence[Callable[[], Sandbox]] = BACKENDS) -> Tried:
    """The first backend that holds when it is really tried, with workspaces below ``scratch``."""
    reasons: list[str] = []
    for backend in backends:
        try:
            sandbox = backend()
            wrong = (await probe(sandbox, scratch)).wrong
        except (UserError, OSError) as error:
            reasons.append(f"{getattr(backend, 'name', backend)}: {error}")
            continue
        if not wrong:
            return Tried(sandbox, reasons)
        reasons.append(f"{sandbox.name}: {'; '.join(wrong)}")
    return Tried(None, reasons)


@dataclass(frozen=True)
class Probed:
    """What a sandbox was seen to stop, and what is ``wrong`` with it: nothing where it holds."""

    held: Sequence[str] = ()
    wrong: Sequence[str] = ()


async def probe(sandbox: Sandbox, scratch: Path) -> Probed:
    """Run a child that tries to break out. Raises OSError where none can be started."""
    with _playground(scratch) as cell:
        output = b""
        with trio.move_on_after(PROBE_SECONDS) as limit:
            async with sandbox.spawn(cell) as child:
                async for part in child.output:
                    output = (output + part)[-_PROBE_OUTPUT:]
                await child.wait()
        if limit.cancelled_caught:
            return Probed(wrong=[f"no answer within {PROBE_SECONDS:.0f} s"])
        return _verdict(output)


@contextmanager
def _playground(scratch: Path) -> Iterator[Cell]:
    """A probe's cell, with a home that it must not see and servers that it must not reach."""
    scratch.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="probe-", dir=scratch) as folder,
        tempfile.TemporaryDirectory(prefix="waggle-") as short,  # a socket's path has 108 bytes at most
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as abstract,
    ):
        home, workspace, readable = (Path(folder, name) for name in ("home", "workspace", "readable"))
        home.mkdir()
        workspace.mkdir()
        for path in (home / "canary", readable):
            path.write_text("canary")
        names = {"unix": f"{short}/socket", "abstract": f"waggle-{secrets.token_hex(8)}"}
        for server, address in ((unix, names["unix"]), (abstract, "\0" + names["abstract"])):
            if sys.platform == "linux" or server is unix:
                server.bind(address)
                server.listen()
        config = {
            "canary": str(home / "canary"),
            "outside": str(home / "written"),
            "workspace": str(workspace),
            "readable": str(readable),
            "port": tcp.getsockname()[1],
            "pid": os.getpid(),
            **names,
        }
        yield Cell("probe", config, workspace, [readable])


def _verdict(output: bytes) -> Probed:
    """The probe's own account, or what was printed instead."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    try:
        told = json.loads(lines[-1])
        return Probed([str(one) for one in told["held"]], [str(one) for one in told["wrong"]])
    except (IndexError, ValueError, TypeError, KeyError):
        return Probed(wrong=[f"did not start: {lines[-1][:300] if lines else 'no output'}"])

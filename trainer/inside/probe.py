"""What the trainer asks of a sandbox before it believes in it: each attempt, made from within, must fail."""

import contextlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

#: A connection on loopback is there at once or refused at once.
_CONNECT_SECONDS = 2


def main(config: Mapping[str, Any]) -> int:
    """Print a JSON list of what could be done and should not have been, or the other way round."""
    wrong = [
        said
        for said, attempt in (
            ("could read a file outside", lambda: Path(config["canary"]).read_bytes()),
            ("could list a folder outside", lambda: os.listdir(Path(config["canary"]).parent)),
            ("could write outside", lambda: Path(config["outside"]).write_bytes(b"x")),
            ("could connect to the network", lambda: _connect(config["port"])),
            ("could read another process", lambda: _environment(config["pid"])),
        )
        if _succeeds(attempt)
    ]
    needed: tuple[tuple[str, Callable[[], Any]], ...] = (
        ("cannot read what it should", lambda: Path(config["readable"]).read_bytes()),
        ("cannot write to its workspace", lambda: Path(config["workspace"], "probe").write_bytes(b"x")),
        ("cannot import msgpack", lambda: __import__("msgpack")),
        ("cannot import numpy", lambda: __import__("numpy")),
    )
    for said, attempt in needed:
        try:
            attempt()
        except Exception as error:  # whatever is the matter, it is reported
            wrong.append(f"{said} ({type(error).__name__}: {error})")
    print(json.dumps(wrong), flush=True)
    return 0


def _succeeds(attempt: Callable[[], Any]) -> bool:
    with contextlib.suppress(OSError):
        attempt()
        return True
    return False


def _connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), _CONNECT_SECONDS).close()


def _environment(pid: int) -> bytes:
    """The environment of the node, whose number may be our own in a name space of ours."""
    if pid == os.getpid():
        raise PermissionError("that is me")
    return Path(f"/proc/{pid}/environ").read_bytes()

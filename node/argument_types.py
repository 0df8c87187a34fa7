"""What an argument's text means, for argparse: each raises ArgumentTypeError that says what was expected."""

import argparse
import re
from pathlib import Path

from node.config import NO_LIMIT, Http, Start
from protocol.errors import RemoteProtocolError
from protocol.identity import public_key_of

MAX_PORT = 65535


def http_address(text: str) -> Http:
    """HOST:PORT, an IPv6 host in brackets or not."""
    host, found, port = text.rpartition(":")
    if not found or not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, such as {Start.http}, got {text!r}")
    return Http(host.removeprefix("[").removesuffix("]"), int(port), True)


def path(text: str) -> Path:
    """Absolute, so that it holds wherever the node is started next."""
    return Path(text).absolute()


def peer_id(text: str) -> str:
    """One that a public key can be read from."""
    try:
        public_key_of(text)
    except RemoteProtocolError:
        raise argparse.ArgumentTypeError(f"expected a peer id, such as 12D3KooW…, got {text!r}") from None
    return text


def agent(text: str) -> tuple[str, str]:
    """The kind, and the command of ``command: CMD``."""
    kind, _, command = text.partition(":")
    if kind == "command" and command.strip():
        return kind, command.strip()
    if text in ("local", "claude"):
        return text, ""
    raise argparse.ArgumentTypeError(f"expected local, claude or 'command: CMD', got {text!r}")


def positive(text: str) -> float:
    """A whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, got {text!r}")
    return float(text)


def natural(text: str) -> int:
    """A whole number from 0 on."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")
    return int(text)


def limit(text: str) -> int:
    """Of tokens: from 1 on, or none."""
    if text == "none":
        return NO_LIMIT
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, or none for no limit, got {text!r}")
    return min(int(text), NO_LIMIT)


def lanes(text: str) -> int | None:
    """How many; None is ``auto``."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, or auto, got {text!r}")
    return int(text)


def hash_prefix(text: str) -> str:
    """Of a program's hash, in lower case."""
    if not re.fullmatch("[0-9a-f]{8,64}", text.lower()):
        raise argparse.ArgumentTypeError("expected 8 to 64 hexadecimal digits")
    return text.lower()

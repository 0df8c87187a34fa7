"""What the trainer asks of a sandbox before it believes in it: each attempt, made from within, must fail. None
does harm where it succeeds.
"""

import contextlib
import ctypes
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

#: A connection on loopback is there at once or refused at once.
_CONNECT_SECONDS = 2
_PTRACE_SEIZE = 0x4206  # unlike PTRACE_ATTACH it does not stop the other
_CLONE_NEWUSER = 0x10000000
_SET_UID = 0o4000
#: Sockets that reach other machines, the host of a virtual machine, or parts of the kernel that few look at.
_FAMILIES = ("AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG", "AF_BLUETOOTH", "AF_CAN")

Attempt = Callable[[Mapping[str, Any]], object]


def main(config: Mapping[str, Any]) -> int:
    """Print a JSON object: what ``held``, and what is ``wrong``, as could be done and should not have been, or the
    other way round.
    """
    held: list[str] = []
    wrong: list[str] = []
    for name, said, attempt in _FORBIDDEN if sys.platform == "linux" else _FORBIDDEN_ANYWHERE:
        if _succeeds(attempt, config):
            wrong.append(f"could {said}")
        elif name not in held:
            held.append(name)
    for said, attempt in _NEEDED:
        try:
            attempt(config)
        except Exception as error:  # whatever is the matter, it is reported
            wrong.append(f"cannot {said} ({type(error).__name__}: {error})")
    print(json.dumps({"held": held, "wrong": wrong}), flush=True)
    return 0


def _succeeds(attempt: Attempt, config: Mapping[str, Any]) -> bool:
    with contextlib.suppress(OSError):
        attempt(config)
        return True
    return False


# ---- attempts: each raises OSError where it is stopped


def _send_datagram(config: Mapping[str, Any]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.1", config["port"]))


def _connect_unix(config: Mapping[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(config["unix"])


def _connect_abstract(config: Mapping[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.connect("\0" + config["abstract"])


def _open_any_socket(config: Mapping[str, Any]) -> None:
    opened = [name for name in _FAMILIES if hasattr(socket, name) and _opens(getattr(socket, name))]
    if not opened:
        raise PermissionError("none could be opened")


def _opens(family: int) -> bool:
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM):
        return True
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_RAW):
        return True
    return False


def _read_environment(config: Mapping[str, Any]) -> None:
    Path(f"/proc/{_other(config)}/environ").read_bytes()


def _read_memory(config: Mapping[str, Any]) -> None:
    Path(f"/proc/{_other(config)}/maps").read_bytes()


def _signal(config: Mapping[str, Any]) -> None:
    os.kill(_other(config), 0)


def _trace(config: Mapping[str, Any]) -> None:
    _call("ptrace", ctypes.c_long(_PTRACE_SEIZE), ctypes.c_long(_other(config)), None, None)


def _slow_down(config: Mapping[str, Any]) -> None:
    os.setpriority(os.PRIO_PROCESS, _other(config), os.getpriority(os.PRIO_PROCESS, _other(config)))


def _other(config: Mapping[str, Any]) -> int:
    """The node, whose number may be our own in a name space of ours."""
    if config["pid"] == os.getpid():
        raise PermissionError("that is me")
    pid: int = config["pid"]
    return pid


def _new_name_space(config: Mapping[str, Any]) -> None:
    _call("unshare", ctypes.c_int(_CLONE_NEWUSER))


def _make_set_uid(config: Mapping[str, Any]) -> None:
    with contextlib.suppress(PermissionError):
        os.close(os.open("set-uid", os.O_CREAT | os.O_WRONLY, 0o4755))
    if not os.stat("set-uid").st_mode & _SET_UID:
        raise PermissionError("it has no such right")


def _make_device(config: Mapping[str, Any]) -> None:
    os.mknod("null", 0o20666, os.makedev(1, 3))


def _take_hidden_memory(config: Mapping[str, Any]) -> None:
    os.close(os.memfd_create("hidden"))


def _call(name: str, *arguments: Any) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


#: name of what holds, what could be done where it does not, and the attempt
_FORBIDDEN_ANYWHERE: tuple[tuple[str, str, Attempt], ...] = (
    ("files", "read a file outside", lambda config: Path(config["canary"]).read_bytes()),
    ("files", "list a folder outside", lambda config: os.listdir(Path(config["canary"]).parent)),
    ("files", "write outside", lambda config: Path(config["outside"]).write_bytes(b"x")),
    (
        "network",
        "connect to the network",
        lambda config: socket.create_connection(("127.0.0.1", config["port"]), _CONNECT_SECONDS).close(),
    ),
    ("network", "send a datagram", _send_datagram),
    ("Unix sockets", "connect to a Unix socket", _connect_unix),
    ("signals", "signal another process", _signal),
)
_FORBIDDEN = (
    *_FORBIDDEN_ANYWHERE,
    ("Unix sockets", "connect to an abstract socket", _connect_abstract),
    ("other sockets", "open a socket to another machine or the kernel", _open_any_socket),
    ("other processes", "read another process", _read_environment),
    ("other processes", "read another process's memory map", _read_memory),
    ("other processes", "trace another process", _trace),
    ("other processes", "change another process's priority", _slow_down),
    ("name spaces", "make a user name space", _new_name_space),
    ("special files", "make a file that runs as its owner", _make_set_uid),
    ("special files", "make a device file", _make_device),
    ("hidden memory", "take memory that no limit counts", _take_hidden_memory),
)
_NEEDED: tuple[tuple[str, Attempt], ...] = (
    ("read what it should", lambda config: Path(config["readable"]).read_bytes()),
    ("write to its workspace", lambda config: Path(config["workspace"], "probe").write_bytes(b"x")),
    ("import msgpack", lambda config: __import__("msgpack")),
    ("import numpy", lambda config: __import__("numpy")),
)

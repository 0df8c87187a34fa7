"""Whether an attack has come through, by what is seen from outside: nothing that the attacker says counts,
but a secret in what it printed.
"""

import hashlib
import json
import os
import secrets
import selectors
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import trainer as trainer_package
from trainer.spawn import WORKSPACE_BYTES, WORKSPACE_FILES, python_folders
from trainer.tree import read_stat

LOOK_SECONDS = 0.02
#: The processes of a run, its sandbox's own included, before those of an attack.
USUAL_PROCESSES = 600
#: What is written or taken between two looks of the trainer comes on top of a limit.
SLACK = 2.0
#: Files with which a run begins.
USUAL_FILES = 64
#: Control, two exams and a pair of a library's own.
USUAL_SOCKETS = 6
_VICTIM = "import os, sys; sys.stdin.read()"


@dataclass
class Peaks:
    """The most that was seen at one moment of the processes of a run. Memory and disk are bytes; ``full`` is when
    more was on the disk than is granted, by ``time.monotonic``.
    """

    processes: int = 0
    memory: int = 0
    disk: int = 0
    files: int = 0
    sockets: int = 0
    user_spaces: set[str] = field(default_factory=set)
    odd_files: set[str] = field(default_factory=set)
    full: float | None = None


class Scene:
    """A user's machine: secrets, servers, another process, files; and what is seen of a run below ``scratch``.

    ``folder`` holds all of it. Close after use.
    """

    def __init__(self, folder: Path) -> None:
        self.secret = f"secret-{secrets.token_hex(12)}"
        self.scratch = folder / "scratch"
        self.home = folder / "home"
        self.peaks = Peaks()
        self._python = Path(sys.executable).resolve()
        self.hits: list[str] = []
        self._stack = ExitStack()
        for part in (self.scratch, self.home, self.home / "empty"):
            part.mkdir(parents=True)
        self.secret_file = self.home / "secret.key"
        self.secret_file.write_text(self.secret)
        self.kept = self.home / "kept.txt"
        self.kept.write_text("kept")
        self._open_secret()
        self.victim = self._start_victim()
        self._ports = self._serve()
        self._before = self._state()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._over = threading.Event()
        self._watcher.start()

    def close(self) -> None:
        self._over.set()
        self._watcher.join()
        self._stack.close()

    def targets(self, hidden: list[Path]) -> Mapping[str, object]:
        """What attackers are told: more than they could find out. ``hidden`` are the program's data files."""
        ours, package = Path(trainer_package.__file__).parent, Path(pytest.__file__)
        return {
            "secret": str(self.secret_file), "node": os.getpid(), "victim": self.victim.pid, "address": id(self.secret),
            "hidden": [str(path) for path in hidden], "disks": _disks(), **self._ports,
            "folders": [str(path) for path in (*self._folders(), *hidden[:1])],
            "files": [str(path) for path in (self.kept, ours / "inside/boot.py", package)],
        }  # fmt: skip

    def breaches(self, output: bytes) -> list[str]:
        """What has come through, each in a line; ``output`` is all that the run has printed or said."""
        time.sleep(LOOK_SECONDS)  # a datagram is there at once, our thread has to see it
        peaks, after = self.peaks, self._state()
        found = [f"a server was reached: {hit}" for hit in self.hits]
        found += [f"{name} has changed: {self._before.get(name)} to {after.get(name)}"
                  for name in sorted({*self._before, *after}) if self._before.get(name) != after.get(name)]  # fmt: skip
        if self.secret.encode() in output:
            found.append("a secret was told")
        found += [f"process {pid} is left" for pid, _ in self._processes()]
        found += [f"left in the scratch folder: {name}" for name in sorted(os.listdir(self.scratch))]
        found += [f"made {name}" for name in sorted(peaks.odd_files)]
        if len(peaks.user_spaces) > 1:
            found.append("a user name space of its own")
        for name, seen, most in (
            ("processes and threads", peaks.processes, USUAL_PROCESSES),
            ("sockets", peaks.sockets, USUAL_SOCKETS),
            ("bytes on disk", peaks.disk, int(SLACK * WORKSPACE_BYTES)),
            ("files", peaks.files, int(SLACK * WORKSPACE_FILES) + USUAL_FILES),
        ):
            if seen > most:
                found.append(f"{seen} {name}, {most} at most")
        return found

    # ---- what there is to attack

    def _open_secret(self) -> None:
        """A descriptor that somebody forgot to close."""
        fd = os.open(self.secret_file, os.O_RDONLY)
        os.set_inheritable(fd, True)
        self._stack.callback(os.close, fd)

    def _start_victim(self) -> "subprocess.Popen[bytes]":
        victim = subprocess.Popen(
            [sys.executable, "-I", "-c", _VICTIM], stdin=subprocess.PIPE, env={"SECRET": self.secret}
        )
        self._stack.callback(victim.wait)
        self._stack.callback(victim.kill)
        assert victim.stdin is not None
        self._stack.callback(victim.stdin.close)
        return victim

    def _serve(self) -> dict[str, object]:
        """Servers of all kinds, whose visitors are counted."""
        selector = self._stack.enter_context(selectors.DefaultSelector())
        tcp = socket.create_server(("127.0.0.1", 0))
        port = tcp.getsockname()[1]
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", port))
        unix, abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        path, name = str(self.home / "socket"), f"waggle-{secrets.token_hex(8)}"
        unix.bind(path)
        abstract.bind(f"\0{name}")
        servers = {"tcp": tcp, "udp": udp, "unix": unix, "abstract": abstract}
        with suppress(OSError):  # a machine without IPv6
            servers["tcp, IPv6"] = socket.create_server(("::1", port), family=socket.AF_INET6)
        for kind, server in servers.items():
            self._stack.callback(server.close)
            server.setblocking(False)
            if kind != "udp":
                server.listen()
            selector.register(server, selectors.EVENT_READ, kind)
        self._selector = selector
        return {"tcp": port, "udp": port, "unix": path, "abstract": name}

    def _folders(self) -> list[Path]:
        inside = Path(trainer_package.__file__).parent / "inside"
        return [self.home, self.home / "empty", inside, *python_folders()[:2], Path("/etc"), Path("/usr/lib")]

    # ---- what is seen

    def _state(self) -> dict[str, object]:
        """Of everything that no attack may change."""
        state: dict[str, object] = {}
        for folder in self._folders():
            state[f"names in {folder}"] = tuple(sorted(set(os.listdir(folder)) - {"__pycache__"}))
            state[f"rights of {folder}"] = _rights(folder)
        files = json.loads(json.dumps(self.targets([])["files"]))
        for path in map(Path, (*files, self.secret_file)):
            state[str(path)] = (hashlib.sha256(path.read_bytes()).hexdigest(), _rights(path))
        for cached in (Path(trainer_package.__file__).parent / "inside").glob("__pycache__/*"):
            state[str(cached)] = hashlib.sha256(cached.read_bytes()).hexdigest()
        mounted = Path("/proc/self/mountinfo").read_text().splitlines()
        state["mounts"] = sum("/run/netns" not in line for line in mounted)  # other tests have networks of their own
        pid, running = self.victim.pid, self.victim.poll() is None
        state["the victim"] = running and (
            _status(pid, "State") not in ("T (stopped)", "t (tracing stop)"), _status(pid, "TracerPid"),
            os.getpriority(os.PRIO_PROCESS, pid), sorted(os.sched_getaffinity(pid)), os.sched_getscheduler(pid),
            Path(f"/proc/{pid}/limits").read_text(),
        )  # fmt: skip
        return state

    def _watch(self) -> None:
        while not self._over.is_set():
            for key, _ in self._selector.select(LOOK_SECONDS):
                self.hits.append(key.data)
                with suppress(OSError):
                    _take(key.fileobj)
            self._look()

    def _look(self) -> None:
        peaks, processes, memory, disk, sockets = self.peaks, 0, 0, 0, 0
        for pid, resident in self._processes():
            processes += int(_status(pid, "Threads") or 1)
            memory += resident
            sockets = max(sockets, _sockets(pid))
            disk = max(disk, self._own_disk(pid))
            with suppress(OSError):
                python = Path(f"/proc/{pid}/exe").resolve() == self._python  # and no process of the sandbox's own
                if python and b'"role": "candidate"' in Path(f"/proc/{pid}/cmdline").read_bytes():
                    peaks.user_spaces.add(os.readlink(f"/proc/{pid}/ns/user"))
        peaks.processes = max(peaks.processes, processes)
        peaks.memory = max(peaks.memory, memory)
        peaks.sockets = max(peaks.sockets, sockets)
        peaks.disk = max(peaks.disk, disk)
        if not disk:
            self._look_at_files()

    def _look_at_files(self) -> None:
        """Where the workspace is on our own disk."""
        size = files = 0
        for path in _below(self.scratch):
            with suppress(OSError):
                one = path.lstat()
                files += 1
                size += one.st_blocks * 512
                if stat.S_ISBLK(one.st_mode) or stat.S_ISCHR(one.st_mode):
                    self.peaks.odd_files.add(f"a device file {path.name}")
                elif stat.S_ISREG(one.st_mode) and one.st_mode & (stat.S_ISUID | stat.S_ISGID):
                    self.peaks.odd_files.add(f"a file with its owner's rights {path.name}")
            if files > 4 * WORKSPACE_FILES:
                break
        self.peaks.disk = max(self.peaks.disk, size)
        self.peaks.files = max(self.peaks.files, files)
        if self.peaks.full is None and (size > WORKSPACE_BYTES or files > WORKSPACE_FILES + USUAL_FILES):
            self.peaks.full = time.monotonic()

    def _own_disk(self, pid: int) -> int:
        """Bytes in a file system that a process has at its workspace, and we have not."""
        with suppress(OSError):
            workspace = os.readlink(f"/proc/{pid}/cwd")
            inside = Path(f"/proc/{pid}/root{workspace}")
            if workspace.startswith(str(self.scratch)) and inside.stat().st_dev != self.scratch.stat().st_dev:
                space = os.statvfs(inside)
                self.peaks.files = max(self.peaks.files, space.f_files - space.f_ffree)
                return (space.f_blocks - space.f_bfree) * space.f_frsize
        return 0

    def _processes(self) -> Iterator[tuple[int, int]]:
        """Number and resident bytes of all that were started to work below ``scratch``."""
        mark = str(self.scratch).encode()
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != os.getpid():
                with suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                    if mark in file.read():
                        one = read_stat(int(name))
                        if one is not None and not one.ended:
                            yield one.pid, one.resident


def _take(server: object) -> None:
    assert isinstance(server, socket.socket)
    if server.type == socket.SOCK_DGRAM:
        server.recv(1 << 16)
    else:
        server.accept()[0].close()


def _rights(path: Path) -> tuple[int, ...]:
    one = path.stat()
    links = one.st_nlink if path.is_file() else 0
    changed = one.st_mtime_ns if path.is_file() else 0  # a folder's changes with Python's caches
    return (one.st_mode, one.st_uid, one.st_gid, changed, links, len(os.listxattr(path)))


def _status(pid: int, field_name: str) -> str:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field_name}:"):
                return line.partition(":")[2].strip()
    return ""


def _sockets(pid: int) -> int:
    found = 0
    with suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found += os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")
    return found


def _below(folder: Path) -> Iterator[Path]:
    for at, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(at, name)


def _disks() -> list[int]:
    """Device numbers of block devices of this machine."""
    devices = (Path("/sys/dev/block").iterdir() if Path("/sys/dev/block").is_dir() else ())
    numbers = [tuple(map(int, path.name.split(":"))) for path in devices]
    return [os.makedev(*pair) for pair in numbers][:2]

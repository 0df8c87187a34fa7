"""The candidate's side: load what is fixed, train when the clock starts, answer the examiner's questions.

A program's runner is a Python file with

    def load(run): ...              # optional: import what the runner needs; the asset is not there yet
    def train(run): ...             # with the asset and run.data; returns the state that answers
    def answer(state, question): .. # a dict in, a dict out; numpy arrays in both

and, where the evaluator compares (see examiner.py),

    def save(state): ...            # all that answers need, as bytes; part of the budget
    def restore(run, saved): ...    # the state again, from a buffer of these bytes, in another process

The asset arrives when the clock starts, with the data: nothing of the candidate's runs before.

Nothing here is trusted: the asset runs in this very process. What counts is measured by the trainer outside.
"""

import importlib.util
import math
import mmap
import os
import socket
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from . import frames

#: Seconds between two progress frames: enough for a live display, and some hundred frames a run at most.
REPORT_EVERY = 0.1
#: Fractions of the budget between two progress frames; the trainer keeps 64 points.
REPORT_STEP = 1 / 256
_TAIL = 2048


class Run:
    """What a runner knows of its run, and the clock.

    files      folder of the program's fixed files and the asset (read only, on sys.path)
    asset      path of the asset; the file is there when the clock has started
    workspace  the only folder that can be written to; the current directory
    seed       the run's seed, 63 bits; 0 before the clock starts
    device     "cpu", "cuda" or "mps"
    threads    threads to compute with
    clock      "cpu" or "wall": which seconds count
    seconds    the budget
    state      whatever ``load`` returned
    data       name -> read-only uint8 array of that file's bytes (``.view(np.uint16)`` for tokens);
               empty before the clock starts
    """

    def __init__(self, config: Mapping[str, Any], control: socket.socket) -> None:
        self.files = Path(config["files"])
        self.asset = self.files / config["asset"]
        self.workspace = Path(config["workspace"])
        self.seed = 0
        self.device: str = config["device"]
        self.threads: int = config["threads"]
        self.clock: str = config["clock"]
        self.seconds: float = config["seconds"]
        self.state: Any = None
        self.data: Mapping[str, Any] = {}
        self._control = control
        self._now = time.process_time if self.clock == "cpu" else time.monotonic
        self._start: float | None = None
        self._loss: float | None = None
        self._sent_at = -math.inf
        self._sent_fraction = -math.inf

    def fraction(self) -> float:
        """How much of the budget is spent: 0 before the clock starts, stop at 1.0."""
        return 0.0 if self._start is None else (self._now() - self._start) / self.seconds

    def report(self, loss: float) -> None:
        """Tell the trainer the training loss; call it as often as you like."""
        self._loss = float(loss)
        now, fraction = time.monotonic(), self.fraction()
        if now - self._sent_at >= REPORT_EVERY and fraction - self._sent_fraction >= REPORT_STEP:
            self._sent_at, self._sent_fraction = now, fraction
            self._send_progress(fraction)

    def _send_progress(self, fraction: float) -> None:
        if self._loss is not None and math.isfinite(self._loss):
            message = {"type": "progress", "fraction": fraction, "loss": self._loss}
            frames.send(self._control, message, frames.MAX_CONTROL)

    def _begin(self, seed: int, data: Mapping[str, Any]) -> None:
        self.seed = seed
        self.data = data
        self._start = self._now()


def main(config: Mapping[str, Any]) -> int:
    """Load, train, answer until the examiners have hung up. Returns the exit status."""
    control = socket.socket(fileno=config["control"])
    exams = [socket.socket(fileno=fd) for fd in config["exams"]]
    run = Run(config, control)
    try:
        sys.path.insert(0, str(run.files))
        runner = import_file(run.files / config["runner"], "runner")
        run.state = runner.load(run) if hasattr(runner, "load") else None
        saved, copied = config["saved"], config.get("restore")
        state = _restore(run, runner, saved, copied) if copied else _train(run, runner, saved)
        for exam in exams:
            _answer(runner, state, exam)
    except BaseException as error:  # the boundary to foreign code: it is said, and the process ends
        traceback.print_exc()
        _say_failed(control, error)
        return 1
    return 0


def import_file(path: Path, name: str) -> ModuleType:
    """Import one file as module ``name``."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _train(run: Run, runner: ModuleType, saved: int | None) -> Any:
    control = run._control
    frames.send(control, {"type": "ready"}, frames.MAX_CONTROL)
    start, fds = frames.receive_with_fds(control)
    if start is None:
        raise SystemExit("the trainer hung up")
    run._begin(start["seed"], {name: _map(fd) for name, fd in zip(start["files"], fds, strict=True)})
    cpu, wall = time.process_time(), time.monotonic()
    state = runner.train(run)
    run._send_progress(run.fraction())
    size = 0 if saved is None else _save(runner.save(state), saved)
    used = {"cpu": time.process_time() - cpu, "wall": time.monotonic() - wall}
    frames.send(control, {"type": "trained", "saved": size, **used}, frames.MAX_CONTROL)
    return state


def _save(data: bytes, fd: int) -> int:
    """Write to the memory that the trainer gave; how many bytes. Raises ValueError where it is too small."""
    room = os.fstat(fd).st_size
    if len(data) > room:
        raise ValueError(f"the saved state has {len(data)} bytes, at most {room}")
    rest = memoryview(data)
    while rest:
        rest = rest[os.pwrite(fd, rest, len(data) - len(rest)) :]
    return len(data)


def _restore(run: Run, runner: ModuleType, fd: int, size: int) -> Any:
    """A fresh process with the state that another has saved; its clock never starts and it gets no data."""
    saved = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    state = runner.restore(run, saved)
    frames.send(run._control, {"type": "ready"}, frames.MAX_CONTROL)
    return state


def _answer(runner: ModuleType, state: Any, exam: socket.socket) -> None:
    while (question := frames.receive(exam)) is not None:
        answer = runner.answer(state, question)
        frames.send(exam, {**answer, "type": "answer"})


def _map(fd: int) -> Any:
    """The file's bytes as a read-only array over a private map of it."""
    import numpy as np

    size = os.fstat(fd).st_size
    data = mmap.mmap(fd, size, prot=mmap.PROT_READ) if size else b""
    os.close(fd)
    return np.frombuffer(data, np.uint8)


def _say_failed(control: socket.socket, error: BaseException) -> None:
    text = "".join(traceback.format_exception(error)).encode("utf-8", "replace")
    message = {"type": "failed", "error": text[-_TAIL:].decode("utf-8", "ignore")}
    try:
        frames.send(control, message, frames.MAX_CONTROL)
    except OSError:
        return  # nobody listens any more

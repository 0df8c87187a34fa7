"""What the children of one run get: the candidate, the copies of it, and the examiners."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer import workspace
from trainer.job import Pin
from trainer.program import Spec
from trainer.saved import Saved
from trainer.spawn import Cell

#: One thread an experiment, so that experiments run side by side and no CPU second is wasted on waiting;
#: malloc keeps what it has (18 % more steps a second for the built-in program).
CANDIDATE_ENV = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "4294967296",
}
THREADS = 1


@dataclass(frozen=True)
class Cells:
    """``folder`` is the run's; ``device`` cpu, cuda or mps; ``clock`` cpu or wall."""

    folder: Path
    spec: Spec
    device: str
    clock: str
    pin: Pin

    @property
    def asset(self) -> Path:
        """Where the candidate finds its asset, once the clock has started."""
        return self._home / "files" / self.spec.asset

    def candidate(self, exams: Sequence[socket.socket], saved: Saved | None) -> Cell:
        return self._candidate(self._home / "work", exams, saved, {})

    def twin(self, number: int, exam: socket.socket, saved: Saved) -> Cell:
        """A fresh process with what the candidate saved, and without any data."""
        work = self._home / f"twin-{number}"
        work.mkdir()
        return self._candidate(work, [exam], saved, {"restore": saved.size})

    def examiner(self, index: int, data: Path | None, exams: Sequence[socket.socket]) -> Cell:
        home = self.folder / workspace.EXAMINER
        evaluator = home / "evaluator.py"
        config = {
            "evaluator": str(evaluator),
            "data": str(data) if data else "",
            "exams": [exam.fileno() for exam in exams],
        }
        return Cell(
            "examiner",
            config,
            home / f"work-{index}",
            [evaluator, *([data] if data else [])],
            env=CANDIDATE_ENV,
            memory=self.spec.memory,
            cpu=self.pin.cpu,
        )

    @property
    def _home(self) -> Path:
        return self.folder / workspace.CANDIDATE

    def _candidate(
        self, work: Path, exams: Sequence[socket.socket], saved: Saved | None, more: dict[str, Any]
    ) -> Cell:
        config = {
            "files": str(self._home / "files"),
            "asset": self.spec.asset,
            "runner": self.spec.runner,
            "workspace": str(work),
            "device": self.device,
            "threads": THREADS,
            "clock": self.clock,
            "seconds": self.spec.budget_seconds,
            "exams": [exam.fileno() for exam in exams],
            "saved": saved.fd if saved else None,
            **more,
        }
        gpu = {} if self.pin.gpu is None else {"CUDA_VISIBLE_DEVICES": str(self.pin.gpu)}
        return Cell(
            "candidate",
            config,
            work,
            [self._home / "files"],
            fds=[saved.fd] if saved else [],
            env=CANDIDATE_ENV | gpu,
            memory=self.spec.memory if self.device == "cpu" else 0,
            device=self.device,
            cpu=self.pin.cpu,
        )

"""Log lines for people. Many quote peers, so control characters never get through."""

import logging
import sys
from collections.abc import Callable

FORMAT = "%(asctime)s %(message)s"
WARN_FORMAT = "%(asctime)s %(levelname)s %(message)s"
#: Chatty libraries; what they have to say is in what we log ourselves.
QUIET = ("uvicorn", "git", "asyncio", "multiaddr", "anyio_service", "optuna")


def clean(text: str) -> str:
    """``text`` without what a terminal would obey, lines apart."""
    return "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in text)


class Lines(logging.Handler):
    """Gives each record, as clean lines, to ``write``."""

    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write
        self._plain = logging.Formatter(FORMAT, "%H:%M:%S")
        self._loud = logging.Formatter(WARN_FORMAT, "%H:%M:%S")

    def emit(self, record: logging.LogRecord) -> None:
        formatter = self._loud if record.levelno >= logging.WARNING else self._plain
        try:
            self._write(clean(formatter.format(record)))
        except Exception:  # the boundary that logging draws: a line that can't be written ends nothing
            self.handleError(record)


def set_up(verbosity: int, write: Callable[[str], None] | None = None) -> None:
    """-1 is warnings, 0 what happens, 1 what may help to find an error; to standard error unless told."""
    level = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}[verbosity]
    root = logging.getLogger()
    root.handlers[:] = [Lines(write or _to_stderr)]
    root.setLevel(logging.WARNING)
    for ours in ("node", "agent", "trainer", "gossip", "protocol"):
        logging.getLogger(ours).setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(True)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

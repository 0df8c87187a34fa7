"""A command of the user's own, which may do all that the user may, but does not see some folders."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from protocol.errors import UserError
from protocol.text import one_line

#: For a command that does nothing, on a machine that is busy.
TRY_SECONDS = 30.0
RISK = "or take the risk with --agent-sees-data"

#: The command line that runs another one so.
Hide = Callable[[Sequence[str]], Sequence[str]]


def hiding(hidden: Sequence[Path], shown: Path) -> Hide:
    """``hidden`` folders are empty for a command; ``shown``, which may lie in one of them, is there. All its processes
    end with it, and with us.

    Raises UserError where this machine can't do that.
    """
    if sys.platform == "darwin":
        return _seatbelt(hidden, shown)
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise UserError(
            "without bubblewrap a command could read the validation data: install it (Debian and Ubuntu: apt install"
            f" bubblewrap), {RISK}"
        )
    prefix = [
        bwrap, "--dev-bind", "/", "/", "--unshare-pid", "--proc", "/proc", "--die-with-parent",
        *(part for path in hidden if path.exists() for part in ("--tmpfs", str(path.resolve()))),
        "--bind", str(shown.resolve()), str(shown.resolve()), "--",
    ]  # fmt: skip
    _try(prefix)
    return lambda command: [*prefix, *command]


def _try(prefix: Sequence[str]) -> None:
    """Raises UserError where bubblewrap is there and does not work, as in most containers."""
    try:
        done = subprocess.run([*prefix, "true"], capture_output=True, text=True, timeout=TRY_SECONDS)
        said = "" if done.returncode == 0 else one_line(done.stderr, 200) or f"status {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        said = one_line(str(error), 200)
    if said:
        raise UserError(
            f"bubblewrap does not work here ({said}), so a command could read the validation data: allow user"
            f" namespaces (in a container: --security-opt seccomp=unconfined), {RISK}"
        )


def unhidden(command: Sequence[str]) -> Sequence[str]:
    """For who took the risk."""
    return command


def _seatbelt(hidden: Sequence[Path], shown: Path) -> Hide:
    """Not tested on a Mac."""
    denied = " ".join(f'(subpath "{path.resolve()}")' for path in hidden)
    profile = f'(version 1)(allow default)(deny file-read* {denied})(allow file-read* (subpath "{shown.resolve()}"))'
    return lambda command: ["sandbox-exec", "-p", profile, *command]

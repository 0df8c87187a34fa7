"""Any program as a proposer: it edits the asset in a folder of its own, and the asset alone is taken.

The folder has program.md, the asset, the fixed files that tell how it is used, ``results.tsv`` and ``LEDGER.md``. The
command may write ``NOTE.md``: its first line says what was changed, the rest is told to the swarm as what was learnt,
and from the commits that it names.
It runs with the user's own environment and network, since programs such as Claude Code need both; where validation and
hold-out data lie is hidden from it.
"""

import contextlib
import logging
import os
import signal
import stat
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import trio

from agent.digest import cited, digest, table
from agent.essence import essence
from agent.proposer import MAX_SUMMARY, Context, Edit
from protocol.diffs import MAX_ASSET_BYTES, count_lines, make_diff
from protocol.statements import MAX_TEXT_BYTES
from protocol.text import one_line

log = logging.getLogger(__name__)

#: An agent of today takes some minutes for an edit that it has thought about.
SECONDS = 900.0
#: Of LEDGER.md: some ten pages.
LEDGER_TOKENS = 13_000
#: A command that fails so often in a row is left alone for a while: it will not do better at once.
FAILURES, PAUSE_SECONDS = 3, 300.0
#: By which a shell says that a command was not found, or is none.
NOT_RUN = (126, 127)
#: A longer NOTE.md is not read; of a shorter one the first line and as much of the rest is taken as a note holds.
MAX_NOTE_BYTES = 64 * 1024
#: Of what it prints, the end is kept for the log.
MAX_OUTPUT = 4096
END_SECONDS = 5.0
#: What it printed last is read for so long; what it left running may hold its output open for ever.
REST_SECONDS = 1.0

#: The command line that runs another one without some folders.
Hide = Callable[[Sequence[str]], Sequence[str]]
#: Makes an empty folder, and removes what it can of it in the end, whatever was done in there.
Workspace = Callable[[], AbstractAsyncContextManager[Path]]


class Command:
    """``command`` is given to the shell; ``hide`` wraps it. It runs in a ``workspace`` of its own each time."""

    name = "command"

    def __init__(self, command: str, hide: Hide, workspace: Workspace, seconds: float = SECONDS) -> None:
        self._command = command
        self._hide = hide
        self._workspace = workspace
        self._seconds = seconds
        self._failed = 0
        self._proposed: set[bytes] = set()

    async def propose(self, context: Context) -> Edit | None:
        """None where the command can't be run, fails, takes too long, or leaves an asset that is no new one."""
        asset, said = None, b""
        try:
            async with self._workspace() as worktree:
                await trio.to_thread.run_sync(lay_out, worktree, context)
                why = await self._run(worktree)
                asset = None if why else _read(worktree / context.asset_name, MAX_ASSET_BYTES)
                said = _read(worktree / "NOTE.md", MAX_NOTE_BYTES) or b""
        except OSError as error:  # a full disk, too many processes, too long a command line
            why = f"it can't be run: {one_line(str(error), MAX_SUMMARY)}"
        first, _, rest = said.strip().partition(b"\n")
        if not why:
            if learnt := rest.strip()[:MAX_TEXT_BYTES].decode("utf-8", "ignore"):
                context.note(learnt, cited(context, learnt))  # also where it leaves no edit
            why = await self._wrong(asset, context)
        if why or asset is None:
            await self._fail(why)
            return None
        self._failed = 0
        self._proposed.add(essence(asset, context.asset_name))
        summary = one_line(first.decode("utf-8", "replace").lstrip("# "), MAX_SUMMARY)
        return Edit(asset, summary or _described(asset, context), "")

    async def _wrong(self, asset: bytes | None, context: Context) -> str:
        """Why an asset can't be run, "" where it can."""
        if asset is None:
            return f"{context.asset_name} is no plain file of at most {MAX_ASSET_BYTES} bytes any more"
        if asset == context.asset:
            return f"it left {context.asset_name} as it was"
        if repeated := await context.repeats(asset):
            return f"this edit is {repeated}, if with other comments"
        known = context.taken(asset) or essence(asset, context.asset_name) in self._proposed
        return "this asset has been an experiment already" if known else ""

    async def _fail(self, why: str) -> None:
        self._failed += 1
        log.warning("no edit by the command: %s", why)
        if self._failed >= FAILURES:
            log.warning("it failed %d times in a row: asked again in %g s", self._failed, PAUSE_SECONDS)
            await trio.sleep(PAUSE_SECONDS)

    async def _run(self, worktree: Path) -> str:
        """Why it failed, "" where it did not."""
        output, code = bytearray(), None
        async with (
            _started(self._hide(["/bin/sh", "-c", self._command]), worktree) as process,
            _printed(process) as printed,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(_keep_end, printed, output)
            with trio.move_on_after(self._seconds) as limit:
                code = await trio.to_thread.run_sync(process.wait, abandon_on_cancel=True)  # type: ignore[call-arg]
            nursery.cancel_scope.deadline = trio.current_time() + REST_SECONDS
        tail = one_line(output.decode("utf-8", "replace"))[-200:]
        log.debug("the command printed: %s", tail)
        if limit.cancelled_caught:
            return f"it took more than {self._seconds:g} seconds"
        said = f": {tail}" if tail else ", and printed nothing"
        hint = "; it runs in a folder of its own: name it by its whole path" if code in NOT_RUN else ""
        return f"it ended with status {code}{said}{hint}" if code else ""


def lay_out(worktree: Path, context: Context) -> None:
    """The files that a command finds."""
    files = {
        **context.fixed,
        "program.md": context.program_text.encode(),
        "results.tsv": table(context).encode(),
        "LEDGER.md": digest(context, LEDGER_TOKENS).encode(),
        context.asset_name: context.asset,
    }
    for name, data in files.items():
        path = worktree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _printed(process: "subprocess.Popen[bytes]") -> trio.lowlevel.FdStream:
    assert process.stdout is not None
    return trio.lowlevel.FdStream(os.dup(process.stdout.fileno()))


async def _keep_end(printed: trio.lowlevel.FdStream, output: bytearray) -> None:
    async for piece in printed:
        output[:] = (output + piece)[-MAX_OUTPUT:]


@contextlib.asynccontextmanager
async def _started(command: Sequence[str], worktree: Path) -> AsyncIterator["subprocess.Popen[bytes]"]:
    """Of its process group nothing is left at the end."""
    process = _popen(command, worktree)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it is gone, or became another user's
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True), trio.move_on_after(END_SECONDS):
            await trio.to_thread.run_sync(process.wait)
        if process.stdout is not None:
            process.stdout.close()


def _popen(command: Sequence[str], worktree: Path) -> "subprocess.Popen[bytes]":
    """In a session of its own; by this thread, since what ends with its parent ends with the parent's thread."""
    return subprocess.Popen(
        command, cwd=worktree, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip


def _read(path: Path, most: int) -> bytes | None:
    """A plain file's bytes, None for anything else: the command may have put a link there."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        return None
    with open(opened, "rb") as file:
        data = file.read(most + 1)
    return data if len(data) <= most else None


def _described(asset: bytes, context: Context) -> str:
    added, removed = count_lines(make_diff(context.asset, asset, context.asset_name))
    return f"an edit by a command: {added} lines added, {removed} removed"

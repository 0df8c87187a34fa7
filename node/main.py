"""The process of a node: a uvloop loop that serves HTTP, and trio on it as a guest that does all the rest.

Both run on one thread, so that either may call the other's plain functions; the one exception is cancelling,
which has to go through trio's own token. The first SIGINT or SIGTERM ends the work in good order, a second
one ends the process at once.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import trio
import uvicorn
import uvloop
from starlette.types import ASGIApp

from protocol.errors import UserError

log = logging.getLogger(__name__)

#: EX_SOFTWARE of sysexits.h: a bug of ours.
CRASHED = 70
INTERRUPTED = 130
#: Transport, running experiment and HTTP end within two or three seconds each; more means that one hangs.
STOP_SECONDS = 10.0
#: For requests that are being answered at the end.
HTTP_END_SECONDS = 1
#: Prometheus, a page and some scripts; more at once is not what this is for.
HTTP_CONNECTIONS = 100
SHOW_CURSOR = "\x1b[?25h"

#: Begins to serve an application; called once at most.
Serve = Callable[[ASGIApp], None]
Work = Callable[[Serve], Awaitable[None]]
Soon = Callable[[Callable[[], None]], None]


def run(work: Work, listener: socket.socket) -> int:
    """Do ``work`` on trio until it ends or the user wants it to; HTTP is served on ``listener``, which is
    bound. The exit status; raises UserError for what the user must change.
    """
    try:
        uvloop.run(_Process(work, listener).run())
    except BaseException as error:
        if (line := user_error(error)) is not None:
            raise line from None
        if not isinstance(error, Exception):
            raise
        log.critical("this is a bug of waggledance: please report it with what follows", exc_info=error)
        return CRASHED
    return 0


def user_error(error: BaseException) -> UserError | None:
    """What the user must change, where nothing else went wrong: the first UserError of a group that has no other."""
    if isinstance(error, BaseExceptionGroup):
        found = [user_error(one) for one in error.exceptions]
        return found[0] if all(found) else None
    return error if isinstance(error, UserError) else None


class _Process:
    def __init__(self, work: Work, listener: socket.socket) -> None:
        self._work = work
        self._listener = listener
        self._scope = trio.CancelScope()
        self._token: trio.lowlevel.TrioToken | None = None
        self._stopping = False
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Raises what the work or the HTTP server raised."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled)
        ended: asyncio.Future[Any] = loop.create_future()
        trio.lowlevel.start_guest_run(
            self._guest,
            run_sync_soon_threadsafe=cast(Soon, loop.call_soon_threadsafe),
            run_sync_soon_not_threadsafe=cast(Soon, loop.call_soon),
            host_uses_signal_set_wakeup_fd=True,
            restrict_keyboard_interrupt_to_checkpoints=True,
            done_callback=ended.set_result,
        )
        outcome = await ended
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await self._serving
        outcome.unwrap()

    async def _guest(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            await self._work(self._serve)

    def _serve(self, app: ASGIApp) -> None:
        config = uvicorn.Config(
            app, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False,
            limit_concurrency=HTTP_CONNECTIONS, timeout_graceful_shutdown=HTTP_END_SECONDS,
        )  # fmt: skip
        self._server = _Server(config)
        serving = self._server.serve(sockets=[self._listener])
        self._serving = asyncio.get_running_loop().create_task(serving)
        self._serving.add_done_callback(lambda _: self._stop())

    def _signalled(self) -> None:
        if self._stopping:
            _end_now("interrupted", INTERRUPTED)
        log.info("stopping; once more ends it at once")
        self._stop()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        late = f"did not end within {STOP_SECONDS:g} seconds"
        asyncio.get_running_loop().call_later(STOP_SECONDS, _end_now, late, CRASHED)
        if self._token is None:
            self._scope.cancel()
            return
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._scope.cancel)


class _Server(uvicorn.Server):
    """Signals are the process's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _end_now(why: str, status: int) -> None:
    """Children die with us: each is on a leash (``trainer.spawn``)."""
    cursor = SHOW_CURSOR if sys.stdout.isatty() else ""
    try:
        print(f"{cursor}waggle: {why}", file=sys.stderr, flush=True)
    finally:  # also where nobody reads it any more
        os._exit(status)

"""The process: uvloop, trio on it, HTTP and signals, as a user's shell sees them."""

import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAD = """
import logging, socket, sys
import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from node import main
from protocol.errors import UserError

logging.basicConfig(level=logging.INFO, format="%(message)s")
app = Starlette(routes=[Route("/", lambda request: PlainTextResponse("hello"))])
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
"""
FOOT = """
try:
    sys.exit(main.run(work, listener))
except UserError as error:
    print("one line:", error)
    sys.exit(2)
"""
SERVE = """
async def work(serve):
    serve(app)
    try:
        await trio.sleep_forever()
    finally:
        print("cleaned up", flush=True)
"""
STUBBORN = """
async def work(serve):
    serve(app)
    with trio.CancelScope(shield=True):
        await trio.sleep_forever()
"""
SECONDS = 30.0


def started(work: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + work + FOOT], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def served(process: "subprocess.Popen[str]") -> bytes:
    """What HTTP answers: the listener is bound before the server runs, so this waits for it."""
    assert process.stdout is not None
    port = process.stdout.readline().strip()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=SECONDS) as answer:
        data = answer.read()
    assert isinstance(data, bytes)
    return data


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_good_order(number: signal.Signals) -> None:
    with started(SERVE) as process:
        assert served(process) == b"hello"
        process.send_signal(number)
        out, _ = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert "cleaned up" in out


def test_a_second_signal_ends_it_at_once() -> None:
    with started(STUBBORN) as process:
        assert served(process) == b"hello"
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert any("once more ends it at once" in line for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "waggle: interrupted" in said


@pytest.mark.slow  # as long as a node is given to end
def test_what_hangs_is_ended_though_nobody_listens() -> None:
    """As where the terminal was closed."""
    with started(STUBBORN) as process:
        assert served(process) == b"hello"
        process.send_signal(signal.SIGTERM)
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()
        assert process.wait(SECONDS) == 70


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("return", 0, ""),
        ("raise UserError('mend it')", 2, "one line: mend it"),
        ("raise ExceptionGroup('', [UserError('mend it')])", 2, "one line: mend it"),
        ("raise ExceptionGroup('', [UserError('mend it'), ZeroDivisionError('ours')])", 70, "ZeroDivisionError: ours"),
        ("raise ZeroDivisionError('ours')", 70, "this is a bug of waggledance"),
        ("raise ExceptionGroup('', [ZeroDivisionError('ours'), ValueError()])", 70, "ZeroDivisionError: ours"),
    ],
)
def test_how_it_ends(body: str, status: int, said: str) -> None:
    with started(f"async def work(serve):\n    serve(app)\n    {body}\n") as process:
        out, error = process.communicate(timeout=SECONDS)
    assert process.returncode == status, error
    assert said in out + error
    assert ("Traceback" in error) == (status == 70)

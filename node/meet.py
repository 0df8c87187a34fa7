"""The first words with peers that the user named: are they there, are they of our swarm, what do they work on."""

import json
import logging
import re
import sys
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from ipaddress import ip_address
from urllib.parse import urlsplit

import trio

from gossip.hello import Hello, fetch_program, hello
from gossip.transport import ConnectError, Transport
from protocol.errors import RemoteProtocolError, UserError
from protocol.manifest import swarm_id
from trainer.program import Program, parse_program

log = logging.getLogger(__name__)

#: Of a long list of bootstrap addresses; the rest is dialed when it is needed.
MOST_ASKED = 16
#: For a node's page; one that works answers in milliseconds.
PAGE_SECONDS = 10.0
#: Of its status: some hundred times what one says.
MAX_PAGE_BYTES = 1 << 20
#: Of a node's own addresses; the host before it is kept by which the page was reached.
_TCP = re.compile(r"/.+(/tcp/[0-9]+/p2p/[0-9A-Za-z]+)")
#: Enough of a hash to be told apart by eye.
SHORT = 12


def multiaddr(address: str) -> str:
    """What to dial: where the user gave a node's page, http://HOST:PORT, that node is asked for its own address, and
    the host is kept by which it was reached. Raises UserError.
    """
    if not address.startswith("http://"):
        return address
    try:
        host = urlsplit(address).hostname or ""
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/status", timeout=PAGE_SECONDS) as answer:
            told = [str(one) for one in json.loads(answer.read(MAX_PAGE_BYTES))["addresses"]]
    except (OSError, HTTPException, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{address}: no node answers there: {error}") from None
    for one in told:
        if found := _TCP.fullmatch(one):
            return f"/{_kind(host)}/{host}{found[1]}"
    raise UserError(f"{address}: that node only dials out; ask for the address of one that listens")


def dialable(addresses: Sequence[str], *, new: bool) -> dict[str, str]:
    """What to dial for each address that was given. A page that does not answer is left out with a warning where the
    home is not ``new``: it has peers of its own. Raises UserError.
    """
    found = {}
    for address in addresses:
        try:
            found[address] = multiaddr(address)
        except UserError as error:
            if new:
                raise
            log.warning("%s", error)
    return found


def _kind(host: str) -> str:
    try:
        return f"ip{ip_address(host).version}"
    except ValueError:
        return "dns4"


async def meet(transport: Transport, addresses: Sequence[str], program: Program, *, new: bool) -> None:
    """Connect to each, all at a time, and see that it works on ``program``.

    One that can't be reached is a warning where another was, or where the home is not ``new``: remembered
    peers are tried too. Raises UserError.
    """
    answers: dict[str, Hello | UserError] = {}

    async def ask(address: str) -> None:
        try:
            answers[address] = await _ask(transport, address)
        except UserError as error:
            answers[address] = error

    async with trio.open_nursery() as nursery:
        for address in addresses[:MOST_ASKED]:
            nursery.start_soon(ask, address)
    for address, said in answers.items():
        if isinstance(said, Hello) and said.swarm_id != program.swarm_id:
            raise UserError(
                f"{address} is in another swarm: it works on {said.name}, swarm {_short(said.swarm_id)}, this"
                f" node on {program.spec.name}, swarm {_short(program.swarm_id)}"
            )
    failed = [said for said in answers.values() if isinstance(said, UserError)]
    if failed and new and len(failed) == len(answers):
        raise failed[0]
    for one in failed:
        log.warning("%s; it will be tried again", one)


async def fetch(transport: Transport, address: str, *, expect: str | None, held: bytes | None) -> tuple[Program, Hello]:
    """The program that the peer at ``address`` works on, checked against its hash.

    ``expect`` is how that must begin, ``held`` the swarm that this home belongs to. Raises UserError.
    """
    said = await _ask(transport, address)
    found = said.swarm_id.hex()
    if expect is not None and not found.startswith(expect):
        raise UserError(f"{address} works on {said.name} with hash {found}, which does not begin with {expect}")
    if held is not None and held != said.swarm_id:
        raise UserError(
            f"this home belongs to swarm {_short(held)}, {address} to {_short(said.swarm_id)} ({said.name}):"
            " give another --home"
        )
    peer = await transport.connect(address)
    try:
        files = await fetch_program(transport, peer, said.swarm_id)
    except RemoteProtocolError as error:
        raise UserError(f"{address} did not give its program: {error}") from error
    assert swarm_id(files) == said.swarm_id
    return parse_program(files), said


async def consent(program: Program, founder: str | None) -> None:
    """Ask for a yes to a program that is not built in. Raises UserError where there is none."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UserError(
            f"program {program.spec.name} ({program.swarm_id.hex()}) is not built in, and there is nobody to ask:"
            " give --yes, or --program-hash with its hash"
        )
    question = f"Its code will run here, in a sandbox. Work on {program.spec.name} of {founder or 'nobody'}? [y/N] "
    answer = await trio.to_thread.run_sync(_answer, question, abandon_on_cancel=True)  # type: ignore[call-arg]  # old stubs
    if answer.strip().lower() not in ("y", "yes"):
        raise UserError("not joined")


async def _ask(transport: Transport, address: str) -> Hello:
    peer = await transport.connect(address)
    try:
        return await hello(transport, peer)
    except RemoteProtocolError as error:
        raise ConnectError(f"{address} does not answer as a node of waggledance: {error}") from error


def _answer(question: str) -> str:
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline()


def _short(swarm: bytes) -> str:
    return swarm.hex()[:SHORT]

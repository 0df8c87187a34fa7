"""``waggle start`` and ``waggle join``: a node from its home, its options and the machine at hand."""

import logging
import os
import shlex
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import trio
from rich.console import Console

from gossip.dialing import parse_listen
from gossip.gate import Door
from gossip.lan import find_neighbours
from gossip.libp2p_transport import open_transport
from gossip.private import read_key
from gossip.transport import ConnectError, Transport
from node import display, logs, main
from node.agents import open_proposer, remembered
from node.archive import held_program
from node.config import DEFAULT_LISTEN, Http, Join, Start
from node.home import Home
from node.http import create_app
from node.journal import Journal
from node.lineage import GitLineage
from node.meet import consent, dialable, fetch, meet
from node.metrics import Metrics
from node.node import Node
from node.parts import Options, Parts
from node.report import write_report
from node.summary import summarize
from node.targets import address_to_tell
from node.version import version
from node.workbench import Workbench, open_workbench
from protocol import codec
from protocol.errors import UserError
from protocol.identity import Identity
from protocol.manifest import pack
from trainer.program import DATA_FOLDER, TEXT_FOLDER, Program, load_program

log = logging.getLogger(__name__)

DEFAULT_PROGRAM = "lm"
#: Any port that is free.
ANY_PORT = "0"


def start(command: Start) -> int:
    """Run a node until it is told to end. Raises UserError."""
    return _run(command, None)


def join(command: Join) -> int:
    """Run a node on the program of a peer until it is told to end. Raises UserError."""
    return _run(command.start, command)


def _run(options: Start, joining: Join | None) -> int:
    home, console = Home(options.home), Console()
    live = console.is_terminal and options.verbosity >= 0
    _set_up_logs(options, console if live else None, live=False)
    home.create()
    with home.locked(), closing(Journal(home.journal)) as journal, _listener(options, journal) as listener:
        dials = dialable(options.join, new=journal.swarm_id is None)
        options = replace(options, join=tuple(dials.values()))
        if joining is not None:
            joining = replace(joining, start=options, address=dials.get(joining.address, ""))
        session = _Session(options, joining, home, journal, console if live else None, listener)
        return main.run(session.work, listener)


def _set_up_logs(options: Start, console: Console | None, *, live: bool) -> None:
    """Beside the ``live`` picture, which shows what goes on, only what needs attention is told in lines."""
    if console is None:
        logs.set_up(options.verbosity)
    else:
        verbosity = min(options.verbosity - 1, 0) if live else options.verbosity
        logs.set_up(verbosity, lambda line: console.print(line, markup=False, highlight=False))


class _Session:
    """One life of a node, from nothing to its end."""

    def __init__(
        self, options: Start, joining: Join | None, home: Home, journal: Journal, console: Console | None,
        listener: socket.socket,
    ) -> None:  # fmt: skip
        self._options = options
        self._joining = joining
        self._home = home
        self._journal = journal
        self._console = console
        host, port = listener.getsockname()[:2]
        self._bound = Http(host, port, True)
        self._http = f"http://{self._bound}"
        self._metrics = Metrics()
        self._key_file = _key_file(options, journal)
        self._allowed = _allowed(options, journal)
        self._mdns = _mdns(options, journal)
        self._metrics_public = _metrics_public(options, journal)
        self._agent = remembered(options.agent, journal)
        self._new = journal.swarm_id is None

    async def work(self, serve: main.Serve) -> None:
        """Until the work is done and it is to end then, or it is cancelled. Raises UserError."""
        program = None if self._joining else _choose_program(self._options, self._journal)
        identity, listen = self._home.identity(), _listen(self._options, self._journal)
        key = None if self._key_file is None else read_key(self._key_file)
        door = Door(self._allowed, self._metrics.rejected)
        announce = _announced(self._options, self._journal)
        async with open_transport(identity, listen, announce, key=key, door=door) as transport:
            if program is None:
                program = await self._fetch(transport)
            else:
                await meet(transport, self._options.join, program, new=self._new)
            _stay_private(self._journal, self._key_file, self._allowed)
            self._journal.bind(program.swarm_id, pack(program.files))
            bench = await open_workbench(
                program, cache=self._options.cache, scratch=self._home.scratch, device=self._options.device,
                unsafe=self._options.unsafe, own=program.builtin or not self._foreign, lanes=self._options.lanes,
            )  # fmt: skip
            self._remember(bench, listen, announce, transport)
            await self._live(program, identity, bench, transport, serve)

    @property
    def _foreign(self) -> bool:
        """Whether the program came from a peer."""
        return self._journal.meta("source") == b"peer"

    async def _fetch(self, transport: Transport) -> Program:
        """The program of the peer; where it can't be reached, the home's own, whose other peers are tried."""
        assert self._joining is not None
        address, expect = self._joining.address, self._joining.program_hash
        try:
            if not address:
                raise ConnectError(f"no address of a peer is known now but those that {self._home.path} remembers")
            program, said = await fetch(transport, address, expect=expect, held=self._journal.swarm_id)
        except ConnectError as error:
            if self._new or not _held_as_expected(self._journal, expect):
                raise
            log.warning("%s; this home goes on with its own program", error)
            return _choose_program(self._options, self._journal)
        _say(f"program {program.spec.name}, hash {program.swarm_id.hex()}, founder {said.founder or 'none'}")
        if self._new and not program.builtin:
            if not (self._joining.yes or expect is not None):
                await consent(program, said.founder)
            self._journal.set_meta("source", b"peer")
        rest = [one for one in self._options.join if one != address]
        await meet(transport, rest, program, new=False)
        return program

    def _remember(
        self, bench: Workbench, listen: tuple[str, ...], announce: tuple[str, ...], transport: Transport
    ) -> None:
        """What a plain start on this home takes up again, and what looking at it needs."""
        self._journal.set_meta("tier", bench.trainer.device.tier.encode())
        self._journal.set_meta("listen", codec.encode([_with_port(one, transport) for one in listen]))
        self._journal.set_meta("mdns", codec.encode(self._mdns))
        self._journal.set_meta("metrics_public", codec.encode(self._metrics_public))
        self._journal.set_meta("announce", codec.encode(list(announce)))
        if self._options.http.given:
            self._journal.set_meta("http", codec.encode([self._options.http.host, self._options.http.port]))

    async def _live(
        self, program: Program, identity: Identity, bench: Workbench, transport: Transport, serve: main.Serve
    ) -> None:
        proposer = open_proposer(
            self._agent, self._journal, folder=self._home.thinking,
            hidden=[self._options.cache, self._home.path, *_texts(self._options, self._journal)],
            meter=self._metrics.tokens,
        )  # fmt: skip
        with closing(GitLineage(self._home.lineage, program.commits)) as lineage:
            parts = Parts(
                program=program, identity=identity, journal=self._journal, lineage=lineage, trainer=bench.trainer,
                proposer=proposer, transport=transport, meters=self._metrics, clock_ms=_now_ms,
            )  # fmt: skip
            node = Node(parts, self._node_options(bench))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bench.trainer.keep_warm)
                await nursery.start(node.run)
                serve(create_app(node, self._metrics, self._bound.host, self._home.new_token()))
                self._announce(program, transport)
                if self._console is not None:
                    _set_up_logs(self._options, self._console, live=True)
                    nursery.start_soon(display.show, self._console, node.snapshot)
                if self._mdns:
                    nursery.start_soon(find_neighbours, program.swarm_id, transport.addresses(), node.swarm.hint)
                nursery.start_soon(self._finish, node, program, nursery.cancel_scope)

    async def _finish(self, node: Node, program: Program, scope: trio.CancelScope) -> None:
        """Report when the node has done enough; it serves its peers further, or ends where the user wants that."""
        await node.finished.wait()
        spec, rows, seen = program.spec, node.rows(), node.snapshot()
        summary = summarize(seen, node.ledger, rows)
        write = partial(
            write_report, rows, self._home.report, metric_name=spec.metric_name, goal=spec.goal, unit=spec.unit,
            program=spec.name, summary=summary,
        )  # fmt: skip
        _say(f"done:      {seen.stopped}")
        try:
            await trio.to_thread.run_sync(write, abandon_on_cancel=True)  # type: ignore[call-arg]
            _say(f"report:    {self._home.report}")
        except UserError as error:
            log.warning("no report: %s", error)
        if self._options.exit_when_done:
            scope.cancel()

    def _node_options(self, bench: Workbench) -> Options:
        return Options(
            seed=self._options.seed, version=version(), sandbox=bench.sandbox, foreign=bench.foreign,
            max_experiments=self._options.max_experiments, lanes=bench.trainer.count,
            http=self._http, bootstrap=self._options.join,
            metrics_address=address_to_tell(self._bound.host, self._bound.port, public=self._metrics_public),
        )  # fmt: skip

    def _announce(self, program: Program, transport: Transport) -> None:
        addresses = list(transport.addresses())
        self._home.announce(
            {
                "pid": os.getpid(), "http": self._http, "peer_id": transport.peer_id, "addresses": addresses,
                "swarm_id": program.swarm_id.hex(),
            }
        )  # fmt: skip
        swarm = program.swarm_id.hex()[:12]
        _say(f"waggledance {version()}: {program.spec.name}, swarm {swarm}, home {self._home.path}")
        private = f" --swarm-key {shlex.quote(str(self._key_file))}" if self._key_file else ""
        for address in addresses:
            _say(f"join with: waggle join {address}{private}")
        if self._allowed:
            _say(f"lets in:   {', '.join(self._allowed)}")
        _say(f"http:      {self._http}")
        if self._journal.meta("paused"):
            _say("paused:    no new experiment begins until waggle resume")


# what is taken up where the user said nothing


def _choose_program(options: Start, journal: Journal) -> Program:
    """The one that was named, else the home's, else the default."""
    held = held_program(journal)
    if options.program is None:
        return held or load_program(DEFAULT_PROGRAM)
    program = load_program(options.program)
    if held is not None and held.swarm_id != program.swarm_id:
        raise UserError(
            f"{options.home} works on {held.spec.name}, swarm {held.swarm_id.hex()[:12]}; {options.program} makes swarm"
            f" {program.swarm_id.hex()[:12]}: give another --home"
        )
    return program


def _texts(options: Start, journal: Journal) -> list[Path]:
    """Where a program that the user named as a folder keeps its texts and data, now and after a plain start."""
    if options.program is not None and Path(options.program).is_dir():
        journal.set_meta("folder", os.fsencode(Path(options.program).resolve()))
    saved = journal.meta("folder")
    return [Path(os.fsdecode(saved)) / name for name in (TEXT_FOLDER, DATA_FOLDER)] if saved else []


def _held_as_expected(journal: Journal, expect: str | None) -> bool:
    return (journal.swarm_id or b"").hex().startswith(expect or "")


def _listen(options: Start, journal: Journal) -> tuple[str, ...]:
    """Where the user said; else where it was before or by default, on another port where that one is taken."""
    if options.listen is not None:
        return options.listen
    saved = journal.meta("listen")
    wanted = [DEFAULT_LISTEN] if saved is None else codec.decode(saved)
    return tuple(_free(str(address)) for address in wanted)


def _announced(options: Start, journal: Journal) -> tuple[str, ...]:
    """What the user said, else what was announced before."""
    saved = journal.meta("announce")
    if options.announce is not None or saved is None:
        return options.announce or ()
    return tuple(str(address) for address in codec.decode(saved))


def _mdns(options: Start, journal: Journal) -> bool:
    saved = journal.meta("mdns")
    if options.mdns is not None or saved is None:
        return options.mdns is not False
    return bool(codec.decode(saved))


def _metrics_public(options: Start, journal: Journal) -> bool:
    saved = journal.meta("metrics_public")
    if options.metrics_public is None:
        return saved is not None and bool(codec.decode(saved))
    return options.metrics_public


def _key_file(options: Start, journal: Journal) -> Path | None:
    """The one that was named, else that of before. Its path is kept, never the key."""
    saved = journal.meta("swarm_key")
    if options.public or options.swarm_key is not None or not saved:
        return options.swarm_key
    return Path(os.fsdecode(saved))


def _allowed(options: Start, journal: Journal) -> tuple[str, ...]:
    """Who the user said, else who before; anybody where that is empty."""
    if options.allow is not None:
        return options.allow
    saved = journal.meta("allow")
    return () if saved is None else tuple(str(peer) for peer in codec.decode(saved))


def _stay_private(journal: Journal, key_file: Path | None, allowed: tuple[str, ...]) -> None:
    """Remember who may come in, before the swarm itself: a plain start after a crash must not open the door."""
    journal.set_meta("swarm_key", os.fsencode(key_file or ""))
    journal.set_meta("allow", codec.encode(list(allowed)))


def _free(address: str) -> str:
    try:
        parse_listen(address)
    except UserError as error:
        log.info("%s; another port is taken", error)
        return _replace_port(address, ANY_PORT)
    return address


def _with_port(address: str, transport: Transport) -> str:
    """``address`` with the port that was taken where it asked for any."""
    taken = transport.addresses()
    if not address.endswith("/tcp/0") or not taken:
        return address
    return _replace_port(address, taken[0].split("/tcp/")[1].split("/")[0])


def _replace_port(address: str, port: str) -> str:
    return f"{address.rpartition('/')[0]}/{port}"


@contextmanager
def _listener(options: Start, journal: Journal) -> Iterator[socket.socket]:
    """A socket for HTTP: as the user said; else as before or by default, on another port where that is taken."""
    saved = journal.meta("http")
    http = options.http
    if not http.given and saved is not None:
        host, port = codec.decode(saved)
        http = replace(http, host=host, port=port)
    try:
        listener = _bind(http)
    except OSError as error:
        if http.given:
            raise UserError(f"cannot serve HTTP at {http}: {_why(error)}; give another --http HOST:PORT") from None
        listener = _bind(replace(http, port=0))
    with listener:
        yield listener


def _bind(http: Http) -> socket.socket:
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    return socket.create_server((http.host, http.port), family=family)


def _why(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno and error.errno > 0 else str(error)


def _say(line: str) -> None:
    """To whoever started the node, at once, also through a pipe."""
    print(logs.clean(line), flush=True)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000



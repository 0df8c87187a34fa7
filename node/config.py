"""What the user asked for: one frozen value for each command, from the arguments and the environment.

The environment is read here, once, and nowhere else:

    WAGGLE_HOME    the node's folder; default $XDG_DATA_HOME/waggledance, ~/.local/share/waggledance
    WAGGLE_CACHE   prepared data, shared by all homes; default $XDG_CACHE_HOME/waggledance, ~/.cache/waggledance
"""

import argparse
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from node.version import version
from protocol.errors import RemoteProtocolError, UserError
from protocol.identity import public_key_of

#: Taken by a node that was not told where to listen, and has not listened anywhere before.
DEFAULT_LISTEN = "/ip4/0.0.0.0/tcp/4001"
#: For this machine only: whoever wants it elsewhere says so.
DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT = "127.0.0.1", 8420
AGENTS = ("local",)
DEVICES = ("cpu", "cuda", "mps")
#: What ``waggle log`` shows unless told otherwise.
LOG_ROWS = 20
MAX_PORT = 65535


@dataclass(frozen=True)
class Http:
    """Where HTTP is served. ``given`` is whether the user said so: then no other port will do."""

    host: str
    port: int
    given: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Start:
    """Run a node. ``listen`` None is where it listened before, or the default; empty is nowhere.

    ``swarm_key`` None is the file of before, if there was one and the swarm is not to be ``public``; ``allow``
    None is whom it let in before, empty is anybody.
    ``lanes`` None is as many as the machine has room for.
    ``verbosity`` is -1 for warnings alone, 0, or 1 for what is of interest to who looks for an error.
    """

    home: Path
    cache: Path
    program: str | None = None
    listen: tuple[str, ...] | None = None
    join: tuple[str, ...] = ()
    http: Http = Http(DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT, False)
    agent: str = "local"
    seed: int = 0
    max_experiments: int | None = None
    lanes: int | None = 1
    exit_when_done: bool = False
    unsafe: bool = False
    device: str | None = None
    verbosity: int = 0
    swarm_key: Path | None = None
    public: bool = False
    allow: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Join:
    """Fetch the program from ``address``, then run a node. ``program_hash`` is the start of a swarm id."""

    start: Start
    address: str
    yes: bool = False
    program_hash: str | None = None


@dataclass(frozen=True)
class Look:
    """``status``, ``log`` and ``best`` of a home."""

    what: str
    home: Path
    json: bool = False
    limit: int | None = LOG_ROWS
    diff: bool = False
    show: bool = False
    tier: str | None = None


@dataclass(frozen=True)
class Report:
    home: Path
    out: Path


@dataclass(frozen=True)
class Run:
    """One experiment by hand."""

    home: Path
    cache: Path
    program: str | None = None
    asset: Path | None = None
    json: bool = False
    seed: int | None = None
    unsafe: bool = False
    device: str | None = None


@dataclass(frozen=True)
class ProgramNew:
    folder: Path
    base: str
    text: Path | None


@dataclass(frozen=True)
class ProgramCheck:
    program: str


@dataclass(frozen=True)
class ProgramData:
    """Fetch and prepare a program's data now rather than at the first start."""

    program: str
    cache: Path


@dataclass(frozen=True)
class SwarmKeyNew:
    file: Path


@dataclass(frozen=True)
class Doctor:
    """What of this machine a node can use."""

    json: bool = False
    device: str | None = None


Command = Start | Join | Look | Report | Run | ProgramNew | ProgramCheck | ProgramData | SwarmKeyNew | Doctor


def parse(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Command:
    """Raises UserError for arguments that are not understood; exits after ``--help`` and ``--version``."""
    values = vars(_parser(environment).parse_args(argv))
    make: Callable[[dict[str, Any]], Command] = values.pop("make")
    return make(values)


def default_home(environment: Mapping[str, str]) -> Path:
    return _folder(environment, "WAGGLE_HOME", "XDG_DATA_HOME", ".local/share")


def default_cache(environment: Mapping[str, str]) -> Path:
    return _folder(environment, "WAGGLE_CACHE", "XDG_CACHE_HOME", ".cache")


def _folder(environment: Mapping[str, str], own: str, base: str, below_home: str) -> Path:
    """https://specifications.freedesktop.org/basedir-spec/latest/"""
    if given := environment.get(own):
        return Path(given).absolute()
    above = environment.get(base, "")
    return Path(above if above.startswith("/") else Path.home() / below_home) / "waggledance"


# from arguments to values


def _start(values: dict[str, Any]) -> Start:
    values["listen"] = () if values.pop("no_listen") else _some(values["listen"])
    values["join"] = tuple(values["join"] or ())
    values["public"] = values.pop("no_swarm_key")
    values["allow"] = () if values.pop("allow_all") else _some(values["allow"])
    values["verbosity"] = values.pop("verbose") - values.pop("quiet")
    return Start(**values)


def _join(values: dict[str, Any]) -> Join:
    address = values.pop("address")
    own = {name: values.pop(name) for name in ("yes", "program_hash")}
    values["join"] = [address, *(values["join"] or ())]
    return Join(_start({**values, "program": None}), address, **own)


def _log(values: dict[str, Any]) -> Look:
    values["limit"] = None if values.pop("all") else values["limit"]
    return Look("log", **values)


def _some(given: Sequence[str] | None) -> tuple[str, ...] | None:
    return tuple(given) if given else None


# the grammar


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def _parser(environment: Mapping[str, str]) -> _Parser:
    parser = _Parser(
        prog="waggle", description="Autonomous research, shared: a node of a peer-to-peer swarm.",
        epilog="The home is --home, $WAGGLE_HOME or " + str(default_home({})) + ".",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"waggle {version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    home = _home(environment)
    cache = default_cache(environment)
    _add_node(commands, home, cache)
    _add_looks(commands, home)
    _add_run(commands, home, cache)
    _add_program(commands, cache)
    _add_swarm_key(commands)
    doctor = commands.add_parser("doctor", help="try what this machine has, and say what to install")
    _add_json(doctor)
    doctor.add_argument("--device", choices=DEVICES, help="default: the best there is")
    doctor.set_defaults(make=lambda values: Doctor(**values))
    return parser


def _add_node(commands: Any, home: argparse.ArgumentParser, cache: Path) -> None:
    options = _node_options()
    start = commands.add_parser(
        "start", parents=[home, options], help="run a node, or go on with what a home was doing"
    )
    start.add_argument(
        "--program", metavar="NAME|DIR", help="a built-in program or a folder (default: the home's, else lm)"
    )
    start.set_defaults(make=_start, cache=cache)
    join = commands.add_parser(
        "join", parents=[home, options], help="fetch the program of a peer, and work with it"
    )
    join.add_argument("address", metavar="ADDR", help="as the peer prints it: /ip4/…/tcp/…/p2p/…")
    join.add_argument("--yes", action="store_true", help="take a program that is not built in without asking")
    join.add_argument(
        "--program-hash", metavar="HASH", type=_hash, help="take it if its hash begins like this, and no other"
    )
    join.set_defaults(make=_join, cache=cache)


def _node_options() -> argparse.ArgumentParser:
    options = _Parser(add_help=False)
    add = options.add_argument
    listen = options.add_mutually_exclusive_group()
    listen.add_argument(
        "--listen", metavar="MULTIADDR", action="append",
        help=f"where peers may dial; may be repeated (default: where it did before, else {DEFAULT_LISTEN})",
    )  # fmt: skip
    listen.add_argument("--no-listen", action="store_true", help="only dial out; the node takes full part")
    add("--join", metavar="ADDR", action="append", help="a peer to begin with; may be repeated")
    _add_private(options)
    add(
        "--http", metavar="HOST:PORT", type=_http, default=Start.http,
        help=f"status page, API and metrics (default {Start.http}, or another port where that is taken)",
    )  # fmt: skip
    add("--agent", choices=AGENTS, default="local", help="who thinks of the next edit (default local)")
    add("--seed", metavar="N", type=_natural, default=0, help="of the choices this node makes")
    add("--max-experiments", metavar="N", type=_natural, help="then only serve peers")
    add(
        "--lanes", metavar="N|auto", type=_lanes, default=1,
        help="experiments side by side, each on a GPU or a CPU of its own (default 1)",
    )  # fmt: skip
    add("--exit-when-done", action="store_true", help="end when no more experiments are to be done")
    _add_device(options)
    volume = options.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_const", const=1, default=0, help="say more")
    volume.add_argument("-q", "--quiet", action="store_const", const=1, default=0, help="say warnings only")
    return options


def _add_private(options: argparse.ArgumentParser) -> None:
    key = options.add_mutually_exclusive_group()
    key.add_argument(
        "--swarm-key", metavar="FILE", type=_path,
        help="talk only to nodes that have this key: see waggle swarm-key (default: as before, else none)",
    )  # fmt: skip
    key.add_argument("--no-swarm-key", action="store_true", help="talk to nodes without a key, as this did not before")
    allow = options.add_mutually_exclusive_group()
    allow.add_argument(
        "--allow", metavar="PEER_ID", type=_peer_id, action="append",
        help="let in this peer, and no others; may be repeated (default: as before, else anybody)",
    )  # fmt: skip
    allow.add_argument("--allow-all", action="store_true", help="let in anybody, as this did not before")


def _add_looks(commands: Any, home: argparse.ArgumentParser) -> None:
    status = commands.add_parser("status", parents=[home], help="what a node does and has found")
    _add_json(status)
    status.set_defaults(make=lambda values: Look("status", **values))
    log = commands.add_parser("log", parents=[home], help="experiments of the whole swarm, latest first")
    _add_json(log)
    log.add_argument("-n", "--limit", metavar="N", type=_natural, default=LOG_ROWS, help="so many (default 20)")
    log.add_argument("--all", action="store_true", help="all of them")
    log.set_defaults(make=_log)
    best = commands.add_parser("best", parents=[home], help="the best that is believed")
    form = best.add_mutually_exclusive_group()
    form.add_argument("--diff", action="store_true", help="against the program as its author wrote it")
    form.add_argument("--show", action="store_true", help="the asset itself")
    _add_json(best)
    best.add_argument("--tier", metavar="TIER", help="the incumbent of a tier instead")
    best.set_defaults(make=lambda values: Look("best", **values))
    report = commands.add_parser("report", parents=[home], help="write results.tsv and progress.png")
    report.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="where (default: here)")
    report.set_defaults(make=lambda values: Report(**values))


def _add_run(commands: Any, home: argparse.ArgumentParser, cache: Path) -> None:
    run = commands.add_parser(
        "run", parents=[home], help="one experiment by hand, as the loop would run it",
        epilog="Exit status: 0 it was scored, 3 the candidate failed, 2 it could not be run.",
    )  # fmt: skip
    run.add_argument("--program", metavar="NAME|DIR", help="default: the home's, else lm")
    run.add_argument("--asset", metavar="FILE", type=Path, help="instead of the program's own")
    _add_json(run)
    run.add_argument("--seed", metavar="N", type=_natural, help="default: one that nobody can pick")
    _add_device(run)
    run.set_defaults(make=lambda values: Run(**values), cache=cache)


def _add_program(commands: Any, cache: Path) -> None:
    program = commands.add_parser("program", help="make and check research programs")
    actions = program.add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser("new", help="a folder with a program of your own")
    new.add_argument("folder", metavar="DIR", type=Path)
    new.add_argument("--from", dest="base", metavar="NAME|DIR", default="lm", help="a copy of (default lm)")
    new.add_argument("--text", metavar="DIR", type=Path, help="text files to train on, in place of its data")
    new.set_defaults(make=lambda values: ProgramNew(**values))
    check = actions.add_parser("check", help="say what is wrong with a program, without running it")
    check.add_argument("program", metavar="NAME|DIR")
    check.set_defaults(make=lambda values: ProgramCheck(**values))
    data = actions.add_parser("data", help="fetch and prepare its data now")
    data.add_argument("program", metavar="NAME|DIR", nargs="?", default="lm")
    data.set_defaults(make=lambda values: ProgramData(**values), cache=cache)


def _add_swarm_key(commands: Any) -> None:
    key = commands.add_parser("swarm-key", help="make the key of a private swarm")
    actions = key.add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser("new", help="a new key, for all nodes of the swarm and for nobody else")
    new.add_argument("file", metavar="FILE", type=_path)
    new.set_defaults(make=lambda values: SwarmKeyNew(**values))


def _home(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(add_help=False)
    parser.add_argument(
        "--home", metavar="DIR", type=_path, default=default_home(environment),
        help="the node's folder",
    )  # fmt: skip
    return parser


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=DEVICES, help="default: the best there is")
    parser.add_argument(
        "--unsafe-no-sandbox", dest="unsafe", action="store_true",
        help="run peers' code with all that you may do yourself",
    )  # fmt: skip


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for machines")


def _http(text: str) -> Http:
    host, found, port = text.rpartition(":")
    if not found or not host or not port.isdecimal() or int(port) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"expected HOST:PORT, such as {Start.http}, got {text!r}")
    return Http(host.removeprefix("[").removesuffix("]"), int(port), True)


def _path(text: str) -> Path:
    return Path(text).absolute()


def _peer_id(text: str) -> str:
    try:
        public_key_of(text)
    except RemoteProtocolError:
        raise argparse.ArgumentTypeError(f"expected a peer id, such as 12D3KooW…, got {text!r}") from None
    return text


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number from 0 on, got {text!r}")
    return int(text)


def _lanes(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on, or auto, got {text!r}")
    return int(text)


def _hash(text: str) -> str:
    if not re.fullmatch("[0-9a-f]{8,64}", text.lower()):
        raise argparse.ArgumentTypeError("expected 8 to 64 hexadecimal digits")
    return text.lower()

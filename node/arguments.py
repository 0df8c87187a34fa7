"""From the command line and the environment to what the user asked for (config.py).

The environment is read here, once, and nowhere else:

    WAGGLE_HOME       the node's folder; default $XDG_DATA_HOME/waggledance, ~/.local/share/waggledance
    WAGGLE_CACHE      prepared data, shared by all homes; default $XDG_CACHE_HOME/waggledance, ~/.cache/waggledance
    WAGGLE_BOOTSTRAP  addresses to begin with besides those of --join, between blanks or commas
    ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL  for --agent claude
"""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import node.argument_types as types
from agent.budget import Limits
from node.config import (
    DEFAULT_LISTEN,
    DEVICES,
    LOG_ROWS,
    Agent,
    Command,
    Completion,
    Doctor,
    Export,
    Identity,
    Join,
    Look,
    Operate,
    Peers,
    ProgramCheck,
    ProgramData,
    ProgramNew,
    Report,
    Run,
    Start,
    SwarmKeyNew,
    default_cache,
    default_home,
)
from node.version import version
from protocol.errors import UserError

#: Those that shtab writes for.
SHELLS = ("bash", "zsh", "tcsh")
#: Some thousand addresses; more than a node ever dials.
MAX_BOOTSTRAP_LETTERS = 200_000


def parse(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> Command:
    """Raises UserError for arguments that are not understood; exits after ``--help`` and ``--version``."""
    values = vars(_parser(environment).parse_args(argv))
    make: Callable[[dict[str, Any]], Command] = values.pop("make")
    return make(values)


# from arguments to values


def _start(values: dict[str, Any]) -> Start:
    environment = values.pop("environment")
    values["listen"] = () if values.pop("no_listen") else _some(values["listen"])
    values["join"] = (*(values["join"] or ()), *_bootstrap(values.pop("bootstrap"), environment))
    values["agent"] = _thinker(values, environment)
    values["announce"] = () if values.pop("no_announce") else _some(values["announce"])
    values["public"] = values.pop("no_swarm_key")
    values["allow"] = () if values.pop("allow_all") else _some(values["allow"])
    values["verbosity"] = values.pop("verbose") - values.pop("quiet")
    return Start(**values)


def _thinker(values: dict[str, Any], environment: Mapping[str, str]) -> Agent:
    kind, command = values["agent"]
    key, base_url = (environment.get(f"ANTHROPIC_{name}", "").strip() for name in ("API_KEY", "BASE_URL"))
    return Agent(
        kind, command, seconds=values.pop("agent_seconds"),
        sees_data=values.pop("agent_sees_data"), model=values.pop("model"),
        tokens_a_proposal=values.pop("max_tokens_per_proposal"), tokens_an_hour=values.pop("max_tokens_per_hour"),
        tokens=values.pop("max_tokens"), fallback=values.pop("fallback"),
        key=key, base_url=base_url,
    )  # fmt: skip


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


def _bootstrap(file: Path | None, environment: Mapping[str, str]) -> list[str]:
    """Addresses of the file and of the environment. Raises UserError for a file that can't be read."""
    text = environment.get("WAGGLE_BOOTSTRAP", "").replace(",", " ")
    if file is not None:
        try:
            lines = file.read_text("utf-8")[:MAX_BOOTSTRAP_LETTERS].splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise UserError(f"cannot read the bootstrap addresses in {file}: {why}") from None
        text += " " + " ".join(line.partition("#")[0] for line in lines)
    return text.split()


# the grammar


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def grammar() -> argparse.ArgumentParser:
    """The parser itself, for those who tell shells of it."""
    return _parser({})


def _parser(environment: Mapping[str, str]) -> _Parser:
    parser = _Parser(
        prog="waggle", description="Autonomous research, shared: a node of a peer-to-peer swarm.",
        epilog="The home is --home, $WAGGLE_HOME or " + str(default_home({})) + ".",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"waggle {version()}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    home = _home(environment)
    cache = default_cache(environment)
    _add_node(commands, home, cache, environment)
    _add_looks(commands, home)
    _add_operations(commands, home)
    _add_export(commands, home, cache)
    _add_run(commands, home, cache)
    _add_program(commands, cache)
    _add_swarm_key(commands)
    doctor = commands.add_parser("doctor", help="try what this machine has, and say what to install")
    _add_json(doctor)
    doctor.add_argument("--device", choices=DEVICES, help="default: the best there is")
    doctor.set_defaults(make=lambda values: Doctor(**values))
    return parser


def _add_node(
    commands: Any, home: argparse.ArgumentParser, cache: Path, environment: Mapping[str, str]
) -> None:
    options = _node_options()
    given = {"cache": cache, "environment": environment}
    start = commands.add_parser(
        "start", parents=[home, options], help="run a node, or go on with what a home was doing"
    )
    start.add_argument(
        "--program", metavar="NAME|DIR", help="a built-in program or a folder (default: the home's, else lm)"
    )
    start.set_defaults(make=_start, **given)
    join = commands.add_parser(
        "join", parents=[home, options], help="fetch the program of a peer, and work with it"
    )
    join.add_argument(
        "address", metavar="ADDR", help="as the peer prints it: /ip4/…/tcp/…/p2p/…, or its page, http://HOST:8420"
    )
    join.add_argument("--yes", action="store_true", help="take a program that is not built in without asking")
    join.add_argument(
        "--program-hash", metavar="HASH", type=types.hash_prefix,
        help="take it if its hash begins like this, and no other",
    )  # fmt: skip
    join.set_defaults(make=_join, **given)


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
    add(
        "--bootstrap", metavar="FILE", type=types.path,
        help="addresses to begin with, one on a line; see WAGGLE_BOOTSTRAP",
    )  # fmt: skip
    announce = options.add_mutually_exclusive_group()
    announce.add_argument(
        "--announce", metavar="MULTIADDR", action="append",
        help="where others may dial besides, behind a NAT or in a container; may be repeated (default: as before)",
    )  # fmt: skip
    announce.add_argument("--no-announce", action="store_true", help="nowhere besides, as this did before")
    add(
        "--mdns", action=argparse.BooleanOptionalAction, default=None,
        help="find nodes of the swarm on the local network, and be found (default: as before, else yes)",
    )  # fmt: skip
    _add_private(options)
    add(
        "--http", metavar="HOST:PORT", type=types.http_address, default=Start.http,
        help=f"status page, API and metrics (default {Start.http}, or another port where that is taken)",
    )  # fmt: skip
    add(
        "--metrics-public", action=argparse.BooleanOptionalAction, default=None,
        help="tell peers where to scrape this node, where --http serves others too (default: as before, else no)",
    )  # fmt: skip
    _add_agent(options)
    add("--seed", metavar="N", type=types.natural, default=0, help="of the choices this node makes")
    add("--max-experiments", metavar="N", type=types.natural, help="then only serve peers")
    add(
        "--lanes", metavar="N|auto", type=types.lanes, default=1,
        help="experiments side by side, each on a GPU or a CPU of its own (default 1)",
    )  # fmt: skip
    add("--exit-when-done", action="store_true", help="end when no more experiments are to be done")
    _add_device(options)
    volume = options.add_mutually_exclusive_group()
    volume.add_argument("-v", "--verbose", action="store_const", const=1, default=0, help="say more")
    volume.add_argument("-q", "--quiet", action="store_const", const=1, default=0, help="say warnings only")
    return options


def _add_agent(options: argparse.ArgumentParser) -> None:
    agent = options.add_argument_group("who thinks of the next edit")
    add = agent.add_argument
    add(
        "--agent", metavar="AGENT", type=types.agent, default=("", ""),
        help="local, claude (which takes ANTHROPIC_API_KEY and ANTHROPIC_BASE_URL), or 'command: CMD', which edits the"
        " asset in a folder (default: as before, else local)",
    )  # fmt: skip
    add("--model", metavar="MODEL", help="of claude (default: as before, else one that is quick)")
    add("--agent-seconds", metavar="N", type=types.positive, help="that a command may take (default 900)")
    add(
        "--agent-sees-data", action=argparse.BooleanOptionalAction, default=None,
        help="let a command see validation data, where it can't be kept from it (default: as before, else no)",
    )  # fmt: skip
    limit: dict[str, Any] = {"metavar": "N|none", "type": types.limit}
    add("--max-tokens", **limit, help="of claude, in all (default: as before, else none)")
    add("--max-tokens-per-hour", **limit, help="default: as before, else none")
    add("--max-tokens-per-proposal", **limit, help=f"default: as before, else {Limits.proposal}")
    add(
        "--fallback", action=argparse.BooleanOptionalAction, default=None,
        help="search locally while claude can't be had (default: as before, else yes)",
    )  # fmt: skip


def _add_private(options: argparse.ArgumentParser) -> None:
    key = options.add_mutually_exclusive_group()
    key.add_argument(
        "--swarm-key", metavar="FILE", type=types.path,
        help="talk only to nodes that have this key: see waggle swarm-key (default: as before, else none)",
    )  # fmt: skip
    key.add_argument("--no-swarm-key", action="store_true", help="talk to nodes without a key, as this did not before")
    allow = options.add_mutually_exclusive_group()
    allow.add_argument(
        "--allow", metavar="PEER_ID", type=types.peer_id, action="append",
        help="let in this peer, and no others; may be repeated (default: as before, else anybody)",
    )  # fmt: skip
    allow.add_argument("--allow-all", action="store_true", help="let in anybody, as this did not before")


def _add_looks(commands: Any, home: argparse.ArgumentParser) -> None:
    status = commands.add_parser("status", parents=[home], help="what a node does and has found")
    _add_json(status)
    status.add_argument("--watch", dest="follow", action="store_true", help="again as it changes, until Ctrl-C")
    status.set_defaults(make=lambda values: Look("status", **values))
    log = commands.add_parser("log", parents=[home], help="experiments of the whole swarm, latest first")
    _add_json(log)
    log.add_argument("-n", "--limit", metavar="N", type=types.natural, default=LOG_ROWS, help="so many (default 20)")
    log.add_argument("--all", action="store_true", help="all of them")
    log.add_argument("-f", "--follow", action="store_true", help="oldest first, and then what comes, until Ctrl-C")
    log.set_defaults(make=_log)
    best = commands.add_parser("best", parents=[home], help="the best that is believed")
    form = best.add_mutually_exclusive_group()
    form.add_argument("--diff", action="store_true", help="against the program as its author wrote it")
    form.add_argument("--show", action="store_true", help="the asset itself")
    _add_json(best)
    best.add_argument("--tier", metavar="TIER", help="the incumbent of a tier instead")
    best.set_defaults(make=lambda values: Look("best", **values))
    report = commands.add_parser("report", parents=[home], help="write results.tsv, progress.png and a summary")
    report.add_argument("--out", metavar="DIR", type=Path, default=Path(), help="where (default: here)")
    _add_json(report)
    report.set_defaults(make=lambda values: Report(**values))


def _add_operations(commands: Any, home: argparse.ArgumentParser) -> None:
    for what, about in {
        "pause": "begin no new experiment until resume, also after a restart",
        "resume": "go on after pause",
        "veto": "as the program's founder: a commit, and all made from it, shall not be accepted",
        "approve": "as the program's founder: a commit may be accepted",
    }.items():
        command = commands.add_parser(what, parents=[home], help=about)
        if what in ("veto", "approve"):
            command.add_argument("commit", metavar="COMMIT", help="or the letters that it begins with")
        _add_json(command)
        command.set_defaults(make=lambda values, what=what: Operate(what, **values))
    peers = commands.add_parser("peers", parents=[home], help="nodes of the swarm that were heard lately")
    _add_json(peers)
    peers.set_defaults(make=lambda values: Peers(**values))
    identity = commands.add_parser("identity", parents=[home], help="the peer id of a home, made now if it has none")
    _add_json(identity)
    identity.set_defaults(make=lambda values: Identity(**values))
    completion = commands.add_parser("completion", help="what a shell reads to complete commands and options")
    completion.add_argument("shell", choices=SHELLS)
    completion.set_defaults(make=lambda values: Completion(**values))


def _add_export(commands: Any, home: argparse.ArgumentParser, cache: Path) -> None:
    export = commands.add_parser(
        "export", parents=[home], help="the best as a plain folder that needs no waggle, with its lineage as patches"
    )
    export.add_argument("folder", metavar="DIR", type=Path)
    which = export.add_mutually_exclusive_group()
    which.add_argument("--commit", metavar="COMMIT", default="", help="another candidate")
    which.add_argument("--tier", metavar="TIER", help="the incumbent of a tier")
    _add_json(export)
    export.set_defaults(make=lambda values: Export(**values), cache=cache)


def _add_run(commands: Any, home: argparse.ArgumentParser, cache: Path) -> None:
    run = commands.add_parser(
        "run", parents=[home], help="one experiment by hand, as the loop would run it",
        epilog="Exit status: 0 it was scored, 3 the candidate failed, 2 it could not be run.",
    )  # fmt: skip
    run.add_argument("--program", metavar="NAME|DIR", help="default: the home's, else lm")
    run.add_argument("--asset", metavar="FILE", type=Path, help="instead of the program's own")
    _add_json(run)
    run.add_argument("--seed", metavar="N", type=types.natural, help="default: one that nobody can pick")
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
    _add_json(check)
    check.set_defaults(make=lambda values: ProgramCheck(**values))
    data = actions.add_parser("data", help="fetch and prepare its data now")
    data.add_argument("program", metavar="NAME|DIR", nargs="?", default="lm")
    data.set_defaults(make=lambda values: ProgramData(**values), cache=cache)


def _add_swarm_key(commands: Any) -> None:
    key = commands.add_parser("swarm-key", help="make the key of a private swarm")
    actions = key.add_subparsers(metavar="ACTION", required=True)
    new = actions.add_parser("new", help="a new key, for all nodes of the swarm and for nobody else")
    new.add_argument("file", metavar="FILE", type=types.path, help="where the key is to be; nothing is overwritten")
    new.set_defaults(make=lambda values: SwarmKeyNew(**values))


def _home(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(add_help=False)
    parser.add_argument(
        "--home", metavar="DIR", type=types.path, default=default_home(environment),
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

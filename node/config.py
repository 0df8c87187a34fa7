"""What the user asked for: one frozen value for each command; arguments.py makes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.budget import Limits

#: Taken by a node that was not told where to listen, and has not listened anywhere before.
DEFAULT_LISTEN = "/ip4/0.0.0.0/tcp/4001"
#: For this machine only: whoever wants it elsewhere says so.
DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT = "127.0.0.1", 8420
DEVICES = ("cpu", "cuda", "mps")
#: Tokens of a limit that was lifted: more than can be spent, and the most that a home's journal can hold. None is
#: another thing: as before.
NO_LIMIT = (1 << 63) - 1
#: What ``waggle log`` shows unless told otherwise.
LOG_ROWS = 20


@dataclass(frozen=True)
class Http:
    """Where HTTP is served. ``given`` is whether the user said so: then no other port will do."""

    host: str
    port: int
    given: bool

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Agent:
    """Who thinks of the next edit: ``kind`` is local, claude or command, "" for who did before; ``command`` is given
    to the shell, takes ``seconds`` at most, and ``sees_data`` where the user takes that risk.

    Tokens are bounded for one proposal, in an hour and in all; ``fallback`` is whether local search takes over
    where the model can't be had. What is None is as before, or the proposer's default.
    """

    kind: str = ""
    command: str = ""
    seconds: float | None = None
    sees_data: bool | None = None
    model: str | None = None
    tokens_a_proposal: int | None = None
    tokens_an_hour: int | None = None
    tokens: int | None = None
    fallback: bool | None = None
    key: str = field(default="", repr=False)
    base_url: str = ""

    @property
    def falls_back(self) -> bool:
        return self.fallback is not False

    @property
    def limits(self) -> Limits:
        proposal = Limits.proposal if self.tokens_a_proposal is None else self.tokens_a_proposal
        return Limits(proposal, self.tokens_an_hour, self.tokens)


@dataclass(frozen=True)
class Start:
    """Run a node. ``listen`` None is where it listened before, or the default; empty is nowhere.

    ``announce`` are further addresses for others to dial, ``mdns`` whether it finds and is found by nodes on the
    local network; both as before where they are None.
    ``metrics_public`` is whether peers are told where its metrics are served beyond loopback; None is as before.
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
    announce: tuple[str, ...] | None = None
    mdns: bool | None = None
    http: Http = Http(DEFAULT_HTTP_HOST, DEFAULT_HTTP_PORT, False)
    metrics_public: bool | None = None
    agent: Agent = Agent()
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
    """``status``, ``log`` and ``best`` of a home; ``follow`` is to go on with what is new until interrupted."""

    what: str
    home: Path
    json: bool = False
    limit: int | None = LOG_ROWS
    follow: bool = False
    diff: bool = False
    show: bool = False
    tier: str | None = None


@dataclass(frozen=True)
class Operate:
    """``what`` is pause, resume, veto or approve; the latter two of a commit, or of what one begins with."""

    what: str
    home: Path
    commit: str = ""
    json: bool = False


@dataclass(frozen=True)
class Peers:
    home: Path
    json: bool = False


@dataclass(frozen=True)
class Identity:
    home: Path
    json: bool = False


@dataclass(frozen=True)
class Export:
    """The incumbent as a folder; of ``tier``, or another ``commit``."""

    home: Path
    cache: Path
    folder: Path
    commit: str = ""
    tier: str | None = None
    json: bool = False


@dataclass(frozen=True)
class Completion:
    shell: str


@dataclass(frozen=True)
class Report:
    home: Path
    out: Path
    json: bool = False


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
    json: bool = False


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


Command = (
    Start | Join | Look | Operate | Peers | Identity | Export | Completion | Report | Run | ProgramNew | ProgramCheck
    | ProgramData | SwarmKeyNew | Doctor
)


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

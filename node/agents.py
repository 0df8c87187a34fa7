"""Who thinks of the next edit: the proposer that the user asked for, or that a home had before."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agent.budget import Budget, Spent
from agent.command import Command
from agent.fallback import Fallback
from agent.local_search import LocalSearch
from agent.proposer import Proposer
from node.config import Agent
from node.journal import Journal
from protocol import codec
from protocol.errors import RemoteProtocolError, UserError
from protocol.text import one_line
from trainer.hide import hiding, unhidden
from trainer.workspace import temporary

if TYPE_CHECKING:
    from anthropic import AsyncAnthropic

log = logging.getLogger(__name__)
T = TypeVar("T")

#: Tokens that were spent are remembered, so that limits hold over restarts: in all, and by the minute.
_SPENT, _MINUTES = "tokens", "tokens_by_minute"


def remembered(given: Agent, journal: Journal) -> Agent:
    """What the user said now, else what was said before; kept for the next time. Keys are never kept."""
    before: dict[str, Any] = _read(journal, "agent", _known, {"kind": "local"})
    if given.kind:  # a command goes with its kind; a limit holds until another is said
        before = {name: said for name, said in before.items() if name not in ("kind", "command")}
    agent = replace(given, **{name: said for name, said in before.items() if getattr(given, name) in (None, "")})
    kept = {name: value for name, value in asdict(agent).items() if name not in ("key", "base_url")}
    journal.set_meta("agent", codec.encode(kept))
    return agent


def open_proposer(
    agent: Agent, journal: Journal, *, hidden: Sequence[Path], folder: Path, meter: Callable[[str, int], None]
) -> Proposer:  # fmt: skip
    """``hidden`` folders hold validation data and hold-out values: a command does not see them, but for ``folder``,
    where it edits. Raises UserError.
    """
    if agent.kind == "command":
        hide = unhidden if agent.sees_data else hiding(hidden, folder)
        seconds = {} if agent.seconds is None else {"seconds": agent.seconds}
        return Command(agent.command, hide, partial(temporary, folder), **seconds)
    if agent.kind == "claude":
        return Fallback(_claude(agent, journal, meter), LocalSearch() if agent.falls_back else None)
    return LocalSearch()


def _claude(agent: Agent, journal: Journal, meter: Callable[[str, int], None]) -> Proposer:
    if not agent.key and not agent.base_url:
        raise UserError(
            "--agent claude needs an API key in ANTHROPIC_API_KEY, or ANTHROPIC_BASE_URL of a compatible service;"
            " without either, --agent local searches by itself"
        )
    from agent.claude import MODEL, Claude  # it takes a second, and no other proposer needs it

    budget = Budget(agent.limits, time.time, spent_before(journal), partial(keep_spent, journal))
    return Claude(_client(agent), budget, meter, agent.model or MODEL)


def _client(agent: Agent) -> "AsyncAnthropic":
    """Raises UserError where none can be made, which lies in the environment."""
    import httpx2
    from anthropic import AsyncAnthropic, DefaultAsyncHttpxClient

    if agent.base_url and not agent.base_url.startswith(("http://", "https://")):
        raise UserError(f"expected ANTHROPIC_BASE_URL to be http://… or https://…, got {agent.base_url!r}")
    try:
        http = DefaultAsyncHttpxClient()  # the SDK's own complains in public where it can't be made
        return AsyncAnthropic(api_key=agent.key or "none", base_url=agent.base_url or None, http_client=http)
    except (ImportError, OSError, ValueError, httpx2.InvalidURL) as error:
        raise UserError(
            f"no connection to a model can be made: {one_line(str(error))}; look at ANTHROPIC_BASE_URL, SSL_CERT_FILE,"
            " HTTP_PROXY, HTTPS_PROXY and ALL_PROXY"
        ) from None


def spent_before(journal: Journal) -> Spent:
    """In this home."""
    return Spent(_read(journal, _SPENT, int, 0), _read(journal, _MINUTES, _by_minute, {}))


def keep_spent(journal: Journal, spent: Spent) -> None:
    journal.set_meta(_SPENT, codec.encode(spent.total))
    journal.set_meta(_MINUTES, codec.encode(list(spent.minutes.items())))


def _read(journal: Journal, key: str, parse: Callable[[Any], T], default: T) -> T:
    """What was kept, else ``default``; also where it is damaged, which costs a line and nothing else of the home."""
    saved = journal.meta(key)
    try:
        return default if saved is None else parse(codec.decode(saved))
    except (RemoteProtocolError, TypeError, ValueError):
        log.warning("what this home remembers as %s can't be read, and begins anew: say your limits again", key)
        return default


def _by_minute(value: Any) -> dict[int, int]:
    return {int(minute): int(tokens) for minute, tokens in value}


def _known(value: Any) -> dict[str, Any]:
    """A later waggle may have said more."""
    return {name: said for name, said in dict(value).items() if name in Agent.__dataclass_fields__}

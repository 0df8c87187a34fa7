"""Who thinks of the next edit: the proposer that the user asked for, or that a home had before."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from agent.budget import Budget
from agent.command import Command
from agent.fallback import Fallback
from agent.local_search import LocalSearch
from agent.proposer import Proposer
from node.config import Agent
from node.journal import Journal
from protocol import codec
from protocol.errors import UserError
from trainer.hide import hiding, unhidden
from trainer.workspace import temporary

log = logging.getLogger(__name__)

#: Tokens that were spent are remembered, so that --max-tokens holds over restarts.
_SPENT = "tokens"


def remembered(given: Agent, journal: Journal) -> Agent:
    """What the user said now, else what was said before; kept for the next time. Keys are never kept."""
    saved = journal.meta("agent")
    before: dict[str, Any] = {"kind": "local"} if saved is None else codec.decode(saved)
    if given.kind:  # a command goes with its kind; a limit holds until another is said
        before = {name: said for name, said in before.items() if name not in ("kind", "command")}
    agent = replace(given, **{name: said for name, said in before.items() if getattr(given, name) in (None, "")})
    kept = {name: value for name, value in asdict(agent).items() if name not in ("key", "base_url", "fallback")}
    journal.set_meta("agent", codec.encode(kept))
    return agent


def open_proposer(
    agent: Agent, journal: Journal, *, hidden: Sequence[Path], scratch: Path, unsafe: bool,
    meter: Callable[[str, int], None],
) -> Proposer:  # fmt: skip
    """``hidden`` folders hold validation data and hold-out values: no command sees them. Raises UserError."""
    if agent.kind == "command":
        hide = unhidden if unsafe else hiding(hidden, scratch)
        seconds = {} if agent.seconds is None else {"seconds": agent.seconds}
        return Command(agent.command, hide, partial(temporary, scratch), **seconds)
    if agent.kind == "claude":
        return Fallback(_claude(agent, journal, meter), LocalSearch() if agent.fallback else None)
    return LocalSearch()


def _claude(agent: Agent, journal: Journal, meter: Callable[[str, int], None]) -> Proposer:
    if not agent.key and not agent.base_url:
        raise UserError(
            "--agent claude needs an API key in ANTHROPIC_API_KEY, or ANTHROPIC_BASE_URL of a compatible service;"
            " without either, --agent local searches by itself"
        )
    from anthropic import AsyncAnthropic  # a second, and no other proposer needs it

    from agent.claude import MODEL, Claude

    saved = journal.meta(_SPENT)
    budget = Budget(agent.limits, time.monotonic, total=0 if saved is None else int(codec.decode(saved)))

    def count(kind: str, tokens: int) -> None:
        meter(kind, tokens)
        journal.set_meta(_SPENT, codec.encode(budget.total))

    client = AsyncAnthropic(api_key=agent.key or "none", base_url=agent.base_url or None)
    return Claude(client, budget, count, agent.model or MODEL)

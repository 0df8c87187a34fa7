"""The page at ``/`` and what it asks for: static files that come with the package, and JSON of node/pages.py.

    /                     the page; /assets/… what it loads
    /api/experiments      ?after=N[&limit=N]: results in order of arrival
    /api/experiment/ID    one, with diff, curve, log and all runs of its candidate
    /api/course           ?tier=: the staircase of the best, and the candidates' standings
    /api/lineage          ?tier=: the candidates that reached a standing
    /api/peers            nodes of the swarm heard lately
    /api/events           server-sent events: the status, as it changes
    https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

import json
import mimetypes
from collections.abc import AsyncIterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from node import pages
from node.snapshot import Snapshot
from node.view import status_json
from protocol.ledger import Ledger

FOLDER = Path(__file__).parent / "page"
#: Between two looks at the node for each open page: as often as people look.
EVENT_SECONDS = 1.0
#: A line without meaning after this long in which nothing changed, so that a dead connection is noticed.
KEEP_ALIVE_LOOKS = 15
#: Open pages; connections beyond are for Prometheus and scripts.
MOST_STREAMS = 40


class Watched(Protocol):
    """What is looked at: ``node.node.Node``. All of it is quick."""

    @property
    def ledger(self) -> Ledger: ...
    def snapshot(self) -> Snapshot: ...
    def nodes(self) -> list[dict[str, Any]]: ...


def page_routes(node: Watched) -> list[Route]:
    streams = 0

    async def experiments(request: Request) -> Response:
        after, limit = _number(request, "after", 0), _number(request, "limit", pages.MOST_ROWS)
        return JSONResponse(pages.experiments(node.ledger, after, min(limit, pages.MOST_ROWS)))

    async def experiment(request: Request) -> Response:
        found = pages.experiment(node.ledger, request.path_params["record_id"])
        return JSONResponse({"error": "there is no such experiment"}, 404) if found is None else JSONResponse(found)

    async def course(request: Request) -> Response:
        tier = _tier(request, node)
        found = {"steps": pages.course(node.ledger, tier), "standings": pages.standings(node.ledger, tier)}
        return JSONResponse({"tier": tier, **found})

    async def lineage(request: Request) -> Response:
        tier = _tier(request, node)
        return JSONResponse({"tier": tier, "candidates": pages.lineage(node.ledger, tier)})

    async def peers(request: Request) -> Response:
        return JSONResponse(node.nodes())

    async def events(request: Request) -> Response:
        nonlocal streams
        if streams >= MOST_STREAMS:
            return JSONResponse({"error": "too many pages are open"}, 503)
        streams += 1
        return StreamingResponse(stream(), media_type="text/event-stream")

    async def stream() -> AsyncIterator[str]:
        nonlocal streams
        try:
            async for event in _events(node):
                yield event
        finally:
            streams -= 1

    handlers = {
        "/api/experiments": experiments, "/api/experiment/{record_id}": experiment, "/api/course": course,
        "/api/lineage": lineage, "/api/peers": peers, "/api/events": events, "/": _page, "/assets/{name}": _asset,
    }  # fmt: skip
    return [Route(path, handler, methods=["GET"]) for path, handler in handlers.items()]


async def _events(node: Watched) -> AsyncIterator[str]:
    told, quiet = "", 0
    while True:
        status = json.dumps(status_json(node.snapshot()))
        if status != told:
            yield f"event: status\ndata: {status}\n\n"
            told, quiet = status, 0
        elif (quiet := quiet + 1) % KEEP_ALIVE_LOOKS == 0:
            yield ": nothing new\n\n"
        await anyio.sleep(EVENT_SECONDS)


async def _page(request: Request) -> Response:
    return _file("index.html")


async def _asset(request: Request) -> Response:
    return _file(request.path_params["name"])


def _file(name: str) -> Response:
    content = files().get(name)
    if content is None:
        return JSONResponse({"error": "there is no such file"}, 404)
    return Response(content, media_type=mimetypes.guess_type(name)[0] or "text/plain")


@cache
def files() -> Mapping[str, bytes]:
    """The files of the page, by name: no path that is asked for touches the disk."""
    return {file.name: file.read_bytes() for file in FOLDER.iterdir() if file.is_file()}


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else default


def _tier(request: Request, node: Watched) -> str:
    """The one that was asked for if there is such a one, else this node's own."""
    asked = request.query_params.get("tier", "")
    return asked if asked in node.ledger.tiers() else node.snapshot().tier

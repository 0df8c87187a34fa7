"""What a node answers over HTTP, to be read by people, scripts and Prometheus. Nothing can be changed here.

    /             a plain page with links to the rest
    /healthz      200 while the node runs
    /metrics      for Prometheus (node/metrics.py)
    /sd           all nodes that Prometheus may scrape, by its HTTP service discovery (node/targets.py)
    /api/status   the node at this moment
    /api/log      the last experiments of the swarm
    /api/best     the best that is believed; 404 while there is none

Handlers read frozen snapshots, on the thread that the node works on. A request must name this machine: a
page of somebody else's whose name was made to point here can read nothing (DNS rebinding).
"""

import html
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from node.metrics import CONTENT_TYPE, Metrics
from node.snapshot import Snapshot
from node.view import Json, metric_text, row_json, short_commit, status_json

#: No page of ours runs scripts, loads anything or may be framed.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LINKS = {
    "/api/status": "this node at this moment",
    "/api/log": "the last experiments of the swarm",
    "/api/best": "the best that is believed",
    "/metrics": "for Prometheus",
    "/sd": "where Prometheus finds the swarm",
    "/healthz": "whether it is alive",
}


def create_app(
    snapshot: Callable[[], Snapshot], metrics: Metrics, host: str, targets: Callable[[str], list[Json]]
) -> ASGIApp:
    """The application; ``host`` is what HTTP is bound to, ``snapshot`` quick. ``targets`` lists what Prometheus may
    scrape, this node as it was asked: HOST:PORT.
    """

    async def page(request: Request) -> Response:
        return HTMLResponse(_page(snapshot()))

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def prometheus(request: Request) -> Response:
        metrics.observe(snapshot())
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def discovery(request: Request) -> Response:
        return JSONResponse(targets(request.url.netloc))

    async def status(request: Request) -> Response:
        return JSONResponse(status_json(snapshot()))

    async def log(request: Request) -> Response:
        return JSONResponse([row_json(row) for row in snapshot().last])

    async def best(request: Request) -> Response:
        values = status_json(snapshot())
        found = values["global_best"]
        if found is None:
            return JSONResponse({"error": "there is none yet"}, status_code=404)
        return JSONResponse({**found, "metric_is": values["metric"]})

    handlers = {
        "/": page, "/healthz": healthz, "/metrics": prometheus, "/sd": discovery, "/api/status": status,
        "/api/log": log, "/api/best": best,
    }  # fmt: skip
    return Starlette(
        routes=[Route(path, handler, methods=["GET"]) for path, handler in handlers.items()],
        middleware=[Middleware(_Guard, public=not is_loopback(host))],
    )


class _Guard:
    """Refuses hosts that are none of ours, and adds our headers to what is answered."""

    def __init__(self, app: ASGIApp, public: bool) -> None:
        self._app = app
        self._public = public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        app = self._app
        if not self._public and not is_local(dict(scope["headers"]).get(b"host", b"").decode("latin-1")):
            app = PlainTextResponse("this node is asked under its address or as localhost only\n", 421)
        await app(scope, receive, send_with_headers)


def is_local(header: str) -> bool:
    """Whether a Host header names an address, or localhost; names are given by whoever owns them."""
    host = header.rpartition("]")[0].removeprefix("[") if header.startswith("[") else header.partition(":")[0]
    return host.lower() == "localhost" or _address(host) is not None


def is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _page(snapshot: Snapshot) -> str:
    """All words from elsewhere are escaped."""
    facts = {
        "program": snapshot.program,
        "swarm": snapshot.swarm_id,
        "tier": snapshot.tier,
        "best": _best(snapshot),
        "experiments": str(snapshot.experiments_total),
        "peers": str(len(snapshot.peers)),
        "addresses": "\n".join(snapshot.addresses) or "none: this node only dials out",
    }
    links = "".join(f'<li><a href="{path}">{path}</a> {text}</li>' for path, text in LINKS.items())
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>waggledance</title>'
        "<style>body{font:16px system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}"
        "th{text-align:left;padding-right:1rem;vertical-align:top}td{white-space:pre-line}</style>"
        f"<h1>waggledance</h1><table>{_rows(facts)}</table><ul>{links}</ul></html>\n"
    )


def _rows(facts: Mapping[str, str]) -> str:
    return "".join(f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in facts.items())


def _best(snapshot: Snapshot) -> str:
    best = snapshot.global_best
    if best is None:
        return "none yet"
    value = f"{snapshot.metric_name} {metric_text(best.metric)} {snapshot.unit}".rstrip()
    return f"{value} ({short_commit(best.commit)}: {best.summary})"

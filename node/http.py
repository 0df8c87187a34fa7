"""What a node answers over HTTP, to be read by people, scripts and Prometheus.

    /             the page, and what it asks for (node/web.py)
    /healthz      200 while the node runs
    /metrics      for Prometheus (node/metrics.py)
    /sd           all nodes that Prometheus may scrape, by its HTTP service discovery (node/targets.py)
    /api/status   the node at this moment
    /api/log      the last experiments of the swarm
    /api/best     the best that is believed; 404 while there is none
    POST …        what the local operator may change (node/control.py)

Handlers read frozen snapshots, on the thread that the node works on. A request must name this machine: a
page of somebody else's whose name was made to point here can read nothing (DNS rebinding).
"""

from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from node.control import Operated, control_routes, ip, is_loopback
from node.metrics import CONTENT_TYPE, Metrics
from node.view import row_json, status_json
from node.web import Watched, page_routes

#: The page runs its own scripts and asks its own node, and nothing else; it may not be framed.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
#: What scripts and Prometheus read.
PATHS = ("/healthz", "/metrics", "/sd", "/api/status", "/api/log", "/api/best")


class Served(Watched, Operated, Protocol):
    """What is served: ``node.node.Node``."""

    def targets(self, own: str) -> list[dict[str, Any]]:
        """What Prometheus may scrape, this node as it was asked: HOST:PORT."""
        ...


def create_app(node: Served, metrics: Metrics, host: str, token: str) -> ASGIApp:
    """The application; ``host`` is what HTTP is bound to, ``token`` the secret of the local operator."""

    async def healthz(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def prometheus(request: Request) -> Response:
        metrics.observe(node.snapshot())
        return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE})

    async def discovery(request: Request) -> Response:
        return JSONResponse(node.targets(request.url.netloc))

    async def status(request: Request) -> Response:
        return JSONResponse(status_json(node.snapshot()))

    async def log(request: Request) -> Response:
        return JSONResponse([row_json(row) for row in node.snapshot().last])

    async def best(request: Request) -> Response:
        values = status_json(node.snapshot())
        found = values["global_best"]
        if found is None:
            return JSONResponse({"error": "there is none yet"}, status_code=404)
        return JSONResponse({**found, "metric_is": values["metric"]})

    handlers = zip(PATHS, (healthz, prometheus, discovery, status, log, best), strict=True)
    return Starlette(
        routes=[
            *(Route(path, handler, methods=["GET"]) for path, handler in handlers),
            *page_routes(node),
            *control_routes(node, token),
        ],
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
    return host.lower() == "localhost" or ip(host) is not None

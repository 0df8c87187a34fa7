"""What the local operator may tell a running node over HTTP.

    POST /api/pause     begin no new experiment, also after a restart; those that run end and are told
    POST /api/resume
    POST /api/verdict   {"commit": …, "approve": true|false}, where this node's identity is the program's founder

Who may: somebody on this machine, or who knows the token that lies in the node's home. The first is told by the
address of the client, and both address and Host must be loopback, or a page of somebody else's could ask by a name that
points here. Against pages that make a browser ask (CSRF): the body must say that it is JSON, which a foreign page can't
send unasked, and a foreign Origin is refused.
https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
"""

import hmac
import ipaddress
import json
from collections.abc import Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from protocol.errors import UserError

#: A commit and a word.
MAX_BODY_BYTES = 4096
#: What a request is refused with, beside one line that says why.
FORBIDDEN, UNSUPPORTED, BAD = 403, 415, 400


class Operated(Protocol):
    """What is operated: ``node.node.Node``. Each raises UserError, and takes effect soon."""

    def pause(self, paused: bool) -> None: ...
    def judge(self, commit: str, approve: bool) -> None: ...


def control_routes(node: Operated, token: str) -> list[Route]:
    """``token`` is the secret of this node's home."""

    async def pause(request: Request) -> Response:
        return await _ordered(request, token, lambda body: node.pause(True))

    async def resume(request: Request) -> Response:
        return await _ordered(request, token, lambda body: node.pause(False))

    async def verdict(request: Request) -> Response:
        return await _ordered(request, token, lambda body: node.judge(*_verdict(body)))

    handlers = {"/api/pause": pause, "/api/resume": resume, "/api/verdict": verdict}
    return [Route(path, handler, methods=["POST"]) for path, handler in handlers.items()]


async def _ordered(request: Request, token: str, order: Any) -> Response:
    refused = _refusal(request, token)
    if refused is not None:
        return refused
    try:
        order(await _body(request))
    except UserError as error:
        return _error(str(error), BAD)
    return JSONResponse({"accepted": True}, status_code=202)


def _refusal(request: Request, token: str) -> Response | None:
    headers = request.headers
    if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return _error("expected Content-Type: application/json", UNSUPPORTED)
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers.get("host"):
        return _error(f"a page of {origin} may not operate this node", FORBIDDEN)
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return _error("another site's page may not operate this node", FORBIDDEN)
    given = headers.get("authorization", "")
    if given:
        right = hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
        return None if right else _error("this is not the token of this node's home", FORBIDDEN)
    client = request.client.host if request.client else ""
    if is_loopback(client) and is_loopback(urlsplit(f"//{headers.get('host', '')}").hostname or ""):
        return None
    return _error("only somebody on its machine, or with the token in its home, operates a node", FORBIDDEN)


async def _body(request: Request) -> Mapping[str, Any]:
    """Raises UserError for what is no JSON object, or too large."""
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal() and int(length) <= MAX_BODY_BYTES):
        raise UserError(f"expected Content-Length, at most {MAX_BODY_BYTES} bytes")
    try:
        body = json.loads(await request.body() or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise UserError("expected a JSON object")
    return body


def _verdict(body: Mapping[str, Any]) -> tuple[str, bool]:
    commit, approve = body.get("commit"), body.get("approve")
    if not isinstance(commit, str) or not isinstance(approve, bool):
        raise UserError('expected {"commit": "…", "approve": true or false}')
    return commit, approve


def _error(why: str, status: int) -> Response:
    return JSONResponse({"error": why}, status_code=status)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its address or as localhost."""
    address = ip(host)
    return host == "localhost" or (address is not None and address.is_loopback)


def ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address as it is written; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None

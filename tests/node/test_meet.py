"""A node's page in place of its address: asked over real HTTP, whatever stands there."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from node.meet import MAX_PAGE_BYTES, multiaddr
from protocol.errors import UserError

PEER = "12D3KooWAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
PRIVATE = f"/ip4/10.0.0.7/tcp/4001/p2p/{PEER}"


@contextmanager
def page(body: bytes, status: int = 200) -> Iterator[str]:
    """The address of a server that answers any question like this."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def status(*addresses: object) -> bytes:
    return json.dumps({"addresses": addresses}).encode()


def test_a_multiaddr_is_left_as_it_is() -> None:
    assert multiaddr(PRIVATE) == PRIVATE


def test_the_host_is_kept_by_which_the_page_was_reached() -> None:
    with page(status(f"/ip4/10.0.0.7/udp/4001/quic-v1/p2p/{PEER}", PRIVATE)) as address:
        for asked in (address, f"{address}/"):
            assert multiaddr(asked) == f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}"
        assert multiaddr(address.replace("127.0.0.1", "localhost")) == f"/dns4/localhost/tcp/4001/p2p/{PEER}"


def test_a_node_that_only_dials_out_says_so() -> None:
    with page(status()) as address, pytest.raises(UserError, match="only dials out"):
        multiaddr(address)


@pytest.mark.parametrize(
    "body", [b"<html>", b"[]", b"{}", b'{"addresses": 7}', b"\xff", b"[" * 100_000, b" " * (MAX_PAGE_BYTES + 1)]
)
def test_what_is_no_node_is_one_line(body: bytes) -> None:
    with page(body) as address, pytest.raises(UserError, match="no node answers there"):
        multiaddr(address)


@pytest.mark.parametrize("told", ["", "/", "/tcp/1", 7, None, f"/ip4/10.0.0.7/tcp/no/p2p/{PEER}", PRIVATE + "\n/tcp/1"])
def test_an_address_that_is_none_is_not_dialed(told: object) -> None:
    with page(status(told)) as address, pytest.raises(UserError, match="only dials out"):
        multiaddr(address)


def test_nobody_there_an_error_and_nonsense_are_one_line_each() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with page(b"", 500) as broken:
        for address in (f"http://127.0.0.1:{port}", broken, "http://[", "http://127.0.0.1:port", "http://"):
            with pytest.raises(UserError, match="no node answers there"):
                multiaddr(address)

"""A loopback server that speaks the Messages API: what it says is built of the SDK's own types.

It stands in for the paid service alone; the client, HTTP and streaming are real.
"""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from anthropic import AsyncAnthropic
from anthropic.types import (
    InputJSONDelta,
    Message,
    MessageDeltaUsage,
    RawContentBlockDeltaEvent,
    RawContentBlockStartEvent,
    RawContentBlockStopEvent,
    RawMessageDeltaEvent,
    RawMessageStartEvent,
    RawMessageStopEvent,
    TextBlock,
    TextDelta,
    ToolUseBlock,
    Usage,
)
from anthropic.types.raw_message_delta_event import Delta

#: A piece of a tool's input, as the service sends it: anywhere, also within a word.
PIECE = 200


@dataclass(frozen=True)
class Call:
    """A tool call of the model."""

    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True)
class Say:
    """An answer of text and tool calls. ``cut`` ends the connection after so many events, ``stall`` falls silent after
    so many; before each of them pass ``pause`` seconds. With ``late`` not even the beginning of an answer comes.
    """

    content: Sequence[str | Call]
    input_tokens: int = 1000
    output_tokens: int = 100
    cache_read: int = 0
    cache_write: int = 0
    stop: str = "tool_use"
    cut: int | None = None
    stall: int | None = None
    pause: float = 0.0
    late: bool = False


@dataclass(frozen=True)
class Raw:
    """What only something else than the service would say: the body of an answer with status 200."""

    body: bytes
    content_type: str = "text/event-stream"


@dataclass(frozen=True)
class Fail:
    status: int
    kind: str = "api_error"
    message: str = "it failed"
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Say | Raw | Fail


def events(answer: Say) -> Iterator[Any]:
    """As the service streams them."""
    usage = Usage(
        input_tokens=answer.input_tokens, output_tokens=1, cache_read_input_tokens=answer.cache_read,
        cache_creation_input_tokens=answer.cache_write,
    )  # fmt: skip
    message = Message(
        id="msg_1", content=[], model="claude", role="assistant", stop_reason=None, stop_sequence=None,
        type="message", usage=usage,
    )  # fmt: skip
    yield RawMessageStartEvent(message=message, type="message_start")
    for index, block in enumerate(answer.content):
        yield from _block(index, block)
    yield RawMessageDeltaEvent(
        delta=Delta(stop_reason=answer.stop, stop_sequence=None),  # type: ignore[arg-type]
        usage=MessageDeltaUsage(output_tokens=answer.output_tokens),
        type="message_delta",
    )
    yield RawMessageStopEvent(type="message_stop")


def _block(index: int, block: str | Call) -> Iterator[Any]:
    deltas: list[Any]
    if isinstance(block, str):
        start: Any = TextBlock(text="", type="text")
        deltas = [TextDelta(text=block, type="text_delta")]
    else:
        start = ToolUseBlock(id=f"toolu_{index}", input={}, name=block.name, type="tool_use")
        text = json.dumps(block.input)
        pieces = [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
        deltas = [InputJSONDelta(partial_json=piece, type="input_json_delta") for piece in pieces]
    yield RawContentBlockStartEvent(content_block=start, index=index, type="content_block_start")
    for delta in deltas:
        yield RawContentBlockDeltaEvent(delta=delta, index=index, type="content_block_delta")
    yield RawContentBlockStopEvent(index=index, type="content_block_stop")


class Service:
    """``answers`` are given in turn, the last of them for ever; ``requests`` are the bodies that came."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []
        self.url = ""
        self.ended = threading.Event()

    def client(self) -> AsyncAnthropic:
        return AsyncAnthropic(api_key="sk-test", base_url=self.url)

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serving(*answers: Answer) -> Iterator[Service]:
    service = Service(*answers)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service))
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield service
    finally:
        service.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(service: Service) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/messages"
            assert "sk-test" in (self.headers["x-api-key"], self.headers["Authorization"].removeprefix("Bearer "))
            assert body["stream"] is True
            service.requests.append(body)
            answer = service.next()
            match answer:
                case Fail():
                    self._fail(answer)
                case Raw():
                    self._body(200, answer.content_type, answer.body)
                case Say():
                    with suppress(ConnectionError):  # the client may have had enough
                        self._stream(answer)

        def _fail(self, answer: Fail) -> None:
            data = json.dumps({"type": "error", "error": {"type": answer.kind, "message": answer.message}}).encode()
            self._body(answer.status, "application/json", data, **answer.headers)

        def _body(self, status: int, content_type: str, data: bytes, **headers: str) -> None:
            self.send_response(status)
            self.send_header("Connection", "close")
            for name, value in {"Content-Type": content_type, "Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def _stream(self, answer: Say) -> None:
            """In chunks, as the service does: a connection that is cut is no end."""
            service.ended.wait(None if answer.late else 0.0)
            self.send_response(200)
            self.send_header("Connection", "close")  # no client of a test is left with a connection
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for number, event in enumerate(events(answer)):
                if number == answer.cut or service.ended.wait(None if number == answer.stall else answer.pause):
                    return
                data = f"event: {event.type}\ndata: {event.model_dump_json()}\n\n".encode()
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")

        def log_message(self, *args: object) -> None: ...

    return Handler

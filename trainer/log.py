"""What a child prints: streamed on, its head and tail kept, and no more."""

from collections.abc import Callable

#: What a person reads to see how a run began, and why it ended.
HEAD_BYTES = 64 * 1024
TAIL_BYTES = 64 * 1024
#: What is streamed on of one run; a screen holds far less.
STREAM_BYTES = 1024 * 1024
#: A result carries this much of a failure.
FAILURE_BYTES = 2048


class Log:
    """The output of one child. ``on_output`` gets parts as they come, STREAM_BYTES at most."""

    def __init__(self, on_output: Callable[[bytes], None] | None = None) -> None:
        self._on_output = on_output
        self._head = b""
        self._tail = b""
        self.total = 0

    def follow(self, on_output: Callable[[bytes], None]) -> None:
        """Stream on what came so far, and what comes."""
        self._on_output = on_output
        if self.total:
            on_output(self._head[:STREAM_BYTES])

    def add(self, part: bytes) -> None:
        room = max(0, STREAM_BYTES - self.total)
        self.total += len(part)
        if self._on_output is not None and room:
            self._on_output(part[:room])
            if len(part) >= room:
                self._on_output(b"\n[more output is not shown]\n")
        take = HEAD_BYTES - len(self._head)
        self._head += part[:take]
        self._tail = (self._tail + part[take:])[-TAIL_BYTES:]

    @property
    def kept(self) -> bytes:
        dropped = self.total - len(self._head) - len(self._tail)
        gap = b"\n[%d bytes dropped]\n" % dropped if dropped else b""
        return self._head + gap + self._tail

    def failure(self, line: str) -> str:
        """``line`` and, before it, as much of the log's end as a result carries."""
        end = line.encode("utf-8", "replace")[-FAILURE_BYTES:]
        room = FAILURE_BYTES - len(end) - 1
        before = self.kept.strip()[-room:] if room > 0 else b""
        joined = before + b"\n" + end if before else end
        return bounded(joined.decode("utf-8", "ignore"))


def bounded(words: str) -> str:
    """The end of ``words``, within FAILURE_BYTES of UTF-8."""
    return words.encode("utf-8", "replace")[-FAILURE_BYTES:].decode("utf-8", "ignore")

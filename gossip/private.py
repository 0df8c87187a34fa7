"""Private swarms: a key that all nodes of a swarm share, and without which a connection ends at its first bytes.

As libp2p has it (https://github.com/libp2p/specs/blob/master/pnet/Private-Networks-PSK-V1.md): XSalsa20 under
everything else, with a nonce of 24 bytes by each side before its first byte. Bytes are hidden, not
authenticated: that is noise's business, within. The key is kept in a file as go-libp2p's.

py-libp2p 0.8.1 has ``new_host(psk=)``, which does not meet that: it is Salsa20 with a nonce of 8 bytes, so that no
other libp2p can talk to it, and a peer with a wrong key is waited for (tests/gossip/test_private.py).
"""

import ctypes
import os
import secrets
import shlex
import stat
from functools import cache
from pathlib import Path
from typing import Any

import trio
from libp2p.io.exceptions import IOException
from libp2p.network.connection.exceptions import RawConnError
from libp2p.network.connection.raw_connection import RawConnection

from protocol.errors import UserError

KEY_BYTES = 32
NONCE_BYTES = 24
#: What every libp2p connection begins with, once it is decrypted.
GREETING = b"\x13/multistream/1.0.0\n"

_VERSION, _ENCODING = "/key/swarm/psk/1.0.0/", "/base16/"
#: Three short lines; who names a larger file has named another one.
_MAX_FILE_BYTES = 1024
_BLOCK = 64
_PIECE = 4096

_OPEN_TO_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class KeyMismatch(IOException):  # type: ignore[misc]  # libp2p has no usable types
    """The peer does not share our swarm key: one line about it, beginning with "it"."""


# the file


def new_key(path: Path) -> None:
    """Make a key in a file that only its owner can read. Raises UserError, also where there is a file already."""
    text = f"{_VERSION}\n{_ENCODING}\n{secrets.token_bytes(KEY_BYTES).hex()}\n"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UserError(f"{path} is there already, and is not overwritten: name another file") from None
    except OSError as error:
        raise UserError(f"cannot write {path}: {_why(error)}") from None
    try:
        with open(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {_why(error)}") from None


def read_key(path: Path) -> bytes:
    """The key in a file. Raises UserError where it is not one, or where others can read it."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe without a writer would hold us up
        with open(handle, "rb") as file:
            status = os.fstat(handle)
            data = file.read(_MAX_FILE_BYTES + 1) if stat.S_ISREG(status.st_mode) else None
    except OSError as error:
        line = f"cannot read swarm key {path}: {_why(error)}; give --swarm-key FILE, which waggle swarm-key new makes"
        raise UserError(line) from None
    if data is None:
        raise UserError(f"{path} is not a swarm key: not a file")
    if status.st_mode & _OPEN_TO_OTHERS:
        raise UserError(f"others can read swarm key {path}: chmod 600 {shlex.quote(str(path))}")
    _xsalsa20()
    return _parse(data, path)


def _parse(data: bytes, path: Path) -> bytes:
    lines = data.decode("ascii", "replace").split()
    if len(data) > _MAX_FILE_BYTES or lines[:1] != [_VERSION]:
        raise UserError(f"{path} is not a swarm key: its first line is to be {_VERSION}")
    if lines[1:2] != [_ENCODING]:
        raise UserError(f"{path} is not a swarm key that is understood: its second line is to be {_ENCODING}")
    try:
        key = bytes.fromhex("".join(lines[2:]))
    except ValueError:
        key = b""
    if len(lines) != 3 or len(key) != KEY_BYTES:
        raise UserError(f"{path} is not a swarm key: its third and last line is to be {2 * KEY_BYTES} hex digits")
    return key


# the cipher


class KeyStream:
    """XSalsa20, from its beginning on; libsodium's."""

    def __init__(self, key: bytes, nonce: bytes) -> None:
        self._key = key
        self._nonce = nonce
        self._at = 0

    def xor(self, data: bytes) -> bytes:
        """The next bytes, encrypted or decrypted."""
        block, skipped = divmod(self._at, _BLOCK)
        padded = bytes(skipped) + data
        out = ctypes.create_string_buffer(len(padded))
        _xsalsa20()(out, padded, len(padded), self._nonce, block, self._key)
        self._at += len(data)
        return out.raw[skipped:]


@cache
def _xsalsa20() -> Any:
    """From the libsodium within PyNaCl, which names other ciphers only. Raises UserError where it hides this one."""
    from nacl import _sodium  # its compiled part

    try:
        cipher = ctypes.CDLL(_sodium.__file__).crypto_stream_xsalsa20_xor_ic
    except (OSError, AttributeError):
        raise UserError("swarm keys need libsodium's XSalsa20, which this PyNaCl lacks: install it from PyPI") from None
    size, text = ctypes.c_ulonglong, ctypes.c_char_p
    cipher.argtypes = [ctypes.c_void_p, text, size, text, ctypes.c_uint64, text]
    return cipher


# the connection


class CheckedConnection(RawConnection):  # type: ignore[misc]  # libp2p has no usable types
    """``raw`` under ``key`` (None is in the clear), which ends at once where the peer's is another.

    A wrong key makes noise of the first message, whose length is then anything: without the check each side
    waits for the rest until it gives up. ``mismatch`` is what was wrong, ``heard_at`` when the
    peer's last byte came, in the seconds of ``trio.current_time``.
    """

    def __init__(self, raw: Any, key: bytes | None) -> None:
        super().__init__(raw.stream, raw.is_initiator, raw.get_connection_type(), raw._actual_addresses)
        self._key = key
        self._ours: KeyStream | None = None
        self._theirs: KeyStream | None = None
        self._greeted = False
        self._ahead = bytearray()
        self.heard_at = trio.current_time()
        self.mismatch: KeyMismatch | None = None

    async def write(self, data: bytes) -> None:
        if self._key is None:
            await super().write(data)
            return
        nonce = b""
        if self._ours is None:
            nonce = os.urandom(NONCE_BYTES)
            self._ours = KeyStream(self._key, nonce)
        await super().write(nonce + self._ours.xor(data))

    async def read(self, n: int | None = None) -> bytes:
        if not self._greeted:
            await self._be_greeted()
        if self._ahead:
            taken = bytes(self._ahead[:n])
            del self._ahead[:n]
            return taken
        data: bytes = await super().read(n)
        self.heard_at = trio.current_time()
        return data if self._theirs is None else self._theirs.xor(data)

    async def _be_greeted(self) -> None:
        """Take the first bytes, and see that they are libp2p's. Raises KeyMismatch."""
        try:
            if self._key is None:
                await self._be_greeted_in_the_clear()
            else:
                await self._be_greeted_under(self._key)
        except KeyMismatch as error:
            self.mismatch = error
            raise
        self._greeted = True

    async def _be_greeted_in_the_clear(self) -> None:
        while len(self._ahead) < len(GREETING):
            await self._hear("it hung up at once: it is too busy, or of a private swarm, which needs --swarm-key FILE")
            if not self._ahead.startswith(GREETING[: len(self._ahead)]):
                raise KeyMismatch("it has a swarm key, which needs --swarm-key FILE here, or it is no libp2p node")

    async def _be_greeted_under(self, key: bytes) -> None:
        while len(self._ahead) < NONCE_BYTES + len(GREETING):
            await self._hear("it hung up at once: it may have another swarm key, or none")
            if self._ahead.startswith(GREETING):
                raise KeyMismatch("it has no swarm key, this node has one")
        self._theirs = KeyStream(key, bytes(self._ahead[:NONCE_BYTES]))
        self._ahead[:] = self._theirs.xor(bytes(self._ahead[NONCE_BYTES:]))
        if not self._ahead.startswith(GREETING):
            raise KeyMismatch("it has another swarm key than this node, or it is no libp2p node")

    async def _hear(self, hung_up: str) -> None:
        """Some bytes more. Raises KeyMismatch where a peer that we dialed has gone; a caller may go as it likes."""
        try:
            piece = await super().read(_PIECE)
        except (IOException, RawConnError):
            piece = b""
        if not piece:
            raise KeyMismatch(hung_up) if self.is_initiator else IOException("closed before a greeting")
        self._ahead += piece


def _why(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else str(error)

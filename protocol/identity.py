"""Ed25519 identities, the same as libp2p's: the peer id is the public key, spelled another way.

https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md
"""

from dataclasses import dataclass, field
from functools import lru_cache

import base58
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from protocol.errors import LocalProtocolError, RemoteProtocolError

KEY_BYTES = 32
SIGNATURE_BYTES = 64
#: identity multihash (0x00, 36 bytes) of the protobuf {type: Ed25519, data: 32 bytes}
_PEER_ID_PREFIX = bytes.fromhex("002408011220")
#: As many distinct authors and forwarders as a node meets in a while.
_CACHE = 4096


@dataclass(frozen=True)
class Identity:
    """A node's signing key, made from a 32-byte seed."""

    seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.seed) != KEY_BYTES:
            raise LocalProtocolError(f"an identity's seed has {KEY_BYTES} bytes, got {len(self.seed)}")
        object.__setattr__(self, "_key", SigningKey(self.seed))

    @property
    def _signing_key(self) -> SigningKey:
        key = self.__dict__["_key"]
        assert isinstance(key, SigningKey)
        return key

    @property
    def public_key(self) -> bytes:
        return bytes(self._signing_key.verify_key)

    @property
    def peer_id(self) -> str:
        return peer_id(self.public_key)

    def sign(self, data: bytes) -> bytes:
        return self._signing_key.sign(data).signature


@lru_cache(_CACHE)
def peer_id(public_key: bytes) -> str:
    """The libp2p peer id ("12D3Koo...") of a 32-byte Ed25519 public key."""
    if len(public_key) != KEY_BYTES:
        raise LocalProtocolError(f"a public key has {KEY_BYTES} bytes, got {len(public_key)}")
    return base58.b58encode(_PEER_ID_PREFIX + public_key).decode("ascii")


@lru_cache(_CACHE)
def public_key_of(peer: str) -> bytes:
    """The public key in an Ed25519 peer id. Raises RemoteProtocolError for any other text."""
    try:
        raw = base58.b58decode(peer.encode("ascii"))
    except (ValueError, UnicodeEncodeError) as error:
        raise RemoteProtocolError("malformed", "not a peer id") from error
    if len(raw) != len(_PEER_ID_PREFIX) + KEY_BYTES or not raw.startswith(_PEER_ID_PREFIX):
        raise RemoteProtocolError("malformed", "not an Ed25519 peer id")
    return raw[len(_PEER_ID_PREFIX) :]


def verify(public_key: bytes, data: bytes, signature: bytes) -> None:
    """Raises RemoteProtocolError unless ``signature`` is by ``public_key`` over ``data``."""
    try:
        VerifyKey(public_key).verify(data, signature)
    except (BadSignatureError, ValueError, TypeError) as error:
        raise RemoteProtocolError("signature", type(error).__name__) from error

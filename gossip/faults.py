"""Whose fault an error of libp2p is: what a peer said, or a connection that broke."""

import trio
from google.protobuf.message import DecodeError
from libp2p.exceptions import BaseLibp2pError, ParseError
from libp2p.io.exceptions import MessageTooLarge
from libp2p.protocol_muxer.exceptions import MultiselectCommunicatorError
from libp2p.security.exceptions import HandshakeFailure


class GarbledError(MultiselectCommunicatorError):  # type: ignore[misc]  # libp2p has no usable types
    """A word in the choice of a protocol that is none."""


#: What comes of what a peer says, and of nothing else.
WRONG = (GarbledError, HandshakeFailure, ParseError, MessageTooLarge, DecodeError, UnicodeDecodeError)
#: Connections that break or are late.
HONEST = (BaseLibp2pError, OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


def _root(error: BaseException) -> BaseException:
    """What an error comes from."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def is_wrong(error: Exception) -> bool:
    """Whether a handshake failed by what the other side said."""
    return isinstance(_root(error), WRONG) or not isinstance(_root(error), HONEST)

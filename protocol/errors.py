"""Whose fault it was: ours, a peer's or the user's."""


class ProtocolError(Exception):
    """Base of what protocol code raises on purpose."""


class LocalProtocolError(ProtocolError):
    """We misused the protocol: a bug of this program."""


class RemoteProtocolError(ProtocolError):
    """A peer sent something wrong.

    ``reason`` is one of a small fixed set of words (``REASONS``), fit for a metric label;
    ``detail`` is for the log and may quote the peer.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        if reason not in REASONS:
            raise LocalProtocolError(f"unknown reason {reason!r}")
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


#: Append-only. Metrics carry these as labels, so the set is bounded.
REASONS = frozenset(
    {
        "malformed",  # not our canonical encoding, a wrong frame, or a field out of its bound
        "oversize",  # larger than its stated bound
        "signature",  # signature does not verify
        "swarm",  # for another swarm
        "commit",  # commit id does not follow from parent and asset
        "seed",  # seed is not the one that the rules prescribe
        "diff",  # diff does not apply, or touches more than the asset
        "future",  # created too far ahead of our clock
        "program",  # program bytes do not hash to the swarm id
        "sync",  # a peer broke the exchange of records
        "stream",  # stream closed early, or the peer was silent or did not read for too long
        "quota",  # over its author's share
        "full",  # our journal holds no more
        "key",  # a connection under another swarm key, or none
        "stranger",  # a connection of a peer that is not allowed here
        "crowd",  # one connection too many of one host, or one stream too many of one peer
        "barred",  # a connection of a host whose peers sent too much that is wrong
        "relay",  # asked to be put through, and is not of the swarm or has enough
        "call",  # put somebody through to us who calls too much, or without being our relay
        "frame",  # a child process sent a wrong frame
    }
)


class UserError(Exception):
    """A user's mistake: one line that says what was expected and how to mend it."""

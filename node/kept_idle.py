"""What a home keeps of the time in which its lanes were idle; read without starting a node."""

import logging
from collections.abc import Mapping

from protocol import codec
from protocol.errors import RemoteProtocolError

log = logging.getLogger(__name__)

#: Under which a journal keeps it.
KEPT = "idle"


def kept_shares(kept: bytes | None) -> Mapping[str, float]:
    """What share of the lanes' time went so, by cause, of what a journal keeps."""
    return shares(*read_idle(kept))


def shares(whole: float, seconds: Mapping[str, float]) -> Mapping[str, float]:
    """Of ``whole`` seconds of lanes, by cause; none where there were none."""
    return {cause: min(1.0, one / whole) for cause, one in sorted(seconds.items())} if whole else {}


def read_idle(kept: bytes | None) -> tuple[float, dict[str, float]]:
    """Seconds of all lanes together, and those of them that were idle, by cause; none where it is damaged, which is no
    reason not to begin.
    """
    try:
        whole, seconds = codec.decode(kept) if kept else (0.0, {})
        return float(whole), {str(cause): float(one) for cause, one in seconds.items()}
    except (RemoteProtocolError, TypeError, ValueError, AttributeError):
        log.warning("what this home remembers of idle lanes can't be read, and begins anew")
        return 0.0, {}

"""Assets by commit: what no diff leads to is asked of peers."""

import logging
import random
from collections.abc import Callable

from gossip import wire
from gossip.hello import conversation
from gossip.transport import Stream, Transport
from protocol.commits import COMMIT_HEX
from protocol.errors import RemoteProtocolError

log = logging.getLogger(__name__)

FETCH = "/waggle/fetch/1"
#: A source file or a table of numbers; larger ones don't fit this kind of search.
MAX_ASSET_BYTES = 32 * 1024 * 1024
#: Who has run a candidate has its asset, and most peers have run or replicated something near.
MOST_ASKED = 8


def serve_assets(transport: Transport, asset: Callable[[str], bytes | None]) -> None:
    """Give what ``asset`` has."""

    async def answer(stream: Stream) -> None:
        _, commit = wire.checked(await wire.hear(stream, "asset", most=wire.SHORT_BYTES), str, str)
        if len(commit) != COMMIT_HEX:
            raise RemoteProtocolError("malformed", "not a commit id")
        await wire.send_bytes(stream, asset(commit))

    transport.handle(FETCH, answer)


async def fetch_asset(
    transport: Transport,
    rng: random.Random,
    commit: str,
    check: Callable[[bytes], bool],
    on_wrong: Callable[[RemoteProtocolError, str], None],
) -> bytes | None:
    """The asset of a commit, from the first of some connected peers whose bytes pass ``check``."""
    peers = transport.peers()
    for peer in rng.sample(peers, min(MOST_ASKED, len(peers))):
        try:
            async with conversation(transport, peer, FETCH) as stream:
                await wire.say(stream, "asset", commit)
                asset = await wire.receive_bytes(stream, MAX_ASSET_BYTES)
            if asset is None:
                continue
            if check(asset):
                return asset
            raise RemoteProtocolError("commit", f"not the asset of {commit[:12]}")
        except RemoteProtocolError as error:
            on_wrong(error, peer)
    return None

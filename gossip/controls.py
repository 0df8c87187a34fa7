"""What is heard of gossipsub's control messages, and what waits to be sent: bounded, as a small one may ask for much.
Mends of py-libp2p 0.8.1, as those of gossip/overrides.py.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from libp2p.pubsub import gossipsub, pubsub
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import PriorityQueue

from gossip.gate import Door
from protocol.errors import RemoteProtocolError

#: Control messages of one RPC: a peer has one of each kind for each topic, and a swarm is one topic.
MOST_CONTROLS = 64
#: Message ids in one RPC, what other libraries allow: more than is gossiped at full rate while it is on offer.
MOST_IDS = 5000
#: Answered to one IWANT; what is more comes by sync.
MOST_ANSWERED_BYTES = 1024 * 1024
#: RPCs that wait for one slow peer before more are dropped. 32 upstream: a burst of records is longer.
OUTBOX = 512
#: The same in bytes: that many records of the usual size. A peer that takes nothing holds so much and no more.
OUTBOX_BYTES = 2 * 1024 * 1024


class SafeGossipSub(GossipSub):  # type: ignore[misc]  # libp2p has no usable types
    """Hears of the topics that it is in, and as much as a peer has reason to ask."""

    def __init__(self, *args: Any, door: Door, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._door = door

    async def handle_rpc(self, rpc: Any, sender_peer_id: Any) -> None:
        """Upstream: each GRAFT for an unknown topic is answered, without a pause (8,000 in 40 KB stop everything for
        eight seconds); each PRUNE for one is remembered for ever; an IWANT is answered as often as it repeats an id
        (500 times in 17 KB: 90 MB); and whoever a PRUNE names is dialed, past all that we go by.
        """
        control = rpc.control
        entries = sum(len(getattr(control, kind)) for kind in ("ihave", "iwant", "graft", "prune"))
        ids = sum(len(one.messageIDs) for one in (*control.ihave, *control.iwant))
        if entries > MOST_CONTROLS or ids > MOST_IDS:
            wrong = RemoteProtocolError("oversize", f"{entries} control messages, {ids} ids")
            self._door.judge.reject(wrong, str(sender_peer_id))
            return
        await super().handle_rpc(self._heard(control), sender_peer_id)

    def _heard(self, control: Any) -> Any:
        """What is acted on: all that there is in gossipsub 1.1, but for peers to exchange."""
        kept = rpc_pb2.RPC()
        for kind in ("ihave", "graft", "prune"):
            getattr(kept.control, kind).extend(one for one in getattr(control, kind) if one.topicID in self.mesh)
        for prune in kept.control.prune:
            del prune.peers[:]
        if wanted := list(self._to_answer(one for iwant in control.iwant for one in iwant.messageIDs)):
            kept.control.iwant.add(messageIDs=wanted)
        return kept

    def _to_answer(self, wanted: Iterable[bytes]) -> Iterator[bytes]:
        """Each id once, as long as there is room in an answer."""
        left = MOST_ANSWERED_BYTES
        for name in dict.fromkeys(wanted):
            message = self.mcache.get(name)
            left -= 0 if message is None else message.ByteSize()
            if message is not None and left >= 0:
                yield name


class Outbox(PriorityQueue):  # type: ignore[misc]
    """What waits for one peer, with a bound in bytes.

    Upstream: 32 messages, and no argument says otherwise; each may have a megabyte.
    """

    def __init__(self, before: Any) -> None:
        super().__init__(OUTBOX)
        self._priority, self._non_priority = before._priority, before._non_priority
        self._bytes = sum(rpc.ByteSize() for rpc in (*self._priority, *self._non_priority))

    def push(self, rpc: Any, priority: bool = False) -> bool:
        size = rpc.ByteSize()
        if self._bytes + size > OUTBOX_BYTES or not super().push(rpc, priority):
            return False
        self._bytes += size
        return True

    def pop(self) -> Any:
        rpc = super().pop()
        if rpc is not None:
            self._bytes -= rpc.ByteSize()
        return rpc


def _ignore(*anything: object) -> bool:
    """Addresses of a sender, signed by it. Upstream: as many as fit are kept, each compared with all before it, so that
    a megabyte of them stops everything for minutes. We know addresses from presences.
    """
    return True


#: Taken by name there.
pubsub.maybe_consume_signed_record = gossipsub.maybe_consume_signed_record = _ignore

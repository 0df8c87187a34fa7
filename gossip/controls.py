"""What is heard of gossipsub's control messages, and what waits to be sent: bounded, as a small one may ask for much.
Mends of py-libp2p 0.8.1, as those of gossip/overrides.py.
"""

import time
from collections.abc import Iterable, Iterator
from typing import Any

from libp2p.pubsub import gossipsub, pubsub
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.rpc_queue import PriorityQueue, RpcQueue

from gossip.gate import Door
from protocol.errors import RemoteProtocolError

#: Control messages of one RPC: a peer has one of each kind for each topic, and a swarm is one topic.
MOST_CONTROLS = 64
#: Message ids in one RPC, what other libraries allow: more than is gossiped at full rate while it is on offer.
MOST_IDS = 5000
#: Answered to one IWANT; what is more comes by sync.
MOST_ANSWERED_BYTES = 1024 * 1024
#: Of a message besides its data: a topic, a sender with its key and signature, a number.
MOST_ENVELOPE_BYTES = 1024
#: For so long a peer may keep us from grafting it; gossipsub's own is a minute.
MOST_BACKOFF_SECONDS = 600
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
            prune.backoff = min(prune.backoff, MOST_BACKOFF_SECONDS)
        if wanted := list(self._to_answer(one for iwant in control.iwant for one in iwant.messageIDs)):
            kept.control.iwant.add(messageIDs=wanted)
        return kept

    async def publish(self, msg_forwarder: Any, pubsub_msg: Any) -> None:
        """Upstream: the time of each message is kept for ever, for adaptive gossip, which is not in use."""
        await super().publish(msg_forwarder, pubsub_msg)
        self.recent_message_deliveries.clear()

    def remove_peer(self, peer_id: Any) -> None:
        """Upstream: who sent a PRUNE is remembered until it is looked at again, which may be never."""
        super().remove_peer(peer_id)
        now = int(time.time())
        for topic, until in self.back_off.items():
            self.back_off[topic] = {peer: end for peer, end in until.items() if end > now}

    def _check_equivocation(self, msg: Any) -> bool:
        """Upstream: a message whose sender and number were seen with another content is delivered here and not passed
        on, so whoever wraps others' records so keeps them from going further; and 1,000 whole messages are kept. Ours
        are named by content, and who wrapped them does not matter.
        """
        return True

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

    def __init__(self) -> None:
        super().__init__(OUTBOX)
        self._bytes = 0

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


class OutboxQueue(RpcQueue):  # type: ignore[misc]
    """Has the bound from its first message on."""

    def __init__(self) -> None:
        super().__init__()
        self._queue = Outbox()


def check_envelope(message: Any) -> None:
    """Of a gossip message what is not its data. Raises RemoteProtocolError."""
    if len(message.topicIDs) != 1:
        raise RemoteProtocolError("malformed", f"a message of {len(message.topicIDs)} topics")
    envelope = message.ByteSize() - len(message.data)
    if envelope > MOST_ENVELOPE_BYTES:
        raise RemoteProtocolError("oversize", f"{envelope} bytes around a message")


def _ignore(*anything: object) -> bool:
    """Addresses of a sender, signed by it. Upstream: as many as fit are kept, each compared with all before it, so that
    a megabyte of them stops everything for minutes. We know addresses from presences.
    """
    return True


#: Taken by name there.
pubsub.RpcQueue = OutboxQueue
pubsub.maybe_consume_signed_record = gossipsub.maybe_consume_signed_record = _ignore

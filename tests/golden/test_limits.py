"""Limits that docs/protocol.md and docs/operations.md say in words: who changes one in the code changes it there."""

import re
from pathlib import Path

import pytest
from libp2p.stream_muxer.yamux import yamux

from gossip import (
    alive,
    book,
    circuit,
    controls,
    fetch,
    gate,
    lan,
    libp2p_transport,
    live,
    overrides,
    present,
    punch,
    reach,
    relay,
    slots,
    swarm,
    transport,
    wire,
)
from node import journal
from node import records as kept
from protocol import codec, diffs, manifest, zstd

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "protocol.md").read_text()
#: Without examples in bytes, and the tables of bounds and fields that tests/golden/test_golden.py looks at.
PROSE = re.sub(r"(?ms)^```.*?^```|^\| `.*?$", "", PAGE)
#: Numbers in the prose that are no limits.
NAMES = ("(a /64 of IPv6)", "SHA-256", "‖ 00 ‖", "joined by 00", "32 bytes stand", "circuit v2", "libp2p")


def one_line(text: str) -> str:
    """Cells of a table that go on in the next row joined too."""
    return " ".join(text.replace(" |\n| | ", " ").split())


def kib(size: int) -> str:
    assert size % 1024 == 0
    return f"{size >> 10} KiB"


def mib(size: int) -> str:
    assert size % 1024**2 == 0
    return f"{size >> 20} MiB"


def minutes(seconds: float) -> str:
    return f"{seconds / 60:g} minutes"


SAID = {
    "transport": (
        f"at most {libp2p_transport.MAX_CONNECTIONS} connections, {gate.MOST_OF_A_HOST} of one IP address",
        f"{overrides.MOST_STREAMS} streams at a time of one peer",
        f"a window of at most {mib(overrides.WINDOW_BYTES)} ({kib(yamux.DEFAULT_WINDOW_SIZE)} at first",
        f"data frames of at most {mib(yamux.MAX_WINDOW_SIZE)}",
        f"more than {mib(overrides.MOST_WAITING_BYTES)} wait to be read",
        f"more than {mib(overrides.MOST_WAITING_OF_ALL)} wait of all peers",
        f"service `{lan.SERVICE}`",
        f"`a0` to `a{lan.MOST_ADDRESSES - 1}`",
    ),
    "programs": (
        f"at most {manifest.MAX_PATH_BYTES} bytes, of parts",
        f"at most {manifest.MAX_FILES:,} files and {mib(manifest.MAX_PROGRAM_BYTES)}",
    ),
    "records": (
        f"at most {codec.MAX_ENVELOPE_BYTES:,} bytes: version (1)",
        f"more than {minutes(gate.AHEAD_MS / 1000)} ahead of the reader's clock",
        f"are {minutes(gate.STALE_MS / 1000)} old, or larger than {kib(gate.MAX_EPHEMERAL_BYTES)}",
        f"A window of zstd is at most {mib(zstd.MAX_WINDOW_BYTES)}",
        f"an asset that comes by diffs at most {kib(diffs.MAX_ASSET_BYTES)}",
        f"for {live.CLAIM_BUDGETS:g} budgets and {live.CLAIM_GRACE_MS / 1000:g} s",
    ),
    "gossip": (
        f"the whole swarm sends {live.RESULTS_A_SECOND:g} a second",
        f"{gate.STRIKES} wrong messages and it hears no more of the forwarder for {minutes(gate.SHUT_OUT_MS / 1000)}",
        f"streams beyond the {overrides.MOST_STREAMS}, and more than the windows allow",
        f"counts as {gate.STRIKES // swarm.MOST_FAILED}. They are forgotten one by one, all within six hours",
        f"more than {controls.MOST_CONTROLS} control messages or {controls.MOST_IDS:,} message ids at once",
        f"up to {mib(controls.MOST_ANSWERED_BYTES)}. Signed peer records",
        f"at most {controls.OUTBOX} messages and {mib(controls.OUTBOX_BYTES)}",
        f"more than {gate.FORWARDED_A_SECOND + gate.FLOOD_A_SECOND:,.0f} a second is parted from",
        f"at {gate.FORWARDED_A_SECOND + 2 * gate.FLOOD_A_SECOND:,.0f} after a minute",
        f"more than {kib(controls.MOST_ENVELOPE_BYTES)} around a record",
        f"{gate.STRIKES_OF_A_HOST} wrong things within {minutes(gate.SHUT_OUT_MS / 1000)} by all peers of",
        f"no new connection from there is taken for {minutes(gate.SHUT_OUT_MS / 1000)}",
        f"Of one author {gate.MESSAGES_A_SECOND:g} new messages a second are forwarded ({gate.BURST:,.0f} at once",
        f"of one forwarder {gate.FORWARDED_A_SECOND:g} ({gate.FORWARDED_BURST:,.0f})",
        f"max({live.PRESENCE_SECONDS:g} s, number of peers known × {1 / live.PRESENCES_A_SECOND:g} s)",
        f"{live.MOST_PRESENCE_SECONDS:g} s at most",
        f"more than {live.CLAIMS_A_SECOND:g} nodes for each second of a budget",
        f"more than {journal.MAX_BYTES >> 30} GiB of records, or {mib(journal.AUTHOR_BYTES)} of one author",
        f"more than {kept.MAX_TIERS:,} tiers, or of more than the {kept.TIERS_AN_AUTHOR} of an author",
    ),
    "streams": (
        f"at most {kib(wire.MAX_FRAME_BYTES)}, one of alive and the question of fetch {kib(wire.SHORT_BYTES)},",
        f"and takes at most {wire.FRAME_SECONDS:g} s",
        f"frames of at most {kib(wire.PAGE_BYTES)} that",
        f"asset that is fetched has at most {mib(fetch.MAX_ASSET_BYTES)}; a node asks {fetch.MOST_ASKED} peers",
        f"at most {present.MOST_PASSED_ON}; claims in force",
        f'`["alive"]` every {alive.SAY_SECONDS:g} s',
        f"does so again {present.SETTLED_SECONDS:g} s later",
        f"says {kib(present.CLAIMS_BYTES)} and one more at most, of presences {kib(present.PRESENCES_BYTES)} and one",
        f"read are {present.MOST_PASSED_ON} presences (of who asks, one) and {present.MOST_CLAIMS} claims",
        f"Of one peer {present.ASKED_AT_ONCE:g} such questions are answered at once",
        f"and then one each {1 / present.ASKED_A_SECOND:g} s",
        f"for {alive.SILENT_SECONDS:g} s is parted from",
        f"fails {swarm.MOST_FAILED} syncs in a row",
        f"A sync that takes {minutes(swarm.SESSION_SECONDS)} is cut off",
        f"fewer than {swarm.LEAST_RECORDS} new records",
        f"fewer than {swarm.LEAST_RECORDS} records moved",
    ),
    "relays": (
        f"at most {circuit.MOST_MESSAGE_BYTES:,} bytes; each is waited for {circuit.ANSWER_SECONDS:g} s",
        f"Of {punch.MOST_ADDRESSES} addresses at most",
        f"within {1000 * punch.PAUSE_SECONDS:g} ms, {punch.MOST_TRIES} tries or {punch.PUNCH_SECONDS:g} s at most",
        f"{relay.MOST_RESERVATIONS} reservations of {relay.RESERVATION_SECONDS:,} s",
        f"{relay.MOST_CIRCUITS} circuits, {relay.CIRCUITS_OF_A_PEER} with one peer at an end",
        f"{relay.CIRCUIT_BYTES:,} bytes of a circuit, both ways together, and {relay.CIRCUIT_SECONDS} s",
        f"({reach.RELAYS} at most, renewed after {reach.RENEW_SECONDS:,.0f} s",
        f"asked for each {reach.ASK_AGAIN_SECONDS:g} s until",
        f"would have more than {transport.MOST_ADDRESS_BYTES} bytes",
        f"{reach.CALLS_OF_A_RELAY} at a time by one R, and {reach.RELAYED_BURST:g} at once",
        f"with one more each {1 / reach.RELAYED_A_SECOND:g} s; 1 at a time of one A",
        f"and {reach.CALLED_BURST:g} at once with one more each {1 / reach.CALLED_A_SECOND:g} s",
        f"{reach.AGREE_SECONDS:g} s from its OK to the agreement",
        f"no further call of B for {reach.NO_WAY_SECONDS:,.0f} s",
    ),
    "sync": (
        f"answers {slots.MOST_SESSIONS} at a time, one of each peer and {slots.SESSIONS_OF_A_HOST} of one IP address",
        f"A session is over after {minutes(swarm.SESSION_SECONDS)}",
    ),
}


@pytest.mark.parametrize("said", [one for some in SAID.values() for one in some])
def test_the_page_says_what_is_held_to(said: str) -> None:
    assert said in one_line(PAGE)


OPERATIONS = (
    f"at most {libp2p_transport.MAX_CONNECTIONS} connections, and {gate.MOST_OF_A_HOST} of one IP address",
    f"until it has {book.ENOUGH} peers",
    f"above {book.PLENTY} it gives up those that it dialed itself, down to {book.ENOUGH}",
    f"sent {gate.STRIKES} wrong messages is shut out for {minutes(gate.SHUT_OUT_MS / 1000)}",
    f"keeps {journal.MAX_BYTES >> 30} GiB of records at most, {mib(journal.AUTHOR_BYTES)} of one author",
    f"{relay.MOST_RESERVATIONS} reservations and {relay.MOST_CIRCUITS} circuits of its own swarm",
    f"each for {relay.CIRCUIT_SECONDS} seconds and {kib(relay.CIRCUIT_BYTES)} at most",
)


@pytest.mark.parametrize("said", OPERATIONS)
def test_operators_are_told_what_is_held_to(said: str) -> None:
    assert said in one_line((DOCS / "operations.md").read_text())


@pytest.mark.parametrize("section", ["Gossip", "Streams", "Relays"])
def test_the_page_says_no_number_that_is_not_held_against_the_code(section: str) -> None:
    """What is left when all of the above is taken away are names of things, and no limits."""
    rest = PROSE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    rest = one_line(re.sub(r"(?m)^ {4}.*$", "", rest))
    for one in (*(said for some in SAID.values() for said in some), *NAMES):
        rest = rest.replace(one, "")
    assert re.findall(r"\S*\d\S*", re.sub(r"`[^`]*`", "", rest)) == []

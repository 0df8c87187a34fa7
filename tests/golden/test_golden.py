"""What was said once can be read for ever, and docs/protocol.md says it as it is."""

import json
import re
from dataclasses import fields, replace
from hashlib import sha256
from pathlib import Path

import pytest
from libp2p.pubsub.mcache import MessageCache

from gossip import alive, fetch, hello, present, sync
from protocol import codec, reconcile, statements
from protocol.diffs import apply_diff, decompress
from protocol.records import Kind, Record, open_record
from tests.golden import samples

HERE = Path(__file__).parent
GOLDEN: dict[str, str] = json.loads((HERE / "v1.json").read_text())
PAGE = (HERE.parents[1] / "docs" / "protocol.md").read_text()
#: As an earlier version said it.
BEFORE = ["claim without a summary"]
KINDS = ["result", "note", "verdict", "presence", "claim"]


def test_what_is_said_today_is_what_was_said() -> None:
    assert samples.everything() == {name: said for name, said in GOLDEN.items() if name not in BEFORE}


@pytest.mark.parametrize("kind", KINDS)
def test_a_record_of_then_opens_today(kind: str) -> None:
    record = open_record(bytes.fromhex(GOLDEN[kind]), samples.SWARM)
    assert record.kind == Kind[kind.upper()]
    assert record.statement == samples.statements()[kind]
    assert record.wire.hex() == GOLDEN[kind]
    assert record.id == GOLDEN[f"{kind} id"]


def test_a_claim_of_before_it_had_a_summary_opens_today() -> None:
    record = open_record(bytes.fromhex(GOLDEN["claim without a summary"]), samples.SWARM)
    claim = samples.statements()["claim"]
    assert isinstance(claim, statements.Claim)
    assert record.statement == replace(claim, summary="")


def test_the_diff_of_then_applies_today() -> None:
    assert apply_diff(samples.FILES["train.py"], decompress(samples.DIFF), "train.py") == samples.EDIT


@pytest.mark.parametrize(("name", "shown"), re.findall(r"^```(?:text )?golden ([^\n]+)\n(.*?)^```", PAGE, re.M | re.S))
def test_the_bytes_on_the_page_are_these(name: str, shown: str) -> None:
    assert "".join(line.split("#")[0].strip() for line in shown.splitlines()) == GOLDEN[name]


def test_the_page_shows_bytes_of_all_sorts() -> None:
    shown = re.findall(r"^```(?:text )?golden ([^\n]+)$", PAGE, re.M)
    sessions = {name for name in GOLDEN if name.startswith("sync ")}
    assert {"note", "manifest", "message id", "frame hello", *sessions} <= set(shown)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_has_every_field(kind: str) -> None:
    section = PAGE.split(f"### {kind.capitalize()}")[1].split("\n#")[0]
    listed = re.findall(r"^\| `(\w+)` ", section, re.M)
    assert listed == [field.name for field in fields(type(samples.statements()[kind]))]


def test_the_page_names_every_protocol_and_bound() -> None:
    for protocol in (hello.HELLO, hello.PROGRAM, fetch.FETCH, present.PRESENT, sync.SYNC, alive.ALIVE):
        assert f"`{protocol}`" in PAGE
    for module in (codec, statements, reconcile):
        for name in [name for name in vars(module) if name.startswith(("MAX_", "MOST_", "LEAF_"))]:
            assert f"`{name}` {getattr(module, name):,}".replace(",", " ") in PAGE.replace(",", " "), name


def test_what_a_node_offers_by_gossip_is_named_so() -> None:
    cache = MessageCache(window_size=1, history_size=1)
    cache.put(samples.message())
    assert [name.hex() for name in cache.window(samples.message().topicIDs[0])] == [GOLDEN["message id"]]
    assert sha256(samples.message().topicIDs[0].encode() + b"\0" + bytes.fromhex(GOLDEN["note"])).hexdigest() == (
        GOLDEN["message id"]
    )


def test_an_unknown_kind_is_carried() -> None:
    said = samples.records()["note"]
    strange = Record(200, said.swarm_id, said.author, b"anything", b"")
    signed = Record(200, said.swarm_id, said.author, b"anything", samples.ALICE.sign(strange.signed_bytes))
    assert open_record(signed.wire, samples.SWARM).statement is None

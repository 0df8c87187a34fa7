"""All metrics of a node: ``METRICS`` is the whole list, and nothing else is exported.

    python -m node.metric_names     prints docs/metrics.md

Every label has a bounded set of values, also where peers choose them. What is meant to be added up over nodes
counts what this node did; what is read from the ledger is the same on all nodes that are in step.
"""

from dataclasses import dataclass

PREFIX = "waggle_"


@dataclass(frozen=True)
class Metric:
    """``name`` without the prefix; ``unit`` of the value, "" for a count."""

    name: str
    kind: str
    unit: str
    labels: tuple[str, ...]
    meaning: str


def _metric(kind: str, name: str, meaning: str, unit: str = "", labels: str = "") -> Metric:
    return Metric(name, kind, unit, tuple(labels.split()), meaning)


#: A metric of the program has the program's unit and direction: for ``val_bpb``, bits/byte, and less is better.
OWN = "the program's"

METRICS = (
    # what this node did, since it started
    _metric("counter", "experiments_total", "Experiments that this node has run", labels="origin status"),
    _metric(
        "counter", "experiment_seconds_total", "Time that they took: cpu and wall of the training, examination, and "
        "overhead, which is neither", "seconds", "clock",
    ),
    _metric(
        "counter", "limits_total", "Experiments that were ended at a limit of the budget or of the sandbox",
        labels="limit",
    ),
    _metric("counter", "replications_total", "Replications of candidates that this node has run"),
    _metric(
        "counter", "rebases_total", "Wins and near misses that this node tried to carry over to another base",
        labels="outcome",
    ),
    _metric(
        "counter", "proposals_total", "Times that the proposer was asked, by what came of it: an edit, one by local "
        "search because it could not be had or had none (fallback), none, or an error of its own, which the log has",
        labels="outcome",
    ),
    _metric("histogram", "proposer_seconds", "Time that the proposer took", "seconds"),
    _metric(
        "counter", "duplicates_total", "Proposals that were sent back or dropped because somebody has run them, or "
        "runs them now", labels="kind",
    ),
    _metric(
        "counter", "ideas_total", "Edits thought of ahead, by what became of them when their turn came: run, carried "
        "over to a base that had moved, or dropped", labels="outcome",
    ),
    _metric(
        "counter", "proposer_tokens_total", "Tokens of a language model, cache reads apart", "tokens", "kind"
    ),
    _metric("counter", "idle_seconds_total", "Time of lanes without an experiment, together", "seconds", "cause"),
    # what it heard and said, since it started
    _metric("counter", "rejected_total", "What peers sent wrong, by reason", labels="reason"),
    _metric("counter", "published_total", "Messages that this node gave to gossip"),
    _metric("counter", "records_received_total", "New records, by the way they came", labels="way"),
    _metric(
        "histogram", "gossip_delay_seconds", "From the making of a record to its arrival by gossip, by both clocks",
        "seconds",
    ),
    _metric("counter", "sync_rounds_total", "Rounds of sync, by who began them and how they ended",
            labels="side outcome"),
    _metric("counter", "sync_bytes_total", "Bytes of frames of sync", "bytes", "direction"),
    # the best, by the ledger
    _metric("gauge", "global_best", "The best that two authors share or that I ran", OWN),
    _metric("gauge", "global_best_error", "Its standard error", OWN),
    _metric("gauge", "global_best_created_seconds", "When it was first reported, since 1970", "seconds"),
    _metric("gauge", "incumbent", "The best accepted candidate of a tier", OWN, "tier"),
    _metric("gauge", "incumbent_error", "Its standard error", OWN, "tier"),
    _metric("gauge", "incumbent_created_seconds", "When it was first reported, since 1970", "seconds", "tier"),
    _metric("gauge", "incumbent_runs", "Runs that it is the mean of", labels="tier"),
    _metric("gauge", "proven_best", "The best proven candidate of a tier, by its confirmations", OWN, "tier"),
    _metric("gauge", "proven_best_error", "Its standard error", OWN, "tier"),
    _metric("gauge", "holdout_gap", "How much worse an incumbent's hold-out is than its metric", OWN, "tier"),
    _metric("gauge", "noise", "Standard deviation of honest runs of one candidate", OWN, "tier"),
    # all that is known, by the ledger
    _metric("gauge", "swarm_experiments", "Results in the ledger", labels="status"),
    _metric("gauge", "swarm_experiments_by_origin", "Results in the ledger", labels="origin"),
    _metric("gauge", "swarm_edits", "New edits by proposers in the ledger"),
    _metric("gauge", "swarm_duplicates", "Of these, assets that had been a new edit in their tier before"),
    _metric("gauge", "candidates", "Candidates of this tier that reached a standing", labels="standing"),
    _metric(
        "gauge", "arm_candidates", "Candidates of this node by how it came to them, and how many reached a standing",
        labels="origin standing",
    ),
    _metric("gauge", "author_experiments", "Results of the authors who found and told most", labels="peer"),
    _metric("gauge", "author_accepted", "Accepted candidates of this tier that they proposed", labels="peer"),
    _metric("gauge", "author_latest", "What the last experiment that they ran in this tier came to", OWN, "peer"),
    _metric("gauge", "records", "Records in the ledger"),
    _metric("gauge", "journal_bytes", "Bytes of all records in the journal", "bytes"),
    # how this node stands
    _metric("gauge", "peers", "Peers connected now"),
    _metric("gauge", "mesh_peers", "Peers to which gossip is passed on at once"),
    _metric("gauge", "nodes", "Nodes of the swarm heard lately, this one among them", labels="tier"),
    _metric("gauge", "runs_peers_code", "1 where peers' code may run here: a sandbox holds, or none was asked for"),
    _metric("gauge", "experiment_fraction", "Part of its budget that a running one has used, on average", "ratio"),
    _metric("gauge", "paused", "1 while the operator wants no new experiments"),
    _metric("gauge", "stopped", "1 when no more experiments are to be done"),
    _metric("gauge", "start_time_seconds", "When this node started, since 1970", "seconds"),
    _metric("gauge", "build_info", "Always 1: what runs here", labels="version program swarm tier sandbox"),
)  # fmt: skip

_UPGRADE = "a node of another version, or a broken or hostile one: upgrade what is yours"
_LOOK = "nothing: whoever goes on is parted from. The log, at `--verbose`, says who it was"

#: Reasons of ``rejected_total``: what happened, and what an operator should do.
REJECTIONS = {
    "malformed": ("bytes that are not what docs/protocol.md says, or a field out of its bound", _UPGRADE),
    "oversize": ("more bytes than there may be", _UPGRADE),
    "signature": ("a record that its author has not signed: garbled on the way, or forged", _LOOK),
    "swarm": (
        "a record, or a peer, of another swarm",
        "look whether a node of yours has another program, or another version of waggle that makes it another swarm",
    ),
    "commit": ("a result whose commit does not follow from parent and asset, or an asset that is not its", _LOOK),
    "seed": ("a result of a run with another seed than the prescribed one, such as a chosen one", _LOOK),
    "diff": ("a diff that does not fit its base, or changes more than the asset", _LOOK),
    "future": (
        "made more than ten minutes after our clock, or a presence or claim that is old news; it is no fault",
        "where it goes on: set the clock, yours first (NTP)",
    ),
    "program": ("a program whose hash is not the swarm's id", "join by another peer"),
    "sync": ("an exchange of records that was broken, or brought what was not asked for", _UPGRADE),
    "stream": ("a stream of a peer that is here broke or was silent; most often the network's fault", "nothing"),
    "quota": (
        "more in a short time than one author or peer may send; what is right in it comes by sync",
        "nothing in a burst; who floods the swarm for long is parted from: `--allow` or a swarm key keeps him out",
    ),
    "full": (
        "a record beyond what a journal keeps, of one author or of all, or one of too many tiers",
        "see Limits in docs/operations.md; where one author has filled his share, look what he runs",
    ),
    "key": (
        "a connection under another swarm key, or none",
        "give your own nodes the same `--swarm-key`; of a node in the clear, scanners of ports come this far",
    ),
    "stranger": ("a connection of a peer that is not allowed here", "`--allow` its id, if it is one of yours"),
    "barred": (
        "a connection from an IP address whose peers sent too much that is wrong",
        "nothing; the reasons beside it say what was wrong",
    ),
    "crowd": (
        "one connection too many of one IP address, or one stream too many of one peer",
        "nothing, unless more than 64 nodes of yours share an address: let some of them be dialed by others",
    ),
    "relay": ("a peer asked to be put through that is not of the swarm, or has enough circuits", "nothing"),
    "call": (
        "a relay put somebody through who calls too often, or that was never asked to be our relay",
        "nothing in a burst; `--announce` ends all such calls where a node can be dialed",
    ),
    "frame": (
        "a child process of our own said what is no frame; its run fails, and nothing is counted here", "nothing",
    ),
    "other": ("a reason that this list lacks", "a bug: please report it"),
}  # fmt: skip


def table() -> str:
    """The metrics as a page of the documentation."""
    rows = (
        f"| `{PREFIX}{one.name}` | {one.kind} | {one.unit} | {', '.join(one.labels)} | {one.meaning} |"
        for one in METRICS
    )
    return "\n".join(
        (
            "# Metrics",
            "",
            "What a node says at `/metrics`. Counters count since its process started; gauges show its ledger and",
            "itself at this moment. This page is made by `python -m node.metric_names`.",
            "",
            "| metric | type | unit | labels | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "## What peers sent wrong",
            "",
            f"The reasons of `{PREFIX}rejected_total`. Some of each are no cause for alarm: a node stops what is",
            "wrong, and parts from a peer that goes on.",
            "",
            "| reason | what happened | what to do |",
            "|---|---|---|",
            *(f"| `{reason}` | {happened} | {advice} |" for reason, (happened, advice) in REJECTIONS.items()),
            "",
        )
    )


if __name__ == "__main__":
    print(table(), end="")

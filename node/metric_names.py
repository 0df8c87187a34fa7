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
    _metric("counter", "rebases_total", "Wins that this node tried to carry over to another base", labels="outcome"),
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
        )
    )


if __name__ == "__main__":
    print(table(), end="")

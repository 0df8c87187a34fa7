"""The dashboard, made with Grafana's own typed builders, so that what is made follows Grafana's schema.

    python -m deploy.grafana.build      writes deploy/grafana/dashboards/waggledance.json

Headlines come from one's own node (own="yes"); the rest is of all nodes that let themselves be scraped.
"""

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    LineInterpolation,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
    VizOrientation,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Threshold,
    ThresholdsMode,
)

FILE = Path(__file__).parent / "dashboards" / "waggledance.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
OWN = 'own="yes"'
#: A grid has 24 columns.
WIDTH, HEIGHT = 24, 8
#: A peer id begins like all others do: its end tells it apart.
SHORT_NODE = '"short", "…$1", "node", ".*(.{6})"'
SHORT_PEER = '"short", "…$1", "peer", ".*(.{6})"'
GREEN, BLUE, ORANGE, RED = "#56A64B", "#3274D9", "#FF9830", "#E02F44"


def query(expr: str, legend: str = "", *, instant: bool = False, form: str = "") -> prometheus.Dataquery:
    made = prometheus.Dataquery().expr(expr).legend_format(legend).datasource(SOURCE)
    if form:
        made = made.format(form)  # type: ignore[arg-type]
    return made.instant() if instant else made.range()


def number(title: str, about: str, expr: str, *, unit: str = "short", legend: str = "", width: int = 4) -> stat.Panel:
    """One figure, with its history behind it."""
    return (
        stat.Panel().title(title).description(about).datasource(SOURCE).span(width).height(4).unit(unit)
        .graph_mode(BigValueGraphMode.AREA).color_mode(BigValueColorMode.VALUE)
        .thresholds(_one_colour(GREEN)).with_target(query(expr, legend))
    )  # fmt: skip


def chart(
    title: str, about: str, *queries: tuple[str, str], unit: str = "short", width: int = 8, stacked: bool = False
) -> timeseries.Panel:
    """Lines over time, (expression, legend) each."""
    panel = (
        timeseries.Panel().title(title).description(about).datasource(SOURCE).span(width).height(HEIGHT).unit(unit)
        .line_width(2).fill_opacity(25 if stacked else 6).show_points(VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions().show_legend(True).display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )  # fmt: skip
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    for expr, legend in queries:
        panel = panel.with_target(query(expr, legend))
    return panel


def bars(title: str, about: str, expr: str, legend: str, *, unit: str = "short", width: int = 8) -> bargauge.Panel:
    """A bar for each series, as it stands now."""
    return (
        bargauge.Panel().title(title).description(about).datasource(SOURCE).span(width).height(HEIGHT).unit(unit)
        .orientation(VizOrientation.HORIZONTAL).min(0).thresholds(_one_colour(BLUE))
        .with_target(query(expr, legend, instant=True))
    )  # fmt: skip


def _one_colour(colour: str) -> dashboard.ThresholdsConfig:
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps([Threshold(value=None, color=colour)])


def _from(bound: float, below: str, above: str) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color=below), Threshold(value=bound, color=above)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _fixed(colour: str) -> DynamicConfigValue:
    return DynamicConfigValue("color", {"mode": FieldColorModeId.FIXED.value, "fixedColor": colour})


def falling_best() -> timeseries.Panel:
    """The staircase of the best, what is proven of it, and a dot for each experiment."""
    stairs = [DynamicConfigValue("custom.lineWidth", 3)]
    dots = [
        DynamicConfigValue("custom.drawStyle", GraphDrawStyle.POINTS.value),
        DynamicConfigValue("custom.showPoints", VisibilityMode.ALWAYS.value),
        DynamicConfigValue("custom.pointSize", 5),
    ]
    latest = f"waggle_author_latest{{{OWN}}}"
    # where it is another than a step before: one dot for each run, however fine the steps
    new = f"{latest} unless ({latest} == {latest} offset $__interval)"
    edge = [DynamicConfigValue("custom.lineWidth", 0), _fixed(GREEN)]
    return (
        chart(
            "The best falls",
            "By this node's own ledger: the best that two authors share or that it ran, with its 95 % interval; what "
            "is proven of it; and a dot for each experiment of this node's tier, by who ran it (of the sixteen authors "
            "who did most; in steps longer than an experiment, for the last of each author).",
            (f"waggle_global_best{{{OWN}}}", "global best"),
            (f"waggle_global_best{{{OWN}}} + 1.96 * waggle_global_best_error{{{OWN}}}", "95 % high"),
            (f"waggle_global_best{{{OWN}}} - 1.96 * waggle_global_best_error{{{OWN}}}", "95 % low"),
            (f"waggle_proven_best{{{OWN}}}", "proven {{tier}}"),
            (f"label_replace({new}, {SHORT_PEER})", "run by {{short}}"),
            width=16,
        )
        .height(12).unit("none").decimals(4).fill_opacity(0).line_interpolation(LineInterpolation.STEP_AFTER)
        .override_by_name("global best", [*stairs, _fixed(GREEN)])
        .override_by_regexp("proven.*", [*stairs, _fixed(ORANGE)])
        .override_by_name("95 % high", [*edge, DynamicConfigValue("custom.fillBelowTo", "95 % low"),
                                        DynamicConfigValue("custom.fillOpacity", 12)])
        .override_by_name("95 % low", edge)
        .override_by_regexp("run by.*", dots)
    )  # fmt: skip


def headlines(board: dashboard.Dashboard) -> dashboard.Dashboard:
    return (
        board.with_row(dashboard.Row("The best"))
        .with_panel(number("Global best", "The best that two authors share or that this node ran.",
                           f"waggle_global_best{{{OWN}}}", unit="none").decimals(4))
        .with_panel(number("Proven", "The best proven candidate of this node's tiers, by its confirmations.",
                           f"waggle_proven_best{{{OWN}}}", unit="none", legend="{{tier}}").decimals(4))
        .with_panel(number("Age of the best", "Since it was first reported.",
                           f"time() - waggle_global_best_created_seconds{{{OWN}}}", unit="s"))
        .with_panel(number("Nodes", "Nodes of the swarm heard lately.", f"sum(waggle_nodes{{{OWN}}})"))
        .with_panel(number("Experiments", "Results in the ledger.", f"sum(waggle_swarm_experiments{{{OWN}}})"))
        .with_panel(number("Alerts", "Rules of deploy/prometheus/rules that fire now.",
                           'count(ALERTS{alertname=~"Waggle.*", alertstate="firing"}) or vector(0)')
                    .thresholds(_from(1, GREEN, RED)))
        .with_panel(falling_best())
        .with_panel(chart("Incumbents by tier", "What each tier searches from.",
                          (f"waggle_incumbent{{{OWN}}}", "{{tier}}"), unit="none")
                    .height(12).line_interpolation(LineInterpolation.STEP_AFTER))
    )  # fmt: skip


def work(board: dashboard.Dashboard) -> dashboard.Dashboard:
    rate = "sum by ({label}) (rate({name}[$__rate_interval]))"
    spent = rate.format(label="clock", name='waggle_experiment_seconds_total{clock!="cpu"}')
    idle = rate.format(label="cause", name="waggle_idle_seconds_total")
    return (
        board.with_row(dashboard.Row("The work"))
        .with_panel(bars("Who found what", "Accepted candidates of this node's tier, by who proposed them.",
                         f"label_replace(waggle_author_accepted{{{OWN}}}, {SHORT_PEER})", "{{short}}"))
        .with_panel(bars("Yield of each arm", "Share of the candidates of all nodes scraped that were accepted, by how "
                         "they came about.",
                         'sum by (origin) (waggle_arm_candidates{standing="accepted"}) / '
                         '(sum by (origin) (waggle_arm_candidates{standing="tried"}) > 0)', "{{origin}}",
                         unit="percentunit"))
        .with_panel(chart("Experiments an hour", "Of all nodes scraped, by how they ended.",
                          ("3600 * " + rate.format(label="status", name="waggle_experiments_total"), "{{status}}"),
                          stacked=True))
        .with_panel(chart("Where the time goes", "Lanes of all nodes scraped: seconds in a second.",
                          (spent, "{{clock}}"), (idle, "idle: {{cause}}"), stacked=True))
        .with_panel(chart("Hold-out gap", "How much worse the incumbents' hold-out is than their metric. One that "
                          "widens fits the validation data.", (f"waggle_holdout_gap{{{OWN}}}", "{{tier}}"),
                          unit="none"))
        .with_panel(chart("Noise", "Standard deviation of honest runs of one candidate.",
                          (f"waggle_noise{{{OWN}}}", "{{tier}}"), unit="none"))
    )  # fmt: skip


def cost(board: dashboard.Dashboard) -> dashboard.Dashboard:
    took = "sum by (le) (rate(waggle_proposer_seconds_bucket[$__rate_interval]))"
    return (
        board.with_row(dashboard.Row("Proposers and their cost"))
        .with_panel(chart("Proposals an hour", "By what came of them; fallback: local search stood in.",
                          ("3600 * sum by (outcome) (rate(waggle_proposals_total[$__rate_interval]))", "{{outcome}}")))
        .with_panel(chart("Ideas an hour", "Edits that were thought of ahead, by what became of them, and proposals "
                          "that repeated an experiment.",
                          ("3600 * sum by (outcome) (rate(waggle_ideas_total[$__rate_interval]))", "{{outcome}}"),
                          ("3600 * sum by (kind) (rate(waggle_duplicates_total[$__rate_interval]))",
                           "repeats what is {{kind}}")))
        .with_panel(chart("Time to think", "Of a proposal, on all nodes scraped.",
                          (f"histogram_quantile(0.5, {took})", "median"),
                          (f"histogram_quantile(0.9, {took})", "90 %"), unit="s"))
        .with_panel(chart("Tokens an hour", "Of language models, cache reads apart.",
                          ("3600 * sum by (kind) (rate(waggle_proposer_tokens_total[$__rate_interval]))", "{{kind}}"),
                          stacked=True))
    )  # fmt: skip


def health(board: dashboard.Dashboard) -> dashboard.Dashboard:
    delay = "sum by (le) (rate(waggle_gossip_delay_seconds_bucket[$__rate_interval]))"
    return (
        board.with_row(dashboard.Row("Gossip and sandbox"))
        .with_panel(chart("Peers", "Connected, and those that gossip is passed on to at once.",
                          (f"label_replace(waggle_peers, {SHORT_NODE})", "{{short}}"),
                          (f"label_replace(waggle_mesh_peers, {SHORT_NODE})", "{{short}} mesh")))
        .with_panel(chart("Gossip delay", "From the making of a record to its arrival.",
                          (f"histogram_quantile(0.5, {delay})", "median"),
                          (f"histogram_quantile(0.99, {delay})", "99 %"), unit="s"))
        .with_panel(chart("How records come", "New ones, on all nodes scraped. What gossip drops, sync brings.",
                          ("sum by (way) (rate(waggle_records_received_total[$__rate_interval]))", "{{way}}"),
                          stacked=True))
        .with_panel(chart("Sync rounds", "A minute, by who began them and how they ended.",
                          ("60 * sum by (side, outcome) (rate(waggle_sync_rounds_total[$__rate_interval]))",
                           "{{side}} {{outcome}}")))
        .with_panel(chart("Sync traffic", "Frames of sync.",
                          ("sum by (direction) (rate(waggle_sync_bytes_total[$__rate_interval]))", "{{direction}}"),
                          unit="Bps"))
        .with_panel(chart("Rejected", "A minute, by reason.",
                          ("60 * sum by (reason) (rate(waggle_rejected_total[$__rate_interval]))", "{{reason}}")))
        .with_panel(chart("Ended at a limit", "Experiments in an hour that went over what they were granted.",
                          ("3600 * sum by (limit) (rate(waggle_limits_total[$__rate_interval]))", "{{limit}}")))
        .with_panel(chart("Journal", "Bytes of records.",
                          (f"label_replace(waggle_journal_bytes, {SHORT_NODE})", "{{short}}"), unit="bytes"))
        .with_panel(_nodes())
    )  # fmt: skip


def _nodes() -> table.Panel:
    hidden = {"Time": True, "Value": True, "__name__": True, "job": True, "node": True, "own": True}
    return (
        table.Panel().title("Nodes scraped").description("What runs where, and in which sandbox.").datasource(SOURCE)
        .span(8).height(HEIGHT)
        .with_target(query(f"label_replace(waggle_build_info, {SHORT_NODE})", instant=True, form="table"))
        .with_transformation(DataTransformerConfig("organize", {"excludeByName": hidden}))
    )  # fmt: skip


def build() -> dashboard.Dashboard:
    board = (
        dashboard.Dashboard("waggledance").uid("waggledance").tags(["waggledance"]).refresh("30s").time("now-6h", "now")
        .timezone("browser").readonly()
        .description("A swarm of autonomous research nodes: the global best, and how it came about.")
    )  # fmt: skip
    for part in (headlines, work, cost, health):
        board = part(board)
    return board


def text() -> str:
    encoded: Any = JSONEncoder(sort_keys=True, indent=2).encode(build().build())
    return f"{encoded}\n"


if __name__ == "__main__":
    FILE.write_text(text())

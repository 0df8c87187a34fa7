"""The course of a swarm in one picture, after karpathy/autoresearch's progress.png.

Every run is a dot, a failed one a cross; the candidates that in turn became a tier's best accepted one are a
staircase, each with its summary. The scale is that of the steps: what is far worse is marked at the edge.
"""

import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from node.snapshot import Row
from protocol.statements import Status
from protocol.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (16.0, 9.0)  # inches
DPI = 110
#: Tiers with a staircase of their own, those with most runs first; more colours can't be told apart.
COLOURS = ("#1f9d55", "#2b6cb0", "#b7791f", "#805ad5", "#c53030")
GREY = "#b8bec7"
LABEL_LETTERS = 46
LABEL_POINTS = 8.5
#: Degrees, away from the staircase: up where it goes down.
LABEL_ANGLE = 30.0
#: Inches that a label needs: across its line, and along it for each letter.
LABEL_HEIGHT = 0.17
LABEL_PER_LETTER = 0.068
#: Under the axes, side by side: inside them it would hide steps.
LEGEND_COLUMNS = 7
#: More steps than this are no longer read.
MAX_LABELS = 40
#: What is promising is shown where it is so many of the steps' ranges away: a leap, and no slip or lie.
REACH = 20.0
#: Share of the steps' range that is shown beyond it, on the better side and on the worse.
BETTER, WORSE = 0.12, 0.45
#: Share of the width kept free beside the last steps, for their labels.
MARGIN = 0.16
#: Rows from which on markers are small.
MANY = 150
FONT = "DejaVu Sans"  # comes with matplotlib
KEPT = ("accepted", "proven")


@dataclass(frozen=True)
class Step:
    """A candidate that became its tier's best: at experiment ``place``, with the mean of its runs."""

    place: int
    value: float
    summary: str
    commit: str
    proven: bool


def draw(rows: Sequence[Row], *, metric_name: str, goal: str, unit: str, program: str) -> bytes:
    """``rows``, oldest first, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to load, and only reports need it
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    maximize = goal == "maximize"
    tiers = [tier for tier, _ in Counter(row.tier for row in rows).most_common(len(COLOURS))]
    courses = {tier: steps(rows, tier, maximize=maximize) for tier in tiers}
    low, high = limits(rows, courses, maximize=maximize)
    axes.set_ylim(low, high)
    axes.set_xlim(0.0, width(len(rows), courses))
    runs(axes, rows, low, high, maximize=maximize)
    for tier, colour in zip(tiers, COLOURS, strict=False):
        staircase(axes, courses[tier], len(rows), colour, tier if len(tiers) > 1 else "incumbent")
    named = [(step, colour) for tier, colour in zip(tiers, COLOURS, strict=False) for step in courses[tier][1:]]
    labels(axes, named, -LABEL_ANGLE if maximize else LABEL_ANGLE)
    words(axes, rows, courses, metric_name=metric_name, goal=goal, unit=unit, program=program)
    out = io.BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def steps(rows: Sequence[Row], tier: str, *, maximize: bool) -> list[Step]:
    """Genesis, and each accepted candidate that was better than all before, at the run that made it so."""
    sign = -1.0 if maximize else 1.0
    values: dict[str, list[float]] = {}
    found: dict[str, Step] = {}
    for place, row in enumerate(rows, start=1):
        if row.tier != tier or row.metric is None or not (row.parent is None or row.standing in KEPT):
            continue
        values.setdefault(row.commit, []).append(row.metric)
        if len(values[row.commit]) <= 2:  # its first replication, after which it could be accepted
            found[row.commit] = Step(place, 0.0, row.summary, row.commit, row.standing == "proven")
    course: list[Step] = []
    for step in sorted(found.values(), key=lambda step: step.place):
        runs = values[step.commit]
        value = math.fsum(runs) / len(runs)
        if not course or sign * value < sign * course[-1].value:
            course.append(Step(step.place, value, step.summary, step.commit, step.proven))
    return course


def limits(rows: Sequence[Row], courses: dict[str, list[Step]], *, maximize: bool) -> tuple[float, float]:
    """The range of the steps, and of what is promising within ``REACH`` of them, and room around it; where there are no
    steps, that of all runs.
    """
    values = [step.value for course in courses.values() for step in course]
    if len(values) < 2:
        values += [row.metric for row in rows if row.metric is not None]
    if not values:
        return 0.0, 1.0
    reach = REACH * ((max(values) - min(values)) or abs(max(values)))
    hopes = [row.metric for row in rows if row.standing == "promising" and row.metric is not None]
    values += [one for one in hopes if min(values) - reach <= one <= max(values) + reach]
    low, high = min(values), max(values)
    room = (high - low) or abs(high) * 0.1 or 1.0
    below, above = (WORSE, BETTER) if maximize else (BETTER, WORSE)
    return low - below * room, high + above * room


def width(count: int, courses: dict[str, list[Step]]) -> float:
    """Where the picture ends: with room for the labels of late steps."""
    end = max(10, count) + 0.5
    late = any(step.place > end * (1 - MARGIN) for course in courses.values() for step in course[1:])
    return end / (1 - MARGIN) if late else end * 1.02


def runs(axes: "Axes", rows: Sequence[Row], low: float, high: float, *, maximize: bool) -> None:
    """All runs; along the worse edge those without a metric, and triangles at the edges for what is off the scale."""
    bottom, top = low + 0.015 * (high - low), high - 0.015 * (high - low)
    edge = bottom if maximize else top
    scored = [(place, row.metric) for place, row in enumerate(rows, start=1) if row.metric is not None]
    unscored = [(place, row.status) for place, row in enumerate(rows, start=1) if row.metric is None]
    stopped = [place for place, status in unscored if status is Status.STOPPED_EARLY]
    failed = [place for place, status in unscored if status is not Status.STOPPED_EARLY]
    inside = [(place, metric) for place, metric in scored if low <= metric <= high]
    above = [place for place, metric in scored if metric > high]
    below = [place for place, metric in scored if metric < low]
    size = 26 if len(rows) < MANY else 14
    kinds: list[tuple[list[int], list[float], dict[str, Any]]] = [
        ([place for place, _ in inside], [metric for _, metric in inside],
         {"marker": "o", "color": GREY, "label": "run"}),
        (above, [top] * len(above), {"marker": "^", "color": GREY, "label": "run off the scale"}),
        (below, [bottom] * len(below), {"marker": "v", "color": GREY, "label": "_" if above else "run off the scale"}),
        (stopped, [edge] * len(stopped), {"marker": "|", "color": GREY, "label": "stopped early"}),
        (failed, [edge] * len(failed), {"marker": "x", "color": "#e05252", "linewidths": 1.0, "label": "failed"}),
    ]  # fmt: skip
    for places, heights, look in kinds:
        if places:
            axes.scatter(places, heights, s=size, zorder=2, **look)


def staircase(axes: "Axes", course: Sequence[Step], end: int, colour: str, name: str) -> None:
    if not course:
        return
    places = [*(step.place for step in course), max(end, course[-1].place + 1)]
    heights = [*(step.value for step in course), course[-1].value]
    axes.step(places, heights, where="post", color=colour, linewidth=2.0, zorder=3, label=name)
    axes.axhline(course[0].value, color=colour, linewidth=0.8, linestyle=(0, (4, 4)), zorder=1)
    axes.text(
        0.995, course[0].value, f"genesis {course[0].value:.4g}", transform=axes.get_yaxis_transform(),
        ha="right", va="bottom", fontsize=LABEL_POINTS, color=colour,
    )  # fmt: skip
    size = 60 if len(course) < MANY // 4 else 30
    for proven, name, face in ((True, "proven", colour), (False, "accepted", "white")):
        chosen = [step for step in course if step.proven == proven]
        if chosen:
            axes.scatter(
                [step.place for step in chosen], [step.value for step in chosen], s=size, zorder=4,
                linewidths=1.4, facecolor=face, edgecolor=colour, label=f"{name}, mean of its runs",
            )  # fmt: skip


def labels(axes: "Axes", course: Sequence[tuple[Step, str]], angle: float) -> None:
    """Summaries beside their steps, the later ones first where there is no room for all."""
    from matplotlib import patheffects

    drawn: list[tuple[float, float, float]] = []
    halo = [patheffects.withStroke(linewidth=2.5, foreground="white")]
    for step, colour in sorted(course, key=lambda item: item[0].place, reverse=True):
        text = printable(clipped(step.summary))
        place = along(axes, step, math.radians(angle), len(text))
        if len(drawn) == MAX_LABELS or any(overlap(place, other) for other in drawn):
            continue
        drawn.append(place)
        note = axes.annotate(
            text, (step.place, step.value), xytext=(5, math.copysign(6, angle)), textcoords="offset points",
            rotation=angle, rotation_mode="anchor", va="bottom" if angle > 0 else "top", color=colour,
            fontsize=LABEL_POINTS, path_effects=halo, zorder=5, parse_math=False,
        )  # fmt: skip
        note.set_in_layout(False)


def along(axes: "Axes", step: Step, angle: float, letters: int) -> tuple[float, float, float]:
    """Where a label lies in inches: across its lines, along them, and its length."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x = (step.place - left) / (right - left) * SIZE[0]
    y = (step.value - low) / (high - low) * SIZE[1]
    across = y * math.cos(angle) - x * math.sin(angle)
    return across, x * math.cos(angle) + y * math.sin(angle), letters * LABEL_PER_LETTER


def overlap(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    first, second = sorted((one, other), key=lambda label: label[1])
    return abs(one[0] - other[0]) < LABEL_HEIGHT and second[1] < first[1] + first[2]


def words(
    axes: "Axes", rows: Sequence[Row], courses: dict[str, list[Step]], *, metric_name: str, goal: str, unit: str,
    program: str,
) -> None:  # fmt: skip
    """Title, axes' names and legend."""
    kept = sum(max(0, len(course) - 1) for course in courses.values())
    peers = len({row.peer for row in rows})
    told = ", ".join(counted(*item) for item in ((len(rows), "experiment"), (kept, "step"), (peers, "node")))
    title = f"{program}: {told}" if rows else f"{program}: no experiments yet"
    axes.set_title(printable(one_line(title)), fontsize=15, loc="left", parse_math=False)
    better = "higher" if goal == "maximize" else "lower"
    name = f"{metric_name} ({unit})" if unit else metric_name
    axes.set_ylabel(printable(one_line(f"{name}, {better} is better")), fontsize=11, parse_math=False)
    axes.set_xlabel("experiment", fontsize=11)
    axes.grid(axis="y", color="#eceff3", zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    handles, names = axes.get_legend_handles_labels()
    if handles:
        unique = dict(zip(names, handles, strict=True))
        figure = axes.get_figure()
        assert figure is not None
        figure.legend(
            unique.values(), unique.keys(), loc="outside lower center", ncols=min(len(unique), LEGEND_COLUMNS),
            fontsize=9, frameon=False,
        )  # fmt: skip


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def clipped(text: str) -> str:
    return one_line(text, LABEL_LETTERS)


def printable(text: str) -> str:
    """``text`` with a question mark for what the font lacks: a peer may write in any script."""
    from matplotlib import font_manager

    font = font_manager.get_font(font_manager.findfont(FONT))
    return "".join(letter if font.get_char_index(ord(letter)) else "?" for letter in text)

"""What features come to under probes: a table of rows and protocols, a figure, and lines to paste.

The score of a row is the mean over folds, as it is published; beside it, of what the inner folds chose, stands the
score of all clips together with its bootstrap interval. Where settings were chosen on the clips that are scored
(`choi2017`) no interval is given: how far other clips would move the score is the smaller part of its error.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from audiocls.intervals import Interval
from audiocls.report.style import BLUE, GREY, INK, ORANGE, is_share, score_label, score_number, short_name, styled
from audiocls.report.tables import Cell, write_csv

Protocol = Literal["nested", "choi2017"]
MFCC, ALL, BEST = "MFCC", "all layers", "best subset"
BOTH = f"{MFCC} + {ALL}"
COLUMNS = (
    *("target", "features", "weights", "layers", "dimensions", "protocol", "score", "mean", "standard_deviation"),
    *("folds", "all_clips", "low", "high", "interval", "settings"),
)


@dataclass(frozen=True)
class TransferRow:
    """One set of features under one protocol.

    Attributes:
        target: name of the number that is told; "" for classes.
        features: what they are called.
        weights: "trained", "random 0" (and other seeds), or "" of features without a net.
        layers: of the net.
        n_dimensions: numbers a clip; None where folds differ in it.
        protocol: how settings were chosen.
        score: "accuracy" or "r2".
        scores: one a fold.
        pooled: over all clips that were scored; nan where there is no interval either.
        interval: 95 % bootstrap interval of `pooled`.
        drawn: what it is, `audiocls.intervals.Intervals.said`.
        settings: that were chosen, each with the number of folds, the commonest first.
    """

    target: str
    features: str
    weights: str
    layers: tuple[str, ...]
    n_dimensions: int | None
    protocol: Protocol
    score: str
    scores: list[float]
    pooled: float
    interval: Interval
    drawn: str
    settings: list[tuple[str, int]]

    @property
    def mean(self) -> float:
        """Over the folds."""
        return statistics.fmean(self.scores)

    @property
    def deviation(self) -> float:
        """Standard deviation over the folds, with n - 1; nan of a single one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else math.nan

    @property
    def name(self) -> str:
        """Of features and weights."""
        kind, _, seed = self.weights.partition(" ")
        return f"{self.features}, random weights {seed}" if kind == "random" else self.features

    @property
    def score_name(self) -> str:
        """Of score and target, as prose."""
        return f"{score_label(self.score)} {self.target}".strip()


def write_transfer(path: str | Path, rows: Sequence[TransferRow]) -> Path:
    """Write a row a set of features, target and protocol."""
    cells = [
        [
            *(row.target, row.features, row.weights, " ".join(row.layers)),
            *("" if row.n_dimensions is None else row.n_dimensions, row.protocol, row.score),
            *(_known(row.mean), _known(row.deviation), len(row.scores), _known(row.pooled)),
            *(*map(_known, row.interval), row.drawn, "; ".join(f"{said} x{n}" for said, n in row.settings)),
        ]
        for row in rows
    ]
    return write_csv(path, COLUMNS, cells)


def _known(value: float) -> Cell:
    return "" if math.isnan(value) else value


def table_said(rows: Sequence[TransferRow]) -> str:
    """The table as text, a line a set of features, both protocols beside each other."""
    lines = []
    for of_target in _by_target(rows):
        choi = {row.name: row for row in of_target if row.protocol == "choi2017"}
        shown = [row for row in of_target if row.protocol == "nested"]
        heading = [shown[0].score_name, "numbers", "nested", "all clips, 95 %", "choi2017", "settings (nested)"]
        cells = [heading, *([*_line(row, choi[row.name])] for row in shown)]
        widths = [max(len(line[column]) for line in cells) for column in range(len(heading))]
        for line in cells:
            padded = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
            padded[1] = line[1].rjust(widths[1])
            lines.append("  ".join(padded).rstrip())
    lines += _drawn(rows)
    return "\n".join(lines)


def _drawn(rows: Sequence[TransferRow]) -> list[str]:
    """What the intervals are: the same for all rows that have one."""
    return list(dict.fromkeys(row.drawn for row in rows if row.drawn))


def _line(row: TransferRow, choi: TransferRow) -> list[str]:
    n_folds = len(row.scores)
    commonest, n = row.settings[0]
    settings = f"{commonest} ({n} of {n_folds})" if commonest and n_folds > 1 else commonest
    numbers = "" if row.n_dimensions is None else str(row.n_dimensions)
    return [row.name, numbers, _spread(row), _pooled(row), score_number(row.score, choi.mean), settings]


def sentences(rows: Sequence[TransferRow], *, probe: str, source: str, target: str, n_clips: int) -> str:
    """What to paste, a line a target: the net's layers together by the nested protocol, and what it is compared with.

    Args:
        rows: of the table.
        probe: the classifier.
        source: the net.
        target: the data.
        n_clips: that were scored.
    """
    return "\n".join(_sentence(of, probe, source, target, n_clips) for of in _by_target(rows))


def _sentence(rows: Sequence[TransferRow], probe: str, source: str, target: str, n_clips: int) -> str:
    nested = [row for row in rows if row.protocol == "nested"]
    ours = next(row for row in reversed(nested) if row.weights == "trained" and row.features not in (BEST, BOTH))
    unit = " %" if is_share(ours.score) else ""
    n_folds = len(ours.scores)
    how = [f"mean ± standard deviation of {n_folds} folds"] if n_folds > 1 else []
    how += [f"all {n_clips:,} clips {_pooled(ours)}{unit}; {ours.drawn}"] if ours.drawn else []
    compared = [row for row in nested if row.features in (MFCC, BOTH, BEST)]
    compared += [row for row in nested if row.weights.startswith("random") and row.layers == ours.layers]
    others = [f"{row.name} {score_number(row.score, row.mean)}" for row in compared]
    others += [
        f"{row.features} with settings chosen on the scored clips (choi2017) {score_number(row.score, row.mean)}"
        for row in rows
        if row.protocol == "choi2017" and (row.features, row.weights) == (ours.features, ours.weights)
    ]
    return (
        f"{ours.score_name} on {target} of {probe} and {ours.features} of {source} ({ours.n_dimensions} numbers a "
        f"clip): {_spread(ours)} ({'; '.join(['nested', *how])}); {', '.join(others)}{unit}"
    )


@styled
def transfer_scores(rows: Sequence[TransferRow], *, title: str, chance: float | None) -> Figure:
    """The score of each set of features: trained and random weights, and both protocols, a panel a target.

    Args:
        rows: of the table.
        title: heading.
        chance: score of the commonest class; None where there are no classes.
    """
    panels = _by_target(rows)
    names = list(dict.fromkeys(row.features for row in rows))
    figure = Figure(figsize=(2 + 5 * len(panels), 0.3 * len(names) + 1.8), layout="constrained")
    grid = figure.subplots(1, len(panels), squeeze=False, sharey=True)[0]
    for axes, of in zip(grid, panels, strict=True):
        _panel(axes, of, names, chance)
    grid[0].invert_yaxis()
    figure.suptitle(short_name(title, 100), x=0.01, ha="left", weight="bold")
    legend = "dots: mean over folds, settings chosen inside the training clips (nested); rings: chosen on the scored "
    legend += "clips (choi2017), optimistic"
    legend = "\n".join([legend, *(f"bars, of all clips together: {said}" for said in _drawn(rows))])
    figure.supxlabel(legend, x=0.01, ha="left", fontsize=7, color=GREY)
    return figure


def _panel(axes: Axes, rows: Sequence[TransferRow], names: Sequence[str], chance: float | None) -> None:
    for place, name in enumerate(names):
        axes.axhline(place, color="#EEEEEE", linewidth=0.8, zorder=0)
        for row in (row for row in rows if row.features == name):
            random = row.weights.startswith("random")
            colour = ORANGE if random else BLUE if row.weights else INK
            at = place + (0.2 if random else -0.1)  # weights of both kinds beside each other
            if row.protocol == "choi2017":
                axes.scatter(row.mean, at, s=26, facecolor="white", edgecolor=colour, linewidth=1, zorder=2)
                continue
            if not math.isnan(row.interval[0]):
                axes.hlines(at, *row.interval, color=colour, linewidth=1.2, zorder=1)
            axes.scatter(row.mean, at, s=26, color=colour, zorder=3)
    for label, colour in _kinds(rows):
        axes.scatter([], [], s=26, color=colour, label=label)
    if chance is not None:
        axes.axvline(chance, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)), label="commonest class")
    axes.set_yticks(range(len(names)), [short_name(name, most=40) for name in names])
    axes.tick_params(axis="y", length=0)
    if is_share(rows[0].score):
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlabel(short_name(rows[0].score_name, 60), loc="left")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False, fontsize=7.5, borderaxespad=0)


def _kinds(rows: Sequence[TransferRow]) -> list[tuple[str, str]]:
    """Which colours there are, and what they stand for."""
    weights = {row.weights.partition(" ")[0] for row in rows}
    kinds = {"trained": ("trained weights", BLUE), "random": ("random weights", ORANGE), "": ("no net", INK)}
    return [kind for name, kind in kinds.items() if name in weights]


def _by_target(rows: Sequence[TransferRow]) -> list[list[TransferRow]]:
    return [[row for row in rows if row.target == target] for target in dict.fromkeys(row.target for row in rows)]


def _spread(row: TransferRow) -> str:
    unit = " %" if is_share(row.score) else ""
    deviation = "" if math.isnan(row.deviation) else f" ± {score_number(row.score, row.deviation)}"
    return f"{score_number(row.score, row.mean)}{deviation}{unit}"


def _pooled(row: TransferRow) -> str:
    low, high = row.interval
    if math.isnan(row.pooled):
        return ""
    said = score_number(row.score, row.pooled)
    return said if math.isnan(low) else f"{said} ({score_number(row.score, low)} to {score_number(row.score, high)})"

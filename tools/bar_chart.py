"""The rows of a benchmark as horizontal bars; apart from `measuring`, which processes import that draw nothing."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiocls.report.style import BLUE, GREY, INK, PALE, SKY, short_name, styled
from measuring import LIMIT, OURS, Row, number

LOG_FROM = 30  # times the smallest bar, above which a linear axis would hide it


@styled
def bar_chart(rows: Sequence[Row]) -> Figure:
    """One panel a setting, the best bar on top, ours in blue, limits hatched, whiskers from quartile to quartile."""
    panels: dict[str, list[Row]] = {}
    for row in rows:
        panels.setdefault(str(row["setting"]), []).append(row)
    heights = [len(panel) + 1.8 for panel in panels.values()]
    figure = Figure(figsize=(8, 0.27 * sum(heights) + 0.8), layout="constrained")
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    for axes, (setting, panel) in zip(grid, panels.items(), strict=True):
        _bars(axes, sorted(panel, key=_median, reverse=panel[0]["better"] == "higher"))
        axes.set_title(setting)
    first, medians = rows[0], [_median(row) for row in rows]
    if max(medians) > LOG_FROM * min(medians):
        grid[0].set_xscale("log")  # of all panels
        grid[0].set_xlim(left=min(medians) / 2)
    legend = "whiskers: quartiles; ×: speed as a share of ours"
    grid[-1].set_xlabel(f"{first['quantity']}, {first['unit']} ({legend})")
    figure.suptitle(f"{first['benchmark']}: {first['better']} is better", x=0.01, ha="left", weight="bold")
    figure.supxlabel(str(first.get("environment", "")), x=0.01, ha="left", fontsize=5.5, color=GREY, wrap=True)
    return figure


def _median(row: Row) -> float:
    return float(row["median"])


def _bars(axes: Axes, rows: Sequence[Row]) -> None:
    labels = [short_name(str(row["implementation"]), most=40) for row in rows]
    first, median, third = ([float(row[name]) for row in rows] for name in ("quartile_1", "median", "quartile_3"))
    bars = axes.barh(labels, median, height=0.7)
    axes.hlines(labels, first, third, colors=INK, linewidth=0.9)
    for bar, row in zip(bars, rows, strict=True):
        name = str(row["implementation"])
        bar.set(facecolor=BLUE if name == OURS else SKY if name.startswith(OURS) else PALE)
        if name.startswith(LIMIT):
            bar.set(facecolor="white", edgecolor=GREY, hatch="////", linewidth=0.6)
        share = "" if name == OURS else f"  ×{float(row['speed_to_ours']):.2g}"
        end = (float(row["quartile_3"]), bar.get_y() + bar.get_height() / 2)
        text = f"{number(row['median'])}{share}"
        axes.annotate(text, end, (6, 0), textcoords="offset points", va="center", fontsize=7.5)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.15)

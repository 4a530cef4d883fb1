"""What a second of audio costs over the length of the clips; apart from `lengths`, whose table needs no matplotlib."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from matplotlib.figure import Figure

from audiocls.report.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, short_name, styled
from lengths import UNIT, VALUE, by_length
from measuring import LIMIT, OURS, Row


@styled
def length_chart(rows: Sequence[Row]) -> Figure:
    """One panel a setting with logarithmic axes, a line an implementation, ours in blue and limits broken."""
    settings = by_length(rows)
    figure = Figure(figsize=(8, 2.6 * len(settings) + 0.8), layout="constrained")
    grid = figure.subplots(len(settings), 1, squeeze=False, sharex=True)[:, 0]
    for axes, (setting, series) in zip(grid, settings.items(), strict=True):
        others = itertools.cycle((VERMILLION, GREEN, PURPLE, ORANGE, GREY))
        for name, one in series.items():
            costs = {seconds: float(one[seconds][VALUE]) for seconds in sorted(one)}
            limit = name.startswith(LIMIT)
            colour = BLUE if name == OURS else SKY if name.startswith(OURS) else GREY if limit else next(others)
            line = axes.plot(list(costs), list(costs.values()), "--" if limit else "o-", color=colour, markersize=4)
            line[0].set_label(short_name(name, 40))
        axes.set(xscale="log", yscale="log", ylabel=UNIT)
        lengths = sorted({seconds for one in series.values() for seconds in one})
        axes.set_xticks(lengths, [f"{seconds:g}" for seconds in lengths])
        axes.minorticks_off()
        axes.set_title(setting)
        axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    grid[-1].set_xlabel("seconds of a clip (level lines: linear in the length)")
    figure.suptitle(f"{rows[0]['benchmark']}: lower is better", x=0.01, ha="left", weight="bold")
    figure.supxlabel(str(rows[0].get("environment", "")), x=0.01, ha="left", fontsize=5.5, color=GREY, wrap=True)
    return figure

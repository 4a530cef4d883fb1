"""An audit as a picture: labels on each side, lengths, levels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from audiocls.report.style import BLUE, GREY, ORANGE, PALE, SKY, VERMILLION, short_name, styled
from datamodules.auditing.audit import Audit

MOST_LABELS = 40  # rows that can be read
TALL = 6.0  # inches, above which lengths and levels stand one above the other
SIDES = {"train": BLUE, "validation": SKY, "test": ORANGE}


@styled
def audit_chart(audit: Audit, *, title: str, silent_db: float) -> Figure:
    """One panel for each of what there is: labels as shares of each split (or clips in each fold), lengths, levels."""
    n_rows = 0 if audit.counts is None else min(len(audit.counts), MOST_LABELS)
    names = (["labels"] if audit.counts is not None else []) + (
        ["lengths", "levels"] if audit.clips is not None else []
    )
    height = max(3.2 if audit.clips is not None else 0, 0.24 * n_rows + 1.4)
    layout: list[Any] = [names]
    if len(names) == 3 and height > TALL:
        layout = [["labels", "lengths"], ["labels", "levels"]]
    widths = [1.5 if name == "labels" else 1.0 for name in layout[0]]
    figure = Figure(figsize=(3.6 * sum(widths) + 0.4, height), layout="constrained")
    panels = figure.subplot_mosaic(layout, width_ratios=widths)
    if audit.counts is not None:
        _draw_labels(panels["labels"], audit.counts, by_split=audit.by_split)
    if audit.clips is not None:
        _draw_lengths(panels["lengths"], audit.clips["seconds"])
        _draw_levels(panels["levels"], audit.clips, silent_db)
    figure.suptitle(short_name(title, 100), x=0.01, ha="left", weight="bold")
    return figure


def _draw_labels(axes: Axes, counts: pd.DataFrame, *, by_split: bool) -> None:
    """Dots of each split's share, for splits differ in size; a map of counts for folds."""
    ranked = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    names = [short_name(str(name)) for name in ranked.index[:MOST_LABELS]]
    more = f", the {MOST_LABELS} largest of {len(ranked)}" if len(ranked) > MOST_LABELS else ""
    shown = ranked.iloc[:MOST_LABELS]
    if by_split:
        _draw_shares(axes, shown, ranked.sum())
        axes.set_title(f"Labels: share of each split{more}", pad=20)
    elif len(shown.columns) > 1:
        _draw_folds(axes, shown)
        axes.set_title(f"Labels: clips in each fold{more}")
    else:
        axes.barh(range(len(shown)), shown.iloc[:, 0], height=0.7, color=BLUE)
        axes.set_xlabel("clips")
        axes.set_title(f"Labels{more}")
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(names) - 0.5, -0.5)


def _draw_shares(axes: Axes, shown: pd.DataFrame, totals: pd.Series) -> None:
    shares = 100 * shown / totals
    rows = np.arange(len(shown))
    axes.hlines(rows, 0, shares.max(axis=1), colors=PALE, linewidth=0.8, zorder=1)
    for i, side in enumerate(map(str, shown)):
        at = rows + 0.22 * (i - (len(shown.columns) - 1) / 2)  # side by side, for shares are often equal
        there = shown[side].to_numpy() > 0
        label, colour = f"{side} ({totals[side]:,})", SIDES.get(side, GREY)
        axes.scatter(shares[side][there], at[there], s=16, color=colour, label=label, zorder=2)
        axes.scatter(0 * at[~there], at[~there], s=24, marker="x", color=VERMILLION, zorder=3, clip_on=False)
    if (shown == 0).to_numpy().any():
        axes.scatter([], [], s=24, marker="x", color=VERMILLION, label="none")
    axes.set_xlim(left=0)
    axes.set_xlabel("share of the split, %")
    axes.legend(fontsize=7, frameon=False, loc="lower left", bbox_to_anchor=(-0.02, 0.995), ncols=4, handletextpad=0,
                columnspacing=1, borderpad=0)  # fmt: skip


def _draw_folds(axes: Axes, shown: pd.DataFrame) -> None:
    values = shown.to_numpy()
    axes.imshow(np.where(values == 0, np.nan, values), cmap="Blues", vmin=0, vmax=1.4 * values.max(), aspect="auto")
    for i, j in np.ndindex(*values.shape):
        empty = values[i, j] == 0
        axes.text(j, i, "none" if empty else f"{values[i, j]}", ha="center", va="center", fontsize=6.5,
                  color=VERMILLION if empty else None)  # fmt: skip
    axes.set_xticks(range(len(shown.columns)), [str(fold) for fold in shown.columns])
    axes.set_xlabel("fold")


def _draw_lengths(axes: Axes, seconds: pd.Series) -> None:
    low, high = float(seconds.min()), float(seconds.max())
    if high > 20 * low:
        edges = np.geomspace(low, high, 41)
        axes.set_xscale("log")
    else:
        edges = np.linspace(0.98 * low, 1.02 * high, 41) if high > 1.001 * low else np.array([0.9 * low, 1.1 * low])
    axes.hist(seconds, bins=edges.tolist(), color=BLUE)
    axes.set_yscale("log")
    axes.set_ylim(bottom=0.8)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_title("Lengths" if high > 1.001 * low else f"Lengths: all {low:.3g} s")
    axes.set_xlabel(f"s (median {seconds.median():.3g})")
    axes.set_ylabel("clips")


def _draw_levels(axes: Axes, clips: pd.DataFrame, silent_db: float) -> None:
    silent = clips["rms_db"] < silent_db
    for part, colour, name in ((clips[~silent], BLUE, ""), (clips[silent], VERMILLION, f"silent ({silent.sum()})")):
        if len(part):
            axes.scatter(part["rms_db"], part["peak_db"], s=7, alpha=0.5, color=colour, linewidths=0, label=name,
                         rasterized=True)  # fmt: skip
    axes.axvline(silent_db, color=GREY, linewidth=0.8, linestyle=":")
    if silent.any():
        axes.legend(fontsize=7, frameon=False, loc="lower right")
    axes.set_title("Levels")
    axes.set_xlabel(f"RMS, dBFS (silent below {silent_db:g})")
    axes.set_ylabel("peak, dBFS")

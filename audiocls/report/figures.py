"""Figures of a run: numbers in, matplotlib `Figure` out. Reading and writing tables is not done here."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, PercentFormatter

from audiocls import functional
from audiocls.intervals import Interval
from audiocls.report.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PATCH,
    PURPLE,
    VERMILLION,
    score_label,
    short_name,
    styled,
)

MOST_NAMED, MOST_COUNTED, SHOWN_EACH_END = 50, 20, 20

# --- curves ---


@styled
def curves(rows: Sequence[Mapping[str, str | float]], *, best: float | None = None) -> Figure:
    """Loss, scores and learning rate against the epoch.

    Args:
        rows: one mapping of column to value a validation, as in metrics.csv; empty cells are left out, and what is not
            finite is a cross at the foot.
        best: epoch to mark as the best, if any.
    Returns:
        One row of panels: losses, up to five scores in [0, 1], and the learning rate where it changed.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    # several validations in one epoch are told apart by the step
    axis = "epoch" if len({row["epoch"] for row in rows}) == len(rows) else "step"
    series = {name: _series(rows, axis, name) for name in names}
    losses = [name for name in ("train/loss", "val/loss") if len(series.get(name, ()))]
    series = {name: points for name, points in series.items() if name in losses or np.isfinite(points[:, 1]).any()}
    scores = _scores(series)
    rates = [name for name in series if name == "lr" and len(np.unique(series[name][:, 1])) > 1]
    panels = [(title, keys) for title, keys in (("Loss", losses), ("Score", scores), ("Learning rate", rates)) if keys]
    figure = Figure(figsize=(4.3 * max(len(panels), 1) + 1.2, 3.3), layout="constrained")
    for axes, (title, keys) in zip(np.ravel(figure.subplots(1, max(len(panels), 1))), panels, strict=False):
        _curve_panel(axes, {key: series[key] for key in keys}, title, axis, best if axis == "epoch" else None)
    return figure


def _series(rows: Sequence[Mapping[str, str | float]], axis: str, name: str) -> np.ndarray:
    """The values of a column, shape (points, 2)."""
    cells = [(float(row[axis]), row.get(name, "")) for row in rows]
    return np.array([(x, float(y)) for x, y in cells if y != ""], dtype=float).reshape(-1, 2)


def _scores(series: Mapping[str, np.ndarray], most: int = 5) -> list[str]:
    """The columns worth a line: validation scores up to 1, means over classes before sums over decisions."""
    found = [
        name
        for name, points in series.items()
        if name.startswith("val/") and not name.endswith(("loss", "_scored", "rmse_mean"))
        if np.nanmax(points[:, 1]) <= 1 and (np.nanmin(points[:, 1]) >= 0 or name.endswith(("r2_mean", "pearson_mean")))
    ]
    return [
        name
        for name in found
        if name.replace("_micro", "_macro") == name or name.replace("_micro", "_macro") not in found
    ][:most]


def _curve_panel(axes: Axes, series: Mapping[str, np.ndarray], title: str, axis: str, best: float | None) -> None:
    colours = [BLUE, VERMILLION, GREEN, PURPLE, ORANGE]
    if title == "Loss":
        labels = {"train/loss": "training", "val/loss": "validation"}
        colours = [GREY if next(iter(series)) == "train/loss" else BLUE, BLUE]
        axes.set_yscale("log" if _spans(series.values(), 30) else "linear")
    elif title == "Score":
        labels = {name: score_label(name.partition("/")[2]) for name in series}
    else:
        labels, colours = {}, [GREY]
        axes.set_yscale("log" if _spans(series.values(), 30) else "linear")
    for (name, points), colour in zip(series.items(), colours, strict=False):
        few = "o" if np.isfinite(points[:, 1]).sum() < 3 else None
        axes.plot(points[:, 0], points[:, 1], color=colour, marker=few, markersize=4, label=labels.get(name))
    lost = np.concatenate([points[~np.isfinite(points[:, 1]), 0] for points in series.values()])
    if len(lost):
        foot = {"transform": axes.get_xaxis_transform(), "clip_on": False}
        axes.plot(lost, np.zeros(len(lost)), "x", color=VERMILLION, markersize=4, label="not finite", **foot)
    if len(lost) == sum(map(len, series.values())):
        axes.set_yticks([])
    if title == "Score":  # an R² far below 0 in the first epochs would press all others to the top
        low, high = axes.get_ylim()
        axes.set_ylim(max(low, -1), min(high, 1.05))
    if labels:
        if best is not None:
            axes.axvline(best, color=PALE, linewidth=1.2, zorder=0, label=f"best, {best:g}")
        beside = {"loc": "upper left", "bbox_to_anchor": (1, 1)}  # over the lines is no room that is always free
        axes.legend(frameon=False, fontsize=8, handlelength=1.2, labelspacing=0.3, **beside)
    axes.set_title(title)
    axes.set_xlabel(axis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    if axes.get_xlim()[1] - axes.get_xlim()[0] < 1:  # a single epoch
        axes.set_xlim(axes.get_xlim()[0] - 0.5, axes.get_xlim()[1] + 0.5)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)


def _spans(series: Iterable[np.ndarray], factor: float) -> bool:
    values = np.concatenate([points[:, 1] for points in series])
    values = values[np.isfinite(values)]
    return bool(len(values) and values.min() > 0 and values.max() > factor * values.min())


# --- confusion matrix ---


@styled
def confusion(matrix: np.ndarray, class_names: Sequence[str], *, title: str) -> Figure:
    """What was heard for what was true, each row normalised to its class.

    Up to 20 classes the counts are written in; up to 50 every class is named; above, the matrix is drawn whole and
    unnamed beside its 20 most frequent confusions.

    Args:
        matrix: counts, true class by heard class, shape (num_classes, num_classes).
        class_names: one name a class.
        title: heading.
    """
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    n_classes = len(class_names)
    if n_classes > MOST_NAMED:
        return _large_confusion(matrix, share, class_names, title)
    side = max(2.6, (0.36 if n_classes <= MOST_COUNTED else 0.2) * n_classes)
    figure = Figure(figsize=(side + 1.6, side + 1.2), layout="constrained")
    axes = figure.subplots()
    image = _confusion_image(axes, share)
    size = 9 if n_classes <= MOST_COUNTED else 7
    names = [short_name(name) for name in class_names]
    upright = n_classes > 6 or max(map(len, names)) > 7
    axes.set_xticks(range(n_classes), names, rotation=90 if upright else 0, fontsize=size)
    axes.set_yticks(range(n_classes), names, fontsize=size)
    if n_classes <= MOST_COUNTED:
        room = 1.4 * 72 * side / n_classes / len(str(matrix.max()))  # a digit is 0.64 of the size wide
        for row, column in np.argwhere(matrix > 0):
            colour = "white" if share[row, column] > 0.55 else INK
            axes.text(
                column,
                row,
                str(matrix[row, column]),
                ha="center",
                va="center",
                color=colour,
                fontsize=min(10 if n_classes <= 6 else 8, room),
            )
    axes.set_title(title)
    axes.set_xlabel("heard")
    axes.set_ylabel("true")
    _share_bar(figure, image, axes)
    return figure


def _confusion_image(axes: Axes, share: np.ndarray) -> AxesImage:
    n_classes = len(share)
    # in a large matrix a confusion is a pixel: the square root brings the rare ones out of the white
    norm = PowerNorm(1.0 if n_classes <= MOST_NAMED else 0.5, vmin=0, vmax=1)
    image = axes.imshow(share, cmap="Blues", norm=norm, interpolation="nearest", aspect="equal")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if n_classes <= MOST_NAMED:  # white hairlines between the cells
        axes.set_xticks(np.arange(n_classes - 1) + 0.5, minor=True)
        axes.set_yticks(np.arange(n_classes - 1) + 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    return image


def _share_bar(figure: Figure, image: AxesImage, axes: Axes) -> None:
    bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=24, pad=0.02, format=PercentFormatter(1, decimals=0))
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_ticks([0, 0.5, 1] if len(image.get_array()) <= MOST_NAMED else [0, 0.1, 0.5, 1])  # type: ignore[arg-type]
    bar.ax.tick_params(length=0, labelsize=8)
    bar.set_label("share of the true class", fontsize=8)


def _large_confusion(matrix: np.ndarray, share: np.ndarray, class_names: Sequence[str], title: str) -> Figure:
    figure = Figure(figsize=(12.4, 5.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(5, 4))
    image = _confusion_image(left, share)
    left.set_title(f"{title} ({len(class_names)} classes)")
    left.set_xlabel("heard, class index")
    left.set_ylabel("true, class index")
    _share_bar(figure, image, left)
    wrong = matrix * (1 - np.eye(len(matrix), dtype=matrix.dtype))
    order = np.argsort(wrong, axis=None)[::-1][:SHOWN_EACH_END]
    pairs = [(int(row), int(column)) for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True)]
    pairs = [pair for pair in pairs if wrong[pair] > 0]
    counts = [int(wrong[pair]) for pair in pairs]
    right.barh(range(len(pairs)), counts, color=BLUE, height=0.66)
    right.set_yticks(
        range(len(pairs)),
        [f"{short_name(class_names[row], 20)}  →  {short_name(class_names[column], 20)}" for row, column in pairs],
        fontsize=8,
    )
    for y, (pair, count) in enumerate(zip(pairs, counts, strict=True)):
        right.text(count, y, f" {count}  ({share[pair]:.0%})", va="center", fontsize=7.5, color=GREY)
    right.set_ylim(SHOWN_EACH_END - 0.4, -0.6)
    right.set_xlim(0, 1.22 * max(counts, default=1))
    right.set_title("Most frequent confusions, true → heard")
    right.set_xlabel("clips (share of the true class)")
    right.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    right.spines["left"].set_visible(False)
    right.tick_params(axis="y", length=0)
    return figure


# --- scores of classes ---


@styled
def class_scores(
    class_names: Sequence[str],
    score: Sequence[float],
    support: Sequence[float],
    *,
    score_name: str,
    title: str,
    intervals: Sequence[Interval] | None = None,
) -> Figure:
    """One bar a class, best first, with its number of clips.

    Above 50 classes the best and the worst 20 are drawn. A class without a score is left out and counted.

    Args:
        class_names: one name a class.
        score: one value a class, in [0, 1]; nan where undefined.
        support: number of positive clips of each class.
        score_name: what the score is, for the axis.
        title: heading.
        intervals: 95 % of each score, drawn as a line over the end of its bar.
    """
    values, clips = np.asarray(score, dtype=float), np.asarray(support, dtype=float)
    order = [int(i) for i in np.argsort(-values, kind="stable") if np.isfinite(values[i])]
    unscored = len(values) - len(order)
    between = max(0, len(order) - 2 * SHOWN_EACH_END) if len(order) > MOST_NAMED else 0
    shown = order if not between else order[:SHOWN_EACH_END] + order[-SHOWN_EACH_END:]
    # the gap between best and worst is two rows high
    place = [i + (2 if between and i >= SHOWN_EACH_END else 0) for i in range(len(shown))]
    figure = Figure(figsize=(6.2, max(1.0, 0.235 * (max(place, default=0) + 1)) + 0.9), layout="constrained")
    axes = figure.subplots()
    axes.barh(place, values[shown], height=0.68, color=[BLUE if clips[i] else PALE for i in shown])
    axes.set_yticks(place, [short_name(class_names[i], 30) for i in shown], fontsize=8.5)
    low, high = np.asarray(intervals if intervals is not None else [(0.0, 0.0)] * len(values)).reshape(-1, 2).T
    if intervals is not None:
        axes.hlines(place, low[shown], high[shown], color=INK, linewidth=1)
    for y, i in zip(place, shown, strict=True):
        right = np.nanmax([values[i], high[i]]) + 0.008
        axes.text(right, y, f"{values[i]:.2f}", va="center", fontsize=7.5, color=GREY, bbox=PATCH)
        axes.text(1.13, y, f"{clips[i]:,.0f}", va="center", ha="right", fontsize=8, color=INK)
    axes.text(1.13, -1.05, "clips", va="center", ha="right", fontsize=8, color=GREY)
    if between:
        gap = SHOWN_EACH_END + 0.5
        axes.text(0.0, gap, f"⋮   {between} classes between", va="center", fontsize=8, color=GREY, style="italic")
    _class_axes(axes, values[order], lowest=max(place, default=0), score_name=score_name)
    notes = [f"best and worst {SHOWN_EACH_END} of {len(order)} classes"] if between else []
    notes += [f"{unscored} without a score left out"] if unscored else []
    notes += ["lines: 95 % bootstrap intervals"] if intervals is not None else []
    axes.set_title("\n".join([title, *textwrap.wrap(", ".join(notes), 70)]), pad=14)
    return figure


def _class_axes(axes: Axes, scored: np.ndarray, *, lowest: int, score_name: str) -> None:
    if len(scored):
        mean = float(scored.mean())
        axes.plot([mean, mean], [-0.5, lowest + 0.6], color=VERMILLION, linewidth=1, linestyle=(0, (4, 3)))
        axes.text(mean, lowest + 0.7, f"mean {mean:.3f}", color=VERMILLION, fontsize=7.5, ha="center", va="top")
    axes.set_ylim(lowest + 1.6, -0.6)
    axes.set_xlim(0, 1.13)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.set_xlabel(score_name)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_bounds(0, 1)
    axes.tick_params(axis="y", length=0)


# --- numbers ---


@styled
def scatter(
    target: np.ndarray, prediction: np.ndarray, names: Sequence[str], *, r2: Sequence[float], title: str
) -> Figure:
    """Prediction against target, a panel a number, up to nine of them; on the line they would be the same.

    Args:
        target: shape (n_clips, n_numbers).
        prediction: same shape.
        names: one a number.
        r2: one a number; nan where undefined.
        title: heading of the whole.
    """
    n_shown = min(len(names), 9)
    n_columns = min(n_shown, 3)
    n_rows = -(-n_shown // n_columns)
    figure = Figure(figsize=(3.4 * n_columns, 3.4 * n_rows + 0.3), layout="constrained")
    panels = np.ravel(figure.subplots(n_rows, n_columns))
    for axes in panels[n_shown:]:
        axes.remove()
    for i, axes in enumerate(panels[:n_shown]):
        both = np.concatenate([target[:, i], prediction[:, i]])
        both = both[np.isfinite(both)]  # some of the target always is
        margin = 0.05 * (float(np.ptp(both)) or 1.0)
        limits = (float(both.min()) - margin, float(both.max()) + margin)
        axes.plot(limits, limits, color=PALE, linewidth=1.2, zorder=0)
        axes.scatter(target[:, i], prediction[:, i], s=14, color=BLUE, alpha=0.45, linewidths=0)
        axes.set(xlim=limits, ylim=limits, aspect="equal", xlabel="target", ylabel="prediction" if i == 0 else "")
        axes.set_title(f"{short_name(names[i])}, R² {r2[i]:.3f}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=5))
            axis.set_major_formatter("{x:g}")  # no power of ten above the axis, where the title is
    more = f" ({n_shown} of {len(names)})" if n_shown < len(names) else ""
    figure.suptitle(f"{title}, {len(target)} clips{more}", x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


# --- filterbank ---


@styled
def filterbank(start: np.ndarray, now: np.ndarray, *, sample_rate: int, title: str) -> Figure:
    """A learnt filterbank beside its start and their difference, frequency in Hz on the mel scale.

    Each filter is drawn relative to its initial peak, so that wide and narrow ones show alike. A filterbank that is as
    it was at the start is drawn once.

    Args:
        start: weights before training, shape (n_bins, n_freqs), columns from 0 Hz to sample_rate / 2.
        now: weights now, same shape.
        sample_rate: in Hz.
        title: heading of the whole.
    """
    peak = np.abs(start).max(1, keepdims=True)
    peak = np.where(peak > 0, peak, 1)
    began, current = (_on_mel(weights / peak, sample_rate) for weights in (start, now))
    images = {"Start": began, "Now": current, "Difference": current - began}
    if np.array_equal(start, now):
        images = {"As at the start": current}
    figure = Figure(figsize=(3.6 * len(images) + 0.6, 4.1), layout="constrained")
    panels = figure.subplots(1, len(images), sharey=True, squeeze=False)[0]
    seen, change = (image[np.isfinite(image)] for image in (current, current - began))  # training may end in nan
    largest = np.abs(change).max(initial=0) or 1
    extent = (-0.5, len(start) - 0.5, 0.0, _mel(sample_rate / 2))
    for axes, (heading, image) in zip(panels, images.items(), strict=True):
        signed = heading == "Difference"
        limits = (-largest, largest) if signed else (seen.min(initial=0), seen.max(initial=1))
        drawn = axes.imshow(
            image.T, origin="lower", aspect="auto", extent=extent, cmap="PuOr_r" if signed else "Blues",
            vmin=limits[0], vmax=limits[1], interpolation="antialiased",
        )  # fmt: skip
        axes.set_title(heading)
        axes.set_xlabel("filter")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
        if heading != "Start":
            bar = figure.colorbar(drawn, ax=axes, shrink=0.8, aspect=24, pad=0.02)
            bar.outline.set_visible(False)  # type: ignore[operator]
            bar.ax.tick_params(length=0, labelsize=8)
            bar.set_label("relative to the filter's initial peak", fontsize=8)
    ticks = [hertz for hertz in (0, 250, 500, 1000, 2000, 4000, 8000, 16000) if hertz <= sample_rate / 2]
    panels[0].set_yticks([_mel(hertz) for hertz in ticks], [f"{hertz:,}" for hertz in ticks])
    panels[0].set_ylabel("frequency (Hz)")
    figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
    return figure


def _mel(hertz: float) -> float:
    return functional.hz_to_mel(torch.tensor(float(hertz)), mel_scale="htk").item()


def _on_mel(weights: np.ndarray, sample_rate: int, rows: int = 320) -> np.ndarray:
    """Means over `rows` equal steps of mel: (n_bins, n_freqs) to (n_bins, rows).

    The integral of the piecewise linear weights is differenced, so neither narrow filters at the top nor single bins
    at the bottom are lost to sampling.
    """
    mels = torch.linspace(0, _mel(sample_rate / 2), rows + 1, dtype=torch.float64)
    edges = functional.mel_to_hz(mels, mel_scale="htk").numpy()
    position = np.clip(edges / (sample_rate / 2), 0, 1) * (weights.shape[1] - 1)
    left = np.minimum(position.astype(int), weights.shape[1] - 2)
    part = position - left
    steps = (weights[:, 1:] + weights[:, :-1]) / 2
    integral = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(steps, axis=1)], axis=1)
    slope = weights[:, left + 1] - weights[:, left]
    at_edges = integral[:, left] + part * weights[:, left] + part**2 / 2 * slope
    return np.diff(at_edges, axis=1) / np.diff(position)

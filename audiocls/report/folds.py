"""What the folds of a cross-validation come to: a table, two intervals, a figure and a line to paste.

The two intervals answer two questions, and neither is exact:

- the t interval of the mean over folds asks how much another set of folds would move the mean. Folds share most of
  their training clips, so their scores are not independent, and no unbiased estimate of the variance of their mean
  exists (Bengio & Grandvalet 2004, JMLR 5, 1089-1105): it is usually too narrow;
- the Wilson interval of the pooled accuracy asks how much other clips would. Every clip is tested once, and counts as
  one trial; where clips come in groups (of one recording, speaker, artist) they are not independent, and it is too
  narrow, which is said beside it. How training varies is not in it.

Where a fold was trained with several seeds, its score is their mean, so that seeds never count as folds or as clips.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy import stats

from audiocls.intervals import CONFIDENCE, Interval, within_range
from audiocls.report.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    SKY,
    is_share,
    save,
    score_label,
    score_number,
    short_name,
    styled,
)
from audiocls.report.tables import Cell, write_csv


@dataclass(frozen=True)
class FoldResult:
    """The test of one fold.

    Attributes:
        fold: which was the test.
        seed: of the training.
        n_clips: that were tested.
        n_right: whose likeliest class was right; None unless a clip has one label.
        scores: name -> value, the one that matters most first.
        minutes: that training and test took.
    """

    fold: int
    seed: int
    n_clips: int
    n_right: int | None
    scores: Mapping[str, float]
    minutes: float


@dataclass(frozen=True)
class Spread:
    """One score over the folds.

    Attributes:
        mean: over the folds.
        standard_deviation: over the folds, with n - 1; nan of a single one.
        interval: of the mean, by Student's t, cut off where the score ends; nan of a single fold.
    """

    mean: float
    standard_deviation: float
    interval: Interval


@dataclass(frozen=True)
class Pooled:
    """The accuracy over the clips of all folds together.

    Attributes:
        accuracy: share of the clips that are right; the mean over the seeds.
        n_clips: each of them counted once.
        interval: Wilson's.
    """

    accuracy: float
    n_clips: int
    interval: Interval


def t_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval:
    """Student's interval of the mean, with one degree of freedom less than there are values; nan of a single value.

    >>> low, high = t_interval([0.70, 0.74, 0.72])
    >>> round(low, 3), round(high, 3)
    (0.67, 0.77)
    """
    if len(values) < 2:
        return math.nan, math.nan
    quantile = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1))
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.fmean(values) - half, statistics.fmean(values) + half


def wilson_interval(share: float, n: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Interval of a share of `n` independent trials (Wilson 1927, JASA 22, 209-212).

    >>> low, high = wilson_interval(0.9, 100)
    >>> round(low, 3), round(high, 3)
    (0.826, 0.945)
    """
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def spreads(results: Sequence[FoldResult]) -> dict[str, Spread]:
    """Every score that all folds have, over the folds."""
    found = {}
    for name in results[0].scores:
        if all(name in result.scores for result in results):
            values = list(by_fold({(r.fold, r.seed): r.scores[name] for r in results}).values())
            deviation = statistics.stdev(values) if len(values) > 1 else math.nan
            found[name] = Spread(statistics.fmean(values), deviation, within_range(name, t_interval(values)))
    return found


def pooled_accuracy(results: Sequence[FoldResult]) -> Pooled | None:
    """Over the clips of all folds; None unless a clip has one label."""
    right = {(r.fold, r.seed): r.n_right for r in results if r.n_right is not None}
    if len(right) < len(results):
        return None
    n_clips = sum({r.fold: r.n_clips for r in results}.values())
    share = sum(by_fold(right).values()) / n_clips
    return Pooled(share, n_clips, wilson_interval(share, n_clips))


def by_fold(values: Mapping[tuple[int, int], float]) -> dict[int, float]:
    """Means over the seeds: values by (fold, seed) to values by fold, ascending."""
    folds = sorted({fold for fold, _ in values})
    return {fold: statistics.fmean(v for (of, _), v in values.items() if of == fold) for fold in folds}


# --- what is written ---


def write_report(
    run_dir: Path, results: Sequence[FoldResult], *, folds: Sequence[int], n_groups: int | None = None
) -> str:
    """Write folds.csv, summary.csv and folds.png.

    Args:
        run_dir: folder to write into.
        results: of the folds that are finished.
        folds: that the data set has.
        n_groups: of the clips that were tested; None where nothing says what belongs together.
    Returns:
        The line to paste.
    """
    write_folds(run_dir / "folds.csv", results)
    write_summary(run_dir / "summary.csv", results)
    tested = sorted({result.fold for result in results})
    n = f"{len(tested)} folds" if tested == sorted(folds) else f"{len(tested)} of {len(folds)} folds"
    save(fold_scores(results, title=f"{run_dir.absolute().name}: {n}"), run_dir / "folds.png")
    return sentence(results, n_folds=len(folds), n_groups=n_groups)


def write_folds(path: str | Path, results: Sequence[FoldResult]) -> Path:
    """Write a row a fold and seed: fold, seed, clips, each score, minutes."""
    names = list(dict.fromkeys(name for result in results for name in result.scores))
    rows: list[list[Cell]] = [
        [r.fold, r.seed, r.n_clips, *(r.scores.get(name, "") for name in names), round(r.minutes, 2)] for r in results
    ]
    return write_csv(path, ["fold", "seed", "clips", *names, "minutes"], rows)


def write_summary(path: str | Path, results: Sequence[FoldResult]) -> Path:
    """Write a row a score: mean, standard deviation and t interval over folds; of the accuracy the pooled one too."""
    pooled, n_folds = pooled_accuracy(results), len({result.fold for result in results})
    columns = ["score", "folds", "mean", "standard_deviation", "t_low", "t_high"]
    columns += ["pooled", "clips", "wilson_low", "wilson_high"]
    rows: list[list[Cell]] = []
    for name, spread in spreads(results).items():
        of_clips: list[Cell] = ["", "", "", ""]
        if name == "accuracy" and pooled is not None:
            of_clips = [pooled.accuracy, pooled.n_clips, *pooled.interval]
        cells: list[Cell] = [spread.mean, spread.standard_deviation, *spread.interval]
        rows.append([name, n_folds, *("" if isinstance(x, float) and math.isnan(x) else x for x in cells), *of_clips])
    return write_csv(path, columns, rows)


def sentence(results: Sequence[FoldResult], *, n_folds: int, n_groups: int | None = None) -> str:
    """The first score as a line to paste.

    Args:
        results: of the folds that are finished.
        n_folds: that the data set has.
        n_groups: of the clips that were tested; None where nothing says what belongs together.
    """
    name, spread = next(iter(spreads(results).items()))
    there, seeds = len({r.fold for r in results}), len({r.seed for r in results})
    of = (f"{there} folds" if there == n_folds else f"{there} of {n_folds} folds") + f", {seeds} seeds" * (seeds > 1)
    unit = " %" if is_share(name) else ""
    if there > 1:
        said = f"{score_number(name, spread.mean)} ± {score_number(name, spread.standard_deviation)}{unit} (mean ± "
        said += f"standard deviation of {of}; 95 % t interval of the mean {_between(name, spread.interval)}"
    else:
        said = f"{score_number(name, spread.mean)}{unit} ({of}"
    pooled = pooled_accuracy(results)
    if pooled is not None:
        said += f"; {score_number('accuracy', pooled.accuracy)} % of all {pooled.n_clips:,} clips"
        said += f", 95 % Wilson interval {_between('accuracy', pooled.interval)}"
        if n_groups is None:
            said += ", clips taken as independent"
        elif n_groups < pooled.n_clips:
            said += f", too narrow since the clips come in {n_groups:,} groups and are not independent"
    return f"{score_label(name)} {said})"


@styled
def fold_scores(results: Sequence[FoldResult], *, title: str) -> Figure:
    """The first score of each fold, the mean with its interval as a band, and the pooled accuracy beside.

    Whiskers of a fold are the Wilson interval over its clips; rings are seeds.

    Args:
        results: of the folds that are finished.
        title: heading.
    """
    name, spread = next(iter(spreads(results).items()))
    values = by_fold({(r.fold, r.seed): r.scores[name] for r in results})
    pooled = pooled_accuracy(results) if name == "accuracy" else None
    marks = [("mean of folds", BLUE, spread.mean, spread.interval)]
    marks += [("all clips", GREEN, pooled.accuracy, pooled.interval)] if pooled is not None else []
    places = {fold: place for place, fold in enumerate(values)}
    edge = len(values) - 0.25  # between the folds and the marks
    ends = [edge + 0.75 + 2 * place for place in range(len(marks))]  # a mark needs room for its number
    width = ends[-1] + 2
    figure = Figure(figsize=(max(5.0, 0.46 * width + 1.2), 3.5), layout="constrained")
    axes = figure.subplots()
    if not math.isnan(spread.interval[0]):
        axes.fill_between([-0.5, edge], *spread.interval, color=SKY, alpha=0.25, linewidth=0)
    axes.hlines(spread.mean, -0.5, edge, color=BLUE, linewidth=1.2)
    for fold, place in places.items():
        of_fold = [result for result in results if result.fold == fold]
        if pooled is not None:
            axes.vlines(place, *wilson_interval(values[fold], of_fold[0].n_clips), color=GREY, linewidth=1)
        axes.scatter(place, values[fold], s=34, color=BLUE, zorder=3)
        if len(of_fold) > 1:
            seeds = [result.scores[name] for result in of_fold]
            axes.scatter([place] * len(seeds), seeds, s=12, color="white", edgecolor=INK, linewidth=0.8, zorder=4)
    for place, (_, colour, value, interval) in zip(ends, marks, strict=True):
        if not math.isnan(interval[0]):
            axes.vlines(place, *interval, color=colour, linewidth=2.2)
        axes.scatter(place, value, s=40, color=colour, marker="D", zorder=3)
        text = f"{score_number(name, value)}{' %' if is_share(name) else ''}"
        axes.annotate(text, (place, value), (7, 0), textcoords="offset points", va="center", fontsize=8.5)
    # two lines, since the names of the marks are wider than their places
    axes.set_xticks([*places.values(), *ends], [*map(str, values), *(mark[0].replace(" ", "\n", 1) for mark in marks)])
    axes.axvline(edge, color=GREY, linewidth=0.8, linestyle=(0, (2, 3)))
    axes.set_xlim(-0.5, width - 0.5)
    if is_share(name):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.set_xlabel("fold that was the test", loc="left")
    axes.set_ylabel(score_label(name))
    axes.set_title(short_name(title, 100))
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.8)
    axes.set_axisbelow(True)
    legend = ["band and blue bar: 95 % t interval of the mean over folds"]
    legend += ["grey and green bars: 95 % Wilson intervals over clips"] if pooled is not None else []
    legend += ["rings: seeds"] if len({result.seed for result in results}) > 1 else []
    figure.supxlabel("\n".join(legend), x=0.01, ha="left", fontsize=7, color=GREY)
    return figure


def _between(name: str, interval: Interval) -> str:
    return f"{score_number(name, interval[0])} to {score_number(name, interval[1])}"

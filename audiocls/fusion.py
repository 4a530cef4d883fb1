"""Late fusion: what the tests of several runs say together, from their tables of predictions alone.

Two models that err differently are often better together. With equal weights the geometric mean of their
probabilities, normalised, decides as the product rule does where all classes are as likely beforehand, and the
arithmetic mean as the sum rule. A product lets one model veto what another holds likely; so that the zero of a table,
which is a rounded number, does not, probabilities below 1e-6 count as 1e-6. For several labels a clip, each label's p
stands against 1 - p, and the geometric mean is that of their logits, p kept 1e-6 away from both ends. Numbers are
always averaged.

Nothing is learnt here. Weights that were chosen by the scores of these very clips would make the scores too good: that
is a leak. Equal weights are chosen on nothing. The thresholds of tags that a run has chosen are its own: what is fused
is decided at 0.5, and so is each run that it is compared with.

    out/
      fusion.json                   which runs, with which weights and mean
      fold01/ fold02/ …             of cross-validations: test_predictions.csv of each fold
      folds.csv summary.csv folds.png
      test_predictions.csv test_metrics.csv test_intervals.csv    of single runs
      predictions.csv               of tables of `audiocls predict`, which have no targets and no scores

Sources: Kittler, Hatef, Duin & Matas 1998, "On combining classifiers", IEEE TPAMI 20(3), 226-239 (product and sum
rule); Hinton 2002, "Training products of experts by minimizing contrastive divergence", Neural Computation 14(8),
1771-1800.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, logit, softmax

from audiocls.cli import MONITORED
from audiocls.fold_plan import replace_file
from audiocls.fusion_tables import (
    FOLDS,
    INTERVALS,
    PREDICTIONS,
    FoldTables,
    Table,
    has_folds,
    n_groups,
    read_tests,
    target_of,
)
from audiocls.intervals import bootstrap
from audiocls.metrics import Evaluation, Task, evaluate
from audiocls.predict import DECIDED, decided
from audiocls.report import folds as report
from audiocls.report.folds import FoldResult
from audiocls.report.style import score_label
from audiocls.report.tables import write_csv, write_intervals, write_predictions
from audiocls.runs import unused
from audiocls.thresholds import UNKNOWN

Mean = Literal["geometric", "arithmetic"]
FLOOR = 1e-6  # of a probability in a geometric mean
NOTE = "fusion.json"
Recipe = Mapping[str, object]
Scored = Mapping[str, Sequence[Evaluation]]  # by run, then fused; one a test


def fuse(
    predictions: Sequence[NDArray[np.float64]], weights: Sequence[float], *, task: Task, mean: Mean = "geometric"
) -> NDArray[np.float64]:
    """The weighted mean of several models' predictions.

    Args:
        predictions: one array a model, shape (n_clips, num_classes): probabilities, for regression numbers.
        weights: one a model, above 0; only their ratios count.
        task: of one label a clip the probabilities sum to 1, and so does what is returned.
        mean: of probabilities; numbers have the arithmetic mean whichever it is.
    Returns:
        Same shape.

    >>> fuse([np.array([[0.9, 0.1]]), np.array([[0.5, 0.5]])], [1, 1], task="multiclass").round(3)
    array([[0.75, 0.25]])
    """
    stacked = np.stack(predictions)
    if task == "regression" or mean == "arithmetic":
        return np.average(stacked, axis=0, weights=weights)
    if task == "multiclass":
        return softmax(np.average(np.log(np.maximum(stacked, FLOOR)), axis=0, weights=weights), axis=1)
    return expit(np.average(logit(np.clip(stacked, FLOOR, 1 - FLOOR)), axis=0, weights=weights))


@dataclass(frozen=True)
class Said:
    """What a fusion says at its end.

    Attributes:
        lines: each run by itself, then all together.
        files: that were written.
    """

    lines: list[str]
    files: list[Path]


def fuse_runs(
    runs: Sequence[Path], *, out: Path, weights: Sequence[float] | None = None, mean: Mean | None = None
) -> Said:
    """Read, check, fuse, score and write; nothing is written before everything is checked.

    Args:
        runs: folders of cross-validations or of single runs, or tables of predictions; at least two, all of one kind.
        out: folder to write: a new one, or one that the same call has begun.
        weights: one a run, above 0; left out, equal.
        mean: of probabilities; left out, geometric.
    Raises:
        ValueError: if the runs have not the same folds, seeds, clips, classes, targets and task, or for a wrong
            argument or table.
    """
    shares = list(weights or [1.0] * len(runs))
    _check_arguments(runs, shares)
    tests = read_tests(runs)
    task = tests[0].tables[0].task
    if mean == "geometric" and task == "regression":
        raise ValueError("--mean geometric is of probabilities, and these are numbers: leave it out")
    mean = mean or ("arithmetic" if task == "regression" else "geometric")
    recipe = {"runs": [str(run.absolute()) for run in runs], "weights": shares, "mean": mean}
    said_by = {str(run): [test.tables[i].predictions for test in tests] for i, run in enumerate(runs)}
    unequal = f" with weights {' '.join(f'{weight:g}' for weight in shares)}" if len(set(shares)) > 1 else ""
    name = f"{mean} mean of {len(runs)}{unequal}"
    said_by[name] = [fuse([of.predictions for of in test.tables], shares, task=task, mean=mean) for test in tests]
    if tests[0].tables[0].truth is None:
        said = _write_unscored(out, recipe, tests[0].tables[0], said_by[name][0])
    else:
        scored = {name: list(map(_evaluated, tests, of)) for name, of in said_by.items()}
        said = (_write_folds if has_folds(runs[0]) else _write_single)(out, recipe, tests, scored)
    if task == "multilabel":
        said.lines.append(f"tags are decided at {UNKNOWN:g}, whatever thresholds the runs have chosen")
    return said


def _check_arguments(runs: Sequence[Path], weights: Sequence[float]) -> None:
    if len(runs) < 2:
        raise ValueError(f"a fusion needs at least 2 runs, got {len(runs)}")
    if twice := [run for run, n in Counter(run.resolve() for run in runs).items() if n > 1]:
        raise ValueError(f"{twice[0]} is given twice: give it once, and more weight by --weights")
    if len(weights) != len(runs):
        raise ValueError(f"--weights must be one a run, got {len(weights)} for {len(runs)} runs")
    if wrong := [weight for weight in weights if not 0 < weight < math.inf]:
        raise ValueError(
            f"--weights must be above 0 and finite, got {wrong[0]:g}: leave out a run that shall not count"
        )


def _evaluated(test: FoldTables, predictions: NDArray[np.float64]) -> Evaluation:
    """Scores of predictions of a test's clips."""
    table = test.tables[0]
    return evaluate(
        torch.arange(len(table.clips)),
        torch.tensor(predictions),
        target_of(table),
        class_names=list(table.class_names),
        task=table.task,
    )


# --- what is written ---


def _begin(out: Path, recipe: Recipe) -> None:
    """Write down what is fused, in a folder that holds nothing else, so that no run is ever overwritten."""
    note, path = json.dumps(recipe, indent=1) + "\n", out / NOTE
    if out.is_dir() and any(out.iterdir()) and not (path.is_file() and path.read_text(encoding="utf-8") == note):
        raise ValueError(f"{out} holds something else than this fusion: give another --out, such as {unused(str(out))}")
    out.mkdir(parents=True, exist_ok=True)
    replace_file(path, note)


def _write_folds(out: Path, recipe: Recipe, tests: Sequence[FoldTables], scored: Scored) -> Said:
    """What a cross-validation writes of its folds; its line, of each run and of all together."""
    results = {name: list(map(_result, tests, of)) for name, of in scored.items()}
    folds, groups = sorted({test.fold for test in tests}), n_groups(tests)
    lines = [f"{name}: {report.sentence(of, n_folds=len(folds), n_groups=groups)}" for name, of in results.items()]
    _begin(out, recipe)
    fused = list(scored)[-1]
    files = []
    for test, evaluation in zip(tests, scored[fused], strict=True):
        table = test.tables[0]
        path = out / table.path.parent.name / PREDICTIONS
        files.append(write_predictions(path, evaluation, list(table.clips)))
    report.write_report(out, results[fused], folds=folds, n_groups=groups)
    return Said(lines, [*files, *(out / name for name in (FOLDS, "summary.csv", "folds.png"))])


def _result(test: FoldTables, evaluation: Evaluation) -> FoldResult:
    right = evaluation.prediction.argmax(1) == evaluation.target if evaluation.task == "multiclass" else None
    first = _first_score(evaluation)
    return FoldResult(
        test.fold,
        test.seed,
        len(evaluation.clip),
        None if right is None else int(right.sum()),
        {first: evaluation.scalars[first]} | evaluation.scalars,
        test.minutes,
    )


def _first_score(evaluation: Evaluation) -> str:
    """The one that the best epoch is chosen by."""
    return MONITORED[evaluation.task].removeprefix("val/")


def _write_single(out: Path, recipe: Recipe, tests: Sequence[FoldTables], scored: Scored) -> Said:
    """Predictions, scores and intervals of one test; the first score of each run and of all together."""
    (test,) = tests
    evaluations = {name: of[0] for name, of in scored.items()}
    intervals = {name: bootstrap(of) for name, of in evaluations.items()}
    first = _first_score(next(iter(evaluations.values())))
    lines = []
    for name, evaluation in evaluations.items():
        low, high = intervals[name].scalars[first]
        lines.append(f"{name}: {score_label(first)} {evaluation.scalars[first]:.4f} ({low:.4f} to {high:.4f})")
    groups = n_groups(tests)
    narrow = "" if groups is None else f", too narrow since they come in {groups:,} groups"
    fused, drawn = list(evaluations.values())[-1], list(intervals.values())[-1]
    _begin(out, recipe)
    files = [
        write_predictions(out / PREDICTIONS, fused, list(test.tables[0].clips)),
        write_csv(out / "test_metrics.csv", [f"test/{name}" for name in fused.scalars], [list(fused.scalars.values())]),
        write_intervals(out / INTERVALS, fused, drawn),
    ]
    return Said([*lines, f"{drawn.said}{narrow}"], files)


def _write_unscored(out: Path, recipe: Recipe, table: Table, fused: NDArray[np.float64]) -> Said:
    """A table as `audiocls predict` writes it."""
    names = list(table.class_names)
    rows = [
        [clip, *decided(values, task=table.task, class_names=names), *values.tolist()]
        for clip, values in zip(table.clips, fused, strict=True)
    ]
    _begin(out, recipe)
    path = write_csv(out / "predictions.csv", ["path", *DECIDED[table.task], *names], rows)
    return Said([f"{len(rows):,} files, without targets and so without scores"], [path])

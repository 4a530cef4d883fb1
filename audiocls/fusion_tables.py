"""The tables of predictions that a fusion reads, fold by fold, and whether they belong together.

Which task a table is of, its columns and numbers say. What does not belong together is refused, so that no clip, fold
or class is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from audiocls.metrics import Task
from audiocls.predict import DECIDED
from datamodules.tables import read_own_csv

FOLDS, PREDICTIONS, INTERVALS = "folds.csv", "test_predictions.csv", "test_intervals.csv"
ROUNDING = 1e-4  # by which the probabilities of a clip may miss 1: tables have six digits


@dataclass(frozen=True)
class Table:
    """What one model says of some clips.

    Attributes:
        path: of the file.
        clips: their ids, or their paths.
        class_names: of the columns of predictions.
        predictions: shape (n_clips, num_classes).
        truth: text of the targets, a row a clip; None where there are none.
        task: that the predictions are of.
    """

    path: Path
    clips: pd.Index
    class_names: pd.Index
    predictions: NDArray[np.float64]
    truth: pd.DataFrame | None
    task: Task


@dataclass(frozen=True)
class FoldTables:
    """What all runs say of the clips of one test.

    Attributes:
        fold: that was the test; 0 of runs without folds.
        seed: of the training, in the first run.
        minutes: that training and test took, in all runs together.
        tables: one a run, clips and classes in the order of the first.
    """

    fold: int
    seed: int
    minutes: float
    tables: list[Table]


def has_folds(run: Path) -> bool:
    """Whether it is the folder of a cross-validation."""
    return (run / FOLDS).is_file()


def read_tests(runs: Sequence[Path]) -> list[FoldTables]:
    """The one test of single runs, or every fold and seed of cross-validations.

    Of several seeds each goes with the same one of the other runs; where every run has one, it does not matter which.

    Args:
        runs: folders of cross-validations, or folders of tested runs and tables.
    Raises:
        ValueError: if they have not the same folds, seeds, clips, classes, targets and task, or hold no such tables.
    """
    folded = [run for run in runs if has_folds(run)]
    if not folded:
        return [FoldTables(0, 0, 0.0, _alike([_read(_table_of(run)) for run in runs]))]
    if single := [run for run in runs if run not in folded]:
        raise ValueError(f"{folded[0]} is a cross-validation and {single[0]} has no {FOLDS}: fuse runs of one kind")
    found = [_folds(run) for run in runs]
    seeds = [sorted({seed for _, seed in of_run}) for of_run in found]
    many = any(len(of_run) > 1 for of_run in seeds)
    if not many:
        found = [{(fold, seeds[0][0]): test for (fold, _), test in of_run.items()} for of_run in found]
    keys = sorted({key for of_run in found for key in of_run})
    for fold, seed in keys:
        there = [(fold, seed) in of_run for of_run in found]
        if not all(there):
            has, lacks = runs[there.index(True)], runs[there.index(False)]
            raise ValueError(
                f"{has} has fold {fold}{f' with seed {seed}' * many} and {lacks} has not: finish it by "
                f"tools/cross_validate.py --run_dir {lacks} --folds {fold}{f' --seeds {seed}' * many}"
            )
    tests = [
        FoldTables(*key, sum(of[key][1] for of in found), _alike([_read(_table_of(of[key][0])) for of in found]))
        for key in keys
    ]
    for one, other in pairwise(test.tables[0] for test in tests):
        if one.task != other.task:
            raise ValueError(f"{one.path} is {one.task} and {other.path} {other.task}: folds must be of one task")
    return tests


def _folds(run: Path) -> dict[tuple[int, int], tuple[Path, float]]:
    """Folder and minutes of each fold and seed that is finished; the configuration's own seed names no folder."""
    found = {}
    for row in read_own_csv(run / FOLDS, ["fold", "seed", "minutes"]).to_dict("records"):
        fold, seed = int(row["fold"]), int(row["seed"])
        folder = run / f"fold{fold:02d}-seed{seed}"
        if not folder.is_dir():
            folder = run / f"fold{fold:02d}"
        found[fold, seed] = folder, float(row["minutes"])
    if not found:
        raise ValueError(f"{run / FOLDS} says of no fold that it is finished: finish tools/cross_validate.py first")
    return found


def _table_of(run: Path) -> Path:
    path = run if run.is_file() else run / PREDICTIONS
    if not path.is_file():
        raise ValueError(
            f"{run} is no table and holds no {FOLDS} or {PREDICTIONS}: give the folder of a run that is tested "
            "(audiocls test, tools/cross_validate.py), or what audiocls predict --out has written"
        )
    return path


def _read(path: Path) -> Table:
    """A table of a test or of `audiocls predict`."""
    with path.open(encoding="utf-8", errors="replace") as file:
        key = "path" if file.readline().startswith("path,") else "clip_id"
    cells = read_own_csv(path, [key]).set_index(key)
    truth, scores, names = _layout(list(cells.columns), predicted=key == "path")
    if not scores or cells.empty:
        raise ValueError(
            f"{path} holds no predictions: give the {PREDICTIONS} of a test, or what audiocls predict --out has written"
        )
    if twice := cells.index[cells.index.duplicated()].tolist():
        raise ValueError(f"{path} holds the clip {twice[0]!r} twice: give a table with a row a clip")
    numbers = cells[scores].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    task = _task(list(cells.columns), numbers, predicted=key == "path")
    right = np.isfinite(numbers) if task == "regression" else (numbers >= 0) & (numbers <= 1)
    if not right.all():
        row, column = np.argwhere(~right)[0]
        raise ValueError(
            f"{path} must hold {'finite numbers' if task == 'regression' else 'probabilities from 0 to 1'}, got "
            f"{cells[scores].iat[row, column]!r} as {scores[column]} of the clip {cells.index[row]!r}: write it again"
        )
    return Table(path, cells.index, pd.Index(names), numbers, cells[truth] if truth else None, task)


def _layout(columns: list[str], *, predicted: bool) -> tuple[list[str], list[str], list[str]]:
    """Columns of targets (not of tables of `audiocls predict`), columns of predictions, and names of the classes."""
    if predicted:
        scores = columns[1:] if columns[:1] in DECIDED.values() else columns
        return [], scores, scores
    of_classes = columns[:2] == ["target", "prediction"]
    truth = ["target"] if of_classes else [column for column in columns if column.startswith("target(")]
    prefix = "p(" if of_classes else "prediction("
    scores = [column for column in columns if column.startswith(prefix)]
    return truth, scores, [column[len(prefix) : -1] for column in scores]


def _task(columns: list[str], numbers: NDArray[np.float64], *, predicted: bool) -> Task:
    """The task that predictions are of; of those of a test, one label a clip has probabilities that sum to 1."""
    if predicted:
        tasks: list[Task] = [task for task, column in DECIDED.items() if columns[:1] == column]
        return tasks[0] if tasks else "regression"
    if columns[0] != "target":
        return "regression"
    return "multiclass" if (np.abs(numbers.sum(1) - 1) < ROUNDING).all() else "multilabel"


def _alike(tables: Sequence[Table]) -> list[Table]:
    """The tables with clips and classes in the order of the first.

    Raises:
        ValueError: if they have not the same clips, classes, targets and task.
    """
    first = tables[0]
    for table in tables[1:]:
        if (table.task, table.truth is None) != (first.task, first.truth is None):
            one, other = (
                f"{t.path} is {t.task} {'without' if t.truth is None else 'with'} targets" for t in (first, table)
            )
            raise ValueError(f"{one} and {other}: fuse tables of one kind")
        _check_same("class", first, first.class_names, table, table.class_names)
        _check_same("clip", first, first.clips, table, table.clips)
    return [first, *(_ordered(table, first) for table in tables[1:])]


def _check_same(what: str, one: Table, ours: pd.Index, other: Table, theirs: pd.Index) -> None:
    for has, of, lacks, among in ((one, ours, other, theirs), (other, theirs, one, ours)):
        only = of[~of.isin(among)]
        if len(only):
            more = f" and {len(only) - 1} more are" if len(only) > 1 else " is"
            raise ValueError(
                f"the {what} {only[0]!r}{more} in {has.path} and not in {lacks.path}: test both on the "
                "same data and split"
            )


def _ordered(table: Table, first: Table) -> Table:
    """Clips and classes in the order of another table, which must have the same targets."""
    rows, columns = table.clips.get_indexer(first.clips), table.class_names.get_indexer(first.class_names)
    predictions = table.predictions[rows][:, columns]
    if first.truth is None or table.truth is None:
        return replace(first, path=table.path, predictions=predictions)
    truth = table.truth.iloc[rows][list(first.truth.columns)]
    differs = (truth != first.truth).any(axis=1).to_numpy()
    if differs.any():
        i = int(differs.argmax())
        one, other = (", ".join(of.iloc[i]) for of in (first.truth, truth))
        raise ValueError(
            f"the target of the clip {first.clips[i]!r} is {one!r} in {first.path} and {other!r} in {table.path}: test "
            "both with the same labels"
        )
    return replace(first, path=table.path, predictions=predictions)


def target_of(table: Table) -> Tensor:
    """The targets as `audiocls.metrics.evaluate` reads them.

    Raises:
        ValueError: if a target is none of the classes.
    """
    assert table.truth is not None
    if table.task == "regression":
        return torch.tensor(table.truth.to_numpy(dtype=np.float64))
    place = {name: i for i, name in enumerate(table.class_names)}
    labels = torch.zeros(len(table.clips), len(place), dtype=torch.long)
    for row, cell in enumerate(table.truth["target"]):
        for name in [cell] if table.task == "multiclass" else filter(None, cell.split("|")):
            if name not in place:
                raise ValueError(
                    f"the target of the clip {table.clips[row]!r} in {table.path}, {cell!r}, is none of the classes "
                    f"{', '.join(place)}: test again"
                )
            labels[row, place[name]] = 1
    return labels.argmax(1) if table.task == "multiclass" else labels


def n_groups(tests: Sequence[FoldTables]) -> int | None:
    """Groups that the clips of all folds come in, as the tests of any run say beside its intervals; None if none says.

    Where runs say different numbers, the smallest: its intervals are the widest.
    """
    known = []
    for of_run in zip(*({test.fold: test.tables for test in tests}.values()), strict=True):
        said = [_groups_said(table.path) for table in of_run]
        if all(said):
            known.append(sum(said))
    return min(known, default=None)


def _groups_said(predictions: Path) -> int:
    """Groups that the bootstrap of a test drew from; 0 where it drew clips, or nothing says."""
    path = predictions.with_name(INTERVALS)
    if predictions.name != PREDICTIONS or not path.is_file():
        return 0
    row = read_own_csv(path, ["drawn", "unit"]).iloc[0]
    return int(row["drawn"]) if row["unit"] == "groups" else 0

"""Fusion: the means by hand, what does not belong together and is refused, and that what is written can be read."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread

from audiocls.fusion import FLOOR, Mean, fuse, fuse_runs
from audiocls.intervals import bootstrap
from audiocls.metrics import Task, evaluate
from audiocls.report import tables
from audiocls.report.folds import FoldResult, pooled_accuracy, sentence, write_folds
from audiocls.report.tables import write_csv, write_intervals, write_predictions

NAMES = ["bell", "drum", "nan"]  # a class may be called so
Rows = Sequence[Sequence[float]]


def table(
    path: Path,
    predictions: Rows,
    target: Sequence[int] | Rows,
    *,
    task: Task = "multiclass",
    names: list[str] = NAMES,
    ids: Sequence[str] | None = None,
) -> Path:
    """What a test writes."""
    n = len(predictions)
    truth = torch.tensor(target, dtype=torch.float32 if task == "regression" else torch.long)
    done = evaluate(torch.arange(n), torch.tensor(predictions), truth, class_names=names, task=task)
    return write_predictions(path, done, ids or [f"clip{i}" for i in range(n)])


def drawn(seed: int, n: int = 30, *, skill: float = 1.0) -> tuple[list[list[float]], list[int]]:
    """Probabilities that are right more often than not, of targets that are the same for every seed."""
    target = [i % 3 for i in range(n)]
    logits = np.random.default_rng(seed).normal(0, 1, (n, 3)) + skill * np.eye(3)[target]
    odds = np.exp(logits)
    return (odds / odds.sum(1, keepdims=True)).tolist(), target


def cross_validation(run: Path, *, seed: int, folds: Sequence[str] = ("fold01", "fold02"), own: int = 0) -> Path:
    """Folds of different sizes; folder names as `audiocls.fold_plan` gives them."""
    results = []
    for name in folds:
        fold, _, other = name.removeprefix("fold").partition("-seed")
        n = 10 * int(fold)
        of_seed = int(other) if other else own
        predictions, target = drawn(100 * seed + 10 * int(fold) + of_seed, n)
        table(run / name / "test_predictions.csv", predictions, target, ids=[f"f{fold}/{i}.wav" for i in range(n)])
        results.append(FoldResult(int(fold), of_seed, n, 0, {"accuracy": 0.0}, 1.5 * seed))
    write_folds(run / "folds.csv", results)
    return run


def edit(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    changed = change(pd.read_csv(path, dtype=str, keep_default_na=False))
    changed.to_csv(path, index=False)


def read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype={"clip_id": str, "target": str, "prediction": str}, keep_default_na=False)


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Two cross-validations of two folds."""
    return [cross_validation(tmp_path / name, seed=seed) for seed, name in enumerate("ab", start=1)]


@pytest.fixture
def single(tmp_path: Path) -> list[Path]:
    """Two runs without folds."""
    for seed, name in enumerate("ab", start=1):
        table(tmp_path / name / "test_predictions.csv", *drawn(seed))
    return [tmp_path / "a", tmp_path / "b"]


# --- means ---


def test_geometric_mean_of_one_label_by_hand() -> None:
    one, other = np.array([[0.5, 0.3, 0.2]]), np.array([[0.1, 0.6, 0.3]])
    product = [math.sqrt(0.05), math.sqrt(0.18), math.sqrt(0.06)]
    expected = [[p / sum(product) for p in product]]
    np.testing.assert_allclose(fuse([one, other], [1, 1], task="multiclass"), expected, rtol=1e-12)


def test_weights_are_exponents_and_only_their_ratios_count() -> None:
    one, other = np.array([[0.5, 0.5]]), np.array([[0.2, 0.8]])
    powers = [0.5 ** (2 / 3) * 0.2 ** (1 / 3), 0.5 ** (2 / 3) * 0.8 ** (1 / 3)]
    expected = [[p / sum(powers) for p in powers]]
    np.testing.assert_allclose(fuse([one, other], [2, 1], task="multiclass"), expected, rtol=1e-12)
    np.testing.assert_allclose(fuse([one, other], [20, 10], task="multiclass"), expected, rtol=1e-12)


def test_geometric_mean_of_several_labels_is_that_of_their_odds() -> None:
    one, other = np.array([[0.9, 0.5]]), np.array([[0.2, 0.5]])
    odds = math.sqrt(0.9 / 0.1 * 0.2 / 0.8)
    np.testing.assert_allclose(fuse([one, other], [1, 1], task="multilabel"), [[odds / (1 + odds), 0.5]], rtol=1e-12)


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_arithmetic_mean_by_hand(task: Task) -> None:
    one, other = np.array([[0.9, 0.1]]), np.array([[0.3, 0.7]])
    got = fuse([one, other], [2, 1], task=task, mean="arithmetic")
    np.testing.assert_allclose(got, [[0.7, 0.3]], rtol=1e-12)


@pytest.mark.parametrize("mean", ["geometric", "arithmetic"])
def test_numbers_are_averaged(mean: Mean) -> None:
    got = fuse([np.array([[-4.0, 1.0]]), np.array([[2.0, 3.0]])], [1, 2], task="regression", mean=mean)
    np.testing.assert_allclose(got, [[0.0, 7 / 3]], atol=1e-12)


def test_a_zero_vetoes_no_more_than_the_floor_does() -> None:
    one, other = np.array([[0.0, 1.0]]), np.array([[1.0, 0.0]])
    np.testing.assert_allclose(fuse([one, other], [1, 1], task="multiclass"), [[0.5, 0.5]], rtol=1e-12)
    np.testing.assert_allclose(fuse([one, other], [1, 1], task="multilabel"), [[0.5, 0.5]], rtol=1e-9)
    sure = fuse([one, np.array([[0.5, 0.5]])], [1, 1], task="multiclass")
    assert sure[0, 0] == pytest.approx(math.sqrt(FLOOR) / (1 + math.sqrt(FLOOR)))


# --- cross-validations ---


def test_folds_are_fused_scored_and_written_as_a_cross_validation_writes_them(two: list[Path], tmp_path: Path) -> None:
    said = fuse_runs(two, out=tmp_path / "fused")
    right = n = 0
    for fold in ("fold01", "fold02"):
        a, b = (read(run / fold / "test_predictions.csv") for run in two)
        got = read(tmp_path / "fused" / fold / "test_predictions.csv")
        assert got[["clip_id", "target"]].equals(a[["clip_id", "target"]])
        product = np.sqrt(a.iloc[:, 3:].to_numpy() * b.iloc[:, 3:].to_numpy())
        # six digits are written
        np.testing.assert_allclose(got.iloc[:, 3:], product / product.sum(1, keepdims=True), rtol=1e-5)
        assert [NAMES[i] for i in product.argmax(1)] == got["prediction"].tolist()
        right, n = right + int((got["prediction"] == got["target"]).sum()), n + len(got)
    folds = pd.read_csv(tmp_path / "fused" / "folds.csv")
    assert folds[["fold", "seed", "clips"]].to_numpy().tolist() == [[1, 0, 10], [2, 0, 20]]
    assert folds["minutes"].tolist() == [4.5, 4.5]  # 1.5 and 3.0
    summary = pd.read_csv(tmp_path / "fused" / "summary.csv", index_col="score")
    assert summary.loc["accuracy", "pooled"] == pytest.approx(right / n)
    assert imread(tmp_path / "fused" / "folds.png").std() > 0
    assert all(path.is_file() for path in said.files)
    assert len(said.files) == 5
    assert said.lines[2].startswith("geometric mean of 2: accuracy ")
    assert said.lines[2].endswith(", clips taken as independent)")


def test_each_run_is_said_by_itself_before_what_is_fused(two: list[Path], tmp_path: Path) -> None:
    said = fuse_runs(two, out=tmp_path / "fused")
    for run, line in zip(two, said.lines, strict=False):
        results = []
        for fold in (1, 2):
            got = read(run / f"fold0{fold}" / "test_predictions.csv")
            n_right = int((got["prediction"] == got["target"]).sum())
            results.append(FoldResult(fold, 0, len(got), n_right, {"accuracy": n_right / len(got)}, 0.0))
        assert pooled_accuracy(results) is not None
        assert line == f"{run}: {sentence(results, n_folds=2)}"


def test_two_models_that_err_differently_are_better_together(tmp_path: Path) -> None:
    for seed, name in enumerate("ab", start=1):
        table(tmp_path / name / "test_predictions.csv", *drawn(seed, 1000, skill=1.5))
    said = fuse_runs([tmp_path / "a", tmp_path / "b"], out=tmp_path / "fused")
    a, b, fused = (float(line.partition("accuracy ")[2].split()[0]) for line in said.lines[:3])
    assert fused > max(a, b) + 0.05


def test_clips_and_classes_in_another_order_are_put_in_the_order_of_the_first(two: list[Path], tmp_path: Path) -> None:
    expected = fuse_runs(two, out=tmp_path / "one").lines
    order = ["clip_id", "target", "prediction", "p(nan)", "p(bell)", "p(drum)"]
    edit(two[1] / "fold02" / "test_predictions.csv", lambda t: t.sample(frac=1, random_state=0)[order])
    assert fuse_runs(two, out=tmp_path / "two").lines == expected
    for fold in ("fold01", "fold02"):
        one, other = (tmp_path / name / fold / "test_predictions.csv" for name in ("one", "two"))
        assert one.read_text() == other.read_text()


def test_each_seed_goes_with_the_same_seed_whatever_folder_it_is_in(tmp_path: Path) -> None:
    a = cross_validation(tmp_path / "a", seed=1, folds=["fold01", "fold01-seed7"])
    b = cross_validation(tmp_path / "b", seed=2, folds=["fold01", "fold01-seed0"], own=7)
    fuse_runs([a, b], out=tmp_path / "fused", mean="arithmetic")
    for ours, theirs in (("fold01", "fold01-seed0"), ("fold01-seed7", "fold01")):
        one, other = (read(path / "test_predictions.csv").iloc[:, 3:] for path in (a / ours, b / theirs))
        got = read(tmp_path / "fused" / ours / "test_predictions.csv").iloc[:, 3:]
        np.testing.assert_allclose(got, (one + other) / 2, rtol=1e-5)
    folds = pd.read_csv(tmp_path / "fused" / "folds.csv")
    assert folds[["fold", "seed"]].to_numpy().tolist() == [[1, 0], [1, 7]]


def test_runs_of_one_seed_each_are_fused_whichever_it_is(tmp_path: Path) -> None:
    a = cross_validation(tmp_path / "a", seed=1, own=3)
    b = cross_validation(tmp_path / "b", seed=2, own=4)
    fuse_runs([a, b], out=tmp_path / "fused")
    assert pd.read_csv(tmp_path / "fused" / "folds.csv")["seed"].tolist() == [3, 3]


def test_what_is_fused_can_be_fused_again(two: list[Path], tmp_path: Path) -> None:
    third = cross_validation(tmp_path / "c", seed=3)
    fuse_runs(two, out=tmp_path / "ab")
    fuse_runs([tmp_path / "ab", third], out=tmp_path / "nested", weights=[2, 1])
    fuse_runs([*two, third], out=tmp_path / "flat")
    nested, flat = (read(tmp_path / name / "fold02" / "test_predictions.csv") for name in ("nested", "flat"))
    np.testing.assert_allclose(nested.iloc[:, 3:], flat.iloc[:, 3:], rtol=3e-5)  # six digits, twice
    minutes = [pd.read_csv(tmp_path / name / "folds.csv")["minutes"].tolist() for name in ("nested", "flat")]
    assert minutes == [[9.0, 9.0], [9.0, 9.0]]


def test_groups_are_said_where_the_tests_of_a_run_know_them(two: list[Path], tmp_path: Path) -> None:
    for fold, n in (("fold01", 4), ("fold02", 7)):
        header, row = ["score", "drawn", "unit"], ["accuracy", n, "groups"]
        write_csv(two[1] / fold / "test_intervals.csv", header, [row])
        write_csv(two[0] / fold / "test_intervals.csv", header, [["accuracy", 10, "clips"]])
    for line in fuse_runs(two, out=tmp_path / "fused").lines:
        assert line.endswith(", too narrow since the clips come in 11 groups and are not independent)")
    (two[1] / "fold02" / "test_intervals.csv").unlink()  # half of it known is not known
    assert fuse_runs(two, out=tmp_path / "again").lines[2].endswith("clips taken as independent)")


# --- single runs ---


def test_single_runs_have_the_intervals_of_their_clips(single: list[Path], tmp_path: Path) -> None:
    said = fuse_runs(single, out=tmp_path / "fused", mean="arithmetic")
    tables_of = [read(run / "test_predictions.csv") for run in single]
    mean = sum(t.iloc[:, 3:].to_numpy() for t in tables_of) / 2
    target = torch.tensor([NAMES.index(name) for name in tables_of[0]["target"]])
    done = evaluate(torch.arange(30), torch.from_numpy(mean), target, class_names=NAMES, task="multiclass")
    row = pd.read_csv(tmp_path / "fused" / "test_metrics.csv").iloc[0]
    assert row["test/accuracy"] == pytest.approx(done.scalars["accuracy"])
    assert row["test/auroc_macro"] == pytest.approx(done.scalars["auroc_macro"])
    low, high = bootstrap(done).scalars["accuracy"]
    interval = pd.read_csv(tmp_path / "fused" / "test_intervals.csv", index_col="score").loc["accuracy"]
    assert (interval["low"], interval["high"]) == pytest.approx((low, high), rel=1e-7)  # float32's digits
    assert interval["unit"] == "clips"
    assert said.lines[2] == (f"arithmetic mean of 2: accuracy {done.scalars['accuracy']:.4f} ({low:.4f} to {high:.4f})")
    assert said.lines[3] == "95 % bootstrap intervals: 1,000 draws of 30 clips, taken as independent"
    assert [path.name for path in said.files] == ["test_predictions.csv", "test_metrics.csv", "test_intervals.csv"]


def test_single_runs_whose_clips_come_in_groups_have_an_interval_that_is_said_to_be_narrow(
    single: list[Path], tmp_path: Path
) -> None:
    predictions, target = drawn(1)
    done = evaluate(
        torch.arange(30), torch.tensor(predictions), torch.tensor(target), class_names=NAMES, task="multiclass"
    )
    grouped = bootstrap(done, groups=[str(i // 5) for i in range(30)])
    write_intervals(single[0] / "test_intervals.csv", done, grouped)
    said = fuse_runs(single, out=tmp_path / "fused")
    assert said.lines[-1].endswith("30 clips, taken as independent, too narrow since they come in 6 groups")


def test_groups_of_a_test_are_not_said_of_another_table_beside_it(single: list[Path], tmp_path: Path) -> None:
    write_csv(single[0] / "test_intervals.csv", ["score", "drawn", "unit"], [["accuracy", 6, "groups"]])
    validation = [(run / "test_predictions.csv").rename(run / "val_predictions.csv") for run in single]
    assert fuse_runs(validation, out=tmp_path / "fused").lines[-1].endswith("30 clips, taken as independent")


def test_tables_are_runs_too_and_weights_are_said(single: list[Path], tmp_path: Path) -> None:
    files = [shutil.copy(run / "test_predictions.csv", tmp_path / f"{run.name}.csv") for run in single]
    by_file = fuse_runs(list(map(Path, files)), out=tmp_path / "one", weights=[2, 0.5])
    by_folder = fuse_runs(single, out=tmp_path / "two", weights=[2, 0.5])
    assert by_file.lines[2:] == by_folder.lines[2:]
    assert by_file.lines[2].startswith("geometric mean of 2 with weights 2 0.5: ")
    assert json.loads((tmp_path / "two" / "fusion.json").read_text()) == {
        "runs": list(map(str, single)), "weights": [2, 0.5], "mean": "geometric",
    }  # fmt: skip


def test_several_labels_are_decided_at_one_half_and_said_to_be(tmp_path: Path) -> None:
    one = [[0.9, 0.2, 0.4], [0.8, 0.1, 0.1], [0.2, 0.2, 0.2], [0.7, 0.9, 0.3]]
    other = [[0.7, 0.6, 0.8], [0.1, 0.3, 0.1], [0.2, 0.9, 0.2], [0.7, 0.6, 0.6]]
    target = [[1, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]]
    for name, predictions in (("a", one), ("b", other)):
        table(tmp_path / name / "test_predictions.csv", predictions, target, task="multilabel")
    said = fuse_runs([tmp_path / "a", tmp_path / "b"], out=tmp_path / "fused")
    got = read(tmp_path / "fused" / "test_predictions.csv")
    assert got["target"].tolist() == ["bell|nan", "bell", "", "bell|drum"]
    assert got["prediction"].tolist() == ["bell|nan", "", "drum", "bell|drum"]
    odds = np.sqrt(np.array(one) / (1 - np.array(one)) * np.array(other) / (1 - np.array(other)))
    np.testing.assert_allclose(got.iloc[:, 3:], odds / (1 + odds), rtol=1e-5)
    assert said.lines[2].startswith("geometric mean of 2: average precision macro ")
    assert said.lines[-1] == "tags are decided at 0.5, whatever thresholds the runs have chosen"


def test_numbers_have_their_arithmetic_mean(tmp_path: Path) -> None:
    target = [[1.0, 5.0], [2.0, 4.0], [3.0, 3.0], [-7.25, 2.0]]
    for name, shift in (("a", 1.0), ("b", -1.0)):
        shifted = [[value + shift for value in row] for row in target]
        table(
            tmp_path / name / "test_predictions.csv", shifted, target, task="regression", names=["valence", "arousal"]
        )
    runs = [tmp_path / "a", tmp_path / "b"]
    said = fuse_runs(runs, out=tmp_path / "fused")
    got = pd.read_csv(tmp_path / "fused" / "test_predictions.csv")
    assert got["prediction(valence)"].tolist() == got["target(valence)"].tolist() == [1, 2, 3, -7.25]
    assert said.lines[2].startswith("arithmetic mean of 2: R² mean 1.0000 (1.0000 to 1.0000)")
    with pytest.raises(ValueError, match="--mean geometric is of probabilities, and these are numbers: leave it out"):
        fuse_runs(runs, out=tmp_path / "again", mean="geometric")


# --- predictions without targets ---


def test_predictions_without_targets_are_fused_and_not_scored(tmp_path: Path) -> None:
    columns = ["path", "label", *NAMES]
    write_csv(tmp_path / "a.csv", columns, [["x.wav", NAMES[0], 0.5, 0.3, 0.2], ["y.wav", NAMES[2], 0.2, 0.2, 0.6]])
    write_csv(tmp_path / "b.csv", columns, [["y.wav", NAMES[2], 0.1, 0.1, 0.8], ["x.wav", NAMES[1], 0.1, 0.6, 0.3]])
    said = fuse_runs([tmp_path / "a.csv", tmp_path / "b.csv"], out=tmp_path / "out", mean="arithmetic")
    got = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    assert got.columns.tolist() == columns
    assert got["path"].tolist() == ["x.wav", "y.wav"]
    assert got["label"].tolist() == [NAMES[1], NAMES[2]]
    np.testing.assert_allclose(got[NAMES], [[0.3, 0.45, 0.25], [0.15, 0.15, 0.7]])
    assert said.lines == ["2 files, without targets and so without scores"]
    assert said.files == [tmp_path / "out" / "predictions.csv"]


def test_tags_without_targets_keep_their_column_of_labels(tmp_path: Path) -> None:
    for name, p in (("a", 0.9), ("b", 0.4)):
        write_csv(
            tmp_path / f"{name}.csv", ["path", "labels", "x", "y"], [["1.wav", "x|y", p, 0.6], ["2.wav", "", 0, 0]]
        )
    fuse_runs([tmp_path / "a.csv", tmp_path / "b.csv"], out=tmp_path / "out")
    got = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False)
    assert got["labels"].tolist() == ["x|y", ""]
    odds = math.sqrt(9 * 4 / 6)
    assert got["x"].tolist() == pytest.approx([odds / (1 + odds), FLOOR])


def test_numbers_without_targets_are_averaged(tmp_path: Path) -> None:
    for name, value in (("a", 3.0), ("b", -1.0)):
        write_csv(tmp_path / f"{name}.csv", ["path", "valence"], [["1.wav", value]])
    fuse_runs([tmp_path / "a.csv", tmp_path / "b.csv"], out=tmp_path / "out", weights=[1, 3])
    assert pd.read_csv(tmp_path / "out" / "predictions.csv")["valence"].tolist() == [0.0]


# --- what is refused ---


def first(run: Path) -> Path:
    return run / "fold01" / "test_predictions.csv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t[t["clip_id"] != "f01/3.wav"],
            r"the clip 'f01/3.wav' is in \S+/a/fold01/\S+ and not in \S+/b/fold01",
        ),
        (lambda t: t[:4], r"the clip 'f01/4.wav' and 5 more are in \S+/a/fold01/\S+ and not in \S+/b/fold01"),
        (
            lambda t: pd.concat([t, t[:1].assign(clip_id="new")]),
            r"the clip 'new' is in \S+/b/fold01/\S+ and not in \S+/a/fold01",
        ),
        (lambda t: pd.concat([t, t[:1]]), r"/b/fold01/test_predictions.csv holds the clip 'f01/0.wav' twice"),
        (
            lambda t: t.rename(columns={"p(drum)": "p(gong)"}),
            r"the class 'drum' is in \S+/a/fold01/\S+ and not in \S+/b/fold01/\S+: test both on the same",
        ),
        (
            lambda t: t.assign(target=t["target"].where(t["clip_id"] != "f01/5.wav", "bell")),
            r"the target of the clip 'f01/5.wav' is 'nan' in \S+/a/fold01/\S+ and 'bell' in \S+/b/fold01",
        ),
        (
            lambda t: t.assign(**{"p(bell)": "0.9", "p(drum)": "0.9"}),
            r"/a/fold01/\S+ is multiclass with targets and \S+/b/fold01/\S+ is multilabel with targets: fuse",
        ),
        (
            lambda t: t.drop(columns="target").rename(columns={"clip_id": "path", "prediction": "label"}),
            r"is multiclass with targets and \S+/b/fold01/\S+ is multiclass without targets",
        ),
        (
            lambda t: t.assign(**{"p(bell)": "1.5"}),
            r"must hold probabilities from 0 to 1, got '1.5' as p\(bell\) of the",
        ),
        (lambda t: t.assign(**{"p(nan)": "nan"}), r"got 'nan' as p\(nan\) of the clip 'f01/0.wav': write it again"),
        (lambda t: t.assign(**{"p(nan)": "much"}), r"got 'much' as p\(nan\) of the clip"),
        (lambda t: t[:0], "holds no predictions: give the test_predictions.csv of a test"),
        (lambda t: t[["clip_id", "target", "prediction"]], "holds no predictions"),
        (lambda t: t.drop(columns="clip_id"), "has no column 'clip_id'"),
    ],
)
def test_tables_that_do_not_belong_together_are_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str, two: list[Path], tmp_path: Path
) -> None:
    edit(first(two[1]), change)
    with pytest.raises(ValueError, match=message):
        fuse_runs(two, out=tmp_path / "fused")
    assert not (tmp_path / "fused").exists()


def test_a_target_that_is_no_class_is_refused(two: list[Path], tmp_path: Path) -> None:
    for run in two:
        edit(first(run), lambda t: t.assign(target=t["target"].replace("drum", "gong")))
    with pytest.raises(
        ValueError, match=r"the target of the clip 'f01/1.wav' in \S+, 'gong', is none of the classes bell"
    ):
        fuse_runs(two, out=tmp_path / "fused")


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (["fold01"], r"a has fold 2 and \S+b has not: finish it by tools/cross_validate.py --run_dir \S+b --folds 2$"),
        (["fold01", "fold02", "fold03"], r"b has fold 3 and \S+a has not"),
        (
            ["fold01", "fold02", "fold02-seed5"],
            r"b has fold 2 with seed 5 and \S+a has not: \S+ \S+ by \S+ --run_dir \S+a --folds 2 --seeds 5$",
        ),
    ],
)
def test_folds_and_seeds_that_differ_are_refused(theirs: list[str], message: str, tmp_path: Path) -> None:
    runs = [
        cross_validation(tmp_path / "a", seed=1),
        cross_validation(tmp_path / "b", seed=2, folds=theirs),
    ]
    with pytest.raises(ValueError, match=message):
        fuse_runs(runs, out=tmp_path / "fused")


def test_folds_of_two_tasks_are_refused(two: list[Path], tmp_path: Path) -> None:
    for run in two:
        edit(first(run), lambda t: t.assign(**{"p(bell)": "0.9", "p(drum)": "0.9"}))
    with pytest.raises(
        ValueError, match=r"fold01/\S+ is multilabel and \S+/fold02/\S+ multiclass: folds must be of one"
    ):
        fuse_runs(two, out=tmp_path / "fused")


def test_a_cross_validation_and_a_single_run_are_refused(two: list[Path], tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"a is a cross-validation and \S+/b/fold01 has no folds.csv: fuse runs of one"
    ):
        fuse_runs([two[0], two[1] / "fold01"], out=tmp_path / "fused")


def test_a_run_that_is_not_tested_is_refused(two: list[Path], tmp_path: Path) -> None:
    first(two[1]).unlink()
    with pytest.raises(
        ValueError, match=r"b/fold01 is no table and holds no folds.csv or test_predictions.csv: give the"
    ):
        fuse_runs(two, out=tmp_path / "fused")
    write_folds(two[1] / "folds.csv", [])
    with pytest.raises(
        ValueError, match=r"folds.csv says of no fold that it is finished: finish tools/cross_validate.py"
    ):
        fuse_runs(two, out=tmp_path / "fused")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "--weights must be one a run, got 1 for 2 runs"),
        ([1.0, 0.0], "--weights must be above 0 and finite, got 0: leave out a run that shall not count"),
        ([1.0, -2.0], "got -2"),
        ([math.nan, 1.0], "got nan"),
        ([math.inf, 1.0], "got inf"),
    ],
)
def test_weights_that_say_nothing_are_refused(
    weights: list[float], message: str, two: list[Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        fuse_runs(two, out=tmp_path / "fused", weights=weights)


def test_one_run_and_the_same_run_twice_are_refused(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="a fusion needs at least 2 runs, got 1"):
        fuse_runs(two[:1], out=tmp_path / "fused")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="a is given twice: give it once, and more weight by --weights"):
        fuse_runs([two[0], Path("a")], out=tmp_path / "fused")


def test_a_single_clip_has_no_interval_and_nothing_is_written(tmp_path: Path) -> None:
    for name in "ab":
        table(tmp_path / name / "test_predictions.csv", [[0.5, 0.3, 0.2]], [0])
    with pytest.raises(ValueError, match="at least 2 clips to draw from, got 1"):
        fuse_runs([tmp_path / "a", tmp_path / "b"], out=tmp_path / "fused")
    assert not (tmp_path / "fused").exists()


# --- what is written ---


def test_a_run_is_never_overwritten(two: list[Path], tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.csv")}
    with pytest.raises(
        ValueError, match=r"a holds something else than this fusion: give another --out, such as \S+/a-2"
    ):
        fuse_runs(two, out=two[0])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.csv")} == before
    fuse_runs(two, out=tmp_path / "fused")
    with pytest.raises(ValueError, match="fused holds something else than this fusion"):
        fuse_runs(two, out=tmp_path / "fused", weights=[2, 1])


def test_killed_at_any_file_it_leaves_whole_files_and_the_same_call_ends_it(
    two: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuse_runs(two, out=tmp_path / "whole")
    expected = {
        path.name: path.read_bytes() for path in (tmp_path / "whole").rglob("*.csv") if "fold0" not in str(path)
    }
    replace, left = os.replace, [3]

    def killed(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(tables.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        fuse_runs(two, out=tmp_path / "fused")
    written = sorted(str(path.relative_to(tmp_path / "fused")) for path in (tmp_path / "fused").rglob("[!.]*.*"))
    assert written == ["fold01/test_predictions.csv", "fusion.json"]
    monkeypatch.setattr(tables.os, "replace", replace)
    fuse_runs(two, out=tmp_path / "fused")
    assert {name: (tmp_path / "fused" / name).read_bytes() for name in expected} == expected
    assert sorted(expected) == ["folds.csv", "summary.csv"]

"""Folds: what is refused before the first step, what they come to, and that a killed one goes on to the same scores."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.image import imread
from scipy import stats

from audiocls import cross_validation
from audiocls.cross_validation import Stopped, run_folds, write_report
from audiocls.fold_plan import FoldRun, Plan, make_plan
from audiocls.report import style
from audiocls.report.folds import (
    FoldResult,
    fold_scores,
    pooled_accuracy,
    sentence,
    spreads,
    t_interval,
    wilson_interval,
    write_folds,
    write_summary,
)
from datamodules import AudioTable
from datamodules.locks import take_lock
from tests.conftest import make_store
from tests.wandb_reader import read_offline_run

CONF = Path(__file__).parents[1] / "conf"
TOOL = Path(__file__).parents[1] / "tools" / "cross_validate.py"


def results(*accuracies: float, n_clips: int = 50, seed: int = 0) -> list[FoldResult]:
    return [
        FoldResult(fold, seed, n_clips, round(value * n_clips), {"accuracy": value, "f1_macro": value / 2}, 2.5)
        for fold, value in enumerate(accuracies, start=1)
    ]


# --- what folds come to ---


@pytest.mark.parametrize("n", [2, 5, 10])
def test_t_interval_is_scipy_s(n: int) -> None:
    values = np.random.default_rng(n).uniform(0.5, 0.9, n).tolist()
    expected = stats.t.interval(0.95, n - 1, loc=np.mean(values), scale=stats.sem(values))
    np.testing.assert_allclose(t_interval(values), expected, rtol=1e-12)  # the same sums in another order


@pytest.mark.parametrize(("right", "n"), [(0, 7), (7, 7), (1, 2), (638, 873), (6395, 8732)])
def test_wilson_interval_is_scipy_s(right: int, n: int) -> None:
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    np.testing.assert_allclose(wilson_interval(right / n, n), (expected.low, expected.high), atol=1e-12)


def test_the_t_interval_holds_the_mean_as_often_as_it_says_where_folds_are_independent() -> None:
    generator = np.random.default_rng(0)
    intervals = [t_interval(generator.normal(0.7, 0.05, 5).tolist()) for _ in range(2000)]
    held = statistics.fmean(low <= 0.7 <= high for low, high in intervals)
    assert held == pytest.approx(0.95, abs=0.02)  # four standard errors of 2000 draws


def test_scores_are_spread_over_folds_and_pooled_over_clips() -> None:
    found = [FoldResult(1, 0, 10, 9, {"accuracy": 0.9}, 1), FoldResult(2, 0, 30, 15, {"accuracy": 0.5}, 1)]
    spread, pooled = spreads(found)["accuracy"], pooled_accuracy(found)
    assert spread.mean == pytest.approx(0.7)  # each fold counts the same
    assert spread.standard_deviation == pytest.approx(statistics.stdev([0.9, 0.5]))
    assert pooled is not None
    assert (pooled.accuracy, pooled.n_clips) == (24 / 40, 40)  # each clip counts the same


def test_seeds_are_averaged_and_count_neither_as_folds_nor_as_clips() -> None:
    one = results(0.6, 0.8)
    twice = [*one, *results(0.6, 0.8, seed=1)]
    assert spreads(twice) == spreads(one)
    assert pooled_accuracy(twice) == pooled_accuracy(one)
    other = spreads([*one, *results(0.8, 1.0, seed=1)])["accuracy"]
    assert other.mean == pytest.approx(0.8)
    assert other.standard_deviation == pytest.approx(statistics.stdev([0.7, 0.9]))


def test_the_t_interval_ends_where_the_score_ends() -> None:
    found = results(1.0, 1.0, 0.9)
    assert t_interval([1.0, 1.0, 0.9])[1] > 1.1
    assert spreads(found)["accuracy"].interval[1] == 1.0
    counts = [replace(result, scores={"classes_scored": 10.0 - result.fold}) for result in found]
    assert spreads(counts)["classes_scored"].interval == t_interval([9.0, 8.0, 7.0])
    losses = [replace(result, scores={"loss": 2.0 + result.fold}) for result in found]
    assert spreads(losses)["loss"].interval == t_interval([3.0, 4.0, 5.0])  # was cut off at 1


def test_a_fold_of_numbers_has_scores_and_no_clips_that_are_right(tmp_path: Path) -> None:
    """Its table has no column `prediction`, and the first fold ended in a traceback."""
    fold = FoldRun(1, 0, tmp_path)
    fold.move_on("done", seconds=90.0)
    (tmp_path / "test_metrics.csv").write_text("checkpoint,epoch,step,test/loss,test/r2_mean\nbest.ckpt,3,4,2.5,-0.5\n")
    columns = "clip_id,target(height),target(noise),prediction(height),prediction(noise)"
    (tmp_path / "test_predictions.csv").write_text(f"{columns}\na.wav,1,2,3,4\nb.wav,1,2,3,4\n")
    assert fold.result("regression") == FoldResult(1, 0, 2, None, {"r2_mean": -0.5, "loss": 2.5}, 1.5)


def test_one_fold_has_no_spread_and_several_labels_have_no_pooled_accuracy(tmp_path: Path) -> None:
    spread = spreads(results(0.7))["accuracy"]
    assert math.isnan(spread.standard_deviation)
    assert "±" not in sentence(results(0.7), n_folds=10)
    row = pd.read_csv(write_summary(tmp_path / "summary.csv", results(0.7))).iloc[0]
    assert (row["mean"], row["folds"], row["clips"]) == (0.7, 1, 50)
    assert math.isnan(row["t_low"])
    tags = [FoldResult(r.fold, 0, 50, None, {"auroc_macro": 0.8}, 1.0) for r in results(0.7, 0.8)]
    assert pooled_accuracy(tags) is None
    assert sentence(tags, n_folds=2).startswith("AUROC macro 0.800 ± 0.000 (mean ± standard deviation of 2 folds;")


def test_the_line_to_paste_says_what_it_is_made_of() -> None:
    line = sentence(results(0.7, 0.8, 0.6), n_folds=10, n_groups=20)
    low, high = (100 * value for value in t_interval([0.7, 0.8, 0.6]))
    assert line.startswith("accuracy 70.0 ± 10.0 % (mean ± standard deviation of 3 of 10 folds; ")
    assert f"95 % t interval of the mean {low:.1f} to {high:.1f}" in line
    low, high = (100 * value for value in wilson_interval(0.7, 150))
    assert f"70.0 % of all 150 clips, 95 % Wilson interval {low:.1f} to {high:.1f}" in line
    assert line.endswith("too narrow since the clips come in 20 groups and are not independent)")
    assert "groups" not in sentence(results(0.7, 0.8), n_folds=10, n_groups=100)  # every clip a group of its own
    assert "\n" not in line


def test_tables_hold_every_fold_and_score(tmp_path: Path) -> None:
    table = pd.read_csv(write_folds(tmp_path / "folds.csv", results(0.7, 0.8)))
    assert table.columns.tolist() == ["fold", "seed", "clips", "accuracy", "f1_macro", "minutes"]
    assert table["accuracy"].tolist() == [0.7, 0.8]
    summary = pd.read_csv(write_summary(tmp_path / "summary.csv", results(0.7, 0.8)), index_col="score")
    assert summary.loc["f1_macro", "mean"] == pytest.approx(0.375)
    assert summary.loc["accuracy", "wilson_low"] == pytest.approx(wilson_interval(0.75, 100)[0])


@pytest.mark.parametrize("n_seeds", [1, 2])
def test_the_figure_shows_each_fold_where_its_score_is(n_seeds: int, tmp_path: Path) -> None:
    shown = [result for seed in range(n_seeds) for result in results(0.7, 0.8, 0.6, seed=seed)]
    figure = fold_scores(shown, title="folds")
    (axes,) = figure.axes
    dots = [tuple(offset) for collection in axes.collections for offset in np.atleast_2d(collection.get_offsets())]
    assert {(0.0, 0.7), (1.0, 0.8), (2.0, 0.6)} <= {(float(x), round(float(y), 9)) for x, y in dots}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3", "mean\nof folds", "all\nclips"]
    legend = "".join(text.get_text() for text in figure.texts) + (figure.get_supxlabel())
    assert ("rings: seeds" in legend) == (n_seeds > 1)
    assert imread(style.save(figure, tmp_path / "folds.png")).std() > 0


# --- plans ---


@pytest.fixture(scope="module")
def folded(tone_files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(table, store): the tones in three folds, pairs of clips as groups."""
    folder = tmp_path_factory.mktemp("folded")
    clips = sorted(tone_files.rglob("*.wav"))
    (folder / "tones").symlink_to(tone_files)
    rows = [
        {
            "path": f"tones/{clip.relative_to(tone_files)}",
            "label": clip.parent.name,
            "fold": int(clip.stem[-1]) // 2 % 3 + 1,
            "group": f"{clip.parent.name} {int(clip.stem[-1]) // 2}",
        }
        for clip in clips
    ]
    pd.DataFrame(rows).to_csv(folder / "clips.csv", index=False)
    return folder / "clips.csv", make_store(folder / "clips.csv", folder / "store", sample_rate=8000)


def options(folded: tuple[Path, Path], *more: str) -> list[str]:
    """Two epochs of a small model on the folds."""
    table, store = folded
    return [
        "--config", str(CONF / "digits.yaml"), "--data", "AudioTable", "--data.store", str(store),
        "--data.root", str(table), "--data.batch_size", "2", "--data.clip_seconds", "0.1",
        "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu", *more,
    ]  # fmt: skip


def test_a_plan_has_a_run_for_each_fold_and_seed(folded: tuple[Path, Path], tmp_path: Path) -> None:
    plan = make_plan(options(folded), run_dir=str(tmp_path / "a"), seeds=[0, 5])
    assert [(run.fold, run.seed, run.folder.name) for run in plan.runs] == [
        (1, 0, "fold01"), (2, 0, "fold02"), (3, 0, "fold03"),
        (1, 5, "fold01-seed5"), (2, 5, "fold02-seed5"), (3, 5, "fold03-seed5"),
    ]  # fmt: skip
    assert (plan.folds, plan.task, plan.max_epochs) == ([1, 2, 3], "multiclass", 2)
    assert plan.groups is not None
    assert plan.groups["group"].nunique() == 15
    assert not (tmp_path / "a").exists()  # a plan writes nothing
    some = make_plan(options(folded, "--seed_everything", "5"), run_dir=str(tmp_path / "b"), folds=[3, 1, 3])
    assert [(run.fold, run.seed, run.folder.name) for run in some.runs] == [(1, 5, "fold01"), (3, 5, "fold03")]


@pytest.mark.parametrize(
    ("more", "folds", "message"),
    [
        (["--data.fold", "2"], None, "--data.fold is given to each fold here: leave it out, and use --folds"),
        (["--ckpt_path=last"], None, "--ckpt_path is given to each fold here"),
        ([], [1, 4], r"--folds must be among 1, 2, 3 of AudioTable, got 4"),
        (["--data.validation_fold", "2"], None, "data.validation_fold cannot stay at 2 while the test runs through"),
        (["--data", "SpokenDigits"], None, "SpokenDigits has no setting fold: cross-validation needs data"),
    ],
)
def test_what_cannot_be_cross_validated_is_refused(
    more: list[str], folds: list[int] | None, message: str, folded: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make_plan(options(folded, *more), run_dir=str(tmp_path), folds=folds)
    assert "\n" not in str(caught.value)


def test_a_folder_is_cross_validated_by_folds_that_are_drawn(
    folded: tuple[Path, Path], tones: Path, tmp_path: Path
) -> None:
    own = options(folded, "--data", "AudioFolder", "--data.root", "null", "--data.store", str(tones))
    with pytest.raises(ValueError, match="AudioFolder as it is set has no folds, and cross-validation needs them: "):
        make_plan(own, run_dir=str(tmp_path))
    plan = make_plan([*own, "--data.n_folds", "5"], run_dir=str(tmp_path))
    assert [run.fold for run in plan.runs] == [1, 2, 3, 4, 5]


def test_a_validation_fold_that_is_never_the_test_may_stay(folded: tuple[Path, Path], tmp_path: Path) -> None:
    plan = make_plan(options(folded, "--data.validation_fold", "2"), run_dir=str(tmp_path), folds=[1, 3])
    assert [run.fold for run in plan.runs] == [1, 3]


def test_folds_may_be_trained_without_validation(folded: tuple[Path, Path], tmp_path: Path) -> None:
    plan = make_plan(options(folded, "--data.train_on_validation", "true"), run_dir=str(tmp_path))
    assert yaml.safe_load(plan.config)["data"]["init_args"]["train_on_validation"]
    assert len(plan.runs) == 3
    with pytest.raises(ValueError, match="--monitor val/loss has nothing to choose by, since nothing is validated"):
        make_plan(options(folded, "--data.train_on_validation", "true", "--monitor", "val/loss"), run_dir=str(tmp_path))


def test_one_teacher_of_all_folds_is_warned_of(
    folded: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    distil = ["--model.distill", "audiocls.distillation.Distillation", "--model.distill.teacher", "runs/teacher"]
    make_plan(options(folded), run_dir=str(tmp_path))
    make_plan(options(folded, *distil), run_dir=str(tmp_path), folds=[1])
    assert caplog.text == ""
    make_plan(options(folded, *distil), run_dir=str(tmp_path))
    assert "the folds have one teacher: unless it was trained on other data" in caplog.text


def test_a_mistake_among_the_options_of_fit_is_said_as_fit_says_it(
    folded: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        make_plan(options(folded, "--data.bathc_size", "3"), run_dir=str(tmp_path))
    assert left.value.code == 2
    assert "did you mean 'batch_size'?" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        make_plan(["--config", str(CONF / "digits.yaml"), "--data", "AudioTable", "--data.root", "x", "--data.store",
                   "null"], run_dir=str(tmp_path))  # fmt: skip
    assert "--data datamodules.AudioTable needs --data.store" in capsys.readouterr().err


def test_a_data_module_that_does_not_test_on_its_fold_is_refused(
    folded: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = AudioTable.read_table

    def read_table(self: AudioTable) -> pd.DataFrame:
        table = original(self)
        table.loc[table["fold"] == 2, "split"] = "test"
        return table

    monkeypatch.setattr(AudioTable, "read_table", read_table)
    with pytest.raises(ValueError, match=r"AudioTable with data\.fold 1 does not test on that fold and no other"):
        make_plan(options(folded), run_dir=str(tmp_path), folds=[1])


def test_a_fold_that_cannot_be_trained_is_refused_before_the_first_is(
    folded: tuple[Path, Path], tmp_path: Path
) -> None:
    table = pd.read_csv(folded[0])
    table.loc[(table["label"] == "low"), "fold"] = 3  # a class that stands in one fold only
    table.to_csv(folded[0].with_name("uneven.csv"), index=False)
    uneven = options((folded[0].with_name("uneven.csv"), folded[1]))
    with pytest.raises(ValueError, match="with fold 2 as the test, label 'low' stands in validation"):
        make_plan(uneven, run_dir=str(tmp_path))


def test_what_the_data_refuses_is_said_in_its_own_words(folded: tuple[Path, Path], tmp_path: Path) -> None:
    """All of jsonargparse's lines were printed around it."""
    with pytest.raises(ValueError, match=r"^task regression needs the names of its numbers: set targets, such as"):
        make_plan(options(folded, "--data.task", "regression"), run_dir=str(tmp_path))


def test_changed_options_are_refused(folded: tuple[Path, Path], tmp_path: Path) -> None:
    begun = make_plan(options(folded), run_dir=str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "folds.yaml").write_text(begun.config)
    assert make_plan([], run_dir=str(tmp_path / "run")).config == begun.config  # its own configuration is known
    make_plan(options(folded), run_dir=str(tmp_path / "run"), folds=[2], seeds=[3])  # these may change
    message = r"was begun with model.optimizer.lr 0.003, not 0.1 \(and 1 more\): .* --run_dir .*run-2"
    with pytest.raises(ValueError, match=message) as caught:
        make_plan(
            options(folded, "--model.optimizer.lr", "0.1", "--data.batch_size", "9"), run_dir=str(tmp_path / "run")
        )
    assert "\n" not in str(caught.value)


def test_the_folder_of_a_single_run_is_refused(folded: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt").touch()
    with pytest.raises(ValueError, match="holds the checkpoints of a single run: give another folder"):
        make_plan(options(folded), run_dir=str(tmp_path / "run"))


# --- runs, with a stand-in for audiocls ---


BARE = ["-I", "-S"]  # without the paths of what is installed, which take longest
STAND_IN = """
import os, pathlib, signal, sys, time
words = sys.argv[1:]
given = dict(zip(words, words[1:]))
folder = pathlib.Path(given["--run_dir"])
with open(folder / "calls.txt", "a") as file:
    file.write(" ".join(words) + "\\n")
print("said by", folder.name, os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ["WANDB_RUN_GROUP"], flush=True)
if (folder.parent / f"fail-{folder.name}-{words[0]}").exists():
    sys.exit("broken on purpose")
if words[0] == "fit":
    (folder / "checkpoints").mkdir(exist_ok=True)
    (folder / "checkpoints" / "last.ckpt").write_text("")
    (folder / "metrics.csv").write_text("epoch,step\\n0,1\\n")
    (folder.parent / f"began-{folder.name}").touch()
    if (folder.parent / "slow").exists():
        def save(*_):
            (folder / "saved").touch()
            sys.exit(143)
        signal.signal(signal.SIGTERM, save)
        (folder.parent / f"waits-{folder.name}").touch()
        time.sleep(60)
else:
    fold = int(folder.name[4:6])
    row = f"best.ckpt,1,2,3.5,{fold / 4}"
    (folder / "test_metrics.csv").write_text("checkpoint,epoch,step,test/loss,test/accuracy\\n" + row + "\\n")
    rows = [f"{fold}-{i},low,{'low' if i < fold else 'high'}" for i in range(4)]
    (folder / "test_predictions.csv").write_text("clip_id,target,prediction\\n" + "\\n".join(rows) + "\\n")
"""


@pytest.fixture
def stood_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """A plan of three folds whose processes run the stand-in."""
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    begin = subprocess.Popen

    def popen(command: list[str], **settings: Any) -> subprocess.Popen[bytes]:
        return begin([sys.executable, *BARE, str(tmp_path / "stand_in.py"), *command[3:]], **settings)

    monkeypatch.setattr(subprocess, "Popen", popen)
    run_dir = tmp_path / "runs" / "tones"
    runs = [FoldRun(fold, 0, run_dir / f"fold{fold:02d}") for fold in (1, 2, 3)]
    return Plan(run_dir, "a: 1\n", runs, [1, 2, 3], "multiclass", None, 1)


def calls(plan: Plan, fold: int) -> list[str]:
    return [line.split()[0] for line in (plan.run_dir / f"fold{fold:02d}" / "calls.txt").read_text().splitlines()]


@contextlib.contextmanager
def signalled(path: Path, signum: signal.Signals) -> Iterator[None]:
    """Send this process a signal once a file exists."""
    watch = f"import os, pathlib, time\nwhile not pathlib.Path({str(path)!r}).exists(): time.sleep(0.02)\n"
    watcher = os.posix_spawn(
        sys.executable, [sys.executable, *BARE, "-c", watch + f"os.kill({os.getpid()}, {int(signum)})"], os.environ
    )
    yield
    os.waitpid(watcher, 0)


def test_folds_are_trained_and_tested_and_not_again(stood_in: Plan) -> None:
    found = run_folds(stood_in)
    assert [(r.fold, r.n_clips, r.n_right, r.scores) for r in found] == [
        (fold, 4, fold, {"accuracy": fold / 4, "loss": 3.5}) for fold in (1, 2, 3)
    ]
    assert list(found[0].scores) == ["accuracy", "loss"]  # what matters first
    assert (stood_in.run_dir / "folds.yaml").read_text() == "a: 1\n"
    assert pd.read_csv(stood_in.run_dir / "folds.csv")["accuracy"].tolist() == [0.25, 0.5, 0.75]
    again = run_folds(stood_in)
    assert again == found
    assert [calls(stood_in, fold) for fold in (1, 2, 3)] == [["fit", "test"]] * 3
    assert write_report(stood_in, found).startswith("accuracy 50.0 ± 25.0 % (mean ± standard deviation of 3 folds;")
    assert (stood_in.run_dir / "folds.png").is_file()
    log = (stood_in.run_dir / "fold02" / "log.txt").read_text()
    assert log.count("said by fold02") == 2
    assert " tones\n" in log  # the group of W&B


def test_a_fold_that_fails_ends_the_run_and_leaves_the_others(stood_in: Plan) -> None:
    stood_in.run_dir.mkdir(parents=True)
    (stood_in.run_dir / "fail-fold02-test").touch()
    with pytest.raises(cross_validation.FoldFailedError, match=r"fold 2 failed in test \(exit status 1\)") as caught:
        run_folds(stood_in)
    assert str(caught.value).endswith("  broken on purpose")
    assert pd.read_csv(stood_in.run_dir / "folds.csv")["fold"].tolist() == [1]
    (stood_in.run_dir / "fail-fold02-test").unlink()
    assert len(run_folds(stood_in)) == 3
    assert calls(stood_in, 2) == ["fit", "test", "test"]  # it was trained already
    assert calls(stood_in, 1) == ["fit", "test"]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_the_folds_save_and_they_go_on(
    stood_in: Plan, signum: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    stood_in.run_dir.mkdir(parents=True)
    (stood_in.run_dir / "slow").touch()
    before = signal.getsignal(signum)
    with signalled(stood_in.run_dir / "waits-fold01", signum), pytest.raises(Stopped) as caught:
        run_folds(stood_in, jobs=1)
    assert caught.value.signum == signum
    assert (stood_in.run_dir / "fold01" / "saved").is_file()
    assert signal.getsignal(signum) == before
    assert "folds that finish their step and save it: 1; a second Ctrl-C kills them" in caplog.text
    (stood_in.run_dir / "slow").unlink()
    assert len(run_folds(stood_in)) == 3
    words = (stood_in.run_dir / "fold01" / "calls.txt").read_text().splitlines()
    assert "--ckpt_path" not in words[0]
    assert words[1].endswith("--ckpt_path last")
    assert words[2].startswith("test ")


def test_two_jobs_run_at_once(stood_in: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    stood_in.run_dir.mkdir(parents=True)
    (stood_in.run_dir / "slow").touch()
    with signalled(stood_in.run_dir / "waits-fold02", signal.SIGTERM), pytest.raises(Stopped):
        run_folds(stood_in, jobs=2)
    assert all((stood_in.run_dir / f"began-fold0{fold}").exists() for fold in (1, 2))
    assert not (stood_in.run_dir / "began-fold03").exists()
    devices = [(stood_in.run_dir / f"fold0{fold}" / "log.txt").read_text().split("\n")[1].split()[3] for fold in (1, 2)]
    assert devices == ["4", "7"]
    (stood_in.run_dir / "slow").unlink()
    assert [result.fold for result in run_folds(stood_in, jobs=2)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("base", "jobs", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "4,7"}, 1, {"CUDA_VISIBLE_DEVICES": "4,7"}),  # one fold may use all
        ({"CUDA_VISIBLE_DEVICES": "4,7"}, 3, {"CUDA_VISIBLE_DEVICES": "4"}),  # the third shares with the first
        ({"CUDA_VISIBLE_DEVICES": ""}, 3, {"CUDA_VISIBLE_DEVICES": ""}),
        ({"OMP_NUM_THREADS": "3"}, 3, {"OMP_NUM_THREADS": "3"}),
        ({"WANDB_RUN_GROUP": "own"}, 1, {"WANDB_RUN_GROUP": "own", "WANDB_JOB_TYPE": "fold"}),
    ],
)
def test_what_a_fold_finds_in_its_environment(base: dict[str, str], jobs: int, expected: dict[str, str]) -> None:
    environment = cross_validation._environment(base, slot=2 if jobs == 3 else 0, jobs=jobs, group="tones")
    assert expected.items() <= environment.items()
    assert ("OMP_NUM_THREADS" in environment) == (jobs > 1 or "OMP_NUM_THREADS" in base)


def test_one_at_a_time_works_in_a_folder(stood_in: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_validation, "PATIENCE", 0.1)
    stood_in.run_dir.mkdir(parents=True)
    with (stood_in.run_dir / ".lock").open("ab") as file:
        take_lock(file.fileno())
        with pytest.raises(ValueError, match="is in use by another cross-validation, or by a fold"):
            run_folds(stood_in)
    with pytest.raises(ValueError, match="--jobs must be at least 1, got 0"):
        run_folds(stood_in, jobs=0)


def test_what_a_kill_before_the_first_checkpoint_has_left_is_cleared_away(stood_in: Plan) -> None:
    left = stood_in.run_dir / "fold01" / "checkpoints" / "best.ckpt"
    left.parent.mkdir(parents=True)
    left.touch()  # a new run would refuse the folder for it
    run_folds(stood_in)
    assert not left.exists()
    assert "--ckpt_path" not in (stood_in.run_dir / "fold01" / "calls.txt").read_text()


def test_a_test_whose_tables_are_gone_is_done_again(stood_in: Plan) -> None:
    run_folds(stood_in)
    (stood_in.run_dir / "fold03" / "test_predictions.csv").unlink()
    assert stood_in.runs[2].stage == "test"
    assert len(run_folds(stood_in)) == 3
    assert calls(stood_in, 3) == ["fit", "test", "test"]


def test_progress_tells_what_runs_and_how_long_it_takes(stood_in: Plan) -> None:
    said: list[cross_validation.Progress] = []
    run_folds(stood_in, on_progress=said.append)
    assert said[0].running == [stood_in.runs[0]]
    assert said[0].seconds_left is None  # nothing is known yet
    assert (len(said[-1].finished), said[-1].running, said[-1].seconds_left) == (3, [], 0)


# --- runs as they are ---


def cross_validate(folded: tuple[Path, Path], run_dir: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(TOOL), *options(folded), "--run_dir", str(run_dir), *more]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.slow
@pytest.mark.timeout(900)  # nine processes, each of which loads torch
def test_a_killed_cross_validation_goes_on_to_the_same_scores(folded: tuple[Path, Path], tmp_path: Path) -> None:
    long = ["--trainer.max_epochs", "12"]  # several batches an epoch: a stop waits for one that is not the last
    whole = cross_validate(folded, tmp_path / "whole", *long, "--folds", "1", "2", "--jobs", "2")
    killed = cross_validate(folded, tmp_path / "killed", *long, "--folds", "1")
    fold = FoldRun(1, 0, tmp_path / "killed" / "fold01")
    while killed.poll() is None and fold.epochs < 2:
        time.sleep(0.01)
    killed.kill()  # the fold itself is told by the kernel, and saves its step
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    with (tmp_path / "killed" / ".lock").open() as file:
        take_lock(file.fileno(), patience=60)  # it holds the folder until it has ended
    assert 2 <= fold.epochs < 12
    assert fold.stage == "fit"
    again = cross_validate(folded, tmp_path / "killed", *long, "--folds", "1", "2")
    for process in (whole, again):
        printed, errors = process.communicate(timeout=800)
        assert process.returncode == 0, errors
        assert printed.startswith("accuracy ")
    tables = [pd.read_csv(tmp_path / name / "folds.csv").drop(columns="minutes") for name in ("whole", "killed")]
    assert tables[0]["fold"].tolist() == [1, 2]
    assert tables[0]["clips"].tolist() == [12, 12]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    log = (tmp_path / "killed" / "fold01" / "log.txt").read_text()
    assert log.count("$ ") == 3  # trained, trained on, tested
    for fold in (1, 2):
        folder = tmp_path / "whole" / f"fold0{fold}"
        assert read_offline_run(folder).group == "whole"
        config = yaml.safe_load((folder / "config.yaml").read_text())
        assert config["data"]["init_args"]["fold"] == fold
        tested = set(pd.read_csv(folder / "test_predictions.csv")["clip_id"])
        table = pd.read_csv(folded[0])
        assert tested == set(table["path"][table["fold"] == fold])

"""The tool as it is typed: its arguments, its lines, its exit status. The logic is in test_cross_validation.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import cross_validate
from audiocls import cross_validation, fold_plan
from audiocls.cross_validation import FoldFailedError, Progress, Stopped
from audiocls.fold_plan import FoldRun, Plan
from audiocls.report.folds import FoldResult

TOOL = Path(cross_validate.__file__)
RESULT = FoldResult(2, 0, 873, 632, {"accuracy": 0.724, "loss": 1.0}, 12.34)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["cross_validate.py", *map(str, arguments)])
    try:
        return cross_validate.main()
    except SystemExit as left:
        return int(left.code or 0)


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What `make_plan` and `run_folds` were asked for; they do nothing."""
    asked: dict[str, object] = {}
    plan = Plan(tmp_path / "run", "", [FoldRun(2, 0, tmp_path / "run" / "fold02")], [1, 2], "multiclass", None, 30)

    def make_plan(words: list[str], **settings: object) -> Plan:
        asked.update(words=words, **settings)
        return plan

    def run_folds(plan: Plan, *, jobs: int, on_progress) -> list[FoldResult]:
        asked.update(jobs=jobs)
        on_progress(Progress([], plan.runs, 3700.0))
        if "raises" in asked:
            raise asked["raises"]  # pyright: ignore[reportGeneralTypeIssues]
        on_progress(Progress([RESULT], [], 0.0))
        return [RESULT]

    monkeypatch.setattr(fold_plan, "make_plan", make_plan)
    monkeypatch.setattr(cross_validation, "run_folds", run_folds)
    monkeypatch.setattr(cross_validation, "write_report", lambda plan, results: "accuracy 72.4 %")
    return asked


def test_own_options_are_taken_and_the_others_handed_on(
    planned: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["--config", "a.yaml", "--config", "b.yaml", "--trainer.callbacks+=x.Y", "--data.batch_size=3", "--s", "1"]
    ours = ["--folds", 1, 2, "--seeds", 0, 7, "--jobs", 2, "--run_dir", tmp_path]
    assert run(monkeypatch, *ours, *words) == 0
    expected = {"words": words, "run_dir": str(tmp_path), "folds": [1, 2], "seeds": [0, 7], "jobs": 2}
    assert planned == expected
    printed = capsys.readouterr()
    assert printed.out.splitlines()[0] == "accuracy 72.4 %"
    assert printed.out.splitlines()[1].endswith("run/folds.csv")
    assert "fold 2, seed 0: training" in printed.err
    assert "fold  2  seed 0  accuracy 72.4 %  873 clips  12.3 min\n" in printed.err


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (
            FoldFailedError("fold 3 failed"),
            1,
            "cross_validate.py: fold 3 failed\nmend it, and the same command goes on",
        ),
        (ValueError("no folds"), 2, "cross_validate.py: no folds\n"),
        (Stopped(2), 130, "stopped: the same command goes on where it stopped\n"),
        (Stopped(15), 143, "stopped: the same command goes on where it stopped\n"),
        (KeyboardInterrupt(), 130, "stopped: the same command goes on where it stopped\n"),
    ],
)
def test_how_it_ends(
    raised: BaseException,
    status: int,
    said: str,
    planned: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    planned["raises"] = raised
    assert run(monkeypatch, "--config", "a.yaml") == status
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --config FILE, or the --run_dir of a cross-validation to go on with"),
        (["--folds", "one"], "argument --folds: invalid int value: 'one'"),
        (["--config", "gone.yaml"], "configuration 'gone.yaml' does not exist"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_terminal_shows_one_line_that_changes(
    planned: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "120")
    assert run(monkeypatch, "--config", "a.yaml") == 0
    error = capsys.readouterr().err
    assert "\r\x1b[K0 of 1 done; fold 2: training epoch 1 of 30, about 1 h 2 min left\r\x1b[K" in error
    assert error.endswith("12.3 min\n")


def test_a_fold_that_ends_is_in_its_last_epoch(
    planned: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(FoldRun, "epochs", 30)
    assert run(monkeypatch, "--config", "a.yaml") == 0
    assert "fold 2: training epoch 30 of 30, about" in capsys.readouterr().err


def test_help_loads_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", str(TOOL), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "--jobs N" in done.stdout
    assert "argparse" in loaded
    assert not {"torch", "numpy", "pandas"} & loaded

"""The tool as it is typed: its arguments, its lines, its exit status. The logic is in test_transfer.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import transfer as tool
from audiocls import transfer_study
from audiocls.transfer import FeatureError
from audiocls.transfer_study import Said

TOOL = Path(tool.__file__)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["transfer.py", *map(str, arguments)])
    before = signal.getsignal(signal.SIGTERM)
    try:
        return tool.main()
    except SystemExit as left:
        return int(left.code or 0)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `run_study` was asked for; it does nothing."""
    asked: dict[str, Any] = {}

    def run_study(words: list[str], *, progress: Any, **settings: Any) -> Said:
        asked.update(settings, words=words)
        with progress("features", 0, 3) as step:
            step(3)
        if "raises" in asked:
            raise asked["raises"]
        if "killed" in asked:
            os.kill(os.getpid(), signal.SIGTERM)
        return Said("a table", "a line", [Path("x/transfer.csv")])

    monkeypatch.setattr(transfer_study, "run_study", run_study)
    return asked


def test_own_options_are_taken_and_the_others_handed_on(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config", "a.yaml", "--config=b.yaml", "--data.store", "x", "--data.seed=3"]
    ours = ["--run_dir", "r", "--out", "o", "--layers", "a", "b", "--random_weights", 0, 7, "--jobs", 3, "--subsets"]
    assert run(monkeypatch, *ours, *words) == 0
    assert asked.pop("words") == words
    assert asked == {
        "run_dir": "r", "ckpt_path": "best", "out": Path("o"), "classifier": "svm", "layers": ["a", "b"],
        "subsets": True, "random_weights": [0, 7], "folds": None, "inner_folds": 5, "seed": 0, "jobs": 3,
    }  # fmt: skip
    printed = capsys.readouterr()
    assert printed.out == "a table\na line\n  x/transfer.csv\n"
    assert "features: 100%" in printed.err


def test_no_control_is_drawn_without_a_seed(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "--out", "o", "--random_weights") == 0
    assert asked["random_weights"] == []
    assert run(monkeypatch, "--out", "o") == 0
    assert asked["random_weights"] == [0]


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (FeatureError("conv1 is no number"), 1, "transfer.py: conv1 is no number\n"),
        (ValueError("no folds"), 2, "transfer.py: no folds\n"),
        (KeyboardInterrupt(), 130, "stopped: features that were finished are used again by the same command\n"),
    ],
)
def test_how_it_ends(
    raised: BaseException,
    status: int,
    said: str,
    asked: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked["raises"] = raised
    assert run(monkeypatch, "--out", "o", "--config", "a.yaml") == status
    assert capsys.readouterr().err.endswith(said)


def test_sigterm_ends_it_as_ctrl_c_does(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked["killed"] = True
    assert run(monkeypatch, "--out", "o") == 143
    assert "stopped: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: --out"),
        (["--out", "o", "--classifier", "knn"], "argument --classifier: invalid choice: 'knn'"),
        (
            ["--out", "o", "--run_dir", "gone", "--config", "gtzan"],
            "there is no gone/checkpoints/best.ckpt: train first",
        ),
    ],
)
def test_wrong_arguments_end_in_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_loads_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", str(TOOL), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "--random_weights" in done.stdout
    assert "argparse" in loaded
    assert not {"torch", "numpy", "sklearn"} & loaded

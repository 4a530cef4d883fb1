"""The tool as it is typed: its arguments, its lines, its exit status. The logic is in test_fusion.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import fuse as tool
from audiocls import fusion
from audiocls.fusion import Said
from audiocls.report.tables import write_csv

TOOL = Path(tool.__file__)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["fuse.py", *map(str, arguments)])
    try:
        return tool.main()
    except SystemExit as left:
        return int(left.code or 0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `fuse_runs` was asked for; it does nothing."""
    asked: dict[str, Any] = {}

    def fuse_runs(runs: list[Path], **settings: Any) -> Said:
        asked.update(settings, runs=runs)
        if "raises" in asked:
            raise asked["raises"]
        return Said(["a: accuracy 1", "both: accuracy 2"], [Path("x/folds.csv")])

    monkeypatch.setattr(fusion, "fuse_runs", fuse_runs)
    return asked


def test_arguments_are_handed_on_and_what_is_said_is_printed(
    asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "a", "b", "--weights", 2, 0.5, "--mean", "arithmetic", "--out", "o") == 0
    assert asked == {"runs": [Path("a"), Path("b")], "weights": [2.0, 0.5], "mean": "arithmetic", "out": Path("o")}
    assert capsys.readouterr().out == "a: accuracy 1\nboth: accuracy 2\n  x/folds.csv\n"


def test_weights_and_mean_may_be_left_out(asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "a", "b", "--out", "o") == 0
    assert (asked["weights"], asked["mean"]) == (None, None)


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (ValueError("other clips"), 2, "fuse.py: other clips\n"),
        (OSError("disk full"), 2, "fuse.py: disk full\n"),
        (KeyboardInterrupt(), 130, "stopped: what is written is whole, and the same command writes the rest\n"),
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
    assert run(monkeypatch, "a", "b", "--out", "o") == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "b"], "the following arguments are required: --out"),
        (["--out", "o"], "the following arguments are required: RUN"),
        (["a", "b", "--out", "o", "--mean", "harmonic"], "argument --mean: invalid choice: 'harmonic'"),
        (["a", "b", "--out", "o", "--weights", "much"], "argument --weights: invalid float value: 'much'"),
        (["a", "--out", "o"], "a fusion needs at least 2 runs, got 1"),
        (["gone", "b", "--out", "o"], "gone is no table and holds no folds.csv or test_predictions.csv"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("fuse.py: ")
    assert error.count("\n") == 1


def test_what_is_fused_is_written_and_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name, p in (("a", 0.8), ("b", 0.6)):
        write_csv(tmp_path / f"{name}.csv", ["path", "x", "y"], [["1.wav", p, 1 - p]])
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "a.csv", "b.csv", "--mean", "arithmetic", "--out", "fused") == 0
    said = "1 files, without targets and so without scores\n  fused/predictions.csv\n"
    assert capsys.readouterr() == (said, "")


def test_help_as_it_is_typed_loads_no_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", TOOL, "--help"]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout.startswith("usage: fuse.py")
    assert not re.search(r"\| +torch$", done.stderr, flags=re.MULTILINE)

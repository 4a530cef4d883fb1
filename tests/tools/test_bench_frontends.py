"""The benchmark of front-ends runs, measures every installed peer, and its errors are those of float32."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import bench_frontends as tool
import measuring

timing = pytest.importorskip("frontend_timing", reason="librosa is not installed: pip install audiocls[bench]")


def run(tmp_path: Path, *options: str) -> list[measuring.Row]:
    path = tmp_path / "bench.csv"
    assert tool.main(["--batch_size=2", "--seconds=0.5", "--turns=2", "--threads=1", f"--csv={path}", *options]) == 0
    return measuring.read_csv(path)


def test_table_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[:2])
    rows = run(tmp_path, "--what", "mel")
    printed = capsys.readouterr().out
    ours = [row for row in rows if row["implementation"] == "audiocls"]
    expected = [f"mel, {setting}, 2 x 0.5 s, 1 thread" for setting in timing.SETTINGS]
    assert [row["setting"] for row in ours] == expected
    assert {row["implementation"] for row in rows} >= {"audiocls", "librosa"}
    assert all(row["setting"] in printed and row["implementation"] in printed for row in rows)
    assert all("torch" in row["environment"] and "commit" in row["environment"] for row in rows)
    for row in ours:
        assert row["speed_to_ours"] == 1.0
        assert row["max_error"] <= 0.01
    assert all(row["max_error"] == 0 for row in rows if row["implementation"] == "librosa")


@pytest.mark.parametrize("what", [what for what in tool.FRONT_ENDS if what != "mel"])
def test_every_front_end_runs_beside_its_peers(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[1:2])
    rows = run(tmp_path, "--what", what, "--seconds=2")  # longer than the longest filter
    assert {"audiocls"} < {row["implementation"] for row in rows}
    assert all(row["median"] > 0 for row in rows)
    if what in ("mfcc", "pcen"):  # librosa's constant-Q transform goes through several rates and is not so near
        assert all(row["max_error"] <= 0.01 for row in rows if row["implementation"] == "audiocls")


def test_memory_is_measured_above_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[:1])
    rows = run(tmp_path, "--what", "mel", "--memory", "--seconds=20")
    assert {(row["quantity"], row["unit"]) for row in rows} == {("peak memory", "MB")}
    taken = timing.peak_megabytes(lambda: float(torch.ones(25_000_000).sum()), "cpu")
    assert 95 <= taken <= 120  # 100 MB, and what summing needs


def test_every_front_end_that_has_peers_is_on_offer() -> None:
    assert tuple(timing.PEERS) == tool.FRONT_ENDS


def test_help_loads_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", str(tool.__file__), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "--memory" in done.stdout
    assert "argparse" in loaded
    assert not {"torch", "numpy", "librosa"} & loaded


def test_one_turn_has_no_spread(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tool.main(["--turns=1"])
    assert "argument --turns: must be at least 2 to have a spread, got 1" in capsys.readouterr().err

"""The benchmark of augmentation measures every member, each beside the training step."""

import subprocess
import sys
from pathlib import Path

import pytest

import augment_timing
import bench_augment as tool
import measuring
from audiocls import augment


def test_table_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bench.csv"
    assert tool.main(["--batch_size=2", "--seconds=0.3", "--turns=2", f"--csv={path}"]) == 0
    rows = measuring.read_csv(path)
    printed = capsys.readouterr().out
    measured = {str(row["implementation"]).partition(",")[0] for row in rows}
    assert measured == {"audiocls", *augment_timing.members()}
    assert {"Gain", "Mixup", "SpecAugment", "PitchShift"} <= measured <= {"audiocls", *augment.__all__}
    step = next(row for row in rows if row["implementation"] == "audiocls")
    for row in rows:
        assert row["share_of_step"] == pytest.approx(float(row["median"]) / float(step["median"]))
        assert str(row["implementation"]) in printed
        assert "commit" in str(row["environment"])


def test_help_loads_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", str(tool.__file__), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "--batch_size" in done.stdout
    assert "argparse" in loaded
    assert not {"torch", "numpy"} & loaded

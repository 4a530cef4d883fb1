"""The tool as it is typed: what it prints, writes and how it exits. What it finds is in tests/datamodules/auditing."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile

import audit_dataset
from tests.conftest import make_store as decode
from tests.datamodules.auditing.sounds import make_store, melody
from tests.datamodules.layouts import fma

TOOL = Path(audit_dataset.__file__)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five sounds, the last a near copy of the first, with noise 20 dB below."""
    sounds = {f"{name}.wav": melody(seed) for seed, name in enumerate("abcd")}
    copy = 0.5 * melody(0)[50:]
    noise = 0.1 * np.sqrt(np.mean(copy**2)) * np.random.default_rng(0).standard_normal(len(copy))
    return make_store(tmp_path_factory.mktemp("sounds"), sounds | {"e.wav": copy + noise}).path


def write_table(path: Path, splits: str, *, group: str = "") -> Path:
    """Clips a, b, ... of the fixture in some splits, by their first letters."""
    names = {"r": "train", "v": "validation", "t": "test"}
    groups = list(group) or [""] * len(splits)
    rows = [
        f"{clip}.wav,{'low' if i % 2 else 'high'},{names[split]},{one}"
        for i, (clip, split, one) in enumerate(zip("abcde", splits, groups, strict=False))
    ]
    path.write_text("\n".join(["path,label,split,group", *rows]) + "\n")
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["audit_dataset.py", *map(str, arguments)])
    try:
        return audit_dataset.main()
    except SystemExit as left:
        return int(left.code or 0)


def test_leak_exits_1_and_is_written(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    table = write_table(tmp_path / "clips.csv", "rrttt")
    assert run(monkeypatch, store, "--table", table, "--out", tmp_path / "out") == 1
    lines = capsys.readouterr().out.splitlines()
    leak = next(line for line in lines if line.startswith("near copies across splits or folds"))
    assert " 1  LEAKS  a.wav = e.wav (0.99" in leak
    assert " at +0.006 s, train against test)" in leak
    assert lines[-2].startswith("leaks     1 by which scores are untrue")
    assert lines[-1] == f"written   {tmp_path}/out/audit.json, audit.csv, audit.png"
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["settings"]["near"] == 0.97
    with (tmp_path / "out" / "audit.csv").open() as file:
        assert [row["kind"] for row in csv.DictReader(file)] == ["near_across"]
    picture = matplotlib.image.imread(tmp_path / "out" / "audit.png")
    assert picture.shape[1] > 1000
    assert np.unique(picture.reshape(-1, picture.shape[2])[::97], axis=0).shape[0] > 3


def test_no_leak_exits_0_and_strict_1(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "clips.csv", "rrtrr")  # class low is in training alone; e is beside a
    assert run(monkeypatch, store, "--table", table) == 0
    assert "no leak   2 to look at" in capsys.readouterr().out
    assert run(monkeypatch, store, "--table", table, "--strict") == 1
    clean = write_table(tmp_path / "clean.csv", "rrtt")
    assert run(monkeypatch, store, "--table", clean, "--strict") == 0
    assert "clean     nothing to look at" in capsys.readouterr().out


def test_similarity_that_is_asked_for_decides(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, store, "--strict") == 1
    assert run(monkeypatch, store, "--strict", "--near", 0.9995) == 0
    assert run(monkeypatch, store, "--strict", "--exact-only") == 0
    assert "near copies" not in capsys.readouterr().out.splitlines()[-8]


def test_table_alone_finds_groups_on_two_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = write_table(tmp_path / "clips.csv", "rrtt", group="xyyz")
    assert run(monkeypatch, "--table", table, "--out", tmp_path) == 1
    printed = capsys.readouterr().out
    assert "y (split train: 1, split test: 1)" in printed
    assert "store" not in printed.split("not asked")[0]
    assert (tmp_path / "audit.png").stat().st_size > 5000
    assert run(monkeypatch, "--table", write_table(table, "rrtt", group="xyzw")) == 0


def test_data_set_is_read_by_its_own_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fma.write(tmp_path)
    sizes = []
    for subset in ("small", "medium"):
        assert run(monkeypatch, "--dataset", "fma", "--root", tmp_path, "--set", f"subset={subset}") == 0
        sizes.append(int(capsys.readouterr().out.split()[1]))
    assert sizes[0] < sizes[1]


def test_a_store_of_class_folders_is_audited_without_its_folder(
    tones: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was asked for a folder that `AudioFolder` does not need, and nothing said that there is such a data set."""
    assert run(monkeypatch, tones, "--exact-only") == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "next      the clips lie in 3 folders: if those are classes, add --dataset AudioFolder"
    assert run(monkeypatch, tones, "--exact-only", *said.split()[-2:]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "labels    3: 18 train, 6 validation, 6 test" in lines
    assert not any(line.startswith("next") for line in lines)


def test_a_store_with_clips_in_no_folder_is_not_taken_for_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sounds = {name: melody(seed) for seed, name in enumerate(("a/x.wav", "b/x.wav", "x.wav"))}
    run(monkeypatch, make_store(tmp_path, sounds).path, "--exact-only")
    assert "next" not in capsys.readouterr().out


def test_names_of_clips_and_labels_cannot_drive_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They were printed as they are, and a label that is no UTF-8 ended the audit."""
    label, audio = os.fsdecode(b"\xe9\x1b[31m"), tmp_path / "audio"
    names = [f"{folder}/a\n{i}.wav" for folder in ("a", "b") for i in range(3)]
    for name in names:
        (audio / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(audio / name, np.zeros(800), 8000)
    (audio / "a").rename(audio / label)
    store = decode(audio, tmp_path / "store", sample_rate=8000)
    assert run(monkeypatch, store, "--dataset", "AudioFolder", "--exact-only", "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert r"6  look   b/a\n0.wav (RMS -120.0" in said
    assert all(line.isprintable() for line in said.splitlines())
    found = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    assert label in found["labels"]
    with (tmp_path / "out" / "audit.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert {row["clip"] for row in csv.DictReader(file)} == {*names[3:], *(label + name[1:] for name in names[:3])}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give a STORE, --table CSV, or --dataset NAME --root DIR"),
        (["gone"], "gone does not exist: give the folder that tools/decode_to_hdf.py has written as --out"),
        (["--table", "gone.csv"], "--table must be a CSV table, but gone.csv does not exist"),
        (["--table", "a.csv", "--dataset", "fma"], "give --table or --dataset, not both: got a.csv and fma"),
        (["--dataset", "fmo", "--root", "."], "--dataset must be one of "),
        (["--dataset", "fma"], "--dataset fma needs its folder: add --root DIR"),
        (["store", "--root", "."], "--root goes with --dataset: give --dataset NAME as well"),
        (["store", "--set", "fold=1"], "--set goes with --dataset"),
        (["--dataset", "fma", "--root", ".", "--set", "subset"], "--set takes KEY=VALUE, got 'subset'"),
        (["--dataset", "fma", "--root", ".", "--set", "size=1"], "--set KEY of FMA must be one of subset, "),
        (["--dataset", "fma", "--root", ".", "--set", "subst=a"], "got 'subst'; did you mean 'subset'?"),
        (["--dataset", "fma", "--root", ".", "--set", "root=a"], "--set KEY of FMA must be one of subset, "),
        (["--dataset", "audio_folder"], "--dataset audio_folder needs its folder: add --root DIR, or a STORE to take"),
        (["--dataset", "fma", "--root", ".", "--set", "subset=tiny"], "got tiny"),
        (["--dataset", "fma", "--root", ".", "--set", "batch_size=x"], "--set batch_size must be a whole number"),
        (["store", "--near", "2"], "near must be above 0.5 and at most 1, got 2"),
        (["store", "--near", "high"], "argument --near: invalid float value: 'high'"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said


def test_help_loads_nothing_heavy() -> None:
    command = [sys.executable, "-X", "importtime", str(TOOL), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not {"torch", "pandas", "scipy", "h5py", "matplotlib"} & loaded

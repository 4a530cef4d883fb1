"""The tool as it is typed: what it prints and how it exits. What it finds is in tests/datamodules/test_verify.py."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import verify_store
from datamodules.storage.index import read_layout

TOOL = Path(verify_store.__file__)


@pytest.fixture
def store(tones: Path, tmp_path: Path) -> Path:
    return shutil.copytree(tones, tmp_path / "store")


def damage(store: Path) -> Path:
    shard = store / "shard-00000.h5"
    data = bytearray(shard.read_bytes())
    data[read_layout(shard).offset] ^= 1
    shard.write_bytes(data)
    return shard


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["verify_store.py", *map(str, arguments)])
    try:
        return verify_store.main()
    except SystemExit as left:
        return int(left.code or 0)


def test_whole_store_exits_0(store: Path) -> None:
    done = subprocess.run([sys.executable, str(TOOL), str(store)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"whole     {store}: every byte is as it was written")
    assert "verifying: 100%" in done.stderr
    assert "B/s" in done.stderr


def test_findings_exit_1_and_are_listed(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = damage(store)
    (store / "notes.txt").touch()
    assert run(monkeypatch, store, "--json", tmp_path / "findings.json") == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "notes.txt: store.json does not list it: move it out of the store"
    assert printed[1].startswith("shard-00000.h5: 1 of ")
    assert printed[2] == f"not whole {store}: findings: 2; clips lost until they are decoded again: 1"
    content = json.loads((tmp_path / "findings.json").read_text())
    assert content["findings"][1]["clip_ids"] == ["high/high_0.wav"]
    assert shard.exists()


def test_damaged_shards_are_removed_only_on_request(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shard = damage(store)
    (store / "notes.txt").touch()
    assert run(monkeypatch, store, "--remove-damaged") == 1
    assert f"removed   {shard}" in capsys.readouterr().out
    assert not shard.exists()
    assert (store / "notes.txt").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: STORE"),
        (["gone"], "gone does not exist: give the folder that tools/decode_to_hdf.py has written as --out"),
        (["."], ". holds no store.json"),
        ([".", "--workers", "0"], "workers must be at least 1, got 0"),
        ([".", "--workers", "many"], "argument --workers: invalid int value: 'many'"),
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
    assert message in capsys.readouterr().err


def test_help_loads_no_hdf5() -> None:
    command = [sys.executable, "-X", "importtime", str(TOOL), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not {"torch", "av", "soundfile", "h5py", "numpy"} & loaded

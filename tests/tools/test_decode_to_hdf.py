"""The tool as it is typed: what it prints, how it exits, and that a kill at any moment loses nothing."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import soundfile

from datamodules.store import Store

TOOL = Path(__file__).parents[2] / "tools" / "decode_to_hdf.py"
RATE = 16000


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough to be killed in the middle: 80 mp3 clips of 3 s."""
    folder = tmp_path_factory.mktemp("root") / "kick"
    folder.mkdir()
    noise = 0.3 * np.random.default_rng(0).standard_normal(3 * 44100)
    soundfile.write(folder / "clip00.mp3", noise, 44100)
    data = (folder / "clip00.mp3").read_bytes()
    for i in range(1, 80):
        (folder / f"clip{i:02d}.mp3").write_bytes(data[: 8000 + 200 * i])
    return folder


@pytest.fixture(scope="module")
def stored(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stored") / "store"
    finished = run(audio, "--out", out, "--sample-rate", RATE, "--workers", 1)
    assert finished.returncode == 0, finished.stderr
    return out


def content(path: Path) -> pd.DataFrame:
    store = Store(path)
    table = store.table.drop(columns="start")
    table["pcm"] = [store.read(row).tobytes() for row in range(len(store))]
    return table


def clips_journalled(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob(".shard-*.journal"))


def test_killed_at_several_moments_it_ends_as_if_it_had_not_been(audio: Path, stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    command = [sys.executable, str(TOOL), str(audio), "--out", str(out), "--sample-rate", str(RATE)]
    command += ["--workers", "2", "--shard-size", "0.5"]
    for n_clips in (1, 8, 3):
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while clips_journalled(out) < n_clips and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
        assert not (out / "store.json").exists()
    finished = run(*command[2:])
    assert finished.returncode == 0, finished.stderr
    assert "clips are in the store already" in finished.stdout
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    pd.testing.assert_frame_equal(content(out), content(stored))


def test_ctrl_c_says_how_to_go_on(audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    command = [sys.executable, str(TOOL), str(audio), "--out", str(out), "--sample-rate", str(RATE)]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while clips_journalled(out) < 2 and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.rstrip().endswith("stopped: the same command goes on where it stopped")
    assert "Traceback" not in errors
    assert (out / ".begun.json").exists()


def test_summary_names_what_failed_and_what_is_damaged(audio: Path, stored: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp3").write_bytes((audio / "clip00.mp3").read_bytes())
    (folder / "cut.mp3").write_bytes((audio / "clip00.mp3").read_bytes()[:20001])
    (folder / "empty.mp3").touch()
    damaged = bytearray((audio / "clip00.mp3").read_bytes())
    damaged[9000:11000] = bytes(2000)
    (folder / "hole.mp3").write_bytes(damaged)
    command = (folder, "--out", tmp_path / "s", "--sample-rate", RATE)
    finished = run(*command)
    assert finished.returncode == 1
    assert "stored    3 clips" in finished.stdout
    assert "failed    1: empty file (0 bytes) (empty.mp3)" in finished.stdout
    assert "damaged   1 cut short, 1 salvaged" in finished.stdout
    assert str(tmp_path / "s" / "failures.csv") in finished.stdout
    assert "failed clips: 1, --allow-failures is 0" in finished.stderr
    # libmpg123 writes about the hole and the cut from C, past Python
    assert "mpg123" not in finished.stderr
    assert "Illegal" not in finished.stderr
    allowed = run(*command, "--allow-failures", 1)
    assert allowed.returncode == 0
    assert "audiocls fit --config" in allowed.stdout


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    """The tool as a module, for what need not start a process."""
    specification = importlib.util.spec_from_file_location("decode_to_hdf", TOOL)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["AudioFolder", "audio_folder", "audio-folder"])
def test_data_set_lists_its_files_by_name(tool: ModuleType, audio: Path, name: str) -> None:
    arguments = ["--dataset", name, "--root", str(audio.parent), "--out", "s", "--sample-rate", "8000"]
    sources = tool.list_sources(tool.build_parser().parse_args(arguments))
    assert sources[0].clip_id == "kick/clip00.mp3"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "s", "--sample-rate", "8000"], "give a SOURCE, or --dataset NAME --root DIR"),
        (["x", "--sample-rate", "8000"], "the following arguments are required: --out"),
        (["x", "--out", "s"], "the following arguments are required: --sample-rate"),
        (["gone", "--out", "s", "--sample-rate", "8000"], "gone does not exist"),
        (["x", "--dataset", "fma", "--out", "s", "--sample-rate", "8000"], "give SOURCE or --dataset, not both"),
        (["x", "--root", "y", "--out", "s", "--sample-rate", "8000"], "--root goes with --dataset"),
        (
            ["--dataset", "gtzan", "--root", "y", "--out", "s", "--sample-rate", "8000"],
            "--dataset must be one of FMA, AudioFolder, AudioTable, SpokenDigits, got 'gtzan'",
        ),
        (["--dataset", "fma", "--out", "s", "--sample-rate", "8000"], "needs its folder: add --root DIR"),
        ([".", "--out", "s", "--sample-rate", "8k"], "argument --sample-rate: invalid int value: '8k'"),
        ([".", "--out", "s", "--sample-rate", "8000", "--allow-failures", "-1"], "--allow-failures must be at least 0"),
        ([".", "--out", "s", "--sample-rate", "8000"], "holds no audio file: looked below it for .mp3"),
    ],
)
def test_wrong_arguments_end_in_one_line(
    tool: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["decode_to_hdf.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        tool.main()
    errors = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_help_needs_neither_torch_nor_a_decoder() -> None:
    code = (
        "import runpy, sys; sys.argv = ['decode_to_hdf.py', '--help']\n"
        f"try: runpy.run_path({str(TOOL)!r}, run_name='__main__')\n"
        "except SystemExit: pass\n"
        "loaded = {'torch', 'av', 'soundfile', 'h5py', 'pandas'} & sys.modules.keys()\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_workers_load_no_torch() -> None:
    code = "import sys, datamodules.writer; assert not {'torch', 'pandas'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TOOL.parents[1], timeout=60)


@pytest.mark.data
def test_philharmonia_fails_for_its_empty_file_alone(recordings: Path, tmp_path: Path) -> None:
    command = (recordings / "philharmonia", "--out", tmp_path / "s", "--sample-rate", RATE, "--allow-failures", 1)
    finished = run(*command)
    assert finished.returncode == 0, finished.stderr
    store = Store(tmp_path / "s")
    assert len(store) == 303
    assert store.failures.clip_id.tolist() == ["saxophone/saxophone_Fs3_15_fortissimo_normal.mp3"]
    assert store.failures.reason.tolist() == ["empty file (0 bytes)"]
    assert set(store.table.status) == {"ok"}

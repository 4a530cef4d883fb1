"""The tool as it is typed: what it prints, how it exits, and that a kill at any moment loses nothing."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import soundfile

import datamodules
import decode_to_hdf
from audiocls.__main__ import main
from datamodules.releases import Archive, Release
from datamodules.samples import SAMPLE_DTYPES
from datamodules.storage.shards import SHARD_FORMATS
from datamodules.storage.store import Store
from tests.conftest import make_store
from tests.datamodules.fetching.sites import serving

TOOL = Path(decode_to_hdf.__file__)
RATE = 16000


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


class Told(NamedTuple):
    status: object
    out: str
    errors: str


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """The tool in this process: most of the time of a small store is that of starting others."""

    def call(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["decode_to_hdf.py", *map(str, arguments)])
        logging.getLogger().handlers.clear()  # else the lines go to the standard error of the first call
        try:
            status = decode_to_hdf.main()
        except SystemExit as end:
            status = end.code
        return Told(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long enough to be killed in the middle: 40 mp3 clips of at most 3 s."""
    folder = tmp_path_factory.mktemp("root") / "kick"
    folder.mkdir()
    noise = 0.3 * np.random.default_rng(0).standard_normal(3 * 44100)
    soundfile.write(folder / "clip00.mp3", noise, 44100)
    data = (folder / "clip00.mp3").read_bytes()
    for i in range(1, 40):
        (folder / f"clip{i:02d}.mp3").write_bytes(data[: 8000 + 400 * i])
    return folder


@pytest.fixture(scope="module")
def stored(audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(audio, tmp_path_factory.mktemp("stored") / "store", sample_rate=RATE)


def content(path: Path) -> pd.DataFrame:
    store = Store(path)
    table = store.table.drop(columns="start")
    table["pcm"] = [store.read(row).tobytes() for row in range(len(store))]
    return table


def clips_journalled(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob(".shard-*.journal"))


def test_killed_in_the_middle_it_ends_as_if_it_had_not_been(audio: Path, stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    command = [sys.executable, str(TOOL), str(audio), "--out", str(out), "--sample-rate", str(RATE)]
    command += ["--workers", "2", "--shard-size", "0.5"]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while clips_journalled(out) < 3 and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"
    assert not (out / "store.json").exists()
    finished = run(*command[2:])
    assert finished.returncode == 0, finished.stderr
    assert "clips are in the store already" in finished.stderr
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    pd.testing.assert_frame_equal(content(out), content(stored))


def test_ctrl_c_says_how_to_go_on(audio: Path, tmp_path: Path) -> None:
    out = tmp_path / "s"
    command = [sys.executable, str(TOOL), str(audio), "--out", str(out), "--sample-rate", str(RATE), "--workers", "1"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    while clips_journalled(out) < 2 and process.poll() is None:
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.rstrip().endswith("stopped: the same command goes on where it stopped")
    assert "Traceback" not in errors
    assert (out / ".begun.json").exists()


def test_summary_names_what_failed_and_what_is_damaged(typed: Callable[..., Told], audio: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.mp3").write_bytes((audio / "clip00.mp3").read_bytes())
    (folder / "cut.mp3").write_bytes((audio / "clip00.mp3").read_bytes()[:20001])
    (folder / "empty.mp3").touch()
    damaged = bytearray((audio / "clip00.mp3").read_bytes())
    damaged[9000:11000] = bytes(2000)
    (folder / "hole.mp3").write_bytes(damaged)
    command = (folder, "--out", tmp_path / "s", "--sample-rate", RATE, "--workers", 1)
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
    allowed = typed(*command, "--allow-failures", 1)
    assert allowed.status == 0
    assert "audiocls fit --config" in allowed.out


def test_what_comes_next_works_as_it_is_printed(
    typed: Callable[..., Told], tone_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "my tones"
    said = typed(tone_files, "--out", store, "--sample-rate", 8000).out.splitlines()[-1]
    assert said == f"next      audiocls fit --config conf/folder.yaml --data.store '{store}' --run_dir 'runs/my tones'"
    monkeypatch.chdir(TOOL.parents[1])
    with pytest.raises(SystemExit, match=r"^0$"):
        main([*shlex.split(said)[2:], "--print_config"])


@pytest.mark.parametrize(
    ("given", "config"),
    [
        (["--dataset", "FMA", "--root", "r"], "conf/fma.yaml --data.store s --data.root r"),
        (["--dataset", "speech_commands", "--root", "r"], "conf/speech_commands.yaml --data.store s --data.root r"),
        (["--dataset", "spoken_digits", "--root", "r"], "conf/digits.yaml --data.store s --data.root r"),
        (["a.csv"], "CONFIG.yaml --data.store s"),
        ([], "CONFIG.yaml --data.store s"),
    ],
)
def test_what_comes_next_names_the_configuration_of_a_known_set(given: list[str], config: str, tmp_path: Path) -> None:
    words = [*(given or [str(tmp_path)]), "--out", "s", "--sample-rate", "8000"]  # a folder without folders
    arguments = decode_to_hdf.build_parser().parse_args(words)
    assert " ".join(decode_to_hdf.training(arguments)) == f"audiocls fit --config {config} --run_dir runs/s"


def test_dry_run_says_what_would_come_and_writes_nothing(
    typed: Callable[..., Told], tones: Path, tone_files: Path, tmp_path: Path
) -> None:
    def lines(out: Path, *more: object) -> dict[str, str]:
        finished = typed(tone_files, "--out", out, "--sample-rate", 8000, "--dry-run", *more)
        assert finished.status == 0, finished.errors
        return {line[:10].strip(): line[10:] for line in finished.out.splitlines()}

    told = re.fullmatch(
        r"30 files, about 0\.00 h and (\S+) GB \(int16, 1 channel, 8000 Hz\)", lines(tmp_path / "new")["to decode"]
    )
    assert told is not None
    # a wav's header is exact, the text gives three digits
    assert float(told[1]) * 1e9 == pytest.approx(2 * Store(tones).lengths.sum(), rel=0.005)
    half = lines(tmp_path / "new", "--max-seconds", 0.01, "--dtype", "float32")["to decode"]
    assert f"{30 * 0.01 * 8000 * 4 / 1e9:.3g} GB (float32" in half
    assert list(tmp_path.iterdir()) == []
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tones.iterdir()}
    again = lines(tones)
    assert again["stored"] == f"30 of them already, in {tones}"
    assert again["to decode"].startswith("0 files, about 0.00 h and 0 GB")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in tones.iterdir()} == before


def test_dry_run_refuses_what_the_run_would_refuse(typed: Callable[..., Told], tone_files: Path, tones: Path) -> None:
    finished = typed(tone_files, "--out", tones, "--sample-rate", 11025, "--dry-run")
    assert finished.status == 2
    assert "was begun with --sample-rate 8000, not --sample-rate 11025: type --sample-rate 8000" in finished.errors


def test_summary_on_the_standard_output_stands_there_alone(
    typed: Callable[..., Told], audio: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp3").write_bytes((audio / "clip00.mp3").read_bytes())
    (tmp_path / "in" / "empty.mp3").touch()
    finished = typed(tmp_path / "in", "--out", tmp_path / "s", "--sample-rate", RATE, "--summary", "-", "--verify")
    assert finished.status == 1
    summary = json.loads(finished.out)
    assert (summary["clips"], summary["pending"], summary["silent"]) == (1, 0, 0)
    assert summary["failures"][0]["clip_id"] == "empty.mp3"
    assert summary["failures"][0]["reason"] == "empty file (0 bytes)"
    assert "every byte is as it was written" in finished.errors


def test_native_channels_formats_and_lengths_are_stored(typed: Callable[..., Told], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    noise = 0.3 * np.random.default_rng(0).standard_normal((2 * RATE, 2))
    soundfile.write(tmp_path / "in" / "a.wav", noise, RATE, subtype="FLOAT")
    settings = ("--channels", "native", "--dtype", "float32", "--max-seconds", 0.5, "--format", "npy")
    finished = typed(tmp_path / "in", "--out", tmp_path / "s", "--sample-rate", RATE, *settings)
    assert finished.status == 0, finished.errors
    pcm = np.load(tmp_path / "s" / "shard-00000.npy")
    np.testing.assert_array_equal(pcm, noise[: RATE // 2].astype(np.float32))


def test_ranks_by_the_environment_make_one_store(
    typed: Callable[..., Told], audio: Path, stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    ends = []
    for rank in (1, 0):
        monkeypatch.setenv("RANK", str(rank))
        ends.append(typed(audio, "--out", tmp_path / "s", "--sample-rate", RATE, "--workers", 1, "--verify"))
        assert f"rank {rank} of 2, by RANK and WORLD_SIZE" in ends[-1].errors
        assert ends[-1].status == 0, ends[-1].errors
    assert "1 shards of other ranks: the store is whole when the last has ended" in ends[0].out
    assert "next " not in ends[0].out
    assert "every byte is as it was written" not in ends[0].out
    assert "every byte is as it was written" in ends[1].out
    pd.testing.assert_frame_equal(content(tmp_path / "s"), content(stored))


def test_summary_counts_what_is_odd_about_clips(typed: Callable[..., Told], tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    ramp = np.linspace(-0.1, 0.1, RATE)
    sounds = {"silent": 0 * ramp, "clipped": 15 * ramp, "offset": ramp + 0.2, "sound": ramp}
    for name, samples in sounds.items():
        soundfile.write(tmp_path / "in" / f"{name}.wav", samples, RATE, subtype="FLOAT")
    finished = typed(tmp_path / "in", "--out", tmp_path / "s", "--sample-rate", RATE)
    printed = [line.split()[:2] for line in finished.out.splitlines()]
    assert printed[2:5] == [["silent", "1"], ["clipped", "1"], ["offset", "1"]]
    (tmp_path / "in" / "sound.wav").unlink()
    finished = typed(tmp_path / "in", "--out", tmp_path / "s", "--sample-rate", RATE)
    assert "gone      1 clips kept whose file is no longer there" in finished.out


@pytest.mark.parametrize("name", ["AudioFolder", "audio_folder", "audio-folder"])
def test_data_set_lists_its_files_by_name(audio: Path, name: str) -> None:
    arguments = ["--dataset", name, "--root", str(audio.parent), "--out", "s", "--sample-rate", "8000"]
    sources = decode_to_hdf.list_sources(decode_to_hdf.build_parser().parse_args(arguments))
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
            ["--dataset", "nonesuch", "--root", "y", "--out", "s", "--sample-rate", "8000"],
            f"--dataset must be one of {', '.join(datamodules.__all__)}, got 'nonesuch'",
        ),
        (["--dataset", "fmaa", "--root", "y", "--out", "s", "--sample-rate", "8000"], "'fmaa'; did you mean 'FMA'?"),
        (["x", "--out", "s", "--sample-rate", "8000", "--download"], "--download goes with --dataset: give --dataset"),
        (["x", "--out", "s", "--sample-rate", "8000", "--allow-missing", "1"], "--allow-missing goes with --dataset"),
        (["--dataset", "fma", "--root", "y", "--out", "s", "--sample-rate", "8000", "--mirror", "m"], "add --download"),
        ([".", "--out", "s", "--sample-rate", "8000", "--allow-missing", "-1"], "--allow-missing must be at least 0"),
        (["--dataset", "fma", "--out", "s", "--sample-rate", "8000"], "needs its folder: add --root DIR"),
        *(
            ([".", "--out", "s", "--sample-rate", text], f"must be a whole number of Hz, such as 16000, got '{text}'")
            for text in ("8k", "16.0", "")
        ),
        ([".", "--out", "s", "--sample-rate", "8000", "--allow-failures", "-1"], "--allow-failures must be at least 0"),
        ([".", "--out", "s", "--sample-rate", "8000"], "holds no audio file: looked below it for .mp3"),
        ([".", "--out", "s", "--sample-rate", "8000", "--channels", "two"], "a whole number or native, got 'two'"),
        ([".", "--out", "s", "--sample-rate", "8000", "--dtype", "int61"], "got 'int61'; did you mean 'int16'?"),
        ([".", "--out", "s", "--sample-rate", "8000", "--format", "hdf"], "got 'hdf'; did you mean 'hdf5'?"),
        ([".", "--out", "s", "--sample-rate", "8000", "--shard-size", "inf"], "--shard-size must be above 0 MiB and f"),
        ([".", "--out", "s", "--sample-rate", "8000", "--shard-size", "nan"], "--shard-size must be above 0 MiB and f"),
        (["new\nline", "--out", "s", "--sample-rate", "8000"], r"new\nline does not exist"),
        ([".", "--out", "s", "--sample-rate", "8000", "--rank", "1"], "--rank and --world-size go together"),
        ([".", "--out", "s", "--sample-rate", "8000", "--summary", "no/x.json"], "must lie in a folder that exists"),
        (
            [".", "--out", "s", "--sample-rate", "8000", "--dry-run", "--verify"],
            "--dry-run decodes nothing to sum up or verify: leave --summary and --verify out",
        ),
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
    monkeypatch.setattr(sys, "argv", ["decode_to_hdf.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        decode_to_hdf.main()
    errors = capsys.readouterr().err
    assert caught.value.code == 2
    assert message in errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_names_of_files_cannot_drive_the_terminal(typed: Callable[..., Told], tmp_path: Path) -> None:
    """They were printed as they are: escape sequences, line breaks, bytes that no terminal can show."""
    names = [b"\x1b[31m.wav", b"a\r\nb.wav", b"\xe9.wav"]
    (tmp_path / "in").mkdir()
    for name in names:
        (tmp_path / "in" / os.fsdecode(name)).touch()
    told = typed(tmp_path / "in", "--out", tmp_path / "s", "--sample-rate", RATE)
    failed = next(line for line in told.out.splitlines() if line.startswith("failed"))
    assert failed == r"failed    3: empty file (0 bytes) (\x1b[31m.wav, a\r\nb.wav, \udce9.wav)"
    assert sorted(Store(tmp_path / "s").failures["clip_id"]) == sorted(map(os.fsdecode, names))  # one row a file


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize("below", ["", "s"])
def test_a_store_where_a_file_is_says_so(
    typed: Callable[..., Told], audio: Path, tmp_path: Path, dry: list[str], below: str
) -> None:
    """It said that the file exists, and the dry run a file of its own that nobody knows."""
    (tmp_path / "file").touch()
    told = typed(audio, "--out", tmp_path / "file" / below, "--sample-rate", RATE, *dry)
    assert told.status == 2
    assert told.errors == (
        f"decode_to_hdf.py: {tmp_path / 'file'} is no folder, and a store is one: give another folder as --out\n"
    )


# --- a data set that its publisher offers ---


@pytest.fixture
def tool(typed: Callable[..., Told], tmp_path: Path) -> Callable[..., Told]:
    """The tool on a folder `root` of class folders, in this process, so that a test can change the data set."""
    command = ("--dataset", "audio_folder", "--root", tmp_path / "root", "--out", tmp_path / "s")
    return lambda *more: typed(*command, "--sample-rate", 8000, *more)


@pytest.fixture
def published(tone_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Gives the data set `AudioFolder` a publisher; yields what is asked of it."""
    data = Path(shutil.make_archive(str(tmp_path / "tones-2"), "zip", tone_files)).read_bytes()
    with serving() as site:
        site.files = {"/tones-2.zip": data}
        archive = Archive(f"{site.address}/tones-2.zip", f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
        gone = Archive(f"{site.address}/tones-1.zip", None)
        releases = {
            version: Release(f"Tones {version}", "CC0", "Nobody 2020", "https://example.org", archives, "Write to us.")
            for version, archives in (("2", (archive,)), ("1", (gone,)), ("0", ()))
        }
        monkeypatch.setattr(datamodules.AudioFolder, "releases", releases)
        yield site.seen


def test_data_set_is_downloaded_and_decoded(tool: Callable[..., Told], published: list[Any], tmp_path: Path) -> None:
    told = tool("--download")
    assert told.status == 0, told.errors
    for line in (
        "Tones 2",
        "licence   CC0",
        "cite      Nobody 2020",
        f"tones-2.zip: 30 files are in {tmp_path / 'root'}",
    ):
        assert line in told.errors.splitlines()
    assert "stored    30 clips" in told.out
    again = tool("--download", "2")
    assert again.status == 0
    assert f"Tones 2 is in {tmp_path / 'root'} already" in again.errors
    assert len(published) == 1


def test_mirror_stands_in_for_the_publisher(tool: Callable[..., Told], published: list[Any], tmp_path: Path) -> None:
    told = tool("--download", "--mirror", tmp_path)
    assert told.status == 0, told.errors
    assert "stored    30 clips" in told.out
    assert published == []


def test_dry_download_says_its_size_and_writes_nothing(
    tool: Callable[..., Told], published: list[Any], tmp_path: Path
) -> None:
    before = set(tmp_path.iterdir())
    told = tool("--download", "--dry-run")
    assert told.status == 0
    kilobytes = (tmp_path / "tones-2.zip").stat().st_size / 1000
    assert told.out.splitlines() == [
        "Tones 2",
        "licence   CC0",
        "cite      Nobody 2020",
        "see       https://example.org",
        f"file      tones-2.zip, {kilobytes:.3g} kB",
        f"in all    1 files: {kilobytes:.3g} kB",
        "dry run   nothing was downloaded",
    ]
    assert set(tmp_path.iterdir()) == before
    assert published == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--download", "3"], "--download must be one of 2, 1, 0, got '3'"),
        (["--download", "0"], "Tones 0 cannot be downloaded here: Write to us. (https://example.org)"),
        (["--download", "0", "--dry-run"], "Tones 0 cannot be downloaded here: Write to us."),
        (["--download", "1"], "404 Not Found: see whether it has moved"),
        (["--download", "--mirror", "nowhere"], "mirror has no file 'nowhere/tones-2.zip'"),
    ],
)
def test_what_cannot_be_downloaded_ends_in_one_line(
    tool: Callable[..., Told], published: list[Any], tmp_path: Path, more: list[str], message: str
) -> None:
    told = tool(*more)
    assert told.status == 2
    assert message in told.errors.splitlines()[-1]
    assert told.errors.splitlines()[-1].startswith("decode_to_hdf.py: ")
    assert "Traceback" not in told.errors
    assert not (tmp_path / "s").exists()


def test_data_set_of_one_s_own_has_nothing_to_download(tool: Callable[..., Told]) -> None:
    told = tool("--download")
    assert told.status == 2
    assert told.errors == "decode_to_hdf.py: --download: AudioFolder names nothing to download: leave it out\n"


@pytest.fixture
def incomplete(tone_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A root that lacks 5 of its 30 listed clips, and has one that no list names; returns the ids of the 5."""
    shutil.copytree(tone_files, tmp_path / "root")
    listed = sorted(path.relative_to(tone_files).as_posix() for path in tone_files.rglob("*.wav"))
    for clip_id in listed[3:8]:
        (tmp_path / "root" / clip_id).unlink()
    shutil.copy(tmp_path / "root" / listed[0], tmp_path / "root" / "more.wav")
    monkeypatch.setattr(datamodules.AudioFolder, "listed", classmethod(lambda cls, root: listed))
    return listed[3:8]


@pytest.mark.parametrize("more", [[], ["--allow-missing", 4], ["--dry-run"]])
def test_half_unpacked_release_is_noticed(
    tool: Callable[..., Told], incomplete: list[str], tmp_path: Path, more: list[object]
) -> None:
    told = tool(*more)
    assert told.status == 2
    assert told.errors.splitlines()[-1] == (
        f"decode_to_hdf.py: 5 of 30 clips that AudioFolder lists are not under {tmp_path / 'root'}, such as "
        f"{', '.join(map(repr, incomplete[:3]))}: unpack the archive again, or accept it with --allow-missing 5"
    )
    assert not (tmp_path / "s").exists()


def test_missing_clips_that_are_allowed_are_counted(tool: Callable[..., Told], incomplete: list[str]) -> None:
    told = tool("--allow-missing", 5)
    assert told.status == 0, told.errors
    assert "missing   5 of 30 clips that the release lists have no file" in told.out.splitlines()
    assert "5 of 30 clips that the release lists have no file" in tool("--allow-missing", 5, "--dry-run").out
    told = tool("--allow-missing", 9, "--summary", "-")
    assert json.loads(told.out)["missing"] == 5


def test_clips_known_as_bad_may_fail(
    tool: Callable[..., Told], tone_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tone_files, tmp_path / "root")
    for name in ("bad", "worse"):
        (tmp_path / "root" / "low" / f"{name}.wav").touch()
    monkeypatch.setattr(datamodules.AudioFolder, "known_bad", {"low/bad.wav": "empty", "low/not_there.wav": "empty"})
    told = tool()
    assert told.status == 1
    assert "known     1 failed as known of the release" in told.out.splitlines()
    assert "failed    1: empty file (0 bytes) (low/worse.wav)" in told.out.splitlines()
    assert "failed clips: 1, --allow-failures is 0" in told.errors
    (tmp_path / "root" / "low" / "worse.wav").unlink()
    told = tool("--summary", tmp_path / "summary.json")
    assert told.status == 0, told.errors
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["known_failures"] == 1
    assert [failure["clip_id"] for failure in summary["failures"]] == ["low/bad.wav"]


@pytest.mark.data
@pytest.mark.slow
def test_urbansound8k_at_hand_is_told_to_be_incomplete(recordings: Path, tmp_path: Path) -> None:
    root = recordings / "UrbanSound8K"
    command = ["--dataset", "urbansound8k", "--root", root, "--out", tmp_path / "s", "--sample-rate", RATE]
    finished = run(*command)
    assert finished.returncode == 2
    assert f"8612 of 8732 clips that UrbanSound8K lists are not under {root}, such as '" in finished.stderr
    assert finished.stderr.endswith("unpack the archive again, or accept it with --allow-missing 8612\n")
    finished = run(*command, "--allow-missing", 8612, "--dry-run")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("found     120 files\nmissing   8612 of 8732 clips that the release lists")


def test_help_needs_neither_torch_nor_a_decoder() -> None:
    command = [sys.executable, "-X", "importtime", str(TOOL), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not {"torch", "av", "soundfile", "h5py", "numpy", "pandas", "requests", "pooch"} & loaded


def test_help_offers_every_format_there_is() -> None:
    text = decode_to_hdf.build_parser().format_help()
    for option, names in (("--dtype", SAMPLE_DTYPES), ("--format", SHARD_FORMATS)):
        assert f"{option} {{{','.join(names)}}}" in text


def test_workers_load_no_torch() -> None:
    code = "import sys, datamodules.storage.writer; assert not {'torch', 'pandas'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=TOOL.parents[1], timeout=60)


@pytest.mark.data
@pytest.mark.slow
def test_philharmonia_fails_for_its_empty_file_alone(recordings: Path, tmp_path: Path) -> None:
    command = (recordings / "philharmonia", "--out", tmp_path / "s", "--sample-rate", RATE, "--allow-failures", 1)
    finished = run(*command)
    assert finished.returncode == 0, finished.stderr
    store = Store(tmp_path / "s")
    assert len(store) == 303
    assert store.failures.clip_id.tolist() == ["saxophone/saxophone_Fs3_15_fortissimo_normal.mp3"]
    assert store.failures.reason.tolist() == ["empty file (0 bytes)"]
    assert set(store.table.status) == {"ok"}

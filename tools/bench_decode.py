#!/usr/bin/env python3
"""Time decoding to a PCM store against its peers, with the accuracy of the samples in the same row.

All decode the same files, in turns (see `measuring`) and in as many processes. The limit is the quickest path known:
libsndfile as float32, a product for the mean of the channels, soxr HQ, int16, thrown away. Peers throw their samples
away too; ours writes a store as `tools/decode_to_hdf.py` does, survey, tags, checksums and syncing of the disk
included. Peers' processes are started before the clock, with one thread each, and ours on it; `start_up_s` is what
that takes, so a turn should be many times as long (`--minutes`). `snr_db` is of one file, against float64 and soxr
VHQ: all that the slopes of the resampler, its aliases and the rounding change.

    python tools/bench_decode.py --csv decode.csv --chart decode.png
    python tools/bench_decode.py --source ~/fma/fma_small --minutes 60
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.pool import Pool
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soundfile
import soxr

import measuring
from datamodules.decoding.sources import Source, find_sources
from datamodules.storage.writer import write_store
from measuring import LIMIT, OURS, Row

MP3_RATE, MP3_SECONDS = 44100, 30
SPAWN = multiprocessing.get_context("spawn")
PACKAGES = ("soundfile", "soxr", "av", "librosa", "torchaudio", "torchcodec", "numpy")


class Task(NamedTuple):
    """What a turn decodes.

    Args:
        paths: the files, each as often as it takes to fill the turn.
        seconds: of audio in all of them.
        sample_rate: asked for, in Hz.
        workers: processes.
    """

    paths: list[Path]
    seconds: float
    sample_rate: int
    workers: int


# --- the peers: a file to mono samples at a rate; full scale is 1, or 32768 as int16 ---


def bare_decoder(path: Path, sample_rate: int) -> np.ndarray:
    """The quickest path known, without a check."""
    samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    mean = samples @ np.full(samples.shape[1], 1 / samples.shape[1], dtype=np.float32)
    resampled = soxr.resample(mean, rate, sample_rate, quality="HQ")
    return np.clip(np.rint(resampled * np.float32(32768)), -32768, 32767).astype(np.int16)


def librosa_load(path: Path, sample_rate: int) -> np.ndarray:
    """As most scripts do it; float32."""
    import librosa  # noqa: PLC0415 - optional, and only its own processes need it

    return librosa.load(path, sr=sample_rate)[0]


def ffmpeg_process(path: Path, sample_rate: int) -> np.ndarray:
    """One process of the command line tool a file."""
    command = ["ffmpeg", "-nostdin", "-v", "error", "-threads", "1", "-i", str(path)]
    command += ["-f", "s16le", "-ac", "1", "-ar", str(sample_rate), "-"]
    return np.frombuffer(subprocess.run(command, capture_output=True, check=True).stdout, dtype=np.int16)


def pyav_swresample(path: Path, sample_rate: int) -> np.ndarray:
    """FFmpeg's decoder and resampler as libraries."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=sample_rate)
    with av.open(str(path)) as container:
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


def torchaudio_load(path: Path, sample_rate: int) -> np.ndarray:
    """torchaudio's decoder (through torchcodec) and resampler; float32."""
    import torchaudio  # noqa: PLC0415 - optional, and only its own processes need it

    waveform, rate = torchaudio.load(path)
    return torchaudio.functional.resample(waveform.mean(dim=0), rate, sample_rate).numpy()


BARE = f"{LIMIT}: bare decoder"
PEERS: dict[str, Callable[[Path, int], np.ndarray]] = {
    BARE: bare_decoder,
    "librosa.load": librosa_load,
    "ffmpeg processes": ffmpeg_process,
    "PyAV, swresample": pyav_swresample,
    "torchaudio.load, resample": torchaudio_load,
}


# --- measuring ---


def write(paths: Sequence[Path], folder: Path, *, sample_rate: int, workers: int) -> Path:
    """Write a fresh store below a folder, as `tools/decode_to_hdf.py` does."""
    out = Path(tempfile.mkdtemp(prefix="store-", dir=folder))
    sources = [Source(f"{i:06d}{path.suffix}", path) for i, path in enumerate(paths)]
    summary = write_store(sources, out, sample_rate=sample_rate, workers=workers)
    if summary.failures:
        failure = summary.failures[0]
        raise ValueError(f"--source must hold whole files, got {failure.source}: {failure.reason}")
    return out


def ours(task: Task, folder: Path) -> float:
    """Write a store; returns the seconds of audio."""
    write(task.paths, folder, sample_rate=task.sample_rate, workers=task.workers)
    return task.seconds


def peer(task: Task, pool: Pool, *, decoder: Callable[[Path, int], np.ndarray]) -> float:
    """Decode all in a pool of processes; returns the seconds of audio."""
    job = partial(_decode_and_drop, decoder=decoder, sample_rate=task.sample_rate)
    assert sum(pool.imap_unordered(job, task.paths)) == len(task.paths)
    return task.seconds


def _decode_and_drop(path: Path, *, decoder: Callable[[Path, int], np.ndarray], sample_rate: int) -> bool:
    return len(decoder(path, sample_rate)) > 0


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Processes started within leave each other the cores: OpenBLAS starts a thread a core, and waits by spinning."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ[name] for name in names if name in os.environ}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name in names:
            del os.environ[name]
        os.environ.update(before)


def start_up(task: Task, folder: Path) -> float:
    """Seconds that our writer takes for a tenth of a second of audio a process: what starting and ending take."""
    clip = folder / "start-up.wav"
    soundfile.write(clip, np.full(MP3_RATE // 10, 0.5), MP3_RATE)
    short = task._replace(paths=[clip] * task.workers)
    taken = measuring.in_turns({OURS: partial(ours, short, folder)}, turns=3, warm_up=0)[OURS]
    return statistics.median(turn.seconds for turn in taken)


def snr_db(samples: np.ndarray, path: Path, sample_rate: int) -> float:
    """Level of a file's exact samples above a decoder's error, in dB."""
    exact, rate = soundfile.read(path, dtype="float64", always_2d=True)
    exact = soxr.resample(exact.mean(axis=1), rate, sample_rate, quality="VHQ")
    scale = 32768 if samples.dtype == np.int16 else 1
    n_samples = min(len(exact), len(samples))
    error = samples[:n_samples].astype(np.float64) / scale - exact[:n_samples]
    return float(10 * np.log10(np.sum(exact[:n_samples] ** 2) / np.sum(error**2)))


def accuracies(task: Task, folder: Path) -> dict[str, float]:
    """SNR of each implementation that is installed and works, in dB; the others are named on stderr."""
    from datamodules.storage.store import Store  # noqa: PLC0415 - workers import this file and read no store

    first = task.paths[0]
    store = Store(write([first], folder, sample_rate=task.sample_rate, workers=1))
    measured = {OURS: snr_db(store.read(0)[:, 0], first, task.sample_rate)}
    for name, decoder in PEERS.items():
        try:
            measured[name] = snr_db(decoder(first, task.sample_rate), first, task.sample_rate)
        except (ImportError, OSError, RuntimeError) as error:
            measuring.left_out(name, error)
    return measured


def measure(task: Task, folder: Path, *, turns: int) -> list[Row]:
    """One row an implementation, in seconds of audio a second."""
    accuracy, started = accuracies(task, folder), start_up(task, folder)
    with contextlib.ExitStack() as stack:
        runs: dict[str, Callable[[], float]] = {OURS: partial(ours, task, folder)}
        for name in [name for name in PEERS if name in accuracy]:
            with one_thread_each():
                pool = stack.enter_context(SPAWN.Pool(task.workers))
            runs[name] = partial(peer, task, pool, decoder=PEERS[name])
        taken = measuring.in_turns(runs, turns=turns, before=lambda name: _remove_stores(folder))
    speeds = {name: [turn.work / turn.seconds for turn in values] for name, values in taken.items()}
    n_files = len(set(task.paths))
    setting = f"{n_files} files of {task.paths[0].suffix[1:]} to {task.sample_rate} Hz, {task.workers} processes"
    rows = measuring.summarise(speeds, setting=setting, quantity="decoding", unit="x real time", better="higher")
    for row in rows:
        row["snr_db"] = accuracy[str(row["implementation"])]
    rows[0]["start_up_s"] = started
    return rows


def _remove_stores(folder: Path) -> None:
    for store in folder.glob("store-*"):
        shutil.rmtree(store)


# --- what is decoded ---


def music(seed: int, *, seconds: float = MP3_SECONDS, sample_rate: int = MP3_RATE) -> np.ndarray:
    """Plucked notes and beats, stereo: as busy for a decoder as music is, shape (samples, 2)."""
    generator = np.random.default_rng(seed)
    samples = np.zeros((round(seconds * sample_rate), 2))
    time_axis = np.arange(sample_rate // 2) / sample_rate
    for start in range(0, len(samples) - len(time_axis), sample_rate // 8):
        frequency, pan = 55 * 2 ** (generator.integers(48) / 12), generator.uniform(0.1, 0.9)
        partials = np.arange(1, 9)[:, None]
        note = np.sum(np.sin(2 * np.pi * frequency * partials * time_axis) / partials, axis=0) * np.exp(-6 * time_axis)
        beat = generator.standard_normal(len(time_axis)) * np.exp(-30 * time_axis)
        samples[start : start + len(time_axis)] += np.outer(note + beat, [pan, 1 - pan])
    return 0.9 * samples / np.abs(samples).max()


def write_mp3(path: Path) -> None:
    """Music at 256 kbit/s, near the mean of FMA's clips, with the encoder's tag; the name's number is the seed."""
    samples = music(int(path.stem))
    soundfile.write(path, samples, MP3_RATE, bitrate_mode="CONSTANT", compression_level=0.2)


def make_mp3s(folder: Path, *, n_files: int, workers: int) -> list[Path]:
    """Synthetic mp3 files of 30 s."""
    paths = [folder / f"{number:04d}.mp3" for number in range(n_files)]
    with SPAWN.Pool(workers) as pool:
        pool.map(write_mp3, paths)
    return paths


def plan(files: list[Path], *, minutes: float, sample_rate: int, workers: int) -> Task:
    """Go round the files until every process has its minutes.

    Raises:
        ValueError: if libsndfile cannot open a file.
    """
    try:
        lengths = [soundfile.info(path).duration for path in files]
    except soundfile.SoundFileError as error:
        raise ValueError(f"--source must hold files that libsndfile reads: {error}") from None
    rounds = math.ceil(60 * minutes * workers / sum(lengths))
    ends = np.cumsum(lengths * rounds)
    n_files = int(np.searchsorted(ends, 60 * minutes * workers)) + 1
    return Task((files * rounds)[:n_files], float(ends[n_files - 1]), sample_rate, workers)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write CSV and chart."""
    parser = measuring.build_parser(__doc__, n_turns=5)
    parser.add_argument("--source", type=Path, help="folder or table of audio files, in place of synthetic mp3")
    parser.add_argument("--files", type=int, default=32, help="synthetic mp3, 30 s each (default: 32)")
    parser.add_argument("--minutes", type=float, default=60.0, help="of audio a process and turn (default: 60)")
    parser.add_argument("--sample_rate", type=int, default=16000, help="of the result, in Hz (default: 16000)")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="processes (default: cores)")
    parser.add_argument("--folder", type=Path, help="where to write mp3 and stores for the time (default: temporary)")
    args = parser.parse_args(argv)
    for name in ("files", "minutes", "workers"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name} must be above 0, got {getattr(args, name)}")
    where = f"{measuring.environment(PACKAGES)}; {args.minutes:g} min a process and turn, {args.turns} turns after 1"
    print(f"{where}\n")
    with tempfile.TemporaryDirectory(dir=args.folder) as temporary:
        folder = Path(temporary)
        try:
            if args.source:
                files = [source.path for source in find_sources(args.source)]
            else:
                files = make_mp3s(folder, n_files=args.files, workers=args.workers)
            task = plan(files, minutes=args.minutes, sample_rate=args.sample_rate, workers=args.workers)
            rows = measure(task, folder, turns=args.turns)
        except ValueError as error:
            parser.error(str(error))
    measuring.report(rows, args, benchmark="Decoding audio files to a PCM store", where=where)
    return 0


if __name__ == "__main__":
    sys.exit(main())

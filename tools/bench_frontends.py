#!/usr/bin/env python3
"""Time the mel front-end against its peers, with the error against librosa in the same row.

Peers run in turns and in changing order within one process, after a warm-up, on the same batch of noise and sweeps. A
row gives the median and the quartiles of all turns, and the ratio of our median to the row's: below 1 where ours is
faster. The error is the largest difference from librosa's decibels within 80 dB of each clip's peak. Padding mirrors,
since all of them can.

    python tools/bench_frontends.py
    python tools/bench_frontends.py --device cuda --batch_size 256 --csv bench.csv
"""

import argparse
import csv
import importlib
import importlib.metadata
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import librosa
import numpy as np
import torch
from torch import Tensor

from audiocls.frontends import Decibel, MelSpectrogram, NoNormalization

TOP_DB = 80.0
OURS = "audiocls"


@dataclass(frozen=True)
class Setting:
    """One size of spectrogram; samples, Hz and number of filters."""

    sample_rate: int
    n_fft: int
    hop_length: int
    n_mels: int

    def __str__(self) -> str:
        return f"{self.sample_rate} Hz {self.n_fft}/{self.hop_length}/{self.n_mels}"


@dataclass(frozen=True)
class Row:
    """What one implementation took for one setting."""

    setting: str
    implementation: str
    median_ms: float
    quartile_1_ms: float
    quartile_3_ms: float
    ours_to_it: float
    max_error_db: float


SETTINGS = (
    Setting(16000, 512, 160, 80),
    Setting(16000, 1024, 256, 128),
    Setting(22050, 2048, 512, 128),
    Setting(32000, 1024, 320, 64),
)


def ours(setting: Setting, device: str, *, learnable: bool = False) -> Callable[[Tensor], Tensor]:
    """Our front-end, in decibels."""
    return MelSpectrogram(
        setting.sample_rate,
        n_fft=setting.n_fft,
        hop_length=setting.hop_length,
        n_mels=setting.n_mels,
        pad_mode="reflect",
        learnable=learnable,
        compression=Decibel,
        normalization=NoNormalization,
    ).to(device)


def torchaudio_peer(setting: Setting, device: str) -> Callable[[Tensor], Tensor]:
    """torchaudio's MelSpectrogram and AmplitudeToDB."""
    transforms = importlib.import_module("torchaudio.transforms")
    mel = transforms.MelSpectrogram(
        setting.sample_rate,
        n_fft=setting.n_fft,
        hop_length=setting.hop_length,
        n_mels=setting.n_mels,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.nn.Sequential(mel, transforms.AmplitudeToDB(top_db=TOP_DB)).to(device)


def nnaudio_peer(setting: Setting, device: str) -> Callable[[Tensor], Tensor]:
    """nnAudio's MelSpectrogram; its decibels are made the way ours are, since it has none of its own."""
    features = importlib.import_module("nnAudio.features.mel")
    mel = features.MelSpectrogram(
        sr=setting.sample_rate,
        n_fft=setting.n_fft,
        hop_length=setting.hop_length,
        n_mels=setting.n_mels,
        verbose=False,
    ).to(device)
    decibel = Decibel(setting.n_mels, top_db=TOP_DB)
    return lambda waveform: decibel(mel(waveform.flatten(0, 1)).unflatten(0, waveform.shape[:2]))


def librosa_peer(setting: Setting, device: str) -> Callable[[Tensor], Tensor]:
    """librosa, clip by clip on the processor, whatever the device of the others."""

    def decibel(clip: np.ndarray) -> np.ndarray:
        mel = librosa.feature.melspectrogram(
            y=clip,
            sr=setting.sample_rate,
            n_fft=setting.n_fft,
            hop_length=setting.hop_length,
            n_mels=setting.n_mels,
            pad_mode="reflect",
        )
        return librosa.power_to_db(mel, top_db=TOP_DB)

    return lambda waveform: torch.from_numpy(np.stack([decibel(clip) for clip in waveform.cpu().numpy()]))


PEERS: dict[str, Callable[[Setting, str], Callable[[Tensor], Tensor]]] = {
    OURS: ours,
    "audiocls, learnt filterbank": lambda setting, device: ours(setting, device, learnable=True),
    "torchaudio": torchaudio_peer,
    "nnAudio": nnaudio_peer,
    "librosa": librosa_peer,
}


def build(setting: Setting, device: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """All implementations that are installed; what is not is said on stderr."""
    built = {}
    for name, make in PEERS.items():
        try:
            built[name] = make(setting, device)
        except (ImportError, OSError) as error:
            print(f"{name} left out: {error}", file=sys.stderr)
    return built


def clips(setting: Setting, batch_size: int, seconds: float) -> Tensor:
    """Noise and logarithmic sweeps in turn, shape (batch, 1, time): noise alone hides errors of precision."""
    time_axis = torch.arange(int(seconds * setting.sample_rate), dtype=torch.float64) / setting.sample_rate
    low, high = 20.0, setting.sample_rate / 2.1
    rate = np.log(high / low) / seconds
    sweep = 0.9 * torch.sin(2 * np.pi * low / rate * torch.expm1(time_axis * rate))
    noise = 0.1 * torch.randn(batch_size, len(time_axis), generator=torch.Generator().manual_seed(0))
    noise[1::2] = sweep.to(torch.float32)
    return noise.unsqueeze(1)


def timings(runs: dict[str, Callable[[Tensor], Tensor]], waveform: Tensor, *, turns: int) -> dict[str, list[float]]:
    """Milliseconds of each run, taken in turns so that a busy machine is busy for all."""
    synchronise = torch.cuda.synchronize if waveform.is_cuda else lambda: None
    taken: dict[str, list[float]] = {name: [] for name in runs}
    shuffle = random.Random(0).shuffle
    order = list(runs)
    for turn in range(-2, turns):  # two turns to warm up
        shuffle(order)  # whoever runs after librosa finds cold caches and memory given back: let it be each in its turn
        for name in order:
            synchronise()
            start = time.perf_counter()
            runs[name](waveform)
            synchronise()
            if turn >= 0:
                taken[name].append(1e3 * (time.perf_counter() - start))
    return taken


def measure(setting: Setting, *, device: str, batch_size: int, seconds: float, turns: int) -> list[Row]:
    """One row an implementation."""
    waveform = clips(setting, batch_size, seconds).to(device)
    runs = build(setting, device)
    reference = librosa_peer(setting, device)(waveform)
    inside = reference > reference.amax(dim=(1, 2, 3), keepdim=True) - TOP_DB
    with torch.no_grad():
        errors = {name: float((run(waveform).cpu() - reference)[inside].abs().max()) for name, run in runs.items()}
        taken = timings(runs, waveform, turns=turns)
    median = {name: statistics.median(values) for name, values in taken.items()}
    rows = []
    for name, values in taken.items():
        first, _, third = statistics.quantiles(values, n=4)
        rows.append(Row(str(setting), name, median[name], first, third, median[OURS] / median[name], errors[name]))
    return rows


def environment(device: str) -> str:
    """Hardware, versions and commit, in one line."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    processor = torch.cuda.get_device_name(device) if device.startswith("cuda") else processor_name()
    commit = git.stdout.strip() or "unknown"
    installed = {name: version(name) for name in ("torchaudio", "nnAudio", "librosa")}
    peers = ", ".join(f"{name} {number}" for name, number in installed.items() if number)
    return (
        f"{processor}, {torch.get_num_threads()} threads; Python {platform.python_version()}, "
        f"torch {torch.__version__}, {peers}; commit {commit}"
    )


def version(package: str) -> str | None:
    """Installed version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor_name() -> str:
    """Model of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    lines = [
        "| setting | implementation | median ms | quartiles ms | ours / it | max error dB |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        spread = f"{row.quartile_1_ms:.2f} to {row.quartile_3_ms:.2f}"
        lines.append(
            f"| {row.setting} | {row.implementation} | {row.median_ms:.2f} | {spread} | {row.ours_to_it:.2f} "
            f"| {row.max_error_db:.1e} |"
        )
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="where all but librosa run (default: cpu)")
    parser.add_argument("--batch_size", type=int, default=16, help="clips (default: 16)")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a clip (default: 4.0)")
    parser.add_argument("--turns", type=int, default=20, help="runs of each implementation, at least 2 (default: 20)")
    parser.add_argument("--csv", type=Path, help="where to write the rows as well")
    args = parser.parse_args(argv)
    if args.turns < 2:
        parser.error(f"--turns must be at least 2 to have a spread, got {args.turns}")
    where = environment(args.device)
    print(f"{where}; batch of {args.batch_size} x {args.seconds} s, {args.turns} turns after 2 of warm-up\n")
    rows = [
        row
        for setting in SETTINGS
        for row in measure(
            setting, device=args.device, batch_size=args.batch_size, seconds=args.seconds, turns=args.turns
        )
    ]
    print(table(rows))
    if args.csv:
        with args.csv.open("w", newline="") as file:
            writer = csv.DictWriter(file, [*(field.name for field in fields(Row)), "environment"])
            writer.writeheader()
            writer.writerows({**asdict(row), "environment": where} for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

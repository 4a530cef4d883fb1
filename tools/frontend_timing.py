"""What `bench_frontends` times: each front-end beside its peers, at several sizes, with its error.

Apart from it because it loads torch and librosa, for which `--help` need not wait.
"""

from __future__ import annotations

import ctypes
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import measuring
from frontend_peers import PEERS, TOP_DB, UNCOMPARED, Implementation, Setting
from measuring import Row

WARM_UP = 2

SETTINGS = (
    Setting(16000, 512, 160, 80),
    Setting(16000, 1024, 256, 128),
    Setting(22050, 2048, 512, 128),
    Setting(32000, 1024, 320, 64),
)


def settings(what: str) -> list[Setting]:
    """The sizes to measure at; for the constant-Q transform those whose hop the octaves of all peers can halve."""
    return [setting for setting in SETTINGS if what != "cqt" or setting.hop_length % 128 == 0]


def build(what: str, setting: Setting, device: str) -> dict[str, Implementation]:
    """All implementations that are installed; what is not is said on stderr."""
    built = {}
    for name, make in PEERS[what].items():
        try:
            built[name] = make(setting, device)
        except (ImportError, OSError) as error:
            measuring.left_out(name, error)
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


def errors(what: str, outputs: Mapping[str, Tensor]) -> dict[str, float]:
    """Largest difference of each from librosa; empty where librosa is not among them.

    Decibels of mel bands are compared within 80 dB of a clip's peak. Filters of the constant-Q transform are cut off
    somewhere, each implementation's elsewhere: compared are magnitudes, as a share of the peak.
    """
    if "librosa" not in outputs:
        return {}
    reference = outputs["librosa"]
    peak = reference.amax(dim=(1, 2, 3), keepdim=True)
    compared = {name: output for name, output in outputs.items() if name != UNCOMPARED}
    if what == "cqt":
        compared = {name: 10 ** ((output - peak) / 20) for name, output in compared.items()}
    counted = reference > (peak - TOP_DB if what == "mel" else -torch.inf)
    return {name: float((output - compared["librosa"])[counted].abs().max()) for name, output in compared.items()}


def steps(what: str, implementations: Mapping[str, Implementation], waveform: Tensor) -> dict[str, Callable[[], float]]:
    """One turn of each: forward, and backward where something is learnt; done when it returns."""
    backward = "backward" in what

    def step(implementation: Implementation) -> float:
        with torch.set_grad_enabled(backward):
            output = implementation(waveform)
            if backward:
                output.mean().backward()
        if waveform.is_cuda:
            torch.cuda.synchronize()
        return 1.0

    return {name: partial(step, implementation) for name, implementation in implementations.items()}


def measure(what: str, setting: Setting, arguments: Namespace, *, seconds: float, threads: int) -> list[Row]:
    """One row an implementation: milliseconds a batch, or megabytes that a batch takes at its peak."""
    torch.set_num_threads(threads)
    waveform = clips(setting, arguments.batch_size, seconds).to(arguments.device)
    implementations = build(what, setting, arguments.device)
    runs = steps(what, implementations, waveform)
    with torch.no_grad():
        off = errors(what, {name: implementation(waveform).cpu() for name, implementation in implementations.items()})
    if arguments.memory:
        values = {
            name: [peak_megabytes(run, arguments.device) for _ in range(arguments.turns)] for name, run in runs.items()
        }
        quantity, unit = "peak memory", "MB"
    else:
        taken = measuring.in_turns(runs, turns=arguments.turns, warm_up=WARM_UP)
        values = {name: [1e3 * turn.seconds for turn in turns] for name, turns in taken.items()}
        quantity, unit = "time", "ms"
    where = f"{what}, {setting}, {arguments.batch_size} x {seconds:g} s, {threads} thread{'s' if threads > 1 else ''}"
    rows = measuring.summarise(values, setting=where, quantity=quantity, unit=unit, better="lower")
    return [row | ({"max_error": off[name]} if (name := str(row["implementation"])) in off else {}) for row in rows]


def peak_megabytes(run: Callable[[], float], device: str) -> float:
    """Memory that a run takes above what was taken before it, at its peak (Linux, or a CUDA device)."""
    if device.startswith("cuda"):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    ctypes.CDLL(None).malloc_trim(0)  # else what earlier runs have freed would be taken again unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    run()
    return max(_resident("VmHWM") - before, 1) / 1e3


def _resident(name: str) -> int:
    """Kilobytes of main memory, from the kernel's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def measure_all(arguments: Namespace) -> tuple[str, list[Row]]:
    """Every front-end asked for, at every setting, length and number of threads.

    Returns:
        Where it ran, in one line, and the rows.
    """
    device = arguments.device
    processor = torch.cuda.get_device_name(device) if device.startswith("cuda") else measuring.processor()
    packages = measuring.environment(("torch", "torchaudio", "nnAudio", "librosa"), hardware=processor)
    rows = [
        row
        for what in arguments.what
        for setting in settings(what)
        for seconds in arguments.seconds
        for threads in arguments.threads or [torch.get_num_threads()]
        for row in measure(what, setting, arguments, seconds=seconds, threads=threads)
    ]
    return f"{packages}; {arguments.turns} turns after {WARM_UP} of warm-up", rows

"""What `bench_frontends` times: each front-end beside its peers, at several sizes, with its error.

Apart from it because it loads torch and librosa, for which `--help` need not wait.
"""

from __future__ import annotations

import statistics
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

import device_clock
import measuring
from audiocls.functional import pcm_to_float
from device_clock import Step
from frontend_peers import FFT_PATH, GIVEN_FLOAT, PEERS, TOP_DB, UNCOMPARED, Build, Implementation, Setting
from measuring import LIMIT, OURS, Row

WARM_UP = 2
MEMORY_BOUND = f"{LIMIT}: int16 read and float32 written"

SETTINGS = (
    Setting(16000, 512, 160, 80),
    Setting(16000, 1024, 256, 128),
    Setting(22050, 2048, 512, 128),
    Setting(32000, 1024, 320, 64),
    Setting(44100, 2048, 441, 128),
)


def settings(what: str) -> list[Setting]:
    """The sizes to measure at; for the constant-Q transform those whose hop the octaves of all peers can halve."""
    return [setting for setting in SETTINGS if what != "cqt" or setting.hop_length % 128 == 0]


def build(makers: Mapping[str, Build], setting: Setting, device: str) -> dict[str, Implementation]:
    """All implementations that are installed; what is not is said on stderr."""
    built = {}
    for name, make in makers.items():
        if name == FFT_PATH and device == "cpu":
            continue
        try:
            built[name] = make(setting, device)
        except (ImportError, OSError) as error:
            measuring.left_out(name, error)
    return built


def clips(setting: Setting, batch_size: int, seconds: float) -> Tensor:
    """Noise and logarithmic sweeps in turn, int16, shape (batch, 1, time): noise alone hides errors of precision."""
    time_axis = torch.arange(int(seconds * setting.sample_rate), dtype=torch.float64) / setting.sample_rate
    low, high = 20.0, setting.sample_rate / 2.1
    rate = np.log(high / low) / seconds
    sweep = 0.9 * torch.sin(2 * np.pi * low / rate * torch.expm1(time_axis * rate))
    waveform = 0.1 * torch.randn(batch_size, len(time_axis), generator=torch.Generator().manual_seed(0))
    waveform[1::2] = sweep.to(torch.float32)
    return (waveform.unsqueeze(1) * 2**15).round().clamp(-(2**15), 2**15 - 1).to(torch.int16)


def check_length(what: str, setting: Setting, seconds: float) -> None:
    """Refuse clips shorter than a frame, or for the constant-Q transform than a second, which peers cannot mirror.

    Raises:
        ValueError: if a clip is shorter.
    """
    least = 1.0 if what == "cqt" else setting.n_fft / setting.sample_rate
    if seconds < least:
        raise ValueError(
            f"--seconds must be at least {least:g} for {what} at {setting}, got {seconds:g}: give longer clips"
        )


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


def step(implementation: Implementation, waveform: Tensor, *, backward: bool) -> Tensor:
    """Forward, and backward where something is learnt."""
    with torch.set_grad_enabled(backward):
        output = implementation(waveform)
        if backward:
            output.mean().backward()
    return output.detach()


def first_outputs(runs: Mapping[str, Callable[[], Tensor]]) -> dict[str, Tensor]:
    """What each gives, on the processor; a peer for which the device's memory is too small is named on stderr."""
    outputs = {}
    for name, run in runs.items():
        try:
            outputs[name] = run().cpu()
        except torch.OutOfMemoryError as error:
            if name == OURS:
                raise
            measuring.left_out(name, error)
    return outputs


def time_rows(
    runs: Mapping[str, Step], case: str, arguments: Namespace, *, audio_seconds: float, bound: Sequence[float]
) -> list[Row]:
    """One row an implementation and clock: milliseconds a batch.

    Args:
        runs: a batch of each.
        case: what is run, at which size.
        audio_seconds: of all clips of a batch.
        bound: seconds in which the device could copy the batch in and out, of each turn; empty where that is no bound.
    """
    limit = {MEMORY_BOUND: [1e3 * seconds for seconds in bound]} if bound else {}
    rows = []
    for name, clock in device_clock.clocks(arguments.device).items():
        clocked = {of: partial(clock, run) for of, run in runs.items()}
        taken = measuring.in_turns(clocked, turns=arguments.turns, warm_up=WARM_UP)
        values = {of: [1e3 * turn.work for turn in turns] for of, turns in taken.items()} | limit
        setting = f"{case}, {name}" if name else case
        rows += measuring.summarise(values, setting=setting, quantity="time", unit="ms", better="lower")
    to_torchaudio(rows)
    for row in rows:
        row["us_per_audio_second"] = 1e3 * float(row["median"]) / audio_seconds
        if bound:
            row["share_of_memory_bound"] = row.pop("speed_to_limit")
    return rows


def memory_rows(
    runs: Mapping[str, Step], case: str, arguments: Namespace, *, n_given: Mapping[str, int], n_least: int
) -> list[Row]:
    """One row an implementation: megabytes that a batch takes at its peak, above what it is given.

    Args:
        runs: a batch of each.
        case: what is run, at which size.
        n_given: bytes of the batch that each is given.
        n_least: bytes of the batch in int16 and of the spectrogram, which must be held.
    """
    device, turns = arguments.device, arguments.turns
    values = {name: [device_clock.peak_megabytes(run, device) for _ in range(turns)] for name, run in runs.items()}
    rows = measuring.summarise(values, setting=case, quantity="peak memory", unit="MB", better="lower")
    to_torchaudio(rows)
    for row in rows:
        held = n_given[str(row["implementation"])] + 1e6 * float(row["median"])
        row["of_input_and_output"] = held / n_least
    return rows


def to_torchaudio(rows: Sequence[Row]) -> None:
    """Add to rows of ours the ratio that counts: ours divided by torchaudio's, under the same setting."""
    theirs = {row["setting"]: float(row["median"]) for row in rows if row["implementation"] == "torchaudio"}
    for row in rows:
        if str(row["implementation"]).startswith(OURS) and row["setting"] in theirs:
            row[f"of_torchaudio_{row['quantity']}".replace(" ", "_")] = float(row["median"]) / theirs[row["setting"]]


def measure(
    what: str, setting: Setting, arguments: Namespace, *, batch_size: int, seconds: float, copying: Sequence[float]
) -> list[Row]:
    """All implementations of a front-end on one batch; `copying` is what `device_clock.copying` gave."""
    device, backward = arguments.device, "backward" in what
    waveform = clips(setting, batch_size, seconds).to(device)
    implementations = build(PEERS[what], setting, device)
    given = {name: pcm_to_float(waveform) if name == GIVEN_FLOAT else waveform for name in implementations}
    runs = {name: partial(step, made, given[name], backward=backward) for name, made in implementations.items()}
    outputs = first_outputs(runs)
    counted: dict[str, Step] = {name: runs[name] for name in outputs if device == "cpu" or name != "librosa"}
    n_least = waveform.nbytes + outputs[OURS].nbytes
    case = f"{what}, {setting}, {batch_size} x {seconds:g} s"
    case += f", {said_threads()}" if device == "cpu" else ""
    if arguments.memory:
        n_given = {name: batch.nbytes for name, batch in given.items()}
        rows = memory_rows(counted, case, arguments, n_given=n_given, n_least=n_least)
    else:
        bound = [] if backward else [n_least * a_byte for a_byte in copying]
        rows = time_rows(counted, case, arguments, audio_seconds=batch_size * seconds, bound=bound)
    off = errors(what, outputs)
    for row in rows:
        row["seconds"] = seconds
        if (name := str(row["implementation"])) in off:
            row["max_error"] = off[name]
    return rows


def said_threads() -> str:
    """Number of torch's threads, in words."""
    threads = torch.get_num_threads()
    return f"{threads} thread{'s' if threads > 1 else ''}"


def measure_all(arguments: Namespace) -> tuple[str, list[Row]]:
    """Every front-end asked for, at every setting, size of batch and number of threads.

    Args:
        arguments: those of `bench_frontends`, and `sizes`, the pairs of clips and seconds.
    Returns:
        Where it ran, in one line, and the rows.
    Raises:
        ValueError: if there is no such device, or the clips are too short or too many.
    """
    device = arguments.device
    device_clock.select(device)
    cases = [
        (what, setting, batch_size, seconds)
        for what in arguments.what
        for setting in settings(what)
        for batch_size, seconds in arguments.sizes
    ]
    for what, setting, _, seconds in cases:
        check_length(what, setting, seconds)
    packages = ("torch", "numba", "torchaudio", "nnAudio", "librosa")
    where = measuring.environment(packages, hardware=device_clock.hardware(device))
    where += f"; {arguments.turns} turns after {WARM_UP} of warm-up"
    rows: list[Row] = []
    for threads in arguments.threads or [torch.get_num_threads()]:
        torch.set_num_threads(threads)
        copying = [] if arguments.memory else device_clock.copying(device, turns=arguments.turns)
        if copying:
            said = f" ({said_threads()})" if device == "cpu" else ""
            where += f"; copies read and write {1e-9 / statistics.median(copying):.3g} GB/s of memory{said}"
        for what, setting, batch_size, seconds in cases:
            try:
                rows += measure(what, setting, arguments, batch_size=batch_size, seconds=seconds, copying=copying)
            except torch.OutOfMemoryError as error:
                raise ValueError(device_clock.does_not_fit(device, batch_size, seconds)) from error
    return where, rows

"""What `bench_step` times: training steps of a net on front-ends, and on a spectrogram that is ready.

Apart from it because it loads torch, for which `--help` need not wait.
"""

from __future__ import annotations

import gc
import statistics
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

import device_clock
import measuring
from audiocls.heads import CNN14, CompactCNN, Head
from bench_step import CPU_CLIPS, CUDA_CLIPS
from device_clock import Step
from frontend_peers import (
    FFT_PATH,
    LEARNT_PCEN,
    Build,
    Implementation,
    Setting,
    nnaudio_mel,
    our_learnt_pcen,
    our_mel,
    torchaudio_mel,
)
from frontend_timing import build, check_length, clips, said_threads
from measuring import LIMIT, OURS, Row

WARM_UP = 2
READY = f"{LIMIT}: spectrogram ready"
FRONT_ENDS: dict[str, Build] = {
    OURS: our_mel,
    FFT_PATH: partial(our_mel, path="fft"),
    LEARNT_PCEN: our_learnt_pcen,
    "torchaudio": torchaudio_mel,
    "nnAudio": nnaudio_mel,
}


class Recipe(NamedTuple):
    """A net, built as `head(n_bins, num_classes)`, and what it is trained on."""

    head: Callable[[int, int], Head]
    num_classes: int
    setting: Setting
    seconds: float


RECIPES = {
    "CompactCNN": Recipe(partial(CompactCNN, channels=(65,) * 5), 50, Setting(16000, 512, 160, 80), 30.0),
    "CNN14": Recipe(CNN14, 527, Setting(32000, 1024, 320, 64), 10.0),
}


def training_step(
    frontend: Implementation, head: Head, optimizer: Optimizer, waveform: Tensor, target: Tensor, *, precision: str
) -> None:
    """Forward, loss, backward and update; the net in the precision asked for, all else in float32."""
    spectrogram = frontend(waveform)
    with torch.autocast(spectrogram.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        logits = head(spectrogram)
    loss = F.cross_entropy(logits.float(), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def steps(recipe: Recipe, arguments: Namespace, *, batch_size: int, seconds: float) -> dict[str, Step]:
    """A training step of one net on each front-end, and on the spectrogram of ours."""
    device = arguments.device
    waveform = clips(recipe.setting, batch_size, seconds).to(device)
    target = torch.eye(recipe.num_classes, device=device)[torch.arange(batch_size) % recipe.num_classes]
    head = recipe.head(recipe.setting.n_mels, recipe.num_classes).to(device)
    front_ends = build(FRONT_ENDS, recipe.setting, device)
    parts = [head, *(part for part in front_ends.values() if isinstance(part, nn.Module))]
    # One optimiser for all: what is not learnt in a step has no gradient, and is passed over.
    optimizer = torch.optim.AdamW([parameter for part in parts for parameter in part.parameters()], lr=1e-3)
    with torch.no_grad():
        spectrogram = front_ends[OURS](waveform)
    feeds = {name: (part, waveform) for name, part in front_ends.items()} | {READY: (nn.Identity(), spectrogram)}
    return {
        name: partial(training_step, part, head, optimizer, given, target, precision=arguments.precision)
        for name, (part, given) in feeds.items()
    }


def fitting(recipe: Recipe, arguments: Namespace, *, seconds: float) -> tuple[int, dict[str, Step]]:
    """Clips of a batch and steps that have run on it once: of as many clips as asked for, else of what fits.

    Raises:
        ValueError: if they do not fit the memory of the device.
    """
    batch_size = arguments.batch_size or (CPU_CLIPS if arguments.device == "cpu" else CUDA_CLIPS)
    while batch_size:
        try:
            made = steps(recipe, arguments, batch_size=batch_size, seconds=seconds)
            for step in made.values():
                step()
        except torch.OutOfMemoryError:
            if arguments.batch_size:
                break
        else:
            return batch_size, made
        made = {}
        gc.collect()
        torch.cuda.empty_cache()
        batch_size //= 2
    raise ValueError(device_clock.does_not_fit(arguments.device, arguments.batch_size or 1, seconds))


def measure(net: str, arguments: Namespace) -> list[Row]:
    """One row a front-end and one without: milliseconds a step, those beyond the ready one's, and their share.

    What it takes beyond is the median over the rounds, in each of which both have had their turn.
    """
    recipe = RECIPES[net]
    seconds = arguments.seconds or recipe.seconds
    batch_size, made = fitting(recipe, arguments, seconds=seconds)
    clocked = {name: partial(device_clock.alone, step) for name, step in made.items()}
    taken = measuring.in_turns(clocked, turns=arguments.turns, warm_up=WARM_UP)
    values = {name: [1e3 * turn.work for turn in turns] for name, turns in taken.items()}
    setting = f"{net}, {recipe.setting}, {batch_size} x {seconds:g} s, {arguments.precision}"
    setting += f", {said_threads()}" if arguments.device == "cpu" else ""
    rows = measuring.summarise(values, setting=setting, quantity="time of a step", unit="ms", better="lower")
    for row in rows:
        del row["speed_to_limit"]  # said by the share
        each = zip(values[str(row["implementation"])], values[READY], strict=True)
        row["front_end_ms"] = statistics.median(step - ready for step, ready in each)  # of one round: of one minute
        row["share_of_step"] = row["front_end_ms"] / float(row["median"])
    return rows


def measure_all(arguments: Namespace) -> tuple[str, list[Row]]:
    """Every net asked for.

    Returns:
        Where it ran, in one line, and the rows.
    Raises:
        ValueError: if there is no such device, the clips are too short, or a batch does not fit the device.
    """
    device_clock.select(arguments.device)
    for net in arguments.net:
        check_length("mel", RECIPES[net].setting, arguments.seconds or RECIPES[net].seconds)
    packages = ("torch", "numba", "torchaudio", "nnAudio")
    where = measuring.environment(packages, hardware=device_clock.hardware(arguments.device))
    rows = [row for net in arguments.net for row in measure(net, arguments)]
    return f"{where}; {arguments.turns} turns after {WARM_UP} of warm-up", rows

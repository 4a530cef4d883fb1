"""What `bench_augment` times: every augmentation of ours, and the training step that it is a share of.

Apart from it because it loads torch, for which `--help` need not wait.
"""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

import device_clock
import measuring
from audiocls import augment
from audiocls.augment import Augmentation
from audiocls.frontends import MelSpectrogram
from audiocls.heads import CNN10
from measuring import OURS, Row
from step_timing import training_step

SAMPLE_RATE, NUM_CLASSES = 32000, 50
WARM_UP = 1


def members() -> dict[str, type[Augmentation]]:
    """Every augmentation of ours, by name; what transforms of other packages cost is theirs."""
    kinds = {name: getattr(augment, name) for name in augment.__all__ if name != "Audiomentations"}
    return {
        name: kind for name, kind in kinds.items() if issubclass(kind, Augmentation) and not inspect.isabstract(kind)
    }


def prepared(kind: type[Augmentation], **settings: Any) -> Augmentation:
    """An augmentation that changes every clip."""
    part = kind(probability=1.0, **settings)
    part.prepare(sample_rate=SAMPLE_RATE, task="multiclass")
    return part


def runs(arguments: Namespace) -> dict[str, Callable[[], float]]:
    """The step, and every augmentation on the same batch."""
    device = arguments.device
    shape = (arguments.batch_size, 1, round(arguments.seconds * SAMPLE_RATE))
    waveform = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    target = torch.eye(NUM_CLASSES, device=device)[torch.arange(len(waveform)) % NUM_CLASSES]
    frontend = MelSpectrogram(sample_rate=SAMPLE_RATE, n_fft=1024, hop_length=320, n_mels=64).to(device)
    head = CNN10(64, NUM_CLASSES).to(device)
    optimizer = torch.optim.AdamW([*frontend.parameters(), *head.parameters()], lr=1e-3)
    step = partial(training_step, frontend, head, optimizer, waveform, target, precision="float32")
    steps: dict[str, device_clock.Step] = {OURS: step}
    with torch.no_grad():
        spectrogram = frontend(waveform)
    for name, kind in members().items():
        stages = ("waveform", "spectrogram") if "stage" in inspect.signature(kind).parameters else (None,)
        for stage in stages:
            part = prepared(kind) if stage is None else prepared(kind, stage=stage)
            given = waveform if part.stage == "waveform" else spectrogram
            steps[name if stage is None else f"{name}, {stage}"] = partial(part, given, target)
    return {name: partial(device_clock.alone, step) for name, step in steps.items()}


def measure(arguments: Namespace) -> tuple[str, list[Row]]:
    """One row an augmentation and one for the step: milliseconds a batch, and the share of the step.

    Returns:
        Where it ran, in one line, and the rows.
    Raises:
        ValueError: if there is no such device.
    """
    device = arguments.device
    device_clock.select(device)
    packages = measuring.environment(("torch", "torchaudio"), hardware=device_clock.hardware(device))
    where = f"{packages}; {torch.get_num_threads()} threads; {arguments.turns} turns after {WARM_UP} of warm-up"
    taken = measuring.in_turns(runs(arguments), turns=arguments.turns, warm_up=WARM_UP)
    values = {name: [1e3 * turn.work for turn in turns] for name, turns in taken.items()}
    setting = f"{arguments.batch_size} x {arguments.seconds:g} s at {SAMPLE_RATE} Hz, on {device}"
    rows = measuring.summarise(values, setting=setting, quantity="time", unit="ms", better="lower")
    return where, [row | {"share_of_step": 1 / float(row["speed_to_ours"])} for row in rows]

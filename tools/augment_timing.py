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
import torch.nn.functional as F
from torch import Tensor, nn

import measuring
from audiocls import augment
from audiocls.augment import Augmentation
from audiocls.frontends import MelSpectrogram
from audiocls.heads import CNN10
from audiocls.heads.base import Head
from measuring import OURS, Row

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


def training_step(
    frontend: nn.Module, head: Head, optimizer: torch.optim.Optimizer, waveform: Tensor, target: Tensor
) -> None:
    """Forward, loss, backward and update."""
    loss = F.cross_entropy(head(frontend(waveform)), target)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def synchronised(step: Callable[[], object], device: str) -> float:
    """One turn, done when it returns."""
    step()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return 1.0


def runs(arguments: Namespace) -> dict[str, Callable[[], float]]:
    """The step, and every augmentation on the same batch."""
    device = arguments.device
    shape = (arguments.batch_size, 1, round(arguments.seconds * SAMPLE_RATE))
    waveform = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)
    target = torch.eye(NUM_CLASSES, device=device)[torch.arange(len(waveform)) % NUM_CLASSES]
    frontend = MelSpectrogram(sample_rate=SAMPLE_RATE, n_fft=1024, hop_length=320, n_mels=64).to(device)
    head = CNN10(64, NUM_CLASSES).to(device)
    optimizer = torch.optim.AdamW([*frontend.parameters(), *head.parameters()], lr=1e-3)
    steps: dict[str, Callable[[], object]] = {OURS: partial(training_step, frontend, head, optimizer, waveform, target)}
    with torch.no_grad():
        spectrogram = frontend(waveform)
    for name, kind in members().items():
        stages = ("waveform", "spectrogram") if "stage" in inspect.signature(kind).parameters else (None,)
        for stage in stages:
            part = prepared(kind) if stage is None else prepared(kind, stage=stage)
            given = waveform if part.stage == "waveform" else spectrogram
            steps[name if stage is None else f"{name}, {stage}"] = partial(part, given, target)
    return {name: partial(synchronised, step, device) for name, step in steps.items()}


def measure(arguments: Namespace) -> tuple[str, list[Row]]:
    """One row an augmentation and one for the step: milliseconds a batch, and the share of the step.

    Returns:
        Where it ran, in one line, and the rows.
    """
    device = arguments.device
    hardware = torch.cuda.get_device_name(device) if device.startswith("cuda") else measuring.processor()
    packages = measuring.environment(("torch", "torchaudio"), hardware=hardware)
    where = f"{packages}; {torch.get_num_threads()} threads; {arguments.turns} turns after {WARM_UP} of warm-up"
    taken = measuring.in_turns(runs(arguments), turns=arguments.turns, warm_up=WARM_UP)
    values = {name: [1e3 * turn.seconds for turn in turns] for name, turns in taken.items()}
    setting = f"{arguments.batch_size} x {arguments.seconds:g} s at {SAMPLE_RATE} Hz, on {device}"
    rows = measuring.summarise(values, setting=setting, quantity="time", unit="ms", better="lower")
    return where, [row | {"share_of_step": 1 / float(row["speed_to_ours"])} for row in rows]

"""What a command refuses before anything is built: folders it cannot write into, trainers that cannot be, nan."""

from __future__ import annotations

import contextlib
import math
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytorch_lightning.accelerators import AcceleratorRegistry
from pytorch_lightning.strategies import StrategyRegistry

from audiocls.runs import unused
from audiocls.terminal import meant
from datamodules.locks import lock


@contextlib.contextmanager
def writable(run_dir: str) -> Iterator[None]:
    """Make the run's folder, and refuse one that nothing can be written into, before anything is trained or scored.

    What is still empty at the end, since nothing was begun, is removed.
    """
    try:
        Path(run_dir).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=run_dir).close()
    except OSError as error:
        raise ValueError(
            f"--run_dir {run_dir} is no folder that can be written into ({error.strerror}): give another"
        ) from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            Path(run_dir).rmdir()


@contextlib.contextmanager
def locked(run_dir: str) -> Iterator[None]:
    """Keep other trainings out of the run's folder, which would overwrite each other's files.

    The kernel lets go of the lock with its process, so that nothing is left of a kill but an empty file.
    """
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock(Path(run_dir) / ".lock"))
        except BlockingIOError:
            raise ValueError(
                f"{run_dir} is being trained into by another process: wait for its end, or train in another folder, "
                f"such as --run_dir {unused(run_dir)}"
            ) from None
        yield


def check_trainer(trainer: Any, *, command: str) -> None:
    """Refuse what no trainer can be made of, and a training of no length, before anything is built."""
    kinds = ["auto", "gpu", *AcceleratorRegistry]
    _check_known("accelerator", trainer.accelerator, kinds, listed=kinds)
    check_accelerator(trainer.accelerator)
    strategies = ["auto", *StrategyRegistry.available_strategies()]
    _check_known("strategy", trainer.strategy, strategies, listed=[name for name in strategies if "_" not in name])
    devices = trainer.devices
    indices = "".join(f"{index}," for index in devices) if isinstance(devices, list) else str(devices)
    if not re.fullmatch(r"auto|-1|[1-9]\d*|(\d+,\s*)+\d*", indices):
        raise ValueError(
            f"--trainer.devices must be auto, a number of devices from 1 on, or their indices as 0,1, got {devices}"
        )
    for name in ("max_epochs", "max_steps"):
        if command == "fit" and trainer[name] == 0:
            raise ValueError(f"--trainer.{name} must be at least 1, or -1 for no limit, got 0")
    if trainer.overfit_batches > 0:
        raise ValueError(
            "--trainer.overfit_batches must be 0, since each epoch draws its own batches, got "
            f"{trainer.overfit_batches}: set --trainer.limit_train_batches for short epochs"
        )
    if isinstance(trainer.max_time, str) and not re.fullmatch(r"\d+(:\d\d){3}", trainer.max_time.strip()):
        raise ValueError(
            "--trainer.max_time must be days, hours, minutes and seconds as DD:HH:MM:SS, such as 00:01:30:00, got "
            f"{trainer.max_time!r}"
        )


def check_numbers(settings: Any, name: str = "") -> None:
    """Refuse a setting that is no number: all that is computed from it would be none either.

    Args:
        settings: dictionaries and lists in one another, and values.
        name: of the setting, by dots.

    >>> check_numbers({"lr": 1e-3, "betas": [0.9, 0.99]})
    >>> check_numbers({"optimizer": {"init_args": {"betas": [0.9, math.nan]}}}, "model")
    Traceback (most recent call last):
        ...
    ValueError: --model.optimizer.betas must be a number, got nan
    """
    if isinstance(settings, dict):
        for key, value in settings.items():
            check_numbers(value, name if key == "init_args" else f"{name}.{key}".lstrip("."))
    elif isinstance(settings, list | tuple):
        for value in settings:
            check_numbers(value, name)
    elif isinstance(settings, float) and math.isnan(settings):
        raise ValueError(f"--{name} must be a number, got nan")


def check_max_epochs(max_epochs: int | None, *, n_begun: int, checkpoint: str) -> None:
    """Refuse to go on with a run that has gone further than it is to go."""
    if max_epochs is not None and -1 < max_epochs < n_begun:
        raise ValueError(
            f"--trainer.max_epochs must be at least {n_begun}, the epochs that {checkpoint} has begun, got {max_epochs}"
        )


def _check_known(name: str, wanted: Any, known: list[str], *, listed: list[str]) -> None:
    if isinstance(wanted, str) and wanted not in known:
        raise ValueError(
            f"--trainer.{name} must be one that Lightning knows, such as {', '.join(listed)}, got {wanted!r}"
            f"{meant(wanted, known)}"
        )


def check_accelerator(wanted: Any) -> None:
    """Refuse an accelerator that torch does not see here, before anything is built."""
    there = [kind for kind, entry in AcceleratorRegistry.items() if entry["accelerator"].is_available()]
    kinds = {"cuda", "mps"} if wanted == "gpu" else {wanted} & set(AcceleratorRegistry)
    if kinds and kinds.isdisjoint(there):
        raise ValueError(
            f"--trainer.accelerator {wanted} needs a device that torch does not see here: say --trainer.accelerator "
            f"{' or '.join(['auto', *there])}"
        )


def check_monitor(monitor: str | None, *, unseen: bool) -> None:
    """Refuse to choose the best epoch by a metric where nothing is validated."""
    if unseen and monitor:
        raise ValueError(
            f"--monitor {monitor} has nothing to choose by, since nothing is validated here: leave it out (or null), "
            "and the last epoch is kept"
        )

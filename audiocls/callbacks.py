"""Callbacks that make a run repeatable and stoppable: `StepSeed`, `GracefulStop` and `LastCheckpoint`.

With batches whose order is a function of (seed, epoch) and a loader that keeps its place, they make a run that was
stopped and resumed equal, bit for bit, to one that was not. `Progress` is for the eye alone.
"""

from __future__ import annotations

import math
import os
import signal
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, TQDMProgressBar
from pytorch_lightning.trainer.states import TrainerFn


class StepSeed(Callback):
    """Seeds torch before each training batch by a hash of (seed, step, batch within the step, rank).

    Dropout and augmentation thereby become functions of these numbers: a resumed run draws what the uninterrupted run
    drew, and nothing has to be saved for it. Batches that gradients are accumulated over differ among themselves.

    Args:
        seed: any integer; the one given to Lightning's `seed_everything` (environment variable PL_GLOBAL_SEED), else 0,
            where none is given.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.seed = seed
        self._at: tuple[int, int] = (-1, 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin counting the batches of a step anew."""
        self._at = (-1, 0)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed the generators of the CPU and of every accelerator."""
        step, within = self._at
        self._at = (trainer.global_step, within + 1 if trainer.global_step == step else 0)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed
        numbers = [seed % 2**64, *self._at, trainer.global_rank]
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0]))


class GracefulStop(Callback):
    """On SIGTERM, stops all processes together after a batch, with exit status 143.

    The exception that ends the run is `SystemExit`, on which `LastCheckpoint` saves the last step. Takes the place of
    Lightning's own handler, which leaves with status 0 and, with several processes, can wait for itself for ever.
    Other signals, such as SLURM's SIGUSR1, stay Lightning's.

    A signal that comes in the batch before a validation, or during it, is heeded behind that: when the next epoch
    begins, or after the first batch that follows. A run stopped just before a validation would not make it good when
    resumed.

    Args:
        every_n_steps: batches between two agreements of the processes, each of which waits for the device; one process
            alone looks after each batch.
    Raises:
        ValueError: if `every_n_steps` is below 1.
    """

    STATUS = 128 + signal.SIGTERM

    def __init__(self, every_n_steps: int = 10) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1 batch, got {every_n_steps}")
        self.every_n_steps = every_n_steps
        self.requested = False
        self._batches = 0
        self._postponed = False

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGTERM over: from here on Lightning has registered its own handler."""
        self._listen()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take SIGTERM over where there is no sanity check."""
        self._listen()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if any process was asked to."""
        alone = trainer.world_size == 1
        self._batches += 1
        if not (alone or self._postponed or self._batches % self.every_n_steps == 0):
            return
        # the same on every process, so that all postpone together
        every = trainer.val_check_batch or math.inf  # None where validation goes by the clock
        self._postponed = trainer.is_last_batch or (batch_idx + 1) % every == 0
        if not self._postponed:
            self._stop_if_asked(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if any process was asked to at the end of the epoch before, which is saved by now."""
        if self._postponed:
            self._postponed = False
            self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        alone = trainer.world_size == 1
        if self.requested if alone else trainer.strategy.reduce_boolean_decision(self.requested, all=False):
            raise SystemExit(self.STATUS)

    def _listen(self) -> None:
        # Lightning puts the handlers back that it found when the run ends
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, signum: int, frame: object) -> None:
        self.requested = True


class LastCheckpoint(Checkpoint):
    """Keeps one checkpoint to go on from: after every epoch, every so many steps, and when the run is stopped.

    The file is written aside and then replaces the one before, so a kill at any moment leaves one that is whole. At an
    epoch's end it is written after the validation.

    Args:
        path: file to write.
        every_n_steps: optimizer steps between two writings inside an epoch; none where left out.
    Raises:
        ValueError: if `every_n_steps` is below 1.
    """

    def __init__(self, path: str | Path, *, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ValueError(f"checkpoint_every_n_steps must be at least 1 step, got {every_n_steps}")
        self.path = Path(path)
        self.every_n_steps = every_n_steps
        self._saved_step = -1

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save inside the epoch where that is asked for; accumulated gradients are not saved, so only after a step."""
        step = trainer.global_step
        if self.every_n_steps and step % self.every_n_steps == 0 and step != self._saved_step:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of the epoch, its validation included."""
        self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save what a run that is stopped on purpose has reached; saving needs all processes, so Ctrl-C alone does not.

        An error is not saved: the state it left may be half of a step.
        """
        alone = isinstance(exception, KeyboardInterrupt) and trainer.world_size == 1
        agreed = alone or isinstance(exception, SystemExit)
        reached = trainer.global_step > 0 and trainer.global_step != self._saved_step
        if agreed and trainer.state.fn == TrainerFn.FITTING and reached:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved_step = trainer.global_step
        aside = self.path.with_name(f".{self.path.name}.aside")
        trainer.save_checkpoint(aside, weights_only=False)  # on all processes, with a barrier behind it
        if trainer.is_global_zero:
            os.replace(aside, self.path)


class Progress(TQDMProgressBar):
    """Lightning's progress bar without `v_num`, the last four letters of the run's id in W&B."""

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What stands behind the bar: the losses and scores that the model logs for it."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

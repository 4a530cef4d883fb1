"""Callbacks that make a run repeatable and stoppable: `StepSeed`, `GracefulStop` and `LastCheckpoint`.

With batches whose order is a function of (seed, epoch) and a loader that keeps its place, they make a run that was
stopped and resumed equal, bit for bit, to one that was not. `Progress` is for the eye alone.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, Checkpoint, TQDMProgressBar
from pytorch_lightning.callbacks.progress.tqdm_progress import Tqdm
from pytorch_lightning.trainer.states import TrainerFn

from audiocls.classifier import Classifier

log = logging.getLogger(__name__)


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
        state = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
        if pl_module.device.type == "cpu":
            torch.default_generator.manual_seed(state)  # to ask for devices that are not there takes a millisecond
        else:
            torch.manual_seed(state)


def step_is_whole(trainer: pl.Trainer, batch_idx: int) -> bool:
    """Whether a batch ended an optimizer step; until one does, there are gradients that no checkpoint holds."""
    return trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class GracefulStop(Callback):
    """On SIGTERM, stops all processes together after a step, with exit status 143; on Ctrl-C, one that is alone.

    The exception that ends the run is `SystemExit`, on which `LastCheckpoint` saves the last step. Takes the place of
    Lightning's own handler, which leaves with status 0 and, with several processes, can wait for itself for ever.
    After Ctrl-C it is `KeyboardInterrupt`, which Python raises anywhere: in mid-batch it would leave weights of half a
    step, and a resumed run would miss that batch. A second Ctrl-C, or one outside of training, ends the run at once.
    Other signals, such as SLURM's SIGUSR1, stay Lightning's.

    A signal that comes in the batch before a validation, or SIGTERM during it, is heeded behind that: when the next
    epoch begins, or after the first step that follows. A run stopped just before a validation would not make it good
    when resumed.

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
        self.requested: SystemExit | KeyboardInterrupt | None = None
        self._batches = 0
        self._postponed = False

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over: from here on Lightning has registered its own handlers."""
        self._listen(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the signals over where there is no sanity check."""
        self._listen(trainer)

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
        validates = trainer.is_last_batch or (batch_idx + 1) % every == 0
        self._postponed = validates or not step_is_whole(trainer, batch_idx)
        if not self._postponed:
            self._stop_if_asked(trainer)
        elif validates and isinstance(self.requested, KeyboardInterrupt):
            log.info("stopping behind the validation; Ctrl-C again ends at once")

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if any process was asked to at the end of the epoch before, which is saved by now."""
        if self._postponed:
            self._postponed = False
            self._stop_if_asked(trainer)

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        if trainer.world_size > 1:
            asked = trainer.strategy.reduce_boolean_decision(self.requested is not None, all=False)
            self.requested = SystemExit(self.STATUS) if asked else None
        if self.requested is not None:
            raise self.requested

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave Ctrl-C to Python: no step follows that could be waited for."""
        if isinstance(signal.getsignal(signal.SIGINT), partial):
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _listen(self, trainer: pl.Trainer) -> None:
        # Lightning puts the handlers back that it found when the run ends
        if threading.current_thread() is not threading.main_thread():
            return
        signal.signal(signal.SIGTERM, self._on_termination)
        if trainer.world_size == 1 and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, partial(self._on_interrupt, trainer))

    def _on_termination(self, signum: int, frame: object) -> None:
        self.requested = SystemExit(self.STATUS)

    def _on_interrupt(self, trainer: pl.Trainer, signum: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not trainer.training:
            raise KeyboardInterrupt
        self.requested = KeyboardInterrupt()


class SecondInterrupt(Callback):
    """Lets a second Ctrl-C end the process at once, where Lightning is deaf to it until all is written.

    To be the first of the callbacks, since each of them may write for seconds what the first Ctrl-C has stopped.
    """

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Listen again; Lightning puts the handler back that it found when the run ends."""
        if isinstance(exception, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # files are written aside: a kill leaves the old ones whole
            log.info("stopping; Ctrl-C again ends at once")


class LastCheckpoint(Checkpoint):
    """Keeps one checkpoint to go on from: after every epoch and validation, every so many steps, and where a run stops.

    The file is written aside and then replaces the one before, so a kill at any moment leaves one that is whole. At an
    epoch's end it is written after the validation. A run that `max_steps` or `max_time` ends inside an epoch goes on
    with the rest of that epoch; Lightning, which lets it end there, would go on with the next one.

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
        self.saved_step = -1
        self._stop = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Let a run with `max_steps` go on as one without.

        With it, Lightning 2.6 takes an epoch that is over for one that is under way, and leaves out the next
        (Lightning's issue 19617).
        """
        trainer.fit_loop._iteration_based_training = lambda: False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save inside the epoch where that is asked for, or where it ends there."""
        if not step_is_whole(trainer, batch_idx):
            self._stop |= trainer.should_stop  # for the end of the step
            trainer.should_stop = False
            return
        trainer.should_stop, self._stop = trainer.should_stop or self._stop, False
        step = trainer.global_step
        due = self.every_n_steps and step % self.every_n_steps == 0
        stops = trainer.should_stop and trainer.fit_loop._can_stop_early  # it may be held to go on
        ends = (stops or step == trainer.max_steps) and not trainer.is_last_batch
        if (due or ends) and step != self.saved_step:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save inside the epoch, now that it is known which checkpoint is the best."""
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save the end of the epoch, its validation included."""
        if trainer.is_last_batch or trainer.global_step != self.saved_step:
            self._save(trainer)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save what a run that is stopped on purpose has reached; saving needs all processes, so Ctrl-C alone does not.

        An error is not saved: the state it left may be half of a step.
        """
        alone = isinstance(exception, KeyboardInterrupt) and trainer.world_size == 1
        agreed = alone or isinstance(exception, SystemExit)
        reached = trainer.global_step > 0 and trainer.global_step != self.saved_step
        if agreed and trainer.state.fn == TrainerFn.FITTING and reached:
            self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        aside = self.path.with_name(f".{self.path.name}.aside")
        trainer.save_checkpoint(aside, weights_only=False)  # on all processes, with a barrier behind it
        if trainer.is_global_zero:
            os.replace(aside, self.path)
        self.saved_step = trainer.global_step


# of the scores that decide by default
SHORT = {"val/accuracy": "acc", "val/average_precision_macro": "mAP", "val/r2_mean": "R²"}


class Progress(TQDMProgressBar):
    """The progress bar, with the epoch's mean training loss so far and the loss and score of the last validation.

    Drawn at most twice a second, and only then is the loss read, since reading it waits for the device. Where nobody
    looks on, as in a log, it is drawn every half minute, each epoch keeps its line, and validations have none.

    Args:
        score: name of the metric of the validation that is shown beside its loss, such as "val/accuracy".
    """

    # what matters comes first: a narrow terminal cuts off the end
    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt}{postfix} [{elapsed}<{remaining}, {rate_noinv_fmt}]"

    def __init__(self, score: str | None = None) -> None:
        self._watched = sys.stdout.isatty()
        super().__init__(leave=not self._watched)
        self.score = score
        self.seconds = 0.5 if self._watched else 30.0
        self._drawn = -math.inf
        self._validation: dict[str, float] = {}

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """What stands behind the bar."""
        loss = pl_module.running_loss() if isinstance(pl_module, Classifier) else None
        return ({} if loss is None else {"loss": loss}) | self._validation

    def on_train_start(self, *_: Any) -> None:
        """Begin the bar, but in a log, where each epoch begins its own."""
        self.train_progress_bar = self.init_train_tqdm() if self._watched else Tqdm(disable=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw once, where Lightning draws the bar and then again what stands behind it."""
        bar = self.train_progress_bar
        if self._should_update(batch_idx + 1, bar.total):
            bar.n = batch_idx + 1
            bar.set_postfix(self.get_metrics(trainer, pl_module))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up the loss and the score."""
        found = trainer.callback_metrics  # on every rank, since reading a metric may gather it
        shown = {"val/loss": "val_loss"}
        if self.score is not None:
            shown[self.score] = "val_" + SHORT.get(self.score, self.score.rpartition("/")[2])
        self._validation = {short: float(found[name]) for name, short in shown.items() if name in found}
        super().on_validation_end(trainer, pl_module)

    def init_validation_tqdm(self) -> Tqdm:
        """A bar of its own under that of training, but for a log, where it would be escape codes."""
        if self.trainer.state.fn == TrainerFn.FITTING and not self._watched:
            return Tqdm(disable=True)
        return super().init_validation_tqdm()

    def _should_update(self, current: int, total: int) -> bool:
        """Is a bar to be drawn? Lightning asks after each batch of whatever kind."""
        now = time.monotonic()
        due = super()._should_update(current, total) and (current == total or now - self._drawn >= self.seconds)
        if due:
            self._drawn = now
        return due

"""Front-end, head, task, optimizer: one LightningModule, with no data set's name in it.

The waveform arrives as int16 PCM and is turned into a spectrogram on the device, inside `forward`, so that every
number of the front-end is a hyper-parameter of the checkpoint or a parameter of the model. Training minimises the loss
of crops; validation and test score whole clips from all their windows (`audiocls.metrics.ClipScores`).
"""

from __future__ import annotations

import logging
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import metadata
from typing import Any, Literal, Protocol, cast

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

import audiocls
from audiocls.augment import Augmentation
from audiocls.complexity import least_seconds, multiply_adds_per_second, n_trained, with_prefix
from audiocls.distillation import Distillation
from audiocls.frontends.base import Frontend
from audiocls.functional import pcm_to_float
from audiocls.heads.base import Head
from audiocls.losses import Loss, default_loss, predictions
from audiocls.metrics import ClipScores, Evaluation, Mean, Task, evaluate
from audiocls.misfits import check_weights, class_difference
from audiocls.optimization import HEAD, build_optimizer, held_parameters, per_level
from audiocls.schedules import WarmupCosine
from audiocls.thresholds import best_thresholds

log = logging.getLogger(__name__)


class Batch(Protocol):
    """What a step needs of a batch; `datamodules.base.Batch` is one."""

    @property
    def waveform(self) -> Tensor:
        """(batch, channels, time), int16 PCM or float in [-1, 1)."""
        ...

    @property
    def target(self) -> Tensor:
        """(batch,) class indices, or (batch, num_classes) in {0, 1}."""
        ...

    @property
    def clip(self) -> Tensor:
        """(batch,) index of the clip each window belongs to."""
        ...


class Classifier(pl.LightningModule):
    """An audio classifier from PCM to logits.

    Args:
        frontend: waveform (batch, channels, time) to spectrogram (batch, channels, freq, frames).
        head: class of the network behind it; called as `head(n_bins, num_classes)`.
        num_classes: number of classes; the command line takes it from the data.
        task: "multiclass" (one label a clip), "multilabel" (any number) or "regression" (numbers); the command line
            takes it from the data.
        class_names: one name a class, in the order of the logits; the command line takes them from the data.
        clip_seconds: length of the windows that the model is trained on, in seconds, None for whole clips; kept for
            prediction.
        hop_seconds: from one window of a clip to the next where clips are scored, in seconds; whole clips are padded to
            a multiple of it; kept for prediction.
        padding: what stands behind clips shorter than a window, "zero" or "repeat"; kept for prediction.
        loss: what training minimises, one of `audiocls.losses`; left out, the plain one of the task.
        optimizer: called with the parameters, in the groups of `audiocls.optimization`; AdamW at 1e-3 where none is
            given.
        lr_scheduler: called with the optimizer; `WarmupCosine` over the whole run where none is given.
        frontend_lr: learning rate of the front-end as a multiple of the head's: one number, or one a level that it
            learns, such as {compression: 10.0, filterbank: 0.1}; levels that are not named have the head's.
        frontend_freeze_steps: optimizer steps at the beginning in which the front-end stands still: one number, or
            one a level.
        augment: what changes the crops in training, in this order, first all that acts on waveforms and behind the
            front-end what acts on spectrograms; of `audiocls.augment`.
        distill: trained models that training learns from beside the labels.
    Raises:
        ValueError: if `class_names` has not `num_classes` entries, or a level is named that the front-end does not
            learn, or the head is not built for the channels that the front-end makes, or the loss not for the task.

    The checkpoint is the whole recipe: built by the command line, `Classifier.load_from_checkpoint(path)` needs no
    YAML and no pickle.
    """

    def __init__(
        self,
        frontend: Frontend,
        head: Callable[[int, int], Head],
        *,
        num_classes: int,
        task: Task = "multiclass",
        class_names: list[str] | None = None,
        clip_seconds: float | None = None,
        hop_seconds: float | None = None,
        padding: Literal["zero", "repeat"] = "zero",
        loss: Loss | None = None,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2),
        lr_scheduler: LRSchedulerCallable = WarmupCosine,
        frontend_lr: float | dict[str, float] = 1.0,
        frontend_freeze_steps: int | dict[str, int] = 0,
        augment: list[Augmentation] | None = None,
        distill: Distillation | None = None,
    ) -> None:
        super().__init__()
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(f"class_names must hold num_classes={num_classes} names, got {len(class_names)}")
        self.save_hyperparameters(logger=False)
        self.frontend = frontend
        self.head = head(frontend.n_bins, num_classes)
        if self.head.n_channels % frontend.n_maps:
            raise ValueError(
                f"{type(frontend).__name__} makes {frontend.n_maps} maps of each channel of audio, but the head was "
                f"built for n_channels={self.head.n_channels}: set model.head.init_args.n_channels to "
                f"{frontend.n_maps} times the channels of the audio"
            )
        self.task: Task = task
        self.loss = loss or default_loss(task)
        self.loss.check(num_classes, task=task)
        self.class_names = list(class_names) if class_names else [str(i) for i in range(num_classes)]
        self.clip_seconds, self.hop_seconds = clip_seconds, hop_seconds or clip_seconds or 1.0
        self.padding: Literal["zero", "repeat"] = padding
        self.make_optimizer = optimizer
        self.make_lr_scheduler = lr_scheduler
        self.frontend_lr = per_level("frontend_lr", frontend_lr, frontend, default=1.0)
        self.freeze_steps = per_level("frontend_freeze_steps", frontend_freeze_steps, frontend, default=0)
        self.augment = cast("Sequence[Augmentation]", nn.ModuleList(augment or []))
        self.distill = distill
        self.train_loss = Mean()
        self.evaluation_loss = Mean()
        self.clip_scores = ClipScores(num_classes)
        self.evaluation: Evaluation | None = None
        # of the last validation in training; no buffer, since averaged weights would average it
        self.thresholds: Tensor | None = None
        # of regression: the training targets' mean and deviation, which are 0 and 1 to the head; no buffers, since half
        # precision would round them
        self.origin, self.unit = torch.zeros(num_classes), torch.ones(num_classes)
        self._given_recipe: Mapping[str, Any] = {}

    @property
    def sample_rate(self) -> int:
        """Of the waveforms that `forward` takes, in Hz."""
        return self.frontend.sample_rate

    @property
    def n_channels(self) -> int:
        """Of the waveforms that `forward` takes."""
        return self.head.n_channels // self.frontend.n_maps

    def forward(self, waveform: Tensor) -> Tensor:
        """Logits (batch, num_classes) of waveforms (batch, channels, time), int16 PCM or float in [-1, 1).

        For regression they are the numbers themselves, in the unit of the targets.
        """
        return self._classified(self.frontend(waveform))

    def _classified(self, spectrogram: Tensor) -> Tensor:
        # float32 until here, also where the rest of the model is half as precise
        logits = self.head(spectrogram.to(self.head.output.weight.dtype))
        if self.task != "regression":
            return logits
        return self.origin.to(logits.device) + self.unit.to(logits.device) * logits.float()

    def _loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Of regression in deviations of the training targets: the same whatever their unit, and each counts alike."""
        if self.task == "regression":
            origin, unit = self.origin.to(logits.device), self.unit.to(logits.device)
            logits, target = (logits - origin) / unit, (target - origin) / unit
        return self.loss(logits, target)

    @torch.no_grad()
    def predict_windows(self, waveform: Tensor) -> Tensor:
        """Predictions (batch, num_classes) of waveforms (batch, channels, time), whatever mode the model is in."""
        training = self.training
        self.eval()
        try:
            return predictions(self(waveform.to(self.device)), task=self.task)
        finally:
            self.train(training)

    # --- training ---

    def setup(self, stage: str) -> None:
        """Where there is training to come: tell augmentation what the data is, set out the units, load the teachers."""
        if (precision := getattr(self._trainer, "precision_plugin", None)) is not None:
            precision.convert_input = lambda data: data  # it would round samples and targets as it does the weights
        if stage == "fit":
            self._settle_unit()
            for part in self.augment:
                part.prepare(sample_rate=self.sample_rate, task=self.task)
            if self.distill is not None:
                load = partial(Classifier.load_from_checkpoint, map_location="cpu", weights_only=True)
                self.distill.prepare(self, load)

    def _settle_unit(self) -> None:
        """Take the unit of a model that is new from the training clips; a run that goes on has its own."""
        new = self.task == "regression" and not self.origin.any()
        if new and (datamodule := getattr(self._trainer, "datamodule", None)) is not None:
            target = datamodule.clips("train").targets.double()
            unit = target.std(0, correction=0)
            self.origin, self.unit = target.mean(0).float(), torch.where(unit > 0, unit, 1.0).float()

    def on_fit_start(self) -> None:
        """Say what is trained and what it computes, and keep both with the run's configuration."""
        parts = {"front-end": self.frontend, "head": self.head}
        said = [f"{name} {type(part).__name__} ({n_trained(part):,} parameters)" for name, part in parts.items()]
        seconds = self.clip_seconds or 10.0  # ten stand for whole clips, whose lengths are not known here
        multiply_adds = multiply_adds_per_second(self.frontend, self.head, seconds=seconds)
        if multiply_adds is not None:
            said.append(f"{with_prefix(multiply_adds)} multiply-adds a second of audio")
        log.info("%s, %d classes", ", ".join(said), len(self.class_names))
        if multiply_adds is not None:  # it runs on shapes alone
            self._warn_of_short_windows()
        size = {
            "n_parameters_frontend": n_trained(self.frontend),
            "n_parameters_head": n_trained(self.head),
            "multiply_adds_per_second": multiply_adds,
        }
        for logger in self.loggers:
            logger.log_hyperparams(size)

    def _warn_of_short_windows(self) -> None:
        """Say the least length that the head is made for, where the windows have less than half of it."""
        if self.clip_seconds is None:
            return
        least = least_seconds(self.frontend, self.head, seconds=self.clip_seconds)
        if least > 2 * self.clip_seconds:
            log.warning(
                "%s as it is set is made for %g s of audio or more, and windows of %g s are less than half of it: what "
                "is missing is padded, or its pools take fewer frames; lengthen data.clip_seconds, or give the head "
                "smaller pools", type(self.head).__name__, math.ceil(100 * least) / 100, self.clip_seconds,
            )  # fmt: skip

    def on_train_epoch_start(self) -> None:
        """Begin the means of the losses anew; an epoch that a checkpoint has cut in two begins once."""
        for mean in self._means().values():
            mean.reset()

    def _means(self) -> dict[str, Mean]:
        return {name: part for name, part in self.named_modules() if isinstance(part, Mean)}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch of crops."""
        if len(self.augment):
            logits, target, heard = self._augmented(batch)
        else:
            logits, target, heard = self(batch.waveform), batch.target, batch.waveform
        value = self._loss(logits, target)
        if self.distill is not None:
            value = self.distill(value, logits, heard, unit=self.unit)
        self.train_loss.update(value.detach(), self.loss.batch_weight(target))
        # self.log costs 0.4 ms a name, so it is called only for the steps that a logger would write
        if (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0:  # pyright: ignore[reportAttributeAccessIssue]
            self.log("train/loss_step", value.detach())
        return value

    def _augmented(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and targets of a batch of crops that are changed on their way, and the waveforms that were heard."""
        x, target = pcm_to_float(batch.waveform), batch.target
        if self.task == "multiclass" and any(part.mixes for part in self.augment):
            target = F.one_hot(target, len(self.class_names)).float()
        for part in self.augment:
            if part.stage == "waveform":
                x, target = part(x, target)
        heard = x
        x = self.frontend(x)
        for part in self.augment:
            if part.stage == "spectrogram":
                x, target = part(x, target)
        return self._classified(x), target, heard

    def running_loss(self) -> float | None:
        """Mean training loss of the epoch so far on this process, None before its first batch; waits for the device."""
        so_far = self.train_loss  # whose `compute` would wait for all processes
        return float(so_far.total / so_far.weight) if so_far.weight else None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Hold the levels of the front-end that stand still at first.

        Without a gradient a parameter is left out of the step, whatever the optimizer, its moments and the schedule;
        nothing has to be kept for a run that is resumed, and processes have already shared the gradients they wait for.
        """
        for parameter in held_parameters(self.frontend, self.freeze_steps, self.trainer.global_step):
            parameter.grad = None

    def on_train_epoch_end(self) -> None:
        """Log the epoch's mean loss and the learning rates: the head's, and that of each level of the front-end."""
        self.log("train/loss", self.train_loss.compute())
        for term, value in (self.distill.terms() if self.distill is not None else {}).items():
            self.log(f"train/loss_{term}", value)
        rates = {group["name"]: group["lr"] for group in self.trainer.optimizers[0].param_groups}
        self.log("lr", rates[HEAD])
        for level, steps in self.freeze_steps.items():
            self.log(f"lr/{level}", 0.0 if self.trainer.global_step < steps else rates[level])
        for schedule in self.trainer.lr_scheduler_configs:
            due = self.trainer.is_last_batch and (self.current_epoch + 1) % schedule.frequency == 0
            monitored = self.trainer.callback_metrics.get(schedule.monitor or "")
            if isinstance(schedule.scheduler, ReduceLROnPlateau) and due and monitored is not None:
                schedule.scheduler.step(monitored)

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Leave a plateau alone, whose step is taken in `on_train_epoch_end`.

        Lightning takes it when the checkpoint of the epoch is written, and in the first epoch of a run that goes on not
        at all.
        """
        if metric is None:
            super().lr_scheduler_step(scheduler, metric)

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimizer and its schedule; a schedule that asks for the length of the run is told."""
        optimizer = build_optimizer(self.make_optimizer, self, self.frontend, frontend_lr=self.frontend_lr)
        scheduler = self.make_lr_scheduler(optimizer)
        if isinstance(scheduler, WarmupCosine) and scheduler.total_steps is None:
            scheduler.set_total_steps(self._total_steps())
        if isinstance(scheduler, ReduceLROnPlateau):
            if self.trainer.limit_val_batches == 0:
                raise ValueError(
                    "ReduceLROnPlateau waits for validations, and nothing is validated here: take another "
                    "model.lr_scheduler, such as audiocls.schedules.WarmupCosine"
                )
            every, monitor = self.trainer.check_val_every_n_epoch or 1, getattr(scheduler, "monitor", "val/loss")
            monitored = {"scheduler": scheduler, "interval": "epoch", "frequency": every, "monitor": monitor}
        else:
            interval = "step" if isinstance(scheduler, WarmupCosine) else "epoch"
            monitored = {"scheduler": scheduler, "interval": interval}
        return {"optimizer": optimizer, "lr_scheduler": monitored}

    def _total_steps(self) -> int:
        """Optimizer steps of the whole run.

        Counted from the data module: `Trainer.estimated_stepping_batches` would build the loaders now, and a loader
        built before the checkpoint is restored loses its place in the epoch (Lightning 2.6.6).
        """
        trainer = self.trainer
        most = trainer.max_steps if trainer.max_steps > 0 else None
        datamodule = getattr(trainer, "datamodule", None)
        if datamodule is None or not trainer.max_epochs or trainer.max_epochs < 0:
            if most is not None:
                return most
            raise ValueError(
                "WarmupCosine needs the length of the run: set trainer.max_epochs or trainer.max_steps and fit with a "
                "data module, or give it total_steps"
            )
        batches = datamodule.batches_per_epoch(world_size=trainer.world_size)
        limit = trainer.limit_train_batches
        batches = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
        steps = trainer.max_epochs * -(-batches // trainer.accumulate_grad_batches)
        return steps if most is None else min(steps, most)

    # --- validation and test ---

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch of windows to the clips' scores."""
        self._score(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch of windows to the clips' scores."""
        self._score(batch)

    def _score(self, batch: Batch) -> None:
        logits = self(batch.waveform)
        self.evaluation_loss.update(self._loss(logits, batch.target), self.loss.batch_weight(batch.target))
        self.clip_scores.update(batch.clip, predictions(logits, task=self.task), batch.target)

    def on_validation_epoch_end(self) -> None:
        """Compute and log the scores of all clips."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Compute and log the scores of all clips."""
        self._finish("test")

    def _finish(self, prefix: str) -> None:
        clip, prediction, target = self.clip_scores.compute()  # the same on every process
        # torchmetrics takes the axes off a tensor of one element, as there are of one clip alone
        clip, prediction = clip.reshape(-1), prediction.reshape(-1, len(self.class_names))
        target = target.reshape(len(clip) if self.task == "multiclass" else prediction.shape)
        if self.task == "multilabel":
            self._settle_thresholds(prediction.cpu(), target.cpu())
        self.evaluation = evaluate(
            clip, prediction, target, class_names=self.class_names, task=self.task, thresholds=self.thresholds
        )
        self.log(f"{prefix}/loss", self.evaluation_loss.compute())
        for name, value in self.evaluation.scalars.items():
            self.log(f"{prefix}/{name}", value)
        self.clip_scores.reset()
        self.evaluation_loss.reset()

    def _settle_thresholds(self, prediction: Tensor, target: Tensor) -> None:
        """Choose them where a validation is part of training, before the checkpoints of the epoch are written."""
        training = self.trainer.state.fn == TrainerFn.FITTING
        if training and not self.trainer.sanity_checking:
            without = int((target.sum(0) == 0).sum())
            if self.thresholds is None and without:
                log.info("%d of %d tags have no clip in validation and are decided at 0.5", without, target.shape[1])
            self.thresholds = best_thresholds(prediction, target)
        elif not training and self.thresholds is None:
            log.info("the model holds no thresholds chosen in training: every tag is decided at 0.5")

    # --- checkpoint ---

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the recipe does not say: names, rate and versions, readable without building the model."""
        checkpoint["audiocls"] = {
            "class_names": self.class_names,
            "sample_rate": self.sample_rate,
            "task": self.task,
            "clip_seconds": self.clip_seconds,
            "thresholds": None if self.thresholds is None else self.thresholds.tolist(),
            "origin": self.origin.tolist(),
            "unit": self.unit.tolist(),
            "means": {name: mean.sums() for name, mean in self._means().items()},
            "versions": {
                "audiocls": audiocls.__version__,
                "torch": str(torch.__version__),
                "pytorch-lightning": metadata.version("pytorch-lightning"),
                "python": platform.python_version(),
            },
        }
        if self.distill is not None:
            checkpoint["audiocls"]["teachers"] = self.distill.record

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; where they are of another model, the settings that differ are named, not the keys."""
        if strict:
            check_weights(self.state_dict(), state_dict, recipe=self.hparams, given_recipe=self._given_recipe)
            prefix = "frontend."
            self.frontend.check_state(name[len(prefix) :] for name in state_dict if name.startswith(prefix))
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Refuse weights of other classes or another sample rate than the data's, and keep what their recipe was."""
        self._given_recipe = checkpoint.get("hyper_parameters", {})
        kept = checkpoint.get("audiocls", {})
        if kept.get("sample_rate", self.sample_rate) != self.sample_rate:
            raise ValueError(
                f"the checkpoint was trained at {kept['sample_rate']} Hz but the data is at {self.sample_rate} Hz: "
                f"decode again with --sample-rate {kept['sample_rate']} into another folder"
            )
        names = kept.get("class_names", self.class_names)
        if list(names) != self.class_names:
            raise ValueError(
                "the checkpoint was trained on other classes than the data has: "
                f"{class_difference(names, self.class_names)}; use the data it was trained on, or train anew by "
                "audiocls fit without --ckpt_path"
            )
        if self.distill is not None:
            self.distill.check_record(kept.get("teachers", []))
        thresholds = kept.get("thresholds")  # none in checkpoints of before, and before the first validation
        self.thresholds = None if thresholds is None else torch.tensor(thresholds, dtype=torch.float64)
        self.origin = torch.tensor(kept.get("origin", [0.0] * len(names)))
        self.unit = torch.tensor(kept.get("unit", [1.0] * len(names)))
        means = self._means()
        for name, sums in kept.get("means", {}).items():
            if name in means and self.global_rank == 0:  # they are of all processes
                means[name].go_on_from(*sums)

"""Learning from trained models: their answers to the same audio are targets beside the labels.

A teacher is a checkpoint of any front-end, head and sample rate. It hears what the student hears: the crops after all
that augmentation does to waveforms, mixtures among it, on the same device and in the same precision. What augmentation
does to spectrograms is the student's alone, since teachers make spectrograms of their own: a student whose bands and
frames are masked learns what the teacher hears without a mask. Clips that are mixed behind the student's front-end are
refused, for the teacher would answer for others.

A teacher gives away what it was trained on: where that holds clips of the student's test, the student's scores are no
scores of a test. This is not looked for; take a teacher of the same split, and in a cross-validation one for each fold.

A teacher learns nothing, and no checkpoint of the student holds it. Left out are answers kept from before training
(they would be those to other crops) and teachers of intermediate layers.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocls.augment import Augmentation
from audiocls.functional import pcm_to_float
from audiocls.metrics import Mean, Task
from audiocls.misfits import class_difference
from audiocls.runs import CHECKPOINTS, read_checkpoint

log = logging.getLogger(__name__)


class Model(Protocol):
    """What distillation needs of a classifier; `audiocls.classifier.Classifier` is one."""

    class_names: list[str]
    task: Task
    augment: Sequence[Augmentation]

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, in Hz."""
        ...

    @property
    def n_channels(self) -> int:
        """Of the waveforms."""
        ...

    def __call__(self, waveform: Tensor) -> Tensor:
        """Logits of waveforms."""
        ...

    def eval(self) -> Any:
        """Stop dropout and the like."""
        ...

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Learn or not."""
        ...

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any: ...


class Distillation(nn.Module):
    """The loss of a student: `(1 - weight)` of the task's and `weight` of that against its teachers.

    Validation and test have the task's loss alone.

    Args:
        teacher: checkpoint to learn from, or the folder of a run, whose best it is; several are averaged. Its classes
            must be those of the data, in any order.
        weight: of the teachers in the loss, above 0 and at most 1, where labels count nothing.
        temperature: that logits of both sides are divided by, above 0: above 1 the classes that are not heard count
            more. Not used where the task is regression.
    Raises:
        ValueError: for settings out of range; files are opened when training begins, so that the student's checkpoint
            needs none of them.
    Source: Hinton et al. 2015, arXiv:1503.02531; the same view for both sides: Beyer et al. 2022, arXiv:2106.05237.
    """

    def __init__(self, teacher: list[str] | str, *, weight: float = 0.9, temperature: float = 2.0) -> None:
        super().__init__()
        self.paths = [teacher] if isinstance(teacher, str) else list(teacher)
        if not self.paths:
            raise ValueError("teacher must name a checkpoint or more, got none: leave model.distill out to learn alone")
        if not 0 < weight <= 1:
            raise ValueError(
                f"weight must be above 0 and at most 1, got {weight}: leave model.distill out to learn alone"
            )
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, got {temperature}")
        self.weight, self.temperature = weight, temperature
        self.record: list[dict[str, str]] = []
        self.task_loss = Mean()
        self.distill_loss = Mean()
        self._task: Task = "multiclass"
        self._sample_rate = 0
        # in lists, which torch does not look into: no parameter, no weight of the student's, no training mode
        self._teachers: list[Model] = []
        self._orders: list[list[int]] = []

    def prepare(self, student: Model, load: Callable[[Path], Model]) -> None:
        """Load the teachers, before training.

        Args:
            student: what they teach.
            load: from a checkpoint, whose content has been looked at, to its model.
        Raises:
            ValueError: if one is not there, cannot be read or does not fit, or mixtures of spectrograms are asked for.
        """
        for part in student.augment:
            if part.mixes and part.stage == "spectrogram":
                raise ValueError(
                    f"{type(part).__name__} mixes spectrograms, of which a teacher hears nothing: set its stage to "
                    "waveform, or leave it or model.distill out"
                )
        self._task, self._sample_rate = student.task, student.sample_rate
        self._teachers, self._orders, self.record = [], [], []
        for path in map(_checkpoint, self.paths):
            read_checkpoint(path)
            with torch.random.fork_rng(devices=[]):  # what it would have been initialised with is no draw of the run's
                teacher = load(path)
            self._orders.append(_fitted(teacher, student, path))
            teacher.eval()
            teacher.requires_grad_(False)
            self._teachers.append(teacher)
            self.record.append({"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
        said = f"weight {self.weight:g}, temperature {self.temperature:g}"
        log.info("taught by %s: %s", ", ".join(kept["path"] for kept in self.record), said)

    def check_record(self, record: Sequence[dict[str, str]]) -> None:
        """Say so where a run goes on with other teachers than it had; without teachers loaded, nothing is to say."""
        now, then = ([kept["sha256"] for kept in kept_by] for kept_by in (self.record, record))
        if self.record and now != then:
            before = ", ".join(kept["path"] for kept in record) or "none"
            log.warning(
                "model.distill.teacher %s is not what the checkpoint was taught by (%s, perhaps trained on since): the "
                "run goes on with other targets", ", ".join(kept["path"] for kept in self.record), before,
            )  # fmt: skip

    def forward(self, task_loss: Tensor, logits: Tensor, waveform: Tensor, *, unit: Tensor | None = None) -> Tensor:
        """What training minimises.

        Args:
            task_loss: the mean of the batch.
            logits: the student's, shape (batch, num_classes).
            waveform: what the student was given, shape (batch, channels, time), int16 PCM or float in [-1, 1).
            unit: of a regression's numbers, shape (num_classes,), in which their errors are measured; by default 1.
        """
        soft_target = self.soft_targets(waveform)
        if self._task == "regression" and unit is not None:
            logits, soft_target = (numbers / unit.to(numbers.device) for numbers in (logits, soft_target))
        value = distillation_loss(logits, soft_target, task=self._task, temperature=self.temperature)
        self.task_loss.update(task_loss.detach(), len(logits))
        self.distill_loss.update(value.detach(), len(logits))
        return (1 - self.weight) * task_loss + self.weight * value

    @torch.no_grad()
    def soft_targets(self, waveform: Tensor) -> Tensor:
        """The mean of the teachers' answers: probabilities at the temperature, or numbers; in the student's order.

        Returns:
            Shape (batch, num_classes), float32.
        """
        answers = []
        for teacher, order in zip(self._teachers, self._orders, strict=True):
            logits = teacher(resampled(waveform, self._sample_rate, teacher.sample_rate))[:, order]
            answers.append(softened(logits, task=self._task, temperature=self.temperature))
        return torch.stack(answers).mean(0)

    def terms(self) -> dict[str, Tensor]:
        """The epoch's means of the two terms of the loss, without their weights, by name."""
        return {"task": self.task_loss.compute(), "distill": self.distill_loss.compute()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distillation:
        """What `.to()`, `.half()`, `.cuda()` go through: the teachers follow the student."""
        for teacher in self._teachers:
            teacher._apply(fn, recurse)
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and pickled: all but the teachers."""
        return {**self.__dict__, "_teachers": [], "_orders": []}

    def extra_repr(self) -> str:
        """The settings, for `print(classifier)`."""
        return f"teacher={self.paths}, weight={self.weight}, temperature={self.temperature}"


def softened(logits: Tensor, *, task: Task, temperature: float) -> Tensor:
    """Probabilities of logits that are divided by a temperature, or the numbers of a regression; float32.

    >>> softened(torch.tensor([[2.0, 0.0]]), task="multiclass", temperature=1e6)
    tensor([[0.5000, 0.5000]])
    """
    if task == "regression":
        return logits.float()
    logits = logits.float() / temperature
    return logits.softmax(-1) if task == "multiclass" else logits.sigmoid()


def distillation_loss(logits: Tensor, soft_target: Tensor, *, task: Task, temperature: float) -> Tensor:
    """How far a student is from what its teachers answered, the mean over the batch, float32.

    Args:
        logits: the student's, shape (batch, num_classes).
        soft_target: probabilities at the temperature, or numbers, shape (batch, num_classes).
        task: "multiclass": the Kullback-Leibler divergence of the student's distribution from the teachers', in nats;
            "multilabel": that of each class by itself, as heard or not, and the mean over the classes; both times the
            squared temperature, so that gradients are as large at any; "regression": the mean squared error.
        temperature: that the student's logits are divided by.
    Source: Hinton et al. 2015, arXiv:1503.02531, section 2: the gradient of the cross entropy with soft targets is
        that of the divergence, which is zero where the student agrees.

    >>> distillation_loss(torch.zeros(2, 4), torch.full((2, 4), 0.25), task="multiclass", temperature=2.0).item()
    0.0
    """
    logits, soft_target = logits.float(), soft_target.float()
    if task == "regression":
        return F.mse_loss(logits, soft_target)
    logits = logits / temperature
    if task == "multiclass":
        divergence = F.kl_div(logits.log_softmax(-1), soft_target, reduction="batchmean")
    else:
        entropy = -(torch.xlogy(soft_target, soft_target) + torch.xlogy(1 - soft_target, 1 - soft_target)).mean()
        divergence = F.binary_cross_entropy_with_logits(logits, soft_target) - entropy
    return divergence * temperature**2


def resampled(waveform: Tensor, sample_rate: int, wanted: int) -> Tensor:
    """Waveforms at another rate, by sinc interpolation on their device; at the same rate as they are.

    Args:
        waveform: shape (batch, channels, time), int16 PCM or float in [-1, 1).
        sample_rate: its own, in Hz.
        wanted: the other, in Hz.
    """
    if sample_rate == wanted:
        return waveform
    from torchaudio.functional import resample  # noqa: PLC0415 - optional at run time, and slow to import

    with torch.autocast(waveform.device.type, enabled=False):  # eight bits of brain float are no waveform
        return resample(pcm_to_float(waveform), sample_rate, wanted)


def _checkpoint(path: str) -> Path:
    """The file of a teacher: a checkpoint, or the best of a run's folder."""
    best = Path(path) / CHECKPOINTS / "best.ckpt"
    found = best if Path(path).is_dir() else Path(path)
    if not found.is_file():
        raise ValueError(
            f"model.distill.teacher {path!r}: there is no {found}; give a checkpoint, or the folder of a run that has "
            "one"
        )
    return found


def _fitted(teacher: Model, student: Model, path: Path) -> list[int]:
    """The teacher's place of each class of the student, where it can teach it at all."""
    if teacher.task != student.task:
        raise ValueError(
            f"the teacher {path} was trained for {teacher.task}, and the data's task is {student.task}: give one that "
            "was trained for the same"
        )
    if set(teacher.class_names) != set(student.class_names):
        difference = class_difference(teacher.class_names, student.class_names, owner="the teacher")
        raise ValueError(
            f"the teacher {path} was trained on other classes than the data has: {difference}; give one that was "
            "trained on the same"
        )
    if teacher.n_channels != student.n_channels:
        raise ValueError(
            f"the teacher {path} was trained on audio of {teacher.n_channels} channels, and the student is built for "
            f"{student.n_channels}: give one that was trained on as many"
        )
    if teacher.sample_rate > student.sample_rate:
        log.warning(
            "the teacher %s was trained at %d Hz and hears nothing above %g Hz here: its answers may be poor",
            path, teacher.sample_rate, student.sample_rate / 2,
        )  # fmt: skip
    return [teacher.class_names.index(name) for name in student.class_names]

"""One evaluation as files: its tables, its figures and the clips it got most wrong.

A snapshot holds the evaluation with the filterbank of the same moment, so that what is written of the best epoch is
of that epoch altogether, however far training has gone on since. Validation's files have plain names in `figures/`
and `misheard/` (for regression `farthest_off/`); those of the test begin with "test_".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from matplotlib.figure import Figure

from audiocls.intervals import Intervals
from audiocls.metrics import Evaluation
from audiocls.report import figures, style, tables

Prefix = Literal["val", "test"]
SPLITS: dict[Prefix, Literal["validation", "test"]] = {"val": "validation", "test": "test"}
# the first of these that an evaluation has is the score drawn for each class
CLASS_SCORES = ("f1", "average_precision", "auroc", "recall", "r2")


@runtime_checkable
class Audible(Protocol):
    """What a data module must say for its clips to be named and heard; `datamodules.base.AudioDataModule` is one."""

    def clip_ids(self, split: Literal["validation", "test"]) -> Sequence[str]:
        """Names of a split's clips, in the order that `Evaluation.clip` counts."""
        ...

    def audio(self, split: Literal["validation", "test"], clip: int) -> np.ndarray:
        """PCM of one clip, int16, shape (samples, channels)."""
        ...

    @property
    def sample_rate(self) -> int:
        """Of the audio, in Hz."""
        ...


@dataclass(frozen=True)
class Snapshot:
    """An evaluation and what belongs to its moment.

    Attributes:
        prefix: "val" or "test".
        epoch: of the model; None where it is not known.
        step: optimizer steps of the model.
        evaluation: scores of all clips.
        filterbanks: "start" and "now", each (n_bins, n_freqs); empty where the front-end has none.
        sample_rate: of the front-end, in Hz; 0 where there is none.
        intervals: of the scores; None where they were not computed.
    """

    prefix: Prefix
    epoch: int | None
    step: int
    evaluation: Evaluation
    filterbanks: dict[str, np.ndarray]
    sample_rate: int
    intervals: Intervals | None = None

    @classmethod
    def take(
        cls,
        pl_module: torch.nn.Module,
        evaluation: Evaluation,
        *,
        prefix: Prefix,
        epoch: int | None,
        step: int,
        intervals: Intervals | None = None,
    ) -> Snapshot:
        """Keep an evaluation together with the filterbank of `pl_module.frontend`, if it has one."""
        frontend = getattr(pl_module, "frontend", None)
        banks = frontend.filterbanks() if frontend is not None and hasattr(frontend, "filterbanks") else {}
        arrays = {name: bank.detach().float().cpu().numpy() for name, bank in banks.items()}
        return cls(prefix, epoch, step, evaluation, arrays, int(getattr(frontend, "sample_rate", 0)), intervals)

    def state(self) -> dict[str, Any]:
        """All but the intervals as tensors, texts and numbers, for a checkpoint; `from_state` takes it back."""
        banks = {name: torch.from_numpy(bank) for name, bank in self.filterbanks.items()}
        known = {"prefix": self.prefix, "epoch": self.epoch, "step": self.step, "sample_rate": self.sample_rate}
        return known | {"evaluation": dict(vars(self.evaluation)), "filterbanks": banks}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Snapshot:
        """The snapshot whose `state` it is."""
        banks = {name: bank.numpy() for name, bank in state["filterbanks"].items()}
        return cls(**(state | {"evaluation": Evaluation(**state["evaluation"]), "filterbanks": banks}))

    @property
    def heading(self) -> str:
        """What the figures say they are of: "validation, epoch 7"."""
        return SPLITS[self.prefix] + ("" if self.epoch is None else f", epoch {self.epoch}")

    def class_score(self, wanted: str | None) -> str:
        """Which column of the classes' scores to draw.

        Args:
            wanted: a column of `per_class`, or None for the first of f1, average_precision, auroc, recall and r2; for
                several labels a clip average_precision, which no threshold changes.
        Raises:
            ValueError: if there is no such column.
        """
        columns = [name for name in self.evaluation.per_class if name not in ("support", "threshold")]
        if wanted is None and self.evaluation.task == "multilabel":
            return "average_precision"
        if wanted is None:
            return next((name for name in CLASS_SCORES if name in columns), columns[0])
        if wanted not in columns:
            raise ValueError(f"class_score must be one of {', '.join(columns)}, got {wanted!r}")
        return wanted

    def write_tables(self, folder: Path, source: object) -> None:
        """Write all tables; a kill on the way leaves no predictions beside the classes of another evaluation."""
        (folder / f"{self.prefix}_predictions.csv").unlink(missing_ok=True)
        self.write_class_tables(folder)
        self.write_predictions(folder, source)

    def write_class_tables(self, folder: Path) -> None:
        """Write PREFIX_classes.csv (for regression PREFIX_numbers.csv), for one label a clip PREFIX_confusion.csv, and
        PREFIX_intervals.csv if known.
        """
        _, several = style.called(self.evaluation.task)
        tables.write_classes(folder / f"{self.prefix}_{several}.csv", self.evaluation, self.intervals)
        path = folder / f"{self.prefix}_intervals.csv"
        if self.intervals is not None:
            tables.write_intervals(path, self.evaluation, self.intervals)
        else:
            path.unlink(missing_ok=True)  # those of an earlier evaluation would be taken for this one's
        if self.evaluation.task == "multiclass":
            tables.write_confusion(folder / f"{self.prefix}_confusion.csv", self.evaluation)

    def write_predictions(self, folder: Path, source: object) -> None:
        """Write PREFIX_predictions.csv; clips are named if `source` is `Audible`, else numbered."""
        clip_ids = source.clip_ids(SPLITS[self.prefix]) if isinstance(source, Audible) else None
        tables.write_predictions(folder / f"{self.prefix}_predictions.csv", self.evaluation, clip_ids)

    def draw(self, folder: Path, *, class_score: str | None = None) -> dict[str, Path]:
        """Write the figures.

        Args:
            folder: of the run; the figures go into its `figures`.
            class_score: column of `per_class` to draw.
        Returns:
            Name to PNG file.
        """
        drawn = self._draw_evaluation(self.class_score(class_score))
        if {"start", "now"} <= self.filterbanks.keys():
            drawn["filterbank"] = figures.filterbank(
                self.filterbanks["start"],
                self.filterbanks["now"],
                sample_rate=self.sample_rate,
                title="Filterbank" + ("" if self.epoch is None else f", epoch {self.epoch}"),
            )
        start = "test_" if self.prefix == "test" else ""
        return {name: style.save(figure, folder / "figures" / f"{start}{name}.png") for name, figure in drawn.items()}

    def _draw_evaluation(self, score: str) -> dict[str, Figure]:
        evaluation = self.evaluation
        if evaluation.task == "regression":
            drawn = figures.scatter(
                evaluation.target.numpy(),
                evaluation.prediction.numpy(),
                evaluation.class_names,
                r2=evaluation.per_class["r2"],
                title=f"Prediction against target, {self.heading}",
            )
            return {"scatter": drawn}
        label = style.score_label(score)
        drawn = {
            "classes": figures.class_scores(
                evaluation.class_names,
                evaluation.per_class[score],
                evaluation.per_class["support"],
                score_name=label,
                title=f"{label[0].upper()}{label[1:]} by class, {self.heading}",
                intervals=None if self.intervals is None else self.intervals.per_class[score],
            )
        }
        if evaluation.task == "multiclass":
            counts = tables.confusion_counts(evaluation)
            drawn["confusion"] = figures.confusion(counts, evaluation.class_names, title=f"Confusion, {self.heading}")
        return drawn

    def write_clips(self, folder: Path, source: object, *, most: int) -> list[Path]:
        """Write the most confidently wrong clips as wav files and remove those of an earlier evaluation.

        Args:
            folder: of the run; the clips go into its `misheard`, for regression its `farthest_off`, or the same with
                "test_" before it.
            source: the data module; nothing is written unless it is `Audible`.
            most: at most so many.
        Returns:
            The files, worst first.
        """
        if not isinstance(source, Audible) or most == 0:
            return []
        split = SPLITS[self.prefix]
        name, said = ("farthest_off", "predicted") if self.evaluation.task == "regression" else ("misheard", "heard")
        target = folder / (f"test_{name}" if self.prefix == "test" else name)
        for old in target.glob(f"[0-9][0-9]*_true-*_{said}-*.wav"):
            old.unlink()
        clip_ids, written = source.clip_ids(split), []
        for rank, clip in enumerate(tables.misheard(self.evaluation, most), start=1):
            path = target / tables.wav_name(rank, clip, clip_ids[clip.clip], said=said)
            written.append(tables.write_wav(path, source.audio(split, clip.clip), sample_rate=source.sample_rate))
        return written

"""What a run writes into its folder: metrics by epoch, tables, figures and misheard clips.

    run_dir/
      metrics.csv                     a row an epoch, the file whole after each
      val_classes.csv val_confusion.csv val_predictions.csv
      figures/curves.png confusion.png classes.png filterbank.png
      misheard/01_true-X_heard-Y_CLIP.wav ...           for regression val_numbers.csv and farthest_off/
      test_*.csv figures/test_*.png test_misheard/      the same of the last test
      test_intervals.csv                                95 % intervals of its scores; val_ of a validation by itself

Tables and figures of the validation are those of the best epoch by what ModelCheckpoint monitors, so that they belong
to the checkpoint that is kept; without a monitor they are those of the last. Checkpoints hold that evaluation, so that
a resumed run reports its best epoch also where it lay before the stop. The same goes to W&B where a WandbLogger is in
use. Scores themselves are computed by the model (`audiocls.metrics`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import WandbLogger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

from audiocls.intervals import LEAST_DRAWS, N_DRAWS, Intervals, bootstrap
from audiocls.metrics import Evaluation
from audiocls.report import figures, panels, style
from audiocls.report.snapshot import SPLITS, Audible, Prefix, Snapshot
from audiocls.report.tables import Cell, MetricsTable

log = logging.getLogger(__name__)


@runtime_checkable
class Grouped(Protocol):
    """What a data module must say for whole groups to be drawn; `datamodules.base.AudioDataModule` does."""

    def groups(self, split: Literal["validation", "test"]) -> Sequence[str | None] | None:
        """What each clip of a split belongs to, in the order that `Evaluation.clip` counts, None for one alone; None
        where the data has no groups."""
        ...


class RunReport(Callback):
    """Writes metrics, tables, figures and misheard clips of a run, and shows them in W&B.

    Reads `pl_module.evaluation`, an `audiocls.metrics.Evaluation`, after each validation and test. Writes on global
    rank zero only, nothing for the sanity check and nothing under `fast_dev_run`. metrics.csv is written after each
    validation, and the tables of the best epoch, its predictions too, as soon as it is found; the rest costs a few
    seconds and is written every `figure_every` epochs, at the end, and when a run is stopped by Ctrl-C or a signal.

    Args:
        run_dir: folder to write into; the trainer's `default_root_dir` where none is given.
        figure_every: epochs between two writings of figures and clips.
        misheard: how many of the most confidently wrong clips are kept as wav files; 0 for none.
        class_score: score of the classes that is drawn, a column of val_classes.csv; "f1" for one label a clip and
            "average_precision" for several where none is given.
        bootstrap_draws: for the intervals of scores of a test, or a validation that is no part of training; 0 for none.
    Raises:
        ValueError: if `figure_every` is below 1, `misheard` below 0, or `bootstrap_draws` too few for an interval.
    """

    def __init__(
        self,
        run_dir: str | Path | None = None,
        *,
        figure_every: int = 10,
        misheard: int = 8,
        class_score: str | None = None,
        bootstrap_draws: int = N_DRAWS,
    ) -> None:
        if figure_every < 1:
            raise ValueError(f"figure_every must be at least 1 epoch, got {figure_every}")
        if misheard < 0:
            raise ValueError(f"misheard must be a number of clips, 0 for none, got {misheard}")
        if bootstrap_draws and bootstrap_draws < LEAST_DRAWS:
            raise ValueError(
                f"bootstrap_draws must be at least {LEAST_DRAWS}, or 0 for no intervals, got {bootstrap_draws}"
            )
        self.run_dir = None if run_dir is None else Path(run_dir)
        self.figure_every = figure_every
        self.misheard = misheard
        self.class_score = class_score
        self.bootstrap_draws = bootstrap_draws
        self.intervals: Intervals | None = None
        self._folder = self.run_dir or Path()
        self._metrics: MetricsTable | None = None
        self._best: Snapshot | None = None
        self._published: Snapshot | None = None
        self._restored: Snapshot | None = None
        self._loaded: tuple[int, int] | None = None

    @property
    def best(self) -> Snapshot | None:
        """Of the best epoch of the training so far, on global rank zero; None where nothing was validated."""
        return self._best

    @property
    def validated(self) -> list[int]:
        """Epochs of the validations of the training so far, one for each validation, on global rank zero."""
        rows = [] if self._metrics is None else self._metrics.rows
        return [int(row["epoch"]) for row in rows if str(row.get("val/loss", ""))]

    def report_paths(self) -> dict[str, Path]:
        """What there is to look at: name to path of the files and folders that exist."""
        names = {"metrics": "metrics.csv", "figures": "figures"}
        names |= {"misheard clips": "misheard", "clips farthest off": "farthest_off"}
        for prefix, split in SPLITS.items():
            names |= {
                f"{split} {what}": f"{prefix}_{what}.csv"
                for what in ("metrics", "intervals", "classes", "numbers", "confusion", "predictions")
            }
        names |= {f"{what} of the test": f"test_{names[what]}" for what in ("misheard clips", "clips farthest off")}
        return {name: self._folder / path for name, path in names.items() if (self._folder / path).exists()}

    # --- hooks ---

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Settle the folder."""
        self._folder = self.run_dir or Path(trainer.default_root_dir)
        self._metrics = self._restored = None

    def state_dict(self) -> dict[str, Any]:
        """The best epoch's evaluation, if there is one."""
        return {} if self._best is None else {"best": self._best.state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember the best epoch until training goes on."""
        self._restored = Snapshot.from_state(state_dict["best"]) if "best" in state_dict else None

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember which epoch a checkpoint is of: a trainer that only validates or tests counts from zero."""
        self._loaded = (int(checkpoint["epoch"]), int(checkpoint["global_step"]))

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take up metrics.csv and the best epoch where the checkpoint left them."""
        self._take_up(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Complete the row of the epoch before: its training metrics are known only now."""
        self._complete_row(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the row of an epoch that had no validation."""
        if self._metrics is not None:
            epoch = str(trainer.current_epoch)
            if not any(str(row["epoch"]) == epoch for row in self._metrics.rows[-1:]):
                self._metrics.put(_moment(trainer) | {"lr": _learning_rate(trainer)})

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row and, where they are due, tables and figures."""
        # on every rank, since reading a metric may gather it
        found = _scalars(trainer.callback_metrics)
        if trainer.sanity_checking or not _writes(trainer):
            return
        if trainer.state.fn != TrainerFn.FITTING or self._metrics is None:
            self._publish_evaluation(trainer, pl_module, found, "val")
            return
        evaluation: Evaluation | None = getattr(pl_module, "evaluation", None)
        row = _row(found, evaluation, "val")
        self._metrics.put(_moment(trainer) | row | {"lr": _learning_rate(trainer)})
        self._metrics.save()
        _log(trainer, {name: value for name, value in row.items() if name not in trainer.logged_metrics})
        if evaluation is not None and _best_row(trainer, self._metrics.rows) == len(self._metrics.rows) - 1:
            self._best = Snapshot.take(
                pl_module, evaluation, prefix="val", epoch=trainer.current_epoch, step=trainer.global_step
            )
            self._best.write_tables(self._folder, getattr(trainer, "datamodule", None))
        if (trainer.current_epoch + 1) % self.figure_every == 0:
            self._publish(trainer, self._best, final=False)

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the row, tables and figures of a test."""
        found = _scalars(trainer.callback_metrics)
        if _writes(trainer):
            self._publish_evaluation(trainer, pl_module, found, "test")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Complete the last row and write what is still due."""
        self._complete_row(trainer)
        if _writes(trainer):
            self._publish(trainer, self._best, final=True)

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what a kill behind the last epoch has left out: a run that has nothing to train starts no training."""
        if self._restored is not None and _writes(trainer):
            self._take_up(trainer)
            self._publish(trainer, self._best, final=True)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Write what is still due of a run that is stopped on purpose; an error leaves what was written before."""
        stopped = isinstance(exception, KeyboardInterrupt | SystemExit)
        if stopped and trainer.state.fn == TrainerFn.FITTING and self._metrics is not None and _writes(trainer):
            try:
                self._publish(trainer, self._best, final=True)
            except Exception:  # the checkpoint that is saved after this matters more
                log.exception("the report of the stopped run could not be written")

    # --- writing ---

    def _take_up(self, trainer: pl.Trainer) -> None:
        """Go on with metrics.csv and the best epoch, whose tables replace those of an epoch that was lost."""
        restored, self._restored = self._restored, None
        self._best = self._published = None
        if not _writes(trainer):
            return
        self._metrics = MetricsTable(self._folder / "metrics.csv")
        if dropped := self._metrics.drop_after(trainer.global_step):
            log.info("metrics.csv: %d rows after step %d are dropped, to be run again", dropped, trainer.global_step)
        # a run that goes on in another folder chooses its best epoch anew, as ModelCheckpoint does
        rows = {(str(row["epoch"]), str(row["step"])) for row in self._metrics.rows}
        if restored is None or (str(restored.epoch), str(restored.step)) not in rows:
            return
        source = getattr(trainer, "datamodule", None)
        if isinstance(source, Audible) and len(source.clip_ids("validation")) <= int(restored.evaluation.clip.max()):
            log.warning(
                "epoch %s is not reported, though the best so far: the validation has lost clips", restored.epoch
            )
            return
        self._best = restored
        self._best.write_tables(self._folder, source)

    def _complete_row(self, trainer: pl.Trainer) -> None:
        found = _scalars(trainer.callback_metrics)
        if self._metrics is None or not self._metrics.rows or trainer.global_step == 0:
            return
        training = {name: value for name, value in found.items() if not name.startswith(("val/", "test/"))}
        self._metrics.rows[-1].update(training)
        self._metrics.save()

    def _publish_evaluation(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, found: Mapping[str, float], prefix: Prefix
    ) -> None:
        """Write all of a validation or a test that stands by itself."""
        checkpoint = Path(trainer.ckpt_path or "").name
        epoch, step = self._loaded if checkpoint and self._loaded else (trainer.current_epoch, trainer.global_step)
        evaluation: Evaluation | None = getattr(pl_module, "evaluation", None)
        row = _row(found, evaluation, prefix)
        table = MetricsTable(self._folder / f"{prefix}_metrics.csv", key=("checkpoint", "epoch", "step"))
        table.put({"checkpoint": checkpoint, "epoch": epoch, "step": step} | row)
        table.save()
        self.intervals = None if evaluation is None else self._drawn(trainer, evaluation, prefix)
        ends = {} if self.intervals is None else _ends(self.intervals, prefix)
        _log(trainer, {name: value for name, value in row.items() if name not in trainer.logged_metrics} | ends)
        if evaluation is not None:
            known = epoch if step else None
            snapshot = Snapshot.take(
                pl_module, evaluation, prefix=prefix, epoch=known, step=step, intervals=self.intervals
            )
            snapshot.write_class_tables(self._folder)
            self._publish(trainer, snapshot, final=True)

    def _drawn(self, trainer: pl.Trainer, evaluation: Evaluation, prefix: Prefix) -> Intervals | None:
        """Intervals of the scores, over whole groups where the data module knows them."""
        if not self.bootstrap_draws:
            return None
        source = getattr(trainer, "datamodule", None)
        known = source.groups(SPLITS[prefix]) if isinstance(source, Grouped) else None
        groups = None if known is None else [known[clip] for clip in evaluation.clip.tolist()]
        try:
            return bootstrap(evaluation, n_draws=self.bootstrap_draws, groups=groups)
        except ValueError as error:  # one clip, or all clips of one group
            log.warning("no intervals: %s", error)
            return None

    def _publish(self, trainer: pl.Trainer, snapshot: Snapshot | None, *, final: bool) -> None:
        """Write the curves, and the snapshot's figures, predictions and clips unless they are written already."""
        prefix = "val" if snapshot is None else snapshot.prefix
        shown, clips = {}, []
        if trainer.state.fn == TrainerFn.FITTING and self._metrics is not None and self._metrics.rows:
            best = _best_row(trainer, self._metrics.rows) if _monitor(trainer) else None
            marked = None if best is None else float(self._metrics.rows[best]["epoch"])
            curves = figures.curves(self._metrics.rows, best=marked)
            shown["curves"] = style.save(curves, self._folder / "figures" / "curves.png")
        fresh = snapshot is not None and (final or snapshot is not self._published)
        if snapshot is not None and fresh:
            source = getattr(trainer, "datamodule", None)
            snapshot.write_predictions(self._folder, source)
            shown |= snapshot.draw(self._folder, class_score=self.class_score)
            clips = snapshot.write_clips(self._folder, source, most=self.misheard)
            self._published = snapshot
        if _wandb_loggers(trainer):
            media = panels.images(shown, prefix=prefix)
            if snapshot is not None and fresh:
                score = snapshot.class_score(self.class_score)
                media |= panels.class_tables(snapshot.evaluation, score=score, prefix=prefix)
            if snapshot is not None and final:
                media |= panels.confusion_chart(snapshot.evaluation, prefix=prefix)
                media |= panels.sounds(clips, prefix=prefix)
            _log(trainer, media)


def _writes(trainer: pl.Trainer) -> bool:
    return trainer.is_global_zero and not trainer.fast_dev_run  # type: ignore[attr-defined]


def _moment(trainer: pl.Trainer) -> dict[str, Cell]:
    return {"epoch": trainer.current_epoch, "step": trainer.global_step}


def _scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are one number."""
    single = {k: v for k, v in metrics.items() if not isinstance(v, Tensor) or v.numel() == 1}
    return {name: float(value) for name, value in single.items()}


def _row(found: Mapping[str, float], evaluation: Evaluation | None, prefix: Prefix) -> dict[str, Cell]:
    """What was logged of a split, and those scores of the evaluation that were not."""
    scores: dict[str, Cell] = (
        {} if evaluation is None else {f"{prefix}/{name}": value for name, value in evaluation.scalars.items()}
    )
    return scores | {name: value for name, value in found.items() if name.startswith(f"{prefix}/")}


def _ends(intervals: Intervals, prefix: Prefix) -> dict[str, float]:
    """Both ends of each interval under the score's name."""
    return {
        f"{prefix}/{name}_{end}": value
        for name, interval in intervals.scalars.items()
        for end, value in zip(("low", "high"), interval, strict=True)
    }


def _learning_rate(trainer: pl.Trainer) -> Cell:
    return trainer.optimizers[0].param_groups[0]["lr"] if trainer.optimizers else ""


def _monitor(trainer: pl.Trainer) -> tuple[str, str] | None:
    """Name and mode of what the checkpoints are chosen by, if it is a validation metric."""
    for callback in trainer.checkpoint_callbacks:
        if isinstance(callback, ModelCheckpoint) and (callback.monitor or "").startswith("val/"):
            return str(callback.monitor), callback.mode
    return None


def _best_row(trainer: pl.Trainer, rows: list[dict[str, Cell]]) -> int:
    """Index of the first best row, of the last row without a monitor or a value of it."""
    monitor = _monitor(trainer)
    if monitor is None:
        return len(rows) - 1
    cells = [row.get(monitor[0], "") for row in rows]
    values = [math.nan if cell == "" else float(cell) for cell in cells]
    known = [i for i, value in enumerate(values) if not math.isnan(value)]
    if not known:
        return len(rows) - 1
    return (max if monitor[1] == "max" else min)(known, key=lambda i: values[i])


def _wandb_loggers(trainer: pl.Trainer) -> list[WandbLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]


def _log(trainer: pl.Trainer, values: Mapping[str, Any]) -> None:
    """Show values in W&B in one call, which is one step of its own, where Lightning puts the epoch's other metrics."""
    step = trainer.global_step - (1 if trainer.state.fn == TrainerFn.FITTING and trainer.global_step else 0)
    for logger in _wandb_loggers(trainer) if values else []:
        logger.log_metrics(dict(values), step=step)

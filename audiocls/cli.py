"""`audiocls fit | validate | test`: Lightning's command line with the links, folders and errors of audiocls.

Everything of a run stands in one folder, `--run_dir`: the configuration, `checkpoints/best.ckpt` and `last.ckpt`,
tables, figures, W&B's files. The data says the number and names of classes, the task, the sample rate and the clip
length; nobody writes them twice. What is wrong ends in one line.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.utilities import rank_zero_only

from audiocls.callbacks import SHORT, GracefulStop, LastCheckpoint, Progress, SecondInterrupt, StepSeed
from audiocls.checks import check_max_epochs, check_monitor, check_numbers, check_trainer, locked, writable
from audiocls.classifier import Classifier
from audiocls.intervals import N_DRAWS, Intervals
from audiocls.metrics import Evaluation, score_names
from audiocls.report.callback import RunReport
from audiocls.runs import CHECKPOINTS, NAMES, find_checkpoint, read_checkpoint, unused, with_known_config
from audiocls.terminal import accepted, meant, option_names, quiet_libraries, sentence, shortened, shown_classes
from audiocls.tracking import RunLogger
from datamodules.base import AudioDataModule

# target of each link: what the model is told by the data
LINKS = {
    "num_classes": "model.num_classes",
    "class_names": "model.class_names",
    "task": "model.task",
    "clip_seconds": "model.clip_seconds",
    "hop_seconds": "model.hop_seconds",
    "padding": "model.padding",
    "sample_rate": "model.frontend.init_args.sample_rate",
}
# what decides which checkpoint is the best
MONITORED = {"multiclass": "val/accuracy", "multilabel": "val/average_precision_macro", "regression": "val/r2_mean"}
# what of the model a checkpoint says, where it is not trained on
RECIPE = ("frontend", "head", "loss", "optimizer", "lr_scheduler", "frontend_lr", "frontend_freeze_steps")
TRAINER = {
    "use_distributed_sampler": False,  # the loaders know the ranks, and never pad
    "num_sanity_val_steps": 0,  # a few batches say nothing of clips
    "enable_model_summary": False,  # the model says in a line what it is
}


class Parser(LightningArgumentParser):
    """A parser whose errors are one line and a hint, not a page of usage."""

    unconfigured = ""  # what to say of required arguments where no configuration is given

    def error(self, message: str, ex: Exception | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Print what is wrong and what is nearest to it; exit status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        if self.unconfigured and f"arguments are required: {AudioCLI.command}." in message:
            lacking = re.sub(rf"\b{AudioCLI.command}\.", "--", message.partition("required: ")[2])
            message = f"{self.unconfigured} (without it, {lacking} are required)"
        sys.stderr.write(f"audiocls: error: {linked(message) or shortened(message, option_names(self))}\n")
        sys.exit(2)

    def parse_args(self, args: Any = None, *more: Any, **settings: Any) -> Any:
        """A setting of a setting comes here by itself, and as text, in which jsonargparse has made None of `null`."""
        if args and len(args) == 1 and args[0].startswith("--"):
            args = [re.sub("=None$", "=null", args[0])]
        return super().parse_args(args, *more, **settings)

    def dump(self, *args: Any, **kwargs: Any) -> str:
        """Text of a configuration. What was parsed is not checked again, which takes four times as long as writing."""
        return super().dump(*args, **{"skip_validation": True} | kwargs)


def linked(message: str) -> str:
    """What a parser says of a setting that is the data's to say, in a sentence; empty where it says something else."""
    option = re.search(r"(?:Linked \"|--> |arguments: --|accept option ')([\w.]+)", message)
    if option and option[1].rpartition(".")[2] in LINKS:
        return said_by_the_data(option[1])
    option = re.search(r"Parser key \"([\w.]+)\"(?s:.*)Option '(num_classes|class_names)' is not accepted", message)
    return said_by_the_data(".".join(option.groups())) if option else ""


def said_by_the_data(option: str) -> str:
    """What to do about a setting that the data says to the model."""
    name, option = option.rpartition(".")[2], option.replace(".init_args", "")
    if name in accepted("datamodules.AudioTable"):
        return f"--{option} comes from the data: leave it out, or set --data.{name}"
    return f"--{option} comes from the labels of the data: leave it out"


class SaveConfig(SaveConfigCallback):
    """Keeps the configuration in the run's folder and in the run's page."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, save_to_log_dir=False, **kwargs)

    def save_config(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Called on the first process alone."""
        if stage != "fit":
            return
        path = Path(trainer.default_root_dir) / "config.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        config = self.config.clone()
        config.ckpt_path = None  # who trains by this file trains anew, also if this run was resumed
        # what was parsed need not be checked again, which takes twice as long as writing it
        self.parser.save(config, str(path), skip_none=False, skip_validation=True, overwrite=True, multifile=False)
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.log_config(self.config.as_dict())


class AudioCLI(LightningCLI):
    """Lightning's command line, wired for a Classifier on an AudioDataModule."""

    command: str  # the one subcommand of this process: building the parsers of the others would only cost time

    until_end: contextlib.ExitStack  # holds what is held while it runs; no instance's, since models copy their CLI

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        try:
            super().__init__(*args, **kwargs)  # runs the command as well
        except SystemExit as stop:
            if not isinstance(stop.__context__, KeyboardInterrupt):
                raise
            self._say_interrupted()  # Lightning has caught it, and would leave with status 1
            raise stop.__context__ from None

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The command that was asked for, and which of the trainer's arguments the user does not give."""
        return {AudioCLI.command: LightningCLI.subcommands()[AudioCLI.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Options of a run, and what the data tells the model."""
        parser.add_argument("--run_dir", type=str, default="runs/default", help="Folder that receives all of the run.")
        parser.add_argument(
            "--monitor", type=str | None, default=None,
            help="Metric that decides which checkpoint is the best, such as val/loss; by default accuracy "
            "(multiclass), macro average precision (multilabel) or mean R² (regression).",
        )  # fmt: skip
        parser.add_argument(
            "--checkpoint_every_n_steps", type=int | None, default=None,
            help="Also write checkpoints/last.ckpt every so many steps, for long epochs.",
        )  # fmt: skip
        parser.add_argument(
            "--bootstrap_draws", type=int, default=N_DRAWS,
            help="Draws for the 95 % intervals of the scores of test and validate, at least 40; 0 for none.",
        )  # fmt: skip
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)
        for source, target in LINKS.items():
            parser.link_arguments(f"data.{source}", target, apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint before anything is built, and take its model rather than the configuration's."""
        config = self.config[AudioCLI.command]
        config.weights_only = True  # Lightning's default would run what a foreign checkpoint has pickled
        if AudioCLI.command != "fit":
            config.verbose = False  # Lightning's table says the same in sixteen digits
        if config.ckpt_path is None and AudioCLI.command != "fit":
            config.ckpt_path = "best"
        if config.ckpt_path is None:
            return
        config.ckpt_path = str(find_checkpoint(Path(config.run_dir), config.ckpt_path))
        checkpoint = read_checkpoint(Path(config.ckpt_path))
        if AudioCLI.command == "fit":
            check_max_epochs(config.trainer.max_epochs, n_begun=checkpoint["epoch"] + 1, checkpoint=config.ckpt_path)
            return  # the configuration that is given is the one to train with; its weights must fit
        saved = checkpoint["hyper_parameters"]
        model = {key: value for key, value in saved.items() if key in RECIPE}
        if "init_args" in model.get("frontend", {}):
            model["frontend"]["init_args"].pop("sample_rate", None)  # linked: the data says it, and is checked
        self.config = self.parser.parse_object({AudioCLI.command: {"model": model}}, self.config)

    def _set_seed(self) -> None:
        """Refuse a seed that numpy does not take, before any generator is given it."""
        seed = self.config[AudioCLI.command].seed_everything
        if not 0 <= seed < 2**32:
            raise ValueError(f"--seed_everything must be at least 0 and below 2**32, got {seed}")
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        """Send everything of the run into its folder, which no other training may write into meanwhile."""
        config = self.config[AudioCLI.command]
        check_numbers(config.as_dict())
        check_trainer(config.trainer, command=AudioCLI.command)
        for target in LINKS.values():
            if config.get(target) is not None:  # the link would put the data's in its place without a word
                raise ValueError(said_by_the_data(target))
        self.run_dir = Path(config.run_dir).absolute()
        config.trainer.default_root_dir = str(self.run_dir)
        if rank_zero_only.rank != 0 or LightningEnvironment().node_rank() != 0:
            return
        self.until_end.enter_context(writable(config.run_dir))
        if self.subcommand == "fit":
            self.until_end.enter_context(locked(config.run_dir))
            if config.ckpt_path is None:
                self._refuse_used_folder(config.run_dir)

    def _refuse_used_folder(self, run_dir: str) -> None:
        if any((self.run_dir / CHECKPOINTS).glob("*.ckpt")):
            raise ValueError(
                f"{run_dir} holds the checkpoints of another run: go on with it by --ckpt_path last, or train anew in "
                f"another folder, such as --run_dir {unused(run_dir)}"
            )

    def instantiate_trainer(self, **kwargs: Any) -> pl.Trainer:
        """The trainer with the run's logger, checkpoints, report and seeds; the user's callbacks come before them."""
        config = self.config[AudioCLI.command]
        given = self._get(self.config_init, "trainer", default={})
        self.report = RunReport(run_dir=self.run_dir, bootstrap_draws=config.bootstrap_draws)
        self.monitor = config.monitor or MONITORED[self.model.task]
        callbacks = [SecondInterrupt(), *(given.get("callbacks") or []), self.report]
        if given.get("enable_progress_bar") is not False and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(Progress(self.monitor))
        if self.subcommand == "fit":
            seed = config.seed_everything if isinstance(config.seed_everything, int) else 0
            callbacks += [StepSeed(seed=seed), GracefulStop(), *self._checkpoints(config)]
            if self.datamodule.train_on_validation:
                kwargs["limit_val_batches"] = 0
        logger = given.get("logger")
        if logger is None or logger is True:
            logger = self._logger()
        try:
            return super().instantiate_trainer(callbacks=callbacks, logger=logger, **kwargs)
        except (TypeError, ValueError) as error:  # Lightning's, of one of its arguments
            raise ValueError(f"the trainer cannot be made: {' '.join(str(error).split())}") from error

    def _checkpoints(self, config: Any) -> list[pl.Callback]:
        unseen = self.datamodule.train_on_validation or config.trainer.limit_val_batches == 0
        check_monitor(config.monitor, unseen=unseen)
        self.best = ModelCheckpoint(
            dirpath=self.run_dir / CHECKPOINTS,
            filename="best",
            monitor=None if unseen else self.monitor,  # without one, the last is the best
            mode="min" if self.monitor.endswith("loss") or "rmse" in self.monitor else "max",
            save_on_train_epoch_end=True if unseen else None,
            enable_version_counter=False,
        )
        self.last = LastCheckpoint(
            self.run_dir / CHECKPOINTS / "last.ckpt", every_n_steps=config.checkpoint_every_n_steps
        )
        return [self.best, self.last]

    def before_fit(self) -> None:
        """Refuse what would wait for a metric in vain, before an epoch is trained."""
        callbacks: list[Any] = self.trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
        foreign = any(not type(part).__module__.startswith(("audiocls.", "pytorch_lightning.")) for part in callbacks)
        known = [f"val/{name}" for name in ("loss", *score_names(self.model.task))]
        known += ["train/loss", "train/loss_step", "lr", "epoch", "step"]
        known += [f"train/loss_{term}" for term in ("task", "distill") if self.model.distill is not None]
        shown = {f"val_{short}": name for name, short in SHORT.items()}  # by the progress bar
        for part, name in [(part, part.monitor) for part in callbacks if getattr(part, "monitor", None)]:
            if name.startswith("val/") and self.trainer.limit_val_batches == 0:
                raise ValueError(
                    f"{type(part).__name__} waits for {name}, and nothing is validated here: set its monitor to "
                    "train/loss, or leave it out"
                )
            if name not in known and not foreign:  # a callback of the user's own may log it
                hint = meant(shown.get(name) or name, known)
                raise ValueError(f"there is no {name!r} to monitor: there are {', '.join(sorted(known))}{hint}")

    def _logger(self) -> RunLogger | bool:
        if self.subcommand != "fit":
            return False  # the scores of a test go to the run's tables; a second page would only confuse
        return RunLogger(name=self.run_dir.name, save_dir=self.run_dir, id=self._run_id())

    def _run_id(self) -> str | None:
        """Kept in the run's folder, so that W&B goes on with the page of a run that is resumed."""
        kept = self.run_dir / "wandb" / "run_id"
        if not kept.is_file() and rank_zero_only.rank == 0:
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(secrets.token_hex(4))
        return kept.read_text() if kept.is_file() else None

    def after_fit(self) -> None:
        """Keep the last as the best where nothing was validated, however that came about, and end as others do."""
        if self.trainer.is_global_zero and not self.best.best_model_path and self.last.path.is_file():
            shutil.copyfile(self.last.path, aside := self.last.path.with_name(".best.ckpt.aside"))
            os.replace(aside, self.last.path.with_name("best.ckpt"))
        self.after_validate()

    def after_validate(self) -> None:
        """End the run's page and say where everything is."""
        for logger in self.trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.finish()
        self._say()

    after_test = after_validate

    @rank_zero_only
    def _say(self) -> None:
        paths = self.report.report_paths()
        lines = [f"{name:>{max(map(len, paths))}}  {os.path.relpath(path)}" for name, path in paths.items()]
        scores = self._trained() if AudioCLI.command == "fit" else self._evaluated()
        sys.stdout.write("".join(f"{line}\n" for line in [*scores, *lines]))

    def _evaluated(self) -> Iterator[str]:
        if self.model.evaluation is not None:
            split = {"validate": "validation", "test": "test"}[AudioCLI.command]
            yield f"{split}: {scores_said(self.model.evaluation, self.report.intervals)}"

    def _trained(self) -> Iterator[str]:
        """Scores of the epoch that checkpoint, tables and figures are of, and of the last where that is another."""
        best, last, epochs = self.report.best, self.model.evaluation, self.report.validated
        if best is None and (loss := self.trainer.callback_metrics.get("train/loss")) is not None:
            n_epochs = self.trainer.current_epoch  # all of them over
            yield f"nothing was validated: the last of {n_epochs} epochs is kept, training loss {float(loss):.4g}"
        if best is not None:
            chosen = epochs[-1] > epochs[0] and self.monitor.startswith("val/")
            why = f", the best of epochs {epochs[0]} to {epochs[-1]} by {self.monitor}" if chosen else ""
            yield f"validation of epoch {best.epoch}{why}: {scores_said(best.evaluation, None)}"
        if best is not None and last is not None and last is not best.evaluation:
            yield f"validation of epoch {epochs[-1]}, the last: {scores_said(last, None)}"

    @rank_zero_only
    def _say_interrupted(self) -> None:
        """What Ctrl-C has left of the run, and how it goes on."""
        if AudioCLI.command != "fit":
            sys.stderr.write(f"audiocls: stopped: nothing of this {AudioCLI.command} is written\n")
            return
        step, run_dir = self.trainer.global_step, shlex.quote(self.config[AudioCLI.command].run_dir)
        if not self.last.path.is_file():
            said = "nothing was saved yet"
        else:
            saved = "is saved" if self.last.saved_step == step else "is not saved, but an earlier one"
            said = f"which {saved}: audiocls fit --run_dir {run_dir} --ckpt_path last goes on"
        sys.stderr.write(f"audiocls: stopped at step {step}, {said}\n")


def scores_said(evaluation: Evaluation, intervals: Intervals | None) -> str:
    """Number of clips and all scores on one line, or each on a line of its own with its interval."""
    n_clips = f"{len(evaluation.clip)} clips"
    if intervals is None:
        return n_clips + "".join(f"  {name} {value:.4g}" for name, value in evaluation.scalars.items())
    width, lines = max(map(len, evaluation.scalars)), []
    for name, value in evaluation.scalars.items():
        low, high = intervals.scalars.get(name, (None, None))
        said = f"{value:.4g}" if low is None else f"{value:<6.4g}  {low:.4g} to {high:.4g}"
        lines.append(f"{name:>{width}}  {said}")
    return "\n".join([n_clips, *lines, intervals.said])


def without_config(arguments: list[str]) -> str:
    """What to give where no configuration is given nor found; empty where there is one, or help is asked for.

    Args:
        arguments: as `with_known_config` returns them.
    Raises:
        ValueError: if a checkpoint that is named does not exist.
    """
    if {"--config", "-c", "--help", "-h"} & set(arguments):
        return ""
    options = dict(pairwise(arguments))
    if arguments[0] == "fit" and "--ckpt_path" not in options:
        return "say what to train: --config conf/folder.yaml or another recipe"
    wanted = options.get("--ckpt_path", "best")
    if "--run_dir" not in options and wanted in NAMES:
        return "say which run: --run_dir DIR"
    run_dir = find_checkpoint(Path(options.get("--run_dir", ".")), wanted).parent.parent
    return f"{run_dir / 'config.yaml'} is missing or empty: put the run's own there, or give its recipe by --config"


def main(arguments: list[str]) -> int:
    """Run a training command, whose name is the first argument; the exit status."""
    quiet_libraries()
    shown_classes()  # once they are imported, --model.head ConvNet does for audiocls.heads.ConvNet
    AudioCLI.command = arguments[0]
    try:
        if any(re.match(r"--data(\.init_args)?\.seed(=|$)", word) for word in arguments):
            raise ValueError("--data.seed is that of --seed_everything: leave it out, and set that")
        arguments = with_known_config(arguments)
        Parser.unconfigured = without_config(arguments)
        with contextlib.ExitStack() as AudioCLI.until_end:
            # stopped before training has begun, Lightning would leave the process deaf to Ctrl-C, or die of the next
            AudioCLI.until_end.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
            AudioCLI(
                Classifier,
                AudioDataModule,
                subclass_mode_data=True,
                auto_configure_optimizers=False,
                save_config_callback=SaveConfig,
                seed_everything_default=0,
                trainer_defaults=TRAINER,
                parser_class=Parser,
                parser_kwargs={"prog": "audiocls", "allow_abbrev": False},
                args=arguments,
            )
    except (ValueError, TypeError, OSError, MisconfigurationException) as error:
        # of all that Lightning refuses, one setting is by another class
        wrong_setting = isinstance(error, MisconfigurationException) or "`val_check_interval`" in str(error)
        said = " ".join(str(error).split()) if wrong_setting else sentence(error)
        if os.environ.get("AUDIOCLS_TRACEBACK") or said is None:  # set to 1, it shows where a sentence comes from
            raise
        sys.stderr.write(f"audiocls: error: {said}\n")
        return 2
    return 0

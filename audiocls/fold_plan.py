"""What a cross-validation is to run: its folds and seeds, checked before anything is trained, and how far each is."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import yaml

from audiocls.checks import check_monitor
from audiocls.cli import MONITORED
from audiocls.report.folds import FoldResult
from audiocls.resolved import open_data, resolved_config
from audiocls.runs import CHECKPOINTS, unused
from datamodules.base import AudioDataModule
from datamodules.splits import Task

log = logging.getLogger(__name__)

Stage = Literal["fit", "test", "done"]
CONFIG, STATE = "folds.yaml", "state.json"
# what is given to each run; a configuration may hold them, the user's options may not
OURS = ("--data.fold", "--data.init_args.fold", "--ckpt_path", "--print_config")


@dataclass(frozen=True)
class FoldRun:
    """One fold with one seed, and its folder, which knows how far it is."""

    fold: int
    seed: int
    folder: Path

    @property
    def stage(self) -> Stage:
        """What is to be done next. A test whose tables are gone is done again."""
        stage = _read_state(self.folder).get("stage", "fit")
        whole = all((self.folder / f"test_{name}.csv").is_file() for name in ("metrics", "predictions"))
        return "test" if stage == "done" and not whole else stage

    @property
    def epochs(self) -> int:
        """That are trained and validated."""
        path = self.folder / "metrics.csv"
        if not path.is_file():
            return 0
        with path.open(newline="", encoding="utf-8") as file:
            return max((int(row["epoch"]) + 1 for row in csv.DictReader(file)), default=0)

    def move_on(self, stage: Stage, *, seconds: float) -> None:
        """Write down what is next, and what the last step took."""
        minutes = _read_state(self.folder).get("minutes", 0.0) + seconds / 60
        state = {"fold": self.fold, "seed": self.seed, "stage": stage, "minutes": minutes}
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / STATE, json.dumps(state) + "\n")

    def result(self, task: Task) -> FoldResult:
        """What its test came to, the score first by which the best epoch is chosen."""
        with (self.folder / "test_metrics.csv").open(newline="", encoding="utf-8") as file:
            row = list(csv.DictReader(file))[-1]
        scores = {k.removeprefix("test/"): float(v) for k, v in row.items() if k.startswith("test/") and v}
        first = MONITORED[task].removeprefix("val/")
        # a class may be called "nan" or "None"
        clips = pd.read_csv(self.folder / "test_predictions.csv", dtype=str, keep_default_na=False)
        right = None
        if task == "multiclass":
            right = int((clips["target"] == clips["prediction"]).sum())
            scores["accuracy"] = right / len(clips)  # the table has it in float32
        minutes = _read_state(self.folder)["minutes"]
        return FoldResult(self.fold, self.seed, len(clips), right, {first: scores[first]} | scores, minutes)


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        run_dir: folder of the whole.
        config: text of the configuration of all folds.
        runs: that were asked for, finished or not.
        folds: that the data set has.
        task: of the data set.
        groups: of each clip, with its fold: columns `fold` and `group`; None where the data set knows no groups.
        max_epochs: of each run; 0 where the configuration counts by something else.
    """

    run_dir: Path
    config: str
    runs: list[FoldRun]
    folds: list[int]
    task: Task
    groups: pd.DataFrame | None
    max_epochs: int

    def finished(self) -> list[FoldResult]:
        """Results of all folds of the run's folder that are finished, by fold and seed."""
        found = []
        for path in self.run_dir.glob(f"fold*/{STATE}"):
            state = _read_state(path.parent)
            run = FoldRun(state["fold"], state["seed"], path.parent)
            if run.stage == "done":
                found.append(run.result(self.task))
        return sorted(found, key=lambda result: (result.fold, result.seed))

    def share(self) -> float:
        """Of the work that is done, in runs."""
        return sum(
            1.0 if run.stage != "fit" else min(run.epochs / self.max_epochs, 1.0) if self.max_epochs else 0.0
            for run in self.runs
        )


def make_plan(
    words: Sequence[str],
    *,
    run_dir: str | None = None,
    folds: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
) -> Plan:
    """Read the configuration as `audiocls fit` does, and check the split of every fold before anything is trained.

    Args:
        words: options of `audiocls fit`; none are needed where `run_dir` was begun before.
        run_dir: folder of the whole; left out, the configuration's.
        folds: to be the test; left out, all.
        seeds: each fold is trained with; left out, the configuration's `seed_everything`.
    Raises:
        ValueError: if the data set has no folds or not these, a validation fold is also a test fold, or `run_dir` was
            begun with another configuration.
        SystemExit: if `audiocls fit` does not accept the words; it has said why.
    """
    for word in words:
        if word.partition("=")[0] in OURS:
            raise ValueError(f"{word.partition('=')[0]} is given to each fold here: leave it out, and use --folds")
    if run_dir is not None and (Path(run_dir) / CONFIG).is_file() and not {"--config", "-c"} & {*_heads(words)}:
        words = ["--config", str(Path(run_dir) / CONFIG), *words]
    text = resolved_config(words)
    config = yaml.safe_load(text)
    target = Path(run_dir or config["run_dir"])
    _refuse_changes(target, config)
    first = _first_fold(config, folds)
    data = open_data(config, fold=first)
    there = data.folds
    chosen = sorted(set(folds or there))
    _check_folds(config, there, chosen, name=type(data).__name__)
    _check_split(data, first)
    check_monitor(config["monitor"], unseen=data.train_on_validation)
    if len(chosen) > 1 and config["model"].get("distill"):
        log.warning(
            "the folds have one teacher: unless it was trained on other data, it has heard the clips that they test; "
            "train fold by fold with the teacher of each (audiocls fit --data.fold N), or read the scores as no test"
        )
    before = logging.root.manager.disable
    try:
        logging.disable(logging.WARNING)  # the first table has said what there is to say; each fold's log has it again
        for fold in chosen:
            _check_split(open_data(config, fold=fold), fold)
    finally:
        logging.disable(before)
    own_seed = int(config["seed_everything"])
    runs = [
        FoldRun(fold, seed, target / (f"fold{fold:02d}" + (f"-seed{seed}" if seed != own_seed else "")))
        for seed in dict.fromkeys(seeds or [own_seed])
        for fold in chosen
    ]
    groups = data.table[["fold", "group"]] if "group" in data.table else None
    max_epochs = max(config["trainer"]["max_epochs"] or 0, 0)
    return Plan(target, text, runs, there, data.task, groups, max_epochs)


def _heads(words: Sequence[str]) -> list[str]:
    """Names of options, without a value behind an equals sign."""
    return [word.partition("=")[0] for word in words]


def _refuse_changes(run_dir: Path, config: Mapping[str, Any]) -> None:
    """Folds that were trained by different recipes have no mean."""
    if any((run_dir / CHECKPOINTS).glob("*.ckpt")):
        raise ValueError(
            f"{run_dir} holds the checkpoints of a single run: give another folder, such as "
            f"--run_dir {unused(str(run_dir))}"
        )
    if not (run_dir / CONFIG).is_file():
        return
    old, new = _flat(yaml.safe_load((run_dir / CONFIG).read_text(encoding="utf-8"))), _flat(config)
    changed = [key for key in old | new if old.get(key) != new.get(key) and key != "run_dir"]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ValueError(
            f"{run_dir} was begun with {key} {old.get(key)}, not {new.get(key)}{more}: give what was given then, or "
            f"train all folds anew with --run_dir {unused(str(run_dir))}"
        )


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings by dotted keys, as they are typed as options."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    return {key: v for name, part in value.items() for key, v in _flat(part, _joined(prefix, name)).items()}


def _joined(prefix: str, name: str) -> str:
    return prefix if name == "init_args" else f"{prefix}.{name}" if prefix else name


def _first_fold(config: Mapping[str, Any], folds: Sequence[int] | None) -> int:
    """A fold to open the data with, to see which there are."""
    settings = config["data"]["init_args"] if config.get("data") else {}
    if "fold" not in settings:
        name = config["data"]["class_path"].rpartition(".")[2] if config.get("data") else "the configuration"
        raise ValueError(f"{name} has no setting fold: cross-validation needs data that is published in folds")
    return next(iter(folds or ()), 1) if settings["fold"] is None else settings["fold"]


def _check_folds(config: Mapping[str, Any], there: Sequence[int], chosen: Sequence[int], *, name: str) -> None:
    if not there:
        raise ValueError(
            f"{name} as it is set has no folds, and cross-validation needs them: choose a split that has some, or with "
            f"AudioFolder set data.n_folds"
        )
    unknown = [fold for fold in chosen if fold not in there]
    if unknown:
        raise ValueError(f"--folds must be among {', '.join(map(str, there))} of {name}, got {unknown[0]}")
    validation = config["data"]["init_args"].get("validation_fold")
    if validation in chosen:
        raise ValueError(
            f"data.validation_fold cannot stay at {validation} while the test runs through the folds "
            f"{', '.join(map(str, chosen))}: leave it out, then each is validated on the next fold, or leave "
            f"{validation} out of --folds"
        )


def _check_split(data: AudioDataModule, fold: int) -> None:
    """The test is the whole fold and nothing else, and the epoch can be chosen on clips outside of it."""
    try:
        table = data.table  # checks itself: classes, groups, clips in the store
    except ValueError as error:
        raise ValueError(f"with fold {fold} as the test, {error}") from None
    test = table["split"] == "test"
    if "fold" not in table or (test != (table["fold"] == fold)).any():
        raise ValueError(
            f"{type(data).__name__} with data.fold {fold} does not test on that fold and no other: its clips must "
            f"have the split 'test' where the column 'fold' says {fold}"
        )
    if not data.train_on_validation and not (table["split"] == "validation").any():
        raise ValueError(f"fold {fold} leaves no clip for validation, on which the best epoch is chosen")


def _read_state(folder: Path) -> dict[str, Any]:
    path = folder / STATE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def replace_file(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)

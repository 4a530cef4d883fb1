"""A transfer study: the layers of a trained net as features for another data set, and what they are to be judged by.

Of a checkpoint and the data of a configuration it makes the table of Choi et al. 2017 (arXiv:1703.09179): each layer
alone, all of them, subsets of them, MFCCs, MFCCs with all layers; beside it the same net with random weights, for which
the paper's public results hold nothing. Every row is scored by two protocols (`audiocls.probes`).

    out/
      features_trained.npz features_random0.npz features_mfcc.npz    a vector a clip and layer, used again
      transfer.csv transfer.png                                       the table, and the same to look at

The configuration is read as `audiocls fit` reads it; of it only the data counts.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from audiocls.classifier import Classifier
from audiocls.probe_folds import N_INNER, make_folds
from audiocls.probes import ProbeName, Task, fit_all, make_probe
from audiocls.report import style
from audiocls.report.transfers import (
    TransferRow,
    sentences,
    table_said,
    transfer_scores,
    write_transfer,
)
from audiocls.resolved import open_data, resolved_config
from audiocls.runs import CHECKPOINTS, NAMES, find_checkpoint, read_checkpoint, run_config
from audiocls.terminal import meant
from audiocls.transfer import (
    Features,
    check_audio,
    digest,
    kept_or_made,
    layer_features,
    made_of,
    mfcc_features,
    repeated_layers,
    with_random_weights,
)
from audiocls.transfer_rows import Scoring, joined, rows_of, sets_of, subsets_of, with_mfcc
from datamodules.base import AudioDataModule
from datamodules.fetching.progress import Progress, silent
from datamodules.splits import class_indices

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Said:
    """What a study says at its end.

    Attributes:
        table: for the terminal.
        sentences: a line a target, to paste.
        files: that were written.
    """

    table: str
    sentences: str
    files: list[Path]


def run_study(
    words: Sequence[str],
    *,
    out: Path,
    run_dir: str | None = None,
    ckpt_path: str = "best",
    classifier: ProbeName = "svm",
    layers: Sequence[str] | None = None,
    subsets: bool = False,
    random_weights: Sequence[int] = (0,),
    folds: int | None = None,
    inner_folds: int = N_INNER,
    seed: int = 0,
    jobs: int = 1,
    progress: Progress = silent,
) -> Said:
    """Describe, fit, score and write.

    Args:
        words: options of `audiocls fit` that say which data, such as --config FILE --data.store DIR.
        out: folder to write.
        run_dir: folder of the run that trained the net.
        ckpt_path: a checkpoint, or best or last of `run_dir`.
        classifier: of `audiocls.probes.make_probe`.
        layers: of the head; left out, all but those that repeat an earlier one.
        subsets: whether all subsets of up to four layers are tried, of five the paper's 28.
        random_weights: seeds of the nets without training.
        folds: to draw, for data without folds.
        inner_folds: by which settings are chosen.
        seed: of drawn folds and inner folds.
        jobs: processes that fit.
        progress: told of batches and fits that are done.
    Raises:
        ValueError: for what the user has to change, in one line.
        FeatureError: if the net gives no finite numbers.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    source = _open_source(run_dir, ckpt_path)
    data = _open_target(words)
    task = probe_task(data)
    probe = make_probe(classifier, task)
    check_audio(source.model, data)
    _check_layers(layers, source.model.head.layer_names)
    chooses = len(probe.settings) > 1 or subsets
    cut = make_folds(data.table, task=task, n_folds=folds, n_inner=inner_folds if chooses else None, seed=seed)
    warn_of_heard(source.checkpoint, source.path, data, whole=len(cut) > 1)
    makes = _Maker(source, data, out, progress)
    trained = makes.trained()
    chosen = tuple(layers) if layers else _distinct(trained)
    of_net = sets_of(trained, "trained", chosen, subsets_of(chosen) if subsets else [])
    sets = [*of_net, *with_mfcc(makes.mfcc(), joined(trained, chosen), chosen)]
    for drawn in dict.fromkeys(random_weights):
        sets += sets_of(makes.random(drawn), f"random {drawn}", chosen, [])
    rows: list[TransferRow] = []
    targets = _targets(data, task)
    with progress("fits", 0, len(targets) * len(sets) * len(cut)) as step:
        for name, target in targets.items():
            fitted = fit_all(probe, {of.key: of.numbers for of in sets}, target, cut, jobs=jobs, on_job=step)
            rows += rows_of(Scoring(name, target, task, cut, data), sets, fitted, of_net if subsets else [])
    tested = np.concatenate([fold.test for fold in cut])
    chance = None if task == "regression" else float(np.bincount(targets[""][tested]).max() / len(tested))
    target_name = f"{type(data).__name__} {data.store_path.name}"
    title = f"{source.name} to {target_name}, {classifier}"
    figure = transfer_scores(rows, title=title, chance=chance)
    files = [write_transfer(out / "transfer.csv", rows), style.save(figure, out / "transfer.png")]
    said = sentences(rows, probe=classifier, source=source.name, target=target_name, n_clips=len(tested))
    return Said(table_said(rows), said, files)


# --- the net and what is asked of it ---


@dataclass(frozen=True)
class _Source:
    """A checkpoint, its content and the model on the device that computes."""

    path: Path
    checkpoint: Mapping[str, Any]
    model: Classifier

    @property
    def name(self) -> str:
        """Of the run, or of the file where it stands in no run's folder."""
        folder = self.path.absolute().parent
        return folder.parent.name if folder.name == CHECKPOINTS else self.path.stem


def _open_source(run_dir: str | None, ckpt_path: str) -> _Source:
    if run_dir is None and ckpt_path in NAMES:
        raise ValueError("say which net: --run_dir DIR or --ckpt_path FILE")
    path = find_checkpoint(Path(run_dir or "."), ckpt_path)
    checkpoint = read_checkpoint(path)
    model: Classifier = Classifier.load_from_checkpoint(path, map_location="cpu", weights_only=True)
    return _Source(path, checkpoint, model.to("cuda" if torch.cuda.is_available() else "cpu"))


class _Maker:
    """Makes features of each kind, or takes those that are kept.

    Args:
        source: the net.
        data: whose clips are described.
        out: folder that keeps them.
        progress: told of the batches that are done.
    """

    def __init__(self, source: _Source, data: AudioDataModule, out: Path, progress: Progress) -> None:
        self.source, self.data, self.out, self.progress = source, data, out, progress

    def trained(self) -> Features:
        """Of the net as it is."""
        return self._kept(
            "trained",
            {"checkpoint": self._digest},
            lambda: layer_features(self.source.model, self.data, progress=self.progress),
        )

    def mfcc(self) -> Features:
        """Of no net."""
        return self._kept("mfcc", {}, lambda: mfcc_features(self.data, progress=self.progress))

    def random(self, seed: int) -> Features:
        """Of the net with weights that nobody has trained."""

        def make() -> Features:
            fresh = with_random_weights(
                self.source.checkpoint,
                self.data,
                seed=seed,
                device=str(self.source.model.device),
                progress=self.progress,
            )
            return layer_features(fresh, self.data, progress=self.progress)

        # the statistics of its norms depend on the batches
        more = {"checkpoint": self._digest, "seed": seed, "batch_size": self.data.batch_size}
        return self._kept(f"random{seed}", more, make)

    @property
    def _digest(self) -> str:
        return digest(self.source.path)

    def _kept(self, name: str, more: Mapping[str, Any], make: Callable[[], Features]) -> Features:
        return kept_or_made(self.out / f"features_{name}.npz", made_of(self.data, **more), make)


# --- what is asked for ---


def _open_target(words: Sequence[str]) -> AudioDataModule:
    config = yaml.safe_load(resolved_config(words))
    if not config.get("data"):
        raise ValueError("say which data the features are for: --config FILE, such as conf/gtzan.yaml")
    return open_data(config)


def probe_task(data: AudioDataModule) -> Task:
    """Classes or numbers; refuses several labels a clip."""
    if data.task == "multilabel":
        raise ValueError(
            f"{type(data).__name__} has several labels a clip (task multilabel), and a probe here tells one class or "
            "numbers: take data of task multiclass or regression, or train on the tags themselves with audiocls fit"
        )
    return data.task


def _check_layers(layers: Sequence[str] | None, there: Sequence[str]) -> None:
    for name in layers or ():
        if name not in there:
            raise ValueError(f"--layers must be among {', '.join(there)}, got {name!r}{meant(name, there)}")
    twice = [name for name, n in Counter(layers or ()).items() if n > 1]
    if twice:
        raise ValueError(f"--layers names {twice[0]!r} twice: name each layer once")


def warn_of_heard(checkpoint: Mapping[str, Any], path: Path, data: AudioDataModule, *, whole: bool) -> None:
    """Say so where clips may be scored that the net was trained on, as `audiocls test` does.

    A checkpoint knows by one number which clips of a data set it was trained on; of another data set it says nothing.

    Args:
        checkpoint: its content.
        path: of the file, beside which the run's configuration may stand.
        data: whose clips are scored.
        whole: whether all its clips are, and not the test alone.
    """
    state = checkpoint.get(type(data).__qualname__)  # where Lightning keeps what a data module says
    if state is not None and state != data.state_dict():
        data.load_state_dict(state)  # says so
    elif (state is not None and whole) or (state is None and _same_store(path, data)):
        log.warning(
            "the checkpoint was trained on clips of these, and they are scored: take other recordings, or one split "
            "without folds whose test it has not heard, or read the scores as no test"
        )


def _same_store(path: Path, data: AudioDataModule) -> bool:
    config = run_config(path)
    if config is None:
        return False
    settings = (yaml.safe_load(config.read_text(encoding="utf-8")).get("data") or {}).get("init_args", {})
    return Path(settings.get("store", "")).absolute() == data.store_path.absolute()


def _distinct(features: Features) -> tuple[str, ...]:
    repeated = repeated_layers(features)
    for name, other in repeated.items():
        log.info("layer %s says what %s says and is left out; --layers takes it in", name, other)
    return tuple(name for name in features if name not in repeated)


def _targets(data: AudioDataModule, task: Task) -> dict[str, NDArray[Any]]:
    """What is told of each clip, in the order of the table: one entry, or one a number."""
    if task == "multiclass":
        return {"": class_indices(data.table["label"], data.class_names)}
    numbers = np.array(data.table["label"].tolist(), dtype=np.float64)
    return dict(zip(data.class_names, numbers.T, strict=True))

"""The rows of a transfer study: sets of features of a net and its controls, and what two protocols make of each."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from audiocls.intervals import Interval, bootstrap
from audiocls.metrics import evaluate
from audiocls.probes import Fitted, Fold, Outcome, Task, choi2017, nested, settings_said
from audiocls.report.transfers import ALL, BEST, BOTH, MFCC, Protocol, TransferRow
from audiocls.transfer import Features
from datamodules.base import AudioDataModule

log = logging.getLogger(__name__)

MOST_SUBSETS = 5  # layers, of which all subsets are tried


@dataclass(frozen=True)
class FeatureSet:
    """Numbers that describe each clip.

    Attributes:
        name: of them.
        weights: of the net that they come from, as in `TransferRow`.
        layers: of it.
        numbers: shape (clips, dimensions).
    """

    name: str
    weights: str
    layers: tuple[str, ...]
    numbers: NDArray[np.float32]

    @property
    def key(self) -> str:
        """No other set's."""
        return f"{self.name} ({self.weights or 'no net'})"


def subsets_of(layers: tuple[str, ...]) -> list[tuple[str, ...]]:
    """All subsets, of one layer first; of five layers those of the paper, which leaves out three of four layers."""
    if len(layers) > MOST_SUBSETS:
        raise ValueError(
            f"--subsets takes at most {MOST_SUBSETS} layers, and {len(layers)} make {2 ** len(layers) - 1} subsets: "
            f"name some of {', '.join(layers)} with --layers"
        )
    found = [part for size in range(1, len(layers) + 1) for part in combinations(layers, size)]
    left_out = {layers[:n] + layers[n + 1 :] for n in (1, 2, 3)} if len(layers) == MOST_SUBSETS else set()
    return [part for part in found if part not in left_out]


def sets_of(
    features: Features, weights: str, layers: tuple[str, ...], subsets: Sequence[tuple[str, ...]]
) -> list[FeatureSet]:
    """Each layer alone, subsets of several, all layers."""
    between = [part for part in subsets if 1 < len(part) < len(layers)]
    parts = [*((name,) for name in layers), *between, *([layers] if len(layers) > 1 else [])]
    return [FeatureSet(_called(part, layers), weights, part, joined(features, part)) for part in parts]


def _called(part: tuple[str, ...], layers: tuple[str, ...]) -> str:
    """As the paper numbers them: "layers 135"."""
    if len(part) == 1:
        return part[0]
    return ALL if part == layers else "layers " + "".join(str(layers.index(name) + 1) for name in part)


def with_mfcc(mfcc: Features, joined: NDArray[np.float32], layers: tuple[str, ...]) -> list[FeatureSet]:
    """MFCCs alone and beside all layers."""
    (numbers,) = mfcc.values()
    return [FeatureSet(MFCC, "", (), numbers), FeatureSet(BOTH, "trained", layers, np.hstack([numbers, joined]))]


def joined(features: Features, layers: Sequence[str]) -> NDArray[np.float32]:
    return np.hstack([features[name] for name in layers])


# --- rows ---


class Scoring:
    """Turns the outcome of a protocol into a row of the table.

    Args:
        name: of the target.
        target: of all clips.
        task: of the target.
        folds: that were scored.
        data: that says classes and groups.
    """

    def __init__(
        self, name: str, target: NDArray[Any], task: Task, folds: Sequence[Fold], data: AudioDataModule
    ) -> None:
        self.name = name
        self.task: Task = task
        self.tested = np.concatenate([fold.test for fold in folds])
        self.target = torch.from_numpy(target[self.tested])
        self.class_names = data.class_names if task == "multiclass" else [name]
        groups = data.table["group"].astype(object) if "group" in data.table else None
        self.groups = None if groups is None else groups.where(groups.notna(), None).iloc[self.tested].tolist()

    def rows(
        self, name: str, weights: str, among: Sequence[FeatureSet], fitted: Mapping[str, Fitted]
    ) -> list[TransferRow]:
        """Of both protocols, which choose the settings and, where there are several, the set of features."""
        candidates = {of.key: fitted[of.key] for of in among}
        outcomes: dict[Protocol, Outcome] = {"nested": nested(candidates), "choi2017": choi2017(candidates)}
        known = {of.key: of for of in among}
        return [self._row(name, weights, protocol, outcome, known) for protocol, outcome in outcomes.items()]

    def _row(
        self, name: str, weights: str, protocol: Protocol, outcome: Outcome, known: Mapping[str, FeatureSet]
    ) -> TransferRow:
        used = [known[key] for key, _ in outcome.chosen]
        same = used[0] if len({of.key for of in used}) == 1 else None
        said = [settings_said(settings) for _, settings in outcome.chosen]
        if len(known) > 1:
            said = [": ".join(filter(None, (of.name, text))) for of, text in zip(used, said, strict=True)]
        nowhere = (math.nan, (math.nan, math.nan), "")
        pooled, interval, drawn = self._pooled(outcome) if protocol == "nested" else nowhere
        return TransferRow(
            target=self.name,
            features=name,
            weights=weights,
            layers=() if same is None else same.layers,
            n_dimensions=None if same is None else same.numbers.shape[1],
            protocol=protocol,
            score="accuracy" if self.task == "multiclass" else "r2",
            scores=outcome.scores,
            pooled=pooled,
            interval=interval,
            drawn=drawn,
            settings=Counter(said).most_common(),
        )

    def _pooled(self, outcome: Outcome) -> tuple[float, Interval, str]:
        """Score of all clips together, its interval, and what that was drawn over."""
        told = torch.from_numpy(np.concatenate(outcome.predictions))
        if self.task == "multiclass":
            prediction, target = F.one_hot(told, len(self.class_names)).float(), self.target
            score = "accuracy"
        else:
            prediction, target, score = told[:, None], self.target[:, None], "r2_mean"
        done = evaluate(torch.arange(len(told)), prediction, target, class_names=list(self.class_names), task=self.task)
        try:
            drawn = bootstrap(done, groups=self.groups)
        except ValueError as error:  # all clips of one group
            log.warning("no intervals: %s", error)
            return done.scalars[score], (math.nan, math.nan), ""
        return done.scalars[score], drawn.scalars[score], drawn.said


def rows_of(
    scoring: Scoring, sets: Sequence[FeatureSet], fitted: Mapping[str, Fitted], of_net: Sequence[FeatureSet]
) -> list[TransferRow]:
    """Two rows a set of features, and behind those of the net two of the best among them, where any are given."""
    rows = []
    for number, of in enumerate(sets, start=1):
        rows += scoring.rows(of.name, of.weights, [of], fitted)
        if of_net and number == len(of_net):
            rows += scoring.rows(BEST, "trained", of_net, fitted)
    return rows

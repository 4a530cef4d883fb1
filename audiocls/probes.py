"""Shallow classifiers on features that are fixed: how well each set of them tells the clips' classes or numbers.

A probe is a scaler, a classifier and the settings to choose among. Two protocols say how its score came about:

- `nested`: settings are chosen inside the training clips of each fold, by inner folds, and so is which set of features
  is used where several are given. A clip that is scored had no part in any choice.
- `choi2017`: the best mean score over the folds that are scored, as scikit-learn's GridSearchCV gives it as
  `best_score_`. It is what Choi et al. 2017 report, comparable with their table, and too high, for settings and sets of
  features are chosen on the clips that they are scored on.

Both come from the same fits: each fold is fitted once with every setting, and each inner fold once. Arrays in, scores
out; neither torch nor a data set is known here, so that processes that fit begin quickly.

Source: Choi et al. 2017, arXiv:1703.09179, and the grid of github.com/keunwoochoi/transfer_learning_music,
`2_main_knn_svm_transfer.py`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR
from threadpoolctl import threadpool_limits

ProbeName = Literal["svm", "lda", "logistic"]
Task = Literal["multiclass", "regression"]
Settings = dict[str, Any]
Rows = NDArray[np.int64]
Matrix = NDArray[np.float64]

SVM_C = (0.1, 2.0, 8.0, 32.0)
SVM_GAMMA = (*(0.5**i for i in (3, 5, 7, 9, 11, 13)), "auto")
SVM_STEPS = 1_000_000  # of a fit at most: on unscaled MFCCs a linear one of 240 clips may go on for minutes
LOGISTIC_C = (0.01, 0.1, 1.0, 10.0)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fold:
    """Which clips are scored, and which a classifier may learn from.

    Attributes:
        name: what it is called: a number, or "test".
        train: rows to learn from.
        test: rows that are scored.
        inner: (train, test) pairs within `train`, by which settings are chosen; empty where nothing is.
    """

    name: str
    train: Rows
    test: Rows
    inner: tuple[tuple[Rows, Rows], ...] = ()


@dataclass(frozen=True)
class Probe:
    """A classifier with the settings that it is tried with.

    Attributes:
        pipeline: of the steps "scaler" and "classifier".
        settings: parameters of the pipeline, in the order of scikit-learn's ParameterGrid; of equally good ones the
            first is taken.
        task: whether it tells classes (scored by accuracy) or a number (R²).
    """

    pipeline: Pipeline
    settings: tuple[Settings, ...]
    task: Task


@dataclass(frozen=True)
class Fitted:
    """What all settings of a probe come to on one set of features.

    Attributes:
        settings: of the probe.
        inner: mean score over the inner folds, shape (folds, settings); 0 where there are none.
        scores: on the clips of each fold, shape (folds, settings).
        predictions: of those clips, one array (settings, clips) a fold.
        n_stopped: fits that were ended before they had converged.
    """

    settings: tuple[Settings, ...]
    inner: Matrix
    scores: Matrix
    predictions: list[NDArray[Any]]
    n_stopped: int


@dataclass(frozen=True)
class Outcome:
    """Scores by one protocol.

    Attributes:
        scores: one a fold.
        chosen: set of features and settings of each fold.
        predictions: of the clips of each fold, by what was chosen there.
    """

    scores: list[float]
    chosen: list[tuple[str, Settings]]
    predictions: list[NDArray[Any]]


def make_probe(name: ProbeName, task: Task) -> Probe:
    """A probe by its name.

    Args:
        name: "svm", with the grid of Choi et al. 2017 and at most a million steps a fit (SVR for numbers, whose
            `epsilon` is scikit-learn's 0.1 in units of the numbers); "lda", linear discriminants with the Ledoit-Wolf
            covariance, nothing to choose; or "logistic", regularised more or less.
        task: of the targets.
    Raises:
        ValueError: for another name, or for numbers where the classifier knows classes alone.

    >>> len(make_probe("svm", "multiclass").settings), len(make_probe("lda", "multiclass").settings)
    (64, 1)
    """
    if name not in get_args(ProbeName):
        raise ValueError(f"classifier must be one of {', '.join(get_args(ProbeName))}, got {name!r}")
    if task == "regression" and name != "svm":
        raise ValueError(f"classifier {name!r} tells classes, and the targets are numbers: take svm")
    if name == "lda":
        return _probe(LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto"), {"scaler": ["passthrough"]}, task)
    if name == "logistic":
        return _probe(LogisticRegression(max_iter=10_000), {"classifier__C": LOGISTIC_C}, task)
    both = {"scaler": [StandardScaler(), "passthrough"], "classifier__C": SVM_C}
    rbf = both | {"classifier__kernel": ["rbf"], "classifier__gamma": SVM_GAMMA}
    linear = both | {"classifier__kernel": ["linear"]}
    return _probe((SVC if task == "multiclass" else SVR)(max_iter=SVM_STEPS), [rbf, linear], task)


def _probe(classifier: Any, grid: Any, task: Task) -> Probe:
    pipeline = Pipeline([("scaler", StandardScaler()), ("classifier", classifier)])
    return Probe(pipeline, tuple(ParameterGrid(grid)), task)


def fit_all(
    probe: Probe,
    features: Mapping[str, NDArray[Any]],
    target: NDArray[Any],
    folds: Sequence[Fold],
    *,
    jobs: int = 1,
    on_job: Callable[[int], object] = lambda n: None,
) -> dict[str, Fitted]:
    """Fit every setting on every fold and inner fold of every set of features.

    Args:
        probe: of `make_probe`.
        features: name -> shape (clips, dimensions).
        target: class or number of each clip, shape (clips,).
        folds: of the clips.
        jobs: processes; each fits on one thread.
        on_job: told 1 when a fold of a set of features is done.
    Returns:
        One `Fitted` a set of features.
    Raises:
        ValueError: if a fold is too small for its score.
    """
    if probe.task == "regression":
        _refuse_single_clips(folds)
    work = [(name, fold) for name in features for fold in folds]
    done = joblib.Parallel(n_jobs=jobs, return_as="generator")(
        joblib.delayed(_fit_fold)(probe, features[name], target, fold) for name, fold in work
    )
    parts: dict[str, list[Any]] = {name: [] for name in features}
    for (name, _), part in zip(work, _counted(done, on_job), strict=True):
        parts[name].append(part)
    fitted = {
        name: Fitted(
            probe.settings,
            inner=np.stack([part[0] for part in of]),
            scores=np.stack([part[1] for part in of]),
            predictions=[part[2] for part in of],
            n_stopped=sum(part[3] for part in of),
        )
        for name, of in parts.items()
    }
    if stopped := {name: of.n_stopped for name, of in fitted.items() if of.n_stopped}:
        log.warning(
            "%d fits were ended before they had converged and count as they stood: %s",
            sum(stopped.values()), ", ".join(f"{n} of {name}" for name, n in stopped.items()),
        )  # fmt: skip
    return fitted


def _counted(done: Any, on_job: Callable[[int], object]) -> Iterator[Any]:
    for part in done:
        on_job(1)
        yield part


def _fit_fold(
    probe: Probe, features: NDArray[Any], target: NDArray[Any], fold: Fold
) -> tuple[Matrix, Matrix, NDArray[Any], int]:
    """(mean inner score, score, predictions) of each setting on one fold, and how many fits did not converge."""
    features = np.asarray(features, dtype=np.float64)
    pairs = [*fold.inner, (fold.train, fold.test)]
    scores, predictions, n_stopped = np.zeros((len(probe.settings), len(pairs))), [], 0
    with threadpool_limits(limits=1):  # there is a process for each core already
        for row, settings in zip(scores, probe.settings, strict=True):
            for column, (train, test) in enumerate(pairs):
                model, stopped = _fitted(probe, settings, features[train], target[train])
                n_stopped += stopped
                told = model.predict(features[test])
                row[column] = _score(probe.task, target[test], told)
            predictions.append(told)  # of the last pair, the fold itself
    inner = np.ascontiguousarray(scores[:, :-1]).mean(axis=1) if fold.inner else np.zeros(len(scores))
    return inner, scores[:, -1], np.stack(predictions), n_stopped


def _fitted(probe: Probe, settings: Settings, features: Matrix, target: NDArray[Any]) -> tuple[Any, bool]:
    """A fitted pipeline, and whether its fit was ended before it had converged."""
    model: Any = clone(probe.pipeline)
    model.set_params(**{name: clone(value, safe=False) for name, value in settings.items()})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(features, target)
    return model, any(issubclass(warning.category, ConvergenceWarning) for warning in caught)


def _score(task: Task, target: NDArray[Any], prediction: NDArray[Any]) -> float:
    """What the `score` of scikit-learn's classifiers and regressors is."""
    return float(r2_score(target, prediction) if task == "regression" else np.mean(target == prediction))


def _refuse_single_clips(folds: Sequence[Fold]) -> None:
    for fold in folds:
        if min(len(fold.test), *(len(test) for _, test in fold.inner), 2) < 2:
            raise ValueError(f"fold {fold.name} would score a single clip, and R² needs two: take fewer folds")


def nested(fitted: Mapping[str, Fitted]) -> Outcome:
    """The score of what the inner folds choose, in each fold, among the settings of all sets of features given."""
    names = list(fitted)
    best = np.stack([fitted[name].inner.max(axis=1) for name in names]).argmax(axis=0)  # one a fold; first of equals
    choices = [(names[n], int(fitted[names[n]].inner[fold].argmax())) for fold, n in enumerate(best)]
    return _outcome(choices, fitted)


def choi2017(fitted: Mapping[str, Fitted]) -> Outcome:
    """The best mean over the folds among the settings of all sets of features given: chosen on what is scored."""
    # along a row, as GridSearchCV sums: in another order the last bits of equal means would differ
    means = {name: np.ascontiguousarray(of.scores.T).mean(axis=1) for name, of in fitted.items()}
    best = max(means, key=lambda name: means[name].max())  # the first of equals
    n_folds = len(fitted[best].scores)
    return _outcome([(best, int(means[best].argmax()))] * n_folds, fitted)


def _outcome(choices: Sequence[tuple[str, int]], fitted: Mapping[str, Fitted]) -> Outcome:
    """What the chosen set of features and number of settings come to in each fold."""
    return Outcome(
        scores=[float(fitted[name].scores[fold, number]) for fold, (name, number) in enumerate(choices)],
        chosen=[(name, fitted[name].settings[number]) for name, number in choices],
        predictions=[fitted[name].predictions[fold][number] for fold, (name, number) in enumerate(choices)],
    )


def settings_said(settings: Settings) -> str:
    """Settings as they are read.

    >>> settings_said({"scaler": "passthrough", "classifier__C": 8.0, "classifier__gamma": 0.5**7})
    'unscaled, C 8, gamma 2^-7'
    >>> settings_said({"scaler": StandardScaler(), "classifier__C": 0.1, "classifier__kernel": "linear"})
    'C 0.1, linear'
    """
    said = ["unscaled"] if settings.get("scaler") == "passthrough" and len(settings) > 1 else []
    if "classifier__C" in settings:
        said.append(f"C {settings['classifier__C']:g}")
    if settings.get("classifier__kernel") == "linear":
        said.append("linear")
    if "classifier__gamma" in settings:
        gamma = settings["classifier__gamma"]
        said.append(f"gamma {gamma if isinstance(gamma, str) else f'2^{np.log2(gamma):g}'}")
    return ", ".join(said)

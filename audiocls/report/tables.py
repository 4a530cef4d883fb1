"""Tables of a run: metrics by epoch, scores by class, confusion, predictions, and the clips heard most wrongly.

Every file is written beside its place and renamed into it, so that a run killed at any moment leaves whole files.
What the columns hold is `audiocls.metrics`' business; drawing is that of `audiocls.report.figures`.
"""

from __future__ import annotations

import csv
import os
import re
import wave
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiocls.intervals import Intervals
from audiocls.metrics import Evaluation
from audiocls.report.style import called

Cell = str | float | int
# names of files that are not UTF-8 are spelt out, so that a table is
UTF8: dict[str, Any] = {"newline": "", "encoding": "utf-8", "errors": "backslashreplace"}


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Path:
    """Write a table, whole or not at all.

    Args:
        path: file to write; its folder is made.
        columns: header.
        rows: cells in the order of the columns.
    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", **UTF8) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([tidy(cell) for cell in row] for row in rows)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return path


def tidy(cell: Cell) -> Cell:
    r"""A number in the fewest digits that say it to float32, in which scores are logged, and a text without what Python
    leaves unquoted and others take for the end of a row.

    >>> tidy(0.30000001192092896), tidy("a\rb")
    (0.3, 'a\\rb')
    """
    if isinstance(cell, str):
        return cell.replace("\r", r"\r")
    return float(str(np.float32(cell))) if isinstance(cell, float) else cell


class MetricsTable:
    """One row an evaluation, kept in a CSV file that a resumed run goes on with.

    Rows read from the file keep their text, digit for digit. A column that appears late is empty in earlier rows.

    Args:
        path: the file; read if it exists.
        key: the columns that say which evaluation a row is.
    """

    def __init__(self, path: str | Path, *, key: Sequence[str] = ("epoch", "step")) -> None:
        self.path = Path(path)
        self.key = tuple(key)
        self.rows: list[dict[str, Cell]] = []
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                self.rows = [dict(row) for row in csv.DictReader(file)]

    def put(self, row: Mapping[str, Cell]) -> None:
        """Add a row, or the row's cells to the one that has its key, as they will be read again."""
        row = {name: tidy(cell) for name, cell in row.items()}
        for known in self.rows:
            if all(str(known.get(name, "")) == str(row[name]) for name in self.key):
                known.update(row)
                return
        self.rows.append(row)

    def drop_after(self, step: int) -> int:
        """Forget the rows of steps that are about to be run again; says how many they were."""
        kept = [row for row in self.rows if int(row["step"]) <= step]
        dropped = len(self.rows) - len(kept)
        self.rows = kept
        return dropped

    def save(self) -> Path:
        """Write the file."""
        columns = list(dict.fromkeys([*self.key, *(name for row in self.rows for name in row)]))
        return write_csv(self.path, columns, ([row.get(name, "") for name in columns] for row in self.rows))


def confusion_counts(evaluation: Evaluation) -> np.ndarray:
    """Clips by true class (rows) and heard class (columns), int64, of a multiclass evaluation."""
    n_classes = len(evaluation.class_names)
    cell = evaluation.target.numpy() * n_classes + evaluation.prediction.argmax(1).numpy()
    return np.bincount(cell, minlength=n_classes**2).reshape(n_classes, n_classes)


def write_classes(path: str | Path, evaluation: Evaluation, intervals: Intervals | None = None) -> Path:
    """Write a row a class, for regression a number: its name, its support and every score there is, with the ends of
    its interval behind it.
    """
    columns: dict[str, Sequence[Cell]] = {called(evaluation.task)[0]: evaluation.class_names, "support": []}
    for name, values in evaluation.per_class.items():
        columns[name] = list(map(int, values)) if name == "support" else values
        if intervals is not None and name in intervals.per_class:
            columns[f"{name}_low"], columns[f"{name}_high"] = zip(*intervals.per_class[name], strict=True)
    return write_csv(path, list(columns), zip(*columns.values(), strict=True))


def write_intervals(path: str | Path, evaluation: Evaluation, intervals: Intervals) -> Path:
    """Write a row a score: its value, the ends of its 95 % interval, and how often what was drawn for it."""
    drawn = [intervals.n_draws, intervals.n_units, intervals.unit]
    rows = [[name, evaluation.scalars[name], *ends, *drawn] for name, ends in intervals.scalars.items()]
    return write_csv(path, ["score", "value", "low", "high", "draws", "drawn", "unit"], rows)


def write_confusion(path: str | Path, evaluation: Evaluation) -> Path:
    """Write the confusion counts, a row a true class, a column a heard class."""
    rows = zip(evaluation.class_names, confusion_counts(evaluation).tolist(), strict=True)
    columns = ["true \\ heard", *evaluation.class_names]
    return write_csv(path, columns, ([name, *counts] for name, counts in rows))


def write_predictions(path: str | Path, evaluation: Evaluation, clip_ids: Sequence[str] | None = None) -> Path:
    """Write a row a clip: clip_id, target, prediction and each class's probability; for regression target and
    prediction of each number.

    Args:
        path: file to write.
        evaluation: what to write; several labels of a clip are joined by "|".
        clip_ids: of the whole split, by clip index; without them the index stands for the clip.
    """
    clips = [clip_ids[clip] if clip_ids is not None else str(clip) for clip in evaluation.clip.tolist()]
    values = [list(map(_short, row)) for row in evaluation.prediction.tolist()]
    if evaluation.task == "regression":
        columns = [f"{what}({name})" for what in ("target", "prediction") for name in evaluation.class_names]
        truth = [list(map(_short, row)) for row in evaluation.target.tolist()]
        rows = ([clip, *true, *heard] for clip, true, heard in zip(clips, truth, values, strict=True))
    else:
        columns = ["target", "prediction", *(f"p({name})" for name in evaluation.class_names)]
        labels = zip(*_labels(evaluation), strict=True)
        rows = (
            [clip, "|".join(true), "|".join(heard), *row]
            for clip, (true, heard), row in zip(clips, labels, values, strict=True)
        )
    return write_csv(path, ["clip_id", *columns], rows)


def _short(value: float) -> str:
    return f"{value:.6g}"


def _labels(evaluation: Evaluation) -> tuple[list[list[str]], list[list[str]]]:
    """Names of the true and of the heard classes of each clip; for regression the numbers with their names."""
    names = evaluation.class_names
    if evaluation.task == "regression":
        # in the name of a file a sign would be one hyphen of many
        true, heard = (
            [
                [f"{name} {'minus ' * (value < 0)}{abs(value):.3g}" for name, value in zip(names, row, strict=True)]
                for row in side.tolist()
            ]
            for side in (evaluation.target, evaluation.prediction)
        )
        return true, heard
    sides = (evaluation.labels, evaluation.decided)
    true, heard = ([[names[i] for i in np.flatnonzero(row)] for row in side.numpy()] for side in sides)
    return true, heard


@dataclass(frozen=True)
class Misheard:
    """A clip that the model got wrong.

    Attributes:
        clip: index in the split's table.
        true: names of the true classes.
        heard: names of the classes the model decided for.
        confidence: how wrong: the probability that the model gave to what is not so, in [0, 1]; for regression the
            error, in standard deviations of the target.
    """

    clip: int
    true: list[str]
    heard: list[str]
    confidence: float


def misheard(evaluation: Evaluation, most: int) -> list[Misheard]:
    """The clips heard most confidently wrong, worst first.

    Multiclass: a wrong clip's confidence is the probability of the class decided for. Multilabel: the largest
    distance between probability and label among the labels on the wrong side of their thresholds. Regression: the
    largest error of a clip's numbers, each in standard deviations of its target.

    Args:
        evaluation: what to look through.
        most: at most so many.
    """
    prediction, target = evaluation.prediction.numpy(), evaluation.target.numpy()
    if evaluation.task == "multiclass":
        wrong = prediction.argmax(1) != target
        confidence = np.where(wrong, prediction.max(1), -1) if len(wrong) else np.zeros(0)
    elif evaluation.task == "regression":
        spread = target.std(0)
        confidence = (np.abs(prediction - target) / np.where(spread > 0, spread, 1)).max(1)
    else:
        wrong = evaluation.decided.numpy() != evaluation.labels.numpy()
        confidence = np.where(wrong, np.abs(prediction - target), -1).max(1)
    order = [int(i) for i in np.argsort(-confidence, kind="stable")[:most] if confidence[i] >= 0]
    true, heard = _labels(evaluation)
    return [Misheard(int(evaluation.clip[i]), true[i], heard[i], float(confidence[i])) for i in order]


def wav_name(rank: int, clip: Misheard, clip_id: str, *, said: str = "heard") -> str:
    """File name of a misheard clip, safe on any file system: up to 60 bytes of each class side and of the clip's end.

    Args:
        rank: of the clip; no two clips of a folder have the same.
        clip: what was true and what was heard.
        clip_id: of the clip.
        said: what the model did.

    >>> wav_name(1, Misheard(0, ["Old-Time / Historic"], ["Pop"], 0.9), "000/000002.mp3")
    '01_true-Old-Time-Historic_heard-Pop_000-000002.wav'
    """
    true, heard = (_bytes("+".join(map(_safe, names)) or "nothing", 0, 60) for names in (clip.true, clip.heard))
    end = _bytes(_safe(re.sub(r"[.][A-Za-z0-9]+$", "", clip_id)), -60, None)
    return f"{rank:02d}_true-{true}_{said}-{heard}_{end}.wav"


def _bytes(name: str, first: int, last: int | None) -> str:
    """The letters that are whole between two bytes of a name: a file's may have 255 bytes, and a letter has up to 4."""
    return name.encode()[first:last].decode(errors="ignore")


def _safe(name: str) -> str:
    """Runs of anything but letters, digits, dot and underscore become one hyphen."""
    return re.sub(r"[^\w.]+", "-", name).strip("-.") or "x"


def write_wav(path: str | Path, pcm: np.ndarray, *, sample_rate: int) -> Path:
    """Write 16-bit PCM.

    Args:
        path: file to write; its folder is made.
        pcm: int16, shape (samples, channels).
        sample_rate: in Hz.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(pcm.shape[1])
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(np.ascontiguousarray(pcm, dtype="<i2").tobytes())
    return path

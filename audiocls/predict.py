"""`audiocls predict`: classify audio files with a checkpoint alone.

The checkpoint says the sample rate, the window length, the classes and the task, and for tags the thresholds that were
chosen on the validation split.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from audiocls.classifier import Classifier
from audiocls.metrics import Task
from audiocls.report.tables import UTF8, tidy
from audiocls.terminal import quiet_libraries
from audiocls.thresholds import UNKNOWN
from audiocls.trained import Parser, add_model_options, audio_files, check_out, chosen_checkpoint, heard, load
from datamodules.messages import printable

DECIDED: dict[Task, list[str]] = {"multiclass": ["label"], "multilabel": ["labels"], "regression": []}
"""Column of a table of predictions before those of the classes."""
log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Classify the files that are named; 0, or 1 if some could not be decoded, or 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    quiet_libraries()
    try:
        _check(options)
        classifier = load(chosen_checkpoint(options))
        files = audio_files(options.files)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"audiocls: error: {error}\n")
        return 2
    if classifier.task == "multilabel" and classifier.thresholds is None:
        log.info("the model holds no thresholds chosen in training: every tag is decided at %g", UNKNOWN)
    return classify(classifier.to("cuda" if torch.cuda.is_available() else "cpu"), files, options)


def classify(classifier: Classifier, files: list[Path], options: argparse.Namespace) -> int:
    """Print and write what is said of each file; the exit status."""
    n_failed, names = 0, classifier.class_names
    thresholds = UNKNOWN if classifier.thresholds is None else classifier.thresholds.numpy()
    with _table(options.out, ["path", *DECIDED[classifier.task], *names]) as write:
        for path, prediction, note in heard(
            classifier, files, classifier.predict_windows, batch_size=options.batch_size
        ):
            if note:
                sys.stderr.write(f"audiocls: {note}\n")
            if prediction is None:
                n_failed += 1
                continue
            column = decided(prediction, task=classifier.task, class_names=names, thresholds=thresholds)
            write([str(path), *column, *(f"{value:.6g}" for value in prediction)])
            sys.stdout.write(f"{printable(str(path))}  {said(prediction, column, classifier, n=options.top)}\n")
    if options.out and n_failed < len(files):
        sys.stdout.write(f"{len(files) - n_failed} files, all predictions: {options.out}\n")
    if n_failed:
        sys.stderr.write(f"audiocls: {n_failed} of {len(files)} files could not be decoded\n")
    return 1 if n_failed else 0


@contextlib.contextmanager
def _table(out: str | None, columns: Sequence[str]) -> Iterator[Callable[[Sequence[str]], object]]:
    """Write rows as they come into OUT.part, which becomes the table at the end: none is lost where this is stopped."""
    if out is None:
        yield lambda row: None
        return
    n_rows, part = 0, Path(f"{out}.part")
    with part.open("w", **UTF8) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)

        def write(row: Sequence[str]) -> None:
            nonlocal n_rows
            writer.writerow(map(tidy, row))
            file.flush()
            n_rows += 1

        try:
            yield write
        except KeyboardInterrupt:
            sys.stderr.write(f"audiocls: stopped: the predictions of {n_rows} files are in {part}\n")
            raise
    if n_rows:
        os.replace(part, out)
    else:
        part.unlink()


def decided(
    prediction: np.ndarray, *, task: Task, class_names: Sequence[str], thresholds: np.ndarray | float = UNKNOWN
) -> list[str]:
    """What stands in the column of DECIDED: the likeliest class, or the tags that reach their thresholds.

    >>> decided(np.array([0.6, 0.1, 0.7]), task="multilabel", class_names=["a", "b", "c"])
    ['a|c']
    """
    if task == "regression":
        return []
    if task == "multiclass":
        return [class_names[int(prediction.argmax())]]
    return ["|".join(name for name, there in zip(class_names, prediction >= thresholds, strict=True) if there)]


def said(prediction: np.ndarray, column: list[str], classifier: Classifier, *, n: int) -> str:
    """What is printed of a file: the likeliest classes, before them the tags that it has, or every number."""
    names = classifier.class_names
    if classifier.task == "regression":
        return "  ".join(f"{name} {value:.3f}" for name, value in zip(names, prediction, strict=True))
    likeliest = best(names, prediction, n)
    return likeliest if classifier.task == "multiclass" else f"{column[0] or 'no tag'}  ({likeliest})"


def best(class_names: list[str], probability: np.ndarray, n: int) -> str:
    """The likeliest classes, as `kick 0.98  tom 0.01`.

    >>> best(["a", "b", "c"], np.array([0.1, 0.7, 0.2]), 2)
    'b 0.700  c 0.200'
    """
    return "  ".join(f"{class_names[i]} {probability[i]:.3f}" for i in np.argsort(-probability, kind="stable")[:n])


def _check(options: argparse.Namespace) -> None:
    """Refuse what would fail once files are classified, a table that cannot be written among it."""
    for name in ("top", "batch_size"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.out:
        check_out(options.out, (".csv",))


def _parser() -> Parser:
    parser = Parser("audiocls predict", description="Classify audio files.", allow_abbrev=False)
    parser.add_argument("files", nargs="+", help="audio files, or folders of them")
    add_model_options(parser)
    parser.add_argument("--out", help="CSV table to write: what is decided, and a column a class")
    parser.add_argument("--top", type=int, default=3, help="classes to print a file (default: 3)")
    parser.add_argument("--batch_size", type=int, default=64, help="windows at a time (default: 64)")
    return parser

"""`audiocls predict`: classify audio files with a checkpoint alone.

The checkpoint says the sample rate, the window length, the classes and the task, and for tags the thresholds that were
chosen on the validation split. Each file is decoded as for a store, cut into all its windows, and scored by the mean of
their predictions, as in validation and test.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml

from audiocls.classifier import Classifier
from audiocls.runs import find_checkpoint, find_config, read_checkpoint
from audiocls.terminal import quiet_libraries, shortened
from audiocls.thresholds import UNKNOWN
from datamodules.batching.crops import all_windows, pad_short, padded_length
from datamodules.decoding.decode import DecodeError, decode
from datamodules.decoding.sources import find_sources

log = logging.getLogger(__name__)


def main(arguments: list[str]) -> int:
    """Classify the files that are named; 0, or 1 if some could not be decoded, or 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    quiet_libraries()
    try:
        _check(options)
        checkpoint = find_checkpoint(_run_dir(options), options.ckpt_path)
        read_checkpoint(checkpoint)
        files = [path for name in options.files for path in _files(Path(name))]
        classifier = _load(checkpoint)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"audiocls: error: {error}\n")
        return 2
    if classifier.task == "multilabel" and classifier.thresholds is None:
        log.info("the model holds no thresholds chosen in training: every tag is decided at %g", UNKNOWN)
    classifier.to("cuda" if torch.cuda.is_available() else "cpu")
    rows, failed = [], 0
    for path in files:
        try:
            prediction = classify(classifier, path, batch_size=options.batch_size)
        except DecodeError as error:
            sys.stderr.write(f"audiocls: {error}\n")
            failed += 1
            continue
        labels = ["|".join(labels_of(classifier, prediction))] if classifier.task == "multilabel" else []
        rows.append([str(path), *labels, *prediction.tolist()])
        sys.stdout.write(f"{path}  {said(classifier, prediction, options.top)}\n")
    if options.out and rows:
        columns = ["path", *(["labels"] if classifier.task == "multilabel" else []), *classifier.class_names]
        pd.DataFrame(rows, columns=pd.Index(columns)).to_csv(options.out, index=False)
        sys.stdout.write(f"{len(rows)} files, all predictions: {options.out}\n")
    if failed:
        sys.stderr.write(f"audiocls: {failed} of {len(files)} files could not be decoded\n")
    return 1 if failed else 0


def _load(checkpoint: Path) -> Classifier:
    """The model of a checkpoint, in evaluation mode; its classes are imported.

    Raises:
        ValueError: if one of them cannot be imported or refuses its settings.
    """
    try:
        return Classifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    except argparse.ArgumentError as error:
        said = shortened(str(error))
        if module := re.search(r"No module named '([^']+)'", said):
            said = (
                f"the model needs the module {module.group(1)!r}, which is not found: run where it lies, or put its "
                "folder on PYTHONPATH"
            )
        raise ValueError(f"{checkpoint} cannot be loaded: {said}") from None


def classify(classifier: Classifier, path: Path, *, batch_size: int = 64) -> np.ndarray:
    """Probability of each class (or each number) for one audio file: the mean over its windows.

    Args:
        classifier: in evaluation mode.
        path: of the audio file.
        batch_size: windows at a time.
    Returns:
        Shape (num_classes,), float64.
    Raises:
        DecodeError: if the file holds no readable audio.
    """
    pcm = decode(path, sample_rate=classifier.sample_rate, channels=classifier.n_channels).pcm.T
    length = pcm.shape[1]
    hop = max(round(classifier.hop_seconds * classifier.sample_rate), 1)
    if classifier.clip_seconds is None:
        n_samples = int(padded_length(np.array(length), hop))
    else:
        n_samples = round(classifier.clip_seconds * classifier.sample_rate)
    _, starts = all_windows(np.array([length]), n_samples, hop)
    total = np.zeros(len(classifier.class_names))
    for first in range(0, len(starts), batch_size):
        part = starts[first : first + batch_size]
        windows = np.zeros((len(part), classifier.n_channels, n_samples), dtype=np.int16)
        for window, start in zip(windows, part, strict=True):
            window[:, : length - start] = pcm[:, start : start + n_samples]
        pad_short(windows, np.minimum(length - part, n_samples), classifier.padding)
        total += classifier.predict_windows(torch.from_numpy(windows)).double().sum(0).cpu().numpy()
    return total / len(starts)


def labels_of(classifier: Classifier, prediction: np.ndarray) -> list[str]:
    """The tags that reach their thresholds; 0.5 where the checkpoint holds none."""
    at = UNKNOWN if classifier.thresholds is None else classifier.thresholds.numpy()
    return [classifier.class_names[i] for i in np.flatnonzero(prediction >= at)]


def said(classifier: Classifier, prediction: np.ndarray, n: int) -> str:
    """What is printed of a file: the likeliest classes, before them the tags that it has, or every number."""
    if classifier.task == "regression":
        return "  ".join(f"{name} {value:.3f}" for name, value in zip(classifier.class_names, prediction, strict=True))
    likeliest = best(classifier.class_names, prediction, n)
    if classifier.task == "multiclass":
        return likeliest
    return f"{'|'.join(labels_of(classifier, prediction)) or 'no tag'}  ({likeliest})"


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
        out = Path(options.out)
        out.parent.mkdir(parents=True, exist_ok=True)
        there = out.exists()
        out.open("a").close()
        if not there:
            out.unlink()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return [source.path for source in find_sources(path)]
    if not path.is_file():
        raise ValueError(f"audio file {str(path)!r} does not exist")
    return [path]


def _run_dir(options: argparse.Namespace) -> Path:
    if options.run_dir is None and options.config is not None:
        options.run_dir = (yaml.safe_load(find_config(options.config).read_text()) or {}).get("run_dir")
    if options.run_dir is None and options.ckpt_path in ("best", "last"):
        raise ValueError("say which model: --ckpt_path FILE, --run_dir DIR or --config YAML")
    return Path(options.run_dir or ".")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("audiocls predict", description="Classify audio files.", allow_abbrev=False)
    parser.add_argument("files", nargs="+", help="audio files, or folders of them")
    parser.add_argument(
        "--ckpt_path", default="best", help="a checkpoint, or best or last of --run_dir (default: best)"
    )
    parser.add_argument("--run_dir", help="folder of the run that trained the model")
    parser.add_argument("--config", help="a configuration whose run_dir is meant")
    parser.add_argument("--out", help="CSV table to write: a column a class, before them the tags that are there")
    parser.add_argument("--top", type=int, default=3, help="classes to print a file (default: 3)")
    parser.add_argument("--batch_size", type=int, default=64, help="windows at a time (default: 64)")
    return parser

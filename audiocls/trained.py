"""A trained model by its checkpoint, and audio as it hears it: what `predict`, `embed` and `export` share.

A file is decoded as for a store and cut into all its windows, and what is measured of it is the mean over them, as in
validation and test.
"""

from __future__ import annotations

import argparse
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from audiocls.classifier import Classifier
from audiocls.configurations import find_config, has_keys
from audiocls.runs import find_checkpoint, read_checkpoint
from audiocls.terminal import nearest, option_names, shortened
from datamodules.batching.crops import all_windows, pad_short, padded_length
from datamodules.decoding.decode import Decoded, DecodeError, decode
from datamodules.decoding.sources import find_sources
from datamodules.messages import printable

Measure = Callable[[Tensor], Tensor]
"""Waveforms (batch, channels, time), int16 PCM or float32 in [-1, 1), to numbers (batch, numbers)."""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, without the usage in front of it, and which option is nearest."""

    def error(self, message: str) -> NoReturn:
        """End with status 2."""
        hint = nearest(message, option_names(self, leave_out=("help", "files"))) or f" (see {self.prog} --help)"
        self.exit(2, f"audiocls: error: {message}{hint}\n")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Options that say which model."""
    add = parser.add_argument
    add("--ckpt_path", default="best", help="a checkpoint, or best or last of --run_dir (default: best)")
    add("--run_dir", help="folder of the run that trained the model")
    add("--config", help="a configuration whose run_dir is meant")


def chosen_checkpoint(options: argparse.Namespace) -> Path:
    """The checkpoint that the options of `add_model_options` name.

    Raises:
        ValueError: if they name none, or one that does not exist.
    """
    run_dir = options.run_dir
    if run_dir is None and options.config is not None:
        config = find_config(options.config)
        run_dir = yaml.safe_load(config.read_text(encoding="utf-8-sig")).get("run_dir") if has_keys(config) else None
    if run_dir is None and options.ckpt_path in ("best", "last"):
        raise ValueError("say which model: --ckpt_path FILE, --run_dir DIR or --config YAML")
    return find_checkpoint(Path(run_dir or "."), options.ckpt_path)


def load(checkpoint: str | Path) -> Classifier:
    """The model of a checkpoint of ours, on the processor and in evaluation mode; its classes are imported.

    Raises:
        ValueError: if the file cannot be read as one, or one of the classes cannot be imported or refuses its settings.
    """
    read_checkpoint(Path(checkpoint))
    try:
        return Classifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True).eval()
    except argparse.ArgumentError as error:
        raise ValueError(f"{checkpoint} cannot be loaded: {shortened(str(error))}") from None


def audio_files(names: Sequence[str]) -> list[Path]:
    """The files that are named, and those in the folders that are named.

    Raises:
        ValueError: if a name is of no file, or a folder holds no audio.
    """
    found: list[Path] = []
    for path in map(Path, names):
        if path.is_dir():
            found += [source.path for source in find_sources(path)]
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"audio file {str(path)!r} does not exist, or is no file")
    return found


def check_out(out: str, suffixes: Sequence[str]) -> None:
    """Refuse a file to write before anything is computed for it.

    Raises:
        ValueError: if its name does not end as it should.
        OSError: if it cannot be written.
    """
    path = Path(out)
    if path.suffix not in suffixes:
        raise ValueError(f"--out must end in {' or '.join(suffixes)}, got {out!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ValueError(f"--out {out} is no file that can be written: give another")


class Heard(NamedTuple):
    """What is measured of a file."""

    path: Path
    mean: NDArray[np.float64] | None  # over its windows; None where it cannot be decoded
    note: str  # why it cannot be, or what is missing of it; empty where nothing is


def heard(model: Classifier, files: Iterable[Path], measure: Measure, *, batch_size: int) -> Iterator[Heard]:
    """What is measured of each file, in order.

    Files are decoded ahead of the model, by as many threads as there are cores, and windows of short ones are measured
    together.

    Args:
        model: in evaluation mode, on the device to compute on; says how long windows are and how they are filled.
        files: to decode.
        measure: of their windows.
        batch_size: windows at a time.
    """
    together = 0 if model.clip_seconds is None else batch_size * window_samples(model)
    group: list[tuple[Path, Decoded | DecodeError]] = []
    n_samples = 0
    for path, decoded in _decoded(files, sample_rate=model.sample_rate, channels=model.n_channels):
        group.append((path, decoded))
        n_samples += 0 if isinstance(decoded, DecodeError) else len(decoded.pcm)
        if n_samples >= together:
            yield from _measured(model, group, measure, batch_size)
            group, n_samples = [], 0
    yield from _measured(model, group, measure, batch_size)


def _decoded(files: Iterable[Path], *, sample_rate: int, channels: int) -> Iterator[tuple[Path, Decoded | DecodeError]]:
    waiting: deque[tuple[Path, Future[Decoded]]] = deque()
    n_threads = len(os.sched_getaffinity(0))
    pool = ThreadPoolExecutor(n_threads)
    rest = iter(files)
    try:
        while True:
            for path in islice(rest, 2 * n_threads - len(waiting)):
                waiting.append((path, pool.submit(decode, path, sample_rate=sample_rate, channels=channels)))
            if not waiting:
                return
            path, begun = waiting.popleft()
            try:
                yield path, begun.result()
            except DecodeError as error:
                yield path, error
    finally:
        pool.shutdown(cancel_futures=True)


def _measured(
    model: Classifier, group: Sequence[tuple[Path, Decoded | DecodeError]], measure: Measure, batch_size: int
) -> Iterator[Heard]:
    """What is measured of some files; where windows are whole clips, of one."""
    clips = [decoded.pcm.T for _, decoded in group if not isinstance(decoded, DecodeError)]
    means = iter(window_means(model, clips, measure, batch_size=batch_size) if clips else ())
    for path, decoded in group:
        if isinstance(decoded, DecodeError):
            yield Heard(path, None, str(decoded))
        else:
            yield Heard(path, next(means), f"{printable(str(path))}: {decoded.note}" if decoded.note else "")


def window_means(
    model: Classifier,
    clips: Sequence[NDArray[np.int16] | NDArray[np.float32]],
    measure: Measure,
    *,
    batch_size: int = 64,
) -> NDArray[np.float64]:
    """Mean over all windows of each clip, cut as in validation.

    Args:
        model: as of `heard`.
        clips: at least one, of shape (channels, samples), at the model's sample rate; int16 PCM, or all of them float32
            in [-1, 1). Where windows are whole clips, no more than one.
        measure: of their windows; `model.predict_windows` gives predictions.
        batch_size: windows at a time.
    Returns:
        Shape (clips, numbers).
    Raises:
        ValueError: for a clip of another shape or kind of number.
    """
    for clip in clips:
        _check_clip(clip, model.n_channels, kind=clips[0].dtype)
    lengths = np.array([clip.shape[1] for clip in clips])
    hop = max(round(model.hop_seconds * model.sample_rate), 1)
    n_samples = int(padded_length(lengths, hop)[0]) if model.clip_seconds is None else window_samples(model)
    of, starts = all_windows(lengths, n_samples, hop)
    own = np.minimum(lengths[of] - starts, n_samples)
    measured: list[NDArray[np.float64]] = []
    for first in range(0, len(starts), batch_size):
        part = slice(first, first + batch_size)
        windows = np.zeros((len(starts[part]), model.n_channels, n_samples), dtype=clips[0].dtype)
        for window, i, start, length in zip(windows, of[part], starts[part], own[part], strict=True):
            window[:, :length] = clips[i][:, start : start + length]
        pad_short(windows, own[part], model.padding)
        with torch.no_grad():
            measured.append(measure(torch.from_numpy(windows)).double().cpu().numpy())
    sums = np.zeros((len(clips), measured[0].shape[1]))
    np.add.at(sums, of, np.concatenate(measured))
    return sums / np.bincount(of)[:, None]


def _check_clip(clip: NDArray[Any], n_channels: int, *, kind: np.dtype[Any]) -> None:
    if clip.ndim != 2 or clip.shape[0] != n_channels or clip.shape[1] == 0:
        hint = ": clip[None] is one channel" if clip.ndim == 1 else ""
        raise ValueError(f"a clip must be ({n_channels} channels, samples), got shape {clip.shape}{hint}")
    if clip.dtype not in (np.int16, np.float32) or clip.dtype != kind:
        raise ValueError(f"clips must all be int16 PCM, or all float32 in [-1, 1), got {clip.dtype}")


def window_samples(model: Classifier) -> int:
    """Length of the windows of a model that does not take clips whole."""
    assert model.clip_seconds is not None
    return round(model.clip_seconds * model.sample_rate)


def layer_maps(model: Classifier, waveform: Tensor) -> dict[str, Tensor]:
    """Map of each block of the head by its name, the embedding last, of waveforms (batch, channels, time)."""
    spectrogram = model.frontend(waveform.to(model.device, non_blocking=True))
    return model.head.forward_intermediates(spectrogram.to(model.head.output.weight.dtype))


def averaged(of: Tensor) -> Tensor:
    """A map (batch, features, …) as its mean over bins and frames, (batch, features), float32."""
    return (of if of.ndim == 2 else of.flatten(2).mean(dim=2)).float()


def write_arrays(path: Path, /, **arrays: NDArray[Any]) -> Path:
    """Write arrays under their names as an npz file, whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    return path

"""What a trained net says of the clips of any data set: one vector a clip and layer, and two controls beside them.

Every evaluation window of a clip goes through front-end and head; each block's map is averaged over bins and frames,
and a clip's vector is the mean over its windows. All windows weigh the same, as where clips are classified: the last
one ends with the clip and is as long as the others, and a clip shorter than a window has one.

The controls are the same net with weights that nobody has trained, and the MFCCs of the paper.

Source: Choi et al. 2017, arXiv:1703.09179. Different here: maps are averaged over windows of the data's `clip_seconds`
in place of one of 29 s, and batch norms have the statistics that the net was trained to, not the batch's.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning.cli import instantiate_module
from torch import Tensor, nn

import audiocls
from audiocls.classifier import Classifier
from audiocls.frontends import MFCC, NoNormalization
from audiocls.trained import averaged, layer_maps, write_arrays
from datamodules.base import AudioDataModule
from datamodules.batching.dataset import ClipDataset, Clips, EvaluationBatches
from datamodules.batching.loader import BatchLoader
from datamodules.fetching.progress import Progress, silent

log = logging.getLogger(__name__)

Features = dict[str, NDArray[np.float32]]
"""Layer -> shape (clips, features), in the order of the data's table."""

N_MFCC = 20
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
MADE_OF = "made_of"  # of a file of features: what they were made of, as JSON


class FeatureError(Exception):
    """A net gives no numbers for a clip."""


def layer_features(model: Classifier, data: AudioDataModule, *, progress: Progress = silent) -> Features:
    """The mean of each block's map, over bins, frames and windows.

    Args:
        model: put into evaluation mode; where its weights are, the windows go.
        data: whose clips are described, all of its table.
        progress: told of the batches that are done.
    Returns:
        One array a block, the keys being the head's `layer_names`.
    Raises:
        ValueError: if the model is for another sample rate or number of channels than the data has.
        FeatureError: if a feature of a clip is no finite number.
    """
    check_audio(model, data)
    model.eval()

    def measure(waveform: Tensor) -> dict[str, Tensor]:
        return {name: averaged(of) for name, of in layer_maps(model, waveform).items()}

    found = clip_means(data, measure, what="features", progress=progress)
    return {name: _finite(name, of, data) for name, of in found.items()}


def mfcc_features(data: AudioDataModule, *, progress: Progress = silent) -> Features:
    """The paper's baseline: 20 MFCCs, mean and standard deviation of them and of their first and second differences.

    Frames of 2048 samples each 512 (above 48 kHz as many times more as keep a Fourier bin in each of 128 mel filters),
    librosa's defaults, over all windows of a clip. Differences are plain ones between neighbouring frames; a clip
    without three frames has zeros for them.

    Args:
        data: whose clips are described, all of its table.
        progress: told of the batches that are done.
    Returns:
        "MFCC" -> shape (clips, 120).
    Source: Choi et al. 2017, arXiv:1703.09179; keunwoochoi/transfer_learning_music, `utils_featext.py`.
    """
    scale = 2 ** max(math.ceil(math.log2(data.sample_rate / 48_000)), 0)
    frontend = MFCC(
        data.sample_rate,
        n_fft=2048 * scale,
        hop_length=512 * scale,
        n_mfcc=N_MFCC,
        n_mels=128,
        normalization=NoNormalization,
    ).eval()

    def measure(waveform: Tensor) -> dict[str, Tensor]:
        return {"MFCC": _moments(frontend(waveform))}

    moments = clip_means(data, measure, what="MFCCs", progress=progress)["MFCC"]
    mean, square = moments.reshape(len(moments), 3, 2, N_MFCC).transpose(2, 0, 1, 3)  # each (clips, 3, 20)
    deviation = np.sqrt(np.maximum(square - mean**2, 0))
    return {"MFCC": _finite("MFCC", np.stack((mean, deviation), axis=2).reshape(len(moments), -1), data)}


def _moments(coefficients: Tensor) -> Tensor:
    """Mean and mean square of coefficients (batch, channels, 20, frames) and of two differences, (batch, 120)."""
    of, moments = coefficients.double(), []
    for _ in range(3):
        moments += [of.mean(dim=(1, 3)), of.square().mean(dim=(1, 3))]
        of = of.diff(dim=-1) if of.shape[-1] > 1 else torch.zeros_like(of)
    return torch.cat(moments, dim=1)


def clip_means(
    data: AudioDataModule, measure: Callable[[Tensor], Mapping[str, Tensor]], *, what: str, progress: Progress = silent
) -> dict[str, NDArray[np.float64]]:
    """Mean over each clip's evaluation windows of what is measured of them.

    Args:
        data: the clips of its whole table.
        measure: waveforms (batch, channels, time) to named numbers (batch, numbers).
        what: is measured, for the progress.
        progress: told of the batches that are done.
    Returns:
        Name -> shape (clips, numbers), in the order of the table.
    """
    n_clips = len(data.table)
    sums: dict[str, Tensor] = {}
    n_windows = torch.zeros(n_clips, 1, dtype=torch.float64)
    for clip, waveform in _windows(data, what=what, progress=progress):
        with torch.no_grad():
            measured = {name: value.cpu().double() for name, value in measure(waveform).items()}
        n_windows.index_add_(0, clip, torch.ones(len(clip), 1, dtype=torch.float64))
        for name, value in measured.items():
            sums.setdefault(name, value.new_zeros(n_clips, value.shape[1])).index_add_(0, clip, value)
    return {name: (of / n_windows).numpy() for name, of in sums.items()}


def _windows(data: AudioDataModule, *, what: str, progress: Progress) -> Iterator[tuple[Tensor, Tensor]]:
    """(row of the table (batch,), waveform) of every evaluation window of every clip."""
    rows = data.store.rows(data.table["clip_id"].to_numpy())
    clips = Clips(data.store, rows, torch.zeros(len(rows)))
    batches = EvaluationBatches(
        clips.lengths, n_samples=data.clip_samples, hop=data.hop_samples, batch_size=data.batch_size
    )
    loader = BatchLoader(
        ClipDataset(clips, padding=data.padding),
        batches,
        threads=data.threads,
        num_workers=data.num_workers,
        pinned=torch.cuda.is_available(),
    )
    with progress(what, 0, len(batches)) as step:
        for batch in loader:
            yield batch.clip, batch.waveform
            step(1)


def check_audio(model: Classifier, data: AudioDataModule) -> None:
    """Refuse clips that the model cannot hear as it heard its own."""
    if model.sample_rate != data.sample_rate:
        raise ValueError(
            f"the checkpoint was trained at {model.sample_rate} Hz but {data.store_path} is at {data.sample_rate} Hz: "
            f"decode again with --sample-rate {model.sample_rate} into another folder, and name it with --data.store"
        )
    if model.n_channels != data.store.channels:
        raise ValueError(
            f"the checkpoint was trained on audio of {model.n_channels} channels but {data.store_path} has "
            f"{data.store.channels}: decode again with --channels {model.n_channels} into another folder, and name it "
            "with --data.store"
        )


def _finite(name: str, found: NDArray[np.float64], data: AudioDataModule) -> NDArray[np.float32]:
    bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if len(bad):
        raise FeatureError(
            f"{name} of clip {data.table['clip_id'].iloc[bad[0]]!r} is no finite number ({len(bad)} such clips)"
        )
    return found.astype(np.float32)


# --- the net without its training ---


def with_random_weights(
    checkpoint: Mapping[str, Any], data: AudioDataModule, *, seed: int, device: str, progress: Progress = silent
) -> Classifier:
    """The net of a checkpoint, front-end included, as it was before its training, with weights drawn anew.

    The running statistics of an untrained batch norm are 0 and 1, so that in evaluation it would do nothing, and what
    the layers behind it get would be far from what they were drawn for. They are gathered here once, over all windows
    of the data, each batch counting the same. No label is looked at, but the clips that are scored later are among
    them: the control is given rather too much than too little.

    Args:
        checkpoint: what `audiocls.runs.read_checkpoint` gives.
        data: whose clips the statistics are of.
        seed: of the draw.
        device: to compute on.
        progress: told of the batches that are done.
    Raises:
        ValueError: as `layer_features`, or if no batch has two windows, of which there could be statistics.
    """
    recipe = {name: value for name, value in checkpoint["hyper_parameters"].items() if not name.startswith("_")}
    recipe |= {"augment": None, "distill": None}  # of training alone
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = instantiate_module(Classifier, recipe)
    model.to(device)
    check_audio(model, data)
    norms = [part for part in model.eval().modules() if isinstance(part, NORMS)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over the batches
        norm.train()
    n_seen = 0
    for _, waveform in _windows(data, what=f"statistics of random weights {seed}", progress=progress) if norms else ():
        if len(waveform) > 1:  # a map of one place has no variance in a batch of one
            n_seen += 1
            with torch.no_grad():
                layer_maps(model, waveform)
    if norms and not n_seen:
        raise ValueError(
            "random weights need batches of at least two windows for the statistics of their batch norms: set "
            "data.clip_seconds and a data.batch_size of 2 or more, or leave the control out with --random_weights"
        )
    return model.eval()


# --- layers that say the same ---


def repeated_layers(features: Mapping[str, NDArray[np.float32]]) -> dict[str, str]:
    """Layers whose features are those of an earlier one: the later name -> the earlier.

    An embedding that is the mean of the last map is one. Equal means within 1e-4 of the largest feature, for means are
    taken in another order.

    >>> repeated_layers({"conv": np.ones((2, 3), np.float32), "embedding": np.ones((2, 3), np.float32)})
    {'embedding': 'conv'}
    """
    known: dict[str, NDArray[np.float32]] = {}
    repeated = {}
    for name, of in features.items():
        near = 1e-4 * float(np.abs(of).max(initial=0))
        same = [
            other for other, its in known.items() if its.shape == of.shape and np.allclose(its, of, rtol=0, atol=near)
        ]
        if same:
            repeated[name] = same[0]
        else:
            known[name] = of
    return repeated


# --- features that are kept ---


def made_of(data: AudioDataModule, **more: Any) -> dict[str, Any]:
    """All that features depend on, where it is known what they are of.

    Args:
        data: whose store, clips and windows they are of.
        more: what else, such as the digest of a checkpoint.
    """
    clip_ids = "\n".join(data.table["clip_id"]).encode(errors="surrogateescape")
    return {
        "store": digest(data.store_path / "store.json"),  # which has the checksums of all shards
        "clips": hashlib.sha256(clip_ids).hexdigest(),
        "window": data.clip_samples,
        "hop": data.hop_samples,
        "padding": data.padding,
        "versions": [audiocls.__version__, str(torch.__version__)],
    } | more


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kept_or_made(path: Path, made_of: Mapping[str, Any], make: Callable[[], Features]) -> Features:
    """Features from a file if they were made of the same, else made and kept there, whole or not at all."""
    known = read_features(path)
    if known is not None and known[0] == dict(made_of):
        log.info("%s is used again: checkpoint, store and windows are the same", path)
        return known[1]
    features = make()
    write_arrays(path, **{MADE_OF: np.array(json.dumps(made_of))}, **_numbered(features))
    return features


def _numbered(features: Features) -> dict[str, Any]:
    """Arrays in order, under names that no layer's can collide with."""
    return {f"{number:03d} {name}": of for number, (name, of) in enumerate(features.items())}


def read_features(path: Path) -> tuple[dict[str, Any], Features] | None:
    """(what they were made of, features) of a file; None where there is none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            names = sorted(set(file.files) - {MADE_OF})
            return json.loads(str(file[MADE_OF])), {name.partition(" ")[2]: file[name] for name in names}
    except FileNotFoundError:
        return None
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError) as error:
        log.warning("%s cannot be read (%s) and is made anew", path, error)
        return None

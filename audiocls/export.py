"""`audiocls export`: a trained model as one ONNX file, from PCM to predictions, for machines without torch.

The graph takes windows of any number and length, float32 in [-1, 1) or int16, and gives what `Classifier.forward`
gives after its softmax or sigmoid. All that a caller needs beside it stands in the file's metadata, as JSON under the
key "audiocls": class names, task, sample rate, how long windows are and how they are filled, thresholds. Before the
file is kept, onnxruntime computes with it what torch does.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiocls.classifier import Classifier
from audiocls.losses import predictions
from audiocls.terminal import quiet_libraries
from audiocls.trained import Parser, add_model_options, check_out, chosen_checkpoint, load

DTYPES = {"float32": torch.float32, "int16": torch.int16}
INPUT, OUTPUT = "waveform", "prediction"
KEY = "audiocls"  # of the metadata
TOLERANCE = 1e-3  # of the largest prediction: other Fourier transforms, and quiet bins in a logarithm
LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
log = logging.getLogger(__name__)


class Predictor(nn.Module):
    """Predictions (batch, num_classes) of waveforms (batch, channels, time).

    Args:
        model: whose they are.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, waveform: Tensor) -> Tensor:
        """Probabilities, for regression numbers; float32."""
        return predictions(self.model(waveform), task=self.model.task)


def main(arguments: list[str]) -> int:
    """Write the model; 0, or 1 if onnxruntime does not agree with torch, or 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    quiet_libraries()
    try:
        check_out(options.out, (".onnx",))
        check_libraries()
        model = load(chosen_checkpoint(options))
    except (ValueError, OSError) as error:
        sys.stderr.write(f"audiocls: error: {error}\n")
        return 2
    out = Path(options.out)
    log.info("writing the graph, and trying it with onnxruntime: this takes some seconds")
    try:
        error = export(model, out, dtype=DTYPES[options.dtype])
    except ExportError as failed:
        sys.stderr.write(f"audiocls: {failed}\n")
        return 1
    sys.stdout.write(
        f"{out}  {out.stat().st_size / 1e6:.1f} MB: {INPUT} {options.dtype} (batch, {model.n_channels}, time) at "
        f"{model.sample_rate} Hz to {OUTPUT} (batch, {len(model.class_names)}); onnxruntime is within {error:.0e} of "
        "torch\n"
    )
    return 0


class ExportError(Exception):
    """There is no graph of the model, or it does not give what the model gives."""


def check_libraries() -> None:
    """Refuse to begin without what writes and runs ONNX.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        for name in LIBRARIES:
            importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"ONNX needs {error.name}: pip install {' '.join(LIBRARIES)}") from None


def export(model: Classifier, out: Path, *, dtype: torch.dtype = torch.float32) -> float:
    """Write a model as ONNX, whole or not at all, once onnxruntime agrees with it.

    Args:
        model: on the processor.
        out: the file.
        dtype: of the PCM that the graph takes: float32 in [-1, 1), or int16.
    Returns:
        The largest difference of a prediction between onnxruntime and torch, as a share of the largest prediction.
    Raises:
        ExportError: if that is above 1e-3, or the model does not go into a graph that onnxruntime can compute.
    """
    predictor = Predictor(model)
    window = round((model.clip_seconds or 1.0) * model.sample_rate)
    with quiet_exporter(), torch.no_grad(), one_line():
        free = ({0: "batch", 2: "time"},)  # without bounds, for which it traces twice, and to graphs of one length
        example = sweeps(2, model.n_channels, window, dtype)
        program: Any = torch.onnx.export(
            predictor, (example,), dynamo=True, dynamic_shapes=free, verbose=False,
            input_names=[INPUT], output_names=[OUTPUT],
        )  # fmt: skip
    program.model.metadata_props[KEY] = json.dumps(described(model), ensure_ascii=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        program.save(temporary)
        sizes = (1, window), (3, 2 * window + 17), (2, max(window // 3, 1))
        signals = [sweeps(n_clips, model.n_channels, n_samples, dtype) for n_clips, n_samples in sizes]
        error = float(np.max([difference(predictor, temporary, signal) for signal in signals]))  # nan stays nan
        if not error <= TOLERANCE:
            raise ExportError(f"the graph's predictions are off by {error:.1e} of the largest, so {out} is not written")
        os.replace(temporary, out)
    finally:
        temporary.unlink(missing_ok=True)
    return error


def described(model: Classifier) -> dict[str, Any]:
    """What a caller needs beside the graph."""
    return {
        "class_names": model.class_names,
        "task": model.task,
        "sample_rate": model.sample_rate,
        "channels": model.n_channels,
        "clip_seconds": model.clip_seconds,
        "hop_seconds": model.hop_seconds,
        "padding": model.padding,
        "thresholds": None if model.thresholds is None else model.thresholds.tolist(),
    }


def sweeps(n_clips: int, n_channels: int, n_samples: int, dtype: torch.dtype) -> Tensor:
    """Sweeps with noise, each clip 20 dB below the one before; shape (clips, channels, samples).

    >>> sweeps(2, 1, 100, torch.int16).shape
    torch.Size([2, 1, 100])
    """
    generator = torch.Generator().manual_seed(0)
    place = torch.linspace(0, 1, n_samples)
    sweep = 0.5 * torch.sin(torch.pi * n_samples * place.square() / 2)
    noise = 0.1 * torch.randn(n_clips, n_channels, n_samples, generator=generator)
    waveform = ((sweep + noise) * 10.0 ** -torch.arange(n_clips)[:, None, None]).clamp(-1, 1 - 2**-15)
    return waveform if dtype.is_floating_point else (waveform * 2**15).to(dtype)


def difference(predictor: Predictor, path: Path, waveform: Tensor) -> float:
    """Largest difference between the graph in a file and the model, as a share of the largest prediction."""
    onnxruntime = importlib.import_module("onnxruntime")
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (ours,) = session.run([OUTPUT], {INPUT: waveform.numpy()})
    except Exception as error:  # what onnxruntime raises has no class in common
        shape, reason = tuple(waveform.shape), " ".join(str(error).split())
        raise ExportError(f"onnxruntime cannot compute the graph of windows of shape {shape}: {reason}") from error
    with torch.no_grad():
        expected = predictor(waveform)
    return float((torch.from_numpy(ours) - expected).abs().max() / expected.abs().max())


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """The reason of the exporter without its pages; AUDIOCLS_TRACEBACK=1 shows them."""
    try:
        yield
    except torch.onnx.OnnxExporterError as error:
        if os.environ.get("AUDIOCLS_TRACEBACK"):
            raise
        cause = error.__cause__ or error
        reason = next((line.strip() for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
        raise ExportError(f"the model does not go into a graph ({reason}): AUDIOCLS_TRACEBACK=1 shows where") from None


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Leave out each step of the exporter, which has no switch for it, and what it says of its own insides."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _parser() -> Parser:
    parser = Parser(
        "audiocls export", description="Write a trained model as ONNX, from PCM to predictions.", allow_abbrev=False
    )
    add_model_options(parser)
    parser.add_argument("--out", required=True, help="file to write, named .onnx")
    parser.add_argument(
        "--dtype", default="float32", choices=DTYPES, help="of the PCM: float32 in [-1, 1) or int16 (default: float32)"
    )
    return parser

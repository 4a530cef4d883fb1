"""How much a model computes: multiply-adds for a second of audio, of the front-end and the head together.

Counted from shapes alone, on torch's meta device, by torch's own counter: nothing is computed, no weight is copied, and
the figure is the same on every machine. Counted are convolutions, matrix products (those inside recurrent layers and
attention too) and Fourier transforms; left out is what works element by element: windows, norms, activations, pooling,
compression. A filterbank counts as the dense product it is on a GPU; on a processor most of it is skipped.

From shapes as well: the shortest audio that a head is made for.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from audiocls.frontends.base import Frontend
from audiocls.heads.base import Head
from audiocls.heads.blocks import PadTo
from audiocls.heads.map_pools import AdaptiveFrames, WholeWindows

log = logging.getLogger(__name__)


def n_trained(module: nn.Module) -> int:
    """Number of parameters that are learnt.

    >>> n_trained(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def multiply_adds_per_second(frontend: Frontend, head: Head, *, seconds: float) -> float | None:
    """Multiply-adds of the model in evaluation, for a second of one clip.

    Args:
        frontend: waveform to spectrogram.
        head: spectrogram to logits.
        seconds: length of the clip it is counted on; padding and a class token weigh more in a short one.
    Returns:
        Multiply-adds of that clip divided by `seconds`; None, and a warning with the reason, where the model cannot be
        run on shapes alone, such as one that asks for the value of a number.
    """
    n_samples = _n_samples(frontend, seconds)
    counter = FlopCounterMode(display=False, custom_mapping=_FOURIER)
    waveform = torch.zeros(1, head.n_channels // frontend.n_maps, n_samples, device="meta")
    try:
        with _evaluating(frontend), _evaluating(head), torch.no_grad(), counter:
            spectrogram = functional_call(frontend, _on_meta(frontend), (waveform,))
            functional_call(head, _on_meta(head), (spectrogram.to(head.output.weight.dtype),))
    except Exception as error:  # noqa: BLE001 - a figure for the log must not stop a run
        log.warning(
            "the multiply-adds are not counted: %s and %s do not run on shapes alone (%s: %s)",
            type(frontend).__name__, type(head).__name__, type(error).__name__, error,
        )  # fmt: skip
        return None
    return counter.get_total_flops() / 2 / seconds


def least_seconds(frontend: Frontend, head: Head, *, seconds: float) -> float:
    """Length of the shortest clip in which every pool of the head finds a whole window, and nothing is padded.

    Shorter clips are classified as well: they are padded, frames are repeated, or pools take what there is. Where the
    head pads to a multiple, it is the first that is meant.

    Args:
        frontend: waveform to spectrogram.
        head: spectrogram to logits, one that runs on shapes alone (`multiply_adds_per_second`).
        seconds: a length of clip; it is the answer where it suffices, or nothing up to 65,536 times as long does.
    """

    @functools.cache
    def suffices(n_frames: int) -> bool:
        spectrogram = torch.zeros(1, head.n_channels, head.n_bins, n_frames, device="meta")
        with _evaluating(head), torch.no_grad(), _lacking(head) as lacking:
            functional_call(head, _on_meta(head), (spectrogram.to(head.output.weight.dtype),))
        return not lacking

    first = _n_samples(frontend, seconds)
    doubled = (first << times for times in range(17))
    enough = next((n_samples for n_samples in doubled if suffices(frontend.n_frames(n_samples))), first)
    if enough == first:
        return seconds
    too_short = enough // 2
    while enough - too_short > 1:
        middle = (too_short + enough) // 2
        too_short, enough = (too_short, middle) if suffices(frontend.n_frames(middle)) else (middle, enough)
    return enough / frontend.sample_rate


@contextmanager
def _lacking(head: Head) -> Iterator[list[nn.Module]]:
    """The parts that had fewer frames than they ask for, in a list that fills as the head runs."""
    lacking: list[nn.Module] = []

    def look(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if inputs[0].shape[-1] < _wanted_frames(part):
            lacking.append(part)

    hooks = [part.register_forward_pre_hook(look) for part in head.modules() if _wanted_frames(part) > 1]
    try:
        yield lacking
    finally:
        for hook in hooks:
            hook.remove()


def _wanted_frames(part: nn.Module) -> int:
    """Frames under which a part makes up for what is missing."""
    if isinstance(part, PadTo):
        return max(part.n_frames, part.frame_multiple)
    if isinstance(part, AdaptiveFrames):
        return part.n_frames
    if isinstance(part, WholeWindows):
        return part.pool[1]
    if isinstance(part, nn.MaxPool2d | nn.AvgPool2d):
        return part.kernel_size if isinstance(part.kernel_size, int) else part.kernel_size[1]
    return 1


def _n_samples(frontend: Frontend, seconds: float) -> int:
    return max(round(seconds * frontend.sample_rate), 1)


def with_prefix(number: float) -> str:
    """A number to two digits with its SI prefix, as it stands before a unit.

    >>> with_prefix(1234567890), with_prefix(56300), with_prefix(999600), with_prefix(12)
    ('1.2 G', '56 k', '1.0 M', '12')
    """
    digits, exponent = f"{number:.1e}".split("e")
    thousands = max(min(int(exponent) // 3, 4), 0)
    scaled = float(digits) * 10 ** (int(exponent) - 3 * thousands)
    said = f"{scaled:.1f}" if thousands and scaled < 10 else f"{scaled:.0f}"
    return f"{said} {' kMGT'[thousands]}".strip()


def _on_meta(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers without their numbers."""
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    return {name: tensor.to("meta") for name, tensor in named}


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """In evaluation mode for as long as the context lasts; then each part in the mode it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def _real_fourier(shape: Sequence[int], dim: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """Floating-point operations of transforms of real numbers: half of those of complex ones."""
    return _complex_fourier(shape, dim) // 2


def _real_inverse(
    shape: Sequence[int], dim: Sequence[int], normalization: int, last_size: int, *args: Any, **kwargs: Any
) -> int:
    """The same backwards, from half of a spectrum to `last_size` samples."""
    sizes = list(shape)
    sizes[dim[-1]] = last_size
    return _real_fourier(sizes, dim)


def _complex_fourier(shape: Sequence[int], dim: Sequence[int], *args: Any, **kwargs: Any) -> int:
    """5 n log2 n a transform of n complex numbers, the measure that FFTW's authors compare transforms by."""
    n = math.prod(shape[axis] for axis in dim)
    return round(5 * math.prod(shape) * math.log2(n))


_FOURIER = {
    torch.ops.aten._fft_r2c: _real_fourier,
    torch.ops.aten._fft_c2r: _real_inverse,
    torch.ops.aten._fft_c2c: _complex_fourier,
}

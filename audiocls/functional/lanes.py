"""The way from waveform to energies on a processor, without a spectrum in memory.

Windowed frames and their spectrum are several times the size of the waveform, and writing them to memory and reading
them back takes longer than the Fourier transforms. `lane_kernels` goes the whole way for sixteen frames at a time; here
it is fed. This is for the processor, and without gradients but those of the filterbank; what needs others goes through
`stft`. The numbers are the same but for the order of sums.
"""

import math
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from audiocls.functional.framing import PadMode, n_frames, window_in_frame
from audiocls.functional.lane_threads import kernels, share

_LARGEST_FACTOR = 13  # of half a frame's length; a stage of a larger one would take longer than what it replaces


class FilterGroups(NamedTuple):
    """A filterbank two filters and two bins at a time, from the first bin that either takes from to the last."""

    first: np.ndarray  # (pairs of filters,), the first bin of each
    offset: np.ndarray  # (pairs of filters + 1,), where each one's pairs of bins begin, and where the last one's end
    weight: np.ndarray  # (pairs of bins of all pairs of filters, times bins, times filters,), float32
    n_filters: int


def filter_groups(weight: Tensor) -> FilterGroups:
    """A filterbank without the zeros outside of its filters.

    Args:
        weight: shape (n_filters, n_freqs), in main memory.
    Returns:
        First bins, offsets and weights of pairs of neighbouring filters.

    >>> filter_groups(torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])).weight
    array([1., 0., 2., 3.], dtype=float32)
    """
    first, offset, packed = kernels().grouped(weight.detach().to(torch.float32).contiguous().numpy())
    return FilterGroups(first, offset, packed, len(weight))


_NO_FILTERS = FilterGroups(np.empty(0, np.int64), np.zeros(1, np.int64), np.empty(0, np.float32), 0)


@lru_cache
def fits_lanes(n_fft: int) -> bool:
    """Whether `lane_energy` takes frames of this length: even, and half of it without a prime factor above 13.

    >>> [n_fft for n_fft in (400, 512, 1000, 1023, 1102) if fits_lanes(n_fft)]
    [400, 512, 1000]
    """
    return n_fft % 2 == 0 and max(_radices(n_fft // 2), default=1) <= _LARGEST_FACTOR


def lane_energy(
    waveform: Tensor,
    filterbank: Tensor | None = None,
    *,
    n_fft: int,
    hop_length: int,
    window: Tensor,
    center: bool = True,
    pad_mode: PadMode = "constant",
    power: float = 2.0,
    groups: FilterGroups | None = None,
) -> Tensor:
    """Power (or magnitude) of the short-time Fourier transform, through a filterbank where there is one.

    A frame's numbers do not depend on which frames and clips stand beside it, nor on the number of threads. Gradients
    reach the filterbank alone; for them the bins of the transform are kept.

    Args:
        waveform: shape (..., time), float32 in [-1, 1) or int16 PCM, in main memory.
        filterbank: shape (n_bins, n_fft // 2 + 1); None leaves the bins of the transform.
        n_fft: length of a frame and of the transform, in samples, for which `fits_lanes` holds.
        hop_length: distance between frames, in samples.
        window: shape (win_length,), win_length at most n_fft; a shorter one stands in the middle of the frame.
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stands outside the clip where `center` needs it: "constant" (zeros) or "reflect".
        power: 2.0 for power, 1.0 for magnitude.
        groups: what `filter_groups` makes of the filterbank, if that is at hand.
    Returns:
        Shape (..., n_bins, frames), float32.
    Raises:
        ValueError: as `stft`, if `n_fft` does not fit, or if the filterbank is over other bins than its.
        TypeError: if `waveform` is neither float32 nor int16.

    >>> lane_energy(torch.zeros(2, 1000), n_fft=512, hop_length=100, window=torch.ones(400)).shape
    torch.Size([2, 257, 11])
    """
    if not fits_lanes(n_fft):
        raise ValueError(
            f"n_fft must be even and without a prime factor above {_LARGEST_FACTOR}, got {n_fft}: use stft"
        )
    if waveform.dtype not in (torch.float32, torch.int16):
        raise TypeError(f"waveform must be float32 or int16, got {waveform.dtype}: convert it to float32")
    if filterbank is not None and filterbank.shape[1:] != (n_fft // 2 + 1,):
        raise ValueError(
            f"filterbank must have n_fft // 2 + 1 = {n_fft // 2 + 1} columns, got shape {tuple(filterbank.shape)}"
        )
    if center and pad_mode not in ("constant", "reflect"):
        raise ValueError(f"pad_mode must be 'constant' or 'reflect', got {pad_mode!r}")
    frames = _Frames(
        waveform.detach().contiguous().numpy(),
        window_in_frame(window.detach().to(torch.float32), n_fft).contiguous().numpy(),
        hop_length,
        n_frames(waveform.shape[-1], n_fft=n_fft, hop_length=hop_length, center=center),
        n_fft // 2 if center else 0,
        pad_mode == "reflect",
        power == 1.0,
    )
    if filterbank is None:
        return frames.energies(None)[0]
    if torch.is_grad_enabled() and filterbank.requires_grad:
        energy: Any = _Differentiable.apply(filterbank, frames)
        return energy
    return frames.energies(groups or filter_groups(filterbank), powers=False)[1]


class _Frames(NamedTuple):
    """Waveforms (..., time), and how frames are taken from them."""

    samples: np.ndarray  # (..., time)
    window: np.ndarray  # (n_fft,), float32
    hop_length: int
    number: int  # of each clip
    left: int  # samples that stand before a clip and after it
    mirrored: bool
    magnitude: bool

    def energies(self, groups: FilterGroups | None, *, powers: bool = True) -> tuple[Tensor, Tensor]:
        """The bins of the transform (..., n_freqs, frames) and the filterbank's; no bins of what is not wanted."""
        leading, n_fft = self.samples.shape[:-1], len(self.window)
        n_clips = math.prod(leading)
        n_frames = max(self.number, kernels().N_LANES)  # clips of less than a tile get silence after them
        first, offset, weight, n_filters = groups or _NO_FILTERS
        made, filled = [], []
        for n_bins in (n_fft // 2 + 1 if powers else 0, n_filters):
            energy = torch.empty(*leading, n_bins, n_frames, dtype=torch.float32)
            made.append(energy if self.number == n_frames else energy[..., : self.number])
            filled.append(energy.numpy().reshape(n_clips, n_bins, n_frames))
        samples = self.samples.reshape(n_clips, self.samples.shape[-1])
        read = (samples, self.window, self.hop_length, self.left, self.mirrored)
        settings = (*read, *_transform(n_fft), self.magnitude)
        n_tiles = n_clips * -(-n_frames // kernels().N_LANES)
        share(kernels().energies, (*settings, first, offset, weight, *filled), n_tiles)
        return made[0], made[1]


class _Differentiable(torch.autograd.Function):
    """Energies with a gradient for the filterbank."""

    @staticmethod
    def forward(ctx: Any, filterbank: Tensor, frames: _Frames) -> Tensor:
        powers, energy = frames.energies(filter_groups(filterbank))
        ctx.save_for_backward(powers)
        return energy

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (grad,), (powers,) = grad_outputs, ctx.saved_tensors
        grad, powers = (numbers.reshape(-1, *numbers.shape[-2:]) for numbers in (grad, powers))
        # Not in place, so that this can be differentiated once more.
        return torch.addbmm(grad.new_zeros(grad.shape[1], powers.shape[1]), grad, powers.transpose(1, 2)), None


@lru_cache(maxsize=32)
def _transform(n_fft: int) -> tuple[np.ndarray, ...]:
    """The transform of real frames by a complex one of half the length, in stages that decimate in frequency.

    Returns:
        The radix of each stage; the turns of each, exp(-2 pi i k p / n) for k of 1 to radix - 1 within each p, and
        before them, where the radix is odd and the stage not the first, its roots; exp(-2 pi i k / n_fft); and where
        the stages after the first leave each number of a block. Complex numbers are pairs.
    """
    radices = _radices(n_fft // 2)
    turns, n = list[np.ndarray](), n_fft // 2
    for radix in radices:
        if radix % 2 and turns:
            turns.append(np.arange(radix) / radix)
        n //= radix
        turns.append((np.arange(n)[:, None] * np.arange(1, radix) / (n * radix)).ravel())
    pairs = [_circle(np.concatenate(turns)), _circle(np.arange(n_fft // 2) / n_fft)]
    places = np.zeros(1, np.int64)
    for radix in reversed(radices[1:]):
        places = (places[:, None] + len(places) * np.arange(radix)).ravel()
    return np.array(radices, np.int64), *(numbers.astype(np.float32) for numbers in pairs), places


def _circle(turns: np.ndarray) -> np.ndarray:
    """exp(-2 pi i turns) as pairs, in float64."""
    return np.stack((np.cos(2 * np.pi * turns), -np.sin(2 * np.pi * turns)), axis=-1).ravel()


def _radices(length: int) -> list[int]:
    """8, 4, 2 or 1 first, and at least the eight numbers that are cut at a time left; then odd ones, then 2, 4 and 8.

    >>> _radices(512), _radices(200), _radices(15)
    ([8, 8, 8], [8, 5, 5], [1, 3, 5])
    """
    first = next(radix for radix in (8, 4, 2, 1) if radix == 1 or (length % radix == 0 and length >= 8 * radix))
    rest, odd, twos, factor = length // first, list[int](), 0, 3
    while rest % 2 == 0 and rest:
        rest, twos = rest // 2, twos + 1
    while rest > 1:
        if rest % factor:
            factor += 2
        else:
            odd.append(factor)
            rest //= factor
    fours = (0, 2, 1)[twos % 3] if twos > 1 else 0  # 4 * 4 is quicker than 2 * 8
    return [first, *odd, *[2] * (twos == 1), *[4] * fours, *[8] * ((twos - 2 * fours) // 3)]

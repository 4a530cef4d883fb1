"""The way from waveform to energies a block of frames at a time, so that what lies between stays in the cache.

Windowed frames and their spectrum are several times the size of the waveform, and writing them to memory and reading
them back takes longer than the Fourier transforms. Here they live in buffers of one block, used over and over. This is
for the processor and without gradients; what needs those goes through `stft`. The numbers are the same but for the
order of sums in the filterbank.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from audiocls.functional.framing import PadMode, pad_to_frames, window_in_frame

# The frames of a block fill this much on each thread, and their spectrum as much again: about the second cache of a
# core. Larger blocks have fewer calls, but take more memory that the system has to hand out first.
_BLOCK_BYTES = 2**20
_BAND_FILTERS = 16  # columns from which on a matrix product runs at full speed


class Band(NamedTuple):
    """Neighbouring filters of a filterbank, and the bins of the transform that any of them takes from."""

    filters: slice
    bins: slice


def filter_bands(weight: Tensor) -> list[Band]:
    """Cut a filterbank into bands whose products, taken one by one, leave out most of its zeros.

    Args:
        weight: filterbank, shape (n_bins, n_freqs).
    Returns:
        Bands that together hold every weight but zeros; a single one where cutting would save less than half.

    >>> [band.bins for band in filter_bands(torch.eye(32))]
    [slice(0, 16, None), slice(16, 32, None)]
    """
    n_bins, n_freqs = weight.shape
    bands = [_band(weight, start, min(start + _BAND_FILTERS, n_bins)) for start in range(0, n_bins, _BAND_FILTERS)]
    n_products = sum((filters.stop - filters.start) * (bins.stop - bins.start) for filters, bins in bands)
    return bands if n_products <= n_bins * n_freqs / 2 else [_band(weight, 0, n_bins)]


def _band(weight: Tensor, start: int, stop: int) -> Band:
    taken = (weight[start:stop] != 0).any(dim=0).nonzero().flatten().tolist()
    return Band(slice(start, stop), slice(taken[0], taken[-1] + 1) if taken else slice(0, 0))


def blocked_energy(
    waveform: Tensor,
    filterbank: Tensor | None = None,
    *,
    n_fft: int,
    hop_length: int,
    window: Tensor,
    center: bool = True,
    pad_mode: PadMode = "constant",
    power: float = 2.0,
    bands: Sequence[Band] = (),
) -> Tensor:
    """Power (or magnitude) of the short-time Fourier transform, through a filterbank where there is one.

    Args:
        waveform: shape (clips, time), float32 or float64.
        filterbank: shape (n_bins, n_fft // 2 + 1); None leaves the bins of the transform.
        n_fft: length of a frame and of the transform, in samples.
        hop_length: distance between frames, in samples.
        window: shape (win_length,), win_length at most n_fft; a shorter one stands in the middle of the frame.
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stands outside the clip where `center` needs it: "constant" (zeros) or "reflect".
        power: 2.0 for power, 1.0 for magnitude.
        bands: the parts of the filterbank that are not zero, from `filter_bands`.
    Returns:
        Shape (clips, n_bins, frames); it carries no gradient.
    Raises:
        ValueError: as `stft`.

    >>> blocked_energy(torch.zeros(2, 1000), n_fft=512, hop_length=100, window=torch.ones(400)).shape
    torch.Size([2, 257, 11])
    """
    window = window_in_frame(window.to(waveform.dtype), n_fft)
    padded = pad_to_frames(waveform, n_fft=n_fft, hop_length=hop_length, center=center, pad_mode=pad_mode)
    frames = padded.unfold(-1, n_fft, hop_length)  # (clips, frames, n_fft), overlapping in memory
    n_rows, length = frames.shape[0] * frames.shape[1], _block_length(frames)
    power_block = frames.new_empty(length, n_fft // 2 + 1)
    if filterbank is None:
        energy = frames.new_empty(n_rows, n_fft // 2 + 1)
        for rows, squares in _squares(frames, window):
            _add(squares, power, out=energy[rows])
    else:
        energy = frames.new_empty(n_rows, len(filterbank))
        weight = filterbank.t().to(frames.dtype)
        # All views that do not depend on the block are made once: a view takes as long as ten thousand products.
        products = [(power_block[:, bins], weight[bins, filters], energy[:, filters]) for filters, bins in bands]
        for rows, squares in _squares(frames, window):
            n = len(squares)
            _add(squares, power, out=power_block[:n])
            for columns, part, out in products:
                torch.mm(columns[:n], part, out=out[rows])
    return energy.unflatten(0, frames.shape[:2]).transpose(-1, -2)


def _squares(frames: Tensor, window: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Squared real and imaginary parts of frames (clips, frames, n_fft), block by block.

    Yields:
        Which rows of all frames, clip after clip, the block holds; and its squares (block, n_freqs, 2).
    """
    windowed = frames.new_empty(_block_length(frames), frames.shape[-1])
    start = 0
    for block in _blocks(frames):
        n = block.shape[0] * block.shape[1]
        torch.mul(block, window, out=windowed[:n].view(block.shape))
        squares = torch.view_as_real(torch.fft.rfft(windowed[:n]))  # with out= it would be made elsewhere and copied
        yield slice(start, start + n), squares.mul_(squares)
        start += n


def _blocks(frames: Tensor) -> Iterator[Tensor]:
    """Frames (clips, frames, n_fft) cut into blocks: several whole clips each, or an even part of one."""
    n_frames, length = frames.shape[1], _block_length(frames)
    for clips in frames.split(max(length // n_frames, 1)):
        yield from clips.split(length, dim=1)


def _block_length(frames: Tensor) -> int:
    """Most frames that a block of these frames (clips, frames, n_fft) holds."""
    n_clips, n_frames, n_fft = frames.shape
    length = max(_BLOCK_BYTES * torch.get_num_threads() // (n_fft * frames.element_size()), 1)
    if length >= n_frames:
        return n_frames * min(length // n_frames, n_clips)
    n_parts = -(-n_frames // length)
    return -(-n_frames // n_parts)


def _add(squares: Tensor, power: float, *, out: Tensor) -> None:
    """Real and imaginary part together: power, or its root."""
    torch.add(squares[..., 0], squares[..., 1], out=out)
    if power == 1.0:
        out.sqrt_()

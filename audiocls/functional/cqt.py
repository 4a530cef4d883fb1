"""Constant-Q and variable-Q transforms of real waveforms, exact at any hop.

Wavelets, lengths, padding and scale are librosa's. So is what a wavelet hears: an octave at a time, the non-negative
frequencies of a frame of the next power of two. What is not librosa's is the arithmetic. librosa lowers the sample rate
by two from octave to octave with a resampler, as far as the hop can be halved, and drops 1 % of each wavelet; here
every octave is filtered at the full rate and lowered to the rate of the frames in the Fourier domain, where that is a
sum over aliases. No resampler, no loss, no condition on the hop, and one long transform serves many frames.

Beside the 2 % that this costs librosa, it mirrors a clip (pad_mode "reflect") octave by octave after lowering the rate,
about the last sample that is left, after k halvings up to 2^k - 1 before the clip's own: at the end of noise its lower
octaves can be off by more than half of the peak. Here all octaves hear the same mirrored clip.

Inverting it is in `audiocls.functional.icqt`. Estimating the tuning of a recording is left out.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from audiocls.functional.framing import PadMode, WindowSpec, pad
from audiocls.functional.framing import window as sampled_window

C1 = 32.70319566257483  # Hz, the note

# Octaves are put together until the longest frame is eight times the shortest: fewer transforms, still small kernels.
_SPAN = 8
# A block is about twice as long as a wavelet's frame: longer ones transform fewer samples twice, but waste short clips.
_FRAMES_PER_BLOCK = 2
# Responses below this part of their peak are cut off: near float32's rounding, and half of the work of Hann wavelets.
_NEGLIGIBLE = 2.0**-21


class WaveletBand(NamedTuple):
    """Neighbouring bins that hear the same blocks of a waveform, and how they hear them.

    A block of n_fft samples gives `advance` frames, of which the first is centred on sample `reach` of the block.
    """

    response: Tensor
    """Wavelets over the frequencies of a block, from `first_fold` times n_fft / hop_length on: shape
    (n_fft / hop_length, folds, n_bins, 2). Frequencies along the second dimension become one at the rate of the
    frames; the last is real and imaginary part."""
    hop_length: int
    reach: int
    """Samples on either side of its centre that a frame hears, at most."""
    first_fold: int
    peak: Tensor
    """Largest magnitude of each wavelet over time, shape (n_bins,)."""

    @property
    def n_fft(self) -> int:
        """Length of a block, in samples; a multiple of the hop."""
        return self.response.shape[0] * self.hop_length

    @property
    def advance(self) -> int:
        """Frames of a block whose wavelets lie within it."""
        return (self.n_fft - 2 * self.reach) // self.hop_length + 1


def cqt_frequencies(n_bins: int, *, f_min: float, bins_per_octave: int = 12, tuning: float = 0.0) -> Tensor:
    """Frequencies evenly spaced on a logarithmic scale.

    Args:
        n_bins: how many, at least 1.
        f_min: the lowest, in Hz, positive.
        bins_per_octave: how many to a doubling of frequency, at least 1.
        tuning: raises all of them by this fraction of a bin.
    Returns:
        Hz, shape (n_bins,), float64.
    Raises:
        ValueError: if `n_bins` or `bins_per_octave` is below 1, or `f_min` is not positive.
    Source: librosa.cqt_frequencies.

    >>> cqt_frequencies(3, f_min=110.0, bins_per_octave=1)
    tensor([110., 220., 440.], dtype=torch.float64)
    """
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    if bins_per_octave < 1:
        raise ValueError(f"bins_per_octave must be at least 1, got {bins_per_octave}")
    if f_min <= 0:
        raise ValueError(f"f_min must be positive, got {f_min} Hz: a constant-Q transform has no bin at 0 Hz")
    return f_min * 2.0 ** ((torch.arange(n_bins, dtype=torch.float64) + tuning) / bins_per_octave)


def cqt_bands(
    *,
    sample_rate: int,
    hop_length: int,
    n_bins: int = 84,
    f_min: float = C1,
    bins_per_octave: int = 12,
    filter_scale: float = 1.0,
    norm: float | None = 1.0,
    window: WindowSpec = "hann",
    tuning: float = 0.0,
    gamma: float | None = 0.0,
) -> list[WaveletBand]:
    """The wavelets of a constant-Q or variable-Q transform, ready for `cqt`. Worth keeping: made in float64, slowly.

    Args:
        sample_rate: of the waveforms, in Hz.
        hop_length: distance between frames, in samples; any.
        n_bins: number of bins.
        f_min: centre of the lowest bin, in Hz; C1 unless given.
        bins_per_octave: bins to a doubling of frequency.
        filter_scale: length of the wavelets as a factor; below 1 is finer in time, above 1 in frequency.
        norm: order of the norm that each wavelet is divided by (1, 2, math.inf); None divides by nothing.
        window: what scipy.signal.get_window takes: "hann", or with parameters ("kaiser", 14.0).
        tuning: raises all bins by this fraction of a bin.
        gamma: bandwidth that is added to each wavelet's, in Hz: 0 is constant Q, above 0 shortens the lowest wavelets;
            None adds what makes bandwidths proportional to the ear's (ERB).
    Returns:
        Bands from the lowest bin to the highest; responses in float64.
    Raises:
        ValueError: if a setting is out of range, or the highest wavelet reaches beyond sample_rate / 2.
    Source: Brown 1991; Schörkhuber and Klapuri 2010; Schörkhuber et al. 2014 for `gamma`; librosa.vqt.

    >>> bands = cqt_bands(sample_rate=22050, hop_length=512)
    >>> sum(band.response.shape[2] for band in bands)
    84
    """
    frequencies = cqt_frequencies(n_bins, f_min=f_min, bins_per_octave=bins_per_octave, tuning=tuning)
    if hop_length < 1:
        raise ValueError(f"hop_length must be at least 1 sample, got {hop_length}")
    if filter_scale <= 0:
        raise ValueError(f"filter_scale must be positive, got {filter_scale}")
    if gamma is not None and gamma < 0:
        raise ValueError(f"gamma must be at least 0 Hz, or None for bandwidths as the ear's, got {gamma}")
    ratio = 2.0 ** (2.0 / bins_per_octave)
    alpha = (ratio - 1.0) / (ratio + 1.0)
    offset = 24.7 * alpha / 0.108 if gamma is None else gamma
    _check_nyquist(frequencies, sample_rate, f_min, alpha / filter_scale, offset, window)
    lengths = filter_scale * sample_rate / (alpha * frequencies + offset)
    # Octaves count down from the highest bin, and what an octave hears is set by its longest wavelet, as in librosa.
    first = n_bins % bins_per_octave
    octaves = [slice(first + i, first + i + bins_per_octave) for i in range(0, n_bins - first, bins_per_octave)]
    octaves = [slice(0, first), *octaves] if first else octaves
    frames = [
        _analytic(
            [_wavelet(float(f) / sample_rate, float(length), window, norm) for f, length in zip(*octave, strict=True)],
            2 ** math.ceil(math.log2(octave[1][0])),
        )
        for octave in ((frequencies[bins], lengths[bins]) for bins in octaves)
    ]
    bands: list[WaveletBand] = []
    while frames:
        n_octaves = sum(frame.shape[1] * _SPAN >= frames[0].shape[1] for frame in frames)
        bands.append(_band(frames[:n_octaves], hop_length))
        del frames[:n_octaves]
    return bands


def cqt(waveform: Tensor, bands: list[WaveletBand], *, pad_mode: PadMode = "constant") -> Tensor:
    """Constant-Q or variable-Q transform, whichever the bands are of.

    Frame i is centred on sample i * hop_length. The clip may be shorter than a wavelet.

    Args:
        waveform: shape (..., time), float32 or float64.
        bands: from `cqt_bands`.
        pad_mode: what stands outside the clip: "constant" (zeros) or "reflect".
    Returns:
        Complex, shape (..., n_bins, 1 + time // hop_length).
    Raises:
        ValueError: if the clip holds no sample, or `pad_mode` is neither.
    Source: librosa.cqt and librosa.vqt with sparsity=0; max |difference| <= 5e-6 max |librosa| where librosa does not
        resample (an odd hop).

    >>> cqt(torch.zeros(2, 1, 1000), cqt_bands(sample_rate=22050, hop_length=441)).shape
    torch.Size([2, 1, 84, 3])
    """
    if waveform.shape[-1] < 1:
        raise ValueError("waveform must hold at least 1 sample, got 0")
    clips = waveform.reshape(-1, waveform.shape[-1])
    spectrum = torch.cat([_hear(clips, band, pad_mode) for band in bands], dim=-2)
    return spectrum.reshape(*waveform.shape[:-1], *spectrum.shape[-2:])


def band_response(wavelets: Tensor, band: WaveletBand) -> Tensor:
    """What wavelets hear in the blocks of a band, in the layout of `WaveletBand.response`.

    Args:
        wavelets: complex, shape (n_bins, 2 * half) with half at most `band.reach`; time 0 at sample half - 1.
        band: says the length of a block and the frequencies to keep.
    Returns:
        Shape (n_fft / hop_length, folds, n_bins, 2), real.
    """
    n_rates, n_folds = band.response.shape[:2]
    spectrum = _block_spectrum(wavelets, band.n_fft, band.reach)
    kept = spectrum.roll(-band.first_fold * n_rates, dims=-1)[:, : n_folds * n_rates]
    return torch.view_as_real(kept.reshape(-1, n_folds, n_rates).permute(2, 1, 0)).contiguous()


def _hear(clips: Tensor, band: WaveletBand, pad_mode: PadMode) -> Tensor:
    """Transform of clips (clips, time) at the bins of one band: complex, shape (clips, n_bins, frames)."""
    n_clips, time = clips.shape
    hop_length, advance = band.hop_length, band.advance
    n_frames = 1 + time // hop_length
    n_blocks = 1 + time // (advance * hop_length)
    # Convolution around a circle of n_fft samples: a block gives the frames whose wavelets do not go around.
    padded = F.pad(pad(clips, band.reach, band.reach, pad_mode), (0, band.n_fft - 2 * band.reach))
    blocks = padded.unfold(-1, band.n_fft, advance * hop_length)
    kernel = torch.view_as_complex(band.response.to(clips.dtype))
    n_rates, n_folds = kernel.shape[:2]
    half = torch.fft.rfft(blocks).flatten(end_dim=1)
    spectrum = _arc(half, band.n_fft, band.first_fold * n_rates, n_folds * n_rates)
    # Samples hop_length apart do not tell frequencies apart that differ by a multiple of their rate: the sum over those
    # is all a frame keeps of them. It and the product with the wavelets are one matrix product for each frequency left.
    heard = torch.bmm(spectrum.reshape(-1, n_folds, n_rates).permute(2, 0, 1), kernel)
    frames = torch.fft.ifft(heard, dim=0, norm="forward")[:advance]
    frames = frames.reshape(advance, n_clips, n_blocks, -1).permute(1, 3, 2, 0)
    frames = frames.reshape(n_clips, -1, n_blocks * advance)
    # `[..., :n_frames]`, of which torch.export would make a condition on the length: that there is something to cut.
    return frames.index_select(-1, torch.arange(n_frames, device=clips.device))


def _arc(half: Tensor, n_fft: int, start: int, length: int) -> Tensor:
    """`length` frequencies from `start` on of real blocks' half spectrum, as if it went around a circle of n_fft."""
    nyquist, stop = n_fft // 2, start + length
    parts = [half[:, max(start, 0) : stop]]
    if start < 0:
        parts.insert(0, half[:, 1 : 1 - start].conj().flip(-1))
    if stop > nyquist + 1:
        parts.append(half[:, n_fft - stop + 1 : n_fft - nyquist].conj().flip(-1))
    return torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


def _block_spectrum(wavelets: Tensor, n_fft: int, reach: int) -> Tensor:
    """Spectrum of wavelets in blocks of n_fft samples: complex, shape (n_bins, n_fft)."""
    # A product of spectra is a convolution around a circle: frame 0 comes out at sample 0 if time 0 of the wavelets is
    # `reach` samples before it. Dividing by n_fft stands here and not in the inverse transform of every block.
    length = wavelets.shape[-1]
    block = F.pad(wavelets, (0, n_fft - length)).roll(1 - length // 2 - reach, dims=-1)
    return torch.fft.fft(block, norm="forward")


def _wavelet(frequency: float, length: float, window: WindowSpec, norm: float | None) -> Tensor:
    """A windowed oscillation of `frequency` cycles a sample, librosa's: time 0 at sample floor(length / 2) + 1.

    A length between integers ends in an odd number of samples, one more of them before time 0 than the window's half.
    """
    start, stop = math.floor(-length / 2), math.floor(length / 2)
    phase = 2.0 * math.pi * frequency * torch.arange(start, stop, dtype=torch.float64)
    wavelet = torch.polar(sampled_window(window, stop - start).to(torch.float64), phase)
    if norm is not None:
        wavelet = wavelet / torch.linalg.vector_norm(wavelet, norm)
    return math.sqrt(length) * wavelet


def _analytic(wavelets: list[Tensor], n_fft: int) -> Tensor:
    """Wavelets in the middle of frames of n_fft samples, without negative frequencies: complex, (n_bins, n_fft)."""
    # The number of samples before time 0 is half of them, rounded up.
    lefts = [n_fft // 2 - (len(wavelet) + 1) // 2 for wavelet in wavelets]
    rows = [F.pad(wavelet, (left, n_fft - left - len(wavelet))) for left, wavelet in zip(lefts, wavelets, strict=True)]
    spectrum = torch.fft.fft(torch.stack(rows))
    spectrum[:, n_fft // 2 + 1 :] = 0.0
    # A frame's first sample meets the wavelet's first as its last: the circle of n_fft samples is cut after that one.
    return torch.fft.ifft(spectrum).roll(-1, dims=-1)


def _band(frames: list[Tensor], hop_length: int) -> WaveletBand:
    """The band of some octaves of wavelets, the longest of them first."""
    reach = frames[0].shape[1] // 2
    n_rates = _fast_length(math.ceil(_FRAMES_PER_BLOCK * 2 * reach / hop_length) + 1)
    peak = torch.cat([frame.abs().amax(dim=1) for frame in frames])
    # Wavelet by wavelet, since whole spectra of all of them could fill the memory.
    wavelets = [wavelet[None] for frame in frames for wavelet in frame]
    audible = torch.zeros(hop_length, dtype=torch.bool)
    for wavelet in wavelets:
        size = _block_spectrum(wavelet, n_rates * hop_length, reach).abs().reshape(hop_length, n_rates)
        audible |= (size > _NEGLIGIBLE * size.max()).any(dim=1)
    first_fold, n_folds = _arc_of(audible)
    band = WaveletBand(torch.empty(n_rates, n_folds, 0), hop_length, reach, first_fold, peak)
    return band._replace(response=torch.cat([band_response(wavelet, band) for wavelet in wavelets], dim=2))


def _arc_of(audible: Tensor) -> tuple[int, int]:
    """Start and length of the shortest arc of a circle that holds all that is marked; it ends before its whole turn."""
    n_places = len(audible)
    marked = audible.nonzero().flatten()
    gaps = marked.roll(-1) - marked
    gaps[-1] += n_places
    widest = int(gaps.argmax())
    start, length = int(marked[(widest + 1) % len(marked)]), n_places - int(gaps[widest]) + 1
    start = start if start <= n_places // 2 else start - n_places
    return (start, length) if start + length <= n_places else (-(n_places // 2), n_places)


def _fast_length(length: int) -> int:
    """The next number without a prime factor above 5, whose transform is fast."""
    while True:
        rest = length
        for prime in (2, 3, 5):
            while rest % prime == 0:
                rest //= prime
        if rest == 1:
            return length
        length += 1


def _check_nyquist(
    frequencies: Tensor, sample_rate: int, f_min: float, bandwidth: float, gamma: float, window: WindowSpec
) -> None:
    """Raise where wavelets have not fallen by 3 dB at half the sample rate, as librosa does."""
    samples = sampled_window(window, 1000).to(torch.float64)
    noise_bandwidth = float(1000 * samples.square().sum() / samples.sum().square())
    stretch = 1.0 + 0.5 * noise_bandwidth * bandwidth
    highest = (sample_rate / 2 - 0.5 * gamma) / stretch
    n_bins = len(frequencies)
    if frequencies[-1] <= highest:
        return
    n_fitting = int((frequencies <= highest).sum())
    cures = [f"n_bins of at most {n_fitting}"] if n_fitting else []
    if highest > 0:
        lower = highest * f_min / float(frequencies[-1])
        cures.append(f"f_min of at most {math.floor(1000 * lower) / 1000} Hz")
    raise ValueError(
        f"the highest of n_bins={n_bins} bins, {float(frequencies[-1]):.1f} Hz, reaches beyond "
        f"sample_rate / 2 = {sample_rate / 2} Hz: use {' or '.join(cures) or 'a smaller gamma'}"
    )

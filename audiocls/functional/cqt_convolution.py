"""The constant-Q transform as it is defined: each wavelet against each frame, by convolution.

Slower than `audiocls.functional.cqt`, which takes the frames of a block from one Fourier transform, but nothing in it
follows from the length of the waveform and nothing is complex: this is what an exported graph does. It is also the
definition that the quick one is tested against.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from audiocls.functional.cqt import WaveletBand
from audiocls.functional.framing import PadMode, pad
from audiocls.functional.stft import for_onnx


def band_wavelets(band: WaveletBand) -> Tensor:
    """The wavelets of a band over time, which `band_response` turns back into their responses.

    Args:
        band: from `cqt_bands`.
    Returns:
        Real and imaginary part, shape (n_bins, 2 * reach, 2); time 0 at sample reach - 1.

    >>> from audiocls.functional.cqt import cqt_bands
    >>> (band,) = cqt_bands(sample_rate=16000, hop_length=160, n_bins=24, f_min=440.0)
    >>> band_wavelets(band).shape
    torch.Size([24, 1024, 2])
    """
    n_rates, n_folds, n_bins = band.response.shape[:3]
    arc = band.response.permute(2, 1, 0, 3).reshape(n_bins, n_folds * n_rates, 2)
    circle = F.pad(arc, (0, 0, 0, band.n_fft - n_folds * n_rates)).roll(band.first_fold * n_rates, dims=1)
    block = torch.fft.ifft(torch.view_as_complex(for_onnx(circle)), norm="forward")
    samples = torch.view_as_real(block).to(band.response.dtype)
    return samples.roll(2 * band.reach - 1, dims=1)[:, : 2 * band.reach]


def cqt_by_convolution(
    waveform: Tensor, wavelets: list[Tensor], *, hop_length: int, pad_mode: PadMode = "constant"
) -> Tensor:
    """Constant-Q or variable-Q transform, whichever the wavelets are of.

    Frame i is centred on sample i * hop_length. The clip may be shorter than a wavelet.

    Args:
        waveform: shape (clips, time), float32 or float64.
        wavelets: of each band as from `band_wavelets`, from the lowest to the highest.
        hop_length: distance between frames, in samples.
        pad_mode: what stands outside the clip: "constant" (zeros) or "reflect".
    Returns:
        Real and imaginary part, shape (clips, n_bins, 1 + time // hop_length, 2).
    Source: the sum in librosa.vqt; equal to `cqt` within 5e-6 of its peak.

    >>> from audiocls.functional.cqt import cqt_bands
    >>> wavelets = [band_wavelets(band) for band in cqt_bands(sample_rate=22050, hop_length=441)]
    >>> cqt_by_convolution(torch.zeros(2, 1000), wavelets, hop_length=441).shape
    torch.Size([2, 84, 3, 2])
    """
    heard = []
    for band in wavelets:
        reach = band.shape[1] // 2
        padded = pad(waveform, reach, reach, pad_mode)
        # A product slides the kernel forward, a convolution turns it around: the wavelet's first sample meets the last.
        kernels = band.flip(1).to(waveform.dtype).permute(2, 0, 1).reshape(-1, 1, 2 * reach)
        heard.append(F.conv1d(padded.unsqueeze(1), kernels, stride=hop_length).unflatten(1, (2, -1)))
    return torch.cat(heard, dim=2).permute(0, 2, 3, 1)

"""Waveforms from constant-Q and variable-Q transforms, by least squares.

The transform keeps what lies between its lowest and highest bin, and at the highest ones only as much as the frames
are dense: a wavelet shorter than the hop leaves gaps. So there is no inverse but a best fit: of all waveforms whose
transform comes closest, the one with the least energy. librosa.icqt instead adds up the wavelets once, which is a rough
inverse; this one goes on until the transform agrees.
"""

import torch
from torch import Tensor

from audiocls.functional.cqt import WaveletBand, cqt


def icqt(spectrum: Tensor, bands: list[WaveletBand], *, length: int, n_iter: int = 16) -> Tensor:
    """Waveform of least energy whose constant-Q or variable-Q transform, padded with zeros, is nearest to a spectrum.

    No gradient passes through it.

    Args:
        spectrum: complex, shape (..., n_bins, frames), as `cqt` returns it.
        bands: from `cqt_bands`, those of the transform.
        length: of the waveform, in samples.
        n_iter: steps of the conjugate gradient, each as dear as a transform and its gradient.
    Returns:
        Shape (..., length), real.
    Raises:
        ValueError: if `length` or `n_iter` is below 1, or `spectrum` is not complex or not that of such a waveform.
    Source: Velasco et al. 2011 for the dual frame, found here without being formed; conjugate gradient on the normal
        equations, Hestenes and Stiefel 1952.

    >>> from audiocls.functional.cqt import cqt_bands
    >>> bands = cqt_bands(sample_rate=8000, hop_length=32, n_bins=24, f_min=220.0)
    >>> waveform = torch.sin(2 * torch.pi * 440 * torch.arange(8000) / 8000) * torch.hann_window(8000)
    >>> again = icqt(cqt(waveform, bands), bands, length=8000)
    >>> (again - waveform).square().mean() < 1e-6 * waveform.square().mean()
    tensor(True)
    """
    expected = _check(spectrum, bands, length, n_iter)
    target = spectrum.reshape(-1, *expected)
    # A wavelet twice as long counts twice in the transform; weighted evenly, few steps reach all bins.
    loudness = [band.n_fft**2 * band.response.square().sum(-1).amax(dim=(0, 1)) for band in bands]
    weight = torch.cat(loudness).reciprocal().to(target.real.dtype).unsqueeze(-1)
    with torch.inference_mode(False), torch.enable_grad():
        origin = torch.zeros(len(target), length, dtype=weight.dtype, device=target.device, requires_grad=True)
        transform = cqt(origin, bands)

    def adjoint(spectrum: Tensor) -> Tensor:
        # The transform is linear: its gradient, wherever it is taken, is its adjoint.
        return torch.autograd.grad(transform, origin, weight * spectrum, retain_graph=True)[0]

    with torch.no_grad():
        waveform = torch.zeros_like(origin)
        residual = direction = adjoint(target)
        energy = residual.square().sum(dim=-1, keepdim=True)
        # Below it there is rounding alone, which further steps would blow up.
        floor = energy * (10 * torch.finfo(energy.dtype).eps) ** 2
        for _ in range(n_iter):
            image = adjoint(cqt(direction, bands))
            step = torch.where(energy > floor, energy / (direction * image).sum(dim=-1, keepdim=True), 0.0)
            waveform = waveform + step * direction
            residual = residual - step * image
            before, energy = energy, residual.square().sum(dim=-1, keepdim=True)
            direction = residual + torch.where(before > floor, energy / before, 0.0) * direction
    return waveform.reshape(*spectrum.shape[:-2], length)


def _check(spectrum: Tensor, bands: list[WaveletBand], length: int, n_iter: int) -> tuple[int, int]:
    """Bins and frames of the spectrum, if they are those of the bands and the length."""
    if length < 1:
        raise ValueError(f"length must be at least 1 sample, got {length}")
    if n_iter < 1:
        raise ValueError(f"n_iter must be at least 1, got {n_iter}")
    n_bins, n_frames = sum(band.response.shape[2] for band in bands), 1 + length // bands[0].hop_length
    if not spectrum.is_complex() or tuple(spectrum.shape[-2:]) != (n_bins, n_frames):
        raise ValueError(
            f"spectrum must be complex (..., {n_bins}, {n_frames}) for these bands and length={length}, "
            f"got {spectrum.dtype} {tuple(spectrum.shape)}"
        )
    return n_bins, n_frames

"""Normalisation of compressed energies, the last stage of a front-end.

Each is built as `normalization(n_bins)` with its settings as keywords, and maps (batch, channels, n_bins, frames) to
the same shape.
"""

import torch
from torch import Tensor, nn


class Normalization(nn.Module):
    """A normalisation of compressed energies, (batch, channels, n_bins, frames) to the same shape.

    Args:
        n_bins: number of frequency bins.
    """

    def __init__(self, n_bins: int) -> None:
        super().__init__()
        self.n_bins = n_bins


class NoNormalization(Normalization):
    """Compressed energies as they are.

    >>> NoNormalization(4)(torch.ones(1, 1, 4, 2)).sum()
    tensor(8.)
    """

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Normalise a spectrogram (batch, channels, n_bins, frames); the shape stays."""
        return spectrogram


class BatchNormBins(Normalization):
    """Batch normalisation over frequency: one mean and one variance a bin, over batch, channels and frames.

    It learns the level of each bin over the training set, so that no statistics need to be gathered beforehand; in
    evaluation it is a fixed gain and shift a bin, and a clip does not depend on its batch.

    Args:
        n_bins: number of frequency bins.
        momentum: weight of the newest batch in the running mean and variance, in (0, 1].
        eps: added to the variance, in squared units of the input.
        learnable: whether each bin also learns a gain and a shift after it is normalised.

    >>> BatchNormBins(4)(torch.randn(2, 1, 4, 50)).mean().abs() < 1e-5
    tensor(True)
    """

    def __init__(self, n_bins: int, *, momentum: float = 0.1, eps: float = 1e-5, learnable: bool = True) -> None:
        super().__init__(n_bins)
        self.norm = _batch_norm(n_bins, momentum=momentum, eps=eps, learnable=learnable)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Normalise a spectrogram (batch, channels, n_bins, frames); the shape stays."""
        return self.norm(spectrogram.transpose(1, 2)).transpose(1, 2)


class BatchNormMap(Normalization):
    """Batch normalisation of the whole map: one mean and one variance over batch, channels, bins and frames.

    It keeps the shape of the spectrum, which `BatchNormBins` flattens; in evaluation it is one fixed gain and shift.

    Args:
        n_bins: number of frequency bins.
        momentum: weight of the newest batch in the running mean and variance, in (0, 1].
        eps: added to the variance, in squared units of the input.
        learnable: whether a gain and a shift are also learnt.
    Raises:
        ValueError: if `momentum` is out of range.

    >>> BatchNormMap(4)(torch.randn(2, 1, 4, 50)).mean().abs() < 1e-5
    tensor(True)
    """

    def __init__(self, n_bins: int, *, momentum: float = 0.1, eps: float = 1e-5, learnable: bool = True) -> None:
        super().__init__(n_bins)
        self.norm = _batch_norm(1, momentum=momentum, eps=eps, learnable=learnable)

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Normalise a spectrogram (batch, channels, n_bins, frames); the shape stays."""
        return self.norm(spectrogram.flatten(1, 2).unsqueeze(1)).reshape(spectrogram.shape)


class ClipNorm(Normalization):
    """Each clip with its own mean and variance, over all its channels, bins and frames, or over each bin by itself.

    Nothing is learnt or kept, and no clip depends on its batch; what is lost is how loud a clip was. The variance is
    the mean square of the deviations, so that a clip twice gives the same numbers twice, whatever its length.

    Args:
        n_bins: number of frequency bins.
        per_bin: whether each bin has its own mean and variance, over channels and frames (cepstral mean and variance
            normalisation, where bins are cepstral coefficients).
        scale: whether the deviations are also divided by their root mean square.
        eps: added to the variance, in squared units of the input; silence becomes zero.
    Raises:
        ValueError: if `eps` is not positive.

    >>> ClipNorm(4, per_bin=True)(torch.arange(8.0).reshape(1, 1, 4, 2))[0, 0, :, 1]
    tensor([1.0000, 1.0000, 1.0000, 1.0000])
    """

    def __init__(self, n_bins: int, *, per_bin: bool = False, scale: bool = True, eps: float = 1e-5) -> None:
        super().__init__(n_bins)
        if eps <= 0:
            raise ValueError(f"eps must be positive, got {eps}: silence has no variance")
        self.dims = (1, 3) if per_bin else (1, 2, 3)
        self.scale = scale
        self.eps = eps

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Normalise a spectrogram (batch, channels, n_bins, frames); the shape stays."""
        deviation = spectrogram - spectrogram.mean(dim=self.dims, keepdim=True)
        if not self.scale:
            return deviation
        variance = deviation.square().mean(dim=self.dims, keepdim=True)
        return deviation * torch.rsqrt(variance + self.eps)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"per_bin={2 not in self.dims}, scale={self.scale}, eps={self.eps}"


class FixedNorm(Normalization):
    """(spectrogram - mean) / std with numbers that are given, as published models were trained with.

    Args:
        n_bins: number of frequency bins.
        mean: one number, or one a bin, in units of the input.
        std: positive, one number, or one a bin, in units of the input.
    Raises:
        ValueError: if `std` is not positive, or there is not one number or one a bin.

    >>> FixedNorm(4, mean=1.0, std=[1.0, 2.0, 1.0, 2.0])(torch.full((1, 1, 4, 1), 3.0)).flatten()
    tensor([2., 1., 2., 1.])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, n_bins: int, *, mean: float | list[float], std: float | list[float]) -> None:
        super().__init__(n_bins)
        self.register_buffer("mean", _one_or_per_bin("mean", mean, n_bins), persistent=False)
        self.register_buffer("std", _one_or_per_bin("std", std, n_bins), persistent=False)
        if not bool((self.std > 0).all()):
            raise ValueError(f"std must be positive, got {std}")

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Normalise a spectrogram (batch, channels, n_bins, frames); the shape stays."""
        return (spectrogram - self.mean) / self.std


def _batch_norm(n_features: int, *, momentum: float, eps: float, learnable: bool) -> nn.BatchNorm2d:
    if not 0 < momentum <= 1:
        raise ValueError(f"momentum must be in (0, 1], got {momentum}")
    return nn.BatchNorm2d(n_features, eps=eps, momentum=momentum, affine=learnable, dtype=torch.float32)


def _one_or_per_bin(name: str, value: float | list[float], n_bins: int) -> Tensor:
    """One number or one a bin, shape (1, 1) or (n_bins, 1)."""
    numbers = torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1)
    if len(numbers) not in (1, n_bins) or not bool(numbers.isfinite().all()):
        raise ValueError(f"{name} must be one finite number or one for each of n_bins={n_bins}, got {value}")
    return numbers

"""Compression: energies span ten decades, a network wants about one.

Each is built as `compression(n_bins)` with its settings as keywords, and maps (batch, channels, n_bins, frames) to the
same shape. What `learnable` frees starts exactly at the fixed value and stays positive whatever the step.
"""

import torch
from torch import Tensor, nn

from audiocls import functional


class Compression(nn.Module):
    """A compression of non-negative energies, (batch, channels, n_bins, frames) to the same shape.

    Args:
        n_bins: number of frequency bins.
    """

    def __init__(self, n_bins: int) -> None:
        super().__init__()
        self.n_bins = n_bins


class NoCompression(Compression):
    """Energies as they are.

    >>> NoCompression(4)(torch.ones(1, 1, 4, 2)).sum()
    tensor(8.)
    """

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies (batch, channels, n_bins, frames); the shape stays."""
        return energy


class Log(Compression):
    """log(energy + offset).

    Args:
        n_bins: number of frequency bins.
        offset: floor under the energy, in its units; silence becomes log(offset).
        learnable: whether each bin learns its own offset.
    Raises:
        ValueError: if `offset` is not positive.

    >>> Log(4, offset=1.0)(torch.zeros(1, 1, 4, 2)).abs().sum()
    tensor(0.)
    """

    def __init__(self, n_bins: int, *, offset: float = 1e-6, learnable: bool = False) -> None:
        super().__init__(n_bins)
        if offset <= 0:
            raise ValueError(f"offset must be positive, got {offset}: the logarithm of zero has no value")
        self.offset = PositivePerBin(n_bins, offset, learnable=learnable)

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies (batch, channels, n_bins, frames); the shape stays."""
        return functional.log_offset(energy, self.offset())


class Log1p(Compression):
    """log(1 + gain * energy): zero for silence, linear below 1 / gain, logarithmic above.

    Args:
        n_bins: number of frequency bins.
        gain: per unit of energy.
        learnable: whether each bin learns its own gain.
    Raises:
        ValueError: if `gain` is not positive.

    >>> Log1p(4)(torch.zeros(1, 1, 4, 2)).sum()
    tensor(0.)
    """

    def __init__(self, n_bins: int, *, gain: float = 1e5, learnable: bool = False) -> None:
        super().__init__(n_bins)
        if gain <= 0:
            raise ValueError(f"gain must be positive, got {gain}")
        self.gain = PositivePerBin(n_bins, gain, learnable=learnable)

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies (batch, channels, n_bins, frames); the shape stays."""
        return functional.log1p_gain(energy, self.gain())


class Decibel(Compression):
    """10 log10(energy / ref), with a floor `top_db` below the peak of each clip.

    Made for power: with a front-end of `power=1.0` the numbers are half of what they should be called.

    Args:
        n_bins: number of frequency bins.
        ref: energy that is 0 dB.
        amin: smallest energy that is told apart from silence.
        top_db: dynamic range kept below each clip's own peak, in dB; None keeps all of it.
    Raises:
        ValueError: if `ref` or `amin` is not positive, or `top_db` is negative.

    >>> Decibel(4)(torch.full((1, 1, 4, 2), 100.0)).max()
    tensor(20.)
    """

    def __init__(self, n_bins: int, *, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = 80.0) -> None:
        super().__init__(n_bins)
        functional.power_to_db(torch.ones(1), ref=ref, amin=amin, top_db=top_db)  # raises now, not at the first batch
        self.ref = ref
        self.amin = amin
        self.top_db = top_db

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies (batch, channels, n_bins, frames); the shape stays."""
        return functional.power_to_db(energy, ref=self.ref, amin=self.amin, top_db=self.top_db)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"ref={self.ref}, amin={self.amin}, top_db={self.top_db}"


class PositivePerBin(nn.Module):
    """A positive number, or one a bin that is learnt as the logarithm of its ratio to the start.

    A ratio starts at exp(0), which is exactly 1, and equal steps change a number of 1e-6 and one of 1e5 alike.

    Args:
        n_bins: number of frequency bins.
        start: positive.
        learnable: whether each bin learns its own.

    >>> PositivePerBin(3, 1e-6, learnable=True)().tolist() == [torch.tensor(1e-6).item()] * 3
    True
    """

    def __init__(self, n_bins: int, start: float, *, learnable: bool) -> None:
        super().__init__()
        self.start = start
        self.log_ratio = nn.Parameter(torch.zeros(n_bins, dtype=torch.float32)) if learnable else None

    def forward(self) -> float | Tensor:
        """The number, or one a bin, shape (n_bins,), where they are learnt."""
        return self.start if self.log_ratio is None else self.start * self.log_ratio.exp()

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"start={self.start}, learnable={self.log_ratio is not None}"

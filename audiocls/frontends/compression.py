"""Compression: energies span ten decades, a network wants about one.

Each is built as `compression(n_bins)` with its settings as keywords, and maps (batch, channels, n_bins, frames) to the
same shape. What `learnable` frees starts at the fixed value and stays positive whatever the step.
"""

import math

import torch
from torch import Tensor, nn

from audiocls import functional
from audiocls.frontends.eager import has_hooks, is_eager_on_cpu, is_plain
from audiocls.frontends.held import ratio

_SMALLEST = torch.finfo(torch.float32).tiny  # of normal numbers


class Compression(nn.Module):
    """A compression of non-negative energies, (batch, channels, n_bins, frames) to the same shape.

    Args:
        n_bins: number of frequency bins.
    """

    def __init__(self, n_bins: int) -> None:
        super().__init__()
        self.n_bins = n_bins

    @property
    def logarithm(self) -> functional.Logarithm | None:
        """What this begins with, if a logarithm that is not learnt: a GPU's kernel takes it with the energies."""
        return None

    def after_logarithm(self, taken: Tensor) -> Tensor:
        """What is left to do once that logarithm is taken: as a rule nothing."""
        return taken

    def over(self, energy: Tensor) -> Tensor:
        """The same of energies in main memory that nothing else holds, and that may be written over."""
        return self(energy)


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

    @property
    def logarithm(self) -> functional.Logarithm | None:
        """All of it, where the offset is fixed."""
        fixed = self.offset.log_ratio is None and self.offset.start >= _SMALLEST
        return functional.natural_logarithm(self.offset.start) if fixed and is_all(self, Log) else None

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies (batch, channels, n_bins, frames); the shape stays."""
        return self._taken(energy)

    def over(self, energy: Tensor) -> Tensor:
        """The same, in place."""
        return self._taken(energy, in_place=True) if is_all(self, Log) else self(energy)

    def _taken(self, energy: Tensor, *, in_place: bool = False) -> Tensor:
        offset = self.offset()
        if not _fits_lanes(energy, self.offset.start):
            return functional.log_offset(energy, offset)
        if isinstance(offset, Tensor):  # which comes to the same, bit by bit, as one that is fixed
            energy, offset = energy + offset.unsqueeze(-1), 0.0
        return functional.lane_logarithm(energy, functional.natural_logarithm(offset), in_place=in_place)


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
        self._decibel = functional.decibel(ref=ref, amin=amin, top_db=top_db)
        self.ref = ref
        self.amin = amin
        self.top_db = top_db

    @property
    def logarithm(self) -> functional.Logarithm | None:
        """All of it."""
        return self._decibel if self.amin >= _SMALLEST and is_all(self, Decibel) else None

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies (batch, channels, n_bins, frames); the shape stays."""
        return self._taken(energy)

    def over(self, energy: Tensor) -> Tensor:
        """The same, in place."""
        return self._taken(energy, in_place=True) if is_all(self, Decibel) else self(energy)

    def _taken(self, energy: Tensor, *, in_place: bool = False) -> Tensor:
        if not _fits_lanes(energy, self.amin):
            return functional.take_logarithm(energy, self._decibel)
        return functional.lane_logarithm(energy, self._decibel, in_place=in_place)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"ref={self.ref}, amin={self.amin}, top_db={self.top_db}"


class PCEN(Compression):
    """Per-channel energy normalisation: gain control by a moving average over frames, then a root.

    Takes the level of each bin away, so that loudness, distance and steady noise matter less. Learnt, each bin has its
    own `smooth`, `alpha`, `delta` and `r`, on logarithmic scales: whatever the step, `delta` stays positive and the
    others between 0 and 1. (Of `smooth` it is the time constant that moves in equal ratios.)

    Args:
        n_bins: number of frequency bins.
        smooth: weight of the newest frame in the average, in (0, 1]; 0.025 is 0.4 s at a hop of 10 ms.
        alpha: strength of the gain control; 1 takes all of the level away.
        delta: offset before the root.
        r: exponent of the root.
        eps: floor under the average, in units of energy.
        learnable: whether each bin learns its own four numbers.
    Raises:
        ValueError: if a number is out of its range, or at the end of it where it is to be learnt.
    Source: Wang et al. 2017, arXiv:1607.05666; learnt as logarithms after Schlüter and Gutenbrunner 2022,
        arXiv:2207.05508.

    >>> PCEN(4)(torch.zeros(1, 1, 4, 2)).sum()
    tensor(0.)
    """

    def __init__(
        self,
        n_bins: int,
        *,
        smooth: float = 0.025,
        alpha: float = 0.98,
        delta: float = 2.0,
        r: float = 0.5,
        eps: float = 1e-6,
        learnable: bool = False,
    ) -> None:
        super().__init__(n_bins)
        functional.pcen(torch.ones(1, 1), smooth=smooth, alpha=alpha, delta=delta, r=r, eps=eps)  # raises now
        for name, share in {"smooth": smooth, "alpha": alpha, "r": r}.items():
            if learnable and not 0 < share < 1:
                rule = f"{name} must be above 0 and below 1 to be learnt, got {share}"
                raise ValueError(f"{rule}: change it or set learnable=False")
        self.smooth = SharePerBin(n_bins, smooth, learnable=learnable)
        self.alpha = SharePerBin(n_bins, alpha, learnable=learnable)
        self.delta = PositivePerBin(n_bins, delta, learnable=learnable)
        self.r = SharePerBin(n_bins, r, learnable=learnable)
        self.eps = eps

    def forward(self, energy: Tensor) -> Tensor:
        """Compress energies (batch, channels, n_bins, frames); the shape stays."""
        return self._normalized(energy)

    def over(self, energy: Tensor) -> Tensor:
        """The same, in place."""
        return self._normalized(energy, in_place=True) if is_all(self, PCEN) else self(energy)

    def _normalized(self, energy: Tensor, *, in_place: bool = False) -> Tensor:
        numbers = (self.smooth, self.alpha, self.delta, self.r)
        smooth, alpha, delta, r = (one.start if one.log_ratio is None else one() for one in numbers)
        settings = {"smooth": smooth, "alpha": alpha, "delta": delta, "eps": self.eps}
        fits = isinstance(r, float) and r == 0.5 and energy.dtype == torch.float32 and self.eps >= _SMALLEST
        if fits and is_plain(energy, smooth, alpha, delta):
            return functional.lane_pcen(energy, **settings, in_place=in_place)
        return functional.pcen(energy, r=r, **settings)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"eps={self.eps}"


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
        return self.start if self.log_ratio is None else self.start * ratio(self.log_ratio)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"start={self.start}, learnable={self.log_ratio is not None}"


class SharePerBin(nn.Module):
    """A share, or one a bin that is learnt and stays between 0 and 1.

    What is learnt is the logarithm of a ratio to the start, of -log(1 - share); for the weight of a moving average this
    is one over its time constant.

    Args:
        n_bins: number of frequency bins.
        start: between 0 and 1 where it is learnt.
        learnable: whether each bin learns its own.

    >>> SharePerBin(3, 0.025, learnable=True)()
    tensor([0.0250, 0.0250, 0.0250], dtype=torch.float64, grad_fn=<NegBackward0>)
    """

    def __init__(self, n_bins: int, start: float, *, learnable: bool) -> None:
        super().__init__()
        self.start = start
        self.log_ratio = nn.Parameter(torch.zeros(n_bins, dtype=torch.float32)) if learnable else None

    def forward(self) -> float | Tensor:
        """The share, or one a bin, shape (n_bins,), float64, where they are learnt."""
        if self.log_ratio is None:
            return self.start
        return -torch.expm1(math.log1p(-self.start) * ratio(self.log_ratio.double()))

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"start={self.start}, learnable={self.log_ratio is not None}"


def is_all(compression: Compression, kind: type[Compression]) -> bool:
    """Whether a call of a compression is that of its class and nothing more: no subclass's own, and no hook waits."""
    return type(compression).forward is kind.forward and not has_hooks(compression)


def _fits_lanes(energy: Tensor, floor: float) -> bool:
    """Whether many numbers may be taken at a time: on a processor, with nothing to trace."""
    return is_eager_on_cpu(energy) and energy.dtype == torch.float32 and floor >= _SMALLEST

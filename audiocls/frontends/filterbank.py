"""The filterbank stage: a non-negative matrix over the bins of a transform, fixed or learnt entry by entry."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocls import functional
from audiocls.frontends.held import held
from audiocls.functional.kept import Kept


class Filterbank(nn.Module):
    """Weighted sums over frequency, with weights that are never negative.

    A fixed filterbank has no state. A learnt one starts equal to the fixed one, zeros included, and each weight is
    free. Weights are kept non-negative by projection, so that energies are too and their logarithm stays finite: a
    negative weight counts as zero, and only a gradient that would raise it reaches it. So a filter can grow where it
    was zero, and no weight is lost for good, as it would be under a plain clamp.

    What is learnt is each filter relative to the power of two just above its peak: a step of an optimiser then changes
    narrow and wide, normalised and unnormalised filters alike.

    Args:
        weight: filterbank at the start, shape (n_bins, n_freqs), non-negative.
        learnable: whether the weights are learnt.
    Raises:
        ValueError: if `weight` is not a non-negative matrix.

    >>> Filterbank(torch.eye(3))(torch.ones(1, 1, 3, 5)).shape
    torch.Size([1, 1, 3, 5])
    """

    start: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, *, learnable: bool = False) -> None:
        super().__init__()
        if weight.ndim != 2 or bool((weight < 0).any()):
            raise ValueError(
                f"weight must be a non-negative matrix (n_bins, n_freqs), got shape {tuple(weight.shape)} "
                f"with minimum {float(weight.min())}"
            )
        weight = weight.detach().to(torch.float32, copy=True)
        self.register_buffer("start", weight, persistent=False)
        # The power of two just above the peak, so that dividing and multiplying by it is exact; 1 for an empty filter.
        peak = weight.amax(dim=1, keepdim=True)
        scale = torch.ldexp(torch.ones_like(peak), torch.frexp(peak).exponent)
        self.register_buffer("scale", scale, persistent=False)
        self.relative_weight = nn.Parameter(weight / scale) if learnable else None
        self._groups = Kept(functional.filter_groups)
        self.arrangements = None if learnable else Kept(functional.kept_filters)  # for `functional.fused_energy`

    @property
    def groups(self) -> functional.FilterGroups | None:
        """A fixed matrix without its zeros, for `functional.lane_energy`; None where it is learnt."""
        return self._groups.of(self.start) if self.relative_weight is None else None

    @property
    def weight(self) -> Tensor:
        """The filterbank now, shape (n_bins, n_freqs), non-negative."""
        if self.relative_weight is None:
            return self.start
        return self.scale * held(self.relative_weight, low=0.0)

    def forward(self, power: Tensor) -> Tensor:
        """Power (..., n_freqs, frames) to energies (..., n_bins, frames)."""
        # Frames first: that is how the transform lays them out in memory, so the product needs no copy.
        return F.linear(power.transpose(-1, -2), self.weight).transpose(-1, -2)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        n_bins, n_freqs = self.start.shape
        return f"n_bins={n_bins}, n_freqs={n_freqs}, learnable={self.relative_weight is not None}"

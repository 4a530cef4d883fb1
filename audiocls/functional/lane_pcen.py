"""Per-channel energy normalisation on a processor, sixteen bins at a time, frame by frame in one pass.

What `pcen` computes by products of triangular matrices, so that it can be learnt and runs on any device, is a plain
recursion here. This is for the processor, without gradients, and for the usual root.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from audiocls.functional.lanes import share


def lane_pcen(
    energy: Tensor,
    *,
    smooth: float | Tensor = 0.025,
    alpha: float | Tensor = 0.98,
    delta: float | Tensor = 2.0,
    eps: float = 1e-6,
) -> Tensor:
    """`pcen` with r = 1/2, begun at the first frame: sqrt(energy / (eps + average)^alpha + delta) - sqrt(delta).

    Args:
        energy: non-negative, shape (..., freq, frames), float, in main memory.
        smooth, alpha, delta: as of `pcen`: one number, or one a bin, shape (freq,).
        eps: floor under the average, in units of energy, a positive normal float32.
    Returns:
        Same shape and dtype; it carries no gradient. Equal to `pcen` to 1e-5.

    >>> lane_pcen(torch.ones(1, 1, 40, 100)).shape
    torch.Size([1, 1, 40, 100])
    """
    from audiocls.functional.lane_kernels import N_LANES, gain_control  # noqa: PLC0415  numba takes half a second

    n_bins = energy.shape[-2]
    n_rows = energy.shape[:-1].numel()
    lacking = max(N_LANES - n_rows, 0)  # fewer than a tile has get silence beside them

    def filled(values: Tensor) -> Tensor:
        """A value, or all frames, of each row."""
        values = values.detach().to(torch.float32)
        return F.pad(values, (0, 0) * (values.ndim - 1) + (0, lacking)) if lacking else values.contiguous()

    rows = filled(energy.reshape(n_rows, energy.shape[-1]))
    settings = (torch.as_tensor(value, dtype=torch.float32) for value in (smooth, alpha, delta))
    by_row = [filled(value.expand(n_bins).repeat(n_rows // max(n_bins, 1))).numpy() for value in settings]
    normalised = torch.empty_like(rows)
    first = rows[:, 0].contiguous().numpy()
    share(gain_control, (rows.numpy(), first, *by_row, eps, normalised.numpy()), -(-len(rows) // N_LANES))
    return normalised[:n_rows].view(energy.shape).to(energy.dtype)

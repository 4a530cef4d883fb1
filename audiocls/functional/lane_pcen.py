"""Per-channel energy normalisation on a processor, sixteen bins at a time, frame by frame in one pass.

What `pcen` computes by products of triangular matrices, so that it can be learnt and runs on any device, is a plain
recursion here. This is for the processor, without gradients, and for the usual root.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from audiocls.functional.lane_threads import kernels, share


def lane_pcen(
    energy: Tensor,
    *,
    smooth: float | Tensor = 0.025,
    alpha: float | Tensor = 0.98,
    delta: float | Tensor = 2.0,
    eps: float = 1e-6,
    in_place: bool = False,
) -> Tensor:
    """`pcen` with r = 1/2, begun at the first frame: sqrt(energy / (eps + average)^alpha + delta) - sqrt(delta).

    Args:
        energy: non-negative, shape (..., freq, frames), float, in main memory.
        smooth, alpha, delta: as of `pcen`: one number, or one a bin, shape (freq,).
        eps: floor under the average, in units of energy, a positive normal float32.
        in_place: whether the energies, float32, may be written over, as they are where no tile is filled in part.
    Returns:
        Same shape and dtype; it carries no gradient. Equal to `pcen` to 1e-5.

    >>> lane_pcen(torch.ones(1, 1, 40, 100)).shape
    torch.Size([1, 1, 40, 100])
    """
    n_bins, n_frames = energy.shape[-2:]
    n_rows = energy.shape[:-1].numel()
    held = max(n_rows, kernels().N_LANES)  # fewer rows than a tile has get silence beside them

    def by_row(value: float | Tensor) -> np.ndarray:
        """A number of each row; torch would take longer to say it than the kernel takes."""
        if not isinstance(value, Tensor):
            return _in_all(value, held)
        row = np.ones(held, dtype=np.float32)
        row[:n_rows].reshape(-1, max(n_bins, 1))[:] = value.detach().numpy()
        return row

    energies = energy.detach().to(torch.float32).contiguous()
    given = energies.numpy().reshape(n_rows, n_frames)
    if n_rows < held:
        given = np.concatenate([given, np.zeros((held - n_rows, n_frames), dtype=np.float32)])
    settings = (given[:, 0].copy(), by_row(smooth), by_row(alpha), by_row(delta), eps)
    n_tiles = -(-held // kernels().N_LANES)
    if in_place and n_rows == n_tiles * kernels().N_LANES:  # else the last tile takes some rows twice
        share(kernels().gain_control, (given, *settings, given), n_tiles)
        return energies
    normalised = torch.empty(held, n_frames, dtype=torch.float32)
    share(kernels().gain_control, (given, *settings, normalised.numpy()), n_tiles)
    return normalised[:n_rows].view(energy.shape).to(energy.dtype)


@lru_cache(maxsize=32)
def _in_all(value: float, n_rows: int) -> np.ndarray:
    """The same number in all rows."""
    return np.full(n_rows, value, dtype=np.float32)

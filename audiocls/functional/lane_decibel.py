"""Decibels on a processor, sixteen numbers at a time: a clip's peak in one pass, its logarithm in another."""

import torch
from torch import Tensor

from audiocls.functional.lanes import share


def lane_power_to_db(power: Tensor, *, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = None) -> Tensor:
    """`power_to_db` where nothing asks for a gradient.

    Args:
        power: non-negative power, shape (clips, ...), float32, in main memory, at least 16 numbers a clip.
        ref, amin, top_db: as of `power_to_db`; `amin` a normal float32.
    Returns:
        Same shape, float32, in dB; it carries no gradient. Within 2e-6 of the range of `power_to_db`.

    >>> lane_power_to_db(torch.full((1, 4, 4), 100.0)).max()
    tensor(20.)
    """
    from audiocls.functional.lane_kernels import decibels  # noqa: PLC0415  numba takes half a second

    clips = power.detach().flatten(start_dim=1).contiguous()
    decibel = torch.empty_like(clips)
    top = 0.0 if top_db is None else 10.0 ** (-top_db / 10)
    share(decibels, (clips.numpy(), amin, top, max(amin, ref), decibel.numpy()), len(clips))
    return decibel.view(power.shape)

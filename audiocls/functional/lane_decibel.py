"""Decibels on a processor, sixteen numbers at a time: a clip's peak in one pass, its logarithm in another."""

import math
from typing import Any

import torch
from torch import Tensor

from audiocls.functional.lanes import kernels, share
from audiocls.functional.scaling import power_to_db


def lane_power_to_db(power: Tensor, *, ref: float = 1.0, amin: float = 1e-10, top_db: float | None = None) -> Tensor:
    """`power_to_db` outside of graphs.

    Args:
        power: non-negative power, shape (clips, ...), float32, in main memory, at least 16 numbers a clip.
        ref, amin, top_db: as of `power_to_db`; `amin` a normal float32.
    Returns:
        Same shape, float32, in dB. Within 2e-6 of the range of `power_to_db`; differentiable as often.

    >>> lane_power_to_db(torch.full((1, 4, 4), 100.0)).max()
    tensor(20.)
    """
    settings = max(amin, ref), amin, top_db
    if not (torch.is_grad_enabled() and power.requires_grad):
        return _decibel(power, *settings)
    decibel: Any = _Decibel.apply(power, *settings)
    return decibel


def _decibel(power: Tensor, ref: float, amin: float, top_db: float | None) -> Tensor:
    power = power.detach().contiguous()
    decibel = torch.empty_like(power)
    given, taken = (numbers.numpy().reshape(len(power), math.prod(power.shape[1:])) for numbers in (power, decibel))
    share(kernels().decibels, (given, amin, _share_of_peak(top_db), ref, taken), len(power))
    return decibel


class _Decibel(torch.autograd.Function):
    """Forth and back one pass each, where torch's own operations take a dozen."""

    @staticmethod
    def forward(ctx: Any, power: Tensor, ref: float, amin: float, top_db: float | None) -> Tensor:
        ctx.save_for_backward(power)
        ctx.settings = ref, amin, top_db
        return _decibel(power, ref, amin, top_db)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (power,), (grad,), (ref, amin, top_db) = ctx.saved_tensors, grad_outputs, ctx.settings
        # A second derivative is asked for, or many first ones at once, whose gradients have no memory of their own.
        if torch.is_grad_enabled() or not torch._C._has_storage(grad):
            with torch.enable_grad():
                clips = power.reshape(len(power), 1, 1, -1)
                decibel = power_to_db(clips, ref=ref, amin=amin, top_db=top_db).view(power.shape)
                (slope,) = torch.autograd.grad(decibel, power, grad, create_graph=True)
            return slope, None, None, None
        clips, changes = (numbers.flatten(start_dim=1).contiguous() for numbers in (power, grad))
        slope = torch.empty_like(clips)
        arguments = (clips.numpy(), changes.numpy(), amin, _share_of_peak(top_db), slope.numpy())
        share(kernels().decibel_slopes, arguments, len(clips))
        return slope.view(power.shape), None, None, None


def _share_of_peak(top_db: float | None) -> float:
    return 0.0 if top_db is None else 10.0 ** (-top_db / 10)

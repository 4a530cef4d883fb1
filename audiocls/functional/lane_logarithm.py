"""Logarithms on a processor, sixteen numbers at a time: a clip's peak in one pass, its decibels in another."""

import math
from typing import Any

import torch
from torch import Tensor

from audiocls.functional.lane_threads import kernels, share
from audiocls.functional.scaling import Logarithm, take_logarithm


def lane_logarithm(power: Tensor, logarithm: Logarithm, *, in_place: bool = False) -> Tensor:
    """`take_logarithm` outside of graphs.

    Args:
        power: non-negative power, shape (clips, ...), float32, in main memory.
        logarithm: which one, with a floor that is a normal float32.
        in_place: whether the powers may be written over; they are not where a gradient needs them.
    Returns:
        Same shape, float32. Within 2e-6 of the range of `take_logarithm`; differentiable as often.

    >>> lane_logarithm(torch.tensor([[1.0, 8.0]]), Logarithm(per_octave=1.0))
    tensor([[0., 3.]])
    """
    if not (torch.is_grad_enabled() and power.requires_grad):
        return _taken(power, logarithm, in_place=in_place)
    taken: Any = _Differentiable.apply(power, logarithm)
    return taken


def _taken(power: Tensor, logarithm: Logarithm, *, in_place: bool = False) -> Tensor:
    power = power.detach().contiguous()
    taken = power if in_place else torch.empty_like(power)
    given = power.numpy().reshape(len(power), math.prod(power.shape[1:]))
    filled = given if in_place else taken.numpy().reshape(given.shape)
    if given.size > 0:
        share(kernels().logarithms, (given, *logarithm, filled), len(power))
    return taken


class _Differentiable(torch.autograd.Function):
    """Forth and back one pass each, where torch's own operations take a dozen."""

    @staticmethod
    def forward(ctx: Any, power: Tensor, logarithm: Logarithm) -> Tensor:
        ctx.save_for_backward(power)
        ctx.logarithm = logarithm
        return _taken(power, logarithm)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (power,), (grad,) = ctx.saved_tensors, grad_outputs
        # A second derivative is asked for, or many first ones at once, whose gradients have no memory of their own.
        if torch.is_grad_enabled() or not torch._C._has_storage(grad):
            with torch.enable_grad():
                clips = power.reshape(len(power), 1, 1, -1)
                taken = take_logarithm(clips, ctx.logarithm).view(power.shape)
                (slope,) = torch.autograd.grad(taken, power, grad, create_graph=True)
            return slope, None
        clips, changes = (numbers.flatten(start_dim=1).contiguous() for numbers in (power, grad))
        slope = torch.empty_like(clips)
        arguments = (clips.numpy(), changes.numpy(), *ctx.logarithm[:-1], slope.numpy())
        share(kernels().logarithm_slopes, arguments, len(clips))
        return slope.view(power.shape), None

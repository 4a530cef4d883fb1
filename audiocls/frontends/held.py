"""Numbers that are learnt within a range, and can always come back into it."""

import math
from typing import Any

import torch
from torch import Tensor

_MOST = 20.0  # e^20 is 5e8: more than any number needs, and its square is far from where float32 ends


def held(value: Tensor, *, low: float = -math.inf, high: float = math.inf) -> Tensor:
    """A tensor held in a range.

    From its ends on, only a gradient whose step leads back gets through: a number waits there for the first reason to
    return, where a plain clamp would lose it for good.

    Args:
        value: any shape.
        low: what is below counts as this much.
        high: what is above counts as this much.
    Returns:
        Same shape and dtype.

    >>> weight = torch.tensor([-1.0, -1.0, 1.0], requires_grad=True)
    >>> (held(weight, low=0.0) * torch.tensor([1.0, -1.0, 1.0])).sum().backward(); weight.grad
    tensor([ 0., -1.,  1.])
    """
    within: Any = _Held.apply(value, low, high)
    return within


def ratio(log_ratio: Tensor) -> Tensor:
    """exp of a logarithm that is learnt: between 2e-9 and 5e8, whatever the step.

    >>> ratio(torch.tensor([0.0, -1000.0, 1000.0]))
    tensor([1.0000e+00, 2.0612e-09, 4.8517e+08])
    """
    return held(log_ratio, low=-_MOST, high=_MOST).exp()


class _Held(torch.autograd.Function):
    generate_vmap_rule = True  # gradients of single clips, by torch.func

    @staticmethod
    def forward(value: Tensor, low: float, high: float) -> Tensor:
        return value.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        value, ctx.low, ctx.high = inputs
        ctx.save_for_backward(value)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (value,) = ctx.saved_tensors
        (grad,) = grad_outputs
        leads_on = ((value > ctx.low) | (grad < 0)) & ((value < ctx.high) | (grad > 0))
        return torch.where(leads_on, grad, 0.0), None, None

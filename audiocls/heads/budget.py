"""Widths of a net from a number of parameters, so that structures are compared at equal size.

The topology and the kernels stay; one factor scales all widths. The net is built for each trial without memory for its
weights (on torch's meta device) and counted as it stands, so that no formula of its size has to be kept in step.

Source: the memory-controlled experiment of Choi et al. 2017, arXiv:1609.04243; its widths are in the tests.
"""

import functools
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch import nn

from audiocls.heads.base import check_counts

TOLERANCE = 0.02  # of the budget; what the paper allows itself
Widths = tuple[int, ...]


def widths_for(budget: int, proportions: Sequence[int], build: Callable[[Widths], nn.Module]) -> Widths:
    """The widths in the given proportions at which a net has `budget` parameters, to 2 %.

    One factor takes the proportions to widths; each is rounded up or down so that the count comes nearest. Layers of
    equal proportion stay equal, and are rounded apart only where nothing within 2 % is found otherwise.

    Args:
        budget: learnt parameters of the whole net.
        proportions: the width of each layer at any one size of the net.
        build: from widths to the net; called several times, and never with memory behind the weights.
    Returns:
        As many widths.
    Raises:
        ValueError: if a number is below one, or no such widths come within 2 %; it names the least count, or the
            nearest.

    >>> widths_for(10_000, (1, 2), lambda widths: nn.Sequential(nn.Linear(100, widths[0]), nn.Linear(*widths)))
    (50, 98)
    """
    check_counts(budget=budget, proportions=min(proportions, default=0))

    @functools.cache
    def count(widths: Widths) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in build(widths).parameters())

    factor = _factor(budget, proportions, count)
    nearest: Widths = ()
    for layers in (proportions, range(len(proportions))):
        nearest = min(_roundings(factor, proportions, layers), key=lambda widths: abs(count(widths) - budget))
        if abs(count(nearest) - budget) <= TOLERANCE * budget:
            return nearest
    least = count((1,) * len(proportions))
    if budget < least:
        raise ValueError(
            f"budget must be at least {least}, the parameters of this net at its bins and classes with every width at "
            f"1, got {budget}: set budget to {least} or more"
        )
    raise ValueError(
        f"budget={budget} parameters cannot be met within {TOLERANCE:.0%} in the given proportions: the nearest count "
        f"is {count(nearest)}, with widths {nearest}; set budget to {count(nearest)}, or to null and give the widths"
    )


def _factor(budget: int, proportions: Sequence[int], count: Callable[[Widths], int]) -> float:
    """The largest factor at which the rounded widths have no more parameters than `budget`, zero if none has."""

    def fits(factor: float) -> bool:
        return count(tuple(max(1, round(factor * proportion)) for proportion in proportions)) <= budget

    low, high = 0.0, 1 / max(proportions)
    while fits(high):
        low, high = high, 2 * high
    for _ in range(30):  # halvings; counts repeat after a few, and cost nothing then
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _roundings(factor: float, proportions: Sequence[int], layers: Sequence[Hashable]) -> Iterator[Widths]:
    """All ways to round `factor * proportions` up or down in which entries of `layers` that are equal go together.

    >>> list(_roundings(0.5, (3, 3, 4), (3, 3, 4)))
    [(1, 1, 2), (1, 1, 3), (2, 2, 2), (2, 2, 3)]
    """
    down = {layer: math.floor(factor * proportion) for layer, proportion in zip(layers, proportions, strict=True)}
    for steps in itertools.product((0, 1), repeat=len(down)):
        rounded = {layer: max(1, width + step) for (layer, width), step in zip(down.items(), steps, strict=True)}
        yield tuple(rounded[layer] for layer in layers)

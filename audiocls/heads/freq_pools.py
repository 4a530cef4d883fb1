"""How a stack of blocks pools frequency away, for numbers of bins that no paper gives.

Published nets pool their own number of bins to one row. The rule here keeps their proportions at any other.
"""

import itertools
import math
from collections.abc import Sequence

from audiocls.heads.base import check_counts


def pools_for(n_bins: int, published: Sequence[int]) -> tuple[int, ...]:
    """Pooling of frequency that leaves one row of `n_bins`, after the example of `published`.

    Each pool may be up to twice, or down to half, the published one scaled by the k-th root of `n_bins` over the
    product of the k published ones. Of all such tuples the product is to be `n_bins`, or else the next larger that
    there is; of equals, the one nearest in ratio to the scaled pools is taken.

    Args:
        n_bins: bins of the spectrogram.
        published: pools of each block for the number of bins that is their product.
    Returns:
        As many pools, with a product of at least `n_bins`.

    >>> pools_for(96, (2, 3, 4, 4)), pools_for(128, (2, 3, 4, 4)), pools_for(97, (2, 3, 4, 4))
    ((2, 3, 4, 4), (2, 4, 4, 4), (2, 2, 5, 5))
    """
    scale = (n_bins / math.prod(published)) ** (1 / len(published))
    scaled = [pool * scale for pool in published]
    ranges = [range(max(1, math.ceil(pool / 2)), math.floor(2 * pool) + 1) for pool in scaled]

    def distance(pools: tuple[int, ...]) -> float:
        return sum(math.log(a / b) ** 2 for a, b in zip(pools, scaled, strict=True))

    enough = [pools for pools in itertools.product(*ranges) if math.prod(pools) >= n_bins]
    least = min(map(math.prod, enough))
    return min((pools for pools in enough if math.prod(pools) == least), key=distance)


def check_blocks(n_blocks: int, **settings: Sequence[int]) -> None:
    """Refuse settings that do not hold one number of at least one for each block, naming them.

    >>> check_blocks(4, time_pools=(2, 2))
    Traceback (most recent call last):
    ValueError: time_pools must hold 4 numbers, one a convolution block, got (2, 2)
    """
    for name, numbers in settings.items():
        if len(numbers) != n_blocks:
            raise ValueError(f"{name} must hold {n_blocks} numbers, one a convolution block, got {tuple(numbers)}")
        check_counts(**{name: min(numbers)})


def check_rows(freq_pools: Sequence[int], n_bins: int, by_rule: Sequence[int]) -> None:
    """Refuse pools of frequency that leave more than one row, naming those that the rule would give.

    >>> check_rows((2, 2, 2, 2), 96, (2, 3, 4, 4))
    Traceback (most recent call last):
    ValueError: freq_pools must multiply to at least n_bins=96, got (2, 2, 2, 2) with a product of 16: give larger \
ones, or leave them out for (2, 3, 4, 4)
    """
    if math.prod(freq_pools) < n_bins:
        raise ValueError(
            f"freq_pools must multiply to at least n_bins={n_bins}, got {tuple(freq_pools)} with a product of "
            f"{math.prod(freq_pools)}: give larger ones, or leave them out for {tuple(by_rule)}"
        )

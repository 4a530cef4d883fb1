"""What is made of a tensor that stays the same from call to call."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from torch import Tensor

Made = TypeVar("Made")


class Kept(Generic[Made]):
    """Makes something of a tensor, and keeps it until the tensor is another one or is changed in place.

    Tensors of inference mode do not tell when they are changed: of these it is made in every call.

    Args:
        make: of a tensor, and whatever else `of` is given.

    >>> import torch
    >>> total = Kept(lambda tensor: float(tensor.sum()))
    >>> total.of(ones := torch.ones(3)), total.of(ones.mul_(2))
    (3.0, 6.0)
    """

    def __init__(self, make: Callable[..., Made]) -> None:
        self._make = make
        self._made: tuple[Tensor, int, Made] | None = None

    def of(self, tensor: Tensor, *given: Any) -> Made:
        """What is made of a tensor as it is now."""
        if tensor.is_inference():
            return self._make(tensor, *given)
        version, made = tensor._version, self._made  # read once: another thread may replace it at any time
        if made is None or made[0] is not tensor or made[1] != version:
            made = self._made = tensor, version, self._make(tensor, *given)
        return made[2]

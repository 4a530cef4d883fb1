"""What is kept of a tensor, where threads share it."""

from types import SimpleNamespace
from typing import Any

import torch

from audiocls.functional.kept import Kept


def test_another_thread_between_looking_and_taking_does_not_swap_what_is_taken() -> None:
    class Version(int):
        """Compared last before what is kept is taken: where another thread comes in."""

        def __ne__(self, other: object) -> bool:
            kept.of(theirs)
            return super().__ne__(other)

    kept: Kept[Any] = Kept(lambda tensor: tensor)
    theirs: Any = torch.zeros(1)
    ours: Any = SimpleNamespace(_version=Version(0), is_inference=lambda: False)
    kept.of(ours)
    assert kept.of(ours) is ours

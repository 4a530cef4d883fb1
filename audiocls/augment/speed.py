"""Another speed: pitch and tempo at once, as a tape that is played faster or slower."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from torch import Tensor

from audiocls.augment.pitch import DrawnValue


class SpeedChange(DrawnValue):
    """Played faster or slower, by resampling: no vocoder blurs onsets, and all frequencies move by the factor.

    A note becomes another note of an instrument that is a little smaller or larger; 2 ** (1 / 12) = 1.0595 is a
    semitone. Factors are met as ratios of whole numbers up to 100 in the denominator, which the resampling is quick
    for: within 0.005 of any, and 0.0001 of most. What becomes too long is cut off.

    Args:
        factors: of the speed, from 0.1 to 10, to draw from; above 1 is faster and higher.
        padding: what stands behind what becomes too short: "zero" is silence, "repeat" the clip from its beginning.
        probability: with which a clip is changed.
    Raises:
        ValueError: if there is no factor, one is outside [0.1, 10], or `padding` is neither of those.
    Source: Ko et al. 2015, doi:10.21437/Interspeech.2015-711, whose factors are 0.9 and 1.1.

    >>> import torch
    >>> faster = SpeedChange(factors=(2.0,), padding="repeat", probability=1.0)
    >>> changed, _ = faster(torch.arange(4000.0).reshape(1, 1, -1), torch.zeros(1))
    >>> changed.shape, torch.equal(changed[..., :2000], changed[..., 2000:])
    (torch.Size([1, 1, 4000]), True)
    """

    def __init__(
        self,
        *,
        factors: Sequence[float] = (0.9, 1.1),
        padding: Literal["zero", "repeat"] = "zero",
        probability: float = 0.5,
    ) -> None:
        super().__init__(factors, probability=probability)
        if not factors or not 0.1 <= min(factors) <= max(factors) <= 10:
            raise ValueError(f"factors must be numbers between 0.1 and 10, got {list(factors)}")
        if padding not in ("zero", "repeat"):
            raise ValueError(f"padding must be 'zero' or 'repeat', got {padding!r}")
        self.factors = self.values
        self.padding = padding

    def changed(self, x: Tensor, value: float) -> Tensor:
        """Waveforms at a speed."""
        from torchaudio.functional import resample  # noqa: PLC0415 - optional at run time, and slow to import

        ratio = Fraction(value).limit_denominator(100)
        played = resample(x, ratio.numerator, ratio.denominator)
        if self.padding == "repeat":
            return played.repeat(1, 1, -(-x.shape[-1] // played.shape[-1]))
        return played

    def extra_repr(self) -> str:
        """The settings."""
        return f"{super().extra_repr()}, factors={self.factors}, padding={self.padding!r}"

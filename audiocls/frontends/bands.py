"""Where bands stand: centres and widths, evenly spaced in mel at the start and then learnt."""

import torch
from torch import Tensor, nn

from audiocls.frontends.held import held, ratio
from audiocls.functional import MelScale, check_filterbank, hz_to_mel, mel_to_hz

_FURTHEST = 10.0  # gaps in the ratio e^20 still leave centres apart in float64


class Bands(nn.Module):
    """Lower edge, centre and upper edge of overlapping bands, as those of the mel filterbank at the start.

    Learnt are the gaps between centres and the widths, as logarithms of ratios to the even spacing in mel: a step of an
    optimiser means the same in every octave. Gaps are positive and fill the range, so centres stay sorted and between
    `f_min` and `f_max`. Neither side of a band becomes narrower than `narrowest`, or than half of what the even spacing
    gives it where its centre is, if that is less; nor wider than half the sample rate, where all is heard alike.

    Args:
        sample_rate: of the waveforms, in Hz.
        n_bins: number of bands.
        f_min: lower edge of the lowest band at the start, in Hz.
        f_max: upper edge of the highest band at the start, in Hz; None is sample_rate / 2.
        mel_scale: "slaney" or "htk".
        narrowest: floor under each side of a band, in Hz.
        learnable_centers: whether centres are learnt.
        learnable_widths: whether widths are learnt.
    Raises:
        ValueError: if there is no band, or not 0 <= f_min < f_max <= sample_rate / 2.

    >>> lower, center, upper = Bands(1600, 3, f_min=0.0, mel_scale="slaney", narrowest=30.0)()
    >>> center
    tensor([200., 400., 600.], dtype=torch.float64)
    """

    log_gap: Tensor
    log_width: Tensor

    def __init__(
        self,
        sample_rate: int,
        n_bins: int,
        *,
        f_min: float,
        f_max: float | None = None,
        mel_scale: MelScale,
        narrowest: float,
        learnable_centers: bool = False,
        learnable_widths: bool = False,
    ) -> None:
        super().__init__()
        f_max = sample_rate / 2 if f_max is None else f_max
        check_filterbank(sample_rate, 1, n_bins, f_min, f_max)
        low, high = hz_to_mel(torch.tensor([f_min, f_max], dtype=torch.float64), mel_scale=mel_scale).tolist()
        self.low_mel, self.span_mel = low, high - low
        self.mel_scale: MelScale = mel_scale
        self.narrowest, self.widest = narrowest, sample_rate / 2
        _hold(self, "log_gap", torch.zeros(n_bins + 1, dtype=torch.float32), learnable=learnable_centers)
        _hold(self, "log_width", torch.zeros(n_bins, dtype=torch.float32), learnable=learnable_widths)

    def forward(self) -> Tensor:
        """Lower edges, centres and upper edges now, in Hz, shape (3, n_bins), float64."""
        return self._edges(self.log_gap, self.log_width)

    def start(self) -> Tensor:
        """As `forward`, at the start of training."""
        return self._edges(torch.zeros_like(self.log_gap), torch.zeros_like(self.log_width))

    def _edges(self, log_gap: Tensor, log_width: Tensor) -> Tensor:
        log_gap = held(log_gap.double(), low=-_FURTHEST, high=_FURTHEST)
        center = self.low_mel + self.span_mel * torch.softmax(log_gap, dim=0).cumsum(0)[:-1]
        step = self.span_mel / len(log_gap)
        even = mel_to_hz(torch.stack([center - step, center, center + step]), mel_scale=self.mel_scale)
        side = even.diff(dim=0)
        floor = (0.5 * side).clamp(max=self.narrowest)
        below, above = held(floor + (side - floor) * ratio(log_width.double()), high=self.widest)
        return torch.stack([even[1] - below, even[1], even[1] + above])

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        learnt = [name for name, _ in self.named_parameters()]
        return f"n_bins={len(self.log_width)}, mel_scale={self.mel_scale!r}, learnt={learnt}"


def _hold(module: nn.Module, name: str, value: Tensor, *, learnable: bool) -> None:
    """A tensor as a parameter where it is learnt, else as a buffer that no checkpoint holds."""
    if learnable:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value, persistent=False)

"""Statistics of a spectrogram over time and one linear layer: the classifier without a net, for others to beat.

For twenty years this was audio classification (Tzanetakis & Cook 2002), and on small sets it still comes close to a
net, or past it. The layer can be trained as any other, and has a solution in closed form
(`audiocls.closed_form.LinearDiscriminants`), which is better where clips are few.
"""

import torch
from torch import Tensor, nn

from audiocls.functional import cepstrum
from audiocls.heads.base import Head, check_counts, check_share

N_MOMENTS = 7
_LEAST_VARIANCE = 1e-12  # under the root, whose slope at zero is infinite


class Moments(Head):
    """How a clip's timbre is on average and at its peaks, and how it varies and changes.

    Of the cepstra (cosine transform over the bins) of each frame: their mean, their mean with loud frames weighed more,
    their standard deviation, and that of their change from frame to frame. Of the bins: maximum, standard deviation and
    that of the change, each then transformed as a frame is. So 7 `n_coefficients` numbers a channel, of whole clips
    best, and with spectrograms that are logarithms; nothing before the last layer is learnt.

    Args:
        n_bins: bins of the spectrogram.
        num_classes: logits a clip.
        n_channels: channels of the spectrogram.
        n_coefficients: of each cosine transform; where there are fewer bins, all of them.
        dropout: share of these numbers set to zero while training by gradients.
    Raises:
        ValueError: if a count is below one or `dropout` is outside [0, 1).
    Source: means and deviations of cepstra as features of clips from Tzanetakis & Cook 2002,
    doi:10.1109/TSA.2002.800560.

    >>> Moments(64, 7)(torch.randn(2, 1, 64, 60)).shape
    torch.Size([2, 7])
    """

    def __init__(
        self, n_bins: int, num_classes: int, *, n_channels: int = 1, n_coefficients: int = 32, dropout: float = 0.0
    ) -> None:
        check_counts(n_bins=n_bins, n_channels=n_channels, n_coefficients=n_coefficients)
        check_share(dropout=dropout)
        n_coefficients = min(n_coefficients, n_bins)
        super().__init__(
            n_bins,
            num_classes,
            n_channels=n_channels,
            blocks={"embedding": nn.Sequential(_Moments(n_coefficients), nn.Dropout(dropout))},
            embedding_dim=n_channels * N_MOMENTS * n_coefficients,
        )


class _Moments(nn.Module):
    """(batch, channels, freq, frames) to (batch, channels * N_MOMENTS * n_coefficients)."""

    def __init__(self, n_coefficients: int) -> None:
        super().__init__()
        self.n_coefficients = n_coefficients

    def forward(self, x: Tensor) -> Tensor:
        cepstra = self._cepstrum(x)
        loudness = torch.softmax(x.mean(dim=-2, keepdim=True), dim=-1)  # of each frame, as a share of the clip's
        of_cepstra = [cepstra.mean(dim=-1), (cepstra * loudness).sum(dim=-1), _deviation(cepstra), _change(cepstra)]
        of_bins = torch.stack([x.amax(dim=-1), _deviation(x), _change(x)], dim=-1)
        return torch.cat([*of_cepstra, *self._cepstrum(of_bins).unbind(-1)], dim=-1).flatten(start_dim=1)

    def _cepstrum(self, x: Tensor) -> Tensor:
        return cepstrum(x, n_coefficients=self.n_coefficients)

    def extra_repr(self) -> str:
        return f"n_coefficients={self.n_coefficients}"


def _deviation(x: Tensor) -> Tensor:
    """Standard deviation over frames, with a finite slope where there is none."""
    return (x.var(dim=-1, correction=0) + _LEAST_VARIANCE).sqrt()


def _change(x: Tensor) -> Tensor:
    """Standard deviation of the difference from frame to frame; of a single frame, as of silence, next to none."""
    return _deviation(torch.diff(x, dim=-1, prepend=x[..., :1]))

"""Pooling over time: from one vector a frame to one vector a clip.

Every pool here is a sum of the frames under weights that it can show (`weights`): which frames a clip was judged by.
Built as `pool(n_features)` and given to a head by its class path. Pooling of both axes at once is
`audiocls.heads.map_pools.GlobalPool`.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from audiocls.heads.base import check_counts


class TimePool(nn.Module, ABC):
    """From (batch, n_features, frames) to (batch, n_features), for any number of frames from one up.

    Args:
        n_features: features of a frame.
    Raises:
        ValueError: if `n_features` is below one.
    """

    def __init__(self, n_features: int) -> None:
        super().__init__()
        check_counts(n_features=n_features)
        self.n_features = n_features

    @abstractmethod
    def weights(self, x: Tensor) -> Tensor:
        """What each frame counts for.

        Args:
            x: shape (batch, n_features, frames).
        Returns:
            Shape (batch, n_features, frames); `forward` is the sum of `x` under it.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, n_features, frames) to (batch, n_features)."""
        return (self.weights(x) * x).sum(dim=-1)

    def extra_repr(self) -> str:
        """The setting, for `print(head)`."""
        return f"n_features={self.n_features}"


class MeanPool(TimePool):
    """The mean over frames: what lasts.

    >>> MeanPool(1)(torch.tensor([[[1.0, 2.0, 6.0]]]))
    tensor([[3.]])
    """

    def weights(self, x: Tensor) -> Tensor:
        """One over the number of frames, each."""
        return torch.full_like(x, 1 / x.shape[-1])

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, n_features, frames) to (batch, n_features)."""
        return x.mean(dim=-1)


class MaxPool(TimePool):
    """The maximum of each feature over frames: what strikes.

    >>> MaxPool(1)(torch.tensor([[[1.0, 2.0, 6.0]]]))
    tensor([[6.]])
    """

    def weights(self, x: Tensor) -> Tensor:
        """One at the maximum of each feature, shared where several frames hold it; zero elsewhere."""
        at_maximum = (x == x.amax(dim=-1, keepdim=True)).to(x.dtype)
        return at_maximum / at_maximum.sum(dim=-1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, n_features, frames) to (batch, n_features)."""
        return x.amax(dim=-1)


class MeanMaxPool(TimePool):
    """The mean plus the maximum over frames; its weights sum to two.

    Source: Kong et al. 2020, arXiv:1912.10211.

    >>> MeanMaxPool(1)(torch.tensor([[[1.0, 2.0, 6.0]]]))
    tensor([[9.]])
    """

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.mean, self.max = MeanPool(n_features), MaxPool(n_features)

    def weights(self, x: Tensor) -> Tensor:
        """Those of the mean plus those of the maximum."""
        return self.mean.weights(x) + self.max.weights(x)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, n_features, frames) to (batch, n_features)."""
        return self.mean(x) + self.max(x)


class AttentionPool(TimePool):
    """A weighted mean over frames, one learnt weight a frame: softmax over time of w' tanh(V x).

    Neither matrix has a bias, as published (one behind w would drop out of the softmax). Frames in any order, or each
    repeated as often, give the same.

    Args:
        n_features: features of a frame.
        hidden_size: rows of V.
    Raises:
        ValueError: if a count is below one.
    Source: Ilse et al. 2018, arXiv:1802.04712, eq. 7-8.

    >>> AttentionPool(4)(torch.ones(2, 4, 7)).shape
    torch.Size([2, 4])
    """

    def __init__(self, n_features: int, *, hidden_size: int = 128) -> None:
        super().__init__(n_features)
        check_counts(hidden_size=hidden_size)
        self.hidden = nn.Linear(n_features, hidden_size, bias=False)
        self.score = nn.Linear(hidden_size, 1, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """The softmax over frames, the same for all features."""
        score = self.score(torch.tanh(self.hidden(x.transpose(1, 2)))).transpose(1, 2)
        return score.softmax(dim=-1).expand_as(x)


class AutoPool(TimePool):
    """A mean of each feature weighted by the softmax of alpha times itself, with one learnt alpha a feature.

    It begins at alpha = 0, the mean, as the authors' code does; alpha = 1 is softmax pooling, and towards infinity it
    becomes the maximum, towards minus infinity the minimum. Published for the probabilities of classes; here it pools
    features.

    Args:
        n_features: features of a frame.
    Source: McFee et al. 2018, arXiv:1804.10070, and marl/autopool.

    >>> AutoPool(1)(torch.tensor([[[1.0, 2.0, 6.0]]])).item()
    3.0
    """

    def __init__(self, n_features: int) -> None:
        super().__init__(n_features)
        self.alpha = nn.Parameter(torch.zeros(n_features))

    def weights(self, x: Tensor) -> Tensor:
        """The softmax over frames of each feature times its alpha."""
        return (self.alpha[:, None] * x).softmax(dim=-1)


class FreqMean(nn.Module):
    """The mean over frequency: (batch, features, freq, frames) to (batch, features, frames), ready for a `TimePool`.

    >>> FreqMean()(torch.ones(2, 8, 3, 5)).shape
    torch.Size([2, 8, 5])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Average the third axis away."""
        return x.mean(dim=-2)

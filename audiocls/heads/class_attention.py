"""A last layer that judges every frame and lets each class choose the frames that its verdict is made of.

For labels of whole clips of which a short sound may be the reason: a dog that barks once in ten seconds is a frame or
two, and a bird sings in others. The pools of `audiocls.heads.pooling` sum features up before a class is judged; this
one sums up verdicts.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassAttention(nn.Linear):
    """Decision-level attention: the clip's probability of a class is a weighted mean of its frames'.

    Of frame t with the features h_t, class c has the probability p = sigmoid(w_c' h_t + b_c), and the weight is the
    softmax over frames of v_c' h_t. What leaves is the logit of sum(weight x p), which sigmoid turns into just
    that mean: log sum(weight x p) - log sum(weight x (1 - p)), each summed as logarithms, so that nothing overflows and
    no probability of 1 becomes infinite. It lies between the lowest and the highest logit of the frames; of one frame
    it is that frame's. Where softmax follows (one class a clip), a class counts by its odds.

    The inherited weight and bias are w and b, as of the linear layer in whose place this stands. The authors' code also
    gives the weights a bias, which drops out of the softmax, clamps them before it to -10 to 10, and smooths the
    features over three frames; none of it is done here.

    Args:
        n_features: features of a frame.
        num_classes: logits a clip.
    Source: Kong et al. 2020, arXiv:1912.10211, and qiuqiangkong/audioset_tagging_cnn (`AttBlock`,
        `Cnn14_DecisionLevelAtt`); Kong et al. 2019, arXiv:1903.00765.

    >>> ClassAttention(8, 3)(torch.ones(2, 8, 7)).shape
    torch.Size([2, 3])
    """

    def __init__(self, n_features: int, num_classes: int) -> None:
        super().__init__(n_features, num_classes)
        self.attention = nn.Linear(n_features, num_classes, bias=False)

    def weights(self, x: Tensor) -> Tensor:
        """What each frame counts for in each class: (batch, n_features, frames) to (batch, num_classes, frames)."""
        return self._log_weights(x).exp()

    def forward(self, input: Tensor) -> Tensor:
        """Logits of clips, shape (batch, num_classes), from frames (batch, n_features, frames)."""
        verdicts = _of_frames(self, input)
        log_weights, logits = self._log_weights(input), _at_least_float32(verdicts)
        there = (log_weights + F.logsigmoid(logits)).logsumexp(dim=-1)
        absent = (log_weights + F.logsigmoid(-logits)).logsumexp(dim=-1)
        return (there - absent).to(verdicts.dtype)

    def _log_weights(self, x: Tensor) -> Tensor:
        return _at_least_float32(_of_frames(self.attention, x)).log_softmax(dim=-1)


class EachFrame(nn.Module):
    """Runs a block that gives a vector of a map on each frame of the map, as if it were the only one.

    Args:
        block: from (batch, features, ..., 1) to (batch, embedding_dim).

    >>> EachFrame(nn.Flatten())(torch.ones(2, 8, 3, 5)).shape
    torch.Size([2, 24, 5])
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, features, ..., frames) to (batch, embedding_dim, frames)."""
        return each_frame(self.block, x)


def each_frame(block: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What `block` gives of each frame of a map (batch, features, ..., frames), the frames last again."""
    frames = _in_order(x.movedim(-1, 1))
    vectors = block(frames.flatten(0, 1).unsqueeze(-1))
    return _in_order(vectors.unflatten(0, frames.shape[:2]).movedim(1, -1))


def _in_order(x: Tensor) -> Tensor:
    """A copy in the order of its axes: a graph asks how any other lies in memory, and is then of some lengths only."""
    return x.clone(memory_format=torch.contiguous_format)


def _of_frames(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer of each frame, as a convolution, which takes the frames where they stand."""
    return F.conv1d(x, layer.weight[..., None], layer.bias)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))

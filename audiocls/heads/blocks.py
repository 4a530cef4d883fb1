"""Parts that heads are built of: padding of the input, convolution blocks, norms, recurrent layers.

Every part keeps the axes in one order: features second, time last. Whatever follows the features may be averaged away
to describe a clip by one vector a layer.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from audiocls.heads.map_pools import MaxPoolMaps, WholeWindows


class PadTo(nn.Module):
    """Zeros on both sides of a map until it has at least so many bins and frames; the odd one goes to the end.

    Args:
        n_bins: least number of bins.
        n_frames: least number of frames.
        frame_multiple: the number of frames is brought up to a multiple of this.

    >>> PadTo(n_frames=46)(torch.ones(1, 1, 40, 1)).shape
    torch.Size([1, 1, 40, 46])
    >>> PadTo(frame_multiple=96)(torch.ones(1, 1, 40, 1366)).shape
    torch.Size([1, 1, 40, 1440])
    """

    def __init__(self, *, n_bins: int = 1, n_frames: int = 1, frame_multiple: int = 1) -> None:
        super().__init__()
        self.n_bins = n_bins
        self.n_frames = n_frames
        self.frame_multiple = frame_multiple

    def forward(self, x: Tensor) -> Tensor:
        """Pad a map of shape (batch, channels, freq, frames) over its last two axes."""
        frames = max(x.shape[-1], self.n_frames)
        missing_frames = frames + -frames % self.frame_multiple - x.shape[-1]
        missing_bins = max(self.n_bins - x.shape[-2], 0)
        left, low = missing_frames // 2, missing_bins // 2
        return F.pad(x, (left, missing_frames - left, low, missing_bins - low))

    def extra_repr(self) -> str:
        """The three settings, for `print(head)`."""
        return f"n_bins={self.n_bins}, n_frames={self.n_frames}, frame_multiple={self.frame_multiple}"


def conv_block(
    in_channels: int,
    out_channels: int,
    *,
    activation: nn.Module,
    kernel_size: int | tuple[int, int] = 3,
    padding: str = "same",
    norm: bool = True,
    pool: tuple[int, int] = (2, 2),
    ceil_mode: bool = True,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Convolution, batch normalisation, activation, max pooling, dropout, in that order.

    Args:
        in_channels: channels of the incoming map.
        out_channels: channels of the outgoing map.
        activation: the nonlinearity.
        kernel_size: (freq, frames) of the kernel, one number for a square.
        padding: "same" keeps the size, "valid" takes `kernel_size - 1` off.
        norm: normalise each channel over the batch; the convolution keeps its bias, as in the published nets.
        pool: (freq, frames) of the pooling, its stride as well.
        ceil_mode: an incomplete window at the end counts, so nothing is dropped; else as `WholeWindows` has it. Either
            way an axis of one stays one.
        dropout: share of single activations set to zero while training.
    Returns:
        Module from (batch, in_channels, freq, frames) to (batch, out_channels, freq', frames').

    >>> block = conv_block(1, 8, activation=nn.ReLU(), pool=(2, 4))
    >>> block(torch.randn(2, 1, 5, 1)).shape
    torch.Size([2, 8, 3, 1])
    """
    parts: list[nn.Module] = [nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding)]
    if norm:
        parts.append(BatchNormMaps(out_channels))
    parts += [activation, MaxPoolMaps(pool) if ceil_mode else WholeWindows(pool)]
    if dropout:
        parts.append(nn.Dropout(dropout))
    return nn.Sequential(*parts)


def same_padding(kernel_size: tuple[int, int]) -> nn.ZeroPad2d:
    """Zeros around a map so that a kernel without a stride keeps its size; of an even kernel the odd one at the end.

    For what padding="same" of a convolution cannot do: strides, and even kernels without a copy and a warning.

    >>> same_padding((1, 4))(torch.ones(1, 1, 5, 7)).shape
    torch.Size([1, 1, 5, 10])
    """
    top, left = ((size - 1) // 2 for size in kernel_size)
    return nn.ZeroPad2d((left, kernel_size[1] - 1 - left, top, kernel_size[0] - 1 - top))


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation that takes a training batch of one value a feature, too.

    One value has no variance: where a clip is alone in its batch, at the end of an epoch say, and one position is left
    of it, it is normalised by the running statistics, which stay as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise each feature, the second axis, over the others."""
        if self.training and input.numel() == input.shape[1]:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(input)


class BatchNormVectors(_BatchNorm, nn.BatchNorm1d):
    """Batch normalisation of vectors (batch, features), for a batch of one clip as well.

    One vector has no variance: alone in a training batch, at the end of an epoch say, it is normalised by the running
    statistics, which stay as they are.

    >>> BatchNormVectors(3)(torch.ones(1, 3)).shape
    torch.Size([1, 3])
    """


class BatchNormMaps(_BatchNorm, nn.BatchNorm2d):
    """Batch normalisation of maps (batch, features, freq, frames), for one clip of one position as well.

    >>> BatchNormMaps(3)(torch.ones(1, 3, 1, 1)).shape
    torch.Size([1, 3, 1, 1])
    """


def dense_block(in_features: int, out_features: int, *, activation: nn.Module) -> nn.Sequential:
    """Linear layer, batch normalisation, activation, from (batch, in_features) to (batch, out_features).

    >>> dense_block(6, 4, activation=nn.ELU())(torch.randn(2, 6)).shape
    torch.Size([2, 4])
    """
    return nn.Sequential(nn.Linear(in_features, out_features), BatchNormVectors(out_features), activation)


class Residual(nn.Module):
    """Two normalised convolutions and what came in, added, rectified and max pooled.

    What came in has a normalised convolution of its own where the others make more channels of it or fewer positions.

    Args:
        in_channels: channels of the incoming map.
        out_channels: channels of the outgoing map.
        kernel_size: (freq, frames) of every kernel, both odd.
        stride: (freq, frames) of the first convolution.
        pool: (freq, frames) of the max pooling, its stride as well.
        ceil_mode: an incomplete window of the pooling at the end counts; else as `WholeWindows` has it.
        gate: what the two convolutions give passes it before the sum.

    >>> Residual(1, 8, stride=(2, 2), pool=(1, 3))(torch.randn(2, 1, 5, 12)).shape
    torch.Size([2, 8, 3, 2])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        pool: tuple[int, int] = (1, 1),
        ceil_mode: bool = False,
        gate: nn.Module | None = None,
    ) -> None:
        super().__init__()
        padding = (kernel_size[0] // 2, kernel_size[1] // 2)

        def conv(n_in: int, stride: tuple[int, int]) -> list[nn.Module]:
            layer = nn.Conv2d(n_in, out_channels, kernel_size, stride=stride, padding=padding)
            return [layer, BatchNormMaps(out_channels)]

        self.body = nn.Sequential(*conv(in_channels, stride), nn.ReLU(), *conv(out_channels, (1, 1)))
        if gate is not None:
            self.body.append(gate)
        same = in_channels == out_channels and stride == (1, 1)
        self.shortcut = nn.Identity() if same else nn.Sequential(*conv(in_channels, stride))
        self.pool = MaxPoolMaps(pool) if ceil_mode else WholeWindows(pool)

    def forward(self, x: Tensor) -> Tensor:
        """From (batch, in_channels, freq, frames) to (batch, out_channels, freq', frames')."""
        return self.pool(F.relu(self.shortcut(x) + self.body(x)))


class Recurrent(nn.Module):
    """One layer of gated recurrent units along time; the last frame of its map has seen the whole clip.

    torch.compile does not take torch's layer in: the graph ends there and goes on behind it, and fullgraph=True is
    refused. An exported graph has it as a loop, of any length if the example that it is traced with left more than one
    frame here.

    Args:
        in_features: features a frame coming in.
        hidden_size: features a frame going out.

    >>> Recurrent(128, 32)(torch.randn(2, 128, 15)).shape
    torch.Size([2, 32, 15])
    """

    def __init__(self, in_features: int, hidden_size: int) -> None:
        super().__init__()
        self.gru = nn.GRU(in_features, hidden_size, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        """Run (batch, in_features, frames), or that with a frequency axis of one, to (batch, hidden_size, frames)."""
        x = x.flatten(1, -2).transpose(1, 2)
        states = self._scan(x) if torch.compiler.is_exporting() else self.gru(x)[0]
        return states.transpose(1, 2)

    def _scan(self, x: Tensor) -> Tensor:
        """The same states by a loop that is one operation, so that the graph has any length; torch's would be unrolled.

        Source: the equations of torch.nn.GRU.
        """
        to_gates, recurrent, bias, recurrent_bias = self.gru.all_weights[0]
        # A dense layer of each frame; a convolution does not ask how the map lies in memory, and thereby its length.
        gates = F.conv1d(x.transpose(1, 2), to_gates[..., None], bias).permute(2, 0, 1)

        def step(state: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
            reset, update, new = gate.chunk(3, dim=-1)
            from_reset, from_update, from_new = F.linear(state, recurrent, recurrent_bias).chunk(3, dim=-1)
            new = torch.tanh(new + torch.sigmoid(reset + from_reset) * from_new)
            state = new + torch.sigmoid(update + from_update) * (state - new)
            return state, state.clone()

        _, states = scan(step, x.new_zeros(x.shape[0], self.gru.hidden_size), gates)
        return states.transpose(0, 1)


class LastFrame(nn.Module):
    """The last frame of a map: (batch, features, frames) to (batch, features).

    >>> LastFrame()(torch.ones(2, 32, 15)).shape
    torch.Size([2, 32])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Take the frame at the end."""
        return x[..., -1]


def size_after(size: int, *, kernel_size: int, pools: Sequence[int]) -> int:
    """Positions left of an axis after a valid convolution and a pooling for each of `pools`, whole windows only.

    >>> size_after(257, kernel_size=3, pools=(2, 2, 2, 2))
    14
    """
    for pool in pools:
        size = (size - kernel_size + 1) // pool
    return size


def least_size(*, kernel_size: int, pools: Sequence[int]) -> int:
    """The smallest axis of which one position is left: `size_after` run backwards from one.

    >>> least_size(kernel_size=3, pools=(2, 2, 2, 2))
    46
    """
    size = 1
    for pool in reversed(pools):
        size = pool * size + kernel_size - 1
    return size


@torch.no_grad()
def initialise(module: nn.Module) -> None:
    """Fill the weights of one layer, to be handed to `Module.apply`.

    Convolutions, linear layers and the input weights of a GRU: Glorot's uniform draw; the recurrent weights of a GRU:
    orthogonal; every bias: zero; normalisation layers: one and zero. These are the defaults of Keras, in which the
    published nets were trained, and differ from torch's.
    Source: Glorot and Bengio 2010, AISTATS, eq. 16; Saxe et al. 2014, arXiv:1312.6120.

    >>> layer = nn.Linear(4, 2)
    >>> initialise(layer)
    >>> layer.bias.tolist()
    [0.0, 0.0]
    """
    if isinstance(module, nn.Conv2d | nn.Linear | nn.GRU):
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
            elif name.startswith("weight_hh"):
                nn.init.orthogonal_(parameter)
            else:
                nn.init.xavier_uniform_(parameter)

"""Pools of maps over frequency and time: by windows, to a number of frames, or over all positions.

Over time alone, from frames to a clip, it is `audiocls.heads.pooling`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MaxPoolMaps(nn.MaxPool2d):
    """Max pooling in which an incomplete window at the end counts, so nothing is dropped.

    Args:
        pool: (freq, frames) of a window, and the step to the next.

    >>> MaxPoolMaps((1, 4))(torch.ones(1, 1, 40, 11)).shape
    torch.Size([1, 1, 40, 3])
    """

    def __init__(self, pool: tuple[int, int]) -> None:
        super().__init__(pool, ceil_mode=True)
        self.pool = pool

    def forward(self, input: Tensor) -> Tensor:
        """Pool (batch, channels, freq, frames)."""
        if length_is_free():
            return F.max_pool2d(fill_windows(input, self.pool, ceil_mode=True), self.pool)
        return F.max_pool2d(input, self.pool, ceil_mode=True)


class AvgPoolMaps(nn.AvgPool2d):
    """Means over whole windows, of which a map has at least one: what is left at the end is dropped.

    Args:
        pool: (freq, frames) of a window, and the step to the next.

    >>> AvgPoolMaps((2, 2))(torch.ones(1, 1, 40, 11)).shape
    torch.Size([1, 1, 20, 5])
    """

    def __init__(self, pool: tuple[int, int]) -> None:
        super().__init__(pool)
        self.pool = pool

    def forward(self, input: Tensor) -> Tensor:
        """Pool (batch, channels, freq, frames)."""
        if length_is_free():
            input = fill_windows(input, self.pool, ceil_mode=False)
        return super().forward(input)


class WholeWindows(nn.Module):
    """Max pooling over whole windows: what is left at the end is dropped, but an axis shorter than a window is one.

    Args:
        pool: (freq, frames) of a window, and the step to the next.

    >>> WholeWindows((1, 4))(torch.ones(1, 1, 40, 11)).shape, WholeWindows((1, 4))(torch.ones(1, 1, 40, 3)).shape
    (torch.Size([1, 1, 40, 2]), torch.Size([1, 1, 40, 1]))
    """

    def __init__(self, pool: tuple[int, int]) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, channels, freq, frames)."""
        if length_is_free():
            return F.max_pool2d(fill_windows(x, self.pool, ceil_mode=False), self.pool)
        return F.max_pool2d(x, (min(self.pool[0], x.shape[-2]), min(self.pool[1], x.shape[-1])))

    def extra_repr(self) -> str:
        """The setting, for `print(head)`."""
        return f"pool={self.pool}"


def fill_windows(x: Tensor, pool: tuple[int, int], *, ceil_mode: bool) -> Tensor:
    """A map whose axes are whole numbers of windows: a last one that is incomplete is filled up, or dropped.

    For pools where `length_is_free`: those of torch ask whether windows come out even, and their graph is then of
    lengths of that kind only, or of one length. Here nothing is asked.

    Args:
        x: shape (batch, channels, freq, frames).
        pool: (freq, frames) of a window.
        ceil_mode: an incomplete window is filled with its last position, which changes no maximum; else it is dropped,
            unless it is the only one.

    >>> ramp = torch.arange(7.0).reshape(1, 1, 1, 7)
    >>> fill_windows(ramp, (1, 4), ceil_mode=True).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 6.0]
    """
    for axis, size in zip((-2, -1), pool, strict=True):
        n = x.shape[axis]
        n_windows = (n + size - 1) // size if ceil_mode else max(n // size, 1)
        x = x.index_select(axis, torch.arange(size * n_windows, device=x.device).clamp(max=n - 1))
    return x


def length_is_free() -> bool:
    """Whether a graph for maps of any length is being made: one that is exported, or compiled without gradients.

    With gradients, the indices that keep a length free would be scattered sums, slow and not reproducible on CUDA;
    crops of training have one length.
    """
    compiling = torch.compiler.is_compiling() and not torch.is_grad_enabled()
    return torch.compiler.is_exporting() or compiling


class AdaptiveFrames(nn.Module):
    """Means over near-equal stretches of time, so that a map of any length gets `n_frames` frames.

    The stretches are those of torch's adaptive pooling; as one product with a matrix they have a reproducible gradient
    on CUDA, and a graph of any length. A map that has its frames already passes unchanged.

    Args:
        n_frames: frames that come out; a map with fewer has frames repeated.

    >>> AdaptiveFrames(4)(torch.ones(2, 8, 3, 9)).shape
    torch.Size([2, 8, 3, 4])
    """

    def __init__(self, n_frames: int) -> None:
        super().__init__()
        self.n_frames = n_frames

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, channels, freq, frames) to (batch, channels, freq, n_frames)."""
        if self.n_frames == 1:
            return x.mean(-1, keepdim=True)
        if not torch.compiler.is_compiling() and x.shape[-1] == self.n_frames:
            return x
        return F.linear(x, self._shares(x.shape[-1], x.device).to(x.dtype))

    def _shares(self, n: int, device: torch.device) -> Tensor:
        """What each of n frames counts for in each that comes out, shape (n_frames, n)."""
        stretch, frame = torch.arange(self.n_frames, device=device)[:, None], torch.arange(n, device=device)
        first = stretch * n // self.n_frames
        end = ((stretch + 1) * n + self.n_frames - 1) // self.n_frames
        return ((first <= frame) & (frame < end)) / (end - first)

    def extra_repr(self) -> str:
        """The setting, for `print(head)`."""
        return f"n_frames={self.n_frames}"


class GlobalPool(nn.Module):
    """The mean plus the maximum over frequency and time: what lasts and what strikes, in one vector.

    Source: the pooling over time of Kong et al. 2020, arXiv:1912.10211, here over both axes.

    >>> GlobalPool()(torch.ones(2, 8, 3, 5)).shape
    torch.Size([2, 8])
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool (batch, channels, freq, frames) to (batch, channels)."""
        return x.mean(dim=(-2, -1)) + x.amax(dim=(-2, -1))

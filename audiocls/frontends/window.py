"""The window of a front-end's frames: fixed, or learnt sample by sample or in its length."""

from typing import Literal

import torch
from torch import Tensor, nn

from audiocls import functional
from audiocls.frontends.held import held, ratio
from audiocls.functional import WindowSpec

LearnableWindow = bool | Literal["length"]


class Window(nn.Module):
    """A window, that starts as the fixed one whatever of it is learnt.

    Args:
        name: what scipy.signal.get_window takes: "hann", or with parameters ("kaiser", 14.0).
        win_length: in samples, at the start.
        n_fft: length of the frame, in samples: as long as the window can become.
        learnable: true learns every sample; "length" learns how long a Hann window is, as the logarithm of its ratio to
            the start, at least 2 samples, and cuts off what reaches beyond the frame.
    Raises:
        ValueError: if `name`, `win_length` or `learnable` is out of range, or the length of another than a Hann window
            is to be learnt.

    >>> Window("hann", 4, n_fft=8)()
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """

    start: Tensor

    def __init__(self, name: WindowSpec, win_length: int, *, n_fft: int, learnable: LearnableWindow = False) -> None:
        super().__init__()
        if learnable not in (False, True, "length"):
            raise ValueError(f"learnable_window must be true, false or 'length', got {learnable!r}")
        if learnable == "length" and win_length < 2:
            raise ValueError(f"win_length must be at least 2 samples where it is learnt, got {win_length}")
        if learnable == "length" and name != "hann":
            raise ValueError(f"window must be 'hann' where learnable_window is 'length', got {name!r}: set it to true")
        self.n_fft = n_fft
        self.win_length = win_length
        self.learnable: LearnableWindow = learnable
        self.register_buffer("start", functional.window(name, win_length), persistent=False)
        self.samples = nn.Parameter(self.start.clone()) if learnable is True else None
        self.log_ratio = nn.Parameter(torch.zeros((), dtype=torch.float32)) if learnable == "length" else None

    def forward(self) -> Tensor:
        """The window now, shape (win_length,); (n_fft,) where its length is learnt."""
        if self.samples is not None:
            return self.samples
        if self.log_ratio is not None:
            middle = (self.n_fft - self.win_length) // 2 + self.win_length / 2
            win_length = held(self.win_length * ratio(self.log_ratio), low=2.0)  # a shorter one may hold no sample
            return functional.stretched_hann(win_length, self.n_fft, middle=middle)
        return self.start

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"win_length={self.win_length}, learnable={self.learnable!r}"

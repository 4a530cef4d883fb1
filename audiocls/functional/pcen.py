"""Per-channel energy normalisation: gain control by a moving average over frames, then a root.

The average is a linear recursion. It is computed block by block with products of small triangular matrices, never frame
by frame: all weights are positive, so nothing cancels and float32 is enough for clips of any length. In an exported
graph, which is to take any length, it is one product over all frames, whose memory grows with their square. Smoothing
of the reference over frequency, and several averages at once, are left out.
"""

from typing import Literal, overload

import torch
import torch.nn.functional as F
from torch import Tensor

# Frames of a block: blocks of 32 frames and of 32 such blocks, then one product over what is left, which is 60 for ten
# minutes and 352 for an hour at 100 frames a second.
_BLOCK = 32
_LEVELS = 2


@overload
def pcen(
    energy: Tensor,
    *,
    smooth: float | Tensor = ...,
    alpha: float | Tensor = ...,
    delta: float | Tensor = ...,
    r: float | Tensor = ...,
    eps: float = ...,
    initial: float | Tensor | None = ...,
    return_state: Literal[False] = ...,
) -> Tensor: ...


@overload
def pcen(
    energy: Tensor,
    *,
    smooth: float | Tensor = ...,
    alpha: float | Tensor = ...,
    delta: float | Tensor = ...,
    r: float | Tensor = ...,
    eps: float = ...,
    initial: float | Tensor | None = ...,
    return_state: Literal[True],
) -> tuple[Tensor, Tensor]: ...


def pcen(
    energy: Tensor,
    *,
    smooth: float | Tensor = 0.025,
    alpha: float | Tensor = 0.98,
    delta: float | Tensor = 2.0,
    r: float | Tensor = 0.5,
    eps: float = 1e-6,
    initial: float | Tensor | None = None,
    return_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Per-channel energy normalisation, (energy / (eps + average)^alpha + delta)^r - delta^r.

    `smooth`, `alpha`, `delta` and `r` are one number each, or one a bin, shape (freq,). Differentiable in all of them.

    Args:
        energy: non-negative, shape (..., freq, frames).
        smooth: weight of the newest frame in the moving average, in (0, 1]; 0.025 is 0.4 s at a 10 ms hop.
        alpha: strength of the gain control, at least 0; 1 takes all of the level away.
        delta: offset before the root, positive.
        r: exponent of the root, positive.
        eps: floor under the average, in units of energy, positive.
        initial: the average before the first frame, one number or shape (..., freq): the state of the clip before, to
            go on with a stream. None takes the first frame, so that a clip begins at its own level; 1.0 is librosa's.
        return_state: whether the average after the last frame, shape (..., freq), is returned too.
    Returns:
        Same shape and dtype, dimensionless, zero for silence; with the state where that is asked for.
    Raises:
        ValueError: if a number is out of its range.
    Source: Wang et al. 2017, arXiv:1607.05666, eq. 1-2; with initial=1.0 equal to librosa.pcen to 1e-5.

    >>> pcen(torch.ones(1, 1, 40, 100)).shape
    torch.Size([1, 1, 40, 100])
    """
    if not isinstance(alpha, Tensor) and alpha < 0:
        raise ValueError(f"alpha must be at least 0, got {alpha}")
    for name, value in (("delta", delta), ("r", r), ("eps", eps)):
        if not isinstance(value, Tensor) and value <= 0:
            raise ValueError(f"{name} must be positive, got {value}")
    energy = energy.contiguous()  # filterbanks lay frames out first; two layouts in one sum would cost more
    average = moving_average(energy, smooth, initial=initial)
    alpha, delta, r = (_column(value, energy) for value in (alpha, delta, r))
    # A logarithm and an exponential take two thirds of a power's time; in place, as each copy costs a product's.
    gain = ((average + eps).log_() * -alpha).exp_()
    scaled = energy * gain
    # Never as a difference of two roots: that would lose what is much weaker than delta.
    if isinstance(r, float) and r == 0.5:  # the usual root, without a logarithm and an exponential
        normalised = scaled / ((scaled + delta).sqrt_() + delta**0.5)
    else:
        normalised = (r * (scaled / delta).log1p_()).expm1_() * delta**r
    return (normalised, average[..., -1]) if return_state else normalised


def moving_average(
    energy: Tensor, smooth: float | Tensor, *, initial: float | Tensor | None = None, levels: int = _LEVELS
) -> Tensor:
    """Exponential moving average over frames, average[t] = (1 - smooth) average[t - 1] + smooth energy[t].

    Args:
        energy: shape (..., freq, frames).
        smooth: weight of the newest frame, in (0, 1]: one number, or one a bin, shape (freq,).
        initial: the average before the first frame, one number or shape (..., freq); None takes the first frame.
        levels: how many times frames are gathered into blocks of 32 before what is left is taken at once; the result
            is the same for any.
    Returns:
        Same shape and dtype.
    Raises:
        ValueError: if `smooth` is a number outside (0, 1].
    Source: scipy.signal.lfilter([smooth], [1, smooth - 1], energy).

    >>> moving_average(torch.tensor([[0.0, 1.0, 1.0]]), 0.5)
    tensor([[0.0000, 0.5000, 0.7500]])
    """
    if not isinstance(smooth, Tensor) and not 0 < smooth <= 1:
        raise ValueError(f"smooth must be in (0, 1], got {smooth}: it is the weight of the newest frame")
    if torch.compiler.is_exporting():
        levels = 0  # how many blocks there are would become a condition of the graph
    # In float64, and only as many numbers as there are bins: 1 - 0.001 in float32 would be off by 3e-5 of 0.001.
    smooth = torch.as_tensor(smooth, dtype=torch.float64, device=energy.device).reshape(-1)
    start = energy[..., 0] if initial is None else torch.as_tensor(initial).to(energy).expand(energy.shape[:-1])
    n_bins, frames = energy.shape[-2:]
    if smooth.shape[0] == 1:  # one decay for all rows, at once where that is no condition of a graph either
        group = (1, -1) if levels else (-1, n_bins)
        average = _recursion(energy.reshape(*group, frames), start.reshape(group), 1 - smooth, smooth, levels)
        return average.reshape(energy.shape)
    by_bin = energy.reshape(-1, n_bins, frames).transpose(0, 1)
    average = _recursion(by_bin, start.reshape(-1, n_bins).T, 1 - smooth, smooth, levels)
    return average.transpose(0, 1).reshape(energy.shape)


def _recursion(drive: Tensor, start: Tensor, decay: Tensor, gain: Tensor, levels: int) -> Tensor:
    """y[t] = decay y[t - 1] + gain drive[t] with y[-1] = start, over frames.

    In blocks of L frames: first each block as if it began at zero; then the values at the ends of the blocks, which are
    again a recursion, with decay^L; last what each end gives to the frames of the block after it.

    Args:
        drive: shape (groups, rows, frames).
        start: shape (groups, rows).
        decay: shape (groups,) or, the same for all, (1,), float64.
        gain: shape of decay, float64.
        levels: how often to cut into blocks.
    """
    frames = drive.shape[-1]
    levels = levels if levels and frames > _BLOCK else 0  # asked in this order, it is no condition of a graph
    length = _BLOCK if levels else frames
    powers = decay.unsqueeze(-1) ** torch.arange(length + 1, dtype=decay.dtype, device=decay.device)
    # Row s is what frame s gives to those after it, gain decay^(t - s): windows over one row, without an index.
    response = F.pad(gain.unsqueeze(-1) * powers[:, :length], (length - 1, 0)).to(drive.dtype)
    weight = response.as_strided((len(decay), length, length), (2 * length - 1, 1, 1)).flip(1)
    fading = powers[:, None, 1:].to(drive.dtype)
    if not levels:
        return torch.addcmul(drive @ weight, start.unsqueeze(-1), fading)
    blocks = F.pad(drive, (0, -frames % length)).unflatten(-1, (-1, length))
    within = (blocks.flatten(1, 2) @ weight).view(blocks.shape)
    after = _recursion(within[..., -1], start, powers[:, length], torch.ones_like(gain), levels - 1)
    before = torch.cat([start.unsqueeze(-1), after[..., :-1]], dim=-1)
    whole = torch.addcmul(within, before.unsqueeze(-1), fading.unsqueeze(1))
    return whole.flatten(-2)[..., :frames]


def _column(value: float | Tensor, like: Tensor) -> float | Tensor:
    """One number a bin, shape (freq,), made to broadcast over frames."""
    return value.to(like.dtype).unsqueeze(-1) if isinstance(value, Tensor) and value.ndim else value

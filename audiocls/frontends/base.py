"""What every front-end is: waveform in, spectrogram out, in float32 whatever the rest of the model runs in.

A front-end of its own says how a waveform becomes energies (`energy`); the base turns PCM into float before it, and
compresses and normalises after it. Audio in 16 bits of brain float, or a Fourier transform in TensorFloat-32, is wrong
by whole decibels, so casting, autocast and reduced matmul precision stop at this door.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.autocast_mode import is_autocast_available

from audiocls import functional
from audiocls.frontends.compression import Compression
from audiocls.frontends.eager import is_eager_on_cpu
from audiocls.frontends.normalization import Normalization

# What `torch.backends.cuda.matmul.fp32_precision` and its like ask and set, each in another roundabout way.
_precision_of, _set_precision = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
_AS_IT_IS = nullcontext()


class Frontend(nn.Module, ABC):
    """Waveform -> energies -> compression -> normalisation.

    Parameters and buffers stay float32 through `.to(torch.bfloat16)`, `.half()` and `.double()`; only their device
    changes. Inside, autocast is off and products are full float32 whatever torch.set_float32_matmul_precision says
    (inside torch.compile the setting is left alone: there the filterbank may be off by 0.003 dB under "high").

    Args:
        sample_rate: of the waveforms, in Hz.
        n_bins: number of frequency bins of the spectrogram.
        compression: makes the compression stage, given `n_bins`.
        normalization: makes the normalisation stage, given `n_bins`.
    Raises:
        ValueError: if `sample_rate` or `n_bins` is not positive.
    """

    def __init__(
        self,
        sample_rate: int,
        n_bins: int,
        *,
        compression: Callable[[int], Compression],
        normalization: Callable[[int], Normalization],
    ) -> None:
        super().__init__()
        if sample_rate < 1:
            raise ValueError(f"sample_rate must be at least 1 Hz, got {sample_rate}")
        if n_bins < 1:
            raise ValueError(f"n_bins must be at least 1, got {n_bins}")
        self.sample_rate = sample_rate
        self.n_bins = n_bins
        self.compression = compression(n_bins)
        self.normalization = normalization(n_bins)

    @abstractmethod
    def energy(self, waveform: Tensor) -> Tensor:
        """Energies of the bins, before compression.

        Args:
            waveform: shape (batch, channels, time), float32 in [-1, 1); int16 PCM where `takes_pcm` says so.
        Returns:
            Shape (batch, channels, n_bins, n_frames(time)), float32, non-negative.
        """

    def compressed(self, waveform: Tensor) -> Tensor:
        """Energies of the bins, compressed: here one after the other, where a kernel can do both in one pass.

        Args:
            waveform: as of `energy`.
        Returns:
            Shape (batch, n_maps * channels, n_bins, n_frames(time)), float32.
        """
        return self.compression(self.energy(waveform))

    @property
    def takes_pcm(self) -> bool:
        """Whether `energy` takes int16 as it is, because it makes it float32 where it reads it."""
        return False

    @abstractmethod
    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""

    @property
    def n_maps(self) -> int:
        """Channels of the spectrogram for each channel of the waveform."""
        return 1

    @property
    @abstractmethod
    def frequencies(self) -> Tensor:
        """Centre of each bin in Hz, shape (n_bins,), float32; nan where a bin stands for no frequency."""

    def filterbanks(self) -> dict[str, Tensor]:
        """Filterbank at the start of training and now, for plots.

        Returns:
            "start" and "now", each (n_bins, n_freqs) float32, detached; empty where there is no filterbank.
        """
        return {}

    def levels(self) -> dict[str, list[nn.Parameter]]:
        """What is learnt, by level: each can have its own learning rate, or stand still for the first steps.

        Returns:
            Name to parameters, for what has any: "compression", "normalization", "filterbank", or whatever part of the
            front-end holds them; of a spectrum, its "window" and its "kernels".
        """
        levels: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            levels.setdefault(_level(name), []).append(parameter)
        return levels

    def check_state(self, names: Iterable[str]) -> None:
        """Refuse weights of a front-end that learns something else, before they are loaded.

        Args:
            names: keys of the weights' `state_dict()`.
        Raises:
            ValueError: if a level is learnt in one of them only.
        """
        ours, theirs = set(self.state_dict()), set(names)
        if ours == theirs:
            return
        lacking, extra = ({_level(name) for name in one - other} for one, other in ((ours, theirs), (theirs, ours)))
        what = [f"{said} {', '.join(sorted(found))}" for said, found in (("lack", lacking), ("hold", extra)) if found]
        raise ValueError(
            f"the weights do not fit {type(self).__name__} as it is set: they {' and '.join(what)}: let it learn what "
            "they have learnt, or load them with strict=False, which begins what they lack as it is built and leaves "
            "out what is too much"
        )

    def forward(self, waveform: Tensor) -> Tensor:
        """Spectrogram of a batch of waveforms.

        Args:
            waveform: shape (batch, channels, time), int16 PCM or float in [-1, 1).
        Returns:
            Shape (batch, n_maps * channels, n_bins, n_frames(time)), float32.
        Raises:
            ValueError: if `waveform` has not three dimensions; or, on a processor and outside of compiled graphs, if it
                holds nan or infinity.
            TypeError: if `waveform` is neither int16 nor floating point.
        """
        _check_waveform(waveform)
        as_it_is = waveform.dtype == torch.int16 and self.takes_pcm
        with _full_float32("cpu" if waveform.is_cpu else waveform.device.type):
            spectrogram = self.compressed(waveform if as_it_is else functional.pcm_to_float(waveform))
            _check_finite(spectrogram, waveform)
            return self.normalization(spectrogram)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "Frontend":
        """What `.to()`, `.half()`, `.cuda()` go through: follows to another device, not to another dtype."""

        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        return super()._apply(keep_dtype, recurse)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return f"sample_rate={self.sample_rate}, n_bins={self.n_bins}"


def _level(name: str) -> str:
    """The level that a parameter belongs to, by its name."""
    part, _, rest = name.partition(".")
    return rest.partition(".")[0] if part == "spectrum" else part


def _check_waveform(waveform: Tensor) -> None:
    if waveform.ndim != 3:
        cure = {
            1: "waveform[None, None] for one mono clip",
            2: "waveform.unsqueeze(1) for (batch, time), waveform.unsqueeze(0) for (channels, time)",
        }.get(waveform.ndim, "bring it to three dimensions")
        raise ValueError(f"waveform must be (batch, channels, time), got shape {tuple(waveform.shape)}: use {cure}")


def _check_finite(spectrogram: Tensor, waveform: Tensor) -> None:
    """Raise for a waveform that holds nan or infinity, before a normalisation learns from it.

    One sum of the spectrogram, which is small beside the samples, tells. A graph cannot ask, and a GPU would have to
    wait.
    """
    if not (waveform.is_floating_point() and is_eager_on_cpu(waveform)) or spectrogram.detach().sum().isfinite():
        return
    bad = (~waveform.detach().isfinite()).flatten(start_dim=1).any(dim=1).nonzero().flatten().tolist()
    if bad:  # else it is a parameter that has gone astray, which the loss shows
        raise ValueError(
            f"waveform must be finite, got nan or infinity in clips {bad} of the batch: decode them again, or look for "
            "a division by zero in what changes them"
        )


def _full_float32(device_type: str) -> AbstractContextManager[Any]:
    """Autocast off, products and convolutions in full float32, not TensorFloat-32 or bfloat16, as long as it lasts."""
    if torch.compiler.is_compiling():  # the rest are settings of the process: a graph can neither read nor write them
        return _autocast_off(device_type)
    backend = "cuda" if device_type == "cuda" else "mkldnn"
    reduced = [kind for kind in ("matmul", "conv") if _precision_of(backend, kind) in ("tf32", "bf16")]
    # As a rule there is nothing to do, and entering and leaving contexts takes longer than to see that.
    if not reduced and not torch._C._is_any_autocast_enabled():
        return _AS_IT_IS
    return _raised(device_type, backend, reduced)


@contextmanager
def _raised(device_type: str, backend: str, reduced: Sequence[str]) -> Iterator[None]:
    precisions = [_precision_of(backend, kind) for kind in reduced]
    for kind in reduced:
        _set_precision(backend, kind, "ieee")
    try:
        with _autocast_off(device_type):
            yield
    finally:
        for kind, precision in zip(reduced, precisions, strict=True):
            _set_precision(backend, kind, precision)


def _autocast_off(device_type: str) -> AbstractContextManager[Any]:
    """Autocast switched off on a device that has it."""
    if is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return nullcontext()

"""The first two stages of a front-end that stands on the Fourier transform: frames and window, then power.

Three ways lead to the same numbers from one set of parameters. `fft` is the fast transform; on a processor, and where
nothing in it is learnt, it is taken sixteen frames at a time, which stay in the cache. `matmul` is a product with
cosines and sines: these can be learnt, and it leaves for runtimes without a Fourier transform. `fused` is one kernel
for the whole way on a GPU. Which one is taken is decided here alone.
"""

import warnings
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from audiocls import functional
from audiocls.frontends.compression import Compression
from audiocls.frontends.eager import has_hooks, is_plain
from audiocls.frontends.filterbank import Filterbank
from audiocls.frontends.window import LearnableWindow, Window
from audiocls.functional import PadMode, WindowSpec
from audiocls.functional.eager import is_eager

Path = Literal["fft", "matmul", "fused"]


class Spectrum(nn.Module):
    """Power (or magnitude) of the short-time Fourier transform.

    Args:
        n_fft: length of a frame and of the transform, in samples.
        win_length: length of the window, in samples; a shorter one stands in the middle of the frame; None is n_fft.
        hop_length: distance between frames, in samples; None is a quarter of n_fft.
        window: what scipy.signal.get_window takes: "hann", or with parameters ("kaiser", 14.0).
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stands outside the clip where `center` needs it: "constant" (zeros) or "reflect".
        power: 2.0 for power, 1.0 for magnitude.
        path: "fft", "matmul" or "fused"; None is "matmul" where the kernels are learnt, else "fused" where the waveform
            is on a GPU and `functional.why_not_fused` has no reason against it, else "fft". What is exported or goes
            through torch.func takes "fft" then, too.
        learnable_window: whether every sample of the window is learnt, or, with "length", how long a Hann window is.
        learnable_kernels: whether the cosines and sines of the transform are learnt.
    Raises:
        ValueError: if a length is out of range, or `window`, `pad_mode`, `power` or `path` is not one of those above,
            or `path` is "fused" and `n_fft`, learnt kernels or, in a call, the device do not go with it.

    >>> Spectrum(n_fft=512, hop_length=160)(torch.zeros(2, 1, 16000)).shape
    torch.Size([2, 1, 257, 101])
    """

    kernels: Tensor | None

    def __init__(
        self,
        *,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int | None = None,
        window: WindowSpec = "hann",
        center: bool = True,
        pad_mode: PadMode = "constant",
        power: float = 2.0,
        path: Path | None = None,
        learnable_window: LearnableWindow = False,
        learnable_kernels: bool = False,
    ) -> None:
        super().__init__()
        if n_fft < 1:
            raise ValueError(f"n_fft must be at least 1 sample, got {n_fft}")
        self.n_fft = n_fft
        self.win_length = _within_n_fft("win_length", n_fft if win_length is None else win_length, n_fft)
        self.hop_length = _within_n_fft("hop_length", max(n_fft // 4, 1) if hop_length is None else hop_length, n_fft)
        if pad_mode not in ("constant", "reflect"):
            raise ValueError(f"pad_mode must be 'constant' or 'reflect', got {pad_mode!r}")
        if power not in (1.0, 2.0):
            raise ValueError(f"power must be 2.0 (power) or 1.0 (magnitude), got {power}")
        self.center = center
        self.pad_mode: PadMode = pad_mode
        self.power = power
        self.path = _chosen(path, learnable_kernels, n_fft)
        self.window = Window(window, self.win_length, n_fft=n_fft, learnable=learnable_window)
        if learnable_kernels:
            self.kernels = nn.Parameter(functional.dft_kernels(n_fft))
        else:
            kernels = functional.dft_kernels(n_fft) if self.path == "matmul" else None
            self.register_buffer("kernels", kernels, persistent=False)

    def n_frames(self, n_samples: int) -> int:
        """Number of frames of a waveform of `n_samples` samples."""
        return functional.n_frames(n_samples, n_fft=self.n_fft, hop_length=self.hop_length, center=self.center)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, channels, time) to power or magnitude (batch, channels, freq, frames).

        It is float32 or int16 PCM, which becomes float32 where it is read.
        """
        if (power := self._quick(waveform)) is not None:
            return power
        if waveform.dtype == torch.int16:
            waveform = functional.pcm_to_float(waveform)
        # One dimension of clips in the transform, two in what follows: torch.export then leaves batch and time free.
        clips, window = waveform.flatten(end_dim=-2), self.window()
        power = self._dense(clips, window) if self.path == "matmul" else self._fast(clips, window)
        return (functional.magnitude(power) if self.power == 1.0 else power).unflatten(0, waveform.shape[:-1])

    def through(self, waveform: Tensor, filterbank: Filterbank, compression: Compression | None = None) -> Tensor:
        """Waveform (batch, channels, time) to energies (batch, channels, n_bins, frames) of a filterbank.

        The same as `compression(filterbank(spectrum(waveform)))`, and quicker where what is between need not be kept.
        """
        quick = None if has_hooks(self, filterbank) else self._quick(waveform, filterbank, compression)
        if quick is not None:
            return quick
        energy = filterbank(self(waveform))
        return energy if compression is None else compression(energy)

    def extra_repr(self) -> str:
        """The settings, for `print(frontend)`."""
        return (
            f"n_fft={self.n_fft}, win_length={self.win_length}, hop_length={self.hop_length}, center={self.center}, "
            f"pad_mode={self.pad_mode!r}, power={self.power}, path={self.path!r}"
        )

    def _quick(
        self, waveform: Tensor, filterbank: Filterbank | None = None, compression: Compression | None = None
    ) -> Tensor | None:
        """The whole way in one kernel, on a GPU or many frames at a time on a processor; None where neither goes."""
        weight = None if filterbank is None else filterbank.weight
        logarithm = None if compression is None else compression.logarithm
        if self._fuses(waveform, filterbank, logarithm is not None):
            kept = None if filterbank is None else filterbank.arrangements
            window, kernel = self.window(), partial(functional.fused_energy, logarithm=logarithm, arrangements=kept)
            compress = compression if compression is None or logarithm is None else compression.after_logarithm
        elif self._fits_lanes(waveform, window := self.window()):
            kernel = partial(functional.lane_energy, groups=None if filterbank is None else filterbank.groups)
            compress = None if compression is None else compression.over
        else:
            return None
        energy = kernel(
            waveform,
            weight,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            window=window,
            center=self.center,
            pad_mode=self.pad_mode,
            power=self.power,
        )
        return energy if compress is None else compress(energy)

    def _fuses(self, waveform: Tensor, filterbank: Filterbank | None, logarithmic: bool) -> bool:
        """Whether the kernel takes a waveform: it was asked for by name, or nothing was asked for and it can."""
        if self.path == "fused":
            reason = functional.why_not_fused(self.n_fft, waveform)
            if reason := reason or self._fault(waveform, filterbank, logarithmic):
                raise ValueError(reason)
            return True
        if (
            self.path is not None
            or not waveform.is_cuda
            or _leaves_or_transforms()
            or functional.why_not_fused(self.n_fft, waveform)
        ):
            return False
        if fault := self._fault(waveform, filterbank, logarithmic):
            warnings.warn(f"{fault}, as is done now", RuntimeWarning, stacklevel=2)
        return fault is None

    def _fault(self, waveform: Tensor, filterbank: Filterbank | None, logarithmic: bool) -> str | None:
        """What a trial of the kernel on this device has shown; a graph and a fake tensor have none to try it on."""
        if type(waveform) is not Tensor or not waveform.is_cuda:
            return None
        n_bins = None if filterbank is None else len(filterbank.start)
        settings = waveform.device, waveform.dtype, self.n_fft, n_bins, self.pad_mode, self.power
        return functional.fused_fault(*settings, logarithmic=logarithmic)

    def _fits_lanes(self, waveform: Tensor, window: Tensor) -> bool:
        """Whether many frames may be taken at a time: on a processor, with nothing to trace, and no gradient before."""
        return (
            self.path in (None, "fft")
            and waveform.dtype in (torch.float32, torch.int16)
            and is_plain(waveform, window)
            and functional.fits_lanes(self.n_fft)
        )

    def _fast(self, clips: Tensor, window: Tensor) -> Tensor:
        """Power by the fast transform."""
        spectrum = functional.stft(
            clips,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            window=window,
            center=self.center,
            pad_mode=self.pad_mode,
        )
        return functional.power_spectrum(spectrum)

    def _dense(self, clips: Tensor, window: Tensor) -> Tensor:
        """Power by products with the kernels."""
        assert self.kernels is not None
        # A graph cannot switch TensorFloat-32 off, as the base does outside of one; it does not touch float64.
        in_graph = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
        dtype = torch.float64 if in_graph else clips.dtype
        spectrum = functional.dft(
            clips.to(dtype),
            self.kernels.to(dtype),
            hop_length=self.hop_length,
            window=window,
            center=self.center,
            pad_mode=self.pad_mode,
        )
        power = spectrum.to(clips.dtype).square().sum(dim=1)
        # Frames first in memory, as the fast transform has them and the filterbank likes them.
        return power.transpose(-1, -2).contiguous().transpose(-1, -2)


def _leaves_or_transforms() -> bool:
    """Whether a graph is made that will run elsewhere, or a call is asked for more than the kernel's first gradient."""
    return torch.compiler.is_exporting() if torch.compiler.is_compiling() else not is_eager()


def _chosen(path: Path | None, learnable_kernels: bool, n_fft: int) -> Path | None:
    if path not in (None, "fft", "matmul", "fused"):
        raise ValueError(f"path must be 'fft', 'matmul', 'fused' or None, got {path!r}")
    if learnable_kernels and path in ("fft", "fused"):
        raise ValueError(f"path must be 'matmul' or None where learnable_kernels is true, got {path!r}")
    if path == "fused" and (reason := functional.why_not_fused(n_fft)):
        raise ValueError(reason)
    return "matmul" if learnable_kernels else path


def _within_n_fft(name: str, length: int, n_fft: int) -> int:
    if not 1 <= length <= n_fft:
        raise ValueError(f"{name} must be between 1 and n_fft={n_fft} samples, got {length}")
    return length

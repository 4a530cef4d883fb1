"""The way from waveform to energies on a GPU by one kernel, without padded samples, frames or a spectrum in memory.

The kernel is in `fused_kernels`; here is the operator around it, which torch.compile and torch.export take as one node,
and its way back. Of the power P[k] = |X[k]|², X the transform of a frame x times the window w, and of energies
E[m] = sum over k of W[m, k] P[k], with G the gradient of E:

    dW[m, k] = sum over frames of G[m] P[k]                 P is computed again, by the kernel
    dP[k]    = sum over m of G[m] W[m, k]                   for magnitudes |X| divided by 2 |X|
    d(x w)   = sum over k <= N / 2 of 2 dP[k] Re(X[k] e^(2 pi i k n / N)),    the inverse transform of dP X
    dw       = sum over frames of x d(x w),                 dx = w d(x w), frames added where they overlap

Only waveform, window and filterbank are kept from the way forth. The way back goes through parts of 4 million numbers,
which stay in the cache of a large GPU, and adds them up in order: the same numbers give the same gradient, bit by bit.
All that a learnt filterbank needs is the kernel and a product; the gradients of window and waveform take the spectrum
itself, and are left to torch's own transforms. There is no second derivative: path "fft" has it.

A fixed logarithm of the energies is taken by the kernel before it writes them, so that nothing is held but input and
output; a floor below each clip's peak, which is not known till then, is laid under the output in place. Where gradients
are asked for, and for compressions with parameters, energies are written and what follows goes over them once more.
Forth, all is float32 in full; products on the way back are what torch.set_float32_matmul_precision makes of products.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from audiocls.functional import fused_kernels
from audiocls.functional.eager import is_eager
from audiocls.functional.framing import PadMode, n_frames, pad, pad_to_frames, window_in_frame
from audiocls.functional.kept import Kept
from audiocls.functional.scaling import Logarithm, pcm_to_float, take_logarithm
from audiocls.functional.stft import power_spectrum, stft

_TOLERANCE = 1e-5  # of the peak; the kernel is within 2e-6 with random filters, 5e-7 with those of front-ends
_PART = 2**22  # numbers in frames that the way back holds at a time, 16 MiB


def why_not_fused(n_fft: int, waveform: Tensor | None = None) -> str | None:
    """What keeps the kernel from a transform, in a sentence for the user; None where nothing does.

    Args:
        n_fft: length of a frame and of the transform, in samples.
        waveform: that is to be transformed; None asks only whether any could be.
    Returns:
        The reason, with the way out.

    >>> why_not_fused(400)
    "n_fft must be a power of two from 256 to 4096 for path 'fused', got 400: change it or set path to 'fft'"
    """
    if n_fft not in (256, 512, 1024, 2048, 4096):
        rule = "n_fft must be a power of two from 256 to 4096 for path 'fused'"
        return f"{rule}, got {n_fft}: change it or set path to 'fft'"
    if waveform is None:
        return None
    if waveform.dtype not in (torch.float32, torch.int16):
        return f"waveform must be float32 or int16 for path 'fused', got {waveform.dtype}: convert it to float32"
    return _why_not_on(waveform.device)


@torch.compiler.assume_constant_result
def _why_not_on(device: torch.device) -> str | None:
    return _lacking(device)


@cache
def _lacking(device: torch.device) -> str | None:
    if device.type != "cuda":
        return f"path 'fused' needs a CUDA device, got a waveform on {device}: move it to one or set path to 'fft'"
    if torch.version.cuda is None:  # AMD's GPUs go by the same name
        return f"path 'fused' needs torch built for CUDA, got torch {torch.__version__}: set path to 'fft'"
    if not (find_spec("cuda") and find_spec("cuda.bindings")):
        return "path 'fused' needs the package cuda-bindings, which is not installed: install it or set path to 'fft'"
    return None


@torch.compiler.assume_constant_result
def fused_fault(
    device: torch.device,
    dtype: torch.dtype,
    n_fft: int,
    n_bins: int | None,
    pad_mode: PadMode,
    power: float,
    *,
    logarithmic: bool = False,
) -> str | None:
    """What is wrong with the kernel on this device, tried once with these settings; None where nothing is.

    Compilers, drivers and GPUs to come may do what no test has seen; so the kernel is held against `stft` in float64,
    on three clips of noise, before its numbers are taken for the first time.

    Args:
        device: a CUDA device that `why_not_fused` has no reason against.
        dtype: of waveforms, torch.float32 or torch.int16.
        n_fft: length of a frame, in samples.
        n_bins: number of filters; None leaves the bins of the transform.
        pad_mode: "constant" or "reflect".
        power: 2.0 for power, 1.0 for magnitude.
        logarithmic: whether the kernel takes a logarithm, too.
    Returns:
        The fault, with the way out.
    """
    return _fault(device, dtype, n_fft, n_bins, pad_mode == "reflect", power == 1.0, logarithmic)


@cache
def _fault(
    device: torch.device,
    dtype: torch.dtype,
    n_fft: int,
    n_bins: int | None,
    mirrored: bool,
    magnitudes: bool,
    logarithmic: bool,
) -> str | None:
    if _captures(device):  # which is not a fault to be kept
        raise RuntimeError("path 'fused' is tried at its first call, which no graph can capture: call it once before")
    draw = torch.Generator().manual_seed(0)
    plain: dict[str, Any] = {"dtype": torch.float32, "device": "cpu"}  # whatever the defaults are
    waveform = 0.2 * torch.randn(3, 20 * n_fft + 1, generator=draw, **plain)
    waveform = (waveform.clamp(-1, 1) * 32767).to(torch.int16) if dtype == torch.int16 else waveform
    filterbank = None
    if n_bins is not None:
        filterbank = torch.rand(n_bins, n_fft // 2 + 1, generator=draw, **plain).to(device)
        filterbank[:, : n_fft // 8] = 0  # which the kernel leaves out
    window = torch.hann_window(n_fft, **plain).to(device)
    frames = _Frames(waveform.to(device), window, n_fft // 3, True, mirrored, magnitudes)
    try:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            ours = frames.by_kernel(filterbank, logarithm=Logarithm(1.0) if logarithmic else None).double()
            ours = ours.exp2() if logarithmic else ours
            doubled = frames._replace(waveform=pcm_to_float(frames.waveform).double(), window=frames.window.double())
            expected = doubled.measure(doubled.spectrum())
            expected = expected if filterbank is None else filterbank.double() @ expected
            off = float((ours - expected).abs().max() / expected.max())
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001  whatever the compiler and the driver raise
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"path 'fused' does not run on {device} ({said}): set path to 'fft'"
    return None if off <= _TOLERANCE else f"path 'fused' is off by {off:.1e} of the peak on {device}: set path to 'fft'"


def fused_energy(
    waveform: Tensor,
    filterbank: Tensor | None = None,
    *,
    n_fft: int,
    hop_length: int,
    window: Tensor,
    center: bool = True,
    pad_mode: PadMode = "constant",
    power: float = 2.0,
    logarithm: Logarithm | None = None,
    arrangements: Kept[fused_kernels.Arrangement] | None = None,
) -> Tensor:
    """Power (or magnitude) of the short-time Fourier transform, through a filterbank where there is one.

    On a device that the kernel does not run on, which `why_not_fused` tells, the same numbers come from `stft`.

    Args:
        waveform: shape (..., time), float32 in [-1, 1) or int16 PCM.
        filterbank: shape (n_bins, n_fft // 2 + 1), float32; None leaves the bins of the transform.
        n_fft: length of a frame and of the transform, in samples: a power of two from 256 to 4096.
        hop_length: distance between frames, in samples.
        window: shape (win_length,), win_length at most n_fft; a shorter one stands in the middle of the frame.
        center: whether frame i is centred on sample i * hop_length (else it begins there).
        pad_mode: what stands outside the clip where `center` needs it: "constant" (zeros) or "reflect".
        power: 2.0 for power, 1.0 for magnitude.
        logarithm: what is taken of the energies at the end; a clip is to it as to `take_logarithm`.
        arrangements: keeps a filterbank that is not learnt as the kernel reads it, from call to call.
    Returns:
        Shape (..., n_bins, frames), float32; differentiable once in waveform, filterbank and window.
    Raises:
        ValueError: as `stft`, or if `n_fft`, `pad_mode`, `power` or a shape is not one of those above, or `filterbank`
            or `window` is on another device than `waveform`.
        TypeError: if `waveform` is neither float32 nor int16.
        RuntimeError: if a derivative goes forwards, as in torch.autograd.forward_ad.

    >>> fused_energy(torch.zeros(2, 1000), n_fft=512, hop_length=100, window=torch.ones(400)).shape
    torch.Size([2, 257, 11])
    """
    if reason := why_not_fused(n_fft):
        raise ValueError(reason)
    if waveform.dtype not in (torch.float32, torch.int16):
        raise TypeError(f"waveform must be float32 or int16, got {waveform.dtype}: convert it to float32")
    if filterbank is not None and filterbank.shape[1:] != (n_fft // 2 + 1,):
        raise ValueError(
            f"filterbank must have n_fft // 2 + 1 = {n_fft // 2 + 1} columns, got shape {tuple(filterbank.shape)}"
        )
    for name, tensor in (("filterbank", filterbank), ("window", window)):  # the kernel would take any address
        if tensor is not None and tensor.device != waveform.device:
            raise ValueError(f"{name} must be on {waveform.device}, as waveform is, got {tensor.device}: move it there")
    if pad_mode not in ("constant", "reflect"):
        raise ValueError(f"pad_mode must be 'constant' or 'reflect', got {pad_mode!r}")
    if power not in (1.0, 2.0):
        raise ValueError(f"power must be 2.0 (power) or 1.0 (magnitude), got {power}")
    n_frames(waveform.shape[-1], n_fft=n_fft, hop_length=hop_length, center=center)  # raises for too short a clip
    window = window_in_frame(window.to(torch.float32), n_fft)
    filterbank = None if filterbank is None else filterbank.to(torch.float32)
    settings = hop_length, center, pad_mode == "reflect", power == 1.0
    tensors = [tensor for tensor in (waveform, window, filterbank) if tensor is not None]
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        raise RuntimeError("path 'fused' has no derivative that goes forwards: set path to 'fft'")
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        energy: Tensor = _energy(waveform, window, filterbank, *settings, None)
        return energy if logarithm is None else take_logarithm(energy, logarithm)
    if is_eager(*tensors):  # an operator costs more than to start the kernel, and nobody looks on
        return _measured(waveform, window, settings, filterbank, logarithm, arrangements)
    return _energy(waveform, window, filterbank, *settings, None if logarithm is None else list(logarithm))


class _Frames(NamedTuple):
    """Waveforms (clips, time), a window as long as a frame, and how frames are taken and measured."""

    waveform: Tensor
    window: Tensor
    hop_length: int
    center: bool
    mirrored: bool
    magnitudes: bool

    @property
    def n_fft(self) -> int:
        return len(self.window)

    @property
    def number(self) -> int:
        """Frames of each clip."""
        return n_frames(self.waveform.shape[-1], n_fft=self.n_fft, hop_length=self.hop_length, center=self.center)

    @property
    def left(self) -> int:
        return self.n_fft // 2 if self.center else 0

    @property
    def pad_mode(self) -> PadMode:
        return "reflect" if self.mirrored else "constant"

    @property
    def have_kernel(self) -> bool:
        return _why_not_on(self.waveform.device) is None

    def by_kernel(
        self,
        filterbank: Tensor | None,
        clips: slice = slice(None),
        some: range | None = None,
        logarithm: Logarithm | None = None,
        arranged: fused_kernels.Arrangement | None = None,
    ) -> Tensor:
        """Energies (clips, n_bins, frames) of all frames, or of some frames of some clips, or logarithms of them."""
        return fused_kernels.energy(
            self.waveform[clips],
            filterbank,
            frames=range(self.number) if some is None else some,
            hop_length=self.hop_length,
            window=self.window,
            left=self.left,
            pad_mode=self.pad_mode,
            magnitudes=self.magnitudes,
            logarithm=logarithm,
            arranged=arranged,
        )

    def spectrum(self) -> Tensor:
        """Complex, shape (clips, n_freqs, frames), without the kernel."""
        waveform = self.waveform if self.waveform.dtype == torch.float64 else pcm_to_float(self.waveform)
        return stft(
            waveform,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            window=self.window,
            center=self.center,
            pad_mode=self.pad_mode,
        )

    def measure(self, spectrum: Tensor) -> Tensor:
        """Power or magnitude of a spectrum."""
        power = power_spectrum(spectrum)
        return power.sqrt() if self.magnitudes else power

    def parts(self) -> Iterator[tuple[slice, range]]:
        """All frames cut into parts: several whole clips each, or some frames of one."""
        length = max(min(_PART // self.n_fft, self.number), 1)
        clips = max(_PART // (self.n_fft * length), 1)
        for first in range(0, len(self.waveform), clips):
            for start in range(0, self.number, length):
                yield slice(first, first + clips), range(start, min(start + length, self.number))

    def filterbank_gradient(self, grad: Tensor) -> Tensor:
        """Gradient of the filterbank alone, by the kernel; `grad` is that of the energies."""
        total = grad.new_zeros(grad.shape[1], self.n_fft // 2 + 1)
        for clips, some in self.parts():
            slope, power = grad[clips, :, some.start : some.stop], self.by_kernel(None, clips, some)
            total = torch.addmm(total, _side_by_side(slope), _side_by_side(power).t())
        return total

    def gradients(
        self, grad: Tensor, filterbank: Tensor | None, asked: tuple[bool, bool, bool]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of waveform, window and filterbank, by spectra; empty where they are not asked for."""
        of_waveform, of_window, of_filterbank = asked
        padded = pad_to_frames(
            pcm_to_float(self.waveform),
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            center=self.center,
            pad_mode=self.pad_mode,
        )
        d_padded = torch.zeros_like(padded) if of_waveform else grad.new_empty(0)
        d_window = torch.zeros_like(self.window) if of_window else grad.new_empty(0)
        d_filterbank = torch.zeros_like(filterbank) if of_filterbank and filterbank is not None else grad.new_empty(0)
        for clips, some in self.parts():
            reach = slice(some.start * self.hop_length, some[-1] * self.hop_length + self.n_fft)
            frames = padded[clips, reach].unfold(-1, self.n_fft, self.hop_length)  # (clips, frames, n_fft)
            spectrum = torch.fft.rfft(frames * self.window)
            measured, slope = self.measure(spectrum), grad[clips, :, some.start : some.stop]
            if of_filterbank:
                d_filterbank = torch.addmm(d_filterbank, _side_by_side(slope), measured.flatten(0, 1))
            slope = slope.transpose(1, 2)
            d_windowed = self._through_transform(
                slope if filterbank is None else slope @ filterbank, measured, spectrum
            )
            if of_window:
                d_window += (frames * d_windowed).sum(dim=(0, 1))
            if of_waveform:
                shape = padded[clips, reach].shape
                d_padded[clips, reach] += torch.ops.aten.unfold_backward(
                    d_windowed * self.window, shape, 1, self.n_fft, self.hop_length
                )
        return self._unpadded(d_padded) if of_waveform else d_padded, d_window, d_filterbank

    def _through_transform(self, slope: Tensor, measured: Tensor, spectrum: Tensor) -> Tensor:
        """Gradient of windowed frames from that of their power or magnitude, (clips, frames, n_freqs)."""
        if self.magnitudes:
            slope = torch.where(measured > 0, slope / (2 * measured), 0.0)
        # The inverse transform takes each bin but the first and the last twice, for its mirror.
        slope = torch.cat((2 * slope[..., :1], slope[..., 1:-1], 2 * slope[..., -1:]), dim=-1)
        return torch.fft.irfft(slope * spectrum, n=self.n_fft, norm="forward")

    def _unpadded(self, padded: Tensor) -> Tensor:
        """Gradient of waveforms from that of padded ones: what stands outside is added to what it was made of."""
        time = self.waveform.shape[-1]
        inside = padded[:, self.left : self.left + time]
        if not (self.center and self.mirrored):
            return inside.contiguous()
        source = pad(torch.arange(time, device=padded.device), self.left, self.left, "reflect")
        # Sorted by torch before it is added up, so that the sums have one order.
        return padded.new_zeros(time, len(padded)).index_put_((source,), padded.t(), accumulate=True).t().contiguous()


def _side_by_side(part: Tensor) -> Tensor:
    """Clips (clips, n, frames) as one, (n, clips * frames): torch.addbmm would start a small product for each."""
    return part.transpose(0, 1).flatten(start_dim=1)


def _measured(
    waveform: Tensor,
    window: Tensor,
    settings: tuple[int, bool, bool, bool],
    filterbank: Tensor | None,
    logarithm: Logarithm | None,
    arrangements: Kept[fused_kernels.Arrangement] | None = None,
) -> Tensor:
    """Energies (..., n_bins, frames) of waveforms (..., time) with a window as long as a frame, or their logarithm."""
    frames = _Frames(waveform.reshape(-1, waveform.shape[-1]), window, *settings)
    if frames.have_kernel:
        arranged = None
        if arrangements is not None and filterbank is not None and not _captures(waveform.device):
            arranged = arrangements.of(filterbank, waveform.dtype)
        energy = frames.by_kernel(filterbank, logarithm=logarithm, arranged=arranged)
        energy = energy.view(*waveform.shape[:-1], *energy.shape[1:])
        return energy if logarithm is None else _above_floor(energy, logarithm)
    with torch.autocast(waveform.device.type, enabled=False):
        energy = frames.measure(frames.spectrum())
        energy = (energy if filterbank is None else filterbank @ energy).contiguous()
        energy = energy.view(*waveform.shape[:-1], *energy.shape[1:])
        return energy if logarithm is None else take_logarithm(energy, logarithm)


@torch.library.custom_op("audiocls::fused_energy", mutates_args=())
def _energy(
    waveform: Tensor,
    window: Tensor,
    filterbank: Tensor | None,
    hop_length: int,
    center: bool,
    mirrored: bool,
    magnitudes: bool,
    logarithm: Sequence[float] | None,
) -> Tensor:
    """What `_measured` gives, as one node of a graph."""
    taken = None if logarithm is None else Logarithm(*logarithm)
    return _measured(waveform, window, (hop_length, center, mirrored, magnitudes), filterbank, taken)


def _captures(device: torch.device) -> bool:
    """Whether a graph records what is started, instead of its being done."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _above_floor(taken: Tensor, logarithm: Logarithm) -> Tensor:
    """Logarithms, raised in place to the floor that stands a share of its peak below the peak of each clip."""
    if logarithm.share == 0 or taken.numel() == 0:
        return taken
    peak = taken.amax(dim=tuple(range(max(taken.ndim - 3, 0), taken.ndim)), keepdim=True)
    return taken.clamp_(min=peak + logarithm.per_octave * math.log2(logarithm.share))


@_energy.register_fake
def _(
    waveform: Tensor,
    window: Tensor,
    filterbank: Tensor | None,
    hop_length: int,
    center: bool,
    mirrored: bool,
    magnitudes: bool,
    logarithm: Sequence[float] | None,
) -> Tensor:
    n_bins = len(window) // 2 + 1 if filterbank is None else len(filterbank)
    number = n_frames(waveform.shape[-1], n_fft=len(window), hop_length=hop_length, center=center)
    return window.new_empty(*waveform.shape[:-1], n_bins, number)


@torch.library.custom_op("audiocls::fused_energy_backward", mutates_args=())
def _gradients(
    grad: Tensor,
    waveform: Tensor,
    window: Tensor,
    filterbank: Tensor | None,
    hop_length: int,
    center: bool,
    mirrored: bool,
    magnitudes: bool,
    of_waveform: bool,
    of_window: bool,
    of_filterbank: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of waveform, window and filterbank; empty where they are not asked for."""
    frames = _Frames(waveform.reshape(-1, waveform.shape[-1]), window, hop_length, center, mirrored, magnitudes)
    grad = grad.reshape(-1, *grad.shape[-2:])
    with torch.autocast(waveform.device.type, enabled=False):
        if frames.have_kernel and not (of_waveform or of_window):
            return grad.new_empty(0), grad.new_empty(0), frames.filterbank_gradient(grad)
        of = (of_waveform, of_window, of_filterbank)
        d_waveform, d_window, d_filterbank = frames.gradients(grad, filterbank, of)
    return d_waveform.view(waveform.shape) if of_waveform else d_waveform, d_window, d_filterbank


@_gradients.register_fake
def _(
    grad: Tensor,
    waveform: Tensor,
    window: Tensor,
    filterbank: Tensor | None,
    hop_length: int,
    center: bool,
    mirrored: bool,
    magnitudes: bool,
    of_waveform: bool,
    of_window: bool,
    of_filterbank: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    wanted = ((waveform, of_waveform), (window, of_window), (filterbank, of_filterbank))
    made = [grad.new_empty(0) if of is None or not asked else grad.new_empty(of.shape) for of, asked in wanted]
    return made[0], made[1], made[2]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.hop_length, ctx.center, ctx.mirrored, ctx.magnitudes, _ = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    settings = (ctx.hop_length, ctx.center, ctx.mirrored, ctx.magnitudes)
    asked = ctx.needs_input_grad[:3]
    made = _gradients(grad, *ctx.saved_tensors, *settings, *asked)
    return *(one if wanted else None for one, wanted in zip(made, asked, strict=True)), *[None] * 5


def _no_second(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError("path 'fused' has no second derivative: set path to 'fft'")


_energy.register_autograd(_backward, setup_context=_keep)
_gradients.register_autograd(_no_second)

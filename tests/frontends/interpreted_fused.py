"""Front-ends on path `fused`, in Triton's interpreter, against path `fft`; run by `functional/test_fused`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.frontends import (
    LFCC,
    MFCC,
    PCEN,
    Decibel,
    Frontend,
    Gammatonegram,
    Log,
    MelSpectrogram,
    ParametricMel,
    Spectrogram,
)
from tests.frontends.signals import signals

SAMPLE_RATE = 16000


def learnt_log(n_bins: int) -> Log:
    return Log(n_bins, learnable=True)


def high_log(n_bins: int) -> Log:
    """For magnitudes of single bins, which can come to nearly nothing beside a tone: 1e-7 of it is rounding."""
    return Log(n_bins, offset=1e-2)


BUILDERS: dict[str, Callable[..., Frontend]] = {
    "mel": lambda **path: MelSpectrogram(SAMPLE_RATE, n_fft=512, n_mels=40, pad_mode="reflect", **path),
    "mel, decibel": lambda **path: MelSpectrogram(SAMPLE_RATE, n_fft=512, n_mels=40, compression=Decibel, **path),
    "mel, pcen": lambda **path: MelSpectrogram(SAMPLE_RATE, n_fft=512, n_mels=40, compression=PCEN, **path),
    "mel, learnt": lambda **path: MelSpectrogram(
        SAMPLE_RATE, n_fft=512, n_mels=40, learnable=True, learnable_window=True, compression=learnt_log, **path
    ),
    "mel, learnt length, magnitude": lambda **path: MelSpectrogram(
        SAMPLE_RATE,
        n_fft=512,
        win_length=400,
        n_mels=40,
        power=1.0,
        learnable_window="length",
        compression=high_log,
        **path,
    ),
    "parametric mel": lambda **path: ParametricMel(SAMPLE_RATE, n_fft=512, n_mels=40, **path),
    "mfcc": lambda **path: MFCC(SAMPLE_RATE, n_fft=512, n_mels=40, n_deltas=1, learnable=True, **path),
    "lfcc": lambda **path: LFCC(SAMPLE_RATE, n_fft=512, n_bands=40, **path),
    "spectrogram": lambda **path: Spectrogram(
        SAMPLE_RATE, n_fft=512, f_min=100.0, f_max=6000.0, power=1.0, compression=high_log, **path
    ),
    "spectrogram, log": lambda **path: Spectrogram(
        SAMPLE_RATE, n_fft=512, n_bins=20, freq_scale="log", f_min=200.0, learnable=True, **path
    ),
    "gammatone": lambda **path: Gammatonegram(SAMPLE_RATE, n_fft=512, learnable=True, **path),
}
AT_ONCE = ("mel", "mel, learnt", "parametric mel", "spectrogram")  # what others have is among what these have
every_frontend = pytest.mark.parametrize(
    "build",
    [
        pytest.param(build, id=name, marks=[] if name in AT_ONCE else [pytest.mark.slow])
        for name, build in BUILDERS.items()
    ],
)


def clips(time: int = 2000) -> Tensor:
    """Two clips of two channels: a tone and a sweep, noise and a voice."""
    made = [torch.from_numpy(samples).float()[:time] for samples in signals(SAMPLE_RATE).values()]
    return torch.stack(made).view(2, 2, time)


def both(build: Callable[..., Frontend], **others: Any) -> tuple[Frontend, Frontend]:
    """On path `fused` and on path `fft`, with the same parameters."""
    fused, plain = (build(hop_length=160, path=path, **others) for path in ("fused", "fft"))
    with torch.no_grad():
        for parameter in fused.parameters():
            parameter.mul_(0.9 + 0.2 * torch.rand_like(parameter))
    plain.load_state_dict(fused.state_dict())
    return fused, plain


@every_frontend
def test_spectrogram_and_gradients_are_those_of_path_fft(build: Callable[..., Frontend]) -> None:
    fused, plain = both(build)
    waveform = clips()
    ours, expected = fused(waveform), plain(waveform)
    # after batch norm, whose unit is a standard deviation; energies 80 dB below a tone keep three digits
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-3)
    weighting = torch.randn(expected.shape)
    (ours * weighting).sum().backward()
    (expected * weighting).sum().backward()
    for (name, one), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        assert (one.grad - other.grad).abs().max() <= 1e-3 * other.grad.abs().max(), name  # through a logarithm


@every_frontend
def test_pcm_goes_in_as_it_is(build: Callable[..., Frontend], monkeypatch: pytest.MonkeyPatch) -> None:
    frontend = build(hop_length=160, path="fused").eval()
    pcm = (clips() * 32768).to(torch.int16)
    expected = frontend(pcm.float() / 32768)

    def refuse(waveform: Tensor) -> Tensor:
        raise AssertionError("PCM was made float32 outside of the kernel")

    monkeypatch.setattr(functional, "pcm_to_float", refuse)
    assert torch.equal(frontend(pcm), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), [("mel", torch.int16), ("mel, learnt", torch.float32)])
def test_compiles_to_one_graph_with_the_same_gradients(name: str, dtype: torch.dtype) -> None:
    torch.compiler.reset()
    frontend = BUILDERS[name](hop_length=160, path="fused")
    compiled = torch.compile(frontend, fullgraph=True, backend="aot_eager")
    waveform = (clips(1000) * 32768).to(torch.int16) if dtype == torch.int16 else clips(1000)
    weighting = torch.randn(frontend(waveform).shape)
    results = []
    for run in (frontend, compiled):
        frontend.zero_grad()
        spectrogram = run(waveform)
        (spectrogram * weighting).sum().backward()
        gradients = [parameter.grad for parameter in frontend.parameters() if parameter.grad is not None]
        assert len(gradients) == len(list(frontend.parameters()))
        results.append((spectrogram.detach(), *gradients))
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
def test_exports_the_operator_by_name_with_any_batch_and_length(dtype: torch.dtype) -> None:
    frontend = BUILDERS["mel"](hop_length=160, path="fused").eval()
    free = {0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim("time", min=257, max=480000)}
    waveform = (clips() * 32768).to(dtype)
    exported = torch.export.export(frontend, (waveform,), dynamic_shapes={"waveform": free}).module()
    graphs = [part.graph for part in exported.modules() if isinstance(part, torch.fx.GraphModule)]
    assert any(node.target is torch.ops.audiocls.fused_energy.default for graph in graphs for node in graph.nodes)
    for shape in ((1, 2, 257), (3, 2, 2001)):
        waveform = (torch.randn(shape) * 1000).to(dtype)
        torch.testing.assert_close(exported(waveform), frontend(waveform), rtol=0, atol=1e-5)


def test_nan_is_refused_as_ever() -> None:
    waveform = clips()
    waveform[1, 0, 77] = torch.nan
    with pytest.raises(ValueError, match=r"waveform must be finite, got nan or infinity in clips \[1\] of the batch"):
        BUILDERS["mel"](hop_length=160, path="fused")(waveform)


def test_it_learns() -> None:
    """Filterbank and window move towards those of another front-end."""
    given = {"n_fft": 256, "hop_length": 128, "n_mels": 12}
    goal = MelSpectrogram(SAMPLE_RATE, **given)
    frontend = MelSpectrogram(
        SAMPLE_RATE, **given, window="boxcar", learnable=True, learnable_window=True, path="fused"
    )
    waveform = torch.randn(1, 1, 1000)
    target = (goal.energy(waveform) + 1e-3).log()
    optimizer = torch.optim.Adam(frontend.parameters(), lr=0.05)
    losses = []
    for _ in range(10):
        loss = torch.nn.functional.mse_loss((frontend.energy(waveform) + 1e-3).log(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]

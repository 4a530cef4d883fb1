"""When path `fused` is taken, what it says where it cannot be, and its numbers, by kernels on the processor."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

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
from audiocls.functional import fused
from tests.emulated_fused import EmulatedFused, Operators
from tests.frontends.signals import signals

SAMPLE_RATE = 16000


def build(**settings: Any) -> MelSpectrogram:
    return MelSpectrogram(16000, **{"n_fft": 512, "hop_length": 160, "n_mels": 40, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"n_fft": 400},
            "n_fft must be a power of two from 256 to 4096 for path 'fused', got 400: change it or set path",
        ),
        ({"n_fft": 128, "hop_length": 64, "n_mels": 10}, "from 256 to 4096 for path 'fused', got 128"),
        ({"learnable_kernels": True}, "path must be 'matmul' or None where learnable_kernels is true, got 'fused'"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_with_it_are_refused_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(path="fused", **settings)
    build(**settings)  # left to choose, it takes another


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_asked_for_by_name_it_says_what_it_needs(dtype: torch.dtype) -> None:
    frontend = build(path="fused")
    with pytest.raises(
        ValueError, match="path 'fused' needs a CUDA device, got a waveform on cpu: move it to one or set"
    ):
        frontend(torch.zeros(1, 1, 4000, dtype=dtype))
    with pytest.raises(ValueError, match=r"waveform must be float32 or int16 for path 'fused', got torch\.float64"):
        frontend.spectrum(torch.zeros(1, 1, 4000, dtype=torch.float64))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU which the kernel runs on, as far as tensors without numbers can tell."""
    monkeypatch.setattr(fused, "_why_not_on", lambda device: None if device.type == "cuda" else "not here")
    monkeypatch.setattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)  # nor how they come to be


def takes_kernel(frontend: torch.nn.Module, dtype: torch.dtype = torch.float32) -> bool:
    with FakeTensorMode(allow_non_fake_inputs=True), Operators() as operators:
        spectrogram = frontend.to("cuda")(torch.zeros(2, 1, 4000, dtype=dtype, device="cuda"))
    assert spectrogram.shape[:2] == (2, 1)
    plain, kernel = "aten::_fft_r2c" in operators.names, "audiocls::fused_energy" in operators.names
    assert plain != kernel
    return kernel


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_left_to_choose_it_is_taken_on_a_gpu_where_it_fits(dtype: torch.dtype) -> None:
    for frontend in (
        build(),
        build(learnable=True, learnable_window=True),
        MFCC(16000, n_fft=1024),
        Spectrogram(16000, power=1.0),
        ParametricMel(16000),
    ):
        assert takes_kernel(frontend, dtype), frontend
    for frontend in (build(path="fft"), build(n_fft=400), build(n_fft=8192, n_mels=128)):
        assert not takes_kernel(frontend, dtype), frontend


@pytest.mark.usefixtures("gpu")
def test_what_is_exported_holds_no_operator_of_ours_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert takes_kernel(build())
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert not takes_kernel(build())
    assert takes_kernel(build(path="fused"))


@pytest.mark.usefixtures("gpu")
@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # torch.func's own
def test_what_the_kernel_cannot_tell_is_left_to_path_fft() -> None:
    frontend = build().eval()
    with FakeTensorMode(allow_non_fake_inputs=True), Operators() as operators:
        frontend.to("cuda")
        torch.func.jvp(frontend, *((torch.zeros(1, 1, 4000, device="cuda"),),) * 2)
    assert "audiocls::fused_energy" not in operators.names


def learnt_log(n_bins: int) -> Log:
    return Log(n_bins, learnable=True)


def high_log(n_bins: int) -> Log:
    """For magnitudes of single bins, which can come to nearly nothing beside a tone: 1e-7 of it is rounding."""
    return Log(n_bins, offset=1e-2)


MAKERS: dict[str, Callable[..., Frontend]] = {
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
every_frontend = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def waveforms(time: int = 2000) -> Tensor:
    """Two clips of two channels: a tone and a sweep, noise and a voice."""
    made = [torch.from_numpy(samples).float()[:time] for samples in signals(SAMPLE_RATE).values()]
    return torch.stack(made).view(2, 2, time)


def both(make: Callable[..., Frontend]) -> tuple[Frontend, Frontend]:
    """On path `fused` and on path `fft`, with the same parameters."""
    fused, plain = (make(hop_length=160, path=path) for path in ("fused", "fft"))
    with torch.no_grad():
        for parameter in fused.parameters():
            parameter.mul_(0.9 + 0.2 * torch.rand_like(parameter))
    plain.load_state_dict(fused.state_dict())
    return fused, plain


@every_frontend
def test_spectrogram_and_gradients_are_those_of_path_fft(
    emulated_fused: EmulatedFused, make: Callable[..., Frontend]
) -> None:
    fused, plain = both(make)
    waveform = waveforms()
    ours, expected = fused(waveform), plain(waveform)
    assert "energy" in emulated_fused.launched
    # after batch norm, whose unit is a standard deviation; energies 80 dB below a tone keep three digits
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-3)
    with torch.no_grad():  # logarithms are the kernel's, too
        torch.testing.assert_close(emulated_fused.in_any_order(lambda: fused(waveform)), expected, rtol=0, atol=2e-3)
    weighting = torch.randn(expected.shape)
    (ours * weighting).sum().backward()
    (expected * weighting).sum().backward()
    for (name, one), other in zip(fused.named_parameters(), plain.parameters(), strict=True):
        assert one.grad is not None, name
        assert other.grad is not None, name
        assert (one.grad - other.grad).abs().max() <= 1e-3 * other.grad.abs().max(), name  # through a logarithm


@every_frontend
@pytest.mark.usefixtures("emulated_fused")
def test_pcm_goes_in_as_it_is(make: Callable[..., Frontend], monkeypatch: pytest.MonkeyPatch) -> None:
    frontend = make(hop_length=160, path="fused").eval()
    pcm = (waveforms() * 32768).to(torch.int16)
    expected = frontend(pcm.float() / 32768)

    def refuse(waveform: Tensor) -> Tensor:
        raise AssertionError("PCM was made float32 outside of the kernel")

    monkeypatch.setattr(functional, "pcm_to_float", refuse)
    assert torch.equal(frontend(pcm), expected)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("mel, learnt", torch.float32), pytest.param("mel", torch.int16, marks=pytest.mark.slow)],
)
@pytest.mark.usefixtures("emulated_fused")
def test_compiles_to_one_graph_with_the_same_gradients(name: str, dtype: torch.dtype) -> None:
    torch.compiler.reset()
    frontend = MAKERS[name](hop_length=160, path="fused")
    compiled = torch.compile(frontend, fullgraph=True, backend="aot_eager")
    waveform = (waveforms(1000) * 32768).to(torch.int16) if dtype == torch.int16 else waveforms(1000)
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


@pytest.mark.parametrize("dtype", [torch.int16, torch.float32])
@pytest.mark.usefixtures("emulated_fused")
def test_exports_the_operator_by_name_with_any_batch_and_length(dtype: torch.dtype) -> None:
    frontend = MAKERS["mel"](hop_length=160, path="fused").eval()
    free = {0: torch.export.Dim("batch", min=1, max=512), 2: torch.export.Dim("time", min=257, max=480000)}
    waveform = (waveforms() * 32768).to(dtype)
    exported = torch.export.export(frontend, (waveform,), dynamic_shapes={"waveform": free}).module()
    graphs = [part.graph for part in exported.modules() if isinstance(part, torch.fx.GraphModule)]
    assert any(node.target is torch.ops.audiocls.fused_energy.default for graph in graphs for node in graph.nodes)
    for shape in ((1, 2, 257), (3, 2, 2001)):
        waveform = (torch.randn(shape) * 1000).to(dtype)
        torch.testing.assert_close(exported(waveform), frontend(waveform), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("emulated_fused")
def test_nan_is_refused_as_ever() -> None:
    waveform = waveforms()
    waveform[1, 0, 77] = torch.nan
    with pytest.raises(ValueError, match=r"waveform must be finite, got nan or infinity in clips \[1\] of the batch"):
        MAKERS["mel"](hop_length=160, path="fused")(waveform)


@pytest.mark.usefixtures("emulated_fused")
def test_it_learns() -> None:
    """Filterbank and window move towards those of another front-end."""
    given: dict[str, Any] = {"n_fft": 256, "hop_length": 128, "n_mels": 12}
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


@pytest.mark.gpu
@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("compression", [Log, Decibel])
def test_on_a_gpu_it_is_path_fft(learnable: bool, compression: type[Log | Decibel]) -> None:
    time = torch.arange(16000, device="cuda") / 16000
    tone = 0.5 * torch.sin(2 * torch.pi * (200 + 2000 * time) * time) + 1e-3 * torch.randn(2, 1, 16000, device="cuda")
    if reason := fused.why_not_fused(512, tone):
        pytest.skip(reason)
    results: list[list[Tensor]] = []
    for path in ("fused", "fft", None):
        frontend = build(learnable=learnable, learnable_window=learnable, compression=compression, path=path).to("cuda")
        spectrogram = frontend(tone)
        (spectrogram * torch.linspace(-1, 1, spectrogram.numel(), device="cuda").view_as(spectrogram)).sum().backward()
        gradients = [parameter.grad for parameter in frontend.parameters() if parameter.grad is not None]
        results.append([spectrogram.detach(), *gradients])
    for ours, expected in zip(*results[:2], strict=True):
        assert (ours - expected).abs().max() <= 1e-3 * expected.abs().max()
    assert torch.equal(results[2][0], results[0][0]), "left to choose, it takes the kernel"


@pytest.mark.gpu
def test_on_a_gpu_where_the_kernel_is_found_wrong_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    pcm = (1e3 * torch.randn(2, 1, 8000, device="cuda")).to(torch.int16)
    if reason := fused.why_not_fused(512, pcm):
        pytest.skip(reason)
    fault = "path 'fused' is off by 1.0e-01 of the peak on cuda:0: set path to 'fft'"
    monkeypatch.setattr(functional, "fused_fault", lambda *_, **__: fault)
    with pytest.warns(RuntimeWarning, match=r"is off by 1\.0e-01 .*, as is done now"):
        ours = build().to("cuda")(pcm)
    assert torch.equal(ours, build(path="fft").to("cuda")(pcm))
    with pytest.raises(ValueError, match=r"is off by 1\.0e-01"):
        build(path="fused").to("cuda")(pcm)

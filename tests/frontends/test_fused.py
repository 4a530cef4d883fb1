"""When path `fused` is taken, and what it says where it cannot be; its numbers are in `interpreted_fused`, which
`functional/test_fused` runs.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from audiocls import functional
from audiocls.frontends import MFCC, Decibel, Log, MelSpectrogram, ParametricMel, Spectrogram
from audiocls.functional import fused


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


class Operators(TorchDispatchMode):
    """The names of all operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU which the kernel runs on, as far as tensors without numbers can tell."""
    monkeypatch.setattr(fused, "_why_not_on", lambda device: None if device.type == "cuda" else "not here")


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

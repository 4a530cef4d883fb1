"""The operator `fused_energy`: what it refuses, what it is without a GPU, whether its kernels can be compiled, and its
numbers on a GPU where there is one.

Numbers on a processor are in `test_fused_kernels`, the start of a kernel in `test_fused_launch`.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audiocls import frontends, functional
from audiocls.functional import fused, fused_energy, fused_kernels, why_not_fused
from tests.emulated_fused import KERNELS
from tests.functional.energies import SIZES, assert_exact, clips, exact, framings, mel, pcm, settings


def plain(waveform: Tensor, filterbank: Tensor, **settings: Any) -> Tensor:
    return filterbank @ functional.power_spectrum(functional.stft(waveform, **settings))


@pytest.mark.parametrize("n_fft", SIZES)
def test_on_a_processor_it_is_stft(n_fft: int) -> None:
    weight = mel(n_fft, 20).requires_grad_()
    window = functional.window("hann", n_fft - 100).requires_grad_()
    given = {"n_fft": n_fft, "hop_length": 200, "window": window, "pad_mode": "reflect"}
    waveform = clips().requires_grad_()
    results = []
    for energy in (fused_energy(waveform, weight, **given), plain(waveform, weight, **given)):
        results.append((energy, *torch.autograd.grad((energy + 1e-3).log().sum(), (waveform, window, weight))))
    assert torch.equal(results[0][0], results[1][0])
    for ours, expected in zip(*results, strict=True):
        assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()  # sums over frames in another order


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"n_fft": 400},
            "n_fft must be a power of two from 256 to 4096 for path 'fused', got 400: change it or set path",
        ),
        ({"n_fft": 8192}, "n_fft must be a power of two from 256 to 4096 for path 'fused', got 8192"),
        ({"window": torch.ones(513)}, "win_length must be between 1 and n_fft=512 samples, got 513"),
        ({"hop_length": 0}, "hop_length must be at least 1 sample, got 0"),
        ({"pad_mode": "replicate"}, "pad_mode must be 'constant' or 'reflect', got 'replicate'"),
        ({"power": 3.0}, r"power must be 2.0 \(power\) or 1.0 \(magnitude\), got 3.0"),
        (
            {"filterbank": torch.ones(3, 256)},
            r"filterbank must have n_fft // 2 \+ 1 = 257 columns, got shape \(3, 256\)",
        ),
        ({"waveform": torch.zeros(2, 0)}, "waveform must hold at least 1 sample, got 0"),
        ({"window": torch.ones(512, device="meta")}, "window must be on cpu, as waveform is, got meta: move it there"),
        ({"filterbank": torch.ones(3, 257, device="meta")}, "filterbank must be on cpu, as waveform is, got meta"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_refuses(changed: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"waveform": torch.zeros(1, 1000), "n_fft": 512, "hop_length": 100}
    arguments |= {"window": torch.ones(512), "filterbank": None} | changed
    with pytest.raises(ValueError, match=message):
        fused_energy(arguments.pop("waveform"), arguments.pop("filterbank"), **arguments)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int32])
def test_other_types_are_refused(dtype: torch.dtype) -> None:
    waveform = torch.zeros(1, 1000, dtype=dtype)
    with pytest.raises(TypeError, match=f"waveform must be float32 or int16, got {dtype}: convert it to float32"):
        fused_energy(waveform, n_fft=512, hop_length=100, window=torch.ones(512))
    assert f"for path 'fused', got {dtype}" in str(why_not_fused(512, waveform))


def test_a_processor_asks_for_neither_compiler_nor_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """That importing asks for none either is in `test_fused_launch`."""
    for name in ("triton", "cuda", "cuda.bindings", "cuda.bindings.nvrtc", "cuda.bindings.driver"):
        monkeypatch.setitem(sys.modules, name, None)  # as if not installed
    assert fused_energy(torch.ones(1, 900), n_fft=256, hop_length=100, window=torch.ones(256)).shape == (1, 129, 10)
    assert frontends.MelSpectrogram(16000, path="matmul")(torch.zeros(1, 1, 900)).shape[2] == 64
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    lacking = fused._lacking.__wrapped__(torch.device("cuda"))
    assert str(lacking).startswith(
        "path 'fused' needs the package cuda-bindings, which is not installed: install it or"
    )


def test_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_fused(1024) is None
    assert "needs a CUDA device, got a waveform on cpu: move it" in str(why_not_fused(1024, torch.zeros(1, 1000)))
    lacking, device = fused._lacking.__wrapped__, torch.device("cuda:0")
    monkeypatch.setattr(torch.version, "cuda", None)  # as built for AMD's GPUs, which go by the same name
    monkeypatch.setattr(torch, "__version__", "2.12.1+rocm7.2")
    assert lacking(device) == "path 'fused' needs torch built for CUDA, got torch 2.12.1+rocm7.2: set path to 'fft'"
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(fused, "find_spec", lambda name: name)
    assert lacking(device) is None
    for missing in ("cuda", "cuda.bindings"):  # where the first is, the second need not be
        monkeypatch.setattr(fused, "find_spec", lambda name, missing=missing: None if name == missing else name)
        assert "needs the package cuda-bindings, which is not installed: install it or set path" in str(lacking(device))


@pytest.fixture
def capabilities() -> list[tuple[int, int]]:
    """What NVIDIA's compiler knows, which needs no GPU; its package and what it loads come with torch for CUDA."""
    if not (find_spec("cuda") and find_spec("cuda.bindings")):
        pytest.skip("cuda-bindings is not installed")
    try:
        _, known = import_module("cuda.bindings.nvrtc").nvrtcGetSupportedArchs()
    except Exception as error:  # noqa: BLE001  its own in every version
        pytest.skip(f"NVRTC is not here: {error}")
    return [divmod(number, 10) for number in known]


GPUS = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0))
PLAIN = {
    (256, torch.int16, (9, 0)),
    (512, torch.float32, (9, 0)),
    (1024, torch.int16, (9, 0)),
    (2048, torch.float32, (9, 0)),
    (4096, torch.float32, (9, 0)),
}


@pytest.mark.parametrize(
    ("n_fft", "dtype", "gpu"),
    [
        pytest.param(*kernel, marks=() if kernel in PLAIN else pytest.mark.slow)
        for kernel in product(SIZES, (torch.float32, torch.int16), GPUS)
    ],
    ids=str,
)
def test_kernels_compile_and_fit(
    capabilities: list[tuple[int, int]], n_fft: int, dtype: torch.dtype, gpu: tuple[int, int], tmp_path: Path
) -> None:
    if gpu not in capabilities:
        pytest.skip(f"this NVRTC does not know compute capability {gpu}")
    code = fused_kernels.compiled(n_fft, dtype, gpu)
    assert code.startswith(b"\x7fELF")  # machine code, not what a driver would have to translate
    usage = resources(code, tmp_path)
    assert usage.keys() == KERNELS.keys()
    for name, (stack, shared, local) in usage.items():
        assert (stack, local) == (0, 0), f"{name} has no registers for all it holds"
        assert shared <= 48 * 1024  # which every GPU has for a block that asks for no more


def resources(code: bytes, folder: Path) -> dict[str, tuple[int, ...]]:
    """Kernel -> bytes of stack, shared and local memory; skips where nothing reads them."""
    triton = find_spec("triton")
    reader = Path((triton and triton.origin) or "", "..", "backends", "nvidia", "bin", "cuobjdump").resolve()
    if not reader.is_file():
        pytest.skip("triton, which brings cuobjdump, is not installed: compiled, but not looked at")
    (folder / "kernels").write_bytes(code)
    command = [reader, "--dump-resource-usage", folder / "kernels"]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.findall(r"Function (\w+):\s+REG:\d+ STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
    return {name: tuple(map(int, numbers)) for name, *numbers in found}


@pytest.mark.usefixtures("capabilities")
def test_what_the_compiler_says_against_a_source_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "fused_energy.cu"
    broken.write_text(fused_kernels.SOURCE.read_text().replace("extern", "return undeclared;\nextern", 1))
    monkeypatch.setattr(fused_kernels, "SOURCE", broken)
    with pytest.raises(RuntimeError, match=r"fused_energy\.cu\(\d+\): error: "):
        fused_kernels.compiled.__wrapped__(256, torch.float32, (9, 0))
    with pytest.raises(RuntimeError, match="gpu-architecture"):
        fused_kernels.compiled.__wrapped__(256, torch.float32, (1, 0))


@pytest.fixture
def cuda() -> torch.device:
    """A GPU that the kernel runs on."""
    if reason := why_not_fused(512, torch.zeros(1, 1, device="cuda")):
        pytest.skip(reason)
    return torch.device("cuda", torch.cuda.current_device())


def on(device: torch.device, given: dict[str, Any]) -> dict[str, Any]:
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in given.items()}


@pytest.mark.gpu
@pytest.mark.parametrize("n_fft", SIZES)
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("power", [2.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16], ids=str)
def test_bins_are_exact_on_a_gpu(
    cuda: torch.device, n_fft: int, pad_mode: str, power: float, dtype: torch.dtype
) -> None:
    for time in (1, 2, 100, n_fft // 2 - 1, n_fft // 2, n_fft // 2 + 1, n_fft + 1, 7999, 8000):
        waveform = (pcm(clips(time)) if dtype == torch.int16 else clips(time)).to(cuda)
        for hop_length, win_length, center in framings(n_fft):
            if center or time >= n_fft:
                given = on(cuda, settings(n_fft, hop_length, win_length, center=center, pad_mode=pad_mode, power=power))
                energy = fused_energy(waveform, **given)
                assert_exact(energy, waveform, within=5e-7 if time >= 7999 else 1e-6, **given)
                assert torch.equal(fused_energy(waveform, **given), energy)
                for i in range(len(waveform)):  # at other addresses, even and odd
                    assert torch.equal(fused_energy(waveform[i : i + 1].clone(), **given)[0], energy[i])
                if dtype == torch.int16:
                    assert torch.equal(fused_energy(waveform.float() / 32768, **given), energy)


@pytest.mark.gpu
@pytest.mark.parametrize("n_fft", SIZES)
@pytest.mark.parametrize("power", [2.0, 1.0])
def test_filters_and_logarithms_on_a_gpu(cuda: torch.device, n_fft: int, power: float) -> None:
    waveform, n_freqs = clips(7999).to(cuda), n_fft // 2 + 1
    given = on(cuda, settings(n_fft, n_fft // 2 - 1, power=power, pad_mode="reflect"))
    banks = [mel(n_fft, n_mels) for n_mels in (1, 3, 40, 64, 129, 200)]
    banks += [torch.eye(n_freqs), torch.zeros(5, n_freqs), torch.rand(17, n_freqs), torch.randn(6, n_freqs)]
    for weight in (bank.to(cuda) for bank in banks):
        energy = fused_energy(waveform, weight, **given)
        assert_exact(energy, waveform, weight, **given)
        assert torch.equal(fused_energy(waveform, weight, **given), energy)
        if (weight >= 0).all():
            expected = exact(waveform, weight, **given)
            inside = expected > expected.amax(dim=(-2, -1), keepdim=True) * 10 ** (-4 * power)  # 80 dB
            assert inside.any() or not weight.any()
            assert (20 / power * (energy[inside] / expected[inside]).log10()).abs().le(0.01).all()
            for logarithm in (functional.natural_logarithm(1e-3), functional.decibel(amin=1e-3, top_db=30.0)):
                taken = fused_energy(waveform, weight, **given, logarithm=logarithm)
                torch.testing.assert_close(taken, functional.take_logarithm(energy, logarithm), rtol=0, atol=2e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("n_fft", SIZES)
@pytest.mark.parametrize("power", [2.0, 1.0])
@pytest.mark.parametrize("names", ["filterbank", "waveform, window, filterbank"])
def test_gradients_on_a_gpu(cuda: torch.device, n_fft: int, power: float, names: str) -> None:
    waveform = clips(8000)[2:4]  # beside a pure tone most magnitudes are rounding, which has any direction
    learnt = {"waveform": waveform, "filterbank": mel(n_fft, 40), "window": functional.window("hann", n_fft - 56)}
    given: dict[str, Any] = {"n_fft": n_fft, "hop_length": n_fft // 3, "pad_mode": "reflect", "power": power}
    within = 1e-3 if power == 2.0 else 2e-2  # a few magnitudes are next to nothing here, too
    results = []
    for energies in (fused_energy, fused_energy, exact):
        tensors: dict[str, Any] = {
            name: tensor.to(cuda).requires_grad_(name in names) for name, tensor in learnt.items()
        }
        energy = energies(**given, **tensors)
        weighting = torch.linspace(-1, 1, energy.numel(), device=cuda).view(energy.shape)
        asked = [tensor for tensor in tensors.values() if tensor.requires_grad]
        results.append(torch.autograd.grad(((energy + 1e-3).log() * weighting).sum(), asked))
    for ours, again, expected in zip(*results, strict=True):
        assert torch.equal(ours, again)
        assert (ours - expected).abs().max() <= within * expected.abs().max()


def heard(device: torch.device) -> dict[str, Any]:
    """Arguments for `fused_energy` on a device."""
    given = {"waveform": clips(8000), "filterbank": mel(1024, 64), **settings(1024, 320)}
    return on(device, given | {"logarithm": functional.decibel(top_db=80.0)})


@pytest.mark.gpu
@pytest.mark.parametrize("n_fft", SIZES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.int16], ids=str)
def test_its_own_trial_finds_no_fault_on_a_gpu(cuda: torch.device, n_fft: int, dtype: torch.dtype) -> None:
    for n_bins, logarithmic in ((None, False), (40, True)):
        assert functional.fused_fault(cuda, dtype, n_fft, n_bins, "reflect", 2.0, logarithmic=logarithmic) is None


@pytest.mark.gpu
def test_a_thread_that_has_asked_nothing_of_cuda_starts_the_kernel(cuda: torch.device) -> None:
    given = heard(cuda)
    torch.cuda.synchronize()
    with ThreadPoolExecutor(1) as thread:
        made = thread.submit(lambda: fused_energy(**given).cpu()).result()
    assert torch.equal(made, fused_energy(**given).cpu())


@pytest.mark.gpu
def test_the_kernel_waits_for_what_stands_before_it_in_its_stream(cuda: torch.device) -> None:
    given, late = heard(cuda), heard(cuda)
    late["waveform"] = torch.zeros_like(given["waveform"])
    expected = fused_energy(**given)
    stream = torch.cuda.Stream(cuda)
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # cycles; in another stream the kernel would read zeros
        late["waveform"].copy_(given["waveform"])
        made = fused_energy(**late)
    stream.synchronize()
    assert torch.equal(made, expected)


@pytest.mark.gpu
def test_the_device_is_that_of_the_waveform(cuda: torch.device) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    other = torch.device("cuda", (cuda.index + 1) % torch.cuda.device_count())
    made = fused_energy(**heard(other))
    assert made.device == other
    assert torch.cuda.current_device() == cuda.index
    assert torch.allclose(made.cpu(), fused_energy(**heard(cuda)).cpu(), rtol=0, atol=0.01)  # dB, of unlike GPUs


@pytest.mark.gpu
def test_a_graph_replays_the_kernel_on_other_numbers(cuda: torch.device) -> None:
    """Of waveform and filterbank, whose weights may stand in other bins than when it was captured."""
    held = heard(cuda)
    side = torch.cuda.Stream(cuda)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        fused_energy(**held)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        made = fused_energy(**held)
    for waveform, weight in (
        (clips(8000).flip(0), mel(1024, 64)),
        (0.3 * torch.randn(5, 8000), mel(1024, 64).flip(0)),
        (clips(8000), torch.rand(64, 513)),
        (clips(8000), torch.zeros(64, 513)),
    ):
        held["waveform"].copy_(waveform)
        held["filterbank"].copy_(weight)
        made.fill_(torch.nan)
        graph.replay()
        assert torch.equal(made, fused_energy(**held))


@pytest.fixture
def no_trial_yet() -> Iterator[None]:
    fused._fault.cache_clear()
    yield
    fused._fault.cache_clear()


@pytest.mark.usefixtures("no_trial_yet")
def test_a_kernel_that_is_off_or_does_not_run_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(kernel: Callable[..., Tensor]) -> str | None:
        monkeypatch.setattr(fused._Frames, "by_kernel", kernel)
        fused._fault.cache_clear()
        return functional.fused_fault(torch.device("cpu"), torch.int16, 512, 10, "reflect", 2.0)

    def right(frames: Any, filterbank: Tensor | None, **_: Any) -> Tensor:
        assert filterbank is not None
        return filterbank @ frames.measure(frames.spectrum())

    def broken(frames: Any, filterbank: Tensor | None, **_: Any) -> Tensor:
        raise RuntimeError("CUDA_ERROR_NO_BINARY_FOR_GPU\nand more")

    assert trial(right) is None
    off = trial(lambda frames, filterbank, **_: right(frames, filterbank) * (1 + 3e-5))
    assert off is not None
    assert re.fullmatch(r"path 'fused' is off by 3\.\de-05 of the peak on cpu: set path to 'fft'", off)
    assert trial(broken) == "path 'fused' does not run on cpu (CUDA_ERROR_NO_BINARY_FOR_GPU): set path to 'fft'"

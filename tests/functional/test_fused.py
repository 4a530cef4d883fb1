"""The operator `fused_energy`: what it refuses, what it is without a GPU, and whether its kernel would run on one.

The kernel itself is tested in `interpreted_fused`, which is run from here with that of the front-ends, and on a GPU
where there is one.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.functional import fused, fused_energy, why_not_fused
from tests.frontends.signals import signals
from tests.interpreter import TESTS, run_interpreted

SAMPLE_RATE = 16000


def test_the_kernel_and_its_front_ends_in_the_interpreter(pytestconfig: pytest.Config) -> None:
    """In one process for both, since most of a second one would be imports."""
    pytest.importorskip("triton", reason="triton is not installed")
    files = (TESTS / part / "interpreted_fused.py" for part in ("functional", "frontends"))
    run_interpreted(*files, slow=pytestconfig.getoption("--slow"))


def clips() -> Tensor:
    return torch.stack([torch.from_numpy(samples).float() for samples in signals(SAMPLE_RATE).values()])


def plain(waveform: Tensor, filterbank: Tensor, **settings: Any) -> Tensor:
    return filterbank @ functional.power_spectrum(functional.stft(waveform, **settings))


@pytest.mark.parametrize("n_fft", [256, 512, 1024, 2048, 4096])
def test_on_a_processor_it_is_stft(n_fft: int) -> None:
    weight = functional.mel_filterbank(sample_rate=SAMPLE_RATE, n_fft=n_fft, n_mels=20).requires_grad_()
    window = functional.window("hann", n_fft - 100).requires_grad_()
    given = {"n_fft": n_fft, "hop_length": 200, "window": window, "pad_mode": "reflect"}
    waveform = clips().requires_grad_()
    results = []
    for energy in (fused_energy(waveform, weight, **given), plain(waveform, weight, **given)):
        results.append((energy, *torch.autograd.grad((energy + 1e-3).log().sum(), (waveform, window, weight))))
    assert torch.equal(results[0][0], results[1][0])
    for ours, expected in zip(*results, strict=True):
        assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()  # sums over frames in another order


@pytest.mark.slow
def test_a_machine_without_triton_does_without_it() -> None:
    code = (
        "import sys; sys.modules['triton'] = None\n"  # as if it were not installed
        "import torch; from audiocls import frontends; from audiocls.functional import fused_energy\n"
        "print(fused_energy(torch.ones(1, 900), n_fft=256, hop_length=100, window=torch.ones(256)).shape[1])\n"
        "print(frontends.MelSpectrogram(16000)(torch.zeros(1, 1, 900)).shape[2])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["129", "64"]


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


def test_says_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert why_not_fused(1024) is None
    assert "needs a CUDA device, got a waveform on cpu: move it" in str(why_not_fused(1024, torch.zeros(1, 1000)))
    device = torch.device("cuda:0")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert "compute capability 8.0 or above, got Tesla T4: set path" in str(fused._lacking.__wrapped__(device))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(fused, "find_spec", lambda name: None)
    assert "needs the package triton, which is not installed" in str(fused._lacking.__wrapped__(device))
    monkeypatch.setattr(fused, "find_spec", lambda name: name)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "needs a C compiler to start kernels: install gcc" in str(fused._lacking.__wrapped__(device))
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "clang" else None)
    monkeypatch.setattr(fused.sysconfig, "get_path", lambda name: str(tmp_path))
    assert "needs Python's headers to start kernels: install python3-dev" in str(fused._lacking.__wrapped__(device))
    (tmp_path / "Python.h").touch()
    assert fused._lacking.__wrapped__(device) is None
    monkeypatch.setattr(torch.version, "cuda", None)  # a GPU of another maker answers to "cuda", too
    assert "needs a CUDA device" in str(fused._lacking.__wrapped__(device))


def high(tensor: Tensor) -> Tensor:
    """What TensorFloat-32 keeps of float32, all but the last 13 bits, rounded to the nearest as Triton has it."""
    return ((tensor.contiguous().view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


def product(a: Tensor, b: Tensor, *, terms: int) -> Tensor:
    """A product as tensor cores make it, of one or of three of TensorFloat-32."""
    small_a, small_b = high(a - high(a)), high(b - high(b))
    one = high(a) @ high(b)
    return one if terms == 1 else small_a @ high(b) + high(a) @ small_b + one


def factored_power(frames: Tensor, *, terms: int) -> Tensor:
    """Power of windowed frames (frames, n_fft) by the kernel's tables, shape (frames, n_fft // 2 + 1)."""
    from audiocls.functional import fused_kernels

    n_fft = frames.shape[-1]
    tables = fused_kernels.tables(n_fft, frames.device)
    p, q = tables.stage1.shape[-1], tables.twiddle.shape[-1]
    x = frames.unflatten(-1, (p, q))
    real, imag = (product(matrix, x, terms=terms) for matrix in tables.stage1)  # (frames, slots, q)
    turn_real, turn_imag = tables.twiddle
    parts = (real * turn_real - imag * turn_imag, real * turn_imag + imag * turn_real)
    signs = 1.0 - 2.0 * (torch.arange(max(p, q)) % 2)
    odd, last = (signs[:p, None] * x).sum(dim=1), (x.sum(dim=1) * signs[:q]).sum(dim=-1)
    power = frames.new_full((len(frames), n_fft // 2 + 1), torch.nan)
    slots, steps = torch.arange(p // 2), tables.half.shape[2]
    for group, (of_real, of_imag) in enumerate(tables.stage2.flatten(3)):
        y = product(parts[0], of_real, terms=terms) + product(parts[1], of_imag, terms=terms)
        squares = y.unflatten(-1, (2, steps, 2)).square().sum(dim=-1)  # (frames, slots, mirror, step)
        half = (odd @ tables.half[group].flatten(1)).unflatten(-1, (steps, 2)).square().sum(dim=-1)
        for step in range(steps):
            first = (group * steps + step) * p
            power[:, first + slots] = squares[:, :, 0, step]
            power[:, first + p - slots[1:]] = squares[:, 1:, 1, step]
            power[:, first + p // 2] = half[:, step]
    power[:, -1] = last.square()
    return power


@pytest.mark.parametrize("n_fft", [256, 512, 1024, 2048, 4096])
def test_three_products_are_float32_and_one_is_not(n_fft: int) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    frames = (clips().unfold(-1, n_fft, n_fft // 2) * functional.window("hann", n_fft)).flatten(0, 1)
    exact = torch.fft.rfft(frames.double()).abs().square()
    peak = exact.amax(dim=-1, keepdim=True)
    weight = functional.mel_filterbank(sample_rate=SAMPLE_RATE, n_fft=n_fft, n_mels=40).double()
    errors = {}
    for terms in (1, 3):
        power = factored_power(frames, terms=terms).double()
        ours, expected = power @ weight.T, exact @ weight.T
        inside = expected > 1e-8 * expected.amax(dim=-1, keepdim=True)
        decibels = 10 * (ours[inside] / expected[inside]).log10().abs().max()
        errors[terms] = ((power - exact).abs() / peak).max(), decibels
    assert errors[3][0] <= 1e-6
    assert errors[3][1] <= 0.01
    assert errors[1][0] > 1e-4  # which is why the kernel does not take what Triton takes unasked
    assert errors[1][1] > 0.5


CASES = [
    (512, 80, "fp32", "constant"),
    *[
        pytest.param(*case, marks=pytest.mark.slow)
        for case in (
            (256, 128, "i16", "reflect"),
            (512, 129, "fp32", "reflect, repeatedly"),
            (512, None, "fp32", "constant"),
            (1024, 64, "i16", "constant"),
            (1024, 128, "fp32", "reflect"),
            (2048, 128, "i16", "constant"),
            (4096, 128, "fp32", "reflect"),
            (4096, None, "i16", "reflect"),
        )
    ],
]
GPUS = [90, *(pytest.param(other, marks=pytest.mark.slow) for other in (80, 86, 89, 100, 120))]


@pytest.mark.parametrize("capability", GPUS)
@pytest.mark.parametrize(("n_fft", "n_bins", "sample", "padding"), CASES)
def test_kernel_compiles_and_fits(
    n_fft: int,
    n_bins: int | None,
    sample: str,
    padding: str,
    capability: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    triton = pytest.importorskip("triton", reason="triton is not installed")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = compiled(n_fft, n_bins, sample=sample, padding=padding, capability=capability)
    assert kernel.metadata.shared <= 99 * 1024  # of the smallest of these GPUs, 8.6, 8.9 and 12.0
    assert "mma" in kernel.asm["ptx"]  # products are on tensor cores
    (tmp_path / "kernel").write_bytes(kernel.asm["cubin"])
    reader = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    command = [reader, "--dump-resource-usage", tmp_path / "kernel"]
    usage = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    spilled = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert spilled is not None, usage
    assert int(spilled[2]) <= 64, usage  # bytes a thread that do not fit into registers


def compiled(n_fft: int, n_bins: int | None, *, sample: str, padding: str, capability: int) -> Any:
    """The kernel as a GPU of this compute capability would be given it."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from audiocls.functional import fused_kernels

    kernel = fused_kernels.energy_kernel
    constants = {**fused_kernels.settings(n_fft, n_bins), "PADDING": padding, "MAGNITUDE": False, "LOGARITHM": True}
    if n_bins is None:
        constants |= {"filterbank": None, "occupied": None}
    pointers = dict.fromkeys(("window", "stage1", "twiddle", "stage2", "half", "filterbank", "out"), "*fp32")
    pointers |= {"waveform": f"*{sample}", "occupied": "*u8"}
    numbers = dict.fromkeys(("per_octave", "offset", "floor", "shift"), "fp32")
    names, kinds = kernel.arg_names, pointers | numbers
    signature = {name: "constexpr" if name in constants else kinds.get(name, "i32") for name in names}
    aligned = {(names.index(name),): [["tt.divisibility", 16]] for name in pointers if name not in constants}
    return triton.compile(
        ASTSource(kernel, signature, constexprs=constants, attrs=aligned),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": fused_kernels.N_WARPS},
    )


@pytest.mark.gpu
@pytest.mark.parametrize("n_fft", [256, 512, 1024, 2048, 4096])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("time", [100, 8000])
def test_kernel_on_a_gpu(n_fft: int, pad_mode: str, time: int) -> None:
    waveform = clips()[:, :time].cuda()
    if reason := why_not_fused(n_fft, waveform):
        pytest.skip(reason)
    window = functional.window("hann", n_fft - 56).cuda()
    given = {"n_fft": n_fft, "hop_length": n_fft // 3, "window": window, "pad_mode": pad_mode}
    for n_mels in (0, 1, 40, 200):
        weight = functional.mel_filterbank(sample_rate=SAMPLE_RATE, n_fft=n_fft, n_mels=max(n_mels, 1)).cuda()
        weight = weight if n_mels else torch.eye(n_fft // 2 + 1, device="cuda")
        learnt = [tensor.clone().requires_grad_() for tensor in (waveform, weight, window)]
        results = []
        for energies in (fused_energy, plain):
            energy = energies(learnt[0], learnt[1], **{**given, "window": learnt[2]})
            weighting = torch.linspace(-1, 1, energy.numel(), device="cuda").view(energy.shape)
            results.append((energy.detach(), *torch.autograd.grad(((energy + 1e-3).log() * weighting).sum(), learnt)))
        peak = results[1][0].amax(dim=(-2, -1), keepdim=True)
        assert ((results[0][0] - results[1][0]).abs() <= 2e-6 * peak).all()  # both are float32
        for ours, expected in zip(results[0][1:], results[1][1:], strict=True):
            assert (ours - expected).abs().max() <= 1e-3 * expected.abs().max()
        with torch.no_grad():
            again = fused_energy(waveform, weight, **given)
            assert torch.equal(again, results[0][0])
            for logarithm in (functional.natural_logarithm(1e-3), functional.decibel(amin=1e-3, top_db=30.0)):
                taken = fused_energy(waveform, weight, **given, logarithm=logarithm)
                torch.testing.assert_close(taken, functional.take_logarithm(again, logarithm), rtol=0, atol=2e-5)
            pcm = (waveform * 32768).to(torch.int16)
            assert torch.equal(fused_energy(pcm, weight, **given), fused_energy(pcm / 32768, weight, **given))
            if not n_mels:
                spectrum = fused_energy(waveform, **given)
                assert ((spectrum - results[1][0]).abs() <= 2e-6 * peak).all()


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
        raise RuntimeError("PassManager::run failed\nand more")

    assert trial(right) is None
    off = trial(lambda frames, filterbank, **_: right(frames, filterbank) * (1 + 3e-5))
    assert off is not None
    assert re.fullmatch(r"path 'fused' is off by 3\.\de-05 of the peak on cpu: set path to 'fft'", off)
    assert trial(broken) == "path 'fused' does not run on cpu (PassManager::run failed): set path to 'fft'"

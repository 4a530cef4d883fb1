"""Every way from waveform to energies gives the same numbers: frames side by side or one by one, products; what learns.

Reference is the plain fast transform, which is held against librosa elsewhere. The tolerance is that of librosa, too:
energies within 80 dB of the peak to 1e-3, since float32 transforms are off by 1e-7 of the spectrum's peak.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn.utils import prune
from torch.utils._python_dispatch import TorchDispatchMode

from audiocls import functional
from audiocls.frontends import (
    PCEN,
    Compression,
    Decibel,
    Log,
    Log1p,
    MelSpectrogram,
    NoCompression,
    NoNormalization,
)
from audiocls.frontends.spectrum import Spectrum
from tests.emulated_fused import EmulatedFused

SAMPLE_RATE = 16000


def build(**settings) -> MelSpectrogram:
    defaults = {"n_fft": 512, "hop_length": 160, "n_mels": 40, "compression": NoCompression}
    return MelSpectrogram(SAMPLE_RATE, normalization=NoNormalization, **{**defaults, **settings})


def sweep(*shape: int) -> Tensor:
    """A sweep from 20 Hz to 7 kHz over weak noise, other in every clip."""
    time = torch.arange(shape[-1]) / SAMPLE_RATE
    tone = torch.sin(2 * torch.pi * (20 * time + 3500 * time**2 / max(float(time[-1]), 0.1)))
    return 0.5 * tone + 1e-3 * torch.randn(shape)


def assert_same_energies(ours: Tensor, expected: Tensor, *, power: float = 2.0) -> None:
    assert ours.shape == expected.shape
    inside = expected > 10 ** (-4 * power) * expected.max()
    torch.testing.assert_close(ours[inside], expected[inside], rtol=1e-3, atol=0)
    assert (ours - expected).abs().max() <= 2e-6 * expected.max()


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 255), (2, 1, 4001), (3, 2, 8000)], ids=str)
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"power": 1.0, "pad_mode": "reflect"},
        {"learnable": True, "win_length": 300},
        {"n_fft": 511, "hop_length": 77, "f_max": 4000.0},
        {"path": "matmul"},
        {"path": "matmul", "power": 1.0, "pad_mode": "reflect", "win_length": 301},
    ],
    ids=str,
)
def test_all_paths_agree(settings: dict, shape: tuple[int, ...]) -> None:
    waveform = sweep(*shape)
    whole = build(**{**settings, "path": None})(waveform.clone().requires_grad_())
    assert whole.grad_fn is not None
    assert_same_energies(build(**settings)(waveform), whole.detach(), power=settings.get("power", 2.0))


@pytest.mark.parametrize("learnable", [False, True])
def test_gradients_to_the_filterbank_are_those_of_the_whole_spectrum(learnable: bool) -> None:
    quick, whole = build(learnable=learnable), build(learnable=learnable)
    waveform = sweep(2, 1, 8000)
    quick(waveform).sqrt().sum().backward() if learnable else quick(waveform)
    whole(waveform.clone().requires_grad_()).sqrt().sum().backward()
    for ours, expected in zip(quick.parameters(), whole.parameters(), strict=True):
        assert ours.grad is not None
        assert expected.grad is not None
        # sums over 102 frames; 1e-4 of the largest gradient of a matrix
        assert (ours.grad - expected.grad).abs().max() <= 1e-4 * expected.grad.abs().max()


def test_transforms_of_functions_go_through() -> None:
    frontend, waveform = build(), sweep(3, 1, 2000)
    mapped = torch.func.vmap(lambda clip: frontend(clip.unsqueeze(0)).squeeze(0))(waveform)
    assert_same_energies(mapped, frontend(waveform))
    ahead = torch.func.jvp(frontend, (waveform,), (waveform,))[1]
    assert_same_energies(
        ahead, 2 * frontend(waveform)
    )  # energies are squares: the slope along themselves is twice them
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(waveform, waveform)
        assert_same_energies(torch.autograd.forward_ad.unpack_dual(frontend(dual)).tangent, ahead)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
def test_a_mode_that_watches_sees_every_operation(dtype: torch.dtype) -> None:
    seen = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(func)
            return func(*args, **(kwargs or {}))

    frontend, waveform = MelSpectrogram(16000, n_fft=512, n_mels=40).eval(), torch.zeros(1, 1, 2000, dtype=dtype)
    with torch.no_grad(), Watching():
        frontend(waveform)
    assert torch.ops.aten._fft_r2c.default in seen


def test_dft_kernels_are_the_matrix_of_the_fast_transform() -> None:
    for n_fft in (1, 2, 511, 2048):
        expected = torch.fft.rfft(torch.eye(n_fft, dtype=torch.float64)).T  # impulses to columns
        kernels = functional.dft_kernels(n_fft)
        torch.testing.assert_close(kernels[0], expected.real.float(), rtol=0, atol=1e-7)
        torch.testing.assert_close(kernels[1], expected.imag.float(), rtol=0, atol=1e-7)


def test_dft_at_any_frequency_hears_a_tone_there_best() -> None:
    frequencies = torch.logspace(1.8, 3.8, 60) / SAMPLE_RATE
    kernels = functional.dft_kernels(2048, frequencies)
    tone = torch.sin(2 * torch.pi * frequencies[37] * torch.arange(8000)).unsqueeze(0)
    spectrum = functional.dft(tone, kernels, hop_length=512, window=functional.window("hann", 2048), center=False)
    assert (spectrum.square().sum(dim=1)[0].argmax(dim=0) == 37).all()


def test_dft_equals_stft_with_its_phase() -> None:
    waveform, window = sweep(2, 4000), functional.window("hann", 400)
    expected = functional.stft(waveform, n_fft=512, hop_length=160, window=window)
    ours = functional.dft(waveform, functional.dft_kernels(512), hop_length=160, window=window)
    # sums of 512 products in float32
    assert (torch.complex(ours[:, 0], ours[:, 1]) - expected).abs().max() <= 2e-6 * expected.abs().max()


def test_dft_kernels_refuse() -> None:
    with pytest.raises(ValueError, match="n_fft must be at least 1 sample, got 0"):
        functional.dft_kernels(0)


@pytest.mark.parametrize("win_length", [2, 300, 301, 512])
def test_learnt_windows_and_kernels_start_as_the_fixed_ones(win_length: int) -> None:
    fixed = Spectrum(n_fft=512, win_length=win_length).window()
    assert torch.equal(Spectrum(n_fft=512, win_length=win_length, learnable_window=True).window(), fixed)
    length = Spectrum(n_fft=512, win_length=win_length, learnable_window="length").window()
    assert torch.equal(length, functional.window_in_frame(fixed, 512))
    learnt, products = Spectrum(n_fft=512, learnable_kernels=True), Spectrum(n_fft=512, path="matmul")
    assert torch.equal(learnt.kernels, products.kernels)
    waveform = sweep(1, 1, 2000)
    assert torch.equal(learnt(waveform), products(waveform))


@pytest.mark.parametrize("win_length", [3.5, 200.25])
def test_hann_window_of_any_length_has_its_area(win_length: float) -> None:
    window = functional.stretched_hann(torch.tensor(win_length), 512, middle=256.0)
    torch.testing.assert_close(window.sum(), torch.tensor(win_length / 2), rtol=2e-2, atol=0)  # of its samples


@pytest.mark.parametrize("learnable", [False, True])
def test_a_gpu_s_kernel_gets_a_filterbank_laid_out_anew_where_it_has_changed(
    learnable: bool, emulated_fused: EmulatedFused
) -> None:
    frontend, waveform = build(path="fused", learnable=learnable), torch.randn(1, 1, 2000)
    with torch.no_grad():
        energy = frontend(waveform)
        assert torch.equal(frontend(waveform), energy)
        assert emulated_fused.launched.count("arrange") == (2 if learnable else 1)
        filterbank = frontend.filterbank
        (filterbank.start if filterbank.relative_weight is None else filterbank.relative_weight).mul_(2)
        assert torch.equal(frontend(waveform), 2 * energy)
        assert torch.equal(copy.deepcopy(frontend)(waveform), 2 * energy)


@pytest.mark.parametrize("learnable_window", [True, "length"])
def test_a_learnt_window_is_no_hindrance_where_nothing_asks_for_its_gradient(
    learnable_window: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontend = build(learnable_window=learnable_window).eval()
    waveform, calls, lane_energy = torch.randn(2, 1, 4000), [], functional.lane_energy
    monkeypatch.setattr(
        functional, "lane_energy", lambda *given, **others: calls.append(given) or lane_energy(*given, **others)
    )
    expected = frontend(waveform).detach()
    assert not calls
    with torch.no_grad():
        ours = frontend(waveform)
    assert len(calls) == 1
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-4)


def test_state_of_one_path_loads_into_another() -> None:
    waveform = sweep(2, 1, 4000)
    fast = build(learnable=True, learnable_window=True)
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter += 0.1 * torch.rand_like(parameter)
    products = build(learnable=True, learnable_window=True, path="matmul")
    products.load_state_dict(fast.state_dict())
    with torch.no_grad():
        assert_same_energies(products(waveform), fast(waveform))


def recovers(frontend: MelSpectrogram, goal: MelSpectrogram, *, lr: float, measure: Callable[[Tensor], Tensor]) -> None:
    """Train with Adam on noise bursts until log energies are those of `goal`."""
    waveform = torch.randn(8, 1, 2000) * torch.linspace(0, 1, 2000) ** 4
    target = (goal(waveform) + 1e-3).log().detach()
    optimizer = torch.optim.Adam(frontend.parameters(), lr=lr)
    far = measure(frontend.spectrum.window()).item()
    losses = []
    for _ in range(80):
        loss = torch.nn.functional.mse_loss((frontend(waveform) + 1e-3).log(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]
    assert measure(frontend.spectrum.window()).item() < max(far, 1e-9)


SMALL = {"n_fft": 64, "hop_length": 32, "n_mels": 12}


def test_mis_set_window_recovers() -> None:
    goal = build(**SMALL)
    distance = lambda window: (window - goal.spectrum.window()).square().sum()  # noqa: E731
    recovers(build(**SMALL, window="boxcar", learnable_window=True), goal, lr=0.02, measure=distance)


def test_mis_set_length_recovers() -> None:
    goal = build(**SMALL, win_length=48)
    distance = lambda window: (window - functional.window_in_frame(goal.spectrum.window(), 64)).square().sum()  # noqa: E731
    recovers(build(**SMALL, win_length=24, learnable_window="length"), goal, lr=0.02, measure=distance)


def test_mis_set_kernels_recover() -> None:
    frontend = build(**SMALL, learnable_kernels=True)
    assert frontend.spectrum.kernels is not None
    with torch.no_grad():
        frontend.spectrum.kernels.mul_(0.5 + torch.rand_like(frontend.spectrum.kernels))
    recovers(frontend, build(**SMALL), lr=0.01, measure=lambda window: 0 * window.sum())


@pytest.mark.parametrize("path", ["fft", "matmul"])
@pytest.mark.parametrize("precision", ["high", "medium"])
def test_reduced_matmul_precision_changes_nothing(precision: str, path: str) -> None:
    frontend, waveform = build(path=path), sweep(2, 1, 4000)
    expected = frontend(waveform)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        assert torch.equal(frontend(waveform), expected)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("settings", [{}, {"learnable": True}, {"path": "matmul"}], ids=str)
def test_waveform_that_is_not_finite_is_refused(settings: dict, value: float) -> None:
    waveform = sweep(3, 1, 4000)
    waveform[1, 0, 77] = value
    with pytest.raises(ValueError, match=r"waveform must be finite, got nan or infinity in clips \[1\] of the batch"):
        build(**settings)(waveform)


def test_parameter_that_is_not_finite_is_left_to_the_loss() -> None:
    frontend = build(learnable=True)
    with torch.no_grad():
        next(frontend.parameters()).fill_(float("nan"))
    assert not frontend(sweep(1, 1, 4000)).isfinite().any()


@pytest.mark.parametrize("built", [nullcontext, torch.inference_mode], ids=["as ever", "in inference mode"])
def test_window_and_filterbank_that_are_changed_in_place_count_at_once(
    built: Callable[[], AbstractContextManager],
) -> None:
    waveform = sweep(2, 1, 4000)
    with built():
        frontend = build()
        before = frontend(waveform)
        frontend.filterbank.start.mul_(4)
        assert torch.equal(frontend(waveform), 4 * before)
        frontend.spectrum.window.start.mul_(0.5)
        assert torch.equal(frontend(waveform), before)
        frontend.filterbank.start = frontend.filterbank.start.flip(0).mul_(1)  # changed as often as the other
        assert torch.equal(frontend(waveform), before.flip(2))


@pytest.mark.parametrize("settings", [{}, {"learnable": True}, {"n_fft": 511, "hop_length": 77}], ids=str)
def test_pcm_is_made_float_where_it_is_read(settings: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    pcm, frontend = (sweep(2, 1, 4000) * 20000).to(torch.int16), build(**settings)
    expected = frontend(functional.pcm_to_float(pcm))
    converted = []
    monkeypatch.setattr(functional, "pcm_to_float", lambda x: converted.append(x) or x.float() / 32768)
    assert torch.equal(frontend(pcm), expected)
    assert len(converted) == ("n_fft" in settings)  # what the quick path does not take is converted first


def test_a_front_end_that_changes_the_waveform_is_given_floats() -> None:
    class Louder(MelSpectrogram):
        def energy(self, waveform: Tensor) -> Tensor:
            return super().energy(2 * waveform)

    pcm = (sweep(2, 1, 4000) * 50000).to(torch.int16)  # twice as much is beyond 16 bits
    made = Louder(SAMPLE_RATE, compression=NoCompression, normalization=NoNormalization)
    plain = MelSpectrogram(SAMPLE_RATE, compression=NoCompression, normalization=NoNormalization)
    assert_same_energies(made(pcm), 4 * plain(pcm))


@pytest.mark.parametrize("compression", [NoCompression, Log, Log1p, Decibel, PCEN])
@pytest.mark.parametrize(("channels", "learnable"), [(1, False), (2, False), (2, True)])
def test_compressed_in_one_pass_or_after_it(compression: type[Compression], channels: int, learnable: bool) -> None:
    frontend, waveform = build(compression=compression, learnable=learnable), sweep(3, channels, 4000)
    waveform[0] *= 1e-3
    whole = frontend(waveform.clone().requires_grad_())
    after = frontend.compression(frontend.energy(waveform))
    torch.testing.assert_close(frontend(waveform), after, rtol=0, atol=0)
    torch.testing.assert_close(after, whole, rtol=1e-3, atol=1e-2)  # where energies are 80 dB below the peak


@pytest.mark.parametrize("learnable", [False, True])
def test_decibels_in_one_pass_have_their_gradient(learnable: bool) -> None:
    frontend, waveform = build(compression=Decibel, learnable=learnable), sweep(2, 1, 4000)
    frontend(waveform).square().sum().backward() if learnable else frontend(waveform)
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in frontend.parameters())


def test_a_compression_of_ones_own_is_called_as_it_is() -> None:
    class Halved(Decibel):
        def forward(self, energy: Tensor) -> Tensor:
            return super().forward(energy) / 2

    waveform = sweep(2, 1, 4000)
    torch.testing.assert_close(build(compression=Halved)(waveform), build(compression=Decibel)(waveform) / 2)


@pytest.mark.parametrize("name", ["spectrum", "filterbank", "compression"])
def test_a_hook_sees_its_stage_and_changes_no_number(name: str) -> None:
    frontend, waveform = build(compression=Decibel), sweep(2, 1, 4000)
    expected, seen = frontend(waveform), []
    handle = frontend.get_submodule(name).register_forward_hook(lambda *given: seen.append(given[2].shape))
    torch.testing.assert_close(frontend(waveform), expected, rtol=0, atol=1e-2)
    assert seen == [(2, 1, 257 if name == "spectrum" else 40, 26)]
    handle.remove()
    assert torch.equal(frontend(waveform), expected)
    assert len(seen) == 1


def test_a_hook_for_all_modules_sees_every_stage() -> None:
    frontend, seen = build(compression=Decibel), []
    with torch.nn.modules.module.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__)):
        frontend(sweep(2, 1, 4000))
    assert {"Spectrum", "Filterbank", "Decibel", "NoNormalization", "MelSpectrogram"} <= set(seen)


def test_a_pruned_filterbank_is_the_one_that_is_taken() -> None:
    frontend, waveform = build(learnable=True), sweep(2, 1, 4000)
    prune.random_unstructured(frontend.filterbank, "relative_weight", amount=0.5)
    with torch.no_grad():
        frontend.filterbank.relative_weight_orig.mul_(2.0)  # as a step does, which the weight follows at a call
    expected = frontend.spectrum(waveform).transpose(-1, -2) @ frontend.filterbank.weight.T
    torch.testing.assert_close(frontend(waveform), 2.0 * expected.transpose(-1, -2), rtol=1e-4, atol=1e-5)

"""The kernel of `fused`, in Triton's interpreter, against the plain transform; run by `test_fused`.

There its products are of full float32. What three products of TensorFloat-32 lose is in `test_fused`.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.functional import fused, fused_energy
from tests.frontends.signals import signals

SAMPLE_RATE = 16000


def clips(time: int) -> Tensor:
    """A tone, a sweep, noise, a voice and silence, shape (5, time)."""
    made = [torch.from_numpy(samples).float()[:time] for samples in signals(SAMPLE_RATE).values()]
    return torch.stack([*made, torch.zeros(time)])


def plain(waveform: Tensor, filterbank: Tensor | None = None, *, power: float = 2.0, **settings: Any) -> Tensor:
    """The same energies by `stft`."""
    energy = functional.power_spectrum(functional.stft(functional.pcm_to_float(waveform), **settings))
    energy = functional.magnitude(energy) if power == 1.0 else energy
    return energy if filterbank is None else filterbank @ energy


def settings(n_fft: int, hop_length: int, win_length: int | None = None, **others: Any) -> dict[str, Any]:
    window = functional.window("hann", win_length or n_fft)
    return {"n_fft": n_fft, "hop_length": hop_length, "window": window, **others}


def mel(n_fft: int, n_mels: int) -> Tensor:
    return functional.mel_filterbank(sample_rate=SAMPLE_RATE, n_fft=n_fft, n_mels=n_mels)


def assert_same_power(ours: Tensor, expected: Tensor) -> None:
    assert ours.shape == expected.shape
    assert ours.dtype == torch.float32
    # Two float32 transforms, each off by 1 to 3e-7 of the largest power of a clip.
    peak = expected.amax(dim=(-2, -1), keepdim=True)
    assert ((ours - expected).abs() <= 1e-6 * peak).all()


def assert_same_gradient(ours: Tensor | None, expected: Tensor | None) -> None:
    assert ours is not None
    assert expected is not None
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()  # sums over frames in another order


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize(
    ("time", "given"),
    [
        (3000, settings(256, 101)),
        (3000, settings(512, 160, 400)),
        (3000, settings(512, 77, 301, center=False)),
        (3000, settings(512, 512, 2, power=1.0)),
        (4000, settings(1024, 320)),
        *[
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                (4000, settings(1024, 333, center=False, power=1.0)),
                (3000, settings(2048, 900, 1200)),
                (3000, settings(4096, 1365)),
            )
        ],
    ],
)
def test_spectrum_is_that_of_stft(time: int, given: dict[str, Any], pad_mode: str) -> None:
    waveform = clips(time)
    assert_same_power(fused_energy(waveform, pad_mode=pad_mode, **given), plain(waveform, pad_mode=pad_mode, **given))


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("n_fft", [256, pytest.param(1024, marks=pytest.mark.slow)])
@pytest.mark.parametrize("time", [1, 2, 100, 129, 513])
def test_clips_of_any_length(time: int, n_fft: int, pad_mode: str) -> None:
    waveform, given = torch.randn(2, time), settings(n_fft, 64, pad_mode=pad_mode)
    assert_same_power(fused_energy(waveform, **given), plain(waveform, **given))


def test_without_padding_a_clip_of_one_frame_is_one_frame() -> None:
    waveform, given = torch.randn(2, 256), settings(256, 64, center=False)
    assert_same_power(fused_energy(waveform, **given), plain(waveform, **given))
    with pytest.raises(ValueError, match="at least n_fft=256 samples, got 255: set center=True"):
        fused_energy(waveform[:, :255], **given)


@pytest.mark.parametrize(
    ("n_fft", "n_mels", "power"),
    [
        (256, 1, 2.0),
        (512, 40, 2.0),
        (1024, 64, 1.0),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((512, 200, 1.0), (2048, 128, 2.0), (4096, 128, 2.0))
        ),
    ],
)
def test_log_mel_is_within_a_hundredth_decibel(n_fft: int, n_mels: int, power: float) -> None:
    waveform, weight, given = clips(2000), mel(n_fft, n_mels), settings(n_fft, n_fft // 2 - 1, power=power)
    assert n_mels != 200 or (weight == 0).all(dim=1).any(), "some of these filters hold no bin"
    ours, expected = fused_energy(waveform, weight, **given), plain(waveform, weight, **given)
    assert ours.shape == (5, n_mels, expected.shape[-1])
    decibels = 20 / power
    inside = expected > expected.amax(dim=(-2, -1), keepdim=True) * 10 ** (-80 / decibels)
    assert inside.float().mean() > 0.3
    assert (decibels * (ours[inside] / expected[inside]).log10()).abs().max() <= 0.01
    assert (ours[-1] == 0).all()  # silence


def test_filterbanks_of_any_kind() -> None:
    waveform, given = clips(2000), settings(256, 128)
    nyquist, empty = torch.zeros(1, 129), torch.zeros(20, 129)
    nyquist[0, -1] = 1.0
    one_each = torch.eye(129)
    peak = plain(waveform, **given).amax(dim=(-2, -1), keepdim=True)
    for weight in (nyquist, empty, one_each, torch.rand(17, 129), mel(256, 20)[::2]):
        ours, expected = fused_energy(waveform, weight, **given), plain(waveform, weight, **given)
        assert ours.shape == expected.shape
        assert ((ours - expected).abs() <= 1e-6 * weight.sum(dim=1).max() * peak).all()


def test_pcm_is_read_as_it_is() -> None:
    given = settings(512, 160, pad_mode="reflect")
    pcm = (clips(3000) * 32768).to(torch.int16)
    assert pcm.abs().max() > 10_000
    weight = mel(512, 40)
    assert torch.equal(fused_energy(pcm, weight, **given), fused_energy(pcm.float() / 32768, weight, **given))


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (0,)], ids=str)
def test_any_leading_dimensions(leading: tuple[int, ...]) -> None:
    waveform, given = torch.randn(*leading, 900), settings(256, 100)
    assert fused_energy(waveform, mel(256, 10), **given).shape == (*leading, 10, 10)
    if waveform.numel():
        assert_same_power(fused_energy(waveform, **given), plain(waveform, **given))


def test_samples_that_do_not_lie_side_by_side() -> None:
    waveform, given = torch.randn(900, 2).t(), settings(256, 100)
    assert torch.equal(fused_energy(waveform, **given), fused_energy(waveform.contiguous(), **given))
    weight = mel(256, 12)
    turned = weight.t().contiguous().t()
    assert torch.equal(fused_energy(waveform, turned, **given), fused_energy(waveform, weight, **given))


def test_a_clip_alone_equals_the_clip_in_a_batch() -> None:
    waveform, given = torch.randn(3, 2000), settings(512, 160)
    together = fused_energy(waveform, **given)
    assert all(torch.equal(fused_energy(waveform[i : i + 1], **given)[0], together[i]) for i in range(3))


Made = list[Tensor | None]


def gradients(energies: Any, filtered: bool, learnt: str, *, time: int = 1500, n_fft: int = 256, **others: Any) -> Made:
    """Gradients of what is learnt of waveform, window and filterbank, through a logarithm and random weights."""
    torch.manual_seed(1)
    given = settings(n_fft, 77, 200, **others)
    tensors = [torch.randn(2, time), given["window"], mel(n_fft, 20) if filtered else None]
    for name, tensor in zip(("waveform", "window", "filterbank"), tensors, strict=True):
        if tensor is not None and name in learnt:
            tensor.requires_grad_()
    energy = energies(tensors[0], tensors[2], **given)
    ((energy + 1e-3).log() * torch.randn(energy.shape)).sum().backward()
    return [None if tensor is None else tensor.grad for tensor in tensors]


@pytest.mark.parametrize(
    "learnt",
    [
        "filterbank",
        "filterbank, window, waveform",
        *(pytest.param(alone, marks=pytest.mark.slow) for alone in ("window", "waveform")),
    ],
)
@pytest.mark.parametrize("filtered", [True, False], ids=["filtered", "spectrum"])
@pytest.mark.parametrize(
    "others",
    [
        {},
        {"pad_mode": "reflect", "power": 1.0},
        {"center": False},
        {"time": 40, "pad_mode": "reflect"},
        {"n_fft": 1024, "power": 1.0},
    ],
    ids=str,
)
def test_gradients_are_those_through_stft(learnt: str, filtered: bool, others: dict[str, Any]) -> None:
    if learnt == "filterbank" and not filtered:
        return
    ours, expected = (gradients(energies, filtered, learnt, **others) for energies in (fused_energy, plain))
    assert [gradient is None for gradient in ours] == [gradient is None for gradient in expected]
    for one, other in zip(ours, expected, strict=True):
        if other is not None:
            assert_same_gradient(one, other)


@pytest.mark.parametrize("learnt", ["filterbank", "window, waveform"])
def test_gradients_come_in_parts_and_are_the_same_every_time(learnt: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, again = (gradients(fused_energy, True, learnt, pad_mode="reflect") for _ in range(2))
    for part in (256 * 7, 256 * 30):  # some frames; a clip and not two
        monkeypatch.setattr(fused, "_PART", part)
        for one, two, expected in zip(
            gradients(fused_energy, True, learnt, pad_mode="reflect"), again, whole, strict=True
        ):
            if expected is not None:
                assert two is not None
                assert torch.equal(two, expected)
                assert_same_gradient(one, expected)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_gradients_are_finite_on_silence(power: float) -> None:
    tensors = [torch.zeros(1, 1000), functional.window("hann", 256), mel(256, 20)]
    for tensor in tensors:
        tensor.requires_grad_()
    waveform, window, weight = tensors
    energy = fused_energy(waveform, weight, n_fft=256, hop_length=100, window=window, power=power)
    (energy + 1e-6).log().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in tensors)


def test_there_is_no_second_derivative() -> None:
    weight = mel(256, 20).requires_grad_()
    energy = fused_energy(torch.randn(1, 1000), weight, **settings(256, 100))
    (first,) = torch.autograd.grad(energy.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="path 'fused' has no second derivative: set path to 'fft'"):
        first.square().sum().backward()


def test_autocast_changes_nothing() -> None:
    waveform, weight, given = torch.randn(2, 1000), mel(256, 20).requires_grad_(), settings(256, 100)
    expected = fused_energy(waveform, weight, **given)
    (whole,) = torch.autograd.grad(expected.sum(), weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = fused_energy(waveform, weight, **given)
        (within,) = torch.autograd.grad(ours.sum(), weight)
    assert torch.equal(ours, expected)
    assert torch.equal(within, whole)


@pytest.mark.slow
@pytest.mark.parametrize("learnt", [False, True])
def test_is_an_operator_as_torch_wants_it(learnt: bool) -> None:
    window = functional.window("hann", 256).requires_grad_(learnt)
    weight = mel(256, 10).requires_grad_(learnt) if learnt else None
    waveform = torch.randn(2, 1, 700, requires_grad=learnt)
    taken = None if learnt else list(functional.decibel(top_db=80.0))
    torch.library.opcheck(fused._energy, (waveform, window, weight, 77, True, True, not learnt, taken))
    pcm = (waveform.detach() * 1000).to(torch.int16)
    torch.library.opcheck(fused._energy, (pcm, window, weight, 77, False, False, not learnt, taken))


@pytest.mark.parametrize(
    "logarithm",
    [
        functional.natural_logarithm(1e-6),
        functional.decibel(ref=0.1),
        functional.decibel(amin=1e-5, top_db=30.0),
        functional.decibel(top_db=0.0),
    ],
    ids=str,
)
@pytest.mark.parametrize("filtered", [True, False], ids=["filtered", "spectrum"])
def test_a_logarithm_of_the_energies(filtered: bool, logarithm: functional.Logarithm) -> None:
    waveform, weight, given = clips(1200)[1:].view(2, 2, 1200), mel(256, 20) if filtered else None, settings(256, 100)
    expected = functional.take_logarithm(fused_energy(waveform, weight, **given), logarithm)
    ours = fused_energy(waveform, weight, **given, logarithm=logarithm)
    torch.testing.assert_close(ours, expected, rtol=0, atol=2e-5)
    assert len(ours[1].unique()) > 1 or logarithm.share == 1  # a clip holds silence in one of its channels


def test_a_logarithm_leaves_gradients_what_they_are() -> None:
    waveform, weight = torch.randn(2, 1, 700), mel(256, 20).requires_grad_()
    given, logarithm = settings(256, 100), functional.natural_logarithm(1e-3)
    results = []
    for taken in (
        fused_energy(waveform, weight, **given, logarithm=logarithm),
        functional.take_logarithm(plain(waveform, weight, **given), logarithm),
    ):
        results.append((taken, *torch.autograd.grad(taken.square().sum(), weight)))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-4)
    assert_same_gradient(results[0][1], results[1][1])


def test_a_logarithm_holds_no_energies_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from audiocls.functional import fused_kernels

    made, energy = [], fused_kernels.energy
    monkeypatch.setattr(
        fused_kernels, "energy", lambda *given, **others: made.append(energy(*given, **others)) or made[0]
    )
    given = settings(256, 100, logarithm=functional.decibel(top_db=80.0))
    ours = fused_energy(torch.randn(2, 1, 700), mel(256, 20), **given)
    assert ours.data_ptr() == made[0].data_ptr()


def test_nan_stays_nan_through_a_logarithm() -> None:
    waveform, given = torch.randn(2, 700), settings(256, 100)
    waveform[1, 10] = torch.nan
    ours = fused_energy(waveform, mel(256, 20), **given, logarithm=functional.decibel())
    assert ours[0].isfinite().all()
    assert ours[1, :, 0].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16])
@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize(("n_bins", "power"), [(None, 1.0), (20, 2.0)])
def test_its_own_trial_finds_no_fault(dtype: torch.dtype, logarithmic: bool, n_bins: int | None, power: float) -> None:
    given = torch.device("cpu"), dtype, 256, n_bins, "reflect", power
    assert functional.fused_fault(*given, logarithmic=logarithmic) is None

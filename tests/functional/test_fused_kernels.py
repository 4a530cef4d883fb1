"""The kernel of `fused`, on the processor and with threads in any order, against the plain transform in float64.

On a GPU it is tested in `test_fused`, and how it is started in `test_fused_launch`.
"""

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.functional import fused, fused_energy, fused_kernels
from audiocls.functional.kept import Kept
from audiocls.functional.scaling import Logarithm
from tests.emulated_fused import EmulatedFused, Operators
from tests.functional.energies import SIZES, assert_exact, clips, exact, framings, mel, pcm, settings

every_size = pytest.mark.parametrize("n_fft", SIZES)
every_power = pytest.mark.parametrize("power", [2.0, 1.0], ids=["power", "magnitude"])
every_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.int16], ids=["float32", "int16"])
# Each takes a second and more to compile. PCM is read alike at all sizes; a thread has one column at 512, two at 1024.
PCM_SIZES = (512, 1024, *(pytest.param(n_fft, marks=pytest.mark.slow) for n_fft in (256, 2048, 4096)))
every_kernel = pytest.mark.parametrize(
    ("n_fft", "dtype"),
    [
        *((n_fft, torch.float32) for n_fft in SIZES),
        *((n_fft, torch.int16) for n_fft in (512, 1024)),
        *(pytest.param(n_fft, torch.int16, marks=pytest.mark.slow) for n_fft in (256, 2048, 4096)),
    ],
    ids=str,
)
every_edge_and_power = pytest.mark.parametrize(("pad_mode", "power"), [("constant", 2.0), ("reflect", 1.0)])


def sampled(waveform: Tensor, dtype: torch.dtype) -> Tensor:
    return pcm(waveform) if dtype == torch.int16 else waveform


@every_kernel
@every_edge_and_power
def test_bins_are_exact(
    emulated_fused: EmulatedFused, n_fft: int, pad_mode: str, power: float, dtype: torch.dtype
) -> None:
    waveform = sampled(clips(7999 if n_fft > 1024 else 5 * n_fft + 77), dtype)  # odd: every other clip begins at one
    for hop_length, win_length, center in framings(n_fft):
        given = settings(n_fft, hop_length, win_length, center=center, pad_mode=pad_mode, power=power)
        energy = emulated_fused.in_any_order(lambda given=given: fused_energy(waveform, **given))
        assert_exact(energy, waveform, **given)
        assert (energy[-1] == 0).all()  # silence


@every_kernel
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_clips_of_any_length(emulated_fused: EmulatedFused, n_fft: int, pad_mode: str, dtype: torch.dtype) -> None:
    lengths = (1, 2, 100, n_fft // 2 - 1, n_fft // 2, n_fft // 2 + 1, n_fft, n_fft + 1)
    for time, hop_length in (*product(lengths, (n_fft // 4 + 1,)), (1, 10 * n_fft), (n_fft + 1, 10 * n_fft)):
        waveform = sampled(0.3 * torch.randn(2, time), dtype)
        given = settings(n_fft, hop_length, pad_mode=pad_mode)
        energy = emulated_fused.in_any_order(lambda waveform=waveform, given=given: fused_energy(waveform, **given))
        # Short clips that are repeated have all their power in some bins, whose own rounding then counts in full.
        assert_exact(energy, waveform, within=1e-6, **given)


@every_size
def test_without_padding_a_clip_of_one_frame_is_one_frame(emulated_fused: EmulatedFused, n_fft: int) -> None:
    waveform, given = torch.randn(3, n_fft), settings(n_fft, 64, center=False)
    assert_exact(emulated_fused.in_any_order(lambda: fused_energy(waveform, **given)), waveform, **given)
    with pytest.raises(ValueError, match=f"at least n_fft={n_fft} samples, got {n_fft - 1}: set center=True"):
        fused_energy(waveform[:, 1:], **given)


@every_size
def test_frames_one_sample_apart(emulated_fused: EmulatedFused, n_fft: int) -> None:
    waveform, given = clips()[:3, 3000:3150], settings(n_fft, 1, n_fft - 1)
    energy = emulated_fused.in_any_order(lambda: fused_energy(waveform, mel(n_fft, 10), **given))
    assert energy.shape == (3, 10, 151)
    assert_exact(energy, waveform, mel(n_fft, 10), **given)


@every_size
def test_a_click_and_a_constant(emulated_fused: EmulatedFused, n_fft: int) -> None:
    """Every bin of one sample has the same power; a constant has all of its in the first."""
    click = torch.zeros(1, 3 * n_fft)
    click[0, n_fft + 1] = 0.5
    given = {"n_fft": n_fft, "hop_length": n_fft // 2, "window": torch.ones(n_fft), "center": False}
    energy = fused_energy(click, **given)
    torch.testing.assert_close(energy[0, :, 1:3], torch.full((n_fft // 2 + 1, 2), 0.25), rtol=2e-6, atol=0)
    assert (energy[0, :, [0, 3]] == 0).all()
    constant = fused_energy(torch.full((1, 2 * n_fft), -1.0), **given)
    assert (constant[0, 0] == n_fft**2).all()
    assert (constant[0, 1:] <= 1e-13 * n_fft**2).all()


@every_size
@pytest.mark.parametrize(
    ("n_mels", "power", "pad_mode"),
    [(1, 2.0, "reflect"), (40, 1.0, "constant"), (64, 2.0, "constant"), (129, 2.0, "reflect"), (200, 1.0, "reflect")],
)
def test_log_mel_is_within_a_hundredth_decibel(
    emulated_fused: EmulatedFused, n_fft: int, n_mels: int, power: float, pad_mode: str
) -> None:
    waveform, weight = clips(7777), mel(n_fft, n_mels)
    given = settings(n_fft, n_fft // 2 - 1, pad_mode=pad_mode, power=power)
    assert n_mels != 200 or n_fft > 512 or (weight == 0).all(dim=1).any(), "some of these filters hold no bin"
    ours = emulated_fused.in_any_order(lambda: fused_energy(waveform, weight, **given))
    expected = exact(waveform, weight, **given)
    assert ours.shape == (5, n_mels, expected.shape[-1])
    decibels = 20 / power
    inside = expected > expected.amax(dim=(-2, -1), keepdim=True) * 10 ** (-80 / decibels)
    assert inside.float().mean() > 0.25
    assert (decibels * (ours[inside] / expected[inside]).log10()).abs().max() <= 0.01
    assert (ours[-1] == 0).all()  # silence


def filterbanks(n_fft: int) -> dict[str, Tensor]:
    n_freqs = n_fft // 2 + 1
    first, last, lonely, far = torch.zeros(4, 6, n_freqs).unbind()
    first[:, 0] = last[:, -1] = lonely[5, n_fft // 3] = 1.0
    far[0, 1] = far[1, -2] = 2.0  # side by side, and all bins between them for both
    return {
        **{f"{n} dense": torch.rand(n, n_freqs) for n in (1, 3, 4, 5, 40, 129, 200)},
        "of both signs": torch.randn(17, n_freqs),
        "each a bin": torch.eye(n_freqs)[:: n_fft // 256],
        "few bins": torch.rand(50, n_freqs) * (torch.rand(50, n_freqs) < 2 / n_freqs),
        "first bin": first,
        "last bin": last,
        "one of six": lonely,
        "far apart": far,
        "empty": torch.zeros(20, n_freqs),
        "mel, every other": mel(n_fft, 41)[::2],
    }


@every_size
def test_filterbanks_of_any_kind(emulated_fused: EmulatedFused, n_fft: int) -> None:
    waveform, given = clips(7999)[1:3, max(2000, 7999 - 9 * n_fft) :], settings(n_fft, n_fft // 2 + 1)
    for name, weight in filterbanks(n_fft).items():
        energy = emulated_fused.in_any_order(lambda weight=weight: fused_energy(waveform, weight, **given))
        assert_exact(energy, waveform, weight, **given)
        if name == "each a bin":
            assert torch.equal(energy, fused_energy(waveform, **given)[:, :: n_fft // 256])
        assert (energy[:, (weight == 0).all(dim=1)] == 0).all()


@every_size
def test_bins_without_weights_are_left_out(
    emulated_fused: EmulatedFused, n_fft: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By four filters at a time, from the first to the last bin that any of them has weights in."""
    found, launch = [], fused_kernels.launch

    def watch(*given: Any) -> None:
        launch(*given)
        found.extend(field for field in given if isinstance(field, Tensor) and field.dtype == torch.int32)

    monkeypatch.setattr(fused_kernels, "launch", watch)
    weight = mel(n_fft, 8)
    weight[2] = 0.0
    emulated_fused.in_any_order(lambda: fused_energy(clips(3000), weight, **settings(n_fft, 300)))
    with_weights = [(four != 0).any(dim=0).nonzero() for four in weight.split(4)]
    assert len(found) == 2 * 3  # of both kernels
    assert all(bands.tolist() == [[int(bins[0]), int(bins[-1]) + 1] for bins in with_weights] for bands in found)


@every_kernel
def test_a_filterbank_is_arranged_once_and_again_when_it_changes(
    emulated_fused: EmulatedFused, n_fft: int, dtype: torch.dtype
) -> None:
    waveform, weight, given = sampled(clips(3001), dtype), mel(n_fft, 13), settings(n_fft, n_fft // 2)
    kept = Kept(functional.kept_filters)
    for change in (
        lambda: None,
        lambda: None,
        lambda: weight.mul_(0.5),
        lambda: weight.copy_(torch.rand(weight.shape)),
    ):
        change()
        ours = fused_energy(waveform, weight, **given, arrangements=kept)
        assert torch.equal(ours, fused_energy(waveform, weight, **given))
    # Without `arrangements` it is in every call.
    assert emulated_fused.launched.count("arrange") == 4 + 3
    other = weight.flip(0)
    assert torch.equal(fused_energy(waveform, other, **given, arrangements=kept), ours.flip(1))


@every_size
def test_no_filters_and_no_clips_are_nothing(emulated_fused: EmulatedFused, n_fft: int) -> None:
    given = settings(n_fft, 100)
    assert fused_energy(torch.randn(2, 999), torch.zeros(0, n_fft // 2 + 1), **given).shape == (2, 0, 10)
    assert fused_energy(torch.randn(0, 999), mel(n_fft, 7), **given).shape == (0, 7, 10)
    assert emulated_fused.launched == []


@pytest.mark.parametrize("n_fft", PCM_SIZES)
@every_edge_and_power
@pytest.mark.usefixtures("emulated_fused")
def test_pcm_is_read_as_it_is(n_fft: int, power: float, pad_mode: str) -> None:
    given = settings(n_fft, n_fft // 3, power=power, pad_mode=pad_mode)
    samples = pcm(clips(4999))
    samples[2, ::7] = -32768
    assert samples.max() > 20_000
    for weight in (None, mel(n_fft, 40)):
        expected = fused_energy(samples.float() / 32768, weight, **given)
        assert torch.equal(fused_energy(samples, weight, **given), expected)


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (0,), (2, 0, 3)], ids=str)
@pytest.mark.usefixtures("emulated_fused")
def test_any_leading_dimensions(leading: tuple[int, ...]) -> None:
    waveform, given = torch.randn(*leading, 900), settings(256, 100)
    assert fused_energy(waveform, mel(256, 10), **given).shape == (*leading, 10, 10)
    if waveform.numel():
        assert_exact(fused_energy(waveform, **given), waveform, **given)


def at_odd_address(tensor: Tensor) -> Tensor:
    """The same numbers one number further in memory than where memory begins."""
    moved = torch.cat((tensor.new_zeros(1), tensor.flatten()))[1:].view(tensor.shape)
    assert moved.is_contiguous()
    assert moved.data_ptr() % (2 * tensor.element_size()) == tensor.element_size()
    return moved


@every_dtype
@pytest.mark.usefixtures("emulated_fused")
def test_samples_that_do_not_lie_side_by_side(dtype: torch.dtype) -> None:
    waveform, given = sampled(torch.randn(5, 901), dtype), settings(512, 100)
    weight = mel(512, 12)
    for view in (waveform.t().contiguous().t(), waveform[:, 1:], waveform[:1, 1:], waveform[1:], waveform[::2, ::3]):
        for filters in (None, weight):
            assert torch.equal(fused_energy(view, filters, **given), fused_energy(view.clone(), filters, **given))
    expected = fused_energy(waveform, weight, **given)
    turned, moved = weight.t().contiguous().t(), at_odd_address(weight)
    assert torch.equal(fused_energy(waveform, turned, **given), expected)
    assert torch.equal(fused_energy(at_odd_address(waveform), moved, **given), expected)
    twice = given["window"].repeat_interleave(2)
    for window in (twice[::2], at_odd_address(given["window"])):
        assert torch.equal(fused_energy(waveform, weight, **{**given, "window": window}), expected)


@every_kernel
@pytest.mark.usefixtures("emulated_fused")
def test_what_the_kernel_reads_in_pairs_and_fours_is_aligned(
    n_fft: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU reads 16 bytes from a multiple of 16 or gives up; here tensors are copied to such addresses anyway."""
    read, launch = set(), fused_kernels.launch

    def watch(*given: Any) -> None:
        read.update(field.data_ptr() for field in given[5:] if isinstance(field, Tensor))
        launch(*given)

    monkeypatch.setattr(fused_kernels, "launch", watch)
    waveform, weight = at_odd_address(sampled(torch.randn(1, 3000), dtype)), at_odd_address(mel(n_fft, 6))
    window = at_odd_address(functional.window("hann", n_fft))
    fused_energy(waveform, weight, n_fft=n_fft, hop_length=100, window=window)
    assert {waveform.data_ptr(), weight.data_ptr()} < read  # these are read one by one, or looked at before
    assert {address for address in read if address % 16} == {waveform.data_ptr(), weight.data_ptr()}


@every_kernel
@pytest.mark.usefixtures("emulated_fused")
def test_a_clip_alone_equals_the_clip_in_a_batch(n_fft: int, dtype: torch.dtype) -> None:
    """Whether its samples are read in pairs or, at an odd address, one by one."""
    waveform = sampled(clips(2 * n_fft + 1 if n_fft < 4096 else 7999)[1:4], dtype)
    for hop_length, weight, pad_mode in (
        (n_fft // 4, None, "constant"),
        (n_fft // 4 + 1, mel(n_fft, 21), "constant"),
        (n_fft // 4 + 1, None, "reflect"),
    ):
        given = settings(n_fft, hop_length, pad_mode=pad_mode)
        together = fused_energy(waveform, weight, **given)
        for i in range(3):
            assert torch.equal(fused_energy(waveform[i : i + 1], weight, **given)[0], together[i])
        for offset in (1, 2):  # clips that begin elsewhere in memory, of an even and of an odd length
            later = waveform[:, offset:]
            assert torch.equal(fused_energy(later[1:], weight, **given), fused_energy(later, weight, **given)[1:])


@every_kernel
@pytest.mark.usefixtures("emulated_fused")
def test_some_frames_are_those_of_all(n_fft: int, dtype: torch.dtype) -> None:
    waveform = sampled(clips(2 * n_fft - 1 if n_fft < 4096 else 7999)[1:3], dtype)
    hop_length = n_fft // 32 + 1
    for left, weight, pad_mode in (
        (0, None, "constant"),
        (n_fft // 2, mel(n_fft, 9), "constant"),
        (n_fft // 2, None, "reflect"),
    ):
        number = 1 + (waveform.shape[1] + 2 * left - n_fft) // hop_length
        given = {"hop_length": hop_length, "left": left, "pad_mode": pad_mode, "magnitudes": False}

        def frames(some: range, weight: Tensor | None = weight, given: dict[str, Any] = given) -> Tensor:
            window = functional.window("hann", n_fft)
            return fused_kernels.energy(waveform, weight, frames=some, window=window, **given)

        whole = frames(range(number))
        for some in (range(1), range(number - 1, number), range(3, 3), range(5, 22), range(2, number)):
            assert torch.equal(frames(some), whole[..., some.start : some.stop])


@every_size
@pytest.mark.parametrize("bad", [torch.nan, torch.inf], ids=str)
def test_a_number_that_is_none_stays_in_its_frames(emulated_fused: EmulatedFused, n_fft: int, bad: float) -> None:
    waveform, given = clips(3 * n_fft if n_fft < 4096 else 8000), settings(n_fft, n_fft // 5)
    given["window"] = torch.ones(n_fft)
    whole = fused_energy(waveform, mel(n_fft, 11), **given)
    waveform[2, n_fft + 9] = bad
    energy = emulated_fused.in_any_order(lambda: fused_energy(waveform, mel(n_fft, 11), **given))
    begins = torch.arange(whole.shape[-1]) * given["hop_length"] - n_fft // 2
    held = (begins <= n_fft + 9) & (n_fft + 9 < begins + n_fft)
    assert 0 < held.sum() < len(held)
    assert energy[2, :, held].isnan().all()
    energy[2, :, held] = whole[2, :, held]
    assert torch.equal(energy, whole)


Made = list[Tensor | None]


def gradients(
    energies: Any,
    filtered: bool,
    learnt: str = "waveform, window, filterbank",
    *,
    time: int = 1501,
    n_fft: int = 256,
    **others: Any,
) -> Made:
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


def assert_same_gradient(ours: Tensor | None, expected: Tensor | None) -> None:
    assert ours is not None
    assert expected is not None
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= 1e-4 * expected.abs().max()  # sums in float32, through a logarithm


@pytest.mark.parametrize("filtered", [True, False], ids=["filtered", "spectrum"])
@pytest.mark.parametrize(
    "others",
    [
        *({"learnt": learnt} for learnt in ("filterbank", "window", "waveform")),
        {},
        {"pad_mode": "reflect", "power": 1.0},
        {"center": False},
        {"time": 40, "pad_mode": "reflect"},
        {"n_fft": 512, "pad_mode": "reflect"},
        {"n_fft": 1024, "power": 1.0},
        {"n_fft": 2048, "center": False, "time": 5001},
        {"n_fft": 4096},
    ],
    ids=str,
)
@pytest.mark.usefixtures("emulated_fused")
def test_gradients_are_those_through_stft(filtered: bool, others: dict[str, Any]) -> None:
    if others.get("learnt") == "filterbank" and not filtered:
        return
    ours, expected = (gradients(energies, filtered, **others) for energies in (fused_energy, exact))
    assert [gradient is None for gradient in ours] == [gradient is None for gradient in expected]
    for one, other in zip(ours, expected, strict=True):
        if other is not None:
            assert_same_gradient(one, other)


@pytest.mark.parametrize("learnt", ["filterbank", "window, waveform"])
@pytest.mark.parametrize("n_fft", [256, 4096])
@pytest.mark.usefixtures("emulated_fused")
def test_gradients_come_in_parts_and_are_the_same_every_time(
    learnt: str, n_fft: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> Made:
        return gradients(fused_energy, True, learnt, n_fft=n_fft, time=3001, pad_mode="reflect")

    whole, again = made(), made()
    for part in (n_fft, n_fft * 7, n_fft * 45):  # a frame; some frames; a clip and not two
        monkeypatch.setattr(fused, "_PART", part)
        for one, two, expected in zip(made(), again, whole, strict=True):
            if expected is not None:
                assert two is not None
                assert torch.equal(two, expected)
                assert_same_gradient(one, expected)


@pytest.mark.usefixtures("emulated_fused")
def test_the_gradient_of_a_filterbank_takes_one_product_for_many_clips() -> None:
    """It took torch.addbmm, which starts one for each clip, too small for a GPU."""
    frames = fused._Frames(torch.randn(9, 700), functional.window("hann", 256), 100, True, False, False)
    grad = torch.randn(9, 20, frames.number)
    with Operators() as operators:
        frames.filterbank_gradient(grad)
        frames.gradients(grad, mel(256, 20), (False, False, True))
    assert [name for name in operators.names if "add" in name and "mm" in name] == ["aten::addmm"] * 2


@every_power
@pytest.mark.usefixtures("emulated_fused")
def test_gradients_are_finite_on_silence(power: float) -> None:
    tensors = [torch.zeros(1, 1000), functional.window("hann", 256), mel(256, 20)]
    for tensor in tensors:
        tensor.requires_grad_()
    waveform, window, weight = tensors
    energy = fused_energy(waveform, weight, n_fft=256, hop_length=100, window=window, power=power)
    (energy + 1e-6).log().sum().backward()
    assert all(tensor.grad is not None and tensor.grad.isfinite().all() for tensor in tensors)


@pytest.mark.parametrize("derived", ["waveform", "filterbank", "window"])
@pytest.mark.usefixtures("emulated_fused")
def test_there_is_no_derivative_that_goes_forwards(derived: str) -> None:
    given = settings(256, 100)
    tensors = {"waveform": torch.randn(1, 1000), "filterbank": mel(256, 20), "window": given.pop("window")}
    with torch.autograd.forward_ad.dual_level():
        tensors[derived] = torch.autograd.forward_ad.make_dual(tensors[derived], torch.ones_like(tensors[derived]))
        with pytest.raises(RuntimeError, match="path 'fused' has no derivative that goes forwards: set path to 'fft'"):
            fused_energy(**tensors, **given)


@pytest.mark.usefixtures("emulated_fused")
def test_there_is_no_second_derivative() -> None:
    weight = mel(256, 20).requires_grad_()
    energy = fused_energy(torch.randn(1, 1000), weight, **settings(256, 100))
    (first,) = torch.autograd.grad(energy.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="path 'fused' has no second derivative: set path to 'fft'"):
        first.square().sum().backward()


@pytest.mark.usefixtures("emulated_fused")
def test_autocast_changes_nothing() -> None:
    waveform, weight, given = torch.randn(2, 1000), mel(256, 20).requires_grad_(), settings(256, 100)
    expected = fused_energy(waveform, weight, **given)
    (whole,) = torch.autograd.grad(expected.sum(), weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = fused_energy(waveform, weight, **given)
        (within,) = torch.autograd.grad(ours.sum(), weight)
        with torch.no_grad():
            assert torch.equal(fused_energy(waveform, weight, **given), expected)
    assert torch.equal(ours, expected)
    assert torch.equal(within, whole)


@pytest.mark.slow
@pytest.mark.parametrize("learnt", [False, True])
@pytest.mark.usefixtures("emulated_fused")
def test_is_an_operator_as_torch_wants_it(learnt: bool) -> None:
    window = functional.window("hann", 256).requires_grad_(learnt)
    weight = mel(256, 10).requires_grad_(learnt) if learnt else None
    waveform = torch.randn(2, 1, 700, requires_grad=learnt)
    taken = None if learnt else list(functional.decibel(top_db=80.0))
    torch.library.opcheck(fused._energy, (waveform, window, weight, 77, True, True, not learnt, taken))
    samples = (waveform.detach() * 1000).to(torch.int16)
    torch.library.opcheck(fused._energy, (samples, window, weight, 77, False, False, not learnt, taken))


@pytest.mark.parametrize(
    ("n_fft", "logarithm"),
    [
        (256, functional.natural_logarithm(1e-6)),
        (512, functional.decibel(ref=0.1)),
        (1024, functional.decibel(amin=1e-5, top_db=30.0)),
        (2048, functional.decibel(top_db=0.0)),
        (4096, Logarithm(1)),  # whole numbers are floats, too
    ],
    ids=str,
)
@pytest.mark.parametrize("filtered", [True, False], ids=["filtered", "spectrum"])
def test_a_logarithm_of_the_energies(
    emulated_fused: EmulatedFused, n_fft: int, filtered: bool, logarithm: functional.Logarithm
) -> None:
    waveform, weight = clips()[1:].reshape(2, 2, -1), mel(n_fft, 20) if filtered else None
    given = settings(n_fft, n_fft // 2 - 3)
    energy = fused_energy(waveform, weight, **given)
    ours = emulated_fused.in_any_order(lambda: fused_energy(waveform, weight, **given, logarithm=logarithm))
    torch.testing.assert_close(ours, functional.take_logarithm(energy, logarithm), rtol=0, atol=2e-5)
    with torch.no_grad():
        assert torch.equal(fused_energy(waveform, weight, **given, logarithm=logarithm), ours)
    assert len(ours[1].unique()) > 1 or logarithm.share == 1  # a clip holds silence in one of its channels


@pytest.mark.usefixtures("emulated_fused")
def test_a_logarithm_leaves_gradients_what_they_are() -> None:
    waveform, weight = torch.randn(2, 1, 700), mel(256, 20).requires_grad_()
    given, logarithm = settings(256, 100), functional.natural_logarithm(1e-3)
    results = []
    for taken in (
        fused_energy(waveform, weight, **given, logarithm=logarithm),
        functional.take_logarithm(exact(waveform, weight, **given), logarithm),
    ):
        results.append((taken, *torch.autograd.grad(taken.square().sum(), weight)))
    torch.testing.assert_close(results[0][0].double(), results[1][0], rtol=0, atol=1e-4)
    assert_same_gradient(results[0][1], results[1][1])


@pytest.mark.usefixtures("emulated_fused")
def test_a_logarithm_holds_no_energies_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made, energy = [], fused_kernels.energy
    monkeypatch.setattr(
        fused_kernels, "energy", lambda *given, **others: made.append(energy(*given, **others)) or made[0]
    )
    given = settings(256, 100, logarithm=functional.decibel(top_db=80.0))
    ours = fused_energy(torch.randn(2, 1, 700), mel(256, 20), **given)
    assert ours.data_ptr() == made[0].data_ptr()


@pytest.mark.usefixtures("emulated_fused")
def test_nan_stays_nan_through_a_logarithm() -> None:
    waveform, given = torch.randn(2, 700), settings(256, 100)
    waveform[1, 10] = torch.nan
    ours = fused_energy(waveform, mel(256, 20), **given, logarithm=functional.decibel())
    assert ours[0].isfinite().all()
    assert ours[1, :, 0].isnan().all()


@every_kernel
@pytest.mark.parametrize(("n_bins", "power", "logarithmic"), [(None, 1.0, False), (20, 2.0, True)])
def test_its_own_trial_finds_no_fault(
    emulated_fused: EmulatedFused,
    n_fft: int,
    dtype: torch.dtype,
    n_bins: int | None,
    power: float,
    logarithmic: bool,
) -> None:
    given = torch.device("cpu"), dtype, n_fft, n_bins, "reflect", power
    assert functional.fused_fault(*given, logarithmic=logarithmic) is None
    assert emulated_fused.launched == ["arrange"] * (n_bins is not None) + ["energy"]
    assert functional.fused_fault(*given, logarithmic=logarithmic) is None
    assert emulated_fused.launched.count("energy") == 1, "it is tried once"


def test_tables_stay_however_many_devices_there_are() -> None:
    """The oldest were let go, and their memory given to others, while another stream could still read them."""
    first = fused_kernels.tables(256, torch.float32, torch.device("cpu"))
    for index in range(40):
        fused_kernels.tables(256, torch.float32, torch.device("meta", index))
    assert fused_kernels.tables(256, torch.float32, torch.device("cpu")) is first

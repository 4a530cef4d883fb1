"""Sixteen frames at a time against the plain transform in float64: lengths, hops, edges, PCM, filterbanks, gradients.

Tolerance: as that of the transform, 1e-6 of the peak, if nothing else is said; energies that are to be the same number
are compared bit by bit.
"""

import subprocess
import sys
from pathlib import Path
from types import FunctionType

import numba
import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.functional import lane_kernels
from audiocls.functional.lane_kernels import N_LANES

SAMPLE_RATE = 16000


def clips(*shape: int) -> Tensor:
    """A sweep from 20 Hz to 7 kHz over weak noise, other in every clip."""
    time = torch.arange(shape[-1]) / SAMPLE_RATE
    tone = torch.sin(2 * torch.pi * (20 * time + 3500 * time**2 / max(float(time[-1]), 0.1)))
    return 0.5 * tone + 1e-3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))


def plain(waveform: Tensor, weight: Tensor | None = None, *, power: float = 2.0, **settings) -> Tensor:
    """The same by the transform of torch, in float64."""
    energy = functional.power_spectrum(functional.stft(waveform.double(), **settings))
    energy = energy.sqrt() if power == 1.0 else energy
    return energy if weight is None else weight.double() @ energy


def assert_equal(ours: Tensor, expected: Tensor, *, within: float = 1e-6) -> None:
    assert ours.dtype == torch.float32
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= within * expected.max()


# Half of each is 8, 4, 2 or 1 times what the other stages take: one of every radix, alone, repeated and with others.
TINY = [2, 4, 6, 8, 10, 14, 16, 22, 26, 30]
SMALL = [32, 48, 64, 112, 128, 176, 208, 256, 286, 320, 400, 480, 512]
LONG = [640, 800, 1000, 1024, 1100, 1200, 1536, 2016, 2048, 4096, 8192]


@pytest.mark.parametrize("power", [2.0, 1.0])
@pytest.mark.parametrize("n_fft", [*TINY, *SMALL, *LONG])
def test_every_length_of_transform(n_fft: int, power: float) -> None:
    settings = {"n_fft": n_fft, "hop_length": 1 + n_fft // 3, "window": 0.1 + torch.rand(n_fft)}
    waveform = clips(2, 9 * n_fft + 1)
    assert_equal(functional.lane_energy(waveform, power=power, **settings), plain(waveform, power=power, **settings))


@pytest.mark.parametrize("n_samples", [1, 100, 15 * 160, 16 * 160 - 1, 16 * 160, 17 * 160, 33 * 160 + 7])
@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
def test_every_number_of_frames(n_samples: int, pad_mode: functional.PadMode) -> None:
    settings = {"n_fft": 512, "hop_length": 160, "window": functional.window("hann", 400), "pad_mode": pad_mode}
    waveform = clips(3, n_samples)
    assert_equal(functional.lane_energy(waveform, **settings), plain(waveform, **settings))


@pytest.mark.parametrize("hop_length", [1, 77, 512])
def test_every_hop_without_centring(hop_length: int) -> None:
    settings = {"n_fft": 512, "hop_length": hop_length, "window": functional.window("hamming", 512), "center": False}
    waveform = clips(2, 2000)
    assert_equal(functional.lane_energy(waveform, **settings), plain(waveform, **settings))
    with pytest.raises(ValueError, match="waveform must hold at least n_fft=512 samples, got 511"):
        functional.lane_energy(waveform[:, :511], **settings)


SETTINGS = {"n_fft": 512, "hop_length": 160, "window": functional.window("hann", 512)}


@pytest.mark.parametrize("n_filters", [1, 2, 3, 4, 5, 40, 200])
def test_filterbanks_of_every_size(n_filters: int) -> None:
    weight = functional.mel_filterbank(sample_rate=SAMPLE_RATE, n_fft=512, n_mels=n_filters)
    waveform = clips(2, 4000)
    ours, expected = functional.lane_energy(waveform, weight, **SETTINGS), plain(waveform, weight, **SETTINGS)
    assert_equal(ours, expected, within=3e-6)  # a single filter sums 256 positive numbers one after another


@pytest.mark.parametrize(
    "weight",
    [torch.ones(6, 257), torch.zeros(3, 257), torch.eye(257), torch.eye(257)[[256, 0, 100]], torch.empty(0, 257)],
    ids=["full", "empty", "every bin", "first and last bin", "no filter"],
)
def test_filterbanks_at_their_ends(weight: Tensor) -> None:
    waveform = clips(1, 4000)
    ours, expected = functional.lane_energy(waveform, weight, **SETTINGS), plain(waveform, weight, **SETTINGS)
    assert ours.shape == expected.shape
    assert torch.allclose(ours.double(), expected, rtol=0, atol=1e-6 * float(expected.sum()))


def test_groups_leave_out_what_is_zero_and_nothing_else() -> None:
    weight = functional.mel_filterbank(sample_rate=SAMPLE_RATE, n_fft=2048, n_mels=126)
    first, offset, weights, n_filters = functional.filter_groups(weight)
    back = torch.zeros(126, 1026)  # a bin more, for they come in pairs
    for group, (start, begin, end) in enumerate(zip(first, offset[:-1], offset[1:], strict=True)):
        part = torch.from_numpy(weights.reshape(-1, 2)[2 * begin : 2 * end])
        back[2 * group : 2 * group + 2, start : start + len(part)] = part.T
    assert n_filters == 126
    assert torch.equal(back[:, :-1], weight)
    assert len(weights) < weight.numel() / 30  # three times 1025 bins, two filters over those of three


@pytest.mark.parametrize("n_fft", [10, 32, 176, 400, 512])
def test_pcm_is_the_same_number_as_float(n_fft: int) -> None:
    settings = {"n_fft": n_fft, "hop_length": 1 + n_fft // 3, "window": 0.1 + torch.rand(n_fft)}
    pcm = (clips(2, 3001) * 20000).to(torch.int16)
    pcm[0, :4] = torch.tensor([-32768, 32767, -1, 1])
    ours = functional.lane_energy(pcm, **settings)
    assert torch.equal(ours, functional.lane_energy(functional.pcm_to_float(pcm), **settings))


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("time", [1, 2, 3, 40, 63, 64, 65, 200, 1000, 2000])
def test_clips_of_any_length_are_padded_as_for_the_plain_transform(time: int, pad_mode: str) -> None:
    for n_fft, hop_length in ((2, 1), (10, 7), (64, 3), (64, 50), (400, 160)):
        settings = {"n_fft": n_fft, "hop_length": hop_length, "pad_mode": pad_mode, "window": 0.1 + torch.rand(n_fft)}
        waveform = clips(2, time)
        assert_equal(functional.lane_energy(waveform, **settings), plain(waveform, **settings), within=2e-6)


def test_a_frame_does_not_depend_on_its_neighbours_or_on_threads() -> None:
    waveform = clips(5, 160 * 600)
    together = functional.lane_energy(waveform, **SETTINGS)
    assert torch.equal(together[3:4], functional.lane_energy(waveform[3:4], **SETTINGS))
    assert torch.equal(together[..., 7:12], functional.lane_energy(waveform[:, 5 * 160 :], **SETTINGS)[..., 2:7])
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(functional.lane_energy(waveform, **SETTINGS), together)
    finally:
        torch.set_num_threads(threads)


def test_any_dimensions_of_clips() -> None:
    waveform = clips(6, 4000)
    weight = functional.mel_filterbank(sample_rate=SAMPLE_RATE, n_fft=512, n_mels=40)
    together = functional.lane_energy(waveform.view(2, 3, 4000), weight, **SETTINGS)
    assert torch.equal(together.flatten(end_dim=1), functional.lane_energy(waveform, weight, **SETTINGS))
    assert torch.equal(together[1, 0], functional.lane_energy(waveform[3], weight, **SETTINGS))
    assert functional.lane_energy(waveform.view(2, 3, 4000)[:0], weight, **SETTINGS).shape == (0, 3, 40, 26)
    weight.requires_grad_()
    for one in (waveform.view(2, 3, 4000), waveform[3]):
        (slope,) = torch.autograd.grad(functional.lane_energy(one, weight, **SETTINGS).sum(), weight)
        (expected,) = torch.autograd.grad(plain(one, weight, **SETTINGS).sum(), weight)
        assert (slope - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_what_is_not_finite_stays_in_its_frames() -> None:
    waveform = clips(2, 160 * 100)
    waveform[1, 8000] = torch.nan
    waveform[1, 12000] = torch.inf
    energy = functional.lane_energy(waveform, **SETTINGS).sum(dim=1)
    bad = ~energy.isfinite()
    assert not bad[0].any()
    # 8000 and 12000 stand in frames 50 and 75 and in those whose 512 samples reach them; Hann's first sample is zero
    assert bad[1].nonzero().flatten().tolist() == [49, 50, 51, 74, 75, 76]
    assert functional.lane_energy(waveform[:0], **SETTINGS).shape == (0, 257, 101)


@pytest.mark.parametrize("power", [2.0, 1.0])
@pytest.mark.parametrize("n_samples", [100, 160 * 100])
def test_gradient_of_the_filterbank(n_samples: int, power: float) -> None:
    weight = functional.mel_filterbank(sample_rate=SAMPLE_RATE, n_fft=512, n_mels=40).requires_grad_()
    waveform = clips(3, n_samples)
    energy = functional.lane_energy(waveform, weight, power=power, **SETTINGS)
    slope = torch.randn_like(energy)
    (ours,) = torch.autograd.grad(energy, weight, slope)
    (expected,) = torch.autograd.grad(plain(waveform, weight, power=power, **SETTINGS), weight, slope.double())
    assert (ours - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_second_derivative_of_the_filterbank() -> None:
    weight = torch.rand(3, 9, requires_grad=True)
    waveform = clips(1, 100)

    def slope(compute) -> Tensor:
        energy = compute(waveform, weight, n_fft=16, hop_length=8, window=torch.ones(16))
        (first,) = torch.autograd.grad((energy + 1).log().sum(), weight, create_graph=True)
        return torch.autograd.grad(first.square().sum(), weight)[0]

    expected = slope(plain)
    assert (slope(functional.lane_energy) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_no_gradient_is_kept_where_none_is_wanted() -> None:
    weight = torch.rand(3, 257, requires_grad=True)
    with torch.no_grad():
        assert functional.lane_energy(clips(1, 2000), weight, **SETTINGS).grad_fn is None
    assert functional.lane_energy(clips(1, 2000), weight.detach(), **SETTINGS).grad_fn is None


def test_what_it_does_not_take() -> None:
    assert not functional.fits_lanes(511)
    assert not functional.fits_lanes(2 * 17)
    with pytest.raises(ValueError, match="n_fft must be even and without a prime factor above 13, got 34"):
        functional.lane_energy(torch.zeros(1, 100), n_fft=34, hop_length=8, window=torch.ones(34))
    with pytest.raises(ValueError, match=r"filterbank must have n_fft // 2 \+ 1 = 257 columns, got shape \(3, 256\)"):
        functional.lane_energy(torch.zeros(1, 1000), torch.ones(3, 256), **SETTINGS)
    with pytest.raises(TypeError, match=r"waveform must be float32 or int16, got torch\.float64"):
        functional.lane_energy(torch.zeros(1, 100, dtype=torch.float64), **SETTINGS)


@pytest.mark.slow
def test_where_nothing_can_be_kept_on_disk(tmp_path: Path) -> None:
    """It is compiled once a process then."""
    script = """
import numba.core.caching as caching
caching.CacheImpl._locator_classes = []
import torch
from audiocls import functional
print(functional.lane_energy(torch.zeros(1, 100), n_fft=8, hop_length=4, window=torch.ones(8)).shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "torch.Size([1, 5, 26])" in done.stdout


def test_a_wait_for_the_compiler_is_explained_once(caplog: pytest.LogCaptureFixture) -> None:
    lane_kernels._say_that_it_compiles.cache_clear()
    caplog.set_level("INFO")
    said = []
    for module in ("of.others", lane_kernels.__name__, lane_kernels.__name__):
        function = FunctionType((lambda number: number).__code__, {"__name__": module})
        assert numba.njit(function)(1) == 1
        said.append([record.getMessage() for record in caplog.records])
    says = "compiling the front-end for this processor: some seconds, at its first use alone"
    assert said == [[], [says], [says]]


def test_the_length_of_a_tile_is_that_of_the_tests() -> None:
    assert N_LANES == 16

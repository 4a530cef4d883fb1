"""Learnable front-ends: each starts as its fixed twin, stays sound whatever the step, and does learn."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audiocls.frontends import (
    PCEN,
    Frontend,
    Leaf,
    Log,
    MelSpectrogram,
    NoCompression,
    NoNormalization,
    ParametricMel,
    SincNet,
)
from audiocls.frontends.bands import Bands
from audiocls.frontends.compression import PositivePerBin
from audiocls.frontends.window import Window

SAMPLE_RATE = 16000


def plain(kind: type, **settings) -> Frontend:
    """A front-end whose spectrogram is its energies."""
    return kind(SAMPLE_RATE, compression=NoCompression, normalization=NoNormalization, **settings)


def tone(frequency: float, *, amplitude: float = 0.1, n_samples: int = 8000) -> Tensor:
    time = torch.arange(n_samples, dtype=torch.float64) / SAMPLE_RATE
    return (amplitude * torch.sin(2 * torch.pi * frequency * time)).to(torch.float32).reshape(1, 1, -1)


FILTERING = {
    "leaf": lambda: plain(Leaf),
    "efficient leaf": lambda: plain(Leaf, n_groups=4, conv_win_factor=6.0, stride_factor=4.0),
    "sinc net": lambda: plain(SincNet),
}
filtering = pytest.mark.parametrize("build", FILTERING.values(), ids=FILTERING.keys())


# --- starts ---


@pytest.mark.parametrize("settings", [{}, {"norm": None, "mel_scale": "htk"}, {"n_mels": 80, "n_fft": 512}], ids=str)
def test_triangles_start_as_the_mel_filterbank(settings: dict) -> None:
    ours, mel = ParametricMel(SAMPLE_RATE, **settings), MelSpectrogram(SAMPLE_RATE, **settings)
    start = mel.filterbanks()["start"]
    # one rounding of float32
    torch.testing.assert_close(ours.filterbanks()["now"], start, rtol=3e-7, atol=1e-7 * float(start.max()))
    assert torch.equal(*ours.filterbanks().values())
    torch.testing.assert_close(ours.frequencies, mel.frequencies, rtol=1e-6, atol=0)


def test_learnt_pcen_starts_as_the_fixed_one() -> None:
    energy = torch.rand(2, 1, 5, 100) ** 4
    fixed, learnt = PCEN(5, smooth=0.05, alpha=0.9), PCEN(5, smooth=0.05, alpha=0.9, learnable=True)
    torch.testing.assert_close(learnt(energy), fixed(energy), rtol=1e-5, atol=0)  # its numbers are float32
    assert list(fixed.parameters()) == []
    assert {name: len(p) for name, p in learnt.named_parameters()} == {
        f"{name}.log_ratio": 5 for name in ("smooth", "alpha", "delta", "r")
    }


def test_efficient_leaf_approximates_leaf() -> None:
    noise = 0.1 * torch.randn(2, 1, 8000)
    leaf = plain(Leaf)(noise)
    grouped = plain(Leaf, n_groups=4, conv_win_factor=6.0, stride_factor=1.0)(noise)
    # filters of six standard deviations instead of 401 samples, and a stride: 0.3 % of the energy is elsewhere
    assert ((grouped - leaf).abs() / leaf).mean() < 0.01


def test_grouped_filters_are_short_where_bands_are_wide_and_strides_divide_the_hop() -> None:
    groups = plain(Leaf, n_groups=8, conv_win_factor=6.0, stride_factor=16.0).groups
    assert [group.length for group in groups] == sorted((group.length for group in groups), reverse=True)
    assert all(group.length % 2 == 1 and 160 % group.stride == 0 for group in groups)
    assert groups[0].stride > groups[-1].stride > 1


@filtering
@pytest.mark.parametrize("index", [3, 20, 36])
def test_a_tone_peaks_in_its_band(build: Callable[[], Frontend], index: int) -> None:
    frontend = build()
    energy = frontend(tone(float(frontend.frequencies[index])))
    assert (energy[0, 0, :, 5:-5].argmax(dim=0) == index).all()


def test_energy_of_a_tone_is_its_power_over_the_pooling_window() -> None:
    frontend = plain(SincNet, n_bins=8)
    energy = frontend(tone(float(frontend.frequencies[4]), amplitude=0.2)).detach()[0, 0, 4, 25]
    time = torch.arange(-200, 201)
    window = torch.exp(-0.5 * (time / (0.4 * 200)) ** 2)
    assert float(energy) == pytest.approx(0.2**2 / 2 * float(window.sum()), rel=0.02)  # ripple of the pass band


# --- whatever the step ---


def test_bands_stay_sorted_and_wide_enough_whatever_is_learnt() -> None:
    bands = Bands(
        SAMPLE_RATE, 40, f_min=50.0, mel_scale="slaney", narrowest=31.25, learnable_centers=True, learnable_widths=True
    )
    for seed, size in enumerate((5, 5, 5, 1000, 1000)):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            bands.log_gap.copy_(size * torch.randn(41, generator=generator))
            bands.log_width.copy_(20 * torch.randn(40, generator=generator) - 10)
        lower, center, upper = bands()
        assert (center.diff() > 0).all()
        assert center.min() >= 50.0
        assert center.max() <= 8000.0
        assert torch.minimum(center - lower, upper - center).min() > 15.0  # half an even band where those are narrow
        bands().sum().backward()
        assert all(p.grad.isfinite().all() for p in bands.parameters())


@pytest.mark.parametrize("kind", [ParametricMel, Leaf, SincNet])
def test_large_steps_leave_finite_numbers_and_gradients(kind: type) -> None:
    frontend = kind(SAMPLE_RATE)
    optimizer = torch.optim.SGD(frontend.parameters(), lr=1.0)
    for _ in range(3):
        optimizer.zero_grad()
        spectrogram = frontend(0.1 * torch.randn(2, 1, 2000))
        (spectrogram * torch.randn_like(spectrogram)).sum().backward()
        for parameter in frontend.parameters():
            assert parameter.grad.isfinite().all()
            parameter.grad.clamp_(-3.0, 3.0)  # e^3 is a factor of 20 in one step
        optimizer.step()
    assert frontend(torch.zeros(1, 1, 2000)).isfinite().all()
    assert frontend.filterbanks()["now"].isfinite().all()


@pytest.mark.parametrize("width", [2.0, 4.0, 6.0])
@filtering
def test_bands_that_grow_wide_amplify_nothing(build: Callable[[], Frontend], width: float) -> None:
    frontend = build()
    most = 1.1 * float(frontend.filterbanks()["now"].max())  # a tenth for the ripple of a filter that is cut off
    with torch.no_grad():
        frontend.filterbank.log_width.fill_(width)
    # the cosine and the sine of a Gabor filter that hears negative frequencies too are each heard in full: twice
    assert float(frontend.filterbanks()["now"].max()) < (most if isinstance(frontend, SincNet) else 2 * most)


@pytest.mark.parametrize("away", [-1000.0, 1000.0])
def test_numbers_thrown_far_out_wait_for_a_step_that_leads_back(away: float) -> None:
    offset = PositivePerBin(2, 1e-6, learnable=True)
    assert offset.log_ratio is not None
    with torch.no_grad():
        offset.log_ratio.fill_(away)
    (offset() * torch.tensor([1.0, -1.0])).sum().backward()
    onwards, back = (0, 1) if away < 0 else (1, 0)
    assert offset.log_ratio.grad is not None
    assert offset.log_ratio.grad[onwards] == 0
    assert away * offset.log_ratio.grad[back] > 0  # a step goes against the gradient


@pytest.mark.parametrize("win_length", [400, 401])
def test_window_that_shrinks_to_nothing_still_hears(win_length: int) -> None:
    window = Window("hann", win_length, n_fft=512, learnable="length")
    assert window.log_ratio is not None
    with torch.no_grad():
        window.log_ratio.fill_(-50.0)
    assert window().sum() == 1.0


def test_evaluation_uses_what_is_learnt() -> None:
    frontend = plain(ParametricMel, n_fft=512, n_mels=20).eval()
    noise = 0.1 * torch.randn(1, 1, 4000)
    before = frontend(noise)
    with torch.no_grad():
        frontend.filterbank.edges.log_gap.copy_(torch.linspace(-2, 2, 21))
        moved = frontend(noise)
    torch.testing.assert_close(moved, frontend(noise), rtol=1e-4, atol=1e-6)  # the path with gradients; float32 sums
    assert not torch.allclose(moved, before, rtol=0.1)


def test_state_is_kilobytes() -> None:
    for frontend in (ParametricMel(SAMPLE_RATE), Leaf(SAMPLE_RATE), SincNet(SAMPLE_RATE)):
        assert sum(tensor.nbytes for tensor in frontend.state_dict().values()) < 4096


# --- it learns ---


@pytest.mark.parametrize("shape", ["triangle", "gauss", "gammatone"])
def test_bands_that_are_set_wrong_find_those_that_the_target_was_made_with(shape: str) -> None:
    def build() -> ParametricMel:
        return ParametricMel(
            SAMPLE_RATE, n_fft=512, hop_length=512, n_mels=6, shape=shape, normalization=NoNormalization
        )

    right, wrong = build(), build()
    with torch.no_grad():  # all bands crowded into the lowest quarter, and narrow
        wrong.filterbank.edges.log_gap[-1] = 1.5
        wrong.filterbank.edges.log_width.fill_(-0.7)
    tones = [tone(float(frequency), n_samples=1024) for frequency in torch.linspace(60, 7500, 24)]
    waveform = torch.cat(tones) + 0.01 * torch.randn(24, 1, 1024)
    with torch.no_grad():
        target = right(waveform)
    off = float((wrong.edges[1] - right.edges[1]).abs().mean())
    optimizer = torch.optim.Adam(wrong.parameters(), lr=0.05)
    losses = []
    for _ in range(150):
        loss = F.mse_loss(wrong(waveform), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]
    assert float((wrong.edges[1] - right.edges[1]).abs().mean()) < 0.1 * off


def fit(frontend: Frontend, head: nn.Module, waveform: Tensor, target: Tensor, *, steps: int, lr: float) -> None:
    """A few steps of Adam on one batch."""
    optimizer = torch.optim.Adam([*frontend.parameters(), *head.parameters()], lr=lr)
    for _ in range(steps):
        loss = F.cross_entropy(head(frontend(waveform).mean(dim=(1, 3))), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_pcen_adapts_where_the_level_of_the_noise_changes_from_clip_to_clip() -> None:
    def clips(n_clips: int) -> tuple[Tensor, Tensor]:
        """Steady noise of any level over four decades of power; in every other clip a burst of twice its level."""
        target = torch.arange(n_clips) % 2
        level = 10 ** (-3 + 2 * torch.rand(n_clips, 1, 1))
        burst = torch.zeros(8000)
        burst[5000:6000] = 2.0
        return level * torch.randn(n_clips, 1, 8000) * (1 + target[:, None, None] * burst), target

    accuracy = {}
    for name, compression in {
        "fixed": Log,
        "adapting": lambda n_bins: PCEN(n_bins, learnable=True, eps=1e-9),
    }.items():
        torch.manual_seed(0)
        (waveform, target), (unseen, truth) = clips(64), clips(64)
        frontend = MelSpectrogram(
            SAMPLE_RATE, n_fft=512, hop_length=160, n_mels=16, compression=compression, normalization=NoNormalization
        )
        head = nn.Linear(16, 2)
        fit(frontend, head, waveform, target, steps=150, lr=0.1)
        with torch.no_grad():
            accuracy[name] = float((head(frontend(unseen).mean(dim=(1, 3))).argmax(1) == truth).float().mean())
    assert accuracy["adapting"] > 0.9
    assert accuracy["fixed"] < 0.75  # the mean of a logarithm is the level, which says nothing


# --- as a graph ---

GRAPHS = {
    "pcen": lambda: plain(MelSpectrogram, n_fft=512, hop_length=160, n_mels=20),
    "parametric mel": lambda: plain(ParametricMel, n_fft=512, hop_length=160, n_mels=20),
    "leaf": lambda: plain(Leaf, n_bins=8),
    "efficient leaf": lambda: plain(Leaf, n_bins=8, n_groups=2, conv_win_factor=6.0, stride_factor=16.0),
    "sinc net": lambda: plain(SincNet, n_bins=8),
}


def with_pcen(build: Callable[[], Frontend]) -> Frontend:
    frontend = build()
    frontend.compression = PCEN(frontend.n_bins, learnable=True)
    return frontend


@pytest.mark.slow
@pytest.mark.parametrize("build", GRAPHS.values(), ids=GRAPHS.keys())
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex operators")
def test_compiles_to_one_graph_with_the_same_gradients(build: Callable[[], Frontend]) -> None:
    eager, frontend = with_pcen(build), with_pcen(build)
    torch.compiler.reset()  # in one process torch compiles the same lines for eight front-ends
    compiled = torch.compile(frontend, fullgraph=True)
    waveform = 0.1 * torch.randn(2, 1, 4000)
    weighting = torch.randn(eager.n_bins, eager.n_frames(4000))
    for run in (eager, compiled):
        (run(waveform) * weighting).sum().backward()
    for (name, expected), parameter in zip(eager.named_parameters(), frontend.parameters(), strict=True):
        # fused float32 sums; 1e-3 of each gradient's largest entry
        assert (parameter.grad - expected.grad).abs().max() <= 1e-3 * expected.grad.abs().max(), name


@pytest.mark.slow
@pytest.mark.parametrize("build", GRAPHS.values(), ids=GRAPHS.keys())
def test_exports_for_any_batch_and_length(build: Callable[[], Frontend]) -> None:
    frontend = with_pcen(build).eval()
    dims = {0: torch.export.Dim("batch", min=1, max=64), 2: torch.export.Dim("time", min=257, max=480_000)}
    exported = torch.export.export(frontend, (torch.randn(2, 1, 4000),), dynamic_shapes={"waveform": dims}).module()
    for shape in ((1, 1, 257), (3, 1, 50_001)):
        waveform = 0.1 * torch.randn(shape)
        # other products over frames, and convolution instead of the transform: float32 sums
        torch.testing.assert_close(exported(waveform), frontend(waveform), rtol=1e-4, atol=1e-5)


# --- errors ---


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PCEN(4, smooth=0.0), r"smooth must be in \(0, 1\], got 0.0"),
        (lambda: PCEN(4, smooth=1.0, learnable=True), "smooth must be above 0 and below 1 to be learnt, got 1.0"),
        (lambda: ParametricMel(SAMPLE_RATE, n_fft=0), "n_fft must be at least 1 sample, got 0"),
        (lambda: ParametricMel(SAMPLE_RATE, n_mels=0), "n_mels must be at least 1, got 0"),
        (lambda: ParametricMel(SAMPLE_RATE, f_max=9000.0), "f_max must be at most sample_rate / 2 = 8000.0 Hz"),
        (lambda: ParametricMel(SAMPLE_RATE, shape="box"), "shape must be one of triangle, gauss, gammatone, got 'box'"),
        (lambda: Leaf(SAMPLE_RATE, n_bins=4, n_groups=5), "n_groups must be between 1 and n_bins=4, got 5"),
        (lambda: Leaf(SAMPLE_RATE, conv_win_factor=0.0), "conv_win_factor must be positive or None, got 0.0"),
        (lambda: Leaf(SAMPLE_RATE, hop_length=0), "hop_length must be at least 1 sample, got 0"),
        (lambda: Leaf(SAMPLE_RATE, win_length=0), "win_length must be at least 1 sample, got 0"),
        (lambda: Leaf(SAMPLE_RATE, pooling_width=0.0), "pooling_width must be positive, got 0.0"),
        (lambda: SincNet(SAMPLE_RATE, kernel_length=250), "kernel_length must be odd and at least 1 sample, got 250"),
        (lambda: SincNet(SAMPLE_RATE, win_length=0), "win_length must be at least 1 sample, got 0"),
        (lambda: SincNet(SAMPLE_RATE, hop_length=0), "hop_length must be at least 1 sample, got 0"),
    ],
)
def test_settings_are_checked(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()

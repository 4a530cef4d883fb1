"""What holds for every front-end: dtype in and out, precision, batches, silence, short clips, state and gradients.

A front-end joins by a line in FRONTENDS.
"""

import copy
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from audiocls import frontends
from audiocls.frontends import (
    CFP,
    CQT,
    LFCC,
    MFCC,
    PCEN,
    VQT,
    BatchNormMap,
    ComplexSpectrogram,
    Decibel,
    Frontend,
    Gammatonegram,
    Harmonic,
    Leaf,
    Log,
    Log1p,
    MelSpectrogram,
    NoNormalization,
    ParametricMel,
    SincNet,
    Spectrogram,
    Waveform,
)
from audiocls.frontends.base import _full_float32

SAMPLE_RATE = 16000


def learnt_log(n_bins: int) -> Log:
    return Log(n_bins, learnable=True)


def learnt_log1p(n_bins: int) -> Log1p:
    return Log1p(n_bins, learnable=True)


def learnt_pcen(n_bins: int) -> PCEN:
    return PCEN(n_bins, learnable=True)


def high_log(n_bins: int) -> Log:
    """For single wavelets and products, which can come to nearly nothing beside a tone: 1e-7 of it is rounding."""
    return Log(n_bins, offset=1e-2, learnable=True)


def mel(**settings) -> Callable[[], Frontend]:
    return lambda: MelSpectrogram(SAMPLE_RATE, n_fft=512, hop_length=160, n_mels=40, **settings)


FRONTENDS: dict[str, Callable[[], Frontend]] = {
    "mel": mel(),
    "mel, mirrored": mel(pad_mode="reflect"),
    "mel, decibel": mel(compression=Decibel),
    "mel, magnitude": mel(power=1.0),
    "mel, learnt": mel(learnable=True, compression=learnt_log),
    "mel, learnt window": mel(learnable_window=True),
    "mel, learnt length": mel(learnable_window="length", win_length=400),
    "mel, learnt kernels": mel(learnable_kernels=True),
    "mel, learnt, magnitude, log1p": mel(learnable=True, power=1.0, compression=learnt_log1p, pad_mode="reflect"),
    "mel, pcen": mel(compression=PCEN),
    "mel, learnt pcen": mel(learnable=True, compression=learnt_pcen),
    "parametric mel": lambda: ParametricMel(SAMPLE_RATE, n_fft=512, hop_length=160, n_mels=40),
    "parametric mel, gauss": lambda: ParametricMel(SAMPLE_RATE, n_fft=512, hop_length=160, n_mels=40, shape="gauss"),
    "leaf": lambda: Leaf(SAMPLE_RATE, n_bins=8),
    "efficient leaf": lambda: Leaf(
        SAMPLE_RATE, n_bins=8, n_groups=4, conv_win_factor=6.0, stride_factor=16.0, compression=learnt_log1p
    ),
    "sinc net": lambda: SincNet(SAMPLE_RATE, n_bins=8, learnable_pooling=True),
    "waveform": lambda: Waveform(SAMPLE_RATE, normalization=BatchNormMap),
    "spectrogram": lambda: Spectrogram(SAMPLE_RATE, n_fft=512, hop_length=160, f_max=6000.0),
    "spectrogram, learnt": lambda: Spectrogram(SAMPLE_RATE, n_fft=256, hop_length=160, learnable=True),
    "spectrogram, log": lambda: Spectrogram(
        SAMPLE_RATE, n_fft=512, hop_length=160, n_bins=20, freq_scale="log", f_min=200.0, learnable=True
    ),
    "complex": lambda: ComplexSpectrogram(SAMPLE_RATE, n_fft=512, hop_length=160, f_min=100.0, f_max=4000.0),
    "phase": lambda: ComplexSpectrogram(SAMPLE_RATE, n_fft=512, hop_length=160, output="phase"),
    "mfcc": lambda: MFCC(SAMPLE_RATE, n_fft=512, hop_length=160, n_mels=40, n_mfcc=13, n_deltas=2, lifter=22.0),
    "mfcc, learnt": lambda: MFCC(
        SAMPLE_RATE, n_fft=512, hop_length=160, n_mels=40, learnable=True, compression=learnt_log
    ),
    "lfcc": lambda: LFCC(SAMPLE_RATE, n_fft=512, hop_length=160, n_bands=40),
    "gammatone": lambda: Gammatonegram(SAMPLE_RATE, n_fft=512, hop_length=160, learnable=True),
    "cqt": lambda: CQT(SAMPLE_RATE, hop_length=160, n_bins=36, f_min=500.0, compression=high_log),
    "cqt, learnt, magnitude": lambda: CQT(
        SAMPLE_RATE, hop_length=160, n_bins=36, f_min=500.0, power=1.0, learnable=True, compression=high_log
    ),
    "vqt, mirrored": lambda: VQT(
        SAMPLE_RATE, hop_length=160, n_bins=36, f_min=500.0, pad_mode="reflect", compression=high_log
    ),
    "harmonic": lambda: Harmonic(
        SAMPLE_RATE, harmonics=(1, 2), hop_length=160, n_bins=24, f_min=500.0, compression=high_log
    ),
    "cfp": lambda: CFP(SAMPLE_RATE, win_length=1024, hop_length=160, bins_per_octave=24, compression=high_log),
    "cfp, learnt": lambda: CFP(
        SAMPLE_RATE, win_length=1024, hop_length=160, bins_per_octave=24, learnable=True, compression=high_log
    ),
}
every_frontend = pytest.mark.parametrize("build", FRONTENDS.values(), ids=FRONTENDS.keys())


def signal(*shape: int) -> Tensor:
    """A tone over weak noise: the wide range between them shows what low precision would lose."""
    generator = torch.Generator().manual_seed(0)
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 / SAMPLE_RATE * torch.arange(shape[-1]))
    return tone + 1e-3 * torch.randn(shape, generator=generator)


def test_every_public_frontend_is_here() -> None:
    public = {getattr(frontends, name) for name in frontends.__all__}
    concrete = {kind for kind in public if issubclass(kind, Frontend)} - {Frontend}
    assert {type(build()) for build in FRONTENDS.values()} == concrete


@every_frontend
def test_shape_of_any_length_and_number_of_channels(build: Callable[[], Frontend]) -> None:
    frontend = build()
    assert frontend.frequencies.shape == (frontend.n_bins,)
    for batch, channels, time in (1, 1, 16000), (2, 2, 1601), (3, 1, 511), (2, 1, 255), (2, 1, 2), (2, 1, 1):
        spectrogram = frontend(signal(batch, channels, time))
        assert spectrogram.shape == (batch, frontend.n_maps * channels, frontend.n_bins, frontend.n_frames(time))
        assert spectrogram.dtype == torch.float32
        assert spectrogram.isfinite().all(), time


@every_frontend
def test_int16_equals_float_and_double(build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    pcm = (signal(2, 1, 4000) * 32768).to(torch.int16)
    expected = frontend(pcm.to(torch.float32) / 32768)
    assert torch.equal(frontend(pcm), expected)
    assert torch.equal(frontend(pcm.to(torch.float64) / 32768), expected)


@every_frontend
def test_a_clip_alone_equals_the_clip_in_a_batch(build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    waveform = signal(3, 2, 4000) * torch.tensor([1e-4, 1.0, 0.1])[:, None, None]
    together = frontend(waveform)
    for index in range(3):
        # float32 sums of another order: 1e-4 of a natural logarithm or decibel
        torch.testing.assert_close(
            together[index : index + 1], frontend(waveform[index : index + 1]), rtol=0, atol=1e-4
        )


@every_frontend
def test_channels_are_treated_alike(build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    spectrogram = frontend(signal(1, 1, 4000).expand(1, 2, 4000))
    first, second = spectrogram.chunk(2, dim=1)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-4)  # as above


@every_frontend
def test_delay_by_one_hop_shifts_one_frame(build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    if isinstance(frontend.compression, PCEN):
        pytest.skip("an average over frames remembers where the clip began")
    waveform = signal(1, 1, 4000)
    delayed = torch.nn.functional.pad(waveform, (160, 0))[..., :4000]
    shift = frontend.n_frames(4160) - frontend.n_frames(4000)
    inner = slice(8 * shift, -8 * shift)  # frames that the edges do not reach, not even by a slope over nine frames
    before, after = frontend(waveform)[..., :-shift], frontend(delayed)[..., shift:]
    torch.testing.assert_close(after[..., inner], before[..., inner], rtol=0, atol=1e-4)  # float32 sums


@every_frontend
def test_gradients_are_finite_on_silence(build: Callable[[], Frontend]) -> None:
    frontend = build()
    for time in (4000, 100):
        frontend.zero_grad()
        waveform = torch.zeros(2, 1, time, requires_grad=True)
        (frontend(waveform) ** 2).sum().backward()
        for name, tensor in {"waveform": waveform, **dict(frontend.named_parameters())}.items():
            assert tensor.grad is not None, (name, time)
            assert tensor.grad.isfinite().all(), (name, time)


@every_frontend
def test_nan_is_refused_and_not_heard_as_silence(build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    waveform = signal(2, 1, 4000)
    waveform[1, 0, 77] = torch.nan
    refused = r"waveform must be finite, got nan or infinity in clips \[1\] of the batch"
    with pytest.raises(ValueError, match=refused):
        frontend(waveform)
    with pytest.raises(ValueError, match=refused):  # with gradients
        frontend(waveform.requires_grad_())


@every_frontend
def test_parameters_thrown_far_out_leave_finite_numbers_and_gradients(build: Callable[[], Frontend]) -> None:
    frontend = build()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in frontend.parameters():
            parameter.copy_(1000.0 * torch.randn(parameter.shape, generator=generator).sign())
    spectrogram = frontend(signal(2, 1, 4000))
    assert spectrogram.isfinite().all()
    spectrogram.square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in frontend.parameters())


@every_frontend
def test_training_reaches_every_parameter(build: Callable[[], Frontend]) -> None:
    frontend = build()
    before = {name: parameter.detach().clone() for name, parameter in frontend.named_parameters()}
    optimizer = torch.optim.SGD(frontend.parameters(), lr=1e-3)
    weighting = torch.randn(frontend.n_bins, frontend.n_frames(4000), generator=torch.Generator().manual_seed(1))
    (frontend(signal(4, 1, 4000)) * weighting).sum().backward()
    optimizer.step()
    still = [name for name, parameter in frontend.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []


@every_frontend
def test_autocast_changes_nothing(build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    waveform = signal(2, 1, 4000)
    expected = frontend(waveform)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=dtype):
            cast = frontend(waveform)
        assert cast.dtype == torch.float32
        assert torch.equal(cast, expected), dtype


@every_frontend
def test_casting_the_model_leaves_the_frontend_alone(build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    waveform = signal(2, 1, 4000)
    expected = frontend(waveform)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        model = torch.nn.Sequential(copy.deepcopy(frontend), torch.nn.Linear(3, 3)).to(dtype)
        assert model[1].weight.dtype == dtype
        floating = [tensor for tensor in (*model[0].parameters(), *model[0].buffers()) if tensor.is_floating_point()]
        assert {tensor.dtype for tensor in floating} == {torch.float32}
        assert torch.equal(model[0](waveform), expected), dtype


@every_frontend
def test_default_dtype_changes_nothing(build: Callable[[], Frontend]) -> None:
    waveform = signal(2, 1, 4000)
    expected = build().eval()(waveform)
    torch.set_default_dtype(torch.bfloat16)  # as Lightning does while it builds a "bf16-true" model
    try:
        assert torch.equal(build().eval()(waveform), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture
def reduced_matmul_precision() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.mark.usefixtures("reduced_matmul_precision")
def test_matmul_precision_is_full_inside_and_as_before_outside() -> None:
    seen = []

    class Probe(NoNormalization):
        def forward(self, spectrogram: Tensor) -> Tensor:
            seen.extend(kind.fp32_precision for kind in kinds)
            return spectrogram

    kinds = (torch.backends.mkldnn.matmul,)
    outside = [kind.fp32_precision for kind in kinds]
    mel(normalization=Probe)()(signal(1, 1, 1000))
    assert set(seen) == {"ieee"}
    assert [kind.fp32_precision for kind in kinds] == outside
    assert torch.get_float32_matmul_precision() == "medium"


@pytest.mark.usefixtures("reduced_matmul_precision")
def test_matmul_precision_is_full_for_what_a_gpu_computes() -> None:
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    outside = [kind.fp32_precision for kind in kinds]
    with _full_float32("cuda"):
        assert {kind.fp32_precision for kind in kinds} == {"ieee"}
    assert [kind.fp32_precision for kind in kinds] == outside
    assert "ieee" not in outside


@every_frontend
def test_state_holds_no_table_and_loads_back(build: Callable[[], Frontend]) -> None:
    frontend = build()
    frontend(signal(4, 1, 4000))  # moves the running statistics
    state = frontend.state_dict()
    learnt = {name for name, _ in frontend.named_parameters()}
    statistics = (
        ("running_mean", "running_var", "num_batches_tracked") if hasattr(frontend.normalization, "norm") else ()
    )
    assert set(state) == learnt | {f"normalization.norm.{name}" for name in statistics}
    other = build()
    other.load_state_dict(state)
    waveform = signal(1, 1, 3000)
    assert torch.equal(other.eval()(waveform), frontend.eval()(waveform))


@every_frontend
def test_a_deep_copy_is_independent(build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    waveform = signal(1, 1, 3000)
    expected = frontend(waveform)
    other = copy.deepcopy(frontend)
    for parameter in other.parameters():
        parameter.data.zero_()
    assert torch.equal(frontend(waveform), expected)


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        ((4000,), r"got shape \(4000,\): use waveform\[None, None\]"),
        ((2, 4000), r"got shape \(2, 4000\): use waveform.unsqueeze\(1\) for \(batch, time\)"),
        ((1, 1, 1, 4000), r"got shape \(1, 1, 1, 4000\): use bring it to three"),
    ],
)
def test_number_of_dimensions_is_checked(shape: tuple[int, ...], cure: str) -> None:
    with pytest.raises(ValueError, match=r"waveform must be \(batch, channels, time\), " + cure):
        mel()()(torch.zeros(shape))


def test_pcm_of_another_width_is_refused() -> None:
    with pytest.raises(TypeError, match=r"waveform must be int16 or int32 PCM, .*, got torch.int64"):
        mel()()(torch.zeros(1, 1, 4000, dtype=torch.int64))


def test_empty_clip_is_refused() -> None:
    with pytest.raises(ValueError, match="waveform must hold at least 1 sample, got 0"):
        mel()()(torch.zeros(1, 1, 0))


@pytest.mark.gpu
@every_frontend
def test_gpu_equals_cpu(build: Callable[[], Frontend]) -> None:
    frontend = build().eval()
    waveform = signal(4, 1, 16000)
    expected = frontend(waveform)
    torch.set_float32_matmul_precision("high")
    try:
        ours = frontend.to("cuda")(waveform.cuda()).cpu()
    finally:
        torch.set_float32_matmul_precision("highest")
    # 0.01 dB is 0.0023 of a natural logarithm
    torch.testing.assert_close(ours, expected, rtol=0, atol=2.3e-3)

"""The constant-Q front-ends: power of `functional.cqt`, learnt wavelets, harmonics; graphs in `test_export`."""

import librosa
import numpy as np
import pytest
import torch

from audiocls import functional
from audiocls.frontends import CQT, VQT, Frontend, Harmonic, NoCompression, NoNormalization

SAMPLE_RATE = 16000
SIZES = {"hop_length": 251, "n_bins": 48, "f_min": 130.8}
PLAIN = {"compression": NoCompression, "normalization": NoNormalization}


def sweep() -> np.ndarray:
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    return (0.8 * np.sin(2 * np.pi * 40 / 4.6 * np.expm1(4.6 * time))).astype(np.float32)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("gamma", [0.0, 8.0])
def test_energy_is_librosas(gamma: float, power: float) -> None:
    frontend = VQT(SAMPLE_RATE, gamma=gamma, power=power, **SIZES, **PLAIN)
    reference = librosa.vqt(  # an odd hop: librosa does not resample
        sweep().astype(np.float64), sr=SAMPLE_RATE, hop_length=251, n_bins=48, fmin=130.8, gamma=gamma, sparsity=0
    )
    energy = frontend(torch.from_numpy(sweep())[None, None])[0, 0].numpy()
    expected = np.abs(reference) ** power
    # the transform is within 5e-6 of its peak, hence its power within 1e-5
    np.testing.assert_allclose(energy, expected, rtol=0, atol=1e-5 * expected.max())


def test_gamma_zero_is_constant_q() -> None:
    waveform = torch.from_numpy(sweep())[None, None]
    constant = CQT(SAMPLE_RATE, filter_scale=0.8, norm=2.0, window="hamming", tuning=0.2, power=1.0, **SIZES).eval()
    variable = VQT(
        SAMPLE_RATE, gamma=0.0, filter_scale=0.8, norm=2.0, window="hamming", tuning=0.2, power=1.0, **SIZES
    ).eval()
    assert torch.equal(constant(waveform), variable(waveform))
    assert torch.equal(constant.frequencies, variable.frequencies)
    assert not torch.equal(VQT(SAMPLE_RATE, **SIZES).eval()(waveform), CQT(SAMPLE_RATE, **SIZES).eval()(waveform))


def test_frequencies_are_librosas() -> None:
    expected = librosa.cqt_frequencies(48, fmin=130.8, tuning=0.2)
    np.testing.assert_allclose(CQT(SAMPLE_RATE, tuning=0.2, **SIZES).frequencies, expected, rtol=1e-6)  # float32


@pytest.mark.parametrize(("hop_length", "time", "n_frames"), [(160, 16000, 101), (256, 255, 1), (1148, 16000, 14)])
def test_number_of_frames_is_librosas(hop_length: int, time: int, n_frames: int) -> None:
    frontend = CQT(SAMPLE_RATE, **{**SIZES, "hop_length": hop_length}, **PLAIN)
    assert frontend.n_frames(time) == n_frames == frontend(torch.zeros(1, 1, time)).shape[-1]


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_learnt_wavelets_start_as_the_fixed_ones(power: float) -> None:
    fixed = CQT(SAMPLE_RATE, power=power, **SIZES).eval()
    learnt = CQT(SAMPLE_RATE, power=power, learnable=True, **SIZES).eval()
    waveform = torch.from_numpy(sweep())[None, None]
    assert torch.equal(learnt(waveform), fixed(waveform))
    banks = learnt.filterbanks()
    assert torch.equal(banks["start"], banks["now"])


def test_a_learnt_wavelet_is_what_it_is_over_time() -> None:
    """A change by one sample adds that sample of the waveform, delayed, to one bin."""
    frontend = CQT(SAMPLE_RATE, hop_length=250, n_bins=12, f_min=3500.0, learnable=True, **PLAIN)
    (bank,) = frontend.wavelets.bands
    waveform = torch.from_numpy(sweep())[None]
    before = functional.cqt(waveform, [bank()])
    with torch.no_grad():
        bank.change[3, bank.reach - 1 + 7, 0] = 1.0  # 7 samples after time 0
    change = functional.cqt(waveform, [bank()]) - before
    assert change[:, [*range(3), *range(4, 12)]].abs().max() == 0
    delayed = torch.nn.functional.pad(waveform, (7, 0))[:, ::250][:, : change.shape[-1]]
    # a single sample has all frequencies, of which a fixed wavelet this high needs most: 1 % may be cut off
    torch.testing.assert_close(change[:, 3].real, bank.peak[3] * delayed, rtol=0, atol=0.01 * float(bank.peak[3]))


def test_filterbanks_peak_at_the_centres() -> None:
    frontend = CQT(SAMPLE_RATE, **SIZES)
    bank = frontend.filterbanks()["start"]
    assert bank.shape == (48, 1025)
    points = bank.argmax(dim=1) * (SAMPLE_RATE / 2 / 1025) + SAMPLE_RATE / 4 / 1025
    assert ((points - frontend.frequencies).abs() <= SAMPLE_RATE / 2 / 1025).all()


def test_harmonics_are_transforms_of_their_own() -> None:
    waveform = torch.stack([torch.from_numpy(sweep()), torch.from_numpy(sweep()).flip(0)])[None]
    stack = Harmonic(SAMPLE_RATE, harmonics=(0.5, 1, 2, 3), hop_length=250, n_bins=36, f_min=130.8, **PLAIN)
    spectrogram = stack(waveform)
    assert spectrogram.shape == (1, 8, 36, 65)
    for index, harmonic in enumerate((0.5, 1, 2, 3)):
        alone = CQT(SAMPLE_RATE, hop_length=250, n_bins=36, f_min=harmonic * 130.8, **PLAIN)
        # the channels of the first waveform come first
        assert torch.equal(spectrogram[:, [index, 4 + index]], alone(waveform))
    assert torch.equal(stack.frequencies, CQT(SAMPLE_RATE, n_bins=36, f_min=130.8).frequencies)
    assert stack.filterbanks()["now"].shape == (4 * 36, 1025)


def test_harmonics_of_a_note_meet_in_one_bin() -> None:
    time = torch.arange(16000) / SAMPLE_RATE
    note = torch.stack([torch.sin(2 * torch.pi * 220 * h * time) / h for h in (1, 2, 3)]).sum(dim=0)
    frontend = Harmonic(SAMPLE_RATE, harmonics=(1, 2, 3), n_bins=24, f_min=130.8, **PLAIN)
    common = frontend(note[None, None])[0, :, :, 10:-10].mean(dim=-1).prod(dim=0)
    assert common.argmax() == (frontend.frequencies - 220).abs().argmin()


def test_wavelets_out_of_tune_find_those_that_the_target_was_made_with() -> None:
    sizes = {"hop_length": 32, "n_bins": 12, "f_min": 3300.0, **PLAIN}
    goal, frontend = CQT(SAMPLE_RATE, tuning=0.5, **sizes), CQT(SAMPLE_RATE, learnable=True, **sizes)
    generator = torch.Generator().manual_seed(0)
    unseen = torch.randn(8, 1, 4000, generator=generator)

    def distance(waveform: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.mse_loss((frontend(waveform) + 1e-3).log(), (goal(waveform) + 1e-3).log())

    far = distance(unseen).item()
    optimizer = torch.optim.Adam(frontend.parameters(), lr=0.01)
    for _ in range(80):
        optimizer.zero_grad()
        distance(torch.randn(8, 1, 4000, generator=generator)).backward()
        optimizer.step()
    assert distance(unseen).item() < 0.05 * far


@pytest.mark.slow
@pytest.mark.parametrize(
    "build",
    [
        lambda: CQT(SAMPLE_RATE, n_bins=24, f_min=880.0, hop_length=160),
        lambda: VQT(SAMPLE_RATE, n_bins=24, f_min=880.0, hop_length=160, learnable=True, power=1.0),
        lambda: Harmonic(SAMPLE_RATE, n_bins=12, f_min=880.0, hop_length=160, harmonics=(1, 2)),
    ],
    ids=["cqt", "vqt, learnt", "harmonic"],
)
@pytest.mark.filterwarnings("ignore:Torchinductor does not support code generation for complex operators")
def test_compiled_graph_gives_the_same_numbers(build: type[Frontend]) -> None:
    frontend = build().eval()
    waveform = torch.randn(2, 1, 4000)
    torch.compiler.reset()  # in one process torch compiles the same lines for eight front-ends
    compiled = torch.compile(frontend, fullgraph=True)
    torch.testing.assert_close(compiled(waveform), frontend(waveform), rtol=0, atol=1e-4)  # fused float32


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: CQT(SAMPLE_RATE, power=3.0), r"power must be 2.0 \(power\) or 1.0 \(magnitude\), got 3.0"),
        (lambda: CQT(SAMPLE_RATE, pad_mode="circular"), "pad_mode must be 'constant' or 'reflect', got 'circular'"),
        (
            lambda: CQT(8000, n_bins=84),
            "sample_rate / 2 = 4000.0 Hz: use n_bins of at most 83 or f_min of at most 31.7",
        ),
        (lambda: CQT(SAMPLE_RATE, hop_length=0), "hop_length must be at least 1 sample, got 0"),
        (lambda: VQT(SAMPLE_RATE, gamma=-1.0), "gamma must be at least 0 Hz"),
        (lambda: CQT(SAMPLE_RATE, window="hannn"), "window must be a name that scipy.signal.get_window takes"),
        (lambda: Harmonic(SAMPLE_RATE, harmonics=()), r"harmonics must be positive numbers, at least one, got \[\]"),
        (lambda: Harmonic(SAMPLE_RATE, harmonics=(1, -2)), r"harmonics must be positive numbers, .*, got \[1, -2\]"),
        (
            lambda: Harmonic(SAMPLE_RATE, harmonics=(8, 9)),
            "sample_rate / 2 = 8000.0 Hz: use n_bins of at most 57 or f_min of at most 28.2",
        ),
    ],
)
def test_settings_are_checked(build: type[Frontend], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()

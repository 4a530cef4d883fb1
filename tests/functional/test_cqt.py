"""The constant-Q and variable-Q transforms against librosa and against its wavelets at the full sample rate.

Tolerance: 5e-6 of the transform's peak. Half of it is what the cut of responses below 2^-21 of their peak leaves out,
the rest float32; half-integer lengths, a window off by one sample or integer lengths as of nnAudio cost 1e-2 and more.
nnAudio's sweeps (55 Hz on, 24 bins an octave, 44.1 kHz) and its values of gamma are among the cases.
"""

import itertools
import math

import librosa
import numpy as np
import pytest
import torch

from audiocls import functional

TOLERANCE = 5e-6


def signals(sample_rate: int, seconds: float = 1.0) -> np.ndarray:
    """Noise, a logarithmic and a linear sweep, and a tone: (4, time), float32."""
    time = np.arange(int(seconds * sample_rate)) / sample_rate
    rate = math.log(sample_rate / 2.2 / 30) / seconds
    return np.stack(
        [
            np.random.default_rng(0).normal(0, 0.1, len(time)),
            0.9 * np.sin(2 * np.pi * 30 / rate * np.expm1(rate * time)),
            0.9 * np.sin(np.pi * sample_rate / 2.2 / seconds * time**2),
            0.9 * np.sin(2 * np.pi * 440 * time),
        ]
    ).astype(np.float32)


def full_rate(
    waveform: np.ndarray,
    *,
    sample_rate: int,
    hop_length: int,
    n_bins: int,
    f_min: float,
    bins_per_octave: int,
    **settings,
) -> np.ndarray:
    """librosa.vqt as it would be without resampling and sparsity: its wavelets, octave by octave, on its stft."""
    pad_mode = settings.pop("pad_mode", "constant")
    norm = settings.pop("norm", 1)
    frequencies = librosa.cqt_frequencies(n_bins, fmin=f_min, bins_per_octave=bins_per_octave)
    settings = {"sr": sample_rate, "gamma": 0, **settings}
    settings["alpha"] = (2 ** (2 / bins_per_octave) - 1) / (2 ** (2 / bins_per_octave) + 1)
    octaves = []
    for top in range(n_bins, 0, -bins_per_octave):
        basis, lengths = librosa.filters.wavelet(
            freqs=frequencies[max(top - bins_per_octave, 0) : top], norm=norm, dtype=np.complex128, **settings
        )
        n_fft = basis.shape[1]
        heard = np.fft.fft(basis)[:, : n_fft // 2 + 1] * np.sqrt(lengths)[:, None] / n_fft
        spectrum = librosa.stft(
            waveform.astype(np.float64), n_fft=n_fft, hop_length=hop_length, window="ones", pad_mode=pad_mode
        )
        octaves.insert(0, heard @ spectrum)
    return np.concatenate(octaves, axis=-2)


def ours(waveform: np.ndarray, *, pad_mode: str = "constant", **settings) -> np.ndarray:
    return functional.cqt(torch.from_numpy(waveform), functional.cqt_bands(**settings), pad_mode=pad_mode).numpy()


def assert_near(spectrum: np.ndarray, reference: np.ndarray, tolerance: float = TOLERANCE) -> None:
    assert spectrum.shape == reference.shape
    peak = np.abs(reference).max(axis=(-2, -1), keepdims=True)
    assert (np.abs(spectrum - reference) / peak).max() <= tolerance


@pytest.mark.filterwarnings("ignore:n_fft=.* is too large for input signal")  # librosa's, of the lowest octaves
@pytest.mark.parametrize(
    ("sample_rate", "hop_length", "n_bins", "bins_per_octave", "f_min"),
    [
        (16000, 160, 72, 12, 65.4),
        (16000, 1148, 96, 24, 220.0),
        (22050, 512, 96, 12, 32.7),
        (22050, 256, 150, 36, 130.8),
        (22050, 441, 41, 12, 100.0),
        (44100, 512, 207, 24, 55.0),
        (44100, 441, 80, 24, 220.0),
    ],
)
def test_cqt_equals_librosas_wavelets_at_the_full_rate(
    sample_rate: int, hop_length: int, n_bins: int, bins_per_octave: int, f_min: float
) -> None:
    settings = {
        "sample_rate": sample_rate,
        "hop_length": hop_length,
        "n_bins": n_bins,
        "bins_per_octave": bins_per_octave,
        "f_min": f_min,
    }
    waveform = signals(sample_rate, 0.3)
    assert_near(ours(waveform, **settings), full_rate(waveform, **settings))


SMALL = {"sample_rate": 16000, "hop_length": 250, "n_bins": 40, "bins_per_octave": 12, "f_min": 200.0}


@pytest.mark.parametrize(
    "setting",
    [
        {"gamma": 2.0},
        {"gamma": 5.0},
        {"gamma": None},
        {"filter_scale": 0.5},
        {"filter_scale": 1.7},
        {"norm": 2.0},
        {"norm": math.inf},
        {"norm": None},
        {"window": "hamming"},
        {"window": "boxcar"},
        {"pad_mode": "reflect"},
    ],
    ids=str,
)
def test_each_setting_equals_librosas(setting: dict) -> None:
    waveform = signals(16000, 0.25)
    assert_near(ours(waveform, **SMALL, **setting), full_rate(waveform, **SMALL, **setting))


@pytest.mark.parametrize("gamma", [0.0, 10.0])
def test_vqt_equals_librosa_where_it_does_not_resample(gamma: float) -> None:
    waveform = signals(16000)
    reference = librosa.vqt(  # an odd hop cannot be halved
        waveform.astype(np.float64), sr=16000, hop_length=251, fmin=65.4, n_bins=60, gamma=gamma, sparsity=0, tuning=0.3
    )
    spectrum = ours(waveform, sample_rate=16000, hop_length=251, f_min=65.4, n_bins=60, gamma=gamma, tuning=0.3)
    assert_near(spectrum, reference)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 5.0, 10.0])
def test_vqt_is_a_thousand_times_nearer_the_full_rate_than_librosa(gamma: float) -> None:
    settings = {"hop_length": 512, "n_bins": 84, "bins_per_octave": 12, "gamma": gamma}
    waveform = 0.5 * signals(22050, 0.5)
    exact = full_rate(waveform, sample_rate=22050, f_min=32.7, **settings)
    spectrum = ours(waveform, sample_rate=22050, f_min=32.7, **settings)
    resampled = librosa.vqt(waveform.astype(np.float64), sr=22050, fmin=32.7, **settings)
    assert 1000 * np.abs(spectrum - exact).max() < np.abs(resampled - exact).max()
    # nnAudio's tolerance for the same comparison; what is left is librosa's: its resampler, the 1 % that
    # it drops, and wavelets of a whole number of samples at a low rate.
    np.testing.assert_allclose(np.abs(spectrum), np.abs(resampled), rtol=1e-3, atol=0.8)


@pytest.mark.parametrize("time", [32000, 32001])
def test_at_a_mirrored_end_librosa_is_off_and_we_are_not(time: int) -> None:
    """librosa mirrors each octave after lowering its rate, about the last sample that is left there.

    Of 1 + 125 * 2^8 samples it is the clip's last in every octave, of one fewer up to 2^5 - 1 samples before it, half a
    turn and more of the wavelets there.
    """
    settings = {"sample_rate": 16000, "hop_length": 256, "n_bins": 72, "bins_per_octave": 12, "f_min": 65.4}
    noise = np.random.default_rng(0).normal(0, 0.1, time).astype(np.float32)
    exact = full_rate(noise, **settings, pad_mode="reflect")
    assert_near(ours(noise, **settings, pad_mode="reflect"), exact)
    resampled = librosa.cqt(
        noise.astype(np.float64), sr=16000, hop_length=256, n_bins=72, fmin=65.4, pad_mode="reflect"
    )
    off = np.abs(resampled - exact).max(axis=0) / np.abs(exact).max()
    assert off[:-25].max() < 0.05  # its resampler, as far as the wavelets reach from the end
    assert (off[-25:].max() > 0.5) == (time == 32000)


@pytest.mark.parametrize(
    "setting", [{}, {"hop_length": 251, "gamma": 10.0}, {"n_bins": 80, "f_min": 65.4}, {"filter_scale": 0.5}], ids=str
)
def test_blocks_equal_the_convolution_that_they_stand_for(setting: dict) -> None:
    bands = functional.cqt_bands(**{**SMALL, **setting})
    wavelets = [functional.band_wavelets(band) for band in bands]
    for time, pad_mode in itertools.product((1, 255, 8000), ("constant", "reflect")):
        waveform = torch.randn(3, time, dtype=torch.float64)
        parts = functional.cqt_by_convolution(waveform, wavelets, hop_length=bands[0].hop_length, pad_mode=pad_mode)
        spectrum = functional.cqt(waveform, bands, pad_mode=pad_mode)
        # float64: all that differs is what the cut of the responses leaves on the other side of the block; as below, of
        # a tone that reaches 15, since a repeated sample is nearly silent
        convolved = torch.view_as_complex(parts.contiguous()).numpy()
        np.testing.assert_allclose(convolved, spectrum.numpy(), rtol=0, atol=15 * TOLERANCE)


def test_wavelets_are_those_that_the_responses_were_made_of() -> None:
    for band in functional.cqt_bands(**{**SMALL, "n_bins": 80, "f_min": 65.4}):
        wavelets = functional.band_wavelets(band)
        middle = wavelets.norm(dim=-1).argmax(dim=1) - (band.reach - 1)
        assert (middle.abs() <= 1).all()  # a length between integers leaves half a sample more on one side
        again = functional.band_response(torch.view_as_complex(wavelets.contiguous()), band)
        # but for what falls outside of the longest frame, which is what the cut left out
        torch.testing.assert_close(again, band.response, rtol=0, atol=1e-6 * float(band.response.abs().max()))


def test_float64_stays_float64() -> None:
    waveform = torch.from_numpy(signals(16000, 0.3)).double()
    bands = functional.cqt_bands(**SMALL)
    double, single = functional.cqt(waveform, bands), functional.cqt(waveform.float(), bands)
    assert double.dtype == torch.complex128
    assert_near(single.numpy(), double.numpy(), 1e-6)  # float32 transforms of some thousand points


@pytest.mark.parametrize("gamma", [0.0, 20.0])
def test_tones_peak_in_their_bins(gamma: float) -> None:
    frequencies = functional.cqt_frequencies(40, f_min=200.0)
    time = torch.arange(16000, dtype=torch.float64) / 16000
    tones = torch.sin(2 * torch.pi * frequencies[:, None] * time)
    spectrum = functional.cqt(tones, functional.cqt_bands(**SMALL, gamma=gamma)).abs()
    assert torch.equal(spectrum[..., 8:-8].argmax(dim=1), torch.arange(40)[:, None].expand(-1, 49))


def test_shapes_batches_and_short_clips() -> None:
    bands = functional.cqt_bands(**SMALL)
    waveform = torch.randn(2, 3, 3001)
    spectrum = functional.cqt(waveform, bands)
    assert spectrum.shape == (2, 3, 40, 13)
    # a matrix product of another size sums in another order
    torch.testing.assert_close(functional.cqt(waveform[1, 2], bands), spectrum[1, 2], rtol=0, atol=1e-5)


@pytest.mark.parametrize("pad_mode", ["constant", "reflect"])
@pytest.mark.parametrize("time", [1, 2, 249, 250])
def test_clip_shorter_than_a_wavelet(time: int, pad_mode: str) -> None:
    clip = torch.randn(time)
    spectrum = functional.cqt(clip, functional.cqt_bands(**SMALL), pad_mode=pad_mode).numpy()
    reference = full_rate(np.pad(clip.numpy(), 4000, mode=pad_mode), **SMALL)[:, 16 : 17 + time // 250]
    # a tone of amplitude 1 reaches 15: the tolerance of all, not relative, since a repeated sample is nearly silent
    np.testing.assert_allclose(spectrum, reference, rtol=0, atol=15 * TOLERANCE)


def test_delay_by_one_hop_shifts_one_frame() -> None:
    waveform = torch.from_numpy(signals(16000, 1.5))
    bands = functional.cqt_bands(**SMALL)
    spectrum = functional.cqt(waveform, bands)
    delayed = functional.cqt(torch.nn.functional.pad(waveform, (250, 0)), bands)
    # frames change their place in a block: what is cut from the responses goes around it
    assert_near(delayed[..., 1:].numpy(), spectrum.numpy(), 2e-6)


def test_responses_are_smaller_than_frames() -> None:
    bands = functional.cqt_bands(sample_rate=22050, hop_length=512)
    frame = 2 ** math.ceil(math.log2(max(2 * band.reach for band in bands)))
    assert sum(band.response.numel() for band in bands) < 84 * frame  # half of its real and imaginary parts


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"hop_length": 0}, "hop_length must be at least 1 sample, got 0"),
        ({"n_bins": 0}, "n_bins must be at least 1, got 0"),
        ({"bins_per_octave": 0}, "bins_per_octave must be at least 1, got 0"),
        ({"f_min": 0.0}, "f_min must be positive, got 0.0 Hz"),
        ({"filter_scale": 0.0}, "filter_scale must be positive, got 0.0"),
        ({"gamma": -1.0}, "gamma must be at least 0 Hz, or None"),
        ({"n_bins": 70}, r"sample_rate / 2 = 8000.0 Hz: use n_bins of at most 64 or f_min of at most 142.485 Hz"),
        ({"n_bins": 70, "tuning": 0.5}, "use n_bins of at most 63 or f_min of at most 138.428 Hz"),
        ({"f_min": 9000.0, "n_bins": 1}, "use f_min of at most 7668.17 Hz"),
        ({"gamma": 1e5}, "use a smaller gamma"),
    ],
)
def test_settings_are_checked(setting: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.cqt_bands(**{**SMALL, **setting})


def test_what_the_refusal_proposes_is_accepted() -> None:
    assert len(functional.cqt_bands(**{**SMALL, "n_bins": 64})) > 0
    assert len(functional.cqt_bands(**{**SMALL, "n_bins": 70, "f_min": 142.485})) > 0
    assert len(functional.cqt_bands(**{**SMALL, "n_bins": 70, "f_min": 138.428, "tuning": 0.5})) > 0


def test_waveform_is_checked() -> None:
    bands = functional.cqt_bands(**SMALL)
    with pytest.raises(ValueError, match="waveform must hold at least 1 sample, got 0"):
        functional.cqt(torch.zeros(2, 0), bands)
    with pytest.raises(ValueError, match="pad_mode must be 'constant' or 'reflect', got 'circular'"):
        functional.cqt(torch.zeros(2, 100), bands, pad_mode="circular")

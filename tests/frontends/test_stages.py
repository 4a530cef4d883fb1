"""Filterbank, compression and normalisation by themselves."""

from collections.abc import Callable

import pytest
import torch

from audiocls.frontends import (
    BatchNormBins,
    Decibel,
    Filterbank,
    Log,
    Log1p,
    NoCompression,
    NoNormalization,
    Spectrum,
)
from audiocls.functional import mel_filterbank


def test_filterbank_is_a_matrix_product_over_frequency() -> None:
    weight = mel_filterbank(sample_rate=16000, n_fft=512, n_mels=40)
    power = torch.rand(2, 3, 257, 7)
    expected = torch.einsum("mf,bcft->bcmt", weight.double(), power.double())
    # float32 sums of 257 positive terms
    torch.testing.assert_close(Filterbank(weight)(power).double(), expected, rtol=1e-5, atol=1e-7)


def test_weights_stay_non_negative_after_large_steps_and_can_come_back() -> None:
    start = mel_filterbank(sample_rate=16000, n_fft=512, n_mels=40)
    filterbank = Filterbank(start, learnable=True)
    power = torch.rand(2, 1, 257, 7)
    optimizer = torch.optim.SGD(filterbank.parameters(), lr=1e4)  # past zero for the widest filter, too
    filterbank(power).sum().backward()
    optimizer.step()
    assert (filterbank.weight == 0).all()
    assert (filterbank(power) == 0).all()
    for _ in range(3):
        optimizer.zero_grad()
        (-filterbank(power)).sum().backward()
        optimizer.step()
    assert (filterbank.weight > 0).all()


def test_gradient_pushes_no_weight_below_zero_and_lifts_those_that_are_there() -> None:
    filterbank = Filterbank(torch.tensor([[0.0, 0.5, 0.0, 0.5]]), learnable=True)
    assert filterbank.relative_weight is not None
    (filterbank.weight * torch.tensor([1.0, 1.0, -1.0, -1.0])).sum().backward()
    # the scale of a filter whose peak is 0.5 is 1; only the push down on the first weight, a zero, is dropped
    assert filterbank.relative_weight.grad is not None
    assert filterbank.relative_weight.grad.tolist() == [[0.0, 1.0, -1.0, -1.0]]


def test_gradients_of_single_clips_by_vmap() -> None:
    filterbank = Filterbank(torch.rand(3, 4), learnable=True)
    power = torch.rand(5, 1, 4, 2)

    def loss(parameters: dict[str, torch.Tensor], clip: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(filterbank, parameters, (clip,)).square().sum()

    parameters = dict(filterbank.named_parameters())
    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, power)["relative_weight"]
    for clip, gradient in zip(power, gradients, strict=True):
        expected = torch.func.grad(loss)(parameters, clip)["relative_weight"]
        torch.testing.assert_close(gradient, expected)


def test_empty_filter_can_be_learnt() -> None:
    filterbank = Filterbank(torch.zeros(1, 4), learnable=True)
    assert torch.equal(filterbank.weight, torch.zeros(1, 4))
    (-filterbank(torch.ones(1, 1, 4, 1))).sum().backward()
    assert filterbank.relative_weight is not None
    assert filterbank.relative_weight.grad is not None
    assert (filterbank.relative_weight.grad < 0).all()


def test_training_finds_a_filterbank() -> None:
    torch.manual_seed(0)
    slaney, htk = (
        mel_filterbank(sample_rate=16000, n_fft=64, n_mels=8, norm=None, mel_scale=scale) for scale in ("slaney", "htk")
    )
    target, learnt = Filterbank(slaney), Filterbank(htk, learnable=True)
    power = torch.rand(64, 1, 33, 4)
    optimizer = torch.optim.Adam(learnt.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        loss = torch.nn.functional.mse_loss(learnt(power), target(power))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 1e-2 * losses[0]
    assert (learnt.weight >= 0).all()


@pytest.mark.parametrize("weight", [torch.tensor([[1.0, -1.0]]), torch.ones(3)], ids=["negative", "vector"])
def test_filterbank_refuses(weight: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"weight must be a non-negative matrix \(n_bins, n_freqs\), got shape"):
        Filterbank(weight)


@pytest.mark.parametrize(("kind", "name", "start"), [(Log, "offset", 3e-7), (Log1p, "gain", 1.7e4)])
def test_learnt_compression_starts_as_the_fixed_one_and_stays_positive(kind: type, name: str, start: float) -> None:
    fixed, learnt = kind(5, **{name: start}), kind(5, **{name: start}, learnable=True)
    energy = torch.rand(2, 1, 5, 7)
    assert torch.equal(fixed(energy), learnt(energy))
    assert list(fixed.parameters()) == []
    (parameter,) = learnt.parameters()
    assert parameter.shape == (5,)
    with torch.no_grad():
        parameter -= 30.0
    value = getattr(learnt, name)()
    assert (value > 0).all()
    assert not torch.equal(fixed(energy), learnt(energy))


def test_identities() -> None:
    energy = torch.rand(2, 1, 5, 7)
    assert NoCompression(5)(energy) is energy
    assert NoNormalization(5)(energy) is energy


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Log(4, offset=0.0), "offset must be positive, got 0.0"),
        (lambda: Log1p(4, gain=-1.0), "gain must be positive, got -1.0"),
        (lambda: Decibel(4, amin=0.0), "amin must be positive, got 0.0"),
        (lambda: Decibel(4, top_db=-1.0), "top_db must be at least 0 dB or None, got -1.0"),
        (lambda: BatchNormBins(4, momentum=0.0), r"momentum must be in \(0, 1\], got 0.0"),
        (lambda: Spectrum(n_fft=512, hop_length=513), "hop_length must be between 1 and n_fft=512 samples, got 513"),
    ],
)
def test_stages_refuse(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_batch_norm_gives_each_bin_mean_zero_and_variance_one_over_channels_too() -> None:
    scale = torch.tensor([1e-2, 1.0, 1e2]).reshape(1, 1, 3, 1)
    spectrogram = 5 + scale * torch.randn(8, 2, 3, 50)
    normal = BatchNormBins(3, eps=1e-9)(spectrogram)
    torch.testing.assert_close(normal.mean(dim=(0, 1, 3)), torch.zeros(3), rtol=0, atol=1e-4)  # mean 5 of width 0.01
    torch.testing.assert_close(normal.var(dim=(0, 1, 3), correction=0), torch.ones(3), rtol=1e-3, atol=0)


def test_batch_norm_in_evaluation_does_not_look_at_the_batch() -> None:
    normalization = BatchNormBins(3, momentum=1.0)
    normalization(torch.randn(8, 1, 3, 50))
    normalization.eval()
    spectrogram = torch.randn(4, 1, 3, 50)
    assert torch.equal(normalization(spectrogram)[:1], normalization(spectrogram[:1]))


def test_batch_norm_without_gain_and_shift_learns_nothing() -> None:
    assert list(BatchNormBins(3, learnable=False).parameters()) == []

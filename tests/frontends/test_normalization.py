"""Normalisations by themselves: what their mean and variance are of, and that a clip stands for itself."""

from collections.abc import Callable

import pytest
import torch

from audiocls.frontends import BatchNormMap, ClipNorm, FixedNorm, MelSpectrogram


def test_batch_norm_of_the_map_gives_mean_zero_and_variance_one_over_everything() -> None:
    spectrogram = 5 + torch.tensor([0.1, 1.0, 10.0]).reshape(3, 1) * torch.randn(8, 2, 3, 50)
    normalization = BatchNormMap(3)
    normal = normalization(spectrogram)
    torch.testing.assert_close(normal.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(normal.var(correction=0), torch.tensor(1.0), rtol=1e-4, atol=0)
    deviation = (spectrogram - spectrogram.mean()) / spectrogram.std(correction=0)
    torch.testing.assert_close(normal, deviation, rtol=1e-4, atol=1e-5)  # eps=1e-5 beside a variance of 30
    assert [parameter.shape for parameter in normalization.parameters()] == [(1,), (1,)]


def test_batch_norm_of_the_map_in_evaluation_does_not_look_at_the_batch() -> None:
    normalization = BatchNormMap(3, momentum=1.0, learnable=False)
    normalization(torch.randn(8, 1, 3, 50))
    normalization.eval()
    spectrogram = torch.randn(4, 2, 3, 50)
    assert torch.equal(normalization(spectrogram)[:1], normalization(spectrogram[:1]))
    assert list(normalization.parameters()) == []


@pytest.mark.parametrize("per_bin", [False, True])
def test_clip_norm_is_of_each_clip_whatever_its_batch_length_and_level(per_bin: bool) -> None:
    normalization = ClipNorm(5, per_bin=per_bin, eps=1e-9)
    spectrogram = 3 + torch.randn(4, 2, 5, 40) * torch.tensor([0.1, 1.0, 3.0, 10.0]).reshape(4, 1, 1, 1)
    normal = normalization(spectrogram)
    dims = (1, 3) if per_bin else (1, 2, 3)
    torch.testing.assert_close(normal.mean(dim=dims), torch.zeros_like(normal.mean(dim=dims)), rtol=0, atol=1e-4)
    torch.testing.assert_close(normal.var(dim=dims, correction=0), torch.ones_like(normal.mean(dim=dims)))
    torch.testing.assert_close(normalization(spectrogram[2:3]), normal[2:3])
    twice = normalization(torch.cat((spectrogram, spectrogram), dim=-1))
    torch.testing.assert_close(twice, torch.cat((normal, normal), dim=-1), rtol=0, atol=1e-5)  # longer sums
    torch.testing.assert_close(normalization(7 * spectrogram - 3), normal, rtol=0, atol=1e-4)  # eps, level 20
    torch.testing.assert_close(ClipNorm(5, per_bin=per_bin, scale=False)(spectrogram).mean(dim=dims), normal.mean(dims),
                               rtol=0, atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("per_bin", [False, True])
@pytest.mark.parametrize("shape", [(2, 1, 5, 1), (2, 1, 5, 9)])
def test_clip_norm_of_silence_and_of_one_frame_is_finite(shape: tuple[int, ...], per_bin: bool) -> None:
    silence = torch.full(shape, -13.8, requires_grad=True)
    normal = ClipNorm(5, per_bin=per_bin)(silence)
    # the mean of equal float32 numbers may be off in the last place, and eps=1e-5 makes that 316 times as large
    assert normal.abs().max() < 1e-3
    (normal**2).sum().backward()
    assert silence.grad is not None
    assert silence.grad.isfinite().all()


def test_clip_norm_in_a_frontend_makes_the_level_of_a_clip_vanish() -> None:
    frontend = MelSpectrogram(16000, n_mels=40, normalization=lambda n_bins: ClipNorm(n_bins, per_bin=True))
    waveform = torch.randn(1, 1, 8000)
    # the floor of Log, 1e-6, beside energies of about 1
    torch.testing.assert_close(frontend(waveform), frontend(waveform / 4), rtol=0, atol=1e-3)


def test_fixed_norm_is_what_it_is_told() -> None:
    spectrogram = torch.randn(2, 3, 4, 5)
    mean, std = [1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 2.0, 4.0]
    ours = FixedNorm(4, mean=mean, std=std)(spectrogram)
    for k in range(4):
        torch.testing.assert_close(ours[:, :, k], (spectrogram[:, :, k] - mean[k]) / std[k])
    one = FixedNorm(4, mean=-4.2677393, std=4.5689974 * 2)
    torch.testing.assert_close(one(spectrogram), (spectrogram + 4.2677393) / (4.5689974 * 2))
    assert one.state_dict() == {}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BatchNormMap(4, momentum=0.0), r"momentum must be in \(0, 1\], got 0.0"),
        (lambda: ClipNorm(4, eps=0.0), "eps must be positive, got 0.0: silence has no variance"),
        (lambda: FixedNorm(4, mean=0.0, std=0.0), "std must be positive, got 0.0"),
        (lambda: FixedNorm(4, mean=[0.0, 1.0], std=1.0), "mean must be one finite number or one .* n_bins=4, got"),
        (lambda: FixedNorm(4, mean=float("nan"), std=1.0), "mean must be one finite number .* got nan"),
    ],
)
def test_normalizations_refuse(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()

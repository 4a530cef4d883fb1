"""PCEN and its moving average, against librosa and scipy."""

import librosa
import numpy as np
import pytest
import scipy.signal
import torch
from torch import Tensor

from audiocls import functional

SMOOTH = [1e-3, 0.025, 0.5, 1.0]


def energies(*shape: int) -> Tensor:
    """Positive numbers over twelve decades, with a gap."""
    energy = torch.rand(shape) ** 4 * torch.logspace(-6, 2, shape[-2]).unsqueeze(-1)
    energy[..., shape[-1] // 3 : shape[-1] // 2] *= 1e-6
    return energy


@pytest.mark.parametrize("smooth", SMOOTH)
@pytest.mark.parametrize("frames", [1, 5, 32, 33, 401, 1025, 60_001])  # within, at and past the blocks; ten minutes
def test_equals_librosa(frames: int, smooth: float) -> None:
    energy = energies(1, 3, frames)
    expected = librosa.pcen(energy[0].double().numpy(), b=smooth, gain=0.98, bias=2.0, power=0.5, eps=1e-6)
    ours = functional.pcen(energy, smooth=smooth, initial=1.0)[0].numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-5)  # float32 through two logarithms and two exponentials


@pytest.mark.parametrize("smooth", SMOOTH)
def test_average_equals_scipy_from_the_first_frame_on(smooth: float) -> None:
    energy = energies(2, 3, 401)
    start = (1 - smooth) * energy[..., :1].double().numpy()
    expected, _ = scipy.signal.lfilter([smooth], [1, smooth - 1], energy.double().numpy(), zi=start)
    # positive float32 sums; on a silence, of the average before it
    np.testing.assert_allclose(functional.moving_average(energy, smooth).numpy(), expected, rtol=2e-6)


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_average_is_the_same_however_it_is_cut(levels: int) -> None:
    energy, smooth = energies(2, 4, 2100), torch.tensor([0.001, 0.02, 0.5, 1.0])
    expected = functional.moving_average(energy.double(), smooth, levels=0)
    ours = functional.moving_average(energy, smooth, levels=levels)
    torch.testing.assert_close(ours.double(), expected, rtol=5e-6, atol=0)  # float32 sums of up to 2100


def test_each_bin_has_its_own_numbers() -> None:
    energy = energies(2, 3, 50)
    numbers = {"smooth": [0.01, 0.1, 0.9], "alpha": [0.5, 0.9, 1.1], "delta": [0.5, 2.0, 9.0], "r": [0.1, 0.5, 1.0]}
    together = functional.pcen(energy, **{name: torch.tensor(values) for name, values in numbers.items()})
    for i in range(3):
        alone = functional.pcen(energy[:, i : i + 1], **{name: values[i] for name, values in numbers.items()})
        torch.testing.assert_close(together[:, i : i + 1], alone, rtol=1e-5, atol=0)  # one has its numbers in float64


@pytest.mark.parametrize("cut", [1, 40, 99])
def test_a_stream_in_two_parts_equals_the_whole(cut: int) -> None:
    energy = energies(2, 1, 3, 100)
    first, state = functional.pcen(energy[..., :cut], return_state=True)
    second = functional.pcen(energy[..., cut:], initial=state)
    torch.testing.assert_close(
        torch.cat([first, second], dim=-1), functional.pcen(energy), rtol=1e-5, atol=0
    )  # as above


def test_derivatives_in_everything() -> None:
    energy = torch.rand(2, 3, 40, dtype=torch.float64) + 0.1
    numbers = [torch.tensor(v, dtype=torch.float64) for v in ([0.05, 0.3, 0.9], [0.98] * 3, [2.0] * 3, [0.5] * 3)]
    inputs = [tensor.requires_grad_() for tensor in (energy, *numbers, torch.rand(2, 3, dtype=torch.float64))]
    assert torch.autograd.gradcheck(
        lambda e, s, a, d, r, i: functional.pcen(e, smooth=s, alpha=a, delta=d, r=r, initial=i), inputs
    )


@pytest.mark.parametrize("r", [0.5, 0.3])
def test_fixed_numbers_leave_the_energies_as_they_are_and_have_derivatives(r: float) -> None:
    energy = torch.rand(2, 3, 40, dtype=torch.float64) + 0.1
    kept = energy.clone()
    assert torch.autograd.gradcheck(lambda e: functional.pcen(e, r=r), energy.requires_grad_())
    assert torch.equal(energy, kept)


def test_gain_is_taken_away() -> None:
    energy = torch.rand(1, 4, 200) + 0.5
    quiet, loud = (functional.pcen(gain * energy, alpha=1.0, eps=1e-12) for gain in (1e-3, 1e3))
    torch.testing.assert_close(quiet, loud, rtol=1e-4, atol=0)  # the floor is 1e-9 of the quiet one


def test_silence_is_zero() -> None:
    assert torch.equal(functional.pcen(torch.zeros(1, 4, 50)), torch.zeros(1, 4, 50))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"smooth": 0.0}, r"smooth must be in \(0, 1\], got 0.0"),
        ({"smooth": 1.5}, r"smooth must be in \(0, 1\], got 1.5"),
        ({"alpha": -1.0}, "alpha must be at least 0, got -1.0"),
        ({"delta": 0.0}, "delta must be positive, got 0.0"),
        ({"r": -0.5}, "r must be positive, got -0.5"),
        ({"eps": 0.0}, "eps must be positive, got 0.0"),
    ],
)
def test_numbers_out_of_range_are_refused(numbers: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.pcen(torch.ones(1, 2, 3), **numbers)

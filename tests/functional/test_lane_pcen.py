"""Gain control in one pass against the products that can be learnt, and on silence."""

import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.frontends import PCEN


def energies(*shape: int) -> Tensor:
    """Positive numbers over twelve decades, with a gap and a silence."""
    energy = torch.rand(shape, generator=torch.Generator().manual_seed(0)) ** 4
    energy = energy * torch.logspace(-6, 2, shape[-2]).unsqueeze(-1)
    energy[..., shape[-1] // 3 : shape[-1] // 2] *= 1e-6
    energy[..., shape[-1] // 2 : shape[-1] // 2 + 2] = 0
    return energy


def assert_equal(ours: Tensor, expected: Tensor) -> None:
    assert ours.shape == expected.shape
    # float32 through two logarithms and exponentials, which are good to 2e-7, times their exponent
    torch.testing.assert_close(ours.double(), expected.double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("smooth", [1e-3, 0.025, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (2, 3, 5), (1, 16, 40), (1, 17, 33), (3, 2, 40, 401)], ids=str)
def test_equals_the_products(shape: tuple[int, ...], smooth: float) -> None:
    energy = energies(*shape)
    assert_equal(functional.lane_pcen(energy, smooth=smooth), functional.pcen(energy.double(), smooth=smooth))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("eps", [1e-30, 1e-6, 1.0])
@pytest.mark.parametrize("delta", [1e-3, 10.0])
def test_every_setting(alpha: float, delta: float, eps: float) -> None:
    energy = energies(2, 20, 50)
    ours = functional.lane_pcen(energy, alpha=alpha, delta=delta, eps=eps)
    assert_equal(ours, functional.pcen(energy.double(), alpha=alpha, delta=delta, eps=eps))


def test_each_bin_has_its_own_numbers() -> None:
    energy = energies(2, 2, 3, 50)
    smooth, alpha, delta = torch.tensor([[0.01, 0.1, 0.9], [0.5, 0.9, 1.1], [0.5, 2.0, 9.0]])
    ours = functional.lane_pcen(energy, smooth=smooth, alpha=alpha, delta=delta)
    assert_equal(ours, functional.pcen(energy.double(), smooth=smooth, alpha=alpha, delta=delta))


def test_a_bin_does_not_depend_on_its_neighbours_or_on_threads() -> None:
    energy = energies(40, 40, 20)
    together = functional.lane_pcen(energy)
    assert torch.equal(together[7:8], functional.lane_pcen(energy[7:8]))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(functional.lane_pcen(energy), together)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("shape", [(2, 1, 40, 33), (4, 2, 64, 100), (1, 1, 5, 9)], ids=str)
def test_in_place_gives_the_same(shape: tuple[int, ...]) -> None:
    energy = energies(*shape)
    expected = functional.lane_pcen(energy)
    ours = functional.lane_pcen(energy, in_place=True)
    assert torch.equal(ours, expected)
    n_rows = energy[..., 0].numel()
    assert (ours.data_ptr() == energy.data_ptr()) == (n_rows % 16 == 0)


def test_silence_nothing_and_nan() -> None:
    assert not functional.lane_pcen(torch.zeros(1, 3, 10)).any()
    assert functional.lane_pcen(torch.zeros(0, 3, 10)).shape == (0, 3, 10)
    energy = energies(2, 20, 30)
    energy[1, 5, 20] = torch.nan
    bad = functional.lane_pcen(energy).isnan()
    assert bad.nonzero().tolist() == [[1, 5, frame] for frame in range(20, 30)]  # the average does not recover


@pytest.mark.parametrize("learnable", [False, True])
def test_the_stage_takes_it_where_it_may_and_gives_the_same(learnable: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(functional, "lane_pcen", lambda energy, **_: taken.append(energy) or energy)
    stage, energy = PCEN(40, learnable=learnable), energies(2, 1, 40, 30)
    stage(energy)
    assert len(taken) == (not learnable)
    stage(energy.clone().requires_grad_())
    PCEN(40, r=0.3)(energy)
    assert len(taken) == (not learnable)

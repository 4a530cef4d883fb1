"""Decibels sixteen at a time against those of torch: floors, references, odd sizes, what is not finite, threads.

Tolerance: 1e-5 dB, where the logarithm of a float32 at 80 dB and its product are off by 7e-6 either way.
"""

import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.frontends import Decibel


def powers(*shape: int) -> Tensor:
    """Numbers over sixteen decades, other in every clip, zeros among them."""
    power = 10 ** (16 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 12)
    power.flatten(start_dim=1)[:, 3::17] = 0
    return power


def assert_equal(ours: Tensor, expected: Tensor) -> None:
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours.double(), expected.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("top_db", [None, 0.0, 80.0])
@pytest.mark.parametrize("shape", [(1, 16), (2, 1, 17), (3, 1, 5, 7), (2, 2, 40, 101)], ids=str)
def test_equals_torch(shape: tuple[int, ...], top_db: float | None) -> None:
    power = powers(*shape)
    expected = torch.cat([functional.power_to_db(clip, top_db=top_db) for clip in power.double().split(1)])
    assert_equal(functional.lane_power_to_db(power, top_db=top_db), expected)


@pytest.mark.parametrize("amin", [1e-30, 1e-10, 10.0])
@pytest.mark.parametrize("ref", [1e-6, 1.0, 1e6])
def test_every_floor_and_reference(ref: float, amin: float) -> None:
    power = powers(2, 1, 8, 8)
    expected = functional.power_to_db(power.double(), ref=ref, amin=amin)
    ours = functional.lane_power_to_db(power, ref=ref, amin=amin)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=4e-5)  # up to 300 dB away from 0


def test_silence_is_the_floor_and_one_is_zero() -> None:
    assert functional.lane_power_to_db(torch.zeros(2, 20)).unique().item() == pytest.approx(-100, abs=1e-5)
    assert not functional.lane_power_to_db(torch.ones(2, 20), top_db=80.0).any()


def test_a_clip_does_not_depend_on_its_neighbours_or_on_threads() -> None:
    power = powers(100, 1, 5, 9)
    together = functional.lane_power_to_db(power, top_db=80.0)
    assert torch.equal(together[7:8], functional.lane_power_to_db(power[7:8], top_db=80.0))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(functional.lane_power_to_db(power, top_db=80.0), together)
    finally:
        torch.set_num_threads(threads)


def test_nan_stays_nan_and_alone() -> None:
    power = powers(2, 1, 8, 8)
    power[1, 0, 2, 3] = torch.nan
    bad = functional.lane_power_to_db(power, top_db=80.0).isnan()
    assert bad.nonzero().tolist() == [[1, 0, 2, 3]]


@pytest.mark.parametrize("shape", [(2, 1, 3, 5), (2, 1, 4, 4)], ids=str)
def test_the_stage_takes_it_where_it_may_and_gives_the_same(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, power = Decibel(shape[-2]), powers(*shape)
    ours = stage(power)
    taken = []
    monkeypatch.setattr(functional, "lane_power_to_db", lambda energy, **_: taken.append(energy) or energy)
    stage(power)
    assert len(taken) == (shape[-1] * shape[-2] >= 16)
    differentiable = stage(power.clone().requires_grad_())
    assert differentiable.grad_fn is not None
    assert_equal(ours, differentiable.detach())

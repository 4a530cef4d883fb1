"""Logarithms sixteen at a time against those of torch: floors, references, odd sizes, what is not finite, threads.

Tolerance: 1e-5 dB, where the logarithm of a float32 at 80 dB and its product are off by 7e-6 either way.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from audiocls import functional
from audiocls.frontends import Compression, Decibel, Log


def powers(*shape: int) -> Tensor:
    """Numbers over sixteen decades, other in every clip, zeros among them."""
    power = 10 ** (16 * torch.rand(shape, generator=torch.Generator().manual_seed(0)) - 12)
    power.flatten(start_dim=1)[:, 3::17] = 0
    return power


def decibels(power: Tensor, **settings: Any) -> Tensor:
    return functional.lane_logarithm(power, functional.decibel(**settings))


def assert_equal(ours: Tensor, expected: Tensor) -> None:
    assert ours.shape == expected.shape
    torch.testing.assert_close(ours.double(), expected.double(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("top_db", [None, 0.0, 80.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1, 3, 5), (1, 16), (2, 1, 17), (3, 1, 5, 7), (2, 2, 40, 101)], ids=str)
def test_equals_torch(shape: tuple[int, ...], top_db: float | None) -> None:
    power = powers(*shape)
    expected = torch.cat([functional.power_to_db(clip, top_db=top_db) for clip in power.double().split(1)])
    assert_equal(decibels(power, top_db=top_db), expected)


@pytest.mark.parametrize("amin", [1e-30, 1e-10, 10.0])
@pytest.mark.parametrize("ref", [1e-6, 1.0, 1e6])
def test_every_floor_and_reference(ref: float, amin: float) -> None:
    power = powers(2, 1, 8, 8)
    expected = functional.power_to_db(power.double(), ref=ref, amin=amin)
    ours = decibels(power, ref=ref, amin=amin)
    torch.testing.assert_close(ours.double(), expected, rtol=0, atol=4e-5)  # up to 300 dB away from 0


def test_silence_is_the_floor_and_one_is_zero() -> None:
    assert decibels(torch.zeros(2, 20)).unique().item() == pytest.approx(-100, abs=1e-5)
    assert not decibels(torch.ones(2, 20), top_db=80.0).any()


def test_no_clip_and_no_gradient() -> None:
    assert decibels(torch.empty(0, 1, 4, 5)).shape == Decibel(4)(torch.empty(0, 1, 4, 5)).shape
    with torch.no_grad():
        assert not decibels(powers(2, 20).requires_grad_()).requires_grad


def test_a_clip_does_not_depend_on_its_neighbours_or_on_threads() -> None:
    power = powers(100, 1, 5, 9)
    together = decibels(power, top_db=80.0)
    assert torch.equal(together[7:8], decibels(power[7:8], top_db=80.0))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert torch.equal(decibels(power, top_db=80.0), together)
    finally:
        torch.set_num_threads(threads)


def slopes(convert: Callable[..., Tensor], power: Tensor, grad: Tensor, **settings: Any) -> Tensor:
    """The gradient of the powers, one clip after another, as torch's own takes them together where they are flat."""
    power = power.detach().requires_grad_()
    convert(power, **settings).backward(grad)
    assert power.grad is not None
    return power.grad


def torch_slopes(power: Tensor, grad: Tensor, **settings: Any) -> Tensor:
    pairs = zip(power.double().split(1), grad.double().split(1), strict=True)
    return torch.cat([slopes(functional.power_to_db, *pair, **settings) for pair in pairs])


@pytest.mark.parametrize("top_db", [None, 0.0, 30.0, 80.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 1, 3, 5), (1, 16), (2, 1, 17), (3, 1, 5, 7), (2, 2, 40, 101)], ids=str)
def test_gradient_equals_that_of_torch(shape: tuple[int, ...], top_db: float | None) -> None:
    power, grad = powers(*shape), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    settings = {"top_db": top_db, "ref": 0.1, "amin": 1e-9}
    expected = torch_slopes(power, grad, **settings)
    ours = slopes(decibels, power, grad, **settings)
    # Relative, for slopes span as many decades as powers; what reaches the peak is a sum of what cancels.
    scale = (10 / math.log(10) * grad.double() / power.double().clamp(min=1e-9)).abs()
    at_peak = power == power.flatten(start_dim=1).amax(dim=1).view(-1, *[1] * (power.ndim - 1))
    scale[at_peak] += torch_slopes(power, grad.abs(), **settings)[at_peak]
    assert ((ours - expected).abs() <= 3e-6 * scale).all()
    assert (expected == 0).equal(ours == 0)


def test_peaks_that_are_equal_share_what_the_floor_gives() -> None:
    power = torch.full((1, 20), 1e-3)
    power[0, [2, 5, 17, 19]] = 1.0
    ours = slopes(decibels, power, torch.ones(1, 20), top_db=10.0)
    assert ours[0, 5] == pytest.approx(10 / math.log(10) * (1 + 16 / 4), rel=1e-6)
    torch.testing.assert_close(ours.double(), torch_slopes(power, torch.ones(1, 20), top_db=10.0))


def test_silence_has_no_gradient() -> None:
    assert not slopes(decibels, torch.zeros(2, 37), torch.ones(2, 37), top_db=80.0).any()


def test_second_derivatives_and_many_first_ones() -> None:
    power = powers(2, 1, 4, 5).clamp(min=1e-3).requires_grad_()

    def both(function: Callable[[Callable[..., Tensor]], Tensor]) -> None:
        expected = function(functional.power_to_db)
        assert expected.abs().max() > 0
        torch.testing.assert_close(function(decibels), expected, rtol=1e-4, atol=1e-6)

    def twice(convert: Callable[..., Tensor]) -> Tensor:
        (slope,) = torch.autograd.grad(convert(power, top_db=20.0).square().sum(), power, create_graph=True)
        return torch.autograd.grad(slope.square().sum(), power)[0]

    def at_once(convert: Callable[..., Tensor]) -> Tensor:
        decibel = convert(power, top_db=20.0)
        rows = torch.eye(decibel.numel())[::7].view(-1, *decibel.shape)
        return torch.autograd.grad(decibel, power, rows, is_grads_batched=True)[0]

    both(twice)
    both(at_once)


def test_nan_stays_nan_and_alone() -> None:
    power = powers(2, 1, 8, 8)
    power[1, 0, 2, 3] = torch.nan
    bad = decibels(power, top_db=80.0).isnan()
    assert bad.nonzero().tolist() == [[1, 0, 2, 3]]


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        (Decibel(5), functools.partial(functional.power_to_db, top_db=80.0)),
        (Log(5), functools.partial(functional.log_offset, offset=1e-6)),
    ],
    ids=["decibel", "log"],
)
def test_the_stage_takes_it_and_gives_the_same(
    stage: Compression, expected: Callable[[Tensor], Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    power, taken = powers(2, 1, 5, 8), []
    ours = stage(power)
    monkeypatch.setattr(functional, "lane_logarithm", lambda energy, logarithm, **_: taken.append(logarithm) or energy)
    stage(power)
    assert len(taken) == 1
    assert_equal(ours, expected(power))


@pytest.mark.parametrize("offset", [1e-30, 1e-6, 1.0])
@pytest.mark.parametrize("shape", [(1, 3), (3, 1, 5, 7)], ids=str)
def test_natural_logarithm_and_its_gradient(shape: tuple[int, ...], offset: float) -> None:
    power, grad = powers(*shape), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    logarithm = functional.natural_logarithm(offset)
    expected = functional.log_offset(power.double(), offset)
    torch.testing.assert_close(functional.lane_logarithm(power, logarithm).double(), expected, rtol=0, atol=1e-5)
    ours = slopes(functional.lane_logarithm, power, grad, logarithm=logarithm)
    torch.testing.assert_close(ours, (grad.double() / (power.double() + offset)).float(), rtol=3e-6, atol=0)


def test_in_place_the_same_numbers_take_the_place_of_powers() -> None:
    for n in (1, 15, 16, 17, 40, 1000):
        power = powers(3, n)
        expected = decibels(power, top_db=80.0)
        ours = functional.lane_logarithm(power, functional.decibel(top_db=80.0), in_place=True)
        assert ours.data_ptr() == power.data_ptr()
        assert torch.equal(ours, expected)
    power = powers(3, 20).requires_grad_()  # which its gradient needs
    before = power.detach().clone()
    functional.lane_logarithm(power, functional.decibel(), in_place=True).sum().backward()
    assert torch.equal(power, before)
    torch.testing.assert_close(power.grad, torch_slopes(before, torch.ones(3, 20)).float())


def test_the_stage_takes_it_for_its_gradient_too() -> None:
    stage, power = Decibel(4), powers(2, 1, 4, 5).requires_grad_()
    assert "Differentiable" in type(stage(power).grad_fn).__name__
    with torch.autograd.forward_ad.dual_level():  # of which it has none
        dual = torch.autograd.forward_ad.make_dual(power.detach(), torch.ones_like(power))
        assert torch.autograd.forward_ad.unpack_dual(stage(dual)).tangent is not None

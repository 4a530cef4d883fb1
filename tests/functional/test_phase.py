"""The angle of complex numbers against torch.atan2; `phase` and `griffin_lim` are tested with the inverse transform."""

import math

import pytest
import torch

from audiocls.functional import angle

STEPS = torch.tensor([-2.0, -1e-30, 0.0, 1e-30, 2.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_angle_equals_atan2_over_a_wide_range(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(2, 100_000, generator=generator, dtype=dtype)
    real, imag = direction * 10 ** torch.empty(2, 100_000, dtype=dtype).uniform_(-12, 6, generator=generator)
    # three roundings of a number of at most π; small angles keep all their digits
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(angle(real, imag), torch.atan2(imag, real), rtol=3 * eps, atol=0)


def test_angle_on_the_axes_is_atan2s() -> None:
    real, imag = torch.meshgrid(STEPS, STEPS, indexing="ij")
    torch.testing.assert_close(angle(real, imag), torch.atan2(imag, real), rtol=3e-7, atol=0)  # two roundings


def test_negative_real_number_is_half_a_turn_whatever_the_sign_of_its_zero() -> None:
    turns = angle(torch.tensor([-1.0, -1.0]), torch.tensor([0.0, -0.0]))
    assert turns.tolist() == [pytest.approx(math.pi)] * 2


def test_gradient_is_atan2s_on_the_axes_too_and_zero_at_the_origin() -> None:
    steps = torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0], dtype=torch.float64)
    points = torch.cartesian_prod(steps, steps)
    ours, expected = points.clone().requires_grad_(), points.clone().requires_grad_()
    angle(*ours.unbind(1)).sum().backward()
    torch.atan2(expected[:, 1], expected[:, 0]).sum().backward()
    assert ours.grad is not None
    assert expected.grad is not None
    torch.testing.assert_close(ours.grad, torch.nan_to_num(expected.grad))
    assert (ours.grad[(points == 0).all(dim=1)] == 0).all()


def test_gradient_is_finite_where_squares_vanish() -> None:
    tiny = torch.full((2, 3), 1e-30, requires_grad=True)
    angle(tiny[0], tiny[1]).sum().backward()
    assert tiny.grad is not None
    torch.testing.assert_close(tiny.grad, torch.tensor([[-5e29] * 3, [5e29] * 3]))  # 1e60 is beyond float32

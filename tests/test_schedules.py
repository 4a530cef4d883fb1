"""The schedule rises, falls like a cosine, and follows a run that is made longer."""

import math

import pytest
import torch

from audiocls.schedules import WarmupCosine


def rates(schedule: WarmupCosine, n: int) -> list[float]:
    seen = []
    for _ in range(n):
        seen.append(schedule.optimizer.param_groups[0]["lr"])
        schedule.optimizer.step()
        schedule.step()
    return seen


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)


def test_warms_up_linearly_then_follows_the_cosine() -> None:
    schedule = WarmupCosine(optimizer(), warmup=0.1, final=0.1)
    schedule.set_total_steps(100)
    seen = rates(schedule, 100)
    assert seen[:10] == pytest.approx([0.2 * (i + 1) for i in range(10)])
    expected = [2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * i / 90))) for i in range(90)]
    assert seen[10:] == pytest.approx(expected)


def test_a_resumed_run_with_more_steps_follows_the_longer_curve() -> None:
    short = WarmupCosine(optimizer(), total_steps=100)
    rates(short, 50)
    longer = WarmupCosine(optimizer(), total_steps=200)
    longer.load_state_dict(short.state_dict())
    assert longer.get_lr() == pytest.approx([2.0 * longer.factor(50)])
    assert longer.factor(50) > short.factor(50)


@pytest.mark.parametrize(
    ("setting", "match"), [({"warmup": 1.0}, "warmup must be in"), ({"final": 2.0}, "final must be")]
)
def test_refuses_shares_out_of_range(setting: dict[str, float], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        WarmupCosine(optimizer(), **setting)

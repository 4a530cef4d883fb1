"""Which machine this is, under every launcher; and that an environment that contradicts itself is an error."""

from __future__ import annotations

import pytest

from ranks import find_rank


def array(task: int, *, count: int, first: int, last: int, step: int = 1) -> dict[str, str]:
    values = {"ID": task, "COUNT": count, "MIN": first, "MAX": last, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


def test_without_a_launcher_there_is_one() -> None:
    assert find_rank(None, None, {}) == (0, 1, "")


@pytest.mark.parametrize(("first", "step"), [(0, 1), (1, 1), (10, 5)])
def test_tasks_of_an_array_have_each_rank_once(first: int, step: int) -> None:
    tasks = [first + step * i for i in range(4)]
    found = [find_rank(None, None, array(task, count=4, first=first, last=tasks[-1], step=step)) for task in tasks]
    assert [one[:2] for one in found] == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_the_nearest_word_counts() -> None:
    torchrun = {"RANK": "1", "WORLD_SIZE": "2"}
    step = {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}
    task = array(3, count=4, first=0, last=3)
    assert find_rank(None, None, torchrun) == (1, 2, "RANK and WORLD_SIZE")
    assert find_rank(None, None, torchrun | step) == (2, 3, "SLURM_PROCID and SLURM_STEP_NUM_TASKS")
    assert find_rank(None, None, torchrun | step | task)[:2] == (3, 4)
    assert find_rank(4, 5, torchrun | step | task) == (4, 5, "--rank and --world-size")


def test_batch_script_that_is_no_step_is_alone() -> None:
    """Slurm gives it rank 0, and no number of tasks unless some were asked for."""
    assert find_rank(None, None, {"SLURM_PROCID": "0"}) == (0, 1, "")


@pytest.mark.parametrize(
    ("given", "environment", "message"),
    [
        ((2, 2), {}, "rank must be between 0 and world_size - 1, got 2 of 2 by --rank and --world-size"),
        ((-1, 2), {}, "rank must be between 0 and world_size - 1, got -1 of 2"),
        ((0, 0), {}, "rank must be between 0 and world_size - 1, got 0 of 0"),
        ((1, None), {}, "--rank and --world-size go together: got 1 and None"),
        ((None, 2), {}, "--rank and --world-size go together: got None and 2"),
        ((None, None), {"RANK": "3", "WORLD_SIZE": "2"}, "got 3 of 2 by RANK and WORLD_SIZE: give --rank R"),
        ((None, None), {"RANK": "x", "WORLD_SIZE": "2"}, "RANK must be a number, got 'x': give --rank R"),
        ((None, None), {"RANK": "1"}, "RANK is 1 and WORLD_SIZE is not set: give --rank R --world-size W"),
        ((None, None), array(3, count=3, first=1, last=7), "3 of 3 from 1 to 7 is in no even row"),
        ((None, None), array(2, count=2, first=1, last=4, step=3), "2 of 2 from 1 to 4 is in no even row"),
        ((None, None), {"SLURM_ARRAY_TASK_ID": "1"}, "SLURM_ARRAY_TASK_COUNT must be a number, got ''"),
    ],
)
def test_what_contradicts_itself_is_an_error(
    given: tuple[int | None, int | None], environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find_rank(*given, environment)

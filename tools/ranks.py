"""Which of several machines this is: as the command line says, else as Slurm or torchrun say in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

_ARRAY = "SLURM_ARRAY_TASK_"
# srun alone sets the number of tasks of its step: a batch script that is no step has rank 0, and SLURM_NTASKS too.
_LAUNCHERS = (("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"), ("RANK", "WORLD_SIZE"))


class Rank(NamedTuple):
    """One of several equals.

    Args:
        rank: which one, from 0.
        world_size: how many there are.
        origin: what said so; empty where nothing did.
    """

    rank: int = 0
    world_size: int = 1
    origin: str = ""


def find_rank(rank: int | None, world_size: int | None, environment: Mapping[str, str]) -> Rank:
    """The rank that was given, or that of a Slurm array, a Slurm step or torchrun, in this order; else 0 of 1.

    Args:
        rank: of the command line.
        world_size: of the command line.
        environment: variables of the process.
    Raises:
        ValueError: if a rank has no size, is outside of it, or the array is not a row of evenly spaced numbers.

    >>> find_rank(None, None, {"RANK": "3", "WORLD_SIZE": "8"})
    Rank(rank=3, world_size=8, origin='RANK and WORLD_SIZE')
    """
    if rank is not None and world_size is not None:
        return _checked(rank, world_size, "--rank and --world-size")
    if rank is not None or world_size is not None:
        raise ValueError(f"--rank and --world-size go together: got {rank} and {world_size}")
    if f"{_ARRAY}ID" in environment:
        return _find_in_array(environment)
    for rank_name, size_name in _LAUNCHERS:
        if rank_name in environment and size_name in environment:
            origin = f"{rank_name} and {size_name}"
            return _checked(_number(environment, rank_name), _number(environment, size_name), origin)
        if environment.get(rank_name, "0") != "0":  # a batch script that is no step has rank 0 and no size
            raise ValueError(f"{rank_name} is {environment[rank_name]} and {size_name} is not set: {_WAY_OUT}")
    return Rank()


_WAY_OUT = "give --rank R --world-size W"


def _find_in_array(environment: Mapping[str, str]) -> Rank:
    """Task numbers need not begin at 0 nor be a step of 1 apart: --array=10-40:10."""
    task, count, first, last = (_number(environment, _ARRAY + name) for name in ("ID", "COUNT", "MIN", "MAX"))
    step = _number(environment, f"{_ARRAY}STEP") if f"{_ARRAY}STEP" in environment else 1
    rank, rest = divmod(task - first, max(1, step))
    if rest or (last - first) // max(1, step) + 1 != count:
        raise ValueError(f"{_ARRAY}ID {task} of {count} from {first} to {last} is in no even row: {_WAY_OUT}")
    return _checked(rank, count, f"{_ARRAY}ID and {_ARRAY}COUNT")


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, got {text!r}: {_WAY_OUT}") from None


def _checked(rank: int, world_size: int, origin: str) -> Rank:
    if not 0 <= rank < world_size:
        raise ValueError(
            f"rank must be between 0 and world_size - 1, got {rank} of {world_size} by {origin}: {_WAY_OUT}"
        )
    return Rank(rank, world_size, origin)

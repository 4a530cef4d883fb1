"""Parameter groups: each level of the front-end with its own learning rate, what is decayed, and what is held at first.

A front-end has few parameters, and how fast they should move differs from the head's by factors: a schedule scales all
of them, a multiplier sets them apart. Groups are told the optimizer after it is built, so any class will do.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pytorch_lightning.cli import OptimizerCallable
from torch import nn
from torch.optim import Optimizer

from audiocls.frontends.base import Frontend

HEAD = "head"


def build_optimizer(
    make: OptimizerCallable,
    model: nn.Module,
    frontend: Frontend,
    *,
    frontend_lr: Mapping[str, float],
) -> Optimizer:
    """An optimizer with a group for the head and one for each level of the front-end.

    Weights of the head are decayed as the optimizer says. Gains, shifts and offsets (what has fewer than two
    dimensions) and the front-end are not: weight decay pulls towards zero, which for these is another function and no
    simpler one; a free filterbank would fall silent.

    Args:
        make: called with the groups.
        model: what holds all parameters.
        frontend: the part of it whose `levels()` are the groups.
        frontend_lr: learning rate of each level, as a multiple of the head's; 1 where a level is not named.
    Returns:
        The optimizer; each of its groups has a `name`: "head", "head, not decayed", or the level.
    Raises:
        ValueError: if the optimizer refuses its settings, or divides by what is 0 in the precision of the weights.
    Source: He et al. 2019, arXiv:1812.01187, section 3.1, for what is not decayed.
    """
    levels = frontend.levels()
    of_frontend = {id(parameter) for parameters in levels.values() for parameter in parameters}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in of_frontend]
    groups: dict[str, list[nn.Parameter]] = {
        HEAD: [parameter for parameter in rest if parameter.ndim >= 2],
        f"{HEAD}, not decayed": [parameter for parameter in rest if parameter.ndim < 2],
        **levels,
    }
    try:
        optimizer = make([{"params": params, "name": name} for name, params in groups.items() if params])
    except ValueError as error:
        raise ValueError(f"model.optimizer is refused by its class ({error}): give it another value") from error
    for group in optimizer.param_groups:
        _check_eps(type(optimizer).__name__, group.get("eps"), {parameter.dtype for parameter in group["params"]})
        group["lr"] = group["lr"] * frontend_lr.get(group["name"], 1.0)
        if group["name"] != HEAD and "weight_decay" in optimizer.defaults:
            group["weight_decay"] = 0.0
    return optimizer


def _check_eps(optimizer: str, eps: object, dtypes: set[torch.dtype]) -> None:
    """Refuse what keeps a quotient finite and is rounded to 0: the first step would make weights nan."""
    for dtype in dtypes:
        if isinstance(eps, float) and eps > 0 and not torch.tensor(eps, dtype=dtype):
            raise ValueError(
                f"{optimizer}'s eps={eps:g} is 0 in {dtype}, and a step could make weights nan: set "
                "model.optimizer.eps to 1e-4, or trainer.precision to 16-mixed"
            )


def per_level(
    argument: str, value: float | Mapping[str, float], frontend: Frontend, *, default: float
) -> dict[str, float]:
    """A setting of each level of a front-end, from one number for all or a number for some.

    Args:
        argument: what the setting is called, for errors.
        value: one number, or level to number.
        frontend: whose `levels()` they are.
        default: for a level that is not named.
    Returns:
        Level to number, in the order of `frontend.levels()`.
    Raises:
        ValueError: if a level is unknown or a number negative.
    """
    known = list(frontend.levels())
    given = dict(value) if isinstance(value, Mapping) else dict.fromkeys(known, value)
    if unknown := [name for name in given if name not in known]:
        raise ValueError(
            f"{argument} names {', '.join(map(repr, unknown))}, but {type(frontend).__name__} as it is set learns "
            f"{', '.join(known) or 'nothing'}: name one of these, or switch on what is to be learnt"
        )
    if negative := {name: number for name, number in given.items() if number < 0}:
        raise ValueError(f"{argument} must be at least 0, got {negative}")
    return {name: given.get(name, default) for name in known}


def held_parameters(frontend: Frontend, freeze_steps: Mapping[str, float], step: int) -> list[nn.Parameter]:
    """Parameters of the levels that still stand still at an optimizer step, counted from zero."""
    return [p for name, params in frontend.levels().items() if step < freeze_steps[name] for p in params]

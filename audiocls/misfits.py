"""Why a checkpoint does not fit a model, in one sentence: which classes differ, or which settings."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

log = logging.getLogger(__name__)

PARTS = ("frontend", "head")
MOST = 6  # names or settings that are listed


def class_difference(theirs: Sequence[str], ours: Sequence[str], *, owner: str = "the checkpoint") -> str:
    """What is different between the classes of a checkpoint and those of the data, which are not the same.

    >>> class_difference(["dog", "cat"], ["dog", "cow", "pig"])
    "only the checkpoint has 'cat', only the data has 'cow', 'pig'"
    >>> class_difference(["dog", "cat"], ["cat", "dog"])
    "the names are the same in another order, number 0 is 'dog' in the checkpoint and 'cat' in the data"
    """
    only = {owner: [n for n in theirs if n not in ours], "the data": [n for n in ours if n not in theirs]}
    said = [f"only {whose} has {_listed([repr(name) for name in names])}" for whose, names in only.items() if names]
    if said:
        return ", ".join(said)
    i = next(i for i, (their, our) in enumerate(zip(theirs, ours, strict=True)) if their != our)
    return (
        f"the names are the same in another order, number {i} is {theirs[i]!r} in {owner} and {ours[i]!r} in the data"
    )


def check_weights(
    weights: Mapping[str, Tensor],
    given: Mapping[str, Tensor],
    *,
    recipe: Mapping[str, Any],
    given_recipe: Mapping[str, Any],
) -> None:
    """Refuse weights of another model, naming the settings that differ; say so where they differ and the weights fit.

    What a front-end of the same class learns or not is left to `Frontend.check_state`.

    Args:
        weights: of the model that is here, by name.
        given: those that are to be loaded into it.
        recipe: hyper-parameters of the model that is here; parts that are not class paths with their settings, as the
            command line keeps them, are not compared.
        given_recipe: the same of the checkpoint; empty where it is unknown.
    Raises:
        ValueError: if a weight is missing, too much or of another shape.
    """
    settings = list(_differences(recipe, given_recipe))
    reshaped = [name for name in weights if name in given and weights[name].shape != given[name].shape]
    missing = [name for name in {**weights, **given} if (name in weights) != (name in given)]
    if settings and not reshaped and not missing:
        log.warning("the weights of the checkpoint are gone on with by another model: %s", _listed(settings))
    if not any(setting.startswith("model.frontend is") for setting in settings):
        missing = [name for name in missing if not name.startswith("frontend.")]
    if not reshaped and not missing:
        return
    if not settings:
        settings = [_misfit(name, weights, given) for name in reshaped + missing]
    raise ValueError(
        f"the weights of the checkpoint do not fit the model: {_listed(settings)}: go on with the configuration of its "
        "run, or train anew without --ckpt_path"
    )


def _differences(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Each setting of front-end and head that differs, as `model.head.dropout is 0.5 there and 0.3 here`."""
    for part in PARTS:
        one, other = ours.get(part), theirs.get(part)
        if not isinstance(one, Mapping) or not isinstance(other, Mapping):
            continue
        if one.get("class_path") != other.get("class_path"):
            yield f"model.{part} is {other.get('class_path')} there and {one.get('class_path')} here"
            continue
        here, there = ({**(settings.get("init_args") or {})} for settings in (one, other))
        for name in here:
            if name in there and _plain(here[name]) != _plain(there[name]):
                yield f"model.{part}.{name} is {_plain(there[name])} there and {_plain(here[name])} here"


def _plain(value: Any) -> Any:
    """A setting as it is compared and said: (3, 3) and [3, 3] are the same."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _misfit(name: str, weights: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
    there, here = (tuple(held[name].shape) if name in held else "missing" for held in (given, weights))
    return f"{name} is {there} there and {here} here"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST]) + (f", … ({len(names)})" if len(names) > MOST else "")

"""What holds for every augmentation."""

from __future__ import annotations

import copy
import inspect
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from audiocls import augment
from audiocls.augment import Augmentation

MEMBERS = {
    name: kind
    for name in augment.__all__
    if isinstance(kind := getattr(augment, name), type)
    and issubclass(kind, Augmentation)
    and not inspect.isabstract(kind)
}
# both sides of the front-end where there is a choice
CASES = [(name, stage) for name in MEMBERS for stage in ("waveform", "spectrogram")]
CASES = [
    (name, stage)
    for name, stage in CASES
    if "stage" in inspect.signature(MEMBERS[name]).parameters or MEMBERS[name].stage == stage
]
OVERLAYS = sorted((Path(__file__).parents[2] / "conf" / "augment").glob("*.yaml"))


def build(name: str, stage: str, **settings: float) -> Augmentation:
    parameters = inspect.signature(MEMBERS[name]).parameters
    given = {"stage": stage} if "stage" in parameters else {}
    given |= {"transforms": [distorted]} if "transforms" in parameters else {}
    part = MEMBERS[name](**{"probability": 1.0, **given, **settings})
    part.prepare(sample_rate=8000, task="multiclass")
    return part


def distorted(samples: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """By a draw of Python's, as audiomentations does."""
    return np.tanh(samples * random.uniform(2, 5))


def batch(stage: str, n: int, *, n_channels: int = 1) -> tuple[Tensor, Tensor]:
    """Noise, clips of one class each."""
    shape = (n, n_channels, 2000) if stage == "waveform" else (n, n_channels, 20, 50)
    return 0.1 * torch.randn(shape), torch.eye(4)[torch.arange(n) % 4]


@pytest.fixture(params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


def test_evaluation_and_probability_0_leave_clips_bit_for_bit(case: tuple[str, str]) -> None:
    x, target = batch(case[1], 8)
    for part in (build(*case).eval(), build(*case, probability=0.0)):
        changed, labels = part(x, target)
        assert torch.equal(changed, x)
        assert torch.equal(labels, target)


def test_changes_training_clips_but_neither_shape_nor_what_it_was_given(case: tuple[str, str]) -> None:
    x, target = batch(case[1], 8, n_channels=2)
    before = x.clone(), target.clone()
    changed, labels = build(*case)(x, target)
    assert changed.shape == x.shape
    assert changed.dtype == torch.float32
    assert labels.shape == target.shape
    assert not torch.equal(changed, x)
    assert torch.equal(x, before[0])
    assert torch.equal(target, before[1])
    torch.testing.assert_close(labels.sum(1), torch.ones(8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_changed_too(case: tuple[str, str], dtype: torch.dtype) -> None:
    if case[1] == "waveform" and dtype == torch.bfloat16:
        pytest.skip("waveforms are of float32 or more, whatever the precision of the model")
    x, target = batch(case[1], 8)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # as Lightning does with precision "64-true" or "bf16-true"
    try:
        changed, labels = build(*case)(x.to(dtype), target.to(dtype))
    finally:
        torch.set_default_dtype(before)
    assert changed.isfinite().all()
    assert not changed.equal(x.to(changed.dtype))
    torch.testing.assert_close(labels.float().sum(1), torch.ones(8), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_default_dtype_changes_nothing(case: tuple[str, str], dtype: torch.dtype) -> None:
    x, target = batch(case[1], 8)
    part = build(*case)
    torch.manual_seed(0)
    expected = part(x, target)[0]
    torch.manual_seed(0)
    torch.set_default_dtype(dtype)  # as Lightning does in a step of "64-true" and "bf16-true"
    try:
        changed = part(x, target)[0]
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(changed, expected)


def test_each_clip_has_a_draw_of_its_own(case: tuple[str, str]) -> None:
    if case[0] == "PolarityInversion":
        pytest.skip("there is one way to invert")
    x, target = batch(case[1], 1)
    x = x.repeat(8, *[1] * (x.ndim - 1))
    if MEMBERS[case[0]].mixes or case[0] == "FreqMixStyle":
        x = x * torch.arange(1, 9).reshape(-1, *[1] * (x.ndim - 1))  # clips that differ, so that mixing shows
        changed = build(*case)(x, target.repeat(8, 1))[0] / x[:, :1, :1]
    else:
        changed = build(*case)(x, target.repeat(8, 1))[0]
    n_values = len(getattr(build(*case), "values", range(8)))  # some draw from a few values only
    assert len({tuple(clip.flatten().tolist()) for clip in changed}) > min(n_values, 5) - 2


def test_about_as_many_clips_are_changed_as_the_probability_says(case: tuple[str, str]) -> None:
    x, target = batch(case[1], 400)
    changed = build(*case, probability=0.5)(x, target)[0]
    n = (changed != x).flatten(1).any(1).sum().item()
    assert 120 < n < 240  # 200 +- 10; a mask or a cut may be empty


def test_batch_of_one_and_silence_stay_finite(case: tuple[str, str]) -> None:
    x, target = batch(case[1], 1, n_channels=2)
    for clip in (x, torch.zeros_like(x)):
        changed, labels = build(*case)(clip, target)
        assert changed.isfinite().all()
        assert torch.equal(labels, target)  # nobody else to mix with


def test_one_sample_or_frame_is_enough(case: tuple[str, str]) -> None:
    x, target = batch(case[1], 3)
    assert build(*case)(x[..., :1], target)[0].isfinite().all()


def test_the_same_seed_gives_the_same_batch(case: tuple[str, str]) -> None:
    x, target = batch(case[1], 8)
    part, results = build(*case), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(part(x, target)[0])
    assert torch.equal(results[0], results[1])
    assert case[0] == "PolarityInversion" or not torch.equal(results[0], results[2])


def test_float32_inside_autocast(case: tuple[str, str]) -> None:
    x, target = batch(case[1], 4)
    part = build(*case)
    torch.manual_seed(0)
    expected = part(x, target)[0]
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        changed = part(x, target)[0]
    assert torch.equal(changed, expected)


def test_gradients_reach_the_front_end_and_are_finite_on_silence(case: tuple[str, str]) -> None:
    if case[0] == "Audiomentations":
        pytest.skip("it runs in numpy, before anything that learns")
    x, target = batch(case[1], 4)
    x[1] = 0
    x.requires_grad_()
    build(*case)(x, target)[0].square().sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.abs().sum() > 0


def test_nothing_is_learnt_or_kept(case: tuple[str, str]) -> None:
    part = build(*case)
    assert part.state_dict() == {}
    assert list(part.parameters()) == []
    assert f"probability={part.probability}" in repr(part)
    copy.deepcopy(part)  # an average of the weights copies the whole model


@pytest.mark.parametrize("name", MEMBERS)
def test_probability_is_checked(name: str) -> None:
    with pytest.raises(ValueError, match=r"probability must be between 0 and 1, got 1\.5"):
        build(name, "waveform", probability=1.5)


def test_every_member_stands_in_an_overlay_with_all_its_settings_at_their_defaults() -> None:
    seen: dict[str, list[dict[str, object]]] = {}
    for path in OVERLAYS:
        for part in yaml.safe_load(path.read_text()).get("model", {}).get("augment", []):
            settings = {
                key: tuple(value) if isinstance(value, list) else value for key, value in part["init_args"].items()
            }
            seen.setdefault(part["class_path"].removeprefix("audiocls.augment."), []).append(settings)
    assert seen.keys() == MEMBERS.keys()
    for name in MEMBERS.keys() - {"Audiomentations"}:  # which has none: its transforms are another package's
        parameters = inspect.signature(MEMBERS[name]).parameters
        defaults = {key: parameter.default for key, parameter in parameters.items()}
        assert defaults in seen[name]

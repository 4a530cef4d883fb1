"""Intervals of scores: a draw against `evaluate` of the clips repeated, the whole against what is known of shares."""

import math

import numpy as np
import pytest
import torch

from audiocls import intervals
from audiocls.intervals import bootstrap
from audiocls.metrics import ClipScores, Evaluation, evaluate


def made(
    n_clips: int,
    n_classes: int,
    task: str = "multilabel",
    *,
    share: float = 0.3,
    levels: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Scores of random clips; with `levels` predictions of so many values, so that many are equal."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n_clips, n_classes, generator=generator)
    if task == "multiclass":
        target = torch.randint(n_classes, (n_clips,), generator=generator)
        prediction = (noise + 2 * torch.nn.functional.one_hot(target, n_classes)).softmax(1)
    elif task == "regression":
        target = torch.randn(n_clips, n_classes, generator=generator)
        prediction = target + noise
    else:
        target = (torch.rand(n_clips, n_classes, generator=generator) < share).float()
        prediction = (noise + 1.5 * target - 1).sigmoid()
    if levels:
        prediction = (prediction * levels).round() / levels
    names = [str(i) for i in range(n_classes)]
    return evaluate(torch.arange(n_clips), prediction, target, class_names=names, task=task)


def right_or_wrong(right: np.ndarray) -> Evaluation:
    """Two classes in turn, and which clips are right."""
    target = torch.arange(len(right)) % 2
    decided = torch.where(torch.from_numpy(right), target, 1 - target)
    prediction = torch.nn.functional.one_hot(decided, 2).float()
    return evaluate(torch.arange(len(right)), prediction, target, class_names=["a", "b"], task="multiclass")


def width(interval: tuple[float, float]) -> float:
    return interval[1] - interval[0]


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
@pytest.mark.parametrize(
    ("n_clips", "n_classes", "levels"),
    [(60, 5, None), (60, 5, 8), (60, 5, 1), (12, 3, 4), (5, 2, 3)],  # the small ones lose classes in their draws
)
def test_a_draw_scores_as_the_clips_repeated(task: str, n_clips: int, n_classes: int, levels: int | None) -> None:
    done = made(n_clips, n_classes, task, levels=levels)
    weights = intervals._counts(np.random.default_rng(1), n_clips, 8)
    assert (weights.sum(0) == n_clips).all()
    scalars, classes = intervals._scorer(done)(weights)
    assert scalars.keys() == done.scalars.keys() - {"classes_scored"}
    for draw in range(8):
        rows = torch.arange(n_clips).repeat_interleave(torch.from_numpy(weights[:, draw]).long())
        again = evaluate(
            torch.arange(len(rows)), done.prediction[rows], done.target[rows], class_names=done.class_names, task=task
        )
        # torchmetrics computes curves in float32
        expected = {name: again.scalars[name] for name in scalars}
        assert {name: of[draw].item() for name, of in scalars.items()} == pytest.approx(expected, abs=2e-6, nan_ok=True)
        for name, of in classes.items():
            assert of[:, draw].tolist() == pytest.approx(again.per_class[name], abs=2e-6, nan_ok=True)


def test_intervals_of_a_share_hold_it_as_often_as_they_say() -> None:
    generator, held, widths = np.random.default_rng(0), 0, []
    for trial in range(60):
        low, high = bootstrap(right_or_wrong(generator.random(200) < 0.8), n_draws=200, seed=trial).scalars["accuracy"]
        held += low <= 0.8 <= high
        widths.append(high - low)
    # 60 trials leave a standard error of 2.8 %; the normal interval of a binomial is as wide
    assert 0.89 <= held / 60 <= 0.99
    assert np.mean(widths) == pytest.approx(2 * 1.96 * math.sqrt(0.8 * 0.2 / 200), rel=0.05)


def test_average_precision_of_rare_tags_is_not_lifted() -> None:
    """The percentiles alone began above the score: a clip that is drawn twice ranks beside itself."""
    done = made(400, 40, share=0.03)
    low, high = bootstrap(done, n_draws=300).scalars["average_precision_macro"]
    score = done.scalars["average_precision_macro"]
    assert abs((low + high) / 2 - score) < 0.2 * (high - low)
    weights = intervals._counts(np.random.default_rng(0), 400, 200)
    drawn = intervals._scorer(done)(weights)[0]["average_precision_macro"]
    assert drawn.mean() > high - 0.2 * (high - low)  # which is what has to be moved


def test_clips_that_are_copies_count_as_one_where_their_group_is_known() -> None:
    right = np.repeat(np.random.default_rng(0).random(60) < 0.7, 10)
    done = right_or_wrong(right)
    groups = [f"artist {i // 10}" for i in range(600)]
    alone, together = bootstrap(done), bootstrap(done, groups=groups)
    assert (alone.unit, alone.n_units) == ("clips", 600)
    assert (together.unit, together.n_units) == ("groups", 60)
    ratio = width(together.scalars["accuracy"]) / width(alone.scalars["accuracy"])
    assert ratio == pytest.approx(math.sqrt(10), rel=0.1)  # ten copies say as much as one


def test_a_clip_without_a_group_is_one_of_its_own() -> None:
    done = made(30, 3)
    alone = bootstrap(done, n_draws=50)
    for groups in ([None] * 30, list(range(30))):
        assert bootstrap(done, n_draws=50, groups=groups).scalars == alone.scalars
    assert bootstrap(done, n_draws=50, groups=["a", "a", *[None] * 28]).n_units == 29


def test_the_seed_decides_the_draws() -> None:
    done = made(50, 3)
    assert bootstrap(done, n_draws=70).scalars == bootstrap(done, n_draws=70).scalars
    assert bootstrap(done, n_draws=70).per_class == bootstrap(done, n_draws=70).per_class
    assert bootstrap(done, n_draws=70, seed=1).scalars != bootstrap(done, n_draws=70).scalars


def test_two_processes_give_the_same_intervals() -> None:
    done = made(40, 3)
    ranks = [ClipScores(3), ClipScores(3)]
    for rank, scores in enumerate(ranks):
        own = done.clip % 2 == rank
        scores.update(done.clip[own], done.prediction[own], done.target[own])
    merged = ClipScores(3)
    for name in ("clip", "windows", "prediction", "target"):
        setattr(merged, name, getattr(ranks[1], name) + getattr(ranks[0], name))  # in the wrong order, too
    merged._update_count = 1
    gathered = evaluate(*merged.compute(), class_names=done.class_names, task="multilabel")
    assert bootstrap(gathered, n_draws=50).scalars == bootstrap(done, n_draws=50).scalars


def test_a_class_that_no_draw_can_score_has_no_interval() -> None:
    target = torch.zeros(30, 3)
    target[::2, 0] = 1
    target[4, 1] = 1  # a third of the draws lose it
    prediction = torch.rand(30, 3, generator=torch.Generator().manual_seed(1))
    done = evaluate(torch.arange(30), prediction, target, class_names=["a", "rare", "absent"], task="multilabel")
    drawn = bootstrap(done, n_draws=100)
    assert all(map(math.isnan, drawn.per_class["auroc"][2]))
    assert not any(map(math.isnan, drawn.per_class["auroc"][1] + drawn.scalars["auroc_macro"]))
    none = evaluate(torch.arange(2), prediction[:2], torch.zeros(2, 3), class_names=["a", "b", "c"], task="multilabel")
    assert all(map(math.isnan, bootstrap(none, n_draws=10).scalars["auroc_macro"]))


def test_intervals_stay_where_scores_can_be() -> None:
    good = evaluate(
        torch.arange(20), torch.eye(2)[torch.arange(20) % 2], torch.arange(20) % 2, class_names=["a", "b"],
        task="multiclass",
    )  # fmt: skip
    assert bootstrap(good, n_draws=20).scalars["accuracy"] == (1, 1)
    nearly = bootstrap(right_or_wrong(np.arange(20) > 0), n_draws=200)
    assert all(0 <= low <= high <= 1 for low, high in nearly.scalars.values())
    assert nearly.scalars["accuracy"][1] == 1
    off = bootstrap(made(20, 2, "regression", seed=3), n_draws=100)
    assert off.scalars["r2_mean"][0] < 0 < off.scalars["rmse_mean"][0]


def test_what_was_drawn_is_said() -> None:
    done = made(40, 2)
    assert bootstrap(done).said == "95 % bootstrap intervals: 1,000 draws of 40 clips, taken as independent"
    groups = [i // 2 for i in range(40)]
    assert bootstrap(done, n_draws=9, groups=groups).said == "95 % bootstrap intervals: 9 draws of 20 groups (40 clips)"
    few = bootstrap(done, n_draws=9, groups=[i // 20 for i in range(40)])
    assert few.said.endswith("draws of 2 groups (40 clips), rather too narrow for so few")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_draws": 0}, "n_draws must be at least 1, got 0"),
        ({"groups": ["a"] * 3}, "groups must be one a clip: got 3 for 4 clips"),
        ({"groups": ["a"] * 4}, "the evaluation must hold at least 2 groups to draw from, got 1"),
    ],
)
def test_what_cannot_be_drawn_from_is_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bootstrap(made(4, 2), **settings)

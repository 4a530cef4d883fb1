"""Probes: equal to scikit-learn's grid search, blind to what is scored, and groups whole in every fold."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GridSearchCV

from audiocls import probes
from audiocls.probe_folds import make_folds
from audiocls.probes import Fold, choi2017, fit_all, make_probe, nested


def table(n_a_class: int = 12, *, n_folds: int = 3, groups: int | None = None) -> pd.DataFrame:
    """Classes a, b and c, clips dealt to folds, `groups` groups a class and fold."""
    rows = []
    for label in "abc":
        for i in range(n_a_class):
            fold = i % n_folds + 1
            group = f"{label} {fold} {i // n_folds % groups}" if groups else f"{label}{i}"
            rows.append((f"{label}{i:03d}", label, "test" if fold == 1 else "train", fold, group))
    return pd.DataFrame(rows, columns=["clip_id", "label", "split", "fold", "group"])


def numbers(clips: pd.DataFrame, n_features: int = 4, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features that tell the class badly, and the class."""
    target = pd.factorize(clips["label"])[0]
    noise = np.random.default_rng(seed).normal(size=(len(clips), n_features))
    return noise * 3 + target[:, None], target


# --- the protocols ---


@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_protocols_are_scikit_learn_s_grid_search(task: probes.Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "SVM_GAMMA", ("auto",))
    clips = table(8, n_folds=2)
    folds = make_folds(clips, task="multiclass", n_inner=2)
    x, target = numbers(clips)
    target = target if task == "multiclass" else target + 0.3 * x[:, 0] ** 2
    probe = make_probe("svm", task)
    fitted = fit_all(probe, {"x": x}, target, folds)
    grid = [{name: [value] for name, value in settings.items()} for settings in probe.settings]
    outer = [(fold.train, fold.test) for fold in folds]
    theirs = GridSearchCV(probe.pipeline, grid, cv=outer).fit(x, target)
    ours = choi2017(fitted)
    assert np.mean(ours.scores) == theirs.best_score_  # the same sums in the same order
    assert [str(settings) for _, settings in ours.chosen] == [str(theirs.best_params_)] * 2
    inside = GridSearchCV(probe.pipeline, grid, cv=list(folds[1].inner)).fit(x, target)
    # the pairs are rows of the whole; what is refitted must be the training clips of the fold
    best = inside.best_estimator_.fit(x[folds[1].train], target[folds[1].train])
    honest = nested(fitted)
    assert str(honest.chosen[1][1]) == str(inside.best_params_)
    assert honest.scores[1] == best.score(x[folds[1].test], target[folds[1].test])
    np.testing.assert_array_equal(honest.predictions[1], best.predict(x[folds[1].test]))


def test_the_grid_is_the_paper_s() -> None:
    settings = make_probe("svm", "multiclass").settings
    rbf = [of for of in settings if of["classifier__kernel"] == "rbf"]
    assert {of["classifier__C"] for of in settings} == {0.1, 2, 8, 32}
    assert {of["classifier__gamma"] for of in rbf} == {2**-3, 2**-5, 2**-7, 2**-9, 2**-11, 2**-13, "auto"}
    assert (len(rbf), len(settings) - len(rbf)) == (4 * 7 * 2, 4 * 2)
    assert sum(of["scaler"] == "passthrough" for of in settings) == 32


def test_labels_at_random_score_at_chance_unless_the_features_are_chosen_on_what_is_scored() -> None:
    clips = table(50)
    clips = clips[clips["label"] != "c"].reset_index(drop=True)
    generator = np.random.default_rng(0)
    clips["label"] = generator.permutation(clips["label"])
    folds = make_folds(clips, task="multiclass", n_inner=2)
    whole = generator.normal(size=(100, 100))
    subsets = {str(first): whole[:, first : first + 5] for first in range(0, 100, 5)}
    fitted = fit_all(make_probe("lda", "multiclass"), subsets, pd.factorize(clips["label"])[0], folds)
    honest, chosen = nested(fitted), choi2017(fitted)
    # 100 coins: a standard deviation of 0.05; the best of 20 such numbers lies 1.9 of them above on average
    assert abs(np.mean(honest.scores) - 0.5) < 0.1
    assert np.mean(chosen.scores) > 0.56
    assert len({name for name, _ in chosen.chosen}) == 1


def test_the_best_subset_of_each_fold_is_the_one_that_its_inner_folds_name() -> None:
    clips = table(8, n_folds=2)
    folds = make_folds(clips, task="multiclass", n_inner=2)
    noise, target = numbers(clips)
    # what tells the class is in another set in each fold's training clips
    told = np.where(np.isin(np.arange(24), folds[0].train), target, 0)[:, None] + np.zeros((1, 2))
    other = np.where(np.isin(np.arange(24), folds[1].train), target, 0)[:, None] + np.zeros((1, 2))
    fitted = fit_all(make_probe("logistic", "multiclass"), {"n": noise, "a": told, "b": other}, target, folds)
    assert [name for name, _ in nested(fitted).chosen] == ["a", "b"]


@pytest.mark.slow
def test_processes_give_what_one_gives() -> None:
    clips = table(8, n_folds=2)
    folds = make_folds(clips, task="multiclass", n_inner=2)
    x, target = numbers(clips)
    done: list[int] = []
    one, two = (
        fit_all(make_probe("logistic", "multiclass"), {"x": x}, target, folds, jobs=n, on_job=done.append)["x"]
        for n in (1, 2)
    )
    np.testing.assert_array_equal(one.scores, two.scores)
    np.testing.assert_array_equal(one.inner, two.inner)
    assert done == [1] * 4


def test_fits_that_do_not_end_are_ended_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(probes, "SVM_STEPS", 3)
    clips = table(8, n_folds=2)
    x, target = numbers(clips)
    folds = make_folds(clips, task="multiclass", n_inner=None)
    fitted = fit_all(make_probe("svm", "multiclass"), {"x": x}, target, folds)
    assert 100 < fitted["x"].n_stopped <= 2 * 64
    assert f"{fitted['x'].n_stopped} fits were ended before they had converged" in caplog.text


def test_logistic_regressions_that_had_not_converged_were_not_counted() -> None:
    clips = table()
    probe = make_probe("logistic", "multiclass")
    probe.pipeline.set_params(classifier__max_iter=1)
    features, target = numbers(clips)
    folds = make_folds(clips, task="multiclass", n_inner=None)
    assert fit_all(probe, {"x": features}, target, folds)["x"].n_stopped == len(folds) * len(probes.LOGISTIC_C)


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("knn", "multiclass", "classifier must be one of svm, lda, logistic, got 'knn'"),
        ("lda", "regression", "classifier 'lda' tells classes, and the targets are numbers: take svm"),
        ("logistic", "regression", "classifier 'logistic' tells classes"),
    ],
)
def test_a_classifier_that_is_not_there_is_refused(name: probes.ProbeName, task: probes.Task, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_probe(name, task)


def test_a_fold_of_one_clip_has_no_r2() -> None:
    folds = [Fold("7", np.arange(5), np.array([5]))]
    with pytest.raises(ValueError, match="fold 7 would score a single clip, and R² needs two"):
        fit_all(make_probe("svm", "regression"), {"x": np.zeros((6, 1))}, np.arange(6.0), folds)


# --- folds ---


@pytest.mark.parametrize("grouped", [False, True])
def test_every_clip_is_scored_once_and_groups_stay_whole(grouped: bool) -> None:
    clips = table(24, groups=4)
    clips = clips if grouped else clips.drop(columns="group")
    clips = clips.sample(frac=1, random_state=0)  # rows, not the index, are what folds hold
    folds = make_folds(clips, task="multiclass", n_inner=4)
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(72))
    for fold in folds:
        assert set(clips["fold"].iloc[fold.test]) == {int(fold.name)}
        assert sorted([*fold.train, *fold.test]) == list(range(72))
        assert sorted(np.concatenate([test for _, test in fold.inner])) == sorted(fold.train)
        for train, test in fold.inner:
            assert not set(train) & set(test)
            assert not {*train, *test} & set(fold.test)
            assert set(clips["label"].iloc[test]) == {"a", "b", "c"}
            if grouped:
                assert not set(clips["group"].iloc[train]) & set(clips["group"].iloc[test])


def test_a_split_is_one_fold_of_which_validation_is_learnt_from() -> None:
    clips = table().drop(columns=["fold", "group"])
    clips.loc[clips.index % 4 == 1, "split"] = "validation"
    (fold,) = make_folds(clips, task="multiclass", n_inner=2)
    assert fold.name == "test"
    assert set(clips["split"].iloc[fold.train]) == {"train", "validation"}
    assert set(clips["split"].iloc[fold.test]) == {"test"}


def test_folds_are_drawn_where_they_are_asked_for() -> None:
    clips = table(24, groups=4).drop(columns="fold")
    folds = make_folds(clips, task="multiclass", n_folds=6, n_inner=None)
    assert [fold.name for fold in folds] == ["1", "2", "3", "4", "5", "6"]
    assert all(not set(clips["group"].iloc[f.train]) & set(clips["group"].iloc[f.test]) for f in folds)
    assert all(fold.inner == () for fold in folds)
    for label in "abc":
        counts = [(clips["label"].iloc[fold.test] == label).sum() for fold in folds]
        assert max(counts) - min(counts) <= 2  # groups are of two clips


def test_numbers_need_no_classes_and_a_clip_without_a_group_is_one_by_itself() -> None:
    clips = table(8).assign(label=[(i / 24, -i / 24) for i in range(24)])
    clips["group"] = ["same"] * 4 + [None] * 20
    (first, *_) = make_folds(clips.drop(columns="fold"), task="regression", n_folds=4, n_inner=3)
    groups = clips["group"].eq("same").to_numpy()
    assert groups[first.test].all() or not groups[first.test].any() or groups[first.test].sum() == 4
    assert len(first.inner) == 3


def test_fewer_inner_folds_are_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    folds = make_folds(table(12, groups=1), task="multiclass", n_inner=5)
    assert [len(fold.inner) for fold in folds] == [2, 2, 2]
    assert "settings are chosen by 2 inner folds where --inner_folds asks for 5" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, {"n_folds": 10}, r"the data has folds of its own \(1, 2, 3\): leave --folds out"),
        ({"label": ["a"] * 12 + ["b"] * 23 + ["c"]}, {}, "label 'c' is scored in fold 3 and stands in no other"),
        ({"label": ["a"] * 12 + ["b"] * 22 + ["c"] * 2}, {}, "label 'c' has 1 clip in what fold 2 learns from, and 2"),
        ({}, {"n_inner": 1}, "--inner_folds must be at least 2, got 1"),
    ],
)
def test_folds_that_cannot_be_are_refused_in_a_line(
    changes: dict[str, list[str]], settings: dict[str, int], message: str
) -> None:
    clips = table().drop(columns="group").assign(**changes)
    with pytest.raises(ValueError, match=message) as caught:
        make_folds(clips, task="multiclass", **settings)
    assert "\n" not in str(caught.value)


def test_a_split_without_a_test_is_refused() -> None:
    clips = table().drop(columns=["fold", "group"]).assign(split="train")
    with pytest.raises(ValueError, match=r"no clip has the split 'test', which is scored: .* --folds 10"):
        make_folds(clips, task="multiclass")

"""Thresholds of tags: the best there are, chosen on validation, and kept with the epoch that they were chosen in."""

from __future__ import annotations

import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import f1_score

from audiocls.__main__ import main
from audiocls.classifier import Classifier
from audiocls.predict import decided, said
from audiocls.thresholds import best_thresholds
from tests.test_exact import begin, end

CONF = Path(__file__).parents[1] / "conf"
TAGS = ["high", "low", "mid", "tone"]

pytestmark = pytest.mark.usefixtures("undrawn_throughout")


# --- the best there are ---


@pytest.mark.parametrize("levels", [5, 1000])
def test_no_other_threshold_has_a_higher_f1(levels: int) -> None:
    generator = torch.Generator().manual_seed(levels)
    prediction = (torch.rand(30, 4, generator=generator) * levels).round() / levels  # with 5 levels, many are equal
    target = (torch.rand(30, 4, generator=generator) < 0.3).long()
    chosen = best_thresholds(prediction, target)
    for tag in range(4):
        truth, values = target[:, tag], prediction[:, tag].double()
        best = max(f1_score(truth, values >= threshold) for threshold in values.unique())
        assert f1_score(truth, values >= chosen[tag]) == pytest.approx(best, abs=1e-12)


def test_the_last_digit_of_a_prediction_decides_nothing() -> None:
    prediction = torch.tensor([[0.9], [0.6], [0.2], [0.1]])
    chosen = best_thresholds(prediction, torch.tensor([[1], [1], [0], [0]]))
    assert chosen.tolist() == pytest.approx([0.4])


def test_a_tag_that_every_clip_has_is_always_there() -> None:
    prediction = torch.tensor([[0.9, 0.3], [0.6, 0.0]])
    chosen = best_thresholds(prediction, torch.ones(2, 2))
    assert chosen.tolist() == pytest.approx([0.3, 0.0])
    assert (prediction >= chosen).all()


def test_a_tag_without_a_clip_is_decided_at_one_half() -> None:
    assert best_thresholds(torch.rand(5, 2), torch.zeros(5, 2)).tolist() == [0.5, 0.5]


# --- chosen in training ---


def arguments(tones: Path, table: Path, run_dir: Path, *more: str) -> list[str]:
    """Three epochs on tags of the tones."""
    return [
        "fit", "--config", str(CONF / "digits.yaml"), "--data", "AudioTable", "--data.store", str(tones),
        "--data.root", str(table), "--data.task", "multilabel", "--data.batch_size", "8", "--data.clip_seconds", "0.2",
        "--trainer.max_epochs", "3", "--trainer.accelerator", "cpu", "--trainer.logger", "false",
        "--trainer.enable_progress_bar", "false", "--run_dir", str(run_dir), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def table(tone_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tags of the tones, each clip a group; no validation clip is "mid", every clip is a "tone"."""
    rows = []
    for file in sorted(tone_files.rglob("*.wav")):
        pitch, number = file.stem.split("_")
        split = {"7": "validation", "8": "validation", "9": "test", "6": "test"}.get(number, "train")
        split = "test" if (pitch, split) == ("mid", "validation") else split
        label = "tone|" + pitch
        rows.append({"path": f"{pitch}/{file.name}", "label": label, "split": split, "group": pitch + number})
    path = tmp_path_factory.mktemp("tags") / "tags.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(tones: Path, table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run."""
    run_dir = tmp_path_factory.mktemp("thresholds") / "run"
    assert main(arguments(tones, table, run_dir)) == 0
    return run_dir


def kept(run_dir: Path, name: str = "best") -> list[float] | None:
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)["audiocls"]["thresholds"]


def chosen_again(run_dir: Path, name: str) -> list[float]:
    """The best thresholds by the predictions of a checkpoint, on the validation split."""
    words = ["validate", "--run_dir", str(run_dir), "--ckpt_path", name, "--bootstrap_draws", "0"]
    assert main([*words, "--trainer.devices", "1", "--trainer.strategy", "auto"]) == 0
    rows = pd.read_csv(run_dir / "val_predictions.csv")
    prediction = torch.tensor(rows[[f"p({tag})" for tag in TAGS]].to_numpy())
    target = torch.tensor([[tag in labels.split("|") for tag in TAGS] for labels in rows["target"]])
    return best_thresholds(prediction, target).tolist()


def test_a_checkpoint_has_the_thresholds_of_its_own_epoch(trained: Path) -> None:
    for name in ("best", "last"):
        # six digits of a prediction are written
        assert kept(trained, name) == pytest.approx(chosen_again(trained, name), abs=1e-5)


def test_averaged_weights_have_thresholds_of_their_own_and_a_tag_that_validation_lacks_is_counted(
    tones: Path, table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A buffer would have been averaged, or be that of the weights that are not kept."""
    overlay = ["--config", str(CONF / "augment" / "ema.yaml")]
    words = arguments(tones, table, tmp_path / "run")
    assert main([*words[:3], *overlay, *words[3:]]) == 0
    said_once = [line for line in caplog.messages if "no clip in validation" in line]
    assert said_once == ["1 of 4 tags have no clip in validation and are decided at 0.5"]
    thresholds = kept(tmp_path / "run", "last") or []
    assert thresholds[TAGS.index("mid")] == 0.5
    assert thresholds == pytest.approx(chosen_again(tmp_path / "run", "last"), abs=1e-5)


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_choose_over_the_clips_of_both(tones: Path, table: Path, tmp_path: Path) -> None:
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.max_epochs", "1"]
    assert end(begin(tmp_path, *arguments(tones, table, tmp_path / "run", *two))) == 0
    assert kept(tmp_path / "run", "last") == pytest.approx(chosen_again(tmp_path / "run", "last"), abs=1e-5)


@pytest.fixture(scope="module")
def printed(trained: Path) -> str:
    """What the test of the run said, which has written its tables."""
    with redirect_stdout(StringIO()) as out:
        assert main(["test", "--run_dir", str(trained)]) == 0
    return out.getvalue()


def test_the_test_is_decided_at_them(trained: Path, printed: str) -> None:
    assert "95 % bootstrap intervals: 1,000 draws of 8 groups (8 clips), rather too narrow for so few\n" in printed
    classes = pd.read_csv(trained / "test_classes.csv").set_index("class")
    assert classes["threshold"].tolist() == pytest.approx(kept(trained), rel=1e-7)  # float32's digits
    rows = pd.read_csv(trained / "test_predictions.csv", keep_default_na=False)
    target, said_there = (
        np.array([[tag in labels.split("|") for tag in TAGS] for labels in rows[column]])
        for column in ("target", "prediction")
    )
    assert (said_there == (rows[[f"p({tag})" for tag in TAGS]].to_numpy() >= np.array(kept(trained)))).all()
    scores = pd.read_csv(trained / "test_metrics.csv").iloc[-1]
    assert scores["test/classes_scored"] == 3  # every clip is a tone: that tag has no negative
    assert 0 <= scores["test/average_precision_macro"] <= 1
    assert scores["test/f1_micro"] == pytest.approx(f1_score(target, said_there, average="micro"), rel=1e-6)
    ends = pd.read_csv(trained / "test_intervals.csv").set_index("score")
    assert {"auroc_macro", "average_precision_macro", "f1_macro", "f1_micro"} <= set(ends.index)
    assert (ends["low"] <= ends["value"] + 1e-6).all()
    assert (ends["value"] <= ends["high"] + 1e-6).all()
    assert ends.loc["f1_micro", ["draws", "drawn", "unit"]].tolist() == [1000, 8, "groups"]


@pytest.mark.usefixtures("printed")
def test_prediction_says_the_tags_that_the_test_says(trained: Path, tone_files: Path, tmp_path: Path) -> None:
    tested = pd.read_csv(trained / "test_predictions.csv", keep_default_na=False)
    files = [str(tone_files / clip) for clip in tested["clip_id"]]
    assert main(["predict", "--run_dir", str(trained), *files, "--out", str(tmp_path / "out.csv")]) == 0
    predicted = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert predicted.columns.tolist() == ["path", "labels", *TAGS]
    assert predicted["labels"].tolist() == tested["prediction"].tolist()
    for tag in TAGS:
        # decoded anew and scored alone, in float32
        assert predicted[tag].tolist() == pytest.approx(tested[f"p({tag})"].tolist(), abs=1e-5)


def test_what_is_printed_of_a_file_begins_with_its_tags(trained: Path) -> None:
    classifier = Classifier.load_from_checkpoint(trained / "checkpoints" / "best.ckpt", weights_only=True)
    probability, thresholds = np.array([0.1, 0.8, 0.3, 0.0]), np.array([0.1, 0.9, 0.2, 0.5])
    tags = decided(probability, task="multilabel", class_names=TAGS, thresholds=thresholds)
    assert said(probability, tags, classifier, n=2) == "high|mid  (low 0.800  mid 0.300)"
    assert said(np.zeros(4), [""], classifier, n=1) == "no tag  (high 0.000)"


def test_a_run_that_goes_on_keeps_them_until_it_has_chosen_others(trained: Path) -> None:
    path = trained / "checkpoints" / "last.ckpt"
    classifier = Classifier.load_from_checkpoint(path, weights_only=True)
    saved: dict = {}
    classifier.on_save_checkpoint(saved)
    assert saved["audiocls"]["thresholds"] == kept(trained, "last")  # to the last bit


def test_a_checkpoint_of_before_there_were_any_is_decided_at_one_half(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(trained, tmp_path / "old")
    path = tmp_path / "old" / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    del content["audiocls"]["thresholds"]
    torch.save(content, path)
    saved, intervals = path.read_bytes(), tmp_path / "old" / "test_intervals.csv"
    intervals.touch()
    assert main(["test", "--run_dir", str(tmp_path / "old"), "--bootstrap_draws", "0"]) == 0
    assert path.read_bytes() == saved
    assert not intervals.exists()  # those of an earlier test are none of this one
    assert "the model holds no thresholds chosen in training: every tag is decided at 0.5" in caplog.messages
    assert pd.read_csv(tmp_path / "old" / "test_classes.csv")["threshold"].tolist() == [0.5] * 4

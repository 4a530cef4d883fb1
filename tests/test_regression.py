"""Numbers to be predicted, whatever their unit: beats a minute, hertz, ratings."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from audiocls.classifier import Classifier
from audiocls.distillation import Distillation
from audiocls.frontends import MelSpectrogram
from audiocls.heads import ConvNet
from audiocls.trained import load
from tests.conftest import TONES, make_store
from tests.test_cli import fit, run

PLAIN = ["--model.augment", "null"]

pytestmark = pytest.mark.usefixtures("undrawn_throughout")

Rated = Callable[[float, float], list[str]]


@pytest.fixture(scope="module")
def rated(tone_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Rated:
    """Options for the three tones with two numbers each: the pitch, by a unit and from an origin, and its square."""
    folder = tmp_path_factory.mktemp("rated")
    paths = sorted(path.relative_to(tone_files).as_posix() for path in tone_files.rglob("*.wav"))
    split = ["train", "train", "train", "validation", "test"] * 6

    def made(unit: float, origin: float) -> list[str]:
        pitch = [TONES[path.split("/")[0]] / 1000 for path in paths]
        label = [f"{unit * p + origin!r}|{p * p!r}" for p in pitch]
        table = tone_files / f"rated-{unit}.csv"
        pd.DataFrame({"path": paths, "label": label, "split": split}).to_csv(table, index=False)
        store = folder / "store"
        if not store.exists():
            make_store(table, store, sample_rate=8000)
        return [
            "--data", "AudioTable", "--data.root", str(table), "--data.store", str(store),
            "--data.task", "regression", "--data.targets", "[pitch,square]",
        ]  # fmt: skip

    return made


@pytest.fixture(scope="module")
def hertz_run(rated: Rated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run on pitches in Hz, 200 above what they are."""
    run_dir = tmp_path_factory.mktemp("hertz") / "run"
    assert fit(run_dir, run_dir, *PLAIN, *rated(1000.0, 200.0)) == 0
    return run_dir


def test_a_unit_changes_the_numbers_and_not_what_is_learnt(rated: Rated, hertz_run: Path, tmp_path: Path) -> None:
    """Hertz were a thousand away at first, by an optimizer's steps hardly to be reached, and the square was nothing."""
    assert fit(tmp_path, tmp_path / "run", *PLAIN, *rated(1.0, 0.0)) == 0
    runs = [tmp_path / "run", hertz_run]
    kilohertz, hertz = (pd.read_csv(run_dir / "val_predictions.csv") for run_dir in runs)
    pitch = "prediction(pitch)"
    np.testing.assert_allclose(hertz[pitch], 1000 * kilohertz[pitch] + 200, atol=2)  # their deviation is 500
    np.testing.assert_allclose(hertz["prediction(square)"], kilohertz["prediction(square)"], atol=2e-3)
    losses = [pd.read_csv(run_dir / "metrics.csv")[["val/loss", "train/loss"]].to_numpy() for run_dir in runs]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)


def test_half_precision_rounded_the_targets_and_wrote_nothing_of_tags(rated: Rated, tmp_path: Path) -> None:
    half = [*rated(1000.0, 200.0), "--trainer.precision", "bf16-true", "--trainer.max_epochs", "1"]
    assert fit(tmp_path, tmp_path / "run", *PLAIN, *half) == 0
    written = pd.read_csv(tmp_path / "run" / "val_predictions.csv")["target(pitch)"]
    assert set(written) == {frequency + 200 for frequency in TONES.values()}  # 1700 was 1696


def test_the_unit_goes_with_the_model(rated: Rated, hertz_run: Path, tmp_path: Path, tone_files: Path) -> None:
    run_dir = shutil.copytree(hertz_run, tmp_path / "run")
    model = load(run_dir / "checkpoints" / "best.ckpt")
    pitches = torch.tensor(list(TONES.values())) + 200  # of each as many clips are trained on
    assert model.origin[0].item() == pytest.approx(pitches.mean().item())
    assert model.unit[0].item() == pytest.approx(pitches.std(correction=0).item())
    table = tmp_path / "said.csv"
    assert run("predict", "--run_dir", str(run_dir), str(tone_files / "low"), "--out", str(table)) == 0
    assert pd.read_csv(table)["pitch"].between(200, 2000).all()  # and not about 0, as a head says it
    other = ["--data.root", rated(5.0, 0.0)[3], "--trainer.max_epochs", "3"]
    assert run("fit", "--run_dir", str(run_dir), "--ckpt_path", "last", *other) == 0
    assert torch.equal(load(run_dir / "checkpoints" / "last.ckpt").origin, model.origin), "its weights are in that unit"


def test_a_model_of_before_has_no_unit() -> None:
    model = regressor()
    model.origin, model.unit = torch.tensor([3.0]), torch.tensor([2.0])
    model.on_load_checkpoint({"audiocls": {"class_names": ["pitch"]}})
    assert (model.origin.tolist(), model.unit.tolist()) == ([0.0], [1.0])


def test_a_number_that_is_always_the_same_has_the_unit_one() -> None:
    model = regressor()
    clips = SimpleNamespace(targets=torch.full((4, 1), 120.0))
    model._trainer = SimpleNamespace(datamodule=SimpleNamespace(clips=lambda split: clips))  # pyright: ignore
    model.setup("fit")
    assert (model.origin.tolist(), model.unit.tolist()) == ([120.0], [1.0])


def test_a_teacher_is_heeded_alike_in_any_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    distillation, unit = Distillation("runs/teacher"), torch.tensor([1.0, 50.0])
    distillation._task = "regression"
    student, teacher, loss, waveform = torch.randn(4, 2), torch.randn(4, 2), torch.tensor(0.5), torch.zeros(4, 1, 8)
    values = []
    for scale in (torch.ones(2), unit):
        monkeypatch.setattr(distillation, "soft_targets", lambda _, scale=scale: teacher * scale)
        values.append(distillation(loss, student * scale, waveform, unit=scale).item())
    assert values[0] == pytest.approx(values[1])


def regressor() -> Classifier:
    frontend = MelSpectrogram(8000, n_fft=256, n_mels=16)
    return Classifier(frontend, ConvNet, num_classes=1, class_names=["pitch"], task="regression")

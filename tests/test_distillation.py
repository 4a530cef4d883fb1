"""What a student learns from a teacher: the loss by its formula, and runs of both on the tiny set."""

from __future__ import annotations

import copy
import functools
import logging
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from audiocls.augment import CutMixTime, Gain, Mixup
from audiocls.classifier import Classifier
from audiocls.distillation import Distillation, distillation_loss, resampled, softened
from audiocls.frontends import MelSpectrogram
from audiocls.heads import ConvNet
from audiocls.metrics import Task
from tests.conftest import TONES
from tests.test_cli import CONF, fit, run

QUIET = ["--trainer.logger", "false"]
RARELY_SCORED = ["--trainer.check_val_every_n_epoch", "10"]
DISTIL = ["--config", str(CONF / "augment" / "distillation.yaml")]
MIXED = ["--config", str(CONF / "augment" / "mixup.yaml")]
CONSTANT = ["--model.lr_scheduler", "torch.optim.lr_scheduler.ConstantLR"]  # of a run of any length

pytestmark = pytest.mark.usefixtures("undrawn_throughout")


def taught_by(*teachers: Path | str, weight: float = 0.9) -> list[str]:
    """Options of a fit with teachers."""
    named = str([str(teacher) for teacher in teachers]) if len(teachers) > 1 else str(teachers[0])
    return [*QUIET, *DISTIL, "--model.distill.teacher", named, "--model.distill.weight", str(weight)]


@pytest.fixture(scope="module")
def teacher(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that knows the three pitches well, from spectrograms other than the student's."""
    run_dir = tmp_path_factory.mktemp("teacher") / "run"
    settings = ["--trainer.max_epochs", "20", "--model.frontend.n_mels", "32", "--model.augment", "null"]
    assert fit(tones, run_dir, *QUIET, *RARELY_SCORED, *settings) == 0
    return run_dir


@pytest.fixture(scope="module")
def student(tones: Path, teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that has learnt from a copy of it, which is gone by now."""
    folder = tmp_path_factory.mktemp("student")
    shutil.copytree(teacher, folder / "teacher")
    assert fit(tones, folder / "run", *taught_by(folder / "teacher"), *CONSTANT, *MIXED) == 0
    shutil.rmtree(folder / "teacher")
    return folder / "run"


def best(run_dir: Path) -> Path:
    return run_dir / "checkpoints" / "best.ckpt"


def kept(run_dir: Path, name: str = "best") -> dict[str, Any]:
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)


@functools.cache  # tests only listen to it
def load(path: Path) -> Classifier:
    return Classifier.load_from_checkpoint(path, map_location="cpu", weights_only=True)


def pupil(*, task: Task = "multiclass", names: tuple[str, ...] = tuple(sorted(TONES)), rate: int = 8000, **settings):
    """A student that has seen nothing."""
    frontend = MelSpectrogram(rate, n_fft=256, n_mels=16)
    return Classifier(frontend, ConvNet, num_classes=len(names), class_names=list(names), task=task, **settings)


def tone(frequency: float, *, rate: int = 8000, seconds: float = 0.2) -> Tensor:
    return 0.3 * torch.sin(2 * torch.pi * frequency * torch.arange(round(rate * seconds)) / rate)[None, None]


# --- the loss ---


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_several_classes_by_the_formula(temperature: float) -> None:
    student, teacher = torch.randn(2, 5, 4).double()
    q, p = ((np.exp(z / temperature).T / np.exp(z / temperature).sum(1)).T for z in (student.numpy(), teacher.numpy()))
    expected = temperature**2 * (p * np.log(p / q)).sum(1).mean()
    soft = softened(teacher, task="multiclass", temperature=temperature)
    value = distillation_loss(student, soft, task="multiclass", temperature=temperature)
    assert value.item() == pytest.approx(expected, rel=1e-5)  # float32


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_several_labels_by_the_formula(temperature: float) -> None:
    student, teacher = torch.randn(2, 5, 4).double()
    q, p = (1 / (1 + np.exp(-z.numpy() / temperature)) for z in (student, teacher))
    expected = temperature**2 * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))).mean()
    soft = softened(teacher, task="multilabel", temperature=temperature)
    value = distillation_loss(student, soft, task="multilabel", temperature=temperature)
    assert value.item() == pytest.approx(expected, rel=1e-5)  # float32


def test_numbers_by_the_squared_error_at_any_temperature() -> None:
    student, teacher = torch.randn(2, 5, 4)
    soft = softened(teacher, task="regression", temperature=7.0)
    value = distillation_loss(student, soft, task="regression", temperature=7.0)
    assert value.item() == pytest.approx((student - teacher).square().mean().item())


TASKS: list[Task] = ["multiclass", "multilabel", "regression"]


@pytest.mark.parametrize("task", TASKS)
def test_who_agrees_with_the_teacher_has_nothing_to_learn(task: Task) -> None:
    logits = (10 * torch.randn(5, 4)).requires_grad_()
    value = distillation_loss(logits, softened(logits.detach(), task=task, temperature=2.0), task=task, temperature=2.0)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-5)  # a difference of sums in float32
    assert cast(Tensor, logits.grad).abs().max() < 1e-6


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_teacher_that_is_sure_gives_no_nan(task: Task) -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    soft = softened(torch.tensor([[1e4, -1e4, 0.0], [0.0, 1e4, -1e4]]), task=task, temperature=1.0)
    assert {0.0, 1.0} <= {*soft.flatten().tolist()}
    value = distillation_loss(logits, soft, task=task, temperature=1.0)
    value.backward()
    assert value.isfinite()
    assert cast(Tensor, logits.grad).isfinite().all()


def test_at_high_temperature_the_gradient_is_the_difference_of_the_logits() -> None:
    """Section 2 of the paper: (z - v) / N for logits of mean zero, kept from vanishing by the squared temperature."""
    z, v = torch.randn(2, 6, 4).double()
    z, v = ((logits - logits.mean(1, keepdim=True)).float().requires_grad_() for logits in (z, v))
    soft = softened(v.detach(), task="multiclass", temperature=200.0)
    distillation_loss(z, soft, task="multiclass", temperature=200.0).backward()
    expected = (z - v).detach() / 4 / 6
    # first order in 1 / T, and T times the rounding of probabilities near 1/4
    assert cast(Tensor, z.grad) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"teacher": []}, "teacher must name a checkpoint or more, got none"),
        ({"teacher": "a", "weight": 0}, "weight must be above 0 and at most 1, got 0"),
        ({"teacher": "a", "weight": 1.5}, "weight must be above 0 and at most 1, got 1.5"),
        ({"teacher": "a", "temperature": 0}, "temperature must be above 0, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Distillation(**settings)


# --- teachers ---


def prepared(student: Classifier, *paths: Path, temperature: float = 1.0) -> Distillation:
    distillation = Distillation([str(path) for path in paths], temperature=temperature)
    distillation.prepare(student, load)
    return distillation


def test_classes_in_another_order_are_brought_into_the_students(teacher: Path) -> None:
    known = load(best(teacher))
    assert known.class_names == ["high", "low", "mid"]
    heard = prepared(pupil(names=("mid", "high", "low")), best(teacher)).soft_targets(tone(TONES["low"]))
    answer = known.predict_windows(tone(TONES["low"]))
    assert torch.equal(heard, answer[:, [2, 0, 1]])
    assert len({*answer[0].tolist()}) == 3


def test_a_teacher_at_another_rate_hears_the_same_tone(teacher: Path) -> None:
    known = load(best(teacher))
    fine = prepared(pupil(rate=16000), best(teacher))
    for frequency in TONES.values():
        pcm = (tone(frequency, rate=16000) * 32768).round().to(torch.int16)
        heard, answer = fine.soft_targets(pcm), known.predict_windows(tone(frequency))
        assert heard == pytest.approx(answer, abs=0.05)  # the filter rings where the tone begins and ends
    assert resampled(tone(300.0), 8000, 16000)[..., 200:-200] == pytest.approx(
        tone(300.0, rate=16000)[..., 200:-200], abs=1e-3
    )  # torchaudio's filter of six zero crossings


def test_waveforms_are_resampled_in_full_precision_under_autocast() -> None:
    x = tone(500.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = resampled(x, 8000, 11025)
    assert torch.equal(under, resampled(x, 8000, 11025))


def test_a_teacher_at_a_higher_rate_is_warned_of(teacher: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "audiocls")
    prepared(pupil(rate=4000), best(teacher))
    assert "was trained at 8000 Hz and hears nothing above 2000 Hz here" in caplog.text


def test_several_teachers_are_averaged(teacher: Path, student: Path) -> None:
    x = tone(TONES["mid"])
    one, other = (prepared(pupil(), best(folder)).soft_targets(x) for folder in (teacher, student))
    assert not torch.allclose(one, other, atol=1e-3)
    both = prepared(pupil(), best(teacher), best(student)).soft_targets(x)
    assert torch.allclose(both, (one + other) / 2, atol=1e-7)


def test_a_teacher_learns_nothing_and_is_no_part_of_the_student(teacher: Path) -> None:
    student = pupil(distill=Distillation(str(teacher)))
    before = [name for name, _ in student.named_parameters()]
    student.setup("fit")
    assert [name for name, _ in student.named_parameters()] == before
    assert not any("distill" in name for name in student.state_dict())
    distillation = cast(Distillation, student.distill)
    known = cast(Classifier, distillation._teachers[0])
    student.train()
    assert not any(part.training for part in known.modules())
    x = tone(500.0)
    distillation(student.loss(student(x), torch.tensor([0])), student(x), x).backward()
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in known.parameters())
    assert any(parameter.grad is not None for parameter in student.parameters())
    student.to(torch.float64)  # and so to another device
    assert known.head.output.weight.dtype == torch.float64


def test_a_copy_of_a_student_leaves_its_teachers_out(teacher: Path) -> None:
    """Without the command line the hyper-parameters of a checkpoint hold the object itself."""
    distillation = prepared(pupil(), best(teacher))
    copied = pickle.loads(pickle.dumps(distillation))  # noqa: S301 - our own
    assert copied._teachers == copied._orders == []
    assert len(distillation._teachers) == 1
    assert copied.record == distillation.record


def test_loading_a_teacher_draws_no_number_of_the_runs(teacher: Path) -> None:
    student = pupil(distill=Distillation(str(teacher)))
    state = torch.get_rng_state()
    student.setup("fit")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mix", [Mixup(), None], ids=["mixed", "not mixed"])
def test_the_teacher_hears_what_the_student_hears(teacher: Path, mix: Mixup | None) -> None:
    augment = [Gain(probability=1.0), *([mix] if mix else [])]
    student = pupil(augment=augment, distill=Distillation(str(teacher)))
    student.setup("fit")
    student.trainer = cast(Any, SimpleNamespace(global_step=0, log_every_n_steps=1000))
    distillation = cast(Distillation, student.distill)
    seen: dict[str, Tensor] = {}
    student.frontend.register_forward_pre_hook(lambda part, inputs: seen.update(student=inputs[0]))
    cast(Classifier, distillation._teachers[0]).register_forward_pre_hook(
        lambda part, inputs: seen.update(teacher=inputs[0])
    )
    pcm = (32768 * torch.cat([tone(300.0), tone(1500.0), tone(700.0)])).round().to(torch.int16)
    batch = SimpleNamespace(waveform=pcm, target=torch.tensor([1, 0, 2]), clip=torch.arange(3))
    value = student.training_step(batch, 0)
    value.backward()
    assert value.isfinite()
    assert torch.equal(seen["student"], seen["teacher"])
    assert not torch.equal(seen["teacher"], pcm / 32768)
    terms = distillation.terms()
    assert value.item() == pytest.approx(0.1 * terms["task"].item() + 0.9 * terms["distill"].item(), rel=1e-6)


def test_the_terms_of_the_loss_are_means_of_clips_not_of_batches(teacher: Path) -> None:
    """The last batch of an epoch, which may be of a single clip, counted as much as a full one."""
    student = pupil(distill=Distillation(str(teacher)))
    student.setup("fit")
    distillation = cast(Distillation, student.distill)
    waveform = torch.cat([tone(300.0), tone(1500.0), tone(700.0)])
    logits = torch.zeros(3, 3)
    for n, value in ((3, 1.0), (1, 5.0)):
        distillation(torch.tensor(value), logits[:n], waveform[:n])
    assert distillation.terms()["task"] == 2


# --- what does not fit ---


def test_mixtures_behind_the_frontend_are_refused(teacher: Path) -> None:
    with pytest.raises(ValueError, match="CutMixTime mixes spectrograms, of which a teacher hears nothing: set its st"):
        prepared(pupil(augment=[CutMixTime()]), best(teacher))
    prepared(pupil(augment=[CutMixTime(stage="waveform")]), best(teacher))


@pytest.mark.parametrize(
    ("student", "says"),
    [
        (lambda: pupil(task="multilabel"), "was trained for multiclass, and the data's task is multilabel: give one"),
        (
            lambda: pupil(names=("high", "low", "noise")),
            "trained on other classes than the data has: only the teacher has 'mid', only the data has 'noise'; give",
        ),
        (
            lambda: Classifier(
                MelSpectrogram(8000, n_mels=16), lambda n_bins, n: ConvNet(n_bins, n, n_channels=2),
                num_classes=3, class_names=sorted(TONES),
            ),
            "was trained on audio of 1 channels, and the student is built for 2: give one",
        ),
    ],
    ids=["task", "classes", "channels"],
)  # fmt: skip
def test_a_teacher_that_does_not_fit_is_refused(student: Callable[[], Classifier], says: str, teacher: Path) -> None:
    with pytest.raises(ValueError, match=says):
        prepared(student(), best(teacher))


def test_a_teacher_that_is_not_there_or_no_checkpoint_ends_in_one_line(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.ckpt"
    text.write_text("no checkpoint")
    assert fit(tones, tmp_path / "run", *taught_by(text)) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"audiocls: error: {text} cannot be read as a checkpoint")
    assert err.count("\n") == 1
    for named, says in [
        ("nowhere", "model.distill.teacher 'nowhere': there is no nowhere; give a checkpoint, or the folder of a run"),
        (str(tmp_path), f"there is no {tmp_path}/checkpoints/best.ckpt; give a checkpoint"),
    ]:
        with pytest.raises(ValueError, match=re.escape(says)) as caught:
            prepared(pupil(), Path(named))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            [*DISTIL, "--model.distill.weight", "3"],
            "weight must be above 0 and at most 1, got 3.0: leave model.distill",
        ),
        (["--model.loss", "audiocls.losses.CrossEntropy", "--model.loss.label_smoothing", "3"], "label_smoothing must"),
        (["--model.augment+=audiocls.augment.Mixup", "--model.augment.alpha", "0"], "alpha must be above 0, got 0.0"),
    ],
)
def test_a_value_out_of_range_ends_in_one_line_where_the_class_may_be_left_out(
    settings: list[str], says: str, tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser wraps what the class says in an error of its own, which was printed with its traceback."""
    assert fit(tones, tmp_path / "run", *QUIET, *settings) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("Seed set", "GPU"))]
    assert len(errors) == 1
    assert errors[0].startswith(f"audiocls: error: {says}")


# --- runs ---


def test_the_checkpoint_of_a_student_needs_no_teacher(student: Path, tones: Path, tone_files: Path) -> None:
    content = kept(student)
    assert set(content["state_dict"]) == set(kept(student, "last")["state_dict"])
    assert not [name for name in content["state_dict"] if not name.startswith(("frontend.", "head."))]
    record = content["audiocls"]["teachers"]
    assert [Path(part["path"]).name for part in record] == ["best.ckpt"]
    assert len(record[0]["sha256"]) == 64
    assert not Path(record[0]["path"]).exists()
    assert load(best(student)).distill is not None
    assert run("test", "--run_dir", str(student)) == 0
    assert run("predict", "--run_dir", str(student), str(next(tone_files.rglob("*.wav")))) == 0


def test_the_terms_of_the_loss_are_logged_apart(student: Path) -> None:
    scores = pd.read_csv(student / "metrics.csv")
    sums = 0.1 * scores["train/loss_task"] + 0.9 * scores["train/loss_distill"]
    assert scores["train/loss"].tolist() == pytest.approx(sums.tolist(), rel=1e-5)  # means in float32
    assert (scores["train/loss_distill"] > 0).all()


def test_a_student_learns_from_the_teacher_alone(teacher: Path, tones: Path, tone_files: Path, tmp_path: Path) -> None:
    """The labels of training are wrong, each the next class; those of validation are right."""
    following = {"high": "low", "low": "mid", "mid": "high"}
    rows = []
    for file in sorted(tone_files.rglob("*.wav")):
        name, number = file.stem.split("_")
        split = {"7": "validation", "8": "validation", "9": "test"}.get(number, "train")
        label = following[name] if split == "train" else name
        rows.append({"path": f"{name}/{file.name}", "label": label, "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "wrong.csv", index=False)
    data = ["--data", "AudioTable", "--data.root", str(tmp_path / "wrong.csv"), "--trainer.max_epochs", "20"]
    data += ["--model.augment", "null", *RARELY_SCORED]
    last = teacher / "checkpoints" / "last.ckpt"
    assert fit(tones, tmp_path / "taught", *data, *taught_by(last, weight=1.0)) == 0
    assert pd.read_csv(tmp_path / "taught" / "metrics.csv")["val/accuracy"].iloc[-1] > 0.8  # near 0 by the labels


def test_a_resumed_student_has_the_weights_of_one_that_was_not(
    teacher: Path, student: Path, tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taught = [*taught_by(teacher), *CONSTANT, *MIXED]
    assert fit(tones, tmp_path, *taught, "--trainer.max_epochs", "1") == 0
    caplog.set_level(logging.WARNING, "audiocls")
    assert fit(tones, tmp_path, *taught, "--ckpt_path", "last") == 0
    assert "goes on with other targets" not in caplog.text
    whole, parts = kept(student, "last"), kept(tmp_path, "last")
    assert whole["global_step"] == parts["global_step"] > 0
    assert all(torch.equal(whole["state_dict"][name], parts["state_dict"][name]) for name in whole["state_dict"])
    (one,), (other,) = (run["audiocls"]["teachers"] for run in (whole, parts))
    assert one["sha256"] == other["sha256"]
    assert other["path"] == str(best(teacher))


def test_a_teacher_that_has_changed_since_is_warned_of(
    teacher: Path, student: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taught = pupil(distill=Distillation(str(teacher)))
    checkpoint = {"audiocls": kept(student)["audiocls"]}
    caplog.set_level(logging.WARNING, "audiocls")
    taught.on_load_checkpoint(checkpoint)  # for a test: no teacher is loaded
    taught.setup("fit")
    taught.on_load_checkpoint(checkpoint)  # the copy of a file is the same teacher
    assert caplog.text == ""
    other = copy.deepcopy(checkpoint)
    other["audiocls"]["teachers"][0]["sha256"] = "0" * 64
    taught.on_load_checkpoint(other)
    assert "is not what the checkpoint was taught by" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        ["--trainer.precision", "bf16-true"],
        ["--trainer.precision", "bf16-mixed", "--config", str(CONF / "augment" / "ema.yaml")],
    ],
    ids=["half", "half in part and averaged"],
)
def test_students_train_in_any_precision_and_averaged(
    settings: list[str], teacher: Path, tones: Path, tmp_path: Path
) -> None:
    assert fit(tones, tmp_path / "run", *taught_by(teacher), *settings, "--trainer.max_epochs", "1") == 0
    scores = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert scores[["train/loss", "train/loss_distill"]].notna().all(axis=None)
    names = {name.removeprefix("module.") for name in kept(tmp_path / "run", "last")["state_dict"]}
    assert not [name for name in names if not name.startswith(("frontend.", "head."))]

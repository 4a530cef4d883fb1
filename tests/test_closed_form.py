"""LinearDiscriminants: the last layer is what the formula says of all clips, whatever happens on the way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from torch import Tensor
from torch.nn.functional import one_hot

from audiocls.__main__ import main
from audiocls.augment import Mixup
from audiocls.classifier import Classifier
from audiocls.closed_form import LinearDiscriminants, linear_discriminants
from audiocls.frontends import MelSpectrogram
from audiocls.frontends.normalization import NoNormalization
from audiocls.heads import ConvNet, Moments
from datamodules import AudioFolder
from tests.test_exact import begin, end

CONF = Path(__file__).parents[1] / "conf"

pytestmark = pytest.mark.usefixtures("undrawn_throughout")


def sums_of(vectors: Tensor, target: Tensor) -> dict[str, Tensor]:
    of_class, vectors = one_hot(target).double(), vectors.double()
    return {"counts": of_class.sum(0), "sums": of_class.T @ vectors, "products": vectors.T @ vectors}


def arguments(tones: Path, run_dir: Path, *more: str) -> list[str]:
    """Of 18 clips for training, three batches of six: all of them in each epoch."""
    return [
        "fit", "--config", str(CONF / "philharmonia_moments.yaml"), "--data.store", str(tones),
        "--data.group_pattern", "null", "--data.sample_rate", "8000", "--data.batch_size", "6",
        "--data.clip_seconds", "0.2", "--model.frontend.n_fft", "256", "--model.frontend.hop_length", "128",
        "--model.frontend.n_mels", "24", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu",
        "--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--run_dir", str(run_dir), *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("closed_form") / "run"
    assert main(arguments(tones, run_dir, "--trainer.max_epochs", "4")) == 0
    return run_dir


def layer(run_dir: Path) -> tuple[Tensor, Tensor]:
    weights = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return weights["head.output.weight"], weights["head.output.bias"]


@pytest.mark.parametrize("shrinkage", [1e-6, 0.05, 1.0])
def test_formula_is_scikit_learns_on_scaled_features(shrinkage: float) -> None:
    generator = np.random.default_rng(0)
    target = generator.choice(3, size=200, p=[0.6, 0.3, 0.1])
    vectors = generator.normal(size=(200, 12)) @ generator.normal(size=(12, 12)) + target[:, None]
    vectors *= 10.0 ** np.arange(-6, 6)  # units
    scale = vectors.std(0)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage).fit(vectors / scale, target)
    weight, bias = linear_discriminants(**sums_of(torch.tensor(vectors), torch.tensor(target)), shrinkage=shrinkage)
    logits = torch.tensor(vectors) @ weight.T + bias
    expected = torch.tensor(theirs.decision_function(vectors / scale))
    # a constant of the vector is free
    torch.testing.assert_close(logits.log_softmax(1), expected.log_softmax(1), rtol=1e-6, atol=1e-6)


def test_a_feature_that_never_changes_says_nothing() -> None:
    vectors, target = torch.randn(60, 4), torch.arange(60) % 3
    without, _ = linear_discriminants(**sums_of(vectors[:, :3], target), shrinkage=0.2)
    vectors[:, 3] = 7.0
    weight, _ = linear_discriminants(**sums_of(vectors, target), shrinkage=0.2)
    assert (weight[:, 3] == 0).all()
    assert without.argmax(0).equal(weight[:, :3].argmax(0))


def test_what_rounding_left_of_a_constant_counted_as_a_feature() -> None:
    """Summed batch by batch, 20,000 times 0.1 varied by 2e-17, and such a feature had half the weight of the others."""
    vectors, target = torch.randn(20_000, 3), torch.arange(20_000) % 3
    vectors[:, 0] += target
    vectors = torch.cat([vectors, torch.full((20_000, 2), 0.1)], dim=1)
    sums = {"counts": torch.zeros(3), "sums": torch.zeros(3, 5).double(), "products": torch.zeros(5, 5).double()}
    for part in torch.arange(20_000).split(37):
        for name, added in sums_of(vectors[part], target[part]).items():
            sums[name] = sums[name] + added
    weight, _ = linear_discriminants(**sums, shrinkage=0.05)
    assert weight[:, 3:].abs().max() < 1e-9
    assert weight[:, :3].abs().max() > 0.5


def test_clips_that_do_not_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="need clips of one class that differ"):
        linear_discriminants(**sums_of(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1])), shrinkage=0.1)


def test_layer_in_the_checkpoint_is_the_formula_of_all_clips(tones: Path, tmp_path: Path) -> None:
    # nothing is drawn: whole clips, each padded to the longest of them all
    assert main(arguments(tones, tmp_path / "run", "--model.augment", "null", "--data.clip_seconds", "0.6")) == 0
    model = Classifier.load_from_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    data = AudioFolder(store=str(tones), clip_seconds=0.6, padding="repeat", n_folds=5, fold=1, seed=0, batch_size=18)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    embedding = model.head.embedding(model.frontend(batch.waveform))
    weight, bias = linear_discriminants(**sums_of(embedding, batch.target), shrinkage=0.05)
    torch.testing.assert_close(
        layer(tmp_path / "run"), ((weight / 5).float(), (bias / 5).float()), rtol=1e-4, atol=1e-5
    )


def test_a_run_that_is_resumed_ends_as_one_that_was_not_stopped(trained: Path, tones: Path, tmp_path: Path) -> None:
    two, four = arguments(tones, tmp_path / "run"), ["--trainer.max_epochs", "4", "--ckpt_path", "last"]
    assert main(two) == 0
    assert not layer(trained)[0].equal(layer(tmp_path / "run")[0])
    assert main([*two, *four]) == 0
    assert all(map(torch.equal, layer(trained), layer(tmp_path / "run")))


def test_validation_and_test_score_the_solution(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pd.read_csv(trained / "metrics.csv")["val/accuracy"].tolist() == [1.0] * 4  # three pitches
    assert main(["test", "--run_dir", str(trained), "--trainer.enable_progress_bar", "false"]) == 0
    assert float(capsys.readouterr().out.split("accuracy")[1].split()[0]) == 1.0


def test_nothing_else_moves(tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    convnet = ["--model.head", "ConvNet", "--model.head.channels", "[4, 4]", "--model.optimizer", "torch.optim.SGD"]
    for name, lr in (("slow", "0.0"), ("fast", "10.0")):
        assert main(arguments(tones, tmp_path / name, *convnet, "--model.optimizer.lr", lr)) == 0
    slow, fast = (
        torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("slow", "fast")
    )
    assert all(slow[name].equal(fast[name]) for name in slow)
    assert "LinearDiscriminants solves the last layer alone" in caplog.text
    running = [value for name, value in slow.items() if name.endswith("running_mean")]
    assert running
    assert not any(mean.any() for mean in running)


def test_each_process_counts_the_clips_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Classifier(
        MelSpectrogram(8000, n_fft=256, n_mels=24, normalization=NoNormalization), Moments, num_classes=3
    )
    embedding, target = torch.randn(2, 6, model.head.embedding_dim), torch.arange(12).reshape(2, 6) % 3
    monkeypatch.setattr(model, "all_gather", lambda own: (embedding, target))  # what two processes have
    callback = LinearDiscriminants()
    callback._embedding = embedding[0]
    batch = SimpleNamespace(target=target[0])
    callback.on_train_batch_end(None, model, None, batch, 0)  # pyright: ignore[reportArgumentType]
    expected = sums_of(embedding.flatten(end_dim=1), target.flatten())
    torch.testing.assert_close(callback.state_dict(), expected)


@pytest.mark.slow
@pytest.mark.ddp
def test_two_processes_solve_as_one(tones: Path, tmp_path: Path) -> None:
    plain = ["--model.augment", "null", "--data.clip_seconds", "0.6"]  # each process would draw for itself
    assert main(arguments(tones, tmp_path / "one", *plain)) == 0
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.batch_size", "3"]
    assert end(begin(tmp_path, *arguments(tones, tmp_path / "two", *plain, *two))) == 0
    torch.testing.assert_close(layer(tmp_path / "one"), layer(tmp_path / "two"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"shrinkage": 0.0}, "shrinkage must be above 0 and at most 1, got 0.0"),
        ({"shrinkage": 1.5}, "shrinkage must be above 0 and at most 1, got 1.5"),
        ({"temperature": 0.0}, "temperature must be above 0, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LinearDiscriminants(**settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"task": "multilabel"},
            "LinearDiscriminants tells one class a clip, and the task is multilabel: leave it out",
        ),
        ({"augment": [Mixup()]}, "counts clips of one class each, and Mixup mixes them: leave it out of model.augment"),
        (
            {"head": lambda n_bins, n: ConvNet(n_bins, n, class_attention=True)},
            "solves a linear last layer, and that of ConvNet as it is set is ClassAttention: leave class_attention out",
        ),
    ],
)
def test_what_it_cannot_solve_is_refused(settings: dict[str, object], says: str) -> None:
    frontend = MelSpectrogram(8000, n_fft=256, n_mels=24, normalization=NoNormalization)
    model = Classifier(frontend, **{"head": Moments, "num_classes": 3, **settings})
    with pytest.raises(ValueError, match=says):
        LinearDiscriminants().setup(None, model, "fit")  # pyright: ignore[reportArgumentType]


def test_it_lets_go_of_the_model() -> None:
    model = Classifier(MelSpectrogram(8000, n_fft=256, n_mels=24), Moments, num_classes=3)
    callback = LinearDiscriminants()
    callback.setup(None, model, "fit")  # pyright: ignore[reportArgumentType]
    assert model.head.output._forward_pre_hooks
    for _ in range(2):
        callback.teardown(None, model, "fit")  # pyright: ignore[reportArgumentType]
    assert not model.head.output._forward_pre_hooks


def test_a_class_without_a_clip_is_named(tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # one batch an epoch, and of the 18 clips only one is in it
    assert main(arguments(tones, tmp_path / "run", "--data.batch_size", "1", "--trainer.limit_train_batches", "1")) == 2
    assert (
        "LinearDiscriminants needs a clip of every class in training, and there is none of" in capsys.readouterr().err
    )

"""Checkpoints that do not fit the data or the model, and windows that are too short for the head: one line each."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from audiocls.classifier import Classifier
from audiocls.complexity import least_seconds
from audiocls.frontends import MelSpectrogram, Waveform
from audiocls.heads import CNN6, FCN5, ConvNet, Head, KeywordCNN, MusicCRNN, MusicTaggingTransformer, SampleCNN
from audiocls.heads.map_pools import AdaptiveFrames
from audiocls.misfits import check_weights, class_difference
from tests.heads.small import SMALL
from tests.test_cli import CONF, ONE_EPOCH, RECIPE, fit, run

pytestmark = pytest.mark.usefixtures("undrawn_throughout")


@pytest.fixture(scope="module")
def trained(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoint of a run on the three tones."""
    run_dir = tmp_path_factory.mktemp("runs") / "tones"
    assert fit(tones, run_dir, *ONE_EPOCH) == 0
    return run_dir / "checkpoints" / "best.ckpt"


def only_line(captured: pytest.CaptureFixture[str]) -> str:
    """What is wrong, which must be all that stands in standard error beside what Lightning says of itself."""
    lines = [line for line in captured.readouterr().err.splitlines() if line.startswith("audiocls: error: ")]
    assert len(lines) == 1
    return lines[0]


# --- classes ---


@pytest.fixture
def other_classes(tone_files: Path, tmp_path: Path) -> list[str]:
    """Options for the same clips with a class of another name."""
    renamed = {"high": "high", "low": "low", "mid": "medium"}
    rows = []
    for file in sorted(tone_files.rglob("*.wav")):
        name, number = file.stem.split("_")
        split = {"8": "validation", "9": "test"}.get(number, "train")
        rows.append({"path": f"{name}/{file.name}", "label": renamed[name], "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "other.csv", index=False)
    return ["--data", "AudioTable", "--data.root", str(tmp_path / "other.csv")]


def test_a_checkpoint_of_other_classes_is_refused_by_every_command(
    trained: Path, tones: Path, other_classes: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says = (
        "audiocls: error: the checkpoint was trained on other classes than the data has: only the checkpoint has "
        "'mid', only the data has 'medium'; use the data it was trained on, or train anew by audiocls fit without "
        "--ckpt_path"
    )
    data = ["--config", RECIPE, *other_classes, "--data.store", str(tones), "--data.clip_seconds", "0.2"]
    for command in ("test", "validate", "fit"):
        assert run(command, *data, "--run_dir", str(tmp_path / "run"), "--ckpt_path", str(trained)) == 2
        assert only_line(capsys) == says


@pytest.mark.parametrize(
    ("theirs", "ours", "says"),
    [
        (["a", "b", "c"], ["a", "b"], "only the checkpoint has 'c'"),
        (["a"], ["a", "b"], "only the data has 'b'"),
        (list("abcdefghij"), list("abc"), "only the checkpoint has 'd', 'e', 'f', 'g', 'h', 'i', … (7)"),
        (["a", "b", "c"], ["a", "c", "b"], "in another order, number 1 is 'b' in the checkpoint and 'c' in the data"),
    ],
)
def test_what_differs_is_named_and_not_what_is_the_same(theirs: list[str], ours: list[str], says: str) -> None:
    """Lists of fifty classes were cut to six, and those were the same in both."""
    assert class_difference(theirs, ours).endswith(says)


# --- settings ---


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            ["--config", str(CONF / "heads" / "music_crnn.yaml")],
            "model.head is audiocls.heads.ConvNet there and audiocls.heads.MusicCRNN here",
        ),
        (["--model.frontend.n_mels", "32"], "model: model.frontend.n_mels is 40 there and 32 here: go on"),
        (
            ["--model.head.channels", "[8, 8, 8, 8]"],
            "model: model.head.channels is [16, 32, 64, 128] there and [8, 8, 8, 8] here: go on",
        ),
        (
            ["--config", str(CONF / "frontends" / "spectrogram.yaml"), "--model.frontend.n_bins", "32"],
            "model.frontend is audiocls.frontends.MelSpectrogram there and audiocls.frontends.Spectrogram here: go on",
        ),
    ],
    ids=["head", "bins", "widths", "front-end"],
)
def test_a_run_is_not_gone_on_with_by_another_model(
    settings: list[str], says: str, trained: Path, tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Torch's list of all keys and shapes was printed, under a traceback."""
    assert fit(tones, tmp_path / "run", *ONE_EPOCH, *settings, "--ckpt_path", str(trained)) == 2
    said = only_line(capsys)
    assert said.startswith("audiocls: error: the weights of the checkpoint do not fit the model: ")
    assert says in said
    assert said.endswith("go on with the configuration of its run, or train anew without --ckpt_path")


@pytest.mark.parametrize(
    ("settings", "differs"),
    [
        (["--model.optimizer.lr", "0.001"], None),
        (
            ["--config", str(CONF / "frontends" / "spectrogram.yaml"), "--model.frontend.n_bins", "40"],
            "model.frontend is audiocls.frontends.MelSpectrogram there and audiocls.frontends.Spectrogram here",
        ),
    ],
    ids=["of training", "front-end"],
)
def test_settings_that_change_no_weight_are_free_and_said(
    settings: list[str],
    differs: str | None,
    trained: Path,
    tones: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run went on from weights that had learnt from another spectrogram, without a word."""
    assert fit(tones, tmp_path / "run", *settings, "--ckpt_path", str(trained)) == 0
    said = [record.getMessage() for record in caplog.records if record.name == "audiocls.misfits"]
    assert said == ([f"the weights of the checkpoint are gone on with by another model: {differs}"] if differs else [])


def classifier(*, num_classes: int = 3, **settings: Any) -> Classifier:
    head: Callable[[int, int], Head] = lambda n_bins, n: ConvNet(n_bins, n, **settings)  # noqa: E731
    return Classifier(MelSpectrogram(8000, n_fft=256, n_mels=16), head, num_classes=num_classes)


def test_without_recipes_the_weights_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"head\.output\.weight is \(4, \d+\) there and \(3, \d+\) here, head\.output\.b"
    ):
        classifier().load_state_dict(classifier(num_classes=4).state_dict())
    state = classifier().state_dict()
    del state["head.output.bias"]
    with pytest.raises(ValueError, match=r"head\.output\.bias is missing there and \(3,\) here: go on with"):
        classifier().load_state_dict(state)
    assert classifier().load_state_dict(state, strict=False).missing_keys == ["head.output.bias"]


def test_weights_that_fit_pass_whatever_the_recipes_say() -> None:
    weights = {"head.a": torch.zeros(2)}
    check_weights(weights, weights, recipe={"head": {"class_path": "a"}}, given_recipe={"head": {"class_path": "b"}})


def test_what_a_frontend_learns_is_left_to_it(caplog: pytest.LogCaptureFixture) -> None:
    """It says what to switch on; nothing is said here beside it."""
    there, here = ({"frontend": {"class_path": "a", "init_args": {"learnable": on}}} for on in (True, False))
    learnt = {"frontend.filterbank": torch.zeros(2), "head.a": torch.zeros(2)}
    check_weights({"head.a": torch.zeros(2)}, learnt, recipe=here, given_recipe=there)
    assert caplog.text == ""
    other = {"frontend": {"class_path": "b"}}
    with pytest.raises(ValueError, match=r"model: model\.frontend is a there and b here: go on"):
        check_weights({"head.a": torch.zeros(2)}, learnt, recipe=other, given_recipe=there)


# --- windows that are too short for the head ---


def mel(rate: int = 16000) -> MelSpectrogram:
    return MelSpectrogram(rate, n_fft=512, hop_length=rate // 100, n_mels=32)


@pytest.mark.parametrize(
    ("head", "frames"),
    [
        (FCN5(32, 3, channels=(2, 2, 2, 2, 2)), 4 * 4 * 4 * 5 * 4),  # whole windows of pools that follow each other
        (FCN5(32, 3, channels=(2, 2, 2, 2, 2), time_pools=(2, 1, 1, 1, 1)), 2),
        (MusicCRNN(32, 3, channels=(2, 2, 2, 2), hidden_size=2), 96),  # padded to a multiple
        (MusicTaggingTransformer(32, 3, channels=4, embedding_dim=4, n_heads=1, n_layers=1), 4),
    ],
    ids=["pools", "smaller pools", "multiple", "padded"],
)
def test_least_seconds_by_the_frames_that_are_known(head: Head, frames: int) -> None:
    frontend = mel()
    seconds = least_seconds(frontend, head, seconds=0.001)
    n_samples = round(seconds * 16000)
    assert frontend.n_frames(n_samples) == frames
    assert frontend.n_frames(n_samples - 1) == frames - 1
    assert least_seconds(frontend, head, seconds=seconds) == seconds
    assert least_seconds(frontend, head, seconds=2 * seconds) == 2 * seconds


class Stretched(Head):
    """A head that repeats frames of clips shorter than so many."""

    def __init__(self, n_frames: int, before: nn.Module) -> None:
        blocks = {"embedding": nn.Sequential(before, AdaptiveFrames(n_frames), nn.AdaptiveAvgPool2d(1), nn.Flatten())}
        super().__init__(1, 1, n_channels=1, blocks=blocks, embedding_dim=1)


def test_frames_that_are_repeated_count() -> None:
    assert least_seconds(Waveform(1000), Stretched(7, nn.Identity()), seconds=0.001) == 0.007
    assert least_seconds(Waveform(1000), Stretched(7, nn.AvgPool2d((1, 3))), seconds=0.003) == 0.021


def test_a_head_that_no_length_suits_is_let_be() -> None:
    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[..., :2]

    assert least_seconds(Waveform(1000), Stretched(7, Never()), seconds=0.01) == 0.01


def test_windows_of_less_than_half_of_what_the_head_is_made_for_are_warned_of_once(
    tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A clip of a second was pooled as if it had twelve, and nothing said so."""
    overlay = ["--config", str(CONF / "heads" / "fcn5.yaml"), "--model.head.channels", "[2, 2, 2, 2, 2]"]
    assert fit(tones, tmp_path / "run", *ONE_EPOCH, *overlay) == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    said = [line for line in warnings if "as it is set is made for" in line]
    assert len(said) == 1
    assert said[0].startswith("FCN5 as it is set is made for 12.79 s of audio or more, and windows of 0.2 s are")


@pytest.mark.parametrize("head", [CNN6, KeywordCNN, SampleCNN])
def test_windows_of_half_and_more_are_not_warned_of(head: type[Head], caplog: pytest.LogCaptureFixture) -> None:
    frontend = Waveform(16000) if head is SampleCNN else mel()
    model = Classifier(frontend, partial(head, **SMALL[head.__name__].settings), num_classes=3)
    least = least_seconds(model.frontend, model.head, seconds=0.001)
    for share, warned in ((0.49, 1), (0.51, 0)):
        caplog.clear()
        model.clip_seconds = share * least
        model._warn_of_short_windows()
        assert len(caplog.records) == warned

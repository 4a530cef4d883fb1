"""Features of a trained net for other clips, and the whole study: features, controls, protocols, table."""

from __future__ import annotations

import csv
import logging
import os
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import pandas as pd
import pytest
import torch

from audiocls import probes, transfer
from audiocls.__main__ import main
from audiocls.classifier import Classifier
from audiocls.runs import read_checkpoint
from audiocls.trained import averaged
from audiocls.transfer import (
    FeatureError,
    Features,
    kept_or_made,
    layer_features,
    made_of,
    mfcc_features,
    read_features,
    repeated_layers,
    with_random_weights,
)
from audiocls.transfer_rows import FeatureSet, sets_of, subsets_of
from audiocls.transfer_study import run_study, warn_of_heard
from datamodules import AudioFolder, AudioTable
from datamodules.base import AudioDataModule
from datamodules.batching.crops import all_windows, pad_short
from tests.conftest import make_store

CONF = Path(__file__).parents[1] / "conf"
pytestmark = pytest.mark.usefixtures("undrawn_throughout")


@pytest.fixture(scope="module")
def checkpoint(tones: Path, tmp_path_factory: pytest.TempPathFactory, undrawn_throughout: None) -> Path:
    """Of a net that is worth nothing untrained, trained on tones for a moment."""
    run_dir = tmp_path_factory.mktemp("runs") / "tones"
    words = [
        "fit", "--config", str(CONF / "digits.yaml"), "--data", "AudioFolder", "--data.store", str(tones),
        "--data.batch_size", "8", "--data.clip_seconds", "0.1", "--data.hop_seconds", "0.05",
        "--model.head", "tests.transfer_heads.Gated",
        "--model.augment", "null", "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
        "--trainer.enable_progress_bar", "false", "--run_dir", str(run_dir),
    ]  # fmt: skip
    assert main(words) == 0
    return run_dir / "checkpoints" / "best.ckpt"


@pytest.fixture
def model(checkpoint: Path) -> Classifier:
    return Classifier.load_from_checkpoint(checkpoint, map_location="cpu", weights_only=True)


def folder(store: Path, **settings: Any) -> AudioFolder:
    """Tones in windows of 0.1 s that overlap, of which clips have one to nine."""
    settings = {"clip_seconds": 0.1, "hop_seconds": 0.05, "batch_size": 7, "n_folds": 3} | settings
    return AudioFolder(str(store), **settings)


def windows(data: AudioDataModule, clip: int) -> torch.Tensor:
    """All evaluation windows of a clip of the table, cut here."""
    pcm = data.store.read(int(data.store.rows(data.table["clip_id"].to_numpy())[clip])).T
    length, n_samples = pcm.shape[1], data.clip_samples
    assert n_samples is not None
    _, starts = all_windows(np.array([length]), n_samples, round(data.hop_seconds * data.sample_rate))
    cut = np.zeros((len(starts), 1, n_samples), np.int16)
    for window, start in zip(cut, starts, strict=True):
        part = pcm[:, start : start + n_samples]
        window[:, : part.shape[1]] = part
    pad_short(cut, np.minimum(length - starts, n_samples), data.padding)
    return torch.from_numpy(cut)


# --- features ---


@torch.no_grad()
def test_features_are_means_of_maps_over_places_and_windows(model: Classifier, tones: Path) -> None:
    data = folder(tones)
    found = layer_features(model.train(), data)
    assert not model.training
    assert list(found) == ["gate", "embedding"] == list(model.head.layer_names)
    counts = []
    for clip in range(len(data.table)):
        cut = windows(data, clip)
        counts.append(len(cut))
        maps = model.head.forward_intermediates(model.frontend(cut))
        for name, its in maps.items():
            expected = its.reshape(*its.shape[:2], -1).mean(-1).mean(0).numpy()
            near = 1e-4 * np.abs(expected).max()  # the front-end's float32, in another batch
            np.testing.assert_allclose(found[name][clip], expected, rtol=0, atol=near)
    assert min(counts) == 1
    assert max(counts) > 3


def test_a_map_of_both_axes_is_averaged_over_both(tones: Path) -> None:
    maps = {"a": torch.rand(2, 3, 4, 5), "b": torch.rand(2, 3, 4), "c": torch.rand(2, 3)}
    for of in maps.values():
        expected = of.numpy().reshape(2, 3, -1).mean(-1)
        np.testing.assert_allclose(averaged(of).numpy(), expected, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:n_fft=2048 is too large")
@pytest.mark.parametrize("seconds", [0.4, 0.1])
def test_mfccs_are_librosa_s_with_plain_differences(tones: Path, seconds: float) -> None:
    data = folder(tones, clip_seconds=seconds, hop_seconds=seconds)
    found = mfcc_features(data)["MFCC"]
    assert found.shape == (30, 120)
    for clip in range(0, 30, 7):
        cut = windows(data, clip)[:, 0].numpy() / 32768
        parts = []
        for order in range(3):
            with_frames = [np.diff(librosa.feature.mfcc(y=y, sr=8000, n_mfcc=20), n=order) for y in cut]
            frames = [of if of.shape[1] else np.zeros((20, 1)) for of in with_frames]  # 0.1 s are two frames
            moments = [np.mean([(of**power).mean(1) for of in frames], axis=0) for power in (1, 2)]
            parts += [moments[0], np.sqrt(np.maximum(moments[1] - moments[0] ** 2, 0))]
        np.testing.assert_allclose(found[clip], np.concatenate(parts), atol=0.02)  # dB, of some hundred


def test_untrained_weights_are_drawn_by_their_seed_and_say_nothing(checkpoint: Path, tones: Path) -> None:
    data, content = folder(tones, batch_size=500), read_checkpoint(checkpoint)
    before = torch.random.get_rng_state()
    nets = [with_random_weights(content, data, seed=seed, device="cpu") for seed in (0, 0, 1)]
    assert (torch.random.get_rng_state() == before).all()
    outputs = [net.head.output.weight for net in nets]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])
    assert not layer_features(nets[0], data)["gate"].any()  # as they are before training


@torch.no_grad()
def test_norms_of_untrained_nets_have_the_statistics_of_the_data(checkpoint: Path, tones: Path) -> None:
    data = folder(tones, batch_size=500)
    net = with_random_weights(read_checkpoint(checkpoint), data, seed=0, device="cpu")
    assert not any(part.training for part in net.modules())
    (norm,) = [part for part in net.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    cut = torch.cat([windows(data, clip) for clip in range(30)])
    normed = net.frontend(cut)  # by what was gathered over the same windows, in one batch
    np.testing.assert_allclose(normed.mean((0, 1, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(normed.var((0, 1, 3)), 1, atol=1e-2)
    assert norm.running_mean is not None
    assert norm.running_mean.abs().min() > 0.1  # it was not 0 before


def test_statistics_need_batches_of_two(checkpoint: Path, tones: Path) -> None:
    with pytest.raises(ValueError, match=r"random weights need batches of at least two windows .* leave the control"):
        with_random_weights(read_checkpoint(checkpoint), folder(tones, batch_size=1), seed=0, device="cpu")


def test_layers_that_repeat_another_are_found() -> None:
    one = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    layers = {"a": one, "b": one + 1e-6, "c": one + 0.1, "d": one[:, :2], "e": one[:, :2].copy()}
    assert repeated_layers(layers) == {"b": "a", "e": "d"}


def test_a_net_that_gives_no_number_is_said(model: Classifier, tones: Path) -> None:
    with torch.no_grad():
        model.head.blocks[0].gain[0] = torch.nan  # pyright: ignore
    with pytest.raises(FeatureError, match=r"gate of clip 'high/high_0\.wav' is no finite number \(30 such clips\)"):
        layer_features(model, folder(tones))


def test_audio_that_the_net_has_not_heard_is_refused(
    model: Classifier, tone_files: Path, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder(make_store(tone_files, tmp_path / "16k", sample_rate=16000))
    with pytest.raises(ValueError, match=r"trained at 8000 Hz but .*16k is at 16000 Hz: .* --sample-rate 8000 into"):
        layer_features(model, other)
    data = folder(tones)
    monkeypatch.setattr(data.store, "channels", 2)
    with pytest.raises(ValueError, match=r"audio of 1 channels but .* has 2: decode again with --channels 1"):
        layer_features(model, data)


# --- features that are kept ---


def test_features_are_used_again_until_something_changes(
    tones: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path, calls = tmp_path / "new" / "features.npz", []

    def make() -> Features:
        calls.append(1)
        return {"made_of": np.full((2, 1), len(calls), np.float32), "a/b": np.zeros((2, 3), np.float32)}

    one = made_of(folder(tones), checkpoint="x")
    assert list(kept_or_made(path, one, make)) == ["made_of", "a/b"]  # in order, whatever they are called
    again = kept_or_made(path, one, make)
    assert (len(calls), float(again["made_of"][0, 0]), list(again)) == (1, 1.0, ["made_of", "a/b"])
    assert f"{path} is used again: checkpoint, store and windows are the same" in caplog.text
    changed = [
        made_of(folder(tones), checkpoint="y"),
        made_of(folder(tones, clip_seconds=0.2), checkpoint="y"),
        made_of(folder(tones, hop_seconds=0.1), checkpoint="y"),
        made_of(folder(tones, padding="repeat"), checkpoint="y"),
    ]
    for n, other in enumerate(changed, start=2):
        assert float(kept_or_made(path, other, make)["made_of"][0, 0]) == n
    path.write_bytes(path.read_bytes()[:-100])
    assert float(kept_or_made(path, changed[-1], make)["made_of"][0, 0]) == len(changed) + 2
    assert "cannot be read" in caplog.text


def test_other_clips_or_another_store_are_another_thing(tones: Path, tiny_digits: Path, tmp_path: Path) -> None:
    one, other = folder(tones), folder(tones)
    other.__dict__["table"] = other.table.iloc[1:]  # in place of the cached one
    assert made_of(one) != made_of(other)
    assert made_of(one) == made_of(folder(tones, batch_size=2, n_folds=4))  # neither batches nor folds matter
    assert made_of(one)["store"] != transfer.digest(tiny_digits / "store.json")


@pytest.mark.parametrize("broken", ["make", "write", "rename"])
def test_what_is_killed_leaves_nothing_half(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "features.npz"
    kept_or_made(path, {"n": 1}, lambda: {"a": np.zeros((1, 1), np.float32)})

    def kill(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if broken != "make":
            patch.setattr(*((np, "savez") if broken == "write" else (os, "replace")), kill)
        with pytest.raises(KeyboardInterrupt):
            kept_or_made(path, {"n": 2}, kill if broken == "make" else lambda: {"a": np.ones((1, 1), np.float32)})
    known = read_features(path)
    assert known is not None
    assert (known[0], float(known[1]["a"][0, 0])) == ({"n": 1}, 0.0)


def test_a_file_of_features_runs_nothing(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", made_of=np.array([{"n": 1}], dtype=object))
    assert read_features(tmp_path / "x.npz") is None


# --- sets of features ---


def test_subsets_are_the_paper_s() -> None:
    five = tuple("12345")
    found = ["".join(part) for part in subsets_of(five)]
    assert len(found) == len(set(found)) == 28
    assert [len([name for name in found if len(name) == n]) for n in range(1, 6)] == [5, 10, 10, 2, 1]
    assert {"1234", "2345"} < set(found)
    assert [len(subsets_of(five[:n])) for n in range(1, 5)] == [1, 3, 7, 15]
    with pytest.raises(ValueError, match="--subsets takes at most 5 layers, and 6 make 63 subsets: name some of a, b"):
        subsets_of(tuple("abcdef"))


def test_sets_are_named_and_joined_in_order() -> None:
    features = {name: np.full((2, n), n, np.float32) for n, name in enumerate("abc", start=1)}
    found = sets_of(features, "trained", tuple("abc"), subsets_of(tuple("abc")))
    assert [of.name for of in found] == ["a", "b", "c", "layers 12", "layers 13", "layers 23", "all layers"]
    assert isinstance(found[4], FeatureSet)
    assert found[4].numbers.tolist() == [[1, 3, 3, 3]] * 2


# --- the whole ---


@pytest.fixture
def words(tones: Path) -> list[str]:
    return [
        "--config", str(CONF / "beatbox.yaml"), "--data.store", str(tones), "--data.sample_rate", "8000",
        "--data.clip_seconds", "0.1", "--data.n_folds", "3", "--data.group_pattern", "_([0-9])",
    ]  # fmt: skip


def table(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return {(f"{row['features']} {row['weights']}".strip(), row["protocol"]): row for row in csv.DictReader(file)}


def test_a_trained_net_is_told_from_an_untrained_one(
    words: list[str], checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings: dict[str, Any] = {"run_dir": str(checkpoint.parents[1]), "classifier": "lda", "subsets": True}
    said = run_study(words, out=tmp_path, random_weights=[0, 4], **settings)
    rows = table(tmp_path / "transfer.csv")
    names = ["gate trained", "best subset trained", "MFCC", "MFCC + all layers trained", "gate random 0",
             "gate random 4"]  # fmt: skip
    assert list(rows) == [(name, protocol) for name in names for protocol in ("nested", "choi2017")]
    assert "layer embedding says what gate says and is left out" in caplog.text
    assert "the checkpoint was trained on other clips than the training split has now" in caplog.text
    honest = {name: float(rows[name, "nested"]["mean"]) for name in names}
    # the pitches are a band apart or more; of zeros nothing is told, and the classes are of one size
    assert honest["gate trained"] == honest["best subset trained"] == 1.0
    assert honest["gate random 0"] == honest["gate random 4"] == pytest.approx(1 / 3, abs=0.01)
    row = rows["gate trained", "nested"]
    assert (row["layers"], row["folds"], row["low"]) == ("gate", "3", "1.0")
    assert int(row["dimensions"]) + 120 == int(rows["MFCC + all layers trained", "nested"]["dimensions"])
    assert row["interval"].startswith("95 % bootstrap intervals: 1,000 draws of 10 groups (30 clips)")
    assert rows["gate trained", "choi2017"]["low"] == ""
    assert said.files == [tmp_path / "transfer.csv", tmp_path / "transfer.png"]
    assert all(path.is_file() for path in said.files)
    assert said.table.splitlines()[0].split() == [
        *("accuracy", "numbers", "nested", "all", "clips,", "95", "%", "choi2017", "settings", "(nested)")
    ]
    assert said.sentences.startswith("accuracy on AudioFolder tones of lda and gate of tones (")
    assert "100.0 ± 0.0 % (nested; mean ± standard deviation of 3 folds; all 30 clips 100.0" in said.sentences
    assert "gate, random weights 0 33.3" in said.sentences
    assert "\n" not in said.sentences


def test_numbers_are_told_target_by_target(
    checkpoint: Path, tones: Path, tone_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pitch = {"low": 0.3, "mid": 0.7, "high": 1.5}
    chance = np.random.default_rng(0).normal(size=30)
    rows = [
        (str(path.relative_to(tone_files)), f"{pitch[path.parent.name]}|{of}", "train")
        for path, of in zip(sorted(tone_files.rglob("*.wav")), chance, strict=True)
    ]
    pd.DataFrame(rows, columns=["path", "label", "split"]).to_csv(tmp_path / "clips.csv", index=False)
    monkeypatch.setattr(probes, "SVM_C", (1.0,))
    monkeypatch.setattr(probes, "SVM_STEPS", 20_000)
    monkeypatch.setattr(probes, "SVM_GAMMA", ("auto",))
    more = ["--config", str(CONF / "digits.yaml"), "--data", "AudioTable", "--data.store", str(tones), "--data.root",
            str(tmp_path / "clips.csv"), "--data.task", "regression", "--data.targets", "[pitch, chance]",
            "--data.clip_seconds", "0.1"]  # fmt: skip
    said = run_study(more, ckpt_path=str(checkpoint), out=tmp_path, folds=3, inner_folds=2, random_weights=[])
    with (tmp_path / "transfer.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] == "nested" and row["features"] == "gate"]
    assert [(row["target"], row["score"]) for row in rows] == [("pitch", "r2"), ("chance", "r2")]
    assert float(rows[0]["mean"]) > 0.9
    assert float(rows[1]["mean"]) < 0.3
    assert float(rows[0]["low"]) < float(rows[0]["all_clips"]) < float(rows[0]["high"])
    assert said.sentences.count("\n") == 1
    assert "R² pitch on AudioTable tones of svm and gate of tones" in said.sentences


def study(words: list[str], checkpoint: Path, out: Path, **settings: Any) -> Any:
    return run_study(words, **({"run_dir": str(checkpoint.parents[1]), "out": out, "classifier": "lda"} | settings))


@pytest.mark.parametrize(
    ("settings", "more", "message"),
    [
        ({"run_dir": "nowhere"}, [], r"there is no nowhere/checkpoints/best\.ckpt: train first"),
        ({"run_dir": None}, [], "say which net: --run_dir DIR or --ckpt_path FILE"),
        ({"layers": ["gat"]}, [], r"--layers must be among gate, embedding, got 'gat'; did you mean 'gate'\?"),
        ({"layers": ["gate", "gate"]}, [], "--layers names 'gate' twice"),
        ({"folds": 4}, [], r"the data has folds of its own \(1, 2, 3\): leave --folds out"),
        ({"jobs": 0}, [], "--jobs must be at least 1, got 0"),
        ({}, ["--data.sample_rate", "16000"], "holds 8000 Hz audio but the configuration asks for 16000 Hz"),
        ({}, ["--data.store", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_computed(
    settings: dict[str, Any], more: list[str], message: str, words: list[str], checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        study([*words, *more], checkpoint, tmp_path / "out", **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_data_have_to_be_named_and_have_one_label_a_clip(
    checkpoint: Path, tones: Path, tone_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=r"say which data the features are for: --config FILE"):
        study([], checkpoint, tmp_path)
    clips = [(str(path.relative_to(tone_files)), f"{path.parent.name}|x") for path in tone_files.rglob("*0.wav")]
    clips += [(str(path.relative_to(tone_files)), path.parent.name) for path in tone_files.rglob("*[1-9].wav")]
    pd.DataFrame(clips, columns=["path", "label"]).to_csv(tmp_path / "clips.csv", index=False)
    tags = ["--data", "AudioTable", "--data.store", str(tones), "--data.root", str(tmp_path / "clips.csv"),
            "--data.task", "multilabel", "--data.clip_seconds", "0.1"]  # fmt: skip
    with pytest.raises(ValueError, match=r"AudioTable has several labels a clip .* one class or numbers: take data of"):
        study(["--config", str(CONF / "digits.yaml"), *tags], checkpoint, tmp_path)
    with pytest.raises(SystemExit) as left:
        study(["--config", str(CONF / "digits.yaml"), "--data.bathc_size", "3"], checkpoint, tmp_path)
    assert left.value.code == 2
    assert "did you mean 'batch_size'?" in capsys.readouterr().err


# --- clips that the net has heard ---


def test_clips_that_the_net_was_trained_on_are_not_scored_silently(
    checkpoint: Path, tones: Path, tiny_digits: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    warnings = caplog.records
    content = read_checkpoint(checkpoint)
    same = AudioFolder(str(tones), clip_seconds=0.1)  # the split that the net was trained with
    warn_of_heard(content, checkpoint, same, whole=False)
    assert warnings == []
    warn_of_heard(content, checkpoint, same, whole=True)  # folds would score what it was trained on
    assert "was trained on clips of these, and they are scored" in warnings.pop().getMessage()
    warn_of_heard(content, checkpoint, AudioFolder(str(tones), clip_seconds=0.1, split_seed=1), whole=False)
    assert "was trained on other clips than the training split has now" in warnings.pop().getMessage()
    rows = [(clip, clip.split("/")[0]) for clip in same.store.clip_ids]
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(tmp_path / "clips.csv", index=False)
    by_table = AudioTable(str(tones), str(tmp_path / "clips.csv"), clip_seconds=0.1)
    warn_of_heard(content, checkpoint, by_table, whole=False)  # another class of data, the same store
    assert "was trained on clips of these" in warnings.pop().getMessage()
    elsewhere = AudioTable(str(tiny_digits), str(tmp_path / "clips.csv"), clip_seconds=0.1)
    warn_of_heard(content, checkpoint, elsewhere, whole=True)
    assert warnings == []

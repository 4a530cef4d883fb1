"""What becomes of a trained model: `predict`, `embed` and `export`, from a checkpoint alone."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import Tensor

from audiocls import export, trained
from audiocls.__main__ import main
from audiocls.classifier import Classifier
from audiocls.predict import decided
from audiocls.trained import heard, load, window_means, write_arrays
from datamodules.decoding.decode import decode

CONF = Path(__file__).parents[1] / "conf"

pytestmark = pytest.mark.usefixtures("undrawn_throughout")


def run(*arguments: str) -> int:
    """Exit status of a command, as the shell would see it."""
    try:
        return main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.fixture(scope="module")
def run_dir(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run, whose windows are shorter than most clips.

    Its head pads few frames and pools over time: its graph took windows of one length, and export ended in a traceback.
    """
    folder = tmp_path_factory.mktemp("runs") / "tones"
    status = run(
        "fit", "--config", str(CONF / "digits.yaml"), "--data", "AudioFolder", "--data.store", str(tones),
        "--data.clip_seconds", "0.2", "--data.hop_seconds", "0.07", "--data.padding", "repeat",
        "--model.head", "MusicCRNN", "--model.head.channels", "[4, 4, 4, 4]", "--model.head.hidden_size", "8",
        "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu",
        "--trainer.logger", "false", "--trainer.enable_progress_bar", "false", "--run_dir", str(folder),
    )  # fmt: skip
    assert status == 0
    return folder


@pytest.fixture(scope="module")
def model(run_dir: Path) -> Classifier:
    """The model of its best epoch."""
    return load(run_dir / "checkpoints" / "best.ckpt")


@pytest.fixture(scope="module")
def files(tone_files: Path) -> list[Path]:
    """Clips shorter and longer than a window."""
    return sorted(tone_files.rglob("*_[0-4].wav"))


def each_window(model: Classifier, path: Path) -> Tensor:
    """All windows of a file, one after another: 1,600 samples each 560, the last ending with the clip."""
    pcm = decode(path, sample_rate=8000).pcm[:, 0]
    if len(pcm) < 1600:
        return torch.from_numpy(np.resize(pcm, 1600))[None, None]
    starts = sorted({*range(0, len(pcm) - 1600 + 1, 560), len(pcm) - 1600})
    return torch.from_numpy(np.stack([pcm[start : start + 1600] for start in starts]))[:, None]


def interrupted_after(n: int) -> object:
    """`heard` with Ctrl-C behind so many files."""

    def begin(*arguments: object, **options: object):
        for i, each in enumerate(heard(*arguments, **options)):  # pyright: ignore[reportArgumentType]
            if i == n:
                raise KeyboardInterrupt
            yield each

    return begin


# --- files as a model hears them ---


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_files_heard_together_are_heard_as_each_alone(batch_size: int, model: Classifier, files: list[Path]) -> None:
    found = list(heard(model, files, model.predict_windows, batch_size=batch_size))
    assert [each.path for each in found] == files
    for each in found:
        expected = model.predict_windows(each_window(model, each.path)).double().mean(0)
        # float32 sums of batches of other sizes
        np.testing.assert_allclose(each.mean, expected.numpy(), rtol=1e-5, atol=1e-6)


def test_a_file_that_cannot_be_decoded_keeps_its_place(model: Classifier, files: list[Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio at all")
    for among in ([broken, *files[:3], broken, files[3], broken], [broken]):
        found = list(heard(model, among, model.predict_windows, batch_size=2))
        assert [each.path for each in found] == among
        assert [each.mean is None for each in found] == [path == broken for path in among]
        assert all(("broken.wav" in each.note) == (each.path == broken) for each in found)


def test_what_is_missing_of_a_file_is_said(
    run_dir: Path, tone_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file cut short was classified without a word."""
    cut = tmp_path / "cut.wav"
    cut.write_bytes((tone_files / "low" / "low_0.wav").read_bytes()[:-600])
    assert run("predict", "--run_dir", str(run_dir), str(cut)) == 0
    out, err = capsys.readouterr()
    assert out.startswith(str(cut))
    assert err.startswith(f"audiocls: {cut}: ")


def test_whole_clips_are_padded_as_in_validation(model: Classifier, files: list[Path]) -> None:
    whole = {"clip_seconds": None, "hop_seconds": 0.25, "padding": "zero"}
    before = {name: getattr(model, name) for name in whole}
    try:
        for name, value in whole.items():
            setattr(model, name, value)
        seen: list[int] = []

        def measure(waveform: Tensor) -> Tensor:
            seen.append(waveform.shape[2])
            return waveform.double().square().sum(2)

        found = list(heard(model, files, measure, batch_size=64))
    finally:
        for name, value in before.items():
            setattr(model, name, value)
    for each, n_samples in zip(found, seen, strict=True):
        pcm = decode(each.path, sample_rate=8000).pcm.astype(np.float64)
        assert n_samples == -(-len(pcm) // 2000) * 2000
        np.testing.assert_allclose(each.mean, np.square(pcm).sum(0))


def test_no_more_files_are_decoded_than_the_model_is_behind(
    model: Classifier, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million files in memory would be too many."""
    monkeypatch.setattr(trained.os, "sched_getaffinity", lambda _: {0, 1})
    n_decoded = 0

    def counted(path: Path, **options: int):
        nonlocal n_decoded
        n_decoded += 1
        return decode(path, **options)

    monkeypatch.setattr(trained, "decode", counted)
    found = heard(model, files, model.predict_windows, batch_size=1)
    for n_taken in range(1, 6):
        next(found)
        assert n_decoded <= n_taken + 4
    found.close()


def test_samples_as_float_are_heard_as_those_of_the_file(model: Classifier, files: list[Path]) -> None:
    """Between -1 and 1 they became zeros of int16: an answer for silence, without a word."""
    clips = [decode(path, sample_rate=8000).pcm.T for path in files]
    expected = [each.mean for each in heard(model, files, model.predict_windows, batch_size=64)]
    for given in (clips, [(clip / 2**15).astype(np.float32) for clip in clips]):
        # float32 sums of batches of other sizes
        np.testing.assert_allclose(window_means(model, given, model.predict_windows), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("clips", "says"),
    [
        ([np.zeros(900, np.float32)], "(1 channels, samples), got shape (900,): clip[None] is one channel"),
        ([np.zeros((2, 900), np.int16)], "(1 channels, samples), got shape (2, 900)"),
        ([np.zeros((1, 0), np.int16)], "(1 channels, samples), got shape (1, 0)"),
        ([np.zeros((1, 900))], "int16 PCM, or all float32 in [-1, 1), got float64"),
        ([np.zeros((1, 900), np.int16), np.zeros((1, 900), np.float32)], "all float32 in [-1, 1), got float32"),
    ],
)
def test_samples_that_are_no_clip_are_refused(clips: list[np.ndarray], says: str, model: Classifier) -> None:
    with pytest.raises(ValueError, match=re.escape(says) + "$"):
        window_means(model, clips, model.predict_windows)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("predict a.wav --run-dir runs/a", "unrecognized arguments: --run-dir runs/a; did you mean --run_dir?"),
        ("embed a.wav --out a.npz --layers x", "unrecognized arguments: --layers x; did you mean --layer?"),
        ("export --run_dir runs/a", "the following arguments are required: --out (see audiocls export --help)"),
    ],
)
def test_a_wrong_option_ends_in_one_line(arguments: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Four lines of usage stood before it, and no option that is nearest."""
    assert run(*arguments.split()) == 2
    assert capsys.readouterr().err == f"audiocls: error: {says}\n"


# --- predict ---


def test_a_table_of_one_label_a_clip_says_which(run_dir: Path, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "out.csv"
    assert run("predict", "--run_dir", str(run_dir), *map(str, files), "--out", str(out)) == 0
    table = pd.read_csv(out)
    assert table.columns.tolist() == ["path", "label", "high", "low", "mid"]
    assert table["label"].tolist() == table[["high", "low", "mid"]].idxmax(axis=1).tolist()
    assert not out.with_name("out.csv.part").exists()


def test_ctrl_c_leaves_what_was_predicted(
    run_dir: Path,
    files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of it was lost; a table of before stays as it was."""
    monkeypatch.setattr("audiocls.predict.heard", interrupted_after(4))
    out = tmp_path / "out.csv"
    out.write_text("path,of before\n")
    assert run("predict", "--run_dir", str(run_dir), *map(str, files), "--out", str(out)) == 130
    assert out.read_text() == "path,of before\n"
    assert pd.read_csv(tmp_path / "out.csv.part")["path"].tolist() == list(map(str, files[:4]))
    said = capsys.readouterr().err
    assert said.endswith(f"audiocls: stopped: the predictions of 4 files are in {tmp_path / 'out.csv.part'}\n")


def test_no_table_is_left_where_nothing_could_be_decoded(run_dir: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio at all")
    assert run("predict", "--run_dir", str(run_dir), str(broken), "--out", str(tmp_path / "out.csv")) == 1
    assert list(tmp_path.iterdir()) == [broken]


@pytest.mark.parametrize("command", ["predict", "embed", "export"])
def test_an_audio_file_is_not_taken_for_the_table(
    command: str, run_dir: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """`--out a.wav`, with the file behind the wrong option, wrote over the recording."""
    content = files[0].read_bytes()
    more = [] if command == "export" else [str(files[1])]
    assert run(command, "--run_dir", str(run_dir), "--out", str(files[0]), *more) == 2
    ends = {"predict": ".csv", "embed": ".npz or .csv", "export": ".onnx"}[command]
    assert capsys.readouterr().err == f"audiocls: error: --out must end in {ends}, got {str(files[0])!r}\n"
    assert files[0].read_bytes() == content


@pytest.mark.parametrize(("task", "expected"), [("multiclass", ["c"]), ("multilabel", ["a|c"]), ("regression", [])])
def test_what_is_decided(task: str, expected: list[str]) -> None:
    found = decided(np.array([0.6, 0.1, 0.7]), task=task, class_names=list("abc"))  # pyright: ignore[reportArgumentType]
    assert found == expected


# --- embed ---


@pytest.mark.parametrize("name", ["vectors.npz", "vectors.csv"])
def test_vectors_are_means_of_the_embedding(
    name: str, run_dir: Path, model: Classifier, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    assert run("embed", "--run_dir", str(run_dir), *map(str, files), "--out", str(out)) == 0
    assert f"{len(files)} files, " in capsys.readouterr().out
    if name.endswith(".npz"):
        with np.load(out, allow_pickle=False) as content:
            paths, vectors, layer = content["path"].tolist(), content["embedding"], str(content["layer"])
        assert (layer, vectors.dtype) == ("embedding", np.float32)
    else:
        table = pd.read_csv(out)
        paths, vectors = table["path"].tolist(), table.iloc[:, 1:].to_numpy()
        assert table.columns[1] == "embedding_0"
    assert paths == list(map(str, files))
    for path, vector in zip(files, vectors, strict=True):
        with torch.no_grad():
            expected = model.head.embedding(model.frontend(each_window(model, path))).mean(0)
        np.testing.assert_allclose(vector, expected, rtol=1e-4, atol=1e-6)  # float32 sums of other batches


def test_another_layer_is_averaged_over_bins_and_frames(
    run_dir: Path, model: Classifier, files: list[Path], tmp_path: Path
) -> None:
    layer, out = model.head.layer_names[0], tmp_path / "vectors.npz"
    assert run("embed", "--run_dir", str(run_dir), str(files[0]), "--out", str(out), "--layer", layer) == 0
    with torch.no_grad():
        maps = model.head.forward_intermediates(model.frontend(each_window(model, files[0])))[layer]
    with np.load(out) as content:
        np.testing.assert_allclose(content["embedding"][0], maps.mean((0, 2, 3)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--out", "v.npz", "--layer", "embeding"], "embedding, got 'embeding'; did you mean 'embedding'?"),
        (["--out", "v.npz", "--batch_size", "0"], "--batch_size must be at least 1, got 0"),
        (["--out", "v.npy"], "--out must end in .npz or .csv, got 'v.npy'"),
        ([], "the following arguments are required: --out (see audiocls embed --help)"),
    ],
)
def test_embed_says_what_is_wrong(
    arguments: list[str], says: str, run_dir: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("embed", "--run_dir", str(run_dir), str(files[0]), *arguments) == 2
    assert capsys.readouterr().err.endswith(f"{says}\n")


def test_ctrl_c_leaves_what_was_described(
    run_dir: Path,
    files: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("audiocls.embed.heard", interrupted_after(2))
    out = tmp_path / "vectors.npz"
    assert run("embed", "--run_dir", str(run_dir), *map(str, files), "--out", str(out)) == 130
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.part.npz"]
    assert "stopped: the vectors of 2 files are in" in capsys.readouterr().err
    with np.load(tmp_path / "vectors.part.npz") as content:
        assert content["path"].tolist() == list(map(str, files[:2]))


def test_a_broken_file_costs_itself_alone(
    run_dir: Path, files: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken, out = tmp_path / "broken.wav", tmp_path / "vectors.npz"
    broken.write_bytes(b"no audio at all")
    assert run("embed", "--run_dir", str(run_dir), str(files[0]), str(broken), "--out", str(out)) == 1
    assert "1 of 2 files could not be decoded" in capsys.readouterr().err
    with np.load(out) as content:
        assert content["path"].tolist() == [str(files[0])]


def test_an_array_may_have_any_name(tmp_path: Path) -> None:
    """Its file was one, by the name `path`."""
    with np.load(write_arrays(tmp_path / "a.npz", path=np.zeros(1))) as content:
        assert content.files == ["path"]


# --- export ---


@pytest.fixture(scope="module")
def graph(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as ONNX."""
    for library in export.LIBRARIES:
        pytest.importorskip(library)
    out = tmp_path_factory.mktemp("graphs") / "tones.onnx"
    assert run("export", "--run_dir", str(run_dir), "--out", str(out)) == 0
    return out


def test_a_graph_needs_nothing_of_ours(graph: Path, run_dir: Path, files: list[Path], tmp_path: Path) -> None:
    """What a caller does who has onnxruntime and soundfile, against `predict`."""
    session = importlib.import_module("onnxruntime").InferenceSession(graph, providers=["CPUExecutionProvider"])
    about = json.loads(session.get_modelmeta().custom_metadata_map["audiocls"])
    length, hop = (round(about[name] * about["sample_rate"]) for name in ("clip_seconds", "hop_seconds"))
    assert run("predict", "--run_dir", str(run_dir), *map(str, files), "--out", str(tmp_path / "out.csv")) == 0
    predicted = pd.read_csv(tmp_path / "out.csv").set_index("path")[about["class_names"]]
    for path in files:
        pcm, rate = soundfile.read(path, dtype="float32")
        assert rate == about["sample_rate"]
        if len(pcm) < length and about["padding"] == "repeat":
            pcm = np.resize(pcm, length)
        starts = sorted({*range(0, len(pcm) - length + 1, hop), len(pcm) - length})
        windows = np.stack([pcm[start : start + length] for start in starts])[:, None]
        (found,) = session.run(["prediction"], {"waveform": windows})
        np.testing.assert_allclose(found.mean(0), predicted.loc[str(path)], atol=2e-6)  # tables have six digits


def test_a_graph_says_what_it_was_trained_for(graph: Path, model: Classifier) -> None:
    session = importlib.import_module("onnxruntime").InferenceSession(graph, providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["audiocls"]) == {
        "class_names": ["high", "low", "mid"], "task": "multiclass", "sample_rate": 8000, "channels": 1,
        "clip_seconds": 0.2, "hop_seconds": 0.07, "padding": "repeat", "thresholds": None,
    }  # fmt: skip
    (source,), (target,) = session.get_inputs(), session.get_outputs()
    assert (source.name, source.type, source.shape) == ("waveform", "tensor(float)", ["batch", 1, "time"])
    assert (target.name, target.shape) == ("prediction", ["batch", 3])


def test_a_graph_that_differs_is_not_written(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(model=SimpleNamespace(metadata_props={}), save=lambda path: path.write_bytes(b"graph"))
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: made)
    out = tmp_path / "tones.onnx"
    out.write_bytes(b"of before")
    for errors in ([0.02, 0, 0], [0, 0, float("nan")]):
        monkeypatch.setattr(export, "difference", lambda *_, errors=errors: errors.pop(0))
        assert run("export", "--run_dir", str(run_dir), "--out", str(out)) == 1
        assert "predictions are off by" in capsys.readouterr().err
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"of before"]


def test_a_graph_that_onnxruntime_refuses_ends_in_one_line(tmp_path: Path) -> None:
    """It was onnxruntime's own traceback."""
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(export.ExportError, match=r"^onnxruntime cannot compute the graph of windows of shape .+$"):
        export.difference(Mock(), tmp_path / "a.onnx", torch.zeros(1, 1, 8))


def test_export_names_the_libraries_it_needs(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "LIBRARIES", ("onnx_of_nobody", "onnxruntime"))
    assert run("export", "--run_dir", str(run_dir), "--out", str(tmp_path / "a.onnx")) == 2
    assert "ONNX needs onnx_of_nobody: pip install" in capsys.readouterr().err


class Choosing(torch.nn.Module):
    """What no graph holds: a choice by the value of a number."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_model_that_is_no_graph_ends_in_one_line(
    run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exporter writes pages."""
    for library in export.LIBRARIES:
        pytest.importorskip(library)

    def choosing(checkpoint: Path) -> Classifier:
        model = load(checkpoint)
        model.head.stem = Choosing()
        return model

    monkeypatch.setattr(export, "load", choosing)
    assert run("export", "--run_dir", str(run_dir), "--out", str(tmp_path / "a.onnx")) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("audiocls: the model does not go into a graph (")
    assert said.endswith("): AUDIOCLS_TRACEBACK=1 shows where")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_graph_of_int16_takes_what_is_stored(
    run_dir: Path, model: Classifier, files: list[Path], tmp_path: Path
) -> None:
    for library in export.LIBRARIES:
        pytest.importorskip(library)
    out = tmp_path / "tones.onnx"
    assert run("export", "--run_dir", str(run_dir), "--out", str(out), "--dtype", "int16") == 0
    windows = each_window(model, files[-1])
    session = importlib.import_module("onnxruntime").InferenceSession(out, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"waveform": windows.numpy()})
    np.testing.assert_allclose(found, model.predict_windows(windows), atol=1e-5)

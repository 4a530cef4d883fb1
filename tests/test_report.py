"""RunReport and what it is made of: tables, figures, misheard clips, and the same read back from an offline W&B run."""

import contextlib
import csv
import itertools
import json
import subprocess
import sys
import wave
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import Mock

import matplotlib
import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import wandb
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.image import imread
from matplotlib.text import Text
from pytorch_lightning.callbacks import ModelCheckpoint
from sklearn.metrics import confusion_matrix
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from audiocls.callbacks import LastCheckpoint
from audiocls.intervals import bootstrap
from audiocls.metrics import Evaluation, evaluate
from audiocls.report import figures, panels, snapshot, style, tables
from audiocls.report.callback import RunReport
from audiocls.report.folds import FoldResult, fold_scores
from audiocls.tracking import RunLogger
from tests.wandb_reader import read_offline_run

N_CLIPS = 40


def test_the_style_of_charts_loads_without_torch() -> None:
    """The package took Lightning in for it, seven seconds for the chart of a tool."""
    code = "import sys, audiocls.report.style; sys.exit(bool({'torch', 'pytorch_lightning'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def synthetic(
    num_classes: int, n_clips: int, *, task: str = "multiclass", skill: float = 2.0, seed: int = 0
) -> Evaluation:
    """Scores of clips whose true class has `skill` added to its logit."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n_clips, num_classes, generator=generator)
    names = [f"class {i}" for i in range(num_classes)]
    if task == "multiclass":
        target = torch.randint(num_classes, (n_clips,), generator=generator)
        prediction = (logits + skill * nn.functional.one_hot(target, num_classes)).softmax(1)
    elif task == "regression":
        target = torch.randn(n_clips, num_classes, generator=generator)
        prediction = target + logits / skill
    else:
        target = (torch.rand(n_clips, num_classes, generator=generator) < 0.3).float()
        prediction = (logits + skill * (2 * target - 1)).sigmoid()
    return evaluate(torch.arange(n_clips), prediction, target, class_names=names, task=task)


class Frontend:
    """Says what a learnable front-end says of its filterbank."""

    sample_rate = 8000

    def filterbanks(self) -> dict[str, torch.Tensor]:
        start = torch.eye(6, 33)
        return {"start": start, "now": start.roll(1, 1)}


class Scripted(pl.LightningModule):
    """Evaluates as it is told: `skills` by epoch; its training loss is the epoch's number."""

    def __init__(self, skills: Sequence[float] = (1.0,), *, task: str = "multiclass", num_classes: int = 3) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.frontend = Frontend()
        self.skills, self.kind, self.n = list(skills), task, num_classes
        self.evaluation: Evaluation | None = None

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return self.layer(batch[0]).mean()

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", float(self.current_epoch))

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        pass

    test_step = validation_step

    def on_validation_epoch_end(self) -> None:
        self.evaluation = self.expected(self.current_epoch)
        self.log("val/accuracy", self.evaluation.scalars.get("accuracy", 0.0))

    def on_test_epoch_end(self) -> None:
        self.evaluation = self.expected(0)

    def expected(self, epoch: int) -> Evaluation:
        return synthetic(self.n, N_CLIPS, task=self.kind, skill=self.skills[min(epoch, len(self.skills) - 1)])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


class Clips(pl.LightningDataModule):
    """Two batches an epoch; clip i is i + 1 samples of the value i, in stereo."""

    sample_rate = 8000

    def _loader(self) -> DataLoader:
        return DataLoader(TensorDataset(torch.ones(4, 1)), batch_size=2)

    train_dataloader = val_dataloader = test_dataloader = _loader

    def clip_ids(self, split: str) -> list[str]:
        assert split in ("validation", "test")
        return [f"{split}/{i:03d}.mp3" for i in range(N_CLIPS)]

    def audio(self, split: str, clip: int) -> np.ndarray:
        return np.full((clip + 1, 2), clip, dtype=np.int16)


class Silent(pl.LightningDataModule):
    """A data module that says nothing of its clips."""

    train_dataloader = val_dataloader = test_dataloader = Clips._loader


def trainer(folder: Path, *callbacks: pl.Callback, epochs: int = 3, **settings) -> pl.Trainer:
    defaults = {"logger": False, "enable_checkpointing": any(isinstance(c, ModelCheckpoint) for c in callbacks)}
    return pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), default_root_dir=folder, accelerator="cpu", log_every_n_steps=1,
        enable_progress_bar=False, enable_model_summary=False, **(defaults | settings),
    )  # fmt: skip


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if isinstance(text, Text) and text.get_text()]


@pytest.fixture
def quick(monkeypatch):
    """Leaves the drawing out, for tests of something else."""
    monkeypatch.setattr(snapshot.Snapshot, "draw", lambda *_, **__: {})
    monkeypatch.setattr(figures, "curves", lambda *_, **__: Figure())
    monkeypatch.setattr(style, "save", lambda _, path: path)


# --- tables ---


def test_confusion_counts_agree_with_scikit_learn():
    done = synthetic(12, 300)
    expected = confusion_matrix(done.target, done.prediction.argmax(1), labels=range(12))
    assert (tables.confusion_counts(done) == expected).all()


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_predictions_can_be_scored_again(tmp_path, task):
    done = synthetic(4, 60, task=task)
    rows = read(tables.write_predictions(tmp_path / "p.csv", done, [f"clip{i}" for i in range(60)]))
    assert [row["clip_id"] for row in rows] == [f"clip{i}" for i in range(60)]
    prediction = torch.tensor([[float(row[f"p(class {i})"]) for i in range(4)] for row in rows])
    labels = [[name in row["target"].split("|") for name in done.class_names] for row in rows]
    target = torch.tensor(labels).float()
    target = target.argmax(1) if task == "multiclass" else target
    again = evaluate(done.clip, prediction, target, class_names=done.class_names, task=task)
    # six digits are written: order and therefore ranks are those of float32 to 1e-6
    assert again.scalars == pytest.approx(done.scalars, abs=1e-6)
    heard = [[name in row["prediction"].split("|") for name in done.class_names] for row in rows]
    decided = nn.functional.one_hot(prediction.argmax(1), 4) if task == "multiclass" else prediction > 0.5
    assert torch.equal(torch.tensor(heard), decided.bool())


def test_predicted_numbers_can_be_scored_again(tmp_path):
    done = synthetic(2, 60, task="regression")
    rows = read(tables.write_predictions(tmp_path / "p.csv", done))
    prediction, target = (
        torch.tensor([[float(row[f"{what}({name})"]) for name in done.class_names] for row in rows])
        for what in ("prediction", "target")
    )
    again = evaluate(done.clip, prediction, target, class_names=done.class_names, task="regression")
    assert again.scalars == pytest.approx(done.scalars, abs=1e-5)  # six digits are written


def test_class_table_holds_every_score(tmp_path):
    done = synthetic(5, 80)
    rows = read(tables.write_classes(tmp_path / "classes.csv", done))
    assert [row["class"] for row in rows] == done.class_names
    for column, values in done.per_class.items():
        assert [float(row[column]) for row in rows] == pytest.approx(values, nan_ok=True)


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_tables_hold_every_interval_behind_its_score(tmp_path, task):
    done = synthetic(3, 40, task=task)
    drawn = bootstrap(done, n_draws=30)
    rows = read(tables.write_classes(tmp_path / "classes.csv", done, drawn))
    for name in set(done.per_class) - {"support", "threshold"}:
        columns = list(rows[0])
        assert columns[columns.index(name) + 1 :][:2] == [f"{name}_low", f"{name}_high"]
        ends = [(float(row[f"{name}_low"]), float(row[f"{name}_high"])) for row in rows]
        assert ends == [pytest.approx(interval, rel=1e-7) for interval in drawn.per_class[name]]  # float32's digits
    scores = read(tables.write_intervals(tmp_path / "intervals.csv", done, drawn))
    assert [row["score"] for row in scores] == [name for name in done.scalars if not name.endswith("_scored")]
    for row in scores:
        assert float(row["value"]) == pytest.approx(done.scalars[row["score"]], rel=1e-7)  # float32's digits
        assert (float(row["low"]), float(row["high"])) == pytest.approx(drawn.scalars[row["score"]], rel=1e-7)
        assert (row["draws"], row["drawn"], row["unit"]) == ("30", "40", "clips")


def test_metrics_table_goes_on_and_takes_late_columns(tmp_path):
    table = tables.MetricsTable(tmp_path / "m.csv")
    for epoch in range(3):
        table.put({"epoch": epoch, "step": 10 * (epoch + 1), "val/loss": 0.1 + epoch})
    table.save()
    again = tables.MetricsTable(tmp_path / "m.csv")
    assert again.drop_after(20) == 1
    again.put({"epoch": 1, "step": 20, "train/loss": 7.0})  # the same row
    again.put({"epoch": 2, "step": 30, "val/loss": 9.0, "new": 1})
    rows = read(again.save())
    assert [row["val/loss"] for row in rows] == ["0.1", "1.1", "9.0"]
    assert [row["train/loss"] for row in rows] == ["", "7.0", ""]
    assert [row["new"] for row in rows] == ["", "", "1"]
    assert [path.name for path in tmp_path.iterdir()] == ["m.csv"]  # nothing half-written stays


def test_noise_of_float32_and_of_sums_is_not_written(tmp_path):
    rows = [[0.1 + 0.2, float(np.float32(0.3)), 1e-05, float("nan"), 16777217, "0.30000000000000004"]]
    path = tables.write_csv(tmp_path / "t.csv", "abcdef", rows)
    assert path.read_text().splitlines()[1] == "0.3,0.3,1e-05,nan,16777217,0.30000000000000004"


def test_score_is_compared_as_it_will_be_read_again(tmp_path):
    table = tables.MetricsTable(tmp_path / "m.csv")
    for epoch in range(2):  # a tie, of which a resumed run must find the first as an unbroken one does
        table.put({"epoch": epoch, "step": epoch, "val/accuracy": float(np.float32(0.3))})
    again = tables.MetricsTable(table.save())
    assert float(again.rows[0]["val/accuracy"]) == table.rows[1]["val/accuracy"]
    for one, other in itertools.pairwise(np.nextafter(np.float32(0.3), np.float32([0, 1]))):
        assert tables.tidy(float(one)) < tables.tidy(float(other))  # scores that differ stay apart


HARD = ["x" * 80, "two\nlines", 'a,b;"c"', "古典音乐", "موسيقى", "🎸", "$a_b$ %", "", "é\tè"]


def test_any_name_is_read_back_from_the_tables(tmp_path):
    done = synthetic(len(HARD), 30)
    done = evaluate(done.clip, done.prediction, done.target, class_names=HARD, task="multiclass")
    clips = [f"{name}/{i}.wav" for i, name in enumerate(HARD * 4)]
    classes = pd.read_csv(tables.write_classes(tmp_path / "c.csv", done), keep_default_na=False)
    assert classes["class"].tolist() == HARD
    predictions = pd.read_csv(tables.write_predictions(tmp_path / "p.csv", done, clips), keep_default_na=False)
    assert predictions["clip_id"].tolist() == clips[:30]
    assert predictions["target"].tolist() == [HARD[i] for i in done.target]
    assert predictions.columns[3:].tolist() == [f"p({name})" for name in HARD]


def test_clip_whose_name_is_not_utf8_ended_the_run(tmp_path):
    name = b"caf\xe9.wav".decode(errors="surrogateescape")
    path = tables.write_predictions(tmp_path / "p.csv", synthetic(2, 1), [name])
    assert pd.read_csv(path)["clip_id"].tolist() == [r"caf\udce9.wav"]


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_misheard_are_wrong_and_sorted(task):
    done = synthetic(4, 200, task=task)
    found = tables.misheard(done, 10)
    assert len(found) == 10
    assert all(clip.true != clip.heard for clip in found)
    confidence = [clip.confidence for clip in found]
    assert confidence == sorted(confidence, reverse=True)
    if task == "multiclass":
        wrong = done.prediction.argmax(1) != done.target
        assert confidence[0] == done.prediction[wrong].max()
    else:
        assert confidence[0] == (done.prediction - done.target).abs().max()


def test_numbers_farthest_off_come_first():
    done = synthetic(2, 50, task="regression")
    (worst,) = tables.misheard(done, 1)
    off = (done.prediction - done.target).abs() / done.target.std(0, correction=0)
    assert worst.confidence == pytest.approx(off.max().item(), rel=1e-6)
    assert worst.clip == off.max(1).values.argmax()
    assert worst.true[0].startswith("class 0 ")


def test_sign_of_a_number_was_lost_in_the_name_of_a_clip():
    target, prediction = torch.tensor([[-0.5], [0.5]]), torch.tensor([[0.25], [0.5]])
    done = evaluate(torch.arange(2), prediction, target, class_names=["valence"], task="regression")
    (worst,) = tables.misheard(done, 1)
    name = tables.wav_name(1, worst, "7.mp3", said="predicted")
    assert name == "01_true-valence-minus-0.5_predicted-valence-0.25_7.wav"


def test_nothing_is_misheard_by_a_perfect_model():
    assert tables.misheard(synthetic(3, 20, skill=100.0), 8) == []


def test_wav_names_are_safe_in_any_file_system():
    clip = tables.Misheard(3, ["a/b", "Ünï:cöde"], [], 0.7)
    assert tables.wav_name(2, clip, "x/../y z.tar.mp3") == "02_true-a-b+Ünï-cöde_heard-nothing_x-..-y-z.tar.wav"


@pytest.mark.parametrize("letter", ["x", "音", "𝄞", "/", "\n", "é", "\udcff"])
def test_wav_name_was_longer_than_a_file_system_takes(tmp_path, letter):
    clip = tables.Misheard(3, [letter * 255] * 2, [letter * 255], 0.7)
    names = {tables.wav_name(rank, clip, letter * 255) for rank in (1, 2, 100)}
    for name in names:
        assert len(name.encode()) <= 255
        (tmp_path / name).touch()
    assert {path.name for path in tmp_path.iterdir()} == names
    assert len(names) == 3


# --- figures ---


@pytest.mark.parametrize("num_classes", [2, 3, 12, 35, 200])
def test_figures_of_classes_are_drawn_at_any_number(tmp_path, num_classes):
    done = synthetic(num_classes, 10 * num_classes)
    counts = tables.confusion_counts(done)
    settings = dict(matplotlib.rcParams)
    confusion = figures.confusion(counts, done.class_names, title="Confusion, test")
    support = done.per_class["support"]
    bars = figures.class_scores(done.class_names, done.per_class["f1"], support, score_name="F1", title="F1")
    shown = texts(bars)
    if num_classes <= 50:
        assert set(done.class_names) <= set(shown)
        assert set(done.class_names) <= set(texts(confusion))
    else:
        order = np.argsort(-np.array(done.per_class["f1"]), kind="stable")
        ends = {done.class_names[i] for i in (*order[:20], *order[-20:])}
        assert {text for text in shown if text in done.class_names} == ends
        assert any(f"best and worst 20 of {num_classes} classes" in text for text in shown)
        assert any(f"{num_classes - 40} classes between" in text for text in shown)
    if num_classes <= 20:
        written = sorted(text for text in texts(confusion) if text.isdecimal())
        assert written == sorted(str(count) for count in counts.flat if count)
    if num_classes == 12:  # writing is what takes the time
        for figure in (confusion, bars):
            pixels = imread(style.save(figure, tmp_path / "figure.png"))
            assert 300 < min(pixels.shape[:2]) < max(pixels.shape[:2]) < 2400
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == settings


def test_classes_without_a_score_are_counted_not_drawn():
    bars = figures.class_scores(["a", "b"], [0.5, float("nan")], [3, 0], score_name="F1", title="F1")
    assert "b" not in texts(bars)
    assert any("1 without a score left out" in text for text in texts(bars))


def test_intervals_are_lines_over_the_bars():
    ends = [(0.3, 0.7), (0.1, 0.4), (float("nan"), float("nan"))]
    bars = figures.class_scores(
        ["a", "b", "c"], [0.5, 0.2, float("nan")], [3, 2, 0], score_name="F1", title="F1", intervals=ends
    )
    (lines,) = [found for found in bars.axes[0].collections if isinstance(found, LineCollection)]
    assert [segment[:, 0].tolist() for segment in lines.get_segments()] == [[0.3, 0.7], [0.1, 0.4]]
    assert any("lines: 95 % bootstrap intervals" in text for text in texts(bars))
    numbers = {t.get_text(): t.get_position()[0] for t in bars.findobj(Text) if isinstance(t, Text)}
    assert numbers["0.50"] > 0.7  # behind the line, not on it


def test_curves_show_what_is_there(tmp_path):
    rows = [
        {"epoch": e, "step": e, "train/loss": "" if e == 2 else str(2.0 - e), "val/loss": 3.0, "val/f1_macro": 0.1 * e}
        for e in range(3)
    ]
    figure = figures.curves(rows, best=2)
    assert {"Loss", "Score", "training", "validation", "F1 macro", "best, 2"} <= set(texts(figure))
    lines = {len(np.asarray(line.get_xdata())) for line in figure.axes[0].get_lines()}
    assert 2 in lines  # the empty cell is left out
    assert "Learning rate" not in texts(figure)
    assert style.save(figures.curves(rows[:1]), tmp_path / "c.png").stat().st_size > 0


def test_dollars_in_class_names_are_no_mathematics(tmp_path):
    names = ["$a", "b$", r"$\oops$"]
    # matplotlib would raise on the last as a formula
    for figure in (
        figures.confusion(np.eye(3, dtype=int), names, title="t"),
        fold_scores([FoldResult(1, 0, 50, 40, {"accuracy": 0.8}, 1.0)], title=names[2]),
    ):
        assert style.save(figure, tmp_path / "c.png").stat().st_size > 0


def test_names_are_one_line_of_whole_letters_and_are_told_apart():
    assert style.short_name("two\n\tlines ") == "two lines"
    assert style.short_name("bad\udcff") == r"bad\udcff"  # matplotlib raises on half a letter
    one, other = (style.short_name(f"{'a long name ' * 5}{end}") for end in ("one", "other"))
    assert one != other
    assert max(len(one), len(other)) <= 24


def box_font(path: Path, letter: str) -> Path:
    """A font of one letter, a box."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 700), (500, 700), (500, 0)):
        pen.lineTo(point)
    pen.closePath()
    font = FontBuilder(1000)
    font.setupGlyphOrder([".notdef", "box"])
    font.setupCharacterMap({ord(letter): "box"})
    font.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "box": pen.glyph()})
    font.setupHorizontalMetrics({".notdef": (600, 0), "box": (600, 0)})
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Box of a test", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return path


def test_letters_come_from_any_installed_font_and_boxes_are_said_once(tmp_path, monkeypatch, caplog):
    for cached in (style._font_with, style._say_boxes):
        cached.cache_clear()
    own = [font for font in fontManager.ttflist if font.fname.startswith(matplotlib.get_data_path())]
    monkeypatch.setattr(fontManager, "ttflist", own)
    fontManager.addfont(box_font(tmp_path / "box.ttf", "音"))
    figure = figures.confusion(np.eye(3, dtype=int), ["a", "音", "古典"], title="民")
    with caplog.at_level("INFO"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda _, path, **__: path.touch())
        style.save(figure, tmp_path / "c.png")
    style._font_with.cache_clear()
    fonts = {text.get_text(): text.get_fontfamily() for text in figure.findobj(Text) if isinstance(text, Text)}
    assert fonts["音"] == ["sans-serif", "Box of a test"]
    assert fonts["a"] == fonts["古典"] == ["sans-serif"]
    assert caplog.messages == ["figures show boxes for letters of names that no installed font has"]


def some_rows(n: int, **columns: Sequence[float]) -> list[dict[str, str | float]]:
    """Rows of metrics.csv, with a falling loss."""
    rows: list[dict[str, str | float]] = [{"epoch": e, "step": e, "val/loss": 1 / (e + 1)} for e in range(n)]
    return [row | {f"val/{name}": values[e] for name, values in columns.items()} for e, row in enumerate(rows)]


def test_legend_lay_over_the_curves():
    rows = some_rows(2, accuracy=[0.1, 0.9], f1_macro=[0.9, 0.1], auroc_macro=[0.5, 0.5])
    figure = figures.curves(rows)
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        legend = axes.get_legend()
        assert legend is not None
        assert legend.get_window_extent().x0 >= axes.bbox.x1


def test_axis_of_one_epoch_had_tenths_of_an_epoch():
    (axes,) = figures.curves(some_rows(1), best=0).axes
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == [0]


@pytest.mark.parametrize("lost", [{2, 3}, {4, 5}, set(range(6))])
def test_epochs_that_are_not_finite_were_bridged(lost):
    rows = some_rows(6)
    for epoch in lost:
        rows[epoch]["val/loss"] = float("nan")
    (axes,) = figures.curves(rows).axes
    line, crosses = axes.get_lines()
    assert set(np.flatnonzero(np.isnan(np.asarray(line.get_ydata(), dtype=float)))) == lost
    assert set(np.asarray(crosses.get_xdata())) == lost
    assert "not finite" in texts(axes.figure)
    assert bool(len(axes.get_yticks())) == (len(lost) < 6)  # no numbers, no scale


def test_r2_of_the_first_epoch_pressed_the_others_flat():
    figure = figures.curves(some_rows(3, r2_mean=[-80.0, 0.5, 0.6], rmse_mean=[0.9, 0.4, 0.3]))
    assert figure.axes[1].get_ylim()[0] == -1
    assert "RMSE mean" not in texts(figure)  # an error in the target's unit is no score up to 1


def test_prediction_that_is_nan_ended_the_drawing():
    target, prediction = np.ones((3, 2)), np.full((3, 2), np.nan)
    prediction[0, 0] = 2
    figure = figures.scatter(target, prediction, ["a", "b"], r2=[np.nan, np.nan], title="t")
    assert figure.axes[0].get_xlim() == pytest.approx((0.95, 2.05))


def test_counts_of_many_digits_ran_into_the_next_cell():
    figure = figures.confusion(np.full((12, 12), 123456), [f"c{i}" for i in range(12)], title="t")
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    widths = [text.get_window_extent().width for text in axes.texts]
    assert max(widths) < axes.bbox.width / 12


def test_filterbank_on_the_mel_axis_keeps_means():
    weights = np.abs(np.random.default_rng(0).normal(size=(4, 65)))
    drawn = figures._on_mel(weights, 16000, rows=50)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 51) / 2595) - 1)
    fine = np.linspace(0, 8000, 400_001)
    for row in range(4):
        values = np.interp(fine, np.linspace(0, 8000, 65), weights[row])
        expected = [values[(fine >= low) & (fine < high)].mean() for low, high in itertools.pairwise(edges)]
        # the brute-force grid is 0.02 Hz fine against cells of at least 27 Hz
        assert drawn[row] == pytest.approx(expected, rel=2e-3, abs=2e-3)
    assert figures._on_mel(np.ones((1, 65)), 16000) == pytest.approx(1)


def test_filterbank_that_has_not_moved_was_drawn_twice():
    bank = np.eye(5, 33)
    figure = figures.filterbank(bank, bank, sample_rate=8000, title="t")
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.get_xlabel()] == ["As at the start"]


def test_filterbank_with_nan_showed_no_difference():
    start = np.eye(5, 33)
    now = 1.5 * start
    now[2] = np.nan
    figure = figures.filterbank(start, now, sample_rate=8000, title="t")
    drawn = [axes for axes in figure.axes if axes.get_xlabel()]
    scales = {axes.get_title(loc="left"): axes.get_images()[0].get_clim() for axes in drawn}
    assert list(scales) == ["Start", "Now", "Difference"]
    assert np.isfinite(list(scales.values())).all()
    assert scales["Difference"][1] == np.nanmax(drawn[2].get_images()[0].get_array())


# --- the callback ---


def test_run_folder_holds_the_best_epoch(tmp_path):
    model = Scripted([0.5, 2.0, 1.0])  # best in epoch 1
    report = RunReport()
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", monitor="val/accuracy", mode="max")
    trainer(tmp_path, report, checkpoint).fit(model, datamodule=Clips())
    rows = read(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert [float(row["train/loss"]) for row in rows] == [0, 1, 2]  # each epoch's own, not the one before's
    assert [row["lr"] for row in rows] == ["0.5"] * 3
    for epoch, row in enumerate(rows):
        for name, value in model.expected(epoch).scalars.items():
            assert float(row[f"val/{name}"]) == pytest.approx(value, rel=1e-6)  # self.log keeps float32
    best = model.expected(1)
    classes = read(tmp_path / "val_classes.csv")
    assert [float(row["f1"]) for row in classes] == pytest.approx(best.per_class["f1"])
    predictions = read(tmp_path / "val_predictions.csv")
    assert predictions[7]["clip_id"] == "validation/007.mp3"
    assert sum(row["target"] == row["prediction"] for row in predictions) == round(best.scalars["accuracy"] * N_CLIPS)
    confusion = [[int(row[name]) for name in best.class_names] for row in read(tmp_path / "val_confusion.csv")]
    assert confusion == tables.confusion_counts(best).tolist()
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"curves.png", "confusion.png", "classes.png", "filterbank.png"}
    for name, clip in zip(
        sorted(p.name for p in (tmp_path / "misheard").iterdir()), tables.misheard(best, 8), strict=True
    ):
        assert name.endswith(f"_validation-{clip.clip:03d}.wav")
        with wave.open(str(tmp_path / "misheard" / name)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 8000)
            pcm = np.frombuffer(file.readframes(10**6), "<i2").reshape(-1, 2)
        assert (pcm == Clips().audio("validation", clip.clip)).all()
    paths = report.report_paths()
    assert paths["metrics"] == tmp_path / "metrics.csv"
    assert {"figures", "misheard clips", "validation classes", "validation predictions"} <= paths.keys()


@pytest.mark.usefixtures("quick")
def test_resumed_run_goes_on_with_its_metrics(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", save_last=True, save_on_train_epoch_end=True)
    trainer(tmp_path, RunReport(), checkpoint, epochs=2).fit(Scripted(), datamodule=Clips())
    with (tmp_path / "metrics.csv").open("a") as file:  # an epoch that was lost with the process
        file.write(",".join(["2", "5", *[""] * (len(read(tmp_path / "metrics.csv")[0]) - 2)]) + "\n")
    before = read(tmp_path / "metrics.csv")
    again = trainer(tmp_path, RunReport(), epochs=4)
    again.fit(Scripted(), datamodule=Clips(), ckpt_path=tmp_path / "checkpoints/last.ckpt")
    rows = read(tmp_path / "metrics.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2", "3"]
    assert rows[:2] == before[:2]
    assert [float(row["train/loss"]) for row in rows] == [0, 1, 2, 3]


class Killed(pl.Callback):
    """Ends a run as a kill does, after an epoch's validation and before its checkpoints."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("killed")


def fit(folder: Path, skills: Sequence[float], *callbacks: pl.Callback, epochs: int = 4, resume: bool = False) -> None:
    """A run with the checkpoints of the command line; a killed one ends without a word."""
    best = ModelCheckpoint(folder / "checkpoints", filename="best", monitor="val/accuracy", mode="max")
    last = LastCheckpoint(folder / "checkpoints/last.ckpt")
    settings = trainer(folder, RunReport(), *callbacks, best, last, epochs=epochs)
    with contextlib.suppress(RuntimeError):
        settings.fit(Scripted(skills), datamodule=Clips(), ckpt_path=last.path if resume else None, weights_only=True)


def reported(folder: Path) -> tuple[list[float], float]:
    """The f1 by class of val_classes.csv, and the accuracy of val_predictions.csv."""
    predictions = read(folder / "val_predictions.csv")
    right = sum(row["target"] == row["prediction"] for row in predictions)
    return [float(row["f1"]) for row in read(folder / "val_classes.csv")], right / len(predictions)


def of_skill(skill: float) -> tuple[object, object]:
    expected = Scripted([skill]).expected(0)
    return pytest.approx(expected.per_class["f1"]), pytest.approx(expected.scalars["accuracy"])


@pytest.mark.usefixtures("undrawn")
def test_resumed_run_reports_the_best_epoch_before_the_kill(tmp_path):
    skills = [0.5, 2.0, 1.0, 0.7]  # best in epoch 1
    fit(tmp_path, skills, Killed(2))
    assert not (tmp_path / "figures").exists()
    fit(tmp_path, skills, resume=True)
    assert [row["epoch"] for row in read(tmp_path / "metrics.csv")] == ["0", "1", "2", "3"]
    assert reported(tmp_path) == of_skill(2.0)
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == {"curves.png", "confusion.png", "classes.png", "filterbank.png"}
    worst = tables.misheard(Scripted([2.0]).expected(0), 8)
    assert [path.name[-7:-4] for path in sorted((tmp_path / "misheard").iterdir())] == [f"{c.clip:03d}" for c in worst]


@pytest.mark.usefixtures("quick")
def test_best_epoch_that_a_kill_has_lost_is_not_reported(tmp_path):
    fit(tmp_path, [1.0, 0.5, 2.0], Killed(2))
    assert reported(tmp_path) == of_skill(2.0)
    fit(tmp_path, [1.0, 0.5, 0.7, 0.6], resume=True)  # trained again, it is no longer the best
    assert reported(tmp_path) == of_skill(1.0)


@pytest.mark.usefixtures("undrawn")
def test_kill_behind_the_last_epoch_leaves_the_report_to_the_next_start(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(RunReport, "on_train_end", Mock(side_effect=RuntimeError("killed")))
        fit(tmp_path, [0.5, 2.0, 1.0], epochs=3)
    assert not (tmp_path / "figures").exists()
    fit(tmp_path, [0.5, 2.0, 1.0], epochs=3, resume=True)
    assert reported(tmp_path) == of_skill(2.0)
    assert {"curves.png", "confusion.png", "classes.png"} <= {path.name for path in (tmp_path / "figures").iterdir()}


@pytest.mark.usefixtures("quick")
def test_resumed_in_another_folder_the_best_epoch_is_chosen_anew(tmp_path):
    fit(tmp_path / "one", [2.0, 0.5], epochs=2)
    report, last = RunReport(), tmp_path / "one/checkpoints/last.ckpt"
    trainer(tmp_path / "two", report, epochs=3, limit_val_batches=0).fit(Scripted(), datamodule=Clips(), ckpt_path=last)
    assert not (tmp_path / "two/val_classes.csv").exists()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("broken", ["write_classes", "write_predictions"])
def test_predictions_of_one_epoch_never_stand_beside_the_classes_of_another(tmp_path, monkeypatch, broken):
    fit(tmp_path, [1.0], epochs=1)
    write, calls = getattr(tables, broken), []

    def killed(*arguments: object) -> Path:
        calls.append(broken)
        if len(calls) == 2:
            raise RuntimeError("killed")
        return write(*arguments)

    monkeypatch.setattr(tables, broken, killed)
    fit(tmp_path, [1.0, 2.0], resume=True, epochs=2)  # once for what is taken up, once for the new best
    assert len(calls) == 2
    assert not (tmp_path / "val_predictions.csv").exists()


@pytest.mark.usefixtures("quick")
def test_best_epoch_of_other_clips_is_not_taken_up(tmp_path, monkeypatch, caplog):
    fit(tmp_path, [2.0, 1.0], epochs=2)
    monkeypatch.setattr(Clips, "clip_ids", lambda self, split: ["one"])
    with caplog.at_level("WARNING"):
        fit(tmp_path, [2.0, 1.0, 0.5], epochs=3, resume=True)
    assert "epoch 0 is not reported, though the best so far: the validation has lost clips" in caplog.text


@pytest.mark.usefixtures("quick")
def test_run_without_validation_has_its_rows(tmp_path):
    trainer(tmp_path, RunReport(), epochs=2, limit_val_batches=0).fit(Scripted(), datamodule=Clips())
    rows = read(tmp_path / "metrics.csv")
    assert [(row["epoch"], row["step"], float(row["train/loss"])) for row in rows] == [("0", "2", 0.0), ("1", "4", 1.0)]


@pytest.mark.usefixtures("quick")
def test_each_validation_within_an_epoch_has_its_row(tmp_path):
    trainer(tmp_path, RunReport(), epochs=2, val_check_interval=1).fit(Scripted(), datamodule=Clips())
    assert [row["step"] for row in read(tmp_path / "metrics.csv")] == ["1", "2", "3", "4"]


@pytest.mark.usefixtures("quick")
def test_validation_and_test_of_a_checkpoint(tmp_path):
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", save_last=True)
    trainer(tmp_path, RunReport(), checkpoint, epochs=2).fit(Scripted(), datamodule=Clips())
    before = read(tmp_path / "metrics.csv")
    last = tmp_path / "checkpoints/last.ckpt"
    for _ in range(2):
        trainer(tmp_path, RunReport(tmp_path)).test(Scripted(), datamodule=Clips(), ckpt_path=last, verbose=False)
    trainer(tmp_path, RunReport(tmp_path)).validate(Scripted(), datamodule=Clips(), ckpt_path=last, verbose=False)
    assert read(tmp_path / "metrics.csv") == before
    for prefix in ("test", "val"):
        (row,) = read(tmp_path / f"{prefix}_metrics.csv")
        assert (row["checkpoint"], row["epoch"], row["step"]) == ("last.ckpt", "1", "4")
        assert float(row[f"{prefix}/accuracy"]) == pytest.approx(Scripted().expected(0).scalars["accuracy"], rel=1e-6)
    assert len(list((tmp_path / "test_misheard").glob("*.wav"))) == 8
    assert read(tmp_path / "test_predictions.csv")[0]["clip_id"] == "test/000.mp3"


class Grouped(Clips):
    """Test clips of a few artists; those of validation are of nobody."""

    def __init__(self, n_groups: int = 10) -> None:
        super().__init__()
        self.n_groups = n_groups

    def groups(self, split: str) -> list[str] | None:
        return [f"artist {i % self.n_groups}" for i in range(N_CLIPS)] if split == "test" else None


@pytest.mark.usefixtures("quick")
def test_intervals_are_over_the_groups_that_the_data_knows(tmp_path, caplog):
    report, model = RunReport(bootstrap_draws=50), Scripted()
    trainer(tmp_path, report).test(model, datamodule=Grouped(), verbose=False)
    artists = [f"artist {i % 10}" for i in range(N_CLIPS)]
    assert report.intervals == bootstrap(model.expected(0), n_draws=50, groups=artists)
    assert {row["unit"] for row in read(tmp_path / "test_intervals.csv")} == {"groups"}
    assert "test intervals" in report.report_paths()
    trainer(tmp_path, report).validate(model, datamodule=Grouped(), verbose=False)
    assert report.intervals == bootstrap(model.expected(0), n_draws=50)
    trainer(tmp_path, RunReport(bootstrap_draws=0)).test(model, datamodule=Grouped(), verbose=False)
    assert not (tmp_path / "test_intervals.csv").exists()
    assert "f1_low" not in read(tmp_path / "test_classes.csv")[0]
    trainer(tmp_path, report).test(model, datamodule=Grouped(n_groups=1), verbose=False)
    assert report.intervals is None
    assert caplog.messages[-1] == "no intervals: the evaluation must hold at least 2 groups to draw from, got 1"


@pytest.mark.usefixtures("quick")
def test_training_draws_no_intervals(tmp_path):
    report = RunReport()
    trainer(tmp_path, report, epochs=1).fit(Scripted(), datamodule=Clips())
    assert report.intervals is None
    assert not (tmp_path / "val_intervals.csv").exists()


@pytest.mark.usefixtures("quick")
def test_several_labels_have_no_confusion(tmp_path):
    model = Scripted(task="multilabel", num_classes=5)
    trainer(tmp_path, RunReport(misheard=3), epochs=1).fit(model, datamodule=Clips())
    assert not (tmp_path / "val_confusion.csv").exists()
    assert len(list((tmp_path / "misheard").glob("0[123]_true-*_heard-*_validation-*.wav"))) == 3


def test_numbers_are_drawn_as_points(tmp_path):
    model = Scripted(task="regression", num_classes=2)
    trainer(tmp_path, RunReport(misheard=3), epochs=1).fit(model, datamodule=Clips())
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == [
        "curves.png",
        "filterbank.png",
        "scatter.png",
    ]


@pytest.mark.usefixtures("quick")
def test_numbers_are_not_spoken_of_as_classes(tmp_path):
    model, report = Scripted(task="regression", num_classes=2), RunReport(misheard=3)
    trainer(tmp_path, report, epochs=1).fit(model, datamodule=Clips())
    trainer(tmp_path, report).test(model, datamodule=Clips(), verbose=False)
    for start, split in (("", "validation"), ("test_", "test")):
        clips = list((tmp_path / f"{start}farthest_off").glob(f"0[123]_true-class-0*_predicted-class-0*_{split}-*.wav"))
        assert len(clips) == 3
        assert not (tmp_path / f"{start}misheard").exists()
    for prefix in ("val", "test"):
        assert [row["number"] for row in read(tmp_path / f"{prefix}_numbers.csv")] == ["class 0", "class 1"]
        assert not (tmp_path / f"{prefix}_classes.csv").exists()
    shown = panels.class_tables(model.expected(0), score="r2", prefix="val")
    assert shown.keys() == {"val/numbers", "val/number_scores"}
    assert shown["val/numbers"].columns[0] == "number"
    assert panels.sounds(clips, prefix="test").keys() == {"test/farthest_off"}


@pytest.mark.usefixtures("quick")
def test_data_module_without_audio_is_no_obstacle(tmp_path):
    trainer(tmp_path, RunReport(), epochs=1).fit(Scripted(), datamodule=Silent())
    assert not (tmp_path / "misheard").exists()
    assert read(tmp_path / "val_predictions.csv")[3]["clip_id"] == "3"


def test_nothing_is_written_by_a_fast_dev_run(tmp_path):
    trainer(tmp_path, RunReport(tmp_path / "run"), fast_dev_run=True).fit(Scripted(), datamodule=Clips())
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("undrawn")
def test_stopped_run_is_reported(tmp_path, monkeypatch):
    drawn: list[str] = []
    monkeypatch.setattr(snapshot.Snapshot, "draw", lambda self, *_, **__: drawn.append(self.heading) or {})

    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 2:
                raise SystemExit(143)

    with pytest.raises(SystemExit):
        trainer(tmp_path, RunReport(), Stop(), epochs=4).fit(Scripted(), datamodule=Clips())
    assert drawn == ["validation, epoch 1"]
    assert (tmp_path / "figures/curves.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"figure_every": 0}, "figure_every must be at least 1 epoch, got 0"),
        ({"misheard": -1}, "misheard must be a number of clips, 0 for none, got -1"),
        ({"bootstrap_draws": -1}, "bootstrap_draws must be at least 40, or 0 for no intervals, got -1"),
        ({"bootstrap_draws": 1}, "bootstrap_draws must be at least 40, or 0 for no intervals, got 1"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        RunReport(**arguments)


def test_unknown_class_score_names_the_columns(tmp_path):
    taken = snapshot.Snapshot.take(Scripted(), synthetic(3, 9), prefix="val", epoch=0, step=1)
    with pytest.raises(ValueError, match=r"class_score must be one of auroc, .*f1.*, got 'f2'"):
        taken.draw(tmp_path, class_score="f2")


# --- W&B ---


@pytest.mark.usefixtures("quick")
def test_wandb_is_shown_the_ends_of_the_intervals(tmp_path, monkeypatch):
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    logger, report = RunLogger(save_dir=tmp_path, offline=True), RunReport(bootstrap_draws=40, misheard=0)
    try:
        trainer(tmp_path, report, logger=logger).test(Scripted(), datamodule=Clips(), verbose=False)
    finally:
        logger.finish()
        wandb.teardown()
    assert report.intervals is not None
    run = read_offline_run(tmp_path)
    for name, (low, high) in report.intervals.scalars.items():
        assert run.values(f"test/{name}_low") == [pytest.approx(low)]
        assert run.values(f"test/{name}_high") == [pytest.approx(high)]


@pytest.mark.usefixtures("undrawn")
def test_wandb_is_shown_the_same(tmp_path, monkeypatch):
    for name in ("CONFIG", "CACHE", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    model = Scripted([0.5, 1.0])
    logger = RunLogger(save_dir=tmp_path, offline=True)
    try:
        trainer(tmp_path, RunReport(), epochs=2, logger=logger).fit(model, datamodule=Clips())
    finally:
        logger.finish()
        wandb.teardown()
    run, best = read_offline_run(tmp_path), model.expected(1)
    accuracy = [model.expected(epoch).scalars["f1_macro"] for epoch in range(2)]
    assert run.values("val/f1_macro") == pytest.approx(accuracy)  # not logged by the model, so by the report
    assert run.exit_code == 0
    media = [row for row in run.history if "val/figures/confusion.path" in row]
    assert len(media) == 1  # one call, one step, at the end
    assert {f"val/figures/{name}.path" for name in ("curves", "classes", "confusion", "filterbank")} <= media[0].keys()
    assert media[0]["trainer/global_step"] == run.values("trainer/global_step")[-2] == 3  # Lightning counts from 0
    assert len(run.media("images/val/figures/*.png")) == 4
    assert media[0]["val/misheard.count"] == len(tables.misheard(best, 8))
    assert len(run.media("audio/val/*.wav")) == len(tables.misheard(best, 8))
    (path,) = run.media("table/val/classes_*.json")
    table = json.loads(path.read_text())
    f1 = table["columns"].index("f1")
    assert [row[0] for row in table["data"]] == best.class_names
    assert [row[f1] for row in table["data"]] == pytest.approx(best.per_class["f1"])
    assert run.media("table/val/class_scores_table_*.json")
    assert run.media("table/val/confusion_table_*.json")

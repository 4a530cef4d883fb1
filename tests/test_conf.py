"""Every recipe and every overlay trains, on a tiny store in its data set's layout; what is published is built whole."""

from __future__ import annotations

import functools
import inspect
import json
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from jsonargparse import ArgumentParser
from pytorch_lightning.cli import OptimizerCallable
from torch import nn

import datamodules
from audiocls import augment, frontends, heads, losses
from audiocls.__main__ import main
from audiocls.classifier import Classifier
from audiocls.frontends import Frontend
from audiocls.heads import Head
from datamodules.storage.writer import write_store
from tests.conftest import make_store
from tests.datamodules.layouts.clips import write_clip
from tests.heads.small import SMALL, skip_without_library

CONF = Path(__file__).parents[1] / "conf"
RECIPES = sorted(path.stem for path in CONF.glob("*.yaml"))
OVERLAYS = sorted(str(path.relative_to(CONF)) for path in CONF.glob("*/*.yaml"))

LOW_HARMONICS = ["--model.frontend.n_bins", "40"]  # what 8 kHz can hold
LAID_OVER = {"losses": "msd", "models": "magnatagatune"}  # folder -> recipe; all others: drums
# Heads whose checkpoints would be up to 145 MB; as they are, `test_published_net_is_built_whole` builds them.
NARROW = ("KeywordCNN", "MusicCRNN", "ShortChunkCNN")

Tiny = Callable[[str], list[str]]

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny_digits: Path, tone_files: Path, tones: Path) -> Tiny:
    """Recipe -> what it takes to run on a tiny set: by its data set's layout, or as below; made when asked for."""
    folder = tmp_path_factory.mktemp("tiny")

    @functools.cache
    def made(recipe: str) -> list[str]:
        if recipe == "digits":
            return ["--data.store", str(tiny_digits)]
        if recipe == "folder":
            return ["--data.store", str(tones)]
        if recipe == "drums":
            return tiny_table(tone_files, folder / recipe)
        if recipe in NAMES:
            rate = read(f"{recipe}.yaml")["data"]["init_args"]["sample_rate"]
            return ["--data.store", str(tiny_folder(NAMES[recipe], folder / recipe, sample_rate=rate))]
        return tiny_release(recipe, folder)

    return made


def tiny_table(tone_files: Path, folder: Path) -> list[str]:
    table = tone_files / "clips.csv"
    clips = sorted(path.relative_to(tone_files).as_posix() for path in tone_files.rglob("*.wav"))
    split = ["train", "train", "train", "validation", "test"] * 6
    labels = [clip.split("/")[0] for clip in clips]
    pd.DataFrame({"path": clips, "label": labels, "split": split, "group": clips}).to_csv(table, index=False)
    return ["--data.store", str(make_store(table, folder, sample_rate=16000)), "--data.root", str(table)]


# Recipe -> names by which its `group_pattern` finds what stays on one side.
NAMES = {
    "beatbox": [f"{sound}/{who}_rec1_0.wav" for sound in "tB" for who in ("ann", "ben", "cem", "dot")],
    "philharmonia": [
        f"{instrument}/{instrument}_{note}4_05_piano_normal.wav" for instrument in ("oboe", "tuba") for note in "ABCDE"
    ],
}
NAMES["philharmonia_moments"] = NAMES["philharmonia"]


def tiny_folder(names: list[str], folder: Path, *, sample_rate: int) -> Path:
    for name in names:
        write_clip(folder / "audio" / name, sample_rate=sample_rate)
    return make_store(folder / "audio", folder / "store", sample_rate=sample_rate)


def tiny_release(recipe: str, folder: Path) -> list[str]:
    """Options for a small tree in the layout of the recipe's data set (`tests/datamodules/layouts`), decoded once."""
    data = read(f"{recipe}.yaml")["data"]
    data_set = getattr(datamodules, data["class_path"].removeprefix("datamodules."))
    name, rate = data_set.__module__.rpartition(".")[2], data["init_args"]["sample_rate"]
    root, store = folder / name, folder / f"{name}-{rate}"
    if not root.exists():
        import_module(f"tests.datamodules.layouts.{name}").write(root)
    if not store.exists():
        write_store(data_set.sources(root), store, sample_rate=rate)
    return ["--data.store", str(store), "--data.root", str(root)]


def read(path: str) -> dict[str, Any]:
    return yaml.safe_load((CONF / path).read_text())


def comments(path: str) -> str:
    """What stands above the keys, as one line."""
    lines = (CONF / path).read_text().splitlines()
    return " ".join(line.lstrip("# ") for line in lines if line.startswith("#"))


def fit(recipe: str, run_dir: Path, *more: str) -> int:
    """Train one step on eight clips, and validate."""
    return main(
        [
            "fit", "--config", str(CONF / f"{recipe}.yaml"), *more, "--run_dir", str(run_dir),
            "--data.clip_seconds", "0.2", "--data.batch_size", "8", "--trainer.limit_train_batches", "1",
            "--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.logger", "false",
            "--trainer.enable_progress_bar", "false",
        ]
    )  # fmt: skip


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_trains(recipe: str, tiny: Tiny, tmp_path: Path) -> None:
    head = head_of(read(f"{recipe}.yaml"))
    narrow = SMALL[head].settings if head in NARROW else {}
    assert fit(recipe, tmp_path / "run", *tiny(recipe), *head_options(narrow)) == 0
    assert (tmp_path / "run" / "checkpoints" / "best.ckpt").is_file()
    scores = pd.read_csv(tmp_path / "run" / "metrics.csv")
    monitored = {"val/accuracy", "val/average_precision_macro", "val/r2_mean"} & set(scores)
    assert all(np.isfinite(scores[name]).all() for name in monitored)
    assert monitored


# Nets, heads and front-ends are built from theirs by `test_published_net_is_built_whole` and in tests of their own,
# where they have gradients: here they train by --slow.
BUILT_ELSEWHERE = ("models", "heads", "frontends")
TRAINED = [
    pytest.param(overlay, marks=[pytest.mark.slow] if overlay.startswith(BUILT_ELSEWHERE) else [])
    for overlay in OVERLAYS
]


@pytest.mark.parametrize("overlay", TRAINED)
def test_every_overlay_trains(overlay: str, tiny: Tiny, tmp_path: Path) -> None:
    content = read(overlay)
    if any(path.startswith("audiomentations.") for path in class_paths(content)):
        pytest.importorskip("audiomentations", reason="it is not installed: pip install 'audiocls[audiomentations]'")
    model = content.get("model", {})
    recipe = LAID_OVER.get(overlay.split("/")[0], "drums")
    head = head_of(content) or head_of(read(f"{recipe}.yaml"))
    narrow = {}  # 80 million parameters would be a gigabyte a checkpoint
    if head_of(content) in SMALL or head in NARROW:
        skip_without_library(head)
        narrow = SMALL[head].settings
    laid = ["--config", str(CONF / overlay), *tiny(recipe), *head_options(narrow)]
    if "distill" in model:
        teacher = str(tmp_path / "teacher")
        assert fit(recipe, tmp_path / "teacher", *tiny(recipe)) == 0
        model["distill"]["init_args"]["teacher"] = teacher
        laid += ["--model.distill.teacher", teacher]
    assert fit(recipe, tmp_path / "run", *laid) == 0
    kept = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]
    for name in narrow:
        model.get("head", {}).get("init_args", {}).pop(name, None)
    assert held(model, kept) == model


def held(wanted: Any, kept: Any) -> Any:
    """Of what was kept, as much as was wanted."""
    if isinstance(wanted, dict) and isinstance(kept, dict):
        return {key: held(part, kept.get(key)) for key, part in wanted.items()}
    if isinstance(wanted, list) and isinstance(kept, list) and len(wanted) == len(kept):
        return [held(*pair) for pair in zip(wanted, kept, strict=True)]
    return kept


def head_of(content: dict[str, Any]) -> str:
    return content.get("model", {}).get("head", {}).get("class_path", "").rpartition(".")[2]


def head_options(settings: dict[str, Any]) -> list[str]:
    return [
        f"--model.head.{name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in settings.items()
    ]


def test_frontend_that_makes_several_maps_of_a_channel_predicts(tiny: Tiny, tone_files: Path, tmp_path: Path) -> None:
    overlay = str(CONF / "frontends" / "harmonic.yaml")
    assert fit("folder", tmp_path / "run", "--config", overlay, *tiny("folder"), *LOW_HARMONICS) == 0
    clip = next(tone_files.rglob("*.wav"))
    out = tmp_path / "predictions.csv"
    assert main(["predict", "--run_dir", str(tmp_path / "run"), str(clip), "--out", str(out)]) == 0
    assert pd.read_csv(out)[["high", "low", "mid"]].sum(axis=1).iloc[0] == pytest.approx(1, abs=1e-5)


# --- what is published ---


def built(*laid: str, **head: Any) -> tuple[Frontend, Head, dict[str, Any]]:
    """Front-end and head for 50 classes of a recipe with overlays, merged as on the command line, and the data's
    settings; `head` are options on top."""
    parser = ArgumentParser()
    parser.add_argument("--model.frontend", type=Callable[[int], Frontend])
    parser.add_argument("--model.head", type=Callable[[int, int], Head])
    parser.add_argument("--model.optimizer", type=OptimizerCallable)
    for other in ("data", "trainer", "model.loss", "model.lr_scheduler"):
        parser.add_argument(f"--{other}", type=dict)
    for other in ("run_dir", "seed_everything", "monitor"):
        parser.add_argument(f"--{other}")
    parser.add_argument("--config", action="config")
    files = [CONF / f"{path}.yaml" for path in laid]
    model = parser.instantiate(parser.parse_args([*(f"--config={file}" for file in files), *head_options(head)])).model
    data: dict[str, Any] = {}
    for path in laid:
        data |= read(f"{path}.yaml").get("data", {}).get("init_args", {})
    frontend = model.frontend(data["sample_rate"])
    return frontend, model.head(frontend.n_bins, 50), data


@pytest.mark.parametrize(
    ("laid", "settings", "bins", "frames", "n_parameters"),
    [
        (["mtg_jamendo"], {}, 128, 231, 3_687_348),
        (["mtg_jamendo"], {"residual": True}, 128, 231, 12_104_244),
        (["mtg_jamendo", "models/musicnn"], {}, 96, 188, 784_300),
        (["magnatagatune"], {}, 128, 231, 12_104_244),
        (["magnatagatune", "models/musicnn"], {}, 96, 188, 784_300),
        (["magnatagatune", "models/fcn5"], {}, 96, 1813, 447_732),
        (["magnatagatune", "models/music_crnn"], {}, 96, 1813, 394_100),
        (["magnatagatune", "models/sample_cnn"], {}, 1, 59_049, 1_869_874),
        (["magnatagatune", "models/sample_cnn"], {"squeeze_excitation": True}, 1, 59_049, 6_951_858),
        # 3,631,551 with a norm of each harmonic (10 more) and the published front-end's width (1)
        (["magnatagatune", "models/harmonic_cnn"], {}, 128, 313, 3_631_551 - 10 - 1),
        (["msd", "models/compact_cnn"], {}, 96, 1360, 39_282),
        # 865,950 with a norm of 1366 frames in place of 96 bins
        (["msd", "heads/fcn5"], {"channels": [32, 128, 128, 192, 256]}, 96, 1366, 865_950 - 2 * 1366 + 2 * 96),
        # 241,434 and 2,226,846 for 10 and 30 classes, the first without a norm of bins
        (["urbansound8k_sb_cnn"], {}, 128, 128, 241_434 + 40 * 65 + 2 * 128),
        (["speech_commands_v1"], {}, 257, 98, 2_226_846 + 20 * 129),
    ],
)
def test_published_net_is_built_whole(
    laid: list[str], settings: dict[str, Any], bins: int, frames: int, n_parameters: int
) -> None:
    frontend, head, data = built(*laid, **settings)
    assert (frontend.n_bins, frontend.n_frames(round(data["clip_seconds"] * data["sample_rate"]))) == (bins, frames)
    assert sum(parameter.numel() for part in (frontend, head) for parameter in part.parameters()) == n_parameters


@pytest.mark.parametrize("structure", ["crnn", "k2c2", "k1c2", "k2c1"])
@pytest.mark.parametrize("budget", [100_000, 3_000_000])
def test_four_structures_meet_the_published_budgets(structure: str, budget: int) -> None:
    _, head, _ = built("msd", f"heads/{structure}", budget=budget)
    assert type(head).__name__ == structure.upper()
    assert sum(parameter.numel() for parameter in head.parameters()) == pytest.approx(budget, rel=0.02)  # the paper's


def test_head_that_is_not_built_for_the_maps_of_the_frontend_is_refused() -> None:
    frontend, head, _ = built("drums", "frontends/harmonic", n_channels=3)
    says = "Harmonic makes 4 maps of each channel of audio, but the head was built for n_channels=3"
    with pytest.raises(ValueError, match=says):
        Classifier(frontend, lambda *_: head, num_classes=50)


def test_study_of_kernels_builds_each_of_its_shapes() -> None:
    study = "studies/kernel_shape"
    shapes = dict(re.findall(r"'(\w+) (\[\S+\])'", comments(f"{study}.yaml")))
    kernels = {}
    for name, given in shapes.items():
        _, head, _ = built("drums", study, kernel_sizes=given)
        kernels[name] = [part.kernel_size for part in head.modules() if isinstance(part, nn.Conv2d)]
    assert kernels == {
        "square": [(5, 5)] * 4 + [(3, 3)] * 2,
        "long": [(3, 9)] * 4 + [(3, 3)] * 2,
        "tall": [(9, 3)] * 4 + [(3, 3)] * 2,
    }


# --- all of them together ---

# What no YAML names: what others are built on, and two more.
UNREACHED = {
    "audiocls.augment.Augmentation", "audiocls.augment.ClipAugmentation", "audiocls.augment.Mixing",
    "audiocls.augment.Recordings", "audiocls.frontends.Compression", "audiocls.frontends.Filterbank",
    "audiocls.frontends.Frontend", "audiocls.frontends.Normalization", "audiocls.frontends.Spectrum",
    "audiocls.heads.Head", "audiocls.losses.Loss",
    "audiocls.frontends.FixedNorm",  # holds the numbers of weights that were published, and no recipe loads any
    "audiocls.frontends.NoCompression",  # what Waveform has, for samples are no energies
}  # fmt: skip


def class_paths(node: Any) -> Iterator[str]:
    if isinstance(node, list):
        for part in node:
            yield from class_paths(part)
    if isinstance(node, dict):
        for key, part in node.items():
            if key == "class_path":
                yield part
            else:
                yield from class_paths(part)


def test_everything_that_is_offered_is_in_a_recipe_or_overlay() -> None:
    offered = {
        f"{module.__name__}.{name}" for module in (augment, frontends, heads, datamodules) for name in module.__all__
    }
    offered |= {
        f"{losses.__name__}.{name}"
        for name, kind in vars(losses).items()
        if inspect.isclass(kind) and issubclass(kind, losses.Loss)
    }
    reached = {
        path for file in [*(f"{recipe}.yaml" for recipe in RECIPES), *OVERLAYS] for path in class_paths(read(file))
    }
    assert offered - reached == UNREACHED


def test_every_folder_of_recipes_is_installed() -> None:
    written = (CONF.parent / "pyproject.toml").read_text()
    for folder in {path.parent for path in CONF.rglob("*.yaml")}:
        package = ".".join(("audiocls", *folder.relative_to(CONF.parent).parts))
        assert f'"{package}",' in written
        assert f'"{package}" = ["*.yaml"]' in written


def test_files_that_comments_name_are_there() -> None:
    named = {
        (file, path)
        for file in [*(f"{recipe}.yaml" for recipe in RECIPES), *OVERLAYS]
        for path in re.findall(r"conf/([\w/]+\.yaml)", (CONF / file).read_text())
    }
    assert len(named) > len(OVERLAYS) / 2
    assert [(file, path) for file, path in named if not (CONF / path).is_file()] == []


@pytest.mark.parametrize("path", [*RECIPES, *OVERLAYS])
def test_every_key_is_commented(path: str) -> None:
    lines = (CONF / path).with_suffix(".yaml").read_text().splitlines()
    values = [
        line for line in lines if ":" in line and not line.strip().startswith("#") and not line.rstrip().endswith(":")
    ]
    uncommented = [line for line in values if "#" not in line and "class_path" not in line]
    assert uncommented == []

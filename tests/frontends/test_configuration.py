"""Front-ends from YAML, the way the command line reads it: class paths, overlays, defaults, dump and typing errors."""

from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser, Namespace

from audiocls import frontends
from audiocls.frontends import BatchNormBins, Decibel, Frontend, Log, MelSpectrogram, NoNormalization
from audiocls.functional.filterbanks import _warn_empty

OVERLAYS = sorted((Path(__file__).parents[2] / "conf" / "frontends").glob("*.yaml"))
RECIPE = """
model:
  frontend:
    class_path: audiocls.frontends.MelSpectrogram
    init_args:
      sample_rate: 16000
      hop_length: 160
"""


@pytest.fixture
def parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_subclass_arguments(Frontend, "model.frontend")
    # what overlays set beside the front-end
    parser.add_argument("--model.frontend_lr", type=dict[str, float])
    parser.add_argument("--model.frontend_freeze_steps", type=dict[str, int])
    parser.add_argument("--model.head.init_args.n_channels", type=int)
    return parser


def read(parser: ArgumentParser, *args: str) -> Namespace:
    """Parse, dump, and read the dump again: a checkpoint does the same."""
    return parser.parse_string(parser.dump(parser.parse_args(args)))


def build(parser: ArgumentParser, *args: str) -> Frontend:
    return parser.instantiate(read(parser, *args)).model.frontend


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE)
    return f"--config={path}"


def test_recipe_with_defaults(parser: ArgumentParser, recipe: str) -> None:
    frontend = build(parser, recipe)
    assert isinstance(frontend, MelSpectrogram)
    assert frontend.spectrum.hop_length == 160
    assert isinstance(frontend.compression, Log)
    assert isinstance(frontend.normalization, BatchNormBins)


def test_stages_by_class_path(parser: ArgumentParser, recipe: str, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(
        """
model:
  frontend:
    init_args:
      compression: {class_path: audiocls.frontends.Log, init_args: {learnable: true, offset: 1.0e-4}}
      normalization: audiocls.frontends.NoNormalization
"""
    )
    frontend = build(parser, recipe, f"--config={overlay}")
    assert frontend.sample_rate == 16000
    assert isinstance(frontend.compression, Log)
    assert frontend.compression.offset.log_ratio is not None
    assert frontend.compression.offset.start == 1e-4
    assert isinstance(frontend.normalization, NoNormalization)


def test_stage_on_the_command_line(parser: ArgumentParser, recipe: str) -> None:
    frontend = build(parser, recipe, "--model.frontend.compression=Decibel", "--model.frontend.compression.top_db=60")
    assert isinstance(frontend.compression, Decibel)
    assert frontend.compression.top_db == 60.0


def test_every_frontend_has_an_overlay() -> None:
    settings = [yaml.safe_load(path.read_text())["model"]["frontend"] for path in OVERLAYS]
    paths = {setting.get("class_path", "audiocls.frontends.MelSpectrogram") for setting in settings}
    public = {name: getattr(frontends, name) for name in frontends.__all__}
    assert paths == {f"audiocls.frontends.{name}" for name in public if issubclass(public[name], Frontend)} - {
        "audiocls.frontends.Frontend"
    }


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_overlay_keeps_what_it_does_not_name(
    parser: ArgumentParser, recipe: str, overlay: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = read(parser, recipe, f"--config={overlay}", "--model.frontend.sample_rate=8000")
    assert config.model.frontend.init_args.sample_rate == 8000
    # Wavelets are none of the filters that may be empty, and take long to make for a high rate.
    few = overlay.stem in ("cqt", "vqt", "harmonic")
    for sample_rate in (8000, 22050) if few else (8000, 16000, 22050, 44100, 48000):
        config.model.frontend.init_args.sample_rate = sample_rate
        _warn_empty.cache_clear()
        frontend = parser.instantiate(config).model.frontend
        assert frontend.sample_rate == sample_rate
        assert frontend(torch.randn(1, 1, 8000)).isfinite().all(), sample_rate
        assert caplog.records == [], f"filters are empty at {sample_rate} Hz"


def test_learnable_overlay_learns_filters_and_offsets(parser: ArgumentParser, recipe: str) -> None:
    overlay = next(path for path in OVERLAYS if path.stem == "mel_learnable")
    names = {name for name, _ in build(parser, recipe, f"--config={overlay}").named_parameters()}
    assert {"filterbank.relative_weight", "compression.offset.log_ratio"} <= names


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--model.frontend.hop_lenght=3", "Option 'hop_lenght' is not accepted"),
        ("--model.frontend.pad_mode=circular", "circular"),
        ("--model.frontend.compression=Logg", "Logg"),
    ],
)
def test_a_slip_is_named(parser: ArgumentParser, recipe: str, option: str, message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        parser.parse_args([recipe, option])

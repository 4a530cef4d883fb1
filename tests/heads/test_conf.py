"""Every overlay in conf/heads builds its head, names every setting, and holds the defaults."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser

from audiocls import heads
from audiocls.heads import Head
from tests.heads.small import skip_without_library

FILES = sorted((Path(__file__).parents[2] / "conf/heads").glob("*.yaml"))


def test_every_head_has_an_overlay():
    paths = {yaml.safe_load(file.read_text())["model"]["head"]["class_path"] for file in FILES}
    assert paths == {f"audiocls.heads.{name}" for name in heads.__all__ if name != "Head"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_overlay(file):
    class_path = yaml.safe_load(file.read_text())["model"]["head"]["class_path"]
    skip_without_library(class_path.rpartition(".")[2])
    parser = ArgumentParser()
    parser.add_argument("--model.head", type=Callable[[int, int], Head])
    parser.add_argument("--config", action="config")
    build = parser.instantiate(parser.parse_args([f"--config={file}"])).model.head
    with torch.device("meta"):  # shapes need no numbers, of which some nets draw 80 million
        head = build(40, 3)
        assert isinstance(head, Head)
        plain = type(head)(40, 3)
    assert (head.n_bins, head.num_classes) == (40, 3)
    # The same net as the defaults give, so that overlay and documentation cannot part.
    shapes = {name: x.shape for name, x in head.state_dict().items()}
    assert shapes == {name: x.shape for name, x in plain.state_dict().items()}

    content = yaml.safe_load(file.read_text())
    assert list(content) == ["model"]
    assert list(content["model"]) == ["head"]
    settings = content["model"]["head"]["init_args"]
    defaults = {name: p.default for name, p in list(inspect.signature(type(head)).parameters.items())[2:]}
    for name, default in defaults.items():
        if inspect.isclass(default):
            defaults[name] = {"class_path": f"{default.__module__}.{default.__qualname__}"}
    assert {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()} == defaults
    for name in settings:
        assert re.search(rf"^ +{name}: .+ # ", file.read_text(), re.MULTILINE), f"{name} has no comment"

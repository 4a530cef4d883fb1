"""Shared fixtures: real recordings where they are at hand, and small sets of tones that every machine can make."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.figure import Figure
from PIL import Image

# Before pytest collects doctests: the first module that it imports by itself takes its name in the package, which in
# audiocls.functional is that of a function (pcen, phase, ...).
import audiocls.functional  # noqa: F401
from datamodules import FMA
from datamodules.decoding import estimate, headers
from datamodules.decoding.sources import find_sources
from datamodules.storage import pool, writer
from datamodules.storage.plan import Slice
from datamodules.storage.worker import Outcome, Task, Work, write_slice
from datamodules.storage.writer import write_store
from tests.datamodules.layouts import fma, spoken_digits
from tests.emulated_fused import EmulatedFused, emulated

torch.set_num_threads(1)  # the quickest for small tensors, and two cores are often busy
HAS_CUDA = torch.cuda.is_available()
gc.disable()  # until all is collected, which makes few cycles and many objects to look for them among


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes")


# These take long: begun last, one process would work at them while the other waits.
FIRST = ("test_conf.py", "test_exact.py", "test_kills.py", "test_decode_to_hdf.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in FIRST)
    reasons = {
        "slow": None if config.getoption("--slow") else "takes minutes: run with --slow",
        "gpu": None if HAS_CUDA else "no CUDA device on this machine",
    }
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: no search for cycles need go through it again."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """A shell starts what runs in the background deaf to it, and so would be every process that a test stops."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def write_slices(slices: list[Slice], work: Work, **_: Any) -> Iterator[Outcome]:
    """`pool.write_slices` in this process."""
    said: list[Any] = []
    for part in slices:
        write_slice(Task(part, None, ""), work, said.append)
    yield from (message for message in said if isinstance(message, Outcome))


@pytest.fixture(scope="session", autouse=True)
def files_are_decoded_here() -> Iterator[None]:
    """In this process: starting another, which imports what decodes, takes most of the time of a small store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "write_slices", write_slices)
        patch.setattr(estimate, "read_headers", lambda paths: list(map(headers.read_header, paths)))
        yield


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in processes of their own, as users do: for what a file or a signal does to one."""
    monkeypatch.setattr(writer, "write_slices", pool.write_slices)
    monkeypatch.setattr(estimate, "read_headers", headers.read_headers)


def without_figures() -> Iterator[None]:
    """Figures would be half of the time of a short run, and more where there are many classes: one pixel each."""
    with pytest.MonkeyPatch.context() as patch:
        pixel = Image.new("L", (1, 1))
        for name in ("curves", "confusion", "class_scores", "scatter", "filterbank"):
            patch.setattr(f"audiocls.report.figures.{name}", lambda *_, **__: Figure())
        patch.setattr("matplotlib.figure.Figure.savefig", lambda _, path, **__: pixel.save(path, format="png"))
        yield


undrawn = pytest.fixture(without_figures)
undrawn_throughout = pytest.fixture(scope="module")(without_figures)  # in fixtures of the module as well


@pytest.fixture(autouse=True)
def no_handler_is_left() -> Iterator[None]:
    """A tool's main sends the log to the standard error of its test, which is closed when the next one logs."""
    before = set(logging.root.handlers)
    yield
    for handler in logging.root.handlers[:]:
        if type(handler) is logging.StreamHandler and handler not in before:
            logging.root.removeHandler(handler)


@pytest.fixture(autouse=True)
def no_run_is_left() -> Iterator[None]:
    """A training that ends in an error leaves its run to the end of the process, where the next test would find it."""
    yield
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.finish()


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test draws the same numbers whichever tests ran before it."""
    if HAS_CUDA:
        torch.manual_seed(0)
    else:  # there it takes some milliseconds to note by whom devices that are not there are to be seeded
        torch.default_generator.manual_seed(0)


@pytest.fixture
def emulated_fused(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedFused]:
    """Path `fused` on the processor; what is compiled for it is shared by the processes of one run."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"
    folder.mkdir(exist_ok=True)
    with emulated(folder) as kernels:
        yield kernels


@pytest.fixture(scope="session")
def recordings() -> Path:
    """Folder of real recordings; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("AUDIOCLS_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no real recordings here: set AUDIOCLS_DATA to their folder")
    return folder


TONES = {"low": 300.0, "mid": 700.0, "high": 1500.0}  # class -> Hz


@pytest.fixture(scope="session")
def tone_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of class folders: three pitches, ten clips each of 0.08 to 0.5 s, 8 kHz wav."""
    folder = tmp_path_factory.mktemp("tones")
    generator = np.random.default_rng(0)
    for name, frequency in TONES.items():
        (folder / name).mkdir()
        for i in range(10):
            time = np.arange(int(8000 * generator.uniform(0.08, 0.5))) / 8000
            tone = 0.3 * np.sin(2 * np.pi * frequency * generator.uniform(0.9, 1.1) * time)
            noise = 0.05 * generator.standard_normal(len(time))
            soundfile.write(folder / name / f"{name}_{i}.wav", tone + noise, 8000)
    return folder


@pytest.fixture(scope="session")
def tones(tone_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The PCM store of `tone_files`, at 8 kHz."""
    return make_store(tone_files, tmp_path_factory.mktemp("stores") / "tones", sample_rate=8000)


def make_store(source: Path, store: Path, *, sample_rate: int) -> Path:
    """Decode a folder or table into a PCM store."""
    write_store(find_sources(source), store, sample_rate=sample_rate)
    return store


@pytest.fixture(scope="session")
def tiny_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in the naming of FSDD: ten digits, one speaker, takes 0 to 12."""
    folder = tmp_path_factory.mktemp("fsdd")
    spoken_digits.write(folder / "root")
    return make_store(folder / "root" / "recordings", folder / "store", sample_rate=8000)


@pytest.fixture(scope="session")
def tiny_fma(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(root, store) of a small FMA."""
    folder = tmp_path_factory.mktemp("fma")
    root = folder / "root"
    fma.write(root)
    write_store(FMA.sources(root), folder / "store", sample_rate=12000)
    return root, folder / "store"

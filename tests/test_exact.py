"""A run is a function of its configuration and seed: stopped or not, on one process or two."""

from __future__ import annotations

import os
import runpy
import sys
from multiprocessing import get_context
from multiprocessing.context import ForkProcess
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from audiocls.__main__ import main

CONF = Path(__file__).parents[1] / "conf"

pytestmark = pytest.mark.usefixtures("undrawn_throughout")

STOP = """
import os, signal
from pytorch_lightning.callbacks import Callback

class StopAt(Callback):
    def __init__(self, step: int, signal_name: str) -> None:
        self.step, self.signal = step, getattr(signal, signal_name)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.signal)
"""


def arguments(tones: Path, run_dir: Path, *more: str) -> list[str]:
    """Three epochs of six steps, with dropout and batch normalisation, saved each third step."""
    return [
        "fit", "--config", str(CONF / "digits.yaml"), "--data", "AudioFolder", "--data.store", str(tones),
        "--data.batch_size", "3", "--data.clip_seconds", "0.1", "--checkpoint_every_n_steps", "3",
        "--trainer.max_epochs", "3", "--trainer.accelerator", "cpu", "--trainer.logger", "false",
        "--trainer.enable_progress_bar", "false", "--trainer.enable_model_summary", "false",
        "--run_dir", str(run_dir), *more,
    ]  # fmt: skip


def audiocls(folder: Path, words: tuple[str, ...]) -> None:
    """What `python -m audiocls` does in that folder, in a process that has all imported."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}  # of a second rank
    sys.argv = ["audiocls", *words]
    runpy.run_module("audiocls", run_name="__main__", alter_sys=True)


def begin(folder: Path, *words: str) -> ForkProcess:
    """Begin a command in a process of its own, of which pytest shows what it says."""
    process = get_context("fork").Process(target=audiocls, args=(folder, words))
    process.start()
    return process


def end(process: ForkProcess) -> int | None:
    """Exit status of a process, none of one that has not ended by then."""
    process.join(timeout=240)
    return process.exitcode


def weights(run_dir: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run_dir / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def whole(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never stopped; on one thread, as the others."""
    run_dir = tmp_path_factory.mktemp("exact") / "whole"
    assert main(arguments(tones, run_dir)) == 0
    return run_dir


@pytest.mark.parametrize(
    ("signal_name", "step", "status", "steps_kept"),
    [
        ("SIGKILL", 10, -9, 9),  # in mid-epoch: the checkpoint of step 9 is gone back to
        # the step under way is finished and kept
        pytest.param("SIGTERM", 10, 143, 11, marks=pytest.mark.slow),  # in one process: test_callbacks
    ],
)
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(
    whole: Path, tones: Path, tmp_path: Path, signal_name: str, step: int, status: int, steps_kept: int
) -> None:
    (tmp_path / "stop.py").write_text(STOP)
    run_dir = tmp_path / "stopped"
    stop = [
        "--trainer.callbacks+=stop.StopAt", "--trainer.callbacks.step", str(step),
        "--trainer.callbacks.signal_name", signal_name,
    ]  # fmt: skip
    assert end(begin(tmp_path, *arguments(tones, run_dir, *stop))) == status
    kept = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)
    assert kept["global_step"] == steps_kept
    assert main(arguments(tones, run_dir, "--ckpt_path", "last")) == 0
    assert yaml.safe_load((run_dir / "config.yaml").read_text())["ckpt_path"] is None  # it would train anew
    one, two = weights(whole), weights(run_dir)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    rows, expected = pd.read_csv(run_dir / "metrics.csv"), pd.read_csv(whole / "metrics.csv")
    assert rows["epoch"].tolist() == expected["epoch"].tolist() == [0, 1, 2]
    for name in ("train/loss", "val/accuracy"):
        assert rows[name].tolist() == expected[name].tolist()


def test_another_seed_gives_other_weights(whole: Path, tones: Path, tmp_path: Path) -> None:
    assert main(arguments(tones, tmp_path / "other", "--seed_everything", "1")) == 0
    one, two = weights(whole), weights(tmp_path / "other")
    assert not torch.equal(one["head.output.weight"], two["head.output.weight"])


@pytest.mark.ddp
def test_two_processes_train_and_score_as_one(whole: Path, tones: Path, tmp_path: Path) -> None:
    two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    assert end(begin(tmp_path, *arguments(tones, tmp_path / "two", *two))) == 0
    clips = {"two": pd.read_csv(tmp_path / "two" / "val_predictions.csv")["clip_id"].tolist()}
    again = ["--ckpt_path", "last", "--trainer.strategy", "auto", "--trainer.devices", "1"]
    assert main(["validate", "--run_dir", str(tmp_path / "two"), *again]) == 0
    clips["one"] = pd.read_csv(tmp_path / "two" / "val_predictions.csv")["clip_id"].tolist()
    assert clips["one"] == clips["two"]
    scores = {
        name: pd.read_csv(tmp_path / "two" / file).filter(regex="^val/(?!loss)").iloc[-1]
        for name, file in (("one", "val_metrics.csv"), ("two", "metrics.csv"))
    }
    # batches are cut differently, so probabilities may differ in float32's last digit, and scores in nothing
    common = scores["two"].index
    assert len(common) > 5
    pd.testing.assert_series_equal(scores["one"][common], scores["two"], rtol=1e-6, check_names=False)


@pytest.mark.slow
@pytest.mark.ddp
def test_two_runs_and_two_ranks_read_one_store_at_once(whole: Path, tones: Path, tmp_path: Path) -> None:
    ranks = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
    runs = {name: begin(tmp_path, *arguments(tones, tmp_path / name, *more)) for name, more in
            (("one", []), ("two", []), ("ranks", ranks))}  # fmt: skip
    assert [end(run) for run in runs.values()] == [0, 0, 0]
    for name in ("one", "two"):
        ours, alone = weights(tmp_path / name), weights(whole)
        assert all(torch.equal(ours[key], alone[key]) for key in alone)

"""The command line: what it says, what it links, and how each mistake ends in one line."""

from __future__ import annotations

import errno
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import soundfile
import torch
import yaml
from jsonargparse import Namespace
from pytorch_lightning.utilities import rank_zero_only

from audiocls.__main__ import main
from audiocls.checks import check_trainer, locked, writable
from audiocls.classifier import Classifier
from audiocls.configurations import find_config, has_keys
from audiocls.report.callback import RunReport
from audiocls.resolved import open_data, resolved_config
from audiocls.runs import find_checkpoint, read_checkpoint, unused, with_known_config
from tests.conftest import make_store
from tests.wandb_reader import read_offline_run

CONF = Path(__file__).parents[1] / "conf"
RECIPE = str(CONF / "digits.yaml")

pytestmark = pytest.mark.usefixtures("undrawn")  # but for those of `trained`


def run(*arguments: str) -> int:
    """Exit status of a command, as the shell would see it."""
    try:
        return main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


def fit(tones: Path, run_dir: Path, *more: str) -> int:
    """Train for a moment on the tiny set."""
    return run(
        "fit", "--config", RECIPE, "--data", "AudioFolder", "--data.store", str(tones), "--data.batch_size", "8",
        "--data.clip_seconds", "0.2", "--trainer.max_epochs", "2", "--trainer.accelerator", "cpu",
        "--trainer.enable_progress_bar", "false", "--trainer.logger", "false", "--run_dir", str(run_dir), *more,
    )  # fmt: skip


ONE_EPOCH = ["--trainer.max_epochs", "1"]
WITH_WANDB = ["--trainer.logger", "true"]


@pytest.fixture(scope="module")
def trained(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run."""
    run_dir = tmp_path_factory.mktemp("runs") / "tones"
    assert fit(tones, run_dir, *WITH_WANDB) == 0
    return run_dir


# --- without torch ---


def test_help_answers_before_torch_could_be_loaded() -> None:
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "audiocls", "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0
    assert "audiocls fit --config conf/drums.yaml" in done.stdout
    assert "torch" not in done.stderr  # every import is listed there
    assert time.perf_counter() - begin < 1.0  # 0.06 s on an idle machine


def test_unknown_command_says_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fti") == 2
    assert capsys.readouterr().err == "audiocls: error: there is no command 'fti': did you mean 'audiocls fit'?\n"


# --- wrong keys, classes and values ---


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model.frontend.n_mel", "3"], "'n_mel' is not accepted; MelSpectrogram takes sample_rate, n_fft"),
        (["--model.frontend.n_mel", "3"], "did you mean 'n_mels'?"),
        (["--model.optimizer.lrr", "3"], "--model.optimizer: 'lrr' is not accepted; AdamW takes lr, betas, eps"),
        (
            ["--model.frontend.compression.ofset", "3"],
            "error: --model.frontend.compression: 'ofset' is not accepted; Log takes n_bins, offset, learnable; did "
            "you mean 'offset'?\n",
        ),
        (["--model.frontend.compression.top_db", "3"], "Log takes n_bins, offset, learnable; 'top_db' is an option of"),
        (["--model.optimizer.lr", "nan"], "error: --model.optimizer.lr must be a number, got nan\n"),
        (["--data.seed", "3"], "error: --data.seed is that of --seed_everything: leave it out, and set that\n"),
        (["--data.bathc_size", "3"], "did you mean 'batch_size'?"),
        (
            ["--trainer.max_epoch", "3"],
            "unrecognized arguments: --trainer.max_epoch 3; did you mean --trainer.max_epochs?",
        ),
        (["--run_dri", "x"], "did you mean --run_dir?"),
        (["--model.head", "ConvNett"], "did you mean 'audiocls.heads.ConvNet'?"),
        (["--model.head", "audiocls.haeds.ConvNet"], "did you mean 'audiocls.heads.ConvNet'?"),
        (["--data", "SpokenDigit"], "did you mean 'datamodules.SpokenDigits'?"),
        (["--model.head", "Foo"], "--model.head Foo: there is no such class: it is one of CNN6, CNN10, CNN14, CRNN"),
        (["--model.frontend.compression", "Foo"], "--model.frontend.compression Foo: there is no such class"),
        (["--model.head", "mine.Foo"], "the model needs the module 'mine', which is not found: install it, run where"),
        (
            [
                "--model.augment+",
                "Audiomentations",
                "--model.augment.transforms+",
                "{class_path: mine.Foo, init_args: {p: 1}}",
            ],
            "the model needs the module 'mine', which is not found: install it, run where it lies",
        ),
        (["--model.frontend.n_fft", "12.5"], "--model.frontend.n_fft must be a whole number, got 12.5"),
        (["--model.optimizer.lr", "x"], "--model.optimizer.lr must be a number, got x"),
        (["--data.padding", "none"], "--data.padding must be one of zero, repeat, got none"),
        (["--data.order", "balancd"], "got balancd; did you mean balanced?"),
        (["--trainer.precision", "bf16-mixd"], "64-true, 64, 32, 16, bf16, got bf16-mixd; did you mean bf16-mixed?"),
        (["--trainer.max_epochs", "many"], "--trainer.max_epochs must be a whole number, got many"),
        (["--trainer.max_epochs", "0"], "--trainer.max_epochs must be at least 1, or -1 for no limit, got 0"),
        (["--seed_everything", "foo"], "--seed_everything must be true or false or a whole number, got foo"),
        (["--ckpt_path", "last"], "checkpoints/last.ckpt: train first, or give another --run_dir"),
        (["--ckpt_path", "nowhere.ckpt"], "checkpoint 'nowhere.ckpt' does not exist"),
        (["--data.store", "nowhere"], "nowhere"),
        (["--model.num_classes", "5"], "--model.num_classes comes from the labels of the data: leave it out"),
        (["--data.num_classes", "5"], "--data.num_classes comes from the labels of the data: leave it out"),
        (["--model.head.num_classes", "5"], "--model.head.num_classes comes from the labels of the data: leave it out"),
        (["--model.clip_seconds", "2"], "--model.clip_seconds comes from the data: leave it out, or set --data.clip"),
        (["--model.task", "multilabel"], "--model.task comes from the data: leave it out, or set --data.task"),
        (["--model.sample_rate", "8000"], "--model.sample_rate comes from the data: leave it out, or set --data.sam"),
        (["--model.frontend.sample_rate", "44100"], "--model.frontend.sample_rate comes from the data: leave it out"),
        (["--lr", "0.1"], "did you mean --model.optimizer.lr?"),
        (["--optimizer.lr", "3"], "did you mean --model.optimizer.lr?"),
        (["--batch_size", "3"], "did you mean --data.batch_size?"),
        (["--model.loss", "Foo"], "there is no such class: it is one of Loss, CrossEntropy, BinaryCrossEntropy, Focal"),
        (["--model.loss", "CrossEntropyLoss"], "did you mean 'audiocls.losses.CrossEntropy'?"),
        (
            ["--model.loss", "torch.nn.CrossEntropyLoss"],
            "--model.loss must be a class derived from audiocls.losses.Loss, got torch.nn.CrossEntropyLoss; did you",
        ),
        (["--model.head", "torch.nn.Linear"], "derived from audiocls.heads.Head, got torch.nn.Linear"),
        (["--model.frontend", "torch.nn.Linear"], "derived from audiocls.frontends.Frontend, got torch.nn.Linear"),
        (
            ["--data", "audiocls.heads.ConvNet"],
            "derived from datamodules.base.AudioDataModule, got audiocls.heads.Conv",
        ),
        (["--model.augment+", "torch.nn.Linear"], "derived from audiocls.augment.Augmentation, got torch.nn.Linear"),
        (["--model.optimizer", "ADAMW"], "there is no such class; did you mean 'torch.optim.AdamW'?"),
        (["--model.lr_scheduler", "Foo"], "it is one of WarmupCosine, LambdaLR, MultiplicativeLR, StepLR,"),
        (["--model.lr_scheduler", "StepLR"], "lr_scheduler.StepLR needs --model.lr_scheduler.step_size\n"),
        (
            ["--trainer.callbacks+", "EarlyStopping"],
            "--trainer.callbacks pytorch_lightning.callbacks.EarlyStopping needs --trainer.callbacks.monitor\n",
        ),
        (["--model.augment+", "Mixing"], "--model.augment Mixing is abstract: add augment to it"),
        (["--ckpt_path", str(CONF)], "conf' is a folder: give a file, or the folder of a run by --run_dir"),
        (["--seed_everything", "-4"], "--seed_everything must be at least 0 and below 2**32, got -4"),
    ],
)
def test_a_mistake_ends_in_one_line(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fit", "--config", RECIPE, "--run_dir", str(tmp_path / "run"), *arguments) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.startswith("audiocls: error: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"devices": 0}, "--trainer.devices must be auto, a number of devices from 1 on, or their indices"),
        ({"accelerator": "gpuu"}, "such as auto, gpu, cpu, cuda, mps, tpu, got 'gpuu'; did you mean 'gpu'?"),
        ({"accelerator": "cuda"}, "--trainer.accelerator cuda needs a device that torch does not see here: say "),
        ({"accelerator": "tpu"}, "--trainer.accelerator tpu needs a device that torch does not see here: say "),
        ({"strategy": "dpd"}, "got 'dpd'; did you mean 'ddp'?"),
        ({"max_steps": 0}, "--trainer.max_steps must be at least 1, or -1 for no limit, got 0"),
        ({"overfit_batches": 2}, "--trainer.overfit_batches must be 0, since each epoch draws its own batches"),
        ({"max_time": "5min"}, "--trainer.max_time must be days, hours, minutes and seconds as DD:HH:MM:SS"),
    ],
)
def test_what_the_trainer_would_not_take_or_would_pass_over_is_refused(
    setting: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_no_device(monkeypatch)
    settings = {
        "accelerator": "cpu", "strategy": "auto", "devices": "auto", "max_epochs": 1, "max_steps": -1,
        "overfit_batches": 0.0, "max_time": None,
    }  # fmt: skip
    check_trainer(Namespace(settings), command="fit")
    with pytest.raises(ValueError, match=re.escape(says)):
        check_trainer(Namespace(settings | setting), command="fit")


def see_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUDAAccelerator", "MPSAccelerator", "XLAAccelerator"):
        monkeypatch.setattr(f"pytorch_lightning.accelerators.{name}.is_available", staticmethod(lambda: False))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("model: {num_classes: 5}", "--model.num_classes comes from the labels of the data: leave it out"),
        ("model: {frontend: {init_args: {sample_rate: 44100}}}", "--model.frontend.sample_rate comes from the data:"),
        ("lr: 0.1", "did you mean --model.optimizer.lr?"),
        ("trainer: {max_epoch: 3}", "did you mean --trainer.max_epochs?"),
    ],
)
def test_what_stood_in_a_configuration_was_passed_over_or_had_no_hint(
    content: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "overlay.yaml").write_text(content)
    given = ["--config", str(tmp_path / "overlay.yaml"), "--run_dir", str(tmp_path / "run")]
    assert run("fit", "--config", RECIPE, *given) == 2
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1


def test_a_config_that_does_not_exist_says_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "--config", "conf/digts.yaml") == 2
    assert "configuration 'conf/digts.yaml' does not exist: did you mean conf/digits.yaml?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"trainer:\n\tmax_epochs: 1\n", ", line 2, column 1: found character '\\t' that cannot start any token (YAML"),
        (b"a: 1\nb: [1, 2\nc: 3\n", ", line 3, column 2: while parsing a flow sequence of line 2, expected ',' or ']'"),
        (b"a: {b: 1,\n    b: 2}\n", ", line 2, column 5: b is given a second time, after line 1: keep one"),
        (b"- a\n- b\n", ", line 1, column 1: a configuration holds keys with values, such as run_dir: runs/mine, and"),
        (b"a: !!python/name:os.system\n", ", line 1, column 4: the tag !!python/name:os.system is not read"),
        (b"\x80\xff\x00", " is no text (invalid start byte): give a YAML file in UTF-8"),
    ],
)
def test_a_broken_configuration_is_named_with_its_line(
    content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said `in "<unicode string>"`, took the last of two keys alike, or ended in a traceback."""
    broken = tmp_path / "broken.yaml"
    broken.write_bytes(content)
    assert run("fit", "--config", RECIPE, "--config", str(broken), "--print_config") == 2
    err = capsys.readouterr().err
    assert err.startswith(f"audiocls: error: {broken}{says}")
    assert err.count("\n") == 1


def test_a_folder_is_no_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder `drms` was said not to exist, and drums to be meant."""
    (tmp_path / "drms").mkdir()
    assert run("fit", "--config", str(tmp_path / "drms")) == 2
    assert capsys.readouterr().err.endswith("drms' is a folder: name a file in it\n")
    (tmp_path / "drms" / "config.yaml").touch()
    assert run("fit", "--config", str(tmp_path / "drms")) == 2
    assert capsys.readouterr().err.endswith(f"is a folder: did you mean {tmp_path / 'drms' / 'config.yaml'}?\n")


def test_an_overlay_of_remarks_alone_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It ended in "Unexpected config"."""
    empty = tmp_path / "empty.yaml"
    empty.write_text("# trainer:\n#   max_epochs: 1\n")
    assert run("fit", "--config", RECIPE, "--print_config") == 0
    plain = capsys.readouterr().out
    assert run("fit", "--config", str(empty), "--config", RECIPE, f"--config={empty}", "--print_config") == 0
    assert capsys.readouterr().out == plain


def test_merged_and_repeated_yaml_is_read(tmp_path: Path) -> None:
    """An alias may stand often, and even lead back to itself; a merged key is no second one."""
    (tmp_path / "a.yaml").write_text("a: &a {x: 1}\nb: {<<: *a, x: 2}\nc: [*a, *a]\nd: &d [*d]\n")
    assert has_keys(tmp_path / "a.yaml")


def test_an_option_of_another_data_set_says_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A class folder was said not to take `task`, and not what does."""
    folder = ["--config", str(CONF / "folder.yaml"), "--run_dir", str(tmp_path), "--data.task", "regression"]
    assert run("fit", *folder) == 2
    assert capsys.readouterr().err.endswith("; 'task' is an option of AudioTable\n")


def test_what_lightning_refuses_of_the_trainer_ends_in_one_line(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended in a traceback."""
    assert fit(tones, tmp_path / "run", "--trainer.devices", "0,1") == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("audiocls: error: the trainer cannot be made: `devices` selected with `CPUAccelerator`")
    assert not (tmp_path / "run").exists()  # nothing was begun in it


def test_recipes_are_found_by_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_config("digits") == find_config("conf/digits.yaml") == CONF / "digits.yaml"
    own = tmp_path / "digits"
    own.write_text("run_dir: x")
    assert find_config("digits") == Path("digits")  # the user's own file comes first


def test_a_store_at_another_rate_is_refused(tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tones, tmp_path / "run", "--data.sample_rate", "16000") == 2
    assert "holds 8000 Hz audio but the configuration asks for 16000 Hz: decode again" in capsys.readouterr().err


def test_a_slip_that_is_no_message_of_ours_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, tones: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda *_, **__: torch.zeros(()).reshape(2, 2))
    with pytest.raises(RuntimeError):
        fit(tones, tmp_path / "run")


def test_a_refused_optimizer_setting_ends_in_one_line(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tones, tmp_path / "run", "--model.optimizer.lr", "-1") == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said == (
        "audiocls: error: model.optimizer is refused by its class (Invalid learning rate: -1.0): give it another value"
    )


@pytest.mark.parametrize("name", ["file", "file/run", "/proc/nix", "/proc"])
def test_a_run_dir_that_cannot_be_written_into_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    says = f"^--run_dir {tmp_path / name} is no folder that can be written into \\("
    with pytest.raises(ValueError, match=says), writable(str(tmp_path / name)):
        pass


def test_a_run_dir_that_cannot_be_written_into_ends_in_one_line(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert fit(tones, tmp_path / "file" / "run") == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith("audiocls: error: --run_dir ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fit"], "say what to train: --config conf/folder.yaml or another recipe (without it, --model.frontend, "),
        (["test"], "say which run: --run_dir DIR (without it, --model.frontend, --model.head, --data are required)"),
        (["fit", "--ckpt_path", "last"], "say which run: --run_dir DIR ("),
    ],
)
def test_a_command_alone_says_what_to_give(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err.startswith(f"audiocls: error: {says}")


def test_help_needs_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("test", "--run_dir", "nowhere", "--help") == 0
    assert "--bootstrap_draws" in capsys.readouterr().out


def test_a_run_whose_configuration_is_gone_says_so(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = shutil.copytree(trained / "checkpoints", tmp_path / "checkpoints") / "best.ckpt"
    for named in (["--run_dir", str(tmp_path)], ["--ckpt_path", str(checkpoint)]):
        assert run("test", *named) == 2
        said = f"audiocls: error: {tmp_path / 'config.yaml'} is missing or empty: put the run's own there, or give"
        assert capsys.readouterr().err.startswith(said)


def test_ctrl_c_before_training_ends_silently(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-v", "-m", "audiocls", "fit", "--config", RECIPE, "--run_dir", str(tmp_path / "run")],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("import 'torch.nn'"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "Traceback" not in rest
    assert "KeyboardInterrupt" not in rest


@pytest.fixture
def ctrl_c(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Sends SIGINT to this process in a step of the model, once so many optimizer steps are done."""

    def arrange(name: str, at: int) -> None:
        step = getattr(Classifier, name)

        def interrupted(self: Classifier, *arguments: Any) -> Any:
            if self.trainer.global_step == at:
                signal.raise_signal(signal.SIGINT)
            return step(self, *arguments)

        monkeypatch.setattr(Classifier, name, interrupted)

    return arrange


def test_ctrl_c_says_what_is_saved_and_how_to_go_on(
    tones: Path, tmp_path: Path, ctrl_c: Callable[[str, int], None], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """It ended in Lightning's own line and status 1, and was deaf to a second one while it wrote its report."""
    heard: list[object] = []
    write = RunReport.on_exception
    monkeypatch.setattr(
        RunReport, "on_exception", lambda *_: heard.append(signal.getsignal(signal.SIGINT)) or write(*_)
    )
    before, run_dir = signal.getsignal(signal.SIGINT), tmp_path / "my run"
    ctrl_c("training_step", 2)  # the first of the second epoch, which is finished
    assert fit(tones, run_dir) == 130
    *_, said = capsys.readouterr().err.splitlines()
    assert (
        said
        == f"audiocls: stopped at step 3, which is saved: audiocls fit --run_dir '{run_dir}' --ckpt_path last goes on"
    )
    assert "KeyboardInterrupt" not in caplog.text
    assert torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["global_step"] == 3
    assert heard == [signal.SIG_DFL]
    assert signal.getsignal(signal.SIGINT) == before
    monkeypatch.undo()
    assert run("fit", "--run_dir", str(run_dir), "--ckpt_path", "last") == 0


def test_ctrl_c_before_the_first_step_promises_nothing(
    tones: Path, tmp_path: Path, ctrl_c: Callable[[str, int], None], capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(signal.SIGINT)
    ctrl_c("on_fit_start", 0)
    assert fit(tones, tmp_path / "run") == 130
    assert signal.getsignal(signal.SIGINT) == before
    assert capsys.readouterr().err.endswith("audiocls: stopped at step 0, nothing was saved yet\n")


@pytest.mark.parametrize("command", ["test", "validate"])
def test_ctrl_c_while_scoring_ends_in_one_line(
    command: str, trained: Path, ctrl_c: Callable[[str, int], None], capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    ctrl_c("test_step" if command == "test" else "validation_step", 0)
    assert run(command, "--run_dir", str(trained)) == 130
    *_, said = capsys.readouterr().err.splitlines()
    assert said == f"audiocls: stopped: nothing of this {command} is written"
    assert "KeyboardInterrupt" not in caplog.text


# --- one training a folder ---


def test_a_second_training_into_one_folder_is_refused(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both wrote, each over the other's files."""
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    with locked(str(run_dir)):
        for more in ([], ["--ckpt_path", "last"]):
            (run_dir / "checkpoints").mkdir(exist_ok=True)
            (run_dir / "checkpoints" / "last.ckpt").touch()
            monkeypatch.setattr("audiocls.cli.read_checkpoint", lambda _: {"epoch": 0})
            assert fit(tones, run_dir, *more) == 2
            *_, said = capsys.readouterr().err.splitlines()
            assert said == (
                f"audiocls: error: {run_dir} is being trained into by another process: wait for its end, or train in "
                f"another folder, such as --run_dir {run_dir}-2"
            )
        monkeypatch.setattr(rank_zero_only, "rank", 1)  # as the processes that the first one starts
        assert fit(tmp_path / "nowhere", run_dir) == 2
        assert "nowhere" in capsys.readouterr().err
        monkeypatch.setattr(rank_zero_only, "rank", 0)
        monkeypatch.setenv("NODE_RANK", "1")  # the first process of another machine
        assert fit(tmp_path / "nowhere", run_dir) == 2
        assert "nowhere" in capsys.readouterr().err
    assert not (run_dir / ".lock").exists()


def test_a_killed_training_leaves_no_lock(tmp_path: Path) -> None:
    script = "import fcntl; file = open('.lock', 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ValueError, match="is being trained into by another process"), locked(str(tmp_path)):
            pass
        process.kill()
    with locked(str(tmp_path)):
        assert (tmp_path / ".lock").exists()
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", flock)
    with locked(str(tmp_path)):
        pass
    assert not list(tmp_path.iterdir())


# --- classes of the user's own ---

MINE = """
from audiocls.augment import ClipAugmentation
from audiocls.frontends import MelSpectrogram
from audiocls.losses import Loss
from datamodules import AudioFolder

class Square(Loss):
    def forward(self, logits, target):
        return logits.square().mean()

class Nowhere(ClipAugmentation):
    def change(self, x):
        return x

class Unchanging(ClipAugmentation):
    stage = "waveform"

class Mel(MelSpectrogram):
    pass

class Folder(AudioFolder):
    def __init__(self, store: str, note=None, **kwargs):
        super().__init__(store, **kwargs)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe with a module beside it, in a folder that Python does not search; what is imported is forgotten."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    shutil.copy(RECIPE, folder / "recipe.yaml")
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setitem(sys.modules, "mine", None)  # so that what is imported below is taken out again
    monkeypatch.delitem(sys.modules, "mine")
    importlib.invalidate_caches()
    return folder / "recipe.yaml"


@pytest.mark.parametrize("form", ["--config {}", "--config={}", "-c {}"])
def test_a_module_beside_the_configuration_is_found(form: str, own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", *form.format(own).split(), "--model.frontend", "mine.Mel", "--print_config") == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["frontend"]["class_path"] == "mine.Mel"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["--model.loss", "mine.Square"], 'Square must say what it is a loss of: set tasks = ("multiclass",) in the'),
        (["--model.augment+", "mine.Nowhere"], "Nowhere must say where it acts: set stage = 'waveform' or 'spectro"),
        (["--model.augment+", "mine.Unchanging"], "--model.augment mine.Unchanging is abstract: add change to it"),
    ],
)
def test_what_a_class_of_one_s_own_lacks_is_named(
    settings: list[str], says: str, own: Path, tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They ended in a traceback, the second one in its first step, or the method was not named."""
    sys.path.append(str(own.parent))
    assert fit(tones, tmp_path / "run", *settings) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said.startswith(f"audiocls: error: {says}")


def test_what_scores_names_the_module_that_is_missing(
    own: Path, tones: Path, tone_files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run_dir, file = tmp_path / "run", str(tone_files / "low" / "low_0.wav")
    sys.path.append(str(own.parent))
    assert fit(tones, run_dir, "--model.frontend", "mine.Mel", *ONE_EPOCH) == 0
    capsys.readouterr()
    sys.path.remove(str(own.parent))
    monkeypatch.delitem(sys.modules, "mine")
    lacking = (
        "the model needs the module 'mine', which is not found: install it, run where it lies, or put its folder on "
        "PYTHONPATH"
    )
    assert run("predict", "--run_dir", str(run_dir), file) == 2
    assert capsys.readouterr().err == (
        f"audiocls: error: {run_dir / 'checkpoints' / 'best.ckpt'} cannot be loaded: {lacking}\n"
    )
    for command in ("test", "validate"):
        assert run(command, "--run_dir", str(run_dir)) == 2
        assert capsys.readouterr().err == f"audiocls: error: {lacking}\n"
    monkeypatch.chdir(own.parent)
    assert run("predict", "--run_dir", str(run_dir), file) == 0


def test_folds_take_a_data_set_of_one_s_own_with_an_untyped_parameter(own: Path, tones: Path) -> None:
    words = ["--config", str(own), "--data", "mine.Folder", "--data.store", str(tones), "--data.clip_seconds", "0.2"]
    data = open_data(yaml.safe_load(resolved_config(words)))
    assert type(data).__name__ == "Folder"


# --- what a run is ---


def test_a_run_keeps_everything_in_its_folder(trained: Path) -> None:
    assert {"config.yaml", "checkpoints", "metrics.csv", "figures", "wandb"} <= {
        path.name for path in trained.iterdir()
    }
    assert {path.name for path in (trained / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert len(pd.read_csv(trained / "metrics.csv")) == 2


def test_the_run_can_be_read_back_from_what_wandb_wrote(trained: Path) -> None:
    seen = read_offline_run(trained)
    assert seen.config["model"]["frontend"]["init_args"]["n_mels"] == 40
    assert seen.config["data"]["class_path"] == "datamodules.AudioFolder"
    logged = {name for row in seen.history for name in row}
    assert {"train/loss", "val/loss", "val/accuracy", "val/auroc_macro", "lr"} <= logged
    assert {"val/classes", "val/confusion_table", "val/figures/filterbank", "val/figures/confusion"} <= {
        name.split(".")[0] for name in logged
    }
    assert (trained / "wandb" / "run_id").read_text() in str(seen.folder)


def test_fit_of_one_epoch_says_its_scores_and_leaves_nothing_in_the_present_folder(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fit(tones, Path("runs/here"), *WITH_WANDB, *ONE_EPOCH) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("validation of epoch 0: 6 clips")
    assert second.startswith(" ")
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_predict_scores_as_the_test_does(tones: Path, tone_files: Path, tmp_path: Path) -> None:
    """It padded with zeros and took whole windows whatever the model was trained and tested with."""
    settings = ["--data.padding", "repeat", "--data.hop_seconds", "0.07", *ONE_EPOCH]
    assert fit(tones, tmp_path / "run", *settings) == 0
    assert run("test", "--run_dir", str(tmp_path / "run")) == 0
    tested = pd.read_csv(tmp_path / "run" / "test_predictions.csv").set_index("clip_id")
    lengths = [len(soundfile.read(tone_files / clip)[0]) for clip in tested.index]
    assert min(lengths) < 1600 < max(lengths)  # some are padded, some have several windows
    files = [str(tone_files / clip) for clip in tested.index]
    assert run("predict", "--run_dir", str(tmp_path / "run"), *files, "--out", str(tmp_path / "out.csv")) == 0
    predicted = pd.read_csv(tmp_path / "out.csv")
    for name in ("high", "low", "mid"):
        # decoded anew and scored alone, in float32
        assert predicted[name].tolist() == pytest.approx(tested[f"p({name})"].tolist(), abs=1e-5)


def test_one_tag_alone_trains_tests_and_predicts(tones: Path, tone_files: Path, tmp_path: Path) -> None:
    """At least two classes were asked for, whatever the task."""
    rows = []
    for file in sorted(tone_files.rglob("*.wav")):
        pitch, number = file.stem.split("_")
        split = {"8": "validation", "9": "test"}.get(number, "train")
        rows.append({"path": f"{pitch}/{file.name}", "label": "high" if pitch == "high" else "", "split": split})
    pd.DataFrame(rows).to_csv(tmp_path / "tags.csv", index=False)
    tags = ["--data", "AudioTable", "--data.root", str(tmp_path / "tags.csv"), "--data.task", "multilabel"]
    run_dir = tmp_path / "run"
    assert fit(tones, run_dir, *tags, "--data.order", "balanced", *ONE_EPOCH) == 0
    assert run("test", "--run_dir", str(run_dir), "--bootstrap_draws", "40") == 0
    scores = pd.read_csv(run_dir / "test_metrics.csv").iloc[-1]
    assert scores["test/classes_scored"] == 1
    assert 0 <= scores["test/auroc_macro"] == scores["test/auroc_micro"] <= 1
    assert scores["test/f1_macro"] == scores["test/f1_micro"]
    assert pd.read_csv(run_dir / "test_classes.csv")["class"].tolist() == ["high"]
    clips, out = [str(tone_files / pitch / f"{pitch}_9.wav") for pitch in ("high", "low")], tmp_path / "out.csv"
    assert run("predict", "--run_dir", str(run_dir), *clips, "--out", str(out)) == 0
    predicted = pd.read_csv(out, keep_default_na=False)
    assert predicted.columns.tolist() == ["path", "labels", "high"]
    model = Classifier.load_from_checkpoint(run_dir / "checkpoints" / "best.ckpt", weights_only=True)
    assert model.thresholds is not None
    reached = predicted["high"] >= model.thresholds.item()
    assert predicted["labels"].tolist() == ["high" if there else "" for there in reached]


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_any_precision_trains(precision: str, tones: Path, tmp_path: Path) -> None:
    settings = ["--trainer.precision", precision, *ONE_EPOCH]
    assert fit(tones, tmp_path / "run", *settings) == 0
    assert pd.read_csv(tmp_path / "run" / "metrics.csv")["val/loss"].notna().all()


def test_an_accelerator_that_is_not_there_says_what_to_type(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ended in "No supported gpu backend found!", whatever one was to do about that."""
    see_no_device(monkeypatch)
    assert fit(tones, tmp_path / "run", "--trainer.accelerator", "gpu") == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert said == (
        "audiocls: error: --trainer.accelerator gpu needs a device that torch does not see here: "
        "say --trainer.accelerator auto or cpu"
    )
    assert not (tmp_path / "run").exists()


def test_the_progress_bar_shows_no_part_of_an_id(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It showed `v_num=3f2a`, and neither loss nor score."""
    bar = ["--trainer.enable_progress_bar", "true"]
    assert fit(tones, tmp_path / "ours", *bar, *WITH_WANDB) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out  # nor does it draw bars over bars where it is written to a file
    *_, last = re.findall(r"Epoch 1: 100%.*", out)
    metrics = pd.read_csv(tmp_path / "ours" / "metrics.csv").iloc[-1]
    shown = {name: float(value) for name, value in re.findall(r"(\w+)=([\d.]+)", last)}
    assert shown == {
        short: pytest.approx(metrics[name], rel=5e-3)  # three digits are shown
        for short, name in {"loss": "train/loss", "val_loss": "val/loss", "val_acc": "val/accuracy"}.items()
    }
    own = ["--trainer.callbacks+", "TQDMProgressBar", "--trainer.callbacks.refresh_rate", "2"]
    assert fit(tones, tmp_path / "own", *bar, *own, *ONE_EPOCH) == 0  # there can be but one


def test_the_loss_is_read_only_where_the_bar_is_drawn(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reading waits for the device; Lightning draws after every step, and twice."""
    read: list[int] = []
    monkeypatch.setattr(Classifier, "running_loss", lambda self: read.append(self.trainer.global_step) or 0.0)
    bar = ["--trainer.enable_progress_bar", "true", "--data.batch_size", "2", *ONE_EPOCH]
    assert fit(tones, tmp_path / "log", *bar) == 0
    assert set(read) == {1, 9}  # the first step and the last
    assert len(read) == 4  # and once more behind the validation and at the epoch's end


def test_a_fit_says_the_scores_of_the_epoch_that_is_kept(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scores of the last epoch stood above the tables of the best."""
    equal = ["--monitor", "val/classes_scored"]  # the same in every epoch, so that the first is the best
    ends = ["--trainer.max_epochs", "3", "--trainer.max_steps", "5"]  # a step of epoch 2, which is not validated
    assert fit(tones, tmp_path / "run", *equal, *ends) == 0
    first, second, *_ = capsys.readouterr().out.splitlines()
    metrics = pd.read_csv(tmp_path / "run" / "metrics.csv")
    assert first.startswith(
        "validation of epoch 0, the best of epochs 0 to 1 by val/classes_scored: 6 clips  accuracy "
    )
    assert second.startswith("validation of epoch 1, the last: 6 clips  accuracy ")
    areas = metrics["val/auroc_macro"].dropna()
    assert areas[0] != areas[1]
    assert all(f"auroc_macro {area:.4g} " in line for area, line in zip(areas, (first, second), strict=True))


def test_a_split_without_clips_is_named(tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fit(tones, tmp_path / "run", "--data.validation", "0") == 2
    assert "no clip has the split 'validation': give it to some clips" in capsys.readouterr().err


def test_the_last_epoch_is_kept_where_the_validation_is_trained_on(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(tones, tmp_path / "run", "--data.train_on_validation", "true") == 0
    loss = pd.read_csv(tmp_path / "run" / "metrics.csv")["train/loss"].iloc[-1]
    assert capsys.readouterr().out.startswith(
        f"nothing was validated: the last of 2 epochs is kept, training loss {loss:.4g}\n"
    )
    best, last = (torch.load(tmp_path / f"run/checkpoints/{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert best["epoch"] == last["epoch"] == 1
    assert all(weight.equal(last["state_dict"][name]) for name, weight in best["state_dict"].items())
    assert not any("val" in name for name in pd.read_csv(tmp_path / "run" / "metrics.csv"))
    assert run("test", "--run_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu") == 0
    capsys.readouterr()
    assert run("validate", "--run_dir", str(tmp_path / "run"), "--trainer.accelerator", "cpu") == 2
    assert capsys.readouterr().err.strip() == (
        "audiocls: error: nothing is left to validate: data.train_on_validation trains on it; validate a run that was "
        "trained without, or set trainer.limit_val_batches to 0"
    )


UNSEEN = ["--data.train_on_validation", "true"]
PLATEAU = ["--model.lr_scheduler", "torch.optim.lr_scheduler.ReduceLROnPlateau"]
EARLY = ["--trainer.callbacks+=pytorch_lightning.callbacks.EarlyStopping", "--trainer.callbacks.monitor"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ([*UNSEEN, "--monitor", "val/loss"], "--monitor val/loss has nothing to choose by, since nothing is validated"),
        ([*UNSEEN, *PLATEAU], "ReduceLROnPlateau waits for validations, and nothing is validated here: take another"),
        ([*UNSEEN, *EARLY, "val/loss"], "EarlyStopping waits for val/loss, and nothing is validated here: set its"),
        (["--monitor", "val/acuracy"], "there is no 'val/acuracy' to monitor: there are epoch, lr, step, train/loss,"),
        (["--monitor", "accuracy"], "did you mean 'val/accuracy'?"),
        (["--monitor", "val_acc"], "did you mean 'val/accuracy'?"),  # as the progress bar has it
        ([*EARLY, "val/los"], "did you mean 'val/loss'?"),
        (
            ["--trainer.val_check_interval", "1000"],
            "`val_check_interval` (1000) must be less than or equal to the number",
        ),
        (["--trainer.overfit_batches", "-1"], "You have passed invalid value -1 for overfit_batches"),
    ],
)
def test_a_run_that_would_wait_in_vain_is_not_begun(
    settings: list[str], says: str, tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They ended in a traceback once an epoch was trained, or were passed over in silence."""
    assert fit(tones, tmp_path / "run", *settings) == 2
    assert not list((tmp_path / "run").rglob("*.ckpt"))
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("audiocls: error: ")
    assert says in last


@pytest.mark.parametrize(
    "settings",
    [
        [*UNSEEN, *EARLY, "train/loss", "--trainer.check_val_every_n_epoch", "2"],
        ["--trainer.check_val_every_n_epoch", "3"],
        ["--trainer.limit_val_batches", "1", "--data.batch_size", "1", *ONE_EPOCH],  # one clip, whose axes were lost
        ["--trainer.limit_val_batches", "0"],
        [*PLATEAU, "--trainer.check_val_every_n_epoch", "2"],
    ],
)
def test_there_is_a_best_checkpoint_however_little_is_validated(
    settings: list[str], tones: Path, tmp_path: Path
) -> None:
    assert fit(tones, tmp_path / "run", *settings) == 0
    assert {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}


def test_a_run_under_way_is_validated_and_scores_of_clips_that_were_trained_on_are_warned_of(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    said = "the checkpoint was trained on other clips than the training split has now"
    caplog.set_level("WARNING", "datamodules")
    with locked(str(trained)):  # a run under way can be validated
        assert run("validate", "--run_dir", str(trained), "--bootstrap_draws", "0") == 0
    assert said not in caplog.text
    assert run("validate", "--run_dir", str(trained), "--bootstrap_draws", "0", "--data.split_seed", "1") == 0
    assert said in caplog.text


def test_a_used_folder_is_not_trained_over(trained: Path, tones: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "checkpoints" / "best.ckpt").read_bytes()
    assert fit(tones, trained) == 2
    assert f"go on with it by --ckpt_path last, or train anew in another folder, such as --run_dir {trained}-2" in (
        capsys.readouterr().err
    )
    assert (trained / "checkpoints" / "best.ckpt").read_bytes() == before


def test_a_run_that_has_gone_further_than_it_is_to_go_says_how_far(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lightning named neither the option nor the checkpoint."""
    assert run("fit", "--run_dir", str(trained), "--ckpt_path", "last", *ONE_EPOCH) == 2
    assert capsys.readouterr().err == (
        "audiocls: error: --trainer.max_epochs must be at least 2, the epochs that "
        f"{trained / 'checkpoints' / 'last.ckpt'} has begun, got 1\n"
    )


def test_the_saved_configuration_trains_again_to_the_same_weights(trained: Path, tmp_path: Path) -> None:
    again = [
        "--config",
        str(trained / "config.yaml"),
        "--run_dir",
        str(tmp_path / "again"),
        "--trainer.logger",
        "false",
    ]
    assert run("fit", *again) == 0
    one, two = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (trained, tmp_path / "again")
    )
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_checkpoint_is_the_whole_recipe(trained: Path, tones: Path) -> None:
    path = trained / "checkpoints" / "best.ckpt"
    kept = torch.load(path, weights_only=True)["audiocls"]
    assert kept["class_names"] == ["high", "low", "mid"]
    assert kept["sample_rate"] == 8000
    assert set(kept["versions"]) == {"audiocls", "torch", "pytorch-lightning", "python"}
    classifier = Classifier.load_from_checkpoint(path, weights_only=True)
    assert type(classifier.head).__name__ == "ConvNet"
    assert (classifier.sample_rate, classifier.clip_seconds, classifier.task) == (8000, 0.2, "multiclass")
    assert classifier.class_names == ["high", "low", "mid"]


def test_test_needs_only_the_run_and_gives_the_same_whatever_model_the_configuration_says(
    trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run("test", "--run_dir", str(trained)) == 0
    first = pd.read_csv(trained / "test_metrics.csv")
    config = ["--config", str(trained / "config.yaml"), "--config", str(CONF / "heads" / "music_crnn.yaml")]
    best = ["--ckpt_path", str(trained / "checkpoints" / "best.ckpt"), "--data.batch_size", "3"]
    assert run("test", *config, *best) == 0
    second = pd.read_csv(trained / "test_metrics.csv")
    assert len(second) == 1
    pd.testing.assert_frame_equal(first, second, rtol=1e-6)  # another batch size: float32 sums in another order
    assert not [record for record in caplog.records if record.name == "audiocls.misfits"]


def test_null_of_a_part_of_a_part_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    """It was the word None, and refused."""
    decibels = ["--model.frontend.compression", "Decibel", "--model.frontend.compression.top_db", "null"]
    assert run("fit", "--config", RECIPE, *decibels, "--print_config") == 0
    compression = yaml.safe_load(capsys.readouterr().out)["model"]["frontend"]["init_args"]["compression"]
    assert compression == {
        "class_path": "audiocls.frontends.Decibel",
        "init_args": {"ref": 1.0, "amin": 1e-10, "top_db": None},
    }


def test_an_overlay_changes_one_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "--config", RECIPE, "--config", str(CONF / "heads" / "music_crnn.yaml"), "--print_config") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["head"]["class_path"] == "audiocls.heads.MusicCRNN"
    assert printed["model"]["frontend"]["init_args"]["n_fft"] == 256
    assert "num_classes" not in printed["model"]  # linked: the data says it


def test_predict_prints_and_writes_probabilities(
    trained: Path, tone_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no audio at all")
    files = [str(tone_files / "low" / "low_0.wav"), str(tone_files / "high" / "high_1.wav"), str(broken)]
    assert run("predict", "--run_dir", str(trained), *files, "--out", str(tmp_path / "out.csv")) == 1
    out, err = capsys.readouterr()
    table = pd.read_csv(tmp_path / "out.csv")
    assert table.columns.tolist() == ["path", "label", "high", "low", "mid"]
    assert table[["high", "low", "mid"]].sum(axis=1).tolist() == pytest.approx([1, 1])
    assert out.count("\n") == 3
    assert "broken.wav" in err
    assert "1 of 3 files could not be decoded" in err


class Foreign:
    """What a foreign checkpoint may hold: code that runs when it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('code of a foreign file has run')",)


def test_a_foreign_checkpoint_executes_nothing(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled, plain, renamed = tmp_path / "pickled.ckpt", tmp_path / "plain.ckpt", tmp_path / "renamed.ckpt"
    torch.save({"state_dict": Foreign()}, pickled)
    torch.save({"state_dict": {}}, plain)
    ours = torch.load(trained / "checkpoints" / "best.ckpt", weights_only=True)
    ours["hyper_parameters"]["_instantiator"] = "os.system"
    torch.save(ours, renamed)
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    for path in (pickled, tmp_path / "text.ckpt"):
        for command in (["predict", "a.wav"], ["test", "--config", str(trained / "config.yaml")]):
            assert run(*command, "--ckpt_path", str(path)) == 2
            assert f"{path} cannot be read as a checkpoint" in capsys.readouterr().err
    for path in (plain, renamed):
        assert run("predict", "a.wav", "--ckpt_path", str(path)) == 2
        assert f"{path} was not written by `audiocls fit`" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["predict", "a.wav"], ["test"], ["fit"]])
def test_a_flipped_bit_in_a_checkpoint_is_found(
    command: list[str], trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was read as another weight, without a word."""
    best, damaged = trained / "checkpoints" / "best.ckpt", tmp_path / "damaged.ckpt"
    weight = torch.load(best, weights_only=True)["state_dict"]["head.output.weight"]
    content = bytearray(best.read_bytes())
    content[content.index(weight.numpy().tobytes()) + 5] ^= 1
    damaged.write_bytes(content)
    assert not torch.load(damaged, weights_only=True)["state_dict"]["head.output.weight"].equal(weight)
    if command != ["predict", "a.wav"]:
        command = [*command, "--config", str(trained / "config.yaml")]
    assert run(*command, "--ckpt_path", str(damaged)) == 2
    *_, said = capsys.readouterr().err.splitlines()
    assert re.match(rf"audiocls: error: {damaged} is damaged: the checksum of \S+/data/\d+ in it is wrong; take", said)


@pytest.mark.parametrize("find", ["index", "rindex"])
def test_a_checkpoint_damaged_in_its_table_of_contents_ends_in_one_line(
    find: str, trained: Path, tmp_path: Path
) -> None:
    content = bytearray((trained / "checkpoints" / "best.ckpt").read_bytes())
    damaged = tmp_path / "damaged.ckpt"
    content[getattr(content, find)(b"data.pkl")] ^= 0x80  # of the name beside the entry, or in the table: no UTF-8 now
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.ckpt cannot be read as a checkpoint \("):
        read_checkpoint(damaged)


def test_a_checkpoint_is_not_tested_at_another_sample_rate(
    trained: Path, tone_files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = make_store(tone_files, tmp_path / "store", sample_rate=16000)
    elsewhere = ["--data.store", str(store), "--data.sample_rate", "16000"]
    assert run("test", "--run_dir", str(trained), *elsewhere) == 2
    assert "the checkpoint was trained at 8000 Hz but the data is at 16000 Hz: decode again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["a.wav"], "say which model: --ckpt_path FILE, --run_dir DIR or --config YAML"),
        (["--run_dir", "nowhere", "a.wav"], "there is no nowhere/checkpoints/best.ckpt"),
        (["--run_dir", "nowhere", "a.wav", "--top", "0"], "--top must be at least 1, got 0"),
        (["--run_dir", "nowhere", "a.wav", "--batch_size", "0"], "--batch_size must be at least 1, got 0"),
        (["--run_dir", "nowhere", "a.wav", "--out", "."], "--out must end in .csv, got '.'"),
    ],
)
def test_predict_says_what_is_missing(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("predict", *arguments) == 2
    assert says in capsys.readouterr().err


# --- where things are ---


def test_find_checkpoint_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert find_checkpoint(tmp_path, "last") == tmp_path / "checkpoints" / "last.ckpt"
    with pytest.raises(ValueError, match=r"--ckpt_path can be .*last\.ckpt"):
        find_checkpoint(tmp_path, "best")
    with pytest.raises(ValueError, match=f"give the run's folder, --run_dir {tmp_path}$"):
        find_checkpoint(tmp_path / "checkpoints", "last")
    with pytest.raises(
        ValueError, match=r"last\.ckpt is a file: give the folder of its run, or the file by --ckpt_path"
    ):
        find_checkpoint(tmp_path / "checkpoints" / "last.ckpt", "best")


def test_a_run_brings_its_own_configuration(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    checkpoint.touch()
    assert with_known_config(["test", "--run_dir", str(tmp_path)]) == ["test", "--run_dir", str(tmp_path)]
    config = tmp_path / "config.yaml"
    config.touch()
    assert with_known_config(["test", "--run_dir", str(tmp_path)]) == ["test", "--run_dir", str(tmp_path)]
    config.write_text("run_dir: elsewhere")
    for given in (["--run_dir", str(tmp_path)], [f"--run_dir={tmp_path}"], ["--ckpt_path", str(checkpoint)]):
        found = ["test", "--config", str(config), "--run_dir", str(tmp_path)]
        assert with_known_config(["test", *given])[:5] == found
    other = str(CONF / "fma.yaml")
    assert with_known_config(["test", "--config", other, "--run_dir", "x"]) == [
        "test",
        "--config",
        other,
        "--run_dir",
        "x",
    ]
    assert with_known_config(["fit", "--run_dir", str(tmp_path)]) == ["fit", "--run_dir", str(tmp_path)]


def test_unused_counts_up(tmp_path: Path) -> None:
    run_dir = tmp_path / "a"
    shutil.copytree(CONF, f"{run_dir}-2")
    assert unused(str(run_dir)) == f"{run_dir}-3"

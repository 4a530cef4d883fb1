"""StepSeed, GracefulStop, LastCheckpoint: a stopped and resumed run equals one that was not stopped."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from audiocls.callbacks import GracefulStop, LastCheckpoint, StepSeed

STEPS_PER_EPOCH = 6


class Dropper(pl.LightningModule):
    """A small network whose dropout makes every step depend on the generator."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 16), nn.Dropout(0.5), nn.Linear(16, 1))
        self.draws: list[float] = []
        self.validated: list[int] = []

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.draws.append(torch.rand(()).item())
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        self.validated.append(self.global_step)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.05)


class Resumable(DataLoader):
    """Keeps its place: Lightning saves and restores a loader that has these two methods."""

    start = fetched = 0

    def __iter__(self):
        start, self.start = self.start, 0
        self.fetched = start
        for index, batch in enumerate(super().__iter__()):
            if index >= start:
                self.fetched += 1
                yield batch

    def state_dict(self) -> dict[str, int]:
        return {"fetched": self.fetched % len(self)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["fetched"]


class SignalAt(Callback):
    """Sends a signal to this process during a step, as soon as its batch is there."""

    def __init__(self, step: int, signum: int = signal.SIGTERM) -> None:
        self.step, self.signum = step, signum
        self.sent = False

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.signum)


def fit(
    folder: Path,
    *callbacks: Callback,
    epochs: int = 3,
    ckpt_path: Path | None = None,
    model: Dropper | None = None,
    **settings,
):
    """Train; every model begins with the same weights."""
    torch.manual_seed(0)
    fresh = Dropper()
    model = fresh if model is None else model
    model.load_state_dict(fresh.state_dict())
    rows = torch.arange(STEPS_PER_EPOCH * 2 * 4, dtype=torch.float32).reshape(-1, 4) / 50
    trainer = pl.Trainer(
        max_epochs=epochs, callbacks=list(callbacks), default_root_dir=folder, logger=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=1, **settings,
    )  # fmt: skip
    torch.manual_seed(os.getpid())  # whatever state the process is in must not matter
    loaders = Resumable(TensorDataset(rows), batch_size=2), DataLoader(TensorDataset(rows), batch_size=6)
    trainer.fit(model, *loaders, ckpt_path=ckpt_path)
    return model


ON_CPU = SimpleNamespace(device=torch.device("cpu"))


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 8}, {"rank": 1}])
def test_step_seed_is_a_function_of_seed_step_and_rank(change):
    def draw(seed: int = 0, step: int = 7, rank: int = 0) -> list[float]:
        torch.rand(3)
        trainer = SimpleNamespace(global_step=step, global_rank=rank)
        StepSeed(seed).on_train_batch_start(trainer, ON_CPU, None, 0)
        return torch.rand(4).tolist()

    assert draw() == draw()
    assert draw() != draw(**change)


def test_neighbouring_steps_and_ranks_draw_different_numbers():
    def draw(step: int, rank: int) -> float:
        StepSeed(0).on_train_batch_start(SimpleNamespace(global_step=step, global_rank=rank), ON_CPU, None, 0)
        return torch.rand((), dtype=torch.float64).item()

    draws = torch.tensor([[draw(step, rank) for rank in range(2)] for step in range(500)])
    assert len(draws.unique()) == 1000  # 32 bits of seed: a collision has a probability of 0.01 %, and these are fixed
    # standard error of a correlation of 500 independent pairs: 0.045
    assert abs(torch.corrcoef(draws.T)[0, 1]) < 0.15
    assert abs(torch.corrcoef(torch.stack([draws[1:, 0], draws[:-1, 0]]))[0, 1]) < 0.15


def test_step_seed_reaches_every_device_where_there_are_any(monkeypatch):
    seeded: list[int] = []
    monkeypatch.setattr(torch, "manual_seed", seeded.append)
    for device in ("cpu", "cuda"):  # on a processor that took 0.3 ms and more a step
        trainer = SimpleNamespace(global_step=0, global_rank=0)
        StepSeed(0).on_train_batch_start(trainer, SimpleNamespace(device=torch.device(device)), None, 0)
    assert seeded == [torch.initial_seed()]


def test_step_seed_takes_the_seed_of_seed_everything(monkeypatch):
    def draw(callback: StepSeed) -> float:
        callback.on_train_batch_start(SimpleNamespace(global_step=0, global_rank=0), ON_CPU, None, 0)
        return torch.rand(()).item()

    monkeypatch.setenv("PL_GLOBAL_SEED", "11")
    assert draw(StepSeed()) == draw(StepSeed(11)) != draw(StepSeed(0))


def test_accumulated_batches_of_one_step_draw_differently(tmp_path):
    model = fit(tmp_path, StepSeed(), epochs=1, accumulate_grad_batches=3, enable_checkpointing=False)
    assert len(set(model.draws)) == STEPS_PER_EPOCH


# in the middle of an epoch, in its first batch, and in its last, which is followed by a validation
@pytest.mark.parametrize(("step", "stops"), [(9, 10), (6, 7), (11, 12)])
def test_stopped_and_resumed_run_is_bitwise_equal(tmp_path, step, stops):
    whole = fit(tmp_path / "whole", StepSeed(3), enable_checkpointing=False)
    before = signal.getsignal(signal.SIGTERM)
    stopped_model, last = Dropper(), tmp_path / "last.ckpt"
    with pytest.raises(SystemExit) as stopped:
        fit(tmp_path, SignalAt(step), StepSeed(3), GracefulStop(), LastCheckpoint(last), model=stopped_model)
    assert stopped.value.code == 143
    assert signal.getsignal(signal.SIGTERM) == before
    assert torch.load(last, weights_only=True)["global_step"] == stops
    resumed = fit(tmp_path, StepSeed(3), GracefulStop(), LastCheckpoint(last), ckpt_path=last)
    assert resumed.draws == whole.draws[stops:]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    # no validation is lost between the two
    assert set(stopped_model.validated) | set(resumed.validated) == set(whole.validated)


def test_a_run_with_one_batch_an_epoch_can_be_stopped_too(tmp_path):
    settings = {"epochs": 6, "limit_train_batches": 1}
    whole = fit(tmp_path / "whole", StepSeed(3), enable_checkpointing=False, **settings)
    last = tmp_path / "last.ckpt"
    with pytest.raises(SystemExit):
        fit(tmp_path, SignalAt(2), StepSeed(3), GracefulStop(), LastCheckpoint(last), **settings)
    assert torch.load(last, weights_only=True)["global_step"] == 3
    resumed = fit(tmp_path, StepSeed(3), GracefulStop(), LastCheckpoint(last), ckpt_path=last, **settings)
    assert resumed.draws == whole.draws[3:]
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize(("step", "stops"), [(9, 10), (11, 12)])
def test_ctrl_c_lost_the_batch_under_way_and_the_validation_behind_it(tmp_path, step, stops):
    """It was raised in mid-batch, when the loader had handed the batch out."""
    whole = fit(tmp_path / "whole", StepSeed(3), enable_checkpointing=False)
    before = signal.getsignal(signal.SIGINT)
    stopped_model, last = Dropper(), tmp_path / "last.ckpt"
    with pytest.raises(SystemExit) as stopped:  # Lightning's, behind KeyboardInterrupt
        fit(tmp_path, SignalAt(step, signal.SIGINT), StepSeed(3), GracefulStop(), LastCheckpoint(last),
            model=stopped_model)  # fmt: skip
    assert isinstance(stopped.value.__context__, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) == before
    assert torch.load(last, weights_only=True)["global_step"] == stops
    resumed = fit(tmp_path, StepSeed(3), GracefulStop(), LastCheckpoint(last), ckpt_path=last)
    assert resumed.draws == whole.draws[stops:]
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert set(stopped_model.validated) | set(resumed.validated) == set(whole.validated)


def test_ctrl_c_waits_for_a_step_of_training_alone_and_a_second_one_for_nothing():
    trainer = SimpleNamespace(world_size=1, training=True)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    try:
        for training, n in ((True, 2), (False, 1)):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            trainer.training, stop = training, GracefulStop()
            stop.on_train_start(trainer, None)
            for _ in range(n - 1):
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        stop.on_train_start(trainer, None)
        stop.on_train_end(trainer, None)
        assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup
        stop.on_train_start(trainer, None)
        stop.on_train_end(trainer, None)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_between_accumulated_batches_lost_their_gradients(tmp_path, signum):
    settings = {"accumulate_grad_batches": 4}  # of six batches: steps of four and of two
    whole = fit(tmp_path / "whole", StepSeed(3), enable_checkpointing=False, **settings)
    last = tmp_path / "last.ckpt"
    with pytest.raises(SystemExit):
        fit(tmp_path, SignalAt(2, signum), StepSeed(3), GracefulStop(), LastCheckpoint(last), **settings)
    assert torch.load(last, weights_only=True)["global_step"] == 3
    resumed = fit(tmp_path, StepSeed(3), GracefulStop(), LastCheckpoint(last), ckpt_path=last, **settings)
    assert resumed.draws == whole.draws[10:]
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_checkpoint_was_written_between_accumulated_batches_before_the_first_step_and_after_resuming(tmp_path):
    class Kept(LastCheckpoint):
        def _save(self, trainer: pl.Trainer) -> None:
            super()._save(trainer)
            kept.append((trainer.global_step, trainer.fit_loop.epoch_loop.batch_progress.current.ready))

    kept: list[tuple[int, int]] = []
    last = Kept(tmp_path / "last.ckpt", every_n_steps=1)
    settings = {"accumulate_grad_batches": 4, "epochs": 1}
    fit(tmp_path, last, **settings)
    fit(tmp_path, Kept(tmp_path / "last.ckpt", every_n_steps=1), ckpt_path=last.path, **settings | {"epochs": 2})
    assert kept == [(1, 4), (2, 6), (2, 6), (3, 4), (4, 6), (4, 6)]


@pytest.mark.parametrize("limits", [(8, -1), (8, 9, 12, 100), (6, 7, 100), (12, 100, -1)])
def test_a_limit_of_steps_lost_the_rest_of_its_epoch_and_the_epoch_behind_one(tmp_path, limits):
    """Lightning ends the epoch, and with a limit it takes one that has ended for one under way."""
    whole = fit(tmp_path / "whole", StepSeed(3), enable_checkpointing=False)
    last, draws = tmp_path / "last.ckpt", []
    for limit in limits:
        ckpt_path = last if last.exists() else None
        part = fit(tmp_path, StepSeed(3), LastCheckpoint(last), ckpt_path=ckpt_path, max_steps=limit)
        draws += part.draws
    assert draws == whole.draws
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), part.parameters(), strict=True))


class Clock(Callback):
    """Stops the training as `max_time` does, where it is not asked for."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.batches -= 1
        if self.batches == 0:
            trainer.should_stop = True


@pytest.mark.parametrize(
    ("settings", "n_trained"), [({}, 8), ({"limit_val_batches": 0}, 8), ({"accumulate_grad_batches": 4}, 10)]
)
def test_a_limit_of_time_lost_the_rest_of_its_epoch_and_gradients_that_were_no_step(tmp_path, settings, n_trained):
    whole = fit(tmp_path / "whole", StepSeed(3), enable_checkpointing=False, **settings)
    last = tmp_path / "last.ckpt"
    part = fit(tmp_path, Clock(8), StepSeed(3), LastCheckpoint(last), **settings)
    assert len(part.draws) == n_trained
    resumed = fit(tmp_path, StepSeed(3), LastCheckpoint(last), ckpt_path=last, **settings)
    assert part.draws + resumed.draws == whole.draws
    assert all(torch.equal(*pair) for pair in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_a_validation_inside_an_epoch_is_saved_too(tmp_path):
    kept = []

    class Kept(LastCheckpoint):
        def _save(self, trainer: pl.Trainer) -> None:
            super()._save(trainer)
            kept.append(trainer.global_step)

    fit(tmp_path, Kept(tmp_path / "last.ckpt"), epochs=2, val_check_interval=2)
    assert kept == [2, 4, 6, 8, 10, 12]


def test_several_processes_agree_every_n_steps():
    asked: list[bool] = []

    def reduce(decision: bool, *, all: bool) -> bool:
        asked.append(decision)
        return True  # another process was told to stop

    strategy = SimpleNamespace(reduce_boolean_decision=reduce)
    trainer = SimpleNamespace(
        world_size=2, strategy=strategy, is_last_batch=False, val_check_batch=float("inf"), accumulate_grad_batches=1
    )
    stop = GracefulStop(every_n_steps=4)
    for batch_idx in (0, 1, 0):  # counted over epochs, however short they are
        stop.on_train_batch_end(trainer, None, None, None, batch_idx)
    trainer.is_last_batch = True
    stop.on_train_batch_end(trainer, None, None, None, 1)
    assert not asked
    trainer.is_last_batch = False
    with pytest.raises(SystemExit):
        stop.on_train_batch_end(trainer, None, None, None, 0)
    assert asked == [False]


def test_every_n_steps_is_checked():
    with pytest.raises(ValueError, match="every_n_steps must be at least 1 batch, got 0"):
        GracefulStop(every_n_steps=0)


@pytest.mark.slow
def test_sigterm_from_outside_ends_the_process_with_143(tmp_path):
    script = textwrap.dedent(
        """
        import sys, time
        sys.path[:0] = sys.argv[2:]
        from pathlib import Path
        from test_callbacks import Callback, GracefulStop, LastCheckpoint, StepSeed, fit

        class Slowly(Callback):
            def on_train_batch_start(self, *_):
                print("step", flush=True)
                time.sleep(0.05)

        folder = Path(sys.argv[1])
        fit(folder, Slowly(), StepSeed(), GracefulStop(), LastCheckpoint(folder / "last.ckpt"), epochs=1000)
        """
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", script, str(tmp_path), str(here), str(here.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "step" not in process.stdout.readline():
            assert process.poll() is None, "ended before the first step"
        process.terminate()
        process.stdout.read()
        assert process.wait(60) == 143
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] > 0

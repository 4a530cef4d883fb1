"""Cross-validation: every fold of a data set is the test once, with a fresh model in a process of its own.

Each fold is `audiocls fit` and then `audiocls test` of the best checkpoint. The best is chosen on the validation fold,
which is never the test fold, so that the choice of the epoch leaks nothing; with `data.train_on_validation` nothing is
chosen, and the last epoch is tested.

    run_dir/
      folds.yaml                    the configuration of all folds, every key of it
      fold01/ fold02/ …             a run each, with log.txt (what it printed) and state.json (how far it is)
      fold01-seed1/ …               the same with another seed than the configuration's
      folds.csv summary.csv         a row a fold; mean, standard deviation and intervals
      folds.png                     the same to look at

What is finished is not run again, and a fold that was stopped or killed goes on where it was. Which data set it is,
and which folds it has, the configuration says.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

import audiocls
from audiocls.fold_plan import CONFIG, FoldRun, Plan, Stage, replace_file
from audiocls.report import folds as report
from audiocls.report.folds import FoldResult
from audiocls.runs import CHECKPOINTS
from datamodules.locks import take_lock

LOG = "log.txt"
PATIENCE = 10.0  # seconds for which a fold that has lost its parent may finish its step and save
PR_SET_PDEATHSIG = 1  # linux/prctl.h
LIBC = ctypes.CDLL(None)
log = logging.getLogger(__name__)


class FoldFailedError(Exception):
    """A fold ended with an error; the text holds the last lines of its log."""


class Stopped(KeyboardInterrupt):
    """A signal ended the cross-validation; what is running has been stopped and saved.

    Args:
        signum: of the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@dataclass(frozen=True)
class Progress:
    """What is said while folds run: results so far, what runs at present, and the seconds left if they can be told."""

    finished: list[FoldResult]
    running: list[FoldRun]
    seconds_left: float | None


@dataclass
class _Child:
    """A process at work on one stage of a run."""

    run: FoldRun
    process: subprocess.Popen[bytes]
    slot: int
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.began


def run_folds(
    plan: Plan, *, jobs: int = 1, on_progress: Callable[[Progress], None] = lambda progress: None
) -> list[FoldResult]:
    """Train and test what is not finished; folds.csv is written after each fold.

    Args:
        plan: of `make_plan`.
        jobs: folds at once, each on a CUDA device of its own where there are several.
        on_progress: called about once a second.
    Returns:
        The results of all folds that are finished, also by earlier calls.
    Raises:
        ValueError: if `jobs` is below 1, or another process is at the same folder.
        FoldFailedError: if a fold ends with an error; the others' results stay.
        Stopped: on SIGINT, SIGTERM or SIGHUP, once the folds under way are saved.
    """
    if jobs < 1:
        raise ValueError(f"--jobs must be at least 1, got {jobs}")
    waiting = [run for run in plan.runs if run.stage != "done"]
    children: list[_Child] = []
    results = plan.finished()
    began, at_first, said = time.monotonic(), plan.share(), 0.0
    with _held(plan.run_dir) as lock, _interruptible():
        replace_file(plan.run_dir / CONFIG, plan.config)
        try:
            while waiting or children:
                free = sorted(set(range(jobs)) - {child.slot for child in children})
                children += [_start(plan, waiting.pop(0), slot, lock, jobs) for slot in free[: len(waiting)]]
                for child in [child for child in children if child.process.poll() is not None]:
                    children.remove(child)
                    if _settle(child) == "test":
                        children.append(_start(plan, child.run, child.slot, lock, jobs))
                    else:
                        results = plan.finished()
                        report.write_folds(plan.run_dir / "folds.csv", results)
                if time.monotonic() - said > 1:
                    said = time.monotonic()
                    running, done = [child.run for child in children], plan.share()
                    left = (len(plan.runs) - done) * (said - began) / (done - at_first) if done > at_first else None
                    on_progress(Progress(results, running, left))
                time.sleep(0.1)
        finally:
            _stop(children)
    on_progress(Progress(results, [], 0.0))
    return results


def _start(plan: Plan, run: FoldRun, slot: int, lock: int, jobs: int) -> _Child:
    """Begin the next stage of a run, its output going to its log."""
    stage = run.stage
    run.move_on(stage, seconds=0)
    command = [sys.executable, "-m", "audiocls", *_words(plan, run, stage)]
    environment = _environment(os.environ, slot=slot, jobs=jobs, group=plan.run_dir.absolute().name)
    with (run.folder / LOG).open("ab") as output:
        output.write(f"$ {shlex.join(command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,  # Ctrl-C is for this process, which stops the others in order
            pass_fds=(lock,),  # held until the last has ended, should this process be killed
            preexec_fn=_end_with_parent,
        )  # fmt: skip
    return _Child(run, process, slot)


def _words(plan: Plan, run: FoldRun, stage: Stage) -> list[str]:
    """What `audiocls` is told for a stage; clears away what a kill before the first checkpoint has left."""
    quiet = ["--trainer.enable_progress_bar", "false"]
    if stage == "test":
        return ["test", "--run_dir", str(run.folder), *quiet]
    words = ["fit", "--config", str(plan.run_dir / CONFIG), "--data.fold", str(run.fold)]
    words += ["--seed_everything", str(run.seed), "--run_dir", str(run.folder), *quiet]
    if (run.folder / CHECKPOINTS / "last.ckpt").is_file():
        return [*words, "--ckpt_path", "last"]
    for path in (run.folder / CHECKPOINTS).glob("*.ckpt"):
        path.unlink()  # the best of an epoch that did not end, which has to be trained again
    return words


def _environment(base: Mapping[str, str], *, slot: int, jobs: int, group: str) -> dict[str, str]:
    """Variables of a child: one W&B group, and where several folds run at once, a device and its share of the cores."""
    environment = {"WANDB_RUN_GROUP": group, "WANDB_JOB_TYPE": "fold"} | dict(base)
    package = str(Path(audiocls.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package, base.get("PYTHONPATH")]))
    if jobs > 1:
        visible = base.get("CUDA_VISIBLE_DEVICES")
        devices = list(map(str, range(torch.cuda.device_count()))) if visible is None else visible.split(",")
        if len(devices) > 1:
            environment["CUDA_VISIBLE_DEVICES"] = devices[slot % len(devices)]
        environment.setdefault("OMP_NUM_THREADS", str(max(len(os.sched_getaffinity(0)) // jobs, 1)))
    return environment


def _end_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # on which `audiocls fit` saves its step


def _settle(child: _Child) -> Stage:
    """Write down that a process has ended; the stage that is next.

    Raises:
        FoldFailedError: if it ended with an error.
    """
    run, status = child.run, child.process.returncode
    stage = run.stage
    if status:
        run.move_on(stage, seconds=child.seconds)
        doing = "training" if stage == "fit" else "test"
        why = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        path = run.folder / LOG
        tail = path.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        raise FoldFailedError(
            f"fold {run.fold} failed in {doing} ({why}); {path} ends with\n" + "\n".join(f"  {line}" for line in tail)
        )
    following: Stage = "test" if stage == "fit" else "done"
    run.move_on(following, seconds=child.seconds)
    return following


def _stop(children: Sequence[_Child]) -> None:
    """Let the children finish their step and save; a second signal kills them."""
    if children:
        log.warning("folds that finish their step and save it: %d; a second Ctrl-C kills them", len(children))
    try:
        for child in children:
            child.process.terminate()
        for child in children:
            child.process.wait()
    except BaseException:
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.process.pid, signal.SIGKILL)
        raise
    finally:
        for child in children:
            child.run.move_on(child.run.stage, seconds=child.seconds)


@contextlib.contextmanager
def _held(run_dir: Path) -> Iterator[int]:
    """One cross-validation at a time works in a folder, and none before the last child of a killed one has ended."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / ".lock").open("ab") as file:
        try:
            take_lock(file.fileno(), patience=PATIENCE)
        except BlockingIOError:
            raise ValueError(
                f"{run_dir} is in use by another cross-validation, or by a fold that a killed one has left: wait for "
                f"its end, or stop it"
            ) from None
        yield file.fileno()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Signals that end a process raise `Stopped` instead; one that is ignored, as under nohup, stays so."""

    def stop(signum: int, frame: object) -> None:
        raise Stopped(signum)

    signals = [s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(s) != signal.SIG_IGN]
    before = {signum: signal.signal(signum, stop) for signum in signals}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


# --- at the end ---


def write_report(plan: Plan, results: Sequence[FoldResult]) -> str:
    """Write folds.csv, summary.csv and folds.png; the line to paste."""
    tested = {result.fold for result in results}
    n_groups = None if plan.groups is None else plan.groups["group"][plan.groups["fold"].isin(tested)].nunique()
    return report.write_report(plan.run_dir, results, folds=plan.folds, n_groups=n_groups)

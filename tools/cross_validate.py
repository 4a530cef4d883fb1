"""Train and test on every fold of a data set. Stopped or killed, the same command goes on where it stopped."""

from __future__ import annotations

import argparse
import math
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

# Run as `python tools/cross_validate.py`, Python looks beside this file for modules, not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import verify_store

if TYPE_CHECKING:
    from audiocls.cross_validation import FoldResult, Progress

USAGE = "cross_validate.py --config FILE [--run_dir DIR] [--folds N ...] [--seeds N ...] [--jobs N] [options of fit]"
EPILOG = """
Every other option is handed to `audiocls fit` for all folds. Folders, tables and the figure stand in the run's folder;
what it prints at the end is a line to paste. `--run_dir DIR` alone goes on with what was begun there.
exit status: 0; 1, a fold failed; 2, wrong arguments; 130, stopped by Ctrl-C; 143, by SIGTERM

examples:
  python tools/cross_validate.py --config conf/urbansound8k.yaml
  python tools/cross_validate.py --config conf/urbansound8k.yaml --run_dir runs/us8k --trainer.max_epochs 30 --jobs 4
  python tools/cross_validate.py --run_dir runs/us8k --folds 1 2 3 --seeds 0 1 2
"""
EXIT_FAILED, EXIT_USAGE = 1, 2


def build_parser() -> verify_store.Parser:
    parser = verify_store.Parser(
        prog="cross_validate.py",
        usage=USAGE,
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--run_dir", metavar="DIR", help="folder of the whole (default: the configuration's run_dir)")
    add("--folds", type=int, nargs="+", metavar="N", help="folds to be the test (default: all)")
    add("--seeds", type=int, nargs="+", metavar="N", help="train each fold with each (default: the configuration's)")
    add("--jobs", type=int, default=1, metavar="N", help="folds at once, each on a GPU of its own (default: 1)")
    return parser


class Terminal:
    """A line for each fold that is finished, and one that changes for what runs."""

    def __init__(self, n_runs: int, max_epochs: int) -> None:
        self.n_runs, self.max_epochs = n_runs, max_epochs
        self.said: set[tuple[int, int]] = set()
        self.begun: set[tuple[int, int, str]] = set()

    def update(self, progress: Progress) -> None:
        for result in progress.finished:
            if (result.fold, result.seed) not in self.said:
                self.said.add((result.fold, result.seed))
                self._write(describe(result) + "\n")
        doing = []
        for run in progress.running:
            stage = {"fit": "training", "test": "testing"}.get(run.stage, "finishing")
            reached = min(run.epochs + 1, self.max_epochs)  # the last one's row is there before the process ends
            epoch = f" epoch {reached} of {self.max_epochs}" if stage == "training" and self.max_epochs else ""
            doing.append(f"fold {run.fold}{f' seed {run.seed}' * bool(run.seed)}: {stage}{epoch}")
            if not sys.stderr.isatty() and (run.fold, run.seed, stage) not in self.begun:
                self.begun.add((run.fold, run.seed, stage))
                self._write(f"fold {run.fold}, seed {run.seed}: {stage}, see {run.folder / 'log.txt'}\n")
        if sys.stderr.isatty() and doing:
            left = f", about {duration(progress.seconds_left)} left" if progress.seconds_left is not None else ""
            self._write(f"{len(progress.finished)} of {self.n_runs} done; {'; '.join(doing)}{left}")

    def close(self) -> None:
        """Clear the line that changes."""
        self._write("")

    def _write(self, text: str) -> None:
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write("\r\x1b[K" + (text if text.endswith("\n") else text[:width]))
        else:
            sys.stderr.write(text)
        sys.stderr.flush()


def describe(result: FoldResult) -> str:
    """One fold as a line."""
    name, value = next(iter(result.scores.items()))
    score = f"{100 * value:.1f} %" if name.startswith("accuracy") else f"{value:.3f}"
    return (
        f"fold {result.fold:>2}  seed {result.seed}  {name} {score}  {result.n_clips:,} clips  {result.minutes:.1f} min"
    )


def duration(seconds: float) -> str:
    """
    >>> duration(59), duration(3700)
    ('1 min', '1 h 2 min')
    """
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def main() -> int:
    parser = build_parser()
    arguments, words = parser.parse_known_args()
    if not words and arguments.run_dir is None:
        parser.error("give --config FILE, or the --run_dir of a cross-validation to go on with")
    terminal = None
    try:
        from audiocls import cross_validation, fold_plan  # noqa: PLC0415 - loads torch; --help need not wait for it

        plan = fold_plan.make_plan(words, run_dir=arguments.run_dir, folds=arguments.folds, seeds=arguments.seeds)
        terminal = Terminal(len(plan.runs), plan.max_epochs)
        results = cross_validation.run_folds(plan, jobs=arguments.jobs, on_progress=terminal.update)
        print(cross_validation.write_report(plan, results))
        for name in ("folds.csv", "summary.csv", "folds.png"):
            print(f"  {plan.run_dir / name}")
    except KeyboardInterrupt as stop:
        if terminal is not None:
            terminal.close()
        print("stopped: the same command goes on where it stopped", file=sys.stderr)
        return 128 + getattr(stop, "signum", signal.SIGINT)
    except (ValueError, OSError) as error:
        parser.exit(EXIT_USAGE, f"{parser.prog}: {error}\n")
    except cross_validation.FoldFailedError as error:
        assert terminal is not None
        terminal.close()
        print(f"{parser.prog}: {error}\nmend it, and the same command goes on with this fold", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())

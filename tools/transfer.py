"""What the layers of a trained net are worth as features for another data set, with controls, in one table."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# Run as `python tools/transfer.py`, Python looks beside this file for modules, not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tqdm import tqdm

import verify_store

USAGE = "transfer.py --run_dir DIR --config FILE [--data.store DIR] --out DIR [options]"
EPILOG = """
Every other option is read as `audiocls fit` reads it, and of them the data counts: --config FILE, --data.store DIR,
--data.fold N, ... The store must have the net's sample rate. Folds are the data's own; where it has none, validation
and training clips are learnt from and the test is scored, unless --folds draws some.

Each row is scored twice. nested: settings (and the best subset) are chosen inside the training clips of each fold.
choi2017: they are chosen on the clips that are scored, as GridSearchCV's best score is: comparable with Choi et al.
2017 (arXiv:1703.09179) and too high. Features are kept in the folder and used again.
exit status: 0; 1, the net gives no numbers for a clip; 2, wrong arguments; 130, stopped by Ctrl-C; 143, by SIGTERM

examples:
  python tools/transfer.py --run_dir runs/mtg --config conf/gtzan.yaml --data.split folds --out studies/gtzan --subsets
  python tools/transfer.py --run_dir runs/esc10 --config conf/beatbox.yaml --out studies/beatbox --classifier lda
"""
EXIT_FAILED, EXIT_USAGE = 1, 2


def build_parser() -> verify_store.Parser:
    parser = verify_store.Parser(
        prog="transfer.py",
        usage=USAGE,
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add, cores = parser.add_argument, len(os.sched_getaffinity(0))
    add("--run_dir", metavar="DIR", help="folder of the run that trained the net")
    add(
        "--ckpt_path", default="best", metavar="FILE", help="a checkpoint, or best or last of --run_dir (default: best)"
    )
    add("--out", type=Path, required=True, metavar="DIR", help="folder for features, table and figure")
    add(
        "--classifier", default="svm", choices=("svm", "lda", "logistic"),
        help="svm, with the grid of the paper; lda, with nothing to choose; logistic (default: svm)",
    )  # fmt: skip
    add("--layers", nargs="+", metavar="NAME", help="of the head (default: all but those that repeat an earlier one)")
    add("--subsets", action="store_true", help="all subsets of the layers, of five the 28 of the paper, and the best")
    add(
        "--random_weights", type=int, nargs="*", default=[0], metavar="SEED",
        help="the same net untrained, once a seed; none without one (default: 0)",
    )  # fmt: skip
    add("--folds", type=int, metavar="N", help="folds to draw, stratified, groups whole, for data without folds")
    add("--inner_folds", type=int, default=5, metavar="N", help="by which settings are chosen (default: %(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="of the folds that are drawn (default: %(default)s)")
    add("--jobs", type=int, default=cores, metavar="N", help="processes that fit (default: %(default)s, the cores)")
    return parser


@contextlib.contextmanager
def bar(what: str, done: int, total: int | None) -> Iterator[Callable[[int], object]]:
    """A progress bar."""
    with tqdm(initial=done, total=total, desc=what, dynamic_ncols=True, mininterval=0.5) as shown:
        yield shown.update


def stop(signum: int, frame: object) -> None:
    """End as Ctrl-C does."""
    raise KeyboardInterrupt(signum)


def main() -> int:
    parser = build_parser()
    arguments, words = parser.parse_known_args()
    signal.signal(signal.SIGTERM, stop)
    try:
        from audiocls import terminal, transfer, transfer_study  # noqa: PLC0415 - loads torch; --help need not wait

        terminal.quiet_libraries()
        said = transfer_study.run_study(words, progress=bar, **vars(arguments))
        print(said.table)
        print(said.sentences)
        for path in said.files:
            print(f"  {path}")
    except KeyboardInterrupt as stopped:
        print("stopped: features that were finished are used again by the same command", file=sys.stderr)
        return 128 + (stopped.args[0] if stopped.args else signal.SIGINT)
    except (ValueError, OSError) as error:
        parser.exit(EXIT_USAGE, f"{parser.prog}: {error}\n")
    except transfer.FeatureError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())

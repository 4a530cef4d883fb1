"""What several runs say together: the mean of their probabilities, fold by fold, scored as each run was."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

# Run as `python tools/fuse.py`, Python looks beside this file for modules, not in the checkout.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import verify_store

EPILOG = """
A run is the folder of a cross-validation, the folder of a tested run, or a table of predictions (test_predictions.csv,
or what `audiocls predict --out` has written). All must have the same folds, seeds, clips, classes and targets; of
several seeds, each goes with the same seed of the other runs. Probabilities below 1e-6 count as 1e-6 in a geometric
mean; numbers (regression) always have the arithmetic mean; tags are decided at 0.5.

Weights that were chosen by these very scores make them too good: choose them elsewhere, or leave them equal.
exit status: 0; 2, wrong arguments, or runs that do not belong together; 130, stopped by Ctrl-C

examples:
  python tools/fuse.py runs/philharmonia runs/philharmonia_moments --out runs/philharmonia_fused
  python tools/fuse.py runs/a runs/b --weights 2 1 --mean arithmetic --out runs/a-and-b
  python tools/fuse.py a.csv b.csv --out fused
"""
EXIT_USAGE, EXIT_INTERRUPTED = 2, 130


def build_parser() -> verify_store.Parser:
    parser = verify_store.Parser(
        prog="fuse.py",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("runs", type=Path, nargs="+", metavar="RUN", help="at least two folders or tables, all of one kind")
    add("--out", type=Path, required=True, metavar="DIR", help="folder to write, new or of the same call")
    add("--weights", type=float, nargs="+", metavar="W", help="one a run, above 0; only ratios count (default: equal)")
    add("--mean", choices=("geometric", "arithmetic"), help="of probabilities (default: geometric)")
    return parser


def main() -> int:
    parser = build_parser()
    arguments = parser.parse_args()
    try:
        from audiocls import fusion  # noqa: PLC0415 - loads torch; --help need not wait for it

        said = fusion.fuse_runs(**vars(arguments))
        print(*said.lines, *(f"  {path}" for path in said.files), sep="\n")
    except (ValueError, OSError) as error:
        parser.exit(EXIT_USAGE, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        print("stopped: what is written is whole, and the same command writes the rest", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())

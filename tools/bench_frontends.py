#!/usr/bin/env python3
"""Time front-ends against their peers, with the error against librosa in the same row.

All run in one process on the same batch of noise and sweeps, in turns (see `measuring`). The error is the largest
difference from librosa (see `frontend_timing.errors`). Where a filterbank is learnt, a turn is forward and backward to
it.

    OMP_NUM_THREADS=1 python tools/bench_frontends.py --what mel --batch_size 4
    python tools/bench_frontends.py --what mel --seconds 1 10 60 600 --batch_size 1 --turns 5     # linear in the length
    python tools/bench_frontends.py --what mel --memory
    python tools/bench_frontends.py --device cuda --batch_size 256 --csv frontends.csv --chart frontends.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import measuring

FRONT_ENDS = ("mel", "mel, learnt, forward and backward", "mfcc", "cqt", "pcen")


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = measuring.build_parser(__doc__, n_turns=20)
    parser.add_argument("--what", nargs="+", choices=FRONT_ENDS, default=FRONT_ENDS, help="front-ends (default: all)")
    parser.add_argument("--device", default="cpu", help="where all but librosa run (default: cpu)")
    parser.add_argument("--batch_size", type=int, default=16, help="clips (default: 16)")
    parser.add_argument("--seconds", type=float, nargs="+", default=[4.0], help="lengths of a clip (default: 4.0)")
    parser.add_argument("--threads", type=int, nargs="+", help="of torch (default: all)")
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write CSV and chart."""
    args = build_parser().parse_args(argv)
    from frontend_timing import measure_all  # noqa: PLC0415 - loads torch and librosa; --help need not wait for them

    where, rows = measure_all(args)
    print(f"{where}\n")
    measuring.report(rows, args, benchmark="Front-ends", where=where)
    return 0


if __name__ == "__main__":
    sys.exit(main())

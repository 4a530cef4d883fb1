#!/usr/bin/env python3
"""Time augmentations as a share of a training step of the net they would feed.

The step is that of a log-mel front-end (64 bands, 10 ms) and four blocks of two convolutions, 64 to 512 channels, as in
PANNs' CNN10: forward, loss, backward and AdamW. Clips are of one second, for a step of ten takes a processor minutes.
An augmentation's cost grows with the length of the clips as the step's does, so that the share stays about the same.
Every one has probability 1 here, the most it can cost, and runs in turns with the step (see `measuring`).

    OMP_NUM_THREADS=1 python tools/bench_augment.py --csv augment.csv --chart augment.png
    python tools/bench_augment.py --device cuda --batch_size 64 --seconds 10
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import bench_options
import measuring
from measuring import OURS


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write CSV and chart."""
    parser = measuring.build_parser(__doc__, n_turns=5)
    parser.add_argument("--device", type=bench_options.device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument("--batch_size", type=bench_options.count, default=64, help="clips (default: 64)")
    parser.add_argument("--seconds", type=bench_options.duration, default=1.0, help="length of a clip (default: 1.0)")
    args = parser.parse_args(argv)
    try:
        bench_options.check_folder(args.csv)
        from augment_timing import measure  # noqa: PLC0415 - loads torch; --help need not wait for it

        where, rows = measure(args)
    except ValueError as error:
        parser.error(str(error))
    print(f"{where}\n`{OURS}` is the training step, front-end included\n")
    measuring.report(rows, args, benchmark="Augmentation", where=where)
    return 0


if __name__ == "__main__":
    sys.exit(main())

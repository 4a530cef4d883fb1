#!/usr/bin/env python3
"""Time front-ends as a share of a training step of the net they feed.

A step is forward, loss, backward and AdamW on a batch in int16, of two nets: five layers of 65 maps, 157 thousand
parameters, on 30 s at 16 kHz with 80 mel bands, and PANNs' CNN14 on 10 s at 32 kHz with 64. All front-ends feed one and
the same net, in turns (see `measuring`). `limit` is the step on a spectrogram that is ready, and `front end ms` the
median of what a step takes beyond it in the same round; of a small front-end under a large net that may be less than
the spread. What is learnt of a front-end is learnt in the step.

    python tools/bench_step.py --device cuda --csv step.csv --chart step.png
    python tools/bench_step.py --device cuda --precision bfloat16
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import bench_options
import measuring

NETS = ("CompactCNN", "CNN14")
CPU_CLIPS, CUDA_CLIPS = 4, 64


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = measuring.build_parser(__doc__, n_turns=20)
    parser.add_argument("--net", nargs="+", choices=NETS, default=NETS, help="nets (default: all)")
    parser.add_argument("--device", type=bench_options.device, default="cpu", help="cpu, cuda or cuda:N (default: cpu)")
    parser.add_argument(
        "--batch_size",
        type=bench_options.count,
        help=f"clips (default: {CPU_CLIPS}, on a GPU {CUDA_CLIPS}, halved until they fit)",
    )
    parser.add_argument("--seconds", type=bench_options.duration, help="of a clip (default: the net's, 30 and 10)")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16"),
        default="float32",
        help="of the net: float32, where a GPU convolves in TensorFloat-32 as torch sets it, or bfloat16 by autocast; "
        "front-ends stay in float32 (default: float32)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table, write CSV and chart."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        bench_options.check_folder(args.csv)
        from step_timing import measure_all  # noqa: PLC0415 - loads torch; --help need not wait for it

        where, rows = measure_all(args)
    except ValueError as error:
        parser.error(str(error))
    print(f"{where}\n")
    measuring.report(rows, args, benchmark="Front-ends in a training step", where=where)
    return 0


if __name__ == "__main__":
    sys.exit(main())

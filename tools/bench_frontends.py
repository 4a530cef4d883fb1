#!/usr/bin/env python3
"""Time front-ends against their peers, with the error against librosa in the same row.

All run in one process on the same batch of noise and sweeps in int16, in turns (see `measuring`); of peers, which take
floats, converting counts, but for `torchaudio, given float`. Where a filterbank is learnt, a turn is forward and
backward to it. The columns:

    of torchaudio time      ours divided by torchaudio's: the ratio that counts, in the rows of ours alone
    speed to ours           a peer's speed as a share of ours
    share of memory bound   the time in which this device copies memory could read the int16 and write the spectrogram,
                            divided by the time
    max error               the largest difference from librosa (see `frontend_timing.errors`)
    of input and output     with --memory: what is held at the peak, input included, divided by int16 and spectrogram

On a GPU each is timed `queued`, by the device's clock and behind other work, as in a training step, and `alone`, from
the call until the device is done (see `device_clock`); librosa, on the processor, only says what is right. Precision is
as torch sets it: peers that convolve do so in TensorFloat-32 there, and the error shows it.

    python tools/bench_frontends.py --device cuda --csv frontends.csv --chart frontends.png
    python tools/bench_frontends.py --device cuda --memory
    OMP_NUM_THREADS=1 python tools/bench_frontends.py --what mel --batch_size 4
    python tools/bench_frontends.py --what mel --seconds 1 10 60 600 --batch_size 1 --turns 5     # linear in the length

Where a batch is timed at several lengths, a second table has the time for a second of audio side by side, and the chart
is of it: the same at every length is linear.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import bench_options
import lengths
import measuring

FRONT_ENDS = ("mel", "mel, learnt, forward and backward", "mfcc", "cqt", "pcen")
# Clips, and the seconds of each.
SIZES: dict[str, tuple[list[int], list[float]]] = {"cpu": ([16], [4.0]), "cuda": ([64, 1], [10.0, 3.0])}


def build_parser() -> argparse.ArgumentParser:
    """The options."""
    parser = measuring.build_parser(__doc__, n_turns=20)
    parser.add_argument("--what", nargs="+", choices=FRONT_ENDS, default=FRONT_ENDS, help="front-ends (default: all)")
    parser.add_argument(
        "--device", type=bench_options.device, default="cpu", help="cpu, cuda or cuda:N; all but librosa (default: cpu)"
    )
    parser.add_argument(
        "--batch_size",
        type=bench_options.count,
        nargs="+",
        help="clips; several go with as many --seconds, pair by pair, or all with one (default: 16, on a GPU 64 and 1)",
    )
    parser.add_argument(
        "--seconds", type=bench_options.duration, nargs="+", help="of a clip, likewise (default: 4, on a GPU 10 and 3)"
    )
    parser.add_argument(
        "--threads", type=bench_options.count, nargs="+", help="of torch on the processor (default: all)"
    )
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    return parser


def pairs(batch_sizes: Sequence[int] | None, seconds: Sequence[float] | None, device: str) -> list[tuple[int, float]]:
    """Clips and their seconds; where only one is given, the other is the first of its defaults.

    Raises:
        ValueError: if both are several and not equally many.

    >>> pairs([1], [1.0, 600.0], "cpu"), pairs([256], None, "cuda")
    ([(1, 1.0), (1, 600.0)], [(256, 10.0)])
    """
    n_clips, n_seconds = SIZES[device.partition(":")[0]]
    if batch_sizes or seconds:
        n_clips, n_seconds = list(batch_sizes or n_clips[:1]), list(seconds or n_seconds[:1])
    n_pairs = max(len(n_clips), len(n_seconds))
    if {len(n_clips), len(n_seconds)} - {1, n_pairs}:
        raise ValueError(
            "--batch_size and --seconds must be equally many, or one of them a single number, got "
            f"{len(n_clips)} and {len(n_seconds)}"
        )
    return list(zip(n_clips * (n_pairs // len(n_clips)), n_seconds * (n_pairs // len(n_seconds)), strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write CSV and chart."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        bench_options.check_folder(args.csv)
        if args.threads and args.device != "cpu":
            raise ValueError(f"--threads must be left out with --device {args.device}, got {args.threads}")
        args.sizes = pairs(args.batch_size, args.seconds, args.device)
        from frontend_timing import measure_all  # noqa: PLC0415 - loads torch and librosa; --help need not wait for them

        where, rows = measure_all(args)
    except ValueError as error:
        parser.error(str(error))
    print(f"{where}\n")
    several = lengths.by_length(rows)
    bars = None if several else args.chart
    measuring.report(rows, argparse.Namespace(csv=args.csv, chart=bars), benchmark="Front-ends", where=where)
    if several:
        print(f"\n{lengths.table(several)}")
        if args.chart:
            lengths.write_chart(
                args.chart, [{"benchmark": "Front-ends"} | row | {"environment": where} for row in rows]
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""What a second of audio costs at each length of clip, as table and chart: the same at every length is linear.

Of rows of `bench_frontends`, those of batches that were timed at several lengths. A chart needs no second run, only the
CSV:

    python tools/lengths.py frontends.csv --chart frontends.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import measuring
from measuring import Row, number

VALUE, UNIT = "us_per_audio_second", "µs for a second of audio"
Series = dict[float, Row]  # by length in seconds


def by_length(rows: Sequence[Row]) -> dict[str, dict[str, Series]]:
    """Rows by setting without the length, by implementation and by length; only of what has several lengths.

    >>> def row(seconds: float) -> Row:
    ...     return {"setting": f"mel, 1 x {seconds:g} s", "implementation": "ours", "seconds": seconds, VALUE: 9.0}
    >>> {setting: list(series["ours"]) for setting, series in by_length([row(1.0), row(60.0)]).items()}
    {'mel, 1 x any length': [1.0, 60.0]}
    """
    found: dict[str, dict[str, Series]] = {}
    for row in rows:
        if VALUE in row:
            seconds = float(row["seconds"])
            setting = str(row["setting"]).replace(f" x {seconds:g} s", " x any length")
            found.setdefault(setting, {}).setdefault(str(row["implementation"]), {})[seconds] = row
    return {setting: series for setting, series in found.items() if max(map(len, series.values())) > 1}


def table(settings: dict[str, dict[str, Series]]) -> str:
    """What `by_length` found as Markdown, a column a length."""
    lengths = sorted({seconds for series in settings.values() for one in series.values() for seconds in one})
    heads = ["setting", f"implementation, {UNIT}", *(f"{seconds:g} s" for seconds in lengths)]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for setting, series in settings.items():
        for name, one in series.items():
            cells = [number(one[seconds][VALUE]) if seconds in one else "" for seconds in lengths]
            lines.append(f"| {' | '.join([setting, name, *cells])} |")
    return "\n".join(lines)


def write_chart(path: Path, rows: Sequence[Row]) -> None:
    """Draw what a second of audio costs over the length of the clips, as PNG."""
    from audiocls.report.style import save  # noqa: PLC0415 - takes seconds, and only a chart needs it
    from length_chart import length_chart  # noqa: PLC0415 - as above

    save(length_chart(rows), path)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw a chart of a CSV that has several lengths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="what bench_frontends wrote with --csv")
    parser.add_argument("--chart", type=Path, required=True, help="PNG to write")
    arguments = parser.parse_args(argv)
    try:
        rows = measuring.read_csv(arguments.csv)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not by_length(rows):
        parser.error(f"{arguments.csv} must have a batch at several lengths: give bench_frontends several --seconds")
    write_chart(arguments.chart, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

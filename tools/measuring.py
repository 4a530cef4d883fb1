#!/usr/bin/env python3
"""What the benchmarks share: turns, medians and ratios, and the CSV, the table and the chart of one set of rows.

All implementations run in turns and in changing order, after a warm-up, so that a busy machine is busy for all. A row
gives the median and the quartiles over the turns, and the speed as a share of ours: below 1 where ours is faster, be it
a time or a rate that was measured. What is called `audiocls` is ours. What begins with `limit` does only what no
implementation can avoid (copying memory, reading the disk); `speed_to_limit` is a share of the slowest of those.

Nothing heavy is imported above, since the processes that a benchmark starts import this file as well. A chart needs no
second run, only the CSV:

    python tools/measuring.py bench.csv --chart bench.png
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import importlib.metadata
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

OURS, LIMIT = "audiocls", "limit"

Row = dict[str, str | float]


class Turn(NamedTuple):
    """What one run took.

    Args:
        seconds: of wall-clock time.
        cpu_seconds: of processor time, child processes included.
        work: what the run says it has done, in units of its own (batches, crops, seconds of audio).
    """

    seconds: float
    cpu_seconds: float
    work: float


# --- measuring ---


def in_turns(
    runs: Mapping[str, Callable[[], float]],
    *,
    turns: int,
    warm_up: int = 1,
    before: Callable[[str], None] = lambda name: None,
) -> dict[str, list[Turn]]:
    """Run every implementation `turns` times, each round in another order.

    Args:
        runs: by name; each returns how much work it has done, and has finished it (synchronised) by then.
        turns: rounds that count.
        warm_up: rounds before them that do not.
        before: called with the name before each run, off the clock.
    Returns:
        The turns of each, in the order of `runs`.
    """
    taken: dict[str, list[Turn]] = {name: [] for name in runs}
    order, shuffle = list(runs), random.Random(0).shuffle
    for turn in range(-warm_up, turns):
        shuffle(order)  # some leave cold caches and memory given back behind: let each follow each in its turn
        for name in order:
            before(name)
            cpu, start = cpu_seconds(), time.perf_counter()
            work = runs[name]()
            seconds = time.perf_counter() - start
            if turn >= 0:
                taken[name].append(Turn(seconds, cpu_seconds() - cpu, work))
    return taken


def cpu_seconds() -> float:
    """Processor time of this process, its finished children, and (Linux) those that multiprocessing has running."""
    finished, running = os.times(), 0
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError):  # it has ended since
            running += sum(map(int, Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return time.process_time() + finished.children_user + finished.children_system + running / os.sysconf("SC_CLK_TCK")


def summarise(
    values: Mapping[str, Sequence[float]], *, setting: str, quantity: str, unit: str, better: Literal["lower", "higher"]
) -> list[Row]:
    """One row an implementation.

    Args:
        values: what was measured in each turn, by implementation; `OURS` must be among them.
        setting: under which; one panel of the chart.
        quantity: what was measured, such as "time".
        unit: of the values.
        better: which values are.

    >>> rows = summarise({"audiocls": [2, 2], "other": [8, 8]}, setting="", quantity="time", unit="s", better="lower")
    >>> [row["speed_to_ours"] for row in rows]
    [1.0, 0.25]
    """
    median = {name: statistics.median(taken) for name, taken in values.items()}
    speed = {name: value if better == "higher" else 1 / value for name, value in median.items()}
    limits = [speed[name] for name in values if name.startswith(LIMIT)]
    rows: list[Row] = []
    for name, taken in values.items():
        first, _, third = statistics.quantiles(taken, n=4, method="inclusive")
        row: Row = {"setting": setting, "implementation": name, "quantity": quantity, "unit": unit, "better": better}
        row |= {"median": median[name], "quartile_1": first, "quartile_3": third}
        row |= {"speed_to_ours": speed[name] / speed[OURS]}
        rows.append(row | ({"speed_to_limit": speed[name] / min(limits)} if limits else {}))
    return rows


# --- where ---


def environment(packages: Sequence[str], *, hardware: str | None = None) -> str:
    """Hardware, versions and commit, in one line.

    Args:
        packages: distributions whose versions matter; those that are not installed are left out.
        hardware: left out, the processor's name.
    """
    installed = {name: version(name) for name in packages}
    versions = [f"{name} {number}" for name, number in installed.items() if number]
    versions.insert(0, f"Python {platform.python_version()}")
    cores = len(os.sched_getaffinity(0))
    return f"{hardware or processor()}, {cores} cores; {', '.join(versions)}; commit {commit()}"


def commit() -> str:
    """Of the checkout; unknown where there is none, or no git."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        told = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


def version(package: str) -> str | None:
    """Installed version of a package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor() -> str:
    """Model of the processor, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def left_out(name: str, reason: object) -> None:
    """Say on stderr that a peer is not measured, and why."""
    print(f"{name} left out: {' '.join(str(reason).split())}", file=sys.stderr)


# --- rows as CSV, table and chart ---


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write rows; a column that some rows lack is empty there."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> list[Row]:
    """Rows as `write_csv` was given them.

    Raises:
        ValueError: if the file is no benchmark's.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows: list[Row] = [
            {name: _value(text) for name, text in row.items() if text != ""} for row in csv.DictReader(file)
        ]
    needed = ("benchmark", "setting", "implementation", "quantity", "unit", "better", "median", "speed_to_ours")
    missing = [name for name in needed if not rows or name not in rows[0]]
    if missing:
        raise ValueError(f"{path} must have the column {missing[0]!r}: give a CSV that a benchmark wrote with --csv")
    return rows


def _value(text: str) -> str | float:
    try:
        return float(text)
    except ValueError:
        return text


def number(value: str | float) -> str:
    """Three digits, or all before the point.

    >>> number(107680.2), number(9.876), number(0.00161), number("as it is")
    ('107,680', '9.88', '0.0016', 'as it is')
    """
    if isinstance(value, str):
        return value
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.1 or not value else f"{value:.2g}"


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown, one table for each setting's rows in the order given."""
    hidden = {"benchmark", "quantity", "unit", "better", "quartile_1", "quartile_3", "environment"}
    columns = [name for name in dict.fromkeys(name for row in rows for name in row) if name not in hidden]
    heads = [f"{rows[0]['quantity']}, {rows[0]['unit']} | quartiles" if name == "median" else name for name in columns]
    lines = [f"| {' | '.join(head.replace('_', ' ') for head in heads)} |", f"|{'---|' * (len(columns) + 1)}"]
    for row in rows:
        cells = {name: number(row.get(name, "")) for name in columns}
        cells["median"] += f" | {number(row['quartile_1'])} to {number(row['quartile_3'])}"
        lines.append(f"| {' | '.join(cells.values())} |")
    return "\n".join(lines)


def write_chart(path: Path, rows: Sequence[Row]) -> None:
    """Draw rows as horizontal bars, as PNG."""
    from audiocls.report.style import save  # noqa: PLC0415 - takes seconds, and only a chart needs it
    from bar_chart import bar_chart  # noqa: PLC0415 - as above

    save(bar_chart(rows), path)


# --- command lines ---


def build_parser(description: str | None, *, n_turns: int) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=turns, default=n_turns, help=f"of each implementation (default: {n_turns})")
    parser.add_argument("--csv", type=Path, help="where to write the rows")
    parser.add_argument("--chart", type=Path, help="where to draw the rows, as PNG")
    return parser


def turns(text: str) -> int:
    """A number of turns, for argparse."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2 to have a spread, got {text}")
    return int(text)


def report(rows: Sequence[Row], arguments: argparse.Namespace, *, benchmark: str, where: str) -> None:
    """Print the table; write the CSV and the chart where they were asked for."""
    print(table(rows))
    rows = [{"benchmark": benchmark} | row | {"environment": where} for row in rows]
    if arguments.csv:
        write_csv(arguments.csv, rows)
    if arguments.chart:
        write_chart(arguments.chart, rows)


def main(argv: Sequence[str] | None = None) -> int:
    """Draw a chart of a benchmark's CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path, help="what a benchmark wrote with --csv")
    parser.add_argument("--chart", type=Path, required=True, help="PNG to write")
    arguments = parser.parse_args(argv)
    try:
        write_chart(arguments.chart, read_csv(arguments.csv))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())

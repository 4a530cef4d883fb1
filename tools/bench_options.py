"""Options that benchmarks of models share: numbers, devices and files that are checked before anything is measured.

Nothing heavy is imported, so that `--help` need not wait.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path


def count(text: str) -> int:
    """A whole number from 1, for argparse.

    >>> count("64")
    64
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1, got {text}")
    return int(text)


def duration(text: str) -> float:
    """A length of audio in seconds, for argparse.

    >>> duration("0.5")
    0.5
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a length in seconds above 0, got {text}")
    return seconds


def device(text: str) -> str:
    """A processor or a CUDA device, for argparse; whether it is there is asked later, by what loads torch."""
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"must be cpu, cuda or cuda:N, got {text}")
    return text


def check_folder(path: Path | None) -> None:
    """Refuse a CSV that could not be written in the end, before minutes are spent on what it is to hold.

    Raises:
        ValueError: if its folder does not exist.
    """
    if path is not None and not path.parent.is_dir():
        raise ValueError(f"--csv must lie in a folder that exists, got {path}: make {path.parent} first")

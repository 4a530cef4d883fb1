"""Reading tables, with one clear line for a wrong folder, a half-unpacked release, another CSV.

`read_csv` is for the tables of a release, which can be unpacked again; `read_own_csv` and `read_clips_csv` for those
that the user wrote.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd


def find_file(root: Path, *candidates: str, release: str) -> Path:
    """The first of some paths below `root` that is a file.

    Args:
        root: folder of the data set.
        candidates: paths relative to it, the official one first.
        release: name of the data set, for the message.
    Raises:
        ValueError: if none is there.
    """
    for candidate in candidates:
        if (root / candidate).is_file():
            return root / candidate
    raise ValueError(
        f"no {candidates[0]} under {str(root)!r}: give the folder that {release} was unpacked in, "
        f"or unpack it there again"
    )


def read_csv(path: Path, columns: Iterable[Hashable], *, release: str, **options: Any) -> pd.DataFrame:
    """A CSV table of a release, which must have certain columns.

    Args:
        path: of the table.
        columns: that it must have; more are kept.
        release: what it must be, for the message.
        options: of `pandas.read_csv`, such as `sep="\\t"` or `dtype=str`.
    Raises:
        ValueError: if it does not exist, is no such table, or lacks a column.
    """
    if not path.is_file():
        raise ValueError(f"table {str(path)!r} does not exist: set data.root to where it is, or unpack {release} again")
    try:
        written = pd.read_csv(path, **options)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(
            f"{path} cannot be read as a table ({' '.join(str(error).split())}): it is not the one of {release}; "
            f"unpack it again"
        ) from None
    lacking = [column for column in columns if column not in written]
    if lacking:
        raise ValueError(
            f"{path} has no column {lacking[0]!r}, only {', '.join(map(str, written.columns))}: it is not the one of "
            f"{release}"
        )
    return written


def read_own_csv(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table that the user has written: UTF-8, separated by commas, or by tabs where it is named .tsv; all of it text.

    Args:
        path: of the table, which exists.
        columns: that it must have; more are kept.
    Raises:
        ValueError: if it cannot be read so, its rows have more fields than its header, or it lacks a column.
    """
    separator, called = ("\t", "tabs") if path.suffix.lower() == ".tsv" else (",", "commas")
    header = f"its first line must name the columns {', '.join(columns)}"
    try:
        written = pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not in UTF-8 ({error}): save it again in UTF-8") from None
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty: {header}") from None
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise ValueError(
            f"{path} cannot be read as a table ({' '.join(str(error).split())}): give each row as many fields as the "
            f"header, separated by {called}, and put a field that holds one in double quotes"
        ) from None
    lacking = [column for column in columns if column not in written]
    if lacking:
        other = next((mark for mark in ",;\t" if mark != separator and mark in written.columns[0]), None)
        raise ValueError(
            f"{path} has no column {lacking[0]!r}, only {', '.join(map(str, written.columns))}: "
            + (f"separate the columns by {called} in place of {other!r}" if other else header)
        )
    if not isinstance(written.index, pd.RangeIndex):  # pandas takes what is too many for names of the rows
        raise ValueError(
            f"{path} has rows with more fields than its header: name every column, and put a field that holds "
            f"{called} in double quotes"
        )
    return written


def read_clips_csv(path: Path) -> pd.DataFrame:
    """The user's own table of clips: column `path` as it is written; `label` and more as categories, without blanks.

    A million rows share a few labels, splits and groups. A blank behind a name would make two classes of one, and hide
    a speaker on two sides. Raises as `read_own_csv`.
    """
    written = read_own_csv(path, ("path", "label"))
    # read as categories at once, "007" would become 7
    return pd.DataFrame({name: column if name == "path" else _named(column) for name, column in written.items()})


def _named(column: pd.Series) -> pd.Series:
    named = column.astype("category")
    names = named.cat.categories
    return named if (names.str.strip() == names).all() else column.str.strip().astype("category")

"""FMA, the Free Music Archive data set: clips of 30 s, or whole tracks, with genres, split by artist.

Layout of the release: `fma_metadata/tracks.csv` (three header rows) and `genres.csv`, and the audio in
`fma_small/000/000002.mp3` (`fma_medium`, `fma_large`, `fma_full`): six digits, in a folder of the first three. A subset
holds the smaller ones, so medium is every track marked small or medium. `fma_full` has the tracks of large, uncut. The
archives are zip with bzip2 inside (method 12), which old versions of unzip do not know; Python and 7-Zip do.

The official split keeps each artist on one side, over all subsets:

| subset | train validation test   | genres                                         |
|--------|-------------------------|------------------------------------------------|
| small  |  6,400    800    800    | 8 top genres, equally often                    |
| medium | 19,922  2,505  2,573    | 16 top genres, from 7,103 of Rock to 21        |
| large  | 84,353 10,958 11,263    | 161 in all; 49,598 tracks have one top genre   |

In large and full 2,231 tracks have no genre at all; all of them stand in train. A genre that a track does not have was
not chosen by its artist, which is less than that it is wrong.

Known faults. Clips were cut at 30 s about the middle of the length that the archive's site reported; where that was
wrong they are short or empty (`known_bad`: 21 of medium, 15 of them without any audio; of small 3 with 0.5 to 1.6 s and
3 without, so a score on small is over 7,997 clips at most; large has more, without a published list). Some others are
all but silent: 107535, 110736, 119979, 130169.

Source: Defferrard et al. 2017, arXiv:1612.01840; https://github.com/mdeff/fma and its wiki.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import Source, find_sources
from datamodules.messages import one_of
from datamodules.releases import Archive, Release
from datamodules.splits import Task, labels_of
from datamodules.tables import read_csv

log = logging.getLogger(__name__)

Subset = Literal["small", "medium", "large", "full"]
SUBSETS = ("small", "medium", "large", "full")
Labels = Literal["top", "genres", "genres_all", "sub_genres"]
LABELS = ("top", "genres", "genres_all", "sub_genres")
TITLE = "FMA"

_SPLITS = {"training": "train", "validation": "validation", "test": "test"}
_COLUMNS: Mapping[Any, str] = {  # headers of two rows
    ("set", "split"): "split",
    ("set", "subset"): "subset",
    ("artist", "id"): "artist",
    ("track", "genre_top"): "genre_top",
    ("track", "genres"): "genres",
    ("track", "genres_all"): "genres_all",
}
# Seconds of audio in the release's own clips of medium, by its wiki.
_SHORT = {
    **dict.fromkeys((1486, 5574, 65753, 80391, 98558, 98559, 98560, 98571, 99134, 105247, 108925), 0.0),
    **dict.fromkeys((126981, 127336, 133297, 143992), 0.0),
    **{98565: 1.6, 98566: 6.2, 98567: 0.5, 98568: 6.6, 98569: 1.5, 108924: 27.4},
}
_ADDRESS = "https://os.unil.cloud.switch.ch/fma/"


def clip_id(track: int) -> str:
    """Path of a track's clip inside a subset's folder.

    >>> clip_id(2)
    '000/000002.mp3'
    """
    name = f"{track:06d}"
    return f"{name[:3]}/{name}.mp3"


def _release(subset: str, sha1: str, n_bytes: int | None) -> Release:
    return Release(
        title=f"FMA: A Dataset For Music Analysis, {subset}",
        licence="audio: the Creative Commons licence that each artist chose; metadata: CC BY 4.0",
        citation="Defferrard, Benzi, Vandergheynst, Bresson 2017, FMA: A Dataset for Music Analysis, ISMIR",
        homepage="https://github.com/mdeff/fma",
        archives=(
            Archive(f"{_ADDRESS}fma_metadata.zip", "sha1:f0df49ffe5f2a6008d7dc83c6915b31835dfe733", 358_412_441),
            Archive(f"{_ADDRESS}fma_{subset}.zip", f"sha1:{sha1}", n_bytes),
        ),
    )


class FMA(AudioDataModule):
    """Genres of FMA's tracks on the official split, the artist as group.

    The top genre is one label a clip. The others are any number of labels: what the artist chose, the same with all
    genres above them, or of these the ones that are no roots. Tracks without a label are left out and counted, and so
    are labels that the subset's training part does not have.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset fma --root ROOT.
        root: folder that holds `fma_metadata`.
        subset: "small" (8,000 clips), "medium" (25,000), "large" (106,574) or "full" (the same tracks, uncut).
        labels: "top" (8 genres on small, else 16), "genres", "genres_all" or "sub_genres".
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: if `tracks.csv` or `genres.csv` is missing or not FMA's.
    """

    releases: ClassVar[Mapping[str, Release]] = {  # no size of medium and full was found to the byte
        "small": _release("small", "ade154f733639d52e35e32f5593efe5be76c6d70", 7_679_594_875),
        "medium": _release("medium", "c67b69ea232021025fca9231fc1c7c1a063ab50b", None),
        "large": _release("large", "497109f4dd721066b5ce5e5f250ec604dc78939e", 100_306_112_191),
        "full": _release("full", "0f0ace23fbe9ba30ecb7e95f763e435ea802b8ab", None),
    }
    known_bad: ClassVar[Mapping[str, str]] = {
        clip_id(track): f"{seconds:g} s of audio in place of 30 s" for track, seconds in sorted(_SHORT.items())
    }

    def __init__(
        self, store: str, root: str, *, subset: Subset = "small", labels: Labels = "top", **loading: Any
    ) -> None:
        super().__init__(store, root, **loading)
        one_of("subset", subset, SUBSETS)
        one_of("labels", labels, LABELS)
        self.subset: Subset = subset
        self.labels: Labels = labels
        self.task: Task = "multiclass" if labels == "top" else "multilabel"

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The clips of the largest subset under `root` (it holds the smaller ones); `root` may be its folder too."""
        return find_sources(_audio_folder(root))

    @classmethod
    def listed(cls, root: Path) -> Sequence[str] | None:
        """The tracks of the subset whose folder is there; None without `fma_metadata` or for another folder's name."""
        subset = _audio_folder(root).name.removeprefix("fma_")
        if subset not in SUBSETS or _metadata(root, "tracks.csv") is None:
            return None
        return [clip_id(track) for track in _of_subset(read_tracks(root), subset).index]

    def read_table(self) -> pd.DataFrame:
        """Genres, official split and artist of the subset's tracks, and the smallest subset that each is in."""
        return self._tracks.copy()

    @cached_property
    def _tracks(self) -> pd.DataFrame:
        assert self.root is not None
        tracks = _of_subset(read_tracks(self.root), self.subset)
        table = pd.DataFrame(
            {
                "clip_id": [clip_id(track) for track in tracks.index],
                "label": tracks["genre_top"] if self.labels == "top" else self._several(tracks),
                "split": tracks["split"].map(_SPLITS),
                "group": tracks["artist"],
                "subset": tracks["subset"],
            }
        ).reset_index(drop=True)
        if self.labels != "top":
            table["label"] = _known_in_training(table)
        none = table["label"].isna() | (table["label"].str.len() == 0)
        if none.any():
            log.warning(
                "%d of %d tracks have no %s and are left out",
                none.sum(), len(table), "top genre" if self.labels == "top" else f"label of {self.labels}",
            )  # fmt: skip
        return table[~none]

    def _several(self, tracks: pd.DataFrame) -> pd.Series:
        """Names of the genres, by the numbers that `tracks.csv` writes as a list."""
        genres = self._genres
        column = tracks["genres" if self.labels == "genres" else "genres_all"]
        wanted = genres[genres["parent"] != 0] if self.labels == "sub_genres" else genres
        title = wanted["title"].to_dict()
        names: dict[str, tuple[str, ...]] = {}
        for text, track in zip(column, tracks.index, strict=True):
            if text in names:
                continue
            numbers = _numbers(text, track)
            unknown = [number for number in numbers if number not in genres.index]
            if unknown:
                raise ValueError(
                    f"tracks.csv gives track {track} the genre {unknown[0]}, which genres.csv under {str(self.root)!r} "
                    f"lacks: they are not of one release; unpack fma_metadata.zip again"
                )
            names[text] = tuple(title[number] for number in numbers if number in title)
        return column.map(names)

    @cached_property
    def _genres(self) -> pd.DataFrame:
        assert self.root is not None
        return read_genres(self.root)

    @cached_property
    def _classes(self) -> list[str]:
        used = set(labels_of(self._tracks))
        if self.labels == "top":
            return sorted(used)
        return [title for title in self._genres["title"] if title in used]


def _known_in_training(table: pd.DataFrame) -> pd.Series:
    """The labels without those that no track of the training part has."""
    train = set(labels_of(table[table["split"] == "train"]).dropna())
    unseen = sorted(set(labels_of(table).dropna()) - train)
    if not unseen:
        return table["label"]
    log.warning(
        "%d genres that no track in train has are left out, such as %s (%d times in validation and test)",
        len(unseen), unseen[0], labels_of(table).isin(unseen).sum(),
    )  # fmt: skip
    known = [tuple(name for name in names if name in train) for names in table["label"].tolist()]
    return pd.Series(known, index=table.index, dtype=object)


def _audio_folder(root: Path) -> Path:
    """The folder of the largest subset under `root`, or `root` itself."""
    there = [name for name in SUBSETS if (root / f"fma_{name}").is_dir()]
    if "full" in there and len(there) > 1:
        raise ValueError(
            f"{root} holds fma_full (whole tracks) and fma_{there[-2]} (clips of 30 s), whose files have the same "
            f"names: give one of the two folders, such as {root / 'fma_full'}"
        )
    if there:
        return root / f"fma_{there[-1]}"
    if root.is_dir() and not any(root.glob("[0-9][0-9][0-9]")):
        raise ValueError(
            f"{root} holds none of {', '.join(f'fma_{name}' for name in SUBSETS)}: give the folder that the archives "
            f"were unpacked in"
        )
    return root


def _of_subset(tracks: pd.DataFrame, subset: str) -> pd.DataFrame:
    """The tracks of a subset and of all smaller ones."""
    return tracks[tracks["subset"].isin(SUBSETS[: SUBSETS.index(subset) + 1])]


def _numbers(text: object, track: int) -> list[int]:
    """A list of numbers as `tracks.csv` writes it."""
    try:
        numbers = ast.literal_eval(text) if isinstance(text, str) else None
    except (ValueError, SyntaxError):
        numbers = None
    if not isinstance(numbers, list) or not all(type(number) is int for number in numbers):
        raise ValueError(f"tracks.csv gives track {track} the genres {text!r}, which is no list of numbers")
    return numbers


def _metadata(root: Path, name: str) -> Path | None:
    """A table of `fma_metadata`, which stands in `root`, beside it, or is `root` itself."""
    folders = (root / "fma_metadata", root, root.parent / "fma_metadata")
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def _find_metadata(root: Path, name: str) -> Path:
    path = _metadata(root, name)
    if path is None:
        raise ValueError(
            f"no fma_metadata/{name} under {str(root)!r}: unpack fma_metadata.zip there, or set data.root to the "
            f"folder that holds it"
        )
    return path


def read_tracks(root: Path) -> pd.DataFrame:
    """Of `tracks.csv`, by track number: `split`, `subset`, `artist`, `genre_top`, `genres`, `genres_all`, as written.

    Raises:
        ValueError: if it is missing, or another table.
    """
    path = _find_metadata(root, "tracks.csv")
    tracks = read_csv(path, _COLUMNS, release=TITLE, index_col=0, header=[0, 1], low_memory=False)[list(_COLUMNS)]
    tracks.columns = list(_COLUMNS.values())
    for column, known in (("split", tuple(_SPLITS)), ("subset", SUBSETS[:3])):
        strange = tracks[column][~tracks[column].isin(known)]
        if len(strange):
            raise ValueError(
                f"{path} gives track {strange.index[0]} the {column} {strange.iloc[0]!r}, which is none of "
                f"{', '.join(known)} ({len(strange)} such tracks): it is not the tracks.csv of the FMA release"
            )
    return tracks


def read_genres(root: Path) -> pd.DataFrame:
    """`genres.csv`, by genre number: `title` and `parent` (0 for a root), in the release's order.

    Raises:
        ValueError: if it is missing, another table, or gives two genres one name.
    """
    path = _find_metadata(root, "genres.csv")
    genres = read_csv(path, ("genre_id", "parent", "title"), release=TITLE).set_index("genre_id")
    twice = genres["title"][genres["title"].duplicated()]
    if len(twice):
        raise ValueError(f"{path} names two genres {twice.iloc[0]!r}: it is not the genres.csv of the FMA release")
    return genres[["title", "parent"]]

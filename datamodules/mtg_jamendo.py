"""MTG-Jamendo: 55,701 full tracks under Creative Commons licences with tags of genre, instrument, mood and theme.

Layout of the release: the audio, `00/7400.mp3` at 320 kbit/s in stereo or `00/7400.low.mp3` in mono (100 folders, the
last two digits of the track's number), and the repository MTG/mtg-jamendo-dataset with the tables
`data/splits/split-0/autotagging_top50tags-train.tsv`: TRACK_ID, ARTIST_ID, ALBUM_ID, PATH, DURATION and, from the sixth
column on, as many tags as the track has (`genre---rock`, `instrument---piano`, `mood/theme---happy`).

Each of five splits keeps every artist on one side and has every tag on all three; scores on different splits are over
different tracks. 176 tracks have only tags for which that could not be had, and are in no split. Tracks of split 0
(train, validation, test) and tags:

| subset     | tracks                 | tags |
|------------|------------------------|------|
| top50tags  | 32,136 10,888 11,356   | 50   |
| genre      | 32,572 11,043 11,479   | 87   |
| instrument | 14,395  5,466  5,115   | 40   |
| moodtheme  |  9,949  3,802  4,231   | 56   |
| all        | 55,525 in all          | 183  |

Tags come from those who uploaded the tracks: a tag that is not given is not known to be wrong.

Source: Bogdanov et al. 2019, ICML workshop on Machine Learning for Music Discovery, hdl.handle.net/10230/42015;
https://github.com/MTG/mtg-jamendo-dataset. Metadata CC BY-NC-SA 4.0, audio under each track's own Creative Commons
licence (`audio_licenses.txt`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import Source, find_sources
from datamodules.messages import one_of
from datamodules.releases import Archive, Release
from datamodules.splits import SPLITS, Task, labels_of

log = logging.getLogger(__name__)

Subset = Literal["top50tags", "genre", "instrument", "moodtheme", "all"]
SUBSETS = ("top50tags", "genre", "instrument", "moodtheme", "all")
SPLIT_NUMBERS = (0, 1, 2, 3, 4)

_COLUMNS = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
_FILE = re.compile(r"(?P<track>\d\d/\d+)(?:\.low)?\.mp3")
_COMMIT = "1b4fa8c32e076c73b5175c1703ae805b4109309d"


def _table_name(subset: str, split: str) -> str:
    return f"autotagging{'' if subset == 'all' else f'_{subset}'}-{split}.tsv"


def _release(kind: str, quality: str) -> Release:
    """Audio by the checksums that its publisher keeps in `data/download`, and the tables of one commit."""
    sums = dict(line.split()[::-1] for line in Path(__file__).with_suffix(".sha256").read_text().splitlines())
    tars = [f"raw_30s_{kind}-{number:02d}.tar" for number in range(100)]
    tables = [
        f"splits/split-{number}/{_table_name(subset, split)}"
        for number in SPLIT_NUMBERS
        for subset in SUBSETS
        for split in SPLITS
    ]
    audio = f"https://cdn.freesound.org/mtg-jamendo/raw_30s/{kind}/"
    raw = f"https://raw.githubusercontent.com/MTG/mtg-jamendo-dataset/{_COMMIT}/data/"
    return Release(
        title=f"MTG-Jamendo, {quality}",
        licence="audio: a Creative Commons licence for each track (audio_licenses.txt); metadata: CC BY-NC-SA 4.0",
        citation="Bogdanov et al. 2019, The MTG-Jamendo Dataset for Automatic Music Tagging, ML4MD workshop, ICML",
        homepage="https://mtg.github.io/mtg-jamendo-dataset",
        archives=(
            *(Archive(f"{raw}{table}", None, folder=f"data/{table.rpartition('/')[0]}") for table in tables),
            *(Archive(f"{audio}{tar}", f"sha256:{sums[tar]}", folder=kind) for tar in tars),
        ),
    )


class MTGJamendo(AudioDataModule):
    """Tags of full tracks: any number of labels a clip, the artist as group.

    A track lasts 30 s to more than an hour; training crops come from anywhere in it, and its score in validation and
    test is over all of it. The class names are all tags of the subset, also where the store holds a part of the tracks.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset mtg_jamendo --root ROOT.
        root: folder that holds the tables (`data`, or a clone of the repository) and the audio (`audio` or `audio-low`
            with the folders 00 to 99, or these folders themselves).
        subset: "top50tags", "genre", "instrument", "moodtheme" or "all".
        split_number: which of the five published splits, 0 to 4; publications give split 0, or the mean of all five.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: for an unknown subset or split, or where a table is missing or another one.
    """

    task: Task = "multilabel"
    releases: ClassVar[Mapping[str, Release]] = {
        "audio-low": _release("audio-low", "mono at a variable bit rate (156 GB)"),
        "audio": _release("audio", "full quality (508 GB)"),
    }

    def __init__(
        self, store: str, root: str, *, subset: Subset = "top50tags", split_number: int = 0, **loading: Any
    ) -> None:
        super().__init__(store, root, **loading)
        one_of("subset", subset, SUBSETS)
        one_of("split_number", split_number, SPLIT_NUMBERS)
        self.subset: Subset = subset
        self.split_number = split_number

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The tracks under `root`, in either quality; the id is the path in the tables, without `.low`."""
        folder = next((f for f in (root / "audio", root / "audio-low", root) if any(f.glob("[0-9][0-9]"))), None)
        if folder is None:
            raise ValueError(
                f"{root} holds no folders 00 to 99, nor do its audio or audio-low: give the folder that the archives "
                f"raw_30s_audio-*.tar were unpacked in"
            )
        found = {source: _FILE.fullmatch(source.clip_id) for source in find_sources(folder)}
        tracks = sorted(Source(f"{match['track']}.mp3", source.path) for source, match in found.items() if match)
        if len(tracks) < len(found):
            log.warning("%d audio files of other names than 00/7400.mp3 are left out", len(found) - len(tracks))
        for one, other in pairwise(tracks):
            if one.clip_id == other.clip_id:
                raise ValueError(f"{folder} holds {one.clip_id} in both qualities: keep one of them in another folder")
        return tracks

    @classmethod
    def listed(cls, root: Path) -> Sequence[str] | None:
        """The tracks of split 0 with all tags, or, where its tables are missing, of all that are there."""
        data = _data_folder(root)
        if data is None:
            return None
        tables = [*data.glob("splits/split-0/autotagging-*.tsv")] or data.glob("splits/split-*/autotagging*.tsv")
        return sorted(set().union(*(_read_tracks(table)["clip_id"] for table in tables)))

    def read_table(self) -> pd.DataFrame:
        """Tags, side, artist, album and length in s of the subset's tracks."""
        return self._tracks.copy()

    @cached_property
    def _tracks(self) -> pd.DataFrame:
        assert self.root is not None
        data = _data_folder(self.root)
        if data is None:
            raise ValueError(
                f"no data/splits under {str(self.root)!r}: clone https://github.com/MTG/mtg-jamendo-dataset there, or "
                f"set data.root to the folder that holds it"
            )
        folder = data / "splits" / f"split-{self.split_number}"
        parts = [_read_tracks(folder / _table_name(self.subset, split)).assign(split=split) for split in SPLITS]
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def _classes(self) -> list[str]:
        return sorted(labels_of(self._tracks).unique())


def _data_folder(root: Path) -> Path | None:
    """The folder `data` of the repository: in `root`, or in a clone or an unpacked archive of it in `root`."""
    folders = [root / "data", *sorted(root.glob("mtg-jamendo-dataset*/data"))]
    return next((folder for folder in folders if (folder / "splits").is_dir()), None)


def _read_tracks(path: Path) -> pd.DataFrame:
    """One of the release's tables: rows of differing length, a tag a column from the sixth on."""
    if not path.is_file():
        raise ValueError(f"table {str(path)!r} does not exist: clone https://github.com/MTG/mtg-jamendo-dataset again")
    header, *rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()] or [[]]
    if header != _COLUMNS:
        raise ValueError(
            f"{path} begins with the columns {', '.join(header)}, not {', '.join(_COLUMNS)}: it is not the release's"
        )
    short = [number for number, row in enumerate(rows, start=2) if len(row) < len(_COLUMNS)]
    if short:
        raise ValueError(f"line {short[0]} of {path} has fewer than {len(_COLUMNS)} columns: the file is cut off")
    return pd.DataFrame(
        {
            "clip_id": [row[3] for row in rows],
            "label": [tuple(row[5:]) for row in rows],
            "group": [row[1] for row in rows],
            "album": [row[2] for row in rows],
            "seconds": [float(row[4]) for row in rows],
        }
    )

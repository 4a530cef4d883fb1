"""The Million Song Dataset with tags from Last.fm, for those who still have its 7digital previews.

The clips (about 30 s, mp3) came from 7digital and can no longer be had; what is here are the three published splits and
a match of their tracks with the files there are. A file is known by its name, in whatever folder and format: by its
7digital number (`3/6/36122424.clip.mp3`) or by its MSD id (`A/A/D/TRAADIN128F931D672.wav`).

| split | train, validation, test | tags                        | lists                                    |
|-------|-------------------------|-----------------------------|------------------------------------------|
| choi  | 201,680 12,634 28,540   | 50, weight on Last.fm > 50  | `train_x_msd_id.txt`, `train_y.npy`, ... |
| lee   | 201,680 11,774 28,435   | the same                    | `filtered_list_train.cP`, ... (Python 2) |
| cals  | 163,504 34,730 34,913   | 50 others, in small letters | `train_ids.npy`, `train_binaries.npy`... |

Scores of different splits never belong in one table: the tags of cals are others, and 21,891 of its 34,913 test tracks
stand in Choi's training part. Lee's test part is Choi's without 105 tracks, whose clips are below 29.1 s. Choi's and
Lee's sides share artists, so that a score is in part one for known artists; cals keeps each artist on one side. None of
the lists names the artists, so nothing here can check that. Choi's paper has other counts (201,680, 12,605 and 25,940)
than the lists that its author published. A tag that is not given is not known to be wrong.

Known faults: some of the clips that went round have 0 bytes; two 7digital numbers of Choi's training part stand for two
MSD ids each (such a clip is used once).

Source: Bertin-Mahieux et al. 2011, ISMIR. Splits: Choi et al. 2016, arXiv:1606.00298 (keunwoochoi/
MSD_split_for_tagging); Lee et al. 2017, arXiv:1703.01789 (jongpillee/music_dataset_split, MIT); Won et al. 2021, ISMIR
(minzwon/semi-supervised-music-tagging-transformer, MIT).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import Source, find_sources
from datamodules.foreign import read_npy, read_pickle
from datamodules.messages import one_of
from datamodules.releases import Release
from datamodules.splits import Task
from datamodules.tables import find_file

log = logging.getLogger(__name__)

SplitName = Literal["choi", "lee", "cals"]
TAGS = (
    *("rock", "pop", "alternative", "indie", "electronic", "female vocalists", "dance", "00s", "alternative rock"),
    *("jazz", "beautiful", "metal", "chillout", "male vocalists", "classic rock", "soul", "indie rock", "Mellow"),
    *("electronica", "80s", "folk", "90s", "chill", "instrumental", "punk", "oldies", "blues", "hard rock", "ambient"),
    *("acoustic", "experimental", "female vocalist", "guitar", "Hip-Hop", "70s", "party", "country", "easy listening"),
    *("sexy", "catchy", "funk", "electro", "heavy metal", "Progressive rock", "60s", "rnb", "indie pop", "sad"),
    *("House", "happy"),
)
"""Of Choi and Lee, in the order of their targets."""
CALS_TAGS = (
    *("rock", "pop", "indie", "alternative", "electronic", "hip-hop", "metal", "jazz", "punk", "folk"),
    *("alternative rock", "indie rock", "dance", "hard rock", "00s", "soul", "hardcore", "80s", "country"),
    *("classic rock", "punk rock", "blues", "chillout", "experimental", "heavy metal", "death metal", "90s", "reggae"),
    *("progressive rock", "ambient", "acoustic", "beautiful", "british", "rnb", "funk", "metalcore", "mellow"),
    *("world", "guitar", "trance", "indie pop", "christian", "house", "spanish", "latin", "psychedelic", "electro"),
    *("piano", "70s", "progressive metal"),
)
"""Of CALS, in the order of its targets."""
N_LEE_TRAIN = 201_680
"""Lee's validation part is what comes after these in `filtered_list_train.cP`."""

_SIDES = {"train": "train", "validation": "valid", "test": "test"}
_NAME = re.compile(r"[0-9]+|TR[A-Z]{5}[0-9A-F]{11}")


class _Lists(NamedTuple):
    """A split's lists: whose they are, one of them, and where below `root` they may stand (there, or in a clone)."""

    title: str
    first: str
    folders: tuple[str, ...]


_LISTS = {
    "choi": _Lists(
        "Choi's split (https://github.com/keunwoochoi/MSD_split_for_tagging)",
        "test_x_msd_id.txt",
        ("", "MSD_split_for_tagging/"),
    ),
    "lee": _Lists(
        "Lee's split (MSD_split of https://github.com/jongpillee/music_dataset_split)",
        "filtered_list_test.cP",
        ("", "MSD_split/", "music_dataset_split/MSD_split/"),
    ),
    "cals": _Lists(
        "CALS (data/splits of https://github.com/minzwon/semi-supervised-music-tagging-transformer)",
        "test_ids.npy",
        ("", "data/splits/", "semi-supervised-music-tagging-transformer/data/splits/"),
    ),
}


class MSD(AudioDataModule):
    """Fifty tags of 7digital's previews: any number of labels a clip.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset msd --root ROOT.
        root: folder that holds the lists of the split, or the clone of their repository; the clips in `audio` or
            beside them.
        split: "choi", "lee" or "cals". Clips with 7digital numbers need, for lee and cals, Lee's MSD_id_to_7D_id.pkl.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: if a list is missing, cut off or another one, or if no clip is named by an id.
    """

    task: Task = "multilabel"
    releases: ClassVar[Mapping[str, Release]] = {
        "msd": Release(
            title="Million Song Dataset, 7digital previews",
            licence="splits: MIT (Lee, CALS), none stated (Choi); the audio was never licensed for passing on",
            citation="Bertin-Mahieux, Ellis, Whitman, Lamere 2011, The Million Song Dataset, ISMIR",
            homepage="http://millionsongdataset.com",
            how="The audio cannot be downloaded any more: bring your own 7digital previews, and clone one of "
            "https://github.com/keunwoochoi/MSD_split_for_tagging, https://github.com/jongpillee/music_dataset_split "
            "and https://github.com/minzwon/semi-supervised-music-tagging-transformer for its split.",
        )
    }

    def __init__(self, store: str, root: str, *, split: SplitName = "choi", **loading: Any) -> None:
        super().__init__(store, root, **loading)
        one_of("split", split, tuple(_READERS))
        self.split: SplitName = split
        self.official_classes = CALS_TAGS if split == "cals" else TAGS

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The files in `root/audio`, or in `root`, whose name is a 7digital number or an MSD id."""
        folder = root / "audio" if (root / "audio").is_dir() else root
        found = find_sources(folder)
        named = [source for source in found if _NAME.fullmatch(_stem(source.clip_id))]
        if not named:
            raise ValueError(
                f"{folder} holds no clip named by its 7digital number (36122424.clip.mp3) or its MSD id "
                f"(TRAADIN128F931D672.mp3), but for instance {found[0].clip_id}: give the folder of MSD's previews"
            )
        if len(named) < len(found):
            log.warning(
                "%d audio files that are not named by a 7digital number or an MSD id are left out",
                len(found) - len(named),
            )
        return named

    @classmethod
    def listed(cls, root: Path) -> Sequence[str] | None:
        """The clips of all splits whose lists are there."""
        tracks = [read(root, labels=False) for name, read in _READERS.items() if _is_there(root, name)]
        if not tracks:
            return None
        clip_ids = [source.clip_id for source in cls.sources(root)]
        return sorted(set().union(*(place(part, clip_ids, root) for part in tracks)))

    def read_table(self) -> pd.DataFrame:
        """Tags, side and MSD id of the split's tracks, each with the clip in the store that is named by one of its ids.

        A track whose clip is not there gets the name that it would have, so that it is counted as missing.
        """
        assert self.root is not None
        tracks = _READERS[self.split](self.root, labels=True)
        tracks["clip_id"] = place(tracks, self.decoded_clip_ids(), self.root)
        twice = tracks.duplicated(["clip_id", "split"])
        if twice.any():
            log.warning("%d tracks whose clip is another track's as well are left out", twice.sum())
        return tracks[~twice].drop(columns="number", errors="ignore")


# --- which file is which track's ---


def _stem(clip_id: str) -> str:
    """The name in front of all suffixes.

    >>> _stem("3/6/36122424.clip.mp3")
    '36122424'
    """
    return PurePosixPath(clip_id).name.partition(".")[0]


def place(tracks: pd.DataFrame, clip_ids: Sequence[str], root: Path) -> list[str]:
    """The clip of each track, by its name; where there is none, the name it would have.

    Args:
        tracks: columns `msd_id` and, where the split's own lists say it, `number` (of 7digital).
        clip_ids: that there are.
        root: where MSD_id_to_7D_id.pkl is, if there are clips with numbers and `tracks` has none.
    Raises:
        ValueError: if two clips have one id, or the numbers of the tracks are needed and not there.
    """
    there: dict[str, str] = {}
    for clip_id in clip_ids:
        if there.setdefault(_stem(clip_id), clip_id) != clip_id:
            raise ValueError(f"{there[_stem(clip_id)]} and {clip_id} are of one track: keep one of them")
    numbered = any(stem.isdigit() for stem in there)
    if not numbered:
        numbers: list[str] = [""] * len(tracks)
    elif "number" in tracks:
        numbers = tracks["number"].tolist()
    else:
        known = {_text(track): _text(number) for track, number in _read_lee(root, "MSD_id_to_7D_id.pkl", dict).items()}
        numbers = [known.get(track, "") for track in tracks["msd_id"]]
    return [
        there.get(track) or there.get(number) or _usual_name(track, number)
        for track, number in zip(tracks["msd_id"].tolist(), numbers, strict=True)
    ]


def _usual_name(track: str, number: str) -> str:
    """Where a clip stands by 7digital number, or by MSD id where that is not known.

    >>> _usual_name("TRAADIN128F931D672", "6010476"), _usual_name("TRAADIN128F931D672", "")
    ('6/0/6010476.clip.mp3', 'A/A/D/TRAADIN128F931D672.mp3')
    """
    if number:
        return f"{number[0]}/{number[1:2]}/{number}.clip.mp3"
    return f"{track[2]}/{track[3]}/{track[4]}/{track}.mp3"


# --- the three splits ---


def _is_there(root: Path, split: str) -> bool:
    return any((root / f"{folder}{_LISTS[split].first}").is_file() for folder in _LISTS[split].folders)


def _find(root: Path, split: str, name: str) -> Path:
    return find_file(root, *(f"{folder}{name}" for folder in _LISTS[split].folders), release=_LISTS[split].title)


def read_choi(root: Path, *, labels: bool) -> pd.DataFrame:
    """Columns `msd_id`, `number`, `split` and, if `labels`, `label` (tags by name)."""
    return pd.concat([_read_choi_part(root, side, labels=labels) for side in _SIDES], ignore_index=True)


def _read_choi_part(root: Path, side: str, *, labels: bool) -> pd.DataFrame:
    name = _SIDES[side]
    targets = read_npy(_find(root, "choi", f"{name}_y.npy")) if labels else None
    lists = {column: f"{name}_x_{kind}.txt" for column, kind in (("msd_id", "msd_id"), ("number", "7d_id"))}
    part = {column: _find(root, "choi", file).read_text(encoding="ascii").split() for column, file in lists.items()}
    if len(part["msd_id"]) != len(part["number"]):
        raise ValueError(
            f"{' and '.join(lists.values())} under {str(root)!r} have {len(part['msd_id'])} and {len(part['number'])} "
            f"lines, and must have the same: they are not of one release; get {_LISTS['choi'].title} again"
        )
    table = pd.DataFrame({**part, "split": side})
    return table if targets is None else table.assign(label=_tags(targets, TAGS, len(table), f"{name}_y.npy"))


def read_lee(root: Path, *, labels: bool) -> pd.DataFrame:
    """Columns `msd_id`, `split` and, if `labels`, `label` (tags by name)."""
    train, test = (_read_lee(root, f"filtered_list_{name}.cP", list) for name in ("train", "test"))
    if len(train) <= N_LEE_TRAIN:
        raise ValueError(
            f"filtered_list_train.cP under {str(root)!r} holds {len(train)} tracks, and {N_LEE_TRAIN} to train on and "
            f"some for validation were expected: it is not the list of {_LISTS['lee'].title}"
        )
    sides = ["train"] * N_LEE_TRAIN + ["validation"] * (len(train) - N_LEE_TRAIN) + ["test"] * len(test)
    table = pd.DataFrame({"msd_id": [_text(track) for track in [*train, *test]], "split": sides})
    if not labels:
        return table
    name = "msd_id_to_tag_vector.cP"
    vectors = {_text(track): vector for track, vector in _read_lee(root, name, dict).items()}
    lacking = table["msd_id"][~table["msd_id"].isin(list(vectors))]
    if len(lacking):
        raise ValueError(
            f"{name} under {str(root)!r} lacks {len(lacking)} tracks of the lists, such as {lacking.iloc[0]}: they are "
            f"not of one release; get {_LISTS['lee'].title} again"
        )
    targets = [np.ravel(vectors[track]) for track in table["msd_id"]]
    sizes = {len(target) for target in targets}
    return table.assign(label=_tags(np.stack(targets) if len(sizes) == 1 else np.empty(0), TAGS, len(table), name))


def _read_lee(root: Path, name: str, kind: type) -> Any:
    """One of Lee's pickles. They are of Python 2: text is ASCII there, and what is in arrays is any byte."""
    path = _find(root, "lee", name)
    content = read_pickle(path, encoding="latin1")
    if type(content) is not kind:
        raise ValueError(
            f"{path} holds a {type(content).__name__} and not a {kind.__name__}: it is not the one of "
            f"{_LISTS['lee'].title}"
        )
    return content


def read_cals(root: Path, *, labels: bool) -> pd.DataFrame:
    """Columns `msd_id`, `split` and, if `labels`, `label` (tags by name)."""
    parts = []
    for side, name in _SIDES.items():
        ids = read_npy(_find(root, "cals", f"{name}_ids.npy"))
        part = pd.DataFrame({"msd_id": [_text(track) for track in ids.ravel().tolist()], "split": side})
        if labels:
            targets = read_npy(_find(root, "cals", f"{name}_binaries.npy"))
            part = part.assign(label=_tags(targets, CALS_TAGS, len(part), f"{name}_binaries.npy"))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


_READERS = {"choi": read_choi, "lee": read_lee, "cals": read_cals}


def _text(written: Any) -> str:
    return written.decode("ascii") if isinstance(written, bytes) else str(written)


def _tags(targets: np.ndarray, tags: Sequence[str], n_tracks: int, name: str) -> pd.Series:
    """Names of the tags, from a row of zeros and ones a track."""
    if targets.shape != (n_tracks, len(tags)) or not np.isin(targets, (0, 1)).all():
        raise ValueError(
            f"{name} must hold a 0 or 1 for each of {n_tracks} tracks and {len(tags)} tags, got {targets.dtype} of "
            f"shape {targets.shape}: it is not the one of this split"
        )
    names = np.array(tags, dtype=object)
    return pd.Series([tuple(names[row]) for row in targets.astype(bool)], dtype=object)

"""MagnaTagATune: 25,863 clips of 29 s from Magnatune's catalogue, with tags that players of a game agreed on.

Layout of the release: `annotations_final.csv` (tab-separated: `clip_id`, 188 tags as 0 or 1, `mp3_path`) and the clips
(mp3, 16 kHz, 32 kbit/s, mono) in folders 0 to f, named `artist-album-track-title-start-end.mp3`. Synonyms are not
merged: "female", "woman", "female vocal" and "female voice" are four of the fifty tags.

The sides follow the folders: 0 to b train, c validation, d to f test. An album lies in one folder, so no track and no
album is on two sides; artists are: of the 230 in Lee's lists, 56 are (13 in train and validation, 45 in train and test,
8 in validation and test). A score is in part one for artists known from training; that is counted and logged.

Source: Law et al. 2009, ISMIR, "Evaluation of algorithms using games: the case of music tagging"; CC BY-NC-SA 3.0;
https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset. Lee's lists: https://github.com/jongpillee/music_dataset_split
(MIT), used since Lee et al. 2017, arXiv:1703.01789.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import Source, find_sources
from datamodules.foreign import read_pickle
from datamodules.messages import one_of
from datamodules.releases import Archive, Release
from datamodules.splits import Task, shared_groups
from datamodules.tables import find_file, read_csv

log = logging.getLogger(__name__)

SplitName = Literal["lee", "folders"]
TITLE = "MagnaTagATune"
TAGS = (
    *("guitar", "classical", "slow", "techno", "strings", "drums", "electronic", "rock", "fast", "piano"),
    *("ambient", "beat", "violin", "vocal", "synth", "female", "indian", "opera", "male", "singing"),
    *("vocals", "no vocals", "harpsichord", "loud", "quiet", "flute", "woman", "male vocal", "no vocal", "pop"),
    *("soft", "sitar", "solo", "man", "classic", "choir", "voice", "new age", "dance", "male voice"),
    *("female vocal", "beats", "harp", "cello", "no voice", "weird", "country", "female voice", "metal", "choral"),
)
"""The fifty most frequent of the 188, the most frequent first: the order of Lee's targets."""

_SIDES = {"train": "0123456789ab", "validation": "c", "test": "def"}
_LISTS = {"train": "train_list_pub.cP", "validation": "valid_list_pub.cP", "test": "test_list_pub.cP"}
_CLIP = re.compile(r"[0-9a-f]/[^/]+\.mp3")
_CITY = "https://mirg.city.ac.uk/datasets/magnatagatune/"
_LEE = "https://raw.githubusercontent.com/jongpillee/music_dataset_split/07e855758f180ac8bdc0e3abebbde19277094681/"


class MagnaTagATune(AudioDataModule):
    """The fifty most frequent tags of MagnaTagATune: any number of labels a clip, the album as group.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset magnatagatune --root ROOT.
        root: folder that holds `annotations_final.csv`, Lee's lists (in `MTAT_split` or beside it) and the clips'
            folders 0 to f (in `mp3` or beside it).
        split: "lee" (15,244 / 1,529 / 4,332 clips longer than 29.1 s with at least one of the tags) or "folders" (all
            clips on the same sides, those without any of the tags too). Scores on the two are not comparable.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: if a table or list is missing or not the release's.
    """

    task: Task = "multilabel"
    official_classes = TAGS
    known_bad: ClassVar[Mapping[str, str]] = dict.fromkeys(
        (
            "6/norine_braun-now_and_zen-08-gently-117-146.mp3",
            "8/jacob_heringman-josquin_des_prez_lute_settings-19-gintzler__pater_noster-204-233.mp3",
            "9/american_baroque-dances_and_suites_of_rameau_and_couperin-25-le_petit_rien_xiveme_ordre_couperin-88-117.mp3",
        ),
        "0 bytes",
    )
    releases: ClassVar[Mapping[str, Release]] = {
        "final": Release(
            title=TITLE,
            licence="CC BY-NC-SA 3.0",
            citation="Law et al. 2009, Evaluation of algorithms using games: the case of music tagging, ISMIR",
            homepage="https://mirg.city.ac.uk/codeapps/the-magnatagatune-dataset",
            archives=(  # none has a published checksum: those of Lee's lists are of the files at that commit
                Archive(f"{_CITY}annotations_final.csv", None),
                Archive(
                    f"{_LEE}MTAT_split/train_list_pub.cP",
                    "sha256:76c9eec0fdd3d7533adda0cb4be4844996ed7469586b337bfc97f863fd3ec09a",
                    1_208_643,
                    folder="MTAT_split",
                ),
                Archive(
                    f"{_LEE}MTAT_split/valid_list_pub.cP",
                    "sha256:b3528613a6832ce49f11628fd21103dbf266e43086b465798221519ae64c2917",
                    122_390,
                    folder="MTAT_split",
                ),
                Archive(
                    f"{_LEE}MTAT_split/test_list_pub.cP",
                    "sha256:43edc3b8951f7c9e613f618ab828ab80036b2e2e604bb20a93e623b186b63b30",
                    353_102,
                    folder="MTAT_split",
                ),
                Archive(f"{_CITY}mp3.zip.001", None, 1_100_000_000, folder="mp3"),  # three parts of one zip
                Archive(f"{_CITY}mp3.zip.002", None, 1_100_000_000, folder="mp3"),
                Archive(f"{_CITY}mp3.zip.003", None, 772_769_864, folder="mp3"),
            ),
        )
    }

    def __init__(self, store: str, root: str, *, split: SplitName = "lee", **loading: Any) -> None:
        super().__init__(store, root, **loading)
        one_of("split", split, ("lee", "folders"))
        self.split: SplitName = split

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The clips under `root` or its folder `mp3`."""
        folder = next((f for f in (root / "mp3", root) if any(f.glob("[0-9a-f]/*.mp3"))), None)
        if folder is None:
            parts = sorted(path.name for path in root.glob("mp3.zip*"))
            joined = "cat mp3.zip.00? > mp3.zip && unzip mp3.zip -d mp3"
            do = f"unpack {', '.join(parts)} there: {joined}" if parts else f"give the folder {TITLE} was unpacked in"
            raise ValueError(f"{root} holds no clips in folders 0 to f, nor does its folder mp3: {do}")
        return [source for source in find_sources(folder) if _CLIP.fullmatch(source.clip_id)]

    @classmethod
    def listed(cls, root: Path) -> Sequence[str] | None:
        """All clips of `annotations_final.csv`."""
        path = root / "annotations_final.csv"
        return sorted(_read_annotations(path).index) if path.is_file() else None

    def read_table(self) -> pd.DataFrame:
        """Those of the fifty tags that were given, the side, the album and the artist of each clip."""
        assert self.root is not None
        annotations = _read_annotations(find_file(self.root, "annotations_final.csv", release=TITLE))
        sides = self._read_lists() if self.split == "lee" else _sides_of(annotations.index)
        strange = sides["clip_id"][~sides["clip_id"].isin(annotations.index)]
        if len(strange):
            raise ValueError(
                f"Lee's lists hold {len(strange)} clips that annotations_final.csv under {str(self.root)!r} lacks, "
                f"such as {strange.iloc[0]!r}: one of them is not the release's"
            )
        given = annotations.loc[sides["clip_id"], list(TAGS)].to_numpy(dtype=bool)
        names = np.array(TAGS, dtype=object)
        parts = [clip_id[2:].split("-") for clip_id in sides["clip_id"]]
        table = sides.assign(
            label=pd.Series([tuple(names[row]) for row in given], index=sides.index, dtype=object),
            group=["-".join(part[:2]) for part in parts],
            artist=[part[0] for part in parts],
        )
        n_shared = len(shared_groups(table.assign(group=table["artist"])))
        if n_shared:
            log.warning(
                "%d of %d artists stand on two sides of the official split, as published; no album does",
                n_shared, table["artist"].nunique(),
            )  # fmt: skip
        return table

    def _read_lists(self) -> pd.DataFrame:
        assert self.root is not None
        sides = []
        for side, name in _LISTS.items():
            path = find_file(self.root, f"MTAT_split/{name}", name, release="github.com/jongpillee/music_dataset_split")
            listed = read_pickle(path)
            if not isinstance(listed, list) or not all(str(clip).endswith(".npy") for clip in listed):
                raise ValueError(f"{path} is no list of clips named .npy: it is not one of Lee's lists")
            clip_ids = [clip.removesuffix(".npy") + ".mp3" for clip in listed]
            sides.append(pd.DataFrame({"clip_id": clip_ids, "split": side}))
        return pd.concat(sides, ignore_index=True)


def _sides_of(clip_ids: pd.Index) -> pd.DataFrame:
    side = {folder: side for side, folders in _SIDES.items() for folder in folders}
    return pd.DataFrame({"clip_id": clip_ids, "split": [side[clip_id[0]] for clip_id in clip_ids]})


def _read_annotations(path: Path) -> pd.DataFrame:
    """`annotations_final.csv` by the clips' paths."""
    annotations = read_csv(path, ("mp3_path", *TAGS), release=TITLE, sep="\t").set_index("mp3_path")
    strange = [clip_id for clip_id in annotations.index if not _CLIP.fullmatch(str(clip_id))]
    if strange:
        raise ValueError(f"{path} names a clip {strange[0]!r}, not one like '0/artist-…-0-29.mp3': it is not {TITLE}'s")
    if not annotations.index.is_unique:
        twice = annotations.index[annotations.index.duplicated()][0]
        raise ValueError(f"{path} names the clip {twice!r} twice: it is not {TITLE}'s")
    if not annotations[list(TAGS)].isin([0, 1]).all(axis=None):
        raise ValueError(f"{path} has tags that are neither 0 nor 1: it is not {TITLE}'s")
    return annotations

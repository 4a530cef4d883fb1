"""ESC-50 and ESC-10: environmental sounds of 5 s, fifty classes (or ten of them), five folds.

Layout of the release: `meta/esc50.csv` and `audio/1-100032-A-0.wav`, named `{fold}-{Freesound id}-{take}-{class}.wav`,
2,000 clips at 44.1 kHz, eight of each class in a fold; ESC-10 is the 400 of them with `esc10` true. ESC-10's own older
release is read too: class folders such as `001 - Dog bark/1-100032-A.ogg`, no table. It holds the same 400 clips in the
same folds, as Ogg Vorbis and 3.6 to 7.2 s long; its classes are given ESC-50's names, so that models fit both.

Protocol: train five times, each fold the test once, and report the mean of the five accuracies. The validation fold is
one of the other four, which leaves three to train on; a score that trained on all four, or chose the epoch on the test
fold, is not comparable.

Known faults: four recordings stand in two folds, with another class in each (9 clips; none of them within ESC-10),
although the paper says that none does; they are counted and the official folds kept. Some recordings were band-limited
before they were uploaded, in ways that go with the class, as the author warns. Clips shorter than 5 s are filled with
digital silence in the release itself.

Source: Piczak 2015, doi:10.1145/2733373.2806390; https://github.com/karolpiczak/ESC-50; CC BY-NC 3.0, the clips of
ESC-10 CC BY 3.0. No checksum is published: the archive is made by GitHub from one commit, and its bytes may change.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import Source, find_sources
from datamodules.messages import one_of
from datamodules.releases import Archive, Release
from datamodules.splits import fold_split
from datamodules.tables import read_csv

log = logging.getLogger(__name__)

Subset = Literal["esc50", "esc10"]
SUBSETS = ("esc50", "esc10")
CATEGORIES = (
    *("dog", "rooster", "pig", "cow", "frog", "cat", "hen", "insects", "sheep", "crow"),
    *("rain", "sea_waves", "crackling_fire", "crickets", "chirping_birds"),
    *("water_drops", "wind", "pouring_water", "toilet_flush", "thunderstorm"),
    *("crying_baby", "sneezing", "clapping", "breathing", "coughing"),
    *("footsteps", "laughing", "brushing_teeth", "snoring", "drinking_sipping"),
    *("door_wood_knock", "mouse_click", "keyboard_typing", "door_wood_creaks", "can_opening"),
    *("washing_machine", "vacuum_cleaner", "clock_alarm", "clock_tick", "glass_breaking"),
    *("helicopter", "chainsaw", "siren", "car_horn", "engine", "train", "church_bells", "airplane"),
    *("fireworks", "hand_saw"),
)  # in the order of the targets
ESC10_FOLDERS = {
    "001 - Dog bark": "dog",
    "002 - Rain": "rain",
    "003 - Sea waves": "sea_waves",
    "004 - Baby cry": "crying_baby",
    "005 - Clock tick": "clock_tick",
    "006 - Person sneeze": "sneezing",
    "007 - Helicopter": "helicopter",
    "008 - Chainsaw": "chainsaw",
    "009 - Rooster": "rooster",
    "010 - Fire crackling": "crackling_fire",
}
N_ESC10 = 400
_NAME = re.compile(r"([^/]+)/([1-5])-([0-9]+)-([A-Z])\.ogg")
_COMMIT = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6"
_CITATION = (
    "K. J. Piczak: ESC: Dataset for Environmental Sound Classification. 23rd Annual ACM Conference on Multimedia, "
    "2015, doi:10.1145/2733373.2806390"
)


class ESC50(AudioDataModule):
    """One class a clip, on the official folds.

    The table says of each clip also `fold` and `take`; `group` is the Freesound id of the recording.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset esc50 --root ROOT.
        root: folder that holds `meta` and `audio` (for ESC-10 alone, the ten class folders), or the one above it.
        subset: "esc50" (50 classes, 2,000 clips) or "esc10" (10 of them, 400 clips).
        fold: 1 to 5, the test.
        validation_fold: another one; left out, the one after `fold`.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: for another subset or fold, or if `root` holds neither release or one that lacks the subset.
    """

    known_shared = frozenset({"131943", "134049", "209698", "234879"})
    releases: ClassVar[Mapping[str, Release]] = {
        "esc50": Release(
            title="ESC-50, Dataset for Environmental Sound Classification 2.0",
            licence="CC BY-NC 3.0; the clips of ESC-10 CC BY 3.0",
            citation=_CITATION,
            homepage="https://github.com/karolpiczak/ESC-50",
            archives=(
                Archive(
                    f"https://github.com/karolpiczak/ESC-50/archive/{_COMMIT}.zip",
                    None,
                    name="ESC-50.zip",
                ),
            ),
        ),
        "esc10": Release(
            title="ESC-10, Dataset for Environmental Sound Classification",
            licence="CC BY 3.0",
            citation=_CITATION,
            homepage="https://github.com/karolpiczak/ESC-10",
            archives=(
                Archive("https://github.com/karolpiczak/ESC-10/archive/refs/heads/master.zip", None, name="ESC-10.zip"),
            ),
        ),
    }

    def __init__(
        self,
        store: str,
        root: str,
        *,
        subset: Subset = "esc50",
        fold: int = 1,
        validation_fold: int | None = None,
        **loading: Any,
    ) -> None:
        super().__init__(store, root, **loading)
        one_of("subset", subset, SUBSETS)
        self.subset: Subset = subset
        self.fold, self.validation_fold = fold, validation_fold
        small = set(ESC10_FOLDERS.values())
        self.official_classes = tuple(name for name in CATEGORIES if subset == "esc50" or name in small)

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The files of `audio`, whichever subset is used later; or those of ESC-10's class folders."""
        table = find_table(root)
        if table is None:
            return _read_class_folders(root)
        audio = table.parents[1] / "audio"
        if not audio.is_dir():
            raise ValueError(f"{table.parents[1]} holds the table of ESC-50 but no folder audio: unpack it there again")
        return find_sources(audio)

    @classmethod
    def listed(cls, root: Path) -> Sequence[str] | None:
        """All 2,000 clips of the table; None for the class folders, which have none."""
        table = find_table(root)
        return None if table is None else read_metadata(table)["filename"].tolist()

    def read_table(self) -> pd.DataFrame:
        """Class, fold, recording and take of each clip of the subset."""
        assert self.root is not None
        path = find_table(self.root)
        if path is not None:
            clips = read_metadata(path)
            clips = clips[clips["esc10"]] if self.subset == "esc10" else clips
        elif self.subset == "esc10":
            clips = _parse_names(self.known_clip_ids())
        else:
            raise ValueError(f"{self.root} holds no meta/esc50.csv: unpack ESC-50 there, or set data.subset to esc10")
        return pd.DataFrame(
            {
                "clip_id": clips["filename"],
                "label": clips["category"],
                "split": fold_split(clips["fold"], fold=self.fold, validation_fold=self.validation_fold),
                "group": clips["src_file"].astype(str),
                "fold": clips["fold"],
                "take": clips["take"],
            }
        )


def find_table(root: Path) -> Path | None:
    """`meta/esc50.csv` of the release that `root` is or holds."""
    folders = (root, *sorted(root.glob("ESC-50*")))
    return next((folder / "meta/esc50.csv" for folder in folders if (folder / "meta/esc50.csv").is_file()), None)


def read_metadata(path: Path) -> pd.DataFrame:
    """`esc50.csv` of the release, one row a clip.

    Raises:
        ValueError: if it is another table, or says of a clip what the clip's name contradicts.
    """
    types = {"filename": str, "fold": int, "target": int, "category": str, "esc10": bool, "src_file": int, "take": str}
    metadata = read_csv(path, types, release="ESC-50", dtype=types)
    fold, recording, target = (metadata[column].astype(str) for column in ("fold", "src_file", "target"))
    right = metadata["filename"].eq(fold + "-" + recording + "-" + metadata["take"] + "-" + target + ".wav")
    right &= metadata["category"].eq(metadata["target"].map(dict(enumerate(CATEGORIES))))
    if not right.all():
        first = metadata[~right].iloc[0]
        raise ValueError(
            f"{path} gives {first['filename']!r} the fold {first['fold']} and the category {first['category']!r} with "
            f"target {first['target']}, which disagree ({(~right).sum()} such clips): unpack ESC-50 again"
        )
    return metadata


def _read_class_folders(root: Path) -> list[Source]:
    """The clips of ESC-10's own release, which has no table to say how many there should be."""
    for folder in (root, *sorted(root.glob("ESC-10*"))):
        lacking = [name for name in ESC10_FOLDERS if not (folder / name).is_dir()]
        if not lacking:
            found = find_sources(folder)
            _parse_names([source.clip_id for source in found])
            if len(found) != N_ESC10:
                log.warning("%s holds %d of the %d clips of ESC-10", folder, len(found), N_ESC10)
            return found
        if len(lacking) < len(ESC10_FOLDERS):
            raise ValueError(
                f"{folder} lacks {len(lacking)} of the 10 class folders of ESC-10, such as {lacking[0]!r}: unpack it "
                f"there again"
            )
    raise ValueError(
        f"{root} holds neither meta/esc50.csv nor the class folders of ESC-10 ('001 - Dog bark'): give the folder that "
        f"one of them was unpacked in"
    )


def _parse_names(clip_ids: Sequence[str]) -> pd.DataFrame:
    """What the names in ESC-10's class folders say, in the columns of `esc50.csv`."""
    rows, strange = [], []
    for clip_id in clip_ids:
        found = _NAME.fullmatch(clip_id)
        if found is None or found[1] not in ESC10_FOLDERS:
            strange.append(clip_id)
        else:
            rows.append((clip_id, int(found[2]), ESC10_FOLDERS[found[1]], int(found[3]), found[4]))
    if strange:
        raise ValueError(
            f"{strange[0]!r} is not named like ESC-10's '001 - Dog bark/{{fold}}-{{Freesound id}}-{{take}}.ogg' "
            f"({len(strange)} such files): move them out of the folder, or use AudioFolder"
        )
    return pd.DataFrame(rows, columns=["filename", "fold", "category", "src_file", "take"])

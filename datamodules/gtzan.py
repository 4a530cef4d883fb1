"""GTZAN: 1,000 clips of 30 s in ten genres, the most used and most criticised set of its kind.

Layout of the release: class folders `genres/blues/blues.00000.wav` to `genres/rock/rock.00099.wav`, mono at 22,050 Hz
(`.au` in older copies; `genres_original` in the copy on Kaggle, whose `jazz.00054.wav` holds no audio), no table. The
lists of the fault-filtered split (`train_filtered.txt`, `valid_filtered.txt`, `test_filtered.txt`) are published apart.

Two protocols, which must never share a table:

- fault-filtered, 443 / 197 / 290 clips: repetitions and distorted clips, 70 in all, are left out;
- ten folds of 100 clips. Among the 1,000 are repetitions, other versions, wrong labels and distortions, and many clips
  of one artist (Sturm 2013, arXiv:1306.1461). No list of artists comes with the set, so these folds are not kept clean.

What the protocol is worth: features of one network score .898 on ten folds (chosen on them; Choi et al. 2017,
arXiv:1703.09179) and .759 on the fault-filtered split, those of another 92.5 and 79.7 % (Castellon et al. 2021,
arXiv:2107.05677).

Source: Tzanetakis and Cook 2002, doi:10.1109/TSA.2002.800560; the filtered split: Kereliuk, Sturm and Larsen 2015,
arXiv:1507.04761. No licence is stated. The publisher's address (http://opihi.cs.uvic.ca/sound/genres.tar.gz) has not
answered since 2022; the archive's copy is checked against the SHA-256 that torchaudio and TensorFlow Datasets hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import Source, find_sources
from datamodules.messages import one_of
from datamodules.releases import Archive, Release
from datamodules.splits import block_folds, check_no_folds, draw_folds, fold_split

GTZANSplit = Literal["filtered", "folds", "random"]
SPLITS = ("filtered", "folds", "random")
GENRES = ("blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock")
N_A_GENRE = 100
N_FOLDS = 10
LISTS = {"train": "train_filtered.txt", "validation": "valid_filtered.txt", "test": "test_filtered.txt"}
_NAME = re.compile(rf"(({'|'.join(GENRES)})/\2\.000[0-9]{{2}})(\.wav|\.au)")
_FOLDERS = ("genres", "genres_original", "Data/genres_original")
_CITATION = (
    "G. Tzanetakis, P. Cook: Musical Genre Classification of Audio Signals. "
    "IEEE Transactions on Speech and Audio Processing 10(5), 2002, doi:10.1109/TSA.2002.800560"
)
_LICENCE = "none stated"
_LISTS_AT = "https://raw.githubusercontent.com/coreyker/dnn-mgr/bdad579ea6cb37b665ea6019fe1026a6ce20cbc7/gtzan"
_LIST_ARCHIVES = (
    Archive(
        f"{_LISTS_AT}/train_filtered.txt",
        "sha256:2b04966cef1486f1a7767b74271533fa23e220388db804a1937835e1fc4fa3fa",
        10_152,
    ),
    Archive(
        f"{_LISTS_AT}/valid_filtered.txt",
        "sha256:f8fbee7c52397a0e0f3a91dc54fedecb2e27f5bdc9a9daeab8cb10d077e26956",
        4_522,
    ),
    Archive(
        f"{_LISTS_AT}/test_filtered.txt",
        "sha256:09cafa6a89ce0a27f30ed250d56ecb4d03c22fffb5a693f96c7ae655ee02ac72",
        6_616,
    ),
)


class GTZAN(AudioDataModule):
    """One genre of ten a clip.

    The table of the folds says of each clip also its `fold`.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset gtzan --root ROOT.
        root: folder that holds `genres` (or `genres_original`) and the lists of the filtered split.
        split: "filtered" (the fault-filtered split), "folds" (fold n is the n-th ten clips of every genre, as the
            transfer paper had it, arXiv:1703.09179: neighbours are often by one artist, so this leaks less than a draw)
            or "random" (ten stratified folds drawn with a fixed seed, as most publications did with one of their own).
        fold: 1 to 10, the test; of the folds alone.
        validation_fold: another one; left out, the one after `fold`.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: for another split or fold, or if `root` holds no genre folders, lacks some, or lacks the lists.
    """

    official_classes = GENRES
    known_bad: ClassVar[Mapping[str, str]] = {
        "jazz/jazz.00054.wav": "no audio in the copy on Kaggle; whole in the first release"
    }
    releases: ClassVar[Mapping[str, Release]] = {
        "genres": Release(
            title="GTZAN genre collection",
            licence=_LICENCE,
            citation=_CITATION,
            homepage="http://marsyas.info/downloads/datasets.html",
            archives=(
                Archive(
                    "https://web.archive.org/web/20211207012050/http://opihi.cs.uvic.ca/sound/genres.tar.gz",
                    "sha256:24347e0223d2ba798e0a558c4c172d9d4a19c00bb7963fe055d183dadb4ef2c6",
                    1_225_571_541,
                ),
                *_LIST_ARCHIVES,
            ),
        ),
        "kaggle": Release(
            title="GTZAN genre collection, copy on Kaggle",
            licence=_LICENCE,
            citation=_CITATION,
            homepage="https://www.kaggle.com/datasets/andradaolteanu/gtzan-dataset-music-genre-classification",
            how="Download it with an account at https://www.kaggle.com/datasets/andradaolteanu/"
            f"gtzan-dataset-music-genre-classification and put the three lists of {_LISTS_AT} beside genres_original",
        ),
    }

    def __init__(
        self,
        store: str,
        root: str,
        *,
        split: GTZANSplit = "filtered",
        fold: int = 1,
        validation_fold: int | None = None,
        **loading: Any,
    ) -> None:
        super().__init__(store, root, **loading)
        one_of("split", split, SPLITS)
        if split == "filtered":
            check_no_folds(split, fold=fold, validation_fold=validation_fold)
        self.split: GTZANSplit = split
        self.fold, self.validation_fold = fold, validation_fold

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The clips of the ten genre folders, whichever split is used later."""
        found = find_sources(_find_genres(root))
        strange = [source.clip_id for source in found if not _NAME.fullmatch(source.clip_id)]
        if strange:
            raise ValueError(
                f"{strange[0]!r} in {root} is not named like GTZAN's blues/blues.00000.wav ({len(strange)} such "
                f"files): move them out of the folder, or use AudioFolder"
            )
        suffixes = sorted({source.path.suffix for source in found})
        if len(suffixes) > 1:
            raise ValueError(
                f"{root} holds both {' and '.join(suffixes)} files, such as {found[0].clip_id!r}: keep one kind, so "
                f"that no clip is there twice"
            )
        return found

    @classmethod
    def listed(cls, root: Path) -> Sequence[str] | None:
        """The 930 clips of the filtered split's lists; None where those are not there."""
        if any(_find_list(root, name) is None for name in LISTS.values()):
            return None
        return _read_lists(root, cls.sources(root)[0].path.suffix)["clip_id"].tolist()

    def read_table(self) -> pd.DataFrame:
        """Genre and split, and the fold where there are folds."""
        assert self.root is not None
        suffix = self.sources(self.root)[0].path.suffix
        if self.split == "filtered":
            return _read_lists(self.root, suffix)
        names = [f"{genre}/{genre}.{number:05d}{suffix}" for genre in GENRES for number in range(N_A_GENRE)]
        table = pd.DataFrame({"clip_id": names, "label": [name.split("/")[0] for name in names]})
        if self.split == "folds":
            table["fold"] = block_folds(table, n_folds=N_FOLDS)
        else:
            table["fold"] = draw_folds(table, n_folds=N_FOLDS, seed=0)
        table["split"] = fold_split(table["fold"], fold=self.fold, validation_fold=self.validation_fold)
        return table


def _find_genres(root: Path) -> Path:
    """The folder of the ten genre folders that `root` is or holds."""
    for folder in (*(root / name for name in _FOLDERS), root):
        lacking = [genre for genre in GENRES if not (folder / genre).is_dir()]
        if not lacking:
            return folder
        if len(lacking) < len(GENRES):
            raise ValueError(
                f"{folder} lacks {len(lacking)} of the 10 genre folders of GTZAN, such as {lacking[0]!r}: unpack it "
                f"there again"
            )
    raise ValueError(f"no genres/blues under {str(root)!r}: give the folder that GTZAN was unpacked in")


def _find_list(root: Path, name: str) -> Path | None:
    return next((path for path in (root / name, _find_genres(root) / name) if path.is_file()), None)


def _read_lists(root: Path, suffix: str) -> pd.DataFrame:
    """The filtered split's three lists as a table; the clips have the suffix of the files that are there."""
    rows = []
    for split, name in LISTS.items():
        path = _find_list(root, name)
        if path is None:
            raise ValueError(
                f"no {name} under {str(root)!r}: put the three lists of {_LISTS_AT} there, or set data.split to folds"
            )
        for line in path.read_text(encoding="utf-8", errors="replace").split():
            found = _NAME.fullmatch(line)
            if found is None:
                raise ValueError(
                    f"{path} lists {line!r}, which is not named like GTZAN's blues/blues.00000.wav: it is not the list "
                    f"of the filtered split; get it from {_LISTS_AT}"
                )
            rows.append((found[1] + suffix, found[2], split))
    return pd.DataFrame(rows, columns=["clip_id", "label", "split"])

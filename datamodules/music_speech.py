"""GTZAN music/speech: 64 clips of music and 64 of speech, 30 s each; a task for checking, not for ranking.

Layout of the release: `music_speech/music_wav/bagpipe.wav` and `music_speech/speech_wav/acomic.wav`, mono at 22,050 Hz,
no table (TensorFlow Datasets' description says 60 and 60; its archive holds 64 and 64). All 128 names stand here, so
that folds are the same whatever is missing on a disk.

Protocol: ten folds of twelve or thirteen clips, none published. Names that differ by a number alone (`teachers`,
`teachers1`, `teachers2`) are taken here for parts of one recording and kept in one fold: nothing is published of who
speaks or plays. Features of a general network reach 100 %, means of MFCCs 99.2 % (arXiv:1703.09179): one clip is 0.8
points, and differences near the top say nothing.

Source: Tzanetakis 1999, http://marsyas.info. No licence is stated. The address has not answered since about 2022; the
checksum and size are those that TensorFlow Datasets holds. No other copy with that checksum was found.
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
from datamodules.splits import block_folds, draw_folds, fold_split

MusicSpeechSplit = Literal["series", "folds"]
SPLITS = ("series", "folds")
N_FOLDS = 10
FOLDERS = {"music_wav": "music", "speech_wav": "speech"}
NAMES = {
    "music_wav": (
        *("bagpipe", "ballad", "bartok", "beat", "beatles", "bigband", "birdland", "blues", "bmarsalis", "brahms"),
        *("canonaki", "caravan", "chaka", "classical", "classical1", "classical2", "copland", "copland2", "corea"),
        *("corea1", "cure", "debussy", "deedee", "deedee1", "duke", "echoes", "eguitar", "georose", "gismonti"),
        *("glass", "glass1", "gravity", "gravity2", "guitar", "hendrix", "ipanema", "jazz", "jazz1", "led"),
        *("loreena", "madradeus", "magkas", "march", "marlene", "mingus", "mingus1", "misirlou", "moanin", "narch"),
        *("ncherry", "nearhou", "opera", "opera1", "pop", "prodigy", "redhot", "rock", "rock2", "russo", "tony"),
        *("u2", "unpoco", "vlobos", "winds"),
    ),
    "speech_wav": (
        *("acomic", "acomic2", "allison", "amal", "austria", "bathroom1", "chant", "charles", "china", "comedy"),
        *("comedy1", "conversion", "danie", "danie1", "dialogue", "dialogue1", "dialogue2", "diamond", "ellhnika"),
        *("emil", "fem_rock", "female", "fire", "geography", "geography1", "georg", "god", "greek", "greek1"),
        *("india", "jony", "jvoice", "kedar", "kid", "lena", "male", "my_voice", "nether", "news1", "news2"),
        *("nj105", "nj105a", "oneday", "psychic", "pulp", "pulp1", "pulp2", "relation", "serbian", "shannon"),
        *("sleep", "smoke1", "smoking", "stupid", "teachers", "teachers1", "teachers2", "thlui", "undergrad"),
        *("vegetables", "vegetables1", "vegetables2", "voice", "voices"),
    ),
}


class MusicSpeech(AudioDataModule):
    """Music or speech: one of two classes a clip, on ten folds.

    The table says of each clip also its `fold`.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset music_speech --root ROOT.
        root: folder that holds `music_speech`, or that folder.
        split: "series" (folds drawn with a fixed seed, stratified; clips that seem to be of one recording stay in one)
            or "folds" (blocks of neighbours in the order of names, as the transfer paper had it, arXiv:1703.09179).
        fold: 1 to 10, the test.
        validation_fold: another one; left out, the one after `fold`.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: for another split or fold, or if a folder is missing.
    """

    official_classes = ("music", "speech")
    releases: ClassVar[Mapping[str, Release]] = {
        "1999": Release(
            title="GTZAN music/speech collection",
            licence="none stated",
            citation="G. Tzanetakis: GTZAN Music/Speech Collection, 1999, http://marsyas.info",
            homepage="http://marsyas.info/downloads/datasets.html",
            archives=(
                Archive(
                    "http://opihi.cs.uvic.ca/sound/music_speech.tar.gz",
                    "sha256:8753bc4129fc0a916d6efcf25dbcaf30e06b41acb44ad7c3d0b5c9d9c90ff546",
                    297_055_930,
                ),
            ),
        )
    }

    def __init__(
        self,
        store: str,
        root: str,
        *,
        split: MusicSpeechSplit = "series",
        fold: int = 1,
        validation_fold: int | None = None,
        **loading: Any,
    ) -> None:
        super().__init__(store, root, **loading)
        one_of("split", split, SPLITS)
        self.split: MusicSpeechSplit = split
        self.fold, self.validation_fold = fold, validation_fold

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The files of `music_wav` and `speech_wav`."""
        folder = next((path for path in (root / "music_speech", root) if (path / "music_wav").is_dir()), None)
        if folder is None:
            raise ValueError(f"no music_speech/music_wav under {str(root)!r}: unpack music_speech.tar.gz there")
        if not (folder / "speech_wav").is_dir():
            raise ValueError(f"{folder} holds music_wav but no speech_wav: unpack music_speech.tar.gz there again")
        return [
            Source(f"{part}/{found.clip_id}", found.path) for part in FOLDERS for found in find_sources(folder / part)
        ]

    @classmethod
    def listed(cls, root: Path) -> Sequence[str]:
        """The release's 128 clips."""
        return [f"{part}/{name}.wav" for part, names in NAMES.items() for name in names]

    def read_table(self) -> pd.DataFrame:
        """Class and fold of each clip."""
        assert self.root is not None
        table = pd.DataFrame({"clip_id": self.listed(self.root)})
        table["label"] = [FOLDERS[clip_id.partition("/")[0]] for clip_id in table["clip_id"]]
        if self.split == "series":
            table["group"] = table["clip_id"].map(series_of)
            table["fold"] = draw_folds(table, n_folds=N_FOLDS, seed=0)
        else:
            table["fold"] = block_folds(table, n_folds=N_FOLDS)
        table["split"] = fold_split(table["fold"], fold=self.fold, validation_fold=self.validation_fold)
        return table


def series_of(clip_id: str) -> str:
    """A clip's name without the number that tells it from its neighbours.

    >>> series_of("speech_wav/teachers2.wav"), series_of("speech_wav/nj105a.wav"), series_of("music_wav/winds.wav")
    ('speech_wav/teachers', 'speech_wav/nj', 'music_wav/winds')
    """
    return re.sub(r"([0-9]+[a-z]?)?\.wav$", "", clip_id)

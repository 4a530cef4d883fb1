"""FMA, the Free Music Archive data set: 30 s clips with genres, split by artist.

Layout of the release: `fma_metadata/tracks.csv` with three header rows, and the clips in `fma_small/000/000002.mp3`
(`fma_medium`, `fma_large`): six digits, in a folder of the first three. A subset holds the smaller ones, so `medium` is
every track marked small or medium. The official split keeps each artist on one side, over all subsets.

Six clips of small and some twenty of medium hold no or too little audio in the release itself; they come out of the
decoder as failed or short and are counted, so a score on small is over 7,994 clips at most.

Source: Defferrard et al. 2017, arXiv:1612.01840; https://github.com/mdeff/fma (metadata CC BY 4.0, audio under each
artist's licence). Only the top genre is read here: one label a clip; tracks without one (large) are left out, counted.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import Source, find_sources

log = logging.getLogger(__name__)

Subset = Literal["small", "medium", "large"]
SUBSETS = ("small", "medium", "large")
_SPLITS = {"training": "train", "validation": "validation", "test": "test"}


class FMA(AudioDataModule):
    """Top genre of FMA clips on the official split.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset fma --root ROOT.
        root: folder that holds `fma_metadata`.
        subset: "small" (8 balanced genres, 8,000 clips), "medium" (16 genres, 25,000) or "large" (the same 16 for
            those of its 106,574 clips that have one top genre).
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: if `tracks.csv` is missing or not FMA's.
    """

    def __init__(self, store: str, root: str, *, subset: Subset = "small", **loading: Any) -> None:
        super().__init__(store, root, **loading)
        self.subset: Subset = subset

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The clips of the largest subset under `root` (it holds the smaller ones); `root` may be its folder too."""
        for name in reversed(SUBSETS):
            if (root / f"fma_{name}").is_dir():
                return find_sources(root / f"fma_{name}")
        if root.is_dir() and not any(root.glob("[0-9][0-9][0-9]")):
            raise ValueError(
                f"{root} holds neither fma_small, fma_medium nor fma_large: give the folder that the archives were "
                f"unpacked in"
            )
        return find_sources(root)

    def read_table(self) -> pd.DataFrame:
        """Top genre, official split and artist of the subset's tracks."""
        assert self.root is not None
        tracks = read_tracks(self.root)
        subset = SUBSETS[: SUBSETS.index(self.subset) + 1]
        chosen = tracks[tracks["set", "subset"].isin(subset)]
        genre = chosen["track", "genre_top"]
        if genre.isna().any():
            log.warning("%d of %d tracks have no top genre and are left out", genre.isna().sum(), len(chosen))
            chosen = chosen[genre.notna()]
        return pd.DataFrame(
            {
                "clip_id": [clip_id(track) for track in chosen.index],
                "label": chosen["track", "genre_top"].to_numpy(),
                "split": chosen["set", "split"].map(_SPLITS).to_numpy(),
                "group": chosen["artist", "id"].to_numpy(),
            }
        )


def clip_id(track: int) -> str:
    """Path of a track's clip inside a subset's folder.

    >>> clip_id(2)
    '000/000002.mp3'
    """
    name = f"{track:06d}"
    return f"{name[:3]}/{name}.mp3"


def read_tracks(root: Path) -> pd.DataFrame:
    """`tracks.csv` of the release: one row a track, columns in two levels, such as ("track", "genre_top")."""
    path = next((p for p in (root / "fma_metadata" / "tracks.csv", root / "tracks.csv") if p.is_file()), None)
    if path is None:
        raise ValueError(
            f"no fma_metadata/tracks.csv under {str(root)!r}: unpack fma_metadata.zip there, or set data.root to the "
            f"folder that holds it"
        )
    tracks = pd.read_csv(path, index_col=0, header=[0, 1], low_memory=False)
    wanted = [("set", "split"), ("set", "subset"), ("track", "genre_top"), ("artist", "id")]
    lacking = [column for column in wanted if column not in tracks.columns]
    if lacking:
        raise ValueError(f"{path} has no column {lacking[0]}: it is not the tracks.csv of the FMA release")
    return tracks

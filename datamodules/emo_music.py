"""EmoMusic, "1000 songs": arousal and valence of 744 excerpts of 45 s, as numbers.

Layout of the release: clips `clips_45seconds/2.mp3` (its archive), and of the other archive `songs_info.csv` and
`static_annotations.csv` (in a folder `annotations` or loose). The 1,000 songs of the title were 744 once redundant ones
had been removed; ids run on to 1000. Text columns are padded with tabs.

Targets are the listeners' mean ratings of whole excerpts, 1 to 9 in the release; here (rating - 5) / 4, so -1 to 1. R²
and correlation do not depend on that. (The ratings over time in the other tables are not read.)

Protocols:

- the official split (MediaEval 2013), 619 for development and 125 for evaluation. 52 of the 411 names of artists are on
  both sides, and 65 of the 125 evaluation clips are theirs; more in truth, for some names end in a part of the title.
  The validation clips are taken from development by artist, as Castellon et al. 2021 (arXiv:2107.05677) did:
  504 / 115 / 125;
- ten folds; what is published is the mean of R² over them.

Source: Soleymani et al. 2013, doi:10.1145/2506364.2506365. The songs come from the Free Music Archive, each under its
own licence. The publisher asks for a form to be filled in and publishes no checksums: those here are of
Castellon et al.'s code, and the sizes were not found.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import Source, find_sources
from datamodules.messages import one_of
from datamodules.releases import Archive, Release
from datamodules.splits import block_folds, check_no_folds, draw_folds, fold_split, shared_groups
from datamodules.tables import find_file, read_csv

log = logging.getLogger(__name__)

EmoMusicSplit = Literal["official", "artists", "folds"]
SPLITS = ("official", "artists", "folds")
N_FOLDS = 10
_SETS = ("development", "evaluation")
_CLIPS = ("clips_45seconds", "clips_45sec/clips_45seconds")


class EmoMusic(AudioDataModule):
    """Two numbers a clip, arousal and valence, each from -1 to 1.

    The table says of each clip also `artist`, `title`, `genre`, and `arousal_std` and `valence_std`, the deviation
    between listeners in units of the targets; `fold` where there are folds. `group` is the artist.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset emo_music --root ROOT.
        root: folder that holds `clips_45seconds` and `annotations`.
        split: "official", "artists" (ten folds drawn with a fixed seed, every artist in one) or "folds" (ten blocks of
            neighbouring song ids, as the transfer paper had it, arXiv:1703.09179: artists are in several).
        fold: 1 to 10, the test; of the folds alone.
        validation_fold: another one; left out, the one after `fold`.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: for another split or fold, or if a table is missing, is another, or disagrees with the other.
    """

    task = "regression"
    official_classes = ("arousal", "valence")
    known_shared = frozenset(
        {
            *("Austin Leonard Jones", "Barrence Whitfield and The Savages", "Benjamin Bret"),
            *("Black Twig Pickers and Steve Gunn", "Caravan of Thieves", "Chan Wai Fat", "Chris Zabriskie"),
            *("Circus Marcus", "Daddy_Scrabble", "Decktonic", "Dexter Britain", "Digital Primitives"),
            *("Dr. Frankenstein", "Everlone", "Evgeny Grinko", "Fit and the Conniptions", "Ghost Hunter"),
            *("Greg Gibbs", "IKOS David Clifton with the choirs of Peterborough Cathedral", "Jahzzar"),
            *("Jared C. Balogh", "Jason Shaw", "Jessica Pavone"),
            *("John Harrison with the Wichita State University Chamber Players", "Juanitos", "Kevin MacLeod"),
            *("Lame Drivers", "Latché Swing", "Lorenzo's Music", "Lucas Gonze", "MIT Concert Choir", "Macaw"),
            *("Mountain Cult", "Mr. & Mrs. Smith", "Music For Your Plants", "Nature", "Party People in a Can"),
            *("Peter Case", "Plurabelle", "Revolution Void", "Shake That Little Foot", "Steve Gunn"),
            *("Steven Arntson", "Stompin' Riff Raffs", "Sycamore Drive", "The Agrarians"),
            *("The Jon Spencer Blues Explosion", "The New Mystikal Troubadours", "The Rope River Blues Band"),
            *("The Underscore Orkestra", "Zero V", "krackatoa"),
        }
    )
    releases: ClassVar[Mapping[str, Release]] = {
        "744": Release(
            title="Emotion in Music Database (1000 songs)",
            licence="each song's own, from the Free Music Archive; none stated for the annotations",
            citation=(
                "M. Soleymani, M. N. Caro, E. M. Schmidt, C.-Y. Sha, Y.-H. Yang: 1000 Songs for Emotional Analysis of "
                "Music. 2nd ACM International Workshop on Crowdsourcing for Multimedia, 2013, "
                "doi:10.1145/2506364.2506365"
            ),
            homepage="http://cvml.unige.ch/databases/emoMusic/",
            archives=(
                Archive(
                    "http://cvml.unige.ch/databases/emoMusic/clips_45sec.tar.gz",
                    "sha256:3994a5d5fefc27f9540d1a69cd7f1294c68e6cb311ce49765021e2e9c7a1057b",
                ),
                Archive(
                    "http://cvml.unige.ch/databases/emoMusic/annotations.tar.gz",
                    "sha256:e0cb0b06e1b0ce7f04b1572fc410937699b7fad9dae67ddaa745f06cda4b0b33",
                    folder="annotations",
                ),
            ),
        )
    }

    def __init__(
        self,
        store: str,
        root: str,
        *,
        split: EmoMusicSplit = "official",
        fold: int = 1,
        validation_fold: int | None = None,
        **loading: Any,
    ) -> None:
        super().__init__(store, root, **loading)
        one_of("split", split, SPLITS)
        if split == "official":
            check_no_folds(split, fold=fold, validation_fold=validation_fold)
        self.split: EmoMusicSplit = split
        self.fold, self.validation_fold = fold, validation_fold

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """The files of `clips_45seconds`."""
        folder = next((root / name for name in _CLIPS if (root / name).is_dir()), None)
        if folder is None:
            raise ValueError(f"no folder clips_45seconds under {str(root)!r}: unpack clips_45sec.tar.gz there")
        return find_sources(folder)

    @classmethod
    def listed(cls, root: Path) -> Sequence[str]:
        """The 744 songs that have ratings."""
        return read_songs(root)["clip_id"].tolist()

    def read_table(self) -> pd.DataFrame:
        """Targets, split, artist and genre of each song."""
        assert self.root is not None
        songs = read_songs(self.root)
        official = songs.pop("set").map({"development": "train", "evaluation": "test"})
        if self.split == "official":
            validates = official.eq("train") & songs["artist"].map(_validates)
            return songs.assign(split=official.mask(validates, "validation"), group=songs["artist"])
        # numbers are no classes: all clips are of one; padded ids stand in the order of the numbers
        clips = songs.assign(clip_id=songs["clip_id"].str.zfill(8), label="any", group=songs["artist"])
        if self.split == "artists":
            songs = songs.assign(fold=draw_folds(clips, n_folds=N_FOLDS, seed=0), group=songs["artist"])
        else:
            songs["fold"] = block_folds(clips, n_folds=N_FOLDS)
        songs["split"] = fold_split(songs["fold"], fold=self.fold, validation_fold=self.validation_fold)
        if self.split == "folds":
            shared = shared_groups(clips.assign(split=songs["split"]))
            log.warning(
                "%d of %d artists stand on two sides, as in the transfer paper: set data.split to artists to part them",
                len(shared), songs["artist"].nunique(),
            )  # fmt: skip
        return songs


def read_songs(root: Path) -> pd.DataFrame:
    """Both tables of the release, one row a song: `clip_id`, `label`, `set`, `artist`, `title`, `genre`, deviations.

    Raises:
        ValueError: if one is missing or is another, if they name different songs, or for a rating outside 1 to 9.
    """
    info = _read(root, "songs_info", ("song_id", "Artist", "Song title", "Genre", "Mediaeval 2013 set"))
    means, deviations = ("mean_arousal", "mean_valence"), ("std_arousal", "std_valence")
    static = _read(root, "static_annotations", ("song_id", *means, *deviations))
    differ = sorted(set(info.index) ^ set(static.index))
    if differ:
        raise ValueError(
            f"song {differ[0]!r} stands in only one of songs_info.csv and static_annotations.csv under {str(root)!r} "
            f"({len(differ)} such songs): unpack annotations.tar.gz there again"
        )
    unknown = sorted(set(info["Mediaeval 2013 set"]) - set(_SETS))
    if unknown:
        raise ValueError(
            f"'Mediaeval 2013 set' in songs_info.csv under {str(root)!r} must be one of {', '.join(_SETS)}, got "
            f"{unknown[0]!r}: unpack annotations.tar.gz there again"
        )
    numbers = static.loc[info.index, [*means, *deviations]].apply(pd.to_numeric, errors="coerce")
    right = numbers.notna().all(axis=1) & numbers[list(means)].apply(lambda ratings: ratings.between(1, 9)).all(axis=1)
    if not right.all():
        song = numbers.index[~right][0]
        raise ValueError(
            f"static_annotations.csv under {str(root)!r} gives song {song!r} the ratings "
            f"{', '.join(static.loc[song, list(means)])}, which must be numbers from 1 to 9, and the deviations "
            f"{', '.join(static.loc[song, list(deviations)])} ({(~right).sum()} such songs): unpack "
            f"annotations.tar.gz there again"
        )
    targets = (numbers[list(means)] - 5) / 4
    return pd.DataFrame(
        {
            "clip_id": [f"{song}.mp3" for song in info.index],
            "label": pd.Series(list(targets.itertuples(index=False, name=None)), dtype=object),
            "set": info["Mediaeval 2013 set"].to_numpy(),
            "artist": info["Artist"].to_numpy(),
            "title": info["Song title"].to_numpy(),
            "genre": info["Genre"].to_numpy(),
            "arousal_std": numbers["std_arousal"].to_numpy() / 4,
            "valence_std": numbers["std_valence"].to_numpy() / 4,
        }
    )


def _read(root: Path, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """A table by song id, as text without the tabs around it."""
    path = find_file(root, f"annotations/{name}.csv", f"{name}.csv", release="EmoMusic")
    written = read_csv(path, columns, release="EmoMusic", dtype=str, keep_default_na=False)
    written = written.apply(lambda column: column.str.strip()).set_index("song_id")
    twice = written.index[written.index.duplicated()]
    if len(twice):
        raise ValueError(f"{path} lists song {twice[0]!r} twice ({len(twice)} such songs): unpack it again")
    return written


def _validates(artist: str) -> bool:
    """Whether an artist's development songs are for validation: a fifth of the artists, by the SHA-1 of the name.

    >>> _validates("Jahzzar"), _validates("The New Mystikal Troubadours")
    (False, True)
    """
    letters = "".join(c for c in artist.lower() if c.isascii() and (c.isalpha() or c.isspace()))
    return int(hashlib.sha1(" ".join(letters.split()).encode()).hexdigest(), 16) % 10 >= 8

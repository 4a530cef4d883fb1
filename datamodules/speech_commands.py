"""Speech Commands: one spoken word a clip of one second, some two thousand speakers, 16 kHz wav.

Layout of the release: `{word}/{speaker}_nohash_{n}.wav`, `validation_list.txt` and `testing_list.txt` (what neither
names is for training), and six long recordings in `_background_noise_`. v0.01 has 30 words (64,721 clips; the 64,727 of
its README counts the noises), v0.02 has 35 (105,829). The lists follow a rule: the SHA-1 of a speaker's name decides
the side, so nobody is heard on two. About a tenth of the clips is shorter than a second and padded.

Four benchmarks are made of it and never share a table: 30 words of v0.01, 35 of v0.02, and for either version twelve
classes: ten words, `_unknown_` for all others, `_silence_`. The twelve are tested on an archive of their own,
`speech_commands_test_set_v0.02` (4,890 clips, 3,081 for v0.01: class folders with `_unknown_` and `_silence_`), not
on words and noise mixed by oneself. Its clips stand in the store as `test_set/…`.

TensorFlow's recipe, which made the twelve classes, trains on `_silence_` and `_unknown_` a tenth of the ten words'
number each, and plays the noise at a random volume, sometimes at none. Here all other words are `_unknown_` (more than
half of the clips: use `order: balanced`), and `_silence_` is random crops of the noise as recorded. One of the six,
`running_tap.wav`, is kept for validation, as in TensorFlow Datasets.

Source: Warden 2018, arXiv:1804.03209, CC BY 4.0; the checksums of v0.02 are TensorFlow Datasets', those of v0.01
torchaudio's and Hugging Face's.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import Source, find_sources
from datamodules.messages import one_of
from datamodules.releases import Archive, Release
from datamodules.splits import random_split, shared_groups
from datamodules.tables import find_file

log = logging.getLogger(__name__)

Version = Literal["v0.01", "v0.02"]
Words = Literal["all", "ten"]
SplitName = Literal["official", "hash", "random"]

TEN = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE, NOISE = "_unknown_", "_silence_", "_background_noise_"
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_OTHERS = ("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow")
_V1 = frozenset((*TEN, *_DIGITS, *_OTHERS))
WORDS: Mapping[Version, frozenset[str]] = {
    "v0.01": _V1,
    "v0.02": _V1 | {"backward", "follow", "forward", "learn", "visual"},
}
N_CLIPS: Mapping[Version, int] = {"v0.01": 64_721, "v0.02": 105_829}  # of words
N_TEST_SET: Mapping[Version, int] = {"v0.01": 3_081, "v0.02": 4_890}
VALIDATION_NOISE = f"{NOISE}/running_tap.wav"

_TEST_SET = "test_set/"  # before the ids of its clips
_SPEAKER = re.compile(r"([^/_]+)_nohash_[0-9]+(?:\.wav)+$")  # some files of the test set end in .wav.wav
_BUCKETS = 2**27
_HOST = "https://storage.googleapis.com/download.tensorflow.org/data"


class SpeechCommands(AudioDataModule):
    """Words of Speech Commands, split by speaker.

    Args:
        store: folder written by tools/decode_to_hdf.py --dataset SpeechCommands --root ROOT.
        root: folder that one version was unpacked in, or the folder that holds it as `speech_commands_v0.0…`. Which of
            the two versions it is follows from its words.
        words: "all" (a class a word: 30 or 35; the noises are left out) or "ten" (twelve classes, tested on the test
            set archive, unpacked beside the release as `speech_commands_test_set_v0.0…`).
        split: "official" takes the release's lists, "hash" the rule behind them, which must agree. "random" is for
            comparison with tutorials: 70 % of the clips of each word for training, 30 % for validation and none for
            the test, drawn by clip, so that most speakers are heard on both sides; not for "ten".
        split_seed: of the draw for split "random"; no other program draws the same clips from the same number.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: if an option is none of those named, or `root` is not the release.
    """

    releases: ClassVar[Mapping[str, Release]] = {
        version: Release(
            title=f"Speech Commands {version}",
            licence="CC BY 4.0",
            citation="Warden 2018, Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition, "
            "arXiv:1804.03209",
            homepage="https://arxiv.org/abs/1804.03209",
            archives=tuple(
                Archive(f"{_HOST}/{name}.tar.gz", f"sha256:{sha256}", n_bytes, folder=name)
                for name, sha256, n_bytes in archives
            ),
        )
        for version, archives in {
            "v0.02": (
                (
                    "speech_commands_v0.02",
                    "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
                    2_428_923_189,
                ),
                (
                    "speech_commands_test_set_v0.02",
                    "cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df",
                    112_563_277,
                ),
            ),
            "v0.01": (
                (
                    "speech_commands_v0.01",
                    "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d",
                    1_489_096_277,
                ),
                (
                    "speech_commands_test_set_v0.01",
                    "baa084f6b62c91de660ff0588ae4dfc4e4d534aa99ac0e5f406cba75836cbd00",
                    71_271_436,
                ),
            ),
        }.items()
    }

    def __init__(
        self,
        store: str,
        root: str,
        *,
        words: Words = "all",
        split: SplitName = "official",
        split_seed: int = 6,
        **loading: Any,
    ) -> None:
        super().__init__(store, root, **loading)
        one_of("words", words, ("all", "ten"))
        one_of("split", split, ("official", "hash", "random"))
        if words == "ten" and split == "random":
            raise ValueError(
                "split must be official or hash with words='ten', got 'random': its test set is of speakers whom only "
                "these keep out of training"
            )
        self.words: Words = words
        self.split: SplitName = split
        self.split_seed = split_seed
        if words == "ten":
            self.official_classes = (SILENCE, UNKNOWN, *TEN)

    @classmethod
    def sources(cls, root: Path) -> list[Source]:
        """Clips and noises of the release, and those of the test set where it stands beside it."""
        release = read_release(root)
        found = find_sources(release.folder)
        n_noises = sum(_folder(source.clip_id) == NOISE for source in found)
        _check_names(release, [source.clip_id for source in found])
        _compare_count("clips of Speech Commands", len(found) - n_noises, N_CLIPS[release.version], release.folder)
        if release.test_set.is_dir():
            own = find_sources(release.test_set)
            _compare_count("clips of the test set", len(own), N_TEST_SET[release.version], release.test_set)
            found += [Source(_TEST_SET + source.clip_id, source.path) for source in own]
        return sorted(found)

    @classmethod
    def listed(cls, root: Path) -> Sequence[str]:
        """The clips for validation and test; no table names those for training."""
        release = read_release(root)
        return [*release.validation, *release.test]

    def read_table(self) -> pd.DataFrame:
        """Word (or one of the twelve classes), split and, where the split keeps them apart, speaker of each clip."""
        assert self.root is not None
        release = read_release(self.root)
        ids = pd.Series(sorted({*self.known_clip_ids(), *release.validation, *release.test}))
        clips = pd.DataFrame({"clip_id": ids, "label": ids.map(_folder), "group": ids.map(speaker)})
        clips["split"] = "train"
        clips.loc[ids.isin(release.validation), "split"] = "validation"
        clips.loc[ids.isin(release.test), "split"] = "test"
        own = clips["clip_id"].str.startswith(_TEST_SET)
        noises = clips["label"] == NOISE
        spoken = clips[~own & ~noises]
        by_rule = spoken["group"].map({name: split_of(name) for name in spoken["group"].unique()})
        self._report(release, len(spoken), int((by_rule != spoken["split"]).sum()))
        if self.split == "hash":
            spoken = spoken.assign(split=by_rule)
        if self.words == "ten":
            return self._twelve(release, spoken, clips[noises], clips[own])
        log.info("%d recordings of noise are no words and left out", noises.sum())
        return self._drawn(spoken) if self.split == "random" else spoken

    def _report(self, release: SpeechRelease, n_clips: int, n_differ: int) -> None:
        log.info("Speech Commands %s, %d words, under %s", release.version, len(WORDS[release.version]), release.folder)
        if n_differ and self.split != "random":
            log.warning(
                "%d of %d clips stand on another side in the lists of %s than by the rule for speakers: the lists were "
                "changed, or files renamed", n_differ, n_clips, release.folder,
            )  # fmt: skip

    def _drawn(self, spoken: pd.DataFrame) -> pd.DataFrame:
        clips = spoken.drop(columns="group")
        drawn = random_split(clips, validation=0.3, test=0.0, seed=self.split_seed)
        log.warning(
            "split 'random' has %d of %d speakers on both sides: it measures new takes of known speakers and is not to "
            "be compared with the official split", len(shared_groups(spoken.assign(split=drawn))),
            spoken["group"].nunique(),
        )  # fmt: skip
        return clips.assign(split=drawn)

    def _twelve(
        self, release: SpeechRelease, spoken: pd.DataFrame, noises: pd.DataFrame, test: pd.DataFrame
    ) -> pd.DataFrame:
        """Training and validation of words and noises, and the test set archive as the test."""
        if test.empty:
            raise ValueError(
                f"words='ten' is tested on {release.test_set.name}, and there is no {str(release.test_set)!r}: unpack "
                f"it there and decode again, or set data.words to all"
            )
        if noises.empty:
            raise ValueError(
                f"words='ten' learns {SILENCE} from {NOISE}, and {release.folder} holds none: unpack it there and "
                f"decode again, or set data.words to all"
            )
        strange = test[~test["label"].isin([*TEN, UNKNOWN, SILENCE])]
        if len(strange):
            raise ValueError(
                f"{strange['clip_id'].iloc[0]!r} stands in none of the twelve class folders ({len(strange)} such "
                f"clips): {release.test_set} is not the test set of Speech Commands"
            )
        taken = spoken[spoken["split"] != "test"]
        log.info("%d clips of the test list make way for those of the test set", len(spoken) - len(taken))
        words = taken.assign(label=taken["label"].where(taken["label"].isin(TEN), UNKNOWN))
        sides = noises["clip_id"].map(lambda clip: "validation" if clip == VALIDATION_NOISE else "train")
        return pd.concat([words, noises.assign(label=SILENCE, split=sides), test.assign(split="test")])


class SpeechRelease(NamedTuple):
    """Where one version of the data set is, and what its lists name.

    Args:
        folder: that holds the lists and the folders of words.
        version: by the words of the lists.
        validation: clip ids for validation.
        test: clip ids for the test.
    """

    folder: Path
    version: Version
    validation: list[str]
    test: list[str]

    @property
    def test_set(self) -> Path:
        """Where the archive with the test of twelve classes is looked for."""
        beside = Path(os.path.abspath(self.folder)).parent  # as it was named, not where a link leads
        return beside / f"speech_commands_test_set_{self.version}"


def read_release(root: Path) -> SpeechRelease:
    """Find the release under `root` and read its lists.

    Args:
        root: the release's folder, or the folder that holds it under its archive's name.
    Raises:
        ValueError: if there is none or two, or the lists are not those of a version.
    """
    lists = "validation_list.txt", "testing_list.txt"
    inside = [name for name in (f"speech_commands_{version}" for version in WORDS) if (root / name).is_dir()]
    if (root / lists[0]).is_file():
        inside = []
    if len(inside) > 1:
        raise ValueError(f"{root} holds {' and '.join(inside)}: give the folder of one of them")
    folder = root / inside[0] if inside else root
    validation, test = (_read_list(find_file(folder, name, release="Speech Commands")) for name in lists)
    twice = set(validation) & set(test)
    if twice:
        raise ValueError(
            f"{min(twice)!r} stands in both {lists[0]} and {lists[1]} of {folder} ({len(twice)} such clips): unpack "
            f"Speech Commands again"
        )
    named = {_folder(clip) for clip in (*validation, *test)}
    for version, words in WORDS.items():
        if named == words:
            return SpeechRelease(folder, version, validation, test)
    raise ValueError(
        f"the lists in {folder} name {len(named)} words and not the {' or '.join(str(len(w)) for w in WORDS.values())} "
        f"of Speech Commands {' and '.join(WORDS)}: unpack it again"
    )


def split_of(name: str) -> str:
    """Side of a speaker by the rule of the release: a tenth each for validation and test, for ever the same.

    >>> split_of("026290a7"), split_of("0c40e715"), split_of("1eddce1d")
    ('validation', 'test', 'train')
    """
    share = 100 * (int(hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest(), 16) % _BUCKETS) / (_BUCKETS - 1)
    return "validation" if share < 10 else "test" if share < 20 else "train"


def speaker(clip_id: str) -> str:
    """Name of a clip's speaker; the clip itself where nobody speaks.

    >>> speaker("bed/0c40e715_nohash_0.wav"), speaker("test_set/_unknown_/bed_0c40e715_nohash_0.wav.wav")
    ('0c40e715', '0c40e715')
    >>> speaker("test_set/_silence_/2.wav")
    'test_set/_silence_/2.wav'
    """
    found = _SPEAKER.search(clip_id)
    return found[1] if found else clip_id


def _folder(clip_id: str) -> str:
    return clip_id.removeprefix(_TEST_SET).rpartition("/")[0]


def _read_list(path: Path) -> list[str]:
    """Clip ids, one a line."""
    try:
        clips = path.read_text(encoding="utf-8").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text ({error.reason}): unpack Speech Commands again") from None
    strange = [clip for clip in clips if clip.count("/") != 1 or not _SPEAKER.search(clip)]
    if strange:
        raise ValueError(
            f"{path} names {strange[0]!r}, which is not {{word}}/{{speaker}}_nohash_{{n}}.wav ({len(strange)} such "
            f"lines): it is not the list of Speech Commands"
        )
    return clips


def _check_names(release: SpeechRelease, clips: Sequence[str]) -> None:
    words = WORDS[release.version]
    strange = [
        clip for clip in clips if _folder(clip) != NOISE and not (_folder(clip) in words and _SPEAKER.search(clip))
    ]
    if strange:
        raise ValueError(
            f"{strange[0]!r} in {release.folder} is neither {{word}}/{{speaker}}_nohash_{{n}}.wav with a word of "
            f"{release.version} nor in {NOISE} ({len(strange)} such files): keep other audio elsewhere"
        )


def _compare_count(what: str, found: int, published: int, folder: Path) -> None:
    if found != published:
        log.warning("%d %s are in %s and %d were published", found, what, folder, published)

"""Real recordings, decoded by two decoders: the same length, to a sample, and the same samples."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from datamodules.decoding.decode import decode
from datamodules.decoding.sources import Source, find_sources
from tests.datamodules.decoding.audio_files import read_by_ffmpeg

pytestmark = pytest.mark.data


def disagreements(sources: list[Source]) -> Iterator[str]:
    for source in sources:
        if not source.path.stat().st_size:
            continue  # one of the Philharmonia's
        info = soundfile.info(source.path)
        ours = decode(
            source.path,
            sample_rate=info.samplerate,
            channels=info.channels,
            exact_channels=True,
            sample_format="float32",
        )
        theirs = read_by_ffmpeg(source.path)
        if ours.decoder == "pyav":
            theirs = soundfile.read(source.path, dtype="float32", always_2d=True)[0]
        assert theirs is not None, source.path
        both = min(len(ours.pcm), len(theirs))
        difference = np.abs(ours.pcm[:both] - theirs[:both]).max()
        if (ours.status, ours.note) != ("ok", ""):
            yield f"{source.clip_id}: {ours.status}, {ours.note}"
        if abs(len(ours.pcm) - len(theirs)) > 1 or difference > 1e-3 * np.abs(theirs).max():
            yield f"{source.clip_id}: {ours.decoder}, {len(ours.pcm)} and {len(theirs)} samples, {difference:.1e} apart"


def test_some_recordings_are_what_another_decoder_hears(recordings: Path) -> None:
    assert list(disagreements(find_sources(recordings)[::97])) == []


@pytest.mark.slow
def test_all_recordings_are_what_another_decoder_hears(recordings: Path) -> None:
    assert list(disagreements(find_sources(recordings))) == []


def test_libsndfile_counts_too_many_frames_in_philharmonia(recordings: Path) -> None:
    """Its count is too large in every one of them; FFmpeg's decoder is the witness of the true one."""
    for path in sorted((recordings / "philharmonia").glob("*/*.mp3"))[::12]:
        if path.stat().st_size:
            with av.open(str(path)) as file:
                expected = sum(frame.samples for frame in file.decode(audio=0))
            assert len(decode(path, sample_rate=44100).pcm) == expected < soundfile.info(path).frames

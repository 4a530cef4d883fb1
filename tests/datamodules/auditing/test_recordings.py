"""What is known of real recordings must be found; and how often copies are found and others taken for copies."""

from __future__ import annotations

import io
import logging
from collections import defaultdict
from pathlib import Path

import av
import numpy as np
import pytest

from datamodules import AudioFolder, SpokenDigits, UrbanSound8K
from datamodules.auditing.alignment import align
from datamodules.auditing.audit import Labels, Settings, audit
from datamodules.auditing.candidates import Candidate, find_candidates
from datamodules.auditing.fingerprints import ANALYSIS_RATE, HOP_LENGTH, analysis_signal, landmarks
from datamodules.decoding.decode import decode
from datamodules.decoding.sources import Source, find_sources
from datamodules.storage.store import Store
from datamodules.storage.writer import write_store

pytestmark = pytest.mark.data
RATE = 16000
log = logging.getLogger(__name__)
NEAR = Settings().near
assert NEAR is not None


def stored(source: Path, out: Path) -> Store:
    write_store(find_sources(source), out, sample_rate=RATE)
    return Store(out)


@pytest.mark.slow
def test_identical_notes_and_the_empty_file_of_philharmonia(recordings: Path, tmp_path: Path) -> None:
    root = recordings / "philharmonia"
    store = stored(root, tmp_path / "store")
    table = AudioFolder(str(store.path), str(root), clip_seconds=1.0).read_table()
    found = audit(store, Labels(table), Settings())
    (pair,) = [finding for finding in found.findings if finding.other]
    assert pair.kind == "exact_conflict"
    assert pair.clip == "french horn/french-horn_E2_1_fortissimo_normal.mp3"
    assert pair.other == "oboe/oboe_E6_15_mezzo-forte_normal.mp3"
    (empty,) = found.of("undecodable")
    assert empty.clip == "saxophone/saxophone_Fs3_15_fortissimo_normal.mp3"


def test_five_recordings_of_urbansound8k_stand_in_two_folds(recordings: Path) -> None:
    data = UrbanSound8K("", str(recordings / "UrbanSound8K"), clip_seconds=4.0)
    table = data.read_table()
    found = audit(None, Labels(table.drop(columns="split")), Settings())
    assert {finding.clip for finding in found.of("group_in_two_folds")} == data.known_shared
    assert len(data.known_shared) == 5
    known = audit(None, Labels(table, known_shared=data.known_shared), Settings())
    assert {finding.clip for finding in known.of("known_shared")} == data.known_shared
    assert not known.has("leak")


@pytest.mark.slow
def test_overlapping_slices_of_urbansound8k_are_found(recordings: Path, tmp_path: Path) -> None:
    """Slices of one event are cut 2 s apart and 4 s long: their halves are the same samples."""
    store = stored(recordings / "UrbanSound8K" / "audio", tmp_path / "store")
    pairs = audit(store, None, Settings()).of("near_within")
    assert len(pairs) == 8
    for pair in pairs:
        first, second = (name.removesuffix(".wav").split("-") for name in (pair.clip, pair.other))
        assert first[:3] == second[:3]
        assert int(second[3]) == int(first[3]) + 1
        assert pair.offset_seconds == pytest.approx(2, abs=1e-3)


@pytest.mark.slow
def test_takes_of_one_digit_by_one_speaker_are_no_copies(recordings: Path, tmp_path: Path) -> None:
    store = stored(recordings / "fsdd" / "recordings", tmp_path / "store")
    table = SpokenDigits(str(store.path), str(recordings / "fsdd" / "recordings"), clip_seconds=1.0).read_table()
    found = audit(store, Labels(table), Settings())
    assert {finding.kind for finding in found.findings} <= {"clipped"}


SETS = ("fsdd/recordings", "esc10", "philharmonia", "speech_commands_v0.01", "beatbox")
N_EACH = 40
LEAST = {"gain": 0.99, "delay": 0.98, "noise": 0.96, "mp3_64k": 0.97, "half": 0.93, "shift": 0.93}
"""Share of the copies that must be found; `--log-cli-level INFO` shows what is."""


def as_mp3(sound: np.ndarray, folder: Path) -> np.ndarray:
    file = io.BytesIO()
    with av.open(file, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=RATE, layout="mono")
        stream.bit_rate = 64000
        frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    path = folder / "copy.mp3"
    path.write_bytes(file.getvalue())
    return decode(path, sample_rate=RATE).pcm[:, 0] / np.float32(32768)


def copies(sound: np.ndarray, folder: Path, rng: np.random.Generator) -> dict[str, np.ndarray]:
    n = int(RATE * rng.uniform(0.01, 0.05))
    noise = 0.1 * np.sqrt(np.mean(sound**2)) * rng.standard_normal(len(sound))
    made = {
        "gain": 0.3 * sound,
        "delay": np.concatenate([np.zeros(n), sound]),
        "noise": sound + noise,
        "mp3_64k": as_mp3(sound, folder),
    }
    if len(sound) > RATE:
        begin = int(rng.uniform(0.1, 0.4) * len(sound))
        made["half"] = sound[begin : begin + len(sound) // 2]
    if len(sound) > 0.3 * RATE:  # what begins 10 to 50 ms later; of a drum stroke that leaves the tail
        made["shift"] = sound[n:]
    return {name: np.rint(32767 * np.clip(copy, -1, 1)).astype(np.int16)[:, None] for name, copy in made.items()}


@pytest.mark.slow
def test_rates_on_real_recordings(recordings: Path, tmp_path: Path) -> None:
    """Copies made of real recordings, found among all of them; and what among the originals is taken for copies."""
    rng = np.random.default_rng(0)
    pcm = [decode(s.path, sample_rate=RATE).pcm for name in SETS for s in some_sources(recordings / name, rng)]
    signals = [analysis_signal(samples, RATE) for samples in pcm]
    marked = [landmarks(signal) for signal in signals]

    def is_copy(a: np.ndarray, b: np.ndarray, candidate: Candidate) -> bool:
        return align(a, b, around=candidate.offset * HOP_LENGTH / ANALYSIS_RATE).similarity >= NEAR

    assert not [two for two in find_candidates(marked) if is_copy(signals[two.a], signals[two.b], two)]
    found: dict[str, list[bool]] = defaultdict(list)
    for samples, signal, marks in zip(pcm, signals, marked, strict=True):
        for name, copy in copies(samples[:, 0] / 32768, tmp_path, rng).items():
            other = analysis_signal(copy, RATE)
            found[name].append(any(is_copy(signal, other, two) for two in find_candidates([marks, landmarks(other)])))
    rates = {name: round(float(np.mean(hits)), 3) for name, hits in found.items()}
    log.info("%d recordings, no two taken for copies; copies found: %s", len(pcm), rates)
    assert not {name: rate for name, rate in rates.items() if rate < LEAST[name]}


def some_sources(folder: Path, rng: np.random.Generator) -> list[Source]:
    """Files of a folder that hold a sound."""
    sources = [s for s in find_sources(folder) if s.path.stat().st_size and "_noise_" not in s.clip_id]
    return [sources[i] for i in sorted(rng.choice(len(sources), N_EACH, replace=False))]

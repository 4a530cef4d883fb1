"""What the tests of writing and reading share: a folder of short clips, and stores of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from datamodules.decoding.sources import find_sources
from datamodules.storage.store import Store
from datamodules.storage.writer import Summary, write_store

RATE = 8000
N_CLIPS = 24


def pcm_of(i: int) -> np.ndarray:
    """Clip i: noise of its own seed and length."""
    rng = np.random.default_rng(i)
    return rng.integers(-20000, 20000, (int(rng.integers(800, 4000)), 1)).astype(np.int16)


def make_clips(folder: Path, n_clips: int = N_CLIPS) -> Path:
    """Wav files in three class folders: class2/clip005.wav."""
    for i in range(n_clips):
        (folder / f"class{i % 3}").mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"class{i % 3}" / f"clip{i:03d}.wav", pcm_of(i), RATE)
    return folder


def write(audio: Path, out: Path, **settings: Any) -> Summary:
    """A folder into a store, at the rate of its clips."""
    return write_store(find_sources(audio), out, **({"sample_rate": RATE} | settings))


def content(path: Path) -> pd.DataFrame:
    """All that a store holds, save where in which shard; samples as bytes."""
    store = Store(path)
    table = store.table.drop(columns="start")
    table["pcm"] = [store.read(row).tobytes() for row in range(len(store))]
    return table


def shards(path: Path) -> dict[str, bytes]:
    """The shards of a store, byte for byte."""
    return {file.name: file.read_bytes() for file in sorted(path.glob("shard-*"))}


def leftovers(path: Path) -> list[str]:
    """What a finished store must not hold."""
    return sorted(file.name for file in path.iterdir() if file.name.startswith("."))


def flip(path: Path, at: int) -> None:
    """Damage one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datamodules.auditing.copies import exact_copies, near_copies
from tests.datamodules.auditing.sounds import make_store, melody


def named(store, pairs) -> set[tuple[str, str]]:
    return {(store.clip_ids[pair.a], store.clip_ids[pair.b]) for pair in pairs}


def test_sets_of_exact_copies_stand_for_themselves_by_their_first(tmp_path: Path) -> None:
    a, b = melody(0), melody(1)
    store = make_store(tmp_path, {"a1.wav": a, "a2.wav": a, "a3.wav": a, "b1.wav": b, "b2.wav": b, "c.wav": melody(2)})
    pairs = exact_copies(store, store.table)
    assert named(store, pairs) == {("a1.wav", "a2.wav"), ("a1.wav", "a3.wav"), ("b1.wav", "b2.wav")}


def test_equal_checksums_are_no_proof(tmp_path: Path) -> None:
    a, b = melody(0), melody(1)
    store = make_store(tmp_path, {"a1.wav": a, "a2.wav": a, "b1.wav": b, "b2.wav": b})
    table = store.table.assign(crc32=np.uint32(7))
    assert named(store, exact_copies(store, table)) == {("a1.wav", "a2.wav"), ("b1.wav", "b2.wav")}


def test_only_the_clips_that_are_asked_for_are_compared(tmp_path: Path) -> None:
    store = make_store(tmp_path, {name: melody(0) for name in ("a.wav", "b.wav", "c.wav")})
    table: pd.DataFrame = store.table.iloc[1:]
    assert named(store, exact_copies(store, table)) == {("b.wav", "c.wav")}
    pairs = near_copies(store, table.index.tolist(), least=0.9, workers=1)
    assert named(store, pairs) == {("b.wav", "c.wav")}


@pytest.mark.parametrize("workers", [1, 3])
def test_near_copies_are_found_among_others(tmp_path: Path, workers: int) -> None:
    rng = np.random.default_rng(0)
    sounds = {f"other{i:02d}.wav": melody(i) for i in range(30)}
    whole = melody(100, 3.0)
    noise = 0.1 * np.sqrt(np.mean(whole**2)) * rng.standard_normal(len(whole))
    sounds |= {
        "whole.wav": whole,
        "quiet.wav": 0.2 * whole,
        "noisy.wav": whole + noise.astype(np.float32),
        "late.wav": np.concatenate([np.zeros(333, np.float32), whole]),
        "part.wav": whole[9000:17000],
    }
    store = make_store(tmp_path, sounds)
    steps: list[tuple[str, int, int]] = []
    pairs = near_copies(store, range(len(store)), least=0.97, workers=workers, on_step=lambda *step: steps.append(step))
    same = ("late.wav", "noisy.wav", "part.wav", "quiet.wav", "whole.wav")
    assert named(store, pairs) == {(a, b) for a in same for b in same if a < b}
    close = near_copies(store, range(len(store)), least=0.999, workers=workers)
    assert named(store, close) == {pair for pair in named(store, pairs) if "noisy.wav" not in pair}
    offset = {(store.clip_ids[pair.a], store.clip_ids[pair.b]): pair.offset_seconds for pair in pairs}
    assert offset["late.wav", "whole.wav"] == pytest.approx(333 / 8000, abs=1e-3)
    assert offset["part.wav", "whole.wav"] == pytest.approx(-9000 / 8000, abs=1e-3)
    assert steps[-1][:1] == ("comparing",)
    assert [step for step in steps if step[0] == "fingerprints"][-1] == ("fingerprints", 35, 35)


def test_a_large_store_keeps_a_share_of_the_landmarks_and_still_finds_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datamodules.auditing.copies as copies

    sounds = {f"other{i}.wav": melody(i, 4.0) for i in range(10)}
    store = make_store(tmp_path, sounds | {"zz.wav": 0.5 * melody(3, 4.0)})
    kept: list[int] = []
    mark = copies.landmarks

    def counting(*arguments, **options):
        kept.append(len(mark(*arguments, **options).hashes))
        return mark(*arguments, **options)

    monkeypatch.setattr(copies, "landmarks", counting)
    monkeypatch.setattr(copies, "_MOST_LANDMARKS", 10_000)
    assert named(store, near_copies(store, range(len(store)), least=0.97, workers=1)) == {("other3.wav", "zz.wav")}
    assert 0 < sum(kept) < 15_000

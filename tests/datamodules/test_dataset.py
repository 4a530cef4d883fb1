"""Batches are pure functions of (seed, epoch, position), complete, unpadded, and found again after a stop."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.dataset import Batch, ClipDataset, Clips, EvaluationBatches, ResumableLoader, TrainBatches, Windows


class MemoryStore:
    """The part of a Store that batches need; sample k of clip i is 1000 * i + k."""

    def __init__(self, lengths: Iterable[int], channels: int = 1) -> None:
        self.lengths = np.array(list(lengths), dtype=np.int64)
        self.channels = channels

    def read_into(self, out: np.ndarray, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        for i, (row, start, length) in enumerate(zip(rows, starts, lengths, strict=True)):
            out[i, :, :length] = 1000 * row + start + np.arange(length)


def clips(lengths: Iterable[int] = (5, 30, 12, 100, 7, 64, 20, 33, 10, 50)) -> Clips:
    store = MemoryStore(lengths)
    return Clips(store, np.arange(len(store.lengths)), torch.arange(len(store.lengths)))  # pyright: ignore[reportArgumentType]


def batches(*, epoch: int = 0, rank: int = 0, world_size: int = 1, batch_size: int = 3, seed: int = 0) -> list[Windows]:
    sampler = TrainBatches(
        clips().lengths, n_samples=10, batch_size=batch_size, seed=seed, rank=rank, world_size=world_size
    )
    sampler.set_epoch(epoch)
    return list(sampler)


def test_a_batch_holds_the_samples_of_its_windows_and_silence_behind_short_clips() -> None:
    dataset = ClipDataset(clips(), n_samples=10)
    batch = dataset[Windows(np.array([0, 3]), np.array([0, 40]))]
    assert batch.waveform.dtype == torch.int16
    assert batch.waveform.tolist() == [[[0, 1, 2, 3, 4, 0, 0, 0, 0, 0]], [list(range(3040, 3050))]]
    assert batch.length.tolist() == [5, 10]
    assert batch.clip.tolist() == batch.target.tolist() == [0, 3]


def test_repeat_fills_short_clips_with_themselves() -> None:
    batch = ClipDataset(clips(), n_samples=12, padding="repeat")[Windows(np.array([0]), np.array([0]))]
    assert batch.waveform.flatten().tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_an_epoch_visits_each_clip_once_and_epochs_differ() -> None:
    first, second = batches(epoch=0, batch_size=2), batches(epoch=1, batch_size=2)
    assert sorted(c for w in first for c in w.clip) == list(range(10))
    assert [w.clip.tolist() for w in first] != [w.clip.tolist() for w in second]
    assert [w.clip.tolist() for w in first] == [w.clip.tolist() for w in batches(epoch=0, batch_size=2)]
    assert [w.clip.tolist() for w in first] != [w.clip.tolist() for w in batches(seed=1, batch_size=2)]


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
def test_ranks_take_equal_numbers_of_different_clips(world_size: int) -> None:
    ranks = [batches(rank=rank, world_size=world_size, batch_size=2) for rank in range(world_size)]
    assert len({len(rank) for rank in ranks}) == 1
    seen = [clip for rank in ranks for window in rank for clip in window.clip]
    assert len(seen) == len(set(seen)) == 10 // (2 * world_size) * 2 * world_size


def test_the_crop_of_a_clip_does_not_depend_on_ranks_or_batch_size() -> None:
    def crops(**setting: int) -> dict[int, int]:
        return {int(c): int(s) for w in batches(**setting) for c, s in zip(w.clip, w.start, strict=True)}

    alone = crops(batch_size=1)
    for setting in (
        {"batch_size": 5},
        {"batch_size": 2, "world_size": 2},
        {"batch_size": 2, "rank": 1, "world_size": 2},
    ):
        assert crops(**setting).items() <= alone.items()


def test_a_split_smaller_than_a_batch_still_gives_one() -> None:
    assert [len(window.clip) for window in batches(batch_size=64)] == [10]
    assert [len(window.clip) for window in batches(batch_size=64, rank=1, world_size=4)] == [2]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_sees_every_window_once_and_a_clip_on_one_rank(world_size: int) -> None:
    lengths = clips().lengths
    seen: list[tuple[int, int]] = []
    owners: dict[int, set[int]] = {}
    for rank in range(world_size):
        part = EvaluationBatches(lengths, n_samples=10, hop=10, batch_size=4, rank=rank, world_size=world_size)
        assert len(list(part)) == len(part)
        for window in part:
            seen += zip(window.clip.tolist(), window.start.tolist(), strict=True)
            for clip in window.clip.tolist():
                owners.setdefault(clip, set()).add(rank)
    expected = {
        (i, min(k * 10, max(n - 10, 0))) for i, n in enumerate(lengths) for k in range(1 + -(-max(n - 10, 0) // 10))
    }
    assert sorted(seen) == sorted(expected)
    assert all(len(ranks) == 1 for ranks in owners.values())


def loader(num_workers: int = 0, batch_size: int = 2) -> ResumableLoader:
    sampler = TrainBatches(clips().lengths, n_samples=10, batch_size=batch_size, seed=3)
    return ResumableLoader(ClipDataset(clips(), n_samples=10), sampler, num_workers=num_workers)


def same(one: Batch, two: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_goes_on_where_it_was_left(num_workers: int) -> None:
    whole = loader()
    whole.batches.set_epoch(7)
    expected = list(whole)
    left = loader(num_workers)
    left.batches.set_epoch(7)
    iterator = iter(left)
    for _ in range(2):
        next(iterator)
    state = left.state_dict()
    assert state["batches"] == 2  # handed out, not prepared by the workers
    resumed = loader(num_workers)
    resumed.load_state_dict(state)
    rest = list(resumed)
    assert len(rest) == 3
    assert all(same(one, two) for one, two in zip(rest, expected[2:], strict=True))
    assert len(list(resumed)) == 5  # the next epoch is whole again


def test_a_loader_saved_at_the_end_of_an_epoch_starts_the_next_from_its_beginning() -> None:
    first = loader()
    list(first)
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    assert len(list(resumed)) == 5


def test_a_loader_refuses_to_go_on_in_mid_epoch_with_another_batch_size() -> None:
    left = loader()
    next(iter(left))
    with pytest.raises(ValueError, match="batch_size was 2 and is 3: go on with the old setting"):
        loader(batch_size=3).load_state_dict(left.state_dict())


def test_a_plain_loader_over_the_data_set_hands_out_whole_batches() -> None:
    sampler = EvaluationBatches(clips().lengths, n_samples=10, hop=10, batch_size=64)
    (batch,) = DataLoader(ClipDataset(clips(), n_samples=10), sampler=sampler, batch_size=None)
    assert batch.waveform.shape == (len(sampler.clip), 1, 10)

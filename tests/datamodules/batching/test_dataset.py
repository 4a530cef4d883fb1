"""Batches are pure functions of (seed, epoch, position), complete, unpadded, and found again after a stop."""

from collections.abc import Iterable

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.batching.dataset import ClipDataset, Clips, EvaluationBatches, TrainBatches, Windows
from datamodules.batching.orders import RandomOrder


class MemoryStore:
    """The part of a Store that batches need; sample k of clip i is 1000 * i + k."""

    def __init__(self, lengths: Iterable[int], channels: int = 1) -> None:
        self.lengths = np.array(list(lengths), dtype=np.int64)
        self.channels = channels
        self.dtype = np.dtype(np.int16)

    def read_into(self, out: np.ndarray, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        out[:] = 0
        for i, (row, start, length) in enumerate(zip(rows, starts, lengths, strict=True)):
            out[i, :length] = (1000 * row + start + np.arange(length))[:, None]

    def will_need(self, rows: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        assert (starts + lengths <= self.lengths[rows]).all()


LENGTHS = np.array([5, 30, 12, 100, 7, 64, 20, 33, 10, 50])


def clips(lengths: Iterable[int] = LENGTHS) -> Clips:
    store = MemoryStore(lengths)
    return Clips(store, np.arange(len(store.lengths)), torch.arange(len(store.lengths)))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("n_samples", [None, 10])
def test_the_largest_batch_is_known_before_it_is_read(n_samples: int | None) -> None:
    order = RandomOrder(len(LENGTHS), 0)
    train = TrainBatches(LENGTHS, n_samples=n_samples, batch_size=3, order=order)
    walked = EvaluationBatches(LENGTHS, n_samples=n_samples, hop=7, batch_size=3)
    for sampler in (train, walked):
        sizes = [len(windows.clip) * windows.n_samples for windows in sampler]
        assert max(sizes) == sampler.most_samples


def batches(
    *,
    epoch: int = 0,
    rank: int = 0,
    world_size: int = 1,
    batch_size: int = 3,
    seed: int = 0,
    n_samples: int | None = 10,
    lengths: np.ndarray = LENGTHS,
) -> list[Windows]:
    sampler = TrainBatches(
        lengths,
        n_samples=n_samples,
        batch_size=batch_size,
        order=RandomOrder(len(lengths), seed),
        seed=seed,
        rank=rank,
        world_size=world_size,
    )
    sampler.set_epoch(epoch)
    return list(sampler)


def test_a_batch_holds_the_samples_of_its_windows_and_silence_behind_short_clips() -> None:
    dataset = ClipDataset(clips())
    batch = dataset[Windows(np.array([0, 3]), np.array([0, 40]), 10)]
    assert batch.waveform.dtype == torch.int16
    assert batch.waveform.tolist() == [[[0, 1, 2, 3, 4, 0, 0, 0, 0, 0]], [list(range(3040, 3050))]]
    assert batch.length.tolist() == [5, 10]
    assert batch.clip.tolist() == batch.target.tolist() == [0, 3]


def test_repeat_fills_short_clips_with_themselves() -> None:
    batch = ClipDataset(clips(), padding="repeat")[Windows(np.array([0]), np.array([0]), 12)]
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


def test_a_plain_loader_over_the_data_set_hands_out_whole_batches() -> None:
    sampler = EvaluationBatches(clips().lengths, n_samples=10, hop=10, batch_size=64)
    (batch,) = DataLoader(ClipDataset(clips()), sampler=sampler, batch_size=None)
    assert batch.waveform.shape == (len(sampler.clip), 1, 10)


def test_channels_come_first_and_keep_their_samples() -> None:
    store = MemoryStore([20], channels=2)
    dataset = ClipDataset(Clips(store, np.array([0]), torch.tensor([1])))  # pyright: ignore[reportArgumentType]
    batch = dataset[Windows(np.array([0]), np.array([3]), 5)]
    assert batch.waveform.tolist() == [[[3, 4, 5, 6, 7]] * 2]


def test_clips_of_a_batch_stand_in_the_order_of_their_files() -> None:
    assert all((np.diff(window.clip) > 0).all() for window in batches(batch_size=5))


# --- whole clips ---

MANY = np.random.default_rng(0).integers(100, 10_000, 1000)


@pytest.mark.parametrize("world_size", [1, 2])
def test_whole_clips_are_all_visited_and_share_batches_with_others_of_their_length(world_size: int) -> None:
    ranks = [
        batches(n_samples=None, lengths=MANY, batch_size=10, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert sorted(clip for rank in ranks for window in rank for clip in window.clip) == list(range(1000))
    assert all(window.n_samples == MANY[window.clip].max() and not window.start.any() for window in ranks[0])
    padded = sum(window.n_samples * len(window.clip) for rank in ranks for window in rank)
    assert padded < 1.1 * MANY.sum()  # in random batches of ten it is 1.8 times as much
    sizes = [window.n_samples for window in ranks[0]]
    assert sorted(sizes) != sizes  # short and long ones in turns


def test_whole_clips_are_scored_at_a_length_that_is_theirs_alone() -> None:
    def sizes(batch_size: int) -> dict[int, int]:
        batches = list(EvaluationBatches(MANY, n_samples=None, hop=500, batch_size=batch_size))
        assert all(len(window.clip) <= batch_size for window in batches)
        return {clip: window.n_samples for window in batches for clip in window.clip.tolist()}

    assert sizes(1) == sizes(7) == sizes(64) == {i: 500 * int(np.ceil(n / 500)) for i, n in enumerate(MANY)}

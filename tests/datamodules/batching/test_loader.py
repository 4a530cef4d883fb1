"""The loader: buffers that are never two batches' at once, threads that change nothing, a place that is found again."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import AudioFolder
from datamodules.batching.dataset import Batch, ClipDataset, EvaluationBatches, TrainBatches
from datamodules.batching.loader import BatchLoader, ResumableLoader, Ring
from datamodules.batching.orders import BlockedOrder, RandomOrder
from tests.datamodules.batching.test_dataset import clips

INT16 = np.dtype(np.int16)

# --- buffers ---


def test_a_buffer_comes_back_when_nothing_views_it_any_more() -> None:
    ring = Ring()
    first = ring((4, 10, 1), INT16)
    place, view = first.data_ptr(), first.transpose(1, 2)[2:]
    del first
    second = ring((4, 10, 1), INT16)
    assert second.data_ptr() != place  # a view of the first still lives
    del view
    gc.collect()
    assert ring((4, 10, 1), INT16).data_ptr() == place


def test_what_autograd_keeps_is_not_handed_out_again() -> None:
    ring = Ring()
    weight = torch.ones(1, requires_grad=True)
    samples = ring((1, 4, 1), np.dtype(np.float32)).fill_(3.0)
    product = (samples * weight).sum()  # keeps `samples` for its gradient
    del samples
    ring((1, 4, 1), np.dtype(np.float32)).fill_(7.0)
    product.backward()
    assert weight.grad is not None
    assert weight.grad.item() == 12.0


def test_batches_that_are_kept_do_not_share_memory() -> None:
    kept = list(loader())
    assert len({batch.waveform.data_ptr() for batch in kept}) == len(kept)
    again = [batch.waveform.clone() for batch in loader()]
    assert all(torch.equal(one.waveform, two) for one, two in zip(kept, again, strict=True))


def test_batches_that_are_let_go_use_few_buffers() -> None:
    sampler = EvaluationBatches(np.full(1000, 10), n_samples=10, hop=10, batch_size=2)
    many = clips([10] * 1000)
    places = {batch.waveform.data_ptr() for batch in BatchLoader(ClipDataset(many), sampler)}
    assert len(places) <= 6


def test_a_larger_batch_gets_a_larger_buffer() -> None:
    ring = Ring()
    del_me = ring((1, 10, 1), INT16)
    del del_me
    assert ring((2, 100, 1), INT16).shape == (2, 100, 1)


# --- threads ---


def test_threads_leave_torch_s_own_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        iterator = iter(loader(threads=3))
        next(iterator)
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (torch.get_num_threads(), seen) == (2, [2])
    finally:
        torch.set_num_threads(before)


def test_a_loader_that_is_left_leaves_no_thread() -> None:
    iterator = iter(loader())
    next(iterator)
    assert any(thread.name.startswith("batches") for thread in threading.enumerate())
    del iterator
    gc.collect()
    assert not any(thread.name.startswith("batches") for thread in threading.enumerate())


def test_an_error_in_a_thread_reaches_the_trainer() -> None:
    broken = loader()
    broken.dataset.clips.store.read_into = None  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError):
        next(iter(broken))


def test_the_disk_is_told_of_every_range_before_it_is_read() -> None:
    told: list[int] = []
    read: list[int] = []
    blocked = loader()
    blocked.sampler.order = BlockedOrder(10, 0, block=2, window=6)
    store = blocked.dataset.clips.store
    tell, fill = store.will_need, store.read_into
    store.will_need = lambda rows, starts, lengths: (told.extend(rows.tolist()), tell(rows, starts, lengths))[1]
    store.read_into = lambda out, rows, starts, lengths: (
        read.extend(rows.tolist()),
        pytest.fail(f"{rows} not told") if not set(rows.tolist()) <= set(told) else None,
        fill(out, rows, starts, lengths),
    )[2]
    assert blocked.sampler.together == 3
    assert len(list(blocked)) == 5
    assert sorted(read) == list(range(10))
    assert told[:6] == sorted(told[:6])  # in the order of the files


# --- the place in the epoch ---


def loader(num_workers: int = 0, batch_size: int = 2, threads: int = 1) -> ResumableLoader:
    sampler = TrainBatches(clips().lengths, n_samples=10, batch_size=batch_size, order=RandomOrder(10, 3), seed=3)
    return ResumableLoader(ClipDataset(clips()), sampler, num_workers=num_workers, threads=threads)


def same(one: Batch, two: Batch) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("num_workers", "threads"), [(0, 1), (0, 3), (2, 1)])
def test_a_loader_goes_on_where_it_was_left(num_workers: int, threads: int) -> None:
    whole = loader()
    whole.sampler.set_epoch(7)
    expected = list(whole)
    left = loader(num_workers, threads=threads)
    left.sampler.set_epoch(7)
    iterator = iter(left)
    for _ in range(2):
        next(iterator)
    state = left.state_dict()
    assert state["batches"] == 2  # handed out, not prepared by the workers
    resumed = loader(num_workers, threads=threads)
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


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_loader_saved_at_the_end_of_an_epoch_may_go_on_with_another_batch_size(batch_size: int) -> None:
    """With a smaller one it was told to stand in mid-epoch."""
    first = loader()
    list(first)
    resumed = loader(batch_size=batch_size)
    resumed.load_state_dict(first.state_dict())
    assert len(list(resumed)) == 10 // batch_size


def test_a_loader_left_in_mid_epoch_does_not_skip_the_rest_for_a_larger_batch_size() -> None:
    left = loader()
    iterator = iter(left)
    for _ in range(3):
        next(iterator)
    with pytest.raises(ValueError, match="batch_size was 2 and is 5: go on with the old setting"):
        loader(batch_size=5).load_state_dict(left.state_dict())


def test_a_loader_refuses_to_go_on_in_mid_epoch_with_another_seed() -> None:
    """Some clips came twice in that epoch, others not at all."""
    left = loader()
    next(iter(left))
    other = loader()
    other.sampler.seed = 4
    with pytest.raises(ValueError, match="seed was 3 and is 4: go on with the old setting"):
        other.load_state_dict(left.state_dict())


def test_a_loader_refuses_to_go_on_in_mid_epoch_with_another_batch_size() -> None:
    left = loader()
    next(iter(left))
    with pytest.raises(ValueError, match="batch_size was 2 and is 3: go on with the old setting"):
        loader(batch_size=3).load_state_dict(left.state_dict())


def test_a_loader_refuses_to_go_on_in_mid_epoch_in_another_order() -> None:
    left = loader()
    next(iter(left))
    other = loader()
    other.sampler.order = BlockedOrder(10, 3)
    with pytest.raises(ValueError, match="order was RandomOrder and is BlockedOrder: go on with the old setting"):
        other.load_state_dict(left.state_dict())


@pytest.mark.gpu
def test_batches_reach_the_gpu_whole_while_their_buffers_are_used_again(tones: Path) -> None:
    data = AudioFolder(str(tones), clip_seconds=0.1, batch_size=2)
    device = torch.device("cuda")
    busy = torch.randn(4096, 4096, device=device)
    expected = [batch.waveform.clone() for batch in BatchLoader(*_parts(data))]
    moved = []
    for batch in data.train_dataloader():
        assert batch.waveform.is_pinned()
        for _ in range(20):  # so that the copies are late
            busy = (busy @ busy).tanh()
        moved.append(data.transfer_batch_to_device(batch, device, 0).waveform)
    assert all(torch.equal(one.cpu(), two) for one, two in zip(moved, expected, strict=True))


def _parts(data: AudioFolder) -> tuple[ClipDataset, TrainBatches]:
    loader = data.train_dataloader()
    return loader.dataset, loader.sampler

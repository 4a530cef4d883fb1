"""Times and memory are those of the step, and the device's clock starts after all of it is launched."""

from __future__ import annotations

import time

import pytest
import torch

import device_clock


class Device:
    """A CUDA device that is busy for one millisecond a fill, and with a step for two."""

    def __init__(self, *, launching: float) -> None:
        self.launching = launching  # seconds that launching a step takes
        self.now = self.free = 0.0

    def zero_(self) -> None:  # of what keeps it busy
        self.free = max(self.free, self.now) + 1e-3

    def step(self) -> None:
        self.now += self.launching
        self.free = max(self.free, self.now) + 2e-3

    def event(self, *, enable_timing: bool) -> Event:
        assert enable_timing
        return Event(self)

    def synchronize(self) -> None:
        self.now = self.free


class Event:
    """What torch.cuda.Event is of such a device."""

    def __init__(self, device: Device) -> None:
        self.device = device

    def record(self) -> None:
        self.at = max(self.device.free, self.device.now)

    def query(self) -> bool:
        return self.at <= self.device.now

    def elapsed_time(self, end: Event) -> float:
        return 1e3 * (end.at - self.at)


def queued_on(device: Device, monkeypatch: pytest.MonkeyPatch) -> device_clock.Queued:
    monkeypatch.setattr(torch.cuda, "Event", device.event)
    monkeypatch.setattr(torch.cuda, "synchronize", device.synchronize)
    monkeypatch.setattr(torch, "empty", lambda *_, **__: device)
    return device_clock.Queued()


@pytest.mark.parametrize(("launching", "fills"), [(0.5e-3, 1), (1.5e-3, 2), (6e-3, 8)])
def test_launching_does_not_count_in_a_queue(launching: float, fills: int, monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(launching=launching)
    clock = queued_on(device, monkeypatch)
    assert clock(device.step) == pytest.approx(2e-3)
    assert clock.fills == fills
    assert clock(device.step) == pytest.approx(2e-3)
    assert clock.fills == fills  # as long as before, from the first try


def test_a_step_that_waits_by_itself_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    device = Device(launching=0.0)
    clock = queued_on(device, monkeypatch)

    def step() -> None:
        device.synchronize()
        device.now += 5e-3
        device.step()

    assert clock(step) == pytest.approx(7e-3)  # its waiting for the device is part of it
    assert clock.fills == device_clock.MOST_FILLS


def test_alone_is_from_the_call_to_the_end() -> None:
    assert 0.02 <= device_clock.alone(lambda: time.sleep(0.02)) < 0.5


def test_copies_read_and_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(device_clock.COPIED_BYTES, "cpu", 1000)
    monkeypatch.setattr(device_clock, "clocks", lambda device: {"": lambda copy: 8e-6 if copy().numel() == 1000 else 0})
    assert device_clock.copying("cpu", turns=3) == pytest.approx(
        [4e-9] * 3
    )  # 8 us for 1000 bytes read and 1000 written


def test_memory_is_measured_above_what_was_there() -> None:
    held = torch.ones(10_000_000)
    taken = device_clock.peak_megabytes(lambda: float(torch.ones(25_000_000).sum()), "cpu")
    assert 95 <= taken <= 120  # 100 MB, and what summing needs
    assert held.sum() == 1e7


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    for device in ("cpu", "cuda", "cuda:0"):
        device_clock.select(device)
    assert chosen == [0, 0]
    with pytest.raises(ValueError, match=r"got cuda:1 where there are 1: take --device cpu"):
        device_clock.select("cuda:1")


@pytest.mark.gpu
def test_a_queue_counts_less_than_waiting() -> None:
    matrix = torch.rand(64, 64, device="cuda")

    def step() -> None:
        for _ in range(50):
            torch.mm(matrix, matrix)

    clocks = device_clock.clocks("cuda")
    for clock in clocks.values():
        clock(step)
    assert 0 < clocks["queued"](step) < clocks["alone"](step)
    assert all(1e-13 < seconds < 1e-9 for seconds in device_clock.copying("cuda", turns=2))  # 1 GB/s to 10 TB/s

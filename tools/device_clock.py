"""What a device takes for a step: time, alone or in a full queue, memory at its peak, and how fast it copies memory.

A step on a CUDA device is launched piece by piece and runs later. `alone`, it is timed from the call until the device
is done, launching and waiting included: what one call takes. `Queued`, it stands behind other work, and the device's
own clock tells its time: what it takes in a training step, where launches run ahead. On a processor the two are one.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import torch

import measuring

BUSY_BYTES = 1 << 30  # larger than any cache; a third of a millisecond on an H100
MOST_FILLS = 32
COPIED_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}  # larger than any cache as well

Step = Callable[[], object]
Clock = Callable[[Step], float]  # the seconds that a step takes


def select(device: str) -> None:
    """Make a device the current one.

    Raises:
        ValueError: if it is a CUDA device that torch does not see.
    """
    if device == "cpu":
        return
    number = torch.device(device).index or 0
    if number >= torch.cuda.device_count():
        raise ValueError(
            f"--device must be one that torch sees, got {device} where there are {torch.cuda.device_count()}: "
            "take --device cpu"
        )
    torch.cuda.set_device(number)


def hardware(device: str) -> str:
    """Name of the device."""
    return measuring.processor() if device == "cpu" else torch.cuda.get_device_name(device)


def does_not_fit(device: str, batch_size: int, seconds: float) -> str:
    """What to say of a batch for which the device's memory is too small."""
    return (
        f"--batch_size and --seconds must fit the memory of {device}, got {batch_size} x {seconds:g} s: "
        "give fewer clips or seconds"
    )


def alone(step: Step) -> float:
    """Seconds of a step from its call until it is done."""
    begin = time.perf_counter()
    step()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


class Queued:
    """Seconds of a step on the current CUDA device by the device's own clock, launched while the device is busy.

    What keeps it busy also empties its cache of the step's input. It is made longer until all of a step is launched
    before the device comes to it; a step that waits for the device by itself has its waiting counted.
    """

    def __init__(self) -> None:
        self.busy = torch.empty(BUSY_BYTES, dtype=torch.uint8, device="cuda")
        self.fills = 1

    def __call__(self, step: Step) -> float:
        """Run the step and wait for it."""
        while True:
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            for _ in range(self.fills):
                self.busy.zero_()
            begin.record()
            step()
            end.record()
            too_soon = begin.query()  # the device began with it before all of it was launched
            torch.cuda.synchronize()
            if not too_soon or self.fills >= MOST_FILLS:
                return begin.elapsed_time(end) / 1e3
            self.fills *= 2


def clocks(device: str) -> dict[str, Clock]:
    """The ways to time a step on a device, by name; on a processor the name is empty, since there is one."""
    return {"": alone} if device == "cpu" else {"queued": Queued(), "alone": alone}


def copying(device: str, *, turns: int) -> list[float]:
    """Seconds that the device needs to read or write one byte of its memory, of each turn of a large copy."""
    n_bytes = COPIED_BYTES[torch.device(device).type]
    source = torch.ones(n_bytes, dtype=torch.uint8, device=device)  # of zeros, there would be one page to read
    target = torch.ones_like(source)
    clock = next(iter(clocks(device).values()))
    taken = measuring.in_turns({"copy": lambda: clock(lambda: target.copy_(source))}, turns=turns, warm_up=2)
    return [turn.work / (2 * n_bytes) for turn in taken["copy"]]


def peak_megabytes(step: Step, device: str) -> float:
    """Memory that a step takes above what was taken before it, at its peak (Linux, or a CUDA device)."""
    if device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    ctypes.CDLL(None).malloc_trim(0)  # else what earlier steps have freed would be taken again unseen
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _resident("VmRSS")
    step()
    return max(_resident("VmHWM") - before, 1) / 1e3


def _resident(name: str) -> int:
    """Kilobytes of main memory, from the kernel's account of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))

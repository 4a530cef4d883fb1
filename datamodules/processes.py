"""Processes: starting one that a file may take down, hang or slow, and giving back what one has freed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Callable, Iterator
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# Every core has a process: threads of BLAS would wait for one another by turning round and round on the same cores.
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def start_process(target: Callable[..., None], *arguments: Any) -> tuple[BaseProcess, connection.Connection]:
    """Call `target(pipe, *arguments)` in a new process, deaf to Ctrl-C; returns it and the other end of the pipe."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=target, args=(there, *arguments), daemon=True)
    # It is born deaf to Ctrl-C, which reaches the whole group, also before it can say so itself.
    resource_tracker.ensure_running()  # its own start would let Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _environment(_ONE_THREAD):
            process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    there.close()
    return process, here  # pyright: ignore[reportReturnType]


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def memory_limit() -> int:
    """Bytes that this process may hold at most: the machine's memory, or what its control groups or `ulimit` leave."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    address_space, _ = resource.getrlimit(resource.RLIMIT_AS)
    if address_space != resource.RLIM_INFINITY:
        limits.append(address_space)
    with contextlib.suppress(OSError):  # no control groups of version 2
        group = Path("/", Path("/proc/self/cgroup").read_text().rpartition("::")[2].strip())
        for path in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # "max", or none of its own
                limits.append(int(Path(f"/sys/fs/cgroup{path}/memory.max").read_text()))
    return min(limits)


def return_memory() -> None:
    """Give freed memory back to the system, where the C library keeps it and can be told not to (glibc)."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)

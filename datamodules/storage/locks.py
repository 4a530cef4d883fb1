"""Advisory locks on files of a store under way: which processes may write, and what.

The kernel lets go of a lock with its process, so that nothing is left to clear away after a kill but an empty file.
Between machines the locks hold where the file system passes `flock` on, as NFS does and Lustre with `-o flock`. Where
there are no locks at all, none are taken and the run goes on.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from datamodules.storage.shards import StoreError, disk_error

_DYING_SECONDS = 10.0  # for which a killed process may hold what it has: the write that it is at comes first


def take_lock(descriptor: int, *, shared: bool = False, patience: float = 0.0) -> None:
    """Lock an open file until it is closed.

    Args:
        descriptor: of the file.
        shared: with others who share it.
        patience: seconds to wait for who holds it; `math.inf` to wait as long as it takes.
    Raises:
        BlockingIOError: if another still holds it.
    """
    operation = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, operation)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.05)
        except OSError:
            return  # a file system without locks


@contextlib.contextmanager
def lock(path: Path, *, shared: bool = False, patience: float = 0.0) -> Iterator[None]:
    """Hold a lock file while the block runs; the last who leaves removes it. Raises BlockingIOError as `take_lock`."""
    with _open_locked(path, shared, patience) as file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # another still shares it
                take_lock(file.fileno())
                path.unlink(missing_ok=True)


def _open_locked(path: Path, shared: bool, patience: float) -> IO[bytes]:
    while True:
        file = path.open("ab")
        try:
            take_lock(file.fileno(), shared=shared, patience=patience)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass  # removed by its last holder between the two lines, or before the lock came
        except BaseException:
            file.close()
            raise
        file.close()


@contextlib.contextmanager
def lock_store(folder: Path, *, rank: int = 0, world_size: int = 1) -> Iterator[None]:
    """One run writes a store, or the ranks of one, each once. Makes the folder.

    Raises:
        StoreError: if another run writes it, this rank runs already, or the folder cannot be written to; also in place
            of an OSError of the block.
    """
    locks = [(".lock", world_size > 1, "another run")]
    if world_size > 1:
        locks.append((f".rank-{rank}.lock", False, f"another run of rank {rank}"))
    with contextlib.ExitStack() as held:
        for name, shared, who in locks:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(lock(folder / name, shared=shared))
            except BlockingIOError:
                raise StoreError(f"{folder} is being written by {who}: wait for its end, or stop it") from None
            except OSError as error:
                raise StoreError(f"{folder} cannot be written to ({error.strerror}): give another folder") from None
        try:
            yield
        except OSError as error:
            raise disk_error(folder, error) from error


def lock_plan(folder: Path) -> contextlib.AbstractContextManager[None]:
    """One rank at a time decides what is to be done, or writes down what was."""
    return lock(folder / ".plan.lock", patience=float("inf"))


@contextlib.contextmanager
def lock_slice(folder: Path, number: int) -> Iterator[None]:
    """One process writes a shard. Raises StoreError if another has it and keeps it."""
    try:
        with lock(folder / f".shard-{number:05d}.lock", patience=_DYING_SECONDS):
            yield
    except BlockingIOError:
        raise StoreError(
            f"{folder}: shard {number} is being written by another process: wait for its end, and start all ranks "
            f"with the same --world-size"
        ) from None


def clear_rank_locks(folder: Path) -> None:
    """Remove the lock files of ranks that were killed."""
    for path in folder.glob(".rank-*.lock"):
        with contextlib.suppress(BlockingIOError), lock(path):
            pass

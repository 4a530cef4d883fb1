"""How a run of the writer begins: with which settings, and which files are left to be decoded.

What a killed run has left, a store that was finished, and a new folder are told apart here and nowhere else.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datamodules.decoding.estimate import expected_seconds, native_channels
from datamodules.decoding.sources import Source
from datamodules.storage.changes import STAMP_COLUMNS, are_stored
from datamodules.storage.finish import BEGUN_FILE, clear_growing, read_failures
from datamodules.storage.index import STORE_KIND, STORE_VERSION, read_index
from datamodules.storage.plan import Slice, absolute, cut, read_plan, write_plan
from datamodules.storage.seal import read_sealed, seal
from datamodules.storage.shards import StoreError, closed_shards, read_done, shard_number, write_json
from datamodules.storage.worker import Settings


def begin(folder: Path, asked: Settings, sources: list[Source]) -> dict[str, Any]:
    """What `store.json` says, or will say, that is not told by the shards: settings, and which clips are withdrawn.

    Args:
        folder: of the store, new or begun.
        asked: settings of this run; with `exact_channels` their number of channels is found out here.
        sources: the files.
    Raises:
        StoreError: if the folder holds something else, or a store that is damaged or was begun with other settings.
        ValueError: if no file tells how many channels to take.
    """
    known = next((path for name in ("store.json", BEGUN_FILE) if (path := folder / name).exists()), None)
    if known is not None:
        state = read_sealed(known)
        _check_same(folder, asked, Settings.of(state))
        return {name: state[name] for name in ("format", "version", *Settings._fields, "withdrawn", "shards")}
    strange = sorted(path.name for path in folder.glob("[!.]*"))  # none where there is no folder
    if strange:
        raise StoreError(f"{folder} holds {strange[0]!r} and is no PCM store: give a new folder")
    settings = asked._replace(channels=native_channels(sources)) if asked.exact_channels else asked
    return {"format": STORE_KIND, "version": STORE_VERSION, **settings._asdict(), "withdrawn": [], "shards": []}


def _check_same(folder: Path, asked: Settings, begun: Settings) -> None:
    if asked.exact_channels and begun.exact_channels:
        asked = asked._replace(channels=begun.channels)
    here, there = (
        " ".join(text for text, other in zip(_typed(one), _typed(two), strict=True) if text != other)
        for one, two in ((begun, asked), (asked, begun))
    )
    if here:
        raise StoreError(f"{folder} was begun with {here}, not {there}: type {here}, or give another folder as --out")


def _typed(settings: Settings) -> tuple[str, ...]:
    """Settings as the tool takes them."""
    return (
        f"--sample-rate {settings.sample_rate}",
        f"--channels {'native' if settings.exact_channels else settings.channels}",
        f"--dtype {settings.sample_format}",
        "no --max-seconds" if settings.max_seconds is None else f"--max-seconds {settings.max_seconds!r}",
        f"--format {settings.shard_format}",
    )


def plan_rest(
    folder: Path, state: dict[str, Any], sources: list[Source], *, shard_bytes: int, least: int, retry: bool
) -> tuple[list[Slice], int]:
    """Add to the plan what it lacks, and unfinish the store if there is anything to do.

    Args:
        folder: of the store.
        state: what `begin` has returned; clips that the plan decodes anew are no longer withdrawn in it.
        sources: the files, sorted.
        shard_bytes: samples to expect of a slice, in bytes.
        least: number of slices to make of what is added, where there are as many files.
        retry: whether what failed when the store was finished is tried again, also where nothing else is to be done.
    Returns:
        The slices that are not whole, and how many of the files are stored already.
    """
    settings = Settings.of(state)
    slices, done = read_plan(folder), read_done(folder)
    if not slices:
        clear_growing(folder)  # of a run that was killed while it tidied up
        done = {}
    failed = {(failure["clip_id"], failure["source"]) for failures in done.values() for failure in failures}
    coming = {clip_id for part in slices if part.number not in done for clip_id, _ in part.clips}
    shards = closed_shards(folder, settings.shard_format)
    _restore(state, slices)
    stored = are_stored(sources, read_index(shards, STAMP_COLUMNS, withdrawn=state["withdrawn"]))
    todo = [
        source
        for source, there in zip(sources, stored.tolist(), strict=True)
        if not there and source.clip_id not in coming and (source.clip_id, absolute(source.path)) not in failed
    ]
    if not retry and not slices and (folder / "store.json").exists():
        known = {(failure.clip_id, failure.source) for failure in read_failures(folder)}
        # all or none: the ranks behind this one can no longer tell what had failed, and would plan it anew
        if known.issuperset((source.clip_id, absolute(source.path)) for source in todo):
            todo = []
    if todo:
        names = [*shards, *(shard["name"] for shard in state["shards"])]  # also those that are missing now
        used = [*map(shard_number, names), *(part.number for part in slices)]
        limit = np.inf if settings.max_seconds is None else settings.max_seconds
        nbytes = np.minimum(expected_seconds(todo), limit) * settings.bytes_per_second
        slices += cut(todo, nbytes, first=1 + max(used, default=-1), shard_bytes=shard_bytes, least=least)
        write_plan(folder, slices)
        _restore(state, slices)
    if slices:
        write_json(folder / BEGUN_FILE, seal(state))
        (folder / "store.json").unlink(missing_ok=True)
    return [part for part in slices if part.number not in done], int(stored.sum())


def _restore(state: dict[str, Any], slices: list[Slice]) -> None:
    """The plan decodes withdrawn clips anew, or withdraws them again when it ends."""
    planned = {clip_id for part in slices for clip_id, _ in part.clips}
    state["withdrawn"] = [clip_id for clip_id in state["withdrawn"] if clip_id not in planned]

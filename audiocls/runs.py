"""What stands where in a run's folder, and how it is found again: checkpoints, configuration, recipes."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from audiocls.configurations import find_config, has_keys

CHECKPOINTS = "checkpoints"
# what Lightning calls to rebuild a model; a foreign file may name anything there
INSTANTIATOR = "pytorch_lightning.cli.instantiate_module"
NAMES = ("best", "last")


def find_checkpoint(run_dir: Path, wanted: str) -> Path:
    """A checkpoint by its path, or by one of the names "best" and "last" in a run's folder.

    Raises:
        ValueError: if there is none; says what is there.
    """
    if wanted not in NAMES:
        path = Path(wanted)
        if path.is_dir():
            raise ValueError(f"checkpoint {wanted!r} is a folder: give a file, or the folder of a run by --run_dir")
        if not path.is_file():
            raise ValueError(f"checkpoint {wanted!r} does not exist: give a file, or best or last with --run_dir")
        return path
    if run_dir.is_file():
        raise ValueError(f"--run_dir {run_dir} is a file: give the folder of its run, or the file by --ckpt_path")
    path = run_dir / CHECKPOINTS / f"{wanted}.ckpt"
    if not path.is_file():
        there = sorted(str(found) for found in (run_dir / CHECKPOINTS).glob("*.ckpt"))
        way_out = "train first, or give another --run_dir"
        if there:
            way_out = f"--ckpt_path can be {', '.join(there)}"
        elif run_dir.name == CHECKPOINTS:
            way_out = f"give the run's folder, --run_dir {run_dir.parent}"
        raise ValueError(f"there is no {path}: {way_out}")
    return path


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of ours, without running anything that stands in it.

    Raises:
        ValueError: if it is damaged, no checkpoint, one that would have to run code to be read, or not one of audiocls.
    """
    unreadable = (zipfile.BadZipFile, zlib.error, UnicodeDecodeError, pickle.UnpicklingError)
    try:
        _check_sums(path)
        content = torch.load(path, weights_only=True, map_location="cpu")
    except (*unreadable, RuntimeError, EOFError, KeyError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise ValueError(
            f"{path} cannot be read as a checkpoint ({reason}): give one that audiocls has written"
        ) from None
    recipe = content.get("hyper_parameters", {}) if isinstance(content, dict) else {}
    if not isinstance(content, dict) or "audiocls" not in content or recipe.get("_instantiator") != INSTANTIATOR:
        raise ValueError(f"{path} was not written by `audiocls fit`: give a checkpoint of one of its runs")
    return content


def _check_sums(path: Path) -> None:
    """Refuse a checkpoint whose bytes are not those that were written: torch reads a flipped bit as another weight."""
    if not zipfile.is_zipfile(path):
        return  # torch says what it is
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: the checksum of {damaged} in it is wrong; take another copy of it, or the run's other "
            "checkpoint (--ckpt_path best or last)"
        )


def run_config(checkpoint: Path) -> Path | None:
    """The configuration that a run saved beside its checkpoints, if it is there."""
    config = checkpoint.parent.parent / "config.yaml"
    return config if config.is_file() else None


def unused(run_dir: str) -> str:
    """The first of `run_dir`-2, -3, … that does not exist yet."""
    return next(name for n in range(2, 10_000) if not Path(name := f"{run_dir.rstrip('/')}-{n}").exists())


def with_known_config(arguments: list[str]) -> list[str]:
    """Name the configuration where the run or the installation knows it.

    A run that exists has its own configuration beside the checkpoints, so it need not be given again; `--config fma`
    or `conf/fma.yaml` is found in the installed recipes where the present folder has no such file.

    Args:
        arguments: the command and what follows it.
    Returns:
        The same with `--config FILE` set in, or with its file's whole path; without the files that hold no keys.
    Raises:
        ValueError: if a configuration or checkpoint that is named does not exist, or a configuration cannot be read.
    """
    command, rest = arguments[0], _split_equals(arguments[1:])
    for i in reversed([i for i, (option, _) in enumerate(pairwise(rest)) if option in ("--config", "-c")]):
        config = find_config(rest[i + 1])
        rest[i : i + 2] = [rest[i], str(config)] if has_keys(config) else []
    options = dict(pairwise(rest))
    resumes = command != "fit" or "--ckpt_path" in options
    wanted = options.get("--ckpt_path", "best")
    named = "--run_dir" in options or wanted not in NAMES
    if {"--config", "-c", "--help", "-h"} & set(rest) or not (resumes and named):
        return [command, *rest]
    checkpoint = find_checkpoint(Path(options.get("--run_dir", ".")), wanted)
    config = run_config(checkpoint)
    if config is None or not has_keys(config):
        return [command, *rest]
    return [command, "--config", str(config), "--run_dir", str(config.parent), *rest]  # wherever it has been moved to


def _split_equals(words: list[str]) -> list[str]:
    """`--config=a.yaml` as two words, for the options that are looked at here."""
    looked_at = ("--config=", "--run_dir=", "--ckpt_path=")
    return [part for word in words for part in (word.split("=", 1) if word.startswith(looked_at) else [word])]

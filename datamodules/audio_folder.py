"""A folder of class folders: the label of `kick/kit03_07.mp3` is `kick`.

The split is drawn, stratified by class and seeded; where part of the name says what belongs together (a kit, a
speaker, a song), `group_pattern` keeps that on one side. With `n_folds` folds are drawn in place of a split, so that
every clip is tested once by tools/cross_validate.py.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.splits import draw_folds, fold_split, random_split


class AudioFolder(AudioDataModule):
    """Clips in one folder a class.

    Args:
        store: folder written by tools/decode_to_hdf.py from the folder of class folders.
        root: the folder of class folders; given, every audio file in it must be in the store. Left out, the store's
            clips are the data set, but for those whose files were gone when it was last decoded into.
        validation: share of the clips drawn for validation.
        test: share of the clips drawn for test.
        split_seed: of the draw.
        group_pattern: regular expression whose first group, searched in the clip's path, names what must stay on one
            side, such as "(kit[0-9]+)_".
        n_folds: folds to draw, at least 3; then `validation` and `test` are of no use. Left out, a split is drawn.
        fold: 1 to `n_folds`, the test.
        validation_fold: another one; left out, the one after `fold`.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: if `root` is a table, a file stands in no class folder, `group_pattern` is no regular expression or
            finds no group, or a fold is asked for that is not drawn.
    """

    def __init__(
        self,
        store: str,
        root: str | None = None,
        *,
        validation: float = 0.15,
        test: float = 0.15,
        split_seed: int = 0,
        group_pattern: str | None = None,
        n_folds: int | None = None,
        fold: int = 1,
        validation_fold: int | None = None,
        **loading: Any,
    ) -> None:
        super().__init__(store, root, **loading)
        if self.root is not None and self.root.suffix in (".csv", ".tsv"):
            raise ValueError(f"root must be a folder of class folders, got {root}: use AudioTable, or set it to null")
        self.validation, self.test, self.split_seed = validation, test, split_seed
        if group_pattern is not None:
            _check_pattern(group_pattern)
        self.group_pattern = group_pattern
        if n_folds is None and (fold != 1 or validation_fold is not None):
            raise ValueError(
                f"fold and validation_fold are of folds that are drawn, got {fold} and {validation_fold}: set n_folds"
            )
        if n_folds is not None and n_folds < 3:
            raise ValueError(f"n_folds must be at least 3 (test, validation, train), got {n_folds}")
        self.n_folds, self.fold, self.validation_fold = n_folds, fold, validation_fold

    def read_table(self) -> pd.DataFrame:
        """Label from the folder, split or folds drawn."""
        ids = self.known_clip_ids()
        loose = [clip_id for clip_id in ids if "/" not in clip_id]
        if loose:
            raise ValueError(
                f"{loose[0]!r} stands in no class folder ({len(loose)} such files): put each file into a folder named "
                f"after its class, or use AudioTable"
            )
        table = pd.DataFrame({"clip_id": ids, "label": [clip_id.split("/")[0] for clip_id in ids]})
        if self.group_pattern is not None:
            table["group"] = [self._group(clip_id, self.group_pattern) for clip_id in ids]
        if self.n_folds is None:
            self.drawn_shares = {"validation": self.validation, "test": self.test}
            table["split"] = random_split(table, validation=self.validation, test=self.test, seed=self.split_seed)
        else:
            table["fold"] = draw_folds(table, n_folds=self.n_folds, seed=self.split_seed)
            table["split"] = fold_split(table["fold"], fold=self.fold, validation_fold=self.validation_fold)
        return table

    @staticmethod
    def _group(clip_id: str, pattern: str) -> str:
        found = re.search(pattern, clip_id)
        if found is None or not found.groups():
            raise ValueError(
                f"group_pattern {pattern!r} finds no group in {clip_id!r}: it needs one pair of parentheses "
                f"around what names the group, in every path"
            )
        return found.group(1)


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"group_pattern {pattern!r} is no regular expression ({error}): write a backslash before a bracket or sign "
            f"that stands for itself, and close the others"
        ) from None

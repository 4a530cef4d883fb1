"""A CSV table of clips: path, label, and whatever of split, fold and group is known.

| column | meaning |
|---|---|
| `path` | of the audio file, relative to the table's folder; the clip's id |
| `label` | the class; any number of tags (`task: multilabel`) or numbers (`task: regression`), separated by `\\|` |
| `split` | optional: train, validation or test |
| `fold` | optional, in place of `split`: a number, with the settings `fold` and `validation_fold` |
| `group` | optional: what must stay on one side (artist, speaker, recording); empty for a clip that stands alone |

Without `split` and `fold` the split is drawn as in `AudioFolder`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd

from datamodules.base import AudioDataModule
from datamodules.decoding.sources import as_clip_ids
from datamodules.messages import one_of
from datamodules.splits import Task, fold_split, random_split
from datamodules.tables import read_clips_csv


class AudioTable(AudioDataModule):
    """Clips listed in a CSV table.

    Args:
        store: folder written by tools/decode_to_hdf.py from the table.
        root: the CSV table.
        task: "multiclass", "multilabel" for any number of labels a clip (one tag in all is enough), or "regression" for
            numbers.
        targets: names of the numbers, for regression.
        fold: value of the column `fold` that is the test.
        validation_fold: value of it that is the validation; left out, the one after `fold`.
        validation: share drawn for validation where the table gives no split; clips of each class alike, or, of
            several labels or numbers a clip, of all clips.
        test: share drawn for test where the table gives no split.
        split_seed: of the draw.
        loading: what `AudioDataModule` takes.
    Raises:
        ValueError: if the table does not exist, lacks a column, or its label fits the task badly.
    """

    def __init__(
        self,
        store: str,
        root: str,
        *,
        task: Task = "multiclass",
        targets: list[str] | None = None,
        fold: int | None = None,
        validation_fold: int | None = None,
        validation: float = 0.15,
        test: float = 0.15,
        split_seed: int = 0,
        **loading: Any,
    ) -> None:
        super().__init__(store, root, **loading)
        one_of("task", task, get_args(Task))
        if task == "regression" and not targets:
            raise ValueError("task regression needs the names of its numbers: set targets, such as [valence, arousal]")
        if task != "regression" and targets is not None:
            raise ValueError(f"targets names the numbers of task regression, got {targets} for {task}: leave it out")
        self.task = task
        self.official_classes = None if targets is None else tuple(targets)
        self.fold, self.validation_fold = fold, validation_fold
        self.validation, self.test, self.split_seed = validation, test, split_seed

    def read_table(self) -> pd.DataFrame:
        """The CSV as a clip table."""
        assert self.root is not None
        written = _read_csv(self.root)
        table = pd.DataFrame({"clip_id": np.array(as_clip_ids(written["path"].tolist()), dtype=object)})
        table["label"] = self._labels(written["label"], table["clip_id"])
        if "group" in written:
            table["group"] = written["group"].where(written["group"] != "")
        if self.fold is not None:
            if "fold" not in written:
                raise ValueError(f"{self.root} has no column 'fold' but data.fold is {self.fold}: remove it")
            table["fold"] = _numbers(self.root, written["fold"])
            table["split"] = fold_split(table["fold"], fold=self.fold, validation_fold=self.validation_fold)
        elif "split" in written:
            table["split"] = written["split"]
        else:
            self._refuse_unused_fold(written)
            self.drawn_shares = {"validation": self.validation, "test": self.test}
            # by class; neither numbers nor sets of labels are classes
            drawn_from = table if self.task == "multiclass" else table.assign(label="any")
            table["split"] = random_split(drawn_from, validation=self.validation, test=self.test, seed=self.split_seed)
        return table

    def _labels(self, written: pd.Series, clip_ids: pd.Series) -> pd.Series:
        several = [label for label in written.cat.categories if "|" in label]
        if self.task == "multiclass":
            if several:
                raise ValueError(
                    f"{self.root} gives several labels to a clip ({several[0]!r}): set data.task to multilabel"
                )
            empty = clip_ids[written.isin([label for label in written.cat.categories if not label])]
            if len(empty):
                raise ValueError(
                    f"{self.root} leaves column 'label' empty for clip {empty.iloc[0]!r} ({len(empty)} such clips): "
                    f"write its class there, remove its row, or set data.task to multilabel if a clip may have none"
                )
            return written
        # what is written is taken apart once, however many clips have the same labels
        meaning = [self._parts(label) for label in written.cat.categories]
        return pd.Series([meaning[code] for code in written.cat.codes.tolist()], index=written.index, dtype=object)

    def _parts(self, written: str) -> tuple[str, ...] | tuple[float, ...]:
        parts = tuple(part.strip() for part in written.split("|") if part.strip())
        if self.official_classes is None:
            return parts
        try:
            numbers = tuple(map(float, parts))
        except ValueError:
            numbers = ()
        if len(numbers) != len(self.official_classes):
            raise ValueError(
                f"{self.root} must give {len(self.official_classes)} numbers to each clip "
                f"({'|'.join(self.official_classes)}), got label {written!r}"
            )
        return numbers

    def _refuse_unused_fold(self, written: pd.DataFrame) -> None:
        if "fold" in written:
            raise ValueError(
                f"{self.root} has a column 'fold': say which is the test with data.fold (one of "
                f"{', '.join(sorted(written['fold'].unique()))}), or remove the column"
            )


def _read_csv(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise ValueError(f"table {str(path)!r} does not exist: set data.root to the CSV table")
    return read_clips_csv(path)


def _numbers(path: Path, folds: pd.Series) -> pd.Series:
    try:
        return pd.to_numeric(folds.astype(str)).astype(int)
    except ValueError:
        raise ValueError(
            f"{path} has a fold that is no whole number: {', '.join(sorted(folds.unique())[:5])}"
        ) from None

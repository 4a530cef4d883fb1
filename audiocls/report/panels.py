"""What a W&B run is shown of an evaluation: tables, charts, images and sound, as one dictionary for one log call.

Each call of `run.log` is one step, so everything of an evaluation is gathered first. Images are given as PNG files
and clips as wav files: arrays would need soundfile and are rescaled on the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from audiocls.metrics import Evaluation
from audiocls.report.style import called

# the interactive confusion matrix is a table of num_classes² rows; above this the image alone is sent
MOST_CONFUSION_CLASSES = 60


def images(paths: Mapping[str, Path], *, prefix: str) -> dict[str, Any]:
    """Figures as images.

    Args:
        paths: name to PNG file.
        prefix: "val" or "test".
    """
    return {f"{prefix}/figures/{name}": wandb.Image(str(path)) for name, path in paths.items()}


def class_tables(evaluation: Evaluation, *, score: str, prefix: str) -> dict[str, Any]:
    """Scores of all classes as one table, and one of them as one bar chart, however many classes there are.

    Args:
        evaluation: what to show.
        score: column of `per_class` for the bars; classes where it is undefined have none.
        prefix: "val" or "test".
    """
    (one, several), columns = called(evaluation.task), list(evaluation.per_class)
    rows = zip(*evaluation.per_class.values(), strict=True)
    table: list[Any] = [[name, *values] for name, values in zip(evaluation.class_names, rows, strict=True)]
    pairs = zip(evaluation.class_names, evaluation.per_class[score], strict=True)
    bars: list[Any] = [[name, value] for name, value in sorted(pairs, key=lambda pair: -pair[1]) if value == value]
    return {
        f"{prefix}/{several}": wandb.Table(columns=[one, *columns], data=table),
        f"{prefix}/{one}_scores": wandb.plot.bar(
            wandb.Table(columns=[one, score], data=bars), one, score, title=f"{score} by {one} ({prefix})"
        ),
    }


def confusion_chart(evaluation: Evaluation, *, prefix: str) -> dict[str, Any]:
    """W&B's interactive confusion matrix; nothing for several labels a clip or for more than 60 classes."""
    if evaluation.task != "multiclass" or len(evaluation.class_names) > MOST_CONFUSION_CLASSES:
        return {}
    chart = wandb.plot.confusion_matrix(
        preds=evaluation.prediction.argmax(1).tolist(),
        y_true=evaluation.target.tolist(),
        class_names=evaluation.class_names,
        title=f"confusion ({prefix})",
    )
    return {f"{prefix}/confusion": chart}


def sounds(paths: Sequence[Path], *, prefix: str) -> dict[str, Any]:
    """Clips to listen to, under their folder's name, captioned by their files'; nothing where there is none."""
    clips = [wandb.Audio(str(path), caption=path.stem) for path in paths]
    return {f"{prefix}/{paths[0].parent.name.removeprefix('test_')}": clips} if paths else {}

"""The look of all figures, and writing one whole or not at all.

Drawn with matplotlib's object interface, so that nothing here touches pyplot's global state, a display or a figure of
the user's. Colours are Okabe and Ito's, which stay apart for colour-blind readers (Okabe & Ito 2008, "Color Universal
Design"); sequential and diverging maps are matplotlib's `Blues` and `PuOr`, which do too.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec

from matplotlib import get_data_path, rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text

log = logging.getLogger(__name__)

BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, GREY, PALE = "#222222", "#6E6E6E", "#DDDDDD"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelcolor": GREY,
    "axes.edgecolor": "#AAAAAA",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": "#AAAAAA",
    "ytick.color": "#AAAAAA",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "savefig.facecolor": "white",
}
PATCH = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}  # behind text that lines may cross

P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws in this module's style and leaves matplotlib's settings as they were."""

    @wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def save(figure: Figure, path: str | Path, *, dpi: int = 160) -> Path:
    """Write a figure as PNG, whole or not at all.

    Args:
        figure: any matplotlib figure.
        path: file to write; its folder is made.
        dpi: dots per inch.
    Returns:
        The path written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    FigureCanvasAgg(figure)
    with rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from")  # a line each; `_font_with` says it once
        _add_fonts(figure)
        figure.savefig(temporary, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.12)
    os.replace(temporary, path)
    return path


def _add_fonts(figure: Figure) -> None:
    """Let texts fall back on installed fonts for letters, of class names above all, that the figure's own lacks."""
    own = _letters(findfont(FontProperties()))
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        lacking = [letter for letter in text.get_text() if letter.isprintable() and ord(letter) not in own]
        if fonts := sorted({name for letter in lacking if (name := _font_with(letter))}):
            text.set_fontfamily([*text.get_fontfamily(), *fonts])


@cache
def _font_with(letter: str) -> str | None:
    # matplotlib brings fonts for formulas, which hold other signs than they say
    installed = (font for font in fontManager.ttflist if not font.fname.startswith(get_data_path()))
    name = next((font.name for font in installed if ord(letter) in _letters(font.fname)), None)
    if name is None:
        _say_boxes()
    return name


@cache
def _letters(path: str) -> frozenset[int]:
    try:
        return frozenset(get_font(path).get_charmap())
    except (OSError, RuntimeError):  # it is gone since matplotlib listed it, or holds pictures for letters
        return frozenset()


@cache
def _say_boxes() -> None:
    log.info("figures show boxes for letters of names that no installed font has")


def short_name(name: str, most: int = 24) -> str:
    """A text of the user's as one line to draw: cut in its middle, and free of matplotlib's mathematics.

    >>> short_name("Old-Time\\nHistoric"), short_name("recorded in the street, at night"), short_name("")
    ('Old-Time Historic', 'recorded in the…at night', '(no name)')
    """
    # names of files that are not UTF-8 hold halves of letters, which no font can draw
    name = " ".join(name.encode(errors="backslashreplace").decode().split()) or "(no name)"
    if len(name) > most:
        name = f"{name[: most - most // 3 - 1].rstrip()}…{name[-(most // 3) :].lstrip()}"
    return name.replace("$", r"\$")


def called(task: str) -> tuple[str, str]:
    """What a model tells of each clip, one and several: classes, for regression numbers.

    >>> called("regression"), called("multilabel")
    (('number', 'numbers'), ('class', 'classes'))
    """
    return ("number", "numbers") if task == "regression" else ("class", "classes")


def score_label(name: str) -> str:
    """A score's name as prose: "auroc_macro" is "AUROC macro".

    >>> score_label("f1_macro"), score_label("average_precision")
    ('F1 macro', 'average precision')
    """
    return " ".join(
        {"auroc": "AUROC", "f1": "F1", "pearson": "Pearson", "r2": "R²", "rmse": "RMSE"}.get(word, word)
        for word in name.split("_")
    )


def is_share(name: str) -> bool:
    """Whether a score is a share of the clips, and is read in percent."""
    return name.startswith("accuracy")


def score_number(name: str, value: float) -> str:
    """A score as it is read, a share in percent.

    >>> score_number("accuracy", 0.9136), score_number("f1_macro", 0.9136)
    ('91.4', '0.914')
    """
    return f"{100 * value:.1f}" if is_share(name) else f"{value:.3f}"

"""What is said to the user, on one line: which value was meant, and names that a terminal must not obey."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def one_of(name: str, value: object, choices: Iterable[object]) -> None:
    """Refuse a value that is not among the choices, and say which of them is nearest to it.

    >>> one_of("subset", "smal", ("small", "medium"))
    Traceback (most recent call last):
    ValueError: subset must be one of small, medium, got 'smal'; did you mean 'small'?
    """
    choices = list(choices)
    if value in choices:
        return
    by_name = {str(choice).lower(): choice for choice in choices}
    near = difflib.get_close_matches(str(value).lower(), by_name, n=1)
    meant = f"; did you mean {by_name[near[0]]!r}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}{meant}")


def printable(text: str) -> str:
    r"""The text on one line, without anything that drives a terminal or that it cannot show: that stands as its escape.

    Names of files hold whatever bytes somebody gave them.

    >>> print(printable("a\n\x1b[31m.wav"), printable("音 \udce9.wav"))
    a\n\x1b[31m.wav 音 \udce9.wav
    """
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)

"""Tables that a user has written: whatever is wrong with one, a line says what to do about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.tables import read_own_csv


def own(folder: Path, content: str | bytes, *, name: str = "clips.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("clips.csv", 'path,label,note\na.wav,007,"x, y"\nb.wav,NA,\n'),
        ("clips.csv", b'\xef\xbb\xbfpath,label,note\r\na.wav,007,"x, y"\r\nb.wav,NA,\r\n'),  # as Excel saves it
        ("clips.TSV", "path\tlabel\tnote\na.wav\t007\tx, y\nb.wav\tNA\t\n"),
    ],
)
def test_all_of_it_is_text(name: str, content: str | bytes, tmp_path: Path) -> None:
    written = read_own_csv(own(tmp_path, content, name=name), ("path", "label"))
    assert written.to_dict("list") == {"path": ["a.wav", "b.wav"], "label": ["007", "NA"], "note": ["x, y", ""]}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is empty: its first line must name the columns path, label"),
        (
            "a.wav,dog\nb.wav,cat\n",
            "has no column 'path', only a.wav, dog: its first line must name the columns path, l",
        ),
        ("path,class\na.wav,dog\n", "has no column 'label', only path, class: its first line must name the columns"),
        (
            "path;label\na.wav;dog\n",
            "has no column 'path', only path;label: separate the columns by commas in place of ';'",
        ),
        ("path\tlabel\na.wav\tdog\n", r"separate the columns by commas in place of '\\t'"),
        (
            "path,label\na.wav,dog\nb.wav,cat,loud\n",
            "Expected 2 fields in line 3, saw 3.*: give each row as many fields as",
        ),
        (
            "path,label\na.wav,dog,loud\nb.wav,cat,soft\n",
            "has rows with more fields than its header: name every column",
        ),
        ('path,label\n"a.wav,dog\n', "cannot be read as a table .* put a field that holds one in double quotes"),
        ("path,label\nÄ.wav,dog\n".encode("latin-1"), r"is not in UTF-8 \(.*0xc4 .*\): save it again in UTF-8"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(content: str | bytes, says: str, tmp_path: Path) -> None:
    """It said "unpack it again" of a table that nobody has packed, or read files' names as names of rows."""
    with pytest.raises(ValueError, match=says) as caught:
        read_own_csv(own(tmp_path, content), ("path", "label"))
    assert str(caught.value).startswith(str(tmp_path / "clips.csv"))
    assert "\n" not in str(caught.value)
    assert "unpack" not in str(caught.value)


def test_commas_where_tabs_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="separate the columns by tabs in place of ','"):
        read_own_csv(own(tmp_path, "path,label\na.wav,dog\n", name="clips.tsv"), ("path", "label"))

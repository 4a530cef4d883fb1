"""Which files are taken, and what is said where there are none."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from datamodules.sources import SUFFIXES, find_sources


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_folder_is_searched_with_all_below_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(*(tmp_path / name for name in ("b/two.MP3", "b/c/x.ogg", "a.wav", "notes.txt", "b/cover.jpg", "b/LICENSE")))
    touch(tmp_path / ".hidden.wav", tmp_path / ".cache" / "z.wav")
    with caplog.at_level(logging.INFO):
        found = find_sources(tmp_path)
    assert [source.clip_id for source in found] == ["a.wav", "b/c/x.ogg", "b/two.MP3"]
    assert all(source.path == tmp_path / source.clip_id for source in found)
    assert len(caplog.records) == 1
    assert "3 files that are not audio by their suffix are passed over" in caplog.text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_taken(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path / f"clip{suffix}")
    assert [source.clip_id for source in find_sources(tmp_path)] == [f"clip{suffix}"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path / "set" / "a.wav")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set", target_is_directory=True)
    assert [source.clip_id for source in find_sources(tmp_path / "set")] == ["a.wav"]


def test_table_lists_files_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("\ufefflabel,path\nx,b/two.mp3\ny,./gone.wav\n", encoding="utf-8")
    found = find_sources(tmp_path / "clips.csv")
    assert [source.clip_id for source in found] == ["b/two.mp3", "gone.wav"]
    assert found[1].path == tmp_path / "gone.wav"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,label\na.wav,x\n", "must have a column path, it has file, label"),
        ("", "must have a column path, it is empty"),
        ("path\n", "lists no file"),
        ("path,label\n,x\n", "has no path in row 1"),
        ("path\na.wav\nb.wav\n./a.wav\n", "must list every file once, got 'a.wav' 2 times"),
    ],
)
def test_table_that_cannot_be_used_says_why(tmp_path: Path, table: str, message: str) -> None:
    (tmp_path / "clips.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        find_sources(tmp_path / "clips.csv")


def test_sources_that_are_none_say_why(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        find_sources(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"holds no audio file: looked below it for \.mp3 .*, found no files at all"):
        find_sources(tmp_path)
    touch(tmp_path / "a.txt", tmp_path / "b.mp3x")
    with pytest.raises(ValueError, match=r"found 1 \.mp3x, 1 \.txt|found 1 \.txt, 1 \.mp3x"):
        find_sources(tmp_path)
    with pytest.raises(ValueError, match=r"a table named \.csv or \.tsv, got the file"):
        find_sources(tmp_path / "a.txt")

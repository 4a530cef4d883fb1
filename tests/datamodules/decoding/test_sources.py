"""Which files are taken, and what is said where there are none."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from datamodules.decoding.sources import SUFFIXES, Source, as_clip_ids, find_sources


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
    assert "5 that are no audio by their name are passed over (2 hidden, 1 " in caplog.text
    for counted in ("1 .txt", "1 .jpg", "1 no suffix"):
        assert counted in caplog.text


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_suffix_is_taken(tmp_path: Path, suffix: str) -> None:
    touch(tmp_path / f"clip{suffix}")
    assert [source.clip_id for source in find_sources(tmp_path)] == [f"clip{suffix}"]


def test_links_to_folders_are_followed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(tmp_path / "set" / "a.wav")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set", target_is_directory=True)
    with caplog.at_level(logging.INFO):
        assert [source.clip_id for source in find_sources(tmp_path / "set")] == ["a.wav"]
    assert "1 links to folders already searched" in caplog.text


def test_folder_named_like_a_file_is_searched(tmp_path: Path) -> None:
    touch(tmp_path / "x.wav" / "a.wav")
    assert [source.clip_id for source in find_sources(tmp_path)] == ["x.wav/a.wav"]


@pytest.mark.parametrize("name", ["new\nline.wav", "tab\there.wav", "ÄÖ ☂.wav", "x" * 251 + ".wav", "latin \udce9.wav"])
def test_odd_names_stay_as_they_are(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "a" / name)
    assert find_sources(tmp_path) == [Source(f"a/{name}", tmp_path / "a" / name)]


def test_links_to_nothing_and_to_themselves_stay_in_the_list(tmp_path: Path) -> None:
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    assert [source.clip_id for source in find_sources(tmp_path)] == ["gone.wav", "loop.wav"]


def test_folder_that_cannot_be_searched_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.walk` leaves it out without a word."""
    touch(tmp_path / "a" / "x.wav", tmp_path / "b" / "y.wav")
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if str(path).endswith("b"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        ValueError, match=r"folders that cannot be searched: .*/b \(Permission denied\); make them read"
    ):
        find_sources(tmp_path)


def test_folder_without_permission_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    touch(tmp_path / "a.wav", tmp_path / "b" / "y.wav")
    (tmp_path / "b").chmod(0)
    with pytest.raises(ValueError, match=r"cannot be searched: .*/b \(Permission denied\)"):
        find_sources(tmp_path)
    (tmp_path / "b").chmod(0o700)


def test_table_lists_files_relative_to_its_folder(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("\ufefflabel,path\nx,b/two.mp3\ny,./gone.wav\n", encoding="utf-8")
    found = find_sources(tmp_path / "clips.csv")
    assert [source.clip_id for source in found] == ["b/two.mp3", "gone.wav"]
    assert found[1].path == tmp_path / "gone.wav"


@pytest.mark.parametrize("blank", [" ", "\xa0", "\u3000", "\x0b"])
def test_blank_of_any_kind_is_no_part_of_a_path(blank: str) -> None:
    assert as_clip_ids([f"{blank}a b.wav{blank}"]) == ["a b.wav"]


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


def test_table_in_another_encoding_says_so(tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_bytes("path\nÄ.wav\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"clips\.csv must be a CSV table in UTF-8 \(.*0xc4.*\): save it again"):
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

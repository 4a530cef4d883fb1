"""A release brought to a folder: from its publisher or a mirror, in one go or in many, by one process or several."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import datamodules
from datamodules.fetching import archives
from datamodules.fetching import fetch as module
from datamodules.fetching.fetch import describe, fetch
from datamodules.releases import Archive, Release
from tests.datamodules.fetching.sites import Site
from tests.datamodules.fetching.test_archives import FILES, content, write_tar, write_zip

TABLE = b"path,label\n"
RANDOM = np.random.default_rng(1)


def release_of(*archives: Archive) -> Release:
    return Release("Sounds", "CC0", "Nobody 2020", "https://example.org", archives, how="Write to its author.")


def sum_of(data: bytes) -> str:
    return f"md5:{hashlib.md5(data).hexdigest()}"


@pytest.fixture
def release(site: Site, tmp_path: Path) -> Release:
    """A zip, a tar in a folder of its own, and a table, as a site serves them."""
    write_zip(tmp_path / "clips.zip", FILES)
    write_tar(tmp_path / "more.tar.gz", {"c.wav": b"c", "__MACOSX/c.wav": b""}, "w:gz")
    (tmp_path / "labels.csv").write_bytes(TABLE)
    archives = []
    for name, folder in (("clips.zip", "."), ("more.tar.gz", "more"), ("labels.csv", "meta")):
        data = (tmp_path / name).read_bytes()
        site.files[f"/{name}"] = data
        archives.append(Archive(f"{site.address}/{name}?download=1", sum_of(data), len(data), folder))
        site.redirects[f"/{name}?download=1"] = f"/{name}"
    return release_of(*archives)


WHOLE = {**FILES, "more/c.wav": b"c", "meta/labels.csv": TABLE}
MARKS = {".fetch/clips.zip.json", ".fetch/more/more.tar.gz.json", ".fetch/meta/labels.csv.json"}


def check(root: Path, *, marks: set[str] = MARKS) -> None:
    found = content(root)
    assert {name for name in found if name.startswith(".fetch")} == marks
    assert {name: data for name, data in found.items() if not name.startswith(".fetch")} == WHOLE


def test_release_is_downloaded_once(site: Site, release: Release, tmp_path: Path) -> None:
    root = tmp_path / "new" / "root"
    assert fetch(release, root) == ["clips.zip", "more.tar.gz", "labels.csv"]
    check(root)
    site.seen.clear()
    assert fetch(release, root) == []
    assert site.seen == []
    check(root)


def test_it_says_what_it_is_first(release: Release, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        fetch(release, tmp_path / "root")
    lines = [record.getMessage() for record in caplog.records if record.name == module.__name__]
    assert lines[:4] == ["Sounds", "licence   CC0", "cite      Nobody 2020", "see       https://example.org"]
    assert lines[4].startswith("in all    3 files: ")
    assert "more.tar.gz: 1 members that macOS has added are passed over" in lines
    assert lines[-1] == f"labels.csv: 1 files are in {tmp_path / 'root' / 'meta'}"


def test_description_gives_sizes_and_what_is_there(release: Release, tmp_path: Path) -> None:
    fetch(release_of(release.archives[2]), tmp_path / "root")
    unknown = Archive("https://example.org/x.zip", None)
    lines = describe(release_of(*release.archives, unknown), tmp_path / "root")
    assert lines[6:8] == ["file      meta/labels.csv, 11 bytes, there already", "file      x.zip, size not published"]
    assert lines[8].startswith("in all    4 files: ")
    assert lines[8].endswith(" kB, 1 of a size that is not published")


def test_mirror_folder_is_read_in_place(site: Site, release: Release, tmp_path: Path) -> None:
    before = {name: (tmp_path / name).stat() for name in ("clips.zip", "more.tar.gz", "labels.csv")}
    fetch(release, tmp_path / "root", mirror=str(tmp_path))
    check(tmp_path / "root")
    assert {name: (tmp_path / name).stat() for name in before} == before
    assert site.seen == []


def test_mirror_address_serves_them_by_their_names(site: Site, release: Release, tmp_path: Path) -> None:
    site.files = {f"/mirror{path}": data for path, data in site.files.items()}
    fetch(release, tmp_path / "root", mirror=f"{site.address}/mirror/")
    check(tmp_path / "root")
    assert {path for path, _ in site.seen} == {"/mirror/clips.zip", "/mirror/more.tar.gz", "/mirror/labels.csv"}


@pytest.mark.parametrize("mirrored", ["publisher", "folder", "address"])
def test_files_of_one_name_are_kept_apart_by_their_folders(site: Site, tmp_path: Path, mirrored: str) -> None:
    splits = [Archive(f"{site.address}/{i}/split.csv", sum_of(b"%d" % i), 1, f"split-{i}") for i in (0, 1)]
    for i in (0, 1):
        site.files[f"/{i}/split.csv"] = site.files[f"/m/split-{i}/split.csv"] = b"%d" % i
        (tmp_path / "m" / f"split-{i}").mkdir(parents=True)
        (tmp_path / "m" / f"split-{i}" / "split.csv").write_bytes(b"%d" % i)
    mirror = {"publisher": None, "folder": str(tmp_path / "m"), "address": f"{site.address}/m"}[mirrored]
    fetch(release_of(*splits), tmp_path / "root", mirror=mirror)
    assert (tmp_path / "root/split-0/split.csv").read_bytes() == b"0"
    assert (tmp_path / "root/split-1/split.csv").read_bytes() == b"1"
    assert fetch(release_of(*splits), tmp_path / "root") == []


def test_wrong_file_in_a_mirror_folder_is_named_and_kept(release: Release, tmp_path: Path) -> None:
    data = (tmp_path / "clips.zip").read_bytes()
    for wrong, match in (
        (data[:-1], f"it must have {len(data)} bytes, it has {len(data) - 1}: put a whole one there"),
        (data[:-1] + b"!", "its checksum must be md5:[0-9a-f]+, got [0-9a-f]+: put a whole one there"),
    ):
        (tmp_path / "clips.zip").write_bytes(wrong)
        with pytest.raises(ValueError, match=rf"clips\.zip is not the file that was published: {match}") as caught:
            fetch(release, tmp_path / "root", mirror=str(tmp_path))
        assert "\n" not in str(caught.value)
        assert (tmp_path / "clips.zip").read_bytes() == wrong
    (tmp_path / "clips.zip").unlink()
    with pytest.raises(ValueError, match=r"mirror has no file '.*clips\.zip': it must hold the 3 of Sounds by their"):
        fetch(release, tmp_path / "root", mirror=str(tmp_path))


def test_archive_without_a_checksum_gets_one(
    site: Site, release: Release, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sha256 = hashlib.sha256(TABLE).hexdigest()
    with caplog.at_level(logging.INFO):
        fetch(release_of(Archive(f"{site.address}/labels.csv", None)), tmp_path / "root")
    assert f"labels.csv: its publisher gives no checksum; it has sha256:{sha256}" in caplog.text
    mark = json.loads((tmp_path / "root/.fetch/labels.csv.json").read_text())
    assert mark["computed"] == {"labels.csv": f"sha256:{sha256}"}
    assert fetch(release_of(Archive(f"{site.address}/labels.csv", None)), tmp_path / "root") == []


def test_lost_and_cut_files_are_fetched_again(
    site: Site, release: Release, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "root"
    fetch(release, root)
    (root / "set/meta.csv").unlink()
    kept = (root / "set/audio/b.wav").stat().st_ino
    with caplog.at_level(logging.INFO):
        assert fetch(release, root) == ["clips.zip"]
    assert "clips.zip: 1 of its 5 files are gone or changed, such as 'set/meta.csv'" in caplog.text
    assert (root / "set/audio/b.wav").stat().st_ino == kept
    check(root)


def test_new_version_of_an_archive_is_fetched(site: Site, release: Release, tmp_path: Path) -> None:
    """Of the same name and size: only its checksum tells."""
    fetch(release, tmp_path / "root")
    site.files["/labels.csv"] = TABLE.upper()
    newer = Archive(f"{site.address}/labels.csv", sum_of(TABLE.upper()), len(TABLE), "meta")
    renewed = release_of(*release.archives[:2], newer)
    with pytest.raises(ValueError, match=r"meta holds 1 of the 1 files of labels\.csv with another content"):
        fetch(renewed, tmp_path / "root")
    (tmp_path / "root/meta/labels.csv").unlink()
    assert fetch(renewed, tmp_path / "root") == ["labels.csv"]
    assert (tmp_path / "root/meta/labels.csv").read_bytes() == TABLE.upper()


@pytest.mark.parametrize(("lost", "n_requests"), [("clips.zip", 0), ("clips.zip.files", 0), ("both", 2)])
def test_files_that_were_there_are_never_replaced(
    site: Site, release: Release, tmp_path: Path, lost: str, n_requests: int
) -> None:
    """Refused with all unpacked: of the archive and what is unpacked of it, either is enough to go on."""
    root = tmp_path / "root"
    (root / "set/audio").mkdir(parents=True)
    (root / "set/audio/a.wav").write_bytes(b"my own")
    (root / "set/audio/b.wav").write_bytes(FILES["set/audio/b.wav"])  # unpacked by hand, and whole
    match = r"root holds 1 of the 5 files of clips\.zip with another content, such as 'set/audio/a\.wav': remove or"
    with pytest.raises(ValueError, match=match):
        fetch(release, root)
    assert {name for name in content(root) if not name.startswith(".fetch")} == {"set/audio/a.wav", "set/audio/b.wav"}
    (root / "set/audio/a.wav").unlink()
    if lost != "clips.zip.files":
        (root / ".fetch/clips.zip").unlink()
    if lost != "clips.zip":
        shutil.rmtree(root / ".fetch/clips.zip.files")
    site.seen.clear()
    fetch(release, root)
    check(root)
    assert sum("clips.zip" in path for path, _ in site.seen) == n_requests  # one is redirected


def test_parts_of_an_archive_are_joined(site: Site, tmp_path: Path) -> None:
    data = write_zip(tmp_path / "mp3.zip", FILES).read_bytes()
    parts = [data[:1000], data[1000:200_000], data[200_000:]]
    for i, part in enumerate(parts, start=1):
        site.files[f"/mp3.zip.{i:03d}"] = part
    parted = [Archive(f"{site.address}{path}", None, len(part), "mp3") for path, part in site.files.items()]
    assert fetch(release_of(*parted), tmp_path / "root") == ["mp3.zip"]
    assert content(tmp_path / "root/mp3") == FILES
    assert list(content(tmp_path / "root" / ".fetch")) == ["mp3/mp3.zip.json"]


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_refused_archive_leaves_nothing_in_place(site: Site, tmp_path: Path, suffix: str) -> None:
    files = {"good.wav": b"good", "../evil": b"evil"}
    path = tmp_path / f"a{suffix}"
    write_zip(path, files) if suffix == ".zip" else write_tar(path, files, "w:gz")
    site.files[f"/a{suffix}"] = path.read_bytes()
    with pytest.raises(ValueError, match=r"holds '\.\./evil', which leads out"):
        fetch(release_of(Archive(f"{site.address}/a{suffix}", None)), tmp_path / "root")
    assert set(content(tmp_path / "root")) == {f".fetch/a{suffix}"}


@pytest.mark.parametrize("name", [".fetch/clips.zip.json", ".FETCH/x"])
def test_archive_that_would_touch_the_marks_is_refused(site: Site, tmp_path: Path, name: str) -> None:
    site.files["/a.zip"] = write_zip(tmp_path / "a.zip", {name: b"evil"}).read_bytes()
    with pytest.raises(ValueError, match=r"holds a folder '\.fetch', where this program keeps its own"):
        fetch(release_of(Archive(f"{site.address}/a.zip", None)), tmp_path / "root")
    assert set(content(tmp_path / "root")) == {".fetch/a.zip"}


def test_what_cannot_be_downloaded_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^Sounds cannot be downloaded here: Write to its author\. \(https://"):
        fetch(release_of(), tmp_path / "root")
    with pytest.raises(ValueError, match=r"^clips\.7z is not of a kind that is unpacked here"):
        fetch(release_of(Archive("https://example.org/clips.7z", None)), tmp_path / "root")
    assert not (tmp_path / "root").exists()


def test_root_that_is_a_file_is_named(release: Release, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"root must be a folder to download to, got the file .*labels\.csv"):
        fetch(release, tmp_path / "labels.csv")


def test_room_is_asked_for_before_anything_is_downloaded(
    site: Site, release: Release, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the largest download and all that is unpacked; what is there already counts."""
    sizes = [archive.n_bytes or 0 for archive in release.archives]
    needed, free, usage = sum(sizes) + max(sizes), 0, shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=free))
    free = needed - 1
    with pytest.raises(OSError, match=r"root needs [0-9.e-]+ GB of free disk and has"):
        fetch(release, tmp_path / "root")
    assert site.seen == []
    part = tmp_path / "root/.fetch/clips.zip.part"
    part.write_bytes(site.files["/clips.zip"][:1000])
    free = needed - 1000
    fetch(release, tmp_path / "root")
    check(tmp_path / "root")


def test_folder_that_is_a_link_to_another_disk(release: Release, tmp_path: Path) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second disk on this machine")
    elsewhere = shared / f"fetch-{os.getpid()}"
    elsewhere.mkdir()
    try:
        (tmp_path / "root").mkdir()
        (tmp_path / "root" / "more").symlink_to(elsewhere)
        fetch(release, tmp_path / "root")
        assert content(elsewhere) == {"c.wav": b"c"}
        assert fetch(release, tmp_path / "root") == []
    finally:
        shutil.rmtree(elsewhere)


# --- processes ---

RUN = """
import sys
from pathlib import Path
from datamodules.fetching.fetch import fetch
from datamodules.releases import Archive, Release
url, checksum, root = sys.argv[1:]
print(fetch(Release("Sounds", "", "", "", (Archive(url, checksum),)), Path(root)))
"""


def start(url: str, checksum: str, root: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RUN, url, checksum, str(root)]
    here = Path(datamodules.__file__).parents[1]
    return subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_when(process: subprocess.Popen[str], reached: object) -> None:
    """Kill it as soon as something is so."""
    assert callable(reached)
    deadline = time.monotonic() + 60
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it could be killed"


def finish(process: subprocess.Popen[str]) -> str:
    printed, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    return printed.strip()


@pytest.fixture
def many(site: Site, tmp_path: Path) -> tuple[str, str, dict[str, bytes]]:
    """(address, checksum, files) of a zip that takes some time."""
    files = {f"{i % 7}/{i}.wav": RANDOM.bytes(20_000) for i in range(300)}
    data = write_zip(tmp_path / "many.zip", files).read_bytes()
    site.files["/many.zip"] = data
    return f"{site.address}/many.zip", sum_of(data), files


def test_killed_while_downloading_it_goes_on(
    site: Site, many: tuple[str, str, dict[str, bytes]], tmp_path: Path
) -> None:
    url, checksum, files = many
    root, part = tmp_path / "root", tmp_path / "root/.fetch/many.zip.part"
    site.bytes_per_second = 4_000_000
    kill_when(start(url, checksum, root), lambda: part.is_file() and part.stat().st_size >= 2_000_000)
    site.bytes_per_second = 0
    assert finish(start(url, checksum, root)) == "['many.zip']"
    starts = [int(asked[6:-1]) if asked else 0 for _, asked in site.seen]
    assert len(starts) == 2
    assert starts[0] == 0
    assert starts[1] >= 2_000_000
    assert {name: data for name, data in content(root).items() if not name.startswith(".fetch")} == files


def test_killed_while_unpacking_and_moving_it_goes_on(
    site: Site, many: tuple[str, str, dict[str, bytes]], tmp_path: Path
) -> None:
    url, checksum, files = many
    root = tmp_path / "root"
    staging = root / ".fetch/many.zip.files"
    for n_files in (1, 200):
        kill_when(start(url, checksum, root), lambda n=n_files: len(list(staging.rglob("*.wav"))) >= n)
        assert not (root / ".fetch/many.zip.json").exists()
    kill_when(start(url, checksum, root), lambda: (root / ".fetch/many.zip.unpacked.json").exists())
    assert finish(start(url, checksum, root)) == "['many.zip']"
    assert len(site.seen) == 1
    assert {name: data for name, data in content(root).items() if not name.startswith(".fetch")} == files
    assert list(content(root / ".fetch")) == ["many.zip.json"]


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(site: Site, many: tuple[str, str, dict[str, bytes]], tmp_path: Path) -> None:
    """Thirty times, anywhere between its first byte and its mark."""
    url, checksum, files = many
    root, chance = tmp_path / "root", random.Random(0)
    site.bytes_per_second = 20_000_000
    for _ in range(30):
        process = start(url, checksum, root)
        while not (root / ".fetch").exists() and process.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 1.5))
        process.kill()
        process.wait()
        if (root / ".fetch/many.zip.json").exists():
            assert {name: data for name, data in content(root).items() if not name.startswith(".fetch")} == files
            shutil.rmtree(root)
    finish(start(url, checksum, root))
    assert {name: data for name, data in content(root).items() if not name.startswith(".fetch")} == files


def test_two_processes_do_it_once(site: Site, many: tuple[str, str, dict[str, bytes]], tmp_path: Path) -> None:
    url, checksum, files = many
    site.bytes_per_second = 6_000_000
    both = [start(url, checksum, tmp_path / "root") for _ in range(2)]
    assert sorted(map(finish, both)) == ["['many.zip']", "[]"]
    assert len(site.seen) == 1
    assert {name: data for name, data in content(tmp_path / "root").items() if not name.startswith(".fetch")} == files


# --- the releases of the data sets ---


@pytest.mark.parametrize("name", datamodules.__all__)
def test_every_release_is_one_that_can_be_fetched(name: str, tmp_path: Path) -> None:
    for release in getattr(datamodules, name).releases.values():
        if release.archives:
            lines = describe(release, tmp_path)
            assert len(lines) == 5 + len(release.archives)
        for archive in release.archives:
            assert archive.file_name
            assert "/" not in archive.file_name
            assert not Path(archive.folder).is_absolute()
            assert ".." not in Path(archive.folder).parts
            algorithm, _, digest = (archive.checksum or "md5:" + "0" * 32).partition(":")
            assert len(digest) == hashlib.new(algorithm).digest_size * 2
            int(digest, 16)

"""The benchmark of front-ends runs, measures every installed peer, and its errors are those of float32."""

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import bench_frontends as tool
import lengths
import measuring

timing = pytest.importorskip("frontend_timing", reason="librosa is not installed: pip install audiocls[bench]")
peers = pytest.importorskip("frontend_peers")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def small_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(timing.device_clock.COPIED_BYTES, "cpu", 1 << 22)


def run(tmp_path: Path, *options: str) -> list[measuring.Row]:
    path = tmp_path / "bench.csv"
    assert tool.main(["--batch_size=2", "--seconds=0.5", "--turns=2", "--threads=1", f"--csv={path}", *options]) == 0
    return measuring.read_csv(path)


def test_table_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[:2])
    rows = run(tmp_path, "--what", "mel")
    printed = capsys.readouterr().out
    ours = [row for row in rows if row["implementation"] == "audiocls"]
    expected = [f"mel, {setting}, 2 x 0.5 s, 1 thread" for setting in timing.SETTINGS]
    assert [row["setting"] for row in ours] == expected
    assert {row["implementation"] for row in rows} >= {"audiocls", "librosa", timing.MEMORY_BOUND}
    assert "audiocls, fft path" not in printed  # the same on a processor
    assert all(row["setting"] in printed and row["implementation"] in printed for row in rows)
    assert all("torch" in row["environment"] and "commit" in row["environment"] for row in rows)
    for row in ours:
        assert row["speed_to_ours"] == 1.0
    measured = [row for row in rows if row["implementation"] != timing.MEMORY_BOUND]
    assert all(row["max_error"] <= 0.01 for row in measured)  # of every peer: all are given the same samples
    assert all(row["max_error"] == 0 for row in rows if row["implementation"] == "librosa")
    for row in rows:
        assert row["us_per_audio_second"] == pytest.approx(1e3 * float(row["median"]) / (2 * 0.5))


def test_the_ratio_that_counts_stands_in_rows_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchaudio")
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[:2])
    rows = run(tmp_path, "--what", "mel")
    theirs = {row["setting"]: row["median"] for row in rows if row["implementation"] == "torchaudio"}
    for row in rows:
        if str(row["implementation"]).startswith("audiocls"):
            assert row["of_torchaudio_time"] == pytest.approx(float(row["median"]) / float(theirs[row["setting"]]))
        else:
            assert "of_torchaudio_time" not in row


def test_the_memory_bound_is_of_int16_in_and_float32_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTINGS", [timing.Setting(16000, 512, 160, 80)])
    # A copy of a byte is given 1 and 3 ns in the two turns.
    monkeypatch.setattr(timing.device_clock, "copying", lambda device, *, turns: [1e-9, 3e-9][:turns])
    rows = {row["implementation"]: row for row in run(tmp_path, "--what", "mel")}
    bound_ms = 2e-6 * (2 * 2 * 8000 + 4 * 2 * 80 * 51)
    assert rows[timing.MEMORY_BOUND]["median"] == pytest.approx(bound_ms)
    assert "read and write 0.5 GB/s" in str(rows["audiocls"]["environment"])
    for row in rows.values():
        assert row["share_of_memory_bound"] == pytest.approx(bound_ms / float(row["median"]))
        assert "speed_to_limit" not in row


@pytest.mark.parametrize("what", [what for what in tool.FRONT_ENDS if what != "mel"])
def test_every_front_end_runs_beside_its_peers(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[1:2])
    rows = run(tmp_path, "--what", what, "--seconds=2")  # longer than the longest filter
    assert {"audiocls"} < {row["implementation"] for row in rows}
    assert all(row["median"] > 0 for row in rows)
    if what in ("mfcc", "pcen"):  # librosa's constant-Q transform goes through several rates and is not so near
        assert all(row["max_error"] <= 0.01 for row in rows if row["implementation"] == "audiocls")
    if "backward" in what:
        assert "audiocls, learnt filterbank and PCEN" in {row["implementation"] for row in rows}
        assert not any("share_of_memory_bound" in row for row in rows)  # backward has another bound


def test_backward_reaches_what_is_learnt() -> None:
    waveform = timing.clips(timing.SETTINGS[0], 2, 0.5)
    made = timing.build(timing.PEERS["mel, learnt, forward and backward"], timing.SETTINGS[0], "cpu")
    for name, part in made.items():
        timing.step(part, waveform, backward=True)
        learnt = dict(part.named_parameters())
        assert learnt, name
        assert all(parameter.grad.abs().sum() > 0 for parameter in learnt.values()), name
    assert len(list(made["audiocls, learnt filterbank and PCEN"].parameters())) == 5  # the matrix and gain control's


@pytest.mark.parametrize("what", tool.FRONT_ENDS)
def test_peers_take_the_samples_of_ours(what: str) -> None:
    setting = timing.settings(what)[0]
    waveform = timing.clips(setting, 2, 1.0)
    assert waveform.dtype == torch.int16
    assert waveform[1].max() > 0.8 * 2**15  # a sweep beside the noise
    for name, part in timing.build(timing.PEERS[what], setting, "cpu").items():
        with torch.no_grad():
            assert torch.equal(part(waveform), part(waveform.to(torch.float32) / 2**15)), name


class Squares(torch.nn.Module):
    """In the place of a transform of nnAudio's: (batch, time) to (batch, freq, frames)."""

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def forward(self, clips: Tensor) -> Tensor:
        return clips.square().unflatten(-1, (-1, 10))


@pytest.mark.parametrize("build", [peers.nnaudio_mel, partial(peers.nnaudio_cqt, kind="CQT1992v2")])
def test_decibels_beside_nnaudio_have_a_floor_of_each_clip(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU it was that of the loudest clip of the batch, and counted as an error of nnAudio's."""
    monkeypatch.setattr("audiocls.frontends.compression._fits_lanes", lambda *_: False)  # as on a GPU
    for part in ("mel", "cqt"):
        stand_in = SimpleNamespace(MelSpectrogram=Squares, CQT1992v2=Squares)
        monkeypatch.setitem(sys.modules, f"nnAudio.features.{part}", stand_in)
    waveform = torch.randn(2, 1, 800) * torch.tensor([1.0, 1e-4]).view(2, 1, 1)
    made = build(timing.SETTINGS[0], "cpu")
    assert torch.equal(made(waveform)[1:], made(waveform[1:]))


def test_the_fft_path_stands_beside_ours_on_a_gpu_alone() -> None:
    makers = {name: lambda setting, device: device for name in ("audiocls", "audiocls, fft path")}
    assert list(timing.build(makers, timing.SETTINGS[0], "cuda:1")) == ["audiocls", "audiocls, fft path"]
    assert list(timing.build(makers, timing.SETTINGS[0], "cpu")) == ["audiocls"]
    named = [what for what, peers in timing.PEERS.items() if "audiocls, fft path" in peers]
    assert named == [what for what in tool.FRONT_ENDS if what != "cqt"]
    path = timing.PEERS["mel"]["audiocls, fft path"](timing.SETTINGS[0], "cpu").spectrum.path
    assert path == "fft"


def test_memory_is_measured_above_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[:1])
    rows = run(tmp_path, "--what", "mel", "--memory", "--seconds=20")
    assert {(row["quantity"], row["unit"]) for row in rows} == {("peak memory", "MB")}
    least = 2 * 2 * 320_000 + 4 * 2 * 80 * 2001
    for row in rows:
        given = (4 if row["implementation"] == "torchaudio, given float" else 2) * 2 * 320_000
        assert row["of_input_and_output"] == pytest.approx((given + 1e6 * float(row["median"])) / least)
        assert ("of_torchaudio_peak_memory" in row) == str(row["implementation"]).startswith("audiocls")


def test_lengths_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[:1])
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    rows = run(tmp_path, "--what", "mel", "--seconds", "0.25", "0.5", "--batch_size=1", f"--chart={first}")
    second = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert second[0] == "| setting | implementation, µs for a second of audio | 0.25 s | 0.5 s |"
    ours = [measuring.number(row["us_per_audio_second"]) for row in rows if row["implementation"] == "audiocls"]
    assert second[2] == f"| mel, {timing.SETTINGS[0]}, 1 x any length, 1 thread | audiocls | {ours[0]} | {ours[1]} |"
    assert lengths.main([str(tmp_path / "bench.csv"), "--chart", str(again)]) == 0
    assert first.read_bytes().startswith(PNG)
    assert first.read_bytes() == again.read_bytes()  # from the CSV alone


def test_one_length_is_no_chart_of_lengths(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[:1])
    run(tmp_path, "--what", "mel", "--batch_size", "1", "2", "--seconds", "0.5", "0.25")
    assert "any length" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        lengths.main([str(tmp_path / "bench.csv"), f"--chart={tmp_path / 'x.png'}"])
    assert "bench.csv must have a batch at several lengths: give bench_frontends" in capsys.readouterr().err


def test_lines_of_lengths_are_level_and_logarithmic() -> None:
    from length_chart import length_chart

    rows: list[measuring.Row] = []
    for seconds in (1.0, 10.0, 600.0):
        values = {"limit: memory": [1.0, 1.0], "audiocls": [5.0 * seconds] * 2, "other": [9.0 * seconds] * 2}
        setting = f"mel, 1 x {seconds:g} s"
        made = measuring.summarise(values, setting=setting, quantity="time", unit="ms", better="lower")
        extra = {"benchmark": "Front-ends", "seconds": seconds}
        rows += [row | extra | {"us_per_audio_second": float(row["median"]) / seconds} for row in made]
    figure = length_chart(rows)
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.get_title(loc="left") == "mel, 1 x any length"
    lines = {line.get_label(): line for line in axes.lines}
    assert lines["audiocls"].get_xdata().tolist() == [1, 10, 600]
    assert lines["audiocls"].get_ydata().tolist() == [5, 5, 5]
    assert lines["limit: memory"].get_linestyle() == "--"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "10", "600"]


@pytest.mark.parametrize(
    ("batch_sizes", "seconds", "device", "expected"),
    [
        (None, None, "cpu", [(16, 4.0)]),
        (None, None, "cuda", [(64, 10.0), (1, 3.0)]),
        ([256], None, "cuda:1", [(256, 10.0)]),
        (None, [1.0, 60.0], "cuda", [(64, 1.0), (64, 60.0)]),
        ([1], [1.0, 10.0, 600.0], "cpu", [(1, 1.0), (1, 10.0), (1, 600.0)]),
        ([64, 1], [3.0], "cpu", [(64, 3.0), (1, 3.0)]),
        ([4, 2], [1.0, 9.0], "cpu", [(4, 1.0), (2, 9.0)]),
    ],
)
def test_clips_and_seconds_go_in_pairs(
    batch_sizes: list[int] | None, seconds: list[float] | None, device: str, expected: list[tuple[int, float]]
) -> None:
    assert tool.pairs(batch_sizes, seconds, device) == expected
    assert tool.SIZES == {"cpu": ([16], [4.0]), "cuda": ([64, 1], [10.0, 3.0])}  # and are not grown by asking


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--turns=1", "argument --turns: must be at least 2 to have a spread, got 1"),
        ("--device=gpu", "argument --device: must be cpu, cuda or cuda:N, got gpu"),
        ("--device=cuda:99", "--device must be one that torch sees, got cuda:99 where there are"),
        ("--batch_size 8 0", "argument --batch_size: must be a whole number from 1, got 0"),
        (
            "--batch_size 1 2 --seconds 1 2 3",
            "--batch_size and --seconds must be equally many, or one of them a single",
        ),
        ("--seconds=nan", "argument --seconds: must be a length in seconds above 0, got nan"),
        ("--seconds=a", "argument --seconds: must be a length in seconds above 0, got a"),
        ("--seconds=0.01", "--seconds must be at least 0.032 for mel at 16000 Hz 512/160/80, got 0.01: give longer"),
        ("--what cqt --seconds=0.5", "--seconds must be at least 1 for cqt at 16000 Hz 1024/256/128, got 0.5"),
        ("--threads=-1", "argument --threads: must be a whole number from 1, got -1"),
        ("--threads=1 --device=cuda", "--threads must be left out with --device cuda, got [1]"),
        ("--csv=/no/such/x.csv", "--csv must lie in a folder that exists, got /no/such/x.csv: make /no/such first"),
    ],
)
def test_a_bad_value_is_one_clear_line(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tool.main(options.split())
    assert said in capsys.readouterr().err.splitlines()[-1]


def no_room() -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 99 GiB")


def test_a_peer_without_room_is_named_and_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    runs: dict[str, Callable[[], Tensor]] = {"audiocls": lambda: torch.ones(1), "nnAudio": no_room}
    assert list(timing.first_outputs(runs)) == ["audiocls"]
    assert "nnAudio left out: CUDA out of memory. Tried to allocate 99 GiB" in capsys.readouterr().err


def test_ours_without_room_is_one_clear_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(timing, "step", lambda *_, **__: no_room())
    with pytest.raises(SystemExit):
        tool.main(["--what=mel", "--batch_size=2", "--seconds=0.5"])
    said = "--batch_size and --seconds must fit the memory of cpu, got 2 x 0.5 s: give fewer clips or seconds"
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_every_front_end_that_has_peers_is_on_offer() -> None:
    assert tuple(timing.PEERS) == tool.FRONT_ENDS


def test_help_loads_no_torch_and_says_every_option() -> None:
    command = [sys.executable, "-X", "importtime", str(tool.__file__), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    for option in ("--what", "--device", "--batch_size", "--seconds", "--threads", "--memory", "--turns", "--csv"):
        assert re.search(rf"^  {option} [^-]*\S", done.stdout, re.MULTILINE), option
    assert "argparse" in loaded
    assert not {"torch", "numpy", "librosa", "matplotlib"} & loaded


@pytest.mark.gpu
@pytest.mark.parametrize("what", tool.FRONT_ENDS)
def test_on_a_gpu(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SETTINGS", timing.SETTINGS[1:2])
    path = tmp_path / "bench.csv"
    small = ["--device=cuda", "--batch_size", "2", "1", "--seconds", "2", "1", "--turns=2", f"--csv={path}"]
    for option in ([], ["--memory"]):
        assert tool.main([*small, "--what", what, *option]) == 0
        rows = measuring.read_csv(path)
        said = {str(row["setting"]).rpartition(" s")[2] for row in rows}
        assert said == ({""} if option else {", queued", ", alone"})
        assert all(row["median"] > 0 for row in rows)
        named = {str(row["implementation"]) for row in rows}
        assert "librosa" not in named
        assert "audiocls, fft path" in named or what == "cqt"
        if what == "mel":
            assert all(row["max_error"] <= 0.01 for row in rows if row["implementation"] == "audiocls")
        if not option:
            assert torch.cuda.get_device_name() in str(rows[0]["environment"])

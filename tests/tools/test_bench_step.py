"""The benchmark of training steps: the share is that of the front-end, and every part of a step is in it."""

import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bench_step as tool
import measuring
from audiocls.heads import CNN14, CompactCNN
from measuring import Turn

timing = pytest.importorskip("step_timing", reason="librosa is not installed: pip install audiocls[bench]")
SMALL = {
    "CompactCNN": timing.RECIPES["CompactCNN"]._replace(head=partial(CompactCNN, channels=(4,) * 5)),
    "CNN14": timing.RECIPES["CNN14"]._replace(head=partial(CNN14, channels=(2, 2, 2, 2, 2, 4))),
}


def asked(**options: object) -> Namespace:
    given = {"device": "cpu", "batch_size": 2, "seconds": 0.5, "turns": 3, "precision": "float32"}
    return Namespace(**(given | options))


def test_table_and_csv(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "RECIPES", SMALL)
    csv, chart = tmp_path / "step.csv", tmp_path / "step.png"
    options = ["--batch_size=2", "--seconds=0.5", "--turns=2", f"--csv={csv}", f"--chart={chart}"]
    assert tool.main(options) == 0
    rows, printed = measuring.read_csv(csv), capsys.readouterr().out
    said = f"2 x 0.5 s, float32, {timing.said_threads()}"
    settings = [f"CompactCNN, 16000 Hz 512/160/80, {said}", f"CNN14, 32000 Hz 1024/320/64, {said}"]
    assert list(dict.fromkeys(row["setting"] for row in rows)) == settings
    for setting in settings:
        named = {row["implementation"] for row in rows if row["setting"] == setting}
        assert named >= {"audiocls", "audiocls, learnt filterbank and PCEN", timing.READY}
        assert "audiocls, fft path" not in named  # the same on a processor
    assert all(str(row["implementation"]) in printed and "commit" in str(row["environment"]) for row in rows)
    assert chart.stat().st_size > 1000


def test_nets_and_clips_are_those_that_are_named() -> None:
    assert tuple(timing.RECIPES) == tool.NETS
    small, large = timing.RECIPES.values()
    assert sum(p.numel() for p in small.head(80, 50).parameters()) == 156_960
    assert (small.seconds, large.seconds) == (30.0, 10.0)
    assert large.head is CNN14


def test_the_share_is_of_one_round(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"audiocls": [0.010, 0.022, 0.033], timing.READY: [0.008, 0.020, 0.030]}  # ever slower, all of them

    def in_turns(runs: Mapping[str, object], **_: object) -> dict[str, list[Turn]]:
        assert set(runs) >= set(seconds)
        return {name: [Turn(99.0, 0.0, second) for second in taken] for name, taken in seconds.items()}

    monkeypatch.setattr(timing, "RECIPES", SMALL)
    monkeypatch.setattr(timing.measuring, "in_turns", in_turns)
    ours, ready = timing.measure("CompactCNN", asked())
    assert (ours["median"], ours["front_end_ms"]) == (pytest.approx(22), pytest.approx(2))
    assert ours["share_of_step"] == pytest.approx(2 / 22)
    assert (ready["front_end_ms"], ready["share_of_step"]) == (0, 0)


def test_a_step_trains_the_net_and_what_is_learnt_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[nn.Module] = []

    def keep(make: object, *given: object) -> nn.Module:
        built.append(make(*given))  # pyright: ignore
        return built[-1]

    recipe = SMALL["CompactCNN"]._replace(head=partial(keep, SMALL["CompactCNN"].head))
    front_ends = {name: partial(keep, make) for name, make in timing.FRONT_ENDS.items()}
    monkeypatch.setattr(timing, "FRONT_ENDS", front_ends)
    made = timing.steps(recipe, asked(), batch_size=2, seconds=0.5)
    head, *parts = built
    for name, step in made.items():
        part = step.args[0]
        before = {key: value.clone() for module in built for key, value in named(module).items()}
        step()
        moved = {
            key.split()[0] for module in built for key, value in named(module).items() if not value.equal(before[key])
        }
        learnt = {str(id(part))} if list(part.parameters()) else set()
        assert moved == {str(id(head))} | learnt, name
    assert sum(bool(list(part.parameters())) for part in parts) == 1


def named(module: nn.Module) -> dict[str, Tensor]:
    return {f"{id(module)} {name}": value.detach() for name, value in module.named_parameters()}


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_precision_is_of_the_net_alone(precision: str, dtype: torch.dtype) -> None:
    head, seen = SMALL["CompactCNN"].head(80, 5), []
    head.output.register_forward_hook(lambda _, inputs, output: seen.append(output.dtype))
    head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    waveform = timing.clips(SMALL["CompactCNN"].setting, 2, 0.5)

    def front_end(waveform: Tensor) -> Tensor:
        seen.append(torch.is_autocast_enabled("cpu"))
        return timing.our_mel(SMALL["CompactCNN"].setting, "cpu")(waveform)

    optimizer = torch.optim.AdamW(head.parameters())
    timing.training_step(front_end, head, optimizer, waveform, torch.eye(5)[:2], precision=precision)
    assert seen == [False, torch.float32, dtype]


@pytest.mark.parametrize(("given", "room", "fits"), [(None, 3, 2), (None, 4, 4), (2, 2, 2)])
def test_a_batch_is_halved_until_it_fits(
    given: int | None, room: int, fits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "steps", room_for(room))
    batch_size, made = timing.fitting(SMALL["CNN14"], asked(batch_size=given), seconds=0.5)
    assert batch_size == fits
    assert list(made) == ["small", "large"]


@pytest.mark.parametrize(("given", "room", "said"), [(4, 3, "4"), (None, 0, "1")])
def test_a_batch_that_was_asked_for_is_not_changed(
    given: int | None, room: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "steps", room_for(room))
    with pytest.raises(ValueError, match=f"must fit the memory of cpu, got {said} x 0.5 s: give fewer clips"):
        timing.fitting(SMALL["CNN14"], asked(batch_size=given), seconds=0.5)


def room_for(room: int) -> Callable[..., dict[str, Callable[[], None]]]:
    def step(batch_size: int) -> None:
        if batch_size > room:
            raise torch.OutOfMemoryError("too large")

    return lambda *_, batch_size, seconds: {"small": partial(step, 0), "large": partial(step, batch_size)}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--turns=1", "argument --turns: must be at least 2 to have a spread, got 1"),
        ("--device=tpu", "argument --device: must be cpu, cuda or cuda:N, got tpu"),
        ("--device=cuda:99", "--device must be one that torch sees, got cuda:99 where there are"),
        ("--batch_size=0", "argument --batch_size: must be a whole number from 1, got 0"),
        ("--seconds=0", "argument --seconds: must be a length in seconds above 0, got 0"),
        ("--seconds=0.01", "--seconds must be at least 0.032 for mel at 16000 Hz 512/160/80, got 0.01"),
        ("--net=CNN15", "argument --net: invalid choice: 'CNN15' (choose from"),
        ("--csv=/no/such/x.csv", "--csv must lie in a folder that exists, got /no/such/x.csv: make /no/such first"),
    ],
)
def test_a_bad_value_is_one_clear_line(options: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tool.main(options.split())
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_help_loads_no_torch() -> None:
    command = [sys.executable, "-X", "importtime", str(tool.__file__), "--help"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "--precision" in done.stdout
    assert "argparse" in loaded
    assert not {"torch", "numpy", "librosa"} & loaded


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu(precision: str, tmp_path: Path) -> None:
    path = tmp_path / "step.csv"
    options = ["--device=cuda", "--batch_size=4", "--seconds=1", "--turns=2", f"--precision={precision}"]
    assert tool.main([*options, f"--csv={path}"]) == 0
    rows = measuring.read_csv(path)
    assert {"audiocls", "audiocls, fft path", timing.READY} <= {row["implementation"] for row in rows}
    assert torch.cuda.get_device_name() in str(rows[0]["environment"])

"""What all benchmarks share: statistics against numpy, fair turns, and rows that survive the way to CSV and chart."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

import measuring
from bar_chart import bar_chart

PNG = b"\x89PNG\r\n\x1a\n"


def rows_of(values: dict[str, list[float]], *, better: str = "higher", setting: str = "here") -> list[measuring.Row]:
    rows = measuring.summarise(values, setting=setting, quantity="speed", unit="m/s", better=better)
    return [{"benchmark": "Running"} | row | {"environment": "a track"} for row in rows]


@pytest.mark.parametrize("better", ["lower", "higher"])
@pytest.mark.parametrize("n_turns", [2, 3, 10])
def test_statistics_are_numpy_s(better: str, n_turns: int) -> None:
    generator = np.random.default_rng(n_turns)
    values = {name: generator.uniform(1, 9, n_turns).tolist() for name in ("limit: light", "audiocls", "other")}
    rows = rows_of(values, better=better)
    assert [row["implementation"] for row in rows] == list(values)
    medians = {name: np.median(taken) for name, taken in values.items()}
    for row in rows:
        taken = values[str(row["implementation"])]
        quartiles = [row["quartile_1"], row["median"], row["quartile_3"]]
        np.testing.assert_allclose(quartiles, np.percentile(taken, [25, 50, 75]), rtol=1e-12)  # the same sums
        share = np.median(taken) / medians["audiocls"]
        assert row["speed_to_ours"] == pytest.approx(share if better == "higher" else 1 / share)
        share = np.median(taken) / medians["limit: light"]
        assert row["speed_to_limit"] == pytest.approx(share if better == "higher" else 1 / share)


def test_the_limit_is_the_slowest_of_several() -> None:
    rows = rows_of({"limit: disk": [10, 10], "limit: memory": [100, 100], "audiocls": [5, 5]})
    assert [row["speed_to_limit"] for row in rows] == [1, 10, 0.5]


def test_processor_time_counts_processes_that_run_and_that_have_ended() -> None:
    def of_others() -> float:
        return measuring.cpu_seconds() - time.process_time()

    began = of_others()
    process = multiprocessing.get_context("fork").Process(target=sum, args=(range(20_000_000),))
    process.start()
    running = now = 0.0
    while process.is_alive():
        running, now = now, of_others() - began  # the last may be of when it had ended
    process.join()
    # Some 0.3 s of adding up; the clock of other processes ticks every 10 ms.
    assert 0.05 < running <= of_others() - began + 0.02


def test_everyone_has_as_many_turns_in_every_place_but_none_in_warm_up() -> None:
    order: list[str] = []
    runs = {name: lambda name=name: float(order.append(name) or 3) for name in "abc"}
    prepared: list[str] = []
    taken = measuring.in_turns(runs, turns=60, warm_up=2, before=prepared.append)
    assert prepared == order
    assert {name: len(turns) for name, turns in taken.items()} == {"a": 60, "b": 60, "c": 60}
    assert {turn.work for turns in taken.values() for turn in turns} == {3}
    rounds = [tuple(order[i : i + 3]) for i in range(0, len(order), 3)]
    assert len(rounds) == 62
    assert all(sorted(one) == list("abc") for one in rounds)
    assert len(Counter(rounds)) == 6  # all orders of three


def test_wall_clock_and_processor_time_are_told_apart() -> None:
    def sleep() -> float:
        time.sleep(0.05)
        return 1

    def work() -> float:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass
        return 1

    taken = measuring.in_turns({"sleep": sleep, "work": work}, turns=3)
    assert min(turn.seconds for turn in taken["sleep"]) >= 0.05
    assert max(turn.cpu_seconds for turn in taken["sleep"]) < 0.04  # other threads of the process may be at work
    assert min(turn.cpu_seconds for turn in taken["work"]) >= 0.05


def test_rows_survive_csv_and_the_command_line_draws_them(tmp_path: Path) -> None:
    rows = rows_of({"audiocls": [1.5, 2, 3], "other, one": [1, 1, 1]})
    rows[0]["error_db"] = 0.25
    measuring.write_csv(tmp_path / "rows.csv", rows)
    assert measuring.read_csv(tmp_path / "rows.csv") == rows
    assert measuring.main([str(tmp_path / "rows.csv"), "--chart", str(tmp_path / "rows.png")]) == 0
    assert (tmp_path / "rows.png").read_bytes().startswith(PNG)
    assert matplotlib.image.imread(tmp_path / "rows.png")[..., :3].std() > 0.05  # something is drawn


def test_table_has_a_row_each_and_no_hidden_column() -> None:
    lines = measuring.table(rows_of({"audiocls": [1000, 2000], "other": [1, 2]})).splitlines()
    assert lines[0] == "| setting | implementation | speed, m/s | quartiles | speed to ours |"
    assert lines[2] == "| here | audiocls | 1,500 | 1,250 to 1,750 | 1 |"
    assert len({line.count("|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("better", "order"), [("higher", ["fast", "audiocls", "slow"]), ("lower", ["slow", "audiocls", "fast"])]
)
def test_the_best_bar_is_on_top(better: str, order: list[str]) -> None:
    values = {"slow": [1.0, 1.0], "fast": [9.0, 9.0], "audiocls": [3.0, 3.0]}
    figure = bar_chart(rows_of(values, better=better))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == order
    assert axes.yaxis_inverted()  # the first is on top
    assert axes.get_xscale() == "linear"
    assert f"{better} is better" in figure.get_suptitle()
    assert "m/s" in axes.get_xlabel()
    assert len({bar.get_facecolor() for bar in axes.patches}) == 2  # ours and the others


def test_wide_spans_are_logarithmic_and_settings_are_panels() -> None:
    rows = rows_of({"audiocls": [100, 100], "slow": [1, 1]}, setting="one") + rows_of(
        {"audiocls": [5, 5]}, setting="two"
    )
    figure = bar_chart(rows)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["one", "two"]
    assert {axes.get_xscale() for axes in figure.axes} == {"log"}


def test_environment_names_versions_and_commit() -> None:
    text = measuring.environment(("numpy", "no-such-package"), hardware="an abacus")
    assert text.startswith("an abacus, ")
    assert f"numpy {np.__version__}" in text
    assert "no-such-package" not in text
    assert "commit " in text


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A benchmark may run on a copy of the files alone, where git is not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert measuring.commit() == "unknown"


def test_a_foreign_csv_is_one_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("benchmark,setting\na,b\n")
    with pytest.raises(ValueError, match=r"x\.csv must have the column 'implementation': give a CSV that a benchmark"):
        measuring.read_csv(tmp_path / "x.csv")
    with pytest.raises(SystemExit):
        measuring.main([str(tmp_path / "x.csv"), "--chart", str(tmp_path / "x.png")])
    assert "must have the column 'implementation'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        measuring.main([str(tmp_path / "gone.csv"), "--chart", str(tmp_path / "x.png")])
    assert "gone.csv" in capsys.readouterr().err

"""The benchmark of front-ends runs, measures every installed peer, and its errors are those of float32."""

import csv
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "bench_frontends.py"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    pytest.importorskip("librosa")
    spec = importlib.util.spec_from_file_location("bench_frontends", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_and_csv(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tool, "SETTINGS", tool.SETTINGS[:2])
    path = tmp_path / "bench.csv"
    assert tool.main(["--batch_size=2", "--seconds=0.5", "--turns=2", f"--csv={path}"]) == 0
    printed = capsys.readouterr().out
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    ours = [row for row in rows if row["implementation"] == "audiocls"]
    assert [row["setting"] for row in ours] == [str(setting) for setting in tool.SETTINGS]
    assert {row["implementation"] for row in rows} >= {"audiocls", "librosa"}
    assert all(row["setting"] in printed and row["implementation"] in printed for row in rows)
    assert all("torch" in row["environment"] and "commit" in row["environment"] for row in rows)
    for row in ours:
        assert float(row["ours_to_it"]) == 1.0
        assert float(row["max_error_db"]) <= 0.01
    assert all(float(row["max_error_db"]) == 0 for row in rows if row["implementation"] == "librosa")


def test_one_turn_has_no_spread(tool: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        tool.main(["--turns=1"])
    assert "--turns must be at least 2 to have a spread, got 1" in capsys.readouterr().err

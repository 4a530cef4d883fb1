"""The head that the README shows how to write is one, and what its table says of the others is so."""

import re
from pathlib import Path

import pytest
import torch

from audiocls import heads
from audiocls.complexity import multiply_adds_per_second, n_trained, with_prefix
from audiocls.frontends import MelSpectrogram, Waveform
from audiocls.heads import Head
from tests.heads.small import skip_without_library

README = Path(heads.__file__).with_name("README.md").read_text()
ROWS = {row.split("`")[1]: [cell.strip() for cell in row.split("|")] for row in README.splitlines() if "| `" in row}


@pytest.fixture
def head() -> Head:
    """The one that is shown."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 25
    names: dict[str, type[Head]] = {}
    exec(code, names)
    return names["SeparableNet"](40, 7, channels=(8, 16))


def test_the_head_that_is_shown_is_one(head: Head) -> None:
    assert head.layer_names == ("conv0", "conv1", "embedding")
    head(torch.randn(2, 1, 40, 50)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())
    head.eval()
    for n_frames in (1, 2, 301):
        assert head(torch.randn(3, 1, 40, n_frames)).shape == (3, 7)


def test_the_head_that_is_shown_trained_and_could_not_be_exported(head: Head, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its pools had one number, and those of a graph ask for two."""
    spectrogram = torch.randn(2, 1, 40, 51)
    logits = head.eval()(spectrogram)
    monkeypatch.setattr("audiocls.heads.map_pools.length_is_free", lambda: True)
    assert head(spectrogram).equal(logits)


def test_the_table_names_every_head() -> None:
    assert set(ROWS) == set(heads.__all__) - {"Head"}


@pytest.mark.parametrize("name", ROWS)
def test_the_table_counts_as_the_heads_do(name: str) -> None:
    skip_without_library(name)
    with_spectrogram = MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=64)
    frontend = Waveform(16000) if name == "SampleCNN" else with_spectrogram
    with torch.device("meta"):
        head = getattr(heads, name)(frontend.n_bins, 50)
    computed = multiply_adds_per_second(frontend, head, seconds=10.0)
    assert computed is not None
    assert ROWS[name][2:5] == [f"{n_trained(head):,}", with_prefix(computed), str(head.embedding_dim)]

"""The front-end that the README shows how to write: it runs, learns, and keeps the promises it is shown with."""

import re
from pathlib import Path

import pytest
import torch

from audiocls import frontends, functional
from audiocls.frontends import Frontend

README = Path(frontends.__file__).with_name("README.md").read_text()


@pytest.fixture(scope="module")
def shown() -> Frontend:
    """The class of the README's one Python block."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names: dict[str, object] = {}
    exec(code, names)
    kind = names["GaussianBands"]
    assert isinstance(kind, type)
    assert issubclass(kind, Frontend)
    return kind(16000)


def test_it_is_a_front_end(shown: Frontend) -> None:
    waveform = 0.1 * torch.randn(2, 2, 4000)
    spectrogram = shown(waveform)
    assert spectrogram.shape == (2, 2, 32, shown.n_frames(4000))
    (spectrogram * torch.randn_like(spectrogram)).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in shown.parameters())
    assert set(shown.levels()) == {"normalization", "octave", "log_width"}
    assert "bins" not in shown.state_dict()


def test_a_tone_peaks_in_its_band(shown: Frontend) -> None:
    frequency = float(shown.frequencies[20])
    tone = torch.sin(2 * torch.pi * frequency * torch.arange(8000) / 16000).reshape(1, 1, -1)
    assert (shown.energy(tone)[0, 0, :, 3:-3].argmax(dim=0) == 20).all()


def test_what_its_tables_name_exists() -> None:
    ours = [row.split("|")[-2] for row in README.splitlines() if row.startswith("|")]
    classes = {name for cell in ours for name in re.findall(r"`([A-Z]\w+)", cell)}
    functions = {name for cell in ours for name in re.findall(r"`functional\.(\w+)", cell)}
    assert len(classes) > 10
    assert {name for name in classes if not hasattr(frontends, name)} == set()
    assert {name for name in functions if not hasattr(functional, name)} == set()

"""The sample formats of a store: against torchaudio, and there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datamodules.samples import SAMPLE_DTYPES, from_float, to_float


def test_mu_law_is_torchaudios() -> None:
    from torchaudio.functional import mu_law_decoding, mu_law_encoding

    samples = np.linspace(-1, 1, 10_001, dtype=np.float32)
    codes, _ = from_float(samples, "mulaw")
    theirs = mu_law_encoding(torch.from_numpy(samples), 256).numpy()
    # Rounding in float32 may fall on the other side of an edge between two levels.
    assert np.abs(codes.astype(int) - theirs).max() <= 1
    assert np.mean(codes != theirs) < 1e-3
    np.testing.assert_allclose(to_float(codes), mu_law_decoding(torch.from_numpy(codes.astype(int)), 256), atol=1e-6)


@pytest.mark.parametrize(
    ("sample_format", "error"),
    [("int16", 0.5 / 32768), ("int32", 2.0**-24), ("float32", 0.0), ("mulaw", 0.022)],
)
def test_there_and_back_within_half_a_step(sample_format: str, error: float) -> None:
    # int32's way back ends in float32, with 24 bits; mu-law's widest step, at full scale, is 0.044
    samples = np.random.default_rng(0).uniform(-0.999, 0.999, (1000, 2)).astype(np.float32)
    stored, clipped = from_float(samples, sample_format)
    assert stored.dtype == SAMPLE_DTYPES[sample_format]
    assert clipped == 0
    assert np.abs(to_float(stored) - samples).max() <= error * 1.01


@pytest.mark.parametrize("sample_format", ["int16", "int32", "mulaw"])
def test_what_exceeds_full_scale_is_set_to_it_and_counted(sample_format: str) -> None:
    stored, clipped = from_float(np.array([-3.0, 0.0, 1.5], dtype=np.float32), sample_format)
    assert clipped == 2
    np.testing.assert_allclose(to_float(stored), [-1, 0, 1], atol=5e-3)


def test_float32_keeps_what_exceeds_full_scale() -> None:
    stored, clipped = from_float(np.array([-3.0, 1.5], dtype=np.float32), "float32")
    assert (stored.tolist(), clipped) == ([-3.0, 1.5], 0)

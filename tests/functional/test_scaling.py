"""PCM, decibels and logarithms, against librosa and formulas."""

from collections.abc import Callable

import librosa
import numpy as np
import pytest
import torch
from torch import Tensor

from audiocls import functional
from datamodules.samples import SampleFormat, from_float, to_float

KAPRE_ROWS = ([1e-20, 1e-5, 1e-3, 5e-2], [0.3, 1.0, 20.5, 9999.0])


def test_pcm_divides_by_full_scale_exactly() -> None:
    pcm = torch.tensor([-32768, -1, 0, 1, 32767], dtype=torch.int16)
    assert torch.equal(functional.pcm_to_float(pcm), torch.tensor(pcm.numpy() / 32768, dtype=torch.float32))


@pytest.mark.parametrize("sample_format", ["int16", "int32", "float32", "mulaw"])
def test_every_format_of_a_store_is_read_as_the_store_reads_it(sample_format: SampleFormat) -> None:
    stored, _ = from_float(np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32), sample_format)
    # mu-law's curve is computed in float32 here, in float64 there
    np.testing.assert_allclose(
        functional.pcm_to_float(torch.from_numpy(stored)), to_float(stored), rtol=2e-6, atol=1e-7
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_float_is_only_converted(dtype: torch.dtype) -> None:
    waveform = torch.tensor([-1.0, 0.25, 0.5], dtype=dtype)
    converted = functional.pcm_to_float(waveform)
    assert converted.dtype == torch.float32
    assert torch.equal(converted, torch.tensor([-1.0, 0.25, 0.5]))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
def test_dtype_without_known_full_scale_is_refused(dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=r"waveform must be int16 or int32 PCM, .* or float in \[-1, 1\), got torch\."):
        functional.pcm_to_float(torch.zeros(4, dtype=dtype))


@pytest.mark.parametrize("top_db", [None, 80.0, 120.0])
@pytest.mark.parametrize("amin", [1e-10, 1e-5])
@pytest.mark.parametrize("ref", [1.0, 20.5])
def test_decibel_equals_librosa_clip_by_clip(ref: float, amin: float, top_db: float | None) -> None:
    power = torch.tensor(KAPRE_ROWS).reshape(2, 1, 2, 2)
    expected = [librosa.power_to_db(clip.numpy(), ref=ref, amin=amin, top_db=top_db) for clip in power]
    # 1e-5 dB: one rounding of float32 at 200 dB
    torch.testing.assert_close(
        functional.power_to_db(power, ref=ref, amin=amin, top_db=top_db),
        torch.from_numpy(np.stack(expected)),
        rtol=0,
        atol=2e-5,
    )


def test_decibel_floor_is_not_set_by_the_loudest_clip_of_the_batch() -> None:
    quiet, loud = torch.full((1, 1, 3, 4), 1e-9), torch.full((1, 1, 3, 4), 1e6)
    together = functional.power_to_db(torch.cat([quiet, loud]), top_db=80.0)
    assert torch.equal(together[:1], functional.power_to_db(quiet, top_db=80.0))


def test_decibel_of_few_dimensions_is_one_clip() -> None:
    power = torch.tensor([[1.0, 1e-9], [1e-9, 1e-3]])
    assert functional.power_to_db(power, top_db=20.0).min() == -20.0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_decibel_of_half_precision_has_the_floor_that_it_cannot_hold(dtype: torch.dtype) -> None:
    power = torch.tensor([[1.0, 0.25, 0.0]], dtype=dtype)  # 80 dB below 1.0 is zero in float16
    for top_db in (None, 80.0):
        expected = functional.power_to_db(power.float(), top_db=top_db).to(dtype)
        assert torch.equal(functional.power_to_db(power, top_db=top_db), expected)
        assert expected.isfinite().all()


@pytest.mark.parametrize("top_db", [None, 30.0])
def test_decibel_has_its_formula_s_gradient_also_through_the_floor(top_db: float | None) -> None:
    power = 10 ** (6 * torch.rand(2, 1, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 6)
    kept = power.clone()
    assert torch.autograd.gradcheck(
        lambda power: functional.power_to_db(power, amin=1e-5, top_db=top_db), power.requires_grad_(), eps=1e-9
    )
    assert torch.equal(power, kept)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"amin": 0.0}, "amin must be positive, got 0.0"),
        ({"ref": -1.0}, "ref must be positive, got -1.0"),
        ({"top_db": -3.0}, "top_db must be at least 0 dB or None, got -3.0"),
    ],
)
def test_decibel_refuses(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        functional.power_to_db(torch.ones(2, 2), **setting)


def test_logarithms_follow_their_formula_with_one_number_a_bin() -> None:
    power = torch.rand(2, 1, 3, 5)
    each = torch.tensor([0.1, 1.0, 10.0])
    column = each.numpy()[:, None]
    # two float32 roundings
    np.testing.assert_allclose(functional.log_offset(power, each), np.log(power.numpy() + column), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(functional.log1p_gain(power, each), np.log1p(power.numpy() * column), rtol=1e-6)
    assert torch.equal(functional.log_offset(power, 0.1), functional.log_offset(power, torch.full((3,), 0.1)))


@pytest.mark.parametrize(
    "compress",
    [
        lambda power: functional.power_to_db(power, top_db=80.0),
        lambda power: functional.log_offset(power, 1e-6),
        lambda power: functional.log1p_gain(power, 1e5),
    ],
)
def test_gradient_is_finite_on_silence(compress: Callable[[Tensor], Tensor]) -> None:
    power = torch.zeros(1, 1, 3, 4, requires_grad=True)
    compress(power).sum().backward()
    assert power.grad is not None
    assert power.grad.isfinite().all()

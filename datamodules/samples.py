"""The sample formats of a store, and the way from float to each and back.

int16 is the default and what audio files mostly hold. int32 and float32 keep what is finer than 96 dB below full scale,
float32 also what exceeds it; mu-law takes half of int16's room, with noise 38 dB below the signal whatever its level.

Source of mu-law: ITU-T G.711's curve with mu = 255, its 256 levels counted as torchaudio.functional.mu_law_encoding
counts them (not G.711's own bit pattern).
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

SampleFormat = Literal["int16", "int32", "float32", "mulaw"]
SAMPLE_DTYPES: dict[str, np.dtype[Any]] = {
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "float32": np.dtype("<f4"),
    "mulaw": np.dtype("|u1"),
}
_MU = 255
_LEVELS = np.linspace(-1, 1, _MU + 1)
_MU_LAW_VALUES = (np.sign(_LEVELS) * np.expm1(np.abs(_LEVELS) * np.log1p(_MU)) / _MU).astype(np.float32)


def from_float(samples: NDArray[np.float32], sample_format: SampleFormat = "int16") -> tuple[NDArray[Any], int]:
    """Float samples, full scale 1, in a store's format.

    Args:
        samples: float32, any shape.
        sample_format: "int16", "int32", "float32" or "mulaw".
    Returns:
        (C-contiguous samples of the format's dtype and the same shape, how many values beyond full scale were set to
        it). float32 keeps what exceeds full scale and sets nothing.

    >>> from_float(np.array([0.5, 1.0, -1.0, 1.5], dtype=np.float32))
    (array([ 16384,  32767, -32768,  32767], dtype=int16), 2)
    >>> from_float(np.array([-1.0, 0.0, 1.0], dtype=np.float32), "mulaw")
    (array([  0, 128, 255], dtype=uint8), 0)
    """
    if sample_format == "float32":
        return np.ascontiguousarray(samples, dtype=SAMPLE_DTYPES["float32"]), 0
    if sample_format == "mulaw":
        clipped = int(np.count_nonzero(np.abs(samples) > 1))
        curve = np.sign(samples) * np.log1p(_MU * np.minimum(np.abs(samples), 1)) / np.log1p(_MU)
        return np.ascontiguousarray(((curve + 1) / 2 * _MU + 0.5).astype(np.uint8)), clipped
    dtype = SAMPLE_DTYPES[sample_format]
    full_scale = 1 << (8 * dtype.itemsize - 1)
    wide = np.float32 if dtype.itemsize == 2 else np.float64  # float32 knows no 2**31 - 1
    scaled = np.rint(samples.astype(wide, copy=False) * wide(full_scale))
    clipped = int(np.count_nonzero((scaled > full_scale - 1) | (scaled < -full_scale)))
    return np.ascontiguousarray(np.clip(scaled, -full_scale, full_scale - 1).astype(dtype)), clipped


def to_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples of a store as float32, full scale 1; the dtype says which format they are in.

    >>> to_float(np.array([-32768, 16384], dtype=np.int16)).tolist()
    [-1.0, 0.5]
    """
    if samples.dtype == SAMPLE_DTYPES["mulaw"]:
        return _MU_LAW_VALUES[samples]
    if samples.dtype.kind == "i":
        return np.divide(samples, 1 << (8 * samples.dtype.itemsize - 1), dtype=np.float32)
    return samples.astype(np.float32)

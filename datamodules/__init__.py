"""Files, shards, splits, batches: from decoded audio to what a step of training takes. Knows nothing of `audiocls`.

The data sets are imported when they are asked for: decoding needs neither torch nor any of them, and its worker
processes start in a fraction of the time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.audio_folder import AudioFolder
    from datamodules.audio_table import AudioTable
    from datamodules.fma import FMA
    from datamodules.spoken_digits import SpokenDigits

__all__ = ["FMA", "AudioFolder", "AudioTable", "SpokenDigits"]

_FILES = {"FMA": "fma", "AudioFolder": "audio_folder", "AudioTable": "audio_table", "SpokenDigits": "spoken_digits"}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

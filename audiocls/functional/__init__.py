"""Pure functions of tensors: waveform -> spectrum -> energies -> compressed energies.

Nothing here holds state, reads a configuration or chooses a device; the modules of `audiocls.frontends` do that.
"""

from audiocls.functional.framing import PadMode, n_frames, pad, window
from audiocls.functional.mel import MelNorm, MelScale, hz_to_mel, mel_filterbank, mel_frequencies, mel_to_hz
from audiocls.functional.scaling import log1p_gain, log_offset, pcm_to_float, power_to_db
from audiocls.functional.stft import magnitude, power_spectrum, stft

__all__ = [
    "MelNorm",
    "MelScale",
    "PadMode",
    "hz_to_mel",
    "log1p_gain",
    "log_offset",
    "magnitude",
    "mel_filterbank",
    "mel_frequencies",
    "mel_to_hz",
    "n_frames",
    "pad",
    "pcm_to_float",
    "power_spectrum",
    "power_to_db",
    "stft",
    "window",
]

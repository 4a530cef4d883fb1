"""Pure functions of tensors: waveform -> spectrum -> energies -> compressed energies.

Nothing here holds state, reads a configuration or chooses a device; the modules of `audiocls.frontends` do that.
"""

from audiocls.functional.auditory import bark_to_hz, erb_bandwidth, erb_rate_to_hz, hz_to_bark, hz_to_erb_rate
from audiocls.functional.band_responses import BandNorm, BandShape, band_responses
from audiocls.functional.cepstral import (
    DeltaMode,
    cepstrum,
    dct_matrix,
    delta_kernel,
    deltas,
    lifter_weights,
    local_slope,
)
from audiocls.functional.cfp import (
    CFPMaps,
    cfp,
    cfp_filterbanks,
    cfp_frequencies,
    cfp_maps,
    check_exponents,
)
from audiocls.functional.chroma import chroma_filterbank
from audiocls.functional.convolution import convolve, fft_convolve
from audiocls.functional.cqt import WaveletBand, band_response, cqt, cqt_bands, cqt_frequencies
from audiocls.functional.cqt_convolution import band_wavelets, cqt_by_convolution
from audiocls.functional.dft import dft, dft_kernels
from audiocls.functional.filterbanks import (
    FrequencyScale,
    MelNorm,
    band_edges,
    check_filterbank,
    mel_filterbank,
    triangular_filterbank,
)
from audiocls.functional.framing import (
    PadMode,
    WindowSpec,
    n_frames,
    pad,
    pad_to_frames,
    stretched_hann,
    window,
    window_in_frame,
)
from audiocls.functional.fused import fused_energy, fused_fault, why_not_fused
from audiocls.functional.fused_kernels import kept_filters
from audiocls.functional.gammatone import gammatone_filterbank, gammatone_frequencies
from audiocls.functional.icqt import icqt
from audiocls.functional.impulse_responses import gabor, gaussian_window, windowed_sinc
from audiocls.functional.istft import istft
from audiocls.functional.lane_logarithm import lane_logarithm
from audiocls.functional.lane_pcen import lane_pcen
from audiocls.functional.lanes import FilterGroups, filter_groups, fits_lanes, lane_energy
from audiocls.functional.mel import MelScale, hz_to_mel, mel_frequencies, mel_to_hz
from audiocls.functional.pcen import moving_average, pcen
from audiocls.functional.phase import angle, griffin_lim, phase
from audiocls.functional.scaling import (
    Logarithm,
    decibel,
    log1p_gain,
    log_offset,
    natural_logarithm,
    pcm_to_float,
    power_to_db,
    take_logarithm,
)
from audiocls.functional.stft import magnitude, power_spectrum, stft

__all__ = [
    "BandNorm",
    "BandShape",
    "CFPMaps",
    "DeltaMode",
    "FilterGroups",
    "FrequencyScale",
    "Logarithm",
    "MelNorm",
    "MelScale",
    "PadMode",
    "WaveletBand",
    "WindowSpec",
    "angle",
    "band_edges",
    "band_response",
    "band_responses",
    "band_wavelets",
    "bark_to_hz",
    "cepstrum",
    "cfp",
    "cfp_filterbanks",
    "cfp_frequencies",
    "cfp_maps",
    "check_exponents",
    "check_filterbank",
    "chroma_filterbank",
    "convolve",
    "cqt",
    "cqt_bands",
    "cqt_by_convolution",
    "cqt_frequencies",
    "dct_matrix",
    "decibel",
    "delta_kernel",
    "deltas",
    "dft",
    "dft_kernels",
    "erb_bandwidth",
    "erb_rate_to_hz",
    "fft_convolve",
    "filter_groups",
    "fits_lanes",
    "fused_energy",
    "fused_fault",
    "gabor",
    "gammatone_filterbank",
    "gammatone_frequencies",
    "gaussian_window",
    "griffin_lim",
    "hz_to_bark",
    "hz_to_erb_rate",
    "hz_to_mel",
    "icqt",
    "istft",
    "kept_filters",
    "lane_energy",
    "lane_logarithm",
    "lane_pcen",
    "lifter_weights",
    "local_slope",
    "log1p_gain",
    "log_offset",
    "magnitude",
    "mel_filterbank",
    "mel_frequencies",
    "mel_to_hz",
    "moving_average",
    "n_frames",
    "natural_logarithm",
    "pad",
    "pad_to_frames",
    "pcen",
    "pcm_to_float",
    "phase",
    "power_spectrum",
    "power_to_db",
    "stft",
    "stretched_hann",
    "take_logarithm",
    "triangular_filterbank",
    "why_not_fused",
    "window",
    "window_in_frame",
    "windowed_sinc",
]

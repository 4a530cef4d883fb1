"""Audio files for the tests of decoding: written by libsndfile and FFmpeg, then damaged byte by byte."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.error import FFmpegError

RATE = 44100
_LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}
_MUXER_OPTIONS = ("write_xing", "id3v2_version", "movflags")


def tone_in_noise(seconds: float, *, rate: int = RATE, channels: int = 1) -> np.ndarray:
    """440 Hz at half of full scale, each channel in a noise of its own; float32 (samples, channels)."""
    n_samples = round(seconds * rate)
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(n_samples) / rate)
    noise = 0.05 * np.random.default_rng(0).standard_normal((n_samples, channels))
    return (tone[:, None] + noise).astype(np.float32)


def encode(
    path: Path,
    samples: np.ndarray,
    rate: int = RATE,
    *,
    codec: str,
    container: str | None = None,
    video: bool = False,
    video_seconds: float = 0.0,
    **options: str,
) -> None:
    """Write samples (samples, channels) by FFmpeg, for what libsndfile cannot write.

    Args:
        path: its suffix says the container, unless `container` does.
        samples: float32.
        rate: of the samples and of the file, in Hz.
        codec: of the sound.
        container: FFmpeg's name of it.
        video: with a moving picture.
        video_seconds: of it; 0 for those of the sound.
        options: of the encoder, and those of the muxer that the tests use.
    """
    layout = _LAYOUTS[samples.shape[1]]
    muxer = {name: options.pop(name) for name in _MUXER_OPTIONS if name in options}
    with av.open(str(path), "w", format=container, options=muxer) as file:
        pictures = file.add_stream("mpeg4", rate=10) if video else None
        stream = file.add_stream(codec, rate=rate, options=options)
        stream.layout, stream.bit_rate = layout, 64000 * samples.shape[1]
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
            for _ in range(round(10 * video_seconds) or len(samples) * 10 // rate):
                file.mux(pictures.encode(av.VideoFrame(64, 48, "yuv420p")))
            file.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        size = stream.codec_context.frame_size
        resampler = AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


def read_by_ffmpeg(path: Path) -> np.ndarray | None:
    """What FFmpeg makes of the whole file, float (samples, channels); None where it stops at an error."""
    parts = []
    try:
        with av.open(str(path)) as file:
            for frame in file.decode(audio=0):
                part = frame.to_ndarray()
                part = part.T if frame.format.is_planar else part.reshape(-1, frame.layout.nb_channels)
                if part.dtype.kind == "u":
                    part = (part - 128.0) / 128
                parts.append(part / -float(np.iinfo(part.dtype).min) if part.dtype.kind == "i" else part)
    except FFmpegError:
        return None
    return np.concatenate(parts)


# Damage -------------------------------------------------------------------------------------------------------------


def half(data: bytearray) -> bytes:
    """The first half."""
    return bytes(data[: len(data) // 2])


def hole(data: bytearray) -> bytes:
    """4 kB of zeros inside."""
    data[20000:24096] = bytes(4096)
    return bytes(data)


def flips(data: bytearray, n: int = 300) -> bytes:
    """Changed bytes behind the file's headers (a vorbis set-up takes 4 kB), many enough to hit headers of frames."""
    rng = np.random.default_rng(1)
    for at in rng.integers(8000, len(data), n):
        data[at] ^= int(rng.integers(1, 256))
    return bytes(data)

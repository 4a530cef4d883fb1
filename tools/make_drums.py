"""Synthesise a set of drum sounds from random kits, to try a whole training run on without a download.

Seven classes of percussion, 0.05 to 0.6 s, in class folders, as MP3, Ogg Vorbis, FLAC and WAV of 44.1 and 48 kHz, mono
and stereo, with the table `drums.csv` (path, label, split, group). A kit draws its tunings, decays, noise colour,
drive, room and mixing once; every hit varies them a little. The split is by kit, so that a score on the test split is
one for kits never heard. Classes overlap as real ones do: toms reach down to kicks and up to cowbells, closed and open
hats differ by a decay whose ranges touch, claps and snares share their noise, and another drum bleeds into most hits.

The same seed gives the same samples and the same files, except that libsndfile draws the stream number of an Ogg file
at random: those decode to the same samples but differ in a few bytes of each page.

The voices follow the analogue drum machines of the early 1980s: falling sines for skins, six detuned square waves for
metal, two for the cowbell, a run of short bursts of noise for the clap.
"""

import argparse
import csv
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from numpy.random import Generator
from numpy.typing import NDArray
from scipy import signal
from tqdm import tqdm

Signal = NDArray[np.float64]
Kit = dict[str, float]

N_KITS = 40
MAX_SECONDS = 0.6
MIN_SECONDS = 0.05
FORMATS = (("mp3", "MPEG_LAYER_III"), ("ogg", "VORBIS"), ("flac", "PCM_16"), ("wav", "PCM_16"))
SAMPLE_RATES = (44100, 48000)
METAL = np.array([205.3, 304.4, 369.6, 522.7, 540.0, 800.0])  # Hz, the six oscillators of the TR-808's cymbals

# What a kit draws, log-uniformly between the two. Frequencies in Hz, times in seconds, the rest ratios.
KIT_RANGES = {
    "kick_pitch": (42, 100),
    "kick_sweep": (0.4, 4.0),
    "kick_sweep_time": (0.008, 0.05),
    "kick_decay": (0.04, 0.22),
    "kick_click": (0.02, 0.8),
    "snare_pitch": (140, 290),
    "snare_body": (0.15, 1.0),
    "snare_body_decay": (0.025, 0.11),
    "snare_noise_decay": (0.03, 0.18),
    "snare_noise_cutoff": (500, 3000),
    "hat_tuning": (0.8, 2.2),
    "hat_noise": (0.1, 2.0),
    "hat_cutoff": (3500, 6800),
    "closed_hat_decay": (0.012, 0.034),
    "hat_opening": (3.5, 9.0),  # times the decay of the closed one
    "tom_pitch": (85, 300),
    "tom_sweep": (0.05, 0.9),
    "tom_sweep_time": (0.02, 0.1),
    "tom_decay": (0.05, 0.24),
    "tom_modes": (0.03, 0.5),
    "tom_skin": (0.02, 0.5),
    "clap_centre": (850, 2300),
    "clap_width": (0.5, 1.6),
    "clap_spacing": (0.008, 0.016),
    "clap_tail_decay": (0.03, 0.16),
    "clap_tail": (0.15, 0.8),
    "cowbell_pitch": (380, 760),
    "cowbell_interval": (1.35, 1.6),
    "cowbell_decay": (0.03, 0.2),
    "cowbell_cutoff": (1200, 4500),
    "drive": (0.3, 5.0),
    "room": (0.02, 0.5),
    "room_decay": (0.02, 0.12),
    "eq_frequency": (150, 5000),
    "bandwidth": (5500, 20000),
    "noise_floor": (0.0006, 0.03),
    "bleed": (0.02, 0.22),
}


def draw_kit(rng: Generator) -> Kit:
    """One kit: every entry of `KIT_RANGES`, and the colour of its equaliser and of its noise."""
    kit = {name: float(np.exp(rng.uniform(*np.log(bounds)))) for name, bounds in KIT_RANGES.items()}
    kit["eq_gain_db"] = rng.uniform(-12, 12)
    kit["noise_colour"] = rng.uniform(0, 0.97)  # coefficient of a one-pole low-pass: white to brown
    return kit


class Hit:
    """One stroke: its time axis, the kit's numbers each varied a little, the generators and filters of a synthesiser.

    Filters are the second-order ones of Bristow-Johnson's "Cookbook formulae for audio equalizer biquad filter
    coefficients".

    Args:
        kit: numbers of the kit.
        rng: source of everything random in the stroke.
        sample_rate: Hz.
        spread: standard deviation of the variation, in the natural logarithm.
    """

    def __init__(self, kit: Kit, rng: Generator, *, sample_rate: int, spread: float = 0.12) -> None:
        self.kit = kit
        self.rng = rng
        self.sample_rate = sample_rate
        self.spread = spread
        self.time = np.arange(round(rng.uniform(0.3, 1) * MAX_SECONDS * sample_rate)) / sample_rate

    def __getitem__(self, name: str) -> float:
        return self.kit[name] * float(np.exp(self.rng.normal(0, self.spread)))

    def decay(self, seconds: float, start: float = 0.0) -> Signal:
        """An envelope that is one at `start` and falls by 8.7 dB every `seconds`; zero before."""
        start_sample = round(start * self.sample_rate)
        ratio = np.exp(-1 / (seconds * self.sample_rate))
        envelope = np.zeros_like(self.time)
        envelope[start_sample:] = ratio ** np.arange(len(self.time) - start_sample)
        return envelope

    def noise(self) -> Signal:
        """White noise of unit variance."""
        return self.rng.standard_normal(len(self.time))

    def sine(self, frequency: Signal | float) -> Signal:
        """A sine whose frequency, in Hz, may change from sample to sample."""
        phase = 2 * np.pi * np.cumsum(np.broadcast_to(frequency, self.time.shape)) / self.sample_rate
        return np.sin(phase + self.rng.uniform(0, 0.3))

    def squares(self, frequencies: Signal) -> Signal:
        """The sum of square waves at the given frequencies, in Hz, each with a phase of its own."""
        cycles = np.outer(frequencies, self.time) + self.rng.random((len(frequencies), 1))
        return np.where(cycles - np.floor(cycles) < 0.5, 1.0, -1.0).sum(axis=0)

    def highpass(self, x: Signal, cutoff: float) -> Signal:
        """Second-order high-pass at `cutoff` Hz."""
        cosine, alpha = self._angle(cutoff)
        numerator = [(1 + cosine) / 2, -1 - cosine, (1 + cosine) / 2]
        return _recursive(numerator, [1 + alpha, -2 * cosine, 1 - alpha], x)

    def lowpass(self, x: Signal, cutoff: float) -> Signal:
        """Second-order low-pass at `cutoff` Hz."""
        cosine, alpha = self._angle(cutoff)
        numerator = [(1 - cosine) / 2, 1 - cosine, (1 - cosine) / 2]
        return _recursive(numerator, [1 + alpha, -2 * cosine, 1 - alpha], x)

    def peak(self, x: Signal, frequency: float, gain_db: float) -> Signal:
        """Raise or lower what lies about `frequency` Hz."""
        cosine, alpha = self._angle(frequency)
        gain = 10 ** (gain_db / 40)
        numerator = [1 + alpha * gain, -2 * cosine, 1 - alpha * gain]
        return _recursive(numerator, [1 + alpha / gain, -2 * cosine, 1 - alpha / gain], x)

    def _angle(self, frequency: float) -> tuple[float, float]:
        """The cookbook's cos(w0) and alpha at Q = 0.71; the frequency is kept below Nyquist's."""
        omega = 2 * np.pi * min(frequency, 0.46 * self.sample_rate) / self.sample_rate
        return float(np.cos(omega)), float(np.sin(omega) / np.sqrt(2))


def _recursive(numerator: list[float], denominator: list[float], x: Signal) -> Signal:
    return np.asarray(signal.lfilter(numerator, denominator, x))


def kick(hit: Hit) -> Signal:
    """A falling sine with a click."""
    sweep = 1 + hit["kick_sweep"] * hit.decay(hit["kick_sweep_time"])
    click = hit.lowpass(hit.highpass(hit.noise(), 700), 6000) * hit.decay(0.003)
    return hit.sine(hit["kick_pitch"] * sweep) * hit.decay(hit["kick_decay"]) + hit["kick_click"] * click


def tom(hit: Hit) -> Signal:
    """One of three tunings: a falling sine, two higher modes of a membrane, the noise of the skin."""
    pitch = hit["tom_pitch"] * hit.rng.choice([0.72, 1.0, 1.38])
    frequency = pitch * (1 + hit["tom_sweep"] * hit.decay(hit["tom_sweep_time"]))
    decay = hit["tom_decay"]
    modes = sum(hit.sine(frequency * ratio) * hit.decay(decay / ratio**1.5) for ratio in (1.59, 2.14))
    skin = hit.lowpass(hit.highpass(hit.noise(), 300), 4500) * hit.decay(0.3 * decay)
    return hit.sine(frequency) * hit.decay(decay) + hit["tom_modes"] * modes + hit["tom_skin"] * skin


def snare(hit: Hit) -> Signal:
    """Two modes of the shell and the noise of the wires."""
    frequency = hit["snare_pitch"] * (1 + 0.5 * hit.decay(0.008))
    body = hit.sine(frequency) + 0.6 * hit.sine(1.75 * frequency)
    wires = hit.highpass(hit.noise(), hit["snare_noise_cutoff"])
    return hit["snare_body"] * body * hit.decay(hit["snare_body_decay"]) + wires * hit.decay(hit["snare_noise_decay"])


def clap(hit: Hit) -> Signal:
    """Three to five bursts of band-limited noise, a few milliseconds apart, and a tail."""
    centre, width = hit["clap_centre"], hit["clap_width"]
    spacing, n_bursts = hit["clap_spacing"], int(hit.rng.integers(3, 6))
    starts = spacing * (np.arange(n_bursts) + np.append(0, hit.rng.normal(0, 0.12, n_bursts - 1)))
    bursts = np.max([hit.decay(0.35 * spacing, start) for start in starts], axis=0)
    envelope = bursts + hit["clap_tail"] * hit.decay(hit["clap_tail_decay"], starts[-1])
    return hit.lowpass(hit.highpass(hit.noise(), centre * 2**-width), centre * 2**width) * envelope


def _metal(hit: Hit) -> Signal:
    metal = hit.squares(METAL * hit["hat_tuning"]) / len(METAL) + 0.4 * hit["hat_noise"] * hit.noise()
    cutoff = hit["hat_cutoff"]
    return hit.highpass(hit.highpass(metal, cutoff), cutoff)


def closed_hat(hit: Hit) -> Signal:
    """Six square waves and noise, high-passed and soon over."""
    return _metal(hit) * hit.decay(hit["closed_hat_decay"])


def open_hat(hit: Hit) -> Signal:
    """The closed hat, ringing longer."""
    return _metal(hit) * hit.decay(hit["closed_hat_decay"] * hit["hat_opening"])


def cowbell(hit: Hit) -> Signal:
    """Two square waves, band-passed, with a short attack on a longer decay."""
    pitch = hit["cowbell_pitch"]
    pair = hit.squares(np.array([pitch, pitch * hit["cowbell_interval"]]))
    decay = hit["cowbell_decay"]
    tone = hit.lowpass(hit.highpass(pair, 0.7 * pitch), max(hit["cowbell_cutoff"], 1.5 * pitch))
    return tone * (0.6 * hit.decay(0.2 * decay) + 0.4 * hit.decay(decay))


VOICES: dict[str, Callable[[Hit], Signal]] = {
    voice.__name__: voice for voice in (kick, snare, closed_hat, open_hat, tom, clap, cowbell)
}


def _unit_peak(x: Signal) -> Signal:
    return x / (np.abs(x).max() + 1e-12)


def _equalise(x: Signal, hit: Hit) -> Signal:
    """The kit's peaking filter and its upper limit."""
    return hit.lowpass(hit.peak(x, hit.kit["eq_frequency"], hit.kit["eq_gain_db"]), hit.kit["bandwidth"])


def _room(x: Signal, hit: Hit) -> Signal:
    """Add the kit's room: the sound convolved with noise that dies away."""
    n = round(5 * hit.kit["room_decay"] * hit.sample_rate)
    tail = hit.noise()[:n] * hit.decay(hit.kit["room_decay"])[:n]
    wet = signal.fftconvolve(x, tail / np.linalg.norm(tail))[: len(x)]
    return x + hit["room"] * wet


def _later(x: Signal, seconds: float, sample_rate: int) -> Signal:
    n = round(seconds * sample_rate)
    return np.concatenate([np.zeros(n), x[: len(x) - n]])


def synthesise(label: str, kit: Kit, rng: Generator, *, sample_rate: int, n_channels: int) -> Signal:
    """One hit as it would come from a sample library.

    Args:
        label: a key of `VOICES`.
        kit: numbers of the kit, from `draw_kit`.
        rng: source of everything random in the hit.
        sample_rate: Hz.
        n_channels: 1, or 2 for a sound panned between two channels with a noise of their own.
    Returns:
        Samples in (-1, 1), shape (time, n_channels), 0.05 to 0.6 s long.
    """
    hit = Hit(kit, rng, sample_rate=sample_rate)
    dry = _unit_peak(VOICES[label](hit))
    other = str(rng.choice([name for name in VOICES if name != label]))
    bleed = _later(_unit_peak(VOICES[other](hit)), rng.uniform(0, 0.15), sample_rate)
    drive = hit["drive"]
    mixed = np.tanh(drive * dry) / np.tanh(drive) + hit["bleed"] * bleed
    sound = _later(_unit_peak(_equalise(_room(mixed, hit), hit)), rng.uniform(0, 0.04), sample_rate)
    sound = sound[: _length(sound, rng, sample_rate)]
    pan = np.sqrt(0.5 + 0.35 * np.array([1, -1])[:n_channels] * rng.uniform(-1, 1)) if n_channels == 2 else np.ones(1)
    colour = kit["noise_colour"]
    floor = _recursive([1 - colour], [1, -colour], rng.standard_normal((n_channels, len(sound))))
    floor *= hit["noise_floor"] / floor.std()
    fade = np.minimum(1, np.arange(len(sound))[::-1] / (0.003 * sample_rate))
    stereo = (pan[:, None] * sound + floor) * fade
    return (0.9 * 10 ** (-rng.uniform(0, 24) / 20) * _unit_peak(stereo)).T


def _length(sound: Signal, rng: Generator, sample_rate: int) -> int:
    """Samples to keep: to where the sound has fallen by 40 dB, give or take, and within the set's bounds."""
    audible = int(np.flatnonzero(np.abs(sound) > 0.01)[-1]) * rng.uniform(0.7, 1.6)
    return int(np.clip(audible, 1.02 * MIN_SECONDS * sample_rate, len(sound)))


def split_of(kit: int, n_kits: int) -> str:
    """The split of a kit: the last 15 % are the test's, the 15 % before the validation's, at least one each.

    >>> [split_of(kit, 40) for kit in (0, 27, 28, 33, 34, 39)]
    ['train', 'train', 'validation', 'validation', 'test', 'test']
    """
    share = max(1, round(0.15 * n_kits))
    return "test" if kit >= n_kits - share else "validation" if kit >= n_kits - 2 * share else "train"


def make_clip(out: Path, label: str, kit: int, take: int, *, seed: int) -> str:
    """Write one hit and return its path below `out`."""
    rng = np.random.default_rng([seed, 1, kit, list(VOICES).index(label), take])
    suffix, subtype = FORMATS[rng.integers(len(FORMATS))]
    sample_rate, n_channels = int(rng.choice(SAMPLE_RATES)), int(rng.integers(1, 3))
    kit_numbers = draw_kit(np.random.default_rng([seed, 0, kit]))
    samples = synthesise(label, kit_numbers, rng, sample_rate=sample_rate, n_channels=n_channels)
    path = f"{label}/kit{kit:02d}_{take:02d}.{suffix}"
    soundfile.write(out / path, samples, sample_rate, subtype=subtype)
    return path


def make_drums(out: Path, *, n_clips: int, seed: int) -> list[tuple[str, str, str, str]]:
    """Write the whole set and its table.

    Args:
        out: folder to make.
        n_clips: clips in all; shared equally by classes, and by kits within a class.
        seed: the set is a function of it and of `n_clips`.
    Returns:
        The rows of `drums.csv`: path, label, split, group.
    Raises:
        ValueError: if there would be fewer than seven kits.
    """
    per_class = n_clips // len(VOICES)
    n_kits = min(N_KITS, per_class)
    if n_kits < 7:
        raise ValueError(f"--clips must be at least 49, seven kits of seven classes, got {n_clips}")
    for label in VOICES:
        (out / label).mkdir(parents=True, exist_ok=True)
    hits = [(label, *divmod(i, n_kits)) for label in VOICES for i in range(per_class)]
    # Threads suffice: the encoders and numpy's long loops let go of the interpreter.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = [pool.submit(make_clip, out, label, kit, take, seed=seed) for label, take, kit in hits]
        paths = [job.result() for job in tqdm(jobs, desc="drums", unit="clip")]
    rows = [
        (path, label, split_of(kit, n_kits), f"kit{kit:02d}") for path, (label, _, kit) in zip(paths, hits, strict=True)
    ]
    with (out / "drums.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "split", "group"), *rows])
    return rows


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write, with one folder a class in it")
    parser.add_argument("--clips", type=int, default=1400, help="clips in all (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed is another set (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        rows = make_drums(options.out, n_clips=options.clips, seed=options.seed)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    counts = ", ".join(f"{sum(row[2] == split for row in rows)} {split}" for split in ("train", "validation", "test"))
    print(
        f"{len(rows)} clips of {len(VOICES)} classes from {len({row[3] for row in rows})} kits ({counts}) in "
        f"{options.out}; next: python tools/decode_to_hdf.py {options.out / 'drums.csv'} --out {options.out}-16k"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

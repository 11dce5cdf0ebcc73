"""Rendering: options, gains, files that are complete or absent, and SoundFonts."""

import ctypes
import sys
import types
import wave

import numpy as np
import pytest
import soundfile

from music_generator.errors import InputError, MissingDependencyError
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SUSTAIN, Performance
from music_generator.sound import Sound, SoundOptions, render, render_file, steady_gain, write_audio
from music_generator.sound.waveform import PEAK

RATE = 22_050


def performance(notes, pedals=()) -> Performance:
    """Notes as (onset, duration, pitch, velocity), pedals as (onset, duration, pedal, depth)."""
    return Performance(np.array(list(notes), NOTE_DTYPE), np.array(list(pedals), PEDAL_DTYPE))


CHORD = performance([(0, 0.5, pitch, 80) for pitch in (48, 60, 64, 67)])
SOFT = performance([(0, 0.5, 60, 40)])

# --- options and gains


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"sample_rate": 100}, "must be 11025 to 96000 Hz, not 100"),
        ({"normalise": "loud"}, "must be one of peak, none, not 'loud'"),
        ({"gain": 0.0}, "must be above 0, not 0.0"),
        ({"bits": 8}, "`bits` must be 16 or 24, not 8"),
        ({"soundfont": "/nowhere/a.sf2"}, "/nowhere/a.sf2 does not exist"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(InputError, match=text):
        SoundOptions(**options)


def test_the_peak_is_that_of_full_scale_but_for_one_decibel():
    sound = render(SOFT, SoundOptions(RATE))
    assert sound.samples.dtype == np.float32
    assert sound.samples.shape == (round(sound.seconds * RATE), 2)
    assert np.abs(sound.samples).max() == pytest.approx(PEAK, abs=1e-4)


def test_without_normalising_a_velocity_is_as_loud_in_every_piece():
    plain = SoundOptions(RATE, normalise="none")
    alone, chord = render(SOFT, plain), render(CHORD, plain)
    assert alone.gain == chord.gain == 1
    assert np.abs(alone.samples).max() < 0.3 * np.abs(chord.samples).max() < 0.3


def test_no_gain_lets_the_sound_clip():
    sound = render(CHORD, SoundOptions(RATE, gain=1e6))
    assert np.abs(sound.samples).max() == pytest.approx(PEAK, abs=1e-4)
    assert sound.gain < 1e6


def test_a_span_has_the_gain_of_its_piece():
    """The loud chord comes later: the soft beginning is as soft as it is in the whole."""
    piece = performance([(0, 0.5, 60, 40), *[(3, 0.5, pitch, 110) for pitch in (48, 60, 64, 67)]])
    whole = render(piece, SoundOptions(RATE, gain=steady_gain(piece)))
    assert 0.3 < np.abs(whole.samples).max() <= PEAK + 1e-4
    span = render(SOFT, SoundOptions(RATE, gain=steady_gain(piece)))
    frames = int(0.4 * RATE)
    assert np.allclose(span.samples[:frames], whole.samples[:frames] * span.gain / whole.gain, atol=1e-5)
    assert steady_gain(Performance()) == 1


def test_the_same_performance_gives_the_same_sound():
    assert np.array_equal(render(CHORD).samples, render(CHORD).samples)


def test_an_empty_performance_is_short_silence():
    sound = render(Performance())
    assert 0 < sound.seconds < 1
    assert not sound.samples.any()


# --- files


def test_a_file_is_what_is_rendered(tmp_path):
    sound, rendered = render(CHORD), render_file(CHORD, tmp_path / "new" / "a.wav")
    assert (rendered.engine, rendered.gain, rendered.seconds) == (sound.engine, sound.gain, sound.seconds)
    with wave.open(str(tmp_path / "new" / "a.wav")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (44_100, 2, 2)
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    assert np.abs(frames / 32767 - sound.samples).max() <= 0.51 / 32767
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.wav"]


def test_an_hour_is_rendered_in_blocks(tmp_path, monkeypatch):
    """A sound of several blocks is the same as one of one block."""
    notes = performance([(0.4 * i, 0.3, 48 + i, 60) for i in range(12)], [(0, 4, SUSTAIN, 127)])
    whole = render(notes, SoundOptions(RATE))
    monkeypatch.setattr("music_generator.sound.grand.BLOCK_SECONDS", 0.7)
    assert np.allclose(render(notes, SoundOptions(RATE)).samples, whole.samples, atol=2e-5)
    render_file(notes, tmp_path / "a.flac", SoundOptions(RATE))
    assert np.allclose(soundfile.read(tmp_path / "a.flac")[0], whole.samples, atol=1e-4)


def a_sound(seconds: float = 1.0) -> Sound:
    wave_form = 0.5 * np.sin(np.arange(int(seconds * RATE)) * 2 * np.pi * 440 / RATE)
    return Sound(np.stack([wave_form, -wave_form], axis=1).astype(np.float32), RATE, "a sine")


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_24_bits(tmp_path, suffix):
    write_audio(tmp_path / f"a{suffix}", a_sound(), bits=24)
    assert soundfile.info(tmp_path / f"a{suffix}").subtype == "PCM_24"
    assert np.abs(soundfile.read(tmp_path / f"a{suffix}")[0] - a_sound().samples).max() < 2e-7


@pytest.mark.parametrize("suffix", [".WAV", ".flac", ".ogg", ".mp3"])
def test_formats(tmp_path, suffix):
    write_audio(tmp_path / f"a{suffix}", a_sound(2))
    info = soundfile.info(tmp_path / f"a{suffix}")
    assert (info.samplerate, info.channels) == (RATE, 2)
    assert info.duration == pytest.approx(2, abs=0.15)


def test_long_ogg(tmp_path):
    sound = Sound(np.zeros((44_100 * 101, 2), np.float32), 44_100, "silence")
    write_audio(tmp_path / "long.ogg", sound)
    assert soundfile.info(tmp_path / "long.ogg").duration == pytest.approx(101, abs=0.1)


@pytest.mark.parametrize("write", [lambda path: render_file(SOFT, path), lambda path: write_audio(path, a_sound())])
def test_unknown_suffix(tmp_path, write):
    with pytest.raises(InputError, match=r"a\.aiff: the suffix must be one of \.wav, \.flac, \.ogg, \.mp3"):
        write(tmp_path / "a.aiff")


def test_24_bits_are_not_for_ogg(tmp_path):
    with pytest.raises(InputError, match=r"a\.ogg with 24 bits: a sample has 16 or 24 bits in a WAV or FLAC file"):
        render_file(SOFT, tmp_path / "a.ogg", SoundOptions(bits=24))
    assert list(tmp_path.iterdir()) == []


def test_a_wav_file_that_its_header_cannot_count(tmp_path):
    """Two notes ten hours apart."""
    apart = performance([(0, 1, 60, 64), (36_000, 1, 60, 64)])
    with pytest.raises(InputError, match=r"a\.wav: 10\.0 hours are too long for a WAV file; write \.flac"):
        render_file(apart, tmp_path / "a.wav")
    assert list(tmp_path.iterdir()) == []


def test_without_soundfile(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingDependencyError, match="force-reinstall soundfile"):
        render_file(SOFT, tmp_path / "a.ogg")
    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_the_old_file_and_no_part_of_the_new(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    (tmp_path / "a.wav").write_bytes(b"old")
    monkeypatch.setattr("music_generator.sound.files._write", full)
    with pytest.raises(InputError, match=r"cannot write .*a\.wav: No space left on device"):
        render_file(SOFT, tmp_path / "a.wav")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_format_that_refuses_the_rate(tmp_path):
    sound = Sound(np.zeros((10, 2), np.float32), 191_999, "silence")
    with pytest.raises(InputError, match=r"cannot write .*a\.mp3"):
        write_audio(tmp_path / "a.mp3", sound)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        render_file(SOFT, tmp_path / "file" / "a.wav")


# --- SoundFonts


def a_fluidsynth(log: list) -> types.ModuleType:
    """A stand-in for the package fluidsynth whose sound is silent until the first note, then 1e-6."""

    class Synth:
        synth = 1

        def __init__(self, **options):
            log.append(("made", options["samplerate"]))
            self.level = module.level = 0.0

        def sfload(self, path):
            return -1 if "bad" in path else 3

        def __getattr__(self, name):
            return lambda *arguments: log.append((name, *arguments))

        def noteon(self, *arguments):
            log.append(("noteon", *arguments))
            module.level = 1e-6

    def write_float(_synth, frames, left, _left_at, _left_step, right, _right_at, _right_step):
        for side in (left, right):
            values = ctypes.cast(side, ctypes.POINTER(ctypes.c_float))
            for i in range(frames):
                values[i] = module.level

    module = types.ModuleType("fluidsynth")
    module.Synth, module._fl = Synth, types.SimpleNamespace(fluid_synth_write_float=write_float)
    return module


@pytest.fixture
def soundfont(tmp_path):
    (tmp_path / "some.sf2").touch()
    return tmp_path / "some.sf2"


def test_a_soundfont_is_played_by_fluidsynth(monkeypatch, soundfont):
    """In floats: a sound of 1e-6 would be nothing in 16 bits."""
    log: list = []
    monkeypatch.setitem(sys.modules, "fluidsynth", a_fluidsynth(log))
    played = performance([(0.5, 0.5, 60, 80)], [(0.2, 3, SUSTAIN, 100)])
    sound = render(played, SoundOptions(11_025, soundfont=soundfont, normalise="none"))
    assert sound.engine == "FluidSynth with some.sf2"
    assert sound.seconds == pytest.approx(5.2)
    first = np.flatnonzero(sound.samples[:, 0])[0]
    assert first == round(0.5 * 11_025)
    assert sound.samples[first:] == pytest.approx(1e-6)
    events = [each for each in log if each[0] in ("noteon", "noteoff", "cc")]
    assert events == [("cc", 0, 64, 100), ("noteon", 0, 60, 80), ("noteoff", 0, 60), ("cc", 0, 64, 0)]


def test_a_pedal_that_is_never_lifted_does_not_lengthen_the_sound_of_a_soundfont(monkeypatch, soundfont):
    monkeypatch.setitem(sys.modules, "fluidsynth", a_fluidsynth([]))
    played = performance([(0, 0.5, 60, 80)], [(0.2, 36_000, SUSTAIN, 100)])
    assert render(played, SoundOptions(11_025, soundfont=soundfont)).seconds < 20


def test_a_file_that_is_no_soundfont(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fluidsynth", a_fluidsynth([]))
    (tmp_path / "bad.sf2").write_bytes(b"not a SoundFont")
    with pytest.raises(InputError, match="cannot read the SoundFont"):
        render(SOFT, SoundOptions(soundfont=tmp_path / "bad.sf2"))


def test_a_soundfont_without_fluidsynth(monkeypatch, soundfont):
    monkeypatch.setitem(sys.modules, "fluidsynth", None)
    with pytest.raises(MissingDependencyError, match=r"a SoundFont needs FluidSynth: pip install .\.\[audio\]"):
        render(SOFT, SoundOptions(soundfont=soundfont))

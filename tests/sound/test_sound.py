"""Sound: it follows pitch, velocity, register and pedals; files are complete or absent."""

import sys
import wave

import numpy as np
import pytest

from music_generator.errors import InputError, MissingDependencyError
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, SOSTENUTO, SUSTAIN, UNA_CORDA, Performance
from music_generator.sound import Sound, files, find_soundfont, fluidsynth, fluidsynth_available, render, write_audio
from music_generator.sound.dampers import damper_times

RATE = 22_050


def performance(notes, pedals=()) -> Performance:
    """Notes as (onset, duration, pitch, velocity), pedals as (onset, duration, pedal)."""
    presses = [(*press, 100) for press in pedals]
    return Performance(np.array(list(notes), NOTE_DTYPE), np.array(presses, PEDAL_DTYPE))


def builtin(notes, pedals=()) -> np.ndarray:
    return render(performance(notes, pedals), sample_rate=RATE, engine="builtin").samples


def loudness(samples: np.ndarray, start: float, end: float) -> float:
    """Root mean square between two seconds."""
    return float(np.sqrt(np.mean(np.square(samples[int(start * RATE) : int(end * RATE)], dtype=np.float64))))


# --- the built-in synthesiser


def test_shape_length_and_peak():
    sound = render(performance([(0, 1, 60, 80), (0.5, 1, 64, 30)]), sample_rate=RATE, engine="builtin")
    assert sound.samples.shape == (round(3.5 * RATE), 2)
    assert sound.samples.dtype == np.float32
    assert sound.seconds == pytest.approx(3.5)
    assert sound.engine == "built-in synthesiser"
    assert np.abs(sound.samples).max() == pytest.approx(0.89, abs=1e-4)


def test_the_same_performance_gives_the_same_sound():
    assert np.array_equal(builtin([(0, 1, 60, 80)]), builtin([(0, 1, 60, 80)]))


def test_empty_performance_is_short_silence():
    sound = render(Performance(), engine="builtin")
    assert 0 < sound.seconds < 5
    assert not sound.samples.any()


@pytest.mark.parametrize(("pitch", "hertz"), [(33, 55.0), (69, 440.0), (93, 1760.0)])
def test_pitch(pitch, hertz):
    mono = builtin([(0, 2, pitch, 60)])[: 2 * RATE].sum(axis=1)
    spectrum = np.abs(np.fft.rfft(mono * np.hanning(len(mono))))
    frequencies = np.fft.rfftfreq(len(mono), 1 / RATE)
    near = (frequencies > 0.8 * hertz) & (frequencies < 1.25 * hertz)
    assert frequencies[near][spectrum[near].argmax()] == pytest.approx(hertz, rel=0.01)
    assert spectrum[near].max() > 50 * np.median(spectrum)
    assert spectrum[near].max() > 10 * spectrum[frequencies < 0.7 * hertz].max()


def test_louder_and_brighter_with_velocity():
    samples = builtin([(0, 1, 60, 30), (3, 1, 60, 64), (6, 1, 60, 120)])
    soft, middle, loud = (loudness(samples, start, start + 1) for start in (0, 3, 6))
    assert loud > 1.5 * middle > 3 * soft

    def brightness(start: float) -> float:
        power = np.abs(np.fft.rfft(samples[int(start * RATE) : int((start + 1) * RATE)].sum(axis=1))) ** 2
        return float(power[np.fft.rfftfreq(RATE, 1 / RATE) > 1000].sum() / power.sum())

    assert brightness(6) > 2 * brightness(0)


def test_decays_faster_in_the_treble_and_never_grows():
    def left_after_a_second(pitch: int) -> float:
        samples = builtin([(0, 3, pitch, 80)])
        return loudness(samples, 1.0, 1.5) / loudness(samples, 0.05, 0.3)

    bass, middle, treble = (left_after_a_second(pitch) for pitch in (30, 60, 96))
    assert 1 > bass > 1.5 * middle > 3 * treble


def test_key_up_ends_the_note():
    samples = builtin([(0, 0.5, 60, 80), (5, 0.5, 60, 80)])
    assert loudness(samples, 2, 3) < 1e-3 * loudness(samples, 0, 0.5)


def test_sustain_pedal_holds_until_it_lifts():
    notes, pedals = [(0, 0.5, 60, 80), (5, 0.5, 60, 80)], [(0.2, 2.0, SUSTAIN)]
    dry, held = builtin(notes), builtin(notes, pedals)
    assert loudness(held, 1.5, 2.1) > 30 * loudness(dry, 1.5, 2.1)
    assert loudness(held, 3.5, 4) < 1e-2 * loudness(held, 1.5, 2.1)


def test_sustain_pressed_after_the_note_ended_does_not_revive_it():
    notes = [(0, 0.5, 60, 80), (5, 0.5, 60, 80)]
    assert np.array_equal(builtin(notes), builtin(notes, [(0.6, 2.0, SUSTAIN)]))


def test_sostenuto_holds_only_what_sounds_when_it_is_pressed():
    damped = damper_times(performance([(0, 1, 60, 80), (1, 0.5, 64, 80)], [(0.5, 3, SOSTENUTO)]))
    assert damped.tolist() == [3.5, 1.5]


def test_sustain_and_sostenuto_hand_over():
    pedals = [(0.5, 1.5, SUSTAIN), (1, 2, SOSTENUTO), (2.5, 2, SUSTAIN)]
    assert damper_times(performance([(0, 1, 60, 80)], pedals)).tolist() == [4.5]


def test_a_key_struck_again_stops_its_old_tone():
    damped = damper_times(performance([(0, 0.5, 60, 80), (0, 0.5, 64, 80), (1, 0.5, 60, 80)], [(0, 4, SUSTAIN)]))
    assert damped.tolist() == [1, 4, 4]


def test_the_highest_keys_have_no_dampers():
    assert damper_times(performance([(0, 0.1, 89, 80), (0, 0.1, 90, 80)])).tolist() == [0.1, np.inf]
    assert loudness(builtin([(0, 0.1, 91, 80)]), 0.3, 0.4) > 5 * loudness(builtin([(0, 0.1, 89, 80)]), 0.3, 0.4)


def test_una_corda_softens():
    samples = builtin([(0, 1, 60, 80), (3, 1, 60, 80)], [(2.9, 1, UNA_CORDA)])
    assert 0.2 < loudness(samples, 3, 4) / loudness(samples, 0, 1) < 0.8


def test_low_keys_lie_left_and_high_keys_right():
    left, right = np.abs(builtin([(0, 1, 24, 80)])).sum(axis=0)
    assert left > 1.2 * right
    left, right = np.abs(builtin([(0, 1, 104, 80)])).sum(axis=0)
    assert right > 1.2 * left


def test_all_keys_at_all_rates_are_finite():
    notes = [(0.05 * i, 0.1, pitch, 1 + i) for i, pitch in enumerate(range(21, 109))]
    for rate in (11_025, 48_000):
        samples = render(performance(notes), sample_rate=rate, engine="builtin").samples
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() == pytest.approx(0.89, abs=1e-4)


# --- choosing the engine


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"engine": "organ"}, "must be one of auto, fluidsynth, builtin, not 'organ'"),
        ({"sample_rate": 100}, "must be 11025 to 96000 Hz, not 100"),
        ({"engine": "builtin", "soundfont": "a.sf2"}, "only for FluidSynth"),
        ({"soundfont": "/nowhere/a.sf2"}, "/nowhere/a.sf2 does not exist"),
    ],
)
def test_wrong_options(options, text):
    with pytest.raises(InputError, match=text):
        render(Performance(), **options)


def test_auto_falls_back_and_a_named_engine_does_not(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fluidsynth", None)
    soundfont = tmp_path / "some.sf2"
    soundfont.touch()
    assert render(Performance()).engine == "built-in synthesiser"
    with pytest.raises(MissingDependencyError, match=r"in your clone of music-generator-rnn"):
        render(Performance(), engine="fluidsynth")
    with pytest.raises(MissingDependencyError, match="FluidSynth is not installed"):
        render(Performance(), soundfont=soundfont)


def test_without_a_soundfont(monkeypatch):
    monkeypatch.setattr(fluidsynth, "find_soundfont", lambda: None)
    monkeypatch.setattr(fluidsynth, "fluidsynth_available", lambda: True)
    assert render(Performance()).engine == "built-in synthesiser"
    with pytest.raises(MissingDependencyError, match="no SoundFont found"):
        render(Performance(), engine="fluidsynth")


def test_folders_of_soundfonts_that_may_not_be_read_are_passed_over(monkeypatch, tmp_path):
    class Unreadable(type(tmp_path)):
        def glob(self, _pattern):
            raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.delenv("SOUNDFONT", raising=False)
    monkeypatch.setattr(fluidsynth, "soundfont_folders", lambda: [Unreadable(tmp_path / "theirs"), tmp_path])
    (tmp_path / "Aardvark.sf2").touch()
    assert find_soundfont() == tmp_path / "Aardvark.sf2"


def test_a_user_without_a_home_has_folders_of_soundfonts(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("os.getuid", lambda: 12345, raising=False)
    assert fluidsynth.soundfont_folders()


def test_good_soundfonts_first(monkeypatch, tmp_path):
    monkeypatch.delenv("SOUNDFONT", raising=False)
    monkeypatch.setattr(fluidsynth, "soundfont_folders", lambda: [tmp_path / "missing", tmp_path])
    assert find_soundfont() is None
    for name in ("Aardvark.sf2", "FluidR3_GM.sf2", "MuseScore_General.sf3"):
        (tmp_path / name).touch()
    assert find_soundfont() == tmp_path / "MuseScore_General.sf3"
    monkeypatch.setenv("SOUNDFONT", str(tmp_path / "Aardvark.sf2"))
    assert find_soundfont() == tmp_path / "Aardvark.sf2"


needs_fluidsynth = pytest.mark.skipif(
    not fluidsynth_available() or find_soundfont() is None, reason="FluidSynth or a SoundFont is not installed"
)


@needs_fluidsynth
def test_fluidsynth_sounds_and_honours_the_pedal():
    notes = [(0, 0.5, 60, 80), (5, 0.5, 60, 80)]
    dry = render(performance(notes), sample_rate=RATE, engine="fluidsynth")
    held = render(performance(notes, [(0.2, 2.0, SUSTAIN)]), sample_rate=RATE)
    assert dry.engine == held.engine == f"FluidSynth with {find_soundfont().name}"
    assert dry.samples.shape == (round(7.5 * RATE), 2)
    assert np.abs(dry.samples).max() == pytest.approx(0.89, abs=1e-4)
    assert loudness(held.samples, 1.2, 2.0) > 3 * loudness(dry.samples, 1.2, 2.0)


@needs_fluidsynth
def test_fluidsynth_and_a_file_that_is_no_soundfont(tmp_path):
    (tmp_path / "bad.sf2").write_bytes(b"not a SoundFont")
    with pytest.raises(InputError, match="cannot read the SoundFont"):
        render(Performance(), soundfont=tmp_path / "bad.sf2")


# --- files


def a_sound(seconds: float = 1.0) -> Sound:
    wave_form = 0.5 * np.sin(np.arange(int(seconds * RATE)) * 2 * np.pi * 440 / RATE)
    return Sound(np.stack([wave_form, -wave_form], axis=1).astype(np.float32), RATE, "a sine")


def test_wav_can_be_read_again(tmp_path):
    sound = a_sound(2.5)
    write_audio(tmp_path / "new" / "a.WAV", sound)
    with wave.open(str(tmp_path / "new" / "a.WAV")) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 2, 2)
        frames = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)
    assert np.abs(frames / 32767 - sound.samples).max() < 1e-4
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.WAV"]


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_other_formats(tmp_path, suffix):
    soundfile = pytest.importorskip("soundfile")
    if suffix == ".mp3" and "MP3" not in soundfile.available_formats():
        pytest.skip("this libsndfile cannot write MP3")
    write_audio(tmp_path / f"a{suffix}", a_sound(2))
    info = soundfile.info(tmp_path / f"a{suffix}")
    assert (info.samplerate, info.channels) == (RATE, 2)
    assert info.duration == pytest.approx(2, abs=0.15)


def test_long_ogg(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    sound = Sound(np.zeros((44_100 * 101, 2), np.float32), 44_100, "silence")
    write_audio(tmp_path / "long.ogg", sound)
    assert soundfile.info(tmp_path / "long.ogg").duration == pytest.approx(101, abs=0.1)


def test_unknown_suffix(tmp_path):
    with pytest.raises(InputError, match=r"a\.aiff: the suffix must be one of \.wav, \.flac, \.ogg, \.mp3"):
        write_audio(tmp_path / "a.aiff", a_sound())


def test_without_soundfile(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "\.\[audio\]" in your clone'):
        write_audio(tmp_path / "a.ogg", a_sound())
    assert list(tmp_path.iterdir()) == []


def test_failure_leaves_the_old_file_and_no_part_of_the_new(monkeypatch, tmp_path):
    def full(path, _sound):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "a.wav").write_bytes(b"old")
    monkeypatch.setitem(files.WRITERS, ".wav", full)
    with pytest.raises(InputError, match=r"cannot write .*a\.wav: No space left on device"):
        write_audio(tmp_path / "a.wav", a_sound())
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_format_that_refuses_the_rate(tmp_path):
    pytest.importorskip("soundfile")
    sound = Sound(np.zeros((10, 2), np.float32), 191_999, "silence")
    with pytest.raises(InputError, match=r"cannot write .*a\.mp3"):
        write_audio(tmp_path / "a.mp3", sound)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write"):
        write_audio(tmp_path / "file" / "a.wav", a_sound())

"""MIDI files that no one should be given: whole ones made up here, then damaged in every way we could think of.

File `number` of a `seed` is always the same bytes, so that what was found can be had again. Every mutation takes bytes
and a generator and gives bytes; `test_stress.py` runs a few hundred of them, `midi.py` as many as asked.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from music_generator.music.midi import write_midi
from music_generator.music.performance import NOTE_DTYPE, PEDAL_DTYPE, Performance
from music_generator.music.tempo_map import TempoMap

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]

HEAVY_EVERY = 400  # one file in so many is a large one, which takes a second or more


# --- whole files


def made_up(seed: int, notes: int, tempo_map: TempoMap | None = None) -> Performance:
    """`notes` notes about ten a second, with a pedal press a second."""
    random = np.random.default_rng(seed)
    made = np.empty(notes, NOTE_DTYPE)
    made["onset"] = np.cumsum(random.choice([0.0, 0.05, 0.1, 0.25], notes))
    made["duration"] = random.uniform(0.02, 1.0, notes)
    made["pitch"], made["velocity"] = random.integers(21, 109, notes), random.integers(1, 128, notes)
    pedals = np.empty(notes // 10, PEDAL_DTYPE)
    pedals["onset"], pedals["duration"] = np.arange(notes // 10), 0.8
    pedals["pedal"], pedals["depth"] = random.integers(0, 3, len(pedals)), random.integers(64, 128, len(pedals))
    return Performance(made, pedals, tempo_map or TempoMap())


def chunk(name: bytes, data: bytes, length: int | None = None) -> bytes:
    """A chunk of a MIDI file, with a length of its own if one is given."""
    return name + (len(data) if length is None else length).to_bytes(4, "big") + data


def midi_file(*tracks: bytes, form: int = 1, division: int = 480) -> bytes:
    """A MIDI file of these events; each track is ended."""
    numbers = (form, len(tracks), division)
    header = chunk(b"MThd", b"".join(number.to_bytes(2, "big") for number in numbers))
    return header + b"".join(chunk(b"MTrk", events + END_OF_TRACK) for events in tracks)


def variable_length(value: int) -> bytes:
    """A number as MIDI writes it: seven bits a byte, the last below 128."""
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(value & 0x7F | 0x80)
    return bytes(reversed(groups))


END_OF_TRACK = bytes.fromhex("00 ff2f00")
TEMPO = bytes.fromhex("00 ff5103 07a120")
SIGNATURE = bytes.fromhex("00 ff5804 06031808")
TEXT = bytes.fromhex("00 ff0304") + b"name"
EXCLUSIVE = bytes.fromhex("00 f0 05 7e7f0901f7")
NOTE = bytes.fromhex("00 90 3c40 60 80 3c40")
RUNNING = bytes.fromhex("00 90 3c40 10 4050 60 3c00 00 4000")  # running status, velocity 0 as the release
DRUM = bytes.fromhex("00 99 2440 60 89 2400")
PEDAL = bytes.fromhex("00 b0 407f 60 b0 4000 00 b1 437f 30 b1 4300")
PROGRAM = bytes.fromhex("00 c0 05 00 e0 0040 00 d0 20")
PIECES_OF_TRACKS = (TEMPO, SIGNATURE, TEXT, EXCLUSIVE, NOTE, RUNNING, DRUM, PEDAL, PROGRAM)


@cache
def whole_files() -> tuple[bytes, ...]:
    """Good files of several kinds: what the mutations begin with."""
    slow = TempoMap(96, ((0, 600_000), (960, 300_000), (2000, 1_200_000)), ((0, 3, 4), (960, 7, 8)))
    return (
        write_midi(made_up(0, 60)),
        write_midi(made_up(1, 300)),
        write_midi(made_up(2, 40, slow)),
        write_midi(Performance()),
        midi_file(TEMPO + SIGNATURE + TEXT, PEDAL + NOTE * 4 + DRUM, RUNNING * 3 + PROGRAM, PEDAL),
        midi_file(TEMPO + TEXT + PROGRAM + NOTE + EXCLUSIVE + PEDAL + RUNNING, form=0, division=96),
    )


# --- mutations: damage


def flipped(data: bytes, random: Random) -> bytes:
    """One bit to 32 the other way round, most often a few."""
    changed = bytearray(data)
    for at in random.integers(0, len(data), 1 << int(random.choice(6, p=[0.4, 0.2, 0.2, 0.1, 0.05, 0.05]))):
        changed[at] ^= 1 << int(random.integers(8))
    return bytes(changed)


def other_values(data: bytes, random: Random) -> bytes:
    """Data bytes in place of data bytes, so that the file stays whole and only what it says is strange."""
    changed = bytearray(data)
    for at in random.integers(min(22, len(data) - 1), len(data), random.integers(1, 17)):
        if changed[at] < 0x80:
            changed[at] = (0, 0x7F, int(random.integers(0x80)))[random.integers(3)]
    return bytes(changed)


def overwritten(data: bytes, random: Random) -> bytes:
    """A run of bytes in place of others: zeros, ones, or anything."""
    changed, at = bytearray(data), int(random.integers(len(data)))
    size = int(random.integers(1, 65))
    changed[at : at + size] = (bytes(size), b"\xff" * size, random.bytes(size))[random.integers(3)]
    return bytes(changed)


def truncated(data: bytes, random: Random) -> bytes:
    """Cut off anywhere."""
    return data[: random.integers(len(data))]


def without_some(data: bytes, random: Random) -> bytes:
    """A few bytes fewer, so that all that follows is read one step aside."""
    at = int(random.integers(len(data)))
    return data[:at] + data[at + int(random.integers(1, 9)) :]


def spliced(data: bytes, random: Random) -> bytes:
    """The beginning of one file, then another's from anywhere on."""
    other = whole_files()[random.integers(len(whole_files()))]
    return data[: random.integers(len(data))] + other[random.integers(len(other)) :]


def with_chunk(data: bytes, random: Random) -> bytes:
    """A chunk put in between chunks or anywhere: another header, a foreign one, a track of nonsense."""
    name = (b"MThd", b"MTrk", b"XFIH", b"RIFF")[random.integers(4)]
    length = None if random.random() < 0.5 else int(random.integers(1 << 32))
    at = 14 if random.random() < 0.5 else int(random.integers(len(data)))
    return data[:at] + chunk(name, random.bytes(random.integers(64)), length) + data[at:]


# --- mutations: numbers that no file has


def absurd_length(data: bytes, random: Random) -> bytes:
    """A chunk that says it is of another length, the header's among them."""
    starts = [at for at in range(len(data) - 8) if data[at : at + 4] in (b"MThd", b"MTrk")]
    at = starts[random.integers(len(starts))] + 4
    length = (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, int(random.integers(1 << 32)))[random.integers(6)]
    return data[:at] + length.to_bytes(4, "big") + data[at + 4 :]


def absurd_tempo(_: bytes, random: Random) -> bytes:
    """Tempi of 0, of 1 and of 16,777,215 microseconds a quarter, of 0 to 4 bytes, at one tick or far apart."""
    events = b""
    for _tempo in range(random.integers(1, 6)):
        tempo = (0, 1, (1 << 24) - 1, int(random.integers(1 << 24)))[random.integers(4)].to_bytes(3, "big")
        size = 3 if random.random() < 0.8 else int(random.integers(5))
        events += variable_length(absurd_delta(random)) + b"\xff\x51" + bytes([size]) + (tempo + b"\0")[:size]
    return midi_file(
        events, NOTE * 3 + PEDAL + variable_length(absurd_delta(random)) + NOTE[1:], division=any_division(random)
    )


def absurd_delta(random: Random) -> int:
    """Ticks between two events: none, few, or as many as four bytes hold."""
    return (0, 1, 480, 1 << 20, (1 << 28) - 1, int(random.integers(1 << 28)))[random.integers(6)]


def any_division(random: Random) -> int:
    """Ticks a quarter note, from the fewest to the most."""
    return (1, 2, 480, 32_767, int(random.integers(1, 32_768)))[random.integers(5)]


def absurd_times(_: bytes, random: Random) -> bytes:
    """Waits of up to 2^28 ticks between events, longer together than can be counted; some are five bytes long."""
    events = b""
    for part in range(random.integers(2, 30)):
        wait = b"\xff\xff\xff\xff\x7f" if random.random() < 0.05 else variable_length(absurd_delta(random))
        event = (NOTE[1:], PEDAL[1:], b"\x90\x3c\x40", b"\xb0\x40\x7f", SIGNATURE[1:])[random.integers(5)]
        events += wait + event
        events += b"" if part % 3 else variable_length(absurd_delta(random)) + b"\x80\x3c\x40"
    return midi_file(events, division=any_division(random))


def other_division(data: bytes, random: Random) -> bytes:
    """Division 0, SMPTE frames, or any other; sometimes another form and number of tracks too."""
    smpte = (256 - int((24, 25, 29, 30)[random.integers(4)])) << 8 | int(random.integers(256))
    division = (0, smpte, 0x8000, 0xFFFF, any_division(random))[random.integers(5)]
    changed = data[:12] + division.to_bytes(2, "big") + data[14:]
    if random.random() < 0.3:
        changed = changed[:8] + int(random.integers(4)).to_bytes(2, "big") + changed[10:]
    if random.random() < 0.3:
        changed = changed[:10] + int((0, 1, 2, 65_535)[random.integers(4)]).to_bytes(2, "big") + changed[12:]
    return changed


def unterminated(_: bytes, random: Random) -> bytes:
    """Notes and pedals that are pressed and never released, or released and never pressed, without an end of track."""
    events = b""
    for _event in range(random.integers(1, 200)):
        status = int((0x90, 0x80, 0xB0)[random.choice(3, p=[0.6, 0.2, 0.2])]) | int(random.integers(16))
        key = int((64, 66, 67)[random.integers(3)]) if status & 0xF0 == 0xB0 else int(random.integers(128))
        events += variable_length(int(random.integers(200))) + bytes([status, key, random.integers(128)])
    whole = midi_file(events, form=int(random.integers(2)))
    return whole if random.random() < 0.5 else whole[: -len(END_OF_TRACK)]


def shuffled_events(_: bytes, random: Random) -> bytes:
    """Tracks of whole events and cut ones in any order; data bytes where a status should be."""
    tracks = []
    for _track in range(random.integers(0, 5)):
        pieces = [PIECES_OF_TRACKS[i] for i in random.integers(0, len(PIECES_OF_TRACKS), random.integers(0, 20))]
        pieces = [piece[: random.integers(len(piece))] if random.random() < 0.1 else piece for piece in pieces]
        tracks.append(b"".join(pieces))
    return midi_file(*tracks, form=int(random.integers(3)))


def long_event(data: bytes, random: Random) -> bytes:
    """A text or exclusive event that says it is longer than its file."""
    kind = (b"\xff\x01", b"\xff\x51", b"\xff\x2f", b"\xf0", b"\xf7")[random.integers(5)]
    event = b"\0" + kind + variable_length(absurd_delta(random)) + b"text"
    return midi_file(NOTE + event + PEDAL) if random.random() < 0.7 else data[:22] + event + data[22:]


def no_midi(_: bytes, random: Random) -> bytes:
    """Bytes of any kind, some with MIDI's first four."""
    return (b"" if random.random() < 0.5 else b"MThd") + random.bytes(random.integers(200))


DAMAGE: tuple[Mutation, ...] = (
    flipped, other_values, overwritten, truncated, without_some, spliced, with_chunk, absurd_length, absurd_tempo,
    absurd_times, other_division, unterminated, shuffled_events, long_event, no_midi,
)  # fmt: skip


# --- mutations: a million of something


def notes_at_one_tick(random: Random, count: int) -> bytes:
    """Notes that are all struck at tick 0, and released at once or never."""
    struck = np.empty((count, 4), np.uint8)
    struck[:, 0], struck[:, 1], struck[:, 3] = 0, 0x90, 64
    struck[:, 2] = 60 if random.random() < 0.3 else random.integers(21, 109, count)
    released = struck.copy()
    released[:, 1] = 0x80
    return midi_file(struck.tobytes() + (b"\x60" + released.tobytes()[1:] if random.random() < 0.7 else b""))


def notes_in_a_row(random: Random, count: int) -> bytes:
    """A file of `count` notes, one a tick."""
    notes = np.empty((count, 8), np.uint8)
    notes[:] = np.frombuffer(bytes.fromhex("00 90 3c40 01 80 3c40"), np.uint8)
    notes[:, [2, 6]] = random.integers(21, 109, count)[:, None]
    return midi_file(notes.tobytes())


def pedals_without_number(random: Random, count: int) -> bytes:
    """`count` controller messages in tracks with notes and without, each pressing or releasing."""
    messages = np.empty((count, 4), np.uint8)
    messages[:, 0], messages[:, 1], messages[:, 2] = random.integers(0, 2), 0xB0, 64
    messages[:, 3] = np.resize([127, 0], count)
    if random.random() < 0.5:
        messages[:, 2] = random.choice([64, 66, 67], count)
    if random.random() < 0.3:  # as small as they get
        return midi_file(bytes.fromhex("00 b0 407f") + bytes.fromhex("01 4000 01 407f") * (count * 5 // 4), NOTE)
    halves = np.array_split(messages, 2)
    return midi_file(*(NOTE * int(random.integers(2)) + half.tobytes() for half in halves), NOTE)


def tempi_without_number(random: Random, count: int) -> bytes:
    """A tempo change and a time signature at each of `count` ticks."""
    each = np.frombuffer(b"\x01" + TEMPO[1:] + SIGNATURE, np.uint8)
    events = np.tile(each, (count // 2, 1))
    events[:, 5:7] = random.integers(0, 256, (len(events), 2))
    return midi_file(events.tobytes(), NOTE)


def tracks_without_number(random: Random, count: int) -> bytes:
    """As many tracks as a header can announce, or as many as are read with sixteen channels each."""
    if random.random() < 0.5:
        return midi_file(*[NOTE if random.random() < 0.5 else PEDAL] * min(count, 65_534))
    channels = b"".join(bytes([0, 0x90 | i, 60, 64, 1, 0x80 | i, 60, 64, 0, 0xB0 | i, 64, 127]) for i in range(16))
    return midi_file(*[channels] * min(count // 16, 1000))


def programs_without_number(random: Random, count: int) -> bytes:
    """Each note on another program, in many tracks: the MIDI library makes a track of each."""
    programs = range(2048)  # 128 in each of 16 channels
    notes = (bytes([0, 0xC0 | i & 15, i >> 4, 0, 0x90 | i & 15, 60, 64, 1, 0x80 | i & 15, 60, 64]) for i in programs)
    return midi_file(*[b"".join(notes)] * (2 if random.random() < 0.5 else max(1, count // 3000)))


def texts_without_number(random: Random, count: int) -> bytes:
    """Empty texts and exclusive messages."""
    return midi_file((TEXT if random.random() < 0.5 else EXCLUSIVE) * count, NOTE)


HEAVY = (
    notes_at_one_tick, notes_in_a_row, pedals_without_number, tempi_without_number, tracks_without_number,
    programs_without_number, texts_without_number,
)  # fmt: skip


def mutated(number: int, seed: int = 0, *, million: int = 1_000_000) -> tuple[str, bytes]:
    """File `number`: what was done to it, and its bytes. Every `HEAVY_EVERY`th holds `million` events of one kind."""
    random = np.random.default_rng([seed, number])
    if number % HEAVY_EVERY == HEAVY_EVERY - 1:
        heavy = HEAVY[number // HEAVY_EVERY % len(HEAVY)]
        return heavy.__name__, heavy(random, million)
    data = whole_files()[random.integers(len(whole_files()))]
    names = []
    for _ in range(1 if random.random() < 0.7 else int(random.integers(2, 4))):
        mutation = DAMAGE[(number + len(names)) % len(DAMAGE)] if not names else DAMAGE[random.integers(7)]
        if data:
            data = mutation(data, random)
        names.append(mutation.__name__)
    return " + ".join(names), data

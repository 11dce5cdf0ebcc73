"""The command line: the only place that prints and exits. Results on stdout, progress on stderr."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from music_generator.errors import InputError, MusicGeneratorError
from music_generator.files import replacing
from music_generator.parallel import read_shard

if TYPE_CHECKING:
    from music_generator.data.prepare import Prepared
    from music_generator.generation import Generated, SamplingOptions, Span
    from music_generator.music.features import Distributions
    from music_generator.music.performance import Performance

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Piano performances composed, continued and infilled by a bidirectional LSTM trained on MAESTRO.",
)  # fmt: skip

# options that several commands share
# what may not be read is told by what reads it, in one line as everything else: hence `readable=False`
Model = Annotated[
    Path | None, typer.Option("--model", readable=False, help="a model bundle; the bundled one if not given")
]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
Out = Annotated[Path, typer.Option("--out", "-o", help="folder for the results")]
Temperature = Annotated[float | None, typer.Option(help="above 1 wilder, below 1 calmer  [default: 0.97]")]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", help="keep the likeliest keys and velocities up to this share  [default: 0.92]"),
]
Seed = Annotated[int | None, typer.Option(help="gives the same music again; a new one each time if not given")]
Composer = Annotated[str | None, typer.Option(help="a composer of the training data, or part of the name")]
Variations = Annotated[int, typer.Option("--variations", "--count", help="how many; their seeds follow one another")]
Shard = Annotated[str | None, typer.Option(help="I/N: only every N-th of them, from the I-th on")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="with --shard: write anew what is there already")]
Jobs = Annotated[int, typer.Option(help="processes that write them")]
NoAudio = Annotated[bool, typer.Option("--no-audio", help="write no sound")]
NoPlots = Annotated[bool, typer.Option("--no-plots", help="draw no pictures")]
Format = Annotated[str, typer.Option("--format", help="of the sound: wav, flac, ogg or mp3")]
SoundFont = Annotated[Path | None, typer.Option(help="a SoundFont to play with FluidSynth")]


# So long another process than a host's first keeps what went wrong to itself: where all fail alike, the launcher ends
# it before, and the line is said once.
ALONE_SECONDS = 10.0

# which extra brings a library that a command may miss
_EXTRAS = {"torch": "train", "accelerate": "train", "onnx": "train", "soundfile": "audio", "starlette": "studio",
           "uvicorn": "studio"}  # fmt: skip


def main() -> None:
    """Run the command line; an error the user can mend is one line on stderr and exit code 2."""
    try:
        app()
    except MusicGeneratorError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(ALONE_SECONDS)
        sys.exit(_fail(str(error)))
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if not extra:
            raise
        sys.exit(_fail(f'{error.name} is not installed; install it with: pip install "music-generator-rnn[{extra}]"'))
    except OSError as error:  # a full disk, a folder that may not be read
        sys.exit(_fail(f"{error.filename or 'a file'}: {error.strerror or error}"))


def _fail(text: str) -> int:
    print(f"music-generator: {' '.join(text.split())}", file=sys.stderr)
    return 2


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr while something goes on, where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@app.command(epilog="Example: music-generator generate --seconds 60 --composer chopin --seed 7 --out music")
def generate(
    primer: Annotated[Path | None, typer.Option(readable=False, help="a MIDI file to continue")] = None,
    from_: Annotated[float | None, typer.Option("--from", help="second of the primer to write on from")] = None,
    to: Annotated[float | None, typer.Option(help="second of the primer up to which to write anew")] = None,
    future: Annotated[Path | None, typer.Option(readable=False, help="a MIDI file to lead into")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="length of the new music  [default: 60, into a future 8]")
    ] = None,
    notes: Annotated[int | None, typer.Option(help="stop after this many new notes")] = None,
    composer: Composer = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    variations: Variations = 1,
    shard: Shard = None,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    out: Out = Path("music"),
    no_audio: NoAudio = False,
    no_plots: NoPlots = False,
    format: Format = "wav",
    soundfont: SoundFont = None,
    model: Model = None,
    json_: Json = False,
) -> None:
    """Compose a piece, continue a primer, lead into a future, bridge the two, or fill a gap (--from --to)."""
    from music_generator.generation import tasks
    from music_generator.generation.span import LONGEST_SECONDS

    past = _read(primer) if primer else None
    ahead = _read(future) if future else None
    if past is None and (from_ is not None or to is not None):
        raise InputError("`--from` and `--to` are seconds of a primer: give one with `--primer`")
    if to is not None and ahead is not None:
        raise InputError("`--to` fills a gap in the primer, `--future` leads into another piece: give one of them")
    if ahead is not None and notes is not None:
        raise InputError("`--notes` has no future to keep to: into a `--future` give the length with `--seconds`")
    if to is not None and (seconds is not None or notes is not None):
        raise InputError("a gap's length is given by `--from` and `--to`: leave `--seconds` and `--notes` out")
    # a number of notes asked for is given, however long they take
    long = seconds if seconds is not None else tasks.PIECE_SECONDS if notes is None else LONGEST_SECONDS / 2
    join = tasks.JOIN_SECONDS if seconds is None else seconds
    if past is not None and to is not None:
        name, span = "infill", tasks.to_infill(past, from_ or 0.0, to)
    elif past is not None and ahead is not None:
        before = past if from_ is None else past.between(0, from_)
        name, span = "bridge", tasks.to_bridge(before, ahead, join)
    elif past is not None:
        name, span = "continue", tasks.to_continue(past, long, start=from_, notes=notes)
    elif ahead is not None:
        name, span = "lead-in", tasks.to_lead_in(ahead, join)
    else:
        name, span = "compose", tasks.to_compose(long, notes=notes)
    results = _Results(name, out, no_audio, no_plots, format, soundfont, json_)
    pieces = _seeded(_sampling(temperature, top_p, seed, composer), variations, shard)
    _make(span, pieces, model, results, jobs, goes_on=shard is not None, overwrite=overwrite)


@app.command(epilog="Example: music-generator infill piece.mid --from 12.0 --to 18.5 --variations 4")
def infill(
    piece: Annotated[Path, typer.Argument(readable=False, help="a MIDI file")],
    from_: Annotated[float, typer.Option("--from", help="second at which the gap begins")],
    to: Annotated[float, typer.Option(help="second at which it ends")],
    composer: Composer = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Seed = None,
    variations: Variations = 1,
    shard: Shard = None,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    out: Out = Path("music"),
    no_audio: NoAudio = False,
    no_plots: NoPlots = False,
    format: Format = "wav",
    soundfont: SoundFont = None,
    model: Model = None,
    json_: Json = False,
) -> None:
    """Write a span of a piece anew so that what is before and after it fits; the rest stays as it is."""
    from music_generator.generation import tasks

    span = tasks.to_infill(_read(piece), from_, to)
    results = _Results("infill", out, no_audio, no_plots, format, soundfont, json_)
    pieces = _seeded(_sampling(temperature, top_p, seed, composer), variations, shard)
    _make(span, pieces, model, results, jobs, goes_on=shard is not None, overwrite=overwrite)


class _Results:
    """Where and how the results of a generation are left."""

    def __init__(
        self, name: str, out: Path, no_audio: bool, no_plots: bool, format: str, soundfont: Path | None, as_json: bool
    ) -> None:
        from music_generator.sound import FORMATS

        if format not in FORMATS:
            raise InputError(f"`--format` must be one of {', '.join(FORMATS)}, not {format!r}")
        if out.exists() and not out.is_dir():
            raise InputError(f"cannot write into {out}: it is a file, not a folder")
        if soundfont is not None and not soundfont.is_file():
            raise InputError(f"the SoundFont {soundfont} does not exist; name a .sf2 or .sf3 file")
        self.name, self.out, self.audio, self.plots, self.as_json = name, out, not no_audio, not no_plots, as_json
        self.format, self.soundfont = format, soundfont

    def files(self, seed: int) -> list[Path]:
        """What `leave` writes of the piece of a seed."""
        ends = [".mid", *[f".{self.format}"] * self.audio, *[".png", "-distributions.png"] * self.plots]
        return [self.out / f"{self.name}-seed{seed}{end}" for end in ends]

    def leave(self, made: Generated, reference: Distributions) -> str:
        """Write the MIDI, the sound and the pictures of one piece; the line that says how it came about."""
        from music_generator.music.midi import write_midi

        stem = self.out / f"{self.name}-seed{made.seed}"
        files = [stem.with_name(stem.name + ".mid")]
        write_midi(made.performance, files[0])
        engine = None
        if self.audio:
            files.append(stem.with_name(f"{stem.name}.{self.format}"))
            engine = _render(made.performance, files[-1], self.soundfont)
        if self.plots:
            files += _draw(stem, made, reference)
        notes = len(made.written)
        if self.as_json:
            facts = {"files": [str(file) for file in files], "seed": made.seed, "notes": notes, "tokens": made.tokens}
            facts |= {
                "start": made.start,
                "end": made.end,
                "seconds_taken": round(made.seconds_taken, 4),
                "sound": engine,
            }
            return json.dumps(facts)
        length = max(made.written.end - made.start, 0.0)
        return (
            f"{files[0]}: {notes} new notes, {length:.0f} s of music in {made.seconds_taken:.2f} s "
            f"({length / max(made.seconds_taken, 1e-9):.0f} times real time, {made.tokens_per_second:.0f} tokens/s), "
            f"seed {made.seed}{f'; sound: {engine}' if engine else ''}"
        )


def _seeded(options: SamplingOptions, count: int, shard: str | None) -> list[SamplingOptions]:
    """The options of each piece of a shard: which piece a seed gives does not depend on the others."""
    from music_generator.generation import variations

    every = variations(options, count)
    if shard is None:
        return every
    mine = read_shard(shard)
    if options.seed is None:
        raise InputError("`--shard` needs a `--seed`: the shards count their seeds from it")
    return list(mine.of(every))


def _unwritten(
    span: Span, pieces: list[SamplingOptions], model: Path | None, results: _Results, overwrite: bool
) -> list[SamplingOptions]:
    """Those of a shard's pieces that are not there whole, as of a run that was killed; all with `overwrite`.

    A file is renamed into place when it is finished, so whatever is there is whole. What was asked for is kept beside
    the pieces, so that those of another request are never taken for these: that raises `InputError`.
    """
    if not pieces:
        return []
    there = [piece for piece in pieces if all(file.exists() for file in results.files(piece.seed or 0))]
    kept, asked = results.out / f"{results.name}-request.json", _request(span, pieces[0], model)
    if kept.exists():
        _check_same_request(kept, asked)
    elif there and not overwrite:
        name = results.files(there[0].seed or 0)[0].name
        raise InputError(
            f"{results.out}: holds {name}, written by another command; name another folder with `--out`, or write it "
            "anew with `--overwrite`"
        )
    with replacing(kept) as beside:
        beside.write_text(json.dumps(asked, ensure_ascii=False, indent=1), "utf-8")
    if there and not overwrite:
        _say(f"{len(there)} of {len(pieces)} pieces are there already and stay; --overwrite writes them anew")
        done = {piece.seed for piece in there}
        return [piece for piece in pieces if piece.seed not in done]
    return pieces


def _request(span: Span, options: SamplingOptions, model: Path | None) -> dict[str, Any]:
    """All that the music of a seed depends on: options, span, what is given before and after it, the model."""
    from music_generator.model.bundle import FACTS_FILE, PRETRAINED, open_bundle

    bundle = open_bundle(model or PRETRAINED)
    facts = {name: value for name, value in asdict(options).items() if name != "seed"}
    facts |= {"start": span.start, "end": span.end, "notes": span.notes}
    for name, given in (("past", span.past), ("future", span.future)):
        data = given.notes.tobytes() + given.pedals.tobytes() + repr(given.tempo_map).encode()
        facts[name] = hashlib.sha256(data).hexdigest()
    return facts | {"model": hashlib.sha256((bundle.folder / FACTS_FILE).read_bytes()).hexdigest()}


def _check_same_request(kept: Path, asked: dict[str, Any]) -> None:
    try:
        before = json.loads(kept.read_text("utf-8"))
        others = [name for name in asked if before[name] != asked[name]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{kept} is damaged ({error}); delete it, or name another folder with `--out`") from error
    if others:
        raise InputError(
            f"{kept.parent}: holds pieces that differ in {', '.join(others)} from those asked for; name another folder "
            "with `--out`"
        )


def _make(
    span: Span,
    pieces: list[SamplingOptions],
    model: Path | None,
    results: _Results,
    jobs: int,
    *,
    goes_on: bool,
    overwrite: bool,
) -> None:
    """Write the pieces and say so, in order; one that `goes_on` leaves those that are there, but to `overwrite`."""
    from music_generator.generation import tasks

    if jobs < 1:
        raise InputError(f"`--jobs` must be at least 1, not {jobs}")
    if goes_on:
        pieces = _unwritten(span, pieces, model, results, overwrite)
    with _progress(results.name) as progress:
        lines: Iterable[str]
        if jobs == 1 or len(pieces) <= 1:
            lines = _written(span, pieces, model, results)
        else:
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context

            from music_generator.parallel import end_with_parent

            size = min(tasks.BATCH, -(-len(pieces) // jobs))
            pool = ProcessPoolExecutor(jobs, get_context("spawn"), initializer=end_with_parent)
            parts = [pieces[first : first + size] for first in range(0, len(pieces), size)]
            futures = [pool.submit(_list_written, span, part, model, results) for part in parts]
            lines = (line for future in futures for line in future.result())
        for done, line in enumerate(lines, 1):
            print(line, flush=True)
            progress(done, len(pieces))


def _list_written(*arguments: Any) -> list[str]:
    """`_written` in a process of its own."""
    return list(_written(*arguments))


def _written(span: Span, pieces: list[SamplingOptions], model: Path | None, results: _Results) -> Iterator[str]:
    from music_generator.engine.engine import Engine
    from music_generator.generation import generate_many
    from music_generator.model.bundle import PRETRAINED, open_bundle

    bundle = open_bundle(model or PRETRAINED)
    for made in generate_many(Engine(bundle), [(span, each) for each in pieces]):
        yield results.leave(made, bundle.reference)


def _sampling(
    temperature: float | None, top_p: float | None, seed: int | None, composer: str | None
) -> SamplingOptions:
    from music_generator.generation import SamplingOptions

    given = {"temperature": temperature, "top_p": top_p, "seed": seed, "composer": composer}
    return replace(SamplingOptions(), **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]


def _read(path: Path) -> Performance:
    from music_generator.music.midi import read_midi

    reading = read_midi(path)
    if reading.left_out:
        _say(f"{path}: {reading.left_out}")
    return reading.performance


def _render(performance: Performance, path: Path, soundfont: Path | None) -> str:
    from music_generator import sound

    rendered = sound.render(performance, soundfont=soundfont)
    sound.write_audio(path, rendered)
    return rendered.engine


def _draw(stem: Path, made: Generated, reference: Distributions) -> list[Path]:
    from music_generator import plots
    from music_generator.music.features import distributions

    files = [stem.with_name(f"{stem.name}{kind}.png") for kind in ("", "-distributions")]
    plots.save(plots.piano_roll(made.performance, generated=(made.start, made.end), title=stem.name), files[0])
    plots.save(plots.distributions(distributions([made.written]), reference), files[1])
    return files


@app.command(epilog="Example: music-generator render piece.mid --format flac")
def render(
    piece: Annotated[Path, typer.Argument(readable=False, help="a MIDI file")],
    format: Format = "wav",
    soundfont: SoundFont = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="the sound file; beside the piece if not given")
    ] = None,
) -> None:
    """Play a MIDI file into a sound file."""
    path = out or piece.with_suffix(f".{format}")
    begun = time.perf_counter()
    engine = _render(_read(piece), path, soundfont)
    print(f"{path}: {engine}, {time.perf_counter() - begun:.1f} s")


@app.command(epilog="Example: music-generator plot piece.mid; music-generator plot runs/mine")
def plot(
    what: Annotated[Path, typer.Argument(readable=False, help="a MIDI file or a training run")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="the picture: .png, .svg or .pdf")] = None,
) -> None:
    """Draw a MIDI file's piano roll and distributions, or a run's loss curves."""
    from music_generator import plots
    from music_generator.music.features import distributions

    if what.is_dir():
        path = out or what / "loss.png"
        plots.save(plots.loss_curves(plots.read_history(what / "history.csv"), title=what.name), path)
        print(path)
        return
    performance = _read(what)
    path = out or what.with_suffix(".png")
    plots.save(plots.piano_roll(performance, title=what.stem), path)
    second = path.with_name(f"{path.stem}-distributions{path.suffix}")
    plots.save(plots.distributions(distributions([performance]), None), second)
    print(path, second, sep="\n")


@app.command(epilog="Example: music-generator info piece.mid; music-generator info runs/mine/model --json")
def info(
    what: Annotated[
        Path | None, typer.Argument(readable=False, help="a MIDI file, corpus, model or run; the bundled model if none")
    ] = None,
    json_: Json = False,
) -> None:
    """Say what a MIDI file, a prepared corpus, a model or a training run holds."""
    from music_generator.describe import describe
    from music_generator.model.bundle import PRETRAINED

    facts = describe(what or PRETRAINED)
    if json_:
        print(json.dumps(facts, ensure_ascii=False))
        return
    for name, value in facts.items():
        print(f"{name}: {json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value}")


@app.command(epilog="Example: music-generator prepare maestro --out corpus/maestro; music-generator prepare my-midi")
def prepare(
    source: Annotated[str, typer.Argument(help="`maestro` to download it, or a folder of MIDI files")],
    from_: Annotated[Path | None, typer.Option("--from", readable=False, help="where MAESTRO is already")] = None,
    release: Annotated[str, typer.Option("--release", help="of MAESTRO: 1.0.0, 2.0.0 or 3.0.0")] = "3.0.0",
    with_audio: Annotated[
        bool, typer.Option("--with-audio", help="download the archive with WAV (over 80 GB)")
    ] = False,
    downloads: Annotated[Path, typer.Option(help="folder for downloads")] = Path("downloads"),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="the corpus; in corpus/ if not given")] = None,
    jobs: Annotated[int | None, typer.Option(help="processes; as many as processors if not given")] = None,
    shard: Shard = None,
) -> None:
    """Make a corpus to train on from MAESTRO or from any folder of MIDI files; or a shard of it, for `merge`."""
    from music_generator.data import maestro
    from music_generator.data.prepare import prepare as prepare_corpus

    mine = None if shard is None else read_shard(shard)
    folder = Path(source)
    if source == "maestro":
        folder = from_ or _download(release, downloads, with_audio)
    elif from_ is not None:
        raise InputError("`--from` goes with `prepare maestro`; for another folder give the folder alone")
    begun = time.perf_counter()
    if source == "maestro" and not maestro.is_maestro(folder):
        raise InputError(f"{folder}: no MAESTRO metadata (maestro-v*.csv or .json) in it")
    out = out or Path("corpus") / folder.resolve().name
    with _progress("preparing") as progress:
        made = prepare_corpus(folder, out, shard=mine, jobs=jobs, progress=progress)
    for file in made.skipped:
        _say(f"skipped {file.path}: {file.reason}")
    if mine is None or mine.index == 1:
        _report_maestro(folder)
    if mine is None:
        _print_splits(made)
    _print_prepared(made, begun)


@app.command(epilog="Example: music-generator merge corpus/maestro")
def merge(corpus: Annotated[Path, typer.Argument(help="the folder that was given to every `prepare --shard`")]) -> None:
    """Make one corpus of its shards, the same bytes as if it had been prepared at once."""
    from music_generator.data.merge import merge as merge_shards

    begun = time.perf_counter()
    made = merge_shards(corpus)
    _print_splits(made)
    _print_prepared(made, begun)


def _print_splits(made: Prepared) -> None:
    for name, size in made.splits.items():
        print(f"{name}: {size.pieces} pieces, {size.notes:,} notes, {size.rows:,} rows")


def _print_prepared(made: Prepared, begun: float) -> None:
    seconds = time.perf_counter() - begun
    print(f"{made.folder}: {made.pieces} pieces in {seconds:.1f} s, {len(made.skipped)} files skipped")


def _download(release: str, downloads: Path, with_audio: bool) -> Path:
    from music_generator.data import maestro
    from music_generator.data.unpack import unpack

    with _progress(f"downloading MAESTRO {release}") as progress:
        archive = maestro.download(release, downloads, with_audio=with_audio, progress=progress)
    with _progress("unpacking") as progress:
        return unpack(archive, downloads, progress=progress)


def _report_maestro(folder: Path) -> None:
    """What a MAESTRO folder lacks: files, splits and, where there is any WAV, the fitting WAV of a recording."""
    from music_generator.data import maestro
    from music_generator.data import wav_pairs as pairs

    if not maestro.is_maestro(folder):
        return
    survey = maestro.find_recordings(folder)
    if survey.missing:
        _say(f"{len(survey.missing)} files of the metadata are not there, the first: {survey.missing[0]}")
    if not all(count.listed for count in survey.counts.values()):
        _say("the metadata does not list every split; those it lists are kept as they are")
    if pairs.has_audio(survey):
        faults = list(pairs.check_pairs(folder, survey.recordings))
        _say(
            f"{len(survey.recordings) - len(faults)} of {len(survey.recordings)} recordings have a WAV of their length"
        )
        for fault in faults[:5]:
            _say(f"  {fault.problem}")


@app.command(epilog="Example: music-generator train corpus/maestro-v3.0.0 --run runs/mine --epochs 10")
def train(
    corpus: Annotated[Path, typer.Argument(readable=False, help="a prepared corpus")],
    run: Annotated[Path, typer.Option("--run", help="a new folder for the run")] = Path("runs/run"),
    resume: Annotated[Path | None, typer.Option(readable=False, help="a run to go on with, as it was started")] = None,
    from_pretrained: Annotated[bool, typer.Option("--from-pretrained", help="start from the bundled model")] = False,
    model: Model = None,
    epochs: Annotated[float | None, typer.Option(help="how often to see the train split  [default: 10]")] = None,
    steps: Annotated[int | None, typer.Option(help="how many steps, in place of epochs")] = None,
    cell: Annotated[str | None, typer.Option(help="lstm, gru or rnn  [default: lstm]")] = None,
    direction: Annotated[str | None, typer.Option(help="both or forward  [default: both]")] = None,
    size: Annotated[int | None, typer.Option(help="units of a forward layer  [default: 384]")] = None,
    backward_size: Annotated[int | None, typer.Option(help="units of a backward layer  [default: 256]")] = None,
    layers: Annotated[int | None, typer.Option(help="forward layers  [default: 2]")] = None,
    dropout: Annotated[float | None, typer.Option(help="[default: 0.1]")] = None,
    batch: Annotated[int | None, typer.Option(help="windows a step  [default: 32]")] = None,
    length: Annotated[int | None, typer.Option(help="tokens a window  [default: 256]")] = None,
    future_share: Annotated[float | None, typer.Option(help="of the gaps are given theirs  [default: 0.75]")] = None,
    longest_gap: Annotated[int | None, typer.Option(help="tokens  [default: 64]")] = None,
    transpose: Annotated[int | None, typer.Option(help="up to so many semitones  [default: 6]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="of embeddings and outputs  [default: 0.002]")] = None,
    matrix_learning_rate: Annotated[float | None, typer.Option(help="of the matrices  [default: 0.005]")] = None,
    seed: Annotated[int | None, typer.Option(help="[default: 0]")] = None,
    precision: Annotated[str | None, typer.Option(help="auto, bfloat16 or float32  [default: auto]")] = None,
    threads: Annotated[int | None, typer.Option(help="of the processor; torch's choice if not given")] = None,
) -> None:
    """Train a model; it ends with a bundle in RUN/model. Also under `accelerate launch`."""
    from music_generator.data.corpus import open_corpus
    from music_generator.model.bundle import PRETRAINED, open_bundle
    from music_generator.model.config import ModelConfig
    from music_generator.training.trainer import Trainer, TrainingOptions, given, read_run

    opened = open_corpus(corpus)
    weights = None
    sizes: dict[str, Any] = {"cell": cell, "direction": direction, "forward_size": size, "backward_size": backward_size}
    sizes |= {"forward_layers": layers, "dropout": dropout}
    windows = given(batch=batch, length=length, future_share=future_share, longest_gap=longest_gap, transpose=transpose)
    if resume:
        asked = given(
            **sizes, **windows, epochs=epochs, steps=steps, learning_rate=learning_rate,
            matrix_learning_rate=matrix_learning_rate, seed=seed, precision=precision, threads=threads, model=model,
        )  # fmt: skip
        if asked or from_pretrained:
            raise InputError("`--resume` goes on with a run as it was started: leave all other options out")
        folder = resume
        config, options = read_run(resume)
    else:
        folder = run
        config = ModelConfig(composers=opened.composers, **given(**sizes))
        if from_pretrained or model:
            from music_generator.model.export import load_network

            if given(**sizes).keys() - {"dropout"}:
                raise InputError("a model to start from has its own cell, direction and sizes: leave those options out")
            network = load_network(open_bundle(model or PRETRAINED))
            config, weights = replace(network.config, **given(dropout=dropout)), network.state_dict()
        options = TrainingOptions(windows=replace(TrainingOptions().windows, **windows), **given(
            epochs=epochs, steps=steps, learning_rate=learning_rate, matrix_learning_rate=matrix_learning_rate,
            seed=seed, precision=precision, threads=threads,
        ))  # fmt: skip
    trainer = Trainer(opened, folder, config, options, resume=resume is not None, weights=weights)
    _train(trainer, folder)


def _train(trainer: Any, folder: Path) -> None:
    from music_generator import plots
    from music_generator.training.release import bundle_run

    main_process = trainer.accelerator.is_main_process

    def report(progress: Any) -> None:
        losses = " ".join(
            f"{name} {progress.train[name]:.2f}" for name in ("total", "shift", "key", "velocity", "duration")
        )
        left = time.strftime("%H:%M:%S", time.gmtime(progress.seconds_left))
        line = (
            f"step {progress.step}/{progress.steps}  {losses}  {progress.tokens_per_second:,.0f} tokens/s  {left} left"
        )
        if progress.validation:
            found = "  ".join(f"{name} {row['total']:.3f}" for name, row in progress.validation.items())
            line += f"\n  validation: {found}"
        if progress.validation or progress.step % trainer.options.save_every == 0:
            plots.save(
                plots.loss_curves(plots.read_history(folder / "history.csv"), title=folder.name), folder / "loss.png"
            )
        _say(line)

    trainer.run(report)
    trainer.accelerator.end_training()
    if main_process:
        with _progress("held-out likelihood") as progress:
            bundle = bundle_run(folder, trainer.corpus, progress=progress)
        found = {name: round(row["total"], 3) for name, row in bundle.provenance["validation"].items()}
        print(f"{bundle.folder}: {json.dumps(found)}")


@app.command(epilog="Example: music-generator evaluate pretrained corpus/maestro-v3.0.0 --out evaluation --quick")
def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            readable=False, help="a model, `pretrained` for the bundled one, or a folder of generated MIDI files"
        ),
    ],
    corpus: Annotated[
        Path, typer.Argument(readable=False, help="a prepared corpus: what was trained on and what was held out")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the report and its figures")] = Path(
        "evaluation"
    ),
    quick: Annotated[bool, typer.Option("--quick", help="measure less, in under three minutes on two cores")] = False,
    split: Annotated[
        str | None, typer.Option(help="validation or test  [default: validation, test where there is none]")
    ] = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    seed: Annotated[int, typer.Option(help="of the generated music and the gaps")] = 0,
    json_: Json = False,
) -> None:
    """Measure a model, or any generator's MIDI files: likelihood, distributions, gaps, copying; one report."""
    from music_generator import evaluation
    from music_generator.data.corpus import open_corpus
    from music_generator.model.bundle import PRETRAINED

    if str(model) == "pretrained" and not model.exists():
        model = PRETRAINED
    options = evaluation.EvaluationOptions(split=split, sampling=_sampling(temperature, top_p, seed, None))
    begun = time.perf_counter()
    with _progress("evaluating") as bar:
        at = [""]

        def progress(part: str, done: int, total: int) -> None:
            if part != at[0]:
                _say(f"{time.perf_counter() - begun:6.1f} s  {part}")
                at[0] = part
            bar(done, total)

        report = evaluation.evaluate(
            model, open_corpus(corpus), out, quick=quick, seed=seed, options=options, progress=progress
        )
    if json_:
        print(json.dumps(report, ensure_ascii=False))
        return
    print(*evaluation.summary(report), f"{out / 'report.md'}: {time.perf_counter() - begun:.0f} s", sep="\n")


@app.command(epilog="Example: music-generator studio")
def studio(
    port: Annotated[int | None, typer.Option(help="of 127.0.0.1; another where it is taken  [default: 8765]")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="open no browser, only say the address")] = False,
    soundfont: SoundFont = None,
    model: Model = None,
) -> None:
    """Open a page on this computer to see, hear and re-draw a piece; it runs until Ctrl+C."""
    from music_generator.model.bundle import PRETRAINED, open_bundle
    from music_generator.studio.options import StudioOptions
    from music_generator.studio.server import serve

    options = StudioOptions(soundfont=soundfont) if port is None else StudioOptions(port, soundfont)

    def started(address: str) -> None:
        print(address, flush=True)
        _say("the studio is open at this address, for this computer alone; Ctrl+C ends it")
        if not no_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    with suppress(KeyboardInterrupt):
        serve(open_bundle(model or PRETRAINED), options, started)

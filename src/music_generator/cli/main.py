"""The command line: its commands, its errors and its exit codes. Only this package prints and exits.

An error that the user can fix is one line on stderr and exit code 2.
"""

from __future__ import annotations

import io
import os
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from music_generator.errors import MusicGeneratorError, how_to_install

# On one host all processes usually fail alike. The first one says so; the launcher ends the others while they wait.
LAUNCH_SECONDS = 10.0

# the extra that installs a library
_EXTRAS = {"torch": "train", "accelerate": "train", "starlette": "studio",
           "uvicorn": "studio"}  # fmt: skip


@dataclass(frozen=True)
class Command:
    """A command: the module of `cli` that defines it, what it does in a line, and examples."""

    module: str
    summary: str
    examples: tuple[str, ...]


COMMANDS = {
    "generate": Command(
        "generate",
        "Compose a piece, continue one, lead into one, or bridge two.",
        ("generate --seconds 60 --composer chopin --seed 7", "generate --primer piece.mid --seconds 30 --out music"),
    ),
    "infill": Command(
        "generate",
        "Fill a gap: replace a span of a piece with new music.",
        ("infill piece.mid --from 12.0 --to 18.5 --variations 4", "infill piece.mid --from 0 --to 20 --keep melody"),
    ),
    "accompany": Command(
        "generate", "Write music around notes that stay, such as a melody.", ("accompany melody.mid --density 8",)
    ),
    "transcribe": Command(
        "transcribe",
        "Turn a recording of a piano into a MIDI file.",
        ("transcribe take.wav", "transcribe take.mp3 --out take.mid"),
    ),
    "studio": Command("studio", "Open a page to see, hear and change a piece.", ("studio",)),
    "composers": Command("media", "List the composers that a model knows.", ("composers", "composers --json")),
    "render": Command(
        "media",
        "Play MIDI files into sound files.",
        ("render piece.mid --format flac", "render a.mid b.mid --bits 24 --out sounds"),
    ),
    "plot": Command("media", "Draw a MIDI file or a run's loss curves.", ("plot piece.mid", "plot runs/mine")),
    "score": Command(
        "media", "Measure how likely a model finds a piece.", ("score piece.mid", "score piece.mid --json")
    ),
    "info": Command(
        "media", "Describe a MIDI file, a corpus, a model or a run.", ("info piece.mid", "info runs/mine/model --json")
    ),
    "prepare": Command(
        "data",
        "Make a corpus to train on.",
        ("prepare maestro --out corpus/maestro", "prepare my-midi", "prepare maestro --add rolls=midi/rolls"),
    ),
    "merge": Command("data", "Make one corpus of its shards.", ("merge corpus/maestro",)),
    "train": Command("train", "Train a model.", ("train corpus/maestro-v3.0.0 --run runs/mine --epochs 10",)),
    "compare": Command(
        "compare",
        "Draw and list several training runs together.",
        ("compare runs/rnn runs/gru runs/lstm", "compare runs/lstm runs/bilstm --json"),
    ),
    "evaluate": Command(
        "evaluate",
        "Measure a model or any MIDI files in one report.",
        ("evaluate pretrained corpus/maestro-v3.0.0 --out evaluation --quick",),
    ),
}


class _Command(TyperCommand):
    """A command; its errors name an option as it is typed, where the package names a field or an argument."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except MusicGeneratorError as error:
            raise MusicGeneratorError(self._with_options(str(error))) from error

    def _with_options(self, text: str) -> str:
        for option in self.params:
            for typed in [each for each in option.opts if each.startswith("--")][:1]:
                for name in (option.name, typed[2:].replace("-", "_")):
                    text = text.replace(f"`{name}`", f"`{typed}`")
        return text


class _Commands(TyperGroup):
    """The commands, each imported when it is called: NumPy alone takes as long to import as `--help` may take."""

    def list_commands(self, _ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        command = COMMANDS[cmd_name]
        examples = "\n         ".join(f"music-generator {example}" for example in command.examples)
        alone = typer.Typer(**_STYLE)
        function = getattr(import_module(f"music_generator.cli.{command.module}"), cmd_name)
        alone.command(cmd_name, cls=_Command, epilog=f"\b\nExample: {examples}")(function)
        return typer.main.get_command(alone)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


_STYLE: dict[str, Any] = {
    "add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}  # fmt: skip
app = typer.Typer(cls=_Commands, no_args_is_help=True, **_STYLE)


def _print_version(wanted: bool) -> None:
    if wanted:
        from music_generator import __version__

        print(f"music-generator {__version__}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compose, continue and infill piano performances with a bidirectional LSTM trained on MAESTRO."""


def main() -> None:
    """Run the command line."""
    _allow_every_character()
    try:
        _run()
    except SystemExit as end:
        from music_generator.parallel import launched_processes

        if launched_processes() > 1 and isinstance(end.code, int):
            _end_at_once(end.code)
        raise


def _run() -> None:
    try:
        app()
    except MusicGeneratorError as error:
        if os.environ.get("LOCAL_RANK", "0") != "0":
            time.sleep(LAUNCH_SECONDS)
        sys.exit(_fail(str(error)))
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get(error.name or "")
        if not extra:
            raise
        sys.exit(_fail(f"{error.name} is not installed; install it with: {how_to_install(extra)}"))
    except OSError as error:  # a full disk, a folder that cannot be read
        sys.exit(_fail(f"{error.filename or 'a file'}: {error.strerror or error}"))


def _end_at_once(code: int) -> None:
    """End one of several processes: torch's threads may abort one that Python takes down while the machine is busy."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _allow_every_character() -> None:
    """Let stdout take every character."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _fail(text: str) -> int:
    print(f"music-generator: {' '.join(text.split())}", file=sys.stderr)
    return 2

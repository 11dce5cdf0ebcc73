"""Piano performances composed, continued and infilled by a bidirectional LSTM.

The names below are loaded from their modules when they are first used, so `import music_generator` costs nothing.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # `typing` takes longer to load than all else here

if TYPE_CHECKING:
    from music_generator.engine.engine import Engine as Engine
    from music_generator.errors import MusicGeneratorError as MusicGeneratorError
    from music_generator.generation import Generated as Generated
    from music_generator.generation import SamplingOptions as SamplingOptions
    from music_generator.generation import accompany as accompany
    from music_generator.generation import bridge as bridge
    from music_generator.generation import compose as compose
    from music_generator.generation import continue_from as continue_from
    from music_generator.generation import generate_many as generate_many
    from music_generator.generation import infill as infill
    from music_generator.generation import lead_in as lead_in
    from music_generator.generation import variations as variations
    from music_generator.generation.scoring import score as score
    from music_generator.model.bundle import open_bundle as open_bundle
    from music_generator.music.midi import read_midi as read_midi
    from music_generator.music.midi import write_midi as write_midi
    from music_generator.music.performance import Performance as Performance
    from music_generator.recording import transcribe as transcribe
    from music_generator.sound import render as render
    from music_generator.sound import write_audio as write_audio

    __version__: str

# public name: its module
_HOME = {
    "Engine": "engine.engine",
    "Generated": "generation",
    "MusicGeneratorError": "errors",
    "Performance": "music.performance",
    "SamplingOptions": "generation",
    "accompany": "generation",
    "bridge": "generation",
    "compose": "generation",
    "continue_from": "generation",
    "generate_many": "generation",
    "infill": "generation",
    "lead_in": "generation",
    "open_bundle": "model.bundle",
    "read_midi": "music.midi",
    "render": "sound",
    "score": "generation.scoring",
    "transcribe": "recording",
    "variations": "generation",
    "write_audio": "sound",
    "write_midi": "music.midi",
}
__all__ = ["__version__", *_HOME]


if not TYPE_CHECKING:  # a type checker shall refuse unknown names

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            value = version("music-generator-rnn")
        elif name in _HOME:
            value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

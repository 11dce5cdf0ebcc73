"""Generation without torch: the runtime engine, and the tasks it is asked for."""

from music_generator.generation.engine import Engine
from music_generator.generation.tasks import (
    Generated,
    SamplingOptions,
    Writer,
    bridge,
    compose,
    continue_from,
    generate,
    infill,
    lead_in,
    variations,
)

__all__ = [
    "Engine",
    "Generated",
    "SamplingOptions",
    "Writer",
    "bridge",
    "compose",
    "continue_from",
    "generate",
    "infill",
    "lead_in",
    "variations",
]

"""Generation without torch: the runtime engine, and the tasks it is asked for."""

from music_generator.generation.engine import Engine
from music_generator.generation.span import SamplingOptions, Span, variations
from music_generator.generation.tasks import (
    Generated,
    bridge,
    compose,
    continue_from,
    generate,
    generate_many,
    infill,
    lead_in,
    to_bridge,
    to_compose,
    to_continue,
    to_infill,
    to_lead_in,
)
from music_generator.generation.writer import Writer

__all__ = [
    "Engine",
    "Generated",
    "SamplingOptions",
    "Span",
    "Writer",
    "bridge",
    "compose",
    "continue_from",
    "generate",
    "generate_many",
    "infill",
    "lead_in",
    "to_bridge",
    "to_compose",
    "to_continue",
    "to_infill",
    "to_lead_in",
    "variations",
]

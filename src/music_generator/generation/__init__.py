"""The tasks: what an engine is asked to write."""

from music_generator.generation.span import SamplingOptions, Span, variations
from music_generator.generation.tasks import (
    Generated,
    accompany,
    bridge,
    compose,
    continue_from,
    generate,
    generate_many,
    infill,
    lead_in,
    to_accompany,
    to_bridge,
    to_compose,
    to_continue,
    to_infill,
    to_lead_in,
)
from music_generator.generation.writer import Writer

__all__ = [
    "Generated",
    "SamplingOptions",
    "Span",
    "Writer",
    "accompany",
    "bridge",
    "compose",
    "continue_from",
    "generate",
    "generate_many",
    "infill",
    "lead_in",
    "to_accompany",
    "to_bridge",
    "to_compose",
    "to_continue",
    "to_infill",
    "to_lead_in",
    "variations",
]

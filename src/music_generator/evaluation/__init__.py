"""Measure a model or any folder of generated MIDI files: likelihood, distributions, gaps, copying, one report."""

from music_generator.evaluation.options import EvaluationOptions
from music_generator.evaluation.render_markdown import summary
from music_generator.evaluation.report import Report
from music_generator.evaluation.run import evaluate

__all__ = ["EvaluationOptions", "Report", "evaluate", "summary"]

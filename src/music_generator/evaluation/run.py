"""One evaluation: `report.json` for programs, `report.md` and its figures for people."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from music_generator import plots
from music_generator.data.corpus import SPLITS, Corpus
from music_generator.engine.engine import Engine
from music_generator.errors import InputError
from music_generator.evaluation import samples
from music_generator.evaluation.context import evaluate_context
from music_generator.evaluation.distributions import compare_sample, draw_overlaps
from music_generator.evaluation.infilling import evaluate_gaps
from music_generator.evaluation.likelihood import split_likelihood
from music_generator.evaluation.options import QUICK, EvaluationOptions
from music_generator.evaluation.originality import copies_no_more, copying, training_lines
from music_generator.evaluation.render_markdown import markdown
from music_generator.evaluation.report import (
    Comparison,
    ContextUse,
    Endings,
    GapLength,
    HeldOut,
    Model,
    Originality,
    Report,
    Skipped,
    SplitLikelihood,
    StructureComparison,
)
from music_generator.evaluation.samples import Sample, human_excerpts
from music_generator.evaluation.structure import compare_endings, compare_structure
from music_generator.files import replacing
from music_generator.generation import SamplingOptions
from music_generator.model.bundle import FACTS_FILE, Bundle, open_bundle
from music_generator.music.tokens import encode

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Progress = Callable[[str, int, int], None]
T = TypeVar("T")


def evaluate(
    model: str | Path,
    corpus: Corpus,
    out: str | Path,
    *,
    quick: bool = False,
    seed: int | None = None,
    options: EvaluationOptions | None = None,
    progress: Progress | None = None,
) -> Report:
    """Measure a model, or the music in a folder of MIDI files, against a corpus; write the report into `out`.

    Args:
        model: The folder of a model bundle, or one of MIDI files, which has no likelihood and no gaps.
        corpus: A prepared corpus: what was trained on, and what was held out.
        out: A folder for `report.json`, `report.md` and figures.
        quick: Measure fewer segments, performances and gaps than `options` says.
        seed: In place of the seed of `options.sampling`.
        options: How much to measure.
        progress: Called with a part's name and how much of it is done and all.

    Raises:
        MusicGeneratorError: The model, the folder or the corpus cannot be used, or `out` cannot be written.
    """
    options = options or EvaluationOptions()
    if quick:
        options = replace(options, **QUICK)  # type: ignore[arg-type]
    seed = (options.sampling.seed or 0) if seed is None else seed
    options = replace(options, sampling=replace(options.sampling, seed=seed))
    out = _made_folder(Path(out))
    return _Evaluation(Path(model), corpus, out, options, quick, progress or (lambda *_: None)).run()


def _made_folder(out: Path) -> Path:
    """Make the folder first: minutes of computing must not end in an error."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write into {out}: {error.strerror or error}") from error
    return out


class _Evaluation:
    def __init__(
        self, model: Path, corpus: Corpus, out: Path, options: EvaluationOptions, quick: bool, progress: Progress
    ) -> None:
        self.model, self.corpus, self.out, self.options, self.progress = model, corpus, out, options, progress
        self.quick = quick
        self.bundle: Bundle | None = open_bundle(model) if (model / FACTS_FILE).exists() else None
        self.split = samples.held_out_split(corpus, options.split)
        self.reference, self.others = (
            samples.held_out_performances(corpus, half)
            for half in samples.halves(corpus, self.split, self.sampling.seed or 0)
        )
        self.figures: dict[str, str] = {}
        self.seconds: dict[str, float] = {}

    @property
    def sampling(self) -> SamplingOptions:
        return self.options.sampling

    def run(self) -> Report:
        kinds = self._timed("generation", self._samples)
        bundle = self.bundle
        report = Report(
            model=self._about_model(),
            corpus=HeldOut(self.corpus.source, self.split, len(self.reference) + len(self.others)),
            quick=self.quick,
            options=self.options,
            likelihood=self._timed("likelihood", lambda: self._likelihood(bundle)) if bundle else None,
            context=self._timed("context", lambda: self._context(bundle)) if bundle else None,
            distributions=self._timed("distributions", lambda: self._distributions(kinds)),
            structure=self._timed("structure", lambda: self._structure(kinds)),
            endings=self._timed("endings", lambda: self._endings(kinds)),
            infilling=self._timed("infilling", lambda: self._infilling(bundle)) if bundle else None,
            originality=self._timed("originality", lambda: self._originality(kinds)),
            figures=self.figures,
            seconds=self.seconds,
        )
        with replacing(self.out / "report.json") as beside:
            text = json.dumps(report.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
            beside.write_text(text + "\n", "utf-8")
        with replacing(self.out / "report.md") as beside:
            beside.write_text(markdown(report), "utf-8")
        return report

    def _about_model(self) -> Model:
        if self.bundle is None:
            return Model("folder of MIDI files", self.model.resolve().name)
        facts = self.bundle.provenance
        known = {name: facts.get(name) for name in ("data", "parameters", "steps", "tokens", "licence")}
        sizes = {name: value for name, value in self.bundle.config.to_json().items() if name != "composers"}
        return Model("model", self.bundle.folder.resolve().name, sizes, **known)

    def _timed(self, name: str, work: Callable[[], T]) -> T:
        start = time.perf_counter()
        result = work()
        self.seconds[name] = round(time.perf_counter() - start, 2)
        return result

    def _counting(self, part: str) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(part, done, total)

    def _save(self, name: str, figure: Figure) -> None:
        plots.save(figure, self.out / f"{name}.png")
        self.figures[name] = f"{name}.png"

    def _samples(self) -> dict[str, Sample]:
        """Return the music to judge, by kind."""
        options = self.options
        if self.bundle is None:
            return {"files": samples.from_folder(self.model, options.seconds, self._counting("reading"))}
        engine = Engine(self.bundle)
        count, seconds = options.performances, max(options.seconds, options.structure_seconds)
        kinds = {"composed": samples.composed(engine, count, seconds, self.sampling, self._counting("composing"))}
        continued = samples.continued(
            engine, self.others, count, options.primer_seconds, seconds, self.sampling, self._counting("continuing")
        )
        return kinds | ({"continued": continued} if len(continued) else {})

    def _start(self, kind: str) -> float:
        """Return the second from which on human pieces are compared with this kind."""
        return self.options.primer_seconds if kind == "continued" else 0.0

    def _likelihood(self, bundle: Bundle) -> dict[str, SplitLikelihood]:
        return {
            split: split_likelihood(
                bundle, self.corpus, split, network_segments=self.options.network_segments,
                engine_segments=self.options.engine_segments, progress=self.progress,
            )
            for split in SPLITS[1:] if self.corpus.split(split)
        }  # fmt: skip

    def _context(self, bundle: Bundle) -> ContextUse:
        count = self.options.context_windows
        return evaluate_context(Engine(bundle, threads=2), self.corpus, self.split, count, self._counting("context"))

    def _distributions(self, kinds: dict[str, Sample]) -> dict[str, Comparison]:
        comparisons = {}
        for done, (kind, sample) in enumerate(kinds.items(), 1):
            compared = compare_sample(sample, self.reference, self.others, self._start(kind), self.options.seconds)
            comparisons[kind] = compared.comparison
            if not compared.comparison.skipped:
                self._save(f"distributions-{kind}", draw_overlaps(kind, compared))
            self.progress("distributions", done, len(kinds))
        return comparisons

    def _structure(self, kinds: dict[str, Sample]) -> dict[str, StructureComparison | Skipped]:
        humans, structures = [*self.reference, *self.others], {}
        for done, (kind, sample) in enumerate(kinds.items(), 1):
            structures[kind] = compare_structure(sample, humans, self._start(kind), self.options.structure_seconds)
            self.progress("structure", done, len(kinds))
        return structures

    def _endings(self, kinds: dict[str, Sample]) -> dict[str, Endings | Skipped]:
        return {kind: compare_endings(sample, self.reference, self.others) for kind, sample in kinds.items()}

    def _infilling(self, bundle: Bundle) -> dict[str, GapLength]:
        lengths = evaluate_gaps(
            Engine(bundle), self.reference, self.others, count=self.options.gaps, options=self.sampling,
            progress=self._counting("filling gaps"),
        )  # fmt: skip
        above = {
            seconds: {
                way: (filling.above_truth, filling.above_truth_error)
                for way, filling in each.ways.items()
                if way != "truth"
            }
            for seconds, each in lengths.items()
        }
        if above:
            self._save("infilling", plots.gaps(above, "the true future after a gap, given the past and the filling"))
        return lengths

    def _originality(self, kinds: dict[str, Sample]) -> Originality | Skipped:
        if not self.corpus.split("train"):
            return Skipped("the corpus has no train split")
        starts = sorted({self._start(kind) for kind in kinds})
        humans = [
            each for start in starts for half in (self.reference, self.others)
            for each in human_excerpts(half, start, self.options.seconds)
        ]  # fmt: skip
        excerpts = [each for sample in kinds.values() for each in sample.excerpts(self.options.seconds)]
        generated = [each for each in excerpts if len(each)]
        if not humans or not generated:
            return Skipped(f"no {'held-out excerpts' if generated else 'generated notes'} to look for")
        self.progress("originality", 0, 2)
        training = training_lines(self.corpus)
        theirs = copying([encode(each) for each in humans], training)
        self.progress("originality", 1, 2)
        ours = copying([encode(each) for each in generated], training)
        self.progress("originality", 2, 2)
        curves = {"human": np.array(theirs.share_of_runs_found), "generated": np.array(ours.share_of_runs_found)}
        self._save("originality", plots.copying(curves, "runs of notes found in the training set"))
        return Originality(copies_no_more(ours, theirs), theirs, ours)

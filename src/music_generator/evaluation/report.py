"""One evaluation, one report: `report.json` for programs, `report.md` and its figures for people."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from music_generator import plots
from music_generator.data.corpus import SPLITS, Corpus
from music_generator.engine.engine import Engine
from music_generator.errors import InputError
from music_generator.evaluation import samples
from music_generator.evaluation.infilling import evaluate_gaps
from music_generator.evaluation.likelihoods import likelihoods
from music_generator.evaluation.originality import (
    Lines,
    copies_no_more,
    copying,
    place_in_training,
    training_lines,
)
from music_generator.evaluation.overlap import Overlap, compare, mean_area
from music_generator.evaluation.render_markdown import markdown
from music_generator.evaluation.samples import Sample, human_excerpts
from music_generator.files import replacing
from music_generator.generation import SamplingOptions
from music_generator.model.bundle import FACTS_FILE, Bundle, open_bundle
from music_generator.music.features import performance_features
from music_generator.music.tokens import encode

Array = NDArray[Any]
Progress = Callable[[str, int, int], None]

FORMAT = 1


@dataclass(frozen=True)
class EvaluationOptions:
    """How much is measured. Segments of 512 tokens, None: all; `performances` of each kind; `gaps` of each length."""

    float_segments: int | None = None
    runtime_segments: int | None = 128
    performances: int = 100
    seconds: float = 60.0
    primer_seconds: float = 20.0
    gaps: int = 100
    split: str | None = None
    sampling: SamplingOptions = field(default_factory=SamplingOptions)

    def __post_init__(self) -> None:
        for name in ("float_segments", "runtime_segments", "performances", "gaps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"`{name}` must be at least 1, not {value}")
        for name in ("seconds", "primer_seconds"):
            if not getattr(self, name) > 0:
                raise InputError(f"`{name}` must be above 0, not {getattr(self, name)}")
        if self.split is not None and self.split not in SPLITS[1:]:
            raise InputError(f"`split` must be {' or '.join(SPLITS[1:])}, not {self.split!r}")


QUICK = {"float_segments": 48, "runtime_segments": 16, "performances": 40, "gaps": 24}


def evaluate(
    model: str | Path,
    corpus: Corpus,
    out: str | Path,
    *,
    quick: bool = False,
    seed: int = 0,
    options: EvaluationOptions | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a model bundle, or the music in a folder of MIDI files, against a corpus; leave the report in `out`.

    `quick` measures fewer segments, performances and gaps than `options` says by default. `progress(part, done, total)`
    is called as it goes on. A folder of MIDI files has no likelihood and no gaps. What it returns is `report.json`.

    Raises a `MusicGeneratorError` if the model, the folder or the corpus cannot be used, or `out` not be written.
    """
    options = options or EvaluationOptions()
    options = replace(options, sampling=replace(options.sampling, seed=seed), **(QUICK if quick else {}))  # type: ignore[arg-type]
    out = _writable(Path(out))
    return _Evaluation(Path(model), corpus, out, options, quick, progress or (lambda *_: None)).run()


def _writable(out: Path) -> Path:
    """That there is a folder to write to is known before minutes of computing."""
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
        self.bundle: Bundle | None = open_bundle(model) if (model / FACTS_FILE).exists() else None
        self.split = samples.held_out_split(corpus, options.split)
        seed = options.sampling.seed or 0
        reference, others = (
            samples.held_out_performances(corpus, half) for half in samples.halves(corpus, self.split, seed)
        )
        self.reference, self.others = reference, others
        self.report: dict[str, Any] = {
            "format": FORMAT,
            "quick": quick,
            "model": self._about_model(),
            "corpus": {"source": corpus.source, "split": self.split, "pieces": len(reference) + len(others)},
            "options": asdict(options),
            "figures": {},
            "seconds": {},
        }

    def _about_model(self) -> dict[str, Any]:
        if self.bundle is None:
            return {"kind": "folder of MIDI files", "name": self.model.resolve().name}
        said = self.bundle.provenance
        known = {name: said[name] for name in ("data", "parameters", "steps", "tokens", "licence") if name in said}
        sizes = {name: value for name, value in self.bundle.config.to_json().items() if name != "composers"}
        facts: dict[str, Any] = {"kind": "model", "name": self.bundle.folder.resolve().name, "config": sizes}
        return facts | known

    def run(self) -> dict[str, Any]:
        kinds = self._timed("generation", self._samples)
        if self.bundle is not None:
            self.report["likelihood"] = self._timed("likelihood", self._likelihood)
        self.report["distributions"] = self._timed("distributions", lambda: self._distributions(kinds))
        if self.bundle is not None:
            self.report["infilling"] = self._timed("infilling", self._infilling)
        self.report["originality"] = self._timed("originality", lambda: self._originality(kinds))
        with replacing(self.out / "report.json") as beside:
            beside.write_text(json.dumps(self.report, ensure_ascii=False, indent=1, allow_nan=False) + "\n", "utf-8")
        with replacing(self.out / "report.md") as beside:
            beside.write_text(markdown(self.report), "utf-8")
        return self.report

    def _timed(self, name: str, work: Callable[[], Any]) -> Any:
        begun = time.perf_counter()
        found = work()
        self.report["seconds"][name] = round(time.perf_counter() - begun, 2)
        return found

    def _counting(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(what, done, total)

    def _save(self, name: str, figure: Any) -> None:
        plots.save(figure, self.out / f"{name}.png")
        self.report["figures"][name] = f"{name}.png"

    def _samples(self) -> dict[str, Sample]:
        """The music to judge, by kind."""
        options = self.options
        if self.bundle is None:
            return {"files": samples.from_folder(self.model, options.seconds, self._counting("reading"))}
        engine = Engine(self.bundle)
        count, seconds, sampling = options.performances, options.seconds, options.sampling
        found = {"composed": samples.composed(engine, count, seconds, sampling, self._counting("composing"))}
        continued = samples.continued(
            engine, self.others, count, options.primer_seconds, seconds, sampling, self._counting("continuing")
        )
        return found | ({"continued": continued} if len(continued) else {})

    def _start(self, kind: str) -> float:
        """From which second on humans play what is compared with this kind."""
        return self.options.primer_seconds if kind == "continued" else 0.0

    def _likelihood(self) -> dict[str, Any]:
        assert self.bundle is not None
        found = {}
        for split in SPLITS[1:]:
            if self.corpus.split(split):
                found[split] = likelihoods(
                    self.bundle, self.corpus, split, float_segments=self.options.float_segments,
                    runtime_segments=self.options.runtime_segments, progress=self.progress,
                )  # fmt: skip
        return found

    def _distributions(self, kinds: dict[str, Sample]) -> dict[str, Any]:
        found = {}
        for done, (kind, sample) in enumerate(kinds.items(), 1):
            found[kind] = self._compared(kind, sample)
            self.progress("distributions", done, len(kinds))
        return found

    def _compared(self, kind: str, sample: Sample) -> dict[str, Any]:
        seconds, start = self.options.seconds, self._start(kind)
        reference, human = (human_excerpts(half, start, seconds) for half in (self.reference, self.others))
        facts: dict[str, Any] = {
            "performances": len(sample), "left_out": sample.left_out, "reference": len(reference), "human": len(human),
            "from_second": start,
        }  # fmt: skip
        if len(reference) < 2 or not human:
            return facts | {"skipped": f"too few held-out pieces last until second {start + seconds:g}"}
        there, theirs, ours = (performance_features(some, seconds) for some in (reference, human, sample.performances))
        of_humans, of_ours = compare(there, theirs), compare(there, ours)
        self._save(f"distributions-{kind}", _overlap_figure(kind, of_humans, of_ours))
        facts["features"] = {
            name: {
                "overlap": of_ours[name].area,
                "human_overlap": of_humans[name].area,
                "divergence": of_ours[name].divergence,
                "human_divergence": of_humans[name].divergence,
                **_means(ours[name], theirs[name]),
            }
            for name in there
        }
        facts["mean_overlap"], facts["human_mean_overlap"] = mean_area(of_ours), mean_area(of_humans)
        facts["lowest"] = min(of_ours, key=lambda name: of_ours[name].area)
        return facts

    def _infilling(self) -> dict[str, Any]:
        assert self.bundle is not None
        found = evaluate_gaps(
            Engine(self.bundle), self.reference, self.others, count=self.options.gaps, options=self.options.sampling,
            progress=self._counting("filling gaps"),
        )  # fmt: skip
        nats = {
            length: {
                way: (row["above_truth"], row["above_truth_error"])
                for way, row in each["ways"].items()
                if way != "truth"
            }
            for length, each in found.items()
        }
        if nats:
            self._save("infilling", plots.gaps(nats, "the true future after a gap, given the past and the filling"))
        return found

    def _originality(self, kinds: dict[str, Sample]) -> dict[str, Any]:
        if not self.corpus.split("train"):
            return {"skipped": "the corpus has no train split"}
        starts = sorted({self._start(kind) for kind in kinds})
        humans = [
            each for start in starts for half in (self.reference, self.others)
            for each in human_excerpts(half, start, self.options.seconds)
        ]  # fmt: skip
        generated = [each for sample in kinds.values() for each in sample.performances if len(each)]
        if not humans or not generated:
            return {"skipped": f"no {'held-out excerpts' if generated else 'generated notes'} to look for"}
        self.progress("originality", 0, 2)
        training = training_lines(self.corpus)
        found, curves = {}, {}
        for done, (name, some) in enumerate((("human", humans), ("generated", generated)), 1):
            result = copying([encode(each) for each in some], training)
            found[name], curves[name] = result, result.shares
            self.progress("originality", done, 2)
        self._save("originality", plots.copying(curves, "runs of notes found in the training set"))
        said = {name: self._copied(result, training) for name, result in found.items()}
        return {"copies_no_more_than_humans": copies_no_more(found["generated"], found["human"]), **said}

    def _copied(self, result: Any, training: Lines) -> dict[str, Any]:
        place = place_in_training(self.corpus, training, result.longest_from) if result.longest > 1 else None
        return {
            "notes": result.notes,
            "percentile_95_of_runs": result.percentile_run,
            "percentile_95_of_best_match": {str(n): value for n, value in result.percentiles.items()},
            "windows_found_whole": {str(n): value for n, value in result.whole.items()},
            "longest_run": result.longest,
            "longest_run_in_piece": result.longest_piece,
            "longest_run_from": place,
            "share_of_runs_found": [None if np.isnan(share) else float(share) for share in result.shares],
        }


def _means(ours: Array, theirs: Array) -> dict[str, float]:
    """Of a feature that is one number, its mean in both sets."""
    if ours.shape[1] > 1:
        return {}
    return {"mean": float(ours.mean()), "human_mean": float(theirs.mean())}


def _overlap_figure(kind: str, of_humans: dict[str, Overlap], of_ours: dict[str, Overlap]) -> Any:
    panels = {}
    for name, human in of_humans.items():
        ours = of_ours[name]
        panels[f"{name.replace('_', ' ')}: {ours.area:.2f}, humans {human.area:.2f}"] = {
            "reference": (human.grid, human.reference),
            "human": (human.grid, human.other),
            "generated": (ours.grid, ours.other),
        }
    title = f"{kind}: distances within the reference, and from it to other humans and to the generated music"
    return plots.overlaps(panels, title)

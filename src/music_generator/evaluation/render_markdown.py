"""The report for people, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from music_generator.data.windows import GAP_TOKENS, SEGMENT_TOKENS
from music_generator.evaluation.infilling import GAP_SECONDS, MARGIN_SECONDS
from music_generator.evaluation.report import (
    Comparison,
    Copying,
    EndingFeature,
    Endings,
    FeatureOverlap,
    GapFilling,
    LeftOut,
    LikelihoodTable,
    MatchLength,
    Originality,
    Report,
    Skipped,
    Spread,
    StructureComparison,
)
from music_generator.evaluation.structure import CIRCLING_NOTES, CIRCLING_SHARE, ENDING_SECONDS, RETURN_SECONDS
from music_generator.model.config import FIELDS

_BLIND = {f"infill_{gap}": f"blind_{gap}" for gap in GAP_TOKENS}  # the row of the same tokens without their future
MAX_NAMED = 20  # performances that are left out; report.json names all of them
_SUMMARY_ROWS = ("continue", *_BLIND)


def markdown(report: Report) -> str:
    """Return the whole report. A section that was not measured says why."""
    lines = ["# Evaluation", "", *_head(report)]
    for title, section in (
        ("Likelihood", _likelihood),
        ("Context", _context),
        ("Distributions", _distributions),
        ("Structure", _structure),
        ("Endings", _endings),
        ("Infilling", _infilling),
        ("Originality", _originality),
    ):
        lines += ["", f"## {title}", "", *section(report)]
    lines += ["", "## Time", "", ", ".join(f"{name} {seconds:.1f} s" for name, seconds in report.seconds.items()) + "."]
    return "\n".join(lines) + "\n"


def summary(report: Report) -> list[str]:
    """Return the report in a few lines."""
    lines = []
    for split, measured in (report.likelihood or {}).items():
        for name, table in (("float", measured.network), (measured.engine.precision, measured.engine)):
            if table:
                totals = (f"{row} {table.nats_per_token[row]['total']:.3f}" for row in _SUMMARY_ROWS
                          if row in table.nats_per_token)  # fmt: skip
                lines.append(f"nats per token, {split}, {name}: {', '.join(totals)}")
    for kind, each in report.distributions.items():
        if not each.skipped:
            lines.append(
                f"overlap with humans, {kind}: {each.mean_overlap:.3f} (humans {each.human_mean_overlap:.3f}), "
                f"lowest {_lowest(each, ' ')}"
            )
    lines += [_returns(kind, each) for kind, each in report.structure.items() if isinstance(each, StructureComparison)]
    for kind, ends in report.endings.items():
        if isinstance(ends, Endings):
            lines.append(f"overlap of ends, {kind}: {ends.mean_overlap:.3f} (humans {ends.human_mean_overlap:.3f})")
    for seconds, length in (report.infilling or {}).items():
        above = (f"{way} {filling.above_truth:+.3f}" for way, filling in length.ways.items() if way != "truth")
        lines.append(f"future after a gap of {seconds} s, nats per token above the truth's: {', '.join(above)}")
    if isinstance(report.originality, Originality):
        lines.append(_verdict(report.originality))
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _left_out(some: Sequence[LeftOut]) -> list[str]:
    if not some:
        return []
    named = [f"`{each.name.replace('`', '')}` ({each.reason})" for each in some[:MAX_NAMED]]
    more = f", and {len(some) - MAX_NAMED} more, which `report.json` names" if len(some) > MAX_NAMED else ""
    return ["", f"{len(some)} left out: {', '.join(named)}{more}."]


def _figure(report: Report, name: str) -> list[str]:
    return ["", f"![{name}]({report.figures[name]})"] if name in report.figures else []


def _head(report: Report) -> list[str]:
    model, corpus, sampling = report.model, report.corpus, report.options.sampling
    line = f"Measured: {model.kind} `{model.name}`"
    if model.parameters is not None:
        line += f", {model.parameters:,} parameters, {model.tokens or 0:,} tokens seen"
    line += f". Against: the {corpus.split} split of {corpus.source}, {corpus.pieces} pieces."
    if report.likelihood is not None:
        line += (
            f" Sampled at temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, "
            f"seeds from {sampling.seed} on."
        )
    if report.quick:
        return [line, "", "The quick form: small samples, so the second digits are chance; quote the full form."]
    return [line]


def _likelihood(report: Report) -> list[str]:
    if report.likelihood is None:
        return ["Not measured: MIDI files have no likelihood."]
    lines = [
        f"Nats per token on the 10 ms grid, context reset every {SEGMENT_TOKENS} tokens; lower is better. `infill_N` "
        "and `blind_N`: the same tokens in gaps of N, with and without their future."
    ]
    for split, measured in report.likelihood.items():
        if measured.network:
            lines += _likelihood_part(f"float weights, {split}", measured.network, {})
        else:
            lines += ["", f"Float weights, {split}: not measured, {measured.network_skipped}."]
        name = f"the engine ({measured.engine.precision}), as it generates, {split}"
        lines += _likelihood_part(name, measured.engine, measured.engine_worse_by or {})
    return lines


def _likelihood_part(name: str, table: LikelihoodTable, worse: dict[str, float]) -> list[str]:
    """Return a table of rows; `worse`: nats per token above the float weights', by row."""
    head = ["", "total", *FIELDS, "future's worth", *(["worse than float, same segments"] if worse else [])]
    cells = []
    for row, nats in table.nats_per_token.items():
        worth = f"{table.nats_per_token[_BLIND[row]]['total'] - nats['total']:.3f}" if row in _BLIND else ""
        numbers = [f"{nats[field]:.3f}" for field in ("total", *FIELDS)]
        cells.append([row, *numbers, worth, *([f"{worse[row]:+.4f}"] if worse else [])])
    facts = f"{table.segments:,} segments, {table.tokens:,} tokens, {table.bits_per_second:.1f} bits a second of music"
    return ["", f"**{name}**: {facts}", "", *_table(head, cells)]


def _distributions(report: Report) -> list[str]:
    lines = [f"Overlap area (1: as alike as the reference is to itself) and KL divergence of distances between "
             f"performances of {report.options.seconds:g} s, by mgeval's method. The reference is one half of the "
             "held-out pieces, \"human\" the other half: the ceiling."]  # fmt: skip
    for kind, each in report.distributions.items():
        shorter = f", {each.shorter} of them shorter and counted by their own length" if each.shorter else ""
        humans = f"humans from second {each.from_second:g} on: {each.reference} for reference, {each.human} others"
        lines += ["", f"**{kind}**: {each.performances} performances{shorter}; {humans}"]
        lines += [*_left_out(each.left_out), ""]
        if each.skipped:
            lines.append(f"Not measured: {each.skipped}.")
            continue
        rows = [_feature_cells(name, feature) for name, feature in each.features.items()]
        mean = ["**mean**", f"**{each.mean_overlap:.3f}**", f"**{each.human_mean_overlap:.3f}**", "", "", "", ""]
        lines += _table(["", "overlap", "human", "KL", "human", "mean", "human mean"], [*rows, mean])
        lines += ["", f"Lowest: {_lowest(each, ', ')}.", *_figure(report, f"distributions-{kind}")]
    return lines


def _lowest(comparison: Comparison, between: str) -> str:
    name = comparison.lowest or ""
    return f"{name.replace('_', ' ')}{between}{comparison.features[name].overlap:.3f}"


def _feature_cells(name: str, each: FeatureOverlap) -> list[str]:
    measures = (each.overlap, each.human_overlap, each.divergence, each.human_divergence)
    means = ["" if mean is None else f"{mean:.3g}" for mean in (each.mean, each.human_mean)]
    cells = ("not measured" if math.isnan(measure) else f"{measure:.3f}" for measure in measures)
    return [name.replace("_", " "), *cells, *means]


def _returns(kind: str, each: StructureComparison) -> str:
    ours, human = (part.returning_runs[CIRCLING_NOTES].mean for part in (each.generated, each.human))
    return f"notes in returning runs of {CIRCLING_NOTES}, {kind}: {ours:.3f} (humans {human:.3f})"


def _structure(report: Report) -> list[str]:
    lines = [f"Returning runs: share of the notes in a run of N notes that the piece has, in any key, at least "
             f"{RETURN_SECONDS:g} s earlier. Circles: share of the pieces in which more than {CIRCLING_SHARE:g} of the "
             f"notes return in runs of {CIRCLING_NOTES}. Pulse: the highest autocorrelation of the onsets. Match: the "
             "longest sequence of events right before an event that the piece has had before; *go on*: the share of "
             "events that continue it as before."]  # fmt: skip
    for kind, each in report.structure.items():
        if isinstance(each, Skipped):
            lines += ["", f"**{kind}**: not measured, {each.skipped}."]
            continue
        lines += ["", f"**{kind}**: {each.seconds:g} s of {each.generated.pieces} performances; "
                  f"{each.human.pieces} human excerpts from second {each.from_second:g} on"]  # fmt: skip
        lines += [*_left_out(each.left_out), ""]
        lines += [*_spreads(each), "", *_chain(each)]
    return lines


def _spreads(each: StructureComparison) -> list[str]:
    parts = {"human": each.human, "generated": each.generated}
    rows = [
        [f"returning runs of {notes} notes", name, *_spread_cells(part.returning_runs[notes])]
        for notes in each.human.returning_runs for name, part in parts.items()
    ]  # fmt: skip
    rows += [["circles", name, f"{part.circling:.3f}", "", "", ""] for name, part in parts.items()]
    rows += [["pulse", name, *_spread_cells(part.pulse)] for name, part in parts.items()]
    return _table(["", "", "mean", "median", "5 %", "95 %"], rows)


def _spread_cells(each: Spread | None) -> list[str]:
    if each is None:
        return [""] * 4
    return [f"{number:.3f}" for number in (each.mean, each.median, each.percentile_5, each.percentile_95)]


def _chain(each: StructureComparison) -> list[str]:
    rows = [
        [_length_name(human), *_match_cells(human), *_match_cells(generated)]
        for human, generated in zip(each.human.chain, each.generated.chain, strict=True)
    ]
    return _table(["match of", "human events", "go on", "generated events", "go on"], rows)


def _length_name(each: MatchLength) -> str:
    if each.longest is None:
        return f"{each.shortest} or more"
    return f"{each.shortest}" if each.longest == each.shortest else f"{each.shortest} to {each.longest}"


def _match_cells(each: MatchLength) -> list[str]:
    return [f"{100 * each.share:.2f} %", "" if each.continued is None else f"{each.continued:.3f}"]


def _endings(report: Report) -> list[str]:
    lines = ["The ends of whole pieces. Last sound: seconds from the last onset until keys and sustain pedal are up. "
             f"Notes per second, loudness: those of the last {ENDING_SECONDS:g} s up to the last onset, divided by the "
             "piece's. Overlap: the area shared by the densities of the feature itself, on a logarithmic scale."
             ]  # fmt: skip
    for kind, each in report.endings.items():
        if isinstance(each, Skipped):
            lines += ["", f"**{kind}**: not measured, {each.skipped}."]
            continue
        pieces = f"{each.performances} performances; humans: {each.reference} for reference, {each.human} others"
        lines += ["", f"**{kind}**: {pieces}", ""]
        head = ["", "overlap", "human", "median", "human median", "5 to 95 %", "human 5 to 95 %"]
        mean = ["**mean**", f"**{each.mean_overlap:.3f}**", f"**{each.human_mean_overlap:.3f}**", "", "", "", ""]
        lines += _table(head, [*(_ending_cells(*item) for item in each.features.items()), mean])
    return lines


def _ending_cells(name: str, each: EndingFeature) -> list[str]:
    parts = (each.generated, each.human)
    medians = [f"{part.median:.2f}" for part in parts]
    ranges = [f"{part.percentile_5:.2f} to {part.percentile_95:.2f}" for part in parts]
    return [name.replace("_", " "), f"{each.overlap:.3f}", f"{each.human_overlap:.3f}", *medians, *ranges]


def _context(report: Report) -> list[str]:
    context = report.context
    if context is None:
        return ["Not measured: MIDI files have no model."]
    lines = ["Nats per event, in the arithmetic of generation.", ""]
    rows = []
    if (long := context.long_context) is not None:
        rows += [
            [f"events 1 to 512 of {long.pieces} long pieces", f"{long.early:.3f}"],
            ["events 1,025 to 2,048 of the same, given all before", f"{long.late:.3f}"],
        ]
    if (kept := context.kept_melody) is not None:
        rows += [
            [f"the {kept.events:,} events around a melody", f"{kept.without_melody:.3f}"],
            ["the same, given the whole melody", f"{kept.with_melody:.3f}"],
        ]
    rows.append(["held-out segments", f"{context.held_out:.3f}"])
    if context.train is not None:
        rows.append(["training segments, not augmented", f"{context.train:.3f}"])
    return lines + _table(["", "nats"], rows)


def _infilling(report: Report) -> list[str]:
    if report.infilling is None:
        return ["Not measured: MIDI files fill no gaps."]
    if not report.infilling:
        needed = 2 * MARGIN_SECONDS + GAP_SECONDS[0]
        return [f"Not measured: each half of the held-out pieces must have one that lasts {needed:g} s or more."]
    lines = ["Gaps in held-out pieces. Notes: their number, divided by the truth's; silence: the longest time without "
             "an onset; both medians. Future: nats per token of what truly follows, given the past and the filling, "
             "without a look ahead. Distance: of a filling's features from those of its own gap's truth (0: the same, "
             "1: as far as any other gap's music). Overlap: as above, inside the gaps.", ""]  # fmt: skip
    head = ["gap", "gaps", "filled by", "notes", "silence", "future", "above the truth's", "its keys", "distance",
            "overlap"]  # fmt: skip
    rows = [
        [f"{seconds} s", str(length.gaps), way, *_filling_cells(way, filling)]
        for seconds, length in report.infilling.items()
        for way, filling in length.ways.items()
    ]
    return lines + _table(head, rows) + _figure(report, "infilling")


def _filling_cells(way: str, filling: GapFilling) -> list[str]:
    nats = filling.future_nats
    above = "" if way == "truth" else f"{filling.above_truth:+.3f} ± {filling.above_truth_error:.3f}"
    features = ["" if value is None else f"{value:.3f}" for value in (filling.distance, filling.overlap)]
    counts = [f"{filling.notes:.2f}", f"{filling.longest_silence:.2f} s"]
    return [*counts, f"{nats['total']:.3f}", above, f"{nats['key']:.3f}", *features]


def _originality(report: Report) -> list[str]:
    section = report.originality
    if isinstance(section, Skipped):
        return [f"Not measured: {section.skipped}."]
    lines = ["Runs of notes, in any key and at any tempo, that occur in the training set; held-out human music of the "
             "same lengths is the control.", "", f"**{_verdict(section)}**", ""]  # fmt: skip
    parts = (section.human, section.generated)
    rows = [["notes examined", *(f"{part.notes:,}" for part in parts)]]
    rows.append(["run from a note on, 95th percentile", *(_notes(part.percentile_95_of_runs) for part in parts)])
    for n in section.generated.percentile_95_of_best_match:
        best = [part.percentile_95_of_best_match.get(n) for part in parts]
        whole = [part.windows_found_whole.get(n) for part in parts]
        rows.append([f"best match of {n} notes, 95th percentile", *("" if b is None else _notes(b) for b in best)])
        rows.append([f"windows of {n} notes found whole", *("" if w is None else f"{100 * w:.2f} %" for w in whole)])
    rows.append(["longest run", *(_longest(part) for part in parts)])
    return lines + _table(["", "human", "generated"], rows) + _figure(report, "originality")


def _verdict(section: Originality) -> str:
    if section.copies_no_more_than_humans:
        return "It copies no more than humans copy each other: no 95th percentile is above theirs."
    return "It copies more than humans copy each other: a 95th percentile is above theirs."


def _notes(count: float) -> str:
    return f"{count:g} notes"


def _longest(part: Copying) -> str:
    place = part.longest_run_from
    if place is None:
        return _notes(part.longest_run)
    name = " ".join(text for text in (place.composer, place.title) if text) or place.path
    return f"{_notes(part.longest_run)} ({name.replace('|', '/')}, at {place.seconds:.0f} s)"

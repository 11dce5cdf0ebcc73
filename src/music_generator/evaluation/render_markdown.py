"""The report for people: what `report.json` holds, as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from music_generator.model.config import FIELDS


def markdown(report: dict[str, Any]) -> str:
    """The whole report; each section's title comes even where nothing could be measured, with the reason."""
    lines = ["# Evaluation", "", *_head(report)]
    for title, section in (
        ("Likelihood", _likelihood),
        ("Distributions", _distributions),
        ("Infilling", _infilling),
        ("Originality", _originality),
    ):
        lines += ["", f"## {title}", "", *section(report)]
    lines += ["", "## Time", "", ", ".join(f"{name} {taken:.1f} s" for name, taken in report["seconds"].items()) + "."]
    return "\n".join(lines) + "\n"


def summary(report: dict[str, Any]) -> list[str]:
    """The report in a few lines."""
    lines = []
    for split, found in report.get("likelihood", {}).items():
        for name in ("float", "runtime"):
            if name in found:
                rows = found[name]["nats_per_token"]
                said = ", ".join(
                    f"{key} {row['total']:.3f}" for key, row in rows.items() if not key.startswith("blind")
                )
                lines.append(f"nats per token, {split}, {found[name].get('precision', 'float')}: {said}")
    for kind, found in report["distributions"].items():
        if "skipped" not in found:
            lowest = found["features"][found["lowest"]]["overlap"]
            lines.append(
                f"overlap with humans, {kind}: {found['mean_overlap']:.3f} (humans {found['human_mean_overlap']:.3f}), "
                f"lowest {found['lowest'].replace('_', ' ')} {lowest:.3f}"
            )
    for seconds, found in report.get("infilling", {}).items():
        ways = ((way, row) for way, row in found["ways"].items() if way != "truth")
        said = ", ".join(f"{way} {row['above_truth']:+.3f}" for way, row in ways)
        lines.append(f"future after a gap of {seconds} s, nats per token above the truth's: {said}")
    if "skipped" not in report["originality"]:
        lines.append(_verdict(report["originality"]))
    return lines


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _figure(report: dict[str, Any], name: str) -> list[str]:
    return ["", f"![{name}]({report['figures'][name]})"] if name in report["figures"] else []


def _head(report: dict[str, Any]) -> list[str]:
    model, corpus, sampling = report["model"], report["corpus"], report["options"]["sampling"]
    what = f"{model['kind']} `{model['name']}`"
    if "parameters" in model:
        what += f", {model['parameters']:,} parameters, {model.get('tokens', 0):,} tokens seen"
    lines = [
        f"Measured: {what}. Against: the {corpus['split']} split of {corpus['source']}, {corpus['pieces']} pieces."
    ]
    if model["kind"] == "model":
        lines[0] += (
            f" Sampled at temperature {sampling['temperature']:g}, top-p {sampling['top_p']:g}, "
            f"seeds from {sampling['seed']} on."
        )
    if report["quick"]:
        lines += ["", "The quick form: small samples, so the second digits are chance; the full form is what to quote."]
    return lines


def _likelihood(report: dict[str, Any]) -> list[str]:
    if "likelihood" not in report:
        return ["Not measured: MIDI files tell no likelihoods."]
    lines = [
        "Nats per token on the 10 ms grid, context reset every 512 tokens; lower is better. `infill_N` and `blind_N`: "
        "the same tokens in gaps of N, with and without their future."
    ]
    for split, found in report["likelihood"].items():
        for name in ("float", "runtime"):
            if name not in found:
                lines += ["", f"Float weights, {split}: not measured, {found['no_float']}."]
                continue
            part = found[name]
            what = "float weights" if name == "float" else f"runtime graphs ({part['precision']}), as shipped"
            lines += ["", f"**{what}, {split}**: {part['segments']:,} segments, {part['tokens']:,} tokens, "
                          f"{part['bits_per_second']:.1f} bits a second of music", ""]  # fmt: skip
            lines += _likelihood_table(part["nats_per_token"], found, name)
    return lines


def _likelihood_table(rows: dict[str, Any], found: dict[str, Any], name: str) -> list[str]:
    worse = found.get("runtime_worse_by", {}) if name == "runtime" else {}
    head = ["", "total", *FIELDS, "future's worth", *(["worse than float, same segments"] if worse else [])]
    table = []
    for key, row in rows.items():
        kind, _, gap = key.partition("_")
        worth = f"{rows[f'blind_{gap}']['total'] - row['total']:.3f}" if kind == "infill" else ""
        cells = [f"{row[field]:.3f}" for field in ("total", *FIELDS)]
        table.append([key, *cells, worth, *([f"{worse[key]:+.4f}"] if worse else [])])
    return _table(head, table)


def _distributions(report: dict[str, Any]) -> list[str]:
    seconds = report["options"]["seconds"]
    lines = [f"Overlap area (1: as alike as the reference is to itself) and KL divergence of distances between "
             f"performances of {seconds:g} s, by mgeval's method. The reference is one half of the held-out pieces, "
             "\"human\" the other half: the ceiling."]  # fmt: skip
    for kind, found in report["distributions"].items():
        left_out = f", {found['left_out']} files left out" if found["left_out"] else ""
        humans = f"humans from second {found['from_second']:g} on: {found['reference']} for reference"
        said = f"**{kind}**: {found['performances']} performances{left_out}; {humans}, {found['human']} others"
        lines += ["", said, ""]
        if "skipped" in found:
            lines.append(f"Not measured: {found['skipped']}.")
            continue
        rows = [_feature_cells(name, each) for name, each in found["features"].items()]
        means = [f"**{found[key]:.3f}**" for key in ("mean_overlap", "human_mean_overlap")]
        mean = ["**mean**", *means, "", "", "", ""]
        lines += _table(["", "overlap", "human", "KL", "human", "mean", "human mean"], [*rows, mean])
        lowest = found["features"][found["lowest"]]["overlap"]
        lines += ["", f"Lowest: {found['lowest'].replace('_', ' ')}, {lowest:.3f}."]
        lines += _figure(report, f"distributions-{kind}")
    return lines


def _feature_cells(name: str, each: dict[str, float]) -> list[str]:
    means = [f"{each[key]:.3g}" if key in each else "" for key in ("mean", "human_mean")]
    measures = [f"{each[key]:.3f}" for key in ("overlap", "human_overlap", "divergence", "human_divergence")]
    return [name.replace("_", " "), *measures, *means]


def _infilling(report: dict[str, Any]) -> list[str]:
    if "infilling" not in report:
        return ["Not measured: MIDI files fill no gaps."]
    if not report["infilling"]:
        return ["Not measured: the held-out pieces are too short."]
    lines = ["Gaps in held-out pieces. Future: nats per token of what truly follows, given the past and the filling, "
             "without a look ahead. Distance: of a filling's features from those of its own gap's truth (0: the same, "
             "1: as far as any other gap's music). Overlap: as above, inside the gaps."]  # fmt: skip
    lines.append("")
    rows = []
    for seconds, found in report["infilling"].items():
        for way, row in found["ways"].items():
            nats = row["future_nats"]
            features = [f"{row[key]:.3f}" if key in row else "" for key in ("distance", "overlap")]
            above = "" if way == "truth" else f"{row['above_truth']:+.3f} ± {row['above_truth_error']:.3f}"
            future = [f"{nats['total']:.3f}", above, f"{nats['key']:.3f}"]
            rows.append([f"{seconds} s", str(found["gaps"]), way, *future, *features])
    lines += _table(
        ["gap", "gaps", "filled by", "future", "above the truth's", "its keys", "distance", "overlap"], rows
    )
    return lines + _figure(report, "infilling")


def _originality(report: dict[str, Any]) -> list[str]:
    found = report["originality"]
    if "skipped" in found:
        return [f"Not measured: {found['skipped']}."]
    parts = ("human", "generated")
    lines = ["Runs of notes, in any key and at any tempo, that stand in the training set; held-out human music of the "
             "same lengths is the control.", "", f"**{_verdict(found)}**", ""]  # fmt: skip
    rows = [["notes looked at", *(f"{found[part]['notes']:,}" for part in parts)]]
    rows.append(["run from a note on, 95th percentile", *(_notes(found[p]["percentile_95_of_runs"]) for p in parts)])
    for n in found["generated"]["percentile_95_of_best_match"]:
        best = [found[part]["percentile_95_of_best_match"].get(n) for part in parts]
        whole = [found[part]["windows_found_whole"].get(n) for part in parts]
        rows.append([f"best match of {n} notes, 95th percentile", *("" if b is None else _notes(b) for b in best)])
        rows.append([f"windows of {n} notes found whole", *("" if w is None else f"{100 * w:.2f} %" for w in whole)])
    rows.append(["longest run", *(_longest(found[part]) for part in parts)])
    return lines + _table(["", *parts], rows) + _figure(report, "originality")


def _verdict(found: dict[str, Any]) -> str:
    if found["copies_no_more_than_humans"]:
        return "It copies no more than humans copy each other: no 95th percentile is above theirs."
    return "It copies more than humans copy each other: a 95th percentile is above theirs."


def _notes(count: float) -> str:
    return f"{count:g} notes"


def _longest(part: dict[str, Any]) -> str:
    place = part["longest_run_from"]
    if place is None:
        return _notes(part["longest_run"])
    known = " ".join(str(place[key]) for key in ("composer", "title") if place[key]) or place["path"]
    return f"{_notes(part['longest_run'])} ({known.replace('|', '/')}, at {place['seconds']:.0f} s)"

"""Tables from results files: verdicts, accuracies, status, licences; and README's verdicts.

`python -m book.make.report --readme` rewrites the verdicts in README.md from the committed results,
`--check` fails where they differ from what README says.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from book.make.claims import judge_all, verdict_counts
from book.make.published_pages import TABLES, paper_rate
from kpnb.errors import KpnbError
from kpnb.metrics.formatting import PLAIN, SIDES, SYMBOLS, count, interval, number, signed, table
from kpnb.metrics.results import (
    Comparison,
    Measure,
    Results,
    available_cells,
    available_results,
    freshness,
)
from kpnb.paper import HYPOTHESES, METRICS, PREDICTIONS, ROLES, SCORES
from kpnb.study.parameters import StudyParameters

NOTHING = "Not run here yet."
FILTERED = (
    "The same cells on the samples that the published filter keeps, which selects on the outcome: "
    "intervals on the predicted side : on the other side, of the cells measured."
)
START, END = "<!-- verdicts:start -->", "<!-- verdicts:end -->"
README = Path(__file__).resolve().parents[2] / "README.md"


def _difference(item: Comparison) -> str:
    return signed(item.difference) + interval(item.low, item.high, signed)


def _over(item: Measure | Comparison) -> str:
    return f"{count(item.n_samples, item.sample)}, {count(item.n_seeds, 'seed')}"


def _network(item: Measure | Comparison) -> str:
    return f"{item.network} ({item.scale}), {item.dataset}"


def verdict_table(results: list[Results], metrics: Sequence[str] = METRICS) -> str:
    """Every comparison at the run's own b, with the published filter, other b and the paper.

    A table per data set and network; for d_mean and d_var both ways to sum the distance.
    """
    groups: dict = {}
    for run in results:
        for item in run.comparisons:
            own_b = item.threshold in (None, run.threshold)
            if item.metric in metrics and item.selection == "all" and own_b:
                groups.setdefault((run.preset, *item.cell[:3]), []).append((run, item))
    return "\n\n".join(_verdict_group(*key, pairs) for key, pairs in groups.items()) or NOTHING


def _verdict_group(preset: str, dataset: str, network: str, scale: str, pairs: list) -> str:
    pairs.sort(key=lambda p: (METRICS.index(p[1].metric), p[1].cell, p[1].distance or ""))
    thresholds = ", ".join(sorted({f"b = {run.threshold}" for run, _ in pairs}))
    header = ["metric, student predicted", "layer, data", "student − baseline [95%]", "verdict"]
    header += ["with the published filter", "at other b", "the paper's table agrees"]
    rows = [_verdict_row(run, item) for run, item in pairs]
    title = f"Preset `{preset}`: {network} ({scale}) on {dataset}, {thresholds}"
    return f"**{title}**\n\n{table(header, rows)}"


def _verdict_row(run: Results, item: Comparison) -> list[str]:
    def key(other: Comparison) -> tuple:
        return other.cell, other.metric, other.distance

    same = [other for other in run.comparisons if key(other) == key(item)]
    filtered = [o for o in same if o.selection != "all" and o.threshold == item.threshold]
    other_b = [o for o in same if o.selection == "all" and o.threshold != item.threshold]
    distance = f" (per {item.distance})" if item.distance else ""
    side = {"up": "higher", "down": "lower"}[item.prediction]
    return [
        f"{SYMBOLS[item.metric]}{distance}, {side}",
        f"{item.layer}, {item.dataset}",
        f"{_difference(item)}, {_over(item)}",
        f"**{item.verdict}**",
        ", ".join(f"{o.verdict} ({_over(o)})" for o in filtered) or "not run here",
        "; ".join(f"{o.threshold}: {o.verdict}" for o in other_b) or "not run here",
        paper_rate(item.metric, TABLES[item.sample]),
    ]


def verdict_grid(results: list[Results], symbols: dict[str, str] = SYMBOLS) -> str:
    """A row per metric, a column per layer measured: verdict, difference and interval.

    A grid for each of the paper's tables. The headline comparisons only: all samples, the run's own
    b, weight distance per step.
    """
    items = [i for run in results for i in run.comparisons if run.is_headline(i)]
    by_table = {
        t: [i for i in items if TABLES[i.sample] == t] for t in dict.fromkeys(TABLES.values())
    }
    grids = [_grid(part, t, symbols) for t, part in by_table.items() if part]
    return "\n\n".join(grids) or NOTHING


def _grid(items: list[Comparison], published: str, symbols: dict[str, str]) -> str:
    cells = {(item.cell, item.metric): item for item in items}
    columns = sorted({item.cell for item in items})
    header = ["hypothesis", "metric", "predicted", f"Table {published}'s cells that agree"]
    several = len({dataset for dataset, *_ in columns}) > 1
    header += [_column(cell, several) for cell in columns]
    rows = []
    for metric in METRICS:
        row = [f"H{HYPOTHESES[metric]}", symbols[metric], SIDES[PREDICTIONS[metric]]]
        row += [
            paper_rate(metric, published),
            *(_grid_cell(cells.get((c, metric))) for c in columns),
        ]
        rows.append(row)
    return table(header, rows)


def _column(cell: tuple, several: bool) -> str:
    """A column's head; the data are named where there are several."""
    dataset, network, scale, _, layer = cell
    return f"{layer}, {network} ({scale})" + (f", {dataset}" if several else "")


def filter_table(results: list[Results], symbols: dict[str, str] = SYMBOLS) -> str:
    """Verdicts of the grid's cells on the samples that the published filter keeps, counted.

    A row per data set, a column per metric: how many intervals exclude zero on the predicted side,
    how many on the other, of how many cells where the filter leaves enough samples to measure.
    """
    items = [(run, c) for run in results for c in run.comparisons if _in_filter_table(run, c)]
    rows = []
    for dataset in sorted({item.dataset for _, item in items}):
        part = [(run, item) for run, item in items if item.dataset == dataset]
        every = [item for run, item in part if run.is_headline(item)]
        kept = [item for run, item in part if not run.is_headline(item)]
        rows.append([dataset, _kept(every, kept), *(_filtered(kept, m) for m in METRICS)])
    header = ["with the published filter", "samples it keeps", *(symbols[m] for m in METRICS)]
    return table(header, rows) if rows else NOTHING


def _in_filter_table(run: Results, item: Comparison) -> bool:
    """A headline comparison, or the same but for the selection of samples."""
    return run.is_headline(item.model_copy(update={"selection": "all"}))


def _kept(every: Sequence[Comparison], kept: Sequence[Comparison]) -> str:
    """As in "35 to 38 of 60 images; 3 of 3 cells measured"."""
    cells, measured = ({item.cell for item in part} for part in (every, kept))
    told = f"{len(measured)} of {count(len(cells), 'cell')} measured"
    if not kept:
        return f"too few; {told}"
    low, high = min(i.n_samples for i in kept), max(i.n_samples for i in kept)
    span = f"{low} to {high}" if low < high else f"{low}"
    return f"{span} of {count(max(i.n_samples for i in every), every[0].sample)}; {told}"


def _filtered(kept: Sequence[Comparison], metric: str) -> str:
    verdicts = [item.verdict for item in kept if item.metric == metric]
    if not verdicts:
        return "–"
    decided = f"{verdicts.count('reproduced')} : {verdicts.count('contradicted')}"
    return f"{decided} of {len(verdicts)}"


def verdict_grids(results: list[Results]) -> str:
    """The grid of each preset under its caption, in the order of the results."""
    parts = []
    for preset in dict.fromkeys(run.preset for run in results):
        part = [run for run in results if run.preset == preset]
        parts.append(_captioned(part, preset, SYMBOLS))
    return "\n\n".join(parts) or NOTHING


def _captioned(results: list[Results], preset: str, symbols: dict[str, str]) -> str:
    """One preset's grid under its caption, then the verdicts on filtered samples."""
    grid = f"{_caption(results, preset)}\n\n{verdict_grid(results, symbols)}"
    if not any(run.comparisons for run in results):
        return grid
    return f"{grid}\n\n{FILTERED}\n\n{filter_table(results, symbols)}"


def _grid_cell(item: Comparison | None) -> str:
    return "not run here" if item is None else f"**{item.verdict}** {_difference(item)}"


def accuracy_table(results: list[Results]) -> str:
    """Scores of teacher, baseline and students: mean over seeds, lowest and highest seed."""
    found: dict = {}
    for run in results:
        for item in run.measures:
            if item.metric in SCORES:
                score, samples = SCORES[item.metric]
                role = "TBS".index(item.role)
                kind = (run.preset, item.dataset, item.network, score, role, item.cell)
                found.setdefault(kind, {})[samples] = item
    header = ["network", "preset", "distilled at", "score", "unseen samples", "training samples"]
    rows = [_accuracy_row(kind[0], found[kind]) for kind in sorted(found)]
    return table(header, rows) if rows else NOTHING


def _accuracy_row(preset: str, items: dict) -> list[str]:
    one = next(iter(items.values()))
    name = f"{ROLES[one.role]}, {_network(one)}"
    layer = one.layer if one.role == "S" else "–"
    values = [_accuracy(items.get(samples)) for samples in ("unseen", "training")]
    return [name, preset, layer, SCORES[one.metric][0], *values]


def _accuracy(item: Measure | None) -> str:
    if item is None:
        return "not measured"
    return f"{number(item.mean)}{interval(item.low, item.high)}, {_over(item)}"


def status_table(results: list[Results]) -> str:
    """Minutes, memory, fingerprint of each notebook, and whether the code here still fits."""
    header = ["notebook", "preset", "minutes", "peak memory (MiB)", "fingerprint"]
    rows = [
        [
            f"`{run.notebook}`",
            run.preset,
            number(run.seconds / 60),
            f"{run.peak_memory_mb:.0f}",
            f"`{run.fingerprint[:12]}`",
            freshness(run),
        ]
        for run in results
    ]
    return table([*header, "against the code here"], rows) if rows else NOTHING


def machines_table(results: list[Results]) -> str:
    """Processor, versions and commit of each notebook's run."""
    rows = [[f"`{run.notebook}`", run.preset, *_machine(run.provenance)] for run in results]
    header = ["notebook", "preset", "processor", "versions", "commit"]
    return table(header, rows) if rows else NOTHING


def _machine(where: dict) -> list[str]:
    processor = where.get("gpu") or where.get("cpu") or "not recorded"
    threads = f", {count(where['threads'], 'thread')}" if "threads" in where else ""
    versions = ", ".join(f"{n} {v}" for n, v in sorted(where.get("versions", {}).items()))
    commit = (where.get("commit") or "not recorded")[:12]
    changed = " with changes" if where.get("dirty") else ""
    return [processor + threads, versions or "not recorded", commit + changed]


def notes_list(results: list[Results]) -> str:
    """What the notebooks noted for the reader, one bullet each."""
    lines = [f"- `{run.notebook}`, {run.preset}: {note}" for run in results for note in run.notes]
    return "\n".join(lines) or "No notes."


def presets_table(model: type[StudyParameters]) -> str:
    """Every parameter of the notebooks with its value in three presets."""
    rows = []
    for name, field in model.model_fields.items():
        values = [_value(model.PRESETS[preset][name]) for preset in ("demo", "study", "paper")]
        rows.append([f"`{name}`", *values, field.description])
    return table(["parameter", "demo", "study", "paper", "what, and why this value"], rows)


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def licences_table() -> str:
    """Sources and licences of every part of the embedded data."""
    # Here: they import torch.
    from kpnb.datasets import clouds as embedded_pointclouds
    from kpnb.datasets import images as embedded_images
    from kpnb.datasets.texts import embedded as embedded_questions
    from kpnb.datasets.texts import embedded as embedded_sentences

    columns = ("part", "what", "source", "version", "licence")
    sources = (embedded_images, embedded_sentences, embedded_questions, embedded_pointclouds)
    parts = [part for source in sources for part in source.LICENCES]
    return table(columns, [[str(part[c]) for c in columns] for part in parts])


def readme_block() -> str:
    """README's verdicts: of the committed study, or of the demo where there is no study."""
    for preset in ("study", "demo"):
        results = available_results(preset)
        if any(run.comparisons for run in results):
            counted = verdict_counts(judge_all(results, available_cells(preset)))
            grid = _captioned(results, preset, PLAIN)
            return f"{grid}\n\nThe paper's single claims, one by one in the book: {counted}"
    return NOTHING


def _caption(results: list[Results], preset: str) -> str:
    items = [i for run in results for i in run.comparisons if run.is_headline(i)]
    over = sorted({_over(item) for item in items})
    data = sorted({item.dataset for item in items})
    thresholds = sorted({f"b = {run.threshold}" for run in results})
    return (
        f"**Preset `{preset}`**, {', '.join(data)}; {'; '.join(over)}; {', '.join(thresholds)}; "
        "student − baseline, mean and 95% interval:"
    )


def with_verdicts(readme: str) -> str:
    """README's text with the present verdicts between its two markers."""
    if readme.count(START) != 1 or readme.count(END) != 1:
        raise KpnbError(f"README.md needs the lines {START} and {END} once each: add them")
    before, rest = readme.split(START)
    after = rest.split(END)[1]
    return f"{before}{START}\n{readme_block()}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check README's verdicts; exit code 1 where they are stale, 2 for a mistake."""
    parser = argparse.ArgumentParser(prog="python -m book.make.report", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--readme", action="store_true", help="rewrite the verdicts in README.md")
    what.add_argument("--check", action="store_true", help="fail if README's verdicts are stale")
    options = parser.parse_args(arguments)
    try:
        old = README.read_text(encoding="utf-8")
        new = with_verdicts(old)
    except (OSError, KpnbError) as error:
        print(error, file=sys.stderr)
        return 2
    if options.check and new != old:
        print(
            "README.md's verdicts are stale: run python -m book.make.report --readme",
            file=sys.stderr,
        )
        return 1
    if options.readme:
        README.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

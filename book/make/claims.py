"""The page of every claim of the paper: what it prints, what was found here, and from which file.

Every number of ours comes from a results file, and the row that shows it names the file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import pandas as pd

from book.make.claim_paper import published_text
from book.make.claim_rules import CELL_NOTEBOOK, NOT_RUN, VERDICTS, Item, Judged, judge_claim, span
from book.make.claim_schema import SIDE_WORDS, Claim, Comparisons, load_claims
from kpnb.metrics.formatting import SYMBOLS, count, table
from kpnb.metrics.results import CELLS, Results, freshness
from kpnb.paper import METRICS, PREDICTIONS, TABLES, agreement_rates

HEADER = ("claim", "where", "the paper", "here, 95% interval", "verdict", "notebook, results")
LIST_HEADER = ("cell or number", "here, 95% interval", "over", "verdict", "results")
#: A row names this many files at most; more are in the list of its items.
FILES_SHOWN = 3
BRANCH = "main"
#: In which the paper verifies its hypotheses.
MAIN_TABLES = ("V", "VI", "VII")
#: Those of them that are not on images.
OTHER_SAMPLES = ("VI", "VII")
#: Table VIII has networks of 10 outputs; the sweep's runs with many more stand for no cell of it.
FEW_OUTPUTS = ("*_outputs2", "*_outputs4", "*_outputs12")


@dataclass(frozen=True)
class Links:
    """Writes links to results files and notebooks.

    address: of the repository; pages: of the table of contents.
    """

    address: str
    pages: Collection[str]
    _states: dict[str, str] = field(default_factory=dict, repr=False)

    def state(self, run: Results) -> str:
        """Whether the code here still fits a results file: fresh, stale or unknown."""
        path = results_file(run)
        if path not in self._states:
            self._states[path] = freshness(run).split(":")[0]
        return self._states[path]

    def results(self, run: Results) -> str:
        """A link to a results file, which says so where the code here no longer fits it."""
        stale = "" if self.state(run) == "fresh" else f" ({self.state(run)})"
        return f"[{run.run or run.notebook}.json]({self._source(results_file(run))}){stale}"

    def notebook(self, name: str) -> str:
        """A notebook's page, or its file where it has no page."""
        page = f"notebooks/{name}"
        if page in self.pages:
            return f"{{doc}}`{name} <{page}>`"
        return f"[{name}]({self._source(f'{page}.ipynb')})"

    def _source(self, path: str) -> str:
        return f"{self.address}/blob/{BRANCH}/{path}"


def results_file(run: Results) -> str:
    """Where a results file lies in the repository."""
    name = f"{CELLS}/{run.run}" if run.run else run.notebook
    return f"book/results/{run.preset}/{name}.json"


def judge_all(
    results: Sequence[Results], cells: Sequence[Results], claims: Iterable[Claim] | None = None
) -> list[Judged]:
    """Every claim with its evidence; those of the book unless others are given."""
    return [
        judge_claim(claim, results, cells)
        for claim in (load_claims() if claims is None else claims)
    ]


def claim_pages(
    results: Sequence[Results], cells: Sequence[Results], address: str, pages: Collection[str]
) -> dict[str, str]:
    """What the page includes, by name: the claims, the cells behind them, the rates."""
    given = (results, cells, address, pages)
    return {
        "claims": claims_table(*given),
        "claim_cells": claim_cells(*given),
        "claim_rates": rates_beside(results, cells),
    }


def claims_table(
    results: Sequence[Results], cells: Sequence[Results], address: str, pages: Collection[str]
) -> str:
    """How many claims have which verdict, then a table of claims for each part of the paper.

    Arguments: results: of the notebooks; cells: of the sweep; address: of the repository;
        pages: of the table of contents, which notebooks with a page are linked by.
    """
    judged, links = judge_all(results, cells), Links(address, pages)
    parts = [f"{verdict_counts(judged)} {_staleness(judged, links)}".strip()]
    for section in dict.fromkeys(one.claim.section for one in judged):
        rows = [_row(one, links) for one in judged if one.claim.section == section]
        parts.append(f"```{{rubric}} {section}\n```\n\n{table(HEADER, rows)}")
    return "\n\n".join(parts)


def claim_cells(
    results: Sequence[Results], cells: Sequence[Results], address: str, pages: Collection[str]
) -> str:
    """The items behind each claim that rests on more than one, a folded list per claim."""
    links = Links(address, pages)
    many = [one for one in judge_all(results, cells) if len(one.items) > 1]
    return "\n\n".join(_list(one, links) for one in many) or "No claim rests on several cells yet."


def verdict_counts(judged: Sequence[Judged]) -> str:
    """How many claims have which verdict, as a sentence."""
    verdicts = [one.verdict for one in judged]
    told = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in VERDICTS)
    return f"**{count(len(judged), 'claim')}**: {told}."


def _staleness(judged: Sequence[Judged], links: Links) -> str:
    """How many of the results files that claims rest on no longer fit the code here."""
    used = {results_file(i.source): i.source for one in judged for i in one.items}
    stale = sum(links.state(run) != "fresh" for run in used.values())
    return (
        f"They rest on {count(len(used), 'results file')}, {stale} of them stale." if used else ""
    )


def _row(one: Judged, links: Links) -> list[str]:
    claim = one.claim
    by_means = " (by means)" if claim.evidence.kind == "means" and one.items else ""
    said = one.verdict if one.verdict == NOT_RUN else f"**{one.verdict}**{by_means}"
    return [claim.claim, claim.where, published_text(claim), _here(one), said, _from(one, links)]


def _here(one: Judged) -> str:
    if not one.items:
        return getattr(one.claim.evidence, "reason", "no results file yet")
    if len(one.items) == 1:
        return _over(one.items[0].shown, one.items)
    found, total = one.tally, len(one.items)
    for_, against, open_ = (found[verdict] for verdict in VERDICTS[:3])
    side = f"{found['on side']} of {total} {_side(one.claim)}"
    return _over(f"{side}; intervals: {for_} for, {against} against, {open_} open", one.items)


def _side(claim: Claim) -> str:
    """As in "7 of 9 higher"; against a bound it is above or below."""
    if claim.evidence.kind == "numbers":
        return {"up": "above", "down": "below"}[claim.side] + f" {claim.evidence.bound:g}"
    return SIDE_WORDS[claim.side]


def _over(shown: str, items: Sequence[Item]) -> str:
    over = span(items)
    return f"{shown}; {over}" if over else shown


def _from(one: Judged, links: Links) -> str:
    """Notebooks and results files of a row; of many files, the list that names them."""
    notebooks = list(dict.fromkeys(item.source.notebook for item in one.items))
    files = list(dict.fromkeys(links.results(item.source) for item in one.items))
    shown = [links.notebook(name) for name in notebooks or _planned(one.claim)]
    shown = shown if len(shown) <= FILES_SHOWN else []
    shown += files if len(files) <= FILES_SHOWN else []
    if len(one.items) > 1:
        shown.append(f"{{ref}}`all {len(one.items)} <{_label(one.claim)}>`")
    return ", ".join(shown) or "–"


def _planned(claim: Claim) -> list[str]:
    """The notebook that shows something of a claim without results, or would measure it."""
    of_cells = CELL_NOTEBOOK if getattr(claim.evidence, "table", "") not in OTHER_SAMPLES else ""
    name = getattr(claim.evidence, "notebook", of_cells)
    return [name] if name and "*" not in name else []


def _label(claim: Claim) -> str:
    return f"claim-{claim.id.replace('_', '-')}"


def _list(one: Judged, links: Links) -> str:
    rows = [
        [item.what, item.shown, span([item]), item.verdict, links.results(item.source)]
        for item in one.items
    ]
    head = f":::{{dropdown}} {one.claim.claim}\n:name: {_label(one.claim)}"
    return f"{head}\n\n{table(LIST_HEADER, rows)}\n:::"


def rates_beside(results: Sequence[Results], cells: Sequence[Results]) -> str:
    """How often each table's cells lie on the predicted side: the paper's above ours.

    The same rule for both, a point estimate strictly on the side; in brackets how many of ours have
    an interval that excludes zero on that side, and how many on the other.
    """
    rates, rows = agreement_rates(), []
    for names in (*((name,) for name in TABLES), MAIN_TABLES):
        title = names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"
        printed = [_printed(rates, names, metric) for metric in METRICS]
        judged = {m: _in_tables(names, m, results, cells) for m in METRICS}
        ours = [
            _counted(judged[m]) if p != "–" else p for m, p in zip(METRICS, printed, strict=True)
        ]
        rows += [[f"{title}, the paper", *printed], [f"{title}, here", *ours]]
    return table(["table", *SYMBOLS.values()], rows)


def _printed(rates: pd.DataFrame, names: Sequence[str], metric: str) -> str:
    part = rates[rates["table"].isin(names) & (rates["metric"] == metric)]
    return f"{part['agree'].sum()} of {part['cells'].sum()}" if len(part) else "–"


def _in_tables(
    names: Sequence[str], metric: str, results: Sequence[Results], cells: Sequence[Results]
) -> Judged:
    """Our cells of one metric in some tables together."""
    found = [judge_claim(_rate_claim(name, metric), results, cells) for name in names]
    return Judged(found[0].claim, [item for one in found for item in one.items])


def _counted(judged: Judged) -> str:
    if not judged.items:
        return NOT_RUN
    found = judged.tally
    decided = f"{found['reproduced']} : {found['contradicted']}"
    return f"**{found['on side']} of {len(judged.items)}** ({decided})"


def _rate_claim(name: str, metric: str) -> Claim:
    """What a cell of the rate table counts, as a claim."""
    rate = {"kind": "rate", "table": name}
    return Claim(
        id="rate",
        section="",
        claim="",
        where="",
        metric=metric,
        side=PREDICTIONS[metric],
        paper=(rate,),
        evidence=Comparisons(
            kind="comparisons", table=name, runs=FEW_OUTPUTS if name == "VIII" else ()
        ),
    )

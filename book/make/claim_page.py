"""The page of the paper's claims, which `book.make.claims` judges."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from book.make import frame
from book.make.claims import (
    DECIDED,
    NOT_RUN,
    SPLIT,
    VERDICTS,
    Facts,
    Judged,
    judge_all,
    published_text,
)
from book.make.frame import joined, records, span
from book.make.pages import BOOK, NOTEBOOKS, page_source
from book.make.texts import block, sheet

FILES_SHOWN = 3  # in a row at most; more are in the list of its items


def verdict_counts(judged: Sequence[Judged]) -> str:
    """How many claims are in the list, are not counted and why, and have which verdict; and on how
    few results files those that are decided rest."""
    verdicts = [one.verdict for one in judged if one.counted]
    aside = [sum(bool(getattr(one.claim, why)) for one in judged) for why in ("joined", "certain")]
    said = {"total": len(judged), "aside": aside, "names": VERDICTS}
    decided = [one for one in judged if one.counted and one.verdict in DECIDED]
    files = {file for one in decided for file in one.items["file"]}
    said |= {"decided": len(decided), "files": len(files)}
    return block("verdict_counts", verdicts=verdicts, **said)


def tallied(section: str, judged: Sequence[Judged]) -> dict:
    """How many claims of a part of the paper have which verdict, and how many are not counted."""
    counted = [one.verdict for one in judged if one.counted]
    return {"section": section, "tally": Counter(counted), "aside": len(judged) - len(counted)}


@dataclass(frozen=True)
class ClaimPage:
    """The page of claims. Every number of ours comes from a results file that its row names.

    address: of the repository; pages: of the table of contents, which notebooks are linked by.
    """

    rows: pd.DataFrame
    address: str
    pages: Collection[str]

    def fragments(self) -> dict[str, str]:
        """What the page includes, by name: how many claims have which verdict with a table of
        claims for each part of the paper, and the cells behind them, folded."""
        judged = judge_all(self.rows)
        used = pd.concat([one.items for one in judged]).drop_duplicates("file")
        parts = {name: list(some) for name, some in groupby(judged, lambda one: one.claim.section)}
        sections = [(name, *self._section(some)) for name, some in parts.items()]
        cells = [(one, sheet("claim_cells", records(one.items), link=self._results))
                 for one in judged if len(one.items) > 1]  # fmt: skip
        said = {"counts": verdict_counts(judged), "sections": sections, "files": len(used)}
        said["tally"] = sheet("claim_tally", (tallied(*part) for part in parts.items()))
        said["stale"] = (~used["state"].str.match("fresh|other versions")).sum()
        made = {"claims": block("claims", **said), "claim_cells": block("claim_cells", cells=cells)}
        about = {"decided": DECIDED, "known": (*DECIDED, SPLIT)}
        return made | {"claims_decided": block("claims_decided", judged=judged, **about)}

    def _section(self, judged: Sequence[Judged]) -> tuple[str, tuple[str, int] | None]:
        """The table of a part's claims, and that of those without results with their number."""
        rows = [[self._row(one) for one in judged if (one.verdict == NOT_RUN) == without]
                for without in (False, True)]  # fmt: skip
        asked, rest = (sheet("claims", some) if some else "" for some in rows)
        return asked, (rest, len(rows[1])) if rest else None

    def _row(self, one: Judged) -> dict:
        """Of many notebooks or files not their links, but that to the list that names them."""
        items, links = records(one.items), []
        notebooks = [item["notebook"] for item in items] or _planned(one.claim.evidence)
        for each in (map(self._notebook, notebooks), map(self._results, items)):
            found = list(dict.fromkeys(each))
            links += found if len(found) <= FILES_SHOWN else []
        if len(items) > 1:
            links.append(f"{{ref}}`all {len(items)} <{one.label}>`")
        said = {"paper": published_text(one.claim, self.rows), "over": span(one.items)}
        return {"one": one, "items": items, "links": joined(links) or frame.NONE} | said

    def _results(self, item: Mapping) -> str:
        """A link to a results file, which says so where the code here no longer fits it."""
        return block("results_link", address=self.address, **item)

    def _notebook(self, name: str) -> str:
        """A notebook's page; where it has none, the notebook that is executed for it."""
        if NOTEBOOKS + name in self.pages:
            return f"{{doc}}`{name} <{NOTEBOOKS}{name}>`"
        return f"[{name}]({self.address}/blob/main/{NOTEBOOKS}{page_source(BOOK, name)[0]}.ipynb)"


def _planned(asked: Facts) -> list[str]:
    """The notebook that shows something of a claim without results, or would measure it."""
    of_cells = asked.table not in (None, *frame.MAIN_TABLES[1:])
    name = frame.CELL_NOTEBOOK if of_cells else asked.notebook
    return [name] if name and "*" not in name else []

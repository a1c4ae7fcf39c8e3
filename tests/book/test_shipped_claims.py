"""The claims that are shipped: complete, the paper's, each with a row that leads to its files."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import yaml
from committed import judged
from made_claims import FOR, LAYERS, cell, each, judge, number, one, study
from made_results import CELL, cells_of, comparison, rows_of, rows_of_all
from refusals import fails

from book.make import claims
from book.make.claim_page import ClaimPage, verdict_counts
from book.make.claims import EVIDENCE, NOT_RUN
from book.make.frame import TABLE_OF, frame, paper_rows
from book.make.pages import toc_pages
from book.make.texts import badge
from kpnb.experiments.attributions import METHODS
from kpnb.paper import METRICS
from kpnb.run.sweeps import read_sweeps

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "https://example.org/kpnb"
SHIPPED = claims.shipped_claims()
PAPER, PAGES = frame([]), toc_pages(ROOT / "book")

#: By kind of facts: the fields that it needs.
NEEDED = {"rate": ["table"], "values": ["table"], "change": ["table"], "quote": ["text"],
          "comparisons": ["table"], "means": ["table"], "numbers": ["notebook", "names"],
          "none": ["reason"]}  # fmt: skip


def claim_rows(page):
    """The rows of the page's tables of claims, which stand below the tally."""
    return rows_of_all(page.partition("```{rubric} ")[2])


def test_the_tally_of_the_parts_is_that_of_the_whole_list():
    shown = ClaimPage(frame(MADE), ADDRESS, PAGES).fragments()["claims"]
    tally, *_ = (part for part in shown.split("\n\n") if part.startswith("|"))
    head, *_ = map(cells_of, tally.split("\n"))
    rows = [[int(cell) if cell.isdigit() else 0 for cell in row[1:]] for row in rows_of(tally)]
    sums = dict(zip(head[1:], map(sum, zip(*rows, strict=True)), strict=True))
    assert sum(sums.values()) == len(SHIPPED) == len(claim_rows(shown))
    for name in (NOT_RUN, "supported"):
        assert f"{sums[name]} {name}" in shown
    folded = sum(map(int, re.findall(r"Not run here: (\d+) claim", shown)))
    assert folded == sum(one.verdict == NOT_RUN for one in claims.judge_all(frame(MADE)))


def test_every_shipped_claim_has_what_its_kind_needs_and_quotes_what_is_printed():
    for claim in SHIPPED:
        assert claim.evidence.kind in EVIDENCE and claim.paper
        assert claim.side or claim.evidence.kind == "none", claim.id
        assert claim.metric or claim.evidence.kind in ("numbers", "none"), claim.id
        for asked in (*claim.paper, claim.evidence):
            assert all(getattr(asked, name) for name in NEEDED[asked.kind]), claim.id
            printed = set()
            if asked.where:
                rows = paper_rows(PAPER, asked.table)
                printed = {*TABLE_OF, *rows[claims.PAPER_CELL].to_numpy().ravel()}
            assert set(re.findall(r"'(.*?)'", asked.where)) <= printed, claim.id


def test_the_list_is_the_papers_and_what_is_not_counted_says_why():
    """115 claims; joined ones rest on the very items of another, or on some of them."""
    known = {claim.id: claim for claim in SHIPPED}
    aside = [claim for claim in SHIPPED if claim.joined]
    assert len(known) == 115 and len(aside) == 3
    for claim in aside:
        other = known[claim.joined]
        assert (claim.metric, claim.side, claim.evidence.table) == (
            other.metric, other.side, other.evidence.table)  # fmt: skip
        assert not (other.joined or other.certain or other.evidence.where)
    certain = {claim.id for claim in SHIPPED if claim.certain}
    assert len(certain) == 14 and {"entropy_is_coherent", "background_is_discarded_more"} < certain
    made = verdict_counts([judge(claim) for claim in SHIPPED])
    assert made.startswith("**115 claims**") and "Of the other 98: 98 not run." in made


def test_metrics_stand_for_a_claim_each_and_ids_are_unique():
    entry = one().model_dump(mode="json", exclude={"section", "metric", "side"}, exclude_unset=True)
    entry |= {"claim": "{metric} is {side}", "metrics": list(METRICS)}
    many = claims.load_claims(yaml.safe_dump({"a part": [entry]}))
    assert [claim.id for claim in many] == [f"a_claim_{metric}" for metric in METRICS]
    assert many[0].claim == "$N^{fg}_{point}$ is higher" and many[1].side == "down"
    twice = yaml.safe_dump({"a": [entry], "b": [entry]})
    fails(claims.load_claims, "two claims have the id 'a_claim_", twice)


def test_every_shipped_claim_asks_for_runs_and_methods_that_there_are():
    known = {*METHODS, "entropy", "feature_variance"}
    runs = [name for sweep in read_sweeps().values() for name in sweep.runs]
    for claim in SHIPPED:
        assert not any(re.search(r"\d", item.text) for item in claim.paper), claim.id
        for pattern in claim.evidence.runs:
            named = [run for run in runs if run.startswith(f"{claim.evidence.table.lower()}_")]
            assert any(fnmatchcase(run, pattern) for run in named), (claim.id, pattern)
        for name in claim.evidence.names:
            found = re.fullmatch(r"(channel_)?coherency_(shape_)?(\w+)", name)
            assert found is None or found[3] in known, name
    for table in ("V", "VI", "VII", "II", "III", "IX"):
        asked = {claim.metric for claim in SHIPPED for item in claim.paper if item.table == table}
        assert asked >= set(METRICS), table
    by_number = [o for o in judged().values() if o.claim.evidence.kind == "numbers"]
    for item in (item for found in by_number for item in each(found)):  # determined, or
        assert "[" in item.shown or "largest_difference" in item.what, item.what


def targets(text):
    """Files and pages that a row leads to; each must be there."""
    start = f"{ADDRESS}/blob/main/"
    files = [address.removeprefix(start) for address in re.findall(r"\]\((\S+?)\)", text)]
    named = re.findall(r"\{doc\}`\w+ <(\S+?)>`", text)
    assert all(file.endswith(".json") or (ROOT / file).is_file() for file in files), files
    assert set(named) <= set(PAGES)
    return files + named


#: A result of every table, on three layers, and the number behind each claim of numbers.
MADE = [study(*[comparison(metric, 1.0 + i / 9, 2.0 + i / 9, layer=layer)
                for metric in METRICS for i, layer in enumerate(LAYERS[:3])])]  # fmt: skip
MADE.append(study(notebook="image_lambda", numbers={"correlation_test": number(0.5, 0.1, 0.9)}))
MADE.append(cell("viii_alexnet_outputs4", comparison("n_fg", -2.0, -1.0, layer="FC3")))


def test_every_shipped_claim_has_a_row_with_a_verdict_that_leads_to_its_files():
    rows = frame(MADE)
    known = {found.claim.id: found for found in claims.judge_all(rows)}
    shown = ClaimPage(rows, ADDRESS, PAGES).fragments()
    lists = shown["claim_cells"].split(":name: ")[1:]
    folded = {part.split("\n")[0]: rows_of(part) for part in lists}
    rows = {(row[0], row[4]): row for row in claim_rows(shown["claims"])}
    assert len(rows) == len(SHIPPED)
    for claim in SHIPPED:
        row = rows[claim.claim, claim.where]
        here = known[claim.id]
        found = targets(row[5])
        said = NOT_RUN if here.verdict == NOT_RUN else badge(here.verdict)
        assert row[1].startswith(said if here.counted else "not counted: ")
        for total, label in re.findall(r"\{ref\}`all (\d+) <(\S+?)>`", row[5]):
            assert len(folded[label]) == int(total) == len(here.items)
            found += [file for item in folded[label] for file in targets(item[4])]
        assert set(here.items["file"]) == {file for file in found if file.endswith(".json")}
        # what is not run leads to the notebook that would measure it, if there is one
        assert found or claim.evidence.kind == "none" or here.verdict == NOT_RUN
    assert known["v_h1_n_fg"].verdict == "supported" == known["ratio_and_accuracy"].verdict
    assert known["few_outputs_n_fg"].verdict == "supported"
    assert "over 3 cells; 3 of 3 higher; 3 supported" in shown["claims"]
    decided = shown["claims_decided"]
    assert known["v_h1_n_fg"].claim.claim in decided and "Opposed" in decided
    assert known["figure_6_foreground"].claim.claim not in decided  # is joined
    # a page of another name leads to the notebook that was executed for it
    cloud = comparison("n_fg", 1.0, 2.0, sample="cloud", network="PointNet++")
    pages = ClaimPage(frame([study(cloud, notebook="pointcloud_pointnet2")]), ADDRESS, PAGES)
    source = f"{ADDRESS}/blob/main/notebooks/pointcloud_network.ipynb"
    assert f"[pointcloud_pointnet2]({source})" in pages.fragments()["claims"]


def test_no_number_of_ours_comes_from_the_yaml():
    empty = ClaimPage(PAPER, ADDRESS, []).fragments()
    rows = claim_rows(empty["claims"])
    assert len(rows) == len(SHIPPED)
    assert all(row[1] == NOT_RUN or row[1].startswith("not counted") for row in rows)
    assert not any(re.search(r"\d", row[2]) for row in rows)
    assert empty["claims_decided"] == "None yet."
    told = (ROOT / "book" / "claims.md").read_text()
    for name in ("claims", "claim_cells"):
        assert f"```{{include}} _generated/{name}.md\n```" in told
    assert CELL["layer"] not in told and "random-effects mean" in told


def test_a_stale_file_is_marked(monkeypatch):
    named = [claim for claim in SHIPPED if claim.claim.startswith("VGG-11: the student has more")]
    monkeypatch.setattr(claims, "shipped_claims", lambda: named[:1])
    stale = study(FOR, provenance={"code": ["published_table"]})
    made = ClaimPage(frame([stale]), ADDRESS, ["notebooks/image_h1"]).fragments()["claims"]
    assert "1 results file, 1 of them stale" in made
    (row,) = claim_rows(made)
    file = f"{ADDRESS}/blob/main/book/results/study/image_h1.json"
    assert row[5] == f"{{doc}}`image_h1 <notebooks/image_h1>`, [image_h1.json]({file}) (stale)"
    assert row[2] == "+9.50 [+6.00, +13.0]; 60 images, 3 seeds"


def test_ten_more_teachers_count_in_no_claim():
    assert (ROOT / "book" / "results" / "study" / "cells" / "ten_alexnet_fc1.json").exists()
    files = {file for one in judged().values() for file in one.items["file"]}
    assert files and not any("ten_" in file for file in files)

"""The page of claims: rules against hand-made results, and the shipped claims on the study."""

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml
from committed import committed, judged
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import CELL, comparison, measure, rows_of, rows_of_all, run
from refusals import fails

from book.make import claims
from book.make.claims import NOT_RUN, ClaimPage, overall
from book.make.frame import frame, main_rows, span
from book.make.pages import toc_pages
from kpnb.experiments.attributions import METHODS
from kpnb.metrics.results import Number
from kpnb.paper import METRICS, agreement_rates
from kpnb.run.sweeps import read_sweeps

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "https://example.org/kpnb"
SHIPPED = claims.shipped_claims()
PAPER, PAGES = frame([]), toc_pages(ROOT / "book")
RATE, NO_DATA = {"kind": "rate", "table": "V"}, {"kind": "none", "reason": "x"}
FROM_V = {"kind": "comparisons", "table": "V"}
IMAGE_GAPS = {"kind": "numbers", "notebook": "image_*", "names": ["gap_*"]}


def judge(claim, *results):
    return claims.judge_claim(claim, frame(results))


def each(judged):
    return list(judged.items.itertuples(index=False))


def items(claim, *results):
    return each(judge(claim, *results))


def one(**changes):
    entry = {"id": "a_claim", "claim": "The student's {metric} is {side}.", "where": "Table V"}
    entry |= {"metric": "n_fg", "paper": [RATE], "evidence": FROM_V}
    (claim,) = claims.load_claims(yaml.safe_dump({"a part": [entry | changes]}))
    return claim


def study(*comparisons, **changes):
    return run(preset="study", comparisons=list(comparisons), **changes)


def cell(name, *comparisons, **changes):
    return study(*comparisons, notebook="image_cell", run=name, **changes)


def means(first, second, metric="n_fg", **changes):
    evidence = {"kind": "means", "table": "V", "first": first, "second": second} | changes
    quote = {"kind": "quote", "text": "no number"}
    return one(metric=metric, side="up", paper=[quote], evidence=evidence)


def number(value, low=None, high=None):
    return Number(value=value, low=low, high=high, what="a gap", n=7)


SIDES = ("up", "down")
FOR, OTHER_SIDE = comparison("n_fg", 6.0, 13.0), comparison("n_fg", -3.0, -1.0)

#: By verdict: items, each by its first letter, and how many point estimates lie on the side.
OVERALL = {
    NOT_RUN: "0",
    "reproduced": "r1 ri2 rrc2 rrci3 rrrcii5",
    "contradicted": "c0 ci0 cccrii1",
    "inconclusive": "i1 ri1 ci1 rc1 rrci2 rrcii4 rrrcii3 cccrii3 rrrccc3",
}


@pytest.mark.parametrize("verdict", OVERALL)
def test_one_verdict_over_several(verdict):
    names = {"r": "reproduced", "c": "contradicted", "i": "inconclusive"}
    for case in OVERALL[verdict].split():
        found = overall([names[letter] for letter in case[:-1]], int(case[-1]))
        assert found == verdict, case


@settings(max_examples=50)
@given(st.lists(st.sampled_from(claims.VERDICTS[:3]), min_size=1), st.data())
def test_the_verdict_is_the_mirror_of_the_mirrored_and_needs_no_order(verdicts, data):
    swap = {"reproduced": "contradicted", "contradicted": "reproduced"}
    mirrored = [swap.get(verdict, verdict) for verdict in verdicts]
    points = data.draw(st.integers(0, len(verdicts)))
    found = overall(verdicts, points)
    assert overall(mirrored, len(verdicts) - points) == swap.get(found, found)
    assert overall(sorted(verdicts), points) == found


def test_a_single_comparison_keeps_its_verdict_and_its_numbers():
    found = judge(one(), study(FOR))
    assert found.verdict == "reproduced" and found.tally["on side"] == 1
    told = "+9.50 [+6.00, +13.0]", "60 images, 3 seeds"
    assert (each(found)[0].shown, span(found.items)) == told
    assert judge(one(side="down"), study(FOR)).verdict == "contradicted"
    for side in SIDES:  # a point estimate on zero is on no side
        (zero,) = items(one(side=side), study(comparison("n_fg", -1.0, 1.0)))
        assert zero.verdict == "inconclusive" and not zero.on_side
    for low, high, expected in ((-1.0, 2.0, "reproduced"), (-2.0, 1.0, "inconclusive")):
        two = study(FOR, comparison("n_fg", low, high, layer="FC2"))
        assert judge(one(), two).verdict == expected  # the point estimates count


def test_only_the_headline_of_the_claims_metric_on_training_samples_of_the_study_counts_once():
    filtered = comparison("n_fg", 1.0, 2.0, selection="published_filter")
    other = [comparison("n_fg", 1.0, 2.0, threshold=0.25), comparison("n_bg", 1.0, 2.0)]
    unseen = study(FOR, settings={"threshold": 0.2, "measured_on": "test"})
    alone = study(OTHER_SIDE, notebook="image_cell")  # no run of a sweep
    aside = [study(filtered, *other), run(comparisons=[FOR]), unseen, alone]
    assert items(one(), *aside) == [] and len(items(one(), *aside, study(FOR))) == 1
    per_epoch = comparison("d_mean", -2.0, -1.0, prediction="down", distance="epoch")
    assert items(one(metric="d_mean"), study(per_epoch)) == []
    # no cell counts twice, and the main result is taken
    fc2, fc3 = (comparison("n_fg", -3.0, -1.0, layer=layer) for layer in ("FC2", "FC3"))
    cells = [cell("v_vgg11_fc1", OTHER_SIDE), cell("v_vgg11_fc2", fc2)]
    found = judge(one(), study(FOR), *cells, cell("ii_vgg11_from_vgg16", fc3), cell("vi_x", fc3))
    assert [item.run for item in each(found)] == ["", "v_vgg11_fc2"]
    assert each(found)[0].verdict == "reproduced" and found.verdict == "inconclusive"
    full = cell("v_full", comparison("n_fg", 1.0, 2.0, scale="full"))
    assert len(items(one(), study(FOR), cells[0], full)) == 2


GRIDS = [study(FOR)] + [cell(f"iii_vgg11_grid{g}", FOR) for g in (8, 16, 32)]
OWN = {"threshold": 0.2, "network": "VGG-11"}
TAUGHT = [cell(f"ii_{teacher}", FOR, settings=OWN | {"teacher": teacher})
          for teacher in ("same", "VGG-16", "VGG-11")]  # fmt: skip
PLACED = [comparison("n_fg", 1, 2, **own) for own in ({}, {"layer": "FC2"}, {"network": "X"})]
TEXTS = [study(comparison("n_fg", 1.0, 2.0, sample=kind, dataset=kind, layer=kind))
         for kind in ("sentence", "question", "image")]  # fmt: skip
AT_BS = [comparison("n_fg", 1.0, 2.0, threshold=b) for b in (0.15, 0.2, 0.25)]
AT_BS.append(comparison("n_fg", 1.0, 2.0, threshold=0.3, selection="published_filter"))


@pytest.mark.parametrize(
    ("asked", "results", "expected"),
    [
        ({"table": "III"}, GRIDS, ["VGG-11, FC1"] * 3),  # runs of Table III count one by one
        ({"table": "III", "runs": ["*_grid8", "*_grid32"]}, GRIDS, ["VGG-11, FC1"] * 2),
        ({"table": "II"}, GRIDS, []),
        ({"table": "II", "where": "larger"}, TAUGHT, ["VGG-11, FC1, teacher VGG-16"]),
        ({"where": "network == 'VGG-11' and layer == 'FC1'"}, [study(*PLACED)], ["VGG-11, FC1"]),
        ({"table": "VI"}, TEXTS, ["VGG-11, sentence", "VGG-11, question"]),
        ({"table": "VI", "where": "sample == 'question'"}, TEXTS, ["VGG-11, question"]),
        # other thresholds count on request
        ({"of": "other_b"}, [study(*AT_BS)], [f"VGG-11, FC1, b = {b}" for b in (0.15, 0.25)]),
    ],
)
def test_tables_runs_teachers_places_samples_and_thresholds_select(asked, results, expected):
    found = items(one(evidence=FROM_V | asked), *results)
    assert [item.what for item in found] == expected
    if "runs" in asked:
        assert [item.run for item in found] == ["iii_vgg11_grid8", "iii_vgg11_grid32"]
    if asked.get("table") == "VI":
        assert [f"VGG-11, {item.noun}" for item in found] == expected


def test_means_decide_where_intervals_do_not_overlap():
    second, claim = measure("S", "n_fg", 1.5, low=1.0, high=2.0), means("T", "S")
    for low, high, expected in (
        *((3.0, 4.0, "reproduced"), (1.0, 3.0, "inconclusive"), (2.0, 3.0, "inconclusive")),
        (None, None, "inconclusive"),
    ):
        both = study(measures=[measure("T", "n_fg", 3.5, low=low, high=high), second])
        (item,), (down,) = (items(claim.model_copy(update={"side": side}), both) for side in SIDES)
        assert item.verdict == expected and item.on_side and not down.on_side
        assert down.verdict == {"reproduced": "contradicted"}.get(expected, expected)


def test_roles_are_paired_within_a_network_and_layer():
    starts, roles = {"FC1": 20.0, "FC2": 10.0}, {"T": 4, "S": 0, "B": -9}
    measures = [measure(role, "n_fg", start + more, layer=layer)
                for layer, start in starts.items() for role, more in roles.items()]  # fmt: skip
    found = judge(means("T", "S"), study(measures=measures))
    pairs = [f"VGG-11, FC{i}: teacher, student" for i in "12"]
    assert [item.what for item in each(found)] == pairs and found.verdict == "reproduced"
    assert each(found)[0].shown == "24.0 [23.0, 25.0] against 20.0 [19.0, 21.0]"
    split = [study(measures=[m for m in measures if m.role == role]) for role in "TS"]
    assert items(means("T", "S"), *split) == []  # S here and T there are no pair
    ends = means("T", "T", first_layer="FC2", second_layer="FC1")
    (item,) = items(ends, study(measures=measures))
    told = "VGG-11, FC2: teacher at FC2, teacher at FC1"
    assert (item.what, item.verdict) == (told, "contradicted")
    strangers = [measures[0], measures[3].model_copy(update={"network": "AlexNet"})]
    assert items(ends, study(measures=strangers)) == []


def score(role, layer, mean, low=None, high=None, n=2000):
    spread = {"threshold": None, "low": low, "high": high, "n_samples": n}
    return measure(role, "accuracy_test", mean, layer=layer, **spread)


def test_scores_meet_the_one_of_the_baseline_once_and_carry_samples_as_well_as_seeds():
    networks = [score("B", "", 0.2), score("T", "", 0.6)]
    runs = [cell(f"v_{at}", measures=[*networks, score("S", at, 0.4)]) for at in ("FC1", "FC2")]
    found = items(means("S", "B", "accuracy_test"), *runs)
    assert [item.what for item in found] == [f"VGG-11, FC{i}: student, baseline" for i in "12"]
    assert len(items(means("T", "B", "accuracy_test"), *runs)) == 1  # the same two networks in both

    def ends(of):
        (row,) = main_rows(frame([study(measures=[of])]), "measure").to_dict("records")
        return tuple(claims.measure_interval(row).values())

    wilson = pytest.approx((0.404, 0.596), abs=1e-3)  # from a table
    assert ends(score("S", "FC1", 0.5, n=100)) == wilson
    assert ends(score("S", "FC1", 0.5, 0.3, 0.7, n=100)) == (0.3, 0.7)
    few, many = (ends(score("S", "FC1", 0.5, 0.49, 0.51, n=n)) for n in (10, 10**9))
    assert few[0] < 0.3 and many == (0.49, 0.51)
    assert ends(measure("S", "n_fg", 5.0)) == (4.0, 6.0)


ABOVE, BELOW, OPEN, EXACT = (2.0, 1.0, 3.0), (-2.0, -3.0, -1.0), (1.0, -1.0, 3.0), (2.0,)


@pytest.mark.parametrize(
    ("bound", "values", "on_side", "expected"),
    [
        *((0.0, [ABOVE], 1, "reproduced"), (0.0, [BELOW], 0, "contradicted")),
        *((0.0, [OPEN], 1, "inconclusive"), (1.5, [ABOVE], 1, "inconclusive")),
        *((2.0, [ABOVE], 0, "inconclusive"), (5.0, [ABOVE], 0, "contradicted")),
        *((0.0, [EXACT], 1, "reproduced"), (3.0, [EXACT], 0, "contradicted")),
        *((2.0, [EXACT], 0, "inconclusive"), (0.0, [ABOVE, BELOW], 1, "inconclusive")),
        (0.0, [], 0, NOT_RUN),
    ],
)
def test_numbers_against_a_bound(bound, values, on_side, expected):
    keys = {f"gap_{i}": number(*value) for i, value in enumerate(values)} | {"other": number(-9)}
    claim = one(side="up", evidence=IMAGE_GAPS | {"bound": bound})
    found = judge(claim, study(numbers=keys), study(notebook="qa_h1", numbers=keys))
    assert (found.verdict, found.tally["on side"]) == (expected, on_side)
    if values[:1] == [ABOVE]:
        assert each(found)[0].shown == "2.00 [1.00, 3.00]" and each(found)[0].n_samples == 7


def test_numbers_of_all_notebooks_of_a_kind_count_those_of_shared_networks_once():
    def of(make, value, *args, **settings):
        keys = {"gap_T_FC1": number(value, 1.0, 3.0)}
        return make(*args, numbers=keys, settings={"threshold": 0.2} | settings)

    alexnet = [of(cell, 2.5, name, network="AlexNet") for name in ("v_a", "ii_a")]
    unseen = of(study, 2.2, measured_on="test")
    elsewhere = of(study, 2.1).model_copy(update={"notebook": "pointcloud_h1"})
    runs = [of(study, 2.0), elsewhere, unseen, *alexnet, of(cell, 2.5, "v_b")]
    found = items(one(side="up", evidence=IMAGE_GAPS), *runs)
    assert [item.run for item in found] == ["", "v_a", "v_b"]
    assert found[1].what == "AlexNet, `gap_T_FC1`: a gap"


def test_a_rate_counts_as_the_published_rates_do():
    for row in agreement_rates().to_dict("records"):
        claim = one(metric=row["metric"], paper=[{"kind": "rate", "table": row["table"]}])
        ties = f" ({row['ties']} tie{'s' * (row['ties'] > 1)})" if row["ties"] else ""
        assert claims.published_text(claim, PAPER) == f"{row['agree']} of {row['cells']}{ties}"


FC1_OF_ALEXNET = "network == 'AlexNet' and layer == 'FC1' and dataset == 'CUB200-2011'"


@pytest.mark.parametrize(
    ("metric", "side", "printed", "said"),
    [
        ("n_fg", "down", {"kind": "rate", "table": "VIII"}, "4 of 4"),
        ("n_fg", "up", {"kind": "rate", "table": "IV", "first": "T", "second": "S"}, "4 of 5"),
        ("rho", "up", {"kind": "rate", "table": "II", "where": "larger"}, "4 of 4"),
        ("n_fg", "up", {"kind": "rate", "table": "III", "where": "grid_size == '8x8?'"}, "2 of 2"),
        ("d_mean", "up", {"kind": "values", "table": "V", "where": FC1_OF_ALEXNET},
         "5.13 against 2.96"),
        ("n_bg", "up", {"kind": "change", "table": "IX"}, "$N^{bg}_{point}$ +12.0%"),
    ],
)  # fmt: skip
def test_other_sides_roles_and_rows_of_the_paper(metric, side, printed, said):
    assert claims.published_text(one(metric=metric, side=side, paper=[printed]), PAPER) == said


AT_CONV, VGG_12 = {"table": "VII", "where": "layer == 'Conv'"}, {"where": "network == 'VGG-12'"}
#: What the paper has not.
UNKNOWN = [
    *({"paper": [RATE | VGG_12]}, {"evidence": FROM_V | VGG_12}),
    *({"paper": [RATE | AT_CONV]}, {"evidence": FROM_V | AT_CONV}),
    {"paper": [RATE | {"where": "network in ['VGG-12', 'VGG-16']"}]},
    {"paper": [RATE | {"table": "IV"}], "metric": "rho"},
    {"paper": [RATE | {"first": "T"}]},
    {"paper": [RATE | {"table": "VI", "where": "larger"}]},
    {"paper": [RATE | {"where": "weather == 'fine'"}]},
    {"paper": [RATE | {"where": "layer == "}]},
    {"paper": [{"kind": "values", "table": "V", "where": "dataset == 'CUB'"}]},
]
MISFITS = [
    *({"evidence": FROM_V | {"table": "X"}}, {"evidence": {"kind": "guess"}}, {"evidence": RATE}),
    *({"evidence": FROM_V | {"bound": 1.0}}, {"evidence": IMAGE_GAPS | {"names": []}}),
    {"evidence": {"kind": "means", "table": "V", "first": "T"}},
    *({"paper": [NO_DATA]}, {"paper": []}, {"verdict": "reproduced"}, {"id": "A claim"}),
    *({"metric": "accuracy"}, {"metric": None}, {"metric": None, "side": "up"}),
    {"metric": None, "side": "up", "evidence": NO_DATA},
]


@pytest.mark.parametrize("changes", UNKNOWN + MISFITS)
def test_a_claim_that_asks_for_what_is_not_there_is_an_error(changes):
    why = "cannot be read" if changes in MISFITS else "(has not|is no query)"
    fails(lambda: claims.published_text(one(**changes), PAPER), f"[aA].claim.*{why}")


def test_metrics_stand_for_a_claim_each_and_ids_are_unique():
    entry = one().model_dump(mode="json", exclude={"section", "metric", "side"}, exclude_unset=True)
    entry |= {"claim": "{metric} is {side}", "metrics": list(METRICS)}
    many = claims.load_claims(yaml.safe_dump({"a part": [entry]}))
    assert [claim.id for claim in many] == [f"a_claim_{metric}" for metric in METRICS]
    assert many[0].claim == "$N^{fg}_{point}$ is higher" and many[1].side == "down"
    twice = yaml.safe_dump({"a": [entry], "b": [entry]})
    fails(claims.load_claims, "two claims have the id 'a_claim_", twice)


def test_every_shipped_claim_asks_for_what_there_is_and_reads_every_file_that_has_it():
    """But for unseen images, which no claim counts, and numbers that a sweep repeats."""
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
    found = committed()["name"].str.startswith("entropy_gap_")
    of_gaps = [name for name in judged() if name.startswith("background_is_discarded_more")]
    used = {item.notebook for name in of_gaps for item in each(judged()[name])}
    assert used == set(committed().loc[found, "notebook"]) - {"image_unseen"}
    seeds = {item.notebook: item.n_seeds for item in each(judged()["grid_n_fg"])}
    assert seeds == {"image_cell": 1, "image_measure": 3}
    by_number = [one for one in judged().values() if one.claim.evidence.kind == "numbers"]
    for item in (item for one in by_number for item in each(one)):  # determined, or
        assert "[" in item.shown or "largest_difference" in item.what, item.what


def targets(text):
    """Files and pages that a row leads to; each must be there."""
    start = f"{ADDRESS}/blob/main/"
    files = [address.removeprefix(start) for address in re.findall(r"\]\((\S+?)\)", text)]
    named = re.findall(r"\{doc\}`\w+ <(\S+?)>`", text)
    assert all((ROOT / file).is_file() for file in files), files
    assert set(named) <= set(PAGES)
    return files + named


def test_every_shipped_claim_has_a_row_with_a_verdict_that_leads_to_its_files():
    shown = ClaimPage(committed(), ADDRESS, PAGES).fragments()
    claimed, lists = shown["claims"], shown["claim_cells"].split(":name: ")[1:]
    folded = {part.split("\n")[0]: rows_of(part) for part in lists}
    for row, claim in zip(rows_of_all(claimed), SHIPPED, strict=True):
        here = judged()[claim.id]
        found = targets(row[5])
        assert row[:2] == [claim.claim, claim.where]
        assert row[4].startswith(NOT_RUN if here.verdict == NOT_RUN else f"**{here.verdict}**")
        for total, label in re.findall(r"\{ref\}`all (\d+) <(\S+?)>`", row[5]):
            assert len(folded[label]) == int(total) == len(here.items)
            found += [file for item in folded[label] for file in targets(item[4])]
        assert set(here.items["file"]) == {file for file in found if file.endswith(".json")}
        # what is not run leads to the notebook that would measure it, if there is one
        assert found or claim.evidence.kind == "none"
    counts = [int(n) for n in re.findall(r"(\d+) (?:repro|contra|inconcl|not run)", claimed)[:4]]
    assert sum(counts) == len(SHIPPED) > counts[3]
    # a page of another name leads to the notebook that was executed for it
    source = f"{ADDRESS}/blob/main/notebooks/pointcloud_network.ipynb"
    assert f"[pointcloud_pointnet2]({source})" in claimed


def test_no_number_of_ours_comes_from_the_yaml():
    empty = ClaimPage(PAPER, ADDRESS, []).fragments()
    rows = rows_of_all(empty["claims"])
    assert len(rows) == len(SHIPPED) and {row[4] for row in rows} == {NOT_RUN}
    assert not any(re.search(r"\d", row[3]) for row in rows)
    moved = committed().copy()  # all move with the results
    moved.loc[moved["kind"] == "comparison", ["value", "low", "high"]] *= 2
    compared = [one for one in judged().values() if one.claim.evidence.kind == "comparisons"]
    for before in compared[:: len(compared) // 8]:
        after = claims.judge_claim(before.claim, moved)
        assert len(after.items) and not set(after.items["shown"]) & set(before.items["shown"])
    told = (ROOT / "book" / "claims.md").read_text()
    for name in (*empty, "claim_rates"):
        assert f"```{{include}} _generated/{name}.md\n```" in told
    assert CELL["layer"] not in told and "at least half of all cells" in told


def test_a_stale_file_is_marked(monkeypatch):
    named = [claim for claim in SHIPPED if claim.claim.startswith("VGG-11: the student has more")]
    monkeypatch.setattr(claims, "shipped_claims", lambda: named[:1])
    stale = study(FOR, provenance={"code": ["published_table"]})
    made = ClaimPage(frame([stale]), ADDRESS, ["notebooks/image_h1"]).fragments()["claims"]
    assert "1 results file, 1 of them stale" in made
    (row,) = rows_of_all(made)
    file = f"{ADDRESS}/blob/main/book/results/study/image_h1.json"
    assert row[5] == f"{{doc}}`image_h1 <notebooks/image_h1>`, [image_h1.json]({file}) (stale)"
    assert row[3] == "+9.50 [+6.00, +13.0]; 60 images, 3 seeds"

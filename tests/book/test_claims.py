"""The page of claims: rules against hand-made results, and the shipped claims on the study."""

import re
from fnmatch import fnmatchcase
from math import nan
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from made_results import CELL, comparison, measure, rows_of, rows_of_all, run

from book.make import claims, tables
from book.make.claims import NOT_RUN, means_verdict, measure_interval, overall
from book.make.frame import frame, main_rows, records, span
from book.make.pages import toc_pages
from kpnb.errors import KpnbError
from kpnb.experiments.attributions import METHODS
from kpnb.metrics.results import Number, available_cells, available_results
from kpnb.paper import METRICS, TABLES, agreement_rates

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "https://example.org/kpnb"
SHIPPED = claims.shipped_claims()
PAPER = frame([])


def judge(claim, results=(), cells=()):
    return claims.judge_claim(claim, frame([*results, *cells]))


def each(judged):
    return list(judged.items.itertuples(index=False))


def items(claim, results=(), cells=()):
    return each(judge(claim, results, cells))


def page(results, pages=()):
    made = tables.ClaimPage(frame(results), ADDRESS, pages).fragments()
    return made["claims"], made["claim_cells"]


def one(**changes):
    """A claim from the text of a YAML file with one entry."""
    entry = {
        "id": "a_claim",
        "claim": "The student's {metric} is {side}.",
        "where": "Table V",
        "metric": "n_fg",
        "paper": [{"kind": "rate", "table": "V"}],
        "evidence": {"kind": "comparisons", "table": "V"},
    }
    (claim,) = claims.load_claims(yaml.safe_dump({"a part": [entry | changes]}))
    return claim


def study(*comparisons, **changes):
    values = {"preset": "study", "comparisons": list(comparisons), "measures": []}
    return run(**values | changes)


def cell(name, *comparisons, **changes):
    return study(*comparisons, notebook="image_cell", run=name, **changes)


def means(**changes):
    pair = {"kind": "means", "table": "V", "first": "T", "second": "S"}
    return one(evidence=pair | changes)


def numbers(bound, *values):
    """A claim that a notebook's numbers are above a bound, judged on some."""
    evidence = {"kind": "numbers", "notebook": "image_x", "names": ["gap_*"], "bound": bound}
    keys = {f"gap_{i}": Number(value=v, low=a, high=b, what="a gap", n=7) for i, (v, a, b) in
            enumerate(values)}  # fmt: skip
    keys |= {"other": Number(value=-9.0, low=-9.5, high=-8.5, what="of another name")}
    claim = one(metric=None, side="up", evidence=evidence)
    results = [study(notebook="image_x", numbers=keys), study(notebook="image_y", numbers=keys)]
    return judge(claim, results, [])


# One verdict over several


@pytest.mark.parametrize(
    ("letters", "on_side", "expected"),
    [
        ("", 0, NOT_RUN),
        ("r", 1, "reproduced"),
        ("c", 0, "contradicted"),
        ("i", 1, "inconclusive"),
        ("ri", 2, "reproduced"),
        ("ri", 1, "inconclusive"),  # one of two is no reproduction
        ("ci", 0, "contradicted"),
        ("ci", 1, "inconclusive"),
        ("rc", 1, "inconclusive"),
        ("rrc", 2, "reproduced"),
        ("rrci", 2, "inconclusive"),
        ("rrci", 3, "reproduced"),
        ("rrcii", 4, "inconclusive"),
        ("rrrcii", 5, "reproduced"),
        ("rrrcii", 3, "inconclusive"),
        ("cccrii", 1, "contradicted"),
        ("cccrii", 3, "inconclusive"),
        ("rrrccc", 3, "inconclusive"),
    ],
)
def test_one_verdict_over_several(letters, on_side, expected):
    names = {"r": "reproduced", "c": "contradicted", "i": "inconclusive"}
    assert overall([names[letter] for letter in letters], on_side) == expected


VERDICT = st.sampled_from(["reproduced", "contradicted", "inconclusive"])


@given(st.lists(VERDICT, min_size=1), st.data())
def test_the_verdict_is_the_mirror_of_the_mirrored_and_needs_no_order(verdicts, data):
    swap = {"reproduced": "contradicted", "contradicted": "reproduced"}
    mirrored = [swap.get(verdict, verdict) for verdict in verdicts]
    points = data.draw(st.integers(0, len(verdicts)))
    found = overall(verdicts, points)
    assert overall(mirrored, len(verdicts) - points) == swap.get(found, found)
    assert overall(sorted(verdicts), points) == found


def test_the_verdict_of_a_claim_looks_at_its_point_estimates():
    decided, wide = comparison("n_fg", 1.0, 2.0), {"layer": "FC2"}
    for low, high, expected in ((-1.0, 2.0, "reproduced"), (-2.0, 1.0, "inconclusive")):
        run_of_two = study(decided, comparison("n_fg", low, high, **wide))
        assert judge(one(), [run_of_two], []).verdict == expected


# Comparisons


def test_a_single_comparison_keeps_its_verdict_and_its_numbers():
    judged = judge(one(), [study(comparison("n_fg", 6.0, 13.0))], [])
    assert judged.verdict == "reproduced" and judged.tally["on side"] == 1
    assert each(judged)[0].shown == "+9.50 [+6.00, +13.0]"
    assert span(judged.items) == "60 images, 3 seeds"
    assert judge(one(side="down"), [study(comparison("n_fg", 6.0, 13.0))], []).verdict == (
        "contradicted"
    )


def test_only_the_headline_of_the_claims_metric_on_training_samples_of_the_study_counts():
    aside = [
        comparison("n_fg", 1.0, 2.0, threshold=0.25),
        comparison("n_fg", 1.0, 2.0, selection="published_filter"),
        comparison("n_bg", 1.0, 2.0),
    ]
    good = comparison("n_fg", 1.0, 2.0)
    unseen = study(good, settings={"threshold": 0.2, "measured_on": "test"})
    results = [study(*aside), run(comparisons=[good]), unseen]
    assert items(one(), results, []) == []
    assert len(items(one(), [*results, study(good)], [])) == 1
    per_epoch = comparison("d_mean", -2.0, -1.0, prediction="down", distance="epoch")
    assert items(one(metric="d_mean"), [study(per_epoch)], []) == []


def test_other_thresholds_are_counted_on_request():
    claim = one(evidence={"kind": "comparisons", "table": "V", "of": "other_b"})
    found = [comparison("n_fg", 1.0, 2.0, threshold=b) for b in (0.15, 0.2, 0.25)]
    aside = {"threshold": 0.3, "selection": "published_filter"}
    judged = judge(claim, [study(*found, comparison("n_fg", 1.0, 2.0, **aside))], [])
    assert [item.what for item in each(judged)] == [f"VGG-11, FC1, b = {b}" for b in (0.15, 0.25)]


def test_no_cell_counts_twice_and_the_main_result_is_taken():
    main = study(comparison("n_fg", 6.0, 13.0))
    again = cell("v_vgg11_fc1", comparison("n_fg", -3.0, -1.0))
    more = cell("v_vgg11_fc2", comparison("n_fg", -3.0, -1.0, layer="FC2"))
    other = cell("ii_vgg11_from_vgg16", comparison("n_fg", -3.0, -1.0, layer="FC3"))
    judged = judge(one(), [main], [again, more, other])
    assert [item.run for item in each(judged)] == ["", "v_vgg11_fc2"]
    assert each(judged)[0].verdict == "reproduced" and judged.verdict == "inconclusive"
    alone = study(comparison("n_fg", -3.0, -1.0), notebook="image_cell")  # no run of a sweep
    assert items(one(), [alone, main], []) == items(one(), [main], [])
    full = cell("v_full", comparison("n_fg", 1.0, 2.0, scale="full"))
    assert len(items(one(), [main], [again, full])) == 2


def test_runs_of_the_other_tables_count_one_by_one():
    claim = one(evidence={"kind": "comparisons", "table": "III", "runs": ["*_grid8", "*_grid32"]})
    runs = [cell(f"iii_vgg11_grid{g}", comparison("n_fg", 1.0, 2.0)) for g in (8, 16, 32)]
    main = study(comparison("n_fg", 1.0, 2.0))
    found = items(claim, [main], runs)
    assert [item.run for item in found] == ["iii_vgg11_grid8", "iii_vgg11_grid32"]
    table = one(evidence={"kind": "comparisons", "table": "III"})
    assert len(items(table, [main], runs)) == 3
    # v_... is Table V's and no other's
    assert items(one(evidence={"kind": "comparisons", "table": "II"}), [main], runs) == []
    named_vi = cell("vi_x", comparison("n_fg", 1.0, 2.0))
    assert items(one(), [], [named_vi]) == []


def test_only_students_of_larger_teachers():
    def taught(name, teacher):
        settings = {"threshold": 0.2, "network": "VGG-11", "teacher": teacher}
        return cell(name, comparison("n_fg", 1.0, 2.0), settings=settings)

    runs = [taught("ii_a", "same"), taught("ii_b", "VGG-16"), taught("ii_c", "VGG-11")]
    claim = one(evidence={"kind": "comparisons", "table": "II", "where": "larger"})
    (item,) = items(claim, [], runs)
    assert item.what == "VGG-11, FC1, teacher VGG-16"


def test_networks_layers_and_samples_select():
    found = [comparison("n_fg", 1.0, 2.0, layer=layer) for layer in ("FC1", "FC2")]
    found.append(comparison("n_fg", 1.0, 2.0, network="AlexNet"))
    picked = one(
        evidence={
            "kind": "comparisons",
            "table": "V",
            "where": "network == 'VGG-11' and layer == 'FC1'",
        }
    )
    assert [item.what for item in items(picked, [study(*found)], [])] == ["VGG-11, FC1"]
    texts = [study(comparison("n_fg", 1.0, 2.0, sample=s, dataset=s)) for s in
             ("sentence", "question", "image")]  # fmt: skip
    table_vi = one(evidence={"kind": "comparisons", "table": "VI"})
    assert len(items(table_vi, texts, [])) == 2
    only = one(evidence={"kind": "comparisons", "table": "VI", "where": "sample == 'question'"})
    assert [item.noun for item in items(only, texts, [])] == ["question"]


def test_a_point_estimate_on_zero_is_not_on_the_side():
    judged = judge(one(), [study(comparison("n_fg", -1.0, 1.0))], [])
    assert each(judged)[0].verdict == "inconclusive" and not each(judged)[0].on_side
    down = judge(one(side="down"), [study(comparison("n_fg", -1.0, 1.0))], [])
    assert not each(down)[0].on_side


def test_nothing_run_is_not_run():
    for claim in (one(), means(), one(evidence={"kind": "none", "reason": "no such data"})):
        assert judge(claim, [], []).verdict == NOT_RUN


# Means


def test_means_decide_where_intervals_do_not_overlap():
    assert means_verdict("up", (3.0, 4.0), (1.0, 2.0)) == "reproduced"
    assert means_verdict("down", (3.0, 4.0), (1.0, 2.0)) == "contradicted"
    assert means_verdict("up", (1.0, 3.0), (2.0, 4.0)) == "inconclusive"
    assert means_verdict("up", (2.0, 3.0), (1.0, 2.0)) == "inconclusive"
    assert means_verdict("up", (nan, nan), (1.0, 2.0)) == "inconclusive"


def test_roles_are_paired_within_a_network_and_layer():
    found = [
        measure(role, "n_fg", mean, layer=layer)
        for layer, start in (("FC1", 20.0), ("FC2", 10.0))
        for role, mean in (("T", start + 4), ("S", start), ("B", start - 9))
    ]
    judged = judge(means(), [study(measures=found)], [])
    assert [item.what for item in each(judged)] == [
        f"VGG-11, FC{i}: teacher, student" for i in "12"
    ]
    assert each(judged)[0].shown == "24.0 [23.0, 25.0] against 20.0 [19.0, 21.0]"
    assert judged.verdict == "reproduced"
    # S here and T there are no pair
    split = [study(measures=[m for m in found if m.role == role]) for role in "TS"]
    assert items(means(), split, []) == []


def test_layers_are_compared_within_a_network():
    found = [measure("T", "lambda", v, layer=l) for l, v in (("Conv", 5.0), ("FC2", 9.0))]  # noqa: E741
    claim = means(first="T", second="T", first_layer="FC2", second_layer="Conv")
    claim = claim.model_copy(update={"metric": "lambda"})
    (item,) = items(claim, [study(measures=found)], [])
    assert item.what == "VGG-11, FC2: teacher at FC2, teacher at Conv"
    assert item.verdict == "reproduced"
    strangers = [found[0], found[1].model_copy(update={"network": "AlexNet"})]
    assert items(claim, [study(measures=strangers)], []) == []


def score(role, layer, mean, low=None, high=None, n=2000):
    spread = {"threshold": None, "low": low, "high": high, "n_samples": n}
    return measure(role, "accuracy_test", mean, layer=layer, **spread)


def test_scores_of_a_student_meet_the_one_of_its_baseline_once():
    claim = one(
        metric="accuracy_test",
        side="up",
        paper=[{"kind": "quote", "text": "no number"}],
        evidence={"kind": "means", "table": "V", "first": "S", "second": "B",
                  },
    )  # fmt: skip
    runs = [
        cell(f"v_vgg11_{layer}", measures=[score("B", "", 0.2), score("S", layer, 0.4)])
        for layer in ("FC1", "FC2")
    ]
    judged = judge(claim, [], runs)
    assert [item.what for item in each(judged)] == [
        f"VGG-11, FC{i}: student, baseline" for i in "12"
    ]
    teachers = claim.model_copy(
        update={"evidence": claim.evidence.model_copy(update={"first": "T"})}
    )
    taught = [r.model_copy(update={"measures": [*r.measures, score("T", "", 0.6)]}) for r in runs]
    assert len(items(teachers, [], taught)) == 1  # the same two networks in both runs


def own_interval(of):
    """Of a measure as the frame holds it."""
    (row,) = records(main_rows(frame([study(measures=[of])]), "measure"))
    return measure_interval(row)


def test_a_score_carries_its_samples_as_well_as_its_seeds():
    low, high = own_interval(score("S", "FC1", 0.5, n=100))
    assert (low, high) == pytest.approx((0.404, 0.596), abs=1e-3)  # Wilson's, from a table
    assert own_interval(score("S", "FC1", 0.5, 0.3, 0.7, n=100)) == (0.3, 0.7)
    few, many = (own_interval(score("S", "FC1", 0.5, 0.49, 0.51, n=n)) for n in (10, 10**9))
    assert few[0] < 0.3 and many == (0.49, 0.51)
    metric = measure("S", "n_fg", 5.0)
    assert own_interval(metric) == (4.0, 6.0)


# Numbers


def test_numbers_against_zero_and_against_a_bound():
    above, below, open_ = (2.0, 1.0, 3.0), (-2.0, -3.0, -1.0), (1.0, -1.0, 3.0)
    assert numbers(0.0, above).verdict == "reproduced"
    assert numbers(0.0, below).verdict == "contradicted"
    assert numbers(0.0, open_).verdict == "inconclusive"
    assert numbers(1.5, above).verdict == "inconclusive"
    assert numbers(5.0, above).verdict == "contradicted"
    # without an interval a number is exact
    assert numbers(0.0, (2.0, None, None)).verdict == "reproduced"
    assert numbers(3.0, (2.0, None, None)).verdict == "contradicted"
    assert numbers(2.0, (2.0, None, None)).verdict == "inconclusive"
    assert [numbers(bound, above).tally["on side"] for bound in (1.5, 2.0, 2.5)] == [1, 0, 0]
    judged = numbers(0.0, above, below)
    assert judged.tally["on side"] == 1 and judged.verdict == "inconclusive"
    assert each(judged)[0].shown == "2.00 [1.00, 3.00]" and each(judged)[0].n_samples == 7
    assert numbers(0.0).verdict == NOT_RUN


def gap_number(value, low=1.0, high=3.0):
    return {"gap_T_FC1": Number(value=value, low=low, high=high, what="a gap", n=7)}


def test_numbers_of_all_notebooks_of_a_kind_count_those_of_shared_networks_once():
    evidence = {"kind": "numbers", "notebook": "image_*", "names": ["gap_*"]}
    claim = one(metric=None, side="up", evidence=evidence)
    alexnet = {"network": "AlexNet", "threshold": 0.2}
    unseen = {"threshold": 0.2, "measured_on": "test"}
    results = [
        study(numbers=gap_number(2.0)),
        study(notebook="pointcloud_h1", numbers=gap_number(2.1)),
        study(notebook="image_unseen", numbers=gap_number(2.2), settings=unseen),
    ]
    cells = [
        cell("v_a", numbers=gap_number(2.5), settings=alexnet),
        cell("ii_a", numbers=gap_number(2.5), settings=alexnet),
        cell("v_b", numbers=gap_number(2.5)),
    ]
    judged = judge(claim, results, cells)
    assert [item.run for item in each(judged)] == ["", "v_a", "v_b"]
    assert each(judged)[1].what == "AlexNet, `gap_T_FC1`: a gap"


def test_the_same_difference_among_a_main_notebooks_numbers_is_set_beside():
    evidence = {"kind": "comparisons", "table": "III", "runs": ["*_grid8"],
                "also": ["grid of * | {metric}"]}  # fmt: skip
    found = Number(value=-2.0, low=-3.0, high=-1.0, what="x", n=180)
    keys = {"grid of 8 | n_fg": found, "grid of 8 | n_bg": found, "weight | n_fg": found}
    main = study(numbers=keys, settings={"threshold": 0.2, "seeds": [0, 1, 2], "network": "X"})
    judged = judge(one(evidence=evidence), [main], [cell("iii_a_grid8", comparison("n_fg", 1, 2))])
    assert [item.verdict for item in each(judged)] == ["reproduced", "contradicted"]
    assert judged.verdict == "inconclusive"
    assert each(judged)[1].what == "X, grid of 8"
    assert each(judged)[1].shown == "−2.00 [−3.00, −1.00]" and each(judged)[1].n_seeds == 3


# What the paper prints


@pytest.mark.parametrize("table", TABLES)
def test_a_rate_counts_as_the_published_rates_do(table):
    rates = agreement_rates()
    for row in rates[rates["table"] == table].to_dict("records"):
        said = claims.published_text(
            one(metric=row["metric"], paper=[{"kind": "rate", "table": table}]), PAPER
        )
        ties = f" ({row['ties']} tie{'s' * (row['ties'] > 1)})" if row["ties"] else ""
        assert said == f"{row['agree']} of {row['cells']}{ties}"


def test_other_sides_roles_and_rows_of_the_paper():
    def said(metric, side, **paper):
        return claims.published_text(one(metric=metric, side=side, paper=[paper]), PAPER)

    assert said("n_fg", "down", kind="rate", table="VIII") == "4 of 4"
    assert said("n_fg", "up", kind="rate", table="IV", first="T", second="S") == "4 of 5"
    assert said("rho", "up", kind="rate", table="II", where="larger") == "4 of 4"
    assert said("n_fg", "up", kind="rate", table="III", where="grid_size == '8x8?'") == "2 of 2"
    query = "network == 'AlexNet' and layer == 'FC1' and dataset == 'CUB200-2011'"
    pair = {"table": "V", "where": query}
    assert said("d_mean", "up", kind="values", **pair) == "5.13 against 2.96"
    assert said("n_bg", "up", kind="change", table="IX") == "$N^{bg}_{point}$ +12.0%"


@pytest.mark.parametrize(
    "changes",
    [
        {"paper": [{"kind": "rate", "table": "V", "where": "network == 'VGG-12'"}]},
        {"paper": [{"kind": "rate", "table": "V", "where": "network in ['VGG-12', 'VGG-16']"}]},
        {"paper": [{"kind": "rate", "table": "VII", "where": "layer == 'Conv'"}]},
        {"paper": [{"kind": "rate", "table": "IV"}], "metric": "rho"},
        {"paper": [{"kind": "rate", "table": "V", "first": "T"}]},
        {"paper": [{"kind": "rate", "table": "VI", "where": "larger"}]},
        {"paper": [{"kind": "rate", "table": "V", "where": "weather == 'fine'"}]},
        {"paper": [{"kind": "rate", "table": "V", "where": "layer == "}]},
        {"paper": [{"kind": "values", "table": "V", "where": "dataset == 'CUB'"}]},
        {"metric": None, "side": "up", "evidence": {"kind": "none", "reason": "x"}},
        {"evidence": {"kind": "comparisons", "table": "V", "where": "network == 'VGG-12'"}},
        {"evidence": {"kind": "comparisons", "table": "VII", "where": "layer == 'Conv'"}},
    ],
)
def test_a_query_that_the_paper_has_not_is_an_error(changes):
    with pytest.raises(KpnbError, match="a_claim"):
        claims.check_queries(one(**changes), PAPER)


@pytest.mark.parametrize(
    "changes",
    [
        {"evidence": {"kind": "comparisons", "table": "X"}},
        {"evidence": {"kind": "guess"}},
        {"evidence": {"kind": "rate", "table": "V"}},
        {"evidence": {"kind": "comparisons", "table": "V", "bound": 1.0}},
        {"evidence": {"kind": "means", "table": "V", "first": "T"}},
        {"paper": [{"kind": "none", "reason": "x"}]},
        {"evidence": {"kind": "numbers", "notebook": "image_x", "names": []}},
        {"metric": "accuracy"},
        {"metric": None},
        {"metric": None, "side": "up"},
        {"paper": []},
        {"verdict": "reproduced"},
        {"id": "A claim"},
    ],
)
def test_a_claim_that_does_not_fit_the_schema_is_an_error(changes):
    with pytest.raises(KpnbError, match="cannot be read"):
        one(**changes)


def test_metrics_stand_for_a_claim_each_and_ids_are_unique():
    claim = one(claim="{metric} is {side}", metric="rho")
    left = {"section", "metric", "side"}
    entry = claim.model_dump(mode="json", exclude=left, exclude_unset=True)
    entry |= {"claim": "{metric} is {side}", "metrics": list(METRICS)}
    many = claims.load_claims(yaml.safe_dump({"a part": [entry]}))
    assert [claim.id for claim in many] == [f"a_claim_{metric}" for metric in METRICS]
    assert many[0].claim == "$N^{fg}_{point}$ is higher" and many[1].side == "down"
    with pytest.raises(KpnbError, match="two claims have the id 'a_claim_"):
        claims.load_claims(yaml.safe_dump({"a": [entry], "b": [entry]}))


# The shipped claims


@pytest.fixture(scope="module")
def committed():
    return frame([*available_results("study"), *available_cells("study")])


@pytest.fixture(scope="module")
def judged_study(committed):
    return {one.claim.id: one for one in claims.judge_all(committed)}


@pytest.fixture(scope="module")
def shown(committed):
    pages = toc_pages(ROOT / "book")
    made = tables.ClaimPage(committed, ADDRESS, pages).fragments()
    return made["claims"], made["claim_cells"], pages


def test_every_shipped_claim_asks_for_what_there_is():
    for claim in SHIPPED:
        claims.check_queries(claim, PAPER)
        rates = [item for item in claim.paper if item.kind == "quote"]
        assert not any(re.search(r"\d", item.text) for item in rates), claim.id
    runs = {name for path in (ROOT / "kpnb" / "run" / "sweeps").glob("*.yaml")
            for name in yaml.safe_load(path.read_text())["runs"]}  # fmt: skip
    assert runs
    for claim in SHIPPED:
        for pattern in claim.evidence.runs:
            beginning = f"{claim.evidence.table.lower()}_"
            named = [name for name in runs if name.startswith(beginning)]
            assert any(fnmatchcase(name, pattern) for name in named), (claim.id, pattern)


def test_only_determined_numbers_of_the_study_go_without_an_interval(judged_study):
    for one_claim in SHIPPED:
        if one_claim.evidence.kind == "numbers":
            for item in each(judged_study[one_claim.id]):
                assert "[" in item.shown or "largest_difference" in item.what, item.what


def test_claims_read_every_results_file_that_has_their_numbers(committed, judged_study):
    """But for unseen images, which no claim counts, and numbers that a sweep repeats."""
    found = committed["name"].str.startswith("entropy_gap_")
    entropy_gaps = set(committed.loc[found, "notebook"])
    used = {
        item.notebook
        for claim in SHIPPED if claim.id.startswith("background_is_discarded_more")
        for item in each(judged_study[claim.id])
    }  # fmt: skip
    assert used == entropy_gaps - {"image_unseen"}
    seeds = {item.notebook: item.n_seeds for item in each(judged_study["grid_n_fg"])}
    assert seeds == {"image_cell": 1, "image_measure": 3}


def test_coherency_claims_name_methods_that_there_are():
    known = {*METHODS, "entropy", "feature_variance"}
    for claim in SHIPPED:
        for name in claim.evidence.names:
            found = re.fullmatch(r"(channel_)?coherency_(shape_)?(\w+)", name)
            assert found is None or found[3] in known, name


def test_the_claims_cover_the_verification_tables_by_every_metric():
    for table in ("V", "VI", "VII", "II", "III", "IX"):
        asked = {
            claim.metric for claim in SHIPPED
            for item in claim.paper if item.table == table
        }  # fmt: skip
        assert asked >= set(METRICS), table


def test_every_shipped_claim_has_a_row_with_a_verdict(shown, judged_study):
    rows = rows_of_all(shown[0])
    assert len(rows) == len(SHIPPED)
    for row, claim in zip(rows, SHIPPED, strict=True):
        verdict = judged_study[claim.id].verdict
        assert row[0] == claim.claim and row[1] == claim.where
        assert row[4].startswith(verdict if verdict == NOT_RUN else f"**{verdict}**")
    judged = list(judged_study.values())
    counted = sum(map(int, re.findall(r"(\d+) (?:reproduced|contradicted|inconclusive|not run)",
                                      claims.verdict_counts(judged))))  # fmt: skip
    assert counted == len(SHIPPED)
    assert any(one.verdict != NOT_RUN for one in judged)


def targets(text, pages):
    """Files and pages that a row leads to; each must be there."""
    start = f"{ADDRESS}/blob/main/"
    files = [address.removeprefix(start) for address in re.findall(r"\]\((\S+?)\)", text)]
    named = re.findall(r"\{doc\}`\w+ <(\S+?)>`", text)
    assert all((ROOT / file).is_file() for file in files), files
    assert set(named) <= set(pages)
    return files + named


def test_every_row_with_evidence_leads_to_its_files(shown, judged_study):
    claimed, lists, pages = shown
    folded = {part.split("\n")[0]: part for part in lists.split(":name: ")[1:]}
    for row, claim in zip(rows_of_all(claimed), SHIPPED, strict=True):
        found = targets(row[5], pages)
        listed = re.findall(r"\{ref\}`all (\d+) <(\S+?)>`", row[5])
        judged = judged_study[claim.id]
        for total, label in listed:
            listed_items = rows_of(folded[label])
            assert len(listed_items) == int(total) == len(judged.items)
            for item in listed_items:
                (file,) = targets(item[4], pages)
                found.append(file)
        results = {item.file for item in each(judged)}
        assert results == {file for file in found if file.endswith(".json")}
        # what is not run leads to the notebook that would measure it, if there is one
        assert found or claim.evidence.kind == "none"


def test_results_under_another_name_lead_to_the_notebook_that_was_executed(shown):
    sources = f"{ADDRESS}/blob/main/notebooks"
    assert f"[pointcloud_pointnet2]({sources}/pointcloud_network.ipynb)" in shown[0]


def test_no_number_of_ours_comes_from_the_yaml(committed):
    rows = rows_of_all(page([])[0])
    assert len(rows) == len(SHIPPED)
    assert not any(re.search(r"\d", row[3]) for row in rows)
    assert {row[4] for row in rows} == {NOT_RUN}
    main = committed[(committed["part"] == "main") | (committed["source"] == "paper")]
    moved = main.copy()
    ends = ["value", "low", "high"]
    moved.loc[moved["kind"] == "comparison", ends] *= 2
    before, after = (
        rows_of_all(tables.ClaimPage(part, ADDRESS, []).fragments()["claims"])
        for part in (main, moved)
    )
    single = [i for i, row in enumerate(before) if row[3].startswith(("+", "−"))]
    assert single and all(before[i][3] != after[i][3] for i in single)
    assert [row[:3] for row in before] == [row[:3] for row in after]


def test_a_stale_file_is_marked():
    stale = {"code": ["published_table"]}
    told, _ = page([study(comparison("n_fg", 6.0, 13.0), provenance=stale)], ["notebooks/image_h1"])
    assert "1 results file, 1 of them stale" in told
    row = next(
        row for row in rows_of_all(told) if row[0].startswith("VGG-11: the student has more")
    )
    file = f"{ADDRESS}/blob/main/book/results/study/image_h1.json"
    assert row[5] == f"{{doc}}`image_h1 <notebooks/image_h1>`, [image_h1.json]({file}) (stale)"
    assert row[3] == "+9.50 [+6.00, +13.0]; 60 images, 3 seeds"


def test_the_page_includes_what_is_generated_and_says_the_rules():
    told = (ROOT / "book" / "claims.md").read_text()
    made = tables.ClaimPage(PAPER, ADDRESS, []).fragments()
    for name in (*made, "claim_rates"):
        assert made.get(name, name) and f"```{{include}} _generated/{name}.md\n```" in told
    assert CELL["layer"] not in told and "at least half of all cells" in told

"""Statements of the book's prose over results: its words, and a check of what they say."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from committed import committed, judged

from kpnb.study.parameters import ImageParameters

BOOK = Path(__file__).resolve().parents[2] / "book"
CLOUDS = ["pointcloud_h1", "pointcloud_pointnet2", "pointcloud_pointconv", "pointcloud_dgcnn"]
EVEN = 256 / 381  #: Of evenly spread points: those of the object among all.
STATEMENTS: list[tuple[str, tuple[str, ...], Callable[[], None]]] = []


def says(*words: str, page: str = "conclusion") -> Callable:
    """What a page says, which the function under it asserts."""

    def note(holds):
        STATEMENTS.append((page, words, holds))
        return holds

    return note


def found(query: str, kind: str = "comparison", **names) -> pd.DataFrame:
    """Facts that a query selects; `names`: what it calls @name."""
    asked = f"source == 'ours' and kind == '{kind}' and ({query})"
    return committed().query(asked, local_dict=names)


def gap(name: str, metric: str, layer: str) -> pd.Series:
    query = "headline and of == @name and metric == @metric and layer == @layer"
    return found(query, name=name, metric=metric, layer=layer).squeeze()


def mean(name: str, role: str, metric: str, layer: str = "") -> float:
    query = "headline and of == @name and role == @role and metric == @metric and layer == @layer"
    names = {"name": name, "role": role, "metric": metric, "layer": layer}
    return found(query, "measure", **names)["value"].item()


@says("In a single cell, Conv of VGG-19, the interval of $\\rho$ lies on the predicted side "
      "({doc}`table_v`), with one seed and a baseline that has not learned all of its training "
      "images; more cells have theirs on the other side")  # fmt: skip
def rho_of_images():
    cells = found("headline and metric == 'rho' and sample == 'image'")
    sides = {said: set(zip(part["network"], part["layer"], strict=True))
             for said, part in cells.groupby("verdict")}  # fmt: skip
    assert sides["reproduced"] == {("VGG-19", "Conv")} and len(sides["contradicted"]) > 1
    assert gap("v_vgg19_conv", "rho", "Conv")["n_seeds"] == 1
    assert mean("v_vgg19_conv", "B", "accuracy_train") < 0.8


@says("only the teachers of DGCNN and PointConv have a larger share there than evenly spread "
      "points would give ({doc}`notebooks/pointcloud_h1` has that number); PointNet++'s teacher is "
      "about there, PointNet's below it",
      "In all eight cells the teacher's $\\lambda$ is the largest of the three",
      "most discard the *object* more, PointNet's teacher too",
      "No interval of $\\rho$ excludes zero.")  # fmt: skip
def clouds():
    notes = found("of == 'pointcloud_h1'", "note")["what"]
    assert f"lambda would be {EVEN:.2f}." in " ".join(notes)
    shares = found("headline and metric == 'lambda' and of in @clouds", "measure", clouds=CLOUDS)
    teachers, others = shares[shares["role"] == "T"], shares[shares["role"] != "T"]
    above = teachers.loc[teachers["value"] > EVEN + 0.02, "network"]
    near = teachers.loc[(teachers["value"] - EVEN).abs() < 0.025, "network"]
    assert set(above) == {"DGCNN", "PointConv"} and set(near) == {"PointNet++"}
    assert others["value"].max() < EVEN and len(teachers) == 8
    largest = shares.loc[shares.groupby(["of", "layer"])["value"].idxmax(), "role"]
    assert set(largest) == {"T"}
    gaps = found("of in @clouds and name.str.startswith('entropy_gap_')", "number", clouds=CLOUDS)
    of_pointnet = gaps[(gaps["of"] == CLOUDS[0]) & gaps["name"].str.match("entropy_gap_T_FC[12]$")]
    assert 2 * (gaps["high"] < 0).sum() > len(gaps) and len(of_pointnet) == 2
    assert (of_pointnet["high"] < 0).all()
    cells = found("headline and metric == 'rho' and sample == 'cloud'")
    assert set(cells["verdict"]) == {"inconclusive"}


@says("DGCNN's students, and VGG-16's at FC3 with an augmented teacher, do worse",
      "on unseen samples they fall short of their teachers everywhere")  # fmt: skip
def scores_on_unseen_samples():
    rows = found("role == 'S' and metric in ('accuracy_test', 'f1_test')", "measure")
    below = set()
    for of, layer, metric, student in rows[["of", "layer", "metric", "value"]].to_numpy():
        assert student < mean(of, "T", metric)
        below |= {(of, layer)} if student < mean(of, "B", metric) else set()
    clouds = {("pointcloud_dgcnn", "FC1"), ("pointcloud_dgcnn", "FC2")}
    assert below == clouds | {("iv_vgg16_fc3", "FC3")}


@says("but only at Conv does its interval exclude zero")
def correlation_with_the_share():
    names = ["correlation_test", "correlation_test_FC2", "correlation_test_Conv"]
    ends = found("of == 'image_lambda' and name in @names", "number", names=names)
    ends = ends.set_index("name").loc[names]
    assert (ends["value"] > 0).all() and (ends["low"] > 0).tolist() == [False, False, True]


@says("Most of the cells behind {doc}`claims` have one seed")
@says("the sweeps behind most cells of Tables II to V, VIII and IX, and DGCNN, have one seed",
      page="introduction")  # fmt: skip
def seeds():
    items = pd.concat([one.items for one in judged().values()])
    assert items["n_seeds"].dropna().eq(1).mean() > 0.5
    assert set(found("part == 'sweep' or of == 'pointcloud_dgcnn'")["n_seeds"]) == {1}


@says("At 50 and 200 the student classifies few of its own *training* images correctly, far fewer "
      "than the baseline")  # fmt: skip
@says("its points at 50 and 200 are those of a network that has hardly learned", page="table_viii")
def students_of_many_outputs():
    for outputs in (50, 200):
        name = f"viii_alexnet_outputs{outputs}"
        assert mean(name, "S", "accuracy_train", "FC3") < 0.2
        assert mean(name, "B", "accuracy_train") > 0.9


@says("about twice as large in the mean on unseen")
def leads_on_unseen_images():
    for metric in ("n_fg", "lambda"):
        seen, unseen = (gap(of, metric, "FC1")["value"] for of in ("image_h1", "image_unseen"))
        assert 1.7 < unseen / seen < 2.4


@says("(by more than the interval but for VGG-16's Conv) and a larger $\\lambda$ (by more than the "
      "interval for VGG-19 only), while the foreground count is open")  # fmt: skip
def students_of_vgg16_and_vgg19():
    cells = [(f"v_{net}_{layer.lower()}", layer) for net in ("vgg16", "vgg19")
             for layer in ("Conv", "FC1")]  # fmt: skip
    known = {"n_bg": "irrr", "lambda": "iirr", "n_fg": "iiii", "d_var": "cccc"}
    items = {metric: [gap(name, metric, layer) for name, layer in cells] for metric in known}
    said = {metric: "".join(one["verdict"][0] for one in found) for metric, found in items.items()}
    assert said == known and all(one["value"] < 0 for one in items["n_bg"])
    assert all(one["value"] > 0 for one in items["lambda"])


@says("by no interval do students of larger teachers have more foreground points than the "
      "baseline; their $\\lambda$ is larger each time, by less than")  # fmt: skip
def students_of_larger_teachers():
    more, share = (judged()[f"larger_teacher_{metric}"] for metric in ("n_fg", "lambda"))
    assert more.tally["reproduced"] == 0
    assert share.tally["on side"] == share.tally["inconclusive"] == len(share.items)


@says("With the way summed from epoch to epoch instead of step by step, PointNet's verdicts at FC1 "
      "stay, that of $D_{mean}$ by little")  # fmt: skip
def distance_by_epochs():
    where = "of == 'pointcloud_h2' and distance == 'epoch' and layer == 'FC1'"
    cells = found(f"{where} and network == 'PointNet'").groupby("metric").last()
    assert set(cells["verdict"]) == {"reproduced"} and set(cells.index) == {"d_mean", "d_var"}
    d_mean = cells.loc["d_mean"]  # by how little: the near end in lengths of the interval
    assert 0 < -d_mean["high"] / (d_mean["high"] - d_mean["low"]) < 0.05
    assert found("of == 'pointcloud_h2'", "number").empty  # nothing with epochs counted


@says("(for point clouds it hardly ever does, for texts it leaves a handful)", page="introduction")
def samples_that_the_published_filter_keeps():
    kept = found("selection != 'all'").groupby("of")["n_samples"].max()
    texts = kept.reindex(["qa_h1", "sentiment_h1"]).max()
    assert kept.reindex(CLOUDS).max() <= 2 and 0 < texts < 10


@says("measures more images, after as many epochs", page="setup")
def the_preset_study():
    demo, full = (ImageParameters.PRESETS[preset] for preset in ("demo", "study"))
    measured = found("of == 'image_h1'", "run")["settings"].item()["samples"]
    assert all(demo[name] == full[name] for name in ("epochs", "teacher_epochs", "head_epochs"))
    assert measured == full["samples"] > demo["samples"]


@pytest.mark.parametrize(("page", "words", "holds"), STATEMENTS)
def test_the_page_says_what_the_results_say(page, words, holds):
    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    assert [said for said in words if said not in text] == []
    holds()

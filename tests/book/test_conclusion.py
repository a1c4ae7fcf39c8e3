"""Statements of the book's prose over results, each held against the committed study.

A statement stands here as the words that make it and a check of what they say: a page that loses
the words, or results that no longer bear them out, fail.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from committed import committed, judged

from kpnb.study.parameters import ImageParameters

BOOK = Path(__file__).resolve().parents[2] / "book"
CLOUDS = ["pointcloud_h1", "pointcloud_pointnet2", "pointcloud_pointconv", "pointcloud_dgcnn"]
EVEN = 256 / 381  #: Of evenly spread points: those of the object among all.
STATEMENTS: list[tuple[str, str, Callable[[], bool]]] = []


def says(words: str, page: str = "conclusion") -> Callable:
    """What a page says, which the function under it checks."""
    return lambda holds: STATEMENTS.append((page, words, holds))


def found(query: str, kind: str = "comparison", **names) -> pd.DataFrame:
    """Facts that a query selects; `names`: what it calls @name."""
    asked = f"source == 'ours' and kind == '{kind}' and ({query})"
    return committed().query(asked, local_dict=names)


def gap(name: str, metric: str, layer: str) -> pd.Series:
    """The headline comparison of a metric at a layer in some results."""
    query = "headline and of == @name and metric == @metric and layer == @layer"
    return found(query, name=name, metric=metric, layer=layer).squeeze()


def mean(name: str, role: str, metric: str, layer: str = "") -> float:
    query = "headline and of == @name and role == @role and metric == @metric and layer == @layer"
    names = {"name": name, "role": role, "metric": metric, "layer": layer}
    return found(query, "measure", **names)["value"].item()


def scores() -> list[tuple[str, str, float, float, float]]:
    """(results, layer, teacher, student, baseline) of the score on unseen samples."""
    rows = found("role == 'S' and metric in ('accuracy_test', 'f1_test')", "measure")
    return [
        (of, layer, mean(of, "T", metric), student, mean(of, "B", metric))
        for of, layer, metric, student in rows[["of", "layer", "metric", "value"]].to_numpy()
    ]


@says("In a single cell, Conv of VGG-19, the interval of $\\rho$ lies on the predicted side "
      "({doc}`table_v`), with one seed and a baseline that has not learned all of its training "
      "images; more cells have theirs on the other side")  # fmt: skip
def _():
    cells = found("headline and metric == 'rho' and sample == 'image'")
    sides = {said: set(zip(part["network"], part["layer"], strict=True))
             for said, part in cells.groupby("verdict")}  # fmt: skip
    learned = mean("v_vgg19_conv", "B", "accuracy_train")
    one_seed = gap("v_vgg19_conv", "rho", "Conv")["n_seeds"] == 1
    alone = sides["reproduced"] == {("VGG-19", "Conv")}
    return alone and len(sides["contradicted"]) > 1 and one_seed and learned < 0.8


@says("only the teachers of DGCNN and PointConv have a larger share there than evenly spread "
      "points would give ({doc}`notebooks/pointcloud_h1` has that number); PointNet++'s teacher is "
      "about there, PointNet's below it")  # fmt: skip
def _():
    shares = found("headline and metric == 'lambda' and of in @clouds", "measure", clouds=CLOUDS)
    teachers, others = shares[shares["role"] == "T"], shares[shares["role"] != "T"]
    above = set(teachers.loc[teachers["value"] > EVEN + 0.02, "network"])
    near = set(teachers.loc[(teachers["value"] - EVEN).abs() < 0.025, "network"])
    below = others["value"].max() < EVEN
    return above == {"DGCNN", "PointConv"} and near == {"PointNet++"} and below


@says("In all eight cells the teacher's $\\lambda$ is the largest of the three")
def _():
    return all(
        mean(name, "T", "lambda", layer) > max(mean(name, role, "lambda", layer) for role in "SB")
        for name in CLOUDS for layer in ("FC1", "FC2")
    )  # fmt: skip


@says("most discard the *object* more, PointNet's teacher too")
def _():
    gaps = found("of in @clouds and name.str.startswith('entropy_gap_')", "number", clouds=CLOUDS)
    of_pointnet = gaps[(gaps["of"] == CLOUDS[0]) & gaps["name"].str.match("entropy_gap_T_FC[12]$")]
    low = (of_pointnet["high"] < 0).tolist()
    return 2 * (gaps["high"] < 0).sum() > len(gaps) and low == [True, True]


@says("DGCNN's students, and VGG-16's at FC3 with an augmented teacher, do worse")
def _():
    below = {(name, layer) for name, layer, _, student, base in scores() if student < base}
    clouds = {("pointcloud_dgcnn", "FC1"), ("pointcloud_dgcnn", "FC2")}
    return below == clouds | {("iv_vgg16_fc3", "FC3")}


@says("on unseen samples they fall short of their teachers everywhere")
def _():
    return all(student < teacher for _, _, teacher, student, _ in scores())


@says("but only at Conv does its interval exclude zero")
def _():
    names = ["correlation_test", "correlation_test_FC2", "correlation_test_Conv"]
    ends = found("of == 'image_lambda' and name in @names", "number", names=names)
    ends = ends.set_index("name").loc[names]
    return (ends["value"] > 0).all() and (ends["low"] > 0).tolist() == [False, False, True]


@says("Most of the cells behind {doc}`claims` have one seed")
def _():
    items = pd.concat([one.items for one in judged().values()])
    return items["n_seeds"].dropna().eq(1).mean() > 0.5


def students_of_many_outputs_learned_little() -> bool:
    few = [mean(f"viii_alexnet_outputs{n}", "S", "accuracy_train", "FC3") for n in (50, 200)]
    base = [mean(f"viii_alexnet_outputs{n}", "B", "accuracy_train") for n in (50, 200)]
    return max(few) < 0.2 and min(base) > 0.9


says("At 50 and 200 the student classifies few of its own *training* images correctly, far fewer "
     "than the baseline")(students_of_many_outputs_learned_little)  # fmt: skip
says("its points at 50 and 200 are those of a network that has hardly learned",
     page="table_viii")(students_of_many_outputs_learned_little)  # fmt: skip


@says("about twice as large in the mean on unseen")
def _():
    leads = [[gap(name, metric, "FC1")["value"] for metric in ("n_fg", "lambda")]
             for name in ("image_unseen", "image_h1")]  # fmt: skip
    return all(1.7 < unseen / seen < 2.4 for unseen, seen in zip(*leads, strict=True))


@says("(by more than the interval but for VGG-16's Conv) and a larger $\\lambda$ (by more than the "
      "interval for VGG-19 only), while the foreground count is open")  # fmt: skip
def _():
    cells = [(f"v_{net}_{layer.lower()}", layer) for net in ("vgg16", "vgg19")
             for layer in ("Conv", "FC1")]  # fmt: skip
    known = {"n_bg": "irrr", "lambda": "iirr", "n_fg": "iiii", "d_var": "cccc"}
    items = {metric: [gap(name, metric, layer) for name, layer in cells] for metric in known}
    said = {metric: "".join(one["verdict"][0] for one in found) for metric, found in items.items()}
    lower = all(one["value"] < 0 for one in items["n_bg"])
    larger = all(one["value"] > 0 for one in items["lambda"])
    return lower and larger and said == known


@says("by no interval do students of larger teachers have more foreground points than the "
      "baseline; their $\\lambda$ is larger each time, by less than")  # fmt: skip
def _():
    more, share = (judged()[f"larger_teacher_{metric}"] for metric in ("n_fg", "lambda"))
    none = more.tally["reproduced"] == 0
    return none and share.tally["on side"] == share.tally["inconclusive"] == len(share.items)


@says("No interval of $\\rho$ excludes zero.")
def _():
    cells = found("headline and metric == 'rho' and sample == 'cloud'")
    return set(cells["verdict"]) == {"inconclusive"}


@says("With the way summed from epoch to epoch instead of step by step, PointNet's verdicts at FC1 "
      "stay, that of $D_{mean}$ by little")  # fmt: skip
def _():
    """By how little: the near end of D_mean's interval, in lengths of the interval."""
    where = "of == 'pointcloud_h2' and distance == 'epoch' and layer == 'FC1'"
    cells = found(f"{where} and network == 'PointNet'").groupby("metric").last()
    d_mean = cells.loc["d_mean"]
    margin = -d_mean["high"] / (d_mean["high"] - d_mean["low"])
    stays = set(cells["verdict"]) == {"reproduced"} and set(cells.index) == {"d_mean", "d_var"}
    kept = found("of == 'pointcloud_h2'", "number")  # nothing with epochs counted
    return stays and 0 < margin < 0.05 and kept.empty


@says("(for point clouds it hardly ever does, for texts it leaves a handful)", page="introduction")
def _():
    kept = found("selection != 'all'").groupby("of")["n_samples"].max()
    texts = kept.reindex(["qa_h1", "sentiment_h1"]).max()
    return kept.reindex(CLOUDS).max() <= 2 and 0 < texts < 10


@says("the sweeps behind most cells of Tables II to V, VIII and IX, and DGCNN, have one seed",
      page="introduction")  # fmt: skip
def _():
    return set(found("part == 'sweep' or of == 'pointcloud_dgcnn'")["n_seeds"]) == {1}


@says("measures more images, after as many epochs", page="setup")
def _():
    demo, full = (ImageParameters.PRESETS[preset] for preset in ("demo", "study"))
    measured = found("of == 'image_h1'", "run")["settings"].item()["samples"]
    same = all(demo[name] == full[name] for name in ("epochs", "teacher_epochs", "head_epochs"))
    return same and measured == full["samples"] > demo["samples"]


@pytest.mark.parametrize(("page", "words", "holds"), STATEMENTS)
def test_the_page_says_what_the_results_say(page, words, holds):
    assert words in (BOOK / f"{page}.md").read_text(encoding="utf-8")
    assert holds()


def test_what_was_found_false_is_gone():
    pages = "\n".join(path.read_text(encoding="utf-8") for path in BOOK.glob("*.md"))
    for words in (
        "No interval of $\\rho$ lies on the predicted side there",
        "the teachers' points lie on the object, the others' do not",
        "their accuracy lies between baseline and teacher",
        "correlation is positive at every layer that was looked at;",
        "not clearly better than chance",
        "every number has its interval over images and seeds",
        "on as many images",
        "counted in epochs, the verdicts for PointNet at FC1 are open",
    ):
        assert words not in pages


def test_the_even_share_is_the_one_that_the_notebook_noted():
    notes = found("of == 'pointcloud_h1'", "note")["what"]
    assert f"lambda would be {EVEN:.2f}." in " ".join(notes)

"""lambda against accuracy: twins of the training, closed forms of correlations, the notebook."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import smoke_study
from made_ratios import made
from matplotlib.collections import LineCollection, PathCollection
from notebook_runs import FOLDER, code_cells, source, stored

import kpnb.run.__main__
from kpnb.experiments import ratio_accuracy
from kpnb.experiments.ratio_accuracy import (
    CORRELATIONS,
    Answer,
    answers,
    checkpoint_accuracies,
    correlation_table,
    epochs_figure,
    final_networks,
    in_order,
    networks_figure,
    ratio_reading,
    record,
    repeat_gap,
    student_curve,
    training_figure,
)
from kpnb.metrics.results import freshness, read_results
from kpnb.metrics.stats import Estimate
from kpnb.run import notebook as runner
from kpnb.study.findings import Findings
from kpnb.training.distillation import train_above
from kpnb.training.train import accuracy


@pytest.fixture(scope="module")
def root(smoke, tmp_path_factory) -> Path:
    """A copy of the shared study's store, to which these tests may write."""
    return shutil.copytree(smoke.root, tmp_path_factory.mktemp("copy") / "store")


@pytest.fixture
def own(root, smoke, one_thread):
    """The shared study on that copy; its networks are loaded already."""
    study = smoke_study(root)
    study._networks.update(smoke.study._networks)
    return study


# --- accuracies by checkpoint


def test_a_killed_run_goes_on_and_ends_at_the_students_own_accuracy(own, monkeypatch):
    """First of all, while nothing of this is in the store."""
    calls, train = [], ratio_accuracy._with_head

    def killed(study, net, layer, seed):
        calls.append(layer)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(study, net, layer, seed)

    monkeypatch.setattr(ratio_accuracy, "_with_head", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_accuracies(own, "FC1", 0)
    found = checkpoint_accuracies(own, "FC1", 0)
    assert len(calls) == 2 + len(own.checkpoints) - 1  # the first is not done again
    assert found[own.checkpoints[-1]] == own.of("S", 0, "FC1").accuracy
    assert checkpoint_accuracies(own, "FC1", 0) == found
    assert own.store.computed() == ["accuracies"]


def test_nothing_is_trained_above_the_last_layer(own):
    """The checkpoints are scored as they are; the last one is the student again."""
    found = checkpoint_accuracies(own, "FC3", 0)
    student = own.of("S", 0, "FC3")
    data, net = own.data.test_samples, own.network(student, 1)
    assert found[1]["test"] == accuracy(net, data.images, data.labels)
    assert found[own.checkpoints[-1]] == student.accuracy


def test_the_untrained_checkpoint_is_the_untrained_network_with_trained_layers(own):
    net, data = own.build("S", 0), own.data
    train_above(net, "FC1", data.training_samples.images, data.training_samples.labels,
                own.head_schedule(0))  # fmt: skip
    parts = {"train": data.training_samples, "test": data.test_samples}
    wanted = {name: accuracy(net, part.images, part.labels) for name, part in parts.items()}
    assert checkpoint_accuracies(own, "FC1", 0)[0] == wanted


def test_another_recipe_of_the_layers_above_is_another_entry(own, monkeypatch):
    checkpoint_accuracies(own, "FC1", 0)
    before, recipe = own.store.computed(), type(own).head_schedule
    monkeypatch.setattr(type(own), "head_schedule", lambda study, seed: recipe(study, seed + 1))
    checkpoint_accuracies(own, "FC1", 0)
    assert own.store.computed() == [*before, "accuracies"]


def test_checkpoints_ascend_whatever_order_the_store_has(own, monkeypatch):
    class Kept:
        info = {"scores": {f"{epoch}": {"test": epoch / 10} for epoch in (2, 0, 1)}}

    monkeypatch.setattr(type(own), "stored", lambda *_: Kept)
    found = checkpoint_accuracies(own, "FC1", 0)
    assert list(found) == [0, 1, 2] and found[1] == {"test": 0.1}


def test_curve_and_networks_are_those_of_the_study(own, smoke):
    curve = student_curve(own, smoke.evidence)
    b = own.parameters.threshold
    wanted = [smoke.evidence.points("S", 0, epoch, b).ratio.mean() for epoch in own.checkpoints]
    np.testing.assert_allclose(curve.mean_ratio, [wanted], rtol=1e-12)
    assert curve.places == own.checkpoints and curve.seeds == own.parameters.seeds
    assert curve.tested == len(own.data.test_samples) and repeat_gap(own, curve) == 0
    curve.accuracy["test"][:, -1] += 0.25
    assert repeat_gap(own, curve) == pytest.approx(0.25)
    networks = final_networks(own, smoke.evidence)
    for place, role in enumerate(networks.places):
        last = smoke.evidence.points(role, 0, None, b).ratio.numpy()
        np.testing.assert_array_equal(networks.ratio[0, place], last)
        for split, table in networks.accuracy.items():
            assert table[:, place].tolist() == own.accuracies(role, "FC1")[split]


# --- figures


@pytest.fixture
def curve():
    return made(np.random.default_rng(4).random((3, 5, 20)), places=(0, 1, 4, 10, 30))


def marks(ax) -> np.ndarray:
    found = [c.get_offsets() for c in ax.collections if isinstance(c, PathCollection)]
    return np.concatenate([np.asarray(part) for part in found])


def test_figure_2_shows_every_checkpoint_where_it_is(curve):
    figure = training_figure(curve)
    panels = [ax for ax in figure.axes if "accuracy" in ax.get_ylabel()]
    assert len(panels) == 6 and {ax.get_xlabel() for ax in panels} == {r"$\lambda$ [1]"}
    for row, ax in enumerate(panels[:3]):
        assert f"seed {row}" in ax.get_title() and "unseen" in ax.get_title()
        wanted = np.stack([curve.mean_ratio[row], 100 * curve.accuracy["test"][row]], axis=1)
        np.testing.assert_allclose(marks(ax), wanted)
        assert [text.get_text() for text in ax.texts] == ["0", "30"]
        np.testing.assert_allclose(ax.lines[0].get_xydata(), wanted)  # joined in order of epoch
        bars = [c for c in ax.collections if isinstance(c, LineCollection)]
        assert len(bars) == 2 * 5
    on_training = [c for c in panels[3].collections if isinstance(c, LineCollection)]
    assert len(on_training) == 5  # no error of a test sample
    assert len(training_figure(made(curve.ratio[:1])).axes) == 2 + 1  # and the color bar


def test_curves_over_epochs(curve):
    left, right = epochs_figure(curve).axes
    for row, line in enumerate(left.lines):
        np.testing.assert_allclose(line.get_ydata(), curve.mean_ratio[row])
        assert list(line.get_xdata()) == list(curve.places)
    drawn = [line for line in right.lines if len(line.get_xdata())]
    assert len(drawn) == 6 and "[%]" in right.get_ylabel()


def test_networks_are_drawn_in_their_roles_and_layers():
    networks = made(np.random.default_rng(5).random((2, 3, 8)), places=("T", "S", "B"))
    figure = networks_figure({"FC1": networks, "FC2": networks})
    assert [ax.get_title() for ax in figure.axes] == ["FC1", "FC2"]
    wanted = networks.mean_ratio.ravel()
    np.testing.assert_allclose(marks(figure.axes[1])[:, 0], wanted)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["teacher", "student", "baseline"]


# --- numbers and sentences


def answer(low, high, n=12) -> Answer:
    return Answer(Estimate((low + high) / 2, low, high, 10, 2), n, "what")


UP, DOWN, OPEN = answer(0.2, 0.6), answer(-0.6, -0.2), answer(-0.1, 0.3)
NONE = Answer(Estimate(float("nan"), float("nan"), float("nan"), 10, 2), 12, "what")


def every(plain=UP, detrended=OPEN) -> dict[str, Answer]:
    found = dict.fromkeys([*CORRELATIONS, "networks"], UP)
    return found | {"test": plain, "test_detrended": detrended}


def test_likely_layer_first_and_else_the_given_order():
    assert in_order(["Conv", "FC1", "FC2"]) == ["FC1", "Conv", "FC2"]
    assert in_order(["FC2", "Conv"]) == ["FC2", "Conv"]


def test_points_are_counted(curve):
    found = answers(curve, made(curve.ratio[:, :3], places=("T", "S", "B")), resamples=20)
    counts = {name: part.n for name, part in found.items()}
    assert counts["test"] == counts["test_detrended"] == 15 and counts["networks"] == 9
    assert counts["test_trained"] == counts["test_steps"] == 12
    assert found["test"].found == found["train"].found  # the same accuracies were given


def test_numbers_have_the_first_layer_without_its_name(smoke):
    findings = Findings(smoke.study, "image_lambda")
    record(findings, {"FC1": every(), "Conv": every(detrended=NONE)})
    names = {
        "correlation_" + name for name in (*CORRELATIONS, "networks") if name != "lambda_trend"
    } | {"lambda_trend"}
    others = {f"{name}_Conv" for name in names} - {"correlation_test_detrended_Conv"}
    assert set(findings.numbers) == names | others
    assert len(findings.notes) == 1 and findings.notes[0].startswith("Conv, what: undefined")
    number = findings.numbers["correlation_test"]
    assert (number.value, number.low, number.high, number.n) == (0.4, 0.2, 0.6, 12)
    assert "10 samples and 2 seeds" in number.what
    found = findings.results()
    assert {"student_curve", "final_networks", "answers", "record"} <= set(
        found.provenance["code"]
    ) and freshness(found) == "fresh"
    assert found.measures == found.comparisons == []


@pytest.mark.parametrize(
    ("plain", "detrended", "verdict", "effect"),
    [
        (UP, OPEN, "reproduced", "turns the verdict to inconclusive"),
        (UP, UP, "reproduced", "changes no verdict"),
        (UP, DOWN, "reproduced", "turns the verdict to contradicted"),
        (DOWN, NONE, "contradicted", "nothing is left"),
        (OPEN, UP, "inconclusive", "turns the verdict to reproduced"),
        (NONE, NONE, "inconclusive", "nothing is left"),
    ],
)
def test_the_reading_follows_the_numbers(smoke, plain, detrended, verdict, effect):
    told = ratio_reading(smoke.study, {"FC1": every(plain, detrended)})
    assert f"over training **{verdict}**" in told and effect in told
    assert f"Of 1 layer: 1 {verdict}." in told and "b = 0.2" in told
    assert ("undefined" in told) == (plain is NONE)


def test_the_table_has_a_line_for_each_correlation():
    table = correlation_table({"FC1": every(), "FC2": every(plain=NONE)})
    assert len(table) == 2 * (len(CORRELATIONS) + 1)
    assert list(table["value"]).count("undefined") == 1
    assert list(table["larger lambda, better"]).count("") == 2  # the trends are no verdict


# --- the notebook


def test_the_notebook_at_smoke(own, tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_STORE", str(own.store.root))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    before, out = stored(own.store.root), tmp_path / "image_lambda.ipynb"
    arguments = ["--notebooks", str(FOLDER), "--preset", "smoke", "-p", "device=cpu"]
    with contextlib.redirect_stderr(io.StringIO()) as told:
        assert kpnb.run.__main__.main(["image_lambda", *arguments, "-o", str(out)]) == 0
    assert told.getvalue() == "" and stored(own.store.root) == before  # no network, no map
    notebook = nbformat.read(out, as_version=4)
    assert runner.error_outputs(notebook) == []
    promised = source("image_lambda").metadata["kpnb"]["figures"]
    assert runner.figure_count(notebook) == promised
    found = read_results("image_lambda", "smoke")
    assert json.loads(json.dumps(found.settings)) == own.parameters.model_dump(mode="json")
    assert found.measures == found.comparisons == []
    # Three checkpoints: what needs four, or leaves two, is said to be undefined.
    assert "correlation_test" in found.numbers and found.numbers["correlation_test"].n == 3
    assert len(found.numbers) + len(found.notes) == len(CORRELATIONS) + 1
    assert "correlation_test_detrended" not in found.numbers
    shown = "".join(str(o) for cell in code_cells(notebook) for o in cell.outputs)
    assert "A larger lambda goes with better performance" in shown

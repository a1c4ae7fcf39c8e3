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
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import LineCollection, PathCollection
from notebook_runs import FOLDER, code_cells, source, stored
from reference import spearman

import kpnb.run.__main__
from kpnb.errors import KpnbError
from kpnb.experiments import ratio_accuracy
from kpnb.experiments.ratio_accuracy import (
    RatioAccuracy,
    across_networks,
    checkpoint_accuracies,
    estimate,
    final_networks,
    given_epoch,
    of_steps,
    over_checkpoints,
    repeat_gap,
    student_curve,
    with_epoch,
)
from kpnb.experiments.ratio_accuracy_figures import epochs_figure, networks_figure, training_figure
from kpnb.experiments.ratio_accuracy_readings import (
    CODE,
    NETWORKS,
    QUESTIONS,
    TREND,
    Answer,
    answers,
    correlation_table,
    in_order,
    reading,
    record,
    results,
)
from kpnb.metrics.results import freshness, read_results
from kpnb.metrics.stats import Estimate
from kpnb.run import notebook as runner
from kpnb.study.findings import Findings
from kpnb.training.distillation import train_above
from kpnb.training.train import accuracy

RELATIONS = (over_checkpoints, given_epoch, of_steps, with_epoch, across_networks)


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


def rows(*values) -> np.ndarray:
    return np.array(values, dtype=float)


def random_pair(seed: int, seeds: int = 3, places: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(seeds, places)), rng.normal(size=(seeds, places))


def made(ratio, shares=None, places=None, seeds=None, tested=100) -> RatioAccuracy:
    """Networks with given terms of lambda; accuracies rise evenly unless given."""
    ratio = np.asarray(ratio, float)
    if shares is None:
        shares = np.linspace(0.2, 0.6, ratio.shape[1])
    table = np.broadcast_to(shares, ratio.shape[:2])
    places = tuple(range(ratio.shape[1])) if places is None else places
    seeds = tuple(range(len(ratio))) if seeds is None else seeds
    return RatioAccuracy("FC1", seeds, places, ratio, {"train": table, "test": table}, tested)


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

    monkeypatch.setattr(type(own), "_stored", lambda *_: Kept)
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


# --- correlations


def test_rising_together_is_one_and_falling_minus_one():
    up, curved = rows([1, 2, 3, 4]), rows([0.1, 0.2, 0.9, 5.0])
    assert over_checkpoints(up, curved) == across_networks(up, curved) == pytest.approx(1)
    assert over_checkpoints(up, -curved) == pytest.approx(-1)


def test_seeds_are_averaged_and_those_undefined_left_out():
    ratio = rows([1, 2, 3], [1, 2, 3], [5, 5, 5])
    assert over_checkpoints(ratio, rows([1, 2, 3], [3, 1, 2], [1, 2, 3])) == pytest.approx(0.25)


@pytest.mark.parametrize("seed", range(5))
def test_spearman_is_the_twins(seed):
    ratio, shares = random_pair(seed)
    twins = [spearman(*pair) for pair in zip(ratio, shares, strict=True)]
    assert over_checkpoints(ratio, shares) == pytest.approx(np.mean(twins), abs=1e-9)
    together = spearman(ratio.ravel(), shares.ravel())
    assert across_networks(ratio, shares) == pytest.approx(together, abs=1e-9)
    steps = [spearman(np.diff(a), np.diff(b)) for a, b in zip(ratio, shares, strict=True)]
    assert of_steps(ratio, shares) == pytest.approx(np.mean(steps), abs=1e-9)
    epochs = [spearman(part, np.arange(9)) for part in ratio]
    assert with_epoch(ratio, shares) == pytest.approx(np.mean(epochs), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_partial_correlation_is_that_of_the_residuals(seed):
    """Ranks with the line over the epoch taken out, then Pearson."""
    ratio, shares = random_pair(seed, seeds=1)
    epoch = np.arange(ratio.shape[1])

    def residual(values):
        ranks = values.argsort().argsort()
        return ranks - np.polyval(np.polyfit(epoch, ranks, 1), epoch)

    twin = np.corrcoef(residual(ratio[0]), residual(shares[0]))[0, 1]
    assert given_epoch(ratio, shares) == pytest.approx(twin, abs=1e-9)


def test_taking_the_trend_out_leaves_nothing_of_a_shared_trend():
    """Two curves that rise, each with its own wiggle: close to one before, not after."""
    ratio = rows([1, 0, 2, 4, 3, 5, 7, 6])
    shares = rows([0, 1, 3, 2, 4, 6, 5, 7])
    assert over_checkpoints(ratio, shares) > 0.8
    assert given_epoch(ratio, shares) < 0


@pytest.mark.parametrize("relation", [over_checkpoints, given_epoch, across_networks])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_only_ranks_count(relation, seed):
    ratio, shares = random_pair(seed)
    assert relation(np.exp(ratio), shares**3) == relation(ratio, shares)


@pytest.mark.parametrize("relation", RELATIONS)
def test_undefined_without_enough_points_or_variation(relation):
    two, four = rows([1, 2]), rows([1, 2, 3, 4])
    assert np.isnan(relation(two, two))
    assert np.isnan(relation(np.ones_like(four), four))
    if relation is not with_epoch:
        assert np.isnan(relation(rows([1, 3, 2, 4]), np.ones_like(four)))
    assert np.isnan(relation(rows([1, np.nan, 2, 4]), four))


def test_nothing_is_left_of_a_curve_that_only_rises():
    assert np.isnan(given_epoch(rows([1, 2, 3, 5, 8]), rows([1, 3, 2, 5, 4])))
    assert np.isnan(given_epoch(rows([1, 3, 2, 5, 4]), rows([9, 8, 5, 4, 1])))
    assert np.isnan(given_epoch(rows([1, 3, 2]), rows([2, 1, 3])))  # three points: a line fits


# --- intervals


def test_equal_samples_leave_no_spread():
    ratio = np.repeat(rows([0.1, 0.3, 0.2, 0.5])[..., None], 7, axis=-1)
    found = estimate(made(ratio), "test", over_checkpoints, resamples=50)
    assert found.low == found.high == found.value == pytest.approx(0.8)
    assert (found.n_samples, found.n_seeds) == (7, 1)


def test_two_samples_give_three_possible_curves():
    """Both the first (1 of 4 draws), both the second (1 of 4), or both: the ends are theirs."""
    first, second = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.9, 0.2, 0.3, 0.1])
    networks = made(np.stack([first, second], axis=-1)[None])
    curves = (first, second, (first + second) / 2)
    twins = [spearman(curve, networks.accuracy["test"][0]) for curve in curves]
    found = estimate(networks, "test", over_checkpoints, resamples=400)
    assert found.low == pytest.approx(min(twins)) and found.high == pytest.approx(max(twins))
    assert found.value == pytest.approx(twins[2])


@pytest.mark.parametrize(
    ("ratio", "shares"),
    [(rows([1, 2, 3], [1, 2, 3]), rows([1, 2, 3], [3, 2, 1])),
     (rows([1, 2, 3], [3, 2, 1]), rows([1, 2, 3], [1, 2, 3]))],
)  # fmt: skip
def test_seeds_are_resampled_with_their_own_accuracies(ratio, shares):
    """One seed at 1, one at -1: a draw holds either or both."""
    terms = np.repeat(ratio[..., None], 4, axis=-1)
    found = estimate(made(terms, shares), "test", over_checkpoints, 200)
    assert (found.value, found.low, found.high) == pytest.approx((0, -1, 1))


def test_the_interval_leaves_out_a_fortieth_at_each_end():
    """A curve that only 1 draw of 27 has, all three times the first sample, is within."""
    falling, rising = np.array([0.3, 0.2, 0.1]), np.array([1.0, 2.0, 3.0])
    networks = made(np.stack([falling, rising, rising], axis=-1)[None])
    found = estimate(networks, "test", over_checkpoints)
    assert (found.low, found.high) == pytest.approx((-1, 1))
    seldom = made(np.stack([falling, *[rising] * 3], axis=-1)[None])  # 1 draw of 256
    assert estimate(seldom, "test", over_checkpoints).low == pytest.approx(1)


def test_the_same_images_are_drawn_for_all_networks():
    """An offset a sample, equal for all networks, must not blur a correlation."""
    offsets = np.random.default_rng(0).normal(size=30) * 100
    ratio = rows([1, 2, 3, 4])[..., None] + offsets
    found = estimate(made(ratio), "test", over_checkpoints, resamples=50)
    assert found.low == found.high == pytest.approx(1)


def test_same_seed_same_interval_and_other_seeds_others():
    networks = made(np.random.default_rng(1).random((2, 6, 9)))
    found = [estimate(networks, "test", over_checkpoints, 60, seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_undefined_samples_are_passed_over_and_undefined_networks_refused():
    ratio = np.random.default_rng(2).random((1, 5, 6))
    holed = ratio.copy()
    holed[0, 2, 3] = np.nan
    found = estimate(made(holed), "test", over_checkpoints, 60)
    assert np.isfinite([found.value, found.low, found.high]).all()
    holed[0, 2] = np.nan
    with pytest.raises(KpnbError, match="no defined entropy map"):
        made(holed)


def test_nothing_defined_has_no_value():
    found = estimate(made(np.full((1, 4, 5), 0.5)), "test", over_checkpoints, 20)
    assert np.isnan([found.value, found.low, found.high]).all()


def test_unknown_splits_and_unfit_tables_are_refused():
    networks = made(np.random.default_rng(3).random((1, 4, 5)))
    with pytest.raises(KpnbError, match="train, test"):
        estimate(networks, "validation", over_checkpoints)
    for ratio, shares, places in [
        (np.ones((1, 4, 5)), np.ones((1, 3)), (0, 1, 2, 3)),
        (np.ones((1, 4, 5)), np.ones((1, 4)), (0, 1, 2)),
        (np.ones((4, 5)), np.ones((4, 5)), tuple(range(5))),
    ]:
        with pytest.raises(KpnbError, match="do not fit"):
            RatioAccuracy("FC1", (0,), places, ratio, {"test": shares}, 100)


def test_the_untrained_checkpoint_can_be_left_out():
    """It alone turns a perfect order into its opposite here."""
    ratio = np.repeat(rows([9, 1, 2, 3])[..., None], 3, axis=-1)
    curve = made(ratio, places=(0, 5, 10, 20))
    rest = curve.without_first()
    assert rest.places == (5, 10, 20) and rest.ratio.shape == (1, 3, 3)
    assert estimate(curve, "test", over_checkpoints, 5).value < 0
    assert estimate(rest, "test", over_checkpoints, 5).value == pytest.approx(1)


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
    found = dict.fromkeys([*QUESTIONS, NETWORKS], UP)
    return found | {"test": plain, "test_detrended": detrended}


def test_likely_layer_first_and_else_the_given_order():
    assert in_order(["Conv", "FC1", "FC2"]) == ["FC1", "Conv", "FC2"]
    assert in_order(["FC2", "Conv"]) == ["FC2", "Conv"]


def test_points_are_counted(curve):
    found = answers(curve, made(curve.ratio[:, :3], places=("T", "S", "B")), resamples=20)
    counts = {name: part.n for name, part in found.items()}
    assert counts["test"] == counts["test_detrended"] == 15 and counts[NETWORKS] == 9
    assert counts["test_trained"] == counts["test_steps"] == 12
    assert found["test"].found == found["train"].found  # the same accuracies were given


def test_numbers_have_the_first_layer_without_its_name(smoke):
    findings = Findings(smoke.study, "image_lambda")
    record(findings, {"FC1": every(), "Conv": every(detrended=NONE)})
    names = {"correlation_" + name for name in (*QUESTIONS, NETWORKS) if name != TREND} | {TREND}
    others = {f"{name}_Conv" for name in names} - {"correlation_test_detrended_Conv"}
    assert set(findings.numbers) == names | others
    assert len(findings.notes) == 1 and findings.notes[0].startswith("Conv, what: undefined")
    number = findings.numbers["correlation_test"]
    assert (number.value, number.low, number.high, number.n) == (0.4, 0.2, 0.6, 12)
    assert "10 samples and 2 seeds" in number.what
    found = results(findings)
    assert set(CODE) <= set(found.provenance["code"]) and freshness(found) == "fresh"
    assert found.measures == found.comparisons == []


@pytest.mark.parametrize(
    ("plain", "detrended", "verdict", "effect"),
    [
        (UP, OPEN, "reproduced", "is undecided"),
        (UP, UP, "reproduced", "changes no verdict"),
        (UP, DOWN, "reproduced", "turns the verdict to contradicted"),
        (DOWN, NONE, "contradicted", "nothing is left"),
        (OPEN, UP, "inconclusive", "turns the verdict to reproduced"),
        (NONE, NONE, "inconclusive", "nothing is left"),
    ],
)
def test_the_reading_follows_the_numbers(smoke, plain, detrended, verdict, effect):
    told = reading(smoke.study, {"FC1": every(plain, detrended)})
    assert f"over training **{verdict}**" in told and effect in told
    assert f"of 1 layer: {verdict} in 1." in told and "b = 0.2" in told
    assert ("undefined" in told) == (plain is NONE)


def test_the_table_has_a_line_for_each_correlation():
    table = correlation_table({"FC1": every(), "FC2": every(plain=NONE)})
    assert len(table) == 2 * (len(QUESTIONS) + 1)
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
    assert len(found.numbers) + len(found.notes) == len(QUESTIONS) + 1
    assert "correlation_test_detrended" not in found.numbers
    shown = "".join(str(o) for cell in code_cells(notebook) for o in cell.outputs)
    assert "A larger lambda goes with better performance" in shown

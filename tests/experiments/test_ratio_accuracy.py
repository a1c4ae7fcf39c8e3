"""lambda against accuracy: twins of the training, closed forms of correlations, the notebook."""

import json
import shutil
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import smoke_study
from matplotlib.collections import LineCollection, PathCollection
from notebook_runs import Executed
from reference import spearman
from refusals import refuses

from kpnb.experiments import ratio_accuracy
from kpnb.experiments.ratio_accuracy import RatioAccuracy, answer_to, checkpoint_accuracies
from kpnb.metrics.results import freshness, read_results
from kpnb.metrics.stats import Estimate, crossed
from kpnb.run import notebook as runner
from kpnb.study.findings import Findings
from kpnb.study.study import Study
from kpnb.training.augmentation import flip_and_shift
from kpnb.training.distillation import train_above
from kpnb.training.train import accuracy

QUESTIONS = ratio_accuracy.CORRELATIONS | {"networks": ratio_accuracy.ACROSS}


def rows(*values) -> np.ndarray:
    return np.array(values, dtype=float)


def made(ratio, shares=None, places=None) -> RatioAccuracy:
    """Networks with given terms of lambda; accuracies rise evenly unless given."""
    ratio = np.asarray(ratio, float)
    shares = np.linspace(0.2, 0.6, ratio.shape[1]) if shares is None else shares
    table = np.broadcast_to(shares, ratio.shape[:2])
    places, seeds = places or tuple(range(ratio.shape[1])), tuple(range(len(ratio)))
    return RatioAccuracy("FC1", seeds, places, ratio, {"train": table, "test": table}, 100)


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


def test_a_killed_run_goes_on_and_ends_at_the_students_own_accuracy(own, monkeypatch):
    """First of all, while nothing of this is in the store."""
    calls, train = [], Study.train_head

    def killed(study, net, layer, settings):
        calls.append(layer)
        if len(calls) == 2:
            raise KeyboardInterrupt
        train(study, net, layer, settings)

    monkeypatch.setattr(Study, "train_head", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_accuracies(own, "FC1", 0)
    found = checkpoint_accuracies(own, "FC1", 0)
    assert len(calls) == 2 + len(own.checkpoints) - 1  # the first is not done again
    assert found[own.checkpoints[-1]] == own.of("S", 0, "FC1").accuracy
    assert checkpoint_accuracies(own, "FC1", 0) == found
    assert own.store.computed() == ["accuracies"]


def test_a_score_is_of_the_checkpoint_with_its_layers_above_trained(own, monkeypatch):
    """Above the last layer there are none; another recipe for them is another entry."""
    data, student = own.data, own.of("S", 0, "FC3")
    parts = {"train": data.training_samples, "test": data.test_samples, "new": data.new_samples}
    found, trained = checkpoint_accuracies(own, "FC3", 0), own.build("S", 0)
    recipe, head = type(own).settings, own.settings("head", 0)
    seen = parts["train"]
    train_above(trained, "FC1", seen.images, seen.labels, head)
    scored = {1: own.network(student, 1), 0: trained}
    wanted = {epoch: {name: accuracy(net, part.images, part.labels)
              for name, part in parts.items()} for epoch, net in scored.items()}  # fmt: skip
    assert found[1] == wanted[1] and found[own.checkpoints[-1]] == student.accuracy
    assert checkpoint_accuracies(own, "FC1", 0)[0] == wanted[0]
    before = own.store.computed()
    other = lambda study, role, seed: recipe(study, role, seed + 1)  # noqa: E731
    monkeypatch.setattr(type(own), "settings", other)
    checkpoint_accuracies(own, "FC1", 0)
    assert own.store.computed() == [*before, "accuracies"]


def test_the_layers_above_take_the_batch_and_the_augmentation_asked_for(own, monkeypatch):
    handed, changed = [], {"batch": 7, "augment": "all"}
    note = lambda *given, augment: handed.append((given[-1].batch_size, augment))  # noqa: E731
    monkeypatch.setattr("kpnb.study.study.train_above", note)
    other = replace(own, parameters=own.parameters.model_copy(update=changed))
    checkpoint_accuracies(other, "FC1", 0)
    assert handed == [(7, flip_and_shift)] * len(own.checkpoints)


def test_curve_and_networks_are_those_of_the_study(own, smoke, monkeypatch):
    curve, b = ratio_accuracy.student_curve(own, smoke.evidence), own.parameters.threshold
    wanted = [smoke.evidence.points("S", 0, epoch, b).ratio.numpy() for epoch in own.checkpoints]
    np.testing.assert_array_equal(curve.ratio, [wanted])
    assert curve.places == own.checkpoints and curve.seeds == own.parameters.seeds
    assert curve.tested == len(own.data.test_samples)
    assert ratio_accuracy.repeat_gap(own, curve) == 0
    by_epoch = checkpoint_accuracies(own, "FC1", 0)
    for split, table in curve.accuracy.items():
        assert table.tolist() == [[by_epoch[epoch][split] for epoch in own.checkpoints]]
    kept = SimpleNamespace(info={"scores": {f"{e}": by_epoch[e] for e in (2, 0, 1)}})
    monkeypatch.setattr(type(own), "stored", lambda *_: kept)  # checkpoints ascend in any case
    assert list(checkpoint_accuracies(own, "FC1", 0).items()) == list(by_epoch.items())
    monkeypatch.undo()
    curve.accuracy["test"][:, -1] += 0.25
    assert ratio_accuracy.repeat_gap(own, curve) == pytest.approx(0.25)
    networks = ratio_accuracy.final_networks(own, smoke.evidence)
    for place, role in enumerate(networks.places):
        last = smoke.evidence.points(role, 0, None, b).ratio.numpy()
        np.testing.assert_array_equal(networks.ratio[0, place], last)
        for split, table in networks.accuracy.items():
            assert table[:, place].tolist() == own.accuracies(role, "FC1")[split]


def known(ratio, shares, name="test") -> ratio_accuracy.Answer:
    """The answer to one question for lambdas that are the same for all samples."""
    return answer_to(made(np.repeat(ratio[..., None], 4, axis=-1), shares), QUESTIONS[name])


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_the_twins(seed):
    ratio, shares = np.random.default_rng(seed).normal(size=(2, 3, 9))
    pairs, epoch = list(zip(ratio, shares, strict=True)), np.arange(9)

    def left(values):
        """Ranks with the line over the epoch taken out; then Pearson."""
        ranks = values.argsort().argsort()
        return ranks - np.polyval(np.polyfit(epoch, ranks, 1), epoch)

    twins = {
        "test": [spearman(*pair) for pair in pairs],
        "train": [spearman(*pair) for pair in pairs],
        "test_detrended": [np.corrcoef(left(a), left(b))[0, 1] for a, b in pairs],
        "lambda_trend": [spearman(part, epoch) for part in ratio],
        "networks": [spearman(*pair) for pair in pairs],
    }
    assert twins.keys() == QUESTIONS.keys()
    for name, twin in twins.items():
        found = known(ratio, shares, name).found
        interval = crossed(np.array(twin)[:, None])  # for other seeds
        assert astuple(found)[:3] == pytest.approx(astuple(interval)[:3], abs=1e-9), name
        assert (found.n_seeds, found.n_samples) == (3, 4)


def test_undefined_without_enough_points_or_variation_or_a_curve_that_only_rises():
    """Close to one before the trend is taken out, not after. Undefined seeds are left out."""
    two, four, equal = rows([1, 2]), rows([1, 2, 3, 4]), np.ones((1, 4))
    for name in QUESTIONS:
        pairs = [(two, two), (equal, four)]
        pairs += [(rows([1, 3, 2, 4]), equal)] * (name != "lambda_trend")
        for answer in (known(*pair, name) for pair in pairs):
            assert not answer.defined and answer.verdict == "undecided", name
            assert str(answer) == "undefined"
    ratio = rows([1, 2, 3], [1, 2, 3], [5, 5, 5])
    found = known(ratio, rows([1, 2, 3], [3, 1, 2], [1, 2, 3])).found
    assert (found.value, found.n_seeds) == (pytest.approx(0.25), 2)
    ratio, shares = rows([1, 0, 2, 4, 3, 5, 7, 6]), rows([0, 1, 3, 2, 4, 6, 5, 7])
    assert known(ratio, shares).found.value > 0.8
    assert known(ratio, shares, "test_detrended").found.value < 0
    for pair in (([1, 2, 3, 5, 8], [1, 3, 2, 5, 4]), ([1, 3, 2, 5, 4], [9, 8, 5, 4, 1])):
        assert not known(*map(rows, pair), "test_detrended").defined
    three = rows([1, 3, 2]), rows([2, 1, 3])  # a line fits them
    assert not known(*three, "test_detrended").defined and known(*three).defined
    assert known(*three).verdict == "one seed"


def test_networks_that_do_not_fit_are_refused():
    for ratio, columns, told in (
        (np.ones((1, 4, 5)), 3, "do not fit"),
        (np.ones((1, 3, 5)), 3, "do not fit"),
        (np.ones((1, 4)), 4, "do not fit"),
        (np.full((1, 4, 5), np.nan), 4, "no defined entropy map"),
    ):
        shares = {"test": np.ones((1, columns))}
        refuses(RatioAccuracy, told, "FC1", (0,), (0, 1, 2, 3), ratio, shares, 100)


@pytest.fixture
def curve():
    return made(np.random.default_rng(4).random((3, 5, 20)), places=(0, 1, 4, 10, 30))


def marks(ax) -> np.ndarray:
    found = [c.get_offsets() for c in ax.collections if isinstance(c, PathCollection)]
    return np.concatenate([np.asarray(part) for part in found])


def told_by(figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_figures_show_every_checkpoint_and_network_where_it_is(curve):
    figure = ratio_accuracy.training_figure(curve)
    unseen, seen, _ = figure.axes  # and the color bar
    assert "unseen" in unseen.get_title() and "training" in seen.get_title()
    assert unseen.get_xlabel() == r"$\lambda$ [1]" and "[%]" in unseen.get_ylabel()
    wanted = np.stack([curve.ratio.mean(-1), 100 * curve.accuracy["test"]], axis=-1)
    np.testing.assert_allclose(marks(unseen), wanted.reshape(-1, 2))
    assert [text.get_text() for text in unseen.texts] == ["0", "30"] * 3
    for line, points in zip(unseen.lines, wanted, strict=True):
        np.testing.assert_allclose(line.get_xydata(), points)  # joined in order of epoch
    bars = [sum(isinstance(c, LineCollection) for c in ax.collections) for ax in (unseen, seen)]
    assert bars == [3 * 2 * 5, 3 * 5]  # on training samples no error of a test sample
    assert told_by(figure) == ["seed 0", "seed 1", "seed 2"]
    left, right = ratio_accuracy.epochs_figure(curve).axes
    for row, line in enumerate(left.lines):
        np.testing.assert_allclose(line.get_ydata(), curve.ratio[row].mean(-1))
        assert list(line.get_xdata()) == list(curve.places)
    assert len(left.lines) == 3 and len(right.lines) == 6 and "[%]" in right.get_title()
    # Networks are drawn in their roles and layers.
    networks = made(np.random.default_rng(5).random((2, 3, 8)), places=("T", "S", "B"))
    figure = ratio_accuracy.networks_figure({"FC1": networks, "FC2": networks})
    assert [ax.get_title() for ax in figure.axes] == ["FC1", "FC2"]
    np.testing.assert_allclose(marks(figure.axes[1])[:, 0], networks.ratio.mean(-1).ravel())
    assert told_by(figure) == ["teacher", "student", "baseline"]


def test_of_many_seeds_the_mean_is_marked_before_thin_lines():
    curve = made(np.random.default_rng(4).random((7, 5, 20)), places=(0, 1, 4, 10, 30))
    figure = ratio_accuracy.training_figure(curve)
    unseen = figure.axes[0]
    mean = np.stack([curve.ratio.mean((0, -1)), 100 * curve.accuracy["test"].mean(0)], axis=-1)
    np.testing.assert_allclose(marks(unseen), mean)
    assert len(unseen.lines) == 7 and [text.get_text() for text in unseen.texts] == ["0", "30"]
    assert not any(isinstance(one, LineCollection) for one in unseen.collections)
    assert told_by(figure) == ["mean of 7 seeds"]
    figure = ratio_accuracy.epochs_figure(curve)
    left, right = figure.axes
    np.testing.assert_allclose(left.lines[-1].get_ydata(), curve.ratio.mean((0, -1)))
    assert (len(left.lines), len(right.lines)) == (8, 16)
    words = ("lambda", "unseen samples", "training samples")
    assert told_by(figure) == [f"{one}, mean of 7 seeds" for one in words]


UP, DOWN, OPEN, NONE = (0.2, 0.6), (-0.6, -0.2), (-0.1, 0.3), (float("nan"),) * 2


def every(plain=UP, detrended=OPEN) -> dict[str, ratio_accuracy.Answer]:
    ends = dict.fromkeys(QUESTIONS, UP) | {"test": plain, "test_detrended": detrended}
    found = {n: Estimate((low + high) / 2, low, high, 10, 2) for n, (low, high) in ends.items()}
    return {n: ratio_accuracy.Answer(gap, 12, f"what {n} is") for n, gap in found.items()}


def test_points_are_counted_and_the_likely_layer_comes_first(curve, smoke):
    networks = made(curve.ratio[:, :3], places=("T", "S", "B"))
    found, in_order = ratio_accuracy.answers(curve, networks), ratio_accuracy.in_order
    counts = dict.fromkeys(QUESTIONS, 5) | {"networks": 3}
    assert {name: part.n for name, part in found.items()} == counts
    assert found["test"].found == found["train"].found  # the same accuracies were given
    assert in_order(["Conv", "FC1", "FC2"]) == ["FC1", "Conv", "FC2"]
    assert in_order(["FC2", "Conv"]) == ["FC2", "Conv"]
    # Numbers have the first layer without its name.
    findings = Findings(smoke.study, "image_lambda")
    ratio_accuracy.record(findings, {"FC1": every(), "Conv": every(detrended=NONE)})
    names = {f"correlation_{name}" for name in QUESTIONS} - {"correlation_lambda_trend"}
    names |= {"lambda_trend"}
    others = {f"{name}_Conv" for name in names} - {"correlation_test_detrended_Conv"}
    assert set(findings.numbers) == names | others
    (note,) = findings.notes
    assert note.startswith("Conv, what test_detrended is: undefined")
    number = findings.numbers["correlation_test"]
    assert (number.value, number.low, number.high, number.n) == (0.4, 0.2, 0.6, 12)
    assert "12 points of 2 seeds each" in number.what
    found = findings.results()
    assert {"student_curve", "final_networks", "answers", "record"} <= set(found.provenance["code"])
    assert freshness(found) == "fresh" and found.measures == found.comparisons == []


def test_reading_and_table_follow_the_numbers(smoke):
    for plain, detrended, verdict, beside in (
        (UP, DOWN, "supported", "opposed"),
        (DOWN, UP, "opposed", "supported"),
        (OPEN, NONE, "undecided", "undecided"),
    ):
        found = {"FC1": every(plain, detrended), "FC2": every(plain, detrended)}
        told = ratio_accuracy.ratio_reading(smoke.study, found)
        table = ratio_accuracy.correlation_table(found)
        assert f"FC1, what test is: **{verdict}**" in told
        assert f"FC1, what test_detrended is: **{beside}**" in told
        assert f"Of 2 layers: 2 {verdict}." in told and "b = 0.2" in told
        assert ("undefined" in told) == (detrended is NONE) and len(table) == 2 * len(QUESTIONS)
        assert list(table["larger lambda, better"]).count("") == 2  # the trends are no verdict
        assert list(table["value"]).count("undefined") == 2 * (detrended is NONE)


@pytest.mark.long
def test_the_notebook_at_smoke(own, tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_STORE", str(own.store.root))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    run = Executed("image_lambda", {"device": "cpu"}, own.store.root, tmp_path)
    assert (run.code, run.told, run.added) == (0, "", set())  # no network, no map
    assert runner.error_outputs(run.notebook) == []
    assert runner.figure_count(run.notebook) == run.notebook.metadata["kpnb"]["figures"]
    found = read_results("image_lambda", "smoke")
    assert json.loads(json.dumps(found.settings)) == own.parameters.model_dump(mode="json")
    assert found.measures == found.comparisons == []
    # Three checkpoints: what needs four, or leaves two, is said to be undefined.
    assert found.numbers["correlation_test"].n == 3
    assert len(found.numbers) + len(found.notes) == len(QUESTIONS)
    assert "correlation_test_detrended" not in found.numbers
    assert "A larger lambda goes with better performance" in run.text()

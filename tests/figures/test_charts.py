"""Figures of metrics show the numbers they are given, and what those rest on."""

import numpy as np
import torch
from refusals import refuses
from shown_samples import check_figure

from kpnb.figures import charts
from kpnb.figures.paper import learning_figure
from kpnb.metrics.stats import Estimate
from kpnb.paper import METRICS

N_FG = torch.tensor([[1, 5, 2], [4, 5, 3], [3, 1, 3]])
CURVES = {"S": ([0.1, 0.5, 0.7], N_FG), "B": (torch.tensor([0.2, 0.3, 0.9]), N_FG + 1)}
ACCURACIES = {"T": {"train": [1.0], "test": [0.6]}, "B": {"train": [0.9], "test": [0.3]}}
FOUR = Estimate(4, 3, 5, 3, 1)


def test_charts_are_labelled_whole_small_and_closed():
    for figure in (
        charts.estimates_figure({"n_fg": {"T": FOUR, "S": FOUR}, "lambda": {"S": FOUR}}),
        charts.estimates_figure({m: {"S": FOUR, "B": FOUR} for m in METRICS}),
        learning_figure(CURVES),
        charts.stability_figure({"S": torch.rand(2, 5), "B": torch.rand(2, 5)}),
        charts.threshold_figure({"n_bg": {0.15: FOUR, 0.2: FOUR}}),
        charts.accuracy_figure(ACCURACIES, {"chance": 1 / 12}),
    ):
        check_figure(figure)


def test_learning_marks_first_maxima():
    panel = learning_figure(CURVES).axes[0]
    (marks,) = [c.get_offsets() for c in panel.collections]
    assert np.allclose(marks, [[0.5, 4], [0.1, 5], [0.5, 3]])
    bold = [line for line in panel.lines if line.get_label() == "student, mean"][0]
    assert np.allclose(bold.get_ydata(), [8 / 3, 4, 7 / 3])
    assert len(panel.lines) == 3 + 1 and panel.get_title() == "student"


def test_distributions_write_mean_and_population_variance_within_seeds():
    values = {"S": [[1.0, 3.0], [5.0, 7.0]], "B": torch.tensor([0.25, 0.75])}
    (legend,) = charts.speed_figure(values).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[:2] == ["student", "baseline"]
    assert "= 4," in texts[2] and texts[2].endswith("= 1")
    assert "= 0.5," in texts[3] and texts[3].endswith("= 0.0625")
    # Of stability, steps reach one and skip what is not defined.
    panel = charts.stability_figure({"S": [0.5, np.nan, 1.0]}).axes[0]
    steps = panel.lines[0]
    assert steps.get_xdata()[-1] == 1 and steps.get_ydata()[-1] == 1
    assert np.allclose(panel.lines[1].get_xdata(), 0.75)
    refuses(charts.stability_figure, "baseline has no defined value", {"B": [np.nan]})


def test_estimates_draw_interval_and_count_and_threshold_shades_the_predicted_side():
    figure = charts.estimates_figure({"lambda": {"S": Estimate(0.5, 0.4, 0.7, 9, 2), "B": FOUR}})
    panel = figure.axes[0]
    assert np.allclose(panel.collections[0].get_segments()[0], [[0, 0.4], [0, 0.7]])
    assert panel.lines[0].get_ydata() == [0.5] and "lambda" in panel.get_ylabel()
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["student", "baseline"]
    one = charts.estimates_figure({"rho": {"S": Estimate(1, 1, 1, 1, 1)}})
    single = {"T": Estimate(5, np.nan, np.nan, 3, 1), "S": Estimate(7, np.nan, np.nan, 3, 1)}
    points = charts.estimates_figure({"n_fg": single})
    for found, told in (
        (figure, "95% intervals over 3–9 samples, 1–2 seeds"),
        (one, "95% intervals over 1 sample, 1 seed"),
        (points, "one seed: no interval; 3 samples"),
    ):
        assert found.get_supxlabel().replace("\n", " ") == told
    low, high = points.axes[0].get_ylim()
    assert low < 5 and high > 7
    for metric, place in (("rho", 1), ("d_var", 0)):
        panel = charts.threshold_figure({metric: {0.2: Estimate(5, 4, 6, 3, 1)}}).axes[0]
        (shade,) = panel.patches
        ends = [shade.get_y(), shade.get_y() + shade.get_height()]
        assert ends[1 - place] == 0 and ends[place] == panel.get_ylim()[place]
        assert ends[1] > ends[0] and shade.get_hatch()  # though all values are on one side


def test_accuracy_is_in_percent():
    lines = {"chance": 1 / 12, "TF-IDF": 0.8}
    panel = charts.accuracy_figure(ACCURACIES, lines, "f1").axes[0]
    heights = [c.get_offsets()[0][1] for c in panel.collections if len(c.get_offsets())]
    assert np.allclose(heights, [100, 90, 60, 30])
    drawn = {line.get_label(): line for line in panel.lines}
    assert list(drawn) == ["chance", "TF-IDF"] and panel.get_ylabel() == "f1 [%]"
    for name, share in lines.items():
        assert np.allclose(drawn[name].get_ydata(), 100 * share)
    assert drawn["chance"].get_linestyle() != drawn["TF-IDF"].get_linestyle()
    panel = charts.accuracy_figure(ACCURACIES, {}).axes[0]  # nothing to hold it against
    assert len(panel.lines) == 0 and panel.get_ylabel() == "accuracy [%]"

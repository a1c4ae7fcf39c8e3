"""Coherency on made-up maps: intervals, tables, figures, and a reading that may say no."""

import math

import numpy as np
import pytest
import torch
from layer_maps import CONVS, layer_maps, times

from kpnb.experiments import coherency
from kpnb.experiments.coherency import ENTROPY, TITLES, VARIANCE, Coherency, spread_table


def measured(channel: bool) -> Coherency:
    """Two seeds; the entropy's map turns with a factor per channel, Grad-CAM's does not."""
    before, after = [], []
    for seed in (0, 1):
        given = {k: v.unflatten(1, (4, 4)) for k, v in layer_maps(seed).items()}
        sigma = {k: v / 10 for k, v in layer_maps(seed + 2).items()}
        variance = layer_maps(seed, units=1)
        same = {"grad_cam": given, "saliency": {"input": given["conv 1"]}}
        turned = {k: v.flip(1) for k, v in sigma.items()} if channel else sigma
        before.append({"gradient": given, ENTROPY: sigma, VARIANCE: variance} | same)
        after.append({"gradient": times(given, 4.0, 1.0, 4.0), ENTROPY: turned} | same)
        after[-1][VARIANCE] = times(variance, 1 / 16, 1.0, 1 / 16)
    return Coherency(before, after, 0.0)


@pytest.fixture(scope="module")
def found():
    return {"layer": measured(False), "channel": measured(True)}


def test_scores_have_intervals_over_images_and_seeds(found):
    scores = found["layer"].scores
    score = scores["gradient"]["coherency"]
    assert score.value == pytest.approx(2 / 3 * math.log(4))
    assert (score.n_samples, score.n_seeds) == (5, 2)
    assert score.high - score.low < 1e-6  # what holds for every image has no spread
    turned = found["channel"].scores[ENTROPY]["coherency_shape"]
    assert 0 < turned.low < turned.value < turned.high
    assert list(scores["saliency"]) == ["coherency", "coherency_shape"]  # no layers to swap
    assert list(scores[VARIANCE]) == ["coherency", "swaps"]  # a number has no shape
    # The largest difference of entropies is that of logarithms.
    assert found["layer"].entropy_difference() == 0
    one = found["channel"]
    ends = [[maps[ENTROPY][k] for maps in runs for k in CONVS] for runs in (one.before, one.after)]
    expected = max(float((a / b).log().abs().max()) for b, a in zip(*ends, strict=True))
    assert one.entropy_difference() == pytest.approx(expected)
    # Defined for one of the two only is no small difference.
    half = measured(False)
    half.after[0][ENTROPY] = half.after[0][ENTROPY] | {"conv 1": torch.full((5, 16), torch.nan)}
    assert half.entropy_difference() == math.inf
    half.before[0][ENTROPY] = half.after[0][ENTROPY]
    assert half.entropy_difference() == 0


def test_coherent_is_what_stays_with_all_of_its_interval():
    """One image of five moves by the second factor, in one layer of three."""
    for first, second, coherent in ((1.009, 1.02, True), (1.0, 1.1, False)):
        moved, before = torch.tensor([second, *[first] * 4])[:, None], layer_maps()
        found = Coherency([{"gradient": before}], [{"gradient": times(before, 1, moved, 1)}], 0.0)
        assert found.scores["gradient"]["coherency"].value < 0.01
        assert found.unchanged("gradient") == coherent


def test_reading_and_tables_follow_the_numbers_and_may_say_no(found):
    told = coherency.coherency_reading(found, 4.0)
    assert "the entropy is **unchanged**" in told
    changed = "gradient (0.924 [0.924, 0.924] nats)"
    assert f"unchanged: entropy (sigma), Grad-CAM; changed: {changed}" in told
    assert "unchanged: Grad-CAM; changed: gradient" in told
    assert "**Yes: the entropy is unchanged" in told and "are 1 of 2 other methods" in told
    assert "one by one, the entropy is changed" in told
    told = coherency.coherency_reading(dict.fromkeys(found, found["channel"]), 4.0)
    assert "the entropy is **changed**" in told and "**No: the entropy is changed" in told
    # Tables show every method, and leave out what has no meaning.
    scores, spread = coherency.scores_table(found), spread_table(found)
    families = coherency.family_table(found)
    assert len(scores) == 5 and (scores.loc["saliency"] == "").sum() == 2
    assert list(spread.index) == [TITLES[m] for m in ("gradient", ENTROPY, VARIANCE, "grad_cam")]
    assert spread.loc["Grad-CAM", "original [nats]"] == spread.loc["Grad-CAM", "rescaled [nats]"]
    assert spread.loc["gradient", "original [nats]"] != spread.loc["gradient", "rescaled [nats]"]
    assert families.loc["entropy-based", "one factor per layer"].startswith("1 of 1")
    assert families.loc["entropy-based", "a factor per channel"].startswith("0 of 1")
    assert families.loc["inversion-based", "one factor per layer"] == "not measured"
    assert all("paper's claim" in cell for cell in families["generality"])


def test_figures_have_named_axes_and_a_panel_per_method(found):
    magnitude = coherency.magnitudes_figure(found["layer"])
    shown = [ax for ax in magnitude.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == list(spread_table(found).index)
    spans = [np.ptp(np.log10(ax.get_ylim())) for ax in shown]
    np.testing.assert_allclose(spans, spans[0])
    sizes, shapes = coherency.scores_figure(found).axes
    assert "nats" in sizes.get_title() and "[1]" in shapes.get_title()
    assert [len(ax.lines) - 1 for ax in (sizes, shapes)] == [2 * 5, 2 * 4]  # and the line at 0
    drawn = coherency.maps_figure(found["layer"], np.zeros((16, 16, 3)), 0)
    # Two rows a method, a picture and three layers each, and the entropy's color bar.
    assert len(drawn.axes) == 2 * 3 * 4 + 1

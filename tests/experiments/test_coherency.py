"""Coherency on made-up maps: intervals, tables, figures, and a reading that may say no."""

import math

import numpy as np
import pytest
import torch
from layer_maps import CONVS, layer_maps, times
from matplotlib.figure import Figure

from kpnb.errors import KpnbError
from kpnb.experiments.coherency import (
    ENTROPY,
    VARIANCE,
    Coherency,
    coherency_reading,
    family_table,
    is_coherent,
    magnitudes_figure,
    maps_figure,
    scores_figure,
    scores_table,
    spread_table,
)
from kpnb.metrics.stats import Estimate
from kpnb.study.parameters import CoherencyParameters, ImageParameters, resolve


def coherency(channel: bool) -> Coherency:
    """Two seeds; the entropy's map turns with a factor per channel, Grad-CAM's does not."""
    before, after = [], []
    for seed in (0, 1):
        given = {k: v.unflatten(1, (4, 4)) for k, v in layer_maps(seed).items()}
        sigma = {k: v / 10 for k, v in layer_maps(seed + 2).items()}
        variance = layer_maps(seed, units=1)
        turned = {k: v.flip(1) for k, v in sigma.items()} if channel else sigma
        saliency = {"input": given["conv 1"]}
        before.append({"gradient": given, "grad_cam": given, "saliency": saliency})
        before[-1] |= {ENTROPY: sigma, VARIANCE: variance}
        after.append({"gradient": times(given, 4.0, 1.0, 4.0), "grad_cam": given})
        after[-1] |= {"saliency": saliency, ENTROPY: turned}
        after[-1] |= {VARIANCE: times(variance, 1 / 16, 1.0, 1 / 16)}
    return Coherency(before, after, 0.0)


@pytest.fixture(scope="module")
def found():
    return {"layer": coherency(False), "channel": coherency(True)}


def test_scores_have_intervals_over_images_and_seeds(found):
    score = found["layer"].magnitude_change("gradient")
    assert score.value == pytest.approx(2 / 3 * math.log(4))
    assert (score.n_samples, score.n_seeds) == (5, 2)
    assert score.high - score.low < 1e-6  # what holds for every image has no spread
    turned = found["channel"].shape_change(ENTROPY)
    assert 0 < turned.low < turned.value < turned.high


def test_the_largest_difference_of_entropies_is_that_of_logarithms(found):
    assert found["layer"].entropy_difference() == 0
    one = found["channel"]
    pairs = [
        (b[ENTROPY][k], a[ENTROPY][k])
        for b, a in zip(one.before, one.after, strict=True)
        for k in CONVS
    ]
    expected = max(float((a / b).log().abs().max()) for b, a in pairs)
    assert one.entropy_difference() == pytest.approx(expected)


def test_an_entropy_defined_for_one_of_the_two_only_is_no_small_difference(found):
    one = coherency(False)
    one.after[0][ENTROPY] = dict(one.after[0][ENTROPY])
    one.after[0][ENTROPY]["conv 1"] = torch.full((5, 16), torch.nan)
    assert one.entropy_difference() == math.inf
    one.before[0][ENTROPY] = one.after[0][ENTROPY]
    assert one.entropy_difference() == 0


def test_coherent_is_what_stays_with_all_of_its_interval():
    assert is_coherent(Estimate(0.005, 0.001, 0.009, 5, 1))
    assert not is_coherent(Estimate(0.005, 0.001, 0.02, 5, 1))


def test_the_reading_follows_the_numbers(found):
    told = coherency_reading(found, 4.0)
    assert "the entropy is **unchanged**" in told
    assert (
        "unchanged: Grad-CAM, entropy (sigma); changed: gradient (0.92 [0.92, 0.92] nats)" in told
    )
    assert "unchanged: Grad-CAM; changed: gradient" in told
    assert "but not it alone" in told and "one by one, it is not" in told


def test_the_reading_says_no_where_the_entropy_changes(found):
    told = coherency_reading({"layer": found["channel"], "channel": found["channel"]}, 4.0)
    assert "the entropy is **changed**" in told and "**No: the entropy changes" in told


def test_tables_show_every_method_and_leave_out_what_has_no_meaning(found):
    scores = scores_table(found)
    assert len(scores) == 5 and (scores.loc["saliency"] == "").sum() == 2  # no layers to swap
    assert list(spread_table(found).index) == [
        "gradient",
        "Grad-CAM",
        "entropy (sigma)",
        "sigma_f^2, undivided",
    ]
    families = family_table(found)
    assert families.loc["entropy-based", "one factor per layer"].startswith("1 of 1")
    assert families.loc["entropy-based", "a factor per channel"].startswith("0 of 1")
    assert families.loc["inversion-based", "one factor per layer"] == "not measured"
    assert all("paper's claim" in cell for cell in families["generality"])


def test_figures_have_named_axes_and_a_panel_per_method(found):
    magnitude = magnitudes_figure(found["layer"])
    shown = [ax for ax in magnitude.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown] == list(spread_table(found).index)
    spans = [np.ptp(np.log10(ax.get_ylim())) for ax in shown]
    np.testing.assert_allclose(spans, spans[0])
    scores = scores_figure(found)
    assert all("[" in ax.get_xlabel() for ax in scores.axes)
    drawn = maps_figure(found["layer"], np.zeros((16, 16, 3)), 0)
    # Two rows a method, a picture and three layers each, and the entropy's color bar.
    assert len(drawn.axes) == 2 * 3 * 4 + 1
    assert all(isinstance(figure, Figure) for figure in (magnitude, scores, drawn))


def test_maps_of_methods_without_layers_are_not_drawn(found):
    with pytest.raises(KpnbError, match="map per layer"):
        maps_figure(found["layer"], np.zeros((16, 16, 3)), 0, ["saliency"])


# --- parameters


@pytest.mark.parametrize("preset", ImageParameters.PRESETS)
def test_presets_are_those_of_the_images_with_fewer_samples(preset):
    own = resolve(CoherencyParameters, {"preset": preset}).model_dump()
    other = resolve(ImageParameters, {"preset": preset}).model_dump()
    changed = {name for name in other if own[name] != other[name]}
    assert changed == {"samples"} and set(own) - set(other) == {"factor", "pairs", "methods"}


@pytest.mark.parametrize(
    "given",
    [{"factor": 1.0}, {"factor": -4}, {"pairs": "all"}, {"methods": ["lime"]}, {"methods": []}],
)
def test_parameters_are_checked(given):
    with pytest.raises(KpnbError, match=f"The parameter {next(iter(given))}"):
        resolve(CoherencyParameters, {"preset": "demo"} | given)

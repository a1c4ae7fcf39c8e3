"""Scores of coherency against what is known by hand; measured on tiny networks and drawn."""

import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from kpnb.errors import KpnbError
from kpnb.experiments.coherency import (
    ENTROPY,
    VARIANCE,
    Coherency,
    layer_spread,
    magnitude_changes,
    magnitudes,
    order_changes,
    shape_changes,
)
from kpnb.experiments.coherency_figures import magnitudes_figure, maps_figure, scores_figure
from kpnb.experiments.coherency_report import (
    family_table,
    is_coherent,
    reading,
    scores_table,
    spread_table,
)
from kpnb.metrics.stats import Estimate
from kpnb.study.parameters import CoherencyParameters, ImageParameters, resolve

CONVS = ("conv 1", "conv 2", "conv 3")


def maps(seed=0, layers=CONVS, units=16):
    random = torch.Generator().manual_seed(seed)
    return {k: torch.rand(5, units, generator=random) + 0.1 for k in layers}


def times(parts, *factors):
    return {k: v * f for (k, v), f in zip(parts.items(), factors, strict=True)}


# --- scores


def test_a_factor_shows_in_the_magnitude_as_its_logarithm_and_not_in_the_shape():
    before = maps()
    after = times(before, 4.0, 1.0, 0.25)
    np.testing.assert_allclose(magnitude_changes(before, after), 2 / 3 * math.log(4), rtol=1e-6)
    np.testing.assert_array_equal(shape_changes(before, after), np.zeros(5))


def test_moved_maps_show_in_the_shape_and_not_in_the_magnitude():
    before = maps()
    after = {k: v.flip(1) for k, v in before.items()}
    np.testing.assert_allclose(magnitude_changes(before, after), 0, atol=1e-6)
    assert (shape_changes(before, after) > 0.1).all()


def test_the_shape_counts_the_way_to_a_flat_map_as_one_whatever_the_contrast():
    before = maps(layers=("input",))
    mean = before["input"].mean(1, keepdim=True)
    for share in (0.0, 0.25, 1.0):
        after = {"input": before["input"] + share * (mean - before["input"])}
        np.testing.assert_allclose(shape_changes(before, after), share, atol=1e-5)


def test_signs_do_not_count():
    before, after = maps(), {k: -v for k, v in maps().items()}
    assert not magnitude_changes(before, after).any() and not shape_changes(before, after).any()


def test_layers_that_change_places_are_counted():
    before = {k: torch.full((2, 4), v) for k, v in zip(CONVS, (1.0, 2.0, 3.0), strict=True)}
    assert order_changes(before, times(before, 2.0, 2.0, 2.0)).tolist() == [0, 0]
    assert order_changes(before, times(before, 2.5, 1.0, 1.0)) == pytest.approx([1 / 3] * 2)
    assert order_changes(before, times(before, 4.0, 1.0, 0.2)) == pytest.approx([1] * 2)
    # Equal but for rounding is no order that could change.
    equal = {k: torch.full((2, 4), 1.0 + 1e-6 * i) for i, k in enumerate(CONVS)}
    assert (
        order_changes(equal, dict(zip(CONVS, list(equal.values())[::-1], strict=True))).sum() == 0
    )


def test_spread_over_layers_is_that_of_the_logarithm():
    parts = {k: torch.full((2, 4), math.exp(v)) for k, v in zip(CONVS, (0, 1, 5), strict=True)}
    np.testing.assert_allclose(layer_spread(parts), np.std([0, 1, 5]), rtol=1e-6)
    np.testing.assert_allclose(layer_spread(times(parts, 7.0, 7.0, 7.0)), np.std([0, 1, 5]))


def test_maps_without_a_value_are_left_out():
    before = maps()
    before["conv 1"][0] = 0  # Grad-CAM's ReLU can leave nothing
    before["conv 2"][1] = torch.nan  # no entropy where the feature never moves
    after = times(before, 4.0, 1.0, 1.0)
    changes = magnitude_changes(before, after) / math.log(4)
    np.testing.assert_allclose(changes, [0, 1 / 2, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert np.isnan(magnitudes(before)).sum() == 2
    flat = {"input": torch.ones(2, 4)}
    assert np.isnan(shape_changes(flat, flat)).all()


@pytest.mark.parametrize("score", [magnitude_changes, shape_changes, order_changes])
def test_other_layers_are_refused(score):
    with pytest.raises(KpnbError, match="same ones"):
        score(maps(), maps(layers=CONVS[:2]))


def test_one_map_has_no_layers_to_compare():
    single = maps(layers=("input",))
    for score in (lambda m: order_changes(m, m), layer_spread):
        with pytest.raises(KpnbError, match="map per layer"):
            score(single)


# --- all together


def coherency(channel: bool) -> Coherency:
    """Two seeds; the entropy's map turns with a factor per channel, Grad-CAM's does not."""
    before, after = [], []
    for seed in (0, 1):
        given = {k: v.unflatten(1, (4, 4)) for k, v in maps(seed).items()}
        sigma = {k: v / 10 for k, v in maps(seed + 2).items()}
        variance = maps(seed, units=1)
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
    told = reading(found, 4.0)
    assert "The entropy is **unchanged**" in told
    assert "gradient 0.92 [0.92, 0.92] nats (**changed**)" in told
    assert "Grad-CAM 0 [0, 0] nats (**unchanged**)" in told
    assert "but not it alone" in told and "one by one, it is not" in told


def test_the_reading_says_no_where_the_entropy_changes(found):
    told = reading({"layer": found["channel"], "channel": found["channel"]}, 4.0)
    assert "The entropy is **changed**" in told and "**No: the entropy changes" in told


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

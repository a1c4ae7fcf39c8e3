"""What the page on coherency says was found."""

import math

import pytest

from kpnb.metrics.results import read_results

BY_LAYER = ("gradient", "activation", "feature_gradient", "feature_occlusion")
OF_LAYER = ("grad_cam", "gradient_x_activation", "conductance")
OF_INPUT = ("saliency", "input_x_gradient", "integrated_gradients", "guided_backprop", "occlusion")


def numbers():
    return read_results("image_coherency", "study").numbers


def test_by_one_factor_a_layer_eight_of_twelve_stay_and_four_change_in_magnitude_alone():
    found = numbers()
    assert len({*BY_LAYER, *OF_LAYER, *OF_INPUT}) == 12
    for name in (*OF_LAYER, *OF_INPUT, "entropy"):
        told = found[f"coherency_{name}"], found[f"coherency_shape_{name}"]
        assert [(one.value, one.high) for one in told] == [(0.0, 0.0)] * 2
    assert found["entropy_largest_difference"].value == 0.0
    for name in BY_LAYER:
        assert found[f"coherency_{name}"].value == pytest.approx(math.log(2))
        assert found[f"coherency_shape_{name}"].high == 0.0
    assert found["coherency_feature_variance"].value == pytest.approx(2 * math.log(2))
    assert found["swaps_activation"].low < 0.5 + 0.01 < found["swaps_activation"].high
    assert found["swaps_gradient"].value == pytest.approx(0.2, abs=0.01)


def test_by_a_factor_for_each_channel_the_entropy_changes_its_shape():
    found = numbers()
    for name in OF_LAYER:
        told = found[f"channel_coherency_{name}"], found[f"channel_coherency_shape_{name}"]
        assert [(one.value, one.high) for one in told] == [(0.0, 0.0)] * 2
    shape = found["channel_coherency_shape_entropy"]
    assert shape.low < 0.25 < shape.high and shape.value == pytest.approx(0.25, abs=0.02)
    assert found["channel_coherency_entropy"].high < 0.01

"""What a computation costs: operations counted by hand, and what is said of one is added up."""

import pytest
from torch import nn

from kpnb.training.costs import WHOLE, Anatomy, count_anatomy, encoder_anatomy


@pytest.mark.parametrize("width", [1, 5])
def test_operations_are_two_a_multiply_add(width):
    parts = nn.Conv2d(3, width, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten()
    net = nn.Sequential(*parts, nn.Linear(width * 16, 7)).to("meta")
    found = count_anatomy(net, (3, 4, 4), [("0", "Conv"), ("3", "FC1")])
    convolution = 2 * 16 * width * 3 * 9
    assert found.operations["Conv"] == convolution
    assert found.operations["FC1"] == found.operations[WHOLE] == convolution + 2 * 16 * width * 7
    assert found.parameters == width * 28 + 7 * (16 * width + 1)
    # A ReLU in place keeps nothing of its own; flattening is counted as what it puts out.
    assert found.activations == 16 * width + 16 * width + 7
    assert found.up_to("Conv") + found.above("Conv") == found.up_to(WHOLE) == found.up_to("FC9")
    assert found.above("FC9") == 0  # one that was not counted is the whole network
    assert Anatomy({WHOLE: 0.0}, 0, 0).up_to(WHOLE) == 1  # nothing is divided by zero
    assert not any(part._forward_hooks for part in net.modules())  # no hook is left behind


def test_an_encoder_by_hand():
    sizes = dict(width=2, wide=3, length=5, vocabulary=11, outputs=4)
    one, two = (encoder_anatomy(depth=depth, **sizes) for depth in (1, 2))
    maps = 4 * 2 * 2 + 2 * 2 * 3
    assert one.operations["Last"] == 2 * 5 * maps + 4 * 5 * 5 * 2
    assert one.above("Last") == 2 * 2 * 4 * 5
    assert two.up_to("Last") == 2 * one.up_to("Last")
    assert two.parameters - one.parameters == maps + 9 * 2 + 3

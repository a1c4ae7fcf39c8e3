"""Masks and boxes as foreground, and units of any form."""

import torch
from PIL import Image
from quick import UNITS, explain
from reference import conv_net, images
from refusals import refused
from torch import nn

from kpnb.estimator.units import GridUnits, MaskUnits

X = images(3)


def close(found, expected, atol=1e-4):
    torch.testing.assert_close(found.entropy, expected.entropy, rtol=0, atol=atol)


def test_masks_of_png_files_and_maps_of_labels():
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[0, :4, :2] = True  # half of the first cell
    mask[0, 8, 8] = True  # one pixel of another
    units = GridUnits(4)
    expected = torch.eye(16, dtype=torch.bool)[:1]
    for same in (mask, mask.byte(), 255 * mask.byte(), mask.numpy(), mask.float()):
        assert torch.equal(units.foreground(same), expected)
    assert torch.equal(units.foreground(mask.long() * 15, label=15), expected)
    assert torch.equal(units.foreground_of_boxes([[0, 0, 2, 4]], 16, 16), expected)
    file = Image.fromarray(255 * mask[0].byte().numpy())
    for same in (file, [file], (mask[0].numpy(),)):
        assert torch.equal(units.foreground(same), expected)
    for wrong, told in (
        (mask.long() * 15, "label="),
        (mask[0], "samples, height"),
        (mask[:, :3], "coarser than 4 cells"),
        ([file, file.resize((8, 8))], "different sizes"),
        (file.convert("RGB"), "samples, height"),
    ):
        with refused(told):
            units.foreground(wrong)
    with refused("no pixel"):
        units.foreground_of_boxes([[3, 3, 3, 3]], 16, 16)


def test_mask_units_in_the_form_of_a_grid_are_the_grid():
    cells = UNITS.spread(torch.arange(16.0)[None], X[:1])[0, 0].long()
    close(explain(conv_net(), X, units=MaskUnits(cells)), explain(conv_net(), X))
    with refused("without a gap"):
        MaskUnits(2 * cells)
    with refused("as the labels are"):
        explain(conv_net(), X, units=MaskUnits(cells[:4]))


def test_places_of_no_unit_take_no_noise():
    labels = torch.arange(8) // 2 - 1  # the first two places belong to none
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 4, bias=False))
    x = torch.randn(2, 2, 8, generator=torch.Generator().manual_seed(0))
    found = explain(net, x, "1", units=MaskUnits(labels), relu=False)
    with torch.no_grad():
        net[1].weight.unflatten(1, (2, 8))[:, :, :2] = 0
    again = explain(net, x, "1", units=MaskUnits(labels), relu=False)
    assert found.entropy.shape == (2, 3)
    close(found, again, atol=1e-5)

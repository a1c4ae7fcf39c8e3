"""Units of labels are drawn as the areas or stretches that they are."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from refusals import refuses
from shown_samples import SAMPLES, check_figure, maps_of, marks, panels, places

from kpnb.estimator.units import MaskUnits
from kpnb.figures.panel import POINTS, entropy_rgba
from kpnb.metrics.points import knowledge_points

KINDS = [style.name for style in POINTS.values()]


@pytest.mark.parametrize("form", ["superpixels", "stretches"])
def test_units_of_labels_are_areas_of_images_or_stretches_of_series(form):
    labels = torch.arange(8) // 2
    inputs = torch.randn(SAMPLES, 2, 8)
    if form == "superpixels":
        labels, inputs = labels.repeat(6, 1), torch.rand(SAMPLES, 3, 6, 8)
        labels[0] = -1
    units, entropy = MaskUnits(labels), torch.linspace(-4, -2, 4).repeat(SAMPLES, 1)
    maps = replace(maps_of(entropy), settings={"units": f"{units}"})
    figure = maps.show(inputs, units=units)
    check_figure(figure)
    areas = panels(figure)[-1].get_images()[-1].get_array()
    wanted = entropy_rgba(entropy[0])[labels] * (labels.numpy() >= 0)[..., None]
    np.testing.assert_allclose(areas.reshape(wanted.shape), wanted, atol=1e-6)
    if form == "stretches":
        assert [len(ax.lines) for ax in panels(figure)] == [2] * SAMPLES
    inside = (torch.arange(4) < 2).repeat(SAMPLES, 1)
    points = knowledge_points(maps, inside, 0.5, "sample")
    figure = points.show(inputs, units=units)
    check_figure(figure)
    assert marks(figure, *KINDS) == [(2, 0)] * SAMPLES
    middle = [x for x, _ in sorted(places(panels(figure)[0], POINTS["foreground"].color))]
    assert [int(labels.reshape(-1, 8)[-1, int(x)]) for x in middle] == [0, 1]
    other = MaskUnits(labels.flip(-1))
    for given in ({}, {"units": other}):
        refuses(maps.show, "units= of the maps", inputs, **given)
    refuses(maps.show, "no series or images of labels", inputs[..., :4], units=units)

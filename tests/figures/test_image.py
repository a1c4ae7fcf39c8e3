"""Images: pictures, maps, borders and marks lie in the cells that they belong to."""

import numpy as np
import torch
from matplotlib.colors import to_rgb
from refusals import refuses
from shown_samples import SIDE, Shown, check_figure, panels, pictures, places, titles

from kpnb.figures.image import as_pictures, draw_outline, entropy_maps, point_maps
from kpnb.figures.panel import ENTROPY_LIMITS, POINTS
from kpnb.figures.style import new_figure

SHOWN = Shown("image")


def test_entropy_maps_draws_what_the_maps_hold_below_their_images():
    maps = SHOWN.maps(lost=1)
    figure = maps.show(SHOWN.samples.images, count=2)
    check_figure(figure)
    held = [ax.get_images()[0] for ax in panels(figure)]
    for row, (upper, lower) in enumerate(zip(held[:2], held[2:], strict=True)):
        assert np.allclose(upper.get_array(), pictures()[row], atol=1e-5)
        assert lower.get_clim() == ENTROPY_LIMITS
    assert np.allclose(held[2].get_array().ravel(), maps.entropy[0].numpy())
    assert held[3].get_array().mask.all()  # a sample without a map
    assert np.allclose(held[3].cmap.get_bad()[:3], to_rgb("lightgray"))
    assert len(panels(maps.show(count=2))) == 2


def test_marks_are_in_the_middle_of_cells_and_the_outline_around_the_foreground():
    points = SHOWN.points(lost=1)
    figure = points.show(SHOWN.samples.images)
    check_figure(figure)
    for index, ax in enumerate(panels(figure)):
        for kind, style in POINTS.items():
            wanted = getattr(points, f"{kind}_points")[index].reshape(SIDE, SIDE).nonzero() + 0.5
            assert places(ax, style.color) == {(c, r) for r, c in wanted.tolist()}
    assert titles(figure)[0].endswith(f"= {points.n_bg[0]}")
    assert titles(figure)[1] == "no map defined"
    _, axes = new_figure(1, 1, (2, 2))
    draw_outline(axes[0, 0], torch.arange(SIDE * SIDE) == 5)  # row 1, column 1
    x, y = axes[0, 0].lines[0].get_data()
    corners = {tuple(p) for p in np.c_[x, y] if np.isfinite(p).all()}
    assert corners == {(1, 1), (2, 1), (1, 2), (2, 2)}
    assert np.isnan(x).sum() == 4  # one gap after each of the four sides


def test_bad_input_is_told():
    refuses(as_pictures, "pass a tensor", np.zeros((2, 3, 8, 8)))
    refuses(point_maps, "one image per sample", SHOWN.points(), pictures()[:1])
    refuses(entropy_maps, "there is no sample to show", SHOWN.maps(), count=0)
    refuses(entropy_maps, "5 units make no square grid", Shown("text").maps())

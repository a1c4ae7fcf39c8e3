"""Images: pictures are read as what they are; borders, marks and maps lie in their cells."""

import numpy as np
import pytest
import torch
from PIL import Image
from refusals import refuses
from shown_samples import SIDE, Shown, check_figure, panels, pictures

from kpnb.datasets.samples import ImageSamples, normalization
from kpnb.figures.image import ImagePanels, as_pictures, draw_outline
from kpnb.figures.panel import FLATTEST, WIDEST_PANEL
from kpnb.figures.paper import definition_figure, role_points_figure
from kpnb.figures.style import new_figure

RGB = (pictures() * 255).round().astype("uint8")  # (3, 8, 8, 3)


def first(values):
    """(n, height, width, channels) -> (n, channels, height, width)."""
    return np.moveaxis(values, -1, 1)


def test_outline_follows_the_foreground():
    _, axes = new_figure(1, 1, (2, 2))
    draw_outline(axes[0, 0], torch.arange(SIDE * SIDE) == 5)  # row 1, column 1
    x, y = axes[0, 0].lines[0].get_data()
    corners = {tuple(p) for p in np.c_[x, y] if np.isfinite(p).all()}
    assert corners == {(1, 1), (2, 1), (1, 2), (2, 2)}
    assert np.isnan(x).sum() == 4  # one gap after each of the four sides


@pytest.mark.parametrize(
    "given",
    [
        RGB,
        torch.from_numpy(RGB),
        torch.from_numpy(first(RGB)),
        first(RGB),
        torch.from_numpy(first(RGB)).long(),
        torch.from_numpy(first(RGB / 255)),  # floats from 0 to 1 are no network's inputs
        torch.from_numpy(RGB / 255).float(),
        RGB / 255,
        [Image.fromarray(picture) for picture in RGB],
        list(torch.from_numpy(first(RGB))),
        torch.from_numpy(first(RGB / 255)).float().sub(0.5).div(0.5),
    ],
    ids=range(11),
)
def test_every_way_to_hold_pictures_gives_the_same_picture(given):
    floats = torch.is_tensor(given) and given.is_floating_point() and given.min() < 0
    found = as_pictures(given, (0.5, (0.5, 0.5, 0.5)) if floats else None)
    np.testing.assert_allclose(found, RGB / 255, rtol=0, atol=1e-6)


def test_normalized_inputs_are_taken_back_as_told():
    inputs = torch.linspace(-2, 2.6, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    center, spread = normalization()
    wanted = (inputs * spread + center).clamp(0, 1).permute(0, 2, 3, 1)
    assert torch.equal(torch.from_numpy(as_pictures(inputs)), wanted)
    assert np.array_equal(as_pictures(inputs.bfloat16().float()), as_pictures(inputs.bfloat16()))
    # Said so, floats from 0 to 1 are normalized too; bytes never are.
    dark = as_pictures(torch.full((1, 3, 2, 2), 0.5), ((0.1, 0.2, 0.3), (0.2, 0.2, 0.4)))
    np.testing.assert_allclose(dark[0, 0, 0], [0.2, 0.3, 0.5], atol=1e-6)
    assert np.array_equal(as_pictures(RGB, (0.1, 0.2)), as_pictures(RGB))
    assert as_pictures(np.full((1, 2, 2, 3), 1.01)).max() == 1  # a picture, resized a little over


def test_one_channel_is_grey():
    grey = RGB[..., :1]
    wanted = np.repeat(grey / 255, 3, -1)
    for given in (grey, torch.from_numpy(first(grey)), [Image.fromarray(p[..., 0]) for p in grey]):
        np.testing.assert_allclose(as_pictures(given), wanted, atol=1e-6)
    digits = torch.tensor([-0.4242, 2.8215]).reshape(1, 1, 1, 2).expand(1, 1, 2, 2)
    found = as_pictures(digits, (0.1307, 0.3081))
    np.testing.assert_allclose(found[0, 0], [[0] * 3, [1] * 3], atol=1e-4)
    usual = as_pictures(torch.full((1, 1, 2, 2), -0.5))  # by ImageNet's, in the mean of channels
    np.testing.assert_allclose(usual, 0.449 - 0.5 * 0.226, atol=1e-6)


def test_samples_know_how_their_images_are_held():
    about = torch.tensor([0]), torch.ones(1, 4, 4, dtype=torch.bool), ("tool",), {}
    center, spread = normalization()
    pale = (torch.rand(1, 3, 4, 4) * 0.1 + 0.5 - center) / spread  # lies in [0, 1], as it happens
    assert pale.min() >= 0 and pale.max() <= 1
    for held in (pale, torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)):
        samples = ImageSamples(held, *about)
        drawn = ImagePanels(samples, [0], (0, 1)).pictures[0]
        np.testing.assert_allclose(drawn, samples.pictures()[0], atol=1e-6)


@pytest.mark.parametrize("height, width", [(8, 16), (12, 8), (2, 40)])
def test_pictures_maps_and_marks_have_the_proportions_of_their_image(height, width):
    shown, samples = Shown("image"), np.random.default_rng(0).random((3, height, width, 3))
    points = shown.points()
    for figure in (
        shown.maps().show(samples),
        role_points_figure(samples, {"S": points}, [0, 1]),
        definition_figure(samples, shown.maps(), points, 0),
    ):
        check_figure(figure)
        figure.draw_without_rendering()
        for ax in panels(figure):
            if ax.get_images():
                box = ax.get_window_extent()
                assert box.height / box.width == pytest.approx(height / width, rel=0.02)
                assert ax.get_xlim() == (0, SIDE) and ax.get_ylim() == (SIDE, 0)
    flat = shown.maps().show(samples).get_figheight() - 2 * 0.35 - 0.8
    wanted = 2 * WIDEST_PANEL * max(height / width, FLATTEST)
    assert flat == pytest.approx(wanted, abs=1e-6)


def test_images_of_several_sizes_come_in_a_list():
    images = [RGB[0], Image.fromarray(RGB[1, :4]), first(RGB)[2]]
    heights = [ax.get_images()[0].get_array().shape[0]
               for ax in panels(Shown("image").points().show(images))]  # fmt: skip
    assert heights == [8, 4, 8]


def test_bad_input_is_told():
    for shape in ((2, 5, 8, 8), (3, 8, 8), (2, 8, 8)):
        refuses(as_pictures, "with three channels or one", np.zeros(shape))
    refuses(as_pictures, "with three channels or one", np.full((1, 2, 2, 3), "a"))
    for given in (RGB.astype(float), torch.tensor(first(RGB)).float(), RGB.astype(int) + 1):
        refuses(as_pictures, "values up to 25", given)
    for given in (((0.5, 0.5), 0.5), (0.5, (0.5, 0.5))):
        refuses(as_pictures, "for 3 channels", torch.randn(1, 3, 4, 4), given)

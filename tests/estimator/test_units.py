"""Grid units: how pixels belong to cells, also where the grid does not divide the image."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import cell_of_pixel, cell_sums, enlarge, generator
from torch import nn

from kpnb.errors import KpnbError
from kpnb.estimator.units import GridUnits

UNEVEN = (17, 23)  # no number of cells from 2 to 16 divides either


@st.composite
def grids(draw):
    """(cells, height, width) with at least one pixel a cell."""
    cells = draw(st.integers(2, 7))
    return cells, draw(st.integers(cells, 19)), draw(st.integers(cells, 19))


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(grids())
def test_spread_and_gather_follow_the_pixel_by_pixel_definition(grid):
    cells, height, width = grid
    units = GridUnits(cells)
    values = torch.randn(2, cells**2, generator=generator(0), dtype=torch.float64)
    image = torch.randn(2, 3, height, width, generator=generator(1), dtype=torch.float64)
    spread, gathered = units.spread(values, image), units.gather(image)
    for sample in range(2):
        expected = enlarge(values[sample], height, width, cells)
        torch.testing.assert_close(spread[sample, 0], expected, rtol=0, atol=0)
        torch.testing.assert_close(gathered[sample], cell_sums(image[sample], cells))


@settings(max_examples=25, deadline=None, derandomize=True, database=None)
@given(grids())
def test_gather_is_the_adjoint_of_spread(grid):
    cells, height, width = grid
    units = GridUnits(cells)
    values = torch.randn(2, cells**2, generator=generator(2), dtype=torch.float64)
    image = torch.randn(2, 3, height, width, generator=generator(3), dtype=torch.float64)
    left = (units.spread(values, image) * image).sum()
    right = (values * units.gather(image)).sum()
    torch.testing.assert_close(left, right)


def test_uneven_cells_hold_every_pixel_once():
    sizes = GridUnits(4).gather(torch.ones(1, 3, *UNEVEN))[0]
    assert sizes.sum() == 3 * 17 * 23
    assert sizes[0] == 3 * 5 * 6  # rows 0..4 and columns 0..5: floor(r * 4 / 17), floor(c * 4 / 23)
    assert sizes.min() >= 3 * 4 * 5 and sizes.max() <= 3 * 5 * 6


def test_one_unit_per_pixel_is_the_image_itself():
    image = torch.randn(2, 3, 6, 6, generator=generator(0))
    torch.testing.assert_close(GridUnits(6).gather(image), image.sum(1).flatten(1))


def test_units_run_row_by_row():
    values = torch.arange(16.0)
    spread = GridUnits(4).spread(values.unsqueeze(0), torch.zeros(1, 3, 8, 8))[0, 0]
    assert spread[0, 7] == 3 and spread[7, 0] == 12


def test_foreground_cells_are_at_least_half_inside():
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 0, :2] = True  # 2 of the 4 pixels of cell 0
    mask[0, 0, 2] = True  # 1 of the 4 pixels of cell 1
    found = GridUnits(4).foreground(mask)[0]
    assert found.nonzero().flatten().tolist() == [0]


def test_foreground_of_uneven_cells_counts_pixels():
    mask = torch.rand(3, *UNEVEN, generator=generator(4)) < 0.5
    found = GridUnits(4).foreground(mask)
    for sample in range(3):
        inside, size = [0] * 16, [0] * 16
        for r in range(17):
            for c in range(23):
                cell = cell_of_pixel(r, c, *UNEVEN, 4)
                size[cell] += 1
                inside[cell] += bool(mask[sample, r, c])
        expected = [2 * i >= s for i, s in zip(inside, size, strict=True)]
        assert found[sample].tolist() == expected


def test_a_centered_block_covers_12_by_12_cells():
    """A centered object of 12/16 of each side covers 12 x 12 of 16 x 16 cells, 56.25%."""
    mask = torch.zeros(1, 64, 64, dtype=torch.bool)
    mask[:, 8:56, 8:56] = True
    found = GridUnits(16).foreground(mask).view(16, 16)
    assert found[2:14, 2:14].all() and found.sum() == 144


def test_problem_hands_the_images_to_the_model():
    images = torch.randn(2, 3, 8, 8, generator=generator(0))
    problem = GridUnits(4).problem(nn.Flatten(), images)
    assert problem.x is images and GridUnits(4).count(images) == 16
    assert torch.equal(problem.forward(images, torch.arange(2)), images.flatten(1))


@pytest.mark.parametrize("cells", [1, 0, -4, 2.5, "4"])
def test_too_few_cells_are_refused(cells):
    with pytest.raises(KpnbError, match="integer of at least 2"):
        GridUnits(cells)


@pytest.mark.parametrize("inputs", [torch.zeros(3, 8, 8), [1, 2], torch.zeros(2, 3, 8, 3)])
def test_what_is_no_image_batch_or_too_small_is_refused(inputs):
    with pytest.raises(KpnbError) as caught:
        GridUnits(4).problem(nn.Flatten(), inputs)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")

"""EntropyMaps as people use them: what they say of themselves, as arrays and tables, in parts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from refusals import refuses

from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.loss import GAUSSIAN_ENTROPY
from kpnb.estimator.maps import TENSORS

NAN = math.nan
H = torch.tensor([[-3.0, -2.0, -2.5, -2.5], [NAN] * 4, [-4.0, NAN, -1.0, -3.0]])
SETTINGS = {"units": "GridUnits(cells=2)", "layer": "fc <1>"}


def made(entropy=H, **settings) -> EntropyMaps:
    """Maps with these entropies, nats; a row of NaN is a sample without one."""
    sigma = torch.exp(entropy - GAUSSIAN_ENTROPY)
    known = entropy.isfinite().any(1)
    return EntropyMaps(sigma, known.float(), known, 0 * sigma + 0.01, SETTINGS | settings)


def test_the_repr_is_short_and_says_what_there_is():
    assert repr(made()) == (
        "EntropyMaps 3 samples, 4 units each (GridUnits(cells=2)); layer fc <1>; "
        "H -2.571 nats in the mean, -4.00 to -1.00; standard error 0.0100 nats in the mean; "
        "without a map 1 samples"
    )
    whole = replace(made()[0], standard_error=torch.full((1, 4), NAN))
    assert "without" not in repr(whole) and "standard error" not in repr(whole)
    assert "4 units" in repr(made()[1]) and "nats" not in repr(made()[1]).split("; standard")[0]
    assert "0 samples" in repr(made()[[]])


def test_a_notebook_shows_the_same_as_a_table_with_names_made_safe():
    page = made()._repr_html_()
    assert page.count("<tr>") == 5 and "<caption>entropy maps</caption>" in page
    assert "fc &lt;1&gt;" in page and "<1>" not in page and "-2.571 nats" in page


def test_arrays_tables_and_grids_hold_the_entropies():
    maps = made()
    assert isinstance(maps.numpy(), np.ndarray)
    np.testing.assert_allclose(maps.numpy(), H.numpy(), rtol=1e-6)
    assert maps.grid().shape == (3, 2, 2)
    torch.testing.assert_close(maps.grid()[0, 1, 0], H[0, 2])  # row by row
    table = maps.to_pandas()
    assert list(table) == ["sample", "unit", "row", "column", "entropy", "standard_error", "sigma"]
    assert table[["row", "column"]].to_numpy()[4:8].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert "row" not in made(units="words").to_pandas()
    assert len(table) == 12
    row = table[(table["sample"] == 2) & (table["unit"] == 3)].iloc[0]
    assert row["entropy"] == pytest.approx(-3.0) and row["standard_error"] == pytest.approx(0.01)
    assert row["sigma"] == pytest.approx(float(maps.sigma[2, 3]))
    assert table["entropy"].isna().sum() == 5


@pytest.mark.parametrize("units, count", [("words", 4), ("PointUnits()", 9), ("MaskUnits()", 4)])
def test_only_cells_of_a_grid_make_one(units, count):
    refuses(made(H[:, :1].expand(3, count), units=units).grid, "no square grid")
    refuses(made(H[:, :3]).grid, "no square grid")


def test_equality_is_of_all_numbers_and_settings_and_nan_equals_itself():
    maps = made()
    assert maps == made() and maps[1] == made()[1]
    for name in TENSORS:
        other = getattr(maps, name).clone()
        other.view(-1)[0] = not other.view(-1)[0]
        assert maps != replace(maps, **{name: other}), name
    assert maps != made(layer="fc2") and maps != maps[:2] and maps != made(H.nan_to_num(-3.0))
    assert maps != "maps" and maps[:0] != maps[:1]
    with pytest.raises(TypeError):
        hash(maps)


def test_joined_maps_have_nan_beyond_the_units_of_each():
    wide, narrow = made(), made(H[:1, :2])
    whole = EntropyMaps.joined([narrow, wide])
    assert whole.sigma.shape == (4, 4) and whole.defined.tolist() == [True, True, False, True]
    assert whole[1:] == wide and whole.settings == wide.settings
    assert whole.sigma[0].isfinite().tolist() == [True, True, False, False]
    assert whole.standard_error[0].isnan().tolist() == [False, False, True, True]
    assert EntropyMaps.joined([wide]) == wide
    seen = [replace(wide, settings=wide.settings | {"inputs": [3, side, side]}) for side in (8, 9)]
    assert EntropyMaps.joined(seen).settings == wide.settings  # their shape is none then
    assert EntropyMaps.joined(seen[:1] * 2).settings["inputs"] == [3, 8, 8]
    refuses(EntropyMaps.joined, "join one set of entropy maps or more", [])
    refuses(EntropyMaps.joined, "the same settings", [wide, made(layer="fc2")])


def test_parts_are_handed_to_another_device_and_compared_from_there():
    there = made().to("meta")
    assert all(getattr(there, name).device.type == "meta" for name in TENSORS)
    assert there.settings == SETTINGS and made().to("cpu") == made()


def test_tensors_that_share_memory_are_saved(tmp_path):
    maps = made()
    shared = replace(maps, standard_error=maps.sigma)[1:]
    shared.save(tmp_path / "maps")
    assert EntropyMaps.load(tmp_path / "maps") == shared

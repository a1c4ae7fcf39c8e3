"""Covered units: how far the feature moves, against a loop by hand, and what maps make of it."""

import numpy as np
import pytest
import torch
from reference import images, linear_net

from kpnb.estimator.features import FeatureReader
from kpnb.estimator.units import GridUnits
from kpnb.experiments import occlusion
from kpnb.experiments.occlusion import (
    COVERS,
    MEASURES,
    covered,
    covered_change,
    followed,
    measures_of,
)
from kpnb.experiments.robustness import IMAGE_VARIANTS, MINIMUM
from kpnb.study.findings import Findings


def by_hand(net, layer, x, cells, covers):
    """One image, one unit, one pass at a time."""
    side, found = x.shape[-1] // cells, torch.zeros(len(x), cells**2, dtype=x.dtype)
    with FeatureReader(net, layer, relu=True) as reader, torch.no_grad():
        for i in range(len(x)):
            whole = reader(lambda i=i: net(x[i : i + 1].clone()))
            for unit in range(cells**2):
                one = x[i : i + 1].clone()
                down, across = (side * place for place in divmod(unit, cells))
                at = (
                    slice(None),
                    slice(None),
                    slice(down, down + side),
                    slice(across, across + side),
                )
                one[at] = covers[i : i + 1][at]
                gap = reader(lambda one=one: net(one)) - whole
                found[i, unit] = gap.square().sum()
    return found


@pytest.mark.parametrize("cover", COVERS)
@pytest.mark.parametrize("at_once, chunk", [(1, 1), (5, 2), (32, 10)])
def test_it_is_what_a_loop_over_images_and_units_gives(cover, at_once, chunk, monkeypatch):
    monkeypatch.setattr(occlusion, "AT_ONCE", at_once)
    monkeypatch.setattr(occlusion, "CHUNK", chunk)
    net, x = linear_net(6), images(3, dtype=torch.float64)
    covers = COVERS[cover](x)
    found = covered_change(net, "1", x, GridUnits(4), covers)
    torch.testing.assert_close(found, by_hand(net, "1", x, 4, covers), rtol=1e-4, atol=1e-5)
    assert (found > 0).any() and not found.requires_grad


def test_what_covers_nothing_or_a_unit_that_is_not_used_moves_nothing():
    net, x = linear_net(6), images(2, dtype=torch.float64)
    assert (covered_change(net, "1", x, GridUnits(4), x).abs() < 1e-20).all()
    side = x.shape[-1] // 4
    with torch.no_grad():
        net[1].weight.view(6, *x.shape[1:])[..., :side, :side] = 0  # the first unit
    found = covered_change(net, "1", x, GridUnits(4), torch.zeros_like(x))
    assert (found[:, 0].abs() < 1e-20).all() and (found[:, 1:] > 1e-3).any()


def test_another_images_place_is_taken_in_turn():
    x = images(3)
    assert torch.equal(COVERS["another image"](x), x[[2, 0, 1]])
    assert not COVERS["gray"](x).any()


def test_maps_follow_by_ranks_and_units_without_entropy_take_no_part():
    change = torch.tensor([[4.0, 3.0, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 9.0]])
    h = torch.tensor([[0.1, 0.2, 0.3, 0.9], [0.1, 0.2, 0.3, 0.9], [3.0, 2.0, 1.0, torch.nan]])
    np.testing.assert_allclose(followed(h, change), [1, -1, 1])
    assert np.isnan(followed(torch.zeros(1, 4), change[:1])).all()


def test_object_is_told_from_what_lies_beside_it_by_what_moves_more():
    class Maps:
        entropy = torch.zeros(1, 4)

    inside = torch.tensor([[True, True, False, False]])
    for change, told in (([5.0, 4.0, 1.0, 0.0], 1.0), ([0.0, 1.0, 2.0, 3.0], 0.0)):
        found = measures_of(torch.tensor([change]), {"path": Maps}, inside)
        assert found["auc"] == told and np.isnan(found["path"]).all()


def test_all_of_it_reaches_the_results_by_pair_and_image(smoke):
    findings = Findings(smoke.study, "image_measure", hypothesis=1)
    table = covered(findings, "FC1")
    assert [*table.index] == [(cover, told) for cover in COVERS for told in MEASURES.values()]
    assert "covered" in findings.code and len(findings.numbers) == len(COVERS) * len(MEASURES) * 3
    study = smoke.study
    trained = study.of("S", 0, "FC1")
    net, x = study.network(trained), study.data.measured.images
    layer = occlusion.layer_name(net, "FC1")
    change = by_hand(net, layer, x, study.data.units.cells, COVERS["gray"](x))
    last = (trained.final_epoch,)
    (minimum,) = study.maps(trained, "FC1", last, **IMAGE_VARIANTS[MINIMUM].changes).values()
    expected = np.nanmean(followed(minimum.entropy, change))
    number = findings.numbers["covered with gray | optimum_student"]
    assert number.value == pytest.approx(expected, abs=1e-3) and number.n == len(x)
    gap = findings.numbers["covered with gray | auc_difference"].value
    one, other = (findings.numbers[f"covered with gray | auc_{w}"].value
                  for w in ("student", "baseline"))  # fmt: skip
    assert gap == pytest.approx(one - other)

"""EntropyMaps: what they say and how they are stored; what all methods refuse and share."""

import json
import math
import pickle
from dataclasses import replace

import pytest
import torch
from quick import UNITS, Applied, D, explain
from reference import column_norms, conv_net, generator, images, linear_net, linear_optimum
from refusals import refuses
from safetensors.torch import load_file, save_file
from torch import nn

from kpnb.estimator.entropy import METHODS, TENSORS, EntropyEstimator, EntropyMaps
from kpnb.estimator.units import GridUnits

ESTIMATOR = EntropyEstimator("7", units=GridUnits(4), probes=8, standard_error=None, seed=3)


@pytest.fixture(scope="module")
def maps():
    return ESTIMATOR.explain(conv_net(), images(3))


def hand_made():
    sigma = torch.tensor([[0.01, 0.02], [0.5, 1.0], [math.nan, math.nan]])
    variance = torch.tensor([2.0, 1e-20, 0.0])
    reached, error = torch.tensor([True, False, False]), torch.full((3, 2), math.nan)
    error[0, 1] = 0.02
    return EntropyMaps(sigma, variance, reached, error, {"seed": 1})


def assert_equal_maps(a, b):
    assert a.settings == b.settings and a.reached.dtype == torch.bool
    for name in TENSORS:
        found, expected = getattr(a, name), getattr(b, name)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_entropy_is_that_of_a_gaussian_and_undefined_without_a_feature():
    found = hand_made()
    gaussian = torch.distributions.Normal(0.0, found.sigma[:2]).entropy()
    torch.testing.assert_close(found.entropy[:2], gaussian)
    torch.testing.assert_close(found.mean_entropy[:2], gaussian.mean(1))
    assert found.entropy[2].isnan().all() and found.mean_entropy[2].isnan()
    assert found.defined.tolist() == [True, True, False]


def test_every_setting_but_chunk_shows(maps):
    """A setting that changes a map must change the settings that a store looks maps up by."""
    settings = json.loads(json.dumps(maps.settings))
    assert settings.pop("inputs") == list(images(1).shape[1:])  # of a map, not of its making
    assert settings == ESTIMATOR.settings and settings["units"] == "GridUnits(cells=4)"
    changed = {
        "layer": "3", "units": GridUnits(8), "method": "optimum", "target_entropy": -2.9,
        "entropy_weight": 6.0, "init_sigma": 0.005, "probes": 12, "relu": False, "seed": 4,
        "evaluations": 2, "draws": 5, "lr": 1e-3, "iterations": 7, "extra_iterations": 1,
        "descent_iterations": 60, "tolerance": 0.1, "standard_error": 0.01, "most_probes": 16,
        "reference_draws": 64, "autocast": "bfloat16", "feature": 0,
    }  # fmt: skip
    assert set(changed) | {"chunk", "quality"} == set(ESTIMATOR.__dataclass_fields__)
    for name, value in changed.items():
        assert replace(ESTIMATOR, **{name: value}).settings != ESTIMATOR.settings, name
    assert replace(ESTIMATOR, chunk=16).settings == ESTIMATOR.settings


def test_parts_keep_the_samples_dimension_and_a_loop_over_maps_ends(maps):
    mask, twice = torch.tensor([True, False, True]), torch.tensor([1, 1])
    for index, expected in (
        (0, [0]), (-1, [2]), (slice(1, 3), [1, 2]),
        ([2, 0], [2, 0]), (twice, [1, 1]), (mask, [0, 2]),
    ):  # fmt: skip
        parts = {name: getattr(maps, name)[expected] for name in TENSORS}
        assert_equal_maps(maps[index], EntropyMaps(**parts, settings=maps.settings))
    parts = list(maps)
    assert len(parts) == 3 and torch.equal(parts[2].sigma, maps.sigma[2:])
    for index in (3, -4):
        with pytest.raises(IndexError):
            maps[index]


def test_save_and_load_round_trip_and_a_damaged_file_is_refused(maps, tmp_path):
    """A file that is there is replaced whole, nothing temporary stays; it is plain safetensors."""
    path = tmp_path / "maps.safetensors"
    for written in (maps, hand_made(), maps[[]], maps[[2, 0]]):
        written.save(path)
        assert_equal_maps(EntropyMaps.load(path), written)
        assert load_file(path).keys() == set(TENSORS)
    assert list(tmp_path.iterdir()) == [path]
    maps.save(path)
    whole = path.read_bytes()
    for damaged in (
        *(b"", whole[: len(whole) // 2], whole[:8] + b"\xff" * 20 + whole[28:]),
        whole.replace(b"variance", b"variants"),
        whole.replace(rb"{\"autocast", rb"\"\"autocast"),
        pickle.dumps({"sigma": [1.0]}),
    ):
        assert damaged != whole
        path.write_bytes(damaged)
        refuses(EntropyMaps.load, "cannot read .*maps.safetensors", path)


def test_foreign_and_missing_files_and_places_that_cannot_be_written_are_refused(tmp_path):
    path = tmp_path / "file"
    for metadata in (None, {"format": "other"}):
        save_file({"sigma": torch.ones(2, 4)}, path, metadata)
        refuses(EntropyMaps.load, "no entropy maps", path)
    for missing in (tmp_path / "none", tmp_path):
        refuses(EntropyMaps.load, "cannot read", missing)
    for place in (tmp_path / "missing" / "maps", path / "maps", tmp_path):
        refuses(hand_made().save, "cannot write", place)
    assert list(tmp_path.iterdir()) == [path]


class Twice(nn.Module):
    """Calls one layer twice and one not at all."""

    def __init__(self):
        super().__init__()
        self.flat, self.act, self.unused = nn.Flatten(), nn.Tanh(), nn.Linear(2, 2)

    def forward(self, x):
        return self.act(self.act(self.flat(x)))


WORDS = nn.Sequential(Applied(lambda x: "not a tensor"))
ROUNDS = nn.Sequential(Applied(lambda x: (100 * x.detach()).round().flatten(1)))
NAN, TWO = float("nan"), images(2)
WITH_NAN = images(3)
WITH_NAN[1, 2, 3, 4] = NAN
REFUSED = {
    "called 2 times": (Twice(), TWO, "act"),
    "takes no part": (Twice(), TWO, "unused"),
    "use one of its names, such as .*flat": (Twice(), TWO, "flatt"),
    "use one of its names, such as ": (Twice(), TWO, ""),  # the model itself
    "str, not a tensor": (WORDS, TWO, "0"),
    "not differentiable": (ROUNDS, TWO, "0"),
    r"\[1\] contain": (conv_net(), WITH_NAN),
    r"\[0, 1\] contain NaN or infinite": (conv_net(), TWO / 0),
    "no samples": (conv_net(), TWO[:0]),
    "uint8": (conv_net(), TWO.to(torch.uint8)),
    "fewer cells": (conv_net(), images(2, size=3)),
}


@pytest.mark.parametrize("told", REFUSED)
def test_bad_input_is_refused_in_one_sentence(told):
    refuses(explain, told, *REFUSED[told])


BAD_SETTINGS = {
    "path, published, optimum, descent, reference": [("method", "paht")],
    "divide by 4": [("probes", 10)],
    "8 or more": [("probes", 4)],
    "2 or more": [("chunk", 1)],
    "1 or more": [(name, 0) for name in ("draws", "most_probes", "reference_draws", "evaluations")],
    "positive": [
        *(("lr", 0.0), ("init_sigma", -0.01), ("entropy_weight", NAN)),
        *(("standard_error", 0.0), ("standard_error", NAN)),
    ],
    "None, 'bfloat16' or 'float16'": [("autocast", "float64"), ("autocast", True)],
}


@pytest.mark.parametrize("told", BAD_SETTINGS)
def test_bad_settings_are_refused_in_one_sentence(told):
    for name, value in BAD_SETTINGS[told]:
        refuses(EntropyEstimator, told, "fc", **{name: value})


@pytest.mark.parametrize("layer", ["3", "7"])
@pytest.mark.parametrize("method", METHODS)
def test_neither_rescaled_neighbors_nor_a_positive_scale_changes_a_map(method, layer):
    """Of two ReLU layers one times c, the other over c; and of the feature itself."""
    net, larger, traded = (conv_net().double() for _ in range(3))
    factors = *((p, 29.0) for p in larger[int(layer)].parameters()), (traded[0].weight, 3.7)
    with torch.no_grad():
        for parameter, factor in (*factors, (traded[0].bias, 3.7), (traded[3].weight, 1 / 3.7)):
            parameter *= factor
    x = images(2, dtype=torch.float64)
    plain, scaled, other = (explain(n, x, layer, method=method) for n in (net, larger, traded))
    torch.testing.assert_close(29.0**2 * plain.feature_variance, scaled.feature_variance)
    for maps in (scaled, other):
        torch.testing.assert_close(plain.entropy, maps.entropy, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_an_ignored_unit_goes_to_the_largest_sigma_or_grows_fastest_on_the_path(method):
    net, x = linear_net(D), images(1, dtype=torch.float64)
    pixels = UNITS.spread(torch.eye(16)[[5]].double(), x).expand_as(x).flatten().bool()
    with torch.no_grad():
        net[1].weight[:, pixels] = 0
    given = {"descent_iterations": 400, "iterations": 60}
    maps = explain(net, x, "1", method=method, relu=False, **given)
    assert maps.sigma[0].argmax() == 5
    if method in ("optimum", "descent"):
        assert maps.sigma[0, 5] == pytest.approx(1.0)
        assert (maps.sigma[0].sort().values[:-1] < 0.1).all()
    else:
        assert maps.sigma[0, 5] < 1 and maps.reached.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_feature_is_undefined(method, dtype):
    """Not 0 and not the start, also where batches of different size round differently."""
    net, x = conv_net(16, outputs=32).to(dtype), images(2, 16, dtype=dtype)
    with torch.no_grad():
        net[0].weight.zero_()
    for layer in ("0", "3", "7"):
        maps = explain(net, x, layer, method=method)
        assert not maps.defined.any() and not maps.reached.any()
        assert maps.entropy.isnan().all() and maps.mean_entropy.isnan().all()


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_sample_leaves_the_others_alone(method):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with torch.no_grad():
        net[1].weight.copy_(torch.rand(4, 192, generator=generator(0)))
        net[1].bias.fill_(-20)
    x = images(3).abs()
    x[1] = 0
    given = {"method": method, "standard_error": 0.05, "most_probes": 16}
    maps = explain(net, x, "1", **given)
    assert maps.defined.tolist() == [True, False, True]
    assert maps.entropy[1].isnan().all() and not maps.reached[1]
    assert maps.standard_error[1].isnan().all()
    assert maps.standard_error[[0, 2]].isfinite().all() == (method in ("path", "optimum"))
    alone = explain(net, x[[2]], "1", **given)
    torch.testing.assert_close(maps.entropy[[2]], alone.entropy, rtol=0, atol=1e-4)


def test_a_target_out_of_reach_and_a_descent_without_end_are_reported():
    net, x = linear_net(D), images(1, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    end = torch.tensor(linear_optimum(J, 7.0), dtype=torch.float64)
    maps = explain(net, x, "1", relu=False, probes=8, target_entropy=1.0)
    assert not maps.reached.any()
    torch.testing.assert_close(maps.entropy[0], end, rtol=0, atol=1e-6)
    short = explain(net, x, "1", relu=False, method="published", iterations=2, extra_iterations=0)
    assert not short.reached.any() and short.mean_entropy < -3.0
    endless = explain(net, x, "1", relu=False, method="descent", tolerance=1e-6)
    assert not endless.reached.any() and endless.defined.all()

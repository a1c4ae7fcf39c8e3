"""EntropyMaps: what they say, how they are stored; and the settings of the estimator."""

import json
import math
import pickle
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure
from reference import CONSTANT, conv_net, generator, images
from safetensors.torch import load_file, save_file

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
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
    for name in ("sigma", "standard_error"):
        found, expected = getattr(a, name), getattr(b, name)
        torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(a.feature_variance, b.feature_variance)
    assert torch.equal(a.reached, b.reached) and a.reached.dtype == torch.bool
    assert a.settings == b.settings


# --- what they say ----------------------------------------------------------------------------


def test_entropy_is_that_of_a_gaussian():
    entropy = hand_made().entropy
    assert entropy[0].tolist() == pytest.approx(
        [math.log(0.01) + CONSTANT, math.log(0.02) + CONSTANT]
    )
    gaussian = torch.distributions.Normal(0.0, 0.02).entropy()
    assert entropy[0, 1] == pytest.approx(float(gaussian), abs=1e-6)


def test_mean_entropy_and_defined():
    found = hand_made()
    assert found.defined.tolist() == [True, True, False]
    expected = (math.log(0.5) + math.log(1.0)) / 2 + CONSTANT
    assert found.mean_entropy[1] == pytest.approx(expected)
    assert found.mean_entropy[2].isnan() and found.entropy[2].isnan().all()


def test_shapes_and_the_target(maps):
    assert maps.sigma.shape == maps.entropy.shape == (3, 16) and len(maps) == 3
    assert maps.standard_error.shape == (3, 16) and maps.standard_error.isfinite().all()
    assert maps.mean_entropy.shape == maps.defined.shape == maps.reached.shape == (3,)
    assert maps.reached.all() and maps.defined.all()
    torch.testing.assert_close(maps.mean_entropy, torch.full((3,), -2.8), rtol=0, atol=1e-4)
    assert not maps.sigma.requires_grad


@pytest.mark.parametrize("target", [-3.0, -2.7])
def test_the_target_entropy_is_met(target):
    found = replace(ESTIMATOR, target_entropy=target).explain(conv_net(), images(2))
    torch.testing.assert_close(found.mean_entropy, torch.full((2,), target), rtol=0, atol=1e-4)


def test_settings_are_complete_and_json_able(maps):
    settings = json.loads(json.dumps(maps.settings))
    assert settings == ESTIMATOR.settings
    assert settings["layer"] == "7" and settings["units"] == "GridUnits(cells=4)"
    assert settings["seed"] == 3 and settings["method"] == "path" and settings["relu"] is True


def test_every_setting_but_chunk_shows():
    """A setting that changes a map must change the settings that a store looks maps up by."""
    changed = {
        "layer": "3", "units": GridUnits(8), "method": "optimum", "target_entropy": -2.9,
        "entropy_weight": 6.0, "init_sigma": 0.02, "probes": 12, "relu": False, "seed": 4,
        "evaluations": 2, "draws": 5, "lr": 1e-3, "iterations": 7, "extra_iterations": 1,
        "descent_iterations": 60, "tolerance": 0.1, "standard_error": 0.01, "most_probes": 16,
        "reference_draws": 64, "autocast": "bfloat16",
    }  # fmt: skip
    assert set(changed) | {"chunk"} == set(ESTIMATOR.__dataclass_fields__)
    for name, value in changed.items():
        assert replace(ESTIMATOR, **{name: value}).settings != ESTIMATOR.settings, name
    assert replace(ESTIMATOR, chunk=16).settings == ESTIMATOR.settings


def test_the_published_constants_are_the_defaults():
    default = EntropyEstimator("fc")
    assert default.units == GridUnits(16) and default.method == "path" and default.relu
    assert (default.target_entropy, default.entropy_weight, default.init_sigma) == (-2.8, 7, 0.01)
    assert (default.draws, default.lr) == (96, 1e-4)
    assert (default.iterations, default.extra_iterations) == (60, 20)
    assert default.autocast is None


# --- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index, expected",
    [
        (0, [0]),
        (-1, [2]),
        (slice(1, 3), [1, 2]),
        ([2, 0], [2, 0]),
        (torch.tensor([1, 1]), [1, 1]),
        (torch.tensor([True, False, True]), [0, 2]),
    ],
)
def test_parts_keep_the_samples_dimension(maps, index, expected):
    part = maps[index]
    assert torch.equal(part.sigma, maps.sigma[expected])
    assert torch.equal(part.standard_error, maps.standard_error[expected])
    assert torch.equal(part.feature_variance, maps.feature_variance[expected])
    assert torch.equal(part.reached, maps.reached[expected])
    assert part.settings == maps.settings


def test_a_loop_over_maps_ends(maps):
    parts = list(maps)
    assert len(parts) == 3 and torch.equal(parts[2].sigma, maps.sigma[2:])
    for index in (3, -4):
        with pytest.raises(IndexError):
            maps[index]


# --- storing ----------------------------------------------------------------------------------


def test_save_and_load_round_trip(maps, tmp_path):
    for number, written in enumerate((maps, hand_made(), maps[[]])):
        path = tmp_path / f"{number}.safetensors"
        written.save(path)
        assert_equal_maps(EntropyMaps.load(path), written)
        assert_equal_maps(EntropyMaps.load(str(path)), written)


def test_slices_are_stored_as_what_they_are(maps, tmp_path):
    maps[[2, 0]].save(tmp_path / "part")
    assert_equal_maps(EntropyMaps.load(tmp_path / "part"), maps[[2, 0]])


def test_the_file_is_plain_safetensors(maps, tmp_path):
    path = tmp_path / "maps.safetensors"
    maps.save(path)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    names = {"sigma", "feature_variance", "reached", "standard_error"}
    assert set(header) == names | {"__metadata__"}
    assert b"torch" not in content and b"pickle" not in content
    assert torch.equal(load_file(path)["sigma"], maps.sigma)
    assert list(tmp_path.iterdir()) == [path]  # nothing temporary stays


def test_saving_replaces_a_file_whole(maps, tmp_path):
    path = tmp_path / "maps.safetensors"
    hand_made().save(path)
    maps.save(path)
    assert_equal_maps(EntropyMaps.load(path), maps)


def cut(content):
    return content[: len(content) // 2]


def swapped(content):
    return content.replace(b"feature_variance", b"feature_variants")


DAMAGE = {
    "cut": cut,
    "empty": lambda content: b"",
    "header": lambda content: content[:8] + b"\xff" * 20 + content[28:],
    "length": lambda content: b"\xff" * 8 + content[8:],
    "tensor missing": swapped,
    "settings": lambda content: content.replace(rb"{\"autocast", rb"\"\"autocast"),
    "pickle": lambda content: pickle.dumps({"sigma": [1.0]}),
    "text": lambda content: b"entropy,1,2,3\n" * 20,
}


def assert_one_sentence(caught):
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and not message.endswith("..")


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_refused(kind, tmp_path):
    path = tmp_path / "maps.safetensors"
    ESTIMATOR.explain(conv_net(), images(2)).save(path)
    content = path.read_bytes()
    damaged = DAMAGE[kind](content)
    assert damaged != content
    path.write_bytes(damaged)
    with pytest.raises(KpnbError, match="maps.safetensors") as caught:
        EntropyMaps.load(path)
    assert_one_sentence(caught)


@pytest.mark.parametrize("metadata", [None, {"format": "other"}])
def test_a_foreign_safetensors_file_is_refused(metadata, tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file({"sigma": torch.ones(2, 4)}, path, metadata)
    with pytest.raises(KpnbError, match="no entropy maps") as caught:
        EntropyMaps.load(path)
    assert_one_sentence(caught)


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(KpnbError, match="cannot read") as caught:
            EntropyMaps.load(path)
        assert_one_sentence(caught)


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("no folder")
    for path in (tmp_path / "missing" / "maps", tmp_path / "file" / "maps", tmp_path):
        with pytest.raises(KpnbError, match="cannot write") as caught:
            hand_made().save(path)
        assert_one_sentence(caught)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


# --- pictures ---------------------------------------------------------------------------------


def test_show_draws_the_maps(maps):
    pictures = torch.rand(3, 8, 8, 3, generator=generator(0)).numpy()
    assert isinstance(maps.show(), Figure)
    assert isinstance(maps.show(pictures, count=2), Figure)

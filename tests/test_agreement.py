"""The comparison of the closed form with the published procedure, on a tiny published run."""

import math

import pytest
import torch

from kpnb import agreement
from kpnb.agreement import check, compare_methods
from kpnb.errors import KpnbError
from kpnb.results import read_results, write_results

TITLES = ("path against published", "published against itself, another seed")
SOURCES = ("published", "published, another seed", "path")
PER_CELL = (
    *(f"{title}: {what}" for title in TITLES for what in ("Spearman", "difference")),
    "seconds, published / path",
    *(f"{count} from {source}" for count in ("N_fg", "N_bg") for source in SOURCES),
)


@pytest.fixture(scope="module")
def checked(smoke):
    return check(smoke.study, 2, draws=4, iterations=5)


def test_every_number_is_there(checked):
    cells = [f"{layer}, epoch {epoch}" for layer in ("Conv", "FC1") for epoch in (1, 2)]
    expected = {f"{cell}: {name}" for cell in cells for name in PER_CELL}
    assert set(checked.numbers) == expected
    for name, number in checked.numbers.items():
        assert math.isfinite(number.value) and number.what, name
        assert number.n == (1 if "seconds" in name else 2)
        if "Spearman" in name:
            assert -1 <= number.value <= 1
        if "difference" in name or "N_" in name:
            assert number.value >= 0 and number.low <= number.value <= number.high


def test_agreement_is_above_chance(checked):
    """Even a tiny published run of a trained layer ranks cells as the closed form does."""
    for title in TITLES:
        ranks = checked.numbers[f"FC1, epoch 2: {title}: Spearman"]
        assert ranks.value > 0.2, title


def test_the_file_is_written_and_read_back(checked, tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    write_results(checked)
    assert read_results("estimator_check", "smoke") == checked
    assert checked.settings["images"] == 2 and checked.settings["draws"] == 4
    assert checked.seconds > 0


@pytest.mark.parametrize("count", [0, 7])
def test_more_images_than_the_study_measures(smoke, count):
    with pytest.raises(KpnbError, match=f"images is {count}: give 1 to 6"):
        check(smoke.study, count)


def test_command_line(monkeypatch, capsys, checked, tmp_path):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    assert agreement.main(["--preset", "paper"]) == 2
    assert "smoke, demo, study" in capsys.readouterr().err
    asked = []

    def fake(study, count):
        asked.append((study.parameters.preset, count))
        return checked

    monkeypatch.setattr(agreement, "check", fake)
    assert agreement.main(["--preset", "smoke", "--images", "3"]) == 0
    assert asked == [("smoke", 3)]
    assert capsys.readouterr().out.strip() == str(tmp_path / "smoke" / "estimator_check.json")


def test_each_number_is_of_the_maps_it_names(smoke, monkeypatch):
    """Stand-ins for the three runs: maps of three checkpoints, whose answers are known apart."""
    study, by_epoch = smoke.study, smoke.evidence.maps["B"][0]
    net, images = study.network(study.of("B", 0)), study.images
    made = {("published", 0): by_epoch[0], ("published", 1): by_epoch[0], ("path", 0): by_epoch[2]}
    asked = []

    def timed(estimator, *_):
        asked.append((estimator.method, estimator.seed, estimator.draws, estimator.layer))
        return made[asked[-1][:2]], 2.0 if estimator.method == "published" else 0.5

    monkeypatch.setattr(agreement, "_timed", timed)
    measured = images.measured.images
    found = compare_methods(net, "FC1", measured, images.foreground, study, {"draws": 8})
    layer = net.layer_names["FC1"]
    assert asked == [("published", 0, 8, layer), ("published", 1, 8, layer), ("path", 0, 96, layer)]
    itself = "published against itself, another seed"
    assert math.isclose(found[f"{itself}: Spearman"].value, 1)
    assert found[f"{itself}: difference"].value == 0
    apart = (by_epoch[2].entropy - by_epoch[0].entropy).abs().mean()
    assert math.isclose(found["path against published: difference"].value, apart, rel_tol=1e-5)
    assert found["path against published: Spearman"].value < 0.999
    assert found["seconds, published / path"].value == 4
    for source, epoch in (("published", 0), ("published, another seed", 0), ("path", 2)):
        points = smoke.evidence.points("B", 0, epoch, 0.2)
        for name, count in (("N_fg", points.n_fg), ("N_bg", points.n_bg)):
            assert math.isclose(found[f"{name} from {source}"].value, count.double().mean())


def test_each_epoch_is_of_its_own_network(smoke, monkeypatch):
    seen = []

    def compare(net, layer, images, *_):
        seen.append((layer, net.state_dict()["features.0.weight"]))
        return {}

    monkeypatch.setattr(agreement, "compare_methods", compare)
    check(smoke.study, 2)
    assert [layer for layer, _ in seen] == ["Conv", "FC1"] * 2
    states = smoke.study.of("B", 0).states
    for (_, weight), epoch in zip(seen, (1, 1, 2, 2), strict=True):
        assert torch.equal(weight, states[epoch]["features.0.weight"])

"""The names that users' code relies on, with the defaults they were promised."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kpnb
from kpnb import EntropyEstimator, EntropyMaps, GridUnits, KnowledgePoints, knowledge_points

CHECKOUT = Path(__file__).resolve().parents[2]
PROMISED = (
    *("EntropyEstimator", "EntropyMaps", "GridUnits", "KnowledgePoints", "knowledge_points"),
    *("learning_speed", "stability", "bootstrap", "paired_difference", "KpnbError", "Store"),
    *("train_classifier", "teacher_features", "distill_features", "train_above", "image_network"),
    *("TrainingSettings", "accuracy", "embedded_images", "ImageSamples", "published_filter"),
    *("compare", "TextEstimator", "text_samples", "crossed"),
)


def test_promised_and_listed_names_exist():
    for name in PROMISED:
        assert getattr(kpnb, name).__name__ == name
        assert name in kpnb.__all__ and name in dir(kpnb)
    assert all(getattr(kpnb, name) is not None for name in kpnb.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = kpnb.nonsense


def test_a_name_beyond_the_core_says_what_to_install(monkeypatch):
    monkeypatch.setitem(kpnb._MODULE_OF, "compare", "not_installed")
    monkeypatch.delitem(vars(kpnb), "compare", raising=False)
    told = r"kpnb\.compare needs not_installed: pip install 'kpnb\[notebooks\]'\."
    with pytest.raises(ModuleNotFoundError, match=told):
        _ = kpnb.compare


@pytest.mark.parametrize(
    "module, library",
    [("kpnb", "torch"), ("kpnb", "numpy"), ("kpnb.store", "torch"), ("kpnb.paper", "pandas")],
)
def test_what_is_looked_at_first_loads_no_library_that_takes_seconds(module, library):
    code = f"import sys, {module}; sys.exit('{library}' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT).returncode == 0


def names(callable_) -> list[str]:
    return list(inspect.signature(callable_).parameters)


def defaults(callable_) -> dict[str, object]:
    found = inspect.signature(callable_).parameters.values()
    return {p.name: p.default for p in found if p.default is not inspect.Parameter.empty}


def test_signatures_and_defaults():
    promised = {"units": GridUnits(16), "method": "path", "target_entropy": -2.8}
    promised |= {"entropy_weight": 7.0, "init_sigma": 0.01, "probes": None, "relu": True}
    promised |= {"seed": 0}
    published = {"draws": 96, "lr": 1e-4, "iterations": 60, "extra_iterations": 20}
    assert names(EntropyEstimator)[: len(promised) + 1] == ["layer", *promised]
    promised |= published | {"autocast": None, "chunk": "auto", "quality": "standard"}
    assert promised.items() <= defaults(EntropyEstimator).items()
    budgets = {"fast": (8, 2, None), "standard": (24, 3, 0.02), "exact": (24, 3, 0.003)}
    for quality, expected in budgets.items():
        found = EntropyEstimator("0", quality=quality)
        assert (found.probes, found.evaluations, found.standard_error) == expected
    assert names(EntropyEstimator.explain)[1:3] == ["model", "inputs"]
    for method in ("published", "path", "optimum", "descent", "reference"):
        assert EntropyEstimator("0", method=method).method == method
    assert names(knowledge_points) == ["maps", "foreground", "threshold", "baseline"]
    assert defaults(knowledge_points) == {"baseline": "dataset"}
    for results in (EntropyMaps, KnowledgePoints):
        assert names(results.show)[1:] == ["images", "count", "normalization", "how"]
        for name in ("numpy", "to_pandas", "grid", "to", "joined", "save", "load"):
            assert callable(getattr(results, name))
    assert names(kpnb.learning_speed) == ["n_fg_by_epoch", "weight_distance"]
    assert names(kpnb.stability) == ["foreground_points_by_epoch"]
    assert [f.name for f in dataclasses.fields(GridUnits)] == ["cells"]
    assert {"statistic", "resamples", "seed"} == set(defaults(kpnb.bootstrap))
    for function in (kpnb.crossed, kpnb.paired_difference):
        assert {"statistic", "teachers"} == set(defaults(function))


def test_signature_of_compare():
    """Of one's own networks; all by name."""
    roles, data = ["teacher", "student", "baseline"], ["images", "layer", "masks", "foreground"]
    further = ["model", "estimator", "threshold", "labels", "test"]
    assert names(kpnb.compare) == [*roles, *data, *further]
    assert defaults(kpnb.compare)["threshold"] == 0.2
    fields = [field.name for field in dataclasses.fields(kpnb.ComparedNetworks)]
    assert fields == ["evidence", "images", "threshold", "scores", "notes"]
    shown = ("values", "table", "fitness", "reading", "figures", "_repr_html_")
    assert set(shown) <= set(dir(kpnb.ComparedNetworks))


def test_three_lines_of_the_package_docstring_run_and_maps_have_what_was_promised(tmp_path):
    shown = [line.strip() for line in kpnb.__doc__.splitlines() if line.startswith("    ")]
    assert len(shown) == 3
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Module()
    model.classifier = torch.nn.Sequential(torch.nn.Flatten())
    model.forward = model.classifier.forward
    foreground = (torch.arange(256) < 80).expand(2, 256)
    made = {"kpnb": kpnb, "model": model, "images": images, "foreground": foreground}
    exec("\n".join(shown[:2]), made)
    assert shown[2] == "points.show(images)"
    maps, points = made["maps"], made["points"]
    assert isinstance(maps, EntropyMaps) and isinstance(points, KnowledgePoints)
    assert maps.entropy.shape == maps.sigma.shape == maps.standard_error.shape == (2, 256)
    assert maps.mean_entropy.shape == maps.defined.shape == maps.reached.shape == (2,)
    assert maps.settings["layer"] == "classifier.0" and callable(maps.show)
    maps.save(tmp_path / "maps")
    assert torch.equal(EntropyMaps.load(tmp_path / "maps").entropy, maps.entropy)
    assert points.foreground_points.shape == points.background_points.shape == (2, 256)
    assert points.n_fg.shape == points.n_bg.shape == points.ratio.shape == (2,)

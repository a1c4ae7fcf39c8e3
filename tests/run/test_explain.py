"""The command from picture files to a table and a page, on a network of a function."""

import base64
import io
import re
import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from image_trees import photo
from PIL import Image
from torch import nn

from kpnb.datasets.pictures import as_inputs, picture_files, read_masks, read_pictures
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.units import GridUnits
from kpnb.fingerprint import installed_version
from kpnb.metrics.points import knowledge_points
from kpnb.run.explain import HOW_TO_READ, main

SIZE, CELLS, LAYERS = 32, 4, ("early", "late")


def tiny() -> nn.Module:
    torch.manual_seed(3)
    net = nn.Sequential()
    net.early = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    net.late = nn.Sequential(nn.Conv2d(4, 4, 3, 2), nn.ReLU())
    net.head = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with torch.no_grad():
        net(torch.zeros(1, 3, SIZE, SIZE))
    return net


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two pictures, masks of them, and a module with a network."""
    module = types.ModuleType("mine")
    module.tiny = tiny
    monkeypatch.setitem(sys.modules, "mine", module)
    for seed, name in enumerate(("a.png", "b.png")):
        photo(tmp_path / "images" / name, 48, 40, seed)
        mask = np.zeros((40, 48), np.uint8)
        mask[8:24, 12:36] = 255
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / name)
    return tmp_path


def called(folder, *more: str) -> int:
    given = ["--model", "mine:tiny", "--images", f"{folder}/images", "--output", f"{folder}/out"]
    return main([*given, "--quality", "fast", "--size", f"{SIZE}", "--cells", f"{CELLS}", *more])


@pytest.mark.usefixtures("one_thread")
def test_numbers_are_the_estimator_s_own_and_the_page_holds_all(folder, capsys):
    layers = [part for layer in LAYERS for part in ("--layer", layer)]
    assert called(folder, "--masks", f"{folder}/masks", "--threshold", "0.1", *layers) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 images, 2 layers (early, late), quality fast\n")
    files, units = picture_files([folder / "images"]), GridUnits(CELLS)
    x = as_inputs(read_pictures(files, SIZE))
    foreground = units.foreground(read_masks(files, [folder / "masks"], SIZE))
    rows, counts = (pd.read_csv(folder / "out" / f"{name}.csv") for name in ("maps", "counts"))
    assert list(rows) == [
        *("image", "layer", "unit", "row", "column"),
        *("entropy", "standard_error", "foreground", "point"),
    ]
    for layer in LAYERS:
        maps = EntropyEstimator(layer, units, quality="fast").explain(tiny(), x)
        points = knowledge_points(maps, foreground, 0.1)
        own = rows[rows["layer"] == layer]
        assert own["image"].tolist() == ["a.png"] * CELLS**2 + ["b.png"] * CELLS**2
        assert own["unit"].tolist() == [*range(CELLS**2)] * 2
        for name in ("entropy", "standard_error"):
            wanted = getattr(maps, name).flatten().numpy()
            np.testing.assert_allclose(own[name], wanted, rtol=1e-5)
        assert own["foreground"].tolist() == foreground.flatten().tolist()
        kinds = {"foreground": 1, "background": -1, "none": 0}
        assert own["point"].map(kinds).tolist() == points.kinds.flatten().tolist()
        assert (points.kinds != 0).any()
        own = counts[counts["layer"] == layer]
        assert own["N_fg"].tolist() == points.n_fg.tolist()
        assert own["N_bg"].tolist() == points.n_bg.tolist()
        np.testing.assert_allclose(own["lambda"], points.ratio)
    page = (folder / "out" / "page.html").read_text(encoding="utf-8")
    pictures = [base64.b64decode(found) for found in re.findall(r"base64,([^']+)'", page)]
    assert pictures == [(folder / "out" / f"{la}.png").read_bytes() for la in LAYERS]
    assert all(Image.open(io.BytesIO(picture)).width > 300 for picture in pictures)
    assert "http" not in page and "<script" not in page and installed_version("torch") in page
    assert all(sentence in page.replace("&#x27;", "'") for sentence in HOW_TO_READ)
    assert (
        "Pictures show" not in page
        and len(HOW_TO_READ) == 5
        and "mine:tiny" in page
        and "<td>0.1</td>" in page
    )


def test_without_masks_there_are_maps_alone_of_the_last_layer(folder, capsys):
    assert called(folder) == 0
    assert capsys.readouterr().out.startswith("2 images, 1 layer (late), quality fast\n")
    names = sorted(path.name for path in (folder / "out").iterdir())
    assert names == ["late.png", "maps.csv", "page.html"]
    rows = pd.read_csv(folder / "out" / "maps.csv")
    assert len(rows) == 2 * CELLS**2 and rows[["foreground", "point"]].isna().to_numpy().all()
    assert rows["entropy"].notna().all()


def test_layers_are_listed_without_pictures(capsys):
    assert main(["--model", "squeezenet1_1", "--weights", "none", "--list"]) == 0
    names = capsys.readouterr().out.split()
    assert "features.12.squeeze" in names and "classifier" in names


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--layer", "late", "--layer", "lat"], "No layer 'lat'"),
        (["--model", "mine:other"], "has no 'other'"),
        (["--threshold", "0"], "--threshold must be positive"),
        (["--cells", "64"], "at least --cells"),
        (["--images", "nowhere"], "no file or folder nowhere"),
        (["--masks", "{folder}/images"], "masks hold"),
        (["--masks", "{folder}/masks/a.png"], "b.png has no mask"),
        (["--weights", "none.pt"], "no file"),
        (["--output", "{folder}/images/a.png/out"], "cannot be made"),
    ],
)
def test_mistakes_stop_before_anything_is_computed(folder, given, told, capsys, monkeypatch):
    monkeypatch.setattr(EntropyEstimator, "explain", None)
    assert called(folder, *(part.format(folder=folder) for part in given)) == 2
    said = capsys.readouterr()
    assert told in said.err and said.err.count("\n") == 1 and said.out == ""


def test_a_mask_without_an_object_names_its_picture(folder, capsys):
    Image.fromarray(np.zeros((40, 48), np.uint8)).save(folder / "masks" / "b.png")
    assert called(folder, "--masks", f"{folder}/masks") == 2
    assert "the mask of b.png leaves no object" in capsys.readouterr().err


def test_a_shortfall_is_told_and_ctrl_c_ends_it(folder, capsys, monkeypatch):
    photo(folder / "images" / "c.png", 48, 40)
    Image.new("RGB", (48, 40)).save(folder / "images" / "c.png")
    monkeypatch.setattr(sys.modules["mine"], "tiny", _blind)
    assert called(folder) == 0
    assert "samples [2] have no entropy map" in capsys.readouterr().out

    def stopped(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(EntropyEstimator, "explain", stopped)
    assert called(folder) == 130
    assert capsys.readouterr().err == "Stopped: run the same command again.\n"


class _Blind(nn.Module):
    """Sees nothing of a dark picture: its ReLU is far below 0 there."""

    def __init__(self):
        super().__init__()
        self.late = nn.Conv2d(3, 4, 3)
        nn.init.constant_(self.late.weight, 0.1)
        nn.init.constant_(self.late.bias, 3.0)

    def forward(self, x):
        return self.late(x).mean((2, 3))


def _blind() -> nn.Module:
    return _Blind()

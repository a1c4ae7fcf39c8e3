"""The first figure: the packed picture's points are those that it shows and tells."""

import re

import pytest
import torch

from book.make import first_figure
from book.make.chart import FORMS
from book.make.frame import NOTHING
from kpnb.metrics.points import KnowledgePoints, knowledge_points
from kpnb.metrics.protocol import protocol, protocol_seeds
from kpnb.metrics.results import run_fingerprint


@pytest.fixture
def shipped(monkeypatch):
    monkeypatch.delenv("KPNB_RESULTS", raising=False)
    return first_figure.first_figure(first_figure.packed_path())


def test_the_shipped_picture_is_the_first_of_the_study_and_its_points_follow_from_its_entropies(
    shipped,
):
    points, about = shipped.points, shipped.points.settings
    assert about["sample"] == 0 and about["settings"]["preset"] == "study"
    assert about["seed"] == protocol_seeds("pairs", 1)[0] == about["settings"]["seeds"][0]
    asked = protocol()["settings"]
    assert {name: about["settings"][name] for name in asked} == asked
    assert points.threshold == asked["threshold"] and points.entropy.shape == (
        3,
        asked["grid"] ** 2,
    )
    low = points.baseline[:, None] - points.entropy > points.threshold
    assert torch.equal(low & points.foreground, points.foreground_points)
    assert torch.equal(low & ~points.foreground, points.background_points)
    assert about["networks"].keys() == {"T", "S", "B"} and about["fingerprint"].startswith("3:")


def test_every_point_is_drawn_and_every_count_is_told(shipped):
    n_fg, n_bg = shipped.points.n_fg.tolist(), shipped.points.n_bg.tolist()
    for form in FORMS.values():
        drawing = shipped.draw(form, "dark")
        assert drawing.count('href="#dot" x=') == sum(n_fg)
        assert drawing.count('href="#cross" x=') == sum(n_bg)
        told = re.sub("<[^>]*>|&#8203;", "", drawing)
        assert all(f"Nfg = {fg}, Nbg = {bg}" in told for fg, bg in zip(n_fg, n_bg, strict=True))
    for name, fg, bg in zip(("teacher", "student", "baseline"), n_fg, n_bg, strict=True):
        assert f"he {name} has {fg} on the object and {bg} on the b" in shipped.alternative
    made = first_figure.first_fragments(first_figure.packed_path())[first_figure.NAME]
    assert "(AlexNet, FC1, preset `study`, seed 176588)" in made and "b = 0.2$ nats" in made


def test_what_is_packed_is_what_the_study_measured(smoke, tmp_path):
    study, path = smoke.study, tmp_path / "pack" / "first.safetensors"
    first_figure.pack(study, "FC1", path)
    kept = KnowledgePoints.load(path)
    net = study.of("S", study.parameters.seeds[0], "FC1")
    maps = study.maps(net, "FC1", [net.final_epoch])[net.final_epoch]
    points = knowledge_points(maps, study.data.foreground, study.parameters.threshold)
    at = kept.settings["sample"]
    assert (
        torch.equal(kept.entropy[1], points.entropy[at]) and kept.baseline[1] == points.baseline[at]
    )
    assert kept.settings["networks"]["S"] == net.fingerprint
    assert kept.settings["fingerprint"] == run_fingerprint(
        study.parameters.model_dump(mode="json"), ["ImageStudy"]
    )
    assert first_figure.first_figure(path).draw(FORMS["wide"], "light").startswith("<svg")
    missing = first_figure.first_fragments(tmp_path / "none.safetensors")
    assert missing == {first_figure.NAME: NOTHING}

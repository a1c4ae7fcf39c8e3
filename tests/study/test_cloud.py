"""Point-cloud studies: which clouds are measured, and maps of every network but PointNet."""

import pytest
import torch
from cloud_smoke import BACKGROUND, POINTS, cloud_study

from kpnb.study.findings import Findings

pytestmark = pytest.mark.usefixtures("one_thread")


def rows(points) -> set[tuple]:
    return set(map(tuple, points.flatten(0, 1).tolist()))


def test_measured_clouds_come_from_what_student_and_baseline_see(tmp_path):
    data = cloud_study(tmp_path).data
    parts = (data.measured, data.training_samples, data.teacher_samples)
    measured, seen, teacher = ({c.numpy().tobytes() for c in part.points} for part in parts)
    assert (len(measured), len(seen), len(teacher)) == (3, 40, 100)
    assert measured < seen < teacher
    assert torch.equal(data.measured.points, data.training_samples.points[:3])
    assert torch.equal(data.foreground, data.training_samples.foreground[:3])
    assert data.foreground.sum(1).tolist() == [POINTS] * 3
    assert data.foreground.shape == (3, POINTS + BACKGROUND)
    # Test clouds share no shape with these: unturned and at distance 0, the points of a cloud are
    # points of its six shapes.
    own = {split: data.shapes(split) for split in ("train", "test")}
    assert not set(own["train"].names) & set(own["test"].names)
    train, test = (rows(own[split].points) for split in ("train", "test"))
    composed = rows(data.test_samples.points)
    assert composed <= test and len(composed & train) < 0.01 * len(composed)
    assert rows(data.teacher_samples.points) <= train


@pytest.mark.parametrize("network", ["DGCNN", "PointConv", "PointNet++"])
def test_the_other_networks_give_maps(network, tmp_path):
    study = cloud_study(tmp_path, network=network, samples=2, epochs=1, teacher_epochs=1)
    trained = study.of("B", 0, "FC1")
    for maps in study.maps(trained, "FC1").values():  # an entropy a point, not the same for all
        assert maps.entropy.shape == (2, POINTS + BACKGROUND) and maps.defined.all()
        assert maps.entropy.isfinite().all() and (maps.entropy.std(1) > 0).all()
        assert "frozen=True" in maps.settings["units"]
    built = (study.build(role, 0).state_dict() for role in "SB")
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in built), strict=True))
    assert Findings(study, "pointcloud_h1").study.network_name == network

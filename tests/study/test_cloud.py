"""Point-cloud studies: which clouds are measured, maps and scores, ModelNet40, what is refused."""

from pathlib import Path

import pytest
import torch
from cloud_smoke import BACKGROUND, POINTS, cloud_study
from data_trees import off_tree
from public_files import box
from studied import differing, fingerprints

from kpnb.study.findings import Findings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def shared(all_studies):
    return all_studies("PointNet")


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


def test_test_clouds_share_no_shape_with_training(tmp_path):
    """Unturned and at distance 0, the points of a cloud are points of its six shapes."""
    study = cloud_study(tmp_path, measured_on="test")
    data, own = study.data, {split: study.data.shapes(split) for split in ("train", "test")}
    assert not set(own["train"].names) & set(own["test"].names)
    train, test = (rows(own[split].points) for split in ("train", "test"))
    composed = rows(data.test_samples.points)
    assert composed <= test and len(composed & train) < 0.01 * len(composed)
    assert rows(data.teacher_samples.points) <= train
    assert torch.equal(data.measured.points, data.test_samples.points[:3])


# --- what is measured


def has_whole_maps(by_epoch, samples: int) -> bool:
    """One finite entropy a point, and not the same for all points."""
    return all(
        maps.entropy.shape == (samples, POINTS + BACKGROUND)
        and maps.entropy.isfinite().all() and maps.defined.all()
        and (maps.entropy.std(1) > 0).all()
        and "frozen=True" in maps.settings["units"]
        for maps in by_epoch.values()
    )  # fmt: skip


@pytest.mark.parametrize("network", ["DGCNN", "PointConv", "PointNet++"])
def test_the_other_networks_give_maps(network, tmp_path):
    study = cloud_study(tmp_path, network=network, samples=2, epochs=1, teacher_epochs=1)
    role = "S" if network == "DGCNN" else "B"  # a student has its teacher trained, too
    trained = study.of(role, 0, "FC1")
    assert has_whole_maps(study.maps(trained, "FC1"), 2)
    built = (study.build(role, 0).state_dict() for role in "SB")
    assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in built), strict=True))
    assert Findings(study, "pointcloud_h1").study.network_name == network


def test_maps_and_scores_of_the_samples_at_hand(shared):
    assert all(has_whole_maps(shared.evidence.maps[role][0], 3) for role in "TSB")
    data, net = shared.study.data, shared.study.network(shared.study.of("T", 0))
    found = shared.study.accuracies("T")
    for split, samples in (("train", data.training_samples), ("test", data.test_samples)):
        with torch.no_grad():
            right = net.eval()(samples.points).argmax(1) == samples.labels
        assert found[split] == [pytest.approx(right.double().mean().item(), abs=1 / len(right))]


def test_a_modelnet40_folder_s_shapes_count(tmp_path):
    """Those to test on, too: a network's scores are stored with it."""
    tree = off_tree(tmp_path / "one")
    study = cloud_study(tmp_path, data=tree)
    assert len(study.data.teacher_samples) == 100
    assert study.data.teacher_samples.class_names == ("bed", "lamp", "table")
    assert study.reference_lines == {"chance": pytest.approx(1 / 3)}
    assert study.build("T", 0).classifier[-1].out_features == 3
    one, other = (
        fingerprints("PointNet", tmp_path, data=data)
        for data in (tree, off_tree(tmp_path / "two", 1.1))
    )
    (Path(tree) / "bed" / "test" / "bed_0005.off").write_text(box(1, 2, 3))
    tested = fingerprints("PointNet", tmp_path, data=tree)
    assert differing(one, other) == differing(one, tested) == ["T", "S", "B", "maps"]

"""Point-cloud studies: which clouds are measured, maps and scores, ModelNet40, what is refused."""

from pathlib import Path

import pytest
import torch
from cloud_smoke import BACKGROUND, POINTS, cloud_study
from data_trees import off_tree
from public_files import box
from studied import differing, fingerprints, refused

from kpnb.study.findings import Findings
from kpnb.training.train import accuracy

ALL = ["T", "S", "B", "maps"]
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
    assert study.dataset == "embedded clouds of furniture (unseen shapes)"
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


def test_layer_maps_name_the_layers(shared):
    assert all(has_whole_maps(shared.evidence.maps[role][0], 3) for role in "TSB")
    few = shared.study.data.measured.subset([0, 2])
    maps = shared.study.layer_maps(shared.study.of("B", 0), few)
    assert list(maps) == ["FC1", "FC2", "FC3"]
    stored = shared.evidence.maps["B"][0][2]
    torch.testing.assert_close(maps["FC1"].entropy, stored.entropy[[0, 2]], rtol=0, atol=1e-3)
    assert not torch.allclose(maps["FC1"].entropy, maps["FC2"].entropy, atol=1e-3)


def test_findings_name_scores_samples_and_network(shared):
    findings = Findings(shared.study, "pointcloud_h1", 1)
    findings.add_accuracies(["FC1"])
    table = findings.accuracy_table()
    networks = ("teacher", "baseline", "student (FC1)")
    expected = [(net, split, "accuracy") for net in networks for split in ("training", "unseen")]
    assert list(table.index) == expected and list(table["n samples"]) == [40, 20] * 3
    measure = findings.measures[0]
    assert (measure.sample, measure.scale, measure.network) == ("cloud", "narrow", "PointNet")
    assert measure.dataset == "embedded clouds of furniture"
    assert findings.code == ("CloudStudy", "Findings")


def test_scores_of_the_samples_at_hand(shared):
    data, net = shared.study.data, shared.study.network(shared.study.of("T", 0))
    found = shared.study.accuracies("T")
    for split, samples in (("train", data.training_samples), ("test", data.test_samples)):
        with torch.no_grad():
            right = net.eval()(samples.points).argmax(1) == samples.labels
        assert found[split] == [pytest.approx(right.double().mean().item(), abs=1 / len(right))]
        assert found[split] == [accuracy(net, samples.points, samples.labels, batch_size=64)]


# --- ModelNet40


def test_a_modelnet40_folder_works_from_end_to_end(tmp_path):
    data = off_tree(tmp_path / "off")
    study = cloud_study(tmp_path / "store", data=data, epochs=1, samples=2)
    evidence = study.evidence("FC1")
    assert study.dataset == "ModelNet40" and len(study.data.teacher_samples) == 100
    assert study.data.teacher_samples.class_names == ("bed", "lamp", "table")
    assert study.reference_lines == {"chance": pytest.approx(1 / 3)}
    assert study.network(study.of("T", 0)).classifier[-1].out_features == 3
    assert all(has_whole_maps(evidence.maps[role][0], 2) for role in "TSB")
    assert all(0 <= score <= 1 for score in study.accuracies("T")["test"])


def test_the_folder_s_place_does_not_count_but_its_shapes_do(tmp_path):
    """Shapes to test on, too: a network's scores are stored with it."""
    trees = [off_tree(tmp_path / "one"), off_tree(tmp_path / "two"), off_tree(tmp_path / "3", 1.1)]
    one, two, other = (fingerprints("PointNet", tmp_path, data=tree) for tree in trees)
    assert one == two and differing(one, other) == ALL
    assert differing(one, fingerprints("PointNet", tmp_path)) == ALL
    (Path(trees[0]) / "bed" / "test" / "bed_0005.off").write_text(box(1, 2, 3))
    assert differing(one, fingerprints("PointNet", tmp_path, data=trees[0])) == ALL


def test_a_wrong_folder_and_too_few_points(tmp_path):
    (tmp_path / "empty").mkdir()
    for given, told in (
        ({"data": str(tmp_path / "absent")}, "absent"),
        ({"data": str(tmp_path / "empty")}, "empty holds neither .* give the folder of ModelNet40"),
        ({"network": "PointNet++", "points": 64, "background": 30}, "94 points cannot give 128 ce"),
        ({"network": "PointConv", "points": 64, "background": 30}, "94 points cannot give 128 ce"),
    ):
        study = cloud_study(tmp_path / "store", **given)
        refused(lambda s=study: s.of("B", 0), told)
    assert not list((tmp_path / "store").glob("networks/*/manifest.json"))

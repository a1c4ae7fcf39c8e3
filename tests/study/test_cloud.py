"""Point-cloud studies: which clouds are measured, maps and scores, ModelNet40, what is refused."""

from pathlib import Path

import pytest
import torch
from cloud_smoke import BACKGROUND, NETWORKS, POINTS, cloud_study
from data_trees import off_tree
from public_files import box
from studied import differing, refused
from studied import fingerprints as of_kind

from kpnb.study.findings import Findings
from kpnb.training.train import accuracy

ROLES = "TSB"
pytestmark = pytest.mark.usefixtures("one_thread")


def fingerprints(root, **changed):
    return of_kind("PointNet", root, "", **changed)


@pytest.fixture(params=NETWORKS)
def shared(request, all_studies):
    return all_studies(request.param)


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    return fingerprints(tmp_path_factory.mktemp("keys"))


def rows(points) -> set[tuple]:
    return set(map(tuple, points.flatten(0, 1).tolist()))


def test_measured_clouds_come_from_what_student_and_baseline_see(tmp_path):
    data = cloud_study(tmp_path).data
    seen = {cloud.numpy().tobytes() for cloud in data.training_samples.points}
    teacher = {cloud.numpy().tobytes() for cloud in data.teacher_samples.points}
    measured = {cloud.numpy().tobytes() for cloud in data.measured.points}
    assert (len(measured), len(seen), len(teacher)) == (3, 40, 100)
    assert measured < seen < teacher
    assert torch.equal(data.measured.points, data.training_samples.points[:3])
    assert torch.equal(data.foreground, data.training_samples.foreground[:3])
    assert data.foreground.sum(1).tolist() == [POINTS] * 3
    assert data.foreground.shape == (3, POINTS + BACKGROUND)


def test_test_clouds_share_no_shape_with_training(tmp_path):
    """Unturned and at distance 0, the points of a cloud are points of its six shapes."""
    data = cloud_study(tmp_path).data
    own = {split: data._shapes(split) for split in ("train", "test")}
    assert not set(own["train"].names) & set(own["test"].names)
    train, test = (rows(own[split].points) for split in ("train", "test"))
    composed = rows(data.test_samples.points)
    assert composed <= test and len(composed & train) < 0.01 * len(composed)
    assert rows(data.teacher_samples.points) <= train


def test_unseen_clouds_are_measured_on_request(tmp_path):
    study = cloud_study(tmp_path, measured_on="test")
    assert study.dataset == "embedded clouds of furniture (unseen shapes)"
    assert torch.equal(study.data.measured.points, study.data.test_samples.points[:3])


# --- what is measured


def test_maps_have_one_finite_entropy_a_point(shared):
    for role in ROLES:
        (by_epoch,) = shared.evidence.maps[role]
        for maps in by_epoch.values():
            assert maps.entropy.shape == (3, POINTS + BACKGROUND)
            assert maps.entropy.isfinite().all() and maps.defined.all()
            assert (maps.entropy.std(1) > 0).all()
            assert "frozen=True" in maps.settings["units"]


def test_layer_maps_name_the_layers(shared):
    few = shared.study.data.measured.subset([0, 2])
    maps = shared.study.layer_maps(shared.study.of("B", 0), few)
    assert list(maps) == ["FC1", "FC2", "FC3"]
    stored = shared.evidence.maps["B"][0][2]
    torch.testing.assert_close(maps["FC1"].entropy, stored.entropy[[0, 2]], rtol=0, atol=1e-3)
    assert not torch.allclose(maps["FC1"].entropy, maps["FC2"].entropy, atol=1e-3)


def test_findings_name_scores_samples_and_network(shared):
    study = shared.study
    findings = Findings(study, "pointcloud_h1", 1)
    findings.add_accuracies(["FC1"])
    table = findings.accuracy_table()
    networks = ("teacher", "baseline", "student (FC1)")
    expected = [(net, split, "accuracy") for net in networks for split in ("training", "unseen")]
    assert list(table.index) == expected and list(table["n samples"]) == [40, 20] * 3
    measure = findings.measures[0]
    assert (measure.sample, measure.scale) == ("cloud", "narrow")
    assert measure.dataset == "embedded clouds of furniture"
    assert measure.network == study.parameters.network
    assert findings.results().provenance["code"] == ["CloudStudy", "Findings"]


def test_scores_of_the_samples_at_hand(shared):
    data, net = shared.study.data, shared.study.network(shared.study.of("T", 0))
    found = shared.study.accuracies("T")
    for split, samples in (("train", data.training_samples), ("test", data.test_samples)):
        with torch.no_grad():
            right = net.eval()(samples.points).argmax(1) == samples.labels
        assert found[split] == [pytest.approx(right.double().mean().item(), abs=1 / len(right))]
        assert found[split] == [accuracy(net, samples.points, samples.labels, batch_size=64)]


# --- ModelNet40


def test_a_modelnet40_folder_works_from_end_to_end(tmp_path, unchanged):
    data = off_tree(tmp_path / "off")
    study = cloud_study(tmp_path / "store", data=data, epochs=1, samples=2)
    evidence = study.evidence("FC1")
    assert study.dataset == "ModelNet40" and len(study.data.teacher_samples) == 100
    assert study.data.teacher_samples.class_names == ("bed", "lamp", "table")
    assert study.reference_lines == {"chance": pytest.approx(1 / 3)}
    assert study.network(study.of("T", 0)).classifier[-1].out_features == 3
    for role in ROLES:
        maps = evidence.maps[role][0][1]
        assert maps.entropy.shape == (2, POINTS + BACKGROUND) and maps.entropy.isfinite().all()
    assert all(0 <= score <= 1 for score in study.accuracies("T")["test"])
    assert differing(unchanged, fingerprints(tmp_path, data=data)) == ["T", "S", "B", "maps"]


def test_the_folder_s_place_does_not_count_but_its_shapes_do(tmp_path):
    trees = [off_tree(tmp_path / "one"), off_tree(tmp_path / "two"), off_tree(tmp_path / "3", 1.1)]
    one, two, other = (fingerprints(tmp_path, data=tree) for tree in trees)
    assert one == two
    assert differing(one, other) == ["T", "S", "B", "maps"]


def test_other_shapes_to_test_on_change_the_networks_entries(tmp_path):
    """The training shapes are the same; the scores stored with a network are not."""
    tree = off_tree(tmp_path / "off")
    before = fingerprints(tmp_path, data=tree)
    (Path(tree) / "bed" / "test" / "bed_0005.off").write_text(box(1, 2, 3))
    assert differing(before, fingerprints(tmp_path, data=tree)) == ["T", "S", "B", "maps"]


def test_a_wrong_folder(tmp_path):
    study = cloud_study(tmp_path / "store", data=str(tmp_path / "absent"))
    refused(lambda: study.evidence("FC1"), "absent")
    (tmp_path / "empty").mkdir()
    study = cloud_study(tmp_path / "store", data=str(tmp_path / "empty"))
    refused(lambda: study.evidence("FC1"), "empty holds neither .* give the folder of ModelNet40")
    assert not (tmp_path / "store" / "networks").exists()


@pytest.mark.parametrize("network", ["PointNet++", "PointConv"])
def test_too_few_points_for_the_network(network, tmp_path):
    study = cloud_study(tmp_path, network=network, points=64, background=30)
    refused(lambda: study.of("B", 0), "94 points cannot give 128 centroids")

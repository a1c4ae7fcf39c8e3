"""The point-cloud study: what is trained from what, what is stored, ModelNet40, what is refused."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from cloud_smoke import BACKGROUND, NETWORKS, POINTS, cloud_parameters, cloud_study
from conftest import single_thread
from test_modelnet40 import box
from test_study import same_states

import kpnb.estimator.entropy
from kpnb.errors import KpnbError
from kpnb.metrics.evidence import Evidence
from kpnb.networks.layers import parameters_above
from kpnb.store import Record, Store
from kpnb.study.cloud import CloudStudy
from kpnb.study.findings import Findings
from kpnb.study.study import flat
from kpnb.training.train import accuracy

ROLES = "TSB"
pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Shared:
    """A study of one network with its evidence; nothing may write to its store."""

    root: Path
    study: CloudStudy
    evidence: Evidence


@pytest.fixture(scope="module", params=NETWORKS)
def shared(request, tmp_path_factory) -> Shared:
    root = tmp_path_factory.mktemp("store")
    study = cloud_study(root, network=request.param)
    with single_thread():
        evidence = study.evidence("FC1")
        study.accuracies("T")
    return Shared(root, study, evidence)


# --- what is trained from what


def test_student_and_baseline_start_from_identical_weights_the_teacher_from_others(shared):
    student, baseline = (shared.study.of(role, 0, "FC1") for role in "SB")
    assert same_states(student.states[0], baseline.states[0])
    assert same_states(baseline.states[0], shared.study.build("B", 0).state_dict())
    assert not same_states(student.states[2], baseline.states[2])
    initial, teacher = baseline.states[0], shared.study.build("T", 0).state_dict()
    drawn = [name for name, value in initial.items() if value.dim() > 1 and value.any()]
    assert drawn and not any(torch.equal(initial[name], teacher[name]) for name in drawn)
    assert set(shared.study.of("T", 0).states) == {1} and set(student.states) == {0, 1, 2}


def test_no_seed_of_a_teacher_is_that_of_a_student(tmp_path):
    study = cloud_study(tmp_path)
    nets = [study.build(role, seed) for role in "TS" for seed in range(3)]
    assert len({net.classifier[0].weight.sum().item() for net in nets}) == len(nets)


def test_the_student_s_states_are_those_of_the_first_phase(shared):
    student = shared.study.of("S", 0, "FC1")
    net = shared.study.network(student)
    above = {id(p) for p in parameters_above(net, "FC1")}
    assert above
    for name, parameter in net.named_parameters():
        moved = not torch.equal(student.states[0][name], student.states[2][name])
        if id(parameter) in above:
            assert not moved, name
        elif parameter.dim() > 1:
            assert moved, name


def test_the_student_s_score_is_taken_after_the_head_was_trained(shared, tmp_path, monkeypatch):
    shutil.copytree(shared.root / "networks", tmp_path / "networks")
    known = shared.study.of("S", 0, "FC1")
    shutil.rmtree(tmp_path / "networks" / known.fingerprint)
    seen = []

    def accuracy(net, clouds, labels, **_):
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return 0.5

    monkeypatch.setattr("kpnb.study.cloud.accuracy", accuracy)
    again = cloud_study(tmp_path, network=shared.study.network_name)
    student = again.of("S", 0, "FC1")
    assert again.store.computed() == ["networks"] and student.accuracy["test"] == 0.5
    assert same_states(student.states[2], known.states[2])  # what stopped and came again is equal
    net = again.network(student)
    above = {id(p) for p in parameters_above(net, "FC1")}
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1:
            kept = torch.equal(student.states[2][name], seen[0][name])
            assert kept == (id(parameter) not in above), name


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
    assert torch.equal(shared.evidence.foreground, shared.study.data.foreground)
    for role in ROLES:
        (by_epoch,) = shared.evidence.maps[role]
        assert list(by_epoch) == ([1] if role == "T" else [0, 1, 2])
        for maps in by_epoch.values():
            assert maps.entropy.shape == (3, POINTS + BACKGROUND)
            assert maps.entropy.isfinite().all() and maps.defined.all()
            assert (maps.entropy.std(1) > 0).all()
            assert "frozen=True" in maps.settings["units"]
    untrained = [shared.evidence.maps[role][0][0].sigma for role in "SB"]
    assert torch.equal(*untrained)
    last = [shared.evidence.maps[role][0][2].sigma for role in "SB"]
    assert not torch.equal(*last)


def test_distances_are_those_of_the_records(shared):
    for role in "SB":
        record, distance = shared.study.of(role, 0, "FC1").record, shared.evidence.distance
        assert distance[role, "step"] == [record.distance_per_step["FC1"]]
        step, epoch = (distance[role, unit][0] for unit in ("step", "epoch"))
        assert step[0] == epoch[0] == 0 < epoch[1] < epoch[2] <= step[2]


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


# --- what is stored


def test_the_same_study_again_comes_from_the_store(shared):
    computed = ["networks"] * 3 + ["maps"] * 3 + ["accuracies"]
    assert shared.study.store.computed()[:7] == computed
    again = cloud_study(shared.root, network=shared.study.network_name, threshold=0.3)
    evidence = again.evidence("FC1")
    kinds = sorted(kind for kind, _ in again.store.asked)
    assert again.store.computed() == [] and kinds == ["maps"] * 3 + ["networks"] * 3
    for role in ROLES:
        for epoch, maps in shared.evidence.maps[role][0].items():
            assert torch.equal(maps.sigma, evidence.maps[role][0][epoch].sigma)
        assert again.of(role, 0, "FC1").accuracy == shared.study.of(role, 0, "FC1").accuracy
    assert again.stored_seconds() > 0 == shared.study.stored_seconds()


class KeyStore(Store):
    """Gives each entry its fingerprint and made-up content; nothing is computed."""

    study: CloudStudy

    def compute(self, kind, settings, compute, code, data=None):
        name = self._entry(kind, settings, code, data).folder.name
        if kind == "maps":
            empty = {n: torch.zeros(1) for n in kpnb.estimator.entropy.TENSORS}
            self.maps = name
            tensors = flat({epoch: empty for epoch in settings["epochs"]})
        else:
            tensors = flat({0: self.study.build(settings["role"], settings["seed"]).state_dict()})
        info = {"record": {}, "accuracy": {}, "seconds": 1.0}
        return Record(tensors, info, self.root, name, False)


def fingerprints(root: Path, **changed) -> dict[str, str]:
    store, given = KeyStore(root), cloud_parameters(**changed)
    store.study = study = CloudStudy(given, store)
    found = {role: study.of(role, given.seeds[0], given.layers[0]) for role in ROLES}
    study.maps(found["B"], given.layers[0])
    return {role: net.fingerprint for role, net in found.items()} | {"maps": store.maps}


# What each parameter changes: teacher, student, baseline, and the maps of the baseline.
CHANGES = {
    "network": ("DGCNN", "T S B maps"),
    "scale": ("full", "T S B maps"),
    "shapes": ("components", "T S B maps"),
    "points": (91, "T S B maps"),
    "background": (41, "T S B maps"),
    "distance": (0.5, "T S B maps"),
    "turn": (30.0, "T S B maps"),
    "teacher_samples": (104, "T S B maps"),
    # A network's scores are stored with it.
    "test_samples": (24, "T S B maps"),
    "fraction": (0.3, "S B maps"),
    "teacher_epochs": (2, "T S"),
    "epochs": (3, "S B maps"),
    "head_epochs": (2, "S"),
    "checkpoints": ([0, 2], "S B maps"),
    "layers": (["FC2"], "S B maps"),
    "seeds": ([1], "T S B maps"),
    "samples": (4, "maps"),
    "measured_on": ("test", "maps"),
    "choices": ("recomputed", "maps"),
    "method": ("optimum", "maps"),
    "probes": (12, "maps"),
    "threshold": (0.15, ""),
    "device": ("auto", ""),
    "batch": (8, "T S B maps"),
    "precision": ("bfloat16", "T S B maps"),
    "deterministic": (True, "T S B maps"),
    "chunk": (12, ""),
}


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory) -> dict[str, str]:
    return fingerprints(tmp_path_factory.mktemp("keys"))


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [key for key in one if one[key] != other[key]]


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_parameter_changes(name, tmp_path, unchanged):
    if name == "device" and torch.cuda.is_available():
        pytest.skip("auto is the GPU here")
    value, expected = CHANGES[name]
    assert getattr(cloud_parameters(), name) != value
    changed = fingerprints(tmp_path, **{name: value})
    assert differing(unchanged, changed) == expected.split()


def test_every_parameter_is_held_to_it():
    """`data` is below, with ModelNet40; `compiled` with the prepared image data."""
    untested = set(type(cloud_parameters()).model_fields) - set(CHANGES)
    assert untested == {"preset", "data", "compiled"}


def test_neither_preset_nor_other_seeds_change_an_entry(tmp_path, unchanged):
    demo = cloud_parameters().model_dump() | {"preset": "demo", "seeds": [0, 2, 1]}
    assert fingerprints(tmp_path, **demo) == unchanged


# --- ModelNet40


def off_tree(root: Path, height: float = 1.0) -> str:
    """A folder of three classes of boxes; the height is of the tallest ones."""
    for size, name in enumerate(("bed", "lamp", "table"), start=1):
        for split, numbers in (("train", range(4)), ("test", range(4, 7))):
            folder = root / name / split
            folder.mkdir(parents=True)
            for n in numbers:
                tall = size * height if size == 3 else size
                (folder / f"{name}_{n:04}.off").write_text(box(1, 1, tall + n / 10))
    return str(root)


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


def refused(make, told):
    with pytest.raises(KpnbError, match=told) as error:
        make()
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


def test_a_wrong_folder(tmp_path):
    study = cloud_study(tmp_path / "store", data=str(tmp_path / "absent"))
    refused(lambda: study.evidence("FC1"), "absent")
    (tmp_path / "empty").mkdir()
    study = cloud_study(tmp_path / "store", data=str(tmp_path / "empty"))
    refused(lambda: study.evidence("FC1"), "empty holds neither .* give the folder of ModelNet40")
    assert not (tmp_path / "store" / "networks").exists()


# --- what stops


def test_more_samples_than_there_are(tmp_path):
    study = cloud_study(tmp_path, samples=41)
    refused(lambda: study.data.measured, "samples=41 clouds .* only 40 .* raise teacher_samples")
    study = cloud_study(tmp_path, samples=21, measured_on="test")
    # The test clouds are as many as test_samples asks for: another remedy than for training.
    refused(lambda: study.data.measured, "samples=21 clouds .* only 20 .* ask for fewer")


@pytest.mark.parametrize("network", ["PointNet++", "PointConv"])
def test_too_few_points_for_the_network(network, tmp_path):
    study = cloud_study(tmp_path, network=network, points=64, background=30)
    refused(lambda: study.of("B", 0), "94 points cannot give 128 centroids")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(tmp_path):
    study = cloud_study(tmp_path, device="cuda")
    refused(lambda: study.evidence("FC1"), "no GPU is usable here; pass device='cpu'")


@pytest.mark.parametrize(
    "teacher, baseline, void",
    [
        ([0.6, 0.7], [0.3, 0.4], False),
        ([0.51, 0.6], [0.3, 0.4], False),
        ([0.7, 0.5], [0.3, 0.4], True),  # one seed's: half of the unseen shapes
        ([0.8, 0.6], [0.6, 0.7], True),  # one seed's below the baselines' mean
        ([0.7, 0.7], [0.7, 0.7], True),  # no better than the baseline
    ],
)
def test_a_bad_teacher_voids_the_study(tmp_path, monkeypatch, teacher, baseline, void):
    found = {"T": {"test": teacher}, "B": {"test": baseline}}
    monkeypatch.setattr(CloudStudy, "accuracies", lambda self, role, layer=None: found[role])
    study = cloud_study(tmp_path, preset="study", seeds=[0, 1])
    told = f"teacher {teacher[0]:.1%} / {teacher[1]:.1%}, baseline"
    if void:
        refused(study.check_teacher, f"void.*{told}.*teacher_epochs or teacher_samples")
        return
    said = study.check_teacher()
    assert told in said and "chance 10.0%" in said
    assert said.startswith("The teacher is fit to teach; accuracy on unseen samples")


def test_the_smoke_preset_claims_nothing(tmp_path):
    assert "smoke" in cloud_study(tmp_path).check_teacher()

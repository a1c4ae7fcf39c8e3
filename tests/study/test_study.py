"""The image study: what is trained from what, what is stored, and what survives kill and damage."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import smoke_study

import kpnb.estimator.entropy
import kpnb.study.image
from kpnb.errors import KpnbError
from kpnb.estimator.features import layer_name
from kpnb.networks.image import image_network
from kpnb.networks.layers import parameters_above
from kpnb.store import Record, Scratch, Store
from kpnb.study.image import ImageStudy
from kpnb.study.study import Trained, by_epoch, flat
from kpnb.training.train import accuracy

CHECKOUT = Path(__file__).resolve().parents[2]
TENSORS = "tensors.safetensors"
PATIENCE = 900  # seconds; a few on a machine that is not busy


def same_states(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def entries(root: Path, kind: str) -> list[Path]:
    return sorted(folder for folder in (root / kind).iterdir() if "." not in folder.name)


def assert_equal_stores(first: Path, second: Path):
    """The same entries with the same tensors, bit for bit, and the same training records."""
    for kind in ("networks", "maps"):
        pairs = [entries(root, kind) for root in (first, second)]
        assert [f.name for f in pairs[0]] == [f.name for f in pairs[1]] != []
        for one, other in zip(*pairs, strict=True):
            assert (one / TENSORS).read_bytes() == (other / TENSORS).read_bytes()


@pytest.fixture
def copied(smoke, tmp_path) -> Path:
    """A copy of the shared store that a test may harm."""
    return Path(shutil.copytree(smoke.root, tmp_path / "store"))


@pytest.fixture
def few_test_images(monkeypatch):
    monkeypatch.setattr(kpnb.study.image, "TEST_SAMPLES", 60)


# --- what is trained from what


def test_student_and_baseline_start_from_identical_weights_the_teacher_from_others(smoke):
    teacher, student, baseline = (smoke.study.of(role, 0, "FC1") for role in "TSB")
    assert same_states(student.states[0], baseline.states[0])
    initial = image_network("VGG-11", 12, "narrow", seed=0).state_dict()
    assert same_states(baseline.states[0], initial)
    built = smoke.study.build("T", 0).state_dict()
    weights = [name for name, value in built.items() if value.dim() > 1]
    assert not any(torch.equal(built[name], initial[name]) for name in weights)
    assert set(teacher.states) == {2} and set(student.states) == {0, 1, 2}


def test_another_seed_gives_other_weights_to_all(smoke):
    for role in "TSB":
        one, other = (smoke.study.build(role, seed).state_dict() for seed in (0, 1))
        assert not torch.equal(one["features.0.weight"], other["features.0.weight"])


def test_no_seed_of_a_teacher_is_that_of_a_student(smoke):
    first = {
        (role, seed): smoke.study.build(role, seed).state_dict()["features.0.weight"].sum().item()
        for role in "TS"
        for seed in range(4)
    }
    assert len(set(first.values())) == len(first)


def test_the_first_phase_trains_nothing_above_the_target(smoke):
    student = smoke.study.of("S", 0, "FC1")
    net = smoke.study.network(student)
    above = {id(p) for p in parameters_above(net, "FC1")}
    for name, parameter in net.named_parameters():
        moved = not torch.equal(student.states[0][name], student.states[2][name])
        assert moved == (id(parameter) not in above), name


def test_the_head_phase_leaves_the_layers_below_and_is_what_accuracy_is_taken_of(
    smoke, tmp_path, monkeypatch, few_test_images, one_thread
):
    """The states kept are those of the first phase; the head changes only what lies above."""
    shutil.copytree(smoke.root / "networks", tmp_path / "networks")
    shutil.rmtree(tmp_path / "networks" / smoke.study.of("S", 0, "FC1").fingerprint)
    study, seen = smoke_study(tmp_path), []

    def accuracy(net, images, labels):
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return 0.5

    monkeypatch.setattr("kpnb.study.image.accuracy", accuracy)
    student = study.of("S", 0, "FC1")
    assert study.store.computed() == ["networks"] and student.accuracy["test"] == 0.5
    net = study.network(student)
    above = {id(p) for p in parameters_above(net, "FC1")}
    for name, parameter in net.named_parameters():
        kept = torch.equal(student.states[2][name], seen[0][name])
        assert kept == (id(parameter) not in above), name
    assert same_states(student.states[2], smoke.study.of("S", 0, "FC1").states[2])


def test_evidence_is_of_the_stored_networks(smoke):
    evidence, parameters = smoke.evidence, smoke.study.parameters
    assert evidence.epochs == parameters.checkpoints == (0, 1, 2)
    assert list(evidence.maps["T"][0]) == [2] and list(evidence.maps["S"][0]) == [0, 1, 2]
    assert evidence.foreground.shape == (6, 64)
    for role in "SB":
        record = smoke.study.of(role, 0, "FC1").record
        assert evidence.distance[role, "step"] == [record.distance_per_step["FC1"]]
        assert evidence.distance[role, "epoch"] == [record.distance_per_epoch["FC1"]]
        step, epoch = (evidence.distance[role, unit][0] for unit in ("step", "epoch"))
        assert step[0] == epoch[0] == 0 < epoch[1] < epoch[2] <= step[2]
    untrained = [evidence.maps[role][0][0].sigma for role in "SB"]
    assert torch.equal(*untrained)
    last = [evidence.maps[role][0][2].sigma for role in "TSB"]
    assert not torch.equal(last[0], last[1]) and not torch.equal(last[1], last[2])


def test_measured_images_have_foreground_and_background(smoke):
    foreground = smoke.study.data.foreground
    assert len(foreground) == 6
    assert foreground.any(1).all() and not foreground.all(1).any()
    measured, training = smoke.study.data.measured, smoke.study.data.training_samples
    assert len(training) == 120
    places = [(training.images == image).flatten(1).all(1).nonzero() for image in measured.images]
    assert all(len(place) == 1 for place in places)


def test_images_without_foreground_or_background_are_passed_over(tmp_path):
    images = smoke_study(tmp_path, samples=20).data
    masks = images.training_samples.masks.clone()
    masks[0], masks[2] = False, True
    masks[4, :, 1:] = masks[4, 1:] = False  # one pixel is too little for a cell
    masks[4, 0, 0] = True
    images.__dict__["training_samples"] = replace(images.training_samples, masks=masks)
    expected = [1, 3, *range(5, 23)]
    assert torch.equal(images.measured.images, images.training_samples.images[expected])
    assert images.foreground.any(1).all() and not images.foreground.all(1).any()


def test_unseen_images_are_measured_on_request(tmp_path, few_test_images):
    images = smoke_study(tmp_path, measured_on="test").data
    assert images.measured.source["split"] == "test"
    assert (images.measured.images[0] == images.test_samples.images).flatten(1).all(1).any()


def test_training_accuracy_is_of_the_images_at_hand(smoke):
    study = smoke_study(smoke.root, fraction=0.25)
    teacher, images = study.of("T", 0), study.data.training_samples
    assert study.store.computed() == []
    found = accuracy(study.network(teacher), images.images, images.labels)
    assert study.accuracies("T")["train"] == [found]


def test_layer_maps(smoke):
    student = smoke.study.of("S", 0, "FC1")
    maps = smoke.study.layer_maps(student, smoke.study.data.measured.subset([0, 3]))
    assert list(maps) == ["Conv", "FC1", "FC2", "FC3"]
    named = smoke.study.network(student).layer_names
    assert {layer: m.settings["layer"] for layer, m in maps.items()} == named
    stored = smoke.evidence.maps["S"][0][2]
    torch.testing.assert_close(maps["FC1"].sigma, stored.sigma[[0, 3]], rtol=1e-4, atol=0)


@pytest.mark.parametrize("network", ["AlexNet", "ResNet-50"])
def test_other_families_run_through(network, tmp_path, few_test_images, one_thread):
    study = smoke_study(
        tmp_path, network=network, samples=2, epochs=1, teacher_epochs=1, teacher_samples=144
    )
    evidence = study.evidence("FC1")
    for role in "TSB":
        maps = evidence.maps[role][0][1]
        assert maps.entropy.shape == (2, 64) and maps.defined.all()
    assert same_states(*(study.of(role, 0, "FC1").states[0] for role in "SB"))
    weight = maps.settings["entropy_weight"]
    assert weight == (6.0 if network == "ResNet-50" else 7.0)


# --- what stops


def test_more_samples_than_there_are(tmp_path):
    study = smoke_study(tmp_path, samples=121)
    with pytest.raises(KpnbError, match="samples=121 .* only 1[0-2][0-9] .* raise teacher_samples"):
        _ = study.data.measured


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(tmp_path):
    study = smoke_study(tmp_path, device="cuda")
    with pytest.raises(KpnbError, match="no GPU is usable here; pass device='cpu'"):
        study.evidence("FC1")
    assert not (tmp_path / "networks").exists()
    assert smoke_study(tmp_path, device="auto").device.type == "cpu"


@pytest.mark.parametrize(
    "teacher, baseline, void",
    [
        ([0.6, 0.7], [0.3, 0.4], False),
        ([0.6, 0.4], [0.3, 0.4], False),
        ([0.6, 0.34], [0.3, 0.4], True),  # one seed's teacher below the baselines' mean
        ([0.35, 0.35], [0.3, 0.4], True),  # just as good
        ([0.16, 0.16], [0.1, 0.1], True),  # better, but under twice chance
        ([0.17, 0.17], [0.1, 0.1], False),
    ],
)
def test_a_bad_teacher_voids_the_study(tmp_path, monkeypatch, teacher, baseline, void):
    found = {"T": teacher, "B": baseline}
    monkeypatch.setattr(
        ImageStudy, "accuracies", lambda self, role, layer=None: {"test": found[role]}
    )
    study = smoke_study(tmp_path, preset="study", seeds=[0, 1])
    if not void:
        told = study.check_teacher()
        assert f"teacher {teacher[0]:.1%} / {teacher[1]:.1%}" in told and "chance 8.3%" in told
        return
    with pytest.raises(KpnbError, match="void.*teacher_epochs or teacher_samples") as error:
        study.check_teacher()
    assert "\n" not in str(error.value)


def test_the_smoke_preset_claims_nothing(smoke):
    assert "smoke" in smoke.study.check_teacher()


# --- what is stored


def test_the_same_study_again_comes_from_the_store(smoke):
    assert smoke.study.store.computed() == ["networks"] * 3 + ["maps"] * 3 + ["accuracies"]
    again = smoke_study(smoke.root, seeds=[0], threshold=0.3)
    evidence = again.evidence("FC1")
    kinds = [kind for kind, _ in again.store.asked]
    assert again.store.computed() == [] and sorted(kinds) == ["maps"] * 3 + ["networks"] * 3
    for role in "TSB":
        for epoch, maps in smoke.evidence.maps[role][0].items():
            assert torch.equal(maps.sigma, evidence.maps[role][0][epoch].sigma)
        assert same_states(*(study.of(role, 0, "FC1").states[2] for study in (smoke.study, again)))
        assert again.of(role, 0, "FC1").accuracy == smoke.study.of(role, 0, "FC1").accuracy
    assert again.stored_seconds() > 0 == smoke.study.stored_seconds()


def test_a_network_is_looked_up_once_in_a_process(smoke):
    study = smoke_study(smoke.root, layers=["FC1"])
    assert study.of("B", 0, "FC1") is study.of("B", 0, None)
    assert study.of("S", 0, "FC1") is study.of("S", 0, "FC1")
    assert [kind for kind, _ in study.store.asked] == ["networks"] * 3  # B, then T and S


class KeyStore(Store):
    """Gives each entry its fingerprint and made-up content; nothing is computed."""

    def compute(self, kind, settings, compute, code, data=None):
        name = self._entry(kind, settings, code, data).folder.name
        if kind == "maps":
            empty = {n: torch.zeros(1) for n in kpnb.estimator.entropy.TENSORS}
            self.maps = name
            tensors = flat({epoch: empty for epoch in settings["epochs"]})
        else:
            build = (settings["network"], settings["classes"], settings["scale"])
            weights = image_network(*build).state_dict() if settings["role"] == "B" else {}
            tensors = flat({0: weights})
        info = {"record": {}, "accuracy": {}, "seconds": 1.0}
        return Record(tensors, info, self.root, name, False)


def fingerprints(tmp_path, **changed) -> dict[str, str]:
    given = smoke_study(tmp_path, **changed).parameters
    study = ImageStudy(given, KeyStore(tmp_path))
    found = {role: study.of(role, given.seeds[0], given.layers[0]) for role in "TSB"}
    study.maps(found["B"], given.layers[0])
    return {role: net.fingerprint for role, net in found.items()} | {"maps": study.store.maps}


# What each parameter changes: teacher, student, baseline, and the maps of the baseline.
CHANGES = {
    "network": ("AlexNet", "T S B maps"),
    "scale": ("full", "T S B maps"),
    "classes": (8, "T S B maps"),
    "image_size": (40, "T S B maps"),
    "teacher_samples": (252, "T S B maps"),
    "fraction": (0.4, "S B maps"),
    "teacher_epochs": (3, "T S"),
    "epochs": (3, "S B maps"),
    "head_epochs": (2, "S"),
    "checkpoints": ([0, 2], "S B maps"),
    "layers": (["Conv"], "S B maps"),
    "seeds": ([1], "T S B maps"),
    "samples": (5, "maps"),
    "measured_on": ("test", "maps"),
    "grid": (16, "maps"),
    "method": ("optimum", "maps"),
    "probes": (12, "maps"),
    "threshold": (0.15, ""),
    "device": ("auto", ""),
    "recipe": ("published", "T S B maps"),
    "augment": ("all", "T S B maps"),
    "batch": (8, "T S B maps"),
    "precision": ("bfloat16", "T S B maps"),
    "deterministic": (True, "T S B maps"),
    "chunk": (12, ""),
}


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory):
    return fingerprints(tmp_path_factory.mktemp("keys"))


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_parameter_changes(name, tmp_path, unchanged, few_test_images):
    if name == "device" and torch.cuda.is_available():
        pytest.skip("auto is the GPU here")
    value, expected = CHANGES[name]
    changed = fingerprints(tmp_path, **{name: value})
    assert [key for key in unchanged if unchanged[key] != changed[key]] == expected.split()


def test_every_parameter_is_held_to_it(unchanged, smoke):
    untested = set(type(smoke.study.parameters).model_fields) - set(CHANGES)
    assert untested == {"preset", "teacher", "data", "pretrained", "compiled"}


def test_neither_preset_nor_other_seeds_change_an_entry(tmp_path, unchanged):
    values = smoke_study(tmp_path).parameters.model_dump()
    demo = values | {"preset": "demo", "seeds": [0, 2, 1]}
    assert fingerprints(tmp_path, **demo) == unchanged


def test_states_by_epoch_in_one_file():
    parts = {0: {"a/b": torch.zeros(1)}, 12: {"a/b": torch.ones(1), "c": torch.ones(2)}}
    again = by_epoch(flat(parts))
    assert again.keys() == parts.keys()
    assert all(same_states(again[epoch], parts[epoch]) for epoch in parts)
    assert Trained("B", None, 0, again, None, {}, "").final_epoch == 12


# --- kill and damage

SCRIPT = """
from kpnb.study.parameters import ImageParameters, resolve
from kpnb.study.image import ImageStudy
ImageStudy(resolve(ImageParameters, {"preset": "smoke", "device": "cpu"})).evidence("FC1")
"""


def start(root: Path) -> subprocess.Popen:
    environment = os.environ | {"KPNB_STORE": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, cwd=CHECKOUT)


def kill_when(process: subprocess.Popen, reached) -> None:
    """kill -9 as soon as `reached()`, which must be before the process ends."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_kill_in_training_and_in_estimation_changes_no_bit(smoke, tmp_path):
    """The student is killed after its first epoch, a map after its first checkpoint."""
    shutil.copytree(smoke.root / "networks", tmp_path / "networks")
    student = smoke.study.of("S", 0, "FC1").fingerprint
    shutil.rmtree(tmp_path / "networks" / student)
    part = tmp_path / "networks" / f"{student}.part"
    kill_when(start(tmp_path), (part / "training.epoch0001").is_dir)
    assert part.is_dir() and not (tmp_path / "networks" / student).exists()
    assert not (tmp_path / "maps").exists()

    def estimating() -> bool:
        return any((tmp_path / "maps").glob("*.part/0"))

    kill_when(start(tmp_path), estimating)
    assert estimating() and (tmp_path / "networks" / student).exists()
    left = next((tmp_path / "maps").glob("*.part"))
    assert not left.with_suffix("").exists()

    assert start(tmp_path).wait(timeout=PATIENCE) == 0
    assert not list(tmp_path.glob("*/*.part"))
    assert_equal_stores(smoke.root, tmp_path)


def baseline_entry(smoke, kind: str) -> str:
    """The name of the baseline's entry in the shared store, read from what the store was asked."""
    baseline, last = smoke.study.of("B", 0), smoke.evidence.maps["B"][0][2].sigma
    if kind == "networks":
        return baseline.fingerprint
    maps = [record for asked, record in smoke.study.store.asked if asked == "maps"]
    (own,) = {r.fingerprint for r in maps if torch.equal(r.tensors["0002/sigma"], last)}
    return own


def test_estimation_goes_on_from_what_is_there(smoke, tmp_path, one_thread):
    """A doctored checkpoint in the scratch folder shows up: it was not estimated again."""
    shutil.copytree(smoke.root / "networks", tmp_path / "networks")
    study = smoke_study(tmp_path)
    doctored = {n: t.clone() for n, t in smoke.evidence.maps["B"][0][1].tensors().items()}
    doctored["sigma"] += 0.5
    part = tmp_path / "maps" / f"{baseline_entry(smoke, 'maps')}.part"
    Scratch(part).save("1", doctored, {})
    maps = study.maps(study.of("B", 0), "FC1")
    assert torch.equal(maps[1].sigma, doctored["sigma"])
    for epoch in (0, 2):
        assert torch.equal(maps[epoch].sigma, smoke.evidence.maps["B"][0][epoch].sigma)


@pytest.mark.parametrize("kind", ["networks", "maps"])
def test_a_flipped_byte_is_told_and_redone(smoke, copied, kind, one_thread):
    damaged = copied / kind / baseline_entry(smoke, kind)
    content = bytearray((damaged / TENSORS).read_bytes())
    content[len(content) // 2] ^= 1
    (damaged / TENSORS).write_bytes(content)
    study = smoke_study(copied)
    with pytest.warns(UserWarning, match="damaged") as told:
        study.evidence("FC1")
    assert len(told) == 1 and damaged.name in str(told[0].message)
    assert study.store.computed() == [kind]
    assert_equal_stores(smoke.root, copied)


def test_maps_carry_the_layer_they_are_of(smoke):
    net = smoke.study.network(smoke.study.of("B", 0))
    assert smoke.evidence.maps["B"][0][2].settings["layer"] == layer_name(net, "FC1")

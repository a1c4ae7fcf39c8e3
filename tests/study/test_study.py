"""Studies of every modality: what is trained from what, what is stored, and what stops."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import smoke_study
from studied import (
    KINDS,
    MODALITIES,
    Studied,
    differing,
    entries,
    fingerprints,
    modality_of,
    refused,
    same_map,
    same_states,
    study_of,
)

import kpnb.study.image
import kpnb.training.train
from kpnb.estimator.features import layer_name
from kpnb.networks.layers import parameters_above
from kpnb.store import Scratch
from kpnb.study.study import Trained, by_epoch, flat

CHECKOUT = Path(__file__).resolve().parents[2]
TENSORS = "tensors.safetensors"
PATIENCE = 900  # seconds; a few on a machine that is not busy
pytestmark = pytest.mark.usefixtures("one_thread")
only_without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
every_modality = pytest.mark.parametrize("kind", MODALITIES)


@pytest.fixture(params=KINDS)
def shared(request, all_studies) -> Studied:
    return all_studies(request.param)


@pytest.fixture
def few_test_images(monkeypatch):
    monkeypatch.setattr(kpnb.study.image, "TEST_SAMPLES", 60)


# --- what is trained from what


def test_student_and_baseline_start_from_identical_weights_the_teacher_from_others(shared):
    study = shared.study
    student, baseline = (study.of(role, 0, shared.layer) for role in "SB")
    initial, teacher = baseline.states[0], study.build("T", 0).state_dict()
    assert same_states(student.states[0], initial)
    assert same_states(initial, study.build("B", 0).state_dict())
    assert not same_states(student.states[2], baseline.states[2])
    drawn = [name for name, value in initial.items() if value.dim() > 1 and value.any()]
    assert drawn and not any(torch.equal(initial[name], teacher[name]) for name in drawn)
    assert set(student.states) == {0, 1, 2}
    assert set(study.of("T", 0).states) == {study.parameters.teacher_epochs}


def test_no_seed_of_a_teacher_is_that_of_a_student(shared):
    nets = [shared.study.build(role, seed) for role in "TS" for seed in range(4)]
    drawn = [[p for p in net.parameters() if p.dim() > 1][-1].sum().item() for net in nets]
    assert len(set(drawn)) == len(drawn)


def test_the_student_s_states_are_those_of_the_first_phase(shared):
    student = shared.study.of("S", 0, shared.layer)
    net = shared.study.network(student)
    above = {id(p) for p in parameters_above(net, shared.layer)}
    assert above
    for name, parameter in net.named_parameters():
        moved = not torch.equal(student.states[0][name], student.states[2][name])
        if id(parameter) in above:
            assert not moved, name
        elif parameter.dim() > 1 or modality_of(shared.kind) != "cloud":
            assert moved, name


def test_the_head_phase_leaves_the_layers_below_and_is_what_scores_are_taken_of(
    shared, tmp_path, monkeypatch, few_test_images, tiny_model
):
    """The states kept are those of the first phase; the head changes only what lies above."""
    known, layer = shared.study.of("S", 0, shared.layer), shared.layer
    shutil.copytree(shared.root / "networks", tmp_path / "networks")
    shutil.rmtree(tmp_path / "networks" / known.fingerprint)
    seen, name = [], "answer_scores" if shared.kind == "qa" else "accuracy"

    def score(net, *_, **__):
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return {"f1": 0.5, "exact_match": 0.5} if shared.kind == "qa" else 0.5

    monkeypatch.setattr(f"kpnb.study.{modality_of(shared.kind)}.{name}", score)
    again = study_of(shared.kind, tmp_path, tiny_model)
    student = again.of("S", 0, layer)
    assert again.store.computed() == ["networks"] and student.accuracy["test"] == 0.5
    assert same_states(student.states[2], known.states[2])  # what came again is equal
    net = again.network(student)
    above = {id(p) for p in parameters_above(net, layer)}
    for name, parameter in net.named_parameters():
        if parameter.dim() > 1 or modality_of(shared.kind) != "cloud":
            kept = torch.equal(student.states[2][name], seen[0][name])
            assert kept == (id(parameter) not in above), name


def test_evidence_is_of_the_stored_networks(shared):
    evidence, study = shared.evidence, shared.study
    assert evidence.epochs == study.checkpoints == (0, 1, 2)
    assert torch.equal(evidence.foreground, study.data.foreground)
    assert list(evidence.maps["T"][0]) == [study.parameters.teacher_epochs]
    assert list(evidence.maps["S"][0]) == list(evidence.maps["B"][0]) == [0, 1, 2]
    for role in "SB":
        record = study.of(role, 0, shared.layer).record
        assert evidence.distance[role, "step"] == [record.distance_per_step[shared.layer]]
        assert evidence.distance[role, "epoch"] == [record.distance_per_epoch[shared.layer]]
        step, epoch = (evidence.distance[role, unit][0] for unit in ("step", "epoch"))
        assert step[0] == epoch[0] == 0 < epoch[1] < epoch[2] <= step[2]
    first, last = ([evidence.maps[role][0][e] for role in "SB"] for e in (0, 2))
    assert same_map(first[0].sigma, first[1]) and not same_map(last[0].sigma, last[1])


# --- what is stored


def test_the_same_study_again_comes_from_the_store(shared, tiny_model):
    computed = ["networks"] * 3 + ["maps"] * 3 + ["accuracies"]
    assert shared.study.store.computed()[:7] == computed
    again = study_of(shared.kind, shared.root, tiny_model, seeds=[0], threshold=0.3)
    evidence = again.evidence(shared.layer)
    kinds = sorted(kind for kind, _ in again.store.asked)
    assert again.store.computed() == [] and kinds == ["maps"] * 3 + ["networks"] * 3
    for role in "TSB":
        for epoch, maps in shared.evidence.maps[role][0].items():
            assert same_map(maps.sigma, evidence.maps[role][0][epoch])
        mine, theirs = (s.of(role, 0, shared.layer) for s in (shared.study, again))
        assert same_states(mine.states[mine.final_epoch], theirs.states[theirs.final_epoch])
        assert mine.accuracy == theirs.accuracy
    assert again.stored_seconds() > 0 == shared.study.stored_seconds()


def test_a_network_is_looked_up_once_in_a_process(smoke):
    study = smoke_study(smoke.root, layers=["FC1"])
    assert study.of("B", 0, "FC1") is study.of("B", 0, None)
    assert study.of("S", 0, "FC1") is study.of("S", 0, "FC1")
    assert [kind for kind, _ in study.store.asked] == ["networks"] * 3  # B, then T and S


# What each parameter changes: teacher, student, baseline, and the maps of the baseline.
ALL, TRAINED, MAPS = "T S B maps", "S B maps", "maps"
OF_ALL = {
    "teacher_epochs": (3, "T S"),
    "epochs": (3, TRAINED),
    "head_epochs": (2, "S"),
    "checkpoints": ([0, 2], TRAINED),
    "seeds": ([1], ALL),
    "samples": (5, MAPS),
    "measured_on": ("test", MAPS),
    "method": ("optimum", MAPS),
    "probes": (12, MAPS),
    "threshold": (0.15, ""),
    "device": ("auto", ""),
    "batch": (8, ALL),
    "precision": ("bfloat16", ALL),
    "deterministic": (True, ALL),
    "chunk": (12, ""),
}
# A network's scores are stored with it, so what texts and clouds are tested on counts.
OF_TEXTS = {
    "depth": (2, ALL),
    "longest": (200, ALL),
    "teacher_samples": (104, ALL),
    "test_samples": (24, ALL),
    "fraction": (0.4, TRAINED),
    "noise": (0.5, MAPS),
}
CHANGES = {
    "image": OF_ALL
    | {
        "network": ("AlexNet", ALL),
        "scale": ("full", ALL),
        "classes": (8, ALL),
        "image_size": (40, ALL),
        "teacher_samples": (252, ALL),
        "fraction": (0.4, TRAINED),
        "layers": (["Conv"], TRAINED),
        "grid": (16, MAPS),
        "recipe": ("published", ALL),
        "augment": ("all", ALL),
    },
    "sentiment": OF_ALL | OF_TEXTS | {"least_rating": (1.2, ALL)},
    "qa": OF_ALL | OF_TEXTS,
    "PointNet": OF_ALL
    | {
        "network": ("DGCNN", ALL),
        "scale": ("full", ALL),
        "shapes": ("components", ALL),
        "points": (91, ALL),
        "background": (41, ALL),
        "distance": (0.5, ALL),
        "turn": (30.0, ALL),
        "teacher_samples": (104, ALL),
        "test_samples": (24, ALL),
        "fraction": (0.3, TRAINED),
        "layers": (["FC2"], TRAINED),
        "choices": ("recomputed", MAPS),
    },
}
# `data`, `compiled` and the pretrained networks have tests of their own, by modality.
ELSEWHERE = {
    "image": {"preset", "teacher", "data", "pretrained", "compiled"},
    "sentiment": {"preset", "layers", "network", "data", "compiled"},
    "qa": {"preset", "layers", "network", "data", "compiled"},
    "PointNet": {"preset", "data", "compiled"},
}


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory, tiny_model):
    root = tmp_path_factory.mktemp("keys")
    return {kind: fingerprints(kind, root, tiny_model) for kind in MODALITIES}


@pytest.mark.parametrize("kind, name", [(k, n) for k, names in CHANGES.items() for n in names])
def test_what_a_parameter_changes(
    kind, name, tmp_path, unchanged, tiny_model, all_studies, few_test_images
):
    if name == "device" and torch.cuda.is_available():
        pytest.skip("auto is the GPU here")
    value, expected = CHANGES[kind][name]
    assert getattr(all_studies(kind).study.parameters, name) != value
    changed = fingerprints(kind, tmp_path, tiny_model, **{name: value})
    assert differing(unchanged[kind], changed) == expected.split()


@every_modality
def test_every_parameter_is_held_to_it(kind, all_studies):
    fields = set(type(all_studies(kind).study.parameters).model_fields)
    assert fields - set(CHANGES[kind]) == ELSEWHERE[kind]


@every_modality
def test_neither_preset_nor_other_seeds_change_an_entry(kind, tmp_path, unchanged, tiny_model):
    values = study_of(kind, tmp_path, tiny_model).parameters.model_dump()
    demo = values | {"preset": "demo", "seeds": [0, 2, 1]}
    left = demo.pop("network") if kind in ("sentiment", "qa") else None
    assert left in (None, tiny_model)
    assert fingerprints(kind, tmp_path, tiny_model, **demo) == unchanged[kind]


def test_states_by_epoch_in_one_file():
    parts = {0: {"a/b": torch.zeros(1)}, 12: {"a/b": torch.ones(1), "c": torch.ones(2)}}
    again = by_epoch(flat(parts))
    assert again.keys() == parts.keys()
    assert all(same_states(again[epoch], parts[epoch]) for epoch in parts)
    assert Trained("B", None, 0, again, None, {}, "").final_epoch == 12


# --- what stops


@pytest.mark.parametrize(
    "kind, given, told",
    [
        ("image", {"samples": 121}, "samples=121 images .* only 1[0-2][0-9] .* teacher_samples or"),
        ("sentiment", {"samples": 51}, "samples=51 sentences .* only [1-5]?[0-9] .* raise teacher"),
        ("qa", {"samples": 51}, "samples=51 questions .* only [1-5]?[0-9] .* raise teacher_sa"),
        ("PointNet", {"samples": 41}, "samples=41 clouds .* only 40 .* raise teacher_samples"),
        # The test clouds are as many as test_samples asks for: another remedy than for training.
        ("PointNet", {"samples": 21, "measured_on": "test"}, "only 20 .* or raise test_samples"),
    ],
)
def test_more_samples_than_there_are(kind, given, told, tmp_path, tiny_model):
    study = study_of(kind, tmp_path, tiny_model, **given)
    refused(lambda: study.data.measured, told)


@only_without_gpu
@every_modality
def test_cuda_without_a_gpu(kind, tmp_path, tiny_model):
    study = study_of(kind, tmp_path, tiny_model, device="cuda")
    refused(lambda: study.evidence(study.parameters.layers[0]), "no GPU .* pass device='cpu'")
    assert not (tmp_path / "networks").exists()
    assert study_of(kind, tmp_path, tiny_model, device="auto").device.type == "cpu"


@pytest.mark.parametrize(
    "kind, teacher, baseline, void",
    [
        ("image", [0.6, 0.7], [0.3, 0.4], False),
        ("image", [0.6, 0.4], [0.3, 0.4], False),
        ("image", [0.6, 0.34], [0.3, 0.4], True),  # one seed's below the baselines' mean
        ("image", [0.35, 0.35], [0.3, 0.4], True),  # just as good
        ("image", [0.16, 0.16], [0.1, 0.1], True),  # better, but under twice chance
        ("image", [0.17, 0.17], [0.1, 0.1], False),
        ("PointNet", [0.6, 0.7], [0.3, 0.4], False),
        ("PointNet", [0.51, 0.6], [0.3, 0.4], False),
        ("PointNet", [0.7, 0.5], [0.3, 0.4], True),  # one seed's: half of the unseen shapes
        ("PointNet", [0.8, 0.6], [0.6, 0.7], True),  # one seed's below the baselines' mean
        ("PointNet", [0.7, 0.7], [0.7, 0.7], True),  # no better than the baseline
        ("sentiment", [0.9, 0.9], [0.6, 0.7], False),
        ("sentiment", [0.9, 0.64], [0.6, 0.7], True),  # one seed's below the baselines' mean
        ("sentiment", [0.8, 0.8], [0.6, 0.7], True),  # no better than words alone
        ("qa", [0.51, 0.6], [0.1, 0.2], False),
        ("qa", [0.5, 0.6], [0.1, 0.2], True),  # half of the answers
        ("qa", [0.6, 0.6], [0.6, 0.6], True),  # no better than the baseline
    ],
)
def test_a_bad_teacher_voids_the_study(
    kind, teacher, baseline, void, tmp_path, monkeypatch, tiny_model
):
    changed = {"preset": "study", "seeds": [0, 1]} | (
        {"fraction": 0.5} if kind in ("sentiment", "qa") else {}
    )
    study = study_of(kind, tmp_path, tiny_model, **changed)
    found = {"T": {"test": teacher}, "B": {"test": baseline}}
    monkeypatch.setattr(type(study), "accuracies", lambda self, role, layer=None: found[role])
    monkeypatch.setattr("kpnb.study.text.tfidf_logistic", lambda *_: 0.8)
    told = f"teacher {teacher[0]:.1%} / {teacher[1]:.1%}, baseline"
    if void:
        refused(study.check_teacher, f"void.*{told}.*teacher_epochs or teacher_samples")
        return
    said = study.check_teacher()
    line = {"image": "chance 8.3%", "PointNet": "chance 10.0%"}.get(kind, "")
    line = "TF-IDF, 50 sentences 80.0%" if kind == "sentiment" else line
    assert told in said and line in said and ("TF-IDF" in said) == (kind == "sentiment")
    assert said.startswith(f"The teacher is fit to teach; {study.SCORE} on unseen samples")


@every_modality
def test_the_smoke_preset_claims_nothing(kind, all_studies):
    assert "smoke" in all_studies(kind).study.check_teacher()


# --- kill and damage


def assert_equal_stores(first: Path, second: Path):
    """The same entries with the same tensors, bit for bit, and the same training records."""
    for kind in ("networks", "maps"):
        pairs = [entries(root, kind) for root in (first, second)]
        assert [f.name for f in pairs[0]] == [f.name for f in pairs[1]] != []
        for one, other in zip(*pairs, strict=True):
            assert (one / TENSORS).read_bytes() == (other / TENSORS).read_bytes()


class StopError(Exception):
    """In place of a kill."""


@pytest.mark.parametrize("kind", ["sentiment", "qa", "PointNet"])
def test_training_that_stopped_goes_on_and_changes_no_bit(
    kind, tmp_path, monkeypatch, all_studies, tiny_model
):
    shared = all_studies(kind)
    before = shared.study.of("B", 0).fingerprint
    part = tmp_path / "networks" / f"{before}.part"
    run_epoch, epochs = kpnb.training.train._Loop.run_epoch, []

    def counting(loop, epoch):
        epochs.append(epoch)
        if epochs == [1, 2]:
            raise StopError
        run_epoch(loop, epoch)

    monkeypatch.setattr(kpnb.training.train._Loop, "run_epoch", counting)
    study = study_of(kind, tmp_path, tiny_model)
    with pytest.raises(StopError):
        study.of("B", 0)
    assert (part / "training.epoch0001").is_dir() and not part.with_suffix("").exists()
    study.of("B", 0)
    assert epochs == [1, 2, 2]  # the first epoch once only
    (entry,) = entries(tmp_path, "networks")
    kept = shared.root / "networks" / before / TENSORS
    assert (entry / TENSORS).read_bytes() == kept.read_bytes() and not part.exists()


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


def baseline_entry(shared: Studied, kind: str) -> str:
    """The name of the baseline's entry in the shared store, read from what the store was asked."""
    if kind == "networks":
        return shared.study.of("B", 0).fingerprint
    maps = [record for asked, record in shared.study.store.asked if asked == "maps"]
    last = shared.evidence.maps["B"][0][2]
    (own,) = {r.fingerprint for r in maps if same_map(r.tensors.get("0002/sigma"), last)}
    return own


@pytest.mark.parametrize("kind", ["image", "qa", "PointNet"])
def test_estimation_goes_on_from_what_is_there(kind, tmp_path, all_studies, tiny_model):
    """A doctored checkpoint in the scratch folder shows up: it was not estimated again."""
    shared = all_studies(kind)
    shutil.copytree(shared.root / "networks", tmp_path / "networks")
    study, known = study_of(kind, tmp_path, tiny_model), shared.evidence.maps["B"][0]
    doctored = {n: t.clone() for n, t in known[1].tensors().items()}
    doctored["sigma"] += 0.5
    Scratch(tmp_path / "maps" / f"{baseline_entry(shared, 'maps')}.part").save("1", doctored, {})
    maps = study.maps(study.of("B", 0), shared.layer)
    assert same_map(doctored["sigma"], maps[1])
    assert all(same_map(maps[epoch].sigma, known[epoch]) for epoch in (0, 2))


@pytest.mark.parametrize("kind", ["networks", "maps"])
def test_a_flipped_byte_is_told_and_redone(smoke, tmp_path, kind, all_studies):
    copied = Path(shutil.copytree(smoke.root, tmp_path / "store"))
    damaged = copied / kind / baseline_entry(all_studies("image"), kind)
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

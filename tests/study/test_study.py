"""Studies of every modality: what is trained from what, what is stored, and what stops."""

import functools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refuses
from studied import MODALITIES, Studied, differing, fingerprints, same_map, same_states, study_of

import kpnb.study.image
import kpnb.training.train
from kpnb.estimator.features import layer_name
from kpnb.metrics.evidence import UNITS
from kpnb.networks.layers import parameters_above
from kpnb.store import Scratch
from kpnb.study.study import Study

TENSORS = "tensors.safetensors"
pytestmark = pytest.mark.usefixtures("one_thread", "few_test_images")
every_modality = pytest.mark.parametrize("kind", MODALITIES)


@pytest.fixture(params=MODALITIES)
def shared(request, all_studies) -> Studied:
    return all_studies(request.param)


def test_student_and_baseline_start_from_identical_weights_the_teacher_from_others(shared):
    study = shared.study
    student, baseline = (study.of(role, 0, shared.layer) for role in "SB")
    initial, teacher = baseline.states[0], study.build("T", 0).state_dict()
    assert same_states(student.states[0], initial)
    assert same_states(initial, study.build("B", 0).state_dict())
    assert not same_states(student.states[2], baseline.states[2])
    drawn = [name for name, value in initial.items() if value.dim() > 1 and value.any()]
    assert drawn and not any(torch.equal(initial[name], teacher[name]) for name in drawn)
    assert set(study.of("T", 0).states) == {study.parameters.teacher_epochs}
    # No seed of a teacher is that of a student.
    nets = [study.build(role, seed) for role in "TS" for seed in range(4)]
    sums = {[p for p in net.parameters() if p.dim() > 1][-1].sum().item() for net in nets}
    assert len(sums) == len(nets)
    # The student's states are those of the first phase: what is above the layer has not moved.
    net = study.network(student)
    above = {id(p) for p in parameters_above(net, shared.layer)}
    assert above
    for name, parameter in net.named_parameters():
        moved = not torch.equal(student.states[0][name], student.states[2][name])
        # Behind batch norm, as in clouds, no bias need move.
        if id(parameter) in above or parameter.dim() > 1 or shared.kind != "PointNet":
            assert moved == (id(parameter) not in above), name


def test_evidence_is_of_the_stored_networks(shared):
    evidence, study = shared.evidence, shared.study
    assert torch.equal(evidence.foreground, study.data.foreground)
    assert list(evidence.maps["T"][0]) == [study.parameters.teacher_epochs]
    for role in "SB":
        assert tuple(evidence.maps[role][0]) == evidence.epochs == study.checkpoints == (0, 1, 2)
        record = study.of(role, 0, shared.layer).record
        assert evidence.distance[role, "step"] == [record.distance_per_step[shared.layer]]
        assert evidence.distance[role, "epoch"] == [record.distance_per_epoch[shared.layer]]
        step, epoch = (evidence.distance[role, unit][0] for unit in ("step", "epoch"))
        assert step[0] == epoch[0] == 0 < epoch[1] < epoch[2] <= step[2]
    first, last = ([evidence.maps[role][0][e] for role in "SB"] for e in (0, 2))
    assert same_map(first[0].sigma, first[1]) and not same_map(last[0].sigma, last[1])
    net = study.network(study.of("B", 0))
    assert last[1].settings["layer"] == layer_name(net, shared.layer)


def test_the_same_study_again_comes_from_the_store(shared, tiny_model):
    computed = ["networks"] * 3 + ["maps"] * 3 + ["accuracies"]
    assert shared.study.store.computed()[:7] == computed
    device = "cpu" if torch.cuda.is_available() else "auto"  # what a GPU computes is its own
    again = study_of(shared.kind, shared.root, tiny_model, seeds=[0], threshold=0.3, device=device)
    assert again.device.type == "cpu"
    evidence = again.evidence(shared.layer)
    kinds = sorted(kind for kind, _ in again.store.asked)
    assert again.store.computed() == [] and kinds == ["maps"] * 3 + ["networks"] * 3
    for role in "TSB":
        for epoch, maps in shared.evidence.maps[role][0].items():
            assert same_map(maps.sigma, evidence.maps[role][0][epoch])
        mine, its = (s.of(role, 0, shared.layer) for s in (shared.study, again))
        assert same_states(mine.states[mine.final_epoch], its.states[its.final_epoch])
        assert mine.accuracy == its.accuracy
    own = [shared.study.of(role, 0, shared.layer).fingerprint for role in "TSB"]
    assert again.stored_seconds() > 0 == sum(shared.study._seconds[net] for net in own)
    assert again.of("B", 0, shared.layer) is again.of("B", 0, None)
    assert len(again.store.asked) == 6  # a network is looked up once in a process


def test_the_way_of_training_in_each_unit(shared):
    """Steps wander, so that their sum is never below that of epochs."""
    evidence = shared.evidence
    for role in "SB":
        epoch, step, share, time = (np.array(evidence.distance[role, unit]) for unit in UNITS)
        np.testing.assert_allclose(share, epoch / epoch[:, -1:])
        np.testing.assert_allclose(time, [np.array(evidence.epochs) / evidence.epochs[-1]])
        assert (share[:, -1] == 1).all() and not np.allclose(share, epoch)
        assert (epoch[:, 0] == 0).all() and (step[:, 1:] > epoch[:, 1:]).all()


# What is changed by parameters: teacher, student, baseline, and the maps of the baseline.
ALL, TRAINED, MAPS = "T S B maps", "S B maps", "maps"
OF_ALL = {
    ALL: {"seeds": [1], "batch": 8, "precision": "bfloat16", "deterministic": True},
    "T S": {"teacher_epochs": 3, "teachers": [5]},
    "S": {"head_epochs": 2},
    TRAINED: {"epochs": 3, "checkpoints": [0, 2]},
    MAPS: {"samples": 5, "measured_on": "test", "method": "optimum", "probes": 12},
    "": {"threshold": 0.15, "device": "auto", "chunk": 12, "followed": 2},
}
# A network's scores are stored with it, so what texts and clouds are tested on counts.
OF_TEXTS = {
    ALL: {"depth": 2, "longest": 200, "teacher_samples": 104, "test_samples": 24},
    TRAINED: {"fraction": 0.4},
    MAPS: {"noise": 0.5},
}
OF_IMAGES = {
    ALL: {"network": "AlexNet", "scale": "full", "classes": 8, "image_size": 40}
    | {"teacher_samples": 252, "recipe": "published", "augment": "all"},
    TRAINED: {"fraction": 0.4},
    "S maps": {"layers": ["Conv"]},
    MAPS: {"grid": 16},
}
OF_CLOUDS = {
    ALL: {"network": "DGCNN", "scale": "full", "shapes": "components", "points": 91}
    | {"background": 41, "distance": 0.5, "turn": 30.0}
    | {"teacher_samples": 104, "test_samples": 24},
    TRAINED: {"fraction": 0.3, "layers": ["FC2"]},
    MAPS: {"choices": "recomputed"},
}
TABLES = {
    "image": [OF_ALL, OF_IMAGES],
    "sentiment": [OF_ALL, OF_TEXTS, {ALL: {"least_rating": 1.2}}],
    "PointNet": [OF_ALL, OF_CLOUDS],
}


@pytest.mark.parametrize("kind", TABLES)  # of questions it is the code of sentences
def test_what_each_parameter_changes(kind, tmp_path, tiny_model, all_studies, monkeypatch):
    """And no other does but `data`, `compiled` and pretrained networks, tested on their own."""
    drawn = functools.cache(kpnb.study.image.embedded_images)
    monkeypatch.setattr(kpnb.study.image, "embedded_images", drawn)
    parameters = all_studies(kind).study.parameters
    unchanged = fingerprints(kind, tmp_path, tiny_model)
    seen = {name for values in OF_ALL.values() for name in values}
    for changed, values in (row for table in TABLES[kind] for row in table.items()):
        for name, value in values.items():
            seen.add(name)
            if name == "device" and torch.cuda.is_available():
                continue  # auto is the GPU here
            assert getattr(parameters, name) != value
            found = fingerprints(kind, tmp_path, tiny_model, **{name: value})
            assert differing(unchanged, found) == changed.split(), name
    own = {"image": {"teacher", "pretrained"}, "sentiment": {"layers", "network"}}.get(kind, set())
    assert set(type(parameters).model_fields) - seen == {"preset", "data", "compiled"} | own
    demo = parameters.model_dump() | {"preset": "demo", "seeds": [0, 2, 1]}
    if kind == "sentiment":
        assert demo.pop("network") == tiny_model
    assert fingerprints(kind, tmp_path, tiny_model, **demo) == unchanged


@pytest.mark.parametrize(
    "followed, counts", [(None, "666"), (9, "666"), (2, "226"), (0, "6")], ids=str
)
def test_training_is_followed_on_the_first_samples_and_ends_with_all(
    followed, counts, smoke, monkeypatch
):
    def maps(study, trained, layer, epochs=None, count=6):
        return dict.fromkeys(trained.states if epochs is None else epochs, count)

    monkeypatch.setattr(Study, "maps", maps)
    parameters = smoke.study.parameters.model_copy(update={"followed": followed})
    study, trained = replace(smoke.study, parameters=parameters), smoke.study.of("B", 0)
    found = study.trail(trained, "FC1")
    assert "".join(str(found[epoch]) for epoch in sorted(found)) == counts and found[2] == 6
    assert set(study.trail(smoke.study.of("T", 0), "FC1").values()) == {6}


# By modality: a line that is told; the lower seed's score of teachers, and scores of baselines,
# with which a study is void, and such with which it is not. Limits are chance for images and
# shapes, TF-IDF's 80% for sentences, and the baselines' mean.
TEACHERS = {
    "image": ("chance 8.3%", [(0.34, 0.35), (0.08, 0.06)], [(0.36, 0.35), (0.09, 0.06)]),
    "PointNet": ("chance 10.0%", [(0.35, 0.35)], [(0.36, 0.35)]),
    "sentiment": ("TF-IDF, 50 sentences 80.0%", [(0.64, 0.65), (0.8, 0.65)], [(0.81, 0.65)]),
    "qa": ("", [(0.15, 0.15)], [(0.16, 0.15)]),
}


@every_modality
def test_a_bad_teacher_voids_the_study(kind, tmp_path, monkeypatch, tiny_model, all_studies):
    assert "smoke" in all_studies(kind).study.check_teacher()  # which claims nothing
    changed = {"preset": "study", "seeds": [0, 1], "fraction": 0.5}
    study, (line, void, fit) = study_of(kind, tmp_path, tiny_model, **changed), TEACHERS[kind]
    monkeypatch.setattr("kpnb.study.text.tfidf_logistic", lambda *_: 0.8)
    for low, baseline in void + fit:
        found = {"T": {"test": [0.9, low]}, "B": {"test": [baseline - 0.05, baseline + 0.05]}}
        monkeypatch.setattr(type(study), "accuracies", lambda s, role, layer=None, f=found: f[role])
        told = f"teacher 90.0% / {low:.1%}, baseline"
        if (low, baseline) in void:
            refuses(study.check_teacher, f"void.*{told}.*teacher_epochs or teacher_samples")
            continue
        said = study.check_teacher()
        assert told in said and line in said and ("TF-IDF" in said) == (kind == "sentiment")
        assert said.startswith(f"The teacher is fit to teach; {study.SCORE} on unseen samples")


def test_training_that_stopped_goes_on_and_changes_no_bit(tmp_path, monkeypatch, all_studies):
    shared = all_studies("PointNet")
    before = shared.study.of("B", 0).fingerprint
    part = tmp_path / "networks" / f"{before}.part"
    run_epoch, epochs = kpnb.training.train._run_epoch, []

    def counting(epoch, *given):
        epochs.append(epoch)
        if epochs == [1, 2]:
            raise KeyboardInterrupt  # in place of a kill
        run_epoch(epoch, *given)

    monkeypatch.setattr(kpnb.training.train, "_run_epoch", counting)
    study = study_of("PointNet", tmp_path, "")
    with pytest.raises(KeyboardInterrupt):
        study.of("B", 0)
    assert (part / "training.epoch0001").is_dir() and not part.with_suffix("").exists()
    study.of("B", 0)
    assert epochs == [1, 2, 2]  # the first epoch once only
    again, kept = (root / "networks" / before / TENSORS for root in (tmp_path, shared.root))
    assert again.read_bytes() == kept.read_bytes() and not part.exists()


def maps_entry(shared: Studied) -> str:
    """The name of the baseline's maps in the shared store, read from what the store was asked."""
    maps = [record for asked, record in shared.study.store.asked if asked == "maps"]
    last = shared.evidence.maps["B"][0][2]
    (own,) = {r.fingerprint for r in maps if same_map(r.tensors.get("0002/sigma"), last)}
    return own


def test_estimation_goes_on_from_what_is_there(tmp_path, all_studies):
    """A doctored checkpoint in the scratch folder shows up: it was not estimated again."""
    shared = all_studies("PointNet")
    shutil.copytree(shared.root / "networks", tmp_path / "networks")
    study, known = study_of("PointNet", tmp_path, ""), shared.evidence.maps["B"][0]
    doctored = {n: t.clone() for n, t in known[1].tensors().items()}
    doctored["sigma"] += 0.5
    Scratch(tmp_path / "maps" / f"{maps_entry(shared)}.part").save("1", doctored, {})
    maps = study.maps(study.of("B", 0), shared.layer)
    assert same_map(doctored["sigma"], maps[1])
    assert all(same_map(maps[epoch].sigma, known[epoch]) for epoch in (0, 2))


@pytest.mark.parametrize("kind", ["networks", "maps"])
def test_a_flipped_byte_is_told_and_redone(tmp_path, kind, all_studies):
    shared = all_studies("PointNet")
    copied = Path(shutil.copytree(shared.root, tmp_path / "store"))
    name = shared.study.of("B", 0).fingerprint if kind == "networks" else maps_entry(shared)
    entry = copied / kind / name / TENSORS
    before = entry.read_bytes()
    content = bytearray(before)
    content[len(content) // 2] ^= 1
    entry.write_bytes(content)
    study = study_of("PointNet", copied, "")
    with pytest.warns(UserWarning, match="damaged") as told:
        study.evidence(shared.layer)
    assert len(told) == 1 and entry.parent.name in str(told[0].message)
    assert study.store.computed() == [kind] and entry.read_bytes() == before

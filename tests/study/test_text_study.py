"""The text studies: what is trained from what, what is stored, and what is refused."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import single_thread
from test_study import TENSORS, entries, same_states
from text_smoke import SIZES, STUDIES, text_study
from text_tiny import tiny_folder

import kpnb.training.train
from kpnb.datasets.texts.encoded import EncodedTexts
from kpnb.datasets.texts.words import word_spans
from kpnb.networks.layers import parameters_above
from kpnb.networks.text import load_encoder, load_tokenizer
from kpnb.store import Scratch
from kpnb.study.findings import Findings
from kpnb.study.text import TextStudy
from kpnb.training.train import accuracy

ROLES = "TSB"
pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass
class Shared:
    """A study of each task on one store; nothing may write to it after the fixture."""

    folder: str
    root: Path
    studies: dict[str, TextStudy]
    evidence: dict[str, object]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder = tiny_folder(tmp_path_factory.mktemp("model"), **SIZES)
    root = tmp_path_factory.mktemp("store")
    studies = {task: text_study(task, folder, root) for task in STUDIES}
    with single_thread():
        evidence = {task: study.evidence("Last") for task, study in studies.items()}
        for study in studies.values():
            study.accuracies("T")
    return Shared(folder, root, studies, evidence)


@pytest.fixture(params=STUDIES)
def task(request) -> str:
    return request.param


@pytest.fixture
def study(shared, task) -> TextStudy:
    return shared.studies[task]


# --- what is trained from what


def test_student_and_baseline_start_from_identical_weights(study):
    student, baseline = (study.of(role, 0, "Last") for role in "SB")
    assert same_states(student.states[0], baseline.states[0])
    assert same_states(baseline.states[0], study.build("B", 0).state_dict())
    assert not same_states(student.states[2], baseline.states[2])
    assert set(study.of("T", 0).states) == {1} and set(student.states) == {0, 1, 2}


def test_another_seed_gives_other_weights(study):
    for role in ROLES:
        one, other = (study.build(role, seed).state_dict() for seed in (0, 1))
        drawn = [n for n, v in one.items() if v.dim() > 1 and (role != "T" or "head" in n)]
        assert drawn and not any(torch.equal(one[name], other[name]) for name in drawn)


def test_the_teacher_starts_from_the_pre_trained_encoder(shared, study):
    net = study.build("T", 0)
    given = load_encoder(shared.folder, study.parameters.depth)
    kept = study.data.encoder.kept
    for name, value in net.encoder.model.state_dict().items():
        expected = given.state_dict()[name]
        assert torch.equal(value, expected[kept] if "word_embeddings" in name else expected), name
    trained = study.network(study.of("T", 0)).state_dict()
    moved = [(trained[n] - v).norm() / v.norm() for n, v in net.state_dict().items() if v.dim() > 1]
    assert 0 < max(moved) < 0.5  # fine-tuned, not trained from anything else


def test_the_student_s_states_are_those_of_the_first_phase(study):
    student = study.of("S", 0, "Last")
    net = study.network(student)
    above = {id(p) for p in parameters_above(net, "Last")}
    assert above
    for name, parameter in net.named_parameters():
        moved = not torch.equal(student.states[0][name], student.states[2][name])
        assert moved == (id(parameter) not in above), name


def test_the_student_s_score_is_taken_after_the_head_was_trained(shared, tmp_path, monkeypatch):
    study = shared.studies["sentiment"]
    shutil.copytree(shared.root / "networks", tmp_path / "networks")
    shutil.rmtree(tmp_path / "networks" / study.of("S", 0, "Last").fingerprint)
    seen = []

    def accuracy(net, ids, labels):
        seen.append({name: value.clone() for name, value in net.state_dict().items()})
        return 0.5

    monkeypatch.setattr("kpnb.study.text.accuracy", accuracy)
    again = text_study("sentiment", shared.folder, tmp_path)
    student = again.of("S", 0, "Last")
    assert again.store.computed() == ["networks"] and student.accuracy["test"] == 0.5
    for name, value in student.states[2].items():
        assert torch.equal(value, seen[0][name]) == name.startswith("encoder"), name


def test_what_student_and_baseline_see_is_the_first_part_of_the_teacher_s(study):
    data, p = study.data, study.parameters
    assert (len(data.teacher_samples), len(data.test_samples)) == (100, 20)
    assert data.training_samples.parts == data.teacher_samples.parts[:50]
    assert set(data.measured.parts) <= set(data.training_samples.parts)
    assert not set(data.test_samples.parts) & set(data.teacher_samples.parts)
    assert data.teacher_samples.pieces.ids.shape[1] <= p.longest


def test_the_vocabulary_holds_every_piece_of_the_texts(shared, study):
    tokenizer, encoder = load_tokenizer(shared.folder), study.data.encoder
    texts = [*study.data.teacher_samples.parts, *study.data.test_samples.parts]
    found = {piece for parts in texts for piece in tokenizer(*parts)["input_ids"]}
    assert found <= set(encoder.kept) == found | set(tokenizer.all_special_ids)
    assert len(encoder) < len(tokenizer)
    table = study.network(study.of("B", 0)).encoder.model.get_input_embeddings()
    assert table.num_embeddings == len(encoder)


# --- what is measured


def test_measured_texts_have_foreground_and_background(study):
    measured, foreground = study.data.measured, study.data.foreground
    units = measured.pieces.units
    assert len(measured) == 4 and foreground.shape == (4, max(units))
    for row, count in enumerate(units):
        own = foreground[row, :count]
        assert own.any() and not own.all() and not foreground[row, count:].any()
        assert count == sum(len(word_spans(text)) for text in measured.parts[row])
    before = study.data.training_samples.marked[: study.data.training_samples.usable[3]]
    assert sum(any(m) and not all(m) for m in before) == 3  # the first usable ones


def test_texts_of_one_kind_of_words_are_passed_over(shared, tmp_path):
    data = text_study("sentiment", shared.folder, tmp_path).data
    training = data.training_samples
    marked = [(False,) * len(marks) for marks in training.marked]
    marked[3] = (True,) * len(marked[3])
    for row in (2, 5, 8, 11):
        marked[row] = (True, *marked[row][1:])
    changed = {**training.__dict__, "marked": tuple(marked)}
    data.__dict__["training_samples"] = EncodedTexts(**changed)
    assert data.measured.parts == tuple(training.parts[row] for row in (2, 5, 8, 11))


def test_maps_are_nan_exactly_beyond_the_words(shared, task):
    evidence, measured = shared.evidence[task], shared.studies[task].data.measured
    units = torch.tensor(measured.pieces.units)
    beyond = torch.arange(max(units)) >= units.unsqueeze(1)
    assert beyond.any() and not evidence.foreground[beyond].any()
    for role in ROLES:
        (by_epoch,) = evidence.maps[role]
        assert list(by_epoch) == ([1] if role == "T" else [0, 1, 2])
        for maps in by_epoch.values():
            assert torch.equal(maps.sigma.isnan(), beyond) and maps.defined.all()
            assert (maps.sigma[~beyond] > 0).all()
    untrained = [evidence.maps[role][0][0].sigma[~beyond] for role in "SB"]
    assert torch.equal(*untrained)
    last = [evidence.maps[role][0][2].sigma[~beyond] for role in "SB"]
    assert not torch.equal(*last)


def test_distances_are_those_of_the_records(shared, task):
    for role in "SB":
        record = shared.studies[task].of(role, 0, "Last").record
        distance = shared.evidence[task].distance
        assert distance[role, "step"] == [record.distance_per_step["Last"]]
        step, epoch = (distance[role, unit][0] for unit in ("step", "epoch"))
        assert step[0] == epoch[0] == 0 < epoch[1] < epoch[2] <= step[2]


def test_layer_maps_name_every_layer(shared, tmp_path):
    deep = text_study("sentiment", shared.folder, tmp_path, depth=2, teacher_epochs=1)
    assert list(deep.named_layers) == ["layer 1", "layer 2"]
    student = shared.studies["sentiment"].of("S", 0, "Last")
    few = shared.studies["sentiment"].data.measured.subset([0, 2])
    maps = shared.studies["sentiment"].layer_maps(student, few)
    stored = shared.evidence["sentiment"].maps["S"][0][2].sigma[[0, 2], : max(few.pieces.units)]
    torch.testing.assert_close(maps["layer 1"].sigma, stored, rtol=1e-4, atol=0, equal_nan=True)


def test_scores_of_the_samples_at_hand(study, task):
    net, data = study.network(study.of("T", 0)), study.data
    found = study.accuracies("T")
    if task == "sentiment":
        for split, samples in (("train", data.training_samples), ("test", data.test_samples)):
            assert found[split] == [accuracy(net, samples.pieces.ids, samples.labels)]
        assert list(found) == ["train", "test"]
    else:
        assert list(found) == ["train", "train exact_match", "test", "test exact_match"]
        assert all(0 <= found[f"{s} exact_match"][0] <= found[s][0] <= 1 for s in ("train", "test"))


def test_findings_name_scores_samples_and_network(study, task):
    findings = Findings(study, f"{task}_h1", 1)
    findings.add_accuracies(["Last"])
    scores = {"sentiment": ["accuracy"], "qa": ["F1", "exact match"]}[task]
    networks = ["teacher", "baseline", "student (Last)"]
    splits = ("training", "unseen")
    expected = [(net, split, score) for net in networks for split in splits for score in scores]
    table = findings.accuracy_table()
    assert list(table.index) == expected
    assert list(table["n samples"]) == [n for _ in networks for n in (50, 20) for _ in scores]
    measure = findings.measures[0]
    assert measure.sample == {"sentiment": "sentence", "qa": "question"}[task]
    assert (measure.network, measure.scale) == ("BERT-like encoder, 1 layer", "narrow")
    assert findings.results().provenance["code"] == [type(study).__name__, "Findings"]


# --- what is stored


def test_the_same_study_again_comes_from_the_store(shared, task):
    again = text_study(task, shared.folder, shared.root, threshold=0.3)
    evidence = again.evidence("Last")
    kinds = sorted(kind for kind, _ in again.store.asked)
    assert again.store.computed() == [] and kinds == ["maps"] * 3 + ["networks"] * 3
    for role in ROLES:
        for epoch, maps in shared.evidence[task].maps[role][0].items():
            same = evidence.maps[role][0][epoch].sigma
            assert torch.equal(maps.sigma.nan_to_num(), same.nan_to_num())
    assert again.stored_seconds() > 0 == shared.studies[task].stored_seconds()


class StopError(Exception):
    """In place of a kill."""


def test_training_that_stopped_goes_on_and_changes_no_bit(shared, tmp_path, monkeypatch, task):
    before = shared.studies[task].of("B", 0).fingerprint
    part = tmp_path / "networks" / f"{before}.part"
    run_epoch, epochs = kpnb.training.train._Loop.run_epoch, []

    def counting(loop, epoch):
        epochs.append(epoch)
        if epochs == [1, 2]:
            raise StopError
        run_epoch(loop, epoch)

    monkeypatch.setattr(kpnb.training.train._Loop, "run_epoch", counting)
    study = text_study(task, shared.folder, tmp_path)
    with pytest.raises(StopError):
        study.of("B", 0)
    assert (part / "training.epoch0001").is_dir() and not part.with_suffix("").exists()
    study.of("B", 0)
    assert epochs == [1, 2, 2]  # the first epoch once only
    (entry,) = entries(tmp_path, "networks")
    kept = shared.root / "networks" / before / TENSORS
    assert (entry / TENSORS).read_bytes() == kept.read_bytes() and not part.exists()


def test_estimation_goes_on_from_what_is_there(shared, tmp_path):
    """A doctored checkpoint in the scratch folder shows up: it was not estimated again."""
    shutil.copytree(shared.root / "networks", tmp_path / "networks")
    study, known = text_study("qa", shared.folder, tmp_path), shared.studies["qa"]
    first = shared.evidence["qa"].maps["B"][0]
    doctored = {name: t.clone() for name, t in first[1].tensors().items()}
    doctored["sigma"] += 0.5
    of_maps = [record for kind, record in known.store.asked if kind == "maps"]
    (own,) = {r.fingerprint for r in of_maps if same_map(r.tensors.get("0002/sigma"), first[2])}
    Scratch(tmp_path / "maps" / f"{own}.part").save("1", doctored, {})
    maps = study.maps(study.of("B", 0), "Last")
    assert same_map(doctored["sigma"], maps[1])
    assert all(same_map(maps[epoch].sigma, first[epoch]) for epoch in (0, 2))


def same_map(sigma, maps) -> bool:
    return sigma is not None and torch.equal(sigma.nan_to_num(), maps.sigma.nan_to_num())

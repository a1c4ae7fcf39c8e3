"""Text studies: vocabulary, which texts are measured, scores, real data, and what is refused."""

import pytest
import torch
from data_trees import release, squad_tree
from studied import differing, fingerprints
from text_smoke import SIZES, STUDIES, text_study
from text_tiny import tiny_folder

from kpnb.datasets.texts.encoded import EncodedTexts
from kpnb.datasets.texts.words import word_spans
from kpnb.networks.text import load_encoder, load_tokenizer
from kpnb.study.text import TextStudy

ALL = ["T", "S", "B", "maps"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=STUDIES)
def task(request) -> str:
    return request.param


@pytest.fixture
def study(all_studies, task) -> TextStudy:
    return all_studies(task).study


@pytest.fixture(scope="module")
def unchanged(tiny_model, tmp_path_factory):
    root = tmp_path_factory.mktemp("keys")
    return {task: fingerprints(task, root, tiny_model) for task in STUDIES}


def test_the_teacher_starts_from_the_pre_trained_encoder(tiny_model, study):
    net = study.build("T", 0)
    given = load_encoder(tiny_model, study.parameters.depth)
    kept = study.data.encoder.kept
    for name, value in net.encoder.model.state_dict().items():
        expected = given.state_dict()[name]
        assert torch.equal(value, expected[kept] if "word_embeddings" in name else expected), name
    trained = study.network(study.of("T", 0)).state_dict()
    moved = [(trained[n] - v).norm() / v.norm() for n, v in net.state_dict().items() if v.dim() > 1]
    assert 0 < max(moved) < 0.5  # fine-tuned, not trained from anything else


def test_what_student_and_baseline_see_is_the_first_part_of_the_teacher_s(tiny_model, study):
    """The vocabulary holds every piece of the texts."""
    data, p = study.data, study.parameters
    assert (len(data.teacher_samples), len(data.test_samples)) == (100, 20)
    assert data.training_samples.parts == data.teacher_samples.parts[:50]
    assert set(data.measured.parts) <= set(data.training_samples.parts)
    assert not set(data.test_samples.parts) & set(data.teacher_samples.parts)
    assert data.teacher_samples.pieces.ids.shape[1] <= p.longest
    tokenizer, encoder = load_tokenizer(tiny_model), data.encoder
    texts = [*data.teacher_samples.parts, *data.test_samples.parts]
    found = {piece for parts in texts for piece in tokenizer(*parts)["input_ids"]}
    assert found <= set(encoder.kept) == found | set(tokenizer.all_special_ids)
    table = study.network(study.of("B", 0)).encoder.model.get_input_embeddings()
    assert table.num_embeddings == len(encoder) < len(tokenizer)


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


def test_texts_of_one_kind_of_words_are_passed_over(tiny_model, tmp_path):
    data = text_study("sentiment", tiny_model, tmp_path).data
    training = data.training_samples
    marked = [(False,) * len(marks) for marks in training.marked]
    marked[3] = (True,) * len(marked[3])
    for row in (2, 5, 8, 11):
        marked[row] = (True, *marked[row][1:])
    changed = {**training.__dict__, "marked": tuple(marked)}
    data.__dict__["training_samples"] = EncodedTexts(**changed)
    assert data.measured.parts == tuple(training.parts[row] for row in (2, 5, 8, 11))


def test_maps_are_nan_exactly_beyond_the_words(all_studies, task):
    shared = all_studies(task)
    evidence, measured = shared.evidence, shared.study.data.measured
    units = torch.tensor(measured.pieces.units)
    beyond = torch.arange(max(units)) >= units.unsqueeze(1)
    assert beyond.any() and not evidence.foreground[beyond].any()
    for maps in (maps for role in "TSB" for maps in evidence.maps[role][0].values()):
        assert torch.equal(maps.sigma.isnan(), beyond) and maps.defined.all()
        assert (maps.sigma[~beyond] > 0).all()


def test_layers_have_names(tiny_model, tmp_path):
    deep = text_study("sentiment", tiny_model, tmp_path, depth=2)
    assert list(deep.named_layers) == ["layer 1", "layer 2"]


def test_another_model_changes_all_and_its_copy_nothing(tiny_model, tmp_path, unchanged):
    other = tiny_folder(tmp_path, "other", seed=1, **SIZES)
    same = tiny_folder(tmp_path, "same", **SIZES)
    found = [fingerprints("sentiment", tmp_path, model) for model in (other, same)]
    assert differing(unchanged["sentiment"], found[0]) == ALL
    assert found[1] == unchanged["sentiment"]


def test_the_texts_of_a_folder_are_what_is_learned_and_tested_on(tiny_model, tmp_path):
    """Where the training file is the same, the scores stored with a network are not."""
    trees = [squad_tree(tmp_path / str(dev), dev) for dev in (30, 31)]
    one, two = (fingerprints("qa", tmp_path, tiny_model, data=str(tree)) for tree in trees)
    assert differing(one, two) == ALL
    study = text_study("qa", tiny_model, tmp_path, data=str(trees[0]))
    assert all("Moon" in t or "?" in t for parts in study.data.teacher_samples.parts for t in parts)
    study = text_study("sentiment", tiny_model, tmp_path, data=str(release(tmp_path)))
    assert all("film" in text for (text,) in study.data.teacher_samples.parts)


def test_what_the_sentiment_teacher_must_beat(tiny_model, tmp_path):
    study = text_study("sentiment", tiny_model, tmp_path)
    lines, data = study.reference_lines, study.data
    assert list(lines) == ["majority", "TF-IDF, 100 sentences", "TF-IDF, 50 sentences"]
    share = data.test_samples.labels.double().mean().item()
    assert lines["majority"] in (pytest.approx(share), pytest.approx(1 - share))
    assert study.least_teacher == max(lines.values())
    assert text_study("qa", tiny_model, tmp_path).reference_lines == {}

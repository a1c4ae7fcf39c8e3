"""Text studies: vocabulary, which texts are measured, their maps, and what a teacher must beat."""

import pytest
import torch
from studied import Studied, differing, fingerprints
from text_smoke import SIZES, STUDIES, text_study
from text_tiny import tiny_folder

from kpnb.datasets.texts.word_pieces import word_spans
from kpnb.networks.text import load_encoder, load_tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=STUDIES)
def shared(request, all_studies) -> Studied:
    return all_studies(request.param)


def test_the_teacher_starts_from_the_pre_trained_encoder(tiny_model, shared):
    study = shared.study
    net = study.build("T", 0)
    given = load_encoder(tiny_model, study.parameters.depth)
    kept = study.data.encoder.kept
    for name, value in net.encoder.model.state_dict().items():
        expected = given.state_dict()[name]
        assert torch.equal(value, expected[kept] if "word_embeddings" in name else expected), name
    trained = study.network(study.of("T", 0)).state_dict()
    moved = [(trained[n] - v).norm() / v.norm() for n, v in net.state_dict().items() if v.dim() > 1]
    assert 0 < max(moved) < 0.5  # fine-tuned, not trained from anything else


def test_what_student_and_baseline_see_is_the_first_part_of_the_teacher_s(tiny_model, shared):
    """The vocabulary holds every piece of the texts."""
    study, data, p = shared.study, shared.study.data, shared.study.parameters
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


def test_measured_texts_have_foreground_and_background_and_maps_of_their_words(shared):
    data, measured = shared.study.data, shared.study.data.measured
    units = torch.tensor(measured.pieces.units)
    beyond = torch.arange(max(units)) >= units.unsqueeze(1)
    assert len(measured) == 4 and data.foreground.shape == beyond.shape
    assert beyond.any() and not data.foreground[beyond].any()
    for row, count in enumerate(units.tolist()):
        own = data.foreground[row, :count]
        assert own.any() and not own.all()
        assert count == sum(len(word_spans(text)) for text in measured.parts[row])
    before = data.training_samples.marked[: data.training_samples.usable[3]]
    assert sum(any(m) and not all(m) for m in before) == 3  # the first usable ones
    for maps in (maps for role in "TSB" for maps in shared.evidence.maps[role][0].values()):
        assert torch.equal(maps.sigma.isnan(), beyond) and maps.defined.all()
        assert (maps.sigma[~beyond] > 0).all()


def test_another_model_changes_all_its_copy_nothing_and_what_must_be_beaten(tiny_model, tmp_path):
    other = tiny_folder(tmp_path, "other", seed=1, **SIZES)
    same = tiny_folder(tmp_path, "same", **SIZES)
    one, two, three = (fingerprints("sentiment", tmp_path, m) for m in (tiny_model, other, same))
    assert differing(one, two) == ["T", "S", "B", "maps"] and one == three
    deep = text_study("sentiment", tiny_model, tmp_path, depth=2)
    assert list(deep.named_layers) == ["layer 1", "layer 2"]
    # What the sentiment teacher must beat.
    study = text_study("sentiment", tiny_model, tmp_path)
    lines, data = study.reference_lines, study.data
    assert list(lines) == ["majority", "TF-IDF, 100 sentences", "TF-IDF, 50 sentences"]
    share = data.test_samples.labels.double().mean().item()
    assert lines["majority"] in (pytest.approx(share), pytest.approx(1 - share))
    assert text_study("qa", tiny_model, tmp_path).reference_lines == {}

"""Text studies: vocabulary, which texts are measured, scores, real data, and what is refused."""

import pytest
import torch
from data_trees import release, squad_tree
from studied import differing, fingerprints, refused
from text_smoke import LONGEST, SIZES, STUDIES, text_study
from text_tiny import tiny_folder

from kpnb.datasets.texts.encoded import EncodedTexts
from kpnb.datasets.texts.words import word_spans
from kpnb.networks.text import load_encoder, load_tokenizer
from kpnb.study.findings import Findings
from kpnb.study.text import TextStudy
from kpnb.training.train import accuracy

ALL = ["T", "S", "B", "maps"]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(params=STUDIES)
def task(request) -> str:
    return request.param


@pytest.fixture
def study(all_studies, task) -> TextStudy:
    return all_studies(task).study


@pytest.fixture
def sentiment(all_studies):
    return all_studies("sentiment")


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


def test_what_student_and_baseline_see_is_the_first_part_of_the_teacher_s(study):
    data, p = study.data, study.parameters
    assert (len(data.teacher_samples), len(data.test_samples)) == (100, 20)
    assert data.training_samples.parts == data.teacher_samples.parts[:50]
    assert set(data.measured.parts) <= set(data.training_samples.parts)
    assert not set(data.test_samples.parts) & set(data.teacher_samples.parts)
    assert data.teacher_samples.pieces.ids.shape[1] <= p.longest


def test_the_vocabulary_holds_every_piece_of_the_texts(tiny_model, study):
    tokenizer, encoder = load_tokenizer(tiny_model), study.data.encoder
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


def test_texts_of_one_kind_of_words_are_passed_over(sentiment, tiny_model, tmp_path):
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
    evidence, measured = all_studies(task).evidence, all_studies(task).study.data.measured
    units = torch.tensor(measured.pieces.units)
    beyond = torch.arange(max(units)) >= units.unsqueeze(1)
    assert beyond.any() and not evidence.foreground[beyond].any()
    for role in "TSB":
        (by_epoch,) = evidence.maps[role]
        for maps in by_epoch.values():
            assert torch.equal(maps.sigma.isnan(), beyond) and maps.defined.all()
            assert (maps.sigma[~beyond] > 0).all()


def test_layer_maps_name_every_layer(sentiment, tiny_model, tmp_path):
    deep = text_study("sentiment", tiny_model, tmp_path, depth=2)
    assert list(deep.named_layers) == ["layer 1", "layer 2"]
    student = sentiment.study.of("S", 0, "Last")
    few = sentiment.study.data.measured.subset([0, 2])
    maps = sentiment.study.layer_maps(student, few)
    stored = sentiment.evidence.maps["S"][0][2].sigma[[0, 2], : max(few.pieces.units)]
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
    assert findings.code == (type(study).__name__, "Findings")


def test_another_model_changes_all_and_its_copy_nothing(tiny_model, tmp_path, unchanged):
    other = tiny_folder(tmp_path, "other", seed=1, **SIZES)
    same = tiny_folder(tmp_path, "same", **SIZES)
    found = [fingerprints("sentiment", tmp_path, model) for model in (other, same)]
    assert differing(unchanged["sentiment"], found[0]) == ALL
    assert found[1] == unchanged["sentiment"]


# --- folders with the paper's data


FILES = {"sentiment": release, "qa": squad_tree}
NAMES = {"sentiment": "SST-2", "qa": "SQuAD"}


def test_a_folder_of_the_public_data_works_from_end_to_end(task, tiny_model, tmp_path, unchanged):
    """Its place does not count, its texts do."""
    data = str(FILES[task](tmp_path))
    study = text_study(task, tiny_model, tmp_path / "store", data=data, epochs=1, samples=2)
    evidence = study.evidence("Last")
    assert study.dataset == NAMES[task]
    for role in "TSB":
        maps = evidence.maps[role][0][1]
        assert len(maps.sigma) == 2 and maps.defined.all()
    assert all(0 <= score <= 1 for score in study.accuracies("T")["test"])
    texts = [part for parts in study.data.teacher_samples.parts for part in parts]
    assert all("film" in t or "Moon" in t or "?" in t for t in texts)
    (tmp_path / "two").mkdir()
    trees = [data, str(FILES[task](tmp_path / "two"))]
    one, two = (fingerprints(task, tmp_path, tiny_model, data=tree) for tree in trees)
    assert one == two and differing(unchanged[task], one) == ALL


def test_other_questions_to_test_on_change_the_networks_entries(tiny_model, tmp_path):
    """The training file is the same; the scores stored with a network are not."""
    trees = [squad_tree(tmp_path / str(dev), dev) for dev in (30, 31)]
    one, two = (fingerprints("qa", tmp_path, tiny_model, data=str(tree)) for tree in trees)
    assert differing(one, two) == ALL


def test_measured_on_held_out_texts(tiny_model, tmp_path):
    study = text_study("sentiment", tiny_model, tmp_path, measured_on="test", samples=2)
    assert study.dataset == "embedded sentences (held out)"
    assert set(study.data.measured.parts) <= set(study.data.test_samples.parts)


NO_FILE = {"sentiment": "SST|dictionary|sentence", "qa": "train"}
FOLDER = "no text model .*absent.* MiniLM-L6, BERT-base"


def test_what_is_refused(task, tiny_model, tmp_path):
    """More texts than fit, a wrong folder of a model or of data; before anything is trained."""
    absent, empty = str(tmp_path / "absent"), tmp_path / "empty"
    empty.mkdir()
    for given, told in (
        ({"longest": 16}, "100 train samples are wanted, but only [0-9]+ fit 16 pieces: raise lon"),
        ({"test_samples": 10**5}, f"100000 test samples .* fit {LONGEST[task]} pieces"),
        ({"network": absent}, FOLDER),
        ({"network": str(empty)}, "empty lacks config.json"),
        ({"depth": 3}, "layers=3 does not fit .* it has 2 layers"),
        ({"data": absent}, "is no folder and no known name"),
        ({"data": str(empty)}, NO_FILE[task]),
    ):
        study = text_study(task, given.pop("network", tiny_model), tmp_path / "store", **given)
        refused(lambda s=study: s.evidence("Last"), told)
    assert not list((tmp_path / "store").glob("networks/*/manifest.json"))


def test_what_the_sentiment_teacher_must_beat(tiny_model, tmp_path):
    study = text_study("sentiment", tiny_model, tmp_path)
    lines, data = study.reference_lines, study.data
    assert list(lines) == ["majority", "TF-IDF, 100 sentences", "TF-IDF, 50 sentences"]
    share = data.test_samples.labels.double().mean().item()
    assert lines["majority"] in (pytest.approx(share), pytest.approx(1 - share))
    assert study.least_teacher == max(lines.values())
    assert text_study("qa", tiny_model, tmp_path).reference_lines == {}

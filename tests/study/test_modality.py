"""What every modality says of itself; data sets of one's own; and what is refused."""

from collections import namedtuple
from pathlib import Path

import pytest
import torch
from data_trees import off_tree, release, squad_tree
from public_files import box
from refusals import refuses
from studied import MODALITIES, differing, fingerprints, study_of

from kpnb.study.findings import Findings
from kpnb.study.image import TEST_SAMPLES
from kpnb.training.train import accuracy

every_modality = pytest.mark.parametrize("kind", MODALITIES)
pytestmark = pytest.mark.usefixtures("one_thread", "few_test_images")


# Of a study at its smoke settings: what a sample is called; samples trained and tested on; scores;
# names of network, data and unseen data; layers; the study's class.
Said = namedtuple("Said", "sample counts scores network dataset unseen layers code")
BERT, FURNITURE = "BERT-like encoder, 1 layer", "embedded clouds of furniture"
SAID = {
    "image": Said("image", (120, *[TEST_SAMPLES] * 2), ["accuracy"], "VGG-11", "embedded images",
                  "unseen objects", ["Conv", "FC1", "FC2", "FC3"], "ImageStudy"),
    "sentiment": Said("sentence", (50, 20), ["accuracy"], BERT, "embedded sentences", "held out",
                      ["layer 1"], "SentimentStudy"),
    "qa": Said("question", (50, 20), ["F1", "exact match"], BERT, "embedded questions", "held out",
               ["layer 1"], "QuestionStudy"),
    "PointNet": Said("cloud", (40, 20), ["accuracy"], "PointNet", FURNITURE, "unseen shapes",
                     ["FC1", "FC2", "FC3"], "CloudStudy"),
}  # fmt: skip


@every_modality
def test_findings_name_scores_samples_and_network(kind, all_studies):
    shared, said = all_studies(kind), SAID[kind]
    findings = Findings(shared.study, f"{kind}_h1", 1)
    findings.add_accuracies([shared.layer])
    networks = ["teacher", "baseline", f"student ({shared.layer})"]
    table, scores = findings.accuracy_table(), said.scores
    places = ("training", "unseen", "new")[: len(said.counts)]
    rows = [(n, s, score) for n in networks for s in places for score in scores]
    assert list(table.index) == rows
    assert list(table["n samples"]) == [n for _ in networks for n in said.counts for _ in scores]
    told = findings.measures[0]
    assert (told.sample, told.network, told.scale) == (said.sample, said.network, "narrow")
    assert told.dataset == said.dataset and findings.code == (said.code, "Findings")
    # The scores are of the samples at hand.
    study = shared.study
    found, data, net = study.accuracies("T"), study.data, study.network(study.of("T", 0))
    if kind == "qa":
        assert list(found) == ["train", "train exact_match", "test", "test exact_match"]
        assert all(0 <= found[f"{s} exact_match"][0] <= found[s][0] <= 1 for s in ("train", "test"))
        return
    assert list(found) == list(data.splits) == ["train", "test", "new"][: len(said.counts)]
    for split, samples in data.splits.items():
        assert found[split] == [accuracy(net, study.inputs(samples), samples.labels)]


@every_modality
def test_maps_of_the_named_layers(kind, all_studies):
    shared, few = all_studies(kind), [0, 2]
    samples = shared.study.data.measured.subset(few)
    maps = shared.study.layer_maps(shared.study.of("S", 0, shared.layer), samples)
    assert list(maps) == SAID[kind].layers
    found = maps.get(shared.layer, maps.get("layer 1")).entropy
    stored = shared.evidence.maps["S"][0][2].entropy[few, : found.shape[1]]
    # Kernels round otherwise in batches of other sizes, and a ReLU may open or stay closed by it.
    torch.testing.assert_close(found, stored, rtol=0, atol=0.01, equal_nan=True)
    assert len(maps) == 1 or not torch.allclose(found, maps["FC2"].entropy, rtol=0, atol=0.01)


@every_modality
def test_unseen_samples_are_measured_on_request(kind, tmp_path, tiny_model):
    study = study_of(kind, tmp_path, tiny_model, measured_on="test", samples=2)
    assert study.dataset == f"{SAID[kind].dataset} ({SAID[kind].unseen})"
    measured, tested = study.data.measured, study.data.test_samples
    assert measured.source != tested.source and measured.source["split"] == tested.source["split"]
    assert study.data.training_samples.source["split"] != measured.source["split"]


def more_to_test(root) -> str:
    (Path(tree := off_tree(root)) / "bed" / "test" / "bed_0005.off").write_text(box(1, 2, 3))
    return tree


# By modality: name, folder, and another in which (but for sentences) only the test part differs.
FOLDERS = {
    "sentiment": ("SST-2", release, lambda root: release(root, "fine")),
    "qa": ("SQuAD", squad_tree, lambda root: squad_tree(root, 31)),
    "PointNet": ("ModelNet40", off_tree, more_to_test),
}
ALL = ["T", "S", "B", "maps"]
NO_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_the_public_data_works_and_its_content_counts(kind, tiny_model, tmp_path):
    """Its place does not, what is tested on does: scores are stored with a network."""
    (name, make, changed), trees = FOLDERS[kind], []
    for place, write in (("one", make), ("two", make), ("three", changed)):
        (tmp_path / place).mkdir()
        trees.append(str(write(tmp_path / place)))
    study = study_of(kind, tmp_path, tiny_model, data=trees[0], teacher_epochs=1, samples=2)
    (layer,), data = study.parameters.layers, study.data
    maps = study.maps(study.of("T", 0), layer)[1]
    assert study.dataset == name and len(data.teacher_samples) == 100
    assert len(maps.sigma) == 2 and maps.defined.all()
    assert all(0 <= score <= 1 for score in study.accuracies("T")["test"])
    if kind == "PointNet":
        assert data.teacher_samples.class_names == ("bed", "lamp", "table")
        assert study.reference_lines == {"chance": pytest.approx(1 / 3)}
        assert study.build("T", 0).classifier[-1].out_features == 3
    else:
        texts = [text for parts in data.teacher_samples.parts for text in parts]
        assert all("film" in text or "Moon" in text or "?" in text for text in texts)
    one, two, other = (fingerprints(kind, tmp_path, tiny_model, data=tree) for tree in trees)
    assert one == two and differing(one, other) == ALL
    assert differing(one, fingerprints(kind, tmp_path, tiny_model)) == ALL


@pytest.mark.parametrize(
    "kind, given, told",
    [
        *((kind, {"data": "absent"}, "is no folder and no known name") for kind in FOLDERS),
        ("sentiment", {"data": "empty"}, "SST|dictionary|sentence"),
        ("qa", {"data": "empty"}, "train"),
        ("PointNet", {"data": "empty"}, "empty has no class .* the folder of ModelNet40"),
        ("qa", {"longest": 16}, "100 train samples are wanted, but only [0-9]+ fit 16 pieces: rai"),
        ("sentiment", {"test_samples": 10**5}, "100000 test samples .* fit 96 pieces"),
        (
            "qa",
            {"network": "absent"},
            "'.*absent': give MiniLM-L6, BERT-base or a folder",
        ),
        ("qa", {"network": "empty"}, "network is '.*empty': give MiniLM-L6"),
        ("qa", {"depth": 3}, "layers=3 does not fit .* it has 2 layers"),
        ("PointConv", {"points": 64, "background": 30}, "94 points cannot give 128 centroids"),
        ("image", {"samples": 121}, "samples=121 images .* only 1[0-2][0-9] .* teacher_samples or"),
        ("qa", {"samples": 51}, "samples=51 questions .* only [1-5]?[0-9] .* raise teacher_sa"),
        ("image", {"samples": 61, "measured_on": "test"}, "are there to measure; ask for fewer"),
        # The test clouds are as many as test_samples asks for: another remedy than for training.
        ("PointNet", {"samples": 21, "measured_on": "test"}, "only 20 .* or raise test_samples"),
        pytest.param("PointNet", {"device": "cuda"}, "no GPU .* pass device='cpu'", marks=NO_GPU),
    ],
)
def test_what_is_refused_before_anything_is_trained(kind, given, told, tiny_model, tmp_path):
    (tmp_path / "empty").mkdir()
    given = {n: str(tmp_path / v) if v in ("absent", "empty") else v for n, v in given.items()}
    network = given.pop("network", tiny_model)

    def asked():
        study = study_of(kind, tmp_path / "store", network, **given)
        return study.data.measured, study.of("B", 0)

    refuses(asked, told)
    assert not list((tmp_path / "store").glob("networks/*/manifest.json"))

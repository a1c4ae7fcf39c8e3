"""What every modality says of itself: its data, names, scores and layers; data sets of one's own;
and what is refused."""

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from data_trees import off_tree, release, squad_tree
from studied import MODALITIES, differing, fingerprints, refused, study_of

from kpnb.study.findings import Findings
from kpnb.study.modality import StudyData
from kpnb.training.train import accuracy

every_modality = pytest.mark.parametrize("kind", MODALITIES)
pytestmark = pytest.mark.usefixtures("one_thread")


@dataclass(frozen=True)
class Numbered:
    """Samples that are their numbers."""

    numbers: tuple
    source: tuple = ()

    def __len__(self):
        return len(self.numbers)

    def subset(self, index):
        return Numbered(tuple(self.numbers[i] for i in index))

    def fraction(self, share, seed):
        return Numbered(self.numbers[: round(share * len(self))])

    @property
    def foreground(self):
        return torch.tensor(self.numbers) > 0


class Data(StudyData):
    hashes, title = {}, "numbers"

    @property
    def teacher_samples(self):
        return Numbered(tuple(range(10)))

    @property
    def test_samples(self):
        return Numbered((20, 21, 22))

    def usable(self, samples):
        return [place for place, number in enumerate(samples.numbers) if number % 2 == 0]


def data(**changed):
    about = {"fraction": 0.5, "measured_on": "train", "samples": 2, "SAMPLE": "number"}
    return Data(SimpleNamespace(**about | changed))


def test_the_first_usable_samples_are_measured():
    assert data().training_samples.numbers == (0, 1, 2, 3, 4)
    assert data().measured.numbers == (0, 2)
    assert data(measured_on="test").measured.numbers == (20, 22)
    assert data(samples=3).foreground.tolist() == [False, True, True]


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"samples": 4}, "only 3 are there to measure; .* raise teacher_samples or fraction"),
        ({"samples": 3, "measured_on": "test"}, "only 2 are there to measure; ask for fewer"),
        ({"samples": 3, "measured_on": "test", "test_samples": 3}, "or raise test_samples"),
    ],
)
def test_too_few_are_refused_with_what_to_do(changed, told):
    refused(lambda: data(**changed).measured, told)


@dataclass
class Said:
    """Of a study at its smoke settings: what one sample is called; samples trained and tested on;
    scores; names of network, data and unseen data; layers; the study's class."""

    sample: str
    counts: tuple[int, int]
    scores: list[str]
    network: str
    dataset: str
    unseen: str
    layers: list[str]
    code: str


BERT, FURNITURE = "BERT-like encoder, 1 layer", "embedded clouds of furniture"
SAID = {
    "image": Said("image", (120, 2000), ["accuracy"], "VGG-11", "embedded images",
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
    splits = ("training", "unseen")
    table, scores = findings.accuracy_table(), said.scores
    assert list(table.index) == [
        (n, s, score) for n in networks for s in splits for score in scores
    ]
    assert list(table["n samples"]) == [n for _ in networks for n in said.counts for _ in scores]
    told = findings.measures[0]
    assert (told.sample, told.network, told.scale) == (said.sample, said.network, "narrow")
    assert told.dataset == said.dataset and findings.code == (said.code, "Findings")


@every_modality
def test_scores_are_of_the_samples_at_hand(kind, all_studies):
    study = all_studies(kind).study
    found, data, net = study.accuracies("T"), study.data, study.network(study.of("T", 0))
    if kind == "qa":
        assert list(found) == ["train", "train exact_match", "test", "test exact_match"]
        assert all(0 <= found[f"{s} exact_match"][0] <= found[s][0] <= 1 for s in ("train", "test"))
        return
    assert list(found) == ["train", "test"]
    for split, samples in (("train", data.training_samples), ("test", data.test_samples)):
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
def test_unseen_samples_are_measured_on_request(kind, tmp_path, tiny_model, monkeypatch):
    monkeypatch.setattr("kpnb.study.image.TEST_SAMPLES", 60)
    study = study_of(kind, tmp_path, tiny_model, measured_on="test", samples=2)
    assert study.dataset == f"{SAID[kind].dataset} ({SAID[kind].unseen})"
    measured, tested = study.data.measured, study.data.test_samples
    assert measured.source != tested.source and measured.source["split"] == tested.source["split"]
    assert study.data.training_samples.source["split"] != measured.source["split"]


# --- the paper's data, in a folder; of images in test_image


FOLDERS = {
    "sentiment": ("SST-2", release),
    "qa": ("SQuAD", squad_tree),
    "PointNet": ("ModelNet40", off_tree),
}
ALL = ["T", "S", "B", "maps"]


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_the_public_data_works_from_end_to_end(kind, tiny_model, tmp_path):
    """Its place does not count, its content does."""
    (name, make), trees = FOLDERS[kind], []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        trees.append(str(make(tmp_path / place)))
    study = study_of(kind, tmp_path, tiny_model, data=trees[0], epochs=1, samples=2)
    evidence = study.evidence(study.parameters.layers[0])
    assert study.dataset == name
    for role in "TSB":
        maps = evidence.maps[role][0][1]
        assert len(maps.sigma) == 2 and maps.defined.all()
    assert all(0 <= score <= 1 for score in study.accuracies("T")["test"])
    one, two = (fingerprints(kind, tmp_path, tiny_model, data=tree) for tree in trees)
    assert one == two and differing(one, fingerprints(kind, tmp_path, tiny_model)) == ALL


@pytest.mark.parametrize(
    "kind, given, told",
    [
        *((kind, {"data": "absent"}, "is no folder and no known name") for kind in FOLDERS),
        ("sentiment", {"data": "empty"}, "SST|dictionary|sentence"),
        ("qa", {"data": "empty"}, "train"),
        ("PointNet", {"data": "empty"}, "empty holds neither .* give the folder of ModelNet40"),
        ("sentiment", {"longest": 16}, "100 train samples .* only [0-9]+ fit 16 pieces: raise lon"),
        ("qa", {"longest": 16}, "100 train samples are wanted, but only [0-9]+ fit 16 pieces: rai"),
        ("sentiment", {"test_samples": 10**5}, "100000 test samples .* fit 96 pieces"),
        ("qa", {"network": "absent"}, "no text model .*absent.* MiniLM-L6, BERT-base"),
        ("qa", {"network": "empty"}, "empty lacks config.json"),
        ("qa", {"depth": 3}, "layers=3 does not fit .* it has 2 layers"),
        ("PointNet++", {"points": 64, "background": 30}, "94 points cannot give 128 centroids"),
        ("PointConv", {"points": 64, "background": 30}, "94 points cannot give 128 centroids"),
    ],
)
def test_what_is_refused_before_anything_is_trained(kind, given, told, tiny_model, tmp_path):
    (tmp_path / "empty").mkdir()
    given = {n: str(tmp_path / v) if v in ("absent", "empty") else v for n, v in given.items()}
    study = study_of(kind, tmp_path / "store", given.pop("network", tiny_model), **given)
    refused(lambda: study.of("B", 0), told)
    assert not list((tmp_path / "store").glob("networks/*/manifest.json"))

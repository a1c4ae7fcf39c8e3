"""Text studies: what each parameter changes in the store, real data, and what is refused."""

import json

import pytest
import torch
from test_questions import document, qa
from test_sst2 import write_release
from text_smoke import LONGEST, SIZES, SMALL, STUDIES, text_parameters, text_study
from text_tiny import tiny_folder

import kpnb.estimator.entropy
from kpnb.errors import KpnbError
from kpnb.store import Record, Store
from kpnb.study.study import flat
from kpnb.study.text import TextStudy

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return tiny_folder(tmp_path_factory.mktemp("model"), **SIZES)


# --- what is stored


class KeyStore(Store):
    """Gives each entry its fingerprint and made-up content; nothing is computed."""

    study: TextStudy

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


def fingerprints(task, folder, root, **changed) -> dict[str, str]:
    store = KeyStore(root)
    given = text_parameters(task, folder, **changed)
    store.study = study = STUDIES[task](given, store)
    found = {role: study.of(role, given.seeds[0], "Last") for role in "TSB"}
    study.maps(found["B"], "Last")
    return {role: net.fingerprint for role, net in found.items()} | {"maps": store.maps}


# What each parameter changes: teacher, student, baseline, and the maps of the baseline.
CHANGES = {
    "depth": (2, "T S B maps"),
    "least_rating": (1.2, "T S B maps"),
    "longest": (200, "T S B maps"),
    "teacher_samples": (104, "T S B maps"),
    # A network's scores are stored with it.
    "test_samples": (24, "T S B maps"),
    "fraction": (0.4, "S B maps"),
    "teacher_epochs": (2, "T S"),
    "epochs": (3, "S B maps"),
    "head_epochs": (2, "S"),
    "checkpoints": ([0, 2], "S B maps"),
    "seeds": ([1], "T S B maps"),
    "samples": (5, "maps"),
    "measured_on": ("test", "maps"),
    "noise": (0.5, "maps"),
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
def unchanged(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("keys")
    return {task: fingerprints(task, folder, root) for task in STUDIES}


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [key for key in one if one[key] != other[key]]


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("task", STUDIES)
def test_what_a_parameter_changes(task, name, folder, tmp_path, unchanged):
    if name == "device" and torch.cuda.is_available():
        pytest.skip("auto is the GPU here")
    if name == "least_rating" and task == "qa":
        pytest.skip("questions have no rating")
    value, expected = CHANGES[name]
    changed = fingerprints(task, folder, tmp_path, **{name: value})
    assert differing(unchanged[task], changed) == expected.split()


def test_every_parameter_is_held_to_it():
    for task in STUDIES:
        fields = set(type(text_parameters(task, "MiniLM-L6")).model_fields)
        assert fields - set(CHANGES) == {"preset", "layers", "network", "data", "compiled"}


def test_another_model_changes_all_and_its_copy_nothing(folder, tmp_path, unchanged):
    other = tiny_folder(tmp_path, "other", seed=1, **SIZES)
    same = tiny_folder(tmp_path, "same", **SIZES)
    found = [fingerprints("sentiment", model, tmp_path) for model in (other, same)]
    assert differing(unchanged["sentiment"], found[0]) == ["T", "S", "B", "maps"]
    assert found[1] == unchanged["sentiment"]


def test_neither_preset_nor_other_seeds_change_an_entry(folder, tmp_path, unchanged):
    for task in STUDIES:
        values = text_parameters(task, folder).model_dump(exclude={"network"})
        demo = values | {"preset": "demo", "seeds": [0, 2, 1]}
        assert fingerprints(task, folder, tmp_path, **demo) == unchanged[task]


# --- folders with the paper's data


def release(root, first="good"):
    """SST-2's files: as many sentences as a teacher needs, of two classes, and a dev part."""
    words = {first: 0.9, "dull": 0.1, "film": 0.5}
    rows = [
        (n, 3 if n % 6 == 0 else 1, text, text, value)
        for n in range(1, 151)
        for text, value in [(f"The {first} film {n}", 0.9) if n % 2 else (f"A dull film {n}", 0.1)]
    ]
    return write_release(root / "release", rows, words)


def squad_tree(root, dev=30):
    context = "She was born in a cafe. The Moon landed in 1969."
    folder = root / "squad"
    folder.mkdir(parents=True)
    for name, count in (("train", 120), ("dev", dev)):
        qas = [
            qa(f"{name}{n}", f"What landed {n}?", [("Moon", 28)])
            if n % 2
            else qa(f"{name}{n}", f"Where was she born {n}?", [("cafe", 18)])
            for n in range(count)
        ]
        text = json.dumps(document(*qas, context=context))
        (folder / f"{name}-v1.1.json").write_text(text)
    return folder


FILES = {"sentiment": release, "qa": squad_tree}
NAMES = {"sentiment": "SST-2", "qa": "SQuAD"}


@pytest.mark.parametrize("task", STUDIES)
def test_a_folder_of_the_public_data_works_from_end_to_end(task, folder, tmp_path, unchanged):
    data = str(FILES[task](tmp_path))
    study = text_study(task, folder, tmp_path / "store", data=data, epochs=1, samples=2)
    evidence = study.evidence("Last")
    assert study.dataset == NAMES[task]
    for role in "TSB":
        maps = evidence.maps[role][0][1]
        assert len(maps.sigma) == 2 and maps.defined.all()
    assert all(0 <= score <= 1 for score in study.accuracies("T")["test"])
    texts = [part for parts in study.data.teacher_samples.parts for part in parts]
    assert all("film" in t or "Moon" in t or "?" in t for t in texts)
    own = fingerprints(task, folder, tmp_path, data=data)
    assert differing(unchanged[task], own) == ["T", "S", "B", "maps"]


@pytest.mark.parametrize("task", STUDIES)
def test_the_folder_s_place_does_not_count_but_its_texts_do(task, folder, tmp_path):
    trees = [
        FILES[task](tmp_path / name) for name in ("one", "two") if not (tmp_path / name).mkdir()
    ]
    one, two = (fingerprints(task, folder, tmp_path, data=str(tree)) for tree in trees)
    assert one == two


def test_other_questions_to_test_on_change_the_networks_entries(folder, tmp_path):
    """The training file is the same; the scores stored with a network are not."""
    trees = [squad_tree(tmp_path / str(dev), dev) for dev in (30, 31)]
    one, two = (fingerprints("qa", folder, tmp_path, data=str(tree)) for tree in trees)
    assert differing(one, two) == ["T", "S", "B", "maps"]


def test_measured_on_held_out_texts(folder, tmp_path):
    study = text_study("sentiment", folder, tmp_path, measured_on="test", samples=2)
    assert study.dataset == "embedded sentences (held out)"
    assert set(study.data.measured.parts) <= set(study.data.test_samples.parts)


# --- what stops


def refused(make, told):
    with pytest.raises(KpnbError, match=told) as error:
        make()
    assert "\n" not in str(error.value)


def test_more_samples_than_there_are(folder, tmp_path):
    for task in STUDIES:
        study = text_study(task, folder, tmp_path, samples=51)
        told = "samples=51 .* only [1-5]?[0-9] .* raise teacher_samples"
        refused(lambda study=study: study.data.measured, told)


@pytest.mark.parametrize("task", STUDIES)
def test_more_texts_than_fit(task, folder, tmp_path):
    study = text_study(task, folder, tmp_path, longest=16)
    told = "100 train samples are wanted, but only [0-9]+ fit 16 pieces: raise longest"
    refused(lambda: study.of("B", 0), told)
    study = text_study(task, folder, tmp_path, test_samples=10**5)
    refused(lambda: study.of("B", 0), f"100000 test samples .* fit {LONGEST[task]} pieces")
    assert not (tmp_path / "networks").exists()


def test_a_wrong_model_folder(folder, tmp_path):
    study = text_study("qa", str(tmp_path / "absent"), tmp_path)
    refused(lambda: study.evidence("Last"), "no text model .*absent.* MiniLM-L6, BERT-base")
    (tmp_path / "empty").mkdir()
    study = text_study("qa", str(tmp_path / "empty"), tmp_path)
    refused(lambda: study.evidence("Last"), "empty lacks config.json")
    study = text_study("qa", folder, tmp_path, depth=3)
    refused(lambda: study.evidence("Last"), "layers=3 does not fit .* it has 2 layers")


@pytest.mark.parametrize("task, file", [("sentiment", "SST|dictionary|sentence"), ("qa", "train")])
def test_a_wrong_data_folder(task, file, folder, tmp_path):
    study = text_study(task, folder, tmp_path, data=str(tmp_path / "absent"))
    refused(lambda: study.evidence("Last"), "is no folder and no known name")
    (tmp_path / "empty").mkdir()
    study = text_study(task, folder, tmp_path, data=str(tmp_path / "empty"))
    refused(lambda: study.evidence("Last"), file)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu(folder, tmp_path):
    study = text_study("qa", folder, tmp_path, device="cuda")
    refused(lambda: study.evidence("Last"), "no GPU is usable here; pass device='cpu'")


@pytest.mark.parametrize(
    "task, teacher, baseline, void",
    [
        ("sentiment", [0.9, 0.9], [0.6, 0.7], False),
        ("sentiment", [0.9, 0.64], [0.6, 0.7], True),  # one seed's below the baselines' mean
        ("sentiment", [0.8, 0.8], [0.6, 0.7], True),  # no better than words alone
        ("qa", [0.51, 0.6], [0.1, 0.2], False),
        ("qa", [0.5, 0.6], [0.1, 0.2], True),  # half of the answers
        ("qa", [0.6, 0.6], [0.6, 0.6], True),  # no better than the baseline
    ],
)
def test_a_bad_teacher_voids_the_study(
    task, teacher, baseline, void, folder, tmp_path, monkeypatch
):
    found = {"T": {"test": teacher}, "B": {"test": baseline}}
    monkeypatch.setattr(TextStudy, "accuracies", lambda self, role, layer=None: found[role])
    monkeypatch.setattr("kpnb.study.text.tfidf_logistic", lambda *_: 0.8)
    study = text_study(task, folder, tmp_path, preset="study", seeds=[0, 1], fraction=0.5)
    told = f"teacher {teacher[0]:.1%} / {teacher[1]:.1%}, baseline"
    if void:
        refused(study.check_teacher, f"void.*{told}.*teacher_epochs or teacher_samples")
        return
    said = study.check_teacher()
    assert told in said and ("TF-IDF, 50 sentences 80.0%" in said) == (task == "sentiment")
    assert said.startswith(f"The teacher is fit to teach; {study.SCORE} on unseen samples")


def test_what_the_sentiment_teacher_must_beat(folder, tmp_path):
    study = text_study("sentiment", folder, tmp_path)
    lines, data = study.reference_lines, study.data
    assert list(lines) == ["majority", "TF-IDF, 100 sentences", "TF-IDF, 50 sentences"]
    share = data.test_samples.labels.double().mean().item()
    assert lines["majority"] in (pytest.approx(share), pytest.approx(1 - share))
    assert study.least_teacher == max(lines.values())
    assert text_study("qa", folder, tmp_path).reference_lines == {}


def test_the_smoke_preset_claims_nothing(folder, tmp_path):
    assert SMALL["preset"] == "smoke"
    assert "smoke" in text_study("qa", folder, tmp_path).check_teacher()

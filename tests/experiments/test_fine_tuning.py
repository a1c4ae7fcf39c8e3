"""Fine-tuning against training from scratch: the split, what starts equal, what is counted."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from conftest import WatchedStore, made_evidence, single_thread

import kpnb.experiments.pretraining
import kpnb.run.__main__
import kpnb.study.image
from kpnb.datasets.images import embedded_images, of_classes, split_classes
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.loss import GAUSSIAN_ENTROPY
from kpnb.experiments.fine_tuning import (
    QUANTITIES,
    FineTuningFindings,
    FineTuningStudy,
    counts_by_epoch,
    discarded_points,
    early_counts,
    early_rise,
    epochs_to_half,
    ever_points,
    fine_tuned_difference,
    fine_tuning_reading,
    own_value,
    shown_epochs,
)
from kpnb.experiments.pretraining import (
    IMAGENET,
    SourceStudy,
    imagenet_state,
    take_convolutions,
)
from kpnb.metrics.evidence import Evidence
from kpnb.metrics.results import read_results
from kpnb.networks.image import image_network
from kpnb.run import notebook as runner
from kpnb.store import Record, Store
from kpnb.study import parameters
from kpnb.study.parameters import FineTuningParameters, resolve
from kpnb.training.train import accuracy

NOTEBOOK = "image_fine_tuning"
FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
B = 0.2


def given(**changed) -> FineTuningParameters:
    return resolve(FineTuningParameters, {"preset": "smoke", "device": "cpu"} | changed)


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def study(root) -> FineTuningStudy:
    """Source network, both networks and their maps, computed once."""
    study = FineTuningStudy(given(), WatchedStore(root))
    with single_thread():
        for layer in study.parameters.layers:
            study.evidence(layer)
    return study


def parts_of(state: dict) -> tuple[dict, dict]:
    """A state dict below its FC layers, and these."""
    head = {k: v for k, v in state.items() if k.startswith("classifier.")}
    return {k: v for k, v in state.items() if k not in head}, head


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


# --- classes


@pytest.mark.parametrize("source", [1, 4, 11])
def test_the_split_takes_every_class_once(source):
    names = [f"c{i}" for i in range(12)]
    first, second = split_classes(names, source, seed=3)
    assert len(first) == source and sorted(first + second) == sorted(names)
    assert list(first) == [n for n in names if n in first]
    assert split_classes(names, source, 3) == (first, second)


def test_other_seeds_split_otherwise():
    names = [f"c{i}" for i in range(12)]
    assert len({split_classes(names, 6, seed) for seed in range(5)}) > 1


@pytest.mark.parametrize("source", [0, 12, -1])
def test_an_empty_side_is_refused(source):
    with pytest.raises(KpnbError, match="one side empty"):
        split_classes([f"c{i}" for i in range(12)], source, 0)


def test_the_samples_of_some_classes():
    samples = embedded_images(40, image_size=16)
    names = ("tool", "bird", "fruit")
    part = of_classes(samples, names)
    kept = [i for i in range(40) if samples.class_names[samples.labels[i]] in names]
    assert torch.equal(part.images, samples.images[kept])
    assert torch.equal(part.masks, samples.masks[kept])
    told = [part.class_names[label] for label in part.labels]
    assert told == [samples.class_names[samples.labels[i]] for i in kept]
    assert part.class_names == names and part.source["parts"][-1] == {"classes": list(names)}
    assert of_classes(samples, names[::-1]).source != part.source


@pytest.mark.parametrize("names", [("bird", "dragon"), ("bird", "bird")])
def test_unknown_or_repeated_classes_are_refused(names):
    with pytest.raises(KpnbError, match="name known ones"):
        of_classes(embedded_images(24, image_size=16), names)


def test_a_class_without_samples_is_refused():
    samples = embedded_images(1, image_size=16)
    other = next(n for n in samples.class_names if n != samples.class_names[samples.labels[0]])
    with pytest.raises(KpnbError, match=f"no sample of {other}"):
        of_classes(samples, (other,))


def test_source_and_target_share_no_image(study):
    source, target = study.source.data, study.data
    assert not set(source.names) & set(target.names)
    for split in ("teacher_samples", "test_samples"):
        both = [getattr(data, split) for data in (source, target)]
        assert sum(map(len, both)) == len(getattr(study.whole, split))
        seen = [{image.numpy().tobytes() for image in part.images} for part in both]
        assert not seen[0] & seen[1]
    assert set(target.training_samples.labels.tolist()) == set(range(len(target.names)))
    assert study.outputs == len(target.names) == 6 == study.source.outputs


# --- networks


def test_what_the_two_networks_start_from(study):
    source = study.source.of("T", 0)
    tuned, scratch = (study.of(role, 0).states[0] for role in "FB")
    assert same(parts_of(tuned)[0], parts_of(source.states[source.final_epoch])[0])
    assert same(parts_of(tuned)[1], parts_of(scratch)[1])
    below = parts_of(tuned)[0], parts_of(scratch)[0]
    assert not any(torch.equal(below[0][k], below[1][k]) for k in below[0] if "weight" in k)
    assert not same(parts_of(tuned)[1], parts_of(source.states[source.final_epoch])[1])


def test_both_networks_move(study):
    for role in "FB":
        states = study.of(role, 0).states
        assert not same(states[0], states[max(states)])


def test_the_recipes_differ_in_their_rate_alone(tmp_path):
    study = FineTuningStudy(given(fine_tuning_rate=0.1), Store(tmp_path))
    tuned, scratch = study.schedule("F", 3), study.schedule("B", 3)
    assert tuned.lr == pytest.approx(0.1 * scratch.lr)
    assert replace(tuned, lr=scratch.lr) == scratch and tuned.seed == 3
    equal = FineTuningStudy(given(), Store(tmp_path))
    assert equal.schedule("F", 3) == equal.schedule("B", 3) == scratch


def test_convolutions_of_another_network_are_refused():
    net = image_network("VGG-11", 4, "narrow")
    for other in (image_network("VGG-16", 4, "narrow"), image_network("AlexNet", 4, "narrow")):
        with pytest.raises(KpnbError, match="other convolutions"):
            take_convolutions(net, other.state_dict())


def test_convolutions_come_from_a_network_with_other_classes():
    net, other = image_network("VGG-11", 4, "narrow"), image_network("VGG-11", 9, "narrow", seed=5)
    head = {k: v.clone() for k, v in parts_of(net.state_dict())[1].items()}
    take_convolutions(net, other.state_dict())
    below, above = parts_of(net.state_dict())
    assert same(below, parts_of(other.state_dict())[0]) and same(above, head)


# --- the store


def test_the_same_study_again_comes_from_the_store(study, root):
    again = FineTuningStudy(given(threshold=0.3), WatchedStore(root))
    evidence = again.evidence("FC1")
    assert again.store.computed() == []
    maps = study.evidence("FC1").maps
    assert torch.equal(evidence.maps["S"][0][2].sigma, maps["S"][0][2].sigma)
    assert set(evidence.maps) == {"S", "B"} and again.stored_seconds() > 0


class KeyStore(Store):
    """Gives each entry its fingerprint; nothing is computed."""

    def compute(self, kind, settings, compute, code, data=None, cost=None):
        name = self._entry(kind, settings, code, data).folder.name
        return Record({}, {"record": {}, "accuracy": {}, "seconds": 1.0}, self.root, name, False)


def fingerprints(root: Path, **changed) -> dict[str, str]:
    study = FineTuningStudy(given(**changed), KeyStore(root))
    seed = study.parameters.seeds[0]
    found = {"T": study.source.of("T", seed), "F": study.of("F", seed), "B": study.of("B", seed)}
    return {role: net.fingerprint for role, net in found.items()}


CHANGES = {
    "split": (1, "TFB"),
    "source_classes": (5, "TFB"),
    "teacher_samples": (252, "TFB"),
    "teacher_epochs": (3, "TF"),
    "fine_tuning_rate": (0.1, "F"),
    "epochs": (3, "FB"),
    "layers": (["FC1"], "FB"),
    "seeds": ([1], "TFB"),
    "samples": (5, ""),
}


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Fingerprints of the unchanged study with few test images."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kpnb.study.image, "TEST_SAMPLES", 60)
        folder = tmp_path_factory.mktemp("keys")
        yield folder, fingerprints(folder)


@pytest.mark.parametrize("name", CHANGES)
def test_what_a_parameter_changes(name, few):
    folder, unchanged = few
    value, expected = CHANGES[name]
    changed = fingerprints(folder, **{name: value})
    assert "".join(role for role in "TFB" if unchanged[role] != changed[role]) == expected


# --- ImageNet


def test_imagenet_weights_need_a_full_network():
    with pytest.raises(KpnbError, match="set scale='full' or source='classes'") as error:
        given(source="ImageNet")
    assert "\n" not in str(error.value)
    assert given(source="ImageNet", scale="full").source == "ImageNet"


def test_imagenet_weights_take_the_place_of_a_source_network(monkeypatch, tmp_path):
    net = image_network("VGG-11", 3, "narrow", seed=9)
    monkeypatch.setattr(
        kpnb.experiments.pretraining, "imagenet_state", lambda name, seed: net.state_dict()
    )
    monkeypatch.setattr(SourceStudy, "of", lambda *_: pytest.fail("no source network is wanted"))
    parameters = given().model_copy(update={"source": "ImageNet"})
    study = FineTuningStudy(parameters, KeyStore(tmp_path))
    assert same(*(parts_of(n.state_dict())[0] for n in (study.build("F", 0), net)))
    assert same(*(parts_of(study.build(role, 0).state_dict())[1] for role in "FB"))
    assert study.source.origin(0) == IMAGENET and IMAGENET in study.check_teacher()
    other = FineTuningStudy(given(), KeyStore(tmp_path))
    monkeypatch.undo()
    assert study.of("F", 0).fingerprint != other.of("F", 0).fingerprint
    assert study.of("B", 0).fingerprint == other.of("B", 0).fingerprint


def test_the_state_with_imagenet_weights_has_no_fc_layer(monkeypatch):
    asked = []

    def network(*positional, **named):
        asked.append((positional, named))
        return image_network("AlexNet", 2, "narrow")

    monkeypatch.setattr(kpnb.experiments.pretraining, "image_network", network)
    imagenet_state.cache_clear()
    state = imagenet_state("VGG-16", 4)
    imagenet_state.cache_clear()
    assert state and parts_of(state)[1] == {}
    assert asked == [(("VGG-16", 2, "full"), {"seed": 4, "pretrained": True})]


# --- bad input


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"source_classes": 7, "classes": 8}, "leave at least 2"),
        ({"source_classes": 11}, "source_classes is 11"),
        ({"source": "CIFAR"}, "one of classes, ImageNet"),
        ({"fine_tuning_rate": 0.0}, "fine_tuning_rate"),
        ({"split": -1}, "split"),
        ({"teacher": "EfficientNet-lite0"}, "teacher"),
    ],
)
def test_bad_parameters(changed, told):
    with pytest.raises(KpnbError, match=told):
        given(**changed)


@pytest.mark.parametrize("scores, void", [([0.5, 0.34], False), ([0.5, 0.33], True)])
def test_a_bad_source_network_voids_the_study(monkeypatch, tmp_path, scores, void):
    monkeypatch.setattr(SourceStudy, "accuracies", lambda *_: {"test": scores})
    monkeypatch.setattr(kpnb.study.image, "TEST_SAMPLES", 60)
    study = FineTuningStudy(given(preset="study"), Store(tmp_path))
    if void:
        with pytest.raises(KpnbError, match="void.*teacher_epochs or teacher_samples"):
            study.check_teacher()
    else:
        assert "50.0% / 34.0%" in study.check_teacher()
        assert "chance 16.7%" in study.check_teacher()


# --- what is counted


def random_evidence(seeds: int = 2, samples: int = 5) -> Evidence:
    """Evidence of random maps at 6 checkpoints, some samples without any point at all."""
    foreground = torch.arange(16).expand(samples, 16) < 9
    generator = torch.Generator().manual_seed(1)

    def maps() -> EntropyMaps:
        entropy = torch.randn(samples, 16, generator=generator)
        entropy[0] = torch.where(foreground[0], 5.0, 0.0)
        sigma = (entropy - GAUSSIAN_ENTROPY).exp()
        return EntropyMaps(sigma, torch.ones(samples), torch.ones(samples) > 0, 0 * sigma)

    epochs = (0, 1, 2, 4, 7, 9)
    by_role = {role: [{e: maps() for e in epochs} for _ in range(seeds)] for role in "SB"}
    distance = {
        (role, unit): [[0.1 * e for e in epochs]] * seeds
        for role in "SB"
        for unit in ("step", "epoch")
    }
    return Evidence("FC1", epochs, foreground, by_role, distance)


def test_discarded_and_ever_points_against_sets():
    evidence = random_evidence()
    for role in "SB":
        for seed in range(2):
            gone = discarded_points(evidence, role, seed, B)
            ever = ever_points(evidence, role, seed, B)
            for sample in range(5):
                trail = evidence.trajectory(role, seed, B)
                sets = [
                    {i for i in range(16) if points.foreground_points[sample, i]}
                    for points in trail
                ]
                learned = set().union(*sets)
                assert set(ever[sample].nonzero().flatten().tolist()) == learned
                lost = {i for i in learned if i not in sets[-1]}
                assert set(gone[sample].nonzero().flatten().tolist()) == lost
    assert not ever_points(evidence, "S", 0, B)[0].any() and ever.any()


def test_counts_add_up_and_rho_is_their_share():
    evidence = random_evidence()
    values = {
        name: QUANTITIES[name].values(evidence, "S", B)
        for name in ("ever", "n_fg", "discarded", "rho")
    }
    assert np.array_equal(values["ever"], values["n_fg"] + values["discarded"])
    some = values["ever"] > 0
    shares = values["n_fg"][some] / values["ever"][some]
    np.testing.assert_allclose(values["rho"][some], shares, rtol=1e-15)
    assert (values["rho"][~some] == 0).all() and (~some).any()


def test_speeds_against_a_slow_twin():
    evidence = random_evidence()
    early, rise = (f(evidence, "B", 1, B) for f in (early_counts, early_rise))
    half = epochs_to_half(evidence, "B", 1, B)
    for sample in range(5):
        counts = [int(evidence.points("B", 1, e, B).n_fg[sample]) for e in evidence.epochs]
        assert early[sample] == pytest.approx(sum(counts[1:3]) / 2)  # 5 checkpoints after epoch 0
        assert rise[sample] == pytest.approx(sum(counts[1:3]) / 2 - counts[0])
        reached = [e for e, n in zip(evidence.epochs, counts, strict=True) if n >= counts[-1] / 2]
        wanted = reached[0] if counts[-1] else float("nan")
        assert half[sample].item() == pytest.approx(wanted, nan_ok=True)
    assert half.isnan().any() and not half.isnan().all()


def counted_maps(points: int) -> EntropyMaps:
    """Maps of 3 equal samples with so many foreground points."""
    entropy = torch.zeros(3, 16)
    entropy[:, :points] = -1
    sigma = (entropy - GAUSSIAN_ENTROPY).exp()
    return EntropyMaps(sigma, torch.ones(3), torch.ones(3) > 0, 0 * sigma)


@pytest.mark.parametrize(
    "counts, epochs", [((0, 1, 3, 5), 4), ((0, 2, 4, 4), 1), ((3, 0, 0, 4), 0), ((0, 0, 0, 1), 9)]
)
def test_epochs_to_half_of_the_final_count(counts, epochs):
    shown = (0, 1, 4, 9)
    maps = {epoch: counted_maps(n) for epoch, n in zip(shown, counts, strict=True)}
    evidence = Evidence("FC1", shown, torch.arange(16).expand(3, 16) < 9, {"S": [maps]}, {})
    assert epochs_to_half(evidence, "S", 0, B).tolist() == [epochs] * 3


def test_known_differences():
    """See made_evidence: the good network keeps 6 points from epoch 1 on."""
    evidence = made_evidence(student=True, baseline=False)
    wanted = {"n_fg": 3.0, "early_n_fg": 3.5, "discarded": -2.5, "d_mean": -0.05}
    for name, value in wanted.items():
        assert fine_tuned_difference(evidence, name, B).value == pytest.approx(value), name
    assert fine_tuned_difference(evidence, "rho", B).value == pytest.approx(1 - (3 / 7 + 3 / 4) / 2)
    assert own_value(evidence, "S", "discarded", B).value == 0


def test_a_network_against_itself_differs_in_nothing():
    evidence = random_evidence()
    evidence = replace(evidence, maps={role: evidence.maps["S"] for role in "SB"})
    for name in QUANTITIES:
        gap = fine_tuned_difference(evidence, name, B)
        assert (gap.value, gap.low, gap.high) == (0, 0, 0), name


def test_counts_by_epoch_are_means_over_seeds_and_samples():
    evidence = random_evidence()
    found = counts_by_epoch(evidence, "S", B)
    for epoch, estimate in zip(evidence.epochs, found, strict=True):
        counts = [evidence.points("S", seed, epoch, B).n_fg.double() for seed in range(2)]
        assert estimate.value == pytest.approx(float(torch.stack(counts).mean()))


@pytest.mark.parametrize(
    "epochs, shown", [((0, 1), (1,)), ((0, 1, 2), (1, 2)), ((0, 1, 2, 5, 9), (1, 5, 9))]
)
def test_shown_epochs(epochs, shown):
    assert shown_epochs(epochs) == shown


# --- readings


class FakeStudy:
    """As much of a study as findings without accuracies ask for."""

    parameters = given()
    network_name, scale, dataset = "VGG-11", "narrow", "embedded images"


@pytest.mark.parametrize(
    "student, baseline, verdict, answer",
    [
        (True, False, "reproduced", "**Yes"),
        (False, True, "contradicted", "**No: nothing"),
        (True, True, "inconclusive", "**Inconclusive"),
    ],
)
def test_the_reading_may_say_no(student, baseline, verdict, answer):
    evidence = {"FC1": made_evidence(student, baseline)}
    told = fine_tuning_reading(evidence, FineTuningFindings(FakeStudy(), NOTEBOOK))
    assert told.count(f"**{verdict}**") == 3 and answer in told
    assert f"Of 3 statements: 3 {verdict}" in told


@pytest.mark.parametrize(
    "start, words", [(0, "learned more quickly too"), (6, "more slowly"), (5, "is not shown")]
)
def test_the_reading_tells_a_head_start_from_learning(start, words):
    """The fine-tuned network starts with so many points of 6, the other learns 1 of 1."""
    tuned = {0: counted_maps(start), 1: counted_maps(6), 2: counted_maps(6)}
    scratch = {0: counted_maps(0), 1: counted_maps(1), 2: counted_maps(1)}
    distance = made_evidence().distance
    foreground = torch.arange(16).expand(3, 16) < 9
    evidence = Evidence("FC1", (0, 1, 2), foreground, {"S": [tuned], "B": [scratch]}, distance)
    told = fine_tuning_reading({"FC1": evidence}, FineTuningFindings(FakeStudy(), NOTEBOOK))
    assert words in told and f"{start} [{start}, {start}] points before the first step" in told


def test_what_is_not_defined_is_a_note_and_no_number():
    evidence = made_evidence()
    empty = {0: evidence.maps["B"][0][0]}
    nothing = {epoch: empty[0] for epoch in evidence.epochs}  # equal entropies: no point
    evidence = replace(evidence, maps=evidence.maps | {"B": [nothing]})
    findings = FineTuningFindings(FakeStudy(), NOTEBOOK)
    findings.add(evidence)
    assert fine_tuned_difference(evidence, "epochs_to_half", B) is None
    assert "epochs_to_half_fc1" not in findings.numbers and len(findings.notes) == 2
    assert findings.numbers["n_fg_difference_fc1"].value == 6


def test_right_answers_are_those_of_accuracy(study):
    samples = study.data.test_samples
    right = study.right_answers("F", samples)
    assert right.shape == (1, len(samples)) and set(np.unique(right)) <= {0, 1}
    net = study.network(study.of("F", 0))
    assert right.mean() == pytest.approx(accuracy(net, samples.images, samples.labels))
    assert right.mean() == pytest.approx(study.of("F", 0).accuracy["test"])


# --- the notebook


def test_the_notebook(study, root, tmp_path, monkeypatch):
    monkeypatch.setitem(parameters.OWN_MODELS, NOTEBOOK, FineTuningParameters)
    monkeypatch.setenv("KPNB_STORE", str(root))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    out = tmp_path / f"{NOTEBOOK}.ipynb"
    arguments = [NOTEBOOK, "--notebooks", str(FOLDER), "-o", str(out), "--preset", "smoke"]
    with contextlib.redirect_stderr(io.StringIO()) as told:
        assert kpnb.run.__main__.main([*arguments, "-p", "device=cpu"]) == 0
    assert told.getvalue() == ""
    executed = nbformat.read(out, as_version=4)
    assert runner.error_outputs(executed) == []
    assert runner.figure_count(executed) == executed.metadata["kpnb"]["figures"]
    kinds = [Path(folder).parent.name for folder in executed.metadata["kpnb"]["store"]]
    assert kinds.count("networks") == 3 and kinds.count("maps") == 4
    results = read_results(NOTEBOOK, "smoke")
    assert results.measures == [] and results.comparisons == []
    assert json.loads(json.dumps(results.settings)) == study.parameters.model_dump(mode="json")
    wanted = {"accuracy_source", "accuracy_difference"}
    for layer in ("conv", "fc1"):
        names = set(QUANTITIES) - {"epochs_to_half"}
        wanted |= {f"{name}_difference_{layer}" for name in names}
    assert wanted <= set(results.numbers)
    for name in wanted:
        number = results.numbers[name]
        assert number.low <= number.value <= number.high and number.n and number.unit, name
    shown = str([cell.outputs for cell in executed.cells if cell.cell_type == "code"])
    assert "Fine-tuning against training from scratch" in shown and "Of 6 statements" in shown

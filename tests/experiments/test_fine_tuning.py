"""Fine-tuning against training from scratch: the split, what starts equal, what is counted."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import WatchedStore, made_evidence, single_thread
from notebook_runs import Executed
from studied import KeyStore, same_states

import kpnb.study.image
from kpnb.datasets.images import embedded_images, of_classes, split_classes
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyMaps
from kpnb.estimator.loss import GAUSSIAN_ENTROPY
from kpnb.experiments import fine_tuning, pretraining
from kpnb.experiments.fine_tuning import (
    QUANTITIES,
    FineTuningFindings,
    counts_by_epoch,
    fine_tuned_difference,
    fine_tuning_reading,
    network_values,
    own_value,
    training_values,
)
from kpnb.experiments.pretraining import (
    IMAGENET,
    FineTuningStudy,
    SourceStudy,
    imagenet_state,
    take_convolutions,
)
from kpnb.metrics.evidence import Evidence
from kpnb.metrics.results import read_results
from kpnb.networks.image import image_network
from kpnb.run import notebook as runner
from kpnb.store import Store
from kpnb.study.parameters import FineTuningParameters, resolve
from kpnb.training.train import accuracy

NOTEBOOK, B = "image_fine_tuning", 0.2
NAMES = [f"c{i}" for i in range(12)]


def given(**changed) -> FineTuningParameters:
    return resolve(FineTuningParameters, {"preset": "smoke", "device": "cpu"} | changed)


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> FineTuningStudy:
    """Source network, both networks and their maps, computed once."""
    study = FineTuningStudy(given(), WatchedStore(tmp_path_factory.mktemp("store")))
    with single_thread():
        for layer in study.parameters.layers:
            study.evidence(layer)
    return study


def parts_of(state: dict) -> tuple[dict, dict]:
    """A state dict below its FC layers, and these."""
    head = {k: v for k, v in state.items() if k.startswith("classifier.")}
    return {k: v for k, v in state.items() if k not in head}, head


# --- classes


@pytest.mark.parametrize("source", [1, 11])
def test_the_split_takes_every_class_once(source):
    first, second = split_classes(NAMES, source, seed=3)
    assert len(first) == source and sorted(first + second) == sorted(NAMES)
    assert list(first) == [n for n in NAMES if n in first]
    assert split_classes(NAMES, source, 3) == (first, second)
    assert len({split_classes(NAMES, source, seed) for seed in range(5)}) > 1


def test_the_samples_of_some_classes():
    samples, names = embedded_images(40, image_size=16), ("tool", "bird", "fruit")
    part = of_classes(samples, names)
    called = [samples.class_names[label] for label in samples.labels]
    kept = [i for i in range(40) if called[i] in names]
    for given, found in ((samples.images, part.images), (samples.masks, part.masks)):
        assert torch.equal(found, given[kept])
    assert [part.class_names[label] for label in part.labels] == [called[i] for i in kept]
    assert part.class_names == names and part.source["parts"][-1] == {"classes": list(names)}
    assert of_classes(samples, names[::-1]).source != part.source


ONE = embedded_images(1, image_size=16)
OTHER = next(n for n in ONE.class_names if n != ONE.class_names[ONE.labels[0]])
NETS = {name: image_network(name, 4, "narrow") for name in ("VGG-11", "VGG-16", "AlexNet")}


@pytest.mark.parametrize(
    "call, told",
    [
        *[(lambda n=n: split_classes(NAMES, n, 0), "one side empty") for n in (0, 12, -1)],
        (lambda: of_classes(ONE, ("bird", "dragon")), "name known ones"),
        (lambda: of_classes(ONE, ("bird", "bird")), "name known ones"),
        (lambda: of_classes(ONE, (OTHER,)), f"no sample of {OTHER}"),
        *[
            (lambda n=n: take_convolutions(NETS["VGG-11"], NETS[n].state_dict()), "other convolut")
            for n in ("VGG-16", "AlexNet")
        ],
    ],
)
def test_mistakes_are_refused(call, told):
    with pytest.raises(KpnbError, match=told):
        call()


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


def test_what_the_two_networks_start_from_and_that_both_move(study):
    source = study.source.of("T", 0)
    handed, head = parts_of(source.states[source.final_epoch])
    tuned, scratch = (parts_of(study.of(role, 0).states[0]) for role in "FB")
    assert same_states(tuned[0], handed) and same_states(tuned[1], scratch[1])
    assert not same_states(tuned[1], head)
    assert not any(torch.equal(tuned[0][k], scratch[0][k]) for k in handed if "weight" in k)
    for role in "FB":
        states = study.of(role, 0).states
        assert not same_states(states[0], states[max(states)])


def test_the_recipes_differ_in_their_rate_alone(tmp_path):
    study = FineTuningStudy(given(fine_tuning_rate=0.1), Store(tmp_path))
    tuned, scratch = study.schedule("F", 3), study.schedule("B", 3)
    assert tuned.lr == pytest.approx(0.1 * scratch.lr)
    assert replace(tuned, lr=scratch.lr) == scratch and tuned.seed == 3
    equal = FineTuningStudy(given(), Store(tmp_path))
    assert equal.schedule("F", 3) == equal.schedule("B", 3) == scratch


def test_the_fine_tuned_network_takes_the_batch_that_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(FineTuningStudy, "_trained", lambda *given: given[-2])
    parameters = given(batch=8).model_copy(update={"source": "ImageNet"})
    assert FineTuningStudy(parameters, Store(tmp_path)).classifier("F", 0).batch_size == 8


def test_right_answers_are_those_of_accuracy(study):
    samples, trained = study.data.test_samples, study.of("F", 0)
    right, net = study.right_answers("F", samples), study.network(trained)
    assert right.shape == (1, len(samples)) and set(np.unique(right)) <= {0, 1}
    assert right.mean() == pytest.approx(accuracy(net, samples.images, samples.labels))
    assert right.mean() == pytest.approx(trained.accuracy["test"])


# --- the store


def fingerprints(root: Path, **changed) -> dict[str, str]:
    study = FineTuningStudy(given(**changed), KeyStore(root))
    seed = study.parameters.seeds[0]
    found = {role: study.of(role, seed).fingerprint for role in "FB"}
    return found | {"T": study.source.of("T", seed).fingerprint}


#: A parameter's other value, and the networks that are others then.
CHANGES = {
    "split": (1, "TFB"), "source_classes": (5, "TFB"), "teacher_samples": (252, "TFB"),
    "teacher_epochs": (3, "TF"), "fine_tuning_rate": (0.1, "F"), "epochs": (3, "FB"),
    "layers": (["FC1"], "FB"), "seeds": ([1], "TFB"), "samples": (5, ""),
}  # fmt: skip


def test_what_a_parameter_changes(monkeypatch, tmp_path):
    monkeypatch.setattr(kpnb.study.image, "TEST_SAMPLES", 60)
    unchanged = fingerprints(tmp_path)
    for name, (value, expected) in CHANGES.items():
        changed = fingerprints(tmp_path, **{name: value})
        assert "".join(r for r in "TFB" if unchanged[r] != changed[r]) == expected, name


def test_imagenet_weights_take_the_place_of_a_source_network(monkeypatch, tmp_path):
    net = image_network("VGG-11", 3, "narrow", seed=9)
    monkeypatch.setattr(pretraining, "imagenet_state", lambda *_: net.state_dict())
    monkeypatch.setattr(SourceStudy, "of", lambda *_: pytest.fail("no source network is wanted"))
    parameters = given().model_copy(update={"source": "ImageNet"})
    study = FineTuningStudy(parameters, KeyStore(tmp_path))
    assert same_states(*(parts_of(n.state_dict())[0] for n in (study.build("F", 0), net)))
    assert same_states(*(parts_of(study.build(role, 0).state_dict())[1] for role in "FB"))
    tuned = study.of("F", 0).fingerprint
    assert IMAGENET in study.check_teacher()
    monkeypatch.undo()
    other = FineTuningStudy(given(), KeyStore(tmp_path))
    assert tuned != other.of("F", 0).fingerprint
    assert study.of("B", 0).fingerprint == other.of("B", 0).fingerprint


def test_the_state_with_imagenet_weights_has_no_fc_layer(monkeypatch):
    asked = []
    network = lambda *given, **named: asked.append((given, named)) or NETS["AlexNet"]  # noqa: E731
    monkeypatch.setattr(pretraining, "image_network", network)
    state = imagenet_state.__wrapped__("VGG-16", 4)  # past its cache
    assert state and parts_of(state)[1] == {}
    assert asked == [(("VGG-16", 2, "full"), {"seed": 4, "pretrained": True})]


def test_a_bad_source_network_voids_the_study(monkeypatch, tmp_path):
    monkeypatch.setattr(kpnb.study.image, "TEST_SAMPLES", 60)
    study, scores = FineTuningStudy(given(preset="study"), Store(tmp_path)), [0.5, 0.34]
    monkeypatch.setattr(SourceStudy, "accuracies", lambda *_: {"test": scores})
    assert "50.0% / 34.0%, chance 16.7%" in study.check_teacher()
    scores[1] = 0.33
    with pytest.raises(KpnbError, match="void.*teacher_epochs or teacher_samples"):
        study.check_teacher()


# --- what is counted


def maps_of(entropy: torch.Tensor) -> EntropyMaps:
    sigma, one = (entropy - GAUSSIAN_ENTROPY).exp(), torch.ones(len(entropy))
    return EntropyMaps(sigma, one, one > 0, 0 * sigma)


def random_evidence(seeds: int = 2, samples: int = 5) -> Evidence:
    """Evidence of random maps at 6 checkpoints, some samples without any point at all."""
    foreground = torch.arange(16).expand(samples, 16) < 9
    generator, epochs = torch.Generator().manual_seed(1), (0, 1, 2, 4, 7, 9)

    def maps() -> EntropyMaps:
        entropy = torch.randn(samples, 16, generator=generator)
        entropy[0] = torch.where(foreground[0], 5.0, 0.0)
        return maps_of(entropy)

    by_role = {role: [{e: maps() for e in epochs} for _ in range(seeds)] for role in "SB"}
    ways = [[0.1 * e for e in epochs]] * seeds
    distance = {(role, unit): ways for role in "SB" for unit in ("step", "epoch")}
    return Evidence("FC1", epochs, foreground, by_role, distance)


@pytest.mark.parametrize("role, seed", [("S", 0), ("S", 1), ("B", 0)])
def test_training_values_against_sets(role, seed):
    evidence = random_evidence()
    found, rho = training_values(evidence, role, seed, B), network_values(evidence, role, "rho", B)
    trail = [evidence.points(role, seed, e, B).foreground_points for e in evidence.epochs]
    for sample in range(5):
        held = [set(points[sample].nonzero().flatten().tolist()) for points in trail]
        counts, ever = [len(part) for part in held], set().union(*held[1:])
        early = sum(counts[1:3]) / 2  # of 5 checkpoints after epoch 0
        half = [e for e, n in zip(evidence.epochs, counts, strict=True) if n >= counts[-1] / 2]
        wanted = {"start_n_fg": counts[0], "early_n_fg": early, "early_rise": early - counts[0]}
        wanted |= {"epochs_to_half": half[0] if counts[-1] else float("nan"), "ever": len(ever)}
        wanted["discarded"] = len(ever - held[-1])
        told = {name: float(part[sample]) for name, part in found.items()}
        assert told == pytest.approx(wanted, nan_ok=True)
        assert rho[seed, sample] == pytest.approx(counts[-1] / len(ever) if ever else 0)
    assert found["ever"][0] == 0 and found["epochs_to_half"].isnan().any()


INSIDE = torch.arange(16).expand(3, 16) < 9  # the foreground


def counted(*counts: int) -> dict[int, EntropyMaps]:
    """Maps of 3 equal samples with so many foreground points at epochs 0, 1, ..."""
    return {e: maps_of(-(torch.arange(16) < n).float().expand(3, 16)) for e, n in enumerate(counts)}


def test_known_differences():
    """See made_evidence: the good network keeps 6 points from epoch 1 on."""
    evidence = made_evidence(student=True, baseline=False)
    wanted = {"n_fg": 3.0, "early_n_fg": 3.5, "discarded": -2.5, "d_mean": -0.05}
    wanted["rho"] = 1 - (3 / 7 + 3 / 4) / 2
    for name, value in wanted.items():
        assert fine_tuned_difference(evidence, name, B).value == pytest.approx(value), name
    assert own_value(evidence, "S", "discarded", B).value == 0


def test_a_sample_without_a_map_at_some_checkpoint_takes_no_part():
    evidence = random_evidence()
    evidence.maps["S"][1][4].sigma[2] = torch.nan
    for name in set(QUANTITIES) - {"n_fg", "d_mean", "epochs_to_half"}:
        undefined = np.isnan(network_values(evidence, "S", name, B))
        assert undefined.tolist() == [[False] * 5, [i == 2 for i in range(5)]], name


def test_a_network_against_itself_differs_in_nothing():
    """And its counts by epoch are means over seeds and samples."""
    evidence = random_evidence()
    evidence = replace(evidence, maps={role: evidence.maps["S"] for role in "SB"})
    for name in QUANTITIES:
        gap = fine_tuned_difference(evidence, name, B)
        assert (gap.value, gap.low, gap.high) == (0, 0, 0), name
    for epoch, found in zip(evidence.epochs, counts_by_epoch(evidence, "S", B), strict=True):
        counts = [evidence.points("S", seed, epoch, B).n_fg.double() for seed in range(2)]
        assert found.value == pytest.approx(float(torch.stack(counts).mean()))


# --- readings and figures


def findings() -> FineTuningFindings:
    """On as much of a study as findings without accuracies ask for."""
    names = {"network_name": "VGG-11", "scale": "narrow", "dataset": "embedded images"}
    return FineTuningFindings(SimpleNamespace(parameters=given(), **names), NOTEBOOK)


def read(evidence: Evidence) -> str:
    return fine_tuning_reading({"FC1": evidence}, findings())


VERDICTS = {True: "reproduced", False: "contradicted", None: "inconclusive"}


@pytest.mark.parametrize(
    "student, start, found, answer",
    [(True, 0, True, "**Yes"), (False, 6, False, "**No: nothing"), (True, 5, None, "**Inconcl")],
)
def test_the_reading_may_say_no_and_tells_a_head_start_from_learning(student, start, found, answer):
    """Then the fine-tuned network starts with so many points of 6, the other learns 1 of 1."""
    verdict, baseline = VERDICTS[found], found is not True
    told = read(made_evidence(student, baseline))
    assert told.count(f"**{verdict}**") == 4 and answer in told
    assert f"Of 3 statements: 3 {verdict}" in told
    maps = {"S": [counted(start, 6, 6)], "B": [counted(0, 1, 1)]}
    told = read(Evidence("FC1", (0, 1, 2), INSIDE, maps, made_evidence().distance))
    (line,) = [line for line in told.splitlines() if "*new*" in line]
    assert f"**{verdict}**" in line


def test_what_is_not_defined_is_a_note_and_no_number():
    evidence = made_evidence()
    nothing = dict.fromkeys(evidence.epochs, evidence.maps["B"][0][0])  # equal entropies: no point
    evidence = replace(evidence, maps=evidence.maps | {"B": [nothing]})
    found = findings()
    found.add(evidence)
    assert fine_tuned_difference(evidence, "epochs_to_half", B) is None
    assert "epochs_to_half_fc1" not in found.numbers and len(found.notes) == 2
    assert found.numbers["n_fg_difference_fc1"].value == 6
    assert "not defined inconclusive" not in read(evidence)


@pytest.mark.parametrize(
    "epochs, shown", [((0, 1), (1,)), ((0, 1, 2), (1, 2)), ((0, 1, 2, 5, 9), (1, 5, 9))]
)
def test_fates_are_shown_at_three_checkpoints_and_begin_after_the_start(monkeypatch, epochs, shown):
    asked = []
    monkeypatch.setattr(fine_tuning, "fates_figure", lambda *given: asked.append(given))
    maps = {e: counted(1)[0] for e in epochs}
    evidence = Evidence("FC1", epochs, INSIDE, {"S": [maps], "B": [maps]}, {})
    fine_tuning.fine_tuning_fates(None, evidence, 2, B)
    ((_, trails, index, chosen),) = asked
    assert index == 2 and tuple(chosen) == shown
    assert {name: tuple(trail) for name, trail in trails.items()} == dict.fromkeys(
        ("fine-tuned", "from scratch"), epochs[1:]
    )


# --- the notebook


def test_the_notebook(study, tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_STORE", str(study.store.root))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    run = Executed(NOTEBOOK, {"device": "cpu"}, study.store.root, tmp_path)
    assert (run.code, run.told, run.added) == (0, "", set())
    about, results = run.notebook.metadata["kpnb"], read_results(NOTEBOOK, "smoke")
    assert runner.error_outputs(run.notebook) == []
    assert runner.figure_count(run.notebook) == about["figures"]
    kinds = [Path(folder).parent.name for folder in about["store"]]
    assert kinds.count("networks") == 3 and kinds.count("maps") == 4
    assert results.measures == results.comparisons == []
    assert json.loads(json.dumps(results.settings)) == study.parameters.model_dump(mode="json")
    names = set(QUANTITIES) - {"epochs_to_half"}
    wanted = {f"{name}_difference_{layer}" for name in names for layer in ("conv", "fc1")}
    wanted |= {"accuracy_source", "accuracy_difference", "accuracy_train_from_scratch"}
    for name in wanted | {"n_fg_fine_tuned_conv"}:
        number = results.numbers[name]
        assert number.low <= number.value <= number.high and number.n and number.unit, name
    assert "Fine-tuning against training" in run.text() and "Of 6 statements" in run.text()

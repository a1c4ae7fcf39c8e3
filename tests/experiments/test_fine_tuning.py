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
from prepared_folder import prepared_folder
from refusals import refuses
from shown_samples import maps_of
from studied import KeyStore, same_states

from kpnb.datasets.images import embedded_images, of_classes, split_classes
from kpnb.estimator.entropy import EntropyMaps
from kpnb.experiments import fine_tuning
from kpnb.experiments.fine_tuning import (
    QUANTITIES,
    FineTuningStudy,
    SourceStudy,
    estimate_of,
    imagenet_state,
    network_values,
)
from kpnb.metrics.evidence import Evidence
from kpnb.metrics.results import read_results
from kpnb.metrics.stats import paired_difference
from kpnb.networks.image import hand_on, image_network
from kpnb.run import notebook as runner
from kpnb.run.plan import ask, counting
from kpnb.store import Store
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import FineTuningParameters, ImageParameters, resolve
from kpnb.training.train import accuracy

NOTEBOOK, B, FEW = "image_fine_tuning", 0.2, {"device": "cpu", "samples": 3}
NAMES = [f"c{i}" for i in range(12)]


@pytest.mark.parametrize(
    "prepared, split, page",
    [(False, 0, NOTEBOOK), (False, 3, f"{NOTEBOOK}_split3"), (True, 3, f"{NOTEBOOK}_photographs")],
)
def test_another_split_or_photographs_have_a_results_file_of_their_own(prepared, split, page):
    """By the lines of the notebook itself."""
    file = Path(__file__).resolve().parents[2] / "notebooks" / f"{NOTEBOOK}.ipynb"
    sources = ["".join(one["source"]) for one in json.loads(file.read_text("utf-8"))["cells"]]
    (cell,) = (one for one in sources if "\npage = " in one)
    lines = [line for line in cell.splitlines() if line.startswith(("which = ", "page = "))]
    given = {"study": SimpleNamespace(prepared=prepared, parameters=SimpleNamespace(split=split))}
    exec("\n".join(lines), given)
    assert given["page"] == page


def study_of(store: Store | None = None, **changed) -> FineTuningStudy:
    given = {"preset": "smoke"} | FEW | changed
    return FineTuningStudy(resolve(FineTuningParameters, given), store or KeyStore(Path("unused")))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> FineTuningStudy:
    """Source network, both networks and their maps, computed once."""
    study = study_of(WatchedStore(tmp_path_factory.mktemp("store")))
    with single_thread():
        for layer in study.parameters.layers:
            study.evidence(layer)
    return study


def parts_of(state: dict) -> tuple[dict, dict]:
    """A state dict below its FC layers, and these."""
    head = {k: v for k, v in state.items() if k.startswith("classifier.")}
    return {k: v for k, v in state.items() if k not in head}, head


def test_the_split_takes_every_class_once_and_samples_are_those_of_some_classes():
    for source in (1, 11):
        first, second = split_classes(NAMES, source, seed=3)
        assert len(first) == source and sorted(first + second) == sorted(NAMES)
        assert list(first) == [n for n in NAMES if n in first]
        assert split_classes(NAMES, source, 3) == (first, second)
        assert len({split_classes(NAMES, source, seed) for seed in range(5)}) > 1
    samples, names = embedded_images(40, image_size=16), ("tool", "bird", "fruit")
    part, called = of_classes(samples, names), [samples.class_names[k] for k in samples.labels]
    kept = [i for i in range(40) if called[i] in names]
    assert torch.equal(part.images, samples.images[kept])
    assert torch.equal(part.masks, samples.masks[kept])
    assert [part.class_names[label] for label in part.labels] == [called[i] for i in kept]
    assert part.class_names == names and part.source["parts"][-1] == {"classes": list(names)}
    assert of_classes(samples, names[::-1]).source != part.source
    for count in (0, 12, -1):
        refuses(split_classes, "either side", NAMES, count, 0)
    one = embedded_images(1, image_size=16)
    other = next(name for name in one.class_names if name != one.class_names[one.labels[0]])
    for names in (("bird", "dragon"), ("bird", "bird")):
        refuses(of_classes, "name known ones", one, names)
    refuses(of_classes, f"no sample of {other}", one, (other,))
    net = image_network("VGG-11", 4, "narrow")
    for name in ("VGG-16", "AlexNet"):
        state = image_network(name, 4, "narrow").state_dict()
        refuses(hand_on, "other layers", net, state, fine_tuning.FC_PART)


def test_source_and_target_share_no_image(study):
    assert not set(study.source.names) & set(study.names)
    source, target = study.source.data, study.data
    for split in ("teacher_samples", "test_samples", "new_samples"):
        both = [getattr(data, split) for data in (source, target)]
        assert sum(map(len, both)) == len(getattr(study.whole, split))
        seen = [{image.numpy().tobytes() for image in part.images} for part in both]
        assert not seen[0] & seen[1]
    assert set(target.training_samples.labels.tolist()) == set(range(len(study.names)))
    assert study.outputs == len(study.names) == 6 == study.source.outputs


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
    # Right answers are those of accuracy.
    samples, trained = study.data.test_samples, study.of("F", 0)
    right, net = fine_tuning.right_answers(study, "F", samples), study.network(trained)
    assert right.shape == (1, len(samples)) and set(np.unique(right)) <= {0, 1}
    assert right.mean() == pytest.approx(accuracy(net, samples.images, samples.labels))
    assert right.mean() == pytest.approx(trained.accuracy["test"])


def test_the_fine_tuned_network_takes_the_batch_that_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setattr(FineTuningStudy, "_trained", lambda *given: given[-2])
    parameters = study_of(batch=8).parameters.model_copy(update={"source": "ImageNet"})
    assert FineTuningStudy(parameters, Store(tmp_path)).classifier("F", 0).batch_size == 8


def fingerprints(**changed) -> dict[str, str]:
    study = study_of(**changed)
    seed, owner = study.parameters.seeds[0], {"T": study.source, "F": study, "B": study}
    return {role: of.of(role, seed).fingerprint for role, of in owner.items()}


#: A parameter's other value, and the networks that are others then.
CHANGES = {
    "split": (1, "TFB"), "source_classes": (5, "TFB"), "teacher_samples": (252, "TFB"),
    "teacher_epochs": (3, "TF"), "fine_tuning_rate": (0.1, "F"), "epochs": (3, "FB"),
    "layers": (["FC1"], ""), "seeds": ([1], "TFB"), "samples": (5, ""),
}  # fmt: skip


def test_what_a_parameter_changes(few_test_images):
    """And the recipes differ in their rate alone."""
    for rate in (0.1, 1.0):
        study = study_of(fine_tuning_rate=rate)
        tuned, scratch = study.schedule("F", 3), study.schedule("B", 3)
        assert tuned.lr == pytest.approx(rate * scratch.lr)
        assert replace(tuned, lr=scratch.lr) == scratch and tuned.seed == 3
    unchanged = fingerprints()
    for name, (value, expected) in CHANGES.items():
        changed = fingerprints(**{name: value})
        assert "".join(r for r in "TFB" if unchanged[r] != changed[r]) == expected, name


def test_imagenet_weights_take_the_place_of_a_source_network(monkeypatch, few_test_images):
    net, other = image_network("VGG-11", 3, "narrow", seed=9), study_of()
    known = {role: other.of(role, 0).fingerprint for role in "FB"}
    monkeypatch.setattr(fine_tuning, "imagenet_state", lambda *_: net.state_dict())
    monkeypatch.setattr(SourceStudy, "of", lambda *_: pytest.fail("no source network is wanted"))
    parameters = other.parameters.model_copy(update={"source": "ImageNet"})
    study = FineTuningStudy(parameters, other.store)
    assert same_states(*(parts_of(n.state_dict())[0] for n in (study.build("F", 0), net)))
    assert same_states(*(parts_of(study.build(role, 0).state_dict())[1] for role in "FB"))
    assert fine_tuning.IMAGENET in study.check_teacher()
    assert study.of("F", 0).fingerprint != known["F"]
    assert study.of("B", 0).fingerprint == known["B"]
    # The state with ImageNet weights has no FC layer.
    asked, net = [], image_network("AlexNet", 4, "narrow")
    network = lambda *given, **named: asked.append((given, named)) or net  # noqa: E731
    monkeypatch.setattr(fine_tuning, "image_network", network)
    state = imagenet_state.__wrapped__("VGG-16", 4)  # past its cache
    assert state and parts_of(state)[1] == {}
    assert asked == [(("VGG-16", 2, "full"), {"seed": 4, "pretrained": True})]


def test_what_learned_another_data_set_is_what_teachers_start_from(tmp_path):
    """One for several pairs, as of teachers; nothing is split, and the task is all classes."""
    own, other = (prepared_folder(tmp_path / name, per_class=30, classes=classes)
                  for name, classes in (("own", 3), ("other", 4)))  # fmt: skip
    given = dict(preset="smoke", data=str(own), pretrained=str(other), image_size=32, batch=16,
                 fraction=1.0, teacher_samples="all", teacher_epochs=1, epochs=1, samples=3,
                 checkpoints=[0, 1], seeds=[1, 2, 3], teachers=[7, 8])  # fmt: skip
    store = Store(tmp_path / "store")
    study = FineTuningStudy(resolve(FineTuningParameters, given), store)
    taught = ImageStudy(resolve(ImageParameters, given), store)
    assert list(map(len, study.class_parts)) == [4, 3] and study.outputs == len(study.names) == 3
    assert len(study.data.teacher_samples) == 90
    assert study.source.parameters.seeds == (7, 8)
    for seed, teacher in ((1, 7), (2, 8), (3, 7)):
        source = study.source.of("T", teacher)
        assert source.fingerprint == taught.pretraining.of("T", teacher).fingerprint
        start = study.build("F", seed).state_dict()
        handed, _ = parts_of(source.states[source.final_epoch])
        assert same_states(parts_of(start)[0], handed)
        assert same_states(parts_of(start)[1], parts_of(study.build("B", seed).state_dict())[1])
    assert len({study.of("F", seed).fingerprint for seed in (1, 3)}) == 2
    right = fine_tuning.right_answers(study.source, "T", study.source.data.test_samples)
    assert right.shape == (2, 60)
    found = fine_tuning.FineTuningFindings(study, NOTEBOOK)
    found.measure_accuracies()  # the interval is for other teachers, where pairs share them
    told = found.numbers["accuracy_difference"]
    right = [fine_tuning.right_answers(study, role, study.data.test_samples) for role in "FB"]
    shared, apart = (paired_difference(*right, teachers=of) for of in ([7, 8, 7], None))
    assert (told.value, told.low, told.high) == (shared.value, shared.low, shared.high)
    assert told.low != apart.low
    for left in (False, True):  # nothing of it is loaded for a plan without `left`
        asked = counting(FineTuningStudy(study.parameters, Store(tmp_path / "none")), left)
        ask(asked)
        trained = [cost.work[0] for kind, cost in asked.store.costs.values() if kind == "networks"]
        assert sorted(one.role for one in trained) == [*"BBBFFFTT"]
        assert {one.role: one.units for one in trained} == {"T": 120, "B": 90, "F": 90}
    for told in ({"pretrained": "ImageNet"}, {"source": "ImageNet"}):
        refuses(resolve, "give source='ImageNet' and pretrained='none'", FineTuningParameters,
                given | told | {"scale": "full"})  # fmt: skip


def test_a_bad_source_network_voids_the_study(monkeypatch, few_test_images):
    study, scores = study_of(preset="study"), [0.5, 0.34]
    monkeypatch.setattr(SourceStudy, "accuracies", lambda *_: {"test": scores})
    assert "50.0% / 34.0%, chance 16.7%" in study.check_teacher()
    scores[1] = 0.16
    refuses(study.check_teacher, "void.*teacher_epochs or teacher_samples")


INSIDE = torch.arange(16) < 9  # the foreground


def random_evidence() -> Evidence:
    """Of 2 seeds: random maps of 5 samples at 6 checkpoints, the first without any point at all."""
    generator, epochs = torch.Generator().manual_seed(1), (0, 1, 2, 4, 7, 9)

    def maps() -> EntropyMaps:
        entropy = torch.randn(5, 16, generator=generator)
        entropy[0] = torch.where(INSIDE, 5.0, 0.0)
        return maps_of(entropy)

    by_role = {role: [{e: maps() for e in epochs} for _ in range(2)] for role in "SB"}
    ways = [[0.1 * e for e in epochs]] * 2
    distance = {(role, "epoch"): ways for role in "SB"}
    return Evidence("FC1", epochs, INSIDE.expand(5, 16), by_role, distance)


@pytest.mark.parametrize("role, seed", [("S", 0), ("S", 1), ("B", 0)])
def test_training_values_against_sets(role, seed):
    evidence = random_evidence()
    found = fine_tuning.training_values(evidence, role, seed, B)
    rho = network_values(evidence, role, "rho", B)[seed]
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
        assert rho[sample] == pytest.approx(counts[-1] / len(ever) if ever else 0)
    assert found["ever"][0] == 0 and found["epochs_to_half"].isnan().any()


def counted(*counts: int) -> dict[int, EntropyMaps]:
    """Maps of 3 equal samples with so many foreground points at epochs 0, 1, ..."""
    return {e: maps_of(-(torch.arange(16) < n).float().expand(3, 16)) for e, n in enumerate(counts)}


def test_known_differences():
    """See made_evidence: the good network keeps 6 points from epoch 1 on."""
    evidence = made_evidence(student=True, baseline=False)
    wanted = {"n_fg": 3.0, "early_n_fg": 3.5, "discarded": -2.5, "d_mean": -0.05}
    wanted["rho"] = 1 - (3 / 7 + 3 / 4) / 2
    for name, value in wanted.items():
        assert estimate_of(evidence, name, B).value == pytest.approx(value), name
    assert estimate_of(evidence, "discarded", B, "S").value == 0
    # A sample without a map at some checkpoint takes no part.
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
        gap = estimate_of(evidence, name, B)
        assert (gap.value, gap.low, gap.high) == (0, 0, 0), name
    by_epoch = fine_tuning.counts_by_epoch(evidence, "S", B)
    for epoch, found in zip(evidence.epochs, by_epoch, strict=True):
        counts = [evidence.points("S", seed, epoch, B).n_fg.double() for seed in range(2)]
        assert found.value == pytest.approx(float(torch.stack(counts).mean()))


def findings() -> fine_tuning.FineTuningFindings:
    """On as much of a study as findings without accuracies ask for; no image is drawn."""
    names = {"network_name": "VGG-11", "scale": "narrow", "dataset": "embedded images"}
    study = SimpleNamespace(parameters=study_of().parameters, **names)
    return fine_tuning.FineTuningFindings(study, NOTEBOOK)


def read(evidence: Evidence) -> str:
    return fine_tuning.fine_tuning_reading({"FC1": evidence}, findings())


VERDICTS = {True: "supported", False: "opposed", None: "undecided"}


@pytest.mark.parametrize(
    "student, start, found, answer",
    [(True, 0, True, "**Yes"), (False, 6, False, "**No: nothing"), (True, 5, None, "**Undecided")],
)
def test_the_reading_may_say_no_and_tells_a_head_start_from_learning(student, start, found, answer):
    """Then the fine-tuned network starts with so many points of 6, the other learns 1 of 1."""
    verdict, baseline = VERDICTS[found], found is not True
    told = read(made_evidence(student, baseline, seeds=2))
    assert told.count(f"**{verdict}**") == 4 and answer in told
    assert f"Of 3 statements: 3 {verdict}" in told
    maps = {"S": [counted(start, 6, 6)] * 2, "B": [counted(0, 1, 1)] * 2}
    inside = INSIDE.expand(3, 16)
    told = read(Evidence("FC1", (0, 1, 2), inside, maps, made_evidence(seeds=2).distance))
    (line,) = [line for line in told.splitlines() if "*new*" in line]
    assert f"**{verdict}**" in line


def test_what_is_not_defined_is_a_note_and_no_number():
    evidence = made_evidence()
    nothing = dict.fromkeys(evidence.epochs, evidence.maps["B"][0][0])  # equal entropies: no point
    evidence = replace(evidence, maps=evidence.maps | {"B": [nothing]})
    found = findings()
    found.add(evidence)
    assert estimate_of(evidence, "epochs_to_half", B) is None
    assert "epochs_to_half_fc1" not in found.numbers and len(found.notes) == 2
    assert found.numbers["n_fg_difference_fc1"].value == 6
    assert "not defined undecided" not in read(evidence)


@pytest.mark.parametrize(
    "epochs, shown", [((0, 1), (1,)), ((0, 1, 2), (1, 2)), ((0, 1, 2, 5, 9), (1, 5, 9))]
)
def test_fates_are_shown_at_three_checkpoints_and_begin_after_the_start(monkeypatch, epochs, shown):
    monkeypatch.setattr(fine_tuning, "fates_figure", lambda *given: given)
    maps = {e: counted(1)[0] for e in epochs}
    evidence = Evidence("FC1", epochs, INSIDE.expand(3, 16), {"S": [maps], "B": [maps]}, {})
    _, trails, index, chosen = fine_tuning.fine_tuning_fates(None, evidence, 2, B)
    assert index == 2 and tuple(chosen) == shown and list(trails) == ["fine-tuned", "from scratch"]
    assert all(tuple(trail) == epochs[1:] for trail in trails.values())


@pytest.mark.long
def test_the_notebook(study, tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_STORE", str(study.store.root))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    run = Executed(NOTEBOOK, FEW, study.store.root, tmp_path)
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
        assert number.low is None and number.n and number.unit, name
        assert "one seed: no interval" in number.what and "[nan" not in run.text()
    assert "Fine-tuning against training" in run.text() and "Of 6 statements" in run.text()

"""Counts of work by hand, the study asked on a store that counts, and what a plan does not know."""

import importlib
from collections import Counter

import pytest
import torch
from plans import OWN, made_machine, planned_study, unit_machine
from refusals import refuses

from book.make import plan_pages
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.experiments.ratio_accuracy import checkpoint_accuracies
from kpnb.networks.image import image_network
from kpnb.run import plan
from kpnb.run.machine import named, study_of, write_machine
from kpnb.run.plan import RELEASES, CountingStore, Planned, ask, counting, estimator_rows
from kpnb.run.sweeps import read_sweeps
from kpnb.store import Store
from kpnb.study.image import ImageStudy


def study(notebook="image_h1", preset="demo", **given):
    """Of one seed; of images, at the demo, one network and layer, followed on all samples."""
    images = preset == "demo" and notebook.startswith("image_")
    own = {"network": "VGG-11", "layers": ["FC1"], "followed": None} if images else {}
    return planned_study(notebook, preset, **{"seeds": [0]} | own | given)


SEEN, FOR, TESTED = 1500, 100, 2000 + 2000  # images, epochs; unseen and new images


def costs(asked, left=False) -> dict:
    """key -> (kind, cost) of all that a study asks for."""
    counted = counting(asked, left)
    ask(counted)
    return counted.store.costs


def units(found: dict, task: str) -> float:
    return sum(w.units for _, cost in found.values() for w in cost.work if w.task == task)


def kinds(found: dict) -> list[str]:
    return [kind for kind, _ in found.values()]


def planned(*studies, machine=None) -> Planned:
    found = Planned("", machine or unit_machine())
    return [found.add(one) for one in studies][-1]


def test_the_demo_by_hand():
    found = costs(study())  # 30,000 images, 12 epochs; 1,500 of them, 100 epochs; 40 measured
    assert kinds(found).count("networks") == kinds(found).count("maps") == 3
    kept, targets_features_scores = len(study().checkpoints), 2 * SEEN + 4 * (SEEN + TESTED)
    assert {task: units(found, task) for task in ("train", "above", "forward", "maps")} == {
        "train": 30_000 * 12 + 2 * SEEN * FOR, "above": SEEN * 20,
        "forward": targets_features_scores, "maps": 40 * (1 + 2 * kept),
    }  # fmt: skip
    weigh = Counter()
    for kind, cost in found.values():
        weigh[kind] += plan.stored_bytes(cost)
    state = 4 * sum(t.numel() for t in image_network("VGG-11", 12, "narrow").state_dict().values())
    assert weigh["networks"] == state * (1 + 2 * kept)
    assert weigh["maps"] == 40 * (1 + 2 * kept) * 4 * (2 * 16**2 + 2)
    three = costs(study(seeds=[0, 1, 2], teachers=None))
    two, shared = costs(study(layers=["FC1", "FC2"])), costs(study(seeds=[0, 1, 2]))
    for task in ("train", "above", "forward", "maps"):
        assert units(three, task) == 3 * units(found, task)
    assert units(two, "above") == 2 * units(found, "above")
    assert units(two, "train") == units(found, "train") + SEEN * FOR  # teacher, baseline are shared
    assert units(shared, "train") == units(three, "train") - 2 * 30_000 * 12


@pytest.mark.parametrize("notebook", ["image_h1", "pointcloud_h1", "sentiment_h1", "qa_h1"])
@pytest.mark.parametrize("preset", ["smoke", "paper"])
def test_no_data_are_loaded_and_nothing_is_computed(notebook, preset, monkeypatch):
    module = importlib.import_module(type(study(notebook)).__module__)
    for name in ("data_folder", "embedded_images", "embedded_sentences", "embedded_shapes"):
        monkeypatch.setattr(module, name, None, raising=False)  # is not called
    monkeypatch.setattr(Store, "compute", None)
    assert {"networks", "maps", "accuracies"} == set(kinds(costs(study(notebook, preset))))


def test_operations_by_hand_and_counts_of_the_network_itself():
    small, own = study(network="AlexNet").anatomy("B"), study().anatomy("B")
    assert small.above("FC2") == 2 * 256 * 12 and small.above("FC3") == 0
    net = ImageStudy(study().parameters).build("B", 0)
    assert own.parameters == sum(p.numel() for p in net.parameters())
    shapes = {name: t.shape for name, t in net.state_dict().items()}
    assert {name: t.shape for name, t in study().state("B").items()} == shapes
    clouds = [study("pointcloud_h1", points=n, background=10).anatomy("B") for n in (100, 200)]
    assert 1.5 < clouds[1].up_to("") / clouds[0].up_to("") < 2.5


def test_runs_share_what_has_one_key():
    cell = dict(notebook="image_cell", network="VGG-11", teacher="same")
    first, other = study(**cell), study(**cell, layers=["FC2"])
    alone, again, both = planned(first), planned(first, study(**cell)), planned(first, other)
    assert again.keys == alone.keys and again.runs == 2 and again.seconds == alone.seconds
    assert len(both.keys) == len(alone.keys) + 1 + 3  # a student, and maps of T, S and B
    found, runs = plan.plan_name("table_ii", "study", {}, unit_machine()), {}
    sweep = read_sweeps()["table_ii"]
    for run in sweep.runs:
        runs |= costs(study_of(sweep.resolved(run, "study")))
    assert found.runs == len(sweep.runs) == 6 and found.keys == runs.keys()
    trained = [cost.work[-1].role for kind, cost in runs.values() if kind == "networks"]
    assert trained.count("T") == 9  # AlexNet, VGG-16, VGG-19; and three each of VGG-11 and VGG-16


def test_teachers_of_another_size_changed_images_and_studies_without_students_are_counted():
    asked = counting(study("image_cell", network="AlexNet", teacher="VGG-16"))
    titles = [named(asked, role)["network"].split()[0] for role in "TB"]
    assert titles == ["VGG-16", "AlexNet"]
    assert asked.anatomy("T").up_to("") > 2 * asked.anatomy("B").up_to("")
    plain, changed = (costs(study(augment=how)) for how in ("none", "all"))
    assert units(changed, "forward") == units(plain, "forward") + SEEN * (FOR + 19)  # each step
    own, tuned = costs(study("image_fine_tuning")), study("image_fine_tuning")
    ready = costs(study("image_fine_tuning", source="ImageNet", scale="full"))
    for found, roles in ((own, {"T", "B", "F"}), (ready, {"B", "F"})):
        assert {cost.work[0].role for kind, cost in found.values() if kind == "networks"} == roles
    target = 2 * round(0.15 * 3000) * tuned.schedule("B", 0).epochs  # of half of the classes
    assert units(own, "above") == 0 and units(own, "train") == 3000 * 12 + target
    assert kinds(costs(study("image_coherency"))) == ["networks", "accuracies", "networks"]


def test_what_comes_back_has_no_numbers_and_what_an_experiment_stores_is_counted_too():
    counted = counting(study())
    trained = counted.of("S", 0, "FC1")
    assert sorted(trained.states) == list(counted.checkpoints)
    assert all(t.device.type == "meta" for t in trained.states[0].values())
    maps = counted.maps(trained, "FC1", [0])[0]
    assert maps.sigma.shape == (40, 16**2) and isinstance(counted.store, CountingStore)
    assert list(checkpoint_accuracies(counted, "FC1", 0)) == list(counted.checkpoints)
    (curve,) = [cost for kind, cost in counted.store.costs.values() if kind == "accuracies"]
    heads = sum(work.units for work in curve.work if work.task == "above")
    assert heads == len(counted.checkpoints) * SEEN * 20


def test_what_the_store_holds_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("kpnb.study.image.TEST_SAMPLES", 40)
    small = dict(preset="smoke", network="AlexNet", teacher_samples=120, samples=2)
    asked = study(store=Store(tmp_path), **small)
    everything = costs(asked, left=True)
    assert kinds(everything) == kinds(costs(asked))
    asked.maps(asked.of("B", 0), "FC1")
    left = costs(asked, left=True)
    gone = [everything[key] for key in everything.keys() - left.keys()]
    found = sorted((kind, cost.work[0].role) for kind, cost in gone)
    assert found == [("maps", "B"), ("networks", "B")]


def test_complete_releases_have_the_counts_that_data_prep_checks():
    counts = {n: importlib.import_module(f"data_prep.{n}").COUNTS for n in RELEASES}
    cub, tiny, model = counts["cub200"], counts["tiny_imagenet"], counts["modelnet40"]["off"]
    ten = counts["modelnet10"]
    classes = tiny["classes"]
    by_class = (tiny[f"{split} images of a class"] for split in ("train", "test"))
    assert {
        "cub200": (cub["train images"], cub["test images"], cub["classes"]),
        "tiny_imagenet": (*(classes * n for n in by_class), classes),
        "modelnet40": (model["train shapes"], model["test shapes"], model["classes"]),
        "modelnet10": (ten["train shapes"], ten["test shapes"], ten["classes"]),
        "sst2": (counts["sst2"]["glue"]["train"], counts["sst2"]["glue"]["dev"], 2),
        "squad": (counts["squad"]["train"], counts["squad"]["dev"], 2),
    } == RELEASES


def test_a_data_set_that_nobody_can_count_needs_a_number(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_DATA", str(tmp_path))
    refuses(costs, "teacher_samples as a number", study(data="coco", teacher_samples="all"))
    whole = "sentiment_h1", "study", {"teacher_samples": "all"}, unit_machine()
    refuses(plan.plan_name, "give teacher_samples as a number", *whole)
    found = costs(study(data="coco", teacher_samples=500))
    assert units(found, "train") == 500 * 12 + 2 * 25 * FOR
    told = str(study(data="coco", teacher_samples="all").plan())
    assert told.startswith("What this run takes is not known: ")
    told = str(study(data="coco", teacher_samples=500).plan())
    assert told.startswith("**With an empty store** this study takes about ") and "scaled" in told
    found = plan.plan_name("paper_iv", "paper", {}, unit_machine())  # the rest of a sweep
    assert found.runs == 3 and found.unknown == {"ilsvrc_det": 2}
    assert any("not in it: 2 runs on ilsvrc_det" in line for line in found.lines())
    assert plan.plan_name("paper_viii", "paper", {}, unit_machine()).runs == 0


@pytest.mark.parametrize("probes,evaluations", [(8, 1), (24, 3), (16, 1)])
def test_rows_of_a_map_are_those_that_the_estimator_runs(monkeypatch, probes, evaluations):
    net, seen = image_network("AlexNet", 4, "narrow").eval(), []
    read = FeatureReader.__call__

    def counted(self, forward):
        y = read(self, forward)
        seen.append(len(y) * y.requires_grad)
        return y

    monkeypatch.setattr(FeatureReader, "__call__", counted)
    given = dict(probes=probes, evaluations=evaluations, standard_error=None, chunk=64)
    estimator = EntropyEstimator(layer_name(net, "FC1"), **given)
    estimator.explain(net, torch.randn(2, 3, 32, 32))
    assert sum(seen) == 2 * estimator_rows(estimator.settings)
    settings = {"method": "optimum", "probes": 8, "evaluations": 3}
    assert (
        estimator_rows(settings) == 8 * 24 < estimator_rows(settings | {"method": "published"}) / 5
    )


def test_a_plan_adds_up_seconds_and_bytes_of_its_network_or_scales_another_by_operations():
    found, whole = costs(study()), planned(study())
    maps = 40 * (1 + 2 * len(study().checkpoints))
    own = study().anatomy("B")
    below, head = (part / own.up_to("") for part in (own.up_to("FC1"), own.above("FC1")))
    assert whole.kinds["maps"] == pytest.approx(maps * 25)
    trained = 30_000 * 12 + SEEN * FOR * (1 + below) + SEEN * 20 * head
    scored = SEEN + TESTED
    assert whole.kinds["networks"] == pytest.approx(trained + 3 * scored + 2 * SEEN * below)
    assert whole.kinds["accuracies"] == pytest.approx(scored)
    disk = sum(plan.stored_bytes(cost) for _, cost in found.values())
    assert whole.measured == 1 and whole.disk == disk
    top = costs(study(layers=["FC3"]))  # nothing lies above the last layer
    (above,) = [w for _, cost in top.values() for w in cost.work if w.task == "above"]
    assert plan.seconds_of(above, study(), unit_machine(), study().anatomy) == ("", 0.0)
    other = planned(study(network="VGG-16"))
    ratio = study(network="VGG-16").anatomy("B").up_to("") / own.up_to("")
    assert other.kinds["maps"] == pytest.approx(ratio * maps * 25, rel=0.01)
    assert other.measured < 0.01
    assert any(f"VGG-16 (narrow), 3x32x32 from {OWN}" in line for line in other.lines())
    assert other.process > plan.PROCESS + other.disk and "GPU" not in other.memory
    assert other.computing > 4 * 33_500 * 3 * 32**2
    assert "of the GPU and" in planned(study(), machine=unit_machine(device="cuda")).memory


MISTAKES = {
    ("image_h7x",): "There is no notebook 'image_h7x'",
    ("table_ii", "--preset", "nothing"): "is not run at 'nothing'",
    ("table_ii", "--preset", "study", "-p", "epochs=3"): "leave out -p",
    ("image_h1", "-p", "epoch=3"): "There is no parameter 'epoch'",
    ("image_h1", "-p", "preset=weekend"): "preset is 'weekend'",
    ("image_h1", "--speeds", "no.json"): "no.json holds no speeds",
}


def test_the_command_and_its_words_and_mistakes_in_one_sentence(tmp_path, capsys):
    for wrong, sentence in MISTAKES.items():
        assert plan.main(wrong) == 2
        told = capsys.readouterr().err
        assert sentence in told and told.count("\n") == 1
    path = write_machine(unit_machine(), tmp_path / "mine.json")
    given = ["-p", "epochs=12", "-p", "network=VGG-11"]
    assert plan.main(["image_h1", *given, "--speeds", str(path)]) == 0
    told = capsys.readouterr().out
    assert told.startswith("image_h1 at demo: 1 run, 15 networks") and "100% of it" in told
    seconds = {0.4: "0.4 s", 59.6: "60 s", 90: "1.5 minutes", 7200: "2.0 hours", 9e5: "10 days"}
    assert {value: plan.duration(value) for value in seconds} == seconds
    assert [plan.size(n) for n in (2e6, 1.23e9, 62e9)] == ["2 MB", "1.2 GB", "62 GB"]


def test_the_page_says_where_nothing_is_measured_and_shows_what_is(monkeypatch):
    monkeypatch.setattr(plan_pages, "EXAMPLES", ("image_h1 paper",))
    assert plan_pages.examples_table([]) == plan_pages.NOTHING
    assert f"| {OWN} | float32 | 500 |" in plan_pages.speeds_table(made_machine())
    assert "| image_h1 | paper | a CPU |" in plan_pages.examples_table([unit_machine()])
    clouds = made_machine(unit_machine().speeds[1])
    assert "not known: No image network" in plan_pages.examples_table([clouds])

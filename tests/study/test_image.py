"""Image studies: which images are measured, prepared data sets as `paper` takes them, and one cell
of the tables: labels by object, larger teachers, augmentation, filing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import smoke_study
from prepared_folder import prepared_folder
from studied import same_states

import kpnb.study.image
from kpnb.datasets import images as image_files
from kpnb.datasets.images import (
    draw_recipe,
    embedded_images,
    relabeled,
    render,
    same_part,
    shown_objects,
)
from kpnb.datasets.samples import normalization
from kpnb.errors import KpnbError
from kpnb.estimator.features import layer_module
from kpnb.experiments.fine_tuning import FineTuningStudy
from kpnb.metrics.evidence import Choices
from kpnb.metrics.points import published_filter
from kpnb.metrics.results import available_cells, available_results, read_results, write_results
from kpnb.networks.image import image_network
from kpnb.store import Store
from kpnb.study.findings import Findings, compare, hypothesis_metrics
from kpnb.study.image import CellStudy, ImageStudy
from kpnb.study.parameters import (
    CellParameters,
    FineTuningParameters,
    ImageParameters,
    models_for,
    resolve,
)
from kpnb.training.augmentation import crop_and_flip, flip_and_shift, strong
from kpnb.training.settings import device_use, exactness, with_effort
from kpnb.training.train import accuracy

CLASSES = 12
SHORT = {"samples": 2, "teacher_samples": 120, "teacher_epochs": 1, "epochs": 1}


@pytest.fixture
def few_test_images(monkeypatch):
    monkeypatch.setattr(kpnb.study.image, "TEST_SAMPLES", 60)


def test_the_baseline_starts_as_the_network_of_its_seed(smoke):
    initial = image_network("VGG-11", CLASSES, "narrow", seed=0).state_dict()
    assert same_states(smoke.study.of("B", 0).states[0], initial)
    for role in "TSB":
        one, other = (smoke.study.build(role, seed).state_dict() for seed in (0, 1))
        assert not torch.equal(one["features.0.weight"], other["features.0.weight"])


def test_measured_images_have_foreground_and_background(smoke):
    foreground = smoke.study.data.foreground
    assert len(foreground) == 6
    assert foreground.any(1).all() and not foreground.all(1).any()
    measured, training = smoke.study.data.measured, smoke.study.data.training_samples
    assert len(training) == 120
    places = [(training.images == image).flatten(1).all(1).nonzero() for image in measured.images]
    assert all(len(place) == 1 for place in places)


def test_images_without_foreground_or_background_are_passed_over(tmp_path):
    images = smoke_study(tmp_path, samples=20).data
    masks = images.training_samples.masks.clone()
    masks[0], masks[2] = False, True
    masks[4, :, 1:] = masks[4, 1:] = False  # one pixel is too little for a cell
    masks[4, 0, 0] = True
    images.__dict__["training_samples"] = replace(images.training_samples, masks=masks)
    expected = [1, 3, *range(5, 23)]
    assert torch.equal(images.measured.images, images.training_samples.images[expected])
    assert images.foreground.any(1).all() and not images.foreground.all(1).any()


def test_unseen_images_are_measured_on_request(tmp_path, few_test_images):
    images = smoke_study(tmp_path, measured_on="test").data
    assert images.measured.source["split"] == "test"
    assert (images.measured.images[0] == images.test_samples.images).flatten(1).all(1).any()


def test_training_accuracy_is_of_the_images_at_hand(smoke):
    study = smoke_study(smoke.root, fraction=0.25)
    teacher, images = study.of("T", 0), study.data.training_samples
    assert study.store.computed() == []
    found = accuracy(study.network(teacher), images.images, images.labels)
    assert study.accuracies("T")["train"] == [found]


def test_layer_maps(smoke):
    student = smoke.study.of("S", 0, "FC1")
    maps = smoke.study.layer_maps(student, smoke.study.data.measured.subset([0, 3]))
    assert list(maps) == ["Conv", "FC1", "FC2", "FC3"]
    named = smoke.study.network(student).layer_names
    assert {layer: m.settings["layer"] for layer, m in maps.items()} == named
    stored = smoke.evidence.maps["S"][0][2]
    # Kernels round otherwise in batches of other sizes, and a ReLU may open or stay closed by it.
    torch.testing.assert_close(maps["FC1"].entropy, stored.entropy[[0, 3]], rtol=0, atol=0.01)
    assert not torch.allclose(maps["FC1"].entropy, maps["FC2"].entropy, rtol=0, atol=0.01)


@pytest.mark.parametrize("network", ["AlexNet", "ResNet-50"])
def test_other_families_run_through(network, tmp_path, few_test_images, one_thread):
    study = smoke_study(
        tmp_path, network=network, samples=2, epochs=1, teacher_epochs=1, teacher_samples=144
    )
    evidence = study.evidence("FC1")
    for role in "TSB":
        maps = evidence.maps[role][0][1]
        assert maps.entropy.shape == (2, 64) and maps.defined.all()
    assert same_states(*(study.of(role, 0, "FC1").states[0] for role in "SB"))
    weight = maps.settings["entropy_weight"]
    assert weight == (6.0 if network == "ResNet-50" else 7.0)


# --- a prepared data set


TINY = dict(
    network="AlexNet", scale="narrow", layers=["FC1"], image_size=32, grid=8, samples=4, probes=8,
    teacher_epochs=1, epochs=1, head_epochs=1, checkpoints=[0, 1], pretrained="none", batch=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return prepared_folder(tmp_path_factory.mktemp("data") / "colors")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("store"))


def parameters(folder, **changes):
    return resolve(ImageParameters, {"preset": "paper", "data": str(folder)} | TINY | changes)


def prepared_study(folder, store, **changes):
    return ImageStudy(parameters(folder, **changes), store)


def test_the_whole_way_on_a_data_set(folder, store):
    found = prepared_study(folder, store, augment="all")
    assert found.outputs == 3 and found.dataset == "Colors" and found.scale == "narrow"
    assert len(found.data.teacher_samples) == 36 == len(found.data.training_samples)
    evidence = found.evidence("FC1")
    for role in "TSB":
        maps = evidence.maps[role][0][1 if role != "T" else max(evidence.maps["T"][0])]
        assert maps.sigma.shape == (4, 64) and maps.defined.all()
    assert set(found.accuracies("S", "FC1")) == {"train", "test"}
    assert found.of("S", 0, "FC1").record.loss[0] > 0


def test_measured_images_are_of_several_classes(folder, store):
    found = prepared_study(folder, store, samples=12).data
    assert len(found.measured.labels.unique()) > 1
    assert torch.equal(
        found.measured.images, prepared_study(folder, store, samples=12).data.measured.images
    )


def test_fewer_samples_are_a_part_of_all(folder, tmp_path):
    data = prepared_folder(tmp_path / "more", per_class=40)
    part = prepared_study(data, Store(tmp_path / "s"), teacher_samples=100).data.teacher_samples
    assert len(part) == 100 and len(part.labels.unique()) == 3
    with pytest.raises(KpnbError, match="36 images to train on"):
        _ = prepared_study(folder, Store(tmp_path / "s"), teacher_samples=100).data.teacher_samples


def test_the_recipe_and_augmentation_follow_the_parameters(folder, store):
    published = prepared_study(folder, store)
    assert published.schedule("T", 0).schedule == "log" and published.augmentation("T") is None
    assert not published.scaled("FC1") and published.scaled("Conv")
    assert prepared_study(folder, store, recipe="ours").schedule("T", 0).schedule == "cosine"
    table_iv = prepared_study(folder, store, augment="teacher")
    assert table_iv.augmentation("T") is strong and table_iv.augmentation("S") is None
    assert table_iv.schedule("T", 0).weight_decay == 5e-4 != table_iv.schedule("B", 0).weight_decay
    assert prepared_study(folder, store, augment="all").augmentation("B") is crop_and_flip


def test_what_changes_a_network_changes_its_key(folder, store):
    base = prepared_study(folder, store)
    for changes in ({"augment": "all"}, {"recipe": "ours"}, {"image_size": 48}):
        other = prepared_study(folder, store, **changes)
        mine, theirs = [
            (s.network_key("B"), s.training_code("B"), s.schedule("B", 0)) for s in (base, other)
        ]
        assert mine != theirs, changes
    assert base.network_key("T")["tested"]["data"] == base.data_hashes["images"]


def test_pretrained_weights_are_fetched_to_start_with_only(folder, store, monkeypatch):
    asked = []
    real = kpnb.study.image.image_network

    def network(name, classes, scale, seed=0, pretrained=False):
        asked.append(pretrained)
        return real(name, classes, scale, seed)

    monkeypatch.setattr(kpnb.study.image, "image_network", network)
    found = prepared_study(folder, store, scale="full", pretrained="ImageNet")
    found.build("T", 0), found.build("B", 0), found.container("T", 0)
    assert asked == [True, False, False]
    assert found.schedule("T", 0).lr == 1e-3 < found.schedule("B", 0).lr


def test_parameters_that_do_not_fit_each_other(folder):
    with pytest.raises(KpnbError, match="torchvision has weights"):
        parameters(folder, pretrained="ImageNet")
    with pytest.raises(KpnbError, match="composed without end"):
        parameters("embedded", teacher_samples="all")
    with pytest.raises(KpnbError, match="precision is 'float16'"):
        parameters(folder, precision="float16")
    with pytest.raises(KpnbError, match="chunk is 0"):
        parameters(folder, chunk=0)


def test_batch_and_precision_reach_the_trainer(folder, store):
    found = prepared_study(folder, store, batch=8, precision="bfloat16")
    settings = with_effort(found.parameters, found.schedule("B", 0))
    assert (settings.batch_size, settings.autocast) == (8, "bfloat16")
    recipe = prepared_study(folder, store, batch=64)
    assert with_effort(recipe.parameters, recipe.schedule("B", 0)).batch_size == 64
    assert exactness(found.parameters) == {}
    assert exactness(parameters(folder, compiled=True)) == {"compiled": True}


def test_compiling_is_for_networks_that_run_to_the_end(folder, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compiled.append(type(net).__name__))
    found = prepared_study(folder, Store(tmp_path), compiled=True)
    found.of("B", 0), found.of("T", 0)
    assert len(compiled) == 2
    found.of("S", 0, "FC1")
    assert len(compiled) == 2


def test_large_networks_are_read_again_instead_of_kept(folder, store, monkeypatch):
    found = prepared_study(folder, store)
    assert found.of("B", 0) is found.of("B", 0)
    monkeypatch.setattr("kpnb.study.study.KEPT", 1000)
    found = prepared_study(folder, store)
    first, again = found.of("B", 0), found.of("B", 0)
    assert first is not again and first.fingerprint == again.fingerprint and first.bytes > 1000


def test_the_estimators_chunk_changes_no_map(folder, store):
    maps = [
        prepared_study(folder, store, chunk=chunk).maps(
            prepared_study(folder, store).of("B", 0), "FC1", [1]
        )[1]
        for chunk in (8, 256)
    ]
    assert torch.allclose(maps[0].entropy, maps[1].entropy, atol=1e-4)


def test_fine_tuning_from_imagenet_learns_all_classes_of_a_data_set(folder, store):
    given = {"preset": "paper", "data": str(folder)} | TINY | {"network": "AlexNet"}
    given |= {"scale": "full", "image_size": 64, "source_classes": 2, "classes": 12}
    found = FineTuningStudy(resolve(FineTuningParameters, given), store)
    assert found.outputs == 3 and len(found.data.training_samples) == 36
    assert found.dataset == "Colors"


@pytest.fixture(scope="module")
def samples():
    return embedded_images(240, "train", CLASSES, 16, seed=3)


def cell(store=None, **given) -> CellStudy:
    given = {"preset": "smoke", "network": "AlexNet"} | given
    return CellStudy(resolve(CellParameters, given), store or Store("unused"))


# --- one cell of the tables: labels


@pytest.mark.parametrize("outputs", [2, 3, 5, 12])
def test_few_outputs_merge_whole_neighboring_classes(samples, outputs):
    found = relabeled(samples, outputs).labels
    merged = [found[samples.labels == k].unique().tolist() for k in range(CLASSES)]
    assert all(len(labels) == 1 for labels in merged)
    order = [labels[0] for labels in merged]
    assert order == sorted(order) and set(order) == set(range(outputs))
    sizes = np.bincount(order)
    assert sizes.max() - sizes.min() <= 1


def test_as_many_outputs_as_classes_change_no_label(samples):
    assert torch.equal(relabeled(samples, CLASSES).labels, samples.labels)


@pytest.mark.parametrize("outputs", [13, 24, 200])
def test_many_outputs_split_classes_by_object(samples, outputs):
    found, shown = relabeled(samples, outputs).labels.tolist(), shown_objects(samples)
    by_object = {}
    for label, thing in zip(found, shown, strict=True):
        assert by_object.setdefault(thing, label) == label
    classes = {}
    for (name, _), label in by_object.items():
        assert classes.setdefault(label, name) == name
    assert max(found) < outputs and len(classes) > CLASSES


def test_every_output_is_an_equal_share_of_its_class_s_objects():
    objects = image_files.split_cut_outs("train")
    everything = embedded_images(12000, "train", CLASSES, 16, seed=0)
    labels = relabeled(everything, 24).labels.tolist()
    pairs = set(zip(labels, shown_objects(everything), strict=True))
    counts = np.bincount([label for label, _ in pairs])
    assert counts.sum() == sum(len(members) for members in objects.values())
    halves = [len(objects[name]) / 2 for name in everything.class_names for _ in range(2)]
    assert all(abs(c - half) <= 0.5 for c, half in zip(counts, halves, strict=True))


def test_the_objects_are_those_on_the_images(samples):
    """The recipe that names the object draws the very image."""
    mean, std = normalization()
    cut_outs, photos = image_files.split_cut_outs("train"), image_files.split_photos("train")
    for i in range(5):
        name = samples.class_names[int(samples.labels[i])]
        recipe = draw_recipe(np.random.default_rng([3, 0, i]), cut_outs[name], photos, 16)
        picture = torch.from_numpy(render(recipe, 16)[0]).permute(2, 0, 1)
        assert torch.equal(samples.images[i], (picture - mean) / std)
        assert shown_objects(samples)[i] == (name, recipe.cut_out.name)


def test_images_stay_and_the_source_tells(samples):
    changed = relabeled(samples, 24)
    assert changed.images is samples.images and changed.source != samples.source
    assert relabeled(samples, 25).source != changed.source


def test_same_part_is_the_fraction_by_class(samples):
    index = same_part(samples, 0.25, seed=7)
    assert torch.equal(samples.images[index], samples.fraction(0.25, seed=7).images)


def test_only_whole_known_samples_are_labeled_anew(samples):
    for wrong in (samples.subset([0, 1]), relabeled(samples, 2)):
        with pytest.raises(KpnbError, match="whole sets"):
            relabeled(wrong, 4)
    with pytest.raises(KpnbError, match="label the training split"):
        relabeled(embedded_images(24, "test", CLASSES, 16), 4)
    with pytest.raises(KpnbError, match="ask for fewer"):
        relabeled(samples, 1000)
    with pytest.raises(KpnbError, match="at least 2"):
        relabeled(samples, 1)


# --- one cell: the study


def test_every_number_of_outputs_gets_the_same_images():
    plain, two, many = (cell(outputs=n).data for n in (None, 2, 60))
    for data in (two, many):
        assert torch.equal(data.teacher_samples.images, plain.teacher_samples.images)
        assert torch.equal(data.training_samples.images, plain.training_samples.images)
        assert torch.equal(data.measured.images, plain.measured.images)
    assert not torch.equal(two.test_samples.images, plain.test_samples.images)
    assert torch.equal(two.test_samples.images, many.test_samples.images)


def test_the_output_has_as_many_dimensions_as_asked_for():
    study = cell(outputs=60)
    for role in "TSB":
        assert layer_module(study.build(role, 0), "FC3").out_features == 60
    assert study.reference_lines == {"chance": 1 / 60} and "60 outputs" in study.dataset
    assert cell(outputs=2).least_teacher == 0.75 and cell().least_teacher == 2 / 12


def test_a_larger_teacher_is_the_one_of_its_own_students():
    assert cell(teacher="VGG-16").network_key("T") == cell(network="VGG-16").network_key("T")
    assert cell(teacher="VGG-16").schedule("T", 0) == cell(network="VGG-16").schedule("T", 0)
    assert cell(teacher="VGG-16").network_key("S") == cell().network_key("S")
    ours, theirs = (s.build("T", 1) for s in (cell(teacher="VGG-16"), cell(network="VGG-16")))
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_teacher_named_as_the_student_is_the_same():
    assert cell(teacher="AlexNet").network_key("T") == cell(teacher="same").network_key("T")


def test_keys_tell_what_differs_and_only_that():
    base, more, augmented = cell(), cell(outputs=4), cell(augment="teacher")
    assert all(base.network_key(r) != more.network_key(r) for r in "TSB")
    assert base.network_key("T") != augmented.network_key("T")
    assert base.network_key("B") == augmented.network_key("B")
    image = ImageStudy(resolve(ImageParameters, {"preset": "smoke", "network": "AlexNet"}))
    assert image.network_key("T") == base.network_key("T")
    assert base.training_code("T") == image.training_code("T")
    assert flip_and_shift in augmented.training_code("T")
    assert flip_and_shift not in augmented.training_code("B")
    assert relabeled in more.training_code("B")


def test_unseen_objects_have_no_labels_of_their_own():
    with pytest.raises(KpnbError, match="measured_on"):
        resolve(CellParameters, {"preset": "smoke", "outputs": 4, "measured_on": "test"})
    for wrong in ({"outputs": 1}, {"outputs": 201}, {"run": "No Name"}, {"teacher": "VGG-12"}):
        with pytest.raises(KpnbError, match=next(iter(wrong))):
            resolve(CellParameters, {"preset": "smoke"} | wrong)


def test_the_notebook_has_its_own_model():
    assert models_for("image_cell") is CellParameters
    assert models_for("image_h1") is ImageParameters


def test_cells_of_one_network_share_their_teacher_and_baseline(tmp_path):
    store = Store(tmp_path)
    first = cell(store, layers=["FC1"], **SHORT)
    first.evidence("FC1")
    trained = len(list((tmp_path / "networks").glob("*/manifest.json")))
    second = cell(store, layers=["FC3"], **SHORT)
    evidence = second.evidence("FC3")
    assert trained == 3 and len(list((tmp_path / "networks").glob("*/manifest.json"))) == 4
    assert second.of("T", 0).fingerprint == first.of("T", 0).fingerprint
    assert second.of("B", 0).fingerprint == first.of("B", 0).fingerprint
    travelled = evidence.distance["B", "step"][0]
    assert travelled[0] == 0 and travelled[-1] > 0
    augmented = cell(store, layers=["FC1"], augment="teacher", **SHORT)
    assert augmented.of("T", 0).fingerprint != first.of("T", 0).fingerprint
    weights = [s.of("T", 0).states[1]["classifier.0.weight"] for s in (augmented, first)]
    assert not torch.equal(*weights)


def test_a_teacher_of_another_size_is_distilled_from(tmp_path):
    study = cell(Store(tmp_path), teacher="VGG-11", **SHORT)
    evidence = study.evidence("FC1")
    assert "features.3.weight" in study.of("T", 0).states[1]
    gaps = compare(evidence, hypothesis_metrics(1), Choices(0.2))
    assert set(gaps) == {"n_fg", "n_bg", "lambda"}
    assert published_filter([evidence.maps["S"][0][1]], evidence.foreground).shape == (2,)


def test_layers_that_do_not_fit_say_so(tmp_path):
    study = cell(Store(tmp_path), teacher="VGG-11", layers=["Conv"], **SHORT)
    with pytest.raises(KpnbError, match="feature"):
        study.student(0, "Conv")


# --- one cell: filing


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    return tmp_path


def filed(run):
    return Findings(cell(), "image_cell", run=run).results()


def test_runs_are_filed_apart(root):
    for run in ("", "ii_second", "ii_first"):
        write_results(filed(run))
    assert (root / "smoke" / "cells" / "ii_first.json").is_file()
    assert [r.run for r in available_cells("smoke")] == ["ii_first", "ii_second"]
    assert [r.run for r in available_results("smoke")] == [""]
    assert read_results("image_cell", "smoke", "ii_second").run == "ii_second"
    assert available_cells("study") == []


def test_a_run_under_another_name_is_refused(root):
    path = write_results(filed("ii_first"))
    path.rename(path.with_name("ii_other.json"))
    with pytest.raises(KpnbError, match="holds ii_first"):
        available_cells("smoke")
    with pytest.raises(KpnbError, match="snakemake"):
        read_results("image_cell", "smoke", "ii_missing")
    with pytest.raises(KpnbError, match="no name"):
        read_results("image_cell", "smoke", "../escape")


def test_findings_carry_the_run(tmp_path):
    study = cell(Store(tmp_path), run="mine")
    found = Findings(study, "image_cell", run=study.parameters.run).results()
    assert found.run == "mine" and found.settings["run"] == "mine"


# --- how a device is used


def test_memory_that_runs_out_is_told_with_what_to_lower():
    told, cpu = "memory of the machine ran out: lower batch", torch.device("cpu")
    with pytest.raises(KpnbError, match=told), device_use(cpu, False, "lower batch"):
        torch.empty(2**60)
    with pytest.raises(KpnbError, match="lower chunk"), device_use(cpu, False, "lower chunk"):
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_other_errors_pass_and_switches_are_as_before():
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    cpu = torch.device("cpu")
    with pytest.raises(RuntimeError, match="shapes"), device_use(cpu, True, "lower batch"):
        raise RuntimeError("shapes do not fit")
    assert before == (
        torch.backends.cudnn.benchmark,
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_gpu_is_switched_and_switched_back(deterministic, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    with device_use(torch.device("cuda"), deterministic, "lower batch"):
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        assert torch.backends.cudnn.benchmark is not deterministic
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark

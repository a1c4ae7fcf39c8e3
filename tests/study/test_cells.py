"""One cell of the image tables: labels by object, larger teachers, augmentation, filing."""

import numpy as np
import pytest
import torch
from test_results import results

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
from kpnb.metrics.evidence import Choices
from kpnb.metrics.points import published_filter
from kpnb.metrics.results import available_cells, available_results, read_results, write_results
from kpnb.store import Store
from kpnb.study.findings import Findings, compare, hypothesis_metrics
from kpnb.study.image import CellStudy, ImageStudy
from kpnb.study.parameters import CellParameters, ImageParameters, models_for, resolve

CLASSES = 12


@pytest.fixture(scope="module")
def samples():
    return embedded_images(240, "train", CLASSES, 16, seed=3)


def cell(store=None, **given) -> CellStudy:
    given = {"preset": "smoke", "network": "AlexNet"} | given
    return CellStudy(resolve(CellParameters, given), store or Store("unused"))


# Labels


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


# The study


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
    assert "kpnb.training.augmentation" in augmented.training_code("T")
    assert "kpnb.training.augmentation" not in augmented.training_code("B")
    assert "kpnb.datasets.images" in more.training_code("B")


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
    small = {"samples": 2, "teacher_samples": 120, "teacher_epochs": 1, "epochs": 1}
    first = cell(store, layers=["FC1"], **small)
    first.evidence("FC1")
    trained = len(list((tmp_path / "networks").glob("*/manifest.json")))
    second = cell(store, layers=["FC3"], **small)
    evidence = second.evidence("FC3")
    assert trained == 3 and len(list((tmp_path / "networks").glob("*/manifest.json"))) == 4
    assert second.of("T", 0).fingerprint == first.of("T", 0).fingerprint
    assert second.of("B", 0).fingerprint == first.of("B", 0).fingerprint
    travelled = evidence.distance["B", "step"][0]
    assert travelled[0] == 0 and travelled[-1] > 0
    augmented = cell(store, layers=["FC1"], augment="teacher", **small)
    assert augmented.of("T", 0).fingerprint != first.of("T", 0).fingerprint
    weights = [s.of("T", 0).states[1]["classifier.0.weight"] for s in (augmented, first)]
    assert not torch.equal(*weights)


def test_a_teacher_of_another_size_is_distilled_from(tmp_path):
    small = {"samples": 2, "teacher_samples": 120, "teacher_epochs": 1, "epochs": 1}
    study = cell(Store(tmp_path), teacher="VGG-11", **small)
    evidence = study.evidence("FC1")
    assert "features.3.weight" in study.of("T", 0).states[1]
    gaps = compare(evidence, hypothesis_metrics(1), Choices(0.2))
    assert set(gaps) == {"n_fg", "n_bg", "lambda"}
    assert published_filter([evidence.maps["S"][0][1]], evidence.foreground).shape == (2,)


def test_layers_that_do_not_fit_say_so(tmp_path):
    small = {"samples": 2, "teacher_samples": 120, "teacher_epochs": 1, "epochs": 1}
    study = cell(Store(tmp_path), teacher="VGG-11", layers=["Conv"], **small)
    with pytest.raises(KpnbError, match="feature"):
        study.student(0, "Conv")


# Filing


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    return tmp_path


def test_runs_are_filed_apart(root):
    for run in ("", "ii_second", "ii_first"):
        write_results(results(notebook="image_cell").model_copy(update={"run": run}))
    assert (root / "demo" / "cells" / "ii_first.json").is_file()
    assert [r.run for r in available_cells("demo")] == ["ii_first", "ii_second"]
    assert [r.run for r in available_results("demo")] == [""]
    assert read_results("image_cell", "demo", "ii_second").run == "ii_second"
    assert available_cells("study") == []


def test_a_run_under_another_name_is_refused(root):
    path = write_results(results(notebook="image_cell").model_copy(update={"run": "ii_first"}))
    path.rename(path.with_name("ii_other.json"))
    with pytest.raises(KpnbError, match="holds ii_first"):
        available_cells("demo")
    with pytest.raises(KpnbError, match="snakemake"):
        read_results("image_cell", "demo", "ii_missing")
    with pytest.raises(KpnbError, match="no name"):
        read_results("image_cell", "demo", "../escape")


def test_findings_carry_the_run(tmp_path):
    study = cell(Store(tmp_path), run="mine")
    found = Findings(study, "image_cell", run=study.parameters.run).results()
    assert found.run == "mine" and found.settings["run"] == "mine"

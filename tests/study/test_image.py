"""Image studies: what is measured, prepared data sets as `paper` takes them, cells of tables."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import WatchedStore, smoke_study
from prepared_folder import prepared_folder
from refusals import fails, refused, refuses
from studied import same_states

from kpnb.datasets import images as image_files
from kpnb.datasets.images import embedded_images, relabeled, shown_objects
from kpnb.datasets.samples import DATA_SEED, normalization
from kpnb.estimator.features import layer_module
from kpnb.experiments.fine_tuning import FineTuningStudy
from kpnb.metrics.results import available_cells, available_results, read_results, write_results
from kpnb.networks.image import image_network
from kpnb.study.findings import Findings
from kpnb.study.image import CellStudy, ImageStudy
from kpnb.study.parameters import CellParameters, FineTuningParameters, ImageParameters, resolve
from kpnb.training.augmentation import crop_and_flip, flip_and_shift, strong
from kpnb.training.settings import device_use

CLASSES = 12
SHORT = {"samples": 2, "teacher_samples": 120, "teacher_epochs": 1, "epochs": 1}
pytestmark = pytest.mark.usefixtures("one_thread", "few_test_images")


def test_measured_images_have_foreground_and_background(smoke, tmp_path):
    initial = image_network("VGG-11", CLASSES, "narrow", seed=0).state_dict()
    assert same_states(smoke.study.of("B", 0).states[0], initial)  # the network of its seed
    measured, training = smoke.study.data.measured, smoke.study.data.training_samples
    assert len(measured) == len(smoke.study.data.foreground) == 6
    places = [(training.images == image).flatten(1).all(1).nonzero() for image in measured.images]
    assert all(len(place) == 1 for place in places)
    names = smoke.study.network(smoke.study.of("T", 0)).layer_names
    assert {layer: smoke.study.dotted("S", layer) for layer in smoke.study.named_layers} == names
    images = smoke_study(tmp_path, samples=20).data
    masks = images.training_samples.masks.clone()
    masks[0], masks[2] = False, True
    masks[4, :, 1:] = masks[4, 1:] = False  # one pixel is too little for a cell
    masks[4, 0, 0] = True
    images.__dict__["training_samples"] = replace(images.training_samples, masks=masks)
    expected = [1, 3, *range(5, 23)]
    assert torch.equal(images.measured.images, images.training_samples.images[expected])
    assert images.foreground.any(1).all() and not images.foreground.all(1).any()
    study = smoke_study(tmp_path, network="ResNet-50", probes=8, **SHORT)  # of another family
    maps = study.explain(study.explainer("FC1"), study.build("B", 0).eval(), study.data.measured)
    assert maps.entropy.shape == (2, 64) and maps.defined.all()
    assert maps.settings["entropy_weight"] == 6.0


def test_new_images_are_others_of_the_objects_and_photographs_that_are_trained_on(smoke):
    data = smoke.study.data
    new, seen = data.new_samples, data.teacher_samples
    assert (new.source["split"], new.source["seed"]) == ("train", DATA_SEED + 1)
    kept = {image.numpy().tobytes() for image in seen.images}
    assert not kept & {image.numpy().tobytes() for image in new.images}
    assert data.held_out == "new" and data.splits["new"] is new


TINY = dict(
    network="AlexNet", scale="narrow", layers=["FC1"], image_size=32, grid=8, samples=4, probes=8,
    teacher_epochs=1, epochs=1, head_epochs=1, checkpoints=[0, 1], pretrained="none", batch=16,
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Studies of the folder, on one store."""
    folder = prepared_folder(tmp_path_factory.mktemp("data") / "colors")
    store = WatchedStore(tmp_path_factory.mktemp("store"))

    def study(kind=ImageStudy, model=ImageParameters, **changes):
        given = {"preset": "paper", "data": str(folder)} | TINY | changes
        return kind(resolve(model, given), store)

    return study


def test_the_whole_way_on_a_data_set(prepared):
    found = prepared(augment="all")
    assert (found.outputs, found.dataset, found.scale) == (3, "Colors", "narrow")
    assert len(found.data.teacher_samples) == 36 == len(found.data.training_samples)
    assert found.network_key("T")["tested"]["data"] == found.data.hashes["images"]
    evidence = found.evidence("FC1")
    for role in "TSB":
        maps = evidence.maps[role][0][1]
        assert maps.sigma.shape == (4, 64) and maps.defined.all()
        assert maps.settings["entropy_weight"] == 7.0
    assert set(found.accuracies("S", "FC1")) == {"train", "test"}


def test_a_part_is_of_several_classes_and_the_same_each_time(prepared, tmp_path):
    one, other = (prepared(samples=12).data.measured for _ in range(2))
    assert len(one.labels.unique()) > 1 and torch.equal(one.images, other.images)
    more = str(prepared_folder(tmp_path / "more", per_class=40))
    part = prepared(data=more, teacher_samples=100).data.teacher_samples
    assert len(part) == 100 and len(part.labels.unique()) == 3
    assert len(prepared(teacher_samples=100).data.teacher_samples) == 36  # all there are
    # Fine-tuning from ImageNet learns all classes of a data set.
    given = {"scale": "full", "image_size": 64, "source_classes": 2, "classes": 12}
    found = prepared(FineTuningStudy, FineTuningParameters, **given)
    assert found.outputs == 3 and len(found.data.training_samples) == 36


def test_the_recipe_and_augmentation_follow_the_parameters(prepared):
    published, table_iv, ours = prepared(), prepared(augment="teacher"), prepared(recipe="ours")
    found = [s.schedule("T", 0).schedule for s in (published, ours)]
    assert [*found, published.schedule("head", 0).schedule] == ["log", "cosine", "log"]
    assert not published.scaled("FC1") and published.scaled("Conv")
    assert table_iv.schedule("T", 0).weight_decay == 5e-4 != table_iv.schedule("B", 0).weight_decay
    assert [s.augmentation("T") for s in (published, table_iv)] == [None, strong]
    assert table_iv.augmentation("S") is None
    assert prepared(augment="all").augmentation("B") is crop_and_flip


def test_pretrained_weights_are_fetched_to_start_with_only(prepared, monkeypatch):
    asked = []

    def network(name, classes, scale, seed=0, pretrained=False):
        asked.append(pretrained)
        return image_network(name, classes, "narrow", seed)

    monkeypatch.setattr("kpnb.study.image.image_network", network)
    found = prepared(scale="full", pretrained="ImageNet")
    found.build("T", 0), found.build("B", 0), found.container("T", 0)
    assert asked == [True, False, False]
    assert found.schedule("T", 0).lr == 1e-3 < found.schedule("B", 0).lr


def test_a_teacher_starts_from_what_it_learned_on_another_data_set(prepared, tmp_path):
    other = prepared_folder(tmp_path / "other", per_class=30, classes=4)
    given = {"seeds": [1], "teacher_samples": 100}
    found, alone = prepared(pretrained=str(other), **given), prepared(**given)
    first = found.pretraining.of("T", 1)
    assert len(found.pretraining.data.teacher_samples) == 120 and first.seed == 1
    before, start = first.states[first.final_epoch], found.build("T", 1).state_dict()
    last = [*start][-2:]
    assert all(torch.equal(start[name], before[name]) for name in start if name not in last)
    fresh = alone.build("T", 1).state_dict()
    assert all(torch.equal(start[name], fresh[name]) for name in last)
    trained = found.of("T", 1)
    less = str(prepared_folder(tmp_path / "less", classes=4))
    other_one = prepared(pretrained=less, **given).of("T", 1)
    assert len({t.fingerprint for t in (trained, alone.of("T", 1), other_one)}) == 3
    # student and baseline know nothing of it, but the student has another teacher
    assert found.of("B", 1).fingerprint == alone.of("B", 1).fingerprint
    assert found.of("S", 1, "FC1").fingerprint != alone.of("S", 1, "FC1").fingerprint
    assert alone.pretraining is None
    # what follows goes by the rates of pre-trained networks, the first training by others
    rates = [one.schedule("T", 1).lr for one in (found, found.pretraining, alone)]
    assert rates[0] < rates[1] == rates[2]
    given = {"preset": "demo", "pretrained": less}
    refuses(resolve, "a data set: give another one as data", ImageParameters, given)


def test_batch_precision_and_compiling_reach_the_trainer(prepared, monkeypatch):
    for given, autocast in (({"batch": 8, "precision": "bfloat16"}, "bfloat16"), ({}, None)):
        found = prepared(**given)
        settings = found.settings("B", 0)
        assert (settings.batch_size, settings.autocast) == (given.get("batch", 16), autocast)
        assert found.exactness == {}
    # Large networks are read again.
    monkeypatch.setattr("kpnb.study.study.KEPT", 1000)
    found = prepared()
    first, again = found.of("B", 0), found.of("B", 0)
    assert first is not again and first.fingerprint == again.fingerprint and first.bytes > 1000
    # Compiling is for networks that run to the end: a student stops at its layer.
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compiled.append(net))
    found = prepared(compiled=True)
    assert found.exactness == {"compiled": True}
    for role in "BTS":
        found.of(role, 0, "FC1")
    assert len(compiled) == 2


@pytest.fixture(scope="module")
def samples():
    return embedded_images(240, "train", CLASSES, 16, seed=3)


@pytest.mark.parametrize("outputs", [2, 5, 12, 13, 24, 200])
def test_outputs_merge_whole_neighboring_classes_or_split_them_by_object(samples, outputs):
    found = relabeled(samples, outputs).labels
    merged = [found[samples.labels == k].unique().tolist() for k in range(CLASSES)]
    order = sum(merged, [])
    if outputs <= CLASSES:
        assert len(order) == CLASSES and order == sorted(order) and set(order) == {*range(outputs)}
        assert np.ptp(np.bincount(order)) <= 1
        assert outputs < CLASSES or torch.equal(found, samples.labels)
        return
    things = shown_objects(samples)
    assert len(set(zip(things, found.tolist(), strict=True))) == len(set(things))
    assert len(order) == len(set(order)) > CLASSES and max(order) < outputs  # a label, a class


def test_every_output_is_an_equal_share_of_its_class_s_objects(monkeypatch):
    """Of so many images that each of some objects is on one; what is on them does not count."""
    known, blank = image_files.split_cut_outs("train"), np.zeros((16, 16, 4), np.float32)
    objects = {name: known[name][: 4 + n % 3] for n, name in enumerate(known)}
    monkeypatch.setattr(image_files, "split_cut_outs", lambda split: objects)
    monkeypatch.setattr(image_files, "render", lambda *_: (blank[..., :3], blank[..., 3] > 0))
    everything = embedded_images(1200, "train", CLASSES, 16, seed=0)
    labels = relabeled(everything, 24).labels.tolist()
    counts = np.bincount([n for n, _ in set(zip(labels, shown_objects(everything), strict=True))])
    assert counts.sum() == sum(len(members) for members in objects.values())
    halves = [len(objects[name]) / 2 for name in everything.class_names for _ in range(2)]
    assert all(abs(c - half) <= 0.5 for c, half in zip(counts, halves, strict=True))


def test_the_objects_are_those_on_the_images(samples):
    """The recipe that names the object draws the very image; relabeling keeps it and is told."""
    mean, std = normalization()
    cut_outs, photos = image_files.split_cut_outs("train"), image_files.split_photos("train")
    for i in range(5):
        name = samples.class_names[int(samples.labels[i])]
        rng = np.random.default_rng([3, 0, i])
        recipe = image_files.draw_recipe(rng, cut_outs[name], photos, 16)
        picture = torch.from_numpy(image_files.render(recipe, 16)[0]).permute(2, 0, 1)
        assert torch.equal(samples.images[i], (picture - mean) / std)
        assert shown_objects(samples)[i] == (name, recipe.cut_out.name)
    changed = relabeled(samples, 24)
    assert changed.images is samples.images
    sources = [samples.source, changed.source, relabeled(samples, 25).source]
    assert all(sources.count(source) == 1 for source in sources)
    index = image_files.same_part(samples, 0.25, seed=7)  # the fraction by class
    assert torch.equal(samples.images[index], samples.fraction(0.25, seed=7).images)
    refuses(relabeled, "whole sets", samples.subset([0, 1]), 4)
    refuses(relabeled, "whole sets", relabeled(samples, 2), 4)
    refuses(relabeled, "label the training split", embedded_images(24, "test", CLASSES, 16), 4)
    refuses(relabeled, "ask for fewer", samples, 1000)
    refuses(relabeled, "at least 2", samples, 1)


def cell(root="unused", **given) -> CellStudy:
    given = {"preset": "smoke", "network": "AlexNet"} | given
    return CellStudy(resolve(CellParameters, given), WatchedStore(root))


def test_every_number_of_outputs_gets_the_same_images():
    plain, two, many = (cell(outputs=n).data for n in (None, 2, 60))
    for part in ("teacher_samples", "training_samples", "measured"):
        one, *others = (getattr(data, part).images for data in (plain, two, many))
        assert all(torch.equal(one, other) for other in others)
    assert not torch.equal(two.test_samples.images, plain.test_samples.images)
    assert torch.equal(two.test_samples.images, many.test_samples.images)
    study = cell(outputs=60)
    assert {layer_module(study.build(r, 0), "FC3").out_features for r in "TSB"} == {60}
    assert study.reference_lines == {"chance": 1 / 60} and "60 outputs" in study.dataset


def test_keys_tell_what_differs_and_only_that():
    """A larger teacher is the one of its own students."""
    base, more, augmented = cell(), cell(outputs=4), cell(augment="teacher")
    larger, own = cell(teacher="VGG-16"), cell(network="VGG-16")
    image = ImageStudy(resolve(ImageParameters, {"preset": "smoke", "network": "AlexNet"}))
    key, *others = (study.network_key("T") for study in (base, more, augmented, larger))
    assert others[-1] == own.network_key("T") and key not in others
    assert key == cell(teacher="AlexNet").network_key("T") == image.network_key("T")
    assert larger.schedule("T", 0) == own.schedule("T", 0)
    assert same_states(larger.build("T", 1).state_dict(), own.build("T", 1).state_dict())
    for study, same in ((larger, True), (augmented, True), (more, False)):
        assert all((study.network_key(r) == base.network_key(r)) == same for r in "SB")
    assert base.training_code("T") == image.training_code("T")
    assert [flip_and_shift in augmented.training_code(role) for role in "TB"] == [True, False]
    assert relabeled in more.training_code("B")


def test_cells_of_one_network_share_their_teacher_and_baseline(tmp_path):
    first, second = (cell(tmp_path, layers=[layer], **SHORT) for layer in ("FC1", "FC3"))
    known = {role: first.of(role, 0) for role in "TB"}
    assert [second.of(r, 0).fingerprint for r in "TB"] == [known[r].fingerprint for r in "TB"]
    assert second.store.computed() == []
    travelled = second.of("B", 0).record.distance_per_step["FC3"]
    assert travelled[0] == 0 and travelled[-1] > 0


def test_runs_are_filed_apart(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    for run in ("", "ii_second", "ii_first"):
        study = cell(run=run or None)
        found = Findings(study, "image_cell", run=study.parameters.run or "").results()
        assert found.run == run and found.settings["run"] == (run or None)
        path = write_results(found)
    assert path == tmp_path / "smoke" / "cells" / "ii_first.json"
    assert [r.run for r in available_cells("smoke")] == ["ii_first", "ii_second"]
    assert [r.run for r in available_results("smoke")] == [""] and available_cells("study") == []
    assert read_results("image_cell", "smoke", "ii_second").run == "ii_second"
    path.rename(path.with_name("ii_other.json"))
    fails(available_cells, "holds ii_first", "smoke")
    for run, told in (("ii_missing", "snakemake"), ("../escape", "no name")):
        fails(read_results, told, "image_cell", "smoke", run)


def test_memory_that_runs_out_is_told_with_what_to_lower():
    told, cpu = "memory of the machine ran out: lower batch", torch.device("cpu")
    with refused(told), device_use(cpu, False, "lower batch"):
        torch.empty(2**60)
    with refused("lower chunk"), device_use(cpu, False, "lower chunk"):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="shapes"), device_use(cpu, True, "lower batch"):
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_gpu_is_switched_and_switched_back(deterministic, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    exact = torch.are_deterministic_algorithms_enabled
    with device_use(torch.device("cuda"), deterministic, "lower batch"):
        assert exact() is deterministic is not torch.backends.cudnn.benchmark
    assert not exact() and not torch.backends.cudnn.benchmark

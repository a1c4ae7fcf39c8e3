"""A study of a prepared data set by the code that the preset `paper` takes."""

import pytest
import torch
from prepared_folder import prepared_folder

from kpnb.errors import KpnbError
from kpnb.experiments.fine_tuning import FineTuningStudy
from kpnb.store import Store
from kpnb.study import image as image_study
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import FineTuningParameters, ImageParameters, resolve
from kpnb.training.augmentation import crop_and_flip, strong
from kpnb.training.settings import device_use, exactness, with_effort

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


def study(folder, store, **changes):
    return ImageStudy(parameters(folder, **changes), store)


def test_the_whole_way_on_a_data_set(folder, store):
    found = study(folder, store, augment="all")
    assert found.outputs == 3 and found.dataset == "Colors" and found.scale == "narrow"
    assert len(found.data.teacher_samples) == 36 == len(found.data.training_samples)
    evidence = found.evidence("FC1")
    for role in "TSB":
        maps = evidence.maps[role][0][1 if role != "T" else max(evidence.maps["T"][0])]
        assert maps.sigma.shape == (4, 64) and maps.defined.all()
    assert set(found.accuracies("S", "FC1")) == {"train", "test"}
    assert found.of("S", 0, "FC1").record.loss[0] > 0


def test_measured_images_are_of_several_classes(folder, store):
    found = study(folder, store, samples=12).data
    assert len(found.measured.labels.unique()) > 1
    assert torch.equal(found.measured.images, study(folder, store, samples=12).data.measured.images)


def test_fewer_samples_are_a_part_of_all(folder, tmp_path):
    data = prepared_folder(tmp_path / "more", per_class=40)
    part = study(data, Store(tmp_path / "s"), teacher_samples=100).data.teacher_samples
    assert len(part) == 100 and len(part.labels.unique()) == 3
    with pytest.raises(KpnbError, match="36 images to train on"):
        _ = study(folder, Store(tmp_path / "s"), teacher_samples=100).data.teacher_samples


def test_the_recipe_and_augmentation_follow_the_parameters(folder, store):
    published = study(folder, store)
    assert published.schedule("T", 0).schedule == "log" and published.augmentation("T") is None
    assert not published.scaled("FC1") and published.scaled("Conv")
    assert study(folder, store, recipe="ours").schedule("T", 0).schedule == "cosine"
    table_iv = study(folder, store, augment="teacher")
    assert table_iv.augmentation("T") is strong and table_iv.augmentation("S") is None
    assert table_iv.schedule("T", 0).weight_decay == 5e-4 != table_iv.schedule("B", 0).weight_decay
    assert study(folder, store, augment="all").augmentation("B") is crop_and_flip


def test_what_changes_a_network_changes_its_key(folder, store):
    base = study(folder, store)
    for changes in ({"augment": "all"}, {"recipe": "ours"}, {"image_size": 48}):
        other = study(folder, store, **changes)
        mine, theirs = [(s.network_key("B"), s.training_code("B")) for s in (base, other)]
        assert mine != theirs, changes
    assert base.network_key("T")["tested"]["data"] == base.data_hashes["images"]


def test_pretrained_weights_are_fetched_to_start_with_only(folder, store, monkeypatch):
    asked = []
    real = image_study.image_network

    def network(name, classes, scale, seed=0, pretrained=False):
        asked.append(pretrained)
        return real(name, classes, scale, seed)

    monkeypatch.setattr(image_study, "image_network", network)
    found = study(folder, store, scale="full", pretrained="ImageNet")
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
    found = study(folder, store, batch=8, precision="bfloat16")
    settings = with_effort(found.parameters, found.schedule("B", 0))
    assert (settings.batch_size, settings.autocast) == (8, "bfloat16")
    recipe = study(folder, store, batch=64)
    assert with_effort(recipe.parameters, recipe.schedule("B", 0)).batch_size == 64
    assert exactness(found.parameters) == {}
    assert exactness(parameters(folder, compiled=True)) == {"compiled": True}


def test_compiling_is_for_networks_that_run_to_the_end(folder, tmp_path, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: compiled.append(type(net).__name__))
    found = study(folder, Store(tmp_path), compiled=True)
    found.of("B", 0), found.of("T", 0)
    assert len(compiled) == 2
    found.of("S", 0, "FC1")
    assert len(compiled) == 2


def test_large_networks_are_read_again_instead_of_kept(folder, store, monkeypatch):
    found = study(folder, store)
    assert found.of("B", 0) is found.of("B", 0)
    monkeypatch.setattr("kpnb.study.study.KEPT", 1000)
    found = study(folder, store)
    first, again = found.of("B", 0), found.of("B", 0)
    assert first is not again and first.fingerprint == again.fingerprint and first.bytes > 1000


def test_the_estimators_chunk_changes_no_map(folder, store):
    maps = [
        study(folder, store, chunk=chunk).maps(study(folder, store).of("B", 0), "FC1", [1])[1]
        for chunk in (8, 256)
    ]
    assert torch.allclose(maps[0].entropy, maps[1].entropy, atol=1e-4)


def test_fine_tuning_from_imagenet_learns_all_classes_of_a_data_set(folder, store):
    given = {"preset": "paper", "data": str(folder)} | TINY | {"network": "AlexNet"}
    given |= {"scale": "full", "image_size": 64, "source_classes": 2, "classes": 12}
    found = FineTuningStudy(resolve(FineTuningParameters, given), store)
    assert found.outputs == 3 and len(found.data.training_samples) == 36
    assert found.dataset == "Colors"


# How a device is used


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

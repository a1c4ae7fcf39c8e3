"""Speeds are measured by the project's own trainer and estimator, and kept whole. No test times."""

import json
from dataclasses import replace

import pytest
import torch

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.run import machine
from kpnb.run.machine import (
    Machine,
    Speed,
    clock,
    machines,
    probe,
    probe_study,
    read_machine,
    this_machine,
    title_of,
    write_machine,
)
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import models_for, resolve
from kpnb.training.costs import Anatomy, encoder_anatomy

NOW = clock("cpu", 1)


def speed(network="AlexNet (narrow), 3x64x64", operations=1e6, seconds=0.5, **changed) -> Speed:
    rates = dict(train=seconds, forward=seconds, row=seconds, fixed=0.0)
    given = dict(kind="image_", network=network, precision="float32")
    return Speed(**given | dict(operations=operations, below=operations) | rates | changed)


def made(*speeds, **changed) -> Machine:
    given = dict(device="cpu", hardware="A CPU (v2)", threads=1, date="2026-01-02", about={})
    given |= dict(byte=1e-9, folder=1e-3, pixel=1e-7)
    return Machine(**given | changed, speeds=speeds or (speed(),))


def tiny(name="AlexNet", **given):
    small = dict(image_size=32, teacher_samples=100, samples=2, points=40, background=20)
    return probe_study(name, **small | dict(batch=50, longest=16, depth=1) | given)


# Measuring


@pytest.mark.parametrize("name", ["AlexNet", "PointNet", "MiniLM-L6"])
def test_every_modality_is_measured_by_its_own_study(name):
    study = tiny(name)
    found = probe(study, NOW, seconds=0.0)
    assert found.network == title_of(study, "B") and found.network.startswith(name)
    assert min(found.train, found.forward, found.row) > 0 and found.fixed >= 0
    assert 0 < found.below <= found.operations


def test_steps_are_those_of_the_projects_trainer_by_the_studies_recipe(monkeypatch):
    asked, real = [], machine.train_classifier

    def watched(net, images, labels, settings):
        asked.append((len(images), settings))
        return real(net, images, labels, settings)

    monkeypatch.setattr(machine, "train_classifier", watched)
    probe(tiny(), NOW, seconds=0.0)
    (count, first), (_, second) = asked
    assert count == 100 and (first.epochs, second.epochs) == (1, 2) and first.batch_size == 50
    assert first.grad_clip is not None and first.channels_last  # of the studies' recipe


def test_a_step_is_what_more_epochs_take_longer(monkeypatch):
    ticks = iter([0.0, 5.0, 5.0, 5.0 + 5.0 + 3 * 2.0])  # one epoch; then one and three more
    monkeypatch.setattr(machine, "train_classifier", lambda *_: None)
    step = machine._training_step(tiny(), None, lambda: next(ticks), 15.0)
    assert step == pytest.approx(2.0 / 100)


@pytest.mark.parametrize(
    "taken,expected",
    [
        ({8: 8 * 2.0 + 3, 24: 24 * 2.0 + 3}, (2.0, 3.0)),
        ({8: 5.0, 24: 4.8}, (0.2, 3.4)),  # disturbed: counts as rows, never less than nothing
    ],
)
def test_a_row_and_the_rest_solve_two_budgets(monkeypatch, taken, expected):
    study = tiny()
    monkeypatch.setattr(
        ImageStudy, "explain", lambda self, explainer, *_: seen.append(explainer.probes)
    )
    monkeypatch.setattr(machine, "_least", lambda work, now: (work(), 2 * taken[seen[-1]])[1])
    seen: list[int] = []
    assert machine._map(study, study.build("B", 0), "FC1", NOW) == pytest.approx(expected)
    assert isinstance(study.explainer("x"), EntropyEstimator) and seen == [8, 24]


def test_memory_that_runs_out_names_what_to_lower(monkeypatch):
    def out(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(machine, "train_classifier", out)
    with pytest.raises(KpnbError, match="lower --samples"):
        probe(tiny(), NOW)


def test_storage_is_measured_by_byte_and_by_entry():
    byte, folder = machine.storing(NOW)
    assert 0 < byte < folder


def test_the_command_measures_writes_and_adds(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(machine, "probe", lambda study, *_: speed(title_of(study, "B")))
    monkeypatch.setattr(machine, "composing", lambda *_: 1e-7)
    path = tmp_path / "mine.json"
    for name in ("AlexNet", "PointNet"):
        assert machine.main(["--networks", name, "--output", str(path)]) == 0
    assert "train 500 ms" in capsys.readouterr().out
    assert [s.network.split()[0] for s in read_machine(path).speeds] == ["AlexNet", "PointNet"]


def test_mistakes_are_one_sentence(capsys):
    assert machine.main(["--networks", "AlexNot"]) == 2
    assert capsys.readouterr().err.startswith("No network 'AlexNot' to measure: choose among")
    if not torch.cuda.is_available():
        assert machine.main(["--device", "cuda"]) == 2
        assert "pass --device cpu" in capsys.readouterr().err


# Files


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = write_machine(made(), tmp_path / "speeds.json")
    assert read_machine(path) == made() and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c | {"format": "another"},
        lambda c: {k: v for k, v in c.items() if k != "speeds"},
        lambda c: c | {"speeds": [c["speeds"][0] | {"train": 0}]},
        lambda c: c | {"speeds": [c["speeds"][0] | {"row": float("inf")}]},
        lambda c: c | {"speeds": [c["speeds"][0] | {"more": 1}]},
        lambda c: c | {"speeds": 3},
        lambda c: [c],
    ],
)
def test_a_foreign_file_is_refused(tmp_path, change):
    path = write_machine(made(), tmp_path / "speeds.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(KpnbError, match="holds no speeds"):
        read_machine(path)


def test_a_truncated_and_a_missing_file_are_refused(tmp_path):
    path = write_machine(made(), tmp_path / "speeds.json")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(KpnbError, match="holds no speeds"):
        read_machine(path)
    with pytest.raises(KpnbError, match="There are no speeds at"):
        read_machine(tmp_path / "none.json")


def test_files_are_named_by_device_and_hardware():
    assert made().file == "cpu_a_cpu_v2_1_thread.json"
    assert made(threads=2).file == "cpu_a_cpu_v2_2_threads.json"
    assert made(device="cuda", hardware="NVIDIA H100").file == "cuda_nvidia_h100.json"


def test_new_speeds_replace_their_own_and_keep_the_others(tmp_path):
    path = write_machine(made(speed("one"), speed("two")), tmp_path / "speeds.json")
    write_machine(made(speed("two", seconds=2.0), speed("three")), path)
    kept = {s.network: s.train for s in read_machine(path).speeds}
    assert kept == {"one": 0.5, "two": 2.0, "three": 0.5}


def test_this_hardware_goes_before_another(tmp_path):
    write_machine(made(hardware="Other"), tmp_path / "a.json")
    write_machine(made(hardware=machine.cpu_name(), threads=2), tmp_path / "b.json")
    assert this_machine("cpu", tmp_path).hardware == machine.cpu_name()
    assert len(machines(tmp_path)) == 2 and machines(tmp_path / "none") == []
    with pytest.raises(KpnbError, match="There are no speeds of a cuda here"):
        this_machine("cuda", tmp_path)


# The nearest network, and counts


def test_a_network_takes_its_own_speed_or_the_nearest_by_operations():
    small, large = speed("AlexNet (narrow), 3x64x64", 1e6), speed("VGG-19 (narrow), 3x64x64", 1e9)
    cloud = speed("PointNet", 2e6, kind="pointcloud_")
    found = made(small, large, cloud, replace(large, precision="bfloat16"))
    at = Anatomy({"": 2e6}, 1, 1)
    assert found.nearest("image_", "new", "float32", at) == small
    assert found.nearest("image_", large.network, "float32", at) == large
    assert found.nearest("image_", "VGG-11 (narrow), 3x64x64", "float32", at) == large  # family
    assert found.nearest("image_", large.network, "bfloat16", at).precision == "bfloat16"
    with pytest.raises(KpnbError, match="No sentiment network was measured"):
        found.nearest("sentiment_", "new", "float32", at)


def anatomy(notebook="image_h1", **given) -> Anatomy:
    return tiny_free(resolve(models_for(notebook), {"preset": "demo"} | given)).anatomy("B")


def tiny_free(parameters):
    from kpnb.run.counting import counting
    from kpnb.run.plan import study_of

    return counting(study_of(parameters))


def test_operations_of_a_map_by_hand():
    found = anatomy(network="AlexNet")
    assert found.above("FC2") == 2 * 256 * 12 and found.above("FC3") == 0
    layers = [found.up_to(layer) for layer in ("Conv", "FC1", "FC2", "FC3", "")]
    assert layers == sorted(layers) and layers[-1] == layers[-2]


def test_counts_are_those_of_the_network_itself():
    study = ImageStudy(resolve(models_for("image_h1"), {"preset": "demo"}))
    net = study.build("B", 0)
    assert anatomy().parameters == sum(p.numel() for p in net.parameters())
    shapes = {name: t.shape for name, t in net.state_dict().items()}
    assert {name: t.shape for name, t in study.state("B").items()} == shapes


def test_operations_grow_with_the_size_of_the_input():
    clouds = [anatomy("pointcloud_h1", points=n, background=10).up_to("") for n in (100, 200)]
    assert 1.5 < clouds[1] / clouds[0] < 2.5
    texts = [encoder_anatomy(384, 1536, depth, 32, 1000, 2).up_to("Last") for depth in (1, 3)]
    assert texts[1] == 3 * texts[0]

"""Speeds are measured by the project's own trainer and estimator, and kept whole. No test times."""

import json

import pytest
import torch
from plans import OWN, made_machine, speed
from refusals import refuses

from kpnb.run import machine
from kpnb.run.machine import named, probe, probe_study, read_machine, this_machine, write_machine
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import MODELS
from kpnb.training.costs import Anatomy


def tiny(name="AlexNet", **given):
    small = dict(image_size=32, samples=2, points=40, background=20)
    return probe_study(name, **small | dict(batch=50, longest=16, depth=1) | given)


@pytest.mark.parametrize("name", ["AlexNet", "PointNet", "MiniLM-L6"])
def test_every_modality_is_measured_by_its_own_study(name):
    study = tiny(name)
    found = probe(study, seconds=0.0)
    assert found.network == named(study, "B")["network"] and found.network.startswith(name)
    assert 0 < found.below <= found.operations and name in machine.NETWORKS
    assert tiny(batch=100).parameters.teacher_samples == 200  # two batches


def test_a_step_is_what_more_epochs_take_longer_by_the_studies_recipe(monkeypatch):
    ticks = iter([0.0, 5.0, 5.0, 5.0 + 5.0 + 3 * 2.0])  # one epoch; then one and three more
    asked = []
    monkeypatch.setattr(machine, "seconds_now", lambda device: next(ticks))
    monkeypatch.setattr(machine, "train_classifier", lambda *given: asked.append(given))
    assert machine._training_step(tiny(), None, 15.0) == pytest.approx(2.0 / 128)
    (first, second), images = [given[3] for given in asked], asked[0][1]
    assert len(images) == 128 and (first.epochs, second.epochs) == (1, 4)
    assert first.batch_size == 50 and first.grad_clip is not None and first.channels_last


# The second is disturbed: all of it counts as rows, never less than nothing.
@pytest.mark.parametrize(
    "taken,expected", [({8: 19.0, 24: 51.0}, (2.0, 3.0)), ({8: 5.0, 24: 4.8}, (0.2, 3.4))]
)
def test_a_row_and_the_rest_solve_two_budgets(monkeypatch, taken, expected):
    study, seen = tiny(), []
    watched = lambda self, explainer, *_: seen.append(explainer.probes)  # noqa: E731
    monkeypatch.setattr(ImageStudy, "explain", watched)
    monkeypatch.setattr(machine, "_taken", lambda work, device: (work(), 2 * taken[seen[-1]])[1])
    assert machine._map(study, study.build("B", 0), "FC1") == pytest.approx(expected)
    assert seen == [8, 24]


def test_the_command_measures_writes_and_adds(monkeypatch, tmp_path, capsys):
    path = write_machine(made_machine(speed(OWN), speed("another")), tmp_path / "mine.json")
    monkeypatch.setattr(machine, "probe", lambda study, *_: speed(**named(study, "B"), seconds=2))
    for name in ("VGG-11", "PointNet"):
        assert machine.main(["--networks", name, "--output", str(path)]) == 0
    assert "train 2e+03 ms" in capsys.readouterr().out and read_machine(path).threads == 1
    found = [(s.network.split()[0], s.train) for s in read_machine(path).speeds]
    assert found == [("another", 0.5), ("VGG-11", 2), ("PointNet", 2)]
    with pytest.raises(SystemExit):
        machine.main(["--networks", "AlexNot"])
    if not torch.cuda.is_available():
        assert machine.main(["--device", "cuda"]) == 2
        assert "pass device='cpu'" in capsys.readouterr().err


def test_a_file_is_read_as_it_was_written_and_named_by_its_hardware(tmp_path):
    made = made_machine(hardware="A CPU (v2)")
    path = write_machine(made, tmp_path / made.file)
    assert read_machine(path) == made and len(list(tmp_path.iterdir())) == 1
    assert path.name == "cpu_a_cpu_v2_1_thread.json"
    assert made_machine(threads=2).file == "cpu_a_cpu_2_threads.json"
    assert made_machine(device="cuda", hardware="NVIDIA H100").file == "cuda_nvidia_h100.json"
    text = path.read_text()  # a foreign, a cut and a missing file
    content, own = json.loads(text), json.loads(text)["speeds"][0]
    changes = [{"format": "another"}, {"about": None}, {"speeds": None}]
    changes += [{"speeds": [own | c]} for c in ({"train": 0}, {"row": float("inf")}, {"more": 1})]
    for wrong in (*(json.dumps(content | change) for change in changes), f"[{text}]", text[:-20]):
        path.write_text(wrong)
        refuses(read_machine, "holds no speeds", path)
    refuses(read_machine, "none.json holds no speeds", tmp_path / "none.json")


def test_this_hardware_goes_before_another(tmp_path):
    write_machine(made_machine(hardware="Other"), tmp_path / "a.json")
    write_machine(made_machine(hardware=machine.cpu_name(), threads=2), tmp_path / "b.json")
    assert this_machine("cpu", tmp_path).hardware == machine.cpu_name()
    assert len(machine.machines(tmp_path)) == 2 and machine.machines(tmp_path / "none") == []
    refuses(this_machine, "There are no measured speeds of a GPU here", "cuda", tmp_path)
    kinds = {speed.kind for shipped in machine.machines() for speed in shipped.speeds}
    assert kinds == set(MODELS) - {"qa_"}


def test_a_network_takes_its_own_speed_or_the_nearest_by_operations():
    small, large = speed("AlexNet (narrow), 3x64x64", 1e6), speed("VGG-19 (narrow), 3x64x64", 1e9)
    cloud, half = speed("PointNet", 2e6, kind="pointcloud_"), {"precision": "bfloat16"}
    found = made_machine(small, large, cloud, large.model_copy(update=half))

    def nearest(network, precision="float32", kind="image_"):
        return found.nearest(kind, network, precision, Anatomy({"": 2e6}, 1, 1))

    assert nearest("new") == small and nearest(large.network) == large
    assert nearest(OWN) == large  # of its family
    assert nearest(large.network, "bfloat16").precision == "bfloat16"
    assert nearest(small.network, "bfloat16") == small  # its own goes before its precision
    refuses(nearest, "No sentiment network was measured", "new", kind="sentiment_")

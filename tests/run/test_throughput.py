"""Rates are measured by the project's own trainer and estimator, and kept whole. No test times."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.networks.image import image_network
from kpnb.run.planning import throughput, throughput_tasks
from kpnb.run.planning import throughput_files as files
from kpnb.run.planning.network_costs import CLOUD, IMAGE, TEXT, WHOLE, Net, costs
from kpnb.run.planning.run_workload import estimator_rows
from kpnb.run.planning.throughput_clock import Clock, Effort, storage_rates
from kpnb.run.planning.throughput_files import Measured, Rate

CPU = torch.device("cpu")
TINY = Net(IMAGE, "AlexNet", "narrow", 32, 4)
QUICK = Effort(CPU, batch=4, seconds=0.0, repeats=1, maps=2, chunk=16)


def made(rates=(), **changed) -> Measured:
    given = dict(device="cpu", hardware="A CPU (v2)", threads=1, date="2026-01-02", about={})
    return Measured(**given | changed, rates=tuple(rates))


def rate(task=files.TRAIN, seconds=0.5, **changed) -> Rate:
    given = dict(low=seconds, high=seconds, n=3, net=TINY, cpu=0.25)
    return Rate(task, seconds, **given | changed)


@pytest.fixture(scope="module")
def found() -> list[Rate]:
    return throughput_tasks.measure(TINY, ["FC1", "FC3"], QUICK)


# --- measuring


def test_every_task_of_a_network_is_measured(found):
    measured = {(r.task, r.layer) for r in found}
    everywhere = {files.DISTILL, files.FORWARD, files.ROW, files.FIXED, files.FLOOR_ROW}
    assert {(task, layer) for task in everywhere for layer in ("FC1", "FC3")} <= measured
    assert {(files.TRAIN, WHOLE), (files.FLOOR_TRAIN, WHOLE), (files.HEAD, "FC1")} <= measured
    assert (files.HEAD, "FC3") not in measured  # nothing lies above
    assert all(r.seconds > 0 and r.cpu > 0 and r.low <= r.high for r in found)


def test_steps_are_those_of_the_projects_trainer(monkeypatch):
    asked = []
    real = throughput_tasks.train_classifier

    def watched(net, images, labels, settings):
        asked.append((len(images), settings))
        return real(net, images, labels, settings)

    monkeypatch.setattr(throughput_tasks, "train_classifier", watched)
    case = throughput_tasks.Case(TINY, QUICK)
    step = case.steps(files.TRAIN, WHOLE, case._train)
    (count, settings), *_ = asked
    assert count == 4 * (throughput_tasks.LEAST_STEPS + 1) and settings.batch_size == 4
    assert settings.grad_clip is not None and settings.channels_last  # of the studies' recipe
    assert step.n == throughput_tasks.LEAST_STEPS  # the first step warms up


def test_texts_are_measured_by_their_own_trainer_and_estimator():
    net = Net(TEXT, "MiniLM-L6", "", 8, 2, 1)
    found = throughput_tasks.measure(net, ["Last"], QUICK)
    tasks = {files.TRAIN, files.FLOOR_TRAIN, files.DISTILL, files.HEAD, files.FORWARD}
    assert {r.task for r in found} == tasks | {files.ROW, files.FIXED}


def test_the_clock_marks_every_step_of_an_optimizer_and_none_afterwards():
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer, clock = torch.optim.SGD([weight], lr=0.1), Clock(CPU)
    weight.grad = torch.ones(1)
    with clock.every_step():
        for _ in range(4):
            optimizer.step()
    optimizer.step()
    wall, cpu = clock.intervals()
    assert len(wall) == len(cpu) == 3 and min(wall) >= 0


def test_a_row_and_the_fixed_part_solve_two_budgets():
    taken = [np.array([8 * 2.0 + 3] * 3), np.array([24 * 2.0 + 3] * 3)]
    assert throughput_tasks._slope((8, 24), taken) == pytest.approx(2.0)
    assert throughput_tasks._offset((8, 24), taken) == pytest.approx(3.0)


def test_disturbed_timings_count_as_rows_and_never_as_less_than_nothing():
    taken = [np.array([5.0]), np.array([4.8])]
    assert throughput_tasks._slope((8, 24), taken) == pytest.approx(0.2)
    assert throughput_tasks._offset((8, 24), taken) >= 0


@pytest.mark.parametrize("probes,evaluations", [(8, 1), (8, 3), (24, 3), (16, 1), (24, 2)])
def test_rows_of_a_map_are_those_that_the_estimator_runs(monkeypatch, probes, evaluations):
    net, seen = image_network("AlexNet", 4, "narrow").eval(), []
    read = FeatureReader.__call__

    def counting(self, forward):
        y = read(self, forward)
        if y.requires_grad:
            seen.append(len(y))
        return y

    monkeypatch.setattr(FeatureReader, "__call__", counting)
    given = dict(probes=probes, evaluations=evaluations, standard_error=None)
    EntropyEstimator(layer_name(net, "FC1"), **given).explain(net, torch.randn(2, 3, 32, 32))
    assert sum(seen) == 2 * estimator_rows("path", probes, evaluations)


def test_memory_that_runs_out_names_what_to_lower(monkeypatch):
    def out(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(throughput_tasks, "train_classifier", out)
    with pytest.raises(KpnbError, match="lower --batch"):
        throughput_tasks.measure(TINY, ["FC1"], QUICK)


def test_other_errors_are_not_taken_for_memory(monkeypatch):
    def wrong(*_):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(throughput_tasks, "train_classifier", wrong)
    with pytest.raises(RuntimeError, match="shapes differ"):
        throughput_tasks.measure(TINY, ["FC1"], QUICK)


def test_storage_is_measured_by_byte_and_by_folder():
    byte, folder = storage_rates(QUICK)
    assert (byte.task, folder.task) == (files.SAVE, files.SAVES)
    assert 0 < byte.seconds < folder.seconds


def test_the_command_measures_in_a_process_of_its_own_and_writes_nothing_when_quick(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(files, "FOLDER", tmp_path)
    arguments = ["--networks", "AlexNet", "--size", "32", "--batch", "4", "--quick"]
    assert throughput.main(arguments) == 0
    assert files.ROW in capsys.readouterr().out and not list(tmp_path.iterdir())


def test_mistakes_are_one_sentence(capsys):
    assert throughput.main(["--networks", "AlexNot"]) == 2
    assert capsys.readouterr().err.startswith("No network 'AlexNot' to measure: choose among")
    if not torch.cuda.is_available():
        assert throughput.main(["--device", "cuda"]) == 2
        assert "pass --device cpu" in capsys.readouterr().err


# --- files


def test_a_file_is_read_as_it_was_written(tmp_path):
    measured = made([rate(), rate(files.SAVE, net=None, cpu=None)])
    path = files.write(measured, tmp_path / "rates.json")
    assert files.read(path) == measured and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c | {"format": "another"},
        lambda c: {k: v for k, v in c.items() if k != "rates"},
        lambda c: c | {"rates": [c["rates"][0] | {"seconds": 0}]},
        lambda c: c | {"rates": [c["rates"][0] | {"task": "lunch"}]},
        lambda c: c | {"rates": [c["rates"][0] | {"more": 1}]},
        lambda c: c | {"rates": 3},
        lambda c: [c],
    ],
)
def test_a_foreign_file_is_refused(tmp_path, change):
    path = files.write(made([rate()]), tmp_path / "rates.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(KpnbError, match="holds no rates"):
        files.read(path)


def test_a_truncated_and_a_missing_file_are_refused(tmp_path):
    path = files.write(made([rate()]), tmp_path / "rates.json")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(KpnbError, match="holds no rates"):
        files.read(path)
    with pytest.raises(KpnbError, match="There are no rates at"):
        files.read(tmp_path / "none.json")


def test_files_are_named_by_device_and_hardware():
    assert files.file_name(made()) == "cpu_a_cpu_v2_1_thread"
    assert files.file_name(made(threads=2)) == "cpu_a_cpu_v2_2_threads"
    assert files.file_name(made(device="cuda", hardware="NVIDIA H100")) == "cuda_nvidia_h100"


def test_new_rates_replace_their_own_and_keep_the_others():
    other = rate(net=replace(TINY, size=64))
    old, new = made([rate(seconds=1.0), other]), made([rate(seconds=2.0)])
    assert [r.seconds for r in files.joined(old, new).rates] == [0.5, 2.0]


def test_one_thread_is_planned_by_processor_time_and_several_by_the_wall():
    assert made().clock == "cpu" and rate().of("cpu") == 0.25
    assert made(threads=2).clock == made(device="cuda").clock == "wall"
    assert rate(cpu=None).of("cpu") == 0.5


# --- counts


def test_operations_of_a_convolution_and_a_map_by_hand():
    found = costs(Net(IMAGE, "AlexNet", "narrow", 64, 12))
    fc3 = found.forward["FC3"] - found.forward["FC2"]
    assert fc3 == 2 * 256 * 12 and found.forward[WHOLE] == found.forward["FC3"]
    layers = [found.forward[layer] for layer in ("Conv", "FC1", "FC2", "FC3")]
    assert layers == sorted(layers) and found.state_bytes == 4 * found.parameters


def test_counts_are_those_of_the_network_itself():
    net = image_network("VGG-11", 7, "narrow")
    counted = costs(Net(IMAGE, "VGG-11", "narrow", 64, 7))
    assert counted.parameters == sum(p.numel() for p in net.parameters())


def test_operations_grow_with_the_size_of_the_input():
    clouds = [costs(Net(CLOUD, "PointNet", "narrow", n, 10)).forward[WHOLE] for n in (100, 200)]
    assert 1.5 < clouds[1] / clouds[0] < 2.5
    texts = [costs(Net(TEXT, "MiniLM-L6", "", 32, 2, depth)).forward["Last"] for depth in (1, 3)]
    assert texts[1] == 3 * texts[0]


def test_an_unknown_network_is_refused():
    with pytest.raises(KpnbError, match="No image network 'AlexNot'"):
        costs(Net(IMAGE, "AlexNot", "narrow", 64, 12))
    with pytest.raises(KpnbError, match="No point network"):
        costs(Net(CLOUD, "AlexNet", "narrow", 64, 12))

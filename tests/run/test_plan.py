"""Counts of work by hand, plans from made-up rates, and what a plan does not know."""

import subprocess
import sys
from dataclasses import replace

import pytest

from book.make import plan_pages
from kpnb.errors import KpnbError
from kpnb.run.planning import plan, plan_check
from kpnb.run.planning import throughput_files as files
from kpnb.run.planning.data_counts import counts_of
from kpnb.run.planning.forecast import forecast
from kpnb.run.planning.network_costs import IMAGE, WHOLE, Net, costs
from kpnb.run.planning.run_workload import PUBLISHED_ROWS, estimator_rows, workload
from kpnb.run.planning.throughput_clock import Effort
from kpnb.run.planning.throughput_files import Measured, Rate
from kpnb.run.planning.throughput_lookup import MEASURED, SCALED, SHEET, T4, Lookup, lookup
from kpnb.run.planning.workload import Part, joined
from kpnb.study import image as study_images
from kpnb.study.parameters import (
    CellParameters,
    CloudParameters,
    FineTuningParameters,
    ImageParameters,
    QuestionParameters,
    SentimentParameters,
    models_for,
    resolve,
)

OWN = Net(IMAGE, "VGG-11", "narrow", 64, 12)
TASKS = (files.TRAIN, files.DISTILL, files.HEAD, files.FORWARD, files.ROW, files.FIXED)
BESIDE = (files.COMPOSE, files.SAVE, files.SAVES)


def rates(second=1.0, **changed) -> Measured:
    """Every unit of a network's work takes a second, what stores it next to nothing."""
    spread = dict(low=second, high=second, n=1, layer="FC1")
    found = [Rate(task, second, net=OWN, **spread | _at(task)) for task in TASKS]
    found += [Rate(task, 1e-9, 1e-9, 1e-9, 1, batch=64) for task in BESIDE]
    given = dict(device="cpu", hardware="a CPU", threads=1, date="2026-01-02", about={})
    return Measured(**given | changed, rates=tuple(found))


def _at(task):
    return {"layer": WHOLE} if task in (files.TRAIN, files.FORWARD) else {}


def demo(model=ImageParameters, preset="demo", **given):
    return resolve(model, {"preset": preset} | given)


def units(pieces, task):
    return sum(part.units for piece in pieces for part in piece.parts if part.task == task)


# --- workload


def test_the_demo_by_hand():
    found = workload(demo())  # 9,000 images, 16 epochs; 900 of them, 30 epochs; 40 measured
    kinds = [piece.kind for piece in found.pieces]
    assert kinds.count("network") == 3 and kinds.count("maps") == 3
    assert units(found.pieces, files.TRAIN) == 9000 * 16 + 900 * 30
    assert units(found.pieces, files.DISTILL) == 900 * 30
    assert units(found.pieces, files.HEAD) == 900 * 20
    checkpoints = len(demo().checkpoints)
    assert units(found.pieces, files.FIXED) == 40 * (1 + 2 * checkpoints)
    assert units(found.pieces, files.ROW) == 24 * 40 * (1 + 2 * checkpoints)
    assert [part.units for part in found.process] == [9000 + 2000]


def test_disk_is_what_checkpoints_and_maps_weigh():
    found = workload(demo())
    state = 4 * costs(OWN).parameters
    kept = len(demo().checkpoints)
    networks = sum(piece.disk for piece in found.pieces if piece.kind == "network")
    assert networks == state * (1 + 2 * kept)
    maps = sum(piece.disk for piece in found.pieces if piece.kind == "maps")
    assert maps == 40 * (1 + 2 * kept) * 4 * (2 * 16**2 + 2)


@pytest.mark.parametrize("changed,factor", [({"seeds": [0, 1, 2]}, 3), ({"seeds": [5]}, 1)])
def test_work_grows_with_seeds(changed, factor):
    one, many = workload(demo()), workload(demo(**changed))
    for task in TASKS:
        assert units(many.pieces, task) == factor * units(one.pieces, task)


def test_layers_share_teacher_and_baseline():
    one, two = workload(demo()), workload(demo(layers=["FC1", "FC2"]))
    trained = [units(w.pieces, files.TRAIN) for w in (one, two)]
    assert trained[0] == trained[1]
    assert units(two.pieces, files.DISTILL) == 2 * units(one.pieces, files.DISTILL)


def test_nothing_lies_above_the_last_layer():
    assert units(workload(demo(layers=["FC3"])).pieces, files.HEAD) == 0


def test_runs_that_share_pieces_count_them_once():
    same = demo(CellParameters, network="VGG-11", teacher="same")
    other = demo(CellParameters, network="VGG-11", teacher="same", layers=["FC2"])
    separate = [workload(same), workload(other)]
    pieces = joined(separate)
    assert len(joined([separate[0], separate[0]])) == len(separate[0].pieces)
    assert units(pieces, files.TRAIN) == units(separate[0].pieces, files.TRAIN)
    assert units(pieces, files.DISTILL) == 2 * units(separate[0].pieces, files.DISTILL)


@pytest.mark.parametrize(
    "changed",
    [{"teacher_epochs": 17}, {"image_size": 96}, {"teacher_samples": 500}, {"seeds": [1]}],
)
def test_runs_with_other_networks_share_nothing(changed):
    pieces = joined([workload(demo()), workload(demo(**changed))])
    students = [p for p in pieces if p.title.startswith("S ")]
    assert len(students) == 2 and len({p.key for p in pieces}) == len(pieces)


def test_a_larger_teacher_is_counted_as_itself():
    found = workload(demo(CellParameters, network="AlexNet", teacher="VGG-16"))
    train = [part for piece in found.pieces for part in piece.parts if part.task == files.TRAIN]
    assert [part.net.network for part in train] == ["VGG-16", "AlexNet"]


def test_images_changed_at_random_need_the_teacher_at_every_step():
    plain, changed = (workload(demo(augment=how)) for how in ("none", "all"))
    assert units(changed.pieces, files.FORWARD) > units(plain.pieces, files.FORWARD) + 900 * 29


def test_slow_methods_cost_their_own_rows():
    assert estimator_rows("path", 8, 3) == 24 and estimator_rows("optimum", 8, 3) == 24
    assert estimator_rows("published", 8, 3) == PUBLISHED_ROWS > 1000
    slow = workload(demo(method="published"))
    assert units(slow.pieces, files.ROW) > 100 * units(workload(demo()).pieces, files.ROW)


@pytest.mark.parametrize(
    "notebook",
    ["image_lambda", "image_measure", "image_coherency", "image_fine_tuning", "image_unseen"],
)
@pytest.mark.parametrize("preset", ["smoke", "study"])
def test_every_notebook_is_counted_and_its_keys_differ(notebook, preset):
    found = workload(demo(models_for(notebook), preset), notebook)
    assert len({piece.key for piece in found.pieces}) == len(found.pieces) >= 5
    assert all(part.units >= 0 for piece in found.pieces for part in piece.parts)


@pytest.mark.parametrize("model", [SentimentParameters, QuestionParameters, CloudParameters])
def test_texts_and_clouds_are_counted(model):
    found = workload(demo(model))
    assert len(found.pieces) == 6 and found.disk > 0 and "not counted" in found.left_out[0]


def test_fine_tuning_has_no_student_and_needs_no_source_from_imagenet():
    own = workload(demo(FineTuningParameters))
    assert {piece.title[0] for piece in own.pieces if piece.kind == "network"} == {"T", "B", "F"}
    assert units(own.pieces, files.DISTILL) == 0
    given = dict(source="ImageNet", scale="full")
    ready = workload(demo(FineTuningParameters, **given))
    assert {p.title[0] for p in ready.pieces if p.kind == "network"} == {"B", "F"}


def test_data_sets_are_counted_by_their_complete_release():
    assert counts_of("cub200").train == 5994 and counts_of("download:cub200").classes == 200
    assert counts_of("tiny_imagenet").train == 100_000
    with pytest.raises(KpnbError, match="known once it is prepared"):
        counts_of("coco")


def test_a_data_set_that_nobody_can_count_needs_a_number():
    with pytest.raises(KpnbError, match="teacher_samples as a number"):
        workload(demo(data="coco", teacher_samples="all"))
    found = workload(demo(data="coco", teacher_samples=500))
    assert units(found.pieces, files.TRAIN) == 500 * 16 + 50 * 30
    assert "is assumed" in found.left_out[0]


# --- seconds


def test_a_measured_part_takes_its_rate():
    found = Lookup(rates(2.0)).part(Part(files.ROW, 10, OWN, "FC1"))
    assert found.by == {MEASURED: 20.0}


def test_outputs_do_not_make_a_rate_another_one():
    part = Part(files.TRAIN, 10, replace(OWN, outputs=200))
    assert Lookup(rates()).part(part).by[MEASURED] == pytest.approx(10, rel=1e-2)


def test_another_network_is_scaled_by_operations_and_marked():
    other = replace(OWN, network="VGG-16")
    found = Lookup(rates()).part(Part(files.TRAIN, 1, other))
    ratio = costs(other).forward[WHOLE] / costs(OWN).forward[WHOLE]
    assert found.by == {SCALED: pytest.approx(ratio)} and "VGG-16" in next(iter(found.scaled))


def test_the_nearest_rate_is_of_the_same_family_and_scale():
    near = Rate(files.TRAIN, 7.0, 7, 7, 1, net=replace(OWN, network="VGG-19"))
    far = Rate(files.TRAIN, 9.0, 9, 9, 1, net=Net(IMAGE, "AlexNet", "full", 64, 12))
    measured = rates()
    chosen = Lookup(replace(measured, rates=(far, near)))
    (label,) = chosen.part(Part(files.TRAIN, 1, replace(OWN, network="VGG-16"))).scaled
    assert "VGG-19" in label


def test_a_t4_is_operations_over_its_data_sheet():
    found = Lookup(None).part(Part(files.TRAIN, 1000, OWN))
    operations = 3 * 1000 * costs(OWN).forward[WHOLE]
    assert found.by == {SHEET: pytest.approx(operations / (8.1e12 * 0.3))}


def test_a_task_that_nobody_measured_is_an_error():
    with pytest.raises(KpnbError, match="No rate of 'training step'"):
        Lookup(replace(rates(), rates=())).part(Part(files.TRAIN, 1, OWN))


def test_rates_of_a_device_that_is_not_there_are_an_error(tmp_path):
    with pytest.raises(KpnbError, match="There are no rates of a cuda here"):
        lookup("cuda", folder=tmp_path)
    assert lookup(T4, folder=tmp_path).measured is None


def test_a_file_of_rates_can_be_given(tmp_path):
    path = files.write(rates(), tmp_path / "mine.json")
    assert lookup(file=path).measured == rates()


# --- plans


def planned(**given) -> plan.Planned:
    return plan.Planned("x", (plan.Run("x", workload(demo(**given))),), Lookup(rates()))


def test_a_plan_adds_up_its_pieces_and_what_each_process_does():
    whole = planned()
    pieces = sum(whole.lookup.piece(piece).total for piece in whole.pieces)
    composed = 11_000 * 1e-9  # images
    assert whole.seconds.total == pytest.approx(pieces + composed, rel=1e-12)
    assert whole.disk == sum(piece.disk for piece in whole.pieces)


def test_a_plan_names_its_rates_and_marks_what_is_scaled():
    told = "\n".join(planned().lines())
    assert "a CPU, 1 thread, measured 2026-01-02" in told and "scaled" not in told
    assert "not measured: scaled by operations" in "\n".join(planned(network="AlexNet").lines())
    assert "| scaled |" in planned(network="AlexNet").detail()


def test_a_sweep_is_planned_without_the_data_that_nobody_can_count(tmp_path, monkeypatch):
    monkeypatch.setenv("KPNB_DATA", str(tmp_path))
    found = plan.plan_name("paper_iv", "paper", {}, Lookup(rates()))
    assert [run.name for run in found.runs] == [f"paper_iv_cub_fc{i}" for i in (1, 2, 3)]
    assert found.unknown == {"ilsvrc_det": 2}
    assert any("not in it: 2 runs on ilsvrc_det" in line for line in found.lines())
    empty = plan.plan_name("paper_viii", "paper", {}, Lookup(rates()))
    assert empty.lines()[0] == "paper_viii at paper: nothing to plan"


def test_a_sweep_counts_what_its_runs_share_once():
    found = plan.plan_name("table_ii", "study", {}, Lookup(rates()))
    teachers = [p for p in found.pieces if p.title.startswith("T ")]
    assert len(found.runs) == 6 and len(teachers) == 4  # AlexNet, VGG-11, VGG-16, VGG-19


@pytest.mark.parametrize(
    "name,preset,given,told",
    [
        ("image_h7x", "demo", {}, "There is no notebook 'image_h7x'"),
        ("table_ii", "nothing", {}, "is not run at 'nothing'"),
        ("table_ii", "study", {"epochs": 3}, "leave out -p"),
        ("image_h1", "demo", {"epoch": 3}, "There is no parameter 'epoch'"),
        ("image_h1", "weekend", {}, "preset is 'weekend'"),
    ],
)
def test_mistakes_are_one_sentence(name, preset, given, told):
    with pytest.raises(KpnbError, match=told):
        plan.plan_name(name, preset, given, Lookup(rates()))


def test_the_command(tmp_path, capsys):
    path = files.write(rates(), tmp_path / "mine.json")
    command = ["image_h1", "-p", "epochs=12", "--rates", str(path), "--detail"]
    assert plan.main(command) == 0
    told = capsys.readouterr().out
    assert told.startswith("image_h1 at demo: 1 run, 6 networks") and "| maps | maps T FC1" in told
    assert plan.main([]) == 2 and "Name a notebook" in capsys.readouterr().err
    assert plan.main(["image_h1", "--rates", str(tmp_path / "no.json")]) == 2


@pytest.mark.parametrize("preset", ["smoke", "demo", "paper"])
def test_a_forecast_speaks_of_this_machine_and_of_a_t4(preset):
    told = forecast(demo(preset=preset, device="auto"))
    assert "T4-class GPU" in told and "GB" in told and told.count("\n") <= 2


def test_a_forecast_says_what_it_does_not_know_instead_of_raising():
    told = forecast(demo(data="coco", teacher_samples="all"))
    assert told.startswith("What this run takes is not known: ")


def test_a_notebook_that_forecasts_depends_on_no_rates():
    code = "import sys, kpnb.run.planning.forecast as _; "
    code += "print([m for m in sys.modules if 'throughput' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "seconds,told",
    [(0.4, "0.4 s"), (59.6, "60 s"), (90, "1.5 minutes"), (7200, "2.0 hours"), (9e5, "10 days")],
)
def test_durations_in_words(seconds, told):
    assert plan.duration(seconds) == told


def test_sizes_in_words():
    assert [plan.size(n) for n in (2e6, 1.23e9, 62e9)] == ["2 MB", "1.2 GB", "62 GB"]


# --- the check and the page


def test_the_check_compares_a_plan_with_a_study_that_was_run(monkeypatch):
    monkeypatch.setattr(plan_check, "_committed", dict)
    monkeypatch.setattr(study_images, "TEST_SAMPLES", 40)
    small = {"preset": "smoke", "network": "AlexNet", "teacher": "same", "device": "cpu"}
    small |= {"layers": ["FC1"], "samples": 2, "teacher_samples": 120, "checkpoints": [0, 2]}
    effort = Effort(plan_check.torch.device("cpu"), batch=8, seconds=0.0, repeats=1, maps=1)
    found = plan_check.check_plan(1, small, effort)
    number = found.numbers
    for subject in ("training", "maps", "total"):
        real, ratio = (number[f"{subject} | {what} | cpu"].value for what in ("real", "ratio"))
        assert real > 0 and ratio == number[f"{subject} | planned | cpu"].value / real
    assert number["total | real | cpu"].value >= number["maps | real | cpu"].value
    assert plan_check.check_table([found]).count("\n") == 7


def test_the_tables_say_where_nothing_is_measured():
    assert plan_check.check_table([]) == plan_check.NOTHING
    assert plan_pages.rates_tables([]) == plan_pages.ratios_table([]) == plan_pages.NOTHING


def test_the_tables_show_what_was_measured():
    assert "| VGG-11 (narrow), 64 px | 0 | float32 | 1000 |" in plan_pages.rates_tables([rates()])
    assert "T4 (estimate)" in plan_pages.examples_table([rates()])

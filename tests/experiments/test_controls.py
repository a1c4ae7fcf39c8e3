"""Controls: which networks are the study's own, what other teachers learn, the numbers."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import WatchedStore, single_thread
from notebook_runs import Executed
from refusals import refuses
from shown_samples import maps_of
from studied import KeyStore, same_states

from kpnb.datasets import images as drawing
from kpnb.datasets.images import embedded_images, shown_photographs, split_photos
from kpnb.experiments import controls
from kpnb.experiments.controls import ControlFindings, ControlStudy, keeps_more, outcome_of
from kpnb.metrics.evidence import Evidence
from kpnb.metrics.protocol import protocol, protocol_seeds
from kpnb.metrics.results import read_results
from kpnb.metrics.stats import Estimate, paired_difference
from kpnb.run import notebook as runner
from kpnb.run.plan import ask, counting
from kpnb.store import Store
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import ControlParameters, ImageParameters, resolve

NOTEBOOK, B = "image_controls", 0.2
KINDS = ("untrained", "shuffled", "equal", "photographs")
FEW = {"device": "cpu", "samples": 3}


def study_of(store: Store | None = None, **changed) -> ControlStudy:
    given = {"preset": "smoke"} | FEW | changed
    return ControlStudy(resolve(ControlParameters, given), store or KeyStore(Path("unused")))


def kinds_of(study: ControlStudy) -> dict[str, ControlStudy]:
    return {one.kind: one for one in (study, *study.others)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> ControlFindings:
    """All kinds measured once; the notebook then finds their networks and maps."""
    with pytest.MonkeyPatch.context() as patch, single_thread():
        patch.setattr("kpnb.study.image.TEST_SAMPLES", 60)
        study = study_of(WatchedStore(tmp_path_factory.mktemp("store")))
        findings = ControlFindings(study, NOTEBOOK)
        findings.measure()
    return findings


def test_presets_are_the_protocol_s_and_teachers_are_no_students():
    asked, study = protocol(), resolve(ControlParameters, {"preset": "study"})
    assert study.seeds == protocol_seeds("pairs", 21)[: asked["controls"]["pairs"]]
    whole = resolve(ImageParameters, {"preset": "study"})
    assert study.teachers == whole.teachers and study.seeds == whole.seeds[:7]
    assert study.layers == tuple(asked["controls"]["layers"])
    assert set(study.kinds) == set(asked["controls"]["kinds"]) == set(KINDS)
    assert (study.samples, study.followed) == (asked["settings"]["samples"], 0)
    assert [study.network] == asked["controls"]["networks"]
    shared = set(ImageParameters.model_fields) - {"seeds", "followed", "network"}
    assert all(getattr(study, name) == getattr(whole, name) for name in shared)
    refuses(study_of, "seed 1 is a teacher's and a student's", teachers=[0, 1])
    refuses(study_of, "leave it out", data="cub200")


def test_good_students_and_baselines_are_those_of_the_image_study(few_test_images):
    """By their entries in the store, maps included; only teacher and student are others' own."""
    study = study_of()
    plain = {n: v for n, v in study.parameters.model_dump().items() if n != "kinds"}
    image = ImageStudy(ImageParameters(**plain), KeyStore(Path("unused")))
    own = {role: image.of(role, 1, "FC1").fingerprint for role in "TSB"}
    found, students = kinds_of(study), set()
    assert list(found) == ["good", *KINDS]
    for kind, of in found.items():
        for role in "TSB":
            network, wanted = of.of(role, 1, "FC1"), image.of(role, 1, "FC1")
            assert (network.fingerprint == own[role]) == (kind == "good" or role == "B")
            if network.fingerprint == own[role]:
                for one in (of, image):
                    one.trail(wanted, "FC1")
                assert of.store.maps == image.store.maps
        students.add(of.of("S", 1, "FC1").fingerprint)
    assert len(students) == 5
    # The study's own evidence has maps on the way as well; the final ones are the same entry.
    followed = replace(image, parameters=image.parameters.model_copy(update={"followed": 2}))
    for role in "TSB":
        image.trail(image.of(role, 1, "FC1"), "FC1")
        followed.trail(image.of(role, 1, "FC1"), "FC1")
        assert image.store.maps == followed.store.maps


def test_teachers_know_what_they_should(measured):
    study = measured.study
    teachers = {kind: one.of("T", 1) for kind, one in kinds_of(study).items()}
    start = {name: t for name, t in study.build("T", 0).state_dict().items()}
    untrained = teachers["untrained"]
    assert same_states(untrained.states[untrained.final_epoch], start)
    for kind in ("good", "shuffled"):
        state = teachers[kind].states[teachers[kind].final_epoch]
        assert state.keys() == start.keys() and not same_states(state, start)
    # An equal teacher is a baseline, of a seed that no student has.
    assert teachers["equal"].fingerprint == study.of("B", 0).fingerprint
    assert teachers["equal"].fingerprint != study.of("B", 1).fingerprint
    assert len({one.fingerprint for one in teachers.values()}) == 5
    # Students start alike.
    starts = [one.of("S", 1, "FC1").states[0] for one in kinds_of(study).values()]
    assert all(same_states(starts[0], other) for other in starts)
    assert same_states(starts[0], study.of("B", 1).states[0])
    # Scores are under a teacher's own labels.
    photographs = kinds_of(study)["photographs"].teaching(0)
    held, net = study.data.new_samples, photographs.network(teachers["photographs"])
    with torch.inference_mode():
        logits = net.eval()(held.images)
    right = (logits.argmax(1) == shown_photographs(held)).double().mean()
    assert logits.shape == (60, 22)
    assert teachers["photographs"].accuracy["new"] == pytest.approx(float(right))


@pytest.mark.parametrize("seed", [0, 5])
def test_shuffled_labels_are_a_cycle_that_moves_each(seed):
    places = torch.arange(50)
    found = controls.shuffled_labels(places, seed)
    assert sorted(found.tolist()) == places.tolist() and not (found == places).any()
    reached, place = {0}, int(found[0])
    while place not in reached:
        reached.add(place)
        place = int(found[place])
    assert len(reached) == 50
    assert torch.equal(found, controls.shuffled_labels(places, seed))
    assert not torch.equal(found, controls.shuffled_labels(places, seed + 1))
    labels = torch.arange(50) % 7
    assert torch.equal(controls.shuffled_labels(labels, seed), labels[found])


def test_a_shuffled_teacher_sees_the_labels_of_its_seed(monkeypatch, few_test_images, tmp_path):
    asked, study = [], study_of(Store(tmp_path), teachers=[7], teacher_samples=100)
    monkeypatch.setattr(
        "kpnb.study.study.train_classifier", lambda net, *given, **_: asked.append(given) or 1 / 0
    )
    for kind in ("good", "shuffled", "photographs"):
        with pytest.raises(ZeroDivisionError):
            kinds_of(study)[kind].of("T", 1)
    images, labels = zip(*[given[:2] for given in asked], strict=True)
    samples = study.data.teacher_samples
    assert all(one is samples.images for one in images)
    assert torch.equal(labels[0], samples.labels)
    assert torch.equal(labels[1], controls.shuffled_labels(samples.labels, 7))
    assert torch.equal(labels[1].bincount(), samples.labels.bincount())
    assert torch.equal(labels[2], shown_photographs(samples))
    assert {given[2] for given in asked} == {study.settings("T", 7)}


@pytest.mark.parametrize("split", ["train", "test"])
def test_photographs_are_those_that_were_drawn(split, monkeypatch):
    drawn, render = [], drawing.render
    note = lambda recipe, side: drawn.append(recipe.photo.photo) or render(recipe, side)  # noqa: E731
    monkeypatch.setattr(drawing, "render", note)
    samples, names = embedded_images(40, split, 8, image_size=16, seed=3), list(split_photos(split))
    assert [names[number] for number in shown_photographs(samples).tolist()] == drawn
    assert len(names) == {"train": 22, "test": 5}[split] and len(set(drawn)) > 1
    refuses(shown_photographs, "take parts later", samples.subset([0, 1]))


def test_keeps_more_against_a_count_of_all_pairs_with_ties():
    generator = torch.Generator().manual_seed(0)
    entropy = torch.randint(4, (6, 16), generator=generator).float()
    entropy[1, 3] = entropy[2, :8] = entropy[3] = torch.nan
    foreground = torch.rand(6, 16, generator=generator) < 0.4
    foreground[2] = torch.arange(16) < 8  # none of its foreground is known
    found = keeps_more(entropy, foreground)
    for sample in (0, 1, 4, 5):
        pair = [
            [v for v, f in zip(entropy[sample].tolist(), foreground[sample], strict=True)
             if f == inside and v == v]
            for inside in (True, False)
        ]  # fmt: skip
        scores = [1.0 if a < b else 0.5 if a == b else 0.0 for a, b in product(*pair)]
        assert found[sample] == pytest.approx(sum(scores) / len(scores))
    assert np.isnan(found[[2, 3]]).all()
    inside = torch.arange(16) < 5
    assert keeps_more(inside[None].float(), inside[None])[0] == 0
    assert keeps_more(-inside[None].float(), inside[None])[0] == 1


def made(*counts: int) -> Evidence:
    """Of one seed a count: students with so many of 8 foreground points in each of 3 images; the
    teacher with 4, the baseline with 1. Two teachers in turn."""
    inside = torch.arange(16) < 8
    networks = {"S": counts, "T": [4] * len(counts), "B": [1] * len(counts)}
    points = {
        role: [{1: maps_of(-(torch.arange(16) < n).float().expand(3, 16))} for n in found]
        for role, found in networks.items()
    }
    teachers = tuple(range(2)) * len(counts)
    return Evidence("FC1", (0, 1), inside.expand(3, 16), points, {}, teachers[: len(counts)])


def test_contrasts_by_hand(monkeypatch, few_test_images):
    """Seeds 1 to 4 with 2 teachers: differences of 3, 4, 2, 3 points. A teacher counts once."""
    study = study_of(seeds=[1, 2, 3, 4], teachers=[5, 6], kinds=["shuffled", "untrained"])
    by_kind = {
        "good": made(5, 6, 4, 5),
        "shuffled": made(2, 2, 2, 2),
        "untrained": made(0, 0, 0, 0),
    }
    monkeypatch.setattr(ControlStudy, "evidence", lambda self, layer: by_kind[self.kind])
    monkeypatch.setattr(controls, "explained_shares", lambda *_: [0.9, 0.8, 0.7, 0.6])
    net = type("Net", (), {"accuracy": {"new": 0.5, "train": 0.75}})
    monkeypatch.setattr(ControlStudy, "of", lambda self, *_: net)
    findings = ControlFindings(study, NOTEBOOK)
    findings.measure()
    found, gap = findings.numbers, np.array([3.0, 4, 2, 3])
    assert found["n_fg_good_minus_shuffled_FC1"].value == pytest.approx(3)
    assert found["n_fg_student_good_FC1"].value == 5 and found["n_fg_baseline_FC1"].value == 1
    assert found["n_fg_shuffled_minus_baseline_FC1"].value == pytest.approx(1)
    # t with 3 degrees of freedom; teachers' means are 2.5 and 3.5, so theirs, with 1, is wider.
    between = 4 * np.var([gap[::2].mean(), gap[1::2].mean()], ddof=0) / 1
    within = ((gap - np.tile([2.5, 3.5], 2)) ** 2).sum() / 2
    assert between > within
    half = 12.7062 * np.sqrt(between / 4)
    number = found["n_fg_good_minus_shuffled_FC1"]
    assert (number.high - number.low) / 2 == pytest.approx(half, rel=1e-4)
    assert findings.networks["FC1", "teacher good", "n_fg"].shape == (2, 3)
    assert found["explained_train_student_good_FC1"].value == pytest.approx(0.75)
    # All points lie inside, and other masks are the same here: nothing is above chance.
    assert found["lambda_student_good_FC1"].value == 1
    assert found["over_chance_student_good_FC1"].value == 0
    assert "over_chance_student_untrained_FC1" not in found  # without a point
    assert any(
        "students of untrained teachers at FC1: not defined" in note for note in findings.notes
    )
    assert found["auc_student_good_FC1"].value == pytest.approx((5 / 8 + 1) / 2)
    assert found["gap_teacher_good_FC1"].value == pytest.approx(0.5)
    values = {(v.layer, v.role, v.metric): v.by_seed for v in findings.values}
    assert values["FC1, student good", "S", "n_fg"] == ["5 5 5", "6 6 6", "4 4 4", "5 5 5"]
    assert values["FC1, baseline", "B", "n_bg"] == ["0 0 0"] * 4
    assert found["accuracy_train_teacher_shuffled_FC1"].value == 0.75
    assert findings.measures == findings.comparisons == []


GAPS = {"more": (3, 2, 4), "less": (-3, -4, -2), "none": (0.1, -0.2, 0.3), "wide": (1, -1, 3)}
GAPS |= {"below": (-2, -5, 0.4)}  # a lead of the margin is out of the question, a lag is not


@pytest.mark.parametrize(
    "side, expected",
    [
        (
            "up",
            {
                "more": "held",
                "less": "did not hold",
                "none": "did not hold",
                "wide": "open",
                "below": "open",
            },
        ),
        (
            "down",
            {
                "more": "did not hold",
                "less": "held",
                "none": "did not hold",
                "wide": "open",
                "below": "open",
            },
        ),
        (
            "",
            {
                "more": "did not hold",
                "less": "held",
                "none": "held",
                "wide": "open",
                "below": "held",
            },
        ),
    ],
)
def test_no_lead_is_more_than_none_seen(side, expected):
    for name, ends in GAPS.items():
        found = Estimate(*ends, n_samples=5, n_seeds=3, p=0.001)
        assert outcome_of(found, side, 0.5, 0.001) == expected[name], name
        alone = replace(found, n_seeds=1)
        assert outcome_of(alone, side, 0.5, 0.001) == "one seed"
    if side == "up":  # another test of the family took the level
        assert outcome_of(Estimate(*GAPS["more"], 5, 3), side, 0.5, 0.06) == "open"


@pytest.mark.parametrize(
    "outcomes, answer",
    [
        (["held", "held"], "Yes"), (["held", "open"], "Undecided"), ([], "The protocol's contrast"),
        (["held", "did not hold"], "No:"), (["one seed"] * 2, "No verdict"),
    ],
)  # fmt: skip
def test_the_reading_may_say_no(outcomes, answer, monkeypatch, measured):
    rows = [("FC1", "good minus shuffled", f"{n}") for n in range(len(outcomes))]
    rows.append(("FC1", "shuffled minus baseline", "N_fg"))
    table = controls.pd.DataFrame(
        {"expected": "more", "found": "1 [0, 2]", "outcome": [*outcomes, "held"]},
        index=controls.pd.MultiIndex.from_tuples(rows, names=["layer", "students of", "metric"]),
    )
    monkeypatch.setattr(ControlFindings, "outcomes", lambda self: table)
    told = measured.reading()
    assert f"**{answer}" in told and f"Of {len(rows)} expectation" in told


def test_numbers_of_a_run_are_those_of_its_maps(measured):
    study, found = measured.study, measured.numbers
    assert {f"{n}_{k}_minus_baseline_FC1" for n in controls.QUANTITIES for k in KINDS} <= set(found)
    evidence = {kind: one.evidence("FC1") for kind, one in kinds_of(study).items()}
    counts = {
        (kind, role): np.stack([of.points(role, s, None, B).n_fg.double() for s in of.seeds])
        for kind, of in evidence.items()
        for role in "TSB"
    }
    for kind in KINDS:
        gap = paired_difference(counts[kind, "S"], counts["good", "B"])
        assert found[f"n_fg_{kind}_minus_baseline_FC1"].value == pytest.approx(gap.value)
        teacher = found[f"n_fg_teacher_{kind}_FC1"]
        assert teacher.low is None and teacher.value == counts[kind, "T"][0].mean()
        assert 0 <= found[f"accuracy_teacher_{kind}_FC1"].value <= 1
        assert found[f"explained_train_student_{kind}_FC1"].value <= 1
    gap = paired_difference(counts["good", "S"], counts["shuffled", "S"])
    assert found["n_fg_good_minus_shuffled_FC1"].value == pytest.approx(gap.value)
    results = measured.results()
    assert results.provenance["code"] == ["ControlStudy", "ControlFindings"]
    assert len(measured.forest().axes) == len(controls.QUANTITIES)
    assert len(measured.table()) == 1 + 2 * 5 and len(measured.outcomes()) == 9


def test_the_plan_counts_every_kind_without_data(monkeypatch):
    study = study_of(seeds=[1, 2])
    monkeypatch.setattr("kpnb.study.image.embedded_images", None)  # is not called
    monkeypatch.setattr("kpnb.experiments.controls.shown_photographs", None)
    asked = counting(study)
    ask(asked)
    costs = [(kind, cost.work[-1:]) for kind, cost in asked.store.costs.values()]
    networks = [cost for kind, cost in asked.store.costs.values() if kind == "networks"]
    # 4 teachers, an equal one that is a baseline of its own, 2 baselines, 2 students of 5 kinds.
    assert len(networks) == 4 + 1 + 2 + 2 * 5
    assert sum(kind == "maps" for kind, _ in costs) == len(networks)


@pytest.mark.long
def test_the_notebook(measured, tmp_path, monkeypatch):
    root = measured.study.store.root
    monkeypatch.setenv("KPNB_STORE", str(root))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    run = Executed(NOTEBOOK, FEW, root, tmp_path)
    assert (run.code, run.told, run.added) == (0, "", set())
    about, results = run.notebook.metadata["kpnb"], read_results(NOTEBOOK, "smoke")
    assert runner.error_outputs(run.notebook) == []
    assert runner.figure_count(run.notebook) == about["figures"]
    kinds = [Path(folder).parent.name for folder in about["store"]]
    assert kinds.count("networks") == kinds.count("maps") == 11
    assert results.measures == results.comparisons == []
    same = {name for name, n in measured.numbers.items() if "accuracy" not in name}
    same = {name for name in same if "explained" not in name}
    assert results.numbers.keys() == measured.numbers.keys() and len(same) > 100
    assert all(results.numbers[name] == measured.numbers[name] for name in same)
    assert "What the measure measures" in run.text() and "No verdict: several seeds" in run.text()

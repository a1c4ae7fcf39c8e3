"""The protocol's pages: planned and reached, fitness, history; and prose that follows results."""

import json
import re
from pathlib import Path

import pytest
from made_results import comparison, rows_of, rows_of_all, run

from book.make import protocol_pages
from book.make.frame import NOTHING, frame
from book.make.protocol_pages import (
    confirmatory,
    failed_checks,
    fitness_fragments,
    history_tables,
    unfit_sentence,
)
from book.make.texts import badge
from kpnb.metrics.protocol import protocol, protocol_hash, protocol_seeds
from kpnb.metrics.results import Number, read_results
from kpnb.run.sweeps import Sweeps
from kpnb.study.parameters import ImageParameters

BOOK = Path(__file__).resolve().parents[2] / "book"
HISTORY = BOOK / "results" / "history"
SEEDS = list(protocol_seeds("pairs", protocol()["confirmatory"]["pairs"]))
OLD = ("reproduced", "contradicted", "inconclusive")


def confirmed(*comparisons, on="train", **changes):
    settings = {"threshold": 0.2, "seeds": SEEDS, "measured_on": on, "network": "VGG-11"}
    given = {"preset": "study", "settings": settings, "comparisons": list(comparisons)}
    return run(**given | changes)


def shown(*results):
    return protocol_pages.protocol_pages(frame(results))


def decided(*results):
    """The rows on decisions by metric and kind of images, without these."""
    rows = rows_of(shown(*results)["decided"])
    return {(row[1], row[2]): row[3:] for row in rows}


N_FG, RHO = "$N^{fg}_{point}$", r"$\rho$"


def test_nothing_is_decided_without_results_of_the_protocols_own_pairs():
    rows = decided()
    assert len(rows) == 6 and set(map(tuple, rows.values())) == {("0 of 4", "not run")}
    assert (RHO, "new") not in rows  # training is followed on training images
    own = confirmed(comparison("n_fg", 6.0, 13.0))
    other = confirmed(comparison("n_fg", 6.0, 13.0), settings=own.settings | {"seeds": SEEDS[:-1]})
    aside = comparison("n_fg", 6.0, 13.0, threshold=0.25)
    assert len(confirmatory(frame([other, run(), confirmed(aside)]))) == 0
    assert len(confirmatory(frame([own, own, other]))) == 1
    assert decided(own)[N_FG, "training"][0] == "1 of 4" and decided(other) == decided()


def test_decisions_are_told_by_cells_and_by_their_mean_under_the_protocols_side():
    """Three cells of which one is not measurable have no mean."""
    layers = ("Conv", "FC1", "FC2", "FC3")
    ends = [(8.6, 9.4), (9.6, 10.4), (10.6, 11.4), (-3.0, 3.0)]
    networks = ("VGG-11", "VGG-11", "AlexNet", "AlexNet")
    cells = [comparison("n_fg", *pair, layer=layer, margin=1.0, network=network)
             for pair, layer, network in zip(ends, layers, networks, strict=True)]  # fmt: skip
    found, answer = decided(confirmed(*cells[:3]))[N_FG, "training"]
    assert found == "3 of 4" and answer.startswith("**Yes, it is supported here.**")
    assert f"Mean over them: {badge('supported')} +10.0 [" in answer
    alone = decided(confirmed(*cells[:2]))[N_FG, "training"][1]
    assert alone == "**No answer from one network.** Of 2 cells: 2 supported."
    unfit = comparison("n_fg", 8.6, 9.4, layer="Conv", unfit=True)
    (answer,) = decided(confirmed(unfit, *cells[1:3]))[N_FG, "training"][1:]
    assert "1 not measurable" in answer and "Mean" not in answer
    down = confirmed(*[comparison("rho", -b, -a, layer=layer)
                       for (a, b), layer in zip(ends[:3], layers, strict=False)])  # fmt: skip
    assert f"Mean over them: {badge('opposed')} −10.0" in decided(down)[RHO, "training"][1]
    new = decided(confirmed(*cells[:1], on="new"))
    assert new[N_FG, "new"][0] == "1 of 4" and new[N_FG, "training"][0] == "0 of 4"


def test_planned_and_reached_half_widths_stand_side_by_side():
    made = shown(
        confirmed(comparison("lambda", 0.02, 0.06, margin=0.02), comparison("d_var", 1, 2))
    )
    (row,) = rows_of(made["protocol_reached"])
    planned = " to ".join(map(str, protocol()["planned"]["half_width"]["lambda"]))
    assert row[0] == "VGG-11, FC1, train" and row[2:4] == ["+0.04", "[+0.02, +0.06]"]
    assert row[4:] == ["0.02", planned, "0.02", badge("supported"), "60, 3"]
    plan = {row[0]: row[1:] for row in rows_of(made["protocol_plan"])}
    assert plan[RHO][:2] == ["H3, student higher", str(protocol()["margins"]["rho"]["absolute"])]
    assert plan["$N^{bg}_{point}$"][0] == "beside" and plan["$D_{var}$"][2:] == ["–", "–"]
    assert protocol_hash() in made["protocol_hash"] and ", ".join(map(str, SEEDS)) in str(made)
    assert "stopping: >" in made["protocol_text"]
    assert "+0.02 in the median over 57 pairs of Table V" in made["protocol_rho"]
    assert made["protocol_wider"].endswith(
        r"- VGG-11 FC1 $\lambda$, training images: half-width 0.02"
    )
    wide = shown(confirmed(comparison("lambda", -0.02, 0.06, margin=0.02)))["protocol_wider"]
    assert wide.endswith("half-width 0.04 †") and "above the margin" in wide
    between = sum(protocol()["planned"]["half_width"]["lambda"])  # twice a half-width, of two
    near = shown(confirmed(comparison("lambda", 0.02, 0.02 + between)))["protocol_wider"]
    assert near == "None is wider than both planned widths."


def test_points_dropped_are_told_by_layer_or_not_run():
    names = ("S", "B", "difference")
    held = {f"dropped_{of}_FC1": Number(value=n, low=n - 1, high=n + 1, what="", n=9)
            for n, of in enumerate(names)}  # fmt: skip
    rho = comparison("rho", 6.0, 13.0)
    made = shown(confirmed(rho, numbers=held))
    told = (
        "- VGG-11, FC1: student 0 [−1.00, 1.00], baseline 1.00 [0, 2.00], student − baseline "
        "+2.00 [+1.00, +3.00] points an image, over 9 images."
    )
    assert made["dropped"] == told
    swept = confirmed(rho, numbers=held, notebook="image_cell", run="v_vgg11_fc1")
    assert shown(swept)["dropped"] == told
    unfit = confirmed(rho, numbers=held, notes=["FC1 is not measurable (a: b); raise epochs."])
    assert shown(unfit)["dropped"].startswith("- VGG-11, FC1, not measurable: student")
    assert shown(run())["dropped"] == "Not run here yet."


def test_the_protocols_pairs_on_objects_that_it_does_not_name_are_told_apart_and_not_as_planned():
    """No cell of the protocol, they stand in the lists of its pairs under a name of their own."""
    ends = comparison("d_mean", -0.2, -0.1, distance="epoch", margin=0.01)
    made = shown(confirmed(ends, on="test", notebook="image_unseen"))
    assert made["protocol_reached"] == NOTHING and "VGG-11" not in made["protocol_wider"]
    assert made["way_units"].startswith("- VGG-11, FC1 (unseen objects): ")
    planned = shown(confirmed(ends))
    assert "VGG-11, FC1, train" in planned["protocol_reached"]


def test_decisions_between_baselines_have_a_row_a_metric_and_number_of_pairs():
    of_three = Number(value=0.06, low=0.01, high=0.11, what="", n=21)
    other = Number(value=0.04, low=0.0, high=0.1, what="", n=9)
    numbers = {"false_decisions_3_rho_Conv": of_three, "false_decisions_3_rho_FC1": other}
    numbers["false_decisions_10_rho_Conv"] = Number(value=0.04, low=0.0, high=0.2, what="", n=21)
    rows = rows_of(shown(confirmed(numbers=numbers))["protocol_false"])
    assert rows == [[RHO, "3", "0.05", "0.04 to 0.06", "0.11", "2", "9, 21"],
                    [RHO, "10", "0.04", "0.04 to 0.04", "0.20", "1", "21"]]  # fmt: skip
    assert shown(run())["protocol_false"] == NOTHING


WHY = (
    "Conv is not measurable (the student explains at least 80%: 3%; the baseline's loss fell by "
    "less than 5%: by 7%); raise epochs or fraction, raise epochs."
)


def test_photographs_are_told_by_their_name_and_length():
    names = ("tin_alexnet_fc1", "tin_alexnet_fc1_100", "tin_vgg11_fc1_new")
    found = frame([read_results("image_cell", "study", name) for name in names])
    told = [row[0] for row in rows_of_all(fitness_fragments(found)["fitness"].split(":::{drop")[1])]
    assert told == ["AlexNet, FC1 (Tiny ImageNet, 20 classes, 60 epochs)",
                    "AlexNet, FC1 (Tiny ImageNet, 20 classes, 100 epochs)",
                    "VGG-11, FC1, new images (Tiny ImageNet, 20 classes, 60 epochs)"]  # fmt: skip


def test_fitness_names_outputs_and_augmentation_where_these_set_cells_apart():
    numbers = {"explained_train_FC1": Number(value=0.91, what="", n=7)}
    cells = [confirmed(numbers=numbers, notebook="image_cell", run=name,
                       settings={"network": "VGG-11", "threshold": 0.2} | own)
             for name, own in (("viii_a", {"outputs": 4}), ("iv_a", {"augment": "teacher"}),
                               ("v_a", {"outputs": None, "augment": "none"}),
                               ("ten_a", {"outputs": None, "augment": "none"}))]  # fmt: skip
    found = [row[0] for row in rows_of_all(fitness_fragments(frame(cells))["fitness"])]
    told = {f"VGG-11, FC1{said}" for said in (
        ", 4 outputs", ", augmented teacher", "", ", ten teachers")}  # fmt: skip
    assert set(found) == told and len(found) == 4


def test_the_chart_of_fitness_has_embedded_data_first_and_names_whose_the_others_are():
    numbers = {"explained_train_FC1": Number(value=0.91, what="", n=7)}
    own = {"settings": {"network": "VGG-11", "threshold": 0.2, "measured_on": "train", "epochs": 3}}
    made = [confirmed(comparison("n_fg", 6, 13, dataset=dataset), numbers=numbers, run=name, **own)
            for name, dataset in (("tin_a", "A set"), ("v_a", "embedded images"))]  # fmt: skip
    drawn = fitness_fragments(frame(made))["fitness_wide_light.svg"]
    assert drawn.index(">Embedded images<") < drawn.index(">A set<")


def test_fitness_has_a_row_a_layer_and_says_once_what_failed_in_several_notebooks():
    about = {"what": "", "n": 7}
    numbers = {"explained_train_FC1": Number(value=0.91, low=0.9, high=0.92, **about)}
    numbers |= {"lambda_over_chance_T_FC1": Number(value=0.3, **about),
                "n_fg_untrained_Conv": Number(value=12, **about),
                "entropy_gap_T_FC2": Number(value=1, **about)}  # fmt: skip
    same = {"numbers": numbers, "notes": [WHY]}
    made = fitness_fragments(frame([confirmed(**same), confirmed(**same, notebook="image_h2")]))
    page = made["fitness"]
    assert "0.5 on new and 0.8 on training samples" in page and "fall by 5 %" in page
    (unfit,), rows = (rows_of_all(part) for part in page.split(":::{dropdown}"))
    assert unfit[0] == "VGG-11, Conv<br>study: `image_h1`, `image_h2`"
    first, second = unfit[1].split("<br>")
    assert first == "• the student explains at least 80%? No: 3%"
    assert second.endswith("? No: by 7%")
    assert unfit[2] == "raise epochs or fraction, raise epochs"
    assert [row[:3] for row in rows] == [
        ["VGG-11, Conv", "no", "–<br>–"],
        ["VGG-11, FC1", "yes", "0.91 [0.90, 0.92]<br>–"],
    ]
    assert rows[1][4] == "0.30<br>–<br>–" and rows[0][5] == "12.0<br>–"
    assert "VGG-11, Conv, not measurable." in page
    told = "VGG-11, FC1: explained +0.91 [+0.90, +0.92], student; λ over chance +0.30, teacher."
    assert told in page and made["fitness_wide_light.svg"].count('class="mark student"') == 2
    texts = [confirmed(numbers=numbers, notebook=f"{kind}_h1") for kind in ("sentiment", "qa")]
    names = [row[0] for row in rows_of_all(fitness_fragments(frame(texts))["fitness"])]
    assert names[1::2] == ["VGG-11, FC1, questions", "VGG-11, FC1, sentences"]
    assert fitness_fragments(frame([run()])) == {"fitness": NOTHING}
    of_control = {f"{name}_FC1": Number(value=0.1, **about)
                  for name in ("accuracy_student_untrained", "explained_train_good")}  # fmt: skip
    assert fitness_fragments(frame([confirmed(numbers=of_control)])) == {"fitness": NOTHING}
    of_map = confirmed(numbers=numbers, notebook="image_cell", run="cond_t6k_n300_l8")
    assert fitness_fragments(frame([of_map])) == {"fitness": NOTHING}  # it has no gate
    fit = fitness_fragments(frame([confirmed(numbers=numbers)]))["fitness"]
    assert "Every layer that was asked is measurable." in fit and "not measurable" not in fit


def test_a_note_is_taken_apart_or_stays_whole():
    checks, change = failed_checks(WHY)
    assert len(checks) == 2 and change == "raise epochs or fraction, raise epochs"
    other = "Conv is not measurable, for another reason"
    assert failed_checks(other) == ([other], "") and failed_checks("") == ([], "")
    told = "Last is not measurable (the loss fell by less than 5%: by 34.8%); raise epochs."
    assert failed_checks(told) == (["the loss fell by less than 5%? No: by 34.8%"], "raise epochs")
    said = "Last is not measurable. The loss fell by less than 5%? No: by 34.8%. "
    assert unfit_sentence("Last", told) == said + "To change: raise epochs."
    assert unfit_sentence("Conv", other) == other + "." and unfit_sentence("Conv", "") == ""


# History


def former(name):
    return json.loads((HISTORY / f"{name}.json").read_bytes())


def score(name, role, metric):
    return next(m["mean"] for m in former(name)["measures"]
                if (m["role"], m["metric"]) == (role, metric))  # fmt: skip


def test_history_shows_every_former_cell_as_it_was_printed_and_no_verdict(monkeypatch, tmp_path):
    page = history_tables()
    assert [line.split("} ")[1] for line in page.splitlines() if "{rubric}" in line] == [
        "Images", "Texts", "Point clouds"]  # fmt: skip
    rows = {row[0]: row for row in rows_of_all(page)}
    files = [path.stem for path in (HISTORY / "cells").glob("*.json")]
    assert all(any(f"`{name}`" in cell for cell in rows) for name in files) and len(files) > 30
    # three files of one network make one row; the b in use, the distance per step
    vgg = next(row for row in rows_of_all(page) if row[:3] == ["VGG-11, Conv", *VGG_DATA])
    assert vgg[3] == "+4.80 [+1.19, +8.14]" and vgg[6] == "+0.12 [+0.063, +0.17]"
    assert vgg[8] == "+0.033 [−0.046, +0.11]"
    assert "VGG-11, FC1, `v_vgg11_fc1`" in rows
    told = page + (BOOK / "history.md").read_text(encoding="utf-8")
    assert not any(word in told for word in (*OLD, "supported", "opposed"))
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path))
    assert history_tables() == "Nothing is kept here."


VGG_DATA = ["embedded images", "60, 3"]


def test_why_history_decides_nothing_is_what_its_files_say():
    text = (BOOK / "history.md").read_text(encoding="utf-8")
    student, teacher = (score("qa_h1", role, "f1_test") for role in "ST")
    assert f"F1 was {student:.2f} under a teacher's {teacher:.2f}".replace("0.", ".") in text
    shares = [int(n) for name in ("qa_h1", "sentiment_h1")
              for n in re.findall(r"(\d+)%", former(name)["notes"][0])]  # fmt: skip
    assert f"on texts {min(shares)} to {max(shares)} %" in text
    learned = [score(f"cells/viii_alexnet_outputs{n}", "S", "accuracy_train")
               for n in (50, 200)]  # fmt: skip
    assert "{:.0f} % and {:.0f} % of their own".format(*(100 * n for n in learned)) in text
    gaps = [found["high"] < 0 for path in HISTORY.glob("pointcloud_*.json")
            for name, found in former(path.stem)["numbers"].items()
            if name.startswith("entropy_gap_")]  # fmt: skip
    assert f"in {sum(gaps)} of {len(gaps)} networks and layers" in text
    assert "baseline: 78 of 80 sentences" in former("sentiment_h2")["notes"][0]
    assert "in 78 of 80 sentences" in text


# Prose


@pytest.mark.parametrize("path", [*sorted(BOOK.glob("*.md")), BOOK.parent / "README.md"], ids=str)
def test_no_page_has_a_verdict_of_the_former_study(path):
    text = path.read_text(encoding="utf-8")
    assert not [word for word in OLD if word in text.lower()]


@pytest.mark.parametrize(
    "page, included",
    [
        ("conclusion", ["decided", "undecided", "claims_decided"]),
        ("intro", ["answer_counts", "answers", "forest"]),
        ("findings", ["controls_contrast", "conditions_images", "dropped", "way_units"]),
    ],
)
def test_conclusion_findings_and_first_page_have_their_numbers_from_results(page, included):
    """Their own words have no number of a result: what is measured is included."""
    text = (BOOK / f"{page}.md").read_text(encoding="utf-8")
    for name in included:
        assert f"```{{include}} _generated/{name}.md\n```" in text
    assert not re.search(r"\d\.\d|\d ?%|[+−]\d", text)


def test_the_presets_are_of_the_protocols_regime_as_the_set_up_says():
    asked, found = protocol(), ImageParameters.PRESETS
    assert "`study` has the seeds, layers and samples of the" in (BOOK / "setup.md").read_text()
    study, sizes = found["study"], ("samples", "followed")
    assert {name: study[name] for name in asked["settings"]} == asked["settings"]
    assert (
        list(study["seeds"]) == SEEDS and list(study["layers"]) == asked["confirmatory"]["layers"]
    )
    same = [name for name in asked["settings"] if name not in sizes]
    cells = [f"v_{of}_{at}" for of in ("alexnet", "vgg11") for at in ("conv", "fc1")]
    names = ("new_alexnet", "new_vgg11", *cells)
    for cell in (Sweeps().sweep_of[name].resolved(name, "study") for name in names):
        assert (list(cell.seeds), cell.teachers) == (SEEDS, protocol_seeds("teachers", 3))
        told = cell.model_dump(mode="json", include={*same, "samples"})
        assert told == {name: asked["settings"][name] for name in told} and len(told) > 15
        assert cell.followed == (0 if cell.measured_on == "new" else asked["settings"]["followed"])
    assert all(found["demo"][name] == study[name] for name in same)


def test_the_map_of_conditions_has_the_cells_and_seeds_that_its_page_says():
    sweep, page = Sweeps().by_name["conditions"], (BOOK / "conditions.md").read_text("utf-8")
    cells = {}
    for name in sweep.runs:
        cell = sweep.resolved(name, "study")
        assert cell.seeds == protocol_seeds("conditions", 3)
        assert cell.teachers == protocol_seeds("conditions teachers", 3)
        images = cell.teacher_samples, round(cell.teacher_samples * cell.fraction)
        assert images[1] * cell.epochs % 1500 == 0 and cell.checkpoints == (0, cell.epochs)
        cells[(*images, images[1] * cell.epochs // 1500)] = name
        assert (
            cell.image_size == 32
            and cell.head_epochs == ImageParameters.PRESETS["demo"]["head_epochs"]
        )
    for place, line in enumerate(
        ("of the teacher", "of student and baseline, a part", "in epochs of")
    ):
        (told,) = (row for row in page.splitlines() if row.startswith("|") and line in row)
        values = sorted({cell[place] for cell in cells})
        assert told.endswith(f"| {', '.join(f'{value:,}' for value in values)} |")
    assert len(cells) == len(sweep.runs) == 36

"""What notebooks show: the study of their names, tables in their order, fates and notes."""

import re
from dataclasses import replace
from itertools import product

import pytest
from conftest import made_evidence
from refusals import fails, refuses
from studied import findings_of

from kpnb.figures.style import alternative_text
from kpnb.metrics.evidence import Choices
from kpnb.study import display
from kpnb.study.cloud import CloudStudy
from kpnb.study.display import Prose, choices_table, parameters_table
from kpnb.study.findings import Findings
from kpnb.study.image import CellStudy, ImageStudy
from kpnb.study.parameters import CoherencyParameters, ImageParameters, preset, resolve
from kpnb.training.fitness import Check, Fitness

CELL = 'network = "VGG-11"\nepochs = {epochs}\npreset = "demo"\nmore = {{}}'


def after(*cells: str) -> dict:
    """A notebook's names after some cells, with IPython's history of them."""
    names = {"In": ["", *cells], "Out": {}, "exit": print}
    for cell in cells:
        exec(cell, names)
    return names


def test_the_values_of_the_cell_are_the_run_and_what_it_does_not_name_is_the_demo_s():
    parameters = ImageStudy.from_notebook(after(CELL.format(epochs=3))).parameters
    assert parameters.epochs == 3 and parameters.checkpoints == (0, 1, 2, 3)
    given = {"preset": "demo", "network": "VGG-11", "epochs": 3}
    assert parameters == resolve(parameters.__class__, given)
    # The preset is a label: it changes no value; the paper's batches are of another size.
    names = {"preset": "paper", "network": "VGG-16", "more": {"chunk": 64}}
    parameters = ImageStudy.from_notebook(names).parameters
    assert (parameters.preset, parameters.batch, parameters.chunk) == ("paper", None, 64)
    assert parameters.image_size == 32 != ImageParameters.PRESETS["paper"]["image_size"]
    # `more` goes over the cell, and papermill's cell too. A mistyped name that is mended is
    # forgotten, and what else a session sets does not count.
    injected = CELL.format(epochs=3), "# Parameters\nepochs = 4\nmore = {'chunk': 64}"
    mended = CELL.format(epochs=3) + "\nepoch = 3", "note = 1", CELL.format(epochs=5)
    for cells, expected in ((injected, (4, 64)), (mended, (5, 256))):
        parameters = ImageStudy.from_notebook(after(*cells)).parameters
        assert (parameters.epochs, parameters.chunk) == expected


@pytest.mark.parametrize(
    "names, told",
    [
        (after(CELL.format(epochs=3) + "\nepoch = 3"), "'epoch': did you mean epochs"),
        (after(CELL.format(epochs=3), "# Parameters\nlearning_rate = 3"), "'learning_rate'"),
        ({"preset": "demo", "more": 3}, "more is 3: write a dictionary"),
        ({"preset": "demo", "more": {"chunks": 3}}, "'chunks': did you mean chunk"),
        ({"epochs": 3}, "preset is missing"),
    ],
)
def test_mistakes_are_refused(names, told):
    fails(ImageStudy.from_notebook, told, names)


def test_a_preset_s_values_for_a_notebook_s_names(monkeypatch):
    for kind, study, *model in (("image", ImageStudy), ("cell", CellStudy), ("cloud", CloudStudy),
                                ("coherency", ImageStudy, CoherencyParameters)):  # fmt: skip
        for name in ("smoke", "demo", "study", "paper"):
            names = after(CELL.format(epochs=3)) | preset(kind, name)
            found = study.from_notebook(names, *model).parameters
            assert found == resolve(type(found), {"preset": name})
    fails(preset, "no presets of 'images': did you mean image", "images", "demo")
    refuses(preset, "preset is 'papers'", "image", "papers")
    # What depends on a value that is put in place of the preset's follows it.
    bs = [preset("image", "paper", **more)["threshold"] for more in ({}, {"network": "AlexNet"})]
    assert bs == [0.2, 0.25]
    assert preset("image", "paper", preset="demo")["preset"] == "paper"
    fails(lambda: preset("image", "paper", networks="AlexNet"), "did you mean network")
    # The study shows what differs from the preset's file.
    study = ImageStudy.from_notebook({"preset": "study", "samples": 300})
    table = parameters_table(study.parameters)
    other = table["instead of the study preset's"]
    assert set(other[other != ""].index) == {"layers", "seeds", "teachers", "followed"}
    assert (table.loc["layers", "value"], other["layers"]) == ("['FC1']", "['Conv', 'FC1']")
    assert set(table.index) == set(type(study.parameters).model_fields)
    shown = []
    monkeypatch.setattr(display, "show", lambda *given: shown.extend(given))
    study._ipython_display_()
    told = f"{len(table)} parameters; other than the study preset's: seeds, teachers, "
    folded = shown[0]._repr_html_()
    assert folded.startswith("<details><summary>" + told) and ">300<" in folded
    assert repr(shown[0]).endswith(str(table))


def test_tables_keep_the_order_of_layers_and_metrics_and_show_what_was_found():
    pair = (made_evidence(layer=la, seeds=2) for la in ("FC2", "Conv"))
    made, ways = findings_of(*pair, hypothesis=None), (" per step", " per own way", " per epoch")
    labels = ["N_fg", "N_bg", "lambda", "D_mean", "D_var", "rho"]
    labels += [f"{name}{way}" for way in ways for name in ("D_mean", "D_var")]
    places, table = list(product(("FC2", "Conv"), labels)), made.comparison_table()
    every = product(places, ("all samples", "published filter"))
    expected = [(*place, of) for place, of in every if of[0] == "a" or "per" not in place[1]]
    assert list(table.index) == expected
    assert table.index.names == ["layer", "metric", "samples"]
    columns = ["predicted", "student - baseline", "n samples", "n seeds", "verdict"]
    shown = ["up", "3 [3, 3]", 8, 2, "supported"]
    assert list(table) == columns and list(table.loc["Conv", "N_fg", "all samples"]) == shown
    table = made.measure_table()
    assert list(table.index) == places and list(table) == ["teacher", "student", "baseline"]
    assert table.loc[("FC2", "N_fg"), "student"] == "6 [6, 6]"
    assert table.loc[("Conv", "lambda"), "baseline"] == "0.6 [0.6, 0.6]"
    assert table.loc[("Conv", "D_mean"), "student"] == "0.1 [0.1, 0.1]"
    assert set(table.loc[[("Conv", "rho"), ("FC2", "D_var")], "teacher"]) == {""}
    assert len(made.measure_table("published_filter")) == 12
    # Only the threshold in use is shown, and roles that were measured.
    findings = findings_of(made_evidence(samples=2), threshold=0.3, hypothesis=2)
    assert list(findings.measure_table().columns) == ["student", "baseline"]
    assert len(findings.measure_table()) == len(findings.comparison_table()) == 8
    # Points lie 1 nat below the background's mean: at 1.5 there are none.
    table = findings_of(made_evidence(), threshold=1.5).measure_table()
    assert len(table) == 3 and set(table["student"]) == {"0"}  # one seed
    # A filter that keeps too few leaves an empty table.
    assert len(findings.measure_table("published_filter")) == 0
    assert set(findings.comparison_table().index.get_level_values("samples")) == {"all samples"}
    # Choices side by side.
    options = [Choices(*given) for given in product((0.2, 0.25), ("step", "epoch"), (False, True))]
    table = choices_table(made_evidence(seeds=2), ["d_mean", "d_var"], options)
    assert len(table) == 16
    assert table.index.names == ["metric", "b", "distance per", "untrained network"]
    assert set(table.index.get_level_values(3)) == {"left out", "included"}
    assert list(table) == ["student", "baseline", "student - baseline", "verdict"]
    shown = ["0.1 [0.1, 0.1]", "0.15 [0.105, 0.195]", "-0.05 [-0.0947, -0.00531]"]
    assert list(table.loc["D_mean", 0.2, "epoch", "left out"]) == [*shown, "supported"]
    assert list(table.index[:2]) == [(d, 0.2, "step", "left out") for d in ("D_mean", "D_var")]


def test_accuracies_and_notes_are_kept_once(smoke):
    findings = Findings(smoke.study, "image_h1", 1)
    table = findings.accuracies()
    assert findings.accuracies().equals(table) and len(findings.measures) == 9
    value = smoke.study.of("S", 0, "FC1").accuracy["test"]
    assert table.loc[("student (FC1)", "unseen", "accuracy"), "value"] == f"{value:.1%}"
    findings.measures = [m.model_copy(update={"n_seeds": 21}) for m in findings.measures]
    parameters = smoke.study.parameters.model_copy(update={"teachers": (1, 2, 3)})
    findings.study = replace(smoke.study, parameters=parameters)
    many = findings.accuracy_table()["n networks"]
    assert {*many["teacher"]} == {3} and {*many["baseline"]} == {21}
    findings.study = smoke.study
    table = findings.schedules()
    assert list(table.index) == ["student", "baseline"] and table.loc["baseline", "epochs"] == 2
    assert table.loc["student", "lr"] == smoke.study.schedule("S", 0).lr
    assert table.loc["student", "loss"] != table.loc["baseline", "loss"]
    assert not table.isna().any().any()
    parameters = smoke.study.parameters.model_copy(update={"batch": 7})
    other = Findings(replace(smoke.study, parameters=parameters), "image_h1", 1)
    assert set(other.schedules()["batch_size"]) == {7} != set(table["batch_size"])
    refuses(findings.learning, "call findings.measure")
    # Of the figures, which the notebooks draw: the example, its fates, and notes.
    real = Findings(smoke.study, "image_h1")
    real.measure()
    assert len(real.fates("S").axes) > len(real.fates("B", panels=2).axes)
    assert real.example == int(real.points("S").n_fg.argmax())
    before, told = list(real.notes), real.never_learned()
    assert real.never_learned() == told and real.notes == [*before, told]
    assert isinstance(told, Prose) and told._repr_markdown_() == told
    assert all(f"Hypothesis {n}" in real.reading() for n in (1, 2, 3))
    assert "Hypothesis 1" not in real.reading(2)


@pytest.mark.parametrize("followed", [2, 0])
def test_what_happens_in_training_is_told_of_the_samples_followed(followed, smoke):
    parameters = smoke.study.parameters.model_copy(update={"followed": followed})
    found = Findings(replace(smoke.study, parameters=parameters), "image_h1")
    found.measure()
    told = [found.learning, found.speeds, found.stability, lambda: found.fates("S")]
    if followed:
        assert re.findall(r"of (\d+) image", found.never_learned()) == ["2", "2"]
        assert all(draw().axes for draw in told)
    else:
        for draw in (*told, found.never_learned):
            refuses(draw, "followed is 0: give 2 or more")


def test_figures_are_of_the_first_layer_that_is_fit_and_say_which():
    findings = findings_of(hypothesis=None)
    findings.evidence["Conv"] = made_evidence(seeds=2, layer="Conv")
    assert not alternative_text(findings.stability()).startswith("Conv")  # there is but one
    findings.evidence["FC1"] = made_evidence(seeds=2, layer="FC1")
    for fit, shown in ((("FC1",), "FC1"), (("Conv", "FC1"), "Conv"), ((), "Conv")):
        findings.fitness = {layer: Fitness(layer, (Check("fit?", "", layer in fit, "mend it"),))
                            for layer in ("Conv", "FC1")}  # fmt: skip
        figures = findings.thresholds(), findings.stability(), findings.figure("n_fg")
        assert all(alternative_text(one).startswith(f"{shown}. ") for one in figures)

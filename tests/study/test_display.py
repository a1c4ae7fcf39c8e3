"""What notebooks show: the study of their names, tables in their order, and each figure drawn."""

import pandas as pd
import pytest
from conftest import made_evidence, smoke_study
from matplotlib.figure import Figure

from kpnb.errors import KpnbError
from kpnb.metrics.evidence import Choices
from kpnb.study.cloud import CloudStudy
from kpnb.study.display import Prose, choices_table, schedule_table
from kpnb.study.findings import Findings
from kpnb.study.image import CellStudy, ImageStudy
from kpnb.study.parameters import CoherencyParameters, preset, resolve

CELL = 'network = "VGG-11"\nepochs = {epochs}\npreset = "demo"\nmore = {{}}'


def after(*cells: str) -> dict:
    """A notebook's names after some cells, with IPython's history of them."""
    names = {"In": ["", *cells], "Out": {}, "exit": print}
    for cell in cells:
        exec(cell, names)
    return names


# --- the study of a notebook's names


def test_the_values_of_the_cell_are_the_run_and_what_it_does_not_name_is_the_demo_s():
    parameters = ImageStudy.from_notebook(after(CELL.format(epochs=3))).parameters
    assert parameters.epochs == 3 and parameters.checkpoints == (0, 1, 2, 3)
    assert parameters == resolve(parameters.__class__, {"preset": "demo", "epochs": 3})


def test_the_preset_is_a_label():
    """It changes no value; the paper's batches are of another size."""
    names = {"preset": "paper", "network": "VGG-16", "more": {"chunk": 64}}
    parameters = ImageStudy.from_notebook(names).parameters
    assert (parameters.preset, parameters.batch, parameters.chunk) == ("paper", None, 64)
    assert parameters.image_size == 64


def test_more_goes_over_the_cell_and_papermill_s_cell_too():
    injected = "# Parameters\nepochs = 4\nmore = {'chunk': 64}"
    parameters = ImageStudy.from_notebook(after(CELL.format(epochs=3), injected)).parameters
    assert (parameters.epochs, parameters.chunk) == (4, 64)


@pytest.mark.parametrize(
    "names, told",
    [
        (after(CELL.format(epochs=3) + "\nepoch = 3"), "'epoch': did you mean epochs"),
        (after(CELL.format(epochs=3), "# Parameters\nlearning_rate = 3"), "'learning_rate'"),
        (after(CELL.format(epochs=0)), "epochs is 0: it must be a whole number >= 1"),
        (after(CELL.format(epochs="'3'")), "epochs is '3'"),
        ({"preset": "demo", "more": 3}, "more is 3: write a dictionary"),
        ({"preset": "demo", "more": {"chunks": 3}}, "'chunks': did you mean chunk"),
        ({"preset": "demos"}, "preset is 'demos': it must be one of smoke, demo, study, paper"),
        ({"epochs": 3}, "preset is missing"),
        ({"preset": "demo", "epoch": 3}, "'epoch': did you mean epochs"),
    ],
)
def test_mistakes_are_refused(names, told):
    with pytest.raises(KpnbError, match=told) as mistake:
        ImageStudy.from_notebook(names)
    assert "\n" not in str(mistake.value)


def test_names_of_other_cells_are_no_parameters():
    """A mistyped name that is mended is forgotten, and what else a session sets does not count."""
    names = after(CELL.format(epochs=3) + "\nepoch = 3", "note = 'mine'", CELL.format(epochs=5))
    assert ImageStudy.from_notebook(names).parameters.epochs == 5


def test_a_preset_s_values_for_a_notebook_s_names():
    for kind, study, model in (("image", ImageStudy, None), ("cell", CellStudy, None),
                               ("coherency", ImageStudy, CoherencyParameters),
                               ("cloud", CloudStudy, None)):  # fmt: skip
        for name in ("smoke", "demo", "study", "paper"):
            names = after(CELL.format(epochs=3)) | preset(kind, name)
            found = study.from_notebook(names, model).parameters
            assert found == resolve(type(found), {"preset": name})
    with pytest.raises(KpnbError, match="no presets of 'images': did you mean image"):
        preset("images", "demo")
    with pytest.raises(KpnbError, match="preset is 'papers'"):
        preset("image", "papers")


def test_the_study_shows_what_differs_from_the_preset_s_file():
    study = ImageStudy.from_notebook({"preset": "study", "seeds": [0, 1, 2], "samples": 60})
    table = study.parameters_table()
    other = table["instead of the study preset's"]
    assert dict(other[other != ""]) == {"layers": "['Conv', 'FC1', 'FC2']"}
    assert table.loc["layers", "value"] == "['FC1']"
    assert set(table.index) == set(type(study.parameters).model_fields)


# --- tables and figures


LABELS = {1: ["N_fg", "N_bg", "lambda"], 3: ["rho"]}
LABELS[2] = ["D_mean per step", "D_var per step", "D_mean per epoch", "D_var per epoch"]


@pytest.fixture
def findings_of(tmp_path):
    def make(*evidence, hypothesis=1, **changed) -> Findings:
        findings = Findings(smoke_study(tmp_path, **changed), f"image_h{hypothesis}", hypothesis)
        for found in evidence:
            findings.add(found)
        return findings

    return make


@pytest.mark.parametrize("hypothesis", [1, 2, 3])
def test_comparisons_keep_the_order_of_layers_and_metrics(findings_of, hypothesis):
    evidence = [made_evidence(layer=layer) for layer in ("FC2", "Conv")]
    table = findings_of(*evidence, hypothesis=hypothesis).comparison_table()
    filtered = [label for label in LABELS[hypothesis] if "epoch" not in label]
    expected = [
        (layer, label, samples)
        for layer in ("FC2", "Conv")
        for label in LABELS[hypothesis]
        for samples in ("all samples", "published filter")
        if samples == "all samples" or label in filtered
    ]
    assert list(table.index) == expected
    assert table.index.names == ["layer", "metric", "samples"]


def test_comparisons_show_what_was_found(findings_of):
    row = findings_of(made_evidence()).comparison_table().loc["FC1", "N_fg", "all samples"]
    assert row.to_dict() == {
        "predicted": "up",
        "student - baseline": "3 [3, 3]",
        "n samples": 8,
        "n seeds": 1,
        "verdict": "reproduced",
    }


@pytest.mark.parametrize("hypothesis", [1, 2, 3])
def test_measures_by_layer_and_metric(findings_of, hypothesis):
    evidence = [made_evidence(layer=layer) for layer in ("FC2", "Conv")]
    findings = findings_of(*evidence, hypothesis=hypothesis)
    table = findings.measure_table()
    assert list(table.index) == [(la, m) for la in ("FC2", "Conv") for m in LABELS[hypothesis]]
    roles = ["teacher", "student", "baseline"] if hypothesis == 1 else ["student", "baseline"]
    assert list(table.columns) == roles
    filtered = findings.measure_table("published_filter")
    assert len(filtered) == len([la for la in LABELS[hypothesis] if "epoch" not in la]) * 2


def test_measures_show_mean_and_interval(findings_of):
    table = findings_of(made_evidence()).measure_table()
    assert table.loc[("FC1", "N_fg"), "student"] == "6 [6, 6]"
    assert table.loc[("FC1", "lambda"), "baseline"] == "0.6 [0.6, 0.6]"
    speed = findings_of(made_evidence(), hypothesis=2).measure_table()
    assert speed.loc[("FC1", "D_mean per epoch"), "student"] == "0.05 [0.05, 0.05]"


def test_only_the_threshold_in_use_is_shown(findings_of):
    findings = findings_of(made_evidence(), threshold=0.3)
    assert len(findings.measure_table()) == 3 and len(findings.comparison_table()) == 6


def test_a_filter_that_keeps_too_few_leaves_an_empty_table(findings_of):
    findings = findings_of(made_evidence(samples=2))
    assert len(findings.measure_table("published_filter")) == 0
    assert set(findings.comparison_table().index.get_level_values("samples")) == {"all samples"}


def test_choices_side_by_side():
    options = [Choices(b, per, start) for b in (0.2, 0.25) for per in ("step", "epoch")
               for start in (False, True)]  # fmt: skip
    table = choices_table(made_evidence(), ["d_mean", "d_var"], options)
    assert len(table) == 16
    assert table.index.names == ["metric", "b", "distance per", "untrained network"]
    assert table.loc["D_mean", 0.2, "epoch", "left out"].to_dict() == {
        "student": "0.05 [0.05, 0.05]",
        "baseline": "0.075 [0.0563, 0.0938]",
        "student - baseline": "-0.025 [-0.0437, -0.00625]",
        "verdict": "reproduced",
    }
    expected = [("D_mean", 0.2, "step", "left out"), ("D_var", 0.2, "step", "left out")]
    assert list(table.index[:2]) == expected


def test_the_untrained_network_can_change_the_choice(smoke):
    start = Choices(untrained=True)
    table = choices_table(smoke.evidence, ["rho"], [Choices(), start])
    assert list(table.index.get_level_values("untrained network")) == ["left out", "included"]


def test_accuracies(smoke):
    findings = Findings(smoke.study, "image_h1", 1)
    findings.add_accuracies(["FC1"])
    table = findings.accuracy_table()
    networks = ["teacher", "baseline", "student (FC1)"]
    splits = ("training", "unseen")
    assert list(table.index) == [(n, split, "accuracy") for n in networks for split in splits]
    assert table.index.names == ["network", "samples", "score"]
    value = smoke.study.of("S", 0, "FC1").accuracy["test"]
    assert table.loc[("student (FC1)", "unseen", "accuracy"), "value"] == f"{value:.1%}"
    assert list(table["n samples"]) == [120, 2000] * 3


def test_schedules(smoke):
    table = schedule_table(smoke.study)
    assert list(table.index) == ["student", "baseline"]
    assert table.loc["student", "lr"] == smoke.study.schedule("S", 0).lr
    assert table.loc["baseline", "epochs"] == 2
    assert not isinstance(table, pd.Series) and not table.isna().any().any()


@pytest.fixture(scope="module")
def real(smoke) -> Findings:
    findings = Findings(smoke.study, "image_h1")
    findings.measure()
    return findings


CALLS = {
    "image": ["samples", "layers", "definition", "role_points", "figure", "thresholds", "learning",
              "speeds", "stability"],
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS["image"])
def test_a_figure_is_a_call(real, call):
    assert isinstance(getattr(real, call)(), Figure)


def test_figures_of_the_epochs(real):
    whole, few = real.fates("S"), real.fates("B", panels=2)
    assert len(whole.axes) > len(few.axes)
    assert real.example == int(real.points("S").n_fg.argmax())


def test_sentences_are_prose_and_notes_are_kept_once(real):
    before = list(real.notes)
    told = real.never_learned()
    assert real.never_learned() == told and real.notes == [*before, told]
    assert isinstance(told, Prose) and told._repr_markdown_() == told
    assert all(f"Hypothesis {n}" in real.reading() for n in (1, 2, 3))
    assert "Hypothesis 1" not in real.reading(2)


def test_accuracies_are_measured_once(smoke, capsys):
    findings = Findings(smoke.study, "image_h1", 1)
    table = findings.accuracies()
    assert findings.accuracies().equals(table) and len(findings.measures) == 6


def test_nothing_to_show_before_anything_is_measured(smoke):
    with pytest.raises(KpnbError, match="call findings.measure"):
        Findings(smoke.study, "image_h1", 1).learning()

"""One look: roles told apart without color, one legend, one row of panels."""

import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_notebook, new_output

from kpnb.figures.style import ROLES, WIDTH, as_array, legend_below, new_figure, row_of_panels
from kpnb.run.notebook import clean


def test_no_role_is_told_by_its_color_alone():
    for name in ("name", "color", "marker"):
        assert len({getattr(style, name) for style in ROLES.values()}) == len(ROLES)
    assert len({ROLES[role].line for role in "TSB"}) == 3
    assert [ROLES[role].name for role in "TSB"] == ["teacher", "student", "baseline"]


def test_arrays_of_all_kinds():
    values = torch.ones(2, requires_grad=True)
    assert as_array(values).tolist() == as_array([1.0, 1.0]).tolist() == [1.0, 1.0]


def test_a_label_stands_in_the_legend_once():
    figure, axes = new_figure(1, 2, (6, 3))
    assert legend_below(figure, axes.flat) == 0 and not figure.legends
    for ax in axes.flat:
        ax.plot([0, 1], label="student")
    axes[0, 0].plot([0, 1], label="baseline")
    assert legend_below(figure, axes.flat, columns=1) == 2
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["student", "baseline"]


def test_panels_in_rows_are_titled_and_labelled():
    parts = {"Conv": [1, 2], "FC1": [3, 4], "FC2": [5, 6]}
    figure = row_of_panels(
        parts, lambda ax, part: ax.plot(part), "epoch", "points", (4.2, 3.6), most=2
    )
    assert [ax.get_title() for ax in figure.axes] == [*parts, ""]
    assert [ax.get_visible() for ax in figure.axes] == [True] * 3 + [False]
    assert {ax.get_xlabel() for ax in figure.axes[:3]} == {"epoch"}
    assert [ax.lines[0].get_ydata().tolist() for ax in figure.axes[:3]] == [*parts.values()]
    assert figure.get_figwidth() <= WIDTH and figure.get_figheight() == 7.2


def test_a_notebook_gets_a_text_for_who_cannot_see_the_figure():
    parts = {r"$N_{\mathrm{fg}}$ = 3": [1, 2], "FC1": [3, 4]}
    figure = row_of_panels(
        parts, lambda ax, part: ax.plot(part, label="student"), "epoch", "a\nb", (4, 3), most=3
    )
    figure.supxlabel("all seeds")
    shown = DisplayFormatter()
    shown.formatters["image/png"].for_type(Figure, lambda figure: "PNG")  # as a notebook does
    data, metadata = shown.format(figure)
    text = "Panels: N_fg = 3; FC1. Axes: a b against epoch. Marks: student. all seeds"
    assert data["image/png"] == "PNG" and metadata == {"image/png": {"alt": text}}
    cell = new_code_cell("", outputs=[new_output("display_data", data, metadata=metadata)])
    clean(new_notebook(cells=[cell]))  # to where the book's builder looks for it
    assert cell.metadata["mystnb"] == {"image": {"alt": text}}

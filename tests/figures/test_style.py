"""One look: roles told apart without color, one legend, one row of panels."""

import numpy as np
import torch
from IPython.core.formatters import DisplayFormatter
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from nbformat.v4 import new_code_cell, new_notebook, new_output

from kpnb.figures.panel import FATES, POINTS
from kpnb.figures.style import ROLES, WIDTH, as_array, legend_below, new_figure, row_of_panels
from kpnb.run.notebook import clean


def test_nothing_is_told_by_color_alone_and_a_label_stands_in_the_legend_once():
    for styles in (ROLES.values(), POINTS.values(), FATES):
        for part in ("name", "color", "marker"):
            assert len({getattr(style, part) for style in styles}) == len(styles)
    assert len({ROLES[role].line for role in "TSB"}) == 3
    grays = [np.dot([0.2126, 0.7152, 0.0722], to_rgb(s.color)) for s in POINTS.values()]
    assert abs(grays[0] - grays[1]) > 0.2
    figure, axes = new_figure(1, 2, (6, 3))
    assert legend_below(figure, axes.flat) == 0 and not figure.legends
    for ax, label in zip(axes[0, [0, 1, 0]], ("student", "student", "baseline"), strict=True):
        ax.plot(as_array(torch.ones(2, requires_grad=True)), label=label)
    assert legend_below(figure, axes.flat, columns=1) == 2
    told = [text.get_text() for text in figure.legends[0].get_texts()]
    assert told == ["student", "baseline"]


def test_panels_are_titled_labelled_and_told_to_who_cannot_see_them():
    parts = {r"$N_{\mathrm{fg}}$ = 3": [1, 2], "FC1": [3, 4], "FC2": [5, 6]}
    figure = row_of_panels(
        parts, lambda ax, part: ax.plot(part, label="student"), "epoch", "a\nb", (4.2, 3.6), most=2
    )
    assert [ax.get_title() for ax in figure.axes] == [*parts, ""]
    assert [ax.get_visible() for ax in figure.axes] == [True] * 3 + [False]
    assert [ax.lines[0].get_ydata().tolist() for ax in figure.axes[:3]] == [*parts.values()]
    assert figure.get_figwidth() <= WIDTH and figure.get_figheight() == 7.2
    figure.supxlabel("all seeds")
    shown = DisplayFormatter()
    shown.formatters["image/png"].for_type(Figure, lambda figure: "PNG")  # as a notebook does
    data, metadata = shown.format(figure)
    text = "Panels: N_fg = 3; FC1; FC2. Axes: a b against epoch. Marks: student. all seeds"
    assert data["image/png"] == "PNG" and metadata == {"image/png": {"alt": text}}
    cell = new_code_cell("", outputs=[new_output("display_data", data, metadata=metadata)])
    clean(new_notebook(cells=[cell]))  # to where the book's builder looks for it
    assert cell.metadata["mystnb"] == {"image": {"alt": text}}

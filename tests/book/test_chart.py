"""Charts: what is drawn of marks, where, in which look, and what is told instead."""

import math
import re
from xml.etree import ElementTree

import pytest

from book.make.chart import FORMS, LOOKS, THEMES, Axis, Chart, Line, Mark, Panel, chart_fragments

PANEL = Panel("n", "N_fg", ("about",), "%", "up", (-10.0, 10.0))
CHART = Chart(
    "What it shows.",
    [PANEL, Panel("r", "rho", side="down")],
    [
        Line(("Images",), notes={"n": "5 of 6"}, heading=True),
        Line(("VGG-11, FC1", "3 seeds"), {"n": [Mark("paper", 99.0), Mark("supported", 20, 12, 28)],
                                          "r": [Mark("opposed", -0.5, -0.75, -0.25)]}),
        Line(("VGG-16, FC1", "not measurable"), {"n": [Mark("not measurable", 44.0)]}),
    ],
)  # fmt: skip


def drawn(chart=CHART, form="wide", theme="light"):
    return ElementTree.fromstring(chart.draw(FORMS[form], theme))


def marks(chart=CHART, form="wide"):
    """The class of each mark and how many shapes it is drawn with, the legend's at the end."""
    found = drawn(chart, form).iter("{http://www.w3.org/2000/svg}g")
    return [(g.get("class").removeprefix("mark "), len(g)) for g in found
            if (g.get("class") or "").startswith("mark ")]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_mark_is_drawn_once_in_its_look_and_once_in_the_legend(form):
    found = marks(form=form)
    legend = len({mark.look for panel in CHART.panels for mark in CHART.marks(panel)})
    assert found[:-legend] == [("paper", 1), ("supported", 2), ("not-measurable", 1),
                               ("opposed", 2)]  # fmt: skip
    assert sorted(found[-legend:]) == sorted(found[:-legend])
    texts = " ".join("".join(text.itertext()) for text in drawn(form=form).iter() if text.text)
    for told in ("VGG-16, FC1", "not measurable", "5 of 6", "supported", "opposed"):
        assert told in texts


def test_no_two_looks_are_told_by_colour_alone():
    """Of a verdict: shape, size or whether it is filled and has an interval."""
    ends = {"one seed": (), "not measurable": ()}
    shown = {}
    for look in ("supported", "opposed", "equivalent", "undecided", "one seed"):
        chart = Chart("", [PANEL], [Line(("a",), {"n": [Mark(look, 1, *ends.get(look, (0, 2)))]})])
        svg = chart.draw(FORMS["wide"], "light")
        group = re.search(rf'<g class="mark {look.replace(" ", "-")}".*?</g>', svg, re.DOTALL)[0]
        filled = f".{look} .dot" in svg
        shown[look] = (filled, *re.findall(r'(?:d|r)="(\S+?)"', group.split("H", 1)[-1]))
    assert len(set(shown.values())) == len(shown)


def test_the_alternative_text_has_every_number_of_ours_and_no_value_of_what_is_not_measurable():
    told = CHART.alternative
    assert told.startswith("What it shows. Images: N_fg 5 of 6. VGG-11, FC1, 3 seeds: N_fg +20.0 [")
    assert "[+12.0, +28.0], supported" in told and "rho −0.50 [−0.75, −0.25], opposed" in told
    assert "VGG-16, FC1, not measurable." in told and "44" not in told and "99" not in told


def test_an_axis_holds_zero_the_lines_and_all_intervals_and_no_wild_value():
    axis = PANEL.axis([Mark("supported", 20, 12, 28), Mark("paper", 5.0), Mark("paper", 1e4)], 100)
    assert axis.low < -10 and 28 < axis.high < 100
    assert [axis.beyond(value) for value in (1e4, 5.0, -1e4)] == [1, 0, -1]
    unfit = Mark("not measurable", 60.0)
    assert PANEL.axis([Mark("supported", 20, 12, 28), Mark("paper", 60.0)], 100).beyond(60) == 0
    assert PANEL.axis([Mark("supported", 20, 12, 28), unfit], 100).beyond(60) == 1
    assert PANEL.axis([unfit], 100).beyond(60) == 0
    assert axis.at(1e4) == 100 and axis.at(-1e4) == 0 and axis.at(0) < axis.at(5)
    ticks = Axis(-0.05, 0.15, 90).ticks
    assert list(ticks) == sorted(ticks) and 0 in ticks and "−" not in "".join(ticks.values())
    assert Panel("n", "n").axis([], 10).at(0) == 5  # without anything
    assert math.isfinite(Panel("n", "n", side="up").axis([Mark("paper", -3.0)], 10).high)


def test_a_page_shows_one_of_four_drawings_with_its_alternative_text():
    made = chart_fragments("name", CHART, "The caption.")
    files = {f"name_{form}_{theme}.svg" for form in FORMS for theme in THEMES}
    assert made.keys() == {"name", *files} and made["name"].endswith("The caption.")
    for file in files:
        assert f"```{{image}} _generated/{file}" in made["name"]
    assert made["name"].count(':alt: "What it shows. Images') == 4
    assert made["name"].count("only-dark only-narrow") == 1
    colours = [set(re.findall(r"#[0-9a-f]{6}", made[f"name_wide_{theme}.svg"])) for theme in THEMES]
    assert not colours[0] & colours[1]
    assert set(LOOKS) >= {"supported", "paper", "here", "teacher"}


def test_panels_have_edges_and_the_legend_an_arrow_only_where_something_lies_beyond():
    usual = Line(("a",), {"n": [Mark("supported", 20, 12, 28)]})
    outside = Line(("b",), {"n": [Mark("paper", 9.0), Mark("not measurable", 1e5)]})
    texts = [Chart("t", [PANEL], lines).draw(FORMS["wide"], "light")
             for lines in ([usual], [usual, outside])]  # fmt: skip
    assert ["beyond the axis" in text for text in texts] == [False, True]
    assert [text.count('class="beyond"') for text in texts] == [0, 2]  # the mark and the legend's
    assert all(re.search(r'<path class="grid" d="M\.5 \d+v\d+M\d', text) for text in texts)

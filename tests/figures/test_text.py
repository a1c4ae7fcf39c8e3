"""Texts shown as colored words: what a reader, a screen reader and a terminal get to see."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex, to_rgb
from refusals import refuses
from shown_samples import WORDS, maps_of

from kpnb.datasets.texts.word_pieces import TextSample, joined_words, word_spans, words
from kpnb.figures import paper
from kpnb.figures.panel import ENTROPY_LIMITS, FATES, POINTS, entropy_colors
from kpnb.figures.style import ROLES
from kpnb.figures.text import text_color
from kpnb.metrics.points import KnowledgePoints, knowledge_points

NAN = float("nan")
FILM = TextSample(WORDS, (False, True, True, False, False), note="rated −2.4")
ENTROPY = torch.tensor([-2.5, -3.0, -3.5, NAN, -2.7])
MASK = torch.tensor([FILM.foreground])


class Seen(HTMLParser):
    """Text of a page with its style: (text, the styles and the tags of all that it is in)."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.found = [], []
        self.feed(page)
        self.close()
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        assert tag in ("div", "span", "b", "i", "sub", "small")
        assert dict(attrs).keys() <= {"style", "dir"}
        self.open.append((tag, dict(attrs).get("style", "")))

    def handle_endtag(self, tag):
        assert self.open.pop()[0] == tag

    def handle_data(self, text):
        self.found.append((text, [style for _, style in self.open], [tag for tag, _ in self.open]))

    def styles(self, text):
        """All styles around each piece that is exactly `text`."""
        return [";".join(styles) for found, styles, _ in self.found if found.strip() == text]

    def copied(self):
        """What a reader who selects all of it copies."""
        kept = [t for t, styles, _ in self.found if "user-select:none" not in ";".join(styles)]
        return " ".join("".join(kept).split())


def points_of(*held, units=5, foreground=(1, 2), background=()):
    """KnowledgePoints of one text per tuple of held foreground units, without any arithmetic."""
    inside, outside, mask = (torch.zeros((len(held), units), dtype=torch.bool) for _ in range(3))
    mask[:, list(foreground)] = outside[:, list(background)] = True
    for row, chosen in enumerate(held):
        inside[row, list(chosen)] = True
    level, known = torch.full((len(held),), -2.6), torch.ones(len(held), dtype=torch.bool)
    return KnowledgePoints(inside, outside, mask, level, known, torch.full(mask.shape, -3.0), 0.2)


def of_entropies(entropy, sample=FILM):
    return paper.layers_figure([sample], {"layer": maps_of(torch.as_tensor(entropy)[None])})


def displays(points, sample=FILM):
    """Every display of a text's points."""
    return {
        "definition": lambda: paper.definition_figure([sample], maps_of(points.entropy), points, 0),
        "roles": lambda: paper.role_points_figure([sample], {"T": points, "S": points}, [0]),
        "fates": lambda: paper.fates_figure([sample], {"<b>": {0: points, 4: points}}, 0),
    }


EVERY = displays(knowledge_points(ENTROPY[None], MASK, 0.2)) | {
    "sample": lambda: paper.samples_figure([FILM]),
    "layers": lambda: of_entropies(ENTROPY),
}


def contrast(one, other):
    """WCAG 2.2, written out again."""
    colors = np.array([to_rgb(one), to_rgb(other)])
    light = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    low, high = sorted(light @ (0.2126, 0.7152, 0.0722) + 0.05)
    return high / low


def code(value):
    low, high = ENTROPY_LIMITS
    return to_hex(entropy_colors()((np.float64(value) - low) / (high - low)))


@pytest.mark.parametrize("name", EVERY)
def test_a_display_stands_alone_in_html_and_in_plain_text(name):
    shown = EVERY[name]()
    seen, text = Seen(shown._repr_html_()), repr(shown)
    assert "url(" not in shown.html and "://" not in shown.html
    assert "*very*" in text and "*bad*" in text and "film" in text
    assert "</" not in text and "&" not in text and "style" not in text
    assert re.search(r"a very bad film ?\.", seen.copied())  # numbers and signs are left behind
    assert not set(seen.copied()) & {"●", "✕"}
    styles = {style for _, around, _ in seen.found for style in around}
    boxes = {style for style in styles if "background:" in style}
    assert boxes or name == "sample"
    for style in boxes:
        back = re.search(r"background:(#\w+)", style)[1]
        assert contrast(back, re.search(r"(?:^|;)color:(#\w+)", style)[1]) >= 4.5
    assert not any(re.search(r"(?:^|;)color:", style) for style in styles - boxes)


def test_markup_right_to_left_and_combining_signs_are_text():
    evil = ("<script>alert(1)</script>", '"', "'", "&amp;", "</div>")
    parts = (('"><img src=x>', 0),)
    sample = TextSample(evil, (True, True, False, False, False), parts, note="<i>note")
    maps = {"<b>layer": maps_of(torch.full((1, 5), -3.0))}
    shown = [show() for show in displays(points_of((0, 1), foreground=(0, 1)), sample).values()]
    for display in (*shown, paper.samples_figure([sample]), paper.layers_figure([sample], maps)):
        text = "".join(text for text, *_ in Seen(display.html).found)
        assert all(word in text for word in evil)
    units = ("נִפְלָא", "e\u0301te\u0301", "فيلم", "👩‍👩‍👧")
    sample = TextSample(units, (True, False, False, False), (("text", 0),))
    shown = of_entropies([-3.0] * 4, sample)
    assert Seen(shown.html).copied().startswith("layertext: " + " ".join(units))
    # The words decide the direction: all else in their line is marked as left to right.
    line = shown.html[shown.html.index('<div dir="auto">') :].split("</div>")[0]
    rest = re.sub(r'<(\w+) dir="ltr".*?</\1>', "", line)
    assert "−" not in rest and "text:" not in rest


def test_words_have_their_value_and_the_color_of_the_image_maps():
    shown = of_entropies(ENTROPY)
    seen = Seen(shown.html)
    for unit, value in ((0, -2.5), (1, -3.0), (2, -3.5), (4, -2.7)):
        (style,) = [s for s in seen.styles(FILM.units[unit]) if "background" in s]
        assert f"background:{code(value)}" in style
        assert seen.styles(f"−{-value:.2f}")
    assert "bad*(−3.50)" in repr(shown)
    bold = [(t, s) for t, s, tags in seen.found if "b" in tags]
    assert [text for text, _ in bold] == ["very", "bad", "word"]  # the foreground, and the legend
    assert all("underline" in ";".join(styles) for _, styles in bold)
    # A word without entropy is plain, and said to be.
    assert "background" not in seen.styles("film")[0] and "nan" not in shown.html.lower()
    assert "take no part" in repr(shown)
    assert repr(of_entropies(torch.full((5,), NAN))).startswith("[layer]\n  a *very* *bad* film .")
    # The legend: units, ends, and what is outside.
    assert all("[nats]" in text and "outside" not in text for text in (shown.html, repr(shown)))
    assert seen.styles("−4.50") and seen.styles("−2.30")
    outside = of_entropies(torch.tensor([-5.25, -3.0, -3.0, -1.5, -2.3]))
    for text in (outside.html, " ".join(repr(outside).split())):
        assert "outside the scale, in the color of its end: 2 (−5.25 to −1.50)" in text
    for word, end in (("a", -4.5), ("film", -2.3)):
        assert f"background:{code(end)}" in Seen(outside.html).styles(word)[0]
    scale = [*map(code, np.linspace(*ENTROPY_LIMITS, 301)), "#ffffff", "#000000"]
    assert min(contrast(color, text_color(color)) for color in scale) >= 4.5


def test_definition_marks_what_exceeds_b():
    points = knowledge_points(ENTROPY[None], MASK, 0.5)
    shown = paper.definition_figure([FILM], maps_of(points.entropy), points, 0)
    # Background mean: (-2.5 - 2.7) / 2 = -2.6; distances -0.1, 0.4, 0.9, none, 0.1; b = 0.5.
    text = "a(−2.50; −0.10; no) *very*(−3.00; 0.40; no) *bad*(−3.50; 0.90; ●) film .(−2.70;"
    assert text in " ".join(repr(shown).split())
    seen = Seen(shown.html)
    assert len(seen.styles("●")) == 2 and len(seen.styles("no")) == 3  # one ● in the legend
    assert "1.5px solid #000" in seen.styles("0.90")[0]
    assert "N_fg = 1, N_bg = 0" in repr(shown) and "b = 0.5 nats" in repr(shown)
    assert "<i>N</i><sub>fg</sub> = 1, <i>N</i><sub>bg</sub> = 0" in shown.html
    assert "−2.60" in shown.html and "[nats]" in shown.html


def test_role_lines_count_and_mark_the_points():
    samples = [TextSample(("x",) * 5, FILM.foreground), FILM]
    by_role = {"T": points_of((), (1, 2), background=(0,)), "B": points_of((1,), ())}
    by_role |= {"S": points_of((), (2,), background=(3, 4))}
    shown = paper.role_points_figure(samples, {role: by_role[role] for role in "TSB"}, [1])
    assert repr(shown).split("\n") == [
        "rated −2.4",
        "[teacher: N_fg = 2, N_bg = 1]",
        "  ✕a ●*very* ●*bad* film.",
        "[student: N_fg = 1, N_bg = 2]",
        "  a *very* ●*bad* ✕film✕.",
        "[baseline: N_fg = 0, N_bg = 0]",
        "  a *very* *bad* film.",
        "●foreground point\u2003✕background point\u2003*word* foreground",
    ]
    seen = Seen(shown.html)
    assert all(f"border-left:5px solid {ROLES[role].color}" in shown.html for role in "TSB")
    for word, kind, frame in (("very", "foreground", "solid"), ("a", "background", "dashed")):
        style = f"background:{POINTS[kind].color};color:#000;border:1.5px {frame} #000"
        assert style in seen.styles(word)[0]
    fates = paper.fates_figure([FILM], {"S": {0: points_of((1,)), 1: points_of((2,))}}, 0)
    seen = Seen(fates.html)  # told apart without their colors, too
    assert all(fate.name in repr(fates) and fate.color in fates.html for fate in FATES)
    assert len({re.search(r"1\.5px (\w+)", seen.styles(f.name)[0])[1] for f in FATES}) == 3


def test_parts_begin_labelled_lines_and_running_text_has_the_spaces_of_the_text():
    parts = (("question", 0), ("context", 2))
    sample = TextSample(("Who", "?", "Ada", "."), (False, False, True, False), parts, "answer: Ada")
    shown = paper.samples_figure([sample])
    head = "[answer: Ada]\n  question: Who?\n  context: *Ada*.\n"
    assert repr(shown).startswith(head) and shown.html.count('<div dir="auto">') == 2
    head = "[layer]\n  question: Who(−3.00) ?(−3.00)\n  context: *Ada*(−3.00) .(−3.00)\n"
    assert repr(of_entropies([-3.0] * 4, sample)).startswith(head)
    text = "A well-made (if long) film: A.C. at 1.5 %!"
    joined, unknown = joined_words(word_spans(text)), ("so", "(", "very", ")", "bad", "!")
    known = TextSample(tuple(words(text)), (False,) * len(joined), joined=joined)
    for sample, told in ((known, text), (TextSample(unknown, (False,) * 6), "so (very) bad!")):
        assert repr(paper.samples_figure([sample])).split("\n")[0].strip() == told
    # Padding changes nothing.
    wide = torch.cat([ENTROPY, torch.full((3,), NAN)])
    assert of_entropies(wide) == of_entropies(ENTROPY)
    padded = knowledge_points(wide[None], torch.nn.functional.pad(MASK, (0, 3)), 0.2)
    assert all(show() == EVERY[name]() for name, show in displays(padded).items())


def test_values_of_another_text_and_texts_that_make_no_sense_are_told():
    beyond = points_of((1, 5), units=6)  # a point beyond the words
    beyond.entropy[0, 5] = NAN
    for points, message in (
        (points_of((1,), units=4), "does not fit a text of 5 words"),
        (points_of((1,), units=6), "does not fit a text of 5 words"),
        (beyond, "another text"),
        (points_of((1,), foreground=(1, 3)), "another text"),
    ):
        for show in displays(points).values():
            refuses(show, message)
    parts = (), (("", 1),), (("", 0), ("", 3)), (("", 0), ("", 2), ("", 1)), (("", 0), ("", 0))
    wrong = [dict(units=(), foreground=()), dict(units=("a",)), dict(foreground=(True,) * 2)]
    wrong += [dict(joined=(False, False)), *(dict(parts=some) for some in parts)]
    for more in wrong:
        given = {"units": ("a", "b", "c"), "foreground": (True,) * 3} | more
        refuses(TextSample, "units", **given)

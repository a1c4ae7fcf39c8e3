"""Texts shown as colored words: what a reader, a screen reader and a terminal get to see."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shown_samples import maps_of

from kpnb.datasets.texts.words import TextSample, joined_words, word_spans, words
from kpnb.errors import KpnbError
from kpnb.figures.panel import ENTROPY_LIMITS, FATES, POINTS, entropy_colors
from kpnb.figures.paper import (
    definition_figure,
    fates_figure,
    layers_figure,
    role_points_figure,
    samples_figure,
)
from kpnb.figures.style import ROLES
from kpnb.figures.text import SIGNS, Html, text_color
from kpnb.metrics.points import KnowledgePoints, knowledge_points

NAN = float("nan")
FILM = TextSample(
    ("a", "very", "bad", "film", "."), (False, True, True, False, False), note="rated −2.4"
)
ENTROPY = torch.tensor([-2.5, -3.0, -3.5, NAN, -2.7])
COUNT = re.compile(r"<i>N</i><sub>(fg|bg)</sub> = (\d+)")


class Seen(HTMLParser):
    """Text of a page with its style: (text, the styles of all elements that it is in)."""

    VOID = ("br", "img", "hr")

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open, self.found, self.tags, self.attributes = [], [], set(), set()
        self.feed(page)
        self.close()
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        assert tag not in self.VOID
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
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
        kept = (
            t for t, styles, _ in self.found if not any("user-select:none" in s for s in styles)
        )
        return " ".join("".join(kept).split())


def points_of(*held, units=5, foreground=(1, 2), background=(), entropy=-3.0):
    """KnowledgePoints of one text per tuple of held foreground units, without any arithmetic."""
    shape = (len(held), units)
    inside, outside, mask = (torch.zeros(shape, dtype=torch.bool) for _ in range(3))
    mask[:, list(foreground)] = True
    for row, chosen in enumerate(held):
        inside[row, list(chosen)] = True
        outside[row, list(background)] = True
    level, known = torch.full((len(held),), -2.6), torch.ones(len(held), dtype=torch.bool)
    values = torch.full(shape, entropy)
    return KnowledgePoints(inside, outside, mask, level, known, values, 0.2)


def of_entropies(entropy, sample=FILM):
    """Words in the colors of these entropies."""
    return layers_figure([sample], {"layer": maps_of(torch.as_tensor(entropy)[None])})


def defined(points, index=0, samples=None):
    """Figure 3 of a text, with maps of the very entropies of the points."""
    return definition_figure(samples or [FILM] * 9, maps_of(points.entropy), points, index)


def every_display():
    points = knowledge_points(ENTROPY[None], torch.tensor([FILM.foreground]), 0.2)
    return {
        "sample": samples_figure([FILM]),
        "layers": of_entropies(ENTROPY),
        "definition": defined(points),
        "roles": role_points_figure([FILM], {"T": points, "S": points}, [0]),
        "fates": fates_figure([FILM], {"S": {0: points, 4: points}}, 0),
    }


def luminance(color):
    """WCAG 2.2, written out again."""
    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return float(np.dot((0.2126, 0.7152, 0.0722), light))


def rgb(color):
    digits = color.lstrip("#")
    digits = "".join(2 * d for d in digits) if len(digits) == 3 else digits
    return [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]


def contrast(one, other):
    low, high = sorted((luminance(rgb(one)), luminance(rgb(other))))
    return (high + 0.05) / (low + 0.05)


# Every display


@pytest.mark.parametrize("name", every_display())
def test_html_stands_alone_and_is_well_formed(name):
    shown = every_display()[name]
    seen = Seen(shown._repr_html_())
    assert seen.tags <= {"div", "span", "b", "i", "sub", "small"}
    assert seen.attributes <= {"style", "dir"}
    assert "url(" not in shown.html and "://" not in shown.html


@pytest.mark.parametrize("name", every_display())
def test_a_box_sets_both_colors_and_they_contrast(name):
    styles = {style for _, around, _ in Seen(every_display()[name].html).found for style in around}
    boxes = [style for style in styles if "background:" in style]
    assert boxes or name == "sample"
    for style in boxes:
        back = re.search(r"background:(#\w+)", style)[1]
        assert contrast(back, re.search(r"(?:^|;)color:(#\w+)", style)[1]) >= 4.5
    assert all("color:" in style or "background:" not in style for style in styles)
    plain = [s for s in styles if "background:" not in s]
    assert not any(re.search(r"(?:^|;)color:", style) for style in plain), "the page's own color"


@pytest.mark.parametrize("name", every_display())
def test_plain_text_has_the_words_and_no_markup(name):
    text = repr(every_display()[name])
    assert "*very*" in text and "*bad*" in text and "film" in text
    assert "<" not in text and "&" not in text and "style" not in text


@pytest.mark.parametrize("name", every_display())
def test_copying_leaves_numbers_and_signs_behind(name):
    copied = Seen(every_display()[name].html).copied()
    assert re.search(r"a very bad film ?\.", copied), copied
    assert not set(copied) & {"●", "✕"}


@settings(deadline=None)  # on a busy machine the time of one word varies
@given(st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"]), min_size=1))
def test_any_word_passes_through_unchanged(word):
    sample = TextSample((word, "x"), (True, False))
    for shown in (of_entropies([-3.0, -2.5], sample), samples_figure([sample])):
        assert word in [text for text, _, tags in Seen(shown.html).found if "b" in tags]
        assert f"*{word}*" in repr(shown)


def test_markup_in_a_text_is_text():
    evil = ("<script>alert(1)</script>", '"', "'", "&amp;", "</div>")
    label = '"><img src=x>'
    sample = TextSample(evil, (True, True, False, False, False), ((label, 0),), note="<i>note")
    points = points_of((0, 1), foreground=(0, 1))
    displays = [
        samples_figure([sample]),
        layers_figure([sample], {"<b>layer": maps_of(torch.full((1, 5), -3.0))}),
        defined(points, samples=[sample]),
        role_points_figure([sample], {"T": points}, [0]),
        fates_figure([sample], {"<b>": {1: points}, "T": {1: points}}, 0),
    ]
    for shown in displays:
        seen = Seen(shown.html)
        assert not seen.tags & {"script", "img"} and "src" not in seen.attributes
        assert all(word in "".join(text for text, *_ in seen.found) for word in evil)


def test_right_to_left_and_combining_signs():
    units = ("נִפְלָא", "e\u0301te\u0301", "فيلم", "👩‍👩‍👧")
    sample = TextSample(units, (True, False, False, False), (("text", 0),))
    shown = of_entropies([-3.0] * 4, sample)
    assert Seen(shown.html).copied().startswith("layertext: " + " ".join(units))
    # The words decide the direction: all else in their line is marked as left to right.
    line = shown.html[shown.html.index('<div dir="auto">') :].split("</div>")[0]
    assert re.sub(r'<(\w+) dir="ltr".*?</\1>', "", line).count("−") == 0
    assert "text:" not in re.sub(r'<(\w+) dir="ltr".*?</\1>', "", line)


# Entropy


def test_black_or_white_contrasts_with_the_whole_scale():
    colors = [entropy_colors()(value) for value in np.linspace(0, 1, 1001)]
    for *color, _ in colors:
        code = "#" + "".join(f"{round(255 * c):02x}" for c in color)
        assert contrast(code, text_color(code)) >= 4.5
    assert {text_color("#ffffff"), text_color("#000000")} == {"#000", "#fff"}


def test_words_have_their_value_and_the_color_of_the_image_maps():
    seen = Seen(of_entropies(ENTROPY).html)
    low, high = ENTROPY_LIMITS
    for unit, value in ((0, -2.5), (1, -3.0), (2, -3.5), (4, -2.7)):
        color = entropy_colors()((np.float64(value) - low) / (high - low))
        code = "#" + "".join(f"{round(255 * c):02x}" for c in color[:3])
        (style,) = [s for s in seen.styles(FILM.units[unit]) if "background" in s]
        assert f"background:{code}" in style
        assert seen.styles(f"−{-value:.2f}")
    assert "bad*(−3.50)" in repr(of_entropies(ENTROPY))


def test_a_word_without_entropy_is_plain_and_said_to_be():
    seen = Seen(of_entropies(ENTROPY).html)
    (style,) = seen.styles("film")
    assert "background" not in style
    assert "nan" not in of_entropies(ENTROPY).html.lower()
    assert "take no part" in repr(of_entropies(ENTROPY))
    assert "take no part" not in repr(of_entropies(torch.full((5,), -3.0)))
    assert repr(of_entropies(torch.full((5,), NAN))).startswith("[layer]\n  a *very* *bad* film .")


def test_foreground_is_bold_and_underlined():
    seen = Seen(of_entropies(ENTROPY).html)
    bold = [(t, s) for t, s, tags in seen.found if "b" in tags]
    assert [text for text, _ in bold] == ["very", "bad", "word"]  # and the legend
    assert all("underline" in ";".join(styles) for _, styles in bold)


def test_legend_has_units_ends_and_what_is_outside():
    inside = of_entropies(ENTROPY)
    assert "[nats]" in inside.html and "[nats]" in repr(inside)
    assert Seen(inside.html).styles("−4.50") and Seen(inside.html).styles("−2.30")
    assert "outside" not in repr(inside)
    outside = of_entropies(torch.tensor([-5.25, -3.0, -3.0, -1.5, -2.3]))
    for text in (outside.html, repr(outside)):
        assert "outside the scale, in the color of its end: 2 (−5.25 to −1.50)" in text
    seen = Seen(outside.html)
    ends = [seen.styles(number)[0] for number in ("−4.50", "−2.30")]
    for word, end in zip(("a", "film"), ends, strict=True):
        assert re.search(r"background:#\w+", seen.styles(word)[0])[0] in end


# Points


def test_definition_marks_what_exceeds_b():
    points = knowledge_points(ENTROPY[None], torch.tensor([FILM.foreground]), 0.5)
    shown = defined(points)
    # Background mean: (-2.5 - 2.7) / 2 = -2.6; distances -0.1, 0.4, 0.9, none, 0.1; b = 0.5.
    assert "a(−2.50; −0.10) *very*(−3.00; 0.40) ●*bad*(−3.50; 0.90) film .(−2.70; 0.10)" in repr(
        shown
    )
    seen = Seen(shown.html)
    assert len(seen.styles("●")) == 2 and len(seen.styles("no")) == 3  # one ● in the legend
    assert "1.5px solid #000" in seen.styles("0.90")[0]
    assert seen.styles("−2.50")[0].count("background") == 1
    assert "N_fg = 1, N_bg = 0" in repr(shown) and "b = 0.5 nats" in repr(shown)
    assert COUNT.findall(shown.html) == [("fg", "1"), ("bg", "0")]
    assert "−2.60" in shown.html and "[nats]" in shown.html


def test_role_lines_count_and_mark_the_points():
    samples = [TextSample(("x",) * 5, FILM.foreground), FILM]
    by_role = {
        "T": points_of((), (1, 2), background=(0,)),
        "S": points_of((), (2,), background=(3, 4)),
        "B": points_of((1,), (), background=()),
    }
    shown = role_points_figure(samples, by_role, [1])
    assert COUNT.findall(shown.html) == [
        (name, str(int(getattr(points, f"n_{name}")[1])))
        for points in by_role.values()
        for name in ("fg", "bg")
    ]
    lines = repr(shown).split("\n")
    assert lines == [
        "rated −2.4",
        "[teacher, N_fg = 2, N_bg = 1]",
        "  ✕a ●*very* ●*bad* film.",
        "[student, N_fg = 1, N_bg = 2]",
        "  a *very* ●*bad* ✕film✕.",
        "[baseline, N_fg = 0, N_bg = 0]",
        "  a *very* *bad* film.",
        "(●foreground point; ✕background point; *foreground*)",
    ]
    seen = Seen(shown.html)
    assert all(f"border-left:5px solid {ROLES[role].color}" in shown.html for role in "TSB")
    first = seen.styles("very")[0]
    assert f"background:{POINTS['foreground'].color}" in first and "solid #000" in first
    first = seen.styles("a")[0]
    assert f"background:{POINTS['background'].color}" in first and "dashed #000" in first


def test_point_sets_have_the_three_fates():
    held = {0: (1,), 1: (1, 2), 2: (2, 3), 3: (3,)}
    sample = TextSample(FILM.units, (False, True, True, True, False))
    sets = {epoch: points_of(units, foreground=(1, 2, 3)) for epoch, units in held.items()}
    shown = fates_figure([sample], {"S": sets}, 0)
    kept, dropped_later, dropped = (SIGNS[fate.marker] for fate in FATES)
    lines = repr(shown).split("\n")
    assert lines[:8] == [
        "[epoch 0, N_fg = 1]",
        f"  a {dropped_later}*very* *bad* *film*.",
        "[epoch 1, N_fg = 2]",
        f"  a {dropped_later}*very* {dropped_later}*bad* *film*.",
        "[epoch 2, N_fg = 2]",
        f"  a {dropped}*very* {dropped_later}*bad* {kept}*film*.",
        "[epoch 3, N_fg = 1]",
        f"  a {dropped}*very* {dropped}*bad* {kept}*film*.",
    ]
    assert all(fate.name in repr(shown) and fate.color in shown.html for fate in FATES)
    assert len({kept, dropped_later, dropped}) == 3
    frames = {re.search(r"1\.5px (\w+)", Seen(shown.html).styles(f.name)[0])[1] for f in FATES}
    assert len(frames) == 3, "told apart without their colors"


# Texts


def test_parts_begin_labelled_lines():
    question, context = ("Who", "?"), ("Ada", ".")
    parts = (("question", 0), ("context", 2))
    sample = TextSample(question + context, (False, False, True, False), parts, "answer: Ada")
    assert repr(samples_figure([sample])).split("\n")[:3] == [
        "[answer: Ada]",
        "  question: Who?",
        "  context: *Ada*.",
    ]
    assert samples_figure([sample]).html.count('<div dir="auto">') == 2
    text = repr(of_entropies([-3.0] * 4, sample))
    head = "[layer]\n  question: Who(−3.00) ?(−3.00)\n  context: *Ada*(−3.00) .(−3.00)\n"
    assert text.startswith(head)


def test_running_text_has_the_spaces_of_the_text():
    text = "A well-made (if long) film: A.C. at 1.5 %!"
    joined = joined_words(word_spans(text))
    sample = TextSample(tuple(words(text)), (False,) * len(joined), joined=joined)
    assert repr(samples_figure([sample])).split("\n")[0].strip() == text
    unknown = TextSample(("so", "(", "very", ")", "bad", "!"), (False,) * 6)
    assert repr(samples_figure([unknown])).split("\n")[0].strip() == "so (very) bad!"


@pytest.mark.parametrize(
    "fields",
    [
        dict(units=(), foreground=()),
        dict(units=("a",), foreground=()),
        dict(units=("a",), foreground=(True,), joined=(False, False)),
        dict(units=("a", "b"), foreground=(True, False), parts=()),
        dict(units=("a", "b"), foreground=(True, False), parts=(("", 1),)),
        dict(units=("a", "b"), foreground=(True, False), parts=(("", 0), ("", 2))),
        dict(units=("a", "b", "c"), foreground=(True,) * 3, parts=(("", 0), ("", 2), ("", 1))),
        dict(units=("a", "b"), foreground=(True, False), parts=(("", 0), ("", 0))),
    ],
)
def test_texts_that_make_no_sense(fields):
    with pytest.raises(KpnbError, match="units"):
        TextSample(**fields)


# Padding, and values of another text


def test_padding_changes_nothing():
    wide = torch.cat([ENTROPY, torch.full((3,), NAN)])
    assert of_entropies(wide) == of_entropies(ENTROPY)
    narrow, mask = ENTROPY[None], torch.tensor([FILM.foreground])
    padded = knowledge_points(wide[None], torch.nn.functional.pad(mask, (0, 3)), 0.2)
    plain = knowledge_points(narrow, mask, 0.2)
    for show, same in zip(all_points(padded), all_points(plain), strict=True):
        assert show() == same()


def all_points(points, index=0):
    return [
        lambda: defined(points, index),
        lambda: role_points_figure([FILM] * 9, {"S": points}, [index]),
        lambda: fates_figure([FILM] * 9, {"S": {1: points}}, index),
    ]


@pytest.mark.parametrize("units", [4, 6])
def test_entropies_of_another_length(units):
    with pytest.raises(KpnbError, match="does not fit a text of 5 words"):
        of_entropies([-3.0] * units)


@pytest.mark.parametrize("units", [4, 6])
def test_points_of_another_length(units):
    for show in all_points(points_of((1,), units=units)):
        with pytest.raises(KpnbError, match="does not fit"):
            show()


def test_points_beyond_the_words():
    points = points_of((1, 5), units=6)
    points.entropy[0, 5] = NAN
    for show in all_points(points):
        with pytest.raises(KpnbError, match="another text"):
            show()


def test_points_of_another_foreground():
    for show in all_points(points_of((1,), foreground=(1, 3))):
        with pytest.raises(KpnbError, match="another text"):
            show()


def test_html_is_frozen():
    with pytest.raises(AttributeError):
        Html("a", "b").html = "c"

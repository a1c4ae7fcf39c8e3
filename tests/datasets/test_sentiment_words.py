"""Words that carry sentiment: known sentences, and the rule read off its own results."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpnb.datasets.texts.embedded import embedded_sentences, sentiment_words
from kpnb.datasets.texts.foreground import is_modifier, sentiment_foreground, with_modifiers
from kpnb.datasets.texts.words import word_spans
from kpnb.errors import KpnbError

KNOWN = [
    ("A superb film.", "superb"),
    ("It's not a very good film, but never dull.", "not very good never dull"),
    ("It is not so very good", "not so very good"),
    ("The hero's pretty awful", "hero's pretty awful"),
    ("I don’t enjoy it", "don’t enjoy"),
    ("SUPERB!", "SUPERB"),
    ("Nothing in it is funny", "funny"),  # four words away
    ("Nothing here is funny", "Nothing funny"),  # three
    ("Not dumb, funny", "Not dumb funny"),
    ("Not long, funny", "funny"),  # a comma between
    ("Not long. Funny", "Funny"),
    ("Not short but funny", "funny"),
    ("very long and funny", "funny"),  # an intensifier is no neighbor
    ("really not funny", "really not funny"),
    ("it is not", ""),  # a bare negation
    ("no, never, and very much so", ""),  # "no" has a rating, and counts as a negation only
    ("looks like a kind of film", ""),
    ("ça dépasse — 映画 \U0001f3ac", ""),
    ("", ""),
]


def foreground_words(text, **options):
    return " ".join(text[start:end] for start, end in sentiment_foreground(text, **options))


@pytest.mark.parametrize(("text", "expected"), KNOWN)
def test_known_sentences(text, expected):
    assert foreground_words(text) == expected


def test_least_leaves_weak_words_out():
    lexicon = {"dim": -0.5, "grim": -1.0, "flat": 0.0}
    text = "Too dim, very grim and so flat"
    expected = {0: "Too dim very grim so flat", 0.5: "Too dim very grim", 0.51: "very grim", 2: ""}
    for least, found in expected.items():
        assert foreground_words(text, lexicon=lexicon, least=least) == found
    assert foreground_words(text, lexicon={}) == ""


@pytest.mark.parametrize("least", [-0.1, 4.1, math.nan])
def test_wrong_least(least):
    with pytest.raises(KpnbError, match="0 to 4"):
        sentiment_foreground("good", least=least)


def test_words_that_carry_may_come_from_elsewhere():
    text = "never so grim, no end"
    assert with_modifiers(text, [False] * 6) == ()
    found = with_modifiers(text, [True, True, True, False, True, False])  # modifiers by themselves
    assert [text[a:b] for a, b in found] == ["never", "so", "grim"]
    with pytest.raises(KpnbError, match="give 6, one a word"):
        with_modifiers(text, [True])


words = st.sampled_from(
    ["not", "never", "isn't", "don’t", "very", "so", "good", "awful", "film", "the", "but"]
    + [",", ".", "!"]
)


@given(st.lists(words, max_size=12))
def test_any_text_has_words_as_spans_and_modifiers_only_before_sentiment(chosen):
    text = " ".join(chosen)
    found = sentiment_foreground(text)
    assert list(found) == sorted(set(found)) and set(found) <= set(word_spans(text))
    marked = [span in found for span in word_spans(text)]
    assert all(flag for word, flag in zip(chosen, marked, strict=True) if word in ("good", "awful"))
    for place, (word, flag) in enumerate(zip(chosen, marked, strict=True)):
        if flag and is_modifier(word):
            near = chosen[place + 1 : place + 4]
            stop = min((near.index(s) for s in (",", ".", "!", "but") if s in near), default=3)
            assert {"good", "awful"} & set(near[:stop])
        elif flag:
            assert word in ("good", "awful")


def test_measured_on_the_embedded_sentences():
    texts = [text for split in ("train", "test") for text in embedded_sentences(split, 0.5).texts]
    found = [sentiment_foreground(text) for text in texts]
    count = sum(map(len, found))
    assert sum(map(bool, found)) / len(texts) == pytest.approx(0.845, abs=0.001)
    assert count / len(texts) == pytest.approx(2.15, abs=0.01)
    assert count / sum(len(word_spans(text)) for text in texts) == pytest.approx(0.099, abs=0.001)


def test_the_shares_that_justify_the_least_rating():
    """Share of training sentences whose label has the sign of a word of theirs, by its rating."""
    train, lexicon = embedded_sentences("train", 1.0), sentiment_words()
    agreement = {}
    for text, label in zip(train.texts, train.labels.tolist(), strict=True):
        present = {text[a:b].lower().replace("’", "'") for a, b in word_spans(text)}
        for word in present & lexicon.keys():
            step = min(int(abs(lexicon[word]) * 2) / 2, 2.5)
            same = (lexicon[word] > 0) == bool(label)
            for key in (step, word):
                agreement.setdefault(key, []).append(same)
    shares = {key: sum(same) / len(same) for key, same in agreement.items()}
    stated = {0.0: 0.52, 0.5: 0.62, 2.5: 0.71, "like": 0.37, "kind": 0.48}
    assert {key: round(shares[key], 2) for key in stated} == stated

"""The foreground of texts: known ones, rules read off their own results, and all packed ones."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpnb.datasets.texts.embedded import embedded_questions, embedded_sentences, sentiment_words
from kpnb.datasets.texts.foreground import (
    STOP_WORDS,
    answer_foreground,
    is_modifier,
    sentence_spans,
    sentiment_foreground,
    with_modifiers,
)
from kpnb.datasets.texts.words import word_spans
from kpnb.errors import KpnbError

# Words that carry sentiment

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


# Words related to an answer


@pytest.fixture(scope="module")
def both():
    return embedded_questions("train"), embedded_questions("test")


def foreground(question, context, text, nth=0):
    start = [match.start() for match in re.finditer(re.escape(text), context)][nth]
    found = answer_foreground(question, context, (start, start + len(text)))
    return tuple(
        [part[a:b] for a, b in spans]
        for part, spans in zip((question, context), found, strict=True)
    )


PAIR = "Ann Lee (1736-1784) led the Shakers. Sophus Lie (1842-1899) studied Lie groups in Oslo."


@pytest.mark.parametrize(
    ("question", "context", "text", "nth", "asked", "related"),
    [
        ("When was Ann Lee born?", PAIR, "1736", 0, ["Ann", "Lee"], ["Ann", "Lee", "1736"]),
        # a word of the question counts in every place of the answer's sentence, whatever its case
        ("WHERE did LIE study?", PAIR, "Oslo", 0, ["LIE"], ["Lie", "Lie", "Oslo"]),
        # the name's other sentence has no part in it
        ("When did Ann Lee die?", PAIR, "1899", 0, [], ["1899"]),
        ("What does the Rhône flow into?", "The Rhône flows into the sea.", "the sea", 0,
         ["Rhône", "flow"], ["Rhône", "flows", "the", "sea"]),
        ("Whose dog?", "Søren’s dogs bark. A dog sleeps.", "Søren’s", 0, ["dog"],
         ["Søren’s", "dogs"]),
        # the answer has its punctuation; parts of words count whole
        ("How high is K2?", "K2 (28,251 feet high) is tall.", "8,251 feet", 0, ["high", "K2"],
         ["K2", "28", ",", "251", "feet", "high"]),
        # the same text in another sentence is not the answer
        ("Who fell?", "Bo rose. Bo fell.", "Bo", 1, ["fell"], ["Bo", "fell"]),
        ("Who fell?", "Bo rose. Bo fell.", "Bo", 0, [], ["Bo"]),
        # over two sentences
        ("Who rose?", "Bo rose. Al sat. Cy rose.", "Bo rose. Al", 0, ["rose"],
         ["Bo", "rose", ".", "Al"]),
    ],
)  # fmt: skip
def test_foreground_examples(question, context, text, nth, asked, related):
    assert foreground(question, context, text, nth) == (asked, related)


def test_every_packed_question_has_a_foreground_and_a_background(both):
    for questions in both:
        shares = []
        rows = zip(questions.questions, questions.contexts, questions.answers, strict=True)
        for question, context, spans in rows:
            asked, related = answer_foreground(question, context, spans[0])
            for text, part in ((question, asked), (context, related)):
                words = word_spans(text)
                assert 0 < len(part) < len(words) and set(part) <= set(words)
                assert list(part) == sorted(set(part))
            start, end = spans[0]
            assert related[0][0] <= start and end <= related[-1][1]
            shares.append(len(related) / len(word_spans(context)))
        assert 0.09 < sum(shares) / len(shares) < 0.14 and max(shares) < 0.6


def test_packed_paragraphs_have_two_sentences(both):
    joined = [
        context for part in both for context in set(part.contexts)
        if len(sentence_spans(context)) != 2
    ]  # fmt: skip
    assert len(joined) <= 1 and all("vitamin C. " in context for context in joined)


@pytest.mark.parametrize("answer", [(0, 0), (-1, 3), (3, 2), (0, 99)])
def test_an_answer_outside_the_context(answer):
    with pytest.raises(KpnbError, match="no span of a context of 8 characters"):
        answer_foreground("Who?", "Bo rose.", answer)


def test_an_answer_without_a_word():
    with pytest.raises(KpnbError, match="holds no word"):
        answer_foreground("Who?", "Bo  rose.", (2, 4))


@pytest.mark.parametrize(
    "sentences",
    [
        ["D. H. Lawrence wrote.", "I. M. Pei built."],
        ["Mr. St. John of the U.S. Navy paid 3.5 francs.", "He left."],
        ["It ended World War I.", "Then came peace."],
        ["“Stop!”", "(No.)", "Why?", "Ōsaka fell.", "12 men left."],
        ["It resembled Darwin's.", "Sir William came"],
        ["One clause; 1.5 m high, e.g. here, cf. there... and so on."],
        ["A title\n\n", "then text"],
        ["no end"],
    ],
)
def test_sentences(sentences):
    text = " ".join(sentences).replace("\n ", "\n")
    spans = sentence_spans(text)
    assert [text[a:b].strip() for a, b in spans] == [sentence.strip() for sentence in sentences]
    assert [a for a, _ in spans][1:] == [b for _, b in spans][:-1]  # they cover the text
    assert spans[0][0] == 0 and spans[-1][1] == len(text)


def test_an_empty_text_has_no_sentence_and_stop_words_are_lower_case():
    assert sentence_spans("") == []
    assert all(word == word.casefold() for word in STOP_WORDS)
    assert {"who", "what", "the", "is", "of"} <= STOP_WORDS and "born" not in STOP_WORDS

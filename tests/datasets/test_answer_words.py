"""The foreground of questions: examples of the rule, and every packed question."""

import re

import pytest

from kpnb.datasets.texts.embedded import embedded_questions
from kpnb.datasets.texts.foreground import STOP_WORDS, answer_foreground, sentence_spans
from kpnb.datasets.texts.words import word_spans
from kpnb.errors import KpnbError


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

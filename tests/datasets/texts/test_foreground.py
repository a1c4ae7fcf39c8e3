"""The foreground of texts: known ones, rules read off their own results, and all packed ones."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from refusals import refuses

from kpnb.datasets.texts import foreground as rules
from kpnb.datasets.texts.embedded import embedded_questions, embedded_sentences, sentiment_words
from kpnb.datasets.texts.foreground import answer_foreground, sentence_spans, sentiment_foreground
from kpnb.datasets.texts.word_pieces import word_spans


def cut(text, spans):
    return " ".join(text[start:end] for start, end in spans)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A superb film.", "superb"), ("I don’t enjoy it", "don’t enjoy"), ("SUPERB!", "SUPERB"),
     ("It's not a very good film, but never dull.", "not very good never dull"),
     ("The hero's pretty awful", "hero's pretty awful"),
     ("Nothing in it is funny", "funny"),  # four words away
     ("Nothing here is funny", "Nothing funny"),  # three
     ("Not dumb, funny", "Not dumb funny"), ("Not short but funny", "funny"),
     ("Not long, funny", "funny"), ("Not long. Funny", "Funny"),  # a sign between
     ("very long and funny", "funny"),  # an intensifier is no neighbor
     ("no, never, and very much so", ""),  # "no" has a rating, and counts as a negation only
     ("looks like a kind of film", ""), ("", ""), ("ça dépasse — 映画 \U0001f3ac", "")],
)  # fmt: skip
def test_known_sentences(text, expected):
    assert cut(text, sentiment_foreground(text)) == expected


def test_words_that_carry_have_half_a_unit_or_come_from_elsewhere(monkeypatch):
    lexicon = {"dim": -0.5, "grim": 1.0, "flat": 0.49}
    monkeypatch.setattr(rules, "sentiment_words", lambda: lexicon)
    text = "Too dim, very grim and so flat"
    assert cut(text, sentiment_foreground(text)) == "Too dim very grim"
    text = "never so grim, no end"
    assert rules.with_modifiers(text, [False] * 6) == ()
    found = rules.with_modifiers(text, [True, True, True, False, True, False])  # by themselves
    assert cut(text, found) == "never so grim"
    refuses(rules.with_modifiers, "give 6, one a word", text, [True])


WORDS = "not never isn't don’t very so good awful film the but , . !"


@given(st.lists(st.sampled_from(WORDS.split()), max_size=12))
def test_any_text_has_words_as_spans_and_modifiers_only_before_sentiment(chosen):
    text = " ".join(chosen)
    found = sentiment_foreground(text)
    assert list(found) == sorted(set(found)) and set(found) <= set(word_spans(text))
    for place, (word, span) in enumerate(zip(chosen, word_spans(text), strict=True)):
        near = re.split(r"[,.!]|but", " ".join(chosen[place + 1 : place + 4]))[0]
        carries = word in ("good", "awful")
        if span in found:
            assert carries or rules.is_modifier(word) and re.search("good|awful", near)
        else:
            assert not carries


def test_what_is_said_of_the_embedded_sentences_and_words():
    texts = [text for split in ("train", "test") for text in embedded_sentences(split, 0.5).texts]
    counts = np.array([len(sentiment_foreground(text)) for text in texts])
    share = counts.sum() / sum(len(word_spans(text)) for text in texts)
    found = [(counts > 0).mean(), counts.mean() / 10, share]
    assert found == pytest.approx([0.845, 0.215, 0.099], abs=0.001)
    lexicon = sentiment_words()
    assert len(lexicon) == 7217 and lexicon["superb"] > 2 and lexicon["awful"] < -1.5
    assert all(re.fullmatch(r"[a-z][a-z'-]*", word) for word in lexicon)
    # Training sentences whose label has the sign of a word of theirs, by its rating.
    train, agreement = embedded_sentences("train", 1.0), {}
    for text, label in zip(train.texts, train.labels.tolist(), strict=True):
        for word in {text[a:b].lower().replace("’", "'") for a, b in word_spans(text)} & {*lexicon}:
            same = (lexicon[word] > 0) == bool(label)
            for key in (min(int(abs(lexicon[word]) * 2) / 2, 2.5), word):
                agreement.setdefault(key, []).append(same)
    stated = {0.0: 0.52, 0.5: 0.62, 2.5: 0.71, "like": 0.37, "kind": 0.48}
    assert {key: round(np.mean(agreement[key]), 2) for key in stated} == stated


PAIR = "Ann Lee (1736-1784) led the Shakers. Sophus Lie (1842-1899) studied Lie groups in Oslo."
BO, RHONE = "Bo rose. Bo fell.", "The Rhône flows into the sea."


@pytest.mark.parametrize(
    ("question", "context", "text", "nth", "asked", "related"),
    [("When was Ann Lee born?", PAIR, "1736", 0, "Ann Lee", "Ann Lee 1736"),
     # a word of the question counts wherever it is in the answer's sentence, whatever its case
     ("WHERE did LIE study?", PAIR, "Oslo", 0, "LIE", "Lie Lie Oslo"),
     ("When did Ann Lee die?", PAIR, "1899", 0, "", "1899"),  # not of the name's other sentence
     ("What does the Rhône flow into?", RHONE, "the sea", 0, "Rhône flow", "Rhône flows the sea"),
     ("Whose dog?", "Søren’s dogs bark. A dog sleeps.", "Søren’s", 0, "dog", "Søren’s dogs"),
     # the answer has its punctuation; parts of words count whole
     ("How high is K2?", "K2 (28,251 feet high) is tall.", "8,251 feet", 0, "high K2",
      "K2 28 , 251 feet high"),
     # the same text in another sentence is not the answer
     ("Who fell?", BO, "Bo", 1, "fell", "Bo fell"), ("Who fell?", BO, "Bo", 0, "", "Bo"),
     # over two sentences
     ("Who rose?", "Bo rose. Al sat. Cy rose.", "Bo rose. Al", 0, "rose", "Bo rose . Al")],
)  # fmt: skip
def test_foreground_examples(question, context, text, nth, asked, related):
    start = [match.start() for match in re.finditer(re.escape(text), context)][nth]
    found = answer_foreground(question, context, (start, start + len(text)))
    told = [cut(*part) for part in zip((question, context), found, strict=True)]
    assert told == [asked, related]


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_packed_question_has_a_foreground_and_a_background(split):
    questions, shares = embedded_questions(split), []
    rows = zip(questions.questions, questions.contexts, questions.answers, strict=True)
    for question, context, [(start, end), *_] in rows:
        asked, related = answer_foreground(question, context, (start, end))
        for text, part in ((question, asked), (context, related)):
            words = word_spans(text)
            assert 0 < len(part) < len(words) and list(part) == [w for w in words if w in part]
        assert related[0][0] <= start and end <= related[-1][1]
        whole = rf"(?<!\w){re.escape(context[start:end])}(?!\w)"
        assert len(re.findall(whole, context)) == 1  # the answer stands once
        shares.append(len(related) / len(word_spans(context)))
    assert 0.09 < sum(shares) / len(shares) < 0.14 and max(shares) < 0.6
    odd = [text for text in set(questions.contexts) if len(sentence_spans(text)) != 2]
    assert len(odd) <= 1 and all("vitamin C. " in context for context in odd)


def test_an_answer_outside_the_context_or_without_a_word():
    refuses(answer_foreground, "holds no word", "Who?", "Bo  rose.", (2, 4))
    for answer in ((0, 0), (-1, 3), (3, 2), (0, 99)):
        refuses(answer_foreground, "no span of .* of 9 characters", "Who?", "Bo  rose.", answer)


@pytest.mark.parametrize(
    "sentences",
    [["D. H. Lawrence wrote.", "I. M. Pei built."], ["It ended World War I.", "Then came peace."],
     ["Mr. St. John of the U.S. Navy paid 3.5 francs.", "He left."], ["no end"],
     ["“Stop!”", "(No.)", "Why?", "Ōsaka fell.", "12 men left."], ["A title\n\n", "then text"],
     ["It resembled Darwin's.", "Sir William came"],
     ["One clause; 1.5 m high, e.g. here, cf. there... and so on."]],
)  # fmt: skip
def test_sentences(sentences):
    text = " ".join(sentences).replace("\n ", "\n")
    spans = sentence_spans(text)
    assert [text[a:b].strip() for a, b in spans] == [sentence.strip() for sentence in sentences]
    assert [a for a, _ in spans][1:] == [b for _, b in spans][:-1]  # they cover the text
    assert spans[0][0] == 0 and spans[-1][1] == len(text) and sentence_spans("") == []

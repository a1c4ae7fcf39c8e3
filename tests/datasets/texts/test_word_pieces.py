"""Words as input units: offset alignment in any script, pairs, kept vocabularies, long inputs."""

import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refuses
from text_tiny import CLS, PAD, SEP, SPECIAL, UNK, VOCABULARY

from kpnb.datasets.texts.word_pieces import NO_WORD, PieceEncoder, word_spans, words
from kpnb.errors import KpnbError
from kpnb.networks.text import load_tokenizer


@pytest.fixture(scope="module")
def encoder(tiny_model):
    return PieceEncoder(load_tokenizer(tiny_model))


def test_words_of_a_text():
    assert words("It's great - isn’t it?") == ["It's", "great", "-", "isn’t", "it", "?"]
    assert words("Cafe\u0301 ÉTÉ 3.5") == ["Cafe\u0301", "ÉTÉ", "3", ".", "5"]
    assert words("'twas rock 'n' roll'") == ["'", "twas", "rock", "'", "n", "'", "roll", "'"]
    assert word_spans(" \ta \n\u00a0b") == [(2, 3), (6, 7)] and word_spans(" \t\n\u00a0") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Don't say", "Don't: don ' t | say: s ##a ##y"), ("a_b", "a_b: a _ b"),
     ("unbelievable, films!", "unbelievable: un ##believ ##able | ,: , | films: film ##s | !: !"),
     ("don’t.", "don’t: don ’ t | .: ."), ("Cafe\u0301 film", "Cafe\u0301: cafe | film: film"),
     ("很ok。", "很ok: 很 o ##k | 。: [UNK]"), ("good 🙂 film", "good: good | 🙂: 🙂 | film: film"),
     ("Привет film", "Привет: [UNK] | film: film"), ("\U0001d400 a", "\U0001d400: [UNK] | a: a"),
     ("İz", "İz: i ##z"),  # two characters in lower case
     ("[PAD] a", "[: [ | PAD: p ##a ##d | ]: ] | a: a"), ("\ufffd a \u0301 b", "a: a | b: b"),
     ("\ufeffgood\u200d film\x07", "good: good | film: film"),
     ("go\u200bod", "go: good")],  # one piece over what are two words here
)  # fmt: skip
def test_pieces_find_their_words_in_any_script(encoder, text, expected):
    pieces, found = encoder.texts([text]), []
    for unit, (start, end) in enumerate(pieces.spans[0]):
        own = pieces.ids[0][pieces.words[0] == unit]
        found.append(f"{text[start:end]}: {' '.join(VOCABULARY[i] for i in own)}")
    assert " | ".join(found) == expected
    assert pieces.units == list(pieces.firsts) == [expected.count(" | ") + 1] and len(pieces) == 1
    check_numbers(pieces)


def check_numbers(pieces):
    """Units from 0 without gaps, ascending, special pieces at the ends and nowhere else."""
    for ids, numbers, count in zip(pieces.ids, pieces.words, pieces.units, strict=True):
        last = int((ids != PAD).sum()) - 1
        inner, own = numbers[1:last].tolist(), {*ids[1:last].tolist()} - {UNK}
        assert sorted(set(inner)) == list(range(count)) and inner == sorted(inner)
        assert ids[0] == CLS and ids[last] == SEP and min(own, default=99) >= len(SPECIAL)
        assert {*numbers[last:].tolist(), int(numbers[0])} == {NO_WORD}


LETTERS = "abzABZ09éÉñ\u0130很好.,!?'’\"-_$+^~`<> \t\n\u00a0\u3000"


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(LETTERS, max_size=40) | st.text(max_size=30))
def test_any_text_gives_whole_words_in_order_or_a_refusal(encoder, text):
    plain = {*text} <= {*LETTERS}  # then every character but spaces lies in one unit
    try:
        pieces = encoder.texts([text, "good film"])
    except KpnbError as error:
        assert "holds no word" in str(error) and not (plain and text.strip())
        return
    known = iter(word_spans(text))
    assert all(span in known for span in pieces.spans[0])  # some of the words, ascending
    covered = [place for span in pieces.spans[0] for place in range(*span)]
    assert not plain or covered == [n for n, sign in enumerate(text) if not sign.isspace()]
    check_numbers(pieces)


def test_units_of_the_context_follow_those_of_the_question(encoder):
    question, context = "Who was born?", "She moon-landed."
    pieces = encoder.pairs([question, "Why?"], [context, "Good."])
    assert pieces.ids[0].tolist() == encoder.tokenizer(question, context)["input_ids"]
    assert pieces.spans[0] == (*word_spans(question), *word_spans(context))
    assert pieces.firsts == (4, 2) and pieces.units == [9, 4]
    assert pieces.words[0].tolist() == [-1, 0, 1, 2, 3, -1, 4, 5, 6, 7, 8, -1]


def test_a_kept_vocabulary_renumbers_and_makes_the_rest_unknown(encoder):
    tokenizer = encoder.tokenizer
    kept = PieceEncoder.for_texts(tokenizer, ["a good film", "the film."])
    names = [VOCABULARY[i] for i in kept.kept]
    assert names == [*SPECIAL, ".", "a", "the", "film", "good"] and len(kept) == 10
    full, small = encoder.texts(["A bad good films."]), kept.texts(["A bad good films."])
    meant = [names[i] for i in small.ids[0]]
    assert meant == ["[CLS]", "a", "[UNK]", "good", "film", "[UNK]", ".", "[SEP]"]
    assert small.words.equal(full.words) and small.spans == full.spans
    assert kept.separator == names.index("[SEP]") and kept.pad == names.index("[PAD]")
    special = ["[PAD] good [SEP]"]  # a text cannot spell such a piece
    own = {*encoder.texts(special).ids[0].tolist()} - {CLS, SEP}
    assert len(PieceEncoder.for_texts(tokenizer, special)) == len(SPECIAL) + len(own)
    for needed in (PAD, UNK):
        refuses(PieceEncoder, "keep both", tokenizer, {PAD, UNK, CLS, SEP, 9} - {needed})


def test_a_long_text_loses_its_last_words_whole_and_warns(encoder):
    text = "good film unbelievable films"
    with pytest.warns(UserWarning, match="1 of 2 texts are longer than 8 pieces") as warned:
        pieces = encoder.texts([text, "bad"], length=8)
    assert warned[0].filename == __file__ and pieces.spans[0] == tuple(word_spans(text)[:3])
    with pytest.warns(UserWarning):
        pieces = encoder.texts(["good film bad it unbelievable"], length=8)
    assert pieces.units == [4] and pieces.ids.shape == (1, 6)  # no part of a word
    with warnings.catch_warnings(action="error"):
        assert encoder.texts([text], length=9).units == [4]
        assert encoder.texts([" ".join(["film"] * 600)]).units == [600]
    for answers in (None, [None], [(0, 7)]):  # a context keeps its beginning; just an answer
        with pytest.warns(UserWarning, match="cut"):
            pieces = encoder.pairs(["who"], ["0 1 2 3 4 5 6"], answers, length=8)
        assert pieces.spans[0][1:] == ((0, 1), (2, 3), (4, 5), (6, 7))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 199), st.integers(1, 4), st.integers(12, 60))
def test_a_long_context_keeps_the_answer_in_its_middle(encoder, place, count, length):
    context = " ".join(["film"] * 200)
    count = min(count, 200 - place)
    answer = (5 * place, 5 * (place + count) - 1)
    with pytest.warns(UserWarning, match="cut"):
        pieces = encoder.pairs(["what is it?"], [context], [answer], length)
    spans = pieces.spans[0][4:]
    before = sum(end <= answer[0] for _, end in spans)
    after = sum(start >= answer[1] for start, _ in spans)
    assert before + after + count == len(spans) == length - 3 - 4  # nothing is wasted
    assert spans == tuple(word_spans(context)[place - before : place + count + after])
    assert abs(before - after) <= 1 or before == place or after == 200 - place - count
    assert pieces.ids.shape == (1, length) and pieces.firsts == (4,)


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [("pairs", (["who is it? " * 3], ["she landed " + "film " * 30], [(0, 10)], 12),
      "^12 pieces do not hold the question and answer"),
     ("texts", (["x" * 30], 8), "^8 pieces do not hold the first word"),
     ("texts", ([],), "no text to encode"), ("texts", (["good", ""],), "'' holds no word"),
     ("texts", (["\u200b \x00"],), "no word"), ("texts", (["good"], 7), "at least 8"),
     ("pairs", (["who"], [" "]), "no word"), ("pairs", ([""], ["she"]), "no word")],
)  # fmt: skip
def test_inputs_that_do_not_fit(encoder, kind, given, told):
    refuses(getattr(encoder, kind), told, *given)

"""Words of strings beside the pieces of tokenizers of every kind, and foreground from words."""

import pytest
import torch
from own_texts import byte_pairs, unigrams, word_pieces
from refusals import refuses

import kpnb
from kpnb.datasets.texts.aligned import aligned_text, text_samples
from kpnb.datasets.texts.word_pieces import NO_WORD, word_spans, words
from kpnb.estimator.maps import EntropyMaps

TEXT = "a fine film, don't!"
TOKENIZERS = {"bert": word_pieces(), "roberta": byte_pairs("roberta"), "gpt2": byte_pairs("gpt2"),
              "deberta": unigrams()}  # fmt: skip
LETTERS = str.maketrans("", "", "▁Ġ#")


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_pieces_spell_the_words_that_they_belong_to(kind):
    tokenizer = TOKENIZERS[kind]
    text = aligned_text(tokenizer, TEXT)
    assert text.count == len(words(TEXT)) == 6 and list(text.places) == [*range(6)]
    ids = text.inputs["input_ids"]
    assert ids.tolist() == [tokenizer(TEXT)["input_ids"]] and len(text.words) == ids.shape[1]
    spelled = [""] * text.count
    for piece, word in zip(tokenizer.convert_ids_to_tokens(ids[0].tolist()), text.words.tolist(),
                           strict=True):  # fmt: skip
        plain = piece.translate(LETTERS)
        if word == NO_WORD:
            assert piece in ("[CLS]", "[SEP]", "<s>", "</s>", "Ġ", "▁")
        else:
            spelled[word] += plain
    assert spelled == words(TEXT)
    assert "attention_mask" in text.inputs and kind != "gpt2" or tokenizer.pad_token is None


def test_a_word_without_a_piece_takes_no_part():
    text = aligned_text(word_pieces(), "the 🙂很 [MASK] moon жук...")
    held = [words("the 🙂很 [MASK] moon жук...")[place] for place in text.places]
    assert held == ["the", "🙂", "很", "moon", "жук", ".", ".", "."]  # an unknown word is a word
    values = text.by_word(torch.arange(len(held), dtype=torch.float64))
    assert len(values) == text.count == 11 and values.isnan().nonzero().flatten().tolist() == [
        3,
        4,
        5,
    ]
    assert values[[*text.places]].tolist() == [*range(8)]
    # One piece for two signs it does not know: the first one has it.
    assert list(aligned_text(word_pieces(), "🚀🚀 moon").places) == [0, 2]


def test_what_is_refused():
    class Slow:
        is_fast = False

    refuses(aligned_text, "fast", Slow(), TEXT)
    refuses(aligned_text, "no word", word_pieces(), "  ")
    short = word_pieces()
    short.model_max_length = 5
    refuses(aligned_text, "13 pieces of at most 5", short, TEXT)


def test_foreground_from_words_phrases_and_spans():
    texts = ["Fine, a fine film.", "Not bad at all (not)"]
    samples = text_samples(texts, [["fine", (13, 15)], ["NOT bad", (15, 16)]])
    assert samples[0].units == ("Fine", ",", "a", "fine", "film", ".")
    assert samples[0].foreground == (True, False, False, True, True, False)
    assert samples[1].foreground == (True, True, False, False, True, False, False)
    assert samples[0].joined == (False, True, False, False, False, True)
    assert samples.foreground.shape == (2, 7) and not samples.foreground[0, 6]
    assert not any(text_samples("one text")[0].foreground)
    assert text_samples(texts[:1], ["film"])[0].foreground[4]
    sigma = torch.full((2, 7), 0.1, dtype=torch.float64)
    sigma[0, 6] = torch.nan
    sigma[samples.foreground] = 0.05
    maps = EntropyMaps(sigma, torch.ones(2), torch.ones(2).bool(), sigma)
    points = kpnb.knowledge_points(maps, samples.foreground, 0.2)
    assert points.n_fg.tolist() == [3, 3] and points.n_bg.tolist() == [0, 0]
    for wrong in (["nothing"], ["bad fine"], [(2, 2)], [(40, 44)], [""], [3], ["fin"], [(4, 5)]):
        refuses(text_samples, "no word of the text", ["fine film"], [wrong])
    refuses(text_samples, "2 entries for 1", "fine", ["fine", "film"])
    refuses(text_samples, "no word", ["...".replace(".", " ")])
    refuses(text_samples, "hold int", ["a", 3])
    refuses(text_samples, "nothing", [])
    assert len(word_spans(texts[0])) == 6

"""A word-level tokenizer, and a BERT encoder from scratch that classifies sentences."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
PAD, UNK, CLS, SEP = range(len(SPECIAL))
EMBEDDING_STD = 0.02  # as in the BERT paper

# A word keeps its inner apostrophes; every other sign that is no space stands alone.
_TOKEN = re.compile(r"\w+(?:'\w+)*|[^\w\s]")


def tokens(text: str) -> list[str]:
    """Lower-case words and single punctuation marks of a text, in order, of any script."""
    text = unicodedata.normalize("NFC", text).lower().replace("\u2019", "'")
    return _TOKEN.findall(text)


@dataclass(frozen=True)
class Vocabulary:
    """The words a network knows; a word's id is its place. The first four are SPECIAL."""

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL)] != SPECIAL or len(set(self.words)) < len(self.words):
            raise KpnbError(
                f"A vocabulary begins with {' '.join(SPECIAL)} and has each word once: make it "
                "with Vocabulary.build."
            )

    @staticmethod
    def build(texts: Iterable[str], least: int = 2, size: int | None = None) -> Vocabulary:
        """The words that occur at least `least` times in `texts`, the most frequent first.

        least: 2 by default (ours), so that [UNK] occurs in training too. size: most words, the
        special ones counted; None is no limit. Equal counts go by the alphabet.
        Raises KpnbError where no word is left.
        """
        counts = Counter(token for text in texts for token in tokens(text))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        known = [word for word in ranked if counts[word] >= least]
        known = known if size is None else known[: max(0, size - len(SPECIAL))]
        if not known:
            raise KpnbError(
                f"No word occurs {least} times in these texts: pass more texts, or a smaller least."
            )
        return Vocabulary((*SPECIAL, *known))

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def encode(self, texts: Sequence[str], length: int | None = None) -> Tensor:
        """(n, T) int64: [CLS], the words' ids, [SEP], then [PAD]; unknown words are [UNK].

        length: T; None is that of the longest text. Longer texts lose their last words but keep
        [SEP]. Raises KpnbError for no texts and a length below 3.
        """
        if isinstance(texts, str) or len(texts) == 0:
            raise KpnbError("There is no list of texts to encode: pass at least one in a list.")
        if length is not None and length < 3:
            raise KpnbError(f"length={length} leaves no room for a word: pass at least 3.")
        most = None if length is None else length - 2
        rows = [[self._ids.get(t, UNK) for t in tokens(text)[:most]] for text in texts]
        width = length or max(map(len, rows)) + 2
        ids = torch.full((len(rows), width), PAD)
        for line, row in zip(ids, rows, strict=True):
            line[: len(row) + 2] = torch.tensor([CLS, *row, SEP])
        return ids

    def decode(self, ids: Tensor) -> list[list[str]]:
        """The words of each row of ids (n, T), special ones too but no [PAD]."""
        return [[self.words[i] for i in row if i != PAD] for row in ids.tolist()]


class TextEncoder(nn.Module):
    """A BERT encoder with a classifier on its pooled first position; ids (n, T) -> (n, classes).

    layer_names: dotted names of "Last", whose output is the last hidden state (n, T, width), and
    of "FC1", the dense layer of the pooler (n, width, before tanh).
    """

    def __init__(self, bert: nn.Module, classes: int, dropout: float):
        super().__init__()
        self.bert = bert
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(bert.config.hidden_size, classes)
        last = bert.config.num_hidden_layers - 1
        self.layer_names = {"Last": f"bert.encoder.layer.{last}.output", "FC1": "bert.pooler.dense"}

    def forward(self, ids: Tensor) -> Tensor:
        """Logits (n, classes) of sentences (n, T) int64; attention leaves out [PAD]."""
        return self.forward_embedded(self.embed(ids), ids != PAD)

    def embed(self, ids: Tensor) -> Tensor:
        """(n, T, width): the word embeddings alone, before position, type and normalization."""
        self._check(ids.dim() == 2 and not ids.is_floating_point(), ids)
        return self.bert.embeddings.word_embeddings(ids)

    def embedding_scale(self) -> float:
        """Root mean square of the components of all words' embeddings, [PAD] left out."""
        table = self.bert.embeddings.word_embeddings.weight.detach()
        known = torch.arange(len(table), device=table.device) != PAD
        return table[known].double().square().mean().sqrt().item()

    def encode(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Last hidden state (n, T, width); mask (n, T) is True at words. Undefined at padding."""
        return self._run(embeddings, mask).last_hidden_state

    def forward_embedded(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Logits (n, classes) of word embeddings (n, T, width), perhaps with noise."""
        return self.classifier(self.dropout(self._run(embeddings, mask).pooler_output))

    def _run(self, embeddings: Tensor, mask: Tensor) -> object:
        self._check(embeddings.shape[:-1] == mask.shape, embeddings)
        return self.bert(inputs_embeds=embeddings, attention_mask=mask.long())

    def _check(self, good: bool, given: Tensor) -> None:
        longest = self.bert.config.max_position_embeddings
        if not good or not 0 < given.shape[1] <= longest:
            raise KpnbError(
                f"An input of shape {tuple(given.shape)} does not fit this encoder: pass word ids "
                f"(n, T) with T of at most {longest}, or embeddings with a mask of their shape."
            )


def text_encoder(
    vocabulary_size: int,
    classes: int,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    seed: int = 0,
    dropout: float = 0.1,
    longest: int = 64,
) -> TextEncoder:
    """A BERT encoder of transformers with weights from `seed`, to be trained from scratch.

    layers, width, heads: 2, 64 and 4 are ours, for two CPU cores; BERT-base has 12, 768 and 12.
    The inner layers are four times as wide. dropout: 0.1, BERT's own. longest: most positions.
    Embeddings have a standard deviation of 0.02 as in BERT, linear weights with m inputs one of
    1 / sqrt(m), biases are 0: BERT's 0.02 for all would shrink a signal of width 64 sixfold at
    every linear layer, and SGD then learned nothing in 10 epochs.
    Equal seeds give equal weights. Attention is the plain one, which has all derivatives.
    Raises KpnbError for sizes that fit no encoder.
    """
    _check_sizes(vocabulary_size, classes, layers, width, heads, longest)
    if not 0 <= dropout < 1:
        raise KpnbError(f"Dropout {dropout} is not a probability: pass a value from 0 to below 1.")
    from transformers import BertConfig, BertModel  # seconds to import

    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        max_position_embeddings=longest,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=PAD,
        attn_implementation="eager",
    )
    with torch.random.fork_rng(devices=[]):  # what the library draws is replaced below
        net = TextEncoder(BertModel(config), classes, dropout)
    _initialize(net, seed)
    return net


def _check_sizes(
    vocabulary_size: int, classes: int, layers: int, width: int, heads: int, longest: int
) -> None:
    if vocabulary_size <= len(SPECIAL) or classes < 2:
        raise KpnbError(
            f"{vocabulary_size} words and {classes} classes make no classifier: pass the length of "
            "a vocabulary and at least 2 classes."
        )
    if min(layers, width, heads) < 1 or width % heads or longest < 3:
        raise KpnbError(
            f"{layers} layers of width {width} with {heads} heads and {longest} positions make no "
            "encoder: pass positive numbers, a width that the heads divide, 3 or more positions."
        )


def _initialize(net: nn.Module, seed: int) -> None:
    """Set every weight from `seed`, whatever the library's own initial values are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()  # draws nothing
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, EMBEDDING_STD, generator=generator)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0.0, module.in_features**-0.5, generator=generator)
                module.bias.zero_()
            elif next(module.parameters(recurse=False), None) is not None:
                raise NotImplementedError(f"no initial values for {type(module).__name__}")
        net.bert.embeddings.word_embeddings.weight[PAD] = 0.0

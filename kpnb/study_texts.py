"""Which texts a text study trains, tests and measures its networks on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from kpnb.data_folder import data_folder
from kpnb.datasets.embedded_questions import embedded_questions
from kpnb.datasets.embedded_sentences import Sentences, embedded_sentences
from kpnb.datasets.questions import Questions
from kpnb.datasets.squad import squad
from kpnb.datasets.sst2 import sst2, sst2_foreground
from kpnb.encoded_texts import EncodedTexts, Foreground, encoded_questions, encoded_sentences
from kpnb.errors import KpnbError
from kpnb.networks.text_models import load_tokenizer
from kpnb.parameters import QuestionParameters, SentimentParameters
from kpnb.sentiment_words import sentiment_foreground
from kpnb.word_pieces import PieceEncoder

DATA_SEED = 0
EMBEDDED = "embedded"


@dataclass(frozen=True)
class StudyTexts:
    """Texts that fit `longest` pieces, as the parameters ask for them; the same for all seeds.

    load: split ("train" or "test") -> the raw samples, in an order by DATA_SEED; strings: their
    texts, the parts of a pair as one tuple; encode: turns raw samples into EncodedTexts.
    """

    parameters: SentimentParameters | QuestionParameters
    load: Callable[[str], Sentences | Questions]
    strings: Callable[[Sentences | Questions], list[tuple[str, ...]]]
    encode: Callable[[Sentences | Questions, PieceEncoder], EncodedTexts]

    @cached_property
    def encoder(self) -> PieceEncoder:
        """Keeps the word pieces of the texts of this study only."""
        raw = self._raw.values()
        texts = [text for part in raw for parts in self.strings(part) for text in parts]
        return PieceEncoder.for_texts(load_tokenizer(self.parameters.network), texts)

    @cached_property
    def teacher_samples(self) -> EncodedTexts:
        return self.encode(self._raw["train"], self.encoder)

    @cached_property
    def training_samples(self) -> EncodedTexts:
        """What student and baseline are trained on: the first of the teacher's."""
        count = max(2, round(self.parameters.fraction * len(self.teacher_samples)))
        return self.teacher_samples.subset(range(count))

    @cached_property
    def test_samples(self) -> EncodedTexts:
        return self.encode(self._raw["test"], self.encoder)

    @cached_property
    def measured(self) -> EncodedTexts:
        """The first of the training or of the test texts with both foreground and background."""
        p = self.parameters
        source = self.training_samples if p.measured_on == "train" else self.test_samples
        if len(source.usable) < p.samples:
            raise KpnbError(
                f"samples={p.samples} texts are wanted, but only {len(source.usable)} are there to "
                "measure; ask for fewer, or raise teacher_samples or fraction."
            )
        return source.subset(source.usable[: p.samples])

    @cached_property
    def foreground(self) -> Tensor:
        """(samples, most units) bool of the measured texts."""
        return self.measured.foreground

    @cached_property
    def _raw(self) -> dict[str, Sentences | Questions]:
        p = self.parameters
        counts = {"train": p.teacher_samples, "test": p.test_samples}
        return {split: self._first(split, count) for split, count in counts.items()}

    def _first(self, split: str, count: int | str) -> Sentences | Questions:
        """The first `count` raw samples of a split that fit `longest` pieces, or "all" of them."""
        raw, longest = self.load(split), self.parameters.longest
        tokenizer = load_tokenizer(self.parameters.network)
        fitting = []
        for position, parts in enumerate(self.strings(raw)):
            if len(tokenizer(*parts, verbose=False)["input_ids"]) <= longest:
                fitting.append(position)
            if len(fitting) == count:
                return raw.subset(fitting)
        if count == "all" and fitting:
            return raw.subset(fitting)
        raise KpnbError(
            f"{count} {split} samples are wanted, but only {len(fitting)} fit {longest} pieces: "
            "raise longest, or ask for fewer teacher_samples or test_samples."
        )


def sentence_data(parameters: SentimentParameters) -> StudyTexts:
    """The embedded movie-review sentences, or SST-2 from the folder `parameters.data`."""
    folder = data_folder(parameters.data)
    rule: Foreground = sst2_foreground(folder) if folder else sentiment_foreground

    def load(split: str) -> Sentences:
        if folder is None:
            return embedded_sentences(split, parameters.least_rating, seed=DATA_SEED)
        return sst2(folder, "train" if split == "train" else "dev", seed=DATA_SEED)

    def encode(sentences: Sentences, encoder: PieceEncoder) -> EncodedTexts:
        return encoded_sentences(sentences, encoder, rule, parameters.longest)

    def strings(sentences: Sentences) -> list[tuple[str, ...]]:
        return [(text,) for text in sentences.texts]

    return StudyTexts(parameters, load, strings, encode)


def question_data(parameters: QuestionParameters) -> StudyTexts:
    """The embedded questions, or SQuAD v1.1 from the folder `parameters.data`."""

    folder = data_folder(parameters.data)

    def load(split: str) -> Questions:
        if folder is None:
            return embedded_questions(split, seed=DATA_SEED)
        return squad(folder, "train" if split == "train" else "dev", seed=DATA_SEED)

    def encode(questions: Questions, encoder: PieceEncoder) -> EncodedTexts:
        return encoded_questions(questions, encoder, parameters.longest)

    def strings(questions: Questions) -> list[tuple[str, ...]]:
        return list(zip(questions.questions, questions.contexts, strict=True))

    return StudyTexts(parameters, load, strings, encode)

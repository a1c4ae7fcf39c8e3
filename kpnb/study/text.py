"""Text studies: BERT-like encoders on sentences and questions, whose units are the words; and the
entropy maps of texts, in which noise goes onto the word embeddings.

The estimator sees one text at a time, without padding, so neither padding nor the other texts of a
batch can change a map; the draws of noise are what fills a batch. What is added to a word is the
same noise in every network of a study, whatever its embeddings: it depends on seed, draw and the
text's piece numbers alone.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from kpnb.datasets.places import EMBEDDED, find_data
from kpnb.datasets.samples import DATA_SEED
from kpnb.datasets.texts import corpora, embedded
from kpnb.datasets.texts.aligned import AlignedText, aligned_pieces, aligned_text, listed
from kpnb.datasets.texts.embedded import Questions, Sentences
from kpnb.datasets.texts.encoded import EncodedTexts, encoded_questions, encoded_sentences
from kpnb.datasets.texts.foreground import sentiment_foreground
from kpnb.datasets.texts.word_pieces import PieceEncoder, Pieces
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import TENSORS, EntropyEstimator, EntropyMaps, Stopped
from kpnb.estimator.inputs import readable
from kpnb.metrics.formatting import count
from kpnb.networks import text as networks
from kpnb.networks.layers import tracked_weight
from kpnb.networks.text import HUB, TextNetwork, pretrained_network, scratch_network
from kpnb.networks.words import component_size, encoder_of, own_tokenizer, word_units
from kpnb.study.modality import StudyData
from kpnb.study.parameters import ENCODERS, QuestionParameters, SentimentParameters
from kpnb.study.study import TRAINERS, Study
from kpnb.training.costs import Anatomy, encoder_anatomy
from kpnb.training.scores import answer_scores, majority, tfidf_logistic
from kpnb.training.train import accuracy


@dataclass(frozen=True)
class TextEstimator:
    """EntropyEstimator for texts.

        maps = kpnb.TextEstimator().explain(model, ["A fine film.", "Dull."], tokenizer)

    estimator: its settings; `units` are replaced, one text after the other. The layer is None by
        default: the last hidden states of a TextNetwork, the own output of any other model. ReLU is
        off by default: no ReLU follows BERT's last hidden layer (the paper does not say; the public
        code, which is for images, puts one after every layer).
    scale: sigma is measured in `scale` times the root mean square of the network's own embedding
        components. Embeddings have sizes of their own in every network and epoch (a few hundredths
        in BERT), while the images for which init_sigma 0.01 and the target entropy -2.8 were
        published are normalized to a root mean square of about 1: with scale 1 these settings keep
        their meaning, one hundredth of a typical component.
    """

    estimator: EntropyEstimator = field(default_factory=lambda: EntropyEstimator(None, relu=False))
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise KpnbError(f"scale={self.scale!r} must be a positive number.")

    @property
    def settings(self) -> dict[str, object]:
        """Every setting that changes a map, JSON-able."""
        return self.estimator.settings | {"units": "words", "scale": self.scale}

    def explain(
        self,
        net: nn.Module,
        texts: Pieces | str | Iterable[str],
        tokenizer: object = None,
        progress: bool | None = None,
    ) -> EntropyMaps | dict[str, EntropyMaps]:
        """Maps (texts, most words of a text), NaN beyond a text's own words and for words without a
        piece of their own; with several layers a dictionary of maps by layer.

        net: a TextNetwork, or any model of transformers, whose own head and weights are used and
            which is left as it was.
        texts: strings, whose words are those of `kpnb.text_samples`; or Pieces for a TextNetwork.
        tokenizer: the fast one of the model; None loads that of its `name_or_path`. For a
            TextNetwork that reads strings, its PieceEncoder, or the whole tokenizer it was made of.
        progress: a bar over the texts; None shows it on a terminal.
        Raises KpnbError for networks and texts that do not fit together, what `aligned_text`
        refuses, and what `EntropyEstimator.explain` raises; `Stopped` on Ctrl-C, with earlier maps.
        """
        layer, own = self.estimator.layer, not isinstance(net, TextNetwork)
        if isinstance(layer, (list, tuple)):
            done: dict[str, EntropyMaps] = {}
            for one in layer:
                try:
                    maps = self._at(one).explain(net, texts, tokenizer, progress)
                except Stopped as stopped:
                    rest = {} if stopped.maps is None else {str(one): stopped.maps}
                    raise Stopped(done | rest or None) from None
                done[str(maps.settings["layer"])] = maps
            return done
        if own:
            if isinstance(texts, Pieces):
                raise KpnbError("Pieces need a TextNetwork: give other models strings.")
            net, layer = readable(net, layer)
            tokenizer = own_tokenizer(net, tokenizer)
            found = [aligned_text(tokenizer, text) for text in listed(texts)]
            return self._at(layer)._maps(net, found, progress)
        if isinstance(texts, Pieces):
            found = aligned_pieces(texts)
        else:
            texts = listed(texts)
            found = aligned_pieces(encoder_of(net, tokenizer).texts(texts), texts)
        return self._at("encoder" if layer is None else layer)._maps(net, found, progress)

    def _at(self, layer: str | nn.Module | None) -> "TextEstimator":
        return replace(self, estimator=replace(self.estimator, layer=layer))

    def _maps(
        self, net: nn.Module, texts: Sequence[AlignedText], progress: bool | None
    ) -> EntropyMaps:
        scale, found = self.scale * component_size(net), []
        hidden = None if progress is None else not progress
        try:
            for text in tqdm(texts, "maps of texts", unit="text", disable=hidden, leave=False):
                one = replace(self.estimator, units=word_units(net, text, scale))
                maps = one.explain(net, text.inputs["input_ids"], progress=False)
                found.append({name: text.by_word(getattr(maps, name)[0]) for name in TENSORS})
        except KeyboardInterrupt:
            raise Stopped(self._together(found) if found else None) from None
        # A name stays as it was given, as in all that is stored.
        named = {} if isinstance(self.estimator.layer, str) else {"layer": maps.settings["layer"]}
        return self._together(found, **named)

    def _together(self, found: Sequence[dict[str, Tensor]], **settings: object) -> EntropyMaps:
        joined = {name: _joined([tensors[name] for tensors in found]) for name in TENSORS}
        return EntropyMaps(**joined, settings=self.settings | settings)


def _joined(parts: list[Tensor]) -> Tensor:
    """Numbers, or vectors that end with NaN where others are longer, one a row."""
    return torch.stack(parts) if parts[0].ndim == 0 else pad_sequence(parts, True, torch.nan)


PUBLIC_SPLITS = {"train": "train", "test": "dev"}


@dataclass(frozen=True)
class StudyTexts(StudyData, ABC):
    """Texts that fit `longest` pieces, in an order by DATA_SEED."""

    parameters: SentimentParameters | QuestionParameters

    #: What the embedded texts and the public ones are called; the columns of a sample's parts.
    TITLES: ClassVar[tuple[str, str]]
    PARTS: ClassVar[tuple[str, ...]]

    @abstractmethod
    def load(self, split: str) -> Sentences | Questions:
        """The raw samples of a split, "train" or "test"."""

    @abstractmethod
    def encode(self, raw: Sentences | Questions) -> EncodedTexts:
        """What the networks take of them."""

    def strings(self, raw: Sentences | Questions) -> list[tuple[str, ...]]:
        """The texts of raw samples, the parts of a pair as one tuple."""
        return list(zip(*(getattr(raw, column) for column in self.PARTS), strict=True))

    @cached_property
    def folder(self) -> Path | None:
        """Of the public texts; None for the embedded ones."""
        return find_data(self.parameters.data)

    @property
    def title(self) -> str:
        return self.TITLES[self.parameters.data != EMBEDDED]

    @cached_property
    def encoder(self) -> PieceEncoder:
        """Keeps the word pieces of the texts of this study only."""
        raw = self._raw.values()
        texts = [text for part in raw for parts in self.strings(part) for text in parts]
        return PieceEncoder.for_texts(networks.load_tokenizer(self.parameters.network), texts)

    @cached_property
    def teacher_samples(self) -> EncodedTexts:
        return self.encode(self._raw["train"])

    @cached_property
    def training_samples(self) -> EncodedTexts:
        """What student and baseline are trained on: the first of the teacher's."""
        count = max(2, round(self.parameters.fraction * len(self.teacher_samples)))
        return self.teacher_samples.subset(range(count))

    @cached_property
    def test_samples(self) -> EncodedTexts:
        return self.encode(self._raw["test"])

    def usable(self, samples: EncodedTexts) -> Sequence[int]:
        """Those with both foreground and background."""
        return samples.usable

    @cached_property
    def _raw(self) -> dict[str, Sentences | Questions]:
        counts = {"train": self.parameters.teacher_samples, "test": self.parameters.test_samples}
        return {split: self._first(split, count) for split, count in counts.items()}

    def _first(self, split: str, count: int | str) -> Sentences | Questions:
        """The first `count` raw samples of a split that fit `longest` pieces, or "all" of them; of
        public texts as many as there are."""
        raw, longest = self.load(split), self.parameters.longest
        tokenizer = networks.load_tokenizer(self.parameters.network)
        fitting = []
        for position, parts in enumerate(self.strings(raw)):
            if len(tokenizer(*parts, verbose=False)["input_ids"]) <= longest:
                fitting.append(position)
            if len(fitting) == count:
                return raw.subset(fitting)
        if (count == "all" or self.folder) and fitting:
            return raw.subset(fitting)
        told = f"{count} {split} samples are wanted, but only {len(fitting)} fit {longest} pieces"
        raise KpnbError(f"{told}: raise longest, or ask for fewer teacher_samples or test_samples.")


class StudySentences(StudyTexts):
    """The embedded movie-review sentences, or SST-2 from the folder `parameters.data`."""

    TITLES = ("embedded sentences", "SST-2")
    PACKED, PARTS = ("sentences", embedded.TEXT_SHA256), ("texts",)

    def load(self, split: str) -> Sentences:
        if self.folder is None:
            rating = self.parameters.least_rating
            return embedded.embedded_sentences(split, rating, seed=DATA_SEED)
        return corpora.sst2(self.folder, PUBLIC_SPLITS[split], seed=DATA_SEED)

    def encode(self, raw: Sentences) -> EncodedTexts:
        rule = corpora.sst2_foreground(self.folder) if self.folder else sentiment_foreground
        return encoded_sentences(raw, self.encoder, rule, self.parameters.longest)


class StudyQuestions(StudyTexts):
    """The embedded questions, or SQuAD v1.1 from the folder `parameters.data`."""

    TITLES = ("embedded questions", "SQuAD")
    PACKED, PARTS = ("questions", embedded.QUESTIONS_SHA256), ("questions", "contexts")

    def load(self, split: str) -> Questions:
        if self.folder is None:
            return embedded.embedded_questions(split, seed=DATA_SEED)
        return corpora.squad(self.folder, PUBLIC_SPLITS[split], seed=DATA_SEED)

    def encode(self, raw: Questions) -> EncodedTexts:
        return encoded_questions(raw, self.encoder, self.parameters.longest)


# One measurement at the start of the path is enough: on a pre-trained and an untrained encoder the
# mean difference to 128 probes and four evaluations was 0.005 and 0.003 nats, as with three.
EVALUATIONS = 1
# Word pieces that the embedded texts have in the mean, about, at the presets' `longest`, and how
# many different ones they have (those of another data set: all of BERT's).
MEAN_PIECES = {"sentence": 26, "question": 60}
DIFFERENT_PIECES, ALL_PIECES = 8400, 30522


@dataclass(frozen=True)
class TextStudy(Study):
    """Teacher T is the fine-tuned encoder; student S and baseline B are its architecture from
    scratch, with identical initial weights per seed."""

    parameters: SentimentParameters | QuestionParameters

    HEAD: ClassVar[str]
    RECIPES, UNSEEN = "text", "held out"
    SCORING_CODE = (accuracy, answer_scores, TextNetwork)
    TRAINING_CODE = (
        *TRAINERS, pretrained_network, scratch_network, tracked_weight, *SCORING_CODE,
    )  # fmt: skip
    MAPS_CODE = (TextEstimator,)
    outputs = 2  # labels of a sentence; ends of an answer

    def inputs(self, samples: EncodedTexts) -> Tensor:
        return samples.pieces.ids

    @property
    def network_name(self) -> str:
        p = self.parameters
        name = p.network if p.network in ("MiniLM-L6", *HUB) else "BERT-like encoder"
        return f"{name}, {count(p.depth, 'layer')}"

    @property
    def scale(self) -> str:
        return "full" if self.parameters.network in HUB else "narrow"

    def build(self, role: str, seed: int) -> TextNetwork:
        p = self.parameters
        make = pretrained_network if role == "T" else scratch_network
        return make(p.network, self.HEAD, self.data.encoder, p.depth, seed=seed)

    def network_key(self, role: str) -> dict:
        p = self.parameters
        key = {"network": networks.model_hash(p.network), "depth": p.depth, "task": self.HEAD}
        # Scores are stored with a network, so what it is tested on counts too.
        key |= {"tested": self.data.test_samples.source}
        # What the texts became counts, not the code that chose and encoded them.
        samples = self.data.teacher_samples if role == "T" else self.data.training_samples
        return key | {"texts": samples.digest, "pieces": len(self.data.encoder)}

    @cached_property
    def named_layers(self) -> dict[str, str]:
        net = self.build("B", 0)
        blocks = next(m for m in net.encoder.modules() if isinstance(m, nn.ModuleList))
        name = next(known for known, module in net.named_modules() if module is blocks)
        return {f"layer {number + 1}": f"{name}.{number}" for number in range(len(blocks))}

    def dotted(self, role: str, layer: str) -> str:
        return {"Last": "encoder"}.get(layer, layer)  # as TextNetwork says, without building one

    def example(self) -> tuple[int, ...]:
        p = self.parameters
        mean = MEAN_PIECES[p.SAMPLE] if p.data == EMBEDDED else p.longest
        return (min(mean, p.longest),)

    @property
    def units(self) -> int:
        return self.example()[0] - 2  # special pieces are none, and few words have several pieces

    def anatomy(self, role: str) -> Anatomy:
        p = self.parameters
        kept = DIFFERENT_PIECES if p.data == EMBEDDED else ALL_PIECES
        width, wide = ENCODERS.get(p.network, ENCODERS["MiniLM-L6"])
        return encoder_anatomy(width, wide, p.depth, self.example()[0], kept + 512, outputs=2)

    def state(self, role: str) -> dict[str, Tensor]:
        return {"all": torch.empty(self.anatomy(role).parameters, device="meta")}

    def explainer(self, layer: str, **changes: object) -> TextEstimator:
        scale = changes.pop("scale", self.parameters.noise)
        own = {"evaluations": EVALUATIONS, "relu": False}
        return TextEstimator(self.estimator(layer, own | changes), scale)

    def explain(
        self, explainer: TextEstimator, net: nn.Module, samples: EncodedTexts
    ) -> EntropyMaps:
        return explainer.explain(net, samples.pieces, progress=False)


@dataclass(frozen=True)
class SentimentStudy(TextStudy):
    """Sentences by the sign of their sentiment."""

    parameters: SentimentParameters

    DATA, HEAD = StudySentences, "sentence"

    @cached_property
    def reference_lines(self) -> dict[str, float]:
        """Held-out accuracy of the larger class and of TF-IDF with logistic regression, the latter
        trained on the teacher's sentences and on those of student and baseline."""
        data, test = self.data, self.data.test_samples
        texts = [text for (text,) in test.parts]
        found = {"majority": majority(data.teacher_samples.labels, test.labels)}
        for samples in (data.teacher_samples, data.training_samples):
            seen = [text for (text,) in samples.parts]
            score = tfidf_logistic(seen, samples.labels, texts, test.labels)
            found[f"TF-IDF, {len(samples)} sentences"] = score
        return found


@dataclass(frozen=True)
class QuestionStudy(TextStudy):
    """Questions whose answer is a span of their context."""

    parameters: QuestionParameters

    DATA, HEAD, SCORE = StudyQuestions, "span", "f1"
    reference_lines = {}

    def scores(self, net: nn.Module, samples: EncodedTexts) -> dict[str, float]:
        return answer_scores(net, samples)

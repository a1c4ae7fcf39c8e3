"""Text studies: BERT-like encoders on sentences and questions, whose units are the words."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn

from kpnb import text_recipes
from kpnb.datasets.embedded_questions import questions_hash
from kpnb.datasets.embedded_sentences import sentences_hash
from kpnb.distillation import distill_features, teacher_features, train_above
from kpnb.encoded_texts import EncodedTexts
from kpnb.entropy import EntropyEstimator, EntropyMaps
from kpnb.markdown import count
from kpnb.networks.text_models import HUB, model_hash
from kpnb.networks.text_networks import pretrained_network, scratch_network
from kpnb.networks.word_encoder import TextNetwork, tracked_weight
from kpnb.parameters import QuestionParameters, SentimentParameters
from kpnb.reference_lines import majority, tfidf_logistic
from kpnb.span_prediction import answer_scores
from kpnb.study import Study
from kpnb.study_texts import EMBEDDED, StudyTexts, question_data, sentence_data
from kpnb.text_entropy import TextEstimator
from kpnb.training import TrainingSettings, accuracy, train_classifier

# One measurement at the start of the path is enough: on a pre-trained and an untrained encoder the
# mean difference to 128 probes and four evaluations was 0.005 and 0.003 nats, as with three.
EVALUATIONS = 1
LEAST_F1 = 0.5  # a teacher that finds fewer than half of the answers has learned next to nothing


@dataclass(frozen=True)
class TextStudy(Study):
    """Teacher T is the fine-tuned encoder; student S and baseline B are its architecture from
    scratch, with identical initial weights per seed."""

    parameters: SentimentParameters | QuestionParameters

    HEAD: ClassVar[str]
    # Settings are in the store's keys, whatever recipe they come from.
    SCORING_CODE = (accuracy, answer_scores, TextNetwork)
    TRAINING_CODE = (
        train_classifier,
        distill_features,
        teacher_features,
        train_above,
        pretrained_network,
        scratch_network,
        tracked_weight,
        *SCORING_CODE,
    )
    MAPS_CODE = (TextEstimator,)

    @property
    @abstractmethod
    def data(self) -> StudyTexts: ...

    @property
    def network_name(self) -> str:
        p = self.parameters
        name = p.network if p.network in ("MiniLM-L6", *HUB) else "BERT-like encoder"
        return f"{name}, {count(p.depth, 'layer')}"

    @property
    def scale(self) -> str:
        return "full" if self.parameters.network in HUB else "narrow"

    def schedule(self, role: str, seed: int, layer: str | None = None) -> TrainingSettings:
        p = self.parameters
        if role == "T":
            return text_recipes.teacher(p.teacher_epochs, seed)
        recipe = text_recipes.distillation if role == "S" else text_recipes.baseline
        return recipe(p.epochs, seed, self.checkpoints)

    def head_schedule(self, seed: int) -> TrainingSettings:
        return text_recipes.head(self.parameters.head_epochs, seed)

    def build(self, role: str, seed: int) -> TextNetwork:
        p = self.parameters
        make = pretrained_network if role == "T" else scratch_network
        return make(p.network, self.HEAD, self.data.encoder, p.depth, seed=seed)

    def network_key(self, role: str) -> dict:
        p = self.parameters
        key = {"network": model_hash(p.network), "depth": p.depth, "task": self.HEAD}
        # Scores are stored with a network, so what it is tested on counts too.
        key |= {"tested": self.data.test_samples.source}
        # What the texts became counts, not the code that chose and encoded them.
        samples = self.data.teacher_samples if role == "T" else self.data.training_samples
        return key | {"texts": samples.digest, "pieces": len(self.data.encoder)}

    def tracked(self, net: TextNetwork, layers: Sequence[str]) -> dict[str, Tensor]:
        return {layer: tracked_weight(net) for layer in layers}

    def inputs(self, samples: EncodedTexts) -> Tensor:
        return samples.pieces.ids

    def labels(self, samples: EncodedTexts) -> Tensor:
        return samples.labels

    def explainer(self, layer: str, **changes: object) -> TextEstimator:
        p = self.parameters
        scale = changes.pop("scale", p.noise)
        estimator = EntropyEstimator(
            layer,
            method=p.method,
            probes=p.probes,
            evaluations=EVALUATIONS,
            standard_error=None,
            relu=False,
            chunk=p.chunk,
        )
        return TextEstimator(replace(estimator, **changes), scale)

    def explain(
        self, explainer: TextEstimator, net: nn.Module, samples: EncodedTexts
    ) -> EntropyMaps:
        return explainer.explain(net, samples.pieces)

    @cached_property
    def named_layers(self) -> dict[str, str]:
        net = self.build("B", 0)
        blocks = next(m for m in net.encoder.modules() if isinstance(m, nn.ModuleList))
        name = next(known for known, module in net.named_modules() if module is blocks)
        return {f"layer {number + 1}": f"{name}.{number}" for number in range(len(blocks))}


@dataclass(frozen=True)
class SentimentStudy(TextStudy):
    """Sentences by the sign of their sentiment."""

    parameters: SentimentParameters
    HEAD = "sentence"

    @cached_property
    def data(self) -> StudyTexts:
        return sentence_data(self.parameters)

    @property
    def data_hashes(self) -> dict[str, str]:
        return {"sentences": sentences_hash()}

    @property
    def dataset(self) -> str:
        p = self.parameters
        name = "embedded sentences" if p.data == EMBEDDED else "SST-2"
        return name + (" (held out)" if p.measured_on == "test" else "")

    def scores(self, net: nn.Module, samples: EncodedTexts) -> dict[str, float]:
        return {"accuracy": accuracy(net, samples.pieces.ids, samples.labels)}

    @cached_property
    def reference_lines(self) -> dict[str, float]:
        """Held-out accuracy of the larger class and of TF-IDF with logistic regression, the latter
        trained on the teacher's sentences and on those of student and baseline."""
        test = self.data.test_samples
        texts = [text for (text,) in test.parts]
        found = {"majority": majority(self.data.teacher_samples.labels, test.labels)}
        for name in ("teacher", "training"):
            samples = getattr(self.data, f"{name}_samples")
            seen = [text for (text,) in samples.parts]
            score = tfidf_logistic(seen, samples.labels, texts, test.labels)
            found[f"TF-IDF, {len(samples)} sentences"] = score
        return found

    @property
    def least_teacher(self) -> float:
        return max(self.reference_lines.values())


@dataclass(frozen=True)
class QuestionStudy(TextStudy):
    """Questions whose answer is a span of their context."""

    parameters: QuestionParameters
    HEAD = "span"
    SCORE = "f1"

    @cached_property
    def data(self) -> StudyTexts:
        return question_data(self.parameters)

    @property
    def data_hashes(self) -> dict[str, str]:
        return {"questions": questions_hash()}

    @property
    def dataset(self) -> str:
        p = self.parameters
        name = "embedded questions" if p.data == EMBEDDED else "SQuAD"
        return name + (" (held out)" if p.measured_on == "test" else "")

    def scores(self, net: nn.Module, samples: EncodedTexts) -> dict[str, float]:
        return answer_scores(net, samples)

    @property
    def reference_lines(self) -> dict[str, float]:
        return {}

    @property
    def least_teacher(self) -> float:
        return LEAST_F1

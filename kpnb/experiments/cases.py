"""The fixed set of cases that the estimator's error is measured on: network, layer, samples.

A narrow VGG-11 and a narrow ResNet-50, baselines of the image study, and a BERT encoder trained
from scratch on the embedded sentences, each after its first and its last epoch, VGG-11 and BERT in
between too; and what an earlier prototype found hardest: an untrained VGG-11 on images without
texture.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from kpnb.datasets.texts.embedded import (
    Sentences,
    embedded_sentences,
    sentences_hash,
    sentiment_words,
)
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.features import layer_name
from kpnb.estimator.word_units import TokenUnits
from kpnb.networks.second_bert import Vocabulary, text_encoder, tokens
from kpnb.store import Scratch, Store
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import ImageParameters, resolve
from kpnb.study.study import Trained, flat
from kpnb.training import recipes
from kpnb.training.record import Resume
from kpnb.training.settings import TrainingSettings
from kpnb.training.train import accuracy, train_classifier

FAMILIES = ("VGG-11", "ResNet-50", "BERT")
IMAGES, SENTENCES = 2, 6  # measured a case
# A ResNet takes four times as long: its first and its last epoch.
IMAGE_EPOCHS = {"VGG-11": (1, 10, 30), "ResNet-50": (1, 30)}
LAYERS = ("Conv", "FC1")
SMOOTHING = 16  # pixels over which the hardest case's images are averaged

TEXT_LENGTH = 16  # positions of a measured sentence, [CLS] and [SEP] included
TEXT_EPOCHS = (1, 3, 10)
# Learning rate, warm-up and clipping: found by accuracy on the test sentences, which is therefore
# a little optimistic.
TEXT_TRAINING = TrainingSettings(
    epochs=10,
    lr=0.02,
    batch_size=32,
    schedule="cosine",
    warmup_epochs=1,
    grad_clip=0.5,
    checkpoints=TEXT_EPOCHS,
)
TEXT_CODE = (train_classifier, accuracy, text_encoder, Vocabulary, embedded_sentences)


@dataclass(frozen=True)
class Case:
    """One network, layer and set of samples, ready to be explained.

    estimator: layer, units and weight of the entropy for this case; the rest at its defaults.
    foreground: (samples, units) bool. fingerprint: of the trained network.
    """

    family: str
    layer: str
    epoch: int
    smooth: bool
    net: Callable[[], nn.Module]
    inputs: Tensor
    foreground: Tensor
    estimator: EntropyEstimator
    fingerprint: str

    @property
    def name(self) -> str:
        what = "untrained, smooth" if self.smooth else f"epoch {self.epoch}"
        return f"{self.family} {self.layer}, {what}"


def cases(families: tuple[str, ...] = FAMILIES, store: Store | None = None) -> Iterator[Case]:
    """The cases of some families; their networks are trained and stored when first asked for."""
    store = store or Store()
    for family in families:
        if family == "BERT":
            yield from _text_cases(store)
        else:
            yield from _image_cases(family, store)


def _image_cases(network: str, store: Store) -> Iterator[Case]:
    given = {"preset": "study", "network": network, "seeds": [0]}
    study = ImageStudy(resolve(ImageParameters, given), store)
    trained = study.of("B", 0)
    sharp = study.data.measured.images[:IMAGES]
    chosen = [(epoch, False) for epoch in IMAGE_EPOCHS[network]]
    for epoch, smooth in [(0, True), *chosen] if network == "VGG-11" else chosen:
        for layer in LAYERS:
            estimator = EntropyEstimator(
                layer_name(study.network(trained), layer),
                study.data.units,
                entropy_weight=recipes.entropy_weight(network),
            )
            yield Case(
                network,
                layer,
                epoch,
                smooth,
                lambda epoch=epoch: study.network(trained, epoch),
                smoothed(sharp) if smooth else sharp,
                study.data.foreground[:IMAGES],
                estimator,
                trained.fingerprint,
            )


def smoothed(images: Tensor) -> Tensor:
    """Images (n, channels, height, width) without texture: averaged over squares, enlarged."""
    coarse = avg_pool2d(images, SMOOTHING)
    return interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)


def _text_cases(store: Store) -> Iterator[Case]:
    sentences, vocabulary = _training_sentences()
    trained = text_baseline(store)
    ids, foreground = _measured(sentences, vocabulary)

    def network(epoch: int) -> nn.Module:
        net = text_encoder(len(vocabulary), len(sentences.class_names))
        net.load_state_dict(trained.states[epoch])
        return net.eval()

    for epoch in TEXT_EPOCHS:
        net = network(epoch)
        for layer, name in net.layer_names.items():
            # A word's embedding has no pixel's scale: sigma is measured in its root mean square.
            units = TokenUnits(net.embedding_scale())
            yield Case(
                "BERT",
                layer,
                epoch,
                False,
                lambda epoch=epoch: network(epoch),
                ids,
                foreground,
                # A ReLU would halve a feature that BERT does not rectify. The entropy pulls at each
                # unit with 1 / units: so small a published step makes ways as fine as an image's.
                EntropyEstimator(name, units, relu=False, lr=1e-4 * TEXT_LENGTH / 256),
                trained.fingerprint,
            )


@cache
def _training_sentences() -> tuple[Sentences, Vocabulary]:
    sentences = embedded_sentences("train")
    return sentences, Vocabulary.build(sentences.texts)


def text_baseline(store: Store) -> Trained:
    """The BERT encoder trained from scratch on all training sentences, by epoch."""
    sentences, vocabulary = _training_sentences()
    test = embedded_sentences("test")

    def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
        started = time.perf_counter()
        states: dict[int, dict[str, Tensor]] = {}
        net = text_encoder(len(vocabulary), len(sentences.class_names))
        ids = vocabulary.encode(sentences.texts, 2 * TEXT_LENGTH)
        record = train_classifier(
            net,
            ids,
            sentences.labels,
            TEXT_TRAINING,
            {"Last": net.classifier.weight},
            on_checkpoint=states.__setitem__,
            resume=Resume(scratch, "training"),
        )
        unseen = vocabulary.encode(test.texts, 2 * TEXT_LENGTH)
        right = {
            "train": accuracy(net, ids, sentences.labels),
            "test": accuracy(net, unseen, test.labels),
        }
        info = {"record": record.to_info(), "accuracy": right}
        return flat(states), info | {"seconds": time.perf_counter() - started}

    key = {"task": "sentiment", "training": TEXT_TRAINING.to_info(), "length": 2 * TEXT_LENGTH}
    record = store.compute("networks", key, compute, TEXT_CODE, {"sentences": sentences_hash()})
    return Trained.from_record(record, "B", None, 0)


def _measured(sentences: Sentences, vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Ids (n, T) of sentences that fill T positions, and which of them are sentiment words."""
    lexicon, rows, marks = sentiment_words(), [], []
    for text in sentences.texts:
        words = tokens(text)[: TEXT_LENGTH - 2]
        marked = [word in lexicon for word in words]
        if len(words) == TEXT_LENGTH - 2 and any(marked):
            rows.append(text)
            marks.append([False, *marked, False])
        if len(rows) == SENTENCES:
            break
    return vocabulary.encode(rows, TEXT_LENGTH), torch.tensor(marks)

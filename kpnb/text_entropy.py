"""Entropy maps of texts: every word is an input unit, noise goes onto the word embeddings.

The estimator sees one text at a time, without padding, so neither padding nor the other texts of a
batch can change a map; the draws of noise are what fills a batch. What is added to a word is the
same noise in every network of a study, whatever its embeddings: it depends on seed, draw and the
text's piece numbers alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from kpnb.entropy import TENSORS, EntropyEstimator, EntropyMaps
from kpnb.errors import KpnbError
from kpnb.networks.layers import layer_name
from kpnb.networks.word_encoder import TextNetwork
from kpnb.progress import track
from kpnb.units import Problem
from kpnb.word_pieces import NO_WORD, Pieces


@dataclass(frozen=True)
class TextEstimator:
    """EntropyEstimator for texts.

    estimator: its settings; `units` are replaced, one text after the other. ReLU is off by
        default: no ReLU follows BERT's last hidden layer (the paper does not say; the public code,
        which is for images, puts one after every layer).
    scale: sigma is measured in `scale` times the root mean square of the network's own embedding
        components. Embeddings have sizes of their own in every network and epoch (a few hundredths
        in BERT), while the images for which init_sigma 0.01 and the target entropy -2.8 were
        published are normalized to a root mean square of about 1: with scale 1 these settings keep
        their meaning, one hundredth of a typical component.
    """

    estimator: EntropyEstimator = field(
        default_factory=lambda: EntropyEstimator("encoder", relu=False)
    )
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise KpnbError(f"scale={self.scale!r} must be a positive number.")

    @property
    def settings(self) -> dict[str, object]:
        """Every setting that changes a map, JSON-able."""
        return self.estimator.settings | {"units": "words", "scale": self.scale}

    def explain(self, net: TextNetwork, pieces: Pieces, title: str | None = None) -> EntropyMaps:
        """Maps (texts, most words of a text), NaN beyond a text's own words.

        title: of a progress bar; None for none. Raises KpnbError for networks that are no
        TextNetwork, and what `EntropyEstimator.explain` raises.
        """
        if not isinstance(net, TextNetwork):
            raise KpnbError("Texts need a TextNetwork: make one with kpnb.pretrained_network.")
        estimator = replace(self.estimator, layer=layer_name(net, self.estimator.layer))
        scale = self.scale * net.encoder.embedding_scale()
        rows = range(len(pieces)) if title is None else track(range(len(pieces)), title)
        found = [self._one(estimator, net, pieces, row, scale) for row in rows]
        return _joined(found, max(pieces.units), self.settings)

    def _one(
        self, estimator: EntropyEstimator, net: TextNetwork, pieces: Pieces, row: int, scale: float
    ) -> EntropyMaps:
        length = int((pieces.ids[row] != pieces.pad).sum())
        ids, words = pieces.ids[row : row + 1, :length], pieces.words[row, :length]
        return replace(estimator, units=WordUnits(words, scale)).explain(net, ids)


@dataclass(frozen=True, eq=False)
class WordUnits:
    """The words of one text: the pieces of a word share one sigma, special pieces take no noise.

    words: (T,) the word of each position, NO_WORD for special pieces; scale: what sigma is measured
    in, in the embeddings' own unit.
    """

    words: Tensor
    scale: float

    def problem(self, model: nn.Module, inputs: Tensor) -> Problem:
        """Noise (1, T, width) to be added to the embeddings of ids (1, T).

        The tensor that takes the noise is not the embeddings but a mark of the ids far below
        rounding, so that equal texts get equal noise in all networks (kpnb.noise).
        """
        device = next(model.parameters()).device
        ids = inputs.to(device)
        with torch.no_grad():
            embeddings = model.encoder.embed(ids)
        mark = torch.zeros_like(embeddings)
        mark[..., 0] = ids * 2.0**-60

        def forward(noisy: Tensor, samples: Tensor) -> object:
            added = (noisy - mark) * self.scale
            states = model.encoder(ids.expand(len(noisy), -1), embeddings + added)
            return model.head(states)

        return Problem(mark, forward)

    def count(self, x: Tensor) -> int:
        return int(self.words.max()) + 1

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        held = (self.words != NO_WORD).to(x.device)
        spread = values[:, self.words.clamp(min=0).to(x.device)] * held
        return spread.unsqueeze(-1)  # (rows, T, 1)

    def gather(self, components: Tensor) -> Tensor:
        sums, words = components.sum(-1), self.words.to(components.device)
        held = words != NO_WORD
        whole = sums.new_zeros(len(sums), self.count(components))
        return whole.index_add(1, words[held], sums[:, held])

    def __str__(self) -> str:
        return "words"


def _joined(found: list[EntropyMaps], most: int, settings: dict[str, object]) -> EntropyMaps:
    parts: dict[str, Tensor] = {}
    for name in TENSORS:
        tensors = [getattr(maps, name) for maps in found]
        if tensors[0].ndim == 2:
            pad = torch.nn.functional.pad
            tensors = [pad(t, (0, most - t.shape[1]), value=torch.nan) for t in tensors]
        parts[name] = torch.cat(tensors)
    return EntropyMaps(**parts, settings=settings)

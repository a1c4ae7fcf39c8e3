"""Words as input units: noise on the word embeddings, one sigma for all components of a word."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kpnb.errors import KpnbError
from kpnb.estimator.units import Problem
from kpnb.networks.second_bert import PAD


@dataclass(frozen=True)
class TokenUnits:
    """Every position of a sentence is a unit, [CLS] and [SEP] included.

    For encoders with `embed(ids)` and `forward_embedded(embeddings, mask)`, such as `text_encoder`
    makes. Noise is added to the word embeddings (n, T, width); the components of a position share
    one sigma, the noise of each is independent. All sentences have T words and none is padded.

    scale: what sigma is measured in; 1 leaves it in the embeddings' own unit. Their size is a few
    hundredths in BERT, near the bounds that the estimator sets to sigma, and differs from network
    to network: with scale=net.embedding_scale(), a sigma of 0.01 is one hundredth of it.
    Raises KpnbError for a scale that is not a positive number.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise KpnbError(f"TokenUnits(scale={self.scale!r}) needs a positive number.")

    def problem(self, model: nn.Module, inputs: Tensor) -> Problem:
        """The embeddings of ids (n, T) over `scale`; KpnbError for other inputs and padding."""
        if not all(hasattr(model, name) for name in ("embed", "forward_embedded")):
            raise KpnbError(
                "TokenUnits needs an encoder with embed and forward_embedded, such as text_encoder "
                "makes."
            )
        ids = _ids(inputs)
        with torch.no_grad():
            embeddings = model.embed(ids.to(next(model.parameters()).device))

        def forward(noisy: Tensor, samples: Tensor) -> object:
            mask = torch.ones(noisy.shape[:-1], dtype=torch.bool, device=noisy.device)
            return model.forward_embedded(noisy * self.scale, mask)

        return Problem(embeddings / self.scale, forward)

    def count(self, x: Tensor) -> int:
        return x.shape[1]

    def spread(self, values: Tensor, x: Tensor) -> Tensor:
        return values.unsqueeze(-1)  # (rows, T, 1)

    def gather(self, components: Tensor) -> Tensor:
        return components.sum(-1)


def _ids(inputs: object) -> Tensor:
    """`inputs` as ids (n, T), once it is sure that every position holds a word."""
    if isinstance(inputs, list | tuple) and len({len(row) for row in inputs}) > 1:
        raise KpnbError("The sentences differ in length: select or cut them to one length.")
    if not isinstance(inputs, Tensor) or inputs.ndim != 2 or inputs.dtype != torch.int64:
        raise KpnbError("TokenUnits needs word ids (n, T) as one torch.int64 tensor.")
    if bool((inputs == PAD).any()):
        raise KpnbError("The ids hold padding: select or cut the sentences to one length.")
    return inputs

"""The timings of a text encoder: `kpnb.run.planning.throughput_tasks` on random word pieces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from kpnb.datasets.texts.words import NO_WORD, Pieces
from kpnb.networks.text import scratch_network
from kpnb.run.planning.throughput_tasks import Case
from kpnb.study.text import TextEstimator
from kpnb.training.recipes import recipe
from kpnb.training.settings import TrainingSettings

VOCABULARY = 1000  # how many pieces there are costs next to nothing but memory


@dataclass(frozen=True)
class _Numbers:
    """In the place of a `PieceEncoder`: what a network asks of it."""

    pad: int = 0
    separator: int = 1

    def __len__(self) -> int:
        return VOCABULARY


class TextCase(Case):
    """Texts of equal length, every piece a word but for the two special ones."""

    def build(self) -> nn.Module:
        net = scratch_network(self.net.network, "sentence", _Numbers(), self.net.depth)
        return net.to(self.effort.device)

    def inputs(self, count: int) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(2, VOCABULARY, (count, self.net.size), generator=generator)
        ids[:, -1] = _Numbers.separator
        return ids.to(self.effort.device)

    def settings(self, role: str = "T") -> TrainingSettings:
        found = recipe("text", role, 1, 0)
        effort = self.effort
        return replace(found, batch_size=effort.batch, autocast=effort.autocast, checkpoints=())

    def explaining(
        self, net: nn.Module, layer: str, probes: int, count: int
    ) -> Callable[[], object]:
        """Texts are explained one by one, so a few show what one costs."""
        ids = self.inputs(count).cpu()
        words = torch.arange(self.net.size) - 1
        words[[0, -1]] = NO_WORD
        units = self.net.size - 2
        spans = ((((0, 1),) * units),) * count
        given = ids, words.repeat(count, 1), spans, (units,) * count, _Numbers.pad
        estimator = replace(self.estimator(net, layer, probes), relu=False)
        return lambda: TextEstimator(estimator).explain(net, Pieces(*given))

"""A BERT-like encoder on word pieces, and the networks for sentences and questions on top of it."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from kpnb.errors import KpnbError

# Rows of one pass through the encoder while lengths differ: long texts do not pad the short ones.
BUCKET = 8


class WordEncoder(nn.Module):
    """Any encoder of transformers that takes `inputs_embeds`: ids (n, T) -> last hidden states.

    model: the encoder; a pooler is taken off. padding, separator: ids of the padding and of the
    piece that ends a part. Attention leaves out padding, and the states there are zero, which no
    layer norm gives, so that what comes after knows padding too.
    """

    def __init__(self, model: nn.Module, padding: int, separator: int) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None
        self.model, self.padding, self.separator = model, padding, separator

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    def embed(self, ids: Tensor) -> Tensor:
        """(n, T, width): the word-piece embeddings alone, before position and normalization."""
        return self.model.get_input_embeddings()(ids)

    def embedding_scale(self) -> float:
        """Root mean square of the components of all pieces' embeddings, padding left out."""
        table = self.model.get_input_embeddings().weight.detach()
        known = torch.arange(len(table), device=table.device) != self.padding
        return table[known].double().square().mean().sqrt().item()

    def forward(self, ids: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """(n, T, width) last hidden states, 0 at padding.

        embeddings: (n, T, width) in place of `embed(ids)`, perhaps with noise; ids then only say
        where padding and separators are.
        """
        self._check(ids)
        lengths = (ids != self.padding).sum(1)
        embeddings = self.embed(ids) if embeddings is None else embeddings
        buckets = self._buckets(lengths)
        if len(buckets) == 1:
            return self._run(ids, embeddings)
        states = [self._run(ids[rows], embeddings[rows]) for rows in buckets]
        return torch.cat(states)[torch.cat(buckets).argsort()]

    def _buckets(self, lengths: Tensor) -> list[Tensor]:
        """Rows of similar length together; all in one bucket where that saves nothing."""
        order = lengths.argsort(stable=True)
        on_gpu = lengths.device.type != "cpu"  # there one large pass beats several small ones
        if on_gpu or lengths[order[0]] == lengths[order[-1]]:
            return [torch.arange(len(lengths), device=lengths.device)]
        return list(order.split(BUCKET))

    def _run(self, ids: Tensor, embeddings: Tensor) -> Tensor:
        """States of one bucket, computed no wider than its longest text."""
        mask = ids != self.padding
        longest, whole = int(mask.sum(1).max()), ids.shape[1]
        ids, embeddings, mask = ids[:, :longest], embeddings[:, :longest], mask[:, :longest]
        given = {"attention_mask": None if bool(mask.all()) else mask.long()}
        if getattr(self.model.config, "type_vocab_size", 0) > 1:
            given["token_type_ids"] = self._parts(ids, mask)
        states = self.model(inputs_embeds=embeddings, **given).last_hidden_state
        states = states if given["attention_mask"] is None else states * mask.unsqueeze(-1)
        return pad(states, (0, 0, 0, whole - longest))

    def _parts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """0 up to the first separator, 1 after it."""
        ends = (ids == self.separator).long()
        return ((ends.cumsum(1) - ends).clamp(max=1) * mask).long()

    def _check(self, ids: Tensor) -> None:
        longest = getattr(self.model.config, "max_position_embeddings", ids.numel())
        if ids.dim() != 2 or ids.dtype != torch.int64 or not 0 < ids.shape[1] <= longest:
            raise KpnbError(
                f"An input of shape {tuple(ids.shape)} and {ids.dtype} does not fit this encoder: "
                f"pass word-piece ids (n, T) as torch.int64 with T of at most {longest}."
            )


class SentenceHead(nn.Module):
    """Logits (n, classes) from the pooled states, by BERT's pooler and a linear map.

    pooling: "mean" over all pieces of the text, or "first", the state of the first piece as in
        BERT. MiniLM was trained with the mean; the state of its first piece hardly depends on the
        text at all (over 32 sentences its components vary by 0.0005 after three layers).
    """

    def __init__(self, width: int, classes: int, dropout: float, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.pooler = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(width, classes)

    def forward(self, states: Tensor) -> Tensor:
        if self.pooling == "first":
            pooled = states[:, 0]
        else:
            count = (states != 0).any(-1).sum(1, keepdim=True)
            pooled = states.sum(1) / count
        return self.classifier(self.dropout(self.pooler(pooled).tanh()))


class SpanHead(nn.Module):
    """Logits (n, T, 2) of every position to be the first and the last of the answer.

    Padding cannot be either. The positions are the classes of a cross-entropy: labels are (n, 2).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.ends = nn.Linear(width, 2)

    def forward(self, states: Tensor) -> Tensor:
        padding = (states == 0).all(-1, keepdim=True)
        return self.ends(self.dropout(states)).masked_fill(padding, -torch.inf)


class TextNetwork(nn.Sequential):
    """Encoder and head as a chain; ids (n, T) -> logits.

    layer_names: "Last" is the encoder itself, whose output is the last hidden layer.
    """

    def __init__(self, encoder: WordEncoder, head: nn.Module) -> None:
        super().__init__(OrderedDict(encoder=encoder, head=head))
        self.layer_names = {"Last": "encoder"}


def tracked_weight(net: TextNetwork) -> nn.Parameter:
    """The weight whose movement Eq. 8 measures: the last linear map of the encoder's last layer,
    which writes the last hidden state (as the public code takes the weight of the target layer)."""
    linear = [module for module in net.encoder.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise KpnbError("The encoder has no linear map whose weight could be tracked.")
    return linear[-1].weight

"""Words as input units: noise on the embeddings of a text's pieces, in kpnb's own text networks and
in any model of transformers."""

import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kpnb.datasets.texts.aligned import AlignedText
from kpnb.datasets.texts.word_pieces import NO_WORD, PieceEncoder
from kpnb.errors import KpnbError
from kpnb.estimator.units import Problem
from kpnb.networks.text import TextNetwork


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
        rounding, so that equal texts get equal noise in all networks (kpnb.estimator.perturbation).
        """
        device = next(model.parameters()).device
        ids = inputs.to(device)
        with torch.no_grad():
            embeddings = model.encoder.embed(ids)
        mark = _marked(torch.zeros_like(embeddings), ids)

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


@dataclass(frozen=True, eq=False)
class OwnWords(WordUnits):
    """The words of one text for a model of transformers: the noise is added to what its input
    embeddings give; all else is the model's own forward pass, attention mask and head included.

    given: what the model takes of the text, (1, T) each by name.
    """

    given: Mapping[str, Tensor]

    def problem(self, model: nn.Module, inputs: Tensor) -> Problem:
        """As for WordUnits; KpnbError for a model that does not read its embeddings once a pass."""
        table = _table(model).weight
        known = inspect.signature(model.forward).parameters  # of DistilBERT no token_type_ids
        names = [name for name in self.given if name in known or "input_ids" not in known]
        given = {name: self.given[name].to(table.device) for name in names}
        mark = _marked(table.new_zeros(*inputs.shape, table.shape[1]), inputs)

        def forward(noisy: Tensor, samples: Tensor) -> object:
            rows = {name: tensor.expand(len(noisy), -1) for name, tensor in given.items()}
            with _added(model, (noisy - mark) * self.scale):
                return model(**rows)

        return Problem(mark, forward)


def word_units(net: nn.Module, text: AlignedText, scale: float) -> WordUnits:
    """The words of a text for a TextNetwork or a model of transformers."""
    if isinstance(net, TextNetwork):
        return WordUnits(text.words, scale)
    table, ids = _table(net).weight, text.inputs["input_ids"]
    if ids.max() >= len(table):
        raise KpnbError(f"the model has no piece {int(ids.max())}: pass the model's own tokenizer.")
    return OwnWords(text.words, scale, text.inputs)


def component_size(net: nn.Module) -> float:
    """Root mean square of the components of all pieces' embeddings, padding left out."""
    if isinstance(net, TextNetwork):
        return net.encoder.embedding_scale()
    table = _table(net)
    known = [row for row in range(len(table.weight)) if row != getattr(table, "padding_idx", None)]
    return table.weight.detach()[known].double().square().mean().sqrt().item()


def encoder_of(net: TextNetwork, tokenizer: object) -> PieceEncoder:
    """Who makes the ids of a TextNetwork; KpnbError for a tokenizer with other pieces."""
    rows = len(_table(net.encoder.model).weight)
    if getattr(tokenizer, "is_fast", False):
        tokenizer = PieceEncoder(tokenizer)
    if not isinstance(tokenizer, PieceEncoder) or len(tokenizer) != rows:
        raise KpnbError(f"this network has {rows} pieces: pass the PieceEncoder that made them.")
    return tokenizer


def own_tokenizer(model: nn.Module, tokenizer: object = None) -> object:
    """The tokenizer given, or the one that lies with the model; KpnbError where there is none, and
    for what is no text model."""
    _table(model)
    if tokenizer is not None:
        return tokenizer
    from transformers import AutoTokenizer  # seconds to import

    name = getattr(model, "name_or_path", "")
    try:
        found = AutoTokenizer.from_pretrained(name)
        if len(found) > len(found.all_special_ids):  # else made up from the configuration
            return found
    except Exception:  # of many kinds, by what the folder lacks
        pass
    raise KpnbError(f"name_or_path {name!r} gives no tokenizer: pass the model's own as tokenizer.")


def _table(model: nn.Module) -> nn.Module:
    """The module that gives the pieces' embeddings; KpnbError for models without one."""
    table = getattr(model, "get_input_embeddings", lambda: None)()
    if getattr(getattr(table, "weight", None), "ndim", 0) != 2:
        raise KpnbError(
            f"{type(model).__name__} has no table of word-piece embeddings: texts need a "
            "TextNetwork or a text model of transformers (get_input_embeddings)."
        )
    return table


def _marked(mark: Tensor, ids: Tensor) -> Tensor:
    """Zeros (1, T, width) that say which pieces a text has, far below rounding."""
    mark[..., 0] = ids * 2.0**-60
    return mark


@contextmanager
def _added(model: nn.Module, noise: Tensor) -> Iterator[None]:
    """Inside, one forward pass of this thread has `noise` on its input embeddings, and classifiers
    that read a row's last piece take several rows without padding (GPT-2 has none)."""
    owner, calls, config = threading.get_ident(), [], getattr(model, "config", None)

    def add(module: nn.Module, args: object, output: Tensor) -> Tensor | None:
        if threading.get_ident() == owner:
            calls.append(module)
            return output + noise if len(calls) == 1 else None

    # T5 reads another module with the same weights. Before other hooks: it may be the layer.
    table = _table(model)
    alike = [m for m in model.modules() if type(m) is type(table) and m.weight is table.weight]
    handles = [module.register_forward_hook(add, prepend=True) for module in alike]
    unpadded = getattr(config, "pad_token_id", 0) is None
    try:
        if unpadded:
            config.pad_token_id = -1  # the number of no piece
        yield
    finally:
        for handle in handles:
            handle.remove()
        if unpadded:
            config.pad_token_id = None
    if len(calls) != 1:
        raise KpnbError(
            f"{type(model).__name__} reads its input embeddings {len(calls)} times in a forward "
            "pass: pass a part of it that does so once, such as model.get_encoder()."
        )

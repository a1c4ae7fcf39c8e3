"""The book's page of recipes is run, each recipe's code as it stands there, on random weights; what
it finds is held against what must be so."""

import ast
import re
import warnings
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from quick import Applied
from torch import nn

from kpnb.estimator.entropy import LADDER, EntropyEstimator, EntropyMaps
from kpnb.estimator.units import GridUnits, MaskUnits

PAGE = Path(__file__).resolve().parents[2] / "book" / "recipes.md"
GRID = GridUnits(8)


def recipes():
    """Heading -> code of the page's sections; what stands before them under ""."""
    parts = re.split(r"^#+ (.*)\n", PAGE.read_text(encoding="utf-8"), flags=re.M)[1:]
    code = ["\n".join(re.findall(r"```python\n(.*?)```", text, re.S)) for text in parts[1::2]]
    return dict(zip(["", *parts[2::2]], code, strict=True))


def state(net):
    """All that must come back: weights, buffers, modes, flags, hooks."""
    tensors = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    modes = [(m.training, len(m._forward_hooks), len(m._buffers)) for m in net.modules()]
    return tensors, modes, [p.requires_grad for p in net.parameters()]


def run(code, names):
    """Statement by statement; the network is as it was after each that explains it."""
    for statement in ast.parse(code).body:
        before = state(names["net"]) if ".explain(" in ast.unparse(statement) else None
        exec(compile(ast.Module([statement], []), PAGE.name, "exec"), names)
        if before:
            tensors, *rest = state(names["net"])
            assert rest == list(before[1:]) and tensors.keys() == before[0].keys()
            assert all(torch.equal(tensors[name], before[0][name]) for name in tensors)


def same(found, expected, atol=1e-4):
    torch.testing.assert_close(found.entropy, expected.entropy, rtol=0, atol=atol)


# What must be so


def layers_by_name_and_by_module(at):
    assert list(at["several"]) == ["layer1", "layer2"]
    same(at["several"]["layer2"], at["maps"])
    assert (at["several"]["layer1"].entropy - at["maps"].entropy).abs().mean() > 0.01
    assert len(at["picture"].axes) >= 4


def pictures_are_what_the_transform_makes_of_them(at):
    made = torch.stack([at["prepare"](Image.open(path)) for path in at["paths"]])
    assert made.shape == (2, 3, 64, 64)
    same(at["maps"], at["estimator"].explain(at["net"], made))


def the_class_token_is_what_the_head_takes(at):
    at["net"].heads = nn.Identity()
    same(at["maps"], EntropyEstimator(None, GRID, relu=False).explain(at["net"], at["images"]))


def a_window_shows_its_own_cells_and_none_beyond_the_shifted_window(at):
    """Four tokens are two cells; the next four tokens take part in the shifted window."""
    entropy, own, half = at["maps"].grid(), torch.arange(8) < 2, torch.arange(8) < 4
    own, half = own[:, None] & own, half[:, None] & half
    assert (entropy[:, own].amax(1) < entropy[:, ~own].amin(1) - 0.5).all()
    largest = entropy.amax((1, 2))[:, None].expand(2, 48)
    torch.testing.assert_close(entropy[:, ~half], largest)


def the_output_is_its_logits(at):
    def logits(x):
        return at["net"].eval()(x, interpolate_pos_encoding=True).logits

    same(at["maps"], at["estimator"].explain(logits, at["images"]))


def points_that_are_not_real_have_the_largest_entropy(at):
    entropy = at["maps"].entropy
    assert entropy.shape == (2, 40)
    padding, largest = entropy[1, 30:], entropy[1].max()
    torch.testing.assert_close(padding, largest.expand(10), rtol=0, atol=0.01)
    assert largest - entropy[1].min() > 0.3 and entropy[0, 30:].min() < entropy[0].max() - 0.3


def steps_that_the_network_does_not_look_at_have_the_largest_entropy(at):
    """The last 12 of 53 steps of two inputs each begin at input 82."""
    for entropy in at["maps"].entropy:
        torch.testing.assert_close(entropy[:8], entropy.max().expand(8))
        assert entropy[8:].max() < entropy[0]


def silence_takes_no_noise(at):
    """A network that does not hear it gives the same."""
    live = torch.arange(4000) < 3200
    deaf = nn.Sequential(Applied(lambda x: x * live), *at["net"])
    assert at["maps"].sigma.shape == (2, 8)
    same(at["maps"], EntropyEstimator("4", MaskUnits(at["pieces"])).explain(deaf, at["sound"]))


CHECKS = {
    "A convolutional network of torchvision": layers_by_name_and_by_module,
    "Pictures from files": pictures_are_what_the_transform_makes_of_them,
    "A vision transformer: its class token": the_class_token_is_what_the_head_takes,
    "Swin": a_window_shows_its_own_cells_and_none_beyond_the_shifted_window,
    "A network of Hugging Face": the_output_is_its_logits,
    "timm": lambda at: None,
    "A point network of your own": points_that_are_not_real_have_the_largest_entropy,
    "A time series": steps_that_the_network_does_not_look_at_have_the_largest_entropy,
    "Sound": silence_takes_no_noise,
}


def test_every_recipe_of_the_page_is_checked_and_the_ladder_is_what_it_says():
    assert list(recipes()) == ["", *CHECKS]
    standard, exact = (LADDER[name]["standard_error"] for name in ("standard", "exact"))
    assert f"error of {standard:g} nats" in PAGE.read_text("utf-8")
    assert f'`"exact"` {exact:g},' in PAGE.read_text("utf-8")


@pytest.mark.parametrize("name", CHECKS)
def test_a_recipe_runs_and_finds_what_must_be_so(name, tmp_path):
    if name == "timm" and not find_spec("timm"):
        pytest.skip("timm is not installed")
    torch.manual_seed(0)
    paths = [tmp_path / f"{number}.png" for number in range(2)]
    for path, size in zip(paths, ((90, 70), (64, 64)), strict=True):
        pixels = torch.randint(256, (*size, 3), dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    at = {"paths": paths}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        run(recipes()[""], at)
        run(recipes()[name], at)
    found = [at["maps"], *at.get("several", {}).values()]
    assert all(isinstance(maps, EntropyMaps) and len(maps) == 2 for maps in found)
    for maps in found:
        assert maps.entropy.isfinite().all() and maps.reached.all()
        torch.testing.assert_close(maps.mean_entropy, torch.full((2,), -2.8), rtol=0, atol=0.02)
        assert maps.entropy.std(1).min() > 0.01
    CHECKS[name](at)

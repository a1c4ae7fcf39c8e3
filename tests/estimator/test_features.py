"""Reading a layer leaves no trace in the model, whatever the model does."""

from contextlib import nullcontext

import pytest
import torch
from quick import QUICK, Applied
from reference import conv_net, images
from refusals import refuses
from torch import nn
from torch.nn import functional

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import METHODS, EntropyEstimator
from kpnb.estimator.features import FeatureReader, layer_module, layer_name


@pytest.fixture(autouse=True)
def same_weights_every_time():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Net(nn.Module):
    """Dropout, batch normalization, in-place ReLU, an unused layer, modes that differ."""

    def __init__(self, fail=False):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4 * 64, 5)
        self.unused = nn.Linear(2, 2)
        self.fail = fail
        self.again = nn.Sequential(self.norm)  # a module with two parents of different modes
        self.train()
        self.norm.eval()
        self.conv.weight.requires_grad_(False)

    def forward(self, x):
        if self.fail and len(x) > 1:
            raise ArithmeticError("on purpose")
        h = functional.relu(self.norm(self.conv(x)), inplace=True)
        return self.fc(self.drop(h).flatten(1))


def state_of(model):
    """Everything a reader could leave behind."""
    hooks = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks"
    return {
        "modes": [module.training for module in model.modules()],
        "flags": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "hooks": [len(getattr(module, name)) for module in model.modules() for name in hooks],
        "tensors": {name: value.tolist() for name, value in model.state_dict().items()},
    }


@pytest.mark.parametrize("layer, fail", [("fc", False), ("fc", True), ("unused", False)])
@pytest.mark.parametrize("method", METHODS)
def test_model_inputs_and_random_state_are_as_before(method, layer, fail):
    """Also after an exception."""
    model, x = Net(fail), images(3).requires_grad_(True)
    model.fc.bias.grad = torch.full_like(model.fc.bias, 0.5)
    x.grad = torch.ones_like(x)
    before, content, random_state = state_of(model), x.detach().clone(), torch.get_rng_state()
    wrong = ArithmeticError if fail else KpnbError
    with nullcontext() if (layer, fail) == ("fc", False) else pytest.raises(wrong):
        EntropyEstimator(layer, method=method, **QUICK).explain(model, x)
    assert before == state_of(model)
    assert torch.equal(random_state, torch.get_rng_state())
    assert torch.equal(x.detach(), content) and torch.equal(x.grad, torch.ones_like(x))
    assert x.requires_grad and x.is_leaf


def test_a_caller_without_gradients_gets_the_same_maps():
    model, x = conv_net(), images(2)
    estimator = EntropyEstimator("7", **QUICK)
    expected = estimator.explain(model, x).entropy
    with torch.no_grad():
        assert torch.equal(estimator.explain(model, x).entropy, expected)
        assert not torch.is_grad_enabled()
    with torch.inference_mode():
        assert torch.equal(estimator.explain(model, x.clone()).entropy, expected)
        assert torch.is_inference_mode_enabled()


def test_eval_mode_is_used():
    """Dropout that were active would change the feature from call to call."""
    model, x = Net(), images(3)
    with FeatureReader(model, "fc") as reader, torch.no_grad():
        found = [reader(lambda: model(x)) for _ in range(2)]
    model.eval()
    assert torch.equal(*found) and torch.equal(found[0], model(x))


@pytest.mark.parametrize("relu", [False, True])
def test_in_place_relu_after_the_layer_does_not_reach_the_feature_but_on_request(relu):
    net, x = conv_net(), images(2)
    with FeatureReader(net, "3", relu=relu) as reader, torch.no_grad():
        feature = reader(lambda: net(x))
    expected = net[3](net[2](net[0](x).relu()))
    torch.testing.assert_close(feature, (expected.relu() if relu else expected).flatten(1))
    assert (expected < 0).any()  # otherwise the test could not tell


def test_the_forward_pass_ends_at_the_layer_and_the_first_tensor_of_a_tuple_is_the_feature():
    """Recurrent and attention layers return tuples."""
    calls, x = [], images(2)
    model = nn.Sequential(Applied(lambda x: (x.flatten(1), x)), Applied(calls.append))
    with FeatureReader(model, "0") as reader, torch.no_grad():
        assert torch.equal(reader(lambda: model(x)), x.flatten(1))
    assert calls == []


def twins():
    """Networks that are hard to read, each with one that is the same function; their layer."""
    in_place, viewing, summing = conv_net(), conv_net(), conv_net()
    in_place.insert(0, nn.ReLU(inplace=True))
    viewing[6] = Applied(lambda x: x.view(len(x), -1))  # needs contiguous memory
    # The gradient of a sum is one number for many elements, and one place in memory.
    gray, ones = Applied(lambda x: x.sum(1, keepdim=True)), nn.Conv2d(3, 1, 1, bias=False)
    nn.init.ones_(ones.weight)
    summing[0] = nn.Conv2d(1, 6, 3, padding=1)
    return {
        "begins in place": (in_place, nn.Sequential(nn.ReLU(), *in_place[1:]), "8"),
        "views its features": (viewing, conv_net(), "7"),
        "begins with a sum": (nn.Sequential(gray, *summing), nn.Sequential(ones, *summing), "8"),
    }


@pytest.mark.parametrize("name", ["begins in place", "views its features", "begins with a sum"])
@pytest.mark.parametrize("method", METHODS)
def test_a_network_is_read_whatever_it_does(method, name):
    (net, twin, layer), x = twins()[name], images(2)
    content, estimator = x.clone(), EntropyEstimator(layer, method=method, **QUICK)
    found, known = estimator.explain(net, x).entropy, estimator.explain(twin, x).entropy
    torch.testing.assert_close(found, known, rtol=0, atol=1e-4)
    assert torch.equal(x, content) and (known != known[:1, :1]).any()


def test_labels_of_layers_are_those_of_a_dictionary():
    model = Net()
    for labels in (["fc"], None, {"FC1": "fc"}):
        model.layer_names = labels
        assert layer_name(model, "norm") == "norm" and layer_module(model, "norm") is model.norm
        if not isinstance(labels, dict):
            refuses(layer_name, "No layer 'FC1' in this network", model, "FC1")
    assert layer_name(model, "FC1") == "fc"


def test_the_end_of_a_name_is_enough_where_it_tells_one_layer_from_all_others():
    model = nn.Sequential(nn.Flatten())
    model.net, model.net.inner, model.other = Net(), Net(), nn.Sequential(nn.ReLU(), nn.ReLU())
    assert layer_name(model, "conv") == "net.conv"  # net.inner.conv lies deeper
    assert layer_name(model, "inner.conv") == "net.inner.conv"
    assert layer_name(model, "0") == "0" and layer_name(model, "1") == "other.1"
    two = nn.ModuleDict({name: nn.Sequential(nn.ReLU()) for name in "ab"})
    refuses(layer_name, r"such as \['a.0', 'b.0'\]", two, "0")
    refuses(layer_name, r"\['0', 'net', 'other', .*'other.1'\]", model, "zzzz")

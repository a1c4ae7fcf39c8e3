"""Reading a layer leaves no trace in the model, whatever the model does."""

from contextlib import nullcontext

import pytest
import torch
from quick import QUICK, Applied
from reference import conv_net, images
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
    return {
        "modes": [module.training for module in model.modules()],
        "flags": [p.requires_grad for p in model.parameters()],
        "grads": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "hooks": [
            len(getattr(module, name))
            for module in model.modules()
            for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
        ],
        "tensors": {name: value.tolist() for name, value in model.state_dict().items()},
    }


def with_gradients(model):
    for number, p in enumerate(model.parameters()):
        if p.requires_grad and number % 2:
            p.grad = torch.full_like(p, 0.5)
    return model


@pytest.mark.parametrize("layer, fail", [("fc", False), ("fc", True), ("unused", False)])
@pytest.mark.parametrize("method", METHODS)
def test_model_inputs_and_random_state_are_as_before(method, layer, fail):
    """Also after an exception."""
    model, x = with_gradients(Net(fail)), images(3).requires_grad_(True)
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


def test_the_forward_pass_ends_at_the_layer():
    calls = []
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4), Applied(calls.append))
    with FeatureReader(net, "1") as reader, torch.no_grad():
        reader(lambda: net(images(2)))
    assert calls == []


def test_a_model_that_begins_in_place_works_and_leaves_the_images_alone():
    net = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True))
    outside, x = nn.Sequential(nn.ReLU(), *net[1:]), images(2)
    content = x.clone()
    found, known = (EntropyEstimator("1", **QUICK).explain(n, x).entropy for n in (net, outside))
    assert torch.equal(x, content) and torch.equal(found, known)


def test_a_model_that_views_its_features_works():
    flat, view = conv_net(), conv_net()
    view[6] = Applied(lambda x: x.view(len(x), -1))  # needs contiguous memory
    found = [EntropyEstimator("7", **QUICK).explain(n, images(2)).entropy for n in (flat, view)]
    torch.testing.assert_close(*found, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_model_that_begins_with_a_sum_works(method):
    """The gradient of a sum is one number for many elements, and one place in memory."""
    gray = Applied(lambda x: x.sum(1, keepdim=True))
    net = nn.Sequential(gray, nn.Flatten(), nn.Linear(64, 4))
    plain = nn.Sequential(nn.Conv2d(3, 1, 1, bias=False), *net[1:])
    with torch.no_grad():
        plain[0].weight.fill_(1)
    given = {"method": method, "relu": False, **QUICK}
    found = [EntropyEstimator("2", **given).explain(n, images(2)).entropy for n in (net, plain)]
    torch.testing.assert_close(*found, rtol=0, atol=1e-4)


def test_the_first_tensor_of_a_tuple_is_the_feature():
    """Recurrent and attention layers return tuples."""
    model, x = nn.Sequential(Applied(lambda x: (x.flatten(1), x))), images(2)
    with FeatureReader(model, "0") as reader, torch.no_grad():
        assert torch.equal(reader(lambda: model(x)), x.flatten(1))


@pytest.mark.parametrize("labels", [{"FC1": "fc"}, ["fc"], None])
def test_labels_of_layers_are_those_of_a_dictionary(labels):
    model = Net()
    model.layer_names = labels
    assert layer_name(model, "norm") == "norm" and layer_module(model, "norm") is model.norm
    if isinstance(labels, dict):
        assert layer_name(model, "FC1") == "fc"
    else:
        with pytest.raises(KpnbError, match="No layer 'FC1' in this network"):
            layer_name(model, "FC1")

"""Models and inputs as people have them: they work, with the right values, or one sentence says
before the long part what does not hold; and the model is left as it was."""

import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from quick import QUICK, UNITS, Applied, explain
from reference import conv_net, images
from refusals import refused
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kpnb.errors import is_out_of_memory
from kpnb.estimator.entropy import EntropyEstimator, Stopped
from kpnb.estimator.features import FeatureReader
from kpnb.estimator.inputs import MOST_ROWS, rows_in_memory
from kpnb.estimator.maps import EntropyMaps

X = images(3)
PLAIN = explain(conv_net(), X)


def close(found, expected=PLAIN, atol=1e-4):
    torch.testing.assert_close(found.entropy, expected.entropy, rtol=0, atol=atol)


class Wrapped(nn.Module):
    """conv_net in another model, between a function before it and one behind it."""

    def __init__(self, before=None, behind=None):
        super().__init__()
        self.net = conv_net()
        self.before, self.behind = before or nn.Identity(), behind or nn.Identity()

    def forward(self, x, *more, **named):
        return self.behind(self.net(self.before(x, *more, **named)))


# What works


def test_a_layer_is_a_name_a_module_the_output_or_a_list():
    net = conv_net()
    close(explain(net, X, net[7]))
    last = explain(net, X, list(dict(net.named_children()))[-1])
    close(explain(net, X, None), last)
    found = explain(net, X, ["3", net[7]])
    assert list(found) == ["3", "7"]
    close(found["7"])
    close(found["3"], explain(net, X, "3"))


def test_layers_of_a_list_share_the_clean_passes_and_take_iterators():
    calls, ends, layers = [], [], ["net.3", "net.5", "net.7"]
    note = [Applied(lambda y, to=to: (to.append(len(y)), y)[1]) for to in (calls, ends)]
    found = explain(Wrapped(*note), iter(X.split(2)), [*layers, "7"])
    assert ends == [2, 1]  # one whole pass a batch; the others stop at the last layer
    assert list(found) == layers  # a layer by two names is one
    close(found["net.7"])
    close(found["net.3"], explain(conv_net(), X, "3"))
    each = []
    for asked in (layers, *layers):
        calls.clear()
        explain(Wrapped(*note), X, asked)
        each.append(len(calls))
    assert each[0] == sum(each[1:]) - 2 * 5  # again, alone, a pair and a gradient too


def test_a_layer_before_an_in_place_relu_is_read_as_it_was():
    """Without relu the feature has its negative part, also in the passes that check."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Flatten())
    plain = nn.Sequential(net[0], nn.ReLU(), nn.Flatten())
    close(explain(net, X, "0", relu=False), explain(plain, X, "0", relu=False))


@pytest.mark.parametrize(
    "behind, feature",
    [
        (lambda y: {"logits": y, "other": None}, "logits"),
        (lambda y: (None, [y]), lambda out: out[1][0]),
        (lambda y: (None, y), 1),
        (lambda y: y.T, lambda out: out.T),
        (lambda y: type("Output", (), {"logits": y})(), None),
    ],
)
def test_the_feature_is_taken_out_of_what_the_model_gives(behind, feature):
    found = explain(Wrapped(behind=Applied(behind)), X, None, feature=feature)
    close(found, explain(conv_net(), X, None))


def test_one_number_a_sample_is_a_feature():
    one = Wrapped(behind=Applied(lambda y: y.square().sum(1)))
    column = Wrapped(behind=Applied(lambda y: y.square().sum(1, keepdim=True)))
    close(explain(one, X, None), explain(column, X, None))


def test_sequence_first_and_windows_are_put_in_order():
    torch.manual_seed(0)
    rnn = nn.LSTM(24, 6)

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = rnn

        def forward(self, x):
            return self.rnn(x.permute(2, 0, 1, 3).flatten(2))[0][-1]

    given = {"relu": False, "feature": lambda out: out[0].transpose(0, 1)}
    found = explain(Rows(), X, "rnn", **given)
    whole = explain(lambda x: rnn(x.permute(2, 0, 1, 3).flatten(2))[0].transpose(0, 1), X, None,
                    relu=False)  # fmt: skip
    close(found, whole)
    with refused("the batch is not its"):
        explain(Rows(), X, "rnn")


def test_functions_half_weights_double_inputs_and_wrapped_models_work():
    net = conv_net()
    close(explain(lambda x: net(x), X, None), explain(net, X, None))
    close(explain(conv_net(), X.double()))
    if not torch.cuda.is_available():  # it would want the weights on all GPUs
        close(explain(nn.DataParallel(conv_net()), X, "module.7"))
    half = conv_net().half()
    found = explain(half, X.half())
    assert half[7].weight.dtype == torch.float16 and found.sigma.dtype == torch.float32
    close(found, explain(conv_net().half().float(), X.half().float()))


def test_half_weights_that_cannot_be_copied_are_refused():
    net = conv_net().half()
    net.lock = threading.Lock()
    with refused("cannot be copied .*lock.*: keep files, locks"):
        explain(net, X)


def test_a_compiled_model_stays_compiled():
    graphs = []

    def backend(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    net, compiled = conv_net(), torch.compile(conv_net(), backend=backend)
    close(explain(compiled, X, "_orig_mod.7"))
    close(explain(compiled, X, "7"))
    net.compile(backend=backend)
    close(explain(net, X))
    assert graphs == []
    compiled(X), net(X), torch.compile(conv_net(), backend=backend, fullgraph=True)(X)
    assert graphs  # how many there are for equal modules is torch's affair


def test_torchscript_gives_its_output():
    script = torch.jit.script(conv_net())
    close(explain(script, X, None), explain(conv_net(), X, None))
    for model in (script, torch.jit.trace(conv_net(), X)):
        with refused("TorchScript"):
            explain(model, X)


def test_further_arguments_travel_with_their_samples():
    scale = torch.tensor([1.0, 2.0, 0.5]).view(3, 1, 1, 1)
    both = Wrapped(Applied(lambda x, s, power=1: x * s**power))
    alone = [explain(Wrapped(Applied(lambda x, s=s: x * s)), X[i : i + 1], "net.7")
             for i, s in enumerate(scale)]  # fmt: skip
    estimator = EntropyEstimator("net.7", UNITS, probes=8, standard_error=None)
    for given in ((scale,), scale, {"s": scale, "power": 1}):
        found = estimator.explain(both, X, forward_args=given)
        close(found, EntropyMaps.joined(alone))
    with refused("forward_args"):
        explain(both, X, "net.7")


def test_loaders_lists_and_pictures_are_taken_batch_by_batch():
    close(explain(conv_net(), DataLoader(TensorDataset(X, torch.arange(3)), batch_size=2)))
    close(explain(conv_net(), iter([X[:1], X[1:]])))
    close(explain(conv_net(), list(X)))
    close(explain(conv_net(), X.numpy()))
    pictures = [Image.fromarray((255 * np.random.default_rng(i).random((8, 8, 3))).astype("uint8"))
                for i in range(3)]  # fmt: skip
    scaled = lambda p: torch.from_numpy(np.array(p)).permute(2, 0, 1) / 255 - 0.5  # noqa: E731
    tensor = torch.stack([scaled(p) for p in pictures])
    estimator = EntropyEstimator("7", UNITS, probes=8, standard_error=None)
    close(estimator.explain(conv_net(), pictures, transform=scaled), explain(conv_net(), tensor))
    for bytes_ in (pictures, (tensor * 255).byte()):
        with refused("transform="):
            explain(conv_net(), bytes_)
    for several in (["a.png", "b.png"], "a.png", [Path("a.png")]):
        with refused("names of files: open them first"):
            estimator.explain(conv_net(), several, transform=scaled)
    with refused("let it crop to one size"):
        estimator.explain(conv_net(), [pictures[0], pictures[1].resize((8, 9))], transform=scaled)


def test_maps_know_the_size_of_their_inputs_and_take_masks_of_it_alone(tmp_path):
    maps = explain(conv_net(), X)
    assert maps.settings["inputs"] == [3, 8, 8]
    mixed = explain(
        nn.Sequential(nn.AdaptiveAvgPool2d(8), conv_net()), iter([X, X[..., :7]]), "1.7"
    )
    assert "inputs" not in mixed.settings and len(mixed) == 6
    masks = torch.zeros(3, 8, 8, dtype=torch.bool)
    masks[:, :4, 2:] = True
    maps.save(tmp_path / "maps")
    for known in (maps, EntropyMaps.load(tmp_path / "maps")):
        assert torch.equal(known.foreground(masks), UNITS.foreground(masks))
        assert torch.equal(known.foreground(7 * masks.int(), label=7), UNITS.foreground(masks))
        for wrong in (masks[:2], masks[:, :, :6], masks.repeat(1, 2, 2)):
            with refused(r"the network saw \(3, 8, 8\): resize and crop"):
                known.foreground(wrong)


def test_chunk_from_memory_changes_no_map_and_is_halved_when_memory_runs_out():
    net, sizes = conv_net(), []

    def greedy(x):
        sizes.append(len(x))
        if len(x) > 9:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return x

    close(explain(Wrapped(Applied(greedy)), X, "net.7"))
    assert max(sizes) > 9 and sizes[-1] <= 9
    with FeatureReader(net, "3") as reader:
        small, large = (rows_in_memory(reader, UNITS.problem(net, torch.ones(1, 3, side, side)))
                        for side in (8, 1024))  # fmt: skip
    assert small == MOST_ROWS and 4 <= large <= 40 and large % 4 == 0


# What is refused, before the long part


class Talking(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.norm = conv_net(), nn.BatchNorm2d(3, track_running_stats=False)

    def forward(self, x):
        return self.net(self.norm(x))


class Inside(nn.Module):
    """Computes in bfloat16 and gives float32, as autocast inside a model does."""

    def __init__(self):
        super().__init__()
        self.net = conv_net()

    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return self.net(x).float()


def net_with_nan():
    net = conv_net()
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] = torch.nan
    return net


def lazily_made():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(4))


def made_for_inference():
    with torch.inference_mode():
        return conv_net()


class Cast(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = conv_net().bfloat16()

    def forward(self, x):
        return self.net(x.bfloat16())


def rounded(x):
    return (100 * x).round().flatten(1) + 0 * x.flatten(1)


def half_frozen(x):
    with torch.no_grad():
        frozen = 30 * x.flatten(1)
    return torch.cat([frozen, x.flatten(1)], 1)


REFUSED = {
    "draws at random": (lambda: Wrapped(Applied(lambda x: nn.functional.dropout(x, 0.3))), "net.7",
                        "asked twice.*dropout"),
    "rows talk": (Talking, "net.7", "alone than beside others"),
    "NaN weights": (net_with_nan, "7", r"NaN or infinite for samples \[0, 1, 2\]"),
    "rounds": (lambda: nn.Sequential(Applied(rounded)), "0", "not differentiable"),
    "parts under no_grad": (lambda: nn.Sequential(Applied(half_frozen)), "0", "not differentiable"),
    "whole numbers": (lambda: nn.Sequential(Applied(lambda x: x.flatten(1).argsort())), "0",
                      "int64, without gradient"),
    "autocast inside": (Inside, "net.7", "bfloat16, too coarse"),
    "half inside": (Cast, "net.7", "cannot be computed in float32"),
    "lazy": (lazily_made, "1", "run it once"),
    "inference mode": (made_for_inference, "7", "inference_mode"),
    "no layer": (conv_net, 1, "is no layer"),
    "another's layer": (conv_net, nn.Linear(2, 2), "no part of this network"),
    "no model": (lambda: 3, "7", "is no model"),
    "no such key": (lambda: Wrapped(behind=Applied(lambda y: {"a": y})), None, "feature="),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_hold_is_said_in_one_sentence(case):
    make, layer, message = REFUSED[case]
    with refused(message):
        explain(make(), X, layer)


@pytest.mark.parametrize("error", [NotImplementedError("no Half"), RecursionError(), ValueError()])
def test_errors_of_the_model_are_themselves(error):
    def fail(x):
        if len(x) > 3:
            raise error
        return x

    with pytest.raises(type(error)) as raised:
        explain(Wrapped(Applied(fail)), X, "net.7")
    assert raised.value is error and not is_out_of_memory(error)


# What is said afterwards


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"layer": "dead"}, "no entropy map.*relu=False"),
        ({"standard_error": 1e-9, "most_probes": 16}, "not met by 3 of 3"),
        ({"method": "published", "iterations": 2, "extra_iterations": 0}, "did not get"),
        ({}, None),
    ],
)
def test_shortcomings_are_warned_of(changes, told):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 1))
    nn.init.constant_(net[1].bias, -50.0)
    given = (net, X, "1") if changes.pop("layer", "") == "dead" else (conv_net(), X)
    if told is None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            explain(*given, **changes)
    else:
        with pytest.warns(UserWarning, match=told):
            explain(*given, **changes)


def test_another_scale_and_a_relu_on_the_output_are_warned_of():
    for scale in (255, 0.01):
        told = "standard deviation is .*scale them as in training"
        with pytest.warns(UserWarning, match=told) as caught:
            EntropyEstimator("7", UNITS, quality="fast").explain(conv_net(), scale * X)
        assert {Path(one.filename) for one in caught} == {Path(__file__)}
    for relu in (True, False):
        with warnings.catch_warnings(record=True) as caught:
            explain(conv_net(), X, None, relu=relu)
        told = [str(one.message) for one in caught]
        assert any("relu=True drops" in one for one in told) == relu


def test_ctrl_c_keeps_the_samples_that_are_finished():
    calls = []

    def pressed(x):
        calls.append(len(x))
        if len(calls) == 60:
            raise KeyboardInterrupt
        return x

    with pytest.raises(Stopped, match="first 2 samples") as stopped:
        explain(Wrapped(Applied(pressed)), X, "net.7", chunk=4)
    close(stopped.value.maps, PLAIN[:2], atol=1e-3)


def test_ctrl_c_in_a_second_layer_keeps_the_first():
    def pressed(y):
        calls.append(len(y))
        if len(calls) > 8:
            raise KeyboardInterrupt
        return y

    calls, net = [], nn.Sequential(conv_net(), Applied(lambda y: y), Applied(pressed))
    with pytest.raises(Stopped, match=r"by layer \(0\.7: 3\)") as stopped:
        explain(net, X, ["0.7", "2"])
    assert list(stopped.value.maps) == ["0.7"]
    close(stopped.value.maps["0.7"])


# The model is left as it was


class Keeping(nn.Module):
    """Counts on its way, keeps what it saw in an attribute, a list, a dictionary and a buffer."""

    def __init__(self):
        super().__init__()
        self.net, self.depth, self.last, self.seen, self.by_name = conv_net(), 0, None, [], {}
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.depth += 1
        self.calls += 1
        self.last = self.net(x)
        self.seen.append(self.last)
        self.by_name["x"] = x
        self.new = 1
        self.depth -= 1
        return self.last


def test_what_a_model_keeps_is_put_back():
    net = Keeping().train()
    close(explain(net, X, "net.7"))
    assert (net.depth, net.last, net.seen, net.by_name, net.calls.item()) == (0, None, [], {}, 0)
    assert not hasattr(net, "new") and all(module.training for module in net.modules())


@pytest.mark.parametrize("progress", (False, True))
def test_threads_share_a_model_one_after_the_other(progress):
    """Also with bars, whose lock they share: a thread that left it locked would stop all others."""
    net, found, estimator = Wrapped().train(), {}, EntropyEstimator("net.7", **QUICK)

    def work(number):
        found[number] = estimator.explain(net, X[number : number + 1], progress=progress)

    threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert sorted(found) == [0, 1, 2], "a thread failed, or waits for another"
    assert net.training and all(p.requires_grad for p in net.parameters())
    close(EntropyMaps.joined([found[number] for number in range(3)]))


def test_a_callers_autocast_changes_no_map():
    with torch.autocast("cpu", torch.bfloat16):
        found = explain(conv_net(), X)
    assert torch.equal(found.entropy, PLAIN.entropy)

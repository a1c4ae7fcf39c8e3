"""Bad input and bad settings: one clear sentence each."""

import pytest
import torch
from quick import QUICK, UNITS
from reference import conv_net, images
from torch import nn

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.units import GridUnits


def one_sentence(message):
    assert "\n" not in message and message.endswith(".") and ". " not in message
    return True


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        return self.conv(x)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat = nn.Flatten()
        self.act = nn.Tanh()
        self.fc = nn.Linear(192, 192)

    def forward(self, x):
        return self.act(self.fc(self.act(self.flat(x))))


class Words(nn.Module):
    def forward(self, x):
        return "not a tensor"


WITH_NAN = images(3)
WITH_NAN[1, 2, 3, 4] = torch.nan
REFUSED = {
    "layer called twice": (Twice(), "act", images(2), {}, "called 2 times"),
    "layer not used": (Unused(), "unused", images(2), {}, "takes no part"),
    "unknown layer": (Unused(), "convv", images(2), {}, "use one of its names, such as .*conv"),
    "the model itself": (Unused(), "", images(2), {}, "use one of its names, such as "),
    "layer without tensor": (nn.Sequential(Words()), "0", images(2), {}, "str, not a tensor"),
    "NaN image": (conv_net(), "7", WITH_NAN, {}, r"\[1\] contain"),
    "infinite image": (conv_net(), "7", images(2) / 0, {}, r"\[0, 1\] contain NaN or infinite"),
    "no images": (conv_net(), "7", images(2)[:0], {}, "no samples"),
    "integer images": (conv_net(), "7", images(2).to(torch.uint8), {}, "uint8"),
    "grid too fine": (conv_net(), "7", images(2), {"units": GridUnits(16)}, "fewer cells"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_in_one_sentence(case):
    model, layer, x, changes, message = REFUSED[case]
    with pytest.raises(KpnbError, match=message) as caught:
        EntropyEstimator(layer, **QUICK | changes).explain(model, x)
    assert one_sentence(str(caught.value))


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"method": "paht"}, "path, published, optimum, descent, reference"),
        ({"probes": 10}, "divide by 4"),
        ({"probes": 4}, "8 or more"),
        ({"chunk": 1}, "2 or more"),
        ({"draws": 0}, "1 or more"),
        ({"lr": 0.0}, "positive"),
        ({"init_sigma": -0.01}, "positive"),
        ({"entropy_weight": float("nan")}, "positive"),
        ({"standard_error": 0.0}, "positive"),
        ({"standard_error": float("nan")}, "positive"),
        ({"most_probes": 0}, "1 or more"),
        ({"reference_draws": 0}, "1 or more"),
        ({"evaluations": 0}, "1 or more"),
        ({"autocast": "float64"}, "None, 'bfloat16' or 'float16'"),
        ({"autocast": True}, "autocast=True is unknown"),
    ],
)
def test_bad_settings_are_refused_in_one_sentence(setting, message):
    with pytest.raises(KpnbError, match=message) as caught:
        EntropyEstimator("fc", **setting)
    assert one_sentence(str(caught.value))


def test_a_feature_without_gradient_is_refused_in_one_sentence():
    class Rounds(nn.Module):
        def forward(self, x):
            return (100 * x.detach()).round().flatten(1)

    with pytest.raises(KpnbError, match="not differentiable") as caught:
        EntropyEstimator("0", **QUICK).explain(nn.Sequential(Rounds()), images(2))
    assert one_sentence(str(caught.value))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_running_out_of_memory_names_the_chunk_setting(error):
    class Greedy(nn.Module):
        def forward(self, x):
            if len(x) > 4:
                raise error
            return x.flatten(1)

    estimator = EntropyEstimator("0", units=UNITS, probes=8, chunk=8, standard_error=None)
    with pytest.raises(KpnbError, match="chunk=8") as caught:
        estimator.explain(nn.Sequential(Greedy()), images(2))
    assert one_sentence(str(caught.value))
    small = EntropyEstimator("0", units=UNITS, probes=8, chunk=4, standard_error=None)
    assert small.explain(nn.Sequential(Greedy()), images(2)).defined.all()


def test_other_runtime_errors_stay_what_they_are():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        EntropyEstimator("0", **QUICK).explain(nn.Sequential(Broken()), images(2))

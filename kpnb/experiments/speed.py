"""What the methods cost: `python -m kpnb.experiments.speed`.

Ratios of times within one run, which depend on the machine much less than times do, to the plain
passes that a method is made of, to the published procedure, and to integrated gradients. Weights
are random, as what a pass costs does not depend on them, but for `cost_of_an_interval`. Times are
of the processor, or, on a machine with a GPU, of the clock.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
import torchvision
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from kpnb.errors import answered
from kpnb.estimator.closed_form import RESPONSE_DRAWS
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import FeatureReader, layer_name
from kpnb.estimator.rates import OWN, SHARED
from kpnb.estimator.units import GridUnits, MaskUnits, Units
from kpnb.fingerprint import peak_memory_mib
from kpnb.metrics.points import knowledge_points
from kpnb.metrics.results import Number, Results, estimated, measured, write_results
from kpnb.metrics.stats import bootstrap
from kpnb.networks.image import image_network
from kpnb.store import Store
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import ImageParameters, resolve
from kpnb.training.recipes import entropy_weight
from kpnb.training.settings import chosen_device

ESTIMATOR_SPEED = "estimator_speed"  # the results' name
NETWORK_SPEED = "network_speed"  # and where it ran, cpu or cuda
_IMAGES = (32, 64, 128, 256, 512)
PUBLISHED_STEPS = 60  # at least; up to 80
_CLASSES = 12
#: Networks of torchvision, and one of transformers: the layer that is read.
BERT = "bert_base"
NETWORKS = {
    "resnet18": "layer4",
    "resnet50": "layer4",
    "mobilenet_v3_large": "features",
    "vit_b_16": "encoder",
    BERT: "bert.encoder",
}
SIDE, TOKENS = 224, 64  # of an image in pixels, of a text
QUALITIES = {"cpu": ("standard", "fast"), "cuda": ("standard", "fast", "exact")}
STEPS = 50  # of integrated gradients: captum's default
_TOGETHER = {"cpu": 10, "cuda": STEPS}  # of them in one pass

_Numbers = dict[str, Number]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kpnb.experiments.speed", description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--networks", action="store_true", help="of networks at full size instead")
    chosen = parser.parse_args(arguments)

    def measure() -> None:
        what = measure_network_speed if chosen.networks else measure_estimator_speed
        found = what(chosen_device(chosen.device))
        for name, value in found.numbers.items():
            print(f"{name:58} {value.value:10.3g} {value.unit}")
        print(write_results(found))

    return answered(measure)


def measure_estimator_speed(device: torch.device) -> Results:
    """All of the benchmark as a results file."""

    def compute() -> _Numbers:
        numbers = against_published("narrow", 64, device, PUBLISHED_STEPS)
        numbers |= against_published("full", 224, device, steps=1)
        return numbers | floor(device, 20) | scaling(device) | precision(device, 8) | memory()

    settings = {"device": device.type, "threads": torch.get_num_threads()}
    code = ["measure_estimator_speed", "peak_memory_of"]
    return measured(ESTIMATOR_SPEED, settings, code, compute)


def measure_network_speed(device: torch.device) -> Results:
    """What a map costs by network and quality, and an interval of the mean N_fg by method."""

    def compute() -> _Numbers:
        numbers = {}
        for name in NETWORKS:  # each in a process of its own, for its peak of memory
            found = _alone(f"network_numbers({name!r}, {device.type!r})")
            numbers |= {told: Number(**number) for told, number in found.items()}
        return numbers | cost_of_an_interval(device)

    settings = {"device": device.type, "threads": torch.get_num_threads()}
    code = ["measure_network_speed", "network_numbers"]
    return measured(f"{NETWORK_SPEED}_{device.type}", settings, code, compute)


def network_numbers(name: str, kind: str) -> dict[str, dict]:
    """Of one of NETWORKS, one input, named "network | quality | quantity"; what a Number takes.

    kind: of device. The peak of memory is that of the quality "standard": on a CPU the process's
    with what the libraries take, on a GPU that of its tensors.
    """
    device, numbers, runs = torch.device(kind), {}, 1 if kind == "cpu" else 3
    net, x, settings = _network_of(name, device)
    with torch.no_grad():
        forward = _seconds(lambda: net(x), 5)
    for quality in QUALITIES[kind]:  # "standard" first, before others can have taken more memory
        estimator = EntropyEstimator(NETWORKS[name], quality=quality, **settings)
        maps: list[EntropyMaps] = []
        if kind == "cuda":
            torch.cuda.reset_peak_memory_stats()
        taken = _seconds(lambda e=estimator, into=maps: into.append(e.explain(net, x)), runs)
        error = float(maps[0].standard_error.mean())
        numbers |= {
            f"{name} | {quality} | forward passes": _told(taken / forward, "times"),
            f"{name} | {quality} | standard error": _told(error, "nats", "mean over units"),
        }
        if quality == "standard":
            cuda = torch.cuda.max_memory_allocated() / 2**20 if kind == "cuda" else 0
            peak = _told(cuda or peak_memory_mib(), "MiB", "peak memory")
            numbers[f"{name} | {quality} | memory"] = peak
    gradients = IntegratedGradients(net)
    given = {"target": 0, "n_steps": STEPS, "internal_batch_size": _TOGETHER[kind]}
    attributed = _seconds(lambda: gradients.attribute(x, **given)) / forward
    for quality in QUALITIES[kind]:
        ratio = numbers[f"{name} | {quality} | forward passes"]["value"] / attributed
        numbers[f"{name} | {quality} | integrated gradients"] = _told(ratio, "times")
    return numbers


def _network_of(name: str, device: torch.device) -> tuple[nn.Module, Tensor, dict]:
    """One of NETWORKS with random weights, an input, and settings of its estimator."""
    torch.manual_seed(0)  # of the weights, which take no generator
    generator, units = torch.Generator().manual_seed(1), GridUnits(16)
    if name == BERT:
        net: nn.Module = BertForSequenceClassification(BertConfig())
        # Scores from the embeddings of words (samples, width, words).
        embedded = lambda _net, given, _: ((), {"inputs_embeds": given[0].mT})  # noqa: E731
        net.register_forward_pre_hook(embedded, with_kwargs=True)
        net.register_forward_hook(lambda _net, _given, found: found.logits)
        shape, units = (1, BertConfig().hidden_size, TOKENS), MaskUnits(torch.arange(TOKENS))
    else:
        net, shape = getattr(torchvision.models, name)(weights=None), (1, 3, SIDE, SIDE)
    x = torch.randn(shape, generator=generator).to(device)
    settings: dict[str, Units | bool] = {"units": units, "relu": "vit" not in name and name != BERT}
    return net.to(device).eval(), x, settings


def cost_of_an_interval(
    device: torch.device, preset: str = "study", count: int = 60, draws: int = 96
) -> _Numbers:
    """What the mean N_fg over images costs by the published procedure and by the fast closed form,
    and its interval by both; the image study's trained VGG-11 at FC1.

    draws: of the published procedure, a step (public code: 96).
    """
    given = {"preset": preset, "seeds": [0], "device": device.type}
    study = ImageStudy(resolve(ImageParameters, given), Store())
    net, data = study.network(study.of("B", 0)), study.data
    images, foreground = data.measured.images[:count].to(device), data.foreground[:count]
    numbers, taken = {}, {}
    title, b = f"VGG-11 narrow, {len(images)} images", study.parameters.threshold
    for name, changes in {
        "published": {"method": "published", "draws": draws},
        "path, 8 probes": {"probes": 8},
    }.items():
        maps: list[EntropyMaps] = []
        explain = replace(_estimator(net), units=data.units, **changes).explain
        run = 1 if name == "published" and device.type == "cpu" else 2
        taken[name] = _seconds(lambda e=explain, into=maps: into.append(e(net, images)), run)
        found = bootstrap(knowledge_points(maps[0], foreground, b).n_fg.double().cpu().numpy())
        numbers[f"{title}: N_fg, {name}"] = estimated(found, "mean", "points")
    ratio = _ratio(taken["published"] / taken["path, 8 probes"])
    return numbers | {f"{title}: time of published / path, 8 probes": ratio}


def against_published(scale: str, side: int, device: torch.device, steps: int) -> _Numbers:
    """Time of the published procedure over that of the closed forms, one image, VGG-11 FC1.

    steps: of the published procedure that are timed; its 60 are the same step over and over.
    """
    net, images = _network(scale, device), _images(1, side, device)
    base = _estimator(net, chunk=96 if side > 100 else 256)
    short = replace(base, method="published", iterations=steps, extra_iterations=0)
    runs = 1 if side > 100 else 2  # long enough not to need a second one
    slow = _seconds(lambda: short.explain(net, images), runs) * PUBLISHED_STEPS / steps
    numbers = {}
    title = f"VGG-11 {scale}, {side} pixels"
    for name, estimator in {
        "path, 8 probes": replace(base, probes=8),
        "path, 24 probes": replace(base, probes=24),
        "optimum, 24 probes": replace(base, probes=24, method="optimum"),
    }.items():
        maps: list[EntropyMaps] = []
        fast = _seconds(lambda e=estimator, into=maps: into.append(e.explain(net, images)), runs)
        numbers[f"{title}: published / {name}"] = _ratio(slow / fast)
        error = float(maps[0].standard_error.median())
        told = f"{title}: median standard error, {name}"
        numbers[told] = Number(value=error, what="over units", unit="nats")
    return numbers


def floor(device: torch.device, count: int) -> _Numbers:
    """`path` over the plain forward and backward passes that it needs, at the same batch."""
    net, images = _network("narrow", device), _images(count, 64, device)
    estimator = _estimator(net)
    taken = _seconds(lambda: estimator.explain(net, images))
    rows = estimator.probes * len(images)
    parts = estimator.evaluations - 0.5  # the first evaluation has half the draws
    with FeatureReader(net, estimator.layer, relu=True) as reader:
        batch = images.repeat_interleave(estimator.probes, 0)
        batch = batch.to(memory_format=torch.channels_last).requires_grad_()
        with_graph = _seconds(lambda: _plain(reader, net, batch, SHARED + OWN + 1))
        with torch.no_grad():
            without = _seconds(lambda: reader(lambda: net(batch.clone())))
    plain = parts * with_graph + without * 2 * RESPONSE_DRAWS * len(images) / rows
    return {"path / its plain passes": _ratio(taken / plain)}


def _plain(reader: FeatureReader, net: nn.Module, batch: Tensor, passes: int) -> None:
    with torch.enable_grad():
        y = reader(lambda: net(batch.clone()))
        weights = torch.ones_like(y)
        for number in range(passes):
            torch.autograd.grad(y, batch, weights, retain_graph=number < passes - 1)


def scaling(device: torch.device) -> _Numbers:
    """The exponent of the cost in images."""
    net, pool = _network("narrow", device), _images(max(_IMAGES), 64, device)
    small = _estimator(net, probes=8, evaluations=1)
    taken = [_seconds(lambda n=n: small.explain(net, pool[:n]), 1) for n in _IMAGES]
    return {f"exponent in images, {_IMAGES[0]} to {_IMAGES[-1]}": _exponent(_IMAGES, taken)}


def precision(device: torch.device, count: int) -> _Numbers:
    """What mixed precision does to time and to H, on the same noise."""
    net, images = _network("narrow", device), _images(count, 64, device)
    base = _estimator(net)
    found: list[EntropyMaps] = []
    plain = _seconds(lambda: found.append(base.explain(net, images)))
    half = replace(base, autocast="bfloat16")
    mixed = _seconds(lambda: found.append(half.explain(net, images)))
    apart = (found[-1].entropy - found[0].entropy).abs().mean()
    told = {"what": "mean absolute difference", "unit": "nats", "n": count}
    return {
        "bfloat16 / float32, time": _ratio(mixed / plain),
        "bfloat16 against float32, H": Number(value=float(apart), **told),
    }


def memory() -> _Numbers:
    """Peak memory of a process with many images over that of one with few."""
    few, many = _IMAGES[0], _IMAGES[-1]
    ratio = _ratio(_alone(f"peak_memory_of({many})") / _alone(f"peak_memory_of({few})"))
    return {f"peak memory, {many} / {few} images": ratio}


def peak_memory_of(images: int) -> float:
    """MiB of this process after maps of so many images."""
    device = torch.device("cpu")
    net = _network("narrow", device)
    _estimator(net, probes=8, evaluations=1).explain(net, _images(images, 64, device))
    return peak_memory_mib()


def _alone(call: str) -> float | dict:
    """What a call of this module gives in a process of its own."""
    program = f"import json, {__spec__.name} as here; print(json.dumps(here.{call}))"
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def _network(scale: str, device: torch.device) -> nn.Module:
    return image_network("VGG-11", _CLASSES, scale).to(device).eval()


def _images(count: int, side: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, side, side, generator=generator).to(device)


def _estimator(net: nn.Module, **changes: object) -> EntropyEstimator:
    chosen = {"entropy_weight": entropy_weight("VGG-11"), "standard_error": None}
    return EntropyEstimator(layer_name(net, "FC1"), **chosen | changes)


def _seconds(work: Callable[[], object], runs: int = 2) -> float:
    """What `work` takes: the best of its runs; of several the first warms up."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    taken = []
    for _ in range(runs):
        _wait()
        started = clock()
        work()
        _wait()
        taken.append(clock() - started)
    return min(taken)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _ratio(value: float) -> Number:
    return Number(**_told(value, "times"))


def _told(value: float, unit: str, what: str = "ratio in one run") -> dict:
    return {"value": value, "what": what, "unit": unit}


def _exponent(sizes: Sequence[int], seconds: Sequence[float]) -> Number:
    slope = np.polyfit(np.log(sizes), np.log(seconds), 1)[0]
    return Number(value=float(slope), what="of cost, by least squares", n=len(sizes))


if __name__ == "__main__":
    sys.exit(main())

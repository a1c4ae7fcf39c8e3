"""How far each method is from the truth, and what it costs: `python -m kpnb.experiments.accuracy`.

The cases are fixed: network, layer, samples. A narrow VGG-11 and a narrow ResNet-50, baselines of
the image study, and a small BERT encoder, baseline of the study of sentences, each after its first
and its last epoch, VGG-11 and BERT in between too; and what an earlier prototype found hardest: an
untrained VGG-11 on images without texture.

The truth is the published path without its noise (method "reference"): the mean of two runs, half
their difference its own error. Against it stand the published procedure at three numbers of draws
and the closed form at several budgets and at its default. Cost is processor time per map.

With `--minimum` the closed form of the minimum of Eq. 3 is held against a long Monte Carlo descent
to it (method "descent"), run twice likewise: a student and its baseline of the study.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from kpnb.datasets.texts.encoded import EncodedTexts
from kpnb.datasets.texts.word_pieces import Pieces
from kpnb.errors import KEPT, answered
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import layer_name
from kpnb.estimator.units import GridUnits
from kpnb.fingerprint import track
from kpnb.metrics import results
from kpnb.metrics.points import knowledge_points
from kpnb.metrics.results import Number, Results
from kpnb.metrics.stats import bootstrap, correlation
from kpnb.networks.text import TextNetwork, scratch_network
from kpnb.paper import ROLES
from kpnb.store import Scratch, Store
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import ImageParameters, SentimentParameters, resolve
from kpnb.study.text import SentimentStudy, TextEstimator
from kpnb.training.recipes import entropy_weight

ACCURACY_NAME = "estimator_accuracy"
_MAPS_CODE = {EntropyEstimator: (EntropyEstimator, GridUnits), TextEstimator: (TextEstimator,)}
PUBLISHED_DRAWS = (6, 24, 96)
PROBE_BUDGETS = (8, 24, 72, 216)
# Draws of one of the two runs of the truth; a convolution needs fewer for the same error.
REFERENCE_DRAWS = {"Conv": 4096}
OTHER_REFERENCE_DRAWS = 8192

MINIMUM_NAME = "estimator_minimum"
MINIMUM_NETWORKS, MINIMUM_LAYER, MINIMUM_IMAGES = ("AlexNet", "VGG-11"), "FC1", 3
LONG_DESCENT = {"method": "descent", "draws": 96, "descent_iterations": 3200, "tolerance": 0.02}
MINIMUM_PROBES = (8, 24)  # of a measurement; the study's, and three times as many

FAMILIES = ("VGG-11", "ResNet-50", "BERT")
MEASURED_IMAGES, MEASURED_SENTENCES = 2, 6  # measured a case
# A ResNet takes four times as long: its first and its last epoch.
CASE_EPOCHS = {"VGG-11": (1, 10, 30), "ResNet-50": (1, 30), "BERT": (1, 3, 10)}
CASE_LAYERS = ("Conv", "FC1")
SMOOTHING = 16  # pixels over which the hardest case's images are averaged
SENTENCE_WORDS = 16  # of a measured sentence
# The study's baseline, but of a size at which thousands of draws take a minute.
ENCODER_SIZES = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 256}
SENTENCE_STUDY = {"preset": "study", "depth": 2, "fraction": 1.0, "seeds": [0]} | {
    "epochs": CASE_EPOCHS["BERT"][-1],
    "checkpoints": [0, *CASE_EPOCHS["BERT"]],
}


@dataclass(frozen=True)
class Case:
    """One network, layer and set of samples, ready to be explained.

    inputs: images, or the pieces of texts of equally many words. estimator: with the layer, units
    and weight of the entropy for this case; the rest at its defaults. foreground: (samples, units)
    bool. fingerprint: of the trained network.
    """

    family: str
    layer: str
    epoch: int
    smooth: bool
    net: Callable[[], nn.Module]
    inputs: Tensor | Pieces
    foreground: Tensor
    estimator: EntropyEstimator | TextEstimator
    fingerprint: str

    @property
    def name(self) -> str:
        what = "untrained, smooth" if self.smooth else f"epoch {self.epoch}"
        return f"{self.family} {self.layer}, {what}"

    def changed(self, **changes: object) -> EntropyEstimator | TextEstimator:
        """The case's estimator with other settings."""
        if isinstance(self.estimator, TextEstimator):
            inner = replace(self.estimator.estimator, **changes)
            return replace(self.estimator, estimator=inner)
        return replace(self.estimator, **changes)


def cases(store: Store) -> Iterator[Case]:
    """All cases; their networks are trained and stored when first asked for."""
    for family in FAMILIES:
        yield from _text_cases(store) if family == "BERT" else _image_cases(family, store)


def _image_cases(network: str, store: Store) -> Iterator[Case]:
    given = {"preset": "study", "network": network, "seeds": [0]}
    study = ImageStudy(resolve(ImageParameters, given), store)
    trained, data = study.of("B", 0), study.data
    sharp, foreground = data.measured.images[:MEASURED_IMAGES], data.foreground[:MEASURED_IMAGES]
    chosen = [(epoch, False) for epoch in CASE_EPOCHS[network]]
    for epoch, smooth in [(0, True), *chosen] if network == "VGG-11" else chosen:
        for layer in CASE_LAYERS:
            dotted, weight = layer_name(study.network(trained), layer), entropy_weight(network)
            # In the results "default": what the default was when they were measured.
            given = {"entropy_weight": weight, "quality": "exact"}
            estimator = EntropyEstimator(dotted, data.units, **given)
            net = partial(study.network, trained, epoch)
            inputs = smoothed(sharp) if smooth else sharp
            given = (net, inputs, foreground, estimator, trained.fingerprint)
            yield Case(network, layer, epoch, smooth, *given)


def smoothed(images: Tensor) -> Tensor:
    """Images (n, channels, height, width) without texture: averaged over squares, enlarged."""
    coarse = avg_pool2d(images, SMOOTHING)
    return interpolate(coarse, size=images.shape[-2:], mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class SmallSentenceStudy(SentimentStudy):
    """The study of sentences with an encoder of ENCODER_SIZES."""

    def build(self, role: str, seed: int) -> TextNetwork:
        p = self.parameters
        return scratch_network(
            p.network, self.HEAD, self.data.encoder, p.depth, 2, seed, **ENCODER_SIZES
        )

    def network_key(self, role: str) -> dict:
        return super().network_key(role) | {"sizes": ENCODER_SIZES}


def _text_cases(store: Store) -> Iterator[Case]:
    study = SmallSentenceStudy(resolve(SentimentParameters, SENTENCE_STUDY), store)
    trained, samples = study.of("B", 0), measured_sentences(study.data.training_samples)
    # The entropy pulls at each unit with 1 / units: so small a published step makes ways as fine
    # as an image's. A ReLU would halve a feature that BERT does not rectify.
    step = 1e-4 * SENTENCE_WORDS / 256
    estimator = TextEstimator(EntropyEstimator("Last", relu=False, lr=step, quality="exact"))
    given = (samples.pieces, samples.foreground, estimator, trained.fingerprint)
    for epoch in CASE_EPOCHS["BERT"]:
        yield Case("BERT", "Last", epoch, False, partial(study.network, trained, epoch), *given)


def measured_sentences(samples: EncodedTexts) -> EncodedTexts:
    """The first few sentences of SENTENCE_WORDS words with both foreground and background."""
    fitting = [row for row in samples.usable if samples.pieces.units[row] == SENTENCE_WORDS]
    return samples.subset(fitting[:MEASURED_SENTENCES])


@dataclass(frozen=True)
class Explained:
    """What one run of one method says of a case's samples."""

    maps: EntropyMaps
    seconds: float  # of processor time per map


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    program = "python -m kpnb.experiments.accuracy"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("--minimum", action="store_true", help="at the minimum of Eq. 3")
    asked = parser.parse_args(arguments)
    what = measure_minimum if asked.minimum else measure_estimator_accuracy
    return answered(lambda: print(results.write_results(what())), KEPT)


def measure_estimator_accuracy() -> Results:
    """The comparison over all cases; what is stored already is not run again."""
    store = Store()

    def compute() -> dict[str, Number]:
        numbers = {}
        for case in track(list(cases(store)), "cases"):
            found = compare_methods(case, lambda e, case=case: stored(case, e, store))
            numbers |= {f"{case.name} | {name}": value for name, value in found.items()}
        return numbers

    # The networks of the image families are those of the study; the sentences' settings are code.
    settings = resolve(ImageParameters, {"preset": "study"}).model_dump(mode="json")
    settings |= {"families": list(FAMILIES)}
    return results.measured(ACCURACY_NAME, settings, ["measure_estimator_accuracy"], compute)


def stored(case: Case, estimator: EntropyEstimator | TextEstimator, store: Store) -> Explained:
    """Maps of a case, from the store or computed now, and the processor time they took."""
    key = {"network": case.fingerprint, "epoch": case.epoch, "smooth": case.smooth}
    key |= {"samples": len(case.inputs), "estimator": estimator.settings}

    def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
        started = time.process_time()
        maps = estimator.explain(case.net(), case.inputs)
        return maps.tensors(), {"seconds": time.process_time() - started}

    record = store.compute("maps", key, compute, _MAPS_CODE[type(estimator)])
    maps = EntropyMaps(**record.tensors, settings=estimator.settings)
    return Explained(maps, record.info["seconds"] / len(case.inputs))


def compare_methods(
    case: Case, run: Callable[[EntropyEstimator | TextEstimator], Explained]
) -> dict[str, Number]:
    """Numbers of one case, named "method | quantity"; run: gives what a method finds."""
    draws = REFERENCE_DRAWS.get(case.layer, OTHER_REFERENCE_DRAWS)
    truths = [
        run(case.changed(method="reference", reference_draws=draws, seed=seed)).maps.entropy
        for seed in (0, 1)
    ]
    truth = (truths[0] + truths[1]) / 2
    apart = (truths[0] - truths[1]).abs().mean(1) / 2
    methods = {
        f"published, {n} draws": {"method": "published", "draws": n} for n in PUBLISHED_DRAWS
    }
    methods |= {f"path, {n} probes": {"probes": n, "standard_error": None} for n in PROBE_BUDGETS}
    methods |= {"path, default": {}}
    found = {name: run(case.changed(**changes)) for name, changes in methods.items()}
    numbers = {"truth | own error": _number(apart, "mean absolute error of H", "nats")}
    for name, one in found.items():
        numbers |= _against(name, one, truth, case)
    first = found[f"published, {PUBLISHED_DRAWS[-1]} draws"].maps.entropy
    apart = (run(case.changed(method="published", seed=1)).maps.entropy - first).abs().mean(1)
    numbers["published | spread"] = _number(apart, "mean absolute difference of two runs", "nats")
    return numbers


def measure_minimum() -> Results:
    """The closed form of the minimum against long descents; what is stored is not run again."""
    store = Store()

    def compute() -> dict[str, Number]:
        numbers = {}
        for name, case in track(list(_minimum_cases(store)), "cases"):
            found = compare_at_minimum(case, partial(stored, case, store=store))
            numbers |= {f"{name} | {what}": value for what, value in found.items()}
        return numbers

    settings = resolve(ImageParameters, {"preset": "study"}).model_dump(mode="json")
    settings |= {"families": list(MINIMUM_NETWORKS), "layers": [MINIMUM_LAYER]}
    return results.measured(MINIMUM_NAME, settings, ["measure_minimum"], compute)


def _minimum_cases(store: Store) -> Iterator[tuple[str, Case]]:
    """A student and its baseline of the study's first pair, after their last epoch, by name."""
    for network in MINIMUM_NETWORKS:
        study = ImageStudy(resolve(ImageParameters, {"preset": "study", "network": network}), store)
        images = study.data.measured.images[:MINIMUM_IMAGES]
        for role in "SB":
            trained = study.of(role, study.parameters.seeds[0], MINIMUM_LAYER)
            net = partial(study.network, trained, trained.final_epoch)
            dotted, weight = layer_name(net(), MINIMUM_LAYER), entropy_weight(network)
            given = {"entropy_weight": weight, "standard_error": None}  # as the study's own
            estimator = EntropyEstimator(dotted, study.data.units, **given)
            about = (network, MINIMUM_LAYER, trained.final_epoch, False, net, images)
            foreground = study.data.foreground[: len(images)]
            case = Case(*about, foreground, estimator, trained.fingerprint)
            yield f"{network} {MINIMUM_LAYER}, {ROLES[role]}", case


def compare_at_minimum(
    case: Case, run: Callable[[EntropyEstimator | TextEstimator], Explained]
) -> dict[str, Number]:
    """Numbers of one case at the minimum, as `compare_methods`; "settled": of both descents the
    share of samples whose average stood still."""
    truths = [run(case.changed(**LONG_DESCENT, seed=seed)).maps for seed in (0, 1)]
    truth = (truths[0].entropy + truths[1].entropy) / 2
    apart = (truths[0].entropy - truths[1].entropy).abs().mean(1) / 2
    settled = torch.cat([maps.reached for maps in truths]).double().mean()
    numbers = {
        "truth | own error": _number(apart, "mean absolute error of H", "nats"),
        "truth | settled": _number([settled], "share of descents that stood still"),
    }
    for probes in MINIMUM_PROBES:
        method = f"optimum, {probes} probes"
        found = run(case.changed(method="optimum", probes=probes))
        numbers |= _against(method, found, truth, case)
        known, here = (_points(h, found.maps, case) for h in (truth, found.maps.entropy))
        for name, before, now in zip(("N_fg", "N_bg"), known, here, strict=True):
            told = {"difference": now - before, "of the truth": before}
            numbers |= {f"{method} | {name} {what}": _number(values, "mean", "points")
                        for what, values in told.items()}  # fmt: skip
    return numbers


def _against(method: str, found: Explained, truth: Tensor, case: Case) -> dict[str, Number]:
    entropy = found.maps.entropy
    ranks = [correlation(a.numpy(), b.numpy()) for a, b in zip(entropy, truth, strict=True)]
    error = (entropy - truth).abs().mean(1)
    known = _points(truth, found.maps, case)
    here = _points(entropy, found.maps, case)
    numbers = {
        "error": _number(error, "mean absolute error of H", "nats"),
        "Spearman": _number(ranks, "rank correlation with the truth"),
        "N_fg error": _number((here[0] - known[0]).abs(), "mean absolute error", "points"),
        "N_bg error": _number((here[1] - known[1]).abs(), "mean absolute error", "points"),
        "N_fg of the truth": _number(known[0], "mean", "points"),
        "seconds": _number([found.seconds], "processor time per map", "s"),
    }
    if found.maps.standard_error.isfinite().all():
        told = found.maps.standard_error
        numbers["standard error"] = _number(told.mean(1), "mean over units", "nats")
        numbers["median standard error"] = _number(told.median(1).values, "over units", "nats")
    return {f"{method} | {name}": value for name, value in numbers.items()}


def _points(entropy: Tensor, maps: EntropyMaps, case: Case) -> tuple[Tensor, Tensor]:
    """(N_fg, N_bg) by sample of a map with these entropies."""
    sigma = maps.sigma * (entropy - maps.entropy).exp()
    points = knowledge_points(replace(maps, sigma=sigma), case.foreground, results.PAPER_THRESHOLD)
    return points.n_fg.double(), points.n_bg.double()


def _number(values: Tensor | list[float], what: str, unit: str = "") -> Number:
    values = torch.as_tensor(values, dtype=torch.float64)
    if len(values) == 1:
        return Number(value=float(values[0]), what=what, unit=unit, n=1)
    return results.estimated(bootstrap(values.numpy()), what, unit, len(values))


if __name__ == "__main__":
    sys.exit(main())

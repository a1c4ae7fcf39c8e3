"""`python -m kpnb.agreement`: the closed form held against the published procedure, in one run.

On trained networks of an image study, at Conv and FC1, on a few images: how far `path` is from
`published`, beside how far `published` is from itself with another seed; knowledge points counted
from either; and the ratio of their wall-clock times.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from kpnb import recipes
from kpnb.entropy import EntropyEstimator, EntropyMaps
from kpnb.errors import KpnbError
from kpnb.networks.layers import layer_name
from kpnb.parameters import ImageParameters, resolve
from kpnb.points import knowledge_points
from kpnb.provenance import Stopwatch, provenance
from kpnb.results import Number, Results, run_fingerprint, write_results
from kpnb.stats import bootstrap, correlation
from kpnb.study import ImageStudy

NAME = "estimator_check"
MODULES = ("kpnb.agreement",)
LAYERS = ("Conv", "FC1")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kpnb.agreement", description=__doc__)
    parser.add_argument("--preset", default="demo", help="whose networks are explained")
    parser.add_argument("--images", type=int, default=10, help="how many images")
    options = parser.parse_args(arguments)
    try:
        parameters = resolve(ImageParameters, {"preset": options.preset})
        print(write_results(check(ImageStudy(parameters), options.images)))
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    return 0


def check(study: ImageStudy, count: int, draws: int = 96, iterations: int = 60) -> Results:
    """The comparison on the first `count` measured images, baseline's first and last epoch.

    draws, iterations: of the published descent (defaults: public code); fewer are for tests.
    Raises KpnbError if the study measures fewer images.
    """
    most = study.parameters.samples
    if not 1 <= count <= most:
        raise KpnbError(f"images is {count}: give 1 to {most}, as many as the study measures.")
    published = {"draws": draws, "iterations": iterations}
    settings = study.parameters.model_dump(mode="json") | {"images": count} | published
    trained = study.of("B", study.parameters.seeds[0])
    images = study.images.measured.images[:count].to(study.device)
    foreground = study.images.foreground[:count]
    numbers: dict[str, Number] = {}
    with Stopwatch() as watch:
        for epoch in (1, trained.final_epoch):
            net = study.network(trained, epoch)
            for layer in LAYERS:
                found = compare_methods(net, layer, images, foreground, study, published)
                numbers |= {f"{layer}, epoch {epoch}: {name}": n for name, n in found.items()}
    used = watch.as_dict()
    return Results(
        notebook=NAME,
        preset=study.parameters.preset,
        settings=settings,
        provenance=provenance() | {"modules": list(MODULES)},
        seconds=used["seconds"],
        peak_memory_mb=used["peak_memory_mib"],
        fingerprint=run_fingerprint(settings, MODULES),
        numbers=numbers,
    )


def compare_methods(
    net: nn.Module,
    layer: str,
    images: Tensor,
    foreground: Tensor,
    study: ImageStudy,
    settings: dict[str, int],
) -> dict[str, Number]:
    """What the two methods say of one layer, and their times; see the module.

    settings: of the published descent, by the names of EntropyEstimator.
    """
    p = study.parameters
    path = EntropyEstimator(
        layer_name(net, layer),
        units=study.images.units,
        probes=p.probes,
        standard_error=None,
        entropy_weight=recipes.entropy_weight(p.network),
    )
    published = replace(path, method="published", **settings)
    first, slow = _timed(published, net, images)
    again, _ = _timed(replace(published, seed=1), net, images)
    fast_maps, fast = _timed(path, net, images)
    numbers = {
        **_agreement("path against published", fast_maps, first),
        **_agreement("published against itself, another seed", again, first),
        "seconds, published / path": _number([slow / fast], "wall-clock ratio in one run", ""),
    }
    for name, maps in (
        ("published", first),
        ("published, another seed", again),
        ("path", fast_maps),
    ):
        points = knowledge_points(maps, foreground, p.threshold)
        numbers[f"N_fg from {name}"] = _number(points.n_fg, "mean over images", "cells")
        numbers[f"N_bg from {name}"] = _number(points.n_bg, "mean over images", "cells")
    return numbers


def _timed(
    estimator: EntropyEstimator, net: nn.Module, images: Tensor
) -> tuple[EntropyMaps, float]:
    started = time.perf_counter()
    maps = estimator.explain(net, images)
    return maps, time.perf_counter() - started


def _agreement(title: str, maps: EntropyMaps, truth: EntropyMaps) -> dict[str, Number]:
    pairs = list(zip(maps.entropy.cpu(), truth.entropy.cpu(), strict=True))
    ranks = [correlation(a.numpy(), b.numpy()) for a, b in pairs]
    apart = [float((a - b).abs().mean()) for a, b in pairs]
    return {
        f"{title}: Spearman": _number(ranks, "mean over images of the rank correlation", ""),
        f"{title}: difference": _number(apart, "mean absolute difference of H", "nats"),
    }


def _number(values: Tensor | list[float], what: str, unit: str) -> Number:
    values = torch.as_tensor(values, dtype=torch.float64)
    if len(values) == 1:
        return Number(value=float(values[0]), what=what, unit=unit, n=1)
    found = bootstrap(values.numpy())
    return Number(
        value=found.value, low=found.low, high=found.high, what=what, unit=unit, n=len(values)
    )


if __name__ == "__main__":
    sys.exit(main())

"""How far each method is from the truth, and what it costs: `python -m kpnb.experiments.accuracy`.

The truth is the published path without its noise (method "reference"), twice with different
draws: their mean is the truth, half their difference its own error. Against it stand the published
procedure at three numbers of draws (twice at its own), and the closed form at several budgets and
at its default. Cost is processor time per map: what else the machine does counts little there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.units import GridUnits
from kpnb.estimator.word_units import TokenUnits
from kpnb.experiments.cases import FAMILIES, Case, cases
from kpnb.metrics.points import knowledge_points
from kpnb.metrics.provenance import Stopwatch, provenance, track
from kpnb.metrics.results import PAPER_THRESHOLD, Number, Results, run_fingerprint, write_results
from kpnb.metrics.stats import bootstrap, correlation
from kpnb.store import Scratch, Store
from kpnb.study.parameters import ImageParameters, resolve

NAME = "estimator_accuracy"
CODE = ("measure_estimator_accuracy",)
MAPS_CODE = (EntropyEstimator, GridUnits, TokenUnits)
PUBLISHED_DRAWS = (6, 24, 96)
BUDGETS = (8, 24, 72, 216)
# Draws of one of the two runs of the truth; a convolution needs fewer for the same error.
REFERENCE_DRAWS = {"Conv": 4096}
OTHER_REFERENCE_DRAWS = 8192


@dataclass(frozen=True)
class Found:
    """What one run of one method says of a case's samples."""

    maps: EntropyMaps
    seconds: float  # of processor time per map


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m kpnb.experiments.accuracy", description=__doc__
    )
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    options = parser.parse_args(arguments)
    try:
        print(write_results(measure_estimator_accuracy(tuple(options.families))))
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    return 0


def measure_estimator_accuracy(families: tuple[str, ...], store: Store | None = None) -> Results:
    """The comparison over all cases of some families; what is stored already is not run again."""
    store, numbers = store or Store(), {}
    with Stopwatch() as watch:
        for case in track(list(cases(families, store)), "cases"):
            found = compare(case, lambda e, case=case: stored(case, e, store))
            numbers |= {f"{case.name} | {name}": value for name, value in found.items()}
    # The networks of the image families are those of the study.
    settings = resolve(ImageParameters, {"preset": "study"}).model_dump(mode="json")
    settings |= {"families": list(families)}
    used = watch.as_dict()
    return Results(
        notebook=NAME,
        preset="study",
        settings=settings,
        provenance=provenance() | {"code": list(CODE)},
        seconds=used["seconds"],
        peak_memory_mb=used["peak_memory_mib"],
        fingerprint=run_fingerprint(settings, CODE),
        numbers=numbers,
    )


def stored(case: Case, estimator: EntropyEstimator, store: Store) -> Found:
    """Maps of a case, from the store or computed now, and the processor time they took."""
    key = {"network": case.fingerprint, "epoch": case.epoch, "smooth": case.smooth}
    key |= {"samples": len(case.inputs), "estimator": estimator.settings}

    def compute(scratch: Scratch) -> tuple[dict[str, Tensor], dict]:
        started = time.process_time()
        maps = estimator.explain(case.net(), case.inputs)
        return maps.tensors(), {"seconds": time.process_time() - started}

    record = store.compute("maps", key, compute, MAPS_CODE)
    maps = EntropyMaps(**record.tensors, settings=estimator.settings)
    return Found(maps, record.info["seconds"] / len(case.inputs))


def compare(case: Case, run) -> dict[str, Number]:
    """Numbers of one case, named "method | quantity"; run(estimator) -> Found."""
    base = case.estimator
    draws = REFERENCE_DRAWS.get(case.layer, OTHER_REFERENCE_DRAWS)
    truths = [
        run(replace(base, method="reference", reference_draws=draws, seed=seed)).maps.entropy
        for seed in (0, 1)
    ]
    truth = (truths[0] + truths[1]) / 2
    apart = (truths[0] - truths[1]).abs().mean(1) / 2
    numbers = {"truth | own error": _number(apart, "mean absolute error of H", "nats")}
    published = {}
    for count in PUBLISHED_DRAWS:
        found = run(replace(base, method="published", draws=count))
        published[count] = found.maps.entropy
        numbers |= _against(f"published, {count} draws", found, truth, case)
    again = run(replace(base, method="published", seed=1)).maps.entropy
    apart = (again - published[PUBLISHED_DRAWS[-1]]).abs().mean(1)
    numbers["published | spread"] = _number(apart, "mean absolute difference of two runs", "nats")
    for probes in BUDGETS:
        fixed = replace(base, probes=probes, standard_error=None)
        numbers |= _against(f"path, {probes} probes", run(fixed), truth, case)
    return numbers | _against("path, default", run(base), truth, case)


def _against(method: str, found: Found, truth: Tensor, case: Case) -> dict[str, Number]:
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
    points = knowledge_points(replace(maps, sigma=sigma), case.foreground, PAPER_THRESHOLD)
    return points.n_fg.double(), points.n_bg.double()


def _number(values: Tensor | list[float], what: str, unit: str = "") -> Number:
    values = torch.as_tensor(values, dtype=torch.float64)
    if len(values) == 1:
        return Number(value=float(values[0]), what=what, unit=unit, n=1)
    found = bootstrap(values.numpy())
    return Number(
        value=found.value, low=found.low, high=found.high, what=what, unit=unit, n=len(values)
    )


if __name__ == "__main__":
    sys.exit(main())

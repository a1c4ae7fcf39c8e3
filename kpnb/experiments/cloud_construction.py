"""How hard the point-cloud task is, by share, place, turn and kind of its parts:
`python -m kpnb.experiments.cloud_construction`.

Trains the teacher of one network for each construction and tests it on unseen shapes. The default
was chosen before, in pilots on shapes held out of the training shapes; this is a description of it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kpnb.metrics.formatting import number, table
from kpnb.metrics.provenance import Stopwatch, provenance
from kpnb.metrics.results import Number, Results, run_fingerprint, write_results
from kpnb.study.cloud import CloudStudy
from kpnb.study.parameters import CloudParameters, resolve

NAME = "pointcloud_construction"
CODE = ("measure_cloud_constructions",)
NETWORK = "PointNet++"  # the quickest of the four to train
DEFAULT = "the default"
CONSTRUCTIONS: dict[str, dict[str, float | str]] = {
    DEFAULT: {},
    "half of the background points": {"background": 62},
    "twice the background points": {"background": 250},
    "clouds one radius away": {"distance": 1.0},
    "clouds two radii away": {"distance": 2.0},
    "turned by up to 30 degrees to either side": {"turn": 60.0},
    "turned by any angle": {"turn": 360.0},
    "electronic components instead of furniture": {"shapes": "components"},
    "both kinds of shapes, 20 classes": {"shapes": "both"},
}
NOTHING = "Not run here yet."


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: measures and writes the results file."""
    parser = argparse.ArgumentParser(
        prog="python -m kpnb.experiments.cloud_construction", description=__doc__
    )
    parser.add_argument("--preset", default="study", choices=list(CloudParameters.PRESETS))
    print(write_results(measure_cloud_constructions(parser.parse_args(arguments).preset)))
    return 0


def measure_cloud_constructions(preset: str = "study") -> Results:
    """The teacher's accuracy on unseen shapes under each construction; first seed."""
    numbers, seconds = {}, 0.0
    given = {"preset": preset, "network": NETWORK, "seeds": [0]}
    with Stopwatch() as watch:
        for name, changes in CONSTRUCTIONS.items():
            study = CloudStudy(resolve(CloudParameters, given | changes))
            accuracy = study.accuracies("T")["test"][0]
            numbers[name] = Number(
                value=accuracy,
                what=f"accuracy of the teacher {NETWORK} on unseen shapes, one seed",
                n=len(study.data.test_samples),
            )
            seconds += study.stored_seconds()
    used = watch.as_dict()
    settings = {"preset": preset, "constructions": CONSTRUCTIONS}
    return Results(
        notebook=NAME,
        preset=preset,
        settings=settings,
        provenance=provenance() | {"code": list(CODE)},
        seconds=used["seconds"] + seconds,
        peak_memory_mb=used["peak_memory_mib"],
        fingerprint=run_fingerprint(settings, CODE),
        numbers=numbers,
    )


def construction_table(results: list[Results]) -> str:
    """The teacher's accuracy by construction, from the results file."""
    for run in results:
        if run.notebook == NAME:
            rows = [
                [name, number(run.numbers[name].value), str(run.numbers[name].n)]
                for name in CONSTRUCTIONS
            ]
            return table(["construction", f"teacher, {NETWORK}: accuracy", "unseen clouds"], rows)
    return NOTHING


if __name__ == "__main__":
    sys.exit(main())

"""How fast this machine is, in a minute or two: `python -m kpnb.run.machine`.

Three probes of each network, by the project's own trainer and estimator on a few samples: a
training step, a forward pass, and a row of the estimator (one noisy input) with what a map costs
beside its rows. `kpnb.run.plan` multiplies these with the work that a study counts.
"""

import argparse
import math
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, get_args, get_type_hints

import torch
from pydantic import BaseModel, Field

from kpnb.errors import KpnbError, answered, require
from kpnb.experiments.controls import ControlStudy
from kpnb.experiments.fine_tuning import FineTuningStudy
from kpnb.fingerprint import cpu_name, provenance
from kpnb.metrics.formatting import count
from kpnb.metrics.results import write_whole
from kpnb.store import Store
from kpnb.study.cloud import CloudStudy
from kpnb.study.image import CellStudy, ImageStudy
from kpnb.study.parameters import MODELS, StudyParameters, resolve
from kpnb.study.study import Study
from kpnb.study.text import QuestionStudy, SentimentStudy
from kpnb.training.costs import Anatomy
from kpnb.training.distillation import teacher_features
from kpnb.training.settings import device_use
from kpnb.training.train import train_classifier

FOLDER = Path(__file__).with_name("speeds")
RATES = ("train", "forward", "row", "fixed")
USUAL = ("AlexNet", "VGG-11", "VGG-16", "PointNet", "MiniLM-L6")
SAMPLES = 128  # of a probe, two batches of images
PROBES = (8, 24)  # two budgets of draws: their difference is what a row costs
MAPS = 8  # samples of the probe of maps
REPEATS = 3  # of what takes a moment; the least counts
#: Network that can be measured -> the beginning of the names of its notebooks.
NETWORKS: dict[str, str] = dict.fromkeys(("MiniLM-L6", "BERT-base"), "sentiment_") | {
    name: kind
    for kind in ("image_", "pointcloud_")
    for name in get_args(MODELS[kind].model_fields["network"].annotation)
}
STUDIES = (ImageStudy, CellStudy, ControlStudy, FineTuningStudy, CloudStudy)
STUDIES += (SentimentStudy, QuestionStudy)

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Speed(BaseModel, frozen=True, extra="forbid"):
    """Seconds that one network takes: a training step and a forward pass by sample, a map by row
    (`row`) and beside its rows (`fixed`). kind: of notebook ("image_"). operations, below: of a
    sample's forward pass, whole and up to the layer of the maps.
    """

    kind: str
    network: str
    precision: str
    operations: float
    below: float
    train: Seconds
    forward: Seconds
    row: Seconds
    fixed: float = Field(ge=0)


class Machine(BaseModel, frozen=True, extra="forbid"):
    """Speeds of one device ("cpu" or "cuda"); threads of torch, date in UTC, and provenance."""

    format: Literal["kpnb-speeds-2"] = "kpnb-speeds-2"
    device: str
    hardware: str
    threads: int
    date: str
    speeds: tuple[Speed, ...]
    about: dict

    def __str__(self) -> str:
        threads = f", {count(self.threads, 'thread')}" if self.device == "cpu" else ""
        return f"{self.hardware}{threads}, measured {self.date}"

    @property
    def file(self) -> str:
        """As in: cpu_amd_epyc_1_thread.json."""
        title = f"{self.device} {self}".lower().partition(", measured")[0]
        return re.sub(r"[^a-z0-9]+", "_", title) + ".json"

    def nearest(self, kind: str, network: str, precision: str, anatomy: Anatomy) -> Speed:
        """The speed of a network, or else of one of its family with a similar number of operations;
        KpnbError where no network of the kind was measured."""
        known = [speed for speed in self.speeds if speed.kind == kind]
        told = f"No {kind.rstrip('_')} network was measured on {self}"
        require(known, f"{told}: run `python -m kpnb.run.machine` there.")
        operations = anatomy.up_to("")

        def distance(speed: Speed) -> tuple:
            own, other = (re.split("[- ]", name)[0] for name in (network, speed.network))
            gap = abs(math.log(operations / speed.operations))
            return speed.network != network, speed.precision != precision, own != other, gap

        return min(known, key=distance)


def study_of(parameters: StudyParameters, store: Store | None = None) -> Study:
    """The study that a notebook makes of its parameters."""
    trains = isinstance(parameters, StudyParameters)
    told = "what a notebook trains or measures by itself has no plan"
    require(trains, f"{told}: run it; the book's page on the status has the minutes that it took.")
    own = {get_type_hints(study)["parameters"]: study for study in STUDIES}
    made = own.get(type(parameters), ImageStudy)  # coherency has parameters of its own alone
    return made(parameters, store or Store())


def named(study: Study, role: str) -> dict[str, str]:
    """What tells the `Speed` of a network of the study: its "kind", its "network", such as
    "VGG-11 (narrow), 3x64x64", and its "precision"."""
    p = study.parameters
    kind = next(kind for kind, model in MODELS.items() if isinstance(p, model))
    name = p.teacher if role == "T" and getattr(p, "teacher", "same") != "same" else p.network
    scale = p.scale if hasattr(p, "scale") else f"{p.depth} layers"
    network = f"{name} ({scale}), {'x'.join(map(str, study.example()))}"
    return {"kind": kind, "network": network, "precision": p.precision}


def seconds_now(device: str) -> float:
    """Of the processor, which does not count what else runs; of a GPU, done with its work."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def _taken(work: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """The least seconds of some repeats."""
    least = math.inf
    for _ in range(repeats):
        started = seconds_now(device.type)
        work()
        least = min(least, seconds_now(device.type) - started)
    return max(least, 1e-9)


def probe(study: Study, seconds: float = 3.0) -> Speed:
    """The three probes of the baseline's network of a study, its maps at the first layer; the
    repeats of a training step may take so many seconds, about."""
    layer = study.parameters.layers[0]
    anatomy, net = study.anatomy("B"), study.build("B", 0).to(study.device)
    with device_use(study.device, False, "lower --batch"):
        train = _training_step(study, net, seconds)
        inputs = study.inputs(study.data.teacher_samples)
        last = list(study.named_layers)[-1] if layer != "Last" else layer
        passes = _taken(lambda: teacher_features(net, last, inputs), study.device)
        rates = (train, passes / len(inputs), *_map(study, net.eval(), layer))
    counts = dict(operations=anatomy.up_to(""), below=anatomy.up_to(layer))
    return Speed(**named(study, "B"), **counts, **dict(zip(RATES, rates, strict=True)))


def _training_step(study: Study, net: torch.nn.Module, seconds: float) -> float:
    """Of a sample: a long training less one of a single epoch, which warms up."""
    samples = study.data.teacher_samples
    recipe = study.settings("B", 0)

    def taken(epochs: int) -> float:
        settings = replace(recipe, epochs=epochs, checkpoints=(), warmup_epochs=0)
        given = study.inputs(samples), study.labels(samples), settings
        return _taken(lambda: train_classifier(net, *given), study.device, 1)

    first = taken(1)
    more = max(1, min(20, round(seconds / first)))
    return max(taken(1 + more) - first, 0.1 * first) / (more * len(samples))


def _map(study: Study, net: torch.nn.Module, layer: str) -> tuple[float, float]:
    """Seconds of a row of the estimator and of a map beside its rows, from two budgets of draws."""
    samples, taken = study.data.measured, []
    for probes in PROBES:
        explainer = study.explainer(study.dotted("B", layer), probes=probes, evaluations=1)
        work = lambda e=explainer: study.explain(e, net, samples)  # noqa: E731
        taken.append(_taken(work, study.device) / len(samples))
    row = (taken[1] - taken[0]) / (PROBES[1] - PROBES[0])
    row = row if row > 0 else taken[1] / PROBES[1]  # disturbed: all of it counts as rows
    return row, max(taken[0] - row * PROBES[0], 0.0)


def probe_study(network: str, **given: object) -> Study:
    """A study of a few samples with one of `NETWORKS`, given those parameters that it has."""
    model = MODELS[NETWORKS[network]]
    asked = {"preset": "demo", "network": network, "samples": MAPS, "fraction": 1.0}
    asked |= {"teacher_samples": max(SAMPLES, 2 * (given.get("batch") or 0)), "device": "cpu"}
    asked |= {"test_samples": 20} | given  # images compose theirs when they are asked for
    return study_of(resolve(model, {n: v for n, v in asked.items() if n in model.model_fields}))


def measure_machine(studies: Sequence[Study], seconds: float = 3.0) -> Machine:
    """The speeds on the networks of some studies, which share a device; a CPU's with one thread."""
    torch.set_num_threads(1)
    about, device, found = provenance(), studies[0].device.type, []
    for study in studies:
        print(f"measuring {named(study, 'B')['network']}", file=sys.stderr, flush=True)
        found.append(probe(study, seconds))
    hardware = about["gpu" if device == "cuda" else "cpu"]
    made = dict(device=device, hardware=hardware, threads=about["threads"], about=about)
    return Machine(**made, date=datetime.now(UTC).date().isoformat(), speeds=found)


def write_machine(machine: Machine, path: Path) -> Path:
    """Write a file in one step; speeds that it had of other networks stay."""
    if path.is_file():
        again = {(s.network, s.precision) for s in machine.speeds}
        old = [s for s in read_machine(path).speeds if (s.network, s.precision) not in again]
        machine = machine.model_copy(update={"speeds": (*old, *machine.speeds)})
    return write_whole(path, machine.model_dump_json(indent=1) + "\n")


def read_machine(path: Path) -> Machine:
    """The speeds of a file; KpnbError for one that is missing, damaged or of another format."""
    try:
        return Machine.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # pydantic's are ValueErrors
        cause = f"{path} holds no speeds that can be read ({' '.join(str(error).split())})"
        raise KpnbError(f"{cause}: run `python -m kpnb.run.machine`.") from error


def machines(folder: Path = FOLDER) -> list[Machine]:
    """All machines of a folder, CPUs first; none is no error."""
    return [read_machine(path) for path in sorted(folder.glob("*.json"))]


def this_machine(device: str | None = None, folder: Path = FOLDER) -> Machine:
    """The speeds of a device ("cpu" or "cuda"; None: what this machine computes on) to plan with:
    of this hardware if it was measured, else of another. Raises KpnbError if there are none.
    """
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    device = device or ("cuda" if gpu else "cpu")
    own = cpu_name() if device == "cpu" else gpu
    known = [machine for machine in machines(folder) if machine.device == device]
    how = f"run `python -m kpnb.run.machine --device {device}` on one"
    kind = {"cuda": "GPU"}.get(device, device.upper())
    require(known, f"There are no measured speeds of a {kind} here: {how}.")
    return min(known, key=lambda machine: (machine.hardware != own, machine.threads))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kpnb.run.machine", description=__doc__)
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--networks", nargs="+", choices=NETWORKS, default=USUAL, metavar="NAME")
    add("--scale", choices=("narrow", "full"), default="narrow", help="32 or 224 pixels a side")
    add("--batch", type=int, help="samples of a training step; default: the recipes'")
    add("--precision", choices=("float32", "bfloat16"), default="float32")
    add("--output", type=Path, metavar="FILE", help="default: the package's, by device")
    options = parser.parse_args(arguments)
    return answered(lambda: _measure(options))


def _measure(options: argparse.Namespace) -> int:
    given = {name: getattr(options, name) for name in ("scale", "device", "precision", "batch")}
    given["image_size"] = {"narrow": 32, "full": 224}[options.scale]
    found = measure_machine([probe_study(name, **given) for name in options.networks])
    for speed in found.speeds:
        rates = (f"{name} {1000 * getattr(speed, name):.3g} ms" for name in RATES)
        print(speed.network, *rates, sep="  ")
    print(write_machine(found, options.output or FOLDER / found.file))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How fast this machine is, in a minute or two: `python -m kpnb.run.machine`.

Three probes of each network, by the project's own trainer and estimator on a few samples: a
training step, a forward pass, and a row of the estimator (one noisy input) with what a map costs
beside its rows; then what storing a byte and composing an image take. `kpnb.run.plan` multiplies
these with the work that a study counts. Times are of the machine, the versions and the settings
that the file names, and of no other.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import torch

from kpnb.errors import KpnbError
from kpnb.fingerprint import cpu_name, provenance
from kpnb.store import Store, write_folder
from kpnb.study.parameters import MODELS, StudyParameters, resolve
from kpnb.study.study import Study
from kpnb.training.costs import Anatomy
from kpnb.training.distillation import teacher_features
from kpnb.training.settings import device_use, with_effort
from kpnb.training.train import train_classifier

FOLDER = Path(__file__).with_name("speeds")
FORMAT = "kpnb-speeds-1"
USUAL = ("AlexNet", "VGG-11", "VGG-16", "PointNet", "MiniLM-L6")
SAMPLES = 128  # of a probe, two batches of images
PROBES = (8, 24)  # two budgets of draws: their difference is what a row costs
MAPS = 8  # samples of the probe of maps
STORED = (64 * 1024, 16 * 1024**2)  # bytes of two folders: their difference is what a byte costs
COMPOSED = 100  # images
STUDIES = {
    "ImageParameters": "kpnb.study.image.ImageStudy",
    "CellParameters": "kpnb.study.image.CellStudy",
    "CoherencyParameters": "kpnb.study.image.ImageStudy",
    "FineTuningParameters": "kpnb.experiments.fine_tuning.FineTuningStudy",
    "CloudParameters": "kpnb.study.cloud.CloudStudy",
    "SentimentParameters": "kpnb.study.text.SentimentStudy",
    "QuestionParameters": "kpnb.study.text.QuestionStudy",
}


@dataclass(frozen=True)
class Speed:
    """Seconds that one network takes: a training step and a forward pass by sample, a map by row
    (`row`) and beside its rows (`fixed`).

    kind: beginning of the notebooks' names ("image_"). network: its name, scale and input.
    operations, below: of a sample's forward pass, whole and up to the layer of the maps.
    """

    kind: str
    network: str
    precision: str
    operations: float
    below: float
    train: float
    forward: float
    row: float
    fixed: float


@dataclass(frozen=True)
class Machine:
    """Speeds of one device ("cpu" or "cuda"), and where they come from.

    threads: that torch used. date: UTC, to the day. byte, folder: seconds of a byte in the store,
    and of an entry whatever its size. pixel: of one pixel of an embedded image. about: provenance.
    """

    device: str
    hardware: str
    threads: int
    date: str
    speeds: tuple[Speed, ...]
    byte: float
    folder: float
    pixel: float
    about: dict

    def __str__(self) -> str:
        threads = f", {self.threads} thread" + ("s" if self.threads > 1 else "")
        return f"{self.hardware}{threads if self.device == 'cpu' else ''}, measured {self.date}"

    @property
    def file(self) -> str:
        """As in: cpu_amd_epyc_1_thread.json."""
        hardware = re.sub(r"[^a-z0-9]+", "_", self.hardware.lower()).strip("_")
        threads = f"_{self.threads}_thread" + ("s" if self.threads > 1 else "")
        return f"{self.device}_{hardware}{threads if self.device == 'cpu' else ''}.json"

    def nearest(self, kind: str, network: str, precision: str, anatomy: Anatomy) -> Speed:
        """The speed of a network, or else of one of its family with a similar number of operations.

        Raises KpnbError where no network of the kind was measured.
        """
        known = [speed for speed in self.speeds if speed.kind == kind]
        if not known:
            raise KpnbError(
                f"No {kind.rstrip('_')} network was measured on {self}: run `python -m "
                "kpnb.run.machine` there."
            )
        operations = anatomy.up_to("")

        def distance(speed: Speed) -> tuple:
            own, other = (re.split("[- ]", name)[0] for name in (network, speed.network))
            gap = abs(math.log(operations / speed.operations))
            return speed.network != network, speed.precision != precision, own != other, gap

        return min(known, key=distance)


def study_of(parameters: StudyParameters, store: Store | None = None) -> Study:
    """The study that a notebook makes of its parameters."""
    module, _, name = STUDIES[type(parameters).__name__].rpartition(".")
    return getattr(importlib.import_module(module), name)(parameters, store or Store())


def title_of(study: Study, role: str) -> str:
    """A network as speeds name it: "VGG-11 (narrow), 3x64x64"."""
    p = study.parameters
    name = p.teacher if role == "T" and getattr(p, "teacher", "same") != "same" else p.network
    scale = p.scale if hasattr(p, "scale") else f"{p.depth} layers"
    return f"{name} ({scale}), {'x'.join(map(str, study.example()))}"


def kind_of(parameters: object) -> str:
    """The beginning of the names of the notebooks that take such parameters."""
    return next(kind for kind, model in MODELS.items() if isinstance(parameters, model))


# Measuring


def clock(device: str, threads: int) -> Callable[[], float]:
    """Processor time of one thread, which does not count what else runs; else the wall clock, on a
    GPU after its work is done."""
    if device == "cpu":
        return time.process_time if threads == 1 else time.perf_counter

    def now() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return now


def probe(study: Study, now: Callable[[], float], seconds: float = 3.0) -> Speed:
    """The three probes of the baseline's network of a study, its maps at the first layer.

    seconds: that the repeats of a training step may take, about.
    """
    p, layer = study.parameters, study.parameters.layers[0]
    anatomy, net = study.anatomy("B"), study.build("B", 0).to(study.device)
    with device_use(study.device, False, "lower --samples"):
        train = _training_step(study, net, now, seconds)
        inputs = study.inputs(study.data.teacher_samples)
        last = list(study.named_layers)[-1] if layer != "Last" else layer
        forward = _least(lambda: teacher_features(net, last, inputs), now) / len(inputs)
        row, fixed = _map(study, net.eval(), layer, now)
    kept = dict(train=train, forward=forward, row=row, fixed=fixed)
    counts = anatomy.up_to(""), anatomy.up_to(layer)
    return Speed(kind_of(p), title_of(study, "B"), p.precision, *counts, **kept)


def _training_step(
    study: Study, net: torch.nn.Module, now: Callable[[], float], seconds: float
) -> float:
    """Of a sample: a long training less one of a single epoch, which warms up."""
    samples = study.data.teacher_samples
    recipe = with_effort(study.parameters, study.schedule("B", 0))

    def train(epochs: int) -> float:
        settings = replace(recipe, epochs=epochs, checkpoints=(), warmup_epochs=0)
        started = now()
        train_classifier(net, study.inputs(samples), study.labels(samples), settings)
        return now() - started

    first = train(1)
    more = max(1, min(20, round(seconds / max(first, 1e-9))))
    return max(train(1 + more) - first, 0.1 * first) / (more * len(samples))


def _map(
    study: Study, net: torch.nn.Module, layer: str, now: Callable[[], float]
) -> tuple[float, float]:
    """Seconds of a row of the estimator and of a map beside its rows, from two budgets of draws."""
    samples, taken = study.data.measured, []
    for probes in PROBES:
        explainer = study.explainer(study.dotted("B", layer), probes=probes, evaluations=1)
        taken.append(_least(lambda e=explainer: study.explain(e, net, samples), now) / len(samples))
    row = (taken[1] - taken[0]) / (PROBES[1] - PROBES[0])
    row = row if row > 0 else taken[1] / PROBES[1]  # disturbed: all of it counts as rows
    return row, max(taken[0] - row * PROBES[0], 0.0)


def _least(work: Callable[[], object], now: Callable[[], float], repeats: int = 2) -> float:
    work()
    taken = []
    for _ in range(repeats):
        started = now()
        work()
        taken.append(now() - started)
    return max(min(taken), 1e-9)


def storing(now: Callable[[], float]) -> tuple[float, float]:
    """Seconds of a byte and of an entry of the store, where temporary files lie."""
    with tempfile.TemporaryDirectory() as folder:
        few, many = (
            _least(lambda n=n: write_folder(Path(folder) / f"{n}", {"w": torch.zeros(n // 4)}, {}),
                   now) for n in STORED
        )  # fmt: skip
    return max((many - few) / (STORED[1] - STORED[0]), 1e-12), few


def composing(now: Callable[[], float], count: int = COMPOSED, size: int = 64) -> float:
    """Seconds of a pixel of an embedded image."""
    from kpnb.datasets.images import embedded_images

    work = lambda: embedded_images(count, "train", 12, size, 0)  # noqa: E731
    return _least(work, now, repeats=1) / (count * size**2)


def probe_study(name: str, **given: object) -> Study:
    """A study of a few samples with that network, parameters that it does not have left out;
    KpnbError for a name that no study knows."""
    named = {"image_": IMAGES, "pointcloud_": CLOUDS, "sentiment_": TEXTS}
    kind = next((kind for kind, names in named.items() if name in names), None)
    if kind is None:
        known = ", ".join(n for names in named.values() for n in names)
        raise KpnbError(f"No network {name!r} to measure: choose among {known}.")
    asked = {"preset": "demo", "network": name, "teacher_samples": SAMPLES, "samples": MAPS}
    asked |= {"fraction": 1.0, "device": "cpu"}
    if kind != "image_":
        asked["test_samples"] = 20  # images compose theirs when they are asked for
    given = {n: v for n, v in given.items() if n in MODELS[kind].model_fields}
    return study_of(resolve(MODELS[kind], asked | given))


IMAGES = get_args(MODELS["image_"].model_fields["network"].annotation)
CLOUDS = get_args(MODELS["pointcloud_"].model_fields["network"].annotation)
TEXTS = ("MiniLM-L6", "BERT-base")


def measure_machine(studies: Sequence[Study], device: str, seconds: float = 3.0) -> Machine:
    """The machine's speeds on the networks of some studies."""
    threads, about = torch.get_num_threads(), provenance()
    now, here = clock(device, threads), clock("cpu", threads)
    found = []
    for study in studies:
        print(f"measuring {title_of(study, 'B')}", file=sys.stderr, flush=True)
        found.append(probe(study, now, seconds))
    hardware = about["gpu"] if device == "cuda" else cpu_name()
    beside = (*storing(here), composing(here))
    date = datetime.now(UTC).date().isoformat()
    return Machine(device, hardware, threads, date, tuple(found), *beside, about)


# Files


def write_machine(machine: Machine, path: Path) -> Path:
    """Write a file in one step; speeds that it had of other networks stay."""
    if path.is_file():
        again = {(s.network, s.precision) for s in machine.speeds}
        old = [s for s in read_machine(path).speeds if (s.network, s.precision) not in again]
        machine = replace(machine, speeds=(*old, *machine.speeds))
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": FORMAT} | asdict(machine), indent=1, sort_keys=True)
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise KpnbError(f"Speeds cannot be written to {path}: {error.strerror}.") from error
    return path


def read_machine(path: Path) -> Machine:
    """The speeds of a file; KpnbError for one that is missing, damaged or of another format."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        speeds = tuple(Speed(**entry) for entry in content.pop("speeds"))
        if not all(0 < s.train < math.inf and 0 < s.row < math.inf for s in speeds):
            raise ValueError("a network takes no time")
        return Machine(**content, speeds=speeds)
    except FileNotFoundError:
        told = f"There are no speeds at {path}: run `python -m kpnb.run.machine`."
        raise KpnbError(told) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise KpnbError(
            f"{path} holds no speeds that can be read ({error}): run `python -m kpnb.run.machine`."
        ) from error


def machines(folder: Path = FOLDER) -> list[Machine]:
    """All machines of a folder, CPUs first; none is no error."""
    return [read_machine(path) for path in sorted(folder.glob("*.json"))]


def this_machine(device: str | None = None, folder: Path = FOLDER) -> Machine:
    """The speeds to plan with: of this hardware if it was measured, else of another such device.

    device: "cpu" or "cuda"; None is what this machine computes on. Raises KpnbError if there are
    none.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    own = cpu_name() if device == "cpu" else ""
    if device == "cuda" and torch.cuda.is_available():
        own = torch.cuda.get_device_name()
    known = [machine for machine in machines(folder) if machine.device == device]
    if not known:
        raise KpnbError(
            f"There are no speeds of a {device} here: run `python -m kpnb.run.machine --device "
            f"{device}` on one."
        )
    return min(known, key=lambda machine: (machine.hardware != own, machine.threads))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    options = _parser().parse_args(arguments)
    given = {"scale": options.scale, "image_size": {"narrow": 64, "full": 224}[options.scale]}
    given |= {"device": options.device, "precision": options.precision, "batch": options.batch}
    given["teacher_samples"] = options.samples
    try:
        if options.device == "cuda" and not torch.cuda.is_available():
            raise KpnbError("No GPU is usable here: pass --device cpu.")
        torch.set_num_threads(options.threads)
        studies = [probe_study(n, **given) for n in options.networks or USUAL]
        found = measure_machine(studies, options.device)
        for speed in found.speeds:
            rates = (f"{name} {1000 * getattr(speed, name):.3g} ms" for name in RATES)
            print(speed.network, *rates, sep="  ")
        print(write_machine(found, options.output or FOLDER / found.file))
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    return 0


RATES = ("train", "forward", "row", "fixed")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kpnb.run.machine", description=__doc__)
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu")
    add("--networks", nargs="+", metavar="NAME", help=f"default: {', '.join(USUAL)}")
    add("--scale", choices=("narrow", "full"), default="narrow", help="64 or 224 pixels a side")
    add("--batch", type=int, help="samples of a training step; default: the recipes'")
    add("--precision", choices=("float32", "bfloat16"), default="float32")
    add("--samples", type=int, default=SAMPLES, help="100 or more; more for a large GPU")
    add("--threads", type=int, default=1, help="of the CPU")
    add("--output", type=Path, metavar="FILE", help="default: the package's, by device")
    return parser


if __name__ == "__main__":
    sys.exit(main())

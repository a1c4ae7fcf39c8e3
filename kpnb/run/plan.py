"""What a notebook, a sweep or a run will take, before it starts: `python -m kpnb.run.plan NAME`.

The study itself is asked: it runs on a store that counts instead of computing, with samples of
which only the number is known, and says of each network and each set of maps what it costs
(`kpnb.training.costs`). These counts times the speeds of a machine (`kpnb.run.machine`) are the
plan. What several runs share has one key and is counted once. A network that was not measured
takes the speed of the nearest one, scaled by operations, and is marked. Exit codes: 0, 2 a mistake.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import prod
from pathlib import Path
from types import SimpleNamespace

from kpnb.datasets.places import EMBEDDED, PREFIX, find_data
from kpnb.datasets.prepared import manifest
from kpnb.errors import KpnbError, answered
from kpnb.estimator.closed_form import STEPS
from kpnb.estimator.rates import BLOCK
from kpnb.estimator.units import GridUnits
from kpnb.fingerprint import fingerprint
from kpnb.metrics.formatting import count
from kpnb.run.machine import Machine, named, read_machine, study_of, this_machine
from kpnb.store import Record, Store
from kpnb.study.parameters import CoherencyParameters, StudyParameters, models_for, resolve
from kpnb.study.study import Study
from kpnb.training.costs import FLOAT, Anatomy, Cost, Work

TEST_IMAGES = 2000  # of the embedded images (kpnb.study.image)
# Samples to train and to test on, and classes, of complete releases (`COUNTS` in data_prep). How
# many objects of ILSVRC, VOC and MSCOCO are kept depends on what they are prepared with.
RELEASES = {
    "cub200": (5994, 5794, 200),
    "modelnet40": (9843, 2468, 40),
    "modelnet10": (3984, 907, 10),
    "tiny_imagenet": (100_000, 10_000, 200),
    "sst2": (67_349, 872, 2),
    "squad": (87_599, 10_570, 2),
}
# The parameters that tell samples apart: runs that differ in others share networks.
TELLING = {"data", "classes", "image_size", "outputs", "source_classes", "split", "shapes"}
TELLING |= {"points", "background", "distance", "turn", "longest", "least_rating"}
PROCESS = 450 * 1024**2  # bytes of a process with torch and this package, about
# Of the published procedure: 96 draws for 60 steps, up to 80, each a forward and a backward pass,
# in rows, which have four backward passes to their forward one; descent stops when it converges.
SLOW_ROWS = {"published": 96 * 80 * 2 / 5, "descent": 96 * 3200 * 2 / 5}


class CountingStore(Store):
    """A store that notes what it is asked for, and gives back what has shapes but no numbers.

    costs: key -> (kind, cost), each once. held: a store whose entries cost nothing, if any.
    """

    def __init__(self, held: Store | None = None) -> None:
        super().__init__(None if held is None else held.root)
        self.held, self.costs = held, {}

    def compute(self, kind, settings, compute, code, data=None, cost=None) -> Record:
        """As `Store.compute`, without computing or reading; `cost` says what it would take."""
        found, folder = cost(), Path(fingerprint({"kind": kind, "settings": settings}))
        if self.held is not None:  # then the code's own key, which takes a second to find
            folder, _ = self._entry(kind, settings, code, data)
        if self.held is None or not folder.is_dir():
            self.costs.setdefault(folder.name, (kind, found))
        return Record(found.tensors, found.info | {"seconds": 0.0}, folder, folder.name, False)


def counting(study: Study, left: bool = False) -> Study:
    """The same study on a `CountingStore`, with samples of which only the number is known.

    left: count what the study's store does not hold, by keys for which the data are loaded. Raises
    KpnbError where the number of samples is not known.
    """
    store = CountingStore(study.store if left else None)
    found = replace(study, store=store, _seconds={}, _networks={})
    if not left:
        _stand_in(found)
    return found


def ask(study: Study) -> None:
    """Have a study compute, or count, all networks and maps that its notebooks ask for."""
    p = study.parameters
    if getattr(p, "source", "") != "ImageNet":
        getattr(study, "source", study).accuracies("T")  # of fine-tuning, its own source network
    if isinstance(p, CoherencyParameters):  # explains teachers, whose check needs the baseline
        for seed in p.seeds:
            study.of("B", seed)
    else:
        for one in (study, *getattr(study, "others", ())):  # of controls
            for layer in p.layers:
                one.networks_and_maps(layer)


@dataclass(frozen=True)
class Counted:
    """Samples of which only the number is known. source: what tells them apart, for keys."""

    number: int
    source: dict
    class_names: Sequence[str] = ()
    digest: str = ""

    def __len__(self) -> int:
        return self.number

    def subset(self, index: Sequence[int]) -> Counted:
        return replace(self, number=len(index), source=self.source | {"subset": len(index)})


def _stand_in(study: Study) -> None:
    """Put numbers in the place of a study's data, which are then never loaded."""
    p, known = study.parameters, sample_counts(study.parameters)
    if known is None:
        raise KpnbError(
            f"How many samples {p.data!r} has is known once it is read: give teacher_samples as a "
            "number, and test_samples; or run data_prep/ first where it is not embedded."
        )
    train, test, classes = known
    every = [f"class {number}" for number in range(classes)]
    parts = [(study, every)]
    if hasattr(type(study), "source"):  # target and source classes
        object.__setattr__(study, "whole", SimpleNamespace(test_samples=Counted(test, {}, every)))
        own = hasattr(study.source, "names")
        if not own:  # it learns another data set
            _stand_in(study.source)
        parts = [(one, one.names) for one in (study, *([study.source] if own else []))]
    for one, names in parts:
        share = len(names) / classes
        one.__dict__["data"] = _counted_data(p, round(train * share), round(test * share), names)


def _counted_data(p: StudyParameters, train: int, test: int, names: Sequence[str]) -> object:
    def samples(number: int, split: str) -> Counted:
        source = p.model_dump(include=TELLING) | {"split": split, "count": number}
        return Counted(number, source, names, f"{source}")

    teacher, tested = samples(train, "train"), samples(test, "test")
    seen = samples(max(1, round(train * p.fraction)), "part")
    splits = {"train": seen, "test": tested}
    splits |= {"new": tested} if hasattr(p, "grid") and p.data == EMBEDDED else {}
    measured = splits[p.measured_on].subset(range(p.samples))
    found = dict(teacher_samples=teacher, training_samples=seen, test_samples=tested, splits=splits)
    units = GridUnits(p.grid) if hasattr(p, "grid") else None
    return SimpleNamespace(**found, measured=measured, units=units, hashes={}, encoder=range(2))


def sample_counts(p: StudyParameters) -> tuple[int, int, int] | None:
    """Samples to train and to test on, and classes, without reading the data; None: not known."""
    train, test = p.teacher_samples, getattr(p, "test_samples", TEST_IMAGES)
    if p.data == EMBEDDED:
        classes = getattr(p, "outputs", None) or getattr(p, "classes", 10)
        return None if "all" in (train, test) else (train, test, classes)
    name = p.data.removeprefix(PREFIX)
    try:
        known = manifest(find_data(name))
        there = *(known["splits"][s]["count"] for s in ("train", "test")), len(known["classes"])
    except (KpnbError, OSError, KeyError, TypeError):
        there = RELEASES.get(name)
    if there is None:
        classes = getattr(p, "classes", 2)
        return None if "all" in (train, test) else (train, test, classes)
    test = min(test, there[1]) if isinstance(getattr(p, "test_samples", ""), int) else there[1]
    return there[0] if train == "all" else min(train, there[0]), test, there[2]


def seconds_of(
    work: Work, study: Study, machine: Machine, anatomy: Callable[[str], Anatomy]
) -> tuple[str, float]:
    """Seconds of some work, and what was measured in the place of its network ("": itself), given
    the counts of each role's network."""
    own, wanted = anatomy(work.role), named(study, work.role)
    speed, network = machine.nearest(**wanted, anatomy=own), wanted["network"]
    instead = "" if speed.network == network else f"{network} from {speed.network}"
    if work.task == "maps":
        one = estimator_rows(work.estimator) * speed.row + speed.fixed
        return instead, work.units * one * own.up_to(work.layer) / speed.below
    passes = own.above(work.layer) if work.task == "above" else own.up_to(work.layer)
    rate = speed.forward if work.task == "forward" else speed.train
    return instead, work.units * rate * passes / speed.operations


def estimator_rows(settings: dict[str, object]) -> float:
    """Noisy inputs of one map. The first of several evaluations of `path` has half as many blocks
    of draws as the others, though not fewer than two (`kpnb.estimator.closed_form.path`)."""
    if settings["method"] in SLOW_ROWS:
        return SLOW_ROWS[settings["method"]]
    blocks, evaluations = settings["probes"] // BLOCK, settings["evaluations"]
    if settings["method"] == "optimum":
        return float(BLOCK * blocks * evaluations * STEPS)
    if evaluations == 1:
        return float(BLOCK * blocks)
    return float(BLOCK * (max(2, blocks // 2) + (evaluations - 1) * blocks))


def stored_bytes(cost: Cost) -> int:
    return sum(FLOAT * tensor.numel() for tensor in cost.tensors.values())


def memory_of(study: Study, costs: Sequence[Cost]) -> tuple[float, float]:
    """Bytes at the peak, about: of the process, which holds what it has used, the samples, and
    twice more the entry being written; and of training or, if that is more, of the estimator.
    """
    p, own, data = study.parameters, study.anatomy("B"), study.data
    samples = len(data.teacher_samples) + len(data.training_samples) + len(data.test_samples)
    each = 1 if hasattr(p, "image_size") and p.data != EMBEDDED else FLOAT  # images kept as bytes
    held, state = float(each * samples * prod(study.example())), FLOAT * own.parameters
    rows = 2 * FLOAT * own.activations
    computing = max(3 * state + (p.batch or 64) * rows, state + p.chunk * rows)
    sizes = [stored_bytes(cost) for cost in costs]
    return PROCESS + held + sum(sizes) + 2 * max(sizes, default=0), computing + held


@dataclass
class Planned:
    """Seconds, bytes and pieces of some runs on a machine.

    kinds, scaled: seconds by kind of piece, and by what was measured instead of a network ("":
    itself). process, computing: see `memory_of`. unknown: data set -> runs of unknown size.
    """

    title: str
    machine: Machine
    runs: int = 0
    kinds: Counter = field(default_factory=Counter)
    scaled: Counter = field(default_factory=Counter)
    disk: int = 0
    process: float = 0.0
    computing: float = 0.0
    keys: set[str] = field(default_factory=set)
    unknown: Counter = field(default_factory=Counter)

    @property
    def seconds(self) -> float:
        return sum(self.kinds.values())

    @property
    def measured(self) -> float:
        """The share of the seconds whose networks were measured themselves, 0 to 1."""
        return self.scaled[""] / self.seconds if self.seconds else 1.0

    def add(self, study: Study, left: bool = False) -> Planned:
        """One more run; what an earlier one has is not counted again."""
        asked = counting(study, left)
        ask(asked)
        costs, anatomy = asked.store.costs, cache(asked.anatomy)
        for kind, cost in (found for key, found in costs.items() if key not in self.keys):
            self.disk += stored_bytes(cost)
            for work in cost.work:
                instead, seconds = seconds_of(work, asked, self.machine, anatomy)
                self.kinds[kind] += seconds
                self.scaled[instead] += seconds
        self.runs += 1
        self.keys |= costs.keys()
        process, computing = memory_of(asked, [cost for _, cost in costs.values()])
        self.process, self.computing = max(self.process, process), max(self.computing, computing)
        return self

    @property
    def memory(self) -> str:
        if self.machine.device == "cpu":
            return size(self.process + self.computing)
        return f"{size(self.computing)} of the GPU and {size(self.process)} beside it"

    def lines(self) -> list[str]:
        """The plan in words, one statement a line."""
        told = [f"{self.title}: {count(self.runs, 'run')}, {len(self.keys)} networks, maps, scores"]
        if self.runs:
            known = f"{self.measured:.0%} of it from speeds of these networks on {self.machine}"
            told.append(f"time    {duration(self.seconds)}, about; {known}")
            for instead, seconds in self.scaled.most_common(6):
                told += [f"        {duration(seconds)} scaled: {instead}"] if instead else []
            told += [f"disk    {size(self.disk)} in the store", f"memory  {self.memory}, about"]
            told.append("note    what a notebook computes beyond networks and maps is not counted")
        for data, runs in self.unknown.items():
            told.append(f"note    not in it: {count(runs, 'run')} on {data}, not prepared here")
        return told


def plan_lines(study: Study) -> str:
    """The plan of one study on this machine's device, counted from nothing, as one sentence of a
    notebook. Raises KpnbError for what it does not know."""
    planned = Planned("this study", this_machine(study.device.type)).add(study)
    needs = f"{size(planned.disk)} in the store and {planned.memory} of memory"
    took = f"about {duration(planned.seconds)} at the speed of {planned.machine}"
    scaled = 1 - planned.measured
    rest = f"; {scaled:.0%} of the time is scaled from other networks" if scaled else ""
    return f"**With an empty store** this study takes {took}, {needs}{rest}."


def plan_name(
    name: str, preset: str, given: dict[str, object], machine: Machine, left: bool = False
) -> Planned:
    """The plan of a notebook with the parameters given, a sweep or a run of a sweep, by its name.
    Raises KpnbError for an unknown name or parameter, and for parameters given to a sweep."""
    from kpnb.run.notebook import find_notebook
    from kpnb.run.sweeps import Sweeps

    sweeps = Sweeps()
    if name in sweeps.targets(preset) and given:
        raise KpnbError(f"{name} has its parameters in its sweep: leave out -p.")
    if name in {"all", *sweeps.by_name, *sweeps.sweep_of}:
        runs = sweeps.asked(name, preset)
        asked = [sweeps.sweep_of[run].resolved(run, preset) for run in runs]
    else:
        find_notebook(name, sweeps.notebooks)
        asked = [resolve(models_for(name), {"preset": preset} | given)]
    planned = Planned(f"{name} at {preset}", machine)
    for parameters in asked:
        if len(asked) > 1 and sample_counts(parameters) is None:
            planned.unknown[parameters.data] += 1
        else:
            planned.add(study_of(parameters), left)
    return planned


def duration(seconds: float) -> str:
    """As in: 40 s, 12 minutes, 3.4 hours, 12 days."""
    units = {"days": (86400, 2), "hours": (3600, 1.5), "minutes": (60, 1.5), "s": (1, 0)}
    unit = next(name for name, (length, least) in units.items() if seconds >= least * length)
    value = seconds / units[unit][0]
    return f"{value:.{int(value < 9.95)}f} {unit}"


def size(number: float) -> str:
    """Bytes as in: 12 MB, 1.6 GB, 62 GB."""
    if number < 1e8:
        return f"{number / 1e6:.0f} MB"
    return f"{number / 1e9:.1f} GB" if number < 9.95e9 else f"{number / 1e9:.0f} GB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit code 0, or 2 with one sentence on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kpnb.run.plan", description=__doc__)
    add = parser.add_argument
    add("name", help="a notebook such as image_h1, a sweep, or one of its runs")
    add("--preset", default="demo")
    add("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    add("--device", choices=("cpu", "cuda"), help="default: what this machine computes on")
    add("--speeds", type=Path, metavar="FILE", help="of another machine")
    add("--left", action="store_true", help="only what the store has not; loads the data")
    options = parser.parse_args(arguments)
    return answered(lambda: _answer(options))


def _answer(options: argparse.Namespace) -> int:
    from kpnb.run.notebook import parse_assignments

    machine = read_machine(options.speeds) if options.speeds else this_machine(options.device)
    given = parse_assignments(options.parameters, options.name)
    asked = options.name, given.pop("preset", options.preset), given
    print("\n".join(plan_name(*asked, machine, options.left).lines()))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A study on a store that counts: what it asks for, with nothing computed and no data read.

Samples are stood in for by their number, and what the store gives back has shapes but no numbers
(torch's meta device), so that the study goes on as if all had been computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

from kpnb.datasets.places import EMBEDDED, PREFIX, find_data
from kpnb.datasets.prepared import manifest
from kpnb.errors import KpnbError
from kpnb.estimator.units import GridUnits
from kpnb.fingerprint import fingerprint
from kpnb.store import Record, Store
from kpnb.study.parameters import CoherencyParameters, StudyParameters
from kpnb.study.study import Study

TEST_IMAGES = 2000  # of the embedded images (kpnb.study.image)
# Samples to train and to test on, and classes, of complete releases (`COUNTS` in data_prep). How
# many objects of ILSVRC, VOC and MSCOCO are kept depends on what they are prepared with.
RELEASES = {
    "cub200": (5994, 5794, 200),
    "modelnet40": (9843, 2468, 40),
    "tiny_imagenet": (100_000, 10_000, 200),
    "sst2": (67_349, 872, 2),
    "squad": (87_599, 10_570, 2),
}


class CountingStore(Store):
    """A store that notes what it is asked for, and gives back what has shapes but no numbers.

    costs: key -> (kind, cost), each once. held: a store whose entries cost nothing; None counts
    from nothing.
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

    left: count only what the study's store does not hold. Keys of maps have the samples in them,
    so the data are loaded for it. Raises KpnbError where the number of samples is not known.
    """
    store = CountingStore(study.store if left else None)
    found = replace(study, store=store, _seconds={}, _networks={})
    if not left:
        _stand_in(found)
    return found


def ask(study: Study) -> None:
    """Have a study compute, or count, all networks and maps that its notebooks ask for; where one
    explains teachers only, students and their maps are left out."""
    p = study.parameters
    if getattr(p, "source", "") != "ImageNet":
        getattr(study, "source", study).accuracies("T")  # of fine-tuning, its own source network
    for seed in p.seeds if isinstance(p, CoherencyParameters) else ():
        study.of("B", seed)  # the teacher's check compares with it
    for layer in p.layers if not isinstance(p, CoherencyParameters) else ():
        study.networks_and_maps(layer)


@dataclass(frozen=True)
class Counted:
    """Samples of which only the number is known. source: what tells them apart, for keys."""

    number: int
    source: dict
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.number

    @property
    def digest(self) -> str:
        return f"{self.source}"

    def subset(self, index: Sequence[int]) -> Counted:
        return replace(self, number=len(index), source=self.source | {"subset": len(index)})


def _stand_in(study: Study) -> None:
    """Put numbers in the place of a study's data, which are then never loaded."""
    p = study.parameters
    train, test, classes = sample_counts(p)
    names = tuple(f"class {number}" for number in range(classes))
    if not hasattr(p, "source"):
        study.__dict__["data"] = _counted_data(p, train, test, names)
        return
    whole = SimpleNamespace(test_samples=Counted(test, {}, names))
    object.__setattr__(study, "whole", whole)
    for one in (study, study.source):  # target and source classes
        share = len(one.names) / classes
        parts = round(train * share), round(test * share)
        one.__dict__["data"] = _counted_data(p, *parts, one.names)


# The parameters that tell samples apart: runs that differ in others share networks.
_TELLING = (
    *("data", "classes", "image_size", "outputs", "source_classes", "split"),
    *("shapes", "points", "background", "distance", "turn", "longest", "least_rating"),
)


def _counted_data(
    p: StudyParameters, train: int, test: int, names: Sequence[str]
) -> SimpleNamespace:
    told = {name: getattr(p, name, None) for name in _TELLING}

    def samples(number: int, split: str) -> Counted:
        return Counted(number, told | {"split": split, "count": number}, tuple(names))

    teacher, tested = samples(train, "train"), samples(test, "test")
    seen = samples(max(1, round(train * p.fraction)), "part")
    measured = (seen if p.measured_on == "train" else tested).subset(range(p.samples))
    found = dict(teacher_samples=teacher, training_samples=seen, test_samples=tested)
    units = GridUnits(p.grid) if hasattr(p, "grid") else None
    return SimpleNamespace(**found, measured=measured, units=units, hashes={}, encoder=range(2))


def sample_counts(p: StudyParameters) -> tuple[int, int, int]:
    """Samples to train a teacher and to test on, and classes, without reading the data.

    Raises KpnbError where nobody can tell yet.
    """
    wanted = p.teacher_samples, getattr(p, "test_samples", TEST_IMAGES)
    if p.data == EMBEDDED:
        return *wanted, getattr(p, "outputs", None) or getattr(p, "classes", 10)
    name = p.data.removeprefix(PREFIX)
    try:
        known = manifest(find_data(name))
        there = [known["splits"][split]["count"] for split in ("train", "test")]
        there.append(len(known["classes"]))
    except (KpnbError, OSError, KeyError, TypeError):
        there = RELEASES.get(name)
    if there is None and "all" in wanted:
        raise KpnbError(
            f"How many samples {name!r} has is known once it is prepared: run data_prep/ first, "
            "or give teacher_samples as a number."
        )
    train, test, classes = there or (*wanted, getattr(p, "classes", 2))
    train = train if wanted[0] == "all" else wanted[0]
    return train, wanted[1] if isinstance(getattr(p, "test_samples", ""), int) else test, classes

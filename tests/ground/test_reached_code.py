"""Every function that runs while a result is computed is in the code that the result names."""

import functools
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest
from cloud_smoke import cloud_study
from conftest import WatchedStore, smoke_study
from text_smoke import SIZES, text_study
from text_tiny import tiny_folder

from kpnb.datasets.samples import require_int
from kpnb.experiments.controls import ControlFindings, ControlStudy
from kpnb.experiments.fine_tuning import FineTuningFindings, FineTuningStudy
from kpnb.fingerprint import PACKAGE, ROOMS, reached
from kpnb.study.findings import Findings
from kpnb.study.image import CellStudy
from kpnb.study.parameters import (
    CellParameters,
    ControlParameters,
    FineTuningParameters,
    resolve,
)
from kpnb.study.study import Study

pytestmark = pytest.mark.usefixtures("one_thread")
Ran = set[tuple[str, str]]
# Of the samples, which the keys hold by their source.
OF_SAMPLES = {(require_int.__module__, name) for name in ("require_int", "_entries")}


@contextmanager
def watched(ran: Ran) -> Iterator[None]:
    """Adds (module, top-level name) of every function of kpnb that is entered."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if frame.f_code not in codes:
            codes.add(frame.f_code)
            ran.update(_place(frame.f_code))

    before = sys.gettrace()
    sys.settrace(note)  # unlike a profiler it is not told of calls into C, which are most
    try:
        yield
    finally:
        sys.settrace(before)


def _place(code: CodeType) -> Iterator[tuple[str, str]]:
    path, name = Path(code.co_filename), code.co_qualname.partition(".")[0]
    is_function = code.co_flags & inspect.CO_OPTIMIZED  # no class body, which runs when imported
    # nor a lambda or a module at its top level
    if is_function and path.is_relative_to(PACKAGE) and not name.startswith("<"):
        module = ".".join(("kpnb", *path.relative_to(PACKAGE).with_suffix("").parts))
        yield module.removesuffix(".__init__"), name


def outside_rooms(ran: Ran) -> Ran:
    closed = [module for room in ROOMS for module in room]
    return {place for place in ran if not any(f"{place[0]}.".startswith(f"{at}.") for at in closed)}


class TracedStore(WatchedStore):
    """Notes what ran while entries were computed, and what of it their keys are not over."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.ran: Ran = set()
        self.missed: Ran = set()
        self.trained: Ran = set()

    def compute(self, kind, settings, compute, code, data=None, cost=None):
        ran, covered = set(), set(reached(*code))

        @functools.wraps(compute)
        def traced(scratch):
            with watched(ran):
                return compute(scratch)

        record = super().compute(kind, settings, traced, code, data, cost)
        if kind == "networks":
            self.trained |= covered
        self.ran |= ran  # a key holds the network's fingerprint, and that the network's code
        of_network = self.trained if kind != "networks" else set()
        self.missed |= outside_rooms(ran) - covered - of_network
        return record


def study_of(kind: str, root: Path) -> Study:
    small = {"preset": "smoke", "device": "cpu", "samples": 3}
    if kind in ("sentiment", "qa"):
        study = text_study(kind, tiny_folder(root, **SIZES), root)
    elif kind == "cloud":
        study = cloud_study(root)
    elif kind == "cell":
        given = small | {"network": "VGG-11", "teacher": "AlexNet", "outputs": 4}
        study = CellStudy(resolve(CellParameters, given))
    elif kind == "controls":
        study = ControlStudy(resolve(ControlParameters, small))
    elif kind == "fine_tuning":
        study = FineTuningStudy(resolve(FineTuningParameters, small))
    else:
        study = smoke_study(root, samples=3)
    object.__setattr__(study, "store", TracedStore(root / "store"))
    return study


def measured(study: Study, kind: str) -> Findings:
    """All that a notebook of the study measures."""
    if kind == "fine_tuning":
        findings = FineTuningFindings(study, "image_fine_tuning")
        findings.measure_accuracies()
    elif kind == "controls":
        findings = ControlFindings(study, "image_controls")
        findings.measure()
        findings.results()
        return findings
    else:
        findings = Findings(study, f"{kind}_h1")
        findings.add_accuracies(study.parameters.layers[:1])
    findings.add(study.evidence(study.parameters.layers[0]))
    findings.results()
    return findings


def glue(study: Study) -> Ran:
    """Hands data and settings, which are in keys or data hashes, to code that an entry names."""
    source = getattr(study, "source", study)  # of a fine-tuned network
    parts = (study, source, study.data, study.parameters, study.data.measured)
    parts += (study.teaching(0),) if isinstance(study, ControlStudy) else ()
    found = {(t.__module__, t.__name__) for part in parts for t in type(part).__mro__}
    found |= {("kpnb.study.study", "flat"), ("kpnb.study.study", "Trained")}
    return found | {("kpnb.training.fitness", "_explained")} | OF_SAMPLES


KINDS = ["image", "cell", "sentiment", "cloud", "fine_tuning"]
LONG = ("qa", "controls")


@pytest.mark.parametrize(
    "kind", [*KINDS, *(pytest.param(kind, marks=pytest.mark.long) for kind in LONG)]
)
def test_what_runs_is_in_the_code_that_is_named(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("kpnb.study.image.TEST_SAMPLES", 60)
    ran: Ran = set()
    study = study_of(kind, tmp_path)
    with watched(ran):
        findings = measured(study, kind)
    store = study.store
    assert {"networks", "maps"} <= set(store.computed())
    assert store.missed - glue(study) == set()
    ran = outside_rooms(ran | store.ran)
    assert len(ran) > 50 and ran - set(reached(*findings.code)) == set()

"""Studies of every modality at a small size, and what a store is asked for by them."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from cloud_smoke import NETWORKS, cloud_study
from conftest import single_thread, smoke_study
from text_smoke import STUDIES, text_study

from kpnb.errors import KpnbError
from kpnb.estimator.entropy import TENSORS
from kpnb.metrics.evidence import Evidence
from kpnb.store import Record, Store
from kpnb.study.study import Study, flat

KINDS = ("image", *STUDIES, *NETWORKS)
MODALITIES = ("image", *STUDIES, "PointNet")
LAST = "Last"


@dataclass
class Studied:
    """A study with its evidence at `layer`; nothing may write to its store."""

    kind: str
    root: Path
    study: Study
    evidence: Evidence
    layer: str


def modality_of(kind: str) -> str:
    """The name of the module in kpnb/study."""
    return {"image": "image"}.get(kind, "text" if kind in STUDIES else "cloud")


def layer_of(kind: str) -> str:
    return LAST if kind in STUDIES else "FC1"


def study_of(kind: str, root: Path, model: str, **changed) -> Study:
    """A fresh study; model: the folder of the tiny text model."""
    if kind == "image":
        return smoke_study(root, **changed)
    if kind in STUDIES:
        return text_study(kind, model, root, **changed)
    return cloud_study(root, **{"network": kind} | changed)


def studied(kind: str, root: Path, model: str) -> Studied:
    study, layer = study_of(kind, root, model), layer_of(kind)
    with single_thread():
        evidence = study.evidence(layer)
        study.accuracies("T")
    return Studied(kind, root, study, evidence, layer)


def same_states(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def same_map(sigma, maps) -> bool:
    return sigma is not None and torch.equal(sigma.nan_to_num(), maps.sigma.nan_to_num())


def entries(root: Path, kind: str) -> list[Path]:
    return sorted(folder for folder in (root / kind).iterdir() if "." not in folder.name)


def refused(make, told: str) -> None:
    """`make()` stops with one sentence that says `told`, a pattern."""
    with pytest.raises(KpnbError, match=told) as error:
        make()
    assert "\n" not in str(error.value) and str(error.value).endswith(".")


class KeyStore(Store):
    """Gives each entry its fingerprint and made-up content; nothing is computed."""

    study: Study

    def compute(self, kind, settings, compute, code, data=None, cost=None):
        name, tensors = self._entry(kind, settings, code, data)[0].name, {}
        if kind == "maps":
            empty = {n: torch.zeros(1) for n in TENSORS}
            self.maps = name
            tensors = flat({epoch: empty for epoch in settings["epochs"]})
        elif settings["role"] == "B":  # the one whose maps are asked for
            tensors = flat({0: self.study.build("B", settings["seed"]).state_dict()})
        info = {"record": {}, "accuracy": {}, "seconds": 1.0}
        return Record(tensors, info, self.root, name, False)


def fingerprints(kind: str, root: Path, model: str, **changed) -> dict[str, str]:
    """The names of the entries of teacher, student, baseline, and of the baseline's maps."""
    given, store = study_of(kind, root, model, **changed), KeyStore(root)
    store.study = study = type(given)(given.parameters, store)
    seed, layer = given.parameters.seeds[0], given.parameters.layers[0]
    found = {role: study.of(role, seed, layer) for role in "TSB"}
    study.maps(found["B"], layer)
    return {role: net.fingerprint for role, net in found.items()} | {"maps": store.maps}


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [key for key in one if one[key] != other[key]]

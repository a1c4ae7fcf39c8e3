"""Studies of every modality at a small size, and what a store is asked for by them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from cloud_smoke import cloud_study
from conftest import single_thread, smoke_study
from text_smoke import STUDIES, text_study

from kpnb.estimator.entropy import TENSORS
from kpnb.metrics.evidence import Evidence
from kpnb.store import Record, Store
from kpnb.study.findings import Findings
from kpnb.study.study import Study, flat

MODALITIES = ("image", *STUDIES, "PointNet")


@dataclass
class Studied:
    """A study with its evidence at `layer`; nothing may write to its store."""

    kind: str
    root: Path
    study: Study
    evidence: Evidence
    layer: str


def study_of(kind: str, root: Path, model: str, **changed) -> Study:
    """Of images, texts or, by a network's name, clouds; model: the folder of a text model."""
    if kind == "image":
        return smoke_study(root, **changed)
    if kind in STUDIES:
        return text_study(kind, model, root, **changed)
    return cloud_study(root, **{"network": kind} | changed)


def studied(kind: str, root: Path, model: str) -> Studied:
    study = study_of(kind, root, model)
    (layer,) = study.parameters.layers
    with single_thread():
        evidence = study.evidence(layer)
        study.accuracies("T")
    return Studied(kind, root, study, evidence, layer)


def findings_of(*evidence: Evidence, hypothesis: int | None = 1, **changed) -> Findings:
    """Findings of made evidence; `changed` are parameters."""
    study = smoke_study(Path("unused"), **changed)
    findings = Findings(study, f"image_h{hypothesis}", hypothesis)
    for found in evidence:
        findings.add(found)
    return findings


def same_states(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def same_map(sigma, maps) -> bool:
    return sigma is not None and torch.equal(sigma.nan_to_num(), maps.sigma.nan_to_num())


class KeyStore(Store):
    """Gives each entry its fingerprint and made-up content; nothing is computed."""

    def compute(self, kind, settings, compute, code, data=None, cost=None):
        name = self._entry(kind, settings, code, data)[0].name
        empty = dict.fromkeys(TENSORS, torch.zeros(1))
        if kind == "maps":
            self.maps = name
        tensors = flat(dict.fromkeys(settings.get("epochs", [0]), empty))
        info = {"record": {}, "accuracy": {}, "seconds": 1.0}
        return Record(tensors, info, self.root, name, False)


def fingerprints(kind: str, root: Path, model: str = "", **changed) -> dict[str, str]:
    """The names of the entries of teacher, student, baseline, and of the baseline's maps."""
    given = study_of(kind, root, model, **changed)
    study = type(given)(given.parameters, KeyStore(root))
    seed, layer = given.parameters.seeds[0], given.parameters.layers[0]
    found = {role: study.of(role, seed, layer) for role in "TSB"}
    study.maps(found["B"], layer)
    return {role: net.fingerprint for role, net in found.items()} | {"maps": study.store.maps}


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return [key for key in one if one[key] != other[key]]

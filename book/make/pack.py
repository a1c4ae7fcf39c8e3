"""Packs a study for the book's explorer: `python -m book.make.pack image_h1 --preset study`.

A pack has a few samples of a study and, for each of their units, by network, layer and checkpoint,
how far its entropy lies below the background's mean; and what is decided over all samples and seeds
at every threshold of the page's slider. Beside it lie, of all samples and seeds, the entropies of
the final networks, and with --weights those of the first pair and its teacher. The store is only
read (KPNB_STORE): what it does not hold is not computed.
A pack is <results root>/pack/<name>.json, <name>.npz, and <name>.safetensors.
Exit codes: 0, 2 a mistake.

The distance H_bar - H_i is kept as a rank, a byte: how many of `EDGES`, in nats, it exceeds. So a
page decides, for every b that is an edge, exactly as `kpnb.metrics.points` does whether it exceeds
b, in a quarter of the space of a float.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

from kpnb.datasets.places import EMBEDDED
from kpnb.datasets.samples import ImageSamples, PointSamples, Samples
from kpnb.errors import KpnbError, answered, require
from kpnb.metrics.evidence import (
    Choices,
    Decision,
    Evidence,
    decided,
    is_defined,
    metric_values,
    thresholds_around,
)
from kpnb.metrics.points import KnowledgePoints, knowledge_points
from kpnb.metrics.results import PAPER_THRESHOLD, measured, results_root, write_whole
from kpnb.paper import METRICS
from kpnb.run.machine import study_of
from kpnb.run.notebook import parse_assignments
from kpnb.store import INFO, DamagedEntryError, Record, Store, read_folder
from kpnb.study.parameters import models_for, resolve
from kpnb.study.study import Study

FORMAT = "kpnb-pack-2"
#: Samples of a pack, the first ones of those measured.
SAMPLES = 12
#: Edges per nat; the first and the last edge.
PER_NAT, LOWEST, HIGHEST = 100, -50, 203
EDGES = torch.tensor([edge / PER_NAT for edge in range(LOWEST, HIGHEST + 1)])
#: The rank of a unit that takes no part.
NO_RANK = 255


class Reader(Store):
    """A store that is read and never written. read: the entries that were asked for, as
    kind/fingerprint."""

    def __init__(self, root: Path | str | None = None) -> None:
        super().__init__(root)
        self.read: list[str] = []

    def compute(self, kind, settings, compute, code, data=None, cost=None) -> Record:
        """As `Store.compute`; KpnbError where there is no such entry or it is damaged."""
        folder, _ = self._entry(kind, settings, code, data)
        remedy = "execute the notebook with these parameters and this store first"
        if not folder.is_dir():
            told = f"{self.root} has no entry {kind}/{folder.name} of this study"
            raise KpnbError(f"{told}: {remedy}, or leave out layers that are not there yet.")
        try:
            tensors, documents = read_folder(folder, (INFO,))
        except DamagedEntryError as damage:
            raise KpnbError(f"{folder} is damaged ({damage}): {remedy}.") from damage
        self.read.append(f"{kind}/{folder.name}")
        return Record(tensors, documents[INFO], folder, folder.name, False)


def packed(study: Study, notebook: str, every: Mapping[str, Evidence] | None = None) -> dict:
    """The pack of a study, JSON-able: units of its first seed, decisions of all. every: its
    evidence by layer, where that is at hand. Raises KpnbError for data of which nothing may be
    shown, a threshold that is no edge, and what its store does not hold."""
    p = study.parameters
    require(p.data == EMBEDDED, f"data is {p.data!r}: only embedded samples may lie in a page.")
    exact = 0 < p.threshold <= 1 and round(p.threshold * PER_NAT) / PER_NAT == p.threshold
    require(exact, f"threshold={p.threshold} is not on the slider: give 0.01, 0.02, ... 1.")
    many = min(SAMPLES, p.samples, p.followed or p.samples)
    shown = list(_samples(study.data.measured.subset(range(many)), study.data.foreground))
    units = max(len(one["foreground"]) for one in shown)
    every = every or {layer: study.evidence(layer) for layer in p.layers}
    layers = {name: _layer(_first(one), p.threshold, many, units) for name, one in every.items()}
    facts = {"modality": p.SAMPLE, "dataset": study.dataset, "network": study.network_name}
    facts |= {"scale": study.scale, "seed": p.seeds[0], "measured": p.samples}
    facts["followed"] = p.samples if p.followed is None else min(p.followed, p.samples)
    run = measured(notebook, p.model_dump(mode="json"), _code(study), dict, p.preset)
    run = run.model_copy(update={"seconds": study.stored_seconds()}).model_dump(mode="json")
    decisions = {layer: _decided(evidence) for layer, evidence in every.items()}
    found = {"run": run, "samples": shown, "layers": layers, "decided": decisions}
    return {"format": FORMAT, **facts, **found}


def _code(study: Study) -> list[str]:
    """Public names of what made the networks, the maps and the points."""
    training = [seed for role in study.PLACES.values() for seed in study.training_code(role)]
    seeds = *training, *study.MAPS_CODE, knowledge_points, decided
    return sorted({seed.__name__ for seed in seeds})


def _first(evidence: Evidence) -> Evidence:
    """That of the first seed; distances, on which points do not depend, are left out."""
    maps = {role: seeds[:1] for role, seeds in evidence.maps.items()}
    return replace(evidence, maps=maps, distance={}, teachers=None)


def _decided(evidence: Evidence) -> dict:
    """metric -> samples, seeds, and at every position of the slider the student's lead, the ends of
    its interval (None: one seed) and the verdict, as a notebook has them at its own b."""
    every = [Choices(position / PER_NAT) for position in range(1, PER_NAT + 1)]
    names = [name for name in METRICS if is_defined(evidence, name, every[0])]
    found = [decided(evidence, names, choices) for choices in every]
    return {name: _over_b([one[name] for one in found]) for name in names}


def _over_b(found: Sequence[Decision]) -> dict:
    leads = [one.difference for one in found]
    ends = [[_short(value) for value in (one.value, one.low, one.high)] for one in leads]
    at_b = [[*three, one.verdict] for three, one in zip(ends, found, strict=True)]
    return {"samples": leads[0].n_samples, "seeds": leads[0].n_seeds, "at": at_b}


def _short(value: float) -> float | None:
    return None if math.isnan(value) else float(f"{value:.4g}")


def entropies(evidence: Mapping[str, Evidence]) -> dict[str, np.ndarray]:
    """Of the final networks: "<layer> <role>", (networks, samples, units) `ranks`, of the teachers
    once each; and "foreground", (samples, units) bool."""
    found = {}
    for layer, one in evidence.items():
        found["foreground"] = one.foreground.numpy()
        for role in one.maps:
            chosen = range(len(one.maps[role]))
            if role == "T" and one.teachers:
                chosen = [one.teachers.index(seed) for seed in dict.fromkeys(one.teachers)]
            every = [ranks(one.points(role, seed, None, PAPER_THRESHOLD)) for seed in chosen]
            found[f"{layer} {role}"] = torch.stack(every).numpy()
    return found


def final_weights(study: Study, layer: str) -> dict[str, Tensor]:
    """The state dicts of the first pair and its teacher at the end of training, as "T/<name>",
    "S/<name>" and "B/<name>", the student's as it is measured at a layer: layers above that one are
    still as they began."""
    seed, found = study.parameters.seeds[0], {}
    for role in "TSB":
        trained = study.of(role, seed, layer)
        weights = trained.states[trained.final_epoch]
        found |= {f"{role}/{name}": value.contiguous() for name, value in weights.items()}
    return found


def _layer(evidence: Evidence, own_b: float, many: int, units: int) -> dict:
    """role -> epochs, ranks (rows, samples, units) in base64, and what kpnb counts, by b."""
    found = {}
    for role, (by_epoch,) in evidence.maps.items():
        rows = [ranks(points)[:many, :units] for points in points_by_row(evidence, role, own_b)]
        content = base64.b64encode(torch.stack(rows).numpy().tobytes()).decode()
        found[role] = {"epochs": sorted(by_epoch), "ranks": content, "counted": {}}
        for b in thresholds_around(own_b):
            found[role]["counted"][f"{b:g}"] = counted(evidence, role, b, many)
    return found


def points_by_row(evidence: Evidence, role: str, b: float) -> list[KnowledgePoints]:
    """Those of each epoch, for which the mean of the background runs over the samples followed, and
    then of the final network again, where it runs over all. Of the teacher, and where no sample is
    followed, the latter are all there are."""
    epochs, followed = sorted(evidence.maps[role][0]), evidence.followed
    trail = [evidence.points(role, 0, e, b, followed) for e in epochs] if len(epochs) > 1 else []
    return [*trail, evidence.points(role, 0, None, b)]


def ranks(points: KnowledgePoints) -> Tensor:
    """(samples, units) uint8: how many edges lie below H_bar - H_i; NO_RANK where undefined."""
    gap = points.baseline.unsqueeze(1) - points.entropy
    found = torch.searchsorted(EDGES, gap.contiguous())
    return torch.where(gap.isfinite(), found, NO_RANK).to(torch.uint8)


def counted(evidence: Evidence, role: str, b: float, many: int) -> dict:
    """What kpnb counts at b: n_fg and n_bg, (rows, samples); lambda of the final network and rho
    of its training, (samples,). None where there is no map, and for rho where none is followed."""
    rows, found = points_by_row(evidence, role, b), {}
    for name in ("n_fg", "n_bg"):
        values = [torch.where(one.defined, getattr(one, name), torch.nan) for one in rows]
        found[name] = [_numbers(one[:many]) for one in values]
    for name in ("lambda", "rho") if len(rows) > 1 else ("lambda",):
        found[name] = _numbers(metric_values(evidence, role, name, Choices(b))[0, :many])
    return {"rho": None} | found


def _numbers(values: Tensor | np.ndarray) -> list[float | int | None]:
    """Whole numbers as such, NaN as None."""
    plain = [float(value) for value in values]
    return [None if math.isnan(v) else int(v) if v.is_integer() else v for v in plain]


def _samples(samples: Samples, foreground: Tensor) -> Iterator[dict]:
    """What a page draws of each sample, with the foreground of its own units as 0 and 1."""
    made: dict[type, Callable] = {ImageSamples: _pictures, PointSamples: _clouds}
    drawn = made.get(type(samples), _texts)(samples)
    for one, inside in zip(drawn, foreground, strict=False):
        own = len(one["words"]) if "words" in one else len(inside)
        yield one | {"foreground": _bits(inside[:own])}


def _bits(marks: Tensor | Sequence[bool]) -> str:
    return "".join("1" if mark else "0" for mark in marks)


def _pictures(samples: ImageSamples) -> Iterator[dict]:
    for picture, label in zip(samples.pictures(), samples.labels, strict=True):
        png = io.BytesIO()
        Image.fromarray((picture * 255).round().astype(np.uint8)).save(png, "PNG", optimize=True)
        content = base64.b64encode(png.getvalue()).decode()
        yield {"name": samples.class_names[int(label)], "picture": content}


def _clouds(samples: PointSamples) -> Iterator[dict]:
    """Coordinates as signed bytes, 127 being the largest of the cloud's own."""
    for cloud, label in zip(samples.points.numpy(), samples.labels, strict=True):
        places = (cloud * (127 / np.abs(cloud).max())).round().astype(np.int8)
        content = base64.b64encode(places.tobytes()).decode()
        yield {"name": samples.class_names[int(label)], "points": content}


def _texts(samples: Samples) -> Iterator[dict]:
    for text in samples.shown():
        joined = _bits([text.touches(unit) for unit in range(len(text.units))])
        yield {"name": text.note, "words": text.units, "joined": joined, "parts": text.parts}


def pack_path(pack: dict) -> Path:
    """Named by samples and network, and by what is measured if not training samples."""
    on = pack["run"]["settings"]["measured_on"]
    told = f"{pack['modality']} {pack['network']} {'' if on == 'train' else on}".lower().strip()
    return results_root() / "pack" / f"{re.sub('[^a-z0-9]+', '_', told)}.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; mistakes go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m book.make.pack", description=__doc__)
    parser.add_argument("notebook", help="whose study it is, such as image_h1")
    parser.add_argument("--preset", default="study", help="of its parameters")
    parser.add_argument("--weights", metavar="LAYER", help="with those of the first pair there")
    told = "a parameter that is another, as it was when the study ran"
    parser.add_argument("-p", dest="parameters", action="append", default=[], help=told)
    return answered(lambda: _answer(parser.parse_args(arguments)))


def _answer(options: argparse.Namespace) -> None:
    passed = parse_assignments(options.parameters, options.notebook)
    given = resolve(models_for(options.notebook), passed | {"preset": options.preset})
    store = Reader()
    study = study_of(given, store)
    every = {layer: study.evidence(layer) for layer in given.layers}
    weights = final_weights(study, options.weights) if options.weights else None
    pack = packed(study, options.notebook, every) | {"entries": sorted({*store.read})}
    path, content = pack_path(pack), io.BytesIO()
    np.savez_compressed(content, **entropies(every))
    files = {path.with_suffix(".npz"): content.getvalue()}
    files |= {path.with_suffix(".safetensors"): save(weights)} if weights else {}
    files[path] = json.dumps(pack, separators=(",", ":"), allow_nan=False) + "\n"
    for one, held in files.items():
        write_whole(one, held)
        print(f"{one}: {one.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    sys.exit(main())

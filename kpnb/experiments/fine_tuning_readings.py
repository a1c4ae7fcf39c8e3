"""What the fine-tuning notebook found: its results file, tables, and a reading that may say no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import nn

from kpnb.datasets.samples import ImageSamples
from kpnb.experiments.fine_tuning import FineTuningStudy
from kpnb.experiments.fine_tuning_numbers import CLAIMS, NAMES, QUANTITIES, difference, own_value
from kpnb.metrics.evidence import Evidence
from kpnb.metrics.formatting import count
from kpnb.metrics.results import Number
from kpnb.metrics.stats import Estimate, bootstrap, paired_difference, verdict
from kpnb.study.findings import Findings, thresholds_around

BATCH = 256
_MINUS = "fine-tuned minus from scratch"


class FineTuningFindings(Findings):
    """The numbers of the fine-tuning notebook; no cell of the paper's tables is among them."""

    study: FineTuningStudy

    def add(self, evidence: Evidence) -> None:
        """All quantities of one layer: of both networks, and their differences."""
        layer = evidence.layer.lower()
        for name, quantity in QUANTITIES.items():
            about = f"{quantity.label} at {evidence.layer}"
            for role, called in NAMES.items():
                key = f"{name}_{_key(called)}_{layer}"
                found = own_value(evidence, role, name, self.threshold)
                self._keep(key, found, f"{about}, {called}", quantity.unit)
            # The difference of epochs_to_half goes by its plain name.
            key = name if name == "epochs_to_half" else f"{name}_difference"
            found = difference(evidence, name, self.threshold)
            self._keep(f"{key}_{layer}", found, f"{about}, {_MINUS}", quantity.unit)

    def measure_accuracies(self) -> None:
        """Shares of right answers on unseen and on training images, and their difference."""
        study, images = self.study, {"test": self.study.data.test_samples}
        images["train"] = study.data.training_samples
        if study.parameters.source == "classes":
            found = bootstrap(right_answers(study.source, "T", study.source.data.test_samples))
            self._keep("accuracy_source", found, "accuracy, source network, unseen", "share")
        for split, samples in images.items():
            start = "accuracy" if split == "test" else "accuracy_train"
            seen = "unseen" if split == "test" else "training images"
            right = {role: right_answers(study, role, samples) for role in "FB"}
            for role, called in zip("FB", NAMES.values(), strict=True):
                told = f"accuracy, {called}, {seen}"
                self._keep(f"{start}_{_key(called)}", bootstrap(right[role]), told, "share")
            gap = paired_difference(right["F"], right["B"])
            self._keep(f"{start}_difference", gap, f"accuracy, {_MINUS}, {seen}", "share")

    def _keep(self, key: str, found: Estimate | None, what: str, unit: str) -> None:
        if found is None:
            self.notes.append(f"{what}: not defined, for no image ends with a point.")
            return
        what = f"{what}; interval over images and {count(found.n_seeds, 'seed')}"
        interval = {"low": found.low, "high": found.high, "n": found.n_samples}
        self.numbers[key] = Number(value=found.value, what=what, unit=unit, **interval)


def _key(called: str) -> str:
    """A network's name as part of a number's name: fine_tuned, from_scratch."""
    return called.replace("-", "_").replace(" ", "_")


def right_answers(study: FineTuningStudy, role: str, samples: ImageSamples) -> np.ndarray:
    """(seeds, samples) 1 where the final network of a role names the class, else 0."""
    nets = [study.network(study.of(role, seed)) for seed in study.parameters.seeds]
    return np.stack([_right(net, samples) for net in nets]).astype(float)


@torch.inference_mode()
def _right(net: nn.Module, samples: ImageSamples) -> np.ndarray:
    device = next(net.parameters()).device
    net.eval()
    parts = [net(x.to(device)).argmax(1).cpu() for x in samples.images.split(BATCH)]
    return (torch.cat(parts) == samples.labels).numpy()


def accuracy_table(findings: FineTuningFindings) -> pd.DataFrame:
    """Shares of right answers with intervals, by network and images."""
    rows = {}
    for name, found in findings.numbers.items():
        if name.startswith("accuracy"):
            _, network, images = found.what.partition(";")[0].split(", ")
            share = f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"
            rows[network, images] = {"share right": share, "n images": found.n}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["network", "images"])


def differences_table(evidence: Mapping[str, Evidence], threshold: float) -> pd.DataFrame:
    """Layer and quantity: both networks and their difference with 95% intervals, and the verdict
    on what Section 4.5 reports."""
    rows = {}
    for layer, found in evidence.items():
        for name, quantity in QUANTITIES.items():
            own = {NAMES[r]: _told(own_value(found, r, name, threshold)) for r in NAMES}
            gap = difference(found, name, threshold)
            rows[layer, f"{quantity.label} [{quantity.unit}]"] = own | {
                "difference": _told(gap),
                "paper": quantity.prediction or "not stated",
                "verdict": _verdict(gap, quantity.prediction),
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["layer", "quantity"])


def thresholds_table(evidence: Mapping[str, Evidence], threshold: float) -> pd.DataFrame:
    """The differences that the claims rest on, at the thresholds of Table III and the one in
    use."""
    rows = {}
    for layer, found in evidence.items():
        for name in CLAIMS:
            for b in thresholds_around(threshold):
                gap = difference(found, name, b)
                told = f"{_told(gap)} {_verdict(gap, QUANTITIES[name].prediction)}"
                rows.setdefault((layer, QUANTITIES[name].label), {})[f"b = {b:g}"] = told
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["layer", "difference of"])


def reading(evidence: Mapping[str, Evidence], findings: FineTuningFindings) -> str:
    """What became of the three statements of Section 4.5, as Markdown; it may be no."""
    judged: list[str] = []
    lines = []
    for layer, found in evidence.items():
        for name, claim in CLAIMS.items():
            gap = difference(found, name, findings.threshold)
            judged.append(_verdict(gap, QUANTITIES[name].prediction))
            unit = QUANTITIES[name].unit.removeprefix("1")
            told = f"{QUANTITIES[name].label}, {_MINUS}: {_told(gap)} {unit}".strip()
            lines.append(f"- {layer}, {claim}: **{judged[-1]}** ({told}).")
    lines += ["", *(_head_start(found, findings.threshold) for found in evidence.values())]
    return "\n".join([_over(evidence, findings), "", *lines, "", _answer(judged)])


def _head_start(evidence: Evidence, threshold: float) -> str:
    """Whether an early lead is more than what the fine-tuned network starts with."""
    start, rise = (difference(evidence, name, threshold) for name in ("start_n_fg", "early_rise"))
    if start is None or rise is None:
        return f"{evidence.layer}: what the networks start with is not defined here."
    told = {
        "reproduced": "so *new* points are learned more quickly too.",
        "contradicted": "so *new* points are learned more slowly: a lead is a head start.",
        "inconclusive": "so that *new* points are learned more quickly is not shown.",
    }[verdict(rise, "up")]
    return (
        f"At {evidence.layer}, {_MINUS} is {start} points before the first step, and {rise} points "
        f"in what the first half of training adds to that, {told}\n"
    )


def _over(evidence: Mapping[str, Evidence], findings: FineTuningFindings) -> str:
    study, first = findings.study, next(iter(evidence.values()))
    over = f"{count(len(first.foreground), 'image')}, {count(len(first.seeds), 'seed')}"
    network = f"{study.network_name} ({study.scale}) on {study.dataset}"
    return f"**Fine-tuning against training from scratch**, {network}, {over}, b = " + (
        f"{findings.threshold:g} nats:"
    )


def _answer(judged: Sequence[str]) -> str:
    """The answer, which may be no, and the verdicts behind it."""
    counts = {v: judged.count(v) for v in ("reproduced", "contradicted", "inconclusive")}
    told = ", ".join(f"{n} {name}" for name, n in counts.items() if n)
    if counts["reproduced"] == len(judged):
        start = "**Yes: what Figure 7 shows is found here too.**"
    elif counts["reproduced"] and counts["contradicted"]:
        start = "**No clear answer: part of it is found here, and the opposite of another part.**"
    elif counts["reproduced"]:
        start = "**In part: what is not found again is inconclusive.**"
    elif counts["contradicted"]:
        start = "**No: nothing of it is found here, and the opposite of some of it is.**"
    else:
        start = "**Inconclusive: the data here say neither yes nor no.**"
    return f"{start} Of {count(len(judged), 'statement')}: {told}."


def _told(found: Estimate | None) -> str:
    return "not defined" if found is None else str(found)


def _verdict(gap: Estimate | None, prediction: str) -> str:
    if gap is None or not prediction:
        return "inconclusive" if prediction else ""
    return verdict(gap, prediction)

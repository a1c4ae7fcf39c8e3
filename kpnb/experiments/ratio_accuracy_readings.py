"""The correlations of Figure 2 in numbers, a table, and sentences that may say no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import pandas as pd

from kpnb.experiments.ratio_accuracy import (
    RESAMPLES,
    RatioAccuracy,
    Relation,
    across_networks,
    estimate,
    given_epoch,
    of_steps,
    over_checkpoints,
    with_epoch,
)
from kpnb.metrics.formatting import count, interval, signed
from kpnb.metrics.results import Number, Results
from kpnb.metrics.stats import Estimate, interval_verdict
from kpnb.study.findings import Findings
from kpnb.study.study import Study

CODE = ("student_curve", "final_networks", "answers", "record")  # what computes the numbers
LIKELY_LAYER = "FC1"  # the layer of Figure 2; its symbol is lost in our copy of the paper
SAMPLES = {"test": "unseen samples", "train": "training samples"}
NETWORKS = "networks"
TREND = "lambda_trend"


@dataclass(frozen=True)
class Question:
    """One correlation over the checkpoints of a student.

    trained: without the untrained checkpoint. steps: its points are changes between checkpoints.
    """

    text: str
    relation: Relation = over_checkpoints
    split: str = "test"
    trained: bool = False
    steps: bool = False


QUESTIONS = {
    "test": Question("lambda and accuracy on unseen samples"),
    "train": Question("lambda and accuracy on training samples", split="train"),
    "test_trained": Question(
        "lambda and accuracy on unseen samples, without the untrained network", trained=True
    ),
    "test_detrended": Question(
        "lambda and accuracy on unseen samples, partial: given the epoch", given_epoch
    ),
    "test_steps": Question(
        "changes of lambda and of accuracy on unseen samples, checkpoint to checkpoint",
        of_steps,
        steps=True,
    ),
    TREND: Question("lambda and the epoch", with_epoch),
}


@dataclass(frozen=True)
class Answer:
    """A correlation with its interval (NaN where undefined), its points, and what it is."""

    found: Estimate
    n: int
    what: str

    @property
    def defined(self) -> bool:
        """Whether the data give a value and an interval at all."""
        return isfinite(self.found.value) and isfinite(self.found.low)

    @property
    def verdict(self) -> str:
        """Of the paper's statement that a larger lambda goes with better performance."""
        return interval_verdict(self.found.low, self.found.high, "up")

    def __str__(self) -> str:
        return signed(self.found.value) + interval(self.found.low, self.found.high, signed)


def in_order(layers: Sequence[str]) -> list[str]:
    """The layers with Figure 2's likely one first, so that every preset tells of it first."""
    return sorted(layers, key=lambda layer: layer != LIKELY_LAYER)


def answers(
    curve: RatioAccuracy, networks: RatioAccuracy, resamples: int = RESAMPLES
) -> dict[str, Answer]:
    """name -> correlation over a student's checkpoints, and across the final networks."""
    found = {name: _over_training(curve, asked, resamples) for name, asked in QUESTIONS.items()}
    across = estimate(networks, "test", across_networks, resamples)
    n = networks.ratio.shape[0] * networks.ratio.shape[1]
    what = "lambda and accuracy on unseen samples, across teacher, student and baseline"
    return found | {NETWORKS: Answer(across, n, what)}


def _over_training(curve: RatioAccuracy, question: Question, resamples: int) -> Answer:
    points = curve.without_first() if question.trained else curve
    found = estimate(points, question.split, question.relation, resamples)
    checkpoints = len(points.places) - question.steps
    return Answer(found, checkpoints * len(points.seeds), question.text)


def record(findings: Findings, by_layer: Mapping[str, Mapping[str, Answer]]) -> None:
    """Put the correlations among the numbers, those of the first layer without its name; what is
    undefined becomes a note."""
    for place, (layer, found) in enumerate(by_layer.items()):
        for name, answer in found.items():
            if answer.defined:
                ending = f"_{layer}" if place else ""
                findings.numbers[_key(name) + ending] = _number(answer, layer)
            else:
                findings.notes.append(f"{layer}, {answer.what}: {_UNDEFINED}.")


_UNDEFINED = "undefined here (too few points, or one of the two does not vary)"


def _key(name: str) -> str:
    return name if name == TREND else f"correlation_{name}"


def _number(answer: Answer, layer: str) -> Number:
    found = answer.found
    over = f"{count(found.n_samples, 'sample')} and {count(found.n_seeds, 'seed')}"
    return Number(
        value=found.value,
        low=found.low,
        high=found.high,
        n=answer.n,
        what=f"Spearman's correlation, {layer}: {answer.what}; interval over {over}",
    )


def results(findings: Findings) -> Results:
    """The results file, which depends on what is computed here as well."""
    findings.depend_on(*CODE)
    return findings.results()


def correlation_table(by_layer: Mapping[str, Mapping[str, Answer]]) -> pd.DataFrame:
    """Layer and correlation: value with interval, points, and what it says of the statement."""
    rows = [
        {
            "layer": layer,
            "Spearman's correlation of": answer.what,
            "value": str(answer) if answer.defined else "undefined",
            "points": answer.n,
            "larger lambda, better": "" if name == TREND else answer.verdict,
        }
        for layer, found in by_layer.items()
        for name, answer in found.items()
    ]
    return pd.DataFrame(rows).set_index(["layer", "Spearman's correlation of"])


def reading(study: Study, by_layer: Mapping[str, Mapping[str, Answer]]) -> str:
    """What the correlations say of Section 4.2, as Markdown, built from the numbers alone."""
    first = next(iter(by_layer.values()))["test"].found
    p = study.parameters
    lines = [
        f"**A larger lambda goes with better performance** (Section 4.2), {study.network_name} "
        f"({study.scale}) on {study.dataset}, {count(len(p.checkpoints), 'checkpoint')}, "
        f"{count(first.n_samples, p.SAMPLE)}, {count(first.n_seeds, 'seed')}, b = {p.threshold:g}:",
        "",
        *(f"- {_of_layer(layer, found)}" for layer, found in by_layer.items()),
        "",
        _summary([found["test"].verdict for found in by_layer.values()]),
    ]
    return "\n".join(lines)


def _of_layer(layer: str, found: Mapping[str, Answer]) -> str:
    return (
        f"{layer}: over training **{found['test'].verdict}** on unseen samples "
        f"({_told(found['test'])}) and {found['train'].verdict} on training samples "
        f"({_told(found['train'])}); without the untrained network {_told(found['test_trained'])}, "
        f"{found['test_trained'].verdict}. {_detrended(found)} Across networks "
        f"{_told(found[NETWORKS])}, {found[NETWORKS].verdict}, of "
        f"{count(found[NETWORKS].n, 'point')} that fall into three groups."
    )


def _told(answer: Answer) -> str:
    return str(answer) if answer.defined else "undefined"


def _detrended(found: Mapping[str, Answer]) -> str:
    """What taking the trend over epochs out does to the verdict on unseen samples."""
    plain, left = found["test"], found["test_detrended"]
    if not left.defined:
        return "With the trend over epochs taken out nothing is left to correlate."
    if left.verdict == plain.verdict:
        effect = "which changes no verdict"
    elif left.verdict == "inconclusive":
        effect = "so what there was beyond both changing with the epoch is undecided"
    else:
        effect = f"which turns the verdict to {left.verdict}"
    trend = f"lambda correlates with the epoch itself by {_told(found[TREND])}"
    return f"With the trend over epochs taken out it is {_told(left)}, {effect} ({trend})."


def _summary(verdicts: Sequence[str]) -> str:
    """The answer over layers, which may be no."""
    names = ("reproduced", "contradicted", "inconclusive")
    counts = {name: verdicts.count(name) for name in names if name in verdicts}
    told = ", ".join(f"{name} in {number}" for name, number in counts.items())
    return f"Over training, on unseen samples, of {count(len(verdicts), 'layer')}: {told}."

"""What a notebook found, as the results file that tables, pages and README are made from."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from kpnb.fingerprint import Stopwatch, provenance
from kpnb.metrics import evidence as measures
from kpnb.metrics.evidence import Choices, Evidence
from kpnb.metrics.formatting import count
from kpnb.metrics.protocol import primary_metrics
from kpnb.metrics.results import (
    Comparison,
    Measure,
    Number,
    Results,
    Values,
    estimated,
    run_fingerprint,
)
from kpnb.metrics.stats import Estimate, crossed, false_decisions, mean, paired_difference
from kpnb.paper import DISTANCE_METRICS, FINAL_METRICS, METRICS, ROLES
from kpnb.study.display import NotebookFindings
from kpnb.study.study import Study
from kpnb.training.fitness import Fitness, explained_shares, fitness_of

#: What a results file has of findings as they are.
FILED = ("notebook", "run", "measures", "comparisons", "notes", "numbers", "values")


class Findings(NotebookFindings):
    """Collects what one notebook measured on a study; `results()` is its results file.

    hypothesis: whose metrics are measured; None for all. run: one of a sweep's, "" for none.
    """

    def __init__(
        self, study: Study, notebook: str, hypothesis: int | None = None, run: str = ""
    ) -> None:
        self.study, self.notebook, self.run = study, notebook, run
        self.metrics = METRICS if hypothesis is None else measures.hypothesis_metrics(hypothesis)
        self.threshold = study.parameters.threshold
        self.measures: list[Measure] = []
        self.comparisons: list[Comparison] = []
        self.notes: list[str] = []
        self.numbers: dict[str, Number] = {}
        self.evidence: dict[str, Evidence] = {}
        self.fitness: dict[str, Fitness] = {}
        self.values: list[Values] = []
        self._further_code: list[str] = []
        self._watch = Stopwatch()
        self._watch.__enter__()

    def measure(self, *layers: str) -> None:
        """Train what the store does not have, estimate the maps, and add the evidence of some
        layers, by default of all that the parameters name: the long part of a notebook."""
        for layer in layers or self.study.parameters.layers:
            self.evidence[layer] = found = self.study.evidence(layer)
            if "T" in found.maps:
                self.fitness[layer] = fit = fitness_of(self.study, found, self.threshold)
                self.numbers |= fit.numbers
                self._keep_explained(layer)
                self.notes += filter(None, [fit.reason])
            self.add(found)

    def add(self, evidence: Evidence) -> None:
        """Measures and comparisons of one layer: all samples at every threshold, both weight
        distances, and the published filter's samples at the threshold in use; what is not defined
        for any sample is noted instead."""
        chosen, selected = Choices(self.threshold), evidence.published_selection()
        sample, defined = self.study.parameters.SAMPLE, self.defined(evidence)
        missing = [metric for metric in self.metrics if metric not in defined]
        if missing:
            self.notes.append(
                f"{evidence.layer}: {', '.join(missing)} not measured, because no {sample} is "
                "followed with an entropy map at every checkpoint of student and baseline."
            )
        for threshold in measures.thresholds_around(self.threshold):
            self._add(evidence, Choices(threshold), "all", self.metrics)
        for unit in measures.UNITS[1:] if "d_mean" in self.metrics else ():
            self._add(evidence, Choices(self.threshold, unit), "all", DISTANCE_METRICS)
        self._keep_values(evidence)
        if "n_fg" in self.metrics:
            self._add_entropies(evidence)
        if "rho" in defined:
            self._add_dropped(evidence)
        if int(selected.sum()) >= 2:
            self._add(evidence.keep(selected), chosen, "published_filter", self.metrics)
        else:
            self.notes.append(
                f"{evidence.layer}: the published filter keeps {int(selected.sum())} of "
                f"{count(len(selected), sample)}, too few to measure."
            )

    def defined(self, evidence: Evidence) -> tuple[str, ...]:
        """Those of the metrics that some sample has a value of, in student and baseline."""
        chosen = Choices(self.threshold)
        return tuple(m for m in self.metrics if measures.is_defined(evidence, m, chosen))

    def add_accuracies(self, layers: Iterable[str]) -> None:
        """Scores of teacher, baseline and of the student of each layer."""
        for role, layer in [("T", ""), ("B", ""), *(("S", layer) for layer in layers)]:
            for split, values in self.study.accuracies(role, layer or None).items():
                self.measures.append(found := self._accuracy(role, layer, split, values))
                self._keep(layer, role, found.metric, values)

    @property
    def code(self) -> tuple[str, ...]:
        """Public names of what computes the numbers; what they refer to is counted too."""
        return type(self.study).__name__, type(self).__name__, *self._further_code

    def depend_on(self, *names: str) -> None:
        """Add the public names of what else has computed numbers of these to `code`."""
        self._further_code += [name for name in names if name not in self._further_code]

    def results(self) -> Results:
        """The results file's content; seconds include what the store's entries once took."""
        settings = self.study.parameters.model_dump(mode="json")
        used = self._watch.as_dict()
        return Results(
            preset=self.study.parameters.preset,
            settings=settings,
            provenance=provenance() | {"code": list(self.code), "data": self.study.data.hashes},
            seconds=used["seconds"] + self.study.stored_seconds(),
            peak_memory_mb=used["peak_memory_mib"],
            fingerprint=run_fingerprint(settings, self.code),
            **{name: getattr(self, name) for name in FILED},
        )

    def _accuracy(self, role: str, layer: str, split: str, values: list[float]) -> Measure:
        """Mean over seeds; the interval is the range over seeds, none for a single one."""
        many = len(values) > 1
        split, _, other = split.partition(" ")
        return Measure(
            **self._cell(layer),
            role=role,
            metric=f"{other or self.study.SCORE}_{split}",
            mean=sum(values) / len(values),
            low=min(values) if many else None,
            high=max(values) if many else None,
            n_samples=len(self.study.data.splits[split]),
            n_seeds=len(values),
        )

    def _cell(self, layer: str) -> dict[str, str]:
        study = self.study
        shared = {"network": study.network_name, "scale": study.scale, "dataset": study.dataset}
        return shared | {"layer": layer, "sample": study.parameters.SAMPLE}

    def _add_entropies(self, evidence: Evidence) -> None:
        """What is discarded of background and foreground, which counts alone do not tell."""
        for role, name in ROLES.items():
            inside, outside = measures.final_entropies(evidence, role)
            minus, shared = " minus that of foreground units", (mean, evidence.teachers)
            found = {"background_entropy": (crossed(outside, *shared), "")}
            found["entropy_gap"] = paired_difference(outside, inside, *shared), minus
            for key, (value, minus) in found.items():
                what = f"mean entropy of background units{minus}, {name} at {evidence.layer}"
                number = estimated(value, what, unit="nats")
                self.numbers[f"{key}_{role}_{evidence.layer}"] = number

    def _add_dropped(self, evidence: Evidence) -> None:
        """How many points were dropped on the way, of which rho does not tell."""
        chosen = Choices(self.threshold)
        pair = [measures.metric_values(evidence, role, "dropped", chosen) for role in "SB"]
        found = {role: crossed(own, mean, evidence.teachers)
                 for role, own in zip("SB", pair, strict=True)}  # fmt: skip
        found["difference"] = paired_difference(*pair, mean, evidence.teachers)
        names = {role: ROLES[role] for role in "SB"} | {"difference": "student minus baseline"}
        for key, value in found.items():
            what = f"foreground points tried and dropped, {names[key]} at {evidence.layer}"
            self.numbers[f"dropped_{key}_{evidence.layer}"] = estimated(value, what)

    def _add(
        self, evidence: Evidence, choices: Choices, selection: str, metrics: Sequence[str]
    ) -> None:
        metrics = [m for m in metrics if measures.is_defined(evidence, m, choices)]
        fit = self.fitness.get(evidence.layer)
        for metric, found in measures.decided(evidence, metrics, choices).items():
            shared = self._cell(evidence.layer) | {
                "metric": metric,
                "threshold": choices.threshold,
                "selection": selection,
                "distance": choices.per if metric in DISTANCE_METRICS else None,
            }
            for role in "TSB" if metric in FINAL_METRICS else "SB":
                own = measures.estimate(evidence, role, metric, choices)
                given = self._spread(own) | {"role": role, "mean": own.value}
                self.measures.append(Measure(**shared, **given))
            given = self._spread(found.difference) | {"prediction": found.prediction}
            given |= {"margin": found.margin, "p": None if math.isnan(found.p) else found.p}
            given["verdict"] = found.verdict if fit is None or fit.fit else "not measurable"
            gap = found.difference.value
            self.comparisons.append(Comparison(**shared, **given, difference=gap))

    def _keep_values(self, evidence: Evidence) -> None:
        """What the headline measures rest on, at five digits."""
        chosen = Choices(self.threshold)
        for metric in (m for m in self.defined(evidence) if m != "d_var"):
            for role in "TSB" if metric in FINAL_METRICS else "SB":
                rows = measures.metric_values(evidence, role, metric, chosen)
                told = [" ".join("-" if math.isnan(v) else f"{v:.5g}" for v in row) for row in rows]
                about = {"threshold": self.threshold, "by_seed": told, "metric": metric}
                about["distance"] = chosen.per if metric in DISTANCE_METRICS else None
                self.values.append(Values(layer=evidence.layer, role=role, **about))
                if role == "B" and metric in primary_metrics():
                    self._add_false_decisions(evidence.layer, metric, rows)

    def _keep_explained(self, layer: str) -> None:
        for name, split in (("train", "train"), ("new", self.study.data.held_out)):
            shares = explained_shares(self.study, layer, split)
            self._keep(layer, "S", f"explained_{name}", shares)

    def _keep(self, layer: str, role: str, metric: str, by_seed: Sequence[float]) -> None:
        told = [f"{value:.5g}" for value in by_seed]
        self.values.append(Values(layer=layer, role=role, metric=metric, by_seed=told))

    def _add_false_decisions(self, layer: str, metric: str, values: np.ndarray) -> None:
        """What the intervals are worth on this study's own networks, of three and of more pairs."""
        for pairs in {3, (len(values) - 1) // 2} if len(values) > 2 * 3 else ():
            found = false_decisions(values, pairs)
            what = f"share of {metric} decided between {pairs} and {pairs} baselines at {layer}"
            number = estimated(found, what, n=found.n_seeds)
            self.numbers[f"false_decisions_{pairs}_{metric}_{layer}"] = number

    @staticmethod
    def _spread(found: Estimate) -> dict[str, float | int | None]:
        ends = {} if math.isnan(found.low) else {"low": found.low, "high": found.high}
        return ends | {"n_samples": found.n_samples, "n_seeds": found.n_seeds}

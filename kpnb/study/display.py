"""What a notebook shows: the study that its parameters make, and each table and figure in a call.

Nothing here computes a number that a results file holds, so that no result depends on it.
"""

from __future__ import annotations

import ast
import importlib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from kpnb.errors import KpnbError, require
from kpnb.figures import charts, paper, widgets
from kpnb.metrics import evidence as measures
from kpnb.metrics.evidence import Choices, Evidence, difference
from kpnb.metrics.formatting import count
from kpnb.metrics.points import KnowledgePoints
from kpnb.metrics.results import write_results
from kpnb.paper import FINAL_METRICS, HYPOTHESES, ROLES, SCORES
from kpnb.study import verdicts
from kpnb.study.parameters import Model as Parameters
from kpnb.study.parameters import StudyParameters, resolve
from kpnb.study.presets.own_model import with_more
from kpnb.study.verdicts import NAMES, SELECTIONS, label, with_interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kpnb.study.findings import Findings

INJECTED = "# Parameters"  # the first line of a cell that papermill puts in


class Prose(str):
    """Markdown, which a notebook shows as such."""

    __slots__ = ()

    def _repr_markdown_(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Folded:
    """A table that pages show when a reader opens it; whole where there are no folds."""

    table: pd.DataFrame
    summary: str

    def __repr__(self) -> str:
        return f"{self.summary}\n{self.table}"

    def _repr_html_(self) -> str:
        return f"<details><summary>{self.summary}</summary>{self.table.to_html()}</details>"


def show(*shown: object) -> None:
    """Several things as outputs of one cell."""
    from IPython.display import display  # here: what only checks or measures has no IPython

    display(*shown)


def _parameters_cell(cells: Sequence[str]) -> list[str]:
    """The names that the cell which sets `preset` last assigned, and those papermill adds."""
    found = [position for position, cell in enumerate(cells) if "preset" in _assigned(cell)]
    if not found:
        return []
    own = next((p for p in reversed(found) if not cells[p].startswith(INJECTED)), found[-1])
    behind = [cell for cell in cells[own + 1 : own + 2] if cell.startswith(INJECTED)]
    return [name for cell in [cells[own], *behind] for name in _assigned(cell)]


def _assigned(cell: str) -> list[str]:
    """The names that a cell's lines assign; none for one that is not plain Python."""
    try:
        statements = ast.parse(cell).body
    except SyntaxError:
        return []
    targets = [t for s in statements if isinstance(s, ast.Assign) for t in s.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def notebook_parameters(names: Mapping[str, object], model: type[Parameters]) -> Parameters:
    """The parameters that a notebook's names are, as `NotebookStudy.from_notebook` takes them."""
    wanted = {"more", *model.model_fields}
    wanted |= set(_parameters_cell(names["In"]) if "In" in names else names)
    given = {name: value for name, value in names.items() if name in wanted}
    return resolve(model, with_more(given), "demo")


def parameters_table(parameters: Parameters) -> pd.DataFrame:
    """Every parameter with its value, and the value in the preset's file where that differs."""
    values, name = parameters.model_dump(mode="json"), parameters.preset
    preset = resolve(type(parameters), {"preset": name}).model_dump(mode="json")
    other = {n: str(preset[n]) if preset[n] != value else "" for n, value in values.items()}
    rows = {"value": {n: str(v) for n, v in values.items()}}
    rows |= {f"instead of the {name} preset's": other}
    return pd.DataFrame(rows).rename_axis("parameter")


class NotebookStudy:
    """What a notebook needs of a study: to make it from its parameters, and to show what it is."""

    @classmethod
    def from_notebook(
        cls, names: Mapping[str, object], model: type[StudyParameters] | None = None
    ) -> Self:
        """The study of a notebook's parameters cell: `kpnb.ImageStudy.from_notebook(globals())`.

        The values that the cell names are the run, with `more` over them; what neither names is the
        demo's, and `preset` is a label. Of the other names in `globals()` those count that the
        model has. Without IPython's history of cells in `names`, all are parameters. model: the
        study's own by default. Raises KpnbError, one sentence, for a name that is no parameter
        (with the nearest ones) and a value of the wrong type or range (with what is allowed).
        """
        return cls(notebook_parameters(names, model or typing.get_type_hints(cls)["parameters"]))

    def plan(self) -> Prose:
        """What the run will take, if the runner is there to say; "" if it is not."""
        try:
            found = importlib.import_module("kpnb.run.plan").plan_lines(self)
        except ModuleNotFoundError:
            found = ""
        except KpnbError as unknown:
            found = f"What this run takes is not known: {unknown}"
        return Prose(found)

    def _ipython_display_(self) -> None:
        table, preset = parameters_table(self.parameters), self.parameters.preset
        other = table.index[table.iloc[:, 1] != ""]
        told = f"other than the {preset} preset's: {', '.join(other) or 'none'}"
        show(Folded(table, f"{len(table)} parameters; {told}"), *filter(None, [self.plan()]))


def choices_table(
    evidence: Evidence, metrics: Sequence[str], options: Sequence[Choices]
) -> pd.DataFrame:
    """Student, baseline, their difference and the verdict under each set of choices."""
    rows = {}
    for choices in options:
        for metric, found in measures.decided(evidence, metrics, choices).items():
            values = {ROLES[r]: str(measures.estimate(evidence, r, metric, choices)) for r in "SB"}
            start = "included" if choices.untrained else "left out"
            values |= {"student - baseline": str(found.difference), "verdict": found.verdict}
            rows[NAMES[metric], choices.threshold, choices.per, start] = values
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.rename_axis(["metric", "b", "distance per", "untrained network"])


class NotebookFindings:
    """What notebooks show of their findings, one call for each table, figure or sentence.

    Figures are of the first layer that is fit to answer, named where there are several, and of the
    first seed. The example is the sample on which the student ends with most foreground knowledge
    points.
    """

    @property
    def first(self: Findings) -> Evidence:
        """The evidence of the first layer that passes the protocol's checks, of the first measured
        where none does; raises KpnbError before anything is measured."""
        require(self.evidence, "nothing is measured yet: call findings.measure() first.")
        fit = (layer for layer, found in self.fitness.items() if found.fit)
        return self.evidence[next(fit, next(iter(self.evidence)))]

    def _titled(self: Findings, figure: Figure) -> Figure:
        """A figure with the layer that it is of, where several are measured."""
        if len(self.evidence) > 1:
            figure.suptitle(self.first.layer, fontsize="medium")
        return figure

    @property
    def _trained(self: Findings) -> Evidence:
        """The same; raises KpnbError where no sample is followed through training."""
        require(self.first.followed, "followed is 0: give 2 or more, or None for all samples.")
        return self.first

    def points(self: Findings, role: str) -> KnowledgePoints:
        """Those of teacher T, student S or baseline B after training, at the threshold in use."""
        return self.first.points(role, 0, None, self.threshold)

    @property
    def example(self: Findings) -> int:
        return int(self.points("S").n_fg[: self.first.followed or None].argmax())

    def note(self: Findings, text: str) -> Prose:
        """A sentence for the reader, kept in the results file, once however often it is told."""
        if text not in self.notes:
            self.notes.append(text)
        return Prose(text)

    def check_teacher(self: Findings) -> Prose:
        """That the teacher is good; raises KpnbError if it is not, and the study is void."""
        return Prose(self.study.check_teacher())

    def fit(self: Findings) -> pd.DataFrame:
        """The protocol's checks of each layer: what is asked, found, and what to change."""
        require(self.fitness, "nothing is measured yet: call findings.measure() first.")
        tables = {layer: found.table() for layer, found in self.fitness.items()}
        return pd.concat(tables, names=["layer", "asked"])

    @property
    def _measured(self: Findings) -> paper.SampleSet:
        return self.study.data.measured

    @property
    def _one(self: Findings) -> paper.SampleSet:
        return self._measured.subset([self.example])

    def samples(self: Findings, count: int = 8) -> Figure:
        """Some of the measured samples with their foreground."""
        return paper.samples_figure(self._measured, self.study.data.foreground, count)

    def accuracies(self: Findings) -> pd.DataFrame:
        """Scores on seen and unseen samples, as a figure and as the table that is returned."""
        layers = self.study.parameters.layers
        if not any(m.metric in SCORES for m in self.measures):
            self.add_accuracies(layers)
        shown = {role: self.study.accuracies(role, layers[0]) for role in "TBS"}
        show(charts.accuracy_figure(shown, self.study.reference_lines, self.study.SCORE))
        return self.accuracy_table()

    def accuracy_table(self: Findings) -> pd.DataFrame:
        """Scores on seen and unseen samples: mean over seeds (smallest to largest)."""
        teachers, rows = self.study.parameters.teachers, []
        for m in (m for m in self.measures if m.metric in SCORES):
            network = ROLES[m.role] + (f" ({m.layer})" if m.layer else "")
            end = "" if m.low is None else f" ({m.low:.1%} to {m.high:.1%})"
            kind = SCORES[m.metric][::-1]
            shared = len(teachers) if m.role == "T" and teachers else m.n_seeds
            many = min(shared, m.n_seeds)
            rows.append((network, *kind, f"{m.mean:.1%}{end}", m.n_samples, many))
        columns = ["network", "samples", "score", "value", "n samples", "n networks"]
        return pd.DataFrame(rows, columns=columns).set_index(columns[:3])

    def schedules(self: Findings) -> pd.DataFrame:
        """How student (its distillation) and baseline were trained: what D depends on."""
        shown = ["loss", "epochs", "optimizer", "lr", "schedule", "warmup_epochs", "momentum"]
        seed, rows, rest = self.study.parameters.seeds[0], {}, ["weight_decay", "batch_size"]
        for role, loss in (("S", "feature MSE / variance"), ("B", "cross-entropy")):
            rows[ROLES[role]] = vars(self.study.settings(role, seed)) | {"loss": loss}
        return pd.DataFrame.from_dict(rows, orient="index")[[*shown, *rest]]

    def layers(self: Findings) -> Figure:
        """Figure 1(a): what the teacher's layers discard of the example."""
        return paper.layers_figure(self._one, self._layer_maps())

    def turning(self: Findings) -> object:
        """The example cloud in the colors of its entropy at the teacher's first layer, to turn."""
        layer, maps = next(iter(self._layer_maps().items()))
        return widgets.rotating_cloud(self._one, maps, label=f"entropy at {layer} of the teacher")

    def _layer_maps(self: Findings) -> Mapping[str, object]:
        trained = self.study.of("T", self.study.parameters.seeds[0])
        return self.study.layer_maps(trained, self._one)

    def definition(self: Findings) -> Figure:
        """Figure 3: how the knowledge points of the example are read off, in the student."""
        maps = self.first.maps["S"][0][self.first.epochs[-1]]
        drawn = paper.definition_figure(self._measured, maps, self.points("S"), self.example)
        return self._titled(drawn)

    def role_points(self: Findings, rows: int = 4) -> Figure:
        """Figure 6: the points of all three networks on the first samples."""
        found, shown = {r: self.points(r) for r in "TSB"}, range(min(rows, len(self._measured)))
        return self._titled(paper.role_points_figure(self._measured, found, rows=shown))

    def fates(self: Findings, role: str, panels: int | None = None) -> Figure:
        """Figure 5: the example's points in student S or baseline B, checkpoint by checkpoint.

        panels: so many of the checkpoints, spread evenly with the first and the last; None: all.
        """
        epochs = list(self.first.epochs)
        if panels is not None:
            places = [len(epochs) * k // (panels - 1) for k in range(panels - 1)]
            epochs = sorted({*(epochs[place] for place in places), epochs[-1]})
        trail = self._trails(role)
        return self._titled(paper.fates_figure(self._measured, trail, self.example, epochs))

    def fates_slider(self: Findings) -> object:
        """The example's points in both networks, to step through the checkpoints."""
        return widgets.fates_slider(self._measured, self._trails("SB"), self.example)

    def _trails(self: Findings, roles: str) -> dict[str, dict[int, KnowledgePoints]]:
        return {r: measures.trajectory_points(self._trained, r, 0, self.threshold) for r in roles}

    def picker(self: Findings) -> object:
        """In a live notebook: layer, sample and threshold to choose, of the student."""
        last = {la: found.maps["S"][0][found.epochs[-1]] for la, found in self.evidence.items()}
        return widgets.picker(self._measured, last, self.study.data.foreground)

    def figure(self: Findings, *metrics: str) -> Figure:
        """Metrics with their intervals by role; by default all that some sample has. The teacher
        is among the roles where its training is not asked for."""
        metrics, chosen = metrics or self.defined(self.first), Choices(self.threshold)
        roles = "TSB" if set(metrics) <= set(FINAL_METRICS) else "SB"
        told = {m: {r: measures.estimate(self.first, r, m, chosen) for r in roles} for m in metrics}
        return self._titled(charts.estimates_figure(told))

    def measure_table(self: Findings, selection: str = "all") -> pd.DataFrame:
        """Layer and metric against role: mean [95% interval], at the threshold in use."""
        rows = [
            {"layer": m.layer, "metric": label(m), ROLES[m.role]: with_interval(m.mean, m)}
            for m in self.measures
            if (m.threshold, m.selection) == (self.threshold, selection)
        ]
        table = pd.DataFrame(rows, columns=["layer", "metric", *ROLES.values()])
        table = table.groupby(["layer", "metric"], sort=False).first()
        return table.dropna(axis="columns", how="all").fillna("").rename_axis(columns="role")

    def comparison_table(self: Findings) -> pd.DataFrame:
        """Student minus baseline with verdict, all samples beside the published filter's."""
        rows = [c for c in self.comparisons if c.threshold == self.threshold]
        order = list(dict.fromkeys((c.layer, label(c)) for c in rows))
        rows.sort(key=lambda c: order.index((c.layer, label(c))))
        table = {
            "layer": [c.layer for c in rows],
            "metric": [label(c) for c in rows],
            "samples": [SELECTIONS[c.selection] for c in rows],
            "predicted": [c.prediction for c in rows],
            "student - baseline": [with_interval(c.difference, c) for c in rows],
            "n samples": [c.n_samples for c in rows],
            "n seeds": [c.n_seeds for c in rows],
            "verdict": [c.verdict for c in rows],
        }
        return pd.DataFrame(table).set_index(["layer", "metric", "samples"])

    def thresholds(self: Findings) -> Figure:
        """Student minus baseline at the thresholds of Table III and the one in use."""
        metrics, around = self.defined(self.first), measures.thresholds_around(self.threshold)
        gaps = {m: {b: difference(self.first, m, Choices(b)) for b in around} for m in metrics}
        return self._titled(charts.threshold_figure(gaps))

    def learning(self: Findings) -> Figure:
        """Figure 4: foreground points of every sample over the distance of the weights."""
        counts = {r: measures.trajectory_counts(self._trained, r, 0, self.threshold) for r in "SB"}
        ways = {role: self.first.distance[role, "epoch"][0][1:] for role in "SB"}
        ways = {role: (ways[role], counts[role]) for role in "SB"}
        return self._titled(paper.learning_figure(ways))

    def speeds(self: Findings) -> Figure:
        """How far the weights had come when a sample had most points, of all samples."""
        return self._titled(charts.speed_figure(self._values("d_mean")))

    def stability(self: Findings) -> Figure:
        """The share of points that is kept, of all samples."""
        return self._titled(charts.stability_figure(self._values("rho")))

    def _values(self: Findings, metric: str) -> dict[str, np.ndarray]:
        chosen = Choices(self.threshold)
        return {r: measures.metric_values(self._trained, r, metric, chosen)[0] for r in "SB"}

    def choices(self: Findings) -> pd.DataFrame:
        """The metrics with the untrained network and without it, D in each unit of the way."""
        ways = measures.UNITS if "d_mean" in self.metrics else measures.UNITS[:1]
        options = [Choices(self.threshold, way, start) for way in ways for start in (False, True)]
        return choices_table(self.first, self.metrics, options)

    def never_learned(self: Findings) -> Prose:
        """How many samples have no foreground knowledge point at any checkpoint after the first
        epoch, for which D and rho say nothing, of those that are followed, as a note."""
        told, evidence = [], self._trained
        for role in "SB":
            trails = [evidence.trajectory(role, seed, self.threshold) for seed in evidence.seeds]
            never = sum(int((sum(p.n_fg for p in trail) == 0).sum()) for trail in trails)
            of = count(evidence.followed * len(trails), self.study.parameters.SAMPLE)
            told.append(f"{ROLES[role]}: {never} of {of}")
        seeds = " (all seeds together)" if len(evidence.seeds) > 1 else ""
        start = f"Without a foreground knowledge point at any checkpoint{seeds}"
        return self.note(f"{start}: {'; '.join(told)}.")

    def even_share(self: Findings) -> Prose:
        """What lambda would be were points spread evenly over all units, as a note."""
        even = float(self.study.data.foreground.float().mean())
        return self.note(f"Were knowledge points spread evenly, lambda would be {even:.2f}.")

    def pieces(self: Findings) -> Prose:
        """Words of several pieces left out: the table, and the sentence that is returned."""
        fitness = self.fitness.get(self.first.layer)
        given = self.first, self._measured.single_pieces, self.threshold
        given += (fitness is None or fitness.fit,)
        show(verdicts.pieces_table(*given))
        return Prose(verdicts.pieces_reading(*given))

    def reading(self: Findings, *hypotheses: int) -> Prose:
        """The verdicts on the hypotheses that were measured, or on some of them, in words."""
        every = sorted({HYPOTHESES[metric] for metric in self.metrics})
        return Prose("\n\n".join(verdicts.reading(self, h) for h in hypotheses or every))

    def save(self: Findings) -> None:
        """Write the results file, and print how much it holds and what it took."""
        found = self.results()
        write_results(found)
        print(f"{len(found.measures)} measures, {len(found.comparisons)} comparisons, "
              f"{len(found.numbers)} numbers")  # fmt: skip
        print(
            f"{found.seconds / 60:.1f} minutes computed, {found.peak_memory_mb:.0f} MB at the peak"
        )

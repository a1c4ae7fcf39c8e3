"""What the measurement of coherency says: numbers for the results file, tables, the reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from kpnb.experiments.attributions import METHODS
from kpnb.experiments.coherency import ENTROPY, KINDS, VARIANCE, Coherency
from kpnb.metrics.formatting import count, number
from kpnb.metrics.results import Number
from kpnb.metrics.stats import Estimate
from kpnb.study.findings import Findings

# A map whose magnitude and shape change by less than 1% (0.01 nats; of the way to a flat map)
# counts as unchanged: far above rounding, far below the factor (ours).
COHERENT = 0.01
TITLES = {name: method.title for name, method in METHODS.items()} | {
    ENTROPY: "entropy (sigma)",
    VARIANCE: "sigma_f^2, undivided",
}
ENTROPY_FAMILY, INVERSION_FAMILY = "entropy-based", "inversion-based"
KIND_NAMES = {"layer": "one factor per layer", "channel": "a factor per channel"}
PREFIXES = {"layer": "", "channel": "channel_"}
# Section 3.2 argues it for the entropy; what Table I says of the others is by recollection.
GENERALITY = "yes, by information theory (the paper's claim)"
NO_GENERALITY = "no (the paper's claim, recollected)"

Found = Mapping[str, Coherency]


class CoherencyFindings(Findings):
    """Numbers of the notebook on coherency; the results depend on how it is measured, too."""

    @property
    def code(self) -> tuple[str, ...]:
        return *super().code, "measure_coherency"

    def add_coherency(self, found: Found) -> None:
        """Every score of every method, under both kinds of rescaling.

        coherency_<method>: |log(m'/m)| in nats; coherency_shape_<method>: change of shape;
        swaps_<method>, spread_<method>: between layers. Under a factor per channel the names begin
        with channel_.
        """
        for kind in KINDS:
            self._add_kind(found[kind], PREFIXES[kind], KIND_NAMES[kind])
        for method in _layered(found["layer"], found["layer"].methods):
            what = f"{TITLES[method]}: standard deviation over layers of log m, original network"
            spread = found["layer"].spread(method)
            self.numbers[f"spread_{method}"] = _as_number(spread, what, "nats")

    def _add_kind(self, found: Coherency, prefix: str, how: str) -> None:
        largest = {
            "entropy": (found.entropy_difference(), "|H' - H|", "nats"),
            "output": (found.output_difference, "|y' - y| before softmax", ""),
        }
        for name, (value, what, unit) in largest.items():
            what = f"largest {what}, {how}"
            self.numbers[f"{prefix}{name}_largest_difference"] = Number(
                value=value, what=what, unit=unit, n=len(self.study.data.measured)
            )
        for method in found.methods:
            for name, score, what, unit in _scores(found, method):
                what = f"{TITLES[method]}: {what}, {how}"
                self.numbers[f"{prefix}{name}_{method}"] = _as_number(score, what, unit)


def is_coherent(score: Estimate) -> bool:
    """Unchanged to within COHERENT, with all of its interval."""
    return score.high < COHERENT


def scores_table(found: Found) -> pd.DataFrame:
    """Method against score, value [95% interval], under both kinds of rescaling."""
    rows = {}
    for method in found["layer"].methods:
        row = {"explains": _about(method)}
        for kind in KINDS:
            for name, score, _, _ in _scores(found[kind], method):
                row[f"{COLUMNS[name]}, {KIND_NAMES[kind]}"] = _cell(score)
        rows[TITLES[method]] = row
    return pd.DataFrame.from_dict(rows, orient="index").fillna("").rename_axis("method")


COLUMNS = {
    "coherency": "magnitude [nats]",
    "coherency_shape": "shape [1]",
    "swaps": "layers swapped [1]",
}


def spread_table(found: Found) -> pd.DataFrame:
    """How far the layers' magnitudes lie apart, original and rescaled, one factor per layer."""
    coherency = found["layer"]
    rows = {
        TITLES[m]: {
            "original [nats]": _cell(coherency.spread(m)),
            "rescaled [nats]": _cell(coherency.spread(m, rescaled=True)),
        }
        for m in _layered(coherency, coherency.methods)
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def family_table(found: Found) -> pd.DataFrame:
    """Table I with what was measured: families of explanations by coherency and generality.

    Of each family, the methods with a map per layer; generality is the paper's claim, quoted.
    """
    families: dict[str, list[str]] = {}
    for method in _layered(found["layer"], found["layer"].methods):
        if method != VARIANCE:
            families.setdefault(_family(method), []).append(method)
    rows = {family: _family_row(found, members) for family, members in families.items()}
    rows[INVERSION_FAMILY] = {KIND_NAMES[kind]: "not measured" for kind in KINDS}
    rows[INVERSION_FAMILY] |= {"generality": NO_GENERALITY}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("family")


def _family_row(found: Found, members: Sequence[str]) -> dict[str, str]:
    row = {}
    for kind in KINDS:
        good = [m for m in members if _unchanged(found[kind], m)]
        scores = [found[kind].magnitude_change(m).value for m in members]
        low, high = number(min(scores)), number(max(scores))
        changes = low if low == high else f"{low} to {high}"
        row[KIND_NAMES[kind]] = f"{len(good)} of {len(members)}; magnitude by {changes} nats"
    entropy = members == [ENTROPY]
    return row | {"generality": GENERALITY if entropy else NO_GENERALITY}


def reading(found: Found, factor: float) -> str:
    """What was found, as Markdown, built from the scores alone; it may say no."""
    uniform, channels = found["layer"], found["channel"]
    lines = [
        _same_function(uniform, factor),
        _entropy_line(uniform),
        _named_line(uniform),
        _list_line(uniform, "With one factor per layer"),
        _normalized_line(uniform),
        _variance_line(uniform),
        _list_line(channels, "With a factor per channel"),
        _channel_line(channels),
    ]
    return "\n".join([*(f"- {line}" for line in lines if line), "", _answer(found)])


def _same_function(found: Coherency, factor: float) -> str:
    outputs = number(found.output_difference)
    return f"Rescaled by {factor:g}, scores before softmax differ by at most {outputs}."


def _entropy_line(found: Coherency) -> str:
    """What Figure 1(b) claims for the entropy."""
    gap, same = found.entropy_difference(), _unchanged(found, ENTROPY)
    told = "**unchanged**" if same else "**changed**"
    return f"The entropy is {told}: no $H_i$ differs by more than {number(gap)} nats."


def _named_line(found: Coherency) -> str:
    """The two that the paper names, and what stands for CAM."""
    named = [m for m in ("gradient", "activation", "grad_cam") if m in found.methods]
    told = [
        f"{TITLES[m]} {_cell(found.magnitude_change(m))} nats "
        f"({'**unchanged**' if _unchanged(found, m) else '**changed**'})"
        for m in named
    ]
    text = (
        f"The paper says that magnitudes of gradients and of CAM change. Here: {'; '.join(told)}."
    )
    return text if named else ""


def _list_line(found: Coherency, how: str) -> str:
    shown = [m for m in _layered(found, found.methods) if m != VARIANCE]
    good = [TITLES[m] for m in shown if _unchanged(found, m)]
    bad = [TITLES[m] for m in shown if not _unchanged(found, m)]
    return (
        f"{how}, of {count(len(shown), 'method')} with a map per layer, unchanged: "
        f"{', '.join(good) or 'none'}; changed: {', '.join(bad) or 'none'}."
    )


def _normalized_line(found: Coherency) -> str:
    changed = [m for m in found.methods if m != VARIANCE and not _magnitude_stays(found, m)]
    cured = [TITLES[m] for m in changed if is_coherent(found.shape_change(m))]
    if not changed:
        return ""
    return (
        f"Of the {len(changed)} whose magnitude changes, {len(cured)} stay as they are when a map "
        "is divided by its own sum: what dividing by $\\sigma_f^2$ does for the entropy."
    )


def _variance_line(found: Coherency) -> str:
    score = _cell(found.magnitude_change(VARIANCE))
    return (
        f"$\\sigma_f^2$ itself, by which the entropy's loss is divided, changes by {score} nats: "
        "the entropy's coherence is this division, and holds by construction."
    )


def _channel_line(found: Coherency) -> str:
    moved, gap = _cell(found.shape_change(ENTROPY)), number(found.entropy_difference())
    return (
        f"With a factor per channel $H_i$ differs by up to {gap} nats, and the shape of the map "
        f"of $\\sigma$ by {moved} of the way to a flat one, for the same function."
    )


def _answer(found: Found) -> str:
    entropy = {kind: _unchanged(found[kind], ENTROPY) for kind in KINDS}
    rivals = [m for m in _layered(found["layer"], METHODS) if m in found["layer"].methods]
    alone = not any(_unchanged(found["layer"], m) for m in rivals)
    if not entropy["layer"]:
        return "**No: the entropy changes with the rescaling, against the paper.**"
    only = "it alone" if alone else "but not it alone"
    limit = "it is so too" if entropy["channel"] else "it is not"
    return (
        f"**Yes: the entropy is coherent under the paper's rescaling, {only} among the maps of "
        f"layers. When channels are rescaled one by one, {limit}.**"
    )


def _scores(found: Coherency, method: str) -> list[tuple[str, Estimate, str, str]]:
    """Name, score, what it is and its unit; shapes need several units, order several layers."""
    scores = [("coherency", found.magnitude_change(method), "|log(m'/m)| per layer", "nats")]
    if method != VARIANCE:
        shape = found.shape_change(method)
        scores.append(
            (
                "coherency_shape",
                shape,
                "change of shape within a layer, over that to a flat map",
                "",
            )
        )
    if _layered(found, [method]):
        swaps = found.swaps(method)
        scores.append(("swaps", swaps, "share of pairs of layers that swap by magnitude", ""))
    return scores


def _layered(found: Coherency, methods: Sequence[str]) -> list[str]:
    """Those with a map per layer."""
    return [m for m in methods if m in found.methods and len(found.layers(m)) > 1]


def _magnitude_stays(found: Coherency, method: str) -> bool:
    return is_coherent(found.magnitude_change(method))


def _unchanged(found: Coherency, method: str) -> bool:
    return _magnitude_stays(found, method) and is_coherent(found.shape_change(method))


def _about(method: str) -> str:
    if method in METHODS:
        return {"layer": "class, by layer", "input": "class, by input"}.get(
            METHODS[method].about, "feature, by input"
        )
    return "feature, by input"


def _family(method: str) -> str:
    return METHODS[method].family if method in METHODS else ENTROPY_FAMILY


def _as_number(score: Estimate, what: str, unit: str) -> Number:
    return Number(
        value=score.value, low=score.low, high=score.high, n=score.n_samples, what=what, unit=unit
    )


def _cell(score: Estimate) -> str:
    return f"{number(score.value)} [{number(score.low)}, {number(score.high)}]"

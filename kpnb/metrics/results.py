"""Results files: what one notebook measured at one preset, as JSON that the book is made from.

    <results root>/<preset>/<notebook>.json
    <results root>/<preset>/cells/<run>.json    one of a sweep's many runs of a notebook

Every number in a table or in prose is read from these files, with its samples, seeds and
interval. The results of the preset "study" are committed, those of the demo are not.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from kpnb import fingerprint as keys
from kpnb.errors import KpnbError
from kpnb.fingerprint import Stopwatch, checkout, provenance
from kpnb.metrics.stats import VERDICTS, Estimate, judged
from kpnb.paper import LAYERS, METRICS, ROLES, SCORES

Role = Literal[tuple(ROLES)]
MetricName = Literal[METRICS]
Score = Literal[tuple(SCORES)]

#: b of the public code and of Table III's middle rows, in nats.
PAPER_THRESHOLD = 0.2

#: The folder of a preset's results that a sweep's runs are filed in.
CELLS = "cells"

#: Of fingerprints: 1 was taken over whole modules, 2 and 3 are over definitions, 3 as written now.
SCHEME = 3

_NAME = re.compile(r"[a-z0-9][a-z0-9_]*")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class _Interval(_Record):
    """low and high: ends of the 95% interval, None where there is none (one seed's accuracy)."""

    low: FiniteFloat | None = None
    high: FiniteFloat | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "_Interval":
        if (self.low is None) != (self.high is None):
            raise ValueError("low and high come together")
        if self.low is not None and self.low > self.high:
            raise ValueError("low must not exceed high")
        return self


class _Cell(_Interval):
    """What is said of one metric at one layer of a network.

    Attributes:
        layer: "Conv", "FC1", "FC2", "FC3"; for an accuracy the layer distilled, "" for none.
        network, scale, dataset: for instance "VGG-16", "narrow", "embedded images".
        sample: what one sample is called, as in "60 images".
        n_samples, n_seeds: what the mean and the interval are over.
        threshold: b, in nats; None for an accuracy.
        selection: "all" samples, or those the published filter keeps.
        distance: for d_mean and d_var, the unit of the way of training, of `kpnb.metrics.evidence`.
    """

    layer: str
    network: str
    scale: Literal["full", "narrow"]
    dataset: str
    sample: str = "image"
    n_samples: int = Field(ge=1)
    n_seeds: int = Field(ge=1)
    threshold: FiniteFloat | None = None
    selection: Literal["all", "published_filter"] = "all"
    distance: Literal["epoch", "step", "share", "time"] | None = None

    @property
    def cell(self) -> tuple[str, str, str, int, str]:
        """Data set, network, scale and layer; sorts layers from the input upwards."""
        depth = LAYERS.index(self.layer) if self.layer in LAYERS else len(LAYERS)
        return self.dataset, self.network, self.scale, depth, self.layer


class Measure(_Cell):
    """One metric of one network: teacher "T", student "S" or baseline "B"; Eq. 5-9, or a score
    between 0 and 1: accuracy, or F1 and exact match of answers."""

    role: Role
    metric: MetricName | Score
    mean: FiniteFloat


class Comparison(_Cell):
    """Student minus baseline in one metric: the mean of the differences, paired by sample and
    seed, the side that the paper's hypothesis is on, and the verdict.

    Attributes:
        margin: a difference smaller than this counts as none.
        p: against no difference, adjusted for the cell's other primary metrics; None: one seed.
    """

    metric: MetricName
    prediction: Literal["up", "down"]
    difference: FiniteFloat
    margin: FiniteFloat = Field(default=0.0, ge=0)
    p: FiniteFloat | None = None
    verdict: Literal[VERDICTS]

    @model_validator(mode="after")
    def _verdict_fits(self) -> "Comparison":
        p = float("nan") if self.p is None else self.p
        fits = judged(self.difference, self.low, self.high, self.prediction, self.margin, p)
        if self.verdict not in ("one seed" if self.n_seeds == 1 else fits, "not measurable"):
            raise ValueError(f"the verdict {self.verdict} does not fit the interval")
        return self


class Values(_Record):
    """What a metric of one role rests on: a value per sample, a string of them per seed, "-" where
    one is undefined; what is of all samples together, such as a score, is one value. layer to
    distance: as of a measure; D_var rests on the values of D_mean. explained: the share of the
    teacher's feature, on the samples trained on and on new ones."""

    layer: str
    role: Role
    metric: MetricName | Score | Literal["explained_train", "explained_new"]
    threshold: FiniteFloat | None = None
    distance: str | None = None
    by_seed: list[str]


class Number(_Interval):
    """Any other number that prose quotes: its value, unit, count, and what it is."""

    value: FiniteFloat
    what: str
    unit: str = ""
    n: int | None = Field(default=None, ge=1)


class Results(_Record):
    """What one notebook measured at one preset.

    Attributes:
        settings: the notebook's resolved parameters.
        provenance: what `kpnb.fingerprint.provenance()` gives, with "code" added: the public
            names of what computed the numbers, as `run_fingerprint` takes them.
        seconds, peak_memory_mb: of the run that computed them, nothing taken from the store.
        fingerprint: `run_fingerprint(settings, code)` when the numbers were computed.
        rekeyed: empty, or for a file whose fingerprint was taken anew when its code was rewritten
            or fingerprints changed: "from" the former one, "at" a commit it was fresh by.
        notes: sentences for the reader, such as why a hypothesis failed here.
        numbers: quoted by name in prose.
        values: what headline measures rest on, by sample and seed.
        run: of a sweep, the name that sets it apart from the notebook's other runs; "" for none.
    """

    notebook: str
    preset: str
    settings: dict
    provenance: dict
    seconds: FiniteFloat = Field(ge=0)
    peak_memory_mb: FiniteFloat = Field(ge=0)
    fingerprint: str
    measures: list[Measure] = []
    comparisons: list[Comparison] = []
    notes: list[str] = []
    numbers: dict[str, Number] = {}
    values: list[Values] = []
    run: str = ""
    rekeyed: dict[str, str] = {}

    @property
    def threshold(self) -> float:
        """The b, in nats, that this run's verdicts are stated at."""
        return self.settings.get("threshold", PAPER_THRESHOLD)

    def is_headline(self, item: Measure | Comparison) -> bool:
        """On all samples, at the run's own b, with the weight distance of Eq. 8."""
        return (
            item.selection == "all"
            and item.threshold in (None, self.threshold)
            and item.distance in (None, "epoch")
        )


def run_fingerprint(
    settings: dict, code: Sequence[str], versions: Mapping[str, str] | None = None
) -> str:
    """One hash for what a run's numbers depend on: settings, code, packed data and versions.

    settings: the notebook's resolved parameters, JSON-able. code: public names of what computes,
    such as "ImageStudy"; what these refer to in kpnb is counted too. versions: of libraries, by
    default those here. Starts with the scheme.
    Raises: KpnbError for a name that kpnb does not define once, or settings that JSON cannot hold.
    """
    parts = {"code": keys.code_fingerprint(*code), "data": keys.data_fingerprint(*code)}
    parts |= {"settings": settings, "versions": versions or keys.library_versions()}
    return f"{SCHEME}:{keys.fingerprint(parts)}"


CHANGED = "code or data of kpnb have changed since"


def freshness(results: Results, asked: dict | None = None) -> str:
    """Whether the code here would compute these results again: "fresh", "other versions" of
    libraries and which, where nothing else differs, or "stale" and why.

    asked: the parameters that they are to be of; None: their own.
    """
    code = results.provenance.get("code")
    if not code:
        return "unknown: the results do not name their code"
    asked = results.settings if asked is None else asked
    try:
        now = {"parameters": asked, "fingerprint": run_fingerprint(asked, code)}
    except KpnbError as error:
        return f"stale: {error}"
    versions = results.provenance.get("versions", {})
    then = {"parameters": results.settings, "fingerprint": results.fingerprint}
    why = why_stale(then | {"versions": versions}, now)
    if why and results.fingerprint == run_fingerprint(asked, code, _counted(versions)):
        return f"other versions: {why}"
    own = asked == results.settings and why != CHANGED  # nothing but versions is told so far
    return f"stale: {why}{f', and {CHANGED}' if own else ''}" if why else "fresh"


def _counted(versions: Mapping[str, str]) -> dict[str, str]:
    """Of recorded versions what fingerprints count: Python by major.minor."""
    counted = {name: versions.get(name, "") for name in keys.library_versions()}
    return counted | {"python": ".".join(counted["python"].split(".")[:2])}


def why_stale(then: Mapping, now: Mapping) -> str:
    """Why what was made `then` would not come out the same now; "" if it would.

    then, now: "parameters", "fingerprint" (of these, code, data, versions); then: "versions".
    """
    old, new = then["parameters"], now["parameters"]
    names = [name for name in sorted({**old, **new}) if old.get(name) != new.get(name)]
    if then["fingerprint"] == now["fingerprint"] and not names:
        return ""
    changed = [f"{name} was {old.get(name)!r}, is {new.get(name)!r}" for name in names]
    versions = then.get("versions", {})
    changed += [
        f"{name} {versions[name]}, here {here}"
        for name, here in keys.library_versions().items()
        # Python counts by major.minor, and may be recorded with its patch level.
        if name in versions and not f"{versions[name]}.".startswith(f"{here}.")
    ]
    return ", ".join(changed) or CHANGED


def results_root() -> Path:
    """KPNB_RESULTS if set, else book/results of the checkout, else ./results."""
    if os.environ.get("KPNB_RESULTS"):
        return Path(os.path.expanduser(os.environ["KPNB_RESULTS"]))
    clone = checkout()
    return clone / "book" / "results" if clone else Path.cwd() / "results"


def results_path(notebook: str, preset: str, run: str = "") -> Path:
    """Where the results of a notebook at a preset lie, or of one of a sweep's runs of it."""
    for name in (notebook, preset, run or notebook):
        if not _NAME.fullmatch(name):
            raise KpnbError(f"{name!r} is no name: use small letters, digits and underscores")
    folder = results_root() / preset
    return folder / CELLS / f"{run}.json" if run else folder / f"{notebook}.json"


def write_results(results: Results) -> Path:
    """Write a results file; gives its path. KpnbError as `write_whole`, and for NaN or infinity."""
    path = results_path(results.notebook, results.preset, results.run)
    try:
        text = json.dumps(results.model_dump(), indent=1, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise KpnbError(f"these results cannot be stored as JSON ({error}): see {path}") from error
    return write_whole(path, text + "\n")


def write_whole(path: Path, content: str | bytes) -> Path:
    """Write a file in one step: a reader sees the old file or the new, never a part. Returns: its
    path. Raises: KpnbError where it cannot be written, as on a full disk."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(content if isinstance(content, bytes) else content.encode())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise KpnbError(f"{path} cannot be written: {error.strerror}") from error
    return path


def read_results(notebook: str, preset: str, run: str = "") -> Results:
    """The results of a notebook at a preset, or of one of a sweep's runs of it. Raises: KpnbError
    where the file is missing, is not JSON, or does not fit the schema."""
    path = results_path(notebook, preset, run)
    how = f"run `python -m kpnb.run {notebook} --preset {preset}`"
    how = f"run `snakemake --cores 2 {run} --config preset={preset}`" if run else how
    try:
        found = Results.model_validate_json(path.read_bytes())
    except OSError as error:
        raise KpnbError(f"there are no results at {path}: {how} first") from error
    except ValidationError as error:
        first = error.errors()[0]
        told = f"{'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}"
        raise KpnbError(f"{path} is damaged ({told}): delete it and {how}") from error
    if (found.notebook, found.preset, found.run) != (notebook, preset, run):
        held = f"{found.run or found.notebook} at {found.preset}"
        raise KpnbError(f"{path} holds {held}: delete it and {how}")
    return found


def available_results(preset: str) -> list[Results]:
    """All results stored for a preset, in order of their notebooks' names; none is no error."""
    files = results_path("any", preset).parent.glob("*.json")
    return [read_results(path.stem, preset) for path in sorted(files)]


def available_cells(preset: str, notebook: str = "image_cell") -> list[Results]:
    """All results of sweeps stored for a preset, in order of their runs' names."""
    files = results_path(notebook, preset, "any").parent.glob("*.json")
    return [read_results(notebook, preset, path.stem) for path in sorted(files)]


def estimated(found: Estimate, what: str, unit: str = "", n: int | None = None) -> Number:
    """An estimate as a number of a results file; n: what it is over, by default its samples."""
    n = found.n_samples if n is None else n
    ends = {} if math.isnan(found.low) else {"low": found.low, "high": found.high}
    return Number(value=found.value, **ends, what=what, unit=unit, n=n)


def measured(
    notebook: str,
    settings: dict,
    code: Sequence[str],
    compute: Callable[[], dict[str, Number]],
    preset: str = "study",
) -> Results:
    """The results of a program that measures: what `compute` gives, on this process's clock.

    notebook: the name that the results are filed under; code: as `run_fingerprint` takes it.
    """
    with Stopwatch() as watch:
        numbers = compute()
    used = watch.as_dict()
    about = {"notebook": notebook, "preset": preset, "settings": settings, "numbers": numbers}
    about |= {"seconds": used["seconds"], "peak_memory_mb": used["peak_memory_mib"]}
    told = provenance() | {"code": list(code)}
    return Results(**about, provenance=told, fingerprint=run_fingerprint(settings, code))

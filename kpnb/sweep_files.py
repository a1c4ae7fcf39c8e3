"""Sweeps as files: many runs of one notebook, described in `data/sweeps/<name>.yaml`.

    title: ...                    what the runs show together
    table: II                     the paper's table that they stand beside
    notebook: image_cell
    presets: [smoke, demo, study] at which the sweep can be run; these if it says none
    parameters: {layers: [FC1]}   shared by all runs
    at: {study: {seeds: [0]}}     shared, at one preset only
    runs:
      ii_alexnet_from_vgg16:
        parameters: {network: AlexNet, teacher: VGG-16}
        at: {study: {samples: 60}}
        published: {network: AlexNet, learning: [distilled from VGG-16, scratch]}

What a run says of its own goes before what is shared; what neither says is the preset's. A run
without rows of the paper beside it says why: `unpublished: ...` in place of `published`.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from kpnb.errors import KpnbError
from kpnb.parameters import NotebookParameters, models_for, resolve

if TYPE_CHECKING:
    import pandas as pd

SHIPPED = Path(__file__).resolve().parent / "data" / "sweeps"
#: What a run's name and the preset asked for decide.
NOT_PARAMETERS = ("run", "preset")

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Parameters = dict[str, object]
Preset = Literal["smoke", "demo", "study", "paper"]


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Choice = Annotated[list[str], BeforeValidator(_listed), Field(min_length=1)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Selector(_Entry):
    """Which rows of the published table: one value or a list for each column named, any for
    the others; values as in `kpnb.published.published_table`."""

    dataset: Choice | None = None
    network: Choice | None = None
    layer: Choice | None = None
    learning: Choice | None = None
    grid_size: Choice | None = None
    threshold_b: Choice | None = None


class _Effort(_Entry):
    parameters: Parameters = {}
    at: dict[Preset, Parameters] = {}

    def at_preset(self, preset: str) -> Parameters:
        return self.parameters | self.at.get(preset, {})


class Run(_Effort):
    """One run of a sweep, as its file has it."""

    published: Selector | None = None
    unpublished: str = ""

    @model_validator(mode="after")
    def _stands_somewhere(self) -> Self:
        if bool(self.published) == bool(self.unpublished):
            raise ValueError("give either `published` (rows of the table) or `unpublished` (why)")
        return self


class Sweep(_Effort):
    """One file of runs."""

    title: str
    table: Literal["II", "III", "IV", "V", "VI", "VII", "VIII", "IX"]
    notebook: Name
    presets: Annotated[tuple[Preset, ...], Field(min_length=1)] = ("smoke", "demo", "study")
    runs: dict[Name, Run] = Field(min_length=1)

    def given(self, run: str, preset: str) -> Parameters:
        """The parameters that a run passes to its notebook at a preset, the preset left out."""
        own = self.runs[run].at_preset(preset)
        return self.at_preset(preset) | own | {"run": run}

    @cached_property
    def model(self) -> type[NotebookParameters]:
        return models_for(self.notebook)

    def resolved(self, run: str, preset: str) -> NotebookParameters:
        """All parameters of a run, checked; raises KpnbError as `kpnb.parameters.resolve` does."""
        return resolve(self.model, self.given(run, preset) | {"preset": preset})

    def published_rows(self, run: str) -> pd.DataFrame:
        """The paper's rows that a run stands beside, each once; none where it says why not."""
        from kpnb.published import published_table  # here: pandas takes a second, and few need it

        rows = published_table(self.table)
        selector = self.runs[run].published
        if selector is None:
            return rows.iloc[:0]
        for column, allowed in selector.model_dump(exclude_none=True).items():
            rows = rows[rows[column].isin(allowed)]
        return rows.drop_duplicates(ignore_index=True)


def read_sweeps(folder: Path = SHIPPED) -> dict[str, Sweep]:
    """All sweeps of a folder by name, each run checked against its notebook's parameters.

    Raises: KpnbError, naming file and run, for a file that is no sweep, a run's name used twice,
    and a parameter that the notebook does not take, at any preset.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise KpnbError(f"There are no sweeps (*.yaml) in {folder}: name another folder.")
    sweeps = {file.stem: _read(file) for file in files}
    _require_names_once(sweeps, files)
    for file, sweep in zip(files, sweeps.values(), strict=True):
        for run in sweep.runs:
            _require_resolves(sweep, run, file.name)
    return sweeps


def _read(file: Path) -> Sweep:
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), _Unrepeated)
        return Sweep.model_validate(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise KpnbError(f"The sweep {file.name} cannot be read: {cause}.") from error
    except ValidationError as error:
        raise KpnbError(f"The sweep {file.name} {_sentence(error)}.") from None


class _Unrepeated(yaml.SafeLoader):
    """YAML in which a key stands once; the plain loader keeps the last one without a word."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for place, key in enumerate(keys):
        if key in keys[:place]:
            mark = node.value[place][0].start_mark
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} stands twice", mark)
    return loader.construct_mapping(node, deep=True)


_Unrepeated.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _sentence(error: ValidationError) -> str:
    """The first mistake: the run it is in, the key, and what is wrong with it."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part != "[key]"]
    reason = str(first["ctx"]["error"]) if first["type"] == "value_error" else first["msg"]
    if place[:1] == ["runs"] and len(place) > 1:
        place = [f"run {place[1]}", *place[2:]]
    return f"has a mistake at {', '.join(place) or 'its beginning'}: {reason}"


def _require_names_once(sweeps: dict[str, Sweep], files: list[Path]) -> None:
    """Runs and sweeps are both targets, and a run's name is also that of its results."""
    owner: dict[str, str] = {name: f"a sweep ({name}.yaml)" for name in sweeps}
    owner["all"] = "every sweep together"
    for file, sweep in zip(files, sweeps.values(), strict=True):
        for run in sweep.runs:
            if run in owner:
                taken = f"the name of {owner[run]}"
                raise KpnbError(f"The sweep {file.name}, run {run}: this is already {taken}.")
            owner[run] = f"a run of {file.name}"


def _require_resolves(sweep: Sweep, run: str, file: str) -> None:
    where = f"The sweep {file}, run {run}"
    try:
        if "run" not in sweep.model.model_fields:
            raise KpnbError(f"The notebook {sweep.notebook} has no parameter 'run' to file under.")
        for preset in sweep.presets:
            given = sweep.at_preset(preset) | sweep.runs[run].at_preset(preset)
            for name in NOT_PARAMETERS:
                if name in given:
                    raise KpnbError(f"{name} is not set in a sweep: leave it out.")
            sweep.resolved(run, preset)
    except KpnbError as mistake:
        raise KpnbError(f"{where}: {mistake}") from None

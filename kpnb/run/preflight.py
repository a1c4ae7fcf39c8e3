"""The check of a notebook and its parameters before anything runs.

papermill runs a notebook whatever names and values it is passed; a mistyped name is then a
result with the default's value. So everything is read from the notebook's source first.
"""

from __future__ import annotations

import ast
import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import nbformat
import yaml

from kpnb.errors import KpnbError
from kpnb.fingerprint import (
    code_fingerprint,
    data_fingerprint,
    fingerprint,
    library_versions,
    notebook_seeds,
)
from kpnb.study.parameters import StudyParameters, models_for, resolve

TAG = "parameters"


@dataclass(frozen=True)
class Plan:
    """A run that passed the check.

    name: the notebook's name. source: its file. notebook: its content. given: the parameters
    passed on the command line. declared: those of its cell, with the passed values in place.
    resolved: the model, presets filled in. fingerprint: what the executed copy depends on.
    """

    name: str
    source: Path
    notebook: nbformat.NotebookNode
    given: dict[str, object]
    declared: dict[str, object]
    resolved: StudyParameters
    fingerprint: str

    def lines(self) -> list[str]:
        """The resolved parameters of the notebook, one a line, with where each comes from."""
        values = self.resolved.model_dump(mode="json")
        return [f"  {name} = {values[name]!r}  ({self._origin(name)})" for name in self.declared]

    def _origin(self, name: str) -> str:
        if name in self.given and self.given[name] is not None:
            return "given"
        return "notebook" if self.declared[name] is not None else f"preset {self.resolved.preset}"


def plan(name: str, folder: Path, passed: dict[str, object]) -> Plan:
    """Check one notebook and the parameters passed to it; raises `KpnbError` for any mistake."""
    source = find_notebook(name, folder)
    model = models_for(name)
    notebook = read_notebook(source)
    position = parameters_cell(notebook, name)
    cells = [_cell_source(cell) for cell in notebook.cells]
    declared = declared_values(cells[position], name)
    resolve(model, declared)
    _require_declared(passed, declared, name)
    _require_used(declared, cells[position + 1 :], name)
    merged = declared | passed
    resolved = resolve(model, merged)
    key = _fingerprint([c.source for c in notebook.cells if c.cell_type == "code"], cells, resolved)
    return Plan(name, source, notebook, passed, merged, resolved, key)


def find_notebook(name: str, folder: Path) -> Path:
    """The file of a notebook; an unknown name raises `KpnbError` with the near ones."""
    source = folder / f"{name}.ipynb"
    if source.is_file():
        return source
    there = sorted(file.stem for file in folder.glob("*.ipynb"))
    near = difflib.get_close_matches(name, there, n=3) or there
    hint = f"did you mean {' or '.join(near)}?" if near else "there are none: set --notebooks."
    raise KpnbError(f"There is no notebook {name!r} in {folder}: {hint}")


def read_notebook(source: Path) -> nbformat.NotebookNode:
    """A notebook's content in format 4; raises `KpnbError` if the file is not a notebook."""
    try:
        return nbformat.read(source, as_version=4)
    except (OSError, ValueError, AttributeError, KeyError, nbformat.ValidationError) as error:
        cause = str(error).strip().splitlines()[0]
        raise KpnbError(f"{source} is not a notebook that can be read: {cause}.") from error


def parameters_cell(notebook: nbformat.NotebookNode, name: str) -> int:
    """The position of the one code cell tagged `parameters`."""
    tagged = [
        position
        for position, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and TAG in cell.metadata.get("tags", [])
    ]
    if len(tagged) != 1:
        raise KpnbError(
            f"The notebook {name} has {len(tagged)} code cells tagged {TAG!r}: "
            "tag exactly the one that declares its parameters."
        )
    return tagged[0]


def declared_values(source: str, name: str) -> dict[str, object]:
    """The names and values a parameters cell assigns; only `name = literal` is allowed there."""
    values: dict[str, object] = {}
    for statement in _parse(source, name).body:
        target = _single_target(statement)
        try:
            value = ast.literal_eval(statement.value) if target else None
        except ValueError:
            target = None
        if target is None:
            raise KpnbError(
                f"The parameters cell of {name} has the line {ast.unparse(statement)!r}: "
                "write only `name = value` with a plain number, string, list or None there."
            )
        if target in values:
            raise KpnbError(f"The parameters cell of {name} sets {target} twice: set it once.")
        values[target] = value
    return values


def parse_assignments(texts: Iterable[str]) -> dict[str, object]:
    """`name=value` texts of a command line; values are JSON, Python or YAML literals."""
    values: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise KpnbError(f"-p {text!r} is not a parameter: write name=value.")
        if name in values:
            raise KpnbError(f"The parameter {name} is given twice: give it once.")
        values[name] = _literal(value, name)
    return values


def _literal(text: str, name: str) -> object:
    # JSON before YAML, which takes 1e-1 for a string; Python's for None and (1, 2).
    for reader in (json.loads, ast.literal_eval, yaml.safe_load):
        try:
            value = reader(text)
        except (ValueError, SyntaxError, TypeError, yaml.YAMLError):
            continue
        return list(value) if isinstance(value, tuple) else value
    raise KpnbError(f"The value {text!r} of {name} cannot be read: write it as JSON.")


def _single_target(statement: ast.stmt) -> str | None:
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target = statement.targets[0]
    return target.id if isinstance(target, ast.Name) else None


def _require_declared(passed: dict[str, object], declared: dict[str, object], name: str) -> None:
    for parameter in passed:
        if parameter not in declared:
            near = difflib.get_close_matches(parameter, declared, n=3) or list(declared)
            raise KpnbError(
                f"The notebook {name} has no parameter {parameter!r}: "
                f"did you mean {' or '.join(near)}?"
            )


def _require_used(declared: dict[str, object], later: list[str], name: str) -> None:
    """A declared name that no later cell reads would be a parameter without effect."""
    trees = [_parse(source, name) for source in later]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {node.id for node in nodes if isinstance(node.ctx, ast.Load)}
    unused = [parameter for parameter in declared if parameter not in used]
    if unused:
        raise KpnbError(
            f"The notebook {name} declares {', '.join(unused)} but no later cell uses it: "
            "use it or remove it from the parameters cell."
        )


def _cell_source(cell: nbformat.NotebookNode) -> str:
    """A code cell as plain Python: lines for IPython alone (%magic, !command) do nothing."""
    if cell.cell_type != "code" or cell.source.startswith("%%"):
        return ""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", cell.source, flags=re.MULTILINE)


def _parse(source: str, name: str) -> ast.Module:
    try:
        return ast.parse(source)
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise KpnbError(f"A cell of {name} is not Python: {error.msg} in {line!r}.") from error


def _fingerprint(code_cells: list[str], parsed: list[str], resolved: StudyParameters) -> str:
    """Everything the executed copy depends on, its figures too, but its prose."""
    seeds = notebook_seeds("\n".join(parsed))
    return fingerprint(
        {
            "cells": code_cells,
            "code": code_fingerprint(*seeds, showing=True),
            "data": data_fingerprint(*seeds),
            "parameters": resolved.model_dump(mode="json"),
            "versions": library_versions(),
        }
    )

"""Notebooks made by hand, and the runner on one of them."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

import kpnb.run.__main__ as run
from kpnb.run import notebook as runner

NO_MORE = 'preset = "smoke"  # which\nepochs = 100\nlayers = ["FC1"]'
DECLARED = f"{NO_MORE}\nmore = {{}}"
KERNEL = runner.execute
USED = "given = dict(globals())\nprint(preset, epochs, layers, more)"


def write(folder, *cells, name="image_x", declared=DECLARED, used=USED, tagged=1, first=()):
    """A notebook with a parameters cell and code cells; `tagged` cells carry the tag."""
    parameters = [new_code_cell(declared, metadata={"tags": ["parameters"]})] * tagged
    code = [cell if not isinstance(cell, str) else new_code_cell(cell) for cell in cells]
    every = [*first, *parameters, new_code_cell(used), *code]
    every = [nbformat.from_dict({**cell, "id": f"cell-{n}"}) for n, cell in enumerate(every)]
    nbformat.write(new_notebook(cells=every), folder / f"{name}.ipynb")


def refuse(*_):
    raise AssertionError("papermill was started")


def main(folder, *arguments, execute=refuse) -> int:
    """execute: what stands for papermill; with `KERNEL` it is no other."""
    common = ["image_x", "--notebooks", str(folder), "-o", str(folder / "out" / "image_x.ipynb")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "execute", execute)
        return run.main([*common, *map(str, arguments)])

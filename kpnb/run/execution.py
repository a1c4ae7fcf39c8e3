"""One notebook run by papermill in this very interpreter's environment, and its copy cleaned."""

from __future__ import annotations

import json
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat

from kpnb.datasets import places as data_places
from kpnb.errors import KpnbError
from kpnb.fingerprint import checkout, fingerprint
from kpnb.metrics.provenance import EXECUTED, peak_memory_mib
from kpnb.store import JOURNAL, read_journal

KERNEL = "python3"
NOTE = "kpnb"
START_TIMEOUT = 120
# glibc gives large blocks back to the system at every free and takes them anew; kept instead, a
# training step on two CPU cores is about a third faster. Other allocators ignore the names.
ALLOCATOR = {
    "MALLOC_TRIM_THRESHOLD_": str(4 * 1024**3),
    "MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2),
}

Notebook = nbformat.NotebookNode


def execute(
    source: Path, working_copy: Path, parameters: dict, timeout: int | None, log: bool
) -> dict:
    """Run a notebook into `working_copy`, saved after each cell; returns seconds, memory
    and the entries of the store that it used.

    The kernel is this interpreter, its folder the notebook's. Raises what papermill raises.
    """
    import papermill  # here: it takes a second, and a check needs none of it

    started = time.perf_counter()
    with kernel_environment() as journal:
        papermill.execute_notebook(
            str(source),
            str(working_copy),
            parameters=parameters,
            kernel_name=KERNEL,
            language="python",
            progress_bar=False,
            autosave_cell_every=1,
            log_output=log,
            start_timeout=START_TIMEOUT,
            execution_timeout=timeout,
            cwd=str(source.parent),
        )
        store = read_journal(journal)
    peak = peak_memory_mib(resource.RUSAGE_CHILDREN)
    seconds = round(time.perf_counter() - started, 1)
    return {"seconds": seconds, "peak_memory_mib": round(peak), "store": store}


@contextmanager
def kernel_environment() -> Iterator[Path]:
    """Environment variables under which the kernel `python3` is this interpreter; gives the file
    in which the kernel lists the store's entries that it uses.

    A temporary kernel specification goes before all others; a user's IPython configuration is
    left aside; MPLBACKEND is unset, for with Agg papermill loses every figure.
    """
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="kpnb_kernel_") as folder:
        _write_kernelspec(Path(folder) / "kernels" / KERNEL)
        os.environ["JUPYTER_PATH"] = os.pathsep.join(_first(folder, before.get("JUPYTER_PATH")))
        os.environ["IPYTHONDIR"] = str(Path(folder) / "ipython")
        os.environ.pop("MPLBACKEND", None)
        os.environ[EXECUTED] = "1"
        for name, value in ALLOCATOR.items():
            os.environ.setdefault(name, value)
        os.environ[JOURNAL] = str(Path(folder) / "store.journal")
        # A notebook runs in its own folder, but names of data are looked up from the shell's.
        data = os.environ.get(data_places.FOLDER) or data_places.DEFAULT
        os.environ[data_places.FOLDER] = os.path.abspath(os.path.expanduser(data))
        if clone := checkout():
            paths = _first(str(clone), before.get("PYTHONPATH"))
            os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        try:
            _require_own_interpreter()
            yield Path(os.environ[JOURNAL])
        finally:
            os.environ.clear()
            os.environ.update(before)


def clean(notebook: Notebook) -> list[str]:
    """Tidy an executed notebook in place; returns the lines of stderr that were taken out.

    stderr goes (progress bars, warnings: they belong on the console), stdout keeps what a
    terminal would show of a line overwritten by carriage returns, papermill's notes keep no
    absolute path.
    """
    removed: list[str] = []
    for cell in _code_cells(notebook):
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                removed += _last_states(output.text).splitlines()
                continue
            if output.output_type == "stream":
                output.text = _last_states(output.text)
            kept.append(output)
        cell.outputs = kept
    for name in ("input_path", "output_path"):
        path = notebook.metadata.get("papermill", {}).get(name)
        if path:
            notebook.metadata["papermill"][name] = Path(path).name
    return [line for line in removed if line.strip() and not _is_progress(line)]


def error_outputs(notebook: Notebook) -> list[str]:
    """The errors among a notebook's outputs, "name: value" each."""
    outputs = [output for cell in _code_cells(notebook) for output in cell.outputs]
    return [f"{o.ename}: {o.evalue}" for o in outputs if o.output_type == "error"]


def figure_count(notebook: Notebook) -> int:
    """How many outputs are pictures."""
    outputs = [output for cell in _code_cells(notebook) for output in cell.outputs]
    return sum(any(kind.startswith("image/") for kind in o.get("data", {})) for o in outputs)


def outputs_fingerprint(notebook: Notebook) -> str:
    """One hash over sources, outputs and widgets, to notice a damaged copy."""
    cells = [[cell.source, cell.outputs] for cell in _code_cells(notebook)]
    shown = [cells, notebook.metadata.get("widgets")]
    # As text: a figure's data may hold NaN, which `fingerprint` refuses.
    return fingerprint(json.dumps(shown, sort_keys=True))


def prose_fingerprint(notebook: Notebook) -> str:
    """One hash over a source notebook's cells, their order and tags, outputs left aside."""
    return fingerprint([[c.cell_type, c.source, _tags(c)] for c in notebook.cells])


def with_prose_of(executed: Notebook, source: Notebook) -> Notebook:
    """The executed cells between the source's present prose; both have the same code cells."""
    run = iter(_code_cells(executed))
    cells = []
    for cell in source.cells:
        if cell.cell_type != "code":
            cells.append(cell)
            continue
        done = next(run)
        cells.append(done)
        done.metadata["tags"] = _tags(cell)
        if "id" in cell:
            done["id"] = cell["id"]
        if "parameters" in _tags(cell):
            cells += [next(run)] if _injected_follows(executed) else []
    executed.cells = cells
    return executed


def _injected_follows(executed: Notebook) -> bool:
    return any("injected-parameters" in _tags(cell) for cell in executed.cells)


def _tags(cell: Notebook) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _code_cells(notebook: Notebook) -> list[Notebook]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _last_states(text: str) -> str:
    lines = text.split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)


def _is_progress(line: str) -> bool:
    return bool(re.search(r"\d+%\|.*\||\[\d+:\d+<|\d+(\.\d+)?\s*(it/s|s/it)", line))


def _first(path: str, others: str | None) -> list[str]:
    return [path, others] if others else [path]


def _write_kernelspec(folder: Path) -> None:
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    # Without its remark, at every start, that the loopback connection is not encrypted.
    command += ["--log-level=ERROR"]
    spec = {"argv": command, "display_name": "Python 3", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))


def _require_own_interpreter() -> None:
    from jupyter_client.kernelspec import KernelSpecManager

    interpreter = KernelSpecManager().get_kernel_spec(KERNEL).argv[0]
    if interpreter != sys.executable:
        raise KpnbError(
            f"The kernel {KERNEL} is {interpreter}, not {sys.executable}: "
            "unset JUPYTER_PATH and any Jupyter configuration of kernels."
        )

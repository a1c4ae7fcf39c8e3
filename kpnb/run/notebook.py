"""A notebook checked with its parameters before anything runs, executed, and its copy cleaned.

papermill runs a notebook whatever names and values it is passed; a mistyped name is then a
result with the default's value. So everything is read from the notebook's source first. It is run
by papermill in this very interpreter's environment.
"""

import ast
import json
import logging
import os
import re
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import nbformat
import yaml

from kpnb import fingerprint as keys
from kpnb.datasets import places as data_places
from kpnb.errors import KpnbError, did_you_mean, require, stopped_by
from kpnb.fingerprint import EXECUTED, Stopwatch, checkout, peak_memory_mib
from kpnb.metrics.results import results_root
from kpnb.store import JOURNAL, default_root, read_journal
from kpnb.study.parameters import StudyParameters, explicit, models_for, resolve
from kpnb.study.presets.own_model import with_more

Notebook = nbformat.NotebookNode

TAG = "parameters"
KERNEL = "python3"
ASK_TRAINING = ("_h2", "_h3")  #: How names of notebooks on Hypotheses 2 and 3 end.
STORE, RESULTS = "KPNB_STORE", "KPNB_RESULTS"
NOTE = "kpnb"
START_TIMEOUT = 120
#: Of parameters those that memory grows with.
COSTLY = ("chunk", "batch", "image_size", "longest", "points", "teacher_samples", "samples")
# glibc gives large blocks back to the system at every free and takes them anew; kept instead, a
# training step on two CPU cores is about a third faster. Other allocators ignore the names.
ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": f"{4 * 1024**3}", "MALLOC_MMAP_THRESHOLD_": f"{2**25}"}
#: Parameters that may be a place on this machine -> what a folder holds to be one.
PLACES = {"data": "", "images": "", "masks": "", "weights": ""}
PLACES |= dict.fromkeys(["model", "network"], "config.json")
FILES = {"images", "masks", "weights"}  # places, but for the words below
#: Which are no places, whatever lies in the current folder.
WORDS = {data_places.EMBEDDED, "DEFAULT", "none"}


@dataclass(frozen=True)
class Request:
    """A run of a notebook that passed the check.

    name: the notebook's name. source: its file. notebook: its content. given: what the command
    line passed. own: what its cell says otherwise than the demo. values: what its cell's names and
    `more` become. resolved: all parameters. fingerprint: over everything that the executed copy
    depends on, its figures too, but its prose.
    """

    name: str
    source: Path
    notebook: Notebook
    given: dict[str, object]
    own: dict[str, object]
    values: dict[str, object]
    resolved: StudyParameters
    fingerprint: str

    @property
    def made_from(self) -> dict[str, object]:
        """What the executed copy notes, to be compared by `kpnb.metrics.results.why_stale`."""
        values = self.resolved.model_dump(mode="json")
        return {"parameters": values, "fingerprint": self.fingerprint}

    def lines(self) -> list[str]:
        """The parameters, one a line, those of the notebook's cell first, with their origin."""
        values = self.resolved.model_dump(mode="json")
        origin = dict.fromkeys(values, f"preset {self.given.get('preset') or 'demo'}")
        origin |= dict.fromkeys([*self.own, "preset"], "notebook")
        origin |= {name: "given" for name, value in self.given.items() if value is not None}
        names = [name for name in dict.fromkeys([*self.values, *values]) if name != "more"]
        return [f"  {name} = {values[name]!r}  ({origin[name]})" for name in names]


def request(name: str, folder: Path, passed: Mapping[str, object]) -> Request:
    """Check one notebook and the parameters passed to it; raises `KpnbError` for any mistake.

    The values in its cell are the run. A preset that is passed is laid over those of them that are
    the demo's, and what else is passed over all; what the cell does not name goes into its `more`.
    """
    source, model = find_notebook(name, folder), models_for(name)
    notebook = read_notebook(source)
    position = parameters_cell(notebook, name)
    cells = [_cell_source(cell) for cell in notebook.cells]
    declared = declared_values(cells[position], name)
    _require_taken(cells[position + 1 :], name)
    named, demo = with_more(declared), model.PRESETS["demo"]
    resolve(model, named, "demo")
    own = {n: v for n, v in named.items() if v != demo[n] and n != "preset"}
    if passed.get("preset"):
        wanted = explicit(model, own | dict(passed))
    else:
        given = named | dict(passed)
        resolve(model, given, "demo")
        wanted = demo | model.told(given)
    values = _for_the_cell(wanted, declared, demo, name)
    resolved = resolve(model, with_more(values), "demo")
    if name.endswith(ASK_TRAINING):
        told = f"followed is 0, but {name} asks what happens through training"
        require(resolved.followed != 0, f"{told}: give 2 or more, or null for all.")
    seeds = keys.notebook_seeds("\n".join(cells))
    code = keys.code_fingerprint(*seeds, showing=True)
    depends = {"code": code, "data": keys.data_fingerprint(*seeds)}
    depends |= {"parameters": resolved.model_dump(mode="json"), "versions": keys.library_versions()}
    key = keys.fingerprint(depends | {"cells": [cell.source for cell in _code_cells(notebook)]})
    return Request(name, source, notebook, dict(passed), own, values, resolved, key)


def _for_the_cell(wanted: dict, declared: dict, demo: dict, notebook: str) -> dict[str, object]:
    """What the names of a parameters cell become: values, and in `more` those of other names."""
    cell = {name: wanted[name] for name in declared if name != "more"}
    more = {n: v for n, v in wanted.items() if n not in cell and v != demo[n]}
    if more and "more" not in declared:
        raise KpnbError(
            f"The notebook {notebook} has neither {', '.join(more)} nor `more = {{}}` in its "
            "parameters cell: add one."
        )
    return cell | ({"more": more} if "more" in declared else {})


def find_notebook(name: str, folder: Path) -> Path:
    """The file of a notebook; an unknown name raises `KpnbError` with the near ones."""
    source = folder / f"{name}.ipynb"
    if source.is_file():
        return source
    there = sorted(file.stem for file in folder.glob("*.ipynb"))
    every = f"there are {', '.join(there)}." if there else "there are none: set --notebooks."
    hint = did_you_mean(name, there) or every
    raise KpnbError(f"There is no notebook {name!r} in {folder}: {hint}")


def read_notebook(source: Path) -> Notebook:
    """A notebook's content in format 4; raises `KpnbError` if the file is not a notebook."""
    try:
        return nbformat.read(source, as_version=4)
    except (OSError, ValueError, AttributeError, KeyError, nbformat.ValidationError) as error:
        cause = str(error).strip().splitlines()[0]
        raise KpnbError(f"{source} is not a notebook that can be read: {cause}.") from error


def parameters_cell(notebook: Notebook, name: str) -> int:
    """The position of the one code cell tagged `parameters`."""
    cells = enumerate(notebook.cells)
    tagged = [n for n, cell in cells if cell.cell_type == "code" and TAG in _tags(cell)]
    if len(tagged) != 1:
        raise KpnbError(f"{name} has {len(tagged)} code cells tagged {TAG!r}: tag exactly one.")
    return tagged[0]


def declared_values(source: str, name: str) -> dict[str, object]:
    """The names and values a parameters cell assigns; only `name = literal` is allowed there."""
    values: dict[str, object] = {}
    for statement in _parse(source, name).body:
        try:
            (target,) = statement.targets
            own, value = target.id, ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            raise KpnbError(
                f"The parameters cell of {name} has the line {ast.unparse(statement)!r}: "
                "write only `name = value` with a plain number, string, list or None there."
            ) from None
        require(own not in values, f"The parameters cell of {name} sets {own} twice: set it once.")
        values[own] = value
    return values


def _require_taken(later: list[str], name: str) -> None:
    """Parameters that no later cell takes would be without effect."""
    calls = [n for s in later for n in ast.walk(_parse(s, name)) if isinstance(n, ast.Call)]
    if not any(ast.unparse(a) == "globals()" for call in calls for a in call.args):
        raise KpnbError(
            f"The notebook {name} declares parameters but no later cell takes them: make its "
            "study from them, as in `study = kpnb.ImageStudy.from_notebook(globals())`."
        )


def _cell_source(cell: Notebook) -> str:
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


def parse_assignments(texts: Iterable[str], notebook: str = "") -> dict[str, object]:
    """`name=value` texts of a command line; values are JSON, Python or YAML literals, but stay as
    they are, None apart, where the notebook's parameter is a text."""
    values, plain = {}, text_parameters(notebook)
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise KpnbError(f"-p {text!r} is not a parameter: write name=value.")
        require(name not in values, f"The parameter {name} is given twice: give it once.")
        as_is = name in plain and value not in ("None", "null")
        values[name] = value if as_is else _literal(value, name)
    return values


def _literal(text: str, name: str) -> object:
    # JSON before YAML, which takes 1e-1 for a string; Python's for None and (1, 2).
    for reader in (json.loads, ast.literal_eval, yaml.safe_load):
        with suppress(ValueError, SyntaxError, TypeError, yaml.YAMLError):
            value = reader(text)
            return list(value) if isinstance(value, tuple) else value
    raise KpnbError(f"The value {text!r} of {name} cannot be read: write it as JSON.")


def text_parameters(notebook: str) -> set[str]:
    """Names of a notebook's parameters that are a text or one of some words, and nothing else;
    none for a notebook without known parameters."""
    with suppress(KpnbError):
        known = models_for(notebook).model_json_schema()["properties"].items()
        kinds = {name: {o.get("type") for o in told.get("anyOf", [told])} for name, told in known}
        return {name for name, kind in kinds.items() if kind - {"null"} == {"string"}}
    return set()


def full_places(passed: Mapping[str, object]) -> dict[str, object]:
    """The parameters, with those of `PLACES` by their full path where they are there. A leading ~/
    is the home folder. Raises KpnbError for a path that is not there."""
    found = dict(passed)
    for name in PLACES.keys() & passed.keys():
        place = passed[name]
        if isinstance(place, str) and place not in WORDS:
            place = os.path.expanduser(place) if place.startswith("~/") else place
            there = os.path.exists(os.path.join(place, PLACES[name]))
            only = name in FILES or place.startswith((os.sep, f".{os.sep}", f"..{os.sep}"))
            others = ", 'embedded' or download:NAME" if name == "data" else ""
            told = f"{name} is {passed[name]!r}, which is not there: give a path that is{others}."
            require(os.path.exists(place) or not only, told)
            found[name] = os.path.realpath(place) if there else place
    return found


def execute(source: Path, working_copy: Path, parameters: dict, log: bool = False) -> dict:
    """Run a notebook into `working_copy`, saved after each cell; returns seconds, memory
    and the entries that it used, of the default store as their places in it.

    The kernel is this interpreter, its folder the notebook's. log: show what it prints meanwhile.
    Raises what papermill raises; KpnbError if the system killed the kernel; KeyboardInterrupt with
    its number after a signal of `kpnb.errors.STOPPING`, the kernel ended.
    """
    import papermill  # here: it takes a second, and a check needs none of it

    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # its errors are raised, too
    where = dict(kernel_name=KERNEL, language="python", cwd=source.parent)
    how = dict(progress_bar=False, autosave_cell_every=1, start_timeout=START_TIMEOUT)
    how |= dict(stdout_file=sys.stdout, stderr_file=sys.stderr) if log else {}
    paths = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, working_copy)]
    with Stopwatch() as watch, tempfile.TemporaryDirectory(prefix="kpnb_kernel_") as folder:
        with _kernel_s_end(source.stem) as started:
            how["kernel_manager_class"] = own_kernels(Path(folder), started)
            papermill.execute_notebook(*paths, parameters, **where, **how)
        # Without the store's root: copies that are kept tell no machine's folders.
        root = f"{default_root().resolve()}{os.sep}"
        store = [entry.removeprefix(root) for entry in read_journal(Path(folder) / JOURNAL)]
    peak = peak_memory_mib(resource.RUSAGE_CHILDREN)
    return {"seconds": round(watch.seconds, 1), "peak_memory_mib": round(peak), "store": store}


@contextmanager
def _kernel_s_end(notebook: str) -> Iterator[Callable[[Popen], None]]:
    """Yields what is to be told the kernel's process. A signal kills that one: papermill then ends
    in order, as it does not after an exception from a signal's handler."""
    kernels: list[Popen] = []
    signals: list[int] = []

    def stop(number: int, _frame: object = None) -> None:
        signals.append(number)
        for kernel in kernels:
            with suppress(ProcessLookupError):
                os.killpg(kernel.pid, signal.SIGKILL)

    def started(kernel: Popen) -> None:
        kernels.append(kernel)
        if signals:
            stop(signals[0])

    try:
        with stopped_by(stop):
            yield started
    except Exception as error:
        killed = [kernel.poll() for kernel in kernels] == [-signal.SIGKILL]
        if killed and not signals and "Kernel died" in str(error):
            smaller = ", ".join(n for n in COSTLY if n in models_for(notebook).model_fields)
            told = f"the kernel was killed, probably out of memory: lower one of {smaller}"
            raise KpnbError(told) from error
        if not signals:
            raise
    if signals:
        raise KeyboardInterrupt(signals[0])


def own_kernels(folder: Path, started: Callable[[Popen], None]) -> type:
    """A manager whose kernels are this interpreter, whatever kernels and IPython configuration a
    user has; in `folder`, which is empty, they list the store's entries that they use. `started` is
    called with the process of each."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    # A notebook runs in its own folder, but these are places as seen from the shell's.
    data = os.environ.get(data_places.FOLDER) or data_places.DEFAULT
    places = {data_places.FOLDER: data, STORE: default_root(), RESULTS: results_root()}
    # The shell's folder is the last, for a network of one's own that lies there.
    path = filter(None, [str(checkout() or ""), os.environ.get("PYTHONPATH"), os.getcwd()])
    environment = {name: os.environ.get(name, value) for name, value in ALLOCATOR.items()}
    environment |= {n: os.path.abspath(os.path.expanduser(place)) for n, place in places.items()}
    environment |= {
        EXECUTED: "1",
        JOURNAL: str(folder / JOURNAL),
        "IPYTHONDIR": str(folder / "ipython"),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # with Agg no figure is kept
        "PYTHONPATH": os.pathsep.join(path),
    }

    class OwnKernels(AsyncKernelManager):
        # Without its remark, at every start, that the loopback connection is not encrypted.
        kernel_spec = KernelSpec(**get_kernel_dict(["--log-level=ERROR"]), env=environment)
        connection_file = str(folder / "connection.json")

        async def start_kernel(self, **given: object) -> None:
            await super().start_kernel(**given)
            started(self.provisioner.process)

    return OwnKernels


_PROGRESS = re.compile(r"\d+%\|.*\||\[\d+:\d+<|\d+(\.\d+)?\s*(it/s|s/it)")


def clean(notebook: Notebook) -> list[str]:
    """Tidy an executed notebook in place; returns the lines of stderr that were taken out.

    stderr goes (progress bars, warnings: they belong on the console), stdout keeps what a
    terminal would show of a line overwritten by carriage returns, papermill's notes keep no
    absolute path.
    """
    removed: list[str] = []
    for output in (o for o in _outputs(notebook) if o.output_type == "stream"):
        lines = output.text.split("\n")
        output.text = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)
        removed += output.text.splitlines() if output.name == "stderr" else []
    for cell in _code_cells(notebook):
        cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        # The alternative texts that figures carry (kpnb.figures.style), to where the book's builder
        # looks for them.
        metadata = [output.get("metadata", {}).get("image/png", {}) for output in cell.outputs]
        if told := [found["alt"] for found in metadata if "alt" in found]:
            cell.metadata["mystnb"] = {"image": {"alt": " ".join(told)}}
    noted = notebook.metadata.get("papermill", {})
    for name in ("input_path", "output_path"):
        if noted.get(name):
            noted[name] = Path(noted[name]).name
    return [line for line in removed if line.strip() and not _PROGRESS.search(line)]


def error_outputs(notebook: Notebook) -> list[str]:
    """The errors among a notebook's outputs, "name: value" each."""
    found = (output for output in _outputs(notebook) if output.output_type == "error")
    return [f"{error.ename}: {error.evalue}" for error in found]


def figure_count(notebook: Notebook) -> int:
    """How many outputs are pictures."""
    kinds = [output.get("data", {}) for output in _outputs(notebook)]
    return sum(any(kind.startswith("image/") for kind in data) for data in kinds)


def outputs_fingerprint(notebook: Notebook) -> str:
    """One hash over sources, outputs and widgets, to notice a damaged copy."""
    cells = [[cell.source, cell.outputs] for cell in _code_cells(notebook)]
    shown = [cells, notebook.metadata.get("widgets")]
    # As text: a figure's data may hold NaN, which `fingerprint` refuses.
    return keys.fingerprint(json.dumps(shown, sort_keys=True))


def prose(notebook: Notebook) -> list[tuple]:
    """A notebook's cells, their order and tags, outputs left aside."""
    return [(cell.cell_type, cell.source, _tags(cell)) for cell in notebook.cells]


def with_prose_of(executed: Notebook, source: Notebook) -> Notebook:
    """The executed cells between the source's present prose; both have the same code cells."""
    run, cells = iter(_code_cells(executed)), []
    injected = any("injected-parameters" in _tags(cell) for cell in executed.cells)
    for cell in source.cells:
        if cell.cell_type != "code":
            cells.append(cell)
            continue
        done = next(run)
        cells.append(done)
        done.metadata["tags"] = _tags(cell)
        if "id" in cell:
            done["id"] = cell["id"]
        if TAG in _tags(cell) and injected:
            cells.append(next(run))
    executed.cells = cells
    return executed


def _tags(cell: Notebook) -> list[str]:
    return list(cell.metadata.get("tags", []))


def _code_cells(notebook: Notebook) -> list[Notebook]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _outputs(notebook: Notebook) -> list[Notebook]:
    return [output for cell in _code_cells(notebook) for output in cell.outputs]

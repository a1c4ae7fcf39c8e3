"""`python -m kpnb.run NOTEBOOK -p name=value`: check, run, and keep the executed copy.

Exit codes: 0 done or up to date, 1 the notebook failed, 2 a mistake found before running, 130 and
143 stopped by Ctrl-C and SIGTERM.
`python -m kpnb.run --status PRESET` says of each results file whether the code here would compute
it again; exit code 1 if one is stale. `--compare A B` says whether two folders of results hold the
same numbers; exit code 1 if they do not.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from difflib import unified_diff
from pathlib import Path

import nbformat
from pydantic import ValidationError

from kpnb.datasets.places import EMBEDDED, IMAGES, NAMES, PREFIX, READ_BY, find_data
from kpnb.errors import NO_ROOM, KpnbError, answered, no_room, require, stopped_code
from kpnb.fingerprint import checkout, file_hash, fingerprint
from kpnb.metrics import results as files
from kpnb.metrics.formatting import count
from kpnb.metrics.results import Results, freshness, why_stale, write_whole
from kpnb.run import notebook
from kpnb.run.notebook import NOTE, Request, full_places, parse_assignments, read_notebook
from kpnb.store import LOCKS, damaged, default_root, locked
from kpnb.study.presets.own_model import PRESET_NAMES

HERE = checkout() or Path.cwd()
#: What says where and when numbers were computed, not which: left out of the comparison.
#: The fingerprint is over code and versions, of which the numbers may well be independent.
LEFT_OUT = {"provenance", "seconds", "peak_memory_mb", "fingerprint"}
#: Measures cells of the paper's tables that no other notebook has; its results are a sweep's runs.
CELL_NOTEBOOK = "image_cell"
#: Numbers in these units are times, memory and speeds of the machine.
MACHINE_UNITS = ("s", "MB", "GFLOP/s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Mistakes go to stderr, one sentence each."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if [options.notebook, options.status, options.compare].count(None) != 2:
        parser.error("name a notebook, or give --status PRESET or --compare A B")
    if options.compare:
        return answered(lambda: compare_results(*options.compare))
    return answered(lambda: status(options.status) if options.status else _answer(options))


def status(preset: str) -> int:
    """Print each results file of a preset, fresh, stale and why, or unknown; 1 if one is stale."""
    known = ", ".join(PRESET_NAMES)
    require(preset in PRESET_NAMES, f"preset is {preset!r}: it must be one of {known}.")
    names = {file.stem: (file.stem, preset) for file in _files_of(preset, "")}
    names |= {file.stem: (CELL_NOTEBOOK, preset, file.stem) for file in _files_of(preset, "any")}
    told = f"There are no results of the preset {preset!r} in {files.results_root()}"
    require(names, f"{told}: run a notebook at it, or make book.")
    states = {name: _state(*asked) for name, asked in names.items()}
    print("\n".join(f"{name}: {state}" for name, state in states.items()))
    return int(any(state.startswith("stale") for state in states.values()))


def _files_of(preset: str, run: str) -> list[Path]:
    """The results files of a preset, or those of its sweeps' runs."""
    return sorted(files.results_path(CELL_NOTEBOOK, preset, run).parent.glob("*.json"))


def _state(*asked: str) -> str:
    try:
        return freshness(files.read_results(*asked))
    except KpnbError as error:
        return f"stale: {error}"


def compare_results(first: Path, second: Path) -> int:
    """Print what differs between the results files of two folders; 1 if anything does, else 0.

    For runs of one code in two places: on a cluster and on one machine, before and after a kill.
    Arguments: folders as KPNB_RESULTS names them, or any folder within; files are matched by
        their paths below, and compared exactly: settings, measures with their intervals,
        comparisons with their verdicts, notes, numbers.
    Raises: KpnbError for a folder without results files, and for a damaged file.
    """
    ours, theirs = _results_in(first), _results_in(second)
    told = [f"{name}: only in {first}" for name in sorted(ours - theirs)]
    told += [f"{name}: only in {second}" for name in sorted(theirs - ours)]
    for name in sorted(ours & theirs):
        places = first / name, second / name
        told += unified_diff(*map(_compared, places), *map(str, places), n=0, lineterm="")
    print("\n".join(told) or f"{count(len(ours), 'results file')}: every number is equal")
    return int(bool(told))


def _results_in(folder: Path) -> set[str]:
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.json")}
    require(found, f"There are no results files in {folder}: name a folder that holds some.")
    return found


def _compared(file: Path) -> list[str]:
    """All of a results file that does not depend on the machine's speed, an item a line."""
    try:
        results = Results.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise KpnbError(f"{file} is no results file or is damaged: make it again.") from error
    numbers = {n: v for n, v in results.numbers.items() if v.unit not in MACHINE_UNITS}
    content = results.model_copy(update={"numbers": numbers}).model_dump(exclude=LEFT_OUT)
    parts = {name: sorted(v.items()) if isinstance(v, dict) else v for name, v in content.items()}
    items = [(n, i) for n, v in parts.items() for i in (v if isinstance(v, list) else [v])]
    return [f"{name}: {json.dumps(item, sort_keys=True)}" for name, item in items]


def _answer(options: argparse.Namespace) -> int:
    # Places by their full path: notebooks run elsewhere.
    passed = full_places(parse_assignments(options.parameters, options.notebook))
    wanted = notebook.request(options.notebook, options.notebooks, passed)
    _require_data(wanted)
    print(f"{wanted.name}:", *wanted.lines(), sep="\n", flush=True)
    if options.check:
        return 0
    out = (options.output or HERE / "executed" / f"{wanted.name}.ipynb").resolve()
    state = "" if options.force else refresh(wanted, out, options.writes)
    if not state:
        there, remedy = written_at(out), "set KPNB_STORE to a folder that can be written"
        place = default_root() / LOCKS / f"{fingerprint(str(out))}.lock"
        with locked(place, f"writes {out}", remedy):
            waited = written_at(out) != there and not options.force  # for one that has made it
            state = refresh(wanted, out, options.writes) if waited else ""
            if not state:
                return _run(wanted, out, options)
    print(f"{wanted.name}: {state}: {out}")
    return 0


def written_at(file: Path) -> int:
    """The time of a file in nanoseconds, -1 where there is none."""
    return file.stat().st_mtime_ns if file.is_file() else -1


def refresh(wanted: Request, out: Path, writes: Sequence[Path] = ()) -> str:
    """Say that an executed copy still holds, after giving it the source's present prose.

    Returns "up to date" or "up to date, text refreshed"; "" if there is none or it does not hold,
    and then why on stderr: the copy, a file that it wrote or an entry of the store that it used is
    damaged or missing, or it was made from other code, data, parameters or versions.
    """
    if not out.is_file():
        return ""
    try:
        executed = read_notebook(out)
        why, before = _why_again(wanted, executed, writes), notebook.prose(executed)
    except (KpnbError, AttributeError, KeyError, TypeError):
        why = "the executed copy is damaged"
    if why:
        print(f"{wanted.name}: {why}; running again", file=sys.stderr)
        return ""
    refreshed = notebook.with_prose_of(executed, wanted.notebook)
    if notebook.prose(refreshed) == before:
        return "up to date"
    write_whole(out, nbformat.writes(refreshed) + "\n")
    return "up to date, text refreshed"


def _why_again(wanted: Request, executed: nbformat.NotebookNode, writes: Sequence[Path]) -> str:
    note = executed.metadata[NOTE]
    if why := why_stale(note, wanted.made_from):
        return why
    if note["outputs"] != notebook.outputs_fingerprint(executed):
        return "the executed copy is damaged"
    writes = writes or [_results_folder(wanted) / place for place in note.get("results", ())]
    if note["writes"] != _hashes(writes):
        return "a file that it writes is not as it was"
    entries = [str(default_root().resolve() / entry) for entry in note["store"]]
    return next((f"{folder} is damaged" for folder in damaged(entries)), "")


def _run(wanted: Request, out: Path, options: argparse.Namespace) -> int:
    """Run into a working copy; it becomes OUT.ipynb, or OUT.failed.ipynb on failure."""
    working, failed = out.with_suffix(".running.ipynb"), out.with_suffix(".failed.ipynb")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        failed.unlink(missing_ok=True)
        there = _own_results(wanted)
        used = notebook.execute(wanted.source, working, dict(wanted.values), options.log)
        new = _own_results(wanted).items() - there.items()
        executed = _finish(wanted, working, used, options.writes or sorted(dict(new)))
    except KeyboardInterrupt as stopped:
        kept = f"what was computed is kept in {default_root()}"
        told = f"{wanted.name} stopped: {kept}{_keep(working, failed, ' and in ')}"
        print(f"{told}; run the same command again to go on.", file=sys.stderr)
        return stopped_code(stopped)
    except Exception as error:  # papermill, nbclient and the kernel each have their own
        full = isinstance(error, OSError) and error.errno in NO_ROOM
        told = no_room(error) if full else str(error).strip()
        last = told.splitlines()[-1:] or [type(error).__name__]
        told = _keep(working, failed, "\nThe failed copy is ")
        print(f"{wanted.name} failed: {last[0]}{told}", file=sys.stderr)
        return 1
    write_whole(out, nbformat.writes(executed) + "\n")
    working.unlink(missing_ok=True)
    print(f"{wanted.name}: {used['seconds']} s, {used['peak_memory_mib']} MiB: {out}")
    return 0


def _results_folder(wanted: Request) -> Path:
    return files.results_path(wanted.name, wanted.resolved.preset).parent.absolute()


def _below(folder: Path, written: Sequence[Path]) -> list[str]:
    """As seen from a folder, those that lie below it."""
    places = [Path(os.path.abspath(file)) for file in written]
    return [str(file.relative_to(folder)) for file in places if file.is_relative_to(folder)]


def _own_results(wanted: Request) -> dict[Path, int]:
    """The results files with the parameters of a run, each with its time, but for those of other
    notebooks, which may have the same: a file is of the one whose whole name begins its own."""
    names = [source.stem for source in wanted.source.parent.glob("*.ipynb")]
    found = {}
    for file in _results_folder(wanted).rglob("*.json"):
        owners = [name for name in names if f"{file.stem}_".startswith(f"{name}_")]
        with suppress(OSError, ValueError, AttributeError):  # what is damaged is nobody's
            own = json.loads(file.read_bytes()).get("settings") == wanted.made_from["parameters"]
            if own and max(owners, key=len, default=wanted.name) == wanted.name:
                found[file] = written_at(file)
    return found


def _keep(working: Path, failed: Path, told: str) -> str:
    """Keep what was executed, where there is a working copy, as the failed one."""
    if not working.is_file():
        return ""
    os.replace(working, failed)
    return f"{told}{failed}"


def _finish(
    wanted: Request, working: Path, used: dict, writes: Sequence[Path]
) -> nbformat.NotebookNode:
    """The executed copy, cleaned and noted; raises `KpnbError` if it hides a failure."""
    executed = nbformat.read(working, as_version=4)
    for line in notebook.clean(executed):
        print(f"{wanted.name}: {line}", file=sys.stderr)
    errors = notebook.error_outputs(executed)
    if errors:
        raise KpnbError(f"The notebook ran to its end but shows an error: {errors[0]}")
    missing = [str(file) for file in writes if not file.is_file()]
    require(not missing, f"The notebook ran to its end but did not write {', '.join(missing)}.")
    executed.metadata[NOTE] = {
        **wanted.made_from,
        "given": wanted.given,
        "outputs": notebook.outputs_fingerprint(executed),
        "figures": notebook.figure_count(executed),
        "writes": _hashes(writes),
        "results": _below(_results_folder(wanted), writes),
        **used,
    }
    return executed


def _hashes(files: Sequence[Path]) -> dict[str, str | None]:
    """Hash by file name, None for a file that is not there."""
    return {file.name: file_hash(file) if file.is_file() else None for file in files}


def _require_data(wanted: Request) -> None:
    """Raise KpnbError where `data` leads nowhere, before any network is built."""
    data = getattr(wanted.resolved, "data", EMBEDDED)
    read = next((READ_BY[kind] for kind in READ_BY if wanted.name.startswith(kind)), IMAGES)
    name, fetched = data.removeprefix(PREFIX), data.startswith(PREFIX)
    if (fetched or name in NAMES) and name not in read:
        told = f"data is {data!r}, which {wanted.name} does not read"
        raise KpnbError(f"{told}: give {PREFIX}NAME with one of {', '.join(read)}.")
    if not fetched:
        find_data(data)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kpnb.run", description="Run one notebook.")
    add = parser.add_argument
    add("notebook", nargs="?", help="its name, such as image_h1")
    add("-p", dest="parameters", action="append", default=[], metavar="NAME=VALUE")
    preset = {"dest": "parameters", "action": "append", "type": "preset={}".format}
    add("--preset", help="the same as -p preset=...", **preset)
    add("-o", "--output", type=Path, metavar="OUT.ipynb", help="default: executed/NOTEBOOK.ipynb")
    add("--notebooks", type=Path, default=HERE / "notebooks", metavar="DIR")
    told = "a file the notebook writes: without it the run has failed, and is run again"
    file = {"type": lambda place: Path(os.path.expanduser(place)), "metavar": "FILE"}
    add("--writes", action="append", default=[], help=told, **file)
    add("--force", action="store_true", help="run even if the executed copy is up to date")
    add("--log", action="store_true", help="show the notebook's output while it runs")
    add("--check", action="store_true", help="check and print the parameters only")
    add("--status", metavar="PRESET", help="of the preset's results, instead of running")
    add("--compare", nargs=2, type=Path, metavar=("A", "B"), help="folders of results, likewise")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Fingerprints: one hash for everything a stored result depends on; and where it was computed.

A result depends on its settings, the data, the library versions and the code that computed it.
The code's share is taken from definitions: those that compute, and all that these refer to in the
package (see `kpnb.source_code`). So a comment, a move to another module or a new name changes
nothing; any edit of what a definition does changes the hash. Machine, commit, time and memory are
told beside a result and are in no hash.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from kpnb.errors import KpnbError, did_you_mean
from kpnb.source_code import Package, Place, Text, package_at

PACKAGE = Path(__file__).resolve().parent
LIBRARIES = ("torch", "torchvision", "numpy")

# Rooms whose code is no part of a result: how it is shown, run, written about and kept, and where
# its data lie (what they hold has hashes of its own). Modules by name, with all below them. A
# reference into them counts as one and the same mark.
SHOWING = ("kpnb.figures", "kpnb.study.display")
RUNNING = ("kpnb.run",)
KEEPING = (
    "kpnb.datasets.places",
    "kpnb.source_code",
    "kpnb.errors",
    "kpnb.fingerprint",
    "kpnb.store",
)
ROOMS = (SHOWING, RUNNING, KEEPING)

# Set by kpnb.run for the kernel of an executed copy.
EXECUTED = "KPNB_EXECUTED_COPY"

Seed = Callable | type | str | Place


def fingerprint(value: object) -> str:
    """SHA-256, in hexadecimal, of `value` as canonical JSON (sorted keys, no spaces).

    `value` may hold None, bool, int, finite float, str, lists or tuples (taken as lists) and
    dicts with string keys. Raises `KpnbError` for anything else, NaN and infinity included.
    """
    require_json(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def require_json(value: object, where: str = "the value") -> None:
    """Raise `KpnbError` naming the first place in `value` that JSON cannot hold exactly."""
    if isinstance(value, list | tuple):
        for position, item in enumerate(value):
            require_json(item, f"{where}[{position}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise KpnbError(f"{where} has the key {key!r}: keys must be strings.")
            require_json(item, f"{where}[{key!r}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise KpnbError(f"{where} is {value}, which JSON cannot hold: use None instead.")
    elif not isinstance(value, str | bool | int | float | None):
        kind = type(value).__name__
        raise KpnbError(f"{where} is a {kind}: convert it to a number, string, list or dict.")


def library_versions() -> dict[str, str]:
    """Versions that can change a number: Python (major.minor), torch, torchvision and numpy."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {"python": python} | {name: installed_version(name) for name in LIBRARIES}


def installed_version(name: str) -> str:
    """The version of an installed package, or "absent"."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def code_fingerprint(*seeds: Seed, showing: bool = False, package: Path | None = None) -> str:
    """SHA-256 over the definitions of `seeds` and of all that they refer to in the package.

    seeds: functions, classes (or methods, for their class), or names that the package defines
    exactly once; constants go by name. showing: follow how things are shown, too. A room of `ROOMS`
    is followed where a seed lies in it. `package` is the package's folder, kpnb's own by default.
    What only happens when the program runs is not seen: which class an argument has whose method is
    called, or a name put together for `getattr`. Where a number depends on it, it is a seed.
    Raises `KpnbError` for a seed that is not there, and for a name defined more than once.
    """
    return _closure(seeds, showing, package).code


def data_fingerprint(*seeds: Seed, package: Path | None = None) -> str:
    """SHA-256 over the content of the package's data that `seeds` and what they reach name.

    A file counts where its name stands as a string in one of these definitions, wherever it lies;
    so data for one task leave the results of another alone. Errors as for `code_fingerprint`.
    """
    closure = _closure(seeds, False, package)
    folder, written = closure.folder, "".join(text.text for text in closure.texts.values())
    named = [name for name in _packed(folder) if f"Constant[{name!r}," in written]
    paths = [packed_file(name, folder) for name in named]
    return fingerprint({path.name: known_hash(path) for path in paths})


def reached(*seeds: Seed, package: Path | None = None) -> frozenset[tuple[str, str]]:
    """(module, name) of the definitions that `code_fingerprint` is taken over."""
    return frozenset(_closure(seeds, False, package).texts)


def notebook_seeds(source: str, package: Path | None = None) -> list[Place]:
    """What a notebook's code uses of the package, but for how it is run and kept."""
    used = package_at(package or PACKAGE).references(source)
    return [place for place in used if not any(_inside(place, room) for room in ROOMS[1:])]


def checkout() -> Path | None:
    """The folder of the clone that the package lies in; None where it is installed without one."""
    folder = PACKAGE.parent
    return folder if (folder / "pyproject.toml").is_file() else None


def packed_file(name: str, package: Path | None = None) -> Path:
    """The one data file of this name in the package, wherever it lies there.

    Raises `KpnbError` where there is none, or more than one.
    """
    folder = package or PACKAGE
    if name not in _packed(folder):
        _packed.cache_clear()  # it may have been put there since
    found = _packed(folder).get(name, ())
    if len(found) == 1:
        return found[0]
    why = f"lies in {len(found)} folders of it" if found else "is missing from it"
    raise KpnbError(f"The package's data file {name} {why}: reinstall kpnb.")


@functools.lru_cache(maxsize=16)
def _packed(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The package's files by name, without code and texts for readers."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.rglob("*")):
        shown = not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        if shown and path.suffix not in (".py", ".md") and path.is_file():
            found[path.name] = (*found.get(path.name, ()), path)
    return found


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_hash(path: Path) -> str:
    """`file_hash`, taken once for as long as neither the file's size nor its time changes."""
    about = path.stat()
    return _hash_of(path.resolve(), about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=256)
def _hash_of(path: Path, size: int, changed: int) -> str:
    return file_hash(path)


def _inside(place: Place, modules: Iterable[str]) -> bool:
    return any(f"{place.module}.".startswith(f"{module}.") for module in modules)


class _Closure:
    """Some definitions and all that they refer to outside the closed modules."""

    def __init__(self, package: Package, seeds: frozenset[Place], closed: tuple[str, ...]) -> None:
        self.folder, self.seeds = package.folder, seeds
        self.texts: dict[Place, Text] = {}
        waiting = list(seeds)
        while waiting:
            place = waiting.pop()
            if place not in self.texts and not _inside(place, closed):
                self.texts[place] = package.text(place)
                waiting += self.texts[place].references

    @functools.cached_property
    def code(self) -> str:
        """The hash: of the definitions' own hashes, those of the seeds told apart.

        A definition's hash holds, in place of its references, the hashes of what they lead to; as
        definitions may refer to each other in a ring, hashes are refined until no further round
        tells more of them apart.
        """
        hashes = {place: _hash(text.text) for place, text in self.texts.items()}
        known = 0
        while len(set(hashes.values())) > known:
            known = len(set(hashes.values()))
            hashes = {
                at: _hash(hashes[at], *(hashes.get(to, "elsewhere") for to in text.references))
                for at, text in self.texts.items()
            }
        seeds = {hashes[place] for place in self.seeds}
        return _hash(*sorted(seeds), "all:", *sorted(set(hashes.values())))


_closure_of = functools.lru_cache(maxsize=256)(_Closure)


def _closure(seeds: Iterable[Seed], showing: bool, folder: Path | None) -> _Closure:
    package = package_at((folder or PACKAGE).resolve())
    places = frozenset(_place(package, seed) for seed in seeds)
    opened = [room for room in ROOMS if any(_inside(place, room) for place in places)]
    opened += [SHOWING] if showing else []
    closed = [module for room in ROOMS if room not in opened for module in room]
    return _closure_of(package, places, tuple(closed))


def _place(package: Package, seed: Seed) -> Place:
    """The definition of a name, a function, a class, or of the class of a method."""
    if isinstance(seed, Place):
        return seed
    if isinstance(seed, str):
        return _named(package, seed)
    module = getattr(seed, "__module__", None)
    name = getattr(seed, "__qualname__", "").partition(".")[0]
    if name in package.module(module).definitions:
        return Place(module, name)
    raise KpnbError(
        f"{seed!r} is no function or class at the top of one of {package.name}'s modules: pass "
        "such a one, or the name of a constant."
    )


def _named(package: Package, name: str) -> Place:
    """The one definition of a public name; `KpnbError` unless there is exactly one."""
    homes = package.homes(name)
    if len(homes) == 1 and not name.startswith("_"):
        return Place(homes[0], name)
    if homes:
        why = "it is private" if name.startswith("_") else f"defined in {' and '.join(homes)}"
        raise KpnbError(f"{name!r} does not name one definition ({why}): give it its own name.")
    known = {n for module in package.files for n in package.module(module).definitions}
    near = did_you_mean(name, [n for n in known if not n.startswith("_")])
    raise KpnbError(f"{package.name} defines no {name!r}: {near or 'name one of its definitions.'}")


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def provenance() -> dict:
    """Versions, machine and commit, JSON-able.

    Keys: versions (python, torch, torchvision, numpy, kpnb), platform, cpu (model name),
    threads (that torch uses), gpu (name or None), commit (hash or None outside a git checkout)
    and dirty (whether tracked files other than results, which runs write, differ from the commit;
    None without one).
    """
    import torch  # here, so that reading peak memory does not cost an import of torch

    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", ":!/book/results")
    versions = {"python": platform.python_version(), "kpnb": installed_version("kpnb")}
    return {
        "versions": library_versions() | versions,
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": commit,
        "dirty": None if commit is None else bool(changes),
    }


def cpu_name() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    listing = Path("/proc/cpuinfo")
    text = listing.read_text(errors="replace") if listing.is_file() else ""
    named = re.search(r"^model name\s*:[ \t]*(\S.*)$", text, re.MULTILINE)
    return named[1].strip() if named else platform.processor() or platform.machine()


def peak_memory_mib(who: int = resource.RUSAGE_SELF) -> float:
    """Largest resident memory so far, in MiB: of this process, or with RUSAGE_CHILDREN of the
    largest child that has ended."""
    # macOS counts bytes, Linux KiB.
    return resource.getrusage(who).ru_maxrss / 1024 ** (2 if sys.platform == "darwin" else 1)


class Stopwatch:
    """Seconds spent in a `with` block, and the process's peak memory at its end.

    The peak is the process's since it started, as the system counts it: not the block's own.
    """

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter()
        self.seconds = 0.0
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start

    def as_dict(self) -> dict[str, float]:
        """{"seconds", "peak_memory_mib"}; inside the block, so far."""
        seconds = self.seconds or time.perf_counter() - self._start
        return {"seconds": round(seconds, 3), "peak_memory_mib": round(peak_memory_mib(), 1)}


def _git(*arguments: str) -> str | None:
    """What git says about the checkout kpnb lies in; None if it is none or there is no git."""
    clone = checkout()
    if clone is None or not (clone / ".git").exists():
        return None
    # Its code runs here already, whoever it belongs to: git need not mistrust it.
    command = ["git", "-c", "safe.directory=*", "-C", str(clone), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return os.fsdecode(answer.stdout).strip()


def executed_copy() -> bool:
    """Whether this is the kernel of a notebook that kpnb.run executes into a copy."""
    return bool(os.environ.get(EXECUTED))


def track(items: Sequence, title: str) -> Iterator:
    """The items, with a bar on a terminal or in a live notebook."""
    live = sys.stderr.isatty() or ("ipykernel" in sys.modules and not executed_copy())
    return iter(tqdm(items, desc=title, disable=not live, leave=False))

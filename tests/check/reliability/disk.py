"""A disk that is full from one write on, each in turn, and a clock that goes backwards.

Both are tried on all that the project writes: the store with its parts, results, an executed copy,
a prepared folder of pictures and an unpacked archive, in this process.
"""

import errno
import hashlib
import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from unittest.mock import patch

import torch
from archive_files import make_tar, tar_info
from image_trees import picture_objects
from made_results import full_run

import kpnb.run.__main__ as runner
from data_prep.fetch import RemoteFile, obtain
from data_prep.folder import prepare_images
from kpnb.errors import KpnbError, no_room
from kpnb.metrics.results import write_results
from kpnb.store import Scratch, Store

YEARS = 10 * 365 * 86400  # seconds
NOTEBOOKS = Path(__file__).resolve().parents[3] / "notebooks"
UNDER_WAY = ("*.tmp", "*.part", "*.old", "*.running.ipynb", "*.kpnb-part", ".unpacking-*")


def leftovers(folder: Path) -> list[str]:
    """What only a run under way has."""
    return sorted({path.name for kind in UNDER_WAY for path in folder.rglob(kind)})


class Written:
    """All that the project writes, below one folder; `computed` counts what is computed for it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.computed = folder, 0
        shutil.rmtree(folder, ignore_errors=True)
        self.pictures = picture_objects(folder.with_name("pictures"))
        members = [tar_info(f"set/{n}.txt", content=bytes([n]) * 5000) for n in range(5)]
        (folder / "data").mkdir(parents=True)
        make_tar(folder / "data" / "set.tar", *members, mode="w")

    def write(self) -> None:
        """Everything that is not there; raises KpnbError with the first sentence of a failure."""
        for n in range(2):
            Store(self.folder / "store").compute("made", {"n": n}, self._compute, ("KpnbError",))
        with patch.dict(os.environ, KPNB_RESULTS=str(self.folder / "results")):
            write_results(full_run())
        self._copy()
        prepare_images(self.pictures, self.folder / "prepared", 32, "box")
        obtain([RemoteFile("set.tar", (), need=("set",))], self.folder / "data", download=False)

    def _compute(self, scratch: Scratch) -> tuple[dict, dict]:
        state = torch.arange(1000.0)
        for step in range(3):
            scratch.save(f"step={step}", {"state": state + step}, {"step": step})
        self.computed += 1
        return {"state": state}, {"steps": 3}

    def _copy(self) -> None:
        """An executed copy, of a notebook whose cells nobody ran."""

        def execute(source: Path, working: Path, *given: object) -> dict:
            self.computed += 1
            working.write_bytes(source.read_bytes())
            return {"seconds": 1.0, "peak_memory_mib": 1, "store": []}

        out = self.folder / "copies" / "image_h2.ipynb"
        with ExitStack() as stack:
            stack.enter_context(patch("kpnb.run.notebook.execute", execute))
            stack.enter_context(redirect_stdout(io.StringIO()))
            told = stack.enter_context(redirect_stderr(io.StringIO()))
            if runner.main(["image_h2", "-o", str(out), "--notebooks", str(NOTEBOOKS)]):
                raise KpnbError(told.getvalue().strip())

    def content(self) -> dict[str, str]:
        """SHA-256 of every file by its path, locks left out."""
        files = [p for p in self.folder.rglob("*") if p.is_file() and p.suffix != ".lock"]
        hashed = {p: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
        return {str(p.relative_to(self.folder)): found for p, found in hashed.items()}


class _File:
    """A file whose writes are told to `place` before they happen."""

    def __init__(self, file: io.IOBase, place: Callable[[], None]) -> None:
        self._file, self._place = file, place

    def write(self, content: object) -> int:
        self._place()
        return self._file.write(content)

    def __getattr__(self, name: str) -> object:
        return getattr(self._file, name)

    def __enter__(self) -> "_File":
        self._file.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._file.__exit__(*error)

    def __iter__(self) -> Iterator:
        return iter(self._file)


@contextmanager
def full_disk(below: Path, after: float) -> Iterator[list[str]]:
    """Everything that needs room below a folder fails, but for the first `after` times; what
    needed it."""
    needed: list[str] = []

    def place(what: str) -> None:
        needed.append(what)
        if len(needed) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def inside(path: object) -> bool:
        return isinstance(path, str | os.PathLike) and str(below) in os.fspath(path)

    def opened(path, mode="r", *more, **named):
        writes = inside(path) and set(mode) & set("wax+")
        if writes:
            place(f"open {path}")
        file = plain["open"](path, mode, *more, **named)
        return _File(file, lambda: place(f"write {path}")) if writes else file

    def descriptor(path, flags, *more, **named):
        if inside(path) and flags & os.O_CREAT:
            place(f"create {path}")
        return plain["os.open"](path, flags, *more, **named)

    def made(path, *more, **named):
        if inside(path) and not os.path.exists(path) and os.path.isdir(os.path.dirname(path)):
            place(f"mkdir {path}")
        return plain["mkdir"](path, *more, **named)

    def replaced(source, target):
        if inside(target):
            place(f"replace {target}")
        return plain["replace"](source, target)

    plain = {"open": open, "os.open": os.open, "mkdir": os.mkdir, "replace": os.replace}
    with ExitStack() as stack:
        fakes = {"builtins.open": opened, "io.open": opened, "os.open": descriptor}
        for target, fake in (fakes | {"os.mkdir": made, "os.replace": replaced}).items():
            stack.enter_context(patch(target, fake))
        yield needed


class _Tried:
    """Trials on `Written`, compared with what an undisturbed run writes at the same place."""

    def __init__(self, work: Path) -> None:
        self.folder = work / "written"
        undisturbed = Written(self.folder)
        with full_disk(self.folder, float("inf")) as needed:
            undisturbed.write()
        self.places, self.expected, self.computed = needed, undisturbed.content(), 3

    def _wrong(self, written: Written, most: int) -> str:
        """How a run that has ended differs from the undisturbed one; "" if it does not."""
        found = written.content()
        differing = {name for name in found.keys() | self.expected.keys()
                     if found.get(name) != self.expected.get(name)}  # fmt: skip
        if written.computed > most:
            return f"{written.computed} computations"
        if differing:
            return f"not as undisturbed: {sorted(differing)}"
        left = leftovers(self.folder)
        return f"left are {left}" if left else ""


class Full(_Tried):
    """From one place on, nothing can be written; then there is room again."""

    def __len__(self) -> int:
        return len(self.places)

    def trial(self, number: int, random: Random) -> tuple[str, str, str]:
        written, told = Written(self.folder), ""
        with full_disk(self.folder, number):
            try:
                written.write()
            except (KpnbError, OSError) as error:
                told = str(error) if isinstance(error, KpnbError) else no_room(error)
        written.write()
        wrong = self._wrong(written, 2 * self.computed)
        if not wrong and ("space" not in told or "\n" in told or "fetch it again" in told):
            wrong = f"the true cause is not told in one sentence: {told!r}"
        where = self.places[number].replace(str(self.folder), "")
        outcome = "wrong" if wrong else "told, then equal results"
        return "full disk", outcome, f"{where}: {wrong or told}"


class Clock(_Tried):
    """Each look at the clock finds it earlier; then all files get times of the past or future."""

    def trial(self, number: int, random: Random) -> tuple[str, str, str]:
        written, now, real = Written(self.folder), [time.time()], time.time()

        def earlier() -> float:
            now[0] -= random.random() * YEARS
            return now[0]

        with patch("time.time", earlier), patch("time.time_ns", lambda: int(earlier() * 1e9)):
            written.write()
            for path in self.folder.rglob("*"):
                moment = real + random.uniform(-YEARS, YEARS)
                os.utime(path, (moment, moment))
            written.write()
        wrong = self._wrong(written, self.computed)
        return "clock set back", "wrong" if wrong else "equal results, nothing again", wrong

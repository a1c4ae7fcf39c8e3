"""Executes the book's notebooks, several at a time; those that still hold are left as they are.

`python -m book.make.execute --preset demo [PAGE ...]`: pages of the table of contents, by default
all. One line says what runs, how far it is and about how long still. Exit codes: 0, 1 where a
notebook failed, whose output is shown, 2 a mistake found before anything ran, 130 and 143 stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from book.make.__main__ import built
from book.make.executed import executed_folder
from book.make.pages import BOOK, notebook_names, page_source
from kpnb.errors import KpnbError, answered, require, stopped_by
from kpnb.metrics.results import results_root
from kpnb.run.__main__ import refresh
from kpnb.run.machine import study_of, this_machine
from kpnb.run.notebook import request
from kpnb.run.plan import Planned, duration

#: Two use two cores; more would share little else, since notebooks of one kind wait for each other.
JOBS = min(2, os.cpu_count() or 1)
EVERY = 0.5  # seconds between two looks at what runs
AT_LEAST = 15.0  # seconds of any notebook: a kernel, figures
MOVE = "\r\x1b[K"  # to the beginning of a terminal's line, and empties it


@dataclass
class Task:
    """A page whose notebook is to be executed. command: by what. kind: of which notebooks it shares
    networks with. seconds: about, beside what earlier tasks compute."""

    page: str
    command: Sequence[str]
    kind: str
    seconds: float = AT_LEAST
    process: subprocess.Popen | None = None
    log: Path | None = None
    begun: float = 0.0


@dataclass
class Tasks:
    """What waits, runs and is done. A terminal gets one line that changes, a file a line for each
    notebook that ends."""

    waiting: list[Task]
    folder: Path
    jobs: int = JOBS
    running: list[Task] = field(default_factory=list)
    done: list[Task] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    def run(self) -> int:
        """Execute all; after a failure nothing new is begun. Returns the exit code."""
        code = 0
        while self.running or (self.waiting and not code):
            while self.waiting and len(self.running) < self.jobs and not code:
                self._begin(self.next())
            time.sleep(EVERY)
            for task in [one for one in self.running if one.process.poll() is not None]:
                code = self._end(task) or code
            self.show()
        return code

    def next(self) -> Task:
        """The longest, so that none is left alone at the end, of those whose networks no running
        one is about to make, else of all; of equal ones the first."""
        busy = {task.kind for task in self.running}
        free = [task for task in self.waiting if task.kind not in busy]
        return max(free or self.waiting, key=lambda task: task.seconds)

    def stop(self, number: int, _frame: object = None) -> None:
        """Hand a signal on: each notebook says what it keeps."""
        self.waiting.clear()
        for task in self.running:
            task.process.send_signal(number)

    def left(self) -> float:
        """Seconds still, about: what was estimated, by how right the estimates were so far."""
        now = time.monotonic()
        spent = sum(task.seconds for task in self.done)
        spent += sum(min(now - task.begun, task.seconds) for task in self.running)
        whole = sum(task.seconds for task in [*self.waiting, *self.running, *self.done])
        pace = (now - self.begun) / spent if self.done else 1 / self.jobs
        return (whole - spent) * pace

    def line(self) -> str:
        """As in: 3 of 12: image_h2 40 s, qa_h1 12 s; about 6 minutes left."""
        now = time.monotonic()
        whole = len(self.waiting) + len(self.running) + len(self.done)
        told = ", ".join(f"{one.page} {duration(now - one.begun)}" for one in self.running)
        return f"{len(self.done)} of {whole}: {told}; about {duration(self.left())} left"

    def show(self) -> None:
        if sys.stderr.isatty() and self.running:
            print(f"{MOVE}{self.line()}", end="", file=sys.stderr, flush=True)

    def _begin(self, task: Task) -> None:
        self.waiting.remove(task)
        self.running.append(task)
        task.log, task.begun = self.folder / f"{task.page}.log", time.monotonic()
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        environment = {"OMP_NUM_THREADS": f"{threads}"} | os.environ
        with task.log.open("w", encoding="utf-8") as output:
            said = {"stdout": output, "stderr": subprocess.STDOUT, "env": environment}
            task.process = subprocess.Popen(task.command, **said)

    def _end(self, task: Task) -> int:
        """Say how it ended: its last line, or all that it said if it failed."""
        self.running.remove(task)
        self.done.append(task)
        said, code = task.log.read_text(encoding="utf-8", errors="replace"), task.process.returncode
        last = said.strip().splitlines()[-1:]
        clear = MOVE if sys.stderr.isatty() else ""
        print(f"{clear}{said.strip() if code else ''.join(last)}", file=sys.stderr, flush=True)
        if code < 0:  # a signal ended it before it could answer
            print(f"{task.page} was stopped by signal {-code}.", file=sys.stderr)
        return 128 - code if code < 0 else code


def tasks(pages: Iterable[str], preset: str, book: Path = BOOK) -> list[Task]:
    """What is to be executed of some pages, in their order.

    Raises: KpnbError for a page that the contents do not name, and for any mistake in a notebook.
    """
    found, plan = [], Planned("the book", this_machine())
    for page in pages:
        source, parameters = page_source(book, page)
        out = executed_folder(preset, book) / f"{page}.ipynb"
        writes = results_root() / preset / f"{page}.json"
        wanted = request(source, book.parent / "notebooks", {"preset": preset} | parameters)
        with contextlib.redirect_stderr(io.StringIO()):  # why not is said when it runs
            if refresh(wanted, out, [writes]):
                continue
        given = [f"-p{name}={value}" for name, value in parameters.items()]
        command = [sys.executable, "-m", "kpnb.run", source, *given, "--preset", preset]
        command += ["-o", f"{out}", "--writes", f"{writes}"]
        before = plan.seconds
        with contextlib.suppress(KpnbError):  # what was never measured takes what it takes
            plan.add(study_of(wanted.resolved))
        kind = source.partition("_")[0]
        found.append(Task(page, command, kind, AT_LEAST + plan.seconds - before))
    return found


def execute(pages: Sequence[str], preset: str, jobs: int = JOBS) -> int:
    """Execute those of some pages that do not hold, by default of all. Returns the exit code.

    Raises: KpnbError for a page that is none, and for any mistake in a notebook.
    """
    pages, folder = pages or notebook_names(BOOK), BOOK / "_build" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    found = tasks(pages, preset)
    held = len(pages) - len(found)
    print(f"notebooks: {held} up to date, {len(found)} to run", file=sys.stderr, flush=True)
    queue = Tasks(found, folder, jobs)
    with stopped_by(queue.stop):
        return queue.run()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; mistakes go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m book.make.execute", description=__doc__)
    add = parser.add_argument
    add("pages", nargs="*", metavar="PAGE", help="default: all of the table of contents")
    add("--preset", default="demo")
    add(
        "--jobs", type=int, default=JOBS, help="how many at a time; each has its share of the cores"
    )
    add("--book", action="store_true", help="then build the book")
    options = parser.parse_args(arguments)
    return answered(lambda: _answer(options))


def _answer(options: argparse.Namespace) -> int:
    require(options.jobs >= 1, f"--jobs is {options.jobs}: give 1 or more.")
    code = execute(options.pages, options.preset, options.jobs)
    return code or (built(options.preset) if options.book else 0)


if __name__ == "__main__":
    sys.exit(main())

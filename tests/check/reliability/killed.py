"""kill -9 in the middle of `make book`, and several of it at once, in copies of the clone.

Each trial runs the book's own loop over a few notebooks at smoke from an empty store. What is
tried is the commit: changes that are not committed are not in the copies.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOKS = ("image_h2", "image_h3")  # the quickest; they share a study
PRESET = "smoke"
PATIENCE = 3600  # seconds for one run of the loop, which takes a minute on a quiet machine
#: What the command line of a victim holds; make is the process that was started.
VICTIMS = {"kernel": "ipykernel_launcher", "runner": "-m kpnb.run image_", "make": ""}
WRITTEN = (".kpnb_store", "book/notebooks", "book/results/smoke")


class Clone:
    """A copy of the clone at `folder` that uses the environment which runs this."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.results = folder, folder / "book" / "results" / PRESET
        self.temporary = folder.with_name(f"{folder.name}.tmp")
        if not (folder / ".venv").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
            self._borrow_environment()
        if commit(folder) != commit(ROOT):
            raise SystemExit(f"{folder} is of another commit: give another --work, or remove it.")

    def _borrow_environment(self) -> None:
        """make takes .venv for ready by its stamp, and never touches the environment itself."""
        listed = subprocess.run(
            ["make", "-n", "-p", "lint"], cwd=self.folder, capture_output=True, text=True
        ).stdout
        stamp = next(word for word in listed.split() if word.startswith(".venv/ready-"))
        python = self.folder / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
        (self.folder / stamp.rstrip(":")).touch()

    def empty(self) -> None:
        for place in WRITTEN:
            shutil.rmtree(self.folder / place, ignore_errors=True)
        shutil.rmtree(self.temporary, ignore_errors=True)
        self.temporary.mkdir()

    def start(self, log: Path) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": str(self.folder), "TMPDIR": str(self.temporary)}
        for name in ("KPNB_STORE", "KPNB_RESULTS", "MAKEFLAGS"):
            environment.pop(name, None)
        command = ["make", "notebooks", f"PRESET={PRESET}", f"NOTEBOOKS={' '.join(NOTEBOOKS)}"]
        with log.open("a") as told:
            how = {"stdout": told, "stderr": told, "start_new_session": True}
            return subprocess.Popen(command, cwd=self.folder, env=environment, **how)

    def compared(self, reference: "Clone") -> str:
        """How its results differ from another's; "" if they do not."""
        both = [str(reference.results), str(self.results)]
        done = subprocess.run(
            [sys.executable, "-m", "kpnb.run", "--compare", *both],
            cwd=self.folder, capture_output=True, text=True,
        )  # fmt: skip
        return "" if done.returncode == 0 else f"{done.stdout}{done.stderr}"[:500]

    def left(self) -> list[str]:
        """What a finished run would not leave."""
        kinds = ("*.tmp", "*.part", "*.old", "*.running.ipynb", "*.failed.ipynb")
        found = [path for place in WRITTEN for kind in kinds
                 for path in (self.folder / place).rglob(kind)]  # fmt: skip
        return sorted(str(path.relative_to(self.folder)) for path in found)


def reference(work: Path) -> tuple[Clone, float]:
    """A clone after an undisturbed run, made once, and the seconds that this took."""
    clone, noted = Clone(work / "reference"), work / "reference.seconds"
    if not noted.exists():
        clone.empty()
        started = time.monotonic()
        if finished(clone.start(work / "reference.log")):
            raise RuntimeError(f"the undisturbed run failed: see {work / 'reference.log'}")
        noted.write_text(f"{time.monotonic() - started}")
    return clone, float(noted.read_text())


class Killed:
    """One process, chosen at random, killed at a random moment; then the same run once more."""

    def __init__(self, work: Path) -> None:
        self.reference, self.seconds = reference(work)
        self.clone, self.work = Clone(work / "killed"), work

    def trial(self, number: int, random: Random) -> tuple[str, str, str]:
        victim, share = random.choice(list(VICTIMS)), random.random()
        log = self.work / "killed.log"
        log.write_text("")
        while not (left := self._kill(victim, share, log)):
            share *= 0.9  # the run ended before its time was up, or the kernel had
        code = finished(self.clone.start(log))
        wait_for(left)
        wrong = f"the next run ended with {code}: {last_lines(log)}" if code else ""
        wrong = wrong or self.clone.compared(self.reference) or self._again(log)
        if wrong:
            shutil.copy(log, self.work / f"killed_{number}.log")
        came = "equal results, files left" if self.clone.left() else "equal results"
        told = f"at {share:.0%} of the run: {wrong or self.clone.left()}"
        return f"{victim} killed", "wrong" if wrong else came, told

    def _kill(self, victim: str, share: float, log: Path) -> set[int]:
        """Kill a victim of a run from an empty store; all processes of that run that are left.

        Where none was there to be killed, the empty set.
        """
        self.clone.empty()
        make = self.clone.start(log)
        started = time.monotonic()
        while make.poll() is None:
            time.sleep(0.02)
            if time.monotonic() - started < share * self.seconds:
                continue
            everyone = [make.pid, *children(make.pid)]
            found = everyone[:1] if victim == "make" else children(make.pid, VICTIMS[victim])
            if found:
                os.kill(found[-1], signal.SIGKILL)
                finished(make)
                return set(everyone)
        if make.returncode:
            raise RuntimeError(f"it failed before it was killed: {last_lines(log)}")
        self.seconds = time.monotonic() - started  # the machine may be faster than it was
        return set()

    def _again(self, log: Path) -> str:
        """A third run has nothing to do."""
        before = len(log.read_text())
        finished(self.clone.start(log))
        told = log.read_text()[before:].count("up to date")
        return "" if told == len(NOTEBOOKS) else f"a third run ran again: {last_lines(log)}"


class Together:
    """Two and four runs of the loop at once, on one store, results folder and executed copies."""

    def __init__(self, work: Path) -> None:
        self.reference, _ = reference(work)
        self.clone, self.work = Clone(work / "together"), work

    def trial(self, number: int, random: Random) -> tuple[str, str, str]:
        count = (2, 4)[number % 2]
        self.clone.empty()
        logs = [self.work / f"together_{n}.log" for n in range(count)]
        for log in logs:
            log.write_text("")
        codes = [finished(run) for run in [self.clone.start(log) for log in logs]]
        wrong = [last_lines(log) for log, code in zip(logs, codes, strict=True) if code]
        wrong = " / ".join(wrong) or self.clone.compared(self.reference)
        return f"{count} runs at once", "wrong" if wrong else "equal results", wrong


def commit(folder: Path) -> str:
    command = ["git", "-C", str(folder), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def finished(process: subprocess.Popen) -> int:
    return process.wait(timeout=PATIENCE)


def last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-4:])


def processes() -> Iterator[tuple[int, int, str]]:
    """Process, its parent and its command line, of all that can be seen."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (
                (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            )
            yield int(folder.name), int(parent), command


def children(pid: int, holding: str = "") -> list[int]:
    """Processes below one whose command line holds a text."""
    below, every = {pid}, sorted(processes())
    while new := {one for one, parent, _ in every if parent in below} - below:
        below |= new
    return [one for one, _, command in every if one in below - {pid} and holding in command]


def wait_for(pids: set[int]) -> None:
    """Until the processes that a killed one has left behind have ended by themselves."""
    deadline = time.monotonic() + PATIENCE
    while any(Path(f"/proc/{pid}").exists() and not is_zombie(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes that a killed one has left do not end: {pids}")
        time.sleep(0.1)


def is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True

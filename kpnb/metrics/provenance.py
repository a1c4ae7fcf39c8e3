"""Where and with what a result was computed, how long it took and how much memory.

Progress bars in a terminal or a live notebook, none where output is kept for a page.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from kpnb.fingerprint import checkout, installed_version, library_versions


def provenance() -> dict:
    """Versions, machine and commit, JSON-able.

    Keys: versions (python, torch, torchvision, numpy, kpnb), platform, cpu (model name),
    threads (that torch uses), gpu (name or None), commit (hash or None outside a git checkout)
    and dirty (whether tracked files differ from the commit; None without one).
    """
    import torch  # here, so that reading peak memory does not cost an import of torch

    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--untracked-files=no")
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
    command = ["git", "-C", str(clone), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


# Set by kpnb.run for the kernel of an executed copy.
EXECUTED = "KPNB_EXECUTED_COPY"


def executed_copy() -> bool:
    """Whether this is the kernel of a notebook that kpnb.run executes into a copy."""
    return bool(os.environ.get(EXECUTED))


def track(items: Sequence, title: str) -> Iterator:
    """The items, with a bar on a terminal or in a live notebook."""
    live = sys.stderr.isatty() or ("ipykernel" in sys.modules and not executed_copy())
    return iter(tqdm(items, desc=title, disable=not live, leave=False))

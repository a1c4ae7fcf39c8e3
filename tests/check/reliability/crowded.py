"""Two and four processes on one store, each after the same results in an order of its own."""

import logging
import os
import signal
import time
import warnings
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from shutil import rmtree

import torch

from kpnb.store import Scratch, Store
from tests.check.reliability.disk import leftovers

RESULTS, STEPS = 4, 3


def walked(number: int, log: Path | None = None):
    """A computation in resumable steps; log: a line in this file when it comes to its end."""

    def compute(scratch: Scratch) -> tuple[dict, dict]:
        state = torch.zeros(100, dtype=torch.float64)
        for step in range(STEPS):
            if part := scratch.load(f"step={step}"):
                state = part[0]["state"]
                continue
            generator = torch.Generator().manual_seed(100 * number + step)
            state = state / 2 + torch.rand(100, generator=generator, dtype=torch.float64)
            scratch.save(f"step={step}", {"state": state}, {"step": step})
            time.sleep(0.002)
        if log:
            with log.open("a") as file:
                file.write(f"{number}\n")
        return {"state": state}, {"steps": STEPS}

    return compute


def work(root: Path, order: list[int], log: Path, told: Connection | None) -> None:
    """Get every result, in this order; tells the sums of their states."""
    logging.getLogger("kpnb.store").setLevel(logging.ERROR)  # that one waits for another
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a damaged entry is warned about
        for number in order:
            record = Store(root).compute("sums", {"n": number}, walked(number, log), ("KpnbError",))
            found[number] = record.tensors["state"].sum().item()
    if told:
        told.send(found)


class Shared:
    """Two processes, then four, and so on; in every second pair of trials one is killed."""

    def __init__(self, work: Path) -> None:
        self.work, self.processes = work, get_context("fork")

    def trial(self, number: int, random: Random) -> tuple[str, str, str]:
        count, kills = (2, 4)[number % 2], number // 2 % 2 == 1
        rmtree(self.work)
        self.work.mkdir()
        root, log = self.work / "store", self.work / "computed"
        started = [self._start(root, log, random) for _ in range(count)]
        if kills:
            time.sleep(random.random() * 0.1)
            os.kill(started[0][0].pid, signal.SIGKILL)
        found = [self._told(*one) for one in started[kills:]]
        started[0][0].join()
        work(root, list(range(RESULTS)), log, None)  # and one that comes later
        label = f"{count} processes on one store" + (", one killed" if kills else "")
        wrong = self._wrong(root, log, found, kills)
        return label, "wrong" if wrong else "equal results", wrong

    def _start(self, root: Path, log: Path, random: Random):
        here, there = self.processes.Pipe(duplex=False)
        order = random.sample(range(RESULTS), RESULTS)
        process = self.processes.Process(target=work, args=(root, order, log, there))
        process.start()
        there.close()
        return process, here

    def _told(self, process, here: Connection) -> dict | None:
        try:
            return here.recv()
        except EOFError:
            return None
        finally:
            process.join()

    def _wrong(self, root: Path, log: Path, found: list, kills: bool) -> str:
        expected = {}
        for number in range(RESULTS):
            record = Store(root.with_name("alone")).compute(
                "sums", {"n": number}, walked(number), ("KpnbError",)
            )
            expected[number] = record.tensors["state"].sum().item()
        if any(one != expected for one in found):
            return f"a process got {found}, not {expected}"
        computed = sorted(map(int, log.read_text().split()))
        if set(computed) != set(range(RESULTS)) or len(computed) > RESULTS + kills:
            return f"computed were {computed}"
        left = leftovers(root)
        return f"left are {left}" if left else ""

"""A computation in five resumable steps that writes down each, for processes that share a store."""

import time
from pathlib import Path

import torch


def slow_sum(log: Path, mode: str):
    def compute(scratch):
        state = torch.zeros(3, dtype=torch.float64)
        for epoch in range(5):
            part = scratch.load(f"epoch={epoch}")
            if part is not None:
                state = part[0]["state"]
                continue
            with log.open("a") as file:
                file.write(f"{epoch}\n")
            generator = torch.Generator().manual_seed(epoch)
            state = 0.5 * state + torch.rand(3, generator=generator, dtype=torch.float64)
            scratch.save(f"epoch={epoch}", {"state": state}, {"epoch": epoch})
            if mode == "hang" and epoch == 2:
                print("ready", flush=True)
                time.sleep(60)
        return {"state": state}, {"epochs": 5}

    return compute

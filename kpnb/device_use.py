"""Which device is used and how: fast or reproducible, and what to do when its memory runs out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from kpnb.errors import KpnbError
from kpnb.parameter_model import NotebookParameters
from kpnb.training_settings import TrainingSettings

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def chosen_device(wanted: str) -> torch.device:
    """The device of the parameter `device`; KpnbError for a GPU that is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise KpnbError("device is 'cuda', but no GPU is usable here; pass device='cpu'.")
    return torch.device(wanted)


def with_effort(parameters: NotebookParameters, settings: TrainingSettings) -> TrainingSettings:
    """The settings with the batch and the precision that the parameters ask for."""
    changes = {}
    if parameters.batch is not None:
        changes["batch_size"] = parameters.batch
    if parameters.precision != "float32":
        changes["autocast"] = parameters.precision
    return replace(settings, **changes)


def exactness(parameters: NotebookParameters) -> dict[str, bool]:
    """For the store's keys: what makes a device compute the same in another way, where it is on."""
    names = ("compiled", "deterministic")
    return {name: True for name in names if getattr(parameters, name)}


@contextmanager
def device_use(device: torch.device, deterministic: bool, lower: str) -> Iterator[None]:
    """Inside, a GPU looks for its fastest kernels, or with `deterministic` gives equal bits twice.

    lower: the settings that need less memory, named when it runs out. On the CPU nothing changes
    but that message: there equal calls give equal bits anyway. What torch allows is as before
    afterwards. Raises KpnbError when memory runs out.
    """
    before = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    try:
        if device.type == "cuda":
            _choose(deterministic)
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        # On the CPU torch raises a plain RuntimeError.
        if type(error) is RuntimeError and "can't allocate memory" not in str(error):
            raise
        raise KpnbError(f"The memory of the {_name(device)} ran out: {lower}.") from error
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])


def _choose(deterministic: bool) -> None:
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        # cuBLAS reads this when it is first used; without it torch refuses matrix products.
        os.environ.setdefault(WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True)


def _name(device: torch.device) -> str:
    if device.type != "cuda":
        return "machine"
    return f"GPU ({torch.cuda.get_device_name(device)})"

"""How a network is trained: the settings of one run, checked, the learning rate they imply, and
which device is used and how: fast or reproducible, and what to say when its memory runs out. And
what a run reports.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import torch

from kpnb.errors import KpnbError, is_out_of_memory, require

SCHEDULES = ("log", "cosine", "constant")
OPTIMIZERS = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}


@dataclass(frozen=True)
class TrainingSettings:
    """SGD with momentum, as published, unless said otherwise.

    epochs: passes over the samples (published: 150). lr: learning rate of the first epoch.
    schedule: "log" spaces the rates of the epochs evenly in logarithm from lr to lr_end (published;
        lr_end None is the published lr / 10); "cosine" falls per step to lr_end (None: 0);
        "constant". warmup_epochs: linear rise per step before that (ours; 0 = none).
    optimizer: "sgd" (published), or "adamw" (ours, for texts), whose first moment takes the
        momentum and which decays weights apart from the gradient.
    momentum 0.9, weight_decay 1e-4, batch_size 64: published. seed: order of samples, dropout and
        augmentation; not the initial weights.
    checkpoints: epochs after which the weights are handed over; 0 is before the first step.
    grad_clip: greatest norm of the gradient (ours; None = no limit).
    autocast: "bfloat16" computes forward passes in that precision (for GPUs). channels_last: a
        memory layout that convolutions run faster in. Both change the last digits.
    Raises KpnbError for a value that cannot work.
    """

    epochs: int
    lr: float
    lr_end: float | None = None
    schedule: str = "log"
    warmup_epochs: int = 0
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    batch_size: int = 64
    seed: int = 0
    checkpoints: tuple[int, ...] = ()
    grad_clip: float | None = None
    autocast: str | None = None
    channels_last: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "checkpoints", tuple(self.checkpoints))
        epochs, warmup, marks = self.epochs, self.warmup_epochs, self.checkpoints
        rates = [lr for lr in (self.lr, self.lr_end) if lr is not None]
        positive = all(math.isfinite(lr) and lr > 0 for lr in rates)
        in_order = list(marks) == sorted({k for k in marks if 0 <= k <= epochs})
        decay, clip, batch = self.weight_decay, self.grad_clip, self.batch_size
        schedules, optimizers = ", ".join(SCHEDULES), ", ".join(OPTIMIZERS)
        require(epochs >= 1, f"epochs={epochs} trains nothing: pass at least 1.")
        require(positive, f"Learning rates {rates} must be positive: pass for example lr=0.01.")
        require(self.schedule in SCHEDULES, f"No schedule {self.schedule!r}: choose {schedules}.")
        known = self.optimizer in OPTIMIZERS
        require(known, f"No optimizer {self.optimizer!r}: choose one of {optimizers}.")
        require(0 <= warmup < epochs, f"warmup_epochs={warmup} must be below epochs: pass fewer.")
        require(in_order, f"checkpoints={marks} must rise from 0 to at most epochs={epochs}.")
        require(0 <= self.momentum < 1, f"momentum={self.momentum} is not in [0, 1): pass 0.9.")
        require(decay >= 0, f"weight_decay={decay} is negative: pass 0 or more.")
        require(batch >= 1, f"batch_size={batch} holds no sample: pass at least 1.")
        require(self.seed >= 0, f"seed={self.seed} is negative: pass 0 or more.")
        require(
            clip is None or clip > 0, f"grad_clip={clip} must be above 0, or None for no limit."
        )
        require(self.autocast in (None, "bfloat16"), "autocast must be None or 'bfloat16'.")

    def to_info(self) -> dict:
        """The settings for JSON."""
        return {**asdict(self), "checkpoints": list(self.checkpoints)}

    def make_optimizer(self, parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters, at the first rate."""
        first = self.momentum
        own = {"momentum": first} if self.optimizer == "sgd" else {"betas": (first, 0.999)}
        given = {"lr": self.lr, "weight_decay": self.weight_decay} | own
        return OPTIMIZERS[self.optimizer](parameters, **given)


def learning_rate(settings: TrainingSettings, epoch: int, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of `steps` in epoch `epoch` (from 1)."""
    passed = epoch - 1 + step / steps  # epochs done, with fraction
    if passed < settings.warmup_epochs:
        return settings.lr * (passed + 1 / steps) / settings.warmup_epochs
    if settings.schedule == "constant":
        return settings.lr
    length = settings.epochs - settings.warmup_epochs
    passed -= settings.warmup_epochs
    if settings.schedule == "cosine":
        end = settings.lr_end or 0.0
        return end + (settings.lr - end) * (1 + math.cos(math.pi * passed / length)) / 2
    end = settings.lr / 10 if settings.lr_end is None else settings.lr_end
    return settings.lr * (end / settings.lr) ** (int(passed) / max(length - 1, 1))


def chosen_device(wanted: str) -> torch.device:
    """The device of the parameter `device`; KpnbError for a GPU that is not there."""
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise KpnbError("device is 'cuda', but no GPU is usable here; pass device='cpu'.")
    return torch.device(wanted)


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
            torch.backends.cudnn.benchmark = not deterministic
            torch.use_deterministic_algorithms(deterministic or before[1])
            if deterministic:
                # cuBLAS reads this when it is first used; without it torch refuses its products.
                os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        gpu = device.type == "cuda"
        name = f"GPU ({torch.cuda.get_device_name(device)})" if gpu else "machine"
        raise KpnbError(f"The memory of the {name} ran out: {lower}.") from error
    finally:
        torch.backends.cudnn.benchmark = before[0]
        torch.use_deterministic_algorithms(before[1])


@dataclass
class TrainingRecord:
    """One training run, epoch by epoch.

    loss, metric, learning_rate: one value per epoch 1..E; loss and metric are means over the
    samples while the epoch went on (metric: share of right answers for classification, share of
    explained variance for feature distillation).
    distance_per_step, distance_per_epoch: label -> E + 1 distances; of `weight_distance`.
    """

    loss: list[float] = field(default_factory=list)
    metric: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    distance_per_step: dict[str, list[float]] = field(default_factory=dict)
    distance_per_epoch: dict[str, list[float]] = field(default_factory=dict)

    def distance(self, per: str) -> dict[str, list[float]]:
        """`distance_per_step` or `distance_per_epoch`, for per = "step" or "epoch"."""
        return {"step": self.distance_per_step, "epoch": self.distance_per_epoch}[per]

    def to_info(self) -> dict:
        """The record for JSON, which `TrainingRecord(**info)` gives back."""
        return asdict(self)

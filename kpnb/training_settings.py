"""How a network is trained: the settings of one run, checked, and the learning rate they imply."""

import math
from dataclasses import asdict, dataclass

from kpnb.errors import KpnbError

SCHEDULES = ("log", "cosine", "constant")
# Checkpoints of the published code: to epoch 150, and for its runs of 400 epochs.
PUBLISHED_CHECKPOINTS = (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 70, 90, 110, 130, 150) + (
    170,
    190,
    240,
    280,
    320,
    360,
    400,
)


@dataclass(frozen=True)
class TrainingSettings:
    """SGD with momentum, as published unless said otherwise.

    epochs: passes over the samples (published: 150). lr: learning rate of the first epoch.
    schedule: "log" spaces the rates of the epochs evenly in logarithm from lr to lr_end (published;
        lr_end None is the published lr / 10); "cosine" falls per step to lr_end (None: 0);
        "constant". warmup_epochs: linear rise per step before that (ours; 0 = none).
    momentum 0.9, weight_decay 1e-4, batch_size 64: published. seed: order of samples, dropout and
        augmentation; not the initial weights.
    checkpoints: epochs after which the weights are handed over; 0 is before the first step.
    grad_clip: greatest norm of the gradient (ours; None = no limit).
    autocast: "bfloat16" computes forward passes in that precision (for GPUs). channels_last: a
        memory layout that convolutions run faster in (narrow VGG-11 on one CPU core: 2.4 s an epoch
        of 900 images of 64x64 instead of 3.1 s). Both off by default; they change the last digits.
    Raises KpnbError for a value that cannot work.
    """

    epochs: int
    lr: float
    lr_end: float | None = None
    schedule: str = "log"
    warmup_epochs: int = 0
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
        for good, message in (*self._schedule_rules(), *self._step_rules()):
            if not good:
                raise KpnbError(message)

    def _schedule_rules(self) -> list[tuple[bool, str]]:
        """What must hold of epochs and rates, and what to say otherwise."""
        epochs, warmup, marks = self.epochs, self.warmup_epochs, self.checkpoints
        ends = (self.lr,) if self.lr_end is None else (self.lr, self.lr_end)
        in_order = list(marks) == sorted({k for k in marks if 0 <= k <= epochs})
        return [
            (epochs >= 1, f"epochs={epochs} trains nothing: pass at least 1."),
            (
                all(math.isfinite(lr) and lr > 0 for lr in ends),
                f"Learning rates {ends} must be positive numbers: pass for example lr=0.01.",
            ),
            (
                self.schedule in SCHEDULES,
                f"No schedule {self.schedule!r}: choose one of {', '.join(SCHEDULES)}.",
            ),
            (
                0 <= warmup < epochs,
                f"warmup_epochs={warmup} must be from 0 to below epochs={epochs}: pass fewer.",
            ),
            (
                in_order,
                f"checkpoints={marks} must rise from 0 to at most epochs={epochs}: leave out the "
                "others.",
            ),
        ]

    def _step_rules(self) -> list[tuple[bool, str]]:
        """What must hold of a single step, and what to say otherwise."""
        decay, clip = self.weight_decay, self.grad_clip
        return [
            (
                0 <= self.momentum < 1,
                f"momentum={self.momentum} must be from 0 to below 1: pass for example 0.9.",
            ),
            (decay >= 0, f"weight_decay={decay} is negative: pass 0 or more."),
            (
                self.batch_size >= 1,
                f"batch_size={self.batch_size} holds no sample: pass at least 1.",
            ),
            (self.seed >= 0, f"seed={self.seed} is negative: pass 0 or more."),
            (
                clip is None or clip > 0,
                f"grad_clip={clip} must be positive: pass None for no limit.",
            ),
            (
                self.autocast in (None, "bfloat16"),
                f"autocast={self.autocast!r} is not offered: choose None or 'bfloat16'.",
            ),
        ]

    def to_info(self) -> dict:
        """The settings for JSON."""
        return {**asdict(self), "checkpoints": list(self.checkpoints)}


def published_checkpoints(epochs: int) -> tuple[int, ...]:
    """The published checkpoints up to `epochs`, and `epochs` itself."""
    return (*(k for k in PUBLISHED_CHECKPOINTS if k < epochs), epochs)


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

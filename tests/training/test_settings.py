"""Settings of a run: their checks, and the schedules and first steps in closed form."""

import pytest
import torch
from refusals import refuses

from kpnb.training.settings import TrainingSettings, learning_rate


@pytest.mark.parametrize(
    ("settings", "at", "rates"),
    [  # at: (epoch, step) of 5 steps
        (dict(epochs=3, lr=1e-2, lr_end=1e-4), [(1, 3), (2, 3), (3, 3)], [1e-2, 1e-3, 1e-4]),
        (dict(epochs=150, lr=1e-2), [(150, 0)], [1e-3]),  # published
        (dict(epochs=4, lr=1.0, schedule="cosine"), [(1, 0), (3, 0)], [1.0, 0.5]),
        (dict(epochs=4, lr=1.0, schedule="constant", warmup_epochs=2),
         [(1, 0), (2, 4), (3, 0)], [0.1, 1, 1]),
        (dict(epochs=1, lr=0.3), [(1, 4)], [0.3]),
    ],
)  # fmt: skip
def test_schedules_have_their_closed_forms(settings, at, rates):
    found = [learning_rate(TrainingSettings(**settings), *place, 5) for place in at]
    assert found == pytest.approx(rates)


@pytest.mark.parametrize(
    ("optimizer", "steps"),
    [  # gradient 2, then 1: momentum adds to it, Adam's first step is the rate itself
        ("sgd", [2 + 0.1 * 3, 1 + 0.9 * 2.3 + 0.1 * (3 - 0.01 * 2.3)]),
        ("adamw", [1 + 0.1 * 3, (0.9 * 0.2 + 0.1) / 0.19 / ((0.999 * 4 + 1) / 1.999) ** 0.5
                   + 0.1 * (3 - 0.01 * 1.3)]),
    ],
)  # fmt: skip
def test_first_two_steps_have_their_closed_forms(optimizer, steps):
    weight = torch.nn.Parameter(torch.tensor([3.0], dtype=torch.float64))
    settings = TrainingSettings(epochs=1, lr=0.01, weight_decay=0.1, optimizer=optimizer)
    made = settings.make_optimizer([weight])
    for gradient, step in zip((2.0, 1.0), steps, strict=True):
        before, weight.grad = weight.item(), torch.full_like(weight, gradient)
        made.step()
        assert (before - weight.item()) / 0.01 == pytest.approx(step, rel=1e-6)


BAD = {
    "pass at least 1": [("epochs", 0), ("batch_size", 0)], "lr=0.01": [("lr", 0.0)],
    "positive": [("lr_end", float("nan"))], "cosine": [("schedule", "step")],
    "fewer": [("warmup_epochs", 4)], "0.9": [("momentum", 1.0)],
    "0 or more": [("weight_decay", -1e-4), ("seed", -1)], "None": [("grad_clip", 0.0)],
    "must rise from 0 to at most epochs=4": [("checkpoints", (0, 5)), ("checkpoints", (2, 1))],
    "bfloat16": [("autocast", "float16")], "sgd, adamw": [("optimizer", "adam")],
}  # fmt: skip


def test_bad_settings_say_what_to_do():
    for told, changes in BAD.items():
        for change in changes:
            refuses(TrainingSettings, told, **{"epochs": 4, "lr": 0.1, **dict([change])})

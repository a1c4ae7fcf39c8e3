"""Settings of a run: their checks, the schedules in closed form, and the published checkpoints."""

import pytest

from kpnb.errors import KpnbError
from kpnb.training.settings import TrainingSettings, learning_rate, published_checkpoints


def test_schedules_have_their_closed_forms():
    log = TrainingSettings(epochs=3, lr=1e-2, lr_end=1e-4)
    assert [learning_rate(log, k, 3, 5) for k in (1, 2, 3)] == pytest.approx([1e-2, 1e-3, 1e-4])
    published = TrainingSettings(epochs=150, lr=1e-2)
    assert learning_rate(published, 150, 0, 5) == pytest.approx(1e-3)
    cosine = TrainingSettings(epochs=4, lr=1.0, schedule="cosine")
    assert learning_rate(cosine, 1, 0, 5) == 1.0
    assert learning_rate(cosine, 3, 0, 5) == pytest.approx(0.5)
    warm = TrainingSettings(epochs=4, lr=1.0, schedule="constant", warmup_epochs=2)
    assert [learning_rate(warm, 1, 0, 5), learning_rate(warm, 2, 4, 5)] == pytest.approx([0.1, 1])
    assert learning_rate(warm, 3, 0, 5) == 1.0
    assert learning_rate(TrainingSettings(epochs=1, lr=0.3), 1, 4, 5) == 0.3


def test_published_checkpoints_end_with_the_run():
    assert published_checkpoints(30) == (0, 2, 5, 10, 15, 20, 25, 30)
    assert published_checkpoints(12) == (0, 2, 5, 10, 12)
    assert len(published_checkpoints(150)) == 15 and len(published_checkpoints(400)) == 22


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "at least 1"),
        ({"lr": 0.0}, "lr=0.01"),
        ({"lr_end": float("nan")}, "positive"),
        ({"schedule": "step"}, "cosine"),
        ({"warmup_epochs": 4}, "fewer"),
        ({"momentum": 1.0}, "0.9"),
        ({"weight_decay": -1e-4}, "0 or more"),
        ({"batch_size": 0}, "at least 1"),
        ({"seed": -1}, "0 or more"),
        ({"checkpoints": (0, 5)}, "at most epochs=4"),
        ({"checkpoints": (2, 1)}, "must rise"),
        ({"grad_clip": 0.0}, "None"),
        ({"autocast": "float16"}, "bfloat16"),
    ],
)
def test_bad_settings_say_what_to_do(change, message):
    with pytest.raises(KpnbError, match=message):
        TrainingSettings(**{"epochs": 4, "lr": 0.1, **change})

"""The distance of Eq. 8, per step and per epoch, and the record that keeps it."""

import json
import math

import pytest
import torch
from refusals import refuses
from small_training import SMALL, linear_problem, small_run

from kpnb.training.settings import TrainingRecord, TrainingSettings
from kpnb.training.train import fit
from kpnb.training.weight_distance import WeightDistance


def test_distances_equal_those_computed_by_hand():
    """Of a training by the mean output, one sample a step, at a constant rate."""

    def trained(x, **given):
        settings = TrainingSettings(schedule="constant", batch_size=1, **given)
        how = len(x), settings, {"w": net.weight}
        return fit(net, lambda i, g: (net(x[i]).mean(), i.sum()), *how)

    net, x = linear_problem()
    record = trained(x, epochs=3, lr=0.1, momentum=0.0, weight_decay=0.0)
    per_step = 0.1 * (1 + 2 + math.sqrt(5) + 1) / 5  # each sample is one step of lr |x|; |w_0| = 5
    per_epoch = 0.1 * 1 / 5  # the four gradients add up to (0, 1)
    for found, each in ((record.distance("step"), per_step), (record.distance("epoch"), per_epoch)):
        assert found["w"] == pytest.approx([k * each for k in range(4)], abs=1e-6)
    assert record.learning_rate == [0.1, 0.1, 0.1]
    # Weight decay and momentum are part of the movement.
    net.weight.data = torch.tensor([[2.0, 0.0]])
    record = trained(torch.zeros(1, 2), epochs=2, lr=0.5, momentum=0.5, weight_decay=0.2)
    first = 0.5 * 0.2 * 2.0  # step 1: lr * decay * w
    second = 0.5 * (0.5 * 0.2 * 2.0 + 0.2 * (2.0 - first))  # momentum * earlier + decay * w
    assert record.distance_per_step["w"] == pytest.approx([0, first / 2, (first + second) / 2])
    refuses(WeightDistance, "all zeros", {"w": torch.zeros(2, 2)})


def test_per_epoch_is_never_longer_than_per_step_and_counts_one_step_epochs_alike():
    _, record, _ = small_run(SMALL)
    steps, epochs = record.distance_per_step["FC"], record.distance_per_epoch["FC"]
    assert len(steps) == len(epochs) == 5 and steps[0] == epochs[0] == 0
    assert all(e < s for e, s in zip(epochs[1:], steps[1:], strict=True))
    assert steps == sorted(steps) and epochs == sorted(epochs)
    assert TrainingRecord(**json.loads(json.dumps(record.to_info()))) == record
    _, one_step, _ = small_run(TrainingSettings(epochs=2, lr=0.05, batch_size=200))
    assert one_step.distance_per_step == one_step.distance_per_epoch

"""What a run reports and leaves behind: resuming after a kill, and the distance of Eq. 8."""

import json
import math
from dataclasses import replace

import pytest
import torch
from refusals import refuses
from small_training import SMALL, linear_problem, same_state, small_run

from kpnb.store import Scratch
from kpnb.training.augmentation import flip_and_shift
from kpnb.training.checkpoints import Resume, TrainingRecord, WeightDistance
from kpnb.training.settings import TrainingSettings
from kpnb.training.train import fit


@pytest.mark.parametrize(
    ("changes", "augment"),
    [({}, None), ({"channels_last": True, "warmup_epochs": 2}, flip_and_shift)],
)
def test_a_killed_run_ends_like_an_uninterrupted_one(changes, augment, tmp_path):
    settings = replace(SMALL, **changes)
    state, record, handed = small_run(settings, augment=augment)
    for die_after in (0, 1, 2):
        resume = Resume(Scratch(tmp_path / f"{die_after}"), "S")
        with pytest.raises(KeyboardInterrupt):
            small_run(settings, resume, die_after, augment)
        resumed, again, handed_again = small_run(settings, resume, augment=augment)
        assert same_state(state, resumed) and record == again
        assert handed.keys() == handed_again.keys()
        assert all(same_state(handed[k], handed_again[k]) for k in handed)


def test_state_is_taken_up_by_its_own_run_only_and_without_training_again(monkeypatch, tmp_path):
    resume = Resume(Scratch(tmp_path), "S")
    state, record, _ = small_run(SMALL, resume)
    with monkeypatch.context() as patched:
        patched.setattr("kpnb.training.train.cross_entropy", lambda *_: pytest.fail("trained"))
        again, same_record, handed = small_run(SMALL, resume)
    assert same_state(state, again) and record == same_record and list(handed) == [0, 1, 2, 4]
    other = replace(SMALL, lr=0.02)
    assert same_state(small_run(other, resume)[0], small_run(other)[0])
    small_run(SMALL, resume)
    resume.scratch.drop("S.epoch0001")  # a lost checkpoint: starts anew
    again, _, handed = small_run(SMALL, resume)
    assert same_state(again, state) and list(handed) == [0, 1, 2, 4]


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

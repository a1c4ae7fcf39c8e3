"""Resuming after a kill."""

import shutil
from dataclasses import replace

import pytest
from small_training import SMALL, same_state, small_run

from kpnb.store import Scratch
from kpnb.training.augmentation import flip_and_shift
from kpnb.training.checkpoints import Resume


@pytest.mark.parametrize(
    ("changes", "augment"),
    [
        ({}, None),
        ({"channels_last": True, "warmup_epochs": 2}, flip_and_shift),
        ({"optimizer": "adamw", "channels_last": True, "lr": 0.005}, None),
    ],
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
    shutil.rmtree(tmp_path / "S.epoch0001")  # a lost checkpoint: starts anew
    again, _, handed = small_run(SMALL, resume)
    assert same_state(again, state) and list(handed) == [0, 1, 2, 4]

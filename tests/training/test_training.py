"""The training loop: learning, reproducibility, resuming, and the distance of Eq. 8."""

import json
import math

import pytest
import torch
from torch import nn

from kpnb.errors import KpnbError
from kpnb.training.augmentation import flip_and_shift
from kpnb.training.record import Resume, TrainingRecord, WeightDistance
from kpnb.training.settings import TrainingSettings, learning_rate, published_checkpoints
from kpnb.training.train import accuracy, fit, train_classifier


class MemoryScratch:
    """Keeps what the store would write, through JSON; counts down to a simulated kill."""

    def __init__(self):
        self.kept = {}

    def save(self, name, tensors, info):
        self.kept[name] = ({k: v.clone() for k, v in tensors.items()}, json.dumps(info))

    def load(self, name):
        if name not in self.kept:
            return None
        tensors, info = self.kept[name]
        return tensors, json.loads(info)


class KilledError(Exception):
    pass


def data(count=97, seed=0):
    """Images of two classes that differ by their mean."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = torch.randn(count, 3, 8, 8, generator=generator) + labels[:, None, None, None] - 0.5
    return images, labels


def small_net(seed=0, dropout=0.3):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(144, 2),
        )


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def run(settings, resume=None, die_after=None, augment=None, seed=0):
    """Train a small net; its end state, record and checkpoints."""
    net, handed = small_net(seed), {}

    def on_checkpoint(epoch, state):
        handed[epoch] = state
        if die_after is not None and epoch > die_after:
            raise KilledError

    record = train_classifier(
        net, *data(), settings, {"FC": net[5].weight}, augment, on_checkpoint, resume
    )
    return net.state_dict(), record, handed


SETTINGS = TrainingSettings(epochs=4, lr=0.05, checkpoints=(0, 1, 2, 4), batch_size=32)


def test_a_separable_toy_is_learned():
    net = small_net()
    images, labels = data()
    before = accuracy(net, images, labels)
    record = train_classifier(net, images, labels, TrainingSettings(epochs=8, lr=0.05))
    assert record.loss[-1] < 0.3 * record.loss[0]
    assert accuracy(net, images, labels) > 0.97 > before
    assert len(record.loss) == len(record.metric) == len(record.learning_rate) == 8


def test_same_seed_same_bits_and_another_seed_not():
    first, record, handed = run(SETTINGS)
    torch.rand(3)  # the state of the global generator must not matter
    second, again, _ = run(SETTINGS)
    assert same(first, second) and record == again
    other, _, _ = run(TrainingSettings(**{**SETTINGS.to_info(), "seed": 1}))
    assert not same(first, other)
    assert list(handed) == [0, 1, 2, 4]
    assert same(handed[0], small_net().state_dict()) and same(handed[4], first)
    assert not same(handed[1], handed[2])


def test_training_leaves_modes_and_global_generator_alone():
    net = small_net().eval()
    net[4].train()
    before = torch.random.get_rng_state()
    train_classifier(net, *data(), SETTINGS)
    accuracy(net, *data())
    assert torch.equal(before, torch.random.get_rng_state())
    assert [m.training for m in net] == [False, False, False, False, True, False]
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("die_after", (0, 1, 2))
@pytest.mark.parametrize("changes", ({}, {"channels_last": True, "warmup_epochs": 2}))
@pytest.mark.parametrize("augment", (None, flip_and_shift))
def test_a_killed_run_ends_like_an_uninterrupted_one(die_after, changes, augment):
    settings = TrainingSettings(**{**SETTINGS.to_info(), **changes})
    state, record, handed = run(settings, augment=augment)
    scratch = MemoryScratch()
    with pytest.raises(KilledError):
        run(settings, Resume(scratch, "S"), die_after, augment)
    resumed, again, handed_again = run(settings, Resume(scratch, "S"), augment=augment)
    assert same(state, resumed) and record == again
    assert handed.keys() == handed_again.keys()
    assert all(same(handed[k], handed_again[k]) for k in handed)


def test_a_run_taken_up_does_not_train_finished_epochs_again(monkeypatch):
    scratch = MemoryScratch()
    state, record, _ = run(SETTINGS, Resume(scratch, "S"))
    monkeypatch.setattr(
        "kpnb.training.train.cross_entropy", lambda *_: pytest.fail("trained again")
    )
    again, same_record, handed = run(SETTINGS, Resume(scratch, "S"))
    assert same(state, again) and record == same_record and list(handed) == [0, 1, 2, 4]


def test_state_of_another_run_or_a_lost_checkpoint_starts_anew():
    scratch = MemoryScratch()
    run(SETTINGS, Resume(scratch, "S"))
    other = TrainingSettings(**{**SETTINGS.to_info(), "lr": 0.02})
    assert same(run(other, Resume(scratch, "S"))[0], run(other)[0])
    run(SETTINGS, Resume(scratch, "T"))
    del scratch.kept["T.epoch0001"]
    state, record, handed = run(SETTINGS, Resume(scratch, "T"))
    assert same(state, run(SETTINGS)[0]) and list(handed) == [0, 1, 2, 4]


def linear_problem():
    """One weight of two entries, gradients known: loss = mean over samples of x . w."""
    net = nn.Linear(2, 1, bias=False)
    net.weight.data = torch.tensor([[3.0, 4.0]])
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0], [0.0, 1.0]])
    return net, x


def test_distances_equal_those_computed_by_hand():
    net, x = linear_problem()

    def batch_loss(index, generator):
        return net(x[index]).mean(), torch.zeros(())

    settings = TrainingSettings(
        epochs=3, lr=0.1, schedule="constant", momentum=0.0, weight_decay=0.0, batch_size=1
    )
    record = fit(net, batch_loss, 4, settings, {"w": net.weight})
    per_step = 0.1 * (1 + 2 + math.sqrt(5) + 1) / 5  # each sample is one step of lr |x|; |w_0| = 5
    per_epoch = 0.1 * 1 / 5  # the four gradients add up to (0, 1)
    assert record.distance_per_step["w"] == pytest.approx(
        [k * per_step for k in range(4)], abs=1e-6
    )
    assert record.distance_per_epoch["w"] == pytest.approx(
        [k * per_epoch for k in range(4)], abs=1e-6
    )
    assert record.learning_rate == [0.1, 0.1, 0.1]


def test_weight_decay_and_momentum_are_part_of_the_movement():
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(2.0)
    settings = TrainingSettings(
        epochs=2, lr=0.5, schedule="constant", momentum=0.5, weight_decay=0.2, batch_size=1
    )
    record = fit(
        net, lambda i, g: (net(torch.zeros(1, 1)).sum(), i.sum()), 1, settings, {"w": net.weight}
    )
    first = 0.5 * 0.2 * 2.0  # step 1: lr * decay * w
    second = 0.5 * (0.5 * 0.2 * 2.0 + 0.2 * (2.0 - first))  # momentum * earlier + decay * w
    assert record.distance_per_step["w"] == pytest.approx([0, first / 2, (first + second) / 2])


def test_per_epoch_is_never_longer_than_per_step_and_counts_one_step_epochs_alike():
    _, record, _ = run(SETTINGS)
    steps, epochs = record.distance_per_step["FC"], record.distance_per_epoch["FC"]
    assert len(steps) == len(epochs) == 5 and steps[0] == epochs[0] == 0
    assert all(e < s for e, s in zip(epochs[1:], steps[1:], strict=True))
    assert steps == sorted(steps) and epochs == sorted(epochs)
    _, one_step, _ = run(TrainingSettings(epochs=2, lr=0.05, batch_size=200))
    assert one_step.distance_per_step == one_step.distance_per_epoch


def test_a_zero_weight_cannot_be_tracked():
    with pytest.raises(KpnbError, match="all zeros"):
        WeightDistance({"w": torch.zeros(2, 2)})


def test_record_survives_json():
    _, record, _ = run(SETTINGS)
    assert TrainingRecord.from_info(json.loads(json.dumps(record.to_info()))) == record


def test_only_the_given_parameters_change():
    net = small_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    images, labels = data()

    def batch_loss(index, generator):
        loss = nn.functional.cross_entropy(net(images[index]), labels[index])
        return loss, loss.detach()

    fit(net, batch_loss, len(images), SETTINGS, parameters=net[5].parameters())
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    assert {"5.weight", "5.bias"} <= changed
    assert not any(k.startswith("0.") or k in ("1.weight", "1.bias") for k in changed)


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


def test_a_diverging_run_stops_with_advice():
    net = small_net()
    images, labels = data()
    with pytest.raises(KpnbError, match=r"epoch 1 at learning rate 1e\+30: lower lr"):
        settings = TrainingSettings(epochs=2, lr=1e30, batch_size=8)
        train_classifier(net, images, labels, settings)
    assert net.training


def test_grad_clip_bounds_the_first_step():
    net, x = linear_problem()
    settings = TrainingSettings(epochs=1, lr=0.1, weight_decay=0.0, batch_size=4, grad_clip=0.05)
    record = fit(net, lambda i, g: (1000 * net(x).mean(), i.sum()), 4, settings, {"w": net.weight})
    assert record.distance_per_step["w"][1] == pytest.approx(0.1 * 0.05 / 5, rel=1e-4)


def test_a_last_batch_of_one_is_joined():
    sizes = []
    net, x = linear_problem()

    def batch_loss(index, generator):
        sizes.append(len(index))
        return net(x[index % 4]).mean(), torch.zeros(())

    fit(net, batch_loss, 9, TrainingSettings(epochs=1, lr=0.1, batch_size=4))
    assert sizes == [4, 5]


def test_each_epoch_visits_every_sample_once_in_an_order_of_its_own():
    seen = []
    net, x = linear_problem()

    def batch_loss(index, generator):
        seen.append(index)
        return net(x[index % 4]).mean(), torch.zeros(())

    fit(net, batch_loss, 50, TrainingSettings(epochs=2, lr=0.1, batch_size=50))
    first, second = seen
    assert first.sort().values.equal(torch.arange(50)) and second.sort().values.equal(
        first.sort().values
    )
    assert not first.equal(second)


def test_dropout_is_drawn_anew_by_epoch_and_seed():
    def masks(seed):
        net, seen = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1)), []

        def batch_loss(index, generator):
            seen.append(net[0](torch.ones(64)))
            return net[1](seen[-1]).sum(), torch.zeros(())

        fit(net, batch_loss, 1, TrainingSettings(epochs=2, lr=0.1, seed=seed))
        return seen

    first, second = masks(0)
    assert not torch.equal(first, second)
    assert torch.equal(masks(0)[1], second) and not torch.equal(masks(1)[0], first)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 3, 8, 8), torch.zeros(2, dtype=torch.int64), "one label an image"),
        (torch.zeros(2, 3, 8, 8), torch.zeros(2), "torch.int64"),
        (torch.full((2, 3, 8, 8), math.nan), torch.zeros(2, dtype=torch.int64), "NaN"),
        (torch.zeros(0, 3, 8, 8), torch.zeros(0, dtype=torch.int64), "0 images"),
    ],
)
def test_bad_data_say_what_to_do(images, labels, message):
    with pytest.raises(KpnbError, match=message):
        train_classifier(small_net(), images, labels, SETTINGS)


def test_accuracy_counts_in_eval_mode_whatever_the_batches():
    net = small_net().train()
    images, labels = data()
    with torch.no_grad():
        expected = (net.eval()(images).argmax(1) == labels).double().mean().item()
    net.train()
    state = {k: v.clone() for k, v in net.state_dict().items()}
    assert accuracy(net, images, labels, 10) == accuracy(net, images, labels) == expected
    assert net.training and same(state, net.state_dict())


def test_flip_and_shift_moves_pixels_as_stated():
    image = torch.arange(2 * 6 * 6, dtype=torch.float32).reshape(1, 2, 6, 6)
    found = set()
    for seed in range(300):
        out = flip_and_shift(image, torch.Generator().manual_seed(seed), shift=1)
        matches = [
            (flip, down, right)
            for flip in (False, True)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if torch.equal(out, reference_move(image, flip, down, right))
        ]
        assert len(matches) == 1
        found |= set(matches)
    assert len(found) == 18  # both flips and all nine moves occur


def reference_move(image, flip, down, right):
    """Pad by the edge, cut out, flip: slowly."""
    padded = nn.functional.pad(image, (1, 1, 1, 1), mode="replicate")
    out = padded[:, :, 1 + down : 7 + down, 1 + right : 7 + right]
    return out.flip(3) if flip else out


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_training_on_a_gpu_with_autocast_learns():
    net = small_net()
    images, labels = data()
    settings = TrainingSettings(epochs=8, lr=0.05, autocast="bfloat16", channels_last=True)
    record = train_classifier(net, images, labels, settings, {"FC": net[5].weight}, device="cuda")
    assert record.loss[-1] < 0.5 * record.loss[0] and net[0].weight.is_cuda
    assert accuracy(net, images, labels) > 0.95

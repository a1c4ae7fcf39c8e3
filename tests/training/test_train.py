"""The training loop: learning, reproducibility, batches, dropout, and accuracy."""

import pytest
import torch
from refusals import refuses
from small_training import SMALL, linear_problem, same_state, small_net, small_run, two_classes
from torch import nn

from kpnb.training.settings import TrainingSettings
from kpnb.training.train import accuracy, fit, train_classifier


@pytest.mark.parametrize("device", ("cpu", "cuda"))
def test_a_separable_toy_is_learned(device):
    """On a GPU with autocast and in another memory layout."""
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    fast = {"autocast": "bfloat16", "channels_last": True} if device == "cuda" else {}
    net, (images, labels) = small_net().to(device), two_classes()
    before = accuracy(net, images, labels)
    settings = TrainingSettings(epochs=8, lr=0.05, **fast)
    record = train_classifier(net, images, labels, settings, {"FC": net[5].weight})
    assert record.loss[-1] < 0.3 * record.loss[0] and net[0].weight.device.type == device
    assert len(record.loss) == len(record.metric) == len(record.learning_rate) == 8
    found = accuracy(net.train(), images, labels)
    assert found > 0.97 > before and net.training
    with torch.no_grad():
        right = net.eval()(images.to(device)).argmax(1).cpu() == labels
    # Whatever the batches, in eval mode.
    assert found == accuracy(net, images, labels, 10) == right.double().mean().item()


def test_a_seed_decides_every_bit_and_modes_and_the_global_generator_are_left_alone():
    first, record, handed = small_run(SMALL)
    torch.rand(3)  # the state of the global generator must not matter
    second, again, _ = small_run(SMALL)
    assert same_state(first, second) and record == again
    other, _, _ = small_run(TrainingSettings(**{**SMALL.to_info(), "seed": 1}))
    assert not same_state(first, other)
    assert list(handed) == [0, 1, 2, 4]
    assert same_state(handed[0], small_net().state_dict()) and same_state(handed[4], first)
    assert not same_state(handed[1], handed[2])
    net = small_net().eval()
    net[4].train()
    before = torch.random.get_rng_state()
    train_classifier(net, *two_classes(), SMALL)
    state = {k: v.clone() for k, v in net.state_dict().items()}
    accuracy(net, *two_classes())
    assert torch.equal(before, torch.random.get_rng_state())
    assert [m.training for m in net] == [False, False, False, False, True, False]
    assert all(p.grad is None for p in net.parameters()) and same_state(state, net.state_dict())


ZERO, TWO = torch.zeros(3, 3, 8, 8), torch.zeros(2, dtype=torch.int64)
WILD = TrainingSettings(epochs=2, lr=1e30, batch_size=8)


REFUSED = {
    "one label an image": (train_classifier, ZERO, TWO, SMALL),
    "torch.int64": (train_classifier, ZERO[:2], TWO.float(), SMALL),
    "NaN": (train_classifier, ZERO[:2] / 0, TWO, SMALL),
    "0 images": (train_classifier, ZERO[:0], TWO[:0], SMALL),
    "no sample": (fit, None, 0, SMALL),
    "No parameter": (fit, None, 1, SMALL, None, []),
    r"epoch 1 .* 1e\+30: lower lr": (train_classifier, *two_classes(), WILD),
}


@pytest.mark.parametrize("told", REFUSED)
def test_what_cannot_be_trained_says_what_to_do(told):
    net, (call, *given) = small_net(), REFUSED[told]
    refuses(call, told, net, *given)
    assert net.training


def test_grad_clip_bounds_the_first_step():
    net, x = linear_problem()
    settings = TrainingSettings(epochs=1, lr=0.1, weight_decay=0.0, batch_size=4, grad_clip=0.05)
    record = fit(net, lambda i, g: (1000 * net(x).mean(), i.sum()), 4, settings, {"w": net.weight})
    assert record.distance_per_step["w"][1] == pytest.approx(0.1 * 0.05 / 5, rel=1e-4)


@pytest.mark.parametrize(("count", "size", "sizes"), [(9, 4, [4, 5]), (50, 50, [50])])
def test_each_epoch_visits_every_sample_once_in_an_order_of_its_own(count, size, sizes):
    """A last batch of one is joined to the one before."""
    seen, (net, x) = [], linear_problem()

    def batch_loss(index, generator):
        seen.append(index)
        return net(x[index % 4]).mean(), torch.zeros(())

    fit(net, batch_loss, count, TrainingSettings(epochs=2, lr=0.1, batch_size=size))
    assert [len(index) for index in seen] == 2 * sizes
    first, second = torch.cat(seen).split(count)
    assert not first.equal(second)
    assert all(order.sort().values.equal(torch.arange(count)) for order in (first, second))


def test_dropout_is_drawn_anew_by_epoch_and_seed():
    seen = []
    for seed in (0, 0, 1):
        net = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 1))
        net[0].register_forward_hook(lambda module, args, output: seen.append(output))
        settings = TrainingSettings(epochs=2, lr=0.1, seed=seed)
        fit(net, lambda i, g, net=net: (net(torch.ones(1, 64)).sum(), i.sum()), 1, settings)
    first, second, *again, other, _ = seen
    assert not torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(first, again[0]) and torch.equal(second, again[1])

"""A small network on images of two classes, trained in a moment."""

import torch
from torch import nn

from kpnb.training.settings import TrainingSettings
from kpnb.training.train import train_classifier

SMALL = TrainingSettings(epochs=4, lr=0.05, checkpoints=(0, 1, 2, 4), batch_size=32)


def two_classes(count=97, seed=0):
    """Images of two classes that differ by their mean."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 2, (count,), generator=generator)
    images = torch.randn(count, 3, 8, 8, generator=generator) + labels[:, None, None, None] - 0.5
    return images, labels


def small_net(seed=0, dropout=0.3):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        below = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten()
        return nn.Sequential(*below, nn.Dropout(dropout), nn.Linear(144, 2))


def same_state(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def small_run(settings, resume=None, die_after=None, augment=None, seed=0):
    """Trains a small net, perhaps until it is killed; its end state, record and checkpoints."""
    net, handed = small_net(seed), {}

    def on_checkpoint(epoch, state):
        handed[epoch] = state
        if die_after is not None and epoch > die_after:
            raise KeyboardInterrupt

    given = net, *two_classes(), settings, {"FC": net[5].weight}, augment
    record = train_classifier(*given, on_checkpoint=on_checkpoint, resume=resume)
    return net.state_dict(), record, handed


def linear_problem():
    """One weight of two entries, gradients known: loss = mean over samples of x . w."""
    net = nn.Linear(2, 1, bias=False)
    net.weight.data = torch.tensor([[3.0, 4.0]])
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, -2.0], [0.0, 1.0]])
    return net, x

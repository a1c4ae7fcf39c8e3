"""Distillation: the right feature, the right loss, and only the right weights changed."""

from functools import partial

import pytest
import torch
from reference import generator
from refusals import refuses
from torch import nn

from kpnb.estimator.features import layer_name
from kpnb.networks.image import image_network
from kpnb.networks.layers import modules_above, split_at, tracked_weight
from kpnb.training.augmentation import flip_and_shift
from kpnb.training.checkpoints import cpu_state
from kpnb.training.distillation import distill_features, teacher_features, train_above
from kpnb.training.settings import TrainingSettings

LAYERS = ("Conv", "FC1", "FC2", "FC3")
SETTINGS = TrainingSettings(epochs=2, lr=0.01, batch_size=8, checkpoints=(0, 2))
FROZEN = TrainingSettings(epochs=1, lr=1e-12, batch_size=10)
# Patches of 8x8 pixels whose colors differ from image to image.
IMAGES = torch.randn(24, 3, 4, 4, generator=generator(0)).kron(torch.ones(1, 1, 8, 8))
LABELS = torch.randint(0, 3, (24,), generator=generator(1))


def network(seed, name="VGG-11", dropout=0.0):
    net = image_network(name, 3, "narrow", seed=seed)
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = dropout
    return net


def changed(net, before):
    return {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}


def names_above(net, layer):
    above = {id(m) for m in modules_above(net, layer)}
    modules = [name for name, m in net.named_modules() if id(m) in above]
    return {k for k in net.state_dict() if k.rpartition(".")[0] in modules}


def test_feature_is_taken_before_the_in_place_relu_and_nothing_is_left_behind():
    for layer in ("Conv", "FC1"):
        found = teacher_features(network(0), layer, IMAGES)
        expected = split_at(network(0).eval(), layer)[0](IMAGES)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert (found < 0).any()
    teacher = network(0, dropout=0.5).train()
    whole, parts = (teacher_features(teacher, "FC2", IMAGES, size) for size in (24, 5))
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-5)
    assert not whole.requires_grad
    refuses(teacher_features, "", teacher, "FC1", torch.zeros(2, 3, 8, 8))  # it leaves none, either
    assert teacher.training and not any(m._forward_hooks for m in teacher.modules())


def test_loss_is_the_mean_squared_error_over_batch_and_dimensions():
    targets, own = (teacher_features(network(seed), "FC1", IMAGES) for seed in (0, 1))
    error = ((targets - own) ** 2).mean().item()
    variance = ((targets - targets.mean(0)) ** 2).mean().item()
    for scale, loss in ((False, error), (True, error / variance)):
        given = targets, IMAGES, FROZEN
        record = distill_features(network(1), "FC1", *given, scale_by_variance=scale)
        assert record.loss[0] == pytest.approx(loss, rel=1e-4)
        assert record.metric[0] == pytest.approx(1 - error / variance, rel=1e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_distillation_learns_and_changes_only_what_lies_below(layer):
    teacher, student = network(0), network(1)
    before = cpu_state(student)
    targets = teacher_features(teacher, layer, IMAGES)
    record = distill_features(network(0), layer, targets, IMAGES, FROZEN)
    assert record.loss[0] < 1e-10 and record.metric[0] == pytest.approx(1.0)  # equal weights
    settings = TrainingSettings(epochs=8, lr=0.01, batch_size=8, schedule="constant")
    # The feature of a teacher that has learned nothing hardly varies, so do not divide by that.
    given, track = (targets, IMAGES, settings), {layer: tracked_weight(student, layer)}
    record = distill_features(student, layer, *given, track, scale_by_variance=False)
    assert record.loss[-1] < 0.8 * record.loss[0] and record.distance_per_step[layer][-1] > 0
    below = set(before) - names_above(student, layer)
    assert changed(student, before) == below
    assert f"{layer_name(student, layer)}.weight" in below


def test_targets_as_a_function_equal_targets_computed_once_and_others_say_so():
    teacher = network(0)
    target = partial(teacher_features, teacher, "FC1")
    once = distill_features(network(1), "FC1", target(IMAGES), IMAGES, SETTINGS)
    each = distill_features(network(1), "FC1", target, IMAGES, SETTINGS)
    assert once.loss == pytest.approx(each.loss, rel=1e-4)
    moved = distill_features(network(1), "FC1", target, IMAGES, SETTINGS, augment=flip_and_shift)
    assert moved.loss != each.loss
    student = network(0, dropout=0.5)  # equal weights: only its dropout makes a difference
    targets = teacher_features(teacher, "FC2", IMAGES)
    assert distill_features(student, "FC2", targets, IMAGES, FROZEN).loss[0] > 0.05
    targets = teacher_features(network(0), "FC1", IMAGES)
    for told, layer, given, augment in (
        ("shape", "FC3", targets, None),
        ("same images", "FC1", targets[:5], None),
        ("does not vary", "FC1", torch.ones_like(targets), None),
        ("augment=None", "FC1", targets, flip_and_shift),
    ):
        data = given, IMAGES, SETTINGS
        refuses(distill_features, told, network(1), layer, *data, augment=augment)


class NotAChain(nn.Module):
    """The same network behind a forward pass of its own."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize(("name", "layer", "augment"), [
    ("VGG-11", "Conv", None), ("VGG-11", "FC2", None), ("ResNet-50", "Conv", None),
    ("VGG-11", "FC1", flip_and_shift), ("ResNet-50", "net.classifier.0", None),
])  # fmt: skip
def test_head_training_leaves_everything_below_bit_identical(name, layer, augment):
    """The statistics of batch norms, too, and the modes in which the modules were."""
    student, handed = network(1, name), {}
    student = NotAChain(student) if layer.startswith("net.") else student
    next(student.children()).eval()
    modes, before = [m.training for m in student.modules()], cpu_state(student)
    track = {"head": [p for p in student.parameters() if p.dim() > 1][-1]}
    given = IMAGES, LABELS, SETTINGS, track, augment
    record = train_above(student, layer, *given, on_checkpoint=handed.__setitem__)
    assert record.distance_per_step["head"][-1] > 0
    assert changed(student, before) == names_above(student, layer)
    assert [m.training for m in student.modules()] == modes
    assert all(p.requires_grad for p in student.parameters())
    assert record.loss[-1] < record.loss[0] or name == "ResNet-50"
    assert list(handed) == [0, 2] and handed[2].keys() == before.keys()


def test_head_training_is_the_same_with_kept_features_and_without():
    chain, whole = network(1), NotAChain(network(1))
    first = train_above(chain, "FC1", IMAGES, LABELS, SETTINGS)
    second = train_above(whole, "net.classifier.0", IMAGES, LABELS, SETTINGS)
    assert first.loss == pytest.approx(second.loss, rel=1e-5)
    for a, b in zip(chain.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    moved = train_above(network(1), "FC1", IMAGES, LABELS, SETTINGS, augment=flip_and_shift)
    assert first.loss != moved.loss
    for layer, told in (("FC3", "Nothing to train above"), ("FC9", "No layer 'FC9'")):
        refuses(train_above, told, network(0), layer, IMAGES, LABELS, SETTINGS)

"""Distillation: the right feature, the right loss, and only the right weights changed."""

import json

import pytest
import torch
from torch import nn

from kpnb.errors import KpnbError
from kpnb.estimator.features import layer_name
from kpnb.networks.image import image_network
from kpnb.networks.layers import modules_above
from kpnb.training.augmentation import flip_and_shift
from kpnb.training.distillation import distill_features, teacher_features, train_above
from kpnb.training.settings import TrainingSettings

LAYERS = ("Conv", "FC1", "FC2", "FC3")
SETTINGS = TrainingSettings(epochs=2, lr=0.01, batch_size=8, checkpoints=(0, 2))
FROZEN = TrainingSettings(epochs=1, lr=1e-12, batch_size=10)


def images(count=24):
    """Patches of 8x8 pixels whose colors differ from image to image."""
    patches = torch.randn(count, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return patches.repeat_interleave(8, 2).repeat_interleave(8, 3)


IMAGES = images()
LABELS = torch.randint(0, 3, (24,), generator=torch.Generator().manual_seed(1))


def network(seed, name="VGG-11", **options):
    return image_network(name, 3, "narrow", seed=seed, **options)


def copy_of(net):
    return {k: v.clone() for k, v in net.state_dict().items()}


def changed(net, before):
    return {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}


def names_above(net, layer):
    above = {id(m) for m in modules_above(net, layer)}
    modules = [name for name, m in net.named_modules() if id(m) in above]
    return {k for k in net.state_dict() if k.rpartition(".")[0] in modules}


# The teacher's feature


def test_feature_is_taken_before_the_in_place_relu():
    teacher, batch = network(0).eval(), IMAGES[:4]
    with torch.no_grad():
        conv = teacher.features[:14](batch)  # the slice ends with the last convolution
        fc1 = nn.functional.linear(
            teacher.avgpool(teacher.features(batch)).flatten(1), *teacher.classifier[0].parameters()
        )
    for layer, expected in (("Conv", conv), ("FC1", fc1)):
        found = teacher_features(teacher, layer, batch)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        assert (found < 0).any()


def test_features_do_not_depend_on_batches_and_leave_no_trace():
    teacher = network(0, dropout=0.5).train()
    whole = teacher_features(teacher, "FC2", IMAGES, batch_size=24)
    parts = teacher_features(teacher, "FC2", IMAGES, batch_size=5)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-5)
    assert not whole.requires_grad
    with pytest.raises(KpnbError):  # a pass that fails leaves none, either
        teacher_features(teacher, "FC1", torch.zeros(2, 3, 8, 8))
    assert teacher.training and not any(m._forward_hooks for m in teacher.modules())


# Regression of the feature


@pytest.mark.parametrize("scale", (False, True))
def test_loss_is_the_mean_squared_error_over_batch_and_dimensions(scale):
    teacher, student = network(0), network(1)
    targets, own = (teacher_features(net, "FC1", IMAGES) for net in (teacher, student))
    record = distill_features(student, "FC1", targets, IMAGES, FROZEN, scale_by_variance=scale)
    error = ((targets - own) ** 2).mean().item()
    variance = ((targets - targets.mean(0)) ** 2).mean().item()
    assert record.loss[0] == pytest.approx(error / variance if scale else error, rel=1e-4)
    assert record.metric[0] == pytest.approx(1 - error / variance, rel=1e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_distillation_learns_and_changes_only_what_lies_below(layer):
    teacher, student = network(0), network(1)
    before = copy_of(student)
    targets = teacher_features(teacher, layer, IMAGES)
    record = distill_features(network(0), layer, targets, IMAGES, FROZEN)
    assert record.loss[0] < 1e-10 and record.metric[0] == pytest.approx(1.0)  # equal weights
    settings = TrainingSettings(epochs=8, lr=0.01, batch_size=8, schedule="constant")
    # The feature of a teacher that has learned nothing hardly varies, so do not divide by that.
    record = distill_features(student, layer, targets, IMAGES, settings, scale_by_variance=False)
    assert record.loss[-1] < 0.8 * record.loss[0]
    below = set(before) - names_above(student, layer)
    assert changed(student, before) == below
    assert f"{layer_name(student, layer)}.weight" in below


def test_targets_as_a_function_equal_targets_computed_once():
    teacher = network(0)

    def target(batch):
        return teacher_features(teacher, "FC1", batch)

    once = distill_features(network(1), "FC1", target(IMAGES), IMAGES, SETTINGS)
    each = distill_features(network(1), "FC1", target, IMAGES, SETTINGS)
    assert once.loss == pytest.approx(each.loss, rel=1e-4)
    moved = distill_features(network(1), "FC1", target, IMAGES, SETTINGS, augment=flip_and_shift)
    assert moved.loss != each.loss
    student = network(0, dropout=0.5)  # equal weights: only its dropout makes a difference
    targets = teacher_features(teacher, "FC2", IMAGES)
    assert distill_features(student, "FC2", targets, IMAGES, FROZEN).loss[0] > 0.05


def test_features_that_do_not_fit_say_so():
    targets = teacher_features(network(0), "FC1", IMAGES)
    for layer, given, augment, message in (
        ("FC3", targets, None, "shape"),
        ("FC1", targets[:5], None, "same images"),
        ("FC1", torch.ones_like(targets), None, "does not vary"),
        ("FC1", targets, flip_and_shift, "augment=None"),
    ):
        with pytest.raises(KpnbError, match=message):
            distill_features(network(1), layer, given, IMAGES, SETTINGS, augment=augment)


# The layers above


class NotAChain(nn.Module):
    """The same network behind a forward pass of its own."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


HEADS = [
    (network, "VGG-11", "Conv", None),
    (network, "VGG-11", "FC2", None),
    (network, "ResNet-50", "Conv", None),
    (network, "VGG-11", "FC1", flip_and_shift),
    (lambda *given: NotAChain(network(*given)), "ResNet-50", "net.classifier.0", None),
]


@pytest.mark.parametrize(("build", "name", "layer", "augment"), HEADS)
def test_head_training_leaves_everything_below_bit_identical(build, name, layer, augment):
    """The statistics of batch norms, too, and the modes in which the modules were."""
    student, handed = build(1, name), {}
    next(student.children()).eval()
    modes, before = [m.training for m in student.modules()], copy_of(student)
    record = train_above(
        student, layer, IMAGES, LABELS, SETTINGS, augment=augment, on_checkpoint=handed.__setitem__
    )
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


@pytest.mark.parametrize(
    ("layer", "error"), [("FC3", "Nothing to train above"), ("FC9", "No layer 'FC9'")]
)
def test_head_training_of_no_head_says_so(layer, error):
    with pytest.raises(KpnbError, match=error):
        train_above(network(0), layer, IMAGES, LABELS, SETTINGS)


def test_records_of_both_phases_are_json():
    student = network(1)
    targets = teacher_features(network(0), "FC1", IMAGES)
    track = {"FC1": student.classifier[0].weight, "FC2": student.classifier[3].weight}
    first = distill_features(student, "FC1", targets, IMAGES, SETTINGS, track)
    second = train_above(student, "FC1", IMAGES, LABELS, SETTINGS, track)
    assert first.distance_per_step["FC1"][-1] > 0 == first.distance_per_step["FC2"][-1]
    assert second.distance_per_step["FC2"][-1] > 0 == second.distance_per_step["FC1"][-1]
    json.dumps([first.to_info(), second.to_info()], allow_nan=False)

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
SETTINGS = TrainingSettings(epochs=2, lr=0.01, batch_size=8)


def images(count=24, seed=0):
    """Patches of 8x8 pixels whose colors differ from image to image."""
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(count, 3, 4, 4, generator=generator)
        .repeat_interleave(8, 2)
        .repeat_interleave(8, 3)
    )


def labels(count=24, seed=1):
    return torch.randint(0, 3, (count,), generator=torch.Generator().manual_seed(seed))


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


def test_feature_is_taken_before_the_in_place_relu():
    teacher, batch = network(0).eval(), images(4)
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
    whole = teacher_features(teacher, "FC2", images(), batch_size=24)
    parts = teacher_features(teacher, "FC2", images(), batch_size=5)
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-5)
    assert teacher.training and not whole.requires_grad
    assert not any(m._forward_hooks for m in teacher.modules())


def test_hooks_are_removed_when_the_forward_pass_fails():
    teacher = network(0).train()
    with pytest.raises(KpnbError):
        teacher_features(teacher, "FC1", torch.zeros(2, 3, 8, 8))
    assert teacher.training and not any(m._forward_hooks for m in teacher.modules())


@pytest.mark.parametrize("layer", LAYERS)
def test_a_student_with_the_teachers_weights_has_no_loss(layer):
    teacher, student = network(0), network(0)
    targets = teacher_features(teacher, layer, images())
    frozen = TrainingSettings(epochs=1, lr=1e-12, batch_size=8)
    record = distill_features(student, layer, targets, images(), frozen)
    assert record.loss[0] < 1e-10 and record.metric[0] == pytest.approx(1.0)


@pytest.mark.parametrize("scale", (False, True))
def test_loss_is_the_mean_squared_error_over_batch_and_dimensions(scale):
    teacher, student = network(0), network(1)
    targets = teacher_features(teacher, "FC1", images())
    own = teacher_features(student, "FC1", images())
    frozen = TrainingSettings(epochs=1, lr=1e-12, batch_size=10)
    record = distill_features(student, "FC1", targets, images(), frozen, scale_by_variance=scale)
    error = ((targets - own) ** 2).mean().item()
    variance = ((targets - targets.mean(0)) ** 2).mean().item()
    assert record.loss[0] == pytest.approx(error / variance if scale else error, rel=1e-4)
    assert record.metric[0] == pytest.approx(1 - error / variance, rel=1e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_distillation_learns_and_changes_only_what_lies_below(layer):
    teacher, student = network(0), network(1)
    before = copy_of(student)
    targets = teacher_features(teacher, layer, images())
    settings = TrainingSettings(epochs=8, lr=0.01, batch_size=8, schedule="constant")
    # The feature of a teacher that has learned nothing hardly varies, so do not divide by that.
    record = distill_features(student, layer, targets, images(), settings, scale_by_variance=False)
    assert record.loss[-1] < 0.8 * record.loss[0]
    below = set(before) - names_above(student, layer)
    assert changed(student, before) == below
    assert f"{layer_name(student, layer)}.weight" in below


@pytest.mark.parametrize(
    ("name", "layer"), [("VGG-11", "Conv"), ("VGG-11", "FC2"), ("ResNet-50", "Conv")]
)
def test_head_training_leaves_everything_below_bit_identical(name, layer):
    student = network(1, name)
    next(student.children()).eval()
    modes = [m.training for m in student.modules()]
    before = copy_of(student)
    handed = {}
    settings = TrainingSettings(epochs=2, lr=0.01, batch_size=8, checkpoints=(0, 2))
    record = train_above(
        student, layer, images(), labels(), settings, on_checkpoint=handed.__setitem__
    )
    assert changed(student, before) == names_above(student, layer)
    assert [m.training for m in student.modules()] == modes
    assert all(p.requires_grad for p in student.parameters())
    assert record.loss[-1] < record.loss[0]
    assert list(handed) == [0, 2] and handed[2].keys() == before.keys()


class NotAChain(nn.Module):
    """The same network behind a forward pass of its own."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x)


def test_head_training_is_the_same_with_kept_features_and_without():
    chain, whole = network(1), NotAChain(network(1))
    first = train_above(chain, "FC1", images(), labels(), SETTINGS)
    second = train_above(whole, "net.classifier.0", images(), labels(), SETTINGS)
    assert first.loss == pytest.approx(second.loss, rel=1e-5)
    for a, b in zip(chain.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_head_training_without_a_chain_freezes_batch_norm_too():
    student = NotAChain(network(1, "ResNet-50"))
    before = copy_of(student)
    train_above(student, "net.classifier.0", images(), labels(), SETTINGS)
    assert changed(student, before) == names_above(student, "net.classifier.0")


def test_augmented_head_training_sees_augmented_images_and_keeps_the_rest():
    student = network(1)
    before = copy_of(student)
    plain = train_above(network(1), "FC1", images(), labels(), SETTINGS)
    moved = train_above(student, "FC1", images(), labels(), SETTINGS, augment=flip_and_shift)
    assert changed(student, before) == names_above(student, "FC1")
    assert plain.loss != moved.loss


def test_targets_as_a_function_equal_targets_computed_once():
    teacher = network(0)

    def target(batch):
        return teacher_features(teacher, "FC1", batch)

    once = distill_features(network(1), "FC1", target(images()), images(), SETTINGS)
    each = distill_features(network(1), "FC1", target, images(), SETTINGS)
    assert once.loss == pytest.approx(each.loss, rel=1e-4)
    moved = distill_features(network(1), "FC1", target, images(), SETTINGS, augment=flip_and_shift)
    assert moved.loss != each.loss


def test_student_is_in_train_mode_and_the_teacher_in_eval_mode():
    teacher, student = network(0, dropout=0.5), network(0, dropout=0.5)
    targets = teacher_features(teacher, "FC2", images())
    frozen = TrainingSettings(epochs=1, lr=1e-12, batch_size=8)
    record = distill_features(student, "FC2", targets, images(), frozen)
    assert record.loss[0] > 0.05  # equal weights: only the student's dropout makes a difference


@pytest.mark.parametrize(
    ("layer", "error"),
    [("FC3", "Nothing to train above"), ("FC9", "No layer 'FC9'")],
)
def test_head_training_of_no_head_says_so(layer, error):
    with pytest.raises(KpnbError, match=error):
        train_above(network(0), layer, images(), labels(), SETTINGS)


def test_features_that_do_not_fit_say_so():
    student = network(1)
    targets = teacher_features(network(0), "FC1", images())
    with pytest.raises(KpnbError, match="shape"):
        distill_features(student, "FC3", targets, images(), SETTINGS)
    with pytest.raises(KpnbError, match="same images"):
        distill_features(student, "FC1", targets[:5], images(), SETTINGS)
    with pytest.raises(KpnbError, match="does not vary"):
        distill_features(student, "FC1", torch.ones_like(targets), images(), SETTINGS)
    with pytest.raises(KpnbError, match="augment=None"):
        distill_features(student, "FC1", targets, images(), SETTINGS, augment=flip_and_shift)


def test_records_of_both_phases_are_json():
    student = network(1)
    targets = teacher_features(network(0), "FC1", images())
    track = {"FC1": student.classifier[0].weight, "FC2": student.classifier[3].weight}
    first = distill_features(student, "FC1", targets, images(), SETTINGS, track)
    second = train_above(student, "FC1", images(), labels(), SETTINGS, track)
    assert first.distance_per_step["FC1"][-1] > 0 == first.distance_per_step["FC2"][-1]
    assert second.distance_per_step["FC2"][-1] > 0 == second.distance_per_step["FC1"][-1]
    json.dumps([first.to_info(), second.to_info()], allow_nan=False)

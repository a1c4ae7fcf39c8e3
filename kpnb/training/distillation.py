"""Knowledge distillation as in Section 4.1: feature regression, then the layers above alone.

Where this differs from the published code:
1. The mean squared error is divided by the variance of the teacher's feature (an option, on by
   default), so that one learning rate serves all layers; published rates run from 1e-4 to 10.
2. The student sees each batch once; there a second forward pass without gradients moved a ResNet's
   batch norm statistics twice per step.
3. While the layers above are trained, everything below is frozen altogether: in eval mode, without
   dropout and with fixed batch norm statistics; there these statistics went on moving.
4. The layers above follow `TrainingSettings`; there the rate fell by 0.3 on each plateau.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from kpnb.errors import KpnbError, require
from kpnb.estimator.features import layer_name, output_at
from kpnb.networks.layers import modules_above, parameters_above, split_at
from kpnb.training import train
from kpnb.training.settings import TrainingRecord, TrainingSettings
from kpnb.training.train import Augment


def teacher_features(
    teacher: nn.Module, layer: str, images: Tensor, batch_size: int = 128
) -> Tensor:
    """The teacher's feature at `layer` (output of that module, before ReLU) for all images.

    Eval mode, no gradients; (n, ...) on the images' device. Modes are as before afterwards.
    Raises KpnbError for an unknown layer.
    """
    dotted = layer_name(teacher, layer)
    device = next(teacher.parameters()).device
    with train.restored(teacher.modules(), "training"), torch.no_grad():
        teacher.eval()
        parts = [
            output_at(teacher, dotted, partial(teacher, batch.to(device))).to(images.device)
            for batch in images.split(batch_size)
        ]
    return torch.cat(parts)


def distill_features(
    student: nn.Module,
    layer: str,
    targets: Tensor | Callable[[Tensor], Tensor],
    images: Tensor,
    settings: TrainingSettings,
    track: Mapping[str, Tensor] | None = None,
    scale_by_variance: bool = True,
    augment: Augment | None = None,
    **handing: object,
) -> TrainingRecord:
    """Train `student` in place, up to and with `layer`, to give the teacher's feature there.

    Loss: ||f_T(x) - f_S(x)||^2 averaged over batch and feature dimensions, before the ReLU
    (Section 4.1), divided by the variance of f_T over the images if `scale_by_variance`: then 1 is
    what the teacher's mean feature alone would reach. The record's metric is 1 - error / variance.
    targets: (n, ...) `teacher_features` of `images`, computed once; with `augment` a function from
    a batch of images to the teacher's features instead. The student is in train mode.
    The rest: see `kpnb.training.train.fit`. Raises KpnbError if features do not fit each other or
    the teacher's does not vary over the images.
    """
    dotted = layer_name(student, layer)
    if augment is not None and isinstance(targets, Tensor):
        raise KpnbError("Features computed once do not fit augmented images: pass augment=None.")
    variance, shape = _feature_variance(targets, images)
    (images,) = train.on_device(student, settings, images)
    targets = targets.to(images.device) if isinstance(targets, Tensor) else targets
    own = teacher_features(student, dotted, images[:1]).shape[1:]
    if own != shape:
        raise KpnbError(
            f"The student's feature at {dotted!r} has shape {tuple(own)}, the teacher's "
            f"{tuple(shape)}: choose a teacher and a student whose layers agree."
        )
    given = train.batches(images, augment)

    def batch_loss(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        batch = given(index, generator)
        target = targets[index] if isinstance(targets, Tensor) else targets(batch)
        feature = output_at(student, dotted, partial(student, batch))
        error = mse_loss(feature.float(), target.float())
        return error / (variance if scale_by_variance else 1), 1 - error.detach() / variance

    below = _others(student, parameters_above(student, dotted))
    return train.fit(student, batch_loss, len(images), settings, track, below, **handing)


def train_above(
    student: nn.Module,
    layer: str,
    images: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
    track: Mapping[str, Tensor] | None = None,
    augment: Augment | None = None,
    **handing: object,
) -> TrainingRecord:
    """Train only the layers above `layer` with cross-entropy; everything below stays bit for bit.

    The second phase of Section 4.1, for Conv, FC1 and FC2. Without augmentation the frozen part
    runs once over the images, if the network is a chain (as all of kpnb are).
    The rest: see `kpnb.training.train.train_classifier`. Raises KpnbError if nothing lies above.
    """
    train.check_labelled(images, labels)
    dotted = layer_name(student, layer)
    above = parameters_above(student, dotted)
    require(above, f"Nothing to train above {layer!r}: leave out this phase for that layer.")
    images, labels = train.on_device(student, settings, images, labels)
    net, chain = student, None if augment else split_at(student, dotted)
    if chain is not None:
        # Indexing copies the batch, so an in-place ReLU on top does not reach the kept features.
        net, images = chain[1], teacher_features(student, dotted, images)
    batch_loss = train.classification(net, images, labels, augment)

    def set_mode() -> None:
        student.eval()
        for module in modules_above(student, dotted):
            module.train()

    given, below = (student, batch_loss, len(images), settings, track), _others(student, above)
    with train.restored(below, "requires_grad"):
        for parameter in below:
            parameter.requires_grad_(False)
        return train.fit(*given, above, set_mode=set_mode, **handing)


def _feature_variance(
    targets: Tensor | Callable[[Tensor], Tensor], images: Tensor
) -> tuple[float, torch.Size]:
    """Mean over dimensions of the variance over images of the teacher's feature, and its shape."""
    if not isinstance(targets, Tensor):
        targets = torch.cat([targets(batch) for batch in images.split(128)])
    if len(targets) != len(images):
        raise KpnbError(f"{len(targets)} teacher features: take those of the same images.")
    variance = targets.double().var(dim=0, correction=0).mean().item()
    require(variance > 0, "The teacher's feature does not vary: train it, and pass several images.")
    return variance, targets.shape[1:]


def _others(net: nn.Module, parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """The network's parameters that are not among `parameters`."""
    ids = {id(parameter) for parameter in parameters}
    return [parameter for parameter in net.parameters() if id(parameter) not in ids]

"""Training a classifier, the settings and the record of any training, and accuracy."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kpnb.errors import KpnbError
from kpnb.training_loop import OnCheckpoint, fit, keep_modes
from kpnb.training_record import Resume, TrainingRecord
from kpnb.training_settings import TrainingSettings, published_checkpoints

__all__ = [
    "Resume",
    "TrainingRecord",
    "TrainingSettings",
    "accuracy",
    "fit",
    "keep_modes",
    "published_checkpoints",
    "train_classifier",
]

Augment = Callable[[Tensor, torch.Generator], Tensor]


def train_classifier(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
    track: Mapping[str, Tensor] | None = None,
    augment: Augment | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    resume: Resume | None = None,
    device: str | torch.device | None = None,
) -> TrainingRecord:
    """Train `net` in place with cross-entropy, all weights: teacher and baseline of the paper.

    images: (n, 3, h, w) float32; labels: (n,) int64. augment: applied to each batch, for example
    `kpnb.augmentation.flip_and_shift`. The rest: see `fit`. The record's metric is the share of
    right answers. Raises KpnbError for images or labels that cannot be learned from.
    """
    check_labelled(images, labels)
    net, images, labels = to_device(net, device, settings, images, labels)

    def batch_loss(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        batch = images[index] if augment is None else augment(images[index], generator)
        return classification_loss(net(batch), labels[index])

    return fit(
        net, batch_loss, len(images), settings, track, on_checkpoint=on_checkpoint, resume=resume
    )


def classification_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy in nats and share of right answers of a batch."""
    return cross_entropy(logits, labels), (logits.argmax(1) == labels).double().mean()


def accuracy(net: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256) -> float:
    """Share of images whose class `net` predicts, in eval mode; the modes are as before after."""
    check_labelled(images, labels)
    device = next(net.parameters()).device
    with keep_modes(net), torch.inference_mode():
        net.eval()
        right = [
            (net(x.to(device)).argmax(1).cpu() == y.cpu()).sum().item()
            for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True)
        ]
    return sum(right) / len(labels)


def check_labelled(images: Tensor, labels: Tensor) -> None:
    """Raise KpnbError unless each image has finite values and an integer label."""
    if len(images) == 0 or len(images) != len(labels):
        raise KpnbError(
            f"{len(images)} images do not go with {len(labels)} labels: pass one label an image."
        )
    if labels.dtype != torch.int64:
        raise KpnbError(f"Labels are {labels.dtype}: pass class numbers as torch.int64.")
    if not torch.isfinite(images).all():
        raise KpnbError("An image holds NaN or infinite values: remove or repair it.")


def to_device(
    net: nn.Module, device: str | torch.device | None, settings: TrainingSettings, *tensors: Tensor
) -> tuple:
    """The network (in place) and the tensors on the device, in the settings' memory layout."""
    net.to(device or next(net.parameters()).device)
    where = next(net.parameters()).device
    moved = [tensor.to(where) for tensor in tensors]
    if settings.channels_last:
        net.to(memory_format=torch.channels_last)
        moved = [
            t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for t in moved
        ]
    return net, *moved

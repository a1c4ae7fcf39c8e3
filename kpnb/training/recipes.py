"""How teacher, baseline and student of the embedded studies are trained.

The public code trains with SGD, momentum 0.9, weight decay 1e-4 and batches of 64, for 150 epochs;
optimizer, momentum, decay and batch are kept. Learning rate and length are ours, because the
embedded images are small: found on the teacher's training loss and held-out accuracy, before any
entropy was measured.
"""

from __future__ import annotations

from kpnb.training.settings import TrainingSettings

CLASSIFICATION_LR = {"VGG": 0.012, "AlexNet": 0.012, "ResNet": 0.05, "EfficientNet": 0.02}
DISTILLATION_LR = {"VGG": 0.05, "AlexNet": 0.05, "ResNet": 0.05}
HEAD_LR = {"VGG": 0.012, "AlexNet": 0.012, "ResNet": 0.05}
# Gradients are cut so that an unlucky start cannot throw a network without batch norm off for good.
GRADIENT_NORM = 5.0


def classification(
    network: str, epochs: int, seed: int, checkpoints: tuple[int, ...]
) -> TrainingSettings:
    """Cross-entropy over all weights: the teacher and the baseline."""
    return _settings(CLASSIFICATION_LR[family(network)], epochs, seed, checkpoints)


def distillation(
    network: str, epochs: int, seed: int, checkpoints: tuple[int, ...]
) -> TrainingSettings:
    """Regression of the teacher's feature, in units of its variance: the student's first phase."""
    return _settings(DISTILLATION_LR[family(network)], epochs, seed, checkpoints)


def head(network: str, epochs: int, seed: int) -> TrainingSettings:
    """Cross-entropy over the layers above the distilled one: the student's second phase."""
    return _settings(HEAD_LR[family(network)], epochs, seed, (epochs,))


def entropy_weight(network: str) -> float:
    """Weight of the mean entropy in Eq. 3: 7 for VGG and AlexNet, 6 for ResNets (public code)."""
    return 6.0 if family(network) == "ResNet" else 7.0


def family(network: str) -> str:
    """ "VGG-11" -> "VGG"."""
    return network.partition("-")[0]


def _settings(lr: float, epochs: int, seed: int, checkpoints: tuple[int, ...]) -> TrainingSettings:
    return TrainingSettings(
        epochs=epochs,
        lr=lr,
        schedule="cosine",
        warmup_epochs=1 if epochs > 4 else 0,
        seed=seed,
        checkpoints=checkpoints,
        grad_clip=GRADIENT_NORM,
        channels_last=True,  # a third faster on the CPUs tried, too
    )

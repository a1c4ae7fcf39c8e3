"""How the networks of the point-cloud studies are trained.

SGD with momentum 0.9 and weight decay 1e-4 as in the public code for images; cosine schedule after
one epoch of warm-up, gradients cut to a norm of 5. One learning rate and one batch size serve
teacher, student and baseline, so that the weight distances of Eq. 8 do not compare two rates; both
are ours, found on shapes held out of the training shapes before any entropy was measured.
"""

from __future__ import annotations

from kpnb.training.settings import TrainingSettings

LEARNING_RATE = 0.05  # of the cross-entropy, and of the feature's squared error over its variance
GRADIENT_NORM = 5.0
BATCH = 32


def training(epochs: int, seed: int, checkpoints: tuple[int, ...]) -> TrainingSettings:
    """Of the teacher, the baseline, and the student in both of its phases."""
    return TrainingSettings(
        epochs=epochs,
        lr=LEARNING_RATE,
        schedule="cosine",
        warmup_epochs=1 if epochs > 2 else 0,
        batch_size=BATCH,
        seed=seed,
        checkpoints=checkpoints,
        grad_clip=GRADIENT_NORM,
    )

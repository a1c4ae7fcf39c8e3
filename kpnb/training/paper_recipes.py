"""How the paper's image networks are trained, from the settings in `data/paper_settings`.

Where this differs from the authors' public code:
1. The layers above a distilled one follow the logarithmic schedule, from the published rate to a
   tenth of it; there the rate falls by 0.3 on each plateau.
2. No rate for distilling Conv is public: the error over the feature's variance, with our rate.
3. A batch of one image that would be left at an epoch's end joins the one before.
"""

from __future__ import annotations

from kpnb.paper import paper_settings
from kpnb.training.recipes import family
from kpnb.training.settings import TrainingSettings


def classification(
    network: str,
    epochs: int,
    seed: int,
    checkpoints: tuple[int, ...],
    pretrained: bool = False,
    augmented: bool = False,
) -> TrainingSettings:
    """Cross-entropy over all weights: teacher and baseline.

    augmented: Table IV's teacher, which has a weight decay of its own.
    """
    settings = paper_settings("images")
    rates = settings["classification"][family(network)]["pretrained" if pretrained else "scratch"]
    extra = {"weight_decay": settings["augmented_teacher"]["weight_decay"]} if augmented else {}
    return _settings(rates, epochs, seed, checkpoints, **extra)


def distillation(
    network: str, layer: str, epochs: int, seed: int, checkpoints: tuple[int, ...]
) -> TrainingSettings:
    """Regression of the teacher's feature at a layer: the student's first phase."""
    known = paper_settings("images")["distillation"]
    rates = known["scaled"] if scaled(layer) else known[family(network)]
    return _settings(rates[layer], epochs, seed, checkpoints)


def scaled(layer: str) -> bool:
    """Whether the rate of `distillation` is for the error over the feature's variance."""
    return layer in paper_settings("images")["distillation"]["scaled"]


def head(network: str, epochs: int, seed: int) -> TrainingSettings:
    """Cross-entropy over the layers above the distilled one: the student's second phase."""
    rate = paper_settings("images")["head"][family(network)]
    return _settings((rate, rate / 10), epochs, seed, (epochs,))


def _settings(
    rates: tuple[float, float],
    epochs: int,
    seed: int,
    checkpoints: tuple[int, ...],
    **changes: float,
) -> TrainingSettings:
    """The public code's optimizer, batch and schedule; `TrainingSettings` has them as defaults."""
    first, last = (float(rate) for rate in rates)
    return TrainingSettings(
        epochs=epochs,
        lr=first,
        lr_end=last,
        schedule="log",
        seed=seed,
        checkpoints=checkpoints,
        channels_last=True,
        **changes,
    )

"""The one training loop, behind classification, distillation and heads; classifiers' accuracy.

A run that was killed is taken up again by `kpnb.training.checkpoints`; how far weights move is in
`kpnb.training.weight_distance`, the feature regression of distillation in
`kpnb.training.distillation`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kpnb.errors import KpnbError, require
from kpnb.training.checkpoints import OnCheckpoint, Resume, RunState, cpu_state
from kpnb.training.settings import TrainingRecord, TrainingSettings, learning_rate

BatchLoss = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
Augment = Callable[[Tensor, torch.Generator], Tensor]
_ORDER, _DROPOUT, _AUGMENT = range(3)  # independent streams of random numbers of an epoch


def fit(
    model: nn.Module,
    batch_loss: BatchLoss,
    count: int,
    settings: TrainingSettings,
    track: Mapping[str, Tensor] | None = None,
    parameters: Iterable[nn.Parameter] | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    resume: Resume | None = None,
    set_mode: Callable[[], object] | None = None,
) -> TrainingRecord:
    """Train `model` in place, where it is, over `count` samples and report.

    batch_loss(index, generator): mean loss (to be minimized) and mean metric of the samples `index`
    (int64, on the device); `generator` (CPU) is for augmentation.
    track: label -> weight of `model` whose distance is measured (Eq. 8).
    parameters: those to train; None is all that require gradients.
    on_checkpoint(epoch, state dict): called at settings.checkpoints with copies on the CPU.
    set_mode: called before each epoch; None is model.train(). Modes and the global generators are
    as before afterwards.

    All randomness of epoch k comes from (settings.seed, k), so that a run can be taken up again.
    On one CPU, equal calls give equal bits.
    Raises KpnbError if there is nothing to train on or the loss stops being finite.
    """
    require(count >= 1, "There is no sample to train on: pass at least one.")
    chosen = model.parameters() if parameters is None else parameters
    trained = [p for p in chosen if p.requires_grad]
    require(trained, "No parameter requires gradients: call requires_grad_() on the model.")
    optimizer = settings.make_optimizer(trained)
    identity = {"settings": settings.to_info(), "count": count}
    identity["trained"] = sum(p.numel() for p in trained)
    state = RunState(model, optimizer, track or {}, identity)

    def hand_over(epoch: int) -> None:
        """Keep the state after `epoch`, and give it out if it is a checkpoint."""
        due = epoch in settings.checkpoints and on_checkpoint is not None
        weights = cpu_state(model) if due or resume else {}
        if due and resume:
            resume.save_checkpoint(epoch, weights)
        if due:
            on_checkpoint(epoch, weights)
        if resume:
            resume.save(epoch, state, weights)

    with restored(model.modules(), "training"):
        done = resume and resume.take_up(state, settings, on_checkpoint)
        if done is None:
            hand_over(0)
        for epoch in range((done or 0) + 1, settings.epochs + 1):
            (set_mode or model.train)()
            _run_epoch(epoch, batch_loss, count, settings, state)
            hand_over(epoch)
    optimizer.zero_grad(set_to_none=True)
    return state.record


def _run_epoch(
    epoch: int, batch_loss: BatchLoss, count: int, settings: TrainingSettings, state: RunState
) -> None:
    """All batches of one epoch, and its line in the record."""
    optimizer, trained = state.optimizer, state.optimizer.param_groups[0]["params"]
    device = trained[0].device
    # The losses and metrics are left on the device.
    sums = torch.zeros(2, dtype=torch.float64, device=device)
    augmentation = _generator(settings.seed, epoch, _AUGMENT)
    bfloat16 = settings.autocast is not None  # the only one that is offered
    batches = _batches(epoch, count, settings)
    with _seeded(device, _seed(settings.seed, epoch, _DROPOUT)):
        for step, index in enumerate(batches):
            lr = learning_rate(settings, epoch, step, len(batches))
            optimizer.param_groups[0]["lr"] = lr
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss, metric = batch_loss(index.to(device), augmentation)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if settings.grad_clip is not None:
                nn.utils.clip_grad_norm_(trained, settings.grad_clip)
            optimizer.step()
            state.distance.step()
            sums += torch.stack([loss.detach().double(), metric.detach().double()]) * len(index)
    loss, metric = (sums / count).tolist()
    if not math.isfinite(loss):
        raise KpnbError(
            f"The loss stopped being finite in epoch {epoch} at learning rate {lr:g}: lower lr "
            f"(for example to {settings.lr / 3:.2g}), or set warmup_epochs or grad_clip."
        )
    state.end_epoch(loss, metric, lr)


def _batches(epoch: int, count: int, settings: TrainingSettings) -> list[Tensor]:
    """The sample indices of the epoch's batches. A last batch of one sample is joined to the one
    before: batch norm cannot normalize it."""
    order = torch.randperm(count, generator=_generator(settings.seed, epoch, _ORDER))
    batches = list(order.split(settings.batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1 < settings.batch_size:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@contextmanager
def restored(things: Iterable[object], name: str) -> Iterator[None]:
    """Give each of these modules or parameters its attribute `name` back at the end."""
    before = [(thing, getattr(thing, name)) for thing in things]
    try:
        yield
    finally:
        for thing, value in before:
            setattr(thing, name, value)


def _seed(*stream: int) -> int:
    """A seed of its own for each (seed, epoch, stream)."""
    return int(np.random.SeedSequence(stream).generate_state(1, np.uint64)[0])


def _generator(*stream: int) -> torch.Generator:
    """A CPU generator for one stream of one epoch."""
    return torch.Generator().manual_seed(_seed(*stream))


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Seed the generators that layers such as dropout use; restore them at the end."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if on_gpu else []):
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield


def train_classifier(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    settings: TrainingSettings,
    track: Mapping[str, Tensor] | None = None,
    augment: Augment | None = None,
    on_checkpoint: OnCheckpoint | None = None,
    resume: Resume | None = None,
) -> TrainingRecord:
    """Train `net` in place with cross-entropy, all weights: teacher and baseline of the paper.

    images: (n, 3, h, w) float32; labels: (n,) int64. augment: applied to each batch, as in
    `kpnb.training.augmentation`. on_checkpoint, resume: see `fit`. The record's
    metric is the share of right answers. Raises KpnbError for images or labels that cannot be
    learned from.
    """
    check_labelled(images, labels)
    images, labels = on_device(net, settings, images, labels)
    batch_loss = classification(net, images, labels, augment)
    handing = {"on_checkpoint": on_checkpoint, "resume": resume}
    return fit(net, batch_loss, len(images), settings, track, **handing)


def batches(inputs: Tensor, augment: Augment | None) -> Augment:
    """Gives the inputs (images, or features) of an index, augmented if asked for."""
    changed = augment or (lambda batch, generator: batch)
    return lambda index, generator: changed(inputs[index], generator)


def classification(
    net: nn.Module, inputs: Tensor, labels: Tensor, augment: Augment | None
) -> BatchLoss:
    """Gives mean cross-entropy in nats and share of right answers of a batch."""
    batch = batches(inputs, augment)

    def batch_loss(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        logits, known = net(batch(index, generator)), labels[index]
        return cross_entropy(logits, known), (logits.argmax(1) == known).double().mean()

    return batch_loss


def accuracy(net: nn.Module, images: Tensor, labels: Tensor, batch_size: int = 256) -> float:
    """Share of images whose class `net` predicts, in eval mode; the modes are as before after."""
    check_labelled(images, labels)
    device = next(net.parameters()).device
    with restored(net.modules(), "training"), torch.inference_mode():
        net.eval()
        right = [
            (net(x.to(device)).argmax(1).cpu() == y.cpu()).sum().item()
            for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True)
        ]
    return sum(right) / len(labels)


def check_labelled(images: Tensor, labels: Tensor) -> None:
    """Raise KpnbError unless each image has finite values and an integer label."""
    if len(images) == 0 or len(images) != len(labels):
        raise KpnbError(f"{len(images)} images, {len(labels)} labels: pass one label an image.")
    if labels.dtype != torch.int64:
        raise KpnbError(f"Labels are {labels.dtype}: pass class numbers as torch.int64.")
    if not torch.isfinite(images).all():
        raise KpnbError("An image holds NaN or infinite values: remove or repair it.")


def on_device(net: nn.Module, settings: TrainingSettings, *tensors: Tensor) -> list[Tensor]:
    """The tensors where the network is, all in the settings' memory layout (it in place)."""
    where = next(net.parameters()).device
    moved, layout = [tensor.to(where) for tensor in tensors], torch.channels_last
    if settings.channels_last:
        net.to(memory_format=layout)
        moved = [t.contiguous(memory_format=layout) if t.dim() == 4 else t for t in moved]
    return moved

"""kpnb: knowledge points of neural networks.

Three lines for a model of your own:

    maps = kpnb.EntropyEstimator(layer="classifier.0").explain(model, images)
    points = kpnb.knowledge_points(maps, foreground, threshold=0.2)
    points.show(images)

Names are imported on first use, so that `python -m kpnb.run --check` need not wait for torch.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_HOME = {
    "EntropyEstimator": "kpnb.estimator.entropy",
    "EntropyMaps": "kpnb.estimator.entropy",
    "GridUnits": "kpnb.estimator.units",
    "KpnbError": "kpnb.errors",
    "KnowledgePoints": "kpnb.metrics.points",
    "knowledge_points": "kpnb.metrics.points",
    "learning_distance": "kpnb.metrics.points",
    "learning_speed": "kpnb.metrics.points",
    "stability": "kpnb.metrics.points",
    "published_filter": "kpnb.metrics.points",
    "Estimate": "kpnb.metrics.stats",
    "bootstrap": "kpnb.metrics.stats",
    "paired_difference": "kpnb.metrics.stats",
    "verdict": "kpnb.metrics.stats",
    "ImageSamples": "kpnb.datasets.samples",
    "embedded_images": "kpnb.datasets.images",
    "image_network": "kpnb.networks.image",
    "TrainingSettings": "kpnb.training.settings",
    "train_classifier": "kpnb.training.train",
    "accuracy": "kpnb.training.train",
    "teacher_features": "kpnb.training.distillation",
    "distill_features": "kpnb.training.distillation",
    "train_above": "kpnb.training.distillation",
    "ImageStudy": "kpnb.study.image",
    "ImageParameters": "kpnb.study.parameters",
    "PieceEncoder": "kpnb.datasets.texts.words",
    "QuestionParameters": "kpnb.study.parameters",
    "QuestionStudy": "kpnb.study.text",
    "SentimentParameters": "kpnb.study.parameters",
    "SentimentStudy": "kpnb.study.text",
    "TextEstimator": "kpnb.study.text",
    "embedded_questions": "kpnb.datasets.texts.embedded",
    "embedded_sentences": "kpnb.datasets.texts.embedded",
    "load_tokenizer": "kpnb.networks.text",
    "pretrained_network": "kpnb.networks.text",
    "scratch_network": "kpnb.networks.text",
    "CloudParameters": "kpnb.study.parameters",
    "CloudStudy": "kpnb.study.cloud",
    "PointSamples": "kpnb.datasets.samples",
    "PointUnits": "kpnb.estimator.units",
    "embedded_pointclouds": "kpnb.datasets.clouds",
    "modelnet40": "kpnb.datasets.modelnet40",
    "point_network": "kpnb.networks.cloud",
    "resolve": "kpnb.study.parameters",
    "preset": "kpnb.study.parameters",
    "CellParameters": "kpnb.study.parameters",
    "CellStudy": "kpnb.study.image",
    "CoherencyParameters": "kpnb.study.parameters",
    "FineTuningParameters": "kpnb.study.parameters",
    "Findings": "kpnb.study.findings",
    "Store": "kpnb.store",
}

__all__ = sorted(_HOME)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'kpnb' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})

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
    "EntropyEstimator": "kpnb.entropy",
    "EntropyMaps": "kpnb.entropy",
    "GridUnits": "kpnb.units",
    "KpnbError": "kpnb.errors",
    "KnowledgePoints": "kpnb.points",
    "knowledge_points": "kpnb.points",
    "learning_distance": "kpnb.points",
    "learning_speed": "kpnb.points",
    "stability": "kpnb.points",
    "published_filter": "kpnb.points",
    "Estimate": "kpnb.stats",
    "bootstrap": "kpnb.stats",
    "paired_difference": "kpnb.stats",
    "verdict": "kpnb.stats",
    "ImageSamples": "kpnb.datasets.image_samples",
    "embedded_images": "kpnb.datasets.embedded_images",
    "image_network": "kpnb.networks.image",
    "TrainingSettings": "kpnb.training_settings",
    "train_classifier": "kpnb.training",
    "accuracy": "kpnb.training",
    "teacher_features": "kpnb.distillation",
    "distill_features": "kpnb.distillation",
    "train_above": "kpnb.distillation",
    "ImageStudy": "kpnb.image_study",
    "ImageParameters": "kpnb.parameters",
    "PieceEncoder": "kpnb.word_pieces",
    "QuestionParameters": "kpnb.parameters",
    "QuestionStudy": "kpnb.text_study",
    "SentimentParameters": "kpnb.parameters",
    "SentimentStudy": "kpnb.text_study",
    "TextEstimator": "kpnb.text_entropy",
    "embedded_questions": "kpnb.datasets.embedded_questions",
    "embedded_sentences": "kpnb.datasets.embedded_sentences",
    "load_tokenizer": "kpnb.networks.text_models",
    "pretrained_network": "kpnb.networks.text_networks",
    "scratch_network": "kpnb.networks.text_networks",
    "CloudParameters": "kpnb.parameters",
    "CloudStudy": "kpnb.cloud_study",
    "PointSamples": "kpnb.datasets.point_samples",
    "PointUnits": "kpnb.point_units",
    "embedded_pointclouds": "kpnb.datasets.embedded_pointclouds",
    "modelnet40": "kpnb.datasets.modelnet40",
    "point_network": "kpnb.networks.pointcloud",
    "resolve": "kpnb.parameters",
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

"""kpnb: knowledge points of neural networks, in three lines for a model of your own:

    maps = kpnb.EntropyEstimator(layer="classifier.0").explain(model, images)
    points = kpnb.knowledge_points(maps, foreground, threshold=0.2)
    points.show(images)

Names are imported on first use, so that `python -m kpnb.run --check` need not wait for torch.
"""

import importlib

__version__ = "0.2.0"

#: Module -> the public names that it defines.
_HOME = {
    "kpnb.datasets.clouds": "embedded_pointclouds",
    "kpnb.datasets.images": "embedded_images",
    "kpnb.datasets.modelnet40": "modelnet40",
    "kpnb.datasets.samples": "ImageSamples PointSamples",
    "kpnb.datasets.texts.aligned": "text_samples",
    "kpnb.datasets.texts.embedded": "embedded_questions embedded_sentences",
    "kpnb.datasets.texts.word_pieces": "PieceEncoder",
    "kpnb.errors": "KpnbError",
    "kpnb.estimator.entropy": "EntropyEstimator",
    "kpnb.estimator.maps": "EntropyMaps",
    "kpnb.estimator.units": "GridUnits MaskUnits PointUnits",
    "kpnb.metrics.points": "KnowledgePoints knowledge_points learning_distance learning_speed "
    "published_filter stability",
    "kpnb.metrics.stats": "Estimate bootstrap crossed paired_difference verdict",
    "kpnb.networks.cloud": "point_network",
    "kpnb.networks.image": "image_network",
    "kpnb.networks.text": "load_tokenizer pretrained_network scratch_network",
    "kpnb.store": "Store",
    "kpnb.study.cloud": "CloudStudy",
    "kpnb.study.display": "notebook_parameters",
    "kpnb.study.findings": "Findings",
    "kpnb.study.image": "CellStudy ImageStudy",
    "kpnb.study.own": "ComparedNetworks compare",
    "kpnb.study.parameters": "CellParameters CloudParameters CoherencyParameters "
    "ControlParameters FineTuningParameters ImageParameters OwnParameters QuestionParameters "
    "SentimentParameters preset resolve",
    "kpnb.study.presets.own_model": "OwnModelParameters",
    "kpnb.study.text": "QuestionStudy SentimentStudy TextEstimator",
    "kpnb.training.distillation": "distill_features teacher_features train_above",
    "kpnb.training.settings": "TrainingSettings",
    "kpnb.training.train": "accuracy train_classifier",
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names.split()}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'kpnb' has no attribute {name!r}")
    try:
        module = importlib.import_module(_MODULE_OF[name])
    except ModuleNotFoundError as error:
        told = f"kpnb.{name} needs {error.name}: pip install 'kpnb[notebooks]'."
        raise ModuleNotFoundError(told, name=error.name) from error
    return globals().setdefault(name, getattr(module, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})

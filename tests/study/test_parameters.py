"""Parameters: presets are valid, given values win, mistakes are one sentence."""

import pytest
from pydantic import ValidationError
from studied import refused

from kpnb.errors import KpnbError, in_words
from kpnb.study.parameters import (
    BY_NETWORK,
    MODELS,
    CellParameters,
    CloudParameters,
    FineTuningParameters,
    ImageParameters,
    QuestionParameters,
    SentimentParameters,
    checkpoint_epochs,
    models_for,
    resolve,
)

EVERY = pytest.mark.parametrize("model", MODELS.values())
PUBLISHED = (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 70, 90, 110, 130, 150)


def test_checkpoints_at_the_published_length_are_the_published_ones():
    assert checkpoint_epochs(150) == tuple(sorted((*PUBLISHED, 1)))


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 30, 149, 400])
def test_checkpoints_hold_zero_one_and_the_last(epochs):
    kept = checkpoint_epochs(epochs)
    assert kept[0] == 0 and 1 in kept and kept[-1] == epochs
    assert list(kept) == sorted(set(kept)) and all(type(epoch) is int for epoch in kept)


def test_checkpoints_scale():
    assert checkpoint_epochs(30) == (0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 18, 22, 26, 30)
    refused(lambda: checkpoint_epochs(0), "at least 1")


@EVERY
@pytest.mark.parametrize("preset", ["smoke", "demo", "study", "paper"])
def test_presets_are_complete_and_valid(model, preset):
    values = model.PRESETS[preset]
    assert set(values) == set(model.model_fields)
    resolved = resolve(model, {"preset": preset})
    assert resolved.preset == preset
    for name, value in values.items():
        expected = tuple(value) if isinstance(value, list) else value
        if name == "checkpoints" and value is None:
            expected = checkpoint_epochs(resolved.epochs)
        elif value is None and name != "batch":  # the model derives it
            known = BY_NETWORK.get(name, {}) | {"VGG-16": 0.2}
            expected = known[resolved.network]
        assert getattr(resolved, name) == expected


@pytest.mark.parametrize("network", BY_NETWORK["threshold"])
def test_the_network_decides_what_is_not_given(network):
    resolved = resolve(CloudParameters, {"preset": "demo", "network": network})
    for name, known in BY_NETWORK.items():
        assert getattr(resolved, name) == known[network]
    assert resolved.checkpoints == checkpoint_epochs(resolved.epochs)
    own = {"threshold": 0.1, "teacher_epochs": 3, "epochs": 4}
    given = resolve(CloudParameters, {"preset": "demo", "network": network} | own)
    assert {name: getattr(given, name) for name in own} == own
    assert given.checkpoints == checkpoint_epochs(4)


def test_given_wins_and_none_means_the_preset():
    given = {"preset": "demo", "epochs": 3, "layers": ["Conv", "FC1"], "grid": None}
    resolved = resolve(ImageParameters, given)
    assert (resolved.epochs, resolved.layers) == (3, ("Conv", "FC1"))
    assert resolved.grid == ImageParameters.PRESETS["demo"]["grid"]
    assert resolved.checkpoints == (0, 1, 2, 3)
    own = resolve(ImageParameters, given | {"checkpoints": [0, 2, 3]})
    assert own.checkpoints == (0, 2, 3)


@EVERY
def test_parameters_cannot_be_changed_and_are_described(model):
    resolved = resolve(model, {"preset": "demo"})
    with pytest.raises(ValidationError, match="frozen"):
        resolved.epochs = 4
    for name, field in model.model_fields.items():
        assert len(field.description) > 20, name
        assert in_words(model.model_json_schema()["properties"][name])


MISTAKES = {
    ImageParameters: [
        ({"epochs": "abc"}, r"epochs is 'abc': it must be a whole number >= 1\."),
        ({"epochs": "3"}, "epochs is '3'"),
        ({"epochs": 3.0}, "epochs is 3.0"),
        ({"epochs": True}, "epochs is True"),
        ({"epochs": 0}, ">= 1"),
        ({"image_size": 31}, ">= 32 and <= 512"),
        ({"image_size": 513}, ">= 32 and <= 512"),
        ({"teacher_samples": 99}, ">= 100"),
        ({"fraction": 0}, "> 0 and <= 1"),
        ({"fraction": 1.01}, "> 0 and <= 1"),
        ({"fraction": float("nan")}, "fraction is nan"),
        ({"threshold": 0.0}, "threshold is 0.0: it must be a number > 0"),
        ({"threshold": float("inf")}, "threshold is inf"),
        ({"samples": 1}, ">= 2"),
        ({"probes": 4}, ">= 8"),
        ({"grid": 1}, ">= 2 and <= 64"),
        ({"grid": 64, "image_size": 32}, "grid is 64 but images have 32"),
        ({"classes": 9}, "one of 8, 12"),
        ({"network": "VGG11"}, "one of AlexNet, VGG-11"),
        ({"scale": "wide"}, "narrow, full"),
        ({"teacher": "x"}, "EfficientNet-lite0"),
        ({"measured_on": "val"}, "train, test"),
        ({"method": "exact"}, "path, published, optimum, descent"),
        ({"device": "mps"}, "auto, cpu, cuda"),
        ({"layers": []}, "non-empty list"),
        ({"layers": "FC1"}, "list without repeats, each item one of Conv, FC1, FC2, FC3"),
        ({"layers": ["FC4"]}, "Conv, FC1, FC2, FC3"),
        ({"layers": ["FC1", "FC1"]}, "name each item once"),
        ({"seeds": []}, "non-empty list"),
        ({"seeds": [0, 0]}, "name each item once"),
        ({"seeds": [-1]}, ">= 0"),
        ({"seeds": [True]}, "whole number"),
        ({"seeds": 0}, "list"),
        ({"checkpoints": [0, 3]}, "from 0 to epochs"),
        ({"checkpoints": [1, 30]}, "from 0 to epochs"),
        ({"checkpoints": [0, 9, 3, 30]}, "ascend"),
        ({"preset": "papers"}, "smoke, demo, study, paper"),
        ({"compiled": 1}, "must be True or False"),
        ({"teacher_samples": "most"}, "whole number >= 100, or all"),
        ({"batch": 0}, ">= 1, or None"),
        ({"preset": None}, "preset is missing"),
        ({"epoch": 3}, "did you mean epochs"),
        ({"zzz": 3}, "known: .*network"),
        ({"pretrained": "ImageNet"}, "torchvision has weights"),
        ({"teacher_samples": "all"}, "composed without end"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"chunk": 0}, "chunk is 0"),
    ],
    CellParameters: [
        ({"outputs": 4, "measured_on": "test"}, "measured_on"),
        ({"outputs": 1}, "outputs is 1"),
        ({"outputs": 201}, "outputs is 201"),
        ({"outputs": 4, "data": "cub200"}, "leave it out for a data set"),
        ({"run": "No Name"}, "run is 'No Name'"),
        ({"teacher": "VGG-12"}, "teacher is 'VGG-12'"),
    ],
    FineTuningParameters: [
        ({"source": "ImageNet"}, "full networks only"),
        ({"source_classes": 7, "classes": 8}, "leave at least 2"),
    ],
    SentimentParameters: [
        ({"least_rating": 0.4}, ">= 0.5 and <= 3"),
        ({"least_rating": 3.1}, ">= 0.5 and <= 3"),
        ({"grid": 16}, "no parameter 'grid'"),
        ({"noise": 0.0}, "noise is 0.0: it must be a number > 0"),
        ({"layers": ["FC1"]}, "list without repeats, each item Last"),
        ({"networks": "MiniLM-L6"}, "did you mean network"),
    ],
    QuestionParameters: [
        ({"least_rating": 1.0}, "no parameter 'least_rating'"),
        ({"depth": 0}, "depth is 0: it must be a whole number >= 1"),
        ({"longest": 15}, ">= 16 and <= 512"),
        ({"longest": 513}, ">= 16 and <= 512"),
        ({"test_samples": 19}, ">= 20"),
        ({"network": 3}, "network is 3: it must be a text"),
    ],
}


@pytest.mark.parametrize(
    "model, given, told", [(model, *case) for model, cases in MISTAKES.items() for case in cases]
)
def test_mistakes_are_one_sentence(model, given, told):
    with pytest.raises(KpnbError, match=told) as mistake:
        resolve(model, {"preset": "demo"} | given)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize(
    "name, edges",
    [
        ("image_size", (32, 512)),
        ("fraction", (1, 0.001)),
        ("grid", (2, 64)),
        ("samples", (2,)),
        ("seeds", ([0], [5, 3])),
        ("least_rating", (0.5, 3)),
        ("longest", (16, 512)),
        ("test_samples", (20,)),
        ("depth", (1,)),
    ],
)
def test_edges_of_the_ranges_are_allowed(name, edges):
    model = ImageParameters if name in ImageParameters.model_fields else SentimentParameters
    for value in edges:
        resolved = getattr(resolve(model, {"preset": "demo", name: value}), name)
        assert resolved == (tuple(value) if isinstance(value, list) else value)


def test_models_by_name():
    found = {"image_h1": ImageParameters, "sentiment_h2": SentimentParameters}
    found |= {"qa_h3": QuestionParameters, "image_cell": CellParameters}
    assert {notebook: models_for(notebook) for notebook in found} == found
    refused(lambda: models_for("imge_h1"), "image_.*sentiment_.*qa_")

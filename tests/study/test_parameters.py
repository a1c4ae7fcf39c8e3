"""Parameters: presets are valid, given values win, mistakes are one sentence."""

import pytest
from pydantic import ValidationError
from refusals import refuses

from kpnb.errors import KpnbError
from kpnb.study.parameters import (
    BY_NETWORK,
    MODELS,
    CellParameters,
    CloudParameters,
    CoherencyParameters,
    FineTuningParameters,
    ImageParameters,
    QuestionParameters,
    SentimentParameters,
    checkpoint_epochs,
    models_for,
    resolve,
)

PUBLISHED = (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 70, 90, 110, 130, 150)


def test_checkpoints_are_the_published_ones_scaled():
    assert checkpoint_epochs(150) == tuple(sorted((*PUBLISHED, 1)))
    assert checkpoint_epochs(30) == (0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 18, 22, 26, 30)
    for epochs in (1, 2, 3, 7, 149, 400):
        kept = checkpoint_epochs(epochs)
        assert kept[0] == 0 and 1 in kept and kept[-1] == epochs
        assert list(kept) == sorted(set(kept)) and all(type(epoch) is int for epoch in kept)
    refuses(lambda: checkpoint_epochs(0), "at least 1")


@pytest.mark.parametrize("model", MODELS.values())
@pytest.mark.parametrize("preset", ["smoke", "demo", "study", "paper"])
def test_presets_are_complete_and_valid_and_parameters_described(model, preset):
    values, resolved = model.PRESETS[preset], resolve(model, {"preset": preset})
    assert set(values) == set(model.model_fields) and resolved.preset == preset
    for name, value in values.items():
        expected = tuple(value) if isinstance(value, list) else value
        if name == "checkpoints" and value is None:
            expected = checkpoint_epochs(resolved.epochs)
        elif value is None and name != "batch":  # the model derives it
            known = BY_NETWORK.get(name, {}) | {"VGG-16": 0.2}
            expected = known[resolved.network]
        assert getattr(resolved, name) == expected
    with pytest.raises(ValidationError, match="frozen"):
        resolved.epochs = 4
    for name, field in model.model_fields.items():
        assert len(field.description) > 20, name


def test_coherency_has_the_presets_of_the_images_with_fewer_samples():
    for preset, own in CoherencyParameters.PRESETS.items():
        other = ImageParameters.PRESETS[preset]
        assert {name for name in other if own[name] != other[name]} == {"samples"}


@pytest.mark.parametrize("network", BY_NETWORK["threshold"])
def test_the_network_decides_what_is_not_given(network):
    resolved = resolve(CloudParameters, {"preset": "demo", "network": network})
    assert all(getattr(resolved, name) == known[network] for name, known in BY_NETWORK.items())
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
    assert resolve(ImageParameters, given | {"checkpoints": [0, 2, 3]}).checkpoints == (0, 2, 3)


# By model: what is told -> parameters that are refused with it, each alone.
MISTAKES = {
    ImageParameters: {
        r"epochs is 'abc': it should be a valid integer\.": [{"epochs": "abc"}],
        "epochs is '3'": [{"epochs": "3"}],
        "epochs is 3.0": [{"epochs": 3.0}],
        "epochs is True": [{"epochs": True}],
        "greater than or equal to 1": [{"epochs": 0}],
        "equal to (32|512)": [{"image_size": 31}, {"image_size": 513}],
        "equal to 100, or it should be 'all'": [{"teacher_samples": 99}],
        "(greater than 0|less than or equal to 1)": [{"fraction": 0}, {"fraction": 1.01}],
        "fraction is nan": [{"fraction": float("nan")}],
        "threshold is 0.0: it should be greater than 0": [{"threshold": 0.0}],
        "threshold is inf": [{"threshold": float("inf")}],
        "equal to 2": [{"samples": 1}, {"grid": 1}],
        "equal to 8": [{"probes": 4}],
        "grid is 64 but images have 32": [{"grid": 64, "image_size": 32}],
        "8 or 12": [{"classes": 9}],
        "'AlexNet', 'VGG-11'": [{"network": "VGG11"}],
        "'narrow' or 'full'": [{"scale": "wide"}],
        "EfficientNet-lite0": [{"teacher": "x"}],
        "'train' or 'test'": [{"measured_on": "val"}],
        "'path', 'published', 'optimum' or 'descent'": [{"method": "exact"}],
        "'auto', 'cpu' or 'cuda'": [{"device": "mps"}],
        "it should be a list": [{"layers": "FC1"}, {"seeds": 0}],
        r"'FC2' or 'FC3'\.": [{"layers": ["FC4"]}],
        "it should have at least 1 item": [{"layers": []}, {"seeds": []}],
        "name each item once": [{"layers": ["FC1", "FC1"]}, {"seeds": [0, 0]}],
        r"equal to 0\.": [{"seeds": [-1]}],
        "integer": [{"seeds": [True]}],
        "from 0 to epochs": [{"checkpoints": [0, 3]}, {"checkpoints": [1, 30]}],
        "ascend": [{"checkpoints": [0, 9, 3, 30]}],
        "'study' or 'paper'": [{"preset": "papers"}],
        "valid boolean": [{"compiled": 1}],
        "valid integer, or it should be 'all'": [{"teacher_samples": "most"}],
        "equal to 1": [{"batch": 0}],
        "precision is 'float16'": [{"precision": "float16"}],
        "chunk is 0": [{"chunk": 0}],
        "torchvision has weights": [{"pretrained": "ImageNet"}],
        "composed without end": [{"teacher_samples": "all"}],
        "preset is missing": [{"preset": None}],
        "did you mean epochs": [{"epoch": 3}],
        "known: .*network": [{"zzz": 3}],
    },
    CellParameters: {
        "measured_on": [{"outputs": 4, "measured_on": "test"}],
        "outputs is": [{"outputs": 1}, {"outputs": 201}],
        "leave it out for a data set": [{"outputs": 4, "data": "cub200"}],
        "run is 'No Name'": [{"run": "No Name"}],
        "teacher is 'VGG-12'": [{"teacher": "VGG-12"}],
    },
    FineTuningParameters: {
        "full networks only": [{"source": "ImageNet"}],
        "leave at least 2": [{"source_classes": 7, "classes": 8}],
        "source_classes is 11": [{"source_classes": 11}],
        "'classes' or 'ImageNet'": [{"source": "CIFAR"}],
        "fine_tuning_rate is 0.0": [{"fine_tuning_rate": 0.0}],
        "split is -1": [{"split": -1}],
        "teacher is 'EfficientNet-lite0'": [{"teacher": "EfficientNet-lite0"}],
    },
    CoherencyParameters: {
        "factor is": [{"factor": 1.0}, {"factor": -4}],
        "pairs is 'all'": [{"pairs": "all"}],
        "methods is": [{"methods": ["lime"]}, {"methods": []}],
    },
    SentimentParameters: {
        "equal to (0.5|3)": [{"least_rating": 0.4}, {"least_rating": 3.1}],
        "no parameter 'grid'": [{"grid": 16}],
        "noise is 0.0: it should be greater than 0": [{"noise": 0.0}],
        r"it should be 'Last'\.": [{"layers": ["FC1"]}],
        "did you mean network": [{"networks": "MiniLM-L6"}],
    },
    QuestionParameters: {
        "no parameter 'least_rating'": [{"least_rating": 1.0}],
        "depth is 0: it should be greater than or equal to 1": [{"depth": 0}],
        "equal to (16|512)": [{"longest": 15}, {"longest": 513}],
        "equal to 20": [{"test_samples": 19}],
        "network is 3: it should be a valid string": [{"network": 3}],
    },
}


@pytest.mark.parametrize("model", MISTAKES)
def test_mistakes_are_one_sentence(model):
    for told, mistakes in MISTAKES[model].items():
        for given in mistakes:
            with pytest.raises(KpnbError, match=told) as mistake:
                resolve(model, {"preset": "demo"} | given)
            assert "\n" not in str(mistake.value), given


EDGES = {"image_size": (32, 512), "fraction": (1, 0.001), "grid": (2, 64), "samples": (2,)}
EDGES |= {"seeds": ([0], [5, 3]), "least_rating": (0.5, 3), "longest": (16, 512)}
EDGES |= {"test_samples": (20,), "depth": (1,)}


@pytest.mark.parametrize("name", EDGES)
def test_edges_of_the_ranges_are_allowed(name):
    model = ImageParameters if name in ImageParameters.model_fields else SentimentParameters
    for value in EDGES[name]:
        resolved = getattr(resolve(model, {"preset": "demo", name: value}), name)
        assert resolved == (tuple(value) if isinstance(value, list) else value)


def test_models_by_name():
    found = {"image_h1": ImageParameters, "sentiment_h2": SentimentParameters}
    found |= {"qa_h3": QuestionParameters, "image_cell": CellParameters}
    assert {notebook: models_for(notebook) for notebook in found} == found
    with pytest.raises(KpnbError, match="image_.*sentiment_.*qa_"):
        models_for("imge_h1")

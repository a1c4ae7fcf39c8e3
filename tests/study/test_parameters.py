"""Parameters: presets are valid, given values win, mistakes are one sentence."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from refusals import fails, refuses

from kpnb.errors import KpnbError
from kpnb.study.parameters import BY_NETWORK, KINDS, MODELS, checkpoint_epochs, models_for, resolve


def test_checkpoints_are_the_published_ones_scaled():
    published = (0, 2, 5, 10, 15, 20, 25, 30, 40, 50, 70, 90, 110, 130, 150)
    assert checkpoint_epochs(150) == tuple(sorted((*published, 1)))
    assert checkpoint_epochs(30) == (0, 1, 2, 3, 4, 5, 6, 8, 10, 14, 18, 22, 26, 30)
    for epochs in (1, 2, 3, 7, 149, 400):
        kept = checkpoint_epochs(epochs)
        assert kept[0] == 0 and 1 in kept and kept[-1] == epochs
        assert list(kept) == sorted(set(kept)) and all(type(epoch) is int for epoch in kept)
    refuses(checkpoint_epochs, "at least 1", 0)


@pytest.mark.parametrize("model", MODELS.values())
@pytest.mark.parametrize("preset", ["smoke", "demo", "study", "paper"])
def test_presets_are_complete_and_valid_and_parameters_described(model, preset):
    values, resolved = model.PRESETS[preset], resolve(model, {"preset": preset})
    assert set(values) == set(model.model_fields) and resolved.preset == preset
    for name, value in values.items():
        expected = tuple(value) if isinstance(value, list) else value
        if name == "checkpoints" and value is None:
            expected = checkpoint_epochs(resolved.epochs)
        elif value is None and name not in ("batch", "teachers", "followed"):  # derived
            known = BY_NETWORK.get(name, {}) | {"VGG-16": 0.2}
            expected = known[resolved.network]
        assert getattr(resolved, name) == expected
    with pytest.raises(ValidationError, match="frozen"):
        resolved.epochs = 4
    for name, field in model.model_fields.items():
        assert len(field.description) > 20, name


def test_given_wins_none_means_the_preset_and_the_network_decides_the_rest():
    for network in BY_NETWORK["threshold"]:
        given = {"preset": "demo", "network": network}
        resolved = resolve(KINDS["cloud"], given)
        assert all(getattr(resolved, name) == known[network] for name, known in BY_NETWORK.items())
        assert resolved.checkpoints == checkpoint_epochs(resolved.epochs)
        own = {"threshold": 0.1, "teacher_epochs": 3, "epochs": 4}
        resolved = resolve(KINDS["cloud"], given | own)
        assert {name: getattr(resolved, name) for name in own} == own
        assert resolved.checkpoints == checkpoint_epochs(4)
    given, image = {"preset": "demo", "layers": ["Conv", "FC1"], "grid": None}, KINDS["image"]
    resolved = resolve(image, given | {"checkpoints": [0, 2, 100]})
    assert resolved.layers == ("Conv", "FC1") and resolved.checkpoints == (0, 2, 100)
    assert resolved.grid == image.PRESETS["demo"]["grid"]
    # A teacher for each seed, and all samples followed, is something that is said.
    assert resolve(image, given | {"teachers": None}).teachers is None != resolved.teachers
    assert resolve(image, {"preset": "study", "followed": None}).followed is None


# By kind: what is told -> parameters that are refused with it, each alone.
MISTAKES = {
    "image": {
        r"epochs is 'abc': it should be a valid integer\.": [{"epochs": "abc"}],
        "epochs is '3'": [{"epochs": "3"}],
        "epochs is 3.0": [{"epochs": 3.0}],
        "epochs is True": [{"epochs": True}],
        "equal to (32|512)": [{"image_size": 31}, {"image_size": 513}],
        "(greater than 0|less than or equal to 1)": [{"fraction": 0}, {"fraction": 1.01}],
        "fraction is nan": [{"fraction": float("nan")}],
        "threshold is 0.0: it should be greater than 0": [{"threshold": 0.0}],
        "threshold is inf": [{"threshold": float("inf")}],
        "grid is 64 but images have 32": [{"grid": 64, "image_size": 32}],
        "8 or 12": [{"classes": 9}],
        "'AlexNet', 'VGG-11'": [{"network": "VGG11"}],
        r"it should be a list, such as \[1\] or \[\"FC1\"\]": [{"layers": "FC1"}, {"seeds": 0}],
        r"'FC2' or 'FC3'\.": [{"layers": ["FC4"]}],
        "it should have at least 1 item": [{"layers": []}, {"seeds": []}],
        "name each item once": [{"layers": ["FC1", "FC1"]}, {"seeds": [0, 0]}],
        "integer": [{"seeds": [True]}],
        "from 0 to epochs": [{"checkpoints": [0, 3]}, {"checkpoints": [1, 100]}],
        "ascend": [{"checkpoints": [0, 9, 3, 100]}],
        "followed is 1: give 0, or 2 and more": [{"followed": 1}],
        "can be composed anew": [{"measured_on": "new", "data": "cub200"}],
        "'study' or 'paper'": [{"preset": "papers"}],
        "valid boolean": [{"compiled": 1}],
        "valid integer, or it should be 'all'": [{"teacher_samples": "most"}],
        "equal to 1": [{"batch": 0}],
        " is .*: it should be .*": [{"chunk": 0}, {"probes": 4}, {"precision": "float16"}]
        + [{"method": "exact"}, {"device": "mps"}, {"scale": "wide"}, {"head_epochs": 0}],
        "torchvision has weights": [{"pretrained": "ImageNet"}],
        "composed without end": [{"teacher_samples": "all"}],
        "preset is missing": [{"preset": None}],
        "did you mean epochs": [{"epoch": 3}],
        "known: .*network": [{"zzz": 3}],
    },
    "cell": {
        "measured_on": [{"outputs": 4, "measured_on": "test"}],
        "leave it out for a data set": [{"outputs": 4, "data": "cub200"}],
        "run is 'No Name'": [{"run": "No Name"}],
        "teacher is 'VGG-12'": [{"teacher": "VGG-12"}],
    },
    "fine_tuning": {
        "full networks only": [{"source": "ImageNet"}],
        "leave at least 2": [{"source_classes": 7, "classes": 8}],
        "teacher is 'EfficientNet-lite0'": [{"teacher": "EfficientNet-lite0"}],
    },
    "coherency": {
        "factor is": [{"factor": 1.0}, {"factor": -4}],
        "methods is": [{"methods": ["lime"]}, {"methods": []}],
    },
    "sentiment": {
        "no parameter 'grid'": [{"grid": 16}],
        "it should be 'Last'": [{"layers": ["FC1"]}],
        "did you mean network": [{"networks": "MiniLM-L6"}],
        "test_samples is 19": [{"test_samples": 19}],
    },
    "qa": {
        "no parameter 'least_rating'": [{"least_rating": 1.0}],
        "equal to (16|512)": [{"longest": 15}, {"longest": 513}],
        "network is 3: it should be a valid string": [{"network": 3}],
    },
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistakes_are_one_sentence(kind):
    """Bounds of what stands in a notebook's cell are those that its comments name."""
    for told, mistakes in MISTAKES[kind].items():
        for given in mistakes:
            with pytest.raises(KpnbError, match=told) as mistake:  # perhaps a question
                resolve(KINDS[kind], {"preset": "demo"} | given)
            assert "\n" not in str(mistake.value), given


def test_models_by_name_and_coherency_has_the_presets_of_images_with_fewer_samples():
    """And of teachers' seeds, because it explains these."""
    for preset, own in KINDS["coherency"].PRESETS.items():
        other = KINDS["image"].PRESETS[preset]
        differ = {name for name in other if own[name] != other[name]}
        assert differ - {"seeds", "teachers", "followed", "network"} == {"samples"}
        seeds = KINDS["image"].PRESETS["study"]["teachers"] if preset == "study" else [0]
        assert own["seeds"] == seeds and not own["teachers"]
    found = {"image_h1": "image", "sentiment_h2": "sentiment", "qa_h3": "qa", "image_cell": "cell"}
    assert all(models_for(notebook) is KINDS[kind] for notebook, kind in found.items())
    fails(models_for, "image_.*sentiment_.*qa_", "imge_h1")


def test_a_wrong_network_is_told_before_the_values_that_follow_from_it():
    given = {"preset": "demo", "network": "PointNet3"}
    refuses(resolve, "network is 'PointNet3'.*'PointNet'", models_for("pointcloud_h1"), given)


def test_the_page_on_colab_asks_for_the_papers_preset_as_a_whole():
    page = (Path(__file__).parents[2] / "book" / "colab.md").read_text(encoding="utf-8")
    (cell,) = re.findall(r"```python\n(import kpnb\n.*?)```", page, re.DOTALL)
    names = dict(KINDS["image"].PRESETS["demo"])  # of the notebook's parameters cell
    exec(cell, names)
    found = resolve(KINDS["image"], {n: names[n] for n in KINDS["image"].model_fields}, "demo")
    assert (found.preset, found.scale, found.image_size) == ("paper", "full", 224)
    assert (found.network, found.epochs, found.layers) == ("AlexNet", 30, ("FC1",))

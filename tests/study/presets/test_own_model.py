"""Parameters of the notebook on a network of one's own."""

import pytest
from refusals import refuses

from kpnb.study.parameters import models_for, resolve
from kpnb.study.presets.own_model import OwnModelParameters


def test_the_notebook_s_model_has_three_presets_with_every_value_written():
    assert models_for("own_model") is OwnModelParameters
    fields = set(OwnModelParameters.model_fields)
    assert set(OwnModelParameters.PRESETS) == {"smoke", "demo", "study"}
    assert all(set(values) == fields for values in OwnModelParameters.PRESETS.values())
    found = resolve(OwnModelParameters, {"preset": "demo", "layers": ["a", "b"]})
    assert found.layers == ("a", "b") and found.image_size == 224 and found.masks is None


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"images": "photos"}, "masks is a folder of masks"),
        ({"masks": "masks"}, "masks is a folder of masks"),
        ({"quality": "best"}, "'fast', 'standard' or 'exact'"),
        ({"preset": "paper"}, "'smoke', 'demo' or 'study'"),
        ({"image": "embedded"}, "did you mean images"),
        ({"threshold": 0.0}, "greater than 0"),
    ],
)
def test_mistakes_are_one_sentence(given, told):
    if "image" in given:  # a question
        with pytest.raises(ValueError, match=told):
            resolve(OwnModelParameters, {"preset": "demo"} | given)
    else:
        refuses(resolve, told, OwnModelParameters, {"preset": "demo"} | given)

"""What pages say in words of how the entropy is estimated: held against the committed files."""

import numpy as np

from kpnb.metrics.results import read_results


def test_what_verdicts_on_images_hang_on_is_what_was_found():
    found = read_results("image_measure_vgg11", "study")
    assert found.settings["layers"] == ["FC1"] and len(found.settings["seeds"]) == 8
    said = {name: one.what.rpartition(": ")[2] for name, one in found.numbers.items()}
    minimum = [f"optimum of Eq. 3{more}" for more in ("", ", b = 0.5")]
    for metric in ("n_fg", "lambda"):
        assert {said[f"{name} | {metric}"] for name in minimum} == {"opposed"}
    one_pair = ("published procedure", "closed form, on the same images")
    way = {name.partition(" | ")[0] for name in said} - {*minimum, *one_pair}
    assert len(way) == 7 and {said[f"{name} | n_fg"] for name in way} == {"supported"}
    coarse, fine = (f"grid of {n} cells a side" for n in (8, 32))
    verdicts = {name: said[f"{name} | lambda"] for name in way}
    assert verdicts.pop(coarse) == "undecided" and {*verdicts.values()} == {"supported"}
    beside = {name: said[f"{name} | n_bg"] for name in way}
    fewer = {"target entropy -2.7", "entropy weight 5", fine}
    more = {"target entropy -3.0", "entropy weight 10", coarse}
    assert {name for name, told in beside.items() if told == "supported"} == fewer
    assert {name for name, told in beside.items() if told == "opposed"} == more
    for metric in ("n_fg", "lambda", "n_bg"):
        sides = [np.sign(found.numbers[f"{name} | {metric}"].value) for name in one_pair]
        assert sides[0] == sides[1] != 0


def test_what_numbers_of_sentences_hang_on_is_what_was_found():
    found = read_results("sentiment_measure", "study")
    assert found.settings["samples"] == 40 and len(found.settings["seeds"]) == 3
    points = [one for name, one in found.numbers.items() if name.endswith(" | n_fg")]
    assert len(points) == 10 and min(one.value for one in points) > 0
    for more in ("", ", b = 0.5"):
        said = {metric: found.numbers[f"optimum of Eq. 3{more} | {metric}"].what
                for metric in ("n_fg", "n_bg")}  # fmt: skip
        assert said["n_fg"].endswith("supported") and said["n_bg"].endswith("opposed")

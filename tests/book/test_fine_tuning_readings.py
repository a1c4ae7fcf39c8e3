"""What the page on fine-tuning says is what its results files hold, at the b in use."""

from kpnb.metrics.results import read_results

OF_FINE_TUNING = ("fine_tuned", "from_scratch")


def assert_early_is_the_first_fifth(found):
    """The first half of the checkpoints after epoch 0, as pages say."""
    after, half = found.settings["checkpoints"][1:], (len(found.settings["checkpoints"]) - 1) // 2
    assert 5 * after[half - 1] <= found.settings["epochs"] < 5 * after[half]


def test_the_reading_of_fine_tuning_on_photographs_is_what_was_found():
    """At the b in use, the only one that results files hold."""
    found = read_results("image_fine_tuning_photographs", "study")
    assert len(found.settings["seeds"]) == 5 and found.settings["threshold"] == 0.2
    assert_early_is_the_first_fifth(found)
    early, start, last = ([found.numbers[f"{name}_{who}_conv"].value for who in OF_FINE_TUNING]
                          for name in ("early_rise", "start_n_fg", "n_fg"))  # fmt: skip
    shares = [rise / (end - begin) for rise, begin, end in zip(early, start, last, strict=True)]
    assert shares[0] > shares[1] > 0 and start[0] > start[1] and last[0] < last[1]
    gap = {name.split("_difference")[0]: one for name, one in found.numbers.items()
           if "_difference" in name}  # fmt: skip
    for name in ("accuracy", "early_n_fg", "start_n_fg"):
        assert gap[name].low > 0
    assert gap["early_rise"].value < 0 < gap["early_rise"].high and gap["n_fg"].high < 0
    for name in ("rho", "discarded"):
        assert gap[name].low < 0 < gap[name].high
    assert all(found.numbers[f"accuracy_train_{name}"].value == 1
               for name in ("fine_tuned", "from_scratch"))  # fmt: skip


def test_the_reading_of_fine_tuning_on_embedded_images_is_what_was_found():
    found = read_results("image_fine_tuning", "study")
    assert found.settings["network"] == "VGG-11" and len(found.settings["seeds"]) == 8
    for layer in ("conv", "fc1"):
        names = ("early_n_fg", "start_n_fg", "early_rise", "n_fg", "rho", "discarded")
        gap = {name: found.numbers[f"{name}_difference_{layer}"] for name in names}
        assert min(gap[name].low for name in ("early_n_fg", "start_n_fg", "n_fg")) > 0
        assert gap["start_n_fg"].value > gap["early_n_fg"].value
        assert gap["early_rise"].value < 0 and (gap["early_rise"].high < 0) == (layer == "fc1")
        assert all(gap[name].low < 0 < gap[name].high for name in ("rho", "discarded"))
        assert gap["rho"].value > 0
    assert_early_is_the_first_fifth(found)
    right = found.numbers["accuracy_difference"]
    assert right.low < 0 < right.value and found.numbers["accuracy_fine_tuned"].value < 0.3


def test_the_reading_of_fine_tuning_on_another_split_is_what_was_found():
    first, found = (read_results(name, "study")
                    for name in ("image_fine_tuning", "image_fine_tuning_split3"))  # fmt: skip
    own = ("seeds", "samples", "split")
    same = {name: value for name, value in found.settings.items() if name not in own}
    assert same == {name: value for name, value in first.settings.items() if name not in own}
    assert [found.settings[name] for name in own[1:]] == [60, 3]
    assert len(found.settings["seeds"]) == 10
    assert {*found.settings["seeds"]}.isdisjoint(first.settings["seeds"])
    for layer in ("conv", "fc1"):
        names = ("early_n_fg", "start_n_fg", "early_rise", "n_fg", "rho", "discarded")
        gap = {name: found.numbers[f"{name}_difference_{layer}"] for name in names}
        assert min(gap[name].low for name in ("early_n_fg", "start_n_fg")) > 0
        assert 1.8 < gap["start_n_fg"].value / gap["early_n_fg"].value < 2.2
        assert gap["early_rise"].high < 0 < gap["n_fg"].value and gap["n_fg"].low < 0
        assert gap["rho"].value > 0 and abs(gap["rho"].low) < 0.002
        assert (gap["rho"].low > 0) == (layer == "conv")
        assert gap["discarded"].value < 0 < gap["discarded"].high
    assert found.numbers["early_rise_fine_tuned_conv"].value < 0
    right = found.numbers["accuracy_difference"]
    assert right.low < 0 < right.high

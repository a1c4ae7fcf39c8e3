"""Fitness: each check on made networks and maps that pass it or do not, its numbers by hand."""

from dataclasses import replace
from types import SimpleNamespace as Some

import numpy as np
import pytest
import torch
from reference import generator, spearman
from shown_samples import maps_of
from torch import nn

from kpnb.metrics.evidence import Evidence
from kpnb.metrics.protocol import protocol
from kpnb.training import fitness
from kpnb.training.fitness import (
    Check,
    Fitness,
    explained_share,
    map_checks,
    map_numbers,
    network_checks,
    over_chance,
    rank_correlations,
)

SAMPLES, UNITS, B = 5, 6, 0.2
INSIDE = torch.tensor([[True, True, True, False, False, False]]).expand(SAMPLES, -1)


def made(kept=1.0, lost=1.0, roles="TSB", noise=0.0):
    """Foreground entropy -2.8 - kept, background -2.8 + lost, of the roles; the others good."""
    maps = {}
    for number, role in enumerate("TSB"):
        inside, outside = (kept, lost) if role in roles else (1.0, 1.0)
        looks = torch.where(INSIDE, -2.8 - inside, -2.8 + outside).double()
        looks = looks + noise * torch.randn(looks.shape, generator=generator(number))
        epochs = (9,) if role == "T" else (0, 4, 9)
        maps[role] = [{epoch: maps_of(looks.clone()) for epoch in epochs} for _ in range(2)]
    return Evidence("FC1", (0, 4, 9), INSIDE, maps, {})


def failed(checks):
    return [check.asked for check in checks if not check.passed]


def test_maps_that_point_the_right_way_pass():
    assert failed(map_checks(made(), B)) == [] and len(map_checks(made(), B)) == 5


@pytest.mark.parametrize("role, name", [("T", "teacher"), ("S", "student"), ("B", "baseline")])
def test_a_network_that_discards_more_of_the_foreground_fails(role, name):
    told = failed(map_checks(made(-1.0, -1.0, role), B))
    assert told[0] == f"the {name} discards no less of the background than of the foreground"


@pytest.mark.parametrize("role, name", [("S", "student"), ("B", "baseline")])
def test_networks_without_points_fail(role, name):
    (told,) = failed(map_checks(made(0.0, 0.0, role), B))
    assert told == f"at least 80% of samples have a foreground point in the {name}"
    assert protocol()["fitness"]["with_point"] == 0.8


def study(**changes):
    """A fit study of two seeds, with something changed."""
    given = dict(T=[0.7, 0.71], S=[0.5, 0.6], B=[0.3, 0.3], train=0.9, new=0.6)
    given["loss"] = [3.0] * 10 + [1.0] * 10  # before the last tenth it may fall
    given |= changes
    record = Some(record=Some(loss=given["loss"]))
    made = Some(
        data=Some(held_out="new"), shared_teachers=None, SCORE="accuracy",
        parameters=Some(seeds=(0, 1)), of=lambda role, seed: record,
        accuracies=lambda role, layer: {"new": given[role]},
    )  # fmt: skip
    made.shares = given
    return made


UNFIT = {
    "the teacher's accuracy": dict(T=[0.35, 0.8]),
    "the student's is not below": dict(S=[0.2, 0.3]),
    "the student explains at least 80%": dict(train=0.79),
    "the student explains at least 50%": dict(new=0.49),
    "the baseline's loss fell by less than 5%": dict(loss=[1.0] * 18 + [0.97, 0.94]),
}


@pytest.mark.parametrize("asked", ["", *UNFIT])
def test_each_thing_that_networks_lack_is_named_with_what_to_change(monkeypatch, asked):
    one = study(**UNFIT.get(asked, {}))
    share = lambda study, layer, split: [study.shares[split]] * 2  # noqa: E731
    monkeypatch.setattr(fitness, "explained_shares", share)
    checks = network_checks(one, "FC1")
    assert len(checks) == 5
    assert [told[: len(asked)] for told in failed(checks)] == ([asked] if asked else [])
    found = Fitness("FC1", tuple(checks))
    assert found.fit == (asked == "") == (found.reason == "")
    if asked:
        (check,) = (check for check in checks if not check.passed)
        assert found.reason.startswith(f"FC1 is not measurable ({asked}")
        assert found.reason.endswith(f"{check.remedy}.") and "raise" in check.remedy
        assert f"no: {check.remedy}" in list(found.table()["fit"])


def test_reasons_name_a_remedy_once():
    checks = [Check("a", "b", False, "raise x"), Check("c", "d", False, "raise x")]
    told = Fitness("Conv", (*checks, Check("e", "f", True, "raise y"))).reason
    assert told == "Conv is not measurable (a: b; c: d); raise x."


class Linear(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.fc = nn.Linear(3, 2, bias=False)
        self.fc.weight.data = scale * torch.eye(3)[:2]

    def forward(self, x):
        return self.fc(x)


def test_the_explained_share_is_one_minus_error_over_variance():
    x = torch.randn(50, 3, generator=generator(0))
    assert explained_share(Linear(2.0), Linear(2.0), "fc", x) == 1
    wanted, own = 2 * x[:, :2].double(), 1.5 * x[:, :2].double()
    known = 1 - ((wanted - own) ** 2).mean() / wanted.var(0, correction=0).mean()
    assert explained_share(Linear(2.0), Linear(1.5), "fc", x) == pytest.approx(float(known))
    assert explained_share(Linear(2.0), Linear(-2.0), "fc", x) < 0


def test_rank_correlations_leave_out_what_is_not_defined():
    one, other = (torch.randn(3, 7, generator=generator(k)).double() for k in (0, 1))
    one[0, 2] = other[0, 5] = one[1, :5] = float("nan")
    found = rank_correlations(maps_of(one), maps_of(other))
    known = one[0].isfinite() & other[0].isfinite()
    assert found[0] == pytest.approx(spearman(one[0][known].numpy(), other[0][known].numpy()))
    third = spearman(one[2].numpy(), other[2].numpy())
    assert np.isnan(found[1]) and found[2] == pytest.approx(third)


def test_lambda_over_chance_is_against_the_next_sample_s_mask():
    """All points lie on the three foreground units; another sample's mask holds one of them."""
    masks = INSIDE.clone()
    masks[1] = torch.tensor([False, False, True, True, True, False])
    evidence = replace(made(), foreground=masks)
    looks = torch.where(masks, -3.8, -1.8).double()
    maps = {role: [{9: maps_of(looks)}] for role in "TSB"}
    found = over_chance(replace(evidence, maps=maps), "S", 0, B)
    assert found == pytest.approx([1 - 1 / 3, 1 - 1 / 3, 0, 0, 0])


def test_numbers_name_role_and_layer_and_the_untrained_network():
    found = map_numbers(made(noise=0.3), B)
    assert found["rank_correlation_S_FC1"].value == pytest.approx(
        np.mean(rank_correlations(*(made(noise=0.3).maps[r][0][9] for r in "ST")))
    )
    assert {"lambda_over_chance_T_FC1", "lambda_untrained_FC1", "n_fg_untrained_FC1"} <= set(found)
    assert found["lambda_untrained_FC1"].n == SAMPLES
    nowhere = map_numbers(made(noise=0.3), 99.0)  # no unit is a point: chance has none either
    assert set(found) - set(nowhere) == {f"lambda_over_chance_{role}_FC1" for role in "TSB"}
    assert nowhere["n_fg_untrained_FC1"].value == 0

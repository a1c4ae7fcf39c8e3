"""Networks of one's own: a study's numbers again, made-up evidence, what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import made_evidence
from refusals import refuses
from torch import nn

import kpnb
from kpnb.datasets.prepared import normalized
from kpnb.estimator.entropy import EntropyEstimator
from kpnb.estimator.units import GridUnits, PointUnits
from kpnb.metrics.evidence import Choices, metric_values
from kpnb.study.own import ComparedNetworks

QUICK = EntropyEstimator(None, GridUnits(4), quality="fast")
X = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
MASKS = torch.zeros(5, 8, 8)
MASKS[:, :4] = 1  # the upper half
DATA = dict(images=X, masks=MASKS, layer="1", estimator=QUICK)


def network(seed: int, width: int = 6) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 3))


def compared(**changed) -> ComparedNetworks:
    three = dict(teacher=network(0), student=network(1), baseline=network(2))
    return kpnb.compare(**three | DATA | changed)


@pytest.fixture(scope="module")
def of_a_study(smoke):
    """What `compare` finds of the networks of the shared study, given as checkpoints."""
    study, settings = smoke.study, smoke.study.explainer(smoke.study.dotted("S", "FC1"))
    (seed,), samples = study.parameters.seeds, study.data.measured
    trained = {role: study.of(role, seed, "FC1") for role in "TSB"}
    return kpnb.compare(
        teacher=study.network(trained["T"]),
        student=trained["S"].states,
        baseline={e: study.network(trained["B"], e) for e in reversed(study.checkpoints)},
        test=(study.data.test_samples.images, study.data.test_samples.labels),
        **dict(images=normalized(samples.images), masks=samples.masks, labels=samples.labels),
        **dict(model=study.container("S", seed), layer="FC1", estimator=settings),
    )


def test_the_networks_of_a_study_give_its_numbers(of_a_study, smoke):
    found, study = of_a_study, smoke.evidence
    assert found.evidence.epochs == study.epochs == (0, 1, 2)
    for role in "SB":  # all epochs are checkpoints, so Eq. 8 is known
        assert found.evidence.distance[role, "epoch"] == study.distance[role, "epoch"]
    values = found.values().set_index(["metric", "role"])["value"]
    for metric, role in values.index.unique():
        wanted = metric_values(study, role, metric, Choices(0.2, per="epoch"))[0]
        np.testing.assert_array_equal(values[metric, role].to_numpy(), wanted)
    assert {"n_fg", "n_bg", "lambda"} <= set(found.metrics)


def test_scores_and_figures_are_those_of_the_study(of_a_study, smoke):
    fitness = of_a_study.fitness()
    for role, name in (("T", "teacher"), ("B", "baseline")):
        (known,) = smoke.study.accuracies(role)["test"]
        assert fitness.loc["accuracy on the test images", name] == pytest.approx(known)
    assert {"metrics", "points", "learning", "fates"} <= set(of_a_study.figures())
    assert set(of_a_study.table()["verdict"]) == {"one seed"}
    assert "several seeds" in of_a_study.reading() and "None" not in of_a_study._repr_html_()


def test_by_hand():
    """Good student, bad baseline: counts, distances and verdicts are those that were made."""
    evidence = made_evidence(student=True, baseline=False, seeds=2)
    found = ComparedNetworks(evidence, torch.zeros(8, 3, 8, 8), 0.2, {}, ("A note.",))
    table = found.table()
    assert list(table.index) == ["N_fg", "N_bg", "lambda", "D_mean", "D_var", "rho"]
    assert table.loc["N_fg", "student - baseline"] == "3 [3, 3]"
    assert table.loc["D_mean", "student"] == "0.1 [0.1, 0.1]"  # per epoch half of per step
    assert set(table["verdict"]) == {"supported"}
    assert (table["n samples"] == 8).all() and (table["n seeds"] == 2).all()
    told = found.reading()
    assert "Hypothesis 3" in told and "predicted down" in told and told.endswith("\n\nA note.")
    worse = replace(found, evidence=made_evidence(False, True, seeds=2))
    assert "**No: nothing supports it here" in worse.reading()
    numbers = found.numbers()
    assert (numbers["n_fg_S"].value, numbers["n_fg_difference"].low) == (6, 3)
    assert numbers["share of samples with a foreground point, baseline"].value == 1


def test_final_networks_answer_the_first_hypothesis():
    found = compared(student=[network(1), network(2)], baseline=[network(3), network(4)])
    assert found.metrics == ("n_fg", "n_bg", "lambda") and len(found.evidence.seeds) == 2
    assert found.evidence.maps["T"][0] == found.evidence.maps["T"][1]
    alone = replace(QUICK, layer="1").explain(network(4), X)
    assert found.evidence.maps["B"][1][1] == alone
    assert list(found.figures()) == ["metrics"]  # these images have one channel
    assert "Hypothesis 2" not in found.reading()


def test_what_the_student_explains():
    """The teacher itself explains all of its feature, which is read before the ReLU."""
    teacher, less, name = network(0), network(0), "share of the teacher's feature that is explained"
    assert compared(student=network(0)).fitness().loc[name, "student"] == 1
    with torch.no_grad():  # a tenth of the way from the mean feature: 1 - 0.9 ** 2
        less[1].weight.mul_(0.1)
        less[1].bias.add_((teacher[1](X.flatten(1)) - less[1](X.flatten(1))).mean(0))
    relu = replace(QUICK, relu=False)
    found = compared(student=less, estimator=relu).fitness().loc[name]
    assert found["student"] == pytest.approx(0.19, abs=1e-5) and found.isna().tolist() == [1, 0, 1]
    other = compared(teacher=network(0, 7))  # of another width: not said
    assert name not in other.fitness().index


def test_distance_and_samples_that_are_left_out():
    start, moved = network(1), network(1)
    with torch.no_grad():
        moved[1].weight.mul_(3)
    states = {9: moved.state_dict(), 0: start.state_dict(), 4: start.state_dict()}
    masks = MASKS.clone()
    masks[1], masks[3] = 0, 1
    found = compared(student=states, baseline=dict(states), model=start, masks=masks)
    assert found.evidence.distance["S", "epoch"] == [[0, 0, pytest.approx(2)]]
    assert found.evidence.epochs == (0, 4, 9) and len(found.images) == 3
    left = "2 of 5 samples are left out, without foreground or without background."
    assert found.notes == (left,)
    apart = compared(student={0: start, 1: moved}, baseline={0: network(2), 1: moved}, layer=None)
    assert apart.notes[0].startswith("D is not measured: ") and "d_mean" not in apart.metrics
    apart = compared(student={0: start, 1: moved}, baseline={0: network(2), 1: moved})
    assert apart.notes == ("Student and baseline do not start from the same weights.",)


def test_a_checkpoint_at_which_a_network_is_still_is_left_out_and_told():
    """All that is measured is as without it: Eq. 8 too, which goes from checkpoint to next."""
    still = network(1)
    nn.init.constant_(still[1].bias, -50)
    ends = {name: {0: network(1), 3: network(seed), 4: network(seed + 1)}
            for name, seed in (("student", 2), ("baseline", 5))}  # fmt: skip
    trails = {name: dict(one) for name, one in ends.items()}
    trails["student"][2], trails["baseline"][2] = still, network(9)
    with pytest.warns(UserWarning, match="still behind the ReLU"):
        found = compared(**trails)
    without = compared(**ends)
    assert found.evidence.epochs == (0, 3, 4) and "d_mean" in found.metrics
    assert found.table().equals(without.table())
    assert found.evidence.distance == without.evidence.distance
    (note,) = found.notes
    assert note.startswith("Left out is epoch 2: some network has no entropy map there")


def test_refusals():
    pair, names = {0: network(1), 2: network(1)}, {"teacher": "1", "student": "1"}
    still = network(1)
    nn.init.constant_(still[1].bias, -50)
    with pytest.warns(UserWarning, match="still behind the ReLU"):
        refuses(compared, "baseline has no entropy map of any sample", baseline=still)
        for trail in ({0: still, 4: network(1)}, {0: network(1), 4: still}):
            given = {"student": {0: network(1), 4: network(1)}, "baseline": trail}
            refuses(compared, r"baseline has no entropy map of any sample \(epoch [04]\)", **given)
    trail, other = {"student": pair, "baseline": pair}, {0: network(1), 3: network(1)}
    refuses(compared, "either masks, or foreground", masks=None)
    refuses(compared, "samples and units are .5, 16.", masks=MASKS[:4])
    refuses(compared, "bool of that shape", masks=None, foreground=torch.ones(5, 9) > 0)
    refuses(compared, "5 of 5 samples are left out.*mend the masks", masks=0 * MASKS)
    refuses(compared, "PointUnits take no masks", estimator=replace(QUICK, units=PointUnits()))
    refuses(compared, "student's checkpoints are of epochs .1, 2.*epoch 0", student={1: 0, 2: 0})
    refuses(compared, "student is a dictionary of .'1.weight'", student=network(1).state_dict())
    refuses(compared, "teacher is one network", teacher=pair)
    refuses(compared, "no baseline: give", baseline=[])
    refuses(compared, r"checkpoints differ, \[0, 2\] and \[0, 3\]", **trail | {"baseline": other})
    refuses(compared, "checkpoints differ", student=pair)
    refuses(compared, "are 1, 2 and 1 networks", student=[network(1)] * 2)
    refuses(compared, "layer names none for the baseline", layer=names)
    refuses(compared, "teacher has another layer: No layer '7'", layer="7")
    states = {0: network(1).state_dict(), 1: network(1, 9).state_dict()}
    refuses(compared, "pass model=", student=states)
    given = {"student": states, "baseline": states, "model": network(0)}
    refuses(compared, r"state dict \(student, epoch 1\) does not fit model", **given)
    refuses(compared, "5 images, 4 labels", labels=torch.zeros(4).long())

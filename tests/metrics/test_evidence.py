"""The metrics of Hypotheses 1-3 on made-up maps, each against loops over seeds and samples."""

import math
from dataclasses import replace
from itertools import product
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from reference import generator, naive_distance, naive_points, naive_ratio, naive_stability
from shown_samples import maps_of

from kpnb.metrics.evidence import (
    METRICS,
    Choices,
    Evidence,
    decided,
    difference,
    estimate,
    evidence_values,
    final_entropies,
    is_defined,
    metric_values,
    trajectory_points,
)
from kpnb.metrics.points import knowledge_points
from kpnb.metrics.protocol import primary_metrics
from kpnb.metrics.stats import VERDICTS, holm

SAMPLES, UNITS, SEEDS = 6, 9, 2
EPOCHS = (0, 2, 4, 6, 15)  # the filter looks at epochs from 15 * 40 / 150 = 4 on


def foreground():
    inside = torch.rand(SAMPLES, UNITS, generator=generator(5)) < 0.5
    inside[:, 0], inside[:, 1] = True, False
    return inside


def evidence():
    maps, shape = {}, (SAMPLES, UNITS)
    for number, role in enumerate("TSB"):
        epochs = EPOCHS[-1:] if role == "T" else EPOCHS
        draws = generator(number)
        maps[role] = [
            {e: maps_of(0.4 * torch.randn(shape, generator=draws).double() - 2.8) for e in epochs}
            for _ in range(SEEDS)
        ]
    steps, scales = [k + 0.1 * k * k for k in range(len(EPOCHS))], (3.0, 1.0, 5.0, 2.0)
    distance = {
        (role, per): [[scale * (seed + 1) * step for step in steps] for seed in range(SEEDS)]
        for (role, per), scale in zip(product("SB", ("step", "epoch")), scales, strict=True)
    }
    return Evidence("FC1", EPOCHS, foreground(), maps, distance)


def naive_metric(e, role, metric, choices):
    """(seeds, samples) by Eq. 5-9, one sample and epoch after another."""
    table = []
    for seed in range(SEEDS):
        epochs = [k for k, epoch in enumerate(EPOCHS) if epoch > 0 or choices.untrained]
        epochs = epochs[-1:] if role == "T" else epochs
        entropies = [e.maps[role][seed][EPOCHS[k]].entropy for k in epochs]
        points = [naive_points(h, e.foreground, choices.threshold, "dataset") for h in entropies]
        row = []
        for s in range(SAMPLES):
            inside = [fg[s] for fg, _ in points]
            n_fg, n_bg = len(points[-1][0][s]), len(points[-1][1][s])
            if metric in ("d_mean", "d_var"):
                travelled = [e.distance[role, choices.per][seed][k] for k in epochs]
                row.append(naive_distance([len(found) for found in inside], travelled))
            else:
                final = {"n_fg": n_fg, "n_bg": n_bg, "lambda": naive_ratio(n_fg, n_bg)}
                row.append((final | {"rho": naive_stability(inside)})[metric])
        table.append(row)
    return np.array(table, dtype=float)


CHOICES = [Choices(), Choices(threshold=0.35, per="epoch"), Choices(untrained=True)]


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_equals_the_naive_loops(metric):
    e, tables = evidence(), []
    for choices in CHOICES:
        for role in "TSB" if metric in ("n_fg", "n_bg", "lambda") else "SB":
            found = metric_values(e, role, metric, choices)
            assert found.shape == (SEEDS, SAMPLES) and found.dtype == np.float64
            np.testing.assert_allclose(found, naive_metric(e, role, metric, choices))
            tables += [found] if role == "S" else []
    if metric in ("d_mean", "rho"):  # the choices matter: else equal things were compared
        assert not np.allclose(tables[0], tables[2]) and not np.allclose(tables[0], tables[1])


def test_estimates_and_differences_are_those_of_the_values():
    e = evidence()
    for metric, statistic in (("n_fg", np.mean), ("d_mean", np.mean), ("d_var", np.var)):
        tables = {role: naive_metric(e, role, metric, Choices()) for role in "SB"}
        values = {r: np.mean([statistic(row) for row in table]) for r, table in tables.items()}
        for role in "SB":
            found = estimate(e, role, metric, Choices())
            assert found.value == pytest.approx(values[role])
            assert (found.n_samples, found.n_seeds) == (SAMPLES, SEEDS)
            assert found.low <= found.value <= found.high
        assert difference(e, metric, Choices()).value == pytest.approx(values["S"] - values["B"])


def test_values_are_one_tidy_frame():
    """Every value once; a metric's rows tell what it depends on and nothing else."""
    e = evidence()
    frame = evidence_values(e, options=CHOICES)
    about = ["layer", "role", "seed", "sample", "metric", "threshold", "distance", "untrained"]
    assert list(frame) == [*about, "value"] and not frame.duplicated(about).any()
    assert frame["value"].dtype == np.float64 and set(frame["layer"]) == {"FC1"}
    final = frame["metric"].isin(["n_fg", "n_bg", "lambda"])
    assert set(frame[final]["role"]) == set("TSB") and set(frame[~final]["role"]) == set("SB")
    for choices in CHOICES:
        for metric in ("n_bg", "d_var", "rho"):
            rows = frame[frame["role"].eq("B") & frame["metric"].eq(metric)]
            for column, value in zip(about[5:], choices.concerning(metric), strict=True):
                rows = rows[rows[column].isna() if value is None else rows[column].eq(value)]
            table = rows.pivot(index="seed", columns="sample", values="value").to_numpy()
            np.testing.assert_allclose(table, naive_metric(e, "B", metric, choices))


def test_everything_is_computed_once(monkeypatch):
    """Points of a network at a checkpoint serve all metrics, estimates and differences."""
    e, counted = evidence(), Mock(side_effect=knowledge_points)
    monkeypatch.setattr("kpnb.metrics.evidence.knowledge_points", counted)
    for choices in (Choices(), Choices(per="epoch")):
        evidence_values(e, options=[choices])
        for metric in METRICS:
            assert is_defined(e, metric, choices)
            estimate(e, "S", metric, choices), difference(e, metric, choices)
    # T, S and B at the end; S and B along their checkpoints 1..M.
    assert counted.call_count == 3 * SEEDS + 2 * SEEDS * (len(EPOCHS) - 1)


@pytest.mark.parametrize("index", [torch.tensor([4, 1]), torch.arange(SAMPLES) % 3 == 1])
def test_keep_takes_samples_of_everything(index):
    """What is kept has values of its own: H_bar is the mean over the samples that are kept."""
    e = evidence()
    kept = e.keep(index)
    assert torch.equal(kept.foreground, e.foreground[index])
    for role in "TSB":
        for own, whole in zip(kept.maps[role], e.maps[role], strict=True):
            assert all(torch.equal(own[k].sigma, maps.sigma[index]) for k, maps in whole.items())
    assert kept.distance == e.distance and kept.epochs == e.epochs and kept.layer == e.layer
    found = kept.points("S", 0, None, 0.2)
    inside, _ = naive_points(e.maps["S"][0][15].entropy[index], e.foreground[index], 0.2, "dataset")
    assert [set(row.nonzero().flatten().tolist()) for row in found.foreground_points] == inside


def partly(e, many):
    """The evidence with the first `many` samples alone at every checkpoint but the last."""
    maps = {
        role: [{k: m if k == EPOCHS[-1] else m[:many] for k, m in one.items()} for one in seeds]
        for role, seeds in e.maps.items()
    }
    return replace(e, maps=maps)


def test_samples_that_are_followed_in_part():
    """Final metrics are of all samples; what follows training is as if there were no others."""
    e = evidence()
    part, first = partly(e, 4), e.keep(torch.arange(4))
    assert (part.followed, e.followed, first.followed) == (4, SAMPLES, 4)
    for metric in METRICS:
        final = metric in ("n_fg", "n_bg", "lambda")
        known = metric_values(e if final else first, "B", metric, Choices())
        np.testing.assert_array_equal(metric_values(part, "B", metric, Choices()), known)
    assert set(part.published_selection()[4:].tolist()) == {False}
    assert part.published_selection()[:4].tolist() == first.published_selection().tolist()
    kept = part.keep(torch.tensor([1, 3, 5]))
    assert kept.followed == 2 and len(kept.foreground) == 3
    final = {role: [{15: one[15]} for one in seeds] for role, seeds in e.maps.items()}
    last = replace(e, maps=final)
    assert last.followed == 0 and is_defined(last, "n_fg", Choices())
    assert not is_defined(last, "rho", Choices())
    known = replace(e, epochs=(0, 15)).published_selection()  # of the last checkpoint alone
    assert torch.equal(last.published_selection(), known)


def test_decisions_are_corrected_for_the_primary_metrics_and_know_their_margins():
    """Whatever is asked for, the family is of all that the evidence has."""
    e = evidence()
    gaps = {m: difference(e, m, Choices()) for m in METRICS}
    adjusted = holm({m: gaps[m].p for m in primary_metrics()})
    found = decided(e, ["lambda", "n_bg"], Choices())
    assert list(found) == ["lambda", "n_bg"] and found["lambda"].p == adjusted["lambda"]
    assert found["n_bg"].p == gaps["n_bg"].p and found["lambda"].difference == gaps["lambda"]
    assert found["lambda"].margin == 0.02
    baseline = metric_values(e, "B", "n_bg", Choices()).mean()
    assert found["n_bg"].margin == pytest.approx(0.1 * baseline)
    assert found["n_bg"].prediction == "down" and found["n_bg"].verdict in VERDICTS
    assert holm({"n_fg": 0.02})["n_fg"] < adjusted["n_fg"] or adjusted["n_fg"] == 1
    shared = replace(e, teachers=(3, 3))  # one teacher: the seeds are what varies
    assert difference(shared, "n_fg", Choices()) == gaps["n_fg"]


def test_points_by_epoch():
    e = evidence()
    by_epoch = trajectory_points(e, "S", 0, 0.2)
    assert tuple(by_epoch) == EPOCHS
    for epoch, points in by_epoch.items():
        assert torch.equal(points.entropy, e.maps["S"][0][epoch].entropy)


def selection(role=None, epoch=None, value=1.0):
    """Where sample 3 has its foreground `value` above, in one network at one checkpoint."""
    e, looks = evidence(), -2.8 - foreground().double()
    maps = {r: [{k: maps_of(looks) for k in EPOCHS} for _ in range(SEEDS)] for r in "TSB"}
    if role is not None:
        away = looks.clone()
        away[3] = -2.8 + value * foreground()[3]
        maps[role][1][epoch] = maps_of(away)
    return replace(e, maps=maps).published_selection().tolist()


def test_one_late_checkpoint_that_looks_away_or_is_undefined_drops_a_sample():
    """Early checkpoints and the teacher do not count."""
    assert selection() == [True] * SAMPLES
    dropped = [number != 3 for number in range(SAMPLES)]
    for role in "SB":
        for epoch in (4, 6, 15):
            assert selection(role, epoch) == selection(role, epoch, math.nan) == dropped
    for role, epoch in (("S", 0), ("B", 2), ("T", 15)):
        assert selection(role, epoch) == [True] * SAMPLES


def undefined_at(epoch):
    e = evidence()
    entropy = e.maps["S"][1][epoch].entropy
    entropy[2] = math.nan
    e.maps["S"][1][epoch] = maps_of(entropy)
    return e


def test_undefined_samples_are_never_zero():
    """At the end for every metric; on the way for those of the way, at the start on request."""
    for metric in METRICS:
        along, late = metric in ("d_mean", "d_var", "rho"), undefined_at(15)
        found = metric_values(late, "S", metric, Choices())
        assert np.isnan(found[1, 2]) and np.isnan(found).sum() == 1
        assert np.isnan(metric_values(undefined_at(4), "S", metric, Choices())).sum() == along
        start = undefined_at(0)
        assert np.isfinite(metric_values(start, "S", metric, Choices())).all()
        assert np.isnan(metric_values(start, "S", metric, Choices(untrained=True))).sum() == along


def test_final_entropies_against_a_loop_over_samples():
    """Units without entropy take no part and samples without a map have none."""
    found = evidence()
    entropy = found.maps["S"][0][EPOCHS[-1]].entropy
    entropy[0, 2:4], entropy[2] = math.nan, math.nan
    found.maps["S"][0][EPOCHS[-1]] = maps_of(entropy)
    parts = final_entropies(found, "S")
    masks = found.foreground, ~found.foreground
    for part, mask in zip(parts, masks, strict=True):
        assert part.shape == (SEEDS, SAMPLES) and np.isnan(part[0, 2]) and np.isnan(part).sum() == 1
        for seed, k in {*product(range(SEEDS), range(SAMPLES))} - {(0, 2)}:
            entropy = found.maps["S"][seed][EPOCHS[-1]].entropy[k]
            known = float(entropy[mask[k] & entropy.isfinite()].mean())
            assert part[seed, k] == pytest.approx(known)

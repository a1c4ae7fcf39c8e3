"""The protocol: seeds from its words, margins, and presets that hold what it says."""

import hashlib

import pytest

from kpnb.fingerprint import packed_file
from kpnb.metrics import protocol as module
from kpnb.metrics.protocol import (
    margin,
    primary_metrics,
    protocol,
    protocol_hash,
    protocol_seeds,
)
from kpnb.paper import HYPOTHESES, PREDICTIONS
from kpnb.study.parameters import ImageParameters, resolve


def test_seeds_follow_from_the_words(monkeypatch):
    assert protocol_hash() == hashlib.sha256(packed_file("protocol.yaml").read_bytes()).hexdigest()
    pairs = protocol_seeds("pairs", 21)
    assert len({*pairs}) == 21 and max(pairs) < 10**6 and protocol_seeds("pairs", 5) == pairs[:5]
    digest = hashlib.sha256(f"{protocol_hash()} pairs 0".encode()).digest()
    assert pairs[0] == int.from_bytes(digest[:8], "big") % 10**6
    assert not {*pairs} & {*protocol_seeds("teachers", 3)}
    monkeypatch.setattr(module, "protocol_hash", lambda: "another")
    assert not {*protocol_seeds("pairs", 21)} & {*pairs}


def test_the_study_s_presets_are_what_it_says():
    study, told = resolve(ImageParameters, {"preset": "study"}), protocol()
    assert study.seeds == protocol_seeds("pairs", told["confirmatory"]["pairs"])
    assert study.teachers == protocol_seeds("teachers", told["confirmatory"]["teachers"])
    assert set(study.layers) == set(told["confirmatory"]["layers"])
    for name, value in told["settings"].items():
        assert getattr(study, name) == value, name
    demo = resolve(ImageParameters, {"preset": "demo"})
    differ = {n for n, v in told["settings"].items() if getattr(demo, n) != v}
    assert differ <= {"samples", "followed"}  # the demo is a smaller study of the same regime


def test_primary_metrics_are_one_a_hypothesis_and_their_sides_the_paper_s():
    told = protocol()["primary"]
    assert primary_metrics() == ("n_fg", "lambda", "d_mean", "rho")
    assert {HYPOTHESES[m] for m in told} == {1, 2, 3}
    assert all(
        (told[m]["hypothesis"], told[m]["side"]) == (HYPOTHESES[m], PREDICTIONS[m]) for m in told
    )


@pytest.mark.parametrize(
    "metric, baseline, known",
    [("n_fg", 20.0, 2.0), ("d_var", -3.0, 0.3), ("lambda", 0.6, 0.02), ("rho", 9.0, 0.03)],
)
def test_margins(metric, baseline, known):
    assert margin(metric, baseline) == pytest.approx(known)

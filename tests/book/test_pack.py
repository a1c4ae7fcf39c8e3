"""Packs hold what kpnb counts; the committed ones what their networks keep."""

import re
import shutil
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from conftest import made_evidence
from packs import committed_packs, made_pack
from safetensors.torch import load_file
from studied import MODALITIES

from book.make import explorer, pack
from book.make.__main__ import CHECKOUT
from book.make.pack import EDGES, NO_RANK, PER_NAT, counted, pack_path, packed
from kpnb.errors import KpnbError
from kpnb.estimator.loss import GAUSSIAN_ENTROPY
from kpnb.metrics.points import knowledge_points
from kpnb.metrics.results import Results, freshness, results_root
from kpnb.run.machine import study_of
from kpnb.study.parameters import models_for, resolve

MARKS = {kind: [pytest.mark.long] for kind in MODALITIES[1:]}
KINDS = [pytest.param(kind, marks=MARKS.get(kind, [])) for kind in MODALITIES]
RECIPES = re.findall(
    r"```python\n(.*?)```", (CHECKOUT / "book" / "explorer.md").read_text("utf-8"), re.DOTALL
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pack_holds_what_kpnb_counts_at_every_position_of_the_slider(kind, all_studies):
    """Other thresholds than those that the build checks, by other ways of kpnb."""
    studied = all_studies(kind)
    found, evidence = made_pack(studied), studied.evidence
    explorer.check_counts(found)
    many, layer = len(found["samples"]), studied.layer
    assert many == min(pack.SAMPLES, studied.study.parameters.samples)
    for position, role in product((1, 7, 20, 33, 50, 100), "TSB"):
        told = explorer.page_counts(found, layer, role, position)
        b, (by_epoch,) = position / PER_NAT, evidence.maps[role]
        assert told == counted(evidence, role, b, many)
        points = knowledge_points(by_epoch[max(by_epoch)], evidence.foreground, b)
        assert told["n_fg"][-1] == points.n_fg[:many].tolist()
        assert told["lambda"] == points.ratio[:many].tolist()


def test_ranks_decide_at_an_edge_and_without_a_map_as_kpnb_does():
    """H_bar - H_i is b itself, or next to it; a unit and a sample take no part."""
    b = torch.tensor(0.2)
    entropy = torch.zeros(3, 6)
    near = torch.stack([b, torch.nextafter(b, b + 1), torch.nextafter(b, b - 1)])
    entropy[0, :3] = -near
    entropy[0, 3], entropy[1] = torch.nan, torch.nan
    foreground = torch.arange(6).expand(3, 6) < 4
    points = knowledge_points(entropy, foreground, 0.2)
    ranks = pack.ranks(points).long()
    held = (ranks != pack.NO_RANK) & (ranks > 20 - pack.LOWEST)
    assert torch.equal(held, points.kinds != 0)
    assert held[0].tolist() == [False, True, False, False, False, False]
    assert (ranks[1] == pack.NO_RANK).all() and ranks[0, 3] == pack.NO_RANK


def test_samples_without_a_map_at_a_checkpoint_have_no_rho_and_points_over_all_samples():
    """A sample is lost at epoch 1; the mean of the final network runs over samples not followed."""
    evidence = made_evidence()
    lost = evidence.maps["S"][0][1]
    sigma = lost.sigma.clone()
    sigma[1], lost.feature_variance[1] = torch.nan, 0
    shallow = torch.full((8, 16), -GAUSSIAN_ENTROPY + 0.3).exp()
    last = evidence.maps["S"][0][2]
    longer = replace(last, sigma=torch.cat([last.sigma[:4], shallow[:4]]))
    few = {0: evidence.maps["S"][0][0][:4], 1: replace(lost, sigma=sigma)[:4], 2: longer}
    evidence = replace(evidence, maps={"S": [few], "B": evidence.maps["B"]})
    assert evidence.followed == 4
    held = pack._layer(evidence, 0.2, 4, 16)
    marks = "1" * 8 + "0" * 8
    found = {"layers": {"FC1": held}, "samples": [{"foreground": marks}] * 4}
    explorer.check_counts(found)
    told = explorer.page_counts(found, "FC1", "S", 20)
    assert told["rho"] == [1.0, None, 1.0, 1.0] and told["n_fg"][1] == [6, None, 6, 6]
    # H_bar is -0.125 nats over the samples followed, 0.0875 over all; points have -1
    told = explorer.page_counts(found, "FC1", "S", 90)
    assert told["n_fg"] == [[0] * 4, [0, None, 0, 0], [0] * 4, [6] * 4]
    assert told["rho"] == [0, None, 0, 0]


def test_what_the_store_does_not_hold_is_one_sentence_and_nothing_is_written(
    smoke, tmp_path, monkeypatch, capsys
):
    given = ["image_h1", "--preset", "smoke", "--weights", "FC1", "-p", "device=cpu"]
    monkeypatch.setenv("KPNB_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("KPNB_STORE", str(tmp_path / "empty"))
    assert pack.main(given) == 2
    told = capsys.readouterr().err
    assert "has no entry networks/" in told and told.count("\n") == 1
    assert not list(tmp_path.iterdir())
    # an entry of another content is told, and stays
    damaged = shutil.copytree(smoke.root, tmp_path / "damaged")
    file = next(damaged.glob("maps/*/tensors.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    monkeypatch.setenv("KPNB_STORE", str(damaged))
    assert pack.main(given) == 2 and "is damaged" in capsys.readouterr().err and file.exists()
    before = {path: path.stat().st_mtime_ns for path in smoke.root.rglob("*")}
    monkeypatch.setenv("KPNB_STORE", str(smoke.root))
    assert pack.main(given) == 0
    assert {path: path.stat().st_mtime_ns for path in smoke.root.rglob("*")} == before
    (found,) = explorer.read_packs()
    kept = Results.model_validate(found["run"])
    assert freshness(kept) == "fresh" and {"EntropyEstimator", "embedded_images"} <= {
        *kept.provenance["code"]
    }
    assert found["file"] == "book/results/pack/image_vgg_11.json"
    weights = load_file(results_root() / "pack" / "image_vgg_11.safetensors")
    seed, last = smoke.study.parameters.seeds[0], {}
    for role in "TSB":
        (_, state) = max(smoke.study.of(role, seed, "FC1").states.items(), key=lambda one: one[0])
        last |= {f"{role}/{name}": value for name, value in state.items()}
    assert weights.keys() == last.keys()
    assert all(torch.equal(weights[name], value) for name, value in last.items())
    assert len(found["entries"]) == 6 and {e.split("/")[0] for e in found["entries"]} == {
        "maps",
        "networks",
    }


def test_only_embedded_samples_and_thresholds_of_the_slider_are_packed(smoke):
    for changed, told in (({"data": "/cub"}, "only embedded"), ({"threshold": 0.123}, "slider")):
        parameters = smoke.study.parameters.model_copy(update=changed)
        with pytest.raises(KpnbError, match=told):
            packed(replace(smoke.study, parameters=parameters), "image_h1")


def test_the_entropies_of_all_samples_and_seeds_give_every_count_again(all_studies):
    """Three pairs share two teachers: the first has the teacher's maps, the second others."""
    one = all_studies("image").evidence
    maps = {role: one.maps[role] * 3 for role in "SB"}
    maps["T"] = [*one.maps["T"], *one.maps["B"], *one.maps["T"]]
    three = replace(one, maps=maps, distance={}, teachers=(5, 7, 5))
    found = pack.entropies({"FC1": three})
    seeds = {"S": range(3), "B": range(3), "T": range(2)}
    for role, b in product("TSB", (0.07, 0.2, 1.0)):
        ranks = found[f"FC1 {role}"]
        points = (ranks != pack.NO_RANK) & (ranks > round(b * PER_NAT) - pack.LOWEST)
        counts = [three.points(role, seed, None, b).n_fg.tolist() for seed in seeds[role]]
        assert (points & found["foreground"]).sum(-1).tolist() == counts


# What is committed


def test_the_pages_recipe_counts_what_the_results_file_holds_of_every_image_and_pair(monkeypatch):
    code, names = RECIPES[0], {}
    monkeypatch.chdir(CHECKOUT)
    assert "b = 0.3 " in code
    exec(code.replace("b = 0.3 ", "b = 0.2 "), names)  # the threshold of the results file
    (_, (first, *_)) = next(iter(committed_packs(monkeypatch)))
    held = {(v.layer, v.role, v.metric): v.by_seed for v in first.values}
    for role in "SB":
        told = [" ".join(map(str, row)) for row in names["n_fg"][role].tolist()]
        assert told == held["FC1", role, "n_fg"] and len(told) == 21


def with_weights(monkeypatch):
    """The committed packs beside which the weights of the first pair lie."""
    for one, _ in committed_packs(monkeypatch):
        file = pack_path(one).with_suffix(".safetensors")
        if file.is_file():
            yield one, load_file(file)


def test_committed_weights_keep_what_the_pack_says(monkeypatch):
    """H_bar runs over all images: some number for it gives the rank of every unit of a few."""
    asked = 0
    for one, weights in with_weights(monkeypatch):
        settings = one["run"]["settings"] | {"device": "cpu"}
        notebook = one["run"]["notebook"]
        study = study_of(resolve(models_for(notebook), settings))
        few = study.data.measured.subset(range(2))
        held = np.load(pack_path(one).with_suffix(".npz"))
        for role in "TSB":
            net = study.container(role, one["seed"])
            own = {n.removeprefix(f"{role}/"): w for n, w in weights.items()}
            net.load_state_dict({n: own[n] for n in net.state_dict()})
            entropy = study.explain(study.explainer("FC1"), net.eval(), few).entropy.double()
            ranks = torch.from_numpy(held[f"FC1 {role}"][0, :2]).long()
            lower, upper = EDGES[ranks - 1] + entropy, EDGES[ranks] + entropy
            assert (ranks != NO_RANK).all() and lower.max() <= upper.min() + 1e-5
            asked += 1
    assert asked >= 3


def test_the_pages_second_recipe_finds_more_points_in_the_student(monkeypatch):
    names = {}
    monkeypatch.chdir(CHECKOUT)
    exec(RECIPES[1].replace("100,", "20,"), names)
    assert {*names["n_fg"]} == {*"TSB"}
    assert names["n_fg"]["S"] > names["n_fg"]["B"]

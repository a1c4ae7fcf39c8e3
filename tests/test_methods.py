"""The four methods against closed forms, the published procedure and each other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import (
    CONSTANT,
    column_norms,
    conv_net,
    generator,
    images,
    linear_net,
    linear_optimum,
    linear_path,
    published_descent,
    smooth_images,
    spearman,
    square_images,
    trained_conv_net,
)
from torch import nn

import kpnb.methods
from kpnb.entropy import EntropyEstimator
from kpnb.features import FeatureReader
from kpnb.methods import METHODS
from kpnb.noise import normal, sample_keys
from kpnb.sensitivity import Perturbation, Sensitivity, sensitivity
from kpnb.units import GridUnits

UNITS = GridUnits(4)
# The public code's step size for 256 cells: the pull of the entropy on a cell is 1 / cells.
LR = 1e-4 * 16 / 256
QUICK = {
    "units": UNITS,
    "probes": 8,
    "draws": 6,
    "iterations": 6,
    "extra_iterations": 3,
    "lr": LR,
    "descent_iterations": 50,
}


def explain(net, x, layer="7", **changes):
    return EntropyEstimator(layer, **QUICK | changes).explain(net, x)


# --- a linear feature: the closed forms -------------------------------------------------------

D = 10
SETTINGS = {
    "path": {"probes": D},
    "optimum": {"probes": D},
    "published": {"draws": 96, "lr": LR / 4, "iterations": 240, "extra_iterations": 0},
    "descent": {"draws": 200, "descent_iterations": 400},
}


def error_on_linear_net(method, weight=7.0, target=-2.8, **changes):
    """Mean absolute difference to the closed form of f(x) = W x + c, nats, worst sample."""
    net, x = linear_net(D), images(2, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    path = method in ("path", "published")
    known = linear_path(J, weight, target) if path else linear_optimum(J, weight)
    chosen = {"units": UNITS, "relu": False, "target_entropy": target, "entropy_weight": weight}
    found = EntropyEstimator("1", method=method, **chosen | SETTINGS[method] | changes)
    maps = found.explain(net, x)
    assert maps.reached.all() and maps.defined.all()
    return float((maps.entropy - torch.tensor(known)).abs().mean(1).max())


@pytest.mark.parametrize("method", ["path", "optimum"])
@pytest.mark.parametrize("weight, target", [(7.0, -2.8), (6.0, -2.9), (6.0, -2.7)])
def test_closed_forms_are_exact_with_as_many_probes_as_dimensions(method, weight, target):
    assert error_on_linear_net(method, weight, target) < 1e-6


@pytest.mark.parametrize("chunk", [2, 7, 1000])
def test_closed_forms_are_exact_for_any_chunk_and_number_of_evaluations(chunk):
    for evaluations in (1, 3):
        assert error_on_linear_net("path", chunk=chunk, evaluations=evaluations) < 1e-6


def test_twice_as_many_probes_as_dimensions_are_exact_too():
    assert error_on_linear_net("path", probes=2 * D) < 1e-6


@pytest.mark.parametrize("method", ["published", "descent"])
def test_descents_reach_the_closed_forms(method):
    assert error_on_linear_net(method) < 0.03


def mutants():
    """(method, name in kpnb.methods, what replaces it): one wrong constant each."""
    flow, rate = kpnb.methods._flow, kpnb.methods._rate
    slope, variance = kpnb.methods._change_gradient, kpnb.methods._feature_variance

    def half_rate(*given):
        found, change = rate(*given)
        return found / 2, change

    return [
        ("path", "_flow", lambda sigma, r, *rest: flow(sigma, 2 * r, *rest)),
        ("path", "_flow", lambda sigma, r, weight, time: flow(sigma, r, weight / 2, time)),
        ("path", "_rate", half_rate),
        ("optimum", "_rate", half_rate),
        ("published", "_change_gradient", lambda *given: slope(*given) / 2),
        ("descent", "_change_gradient", lambda *given: slope(*given) / 2),
        ("descent", "_feature_variance", lambda *given: variance(*given) * 2),
    ]


@pytest.mark.parametrize("number", range(7))
def test_a_wrong_constant_is_noticed(number, monkeypatch):
    method, name, wrong = mutants()[number]
    monkeypatch.setattr(kpnb.methods, name, wrong)
    assert error_on_linear_net(method) > 0.03


# --- the published procedure, step by step ----------------------------------------------------


def twin(net, layer, x, seed=0, relu=True, **changes):
    """The naive procedure on every image, fed with kpnb's noise."""
    chosen = {name: QUICK[name] for name in ("draws", "lr", "iterations", "extra_iterations")}
    with FeatureReader(net, layer, relu) as reader:
        return [
            published_descent(
                lambda rows: reader(lambda: net(rows)),
                image,
                UNITS.cells,
                lambda stream, k, key=key, image=image: normal(
                    [key], stream, [k], image.shape, image
                )[0, 0],
                **chosen | changes,
            )
            for image, key in zip(x, sample_keys(x, seed), strict=True)
        ]


def assert_equals_twin(net, layer, x, **changes):
    names = {"weight": "entropy_weight", "target": "target_entropy", "init": "init_sigma"}
    expected = twin(net, layer, x, **changes)
    given = {names.get(name, name): value for name, value in changes.items()}
    found = explain(net, x, layer, method="published", **given)
    sigma = torch.stack([descent.sigma for descent in expected])
    torch.testing.assert_close(found.sigma, sigma, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(
        found.feature_variance, found.sigma.new_tensor([d.variance for d in expected])
    )
    return expected


def test_published_equals_the_naive_procedure_after_every_step():
    """A target out of reach keeps the last of ever-rising iterates."""
    net, x = conv_net().double(), images(2, dtype=torch.float64)
    for steps in range(1, 6):
        expected = assert_equals_twin(
            net, "7", x, target=0.0, iterations=steps, extra_iterations=0
        )
        assert all(torch.equal(d.sigma, d.iterates[-1]) for d in expected)


@pytest.mark.parametrize("layer", ["0", "3"])
def test_published_equals_the_naive_procedure_at_convolutions(layer):
    assert_equals_twin(conv_net().double(), layer, images(2, dtype=torch.float64), weight=6.0)


def test_published_keeps_the_iterate_nearest_the_target():
    net, x = conv_net().double(), images(3, dtype=torch.float64)
    expected = assert_equals_twin(net, "7", x, target=-3.1, iterations=8, lr=LR / 2)
    kept = [[torch.equal(d.sigma, s) for s in d.iterates].index(True) for d in expected]
    assert all(0 < number < 7 for number in kept)


def test_published_raises_the_weight_of_late_samples_only():
    net, x = conv_net().double(), images(4, dtype=torch.float64)
    target = -2.955
    expected = assert_equals_twin(net, "7", x, target=target, iterations=8, extra_iterations=5)
    late = [descent.late for descent in expected]
    assert any(late) and not all(late)
    plain = explain(net, x, method="published", target_entropy=target, iterations=13)
    changed = (plain.sigma - torch.stack([d.sigma for d in expected])).abs().amax(1) > 1e-6
    assert changed[late].all()  # the factor 1.5 matters


def test_published_clamps_sigma_on_both_sides():
    net, x = conv_net().double(), images(2, dtype=torch.float64)
    with torch.no_grad():
        net[0].weight[:, :, :, 1:] = 0  # so that the last column of pixels is ignored
    expected = assert_equals_twin(net, "0", x, target=0.5, lr=0.03, iterations=4)
    assert all(descent.clamped for descent in expected)
    touched = torch.stack([s for d in expected for s in d.iterates])
    assert touched.min() == 1e-3 and touched.max() == 1


# --- invariances ------------------------------------------------------------------------------


def rescaled(first, second, seed=0):
    """conv_net with its first convolution times `first`, the weights of the second times `second`,
    where first * second is the scale of what the second returns, up to its bias."""
    net = conv_net(seed=seed).double()
    with torch.no_grad():
        net[0].weight *= first
        net[0].bias *= first
        net[3].weight *= second
    return net


@pytest.mark.parametrize("layer", ["3", "7"])
@pytest.mark.parametrize("method", METHODS)
def test_rescaling_two_neighboring_relu_layers_changes_no_map(method, layer):
    x = images(2, dtype=torch.float64)
    plain = explain(rescaled(1, 1), x, layer, method=method)
    scaled = explain(rescaled(3.7, 1 / 3.7), x, layer, method=method)
    torch.testing.assert_close(plain.entropy, scaled.entropy, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_a_positive_scale_of_the_feature_changes_no_map(method):
    x, net, scaled = images(2, dtype=torch.float64), conv_net().double(), conv_net().double()
    with torch.no_grad():
        scaled[7].weight *= 29.0
        scaled[7].bias *= 29.0
    plain, other = (explain(n, x, method=method) for n in (net, scaled))
    torch.testing.assert_close(plain.entropy, other.entropy, rtol=0, atol=1e-4)
    torch.testing.assert_close(29.0**2 * plain.feature_variance, other.feature_variance)


@pytest.mark.parametrize("method", METHODS)
def test_flipping_images_and_network_flips_the_map(method, monkeypatch):
    """The noise is flipped along, since it hangs on a sample's content."""

    class Flip(nn.Module):
        def forward(self, x):
            return x.flip(-1)

    x, net = images(2, dtype=torch.float64), conv_net().double()
    monkeypatch.setattr("kpnb.entropy.sample_keys", lambda x, seed: [b"one", b"two"][: len(x)])
    plain = explain(net, x, method=method)

    def flipped_noise(keys, stream, draws, shape, like):
        noise = normal(keys, stream, draws, shape, like)
        return noise.flip(-1) if len(shape) == 3 else noise

    monkeypatch.setattr("kpnb.sensitivity.normal", flipped_noise)
    flipped = explain(nn.Sequential(Flip(), *net), x.flip(-1), "8", method=method)
    expected = plain.entropy.view(2, 4, 4).flip(-1).flatten(1)
    torch.testing.assert_close(flipped.entropy, expected, rtol=0, atol=1e-8)
    assert not torch.allclose(flipped.entropy, plain.entropy, atol=0.05)


def terms(units, size=8):
    net, x = conv_net(size), images(2, size)
    with FeatureReader(net, "7", relu=True) as reader:
        p = Perturbation(
            reader, units.problem(net, x), units, torch.arange(2), sample_keys(x, 0), 64
        )
        return sensitivity(p, torch.full((2, units.cells**2), 0.01), range(16))


def test_a_cell_is_as_sensitive_as_its_pixels_together():
    pixels, cells = terms(GridUnits(8)), terms(GridUnits(4))
    for name in ("jacobian", "kink"):
        summed = UNITS.gather(getattr(pixels, name).view(2, 1, 8, 8))
        torch.testing.assert_close(summed, getattr(cells, name), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(pixels.change, cells.change)


@pytest.mark.parametrize("method", METHODS)
def test_a_grid_that_does_not_divide_the_image(method):
    x = torch.randn(2, 3, 17, 23, generator=generator(0))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    maps = explain(net, x, "3", method=method)
    assert maps.entropy.shape == (2, 16) and maps.entropy.isfinite().all()


# --- what does not matter: batch, order, chunk ------------------------------------------------

SAMPLES = images(5)
NET = conv_net()
LONG = {"iterations": 8, "descent_iterations": 200, "tolerance": 0.028}
WHOLE = {}


def whole(method):
    if method not in WHOLE:
        WHOLE[method] = explain(NET, SAMPLES, method=method, **LONG)
    return WHOLE[method]


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(order=st.permutations(range(5)), taken=st.integers(1, 5), chunk=st.integers(2, 60))
def test_neither_batch_nor_order_nor_chunk_changes_a_map(method, order, taken, chunk):
    """Chunks from 2 on are smaller than the 8 probes or 6 draws of one sample."""
    chosen = list(order[:taken])
    found = explain(NET, SAMPLES[chosen], method=method, chunk=chunk, **LONG)
    torch.testing.assert_close(found.entropy, whole(method).entropy[chosen], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.feature_variance, whole(method).feature_variance[chosen])
    assert torch.equal(found.reached, whole(method).reached[chosen])


def test_descent_ends_sample_by_sample():
    """One sample is done earlier than another, and stays where it was."""
    early = explain(NET, SAMPLES, method="descent", **LONG | {"descent_iterations": 100})
    assert early.reached.any() and not early.reached.all()
    done, late = whole("descent").entropy, ~early.reached
    assert torch.equal(done[early.reached], early.entropy[early.reached])
    assert not torch.equal(done[late], early.entropy[late])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_call_gives_the_same_bits_and_another_seed_other_ones(method):
    first, again, other = (explain(NET, SAMPLES, method=method, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.sigma, again.sigma)
    assert torch.equal(first.feature_variance, again.feature_variance)
    assert not torch.allclose(first.entropy, other.entropy, atol=1e-3)


def test_equal_images_get_equal_maps_wherever_they_stand():
    x = SAMPLES[[0, 1, 0]]
    found = explain(NET, x).entropy
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


# --- degenerate cases -------------------------------------------------------------------------


def net_that_ignores(cell):
    net, x = linear_net(D), images(1, dtype=torch.float64)
    pixels = UNITS.spread(torch.eye(16)[[cell]].double(), x).expand_as(x).flatten().bool()
    with torch.no_grad():
        net[1].weight[:, pixels] = 0
    return net, x


@pytest.mark.parametrize("method", ["optimum", "descent"])
def test_an_ignored_unit_goes_to_the_largest_sigma(method):
    net, x = net_that_ignores(5)
    maps = explain(net, x, "1", method=method, relu=False, descent_iterations=400)
    assert maps.sigma[0, 5] == pytest.approx(1.0) and maps.entropy[0, 5] == pytest.approx(CONSTANT)
    assert (maps.sigma[0].sort().values[:-1] < 0.1).all()


@pytest.mark.parametrize("method", ["path", "published"])
def test_an_ignored_unit_grows_fastest_on_the_path(method):
    net, x = net_that_ignores(5)
    maps = explain(net, x, "1", method=method, relu=False, iterations=60)
    assert maps.sigma[0].argmax() == 5 and maps.sigma[0, 5] < 1
    assert maps.reached.all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_feature_is_undefined(method, dtype):
    """Not 0 and not the start, also where batches of different size round differently."""
    net, x = conv_net(16, outputs=32).to(dtype), images(2, 16, dtype=dtype)
    with torch.no_grad():
        net[0].weight.zero_()
    for layer in ("0", "3", "7"):
        maps = explain(net, x, layer, method=method)
        assert not maps.defined.any() and not maps.reached.any()
        assert maps.entropy.isnan().all() and maps.mean_entropy.isnan().all()


@pytest.mark.parametrize("method", METHODS)
def test_a_dead_sample_leaves_the_others_alone(method):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    with torch.no_grad():
        net[1].weight.copy_(torch.rand(4, 192, generator=generator(0)))
        net[1].bias.fill_(-20)
    x = images(3).abs()
    x[1] = 0
    maps = explain(net, x, "1", method=method)
    assert maps.defined.tolist() == [True, False, True]
    assert maps.entropy[1].isnan().all() and not maps.reached[1]
    alone = explain(net, x[[2]], "1", method=method)
    torch.testing.assert_close(maps.entropy[[2]], alone.entropy, rtol=0, atol=1e-4)


def test_a_target_out_of_reach_is_reported():
    net, x = linear_net(D), images(1, dtype=torch.float64)
    J = column_norms(net[1].weight.detach(), x.shape[1:], UNITS.cells)
    end = torch.tensor(linear_optimum(J, 7.0))
    maps = explain(net, x, "1", relu=False, probes=D, target_entropy=1.0)
    assert not maps.reached.any()
    torch.testing.assert_close(maps.entropy[0], end, rtol=0, atol=1e-6)
    short = explain(net, x, "1", relu=False, method="published", iterations=2, extra_iterations=0)
    assert not short.reached.any() and short.mean_entropy < -3.0


def test_descent_says_when_it_did_not_converge():
    net, x = linear_net(D), images(1, dtype=torch.float64)
    maps = explain(net, x, "1", relu=False, method="descent", tolerance=1e-6)
    assert not maps.reached.any() and maps.defined.all()


# --- path against a precise published descent -------------------------------------------------


def truth(net, x, layer, cells, seeds=3):
    """The mean of published runs with fine steps, and their own mean spread, nats."""
    fine = {"draws": 96, "lr": 1e-4 * cells**2 / 256 / 2, "iterations": 90, "extra_iterations": 0}
    runs = [
        explain(net, x, layer, method="published", units=GridUnits(cells), seed=seed, **fine)
        for seed in range(100, 100 + seeds)
    ]
    assert all(run.reached.all() for run in runs)
    return sum(run.entropy for run in runs) / seeds


def agreement(found, known):
    """(lowest Spearman of a sample, mean absolute difference in nats)."""
    ranks = min(spearman(a, b) for a, b in zip(found, known, strict=True))
    return ranks, float((found - known).abs().mean())


@pytest.mark.parametrize("layer", ["3", "7"])
def test_path_follows_the_published_descent_on_a_trained_network(layer):
    net, loss = trained_conv_net()
    assert loss < 0.1
    x = square_images(2, seed=77)[0]
    known = truth(net, x, layer, cells=4)
    found = explain(net, x, layer, probes=64)
    ranks, difference = agreement(found.entropy, known)
    print(f"\ntrained, layer {layer}: Spearman {ranks:.3f}, difference {difference:.4f} nats")
    assert found.reached.all()
    assert ranks > 0.9 and difference < 0.03


def test_kinks_are_corrected_for(monkeypatch):
    """Untrained max-pooling over a flat background: shifts of the maximum add up over space."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(4),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
    x = 0.05 * smooth_images(2)
    x[:, :, 4:12, 4:12] += 0.7 * torch.randn(2, 3, 8, 8, generator=generator(7))
    known = truth(net, x, "4", cells=4)
    full = agreement(explain(net, x, "4", probes=64).entropy, known)
    original = kpnb.methods.sensitivity

    def without_kinks(*given):
        s = original(*given)
        return Sensitivity(s.jacobian, torch.zeros_like(s.kink), s.change)

    monkeypatch.setattr(kpnb.methods, "sensitivity", without_kinks)
    jacobian_only = agreement(explain(net, x, "4", probes=64).entropy, known)
    print(f"\nkinks: corrected {full}, Jacobian only {jacobian_only}")
    assert full[0] > 0.9 and full[1] < 0.03
    assert jacobian_only[0] < 0.8 and jacobian_only[1] > 2 * full[1]

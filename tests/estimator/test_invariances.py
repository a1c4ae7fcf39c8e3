"""What changes no map: scale, batch, order, chunk; and what moves it along: a flip."""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from quick import UNITS, explain, perturbed
from reference import conv_net, generator, images, spearman
from torch import nn

from kpnb.estimator.entropy import METHODS
from kpnb.estimator.perturbation import normal, sample_keys
from kpnb.estimator.rates import Directions, measure, response
from kpnb.estimator.units import GridUnits

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
    monkeypatch.setattr(
        "kpnb.estimator.entropy.sample_keys", lambda x, seed: [b"one", b"two"][: len(x)]
    )
    plain = explain(net, x, method=method)

    def flipped_noise(keys, stream, draws, shape, like):
        noise = normal(keys, stream, draws, shape, like)
        return noise.flip(-1) if len(shape) == 3 else noise

    monkeypatch.setattr("kpnb.estimator.perturbation.normal", flipped_noise)
    flipped = explain(nn.Sequential(Flip(), *net), x.flip(-1), "8", method=method)
    expected = plain.entropy.view(2, 4, 4).flip(-1).flatten(1)
    torch.testing.assert_close(flipped.entropy, expected, rtol=0, atol=1e-8)
    assert not torch.allclose(flipped.entropy, plain.entropy, atol=0.01)


def terms(units, size=8):
    p = perturbed(conv_net(size), images(2, size), "7", True, 64, units)
    sigma = torch.full((2, units.cells**2), 0.01)
    found = response(p, sigma, 16)
    return found.change, measure(p, sigma, range(4), Directions(p, found.moving))


def test_a_cell_has_the_rates_of_its_pixels_together():
    (change, pixels), (same, cells) = terms(GridUnits(8)), terms(GridUnits(4))
    for name in ("fluctuation", "shift"):
        summed = UNITS.gather(getattr(pixels, name).view(8, 1, 8, 8)).view(2, 4, 16)
        torch.testing.assert_close(summed, getattr(cells, name), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(change, same)


@pytest.mark.parametrize("method", METHODS)
def test_a_grid_that_does_not_divide_the_image(method):
    x = torch.randn(2, 3, 17, 23, generator=generator(0))
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
    maps = explain(net, x, "3", method=method)
    assert maps.entropy.shape == (2, 16) and maps.entropy.isfinite().all()


# --- what does not matter: batch, order, chunk ------------------------------------------------

# In float32 rounding can flip one of the millions of ReLUs and maxima on a long descent, which
# these few draws and units would show; in float64 only an error does.
SAMPLES = images(5, dtype=torch.float64)
NET = conv_net().double()
LONG = {"iterations": 8, "descent_iterations": 400, "tolerance": 0.1}
WHOLE = {}


def whole(method):
    if method not in WHOLE:
        WHOLE[method] = explain(NET, SAMPLES, method=method, **LONG)
    return WHOLE[method]


@pytest.mark.parametrize("method", METHODS)
@settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],  # shrinking would run for minutes
)
@given(order=st.permutations(range(5)), taken=st.integers(1, 5), chunk=st.integers(2, 60))
def test_neither_batch_nor_order_nor_chunk_changes_a_map(method, order, taken, chunk):
    """Chunks from 2 on are smaller than the 8 probes or 6 draws of one sample."""
    chosen = list(order[:taken])
    found = explain(NET, SAMPLES[chosen], method=method, chunk=chunk, **LONG)
    torch.testing.assert_close(found.entropy, whole(method).entropy[chosen], rtol=0, atol=1e-4)
    torch.testing.assert_close(found.feature_variance, whole(method).feature_variance[chosen])
    torch.testing.assert_close(
        found.standard_error,
        whole(method).standard_error[chosen],
        rtol=0,
        atol=1e-4,
        equal_nan=True,
    )
    assert torch.equal(found.reached, whole(method).reached[chosen])


@pytest.mark.parametrize("method", ["path", "optimum", "published"])
def test_batch_and_chunk_change_no_map_in_single_precision(method):
    net, x = conv_net(), images(4)
    together = explain(net, x, method=method)
    for chunk in (3, 16, 500):
        alone = explain(net, x[[2, 0]], method=method, chunk=chunk)
        torch.testing.assert_close(alone.entropy, together.entropy[[2, 0]], rtol=0, atol=1e-4)


@pytest.mark.parametrize("chunk", [9, 30])
@pytest.mark.parametrize("method", METHODS)
def test_no_pass_has_more_rows_than_the_chunk(method, chunk):
    net, rows = conv_net(), []
    net[0].register_forward_hook(lambda module, args, output: rows.append(len(output)))
    explain(net, images(3), method=method, chunk=chunk, standard_error=1e-9, most_probes=32)
    assert chunk // 2 < max(rows) <= chunk


def test_descent_ends_sample_by_sample():
    """One sample is done earlier than another, and stays where it was."""
    early = explain(NET, SAMPLES, method="descent", **LONG | {"descent_iterations": 100})
    assert early.reached.any() and not early.reached.all()
    done, late = whole("descent").entropy, ~early.reached
    torch.testing.assert_close(done[early.reached], early.entropy[early.reached], rtol=0, atol=1e-8)
    assert not torch.equal(done[late], early.entropy[late])


@pytest.mark.parametrize("method", METHODS)
def test_the_same_call_gives_the_same_bits_and_another_seed_other_ones(method):
    net, x = conv_net(), images(5)
    first, again, other = (explain(net, x, method=method, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.sigma, again.sigma)
    assert torch.equal(first.feature_variance, again.feature_variance)
    assert not torch.allclose(first.entropy, other.entropy, atol=1e-3)


def test_equal_images_get_equal_maps_wherever_they_stand():
    x = SAMPLES[[0, 1, 0]]
    found = explain(NET, x).entropy
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-4)
    assert not torch.allclose(found[0], found[1], atol=1e-2)


def test_noise_is_standard_normal_and_never_the_same_twice():
    like = torch.empty(0, dtype=torch.float64)
    keys = [*sample_keys(SAMPLES[:2], 0), *sample_keys(SAMPLES[:2], 1)]
    drawn = [normal(keys, stream, range(3), (500,), like) for stream in ("input", "probe")]
    rows = torch.cat(drawn).flatten(0, 1)  # 2 streams x 2 seeds x 2 samples x 3 draws
    assert float(rows.mean()) == pytest.approx(0, abs=0.03)
    assert float(rows.var()) == pytest.approx(1, abs=0.05)
    alike = torch.corrcoef(rows) - torch.eye(len(rows))
    assert alike.abs().max() < 0.2


def test_noise_depends_on_content_not_on_memory_layout():
    laid_out = SAMPLES.contiguous(memory_format=torch.channels_last)
    assert sample_keys(laid_out, 0) == sample_keys(SAMPLES.float(), 0) == sample_keys(SAMPLES, 0)
    found = explain(NET, laid_out).entropy
    torch.testing.assert_close(found, explain(NET, SAMPLES).entropy, rtol=0, atol=1e-4)


# --- precision --------------------------------------------------------------------------------


@pytest.fixture
def same_noise(monkeypatch):
    """Noise of float64 is that of float32, which torch draws otherwise."""

    def drawn_single(keys, stream, draws, shape, like):
        return normal(keys, stream, draws, shape, like.float()).to(like.dtype)

    for module in ("kpnb.estimator.perturbation", "kpnb.estimator.rates"):
        monkeypatch.setattr(f"{module}.normal", drawn_single)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("layer", ["3", "7"])
def test_double_precision_changes_no_map(method, layer, same_noise):
    """Bound: 0.002 nats in the mean, of which rounding flips a kink here and there."""
    x = images(3)
    single = explain(conv_net(), x, layer, method=method)
    double = explain(conv_net().double(), x.double(), layer, method=method)
    assert single.sigma.dtype == torch.float32 and double.sigma.dtype == torch.float64
    off = (single.entropy - double.entropy).abs()
    print(f"\n{method}, layer {layer}: {float(off.mean()):.1e}, worst {float(off.max()):.1e} nats")
    assert off.mean() < 2e-3
    torch.testing.assert_close(
        single.feature_variance.double(), double.feature_variance, rtol=0.01, atol=0
    )


@pytest.mark.parametrize("precision, bound", [("bfloat16", 0.08), ("float16", 0.01)])
@pytest.mark.parametrize("layer", ["3", "7"])
def test_mixed_precision_changes_maps_within_a_bound(layer, precision, bound):
    """bfloat16 has 8 bits: its steps between 1 and 2 are 0.008, as large as the noise of 0.01.
    Bound: 0.08 nats in the mean for it, 0.01 for float16."""
    net, x = conv_net(), images(3)
    plain, mixed = (
        explain(net, x, layer, probes=32, autocast=autocast) for autocast in (None, precision)
    )
    off = float((plain.entropy - mixed.entropy).abs().mean())
    ranks = min(spearman(a, b) for a, b in zip(plain.entropy, mixed.entropy, strict=True))
    print(f"\n{precision}, layer {layer}: {off:.4f} nats, Spearman {ranks:.3f}")
    assert 1e-6 < off < bound and ranks > 0.9  # it is used, and it is good enough
    assert mixed.sigma.dtype == torch.float32 and mixed.reached.all()

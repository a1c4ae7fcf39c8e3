"""Noise hangs on a sample's content alone: no batch, order, chunk or precision changes a map."""

from functools import cache, partial

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from quick import Applied, explain
from reference import conv_net, images, spearman
from refusals import refused
from torch import nn

from kpnb.estimator.entropy import METHODS
from kpnb.estimator.perturbation import normal, sample_keys

# In float32 rounding can flip one of the millions of ReLUs and maxima on a long descent, which
# these few draws and units would show; in float64 only an error does.
SAMPLES = images(5, dtype=torch.float64)
NET = conv_net().double()
LONG = {"iterations": 8, "descent_iterations": 400, "tolerance": 0.1}


@cache
def whole(method):
    return explain(NET, SAMPLES, method=method, **LONG)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=3, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
@given(order=st.permutations(range(5)), taken=st.integers(1, 5), chunk=st.integers(2, 60))
def test_neither_batch_nor_order_nor_chunk_changes_a_map(method, order, taken, chunk):
    """Chunks from 2 on are smaller than the 8 probes or 6 draws of one sample."""
    chosen, known = list(order[:taken]), whole(method)[list(order[:taken])]
    found = explain(NET, SAMPLES[chosen], method=method, chunk=chunk, **LONG)
    close = partial(torch.testing.assert_close, rtol=0, atol=1e-4, equal_nan=True)
    close(found.entropy, known.entropy)
    close(found.standard_error, known.standard_error)
    torch.testing.assert_close(found.feature_variance, known.feature_variance)
    assert torch.equal(found.reached, known.reached)


@pytest.mark.parametrize("method", METHODS)
def test_no_pass_has_more_rows_than_the_chunk(method):
    net, rows, chunk = conv_net(), [], 9
    net[0].register_forward_hook(lambda module, args, output: rows.append(len(output)))
    explain(net, images(2), method=method, chunk=chunk, standard_error=1e-9, most_probes=32)
    assert chunk // 2 < max(rows) <= chunk


@pytest.mark.parametrize("method", METHODS)
def test_the_same_call_gives_the_same_bits_and_another_seed_other_ones(method):
    """Equal images get equal maps wherever they stand."""
    net, x = conv_net(), images(2)[[0, 1, 0]]
    first, again, other = (explain(net, x, method=method, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.sigma, again.sigma)
    assert torch.equal(first.feature_variance, again.feature_variance)
    assert not torch.allclose(first.entropy, other.entropy, atol=1e-3)
    torch.testing.assert_close(first.entropy[0], first.entropy[2], rtol=0, atol=1e-3)
    assert not torch.allclose(first.entropy[0], first.entropy[1], atol=1e-2)


def test_noise_is_standard_normal_of_the_content_and_never_the_same_twice():
    like = torch.empty(0, dtype=torch.float64)
    keys = [*sample_keys(SAMPLES[:2], 0), *sample_keys(SAMPLES[:2], 1)]
    drawn = [normal(keys, stream, range(3), (500,), like) for stream in ("input", "probe")]
    rows = torch.cat(drawn).flatten(0, 1)  # 2 streams x 2 seeds x 2 samples x 3 draws
    assert float(rows.mean()) == pytest.approx(0, abs=0.03)
    assert float(rows.var()) == pytest.approx(1, abs=0.05)
    alike = torch.corrcoef(rows) - torch.eye(len(rows))
    assert alike.abs().max() < 0.2
    laid_out = SAMPLES.contiguous(memory_format=torch.channels_last)
    assert sample_keys(laid_out, 0) == sample_keys(SAMPLES.float(), 0) == sample_keys(SAMPLES, 0)
    found = explain(NET, laid_out).entropy
    torch.testing.assert_close(found, explain(NET, SAMPLES).entropy, rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_double_precision_changes_no_map(method, monkeypatch):
    """0.002 nats: rounding flips a kink here and there. Noise of float64 is that of float32."""

    def drawn_single(keys, stream, draws, shape, like):
        return normal(keys, stream, draws, shape, like.float()).to(like.dtype)

    for module in ("kpnb.estimator.perturbation", "kpnb.estimator.rates"):
        monkeypatch.setattr(f"{module}.normal", drawn_single)
    x = images(3)
    single, double = explain(conv_net(), x, method=method), explain(NET, x.double(), method=method)
    assert single.sigma.dtype == torch.float32 and double.sigma.dtype == torch.float64
    assert (single.entropy - double.entropy).abs().mean() < 2e-3
    variance = single.feature_variance.double()
    torch.testing.assert_close(variance, double.feature_variance, rtol=0.01, atol=0)


@pytest.mark.parametrize("precision, bound", [("bfloat16", 0.08), ("float16", 0.01)])
@pytest.mark.parametrize("layer", ["3", "7"])
def test_mixed_precision_changes_maps_within_a_bound(layer, precision, bound):
    """bfloat16 has 8 bits: its steps between 1 and 2 are 0.008, as large as the noise of 0.01."""
    net, x = conv_net(), images(3)
    plain, mixed = (explain(net, x, layer, probes=32, autocast=how) for how in (None, precision))
    off = float((plain.entropy - mixed.entropy).abs().mean())
    ranks = min(spearman(a, b) for a, b in zip(plain.entropy, mixed.entropy, strict=True))
    assert 1e-6 < off < bound and ranks > 0.9  # nats; it is used, and it is good enough
    assert mixed.sigma.dtype == torch.float32 and mixed.reached.all()


NO_MEMORY = MemoryError(), torch.OutOfMemoryError(), RuntimeError("can't allocate memory: 9 bytes")


@pytest.mark.parametrize("error", [*NO_MEMORY, RuntimeError("shapes do not match")])
def test_running_out_of_memory_names_the_chunk_setting(error):
    """Other runtime errors stay what they are."""

    def greedy(x):
        if len(x) > 4:
            raise error
        return x.flatten(1)

    net = nn.Sequential(Applied(greedy))
    other = "shapes" in str(error)
    with pytest.raises(RuntimeError, match="shapes") if other else refused("chunk=8"):
        explain(net, images(2), "0", chunk=8)
    assert explain(net, images(2), "0", chunk=4).defined.all()

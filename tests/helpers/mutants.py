"""Wrong constants and wrong measurements of the rates, which tests must notice."""

import torch

import kpnb.estimator.closed_form
import kpnb.estimator.rates


def no_mehler_product(monkeypatch):
    """A in place of V: the mean squared Jacobian."""

    def squares_only(along):
        one, two = along[0][:, :, :2], along[0][:, :, 2:]
        shared = (one.square() + two.square()).sum(2) / 2
        own = sum(gradient.square().sum(2) for gradient in along[1:])
        return (shared + own) / kpnb.estimator.rates.BLOCK_DIRECTIONS

    monkeypatch.setattr(kpnb.estimator.rates, "_fluctuation", squares_only)


def no_shift(monkeypatch):
    """C = 0."""
    original = kpnb.estimator.closed_form.measure

    def measure(*given):
        rates = original(*given)
        return kpnb.estimator.rates.Rates(
            rates.fluctuation, torch.zeros_like(rates.shift), rates.sigma
        )

    monkeypatch.setattr(kpnb.estimator.closed_form, "measure", measure)


def neither(monkeypatch):
    """What the Jacobian alone says."""
    no_mehler_product(monkeypatch)
    no_shift(monkeypatch)


def scale(monkeypatch, module, name, position, factor):
    """A function's result, or its argument at a position, times a factor."""
    original = getattr(module, name)

    def wrong(*given):
        if position is None:
            return factor * original(*given)
        return original(*given[:position], factor * given[position], *given[position + 1 :])

    monkeypatch.setattr(module, name, wrong)

"""Wrong measurements of the rates, which tests must notice."""

import torch

import kpnb.closed_forms
import kpnb.rates


def no_mehler_product(monkeypatch):
    """A in place of V: the mean squared Jacobian."""

    def squares_only(along):
        one, two = along[0][:, :, :2], along[0][:, :, 2:]
        shared = (one.square() + two.square()).sum(2) / 2
        own = sum(gradient.square().sum(2) for gradient in along[1:])
        return (shared + own) / kpnb.rates.BLOCK_DIRECTIONS

    monkeypatch.setattr(kpnb.rates, "_fluctuation", squares_only)


def no_shift(monkeypatch):
    """C = 0."""
    original = kpnb.closed_forms.measure

    def measure(*given):
        rates = original(*given)
        return kpnb.rates.Rates(rates.fluctuation, torch.zeros_like(rates.shift), rates.sigma)

    monkeypatch.setattr(kpnb.closed_forms, "measure", measure)


def neither(monkeypatch):
    """What the Jacobian alone says."""
    no_mehler_product(monkeypatch)
    no_shift(monkeypatch)

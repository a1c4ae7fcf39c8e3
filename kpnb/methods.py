"""Five ways from a layer's answer to noise to one sigma per input unit.

All minimize, or follow the descent of, the loss of Eq. 3-4 in the normalization of the public code
(difference 1 of the book's list):

    L(sigma) = E||f(x + sigma eps) - f(x)||^2 / sigma_f^2 - weight * mean_i H_i
    H_i = log sigma_i + 0.5 log(2 pi e)                                              [nats]

Each method maps a Perturbation of n samples to an Outcome: sigma (n, units), sigma_f^2 (n,),
whether it got where it should, and the standard error of H. sigma stays in [0.001, 1], as in the
public code.
"""

from __future__ import annotations

from collections.abc import Callable

from kpnb.closed_forms import optimum, path
from kpnb.descents import descent, published, reference
from kpnb.options import Options, Outcome
from kpnb.perturbation import Perturbation

METHODS: dict[str, Callable[[Perturbation, Options], Outcome]] = {
    "path": path,
    "published": published,
    "optimum": optimum,
    "descent": descent,
    "reference": reference,
}

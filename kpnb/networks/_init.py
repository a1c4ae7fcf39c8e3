"""Initial weights from an explicit seed; the caller's random state is left alone."""

import torch
from torch import nn


def initialize(root: nn.Module, seed: int, linear: str) -> None:
    """Set every weight below `root` from `seed`; equal seeds give equal weights.

    Convolutions: Kaiming normal by fan-out, bias 0; batch norm: scale 1, shift 0 (published code).
    linear="published": N(0, 0.01), bias 0, as in the published code. It keeps the signal alive
    only for wide layers: with n inputs a ReLU layer multiplies the signal by about
    0.01 sqrt(n / 2), that is 1.1 for VGG's 25,088 inputs but 0.11 for 256. linear="kaiming":
    Kaiming normal by fan-in keeps it at any width, hence its use for the narrow networks.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in root.modules():
        _initialize_one(module, generator, linear)


def _initialize_one(module: nn.Module, generator: torch.Generator, linear: str) -> None:
    """Set the module's own parameters and buffers, not its children's."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(
            module.weight, mode="fan_out", nonlinearity="relu", generator=generator
        )
    elif isinstance(module, nn.Linear) and linear == "kaiming":
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.01, generator=generator)
    elif isinstance(module, nn.BatchNorm2d):
        module.reset_parameters()  # draws nothing; also resets the running statistics
    elif next(module.parameters(recurse=False), None) is not None:
        raise NotImplementedError(f"no initial values known for {type(module).__name__}")
    if getattr(module, "bias", None) is not None:
        nn.init.zeros_(module.bias)

"""Noise that belongs to a sample, not to its place in a batch.

Every draw is made by a generator seeded with a hash of (sample content, seed, stream, draw number).
So neither the batch, nor its order, nor how work is cut into chunks changes a sample's noise; the
same image gets the same noise in every network and epoch, which makes comparisons paired; and the
same call gives the same bits on one machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def sample_keys(x: Tensor, seed: int) -> list[bytes]:
    """One key per sample of x (samples, ...): a hash of its float32 content and of the seed."""
    content = x.detach().to("cpu", torch.float32).contiguous().numpy()
    return [
        hashlib.blake2b(sample.tobytes() + str(seed).encode(), digest_size=16).digest()
        for sample in content
    ]


def normal(
    keys: Sequence[bytes], stream: str, draws: Sequence[int], shape: Sequence[int], like: Tensor
) -> Tensor:
    """Standard normal noise (samples, draws, *shape) with the dtype and device of `like`.

    stream names the purpose, so that input noise and probes never share numbers.
    """
    noise = torch.empty((len(keys), len(draws), *shape), dtype=like.dtype, device=like.device)
    generator = torch.Generator(device=like.device)
    for row, key in enumerate(keys):
        for column, draw in enumerate(draws):
            generator.manual_seed(_seed(key, stream, draw))
            noise[row, column].normal_(generator=generator)
    return noise


def _seed(key: bytes, stream: str, draw: int) -> int:
    digest = hashlib.blake2b(key + f"{stream}/{draw}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1

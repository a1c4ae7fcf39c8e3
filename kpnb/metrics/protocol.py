"""The protocol of the confirmatory study: what was decided before its networks were trained.

`presets/protocol.yaml` is the text; its SHA-256 is printed with the results, and the seeds follow
from it: whoever changes a word has other seeds, which no run has.
"""

import hashlib
from functools import cache

import yaml

from kpnb.fingerprint import packed_file

FILE = "protocol.yaml"
#: Seeds are below this: short enough to be read aloud.
SEEDS_BELOW = 10**6


@cache
def protocol() -> dict:
    """The protocol's content."""
    return yaml.safe_load(_text())


@cache
def protocol_hash() -> str:
    """SHA-256 of the protocol's text, hexadecimal."""
    return hashlib.sha256(_text().encode()).hexdigest()


def protocol_seeds(purpose: str, count: int) -> tuple[int, ...]:
    """`count` different seeds for a purpose, from the protocol's hash alone: the first numbers of
    SHA-256 over hash, purpose and 0, 1, ..."""
    found: dict[int, None] = {}
    for number in range(2 * count):
        digest = hashlib.sha256(f"{protocol_hash()} {purpose} {number}".encode()).digest()
        found[int.from_bytes(digest[:8], "big") % SEEDS_BELOW] = None
    return tuple(found)[:count]


def primary_metrics() -> tuple[str, ...]:
    """The metrics that the hypotheses are decided by; the others are reported beside them."""
    return tuple(protocol()["primary"])


def margin(metric: str, baseline: float) -> float:
    """What a difference must be below, on both sides of 0, to count as none: a share of the
    baseline's value, or a number of the metric's own."""
    known = protocol()["margins"][metric]
    return known["absolute"] if "absolute" in known else known["share"] * abs(baseline)


def _text() -> str:
    return packed_file(FILE).read_text(encoding="utf-8")

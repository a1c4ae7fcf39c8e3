"""Where a result was computed, and what it took."""

import json

from kpnb.metrics.provenance import Stopwatch, provenance


def test_provenance_is_json_and_complete():
    told = json.loads(json.dumps(provenance(), allow_nan=False))
    names = {"versions", "platform", "cpu", "threads", "gpu", "commit", "dirty"}
    assert set(told) == names
    assert set(told["versions"]) == {"python", "torch", "torchvision", "numpy", "kpnb"}
    assert told["cpu"] and told["threads"] >= 1


def test_stopwatch():
    with Stopwatch() as watch:
        block = bytearray(64 * 1024**2)
        block[::4096] = b"x" * len(block[::4096])
    told = watch.as_dict()
    assert 0 < told["seconds"] < 60
    assert 64 < told["peak_memory_mib"] < 1024**2
    assert watch.as_dict() == told

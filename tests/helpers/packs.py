"""Packs of studies at the smoke preset, and the committed ones."""

from collections.abc import Iterator
from dataclasses import replace

from book.make import explorer
from book.make.pack import Reader, packed
from kpnb.metrics.results import Results, available_cells, available_results

NOTEBOOKS = {"image": "image_h1", "sentiment": "sentiment_h1", "qa": "qa_h1"}


def made_pack(studied):
    """The pack of a study at the smoke preset."""
    name = NOTEBOOKS.get(studied.kind, "pointcloud_h1")
    made = packed(replace(studied.study, store=Reader(studied.root)), name)
    return made | {"file": "a.json"}


def committed_packs(monkeypatch) -> Iterator[tuple[dict, list[Results]]]:
    """The packs, each with the study's results on the same networks: the notebooks' on Hypothesis 1
    to 3, or those of a sweep's runs."""
    monkeypatch.delenv("KPNB_RESULTS", raising=False)
    study = [*available_results("study"), *available_cells("study")]
    for one in explorer.read_packs():
        asked = one["run"]["settings"]
        yield one, [found for found in study if explorer._same(found.settings, asked)]

"""The sweeps of the preset `paper`: every cell of the paper's image tables, on its own data."""

import pytest

from book.make.chapters import paper_sweeps
from data_prep import coco, cub200, ilsvrc_det, tiny_imagenet, voc2012
from kpnb.paper import published_table
from kpnb.run import sweeps
from kpnb.run.sweeps import Sweeps

PAPER = paper_sweeps()
RUNS = [(name, run) for name, found in PAPER.items() for run in found.runs]
DATA = {reader.NAME: reader.DATASET for reader in (cub200, ilsvrc_det, voc2012, tiny_imagenet)}
DATA |= {coco.NAME: "MSCOCO (10 largest categories)"}


@pytest.mark.parametrize("table", ["II", "III", "IV", "V", "VIII", "IX"])
def test_every_published_cell_has_a_run(table):
    found = PAPER[f"paper_{table.lower()}"]
    assert found.table == table and found.presets == ("paper",)
    keys = ["dataset", "network", "layer"]
    cells = {tuple(row) for row in published_table(table)[keys].itertuples(index=False)}
    reached = set()
    for run in found.runs:
        rows = found.published_rows(run)[keys].itertuples(index=False)
        reached |= {tuple(row) for row in rows}
    assert reached == cells


@pytest.mark.parametrize("name, run", RUNS, ids=[run for _, run in RUNS])
def test_a_run_is_on_the_data_network_and_layer_of_its_rows(name, run):
    found, rows = PAPER[name], PAPER[name].published_rows(run)
    p = found.resolved(run, "paper")
    assert p.scale == "full" and p.recipe == "published" and p.run == run
    if found.runs[run].unpublished:
        return
    assert {row.rstrip("?") for row in rows["dataset"]} == {DATA[p.data]}
    assert set(rows["network"]) == {p.network} and set(rows["layer"]) == set(p.layers)
    augmented = p.data in ("ilsvrc_det", "voc2012") and found.table == "V"
    assert p.augment == ("teacher" if found.table == "IV" else "all" if augmented else "none")
    assert p.pretrained == ("none" if found.table == "IV" else "ImageNet")


@pytest.mark.parametrize("name", PAPER)
def test_a_run_passes_the_check_of_its_notebook(name):
    run = next(iter(PAPER[name].runs))
    assert Sweeps().plan(run, "paper").resolved.preset == "paper"


def test_a_preset_has_its_own_targets(capsys):
    found = Sweeps()
    assert set(PAPER) <= set(found.targets("paper")) and "table_v" not in found.targets("paper")
    assert not set(PAPER) & set(found.targets("study"))
    assert len(found.targets("paper")["all"]) == len(RUNS)
    assert sweeps.main(["paper_v", "--preset", "study"]) == 2
    assert "no sweep or run at study 'paper_v'" in capsys.readouterr().err

"""The facts of the committed study and what they say to the claims, read once a process."""

from functools import cache

import pandas as pd

from book.make.claims import Judged, judge_all
from book.make.frame import frame
from kpnb.metrics.results import available_cells, available_results


@cache
def committed() -> pd.DataFrame:
    """Facts; `of` is the notebook or, of sweeps, the run."""
    rows = frame([*available_results("study"), *available_cells("study")])
    return rows.assign(of=rows["run"].where(rows["run"] != "", rows["notebook"]))


@cache
def judged() -> dict[str, Judged]:
    """Every shipped claim with its evidence, by id."""
    return {one.claim.id: one for one in judge_all(committed())}

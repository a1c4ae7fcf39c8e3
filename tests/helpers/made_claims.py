"""Claims and results made by hand for the page of claims."""

import yaml
from made_results import comparison, run

from book.make import claims
from book.make.frame import frame
from kpnb.metrics.results import Number

LAYERS = ("Conv", "FC1", "FC2", "FC3")
RATE = {"kind": "rate", "table": "V"}
FROM_V = {"kind": "comparisons", "table": "V"}
FOR = comparison("n_fg", 6.0, 13.0)


def judge(claim, *results):
    return claims.judge_claim(claim, frame(results))


def each(judged):
    return list(judged.items.itertuples(index=False))


def items(claim, *results):
    return each(judge(claim, *results))


def one(**changes):
    entry = {"id": "a_claim", "claim": "The student's {metric} is {side}.", "where": "Table V"}
    entry |= {"metric": "n_fg", "paper": [RATE], "evidence": FROM_V}
    (claim,) = claims.load_claims(yaml.safe_dump({"a part": [entry | changes]}))
    return claim


def study(*comparisons, **changes):
    return run(preset="study", comparisons=list(comparisons), **changes)


def cell(name, *comparisons, **changes):
    return study(*comparisons, notebook="image_cell", run=name, **changes)


def means(first, second, metric="n_fg", **changes):
    evidence = {"kind": "means", "table": "V", "first": first, "second": second} | changes
    quote = {"kind": "quote", "text": "no number"}
    return one(metric=metric, side="up", paper=[quote], evidence=evidence)


def number(value, low=None, high=None):
    return Number(value=value, low=low, high=high, what="a gap", n=7)

"""The explorer's page: packs of studies (`book.make.pack`) and verdicts from the results files.

What the page counts, it counts itself, in explorer.js. The build checks beforehand that the same
rule, on the same bytes, counts what kpnb counted when the pack was made.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from matplotlib.colors import to_hex

from book.make.frame import NOTHING, TABLE_OF, estimate, over, records
from book.make.pack import FORMAT, LOWEST, NO_RANK, PER_NAT
from book.make.protocol_pages import unfit_sentence
from book.make.texts import block
from kpnb.errors import KpnbError, require
from kpnb.figures.panel import POINTS, entropy_colors
from kpnb.figures.text import text_color
from kpnb.metrics.evidence import thresholds_around
from kpnb.metrics.formatting import PLAIN, SIDES, VERDICT_MARKS, signed
from kpnb.metrics.results import Results, freshness, results_root
from kpnb.paper import HYPOTHESES, METRICS, PREDICTIONS, ROLES

HERE = Path(__file__).parent
#: Bytes that packs may take in the page, together.
MOST = 3_000_000
#: Parameters that change no number of a network, a layer or a sample.
ASIDE = {"layers", "device", "chunk", "run", "preset", "seeds"}
#: H_bar - H_i, in nats, of the first and the last of so many colors.
LOW, HIGH, COLORS = -0.5, 1.0, 31


def read_packs() -> list[dict]:
    """The committed packs, by modality and name. Raises KpnbError for a file that is none, for
    counts that are not kpnb's, and for more than a page may hold."""
    packs = []
    for path in sorted(results_root().glob("pack/*.json")):
        try:
            pack = json.loads(path.read_text(encoding="utf-8"))
            require(pack["format"] == FORMAT, f"its format is {pack['format']!r}")
            check_counts(pack)
        except (ValueError, KeyError, TypeError) as error:  # KpnbError is a ValueError
            told = f"{path} is no pack of this version ({error})"
            raise KpnbError(f"{told}: make it anew with python -m book.make.pack.") from error
        packs.append(pack | {"file": f"book/results/pack/{path.name}"})
    packs.sort(key=lambda pack: list(TABLE_OF).index(pack["modality"]))
    size = sum(len(json.dumps(_embedded(pack))) for pack in packs)
    require(size <= MOST, f"packs are {size} bytes, the page holds {MOST}: leave one out.")
    return packs


def check_counts(pack: Mapping) -> None:
    """Raise KpnbError unless the ranks give, by the page's rule, the numbers that kpnb counted."""
    for layer, roles in pack["layers"].items():
        for role, held in roles.items():
            for b, told in held["counted"].items():
                found = page_counts(pack, layer, role, round(float(b) * PER_NAT))
                require(found == told, f"{role} at {layer}, b = {b} differs from kpnb's counts")


def page_counts(pack: Mapping, layer: str, role: str, position: int) -> dict:
    """What the page counts at a position of its slider, b in hundredths of a nat, in the form of
    `book.make.pack.counted`: explorer.js in Python."""
    marks = [sample["foreground"] for sample in pack["samples"]]
    units = max(map(len, marks))
    inside = np.array([list(one.ljust(units, "0")) for one in marks]) == "1"
    content = base64.b64decode(pack["layers"][layer][role]["ranks"])
    rows = np.frombuffer(content, np.uint8).reshape(-1, *inside.shape)
    points, there = (rows != NO_RANK) & (rows > position - LOWEST), (rows != NO_RANK).any(2)
    fg, bg = (points & inside).sum(2), (points & ~inside).sum(2)
    tried = (points & inside)[1:-1].any(0).sum(1)
    return {
        "n_fg": [_plain(*row) for row in zip(fg, there, strict=True)],
        "n_bg": [_plain(*row) for row in zip(bg, there, strict=True)],
        "lambda": _plain(fg[-1] / np.maximum(fg[-1] + bg[-1], 1), there[-1]),
        "rho": _plain(fg[-2] / np.maximum(tried, 1), there[1:-1].all(0)) if len(rows) > 1 else None,
    }


def _plain(values: np.ndarray, there: np.ndarray) -> list:
    return [value.item() if known else None for value, known in zip(values, there, strict=True)]


def verdicts(rows: pd.DataFrame, pack: Mapping, address: str) -> list[dict]:
    """What is decided of the pack's layers over all samples and seeds, a row for each layer, metric
    and b: by the results files, of several that have one by the first, and by the pack for any
    other b of a layer that they have."""
    found = rows[(rows["kind"] == "comparison") & (rows["selection"] == "all")]
    found = found[(found["part"] != "single") & found["distance"].isin(["", "epoch"])]
    facts = {name: pack[name] for name in ("dataset", "network", "scale")}
    for name, value in (facts | {"preset": pack["run"]["preset"]}).items():
        found = found[found[name] == value]
    same = [_same(settings, pack["run"]["settings"]) for settings in found["settings"]]
    found = found[np.array(same, bool)]
    found = found[found["layer"].isin(list(pack["layers"]))]
    found = found.drop_duplicates(["layer", "metric", "threshold"])
    told = {
        (row["layer"], row["metric"], round(row["threshold"] * PER_NAT)): row
        for row in records(found)
    }
    unfit = {row["layer"]: row["unfit"] for row in told.values()}
    told = _at_every_b(pack, unfit) | told
    order = sorted(told, key=lambda key: (METRICS.index(key[1]), key))
    return [_told(told[key], address) for key in order]


def _at_every_b(pack: Mapping, unfit: Mapping) -> dict[tuple, dict]:
    """(layer, metric, b) -> what the pack holds of it, as a row of a results file; unfit: of the
    layers that results files have, why they are not measurable."""
    found, decided = {}, pack["decided"]
    for layer, metric in ((one, name) for one in unfit for name in decided[one]):
        held, reason = decided[layer][metric], unfit[layer].get(layer, "")
        about = {"layer": layer, "metric": metric, "unfit": unfit[layer], "file": pack["file"]}
        about |= {"n_samples": held["samples"], "n_seeds": held["seeds"]}
        about |= {"sample": pack["modality"]}
        for b, (*ends, verdict) in enumerate(held["at"], 1):
            row = dict(zip(("value", "low", "high"), ends, strict=True), threshold=b / PER_NAT)
            row["verdict"] = "not measurable" if reason else verdict
            found[layer, metric, b] = about | row
    return found


def _same(one: Mapping, other: Mapping) -> bool:
    names = (one.keys() | other.keys()) - ASIDE
    return all(one.get(name) == other.get(name) for name in names)


def _told(row: Mapping, address: str) -> dict:
    place = f"{address}/blob/main/{row['file']}"
    return {
        "layer": row["layer"],
        "b": round(row["threshold"] * PER_NAT),
        "metric": f"H{HYPOTHESES[row['metric']]}: {symbol(row['metric'])}",
        "predicted": SIDES[PREDICTIONS[row["metric"]]].removeprefix("student "),
        "difference": estimate(row, signed),
        "ends": [None if pd.isna(row[end]) else row[end] for end in ("low", "value", "high")],
        "verdict": f"{VERDICT_MARKS[row['verdict']]} {row['verdict']}",
        "over": f'<a href="{place}">{over(row)}</a>',
        "unfit": unfit_sentence(row["layer"], row["unfit"].get(row["layer"], "")),
    }


def symbol(metric: str) -> str:
    """A metric as HTML."""
    name, _, below = PLAIN[metric].partition("_")
    return f"<i>{name}</i>" + (f"<sub>{below}</sub>" if below else "")


def links(packs: Sequence[Mapping]) -> dict[tuple, str]:
    """The page's address, with its state, at each pack's student and own b; by preset, data set,
    network and scale."""
    found = {}
    for pack in packs:
        settings = pack["run"]["settings"]
        key = settings["preset"], pack["dataset"], pack["network"], pack["scale"]
        state = {"modality": pack["modality"], "network": pack["network"]}
        state |= {"role": ROLES["S"], "b": settings["threshold"]}
        found[key] = f"explorer.html?{urlencode(state)}"
    return found


def page(rows: pd.DataFrame, packs: Sequence[Mapping], address: str) -> str:
    """The page's own part: controls, data and script. rows: `book.make.frame`."""
    if not packs:
        return NOTHING
    scale = {"low": LOW, "high": HIGH, "colors": list(_colors())}
    shown = [_embedded(pack) | _about(pack, rows, address) for pack in packs]
    data = {"packs": shown, "roles": ROLES, "lowest": LOWEST, "perNat": PER_NAT, "none": NO_RANK}
    # In a script element, no tag may begin.
    text = json.dumps(data | {"scale": scale}, separators=(",", ":"), ensure_ascii=False)
    parts = {name: (HERE / f"explorer.{name}").read_text("utf-8") for name in ("css", "js")}
    parts |= {"data": text.replace("<", "\\u003c"), "scale": scale, "packs": shown}
    parts |= {"points": POINTS, "symbol": symbol, "perNat": PER_NAT}
    markup = (HERE / "explorer.html").read_text("utf-8")
    html = Environment(undefined=StrictUndefined).from_string(markup).render(parts)
    return f"````{{raw}} html\n{html}\n````"


def _embedded(pack: Mapping) -> dict:
    """What the page has of a pack: all but what it is checked with and where it comes from."""
    layers = {
        layer: {role: {"epochs": r["epochs"], "ranks": r["ranks"]} for role, r in roles.items()}
        for layer, roles in pack["layers"].items()
    }
    return {name: pack[name] for name in ("modality", "network", "samples")} | {"layers": layers}


def _about(pack: Mapping, rows: pd.DataFrame, address: str) -> dict:
    """What the page says of a pack and of its study's results."""
    run = Results.model_validate(pack["run"])
    held = held_by(rows, pack)
    told = {"run": run, "pack": pack, "address": address, "held": held}
    told["state"] = "; ".join(dict.fromkeys(row["state"] for row in held)) or freshness(run)
    names = ("label", "inside", "about", "nothing")
    texts = {name: block(f"explorer_{name}", **told) for name in names}
    own, found = run.threshold, verdicts(rows, pack, address)
    b, *jumps = (round(one * PER_NAT) for one in (own, *thresholds_around(own)))
    return texts | {"b": b, "jumps": jumps, "verdicts": found}


def held_by(rows: pd.DataFrame, pack: Mapping) -> list[dict]:
    """Of every layer and role of a pack the study's row that has the very counts on the object that
    the pack has at the end of training; empty where one is not there, or has others."""
    same = {name: pack[name] for name in ("dataset", "network", "scale")}
    same |= {"preset": pack["run"]["preset"], "kind": "measure", "metric": "n_fg", "headline": True}
    found = rows[np.logical_and.reduce([rows[name] == value for name, value in same.items()])]
    held = []
    for layer, role in ((one, role) for one, roles in pack["layers"].items() for role in roles):
        here = records(found[(found["layer"] == layer) & (found["role"] == role)])
        held.append(next((row for row in here if _has_counts(row, pack)), None))
    return held if all(held) else []


def _has_counts(row: Mapping, pack: Mapping) -> bool:
    seeds, told = row["settings"].get("seeds", []), pack["layers"][row["layer"]][row["role"]]
    counts = told["counted"].get(str(row["threshold"]), {"n_fg": [None]})["n_fg"][-1]
    if pack["seed"] not in seeds or not isinstance(row["by_seed"], list) or not counts:
        return False
    values = row["by_seed"][seeds.index(pack["seed"])].split()
    return [None if one == "-" else float(one) for one in values][: len(counts)] == counts


def _colors() -> Iterator[tuple[str, str]]:
    """Those of the book's entropy maps, with the color of text on them: low entropy, far below the
    background's, is dark."""
    for place in np.linspace(1, 0, COLORS):
        color = to_hex(entropy_colors()(place))
        yield color, text_color(color)

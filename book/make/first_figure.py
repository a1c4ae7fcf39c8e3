"""The book's first figure: what a knowledge point is, on one picture in teacher, student, baseline.

    python -m book.make.first_figure     # packs it anew, from the study's networks in the store

The picture and its points are kept with the results, as the networks behind them take hours.
"""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_hex

from book.make.chart import Form, fragments, template
from book.make.frame import NOTHING
from book.make.texts import block
from kpnb.figures.panel import entropy_colors, entropy_rgba
from kpnb.metrics.points import KnowledgePoints, knowledge_points
from kpnb.metrics.results import results_root, run_fingerprint
from kpnb.paper import ROLES
from kpnb.store import Store
from kpnb.study.image import ImageStudy
from kpnb.study.parameters import ImageParameters, resolve

NAME = "first_figure"
#: Whose networks are shown, of the study's first seed, and on which layer.
NETWORK, LAYER = "AlexNet", "FC1"


def packed_path() -> Path:
    """Of the points; the picture lies beside it."""
    return results_root() / "pack" / f"{NAME}.safetensors"


def pack(study: ImageStudy, layer: str, path: Path) -> None:
    """Keep the first measured picture of which all three networks of the first seed have a map, and
    its points in each, with what they come from. What the store lacks is computed."""
    p, data = study.parameters, study.data
    nets = {role: study.of(role, p.seeds[0], layer) for role in ROLES}
    maps = [study.maps(net, layer, [net.final_epoch])[net.final_epoch] for net in nets.values()]
    points = [knowledge_points(found, data.foreground, p.threshold) for found in maps]
    first = int(torch.stack([found.defined for found in points]).all(0).nonzero()[0])
    settings = p.model_dump(mode="json")
    about = {"layer": layer, "seed": p.seeds[0], "sample": first, "settings": settings}
    about |= {"class": data.measured.class_names[data.measured.labels[first]]}
    about |= {"networks": {role: net.fingerprint for role, net in nets.items()}}
    about |= {"fingerprint": run_fingerprint(settings, [ImageStudy.__name__])}
    path.parent.mkdir(parents=True, exist_ok=True)
    KnowledgePoints.joined([replace(found[first], settings=about) for found in points]).save(path)
    path.with_suffix(".png").write_bytes(_png(data.measured.pictures()[first]))


def first_fragments(path: Path) -> dict[str, str]:
    """{file: content} of the figure with its caption; that nothing is there without the file."""
    if not path.exists():
        return {NAME: NOTHING}
    return fragments(NAME, *figure(path), block("first_caption", points=KnowledgePoints.load(path)))


def figure(path: Path) -> tuple[str, Callable[[Form, str], str]]:
    """The figure's text for those who cannot see it, and what draws it in a form and a theme."""
    points, picture = KnowledgePoints.load(path), path.with_suffix(".png").read_bytes()
    told = block("first_alternative", points=points, names=list(ROLES.values()))
    return told, partial(draw, points, picture)


def draw(points: KnowledgePoints, picture: bytes, form: Form, theme: str) -> str:
    """As SVG: the picture, a PNG, what the student discards of it, and the points of all three."""
    kinds, shown, student = points.grid().numpy(), _address(picture), list(ROLES).index("S")
    side = kinds.shape[-1]
    entropy = points.entropy[student].reshape(side, side)
    panels = [
        {"title": "a picture", "picture": shown, "told": "its object outlined"},
        {"title": "the student discards", "picture": _address(_png(entropy_rgba(entropy))),
         "told": "low to high H_i", "scale": True},
    ]  # fmt: skip
    for name, found, n_fg, n_bg in zip(
        ROLES.values(), kinds, points.n_fg, points.n_bg, strict=True
    ):
        marks = [(row, column, found[row, column]) for row, column in np.argwhere(found)]
        told = f"N_fg = {n_fg}, N_bg = {n_bg}"
        panels.append({"title": name, "picture": shown, "told": told, "points": marks})
    given = {"outline": _outline(points.foreground[0].reshape(side, side).numpy()), "side": side}
    given |= {"scale": [to_hex(colour) for colour in entropy_colors()(np.linspace(0, 1, 5))]}
    made = template("first_figure.svg.jinja")
    return made.render(panels=panels, form=form, dark=theme == "dark", **given)


def _outline(inside: np.ndarray) -> str:
    """The border of the cells inside, as an SVG path in cells."""
    padded = np.pad(inside.astype(int), 1)
    across = np.argwhere(np.diff(padded[:, 1:-1], axis=0))
    down = np.argwhere(np.diff(padded[1:-1], axis=1))
    return "".join([*(f"M{x} {y}h1" for y, x in across), *(f"M{x} {y}v1" for y, x in down)])


def _png(colours: np.ndarray) -> bytes:
    """(height, width, 3 or 4) in [0, 1] as a PNG."""
    file = io.BytesIO()
    plt.imsave(file, colours, format="png", metadata={"Software": None})
    return file.getvalue()


def _address(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


if __name__ == "__main__":
    asked = resolve(ImageParameters, {"preset": "study", "network": NETWORK})
    pack(ImageStudy(asked, Store()), LAYER, packed_path())

"""The book's first figure: what a knowledge point is, on one picture in teacher, student, baseline.

    python -m book.make.first_figure     # packs it anew, from the study's networks in the store

The picture and its points are kept with the results, as the networks behind them take hours.
"""

import base64
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.colors import to_hex

from book.make.chart import Form, chart_fragments
from book.make.frame import NOTHING
from book.make.texts import block, drawing
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
    picture = data.measured.pictures()[first]
    plt.imsave(path.with_suffix(".png"), picture, metadata={"Software": None})


@dataclass(frozen=True)
class FirstFigure:
    """The picture, what the student discards of it, and the knowledge points of all three.

    points: of the one picture, a row a role. picture: a PNG.
    """

    points: KnowledgePoints
    picture: bytes

    @property
    def alternative(self) -> str:
        return block("first_alternative", points=self.points, names=list(ROLES.values()))

    def draw(self, form: Form, theme: str) -> str:
        kinds = self.points.grid()
        side = kinds.shape[-1]
        inside = np.pad(self.points.foreground[0].reshape(side, side).int(), 1)
        border = [np.argwhere(np.diff(inside[:, 1:-1], axis=0)),
                  np.argwhere(np.diff(inside[1:-1], axis=1))]  # fmt: skip
        student = self.points.entropy[list(ROLES).index("S")].reshape(side, side)
        colours = [[to_hex(one) for one in row] for row in entropy_rgba(student)]
        scale = [to_hex(one) for one in entropy_colors()(np.linspace(0, 1, 5))]
        address = f"data:image/png;base64,{base64.b64encode(self.picture).decode()}"
        given = {"points": self.points, "kinds": kinds.tolist(), "border": border}
        given |= {"picture": address, "colours": colours, "scale": scale}
        return drawing(NAME, form=form, dark=theme == "dark", names=ROLES.values(), **given)


def first_figure(path: Path) -> FirstFigure | None:
    """What is packed; None where nothing is."""
    if not path.exists():
        return None
    return FirstFigure(KnowledgePoints.load(path), path.with_suffix(".png").read_bytes())


def first_fragments(path: Path) -> dict[str, str]:
    """{file: content} of the figure with its caption; that nothing is there without the file."""
    shown = first_figure(path)
    if shown is None:
        return {NAME: NOTHING}
    return chart_fragments(NAME, shown, block("first_caption", points=shown.points))


if __name__ == "__main__":
    asked = resolve(ImageParameters, {"preset": "study", "network": NETWORK})
    pack(ImageStudy(asked, Store()), LAYER, packed_path())

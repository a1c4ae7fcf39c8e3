"""The book's first figure: what a knowledge point is, on one picture in three networks."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from matplotlib.colors import to_hex

from book.make.chart import Form, chart_fragments
from book.make.explorer import HIGH, LOW
from book.make.frame import NOTHING
from book.make.pack import LOWEST, NO_RANK, PER_NAT
from book.make.texts import block, drawing
from kpnb.figures.panel import entropy_colors
from kpnb.paper import ROLES

NAME, CAPTION = "first_figure", "first_caption"


@dataclass(frozen=True)
class FirstFigure:
    """A picture, what the student discards of it, and the knowledge points of all three: the first
    of a pack's pictures that all have a map of, at its last layer.

    pack: of a study of images (`book.make.pack`).
    """

    pack: Mapping

    @cached_property
    def layer(self) -> str:
        return list(self.pack["layers"])[-1]

    @cached_property
    def ranks(self) -> np.ndarray:
        """(roles, samples, units) int of the final networks, as `book.make.pack.ranks`."""
        held = [self.pack["layers"][self.layer][role]["ranks"] for role in ROLES]
        many = len(self.pack["samples"])
        rows = [np.frombuffer(base64.b64decode(one), np.uint8) for one in held]
        return np.stack([one.reshape(-1, many, self.side**2)[-1] for one in rows]).astype(int)

    @property
    def side(self) -> int:
        """Of the grid, in cells."""
        return int(len(self.pack["samples"][0]["foreground"]) ** 0.5)

    @cached_property
    def sample(self) -> int:
        return int((self.ranks != NO_RANK).any(2).all(0).argmax())

    @cached_property
    def inside(self) -> np.ndarray:
        """(rows, columns) bool: the object."""
        marks = self.pack["samples"][self.sample]["foreground"]
        return (np.array(list(marks)) == "1").reshape(self.side, self.side)

    @cached_property
    def kinds(self) -> dict[str, np.ndarray]:
        """By role (rows, columns): 1 a point on the object, -1 one on the background, 0 none."""
        ranks, b = self.ranks[:, self.sample], self.pack["run"]["settings"]["threshold"]
        points = (ranks != NO_RANK) & (ranks > round(b * PER_NAT) - LOWEST)
        found = points.reshape(-1, *self.inside.shape) * np.where(self.inside, 1, -1)
        return dict(zip(ROLES.values(), found, strict=True))

    def share(self, name: str) -> float:
        """Lambda of a role by its name: the share of points on the object, 0 without any."""
        kinds = self.kinds[name]
        return (kinds == 1).sum() / max((kinds != 0).sum(), 1)

    @property
    def alternative(self) -> str:
        return block("first_alternative", first=self)

    def draw(self, form: Form, theme: str) -> str:
        """The figure as SVG."""
        gap = (self.ranks[list(ROLES).index("S"), self.sample] + LOWEST) / PER_NAT
        places = 1 - (gap.reshape(self.inside.shape) - LOW) / (HIGH - LOW)
        colours = [[to_hex(one) for one in row] for row in entropy_colors()(places)]
        padded = np.pad(self.inside.astype(int), 1)
        border = [np.argwhere(np.diff(padded[:, 1:-1], axis=0)),
                  np.argwhere(np.diff(padded[1:-1], axis=1))]  # fmt: skip
        scale = [to_hex(one) for one in entropy_colors()(np.linspace(0, 1, 5))]
        shown = {"first": self, "colours": colours, "border": border, "scale": scale}
        return drawing(NAME, form=form, dark=theme == "dark", **shown)


def first_figure(packs: Sequence[Mapping]) -> FirstFigure | None:
    """That of the first pack of images; None without one."""
    return next((FirstFigure(pack) for pack in packs if pack["modality"] == "image"), None)


def first_fragments(packs: Sequence[Mapping]) -> dict[str, str]:
    """{file: content} of the figure, and its caption; that nothing is there without a pack."""
    shown = first_figure(packs)
    if shown is None:
        return {NAME: NOTHING, CAPTION: ""}
    made = chart_fragments(NAME, shown, block("first_shown", first=shown))
    return made | {CAPTION: block("first_caption", first=shown)}

"""A network of one's own, layer by layer: what it keeps, beside attributions, and how sure that is.

Nothing is trained and nothing is stored. A cell of an attribution is what it gives the pixels there
in the mean, without sign; a cell of the entropy counts the more the lower it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from kpnb.datasets.images import embedded_images
from kpnb.datasets.pictures import as_inputs, picture_files, read_masks, read_pictures
from kpnb.datasets.places import EMBEDDED
from kpnb.errors import KpnbError
from kpnb.estimator.entropy import EntropyEstimator, EntropyMaps
from kpnb.estimator.features import chosen_tensor, output_at
from kpnb.estimator.inputs import copied, moved
from kpnb.estimator.units import GridUnits
from kpnb.experiments.attributions import INPUT, attributions
from kpnb.figures.image import ImagePanels
from kpnb.figures.panel import Marked, in_rows, marked_points, sheet
from kpnb.fingerprint import Stopwatch
from kpnb.metrics.points import KnowledgePoints, knowledge_points, mean_entropies
from kpnb.metrics.results import Number, estimated, measured, write_results
from kpnb.metrics.stats import Estimate, bootstrap
from kpnb.networks.named import check_layers, named_network, stage_layers
from kpnb.study.display import NotebookStudy, Prose
from kpnb.study.presets.own_model import OwnModelParameters
from kpnb.training.settings import chosen_device

NAME = "own_model"
TOP = 0.1  # share of the cells whose place is compared; ours
FEW = 3  # images in figures of several panels each
STAGES = 3  # resolutions, the last ones, whose last layers are taken where none are named
ENTROPY, CAM, PATH = "entropy", "Grad-CAM", "integrated gradients"


@dataclass(frozen=True)
class OwnModel(NotebookStudy):
    """A network, images with their foreground, and what was measured, each once when asked for."""

    parameters: OwnModelParameters
    _watch: Stopwatch = field(default_factory=Stopwatch, repr=False)

    def __post_init__(self) -> None:
        self._watch.__enter__()

    def plan(self) -> Prose:
        p = self.parameters
        told = f"Nothing is trained: {p.samples} images at {len(self.layers)} layers"
        return Prose(f"{told} ({', '.join(self.layers)}), quality {p.quality}.")

    @cached_property
    def net(self) -> nn.Module:
        p = self.parameters
        return named_network(p.model, p.weights).to(chosen_device(p.device))

    @cached_property
    def units(self) -> GridUnits:
        return GridUnits(self.parameters.grid)

    @cached_property
    def _data(self) -> tuple[np.ndarray, Tensor]:
        """Pictures (n, s, s, 3) in [0, 1] and foreground (n, units) bool."""
        p = self.parameters
        if p.images == EMBEDDED:
            samples = embedded_images(p.samples, image_size=p.image_size)
            pictures, masks = samples.pictures(), samples.masks
        else:
            files = picture_files([p.images])[: p.samples]
            pictures = read_pictures(files, p.image_size)
            masks = read_masks(files, [p.masks], p.image_size)
        foreground = self.units.foreground(masks)
        usable = foreground.any(1) & ~foreground.all(1)
        if usable.sum() < 2:
            raise KpnbError(f"{int(usable.sum())} images have object and background: give more.")
        return pictures[usable.numpy()], foreground[usable]

    pictures = property(lambda self: self._data[0])
    foreground = property(lambda self: self._data[1])

    @cached_property
    def inputs(self) -> Tensor:
        return moved(as_inputs(self.pictures), self.net)

    @cached_property
    def layers(self) -> list[str]:
        found = list(self.parameters.layers or stage_layers(self.net, self.inputs, STAGES))
        check_layers(self.net, found, self.inputs)
        return found

    def _estimated(self, layers: list[str], seed: int) -> dict[str, EntropyMaps]:
        given = dict(quality=self.parameters.quality, seed=seed)
        found = EntropyEstimator(layers, self.units, **given).explain(self.net, self.inputs)
        return {layer: maps.to("cpu") for layer, maps in found.items()}

    def _points(self, maps: EntropyMaps) -> KnowledgePoints:
        return knowledge_points(maps, self.foreground, self.parameters.threshold)

    @cached_property
    def maps(self) -> dict[str, EntropyMaps]:
        """By layer, with the first seed: the long part."""
        return self._estimated(self.layers, self.parameters.seeds[0])

    @cached_property
    def points(self) -> dict[str, KnowledgePoints]:
        return {layer: self._points(maps) for layer, maps in self.maps.items()}

    @cached_property
    def attributed(self) -> dict[str, dict[str, Tensor]]:
        """Grad-CAM by layer, of those with feature maps, and integrated gradients under INPUT, of
        the class that the network gives; (n, units), cells without sign."""
        net, few = copied(self.net), self.inputs[:1]
        # One tensor, as captum wants it.
        net.register_forward_hook(lambda _net, _given, scores: chosen_tensor(scores, None))
        with torch.no_grad():
            targets = net(self.inputs).argmax(1)
            shapes = {la: output_at(net, la, lambda: net(few)).ndim for la in self.layers}
        drawn = [layer for layer, dimensions in shapes.items() if dimensions == 4]
        methods = {CAM: "grad_cam", PATH: "integrated_gradients"}
        found = attributions(net, self.inputs, targets, list(methods.values()), drawn)
        return {title: {layer: self._cells(maps) for layer, maps in found[name].items()}
                for title, name in methods.items()}  # fmt: skip

    def _cells(self, maps: Tensor) -> Tensor:
        size, one = self.pictures.shape[1:3], maps[:, None]
        if maps.shape[1:] != size:
            one = nn.functional.interpolate(one, size=size, mode="bilinear")
        return self.units.gather(one.abs()) / self.units.gather(torch.ones_like(one))

    @cached_property
    def stays(self) -> dict[str, Estimate]:
        """By layer: share of an image's points that are points with each other seed, too."""
        shares: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}
        for seed in self.parameters.seeds[1:]:
            for layer, maps in self._estimated(self.layers, seed).items():
                first, other = self.points[layer].kinds != 0, self._points(maps).kinds != 0
                shares[layer].append((first & other).sum(1) / first.sum(1))  # NaN without points
        known = {la: torch.stack(one).numpy() for la, one in shares.items() if one}
        return {la: bootstrap(one) for la, one in known.items() if np.isfinite(one).any(1).all()}

    def _ranked(self) -> dict[tuple[str, str], Tensor]:
        """By method and layer, (n, units): what is ranked."""
        own = {ENTROPY: {layer: -maps.entropy for layer, maps in self.maps.items()}}
        every = own | self.attributed
        return {(method, layer): v for method in every for layer, v in every[method].items()}

    @cached_property
    def shares(self) -> dict[tuple[str, str], Estimate]:
        """By method and layer: mean share of the top tenth of the cells that is foreground."""
        found, count = {}, round(TOP * self.foreground.shape[1])
        for key, values in self._ranked().items():
            top = values.nan_to_num(-torch.inf).topk(count, dim=1).indices
            found[key] = bootstrap(self.foreground.gather(1, top).double().mean(1).numpy())
        return found

    @cached_property
    def counts(self) -> dict[str, dict[str, Estimate]]:
        """By layer: N_fg, N_bg, lambda, and how many nats more of the background is discarded."""
        found = {}
        for layer, points in self.points.items():
            inside, outside = mean_entropies(points.entropy, self.foreground)
            values = {"N_fg": points.n_fg, "N_bg": points.n_bg, "lambda": points.ratio}
            values["H of background minus object [nats]"] = outside - inside
            found[layer] = {name: bootstrap(value.numpy()) for name, value in values.items()}
        return found

    @cached_property
    def _panels(self) -> ImagePanels:
        return ImagePanels(self.pictures, range(len(self.pictures)))

    def samples_figure(self) -> Figure:
        """The images with the border of their foreground."""
        shown = enumerate(self.foreground[:8])
        return sheet(in_rows([self._panels.sample(*one) for one in shown]))

    def maps_figure(self) -> Figure:
        """The first images and their entropies, layer by layer."""
        grid = []
        for row, inside in enumerate(self.foreground[:FEW]):
            entropies = {layer: maps.entropy[row] for layer, maps in self.maps.items()}
            drawn = [self._panels.entropy(row, h, la, inside) for la, h in entropies.items()]
            grid.append([self._panels.sample(row, inside), *drawn])
        return sheet(grid)

    def methods_figure(self) -> Figure:
        """The first images: points of the last layer, and the top tenth of cells by each method."""
        layer, grid = self.layers[-1], []
        ranked = {m: v for (m, la), v in self._ranked().items() if la in (layer, INPUT)}
        for row, inside in enumerate(self.foreground[:FEW]):
            found = marked_points(self.points[layer], row)
            grid.append([self._panels.marked(row, found, "knowledge points")])
            for method, values in ranked.items():
                top = values[row] >= values[row].topk(round(TOP * values.shape[1])).values[-1]
                kinds = [(held.numpy(), style) for held, (_, style) in
                         zip((top & inside, top & ~inside), found.kinds, strict=True)]  # fmt: skip
                one = Marked(found.points, row, kinds, {})
                grid[-1].append(self._panels.marked(row, one, f"top tenth:\n{method}"))
        return sheet(grid)

    def counts_table(self) -> pd.DataFrame:
        """Means over images by layer, with 95% intervals."""
        return _table(self.counts)

    def shares_table(self) -> pd.DataFrame:
        """Share of the top tenth of the cells on the object, by layer and method."""
        rows: dict[str, dict[str, Estimate]] = {}
        for (method, layer), share in self.shares.items():
            rows.setdefault(layer, {})[method] = share
        return _table(rows)

    def stays_table(self) -> pd.DataFrame:
        """Share of the points that stay with other noise, by layer."""
        return _table({layer: {"points that stay": kept} for layer, kept in self.stays.items()})

    def table(self) -> pd.DataFrame:
        """All of it by layer."""
        parts = [self.counts_table(), self.shares_table(), self.stays_table()]
        return pd.concat(parts, axis=1).fillna("").rename_axis("layer")

    def reading(self) -> Prose:
        """What the numbers say, in words."""
        ratio = {layer: found["lambda"].value for layer, found in self.counts.items()}
        most, last = max(ratio, key=ratio.get), self.layers[-1]
        chance = float(self.foreground.double().mean())
        told = f"The largest share of knowledge points on the object, {ratio[most]:.2f}, is at "
        told += f"{most}; of cells at random it would be {chance:.2f}."
        by_method = {m: share for (m, la), share in self.shares.items() if la in (last, INPUT)}
        named = ", ".join(f"{method} {share}" for method, share in by_method.items())
        told += f" Of the top tenth of the cells, at {last}, lies on the object by {named}."
        told += " Entropies are of the whole feature and attributions of one class's score, so the "
        told += "shares answer different questions."
        for layer in (la for la in [last] if la in self.stays):
            told += f" With other noise {self.stays[layer]} of the points of {layer} stay."
        return Prose(told)

    def numbers(self) -> dict[str, Number]:
        """All of it for the results file; what is not finite is left out."""
        found = {f"{name} | {layer}": value for layer, by_name in self.counts.items()
                 for name, value in by_name.items()}  # fmt: skip
        found |= {f"top tenth on object, {m} | {la}": v for (m, la), v in self.shares.items()}
        found |= {f"points that stay | {layer}": value for layer, value in self.stays.items()}
        finite = {n: v for n, v in found.items() if np.isfinite([v.value, v.low, v.high]).all()}
        return {name: estimated(value, name) for name, value in finite.items()}

    def save(self) -> None:
        """Write the results file of the notebook, and print what it holds."""
        p, code = self.parameters, [type(self).__name__]
        found = measured(NAME, p.model_dump(mode="json"), code, self.numbers, p.preset)
        used = {"seconds": self._watch.as_dict()["seconds"]}
        write_results(found.model_copy(update=used))
        print(f"{len(found.numbers)} numbers")


def _table(rows: Mapping[str, Mapping[str, Estimate]]) -> pd.DataFrame:
    shown = {layer: {n: str(v) for n, v in row.items()} for layer, row in rows.items()}
    return pd.DataFrame.from_dict(shown, orient="index").fillna("").rename_axis("layer")

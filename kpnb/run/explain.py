"""`python -m kpnb.run.explain`: from a network and picture files to maps, a table and one page.

    python -m kpnb.run.explain --model resnet18 --images photos --masks masks --output found

writes maps.csv (a row for each cell), counts.csv where there are masks, one picture a layer, and
page.html, which holds the pictures and says what was done and how to read it. Exit codes: 0 done,
2 a mistake, 130 stopped.
"""

import argparse
import base64
import html
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from kpnb.datasets.pictures import as_inputs, picture_files, read_masks, read_pictures
from kpnb.datasets.samples import IMAGENET_MEAN, IMAGENET_STD
from kpnb.errors import KpnbError, answered
from kpnb.estimator.entropy import LADDER, EntropyEstimator, EntropyMaps
from kpnb.estimator.units import GridUnits
from kpnb.figures.image import ImagePanels
from kpnb.figures.panel import in_rows, marked_points, sheet
from kpnb.fingerprint import installed_version, library_versions
from kpnb.metrics.formatting import count
from kpnb.metrics.points import KnowledgePoints, knowledge_points
from kpnb.metrics.results import write_whole
from kpnb.metrics.stats import bootstrap
from kpnb.networks.named import DEFAULT, PACKAGED, check_layers, named_network, stage_layers
from kpnb.training.settings import chosen_device

SHOWN = 12  # images in a picture; the tables have all


@dataclass(frozen=True)
class Explanation:
    """What was measured. pictures: (n, size, size, 3) in [0, 1]; foreground: (n, cells) bool or
    None; maps, points by layer, points empty without foreground; notes: sentences to be told."""

    names: list[str]
    pictures: np.ndarray
    foreground: Tensor | None
    maps: dict[str, EntropyMaps]
    points: dict[str, KnowledgePoints]
    notes: list[str]

    def cells(self) -> pd.DataFrame:
        """A row for each layer, image and cell: entropy and standard error in nats; with masks
        whether it is foreground, and its point: "foreground", "background" or "none"."""
        parts = []
        for layer, maps in self.maps.items():
            found = maps.to_pandas().drop(columns="sigma")
            found.insert(0, "image", np.take(self.names, found.pop("sample")))
            found.insert(1, "layer", layer)
            points = self.points[layer].to_pandas() if self.points else {}
            for name in ("foreground", "point"):
                found[name] = points.get(name, pd.NA)
            parts.append(found)
        return pd.concat(parts)

    def counts(self) -> pd.DataFrame:
        """A row for each layer and image: N_fg, N_bg and lambda, N_fg / (N_fg + N_bg)."""
        parts = [
            pd.DataFrame({"image": self.names, "layer": layer, "N_fg": points.n_fg,
                          "N_bg": points.n_bg, "lambda": points.ratio})
            for layer, points in self.points.items()
        ]  # fmt: skip
        return pd.concat(parts)

    def layers(self) -> pd.DataFrame:
        """A row for each layer: means over images, with 95% intervals from several images on."""
        rows = {}
        for layer, maps in self.maps.items():
            error = float(maps.standard_error.nanmean())
            rows[layer] = {"standard error of H [nats]": f"{error:.3f}"}
            if layer in self.points:
                found = self.points[layer]
                values = {"N_fg": found.n_fg, "N_bg": found.n_bg, "lambda": found.ratio}
                rows[layer] |= {name: _mean(value) for name, value in values.items()}
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("layer").reset_index()

    def figure(self, layer: str) -> Figure:
        """The first images beside their maps and, with masks, their knowledge points."""
        rows = range(min(SHOWN, len(self.names)))
        panels, entropy = ImagePanels(self.pictures, rows), self.maps[layer].entropy
        grid = []
        for row in rows:
            own = None if self.foreground is None else self.foreground[row]
            grid.append([panels.picture(row, entropy[row], f"{self.names[row]:.24}"),
                         panels.entropy(row, entropy[row], "entropy", own)])  # fmt: skip
            if layer in self.points:
                grid[-1].append(panels.marked(row, marked_points(self.points[layer], row)))
        # Without points there is room for two images in a row.
        return sheet(grid if self.points else [sum(pair, []) for pair in in_rows(grid, 2)])


def _mean(values: Tensor) -> str:
    known = values.double().numpy()
    known = known[np.isfinite(known)]
    return str(bootstrap(known)) if len(known) > 1 else f"{known.mean():.3g}"


def explain(options: argparse.Namespace) -> int:
    """Measure what the command line asks for and write it; KpnbError for a mistake in it, before
    anything that takes long."""
    units = GridUnits(options.cells)
    if not options.threshold > 0 or options.size < options.cells:
        raise KpnbError("--threshold must be positive, and --size at least --cells.")
    files = [] if options.list else picture_files(options.images)
    net = named_network(options.model, options.weights).to(chosen_device(options.device))
    if options.list:
        print(*(name for name, _ in net.named_modules() if name), sep="\n")
        return 0
    pictures = read_pictures(files, options.size)
    foreground = None if options.masks is None else _foreground(options, units, files)
    x = as_inputs(pictures, options.mean, options.std)
    layers = list(dict.fromkeys(options.layer or stage_layers(net, x, 1)))
    check_layers(net, layers, x)
    _make(options.output)
    told = f"{count(len(files), 'image')}, {count(len(layers), 'layer')} ({', '.join(layers)})"
    print(f"{told}, quality {options.quality}", flush=True)
    estimator = EntropyEstimator(layers, units, relu=not options.no_relu, quality=options.quality)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        maps = {layer: found.to("cpu") for layer, found in estimator.explain(net, x).items()}
    known = maps.items() if foreground is not None else ()
    points = {la: knowledge_points(own, foreground, options.threshold) for la, own in known}
    notes = [str(warning.message) for warning in caught if warning.category is UserWarning]
    write(Explanation([f.name for f in files], pictures, foreground, maps, points, notes), options)
    return 0


def _foreground(options: argparse.Namespace, units: GridUnits, files: Sequence[Path]) -> Tensor:
    found = units.foreground(read_masks(files, options.masks, options.size))
    for told, wrong in (("no object", ~found.any(1)), ("no background", found.all(1))):
        if wrong.any():
            name = files[int(wrong.nonzero()[0])].name
            raise KpnbError(f"the mask of {name} leaves {told} in the crop: leave the image out.")
    return found


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KpnbError(f"{folder} cannot be made: {error.strerror}.") from error


def write(found: Explanation, options: argparse.Namespace) -> None:
    """The tables, pictures and the page into options.output; says where they are."""
    write_whole(options.output / "maps.csv", found.cells().to_csv(index=False))
    if found.points:
        write_whole(options.output / "counts.csv", found.counts().to_csv(index=False))
    pictures = {}
    for layer in found.maps:
        pictures[layer] = options.output / (re.sub(r"[^\w.-]", "_", layer) + ".png")
        found.figure(layer).savefig(pictures[layer], metadata={"Software": None})
    page = write_whole(options.output / "page.html", page_of(found, pictures, options))
    print(*found.notes, found.layers().to_string(index=False), f"see {page}", sep="\n")


HOW_TO_READ = (
    "The color of a cell is its entropy H in nats: how much noise the cell takes until the layer's "
    "feature has changed by a set amount, so the layer keeps much of a dark cell and discards a "
    "bright one; that entropies are below 0 is usual.",
    "All maps are read off at a mean entropy of nearly -2.8 nats by construction, so compare where "
    "a layer looks, not how dark a map is as a whole.",
    "A knowledge point is a cell whose entropy lies more than the threshold b below the mean of "
    "the background cells of all images; without masks there is no background and are no points.",
    "N_fg counts the points on the object and N_bg those beside it, and lambda is the "
    "share of points on the object; brackets are 95% intervals over these images.",
    "The standard error says how much of an entropy is chance at this quality: take no difference "
    "between two cells below twice that for real.",
)
STYLE = (
    "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}img{max-width:100%}"
    "table{border-collapse:collapse}td,th{padding:.2em .8em;border-bottom:1px solid #ccc;"
    "text-align:left}"
)


def page_of(found: Explanation, pictures: Mapping[str, Path], options: argparse.Namespace) -> str:
    """One HTML page that needs no other file."""
    settings = {name: _told(value) for name, value in vars(options).items() if name != "list"}
    settings |= library_versions() | {"kpnb": installed_version("kpnb")}
    settings |= {"layers": ", ".join(found.maps), "made": datetime.now(UTC).date().isoformat()}
    parts = [f"<h1>What {html.escape(options.model)} keeps</h1>", _html(found.layers())]
    few = [f"Pictures show the first {SHOWN} images."] * (len(found.names) > SHOWN)
    parts += [f"<p>{html.escape(note)}</p>" for note in (*few, *found.notes)]
    for layer, picture in pictures.items():
        content, name = base64.b64encode(picture.read_bytes()).decode(), html.escape(layer)
        parts.append(f"<h2>{name}</h2><img alt='maps at {name}' src='data:image/png;base64,")
        parts[-1] += f"{content}'>"
    parts += ["<h2>How to read it</h2>", f"<p>{html.escape(' '.join(HOW_TO_READ))}</p>"]
    parts += ["<h2>By image</h2>", _html(found.counts())] if found.points else []
    parts += ["<h2>Settings and versions</h2>", _html(pd.DataFrame(settings.items()), False)]
    head = f"<meta charset='utf-8'><title>{html.escape(options.model)}</title>"
    return "\n".join([f"<!doctype html><html lang='en'>{head}<style>{STYLE}</style>", *parts])


def _html(table: pd.DataFrame, header: bool = True) -> str:
    return table.to_html(index=False, header=header, border=0, float_format="{:.3g}".format)


def _told(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _parser() -> argparse.ArgumentParser:
    program, told = "python -m kpnb.run.explain", "What a network keeps of pictures."
    parser = argparse.ArgumentParser(prog=program, description=told)
    add = parser.add_argument
    kinds = f"of torchvision, {PACKAGED}, timm:NAME, a Hugging Face name, or module:function"
    add("--model", required=True, metavar="NAME", help=kinds)
    add("--weights", default=DEFAULT, help=f"{DEFAULT}, none, or the file of a state dict")
    add("--layer", action="append", help="repeatable; default: the last one before the head")
    add("--list", action="store_true", help="list the network's layers and stop")
    add("--images", nargs="+", default=[], metavar="PLACE", help="files or folders")
    add("--masks", nargs="+", metavar="PLACE", help="files of the same names, 0 and 255 or 1")
    add("--threshold", type=float, default=0.2, help="b in nats (default: %(default)s)")
    add("--quality", choices=LADDER, default="standard", help="default: %(default)s")
    add("--size", type=int, default=224, help="pixels a side (default: %(default)s)")
    add("--mean", type=float, nargs=3, default=IMAGENET_MEAN, metavar=("R", "G", "B"))
    add("--std", type=float, nargs=3, default=IMAGENET_STD, metavar=("R", "G", "B"))
    add("--cells", type=int, default=16, help="a side of the grid (default: %(default)s)")
    add("--no-relu", action="store_true", help="take features as they are, also below 0")
    add("--output", type=Path, default=Path("explained"), metavar="FOLDER")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Mistakes go to stderr, one sentence each."""
    options = _parser().parse_args(arguments)
    return answered(lambda: explain(options), "run the same command again")


if __name__ == "__main__":
    sys.exit(main())

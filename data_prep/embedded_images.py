"""Make the packed files of the embedded images from public packages.

    python -m data_prep.embedded_images --root DIR [--download] [--out DIR]

DIR holds eight Debian and npm packages, listed with version and SHA-256 in
embedded_images_classes.json; `--download` fetches those that are missing with apt-get and npm.
The table also names every object (class, thing, pictures of it) and every background photograph.
README.md says how they were chosen, and which versions of Pillow and, for the stamps drawn as SVG,
resvg-py give exactly the packaged bytes.
"""

import io
import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from PIL import Image

from data_prep.archives import read_members
from data_prep.builders import main, report
from kpnb.datasets.images import BACKGROUNDS, OBJECTS, PACKED_SHA256
from kpnb.errors import KpnbError, require

KIND = "images"
TABLE = Path(__file__).with_name("embedded_images_classes.json")

CUT_OUT_SIDE = 96  # longest side of a packed object, in pixels
SMALLEST = 48  # an object drawn smaller than this would only be enlarged blur
FILL = (0.12, 0.985)  # opaque share of the bounding box: wire-thin below, not cut out above
VISIBLE = 24  # alpha up to this (of 255) is the haze of a soft shadow, not part of the box
SVG_WIDTH = 384  # pixels across, for stamps drawn as SVG

CROP_SIDE = 128
BORDER = 0.06  # share of the short side left out all around: some photographs have black bars
# Windows of what is left: side over its short side, then the place from 0 (left, top) to 1.
CROPS = ((0.75, 0.1, 0.5), (0.75, 0.9, 0.5), (0.5, 0.0, 0.0))
CROPS += ((0.5, 0.5, 1.0), (0.5, 1.0, 0.3), (0.35, 0.5, 0.5))

# Standard encoder settings that keep both files small enough for a repository.
WEBP = dict(format="WEBP", quality=82, method=5, alpha_quality=100)
JPEG = dict(format="JPEG", quality=85)


def build(files: Mapping[str, Path], out: Path, table: dict) -> None:
    """Write both files into `out` from the packages."""
    reader = Reader(table["packages"], files)
    made = {OBJECTS: pack_objects(table["objects"], reader)}
    made[BACKGROUNDS] = pack_photos(table["photos"], reader)
    for name, entries in made.items():
        report(write_zip(out / name, entries), PACKED_SHA256[name])


class Reader:
    """Reads pictures such as "noto:1f426" (source:name) out of the packages, in memory."""

    def __init__(self, sources: Mapping[str, Mapping], files: Mapping[str, Path]) -> None:
        self.sources, self.files = sources, files

    def origin(self, reference: str) -> dict[str, str]:
        """The picture's package and its path in there."""
        source, name = reference.split(":", 1)
        return {"source": source, "path": self.sources[source]["path"].format(name=name)}

    def pictures(self, references: Iterable[str]) -> dict[str, Image.Image]:
        """The pictures by reference; each package is read once."""
        by_source: dict[str, dict[str, str]] = defaultdict(dict)  # reference -> path
        for reference in references:
            found = self.origin(reference)
            by_source[found["source"]][reference] = found["path"]
        pictures = {}
        for source, paths in by_source.items():
            members = read_members(self.files[source], paths.values())
            for reference, path in paths.items():
                pictures[reference] = open_picture(members[path], vector=path.endswith(".svg"))
        return pictures


def open_picture(content: bytes, vector: bool = False) -> Image.Image:
    """Decode a bitmap, or draw an SVG `SVG_WIDTH` pixels wide, without system fonts."""
    picture = Image.open(io.BytesIO(draw_svg(content) if vector else content))
    picture.load()
    return picture


def draw_svg(content: bytes) -> bytes:
    """An SVG as PNG. Raises `KpnbError` without resvg-py, which only this script needs."""
    try:
        import resvg_py
    except ImportError as error:
        raise KpnbError("Stamps drawn as SVG need resvg-py: run `pip install resvg-py`.") from error
    return resvg_py.svg_to_bytes(
        svg_string=content.decode("utf-8"), width=SVG_WIDTH, dpi=96, skip_system_fonts=True
    )


Entries = Iterator[tuple[str, bytes]]


def pack_objects(table: Mapping[str, Mapping[str, list[str]]], reader: Reader) -> Entries:
    """The members of the objects' file: a WebP picture each, then meta.json."""
    items = [
        (class_name, thing, reference)
        for class_name, things in table.items()
        for thing, references in things.items()
        for reference in references
    ]
    pictures = reader.pictures(reference for _, _, reference in items)
    numbers, meta = dict.fromkeys(table, 0), []
    for class_name, thing, reference in items:
        file = f"{class_name}/{numbers[class_name]:03d}.webp"
        numbers[class_name] += 1
        yield file, encode(cut_out(pictures[reference], reference), WEBP)
        entry = {"file": file, "class": class_name, "group": thing, "name": reference}
        meta.append(entry | reader.origin(reference))
    yield "meta.json", _json(meta)


def cut_out(picture: Image.Image, name: str) -> Image.Image:
    """The object alone: RGBA, cropped to what is visible, longest side `CUT_OUT_SIDE`.

    Raises `KpnbError` for a picture that is empty, too small, too thin or not cut out.
    """
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda alpha: 255 * (alpha > VISIBLE)).getbbox()
    if box is None or max(box[2] - box[0], box[3] - box[1]) < SMALLEST:
        raise KpnbError(f"{name} shows nothing of {SMALLEST} pixels: take it out of the table.")
    picture = picture.crop(box)
    opaque = sum(picture.getchannel("A").histogram()[128:]) / (picture.width * picture.height)
    told = f"{name} fills {opaque:.3f} of its box, outside {FILL}"
    require(FILL[0] <= opaque <= FILL[1], f"{told}: take it out of the table.")
    scale = CUT_OUT_SIDE / max(picture.size)
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    return picture.resize(size, Image.Resampling.LANCZOS)


def pack_photos(references: list[str], reader: Reader) -> Entries:
    """The members of the backgrounds' file: `CROPS` of each photograph as JPEG, then meta.json."""
    pictures = reader.pictures(references)
    meta = []
    for reference in references:
        name = reference.split(":", 1)[1]
        for number, crop in enumerate(photo_crops(pictures[reference].convert("RGB"))):
            file = f"{name}_{number}.jpg"
            yield file, encode(crop, JPEG)
            meta.append({"file": file, "photo": reference} | reader.origin(reference))
    yield "meta.json", _json(meta)


def photo_crops(photo: Image.Image) -> Iterator[Image.Image]:
    """The windows `CROPS` of a photograph, each scaled to `CROP_SIDE` pixels."""
    border = round(BORDER * min(photo.size))
    photo = photo.crop((border, border, photo.width - border, photo.height - border))
    for share, across, down in CROPS:
        side = max(CROP_SIDE, round(share * min(photo.size)))
        left = round((photo.width - side) * across)
        upper = round((photo.height - side) * down)
        window = photo.crop((left, upper, left + side, upper + side))
        yield window.resize((CROP_SIDE, CROP_SIDE), Image.Resampling.LANCZOS)


def encode(picture: Image.Image, settings: Mapping[str, object]) -> bytes:
    """The picture as a file's bytes, without metadata."""
    buffer = io.BytesIO()
    picture.info.clear()  # no colour profiles or comments of the original
    picture.save(buffer, **settings)
    return buffer.getvalue()


def write_zip(path: Path, entries: Iterable[tuple[str, bytes]]) -> Path:
    """Write members in order with fixed times and modes: the bytes depend on the content alone."""
    unfinished = path.with_suffix(".tmp")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as packed:
        for name, content in entries:
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = 0o100644 << 16
            packed.writestr(info, content)
    return unfinished.replace(path)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=0, sort_keys=True) + "\n").encode()


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))

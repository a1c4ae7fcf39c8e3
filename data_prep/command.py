"""What a reader tells the command line about itself, as its module constant `OPTIONS`.

The command line that the five image data sets share; a script in data_prep/ for each.

A reader module has NAME, DATASET, FILES, COUNTS, OPTIONS (a `ReaderOptions`) and
`read(root, *, partial=False, **own options) -> ObjectSet`.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from data_prep.fetch import obtain
from data_prep.folder import prepare_images, table, verify_prepared
from data_prep.objects import Foreground
from kpnb.datasets.prepared import manifest
from kpnb.errors import KpnbError


@dataclass(frozen=True)
class ReaderOption:
    """One keyword argument of a reader's `read`, given as --name (with "-" for "_").

    help: one line. type: makes the value from the text of the command line; bool makes a switch.
    choices: allowed values; empty for any.
    """

    name: str
    default: object
    help: str
    type: Callable[[str], object] = str
    choices: tuple = ()


@dataclass(frozen=True)
class ReaderOptions:
    """foregrounds: what may be called foreground in this data set, the default first.

    least: default of --least, pixels of an object's shorter side. most: default of --most, objects
    per class and split. own: further keyword arguments of `read`, beside `partial`.
    """

    foregrounds: tuple[Foreground, ...]
    least: int = 0
    most: int | None = None
    own: tuple[ReaderOption, ...] = ()


SIZE = 224  # pixels a side, what the paper's networks take
FEW, MANY = 0, 8  # threads: none on one core, and no more than feed one disk


def main(reader: ModuleType, arguments: Sequence[str] | None = None) -> int:
    """Prepare one data set; returns the exit status: 0, or 2 with one sentence on stderr.

    The last lines on stdout are the prepared folder and how a notebook takes it.
    """
    options = _parser(reader).parse_args(arguments)
    try:
        folder = _folder(reader, options)
        if options.verify:
            known = verify_prepared(folder)
        else:
            known = manifest(_prepare(reader, options, folder))
    except KpnbError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(known))
    print(f"\n{folder}\nA notebook takes it as the parameter data={folder}")
    return 0


def _prepare(reader: ModuleType, options: argparse.Namespace, folder: Path) -> Path:
    obtain(reader.FILES, options.root, options.download)
    own = {option.name: getattr(options, option.name) for option in reader.OPTIONS.own}
    objects = reader.read(options.root, partial=options.partial, **own)
    if options.factor is not None:
        if objects.about.get("crop") == "whole":
            raise KpnbError("Whole pictures have no factor: cut boxes out (--crop box).")
        objects = replace(objects, factor=options.factor)
    return prepare_images(
        objects,
        folder,
        options.size,
        options.foreground,
        options.workers,
        name=reader.NAME,
        least=options.least,
        most=options.most or None,
        skip=options.skip,
        force=options.force,
    )


def _folder(reader: ModuleType, options: argparse.Namespace) -> Path:
    if options.out is not None:
        return options.out.absolute()
    block = "-block" if options.foreground == "block" else ""
    return (options.root / "prepared" / f"{reader.NAME}-{options.size}{block}").absolute()


def _parser(reader: ModuleType) -> argparse.ArgumentParser:
    own: ReaderOptions = reader.OPTIONS
    parser = argparse.ArgumentParser(
        description=f"{reader.DATASET}: crop its objects into one folder that the notebooks take.",
    )
    add = parser.add_argument
    add("--root", type=Path, required=True, help="folder of the data set as published")
    add("--download", action="store_true", help="fetch what is missing in the root")
    add("--out", type=Path, help=f"prepared folder (ROOT/prepared/{reader.NAME}-<size>[-block])")
    add("--size", type=int, default=SIZE, help=f"pixels a side ({SIZE})")
    add(
        "--foreground",
        choices=own.foregrounds,
        default=own.foregrounds[0],
        help=f"what counts as the object ({own.foregrounds[0]})",
    )
    add("--factor", type=float, help="enlarge boxes by this much (the data set's own)")
    add(
        "--least",
        type=int,
        default=own.least,
        help=f"leave out smaller objects ({own.least} pixels)",
    )
    add(
        "--most",
        type=int,
        default=own.most or 0,
        help=f"objects per class and split, 0 for all ({own.most or 0})",
    )
    for option in own.own:
        _add_own(parser, option)
    add("--partial", action="store_true", help="accept a copy with other counts than the release")
    add("--skip", action="store_true", help="leave out objects whose annotation gives no crop")
    add("--workers", type=int, default=_workers(), help="threads that decode pictures")
    add("--verify", action="store_true", help="check the prepared folder's SHA-256 and do no more")
    add("--force", action="store_true", help="prepare again, in the place of a prepared folder")
    return parser


def _add_own(parser: argparse.ArgumentParser, option: ReaderOption) -> None:
    name = "--" + option.name.replace("_", "-")
    if option.type is bool:
        parser.add_argument(name, action="store_true", help=option.help)
        return
    shown = f"{option.help} ({option.default})"
    choices = option.choices or None
    parser.add_argument(name, type=option.type, default=option.default, choices=choices, help=shown)


def _workers() -> int:
    cores = os.cpu_count() or 1
    return FEW if cores == 1 else min(cores, MANY)

"""What a reader tells the command line about itself, as its module constant `OPTIONS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Foreground = Literal["outline", "box", "block"]


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

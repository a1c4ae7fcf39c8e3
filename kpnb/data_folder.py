"""The folder behind a notebook's `data` parameter, for the studies."""

from __future__ import annotations

import importlib
from pathlib import Path


def data_folder(value: str) -> Path | None:
    """`kpnb.data_places.find_data`, imported by name: where data lie, and how they are fetched, is
    no part of what a result depends on. What they hold is, and has hashes of its own."""
    return importlib.import_module("kpnb.data_places").find_data(value)

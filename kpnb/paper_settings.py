"""The paper's settings, as data with their source: the YAML files of FILES."""

from __future__ import annotations

import functools

import yaml

from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file

FILES = {"images": "images.yaml", "texts": "texts.yaml", "clouds": "clouds.yaml"}
SOURCES = ("text", "code", "recollection", "ours")


@functools.lru_cache
def paper_settings(subject: str) -> dict:
    """The file of "images", "texts" or "clouds"; KpnbError unless every setting has a source."""
    content = yaml.safe_load(packed_file(FILES[subject]).read_text(encoding="utf-8"))
    for name, setting in _named_values(content):
        if setting.get("source") not in SOURCES:
            raise KpnbError(
                f"{FILES[subject]}, {name}: its source is {setting.get('source')!r}; give one of "
                f"{', '.join(SOURCES)}."
            )
    return content


def paper_preset(subject: str, *parts: str) -> dict[str, object]:
    """Values of the preset `paper`: those of `preset` and of the named parts of a file."""
    content = paper_settings(subject)
    return {"preset": "paper"} | {
        name: setting["value"]
        for part in ("preset", *parts)
        for name, setting in content[part].items()
    }


def origins(subject: str, *parts: str) -> dict[str, str]:
    """Where each value of `paper_preset` comes from, in words for readers."""
    content = paper_settings(subject)
    return {
        name: setting["source"] + (f": {setting['why']}" if "why" in setting else "")
        for part in ("preset", *parts)
        for name, setting in content[part].items()
    }


def _named_values(content: dict) -> list[tuple[str, dict]]:
    """Every setting of the parts that are made of `value` and `source`."""
    parts = {part: found for part, found in content.items() if isinstance(found, dict)}
    return [
        (f"{part}.{name}", setting)
        for part, found in parts.items()
        for name, setting in found.items()
        if isinstance(setting, dict) and "value" in setting
    ]

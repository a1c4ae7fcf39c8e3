"""The reference of the public names, made from their docstrings."""

import inspect
import textwrap
from collections.abc import Iterator

import kpnb

#: Title -> the modules whose public names stand under it, by the beginning of their name.
PARTS = {
    "From a model to entropy maps": "kpnb.estimator",
    "From maps to numbers": "kpnb.metrics",
    "Studies": "kpnb.study",
    "Data": "kpnb.datasets",
    "Networks": "kpnb.networks",
    "Training": "kpnb.training",
    "Store and errors": "kpnb.",
}


def api_page() -> str:
    """Every public name with its signature, its docstring and those of its methods, by part."""
    homes, text = dict(kpnb._MODULE_OF), []
    for title, start in PARTS.items():
        names = sorted(name for name, module in homes.items() if module.startswith(start))
        text += [f"## {title}", "", *(line for name in names for line in _entry(name))]
        homes = {name: module for name, module in homes.items() if name not in names}
    return "\n".join(text)


def _entry(name: str) -> Iterator[str]:
    found = getattr(kpnb, name)
    yield from (f"### `kpnb.{name}`", "", *_block(name, found))
    for method, function in vars(found).items() if inspect.isclass(found) else ():
        function = getattr(function, "__func__", getattr(function, "fget", function))
        public = not method.startswith("_") and inspect.isfunction(function)
        if public and function.__doc__:
            yield from _block(f"{name}.{method}", function)


def _block(name: str, found: object) -> Iterator[str]:
    """Signature and docstring as they stand in the source."""
    try:
        signature = textwrap.fill(f"{name}{inspect.signature(found)}", 96, subsequent_indent="    ")
    except (TypeError, ValueError):
        signature = name
    doc = inspect.getdoc(found) or ""
    indented = "\n".join(f"    {line}" if line else "" for line in doc.splitlines())
    yield from ("```text", signature, "", indented, "```", "")

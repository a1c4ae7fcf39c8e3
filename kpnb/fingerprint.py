"""Fingerprints: one hash for everything a stored result depends on.

A result depends on its settings, the data, the library versions and the code that computed it.
The code's share is taken from the syntax trees of the modules involved and of all they import
from the same package, so a comment or a docstring changes nothing and any other edit does.
"""

from __future__ import annotations

import ast
import difflib
import functools
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kpnb.errors import KpnbError

PACKAGE = Path(__file__).resolve().parent
LIBRARIES = ("torch", "torchvision", "numpy")


def fingerprint(value: object) -> str:
    """SHA-256, in hexadecimal, of `value` as canonical JSON (sorted keys, no spaces).

    `value` may hold None, bool, int, finite float, str, lists or tuples (taken as lists) and
    dicts with string keys. Raises `KpnbError` for anything else, NaN and infinity included.
    """
    return hashlib.sha256(canonical_json(value)).hexdigest()


def canonical_json(value: object) -> bytes:
    """`value` as JSON with sorted keys and no spaces; the types allowed are `fingerprint`'s."""
    require_json(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode()


def require_json(value: object, where: str = "the value") -> None:
    """Raise `KpnbError` naming the first place in `value` that JSON cannot hold exactly."""
    if value is None or isinstance(value, str | bool | int):
        return
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise KpnbError(f"{where} is {value}, which JSON cannot hold: use None instead.")
    elif isinstance(value, list | tuple):
        for position, item in enumerate(value):
            require_json(item, f"{where}[{position}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise KpnbError(f"{where} has the key {key!r}: keys must be strings.")
            require_json(item, f"{where}[{key!r}]")
    else:
        raise KpnbError(
            f"{where} is a {type(value).__name__}: convert it to a number, string, list or dict."
        )


def library_versions() -> dict[str, str]:
    """Versions that can change a number: Python (major.minor), torch, torchvision and numpy."""
    versions = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return versions


def code_fingerprint(*modules: str, package: Path | None = None) -> str:
    """SHA-256 over the code of `modules` and of every module of the package they import.

    `modules` are dotted names such as "kpnb.training"; the package's own name stands for all
    of it. `package` is the package's folder, kpnb's own by default. Imports are read from the
    syntax tree, those inside functions too; `from kpnb import name` counts as the whole package
    unless `name` is a module. A module that is imported only through `importlib` is not seen,
    nor is the package's own `__init__` when only its modules are imported.
    Raises `KpnbError` for a module that does not exist.
    """
    sources = _Package((package or PACKAGE).resolve()).involved(modules)
    return fingerprint({name: source.digest for name, source in sources.items()})


def imported_modules(source: str, package: Path | None = None) -> list[str]:
    """The package's modules that a piece of code (a notebook's, say) imports, sorted."""
    reader = _Package((package or PACKAGE).resolve())
    return sorted(reader.imports(ast.parse(source), importer=None))


def data_fingerprint(*modules: str, package: Path | None = None) -> str:
    """SHA-256 over the package's data that `modules` and what they import can read.

    A folder of `data/` counts, texts for readers (.md) left out, where its name stands as a string
    in one of these modules, as it must for the module to find it. So data for one task leave the
    results of another alone. Modules and errors as for `code_fingerprint`.
    """
    folder = (package or PACKAGE).resolve()
    sources = _Package(folder).involved(modules).values()
    named = set().union(*(source.strings for source in sources))
    held = [part for part in sorted((folder / "data").glob("*")) if part.name in named]
    files = [path for part in held for path in part.rglob("*") if path.is_file()]
    files = [path for path in files if path.suffix != ".md" and not path.name.startswith(".")]
    return fingerprint({path.relative_to(folder).as_posix(): file_hash(path) for path in files})


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Source:
    digest: str
    imports: tuple[str, ...]
    strings: frozenset[str] = frozenset()


class _Package:
    """The modules of one package folder, by dotted name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.files = dict(self._find())
        self.modules = list(self.files)

    def _find(self) -> Iterable[tuple[str, Path]]:
        for file in sorted(self.folder.rglob("*.py")):
            parts = file.relative_to(self.folder.parent).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file

    def involved(self, modules: Iterable[str]) -> dict[str, _Source]:
        """These modules and all that they import, by name."""
        found: dict[str, _Source] = {}
        waiting = [self.known(name) for name in modules]
        while waiting:
            name = waiting.pop()
            if name in found:
                continue
            found[name] = self.source(name)
            waiting += found[name].imports
            waiting += self.parents(name)
            waiting += self.modules if name == self.name else []
        return found

    def known(self, module: str) -> str:
        """`module` itself, if it exists."""
        if module in self.files or module == self.name:
            return module
        near = difflib.get_close_matches(module, self.modules, n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"name a module of {self.name}."
        raise KpnbError(f"There is no module {module!r}: {hint}")

    def parents(self, module: str) -> list[str]:
        """The sub-packages above a module; the package's own `__init__` only re-exports."""
        parts = module.split(".")
        names = (".".join(parts[:length]) for length in range(2, len(parts)))
        return [name for name in names if name in self.files]

    def source(self, module: str) -> _Source:
        """The digest and the imports of one module; a package without `__init__` is empty."""
        file = self.files.get(module)
        if file is None:
            return _Source("", ())
        changed = file.stat()
        return _read(self.folder, module, file, changed.st_mtime_ns, changed.st_size)

    def imports(self, tree: ast.AST, importer: str | None) -> set[str]:
        """Names of this package's modules that the tree imports, seen from module `importer`."""
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {self._deepest(alias.name) for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = self._base(node, importer)
                found |= {self._deepest(f"{base}.{alias.name}") for alias in node.names}
        return found - {""}

    def _base(self, node: ast.ImportFrom, importer: str | None) -> str:
        """The absolute name that a `from ... import` starts at."""
        if not node.level:
            return node.module or ""
        if importer is None:
            raise KpnbError("A notebook cannot use relative imports: import from kpnb instead.")
        parts = importer.split(".")
        is_package = importer in self.files and self.files[importer].name == "__init__.py"
        keep = len(parts) - node.level + (1 if is_package else 0)
        return ".".join([*parts[:keep], *([node.module] if node.module else [])])

    def _deepest(self, dotted: str) -> str:
        """The longest beginning of a dotted name that is a module here; "" for other packages."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            name = ".".join(parts[:length])
            if name in self.files or name == self.name:
                return name
        return ""


@functools.lru_cache(maxsize=512)
def _read(folder: Path, module: str, file: Path, mtime_ns: int, size: int) -> _Source:
    """Parse one module; modification time and size are arguments so that an edit is seen."""
    tree = ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    imports = tuple(sorted(_Package(folder).imports(tree, importer=module)))
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    strings = frozenset(text for text in texts if isinstance(text, str))
    return _Source(hashlib.sha256(_normalized(tree).encode()).hexdigest(), imports, strings)


def _normalized(tree: ast.Module) -> str:
    """The tree as text, without positions, comments and strings that stand alone (docstrings)."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [s for s in body if not _is_bare_string(s)] or [ast.Pass()]
    return ast.dump(tree, annotate_fields=False, include_attributes=False)


def _is_bare_string(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )

"""The definitions of a package, read from its source, and what each of them refers to.

A definition is a function, a class or a constant at a module's top level, with the later statements
that change it (`X.attr = ...`). It is read as text in which every reference to another definition
is a hole, so that neither the names nor the modules of definitions are in it.
"""

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kpnb.errors import KpnbError

#: Arguments of calls that say something to readers and nothing to the program.
FOR_READERS = {"Field": "description", "ConfigDict": "use_attribute_docstrings"}


class Place(NamedTuple):
    """Where a definition is: its module and its name there; name "*": all of the module."""

    module: str
    name: str


class Outside(NamedTuple):
    """Something from outside the package, by the dotted name that it is imported from."""

    dotted: str


class Unknown(NamedTuple):
    """A name of one of the package's modules that is not found there."""

    module: str
    name: str


Target = Place | Outside | Unknown
Import = tuple[str, str | None]  # a module, or a module and a name that is imported from it
TYPE: Import = ("a type", None)  # imported under TYPE_CHECKING: never there when the program runs
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class File(NamedTuple):
    """A module's file; when it was changed and its size tell an edit."""

    module: str
    path: Path
    changed: int
    size: int

    @property
    def importer(self) -> str:
        """What relative imports start from."""
        return f"{self.module}.__init__" if self.path.name == "__init__.py" else self.module


@dataclass
class Module:
    """One module: its definitions by name, what its names are imported from, and `effects`:
    statements that define nothing, such as a call of something imported; they count for each of the
    module's definitions."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, Import] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)


class Text(NamedTuple):
    """A definition's text around its references to others, in order; its string constants."""

    pieces: tuple[str, ...]
    references: tuple[Place | Unknown, ...]
    strings: frozenset[str]


class Package:
    """A package's folder at one moment; modules are parsed when they are first needed."""

    def __init__(self, folder: Path, files: tuple[File, ...]) -> None:
        self.folder, self.name = folder, folder.name
        self.files = {file.module: file for file in files}
        self._texts: dict[Place, Text] = {}

    def module(self, name: str) -> Module:
        return _parsed(self.files[name], self.name) if name in self.files else Module()

    def text(self, place: Place) -> Text:
        """A definition's text; for all of a module, the names and references of what it defines."""
        if place not in self._texts:
            writer, module = _Writer(self, place.module, place), self.module(place.module)
            if place.name == "*":
                for name in sorted(module.definitions):
                    writer.out.append(f"{name}=")
                    writer.target(Place(place.module, name), [])
            else:
                for statement in [*module.definitions[place.name], *module.effects]:
                    writer.top(statement)
            self._texts[place] = writer.text()
        return self._texts[place]

    def references(self, source: str) -> list[Place]:
        """The definitions that a piece of code outside the package (a notebook's) refers to."""
        writer, body = _Writer(self, "", None), ast.parse(source).body
        writer.inside(body, body)
        return sorted({place for place in writer.found if isinstance(place, Place)})

    def homes(self, name: str) -> list[str]:
        """The modules that define a name."""
        holding = [file.module for file in self.files.values() if name in _source(file)]
        return [module for module in holding if name in self.module(module).definitions]

    def resolve(
        self, module: str, name: str, seen: frozenset[Place] = frozenset()
    ) -> Target | None:
        """What a module's global name is; None for a builtin and for what is bound nowhere."""
        inside, here = self.module(module), Place(module, name)
        if name in inside.definitions:
            return here
        if name in inside.imports and here not in seen:
            return self.imported(inside.imports[name], seen | {here})
        return None

    def imported(self, what: Import, seen: frozenset[Place] = frozenset()) -> Target:
        """What an import binds, followed through modules that only hand it on."""
        base, name = what
        if base.partition(".")[0] != self.name:
            return Outside(base if name is None else f"{base}.{name}")
        if name is None:
            return Place(base, "*") if base in self.files else Unknown(base, "*")
        return self.member(base, name, seen)

    def member(self, module: str, name: str, seen: frozenset[Place] = frozenset()) -> Target:
        """What `module.name` is."""
        if (found := self.resolve(module, name, seen)) is not None:
            return found
        if f"{module}.{name}" in self.files:
            return Place(f"{module}.{name}", "*")
        if module == self.name and name in self._lazy:
            return self.member(self._lazy[name], name, seen)
        return Unknown(module, name)

    @functools.cached_property
    def _lazy(self) -> dict[str, str]:
        """Public name -> module: the table `_HOME` of the package's `__init__`."""
        table = self.module(self.name).definitions.get("_HOME")
        return ast.literal_eval(table[0].value) if table else {}


def package_at(folder: Path) -> Package:
    """The package in a folder as it is now; what has not changed is not read again."""
    return _package(folder, tuple(_file(folder, path) for path in sorted(folder.rglob("*.py"))))


def _file(folder: Path, path: Path) -> File:
    parts = path.relative_to(folder.parent).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    return File(name, path, path.stat().st_mtime_ns, path.stat().st_size)


_package = functools.lru_cache(maxsize=16)(Package)


@functools.lru_cache(maxsize=1024)
def _source(file: File) -> str:
    return file.path.read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1024)
def _parsed(file: File, package: str) -> Module:
    found = Module()
    _sort(ast.parse(_source(file), str(file.path)).body, found, file.importer, package)
    return found


def _sort(body: list[ast.stmt], into: Module, importer: str, package: str) -> None:
    """Each statement to the names that it defines or changes."""
    for statement in body:
        if _is_bare_string(statement) or _is_main(statement):
            continue
        if _is_type_checking(statement):
            _, imports = _bound(statement.body, importer, package)
            into.imports |= dict.fromkeys(imports, TYPE)
            _sort(statement.orelse, into, importer, package)
            continue
        names, imports = _bound([statement], importer, package)
        into.imports |= imports
        names = sorted({*names, *_changed(statement)} - into.imports.keys() | names)
        for name in names:
            into.definitions.setdefault(name, []).append(statement)
        if not names and not isinstance(statement, ast.Import | ast.ImportFrom | ast.Pass):
            into.effects.append(statement)


def _changed(statement: ast.stmt) -> set[str]:
    """The names whose attributes, items or content a statement changes: X.a = 1, X.update(...)."""
    nodes = _own_nodes([statement])
    places = [n for n in nodes if isinstance(n, _PARTS) and not isinstance(n.ctx, ast.Load)]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        places.append(statement.value.func)
    return {root.id for root in map(_root, places) if root} - vars(builtins).keys()


def _root(node: ast.AST) -> ast.Name | None:
    """X of X.a, X[0] or X.a[0].b; None where there is no such name, or nothing but it."""
    start = node
    while isinstance(node, _PARTS):
        node = node.value
    return node if isinstance(node, ast.Name) and node is not start else None


_PARTS = ast.Attribute | ast.Subscript
_IMPORTS = ast.Import | ast.ImportFrom
_NO_EFFECT = _IMPORTS | ast.Pass | ast.Global | ast.Nonlocal
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_SCOPES = Definition | ast.Lambda | _COMPREHENSIONS
_NAMED = Definition | ast.ExceptHandler | ast.MatchAs | ast.MatchStar
_BLOCKS = ast.If | ast.Try | ast.With | ast.For | ast.While


def _own_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes that belong to the scope of these; functions and the like without their inside."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting += ast.iter_child_nodes(node)


def _bound(
    nodes: Iterable[ast.AST], importer: str, package: str
) -> tuple[set[str], dict[str, Import]]:
    """The names that code binds in its own scope, and those that it imports."""
    names: set[str | None] = set()
    imports: dict[str, Import] = {}
    elsewhere: set[str | None] = {None}
    for node in _own_nodes(nodes):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, _NAMED):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
        elif isinstance(node, ast.MatchMapping):
            names.add(node.rest)
        elif isinstance(node, _IMPORTS):
            imports |= dict(_imports(node, importer))
        elif isinstance(node, ast.Global | ast.Nonlocal):
            elsewhere |= set(node.names)
        elif isinstance(node, _COMPREHENSIONS):
            names |= {sub.target.id for sub in ast.walk(node) if isinstance(sub, ast.NamedExpr)}
    if any(name == "*" and base.partition(".")[0] == package for base, name in imports.values()):
        raise KpnbError(f"{importer} imports * from {package}: name what it needs.")
    return names - elsewhere, imports


def _imports(node: ast.Import | ast.ImportFrom, importer: str) -> Iterator[tuple[str, Import]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            first = alias.name.partition(".")[0]
            yield alias.asname or first, (alias.name if alias.asname else first, None)
        return
    base = node.module or ""
    if node.level and not importer:
        raise KpnbError("A notebook cannot use relative imports: import from kpnb instead.")
    if node.level:
        base = ".".join([*importer.split(".")[: -node.level], base]).rstrip(".")
    for alias in node.names:
        yield alias.asname or alias.name, (base, alias.name)


def _is_bare_string(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test)


def _is_type_checking(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")


class _Writer:
    """Writes syntax trees as text with holes; positions, comments and prose are left out."""

    def __init__(self, package: Package, module: str, own: Place | None) -> None:
        self.package, self.module, self.own = package, module, own
        # Names bound in each scope (None for a variable, or an import), and whether it is a class.
        self.scopes: list[tuple[dict[str, Import | None], bool]] = []
        self.out: list[str] = []
        self.pieces: list[str] = []
        self.found: list[Place | Unknown] = []
        self.strings: set[str] = set()

    def text(self) -> Text:
        pieces = (*self.pieces, "".join(self.out))
        return Text(pieces, tuple(self.found), frozenset(self.strings))

    def top(self, statement: ast.stmt) -> None:
        """A statement at the top of a module; the name that it defines is not written."""
        if isinstance(statement, Definition):
            self.write_functiondef(statement, "")
            return
        if isinstance(statement, _BLOCKS):
            # Which import wins may be what such a statement decides.
            _, imports = _bound([statement], self.module, self.package.name)
            for name, what in sorted(imports.items()):
                self.target(self.package.imported(what), [name])
        self.write(statement)

    def write(self, node: object) -> None:
        if isinstance(node, list):
            # In a block, without what has no effect: prose, imports, `pass`, types' own imports.
            parts = [
                part.orelse if _is_type_checking(part) else part
                for part in node
                if not _is_bare_string(part) and not isinstance(part, _NO_EFFECT)
            ]
            self._group("[", parts, "]")
        elif isinstance(node, ast.AST):
            getattr(self, f"write_{type(node).__name__.lower()}", self._plain)(node)
        else:
            self.out.append(f"{node!r},")

    def _plain(self, node: ast.AST) -> None:
        silent = ("ctx", "type_comment", "type_ignores", "kind")
        parts = [getattr(node, name, None) for name in node._fields if name not in silent]
        self._group(f"{type(node).__name__}(", parts)

    def _group(self, opening: str, parts: Iterable[object], closing: str = ")") -> None:
        self.out.append(opening)
        for part in parts:
            self.write(part)
        self.out.append(closing)

    def write_constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self.strings.add(node.value)
        self.out.append(f"{type(node.value).__name__}:{node.value!r},")

    def write_attribute(self, node: ast.Attribute | ast.Name) -> None:
        names, start = [], node
        while isinstance(start, ast.Attribute):
            names.insert(0, start.attr)
            start = start.value
        found = self._find(start.id) if isinstance(start, ast.Name) else None
        if found is not None:
            self.target(found, names)
        elif names:
            self.write(start)
            self.out.append(f".{'.'.join(names)},")
        else:
            self.out.append(f"{node.id},")

    write_name = write_attribute

    def write_call(self, node: ast.Call) -> None:
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
        kept = [word for word in node.keywords if word.arg != FOR_READERS.get(name, "")]
        self._group("Call(", [node.func, node.args, kept])

    def write_raise(self, node: ast.Raise) -> None:
        """Which error it is; what it tells is for readers."""
        self.out.append("Raise(")
        self.write(node.exc.func if isinstance(node.exc, ast.Call) else node.exc)
        self.out.append(")")

    def write_annassign(self, node: ast.AnnAssign) -> None:
        parts = [node.target, _unquoted(node.annotation), _default(node.value)]
        self._group("AnnAssign(", parts)

    def write_arg(self, node: ast.arg) -> None:
        self._group(f"{node.arg}:", [_unquoted(node.annotation)], "")

    def write_functiondef(self, node: Definition, name: str | None = None) -> None:
        is_class = isinstance(node, ast.ClassDef)
        own = [] if is_class else [node.args]
        head = [node.bases, node.keywords] if is_class else [node.args, _unquoted(node.returns)]
        name = node.name if name is None else name
        self._group(f"{type(node).__name__}({name}", [node.decorator_list, *head], "")
        self.inside([*own, *node.body], node.body, is_class)
        self.out.append(")")

    write_asyncfunctiondef = write_classdef = write_functiondef

    def write_lambda(self, node: ast.Lambda) -> None:
        self._group("Lambda(", [node.args], "")
        self.inside([node.args, node.body], node.body)
        self.out.append(")")

    def write_listcomp(self, node: ast.AST) -> None:
        first, *others = node.generators
        result = [getattr(node, name) for name in node._fields if name != "generators"]
        self._group(f"{type(node).__name__}(", [first.iter], "")  # evaluated outside
        bound = [generator.target for generator in node.generators]
        self.inside(bound, [first.target, *first.ifs, *others, *result])
        self.out.append(")")

    write_setcomp = write_dictcomp = write_generatorexp = write_listcomp

    def inside(self, bound: list, body: object, is_class: bool = False) -> None:
        """Write `body` in the scope of the names that `bound` binds."""
        file = self.package.files.get(self.module)
        names, imports = _bound(bound, file.importer if file else "", self.package.name)
        self.scopes.append((dict.fromkeys(names) | imports, is_class))
        self.write(body)
        self.scopes.pop()

    def _find(self, name: str) -> Target | None:
        """What a name is here; None for a variable, a builtin and what is bound nowhere.

        A class's own names are seen in its body, not in its methods.
        """
        for depth, (names, is_class) in enumerate(reversed(self.scopes)):
            if name in names and not (is_class and depth):
                return names[name] and self.package.imported(names[name])
        return self.package.resolve(self.module, name)

    def target(self, found: Target, names: list[str]) -> None:
        """A reference to `found`, or to what its attributes `names` lead to."""
        while names and isinstance(found, Place) and found.name == "*":
            found, *names = self.package.member(found.module, names[0]), *names[1:]
        rest = f".{'.'.join(names)}," if names else ","
        if isinstance(found, Outside):
            self.out.append(f"<{'.'.join([found.dotted, *names])}>,")
        elif found == self.own:
            self.out.append(f"<itself>{rest}")
        else:
            self.pieces.append("".join(self.out))
            self.found.append(found)
            self.out = [rest]


def _unquoted(annotation: ast.expr | None) -> ast.expr | None:
    """Quoted or not, a type is the same."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return ast.parse(annotation.value, mode="eval").body
    return annotation


def _default(value: ast.expr | None) -> ast.expr | None:
    """A pydantic field's value: `Field(description=...)` is none, `Field(1, description=...)` 1."""
    if not isinstance(value, ast.Call) or getattr(value.func, "id", "") != "Field":
        return value
    if any(word.arg != FOR_READERS["Field"] for word in value.keywords) or len(value.args) > 1:
        return value
    return value.args[0] if value.args else None

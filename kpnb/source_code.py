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
from pathlib import Path
from typing import NamedTuple

from kpnb.errors import KpnbError

#: Arguments of calls that say something to readers and nothing to the program.
FOR_READERS = {"Field": "description", "ConfigDict": "use_attribute_docstrings"}


class Place(NamedTuple):
    """Where a definition is: its module and its name there; name "*": all of the module."""

    module: str
    name: str


class Unknown(NamedTuple):
    """A name of one of the package's modules that is not found there."""

    module: str
    name: str


Target = Place | Unknown | str  # str: the dotted name of something outside the package
Import = tuple[str, str | None]  # a module, or a module and a name that is imported from it
Seen = frozenset[Place]
TYPE: Import = ("a type", None)  # imported under TYPE_CHECKING: never there when the program runs
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class File(NamedTuple):
    """A module's file; relative imports start from `importer`; `changed`, `size`: tell edits."""

    module: str
    importer: str
    path: Path
    changed: int
    size: int


class Module(NamedTuple):
    """One module: its definitions by name, what its names are imported from, and `effects`:
    statements that define nothing, such as a call of something imported; they count for each of the
    module's definitions."""

    definitions: dict[str, list[ast.stmt]]
    imports: dict[str, Import]
    effects: list[ast.stmt]


class Package:
    """A package's folder at one moment; modules are parsed when they are first needed."""

    def __init__(self, folder: Path, files: tuple[File, ...]) -> None:
        self.folder, self.name = folder, folder.name
        self.files = {file.module: file for file in files}
        self._texts: dict[Place, Text] = {}

    def module(self, name: str) -> Module:
        return _parsed(self.files[name], self.name) if name in self.files else Module({}, {}, [])

    def text(self, place: Place) -> Text:
        """A definition's text; for all of a module, the names and references of what it defines."""
        if place not in self._texts:
            text = self._texts[place] = Text(self, place.module, place)
            module = self.module(place.module)
            for name in sorted(module.definitions) if place.name == "*" else ():
                text.out.append(f"{name}=")
                text.target(Place(place.module, name), [])
            if place.name != "*":
                for statement in [*module.definitions[place.name], *module.effects]:
                    text.top(statement)
            text.pieces.append("".join(text.out))
        return self._texts[place]

    def references(self, source: str) -> list[Place]:
        """The definitions that a piece of code outside the package (a notebook's) refers to."""
        text, body = Text(self, "", None), ast.parse(source).body
        text.scope("", [], body, body)
        return sorted({place for place in text.references if isinstance(place, Place)})

    def homes(self, name: str) -> list[str]:
        """The modules that define a name."""
        holding = [file.module for file in self.files.values() if name in _source(file)]
        return [module for module in holding if name in self.module(module).definitions]

    def resolve(self, module: str, name: str, seen: Seen = frozenset()) -> Target | None:
        """What a module's global name is; None for a builtin and for what is bound nowhere."""
        inside, here = self.module(module), Place(module, name)
        if name in inside.definitions:
            return here
        if name in inside.imports and here not in seen:
            return self.imported(inside.imports[name], seen | {here})
        return None

    def imported(self, what: Import, seen: Seen = frozenset()) -> Target:
        """What an import binds, followed through modules that only hand it on."""
        base, name = what
        if base.partition(".")[0] != self.name:
            return base if name is None else f"{base}.{name}"
        if name is None:
            return Place(base, "*") if base in self.files else Unknown(base, "*")
        return self.member(base, name, seen)

    def member(self, module: str, name: str, seen: Seen = frozenset()) -> Target:
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
        """Public name -> module, from the table `_HOME` of the package's `__init__`."""
        table = self.module(self.name).definitions.get("_HOME")
        homes = ast.literal_eval(table[0].value) if table else {}
        return {name: module for module, names in homes.items() for name in names.split()}


def package_at(folder: Path) -> Package:
    """The package in a folder as it is now; what has not changed is not read again."""
    return _package(folder, tuple(_file(folder, path) for path in sorted(folder.rglob("*.py"))))


def _file(folder: Path, path: Path) -> File:
    name, about = ".".join(path.relative_to(folder.parent).with_suffix("").parts), path.stat()
    return File(name.removesuffix(".__init__"), name, path, about.st_mtime_ns, about.st_size)


_package = functools.lru_cache(maxsize=16)(Package)


@functools.lru_cache(maxsize=1024)
def _source(file: File) -> str:
    return file.path.read_text(encoding="utf-8")


@functools.lru_cache(maxsize=1024)
def _parsed(file: File, package: str) -> Module:
    """Each statement at the names that it defines or changes."""
    found, waiting = Module({}, {}, []), ast.parse(_source(file), str(file.path)).body
    while waiting:
        statement = waiting.pop(0)
        test = ast.unparse(statement.test) if isinstance(statement, ast.If) else ""
        if _is_bare_string(statement) or "__name__" in test:
            continue
        if _is_type_checking(statement):
            typed = _bound(statement.body, file.importer, package)[1]
            found.imports.update(dict.fromkeys(typed, TYPE))
            waiting = [*statement.orelse, *waiting]
            continue
        names, imports = _bound([statement], file.importer, package)
        found.imports.update(imports)
        names |= _changed(statement) - found.imports.keys()
        for name in sorted(names):
            found.definitions.setdefault(name, []).append(statement)
        if not names and not isinstance(statement, _IMPORTS | ast.Pass):
            found.effects.append(statement)
    return found


def _changed(statement: ast.stmt) -> set[str]:
    """The names whose attributes, items or content a statement changes: X.a = 1, X.update(...)."""
    called = getattr(statement.value, "func", None) if isinstance(statement, ast.Expr) else None
    roots = set()
    for node in _own_nodes([statement]):
        if isinstance(node, _PARTS) and (node is called or not isinstance(node.ctx, ast.Load)):
            while isinstance(node, _PARTS):
                node = node.value
            roots.add(getattr(node, "id", None))
    return roots - {None} - vars(builtins).keys()


_PARTS = ast.Attribute | ast.Subscript
_IMPORTS = ast.Import | ast.ImportFrom
_NO_EFFECT = _IMPORTS | ast.Pass | ast.Global | ast.Nonlocal
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
_SCOPES = Definition | ast.Lambda | _COMPREHENSIONS
#: Nodes that bind a name, and where they hold it.
_BINDING = dict.fromkeys((ast.ExceptHandler, ast.MatchAs, ast.MatchStar), "name")
_BINDING |= dict.fromkeys((ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef), "name")
_BINDING |= {ast.Name: "id", ast.arg: "arg", ast.MatchMapping: "rest"}
_BLOCKS = ast.If | ast.Try | ast.With | ast.For | ast.While


def _own_nodes(nodes: Iterable[ast.AST]) -> Iterator[ast.AST]:
    """All nodes that belong to the scope of these; functions and the like without their inside."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, _SCOPES):
            waiting += ast.iter_child_nodes(node)


def _bound(nodes: Iterable[ast.AST], importer: str, package: str) -> tuple[set[str], dict]:
    """The names that code binds in its own scope, and those that it imports."""
    names, elsewhere, imports = set(), {None}, {}
    for node in _own_nodes(nodes):
        if type(node) in _BINDING and not isinstance(getattr(node, "ctx", None), ast.Load):
            names.add(getattr(node, _BINDING[type(node)]))
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
    if node.level and not importer:
        raise KpnbError("A notebook cannot use relative imports: import from kpnb instead.")
    start = importer.split(".")[: -node.level] if node.level else []
    base = ".".join(filter(None, [*start, node.module]))
    for alias in node.names:
        yield alias.asname or alias.name, (base, alias.name)


def _is_bare_string(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _is_type_checking(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")


class Text:
    """A definition as text around its references to others, in order, with its string constants.

    Written from syntax trees with a hole for each reference; positions, comments and prose are left
    out. own: what is written, which is a mark where it refers to itself.
    """

    def __init__(self, package: Package, module: str, own: Place | None) -> None:
        self.package, self.module, self.own = package, module, own
        self.importer = package.files[module].importer if module in package.files else ""
        # Names bound in each scope (None for a variable, or an import), and whether it is a class.
        self.scopes: list[tuple[dict[str, Import | None], bool]] = []
        self.out: list[str] = []
        self.pieces: list[str] = []
        self.references: list[Place | Unknown] = []
        self.strings: set[str] = set()

    def top(self, statement: ast.stmt) -> None:
        """A statement at the top of a module; the name that it defines is not written."""
        # Which import wins may be what a block decides.
        blocks = [statement] if isinstance(statement, _BLOCKS) else []
        for name, what in sorted(_bound(blocks, self.importer, self.package.name)[1].items()):
            self.target(self.package.imported(what), [name])
        if isinstance(statement, Definition):
            self.write_functiondef(statement, "")
        else:
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
            names, start = [start.attr, *names], start.value
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
        self._group("Raise(", [node.exc.func if isinstance(node.exc, ast.Call) else node.exc])

    def write_annassign(self, node: ast.AnnAssign) -> None:
        self._group("AnnAssign(", [node.target, _unquoted(node.annotation), _default(node.value)])

    def write_arg(self, node: ast.arg) -> None:
        self._group(f"{node.arg}:", [_unquoted(node.annotation)], "")

    def write_functiondef(self, node: Definition, name: str | None = None) -> None:
        is_class = isinstance(node, ast.ClassDef)
        own = [] if is_class else [node.args]
        head = [node.bases, node.keywords] if is_class else [node.args, _unquoted(node.returns)]
        opening = f"{type(node).__name__}({node.name if name is None else name}"
        outside, bound = [node.decorator_list, *head], [*own, *node.body]
        self.scope(opening, outside, bound, node.body, is_class)

    write_asyncfunctiondef = write_classdef = write_functiondef

    def write_lambda(self, node: ast.Lambda) -> None:
        self.scope("Lambda(", [node.args], [node.args, node.body], node.body)

    def write_listcomp(self, node: ast.AST) -> None:
        first, *others = node.generators
        result = [getattr(node, name) for name in node._fields if name != "generators"]
        bound = [generator.target for generator in node.generators]
        body = [first.target, *first.ifs, *others, *result]
        self.scope(f"{type(node).__name__}(", [first.iter], bound, body)

    write_setcomp = write_dictcomp = write_generatorexp = write_listcomp

    def scope(self, start: str, outside: list, bound: list, body: object, is_class=False) -> None:
        """What is evaluated outside, and `body` in the scope of the names that `bound` binds."""
        self._group(start, outside, "")
        names, imports = _bound(bound, self.importer, self.package.name)
        self.scopes.append((dict.fromkeys(names) | imports, is_class))
        self.write(body)
        self.scopes.pop()
        self.out.append(")")

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
        if isinstance(found, str):
            self.out.append(f"<{'.'.join([found, *names])}>,")
        elif found == self.own:
            self.out.append(f"<itself>{rest}")
        else:
            self.pieces.append("".join(self.out))
            self.references.append(found)
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

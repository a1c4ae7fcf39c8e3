"""The definitions of a package, read from its source, and what each of them refers to.

A definition is a function, a class or a constant at a module's top level, with the later statements
that change it (`X.attr = ...`). It is read as a syntax tree with holes in place of names, and a
hole counts as what it leads to: so neither the names nor the modules of definitions do. Positions,
comments, imports and prose are left out.
"""

import ast
import functools
from collections import ChainMap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kpnb.errors import KpnbError

#: Arguments of calls that say something to readers and nothing to the program; `Field(1)` is 1.
FOR_READERS = {"Field": "description", "ConfigDict": "use_attribute_docstrings"}


class Place(NamedTuple):
    """Where a definition is: its module and its name there; name "*": all of the module."""

    module: str
    name: str


# What a name leads to, and attributes of that. A text stands for what is no definition of the
# package: ":torch.nn" from another, "?x" builtin or bound nowhere, "x" a variable.
Found = tuple[Place | str, list[str]]
# What a scope and those around it bind: the dotted name of an import, None for a variable.
Scope = ChainMap[str, str | None]
GLOBAL = ""  # in a scope: bound by the module
TYPE = "a type"  # imported under TYPE_CHECKING: never there when the program runs
Hole = tuple[Scope, list[str]]  # a name with attributes, and where it is looked up
Statement = tuple[str, list[Hole]]


class File(NamedTuple):
    """A module's file; relative imports start from `importer`; `changed`, `size`: tell edits."""

    module: str
    importer: str
    path: Path
    changed: int
    size: int


class Module(NamedTuple):
    """One module: its definitions by name, the dotted names of what it imports, and `effects`:
    statements that define nothing, such as a call of something imported; they count for each of the
    module's definitions."""

    definitions: dict[str, list[Statement]]
    imports: dict[str, str]
    effects: list[Statement]


class Text(NamedTuple):
    """A definition in writing, without its references to others; and these, in order."""

    text: str
    references: list[Place]


class Package:
    """A package's folder at one moment; modules are parsed when they are first needed."""

    def __init__(self, folder: Path, files: tuple[File, ...]) -> None:
        self.folder, self.name = folder, folder.name
        self.files = {file.module: file for file in files}
        self.text = functools.cache(self._text)

    def module(self, name: str) -> Module:
        return _parsed(self.files[name], self.name) if name in self.files else Module({}, {}, [])

    def _text(self, place: Place) -> Text:
        """A definition's text; for all of a module, the names and references of what it defines."""
        module = self.module(place.module)
        if place.name == "*":
            names = sorted(module.definitions)
            return Text(" ".join(names), [Place(place.module, name) for name in names])
        text, references = [], []
        for written, holes in [*module.definitions[place.name], *module.effects]:
            text.append(written)
            for hole in holes:
                found, rest = self._lookup(place.module, *hole)
                if isinstance(found, Place) and found != place:
                    references.append(found)
                    found = "<another>"
                text.append(".".join(["<itself>" if found == place else found, *rest]))
        return Text("\n".join(text), references)

    def references(self, source: str) -> list[Place]:
        """The definitions that a piece of code outside the package (a notebook's) refers to."""
        writer, tree = _Writer("", self.name), ast.parse(source)
        writer.nested(tree, [], tree.body)
        found = {self._lookup("", *hole)[0] for hole in writer.holes}
        return sorted(place for place in found if isinstance(place, Place))

    def homes(self, name: str) -> list[str]:
        """The modules that define a name."""
        holding = [file.module for file in self.files.values() if name in _source(file)]
        return [module for module in holding if name in self.module(module).definitions]

    def _lookup(self, module: str, scope: Scope, names: list[str]) -> Found:
        """What a name with attributes leads to in a scope of a module."""
        bound = scope.get(names[0], GLOBAL)
        if bound is None:
            return names[0], names[1:]
        if bound != GLOBAL:
            module, *names = [*bound.split("."), *names[1:]]
        return self._resolve(module, names)

    def _resolve(self, module: str, names: list[str]) -> Found:
        """What a name of a module leads to, followed through modules that only hand it on."""
        seen = set()  # A package may import a module of its own by its name.
        while names and module.partition(".")[0] == self.name:
            inside, (name, *rest) = self.module(module), names
            if name in inside.definitions:
                return Place(module, name), rest
            if name in inside.imports and (module, name) not in seen:
                seen.add((module, name))
                module, *names = [*inside.imports[name].split("."), *rest]
            elif f"{module}.{name}" in self.files:
                module, names = f"{module}.{name}", rest
            elif module == self.name and name in self._lazy:
                module = self._lazy[name]
            else:
                return f"?{name}", rest
        return (Place(module, "*"), []) if module in self.files else (f":{module}", names)

    @functools.cached_property
    def _lazy(self) -> dict[str, str]:
        """Public name -> module, from the table `_HOME` of the package's `__init__`."""
        homes = {}
        for part in ast.parse(_source(self.files[self.name])).body:
            if isinstance(part, ast.Assign) and ast.unparse(part.targets[0]) == "_HOME":
                homes = ast.literal_eval(part.value)
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
    found = Module({}, {}, [])
    for node in ast.parse(_source(file), str(file.path)).body:
        if isinstance(node, ast.If) and "__name__" in ast.unparse(node.test):
            continue
        writer = _Writer(file.importer, package)
        text, imports = writer.write(node), dict(writer.top)
        writer.top.clear()  # The module holds them, with what other statements bind.
        found.imports.update(imports)
        names = writer.defined | (set(_changed(node)) & found.definitions.keys())
        for name in sorted(names):
            found.definitions.setdefault(name, []).append((text, writer.holes))
        if text and not names:
            found.effects.append((text, writer.holes))
    return found


def _changed(statement: ast.stmt) -> Iterator[str]:
    """The names of which a statement sets or calls a part: X.a = 1, X[0] = 1, X.update(...)."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    parts = [part for part in ast.walk(statement) if isinstance(getattr(part, "ctx", 0), _SET)]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        parts.append(getattr(statement.value.func, "value", None))
    for part in parts:
        while isinstance(part, ast.Attribute | ast.Subscript):
            part = part.value
        yield getattr(part, "id", "")


_SET = ast.Store | ast.Del


class _Writer:
    """Writes syntax trees as text with holes for names, and notes what they bind at the top.

    Holes are looked up when all is written, as a scope may bind a name below its use.
    """

    def __init__(self, importer: str, package: str) -> None:
        self.importer, self.package = importer, package
        self.holes: list[Hole] = []
        self.defined: set[str] = set()
        # Where names are bound (at the top, only imports); what of it functions inside see; and
        # where `:=` binds.
        self.top = self.scope = self.seen = self.block = Scope()

    def write(self, part: object) -> str:
        if isinstance(part, list):
            return f"[{''.join(map(self.write, part))}]"
        if not isinstance(part, ast.AST):
            return f"{part!r},"
        return getattr(self, f"write_{type(part).__name__.lower()}", self._plain)(part)

    def _plain(self, node: ast.AST) -> str:
        parts = [getattr(node, name, None) for name in node._fields if name != "ctx"]
        return type(node).__name__ + self.write(parts)

    def write_name(self, node: ast.Name | ast.Attribute) -> str:
        names, start = [], node
        while isinstance(start, ast.Attribute):
            names, start = [start.attr, *names], start.value
        if not isinstance(start, ast.Name):
            return self._plain(node)
        if isinstance(start.ctx, _SET):
            self._bind(start.id, self.scope)
        return self._hole([start.id, *names])

    write_attribute = write_name

    def _hole(self, names: list[str]) -> str:
        self.holes.append((self.scope, names))
        return "_"

    def _bind(self, name: str | None, scope: Scope) -> None:
        if scope is not self.top:
            scope.maps[0].setdefault(name, None)
        elif name:
            self.defined.add(name)

    def write_excepthandler(self, node: ast.ExceptHandler | ast.pattern) -> str:
        """Some patterns of `match` bind a name, too."""
        self._bind(getattr(node, "name", getattr(node, "rest", None)), self.scope)
        return self._plain(node)

    write_matchas = write_matchstar = write_matchmapping = write_excepthandler

    def write_namedexpr(self, node: ast.NamedExpr) -> str:
        self._bind(node.target.id, self.block)
        node.target.ctx = ast.Load()
        return self._plain(node)

    def write_global(self, node: ast.Global) -> str:
        self.scope.update(dict.fromkeys(node.names, GLOBAL))
        return self._plain(node)

    def _import(self, name: str, dotted: str) -> None:
        """At the top what is imported counts, too: a block may decide which import wins."""
        self.scope[name] = dotted
        if self.scope is self.top:
            self.holes.append((Scope({name: dotted}), [name]))

    def write_import(self, node: ast.Import) -> str:
        for alias in node.names:
            first = alias.name.partition(".")[0]
            self._import(alias.asname or first, alias.name if alias.asname else first)
        return ""

    def write_importfrom(self, node: ast.ImportFrom) -> str:
        if node.level and not self.importer:
            raise KpnbError("A notebook cannot use relative imports: import from kpnb instead.")
        start = self.importer.split(".")[: -node.level] if node.level else []
        base = ".".join(filter(None, [*start, node.module]))
        if base.partition(".")[0] == self.package and node.names[0].name == "*":
            raise KpnbError(f"{self.importer} imports * from {self.package}: name what it needs.")
        for alias in node.names:
            self._import(alias.asname or alias.name, f"{base}.{alias.name}")
        return ""

    def write_if(self, node: ast.If) -> str:
        """What is imported only for types is bound, too."""
        if getattr(node.test, "attr", getattr(node.test, "id", "")) != "TYPE_CHECKING":
            return self._plain(node)
        types = [part for part in node.body if isinstance(part, ast.Import | ast.ImportFrom)]
        for alias in (alias for part in types for alias in part.names):
            self._import(alias.asname or alias.name.partition(".")[0], TYPE)
        return "".join(map(self.write, node.orelse))

    def write_expr(self, node: ast.Expr) -> str:
        is_prose = isinstance(getattr(node.value, "value", None), str)
        return "" if is_prose else self._plain(node)

    def write_pass(self, node: ast.Pass) -> str:
        return ""

    def write_raise(self, node: ast.Raise) -> str:
        """Which error it is; what it tells is for readers."""
        return "Raise" + self.write([getattr(node.exc, "func", node.exc)])

    def write_call(self, node: ast.Call) -> str:
        name = getattr(node.func, "id", None) or getattr(node.func, "attr", "")
        node.keywords = [word for word in node.keywords if word.arg != FOR_READERS.get(name, "")]
        node.args = (
            node.args[:1] if name == "require" else node.args
        )  # what it tells is for readers
        if name == "Field" and not node.keywords and len(node.args) < 2:
            return self.write(node.args[0] if node.args else None)
        return self._plain(node)

    def write_arg(self, node: ast.arg | ast.AnnAssign) -> str:
        node.annotation = _unquoted(node.annotation)
        return self._plain(node)

    write_annassign = write_arg

    def write_classdef(self, node: ast.ClassDef | ast.FunctionDef) -> str:
        """The name of a definition at the top is a hole, as where it is used."""
        self._bind(node.name, self.scope)
        name = self._hole([node.name]) if self.scope is self.top else node.name
        is_class = isinstance(node, ast.ClassDef)
        head = [node.bases, node.keywords] if is_class else [node.args, _unquoted(node.returns)]
        return name + self.nested(node, [node.decorator_list, *head], node.body)

    write_functiondef = write_asyncfunctiondef = write_classdef

    def write_lambda(self, node: ast.Lambda) -> str:
        return self.nested(node, [node.args], [node.body])

    def write_listcomp(self, node: ast.ListComp) -> str:
        """Where the first items come from is outside."""
        first, *others = node.generators
        result = [getattr(node, name) for name in node._fields if name != "generators"]
        return self.nested(node, [first.iter], [first.target, first.ifs, others, result])

    write_setcomp = write_dictcomp = write_generatorexp = write_listcomp

    def nested(self, node: ast.AST, outside: list, inside: list) -> str:
        """What is evaluated in the scope where the node stands, and what in its own."""
        written, around = self.write(outside), (self.scope, self.seen, self.block)
        arguments = ast.iter_child_nodes(node.args) if hasattr(node, "args") else ()
        bound = {part.arg: None for part in arguments if isinstance(part, ast.arg)}
        self.scope = self.seen.new_child(bound)
        if not isinstance(node, ast.ClassDef):
            self.seen = self.scope
        if not hasattr(node, "generators"):
            self.block = self.scope
        written += self.write(inside)
        self.scope, self.seen, self.block = around
        return type(node).__name__ + written


def _unquoted(annotation: ast.expr | None) -> ast.expr | None:
    """Quoted or not, a type is the same."""
    quoted = getattr(annotation, "value", None)
    return ast.parse(quoted, mode="eval").body if isinstance(quoted, str) else annotation

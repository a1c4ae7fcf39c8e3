"""The house keeps its shape; which room may import which is in pyproject.toml (`make lint`)."""

import ast
import importlib
import re
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"kpnb": ROOT / "kpnb", "data_prep": ROOT / "data_prep", "book.make": ROOT / "book/make"}
ROOMS = 9
GROUND = {"__init__", "errors", "fingerprint", "source_code", "store", "paper"}
MODULES, LINES, ROOM_LINES, FUNCTION = 10, 450, 3250, 60
SPLINTER = 80  # lines; a module below has more than one user in its room, or is none of its own
#: Tests that speak of a whole room, or of the house, and not of one module.
MIRRORED = ("estimator", "metrics", "datasets", "networks", "training", "figures", "study")


@cache
def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    found = {}
    for name, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            inside = path.relative_to(folder).with_suffix("").parts
            found[".".join([name, *inside]).removesuffix(".__init__")] = path
    return found


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def own(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]


def rooms() -> list[Path]:
    return [path.parent for path in sorted((ROOT / "kpnb").glob("*/__init__.py"))]


def test_there_are_few_rooms_and_a_small_ground():
    assert len(rooms()) <= ROOMS
    assert {path.stem for path in (ROOT / "kpnb").glob("*.py")} == GROUND
    for room in rooms():
        inner = [path.parent for path in room.glob("*/__init__.py")]
        assert len(inner) <= 1 and all(len(own(folder)) <= MODULES for folder in [room, *inner])
        assert sum(lines(path) for path in room.rglob("*.py")) <= ROOM_LINES, room


def test_modules_and_functions_are_short_and_a_public_name_is_defined_once():
    public = Counter()
    for name, path in modules().items():
        assert lines(path) <= LINES, name
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < FUNCTION, f"{name}.{node.name}"
        if name.startswith("kpnb"):
            tops = [n for n in tree(path).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
            public.update({node.name for node in tops if node.name[0] != "_"})
    assert {name for name, count in public.items() if count > 1} <= {"main"}  # a program's entry


def imports(name: str) -> set[str]:
    """The modules of the project that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(tree(modules()[name])):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & modules().keys()


def test_no_module_is_the_second_half_of_another():
    """Below `SPLINTER` lines and used by one module alone, of its own room: it belongs there."""
    users = defaultdict(set)
    for name in modules():
        for used in imports(name) - {name}:
            users[used].add(name)
    for name, path in modules().items():
        small = lines(path) < SPLINTER and path.name != "__init__.py"
        if small and len(users[name]) == 1 and name.startswith("kpnb"):
            (user,) = users[name]
            assert user.rpartition(".")[0] != name.rpartition(".")[0], f"{name} belongs to {user}"


def test_private_names_stay_in_their_module():
    for name in modules():
        for node in ast.walk(tree(modules()[name])):
            if isinstance(node, ast.ImportFrom) and (node.module or "") in modules():
                assert not [a.name for a in node.names if a.name[0] == "_"], (name, node.module)


@pytest.mark.parametrize("room", MIRRORED)
def test_every_module_has_its_tests(room):
    folder = ROOT / "kpnb" / room
    inner = [path.parent for path in folder.glob("*/__init__.py")]
    for path in [path for place in (folder, *inner) for path in own(place)]:
        beside = ROOT / "tests" / path.relative_to(ROOT / "kpnb").parent / f"test_{path.name}"
        assert beside.exists(), f"{beside.relative_to(ROOT)} is missing"


def test_modules_are_imported_by_name_in_few_places():
    # A data set's own command; what a run will take, shown beside a study below it.
    allowed = {"kpnb", "kpnb.datasets.places", "kpnb.study.display"}
    for name, path in modules().items():
        if name not in allowed and not name.startswith("data_prep"):
            found = re.findall(r"import_module\(f?[\"'](?:kpnb|data_prep)", path.read_text("utf-8"))
            assert not found, name


def test_what_texts_name_exists():
    """Every kpnb.x.y and every path of a module in texts, notebooks and docstrings leads there."""
    dotted = re.compile(r"(?<![\w./@])(?:kpnb|data_prep|book\.make)(?:\.[A-Za-z_]\w*)+")
    wrong = defaultdict(set)
    pages = [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), ROOT / "Makefile", ROOT / "Snakefile"]
    for path in [*pages, *ROOT.glob("notebooks/*.ipynb"), *modules().values()]:
        text = path.read_text(encoding="utf-8")
        for found in set(dotted.findall(text)):
            if not leads_somewhere(found):
                wrong[path.name].add(found)
        for found in set(re.findall(r"(?<![\w./])(?:kpnb|data_prep|book/make)/[\w/]+\.\w+", text)):
            if not (ROOT / found).exists():
                wrong[path.name].add(found)
    assert not wrong


@cache
def leads_somewhere(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in modules():
            return not parts[length:] or hasattr(importlib.import_module(name), parts[length])
    return False

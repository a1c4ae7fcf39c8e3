"""Fingerprints change with code, settings and data, and with nothing else."""

import hashlib
import json
import os
import re
import subprocess

import pytest
from refusals import fails, refuses

from kpnb import fingerprint as fingerprints
from kpnb.fingerprint import code_fingerprint, data_fingerprint, fingerprint, reached

# A package of the same name, so that the same rooms are closed.
MODULES = """\
=== __init__.py
_HOME = {"kpnb.model": "Model", "kpnb.top": "result"}
=== top.py
import torch
from kpnb import middle
from kpnb.figures import plots
from kpnb.model import Model
from kpnb.errors import KpnbError
from kpnb.errors import require
def result(x, times=middle.TIMES):
    if x is None:
        raise KpnbError("no x")
    require(x < 10, "x too large")
    plots.draw(x)
    return Model(times).run(middle.half(x)) + torch.nn.functional.relu(x)
=== middle.py
from .deep.leaf import one as first
TIMES = 3
TABLE = {"a": 1}
TABLE["b"] = 2
FILES = ("table.csv",)
def half(x):
    def inner(first):
        return first * TIMES
    return inner(x) / (2 * first()) + TABLE["b"] + len(FILES)
def aside():
    return 5
=== model.py
from functools import cache
from math import cos
from pydantic import Field
class Base:
    factor = 2
class Other:
    factor = 2
    def also(self):
        return 1
def kept(f):
    return f
class Model(Base):
    width: int = Field(description="how wide")
    depth: int = Field(3, description="how deep")
    size: int = Field(3, ge=1, description="how large")
    def __init__(self, times):
        self.times = times
    @kept
    def run(self, x):
        return cos(x) * self.factor + even(self.times)
def even(n):
    return True if n == 0 else odd(n - 1)
def odd(n):
    return False if n == 0 else even(n - 1)
=== deep/__init__.py
=== deep/leaf.py
import numpy as np
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from kpnb.figures.image import Figure
def one(seed: "Figure" = 0):
    from .. import model
    return np.random.default_rng(seed).normal() + model.Base.factor
=== figures/__init__.py
=== figures/plots.py
from kpnb.figures.style import COLOR
def draw(x):
    return COLOR, x
=== figures/style.py
COLOR = "red"
=== errors.py
class KpnbError(Exception):
    pass
def require(holds, told):
    pass
=== words.py
A, B = 1, 2
def uses_a():
    return A
def uses_b():
    return B
def by_name(name):
    from kpnb import words
    return getattr(words, name)
def missing():
    from kpnb import words
    return words.not_there
def shadows(B):
    return [A for A in B]
def walrus(A):
    return B if any((B := a) for a in A) else None
def of_rest(B, *A):
    match B:
        case [1, *A]:
            return A
    return B
"""


@pytest.fixture
def pack(tmp_path):
    for part in MODULES.split("=== ")[1:]:
        name, source = part.split("\n", maxsplit=1)
        file = tmp_path / "kpnb" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    (tmp_path / "kpnb" / "data").mkdir()
    (tmp_path / "kpnb" / "data" / "table.csv").write_text("a,b\n")
    return tmp_path / "kpnb"


def edit(pack, name, *words):
    """Replace in a module every first, third, ... word by the next."""
    source = (pack / name).read_text()
    for old, new in zip(words[::2], words[1::2], strict=True):
        assert old in source
        source = source.replace(old, new)
    (pack / name).write_text(source)


def code(pack, *seeds, **options):
    return code_fingerprint(*(seeds or ("result",)), package=pack, **options)


def test_values_count_as_canonical_json():
    known = hashlib.sha256(b'{"a":null,"b":[1,2.5]}').hexdigest()
    assert fingerprint({"b": [1, 2.5], "a": None}) == fingerprint({"a": None, "b": (1, 2.5)})
    assert fingerprint({"b": (1, 2.5), "a": None}) == known
    assert len({fingerprint({"a": value}) for value in (1, 2, True, 1.0, "1", None, [1])}) == 7


NOT_JSON = {r"\['a'\]\['b'\] is nan": {"a": {"b": float("nan")}}, r"\[1\] is inf": [1, 1e999],
            "key 1": {1: 2}, "set": {"a": {1}}, "object": {"a": object()}}  # fmt: skip


@pytest.mark.parametrize("told", NOT_JSON)
def test_what_json_cannot_hold_is_refused(told):
    refuses(fingerprint, told, NOT_JSON[told])


ALIKE = {
    "comments": ("middle.py", "def half", "# why\ndef half", "TIMES = 3", "TIMES  =  3  # so"),
    "docstrings": ("middle.py", "def half(x):", 'def half(x):\n    """Half of x."""'),
    "a private docstring": ("model.py", "    factor = 2", '    factor = 2\n    """A factor."""'),
    "order of imports": ("top.py", "from kpnb.errors import KpnbError\n", "",
        "import torch\n", "from kpnb.errors import KpnbError\nimport torch\n"),
    "a description that became a docstring": (
        "model.py",
        'width: int = Field(description="how wide")', 'width: int\n    """how wide"""',
        'Field(3, description="how deep")', '3\n    """how deep"""',
        ', description="how large"', ""),
    "what an error says": ("top.py", "no x", "x is missing"),
    "what a requirement says": ("top.py", "x too large", "x is above ten"),
    "what nothing refers to": ("middle.py", "return 5", "return 6"),
    "another way to import from outside": (
        "top.py", "import torch", "from torch.nn import functional as F",
        "torch.nn.functional.relu", "F.relu"),
    "another way to import from inside": (
        "top.py", "from kpnb import middle\n", "import kpnb\n", "middle.TIMES", "kpnb.middle.TIMES",
        "middle.half", "kpnb.middle.half", "Model(times)", "kpnb.Model(times)"),
    "the name of an argument's type": ("deep/leaf.py", "Figure", "Picture"),
}  # fmt: skip


def renamed(pack, old, new):
    for file in pack.rglob("*.py"):
        file.write_text(re.sub(rf"\b{old}\b", new, file.read_text()))


@pytest.mark.parametrize("old", ["half", "TIMES", "Base", "even", "kept", "one", "draw", "result"])
def test_names_of_definitions_do_not_count(pack, old):
    before = code(pack)
    renamed(pack, old, "something_else")
    assert code(pack, "something_else" if old == "result" else "result") == before


def test_moves_do_not_count(pack):
    before = code(pack)
    leaf = (pack / "deep" / "leaf.py").read_text().replace("from .. import", "from kpnb import")
    middle = (pack / "middle.py").read_text().replace("from .deep.leaf import one as first\n", "")
    for name in ("deep/leaf.py", "middle.py"):
        (pack / name).unlink()
    (pack / "deep" / "both.py").write_text(leaf + middle.replace("first()", "one()"))
    edit(pack, "top.py", "from kpnb import middle\n", "from kpnb.deep import both as middle\n")
    assert code(pack) == before


def test_two_copies_of_a_function_say_the_same_as_one_that_both_callers_use(pack):
    f, both = "def f():\n    return 1\n", "def both():\n    return f(), "
    (pack / "twice.py").write_text(f + f.replace("f()", "g()") + both + "g()\n")
    before = code(pack, "both")
    (pack / "twice.py").write_text(f + both + "f()\n")
    assert code(pack, "both") == before


def test_a_room_is_followed_on_request_and_where_a_seed_is_in_it(pack):
    before, shown, drawn = code(pack), code(pack, showing=True), code(pack, "draw")
    edit(pack, "figures/style.py", "red", "blue")
    assert code(pack) == before and code(pack, showing=True) != shown
    assert code(pack, "draw") != drawn
    shown = code(pack, showing=True)
    edit(pack, "errors.py", "pass", "x = 1")
    assert code(pack) == before and code(pack, showing=True) == shown


CHANGED = {
    "a constant": ("middle.py", "TIMES = 3", "TIMES = 4"),
    "its type": ("middle.py", "TIMES = 3", "TIMES = 3.0"),
    "an item set later": ("middle.py", 'TABLE["b"] = 2', 'TABLE["b"] = 3'),
    "an attribute set later": ("model.py", "def even", "Model.limit = 5\ndef even"),
    "a formula": ("middle.py", "2 * first()", "2 + first()"),
    "a decorator": ("model.py", "@kept", "@cache"),
    "what a decorator does": ("model.py", "    return f", "    return lambda *a: f(*a)"),
    "a default argument": ("top.py", "times=middle.TIMES", "times=3"),
    "a base class": ("model.py", "Model(Base)", "Model(Other)"),
    "a bound": ("model.py", "ge=1", "ge=2"),
    "another name from outside": ("model.py", "import cos", "import sin as cos"),
    "the same name from elsewhere": ("model.py", "from math", "from cmath"),
    "an attribute from outside": ("deep/leaf.py", "import numpy as np", "import cupy as np"),
    "one of two that call each other": ("model.py", "False if n == 0", "False if n == 1"),
    "who calls whom": ("model.py", "else odd(n - 1)", "else even(n - 1)"),
    "an import inside a function": ("model.py", "Base:\n    factor = 2", "Base:\n    factor = 3"),
    "a requirement": ("top.py", "x < 10", "x < 11"),
    "what an error is": ("top.py", 'raise KpnbError("no x")', 'raise ValueError("no x")'),
    "a module's own call": ("middle.py", "TIMES = 3", "import os\nos.umask(0)\nTIMES = 3"),
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE | CHANGED)
def test_what_can_change_a_number_alone_changes_the_fingerprint(pack, name):
    before, other = code(pack), code(pack, "uses_b")
    edit(pack, *(ALIKE | CHANGED)[name])
    assert (code(pack) == before) == (name in ALIKE) and code(pack, "uses_b") == other


def test_where_the_package_s_own_names_lead_counts(pack):
    edit(pack, "top.py", "from kpnb.model import Model", "from kpnb import Model")
    (pack / "other.py").write_text("class Model:\n    pass\n")
    before = code(pack)
    edit(pack, "__init__.py", "kpnb.model", "kpnb.other")
    assert code(pack) != before


def test_each_import_of_a_block_counts(pack):
    tries = "try:\n    from math import cos\nexcept ImportError:\n    from cmath import cos\n"
    (pack / "tries.py").write_text(tries + "def tried():\n    return cos(0)\n")
    found = [code(pack, "tried")]
    for old, new in (("from math", "from torch"), ("from cmath", "from numpy")):
        edit(pack, "tries.py", old, new)
        found.append(code(pack, "tried"))
    assert len(set(found)) == 3


def test_two_names_of_one_assignment_are_told_apart(pack):
    before = code(pack, "uses_a"), code(pack, "uses_b")
    assert before[0] != before[1]
    edit(pack, "words.py", "A, B = 1, 2", "B, A = 1, 2")
    assert (code(pack, "uses_b"), code(pack, "uses_a")) == before


INSIDE = """\
def imports():
    from kpnb.middle import TIMES as t
    return [t for _ in [t]]
def late():
    def inside():
        return t
    from kpnb.middle import TIMES as t
    return inside()
def other(t):
    return t
from kpnb.middle import TIMES
class Holder:
    TIMES = 1
    def get(self):
        return TIMES
"""
NAMED = ("imports", "late", "Holder")


@pytest.mark.parametrize("name", ["shadows", "walrus", "of_rest", "other", *NAMED])
def test_names_are_seen_in_their_scopes(pack, name):
    """Variables, imports inside a function, and a class's names stay in theirs."""
    (pack / "inside.py").write_text(INSIDE)
    found = {place for place in reached(name, package=pack) if place[1] != name}
    assert found == ({("kpnb.middle", "TIMES")} if name in NAMED else set())


def test_a_module_that_is_handed_on_counts_whole_and_by_name(pack):
    before, missing = code(pack, "by_name"), code(pack, "missing")
    edit(pack, "words.py", "return A\n", "return A + 1\n")
    after = code(pack, "by_name")
    renamed(pack, "uses_a", "uses_first")
    assert len({before, after, code(pack, "by_name")}) == 3
    edit(pack, "words.py", "not_there", "nowhere")
    assert code(pack, "missing") != missing


def test_seeds_are_a_set_of_names_or_objects(pack):
    assert code(pack, "half", "even") == code(pack, "even", "half") != code(pack, "half")
    from kpnb.estimator.entropy import EntropyEstimator
    from kpnb.paper import published_table

    by_name = code_fingerprint("EntropyEstimator", "published_table")
    assert code_fingerprint(EntropyEstimator, published_table) == by_name
    assert code_fingerprint(EntropyEstimator.explain, published_table) == by_name
    assert ("kpnb.estimator.loss", "entropy_of") in reached(EntropyEstimator)


NO_SEEDS = {
    "reslt": "did you mean result", "_HOME": "private", "factor": "defines no 'factor'",
    "twice": r"kpnb\.again and kpnb\.more", "starred": "name what it needs",
    **dict.fromkeys((print, 3), "no function or class"),
}  # fmt: skip


@pytest.mark.parametrize("seed", NO_SEEDS, ids=str)
def test_seeds_that_are_not_one_definition_are_refused(pack, seed):
    for name in ("again", "more"):
        (pack / f"{name}.py").write_text("def twice():\n    pass\n")
    if seed == "starred":
        (pack / "stars.py").write_text("from kpnb.model import *\ndef starred():\n    pass\n")
    fails(code, NO_SEEDS[seed], pack, seed)


def test_a_notebook_is_what_it_uses_but_for_how_it_is_run_and_kept(pack):
    source = """
import kpnb\nfrom kpnb import middle\nfrom kpnb.figures import plots
from kpnb.errors import KpnbError\nfrom kpnb.model import Model, Other
half = kpnb.result(middle.half(Model))\nplots.draw(half, KpnbError)"""
    found = fingerprints.notebook_seeds(source, package=pack)
    names = "kpnb.figures.plots.draw", "kpnb.middle.half", "kpnb.model.Model", "kpnb.top.result"
    assert tuple(".".join(place) for place in found) == names
    assert code(pack, *found) == code(pack, "half", "Model", "draw", "result")


def test_data_count_by_content_wherever_they_lie(pack):
    before, none = data_fingerprint("result", package=pack), data_fingerprint("even", package=pack)
    (pack / "data" / "other.csv").write_text("a\n")
    (pack / "deep" / "tables").mkdir()
    packed = (pack / "data" / "table.csv").rename(pack / "deep" / "tables" / "table.csv")
    fingerprints._packed.cache_clear()
    assert data_fingerprint("result", package=pack) == before
    assert fingerprints.packed_file("table.csv", pack) == packed
    packed.write_text("a,c\n")
    os.utime(packed, ns=(1, 1))
    assert data_fingerprint("result", package=pack) != before
    assert data_fingerprint("even", package=pack) == none


def test_files_are_found_by_their_name_alone(pack):
    refuses(fingerprints.packed_file, r"other\.csv is missing", "other.csv", pack)
    (pack / "data" / "other.csv").write_text("a\n")
    assert fingerprints.packed_file("other.csv", pack).read_text() == "a\n"
    (pack / "deep" / "other.csv").write_text("a\n")
    fingerprints._packed.cache_clear()
    refuses(fingerprints.packed_file, "2 folders", "other.csv", pack)


def test_results_that_runs_write_make_no_checkout_dirty(tmp_path, monkeypatch):
    files = [tmp_path / "code.py", tmp_path / "book" / "results" / "a.json"]
    files[1].parent.mkdir(parents=True)
    for file in files:
        file.write_text("1")
    own = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*own, *command], check=True)
    monkeypatch.setattr(fingerprints, "checkout", lambda: tmp_path)
    found = []
    for file in reversed(files):
        found.append(fingerprints.provenance()["dirty"])
        file.write_text("2")
    assert [*found, fingerprints.provenance()["dirty"]] == [False, False, True]


def test_provenance_is_json_and_complete_and_versions_are_those_that_compute(monkeypatch):
    told = json.loads(json.dumps(fingerprints.provenance(), allow_nan=False))
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")  # as in another account's clone
    assert fingerprints.provenance()["commit"] == told["commit"]
    here = fingerprints.library_versions()
    names = {"versions", "platform", "cpu", "threads", "gpu", "commit", "dirty"}
    assert set(told) == names and told["cpu"] and told["threads"] >= 1
    assert set(here) == {"python", "torch", "torchvision", "numpy"}
    assert set(told["versions"]) == {*here, "kpnb"} and here["python"].count(".") == 1

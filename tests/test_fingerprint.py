"""Fingerprints change with code, settings and data, and with nothing else."""

import hashlib

import pytest

from kpnb.errors import KpnbError
from kpnb.fingerprint import (
    code_fingerprint,
    data_fingerprint,
    fingerprint,
    imported_modules,
    library_versions,
)

MODULES = {
    "__init__.py": "from pack.top import run\n",
    "top.py": "from pack import middle\n\n\ndef run():\n    return middle.half()\n",
    "middle.py": ("def half():\n    from .deep.leaf import one\n\n    return one() / 2\n"),
    "deep/__init__.py": "",
    "deep/leaf.py": "import math\n\n\ndef one():\n    return math.cos(0)\n",
    "deep/up.py": "from .. import middle\nfrom ..lonely import x\n",
    "lonely.py": "x = 1\n",
    "plain.py": "import pack.lonely\n",
    "whole.py": "import pack\n",
    "reexport.py": "from pack import run\n",
}


@pytest.fixture
def pack(tmp_path):
    for name, source in MODULES.items():
        file = tmp_path / "pack" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return tmp_path / "pack"


def edit(pack, name, old, new):
    source = (pack / name).read_text()
    assert old in source
    (pack / name).write_text(source.replace(old, new))


def test_known_answer():
    assert fingerprint({"b": [1, 2.5], "a": None}) == (
        hashlib.sha256(b'{"a":null,"b":[1,2.5]}').hexdigest()
    )


def test_key_order_does_not_matter_and_values_do():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint({"a": 1}) != fingerprint({"a": True})
    assert fingerprint((1, 2)) == fingerprint([1, 2])


@pytest.mark.parametrize(
    "value, named",
    [
        ({"a": {"b": float("nan")}}, r"\['a'\]\['b'\] is nan"),
        ([1, float("inf")], r"\[1\] is inf"),
        ({1: 2}, "key 1"),
        ({"a": {1}}, "set"),
        ({"a": object()}, "object"),
    ],
)
def test_what_json_cannot_hold_is_refused(value, named):
    with pytest.raises(KpnbError, match=named):
        fingerprint(value)


@pytest.mark.parametrize(
    "comment",
    ['# new comment\n"""New docstring."""\n\n\n', "\n\n\n"],
)
def test_comments_and_docstrings_change_nothing(pack, comment):
    before = code_fingerprint("pack.top", package=pack)
    edit(pack, "top.py", "from pack", comment + "from pack")
    edit(pack, "top.py", "run():\n", 'run():\n    """Say what it does."""\n')
    edit(pack, "deep/leaf.py", "    return", "    # why\n    return")
    assert code_fingerprint("pack.top", package=pack) == before


@pytest.mark.parametrize(
    "module, edited, noticed",
    [
        ("pack.top", "top.py", True),
        ("pack.top", "middle.py", True),
        ("pack.top", "deep/leaf.py", True),
        ("pack.top", "deep/__init__.py", True),
        ("pack.top", "lonely.py", False),
        ("pack.top", "__init__.py", False),
        ("pack.deep.up", "lonely.py", True),
        ("pack.deep.up", "deep/leaf.py", True),
        ("pack.plain", "lonely.py", True),
        ("pack.plain", "top.py", False),
        ("pack.whole", "lonely.py", True),
        ("pack.whole", "__init__.py", True),
        ("pack.reexport", "deep/leaf.py", True),
        ("pack", "plain.py", True),
    ],
)
def test_an_edit_counts_where_it_is_imported(pack, module, edited, noticed):
    before = code_fingerprint(module, package=pack)
    file = pack / edited
    file.write_text(file.read_text() + "\ny = 2\n")
    assert (code_fingerprint(module, package=pack) != before) is noticed


def test_order_of_modules_does_not_matter(pack):
    first = code_fingerprint("pack.top", "pack.lonely", package=pack)
    assert first == code_fingerprint("pack.lonely", "pack.top", package=pack)
    assert first != code_fingerprint("pack.top", package=pack)


def test_unknown_module_names_the_near_ones(pack):
    with pytest.raises(KpnbError, match=r"pack\.middle"):
        code_fingerprint("pack.midle", package=pack)


def test_imports_of_a_notebook(pack):
    source = "import math\nfrom pack.deep import leaf\nimport pack.top as t\n"
    assert imported_modules(source, package=pack) == ["pack.deep.leaf", "pack.top"]


def test_data_that_a_module_names_count_and_code_does_not(pack):
    for folder in ("tables", "others"):
        (pack / "data" / folder).mkdir(parents=True)
        (pack / "data" / folder / "table.csv").write_text("a,b\n")
    (pack / "middle.py").write_text((pack / "middle.py").read_text() + 'FOLDER = "tables"\n')
    before = data_fingerprint("pack.top", package=pack)
    edit(pack, "top.py", "half", "full")
    (pack / "data" / "others" / "table.csv").write_text("a,c\n")
    (pack / "data" / "tables" / "README.md").write_text("for readers\n")
    assert data_fingerprint("pack.top", package=pack) == before
    assert data_fingerprint("pack.deep.leaf", package=pack) != before
    (pack / "data" / "tables" / "table.csv").write_text("a,c\n")
    assert data_fingerprint("pack.top", package=pack) != before


def test_versions_of_what_computes():
    versions = library_versions()
    assert set(versions) == {"python", "torch", "torchvision", "numpy"}
    assert versions["python"].count(".") == 1


def test_kpnb_itself():
    assert code_fingerprint("kpnb.store") != code_fingerprint("kpnb.errors")

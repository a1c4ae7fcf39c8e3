"""The packed questions are made as their script says, from packages it has checked."""

import importlib.util
import io
import sqlite3
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from data_prep.fetch import read_members
from kpnb.datasets.texts import embedded as packed_questions
from kpnb.datasets.texts.embedded import QUESTIONS_SHA256, parse_squad

SCRIPT = Path(__file__).parents[2] / "data_prep" / "embedded_questions.py"


@pytest.fixture(scope="module")
def prep():
    sys.path.insert(0, str(SCRIPT.parent))  # as when it is run: its templates lie beside it
    try:
        spec = importlib.util.spec_from_file_location("prep_embedded_questions", SCRIPT)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(SCRIPT.parent))
    return module


NOUNS = """  1 This is the licence
00000001 18 n 02 Lee 0 Ann_Lee 0 001 @i 00000009 n 0000 | English leader of the Shakers who founded
many villages; "a quote" (1736-1784)
00000002 18 n 01 Plato 0 001 @i 00000009 n 0000 | Greek philosopher who wrote dialogues about his
teacher (428-347)
00000003 18 n 01 poet 0 001 @ 00000009 n 0000 | a writer of poems (1700-1800)
00000004 15 n 02 Lima 0 capital_of_Peru 0 001 @i 00000009 n 0000 | capital and largest city and
economic center of Peru; located in western Peru
00000005 15 n 01 Lima 0 001 @i 00000009 n 0000 | a town in northwest Ohio on a river to the south
of Toledo
00000006 17 n 02 Don 0 Don_River 0 001 @i 00000009 n 0000 | a river that rises in southwestern
Russia and flows south to join the Sea of Azov
00000007 15 n 01 Reno 0 001 @i 00000009 n 0000 | a city in Nevada
"""  # noqa: E501
ROWS = [("Neon", "Ne", 10, "Sir William Ramsay", 1898, "England"),
        ("Gold", "Au", 79, "Known to the ancients.", None, None)]  # fmt: skip


def make_deb(path, member, content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as file:
        info = tarfile.TarInfo(f"./{member}")
        info.size = len(content)
        file.addfile(info, io.BytesIO(content))
    data = buffer.getvalue()
    header = f"{'data.tar.xz':<16}{'0':<12}{'0':<6}{'0':<6}{'100644':<8}{len(data):<10}`\n"
    path.write_bytes(b"!<arch>\n" + header.encode() + data)


@pytest.fixture
def packages(prep, tmp_path, monkeypatch):
    """Two small packages of the same layout, in place of the real ones."""
    root = tmp_path / "root"
    root.mkdir()
    base = sqlite3.connect(":memory:")
    columns = "name, symbol, atomic_number, discoverers, discovery_year, discovery_location"
    base.execute(f"CREATE TABLE elements ({columns})")
    base.executemany("INSERT INTO elements VALUES (?, ?, ?, ?, ?, ?)", ROWS)
    base.commit()
    (deb, (_, fetch, nouns)), (wheel, (_, install, table)) = prep.PACKAGES.items()
    make_deb(root / deb, nouns, NOUNS.encode())
    with zipfile.ZipFile(root / wheel, "w") as file:
        file.writestr(table, base.serialize())
    assert read_members(root / deb, [nouns])
    digests = [packed_questions.hashlib.sha256((root / f).read_bytes()).hexdigest()
               for f in (deb, wheel)]  # fmt: skip
    small = {deb: (digests[0], fetch, nouns), wheel: (digests[1], install, table)}
    monkeypatch.setattr(prep, "PACKAGES", small)
    return root


def test_sentences_and_questions_come_from_glosses_and_rows(prep, packages):
    nouns, table = prep.read_packages(packages)
    found = [*prep.dictionary_entities(nouns), *prep.element_entities(table)]
    ann, lima, other, don, neon = found  # not Plato (B.C.), the noun, Reno (too short), gold
    assert ann.sentence == (
        "Ann Lee (1736-1784) was an English leader of the Shakers who founded many villages."
    )
    asked = {
        kind: (question, [entity.sentence[a:b] for a, b in spans])
        for entity in found
        if entity is not other
        for kind, (question, spans) in entity.asked.items()
    }
    assert asked == {
        "born": ("When was Ann Lee born?", ["1736"]),
        "died": ("When did Ann Lee die?", ["1784"]),
        "nation": ("What was the nationality of Ann Lee?", ["English"]),
        "who": ("Who was Ann Lee?", ["English leader"]),
        "deed": ("What did Ann Lee found?", ["many villages"]),
        "capital": ("What is the capital of Peru?", ["Lima"]),
        "seat": ("What is Lima the capital of?", ["Peru"]),
        "mouth": ("What does the Don River flow into?", ["the Sea of Azov"]),
        "spring": ("Where does the Don River rise?", ["southwestern Russia", "Russia"]),
        "symbol": ("What is the symbol of neon?", ["Ne"]),
        "number": ("What is the atomic number of neon?", ["10"]),
        "discoverer": ("Who discovered neon?", ["Sir William Ramsay"]),
        "found-in": ("Where was neon discovered?", ["England"]),
        "discovery": ("When was neon discovered?", ["1898"]),
    }
    assert prep.once(found) == [ann, lima, don, neon]  # the second Lima is left out


def test_a_kind_is_asked_only_where_both_answer_it_differently(prep):
    def entity(name, **years):
        made = prep.Entity("person", name, f"{name} {' '.join(years.values())} was a poet.")
        for kind, year in years.items():
            at = made.sentence.index(year)
            made.ask(kind, f"When was {name} {kind}?", (at, at + len(year)))
        return made

    def kinds(one, two):
        return {kind for kind, _ in prep.paragraph((one, two))[1]}

    ann, bo = entity("Ann", born="1700", died="1750"), entity("Bo", born="1750", died="1790")
    assert kinds(ann, bo) == {"born", "died"}  # 1750 is there twice, so Ann's birth, Bo's death
    _, asked = prep.paragraph((ann, bo))
    assert {qa["answers"][0]["text"] for _, qa in asked} == {"1700", "1790"}
    assert kinds(ann, entity("Cy", born="1701")) == {"born"}
    assert kinds(entity("Di", born="1700"), entity("Ed", born="1700")) == set()
    assert kinds(entity("Al", born="1"), entity("Al", born="2")) == set()  # whose?


def test_the_script_writes_the_same_bytes_twice_and_valid_questions(
    prep, packages, tmp_path, capsys, monkeypatch
):
    for out in ("one", "two"):
        assert prep.main(["--root", str(packages), "--out", str(tmp_path / out)]) == 0
    for name in QUESTIONS_SHA256:
        first = (tmp_path / "one" / name).read_bytes()
        assert first == (tmp_path / "two" / name).read_bytes() and first[4:8] == bytes(4)
    assert capsys.readouterr().out.count("differs from") == 4
    made = [
        prep.Entity("p", name, f"{name} lived in {name}land then.") for name in "ABCDEFGHIJKLMNOP"
    ]
    for entity in made:
        at = entity.sentence.index(" in ") + 4
        entity.ask("where", f"Where was {entity.name}?", (at, at + 5))
    parsed = parse_squad(prep.squad(made, "train"))
    assert len(set(parsed.contexts)) == 8 and len(parsed) == 8
    for question, texts in zip(parsed.questions, parsed.answer_texts, strict=True):
        assert texts == (question.removeprefix("Where was ").replace("?", "land"),)


def test_the_script_refuses_other_packages_and_fetches_missing_ones(
    prep, packages, monkeypatch, capsys
):
    arguments = ["--root", str(packages), "--out", str(packages / "out")]
    deb = packages / next(iter(prep.PACKAGES))
    content = deb.read_bytes()
    deb.write_bytes(b"another version")
    assert prep.main(arguments) == 1
    assert "apt-get download wordnet-base=1:3.0-37" in capsys.readouterr().err
    deb.unlink()
    digest, _, member = prep.PACKAGES[deb.name]
    # A stand-in for apt-get: this Python, writing the file into the current folder.
    program = f"open({deb.name!r}, 'wb').write({content!r})"
    for command, status in (
        ([sys.executable, "-c", program], 0),
        ([sys.executable, "-c", "1 / 0"], 1),
        (["no-such-program"], 1),
    ):
        deb.unlink(missing_ok=True)
        monkeypatch.setitem(prep.PACKAGES, deb.name, (digest, command, member))
        assert prep.main([*arguments, "--download"]) == status
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error and "There is no no-such-program here" in error

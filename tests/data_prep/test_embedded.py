"""The packed files of the embedded data are made as their builders say."""

import gzip
import io
import json
import sqlite3
import zipfile
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from archive_files import make_deb, make_tar, tar_info
from PIL import Image

from data_prep import (
    embedded_images,
    embedded_pointclouds,
    embedded_questions,
    embedded_sentences,
    meshes,
)
from data_prep.question_words import Entity
from kpnb.datasets import clouds as cloud_files
from kpnb.datasets import images as image_files
from kpnb.datasets.texts.embedded import LEXICON, QUESTIONS, SENTENCES, parse_squad
from kpnb.errors import KpnbError
from kpnb.fingerprint import file_hash, packed_file

# Small packages of the same layouts, in place of the real ones


def picture_bytes(size=(120, 80), box=(10, 10, 110, 70), kind="PNG"):
    picture = Image.new("RGBA", size, (0, 0, 0, 0))
    picture.paste((200, 40, 30, 255), box)
    picture.putpixel((box[0], box[1]), (0, 0, 0, 0))
    for x in range(box[0], box[0] + 20):  # a corner cut away: the box is not all opaque
        for y in range(box[1], box[1] + 20):
            picture.putpixel((x, y), (0, 0, 0, 0))
    buffer = io.BytesIO()
    (picture if kind == "PNG" else picture.convert("RGB")).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def for_images(tmp_path, monkeypatch):
    """A table and two packages of two objects and one photograph."""
    root = tmp_path / "images"
    root.mkdir()
    photo = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    make_deb(root / "d.deb", tar_info("./p/field.png", content=buffer.getvalue()))
    make_tar(root / "n.tgz", *(tar_info(f"q/{n}.png", content=picture_bytes()) for n in "ab"))
    about = (("d", "d.deb", "debian", "p/{name}.png"), ("n", "n.tgz", "npm", "q/{name}.png"))
    packages = {
        source: dict(kind=kind, package=f"pkg-{source}", version="1.0", file=file, path=path,
                     sha256=file_hash(root / file))
        for source, file, kind, path in about
    }  # fmt: skip
    table = dict(packages=packages, photos=["d:field"])
    table["objects"] = {"bird": {"wren": ["n:a"]}, "tool": {"saw": ["n:b"]}}
    (tmp_path / "images.json").write_text(json.dumps(table))
    monkeypatch.setattr(embedded_images, "TABLE", tmp_path / "images.json")
    return root


OBJ = """# a unit square in the x-y plane, then a triangle by negative numbers
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
vt 0 0
f 1/1/1 2/1/1 3/1/1 4/1/1
v 0 0 5
usemtl wood
f -1//2 -5//2 -4//2
"""
VRML = """#VRML V2.0 utf8
Shape { appearance Appearance { material DEF PIN Material { shininess 0.7 } } }
Shape { geometry IndexedFaceSet { creaseAngle 0.50 coordIndex [0,1,2,-1,0,2,3,-1]
coord Coordinate { point [0 0 0,1.5 0 0,1.5 1e0 0,0 1 -.5] }} appearance Appearance{} }
Shape { geometry IndexedFaceSet { coordIndex [] coord Coordinate { point [] }} }
Shape { geometry IndexedFaceSet { coord Coordinate { point [0 0 1,0 1 1,1 0 1] }
coordIndex [0,1,2,-1] }}
"""
CATALOG = """# a catalog
id=Lib
id#1=Lib#post
name#1=Post
model#1=/m/post.obj
id#2=Lib#lying
model#2=/m/post.obj
modelRotation#2=1 0 0 0 0 -1 0 1 0
"""
# Thin along x and z, long along y: upright where y is up.
POST = "v 0 0 0\nv 0 9 0\nv 1 9 0\nv 1 0 0\nv 0 0 1\nf 1 2 3 4\nf 1 2 5\n"


@pytest.fixture
def for_clouds(tmp_path, monkeypatch):
    """Two packages and their table."""
    root = tmp_path / "clouds"
    root.mkdir()
    library = io.BytesIO()
    with zipfile.ZipFile(library, "w") as file:
        file.writestr("PluginFurnitureCatalog.properties", CATALOG)
        file.writestr("m/post.obj", POST)
    members = {
        "a.deb": ("./usr/share/sweethome3d/furniture/Lib.sh3f", library.getvalue()),
        "b.deb": ("./usr/share/kicad/3dmodels/X.3dshapes/part.wrl", VRML.encode()),
    }
    for name, (member, content) in members.items():
        make_deb(root / name, tar_info(member, content=content))
    packages = {
        part: dict(package=name[0], version="1", file=name, sha256=file_hash(root / name))
        for part, name in (("furniture", "a.deb"), ("components", "b.deb"))
    }
    table = dict(packages=packages, contents={"furniture": "0", "components": "0"})
    table["furniture"] = {"up": {"one": ["Lib#post"]}, "down": {"two": ["Lib#lying"]}}
    table["components"] = {"part": {"X": ["X.3dshapes/part"]}}
    monkeypatch.setattr(embedded_pointclouds, "TABLE", tmp_path / "table.json")
    embedded_pointclouds.TABLE.write_text(json.dumps(table))
    return root


NOUNS = """  1 This is the licence
00000001 18 n 02 Lee 0 Ann_Lee 0 001 @i 00000009 n 0000 | English leader of the Shakers who \
founded many villages; "a quote" (1736-1784)
00000002 18 n 01 Plato 0 001 @i 00000009 n 0000 | Greek philosopher who wrote dialogues about his \
teacher (428-347)
00000003 18 n 01 poet 0 001 @ 00000009 n 0000 | a writer of poems (1700-1800)
00000004 15 n 02 Lima 0 capital_of_Peru 0 001 @i 00000009 n 0000 | capital and largest city and \
economic center of Peru; located in western Peru
00000005 15 n 01 Lima 0 001 @i 00000009 n 0000 | a town in northwest Ohio on a river to the south \
of Toledo
00000006 17 n 02 Don 0 Don_River 0 001 @i 00000009 n 0000 | a river that rises in southwestern \
Russia and flows south to join the Sea of Azov
00000007 15 n 01 Reno 0 001 @i 00000009 n 0000 | a city in Nevada
"""
ROWS = [("Neon", "Ne", 10, "Sir William Ramsay", 1898, "England"),
        ("Gold", "Au", 79, "Known to the ancients.", None, None)]  # fmt: skip


@pytest.fixture
def for_questions(tmp_path, monkeypatch):
    """A dictionary and a table of elements."""
    root, prep = tmp_path / "questions", embedded_questions
    root.mkdir()
    base = sqlite3.connect(":memory:")
    columns = "name, symbol, atomic_number, discoverers, discovery_year, discovery_location"
    base.execute(f"CREATE TABLE elements ({columns})")
    base.executemany("INSERT INTO elements VALUES (?, ?, ?, ?, ?, ?)", ROWS)
    base.commit()
    make_deb(root / prep.DICTIONARY.file, tar_info(f"./{prep.NOUNS}", content=NOUNS.encode()))
    with zipfile.ZipFile(root / prep.ELEMENTS.file, "w") as file:
        file.writestr(prep.DATABASE, base.serialize())
    for name in ("DICTIONARY", "ELEMENTS"):
        package = getattr(prep, name)
        monkeypatch.setattr(prep, name, replace(package, sha256=file_hash(root / package.file)))
    return root


TABLE = "\r\n".join(
    [
        "1\t2.26666\tA film that’s good.",
        "2\t-0.4999\tNobody knows what it was.",
        "3\t-1\tToo short, sadly.",
        "4\t-1.5\t a film THAT’S good. ",
        "5\t-0.5\tThe café was   quiet.",
        "6\t3\t" + "word " * 46,
        "7\t3\t" + "word " * 45,
        "",
    ]
)


WORDS = "$:\t-1.5\t0.8\t[-1]\nGood\t1.9\t0.9\t[2]\nbad\t-2.5\t0.6\t[-3]\ncan't stand\t-2\t1\t[]\n"


@pytest.fixture
def for_sentences(tmp_path, monkeypatch):
    """A package of two tables, one of them in an archive in the archive."""
    root, prep = tmp_path / "sentences", embedded_sentences
    root.mkdir()
    inner = make_tar(tmp_path / "inner.tgz", tar_info(prep.REVIEWS, content=TABLE.encode()))
    path = root / prep.PACKAGE.file
    ratings = tar_info(prep.RATINGS, content=inner.read_bytes())
    make_tar(path, ratings, tar_info(prep.WORDS, content=WORDS.encode()))
    monkeypatch.setattr(prep, "PACKAGE", replace(prep.PACKAGE, sha256=file_hash(path)))
    return root


BUILDERS = {
    "images": (embedded_images, (image_files.OBJECTS, image_files.BACKGROUNDS)),
    "clouds": (embedded_pointclouds, tuple(cloud_files.FILES.values())),
    "questions": (embedded_questions, tuple(QUESTIONS.values())),
    "sentences": (embedded_sentences, (SENTENCES, LEXICON)),
}


# All four


@pytest.mark.parametrize("key", BUILDERS)
def test_the_same_bytes_come_out_twice_and_differ_from_those_packaged(
    key, request, tmp_path, capsys
):
    root = request.getfixturevalue(f"for_{key}")
    builder, names = BUILDERS[key]
    for out in ("one", "two"):
        assert builder.main(["--root", str(root), "--out", str(tmp_path / out)]) == 0
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        if name.endswith(".gz"):
            assert (tmp_path / "one" / name).read_bytes()[4:8] == bytes(4)  # no time stamp
    assert capsys.readouterr().out.count("differs from") == (8 if key == "clouds" else 4)


@pytest.mark.parametrize(
    ("key", "file", "command"),
    [("images", "d.deb", "apt-get download pkg-d=1.0"), ("images", "n.tgz", "npm pack pkg-n@1.0"),
     ("clouds", "a.deb", "apt-get download a=1"),
     ("questions", "wordnet-base_1%3a3.0-37_all.deb", "apt-get download wordnet-base=1:3.0-37"),
     ("questions", "mendeleev-1.3.0-py3-none-any.whl", "pip download --no-deps --only-binary"),
     ("sentences", "vaderSentiment-3.3.2.tar.gz", "pip download --no-deps --no-binary")],
)  # fmt: skip
def test_another_package_is_refused(key, file, command, request, tmp_path, capsys):
    root = request.getfixturevalue(f"for_{key}")
    builder, arguments = BUILDERS[key][0], ["--root", str(root), "--out", str(tmp_path / "out")]
    for spoil in (lambda path: path.write_bytes(path.read_bytes() + b"x"), lambda p: p.unlink()):
        spoil(root / file)
        assert builder.main(arguments) == 1
        assert command in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# Images


def test_packed_images(for_images, tmp_path):
    assert embedded_images.main(["--root", str(for_images), "--out", str(tmp_path / "one")]) == 0
    with zipfile.ZipFile(tmp_path / "one" / image_files.OBJECTS) as packed:
        meta = json.loads(packed.read("meta.json"))
        assert [(item["class"], item["group"], item["path"]) for item in meta] == [
            ("bird", "wren", "q/a.png"),
            ("tool", "saw", "q/b.png"),
        ]
        picture = Image.open(io.BytesIO(packed.read("bird/000.webp")))
        assert picture.mode == "RGBA" and picture.size == (96, 58)  # 100 x 60, visible part
    with zipfile.ZipFile(tmp_path / "one" / image_files.BACKGROUNDS) as packed:
        assert len(packed.namelist()) == 7
        assert Image.open(io.BytesIO(packed.read("field_5.jpg"))).size == (128, 128)


def test_cut_out_refuses_what_is_no_cut_out():
    empty = Image.new("RGBA", (100, 100), (9, 9, 9, 20))
    small, full, thin = empty.copy(), empty.copy(), empty.copy()
    small.paste((9, 9, 9, 255), (0, 0, 40, 40))
    full.paste((9, 9, 9, 255), (0, 0, 100, 100))
    for i in range(100):
        thin.putpixel((i, i), (9, 9, 9, 255))
    for picture, reason in (
        (empty, "nothing"),
        (small, "nothing"),
        (full, "fills 1.000"),
        (thin, "fills 0.010"),
    ):
        with pytest.raises(KpnbError, match=reason):
            embedded_images.cut_out(picture, "a picture")


def test_crops_leave_the_border_out():
    photo = Image.new("RGB", (400, 300), (255, 0, 0))
    photo.paste((0, 0, 255), (18, 18, 382, 282))
    crops = list(embedded_images.photo_crops(photo))
    assert len(crops) == 6
    assert all(crop.getextrema() == ((0, 0), (0, 0), (255, 255)) for crop in crops)


def test_the_packed_files_hold_what_the_table_lists():
    table = json.loads(embedded_images.TABLE.read_text())
    listed = {
        (name, thing, reference)
        for name, things in table["objects"].items()
        for thing, references in things.items()
        for reference in references
    }
    packed = [(item.class_name, item.group, item.name) for item in image_files.cut_outs()]
    assert set(packed) == listed and len(packed) == len(listed) == 1042
    assert list(image_files.class_names()) == list(table["objects"])
    assert Counter(item.photo for item in image_files.photos()) == dict.fromkeys(table["photos"], 6)
    for item in image_files.cut_outs():
        assert max(item.picture.size) == 96


# Sentences


def test_packed_sentences_and_words(for_sentences, tmp_path):
    assert embedded_sentences.main(["--root", str(for_sentences), "--out", str(tmp_path)]) == 0
    lines = gzip.decompress((tmp_path / SENTENCES).read_bytes()).decode().splitlines()
    assert lines == [
        "2.2667\tA film that’s good.",
        "-0.5000\tThe café was   quiet.",
        "3.0000\t" + ("word " * 45).strip(),
    ]
    words = gzip.decompress((tmp_path / LEXICON).read_bytes()).decode()
    assert words == "bad\t-2.5\ngood\t1.9\n"


def test_a_table_of_another_form_is_refused():
    with pytest.raises(KpnbError, match="Row 2 has 1 columns"):
        list(embedded_sentences.sentence_lines("1\t2\tfour words or more\nno table\n"))


# Questions


def test_sentences_and_questions_come_from_glosses_and_rows(for_questions):
    nouns, table = embedded_questions.read_packages(for_questions)
    found = [
        *embedded_questions.dictionary_entities(nouns),
        *embedded_questions.element_entities(table),
    ]
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
    assert embedded_questions.once(found) == [ann, lima, don, neon]  # the second Lima is left out


def test_a_kind_is_asked_only_where_both_answer_it_differently():
    def entity(name, **years):
        made = Entity("person", name, f"{name} {' '.join(years.values())} was a poet.")
        for kind, year in years.items():
            at = made.sentence.index(year)
            made.ask(kind, f"When was {name} {kind}?", (at, at + len(year)))
        return made

    def kinds(one, two):
        return {kind for kind, _ in embedded_questions.paragraph((one, two))[1]}

    ann, bo = entity("Ann", born="1700", died="1750"), entity("Bo", born="1750", died="1790")
    assert kinds(ann, bo) == {"born", "died"}  # 1750 is there twice, so Ann's birth, Bo's death
    _, asked = embedded_questions.paragraph((ann, bo))
    assert {qa["answers"][0]["text"] for _, qa in asked} == {"1700", "1790"}
    assert kinds(ann, entity("Cy", born="1701")) == {"born"}
    assert kinds(entity("Di", born="1700"), entity("Ed", born="1700")) == set()
    assert kinds(entity("Al", born="1"), entity("Al", born="2")) == set()  # whose?


def test_paragraphs_are_valid_squad():
    made = [Entity("p", name, f"{name} lived in {name}land then.") for name in "ABCDEFGHIJKLMNOP"]
    for entity in made:
        at = entity.sentence.index(" in ") + 4
        entity.ask("where", f"Where was {entity.name}?", (at, at + 5))
    parsed = parse_squad(embedded_questions.squad_document(made, "train"))
    assert len(set(parsed.contexts)) == 8 and len(parsed) == 8
    for question, texts in zip(parsed.questions, parsed.answer_texts, strict=True):
        assert texts == (question.removeprefix("Where was ").replace("?", "land"),)


# Point clouds


def test_obj():
    vertices, faces = meshes.read_obj(OBJ)
    assert vertices.shape == (5, 3) and vertices[4].tolist() == [0, 0, 5]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 0, 1]]


def test_vrml():
    vertices, faces = meshes.read_vrml(VRML)
    assert vertices.shape == (7, 3) and vertices[3].tolist() == [0, 1, -0.5]
    assert vertices[1].tolist() == [1.5, 0, 0]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "change", [("IndexedFaceSet", "Box"), ("Shape", "Transform"), ("0,2,3,-1]", "0,2,9,-1]")]
)
def test_vrml_that_cannot_be_used(change):
    with pytest.raises(KpnbError):
        meshes.read_vrml(VRML.replace(*change))


def test_obj_without_faces_is_refused():
    with pytest.raises(KpnbError):
        meshes.read_obj("v 0 0 0\nv 1 0 0\n")


def test_catalog():
    entries = embedded_pointclouds.catalog(CATALOG)
    assert set(entries) == {"post", "lying"}
    assert entries["lying"]["modelRotation"] == "1 0 0 0 0 -1 0 1 0"


def test_furniture_stands_upright_and_is_turned_as_the_catalog_says(for_clouds):
    found = dict(
        embedded_pointclouds.furniture_meshes(for_clouds / "a.deb", ["Lib#lying", "Lib#post"])
    )
    assert np.ptp(found["Lib#post"][0], axis=0).tolist() == [1, 1, 9]
    # The rotation takes y to z and z to -y; then up, along y, becomes z and the old y -y.
    assert np.ptp(found["Lib#lying"][0], axis=0).tolist() == [1, 9, 1]
    post, lying = found["Lib#post"][0], found["Lib#lying"][0]
    assert post[1].tolist() == [0, 0, 9] and post[4].tolist() == [0, -1, 0]
    assert lying[1].tolist() == [0, -9, 0] and lying[4].tolist() == [0, 0, -1]


def test_main_packs_both_and_says_that_they_differ(for_clouds, tmp_path, capsys):
    out = tmp_path / "out"
    assert embedded_pointclouds.main(["--root", str(for_clouds), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("differs from") == 4
    with np.load(out / "furniture.npz", allow_pickle=False) as arrays:
        assert arrays["points"].shape == (2, 1024, 3) and arrays["points"].dtype == np.float16
        assert arrays["label"].tolist() == [0, 1] and arrays["label"].dtype == np.uint8
        assert arrays["classes"].tolist() == ["up", "down"]
        assert arrays["names"].tolist() == ["Lib#post", "Lib#lying"]
        assert arrays["group"].tolist() == ["one", "two"]
        points = arrays["points"].astype(float)
        assert np.abs(points.mean(1)).max() < 1e-3
        assert np.allclose(np.linalg.norm(points, axis=2).max(1), 1, atol=1e-3)
        content = embedded_pointclouds.content_sha256(arrays)
    table = json.loads(embedded_pointclouds.TABLE.read_text())
    table["contents"]["furniture"] = content
    embedded_pointclouds.TABLE.write_text(json.dumps(table))
    before = (out / "furniture.npz").read_bytes()
    assert embedded_pointclouds.main(["--root", str(for_clouds), "--out", str(out)]) == 0
    assert (out / "furniture.npz").read_bytes() == before
    assert capsys.readouterr().out.count("differs from") == 3


def test_a_cloud_depends_on_its_name_and_mesh_alone():
    mesh = meshes.read_obj(OBJ)
    assert (embedded_pointclouds.cloud("a", mesh) == embedded_pointclouds.cloud("a", mesh)).all()
    assert (embedded_pointclouds.cloud("a", mesh) != embedded_pointclouds.cloud("b", mesh)).any()
    with pytest.raises(KpnbError, match="'flat'"):
        embedded_pointclouds.cloud("flat", (np.zeros((3, 3)), np.array([[0, 1, 2]])))


def _failure(for_clouds, capsys):
    assert (
        embedded_pointclouds.main(["--root", str(for_clouds), "--out", str(for_clouds / "out")])
        == 1
    )
    return capsys.readouterr().err


@pytest.mark.parametrize("name, what", [("Lib#none", "Lib#none"), ("Other#post", "Other.sh3f")])
def test_a_shape_the_package_lacks_is_named(for_clouds, capsys, name, what):
    table = json.loads(embedded_pointclouds.TABLE.read_text())
    table["furniture"]["up"]["one"] = [name]
    embedded_pointclouds.TABLE.write_text(json.dumps(table))
    assert what in _failure(for_clouds, capsys)


def test_a_shape_twice_in_the_table_is_refused(for_clouds, capsys):
    table = json.loads(embedded_pointclouds.TABLE.read_text())
    table["furniture"]["up"]["one"] *= 2
    embedded_pointclouds.TABLE.write_text(json.dumps(table))
    assert "twice" in _failure(for_clouds, capsys)


@pytest.mark.parametrize("part", cloud_files.FILES)
def test_packaged_data_are_those_of_the_table(part):
    table = json.loads(embedded_pointclouds.TABLE.read_text())
    arrays = cloud_files.packed_arrays(cloud_files.FILES[part])
    assert embedded_pointclouds.content_sha256(arrays) == table["contents"][part]
    rows = [
        (name, group, kind)
        for kind, groups in table[part].items()
        for group, names in groups.items()
        for name in names
    ]
    kinds = arrays["classes"][arrays["label"]].tolist()
    found = zip(arrays["names"].tolist(), arrays["group"].tolist(), kinds, strict=True)
    assert list(found) == rows
    assert max(Counter(name for name, _, _ in rows).values()) == 1
    assert arrays["points"].dtype == np.float16 and arrays["label"].dtype == np.uint8
    assert {arrays[key].dtype.kind for key in ("names", "group", "classes")} == {"U"}


def test_packed_files_are_small():
    assert all(packed_file(name).stat().st_size < 5e6 for name in cloud_files.FILES.values())

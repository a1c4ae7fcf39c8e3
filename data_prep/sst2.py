"""SST-2: fetch the treebank's release or GLUE's folder, read it and check that it is complete.

Run it with `python -m data_prep.sst2 --root DIR [--download] [--help]`.
"""

import sys
from pathlib import Path

from data_prep.command import Checked, main, shares
from data_prep.fetch import released
from data_prep.objects import check_counts
from kpnb.datasets.texts.corpora import GLUE, PHRASES, RELEASE, VALUES, sst2, sst2_foreground
from kpnb.datasets.texts.embedded import Sentences
from kpnb.datasets.texts.foreground import Foreground
from kpnb.datasets.texts.word_pieces import word_spans
from kpnb.errors import require

NAME = "sst2"
DATASET = "SST-2"
FILES = {layout: released(NAME, layout) for layout in ("treebank", "glue")}
FOLDERS = {"treebank": (RELEASE, "dictionary.txt"), "glue": (GLUE, "train.tsv")}
# Sentences of each split: the release's own datasetSplit.txt, and GLUE's files (torchtext).
SENTENCES = {"treebank": {"train": 8544, "dev": 1101, "test": 2210}}
SENTENCES |= {"glue": {"train": 67349, "dev": 872}}
# Those that are clearly positive or negative (Socher et al., EMNLP 2013, Section 5.1).
COUNTS = {"treebank": {"train": 6920, "dev": 872, "test": 1821}, "glue": dict(SENTENCES["glue"])}
LINES = {PHRASES: 239_232, VALUES: 239_233}  # a phrase each, VALUES with a header
# The published counts go by the roots of the parse trees, the reader looks sentences up in the
# dictionary. How many labels that moves is not known: the clear ones may differ by this share.
TOLERANCE = 0.005


def check(folder: Path, layout: str, partial: bool) -> Checked:
    """Read all of one layout in `folder` and count.

    layout: "treebank" (with values of words, by which foreground is told) or "glue". partial:
    accept other counts. Raises `KpnbError` as `sst2` does, and for other counts.
    """
    rule = sst2_foreground(folder)
    for name, expected in (LINES if layout == "treebank" else {}).items():
        lines = (folder / name).read_bytes().rstrip().count(b"\n") + 1
        check_counts(DATASET, {f"lines of {name}": lines}, {f"lines of {name}": expected}, partial)
    splits, counts, classes = {}, {}, ()
    for split in SENTENCES[layout]:
        sentences = sst2(folder, split)
        _require_counts(sentences, layout, split, partial)
        splits[split] = _described(sentences, rule)
        counts[split], classes = len(sentences), tuple(sentences.class_names)
    notes = (f"foreground by {sentences.source['foreground']}", "notebooks test on dev")
    return Checked(classes, splits, counts, notes)


def _require_counts(sentences: Sentences, layout: str, split: str, partial: bool) -> None:
    source = sentences.source
    every = len(sentences) + source["neutral"] + source["not_found"]
    what = f"{split} sentences"
    check_counts(DATASET, {what: every}, {what: SENTENCES[layout][split]}, partial)
    clear = COUNTS[layout][split]
    slack = source["not_found"] + (TOLERANCE * clear if layout == "treebank" else 0)
    fits = partial or abs(len(sentences) - clear) <= slack
    told = (
        f"{DATASET} has {len(sentences):,} clear {split} sentences here, the release has {clear:,}"
    )
    require(fits, f"{told}: unpack it again, or accept other counts (--partial).")


def _described(sentences: Sentences, rule: Foreground) -> str:
    positive = int(sentences.labels.sum())
    source = sentences.source
    marked = shares((len(rule(text)), len(word_spans(text))) for text in sentences.texts)
    return (
        f"{len(sentences):,} sentences ({len(sentences) - positive:,} negative, {positive:,} "
        f"positive; left out: {source['neutral']:,} neutral, {source['not_found']:,} not in the "
        f"dictionary); {marked}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))

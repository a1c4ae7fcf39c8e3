"""SQuAD v1.1: fetch its two files, read them and check that they are complete.

Run it with `python -m data_prep.squad --root DIR [--download] [--help]`.
"""

import sys
from pathlib import Path

from data_prep.command import Checked, main, shares
from data_prep.fetch import released
from data_prep.objects import check_counts
from kpnb.datasets.texts.corpora import squad
from kpnb.datasets.texts.embedded import Questions
from kpnb.datasets.texts.foreground import answer_foreground
from kpnb.datasets.texts.word_pieces import word_spans
from kpnb.errors import KpnbError

NAME = "squad"
DATASET = "SQuAD v1.1"
FILES = {"json": released(NAME, "json")}
# Questions of each file (torchtext, datasets/squad1.py; Rajpurkar et al., Table 2, has rounder
# numbers of an earlier version).
COUNTS = {"train": 87599, "dev": 10570}


def check(folder: Path, layout: str, partial: bool) -> Checked:
    """Read both files in `folder` and count.

    layout: "json", the only one. partial: accept other counts. Raises `KpnbError` as `squad` does,
    and for other counts.
    """
    splits, counts = {}, {}
    for split, expected in COUNTS.items():
        questions = squad(folder, split)
        counts[split], what = len(questions), f"{split} questions"
        check_counts(DATASET, {what: counts[split]}, {what: expected}, partial)
        splits[split] = _described(questions)
    notes = ("foreground: words of the answer, and words of the question in its sentence",)
    return Checked((), splits, counts, notes)


def _described(questions: Questions) -> str:
    rows, without = [], 0
    columns = (questions.questions, questions.contexts, questions.answers)
    for question, context, answers in zip(*columns, strict=True):
        try:
            marked = answer_foreground(question, context, answers[0])
        except KpnbError:  # an answer without a word
            without += 1
            continue
        words = len(word_spans(question)) + len(word_spans(context))
        rows.append((len(marked[0]) + len(marked[1]), words))
    answers = sum(map(len, questions.answers))
    return (
        f"{len(questions):,} questions on {len(set(questions.contexts)):,} passages, {answers:,} "
        f"accepted answers; {shares(rows)}, {without:,} have an answer without a word"
    )


if __name__ == "__main__":
    sys.exit(main(sys.modules[__name__]))

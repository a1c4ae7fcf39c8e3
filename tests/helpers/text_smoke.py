"""Text studies at the smoke preset, made smaller still, on a tiny model folder."""

from collections import Counter
from pathlib import Path

import pytest
import text_tiny
from conftest import WatchedStore

from kpnb.datasets.texts.embedded import embedded_questions, embedded_sentences
from kpnb.study.parameters import models_for, resolve
from kpnb.study.text import QuestionStudy, SentimentStudy, TextStudy

STUDIES: dict[str, type[TextStudy]] = {"sentiment": SentimentStudy, "qa": QuestionStudy}
SIZES = {"num_hidden_layers": 2, "max_position_embeddings": 512}
# The tiny model knows few words, so most are cut into letters: texts are long in pieces.
SMALL = dict(preset="smoke", device="cpu", teacher_samples=100, test_samples=20, samples=4)
LONGEST = {"sentiment": 96, "qa": 240}


def text_study(task: str, network: str, root, **changed) -> TextStudy:
    given = SMALL | {"longest": LONGEST[task], "network": network} | changed
    return STUDIES[task](resolve(models_for(f"{task}_"), given), WatchedStore(root))


def wordy_folder(root: Path, least: int = 8) -> str:
    """A tiny model that knows the embedded texts' frequent words, so that not all words are cut."""
    questions = embedded_questions("train")
    texts = [*embedded_sentences("train").texts, *questions.questions, *questions.contexts]
    found = Counter(word for text in texts for word in text.lower().split() if word.isascii())
    known = [word for word, count in found.items() if word.isalpha() and count >= least]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_tiny, "VOCABULARY", list(dict.fromkeys(text_tiny.VOCABULARY + known)))
        return text_tiny.tiny_folder(root, **SIZES)

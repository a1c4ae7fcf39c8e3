"""SQuAD v1.1, the paper's question-answering data, from its two public files in a local folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from kpnb.datasets.questions import Questions, drawn, parse_squad
from kpnb.errors import KpnbError

__all__ = ["squad"]

FILES = {"train": "train-v1.1.json", "dev": "dev-v1.1.json"}
FOLDERS = (".", "SQuAD", "squad")
ADDRESS = "https://rajpurkar.github.io/SQuAD-explorer/dataset/"


def squad(
    root: str | Path, split: str = "train", count: int | None = None, seed: int = 0
) -> Questions:
    """The questions of train-v1.1.json or dev-v1.1.json.

    root: the folder with the file, or one whose subfolder SQuAD/ or squad/ has it.
    split: "train" (87,599 questions, one answer each) or "dev" (10,570, several accepted answers).
    count: how many; None is all. seed: of the order, so that the first `count` are a random part;
        fewer are a prefix of more.

    Nothing is downloaded. Raises `KpnbError` for an argument outside these ranges, a missing file
    (naming its address), and a file that is no JSON or not in the format of version 1.1.
    """
    if split not in FILES:
        raise KpnbError(f"split is {split!r}: give 'train' or 'dev'.")
    path = _find(Path(root), FILES[split])
    try:
        content = path.read_bytes()
        document = json.loads(content)
    except (OSError, ValueError, RecursionError) as error:
        raise KpnbError(
            f"{path} cannot be read as JSON ({error}): fetch it again from {ADDRESS}{path.name}."
        ) from error
    source = dict(dataset="squad", split=split, data=hashlib.sha256(content).hexdigest())
    try:
        questions = parse_squad(document, source)
    except KpnbError as error:
        raise KpnbError(f"{path}: {error}") from error
    return drawn(questions, count, seed)


def _find(root: Path, name: str) -> Path:
    places = [root / folder / name for folder in FOLDERS]
    for path in places:
        if path.is_file():
            return path
    raise KpnbError(f"{root / name} is missing: put {ADDRESS}{name} there.")

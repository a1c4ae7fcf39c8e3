"""The packed questions, checked and read in memory."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib

from kpnb.errors import KpnbError
from kpnb.fingerprint import packed_file

QUESTIONS = {"train": "questions_train.json.gz", "test": "questions_test.json.gz"}
# Of the content without gzip, whose bytes may differ from one zlib to the next.
PACKED_SHA256 = {
    "questions_train.json.gz": "e153c6513f1a2434eb171c64473a4d59790422816d72952527b7cae6143c8097",
    "questions_test.json.gz": "fae679341d456eb4b25c6a188dbd105c0b6b1a7c98aa2466f1f9871a3560e4bd",
}


def packed_document(split: str) -> dict:
    """The packed document of a split, in the format of SQuAD v1.1, once its SHA-256 is checked.

    Raises `KpnbError` when the packed file is missing or is not the one this code was made for.
    """
    name = QUESTIONS[split]
    try:
        content = gzip.decompress(packed_file(name).read_bytes())
    except (KpnbError, OSError, EOFError, zlib.error):  # missing, no gzip, cut off, damaged
        content = b""
    if hashlib.sha256(content).hexdigest() != PACKED_SHA256[name]:
        raise KpnbError(
            f"The packed data file {name} is missing or damaged: reinstall kpnb or "
            "rebuild it with data_prep/embedded_questions.py."
        )
    return json.loads(content)

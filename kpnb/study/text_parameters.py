"""Parameters and presets of the sentiment and the question-answering notebooks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from kpnb.paper import paper_preset
from kpnb.study.parameter_model import LISTED, ON_A_CPU, StudyParameters, no_repeats

Layers = Annotated[tuple[Literal["Last"], ...], LISTED, AfterValidator(no_repeats)]


class TextParameters(StudyParameters):
    """What the parameters of both text studies share."""

    network: str = Field(
        description="pre-trained BERT-like encoder: MiniLM-L6 (a package ships it), BERT-base (the "
        "paper's, fetched once), or the path of a folder that save_pretrained wrote"
    )
    layers: Layers = Field(
        description="target layer of distillation and measurement; the last hidden layer, as in "
        "Section 4.1"
    )
    depth: int = Field(
        ge=1,
        description="layers of the encoder in teacher, student and baseline, the first so many; "
        "fewer than it has, for CPUs",
    )
    data: str = Field(
        description="embedded, or the path of a folder with the paper's data set (SST-2, SQuAD), "
        "or its name (sst2, squad), where data_prep/ has put it; download:NAME fetches it first"
    )
    longest: int = Field(
        ge=16,
        le=512,
        description="most word pieces of a text with its special ones; longer texts are left out, "
        "for CPUs",
    )
    test_samples: Annotated[int, Field(ge=20)] | Literal["all"] = Field(
        description="held-out texts that networks are tested on; ours, for time; all: each one"
    )
    noise: float = Field(
        gt=0,
        description="unit of sigma, in root mean squares of the network's embedding components; "
        "with 1 the public code's settings mean what they mean for normalized images",
    )


class SentimentParameters(TextParameters):
    """Parameters of the sentiment notebooks."""

    SAMPLE = "sentence"

    least_rating: float = Field(
        ge=0.5,
        le=3,
        description="sentences whose mean human rating (-4 to 4) is nearer to 0 are left out; ours",
    )


class QuestionParameters(TextParameters):
    """Parameters of the question-answering notebooks."""

    SAMPLE = "question"


_TEXT_DEMO = {
    "preset": "demo",
    "network": "MiniLM-L6",
    "layers": ["Last"],
    "depth": 3,
    "data": "embedded",
    "fraction": 0.4,
    "checkpoints": None,
    "measured_on": "train",
    "threshold": 0.2,
    "noise": 1.0,
    "method": "path",
    "probes": 8,
    "seeds": [0],
    **ON_A_CPU,
}
_SMOKE = {
    "preset": "smoke",
    "depth": 1,
    "teacher_samples": 120,
    "test_samples": 40,
    "fraction": 0.5,
    "teacher_epochs": 1,
    "epochs": 2,
    "head_epochs": 1,
    "samples": 5,
}
_STUDY = {"preset": "study", "seeds": [0, 1]}  # two seeds, for time

_SENTIMENT_DEMO = _TEXT_DEMO | {
    "teacher_samples": 2700,
    "test_samples": 1000,
    "least_rating": 1.0,
    "longest": 32,
    "samples": 30,
    "teacher_epochs": 3,
    "epochs": 8,
    "head_epochs": 6,
}
SentimentParameters.PRESETS = {
    "smoke": _SENTIMENT_DEMO | _SMOKE,
    "demo": _SENTIMENT_DEMO,
    "study": _SENTIMENT_DEMO | _STUDY | {"samples": 40, "epochs": 12, "head_epochs": 10},
    "paper": paper_preset("texts", "sentiment"),
}

_QUESTION_DEMO = _TEXT_DEMO | {
    "teacher_samples": 1600,
    "test_samples": 600,
    "longest": 80,
    "samples": 20,
    "teacher_epochs": 4,
    "epochs": 6,
    "head_epochs": 6,
}
_QUESTION_STUDY = {"samples": 30, "teacher_epochs": 5, "epochs": 10, "head_epochs": 10}
QuestionParameters.PRESETS = {
    "smoke": _QUESTION_DEMO | _SMOKE,
    "demo": _QUESTION_DEMO,
    "study": _QUESTION_DEMO | _STUDY | _QUESTION_STUDY,
    "paper": paper_preset("texts", "questions"),
}

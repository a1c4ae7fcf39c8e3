"""Parameters of the notebook that measures one cell of the paper's image tables."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from kpnb.study.image_parameters import EMBEDDED, ImageParameters

RUN = r"^[a-z0-9][a-z0-9_]*$"


class CellParameters(ImageParameters):
    """One cell of Tables II to V, VIII or IX: what the image notebooks take, and two more."""

    run: Annotated[str, Field(pattern=RUN)] | None = Field(
        description="name under which a sweep files the results, in small letters; None for a "
        "run of its own"
    )
    outputs: Annotated[int, Field(ge=2, le=200)] | None = Field(
        description="dimensions of the networks' output: classes are merged or split by object to "
        "make as many; None for a dimension per class (the paper: 10 in Table VIII, 200 for CUB)"
    )

    @model_validator(mode="after")
    def _outputs_have_labels(self) -> Self:
        if self.outputs is not None and self.data != EMBEDDED:
            raise ValueError(
                "outputs regroups the embedded objects: leave it out where data is a data set"
            )
        if self.outputs is not None and self.measured_on == "test":
            raise ValueError(
                "outputs needs measured_on='train', because unseen objects have no label of "
                "their own"
            )
        return self


_OWN = {"run": None, "outputs": None}
# The demo's cell is one of Table II's kind, a teacher larger than its student, from networks that
# take two minutes more than those of the other notebooks.
_DEMO = {"network": "AlexNet", "teacher": "VGG-11"}
# One seed and the demo's number of images, because a sweep has dozens of cells.
_STUDY = {"seeds": [0], "samples": 40}
CellParameters.PRESETS = {
    name: values | _OWN | {"demo": _DEMO, "study": _STUDY}.get(name, {})
    for name, values in ImageParameters.PRESETS.items()
}

"""Speeds and studies made for plans."""

from kpnb.run.machine import RATES, Machine, Speed, study_of
from kpnb.study.parameters import MODELS, models_for, resolve

OWN = "VGG-11 (narrow), 3x32x32"


def speed(network=OWN, operations=1e6, seconds=0.5, kind="image_", **changed) -> Speed:
    counts = dict(operations=operations, below=operations)
    named = dict(kind=kind, network=network, precision="float32")
    return Speed(**named | counts | dict.fromkeys(RATES, seconds) | changed)


def made_machine(*speeds, **changed) -> Machine:
    given = dict(device="cpu", hardware="a CPU", threads=1, date="2026-01-02", about={})
    return Machine(**given | changed, speeds=speeds or (speed(),))


def planned_study(notebook="image_h1", preset="demo", store=None, **given):
    parameters = resolve(models_for(notebook), {"preset": preset, "device": "cpu"} | given)
    return study_of(parameters, store)


def unit_machine(**changed) -> Machine:
    """Every unit of VGG-11's work takes a second."""
    anatomy = planned_study(network="VGG-11").anatomy("B")
    counts = dict(operations=anatomy.up_to(""), below=anatomy.up_to("FC1"))
    kinds = [kind for kind in MODELS if kind != "qa_"]
    return made_machine(*(speed(kind=kind, seconds=1.0, **counts) for kind in kinds), **changed)

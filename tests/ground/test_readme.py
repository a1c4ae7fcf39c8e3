"""README is short and its commands exist; the citation file says what is so."""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torchvision
import yaml
from PIL import Image

import kpnb
from kpnb.run.__main__ import main
from kpnb.run.sweeps import read_sweeps

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHELL = [
    line.split("#")[0]
    for text in re.findall(r"```\n(.*?)```", README, re.S)
    for line in text.splitlines()
]


def test_readme_is_short_and_its_links_lead_somewhere():
    assert len(README.splitlines()) <= 120
    links = re.findall(r"\]\(([^)]+)\)", README)
    assert links and all((ROOT / link).exists() for link in links)
    named = re.findall(r"`((?:kpnb|book|notebooks|data_prep|tests)/[\w./]*)`", README)
    assert named and all((ROOT / name).exists() for name in named)


def test_every_target_of_make_is_there():
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(
        re.findall(r"\bmake (\w+)", "\n".join([*SHELL, *re.findall(r"`(make [^`]+)`", README)]))
    )
    assert {"book", "test"} <= named <= targets


@pytest.mark.parametrize("line", [line for line in SHELL if "python -m" in line])
def test_a_command_is_accepted(line, capsys):
    """But for data that is not here."""
    module, *given = shlex.split(line.split("python -m")[1])
    assert find_spec(module)
    if module in ("kpnb.run", "kpnb.run.plan"):
        code = main([*given, *["--check"] * ("--check" not in given)])
        assert code == 0 or capsys.readouterr().err.startswith("data")
    if module == "kpnb.run.sweeps":
        assert given[0] in read_sweeps()


def test_every_table_that_snakemake_is_asked_for_is_a_sweep():
    asked = [shlex.split(line)[3] for line in SHELL if line.startswith("snakemake")]
    assert asked and set(asked) <= set(read_sweeps())


def test_the_example_of_ones_own_model_runs(tmp_path, monkeypatch):
    """With random weights, and as few passes as there may be."""
    build, explain = torchvision.models.resnet18, kpnb.EntropyEstimator
    monkeypatch.setattr(torchvision.models, "resnet18", lambda weights: build())
    monkeypatch.setattr(kpnb, "EntropyEstimator", lambda layer: explain(layer, quality="fast"))
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((80, 60), 50).save("bird.jpg")
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["maps"].entropy.shape == (1, 256) and (tmp_path / "maps.png").exists()
    torch.testing.assert_close(names["maps"].mean_entropy, torch.tensor([-2.8]), rtol=0, atol=0.02)


def test_the_citation_names_this_project_and_the_paper():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text(encoding="utf-8"))
    assert cited["cff-version"] == "1.2.0" and cited["message"] and cited["title"]
    assert (
        f'version = "{cited["version"]}"' in project
        and f'license = "{cited["license"]}"' in project
    )
    assert cited["repository-code"] == config["repository"]["url"]
    (owner,) = cited["authors"]
    assert f" {owner['name']}\n" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    (paper,) = cited["references"]
    known = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    known = known.split("@article{zhang2023quantifying,")[1].split("\n}")[0]
    known = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", known, re.M))
    authors = [f"{one['family-names']}, {one['given-names']}" for one in paper["authors"]]
    assert " and ".join(authors) == known["author"]
    plain = re.sub("[{}]", "", known["title"])
    assert (paper["title"], paper["notes"]) == (plain, known["note"]) and plain in cited["abstract"]
    for name in ("journal", "year", "volume"):
        assert str(paper[name]) == known[name]

"""Profiles for Slurm and Kubernetes, read as files; tests/check runs Snakemake with them."""

import importlib
import re

import pytest
import yaml
from sweep_project import EXECUTORS, KUBERNETES, ROOT, profile, require_plugin

RESOURCES = {"mem_mb", "runtime", "gres", "gpu", "gpu_manufacturer", "scale"}
SNAKEFILE = (ROOT / "Snakefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("commented", [False, True])
@pytest.mark.parametrize("name", EXECUTORS)
def test_a_profile_names_existing_rules_known_resources_and_settings(name, commented):
    settings = profile(name, commented)
    rules = set(re.findall(r"^rule (\w+):", SNAKEFILE, re.MULTILINE))
    assert settings["executor"] == name
    assert {*settings["set-resources"], *settings["set-threads"]} <= rules
    asked = settings["set-resources"]["cell"]
    assert set(asked) <= RESOURCES and commented == bool(set(asked) & {"gres", "gpu"})
    for resource in () if commented else ("mem_mb", "runtime"):
        # As shipped what the rule itself asks for; a reader changes it for full networks.
        (value,) = re.findall(rf"^ +{resource}=(\d+),", SNAKEFILE, re.MULTILINE)
        assert asked[resource] == int(value)
    require_plugin(name)
    from snakemake.cli import get_argument_parser

    options = (o for action in get_argument_parser()._actions for o in action.option_strings)
    assert set(settings) <= {option.lstrip("-") for option in options}


def test_the_head_pod_has_what_the_profile_says():
    documents = yaml.safe_load_all((KUBERNETES / "head.yaml").read_text(encoding="utf-8"))
    head = {document["kind"]: document for document in documents}
    settings, pod = profile("kubernetes"), head["Pod"]["spec"]
    (container,), (volume,) = pod["containers"], pod["volumes"]
    (mount,), (variable,) = container["volumeMounts"], container["env"]
    claim, place = settings["kubernetes-persistent-volumes"][0].split(":")
    assert head["PersistentVolumeClaim"]["metadata"]["name"] == claim
    assert volume["persistentVolumeClaim"]["claimName"] == claim
    assert (mount["name"], mount["mountPath"]) == (volume["name"], place)
    assert container["image"] == settings["container-image"]
    assert settings["default-storage-prefix"].startswith(f"{place}/")
    assert [variable["name"]] == settings["envvars"] and variable["value"].startswith(f"{place}/")
    account = head["ServiceAccount"]["metadata"]["name"]
    assert pod["serviceAccountName"] == head["RoleBinding"]["subjects"][0]["name"] == account
    assert head["RoleBinding"]["roleRef"]["name"] == head["Role"]["metadata"]["name"]


def test_what_the_snakefile_imports_is_there():
    found = re.findall(r"^from (kpnb[\w.]*) import (.+)$", SNAKEFILE, re.MULTILINE)
    named = [(module, name) for module, names in found for name in names.split(", ")]
    assert len(named) > 4
    for module, name in named:
        assert hasattr(importlib.import_module(module), name) or importlib.import_module(
            f"{module}.{name}"
        )


def test_the_image_is_built_from_files_that_docker_is_shown():
    lines = (KUBERNETES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    shown = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied and all((ROOT / name).is_file() for name in copied)
    assert "*" in shown and {line[1:] for line in shown if line.startswith("!")} == copied

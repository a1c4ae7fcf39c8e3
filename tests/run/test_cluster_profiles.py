"""Profiles for Slurm and Kubernetes, and the comparison of results from two places."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from fake_kubernetes import FakeKubernetes, image
from sweep_project import ROOT, Project

from kpnb.errors import KpnbError
from kpnb.metrics.results import Measure, Number, Results
from kpnb.run import compare as results_equal

PROFILES = ROOT / "profiles"
KUBERNETES = PROFILES / "kubernetes"
EXECUTORS = ("slurm", "kubernetes")
RESOURCES = {"mem_mb", "runtime", "gres", "gpu", "gpu_manufacturer", "scale"}
#: A setting that is commented out, in contrast to a sentence.
COMMENTED = re.compile(r"^( *)# ( *[a-z_-]+:(?: .*)?)$", re.MULTILINE)


def profile(name: str, commented: bool = False) -> dict:
    """A profile's settings; on request with those that are commented out."""
    text = (PROFILES / name / "config.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(COMMENTED.sub(r"\1\2", text) if commented else text)


def require(*modules: str, programs: tuple[str, ...] = ()) -> None:
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    missing += [name for name in programs if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: see book/cluster.md")


def require_plugin(name: str) -> None:
    storage = ["snakemake_storage_plugin_fs"] if name == "kubernetes" else []
    require("snakemake", f"snakemake_executor_plugin_{name}", *storage)


# Files


@pytest.mark.parametrize("commented", [False, True])
@pytest.mark.parametrize("name", EXECUTORS)
def test_a_profile_names_existing_rules_and_known_resources(name, commented):
    settings = profile(name, commented)
    rules = re.findall(r"^rule (\w+):", (ROOT / "Snakefile").read_text(), re.MULTILINE)
    assert settings["executor"] == name
    for kind in ("set-resources", "set-threads"):
        assert set(settings[kind]) <= set(rules)
    asked = settings["set-resources"]["cell"]
    assert set(asked) <= RESOURCES and commented == bool(set(asked) & {"gres", "gpu"})


@pytest.mark.parametrize("name", EXECUTORS)
def test_snakemake_knows_every_setting_of_a_profile(name):
    require_plugin(name)
    from snakemake.cli import get_argument_parser

    known = {
        option.lstrip("-")
        for action in get_argument_parser()._actions
        for option in action.option_strings
    }
    assert set(profile(name, commented=True)) <= known


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_profile_asks_for_what_the_rule_itself_asks_for(name):
    """As shipped; a reader changes it for networks at full size."""
    snakefile = (ROOT / "Snakefile").read_text(encoding="utf-8")
    for resource in ("mem_mb", "runtime"):
        (value,) = re.findall(rf"^ +{resource}=(\d+),", snakefile, re.MULTILINE)
        assert profile(name)["set-resources"]["cell"][resource] == int(value)


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


def test_the_image_is_built_from_files_that_docker_is_shown():
    lines = (KUBERNETES / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]}
    shown = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied and all((ROOT / name).is_file() for name in copied)
    assert "*" in shown and {line[1:] for line in shown if line.startswith("!")} == copied


# Snakemake with them


@pytest.mark.parametrize("name", EXECUTORS)
def test_a_dry_run_with_the_profile_lists_the_runs(name, tmp_path):
    require_plugin(name)
    own = ["--default-storage-prefix", str(tmp_path)] if name == "kubernetes" else []
    project = Project(tmp_path).fill()
    options = ["--profile", str(PROFILES / name), "-n", *own]
    ran = project.snakemake("all", *options, KPNB_STORE=str(tmp_path / "store"))
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout + ran.stderr
    assert "all at smoke: 3 runs, 3 missing" in told and project.executed() == []
    assert len(re.findall(r"^rule cell:", told, re.MULTILINE)) == 3


def checkout(volume: Path) -> Path:
    """A checkout of stub sweeps with this Snakefile, profiles and package, under git."""
    folder = volume / "checkout"
    heavy = shutil.ignore_patterns("images", "text", "pointclouds", "__pycache__")
    shutil.copytree(ROOT / "kpnb", folder / "kpnb", ignore=heavy)
    shutil.copytree(PROFILES, folder / "profiles")
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "book").mkdir()
    (folder / "book" / "_toc.yml").touch()  # so results go to book/results
    Project(folder).fill()
    for arguments in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *arguments], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def pod(tmp_path_factory) -> SimpleNamespace:
    """One run with a GPU by the profile for Kubernetes, on a cluster that is not one."""
    require_plugin("kubernetes")
    require(programs=("git", "rsync"))
    volume = tmp_path_factory.mktemp("volume")
    folder = checkout(volume)
    variables = image(volume / "image", Path(sys.executable).parent)
    variables["RUNS"] = str(volume / "runs.txt")
    gpu = ["cell:mem_mb=4000", "cell:gpu=1", "cell:gpu_manufacturer=nvidia", "cell:scale=0"]
    arguments = ["--profile", "profiles/kubernetes", "--set-resources", *gpu]
    arguments += ["--kubernetes-persistent-volumes", f"kpnb:{volume}"]
    arguments += ["--default-storage-prefix", str(folder), "--seconds-between-status-checks", "1"]
    arguments += ["--config", "sweeps=sweeps", "notebooks=notebooks", "preset=smoke"]
    dropped = ("KPNB_RESULTS", "PYTHONPATH")
    own = {name: value for name, value in os.environ.items() if name not in dropped}
    own["KPNB_STORE"] = str(volume / "store")
    with FakeKubernetes(volume / "pods", variables) as cluster:
        command = [sys.executable, "-m", "snakemake", "a_one", *arguments]
        own["KUBECONFIG"] = str(cluster.config)
        ran = subprocess.run(command, cwd=folder, env=own, capture_output=True, text=True)
    return SimpleNamespace(folder=folder, volume=volume, cluster=cluster, ran=ran)


def test_a_run_in_a_pod_brings_its_results_home(pod):
    assert pod.ran.returncode == 0, pod.ran.stdout + pod.ran.stderr
    results = pod.folder / "book/results/smoke/cells/a_one.json"
    assert Results.model_validate_json(results.read_text()).run == "a_one"
    executed = pod.folder / "executed/sweeps/smoke"
    assert (executed / "a_one.ipynb").is_file() and "1 fresh" in (
        executed / "a_one.log"
    ).read_text()


def test_a_pod_gets_image_volume_store_and_gpu(pod):
    (name,) = pod.cluster.jobs
    container = pod.cluster.container(name)
    assert container["image"] == profile("kubernetes")["container-image"]
    asked, most = container["resources"]["requests"], container["resources"]["limits"]
    assert asked["nvidia.com/gpu"] == most["nvidia.com/gpu"] == "1"
    assert most["cpu"] == "1000m" and most["memory"] == "4000M"
    assert [variable["name"] for variable in container["env"]] == ["KPNB_STORE"]
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {
        "/workdir",
        str(pod.volume),
    }
    assert "cell:preset=smoke,run=a_one" in container["args"][1]


def test_jobs_and_secrets_are_cleaned_up(pod):
    assert set(pod.cluster.deleted) == set(pod.cluster.jobs) | set(pod.cluster.secrets)


# Results of two places


def results(**changed) -> Results:
    place = {"layer": "FC1", "network": "VGG-11", "scale": "narrow", "dataset": "made up"}
    measure = Measure(**place, role="S", metric="n_fg", mean=1.5, n_samples=3, n_seeds=1)
    made = {"notebook": "image_cell", "preset": "smoke", "run": "a_run", "settings": {"epochs": 2}}
    made |= {"provenance": {"cpu": "one"}, "fingerprint": "0", "measures": [measure]}
    made |= {"seconds": 1.0, "peak_memory_mb": 1.0}
    return Results(**made | changed)


def file(folder: Path, content: Results, name: str = "smoke/cells/a_run.json") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content.model_dump()), encoding="utf-8")
    return folder


def test_time_place_and_version_do_not_count(tmp_path, capsys):
    cost = {"train_s": Number(value=3.0, what="training", unit="s")}
    other = results(seconds=9.0, provenance={"cpu": "two"}, fingerprint="1", numbers=cost)
    slower = cost | {"train_s": Number(value=4.0, what="training", unit="s")}
    places = file(tmp_path / "a", other), file(tmp_path / "b", results(numbers=slower))
    assert results_equal.main([str(place) for place in places]) == 0
    assert capsys.readouterr().out == "1 results file: every number is equal\n"


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"settings": {"epochs": 3}}, ".settings.epochs: 2, 3"),
        ({"settings": {}}, ".settings.epochs: 2, '(missing)'"),
        ({"measures": []}, ".measures: 1 entries, 0 entries"),
        ({"measures": [results().measures[0].model_copy(update={"mean": 1.5 + 2**-52})]}, ".mean:"),
        ({"notes": ["word"]}, ".notes: 0 entries, 1 entries"),
        ({"numbers": {"n": Number(value=1.0, what="x", unit="nats")}}, ".numbers.n: '(missing)'"),
    ],
)
def test_a_difference_is_told_with_its_place(tmp_path, capsys, changed, told):
    first, second = file(tmp_path / "a", results()), file(tmp_path / "b", results(**changed))
    assert results_equal.main([str(first), str(second)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("smoke/cells/a_run.json.") and told in line


def test_a_file_in_one_folder_alone_is_a_difference(tmp_path):
    first, second = file(tmp_path / "a", results()), file(tmp_path / "b", results())
    file(second, results(run=""), "smoke/image_cell.json")
    assert results_equal.differences(first, second) == [f"smoke/image_cell.json: only in {second}"]
    assert results_equal.differences(second, first) == [f"smoke/image_cell.json: only in {second}"]


def test_an_empty_or_missing_folder_and_a_damaged_file_are_mistakes(tmp_path, capsys):
    good, empty = file(tmp_path / "a", results()), tmp_path / "empty"
    empty.mkdir()
    for wrong in (empty, tmp_path / "none", good / "smoke/cells/a_run.json"):
        with pytest.raises(KpnbError, match="name"):
            results_equal.differences(good, wrong)
    cut = file(tmp_path / "cut", results()) / "smoke/cells/a_run.json"
    cut.write_text(cut.read_text()[:-9])
    assert results_equal.main([str(good), str(tmp_path / "cut")]) == 2
    assert "damaged" in capsys.readouterr().err

"""Snakemake itself on a notebook that takes a second: campaigns, clones, profiles for clusters."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sweep_project as stub
from fake_kubernetes import FakeKubernetes, image

from kpnb.metrics.results import Results


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> stub.Project:
    stub.require_plugin()
    return stub.Project(tmp_path_factory.mktemp("sweeps")).fill()


def test_a_failed_run_leaves_the_others_and_only_what_is_missing_or_changed_is_run_again(project):
    """And nothing runs where a name is wrong."""
    content = stub.sweep({"a_run": {}}, parameters={"epoch": 3})
    stub.write_sweep(project.root / "wrong", "made", content)
    wrong = project.snakemake("all", places=["sweeps=wrong", "preset=smoke"])
    assert wrong.returncode != 0 and project.executed() == []
    assert "made.yaml, run a_run: There is no parameter 'epoch'" in wrong.stderr
    absent = project.snakemake("first", places=["sweeps=sweeps", "preset=paper"])
    assert absent.returncode != 0 and "first is not run at 'paper'" in absent.stderr
    failed = project.snakemake("all", FAIL="b_three")
    assert failed.returncode != 0 and project.executed() == stub.EVERY
    assert [run for run in stub.EVERY if project.file(run).is_file()] == ["a_one", "a_two"]
    assert (project.root / "executed/sweeps/smoke/b_three.failed.ipynb").is_file()
    assert "told to fail" in failed.stdout + failed.stderr
    assert project.snakemake("all").returncode == 0
    assert project.executed() == ["b_three"] and project.settings("b_three")["epochs"] == 3
    again = project.snakemake("all")
    assert again.returncode == 0 and project.executed() == []
    assert "3 fresh" in again.stderr and "rule cell" not in again.stderr
    project.change("a_one", epochs=4)
    assert project.snakemake("all").returncode == 0
    assert project.executed() == ["a_one"] and project.settings("a_one")["epochs"] == 4
    project.file("a_two").unlink()
    assert project.snakemake("first").returncode == 0
    assert project.executed() == ["a_two"]


def test_a_clone_runs_only_what_is_stale(project):
    """Without Snakemake's records and executed copies, and with a new time on every file."""
    clone = stub.Project(project.root.parent / "clone")
    for part in ("sweeps", "notebooks", "results"):
        shutil.copytree(project.root / part, clone.root / part, copy_function=shutil.copyfile)
    kept = clone.file("a_one").stat().st_mtime_ns
    clone.file("b_three").write_text("cut sh")
    ran = clone.snakemake("all", SILENT="b_three")
    assert ran.returncode != 0 and clone.executed() == ["b_three"]
    assert clone.file("b_three").read_text() == "cut sh", "a failed run leaves what was there"
    assert clone.snakemake("all").returncode == 0 and clone.executed() == ["b_three"]
    assert clone.file("a_one").stat().st_mtime_ns == kept


@pytest.mark.parametrize("name", stub.EXECUTORS)
def test_a_dry_run_with_the_profile_lists_the_runs(name, tmp_path):
    stub.require_plugin(name)
    own = ["--default-storage-prefix", str(tmp_path)] if name == "kubernetes" else []
    project = stub.Project(tmp_path).fill()
    options = ["--profile", str(stub.PROFILES / name), "-n", *own]
    ran = project.snakemake("all", *options, KPNB_STORE=str(tmp_path / "store"))
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout + ran.stderr
    assert "all at smoke: 3 runs, 3 missing" in told and project.executed() == []
    assert len(re.findall(r"^rule cell:", told, re.MULTILINE)) == 3


def checkout(volume: Path) -> Path:
    """A checkout of stub sweeps with this Snakefile, profiles and package, under git."""
    folder = volume / "checkout"
    heavy = shutil.ignore_patterns("images", "text", "pointclouds", "__pycache__")
    shutil.copytree(stub.ROOT / "kpnb", folder / "kpnb", ignore=heavy)
    shutil.copytree(stub.PROFILES, folder / "profiles")
    shutil.copy(stub.ROOT / "Snakefile", folder)
    (folder / "book").mkdir()
    (folder / "book" / "_toc.yml").touch()  # so results go to book/results
    stub.Project(folder).fill()
    subprocess.run("git init -q && git add -A", shell=True, cwd=folder, check=True)
    return folder


def test_a_pod_gets_image_volume_store_and_gpu_and_brings_its_results_home(tmp_path):
    """One run with a GPU by the profile for Kubernetes, on a cluster that is not one."""
    stub.require_plugin("kubernetes", "git", "rsync")
    volume = tmp_path / "volume"
    folder = checkout(volume)
    variables = image(volume / "image", Path(sys.executable).parent)
    cluster = FakeKubernetes(volume / "pods", variables | {"RUNS": str(volume / "runs.txt")})
    gpu = ["cell:mem_mb=4000", "cell:gpu=1", "cell:gpu_manufacturer=nvidia", "cell:scale=0"]
    command = [sys.executable, "-m", "snakemake", "a_one", "--profile", "profiles/kubernetes"]
    command += ["--kubernetes-persistent-volumes", f"kpnb:{volume}", "--set-resources", *gpu]
    command += ["--default-storage-prefix", str(folder), "--seconds-between-status-checks", "1"]
    own = {n: v for n, v in os.environ.items() if n not in ("KPNB_RESULTS", "PYTHONPATH")}
    own |= {"KPNB_STORE": str(volume / "store"), "KUBECONFIG": str(cluster.config)}
    with cluster.serve():
        how = dict(cwd=folder, env=own, capture_output=True, text=True)
        ran = subprocess.run([*command, "--config", *stub.PLACES], **how)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = folder / "book/results/smoke/cells/a_one.json"
    assert Results.model_validate_json(results.read_text()).run == "a_one"
    executed = folder / "executed/sweeps/smoke"
    assert (executed / "a_one.ipynb").is_file()
    assert "1 fresh" in (executed / "a_one.log").read_text()
    assert set(cluster.deleted) == set(cluster.jobs) | set(cluster.secrets)
    (name,) = cluster.jobs
    container = cluster.container(name)
    assert container["image"] == stub.profile("kubernetes")["container-image"]
    asked, most = container["resources"]["requests"], container["resources"]["limits"]
    assert asked["nvidia.com/gpu"] == most["nvidia.com/gpu"] == "1"
    assert most["cpu"] == "1000m" and most["memory"] == "4000M"
    assert [variable["name"] for variable in container["env"]] == ["KPNB_STORE"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"/workdir", str(volume)}
    assert "cell:preset=smoke,run=a_one" in container["args"][1]

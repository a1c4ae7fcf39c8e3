"""A study killed by the system, in training and in estimation, goes on and changes no bit."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PATIENCE = 900  # seconds; a few on a machine that is not busy
SCRIPT = """
from kpnb.study.parameters import ImageParameters, resolve
from kpnb.study.image import ImageStudy
ImageStudy(resolve(ImageParameters, {"preset": "smoke", "device": "cpu"})).evidence("FC1")
"""


def start(root: Path) -> subprocess.Popen:
    environment = os.environ | {"KPNB_STORE": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", SCRIPT], env=environment, cwd=CHECKOUT)


def kill_when(root: Path, reached) -> None:
    """kill -9 as soon as `reached()`, which must be before the process ends."""
    process, deadline = start(root), time.monotonic() + PATIENCE
    while not reached():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() < 0


def contents(root: Path, kind: str) -> dict[str, bytes]:
    found = [folder for folder in (root / kind).iterdir() if "." not in folder.name]
    return {folder.name: (folder / "tensors.safetensors").read_bytes() for folder in found}


def test_kill_in_training_and_in_estimation_changes_no_bit(smoke, tmp_path):
    shutil.copytree(smoke.root / "networks", tmp_path / "networks")
    student = smoke.study.of("S", 0, "FC1").fingerprint
    shutil.rmtree(tmp_path / "networks" / student)
    part = tmp_path / "networks" / f"{student}.part"
    kill_when(tmp_path, (part / "training.epoch0001").is_dir)
    assert part.is_dir() and not part.with_suffix("").exists()
    assert not (tmp_path / "maps").exists()
    kill_when(tmp_path, lambda: any((tmp_path / "maps").glob("*.part/0")))
    left = next((tmp_path / "maps").glob("*.part"))
    assert (left / "0").exists() and not left.with_suffix("").exists()
    assert part.with_suffix("").exists()
    assert start(tmp_path).wait(timeout=PATIENCE) == 0
    assert not list(tmp_path.glob("*/*.part"))
    for kind in ("networks", "maps"):
        assert contents(smoke.root, kind) == contents(tmp_path, kind) != {}

"""The store: computed once, whole or absent, resumable, checked when read; its journal of uses."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import filelock
import pytest
import torch
from object_trees import put
from refusals import refused
from safetensors.torch import load_file
from slow_sum import slow_sum

import kpnb.store
from kpnb.store import JOURNAL, Store, damaged, default_root, note_use, read_journal

CODE = ("KpnbError",)
CHECKOUT = Path(__file__).resolve().parents[2]
FILES = ("tensors.safetensors", "info.json", "settings.json", "manifest.json")


def example(scratch=None):
    both = torch.arange(4.0)
    tensors = {
        "both": both,
        "view": both[:2],  # of one storage
        "weight": torch.arange(6.0).reshape(2, 3).T,
        "double": torch.tensor([0.1], dtype=torch.float64),
        "mask": torch.tensor([True, False]),
        "label": torch.tensor([3, -1]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 4),
    }
    return tensors, {"loss": [0.5, 0.25], "name": "é", "none": None}


def unexpected(scratch):
    raise AssertionError("computed again")


def net(root: Path, compute=example, a: int = 1, data=None):
    return Store(root).compute("net", {"a": a}, compute, CODE, data)


def leftovers(root: Path) -> list[str]:
    """Everything in the store that is not a finished entry or a lock."""
    folders = [f for kind in root.iterdir() if kind.name != ".locks" for f in kind.iterdir()]
    return [folder.name for folder in folders if "." in folder.name]


def test_round_trip_is_exact_and_readable_without_kpnb(tmp_path):
    first, again = (net(tmp_path, how, data={"images": "f00"}) for how in (example, unexpected))
    assert (first.computed, again.computed) == (True, False)
    tensors, info = example()
    for record in (first, again):
        assert record.info == info and record.tensors.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert record.tensors[name].dtype == tensor.dtype
            assert torch.equal(record.tensors[name], tensor)
    assert again.path == tmp_path / "net" / first.fingerprint and leftovers(tmp_path) == []
    assert torch.equal(load_file(again.path / FILES[0])["label"], tensors["label"])
    found, settings, manifest = (json.loads((again.path / name).read_text()) for name in FILES[1:])
    assert found == info and set(manifest["files"]) == set(FILES[:3])
    assert settings["settings"] == {"a": 1} and settings["data"] == {"images": "f00"}


def test_everything_changes_the_fingerprint(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def name(kind="net", settings=None, code=CODE, data=None):
        return store.compute(kind, settings or {"a": 1}, example, code, data).fingerprint

    names = [name(), name(kind="map"), name(settings={"a": 2}), name(code=("file_hash",))]
    names += [name(data={"images": "0"}), name(data={"images": "1"})]
    monkeypatch.setattr(kpnb.fingerprint, "library_versions", lambda: {"torch": "0"})
    names.append(name())
    monkeypatch.setattr(kpnb.store, "FORMAT", 99)
    names.append(name())
    assert len(set(names)) == len(names)


def flip(file: Path, position: int) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1
    file.write_bytes(content)


DAMAGE = {
    "unlinked": Path.unlink,
    "truncated": lambda file: os.truncate(file, 7),
    "flipped first": lambda file: flip(file, 0),
    "flipped half": lambda file: flip(file, file.stat().st_size // 2),
    "flipped last": lambda file: flip(file, -1),
}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_what_may_not_be_read_is_kept(tmp_path, monkeypatch, number):
    path, read = net(tmp_path).path, Path.read_bytes

    def refusing(file):
        if file.name == "tensors.safetensors":
            raise OSError(number, os.strerror(number), str(file))
        return read(file)

    with monkeypatch.context() as patched, refused("cannot be read .*set KPNB_STORE"):
        patched.setattr(Path, "read_bytes", refusing)
        net(tmp_path)
    assert path.is_dir() and not net(tmp_path).computed


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("name", FILES)
def test_damage_is_seen_told_and_redone(tmp_path, name, kind):
    path, whole = (net(tmp_path, a=a).path for a in (1, 2))
    assert damaged([str(path), str(whole)]) == []
    DAMAGE[kind](path / name)
    assert damaged([str(path), str(whole)]) == [str(path)]
    told = "damaged" if kind.startswith("flipped") else name.split(".")[0]
    with pytest.warns(UserWarning, match=told) as warned:
        record = net(tmp_path)
    assert len(warned) == 1 and "\n" not in str(warned[0].message)
    assert record.computed and torch.equal(record.tensors["label"], example()[0]["label"])
    assert not net(tmp_path, unexpected).computed


def test_entry_under_another_name_is_not_believed(tmp_path):
    one, two = net(tmp_path), net(tmp_path, lambda s: ({}, {}), 2)
    for name in FILES:
        (two.path / name).write_bytes((one.path / name).read_bytes())
    with pytest.warns(UserWarning, match="another entry"):
        assert net(tmp_path, lambda s: ({}, {}), 2).tensors == {}


def test_failed_compute_leaves_no_entry_and_its_parts(tmp_path):
    def fails(scratch):
        scratch.save("epoch=1", {"w": torch.ones(1)}, {"epoch": 1})
        raise OSError(errno.ENOSPC, "the computation's own error")

    with pytest.raises(OSError, match="own error"):
        net(tmp_path, fails)
    assert [folder.suffix for folder in (tmp_path / "net").iterdir()] == [".part"]

    def completes(scratch):
        assert names(scratch) == ["epoch=1"]
        return scratch.load("epoch=1")

    assert net(tmp_path, completes).info == {"epoch": 1} and leftovers(tmp_path) == []


def names(scratch):
    return sorted(part.name for part in scratch.folder.glob("*") if part.is_dir())


def test_scratch_replaces_and_forgets_damage(tmp_path):
    def work(scratch):
        assert scratch.load("p") is None and names(scratch) == []
        for value in (1.0, 2.0):
            scratch.save("p", {"w": torch.tensor(value)}, {"v": value})
        scratch.save("q", {}, {})
        assert scratch.load("p")[0]["w"].item() == 2.0 and names(scratch) == ["p", "q"]
        shutil.rmtree(scratch.folder / "q")
        assert names(scratch) == ["p"]
        flip(scratch.folder / "p" / "tensors.safetensors", -1)
        with pytest.warns(UserWarning, match="damaged"):
            assert scratch.load("p") is None
        assert names(scratch) == []
        return {}, {}

    net(tmp_path, work)


@pytest.mark.parametrize("name", ["a/b", "..", "", "x.tmp", "x.old", "a b"])
def test_names_that_are_no_folders_are_refused(tmp_path, name):
    with refused("cannot name"):
        net(tmp_path, lambda s: s.save(name, {}, {}))
    with refused("cannot name"):
        Store(tmp_path).compute(name, {}, example, CODE)


BAD = {
    "complex64": ({"z": torch.zeros(1, dtype=torch.complex64)}, {}),
    "list": ({"z": [1, 2]}, {}),
    r"info\['loss'\] is nan": ({}, {"loss": float("nan")}),
}


@pytest.mark.parametrize("told", BAD)
def test_content_that_cannot_be_stored(tmp_path, told):
    with refused(told):
        net(tmp_path, lambda s: BAD[told])
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("part", [True, False])
def test_no_disk_space_is_one_sentence(tmp_path, monkeypatch, code, part):
    def full(path, content):
        path.write_bytes(content[:3])
        raise OSError(code, "No space left on device")

    def work(scratch):
        if part:
            scratch.save("p", {}, {})
        return example()

    monkeypatch.setattr(kpnb.store, "write_file", full)
    with refused("no disk space.*KPNB_STORE") as told:
        net(tmp_path, work)
    assert str(tmp_path) in str(told.value)
    assert not [f for f in (tmp_path / "net").rglob("*") if f.is_file()]
    monkeypatch.undo()
    assert net(tmp_path).computed


def test_what_a_store_that_cannot_be_written_holds_is_read(tmp_path):
    """No permission stops root: a file where the locks would lie does."""
    locks = tmp_path / ".locks"
    assert net(tmp_path).computed
    shutil.rmtree(locks)
    locks.write_text("in the way")
    tmp_path.chmod(0o500)
    assert not net(tmp_path, unexpected).computed
    for root in (tmp_path, locks / "store"):
        with refused("cannot be written.*KPNB_STORE"):
            net(root, a=2)
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("ending", [".tmp", ".old"])
def test_temporary_folders_of_killed_runs_are_cleaned(tmp_path, ending):
    dead = tmp_path / "net" / ("0" * 64 + ending)
    dead.mkdir(parents=True)
    (dead / "tensors.safetensors").write_bytes(b"half")
    assert net(tmp_path).computed and leftovers(tmp_path) == []


def test_default_root(monkeypatch, tmp_path):
    monkeypatch.setenv("KPNB_STORE", str(tmp_path / "elsewhere"))
    assert default_root() == tmp_path / "elsewhere" == Store().root
    monkeypatch.delenv("KPNB_STORE")
    assert default_root() == CHECKOUT / ".kpnb_store"


CHILD = """
import sys
from pathlib import Path
from slow_sum import slow_sum
from kpnb.store import Store
root, log, mode = sys.argv[1:]
record = Store(Path(root)).compute("net", {"a": 1}, slow_sum(Path(log), mode), ("KpnbError",))
print(record.computed, record.tensors["state"].tolist())
"""


def start(root, log, mode):
    path = os.pathsep.join([str(CHECKOUT), str(CHECKOUT / "tests" / "helpers")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    how = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    return subprocess.Popen([sys.executable, "-c", CHILD, str(root), str(log), mode], **how)


def test_a_killed_process_is_waited_for_and_one_of_two_goes_on_from_its_parts(tmp_path):
    """kill -9 in the middle; the other one of the two loads what the first has computed."""
    root, log = tmp_path / "store", tmp_path / "log"
    killed = start(root, log, "hang")
    assert killed.stdout.readline() == "ready\n"
    waiting = [start(root, log, "fast") for _ in range(2)]
    part = next((root / "net").glob("*.part"))
    for line in [process.stderr.readline() for process in waiting]:
        assert "Waiting" in line and part.with_suffix("").name in line
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=10)
    ends = [process.communicate(timeout=60) for process in waiting]
    undisturbed = net(tmp_path / "other", slow_sum(tmp_path / "log2", "fast"))
    state = undisturbed.tensors["state"].tolist()
    assert sorted(out.strip() for out, _ in ends) == [f"False {state}", f"True {state}"]
    assert "Waiting" not in ends[0][1] + ends[1][1] and leftovers(root) == []
    assert log.read_text().split() == ["0", "1", "2", "3", "4"]


def test_who_holds_a_lock_elsewhere_is_named(tmp_path, monkeypatch, caplog, capfd):
    """Without locks of the file system the lock's file is the lock: a kill elsewhere leaves it."""
    file, taken = tmp_path / "locks" / "a.lock", []

    def acquire(lock, timeout=-1):
        if timeout == 0:
            put(file, "4711\nnode17\n123\n")
            raise filelock.Timeout(str(file))
        taken.append(lock)

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    monkeypatch.setenv("KPNB_EXECUTED_COPY", "1")  # the console is told, too
    kpnb.store.locked(file, "computes it", "go elsewhere")
    told = f"that computes it (process 4711 on node17; if it is gone, remove {file})"
    assert taken and told in caplog.text and told in capfd.readouterr().err


class Killed(BaseException):
    """Stands for a kill: nothing in the store catches it, so nothing is tidied."""


def killed_at(monkeypatch, step: int) -> None:
    """Let the store's writes and renames happen `step` times, then stop as a kill would."""
    steps = iter(range(step))
    write, replace = kpnb.store.write_file, os.replace

    def write_file(path, content):
        if next(steps, None) is None:
            path.write_bytes(content[: len(content) // 2])
            raise Killed
        write(path, content)

    def rename(*arguments):
        if next(steps, None) is None:
            raise Killed
        replace(*arguments)

    monkeypatch.setattr(kpnb.store, "write_file", write_file)
    monkeypatch.setattr(kpnb.store.os, "replace", rename)


@pytest.mark.parametrize("step", range(14))
def test_kill_at_any_write_leaves_the_store_whole(tmp_path, monkeypatch, step):
    """Two versions of a part (4 and 5 steps) and the entry (5): stop before each step."""

    def work(scratch):
        for value in (1.0, 2.0):
            scratch.save("p", {"w": torch.tensor(value)}, {})
        return example()

    def resumed(scratch):
        part = scratch.load("p")
        assert (part is None) == (step < 4)
        assert part is None or part[0]["w"].item() == (1.0 if step < 9 else 2.0)
        return example()

    with monkeypatch.context() as patch:
        killed_at(patch, step)
        with pytest.raises(Killed):
            net(tmp_path, work)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = net(tmp_path, resumed)
    assert record.computed and record.info == example()[1] and leftovers(tmp_path) == []


FOREIGN = ("", "[]", "{}", '{"files": {"info.json": {}}}', '{"files": 1}')


def test_a_flipped_byte_of_the_manifest_and_a_foreign_one_are_damage(tmp_path):
    folder = net(tmp_path).path
    manifest = folder / "manifest.json"
    whole = manifest.read_bytes()
    for position in range(len(whole)):
        flip(manifest, position)
        assert damaged([str(folder)]) == [str(folder)], whole[position - 20 : position + 1]
        manifest.write_bytes(whole)
    for text in FOREIGN:
        manifest.write_text(text)
        assert damaged([str(folder)]) == [str(folder)], text
    shutil.rmtree(folder)
    assert damaged([str(folder)]) == []


def test_uses_are_noted_once_whether_computed_or_loaded(tmp_path, monkeypatch):
    journal = tmp_path / "journal"
    monkeypatch.setenv(JOURNAL, str(journal))
    first, second, _ = (net(tmp_path / "store", a=a).path for a in (1, 2, 1))
    assert len(journal.read_text().splitlines()) == 3
    assert read_journal(journal) == sorted([str(first.resolve()), str(second.resolve())])
    monkeypatch.delenv(JOURNAL)
    note_use(tmp_path)
    assert len(journal.read_text().splitlines()) == 3 and read_journal(tmp_path / "none") == []

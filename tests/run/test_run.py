"""The runner: nothing runs with a mistake in it, and an executed copy is what it says."""

import errno
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from unittest.mock import Mock

import nbformat
import pytest
from made_notebooks import DECLARED, KERNEL, NO_MORE, USED, main, write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from refusals import fails

import kpnb.run.__main__ as run
import kpnb.store
from kpnb.errors import KEPT, STOPPING, answered
from kpnb.metrics.results import results_root
from kpnb.run import notebook as runner
from kpnb.run.notebook import declared_values, parse_assignments, request
from kpnb.store import JOURNAL
from kpnb.study.parameters import ImageParameters


def executed(folder, name="image_x.ipynb"):
    return nbformat.read(folder / "out" / name, as_version=4)


def stdout(notebook) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.text for output in outputs if output.output_type == "stream")


#: What is said of a mistake -> a line more in the parameters cell.
LINES = {f"'{re.escape(line)}': write only `name": line
         for line in ("grid = 2 * 8", "import os", "a = b = 1", "grid: int = 8")}  # fmt: skip
LINES |= {"sets epochs twice": "epochs = 4", "no parameter 'epoks'.*epochs": "epoks = 4"}
LINES |= {"grid is 1": "grid = 1", "not Python": "grid ="}
#: -> what is passed.
PASSED = {
    "no parameter 'epoch': did you mean epochs": "-p epoch=3",
    "epochs is 'abc': it should be a valid integer": "-p epochs=abc",
    "write name=value": "-p epochs", "given twice": "-p epochs=1 -p epochs=2",
    "'study' or 'paper'": "--preset papers",
    "The parameter preset is given twice": "--preset demo -p preset=study",
    "nowhere": "-p data=nowhere", "give download:NAME": "-p data=download:nothing",
    "network is 'VGG': it should": "-p network=VGG",
    "at least 1 character": "-p data=", "which is not there": "-p network=/no/such/folder",
    "cub200": "-p data=cub200",
    "image_x does not read: give download:NAME with one of cub200": "-p data=download:sst2",
    "which image_x does not read": "-p data=modelnet40", "below 2..63": f"-p seeds=[0,{2**63}]",
}  # fmt: skip
#: -> the notebook, and what is passed.
NOTEBOOKS = {
    "neither samples nor `more": ({"declared": NO_MORE}, "-p samples=3"),
    "more is 3: write a dictionary": ({"declared": f"{NO_MORE}\nmore = 3"}, ""),
    "'chunks': did you mean chunk": ({"declared": f"{NO_MORE}\nmore = {{'chunks': 3}}"}, ""),
    "0 code cells tagged 'parameters'": ({"tagged": 0}, ""),
    "2 code cells tagged 'parameters'": ({"tagged": 2}, ""),
    "no later cell takes them": ({"used": "print(preset, epochs, layers)"}, ""),
    "no later cell takes": ({"used": "1", "first": [new_code_cell(USED)]}, ""),
    "preset is missing": ({"declared": "epochs = 3"}, ""),
    "no notebook 'image_x' .*did you mean image_y": ({"name": "image_y"}, ""),
}
NOTEBOOKS |= {told: ({"declared": f"{DECLARED}\n{line}"}, "") for told, line in LINES.items()}
NOTEBOOKS |= {told: ({}, arguments) for told, arguments in PASSED.items()}


@pytest.mark.parametrize("told", NOTEBOOKS)
def test_mistakes_stop_before_all_else(tmp_path, monkeypatch, capsys, told):
    monkeypatch.setenv("KPNB_DATA", str(tmp_path / "none"))
    notebook, arguments = NOTEBOOKS[told]
    write(tmp_path, **notebook)
    assert main(tmp_path, *arguments.split()) == 2
    sentence = capsys.readouterr().err
    assert re.search(told, sentence) and len(sentence.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_hypotheses_on_training_need_samples_that_are_followed():
    asked = [(name, run.HERE / "notebooks") for name in ("image_h2", "qa_h3", "image_h1")]
    for one in asked[:2]:
        fails(request, f"but {one[0]} asks what happens", *one, {"followed": 0})
    assert request(*asked[2], {"followed": 0}).resolved.followed == 0


def test_a_file_that_is_no_notebook_and_no_request(tmp_path, capsys):
    (tmp_path / "image_x.ipynb").write_text("{")
    assert main(tmp_path) == 2 and "not a notebook" in capsys.readouterr().err
    for wrong in ([], ["image_h1", "--status", "study"]):
        with pytest.raises(SystemExit):
            run.main(wrong)
        assert "give --status" in capsys.readouterr().err


def test_what_the_cell_becomes_and_check_prints_without_running(tmp_path, monkeypatch, capsys):
    """The cell takes the preset's values, its own, those passed, in this order, others in `more`;
    all are printed with their origin. IPython's lines are no obstacle; data get their full path."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    ipython = "if True:\n    %pip install kpnb\n!ls", "%%html\n<b>"
    write(tmp_path, *ipython, declared=DECLARED.replace("FC1", "Conv"))
    given = ["--preset", "study", "-p", "epochs=7", "-p", "chunk=64"]
    assert main(tmp_path, "--check", *given) == 0
    lines = capsys.readouterr().out.splitlines()
    first = ["preset = 'study'  (given)", "epochs = 7  (given)", "layers = ['Conv']  (notebook)"]
    assert [line.strip() for line in lines[1:4]] == first
    assert "  chunk = 64  (given)" in lines and "  samples = 300  (preset study)" in lines
    assert "  checkpoints = [0, 1, 2, 3, 4, 5, 6, 7]  (preset study)" in lines
    assert not any(line.startswith("  more") for line in lines)
    assert main(tmp_path, "--check", "-p", "data=mine") == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  epochs = 100  (preset demo)" in lines and "  preset = 'smoke'  (notebook)" in lines
    assert f"  data = {str(tmp_path / 'mine')!r}  (given)" in lines
    plain = {"preset": "smoke", "epochs": 100, "layers": ["Conv"], "more": {}}
    assert request("image_x", tmp_path, {}).values == plain
    found = request("image_x", tmp_path, {"preset": "study", "epochs": 3, "chunk": 64}).values
    study = ImageParameters.PRESETS["study"]
    differ = ("samples", "seeds", "teachers", "followed")
    more = {name: study[name] for name in differ} | {"chunk": 64}
    assert found == plain | {"preset": "study", "epochs": 3, "more": more}
    paper = request("image_x", tmp_path, {"preset": "paper", "network": "AlexNet"})
    # the network's, where the demo has a number
    assert paper.values["more"]["threshold"] == 0.25 == paper.resolved.threshold


def test_literals_of_the_command_line_and_of_the_cell():
    read = {"3": 3, "0.5": 0.5, "1e-1": 0.1, '["FC1"]': ["FC1"], "[FC1, Conv]": ["FC1", "Conv"]}
    read |= {"('FC1',)": ["FC1"], "VGG-11": "VGG-11", "null": None, "None": None, "a=b": "a=b"}
    for text, value in read.items():
        parsed = parse_assignments([f"x={text}"])["x"]
        assert parsed == value and type(parsed) is type(value)
    for text in ("birds #2", "a: b", "2024_05", "on", "~", "", '["FC1"]', "1e3", "'one'"):
        assert parse_assignments([f"data={text}"], "image_h1") == {"data": text}
    numbers = parse_assignments(["epochs=3", "seeds=[1]", "data=None", "batch=null"], "image_h1")
    assert numbers == {"epochs": 3, "seeds": [1], "data": None, "batch": None}
    found = declared_values('a = 1  # one\nb = ["x", -2.5]\nc = None', "n")
    assert found == {"a": 1, "b": ["x", -2.5], "c": None}


def test_texts_reach_the_run_as_they_are_given_and_places_by_their_full_path(
    tmp_path, monkeypatch, capsys
):
    """A leading ~/ is the home folder; what is no place stays, though a folder has its name; a
    model's folder is one that holds a model."""
    names = ("birds", "birds #2", "a: b", "2024_05", "on", "d'été", "none")
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / "MiniLM-L6").mkdir()
    (tmp_path / "on" / "config.json").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {f"data={name}": str(tmp_path / name) for name in names[:-1]}
    given |= {"data=~/a: b": str(tmp_path / "a: b"), "weights=none": "none"}
    given |= {"network=on": str(tmp_path / "on"), "network=MiniLM-L6": "MiniLM-L6"}
    notebooks = {"data": "image_h1", "weights": "own_model", "network": "qa_h1"}
    for text, value in given.items():
        name = text.partition("=")[0]
        assert run.main([notebooks[name], "--check", "-p", text]) == 0
        assert f"  {name} = {value!r}  (given)\n" in capsys.readouterr().out
    for text in ("~", "long" * 99):
        assert run.main(["image_h1", "--check", "-p", f"data={text}"]) == 2


def test_fingerprint_follows_code_and_parameters_not_prose(tmp_path, monkeypatch):
    def key(**passed):
        return request("image_x", tmp_path, passed).fingerprint

    write(tmp_path)
    first, other = key(), key(epochs=3)
    write(tmp_path, new_markdown_cell("prose"))
    assert key(epochs=100) == first == key()  # the cell's own value
    write(tmp_path, "1 + 1")
    longer = key()
    write(tmp_path, used="from kpnb.metrics.stats import mean\nmean\n" + USED)
    with_import = key()
    monkeypatch.setattr(runner.keys, "code_fingerprint", lambda *seeds, showing: f"{seeds}")
    other_code = key()
    monkeypatch.setattr(runner.keys, "data_fingerprint", lambda *seeds: "other")
    assert len({first, other, longer, with_import, other_code, key()}) == 6


def test_kernels_look_for_places_where_the_shell_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KPNB_STORE", "my store")
    monkeypatch.setenv("KPNB_RESULTS", "~/results")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    for given, expected in (("", "kpnb_data"), ("here", "here")):
        monkeypatch.setenv("KPNB_DATA", given)
        known = runner.own_kernels(tmp_path, print).kernel_spec.env
        assert known["KPNB_DATA"] == str(tmp_path / expected)
        assert known["KPNB_STORE"] == str(tmp_path / "my store")
        assert known["KPNB_RESULTS"] == str(tmp_path / "results") == str(results_root())
        assert "inline" in known["MPLBACKEND"] and JOURNAL in known
        assert set(runner.ALLOCATOR) <= set(known)
        assert known["PYTHONPATH"].split(os.pathsep)[-1] == str(tmp_path)


FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
NOISE = r"""import os, sys, kpnb
print('10%|#   | 1/9 [00:01<00:09]', end='\r', file=sys.stderr)
print('a warning', file=sys.stderr)
print('one\rtwo')
print(sys.executable, os.getcwd())"""
STORED = """import torch
from pathlib import Path
from kpnb.store import Store
compute = lambda scratch: ({"a": torch.arange(8.0)}, {"b": 1})
for root in (Path("store"), None):
    Store(root).compute("net", {}, compute, ("KpnbError",))
Path("found.json").write_text('{"sum": 28.0}')"""
CELLS = (FIGURE, NOISE, STORED)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of a notebook that was run by a real kernel."""
    folder = tmp_path_factory.mktemp("runs")
    write(folder, *CELLS, new_markdown_cell("old prose"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")
        patch.setenv("KPNB_STORE", str(folder / "own"))
        assert main(folder, *given(folder), execute=KERNEL) == 0
        assert os.environ["MPLBACKEND"] == "Agg" and JOURNAL not in os.environ
    return folder


def given(folder) -> list:
    return ["-p", "epochs=3", "--writes", folder / "found.json"]


def again(folder, epochs=3) -> str:
    """What a second call says of the executed copy."""
    planned = request("image_x", folder, {"epochs": epochs})
    return run.refresh(planned, folder / "out" / "image_x.ipynb", [folder / "found.json"])


def test_parameters_arrive_figures_stay_and_noise_goes(ran):
    stream = [new_output("stream", name="stderr", text="10%|#   | 1/9\ra warning\n1/9 [0:01<0:09]")]
    notebook = new_notebook(cells=[new_code_cell("1", outputs=stream)])
    assert runner.clean(notebook) == ["a warning"] and notebook.cells[0].outputs == []
    done, (entry,) = executed(ran), (ran / "store" / "net").glob("*[0-9a-f]")
    note, shown = done.metadata["kpnb"], stdout(done)
    # "one" was written over.
    assert f"smoke 3 ['FC1'] {{}}\ntwo\n{sys.executable} {ran}\n" in shown
    assert "warning" not in shown
    assert runner.figure_count(done) == note["figures"] == 1 and note["given"] == {"epochs": 3}
    assert (note["parameters"]["epochs"], note["parameters"]["grid"]) == (3, 16)
    assert 0 < note["seconds"] < 600 and 10 < note["peak_memory_mib"] < 1024**2
    (own,) = (ran / "own" / "net").glob("*[0-9a-f]")
    # Without the root of the store in use: a copy that is kept tells no folder of a machine.
    assert note.pop("store") == [f"net/{own.name}", str(entry.resolve())]
    assert str(ran) not in json.dumps(note)
    assert [file.name for file in (ran / "out").iterdir()] == ["image_x.ipynb"]


def test_a_second_call_runs_nothing_and_refreshes_prose(ran, capsys):
    out = ran / "out" / "image_x.ipynb"
    before = out.read_bytes()
    assert main(ran, *given(ran)) == 0 and "up to date" in capsys.readouterr().out
    assert out.read_bytes() == before
    assert main(ran, *given(ran), "--force") == 1  # what stands for papermill was started
    assert out.read_bytes() == before and "papermill was started" in capsys.readouterr().err
    write(ran, new_markdown_cell("new prose"), *CELLS)
    assert again(ran) == "up to date, text refreshed"
    kinds = [cell.source.split("\n")[0] for cell in executed(ran).cells]
    assert kinds[3:] == ["new prose", *(text.split("\n")[0] for text in CELLS)]
    assert runner.figure_count(executed(ran)) == 1 and again(ran) == "up to date"


def test_a_damaged_entry_of_the_store_in_use_is_found_by_its_place_there(
    ran, tmp_path, monkeypatch
):
    store = shutil.copytree(ran / "own", tmp_path / "moved")
    monkeypatch.setenv("KPNB_STORE", str(store))
    assert again(ran) == "up to date"
    (tensors,) = store.glob("net/*/tensors.safetensors")
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"?")
    assert again(ran) == ""
    monkeypatch.setenv("KPNB_STORE", str(ran / "own"))
    assert again(ran) == "up to date"


def test_a_copy_whose_files_have_changed_does_not_hold(ran, tmp_path, capsys):
    (entry,), out = (ran / "store" / "net").glob("*[0-9a-f]"), ran / "out" / "image_x.ipynb"
    written, copy, tensors = ran / "found.json", out.read_text(), entry / "tensors.safetensors"
    shown_otherwise = copy.replace('"two\\n', '"six\\n')
    kept = entry.rename(tmp_path / "aside")
    assert again(ran) == "up to date"  # an entry that is gone is not missed
    kept.rename(entry)
    changes = {
        f"{entry} is damaged": lambda: tensors.write_bytes(tensors.read_bytes()[:-1] + b"?"),
        "a file that it writes is not": lambda: written.write_text('{"sum": 29.0}'),
        "a file that it writes": written.unlink,
        "the executed copy is damaged": lambda: out.write_text(shown_otherwise),
        "the executed copy is": lambda: out.write_text("{"),
        "the executed": lambda: out.write_text(json.dumps(json.loads(copy) | {"metadata": {}})),
        "checkpoints was [0, 1, 2, 3], is": lambda: None,
    }
    held = {file: file.read_bytes() for file in (tensors, written, out)}
    for why, change in changes.items():
        capsys.readouterr()
        change()
        assert again(ran, epochs=4 if why.startswith("checkpoints") else 3) == ""
        assert f"image_x: {why}" in (told := capsys.readouterr().err) and "running again" in told
        for file, content in held.items():
            file.write_bytes(content)
        assert again(ran) == "up to date"


def test_a_failing_notebook_whose_output_is_followed(tmp_path, capsys):
    write(tmp_path, "raise ValueError('first\\nthe reason')", "print('never')")
    assert main(tmp_path, "--log", execute=KERNEL) == 1
    shown, told = capsys.readouterr()
    assert "the reason" in told.splitlines()[0] and "image_x.failed.ipynb" in told
    assert "smoke 100 ['FC1'] {}\n" in shown
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["image_x.failed.ipynb"]
    failed = executed(tmp_path, "image_x.failed.ipynb")
    assert "smoke 100" in stdout(failed) and "never" not in stdout(failed)


@pytest.fixture
def heeded():
    """Signals as a terminal has them: a test run in the background may ignore some."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        usual = signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler
        signal.signal(number, usual)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    "victim, number, told",
    [
        ("getppid", signal.SIGINT, "stopped: .*kept in .*store and in .*; run the same command"),
        ("getppid", signal.SIGTERM, "stopped: .*run the same command again to go on"),
        (
            "getpid",
            signal.SIGKILL,
            "failed: the kernel was killed, probably out of memory: .*chunk",
        ),
        ("getpid", signal.SIGSEGV, "failed: Kernel died"),
    ],
)
def test_what_a_signal_ends_leaves_its_cells_and_nothing_else(
    tmp_path, monkeypatch, capsys, heeded, victim, number, told
):
    """Whether it is meant for the runner or for its kernel."""
    end = f"import os, time\nprint(os.getpid(), flush=True)\nos.kill(os.{victim}(), {number:d})"
    write(tmp_path, f"{end}\ntime.sleep(60)", "print('never')")
    monkeypatch.setenv("KPNB_STORE", str(tmp_path / "store"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    before = signal.getsignal(signal.SIGINT)
    assert main(tmp_path, execute=KERNEL) == (128 + number if victim == "getppid" else 1)
    assert re.search(told, sentence := capsys.readouterr().err), sentence
    assert sentence.count("\n") == 1 + (victim == "getpid") and "out/image_x.failed" in sentence
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["image_x.failed.ipynb"]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert "smoke 100" in (shown := stdout(executed(tmp_path, "image_x.failed.ipynb")))
    assert not Path(f"/proc/{shown.split()[-1]}").exists() and "never" not in shown
    assert signal.getsignal(signal.SIGINT) is before


def test_every_program_is_stopped_in_one_sentence_unless_it_ignores_the_signal(capsys, heeded):
    def stopping(number):
        def program():
            os.kill(os.getpid(), number)

        return program

    full = OSError(errno.ENOSPC, "no space", "there")
    assert answered(Mock(side_effect=full)) == 2
    assert capsys.readouterr().err.startswith("there cannot be read or written (no space): check")
    for number in STOPPING:
        assert answered(stopping(number)) == 128 + number
        assert capsys.readouterr().err == "Stopped.\n"
        assert answered(stopping(number), KEPT) == 128 + number
        assert re.match("Stopped: .*same command again to go on.\n$", capsys.readouterr().err)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    assert answered(stopping(signal.SIGHUP)) == 0 and signal.getsignal(1) is signal.SIG_IGN
    signal.signal(signal.SIGHUP, before)


def test_of_two_runs_of_one_copy_the_second_waits_and_finds_it_done(tmp_path, monkeypatch, capsys):
    def execute(source, working_copy, *_):
        calls.append(source)
        if len(calls) == 1:
            second.start()
            while "Waiting for another process that writes" not in told.getvalue():
                second.join(0.01)
        nbformat.write(nbformat.read(source, as_version=4), working_copy)
        return {"seconds": 1.0, "peak_memory_mib": 1, "store": []}

    monkeypatch.setenv("KPNB_STORE", str(tmp_path / "store"))
    write(tmp_path)
    calls, codes, told = [], [], io.StringIO()
    monkeypatch.setattr(kpnb.store.logger, "warning", lambda text: told.write(text))
    second = threading.Thread(target=lambda: codes.append(main(tmp_path, execute=execute)))
    codes.append(main(tmp_path, execute=execute))
    second.join()
    assert codes == [0, 0] and len(calls) == 1 and "up to date" in capsys.readouterr().out


QUIET = new_output("error", ename="OSError", evalue="quiet", traceback=[])


@pytest.mark.parametrize(
    "outputs, written, told",
    [([QUIET], "{}", "OSError: quiet"), ([], "", "did not write"), ([], "{}", "")],
)
def test_what_ran_to_its_end_may_have_failed(tmp_path, capsys, outputs, written, told):
    def execute(source, working_copy, *_):
        notebook = nbformat.read(source, as_version=4)
        notebook.cells[-1].outputs = list(outputs)
        nbformat.write(notebook, working_copy)
        if written:
            results.write_text(written)
        return {"seconds": 1.0, "peak_memory_mib": 1}

    write(tmp_path)
    results, out = tmp_path / "results.json", tmp_path / "out"
    out.mkdir()
    (out / "image_x.failed.ipynb").write_text("old")  # forgotten after success
    assert main(tmp_path, "--writes", results, execute=execute) == int(bool(told))
    assert told in capsys.readouterr().err
    kept = "image_x.failed.ipynb" if told else "image_x.ipynb"
    assert [file.name for file in out.iterdir()] == [kept]

"""Notebooks of the book are executed several at a time, and each answers for itself."""

import os
import signal
import sys
import threading
import time

import pytest
from refusals import refuses

from book.make import execute
from book.make.execute import AT_LEAST, Task, Tasks


def task(page, code="", kind="image", seconds=AT_LEAST):
    return Task(page, [sys.executable, "-c", code], kind, seconds)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(execute, "EVERY", 0.02)


def test_all_run_two_at_a_time_and_each_last_line_is_said(tmp_path, capfd, monkeypatch):
    """Each waits for the file of the one beside it: alone it would never end."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    wait = (
        "import pathlib, time; pathlib.Path({!r}).touch()\nwhile not pathlib.Path({!r}).exists(): "
    )
    wait += "time.sleep(.01)\nprint('first'); print({!r})"
    names = [str(tmp_path / name) for name in "ab"]
    pair = [task(name, wait.format(*order, name)) for name, order in
            zip("ab", (names, names[::-1]), strict=True)]  # fmt: skip
    queue = Tasks(
        [*pair, task("c", "import os; print(os.environ['OMP_NUM_THREADS'])")], tmp_path, 2
    )
    assert queue.run() == 0 and {one.page for one in queue.done} == set("abc")
    said = capfd.readouterr().err.split()
    threads = max(1, (os.cpu_count() or 1) // 2)
    assert {*said[:2]} == set("ab") and said[2:] == [f"{threads}"]


def test_those_that_share_no_networks_with_what_runs_go_first(tmp_path):
    waiting = [task("h2"), task("qa", kind="qa"), task("h3")]
    queue = Tasks(waiting, tmp_path, running=[task("h1")])
    assert queue.next().page == "qa"
    queue.running.append(waiting.pop(1))
    assert queue.next().page == "h2"
    waiting.append(task("long", seconds=2 * AT_LEAST))
    assert queue.next().page == "long"  # else it might be the last one, alone


def test_a_failure_is_shown_whole_and_nothing_new_is_begun(tmp_path, capfd):
    tasks = [task("bad", "import sys; print('why'); sys.exit('it broke')"), task("never")]
    queue = Tasks(tasks, tmp_path, 1)
    assert queue.run() == 1 and [one.page for one in queue.waiting] == ["never"]
    assert (
        capfd.readouterr().err == "why\nit broke\n" or "it broke" in queue.done[0].log.read_text()
    )
    killed = Tasks(
        [task("gone", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")], tmp_path
    )
    assert killed.run() == 128 + signal.SIGKILL
    assert "gone was stopped by signal 9" in capfd.readouterr().err


def test_a_signal_is_handed_on_and_what_waits_is_not_begun(tmp_path):
    code = "import signal, sys, time\nsignal.signal(15, lambda *_: sys.exit(143))\n"
    queue = Tasks(
        [task("long", code + "print(1, flush=True)\ntime.sleep(60)"), task("b")], tmp_path, 1
    )

    def when_it_listens():
        while not (queue.running and queue.running[0].log and queue.running[0].log.read_text()):
            time.sleep(0.01)
        queue.stop(signal.SIGTERM)

    threading.Thread(target=when_it_listens).start()
    assert queue.run() == 143 and not queue.waiting and len(queue.done) == 1


def test_the_line_says_what_runs_and_what_is_left_by_the_pace_so_far(tmp_path, monkeypatch):
    monkeypatch.setattr(execute.time, "monotonic", lambda: 1000.0)
    queue = Tasks([task("c", seconds=100)], tmp_path, 2, begun=1000.0)
    assert queue.left() == 50  # two at a time
    queue.running.append(task("b", seconds=60))
    queue.running[0].begun = 970.0
    assert queue.left() == (100 + 30) / 2
    queue.done.append(task("a", seconds=70))
    queue.begun = 800.0  # 200 s for what was estimated as 70 + 30
    assert queue.left() == 260
    assert queue.line() == "1 of 3: b 30 s; about 4.3 minutes left"


def test_what_holds_is_left_alone_and_unknown_pages_are_refused(monkeypatch):
    monkeypatch.setattr(execute, "refresh", lambda wanted, *_: wanted.name != "image_h2")
    (found,) = execute.tasks(["image_h1", "image_h2"], "smoke")
    assert (found.page, found.kind) == ("image_h2", "image") and found.seconds > AT_LEAST
    assert found.command[1:5] == ["-m", "kpnb.run", "image_h2", "--preset"]
    refuses(execute.execute, "no notebook 'novel'", ["novel"], "smoke")
    assert execute.main(["--jobs", "0"]) == 2

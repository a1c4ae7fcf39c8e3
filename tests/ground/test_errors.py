"""How programs end: what they say, and with which code."""

import io
import os
import signal
import subprocess
import sys

import pytest

from kpnb.errors import answered


@pytest.mark.parametrize("sign, shown", [("é", "\xe9"), ("←", "?"), ("\udce9", "?")])
def test_a_sign_that_a_terminal_lacks_stops_nothing(monkeypatch, sign, shown):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert answered(lambda: print(sign)) == 0
    terminal.flush()
    assert terminal.buffer.getvalue().decode("latin-1") == f"{shown}\n"


def test_a_program_whose_output_is_read_no_longer_says_nothing():
    code = "from kpnb.errors import answered; raise SystemExit(answered(lambda: {}))"
    for program, told in (("print('x' * 10**6)", b""), ("print()", b""), ("[][0]", b"IndexErr")):
        buffered = os.environ | {"PYTHONUNBUFFERED": ""}
        command = [sys.executable, "-c", code.format(program)]
        one = subprocess.Popen(command, stdout=-1, stderr=-1, env=buffered)
        one.stdout.close()
        found = one.stderr.read()
        assert told in found if told else not found
        assert one.wait() == (1 if told else 128 + signal.SIGPIPE)
        one.stderr.close()


def test_a_program_may_have_no_output_of_the_systems(monkeypatch):
    def broken():
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(BrokenPipeError):
        answered(broken)
    monkeypatch.setattr(sys, "stdout", None)
    assert answered(lambda: 3) == 3
    with pytest.raises(BrokenPipeError):
        answered(broken)

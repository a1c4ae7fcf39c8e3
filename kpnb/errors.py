"""The one exception kpnb raises for input it cannot work with, and parts of its sentences."""

import difflib
import errno
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

#: Of signals those by which programs are stopped: Ctrl-C, `kill` and batch systems, a terminal that
#: is closed.
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Of errors of the system those of a place that takes no files.
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}
KEPT = "what is finished is kept; run the same command again to go on"


class KpnbError(ValueError):
    """Bad input, data or state; the message is one sentence: what is wrong and what to do."""


def require(holds: object, told: str) -> None:
    """Raise KpnbError with the sentence `told` unless the first argument is true."""
    if not holds:
        raise KpnbError(told)


def answered(program: Callable[[], int | None], kept: str = "") -> int:
    """A program's exit code, 0 for None; 2 after a mistake or on a full disk, and 128 + N where
    signal N stopped it, told on stderr in one sentence with what is `kept` then; nothing is told
    where stdout is read no longer. Signs that stdout lacks are printed as ?.
    """
    if hasattr(sys.stdout, "reconfigure"):  # not in a notebook
        sys.stdout.reconfigure(errors="replace")
    try:
        with stopped_by(_stop):
            code = program() or 0
            if sys.stdout is not None:  # as in a daemon
                sys.stdout.flush()
            return code
    except KpnbError as mistake:
        print(mistake, file=sys.stderr)
        return 2
    except OSError as error:
        if isinstance(error, BrokenPipeError) and _unread():
            return 128 + signal.SIGPIPE
        if error.errno not in NO_ROOM:
            raise
        print(no_room(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"Stopped{kept and ': '}{kept}.", file=sys.stderr)
        return stopped_code(stopped)


def _unread() -> bool:
    """Whether nobody reads stdout any longer, as after `| head`; nothing is written to it then."""
    try:
        out, asked = sys.stdout.fileno(), select.poll()
    except (AttributeError, OSError, ValueError):  # no stream of the system's; no poll on Windows
        return False
    asked.register(out, 0)
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in asked.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out)
    return gone


def no_room(error: OSError) -> str:
    """The sentence for a place that takes no files."""
    place = error.filename2 or error.filename or "a file"
    told = f"{place} cannot be read or written ({error.strerror})"
    return f"{told}: check permissions and free space, or name another place."


def remedy(error: Exception | None, otherwise: str) -> str:
    """What to do about a file that cannot be read: `otherwise`, unless the file system refuses."""
    refused = isinstance(error, OSError) and error.errno in {*NO_ROOM, errno.EIO}
    return "check permissions, free space and the disk" if refused else otherwise


def _stop(number: int, _frame: object) -> None:
    raise KeyboardInterrupt(number)


def stopped_code(stopped: KeyboardInterrupt) -> int:
    """The exit code of a program that a signal stopped."""
    return 128 + next((part for part in stopped.args if type(part) is int), signal.SIGINT)


@contextmanager
def stopped_by(stop: Callable[[int, object], None]) -> Iterator[None]:
    """In the block, `stop(number, frame)` answers each signal of `STOPPING` that the process does
    not ignore, as it does under nohup. No effect in a thread."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in STOPPING if main}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is a real lack of memory; on the CPU torch raises a plain RuntimeError."""
    known = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known or (type(error) is RuntimeError and "can't allocate memory" in str(error))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ "did you mean X or Y?" with the names nearest to a mistyped one; "" if none is near."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(near)}?" if near else ""


def first_mistake(errors: Sequence[Mapping], values: Mapping[str, object]) -> str:
    """pydantic's errors as one sentence: the first parameter in them, its value, what it may be."""
    # A value that is None was to follow from another one, which may be the mistake.
    errors = sorted(errors, key=lambda e: values.get(str(*e["loc"][:1])) is None)
    place = errors[0]["loc"]
    # Of the parameter's parts the first; more than one error where it may be of several kinds.
    own = [e for e in errors if (e["loc"][:1], len(e["loc"])) == (place[:1], len(place))]
    told = ", or ".join(dict.fromkeys(map(_reason, own)))
    return "".join(f"The parameter {name} is {values[name]!r}: " for name in place[:1]) + f"{told}."


def _reason(error: Mapping) -> str:
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    told = re.sub(r"^\w+ should", "it should", error["msg"])
    return told.replace("a valid tuple", 'a list, such as [1] or ["FC1"]')

"""What every refusal has in common."""

from contextlib import contextmanager

import pytest

from kpnb.errors import KpnbError


@contextmanager
def refused(told: str | None = None):
    """The block raises a KpnbError of one sentence that says `told`, a pattern."""
    with pytest.raises(KpnbError, match=told) as caught:
        yield caught
    message = str(caught.value)
    assert "\n" not in message and message.endswith(".") and not message.endswith("..")


def refuses(call, told: str, /, *given, **named) -> None:
    """`call(*given, **named)` is refused with one sentence that says `told`, a pattern."""
    with refused(told):
        call(*given, **named)


def fails(call, told: str, /, *given) -> None:
    """`call(*given)` is refused with what may end in a command, a question or a list of names."""
    with pytest.raises(KpnbError, match=told):
        call(*given)
